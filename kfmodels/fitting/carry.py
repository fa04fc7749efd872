"""New noise for filters that run: the ratios, prices and holds of each pair are carried over."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kfmodels.kalman.arrays import map_arrays
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.density import student_variance
from kfmodels.kalman.noise import state_dof
from kfmodels.kalman.step import State
from kfmodels.online.board import OnlineBoard

type Arguments = dict[str, Any]


def carry(new: OnlineBoard, old: OnlineBoard) -> OnlineBoard:
    r"""The pairs of two boards: with the noise of `new` where it has it, where `old` stands.

    Mean and total covariance of the coefficients of a pair in both are those of `old`, to rounding:
    each new draw starts at $m = E[θ]$ with $P_k v_k = \mathrm{Var}[θ]$. How a coefficient
    that is a sum is split is as `new` has it. A pair of one of them alone is as it is there; those of
    `old` come first, in their order. Time, share and shocks are those of `old`, the weights those of
    `new`.

    Raises:
        ValueError: a pair of other legs, another transform; where `old` has further pairs, other laws
            or another number of draws.

    Source: moment matching as in Harrison and Stevens (1976), Bayesian forecasting, JRSS B 38.
    """
    _check(new, old)
    left = [name for name in old.names if name not in new.names]
    held = _spread_out(_stand_where(new, old))
    whole = _join(held, old, left) if left else held
    joined = [name for name in new.names if name not in old.names]
    spots = {name: spot for spot, name in enumerate([*new.names, *left])}
    chosen = _choose(whole, [spots[name] for name in (*old.names, *joined)])
    same: Arguments = {name: getattr(old, name) for name in ("share", "shocks", "at")}
    same["holds"] = {name: hold for name, hold in new.holds.items() if name in joined} | old.holds
    return OnlineBoard(**chosen | same)


def _check(new: OnlineBoard, old: OnlineBoard) -> None:
    legs = dict(zip(new.names, new.pairs, strict=True))
    for name, mine in zip(old.names, old.pairs, strict=True):
        other = legs.get(name, mine)
        if other != mine or new.transform != old.transform:
            raise ValueError(
                f"the fit is of {', '.join(other)} ({new.transform}), the filter of "
                f"{', '.join(mine)} ({old.transform})"
            )


def _stand_where(new: OnlineBoard, old: OnlineBoard) -> Arguments:
    """What makes `new`, with its pairs that `old` has where they stand there."""
    held: Arguments = new.arguments()
    numbers = {name: number for number, name in enumerate(old.names)}
    both = [spot for spot, name in enumerate(new.names) if name in numbers]
    theirs = [numbers[new.names[spot]] for spot in both]
    if not both:
        return held
    noise, carried = held["noise"], held["carried"]
    var = noise.unit(carried) * student_variance(state_dof(noise, carried), np)
    var = np.broadcast_to(var, held["log_weights"].shape)[both]
    now, where = old.belief(), _choose(_spread_out(held), both)["coordinates"]
    where = where._replace(tilt=old.coordinates.tilt)  # of the bar that `old` stands before
    mean, cov = now.mean[theirs], now.covs[1][theirs]
    inner: State = held["state"]
    # (pair, draw, state) and (pair, draw, state, state), as NumPy's products of matrices have them
    own = (
        np.moveaxis(inner.mean[:, both], 0, -1),
        np.moveaxis(inner.cov[:, :, both], (0, 1), (-2, -1)),
    )
    means, covs = _split(where, own, var, mean, cov)
    state = State(inner.mean.copy(), inner.cov.copy())
    state.mean[:, both] = np.moveaxis(means, -1, 0)
    state.cov[:, :, both] = np.moveaxis(covs, (-2, -1), (0, 1))
    habits, last = held["habits"], held["last_prices"].copy()
    last[both] = old.last_prices[theirs]
    still, calm = habits.still.copy(), habits.calm.copy()
    still[both], calm[both] = old.habits.still[theirs], old.habits.calm[theirs]
    counts = habits._replace(still=still, calm=calm)
    unopened = held["unopened"].copy()
    unopened[both] = old.unopened[theirs]
    return held | {"state": state, "last_prices": last, "unopened": unopened, "habits": counts}


def _split(
    where: Coordinates,
    own: tuple[np.ndarray, np.ndarray],
    var: np.ndarray,
    mean: np.ndarray,
    cov: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """States of every draw whose coefficients have this mean `(pair, n)` and covariance.

    Where these are sums, each draw's own states given their sums: Jeffrey's rule for a normal
    distribution.
    """
    unit, sums = var[..., None, None], where.matrix()
    away = mean - where.shift()
    if not where.parts:
        inverse = np.linalg.inv(sums)
        means = (inverse @ away[..., None])[:, None, :, 0]
        left = (inverse @ cov @ inverse.mT)[:, None]
        means = np.broadcast_to(means, own[0].shape)
    else:
        sums = sums[:, None]
        wide = own[1] * unit
        gain = wide @ sums.mT @ np.linalg.pinv(sums @ wide @ sums.mT)
        left = wide - gain @ sums @ wide + gain @ cov[:, None] @ gain.mT
        short = away[:, None, :, None] - sums @ own[0][..., None]
        means = own[0] + (gain @ short)[..., 0]
    return means, (left + left.mT) / (2 * unit)  # symmetric only to rounding before


def _join(held: Arguments, old: OnlineBoard, left: Sequence[str]) -> Arguments:
    """The pairs of the new board, then some of the old one, which must be of the same laws."""
    kept = _choose(_spread_out(old.arguments()), [old.names.index(name) for name in left])
    mine, theirs = _describe(held), _describe(kept)
    if mine != theirs:
        what = f"{', '.join(left[:3])}{' and others' if len(left) > 3 else ''}"
        raise ValueError(
            f"{what} would keep the noise of before, but that is of {theirs}, and the new noise of "
            f"{mine}: fit these pairs too, or all with the model of before"
        )
    return _change(lambda axis, one, two: np.concatenate([one, two], axis), held, kept)


def _choose(held: Arguments, numbers: Sequence[int]) -> Arguments:
    """Some of the pairs, in this order."""
    return _change(lambda axis, each: np.take(each, numbers, axis), held)


def _describe(held: Arguments) -> str:
    """The laws, in words that agree where two boards may be joined."""
    kinds = [type(held[name]).__name__ for name in ("drift", "noise", "carried")]
    where, draws = held["coordinates"], held["log_weights"].shape[-1]
    parts = f"{where.states} states of {where.coefficients} coefficients"
    gaps = ", ".join(held["gap_names"]) or "no gaps"
    shapes = [np.shape(leaf)[:-2] for leaf in (*held["drift"], held["gap_bars"])]
    return f"{draws} draws, {' '.join(kinds)}, {parts}, {gaps} {shapes}"


_ARRAYS = {
    **dict.fromkeys(("drift", "noise", "state", "carried"), -2),
    **dict.fromkeys(("log_weights", "initial_log_weights"), -2),
    **dict.fromkeys(("gap_bars", "gap_noise", "profile"), -2),
    **dict.fromkeys(("last_prices", "unopened", "habits"), 0),
    **dict.fromkeys(("names", "targets", "hedges"), 0),
}
"""The axis of pairs of what makes a board, by name."""


def _spread_out(held: Arguments) -> Arguments:
    """The same with a place for every pair also in what all pairs share."""
    pairs = held["log_weights"].shape[0]
    laws = ("drift", "noise", "carried")
    where: Coordinates = held["coordinates"]
    unit = np.broadcast_to(where.unit, np.shape(where.offset))

    def whole(leaf: np.ndarray) -> np.ndarray:
        return np.broadcast_to(leaf, (*leaf.shape[:-2], pairs, leaf.shape[-1]))

    full = {name: map_arrays(whole, held[name]) for name in laws}
    return held | full | {"coordinates": where._replace(unit=unit)}


def _change(change: Callable[..., np.ndarray], *boards: Arguments) -> Arguments:
    """Apply `change(axis of pairs, *arrays)` to the arrays of some boards of the same laws."""

    def each(axis: int, parts: Sequence[Any]) -> Any:
        if parts[0] is None:
            return None
        if hasattr(parts[0], "_fields"):
            leaves = zip(*parts, strict=True)
            return type(parts[0])(*(change(axis, *several) for several in leaves))
        return change(axis, *parts)

    found = boards[0] | {
        name: each(axis, [board[name] for board in boards]) for name, axis in _ARRAYS.items()
    }
    for name in ("names", "targets", "hedges"):
        found[name] = np.asarray(found[name]).tolist()
    wheres: list[Coordinates] = [board["coordinates"] for board in boards]
    moved = {
        name: change(0, *(np.asarray(getattr(where, name)) for where in wheres))
        for name in ("pivot", "scale", "offset", "unit")
    }
    return found | {"coordinates": wheres[0]._replace(**moved)}
