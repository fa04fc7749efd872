"""The hedge of a book within a universe: its covariance by a plain loop, and which legs there are."""

import re

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import kfmodels as kf
from kfmodels.basket.basket import Basket
from kfmodels.universe.covariance import estimate_covariance
from kfmodels.universe.netting import hedge_book
from tests.basket.conftest import draw_moves, feed, prices_of
from tests.basket.plain import market_weights

NAMES = ["XLE", "SPY", "XLB", "XLF", "EWJ", "TLT"]
ROWS = 320
POSITIONS = {"XLE": 1e6, "XLF": -4e5}


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    """One asset is not listed until 100 rows before the end, another until 20."""
    table = kf.datasets.etfs()[NAMES].iloc[:ROWS].assign(NEW=kf.datasets.etfs()["EEM"])
    table.loc[table.index[: ROWS - 100], "NEW"] = np.nan
    table["LAST"] = kf.datasets.etfs()["EFA"].where(np.arange(2141) >= ROWS - 20)
    return table


@pytest.fixture(scope="module")
def universe(prices):
    return kf.hedge_universe(prices)


def test_the_covariance_is_that_of_a_plain_loop():
    moves = draw_moves(5)
    basket = Basket("ABCDEF", shocks=None)
    feed(basket, prices_of(moves))
    weights = market_weights(moves)
    found = {}
    for memory in (50, 200):
        decay = (1 - 1 / memory) ** np.arange(len(moves))[::-1]
        weighed = moves * np.sqrt(decay * weights[:-1])[:, None]
        found[memory] = weighed.T @ weighed / decay.sum()
    short, long = (np.sqrt(np.diag(found[memory])) for memory in (50, 200))
    expected = found[200] / np.outer(long, long) * np.sqrt(np.outer(short * long, short * long))
    cov = estimate_covariance(basket)
    assert_allclose(cov, expected / weights[-1], rtol=1e-9)
    assert list(cov) == list(cov.index) == list("ABCDEF")


def test_the_book_is_that_of_its_covariance(universe):
    found = universe.book(POSITIONS, hedges=["SPY", "XLB"], held={"SPY": -1e5}, lots=1, days=3)
    cov, last = estimate_covariance(universe.basket), universe.prices.ffill().iloc[-1]
    expected = hedge_book(
        cov, POSITIONS, hedges=["SPY", "XLB"], held={"SPY": -1e5}, prices=last, lots=1, days=3
    )
    pd.testing.assert_frame_equal(found.orders, expected.orders)
    # without cost and limits it is least squares
    plain = universe.book(POSITIONS, hedges=["SPY", "XLB"], cost=0.0, band=0.0).orders["wanted"]
    block = cov.loc[["SPY", "XLB"], ["SPY", "XLB"]]
    with_legs = cov.loc[["SPY", "XLB"], list(POSITIONS)] @ list(POSITIONS.values())
    assert_allclose(plain[["SPY", "XLB"]], -np.linalg.solve(block, with_legs), rtol=1e-6)


def test_a_position_without_a_price_for_long_is_told(universe, prices):
    later, basket = kf.datasets.etfs()[NAMES].iloc[ROWS : ROWS + 7], universe.online()
    for number, (at, row) in enumerate(later.drop(columns="XLE").iterrows(), start=1):
        basket.update(row, at=at)
        if number == 5:
            universe.book(POSITIONS, basket=basket)  # a warning would fail
    with pytest.warns(UserWarning, match=r"^XLE has had no price for 7 rows: .* leave it out"):
        universe.book(POSITIONS, basket=basket)
    universe.book({"XLF": -4e5}, basket=basket)
    basket.update(kf.datasets.etfs()[NAMES].iloc[ROWS + 7])
    universe.book(POSITIONS, basket=basket)


@pytest.mark.parametrize("role", ["positions", "held"])
def test_money_is_by_ticker(universe, role):
    given = {"positions": POSITIONS, "held": None} | {role: [1e6, 2e6]}
    with pytest.raises(ValueError, match=f"^{role} must be money by ticker, .* not list"):
        universe.book(**given)
    with pytest.raises(ValueError, match=f"^{role} must be money by ticker, .* not list"):
        hedge_book(estimate_covariance(universe.basket), hedges=["SPY"], **given)


def test_legs_are_those_that_are_old_enough_and_have_no_position(universe):
    found = universe.book(POSITIONS, cost=0.0, band=0.0)
    assert set(found.orders.index) | set(found.left) == {"SPY", "XLB", "EWJ", "TLT"}
    kept = universe.book(POSITIONS, held={"XLE": -2e5}, cost=0.0, band=0.0)
    assert set(kept.orders.index) | set(kept.left) == {"SPY", "XLB", "EWJ", "TLT", "XLE"}
    young = universe.book({"NEW": 1e6}, cost=0.0, band=0.0)  # a position from 60 rows on
    assert young.removed > 0.3


def test_a_saved_one_and_one_that_went_on_give_the_same_orders(universe, prices, tmp_path):
    universe.save(tmp_path / "u.json")
    loaded, row = kf.load(tmp_path / "u.json"), kf.datasets.etfs()[NAMES].iloc[ROWS]
    pd.testing.assert_frame_equal(loaded.book(POSITIONS).orders, universe.book(POSITIONS).orders)
    with universe.go_live() as live:
        live.tick(row.to_dict(), at=row.name)
        gone = universe.book(POSITIONS, basket=live.engine)
    basket = universe.online()
    basket.update(row.to_dict(), at=row.name)
    cov = estimate_covariance(basket)
    hedges = ["SPY", "XLB", "EWJ", "TLT"]
    expected = hedge_book(cov, POSITIONS, hedges=hedges, prices=row)
    pd.testing.assert_frame_equal(gone.orders, expected.orders)
    assert not gone.orders.equals(universe.book(POSITIONS).orders)


REFUSED = {
    "positions: QQQ is not among the 8 tickers": ({"QQQ": 1.0}, {}),
    "hedges: QQQ is not among the 8 tickers of the universe": (POSITIONS, {"hedges": ["QQQ"]}),
    "hedges: NEW has had a price for 100 rows only, and a leg needs 250": (
        POSITIONS,
        {"hedges": ["NEW"]},
    ),
    "positions: LAST has had a price for 20 rows only, and its covariance needs 60": (
        {"LAST": 1e6},
        {},
    ),
    'hedges must be a list of tickers: give ["SPY"]': (POSITIONS, {"hedges": "SPY"}),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_a_universe_cannot_hedge_is_said(universe, text):
    positions, options = REFUSED[text]
    with pytest.raises(ValueError, match=re.escape(text)):
        universe.book(positions, **options)


def test_a_leg_that_stopped_is_refused_and_left_out_by_itself(universe, prices):
    basket, last = universe.online(), prices.iloc[-1]
    for number in range(8):
        row = kf.datasets.etfs()[NAMES].iloc[ROWS + number].to_dict() | {"SPY": last["SPY"]}
        basket.update(row, at=kf.datasets.etfs().index[ROWS + number])
    with pytest.raises(ValueError, match="hedges: SPY has no price now, or repeats its last one"):
        universe.book(POSITIONS, hedges=["SPY"], basket=basket)
    assert "SPY" not in universe.book(POSITIONS, basket=basket).orders.index


def test_a_basket_that_has_learnt_nothing_has_no_covariance():
    with pytest.raises(ValueError, match="has learnt from 0 rows, and a covariance needs 60"):
        estimate_covariance(Basket(NAMES))
