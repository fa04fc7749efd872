"""A pair as the arrays that the model reads; many pairs are computed one by one, then stacked.

So a pair has the same bits alone and among others, and its arrays fit the processor's cache.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kfmodels._types import Array, ArrayLike, Bool, Float, Int
from kfmodels.data.hedge_data import MIN_ROWS, HedgeData
from kfmodels.data.scales import stopped, stopped_since
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.habits import calm_rows
from kfmodels.kalman.transforms import Transform

_EXACT = 1e-10
"""Share of the largest move of the target: a residual below it is rounding, not noise."""

_WRITTEN = 1e-4, 1e-6
"""The same of prices that were cut to some digits: shares of the largest move and of the price.

A table in single precision keeps 6e-8 of a price, and its last digits are no noise of a market, which
trades in ticks of 1e-6 of the price and more. The share of the move keeps this from quiet second bars.
"""

_SHORTEST = 2048
"""Rows to which a shorter series is lengthened: eight years of days."""

_STILL = "{target} never moves: there is nothing to hedge; check its prices"
_PROPORTIONAL = (
    "{target} moves in exact proportion to {hedges}: a constant ratio leaves {move:.1e} a bar over, "
    "which is rounding; there is no noise to infer; check that they are not the same series"
)


class Inputs(NamedTuple):
    """All that the model reads of a pair, in NumPy or, inside `jax.jit`, in JAX.

    Many pairs have one more axis, in front. `dt` None stands for 0 and then 1 in every row, which the
    recursion runs faster than the array. Where the model has `Gaps`, `gaps (time, gap)` are the closed
    periods before each row, and `gap_unit` is the number of open bars between two of them. Where it
    goes by the time of day, `day` is what it reads of each row and `session` of the bars of a whole one
    (`kfmodels.clock.day.read_day`). `told (gain, hedge)` is what the regressors of rows tell beside an
    intercept of those gains, where a prior is on the effective memory. `count` are the rows that
    count, where those after only fill the arrays up; None stands for all, and for reverse mode, which
    cannot differentiate a density that stops there.
    """

    y: Float[Array, "*pair time"]
    design: Float[Array, "*pair time coef"]
    observed: Bool[Array, "*pair time"]
    dt: Float[Array, "*pair time"] | None
    scales: Float[Array, "*pair coef"]
    typical_move: Float[Array, "*pair"]
    typical_ratio: Float[Array, "*pair hedge"]
    start_mean: Float[Array, "*pair coef"]
    start_cov: Float[Array, "*pair coef coef"]
    typical_size: Float[Array, "*pair hedge"]
    gaps: Float[Array, "time gap"] | None = None
    gap_unit: Float[Array, ""] | None = None
    day: Float[Array, "time 4"] | None = None
    session: Float[Array, "bar 4"] | None = None
    told: Float[Array, "*pair gain hedge"] | None = None
    count: Int[Array, "*pair"] | None = None


class PairArrays(NamedTuple):
    """A target and its hedges, aligned and transformed; 0 where a row is not observed.

    `y`, `x`, `observed` and `dt` are as in `HedgeData`. `move` is the sd of the one-bar move that a
    constant hedge leaves over, and `ratio` the typical size of each hedge ratio: the root of the sum of
    squares of its least-squares estimate on moves and of the standard error. `size` is the sd of the
    target's moves over that of each hedge's.
    """

    y: Float[np.ndarray, "time"]
    x: Float[np.ndarray, "time hedge"]
    observed: Bool[np.ndarray, "time"]
    dt: Float[np.ndarray, "time"]
    move: float
    ratio: Float[np.ndarray, "hedge"]
    size: Float[np.ndarray, "hedge"]
    usable: bool
    """False where there are too few rows, a leg never moves or stopped, or legs in exact proportion."""


def arrays_of(data: HedgeData) -> PairArrays:
    """The arrays of checked data. With a clock, `move` is that of open bars if there are enough.

    Raises:
        ValueError: too few rows, a leg that never moves or has stopped, a target in exact proportion to
            its hedges.
    """
    data.check_enough()
    seen = data.observed
    move, ratio, size, fault = _typical_move(
        data.y[seen], data.x[seen], data.transform, _one_bar(data)
    )
    if fault:
        names = ", ".join(data.hedges)
        raise ValueError(fault.format(target=data.target, hedges=names, move=move))
    if fault := stopped(data.prices, data.target, data.hedges):
        raise ValueError(
            f"{fault}: fit the rows before, data.before(...) with that date, or leave it out"
        )
    return PairArrays(data.y, data.x, seen, data.dt, move, ratio, size, usable=True)


def pair_arrays(target: np.ndarray, hedge: np.ndarray, transform: Transform) -> list[PairArrays]:
    """The arrays of many pairs of one hedge each, from prices `(pair, time)` in which NaN is a gap.

    Nothing raises: a pair that `HedgeData` would refuse is not `usable`.
    """
    legs = zip(target, hedge, strict=True)
    return [_one_pair(np.column_stack(both), transform) for both in legs]


def _one_pair(prices: np.ndarray, transform: Transform) -> PairArrays:
    """One pair of prices `(time, 1 + hedges)`."""
    seen = np.isfinite(prices).all(1)
    complete = last = prices[seen]
    if transform.needs_last:
        # the first complete row has no row before it, and so no value
        complete, last = complete[1:], complete[:-1]
        seen[np.flatnonzero(seen)[:1]] = False
    values = np.zeros_like(prices)
    values[seen] = observed = transform.values(complete, last)
    if transform.needs_last:
        values, seen = values[1:], seen[1:]
        prices = prices[1:]
    calm = calm_rows(prices[seen])
    seen[seen], y, x = ~calm, observed[~calm, 0], observed[~calm, 1:]
    values[~seen] = 0.0
    ratio = size = np.full(x.shape[1], np.nan)
    move, usable = np.nan, False
    if len(y) >= MIN_ROWS and (np.ptp(x, axis=0) > 0).all():
        move, ratio, size, fault = _typical_move(y, x, transform, np.ones(len(y), bool))
        usable = not fault and not any(stopped_since(leg) is not None for leg in prices.T)
    dt = (np.cumsum(seen) - seen > 0).astype(float)
    return PairArrays(values[:, 0], values[:, 1:], seen, dt, move, ratio, size, usable)


def _typical_move(
    y: np.ndarray, x: np.ndarray, transform: Transform, near: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray, str]:
    """`move`, `ratio`, `size` of observed rows, the `near` ones if enough; why they are unusable."""
    hedges = x.shape[1]
    price = np.abs(y).max() if transform.by_shares else 1.0
    y, x = transform.steps(y), transform.steps(x)
    if transform.needs_last:  # the values are moves, whose mean is not known to be 0
        x = np.column_stack([x, np.ones(len(x))])
    near = near[len(near) - len(y) :]  # a difference belongs to the later of its two rows
    # a night moves prices more than a bar does, and `move` is to be that of a bar
    if not near.all() and near.sum() >= MIN_ROWS and np.ptp(y[near]) > 0:
        y, x = y[near], x[near]
    if np.ptp(y) == 0:
        return 0.0, np.zeros(hedges), np.zeros(hedges), _STILL
    ratio = np.linalg.lstsq(x, y, rcond=None)[0]
    residual = y - x @ ratio
    move = float(np.sqrt((residual**2).mean()))
    # pinv, as `lstsq` above: hedges may move in exact proportion to each other
    error_var = move**2 * np.diagonal(np.linalg.pinv(x.T @ x))
    size = np.sqrt(ratio**2 + error_var)[:hedges]
    moves = x[:, :hedges].std(0)
    relative = np.divide(y.std(), moves, out=np.zeros(hedges), where=moves > 0)
    largest = np.abs(y).max()
    exact = max(_EXACT * largest, min(_WRITTEN[0] * largest, _WRITTEN[1] * price))
    return move, size, relative, _PROPORTIONAL if move <= exact else ""


def _one_bar(data: HedgeData) -> np.ndarray:
    """Which observed rows come one open bar after the observed row before, or sooner."""
    if data.clock is None:
        return np.ones(int(data.observed.sum()), bool)
    # summed first, so that the time of rows that are not observed counts too
    since = np.column_stack([data.dt, data.gaps.sum(1)]).cumsum(0)[data.observed]
    passed = np.diff(since, axis=0, prepend=since[:1])
    return (passed[:, 0] < 1.5) & (passed[:, 1] == 0)


def coordinates_of(
    pair: HedgeData | PairArrays, *, intercept: bool, pivot: tuple[float, ...] | None
) -> Coordinates:
    """Centre and scale of the observed rows: their mean, or the pivot if one is given."""
    y, x = pair.y[pair.observed], pair.x[pair.observed]
    centre = np.zeros(x.shape[1])
    if intercept:
        centre = x.mean(0) if not pivot else np.broadcast_to(pivot, centre.shape)
    scale = np.sqrt(((x - centre) ** 2).mean(0))
    return Coordinates(
        centre.astype(float), scale, float(y.mean()) if intercept else 0.0, intercept
    )


def stack_inputs(each: Sequence[Inputs], length: int | None = None) -> Inputs:
    """Many pairs as one, each padded at its end with unobserved rows in which no time passes.

    Args:
        each: pairs without `gaps`, whose `dt` is an array.
        length: rows of the result; by default those of the longest pair.
    """
    rows = max(len(one.y) for one in each) if length is None else length
    made = {}
    for name in ("y", "design", "observed", "dt"):
        made[name] = np.stack([_pad(getattr(one, name), rows) for one in each])
    kept = ("scales", "typical_move", "typical_ratio", "typical_size", "start_mean", "start_cov")
    if each[0].told is not None:
        kept += ("told",)
    for name in kept:
        made[name] = np.stack([getattr(one, name) for one in each])
    return Inputs(**made, count=np.array([len(one.y) for one in each]))


def lengthen(inputs: Inputs) -> Inputs:
    """One pair with unobserved rows at its end, in which no time passes, and `dt` written out.

    So an expanding window, or another pair, has one of few lengths: what was compiled for one serves
    for all of a length. A density stops after the `count` of rows that were given.
    """
    rows = len(inputs.y)
    length = max(_SHORTEST, 1 << (rows - 1).bit_length())
    dt = np.arange(rows) > 0 if inputs.dt is None else inputs.dt
    inputs = inputs._replace(dt=np.asarray(dt, float))
    by_row = ("y", "design", "observed", "dt", "gaps", "day")
    given = {name: getattr(inputs, name) for name in by_row}
    longer = {name: _pad(array, length) for name, array in given.items() if array is not None}
    return inputs._replace(**longer, count=np.asarray(rows))


def first_row(inputs: Inputs) -> Inputs:
    """One pair, or many, cut to the first row."""
    cut = {name: getattr(inputs, name) for name in ("y", "observed", "dt")}
    cut = {name: array if array is None else array[..., :1] for name, array in cut.items()}
    wide = {name: getattr(inputs, name) for name in ("design", "gaps", "day")}
    wide = {name: array if array is None else array[..., :1, :] for name, array in wide.items()}
    return inputs._replace(**cut, **wide, count=None)


def _pad(array: np.ndarray, rows: int) -> np.ndarray:
    """The array with zeros after its end, so many rows in all."""
    return np.concatenate([array, np.zeros((rows - len(array), *array.shape[1:]), array.dtype)])


# -- statistics of moves and spreads ---------------------------------------------------------------


def slopes(moves: np.ndarray) -> np.ndarray:
    """Least squares of the first column on each other column alone, with an intercept, `(hedges,)`.

    `moves` is `(time, 1 + hedges)`; each hedge takes the rows where neither it nor the target is NaN.
    """
    both = np.isfinite(moves[:, :1]) & np.isfinite(moves[:, 1:])
    y, x = (_centre(part, both) for part in (moves[:, :1], moves[:, 1:]))
    return (x * y).sum(0) / (x * x).sum(0)


def removed(moves: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Share of the variance of the first column that each other column removed, `(hedges,)`.

    `moves` is `(time, 1 + hedges)`, and `ratio (time, hedges)` or `(hedges,)` is what was held.
    """
    y, hedged = moves[:, :1], moves[:, :1] - ratio * moves[:, 1:]
    both = np.isfinite(hedged)
    return 1 - (_centre(hedged, both) ** 2).sum(0) / (_centre(y, both) ** 2).sum(0)


def resample_blocks(rows: int, times: int, *, block: int = 20, seed: int = 0) -> np.ndarray:
    """Numbers of the rows that a circular block bootstrap draws, `(times, rows)`.

    Blocks, because variance clusters; circular, so that every row is drawn equally often.

    Source: Politis and Romano (1992), A circular block-resampling procedure for stationary data, in
    LePage and Billard (eds), Exploring the Limits of Bootstrap.

    Example:
        >>> resample_blocks(5, 2, block=3)
        array([[4, 0, 1, 3, 4],
               [2, 3, 4, 1, 2]])
    """
    starts = np.random.default_rng(seed).integers(0, rows, (times, -(-rows // block)))
    return (starts[..., None] + np.arange(block)).reshape(times, -1)[:, :rows] % rows


def _centre(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Values about their mean over the marked rows of each column; 0 elsewhere."""
    values = np.where(where, values, 0.0)
    count = np.maximum(where.sum(0), 1)  # a column may have no row in common with the target
    return np.where(where, values - values.sum(0) / count, 0.0)


def half_life(rho: Float[ArrayLike, "*any"]) -> Float[np.ndarray, "*any"]:
    """Bars in which half of a deviation is gone, `-ln 2 / ln rho`; inf for rho >= 1, 0 for rho <= 0."""
    with np.errstate(divide="ignore"):
        life = -np.log(2) / np.log(np.clip(rho, 0, 1))
    return np.where(np.asarray(rho) >= 1, np.inf, life)
