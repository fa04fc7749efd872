"""One step of the Kalman recursion for a regression with moving coefficients.

Plain array arithmetic: the same functions run on NumPy (online) and under `lax.scan` on JAX
(offline). Coefficient axes come first, batch axes last: `mean (n, *b)`, `cov (n, n, *b)`,
`design (n, *b)`, `y (*b)`.

Every covariance here is relative to the observation variance (that one enters as 1), so the
recursion never sees the noise scale: `ConstantVariance` and `DiscountedVariance` differ only in
how the scale is carried and how an innovation is scored.

West, M. and Harrison, J. (1997), Bayesian Forecasting and Dynamic Models, 2nd ed., chapters 4, 6
and 10.
"""

from typing import Any, NamedTuple

Array = Any
"""A NumPy or a JAX array: this module imports neither."""


LEAST_DOF = 3.0
"""Degrees of freedom that fading leaves; with 2 or fewer a Student-t has no variance."""


class State(NamedTuple):
    """What the next step needs of the coefficients: mean and relative covariance."""

    mean: Array
    cov: Array


class Forecast(NamedTuple):
    """What one step learnt before it looked: innovation, its relative variance, and P h."""

    error: Array
    var: Array
    leverage: Array

    @property
    def gain(self) -> Array:
        """Kalman gain per coefficient, shape (n, *b)."""
        return self.leverage / self.var


class Scale(NamedTuple):
    """Inverse-gamma belief on the observation variance: `dof * var / chi2(dof)`."""

    dof: Array
    var: Array


Carried = Any
"""What a noise carries from row to row, as its own `start` gave it: a `Scale`, or None."""


class RandomWalk(NamedTuple):
    """State noise added per unit of time: `cov + dt * noise`, noise (n, n, *b), relative."""

    noise: Array

    def widen(self, cov: Array, dt: Array) -> Array:
        return cov + self.noise * dt


class StateDiscount(NamedTuple):
    """Information fades by a factor per unit of time: `cov / factor**dt` on the moving block.

    `moving (n, n, *1)` is 1 where both coefficients move and 0 elsewhere; the noise it implies,
    `moving * cov * (factor**-dt - 1)`, is then positive semidefinite.
    """

    factor: Array
    moving: Array

    def widen(self, cov: Array, dt: Array) -> Array:
        # cov is symmetric already, its tangents only to rounding (fused multiply-add), and no
        # observation ever shrinks an antisymmetric part: unmended it grows by 1/factor a step and
        # after 80 rows the gradient is noise
        cov = (cov + cov.swapaxes(0, 1)) / 2
        return cov + cov * (self.moving * (self.factor**-dt - 1))


class ConstantVariance(NamedTuple):
    """Observation variance that does not move and is not learnt by the filter."""

    var: Array

    def start(self) -> None:
        return None

    def fade(self, scale: Carried, dt: Array) -> None:
        return None

    def learn(self, scale: Carried, forecast: Forecast, observed: Array) -> None:
        return None


class DiscountedVariance(NamedTuple):
    """Observation variance learnt from squared innovations that fade by `factor` per unit of time.

    Starts at `var` with the weight of `dof` observations. Fading stops at 3: a forecast with 2 or
    fewer degrees of freedom has no variance, and after a long gap every tick would pass for ordinary.
    """

    var: Array
    dof: Array
    factor: Array

    def start(self) -> Scale:
        return Scale(self.dof, self.var)

    def fade(self, scale: Carried, dt: Array) -> Scale:
        faded = scale.dof * self.factor**dt
        least = scale.dof - (scale.dof > LEAST_DOF) * (scale.dof - LEAST_DOF)
        return Scale(faded + (faded < least) * (least - faded), scale.var)

    def learn(self, scale: Carried, forecast: Forecast, observed: Array) -> Scale:
        dof = scale.dof + observed
        square = forecast.error * forecast.error / forecast.var
        return Scale(dof, (scale.dof * scale.var + observed * square) / dof)


Drift = RandomWalk | StateDiscount
Noise = ConstantVariance | DiscountedVariance


def predict(state: State, drift: Drift, dt: Array = 1.0) -> State:
    """The state `dt` later, before anything new is observed."""
    return State(state.mean, drift.widen(state.cov, dt))


def forecast(state: State, design: Array, y: Array, noise: Array = 1.0) -> Forecast:
    """Innovation of `y` and its variance, given the predicted state.

    `noise` is the observation variance of this row, relative like all others.
    """
    leverage = (state.cov * design).sum(1)
    return Forecast(
        error=y - (design * state.mean).sum(0),
        var=(design * leverage).sum(0) + noise,
        leverage=leverage,
    )


def update(state: State, seen: Forecast, observed: Array = 1.0) -> State:
    """The state after `y`; where `observed` is 0 nothing is learnt.

    The covariance is updated by the outer product `P h (P h)'`, not by `K (P h)'`: the same
    number, but symmetric to the last bit. Losing the symmetry is what ruins float32 here (NaN
    after 1500 days from a wide start); with it, Joseph's form gains nothing.
    """
    weight = observed / seen.var
    ph = seen.leverage
    return State(
        mean=state.mean + ph * (seen.error * weight),
        cov=state.cov - ph[:, None] * ph * weight,
    )


def step(
    state: State,
    design: Array,
    y: Array,
    drift: Drift,
    observed: Array = 1.0,
    dt: Array = 1.0,
    noise: Array = 1.0,
) -> tuple[State, State, Forecast]:
    """Predict, look, update: the predicted state, the filtered state and the forecast between.

    `dt` is the time in which the coefficients move; that in which a variance fades is the noise's own.
    """
    predicted = predict(state, drift, dt)
    seen = forecast(predicted, design, y, noise)
    return predicted, update(predicted, seen, observed), seen
