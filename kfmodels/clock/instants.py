"""Reads times of every kind: datetimes, ISO text, datetime64, whole numbers, and an index of times.

pandas Timestamps are datetimes and keep their nanoseconds. A time with a zone is an instant; one
without is what its wall clock shows, and does not compare with instants.

One file: a time must be read alike, whether it comes alone or in an index.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, cast
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Nanoseconds = NDArray[np.int64]

Time = date | np.datetime64 | str
"""A date, a datetime (also a pandas Timestamp), a datetime64 or ISO text."""

Stamp = Time | int
"""A time of a tick: one of those, or a whole number."""

Index = Iterable[Time]
"""A DatetimeIndex, a Series, an array of datetime64 or a list of times."""

SECOND = 10**9
DAY = 86_400 * SECOND
_HELD = "is outside the years 1678 to 2261, which are all that 64 bits of nanoseconds can hold"
_LAST = np.iinfo(np.int64).max
_NS = np.dtype("datetime64[ns]")
_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(NamedTuple):
    """A time in nanoseconds since 1970: `at` in UTC, `shown` on the wall clock that it came with.

    Without a zone, where `aware` is false, both are what the wall clock shows.
    """

    at: int
    shown: int
    aware: bool

    @property
    def kind(self) -> "Kind":
        """The kind of times that it compares with."""
        return Kind.AWARE if self.aware else Kind.NAIVE


class Instants(NamedTuple):
    """The same of many times, `(T,)`, all with a zone or all without."""

    at: Nanoseconds
    shown: Nanoseconds
    aware: bool


def read(time: object) -> Instant:
    """Read a datetime, a date, a datetime64 or ISO text.

    Raises:
        ValueError: it is not a time. A number is refused, as it does not say in which unit it counts.

    Example:
        >>> read("1970-01-02T00:00+01:00")
        Instant(at=82800000000000, shown=86400000000000, aware=True)
    """
    if isinstance(time, str):
        return _read_text(time)
    if isinstance(time, date) and not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day)
    if isinstance(time, np.datetime64):
        at = int(_converted(time))
        return Instant(at, at, aware=False)
    if not isinstance(time, datetime):
        raise ValueError(
            f"{time!r} is not a time: pass a datetime, a Timestamp, a datetime64 or ISO text"
        )
    if time != time:  # NaT of pandas is a datetime, and differs from itself
        raise ValueError("a time is missing (NaT): leave its row out")
    at = _since_1970(time)
    if time.tzinfo is None:
        return Instant(at, at, aware=False)
    return Instant(at, at + _offset(time.utcoffset()), aware=True)


@lru_cache(16)  # of one message the clock, the filter and the log each ask, of the row before too
def _read_text(text: str) -> Instant:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time: write it like 2024-01-02T09:30-05:00") from error
    return read(time)


def read_rows(index: Index) -> Instants:
    """Read a DatetimeIndex, a Series, an array of datetime64 or a list of times.

    Raises:
        ValueError: as `read`; some times have a zone and some have none.
    """
    if getattr(getattr(index, "dtype", None), "tz", None) is not None:
        # NumPy has no time zones: let pandas convert, before the zone is lost
        times: Any = getattr(index, "dt", index)  # a Series has the methods of an index there
        at, shown = np.asarray(times.tz_convert(None)), np.asarray(times.tz_localize(None))
        return Instants(_nanoseconds(at), _nanoseconds(shown), aware=True)
    values = np.asarray(index)
    if values.dtype.kind == "M":
        at = _nanoseconds(values)
        return Instants(at, at, aware=False)
    instants = [read(time) for time in values.tolist()]
    aware = {time.aware for time in instants}
    if len(aware) > 1:
        raise ValueError("some times have a time zone and some have none: use one kind")
    at, shown = (np.array([time[k] for time in instants], np.int64) for k in (0, 1))
    return Instants(at, shown, True in aware)


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    # it looks for a file of that name: "../x" is a ValueError, a folder like "America" an OSError
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone; write one like America/New_York") from error


def to_utc[T: int | Nanoseconds](wall: T, zone: ZoneInfo) -> T:
    """UTC of what a wall clock shows, one time or an array of them.

    Raises:
        ValueError: the clocks were changed then, so that the time occurs twice or not at all.
    """
    found = _one_to_utc(wall, zone) if isinstance(wall, int) else _rows_to_utc(wall, zone)
    return cast("T", found)


def _one_to_utc(wall: int, zone: ZoneInfo) -> int:
    at = wall_time(wall)
    # fold chooses one of two readings, which differ only in the hour that is skipped or repeated
    early, late = zone.utcoffset(at), zone.utcoffset(at.replace(fold=1))
    if early != late:
        raise ValueError(
            f"{at} occurs twice or not at all in {zone.key}, where the clocks change: pass it with its "
            "time zone"
        )
    return wall - _offset(early)


def _rows_to_utc(wall: Nanoseconds, zone: ZoneInfo) -> Nanoseconds:
    """UTC of many wall times; the zone is asked twice a day and not once a row, which is slow."""
    days, row = np.unique(wall // DAY, return_inverse=True)
    starts = [wall_time(day * DAY) for day in days.tolist()]
    first = np.array([_offset(zone.utcoffset(at)) for at in starts], np.int64)
    ends = [(at + timedelta(1)).replace(fold=1) for at in starts]
    last = np.array([_offset(zone.utcoffset(at)) for at in ends], np.int64)
    found = wall - first[row]
    # the days on which the clocks change, twice a year, are read row by row
    for i in np.flatnonzero((first != last)[row]).tolist():
        found[i] = _one_to_utc(int(wall[i]), zone)
    return found


def calendar_days[T: int | Nanoseconds](at: T, zone: ZoneInfo) -> T:
    """Dates of UTC instants in a zone, as whole days since 1970; of one or of an array."""
    local = ((_EPOCH_UTC + _delta(t)).astimezone(zone) for t in np.ravel(at).tolist())
    offsets = np.array([_offset(time.utcoffset()) for time in local], np.int64)
    return cast("T", (at + offsets.reshape(np.shape(at))) // DAY)


def wall_time(at: int) -> datetime:
    """Nanoseconds since 1970 as a date and time without a zone, to the microsecond."""
    return _EPOCH + _delta(at)


def shown(at: int) -> str:
    """Nanoseconds since 1970 as text, in whole seconds."""
    return f"{wall_time(int(at)):%Y-%m-%d %H:%M:%S}"


class Kind(StrEnum):
    """Kinds of times, each of which compares with its own kind only."""

    NUMBER = "a number"
    AWARE = "a time with a time zone"
    NAIVE = "a time without a time zone"


class Moment(NamedTuple):
    """A time: as JSON keeps it, its kind, and a whole number that compares within its kind.

    `kept` is the number that was given, or ISO text with the offset from UTC that was given, if any,
    so that its date is that of the market's own zone. `number` is that number, or the microseconds
    since 1970.
    """

    kept: int | str
    kind: Kind
    number: int

    @classmethod
    def of(cls, at: Any) -> "Moment":
        """Read a datetime, a date, a pandas Timestamp, a datetime64, ISO text or a whole number.

        Raises:
            ValueError: it is none of these.
        """
        if isinstance(at, (int, np.integer)):
            number = _number(at)
            return cls(number, Kind.NUMBER, number)
        time = read(at)
        # the offset and not the zone, because ISO text has no place for the name of a zone
        text = wall_time(time.shown)
        if time.aware:
            text = text.replace(tzinfo=timezone(_delta(time.shown - time.at)))
        return cls(text.isoformat(), time.kind, time.at // 1000)


def check_later(at: object, before: object, unchanged: str) -> None:
    """Raise unless `at` is a time, and later than that of the tick before, if there was one.

    Compares to the nanosecond. `unchanged` says in the error what was left as it was.
    """
    kind, now = _compare(at)
    if before is None:
        return
    kept, last = _compare(before)
    if kind != kept:
        raise ValueError(
            f"the tick at {at} is {kind}, the one before, at {before}, was {kept}: use one kind; "
            f"{unchanged}"
        )
    if not now > last:
        raise ValueError(
            f"the tick at {at} is not later than the last one, at {before}: ticks come in order, each "
            f"once; {unchanged}"
        )


def check_passed(dt: float, gaps: object) -> None:
    """Raise unless `dt` is a number of bars, which NaN is not, and `gaps` are counts by name."""
    try:
        passes = 0 <= dt < 1e300
    except (TypeError, ValueError):
        passes = False
    if not passes:
        raise ValueError(f"dt is the number of bars since the last row, 0 or more, not {dt}")
    if gaps is not None and type(gaps) is not dict and not isinstance(gaps, Mapping):
        raise ValueError(
            f'gaps counts closed periods by name, {{"overnight": 1}}, not {gaps!r:.60}'
        )


def _compare(at: Any) -> tuple[Kind, int]:
    """The kind of a time and the number that it compares by, to the nanosecond."""
    if isinstance(at, (int, np.integer)):
        return Kind.NUMBER, _number(at)
    time = read(at)
    return time.kind, time.at


def _number(at: Any) -> int:
    if isinstance(at, bool):  # bool is an int in Python; reject it
        raise ValueError(f"{at!r} is not a time: pass a datetime, ISO text or a whole number")
    if not -(2**63) <= at < 2**63:
        raise ValueError("a time that is a number must fit into 64 bits")
    return int(at)


def _since_1970(time: datetime) -> int:
    """Nanoseconds of a datetime."""
    if hasattr(time, "asm8"):  # a pandas Timestamp, whose nanoseconds a subtraction would drop
        stamp: Any = time
        try:
            return stamp.value
        except OverflowError as error:
            raise ValueError(f"{time} {_HELD}") from error
    since = time - (_EPOCH if time.tzinfo is None else _EPOCH_UTC)
    # in whole numbers: a float of total_seconds() has no room for microseconds beyond 285 years
    found = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds * 1000
    if abs(found) > _LAST:
        raise ValueError(f"{time} {_HELD}")
    return found


def _delta(at: int) -> timedelta:
    return timedelta(microseconds=at // 1000)


def _offset(from_utc: timedelta | None) -> int:
    return 0 if from_utc is None else (from_utc.days * 86_400 + from_utc.seconds) * SECOND


def _nanoseconds(values: NDArray[np.datetime64]) -> Nanoseconds:
    missing = np.flatnonzero(np.isnat(values))
    if len(missing):
        raise ValueError(
            f"a time is missing (NaT), the first in row {missing[0]}: leave its row out"
        )
    return _converted(values)


def _converted(values: Any) -> Nanoseconds:
    """Nanoseconds since 1970 of a datetime64 or an array of them."""
    try:
        found = values.astype(_NS)
        # older versions of NumPy wrap around instead of raising, so convert back and compare
        if (found.astype(values.dtype) == values).all():
            return found.astype(np.int64)
    except OverflowError:
        pass
    raise ValueError(f"{values} {_HELD}")
