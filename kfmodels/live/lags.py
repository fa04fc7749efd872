r"""Does one leg arrive before the other? Innovations against the neighbouring moves of a hedge.

Under the model an innovation $e_t$ knows nothing of how a hedge moved one row before, nor of how it
moves one row after. Where the prices of a hedge arrive a row late the target has moved already, and
$e_t$ has the sign of the hedge's *next* move; where they arrive a row early, that of its *last* one.
(The target's own next move is no such test: it takes back the noise of its price.) For every hedge and
both directions, with sums $\langle · \rangle$ in which a row weighs 0.99 of the one after it,

$$r = \frac{\langle e\,m \rangle}{\sqrt{\langle e^2 \rangle \langle m^2 \rangle}}, \qquad
t = \frac{\langle e\,m \rangle}{\sqrt{∑_i w_i^2 (e_i m_i - \overline{e\,m})^2}}$$

The standard error is that of the products themselves (White's), so that wild times that both share do
not pass for a correlation.

One file: the test of a feed, row by row, and that of a table, all rows at once.

Source: Epps (1979), Comovements in stock prices in the very short run, Journal of the American
Statistical Association 74; White (1980), A heteroskedasticity-consistent covariance matrix estimator,
Econometrica 48.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from kfmodels.files.documents import Json
from kfmodels.kalman.transforms import Transform

ERRORS, LEAST = 5.0, 0.3
"""Standard errors and correlation from which on there is an alarm.

Neither rings on right models or on real bars fed whole (tests/live/test_lags.py has the counts).
"""

OVER = 3.0
"""Standard errors below which it is over."""

_FAR = 0.9 * LEAST**2  # squared correlation that surely is below it
_KEEP = 0.99
_BOUND = 4.0  # largest |z|, and largest move in its own sds, so that one bad print is no lag
_ROWS = 25.0  # that must count before anything is said

Value = Any
"""A number for one hedge of one pair, an array `(pair, hedge)` for a board."""


class Sums(NamedTuple):
    """Discounted sums of one direction.

    `weight` of the rows, `cross` of the products of innovation and move, `error` and `move` of the
    squares of each; with squared weights `weight2`, `cross2` and, of the squared products, `square2`.
    """

    weight: Value
    cross: Value
    error: Value
    move: Value
    weight2: Value
    cross2: Value
    square2: Value

    def add(self, error: Value, move: Value, seen: Value) -> "Sums":
        """The sums with one more row, or as they were where `seen` is 0 instead of 1."""
        weight, cross, errors, moves, weight2, cross2, square2 = self
        keep = 1 - (1 - _KEEP) * seen
        keep2, product = keep * keep, error * move * seen
        return Sums(
            keep * weight + seen,
            keep * cross + product,
            keep * errors + error * error * seen,
            keep * moves + move * move * seen,
            keep2 * weight2 + seen,
            keep2 * cross2 + product,
            keep2 * square2 + product * product,
        )

    def strength(self, of: Any) -> tuple[Value, Value]:
        """The correlation, and how many standard errors it is; `of` is `math` or `numpy`."""
        weight, cross, errors, moves, weight2, cross2, square2 = self
        tiny = 1e-300
        mean = cross / (weight + tiny)
        var = square2 - 2 * mean * cross2 + mean * mean * weight2
        # of equal products the variance is 0 but for rounding
        var = abs(var) + 1e-9 * square2 + tiny
        return cross / (of.sqrt(errors * moves) + tiny), cross / of.sqrt(var)


class Stand(NamedTuple):
    """Where the tests of one hedge, or of all of a board, stand; never changed in place.

    `value` (log or level of the hedge), `error` (the innovation) and `move` (of the hedge) are of the
    last row, NaN where there is none. `before` are the sums of a hedge that comes before the target (an
    innovation by the move of the row before), `after` those of one that comes after it (by that of the
    row after), and `rings` says which of the two is an alarm now.
    """

    value: Value
    error: Value
    move: Value
    before: Sums
    after: Sums
    rings: tuple[Value, Value]


class Lag(NamedTuple):
    """An alarm that begins: number of the pair and of its hedge, whether the hedge comes `late`, the
    correlation, its standard errors, and the rows that count."""

    pair: int
    hedge: int
    late: bool
    correlation: float
    errors: float
    rows: float


class Lags:
    """Tests of every hedge of some pairs; `stands` alone changes, and is replaced whole.

    Args:
        pairs: the tickers of each, the target first.
        transform: of the prices; moves are of logs unless it is "level".
        held: what `to_json` gave.
    """

    def __init__(
        self, pairs: Sequence[tuple[str, ...]], transform: Transform, held: Json = None
    ) -> None:
        self._logs = not transform.by_shares
        hedges = [names[1:] for names in pairs]
        self._tickers = tuple(dict.fromkeys(name for names in hedges for name in names))
        # plain numbers for one pair, on which NumPy is many times slower
        self._single = len(pairs) == 1
        spots = {name: number for number, name in enumerate(self._tickers)}
        # of an asset that stands alone there are no hedges, and no numbers to tell the type by
        self._spots = np.array([[spots[name] for name in names] for names in hedges], int)
        self._shape = None if self._single else self._spots.shape
        count = len(hedges[0]) if self._single else 1
        self.stands: tuple[Stand, ...] = (_fresh(self._shape),) * count
        if held is not None:
            self.stands = self.read(held)

    def update(self, prices: Mapping[str, float], z: float | np.ndarray) -> list[Lag]:
        """Take a row: its prices by ticker, and the innovation of every pair in its sds, NaN where
        there is none. Returns the alarms that begin."""
        before, found = self.stands, list[Lag]()
        if self._single:
            if isinstance(z, np.ndarray):  # of a board of one pair
                z = z.item()
            error = min(max(z, -_BOUND), _BOUND) if z == z else z
            stands = list[Stand]()
            for number, (name, old) in enumerate(zip(self._tickers, before, strict=True)):
                price = prices[name]
                value = math.log(price) if self._logs and price == price else price
                now = _after(old, value, error, math)
                stands.append(now)
                if now.rings != old.rings:
                    found += _lags(old, now, number)
            self.stands = tuple(stands)
            return found
        given = np.array([prices[name] for name in self._tickers])
        values = (np.log(given) if self._logs else given)[self._spots]
        error = np.clip(z, -_BOUND, _BOUND)[:, None]
        self.stands = (_after(before[0], values, error, np),)
        return _lags(before[0], self.stands[0], None)

    @property
    def ringing(self) -> list[int]:
        """Numbers of the pairs of which a hedge comes before or after its target now."""
        if self._single:
            for stand in self.stands:
                if True in stand.rings:
                    return [0]
            return []
        return np.flatnonzero(np.logical_or(*self.stands[0].rings).any(1)).tolist()

    def restart(self, tickers: Iterable[str]) -> None:
        """The hedges named are quoted in new units: what was known of their moves does not compare."""
        names, fresh = set(tickers), _fresh(self._shape)
        changed = np.array([name in names for name in self._tickers])
        if self._single:
            each = zip(changed.tolist(), self.stands, strict=True)
            self.stands = tuple(fresh if new else stand for new, stand in each)
            return
        both = zip(_leaves(fresh), _leaves(self.stands[0]), strict=True)
        self.stands = (_stand([np.where(changed[self._spots], *leaf) for leaf in both]),)

    def to_json(self, stands: tuple[Stand, ...] | None = None) -> Json:
        """Where the tests stand, or stood, as nested lists; None for what there is not."""
        stands = self.stands if stands is None else stands
        return [[_plain(leaf) for leaf in _leaves(stand)] for stand in stands]

    def read(self, held: Json) -> tuple[Stand, ...]:
        """What `to_json` gave."""
        return tuple(map(self._read, cast("list[list[Value]]", held)))

    def _read(self, leaves: list[Value]) -> Stand:
        """A stand out of what `to_json` gave."""
        if self._single:
            return _stand([math.nan if leaf is None else leaf for leaf in leaves])
        kinds = [float] * 17 + [bool] * 2
        # error has one column; NumPy reads None as NaN
        return _stand([np.array(leaf, kind) for leaf, kind in zip(leaves, kinds, strict=True)])


def tell_lags(prices: np.ndarray, legs: Sequence[str], transform: Transform) -> list[str]:
    """Which hedge comes a row before or after its target in a table, a sentence each, with the remedy.

    The same two sums, all rows weighing alike, over the residuals of the target's moves regressed on
    those of the hedges.

    Args:
        prices: of the target, then the hedges, `(time, leg)`; rows with a gap are left out.
        legs: their names.
        transform: moves are of logs unless it is "level".

    Example:
        >>> import numpy as np
        >>> from kfmodels.kalman.transforms import LOG
        >>> x = np.exp(np.random.default_rng(0).normal(0, 0.01, 200).cumsum())
        >>> tell_lags(np.c_[x[1:], x[:-1]], ["Y", "X"], LOG)[0][:32]
        'X comes one row after Y: what is'
        >>> tell_lags(np.c_[x, x], ["Y", "X"], LOG)
        []
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = prices if transform.by_shares else np.log(prices)
    moves = np.diff(values[np.isfinite(values).all(1)], axis=0)
    if len(moves) < _ROWS + 2:
        return []
    size = np.sqrt((moves**2).mean(0))
    moves = np.clip(moves, -_BOUND * size, _BOUND * size)
    target, hedges = moves[:, 0], moves[:, 1:]
    error = target - hedges @ np.linalg.lstsq(hedges, target)[0]
    said = list[str]()
    for name, move in zip(legs[1:], hedges.T, strict=True):
        for way, back, left, right in (
            ("after", -1, error[:-1], move[1:]),
            ("before", 1, error[1:], move[:-1]),
        ):
            product, count = left * right, float(len(left))
            squares = [float(each @ each) for each in (left, right, product)]
            total = float(product.sum())
            sums = Sums(count, total, squares[0], squares[1], count, total, squares[2])
            correlation, errors = sums.strength(math)
            if abs(errors) > ERRORS and abs(correlation) > LEAST:
                next_ = "next" if back < 0 else "last"
                said.append(
                    f"{name} comes one row {way} {legs[0]}: what is left of the moves of {legs[0]} has "
                    f"a correlation of {correlation:+.2f} with its {next_} move ({abs(errors):.1f} "
                    f"standard errors), so the ratio to {name} is wrong. If its dates are a row off, "
                    f"give prices.assign(**{{{name!r}: prices[{name!r}].shift({back})}}); if its "
                    "market closes at another time, give longer bars"
                )
    return said


def _after(stand: Stand, value: Value, error: Value, of: Any) -> Stand:
    """The tests after one more row; `of` is `math` for numbers, `numpy` for arrays."""
    value_before, error_before, move_before, before, after, (early, late) = stand
    move = value - value_before
    if of is math:
        usual = after.move / after.weight if after.weight else 0.0
        bound = _BOUND * math.sqrt(usual) or math.inf
        move = min(max(move, -bound), bound) if move == move else move
    else:
        usual = after.move / np.maximum(after.weight, 1.0)
        bound = np.where(usual > 0, _BOUND * np.sqrt(usual), np.inf)
        move = np.clip(move, -bound, bound)
    before, early = _test(before, early, error, move_before, of)
    after, late = _test(after, late, error_before, move, of)
    return Stand(value, error, move, before, after, (early, late))


def _test(sums: Sums, rang: Value, error: Value, move: Value, of: Any) -> tuple[Sums, Value]:
    """The sums of one direction with one more product, and whether it rings."""
    product = error * move
    if of is math:
        if product != product:
            return sums, rang
        sums = sums.add(error, move, 1.0)
        # nearly every row ends here: it is far from the least correlation
        if not rang and sums.cross * sums.cross < _FAR * sums.error * sums.move:
            return sums, False
    else:
        seen = product == product
        sums = sums.add(np.where(seen, error, 0.0), np.where(seen, move, 0.0), seen)
    size, errors = sums.strength(of)
    errors = abs(errors)
    begins = (errors > ERRORS) & (abs(size) > LEAST) & (sums.weight > _ROWS)
    return sums, begins | (rang & (errors > OVER))


def _lags(old: Stand, now: Stand, only: int | None) -> list[Lag]:
    """The alarms that begin between two rows; `only` is the hedge where there is one pair."""
    found: list[Lag] = []
    for late, (rang, rings) in enumerate(zip(old.rings, now.rings, strict=True)):
        sums = now.after if late else now.before
        size, errors = sums.strength(np)
        begun = np.atleast_2d(np.logical_and(rings, np.logical_not(rang)))
        for pair, hedge in np.argwhere(begun).tolist():
            told = [np.atleast_2d(each)[pair, hedge].item() for each in (size, errors, sums.weight)]
            found.append(Lag(pair, hedge if only is None else only, bool(late), *told))
    return found


def _fresh(shape: tuple[int, int] | None) -> Stand:
    """Nothing is known yet, of one hedge or of those of a board."""
    none, zero = (math.nan, 0.0) if shape is None else (np.full(shape, math.nan), np.zeros(shape))
    silent = False if shape is None else np.zeros(shape, bool)
    return Stand(none, none, none, Sums(*[zero] * 7), Sums(*[zero] * 7), (silent, silent))


def _leaves(stand: Stand) -> list[Value]:
    """All numbers of a stand in one list; `_stand` is the inverse."""
    return [*stand[:3], *stand.before, *stand.after, *stand.rings]


def _stand(leaves: Sequence[Value]) -> Stand:
    value, error, move, *sums, first, second = leaves
    return Stand(value, error, move, Sums(*sums[:7]), Sums(*sums[7:]), (first, second))


def _plain(value: Value) -> Json:
    """Numbers as nested lists, None for NaN."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(part) for part in cast("list[Value]", value)]
    return value if value == value else None
