"""The likelihood as a landscape over the noise: its peaks, and whether static is one of them.

One file: the grid, its peaks and their comparison with static share their arrays.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

from kfmodels.data.hedge_data import HedgeData
from kfmodels.fitting.fit import pad
from kfmodels.model.defaults import in_bars
from kfmodels.model.hedge_ratio import HedgeRatioModel, Inputs, hedge_ratio_model
from kfmodels.model.memory import (
    LEAST_VARIANCE_MEMORY,
    memory_to_q,
    q_to_delta,
    q_to_memory,
    q_to_state_var,
)
from kfmodels.model.parts import PART_SITES
from kfmodels.model.priors import Absolute
from kfmodels.sampling import prior as priors
from kfmodels.sampling.posterior import of_recursion
from kfmodels.words.caller import explain_kinds
from kfmodels.words.progress import wait_for
from kfmodels.words.shown import Shown

NEAR_THE_TOP = 2.0
"""Nats below the top within which a static ratio is not ruled out (95 % for one parameter)."""

VALLEY = 0.5
"""Nats by which the way between two peaks must sink below the lower one for them to count as two."""

_NOTHING = 0.005
"""Nats that would be printed as 0.00."""

_MIN_MASS = 0.01
"""Mass below which a peak is not listed."""

_DEPTH = 15.0
"""Nats below the top under which a cell is left out: a millionth of the highest density, or less."""


@dataclass(frozen=True, eq=False, repr=False)
class Surface(Shown):
    """Log likelihood on a grid of (effective memory of beta, memory of alpha, third), static first.

    The axes are quantities that data can tell apart: `beta_memory` is the memory of `q_beta` relative
    to the whole one-bar forecast variance, the bars over which the ratio is learnt; `third` is the sd
    of that forecast, `obs_scale` widened by what the intercept moves. (Beside a fast intercept, q and
    obs_scale themselves form a ridge.) With `Discounted` noise `third` is `variance_memory`. `third`
    has the shape of the grid: for each pair of memories the sds about the one that fits it best.

    `log_likelihood` and `log_posterior` have the shape of the grid; index 0 of the first axis is the
    ratio that does not move at all (memory inf), where there is no prior density and `log_posterior`
    is -inf. An axis of something that is not inferred has length 1. `modes` lists the peaks of the
    posterior with the `mass` about each; `notes` say in words what an average over it would hide.
    """

    hedge: str
    beta_memory: np.ndarray
    alpha_memory: np.ndarray
    third: np.ndarray
    third_name: str
    log_likelihood: np.ndarray
    log_posterior: np.ndarray
    modes: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        cells = " x ".join(map(str, self.log_likelihood.shape))
        head = (
            f"log likelihood on {cells} settings: effective memory of {self.hedge}, memory of alpha"
        )
        notes = [f"- {note}" for note in self.notes]
        shown = self.modes.to_string(index=False, float_format="{:.4g}".format)
        return "\n".join([f"{head}, {self.third_name}", shown, *notes])

    def profile(self, axis: int = 0) -> pd.Series:
        """Best log likelihood along a memory (axis 0 beta, 1 alpha), relative to the top."""
        best = self.log_likelihood.max(axis=(1 - axis, 2)) - self.log_likelihood.max()
        name, spots = (("beta_memory", self.beta_memory), ("alpha_memory", self.alpha_memory))[axis]
        return pd.Series(best, pd.Index(spots, name=name), name="log_likelihood")


@explain_kinds
def likelihood_surface(
    data: HedgeData,
    model: HedgeRatioModel | None = None,
    *,
    hedge: str | None = None,
    memories: Sequence[float] = (1.002, 3000.0),
    points: tuple[int, int, int] = (48, 32, 24),
    progress: bool = True,
) -> Surface:
    """Evaluate the likelihood over memories and noise, and say what an average would hide.

    Args:
        data: the training rows.
        model: the model whose priors and assumptions are used; a delta is scanned if it has a prior.
        hedge: which hedge's memory is the first axis, by default the first; the others are held at
            their prior medians.
        memories: ends of the memory axes, in bars.
        points: grid points per axis.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Raises:
        ValueError: the speed of the ratio is fixed or Absolute, an unknown hedge, memories not above 1,
            or too few points.

    Source: the flat likelihood near a static ratio: Shephard (1993), Distribution of the ML estimator
    of an MA(1) and a local level model, Econometric Theory 9.

    Example:
        >>> from kfmodels import HedgeData, datasets
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> surface = likelihood_surface(data.after("2021-06-01"), points=(20, 12, 12))
        >>> surface.log_likelihood.shape
        (21, 12, 12)
    """
    model = in_bars(hedge_ratio_model() if model is None else model, data)
    low, high = memories
    if not 1 < low < high < np.inf:
        raise ValueError(f"memories are bars, 1 < low < high, not {low} .. {high}")
    if isinstance(model.beta_delta, Absolute) or isinstance(model.alpha_delta, Absolute):
        raise ValueError(
            "an Absolute delta has no memory of its own to scan; use Memory, or a number for the "
            "intercept"
        )
    if len(points) != 3 or min(points[::2]) < 3 or points[1] < 1:
        raise ValueError(
            f"points are three numbers of grid points, 3 or more for beta and the third, not {points}"
        )
    hedge = data.hedges[0] if hedge is None else hedge
    if hedge not in data.hedges:
        raise ValueError(f"{hedge} is not among the hedges: {', '.join(data.hedges)}")
    inputs = pad(model.inputs(data), model)
    with jax.enable_x64(True):
        inferred = priors.inferred(inputs, model)
        if model.drift.still:
            raise ValueError(
                "a ratio on several scales (Scales) has no memory of its own to scan: use RandomWalk()"
            )
        if "delta_beta" not in inferred:
            raise ValueError(
                "the speed of the ratio is fixed in this model: give delta a prior, as in "
                'delta={"beta": Memory(60, low=15, high=250)}'
            )
        numbers = np.arange(999, dtype=np.uint32)
        drawn = jax.device_get(priors.draw(numbers, np.uint32(0), inputs, model=model)[1])
        middle = {name: np.median(drawn[name], axis=0) for name in inferred}
        number = data.hedges.index(hedge)
        axes, third_name = _axes(inferred, drawn, low, high, points)
        rows = int(data.observed.sum())
        fixed_q = _fixed_q_of_level(drawn, model)
        found = []
        with wait_for("scanning memories", 1 + len(axes[0]), shown=progress) as waiting:
            for memory in (np.inf, *axes[0]):
                found.append(
                    _scan(memory, axes, third_name, middle, number, inputs, model, rows, fixed_q)
                )
                waiting.advance()
    likelihood, posterior, third = (np.array(part) for part in zip(*found, strict=True))
    beta = np.append(np.inf, axes[0])
    posterior[0] = -np.inf
    modes = find_modes(beta[1:], axes[1], third[1:], third_name, posterior[1:], likelihood[1:])
    notes = write_notes(hedge, len(data), likelihood, modes)
    if third_name == "variance_memory" and "obs_scale" in inferred:
        notes = (*notes, "obs_scale, where the variance starts, is held at its prior median here")
    if inferred.keys() & model.noise.parameters.keys() - {third_name}:
        notes = (*notes, "what else is inferred of the noise is held at its prior median here")
    if any(name.startswith("gap_") for name in inferred):
        notes = (*notes, "what closed periods are worth is held at its prior median here")
    if inferred.keys() & {"spread_half_life", "spread_size", *PART_SITES}:
        notes = (*notes, "what comes back is there, its half-life and size at their prior medians")
    return Surface(hedge, beta, axes[1], third, third_name, likelihood, posterior, modes, notes)


def _fixed_q_of_level(drawn: dict[str, np.ndarray], model: HedgeRatioModel) -> float:
    """q of an intercept that moves at a fixed speed; 0 where it does not move or is inferred."""
    fixed = model.intercept == "random_walk" and not model.drift.shared
    return float(np.median(drawn["q"][:, -1])) if fixed and "delta_alpha" not in drawn else 0.0


def _axes(
    inferred: Collection[str],
    drawn: dict[str, np.ndarray],
    low: float,
    high: float,
    points: tuple[int, int, int],
) -> tuple[list[np.ndarray], str]:
    """The axes, memories evenly spaced in log q, and the name of the third.

    The third axis of sds is in standard errors about the sd that fits best, which `_scan` finds.
    """
    first, last = np.log([memory_to_q(low), memory_to_q(high)])
    beta, alpha = (q_to_memory(np.exp(np.linspace(first, last, count))) for count in points[:2])
    if "delta_alpha" not in inferred:
        alpha = np.array([np.nan])
    if "variance_memory" in inferred:
        spans = np.exp(np.linspace(np.log(1.0), np.log(300.0), points[2]))
        return [beta, alpha, LEAST_VARIANCE_MEMORY + spans], "variance_memory"
    if "obs_scale" in inferred:
        return [beta, alpha, np.linspace(-5.0, 5.0, points[2])], "forecast_sd"
    return [beta, alpha, np.array([float(np.median(drawn["obs_scale"]))])], "obs_scale"


def _scan(
    memory: float,
    axes: list[np.ndarray],
    third_name: str,
    middle: dict[str, np.ndarray],
    number: int,
    inputs: Inputs,
    model: HedgeRatioModel,
    rows: int,
    fixed_q: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log likelihood, log posterior and third value over (alpha, third) at one memory of beta."""
    alphas, count = len(axes[1]), len(axes[2])
    alpha = np.repeat(axes[1], count)
    q_alpha = memory_to_q(alpha) if "delta_alpha" in middle else np.full(len(alpha), fixed_q)
    # forecast over observation variance of a level that moves this fast
    wider = 1 + q_to_state_var(q_alpha)
    # static: `stays` makes q exactly 0, and the logit of delta needs some q above it
    q = wider * (memory_to_q(memory) if np.isfinite(memory) else 1e-12)
    sites = {k: np.broadcast_to(v, (len(alpha), *np.shape(v))).copy() for k, v in middle.items()}
    if sites["delta_beta"].ndim == 2:
        sites["delta_beta"][:, number] = q_to_delta(q)
    else:
        sites["delta_beta"] = q_to_delta(q)
    if "delta_alpha" in sites:
        sites["delta_alpha"] = q_to_delta(q_alpha)
    stays = np.array(0.0 if np.isinf(memory) else 1.0)

    def evaluate(third: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if third_name in sites:
            sites[third_name] = third
        elif third_name == "forecast_sd":
            sites["obs_scale"] = third / np.sqrt(wider)
        found = _evaluate(sites, stays, inputs, model=model, number=number)
        likelihood, prior = jax.device_get(found)
        return likelihood, likelihood + prior

    third = np.tile(axes[2], alphas)
    if third_name == "forecast_sd":
        best = np.full(len(alpha), float(inputs.typical_move))
        for _ in range(3):
            # in the sd s the likelihood is -T log s - A / (2 s^2), so two values of it give A, and the
            # best sd sqrt(A / T); nearly, for a start does not widen with s: hence three rounds
            first, second = evaluate(best)[0], evaluate(1.2 * best)[0]
            total = 2 * (rows * np.log(1.2) - (first - second)) / (1 - 1 / 1.44)
            best = best * np.sqrt(np.maximum(total / rows, 1e-6))
        # the standard error of log s is 1 / sqrt(2 T)
        third = best * np.exp(third / np.sqrt(2 * rows))
    likelihood, posterior = evaluate(third)
    shape = (alphas, count)
    return likelihood.reshape(shape), posterior.reshape(shape), third.reshape(shape)


@partial(jax.jit, static_argnames=("model", "number"))
def _evaluate(
    sites: dict[str, Array], stays: Array, inputs: Inputs, *, model: HedgeRatioModel, number: int
) -> tuple[Array, Array]:
    every = priors.complete(sites, inputs, model=model)
    columns = np.arange(every["q"].shape[1])
    mine = columns >= 0 if model.drift.shared else columns == number
    noise = of_recursion(every)
    noise["q"] = noise["q"] * jnp.where(mine, stays, 1.0)
    likelihood = model.log_likelihood(inputs, **noise)
    densities = priors.log_density(sites, inputs, model=model).values()
    return likelihood, sum(densities, start=jnp.zeros(()))


def find_modes(
    beta: np.ndarray,
    alpha: np.ndarray,
    third: np.ndarray,
    third_name: str,
    posterior: np.ndarray,
    likelihood: np.ndarray,
) -> pd.DataFrame:
    """Find the peaks of the posterior, each with the share of the mass on its own slopes."""
    peaks, basin = np.unique(find_summits(posterior), return_inverse=True)
    mass = np.exp(posterior - posterior.max()).ravel()
    share = np.bincount(basin.ravel(), mass / mass.sum(), len(peaks))
    rows = []
    for peak, part in sorted(zip(peaks, share, strict=True), key=lambda pair: -pair[1]):
        i, j, k = np.unravel_index(peak, posterior.shape)
        if part >= _MIN_MASS or not rows:
            rows.append([beta[i], alpha[j], third[i, j, k], part, likelihood[i, j, k]])
    names = ["beta_memory", "alpha_memory", third_name, "mass", "log_likelihood"]
    return pd.DataFrame(rows, columns=names).rename_axis("mode")


def find_summits(height: np.ndarray) -> np.ndarray:
    """Find the flat index of its peak for every cell; cells too low to hold any mass get the highest.

    Cells are visited from the top down, and each joins the highest peak that it touches. Two peaks
    become one where the cell at which they meet lies less than `VALLEY` below the lower of them.
    """
    padded = np.pad(height, 1, constant_values=-np.inf)  # so that every cell has 26 neighbours
    values = padded.ravel()
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    around = [int((np.array(shift) - 1) @ strides) for shift in np.ndindex(3, 3, 3)]
    order = np.argsort(-values, kind="stable")
    order = order[values[order] > values.max() - _DEPTH].tolist()
    parent: dict[int, int] = {}  # a forest of disjoint sets, whose roots are the peaks

    def peak(cell: int) -> int:
        while parent[cell] != cell:
            parent[cell] = parent[parent[cell]]
            cell = parent[cell]
        return cell

    for cell in order:
        roots = {peak(cell + step) for step in around if cell + step in parent}
        highest = max(roots, key=values.__getitem__, default=cell)
        parent[cell] = highest
        for root in roots - {highest}:
            if values[root] - values[cell] < VALLEY:
                parent[root] = highest
    label = np.full(values.size, order[0])
    label[order] = [peak(cell) for cell in order]
    inner = label.reshape(padded.shape)[1:-1, 1:-1, 1:-1]
    return np.ravel_multi_index(
        tuple(part - 1 for part in np.unravel_index(inner, padded.shape)), height.shape
    )


def write_notes(
    hedge: str, rows: int, likelihood: np.ndarray, modes: pd.DataFrame
) -> tuple[str, ...]:
    """Say in sentences what an average over the posterior would hide."""
    found = []
    below = float(likelihood[1:].max() - likelihood[0].max())
    if below < NEAR_THE_TOP:
        how = (
            f"No ratio to {hedge} that moves fits better than a static one"
            if below < _NOTHING
            else f"A static ratio to {hedge} is only {below:.2f} nats below the best that moves"
        )
        found.append(
            f"{how}: these rows cannot tell it from static, and the prior decides how fast it may be"
        )
    else:
        found.append(f"A static ratio to {hedge} is {below:.1f} nats below the best that moves")
    if len(modes) > 1:
        listed = "; ".join(
            f"{memory:.3g} bars ({mass:.0%})"
            for memory, mass in modes[["beta_memory", "mass"]].to_numpy().tolist()
        )
        found.append(
            f"The posterior has {len(modes)} peaks, at effective memories of {hedge} of {listed}: "
            "an average lies between them and is neither"
        )
    highest = float(modes["beta_memory"].iloc[0])
    if highest > rows:
        found.append(
            f"The peak with most mass forgets in {highest:.0f} bars, more than the {rows} rows there "
            "are: in effect static"
        )
    return tuple(found)
