"""Prices and pairs as an npz file and as a digest; npz files without pickles, exact to the byte."""

import json
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from kfmodels.data.hedge_data import HedgePairs
from kfmodels.files.atomic import replacing


def write_pairs(path: Path, pairs: HedgePairs) -> None:
    """Prices and pairs as one npz file.

    Raises:
        ValueError: the dates are in a time zone that has no name.
    """
    places = {name: place for place, name in enumerate(pairs.prices.columns)}
    zone = getattr(pairs.index, "tz", None)
    named = [] if pairs.index.name is None else [str(pairs.index.name)]
    arrays = {
        "prices": pairs.prices.to_numpy(float),
        "tickers": _texts(pairs.prices.columns),
        "pairs": np.array([[places[name] for name in pair] for pair in pairs.pairs]),
        "index": _whole(pairs.index),
        "index_dtype": _texts([_dtype(pairs.index)]),
        "index_zone": _texts([] if zone is None else [zone]),
        "index_name": _texts(named),
        "transform": _texts([pairs.transform]),
        "fault_tickers": _texts(pairs.faults),
        "fault_sentences": _texts(pairs.faults.values()),
    }
    try:
        same = _index(arrays).equals(pairs.index)
    except (KeyError, ValueError):  # ZoneInfoNotFoundError is a KeyError
        same = False
    if not same:
        raise ValueError(
            f"the dates are in the time zone {zone}, which has no name that a file could keep: use "
            'prices.tz_convert("UTC")'
        )
    with replacing(path) as temporary:
        temporary.write_bytes(packed(arrays))


def read_pairs(path: Path) -> HedgePairs:
    """What `write_pairs` wrote.

    Raises:
        ValueError: it is missing or damaged.
    """
    try:
        arrays = unpacked(path.read_bytes())
    except (FileNotFoundError, BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"the prices in {path} cannot be read ({error}): run fit_many again with this store; it "
            "writes them anew"
        ) from error
    tickers = arrays["tickers"].tolist()
    prices = pd.DataFrame(arrays["prices"], _index(arrays), tickers)
    listed = tuple((tickers[target], tickers[hedge]) for target, hedge in arrays["pairs"].tolist())
    keys, sentences = arrays["fault_tickers"].tolist(), arrays["fault_sentences"].tolist()
    transform: Any = arrays["transform"].item()
    return HedgePairs(prices, listed, transform, dict(zip(keys, sentences, strict=True)))


def described(pairs: HedgePairs) -> dict[str, Any]:
    """Pairs and prices in a few words and two digests, by which a change is found."""
    names, index = pairs.names, pairs.index
    return {
        "pairs": {
            "count": len(names),
            "first": names[0],
            "last": names[-1],
            "sha256": sha256(json.dumps(names).encode()).hexdigest(),
        },
        "prices": {
            "rows": len(index),
            "span": " .. ".join(str(label) for label in (*index[:1], *index[-1:])),
            "sha256": _prices_digest(pairs),
        },
        "transform": pairs.transform,
    }


def _prices_digest(pairs: HedgePairs) -> str:
    """Digest of all that is known of the prices; every NaN is the same."""
    values = pairs.prices.to_numpy("<f8")
    zone = str(getattr(pairs.index, "tz", None))
    words = [[str(name) for name in pairs.prices.columns], pairs.faults, _dtype(pairs.index), zone]
    made = sha256(np.where(np.isnan(values), np.nan, values).tobytes())
    made.update(_whole(pairs.index).astype("<i8").tobytes() + json.dumps(words).encode())
    return made.hexdigest()


def packed(arrays: dict[str, Any]) -> bytes:
    """An npz file; the same arrays give the same bytes.

    Raises:
        ValueError: an array holds Python objects.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which a store does not keep")
    content = BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def unpacked(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz file; one with pickles in it is refused."""
    with np.load(BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _texts(words: Any) -> np.ndarray:
    listed = [str(word) for word in words]
    return np.array(listed, dtype=str)


def _dtype(index: pd.Index) -> str:
    return f"M8[{index.unit}]" if isinstance(index, pd.DatetimeIndex) else str(index.dtype)


def _whole(index: pd.Index) -> np.ndarray:
    return index.asi8 if isinstance(index, pd.DatetimeIndex) else index.to_numpy(np.int64)


def _index(arrays: dict[str, np.ndarray]) -> pd.Index:
    name = arrays["index_name"].item() if arrays["index_name"].size else None
    kind, zone = arrays["index_dtype"].item(), arrays["index_zone"].tolist()
    if not kind.startswith("M8"):
        return pd.Index(arrays["index"].astype(kind), name=name)
    dates = pd.DatetimeIndex(arrays["index"].view(kind), name=name)
    return dates.tz_localize("UTC").tz_convert(zone[0]) if zone else dates
