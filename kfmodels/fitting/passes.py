"""Passes of the filter under many noise draws at once, and the mixture of their results.

The draws are the one batch axis of a `KalmanRegression` over one series.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from kfmodels._types import Array, Float
from kfmodels.kalman import scan
from kfmodels.kalman.density import student_variance
from kfmodels.kalman.noise import Carried
from kfmodels.kalman.regression import KalmanRegression
from kfmodels.kalman.step import State
from kfmodels.model.assumptions import Drift


class Belief(NamedTuple):
    """Mixture mean, total covariance, and covariance given the noise, at every row."""

    mean: Float[Array, "time coef"]
    cov: Float[Array, "time coef coef"]
    cov_given_noise: Float[Array, "time coef coef"]

    def first(self, rows: int) -> "Belief":
        """The same of the first rows."""
        return Belief(*(leaf[:rows] for leaf in self))


class Pass(NamedTuple):
    """A forward pass of all draws: the mixture of all but the last, and the final state of each.

    The last draw is the plug-in, which is not part of the mixture.
    """

    predicted: Belief
    filtered: Belief
    spread: Float[Array, "time"]
    spread_var: Float[Array, "time"]
    log_density: Float[Array, "time"]
    mean: Float[Array, "draw coef"]
    cov: Float[Array, "draw coef coef"]
    unit: Float[Array, "draw"]
    dof: Float[Array, "draw"] | None
    carried: Carried
    least: Float[Array, "draw"]
    """Smallest observation variance that each draw had after a row."""

    def first(self, rows: int) -> "Pass":
        """The same of the first rows, after which nothing was observed."""
        by_row = ("spread", "spread_var", "log_density")
        return self._replace(
            predicted=self.predicted.first(rows),
            filtered=self.filtered.first(rows),
            **{name: getattr(self, name)[:rows] for name in by_row},
        )


def mix(mean: Float[Array, "time coef draw"], cov: Float[Array, "time coef coef draw"]) -> Belief:
    """Moments of an equal mixture over the last axis: `mean (T, n, K)`, `cov (T, n, n, K)`."""
    # law of total variance: the mean of the covariances and the covariance of the means
    centre = mean.mean(-1)
    away = mean - centre[..., None]
    given = cov.mean(-1)
    return Belief(centre, given + (away[:, :, None] * away[:, None]).mean(-1), given)


@jax.jit
def forward(law: KalmanRegression, y: Float[Array, "time"]) -> Pass:
    """Filter the series under every draw."""
    passed = scan.filter(*law.recursion(y))
    unit, after = passed.unit, passed.filtered_unit
    forecast_var = passed.scale * student_variance(passed.dof, jnp)
    error, density = passed.error[..., :-1], passed.log_density[..., :-1]

    def mixed(state: State, var: Float[Array, "time draw"]) -> Belief:
        return mix(state.mean[..., :-1], (state.cov * var[:, None, None])[..., :-1])

    return Pass(
        predicted=mixed(passed.predicted, unit * student_variance(passed.state_dof, jnp)),
        filtered=mixed(passed.filtered, after * student_variance(passed.filtered_dof, jnp)),
        spread=error.mean(-1),
        spread_var=forecast_var[..., :-1].mean(-1) + error.var(-1),
        log_density=logsumexp(density, axis=-1) - jnp.log(density.shape[-1]),
        mean=jnp.moveaxis(passed.filtered.mean[-1], -1, 0),
        cov=jnp.moveaxis(passed.filtered.cov[-1], -1, 0),
        unit=after[-1],
        dof=None if passed.filtered_dof is None else passed.filtered_dof[-1],
        carried=passed.carried,
        least=passed.after.min(0),
    )


@jax.jit
def backward(law: KalmanRegression, y: Float[Array, "time"]) -> Belief:
    """Smooth the series under every draw."""
    rows, start, drift, noise = law.recursion(y)
    # a flat start is narrowed to 1e6 times the noise, which is as vague: the smoothed covariance of
    # the first row is a difference of numbers as large as the square of the start's
    widest = jnp.abs(start.cov).max((0, 1))
    width = jnp.where(widest > 1e8, widest / 1e6, 1)
    passed = scan.filter(rows, State(start.mean, start.cov / width), drift, noise)
    state, unit = scan.smooth(rows, passed, drift, noise)
    last = None if passed.filtered_dof is None else passed.filtered_dof[-1]
    return mix(state.mean, state.cov * (unit * student_variance(last, jnp))[:, None, None])


@jax.jit
def log_likelihood(law: KalmanRegression, y: Float[Array, "time"]) -> Float[Array, "draw"]:
    """Log likelihood under every draw, shape (draw,)."""
    return law.log_prob(y)


@jax.jit
def log_densities(law: KalmanRegression, y: Float[Array, "time"]) -> Float[Array, "time draw"]:
    """Log density of every row given those before, (time, draw)."""
    return scan.filter(*law.recursion(y)).log_density


@jax.jit
def right_variance(law: KalmanRegression, y: Float[Array, "time"]) -> Float[Array, "draw"]:
    """Observation variance under which each draw's innovations are as large as forecast, (draw,)."""
    rows, start, drift, noise = law.recursion(y)
    passed = scan.filter(rows, start, drift, noise)
    return (rows.observed * passed.error**2 / passed.var).sum(0) / rows.observed.sum(0)


@jax.jit
def end(
    law: KalmanRegression, y: Float[Array, "time"]
) -> tuple[State, Carried, Float[Array, "draw"]]:
    """Where every draw ends, batch axis last: state, what its noise carries, its smallest variance."""
    ended = scan.ending(*law.recursion(y))
    return ended.state, ended.carried, ended.least


@jax.jit
def last_states(
    law: KalmanRegression, y: Float[Array, "time"]
) -> tuple[Float[Array, "draw state"], Float[Array, "draw state state"]]:
    """After the last row: mean and covariance of the states under every draw."""
    rows, start, drift, noise = law.recursion(y)
    state, carried = scan.final(rows, start, drift, noise)
    return state.mean.T, jnp.moveaxis(state.cov * noise.unit(carried), -1, 0)


@partial(jax.jit, static_argnames=("assumed",))
def last_variances(
    law: KalmanRegression, y: Float[Array, "time"], *, assumed: Drift
) -> tuple[Float[Array, "draw"], Float[Array, "draw state"]]:
    """After the last row: observation variance (draw,) and state variance per bar (draw, state)."""
    rows, start, drift, noise = law.recursion(y)
    state, carried = scan.final(rows, start, drift, noise)
    unit = noise.unit(carried)
    return unit * noise.relative(carried), (assumed.added(drift, state.cov) * unit).T
