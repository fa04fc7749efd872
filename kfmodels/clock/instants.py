"""The one reader of times: datetimes, ISO text, datetime64, whole numbers, and an index of times.

pandas Timestamps are datetimes and keep their nanoseconds. A time with a zone is an instant; one
without is what its wall clock shows, and does not compare with instants.
"""

from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

Nanoseconds = NDArray[np.int64]

Time = date | np.datetime64 | str
"""A date, a datetime (also a pandas Timestamp), a datetime64 or ISO text."""

Stamp = Time | int
"""A time of a tick: one of those, or a whole number."""

SECOND = 10**9
DAY = 86_400 * SECOND
_HELD = "is no time that nanoseconds can hold, which is one of the years 1678 to 2261"
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
        ValueError: it is no time. A number is none: it does not say of what.

    Example:
        >>> read("1970-01-02T00:00+01:00")
        Instant(at=82800000000000, shown=86400000000000, aware=True)
    """
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError as error:
            raise ValueError(
                f"{time!r} is not a time: write it like 2024-01-02T09:30-05:00"
            ) from error
    if isinstance(time, date) and not isinstance(time, datetime):
        time = datetime(time.year, time.month, time.day)
    if isinstance(time, np.datetime64):
        at = int(_converted(time).astype(np.int64))
        return Instant(at, at, aware=False)
    if not isinstance(time, datetime):
        raise ValueError(
            f"{time!r} is not a time: pass a datetime, a Timestamp, a datetime64 or ISO text"
        )
    if time != time:
        raise ValueError("a time is missing (NaT): leave its row out")
    at = _since_1970(time)
    if time.tzinfo is None:
        return Instant(at, at, aware=False)
    return Instant(at, at + _offset(time.utcoffset()), aware=True)


def read_rows(index: Any) -> Instants:
    """Read a DatetimeIndex, a Series, an array of datetime64 or a list of times.

    Raises:
        ValueError: as `read`; times with and without a zone among one another.
    """
    times = getattr(index, "dt", index)  # where a Series has the methods of a DatetimeIndex
    if getattr(getattr(index, "dtype", None), "tz", None) is not None:
        at, shown = (np.asarray(times.tz_convert(None)), np.asarray(times.tz_localize(None)))
        return Instants(_nanoseconds(at), _nanoseconds(shown), aware=True)
    values = np.asarray(index)
    if values.dtype.kind == "M":
        at = _nanoseconds(values)
        return Instants(at, at, aware=False)
    read_ = [read(time) for time in values.tolist()]
    aware = {time.aware for time in read_}
    if len(aware) > 1:
        raise ValueError("some times have a time zone and some have none: use one kind")
    at, shown = (np.array([time[k] for time in read_], np.int64) for k in (0, 1))
    return Instants(at, shown, True in aware)


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone; write one like America/New_York") from error


def to_utc(wall: Any, zone: ZoneInfo) -> Any:
    """UTC of what a wall clock shows, one time or an array of them.

    Raises:
        ValueError: the clocks changed over that time, so that it stands twice or not at all.
    """
    return _one_to_utc(wall, zone) if isinstance(wall, int) else _rows_to_utc(wall, zone)


def _one_to_utc(wall: int, zone: ZoneInfo) -> int:
    at = wall_time(wall)
    early, late = zone.utcoffset(at), zone.utcoffset(at.replace(fold=1))
    if early != late:
        raise ValueError(
            f"{at} stands twice or not at all in {zone.key}, where the clocks change: pass it with its "
            "time zone"
        )
    return wall - _offset(early)


def _rows_to_utc(wall: Nanoseconds, zone: ZoneInfo) -> Nanoseconds:
    """One look at the zone a day, as most days have one offset."""
    days, row = np.unique(wall // DAY, return_inverse=True)
    starts = [wall_time(day * DAY) for day in days.tolist()]
    first = np.array([_offset(zone.utcoffset(at)) for at in starts], np.int64)
    ends = [(at + timedelta(1)).replace(fold=1) for at in starts]
    last = np.array([_offset(zone.utcoffset(at)) for at in ends], np.int64)
    found = wall - first[row]
    for i in np.flatnonzero((first != last)[row]).tolist():
        found[i] = _one_to_utc(int(wall[i]), zone)
    return found


def calendar_days(at: Any, zone: ZoneInfo) -> Any:
    """Dates of UTC instants in a zone, as whole days since 1970; of one or of an array."""
    local = ((_EPOCH_UTC + _delta(t)).astimezone(zone) for t in np.ravel(at).tolist())
    offsets = np.array([_offset(time.utcoffset()) for time in local], np.int64)
    return (at + offsets.reshape(np.shape(at))) // DAY


def wall_time(at: int) -> datetime:
    """Nanoseconds as the date and time they show."""
    return _EPOCH + _delta(at)


def shown(at: int) -> str:
    """The same as text, in whole seconds."""
    return f"{wall_time(int(at)):%Y-%m-%d %H:%M:%S}"


class Kind(StrEnum):
    """Kinds of times, each of which compares with its own kind only."""

    NUMBER = "a number"
    AWARE = "a time with a time zone"
    NAIVE = "a time without a time zone"


class Moment(NamedTuple):
    """A time: as it is kept, its kind, and as a whole number that compares within its kind.

    `kept` is a number where it came as one, else ISO text with the offset from UTC that it came with,
    if any, so that its date is that of the market's own zone. `number` counts microseconds then, or
    is the number itself.
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
            return cls(_number(at), Kind.NUMBER, _number(at))
        time = read(at)
        text = wall_time(time.shown)
        if time.aware:
            text = text.replace(tzinfo=timezone(_delta(time.shown - time.at)))
        return cls(text.isoformat(), time.kind, time.at // 1000)


def check_later(at: object, before: object, unchanged: str) -> None:
    """Raise unless `at` is a time, and later than the tick before where there was one.

    Nanoseconds count. `unchanged` says what the error left as it was.
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


def check_dt(dt: float) -> None:
    """Raise unless it is a number of bars."""
    if not 0 <= dt < float("inf"):
        raise ValueError(f"dt is the number of bars since the last row, 0 or more, not {dt}")


def _compare(at: Any) -> tuple[Kind, int]:
    """What a time compares by, to the nanosecond."""
    if isinstance(at, (int, np.integer)):
        return Kind.NUMBER, _number(at)
    time = read(at)
    return time.kind, time.at


def _number(at: Any) -> int:
    if isinstance(at, bool):
        raise ValueError(f"{at!r} is not a time: pass a datetime, ISO text or a whole number")
    if not -(2**63) <= at < 2**63:
        raise ValueError("a time that is a number must fit into 64 bits")
    return int(at)


def _since_1970(time: Any) -> int:
    """Nanoseconds of a datetime."""
    if hasattr(time, "asm8"):  # a pandas Timestamp, whose nanoseconds a subtraction would drop
        try:
            return time.value
        except OverflowError as error:
            raise ValueError(f"{time} {_HELD}") from error
    since = time - (_EPOCH if time.tzinfo is None else _EPOCH_UTC)
    found = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds * 1000
    if abs(found) > _LAST:
        raise ValueError(f"{time} {_HELD}")
    return found


def _delta(at: int) -> timedelta:
    return timedelta(microseconds=at // 1000)


def _offset(from_utc: timedelta | None) -> int:
    return 0 if from_utc is None else (from_utc.days * 86_400 + from_utc.seconds) * SECOND


def _nanoseconds(values: Any) -> Nanoseconds:
    missing = np.flatnonzero(np.isnat(values))
    if len(missing):
        raise ValueError(
            f"a time is missing (NaT), the first in row {missing[0]}: leave its row out"
        )
    return _converted(values).astype(np.int64)


def _converted(values: Any) -> Any:
    """A datetime64, or an array of them, in nanoseconds.

    Old NumPy wraps around what they cannot hold, so convert back and compare.
    """
    try:
        found = values.astype(_NS)
        if (found.astype(values.dtype) == values).all():
            return found
    except OverflowError:
        pass
    raise ValueError(f"{values} {_HELD}")
