"""The settings of a live filter, and whether those given agree with those that a journal keeps."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from kfmodels.clock.clock import Clock
from kfmodels.clock.instants import Stamp, shown
from kfmodels.files.log import Message
from kfmodels.online.engine import Engine


class UnfitError(ValueError):
    """A message that cannot be applied; nothing has changed."""

    @classmethod
    def of(cls, error: Exception) -> "UnfitError":
        """What was raised while it was tried, in words."""
        said = (
            str(error)
            if isinstance(error, ValueError)
            else f"no arithmetic can follow it ({error!r})"
        )
        return cls(said)


class Turn(NamedTuple):
    """Where a live filter stood before a message: the number of the one before, and marks of all that
    a message of prices moves, or else a document."""

    seq: int
    marks: Any = None
    document: Message | None = None


def settle_clock(engine: Any, clock: Clock | None) -> Clock | None:
    """The clock of a live filter: the one given, by which an engine that reads the time of day reads it
    from now on, or else that of the engine.

    Raises:
        ValueError: it counts by another bar than that of the engine, or has no sessions where that
            has them.
    """
    own: Clock | None = getattr(engine, "clock", None)
    if own is None or clock is None:
        return own if clock is None else clock
    if clock.sessions is None and own.sessions is not None:
        raise ValueError(
            f"the filter reads the time of day, and {clock!r} has no sessions: leave the clock out, or "
            "pass one of Clock.hours(...) or Clock.exchange(...)"
        )
    if clock.bar != own.bar:
        raise ValueError(
            f"the filter counts by bars of {own.bar}, and the clock has one of {clock.bar}: give a "
            "clock of the same bar, or none"
        )
    engine.clock = clock
    return clock


def check_survives(word: str) -> bool:
    """Whether a journal that survives this waits for the disk."""
    if word not in ("kill", "power-cut"):
        raise ValueError(f'survives is "kill" or "power-cut", not {word!r}')
    return word == "power-cut"


def tell_start(journal: object, seq: int, at: Stamp | None, loss: str = "") -> str:
    """Where a live filter goes on, in a sentence."""
    where = "in memory only" if journal is None else str(journal)
    after = "" if at is None else f" of {str(at).replace(' ', 'T').removesuffix('T00:00:00')}"
    start = f"goes on after message {seq}" if seq else "begins after the last row learnt"
    lost = f"; messages are missing, as accept_loss allows: {loss}" if loss else ""
    return f"{where}: {start}{after}{lost}"


def shorten(text: str, most: int = 1000) -> str:
    """The beginning of a text that may be of any length, for an answer."""
    return text if len(text) <= most else f"{text[:most]} ..."


def check_amounts(keep: int, few_draws: float) -> None:
    """Raise unless these are a number of rows and a share of the draws."""
    if keep < 0:
        raise ValueError(f"keep is a number of rows, 0 or more, not {keep}")
    if not 0 <= few_draws < 1:
        raise ValueError(f"few_draws is a share of the draws, from 0 to below 1, not {few_draws}")


def find_pairs(new: Engine, old: Engine) -> list[int]:
    """Numbers in a new engine of the pairs of the one whose place it is to take.

    Raises:
        ValueError: it is of another class or transform, or lacks one of the pairs.
    """
    pairs, before = _named(new), _named(old)
    same = type(new) is type(old) and new.transform == old.transform
    if not same or not before.items() <= pairs.items():
        raise ValueError(
            f"the new filter is of {', '.join(new.tickers[:4])} ({new.transform}), this one of "
            f"{', '.join(old.tickers[:4])} ({old.transform})"
        )
    spots = {name: number for number, name in enumerate(pairs)}
    return [spots[name] for name in before]


def _named(engine: Engine) -> dict[str, tuple[str, ...]]:
    """The legs of every pair, by its name."""
    names = engine.standing().names or (engine.pairs[0][0],)
    return dict(zip(names, engine.pairs, strict=True))


def identify(engine: Engine) -> str:
    """The identity of a journal: the fit, or else the date it ended on, and the legs."""
    made = engine.fit_id or f"noise until {engine.until}"
    return f"{made}; {', '.join(engine.tickers)}; {engine.transform}"


def list_overruled(given: Mapping[str, object], kept: Mapping[str, object]) -> tuple[str, ...]:
    """A sentence for each setting that differs from the one that a journal keeps."""
    return tuple(
        f"{name} is {_told(kept[name])} as the journal keeps it, not {_told(value)} as given now"
        for name, value in given.items()
        if kept[name] != value
    )


def extends(given: Clock | None, kept: Clock | None, row: Stamp | None) -> bool:
    """Whether a clock is the one kept with later sessions added, and covers the last `row`."""
    if given is None or kept is None or given.sessions is None or kept.sessions is None:
        return False
    new, old = given.sessions, kept.sessions
    if (given.bar, given.zone, new.name, new.zone) != (kept.bar, kept.zone, old.name, old.zone):
        return False
    try:
        # a clock that begins after the last row could not count from it
        if row is not None:
            given.between(row, row)
    except ValueError:
        return False
    return new.closes[-1] > old.closes[-1]


def _told(value: object) -> str:
    if not isinstance(value, Clock) or value.sessions is None:
        return repr(value) if not isinstance(value, timedelta) else str(value)
    first, last = shown(value.sessions.opens[0]), shown(value.sessions.closes[-1])
    return f"a clock in bars of {value.bar} of {value.sessions.name} from {first} to {last} UTC"
