"""How the legs of a pair usually move, by which a repeated or an outsized price is judged.

A feed that has died repeats its last price, and so does a file that fills an outage. Such rows look
like the calmest market ever seen: learnt from, they take the observation variance down until every
real price is an outlier. So nothing is learnt from the third row in succession in which no leg moved,
in training as online.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kfmodels.kalman.transforms import Transform

CALM = 3
"""The row in succession in which no leg moved from which on nothing is learnt.

Both legs of a pair repeat on up to 3 % of real minute bars and 4 % of the days of country ETFs
(holidays), but three rows in succession on fewer than 0.02 % (tests/kalman/test_habits.py).
"""

_LEAST_PATIENCE = 5
"""Rows that any leg may repeat while another moves."""

_ENDLESS = 1e9

_NORMAL = 1.2533
"""The sd of a normal variable over its mean absolute size."""


class Habits(NamedTuple):
    """What is usual for the legs of some pairs, and how long their prices have repeated; `(pair, leg)`.

    `move` is the sd of a move from one complete row to the next, in transformed units, judged by mean
    absolute moves; `patience` the rows in succession that a leg may repeat its price while another
    moves: twice its longest run in training, and 5 at least. `still` counts those rows now, and
    `calm (pair,)` the rows in succession in which no leg moved.
    """

    move: np.ndarray
    patience: np.ndarray
    still: np.ndarray
    calm: np.ndarray

    @property
    def stopped(self) -> np.ndarray:
        """Which legs have repeated their price for longer than they do."""
        return self.still >= self.patience

    def where(self, taken: np.ndarray, others: "Habits") -> "Habits":
        """These counts of the pairs `taken (pair,)`, those of the `others` elsewhere."""
        return self._replace(
            still=np.where(taken[:, None], self.still, others.still),
            calm=np.where(taken, self.calm, others.calm),
        )

    def after(self, same: np.ndarray, complete: np.ndarray) -> "Habits":
        """The counts after a row; `same (pair, leg)` says which prices repeat, `complete (pair,)`
        where every leg has one."""
        none = same.all(-1)
        calm = np.where(complete, np.where(none, self.calm + 1, 0), self.calm)
        counts = (complete & ~none)[..., None]
        still = np.where(counts, np.where(same, self.still + 1, 0), self.still)
        return self._replace(still=still, calm=calm)


def unknown_habits(pairs: int, legs: int) -> Habits:
    """Of pairs of which nothing is known: no move is judged, and any leg may repeat for ever."""
    each = np.zeros((pairs, legs))
    return Habits(each + np.nan, each + _ENDLESS, each, np.zeros(pairs))


def habits_of(prices: np.ndarray, transform: Transform) -> Habits:
    """The habits of the legs of one pair, `(leg,)` each, from its complete rows `(time, leg)`.

    Many pairs with as many rows have one more axis, `(time, leg, pair)`, and so have their habits.
    """
    values = transform.values(prices[1:], prices[:-1]) if transform.needs_last else prices
    values = values if transform.needs_last else transform.values(values)
    move = _NORMAL * np.abs(transform.steps(values)).mean(0)
    same = prices[1:] == prices[:-1]
    none = same.all(1)
    runs = _runs(same, ~none[:, None])
    longest = runs.max(0, initial=0)
    still = runs[-1] if len(runs) else np.zeros(prices.shape[1:])
    calm = _runs(none)[-1] if len(none) else np.zeros(prices.shape[2:])
    patience = np.maximum(_LEAST_PATIENCE, 2 * longest)
    return Habits(move, patience.astype(float), still.astype(float), np.asarray(calm, float))


def calm_rows(prices: np.ndarray) -> np.ndarray:
    """Which of complete rows `(time, leg)` repeat all prices for the third time or more, `(time,)`."""
    none = np.zeros(len(prices), bool)
    none[1:] = (prices[1:] == prices[:-1]).all(1)
    return _runs(none) >= CALM


def count_repeats(
    before: Habits, prices: np.ndarray, last: np.ndarray, pairs: Sequence[tuple[str, ...]]
) -> tuple[Habits, dict[int, str]]:
    """The counts after a row, and by its number why a pair learns nothing from it.

    Args:
        before: the counts so far.
        prices, last: of this row and of the last one learnt from, `(pair, leg)`.
        pairs: the tickers of every pair.
    """
    same = prices == last
    if not same.any() and not before.calm.any() and not before.still.any():
        return before, {}  # nearly every row ends here
    after = before.after(same, ~np.isnan(prices).any(1))
    why: dict[int, str] = {}
    for number in np.flatnonzero((after.calm >= CALM) & same.all(1)).tolist():
        why[number] = f"no leg has moved for {after.calm[number]:.0f} rows, nothing is learnt"
    stopped = after.stopped
    for number in np.flatnonzero(stopped.any(1)).tolist():
        leg = int(np.argmax(stopped[number]))
        why[number] = (
            f"{pairs[number][leg]} has stood at {prices[number, leg]:g} for "
            f"{after.still[number, leg]:.0f} rows in which another leg moved, nothing is learnt"
        )
    return after, why


def _runs(marked: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Marked rows in succession up to each row, of every column `(time, ...)`.

    Rows that are not `counted` are as if they were not there.
    """
    every = np.ones((len(marked), *[1] * (marked.ndim - 1)), bool) if counted is None else counted
    rows = np.cumsum(every, 0)
    return rows - np.maximum.accumulate(np.where(marked, 0, rows), 0)
