"""Bars of open time between two rows, and the closed periods (nights, weekends, breaks) crossed.

State noise grows with bars of open time. Closed periods are counted apart, as the variance per hour is
far lower while a market is closed.

One file: a clock offline (arrays) and online (one row) must count alike.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, cast, overload
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from kfmodels.clock.day import OUTSIDE, Place, read_day
from kfmodels.clock.instants import (
    DAY,
    SECOND,
    Index,
    Instant,
    Instants,
    Nanoseconds,
    Stamp,
    Time,
    calendar_days,
    read,
    read_rows,
    shown,
    to_utc,
    wall_time,
    zone_of,
)
from kfmodels.clock.sessions import GAPS, WEEKEND, Sessions
from kfmodels.words.caller import explain_kinds

_HOUR, _MINUTE = 3600 * SECOND, 60 * SECOND
Bar = str | timedelta | np.timedelta64
"""Length of a bar: "30s", "5min", "1h", "1D", or a span of time."""

Numbers = NDArray[np.float64]

_UNITS = {"us": 10**3, "ms": 10**6, "s": SECOND, "min": 60 * SECOND, "h": _HOUR, "D": DAY}


@dataclass(frozen=True, slots=True)
class Elapsed:
    """What passed between two instants: bars of open time, and closed periods by kind."""

    bars: float
    gaps: dict[str, float]


@dataclass(frozen=True, slots=True)
class Clock:
    """Turns time stamps into bars of open time and closed periods crossed.

    With F(t) the time the market was open until t and N_g(t) the closed periods of kind g that began
    before t, `bars = (F(now) - F(last)) / bar` and `gaps[g] = N_g(now) - N_g(last)`: both add up over
    adjacent intervals. A closed period is thus crossed when it begins: after a close at 16:00, a print
    at 16:05 and one at 08:00 have each crossed the whole night and no bar, a row at the close has not.
    Half days are ordinary sessions.

    Args:
        bar: length of a bar: "30s", "5min", "1h", "1D", a timedelta or a timedelta64. None: every row
            is one bar (`Clock.daily`).
        sessions: when the market is open; None is always open, without gaps.
        zone: name of the time zone of times that come without one. If None, a clock with sessions
            refuses such times, and one without sessions takes them as they are. In `Clock.daily` it
            is the zone whose dates count.

    Times are datetimes, pandas Timestamps, datetime64 or ISO text; numbers are refused.

    Raises:
        ValueError: a bar of no positive length, or longer than every session; an unknown zone.

    Source: French and Roll (1986), "Stock return variances: the arrival of information and the
    reaction of traders", Journal of Financial Economics 17.

    Example:
        >>> Clock("5min").between("2025-01-01 00:00", "2025-01-01 01:00")
        Elapsed(bars=12.0, gaps={})
    """

    bar: Bar | None = "1min"
    sessions: Sessions | None = None
    zone: str | None = field(default=None, kw_only=True)
    _bar: int = field(init=False, repr=False, compare=False)
    _zone: ZoneInfo | None = field(init=False, repr=False, compare=False)

    @explain_kinds
    def __post_init__(self) -> None:
        if self.bar is None and self.sessions is not None:
            raise ValueError("a clock of one bar a row has no sessions: give it a bar")
        length = 0 if self.bar is None else _length(self.bar)
        # who asks for "1D" here wants a row a day, but 24 open hours are several sessions
        if self.sessions is not None and length > self.sessions.longest():
            raise ValueError(
                f"a bar of {length / _HOUR:g} h is longer than any session of "
                f"{self.sessions.name}, the longest is {self.sessions.longest() / _HOUR:g} h: "
                "bars are open time; for daily closes use Clock.daily()"
            )
        if self.bar is not None:  # "60s" and "1min" make equal clocks
            object.__setattr__(self, "bar", timedelta(microseconds=length // 1000))
        object.__setattr__(self, "_bar", length)
        object.__setattr__(self, "_zone", None if self.zone is None else zone_of(self.zone))

    @classmethod
    def exchange(
        cls,
        name: str,
        bar: Bar = "1min",
        *,
        start: Time | None = None,
        end: Time | None = None,
        zone: str | None = None,
    ) -> "Clock":
        """A clock of the sessions of an exchange, with its holidays, half days and lunch breaks.

        Args:
            name: market identifier code, such as "XNYS", "XLON" or "XTKS".
            bar, zone: as for `Clock`.
            start, end: dates of the first and last session; from 20 years ago to a year ahead unless
                given. Times before the first open and after the last close are refused.

        Raises:
            ValueError: exchange_calendars is not installed, does not know the exchange or the dates.

        Source: the Python package exchange_calendars.

        Example:
            >>> clock = Clock.exchange("XNYS", start="2018-11-19", end="2018-11-30")
            >>> clock.between("2018-11-21 15:59-05:00", "2018-11-26 09:31-05:00")  # Thanksgiving
            Elapsed(bars=212.0, gaps={'overnight': 0.0, 'weekend': 2.0})
        """
        return cls(bar, Sessions.exchange(name, start, end), zone=zone)

    @classmethod
    @explain_kinds
    def hours(
        cls,
        opens: str | time,
        closes: str | time,
        *,
        zone: str,
        bar: Bar = "1min",
        days: Iterable[int] = range(5),
        holidays: Iterable[Time] = (),
        start: Time = "2000-01-01",
        end: Time = "2040-12-31",
    ) -> "Clock":
        """A clock of the same hours on the same week days, but for the holidays given.

        A holiday that is not given counts a full session of bars, and a closed period on either side.

        Args:
            opens, closes: times of day in `zone`; a close not after the open is on the next day.
            zone: name of the market's time zone, and of times that come without one.
            bar: as for `Clock`.
            days: week days on which sessions open, Monday is 0.
            holidays: dates without a session.
            start, end: dates of the first and last session.

        Raises:
            ValueError: an invalid time of day, date, week day or zone; no day with a session.

        Example:
            >>> clock = Clock.hours("09:30", "16:00", zone="America/New_York")
            >>> clock.between("2024-03-08 15:59", "2024-03-11 09:31")  # summer time began on the 10th
            Elapsed(bars=2.0, gaps={'overnight': 0.0, 'weekend': 1.0})
        """
        sessions = Sessions.hours(
            opens, closes, zone=zone, days=days, holidays=holidays, start=start, end=end
        )
        return cls(bar, sessions, zone=zone)

    @classmethod
    def daily(cls, *, zone: str | None = None) -> "Clock":
        """A clock of daily closes: a row is one bar, however many days lie before it.

        A second row of one date is no bar. `gaps["weekend"]` is 1 if at least one calendar day lies
        between two dates, whatever the reason (weekend, holiday, missing row) and however many days,
        else 0. As rows are counted and not days, neither adds up over intervals that skip a row.

        Args:
            zone: name of the time zone whose dates count, for times in UTC. If None, and for times
                without a zone, the date is the one that a time shows.

        Example:
            >>> Clock.daily().between("2019-02-15", "2019-02-19")
            Elapsed(bars=1.0, gaps={'weekend': 1.0})
            >>> clock = Clock.daily(zone="America/New_York")
            >>> clock.between("2019-02-14T21:00Z", "2019-02-15T01:30Z")  # 16:00 and 20:30 of one day
            Elapsed(bars=0.0, gaps={'weekend': 0.0})
        """
        return cls(None, zone=zone)

    @property
    def names(self) -> tuple[str, ...]:
        """Kinds of gaps that this clock counts, in the order of the columns of `rows`."""
        if self.bar is None:
            return (GAPS[WEEKEND],)
        return () if self.sessions is None else self.sessions.gaps

    def between(self, last: Stamp, now: Stamp) -> Elapsed:
        """Bars of open time and closed periods from one time to a later one.

        Raises:
            ValueError: `now` is before `last`, a time is outside the known sessions, has no zone where
                one is needed, or is not a time.
        """
        first, second = read(last), read(now)
        a, b = self._place(first, last), self._place(second, now)
        if first.aware != second.aware and self.bar is not None and self._zone is None:
            raise ValueError(
                f"one of {last} and {now} has a time zone, the other has none: use one kind"
            )
        if b < a:
            asked = ""
            if second.aware and first.at <= second.at:  # the dates go back, the instants do not
                asked = (
                    " of the dates that they show, each in its own zone: name the zone whose dates "
                    "count, as in Clock.daily(zone='America/New_York')"
                )
            raise ValueError(f"{now} is before {last}: times come in order{asked}")
        if self.bar is None:
            days = b // DAY - a // DAY
            return Elapsed(float(days > 0), {GAPS[WEEKEND]: float(days > 1)})
        if self.sessions is None:
            return Elapsed((b - a) / self._bar, {})
        (i, before), (j, after) = self.sessions.place(a), self.sessions.place(b)
        return Elapsed((after - before) / self._bar, self.sessions.crossed(i, j))

    def bar_of(self, at: Stamp) -> tuple[int, int]:
        """The bar that a time lies in, as numbers that grow with time; those of `bars_of`.

        A bar is of the times after its start up to its end, counted from the open of its session: the
        first number is that of the closed periods crossed, the second `ceil(open time / bar)`. So the
        times from a close to the next open, this one included, are one bar, in which no time passes. Of
        `Clock.daily` a bar is a date.

        Raises:
            ValueError: as `between`.

        Example:
            >>> clock = Clock.hours("09:30", "16:00", zone="America/New_York", bar="5min")
            >>> [clock.bar_of(f"2024-03-08 09:{at}")[1] for at in (30, 31, 35, 36)]
            [0, 1, 1, 2]
        """
        place = self._place(read(at), at)
        if self.bar is None:
            return place // DAY, 0
        if self.sessions is None:
            return 0, -(-place // self._bar)
        crossed, passed = self.sessions.reach(place)
        return crossed, -(-passed // self._bar)

    def bars_of(self, index: Index) -> Nanoseconds:
        """The bars of the sorted times of a table, `(T, 2)`: `bar_of` each of them."""
        at = self._places(index)
        if self.bar is None:
            return np.stack([at // DAY, 0 * at], 1)
        if self.sessions is None:
            return np.stack([0 * at, -(-at // self._bar)], 1)
        crossed, passed = self.sessions.reaches(at)
        return np.stack([crossed, -(-passed // self._bar)], 1)

    def place(self, at: Stamp) -> Place:
        """Where a time lies in its session.

        Raises:
            ValueError: as `between`; the clock has no sessions.

        Example:
            >>> clock = Clock.hours("09:30", "16:00", zone="America/New_York", start="2024-03-07")
            >>> clock.place("2024-03-08 10:00")
            Place(session=1, since=30.0, left=360.0)
        """
        sessions = self._sessions()
        place = self._place(read(at), at)
        number, since = sessions.reach(place)
        opens, length = sessions.opens[number], sessions.closes[number] - sessions.opens[number]
        within = number if place >= opens else OUTSIDE
        return Place(within, since / _MINUTE, (length - since) / _MINUTE)

    def places(self, index: Index) -> Place:
        """`place` of the sorted times of a table, arrays `(T,)`."""
        sessions, at = self._sessions(), self._places(index)
        number, since = sessions.reaches(at)
        opens, closes = (np.array(each)[number] for each in (sessions.opens, sessions.closes))
        within = np.where(at >= opens, number, OUTSIDE)
        return Place(within, since / _MINUTE, (closes - opens - since) / _MINUTE)

    def next_bar(self, at: Stamp) -> datetime:
        """The end of the bar after that of a time, in UTC; after a close the first bar of a session.

        Raises:
            ValueError: as `place`, and where no session follows.

        Example:
            >>> clock = Clock.hours("09:30", "16:00", zone="America/New_York", bar="5min")
            >>> [f"{clock.next_bar(f'2024-03-08 {at}'):%d %H:%M}" for at in ("09:31", "15:55", "16:00")]
            ['08 14:40', '08 21:00', '11 13:35']
        """
        sessions, place = self._sessions(), self._place(read(at), at)
        number, since = sessions.reach(place)
        began = sessions.opens[number] - (-since // self._bar) * self._bar
        if since and began >= sessions.closes[number]:
            number, _ = sessions.reach(sessions.closes[number] + 1)  # raises after the last
            began = sessions.opens[number]
        ends = min(began + self._bar, sessions.closes[number])
        return wall_time(ends).replace(tzinfo=UTC)

    def day(self, at: Stamp) -> Numbers:
        """`read_day` of a row at that time, `(4,)`."""
        return read_day(self.place(at), self.minutes)

    def days(self, index: Index) -> Numbers:
        """`read_day` of the rows of a table, `(T, 4)`."""
        return read_day(self.places(index), self.minutes)

    @property
    def minutes(self) -> float:
        """Length of a bar."""
        return self._bar / _MINUTE

    @property
    def bars_of_day(self) -> float:
        """Bars of the longest session, or where there is none of 24 hours; 1 of `Clock.daily`."""
        if self.bar is None:
            return 1.0
        return 1440 / self.minutes if self.sessions is None else float(len(self.session_days()))

    def session_days(self) -> Numbers:
        """`read_day` of the bars of the longest session, `(bar, 4)`."""
        sessions = self._sessions()
        whole = max(close - at for at, close in zip(sessions.opens, sessions.closes, strict=True))
        since = np.arange(1, max(whole // self._bar, 1) + 1) * self.minutes
        return read_day(
            Place(np.zeros(len(since), int), since, whole / _MINUTE - since), self.minutes
        )

    def _sessions(self) -> Sessions:
        if self.sessions is None:
            raise ValueError(
                "a clock without sessions has no time of day: Clock.hours(...) and Clock.exchange(...) "
                "have them"
            )
        return self.sessions

    def outside(self, index: Index) -> NDArray[np.bool_]:
        """Which of the sorted times of a table lie outside the sessions, `(T,)`."""
        if self.sessions is None or self.bar is None:
            return np.zeros(len(read_rows(index).at), bool)
        return self.sessions.closed(self._places(index))

    def rows(self, index: Index) -> tuple[Numbers, Numbers, tuple[str, ...]]:
        """Bars and closed periods before each row of a table: `between` it and the row before.

        Args:
            index: sorted times of T rows: a DatetimeIndex, datetime64, or a list of times.

        Returns:
            `dt (T,)` in bars, `gaps (T, G)` and the names of the G kinds; the first row is 0.

        Raises:
            ValueError: as `between`; the sentence names the row.

        Example:
            >>> clock = Clock.hours("09:30", "16:00", zone="America/New_York")
            >>> stamps = ["2019-02-14 16:00", "2019-02-15 09:31", "2019-02-15 09:33"]
            >>> clock.rows(np.array(stamps, "datetime64[m]"))[0].tolist()
            [0.0, 1.0, 2.0]
        """
        at = self._places(index)
        dt, gaps = np.zeros(len(at)), np.zeros((len(at), len(self.names)))
        if len(at) == 0:
            return dt, gaps, self.names
        back = np.flatnonzero(np.diff(at) < 0)
        if len(back):
            row = int(back[0]) + 1
            before, here = shown(int(at[row - 1])), shown(int(at[row]))
            raise ValueError(f"row {row}, {here}, is before row {row - 1}, {before}: sort the rows")
        if self.bar is None:
            days = np.diff(at // DAY)
            dt[1:], gaps[1:, 0] = days > 0, days > 1
        elif self.sessions is None:
            dt[1:] = np.diff(at) / self._bar
        else:
            crossed, passed = self.sessions.places(at)
            dt[1:], gaps[1:] = np.diff(passed) / self._bar, np.diff(crossed, axis=0)
        return dt, gaps, self.names

    def to_json(self) -> dict[str, Any]:
        """A plain dict with every session in it, so that reading it back needs no calendar package."""
        return {
            "bar": None if self.bar is None else self._bar,
            "zone": self.zone,
            "sessions": None if self.sessions is None else self.sessions.to_json(),
        }

    @classmethod
    def from_json(cls, document: object) -> "Clock":
        """The clock of `to_json`, equal to the one it came from.

        It is a part of other documents, and their versions are its own.

        Raises:
            ValueError: it is not a saved clock, or is damaged.
        """
        given = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
        try:
            bar, sessions, zone = given["bar"], given["sessions"], given["zone"]
            return cls(
                None if bar is None else np.timedelta64(bar, "ns"),
                None if sessions is None else Sessions.from_json(sessions),
                zone=zone,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"this is no clock as clock.to_json() makes one: {error!r}; save it again"
            ) from error

    def _places(self, index: Index) -> Nanoseconds:
        """`_place` of the times of a table."""
        times = read_rows(index)
        return self._place(times, shown(int(times.at[0]))) if len(times.at) else times.at

    @overload
    def _place(self, times: Instant, shown_as: object) -> int: ...
    @overload
    def _place(self, times: Instants, shown_as: object) -> Nanoseconds: ...
    def _place(self, times: Instant | Instants, shown_as: object) -> int | Nanoseconds:
        """Nanoseconds of the time line that this clock counts on, of one time or of many.

        `shown_as` is what an error calls the time.
        """
        if self.bar is None:
            if not times.aware:
                return times.shown
            # whole days, because wall clocks go back an hour in autumn and dates do not
            if self._zone is None:
                return times.shown // DAY * DAY
            return calendar_days(times.at, self._zone) * DAY
        if times.aware:
            return times.at
        if self._zone is not None:
            return to_utc(times.at, self._zone)
        if self.sessions is not None:
            name, zone = self.sessions.name, self.sessions.zone
            raise ValueError(
                f"{shown_as} has no time zone, but the sessions of {name} are instants: localise it, "
                f"as in index.tz_localize({zone!r}), or make the clock with zone={zone!r} if it is in "
                "that"
            )
        return times.at


def _length(bar: object) -> int:
    """Nanoseconds of a bar."""
    asked = (
        f"{bar!r} is not the length of a bar: write 30s, 1min, 5min, 1h or 1D, or pass a timedelta"
    )
    given: Any = bar
    if isinstance(bar, str):
        parts = re.fullmatch(r"(\d+)? ?([A-Za-z]+)", bar)
        if parts is None or parts[2] not in _UNITS:
            raise ValueError(asked)
        length = int(parts[1] or 1) * _UNITS[parts[2]]
    elif isinstance(bar, (timedelta, np.timedelta64)) and bar == bar:  # not NaT
        # a pandas Timedelta may hold nanoseconds, which only its asm8 keeps
        length = int(np.timedelta64(getattr(given, "asm8", given), "ns").astype(np.int64))
    else:
        raise ValueError(asked)
    if length <= 0 or length % 1000:  # a timedelta holds no less than a microsecond
        raise ValueError(f"{bar!r}: a bar is a positive whole number of microseconds")
    return length
