r"""The hedge in given legs: a quadratic, costs on what is traded, a box and a bound on the gross.

$$J(x) = \ell + b^⊤ x + \tfrac12 x^⊤ A x + ∑_j c_j |x_j - h_j|,
\qquad lo ≤ x ≤ hi, \quad ∑_j |x_j| ≤ G$$
"""

import math
from dataclasses import dataclass

import numpy as np

_TINY = 1e-11
"""What counts as 0 in a problem whose money is counted in sds of the book."""

_STEPS = 200
"""Steps a leg after which the walk is given up; fuzzed problems, also singular, took fewer than 3."""


@dataclass(frozen=True, eq=False)
class Objective:
    """The numbers of J for n legs: `curve` A (n, n), `slope` b, `cost` c and `held` h (n,), gross G."""

    level: float
    slope: np.ndarray
    curve: np.ndarray
    cost: np.ndarray
    held: np.ndarray
    gross: float = math.inf

    def at(self, x: np.ndarray) -> float:
        """J of the money `x` in each leg, shape (n,)."""
        risk = self.level + self.slope @ x + 0.5 * x @ self.curve @ x
        return float(risk + self.cost @ np.abs(x - self.held))


def minimise(
    objective: Objective, low: np.ndarray, high: np.ndarray, start: np.ndarray | None = None
) -> tuple[float, np.ndarray] | None:
    """The least J and where it lies, exactly; None where the gross cannot be kept.

    J is a quadratic between knots: the bounds, what is held, and 0 where the gross is bounded. An
    active set is walked: legs at a knot stay there until a derivative to one side is negative, the
    others step to the minimum of their quadratic or to the first knot on the way. J falls at every
    step, so the walk ends; at its end no leg can move to either side at a gain (Karush-Kuhn-Tucker).

    Legs with equal bounds are fixed. `start` saves steps and does not change the answer.

    Source: Nocedal and Wright (2006), Numerical Optimization, section 16.5, with knots for bounds.
    """
    fixed = np.clip(0.0, low, high)
    if np.abs(fixed).sum() > objective.gross + _TINY:
        return None
    if start is not None:
        near = np.clip(start, low, high)
        fixed = near if np.abs(near).sum() <= objective.gross else fixed
    loose = np.flatnonzero(low < high)
    if len(loose):
        fixed[loose] = _Walk(objective, loose, fixed, low, high).end()
    return objective.at(fixed), fixed


class _Walk:
    """Loose legs on their way: where each is, and between which knots it may step."""

    def __init__(
        self,
        objective: Objective,
        loose: np.ndarray,
        x: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
    ) -> None:
        still = x.copy()
        still[loose] = 0.0
        self.slope = objective.slope[loose] + objective.curve[loose] @ still
        self.curve = objective.curve[np.ix_(loose, loose)]
        self.cost, self.held = objective.cost[loose], objective.held[loose]
        self.gross = objective.gross - np.abs(still).sum()
        self.low, self.high, self.x = low[loose], high[loose], x[loose]
        self.tight = False
        self.knots = [
            sorted(
                {lo, hi}
                | ({held} if cost > 0 and lo < held < hi else set())
                | ({0.0} if math.isfinite(self.gross) and lo < 0 < hi else set())
            )
            for lo, hi, held, cost in zip(
                self.low.tolist(),
                self.high.tolist(),
                self.held.tolist(),
                self.cost.tolist(),
                strict=True,
            )
        ]
        self.free = np.zeros(len(loose), dtype=bool)
        self.left, self.right = np.empty(len(loose)), np.empty(len(loose))
        for j, at in enumerate(self.x.tolist()):
            if at not in self.knots[j]:
                self.release(j, upwards=True)

    def release(self, j: int, *, upwards: bool) -> None:
        """Let leg j step, from where it is to the next knot on one side."""
        at, knots = self.x[j], self.knots[j]
        after = next(i for i, knot in enumerate(knots) if (knot > at if upwards else knot >= at))
        self.left[j], self.right[j] = knots[after - 1], knots[after]
        self.free[j] = True

    def end(self) -> np.ndarray:
        """Walk until nothing is left to gain."""
        for _ in range(_STEPS * (len(self.x) + 1)):
            shadow = self.step()
            if shadow is None:
                continue  # a knot or the gross was met on the way
            if self.tight and shadow < -_TINY:
                self.tight = False
            elif not self.leave_a_knot(shadow if self.tight else 0.0):
                return self.x
        raise ArithmeticError(
            f"the hedge in {len(self.x)} legs did not converge: the covariance is nearly singular; add "
            "a thousandth of its mean diagonal to the diagonal"
        )

    def step(self) -> float | None:
        """Step towards the minimum of the free legs; its price of gross, None if a knot came first."""
        free = np.flatnonzero(self.free)
        if not len(free):
            return 0.0
        x, left, right = self.x[free], self.left[free], self.right[free]
        sign = np.where(left >= 0, 1.0, -1.0)
        costs = self.cost[free] * np.where(left >= self.held[free], 1.0, -1.0)
        downhill = -(self.slope[free] + self.curve[free] @ self.x + costs)
        curve, shadow = self.curve[np.ix_(free, free)], 0.0
        if self.tight:
            whole = np.block([[curve, sign[:, None]], [sign[None], np.zeros((1, 1))]])
            *move, shadow = np.linalg.solve(whole, np.append(downhill, 0.0))
            move = np.array(move)
        else:
            move = np.linalg.solve(curve, downhill)
        move[np.abs(move) < _TINY * (1 + np.abs(x))] = 0.0
        ends = np.where(move > 0, right, left)
        parts = np.full(len(free), math.inf)
        parts[move != 0] = (ends - x)[move != 0] / move[move != 0]
        part = min(1.0, parts.min())
        grows = sign @ move
        if not self.tight and math.isfinite(self.gross) and grows > 0:
            until = max(self.gross - np.abs(self.x).sum(), 0.0) / grows
            # first at a tie, so that one leg stays free for the bound to act on
            if until <= part:
                self.x[free] += until * move
                self.tight = True
                return None
        self.x[free] += part * move
        if part < 1.0:
            stops = int(parts.argmin())
            self.x[free[stops]] = ends[stops]
            self.free[free[stops]] = False
            return None
        return float(shadow)

    def leave_a_knot(self, shadow: float) -> bool:
        """Free the leg that gains most by leaving its knot; False if none does."""
        if self.tight and not self.free.any():
            return False  # a corner: every leg at its least and the gross used up
        x = self.x
        pull = self.slope + self.curve @ x
        up = pull + self.cost * np.where(x >= self.held, 1, -1) + shadow * np.where(x >= 0, 1, -1)
        down = pull + self.cost * np.where(x > self.held, 1, -1) + shadow * np.where(x > 0, 1, -1)
        up = np.where(~self.free & (x < self.high), -up, 0.0)
        down = np.where(~self.free & (x > self.low), down, 0.0)
        gain = np.maximum(up, down) / np.sqrt(np.diag(self.curve))
        j = int(gain.argmax())
        if gain[j] < 100 * _TINY:
            return False
        self.release(j, upwards=bool(up[j] >= down[j]))
        return True
