"""`pool`: the population that the pairs of a universe come from, and each pair shrunk towards it.

The mathematics, and its source, stand in `population`.

One file: `pool`, its result, and what both show.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from numpyro.distributions import constraints

from kfmodels.batch.board import HedgeBoard
from kfmodels.batch.population import over_prior, population, shrunk_weights, universe_of
from kfmodels.batch.status import FITTED, Status, Verdict
from kfmodels.model.anchored import LEAST_MEMORY, LEAST_TAIL
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.model.memory import LEAST_VARIANCE_MEMORY, q_to_memory
from kfmodels.model.priors import Absolute, Memory
from kfmodels.model.sites import infers_on
from kfmodels.sampling import ridge
from kfmodels.sampling.near_mode import NearMode
from kfmodels.sampling.nuts import MAX_PARETO_K, MAX_RHAT, MIN_ESS, NUTS
from kfmodels.words.caller import explain_kinds, warn
from kfmodels.words.progress import wait_for
from kfmodels.words.shown import Shown

_AVERAGED = 64
"""Draws of the population, evenly thinned, that the weights of the pairs are averaged over."""

_ENDS = (0.5, 0.05, 0.95)
"""Median and 90 % interval."""


def _memory_of(log_q: np.ndarray) -> np.ndarray:
    """Memory in bars; clipped where q would overflow."""
    return q_to_memory(np.exp(np.clip(log_q, -80, 80)))


_READ: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "delta_beta": ("memory", _memory_of),
    "delta_alpha": ("intercept memory", _memory_of),
    "obs_scale": ("noise share", np.exp),
    "variance_memory": ("variance memory", lambda u: LEAST_VARIANCE_MEMORY + np.exp(u)),
    "anchor_memory": ("variance memory", lambda u: LEAST_MEMORY + np.exp(u)),
    "anchor_weight": ("anchor weight", np.exp),
    "tail_excess": ("degrees of freedom", lambda u: LEAST_TAIL + np.exp(u)),
    "move_today": ("move today", np.exp),
    "move_after": ("move after", np.exp),
}
"""For each site, its name in tables and the function from its scale-free value to readable units."""

_OF_NOISE = {
    "variance_memory": ("memory", None),
    "anchor_memory": ("memory", None),
    "anchor_weight": ("weight", constraints.positive),
    "tail_excess": ("tail", constraints.positive),
    "move_today": ("today", constraints.positive),
    "move_after": ("after", constraints.positive),
}
"""For each site of a noise, its field there, and the support of a prior that is no `Memory`."""


@dataclass(frozen=True, eq=False, repr=False)
class Pooled(Shown):
    """The population of a universe, and what it makes of every pair.

    `parameters` are the names of the J sites that were pooled, `u (pair, draw, J)` their scale-free
    values (see `scale_free`). `alone` and `log_weights`, both `(pair, draw)`, are the log weights of
    these draws under the prior that each pair was fitted with and under the population; the weights
    of a pair sum to one. `pareto_k`, `effective_draws` and `verdicts` say for each pair how well its
    draws represent the latter. `mean` and `sd (chain, draw, J)` are draws of the population; where they
    were drawn by weights, `weighted` is how many effective draws these left.
    """

    names: tuple[str, ...]
    parameters: tuple[str, ...]
    u: np.ndarray
    alone: np.ndarray
    log_weights: np.ndarray
    pareto_k: np.ndarray
    effective_draws: np.ndarray
    verdicts: tuple[Verdict, ...]
    mean: np.ndarray
    sd: np.ndarray
    weighted: float | None = None

    def __str__(self) -> str:
        shown = self.population[["typical", "typical_lower", "typical_upper", "ess"]]
        text = shown.map("{:.3g}".format).to_string()
        return f"population of {len(self.names)} pairs\n{text}"

    @cached_property
    def population(self) -> pd.DataFrame:
        """One row per parameter: where the pairs lie, and how far apart.

        `mean` and `sd` over pairs on the scale that is pooled (log q, log of the noise over the
        typical move, log of the variance memory less 4), with 90 % intervals; then in readable units
        (bars; a share of the typical one-bar move) the `typical` pair with its 90 % interval, and
        `pairs_lower`, `pairs_upper`, between which 90 % of pairs lie; `rhat` and `ess`, the worse of
        those of the mean and of the log sd. Of weighted draws there is no R-hat.
        """
        rows = {}
        # a hundred quantiles of a normal stand for the pairs of each drawn population
        z = np.array([NormalDist().inv_cdf((i + 0.5) / 100) for i in range(100)])
        for number, site in enumerate(self.parameters):
            label, read = _READ.get(site, (site, np.asarray))
            mean, sd = self.mean[..., number], self.sd[..., number]
            row = {}
            for name, value in {"mean": mean, "sd": sd, "typical": read(mean)}.items():
                row[name], row[f"{name}_lower"], row[f"{name}_upper"] = np.quantile(value, _ENDS)
            pairs = read(mean.ravel()[:, None] + sd.ravel()[:, None] * z)
            row["pairs_lower"], row["pairs_upper"] = np.quantile(pairs, _ENDS[1:])
            if self.weighted is None:
                rows[label] = row | _mixing(mean, np.log(sd))
            else:
                rows[label] = row | {"rhat": np.nan, "ess": self.weighted}
        return pd.DataFrame(rows).T.rename_axis("parameter")

    def table(self) -> pd.DataFrame:
        """One row per pair: each parameter alone and pooled, and how reliable that is.

        For each parameter, in readable units, the median and the 90 % interval under the prior it was
        fitted with (`alone, alone_lower, alone_upper`) and under the population (`pooled,
        pooled_lower, pooled_upper`); then `pareto_k`, `effective_draws`, `status` and `reason`.
        """
        blocks = {}
        for number, site in enumerate(self.parameters):
            label, read = _READ.get(site, (site, np.asarray))
            value = read(self.u[..., number])
            for word, weights in (("alone", self.alone), ("pooled", self.log_weights)):
                ends = _quantiles(value, weights)
                for end, found in zip(("", "_lower", "_upper"), ends, strict=True):
                    blocks[(label, word + end)] = found
        for name in ("pareto_k", "effective_draws"):
            blocks[(name, "")] = getattr(self, name)
        blocks[("status", "")], blocks[("reason", "")] = zip(*self.verdicts, strict=True)
        return pd.DataFrame(blocks, pd.Index(self.names, name="pair"))


def pool_draws(
    u: np.ndarray,
    log_weights: np.ndarray,
    *,
    log_prior: np.ndarray,
    names: Sequence[str],
    parameters: Sequence[str],
    verdicts: Sequence[Verdict] | None = None,
    seed: int = 0,
    method: NearMode | NUTS = NearMode(),
    progress: bool = True,
) -> Pooled:
    r"""Infer the population of a universe, and each pair under it, from the draws of every pair.

    $$u_{ij} ∼ N(μ_j, τ_j^2), \quad μ_j ∼ N(m_j, (3 s_j)^2), \quad
    τ_j ∼ N^+(0, 2^2)$$

    with m and s the mean and sd of all weighted draws of all pairs together.

    Args:
        u: scale-free parameters, `(pair, draw, J)`.
        log_weights: `(pair, draw)`.
        log_prior: log density of each u under the prior it was fitted with, `(pair, draw, J)`.
        names: of the pairs.
        parameters: names of the J sites; `delta_beta`, `delta_alpha`, `obs_scale` and
            `variance_memory` are shown in readable units.
        verdicts: on the pairs; default: all were fitted. Pairs that were not, and pairs whose numbers
            are not finite, are left out.
        seed: of the sampler.
        method: how the population is sampled: `NearMode()`, or `NUTS(...)`, which is far slower.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        A `Pooled`.

    Raises:
        ValueError: arrays whose shapes do not agree, or fewer than two pairs to pool.

    Warns:
        UserWarning: the draws of the population may not represent its posterior.

    Source: Hogg, Myers and Bovy (2010), Inferring the eccentricity distribution, ApJ 725, 2166.

    Example:
        >>> import numpy as np
        >>> u = np.random.default_rng(0).normal(size=(8, 200, 1)) + np.arange(8)[:, None, None]
        >>> flat = np.zeros((8, 200))
        >>> found = pool_draws(u, flat - np.log(200), log_prior=flat[..., None], names="abcdefgh",
        ...                parameters=["level"])
        >>> bool(2 < found.population.loc["level", "mean"] < 5)
        True
    """
    u, log_weights, log_prior = (np.asarray(part, float) for part in (u, log_weights, log_prior))
    pairs, draws, count = wanted = (len(names), *log_weights.shape[1:], len(parameters))
    if not u.shape == log_prior.shape == wanted:
        raise ValueError(
            f"u and log_prior must have the shape {wanted}, pair, draw and parameter, not {u.shape} "
            f"and {log_prior.shape}"
        )
    judged = [FITTED] * pairs if verdicts is None else list(verdicts)
    usable = np.isfinite(u).all((1, 2)) & ~np.isnan(log_weights).any(1)
    # single draws may have no weight and no prior density, but not all of them
    usable &= ~np.isnan(log_prior).any((1, 2)) & (log_weights > -np.inf).any(1)
    for number in np.flatnonzero(~usable):
        if judged[number] == FITTED:
            judged[number] = Verdict(Status.UNUSABLE, "left out: its draws are not finite")
    kept = np.array([one == FITTED for one in judged])
    if kept.sum() < 2:
        raise ValueError(f"pooling needs at least two pairs that were fitted, not {kept.sum()}")
    universe, centre = universe_of(u[kept], log_weights[kept], log_prior[kept])
    with wait_for("pooling", shown=progress):
        sampled = method.run(population, universe, seed, progress)
    mean, sd = sampled.sites["mean"], sampled.sites["sd"]
    weighted = sampled.about.get("ess")
    if weighted is None and (found := _fault(mean, sd)):
        warn(found)
    every = [part.reshape(-1, count) for part in (mean, sd)]
    step = max(1, len(every[0]) // _AVERAGED)
    with jax.enable_x64(True):
        ratio = over_prior(log_weights[kept], log_prior[kept])
        shrunk, k = jax.device_get(
            shrunk_weights(u[kept] - centre, ratio, *(p[::step] for p in every))
        )
    weights = np.full((pairs, draws), np.nan)
    pareto_k, effective = np.full(pairs, np.nan), np.zeros(pairs)
    weights[kept], pareto_k[kept] = shrunk, k
    effective[kept] = 1 / np.exp(2 * shrunk).sum(-1)
    for number in np.flatnonzero(kept & ~(pareto_k <= MAX_PARETO_K)):
        judged[number] = Verdict(
            Status.DOUBTED,
            f"few of its draws lie where the population puts it (Pareto k-hat {pareto_k[number]:.2f}): "
            "refit it with the population as its prior",
        )
    return Pooled(
        names=tuple(names),
        parameters=tuple(parameters),
        u=u,
        alone=log_weights,
        log_weights=weights,
        pareto_k=pareto_k,
        effective_draws=effective,
        verdicts=tuple(judged),
        mean=mean + centre,
        sd=sd,
        weighted=weighted,
    )


@explain_kinds
def pool(
    board: HedgeBoard,
    *,
    seed: int = 0,
    method: NearMode | NUTS = NearMode(),
    progress: bool = True,
) -> Pooled:
    """Infer the population of all pairs of a board, and each pair under it; see `pool_draws`.

    What is pooled are those of log q of the hedge ratio and of the intercept, the log of the noise sd
    over the typical move of the pair, and the parameters of the noise that were inferred: the log of
    the variance memory less 4 (of `Anchored` less 1), and the logs of its other four.

    Raises:
        ValueError: a parameter cannot be pooled (an `Absolute` delta means something else for every
            pair, and a population would not keep the bounds of a prior), the model has a part that
            comes back, or fewer than two pairs were fitted.
    """
    names, arrays = board.fitted(("points", "log_weights", "log_prior", "typical_move"))
    sites = board.sites
    _check_shared(board.model, sites)
    u = scale_free(
        arrays["points"], sites, bent=board.model.bent, typical_move=arrays["typical_move"]
    )
    return pool_draws(
        u,
        arrays["log_weights"],
        log_prior=arrays["log_prior"],
        names=names,
        parameters=sites,
        seed=seed,
        method=method,
        progress=progress,
    )


def scale_free(
    points: np.ndarray, sites: Sequence[str], *, bent: frozenset[str], typical_move: np.ndarray
) -> np.ndarray:
    """Turn stored points into parameters that mean the same for every pair, `(pair, draw, J)`.

    The coordinates of `ridge` are turned back into those of the model, and the noise sd becomes a share
    of the typical move of its pair. Either adds to one parameter a function of others or of the data,
    so densities carry over unchanged.

    Args:
        points: as `fit_chunk` stores them, in the coordinates of `ridge`, `(pair, draw, J)`.
        sites: names of the J columns.
        bent: as the model has it, see `ridge`.
        typical_move: `(pair,)`, see `Inputs`.
    """
    with jax.enable_x64(True):
        free = {site: jnp.asarray(points)[..., number] for number, site in enumerate(sites)}
        free = jax.device_get(ridge.bend(free, bent))
    if "obs_scale" in free:
        free["obs_scale"] = free["obs_scale"] - np.log(np.asarray(typical_move))[:, None]
    return np.stack([free[site] for site in sites], -1)


# -- what is shown ---------------------------------------------------------------------------------


def _quantiles(value: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """Weighted median and 90 % interval of every pair, `(3, pair)`; NaN where it has no weights."""
    order = np.argsort(value, -1)
    ordered = np.take_along_axis(value, order, -1)
    below = np.cumsum(np.take_along_axis(np.exp(log_weights), order, -1), -1)
    at = [(below < end * below[:, -1:]).sum(-1) for end in _ENDS]
    found = np.stack([np.take_along_axis(ordered, one[:, None], -1)[:, 0] for one in at])
    return np.where(np.isnan(below[:, -1]), np.nan, found)


def _fault(mean: np.ndarray, sd: np.ndarray) -> str:
    """What is wrong with draws of chains, `(chain, draw, J)` each; empty if nothing is."""
    mixing = [_mixing(mean[..., j], np.log(sd[..., j])) for j in range(mean.shape[-1])]
    rhat, ess = max(one["rhat"] for one in mixing), min(one["ess"] for one in mixing)
    if rhat <= MAX_RHAT and ess >= MIN_ESS:
        return ""
    return (
        f"the population may be sampled badly: R-hat {rhat:.3f} (should be below {MAX_RHAT}), "
        f"effective sample size {ess:.0f} (should exceed {MIN_ESS}). Pool again with "
        "method=NUTS(warmup=1000, draws=2000)"
    )


def _mixing(mean: np.ndarray, log_sd: np.ndarray) -> dict[str, float]:
    """The worse R-hat and effective sample size of the two, `(chain, draw)` each."""
    from arviz_stats.base.array import array_stats

    rhat = np.max([array_stats.rhat(x, 0, 1) for x in (mean, log_sd)])
    ess = np.min([array_stats.ess(x, 0, 1) for x in (mean, log_sd)])
    return {"rhat": float(rhat), "ess": float(ess)}


def _check_shared(model: HedgeRatioModel, sites: tuple[str, ...]) -> None:
    """Raise unless every inferred parameter means the same for all pairs."""
    given = {
        "delta_beta": (model.beta_delta, constraints.unit_interval),
        "delta_alpha": (model.alpha_delta, constraints.unit_interval),
        "obs_scale": (model.obs_scale, constraints.positive),
    } | {
        site: (getattr(model.noise, field, None), support)
        for site, (field, support) in _OF_NOISE.items()
    }
    for site in sites:
        if site not in given:
            raise ValueError(
                f"{site} cannot be pooled, for a population has no spread that comes back and no ratio "
                "on several scales: fit_many with a model without them, and pool that board"
            )
        held, support = given[site]
        unbounded = held is None or isinstance(held, Memory) or infers_on(held, support)
        if isinstance(held, Absolute) or not unbounded:
            raise ValueError(
                f"{site} cannot be pooled: an Absolute delta means something else for every price "
                "level, and a population would not keep the bounds of a prior that has its own; give "
                "it a Memory, or a distribution on the whole range"
            )
