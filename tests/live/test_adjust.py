"""Dividends and rolls on a live filter and in the account of the shares held."""

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import kfmodels as kf
from kfmodels.fitting.refresh import collect_rows
from kfmodels.live.account import COLUMNS, Attribution
from kfmodels.live.book import Band, Cost, HedgeBook, Saving
from kfmodels.live.feed import LiveFilter
from tests.made_filters import MINUTE, START, feed, made_filter
from tests.problems import unsampled

EX = 5
DIVIDEND = 1.7


@pytest.mark.parametrize("transform", ["level", "log", "return"])
def test_a_live_filter_that_is_told_goes_on_as_if_prices_had_been_quoted_so(
    transform: str, tmp_path: Path
):
    """Against the feed whose earlier prices are adjusted by the dividend, or by its factor."""
    made = made_filter(transform=transform)
    rows = feed(10)
    close = rows[EX - 1][0]["XLE"]
    factor = 1.0 if transform == "level" else (close - DIVIDEND) / close
    shift = -DIVIDEND if transform == "level" else 0.0
    other = kf.OnlineFilter.from_json(made.to_json())
    if transform == "level":
        other.adjust({"XLE": shift})
    else:
        other.rescale(target=factor)
    plain = LiveFilter(other)
    path = tmp_path / "j"
    live = LiveFilter(made, journal=path)
    ex_day = rows[EX][1] - timedelta(seconds=30)
    for number, (prices, at) in enumerate(rows):
        before = number < EX
        adjusted = prices["XLE"] * factor + shift
        quoted = prices | {"XLE": prices["XLE"] if before else adjusted}
        if number == EX:
            said = live.adjust({"XLE": -DIVIDEND}, at=ex_day)
            told = "" if transform == "level" else f", the factor {factor:.6g}"
            assert said.sentence == f"rescaled: XLE by -1.7{told}"
            assert live.adjust({"XLE": -DIVIDEND}, at=ex_day).sentence.startswith("duplicate")
            # killed and opened again: the same to the last bit, and it is known already
            live.close()
            document = json.dumps(live.to_json())
            live = LiveFilter(made_filter(transform=transform), journal=path)
            assert json.dumps(live.to_json()) == document
            assert live.adjust({"XLE": -DIVIDEND}, at=ex_day).sentence.startswith("duplicate")
        a = plain.tick(prices | {"XLE": adjusted}, at=at).tick
        b = live.tick(quoted, at=at).tick
        assert b.z == pytest.approx(a.z, rel=1e-8, abs=1e-10)
    assert b.beta["SPY"] == pytest.approx(a.beta["SPY"], rel=1e-10)
    for mine, its in zip(live.history(), plain.history(), strict=True):
        assert mine["prices"] == pytest.approx(its["prices"], rel=1e-12)


def test_only_prices_from_before_the_ex_day_are_converted():
    """Also on logs, where the factor is that of the price before, and a factor and a shift mix."""
    for transform in ("level", "log"):
        live = LiveFilter(made_filter(transform=transform), max_staleness=timedelta(minutes=5))
        (first, then), (second, later) = feed(2)
        live.tick(first, at=then)
        live.tick({"XLE": second["XLE"] - DIVIDEND}, at=later + timedelta(seconds=1))
        live.adjust({"XLE": -DIVIDEND}, at=later)
        assert live.history()[0]["prices"]["XLE"] == pytest.approx(first["XLE"] - DIVIDEND)
        assert live.history()[-1]["prices"]["XLE"] == second["XLE"] - DIVIDEND
        factor = (first["XLE"] - DIVIDEND) / first["XLE"]
        expected = 10 * factor if transform == "log" else 10 - DIVIDEND
        assert live.units.convert("XLE", 10.0) == pytest.approx(expected)
        live.rescale({"XLE": 0.5})
        live.adjust({"XLE": 0.0, "SPY": 2.0})
        assert live.units.convert("XLE", 10.0) == pytest.approx(expected / 2)
        spy = 7 + 2.0 if transform == "level" else 7 * (first["SPY"] + 2) / first["SPY"]
        assert live.units.convert("SPY", 7.0) == pytest.approx(spy)


def test_what_cannot_be_adjusted_is_refused_and_changes_nothing():
    live = LiveFilter(made_filter())
    live.tick({"XLE": 90.1, "SPY": 500.5}, at=START)
    before = json.dumps(live.to_json())
    for shifts, at, text in [
        ({}, None, "no shift is given: name the ticker, with minus its dividend"),
        ({"GLD": 1.0}, None, "GLD is not among the tickers"),
        ({"SPY": -600.0}, None, "which is no price"),
        ({"SPY": 1.0}, 5, "the adjust at 5 is a number, .*: send times with their offset"),
    ]:
        with pytest.raises(ValueError, match=text):
            live.adjust(shifts, at=at)
        assert json.dumps(live.to_json()) == before
    assert live.adjust({"SPY": 1.0}, at=START + MINUTE).sentence.startswith("rescaled: SPY by 1")


@pytest.mark.parametrize("transform", ["level", "log"])
def test_a_made_dividend_on_real_prices_leaves_the_ratio_of_adjusted_prices(transform: str):
    """KO before and after a dividend of 3 %: the fit of raw prices, told on the ex-day, against the
    fit of prices adjusted all along. Both draw the same noise; a silent filter is far off."""
    prices = kf.datasets.stocks()[["KO", "PEP"]].loc["2018":"2019-06"]
    ex_day = prices.index[300]
    close = float(prices["KO"].iloc[299])
    dividend = 0.03 * close
    adjusted, early = prices.copy(), prices.index < ex_day
    adjusted.loc[early, "KO"] = (
        prices.loc[early, "KO"] - dividend
        if transform == "level"
        else prices.loc[early, "KO"] * (close - dividend) / close
    )
    raw = adjusted.copy()
    raw.loc[early, "KO"] = prices.loc[early, "KO"]

    def ends(table: Any, told: bool) -> tuple[float, LiveFilter]:
        data = kf.HedgeData.from_prices(
            table.iloc[:200], target="KO", hedges=["PEP"], transform=transform
        )
        live = unsampled(data).go_live()
        for at, row in table.iloc[200:330].iterrows():
            if told and at == ex_day:
                live.adjust({"KO": -dividend}, at=ex_day)
            signal = live.tick(row.to_dict(), at=at)
        return signal.tick.beta["PEP"], live

    truth, _ = ends(adjusted, told=False)
    found, live = ends(raw, told=True)
    silent, _ = ends(raw, told=False)
    assert found == pytest.approx(truth, rel=1e-7)
    assert abs(silent - truth) > 1e-3
    # the noise is inferred anew from rows of one kind, those that the filter never saw among them
    rows = collect_rows(live, raw.iloc[:200]).prices["KO"].dropna()  # a held print is left out
    assert len(rows) > 320
    assert_allclose(rows, adjusted.loc[rows.index, "KO"], rtol=1e-12)


# -- the account -----------------------------------------------------------------------------------


def tick(at: int, beta: float, alpha: float = 0.0) -> Any:
    seen = {"observed": True, "reason": "", "gain": 0.1, "sd_total": {"X": 0.0}}
    return SimpleNamespace(at=at, beta={"X": beta}, alpha=alpha, **seen)


@pytest.mark.parametrize("transform", ["level", "log", "return"])
def test_a_dividend_is_credited_and_gains_no_share(transform: str):
    """10,000 long of Y go ex 5.55 and earn 55,500; 8,000 short of X go ex 0.25 and pay 2,000."""
    ratio = 0.8 if transform == "level" else 0.8 * 50.0 / 185.0
    book = HedgeBook(
        target="Y",
        hedges=["X"],
        transform=transform,
        position=10_000,
        band=Band(0.0, Saving(1e-6)),
        cost=Cost(0.0, 0.0),
    )
    account = Attribution(book)
    assert account.adjust({"Y": -1.0}) == 0.0  # nothing is held yet
    first, then = {"Y": 185.0, "X": 50.0}, {"Y": 180.0, "X": 50.5}
    account.add(tick(0, ratio), first, orders=book.act(tick(0, ratio), first))
    assert book.held == {"X": -8000.0}
    shifts = {"Y": -5.55, "X": -0.25}
    book.adjust(shifts)
    assert account.adjust(shifts) == pytest.approx(55_500 - 2_000)
    assert (book.position, book.held) == (10_000, {"X": -8000.0})
    # the move of an ex-day is seen without the dividend: 50.5 against 49.75
    now = tick(1, ratio, 0.0)
    row = account.add(now, then, orders=book.act(now, then))
    assert row.unhedged == pytest.approx(10_000 * (180.0 - 185.0 + 5.55))
    assert row.pnl == pytest.approx(5_500 - 8_000 * (50.5 - 50.0 + 0.25))
    assert sum(getattr(row, name) for name in COLUMNS) == pytest.approx(row.pnl)
    assert book.moves["X"].variance == pytest.approx(0.75**2)


def test_nothing_but_the_dividend_is_a_day_without_profit_and_without_drift():
    """Prices that fall by just the dividend, and the filter's own coefficients after `adjust`."""
    for transform in ("level", "log"):
        live = LiveFilter(made_filter(transform=transform))
        book = HedgeBook(target="XLE", hedges=["SPY"], transform=transform, position=1000)
        account, prices = Attribution(book), {"XLE": 90.0, "SPY": 500.0}
        said = live.tick(prices, at=START).tick
        account.add(said, prices, orders=book.act(said, prices))
        shifts = {"XLE": -2.7, "SPY": -10.0}
        cash = account.adjust(shifts)
        assert cash == pytest.approx(1000 * 2.7 + 10 * book.held["SPY"])
        book.adjust(shifts)
        live.adjust(shifts)
        after, ex = live.standing(said.outcome, "").tick, {"XLE": 87.3, "SPY": 490.0}
        stood = SimpleNamespace(
            at=1,
            beta=after.beta,
            alpha=after.alpha,
            sd_total=after.sd_total,
            observed=True,
            gain=0.1,
        )
        stood.reason = ""
        row = account.add(stood, ex, orders=book.act(stood, ex))
        earned = np.array(
            [row.unhedged, row.spread, row.drift, row.hedge_ratio_error, row.convexity]
        )
        assert_allclose(earned, 0.0, atol=1e-8)


def test_a_roll_of_contracts_counts_the_multiplier():
    book = HedgeBook(
        target="Y", hedges=["X"], transform="level", position=100, multiplier={"X": 50.0}
    )
    account, prices = Attribution(book), {"Y": 100.0, "X": 20.0}
    account.add(tick(0, 1.5), prices, orders=book.act(tick(0, 1.5), prices))
    assert book.held == {"X": -3.0}
    assert account.adjust({"X": 0.4}) == pytest.approx(3 * 50 * 0.4)
    book.adjust({"X": 0.4})
    rolled = {"Y": 100.0, "X": 20.4}
    assert account.add(tick(1, 1.5), rolled, orders=book.act(tick(1, 1.5), rolled)).pnl == (
        pytest.approx(0.0, abs=1e-12)
    )


@pytest.mark.parametrize("word", ["book", "account"])
def test_a_shift_of_the_book_that_cannot_be_is_refused(word: str):
    book = HedgeBook(target="Y", hedges=["X"], transform="log", position=1)
    account, prices = Attribution(book), {"Y": 100.0, "X": 20.0}
    account.add(tick(0, 1.5), prices, orders=book.act(tick(0, 1.5), prices))
    of: Any = {"book": book, "account": account}[word]
    with pytest.raises(ValueError, match="Z is not among the tickers Y, X"):
        of.adjust({"Z": 1.0})
    with pytest.raises(ValueError, match="the shift of X is its new price minus"):
        of.adjust({"X": "much"})
    if word == "account":
        with pytest.raises(ValueError, match="a dividend is less than the price"):
            of.adjust({"X": -20.0})
