"""Rows that repeat prices: which of them teach a pair nothing, and why."""

from collections.abc import Sequence

import numpy as np

from kfmodels.kalman.habits import CALM, Habits


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
