"""Which times of messages a live filter takes: of one kind, none from a far future, none too old.

The standard library only, as all that trades.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from kfmodels.clock.instants import Moment
from kfmodels.live.quotes import span

MONTH = timedelta(days=31)
"""How far ahead a date may be unless it is said."""

_MICROSECOND = timedelta(microseconds=1)
_ADVICE = {
    "a number": ("whole numbers", "holds dates"),
    "a time with a time zone": (
        "times with their offset from UTC, like 2024-01-02T09:30:00-05:00",
        "has no time zone",
    ),
    "a time without a time zone": ("dates or times without an offset", "has a time zone"),
}


def check_kind(what: str, at: Any, now: Moment, last: Moment | None, own: bool) -> None:
    """Raise unless a time is of the kind of the last one, that of a tick of its `own` or of the fit."""
    if last is not None and last.kind != now.kind:
        before = "the ticks before were" if own else "the last row of the fit was"
        times, index = _ADVICE[last.kind]
        raise ValueError(
            f"the {what} at {at} is {now.kind}, {before} {last.kind}: send {times}"
            + ("" if own else f", or fit prices whose index {index}")
        )


@dataclass
class Ahead:
    """How far ahead of the last one a time may be, lest one wrong stamp puts all others out of order.

    After a real silence that is longer the first message is refused and the next is taken, if it is
    later than the first by no more than the limit and none of the old times came between. What was
    refused is remembered in memory only: a journal holds what was taken.

    Args:
        limit: in units of the times; None is no limit.
        timed: whether it is in microseconds; it has no say over times that are numbers then.
    """

    limit: int | None = MONTH // _MICROSECOND
    timed: bool = True
    _refused: Moment | None = field(default=None, init=False, compare=False)

    @classmethod
    def of(cls, given: Any) -> "Ahead":
        """Of a timedelta or a whole number.

        Raises:
            ValueError: it is neither, nor None, or not above 0.
        """
        timed = isinstance(given, timedelta)
        units = round(given / _MICROSECOND) if timed else given
        whole = isinstance(units, int) and not isinstance(units, bool)
        if units is not None and not (whole and units > 0):
            raise ValueError(
                f"max_ahead is a timedelta or a whole number above 0, or None, not {given!r}"
            )
        return cls(units, timed)

    @property
    def given(self) -> Any:
        """The limit as `of` takes it."""
        return self.limit if self.limit is None or not self.timed else _MICROSECOND * self.limit

    def to_json(self) -> dict[str, Any]:
        """The limit, as a plain dict."""
        return {"limit": self.limit, "timed": self.timed}

    def check_units(self, kind: str) -> None:
        """Raise if the limit is a number and times of this kind are none."""
        if self.limit is not None and not self.timed and kind != "a number":
            raise ValueError(
                f"max_ahead is the number {self.limit}, but the times are dates: give a timedelta"
            )

    def check(self, now: Moment, last: Moment | None) -> None:
        """Raise if a time is too far ahead of the last one taken, if there was one."""
        if last is None or self.limit is None or self.timed == (now.kind == "a number"):
            return
        if now.number - last.number <= self.limit:
            return
        first = self._refused
        if first is not None and 0 < now.number - first.number <= self.limit:
            return
        self._refused = now
        raise ValueError(
            f"{now.kept} is {span(now.number - last.number, now.kind)} ahead of the last time, "
            f"max_ahead is {span(self.limit, now.kind)}: if so long a silence was real the next "
            "message is taken, if rows are always that far apart, give a longer max_ahead"
        )

    def taken(self) -> None:
        """A message was taken: what was refused before it stays alone."""
        self._refused = None


def staleness(given: Any) -> tuple[int, bool | None]:
    """How old a price may be in units of the times, and whether those are microseconds; None of 0.

    Raises:
        ValueError: it is neither a timedelta nor a whole number, or negative.
    """
    timed = isinstance(given, timedelta)
    units = round(given / _MICROSECOND) if timed else given
    if not (isinstance(units, int) and units >= 0):
        raise ValueError(
            f"max_staleness is a timedelta or a whole number, 0 or more, not {given!r}"
        )
    return units, timed if units else None


def check_units(stale: int, timed: bool | None, kind: str) -> None:
    """Raise if a staleness in one unit is to judge times of another `kind`."""
    numbers = kind == "a number"
    if timed is None or timed != numbers:
        return
    age = f"the timedelta {_MICROSECOND * stale}" if timed else f"the number {stale}"
    asked = "a whole number in their unit" if numbers else "a timedelta"
    raise ValueError(
        f"max_staleness is {age}, but the times are {'numbers' if numbers else 'dates'}: give {asked}"
    )
