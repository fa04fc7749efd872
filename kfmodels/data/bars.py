"""Rows of one bar of a clock, of which only the last is learnt from, and rows outside its sessions.

A price sent twice within a bar is no new evidence: the last complete row of a bar stands, offline as
in a live filter.
"""

import numpy as np
import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.words.caller import warn

_MOST = 0.5
"""Share of the rows outside the sessions from which on the clock is taken to be in another zone."""


def superseded(complete: np.ndarray, index: pd.Index, clock: Clock | None) -> np.ndarray:
    """Which complete rows are followed by another complete one of the same bar, `(time,)`."""
    found = np.zeros(len(complete), bool)
    if clock is None:
        return found
    rows = np.flatnonzero(complete)
    bars = clock.bars_of(index[rows])
    found[rows[:-1]] = (bars[1:] == bars[:-1]).all(1)
    return found


def gather(passed: np.ndarray, stands: np.ndarray, bars: np.ndarray) -> np.ndarray:
    """Time before each row `(time, ...)`, that of a bar counted at the row that stands for it.

    So a night is crossed by the row that is learnt from, and not by one of the same bar before it.

    Args:
        passed: time since the row before.
        stands: which rows stand for their bar, `(time,)`.
        bars: of the rows, `(time, 2)`.
    """
    began = np.append(True, (bars[1:] != bars[:-1]).any(1))
    number = np.cumsum(began) - 1
    place = np.full(number[-1] + 1, -1)
    place[number[stands]] = np.flatnonzero(stands)
    at = place[number]
    rows = np.arange(len(passed))
    to = np.where((at >= 0) & (rows < at), at, rows)
    moved = np.zeros_like(passed)
    np.add.at(moved, to, passed)
    return moved


def check_clock(index: pd.Index, clock: Clock) -> None:
    """Raise if most rows lie outside the sessions of the clock, as in a wrong zone; warn of some.

    Raises:
        ValueError: with the remedy; a row that the clock cannot place in time.
    """
    if where := tell_outside(index, clock):
        warn(
            f"{where}: no bars pass there, and the last row between two sessions stands for all; drop "
            "them with frame[~clock.outside(frame.index)]"
        )


def tell_outside(index: pd.Index, clock: Clock) -> str:
    """How many rows lie outside the sessions of the clock; empty if none does.

    Raises:
        ValueError: most of them, as in a wrong zone; with the remedy.
    """
    out = clock.outside(index)
    if not out.any() or clock.sessions is None:
        return ""
    first, count = index[out][0], int(out.sum())
    where = f"{count} of {len(index)} rows lie outside the sessions of {clock.sessions.name}"
    where += f", the first at {first}"
    if count > _MOST * len(index):
        raise ValueError(f"{where}: {_remedy(index, clock)}")
    return where


def warn_superseded(count: int, index: pd.Index, found: np.ndarray) -> None:
    """Say how many rows are followed by another of their bar, if any is."""
    if found.any():
        warn(
            f"{int(found.sum())} of {count} rows are followed by another of the same bar, the first at "
            f"{index[found][0]}: only the last row of a bar is learnt from; give the clock a shorter "
            "bar if each is a bar of its own"
        )


def _remedy(index: pd.Index, clock: Clock) -> str:
    """What to do about rows most of which are outside the sessions."""
    assert isinstance(index, pd.DatetimeIndex)
    assert clock.sessions is not None
    if index.normalize().is_unique:
        return "for a row a day give clock=Clock.daily()"
    shown = index.tz_localize(None)
    for zone in (clock.sessions.zone, "UTC"):
        try:
            read = shown.tz_localize(zone)
            good = clock.outside(read).mean() <= _MOST
        except ValueError:
            continue
        if good:
            plain = ".tz_localize(None)" if index.tz is not None else ""
            return (
                f"their times are those of {zone}; give frame{plain}.tz_localize({zone!r}) in place of "
                "frame"
            )
    return "give the clock of the market that they are from, or the zone of the times"
