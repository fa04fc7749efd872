"""Laws of motion of the coefficients, what `kalman.step` asks of them.

To add a law, write a NamedTuple of arrays (batch axes last) with these two methods, here or beside the
assumption of `kfmodels.model` that makes it. Where fields have axes of coefficients before those of the
batch, `coef_axes` says how many, field by field.

A time `dt` is a number, `(*b)`, or `(n, *b)` where a closed period is worth more to one coefficient
than to another.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

Array = Any
"""A NumPy or a JAX array: the recursion asks for neither."""


@runtime_checkable
class Motion(Protocol):
    """How the coefficients move in a time `dt`; covariances `(n, n, *b)` are relative."""

    def transition(self, dt: Array) -> Array | None:
        """Factor on each coefficient, `(n, *b)`, or a matrix `(n, n, *b)`; None where it is 1."""
        ...

    def widen(self, cov: Array, dt: Array) -> Array:
        """The covariance with the state noise of that time added."""
        ...


class Walk(NamedTuple):
    """Random walk: `cov + dt * noise`, with `noise (n, n, *b)` per unit of time."""

    noise: Array

    coef_axes = (2,)

    def transition(self, dt: Array) -> None:
        return None

    def widen(self, cov: Array, dt: Array) -> Array:
        return cov + self.noise * _shared_time(dt, cov)


class Discount(NamedTuple):
    """Information fades by a factor per unit of time: `cov / factor**dt` on the moving block.

    `moving (n, n, *1)` is 1 where both coefficients move and 0 elsewhere; the noise it implies,
    `moving * cov * (factor**-dt - 1)`, is then positive semidefinite.
    """

    factor: Array
    moving: Array

    coef_axes = (0, 2)

    def transition(self, dt: Array) -> None:
        return None

    def widen(self, cov: Array, dt: Array) -> Array:
        # cov is symmetric, but its tangents are so only to rounding (fused multiply-add), and no
        # observation shrinks an antisymmetric part: it would grow by 1/factor a step, and after 80
        # rows the gradient would be noise
        cov = (cov + cov.swapaxes(0, 1)) * 0.5  # a product: a GPU is slow to divide
        return cov + cov * (self.moving * (self.factor ** -_shared_time(dt, cov) - 1))


class Reversion(NamedTuple):
    r"""Coefficients that come back to 0, beside others that walk: Ornstein and Uhlenbeck's process.

    $$θ_j \to ϕ_j^{dt} θ_j, \qquad
    P_{ij} \to ϕ_i^{dt} ϕ_j^{dt} P_{ij} + dt \, W_{ij} + (1 - ϕ_i^{dt} ϕ_j^{dt}) \, V_{ij}$$

    with `factor (n, *b)` the $ϕ$ per unit of time, 1 of a coefficient that does not come back;
    `noise (n, n, *b)` the W of those that walk; `settled (n, n, *b)` the V in which those that come
    back settle. A coefficient has noise or a settled variance, not both.
    """

    noise: Array
    factor: Array
    settled: Array

    coef_axes = (2, 1, 2)

    def transition(self, dt: Array) -> Array:
        return self.factor**dt

    def widen(self, cov: Array, dt: Array) -> Array:
        kept = self.factor**dt
        new = self.settled * (1 - kept[:, None] * kept)
        return cov + self.noise * _shared_time(dt, cov) + new


class Transition(NamedTuple):
    """A constant matrix a row: `theta -> matrix theta`, with `noise (n, n, *b)` added.

    A local trend is `matrix = [[1, 1], [0, 1]]`, a seasonal a matrix that turns. Rows are one unit of
    time apart (0: nothing moves), as no matrix is raised to a power here.

    Durbin and Koopman (2012), Time Series Analysis by State Space Methods, 2nd ed., chapter 3.
    """

    matrix: Array
    noise: Array

    coef_axes = (2, 2)

    def transition(self, dt: Array) -> Array:
        n = len(self.matrix)
        stay = np.eye(n, dtype=self.matrix.dtype).reshape(n, n, *(1,) * (self.matrix.ndim - 2))
        return stay + (self.matrix - stay) * dt

    def widen(self, cov: Array, dt: Array) -> Array:
        return cov + self.noise * dt


def _shared_time(dt: Array, cov: Array) -> Array:
    """The time that two coefficients move together where each has its own; `dt` where all share one."""
    # the smaller of two times: the covariance of two walks that ran for them is that of a Brownian
    # motion, so the noise stays positive semidefinite
    if getattr(dt, "ndim", 0) < cov.ndim - 1:
        return dt
    one, other = dt[:, None], dt + 0 * dt[:, None]
    return one - (one > other) * (one - other)
