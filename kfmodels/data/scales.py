"""What in a history of prices is no move of a market: other units, gross prints, a leg that stopped.

One file: the kinds of doubt share their thresholds, each measured beside the others on the same files.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pandas as pd

from kfmodels.data.checks import RETURNS, day, like_returns
from kfmodels.kalman.splits import BREAK, SUSPECT, like_a_small_split, like_a_split
from kfmodels.kalman.transforms import Transform

GROSS_RETURNS = "these look like gross returns, 1 + r: make prices of them, frame.cumprod()"
"""What is said where each number is a price over the one before."""

WORTH, JUMP = 5.0, 8.0
"""Typical moves that a price is worth where a ratio of two means something, and that a split is.

A rate near zero halves and doubles without one, and so do prices that move by a tenth a row.
"""

GROSS = 15.0
"""Typical moves by which a smaller print goes away and comes back in the next row to be called gross.

Fewer take the first real days among them (tests/data/test_scales.py has the counts). By so many a move
of the last row is in doubt too, as no row after it says whether it comes back.
"""

RUN, SAME, UNDONE = 12.0, 2.5, 3.0
"""Typical moves of a smaller print of a few rows, between these rows, and by which its ends may differ.

A tenth of it is allowed too, as a price of 0 is left from another height than it was come to from.
Of real moves that are undone so after two rows the nearest is 11 (GE 2025-10-21, 5 minutes), after
three to five it is 10 (XRP 2025-04-27); larger ones, as XLE 2026-03-02 with 21, do not stand still in
between and come back less far.
"""

BACK, BACK_ROWS = 0.3, 5
"""A print is back when so small a share of its move is left, one of 1.75 times within so many rows."""

ALTERNATE = 6
"""Jumps there and back, each within 20 rows of the one before, from which on they are two units."""

STALE = 20
"""A price that has not changed for so many rows is taken to have stopped."""

ENDS = 5
"""Last rows that repeat a price from which on it may have stopped, if it never repeated half as often.

A live filter judges its legs so. If the files of the tests were cut at any of their 2.1 million prices,
one of daily prices (BNO) and ten of minute bars would end in such rows.
"""

_NEAR = 20
"""Moves on either side that say what is typical at a row."""

_SD = 1.4826
"""Of a normal variable: its sd over the median of its absolute value."""


Kind = Literal["scale", "print", "last", "still", "units"]


class Doubt(NamedTuple):
    """Rows of a ticker that may be no prices of it, or in other units than the rows after them."""

    ticker: str
    kind: Kind
    at: object
    """The label of the first row in doubt; of the first in the new scale."""

    until: object
    """The label of the last."""

    before: float
    """The price of the row before."""

    now: float
    """The price at the first row."""

    factor: str = ""
    """New price over old, where scale or units change: of the split it looks like, else as observed."""

    @property
    def rows(self) -> str:
        """The row in doubt, or the first and the last."""
        if self.at == self.until:
            return day(self.at)
        return f"{day(self.at)} .. {day(self.until)}"

    def __str__(self) -> str:
        moved = f"{self.ticker} went from {self.before:g} to {self.now:g} at {day(self.at)}"
        if self.kind == "still":
            positive = min(self.before, self.now) > 0
            if positive and not 1 / BREAK < self.now / self.before < BREAK:
                return f"{moved} and stood still until {day(self.until)}: did it stop?"
            return f"{self.ticker} stands still at {self.now:g}, {self.rows}: did it stop?"
        if self.kind == "units":
            goes = f"{self.ticker} goes by about {self.factor} times and back again and again"
            return f"{goes}, {self.rows}: two units? Bring its rows into one, or take them out"
        if self.kind == "print":
            return f"{moved} and came back: a bad print?"
        if self.kind == "last":
            return f"{moved}, far more than it does, and no row comes after: a bad print?"
        return f"{moved}, about {self.factor} times, and stayed: a split?"


def find_doubts(
    prices: pd.DataFrame, transform: Transform, real: Iterable[tuple[str, str]] = ()
) -> tuple[Doubt, ...]:
    """Changes of scale, gross prints and long still stretches, by ticker and date.

    A price that moves by 1.75 times in a row and stays there has another scale, unless it stands still
    from then to the end: then it has stopped. So has one that moves by 3/2 or 4/3 times, where no move
    of its own is nearly as large. One that comes back is a print, and so is a smaller one that is far
    beyond its own typical moves; in the last row no other says whether it comes back. One that goes
    there and back again and again has two units.

    Args:
        prices: floats; NaN is a gap.
        transform: of levels, which may be near zero or below it, prints are judged by differences.
        real: ticker and date of moves that are known to be of the market.
    """
    known, index = set(real), prices.index
    found = []
    for ticker in prices.columns:
        values = prices[ticker].to_numpy(float)
        there = np.flatnonzero(np.isfinite(values))
        values = values[there]
        if len(values) < 3:
            continue
        for kind, first, last in _unlike(values, at_level=transform.by_shares):
            at, until = index[there[first]], index[there[last]]
            before, now = float(values[max(first - 1, 0)]), float(values[first])
            factor = _factor(values, first) if kind in ("scale", "units") else ""
            if (str(ticker), day(at)) not in known:
                found.append(Doubt(str(ticker), kind, at, until, before, now, factor))
    return tuple(found)


def _factor(values: np.ndarray, row: int) -> str:
    """New price over old as a split that the day's own move explains, else as it is."""
    sides = values[max(row - 1 - _NEAR, 0) : row], values[row : row + 1 + _NEAR]
    daily = [_typical(np.abs(np.diff(np.log(side)))) for side in sides if (side > 0).all()]
    ratio = float(values[row] / values[row - 1])
    split = like_a_split(ratio, max(daily, default=0.0))
    return f"{ratio:.5g}" if split is None else str(split)


def remedy(doubts: Iterable[Doubt]) -> str:
    """The argument `repair` that takes all of them as they are suspected, ready to be pasted."""
    table: dict[str, list[str]] = {}
    for doubt in doubts:
        dated = isinstance(doubt.at, pd.Timestamp)
        key = repr(doubt.rows) if dated or doubt.at != doubt.until else doubt.rows
        what = doubt.factor if doubt.kind == "scale" else "None"
        table.setdefault(doubt.ticker, []).append(f"{key}: {what}")
    inside = (f"{ticker!r}: {{{', '.join(rows)}}}" for ticker, rows in table.items())
    return f"repair={{{', '.join(inside)}}}"


def complain(
    prices: pd.DataFrame,
    transform: Transform,
    real: Iterable[tuple[str, str]],
    since: Any = None,
) -> str:
    """One text about all that is in doubt (since a date), and what to do; empty if nothing is."""
    columns = ((name, _returns(prices[name].to_numpy(), transform)) for name in prices)
    said = [f"  {name}: {words}" for name, words in columns if words]
    listed = [] if said else list(find_doubts(prices, transform, real))
    listed = [doubt for doubt in listed if since is None or cast("Any", doubt.at) >= since]
    said += [f"  {doubt}" for doubt in listed]
    if listed:
        said.append(
            f"If so, give with the prices {remedy(listed)}: a number multiplies all prices before that "
            "row, None takes the rows out. 1 says that the price is right as it is."
        )
    return "\n".join(["prices are in doubt:", *said]) if said else ""


def _returns(values: np.ndarray, transform: Transform) -> str:
    """What is said of a column that looks like returns; plain ones are refused by logarithms."""
    if like_returns(values - 1):
        return GROSS_RETURNS
    return RETURNS if transform.by_shares and like_returns(values) else ""


def sentence_of(doubts: Iterable[Doubt]) -> str:
    """Some doubts and their remedy in a sentence."""
    listed = list(doubts)
    return f"{' '.join(map(str, listed))} If so, give with the prices {remedy(listed)}"


def tell_end(doubts: Iterable[Doubt], prices: pd.DataFrame) -> str:
    """Which leg may have stopped before the last rows, and the rows to fit then; empty if none."""
    ended = [
        doubt
        for doubt in doubts
        if doubt.kind == "still" and doubt.until == prices[doubt.ticker].last_valid_index()
    ]
    if not ended:
        return ""
    first = min(cast("Any", doubt.at) for doubt in ended)
    label = repr(day(first)) if isinstance(first, pd.Timestamp) else first
    return f"{' '.join(map(str, ended))} If so, fit the rows before: data.before({label})"


def by_ticker(doubts: Iterable[Doubt]) -> Mapping[str, list[Doubt]]:
    """Doubts by the ticker they are of."""
    sorted_out: dict[str, list[Doubt]] = {}
    for doubt in doubts:
        sorted_out.setdefault(doubt.ticker, []).append(doubt)
    return sorted_out


def stopped(prices: pd.DataFrame, target: str, hedges: Iterable[str]) -> str:
    """Which leg keeps one price to the end, and since when; empty if none does."""
    for word, name in (("target", target), *(("hedge", name) for name in hedges)):
        since = stopped_since(prices[name].to_numpy(float))
        if since is not None:
            return f"{word} {name} constant since {day(prices.index[since])}"
    return ""


def stopped_since(values: np.ndarray) -> int | None:
    """The row from which a price keeps one value, if these are at least its last 20 rows."""
    there = np.flatnonzero(np.isfinite(values))
    moved = np.flatnonzero(values[there] != values[there[-1]]) if len(there) else there
    since = moved[-1] + 1 if len(moved) else 0
    return int(there[since]) if len(there) - since >= STALE else None


def _unlike(values: np.ndarray, *, at_level: bool) -> list[tuple[Kind, int, int]]:
    """Kind, first and last row of all that is no move of a market, in complete prices."""
    moved = values if at_level else np.log(values)
    moves = np.diff(moved)
    size = np.abs(moves)
    typical = _typical(size)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(values[1:] / values[:-1])
    ratio[(values[1:] <= 0) | (values[:-1] <= 0)] = 0.0
    jumps = np.abs(ratio) >= math.log(BREAK)
    small = _small_splits(ratio)
    found, done = _still(values, size), 0
    stopped = {first for _, first, last in found if last == len(values) - 1}
    units = _units(values, ratio)
    found += units
    for move in np.flatnonzero(jumps | small | (size > RUN * typical)).tolist():
        row = move + 1
        if row < done or any(first <= row <= last + 1 for _, first, last in units):
            continue
        scale = bool(jumps[move]) and _has_scale(values, row)
        later = np.abs(moved[row + 1 : row + 1 + (BACK_ROWS if scale else 1)] - moved[move])
        back = np.flatnonzero(later <= BACK * size[move])
        last = row + int(back[0]) if len(back) else row
        usual = max(typical, _around(size, move, last))
        if len(back) and size[move] > (JUMP if scale else GROSS) * usual:
            found.append(("print", row, last))
            done = last + 2
        elif rows := _rows_of_run(moves, move, typical):
            found.append(("print", row, row + rows - 1))
            done = row + rows + 1
        elif row not in stopped and (
            small[move] or (scale and size[move] > JUMP * _around(size, move, move))
        ):
            found.append(("scale", row, row))
        elif row == len(values) - 1 and size[move] > GROSS * usual:
            found.append(("last", row, row))
    return sorted(found, key=lambda one: one[1:])


def _rows_of_run(moves: np.ndarray, move: int, typical: float) -> int:
    """How many rows that are alike a move leads to, if an equal one undoes it after them; or 0."""
    size = np.abs(moves)
    for rows in range(2, min(BACK_ROWS, len(moves) - 1 - move) + 1):
        usual = max(typical, _around(size, move, move + rows))
        alike = size[move + 1 : move + rows].max() <= SAME * usual
        if not alike:
            return 0
        left = abs(moves[move] + moves[move + rows])
        if size[move] > RUN * usual and left <= max(UNDONE * usual, size[move] / 10):
            return rows
    return 0


def _small_splits(ratio: np.ndarray) -> np.ndarray:
    """Which moves, in logs, are a small split by their size in moves nearby, and stayed."""
    size, found = np.abs(ratio), np.zeros(len(ratio), bool)
    for move in np.flatnonzero(size > math.log(SUSPECT)).tolist():
        later = np.cumsum(ratio[move : move + BACK_ROWS])
        before = np.cumsum(ratio[max(move - BACK_ROWS + 1, 0) : move + 1][::-1])
        stays = (np.r_[later, before] * np.sign(ratio[move])).min() > size[move] / 2
        found[move] = stays and like_a_small_split(math.exp(size[move]), _around(size, move, move))
    return found


def _units(values: np.ndarray, ratio: np.ndarray) -> list[tuple[Kind, int, int]]:
    """Stretches that go between two scales: first and last row of each.

    Where every other row is in another unit each jump hides the next one's size, so all are judged
    at once: divided out, they leave moves far smaller than they are.
    """
    jumps = np.flatnonzero(np.abs(ratio) >= math.log(BREAK))
    if len(jumps) < ALTERNATE:
        return []
    ends = (np.diff(jumps) > _NEAR) | (np.diff(np.sign(ratio[jumps])) == 0)
    found: list[tuple[Kind, int, int]] = []
    for run in np.split(jumps, np.flatnonzero(ends) + 1):
        if len(run) < ALTERNATE:
            continue
        first, last = int(run[0]), int(run[-1])
        jump = float(np.median(np.abs(ratio[run])))
        left = ratio[max(first - _NEAR, 0) : last + 1 + _NEAR].copy()
        left[run - max(first - _NEAR, 0)] -= jump * np.sign(ratio[run])
        if JUMP * _typical(np.abs(left)) < jump and (values[first : last + 2] > 0).all():
            found.append(("units", first + 1, last + 1 if len(run) % 2 else last))
    return found


def _has_scale(values: np.ndarray, row: int) -> bool:
    """Whether the prices on both sides of a jump are many of their own moves."""
    sides = values[max(row - 1 - _NEAR, 0) : row], values[row : row + 1 + _NEAR]
    prices = values[row - 1], values[row]
    return all(
        WORTH * _typical(np.abs(np.diff(side))) <= price
        for side, price in zip(sides, prices, strict=True)
    )


def _around(size: np.ndarray, first: int, last: int) -> float:
    """The typical move near some moves, without them and the one back."""
    return _typical(np.r_[size[max(first - _NEAR, 0) : first], size[last + 1 : last + 1 + _NEAR]])


def _typical(size: np.ndarray) -> float:
    """A robust sd of moves, of those that are none at all left out."""
    size = size[size > 0]
    return _SD * float(np.median(size)) if len(size) else 0.0


def _still(values: np.ndarray, size: np.ndarray) -> list[tuple[Kind, int, int]]:
    """Stretches without a move that are longer than chance has them in prices as coarse as these.

    At the end fewer rows are enough: what comes after them does not say that the price goes on.
    """
    ends = np.flatnonzero(np.r_[size > 0, True])
    lengths = np.diff(np.r_[-1, ends])
    if len(ends) == 1:
        return []
    short = lengths[lengths < STALE]
    unmoved = 1 - len(short) / max(int(short.sum()), 1) if len(short) else 0.0
    chance = 4 * math.log(len(values)) / -math.log(unmoved) if unmoved > 0 else 0.0
    long = lengths >= max(STALE, chance)
    long[-1] |= lengths[-1] > max(ENDS, 2 * (lengths[:-1].max() - 1))
    return [("still", int(ends[n] - lengths[n] + 1), int(ends[n])) for n in np.flatnonzero(long)]
