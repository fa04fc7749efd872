r"""How large the moves of a row are by its time of day, and over how many bars a universe remembers.

With $τ$ minutes since the open and $κ$ until the close, at the middle of a bar, the variance of
what hedges leave of a move, over that of a mean bar, is

$$f_t = ∑_{τ} (1 + τ / 5)^{-.85} \, e^{1.5 \exp(-κ / 15)} / c
+ B \, (o_t / 12 + g_t / 3)$$

over the bars and the $g_t$ closed periods since the row before, with $o_t$ 1 where the row comes from
an opening print (0 elsewhere), B bars a session and c such that it has a mean of one. A row divided by
the root of it is like any other: ratios are least squares weighted by inverse variances.

Source: the profile and its constants are those of `kfmodels.clock.day`; they are nearly the same for
every pair of 45, and are not inferred here.
"""

import numpy as np

from kfmodels.basket.settings import MEMORIES
from kfmodels.clock.clock import Clock
from kfmodels.clock.day import SESSION_BARS, USUAL_FALL, USUAL_RISE, DayVariance, Minutes
from kfmodels.clock.instants import Stamp

OPENING, NIGHT = 1 / 12, 1 / 3
"""Sessions that the variance of an opening print and of a night is worth, where all is hedged.

From 206 days of five-minute bars, 47 assets: .09 and .35; the same of one-minute bars (31 days, 18
assets) are .07 and .29.
"""

BARS_OF_MEMORIES = 20.0
"""Bars of a day for which the memories are `MEMORIES` bars: they are 2.5, 5, 10 and 25 days."""


class TimeOfDay:
    """What a universe reads of a clock; without one, or with one of daily rows, every row is a bar.

    Args:
        clock: of rows within the day, or None.
    """

    def __init__(self, clock: Clock | None) -> None:
        self.clock = clock
        self.bars = 1.0
        """Bars of a day: of the longest session, or of 24 hours; 1 of daily rows."""
        self._sums: np.ndarray | None = None
        """Variance from the open of a session to the end of each of its bars, from 0 on."""
        if clock is None or clock.bars_of_day <= SESSION_BARS:
            return
        self.bars = clock.bars_of_day
        if clock.sessions is not None:
            session = clock.session_days()
            fall, rise, one = (np.array(each) for each in (USUAL_FALL, USUAL_RISE, 1.0))
            each = DayVariance.of(fall, rise, one, session).factor(session)
            self._sums = np.concatenate([[0.0], np.cumsum(each)])

    @property
    def memories(self) -> np.ndarray:
        """Rows that each of the second moments remembers, `(memory,)`."""
        return np.array(MEMORIES, float) * max(1.0, self.bars / BARS_OF_MEMORIES)

    @property
    def variance_of_day(self) -> float:
        """That of a day with its night, over that of a row; 1 of daily rows."""
        return self.bars * (1 if self._sums is None else 1 + OPENING + NIGHT)

    def variance(self, at: Stamp | None, before: Stamp | None) -> float:
        """Variance of hedged moves between two rows, over that of a mean bar; 1 of daily rows.

        Where no time of the clock passes, as after a close, it is that of a mean bar.

        Raises:
            ValueError: rows within the day without a time.
        """
        if self.bars == 1 or self.clock is None:
            return 1.0
        if at is None:
            raise ValueError("this universe goes by the time of day: give that of the row, at=...")
        if before is None:
            return 1.0
        passed = self.clock.between(before, at)
        if self._sums is None:
            return passed.bars or 1.0
        start, end = self.clock.place(before), self.clock.place(at)
        crossed = sum(passed.gaps.values())
        found = self._within(end.since)
        if crossed:  # the rest of one session, and those between
            found += self._within(start.since + start.left) - self._within(start.since)
            found += (crossed - 1) * self.bars
        else:
            found -= self._within(start.since)
        opened = (end.since > 0) * (crossed > 0 or start.since <= 0) + max(crossed - 1, 0)
        return float(found + self.bars * (OPENING * opened + NIGHT * crossed)) or 1.0

    def _within(self, since: Minutes) -> float:
        """The variance of a session from its open to so many minutes after it."""
        assert self._sums is not None
        assert self.clock is not None
        ends = self.clock.minutes * np.arange(len(self._sums))
        return float(np.interp(float(since), ends, self._sums))
