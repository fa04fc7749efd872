"""Mixtures of Student-t densities: experts times tails, their distribution and their quantiles."""

import math
from typing import NamedTuple

import numpy as np

from kfmodels.kalman.density import log_student

TAILS = np.array([4.0, 6.0, 10.0])
"""Degrees of freedom that are weighed for every target; all even, so that the distribution function is
a polynomial."""

_SHRINK = (TAILS - 2) / TAILS
"""Squared scale of a t over its variance."""

_HALVINGS = 60
"""Enough for the last bit of a quantile from a bracket of thirty sds."""


class Mixture(NamedTuple):
    """Densities of the targets' moves: experts weighed by `weights`, tails by `tails`, independently.

    `mean`, `variance`, `weights` are `(target, expert)`, `tails (target, 3)` in the order of `TAILS`.
    """

    mean: np.ndarray
    variance: np.ndarray
    weights: np.ndarray
    tails: np.ndarray

    def centre(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of every target's move, `(target,)`."""
        mean = (self.weights * self.mean).sum(-1)
        spread = self.variance + (self.mean - mean[:, None]) ** 2
        return mean, np.sqrt((self.weights * spread).sum(-1))

    def over(self, rows: np.ndarray) -> "Mixture":
        """The same means, and the variance of the moves of so many rows, `(target,)`."""
        return self._replace(variance=self.variance * rows[:, None])

    def times(self, size: float) -> "Mixture":
        """The densities of moves that are so many times larger."""
        return self._replace(mean=self.mean * size, variance=self.variance * size**2)

    def degrees(self) -> np.ndarray:
        """Mean degrees of freedom of every target's density, `(target,)`."""
        return self.tails @ TAILS

    def log_densities(self, moves: np.ndarray) -> np.ndarray:
        """Of every expert with every tail, `(target, expert, tail)`, at one move a target."""
        errors = (moves[:, None] - self.mean)[..., None]
        return log_student(errors, self.variance[..., None] * _SHRINK, TAILS, np.log)

    def below(self, moves: np.ndarray) -> np.ndarray:
        """Probability below one move a target, `(target,)`."""
        errors = (moves[:, None] - self.mean)[..., None]
        share = student_below(errors / np.sqrt(self.variance[..., None] * _SHRINK))
        return np.einsum("nk,nt,nkt->n", self.weights, self.tails, share)

    def quantile(self, level: float) -> np.ndarray:
        """The move that is exceeded with probability 1 - level, `(target,)`.

        Raises:
            ValueError: the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"the level of a quantile lies between 0 and 1, not at {level}")
        mean, sd = self.centre()
        # a t with 4 degrees of freedom is beyond 30 sds with probability 1e-6 at most
        reach = 30 * sd * max(1.0, (1e-6 / min(level, 1 - level)) ** 0.25)
        low, high = mean - reach, mean + reach
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            under = self.below(middle) < level
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        return (low + high) / 2


def student_below(values: np.ndarray) -> np.ndarray:
    r"""Distribution functions of t with 4, 6 and 10 degrees of freedom, along the last axis.

    $$F(t) = \frac12 + \frac s2 ∑_{k<ν/2} \binom{2k}{k} \left(\frac{1-s^2}{4}\right)^k,
    \qquad s = t / \sqrt{ν + t^2}$$

    Source: Abramowitz and Stegun (1964), 26.7.4.
    """
    slope = values / np.sqrt(TAILS + values * values)
    rest = TAILS / (TAILS + values * values)  # 1 - s^2, without cancellation
    found = np.empty_like(slope)
    for number, powers in enumerate(_POWERS):
        total = np.full(slope.shape[:-1], powers[-1])
        for power in powers[-2::-1]:
            total *= rest[..., number]
            total += power
        found[..., number] = 0.5 + 0.5 * slope[..., number] * total
    return found


_POWERS = [[math.comb(2 * k, k) / 4**k for k in range(int(dof) // 2)] for dof in TAILS]
