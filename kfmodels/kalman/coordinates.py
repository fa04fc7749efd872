"""The linear map between the user's units and the centred, scaled ones of the recursion.

In the recursion a regressor is `(x - pivot) / scale` and the target `(y - offset) / unit`; its
coefficients are the moves of y per typical move of x, and the level of y at the pivot. Independent
random walks at the pivot fit better than independent ones at x = 0, and stay accurate in float32.
"""

from typing import NamedTuple

import numpy as np

from kfmodels.kalman.motion import Array
from kfmodels.kalman.transforms import LEVEL, LOG, Transform


class Coordinates(NamedTuple):
    """`pivot` and `scale` per hedge `(..., hedge)`, `offset` and `unit` of the target `(...)`.

    `intercept` says whether there is one; `unit` is 1 until a split rescales the target. Where a
    coefficient is a sum, the recursion has further states: `parts` are the numbers of the coefficients
    that they belong to. Those numbered in `tilted`, counted among the parts, count by the `tilt` of the
    time of day: one number, or one for each of several rows.
    """

    pivot: np.ndarray
    scale: np.ndarray
    offset: Array
    intercept: bool
    unit: Array = 1.0
    parts: tuple[int, ...] = ()
    tilted: tuple[int, ...] = ()
    tilt: Array = 1.0

    def of_pair(self, number: int) -> "Coordinates":
        """The coordinates of one pair of several."""
        unit = np.broadcast_to(self.unit, np.shape(self.offset))[number]
        return self._replace(
            pivot=self.pivot[number],
            scale=self.scale[number],
            offset=float(self.offset[number]),
            unit=float(unit),
        )

    @property
    def coefficients(self) -> int:
        return self.pivot.shape[-1] + self.intercept

    @property
    def states(self) -> int:
        """States of the recursion: one for each coefficient, and those of the parts."""
        return self.coefficients + len(self.parts)

    @property
    def spread(self) -> bool:
        """Whether the last state is a spread that comes back, a part of the intercept."""
        return self.intercept and self.parts[-1:] == (self.coefficients - 1,)

    @property
    def sums(self) -> np.ndarray:
        """The coefficients as sums of states, `(*rows, coefficient, state)` of 0, 1 and the tilt."""
        sums = np.eye(self.coefficients)[:, [*range(self.coefficients), *self.parts]]
        if not self.tilted:
            return sums
        counts = np.ones((*np.shape(self.tilt), sums.shape[1]))
        counts[..., [self.coefficients + part for part in self.tilted]] = np.asarray(self.tilt)[
            ..., None
        ]
        return sums * counts[..., None, :]

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
        """A in `theta = A inner + shift`, `(..., coefficients, states)`."""
        matrix = np.zeros((*self.pivot.shape[:-1], self.coefficients, self.coefficients))
        unit = np.asarray(self.unit)[..., None]
        hedges = range(self.pivot.shape[-1])
        matrix[..., hedges, hedges] = unit / self.scale
        if self.intercept:
            matrix[..., -1, :-1] = -unit * self.pivot / self.scale
            matrix[..., -1, -1] = self.unit
        return matrix @ self.sums if self.parts else matrix

    def shift(self) -> np.ndarray:
        """The part of theta that does not depend on the inner coefficients, `(..., n)`."""
        shift = np.zeros((*self.pivot.shape[:-1], self.coefficients))
        if self.intercept:
            shift[..., -1] = self.offset
        return shift

    def requote(
        self, transform: Transform, factors: np.ndarray, about: np.ndarray | None = None
    ) -> "Coordinates":
        """The coordinates after prices were multiplied by `factors (..., leg)`: target, then hedges.

        A level that has taken this for a move of the market keeps it: `about (..., leg)` are prices in
        the new units, which stay as far from their forecast, in its sds, as they were; NaN elsewhere.

        Raises:
            ValueError: logs without an intercept, which alone could absorb a factor.
        """
        target, hedges = factors[..., 0], factors[..., 1:]
        if transform == LEVEL:
            pivot, scale, offset = self.pivot * hedges, self.scale * hedges, self.offset * target
            unit = self.unit * target
            turned = self._replace(pivot=pivot, scale=scale, offset=offset, unit=unit)
            if about is None or not self.intercept:
                return turned
            return turned.move(np.nan_to_num(about * (1 - factors)))
        if transform == LOG:
            if not self.intercept and (factors != 1).any():
                raise ValueError(
                    "a model of logs without an intercept holds for one unit of price only: fit again"
                )
            if about is not None:
                factors = np.where(np.isnan(about), factors, 1.0)
                target, hedges = factors[..., 0], factors[..., 1:]
            pivot, offset = self.pivot + np.log(hedges), self.offset + np.log(target)
            return self._replace(pivot=pivot, offset=offset)
        return self  # a return has no unit

    def move(self, shifts: np.ndarray) -> "Coordinates":
        """The coordinates after levels moved by `shifts (..., leg)`: target, then hedges.

        Raises:
            ValueError: there is no intercept, which alone could absorb a shift.
        """
        if not self.intercept and (shifts != 0).any():
            raise ValueError(
                "a model of prices without an intercept holds for prices counted from 0 only: fit again"
            )
        return self._replace(
            pivot=self.pivot + shifts[..., 1:], offset=self.offset + shifts[..., 0]
        )

    def to_original(self, mean: Array, cov: Array) -> tuple[np.ndarray, np.ndarray]:
        """Mean `(..., n)` and covariance `(..., n, n)` of theta = [beta..., alpha] in user units."""
        a = self.matrix()
        if a.ndim > 2:  # of rows that are tilted, each has its own
            return (a @ mean[..., None])[..., 0] + self.shift(), a @ cov @ a.mT
        return mean @ a.T + self.shift(), a @ cov @ a.T

    def from_original(self, mean: Array, cov: Array) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of `to_original` where no coefficient is a sum; else of the coefficients' own."""
        a = np.linalg.inv(self._replace(parts=(), tilted=()).matrix())
        return (np.asarray(mean) - self.shift()) @ a.T, a @ np.asarray(cov) @ a.T
