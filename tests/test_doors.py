"""No error of Python or of a library reaches a user: public entries with arguments that are none."""

import datetime
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kfmodels as kf
from tests.problems import ROWS, stock_prices

pytestmark = [
    pytest.mark.filterwarnings("error::RuntimeWarning"),
    pytest.mark.usefixtures("unchecked"),
]

BAD = {
    "None": None,
    "text": "x",
    "no text": "",
    "a number": 3,
    "a negative": -1,
    "zero": 0,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "too large for a float": 10**400,
    "a truth": True,
    "an empty list": [],
    "a list of None": [None],
    "an empty dict": {},
    "a dict": {"x": "y"},
    "an object": object(),
    "an array": np.ones((2, 2)),
    "bytes": b"x",
    "a complex number": 1j,
    "a date": datetime.date(2020, 1, 1),
    "a tuple": ("KO", "KO"),
}


@cache
def prices() -> pd.DataFrame:
    return stock_prices(2 * ROWS)


@cache
def data() -> kf.HedgeData:
    return kf.HedgeData.from_prices(prices().iloc[:ROWS], target="KO", hedges=["PEP"])


def worth(**given: Any) -> object:
    arguments = {"target": "KO", "hedges": ["PEP"], "train": ROWS} | given
    return kf.hedge_effectiveness(prices(), **arguments)


def pair(**given: Any) -> object:
    arguments = {"frame": prices(), "target": "KO", "hedges": ["PEP"]} | given
    return kf.HedgeData.from_prices(**arguments)


def line(**given: Any) -> object:
    return kf.KalmanOLS(**{"dataset": np.ones((3, 2))} | given)


def noise(**given: Any) -> object:
    return kf.hedge_ratio_model(**given)


DOORS: list[tuple[Callable[..., object], dict[str, Any], tuple[str, ...]]] = [
    (pair, {}, ("frame", "target", "hedges", "transform", "clock", "repair")),
    (lambda **given: data().after(**given), {}, ("date",)),
    (lambda **given: data().before(**given), {}, ("date",)),
    (noise, {}, ("obs_scale", "noise", "drift", "initial", "intercept", "pivot", "gaps", "spread")),
    (kf.Memory, {"bars": 20, "low": 6, "high": 100}, ("bars", "low", "high")),
    (kf.Moves, {"share": 0.1, "low": 0.05, "high": 0.2}, ("share", "low", "high", "bars")),
    (kf.Horseshoe, {}, ("bars",)),
    (kf.Discounted, {}, ("memory", "dof")),
    (kf.NUTS, {}, ("warmup", "draws", "chains", "target_accept")),
    (kf.ImportanceSampling, {}, ("draws", "rounds")),
    (worth, {}, ("level", "risk_aversion", "hedges")),
    (line, {}, ("dataset", "init_alpha", "init_beta", "trans_cov", "obs_cov", "init_cov")),
]
CASES = [
    pytest.param(call, good, name, id=f"{getattr(call, '__name__', call)}-{name}")
    for call, good, names in DOORS
    for name in names
]


def refusal(call: Callable[..., object], given: dict[str, Any]) -> ValueError | OSError | None:
    """The error by which a call was refused; any other kind of error fails the test."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # prices in doubt are told, and taken
            call(**given)
    except (ValueError, OSError) as error:
        return error
    return None


@pytest.mark.parametrize(("call", "good", "name"), CASES)
def test_an_argument_is_taken_or_refused_in_our_words(call, good, name):
    for kind, bad in BAD.items():
        error = refusal(call, good | {name: bad})
        if error is not None:
            raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
            assert "/kfmodels/" in raised_in.replace("\\", "/"), (kind, error)
            assert "site-packages" not in raised_in, (kind, error)
            assert len(str(error)) > 20, (kind, error)
