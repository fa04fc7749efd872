"""Settings of a live filter: how old a price may be, and which rule where a journal keeps others.

NumPy and the standard library only, as all that trades.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from kfmodels.clock.clock import Clock
from kfmodels.clock.instants import shown
from kfmodels.live.engines import Engine
from kfmodels.live.monitor import BoardWatch, Watch

_MICROSECOND = timedelta(microseconds=1)


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


def check_amounts(keep: int, few_draws: float) -> None:
    """Raise unless these are a number of rows and a share of the draws."""
    if keep < 0:
        raise ValueError(f"keep is a number of rows, 0 or more, not {keep}")
    if not 0 <= few_draws < 1:
        raise ValueError(f"few_draws is a share of the draws, from 0 to below 1, not {few_draws}")


def check_document(held: Mapping[str, Any], form: str, version: int) -> None:
    """Raise unless a document is the state of a live filter that this kfmodels can read."""
    if held.get("format") != form or held["version"] > version:
        raise ValueError(
            f"not the state of a live filter as this kfmodels knows it (up to version {version}), but "
            f"{held.get('format')!r} {held.get('version')}"
        )


def settings(
    engine: Engine,
    clock: Clock | None,
    watch: Watch | BoardWatch | None,
    **others: Any,
) -> dict[str, Any]:
    """What rules a live filter, by name."""
    return {
        "clock": clock,
        "monitor": None if watch is None else watch.monitor,
        "shocks": engine.shocks,
        "forgetting": engine.arguments()["forgetting"],
        "draws": engine.draws,
    } | others


def overruled(given: Mapping[str, Any], kept: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each setting that differs from the one that a journal keeps."""
    return tuple(
        f"{name} is {_told(kept[name])} as the journal keeps it, not {_told(value)} as given now"
        for name, value in given.items()
        if kept[name] != value
    )


def follows(given: Clock | None, kept: Clock | None, row: Any) -> bool:
    """Whether a clock is the one kept with later sessions, which knows the last `row` as well."""
    if given is None or kept is None or given.sessions is None or kept.sessions is None:
        return False
    new, old = given.sessions, kept.sessions
    if (given.bar, given.zone, new.name, new.zone) != (kept.bar, kept.zone, old.name, old.zone):
        return False
    try:
        if row is not None:
            given.between(row, row)
    except ValueError:
        return False
    return new.closes[-1] > old.closes[-1]


def _told(value: Any) -> str:
    if not isinstance(value, Clock) or value.sessions is None:
        return repr(value) if not isinstance(value, timedelta) else str(value)
    first, last = shown(value.sessions.opens[0]), shown(value.sessions.closes[-1])
    return f"a clock in bars of {value.bar} of {value.sessions.name} from {first} to {last} UTC"
