"""A book knows the tickers and the transform of its fit, and takes no tick of another."""

from typing import Any

import pytest

import kfmodels as kf
from kfmodels.live.account import Attribution
from kfmodels.live.book import Band, HedgeBook
from tests.made_filters import made_board, made_filter
from tests.problems import unsampled

PRICES = {"KO": 55.0, "PEP": 137.0}


@pytest.mark.parametrize("transform", ["log", "level", "return"])
def test_the_book_of_a_fit_holds_what_its_ratio_asks_for(transform: Any):
    """By hand: a ratio of money becomes shares at P_y / P_x, one of levels is shares already."""
    table = kf.datasets.stocks()[["KO", "PEP"]].loc["2019"]
    data = kf.HedgeData.from_prices(table, target="KO", hedges=["PEP"], transform=transform)
    fitted = unsampled(data)
    book = fitted.book(position=-1000.0, band=Band(0.0), lots={"PEP": 1e-6})
    tick = fitted.online().update(y=55.0, x=137.0)
    held = book.act(tick, PRICES).held["PEP"]
    per_share = 1.0 if transform == "level" else 55.0 / 137.0
    assert held == pytest.approx(1000 * tick.beta["PEP"] * per_share, abs=1e-5)
    assert (book.target, book.hedges, book.transform) == ("KO", ("PEP",), transform)
    again = HedgeBook.from_json(book.to_json())
    assert again.act(tick, PRICES).held == {"PEP": held}


@pytest.mark.parametrize("transform", ["log", "level", "return"])
def test_a_tick_of_another_transform_is_refused_with_the_remedy(transform: str):
    tick = made_filter(transform=transform).update(y=90.2, x=500.9)
    prices = {"XLE": 90.2, "SPY": 500.9}
    for other in {"log", "level", "return"} - {transform}:
        book = HedgeBook(target="XLE", hedges=["SPY"], transform=other, position=1000)
        before = book.to_json()
        text = f'fit with the transform "{transform}", .* of "{other}": make it with fit.book'
        with pytest.raises(ValueError, match=text):
            book.act(tick, prices)
        assert book.to_json() == before
    mine = HedgeBook(target="XLE", hedges=["SPY"], transform=transform, position=1000)
    orders, account = mine.act(tick, prices), Attribution(book)
    with pytest.raises(ValueError, match="make it with fit.book"):
        account.add(tick, prices, orders=orders)


@pytest.mark.parametrize(
    ("target", "hedges"),
    [("XOM", ["SPY"]), ("XLE", ["USO"]), ("XLE", ["SPY", "USO"]), ("SPY", ["XLE"])],
)
def test_a_tick_of_other_tickers_is_refused(target: str, hedges: list[str]):
    tick = made_filter().update(y=90.2, x=500.9)
    book = HedgeBook(target=target, hedges=hedges, transform="log", position=1000)
    with pytest.raises(ValueError, match=f"is of XLE, SPY, the book of {target}, .*fit.book"):
        book.act(tick, dict.fromkeys([target, *hedges], 100.0))


def test_a_book_may_not_hold_a_part_of_the_hedges():
    tick = made_filter(hedges=("SPY", "USO")).update(y=90.2, x=[500.9, 500.0])
    book = HedgeBook(target="XLE", hedges=["SPY"], transform="log", position=1000)
    with pytest.raises(ValueError, match="is of XLE, SPY, USO, the book of XLE, SPY"):
        book.act(tick, {"XLE": 90.2, "SPY": 500.9})


def test_a_tick_of_a_board_is_refused_and_that_of_its_pair_is_taken():
    board = made_board((("XLE", "SPY"), ("XLE", "USO")))
    prices = {"XLE": 90.2, "SPY": 500.9, "USO": 500.0}
    tick = board.update(prices)
    book = HedgeBook(target="XLE", hedges=["SPY"], transform="log", position=1000)
    with pytest.raises(ValueError, match=r"pass that of one pair, tick.of\('XLE/SPY'\)"):
        book.act(tick, prices)  # pyright: ignore[reportArgumentType]
    assert book.act(tick.of("XLE/SPY"), prices).held["SPY"] < 0
    with pytest.raises(ValueError, match="is of XLE, USO"):
        book.act(tick.of("XLE/USO"), prices)
