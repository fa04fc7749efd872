"""How an online filter or board becomes a document, and what it must be when it is made again.

Which classes a document may hold, a place for each pair and draw, all numbers finite.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from kfmodels.files.documents import Format, Json, register
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.habits import Habits
from kfmodels.kalman.motion import Discount, Reversion, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance, FlooredVariance, Scale
from kfmodels.kalman.step import State

if TYPE_CHECKING:
    from kfmodels.online.board import OnlineBoard

FILTER = Format(
    "kfmodels online filter",
    3,
    "a saved online filter",
    "make one with fit.online().save(path)",
    oldest=3,
)
BOARD = Format(
    "kfmodels online board", 3, "a saved board", "make one with board.online().save(path)", oldest=3
)

_TIMES: tuple[type[object], ...] = (date, np.datetime64)


class Documented(ABC):
    """A class that is saved to a file, or as a part of another document, and made again from it."""

    FORMAT: ClassVar[Format]

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """What `__init__` takes to make it again."""

    def save(self, path: str | Path) -> None:
        """Write everything needed to go on, as one JSON file, atomically.

        Floats are written so that they read back to the last bit; nothing is pickled.
        """
        self.FORMAT.save(path, as_text(self.arguments()))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; the result goes on exactly where the one saved stopped.

        Raises:
            ValueError: the file is not such a document, or comes from a newer version of kfmodels.
        """
        return cls(**cls.FORMAT.load(path))

    def to_json(self) -> dict[str, Json]:
        """What `save` writes, as plain numbers, strings, lists and dicts."""
        return self.FORMAT.document(as_text(self.arguments()))

    @classmethod
    def from_json(cls, content: Mapping[str, Json]) -> Self:
        """Make again what `to_json` wrote.

        Raises:
            ValueError: it is not such a document, or comes from a newer version of kfmodels.
        """
        return cls(**cls.FORMAT.content(content))


def as_text(arguments: Mapping[str, object]) -> dict[str, object]:
    """The same with times as text, which any program can read."""
    texts = {name: str(at) for name, at in arguments.items() if isinstance(at, _TIMES)}
    return {**arguments, **texts}


def gap_arrays(
    bars: ArrayLike | None, noise: ArrayLike | None, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """`gap_bars` and `gap_noise` as arrays; raises unless both have that shape, gap, pair and draw.

    `gap_bars` may have an axis of states after that of gaps.
    """
    if not shape[0]:  # no gap: None and an empty array of any shape will do
        return np.ones(shape), np.ones(shape)
    found = np.array(bars, float), np.array(noise, float)
    for given in found:
        if given.shape[:1] + given.shape[-2:] != shape or given.ndim > len(shape) + (
            given is found[0]
        ):
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
        "mean": (parts[0].mean.shape[:1], (coordinates.states,)),
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


def write_array(array: np.ndarray) -> dict[str, Json]:
    """The numbers of an array with its shape and type; None for NaN, which no JSON text can hold."""
    kind = array.dtype
    if kind.kind not in "biufU":
        raise ValueError(
            f"a document cannot hold an array of {kind}: make it one of numbers or text"
        )
    values = array
    if kind.kind == "f" and np.isnan(array).any():
        values = array.astype(object)
        values[np.isnan(array)] = None
    return {"values": values.tolist(), "shape": list(array.shape), "dtype": kind.str}


def read_array(parts: Mapping[str, Any]) -> np.ndarray:
    """The array that `write_array` wrote."""
    # the shape is kept because the lists of an empty array do not tell it
    return np.array(parts["values"], np.dtype(parts["dtype"])).reshape(parts["shape"])


register(np.ndarray, write_array, read_array, name="array")
for _kind in (Coordinates, Walk, Discount, Reversion, State, Habits):
    register(_kind)
for _kind in (ConstantVariance, DiscountedVariance, FlooredVariance, Scale):
    register(_kind)
