"""Rows of one bar of a clock, of which only the last is learnt from; sessions that it has wrong.

A price sent twice within a bar is no new evidence: the last complete row of a bar stands, offline as
in a live filter.
"""

from datetime import time, timedelta

import numpy as np
import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.words.caller import warn

_MOST = 0.5
"""Share of the rows outside the sessions from which on the clock is taken to be in another zone."""

_NIGHT, _DAY = 4 * 3600, 30 * 3600
"""Seconds without a row from which on a market may have been closed, and from one such to the next."""

_NIGHTS, _ROWS = 3, 3
"""The fewest nights, and rows between two of them, by which sessions are recognised."""

_OPENS, _CLOSES, _NEW_YORK = time(9, 30), time(16), "America/New_York"
"""Hours of the market whose clock is named where rows keep to them."""


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

    Warn too of nights between rows of which a clock without sessions knows nothing.

    Raises:
        ValueError: with the remedy; a row that the clock cannot place in time.
    """
    if where := tell_outside(index, clock):
        warn(
            f"{where}: no bars pass there, and the last row between two sessions stands for all; drop "
            "them with frame[~clock.outside(frame.index)]"
        )
    if nights := tell_nights(index, clock):
        warn(nights)


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


def tell_nights(index: pd.Index, clock: Clock) -> str:
    """That rows have nights which the clock counts as open time, and the clock to give; or nothing.

    They come every day: a weekend, or a feed that fails now and then, is no session.
    """
    if clock.sessions is not None or clock.bar is None or not isinstance(index, pd.DatetimeIndex):
        return ""
    bar = pd.Timedelta(clock.bar).total_seconds()
    seconds = index.as_unit("us").asi8 / 1e6
    ends = np.flatnonzero(np.diff(seconds) > max(_NIGHT, 2 * bar))
    few = len(ends) < _NIGHTS or len(index) < _ROWS * (len(ends) + 1)
    if few or np.median(np.diff(seconds[ends])) > _DAY:
        return ""
    lost = float(np.median(np.diff(seconds)[ends])) / bar
    shown, zone = index, str(index.tz or clock.zone or "UTC")
    if index.tz is not None:
        local = index.tz_convert(_NEW_YORK)
        shown, zone = (local, _NEW_YORK) if _keeps_to(local) else (index, zone)
    elif clock.zone is None and _keeps_to(index):
        zone = _NEW_YORK
    starts = np.append(0, ends + 1)
    opens = min((shown[starts] - timedelta(seconds=bar)).time.min(), shown[starts].time.min())
    closes = shown[np.append(ends, len(index) - 1)].time.max()
    if zone == _NEW_YORK and _keeps_to(shown):
        opens, closes = _OPENS, _CLOSES
    length = f"{bar / 60:g}min" if bar % 60 == 0 else f"{bar:g}s"
    hours = f'Clock.hours("{opens:%H:%M}", "{closes:%H:%M}", zone="{zone}", bar="{length}")'
    ours = zone == _NEW_YORK and opens == _OPENS
    of_market = f'Clock.exchange("XNYS", bar="{length}") or ' if ours else ""
    return (
        f"these rows have {len(ends)} nights, the first after {index[ends[0]]}, and a clock without "
        f"sessions takes each for about {lost:.0f} open bars: give the clock of the market, such as "
        f"{of_market}{hours} (which knows only the holidays it is told)"
    )


def _keeps_to(index: pd.DatetimeIndex) -> bool:
    """Whether all times lie in the hours of New York, on week days."""
    inside = (index.time >= _OPENS) & (index.time <= _CLOSES) & (index.day_of_week < 5)
    return bool(np.all(inside))


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
