"""Observation noises: what the recursion asks of a noise, a constant and a discounted variance.

A noise carries what it has learnt from row to row. Covariances of the recursion are relative to its
`unit`, which is the observation variance itself where the state noise is stated relative to that.

To add a noise, write a NamedTuple of arrays (batch axes last) with these seven methods, here or beside
the assumption of `kfmodels.model` that makes it.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

from kfmodels.kalman.motion import Array
from kfmodels.kalman.step import Forecast

Carried = Any
"""What a noise carries from row to row: a NamedTuple of arrays `(*b)`, or None."""

LEAST_DOF = 3.0
"""Degrees of freedom that fading never goes below.

With 2 or fewer a Student-t has no variance, and after a long gap every tick would pass for ordinary.
"""


class Scale(NamedTuple):
    """Inverse-gamma belief on the observation variance: `dof * var / chi2(dof)`."""

    dof: Array
    var: Array


@runtime_checkable
class Noise(Protocol):
    """How large the observation variance is, and what an innovation teaches about it."""

    def start(self) -> Carried:
        """What is carried into the first row."""
        ...

    def keep(self, dt: Array) -> Array | None:
        """Share of the evidence on the variance left after a time `dt`; None where none is learnt."""
        ...

    def fade(self, carried: Carried, dt: Array) -> Carried:
        """What is carried, after a time `dt` without an innovation."""
        ...

    def unit(self, carried: Carried) -> Array:
        """Variance in which the covariances of the recursion are counted."""
        ...

    def relative(self, carried: Carried) -> Array:
        """Observation variance over the unit; 1 where the state noise is relative to it."""
        ...

    def dof(self, carried: Carried) -> Array | None:
        """Degrees of freedom of a forecast; None where it is normal."""
        ...

    def learn(self, carried: Carried, forecast: Forecast, observed: Array) -> Carried:
        """What is carried on after an innovation; unchanged where `observed` is 0."""
        ...


class ConstantVariance(NamedTuple):
    """Observation variance that does not move and is not learnt by the filter."""

    var: Array

    def start(self) -> None:
        return None

    def keep(self, dt: Array) -> None:
        return None

    def fade(self, carried: Carried, dt: Array) -> None:
        return None

    def unit(self, carried: Carried) -> Array:
        return self.var

    def relative(self, carried: Carried) -> float:
        return 1.0

    def dof(self, carried: Carried) -> None:
        return None

    def learn(self, carried: Carried, forecast: Forecast, observed: Array) -> None:
        return None


class DiscountedVariance(NamedTuple):
    """Observation variance learnt from squared innovations that fade by `factor` per unit of time.

    Starts at `var`, which counts as `weight` observations; fading stops at `LEAST_DOF`. West and
    Harrison (1997), section 10.8.
    """

    var: Array
    weight: Array
    factor: Array

    def start(self) -> Scale:
        return Scale(self.weight, self.var)

    def keep(self, dt: Array) -> Array:
        return self.factor**dt

    def fade(self, carried: Scale, dt: Array) -> Scale:
        faded = carried.dof * self.keep(dt)
        # min(dof, LEAST_DOF), then the maximum, by comparisons that NumPy and JAX both understand
        least = carried.dof - (carried.dof > LEAST_DOF) * (carried.dof - LEAST_DOF)
        return Scale(faded + (faded < least) * (least - faded), carried.var)

    def unit(self, carried: Scale) -> Array:
        return carried.var

    def relative(self, carried: Scale) -> float:
        return 1.0

    def dof(self, carried: Scale) -> Array:
        return carried.dof

    def learn(self, carried: Scale, forecast: Forecast, observed: Array) -> Scale:
        dof = carried.dof + observed
        square = forecast.error * forecast.error / forecast.var
        return Scale(dof, (carried.dof * carried.var + observed * square) / dof)

    def with_floor(self, least: Array) -> "FlooredVariance":
        """The same that never falls below `least`."""
        return FlooredVariance(*self, least)


class FlooredVariance(NamedTuple):
    """A `DiscountedVariance` that never falls below `least`.

    Online only: a filter that has collapsed takes every real price for an outlier and, as it learns
    from no outlier, stays so. The floor is a tenth of the least variance that the draw had over its
    training rows, so that no row like those ever meets it.
    """

    var: Array
    weight: Array
    factor: Array
    least: Array

    start = DiscountedVariance.start
    keep = DiscountedVariance.keep
    fade = DiscountedVariance.fade
    unit = DiscountedVariance.unit
    relative = DiscountedVariance.relative
    dof = DiscountedVariance.dof

    def learn(self, carried: Scale, forecast: Forecast, observed: Array) -> Scale:
        free = DiscountedVariance(self.var, self.weight, self.factor)
        dof, var = free.learn(carried, forecast, observed)
        return Scale(dof, var + (var < self.least) * (self.least - var))


FLOOR = 0.1
"""Share of the least variance of the training rows that is the floor online."""


def floored(noise: Noise, least: Array) -> Noise:
    """A noise whose variance keeps above `FLOOR` times `least`, if it is one that could collapse.

    One that could says so by a method `with_floor`.
    """
    floor = getattr(noise, "with_floor", None)
    return noise if floor is None else floor(FLOOR * least)
