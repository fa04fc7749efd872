"""Whether a hedge ratio that does not move at all is enough: a Bayes factor."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pandas as pd
from scipy.special import expit, logit

from kfmodels.evaluate.sensitivity import check_inferred
from kfmodels.fitting import tree as trees
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.sampling import prior as priors
from kfmodels.sampling.marginal import DRAWS, Evidence, log_marginal
from kfmodels.sampling.nuts import MAX_PARETO_K
from kfmodels.sampling.posterior import of_recursion


def static_probability(fitted: HedgeFit, *, prior: float = 0.5, seed: int = 0) -> pd.DataFrame:
    r"""Probability that a hedge ratio that does not move at all is enough.

    $$\mathrm{BF}_j = \frac{p(y \mid q_j = 0)}{p(y)}, \quad
    P(\mathrm{static}) = \frac{\pi \, \mathrm{BF}}{1 - \pi + \pi \, \mathrm{BF}}$$

    Two marginal likelihoods of the same rows: with the ratio standing still, and with the prior on
    its speed that was fitted; everything else inferred in both (an intercept that moves goes on
    moving; with `StateDiscount`, where one speed drives all, everything stands still in "all"). A wide
    prior on speeds is a weak rival of static; state the one you believe in.

    Args:
        prior: probability of a static ratio before the data.
        seed: of the importance sampling.

    Returns:
        By hedge (and "all" when there are several): `probability`, `log_bayes_factor` for static
        (nats) and its Monte-Carlo standard error `mcse`, and the worse `pareto_k` of the two
        integrals; NaN where that is above 0.7.

    Raises:
        ValueError: the speed of the ratio was fixed, or `prior` is not in (0, 1).

    Source: Kass and Raftery (1995), Bayes factors, JASA 90; the case of a variance on its boundary:
    Fruhwirth-Schnatter and Wagner (2010), Journal of Econometrics 154.

    Example:
        >>> from kfmodels import HedgeData, NUTS, datasets, fit
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> year = data.after("2019-01-01").before("2020-01-01")
        >>> table = static_probability(fit(year, method=NUTS(draws=500, chains=2), progress=False))
        >>> bool(table["probability"].between(0, 1).all())
        True
    """
    if not 0 < prior < 1:
        raise ValueError(f"prior is a probability between 0 and 1, not {prior}")
    check_inferred(fitted)
    if "delta_beta" not in fitted.tree["log_prior"]:
        raise ValueError(
            f"the speed of the ratio of {fitted.target} was fixed, not inferred: give delta a prior"
        )
    hedges = fitted.hedges
    each: dict[str, tuple[int, ...]] = {name: (number,) for number, name in enumerate(hedges)}
    if _shared(fitted):
        each = {"all": (0,)}
    elif len(hedges) > 1:
        each["all"] = tuple(range(len(hedges)))
    moving = _marginal(fitted, (), seed)
    found = {}
    for name, still in each.items():
        static = _marginal(fitted, still, seed)
        factor = static.log_marginal - moving.log_marginal
        pareto_k = max(static.pareto_k, moving.pareto_k)
        reliable = pareto_k <= MAX_PARETO_K
        found[name] = {
            "probability": expit(factor + logit(prior)) if reliable else np.nan,
            "log_bayes_factor": factor,
            "mcse": np.hypot(_error(static), _error(moving)),
            "pareto_k": pareto_k,
        }
    return pd.DataFrame(found).T.rename_axis("hedge")


def _shared(fitted: HedgeFit) -> bool:
    """Whether one delta drives all that moves."""
    return trees.assumed(fitted.tree).drift.shared


def _marginal(fitted: HedgeFit, still: tuple[int, ...], seed: int) -> Evidence:
    """Marginal likelihood with the numbered hedge ratios standing still, the rest integrated out."""
    posterior, inferred = fitted.tree["posterior"].to_dataset(), fitted.tree["log_prior"].data_vars
    held = {str(name): np.asarray(posterior[str(name)].values) for name in inferred}
    shapes = {name: value.shape[2:] for name, value in held.items()}
    with jax.enable_x64(True):
        free = {k: np.asarray(priors.to_free(k, v)) for k, v in trees.flat(held).items()}
        near = np.column_stack([value.reshape(len(value), -1) for value in free.values()])
        names = [name for name, shape in shapes.items() for _ in range(int(np.prod(shape)))]
        first = names.index("delta_beta")
        moving = np.delete(np.arange(len(names)), [first + number for number in still])
        if not len(moving):
            raise ValueError(
                "nothing is left to infer once the ratio stands still: compare the log scores of two "
                "fits instead (compare)"
            )
        inputs = fitted.model.inputs(fitted.data)

        def log_joint(u: np.ndarray) -> np.ndarray:
            every = np.zeros((len(u), len(names)))
            every[:, moving] = u
            parts = np.split(
                every, np.cumsum([np.prod(s, dtype=int) for s in shapes.values()])[:-1], 1
            )
            given = {k: p.reshape(len(u), *shapes[k]) for k, p in zip(shapes, parts, strict=True)}
            return np.asarray(_joint(given, inputs, model=fitted.model, still=still))

        return log_marginal(log_joint, near[:, moving], seed=seed)


@partial(jax.jit, static_argnames=("model", "still"))
def _joint(free: dict[str, Any], inputs: Any, *, model: Any, still: tuple[int, ...]) -> Any:
    """Log prior of the real-valued parameters plus log likelihood, by draw."""
    sites = {name: priors.from_free(name, value) for name, value in free.items()}
    every = priors.complete(sites, inputs, model=model)
    shared = model.drift.shared
    columns = list(range(every["q"].shape[1])) if shared and still else list(still)
    stays = np.ones(every["q"].shape[1])
    stays[columns] = 0.0
    noise = of_recursion(every)
    likelihood = model.log_likelihood(inputs, **(noise | {"q": noise["q"] * stays}))
    prior = priors.log_density(sites, inputs, model=model, still=still)
    return likelihood + sum(prior.values())


def _error(found: Evidence) -> float:
    """Monte-Carlo standard error of a log marginal likelihood."""
    return float(np.sqrt(max(1 / found.effective_draws - 1 / DRAWS, 0.0)))
