"""`HedgeData` and `HedgePairs`: prices in, aligned values out, and nothing dropped or moved."""

from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import HedgeData
from kfmodels.data import hedge_data, hedge_pairs
from kfmodels.data.hedge_pairs import HedgePairs
from tests.data.made_prices import INDEXES, ROWS, TRANSFORMS, make, prices, stocks_with_gaps


def test_target_and_hedges_in_the_order_given():
    frame = prices()
    data = make(frame, target="CCC", hedges=["BBB", "AAA"])
    assert (data.target, data.hedges) == ("CCC", ("BBB", "AAA"))
    assert_array_equal(data.y, np.log(frame["CCC"]))
    assert_array_equal(data.x, np.log(frame[["BBB", "AAA"]]))
    assert_array_equal(data.prices, frame[["CCC", "BBB", "AAA"]])
    assert len(data) == ROWS
    assert make(frame, hedges="BBB").hedges == ("BBB",)


def test_levels_are_the_prices_and_may_be_negative_and_whole():
    frame = prices() - 60.0  # AAA is a spread, say
    assert (frame["AAA"] < 0).all()
    assert_array_equal(make(frame, transform="level").y, frame["AAA"])
    assert make((prices() * 100).round().astype(int)).y.dtype == float


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
    assert data.index.equals(frame.index[1:])
    expected = np.log(frame[["AAA", "BBB"]].dropna()).diff().iloc[1:]
    assert_array_equal(data.index[data.observed], expected.index)
    assert_allclose(data.y[data.observed], expected["AAA"], rtol=0, atol=1e-15)
    assert_allclose(data.x[data.observed, 0], expected["BBB"], rtol=0, atol=1e-15)
    # the row after the gap holds the move over both bars, of both legs
    assert_allclose(data.y[10], np.log(frame["AAA"].iloc[11] / frame["AAA"].iloc[9]), atol=1e-15)
    assert_allclose(data.x[10, 0], np.log(frame["BBB"].iloc[11] / frame["BBB"].iloc[9]), atol=1e-15)
    assert data.after(data.index[40]).observed.all()  # and after a cut over the cut


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_gap_in_any_column_becomes_a_row_that_is_not_observed(transform):
    frame = prices()
    frame.iloc[5, 0] = frame.iloc[7, 1] = frame.iloc[9, 2] = np.nan
    data = make(frame, hedges=["BBB", "CCC"], transform=transform)
    assert_array_equal(data.index[~data.observed], frame.index[[5, 7, 9]])
    assert (data.y[~data.observed] == 0).all()
    assert (data.x[~data.observed] == 0).all()
    assert np.isfinite(data.y).all()
    assert np.isfinite(data.x).all()
    assert_array_equal(data.dt, np.r_[0.0, np.ones(len(data) - 1)])  # a gap is a bar like any other
    frame.iloc[:, :2] = prices().iloc[:, :2]
    assert make(frame, transform=transform).observed.all()  # CCC is not used


def test_time_starts_at_the_first_observed_row():
    frame = prices()
    frame.iloc[:4, 0] = np.nan
    assert_array_equal(make(frame).dt, np.r_[np.zeros(5), np.ones(ROWS - 5)])


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
@pytest.mark.parametrize("transform", ["log", "return"])
def test_the_index_is_kept_and_split_in_two(index, transform):
    first = int(transform == "return")
    data = make(prices(index=index), transform=transform)
    for part in (data.index, data.prices.index):
        pd.testing.assert_index_equal(part, index[first:], exact=True)
    early, late = data.before(index[40]), data.after(index[40])
    assert early.last_date < index[40] == late.index[0]
    assert late.last_date == index[-1]
    pd.testing.assert_frame_equal(pd.concat([early.values, late.values]), data.values)
    pd.testing.assert_frame_equal(pd.concat([early.prices, late.prices]), data.prices)
    assert_array_equal(np.r_[early.y, late.y], data.y)


def test_a_date_between_rows_or_in_another_time_zone_splits_too():
    data = make(prices())
    assert data.before("2020-01-12").last_date == pd.Timestamp("2020-01-10")  # a Friday
    assert data.after("2020-01-12").index[0] == pd.Timestamp("2020-01-13")
    index = INDEXES["a time zone"]
    assert len(make(prices(index=index)).before(index[40].tz_convert("UTC"))) == 40


def test_it_prints_what_it_holds():
    frame = prices()
    frame.iloc[5, 0] = np.nan
    assert repr(make(frame)) == (
        "HedgeData(AAA on BBB; log; 60 rows (1 with a gap), 2020-01-01 .. 2020-03-24)"
    )
    assert "no rows" in repr(make(frame).after("2030-01-01"))


# -- pairs -----------------------------------------------------------------------------------------


def test_all_pairs_and_one_target():
    frame = stocks_with_gaps()
    names = list(frame.columns)
    every = HedgeData.all_pairs(frame)
    assert every.pairs == tuple(permutations(names, 2))
    assert every.names[:2] == [f"{names[0]}/{names[1]}", f"{names[0]}/{names[2]}"]
    one = HedgeData.one_target(frame, "PEP")
    assert one.pairs == tuple(("PEP", name) for name in names if name != "PEP")
    some = HedgeData.pairs(frame, [("PEP", "KO"), ("SPX", "PEP")], transform="level")
    assert some.transform == "level"
    assert list(some.prices.columns) == ["PEP", "KO", "SPX"]
    assert every.faults == {}
    assert "30 pairs of 6 tickers; log; 80 rows" in repr(every)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_one_pair_is_hedge_data_of_it(transform):
    frame = stocks_with_gaps()
    pairs = HedgeData.all_pairs(frame, transform=transform)
    for name, (target, hedge) in zip(pairs.names, pairs.pairs, strict=True):
        alone = HedgeData.from_prices(frame, target=target, hedges=hedge, transform=transform)
        for found in (pairs.data(name), pairs.data((target, hedge))):
            pd.testing.assert_frame_equal(found.prices, alone.prices)
            pd.testing.assert_frame_equal(found.values, alone.values)
            assert found.transform == transform


def test_pairs_are_split_by_rows():
    frame = stocks_with_gaps()
    pairs, date = HedgeData.all_pairs(frame), frame.index[40]
    early, late = pairs.before(date), pairs.after(str(date.date()))
    assert early.index.equals(frame.index[:40])
    assert late.index.equals(frame.index[40:])
    assert early.pairs == late.pairs == pairs.pairs
    pd.testing.assert_frame_equal(
        early.data("PEP/SPX").values, pairs.data("PEP/SPX").before(date).values
    )


@pytest.mark.filterwarnings("ignore:prices are in doubt:UserWarning")  # made so
def test_what_is_wrong_with_a_ticker_is_kept_and_not_raised():
    frame = stocks_with_gaps().astype(object)
    for row, (name, bad) in enumerate({"text": "n/a", "infinite": np.inf, "zero": 0.0}.items(), 7):
        frame[name] = frame["PEP"].where(np.arange(len(frame)) != row, bad)
    pairs = HedgeData.all_pairs(frame)
    assert f"'n/a' at {frame.index[7]}" in pairs.faults["text"]
    assert f"infinite at {frame.index[8]}" in pairs.faults["infinite"]
    assert f"zero is 0 at {frame.index[9]}" in pairs.faults["zero"]
    for fault, sentence in pairs.faults.items():
        assert pairs.prices[fault].isna().all()
        for name in (f"{fault}/KO", f"KO/{fault}"):
            with pytest.raises(ValueError, match=".") as caught:
                pairs.data(name)
            assert str(caught.value) == sentence
    assert pairs.before(frame.index[60]).faults == pairs.faults
    # a price of zero is a price where no logarithm is taken
    assert set(HedgeData.all_pairs(frame, transform="level").faults) == {"text", "infinite"}
    assert set(HedgeData.all_pairs(frame, transform="return").faults) == set(pairs.faults)


def test_tickers_need_not_be_text():
    frame = stocks_with_gaps().iloc[:, :3]
    frame.columns = pd.Index([1, 2, 3])
    pairs = HedgeData.all_pairs(frame)
    assert pairs.names[0] == "1/2"
    assert pairs.data("1/2").target == "1"


@pytest.mark.filterwarnings("ignore:prices are in doubt:UserWarning")  # made so
def test_the_table_is_looked_at_once_a_ticker(monkeypatch):
    """Of 20,022 pairs of 142 tickers; counted, not timed."""
    moves = np.random.default_rng(2).normal(0, 0.01, (40, 142)).cumsum(0)
    frame = pd.DataFrame(np.exp(moves), columns=[f"T{number}" for number in range(142)])
    counts: dict[str, int] = {}
    for name in ("check_table", "check_columns", "check_index", "check_prices"):
        check = getattr(hedge_pairs, name)

        def counted(*args: Any, name: str = name, check: Any = check) -> None:
            counts[name] = counts.get(name, 0) + 1
            check(*args)

        for module in (hedge_data, hedge_pairs):
            monkeypatch.setattr(module, name, counted, raising=False)
    pairs = HedgeData.all_pairs(frame)
    assert len(pairs) == 142 * 141
    assert counts == {"check_table": 2, "check_columns": 1, "check_index": 1, "check_prices": 142}
    # and one pair of them is found without a look at the others
    assert pairs.data("T141/T140").target == "T141"
    monkeypatch.setattr(HedgePairs, "names", property(lambda _: pytest.fail("all were listed")))
    assert pairs.data("T140/T141").target == "T140"
