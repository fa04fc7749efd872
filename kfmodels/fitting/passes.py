"""Running the filter under many noise draws at once and mixing what they say."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from kfmodels.kalman import likelihood, scan
from kfmodels.kalman.motion import Discount, Motion, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance, Noise
from kfmodels.kalman.step import State
from kfmodels.model import gaps as closed
from kfmodels.model.memory import LEAST_VARIANCE_MEMORY

Array = Any


class Rows(NamedTuple):
    """One series for all draws, and the closed periods before each of its rows `(time, gap)`."""

    series: scan.Series
    gaps: Array | None = None


class NoiseDraws(NamedTuple):
    """K draws of everything the recursion needs besides the series; covariances are relative.

    `q (draw, coef)` or `state_discount (draw)` with `moving (coef)`; `variance_discount (draw)` and
    `variance_dof (draw)` where the observation variance is learnt; `gap_bars (draw, gap)` and
    `gap_noise (draw, gap)` where closed periods count.
    """

    start_mean: Array
    start_cov: Array
    obs_var: Array
    q: Array | None = None
    state_discount: Array | None = None
    moving: Array | None = None
    variance_discount: Array | None = None
    variance_dof: Array | None = None
    gap_bars: Array | None = None
    gap_noise: Array | None = None

    def over(self, rows: Rows) -> tuple[scan.Series, State, Motion, Noise]:
        """The series as these draws see it, and what `recursion` says."""
        seen = closed.by_row(rows.gaps, gap_bars=self.gap_bars, gap_noise=self.gap_noise)
        time, factor = (jnp.moveaxis(seen[k], 0, -1) if k in seen else None for k in closed.BY_ROW)
        return rows.series._replace(extra=time, noise=factor), *self.recursion()

    def recursion(self) -> tuple[State, Motion, Noise]:
        """The same with batch axes last, as `kalman.step` wants it."""
        start = State(jnp.moveaxis(self.start_mean, 0, -1), jnp.moveaxis(self.start_cov, 0, -1))
        if self.q is not None:
            eye = jnp.eye(self.q.shape[1])[..., None]
            drift = Walk(eye * jnp.moveaxis(self.q, 0, -1))
        else:
            assert self.moving is not None  # it comes with state_discount
            both = self.moving[:, None] * self.moving
            drift = Discount(jnp.asarray(self.state_discount), both[..., None].astype(float))
        if self.variance_discount is None:
            return start, drift, ConstantVariance(jnp.asarray(self.obs_var))
        noise = DiscountedVariance(
            *(jnp.asarray(a) for a in (self.obs_var, self.variance_dof, self.variance_discount))
        )
        return start, drift, noise


def chosen(every: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """The draws a filter runs on: at most `count` that stand for all, and the plug-in as the last."""
    spread, middle = _thinned(every, count), _centre(every)
    return {name: np.concatenate([spread[name], v]) for name, v in middle.items()}


def _thinned(every: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Draws evenly spaced in the order of the first memory."""
    total = len(every["obs_scale"])
    order = np.lexsort((every["obs_scale"], every["q"][:, 0]))
    count = min(count, total)
    evenly = order[((np.arange(count) + 0.5) * total / count).astype(int)]
    return {name: v[evenly] for name, v in every.items()}


def _centre(every: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One draw at the posterior mean of the logarithms of q, obs_scale, variance memory - 4, gaps."""
    with np.errstate(divide="ignore"):
        names = [name for name in ("q", "obs_scale", "gap_bars", "gap_noise") if name in every]
        middle = {name: np.exp(np.log(every[name]).mean(0))[None] for name in names}
        if "variance_memory" in every:
            above = np.log(every["variance_memory"] - LEAST_VARIANCE_MEMORY).mean(0)
            middle["variance_memory"] = LEAST_VARIANCE_MEMORY + np.exp(above)[None]
    return middle


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


def series(
    y: Array, design: Array, observed: Array, dt: Array | None, gaps: Array | None = None
) -> Rows:
    """One series for all draws: a batch axis of length one at the end of everything."""
    y, design, observed = (np.asarray(a)[..., None] for a in (y, design, observed))
    dt = None if dt is None else np.asarray(dt)[..., None]
    return Rows(scan.series(y, design, observed, dt), gaps)


def student_tail(dof: Array | None) -> Array:
    """Variance of a Student-t over its squared scale: what is not known of the variance itself."""
    if dof is None:
        return jnp.ones(())
    return jnp.where(dof > 2, dof / (dof - 2), jnp.inf)


@jax.jit
def forward(rows: Rows, draws: NoiseDraws) -> Pass:
    """Filter the series under every draw."""
    passed = scan.filter(*draws.over(rows))
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
def backward(rows: Rows, draws: NoiseDraws) -> Belief:
    """Smooth the series under every draw.

    A flat start is narrowed to 1e6 times the noise: it says as little, and what is left of it in the
    first row is a difference of numbers as large as its square.
    """
    given, start, drift, noise = draws.over(rows)
    widest = jnp.abs(start.cov).max((0, 1))
    width = jnp.where(widest > 1e8, widest / 1e6, 1)
    passed = scan.filter(given, State(start.mean, start.cov / width), drift, noise)
    state, var = scan.smooth(given, passed, noise)
    last = None if passed.filtered_dof is None else passed.filtered_dof[-1]
    return mix(state.mean, state.cov * (var * student_tail(last))[:, None, None])


@jax.jit
def log_likelihood(rows: Rows, draws: NoiseDraws) -> Array:
    """Log likelihood under every draw, shape (draw,)."""
    return likelihood.log_likelihood(*draws.over(rows))


@jax.jit
def right_variance(rows: Rows, draws: NoiseDraws) -> Array:
    """Observation variance that makes the innovations of each draw as large as it forecast, (draw,)."""
    passed = scan.filter(*draws.over(rows))
    seen = rows.series.observed
    return (seen * passed.error**2 / passed.var).sum(0) / seen.sum(0)


@jax.jit
def last_states(rows: Rows, draws: NoiseDraws) -> tuple[Array, Array]:
    """After the last row: mean and sd of the coefficients under every draw, (draw, coef) each."""
    state, obs_var = scan.final(*draws.over(rows))
    var = jnp.diagonal(state.cov, axis1=0, axis2=1) * obs_var[:, None]
    return state.mean.T, jnp.sqrt(var)


@jax.jit
def last_variances(rows: Rows, draws: NoiseDraws) -> tuple[Array, Array]:
    """After the last row: observation variance (draw,) and state variance per bar (draw, coef)."""
    state, obs_var = scan.final(*draws.over(rows))
    if draws.q is not None:
        return obs_var, draws.q * obs_var[:, None]
    assert draws.state_discount is not None
    added = jnp.diagonal(state.cov, axis1=0, axis2=1) * draws.moving
    return obs_var, added * ((1 / draws.state_discount - 1) * obs_var)[:, None]
