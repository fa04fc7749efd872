"""Times of many kinds as whole numbers: datetimes, pandas Timestamps, datetime64, ISO text.

A time with a zone becomes nanoseconds since 1970 in UTC, one without becomes those its wall clock
shows. Here too: which of two times is later, and a `Moment`, a time as a live filter keeps it.
"""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

SECOND = 10**9
DAY = 86_400 * SECOND
_HELD = "is no time that nanoseconds can hold, which is one of the years 1678 to 2261"
_LAST = np.iinfo(np.int64).max
_NS = np.dtype("datetime64[ns]")
_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)


def read(at: Any) -> tuple[int, bool]:
    """Nanoseconds of a time, and whether it has a time zone.

    Raises:
        ValueError: it is no time. A number is none: it does not say of what.

    Example:
        >>> read("1970-01-02T00:00+01:00"), read("1970-01-02")
        ((82800000000000, True), (86400000000000, False))
    """
    if isinstance(at, str):
        at = _parsed(at)
    if isinstance(at, date) and not isinstance(at, datetime):
        at = datetime(at.year, at.month, at.day)
    aware = getattr(at, "tzinfo", None) is not None
    if isinstance(at, np.datetime64):
        found = int(_converted(at).astype(np.int64))
    elif not isinstance(at, datetime):
        raise ValueError(
            f"{at!r} is not a time: pass a datetime, a Timestamp, a datetime64 or ISO text"
        )
    elif at != at:
        raise ValueError("a time is missing (NaT): leave its row out")
    elif hasattr(at, "asm8"):  # a pandas Timestamp, whose nanoseconds a subtraction would drop
        found = _value(at)
    else:
        since = at - (_EPOCH_UTC if aware else _EPOCH)
        found = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds * 1000
        if abs(found) > _LAST:
            raise ValueError(f"{at} {_HELD}")
    return found, aware


def read_shown(at: Any) -> int:
    """Nanoseconds of the date and time that a stamp shows, whatever its zone."""
    if isinstance(at, str):
        at = _parsed(at)
    return read(at.replace(tzinfo=None) if isinstance(at, datetime) else at)[0]


def read_rows(index: Any) -> tuple[np.ndarray, bool]:
    """The same for a DatetimeIndex, a Series, datetime64 or a list of times; one kind throughout.

    Raises:
        ValueError: as `read`; times with and without a zone among one another.
    """
    aware = _has_zone(index)
    values = np.asarray(_times(index).tz_convert(None) if aware else index)
    if values.dtype.kind == "M":
        return _nanoseconds(values), aware
    pairs = [read(at) for at in values.tolist()]
    if len({aware for _, aware in pairs}) > 1:
        raise ValueError("some times have a time zone and some have none: use one kind")
    return np.array([at for at, _ in pairs], np.int64), bool(pairs) and pairs[0][1]


def read_rows_shown(index: Any) -> np.ndarray:
    """`read_shown` for what `read_rows` takes."""
    values = np.asarray(_times(index).tz_localize(None) if _has_zone(index) else index)
    if values.dtype.kind == "M":
        return _nanoseconds(values)
    return np.array([read_shown(at) for at in values.tolist()], np.int64)


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone; write one like America/New_York") from error


def to_utc(wall: int, zone: ZoneInfo) -> int:
    """UTC of a wall clock's time.

    Raises:
        ValueError: the clocks changed over that time, so that it stands twice or not at all.
    """
    at = wall_time(wall)
    early, late = zone.utcoffset(at), zone.utcoffset(at.replace(fold=1))
    if early != late:
        raise ValueError(
            f"{at} stands twice or not at all in {zone.key}, where the clocks change: pass it with its "
            "time zone"
        )
    return wall - _span(early)


def rows_to_utc(wall: np.ndarray, zone: ZoneInfo) -> np.ndarray:
    """The same for an array, one look at the zone a day."""
    days, row = np.unique(wall // DAY, return_inverse=True)
    starts = [wall_time(day * DAY) for day in days.tolist()]
    first = [_span(zone.utcoffset(at)) for at in starts]
    last = [_span(zone.utcoffset((at + timedelta(1)).replace(fold=1))) for at in starts]
    found = wall - np.array(first, np.int64)[row]
    for i in np.flatnonzero((np.array(first) != np.array(last))[row]).tolist():
        found[i] = to_utc(int(wall[i]), zone)
    return found


def calendar_days(at: np.ndarray, zone: ZoneInfo) -> np.ndarray:
    """Dates of UTC instants in a zone, as whole days since 1970."""
    offsets = [_span((_EPOCH_UTC + _delta(t)).astimezone(zone).utcoffset()) for t in at.tolist()]
    return (at + np.array(offsets, np.int64)) // DAY


def wall_time(at: int) -> datetime:
    """Nanoseconds as the date and time they show."""
    return _EPOCH + _delta(at)


def shown(at: int) -> str:
    """The same as text, in whole seconds."""
    return f"{wall_time(int(at)):%Y-%m-%d %H:%M:%S}"


def _has_zone(index: Any) -> bool:
    return getattr(getattr(index, "dtype", None), "tz", None) is not None


def _times(index: Any) -> Any:
    """What has the methods of a DatetimeIndex: a Series has them under `.dt`."""
    return getattr(index, "dt", index)


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time: write it like 2024-01-02T09:30-05:00") from error


def _delta(at: int) -> timedelta:
    return timedelta(microseconds=at // 1000)


def _span(offset: timedelta | None) -> int:
    return 0 if offset is None else (offset.days * 86_400 + offset.seconds) * SECOND


def _nanoseconds(values: np.ndarray) -> np.ndarray:
    missing = np.flatnonzero(np.isnat(values))
    if len(missing):
        raise ValueError(
            f"a time is missing (NaT), the first in row {missing[0]}: leave its row out"
        )
    return _converted(values).astype(np.int64)


def _value(at: Any) -> int:
    """Nanoseconds of a pandas Timestamp."""
    try:
        return at.value
    except OverflowError as error:
        raise ValueError(f"{at} {_HELD}") from error


def _converted(values: Any) -> Any:
    """A datetime64, or an array of them, in nanoseconds: old NumPy wraps what they cannot hold."""
    try:
        found = values.astype(_NS)
        if (found.astype(values.dtype) == values).all():
            return found
    except OverflowError:
        pass
    raise ValueError(f"{values} {_HELD}")


def instant(at: Any) -> tuple[str, int]:
    """The kind of a time, and the time as a whole number that compares within its kind.

    Nanoseconds, or the number itself where times are plain numbers.

    Raises:
        ValueError: it is no time.
    """
    if isinstance(at, (int, np.integer)) and not isinstance(at, bool):
        if not -(2**63) <= at < 2**63:
            raise ValueError("a time that is a number must fit into 64 bits")
        return "a number", int(at)
    nanoseconds, aware = read(at)
    return f"a time {'with' if aware else 'without'} a time zone", nanoseconds


def check_later(at: Any, before: Any, unchanged: str) -> None:
    """Raise unless `at` is later than the tick before, if there was one.

    `unchanged` says what the error left as it was.
    """
    kind, now = instant(at)
    if before is None:
        return
    kept, last = instant(before)
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


class Moment(NamedTuple):
    """A time: as it is kept, its kind, and as a whole number that compares within its kind.

    `kept` is a number where it came as one, else ISO text, with the offset from UTC that it came with,
    if any: dates are those of the market's own zone. `number` counts microseconds then.
    """

    kept: int | str
    kind: str
    number: int

    @classmethod
    def of(cls, at: Any) -> "Moment":
        """Read a datetime, a date, a pandas Timestamp, a datetime64, ISO text or a whole number.

        Raises:
            ValueError: it is none of these.
        """
        kind, number = instant(at)
        if kind == "a number":
            return cls(number, kind, number)
        shown = read_shown(at)
        text = wall_time(shown)
        if kind == "a time with a time zone":
            text = text.replace(tzinfo=timezone(timedelta(microseconds=(shown - number) // 1000)))
        return cls(text.isoformat(), kind, number // 1000)
