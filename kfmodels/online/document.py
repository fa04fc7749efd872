"""An online filter as one JSON document: readable by anything, exact to the last bit."""

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.motion import Discount, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance, Scale
from kfmodels.kalman.step import State
from kfmodels.online.shocks import Quarantine, Robust

FORMAT = "kfmodels online filter"
VERSION = 1

_KINDS = {
    kind.__name__: kind
    for kind in (
        Coordinates,
        Walk,
        Discount,
        ConstantVariance,
        DiscountedVariance,
        State,
        Scale,
        Quarantine,
        Robust,
    )
}


def to_json(arguments: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments as a document of plain numbers, strings and lists."""
    return {"format": FORMAT, "version": VERSION} | {
        name: _plain(value) for name, value in arguments.items()
    }


def read(path: str | Path) -> dict[str, Any]:
    """The document in a file.

    Raises:
        ValueError: the file is not a saved filter, or comes from a newer version of kfmodels.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a saved online filter: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a saved online filter; make one with fit.online().save(path)"
        )
    version = content["version"]
    if version > VERSION:
        raise ValueError(
            f"{path} was written by a newer kfmodels (format {version}, this one reads up to "
            f"{VERSION}): upgrade kfmodels"
        )
    return content


def built(content: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments of a document."""
    return {
        name: _built(value) for name, value in content.items() if name not in ("format", "version")
    }


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (date, np.datetime64)):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    if type(value).__name__ in _KINDS:
        fields: Any = value._asdict() if hasattr(value, "_asdict") else asdict(value)
        parts = {name: _plain(part) for name, part in fields.items()}
        return {"kind": type(value).__name__} | parts
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"cannot save {type(value).__name__}")


def _built(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.asarray(value["array"], float)
    parts = {name: _built(part) for name, part in value.items() if name != "kind"}
    return _KINDS[value["kind"]](**parts)
