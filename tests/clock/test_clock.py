"""`Clock`: bars of open time and closed periods, against calendars, pandas and counting by hand."""

import json
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kfmodels.clock.clock import Clock, Elapsed
from kfmodels.clock.instants import Kind, Moment, read, read_rows, to_utc
from kfmodels.clock.sessions import Sessions
from tests.processes import trade
from tests.tables import read_table

NY, TOKYO = ZoneInfo("America/New_York"), ZoneInfo("Asia/Tokyo")
DAY, MINUTE = 86_400 * 10**9, pd.Timedelta("1min")
MARKETS = {  # each window holds a weekend, a holiday and, for the first, a half day and a DST change
    "XNYS": ("2018-10-31", "2018-11-30"),
    "XHKG": ("2018-12-17", "2019-01-04"),
    "CMES": ("2018-12-17", "2019-01-04"),
    "24/5": ("2018-12-17", "2019-01-04"),
}


@cache
def exchange(name: str) -> Clock:
    start, end = MARKETS[name]
    return Clock.exchange(name, start=start, end=end)


@cache
def edges(name: str) -> tuple[int, int]:
    """First open and last close."""
    sessions = exchange(name).sessions
    return sessions.opens[0], sessions.closes[-1]


def stamps(name: str, count: int, unit: int) -> pd.DatetimeIndex:
    """Random instants of a market's window, in and out of session, sorted, whole `unit`s."""
    first, last = (edge // unit for edge in edges(name))
    found = np.random.default_rng(0).integers(first, last + 1, count) * unit
    return pd.DatetimeIndex(np.sort(found)).tz_localize("UTC")


# ------------------------------------------------------------------------- against the calendars


@pytest.mark.parametrize("name", ["XNYS", "XHKG"])
def test_bars_and_gaps_are_those_counted_minute_by_minute(name):
    start, end = MARKETS[name]
    calendar = exchange_calendars.get_calendar(name, start=start, end=end, side="left")
    # the minute from 15:59 to 16:00 is labelled 15:59
    minutes = calendar.minutes.as_unit("ns").asi8
    sessions, schedule = calendar.sessions, calendar.schedule
    at = stamps(name, 160, 60 * 10**9)
    crossed = exchange(name).names
    for last, now in zip(at[:80], at[80:], strict=True):
        gaps = dict.fromkeys(crossed, 0.0)
        for day, later in pairwise(sessions):
            if last <= schedule.close[day] < now:
                gaps["weekend" if (later - day).days > 1 else "overnight"] += 1
        for pause in schedule.break_start.dropna():
            if last <= pause < now:
                gaps["break"] += 1
        bars = ((minutes >= last.value) & (minutes < now.value)).sum()
        assert exchange(name).between(last, now) == Elapsed(float(bars), gaps)


@pytest.mark.parametrize("name", ["XNYS", "XLON", "XTKS", "XNZE", "XASX"])
def test_twenty_years_are_those_of_the_schedule(name):
    years = {"start": "2004-01-01", "end": "2023-12-31"}
    calendar, clock = exchange_calendars.get_calendar(name, **years), Clock.exchange(name, **years)
    skipped = np.diff(calendar.sessions.as_unit("ns").asi8) > DAY
    _, gaps, names = clock.rows(calendar.opens)
    assert_array_equal(gaps[1:, names.index("weekend")], skipped)
    assert_array_equal(gaps[1:, names.index("overnight")], ~skipped)
    table = calendar.schedule
    shut = (table.break_end - table.break_start).sum()
    opened = (table.close - table.open).sum() - shut
    assert clock.between(table.open.iloc[0], table.close.iloc[-1]).bars == opened / MINUTE


def test_markets_that_never_close_have_no_gaps_and_nearly_never_have_weekends():
    always = Clock.exchange("24/7", start="2018-12-17", end="2019-01-04")
    ends = "2018-12-20 11:00Z", "2018-12-24 12:00Z"
    assert always.between(*ends) == Elapsed(97 * 60.0, {"overnight": 0.0, "weekend": 0.0})
    assert exchange("24/5").between(*ends) == Elapsed(49 * 60.0, {"overnight": 0.0, "weekend": 1.0})


# ----------------------------------------------------------------------------------- what it obeys


def whole(name: str) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(*edges(name)), min_size=3, max_size=3).map(sorted)


@pytest.mark.parametrize("name", MARKETS)
def test_what_passes_adds_up(name):
    clock = replace(exchange(name), zone="UTC")
    known = clock.sessions.opens + clock.sessions.closes

    @given(whole(name), st.sampled_from(known), st.integers(-2, 2))
    def adds_up(instants, edge, shift):
        # half of the trouble would be at the edges of sessions
        middle = min(max(edge + shift, instants[0]), instants[2])
        for b in (instants[1], middle):
            a, b, c = (np.datetime64(t, "ns") for t in (instants[0], b, instants[2]))
            one, two, both = clock.between(a, b), clock.between(b, c), clock.between(a, c)
            # each is a whole number of ns, rounded once: three roundings and that of the sum
            assert abs(one.bars + two.bars - both.bars) <= 4 * np.spacing(both.bars)
            for kind, count in both.gaps.items():
                assert one.gaps[kind] + two.gaps[kind] == count
                assert one.gaps[kind] >= 0
                assert two.gaps[kind] >= 0

    adds_up()


@pytest.mark.parametrize("name", MARKETS)
def test_rows_say_what_between_says(name):
    clock = exchange(name)
    known = np.array(clock.sessions.opens + clock.sessions.closes)
    edges = pd.DatetimeIndex(known).tz_localize("UTC")
    at = stamps(name, 300, 1).append(edges).sort_values()
    dt, gaps, names = clock.rows(at)
    assert dt.shape == at.shape
    assert gaps.shape == (len(at), len(names))
    assert dt[0] == 0
    assert_array_equal(gaps[0], 0)
    each = [clock.between(*pair) for pair in pairwise(at)]
    assert_array_equal(dt[1:], [one.bars for one in each])
    assert_array_equal(gaps[1:], [[one.gaps[kind] for kind in names] for one in each])


def test_a_closed_period_is_crossed_when_it_is_entered():
    clock = exchange("XNYS")
    close = datetime(2018, 11, 13, 16, tzinfo=NY)
    night = Elapsed(0.0, {"overnight": 1.0, "weekend": 0.0})
    nothing = Elapsed(0.0, {"overnight": 0.0, "weekend": 0.0})
    assert clock.between(close, close + timedelta(microseconds=1)) == night
    assert clock.between(close, close + timedelta(hours=16)) == night  # a print at 08:00
    early = close + timedelta(hours=16)
    assert clock.between(early, early + timedelta(hours=1.5)) == nothing
    assert clock.between(early, early + timedelta(hours=1.5, minutes=1)).bars == 1
    assert clock.between(close, close) == nothing


def test_the_same_instant_counts_the_same_in_every_zone():
    clock, a, b = exchange("XNYS"), datetime(2018, 11, 2, 15), datetime(2018, 11, 5, 10, 30)
    expected = Elapsed(120.0, {"overnight": 0.0, "weekend": 1.0})  # summer time ended on the 4th
    for zone in (NY, TOKYO, UTC):
        forms = [at.replace(tzinfo=NY).astimezone(zone) for at in (a, b)]
        for form in (datetime.isoformat, pd.Timestamp, lambda at: at):
            assert clock.between(*map(form, forms)) == expected
        for index in (pd.DatetimeIndex(forms), pd.Series(forms), forms):
            assert clock.rows(index)[0][1] == 120
    local = replace(clock, zone="America/New_York")
    for form in (np.datetime64, pd.Timestamp, lambda at: at):
        assert local.between(form(a), form(b)) == expected
    assert_array_equal(local.rows(pd.DatetimeIndex([a, b]))[0], [0, 120])
    assert local.between(a.replace(tzinfo=NY), b) == expected  # the zone makes an instant of it


@pytest.mark.parametrize(
    "zone",
    ["America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "America/St_Johns", "UTC"],
)
def test_local_times_become_the_instants_pandas_knows(zone):
    wall = pd.date_range("2005-01-01", "2012-12-31", freq="17min")
    known = wall.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    there = ~known.isna()
    found = to_utc(wall[there].as_unit("ns").asi8, ZoneInfo(zone))
    assert_array_equal(found, known[there].as_unit("ns").asi8)
    for at in wall[~there]:
        with pytest.raises(ValueError, match="occurs twice or not at all"):
            Clock(zone=zone).between(at, at)
        with pytest.raises(ValueError, match="occurs twice or not at all"):
            Clock(zone=zone).rows(np.array([at], "datetime64[ns]"))
    assert zone == "UTC" or not there.all()


# ---------------------------------------------------------------------------------- real rows


@pytest.fixture
def intraday() -> pd.DatetimeIndex:
    """One-minute bars of a week, 390 a day, labelled by their end in New York time."""
    return read_table("intraday_us_1min_2019-02.csv.gz").index


def test_a_week_of_minutes(intraday):
    clock = Clock.exchange("XNYS", start="2019-02-08", end="2019-02-20", zone="America/New_York")
    aware = intraday.tz_localize("America/New_York")
    for same in (intraday, aware, aware.tz_convert("Asia/Tokyo"), list(aware)):
        dt, gaps, names = clock.rows(same)
        assert_array_equal(dt[1:], np.ones(1949))
        assert names == ("overnight", "weekend")
        assert_array_equal(np.flatnonzero(gaps[:, 0]), [390, 780, 1170, 1560])
        assert not gaps[:, 1].any()
    assert_array_equal(clock.rows(intraday[::5])[0][1:], np.full(389, 5.0))


def test_the_weekends_around_it_and_presidents_day(intraday):
    """2019-02-18 was a holiday: three days without a session are one closed period."""
    clock = Clock.exchange("XNYS", start="2019-02-08", end="2019-02-20", zone="America/New_York")
    one = Elapsed(1.0, {"overnight": 0.0, "weekend": 1.0})
    assert clock.between(datetime(2019, 2, 8, 16), intraday[0]) == one
    assert clock.between(intraday[-1], datetime(2019, 2, 19, 9, 31)) == one
    plain = {"opens": "09:30", "closes": "16:00", "zone": "America/New_York"}
    told = Clock.hours(**plain, holidays=["2019-02-18"])
    assert told.between(intraday[-1], "2019-02-19 09:31") == one
    unaware = Clock.hours(**plain).between(intraday[-1], "2019-02-19 09:31")
    assert unaware == Elapsed(391.0, {"overnight": 1.0, "weekend": 1.0})
    assert_array_equal(told.rows(intraday)[0], clock.rows(intraday)[0])
    assert_array_equal(told.rows(intraday)[1], clock.rows(intraday)[1])


def test_a_currency_that_rests_on_weekends():
    """Asynchronous minutes from Sunday 14:00 to Friday 16:00 of the source's clock."""
    at = read_table("lean_fxcm_1min_bid_2014-05.csv.gz").index.to_series()
    week = Sessions.of(
        ["2014-04-27 14:00", "2014-05-04 14:00", "2014-05-11 14:00"],
        ["2014-05-02 16:00", "2014-05-09 16:00", "2014-05-16 16:00"],
    )
    dt, gaps, names = Clock("1min", week, zone="UTC").rows(at)
    shut = 2 * (46 * 60)  # minutes of two weekends
    assert dt.sum() == (at.iloc[-1] - at.iloc[0]) / MINUTE - shut
    assert gaps.sum(0).tolist() == [0, 2]
    assert at[gaps[:, names.index("weekend")] == 1].astype(str).tolist() == [
        "2014-05-04 14:00:00",
        "2014-05-11 14:00:00",
    ]


# ------------------------------------------------------------------------------ without a calendar


@pytest.mark.parametrize(
    ("bar", "bars"),
    [
        ("30s", 2880),
        ("1min", 1440),
        ("min", 1440),
        ("5min", 288),
        ("1h", 24),
        ("1D", 1),
        ("500ms", 172_800),
        (timedelta(minutes=5), 288),
        (np.timedelta64(90, "s"), 960),
        (pd.Timedelta("2h"), 12),
    ],
)
def test_round_the_clock_bars_are_elapsed_time(bar, bars):
    clock = Clock(bar)
    friday, saturday = pd.Timestamp("2025-01-03 18:00"), pd.Timestamp("2025-01-04 18:00")
    assert clock.between(friday, saturday) == Elapsed(float(bars), {})
    assert clock.between("2025-01-03T18:00Z", "2025-01-04T19:00+01:00").bars == bars
    assert clock.names == ()
    dt, gaps, names = clock.rows(pd.DatetimeIndex([friday, saturday]))
    assert_array_equal(dt, [0, bars])
    assert (gaps.shape, names) == ((2, 0), ())


def test_nanoseconds_count():
    a = pd.Timestamp("2025-01-01")
    assert Clock("1us").between(a, a + pd.Timedelta(1, "ns")).bars == 1e-3
    assert Clock("1us").rows(pd.DatetimeIndex([a, a + pd.Timedelta(1, "ns")]))[0][1] == 1e-3
    assert Clock().between(date(2025, 1, 1), date(2025, 1, 2)).bars == 1440


def test_hours_are_those_of_an_exchange_but_for_holidays_and_half_days():
    """November 2018 without Thanksgiving's week: the same sessions, through the end of summer time."""
    exact, plain = exchange("XNYS"), Clock.hours("09:30", time(16), zone="America/New_York")
    at = stamps("XNYS", 300, 1)
    at = at[at < pd.Timestamp("2018-11-21 16:00", tz="America/New_York")]
    assert len(at) > 100
    assert_array_equal(plain.rows(at)[0], exact.rows(at)[0])
    assert_array_equal(plain.rows(at)[1], exact.rows(at)[1])


@pytest.mark.parametrize(
    ("hours", "days", "ends", "bars", "overnight", "weekend"),
    [
        # Thursday noon to Monday noon: 29 hours until Friday 17:00, 19 from Sunday 17:00
        (("17:00", "17:00"), (6, 0, 1, 2, 3), ("2024-03-07 12:00", "2024-03-11 12:00"), 2880, 0, 1),
        (("18:00", "17:00"), (6, 0, 1, 2, 3), ("2024-03-04 12:00", "2024-03-06 12:00"), 2760, 2, 0),
        # a close at midnight leaves the next day whole
        (("10:00", "00:00"), (4, 6), ("2024-03-08 23:59", "2024-03-10 10:01"), 2, 0, 1),
    ],
)
def test_hours_over_midnight_and_on_other_days(hours, days, ends, bars, overnight, weekend):
    clock = Clock.hours(*hours, zone="America/New_York", days=days)
    gaps = {"overnight": overnight, "weekend": weekend}
    assert clock.between(*ends) == Elapsed(bars, gaps)


def test_daily_rows_are_one_bar_each():
    days = pd.DatetimeIndex(
        ["2019-02-13", "2019-02-14", "2019-02-15", "2019-02-19", "2019-02-19 16:00", "2019-02-21"]
    )
    for index in (days, days.tz_localize("Europe/London"), list(days), days.as_unit("s").values):
        dt, gaps, names = Clock.daily().rows(index)
        assert_array_equal(dt, [0, 1, 1, 1, 0, 1])
        assert_array_equal(gaps, [[0], [0], [0], [1], [0], [1]])
        assert names == ("weekend",)
    clock = Clock.daily()
    assert clock.between(date(2019, 2, 14), date(2019, 2, 15)) == Elapsed(1.0, {"weekend": 0.0})
    # in UTC the last two are of one date: summer time began on the 31st
    summer = pd.date_range("2019-03-29", "2019-04-01", tz="Europe/London")
    assert_array_equal(clock.rows(summer)[0], [0, 1, 1, 1])
    assert_array_equal(clock.rows(summer)[1], np.zeros((4, 1)))
    assert clock.between(summer[2], summer[3]) == Elapsed(1.0, {"weekend": 0.0})
    assert clock.between(str(summer[1]), str(summer[3])) == Elapsed(1.0, {"weekend": 1.0})


def test_daily_dates_are_those_of_a_zone_where_it_is_named():
    clock, at = Clock.daily(zone="America/New_York"), []
    for day, hours in ((14, (9.5, 16.0, 20.5)), (15, (0.1, 23.9)), (18, (9.5,))):
        at += [pd.Timestamp(2019, 2, day, tz=NY) + timedelta(hours=hour) for hour in hours]
    for zone in (UTC, TOKYO, NY):
        dt, gaps, _ = clock.rows(pd.DatetimeIndex(at).tz_convert(zone))
        assert_array_equal(dt, [0, 0, 0, 1, 0, 1])
        assert_array_equal(gaps[:, 0], [0, 0, 0, 0, 0, 1])
        each = [clock.between(a.astimezone(zone), b) for a, b in pairwise(at)]
        assert_array_equal([one.bars for one in each], dt[1:])
    in_utc = Clock.daily().rows(pd.DatetimeIndex(at).tz_convert(UTC))[0]
    assert_array_equal(in_utc, [0, 0, 1, 0, 1, 1])
    # clocks go back: the later one shows the earlier hour
    first = datetime(2019, 11, 3, 1, 45, tzinfo=NY)
    second = datetime(2019, 11, 3, 1, 15, tzinfo=NY, fold=1)
    assert Clock.daily().between(first, second).bars == clock.between(first, second).bars == 0


def test_dates_that_go_back_while_time_goes_on_ask_for_a_zone():
    tokyo, london = "2024-03-02T00:30+09:00", "2024-03-01T16:00+00:00"
    asked = (
        r"times come in order of the dates that they show.*Clock.daily\(zone='America/New_York'\)"
    )
    with pytest.raises(ValueError, match=asked):
        Clock.daily().between(tokyo, london)
    for last in ("2024-03-02T00:30+00:00", "2024-03-02"):
        with pytest.raises(ValueError, match="times come in order$"):
            Clock.daily().between(last, london)
    assert Clock.daily(zone="Europe/London").between(tokyo, london).bars == 0


# --------------------------------------------------------------------------- values, and their file


def test_a_clock_is_a_value():
    clock = exchange("XNYS")
    same = Clock.exchange("XNYS", bar=timedelta(minutes=1), start="2018-10-31", end="2018-11-30")
    assert clock == same
    assert hash(clock) == hash(same)
    assert Clock("60s") == Clock("1min") == Clock(pd.Timedelta("1min"))
    for other in (
        replace(clock, bar="5min"),
        replace(clock, zone="UTC"),
        exchange("XHKG"),
        Clock(),
    ):
        assert clock != other
    with pytest.raises(FrozenInstanceError):
        clock.bar = timedelta(1)  # pyright: ignore[reportAttributeAccessIssue]


CLOCKS = {
    "XNYS": lambda: exchange("XNYS"),
    "XHKG": lambda: exchange("XHKG"),
    "hours": lambda: Clock.hours("09:30", "16:00", zone="America/New_York", end="2024-12-31"),
    "round": lambda: Clock("5min"),
    "local": lambda: Clock("1h", zone="Asia/Tokyo"),
    "odd": lambda: Clock(
        "1us", Sessions.of([np.datetime64(3, "ns")], [np.datetime64(10**6, "ns")])
    ),
    "daily": Clock.daily,
    "daily, local": lambda: Clock.daily(zone="America/New_York"),
}


@pytest.mark.parametrize("made", CLOCKS.values(), ids=CLOCKS)
def test_a_clock_comes_back_from_json(made):
    clock = made()
    again = Clock.from_json(json.loads(json.dumps(clock.to_json(), allow_nan=False)))
    assert again == clock
    assert again.names == clock.names


def test_reading_and_counting_needs_numpy_only(tmp_path):
    path = tmp_path / "clock.json"
    path.write_text(json.dumps(exchange("XNYS").to_json()))
    code = f"""
import json, pathlib
from kfmodels.clock.clock import Clock
clock = Clock.from_json(json.loads(pathlib.Path({str(path)!r}).read_text()))
passed = clock.between("2018-11-21T15:59-05:00", "2018-11-26T09:31-05:00")
assert passed.bars == 212 and passed.gaps == {{"overnight": 0, "weekend": 2}}
try:
    Clock.exchange("XNYS")
except ValueError as error:
    assert "pip install 'kfmodels[calendar]'" in str(error)
else:
    raise AssertionError
"""
    assert trade(code) == ""


# ---------------------------------------------------------------------------------- what it refuses

AWARE, NAIVE = datetime(2018, 11, 13, 12, tzinfo=NY), datetime(2018, 11, 13, 12)
NO_ZONE = r"no time zone.*XNYS.*tz_localize\('America/New_York'\).*zone='America/New_York'"
OUTSIDE = "XNYS, which is from 2018-10-31 13:30:00 to 2018-11-30 21:00:00 UTC.*start=.*end="
NYSE_HOURS = {"zone": "America/New_York"}


def between(last: object, now: object, clock: Clock | None = None):
    return lambda: (clock or Clock()).between(last, now)


def rows(index: object, clock: Clock | None = None):
    return lambda: (clock or Clock()).rows(index)


REFUSED = [
    # a time without a zone is no instant
    *(
        (between(*pair, exchange("XNYS")), NO_ZONE)
        for pair in ((NAIVE, AWARE), (AWARE, str(NAIVE)))
    ),
    (rows(np.array([NAIVE], "datetime64[ns]"), exchange("XNYS")), NO_ZONE),
    (between(NAIVE, AWARE), "one of .* has a time zone, the other has none"),
    (rows([NAIVE, AWARE]), "some times have a time zone and some have none"),
    # order
    (between("2024-01-02", "2024-01-01"), "is before 2024-01-02: times come in order$"),
    (
        rows(pd.DatetimeIndex(["2024-01-01", "2024-01-03", "2024-01-01"])),
        "row 2, 2024-01-01 00:00:00, is before row 1, 2024-01-03",
    ),
    # times that are not known
    (between("2018-10-31 09:29:59-04:00", AWARE, exchange("XNYS")), OUTSIDE),
    (between(AWARE, "2018-11-30 16:00:01-05:00", exchange("XNYS")), OUTSIDE),
    (rows([pd.Timestamp("2018-11-30 16:00:01-05:00")], exchange("XNYS")), OUTSIDE),
    (rows(pd.DatetimeIndex(["2024-01-01", None])), "NaT.*row 1"),
    (rows(np.array(["9999-12-31"], "datetime64[D]")), "1678 to 2261"),
    *(
        (made, "9999-12-31.*1678 to 2261")
        for far in (np.datetime64("9999-12-31"), pd.Timestamp("9999-12-31"), date(9999, 12, 31))
        for made in (between("2024-01-01", far), rows([far], Clock.daily()))
    ),
    # bars
    *(
        (lambda bar=bar: Clock(bar), "not the length of a bar")
        for bar in ("", "1", "1m", "-1min", "1 month", 60, pd.NaT, np.timedelta64("NaT", "s"))
    ),
    *(
        (lambda bar=bar: Clock(bar), "positive whole number of microseconds")
        for bar in ("0min", timedelta(0), timedelta(-1), np.timedelta64(1, "ns"))
    ),
    (
        lambda: replace(exchange("XNYS"), bar="1D"),
        r"24 h is longer.*XNYS.*6\.5 h.*Clock\.daily",
    ),
    (lambda: Clock(None, exchange("XNYS").sessions), "has no sessions: give it a bar"),
    # sessions
    (lambda: Clock.exchange("NYZE"), "no sessions of NYZE"),
    (lambda: Clock.exchange("XNYS", start="2019-02-16", end="2019-02-17"), "no sessions of XNYS"),
    (lambda: Clock.exchange("XNYS", start="2020", end="2019"), "no sessions of XNYS"),
    (lambda: Clock(zone="New York"), "'New York' is not a time zone"),
    (lambda: Clock.hours("9.30", "16:00", **NYSE_HOURS), "'9.30' is not a time of day"),
    (lambda: Clock.hours("09:30", "16:00", **NYSE_HOURS, days=[7]), "from 0, Monday, to 6"),
    (lambda: Clock.hours("09:30", "16:00", **NYSE_HOURS, days=[]), "0 opens"),
    (
        lambda: Clock.hours("09:30", "16:00", **NYSE_HOURS, holidays=["xmas"]),
        "'xmas' is not a time",
    ),
    (lambda: Sessions.of(["2024-01-02"], []), "1 opens and 0 closes"),
    (lambda: Sessions.of(["2024-01-02"], ["2024-01-02"]), "ends before it opens"),
    (
        lambda: Sessions.of(["2024-01-02", "2024-01-03"], ["2024-01-04", "2024-01-05"]),
        "from 2024-01-02 00:00:00 to 2024-01-04 00:00:00 UTC",
    ),
    # files
    (lambda: Clock.from_json([]), "no clock as clock.to_json"),
    (lambda: Clock.from_json({"bar": 1000, "zone": None}), "no clock .* KeyError"),
]


@pytest.mark.parametrize(("call", "text"), REFUSED)
def test_what_cannot_be_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize(
    "bad",
    [0, 1.5, np.int64(3), 10**18, None, pd.NaT, "noon", np.datetime64("NaT"), pd.Period("2024")],
)
def test_what_is_no_time_is_refused(bad):
    for clock in (Clock(), Clock.daily(), exchange("XNYS"), Clock(zone="Asia/Tokyo")):
        for call in (between(AWARE, bad, clock), rows([bad], clock)):
            with pytest.raises(ValueError, match="not a time|NaT"):
                call()


@pytest.mark.parametrize("clock", [Clock(), Clock.daily(), exchange("XNYS")], ids=str)
def test_no_rows_have_no_bars(clock):
    dt, gaps, names = clock.rows(pd.DatetimeIndex([]))
    assert (dt.shape, gaps.shape) == ((0,), (0, len(names)))


# ------------------------------------------------------------------------------- times, one by one


@given(st.datetimes(datetime(1680, 1, 1), datetime(2260, 1, 1), timezones=st.timezones()))
def test_a_time_is_read_the_same_in_every_form(at):
    found = {read(form) for form in (at, at.isoformat(), pd.Timestamp(at))}
    since = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    shown = read(at.replace(tzinfo=None)).shown
    assert found == {(since, shown, True)}
    assert read(at.astimezone(UTC)) == (since, since, True)
    assert read_rows([at]) == ([since], [shown], True)


def test_a_moment_keeps_the_date_of_its_own_zone():
    tokyo = Moment.of(pd.Timestamp("2024-03-02 00:30:00.0000015", tz="Asia/Tokyo"))
    assert tokyo == ("2024-03-02T00:30:00.000001+09:00", Kind.AWARE, tokyo.number)
    assert Moment.of(tokyo.kept) == tokyo
    assert (
        Moment.of("2024-03-02")
        == Moment.of(date(2024, 3, 2))
        == Moment.of(np.datetime64("2024-03-02"))
    )
    assert Moment.of("2024-03-02").kept == "2024-03-02T00:00:00"
    assert Moment.of(np.int64(7)) == (7, Kind.NUMBER, 7)


@pytest.mark.parametrize("bar", ["5min", "25min", "1h"])
def test_the_next_bar_is_the_first_that_a_time_is_not_of(bar: str):
    """By the ends of all bars, over breaks and nights, and of bars that a close cuts short."""
    sessions = exchange("XHKG").sessions
    assert sessions is not None
    clock, length = Clock(bar, sessions), pd.Timedelta(bar).value
    ends = [
        min(at, close)
        for opens, close in zip(sessions.opens, sessions.closes, strict=True)
        for at in range(opens + length, close + length, length)
    ]
    bars = [clock.bar_of(pd.Timestamp(at, tz="UTC")) for at in ends]
    last = pd.Timestamp(ends[-1], tz="UTC")
    first = pd.Timestamp(sessions.opens[0], tz="UTC")
    for at in pd.date_range(first, last - pd.Timedelta(bar), freq="7min"):
        mine = clock.bar_of(at)
        after = next(end for end, one in zip(ends, bars, strict=True) if one > mine)
        # a closed period is one bar with the open that it ends in, from which the first bar leads on
        assert clock.next_bar(at) == pd.Timestamp(after, tz="UTC")
    with pytest.raises(ValueError, match="make the clock again with .* a later end="):
        clock.next_bar(last)
