"""From prices to moves: which assets have a price, since when, and what becomes of a row without one.

A repeated price may be a holiday or a dead feed; in either case no move was seen.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kfmodels.files.documents import register

TARGET_FROM, LEG_FROM = 60, 250
"""Rows since its first price from which on an asset is a target, and a leg of others."""

ENOUGH = 40
"""Moves among those first rows without which an asset waits."""

GONE = 5
"""Rows without a price after which an asset is no leg until it has one again."""

_PATIENCE = 5
"""Rows that any price may repeat while others move."""

_WILD = 12 / 0.6745
"""Size of a move over the median size beyond which the first rows do not learn from it."""


class Listing(NamedTuple):
    """What is known of the prices of every asset; arrays `(N,)`.

    `last` is the last price taken (NaN: none yet), `gap` the rows since, `passed` their variance in
    mean rows (of daily rows the same), `filled` the sum of the moves that stood in for them; `still`
    counts rows in succession that repeat a price and `longest` the longest such run that ended; `age`
    the rows since the first price (-1: none yet); `seen` and `square` the number of moves learnt and
    the sum of their squares, each over the variance of its row.
    """

    last: np.ndarray
    gap: np.ndarray
    passed: np.ndarray
    filled: np.ndarray
    still: np.ndarray
    longest: np.ndarray
    age: np.ndarray
    seen: np.ndarray
    square: np.ndarray

    @property
    def stopped(self) -> np.ndarray:
        """Which assets have repeated their price for longer than they do."""
        return self.still >= np.maximum(_PATIENCE, 2 * self.longest)

    @property
    def carried(self) -> np.ndarray:
        """The last price of every asset, carried on by the moves that stood in for those not seen."""
        return self.last * np.exp(self.filled)

    @property
    def mean_square(self) -> np.ndarray:
        """Mean square of a move, over the variance of its row."""
        return self.square / np.maximum(self.seen, 1)

    def rows_since(self, variance: float) -> np.ndarray:
        """Rows of that variance that a move of now covers: 1 where there is no gap."""
        return self.passed / variance + 1.0

    def read(self, given: np.ndarray) -> "Reading":
        """The moves that a row of prices makes, and the listing with its repeats counted."""
        priced, known = ~np.isnan(given), ~np.isnan(self.last)
        same = priced & (given == self.last)
        ended = priced & ~same & ~self.stopped
        listing = self._replace(
            still=np.where(same, self.still + 1, np.where(priced, 0, self.still)),
            longest=np.where(ended, np.maximum(self.longest, self.still), self.longest),
        )
        with np.errstate(invalid="ignore"):
            move = np.log(given / self.last)
        seen = priced & known & ~listing.stopped
        return Reading(listing, move, seen, bool((same | ~priced | ~known).all()))

    def begin(self, given: np.ndarray) -> "Listing":
        """Take the first prices of newcomers, and nothing else."""
        first = np.isnan(self.last) & ~np.isnan(given)
        return self._replace(
            last=np.where(first, given, self.last), age=np.where(first, 0, self.age)
        )

    def explain(self, given: np.ndarray, seen: np.ndarray) -> dict[int, str]:
        """Why an asset has no move in a row, by its number."""
        found: dict[int, str] = {}
        for number in np.flatnonzero(~seen).tolist():
            missing, fresh = np.isnan(given[number]), np.isnan(self.last[number])
            why = "no price" if missing else "the first price" if fresh else "the price has stopped"
            found[number] = why
        return found

    def after(
        self, given: np.ndarray, taken: np.ndarray, move: np.ndarray, variance: float
    ) -> "Listing":
        """The listing after a row of that variance: prices `taken`, others filled by `move`."""
        known = ~np.isnan(self.last)
        late = known & ~taken
        return self._replace(
            last=np.where(taken, given, self.last),
            gap=np.where(late, self.gap + 1, 0),
            passed=np.where(late, self.passed + variance, 0.0),
            filled=np.where(late, self.filled + move, 0.0),
            age=np.where(known, self.age + 1, -1),
        ).begin(given)

    def learn(self, move: np.ndarray, seen: np.ndarray) -> "Listing":
        """Count the moves that were learnt."""
        square = self.square + np.where(seen, move * move, 0.0)
        return self._replace(seen=self.seen + seen, square=square)


class Reading(NamedTuple):
    """What a row of prices says: moves `(N,)` where `seen`; `closed` where no price moved."""

    listing: Listing
    move: np.ndarray
    seen: np.ndarray
    closed: bool


def unlisted(count: int) -> Listing:
    """Assets of which no price is known."""
    none, zero = np.zeros(count, int), np.zeros(count)
    return Listing(np.full(count, np.nan), none, zero, zero, none, none, none - 1, none, zero)


def pick(names: Sequence[str] | None, tickers: tuple[str, ...], role: str) -> tuple[str, ...]:
    """Some of the tickers, all where none are named; raises on one unknown or named twice."""
    picked = tickers if names is None else tuple(map(str, names))
    for name in picked:
        if name not in tickers:
            raise ValueError(f"the {role} {name} is not among the {len(tickers)} tickers")
        if picked.count(name) > 1:
            raise ValueError(f"the {role} {name} is named twice: name each once")
    if not picked:
        raise ValueError(f"there is no {role}: name one, or leave the argument out for all")
    return picked


def without_wild(moves: np.ndarray) -> np.ndarray:
    """First rows of moves `(time, N)` without those far outside, NaN where not seen."""
    sizes = np.abs(moves)
    usual = np.array([np.median(each[each > 0]) if (each > 0).any() else 0.0 for each in sizes.T])
    return np.where(sizes > _WILD * usual, np.nan, moves)


register(Listing)
