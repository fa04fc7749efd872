"""A dividend or a roll is a shift of prices: exact on levels, a factor at the last price otherwise."""

import json
import math
from typing import Any

import pytest
from numpy.testing import assert_allclose

from kfmodels import OnlineFilter
from kfmodels.online.shocks import Quarantine, Robust
from tests.made_filters import feed, made_board, made_filter

pytestmark = pytest.mark.usefixtures("road")

SHIFTS = {"XLE": -2.7, "SPY": 14.0, "USO": -6.5}
NAMES = tuple(SHIFTS)
TOLD = ("spread", "spread_sd", "z", "gain", "log_score", "effective_draws")


def copy_of(one: OnlineFilter) -> OnlineFilter:
    return OnlineFilter.from_json(one.to_json())


@pytest.mark.parametrize("options", [{}, {"discounted": True}, {"shocks": Robust(2.0)}], ids=str)
def test_a_shift_of_levels_is_exact_in_every_draw(options: dict[str, Any]):
    """Against the filter that was fed the other prices all along, through wild rows, and back."""
    one = made_filter(transform="level", hedges=NAMES[1:], **options)
    other = copy_of(one)
    other.adjust(SHIFTS)
    assert other.last == pytest.approx({"XLE": 87.3, "SPY": 514.0, "USO": 493.5})
    for number, (prices, at) in enumerate(feed(25, NAMES[1:])):
        prices["XLE"] *= 1.05 if number % 9 == 4 else 1.0
        a = one.update(y=prices["XLE"], x=prices, at=at)
        moved = {name: price + SHIFTS[name] for name, price in prices.items()}
        b = other.update(y=moved["XLE"], x=moved, at=at)
        assert b.sentence == a.sentence
        for word in TOLD:
            assert_allclose(getattr(b, word), getattr(a, word), rtol=1e-7, atol=1e-10)
        assert b.beta == pytest.approx(a.beta, rel=1e-9)  # a unit of difference is what it was
        for name in NAMES[1:]:
            assert b.sd_total[name] == pytest.approx(a.sd_total[name], rel=1e-9)
        level = a.alpha - 2.7 - (14.0 * a.beta["SPY"] - 6.5 * a.beta["USO"])
        assert b.alpha == pytest.approx(level, rel=1e-9)
    other.adjust({name: -shift for name, shift in SHIFTS.items()})
    assert_allclose(other.coordinates.pivot, one.coordinates.pivot, rtol=1e-14)
    assert_allclose(other.coordinates.offset, one.coordinates.offset, rtol=1e-14)


@pytest.mark.parametrize("transform", ["log", "return"])
def test_a_shift_of_logs_is_the_factor_at_the_last_price(transform: str):
    """(90 - 2.7) / 90 and (500 + 14) / 500, by hand."""
    one = made_filter(transform=transform)
    other = copy_of(one)
    one.adjust({"XLE": -2.7, "SPY": 14.0})
    other.rescale(target=0.97, hedges={"SPY": 1.028})
    assert one.last == pytest.approx({"XLE": 87.3, "SPY": 514.0})
    for part in ("mean", "cov"):
        assert_allclose(one.state()[part], other.state()[part], rtol=1e-14)


@pytest.mark.parametrize("transform", ["log", "level", "return"])
def test_a_board_adjusts_each_of_its_pairs(transform: str):
    pairs = (("XLE", "SPY"), ("XLE", "USO"), ("XOM", "SPY"))
    board = made_board(pairs, transform=transform)
    singles = [board.filter(name) for name in board.names]
    shifts = {"XLE": -2.7, "SPY": -1.3}
    board.adjust(shifts)
    row = {"XLE": 87.5, "SPY": 499.0, "USO": 501.0, "XOM": 90.2}
    tick = board.update(row)
    for name, one in zip(board.names, singles, strict=True):
        one.adjust({leg: shifts[leg] for leg in one.tickers if leg in shifts})
        alone = one.update(y=row[one.target], x=row)
        assert tick.of(name).z == pytest.approx(alone.z, rel=1e-9)
        assert tick.of(name).beta == pytest.approx(alone.beta, rel=1e-9)


def test_a_roll_that_was_held_as_a_split_goes_on_once_it_is_said():
    """A leg that doubles by a roll, so that it looks like a split: exact afterwards."""
    one = made_filter(transform="level", shocks=Quarantine())
    other = copy_of(one)
    for number, (prices, at) in enumerate(feed(6)):
        rolled = prices | {"SPY": prices["SPY"] + 500.0 * (number >= 2)}
        if number == 2:
            trial = copy_of(other)
            said = trial.update(y=prices["XLE"], x=rolled, at=at)
            assert said.outcome == "quarantined"
            trial.adjust({"SPY": 500.0})
            assert trial.update(y=prices["XLE"], x=rolled).outcome == "accepted"
            other.adjust({"SPY": 500.0})
        a, b = one.update(y=prices["XLE"], x=prices, at=at), other.update(y=prices["XLE"], x=rolled)
        assert b.z == pytest.approx(a.z, rel=1e-9)


REFUSED: list[tuple[str, Any, str]] = [
    *(
        (
            "level",
            {"SPY": wrong},
            f"the shift of SPY is its new price minus its old .* {wrong!r:.9}",
        )
        for wrong in (True, math.inf, math.nan, "half", None)
    ),
    ("level", {"GLD": 1.0}, "GLD is not among the tickers XLE, SPY"),
    ("level", 3.0, "shifts go by ticker, each an amount of money, not 3.0"),
    ("log", {"XLE": -90.0}, "the shift of XLE by -90 would take its last price 90 to 0"),
    ("return", {"SPY": -501.0}, "would take its last price 500 to -1, which is no price"),
]


@pytest.mark.parametrize(("transform", "shifts", "text"), REFUSED)
def test_a_shift_that_cannot_be_changes_nothing(transform: str, shifts: Any, text: str):
    one = made_filter(transform=transform)
    before = json.dumps(one.to_json())
    with pytest.raises(ValueError, match=text):
        one.adjust(shifts)
    assert json.dumps(one.to_json()) == before


def test_without_an_intercept_or_a_last_price_the_remedy_is_named_and_works():
    bare = made_filter(transform="level", intercept=False)
    with pytest.raises(ValueError, match="without an intercept .* fit again"):
        bare.adjust({"SPY": 1.0})
    bare.adjust({"SPY": 0.0})
    new = OnlineFilter(**made_filter().arguments() | {"last_prices": None})
    with pytest.raises(ValueError, match="SPY needs its last price, .* call rescale with"):
        new.adjust({"SPY": -5.0})
    new.rescale(hedges={"SPY": 0.99})
    new.adjust({"SPY": 0.0})  # says nothing, and needs nothing
