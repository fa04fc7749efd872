"""No error of Python or of a library reaches a user: public entries with arguments that are none."""

import datetime
import inspect
import traceback
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kfmodels as kf
from kfmodels.model.parts import OfTheDay
from kfmodels.universe.universe import HedgeUniverse
from kfmodels.words.caller import explain_kinds
from tests.problems import ROWS, stock_prices

pytestmark = [
    pytest.mark.filterwarnings("error::RuntimeWarning"),
    pytest.mark.usefixtures("unchecked", "elsewhere"),
]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder for what an argument that is a path makes."""
    monkeypatch.chdir(tmp_path)


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
    "an empty table": pd.DataFrame(),
    "a table of text": pd.DataFrame({"KO": ["a"], "PEP": ["b"]}),
}


FIXED = kf.hedge_ratio_model(delta={"beta": 1e-4, "alpha": 0.5}, obs_scale=0.008)
MODEL = kf.hedge_ratio_model(delta={"alpha": 0.5}, noise=kf.Constant())


@cache
def prices() -> pd.DataFrame:
    return stock_prices(2 * ROWS)


def later() -> pd.DataFrame:
    return prices().iloc[ROWS:]


@cache
def data() -> kf.HedgeData:
    return kf.HedgeData.from_prices(prices().iloc[:ROWS], target="KO", hedges=["PEP"])


@cache
def fixed() -> kf.HedgeFit:
    return kf.fit(data(), FIXED, progress=False)


@cache
def board() -> kf.HedgeBoard:
    return kf.fit_many(kf.HedgeData.all_pairs(prices().iloc[:ROWS]), MODEL, progress=False)


@cache
def moves() -> pd.DataFrame:
    walks = np.random.default_rng(0).normal(0, 0.01, (300, 3)).cumsum(0)
    return pd.DataFrame(100 * np.exp(walks), pd.bdate_range("2020", periods=300), list("ABC"))


@cache
def universe() -> HedgeUniverse:
    return kf.hedge_universe(moves())


LEGS = {"KO": 40.0, "PEP": 90.0}


def table() -> dict[str, Any]:
    return {"prices": prices(), "target": "KO"}


LONG = ("matrix", "fit", "hedge_effectiveness", "hedge_universe")
"""Doors behind which a good argument starts seconds of work."""

DOORS: list[tuple[str, Callable[[], tuple[Callable[..., object], dict[str, Any]]]]] = [
    # the data
    (
        "from_prices",
        lambda: (kf.HedgeData.from_prices, {"frame": prices(), "target": "KO", "hedges": ["PEP"]}),
    ),
    ("all_pairs", lambda: (kf.HedgeData.all_pairs, {"prices": prices()})),
    ("one_target", lambda: (kf.HedgeData.one_target, table())),
    ("pairs", lambda: (kf.HedgeData.pairs, {"prices": prices(), "pairs": [("KO", "PEP")]})),
    ("after", lambda: (data().after, {"date": prices().index[ROWS // 2]})),
    ("before", lambda: (data().before, {"date": prices().index[ROWS // 2]})),
    ("Clock", lambda: (kf.Clock, {})),
    # the model
    ("hedge_ratio_model", lambda: (kf.hedge_ratio_model, {})),
    ("Memory", lambda: (kf.Memory, {"bars": 20, "low": 6, "high": 100})),
    ("Moves", lambda: (kf.Moves, {"share": 0.1, "low": 0.05, "high": 0.2})),
    ("Horseshoe", lambda: (kf.Horseshoe, {})),
    ("Discounted", lambda: (kf.Discounted, {})),
    ("Gaps", lambda: (kf.Gaps, {})),
    ("Reverting", lambda: (kf.Reverting, {})),
    ("OfTheDay", lambda: (OfTheDay, {})),
    ("Scales", lambda: (kf.Scales, {})),
    ("NUTS", lambda: (kf.NUTS, {})),
    ("ImportanceSampling", lambda: (kf.ImportanceSampling, {})),
    # a fit, and what it answers
    ("fit", lambda: (partial(kf.fit, progress=False), {"data": data(), "model": FIXED})),
    ("load", lambda: (kf.load, {"path": "/nowhere/a.nc"})),
    ("hedge_ratio", lambda: (fixed().hedge_ratio, {})),
    ("hedge_shares", lambda: (fixed().hedge_shares, {})),
    ("intercept", lambda: (fixed().intercept, {})),
    ("spread", lambda: (fixed().spread, {})),
    ("book", lambda: (fixed().book, {"position": 100.0})),
    ("save", lambda: (fixed().save, {"path": "/nowhere/a.nc"})),
    ("compare", lambda: (kf.compare, {"fits": {"a": fixed()}, "later": later()})),
    (
        "hedge_effectiveness",
        lambda: (kf.hedge_effectiveness, table() | {"hedges": ["PEP"], "train": ROWS}),
    ),
    ("prior_summary", lambda: (kf.evaluate.prior_summary, {"model": MODEL, "data": data()})),
    ("spread_health", lambda: (kf.evaluate.spread_health, {"fitted": fixed()})),
    # live
    ("online", lambda: (fixed().online, {})),
    ("go_live", lambda: (fixed().go_live, {})),
    ("LiveFilter", lambda: (kf.LiveFilter, {"engine": fixed().online()})),
    ("tick", lambda: (fixed().go_live().tick, {"prices": LEGS, "at": "2099-01-01"})),
    ("live rescale", lambda: (fixed().go_live().rescale, {"factors": {"KO": 0.5}})),
    ("live adjust", lambda: (fixed().go_live().adjust, {"shifts": {"KO": -0.5}})),
    ("follow", lambda: (partial(kf.follow, fixed().online()), {"prices": later()})),
    ("follow what", lambda: (kf.follow, {"live": None, "prices": later()})),
    ("update", lambda: (fixed().online().update, {"y": 40.0, "x": [90.0]})),
    ("take", lambda: (fixed().online().take, {"prices": LEGS})),
    ("forecast", lambda: (fixed().online().forecast, {"x": [90.0]})),
    ("rescale", lambda: (fixed().online().rescale, {})),
    ("adjust", lambda: (fixed().online().adjust, {"shifts": {"KO": -0.5}})),
    ("filter save", lambda: (fixed().online().save, {"path": "/nowhere/a.json"})),
    ("filter load", lambda: (kf.OnlineFilter.load, {"path": "/nowhere/a.json"})),
    ("from_json", lambda: (kf.OnlineFilter.from_json, {"content": {}})),
    ("refresh", lambda: (kf.refresh, {"live": None})),
    ("Quarantine", lambda: (kf.Quarantine, {})),
    ("Robust", lambda: (kf.Robust, {})),
    ("KalmanOLS", lambda: (kf.KalmanOLS, {"dataset": np.ones((3, 2))})),
    # many
    ("fit_many", lambda: (partial(kf.fit_many, progress=False), {"pairs": None})),
    ("matrix", lambda: (board().matrix, {})),
    ("sel", lambda: (board().sel, {"pair": "KO/PEP"})),
    ("board online", lambda: (board().online, {})),
    ("board go_live", lambda: (board().go_live, {})),
    ("board book", lambda: (board().book, {"pair": "KO/PEP", "position": 10})),
    ("board update", lambda: (board().online().update, {"prices": LEGS})),
    ("rank_hedges", lambda: (kf.rank_hedges, {"board": None, "target": "KO", "prices": later()})),
    ("pool", lambda: (kf.pool, {"board": None})),
    # universes
    ("hedge_universe", lambda: (kf.hedge_universe, {"prices": moves()})),
    ("legs", lambda: (universe().legs, {"target": "A"})),
    ("history", lambda: (universe().history, {"target": "A"})),
    ("spreads", lambda: (universe().spreads, {})),
    ("by_legs", lambda: (universe().by_legs, {"target": "A"})),
    ("universe forecast", lambda: (universe().forecast, {"row": dict.fromkeys("ABC", 100.0)})),
    (
        "basket update",
        lambda: (universe().online().update, {"prices": dict.fromkeys("ABC", 100.0)}),
    ),
]
"""By name: the function, and arguments that are right."""


def names_of(function: Callable[..., object]) -> list[str]:
    """The arguments of a function that a table of bad ones is tried on: all that have a name."""
    return [
        name
        for name, one in inspect.signature(function).parameters.items()
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and name != "progress"
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


@pytest.mark.parametrize(
    "door",
    [
        pytest.param(door, id=name, marks=[pytest.mark.slow] if name in LONG else [])
        for name, door in DOORS
    ],
)
def test_every_argument_is_taken_or_refused_in_our_words(door):
    for name in names_of(door()[0]):
        for kind, bad in BAD.items():
            function, good = door()
            error = refusal(function, good | {name: bad})
            if error is not None and not isinstance(error, OSError):
                raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
                assert "/kfmodels/" in raised_in.replace("\\", "/"), (name, kind, error)
                assert "site-packages" not in raised_in, (name, kind, error)
            assert error is None or len(str(error)) > 20, (name, kind, error)


def test_the_first_argument_of_a_wrong_kind_is_named():
    with pytest.raises(
        ValueError, match="^fit: method must be NUTS, ImportanceSampling or None, not 'nuts'$"
    ):
        kf.fit(data(), method="nuts")  # pyright: ignore[reportArgumentType]


def test_a_fault_of_the_package_is_not_blamed_on_the_arguments():
    @explain_kinds
    def divide(number: float) -> float:
        return number / 0

    with pytest.raises(ZeroDivisionError):
        divide(1.0)
    with pytest.raises(ValueError, match="divide: number must be a number, not 'x'"):
        divide("x")  # pyright: ignore[reportArgumentType]


def test_a_warning_points_at_the_line_that_called():
    split = prices().assign(
        PEP=lambda table: table["PEP"].where(table.index < table.index[30], table["PEP"] / 4)
    )
    with pytest.warns(UserWarning, match="PEP") as told:
        kf.HedgeData.from_prices(split, target="KO", hedges=["PEP"])
    assert {warning.filename for warning in told} == {__file__}
