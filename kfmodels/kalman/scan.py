"""Filter, smoother and path sampler: `lax.scan` over `kalman.step`.

Time comes first, then coefficients, then batch axes: `y (T, *b)`, `design (T, n, *b)`,
`observed (T, *b)`, `dt (T, *b)`. `dt[0]` is the time between the start and the first row: 0 by
default, for `start` is the distribution of the coefficients just before the first observation. The
coefficients move over `dt + extra`, with `extra (T, *b)`, or `(T, n, *b)` where each coefficient has a
time of its own, and the evidence on the variance fades over `dt` alone;
`noise (T, *b)` is a factor on the observation variance of a row. `extra` and `noise` may be None, which
costs nothing. Densities are summed over time only, so a batch gives one log likelihood per member.

One file: filter, smoother and sampler share the carry of the scan and its conventions.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from kfmodels._types import ArrayLike, Bool, Float, Int, Shaped
from kfmodels._types import JaxArray as Array
from kfmodels.kalman import motion
from kfmodels.kalman.density import log_normal, log_student, student_variance
from kfmodels.kalman.logarithm import fast_log
from kfmodels.kalman.motion import Motion
from kfmodels.kalman.noise import (
    Carried,
    ConstantVariance,
    Noise,
    meet,
    scale_of,
    state_dof,
    variance_of,
)
from kfmodels.kalman.step import (
    Forecast,
    State,
    forecast,
    predict,
    step,
    transport,
    transport_cov,
    transposed,
    update,
)


class Series(NamedTuple):
    """What the recursion reads at each row."""

    y: Float[Array, "time *batch"]
    design: Float[Array, "time coef *#batch"]
    observed: Float[Array, "time *#batch"]
    dt: Float[Array, "time *#batch"] | float | None
    """None stands for 0, then 1; only `likelihood` reads it without writing it out."""

    extra: Float[Array, "time *#batch"] | Float[Array, "time coef *#batch"] | None = None
    noise: Float[Array, "time *#batch"] | None = None
    count: Int[Array, "*#batch"] | None = None
    """Rows that `likelihood` reads; those after are not observed. None stands for all."""

    @property
    def open_time(self) -> motion.Array:
        """`dt`, which `timed` has written out."""
        assert self.dt is not None
        return self.dt

    def drifting(self) -> motion.Array:
        """The time in which the coefficients move, `dt` and `extra` together; of a single row."""
        return self.open_time if self.extra is None else self.open_time + self.extra

    def relative(self, ordinary: motion.Array) -> motion.Array:
        """Observation variance of the row over the unit, given that of an ordinary one."""
        return ordinary if self.noise is None else self.noise * ordinary


class Filtered(NamedTuple):
    """All rows of a forward pass, covariances relative.

    `predicted.cov` and `var` are relative to `unit`, `filtered.cov` to `filtered_unit`; `relative` is
    the observation variance of an ordinary row over the unit, before the row was seen. `scale` and
    `dof` are those of the density of the innovation, `state_dof` and `filtered_dof` those of the
    coefficients, and `after` is the observation variance once the row was seen.
    """

    predicted: State
    filtered: State
    error: Float[Array, "time *batch"]
    var: Float[Array, "time *batch"]
    unit: Float[Array, "time *batch"]
    relative: Float[Array, "time *batch"]
    scale: Float[Array, "time *batch"]
    dof: Float[Array, "time *batch"] | None
    state_dof: Float[Array, "time *batch"] | None
    filtered_unit: Float[Array, "time *batch"]
    filtered_dof: Float[Array, "time *batch"] | None
    after: Float[Array, "time *batch"]
    log_density: Float[Array, "time *batch"]
    carried: Carried
    """What the noise carries after the last row."""


def series(
    y: Shaped[ArrayLike, "_ *#batch"],
    design: Shaped[ArrayLike, "_ coef *#batch"],
    observed: Shaped[ArrayLike, "_ *#batch"] | None = None,
    dt: Shaped[ArrayLike, "_ *#batch"] | None = None,
    extra: Shaped[ArrayLike, "_ *#batch"] | Shaped[ArrayLike, "_ coef *#batch"] | None = None,
    noise: Shaped[ArrayLike, "_ *#batch"] | None = None,
    count: Int[ArrayLike, "*#batch"] | None = None,
) -> Series:
    """Complete a series: everything observed, one unit of time between rows.

    All arrays have the same number of batch axes (length 1 broadcasts).
    """
    y, design = jnp.asarray(y), jnp.asarray(design)
    if len(y) != len(design):  # a single row would broadcast over all
        raise ValueError(f"the series has {len(y)} rows, its design {len(design)}")
    dtype = jnp.result_type(y, design, float)
    plain = y.shape[:1] + (1,) * (y.ndim - 1)
    seen = jnp.ones(plain, bool) if observed is None else jnp.asarray(observed, bool)
    if count is not None:
        seen = seen & _counted(len(y), jnp.asarray(count))
    # 0 for what is missing, so that no NaN reaches the state or a gradient; where the regressors of an
    # unobserved row are known they stay, and the row is forecast from them
    return Series(
        y=jnp.where(seen, y, 0).astype(dtype),
        design=jnp.where(jnp.expand_dims(seen, 1) | jnp.isfinite(design), design, 0).astype(dtype),
        observed=seen.astype(dtype),
        dt=None if dt is None else jnp.asarray(dt, dtype),
        extra=None if extra is None else jnp.asarray(extra, dtype),
        noise=None if noise is None else jnp.asarray(noise, dtype),
        count=None if count is None else jnp.asarray(count),
    )


def timed(rows: Series) -> Series:
    """The series with its times written out; after the rows that count no time passes."""
    dt = jnp.ones_like(rows.observed).at[0].set(0) if rows.dt is None else rows.dt
    if rows.count is not None:
        dt = jnp.where(_counted(len(rows.y), rows.count), dt, 0)
    return rows._replace(dt=dt, count=None)


def _counted(time: int, count: Array) -> Bool[Array, "time *batch"]:
    """Whether a row is among those that count."""
    return jnp.arange(time).reshape(-1, *(1,) * count.ndim) < count


def advance(
    state: State, carried: Carried, row: Series, drift: Motion, noise: Noise
) -> tuple[State, State, Forecast, Carried, Carried]:
    """One row: predicted and filtered state, forecast, and what the noise carries before and after."""
    faded = noise.fade(carried, row.open_time)
    relative = row.relative(noise.relative(faded))
    predicted, state, seen = step(
        state, row.design, row.y, drift, row.observed, row.drifting(), relative
    )
    met = meet(noise, faded, row.design, relative)
    return predicted, state, seen, met, noise.learn(met, seen, row.observed)


def begin(rows: Series, start: State, drift: Motion, noise: Noise) -> tuple[State, Carried]:
    """State and what is carried before the first row, in the full batch shape."""
    # the carry of a scan may not change its shape, and only a law or a noise knows which of its arrays
    # have batch axes: run the first row on shapes alone, and see which come out

    def once(rows: Series, start: State, drift: Motion, noise: Noise):
        row = jax.tree.map(lambda leaf: leaf[0], timed(rows))
        _, state, seen, met, carried = advance(start, noise.start(), row, drift, noise)
        scaled = scale_of(noise, met, seen)
        return state.mean[0], state.cov[0, 0], scaled, carried

    shapes = jax.eval_shape(once, rows, start, drift, noise)
    batch = jnp.broadcast_shapes(*(leaf.shape for leaf in jax.tree.leaves(shapes)))
    dtype = jnp.result_type(*jax.tree.leaves((timed(rows), start, drift, noise)))
    n = start.mean.shape[0]
    state = State(
        jnp.broadcast_to(start.mean, (n, *batch)).astype(dtype),
        jnp.broadcast_to(start.cov, (n, n, *batch)).astype(dtype),
    )
    carried = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, batch).astype(dtype), noise.start())
    return state, carried


def log_density(
    error: Float[Array, "*#batch"],
    var: Float[Array, "*#batch"],
    dof: Float[Array, "*#batch"] | None,
) -> Float[Array, "*batch"]:
    """Log density of an innovation with squared scale `var`, normal where `dof` is None."""
    if dof is None:
        return log_normal(error, var, fast_log)
    return log_student(error, var, dof, fast_log)


def final(rows: Series, start: State, drift: Motion, noise: Noise) -> tuple[State, Carried]:
    """State after the last row and what the noise carries there; no other row is stored."""

    def body(carry: tuple[State, Carried], row: Series):
        _, state, _, _, carried = advance(*carry, row, drift, noise)
        return (state, carried), None

    ended, _ = lax.scan(body, begin(rows, start, drift, noise), timed(rows))
    return ended


class Last(NamedTuple):
    """The innovation of the last observed row, its squared scale, and its degrees of freedom."""

    error: Float[Array, "*batch"]
    var: Float[Array, "*batch"]
    dof: Float[Array, "*batch"] | None


class Ended(NamedTuple):
    """Where a pass ends: the state, what the noise carries, and the last innovation observed.

    `errors (T, *b)` are all innovations, and `least` is the smallest observation variance after any
    row.
    """

    state: State
    carried: Carried
    last: Last
    least: Float[Array, "*batch"]
    errors: Float[Array, "time *batch"]


def ending(rows: Series, start: State, drift: Motion, noise: Noise) -> Ended:
    """A pass that keeps little more than its end."""
    first = begin(rows, start, drift, noise)
    blank = jnp.zeros(first[0].mean.shape[1:], first[0].mean.dtype)
    last = Last(blank, blank + 1, None if noise.dof(first[1]) is None else blank + 3)

    def body(carry: tuple[State, Carried, Last, Float[Array, "*batch"]], row: Series):
        state, carried, last, least = carry
        _, state, seen, met, carried = advance(state, carried, row, drift, noise)
        new = Last(seen.error, scale_of(noise, met, seen), noise.dof(met))
        last = jax.tree.map(lambda now, was: jnp.where(row.observed > 0, now, was), new, last)
        least = jnp.minimum(least, variance_of(noise, carried))
        return (state, carried, last, least), seen.error

    (state, carried, last, least), errors = lax.scan(
        body, (*first, last, blank + jnp.inf), timed(rows)
    )
    return Ended(state, carried, last, least, errors)


def filter(rows: Series, start: State, drift: Motion, noise: Noise) -> Filtered:
    """Predicted and filtered coefficients, innovations and their log density at every row."""
    rows = timed(rows)

    def body(carry: tuple[State, Carried], row: Series):
        predicted, state, seen, met, carried = advance(*carry, row, drift, noise)
        scale = scale_of(noise, met, seen)
        return (state, carried), (predicted, state, seen, scale, met, carried)

    ended, (predicted, filtered, seen, scale, before, after) = lax.scan(
        body, begin(rows, start, drift, noise), rows
    )

    def at_each[Fact](fact: Callable[[Carried], Fact], carried: Carried) -> Fact:
        """A fact of the noise at every row; the same at all where nothing is carried."""

        def at_one(carried: Carried) -> Fact:
            return full(fact(carried), seen.error.shape[1:])

        if jax.tree.leaves(carried):
            return jax.vmap(at_one)(carried)
        return full(at_one(carried), seen.error.shape)

    def full[Fact](found: Fact, shape: tuple[int, ...]) -> Fact:
        """Broadcast to that shape; None stays None."""
        as_row = partial(jnp.broadcast_to, shape=shape)
        return jax.tree.map(lambda leaf: as_row(leaf).astype(seen.error.dtype), found)

    unit, dof = at_each(noise.unit, before), at_each(noise.dof, before)
    density = log_density(seen.error, scale, dof)
    return Filtered(
        predicted=predicted,
        filtered=filtered,
        error=seen.error,
        var=seen.var,
        unit=unit,
        relative=at_each(noise.relative, before),
        scale=scale,
        dof=dof,
        state_dof=at_each(partial(state_dof, noise), before),
        filtered_unit=at_each(noise.unit, after),
        filtered_dof=at_each(partial(state_dof, noise), after),
        after=at_each(partial(variance_of, noise), after),
        log_density=jnp.where(rows.observed > 0, density, 0),
        carried=ended[1],
    )


def smooth(
    rows: Series, passed: Filtered, drift: Motion, noise: Noise
) -> tuple[State, Float[Array, "time *batch"]]:
    """Coefficients given all rows, and the unit of their covariances given all rows.

    Durbin, J. and Koopman, S. J. (2012), Time Series Analysis by State Space Methods, 2nd ed.,
    section 4.4: the backward recursion that needs no inverse.
    """

    def body(
        carry: tuple[Float[Array, "coef *batch"], Float[Array, "coef coef *batch"]],
        at: tuple[State, State, Float[Array, "*batch"], Float[Array, "*batch"], Series],
    ):
        r, info = carry  # what the later rows say: r_t and N_t of the source
        predicted, filtered, error, var, row = at
        mean = filtered.mean + (filtered.cov * r).sum(1)
        spread = (filtered.cov[:, :, None] * info[None]).sum(1)
        cov = filtered.cov - (spread[:, :, None] * filtered.cov[None]).sum(1)
        design, weight = row.design, row.observed / var
        gain = (predicted.cov * design).sum(1) * weight
        r = r + design * (error * weight - (gain * r).sum(0))
        # (I - K h')' N (I - K h') + h h' / F, without a product of matrices
        u = (info * gain).sum(1)
        cross = design[:, None] * u
        outer = design[:, None] * design
        info = info - cross - cross.swapaxes(0, 1) + outer * (weight + (gain * u).sum(0))
        transition = drift.transition(row.drifting())
        if transition is not None:
            back = transposed(transition, error.ndim)
            r, info = transport(back, r), transport_cov(back, info)
        return (r, info), State(mean, cov)

    rows = timed(rows)
    zero = jnp.zeros_like(passed.filtered.mean[0]), jnp.zeros_like(passed.filtered.cov[0])
    steps = passed.predicted, passed.filtered, passed.error, passed.var, rows
    _, state = lax.scan(body, zero, steps, reverse=True)
    return state, _smooth_unit(rows, passed, noise)


def _smooth_unit(rows: Series, passed: Filtered, noise: Noise) -> Float[Array, "time *batch"]:
    """`1/v_t = (1 - kept) / v_t|t + kept / v_t+1`: West and Harrison (1997), section 10.8."""
    precision = 1 / passed.filtered_unit
    dt = jnp.asarray(rows.open_time)
    kept = jax.vmap(noise.keep)(jnp.concatenate([dt[1:], jnp.zeros_like(dt[:1])]))
    if kept is None:
        return passed.filtered_unit

    def body(
        later: Float[Array, "*batch"], at: tuple[Float[Array, "*batch"], Float[Array, "*batch"]]
    ):
        here, kept = at
        now = (1 - kept) * here + kept * later
        return now, now

    kept = jnp.broadcast_to(kept, precision.shape)
    _, smoothed = lax.scan(body, precision[-1], (precision, kept), reverse=True)
    return 1 / smoothed


def sample(
    key: Array, rows: Series, start: State, drift: Motion, noise: Noise
) -> Float[Array, "time *batch"]:
    """Draw `y (T, *b)` row by row from its one-step forecasts, which is a draw of the whole.

    A row that is not observed gets a draw that the later rows do not see.
    """
    rows = timed(rows)

    def body(carry: tuple[State, Carried], at: tuple[Series, Array]):
        state, carried = carry
        row, key = at
        predicted, met, blank = _ahead(state, carried, row, drift, noise)
        dof, shape = noise.dof(met), (blank.var.shape, blank.var.dtype)
        error = (
            jax.random.normal(key, *shape) if dof is None else jax.random.t(key, dof, *shape)
        ) * jnp.sqrt(scale_of(noise, met, blank))
        seen = Forecast(error, blank.var, blank.leverage)
        state = update(predicted, seen, row.observed)
        return (state, noise.learn(met, seen, row.observed)), error - blank.error

    keys = jax.random.split(key, rows.y.shape[0])
    _, y = lax.scan(body, begin(rows, start, drift, noise), (rows, keys))
    return y


def _ahead(
    state: State, carried: Carried, row: Series, drift: Motion, noise: Noise
) -> tuple[State, Carried, Forecast]:
    """Predicted state, what the noise carries, and the forecast, for an innovation as if `y` were 0."""
    faded = noise.fade(carried, row.open_time)
    predicted = predict(state, drift, row.drifting())
    relative = row.relative(noise.relative(faded))
    met = meet(noise, faded, row.design, relative)
    return predicted, met, forecast(predicted, row.design, jnp.zeros_like(row.y), relative)


def moments(
    rows: Series, start: State, drift: Motion, noise: Noise
) -> tuple[Float[Array, "time *batch"], Float[Array, "time *batch"]]:
    """Marginal mean and variance of every `y`, each (T, *b).

    Exact for every law of motion and every noise whose unit is linear in the squared innovations; where
    the unit is fixed and the observation variance moves in it, near enough. The variance is infinite
    from the first observed row on whose Student-t forecast has 2 degrees of freedom or fewer.
    """
    rows = timed(rows)
    first = begin(rows, start, drift, noise)

    def body(
        carry: tuple[State, Carried, Float[Array, "coef coef *batch"], Bool[Array, "*batch"]],
        row: Series,
    ):
        state, carried, known, lost = carry
        predicted, met, blank = _ahead(state, carried, row, drift, noise)
        transition, dof = drift.transition(row.drifting()), noise.dof(met)
        if transition is not None:
            known = transport_cov(transition, known)
        square, endless = scale_of(noise, met, blank), lost
        if dof is not None:
            # kept finite in the sums, where infinity times a gain of 0 would be NaN
            square = square * jnp.where(dof > 2, student_variance(dof, jnp), 1)
            endless = lost | (dof <= 2)
        variance = ((known * row.design).sum(1) * row.design).sum(0) + square
        variance = jnp.where(endless, jnp.inf, variance)
        lost = lost | (endless & (row.observed > 0))
        # the filtered mean is a sum of uncorrelated innovations: Var m_t = G Var m_t-1 G + K K' E[e^2]
        gain = blank.gain * row.observed
        known = known + gain[:, None] * gain * square
        # an innovation whose square is the expected one teaches the noise its expected unit
        typical = Forecast(jnp.sqrt(square), blank.var, blank.leverage)
        state = State(predicted.mean, update(predicted, typical, row.observed).cov)
        carried = noise.learn(met, typical, row.observed)
        return (state, carried, known, lost), (-blank.error, variance)

    known = jnp.zeros_like(first[0].cov)
    _, (mean, variance) = lax.scan(body, (*first, known, jnp.zeros(known.shape[2:], bool)), rows)
    return mean, variance


def sample_path(
    key: Array, rows: Series, start: State, drift: Motion, noise: Noise
) -> Float[Array, "time coef *batch"]:
    """Draw the coefficients of all rows given all rows, shape (T, n, *b).

    Mean corrections of Durbin and Koopman (2012), section 4.9: a path and its series are drawn from
    the model and the smoothed mean of the difference is added. Exact for a variance that is known; for
    one that is learnt the deviations are scaled by the variance seen from the end.
    """
    rows = timed(rows)
    passed = filter(rows, start, drift, noise)
    smoothed, unit = smooth(rows, passed, drift, noise)
    key_state, key_noise = jax.random.split(key)
    shocks = jax.random.normal(key_state, passed.filtered.mean.shape, passed.error.dtype)
    drawn = _drawn_path(shocks, rows, passed, drift)
    relative = rows.relative(passed.relative)
    shocks = jax.random.normal(key_noise, passed.error.shape, passed.error.dtype)
    drawn_y = (rows.design * drawn).sum(1) + shocks * jnp.sqrt(relative)
    drawn_rows = rows._replace(y=drawn_y, noise=relative)
    centre = State(jnp.zeros_like(start.mean), start.cov)
    one = ConstantVariance(jnp.ones_like(passed.error[0]))
    learnt, _ = smooth(drawn_rows, filter(drawn_rows, centre, drift, one), drift, one)
    return smoothed.mean + (drawn - learnt.mean) * jnp.sqrt(unit)[:, None]


def _drawn_path(
    shocks: Float[Array, "time coef *batch"], rows: Series, passed: Filtered, drift: Motion
) -> Float[Array, "time coef *batch"]:
    """A path of the coefficients from a centred start, (T, n, *b), in relative units."""
    # the state noise of each row is what prediction added to the covariance; that of row 0 is the start
    kept = passed.filtered.cov[:-1]
    transitions = jax.vmap(lambda row: drift.transition(row.drifting()))(rows)
    if transitions is not None:
        kept = jax.vmap(transport_cov)(transitions[1:], kept)
    added = passed.predicted.cov.at[1:].add(-kept)
    moves = (_square_root(added) * jnp.expand_dims(shocks, 1)).sum(2)
    if transitions is None:
        return moves.cumsum(0)

    def body(
        place: Float[Array, "coef *batch"],
        at: tuple[Float[Array, "..."], Float[Array, "coef *batch"]],
    ):
        transition, move = at
        return (place := transport(transition, place) + move), place

    _, path = lax.scan(body, jnp.zeros_like(moves[0]), (transitions, moves))
    return path


def _square_root(
    cov: Float[Array, "time coef coef *batch"],
) -> Float[Array, "time coef coef *batch"]:
    """Symmetric square root of (T, n, n, *b) matrices.

    They are singular where a coefficient stands still, which rules out Cholesky factors.
    """
    batch_first = jnp.moveaxis(cov, (1, 2), (-2, -1))
    values, vectors = jnp.linalg.eigh(batch_first)
    # rounding may leave an eigenvalue of 0 just below it
    root = (vectors * jnp.sqrt(jnp.maximum(values, 0))[..., None, :]) @ vectors.mT
    return jnp.moveaxis(root, (-2, -1), (1, 2))
