"""Whether the answer is the data's or the prior's: power scaling, and another prior without a refit."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import numpy as np
import pandas as pd

from kfmodels.evaluate.arguments import check_inferred, check_one_model
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.density import Z90
from kfmodels.model.defaults import in_bars
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.model.parts import PART_SITES
from kfmodels.sampling import prior as priors
from kfmodels.sampling.nuts import MAX_PARETO_K
from kfmodels.sampling.posterior import Draws, draw_prior
from kfmodels.sampling.psis import resample, smooth
from kfmodels.words.caller import explain_kinds
from kfmodels.words.progress import wait_for
from kfmodels.words.shown import Shown

if TYPE_CHECKING:
    from xarray import DataTree

SENSITIVE = 0.05
"""Sensitivity from which on Kallioinen et al. (2024) advise to look closer."""


@explain_kinds
def prior_sensitivity(fitted: HedgeFit, *, seed: int = 0, progress: bool = True) -> pd.DataFrame:
    r"""Tell whether the answer is the data's or the prior's, by raising either to a power near one.

    $$p_a(θ ∣ y) ∝ p(θ)^a \, p(y ∣ θ)$$

    A sensitivity is how far a posterior moves as `a` leaves 1, once for the prior and once for the
    likelihood; it is computed from the stored draws, without a refit, for the logarithm of every
    inferred noise parameter and for each hedge ratio after the last row. Only the prior of the noise is
    raised to a power, not the start of the coefficients: for a ratio the question is whether the prior
    of the noise matters to it.

    Args:
        seed: of the draws of the hedge ratio given the noise.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        One row per quantity: `prior` and `likelihood` (sensitivities) and `verdict`: "the data's" (the
        prior hardly moves it), "the prior's: the data say little", "both: see that they agree", or
        "hardly moved by either".

    Raises:
        ValueError: all noise is fixed, so that there is no prior; a model with a spread that comes
            back, whose draws are of two models.

    Source: Kallioinen, Paananen, Buerkner and Vehtari (2024), Detecting and diagnosing prior and
    likelihood sensitivity with power-scaling, Statistics and Computing 34. Computed by ArviZ
    (`psense`).

    Example:
        >>> from kfmodels import HedgeData, NUTS, datasets, fit
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> year = data.after("2019-01-01").before("2020-01-01")
        >>> table = prior_sensitivity(fit(year, method=NUTS(draws=500, chains=2), progress=False))
        >>> list(table.index)
        ['log q of PEP', 'log q of alpha', 'log variance_memory', 'ratio to PEP']
    """
    from arviz_stats.psense import psense
    from xarray import Dataset, DataTree

    check_inferred(fitted)
    check_one_model(trees.assumed(fitted.tree), "prior_sensitivity")
    tree = fitted.tree
    with wait_for("drawing the ratios", 1, shown=progress):
        quantities = noise_quantities(tree) | draw_ratios(fitted, seed)
    names = {f"v{number}": name for number, name in enumerate(quantities)}
    by_draw = {key: (("chain", "draw"), quantities[name]) for key, name in names.items()}
    asked = DataTree.from_dict(
        {
            "posterior": Dataset(by_draw),
            "log_prior": trees.group_of(tree, "log_prior"),
            "log_likelihood": trees.group_of(tree, trees.SERIES),
        }
    )
    found = {part: psense(asked, group=part) for part in ("prior", "likelihood")}
    table = pd.DataFrame(
        {part: [float(values[key]) for key in names] for part, values in found.items()},
        index=pd.Index(list(names.values()), name="quantity"),
    )
    table["verdict"] = [judge(*pair) for pair in table.to_numpy().tolist()]
    return table


_FEWEST = 25
"""Draws that smoothed weights need."""


@dataclass(frozen=True, eq=False, repr=False)
class WhatIf(Shown):
    """The answer under another prior: `fit` holds resampled draws and works like any other fit.

    `table` has the 90 % intervals before and after; `pareto_k` is that of the weights, and
    `effective_draws` is what they leave of the `draws` there were.
    """

    fit: HedgeFit
    table: pd.DataFrame
    pareto_k: float
    effective_draws: float
    draws: int

    def __str__(self) -> str:
        shown = self.table.to_string(float_format=lambda value: f"{value:.4g}")
        return (
            f"{shown}\nreweighted: {self.effective_draws:.0f} effective of {self.draws} draws, Pareto "
            f"k-hat {self.pareto_k:.2f}"
        )


@explain_kinds
def what_if(
    fitted: HedgeFit, model: HedgeRatioModel, *, seed: int = 0, progress: bool = True
) -> WhatIf:
    r"""Compute the posterior under another model of the same parameters, without a refit.

    $$w_k ∝ \frac{p_{new}(θ_k) \, p_{new}(y ∣ θ_k)}
    {p(θ_k) \, p(y ∣ θ_k)}$$

    The stored draws are reweighted (Pareto-smoothed) and resampled. Made for a new prior on delta or
    obs_scale; it works the same for a new start or pivot.

    Args:
        model: the new model, from `hedge_ratio_model(...)`.
        seed: of the resampling.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Raises:
        ValueError: the new model infers other parameters, or is so far from the old one that the
            weights have no reliable mean (Pareto k-hat above 0.7): it must be refitted; a spread that
            comes back in either.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR
    25.

    Example:
        >>> from kfmodels import HedgeData, Memory, NUTS, datasets, fit, hedge_ratio_model
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> year = data.after("2019-01-01").before("2020-01-01")
        >>> fitted = fit(year, method=NUTS(draws=500, chains=2), progress=False)
        >>> slower = hedge_ratio_model(delta={"beta": Memory(10, low=2, high=100)})
        >>> what_if(fitted, slower).pareto_k < 0.7
        True
    """
    check_inferred(fitted)
    if not isinstance(model, HedgeRatioModel):
        raise ValueError(
            f"what_if takes another model, made by hedge_ratio_model(...), not {type(model)}"
        )
    data, tree = fitted.data, fitted.tree
    model = in_bars(model, data)
    for one in (trees.assumed(tree), model):
        check_one_model(one, "what_if")
    posterior = trees.group_of(tree, "posterior")
    if posterior["obs_scale"].size < _FEWEST:
        raise ValueError(
            f"{posterior['obs_scale'].size} draws are too few to reweigh, {_FEWEST} are needed: refit "
            "with more draws"
        )
    inputs = model.inputs(data)
    groups = {name: trees.group_of(tree, name) for name in ("log_prior", trees.SERIES)}
    with jax.enable_x64(True), wait_for("reweighing the draws", 1, shown=progress):
        stored = trees.flat({str(k): posterior[k].values for k in groups["log_prior"].data_vars})
        wanted = priors.inferred(inputs, model)
        _check_same(wanted, {name: v.shape[1:] for name, v in stored.items()})
        sites = jax.device_get(priors.complete(stored, inputs, model=model))
        new = jax.device_get(trees.densities(model, inputs, sites))
        _, prior = draw_prior(model, inputs, seed)
        old = _log_joint(groups)
        log_weights, pareto_k = jax.device_get(smooth(_log_joint(new) - old))
    if not pareto_k <= MAX_PARETO_K:
        raise ValueError(
            f"the new model is too far from the draws of the old one (Pareto k-hat {pareto_k:.2f}, "
            f"reliable up to {MAX_PARETO_K}): refit with fit(data, model)"
        )
    effective = float(1 / np.exp(2 * log_weights).sum())
    with jax.enable_x64(True):
        key = np.array([seed, 0], np.uint32)
        # no more than are effective: the others would be copies of these
        picked = np.asarray(resample(log_weights, key, count=int(effective)))
    stats = {"diverging": np.zeros((1, len(picked)), bool)}
    drawn = {name: np.asarray(v)[picked][None] for name, v in sites.items()}
    with wait_for("running the new filter", 1, shown=progress):
        after = HedgeFit.from_draws(data, model, inputs, Draws(drawn, stats, prior))
    table = pd.concat({"before": _answers(fitted), "after": _answers(after)}, axis=1)
    return WhatIf(after, table, float(pareto_k), effective, len(log_weights))


def _check_same(wanted: dict[str, tuple[int, ...]], stored: dict[str, tuple[int, ...]]) -> None:
    """Raise unless the shapes of the wanted sites are those of the stored ones."""
    both = wanted.keys() & stored.keys()
    for word, names in (
        ("also infers", wanted.keys() - stored.keys()),
        ("does not infer", stored.keys() - wanted.keys()),
        ("has another number of", {name for name in both if wanted[name] != stored[name]}),
    ):
        if names:
            raise ValueError(
                f"the new model {word} {', '.join(sorted(names))}: the stored draws cannot answer for "
                "it, refit with fit(data, model)"
            )


def noise_quantities(tree: "DataTree") -> dict[str, np.ndarray]:
    """Logarithms of the inferred noise parameters, (chain, draw) each."""
    posterior = trees.group_of(tree, "posterior")
    sites = trees.group_of(tree, "log_prior").data_vars
    found = {}
    names = [str(name) for name in posterior["coef"].values]
    model = trees.assumed(tree)
    shared = model.drift.shared
    for name in names if not shared else names[:1]:
        if ("delta_alpha" if name == "alpha" else "delta_beta") in sites:
            found[f"log q of {'all' if shared else name}"] = np.log(
                posterior["q"].sel(coef=name).values
            )
    for site in ("obs_scale", *model.noise.parameters, *model.drift.parameters, *PART_SITES):
        if site in sites:
            found[f"log {site}"] = np.log(posterior[site].values)
    for kind in trees.gap_names(tree):
        for site in ("gap_bars", "gap_noise"):
            values = posterior[site].sel(gap=kind).values
            if np.ptp(values) > 0:  # inferred; fixed ones stand there too
                found[f"log {site} of {kind}"] = np.log(values)
    return found


def draw_ratios(fitted: HedgeFit, seed: int) -> dict[str, np.ndarray]:
    """Draws of each hedge ratio after the last row, one for each draw of the noise."""
    tree = fitted.tree
    with jax.enable_x64(True):
        law, y = trees.posed(tree, fitted.data, trees.posterior_sites(tree))
        mean, cov = jax.device_get(passes.last_states(law, y))
    inner, hedges = trees.coordinates(tree), len(fitted.hedges)
    sums = inner.sums[:hedges]
    sd = np.sqrt(np.einsum("hi,dij,hj->dh", sums, cov, sums))
    normal = np.random.default_rng(seed).standard_normal((len(mean), hedges))
    drawn = (mean @ sums.T + normal * sd) / inner.scale
    shape = trees.group_of(tree, "posterior")["obs_scale"].shape
    return {f"ratio to {name}": drawn[:, i].reshape(shape) for i, name in enumerate(fitted.hedges)}


def judge(prior: float, likelihood: float) -> str:
    """Say whose answer it is, by both sensitivities."""
    if prior < SENSITIVE:
        return "the data's" if likelihood >= SENSITIVE else "hardly moved by either"
    if likelihood < SENSITIVE:
        return "the prior's: the data say little"
    return "both: see that they agree"


def _log_joint(groups: Mapping[str, Mapping[Hashable, object]]) -> np.ndarray:
    """Log prior and log likelihood of every draw, summed over all sites."""
    parts = [np.ravel(np.asarray(v)) for group in groups.values() for v in group.values()]
    return np.sum(parts, axis=0)


def _answers(fitted: HedgeFit) -> pd.DataFrame:
    """Lower end, median and upper end of memories, noise and hedge ratios."""
    posterior = trees.group_of(fitted.tree, "posterior")
    quantities = {f"memory of {k}": posterior["memory"].sel(coef=k).values for k in fitted.coef}
    quantities["obs_scale"] = posterior["obs_scale"].values
    for site in (*trees.assumed(fitted.tree).noise.parameters, *PART_SITES):
        if site in posterior:
            quantities[site] = posterior[site].values
    for kind in trees.gap_names(fitted.tree):
        for site in ("gap_bars", "gap_noise"):
            quantities[f"{site} of {kind}"] = posterior[site].sel(gap=kind).values
    ends = [0.05, 0.5, 0.95]
    rows = {k: np.quantile(v, ends, method="nearest") for k, v in quantities.items()}
    for name in fitted.hedges:
        mean, sd = (v[-1] for v in trees.belief(trees.group_of(fitted.tree, "filtered"), name))
        rows[f"ratio to {name}"] = mean + np.array([-Z90, 0, Z90]) * sd
    return pd.DataFrame(rows, index=["lower", "median", "upper"]).T
