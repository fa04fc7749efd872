"""Checks of the arrays of a board: a place for each pair and draw, all numbers finite."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from kfmodels.kalman.coordinates import Coordinates

if TYPE_CHECKING:
    from kfmodels.online.board import OnlineBoard


def gap_arrays(
    bars: ArrayLike | None, noise: ArrayLike | None, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """`gap_bars` and `gap_noise` as arrays; raises unless both have that shape, gap, pair and draw."""
    if not shape[0]:  # no gap: None and an empty array of any shape will do
        return np.ones(shape), np.ones(shape)
    found = np.array(bars, float), np.array(noise, float)
    for given in found:
        if given.shape != shape:
            raise ValueError(
                f"gap_bars and gap_noise must be {shape}, gap, pair and draw, not {given.shape}"
            )
    return found


def check_shapes(
    board: "OnlineBoard", coordinates: Coordinates, parts: Sequence[Any], log_weights: np.ndarray
) -> None:
    """Raise unless all arrays of a board have a place for each pair and draw, all finite."""
    count, hedges = len(board.names), len(board.hedges[0]) if board.hedges else 0
    if len(set(board.names)) < max(count, 1):
        raise ValueError("a board needs at least one pair, and each named once")
    places = {
        "targets": (np.shape(board.targets), (count,)),
        "hedges": (np.shape(board.hedges), (count, hedges)),
        "pivot": (np.shape(coordinates.pivot), (count, hedges)),
        "scale": (np.shape(coordinates.scale), (count, hedges)),
        "offset": (np.shape(coordinates.offset), (count,)),
        "last_prices": (board.last_prices.shape, (count, hedges + 1)),
        "log_weights": (log_weights.shape, (count, log_weights.shape[-1])),
        "mean": (parts[0].mean.shape[:1], (coordinates.coefficients,)),
    }
    for name, (found, wanted) in places.items():
        if found != wanted:
            raise ValueError(f"{name} has shape {found}, but it must be {wanted}")
    # which pairs are sound is collected over all arrays, so that one error names them all
    batch, good = log_weights.shape, np.ones(count, bool)
    for part in (*parts, (log_weights,)):
        for leaf in part:
            try:
                whole = np.broadcast_to(leaf, (*leaf.shape[:-2], *batch))
            except ValueError:
                raise ValueError(
                    f"an array has the shape {leaf.shape}, but log_weights say that its last axes "
                    f"are {batch}, pair and draw"
                ) from None
            good &= np.isfinite(whole).reshape(-1, *batch).all((0, 2))
    scale = coordinates.scale
    good &= np.isfinite(coordinates.pivot.sum(1) + coordinates.offset)
    good &= ((scale > 0) & (scale < np.inf)).all(1)
    good &= abs(np.exp(log_weights).sum(1) - 1) < 1e-6
    if not good.all():
        raise ValueError(
            f"{list_names(board.names, ~good)}: the state holds numbers that are not finite, or "
            "weights that do not sum to one; leave out the pairs whose fit failed"
        )


def list_names(names: tuple[str, ...], which: np.ndarray) -> str:
    """The first three of the names marked in `which`, and how many more there are."""
    found = [names[number] for number in np.flatnonzero(which)]
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
