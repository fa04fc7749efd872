"""Prices in, aligned arrays out; and every complaint: what is wrong, where, and what to do."""

import re

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import HedgeData
from kfmodels.data.hedge_data import MIN_ROWS

ROWS = 60


def prices(rows: int = ROWS, index: pd.Index | None = None) -> pd.DataFrame:
    """Three tickers that move, from 2020-01-01 on business days."""
    moves = np.random.default_rng(0).normal(0, 0.01, (rows, 3)).cumsum(0)
    if index is None:
        index = pd.bdate_range("2020-01-01", periods=rows, name="date")
    return pd.DataFrame(np.exp(moves) * [50.0, 100.0, 20.0], index, ["AAA", "BBB", "CCC"])


def make(frame: pd.DataFrame, *, target="AAA", hedges=("BBB",), transform="log") -> HedgeData:
    return HedgeData.from_prices(frame, target=target, hedges=hedges, transform=transform)


def complaint(frame: pd.DataFrame, **options) -> str:
    with pytest.raises(ValueError, match=".") as caught:  # each caller judges the text
        make(frame, **options)
    return str(caught.value)


# -- what comes out ------------------------------------------------------------------------------


def test_target_and_hedges_in_the_order_given():
    frame = prices()
    data = make(frame, target="CCC", hedges=["BBB", "AAA"])
    assert (data.target, data.hedges) == ("CCC", ("BBB", "AAA"))
    assert_array_equal(data.y, np.log(frame["CCC"]))
    assert_array_equal(data.x, np.log(frame[["BBB", "AAA"]]))
    assert_array_equal(data.prices, frame[["CCC", "BBB", "AAA"]])
    assert data.x.shape == (ROWS, 2)
    assert len(data) == ROWS


def test_one_hedge_may_be_given_as_text():
    assert make(prices(), hedges="BBB").hedges == ("BBB",)


def test_levels_are_the_prices_and_may_be_negative():
    frame = prices() - 60.0  # AAA is a spread, say
    assert (frame["AAA"] < 0).all()
    assert_array_equal(make(frame, transform="level").y, frame["AAA"])


def test_whole_numbers_are_prices_too():
    frame = (prices() * 100).round().astype(int)
    assert make(frame).y.dtype == float


def test_a_caller_keeps_its_own_table():
    frame = prices()
    data, before = make(frame), frame.copy()
    data.y[:] = 0.0
    data.prices.iloc[0] = -1.0
    pd.testing.assert_frame_equal(frame, before)


def test_returns_run_between_complete_rows_and_the_first_row_goes():
    frame = prices()
    frame.iloc[10, 0] = frame.iloc[20, 1] = np.nan
    data = make(frame, transform="return")
    assert len(data) == ROWS - 1
    assert data.index[0] == frame.index[1]
    complete = frame[["AAA", "BBB"]].dropna()
    expected = complete.pct_change().iloc[1:]
    assert_array_equal(data.index[data.observed], expected.index)
    assert_allclose(data.y[data.observed], expected["AAA"], rtol=0, atol=1e-15)
    assert_allclose(data.x[data.observed, 0], expected["BBB"], rtol=0, atol=1e-15)
    # the row after the gap holds the move over both bars, of both legs
    assert_allclose(data.y[10], frame["AAA"].iloc[11] / frame["AAA"].iloc[9] - 1, atol=1e-15)
    assert_allclose(data.x[10, 0], frame["BBB"].iloc[11] / frame["BBB"].iloc[9] - 1, atol=1e-15)


@pytest.mark.parametrize("transform", ["log", "level", "return"])
def test_a_gap_in_any_column_becomes_a_row_that_is_not_observed(transform: str):
    frame = prices()
    frame.iloc[5, 0] = frame.iloc[7, 1] = frame.iloc[9, 2] = np.nan
    data = make(frame, hedges=["BBB", "CCC"], transform=transform)
    assert_array_equal(data.index[~data.observed], frame.index[[5, 7, 9]])
    assert not data.observed.all()
    assert (data.y[~data.observed] == 0).all()
    assert (data.x[~data.observed] == 0).all()
    assert np.isfinite(data.y).all()
    assert np.isfinite(data.x).all()
    assert_array_equal(data.dt, np.r_[0.0, np.ones(len(data) - 1)])  # a gap is a bar like any other


def test_a_gap_in_a_ticker_that_is_not_used_is_none():
    frame = prices()
    frame.iloc[5, 2] = np.nan
    assert make(frame).observed.all()


def test_time_starts_at_the_first_observed_row():
    frame = prices()
    frame.iloc[:4, 0] = np.nan
    assert_array_equal(make(frame).dt, np.r_[np.zeros(5), np.ones(ROWS - 5)])


INDEXES = {
    "dates": pd.bdate_range("2020-01-01", periods=ROWS, name="date"),
    "a time zone": pd.date_range("2020-01-01 16:00", periods=ROWS, tz="America/New_York", name="t"),
    "minutes": pd.date_range("2020-01-01 09:30", periods=ROWS, freq="min"),
    "whole numbers": pd.RangeIndex(100, 100 + ROWS, name="bar"),
}


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
@pytest.mark.parametrize("transform", ["log", "return"])
def test_the_index_is_kept(index: pd.Index, transform: str):
    first = int(transform == "return")
    data = make(prices(index=index), transform=transform)
    pd.testing.assert_index_equal(data.index, index[first:], exact=True)
    pd.testing.assert_index_equal(data.prices.index, index[first:], exact=True)
    assert data.last_date == index[-1]


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_before_and_after_split_the_data_in_two(index: pd.Index):
    data = make(prices(index=index))
    date = index[40]
    early, late = data.before(date), data.after(date)
    assert early.last_date < date
    assert late.index[0] == date
    pd.testing.assert_frame_equal(pd.concat([early.values, late.values]), data.values)
    pd.testing.assert_frame_equal(pd.concat([early.prices, late.prices]), data.prices)
    assert_array_equal(np.r_[early.y, late.y], data.y)


def test_a_date_between_two_rows_splits_too():
    data = make(prices())
    assert data.before("2020-01-12").last_date == pd.Timestamp("2020-01-10")  # a Friday
    assert data.after("2020-01-12").index[0] == pd.Timestamp("2020-01-13")


def test_returns_after_a_split_still_look_back_over_it():
    data = make(prices(), transform="return")
    assert data.after(data.index[40]).observed.all()


def test_dates_in_another_time_zone_name_the_same_moment():
    index = INDEXES["a time zone"]
    data = make(prices(index=index))
    assert len(data.before(index[40].tz_convert("UTC"))) == 40


def test_it_prints_what_it_holds():
    frame = prices()
    frame.iloc[5, 0] = np.nan
    text = repr(make(frame))
    for word in ("AAA on BBB", "log", "60 rows", "1 of them", "2020-01-01", "2020-03-24"):
        assert word in text
    assert "no rows" in repr(make(frame).after("2030-01-01"))


# -- complaints ----------------------------------------------------------------------------------


def test_an_unknown_ticker_is_named_with_what_is_near():
    assert complaint(prices(), target="AAB") == (
        "AAB is not among the 3 columns of the prices; there is AAA ..."
    )
    assert "XYZ is not among" in complaint(prices(), hedges=["BBB", "XYZ"])
    assert "AAA, BBB, CCC" in complaint(prices(), hedges=["123456"])  # nothing is near: all


def test_the_target_may_not_hedge_itself():
    assert "AAA is the target and cannot hedge itself" in complaint(prices(), hedges=["BBB", "AAA"])
    assert "take it out of hedges" in complaint(prices(), hedges=["AAA"])


def test_no_hedge_and_a_hedge_named_twice():
    assert "no hedge given for AAA: name at least one" in complaint(prices(), hedges=[])
    assert "BBB is named twice among the hedges" in complaint(prices(), hedges=["BBB", "BBB"])


def test_a_ticker_with_two_columns():
    frame = prices()
    frame.columns = ["AAA", "BBB", "BBB"]
    assert complaint(frame) == "BBB names several columns of the prices: keep one"


def test_duplicate_dates():
    frame = pd.concat([prices(), prices().iloc[[17]]]).sort_index()
    text = complaint(frame)
    assert "2020-01-24 00:00:00 stands more than once" in text
    remedy = re.search(r"frame\[.*\]", text).group()
    assert len(make(eval(remedy, {"frame": frame}))) == ROWS


@pytest.mark.parametrize(
    "index", [INDEXES["dates"], INDEXES["whole numbers"]], ids=["dates", "int"]
)
def test_unsorted_dates(index: pd.Index):
    frame = prices(index=index)
    frame = frame.iloc[[*range(20), 21, 20, *range(22, ROWS)]]
    text = complaint(frame)
    assert f"dates are not sorted: {index[20]} comes after {index[21]}" in text
    remedy = re.search(r"frame\.\w+\(\)", text).group()
    assert len(make(eval(remedy, {"frame": frame}))) == ROWS


def test_dates_that_are_text():
    frame = prices()
    frame.index = frame.index.strftime("%Y-%m-%d")
    text = complaint(frame)
    assert "labelled with text (first: '2020-01-01')" in text
    assert "pd.to_datetime" in text


@pytest.mark.parametrize("name", ["alpha", "noise"])
def test_a_ticker_called_like_a_coefficient(name: str):
    frame = prices().rename(columns={"BBB": name})
    text = f"'{name}' names a coefficient here: rename that column of the prices"
    assert complaint(frame, hedges=[name]) == complaint(frame, target=name, hedges=["CCC"]) == text


@pytest.mark.parametrize(
    "index", [pd.period_range("2020-01-01", periods=ROWS), pd.Index(np.arange(ROWS) / 2)]
)
def test_rows_that_are_neither_dated_nor_numbered(index: pd.Index):
    text = complaint(prices(index=index))
    assert "dates or whole numbers are needed" in text
    assert "frame.index.to_timestamp()" in text


def test_a_row_without_a_date():
    frame = prices()
    frame.index = frame.index[:-1].append(pd.DatetimeIndex([pd.NaT]))
    assert "a row has no date (NaT): drop it with frame[frame.index.notna()]" in complaint(frame)


@pytest.mark.parametrize("transform", ["log", "return"])
@pytest.mark.parametrize("bad", [0.0, -3.5])
def test_prices_that_are_not_positive(transform: str, bad: float):
    frame = prices()
    frame.loc["2020-02-03", "BBB"] = bad
    assert complaint(frame, transform=transform) == (
        f"BBB is {bad:g} at 2020-02-03 00:00:00: a {transform} transform needs positive prices; "
        'make it a gap (NaN) if it is a bad print, or use transform="level"'
    )
    assert make(frame, transform="level").observed.all()
    frame.loc["2020-02-03", "BBB"] = np.nan
    assert (
        make(frame, transform=transform).observed.sum() == len(make(frame, transform=transform)) - 1
    )


@pytest.mark.parametrize("transform", ["log", "level", "return"])
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_prices_that_are_infinite(transform: str, bad: float):
    frame = prices()
    frame.loc["2020-02-03", "AAA"] = bad
    assert complaint(frame, transform=transform) == (
        "AAA is infinite at 2020-02-03 00:00:00: replace it with NaN to make it a gap"
    )


def test_prices_that_are_no_numbers():
    frame = prices().astype(object)
    frame.loc["2020-02-03", "AAA"] = "n/a"
    text = complaint(frame)
    assert "AAA holds something that is not a number: 'n/a' at 2020-02-03 00:00:00" in text
    assert "errors='coerce'" in text
    frame["AAA"] = pd.to_numeric(frame["AAA"], errors="coerce")
    assert make(frame).observed.sum() == ROWS - 1


def test_something_else_than_a_table():
    assert "must be a pandas DataFrame" in complaint(prices()["AAA"])
    assert 'transform must be "log", "level" or "return", not \'logs\'' in complaint(
        prices(), transform="logs"
    )


@pytest.mark.parametrize("transform", ["log", "level", "return"])
def test_a_hedge_that_never_moves(transform: str):
    frame = prices()
    frame["CCC"] = 7.0
    text = complaint(frame, hedges=["BBB", "CCC"], transform=transform)
    assert "hedge CCC is constant" in text
    assert "to 2020-03-24 00:00:00" in text
    assert "leave it out or choose other dates" in text
    assert (
        make(frame, target="CCC", transform=transform).target == "CCC"
    )  # a target may stand still


def test_a_hedge_that_moves_only_where_the_target_is_missing():
    frame = prices()
    frame["BBB"] = 7.0
    frame.iloc[3, 1], frame.iloc[3, 0] = 8.0, np.nan
    assert "hedge BBB is constant" in complaint(frame)


def test_too_few_common_rows():
    frame = prices()
    frame.iloc[:20, 0] = frame.iloc[45:, 1] = np.nan
    assert complaint(frame) == (
        "only 25 common rows of AAA and BBB (prices there: AAA 40, BBB 45); 30 are needed: "
        "give a longer history or drop the ticker with the gaps"
    )
    assert len(make(prices(MIN_ROWS))) == MIN_ROWS
    assert "only 29 common rows" in complaint(prices(MIN_ROWS - 1))
    assert "only 29 common rows" in complaint(prices(MIN_ROWS), transform="return")
    assert "only 0 common rows" in complaint(prices().iloc[:0])


def test_a_cut_is_judged_when_it_is_used():
    frame = prices()
    frame.iloc[:40, 1] = 7.0
    data = make(frame)
    data.before(frame.index[50]).check_enough()
    with pytest.raises(ValueError, match="hedge BBB is constant"):
        data.before(frame.index[40]).check_enough()
    with pytest.raises(ValueError, match="only 20 common rows"):
        data.before(frame.index[20]).check_enough()


def test_time_zones_that_do_not_match():
    aware, naive = make(prices(index=INDEXES["a time zone"])), make(prices())
    for cut in (aware.before, aware.after):
        with pytest.raises(ValueError, match="time zones do not match") as caught:
            cut("2020-02-01")
        assert "dated in America/New_York, the date 2020-02-01 is without one" in str(caught.value)
        remedy = str(caught.value).split("; use ")[1]
        cut(eval(remedy, {"pd": pd}))
    date = pd.Timestamp("2020-02-01", tz="UTC")
    with pytest.raises(ValueError, match="dated without a time zone") as caught:
        naive.before(date)
    remedy = str(caught.value).split("; use ")[1]
    naive.before(eval(remedy, {"date": date}))
