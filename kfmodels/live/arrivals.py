"""Which times a live filter takes: of one kind, and none too far ahead of the last."""

from dataclasses import dataclass, field
from datetime import timedelta

from kfmodels.clock.instants import Kind, Moment
from kfmodels.files.documents import register

MONTH = timedelta(days=31)
"""How far ahead of the last one a date may be by default."""

_LEAST_STEP = 1_000_000
"""Step between whole numbers that is never too far."""

_MICROSECOND = timedelta(microseconds=1)
_DAY = 86_400
_ADVICE = {
    Kind.NUMBER: ("whole numbers", "holds dates"),
    Kind.AWARE: (
        "times with their offset from UTC, like 2024-01-02T09:30:00-05:00",
        "has no time zone",
    ),
    Kind.NAIVE: ("dates or times without an offset", "has a time zone"),
}


def check_kind(what: str, at: object, now: Moment, last: Moment | None, own: bool) -> None:
    """Raise unless a time is of the kind of the last one: of a tick if `own`, else of the fit."""
    if last is not None and last.kind != now.kind:
        before = "the ticks before were" if own else "the last row of the fit was"
        times, index = _ADVICE[last.kind]
        raise ValueError(
            f"the {what} at {at} is {now.kind}, {before} {last.kind}: send {times}"
            + ("" if own else f", or fit prices whose index {index}")
        )


def span(number: int, kind: str) -> str:
    """A span of time as hh:mm:ss, with days and fractions where there are some."""
    if kind == Kind.NUMBER:
        return str(number)
    seconds, micros = divmod(number, 1_000_000)
    days, seconds = divmod(seconds, _DAY)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if micros and not days and seconds < 60:
        text += f".{micros:06d}".rstrip("0")
    return f"{days}d {text}" if days else text


@register
@dataclass(frozen=True, slots=True)
class Limit:
    """How much time may pass, in units of the times.

    Args:
        units: microseconds where the times are dates; None is no limit.
        timed: whether it was given as a timedelta, for dates, or as a number, for numbers; None where
            it fits both.
    """

    units: int | None
    timed: bool | None

    @classmethod
    def of(cls, word: str, given: timedelta | int | None, *, least: int = 0) -> "Limit":
        """The limit of a setting called `word`; None only where it must be above 0.

        Raises:
            ValueError: it is neither a timedelta nor a whole number of at least so many units.
        """
        if given is None and least:
            return cls(None, None)
        timed = isinstance(given, timedelta)
        units = round(given / _MICROSECOND) if timed else given
        if not isinstance(units, int) or isinstance(units, bool) or units < least:
            asked = " above 0, or None" if least else ", 0 or more"
            raise ValueError(f"{word} is a timedelta or a whole number{asked}, not {given!r}")
        return cls(units, timed if units else None)

    @property
    def given(self) -> timedelta | int | None:
        """The limit as `of` takes it."""
        return self.units if self.units is None or not self.timed else _MICROSECOND * self.units

    def fits(self, kind: Kind) -> bool:
        """Whether its unit is that of such times."""
        return self.timed is None or self.timed == (kind != Kind.NUMBER)

    def check(self, word: str, kind: Kind) -> None:
        """Raise unless the unit of the setting called `word` is that of such times."""
        if self.fits(kind):
            return
        given, times, asked = "timedelta", "numbers", "a whole number in their unit"
        if not self.timed:
            given, times, asked = "number", "dates", "a timedelta"
        raise ValueError(
            f"{word} is the {given} {self.given}, but the times are {times}: give {asked}"
        )


@dataclass
class Ahead:
    """How far ahead of the last one a time may be, as one wrong time puts all later ones out of order.

    Where times are whole numbers and the limit is a timedelta, as by default, it is a thousandth of the
    last number (of seconds, milliseconds or nanoseconds since 1970 that is 20 days), and a million at
    least: so stamps in another unit stand out.

    After a longer silence the first message is refused. The next is taken if it is later than the first
    by no more than the limit, with no message of the old times between them.
    """

    limit: Limit
    # in memory only: a journal holds what was taken, and a refusal changes nothing
    _refused: Moment | None = field(default=None, init=False, compare=False)

    @classmethod
    def of(cls, given: timedelta | int | None) -> "Ahead":
        """Of a timedelta, a whole number, or None for no limit; raises what `Limit.of` raises."""
        return cls(Limit.of("max_ahead", given, least=1))

    def check_units(self, kind: Kind) -> None:
        """Raise if the limit is a number and such times are none.

        The other way round numbers have a limit of their own: the default is a month, of dates.
        """
        if not self.limit.timed:
            self.limit.check("max_ahead", kind)

    def check(self, now: Moment, last: Moment | None) -> None:
        """Raise if a time is too far ahead of the last one taken, if there was one."""
        most = self.limit.units
        if last is None or most is None:
            return
        if not self.limit.fits(now.kind):
            most = max(abs(last.number) // 1000, _LEAST_STEP)
        if now.number - last.number <= most:
            return
        first = self._refused
        if first is not None and 0 < now.number - first.number <= most:
            return
        self._refused = now
        raise ValueError(
            f"{now.kept} is {span(now.number - last.number, now.kind)} ahead of the last time, "
            f"max_ahead is {span(most, now.kind)}: if so long a silence was real the next message is "
            "taken, if rows are always that far apart, give a longer max_ahead"
        )

    def taken(self) -> None:
        """A message was taken: a later one must not be confirmed by what was refused before."""
        self._refused = None
