"""Of the rows of one bar the last complete one is learnt from; a clock in another zone is refused."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from kfmodels.clock.clock import Clock
from kfmodels.data.hedge_data import HedgeData
from tests.made_filters import made_prices
from tests.tables import read_table

OPEN = pd.Timedelta("9h35min")
DAYS = pd.date_range("2024-01-01", periods=40, freq="B")


def polled(times: int) -> pd.DataFrame:
    """Each day's closing prices, preceded by others."""
    prices = pd.DataFrame(made_prices(40 * times), columns=["Y", "X"])
    hours = [day + pd.Timedelta(hours=10 + n) for day in DAYS for n in range(times)]
    return prices.set_index(pd.DatetimeIndex(hours))


def made(prices: pd.DataFrame, clock: Clock | None, **how: str) -> HedgeData:
    how = {"transform": "log"} | how
    return HedgeData.from_prices(prices, target="Y", hedges=["X"], clock=clock, **how)


@pytest.mark.parametrize("transform", ["log", "level", "return"])
def test_a_table_of_polled_days_is_that_of_its_last_rows(transform: str):
    frame = polled(5)
    with pytest.warns(UserWarning, match="160 of 200 rows are followed by another of the same bar"):
        data = made(frame, Clock.daily(), transform=transform)
    once = made(frame.iloc[4::5], Clock.daily(), transform=transform)
    seen = data.observed
    assert_array_equal(data.y[seen], once.y[once.observed])
    assert_array_equal(data.dt[seen], once.dt[once.observed])
    assert_array_equal(data.gaps[seen], once.gaps[once.observed])
    assert data.dt[~seen].sum() == data.gaps[~seen].sum() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert made(frame, None, transform=transform).observed.all() or transform == "return"


def test_the_last_complete_row_of_a_bar_stands():
    frame = polled(3)
    frame.iloc[2::3, 1] = np.nan
    with pytest.warns(UserWarning, match="40 of 120 rows are followed"):
        data = made(frame, Clock.daily())
    assert_array_equal(np.flatnonzero(data.observed), np.arange(1, 120, 3))


@pytest.mark.parametrize("bar", ["1min", "5min", "30min"])
def test_bars_of_real_minutes_are_alike_one_by_one_and_as_a_table(bar: str):
    table = read_table("intraday_us_1min_2019-02.csv.gz", index_col=0)
    index = pd.to_datetime(table.index[:900], utc=True)
    clock = Clock.hours("09:30", "16:00", zone="America/New_York", bar=bar)
    assert_array_equal(clock.bars_of(index), [clock.bar_of(at) for at in index])


@pytest.mark.parametrize("zone", [None, "America/New_York", "UTC", "Asia/Tokyo"])
def test_nights_that_a_clock_does_not_know_are_told_with_the_clock_to_give(zone: str | None):
    times = [t for day in DAYS[:10] for t in pd.date_range(day + OPEN, periods=78, freq="5min")]
    index = pd.DatetimeIndex(times)
    local = "Asia/Tokyo" if zone == "Asia/Tokyo" else "America/New_York"
    index = index if zone is None else index.tz_localize(local).tz_convert(zone)
    frame = pd.DataFrame(made_prices(780), index, ["Y", "X"])
    said = (
        r"have 9 nights, the first after 2024-01-01 .*each for about 211 open bars: give the clock"
    )
    with pytest.warns(UserWarning, match=said) as caught:
        made(frame, Clock("5min"))
    assert len(caught) == 1
    remedy = re.search(r"Clock\.hours\(.*?\)", str(caught[0].message))
    assert remedy
    clock = eval(remedy[0], {"Clock": Clock})
    assert (local == "America/New_York") == ("XNYS" in str(caught[0].message))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = made(frame, clock)
    assert data.dt.sum() == 779
    assert data.gaps.sum() == 9


@pytest.mark.parametrize(
    "index",
    [
        pd.date_range("2024-01-01", periods=2000, freq="5min"),  # always open
        pd.date_range("2024-01-01", periods=4000, freq="1h")[  # but at weekends
            np.asarray(pd.date_range("2024-01-01", periods=4000, freq="1h").day_of_week < 5)
        ],
        DAYS,
    ],
    ids=["always", "weekends", "daily"],
)
def test_a_market_without_nights_is_not_told_of_any(index: pd.DatetimeIndex):
    frame = pd.DataFrame(made_prices(len(index)), index, ["Y", "X"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(frame, Clock("5min"))


def test_a_clock_in_another_zone_is_refused_and_the_remedy_works():
    clock = Clock.hours("09:30", "16:00", zone="America/New_York")
    times = [
        t
        for day in DAYS[:5]
        for t in pd.date_range(day + pd.Timedelta("12h31min"), periods=100, freq="1min")
    ]
    right = pd.DataFrame(made_prices(500), pd.DatetimeIndex(times), ["Y", "X"])
    wrong = right.tz_localize("UTC")
    said = (
        r"500 of 500 rows lie outside .* give frame.tz_localize\(None\).tz_localize\('America/New"
    )
    with pytest.raises(ValueError, match=said):
        made(wrong, clock)
    data = made(wrong.tz_localize(None).tz_localize("America/New_York"), clock)
    assert_array_equal(data.dt, made(right, clock).dt)
    utc = right.tz_localize("America/New_York").tz_convert("UTC").tz_localize(None)
    with pytest.raises(ValueError, match=r"those of UTC; give frame.tz_localize\('UTC'\)"):
        made(utc, clock)
    assert_array_equal(made(utc.tz_localize("UTC"), clock).dt, data.dt)
    daily = pd.DataFrame(made_prices(40), DAYS, ["Y", "X"])
    with pytest.raises(ValueError, match=r"for a row a day give clock=Clock.daily\(\)"):
        made(daily, clock)
    assert made(daily, Clock.daily()).observed.all()


def test_rows_outside_the_sessions_are_counted():
    clock = Clock.hours("09:30", "16:00", zone="America/New_York")
    index = pd.date_range("2024-01-03 15:00", "2024-01-03 16:20", freq="1min")
    frame = pd.DataFrame(made_prices(len(index)), index, ["Y", "X"])
    with pytest.warns(UserWarning, match="rows") as found:
        data = made(frame, clock)
    assert "20 of 81 rows lie outside" in str(found[0].message)
    assert "first at 2024-01-03 16:01:00" in str(found[0].message)
    assert data.observed.sum() == 61 + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(frame[~clock.outside(frame.index)], clock)
