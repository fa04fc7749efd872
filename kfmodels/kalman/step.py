"""One step of the Kalman recursion for a regression with moving coefficients.

Plain array arithmetic: the same functions run on NumPy (online) and under `lax.scan` on JAX
(offline). Coefficient axes come first, batch axes last: `mean (n, *b)`, `cov (n, n, *b)`,
`design (n, *b)`, `y (*b)`.

Every covariance here is relative to a variance that the noise keeps (`Noise.unit`), so the recursion
never sees a scale. How the coefficients move is a law of `kalman.motion`; how large the observation
variance is, and what is learnt of it, a class of `kalman.noise`.

West, M. and Harrison, J. (1997), Bayesian Forecasting and Dynamic Models, 2nd ed., chapters 4, 6
and 10.
"""

from typing import Any, NamedTuple

Array = Any
"""A NumPy or a JAX array: this module imports neither, and nothing of the package."""

Motion = Any
"""A law of `kalman.motion`."""


class State(NamedTuple):
    """What the next step needs of the coefficients: mean and relative covariance."""

    mean: Array
    cov: Array


class Forecast(NamedTuple):
    """Innovation of a row, its relative variance, and `leverage`, the covariance times the design."""

    error: Array
    var: Array
    leverage: Array

    @property
    def gain(self) -> Array:
        """Kalman gain per coefficient, shape (n, *b)."""
        return self.leverage / self.var


def predict(state: State, drift: Motion, dt: Array = 1.0) -> State:
    """The state `dt` later, before anything new is observed.

    A law with a transition, a factor per coefficient `(n, *b)` or a matrix `(n, n, *b)`, moves the
    coefficients before it adds its noise.
    """
    mean, cov = state
    transition = drift.transition(dt)  # None for a random walk, which then costs no products
    if transition is not None:
        mean, cov = transport(transition, mean), transport_cov(transition, cov)
    return State(mean, drift.widen(cov, dt))


def transport(transition: Array, vector: Array) -> Array:
    """`G v` of a vector `(n, *b)`, given the diagonal of G `(n, *b)` or G itself `(n, n, *b)`."""
    if transition.ndim == vector.ndim:
        return transition * vector
    return (transition * vector).sum(1)


def transport_cov(transition: Array, cov: Array) -> Array:
    """`G P G'` of a matrix `(n, n, *b)`, given the diagonal of G or G itself."""
    if transition.ndim < cov.ndim:
        return transition[:, None] * transition * cov
    half = (transition[:, :, None] * cov).sum(1)
    moved = (half[:, None] * transition).sum(2)
    # symmetric to the last bit, as `update` needs it
    return (moved + moved.swapaxes(0, 1)) * 0.5


def transposed(transition: Array, rank: int) -> Array:
    """`G'`, given the diagonal of G or G itself, of arrays with `rank` batch axes."""
    return transition if transition.ndim == rank + 1 else transition.swapaxes(0, 1)


def forecast(state: State, design: Array, y: Array, noise: Array = 1.0) -> Forecast:
    """Innovation of `y` and its variance, given the predicted state.

    `noise` is the observation variance of this row, relative like all others.
    """
    # one design for all draws: one product of matrices costs NumPy less than many small ones
    if design.ndim == 1 and state.mean.ndim == 2:
        leverage = design.dot(state.cov.reshape(len(design), -1)).reshape(state.mean.shape)
        mean, spread = design.dot(state.mean), design.dot(leverage)
    else:
        leverage = (state.cov * design).sum(1)
        mean, spread = (design * state.mean).sum(0), (design * leverage).sum(0)
    return Forecast(error=y - mean, var=spread + noise, leverage=leverage)


def update(state: State, seen: Forecast, observed: Array = 1.0) -> State:
    """The state after `y`; where `observed` is 0 nothing is learnt."""
    # the outer product P h (P h)' where textbooks have K (P h)': the same number, but symmetric to the
    # last bit. An asymmetric covariance is what ruins float32 here (NaN after 1500 days from a wide
    # start); with a symmetric one, Joseph's form gains nothing
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
    drift: Motion,
    observed: Array = 1.0,
    dt: Array = 1.0,
    noise: Array = 1.0,
) -> tuple[State, State, Forecast]:
    """Predict, forecast, update: the predicted state, the filtered state and the forecast between.

    `dt` is the time in which the coefficients move; the noise keeps that in which a variance fades.
    """
    predicted = predict(state, drift, dt)
    seen = forecast(predicted, design, y, noise)
    return predicted, update(predicted, seen, observed), seen
