"""How an online filter or board becomes a document, and which classes such a document may hold."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from kfmodels.files.documents import Format, Json, register
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.habits import Habits
from kfmodels.kalman.motion import Discount, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance, FlooredVariance, Scale
from kfmodels.kalman.step import State

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
for _kind in (Coordinates, Walk, Discount, State, Habits):
    register(_kind)
for _kind in (ConstantVariance, DiscountedVariance, FlooredVariance, Scale):
    register(_kind)
