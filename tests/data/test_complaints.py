"""Every complaint about data: what is wrong, where, and what to do."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kfmodels import HedgeData
from kfmodels.data.hedge_data import MIN_ROWS
from tests.data.made_prices import INDEXES, ROWS, TRANSFORMS, make, prices, stocks_with_gaps


def put(value: Any, row: int | slice, column: int, frame: pd.DataFrame | None = None) -> Any:
    """A table with something else in some rows; row 23 is 2020-02-03."""
    frame = prices() if frame is None else frame
    frame.iloc[row, column] = value
    return frame


def labelled(index: Any) -> pd.DataFrame:
    return prices().set_axis(index, axis=0)


def named(*names: str) -> pd.DataFrame:
    return prices().set_axis(names, axis=1)


DATES, STOCKS, PAIR = INDEXES["dates"], stocks_with_gaps(), ("KO", "PEP")
REFUSED = {
    # one pair
    "AAB is not among the 3 columns of the prices; there is AAA ...": lambda: make(
        prices(), target="AAB"
    ),
    "123456 is not among the 3 columns of the prices; there is AAA, BBB, CCC": lambda: make(
        prices(),
        hedges=["123456"],  # nothing is near: all are named
    ),
    "XYZ is not among": lambda: make(prices(), hedges=["BBB", "XYZ"]),
    "AAA is the target and cannot hedge itself: take it out of hedges": lambda: make(
        prices(), hedges=["BBB", "AAA"]
    ),
    "no hedge given for AAA: name at least one": lambda: make(prices(), hedges=[]),
    "BBB is named twice among the hedges": lambda: make(prices(), hedges=["BBB", "BBB"]),
    "BBB names several columns of the prices: keep one, the first of each": lambda: make(
        named("AAA", "BBB", "BBB")
    ),
    "'alpha' names a coefficient here: rename that column of the prices": lambda: make(
        named("AAA", "alpha", "CCC"), hedges=["alpha"]
    ),
    "'noise' names a coefficient here": lambda: make(named("noise", "BBB", "CCC"), target="noise"),
    "must be a pandas DataFrame": lambda: make(prices()["AAA"]),
    'transform must be "log", "level" or "return", not \'logs\'': lambda: make(
        prices(), transform="logs"
    ),
    # its dates
    "labelled with text (first: '2020-01-01'), not dates: read them with pd.read_csv(..., index_col=0, "
    "parse_dates=True) or set frame.index = pd.to_datetime(frame.index)": lambda: make(
        labelled(DATES.strftime("%Y-%m-%d"))
    ),
    "labelled with period[D]: dates or whole numbers are needed; use frame.index = pd.to_datetime(...) "
    "or, for periods, frame.index.to_timestamp()": lambda: make(
        labelled(pd.period_range("2020-01-01", periods=ROWS))
    ),
    "labelled with float64: dates or whole": lambda: make(labelled(np.arange(ROWS) / 2)),
    "a row has no date (NaT): drop it with frame[frame.index.notna()]": lambda: make(
        labelled(DATES[:-1].append(pd.DatetimeIndex([pd.NaT])))
    ),
    # its prices
    "BBB is 0 at 2020-02-03 00:00:00: a log transform needs positive prices; make it a gap (NaN) if it "
    'is a bad print, or use transform="level"': lambda: make(put(0.0, 23, 1)),
    "BBB is -3.5 at 2020-02-03 00:00:00: a return transform needs positive prices; make it a gap": (
        lambda: make(put(-3.5, 23, 1), transform="return")
    ),
    "AAA is infinite at 2020-02-03 00:00:00: replace it with NaN to make it a gap": lambda: make(
        put(np.inf, 23, 0)
    ),
    "AAA is infinite at 2020-02-03": lambda: make(put(-np.inf, 23, 0), transform="level"),
    "AAA is 1e+155 at 2020-02-03 00:00:00: replace it with NaN to make it a gap": lambda: make(
        put(1e155, 23, 0), transform="level"
    ),
    "BBB is -1e+300 at 2020-02-03": lambda: make(put(-1e300, 23, 1), transform="level"),
    "BBB is 1e-300 at 2020-02-03 00:00:00: a return transform needs positive prices": lambda: make(
        put(1e-300, 23, 1), transform="return"
    ),
    "AAA holds something that is not a number: 'n/a' at 2020-02-03 00:00:00; use pd.to_numeric(..., "
    "errors='coerce') to make it a gap": lambda: make(put("n/a", 23, 0, prices().astype(object))),
    # too little to go by
    "hedge CCC is constant at 1.94591 from 2020-01-01 00:00:00 to 2020-03-24 00:00:00: it hedges "
    "nothing; leave it out or choose other dates": lambda: make(
        put(7.0, slice(None), 2), hedges=["BBB", "CCC"]
    ),
    "hedge CCC is constant at 0": lambda: make(
        put(7.0, slice(None), 2), hedges=["CCC"], transform="return"
    ),
    "hedge BBB is constant": lambda: make(  # it moves only where the target is missing
        put(np.nan, 3, 0, put(8.0, 3, 1, put(7.0, slice(None), 1))), transform="level"
    ),
    "only 25 common rows of AAA and BBB (prices there: AAA 40, BBB 45); 30 are needed: give a longer "
    "history or drop the ticker with the gaps": lambda: make(
        put(np.nan, slice(20), 0, put(np.nan, slice(45, None), 1))
    ),
    "only 29 common rows": lambda: make(prices(MIN_ROWS - 1)),
    "only 29 common rows of AAA": lambda: make(prices(MIN_ROWS), transform="return"),
    "only 0 common rows": lambda: make(prices().iloc[:0]),
    # many pairs
    "KOO is not among the": lambda: HedgeData.pairs(STOCKS, [("KOO", "PEP")]),
    "KOO is not among the 6 columns": lambda: HedgeData.one_target(STOCKS, "KOO"),
    "the pair KO/PEP is named twice": lambda: HedgeData.pairs(STOCKS, [PAIR, ("PEP", "KO"), PAIR]),
    "KO is the target and cannot hedge itself": lambda: HedgeData.pairs(STOCKS, [("KO", "KO")]),
    "no pair is given: name at least one": lambda: HedgeData.pairs(STOCKS, []),
    "no pair is given": lambda: HedgeData.all_pairs(STOCKS[["KO"]]),
    "dates are not sorted": lambda: HedgeData.all_pairs(STOCKS[::-1]),
    "stands more than once": lambda: HedgeData.all_pairs(STOCKS.iloc[[0, 1, 1, 2]]),
    "transform must be": lambda: HedgeData.all_pairs(STOCKS, transform="logs"),
    "KO names several columns": lambda: HedgeData.pairs(
        pd.concat([STOCKS, STOCKS[["KO"]]], axis=1), [PAIR]
    ),
    "'alpha' names a coefficient": lambda: HedgeData.all_pairs(
        STOCKS.rename(columns={"KO": "alpha"})
    ),
    "two pairs are called A/B/C": lambda: HedgeData.pairs(
        STOCKS.iloc[:, :4].set_axis(["A", "B/C", "A/B", "C"], axis=1),
        [("A", "B/C"), ("A/B", "C")],
    ),
    "KO/KOO is not among the 30 pairs": lambda: HedgeData.all_pairs(STOCKS).data("KO/KOO"),
    "('KO', 'KO') is not among": lambda: HedgeData.all_pairs(STOCKS).data(("KO", "KO")),
    "prices must be a pandas DataFrame": lambda: HedgeData.all_pairs(STOCKS.to_numpy()),
    "must be a pandas DataFrame, one": lambda: HedgeData.one_target(STOCKS.to_numpy(), "KO"),
    "must be a pandas DataFrame, one column": lambda: HedgeData.pairs(STOCKS.to_numpy(), [PAIR]),
    **{
        f"a pair is two tickers, (target, hedge), not {odd!r}": lambda odd=odd: HedgeData.pairs(
            STOCKS, [PAIR, odd]
        )
        for odd in ("KO/PEP", ("KO", "PEP", "SPX"), ("KO",), 3)
    },
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_is_wrong_is_said(says):
    with pytest.raises(ValueError, match=re.escape(says)):
        REFUSED[says]()


@pytest.mark.filterwarnings("ignore:prices are in doubt:UserWarning")  # made so
def test_what_is_allowed_stays_allowed():
    assert make(put(0.0, 23, 1), transform="level").observed.all()
    for transform in TRANSFORMS:
        assert make(put(np.nan, 23, 1), transform=transform).observed.mean() < 1
        # a target may stand still: the model says what that means
        assert make(put(7.0, slice(None), 2), target="CCC", transform=transform).target == "CCC"
    assert len(make(prices(MIN_ROWS))) == MIN_ROWS


REMEDIES = {
    "2020-01-24 00:00:00 stands more than once": prices().iloc[[*range(18), 17, *range(18, ROWS)]],
    "dates are not sorted: 2020-01-29 00:00:00 comes after 2020-01-30 00:00:00": prices().iloc[
        [*range(20), 21, 20, *range(22, ROWS)]
    ],
    "dates are not sorted: 120 comes after 121": prices(index=INDEXES["whole numbers"]).iloc[
        [*range(20), 21, 20, *range(22, ROWS)]
    ],
}


@pytest.mark.parametrize("says", REMEDIES)
def test_the_remedy_that_is_named_works(says):
    frame = REMEDIES[says]
    with pytest.raises(ValueError, match=says) as caught:
        make(frame)
    remedy = re.search(r"frame(\[.*\]|\.sort_index\(\))", str(caught.value))
    assert len(make(eval(remedy.group(), {"frame": frame}))) == ROWS


def test_time_zones_that_do_not_match_are_named_with_a_remedy_that_works():
    aware, naive = make(prices(index=INDEXES["a time zone"])), make(prices())
    date = pd.Timestamp("2020-02-01", tz="UTC")
    for data, given, says in (
        (aware, "2020-02-01", "dated in America/New_York, the date 2020-02-01 is without one"),
        (naive, date, "dated without a time zone"),
        (HedgeData.all_pairs(prices()), date, "dated without a time zone"),
    ):
        for cut in (data.before, data.after):
            with pytest.raises(ValueError, match=f"time zones do not match: .*{says}") as caught:
                cut(given)
            cut(eval(str(caught.value).split("; use ")[1], {"pd": pd, "date": date}))


@pytest.mark.filterwarnings("ignore:prices are in doubt:UserWarning")  # made so
def test_a_cut_is_judged_when_it_is_used():
    frame = put(7.0, slice(40), 1)
    data = make(frame)
    data.before(frame.index[50]).check_enough()
    with pytest.raises(ValueError, match="hedge BBB is constant"):
        data.before(frame.index[40]).check_enough()
    with pytest.raises(ValueError, match="only 20 common rows"):
        data.before(frame.index[20]).check_enough()
