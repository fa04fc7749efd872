"""A law of motion and noises that the package does not know go through every pass of the recursion."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from kfmodels.kalman import scan
from kfmodels.kalman.noise import DiscountedVariance, Scale
from kfmodels.kalman.regression import KalmanRegression
from kfmodels.kalman.step import step
from tests import reference
from tests.closeness import gaussian_moments, scaled_close
from tests.reference import Case, random_case

pytestmark = pytest.mark.usefixtures("x64")

TIME, MEMBERS, DRAWS = 8, 2, 20_000


class Reverting(NamedTuple):
    """Coefficients that are pulled towards 0 by a factor per unit of time."""

    factor: jax.Array
    noise: jax.Array

    coef_axes = (1, 2)

    def transition(self, dt):
        return self.factor**dt

    def widen(self, cov, dt):
        return cov + self.noise * dt


class Elapsed(NamedTuple):
    time: jax.Array


class Seasonal(NamedTuple):
    """Observation variance at a level known for every time, state noise in the unit `var`."""

    var: jax.Array
    size: jax.Array

    def start(self):
        return Elapsed(0 * self.var)

    def keep(self, dt):
        return None

    def fade(self, carried, dt):
        return Elapsed(carried.time + dt)

    def unit(self, carried):
        return self.var

    def relative(self, carried):
        return 1 + self.size * carried.time % 3

    def dof(self, carried):
        return None

    def learn(self, carried, forecast, observed):
        return carried


class Anchored(NamedTuple):
    """A variance that is learnt while the state noise stays what it is in squared units of y."""

    var: jax.Array
    weight: jax.Array
    factor: jax.Array

    def start(self):
        return Scale(self.weight, self.var)

    def keep(self, dt):
        return self.factor**dt

    def fade(self, carried, dt):
        return DiscountedVariance(*self).fade(carried, dt)

    def unit(self, carried):
        return self.var

    def relative(self, carried):
        return carried.var / self.var

    def dof(self, carried):
        return carried.dof

    def learn(self, carried, forecast, observed):
        dof = carried.dof + observed
        square = forecast.error**2 / (self.var * forecast.var)
        return Scale(dof, carried.var * (1 + observed * (square - 1) / dof))


def cases(time: int = TIME) -> tuple[list[np.ndarray], list[Case], np.ndarray]:
    """Series and models on odd scales with gaps, and the pull on their coefficients (member, n)."""
    made = [random_case(50 + i, 2, "state_var", time=time) for i in range(MEMBERS)]
    pull = np.array([[0.7, 0.95], [0.9, 1.0]])
    return [y for y, _ in made], [case for _, case in made], pull


def posed(noise_of, time: int = TIME) -> tuple[KalmanRegression, np.ndarray]:
    """The models as one batch; `noise_of` makes their noise of obs_var."""
    ys, made, pull = cases(time)
    part = {name: np.stack([case[name] for case in made]) for name in made[0]}
    var = part["obs_var"]
    drift = Reverting(pull, part["state_var"][..., None] * np.eye(2) / var[:, None, None])
    names = ("design", "initial_mean", "initial_cov")
    rows = {name: part[name] for name in ("observed", "dt")}
    start = (part[name] for name in names)
    return KalmanRegression(*start, drift, noise_of(var), **rows), np.stack(ys)


def seasonal(time: int = TIME) -> tuple[KalmanRegression, np.ndarray, list[reference.Dense]]:
    """With a known noise, and the joint Gaussian of every member."""
    sizes = np.array([2.0, 0.3])
    model, ys = posed(lambda var: Seasonal(var, sizes), time)
    dense = []
    for case, pull, size in zip(*cases(time)[1:], sizes, strict=True):
        case = case | {"obs_factor": 1 + size * np.cumsum(case["dt"]) % 3}
        increment = case["dt"][:, None, None] * np.diag(case["state_var"])
        dense.append(reference.dense(case, increment, pull ** case["dt"][:, None]))
    return model, ys, dense


run = {name: jax.jit(getattr(KalmanRegression, name)) for name in ("log_prob", "filter", "smooth")}


def test_a_known_noise_and_a_pull_are_the_dense_gaussian():
    model, ys, dense = seasonal()
    score, passed, smoothed = (run[name](model, ys) for name in run)
    mean, variance = jax.jit(lambda m: (m.mean, m.variance))(model)
    scaled_close(score, passed.log_density.sum(-1), 1e-12)
    assert passed.dof is None
    for i, joint in enumerate(dense):
        scaled_close(score[i], joint.log_prob(ys[i]), 1e-8)
        path, cov = joint.given(ys[i])
        scaled_close(smoothed.mean[i], path, 1e-8)
        scaled_close(smoothed.cov[i], np.einsum("titj->tij", cov), 1e-8)
        scaled_close(passed.filtered.mean[i, -1], path[-1], 1e-8)
        seen = joint.seen
        scaled_close(mean[i][seen], joint.mean[seen], 1e-8)
        scaled_close(variance[i][seen], np.diag(joint.cov)[seen], 1e-8)
        level = 1 + model.noise.size[i] * np.cumsum(model.dt[i]) % 3
        scaled_close(passed.obs_var[i], model.noise.var[i] * level, 1e-8)


def test_draws_of_series_and_paths_have_the_moments_of_the_dense_gaussian():
    model, ys, dense = seasonal(time=4)
    keys = jax.random.split(jax.random.key(0), DRAWS)
    series = np.asarray(jax.jit(lambda m: m.sample(keys[0], (DRAWS,)))(model))
    paths = np.asarray(jax.jit(jax.vmap(lambda key: model.sample_path(key, ys)))(keys))
    for i, joint in enumerate(dense):
        seen = np.flatnonzero(joint.seen)
        gaussian_moments(series[:, i, seen], joint.mean[seen], joint.cov[np.ix_(seen, seen)])
        mean, cov = joint.given(ys[i])
        gaussian_moments(paths[:, i].reshape(DRAWS, -1), mean.ravel(), cov.reshape(8, 8))


def test_the_passes_that_keep_less_end_where_the_filter_does():
    model, ys, _ = seasonal()
    rows, start, drift, noise = model.recursion(jnp.asarray(ys))
    passed = scan.filter(rows, start, drift, noise)
    for state, carried, *_ in (
        scan.final(rows, start, drift, noise),
        scan.ending(rows, start, drift, noise),
    ):
        scaled_close(state.mean, passed.filtered.mean[-1], 1e-12)
        scaled_close(carried.time, rows.dt.sum(0), 1e-12)


def anchored_loop(y, case: Case, pull, weight: float, factor: float):
    """Filtered means, covariances and log density, in the units of y."""
    m, c, v, dof = case["initial_mean"], case["initial_cov"], case["obs_var"], weight
    rows, total = [], 0.0
    for t, h in enumerate(case["design"]):
        dt, g = case["dt"][t], np.diag(pull ** case["dt"][t])
        m, c = g @ m, g @ c @ g + dt * np.diag(case["state_var"])
        dof = max(dof * factor**dt, min(dof, 3.0))
        if case["observed"][t]:
            s, e = h @ c @ h + v, y[t] - h @ m
            total += stats.t.logpdf(e, dof, scale=np.sqrt(s))
            gain = c @ h / s
            m, c = m + gain * e, c - np.outer(gain, gain) * s
            dof = dof + 1
            v = v + v / dof * (e**2 / s - 1)
        rows.append((m, c, v))
    return *(np.array(part) for part in zip(*rows, strict=True)), total


def test_a_learnt_variance_beside_an_absolute_state_noise_is_the_textbook_loop():
    weight, factor = np.array([4.0, 6.0]), np.array([0.9, 0.8])
    model, ys = posed(lambda var: Anchored(var, weight, factor))
    score, passed = run["log_prob"](model, ys), run["filter"](model, ys)
    _, made, pull = cases()
    for i, case in enumerate(made):
        mean, cov, var, total = anchored_loop(ys[i], case, pull[i], weight[i], factor[i])
        scaled_close(passed.filtered.mean[i], mean, 1e-10)
        scaled_close(passed.filtered.cov[i], cov, 1e-10)
        scaled_close(passed.obs_var[i, 1:], var[:-1], 1e-10)
        assert np.ptp(var) > 0.1
        scaled_close(score[i], total, 1e-10)


def test_one_numpy_step_at_a_time_is_the_scan():
    model, ys = posed(lambda var: Anchored(var, np.array([4.0, 6.0]), np.array([0.9, 0.8])))
    parts = model.recursion(jnp.asarray(ys))
    passed = scan.filter(*parts)
    rows, state, drift, noise = jax.tree.map(np.asarray, parts)
    carried = noise.start()
    for t in range(TIME):
        carried = noise.fade(carried, rows.dt[t])
        _, state, seen = step(
            state,
            rows.design[t],
            rows.y[t],
            drift,
            rows.observed[t],
            rows.dt[t],
            noise.relative(carried),
        )
        carried = noise.learn(carried, seen, rows.observed[t])
        scaled_close(state.mean, passed.filtered.mean[t], 1e-12)
        scaled_close(state.cov, passed.filtered.cov[t], 1e-12)
