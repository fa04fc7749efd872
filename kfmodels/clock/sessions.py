"""When a market is open: its sessions, and the closed periods between them."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from importlib import import_module
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kfmodels.clock.instants import (
    Index,
    Nanoseconds,
    Time,
    calendar_days,
    read,
    read_rows,
    shown,
    to_utc,
    wall_time,
    zone_of,
)

GAPS = ("overnight", "weekend", "break")
OVERNIGHT, WEEKEND, BREAK = range(3)


@dataclass(frozen=True, slots=True)
class Sessions:
    """When a market is open: instants in UTC nanoseconds, and the kind of each closed period.

    Made by `Clock.exchange`, `Clock.hours` or, from any list of opens and closes, `Sessions.of`.
    Sessions that touch are one session.

    Args:
        opens, closes: of the n sessions, in order.
        kinds: of the n - 1 closed periods between them, as indices into `GAPS`.
        zone: whose calendar days tell a weekend from a night.
        name: of the market, for messages.
    """

    opens: tuple[int, ...] = field(repr=False)
    closes: tuple[int, ...] = field(repr=False)
    kinds: tuple[int, ...] = field(repr=False)
    zone: str
    name: str
    _before: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _crossed: tuple[tuple[str, tuple[int, ...]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # sums up to every session, so that a time between is one search and one subtraction
        lengths = (close - at for at, close in zip(self.opens, self.closes, strict=True))
        crossed = tuple(
            (name, tuple(accumulate((kind == index for kind in self.kinds), initial=0)))
            for index, name in enumerate(self.gaps)
        )
        object.__setattr__(self, "_before", tuple(accumulate(lengths, initial=0)))
        object.__setattr__(self, "_crossed", crossed)

    @property
    def gaps(self) -> tuple[str, ...]:
        """Kinds of closed periods: "overnight", "weekend" and, in markets with lunch, "break"."""
        return GAPS if BREAK in self.kinds else GAPS[:BREAK]

    @classmethod
    def of(
        cls, opens: Index, closes: Index, *, zone: str = "UTC", name: str = "the sessions given"
    ) -> "Sessions":
        """Sessions from their opens and closes.

        A closed period is a "weekend" if it holds at least one whole calendar day of `zone`, midnight
        to midnight, so a holiday is one too; else "overnight".

        Args:
            opens, closes: times of the same length, sorted; times without a zone are read in `zone`.
            zone: name of the market's time zone.
            name: of the market, for messages.

        Raises:
            ValueError: there is no session, opens and closes differ in number, a close is not after
                its open, sessions overlap or are not in order.

        Example:
            >>> Sessions.of(["2024-01-02 10:00"], ["2024-01-02 15:00"], zone="Europe/Paris")
            Sessions(zone='Europe/Paris', name='the sessions given')
        """
        where = zone_of(zone)
        start, end = (
            times.at if times.aware else to_utc(times.at, where)
            for times in (read_rows(opens), read_rows(closes))
        )
        return _build(start, end, np.zeros(len(start), bool), zone=zone, name=name)

    @classmethod
    def exchange(cls, name: str, start: Time | None, end: Time | None) -> "Sessions":
        """The sessions of an exchange, see `Clock.exchange`."""
        try:
            # by name, as it is optional and brings pandas, which the trading process does without
            calendars = import_module("exchange_calendars")
        except ImportError as error:
            raise ValueError(
                "the sessions of an exchange need exchange_calendars: pip install "
                "'kfmodels[calendar]', or use Clock.hours(...), which knows only holidays it is told"
            ) from error
        try:
            calendar = calendars.get_calendar(name, start=start, end=end)
        except (ValueError, calendars.errors.CalendarError) as error:
            raise ValueError(
                f"no sessions of {name} from {start or 'its start'} to {end or 'its end'}: {error}"
            ) from error
        opens: Nanoseconds = calendar.opens_nanos
        closes: Nanoseconds = calendar.closes_nanos
        resumed = np.zeros(len(opens), bool)
        if calendar.has_break:  # a day with a lunch break is two sessions
            lunch = calendar.schedule["break_start"].notna().to_numpy()
            opens = np.concatenate([opens, calendar.break_ends_nanos[lunch]])
            closes = np.where(lunch, calendar.break_starts_nanos, closes)
            closes = np.concatenate([closes, calendar.closes_nanos[lunch]])
            resumed = np.append(resumed, np.ones(lunch.sum(), bool))
        order = np.argsort(opens)
        return _build(opens[order], closes[order], resumed[order], zone=str(calendar.tz), name=name)

    @classmethod
    def hours(
        cls,
        opens: str | time,
        closes: str | time,
        *,
        zone: str,
        days: Iterable[int],
        holidays: Iterable[Time],
        start: Time,
        end: Time,
    ) -> "Sessions":
        """Sessions of the same hours on the same week days, see `Clock.hours`."""
        first, last = _time_of_day(opens), _time_of_day(closes)
        weekdays, shut = set(days), {_date(day) for day in holidays}
        if not weekdays <= set(range(7)):
            raise ValueError(f"days are numbers from 0, Monday, to 6, Sunday, not {weekdays}")
        span = range(_date(start).toordinal(), _date(end).toordinal() + 1)
        dates = map(date.fromordinal, span)
        traded = [day for day in dates if day.weekday() in weekdays and day not in shut]
        over = timedelta(days=1 if last <= first else 0)  # the close is on the next day
        where = zone_of(zone)
        # with their zone, so that an hour that the clocks repeat is read as the first, not refused
        starts = [read(datetime.combine(day, first, where)).at for day in traded]
        ends = [read(datetime.combine(day + over, last, where)).at for day in traded]
        return _build(
            np.array(starts, np.int64),
            np.array(ends, np.int64),
            np.zeros(len(traded), bool),
            zone=zone,
            name=f"{first:%H:%M} to {last:%H:%M} {zone}",
        )

    def place(self, at: int) -> tuple[int, int]:
        """Number of closed periods that began before an instant, and the open nanoseconds until it.

        Raises:
            ValueError: the instant is before the first open or after the last close.
        """
        i, passed = self.reach(at)
        return i, self._before[i] + passed

    def reach(self, at: int) -> tuple[int, int]:
        """The same, but the open nanoseconds since the open of its session, or of the next one."""
        if not self.opens[0] <= at <= self.closes[-1]:
            raise ValueError(
                f"{shown(at)} UTC is outside what this clock knows of {self.name}, which is from "
                f"{shown(self.opens[0])} to {shown(self.closes[-1])} UTC: make the clock again with an "
                "earlier start= or a later end="
            )
        # left: an instant at a close still belongs to its session
        i = bisect_left(self.closes, at)
        # negative in a closed period, in which no open time passes
        return i, max(0, at - self.opens[i])

    def places(self, at: Nanoseconds) -> tuple[Nanoseconds, Nanoseconds]:
        """`place` of sorted instants (T,): closed periods by kind (T, G), open nanoseconds (T,)."""
        i, since = self.reaches(at)
        passed = np.array(self._before)[i] + since
        return np.stack([np.array(count)[i] for _, count in self._crossed], axis=1), passed

    def reaches(self, at: Nanoseconds) -> tuple[Nanoseconds, Nanoseconds]:
        """`reach` of sorted instants, `(T,)` each."""
        for edge in at[[0, -1][: len(at)]].tolist():
            self.reach(edge)
        i = np.searchsorted(np.array(self.closes), at)
        return i, np.maximum(0, at - np.array(self.opens)[i])

    def closed(self, at: Nanoseconds) -> NDArray[np.bool_]:
        """At which of sorted instants the market is closed; at an open and a close it is not."""
        i, _ = self.reaches(at)
        return at < np.array(self.opens)[i]

    def crossed(self, first: int, second: int) -> dict[str, float]:
        """Closed periods by kind between two numbers of them, as `place` gives them."""
        return {name: float(count[second] - count[first]) for name, count in self._crossed}

    def longest(self) -> int:
        """Open nanoseconds of the longest trading day, its breaks left out."""
        starts = [0, *(i + 1 for i, kind in enumerate(self.kinds) if kind != BREAK)]
        return int(np.add.reduceat(np.subtract(self.closes, self.opens), starts).max())

    def to_json(self) -> dict[str, Any]:
        """A plain dict: the first open and the steps from edge to edge, in their common unit."""
        # 20 years of XNYS are 49 kB in this way, and 227 kB as two lists of nanoseconds
        edges = np.stack([self.opens, self.closes], axis=1).ravel()
        unit = int(np.gcd.reduce(edges))
        return {
            "name": self.name,
            "zone": self.zone,
            "unit": unit,
            "first": int(edges[0]) // unit,
            "steps": (np.diff(edges) // unit).tolist(),
            "kinds": "".join(map(str, self.kinds)),
        }

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> "Sessions":
        """The sessions of `to_json`."""
        edges = [given["unit"] * at for at in accumulate(given["steps"], initial=given["first"])]
        kinds = tuple(map(int, given["kinds"]))
        return cls(tuple(edges[::2]), tuple(edges[1::2]), kinds, given["zone"], given["name"])


def _build(
    opens: Nanoseconds, closes: Nanoseconds, resumed: NDArray[np.bool_], *, zone: str, name: str
) -> Sessions:
    """Sessions from UTC nanoseconds; `resumed` where an open ends a break within a day."""
    if len(opens) != len(closes) or len(opens) == 0:
        raise ValueError(
            f"{name}: {len(opens)} opens and {len(closes)} closes; give one close for each open"
        )
    wrong = np.flatnonzero((closes <= opens) | (np.append(opens[1:], closes[-1]) < closes))
    if len(wrong):
        start, end = shown(int(opens[wrong[0]])), shown(int(closes[wrong[0]]))
        raise ValueError(
            f"{name}: the session from {start} to {end} UTC ends before it opens or "
            "after the next one opens: sort the sessions and take out what overlaps"
        )
    apart = opens[1:] > closes[:-1]  # sessions that touch are joined
    resumed = resumed[1:][apart]
    opens, closes = opens[np.append(True, apart)], closes[np.append(apart, True)]
    where = zone_of(zone)
    # a session that ends at midnight does not reach into the day that begins then
    days = calendar_days(opens[1:], where) - calendar_days(closes[:-1] - 1, where)
    kinds = np.where(resumed, BREAK, np.where(days > 1, WEEKEND, OVERNIGHT))
    return Sessions(
        tuple(opens.tolist()), tuple(closes.tolist()), tuple(kinds.tolist()), zone, name
    )


def _time_of_day(given: str | time) -> time:
    try:
        return given if isinstance(given, time) else time.fromisoformat(given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{given!r} is not a time of day: write it like 09:30") from error


def _date(given: Time) -> date:
    return wall_time(read(given).at).date()
