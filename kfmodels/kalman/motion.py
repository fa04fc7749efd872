"""Laws of motion of the coefficients: what `kalman.step` asks of a law, random walk and discounting.

To add a law, write a NamedTuple of arrays (batch axes last) with these two methods, here or beside the
assumption of `kfmodels.model` that makes it. Where fields have axes of coefficients before those of the
batch, `coef_axes` says how many, field by field.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

Array = Any
"""A NumPy or a JAX array: the recursion imports neither."""


@runtime_checkable
class Motion(Protocol):
    """How the coefficients move in a time `dt`; covariances `(n, n, *b)` are relative."""

    def transition(self, dt: Array) -> Array | None:
        """Factor on each coefficient, `(n, *b)`; None where it is 1."""
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
        return cov + self.noise * dt


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
        return cov + cov * (self.moving * (self.factor**-dt - 1))
