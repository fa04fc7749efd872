"""A model with a part that may not be there: each alternative is fitted, and evidence weighs them.

Such a spike in a prior is a finite mixture of fits. Its posterior draws are those of the alternatives
in proportion to their probabilities, with a site `with_spread` or `with_day` of 1 or 0 that says which
a draw is of.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kfmodels._types import Shaped
from kfmodels.fitting import tree as trees
from kfmodels.kalman.arrays import even_steps
from kfmodels.model.hedge_ratio import HedgeRatioModel, Inputs
from kfmodels.sampling.importance import ImportanceSampling
from kfmodels.sampling.posterior import Draws, of_recursion

WITH = "with_spread"
"""Index site of a spread: 1 in draws of the model with it, 0 in those without."""

Sites = dict[str, Shaped[np.ndarray, "..."]]


def fit_each(
    model: HedgeRatioModel, run: Callable[[HedgeRatioModel], Draws], seed: int, inputs: Inputs
) -> Draws:
    """Draws of the model, or of all its alternatives in proportion to their evidence.

    The odds of the alternatives are equal before the data. `about` of the result has the
    `probability` of the model as it stands, `log_bayes` of it over the other, and its standard error
    `log_bayes_error`. A method that finds no evidence gets that of `ImportanceSampling`.
    """
    if len(model.alternatives) == 1:
        return run(model)
    each = [run(one) for one in model.alternatives]
    chosen = [
        of_recursion(one.mixed or trees.choose(alternative, inputs, one.sites))
        for alternative, one in zip(model.alternatives, each, strict=True)
    ]
    for number, one in enumerate(model.alternatives):
        if "log_evidence" not in each[number].about:
            about = ImportanceSampling().run(one, inputs, seed, False).about
            known = {k: v for k, v in about.items() if k.startswith("log_evidence")}
            each[number] = each[number]._replace(about=known)
    joined = join_draws(model, each, seed)
    return joined._replace(mixed=mix_few(chosen, joined.about["probability"], model.absent))


class Evidence(NamedTuple):
    """What the evidence of alternatives says of them, at equal odds before the data.

    `share (alternative, *any)` are their probabilities, `log_evidence` that of all together with its
    Monte-Carlo `error`; the first is ahead of the second by `log_bayes`, with `log_bayes_error`.
    """

    share: np.ndarray
    log_evidence: np.ndarray
    error: np.ndarray
    log_bayes: np.ndarray
    log_bayes_error: np.ndarray


def weigh(logs: np.ndarray, errors: np.ndarray) -> Evidence:
    """Weigh two alternatives, or one alone, by log evidences and their errors `(alternative, *any)`."""
    total = np.logaddexp.reduce(logs)
    share = np.exp(logs - total)
    return Evidence(
        share,
        total - np.log(len(logs)),
        np.sqrt(np.square(share * errors).sum(0)),
        logs[0] - logs[-1],
        np.sqrt(np.square(errors).sum(0)),
    )


def mix_few(
    each: Sequence[Mapping[str, np.ndarray]], probability: float, absent: Mapping[str, float]
) -> Sites:
    """Of the draws that each alternative would run on, as many in proportion; the plug-in last.

    It is that of the likelier: between a spread and none there is no mean.
    """
    filled = [_fill(one, absent, each[0]) for one in each]
    share = np.array([probability, 1 - probability])
    spread = _mixed([{name: v[:-1] for name, v in one.items()} for one in filled], share)
    plug_in = filled[int(share[1] > share[0])]
    return {name: np.concatenate([spread[name], plug_in[name][-1:]]) for name in each[0]}


def join_draws(model: HedgeRatioModel, each: Sequence[Draws], seed: int) -> Draws:
    """Draws of all alternatives in proportion to the `log_evidence` that they tell about themselves."""
    found = weigh(
        np.array([one.about.get("log_evidence", np.nan) for one in each]),
        np.array([one.about.get("log_evidence_mcse", 0.0) for one in each]),
    )
    share = found.share
    if not np.isfinite(share).all():
        raise ValueError(
            f"the evidence for and against the {model.doubted} cannot be compared where all of its "
            f"noise is fixed: leave delta, obs_scale or the {model.doubted}'s own numbers to a prior"
        )
    chains, draws = each[0].sites["obs_scale"].shape
    about = {
        "probability": float(share[0]),
        "log_bayes": float(found.log_bayes),
        "log_bayes_error": float(found.log_bayes_error),
    }
    if "ess" in each[0].about:  # importance draws: as good as the worse of the two
        k_hats = [one.about["pareto_k"] for one in each if "pareto_k" in one.about]
        about |= {"pareto_k": max(k_hats)} | {
            "ess": min(one.about["ess"] for one in each),
            "log_evidence": float(found.log_evidence),
            "log_evidence_mcse": float(found.error),
        }
    else:  # before they are mixed, which hides how slowly a chain moves
        used = zip(each, _counts(draws, share), strict=True)
        mixing = [_tell_mixing(one.sites) for one, count in used if count]
        rhat, ess = zip(*mixing, strict=True)
        about |= {"worst_rhat": max(rhat), "least_ess": min(ess)}
    random = np.random.default_rng(seed)
    sites, prior = (
        [
            _fill(one, model.absent, some[0])
            | {f"with_{model.doubted}": np.full(np.shape(one["obs_scale"]), 1.0 - number)}
            for number, one in enumerate(some)
        ]
        for some in ([one.sites for one in each], [one.prior for one in each])
    )
    names = [{k: v for k, v in one.stats.items() if k in each[0].stats} for one in each]
    orders = [random.permutation(draws) for _ in range(chains)]
    return Draws(
        sites=_by_chain(sites, share, orders),
        stats=_by_chain(names, share, orders),
        prior=_mixed(prior, np.array([0.5, 0.5])),
        about=about,
    )


def _tell_mixing(sites: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Worst R-hat and smallest effective sample size of all sites that move, by ranks."""
    from arviz_stats.base.array import array_stats

    stats: Any = array_stats  # whose annotations promise tuples where it gives numbers
    rhat, ess = [1.0], [np.inf]
    for values in sites.values():
        for one in np.moveaxis(values.reshape(*values.shape[:2], -1), -1, 0):
            if np.isfinite(one).all() and np.ptp(one) > 0:
                rhat.append(float(stats.rhat(one, chain_axis=0, draw_axis=1)))
                ess.append(float(stats.ess(one, chain_axis=0, draw_axis=1)))
    return max(rhat), min(ess)


def _fill(
    sites: Mapping[str, np.ndarray], absent: Mapping[str, float], full: Mapping[str, np.ndarray]
) -> Sites:
    """Sites with what stands for those of `full` that an alternative lacks."""
    batch = np.shape(sites["obs_scale"])
    lacking = [name for name in absent if name in full and name not in sites]
    shapes = {name: batch + np.shape(full[name])[len(batch) :] for name in lacking}
    return dict(sites) | {name: np.full(shapes[name], absent[name]) for name in lacking}


def _counts(total: int, share: np.ndarray) -> list[int]:
    first = round(total * float(share[0]))
    return [first, total - first]


def _mixed(each: Sequence[Sites], share: np.ndarray) -> Sites:
    """Draws of all in proportion, as many as of one."""
    counts = _counts(len(each[0]["obs_scale"]), share)
    return {
        name: np.concatenate(
            [
                one[name][even_steps(count, len(one[name]))]
                for one, count in zip(each, counts, strict=True)
            ]
        )
        for name in each[0]
    }


def _by_chain(
    each: Sequence[Sites], share: np.ndarray, orders: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """The same chain by chain, in an order that mixes them, as a chain of draws should be."""
    found: dict[str, np.ndarray] = {}
    for name in each[0]:
        chains = []
        for chain, order in enumerate(orders):
            counts = _counts(len(order), share)
            parts = [
                one[name][chain][even_steps(count, len(order))]
                for one, count in zip(each, counts, strict=True)
            ]
            chains.append(np.concatenate(parts)[order])
        found[name] = np.stack(chains)
    return found
