"""The linear map between the user's units and the centred, scaled ones of the recursion. NumPy only.

In the recursion a regressor is `(x - pivot) / scale` and the target is `y - offset`; its
coefficients are the moves of y per typical move of x, and the level of y at the pivot. Independent
random walks at the pivot fit better than independent ones at x = 0, and stay accurate in float32.
"""

from typing import Any, NamedTuple

import numpy as np

Array = Any


class Coordinates(NamedTuple):
    """`pivot` and `scale` per hedge, `offset` of the target, and whether there is an intercept."""

    pivot: np.ndarray
    scale: np.ndarray
    offset: float
    intercept: bool

    @property
    def coefficients(self) -> int:
        return len(self.pivot) + self.intercept

    @property
    def scales(self) -> np.ndarray:
        """Scale per coefficient: those of the hedges, then 1 for the intercept."""
        return np.append(self.scale, 1.0) if self.intercept else self.scale

    def design(self, x: Array) -> np.ndarray:
        """Rows of the design, `(..., hedges) -> (..., coefficients)`."""
        inner = (np.asarray(x, float) - self.pivot) / self.scale
        if not self.intercept:
            return inner
        return np.concatenate([inner, np.ones((*inner.shape[:-1], 1))], axis=-1)

    def matrix(self) -> np.ndarray:
        """A in `theta = A inner + shift`."""
        matrix = np.diag(1 / self.scales)
        if self.intercept:
            matrix[-1, :-1] = -self.pivot / self.scale
        return matrix

    def shift(self) -> np.ndarray:
        """The part of theta that does not depend on the inner coefficients."""
        shift = np.zeros(self.coefficients)
        if self.intercept:
            shift[-1] = self.offset
        return shift

    def requoted(self, transform: str, factors: np.ndarray) -> "Coordinates":
        """The same where prices are `factors` times as many, target and then hedges.

        Raises:
            ValueError: logs without an intercept, which has nowhere to put a factor.
        """
        if transform == "log":
            if not self.intercept and (factors != 1).any():
                raise ValueError(
                    "a model of logs without an intercept holds for one unit of price only: fit again"
                )
            pivot, offset = self.pivot + np.log(factors[1:]), self.offset + np.log(factors[0])
            return self._replace(pivot=pivot, offset=float(offset))
        if transform == "level":
            pivot, scale = self.pivot * factors[1:], self.scale * factors[1:]
            return self._replace(pivot=pivot, scale=scale, offset=self.offset * float(factors[0]))
        return self

    def to_original(self, mean: Array, cov: Array) -> tuple[np.ndarray, np.ndarray]:
        """Mean `(..., n)` and covariance `(..., n, n)` of theta = [beta..., alpha] in user units."""
        a = self.matrix()
        return mean @ a.T + self.shift(), a @ cov @ a.T

    def from_original(self, mean: Array, cov: Array) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of `to_original`."""
        a = np.linalg.inv(self.matrix())
        return (np.asarray(mean) - self.shift()) @ a.T, a @ np.asarray(cov) @ a.T
