"""Filter, smoother and path sampler: `lax.scan` over `kalman.step`.

Time comes first, then coefficients, then batch axes: `y (T, *b)`, `design (T, n, *b)`,
`observed (T, *b)`, `dt (T, *b)`. `dt[0]` is the time between the start and the first row: 0 by
default, for `start` is the distribution of the coefficients just before the first observation. Over
`dt + extra (T, *b)` the coefficients move, over `dt` alone a discounted variance fades; `noise (T, *b)`
is the observation variance of a row, relative. Where the last two are None they cost nothing.
Every density is summed over time only, so a batch gives one log likelihood per member.

One file: filter, smoother and sampler share the carry of the scan and its conventions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import gammaln

from kfmodels.kalman.density import log_normal, log_student
from kfmodels.kalman.motion import Motion, Walk
from kfmodels.kalman.noise import ConstantVariance, Noise, Scale
from kfmodels.kalman.step import Array, Forecast, State, forecast, predict, step, update


class Series(NamedTuple):
    """What the recursion reads at each row."""

    y: Array
    design: Array
    observed: Array
    dt: Array | None
    """None, where only `likelihood` reads it: 0, then 1."""

    extra: Array | None = None
    noise: Array | None = None

    def drifting(self, dt: Array) -> Array:
        """The time in which the coefficients move, of which `dt` is open."""
        return dt if self.extra is None else dt + self.extra

    @property
    def relative(self) -> Array:
        """Observation variance of the row over that of an ordinary one."""
        return 1.0 if self.noise is None else self.noise


class Filtered(NamedTuple):
    """All rows of a forward pass; covariances and `var` are relative to `obs_var`."""

    predicted: State
    filtered: State
    error: Array
    var: Array
    obs_var: Array
    dof: Array | None
    filtered_obs_var: Array
    filtered_dof: Array | None
    log_density: Array


def series(
    y: Array,
    design: Array,
    observed: Array | None = None,
    dt: Array | None = None,
    extra: Array | None = None,
    noise: Array | None = None,
) -> Series:
    """Complete a series: everything observed, one unit of time between rows.

    All arrays have the same number of batch axes (length 1 broadcasts). At unobserved rows `y` and
    what is not finite in `design` are replaced by 0, so that a NaN left there reaches neither the
    state nor a gradient; a design that is known is kept, and the row is forecast from it.
    """
    y, design = jnp.asarray(y), jnp.asarray(design)
    if len(y) != len(design):  # or one value would be taken for all rows
        raise ValueError(f"the series has {len(y)} rows, its design {len(design)}")
    dtype = jnp.result_type(y, design, float)
    plain = y.shape[:1] + (1,) * (y.ndim - 1)
    seen = jnp.ones(plain, bool) if observed is None else jnp.asarray(observed, bool)
    return Series(
        y=jnp.where(seen, y, 0).astype(dtype),
        design=jnp.where(jnp.expand_dims(seen, 1) | jnp.isfinite(design), design, 0).astype(dtype),
        observed=seen.astype(dtype),
        dt=None if dt is None else jnp.asarray(dt, dtype),
        extra=None if extra is None else jnp.asarray(extra, dtype),
        noise=None if noise is None else jnp.asarray(noise, dtype),
    )


def timed(rows: Series) -> Series:
    """The same with its times written out."""
    if rows.dt is not None:
        return rows
    return rows._replace(dt=jnp.ones_like(rows.observed).at[0].set(0))


def begin(rows: Series, start: State, drift: Motion, noise: Noise) -> tuple[State, Scale | None]:
    """State and scale before the first row in the full batch shape: a scan carry may not grow."""
    moves = drift.noise.shape[2:] if isinstance(drift, Walk) else jnp.shape(drift.factor)
    batch = jnp.broadcast_shapes(
        rows.y.shape[1:],
        rows.design.shape[2:],
        rows.observed.shape[1:],
        *(a.shape[1:] for a in (rows.dt, rows.extra, rows.noise) if a is not None),
        start.mean.shape[1:],
        start.cov.shape[2:],
        moves,
        *(jnp.shape(leaf) for leaf in noise),
    )
    dtype = jnp.result_type(*jax.tree.leaves((rows, start, drift, noise)))
    n = start.mean.shape[0]
    state = State(
        jnp.broadcast_to(start.mean, (n, *batch)).astype(dtype),
        jnp.broadcast_to(start.cov, (n, n, *batch)).astype(dtype),
    )
    scale = noise.start()
    if scale is not None:
        scale = Scale(*(jnp.broadcast_to(leaf, batch).astype(dtype) for leaf in scale))
    return state, scale


def _log_density(
    seen: Forecast | Filtered, noise: Noise, scale: Scale | None, observed: Array
) -> Array:
    """Log density of each innovation; 0 where nothing was observed."""
    if isinstance(noise, ConstantVariance):
        density = log_normal(seen.error, noise.var * seen.var, jnp.log)
    else:
        assert scale is not None
        density = log_student(seen.error, scale.var * seen.var, scale.dof, jnp.log, gammaln)
    return jnp.where(observed > 0, density, 0)


def _stepped(state: State, row: Series, drift: Motion) -> tuple[State, State, Forecast]:
    time = row.drifting(row.dt)
    return step(state, row.design, row.y, drift, row.observed, time, row.relative)


def final(rows: Series, start: State, drift: Motion, noise: Noise) -> tuple[State, Array]:
    """State after the last row and the observation variance there; keeps nothing on the way."""
    rows = timed(rows)
    first = begin(rows, start, drift, noise)

    def body(carry: tuple[State, Scale | None], row: Series):
        state, scale = carry
        _, state, seen = _stepped(state, row, drift)
        return (state, noise.learn(noise.fade(scale, row.dt), seen, row.observed)), None

    (state, scale), _ = lax.scan(body, first, rows)
    return state, noise.var if scale is None else scale.var


class Last(NamedTuple):
    """The innovation of the last observed row, its variance scale, and the degrees of freedom."""

    error: Array
    var: Array
    dof: Array | None


def ending(
    rows: Series, start: State, drift: Motion, noise: Noise
) -> tuple[State, Scale | None, Last, Array]:
    """State and scale after the last row, the last innovation observed, and all of them (T, *b)."""
    rows = timed(rows)
    first = begin(rows, start, drift, noise)
    blank = jnp.zeros(first[0].mean.shape[1:], first[0].mean.dtype)
    last = Last(blank, blank + 1, None if first[1] is None else blank + 3)

    def body(carry: tuple[State, Scale | None, Last], row: Series):
        state, scale, last = carry
        _, state, seen = _stepped(state, row, drift)
        faded = noise.fade(scale, row.dt)
        var = noise.var if faded is None else faded.var
        new = Last(seen.error, seen.var * var, None if faded is None else faded.dof)
        last = jax.tree.map(lambda now, was: jnp.where(row.observed > 0, now, was), new, last)
        return (state, noise.learn(faded, seen, row.observed), last), seen.error

    (state, scale, last), errors = lax.scan(body, (*first, last), rows)
    return state, scale, last, errors


def filter(rows: Series, start: State, drift: Motion, noise: Noise) -> Filtered:
    """Predicted and filtered coefficients, innovations and their log density at every row."""
    rows = timed(rows)
    first = begin(rows, start, drift, noise)

    def body(carry: tuple[State, Scale | None], row: Series):
        state, scale = carry
        predicted, state, seen = _stepped(state, row, drift)
        faded = noise.fade(scale, row.dt)
        scale = noise.learn(faded, seen, row.observed)
        return (state, scale), (predicted, state, seen, faded, scale)

    _, (predicted, filtered, seen, before, after) = lax.scan(body, first, rows)
    density = _log_density(seen, noise, before, rows.observed)
    if before is None or after is None:  # of a constant variance both are
        var = jnp.broadcast_to(noise.var, seen.error.shape)
        before = after = Scale(None, var)
    return Filtered(
        predicted=predicted,
        filtered=filtered,
        error=seen.error,
        var=seen.var,
        obs_var=before.var,
        dof=before.dof,
        filtered_obs_var=after.var,
        filtered_dof=after.dof,
        log_density=density,
    )


def smooth(rows: Series, passed: Filtered, noise: Noise) -> tuple[State, Array]:
    """Coefficients given all rows, by the backward recursion that needs no inverse.

    Durbin, J. and Koopman, S. J. (2012), Time Series Analysis by State Space Methods, 2nd ed.,
    section 4.4. Also returns the observation variance seen from the end (West and Harrison 1997,
    section 10.8): `1/v_t = (1 - factor) / v_t|t + factor / v_t+1`.
    """

    def body(carry: tuple[Array, Array], at: tuple[State, State, Array, Array, Array, Array]):
        r, info = carry
        predicted, filtered, error, var, design, observed = at
        mean = filtered.mean + (filtered.cov * r).sum(1)
        spread = (filtered.cov[:, :, None] * info[None]).sum(1)
        cov = filtered.cov - (spread[:, :, None] * filtered.cov[None]).sum(1)
        weight = observed / var
        gain = (predicted.cov * design).sum(1) * weight
        r = r + design * (error * weight - (gain * r).sum(0))
        u = (info * gain).sum(1)
        cross = design[:, None] * u
        outer = design[:, None] * design
        info = info - cross - cross.swapaxes(0, 1) + outer * (weight + (gain * u).sum(0))
        return (r, info), State(mean, cov)

    zero = jnp.zeros_like(passed.filtered.mean[0]), jnp.zeros_like(passed.filtered.cov[0])
    steps = (
        passed.predicted,
        passed.filtered,
        passed.error,
        passed.var,
        rows.design,
        rows.observed,
    )
    _, state = lax.scan(body, zero, steps, reverse=True)
    return state, _smooth_variance(rows, passed, noise)


def _smooth_variance(rows: Series, passed: Filtered, noise: Noise) -> Array:
    if isinstance(noise, ConstantVariance):
        return passed.obs_var
    precision = 1 / passed.filtered_obs_var

    def body(later: Array, at: tuple[Array, Array]):
        here, kept = at
        now = (1 - kept) * here + kept * later
        return now, now

    dt: Array = timed(rows).dt
    kept = noise.factor ** jnp.concatenate([dt[1:], jnp.zeros_like(dt[:1])])
    kept = jnp.broadcast_to(kept, precision.shape)
    _, smoothed = lax.scan(body, precision[-1], (precision, kept), reverse=True)
    return 1 / smoothed


def sample(key: Array, rows: Series, start: State, drift: Motion, noise: Noise) -> Array:
    """Draw `y (T, *b)` row by row from its one-step forecasts, which is a draw of the whole.

    A row that is not observed gets a draw that the later rows do not see.
    """
    rows = timed(rows)
    first = begin(rows, start, drift, noise)

    def body(carry: tuple[State, Scale | None], at: tuple[Series, Array]):
        state, scale = carry
        row, key = at
        predicted = predict(state, drift, row.drifting(row.dt))
        blank = forecast(predicted, row.design, jnp.zeros_like(state.mean[0]), row.relative)
        faded = noise.fade(scale, row.dt)
        if faded is None:
            error = jax.random.normal(key, blank.var.shape, blank.var.dtype)
            error = error * jnp.sqrt(noise.var * blank.var)
        else:
            error = jax.random.t(key, faded.dof, blank.var.shape, blank.var.dtype)
            error = error * jnp.sqrt(faded.var * blank.var)
        seen = Forecast(error, blank.var, blank.leverage)
        state = update(predicted, seen, row.observed)
        return (state, noise.learn(faded, seen, row.observed)), error - blank.error

    keys = jax.random.split(key, rows.y.shape[0])
    _, y = lax.scan(body, first, (rows, keys))
    return y


def moments(rows: Series, start: State, drift: Motion, noise: Noise) -> tuple[Array, Array]:
    """Marginal mean and variance of every `y`, each (T, *b).

    The filtered mean is a sum of uncorrelated innovations, `Var m_t = Var m_t-1 + K K' E[e^2]`,
    which holds for every drift and noise. The variance is infinite from the first observed row on
    whose Student-t forecast has 2 degrees of freedom or fewer.
    """
    rows = timed(rows)
    first = begin(rows, start, drift, noise)

    def body(carry: tuple[State, Scale | None, Array, Array], row: Series):
        state, scale, known, lost = carry
        predicted = predict(state, drift, row.drifting(row.dt))
        blank = forecast(predicted, row.design, jnp.zeros_like(state.mean[0]), row.relative)
        faded = noise.fade(scale, row.dt)
        if faded is None:
            square, endless = noise.var * blank.var, lost
        else:
            # kept finite in the sums, where infinity times a gain of 0 would be NaN
            tail = jnp.where(faded.dof > 2, faded.dof / (faded.dof - 2), 1)
            square, endless = faded.var * blank.var * tail, lost | (faded.dof <= 2)
        variance = ((known * row.design).sum(1) * row.design).sum(0) + square
        variance = jnp.where(endless, jnp.inf, variance)
        lost = lost | (endless & (row.observed > 0))
        gain = blank.gain * row.observed
        known = known + gain[:, None] * gain * square
        typical = Forecast(jnp.sqrt(square), blank.var, blank.leverage)
        state = State(predicted.mean, update(predicted, typical, row.observed).cov)
        scale = noise.learn(faded, typical, row.observed)
        return (state, scale, known, lost), (-blank.error, variance)

    known = jnp.zeros_like(first[0].cov)
    _, (mean, variance) = lax.scan(body, (*first, known, jnp.zeros(known.shape[2:], bool)), rows)
    return mean, variance


def sample_path(key: Array, rows: Series, start: State, drift: Motion, noise: Noise) -> Array:
    """Draw the coefficients of all rows given all rows, shape (T, n, *b).

    Mean corrections of Durbin and Koopman (2012), section 4.9: a path and its series are drawn from
    the model and the smoothed mean of the difference is added. Exact for a constant variance; for
    a discounted one the deviations are scaled by the variance seen from the end.
    """
    passed = filter(rows, start, drift, noise)
    smoothed, var = smooth(rows, passed, noise)
    shocks_cov = passed.predicted.cov.at[1:].add(-passed.filtered.cov[:-1])
    key_state, key_noise = jax.random.split(key)
    shocks = jax.random.normal(key_state, passed.filtered.mean.shape, passed.error.dtype)
    drawn = (_square_root(shocks_cov) * jnp.expand_dims(shocks, 1)).sum(2).cumsum(0)
    shocks = jax.random.normal(key_noise, passed.error.shape, passed.error.dtype)
    if rows.noise is not None:
        shocks = shocks * jnp.sqrt(rows.noise)
    drawn_rows = rows._replace(y=(rows.design * drawn).sum(1) + shocks)
    centre = State(jnp.zeros_like(start.mean), start.cov)
    unit = ConstantVariance(jnp.ones_like(passed.error[0]))
    learnt, _ = smooth(drawn_rows, filter(drawn_rows, centre, drift, unit), unit)
    return smoothed.mean + (drawn - learnt.mean) * jnp.sqrt(var)[:, None]


def _square_root(cov: Array) -> Array:
    """Symmetric square root of (T, n, n, *b) matrices that may be singular."""
    batch_first = jnp.moveaxis(cov, (1, 2), (-2, -1))
    values, vectors = jnp.linalg.eigh(batch_first)
    root = (vectors * jnp.sqrt(jnp.maximum(values, 0))[..., None, :]) @ vectors.mT
    return jnp.moveaxis(root, (-2, -1), (1, 2))
