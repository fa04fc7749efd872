"""Running the filter under many noise draws at once and mixing what they say."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from kfmodels.kalman import likelihood, scan
from kfmodels.kalman.step import (
    ConstantVariance,
    DiscountedVariance,
    Drift,
    Noise,
    RandomWalk,
    State,
    StateDiscount,
)

Array = Any


class NoiseDraws(NamedTuple):
    """K draws of everything the recursion needs besides the series; covariances are relative.

    `q (draw, coef)` or `state_discount (draw)` with `moving (coef)`; `variance_discount (draw)` and
    `variance_dof (draw)` where the observation variance is learnt.
    """

    start_mean: Array
    start_cov: Array
    obs_var: Array
    q: Array | None = None
    state_discount: Array | None = None
    moving: Array | None = None
    variance_discount: Array | None = None
    variance_dof: Array | None = None

    def recursion(self) -> tuple[State, Drift, Noise]:
        """The same with batch axes last, as `kalman.step` wants it."""
        start = State(jnp.moveaxis(self.start_mean, 0, -1), jnp.moveaxis(self.start_cov, 0, -1))
        if self.q is not None:
            eye = jnp.eye(self.q.shape[1])[..., None]
            drift = RandomWalk(eye * jnp.moveaxis(self.q, 0, -1))
        else:
            assert self.moving is not None  # it comes with state_discount
            both = self.moving[:, None] * self.moving
            drift = StateDiscount(jnp.asarray(self.state_discount), both[..., None].astype(float))
        if self.variance_discount is None:
            return start, drift, ConstantVariance(jnp.asarray(self.obs_var))
        noise = DiscountedVariance(
            *(jnp.asarray(a) for a in (self.obs_var, self.variance_dof, self.variance_discount))
        )
        return start, drift, noise


class Belief(NamedTuple):
    """Mixture mean, total covariance, and covariance given the noise, at every row."""

    mean: Array
    cov: Array
    cov_given_noise: Array


class Pass(NamedTuple):
    """A forward pass of all draws: all but the last mixed, and where each one ended.

    The last draw is the plug-in: it runs along and is not part of the mixture.
    """

    predicted: Belief
    filtered: Belief
    spread: Array
    spread_var: Array
    log_density: Array
    mean: Array
    cov: Array
    obs_var: Array
    dof: Array | None


def mix(mean: Array, cov: Array) -> Belief:
    """Moments of an equal mixture over the last axis: `mean (T, n, K)`, `cov (T, n, n, K)`."""
    centre = mean.mean(-1)
    away = mean - centre[..., None]
    given = cov.mean(-1)
    return Belief(centre, given + (away[:, :, None] * away[:, None]).mean(-1), given)


def series(y: Array, design: Array, observed: Array, dt: Array | None) -> scan.Series:
    """One series for all draws: a batch axis of length one at the end of everything."""
    y, design, observed = (np.asarray(a)[..., None] for a in (y, design, observed))
    return scan.series(y, design, observed, None if dt is None else np.asarray(dt)[..., None])


def student_tail(dof: Array | None) -> Array:
    """Variance of a Student-t over its squared scale: what is not known of the variance itself."""
    if dof is None:
        return jnp.ones(())
    return jnp.where(dof > 2, dof / (dof - 2), jnp.inf)


@jax.jit
def forward(rows: scan.Series, draws: NoiseDraws) -> Pass:
    """Filter the series under every draw."""
    start, drift, noise = draws.recursion()
    passed = scan.filter(rows, start, drift, noise)
    var, after = passed.obs_var, passed.filtered_obs_var
    forecast_var = passed.var * var * student_tail(passed.dof)
    error, density = passed.error[..., :-1], passed.log_density[..., :-1]

    def mixed(state: State, obs_var: Array) -> Belief:
        return mix(state.mean[..., :-1], (state.cov * obs_var[:, None, None])[..., :-1])

    return Pass(
        predicted=mixed(passed.predicted, var * student_tail(passed.dof)),
        filtered=mixed(passed.filtered, after * student_tail(passed.filtered_dof)),
        spread=error.mean(-1),
        spread_var=forecast_var[..., :-1].mean(-1) + error.var(-1),
        log_density=logsumexp(density, axis=-1) - jnp.log(density.shape[-1]),
        mean=jnp.moveaxis(passed.filtered.mean[-1], -1, 0),
        cov=jnp.moveaxis(passed.filtered.cov[-1], -1, 0),
        obs_var=after[-1],
        dof=None if passed.filtered_dof is None else passed.filtered_dof[-1],
    )


@jax.jit
def backward(rows: scan.Series, draws: NoiseDraws) -> Belief:
    """Smooth the series under every draw.

    A flat start is narrowed to 1e6 times the noise: it says as little, and what is left of it in the
    first row is a difference of numbers as large as its square.
    """
    start, drift, noise = draws.recursion()
    widest = jnp.abs(start.cov).max((0, 1))
    width = jnp.where(widest > 1e8, widest / 1e6, 1)
    passed = scan.filter(rows, State(start.mean, start.cov / width), drift, noise)
    state, var = scan.smooth(rows, passed, noise)
    last = None if passed.filtered_dof is None else passed.filtered_dof[-1]
    return mix(state.mean, state.cov * (var * student_tail(last))[:, None, None])


@jax.jit
def log_likelihood(rows: scan.Series, draws: NoiseDraws) -> Array:
    """Log likelihood under every draw, shape (draw,)."""
    return likelihood.log_likelihood(rows, *draws.recursion())


@jax.jit
def last_states(rows: scan.Series, draws: NoiseDraws) -> tuple[Array, Array]:
    """After the last row: mean and sd of the coefficients under every draw, (draw, coef) each."""
    state, obs_var = scan.final(rows, *draws.recursion())
    var = jnp.diagonal(state.cov, axis1=0, axis2=1) * obs_var[:, None]
    return state.mean.T, jnp.sqrt(var)


@jax.jit
def last_variances(rows: scan.Series, draws: NoiseDraws) -> tuple[Array, Array]:
    """After the last row: observation variance (draw,) and state variance per bar (draw, coef)."""
    start, drift, noise = draws.recursion()
    state, obs_var = scan.final(rows, start, drift, noise)
    if draws.q is not None:
        return obs_var, draws.q * obs_var[:, None]
    assert draws.state_discount is not None
    added = jnp.diagonal(state.cov, axis1=0, axis2=1) * draws.moving
    return obs_var, added * ((1 / draws.state_discount - 1) * obs_var)[:, None]
