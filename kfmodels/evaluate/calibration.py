"""Simulation-based calibration: are the stated uncertainties right, on these regressors?

Noise is drawn from the prior and a target from the noise, then the noise is inferred back. If prior,
likelihood and sampler agree, the truth has a uniform rank among the posterior draws, whatever the
data. Ranks that crowd in the middle mean a posterior too wide; at both ends, one too narrow.

One file: drawing a truth, inferring it and ranking it are three steps of one algorithm.
"""

import operator
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
from jax import Array
from jax.scipy.special import gammaincc
from numpyro import handlers

from kfmodels.data.hedge_data import HedgeData
from kfmodels.evaluate.arguments import check_data_and_model
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.kalman.arrays import even_steps
from kfmodels.kalman.density import student_variance
from kfmodels.model import gaps as closed
from kfmodels.model.hedge_ratio import HedgeRatioModel, Inputs
from kfmodels.model.starts import Diffuse
from kfmodels.sampling.importance import ImportanceSampling
from kfmodels.sampling.nuts import NUTS
from kfmodels.sampling.posterior import of_recursion
from kfmodels.words.caller import check_seed, explain_kinds, warn
from kfmodels.words.progress import wait_for
from kfmodels.words.shown import Shown

MIN_SIMULATIONS = 20

FEWEST_IN_A_BIN = 5
"""Simulations expected in a bin: with fewer a chi-square statistic does not follow its law."""

LEVEL = 0.9
"""Probability of the intervals whose cover is counted."""

RANKED = 99
"""Posterior draws a truth is ranked among: 100 possible ranks, which fall evenly into 10 bins."""

DOUBTFUL_SHARE = 0.05
"""Share of badly sampled simulations above which a chi-square test may notice them."""


@dataclass(frozen=True, eq=False, repr=False)
class Calibration(Shown):
    """Where the truth of every simulation lies in what was inferred from it; made by `calibrate`.

    `table` says whether that is what chance allows; the frames have one row per simulation.
    """

    ranks: pd.DataFrame
    """Posterior draws below the truth, 0..kept, of what is sampled: "q KO", "q alpha", "obs_scale",
    "variance_memory", "spread_half_life"; and "log_likelihood", which rejects draws that ignore the
    target."""

    kept: int
    """Posterior draws that were ranked, evenly spaced along the chain."""

    probability: pd.DataFrame
    """Probability that each coefficient at the last row lies below its truth, given all rows."""

    cover: pd.DataFrame
    """Whether the 90 % interval of each, built as in `HedgeFit.hedge_ratio`, holds the truth."""

    sampling: pd.DataFrame
    """Worst `rhat` (of split chains) and smallest `ess` of the noise, and the share `diverging`."""

    def __str__(self) -> str:
        count = len(self.cover)
        if count < 2 * FEWEST_IN_A_BIN:
            return f"{count} simulations: too few for a table"
        shown = self.table().to_string(float_format="{:.3g}".format)
        return f"{count} simulations, ranked among {self.kept} draws\n{shown}"

    @property
    def doubtful(self) -> int:
        """How many simulations have fewer effective draws than were ranked; they count all the same."""
        enough = self.sampling["ess"].to_numpy() >= self.kept  # NaN is not enough
        return int((~enough).sum())

    def table(self, bins: int | None = None) -> pd.DataFrame:
        r"""Chi-square test of uniformity, and the cover of the final coefficients.

        $$χ^2 = ∑_b (n_b - e_b)^2 / e_b$$

        over equal bins of the rank, or of the probability for a final coefficient, with one degree
        of freedom less than bins. One p-value in a hundred is below 0.01 by chance.

        Args:
            bins: from 2 up to a fifth of the simulations; default 10, or that fifth if it is less.

        Returns:
            One row per noise parameter, then one per coefficient: `chi2`, `p_value`, `coverage` of
            the 90 % interval and `coverage_se`, its binomial standard error at 90 %.

        Raises:
            ValueError: too few simulations, or too few ranks, for so many bins.
        """
        count, possible = len(self.cover), self.kept + 1
        # each bin needs a rank of its own; where nothing is sampled there are no ranks
        most = min(count // FEWEST_IN_A_BIN, possible if len(self.ranks.columns) else count)
        bins = min(10, most) if bins is None else bins
        if not 2 <= bins <= most:
            raise ValueError(
                f"bins must lie between 2 and {most} for {count} simulations ranked among {self.kept} "
                f"draws, not {bins}"
            )
        # bins that do not divide the possible ranks hold unequal shares of them
        share = np.bincount(np.arange(possible) * bins // possible, minlength=bins) / possible
        rows = {}
        for name, ranks in self.ranks.items():
            rows[name] = _test_uniformity(ranks.to_numpy() * bins // possible, share)
        for name, below in self.probability.items():
            bin_of = np.minimum((below.to_numpy() * bins).astype(int), bins - 1)
            rows[name] = _test_uniformity(bin_of, np.full(bins, 1 / bins))
            rows[name]["coverage"] = float(self.cover[name].to_numpy().mean())
            rows[name]["coverage_se"] = float(np.sqrt(LEVEL * (1 - LEVEL) / count))
        return pd.DataFrame(rows, ["chi2", "p_value", "coverage", "coverage_se"]).T


class _Simulation(NamedTuple):
    """What one simulation leaves behind; `probability` and `cover` are per coefficient."""

    kept: int
    ranks: dict[str, int]
    probability: np.ndarray
    cover: np.ndarray
    sampling: dict[str, float]


@explain_kinds
def calibrate(
    data: HedgeData,
    model: HedgeRatioModel,
    *,
    simulations: int = 200,
    method: NUTS | ImportanceSampling = NUTS(warmup=500, draws=1000, chains=1),
    seed: int = 0,
    progress: bool = True,
) -> Calibration:
    r"""Test the inference where the truth is known: simulation-based calibration on given regressors.

    $$η ∼ p(η), \quad y ∼ p(y ∣ η), \quad θ_T ∼ p(θ_T ∣ y, η),
    \qquad \mathrm{rank}(η ∣ η_1 … η_L) ∼ U\{0..L\}, \quad
    F(θ_T ∣ y) ∼ U(0, 1)$$

    The noise $η$ (what is sampled of q, `obs_scale`, `variance_memory`) is drawn from the prior, a
    target from the model under that noise, with the regressors, gaps and time steps of `data`, and the
    coefficients at the last row, $θ_T$, from the filter under that noise. F mixes the filter over
    the ranked posterior draws. If the inference is right, the ranks are exactly uniform.

    This tests the inference, not the model: ranks stay uniform where prices do not behave as the model
    says, and where drawing and inferring share an error.

    Args:
        data: the rows whose regressors are used; one or two hundred are enough, and quick.
        model: from `hedge_ratio_model(...)`, with a start that can be drawn from.
        simulations: at least 20.
        method: how to infer. At most 99 of its draws are ranked, evenly spaced along the chains, so
            that they are nearly independent. One chain is enough: simulations run in parallel threads.
        seed: the same seed gives the same ranks on the same machine.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        A `Calibration`; start with its `table()`.

    Raises:
        ValueError: a `Diffuse` start, too few simulations, or data that allow no fit.

    Warns:
        UserWarning: more than 5 % of the simulations have fewer effective draws than are ranked. They
            are kept: to drop them would hide where the inference fails.

    Source: Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference
    algorithms with simulation-based calibration, arXiv:1804.06788; Modrak et al. (2023),
    Simulation-based calibration checking for Bayesian computation, Bayesian Analysis.

    Example:
        >>> from kfmodels import HedgeData, ImportanceSampling, datasets, hedge_ratio_model
        >>> from kfmodels.evaluate.calibration import calibrate
        >>> prices = datasets.stocks().loc["2018-01-01":"2018-03-31"]
        >>> data = HedgeData.from_prices(prices, target="KO", hedges=["PEP"])
        >>> model = hedge_ratio_model(intercept="static", obs_scale=0.01)
        >>> quick = ImportanceSampling()
        >>> found = calibrate(data, model, simulations=20, method=quick, progress=False)
        >>> list(found.table().index)
        ['q PEP', 'log_likelihood', 'PEP', 'alpha']
    """
    model = check_data_and_model(data, model)
    if isinstance(model.initial, Diffuse):
        raise ValueError(
            "calibrate draws the coefficients from their start, and nothing can be drawn from "
            "Diffuse(): use hedge_ratio_model(initial=Weak()), which says little, or Known(mean, cov)"
        )
    if operator.index(simulations) < MIN_SIMULATIONS:
        raise ValueError(f"simulations must be at least {MIN_SIMULATIONS}, not {simulations}")
    check_seed(seed)
    simulate = partial(_simulate, model, data, model.inputs(data), method, seed)
    waiting = wait_for("inferring simulated noise", simulations, shown=progress)
    with waiting as line, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        done = [simulate(0)]  # alone, so that the others find its programs compiled
        line.advance()
        for simulation in pool.map(simulate, range(1, simulations)):
            done.append(simulation)
            line.advance()
    result = _gather(done, data)
    if result.doubtful > DOUBTFUL_SHARE * simulations:
        least = result.sampling["ess"].min()
        warn(
            f"{result.doubtful} of {simulations} simulations have fewer effective draws (at worst "
            f"{least:.0f}) than the {result.kept} that are ranked: their ranks crowd at the ends. They "
            f"count all the same; see `sampling`. Try again with "
            f"method=NUTS(warmup=1000, draws={4 * max(method.draws, 500)}, chains=1)."
        )
    return result


def _gather(done: list[_Simulation], data: HedgeData) -> Calibration:
    rows = pd.RangeIndex(len(done), name="simulation")
    names = pd.Index([*data.hedges, "alpha"][: len(done[0].cover)])
    below = pd.DataFrame(np.array([each.probability for each in done]), rows, names)
    cover = pd.DataFrame(np.array([each.cover for each in done]), rows, names)
    below = below.dropna(axis=1, how="all")  # a coefficient that is certain has no probability
    ranks = pd.DataFrame([each.ranks for each in done], rows)
    sampling = pd.DataFrame([each.sampling for each in done], rows)
    return Calibration(ranks, done[0].kept, below, cover.loc[:, below.columns], sampling)


def _simulate(
    model: HedgeRatioModel,
    data: HedgeData,
    inputs: Inputs,
    method: NUTS | ImportanceSampling,
    seed: int,
    number: int,
) -> _Simulation:
    """Draw a truth, infer it, and say where it lies in the posterior."""
    random = np.random.default_rng([seed, number])
    keys = random.integers(2**32, size=(2, 2), dtype=np.uint32)
    # enable_x64 is a property of the thread: each task enters it for itself
    with jax.enable_x64(True):
        free, truth, y = jax.device_get(_draw_truth(keys, inputs, model=model))
        # y alone changes: a pivot, a start or a prior read anew from the drawn target would be those of
        # another model, and the ranks not uniform
        inputs = inputs._replace(y=np.where(inputs.observed, y, 0.0))
        draws = method.run(model, inputs, int(random.integers(2**32)), False)
        drawn = trees.flat(draws.sites)
        total = len(drawn["q"])
        count = min(RANKED, total)
        evenly = even_steps(count, total)
        # the truth is filtered too, as the last draw, which `forward` leaves out of its mixture
        needed = of_recursion(drawn)
        both = {name: np.concatenate([drawn[name][evenly], truth[name][None]]) for name in needed}
        law = trees.regression(model, inputs, both)
        ended, fits = jax.device_get(
            (passes.forward(law, inputs.y), passes.log_likelihood(law, inputs.y))
        )
        probability, cover = _place_coefficients(ended, model, data, random)
    named = partial(_quantities, model, data, free)
    # draws that ignore the target have uniform ranks in every parameter, but not in the likelihood
    ranked = named(both) | ({"log_likelihood": fits} if free else {})
    ranks = {name: int((values[:-1] < values[-1]).sum()) for name, values in ranked.items()}
    return _Simulation(
        count, ranks, probability, cover, _judge_sampling(named(draws.sites), draws.stats)
    )


@partial(jax.jit, static_argnames="model")
def _draw_truth(
    keys: np.ndarray, inputs: Inputs, *, model: HedgeRatioModel
) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """Draw noise from the prior (what is sampled; and all sites) and a target under it."""
    for_noise, for_target = jax.random.wrap_key_data(jnp.asarray(keys))
    trace = handlers.trace(handlers.seed(model, for_noise)).get_trace(inputs)
    sites = {name: site for name, site in trace.items() if not site.get("is_observed")}
    free = {name: site["value"] for name, site in sites.items() if site["type"] == "sample"}
    every = {name: site["value"] for name, site in sites.items()}
    return free, every, trace["y"]["fn"].sample(for_target)


def _quantities(
    model: HedgeRatioModel, data: HedgeData, free: Collection[str], sites: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The sampled noise by name, one number per draw (draws first in `sites`)."""
    parts = (model.noise, model.drift, *model.parts)
    names = ("obs_scale", *(name for part in parts for name in part.parameters))
    found = {name: sites[name] for name in names if name in free}
    for site in ("gap_bars", "gap_noise"):
        for number, kind in enumerate(closed.kinds(model.gaps, data)):
            if site in free or f"{site}_{kind}" in free:
                found[f"{site} {kind}"] = sites[site][..., number]
    if "delta_alpha" in free:
        found = {"q alpha": sites["q"][..., -1]} | found
    if "delta_beta" not in free:
        return found
    shared = model.drift.shared  # one memory, of all coefficients
    names = ["q"] if shared else [f"q {hedge}" for hedge in data.hedges]
    return {name: sites["q"][..., number] for number, name in enumerate(names)} | found


def _place_coefficients(
    ended: passes.Pass, model: HedgeRatioModel, data: HedgeData, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the coefficients at the last row under the true noise, and find them in the mixture.

    Given the target, the filter under the true noise is the law of the coefficients: drawing them last
    is a draw from the joint law, also for a `Discounted` variance, which has no path of coefficients.
    """
    coordinates = model.coordinates(data)
    scale = ended.cov * ended.unit[:, None, None]
    # not by Cholesky: the covariance is singular where a coefficient is certain
    values, vectors = np.linalg.eigh(scale[-1])
    away = vectors @ (np.sqrt(np.maximum(values, 0)) * random.standard_normal(len(values)))
    tail = 1.0
    if ended.dof is not None:
        away *= np.sqrt(ended.dof[-1] / random.chisquare(ended.dof[-1]))
        tail = student_variance(ended.dof[:-1], np)[:, None]
    truth, _ = coordinates.to_original(ended.mean[-1] + away, scale[-1])
    mean, scale = coordinates.to_original(ended.mean[:-1], scale[:-1])
    var = np.diagonal(scale, axis1=1, axis2=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (truth - mean) / np.sqrt(var)
    probability = np.asarray(_below(z, None if ended.dof is None else ended.dof[:-1, None]))
    sd = np.sqrt((var * tail).mean(0) + mean.var(0))
    width = NormalDist().inv_cdf(0.5 + LEVEL / 2) * sd
    return probability, np.abs(truth - mean.mean(0)) <= width


@jax.jit
def _below(z: Array, dof: Array | None) -> Array:
    """Probability below `z (draw, coef)`, averaged over the draws; NaN where all is certain."""
    law = dist.Normal() if dof is None else dist.StudentT(dof)
    return jnp.where(jnp.isfinite(z), law.cdf(z), jnp.nan).mean(0)


def _judge_sampling(
    posterior: dict[str, np.ndarray], stats: dict[str, np.ndarray]
) -> dict[str, float]:
    """How well the noise was sampled, at its worst; an infinite ess where nothing was sampled."""
    from arviz_stats.base.array import array_stats

    rhat, ess = [1.0], [np.inf]
    for values in posterior.values():
        if not np.ptp(values) > 0:  # a chain that stands still is one draw, whatever its length
            rhat.append(np.inf)
            ess.append(1.0)
            continue
        # halves as chains of their own, so that one chain shows a drift too
        even = values[:, : values.shape[1] // 2 * 2].reshape(2 * len(values), -1)
        with np.errstate(divide="ignore", invalid="ignore"):  # halves that stand still, apart
            rhat.append(float(np.max(array_stats.rhat(even, 0, 1))))
        ess.append(float(np.min(array_stats.ess(values, 0, 1))))
    diverging = float(np.mean(stats["diverging"]))
    return {"rhat": max(rhat), "ess": float(np.min(ess)), "diverging": diverging}


def _test_uniformity(bin_of: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Chi-square of the counts per bin against expected shares, and its p-value."""
    counts = np.bincount(bin_of, minlength=len(expected))
    wanted = expected * len(bin_of)
    chi2 = float(((counts - wanted) ** 2 / wanted).sum())
    with jax.enable_x64(True):
        return {"chi2": chi2, "p_value": float(gammaincc((len(expected) - 1) / 2, chi2 / 2))}
