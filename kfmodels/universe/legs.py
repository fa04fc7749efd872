"""Which legs: added while the objective falls, exchanged until no exchange helps, then left or rounded.

A *side* says how a leg is used: 0 not at all, 1 long, -1 short. Where no least size is asked for, 1
leaves the sign open and the problem of the legs in use is convex.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from kfmodels.universe.convex import Objective, minimise

_BETTER = 1e-10
"""Share of the objective that an exchange must gain; less is rounding."""


@dataclass(frozen=True, eq=False)
class Limits:
    """Bounds of the money in each leg, shape (n,): `low` 0 or less, `least` and `high` of its size."""

    low: np.ndarray
    high: np.ndarray
    least: np.ndarray
    legs: int

    def sides(self, j: int) -> tuple[int, ...]:
        """How leg j may be used."""
        long, short = self.high[j] > 0 and self.high[j] >= self.least[j], self.low[j] < 0
        if self.least[j] == 0:
            return (1,) if long or short else ()
        short = short and -self.low[j] >= self.least[j]
        return (1,) * bool(long) + (-1,) * bool(short)

    def box(self, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of every leg used on its side."""
        any_size = self.least == 0
        low = np.where(any_size, self.low, np.where(side > 0, self.least, self.low))
        high = np.where(any_size | (side > 0), self.high, -self.least)
        return np.where(side == 0, 0.0, low), np.where(side == 0, 0.0, high)

    def allow(self, j: int, money: float) -> bool:
        """Whether leg j may stand at this money."""
        rounding = 1e-9 * abs(money)
        inside = self.low[j] - rounding <= money <= self.high[j] + rounding
        return money == 0 or bool(inside and abs(money) >= self.least[j] - rounding)


@dataclass(eq=False)
class Search:
    """An objective under limits, and what was solved so far: J and the money of each set of sides."""

    objective: Objective
    limits: Limits
    solved: dict[bytes, tuple[float, np.ndarray] | None] = field(default_factory=dict)

    def solve(
        self, side: np.ndarray, start: np.ndarray | None = None
    ) -> tuple[float, np.ndarray] | None:
        """Least J on these sides, and where; None where they do not fit into the gross."""
        key = side.tobytes()
        if key not in self.solved:
            self.solved[key] = minimise(self.objective, *self.limits.box(side), start)
        return self.solved[key]

    def best(self) -> np.ndarray:
        """Sides of the best legs found.

        Two climbs, from no leg and from the largest legs of the problem without least sizes and
        without a limit of legs; each takes the single change that lowers J most until none does.
        """
        n = len(self.objective.held)
        limits = Limits(self.limits.low, self.limits.high, np.zeros(n), n)
        freed = minimise(self.objective, *limits.box(np.ones(n, dtype=np.int8)))
        assert freed is not None  # no leg at all always fits
        if self.limits.legs >= n and not self.limits.least.any():
            self.solved[np.ones(n, dtype=np.int8).tobytes()] = freed
            return np.ones(n, dtype=np.int8)
        size = np.abs(freed[1]) * np.sqrt(np.diag(self.objective.curve))
        first = np.zeros(n, dtype=np.int8)
        for j in np.argsort(-size)[: self.limits.legs]:
            wanted = 1 if self.limits.least[j] == 0 else int(np.sign(freed[1][j]))
            if size[j] > 0 and wanted in self.limits.sides(j):
                first[j] = wanted
        starts = [np.zeros(n, dtype=np.int8), first]
        return min((self.climb(side) for side in starts if self.solve(side)), key=self.value)

    def value(self, side: np.ndarray, start: np.ndarray | None = None) -> float:
        """J on these sides, infinite where they do not fit."""
        found = self.solve(side, start)
        return math.inf if found is None else found[0]

    def climb(self, side: np.ndarray) -> np.ndarray:
        """Add the best leg while that lowers J, then change or exchange single legs while that does."""
        grown = False
        while True:
            found = self.solve(side)
            assert found is not None
            near = self.changes(side) if grown else self.additions(side)
            values = [(self.value(other, found[1]), other) for other in near]
            best = min(values, key=lambda pair: pair[0], default=(math.inf, side))
            if best[0] < found[0] - _BETTER * abs(found[0]):
                side = best[1]
            elif grown:
                return side
            else:
                grown = True

    def additions(self, side: np.ndarray) -> Iterator[np.ndarray]:
        """The same legs and one more, as far as the number of legs allows."""
        if np.count_nonzero(side) < self.limits.legs:
            for j in np.flatnonzero(side == 0).tolist():
                yield from (_with(side, j, sign) for sign in self.limits.sides(j))

    def changes(self, side: np.ndarray) -> Iterator[np.ndarray]:
        """One leg more, one less, one turned, or one instead of another."""
        yield from self.additions(side)
        for i in np.flatnonzero(side).tolist():
            less = _with(side, i, 0)
            yield less
            yield from (_with(side, i, sign) for sign in self.limits.sides(i) if sign != side[i])
            for j in np.flatnonzero(side == 0).tolist():
                yield from (_with(less, j, sign) for sign in self.limits.sides(j))

    # -- what is left alone, what is rounded -------------------------------------------------------

    def fix(
        self, side: np.ndarray, at: dict[int, float], start: np.ndarray | None = None
    ) -> tuple[float, np.ndarray] | None:
        """Least J on these sides with some legs fixed at a money; None where that breaks a limit."""
        low, high = self.limits.box(side)
        for j, money in at.items():
            low[j] = high[j] = money
        found = minimise(self.objective, low, high, start)
        many = found is not None and np.count_nonzero(found[1]) > self.limits.legs
        return None if many else found

    def leave(self, side: np.ndarray, band: float) -> dict[int, float]:
        """Legs to leave as they are held, with the J that moving each, after those before, would save.

        The cheapest to leave comes first, and legs are left while J, the others solved again, stays
        below 1 + band times its minimum.
        """
        best = self.solve(side)
        assert best is not None
        x, held = best[1], self.objective.held.tolist()
        left: dict[int, float] = {}
        value = best[0]
        while True:
            pins = {j: held[j] for j in left}
            tried = [
                (found[0], j, found[1])
                for j in np.flatnonzero(x != held).tolist()
                if j not in left and self.limits.allow(j, held[j])
                if (found := self.fix(side, pins | {j: held[j]}, x)) is not None
            ]
            found, j, there = min(tried, key=lambda one: one[0], default=(math.inf, -1, x))
            if found - best[0] >= band * abs(best[0]):
                return left
            left[j], value, x = found - value, found, there

    def round(self, side: np.ndarray, pins: dict[int, float], lots: np.ndarray) -> np.ndarray:
        """The money in every leg when trades are whole `lots` of money, shape (n,), 0 for any size.

        Legs are rounded one by one, the coarsest first, to the better of both sides with the others
        solved again; then single lots, and pairs of them, are moved while J falls. Closing a leg is
        always allowed.
        """
        start = self.fix(side, pins)
        assert start is not None
        x, held, lot = start[1], self.objective.held.tolist(), lots.tolist()
        coarse = lots * np.sqrt(np.diag(self.objective.curve))
        used = (side != 0) & (lots > 0)
        moving = [j for j in np.argsort(-coarse).tolist() if used[j] and j not in pins]
        fixed = dict(pins)
        for j in moving:
            count = float(x[j] - held[j]) / lot[j]
            sizes = {held[j] + whole(count) * lot[j] for whole in (math.floor, math.ceil)} | {0.0}
            tried = [
                (found[0], size, found[1])
                for size in sorted(sizes, key=abs)
                if self.limits.allow(j, size)
                if (found := self.fix(side, fixed | {j: size}, x)) is not None
            ]
            if not tried:  # the sizes rounded up before have used the gross
                side, size = _with(side, j, 0), 0.0
                x = np.where(np.arange(len(x)) == j, 0.0, x)
            else:
                _, size, x = min(tried, key=lambda one: one[0])
            fixed[j] = size
        return self.shift(x, moving, lots)

    def shift(self, x: np.ndarray, moving: list[int], lots: np.ndarray) -> np.ndarray:
        """Move a leg by one lot, close it or leave it, or two legs at once, while J falls."""
        value = self.objective.at(x)
        while True:
            ones = [(j, x[j] + sign * lots[j]) for j in moving for sign in (-1, 1)]
            ones += [(j, to) for j in moving for to in (0.0, self.objective.held[j])]
            ones = [(j, to) for j, to in ones if to != x[j] and self.limits.allow(j, to)]
            pairs = [(a, b) for a in ones for b in ones if a[0] < b[0]]
            tried = []
            for several in [*((one,) for one in ones), *pairs]:
                there = x.copy()
                for j, to in several:
                    there[j] = to
                gross = np.abs(there).sum() <= self.objective.gross * (1 + 1e-12)
                if gross and np.count_nonzero(there) <= self.limits.legs:
                    tried.append((self.objective.at(there), there))
            best = min(tried, key=lambda one: one[0], default=(math.inf, x))
            if best[0] >= value - _BETTER * abs(value):
                return x
            value, x = best


def _with(side: np.ndarray, j: int, sign: int) -> np.ndarray:
    other = side.copy()
    other[j] = sign
    return other
