"""Observation noises: what the recursion asks of one; a constant, a discounted, an anchored variance.

A noise carries what it has learnt from row to row. Covariances of the recursion are relative to its
`unit`, which is the observation variance itself where the state noise is stated relative to that, and a
number that stays (`fixed_unit`) where a bar moves the coefficients as far whatever the variance is.

To add a noise, write a NamedTuple of arrays (batch axes last) with these seven methods, here or beside
the assumption of `kfmodels.model` that makes it; further ones are optional, see `meet`, `scale_of`,
`floored` and `in_fixed_units`. Where fields have axes of coefficients before those of the batch,
`coef_axes` says how many, field by field, as for laws of motion.

One file: the interface, the noises, and what is asked of a noise that need not answer.
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

    def in_fixed_units(self) -> "SteadyDiscount":
        """The same beside coefficients whose steps do not grow with it."""
        return SteadyDiscount(*self, 0 * self.var)


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


class SteadyDiscount(NamedTuple):
    """A `DiscountedVariance` beside coefficients whose steps do not grow with it, not below `least`.

    The unit is the variance at the start. In a storm the ratio then moves as far a bar as in a calm,
    and learns less of each.
    """

    var: Array
    weight: Array
    factor: Array
    least: Array

    fixed_unit = True

    start = DiscountedVariance.start
    keep = DiscountedVariance.keep
    fade = DiscountedVariance.fade
    dof = DiscountedVariance.dof

    def unit(self, carried: Scale) -> Array:
        return self.var

    def relative(self, carried: Scale) -> Array:
        return carried.var / self.var

    def learn(self, carried: Scale, forecast: Forecast, observed: Array) -> Scale:
        in_its_own = forecast._replace(var=forecast.var * self.var / carried.var)
        free = FlooredVariance(self.var, self.weight, self.factor, self.least)
        return free.learn(carried, in_its_own, observed)

    def with_floor(self, least: Array) -> "SteadyDiscount":
        return self._replace(least=least)


HEDGE_KEPT = 1 - 1 / 33
"""Share a row of what is known of the size of the hedge's moves: one is compared with six weeks'."""


class Anchor(NamedTuple):
    """What an anchored variance carries: its worth in observations, itself, that of the hedge."""

    weight: Array
    var: Array
    hedge_var: Array


class Met(NamedTuple):
    """The same at a row whose regressors are known.

    `square` is the hedge's squared move over its variance, `wide` what that adds to the variance of the
    forecast, relative to the unit.
    """

    weight: Array
    var: Array
    hedge_var: Array
    square: Array
    wide: Array


class AnchoredVariance(NamedTuple):
    r"""Observation variance that comes back to an anchor, with a Student-t tail and today's move in it.

    What is forgotten is replaced by the anchor, in a time d and then at a row with innovation e:

    $$n \leftarrow f^d n + (1 - f^d) n_0, \quad n v \leftarrow f^d n v + (1 - f^d) n_0 v_0$$
    $$n \leftarrow n + 1, \quad n v \leftarrow n v + (1 - w) \, v e^2 / S + w z^2 v_0, \qquad
    S = x^⊤ P x + v (1 + \ell (z^2 - 1))$$

    The forecast is Student-t with `tail` degrees of freedom and variance S. z is the hedge's move over
    its sd, which is learnt from the rows before: a row on which the hedge moves far is scored as less
    certain, but slows the ratio no more than any other (the gain has `v` alone). With several hedges
    `z^2` is that of all, each with its share.

    Args:
        var: the anchor v_0, where the variance starts; the unit of covariances too.
        start_weight: n at the start.
        weight: n_0, the worth of the anchor in observations.
        factor: f, kept a unit of time.
        tail: degrees of freedom of the forecast, above 2.
        lean: l, from 0 to 1; with 0 today's move has no part in the variance of the forecast.
        share: w, from 0 to 1; with 0 it has none in what the variance learns.
        hedges: share of each coefficient in `z^2`, `(n, *b)`; 0 of an intercept.

    Source: stabilised forgetting, Kulhavy and Zarrop (1993), On a general concept of forgetting,
    International Journal of Control 58.
    """

    var: Array
    start_weight: Array
    weight: Array
    factor: Array
    tail: Array
    lean: Array
    share: Array
    hedges: Array

    fixed_unit = True
    coef_axes = (0, 0, 0, 0, 0, 0, 0, 1)

    def start(self) -> Anchor:
        # in inner coordinates the mean square of a hedge over its training rows is 1
        return Anchor(self.start_weight, self.var, 0 * self.var + 1)

    def keep(self, dt: Array) -> None:
        return None

    def fade(self, carried: Anchor, dt: Array) -> Anchor:
        kept, anchor = self.factor**dt * carried.weight, (1 - self.factor**dt) * self.weight
        weight = kept + anchor
        var = (kept * carried.var + anchor * self.var) / weight
        return Anchor(weight, var, carried.hedge_var)

    def meet(self, carried: Anchor, design: Array, relative: Array) -> Met:
        if design.ndim < self.hedges.ndim:  # one pair has no axis of draws in its design
            design = design[:, None]
        square = (self.hedges * design * design).sum(0) / carried.hedge_var
        return Met(*carried, square, relative * self.lean * (square - 1))

    def unit(self, carried: Anchor | Met) -> Array:
        return self.var

    def relative(self, carried: Anchor | Met) -> Array:
        return carried.var / self.var

    def dof(self, carried: Anchor | Met) -> Array:
        return self.tail

    def scale_of(self, carried: Met, forecast: Forecast) -> Array:
        return self.var * (forecast.var + carried.wide) * ((self.tail - 2) / self.tail)

    def learn(self, carried: Met, forecast: Forecast, observed: Array) -> Anchor:
        whole = forecast.var + carried.wide
        news = (1 - self.share) * carried.var * forecast.error * forecast.error / whole
        news = news / self.var + self.share * carried.square * self.var
        weight = carried.weight + observed
        var = (carried.weight * carried.var + observed * news) / weight
        grown = 1 + observed * (1 - HEDGE_KEPT) * (carried.square - 1)
        return Anchor(weight, var, carried.hedge_var * grown)


def meet(noise: Noise, carried: Carried, design: Array, relative: Array) -> Carried:
    """What is carried into a row, once its regressors `(n, *b)` are known.

    For noises that depend on them, which have a method `meet`; `relative` is the observation variance
    of the row over the unit. What it answers is what `dof`, `scale_of` and `learn` are then given.
    """
    known = getattr(noise, "meet", None)
    return carried if known is None else known(carried, design, relative)


def scale_of(noise: Noise, carried: Carried, forecast: Forecast) -> Array:
    """Squared scale of the density of an innovation, in squared units of y: of a normal its variance.

    The variance of the innovation by the recursion, unless the noise has a method `scale_of`.
    """
    own = getattr(noise, "scale_of", None)
    return noise.unit(carried) * forecast.var if own is None else own(carried, forecast)


def variance_of(noise: Noise, carried: Carried) -> Array:
    """The observation variance of an ordinary row, in squared units of y."""
    return noise.unit(carried) * noise.relative(carried)


def state_dof(noise: Noise, carried: Carried) -> Array | None:
    """Degrees of freedom of the coefficients given the noise; None where they are normal.

    They share those of the forecast where the unit is learnt, and are normal in a unit that is fixed.
    """
    return None if getattr(noise, "fixed_unit", False) else noise.dof(carried)


def in_fixed_units(noise: Noise) -> Noise:
    """The noise beside coefficients whose steps do not grow with the observation variance.

    One whose unit moves says what that is by a method `in_fixed_units`.
    """
    turned = getattr(noise, "in_fixed_units", None)
    return noise if turned is None else turned()


FLOOR = 0.1
"""Share of the least variance of the training rows that is the floor online."""


def floored(noise: Noise, least: Array) -> Noise:
    """A noise whose variance keeps above `FLOOR` times `least`, if it is one that could collapse.

    One that could says so by a method `with_floor`.
    """
    floor = getattr(noise, "with_floor", None)
    return noise if floor is None else floor(FLOOR * least)
