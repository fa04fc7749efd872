"""Which classes the document of an online filter or board may hold, and how arrays are written."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

from kfmodels.files.documents import Format, Json, register
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.motion import Discount, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance, Scale
from kfmodels.kalman.step import State
from kfmodels.online.shocks import Hold, Quarantine, Robust

FILTER = Format(
    "kfmodels online filter",
    2,
    "a saved online filter",
    "make one with fit.online().save(path)",
    oldest=2,
)
BOARD = Format(
    "kfmodels online board", 2, "a saved board", "make one with board.online().save(path)", oldest=2
)


def as_text(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The same with times as text, which every reader of a document takes."""
    texts = {n: str(at) for n, at in arguments.items() if isinstance(at, (date, np.datetime64))}
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


def read_array(parts: Mapping[str, Json]) -> np.ndarray:
    """What `write_array` wrote."""
    given: Any = parts
    return np.array(given["values"], np.dtype(given["dtype"])).reshape(given["shape"])


register(np.ndarray, write_array, read_array, name="array")
for _kind in (Coordinates, Walk, Discount, ConstantVariance, DiscountedVariance, State, Scale):
    register(_kind)
for _policy in (Quarantine, Robust, Hold):
    register(_policy)
