"""A pair as arrays, centred and scaled: one pair at a time, or many at once."""

from typing import Any, NamedTuple

import numpy as np

from kfmodels.data.checks import Transform
from kfmodels.data.hedge_data import MIN_ROWS, HedgeData
from kfmodels.kalman.coordinates import Coordinates

Array = Any


class Inputs(NamedTuple):
    """All that the model reads of a pair; many pairs have one axis more, in front.

    `dt` is None where it is 0 and then 1, which costs less than the same written out. `gaps
    (time, gap)` are the closed periods before each row, and `gap_unit` the open bars between two of
    them, where the model has `Gaps`.
    """

    y: Array
    design: Array
    observed: Array
    dt: Array
    scales: Array
    typical_move: Array
    typical_ratio: Array
    start_mean: Array
    start_cov: Array
    gaps: Array | None = None
    gap_unit: Array | None = None


class PairArrays(NamedTuple):
    """Many pairs of one hedge each as arrays `(pair, time)`; 0 where a row is not observed.

    `move` and `ratio` are as `typical_move` has them. `usable` is False where a pair has too few rows,
    a leg that never moves, or two legs in exact proportion: `HedgeData` says which in words.
    """

    y: np.ndarray
    x: np.ndarray
    observed: np.ndarray
    dt: np.ndarray
    move: np.ndarray
    ratio: np.ndarray
    usable: np.ndarray


def coordinates_of(
    data: HedgeData, *, intercept: bool, pivot: tuple[float, ...] | None
) -> Coordinates:
    """Centre and scale of the training rows."""
    y, x = data.y[data.observed], data.x[data.observed]
    centre = np.zeros(x.shape[1])
    if intercept:
        centre = x.mean(0) if not pivot else np.broadcast_to(pivot, centre.shape)
    scale = np.sqrt(((x - centre) ** 2).mean(0))
    return Coordinates(
        centre.astype(float), scale, float(y.mean()) if intercept else 0.0, intercept
    )


def typical_move(data: HedgeData) -> tuple[float, np.ndarray]:
    """Sd of the one-bar move that a constant hedge leaves over, and the size of each hedge ratio.

    The size is that of least squares on changes, its standard error added in squares. With a clock,
    changes over closed time or over several bars are left out where enough others remain.

    Raises:
        ValueError: the target never moves, or in exact proportion to its hedges.
    """
    y, x = data.y[data.observed], data.x[data.observed]
    near = _one_bar(data)
    if data.transform == "return":
        x = np.column_stack([x, np.ones(len(x))])
    else:
        y, x, near = np.diff(y), np.diff(x, axis=0), near[1:]
    if not near.all() and near.sum() >= MIN_ROWS and np.ptp(y[near]) > 0:
        y, x = y[near], x[near]
    if np.ptp(y) == 0:
        raise ValueError(f"{data.target} never moves: there is nothing to hedge; check its prices")
    hedges = data.x.shape[1]
    ratio = np.linalg.lstsq(x, y, rcond=None)[0]
    residual = y - x @ ratio
    move = float(np.sqrt((residual**2).mean()))
    if move <= _EXACT * np.abs(y).max():
        raise ValueError(
            f"{data.target} moves in exact proportion to {', '.join(data.hedges)}: "
            "there is no noise to infer; check that they are not the same series"
        )
    error_var = move**2 * np.diagonal(np.linalg.pinv(x.T @ x))
    return move, np.sqrt(ratio**2 + error_var)[:hedges]


def _one_bar(data: HedgeData) -> np.ndarray:
    """Of the observed rows, those at most one open bar after the one before."""
    if data.clock is None:
        return np.ones(int(data.observed.sum()), bool)
    since = np.column_stack([data.dt, data.gaps.sum(1)]).cumsum(0)[data.observed]
    passed = np.diff(since, axis=0, prepend=since[:1])
    return (passed[:, 0] < 1.5) & (passed[:, 1] == 0)


_EXACT = 1e-10
"""Share of the largest move below which what a hedge leaves over is rounding."""


def pair_arrays(target: np.ndarray, hedge: np.ndarray, transform: Transform) -> PairArrays:
    """Align and transform many pairs; `target` and `hedge` are prices `(pair, time)`, NaN a gap."""
    with np.errstate(invalid="ignore", divide="ignore"):
        y, x = (np.log(p) if transform == "log" else p for p in (target, hedge))
    seen = np.isfinite(y) & np.isfinite(x)
    before = _row_before(seen)
    if transform == "return":
        y, x = (_since(p, before, np.divide) - 1 for p in (y, x))
        seen = (seen & (before >= 0))[:, 1:]
        y, x = y[:, 1:], x[:, 1:]
        dy, dx, moved = y, x, seen
    else:
        dy, dx = (_since(p, before, np.subtract) for p in (y, x))
        moved = seen & (before >= 0)
    y, x = (np.where(seen, p, 0.0) for p in (y, x))
    dy, dx = (np.where(moved, p, 0.0) for p in (dy, dx))
    count = np.maximum(moved.sum(1), 1)
    about = dx
    if transform == "return":  # least squares with an intercept, as of centred moves
        about = np.where(moved, dx - (dx.sum(1) / count)[:, None], 0.0)
    square = (about**2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (about * dy).sum(1) / square
        residual = dy - ratio[:, None] * dx
        if transform == "return":
            residual = residual - (residual * moved).sum(1, keepdims=True) / count[:, None]
        move = np.sqrt(((residual * moved) ** 2).sum(1) / count)
        size = np.sqrt(ratio**2 + move**2 / square)
        usable = (
            (seen.sum(1) >= MIN_ROWS)
            & (_range(x, seen) > 0)
            & (_range(dy, moved) > 0)
            & (move > _EXACT * np.abs(dy).max(1, initial=0.0))
        )
    dt = (np.cumsum(seen, 1) - seen > 0).astype(float)
    return PairArrays(y, x, seen, dt, move, size, usable)


def pair_coordinates(
    arrays: PairArrays, *, intercept: bool, pivot: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pivot, scale and offset of every pair, as `Coordinates` has them for one."""
    count = arrays.observed.sum(1)
    centre = np.zeros(len(count))
    if intercept:
        centre = arrays.x.sum(1) / count if pivot is None else centre + pivot
    away = np.where(arrays.observed, arrays.x - centre[:, None], 0.0)
    scale = np.sqrt((away**2).sum(1) / count)
    offset = arrays.y.sum(1) / count if intercept else np.zeros(len(count))
    return centre, scale, offset


def stacked(
    arrays: PairArrays, coordinates: tuple[np.ndarray, np.ndarray, np.ndarray], intercept: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centred targets, designs and scales of every pair."""
    pivot, scale, offset = coordinates
    y = np.where(arrays.observed, arrays.y - offset[:, None], 0.0)
    inner = (arrays.x - pivot[:, None]) / scale[:, None]
    parts = [inner, np.ones_like(inner)] if intercept else [inner]
    design = np.where(arrays.observed[..., None], np.stack(parts, -1), 0.0)
    scales = np.stack([scale, np.ones_like(scale)] if intercept else [scale], -1)
    return y, design, scales


def one_of(coordinates: tuple[np.ndarray, ...], number: int, intercept: bool) -> Coordinates:
    """The coordinates of one pair of many."""
    pivot, scale, offset = (float(part[number]) for part in coordinates)
    return Coordinates(np.array([pivot]), np.array([scale]), offset, intercept)


def _row_before(seen: np.ndarray) -> np.ndarray:
    """Number of the last row seen before each, -1 where there is none; `(pair, time)`."""
    rows = np.where(seen, np.arange(seen.shape[1]), -1)
    last = np.maximum.accumulate(rows, 1)
    return np.concatenate([np.full((len(seen), 1), -1), last], 1)[:, : seen.shape[1]]


def _since(values: np.ndarray, before: np.ndarray, by: Any) -> np.ndarray:
    """Each value against the one of the row before it that was seen."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return by(values, np.take_along_axis(values, np.maximum(before, 0), 1))


def _range(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    high = np.where(where, values, -np.inf).max(1, initial=-np.inf)
    return high - np.where(where, values, np.inf).min(1, initial=np.inf)
