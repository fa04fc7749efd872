"""Ticks come in order: which kinds of times there are, and which of two is later."""

from typing import Any

import numpy as np

from kfmodels.clock.instants import read


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
