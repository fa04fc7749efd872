"""Whether the arrays of a board speak of the same pairs and draws, in finite numbers. NumPy only."""

from typing import Any

import numpy as np

from kfmodels.kalman.step import Noise, Scale, State


def check(
    board: Any, state: State, variance: Scale | None, noise: Noise, log_weights: np.ndarray
) -> None:
    """Raise unless all arrays of an `OnlineBoard` have a place for each pair and draw, all finite."""
    count, n = len(board.names), len(state.mean)
    if len(set(board.names)) < max(count, 1):
        raise ValueError("a board needs at least one pair, and each named once")
    if n not in (1, 2):
        raise ValueError(f"a pair has a ratio and perhaps an intercept, not {n} coefficients")
    batch = (count, log_weights.shape[-1])
    good = np.ones(count, bool)
    for name in ("targets", "hedges", "pivot", "scale", "offset", "streak", "last_prices"):
        found, wanted = np.shape(getattr(board, name)), (count, 2)[: 1 + (name == "last_prices")]
        if found != wanted:
            raise ValueError(f"{name} has shape {found}, but it must be {wanted}")
    for part in (state, variance or (), noise, (log_weights,)):
        for leaf in part:
            if leaf.shape[-2:] != batch:
                raise ValueError(
                    f"an array has the shape {leaf.shape}, but log_weights say that its last axes "
                    f"are {batch}, pair and draw"
                )
            good &= np.isfinite(leaf).reshape(-1, *batch).all((0, 2))
    good &= np.isfinite(board.pivot + board.offset) & (board.scale > 0) & (board.scale < np.inf)
    good &= abs(np.exp(log_weights).sum(1) - 1) < 1e-6
    if not good.all():
        raise ValueError(
            f"{listed(board.names, ~good)}: the state holds numbers that are not finite, or "
            "weights that do not sum to one; leave out the pairs whose fit failed"
        )


def listed(names: tuple[str, ...], which: np.ndarray) -> str:
    """The first few of the names that are meant."""
    found = [names[number] for number in np.flatnonzero(which)]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more
