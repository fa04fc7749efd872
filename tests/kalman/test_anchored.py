"""A variance that comes back to an anchor, or one in fixed units: a loop and the dense Gaussian."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from kfmodels.kalman import noise as noises
from kfmodels.kalman import scan
from kfmodels.kalman.motion import Walk
from kfmodels.kalman.noise import AnchoredVariance, DiscountedVariance
from kfmodels.kalman.regression import KalmanRegression
from kfmodels.online.mixture import Draws, Mixture
from tests import reference
from tests.closeness import scaled_close
from tests.reference import Case, random_case

pytestmark = pytest.mark.usefixtures("x64")

TIME = 40
SETTINGS = {
    "whole": {"factor": 0.9, "tail": 5.0, "lean": 0.3, "share": 0.2},
    "no move": {"factor": 0.95, "tail": 9.0, "lean": 0.0, "share": 0.0},
}
START, WEIGHT = 10.0, 4.0


def posed(name: str, hedges: int = 1) -> tuple[KalmanRegression, np.ndarray, Case]:
    """A series with gaps and odd times, one hedge (or two) beside an intercept."""
    y, case = random_case(7, 2, "state_var", time=TIME)
    given = SETTINGS[name]
    noise = AnchoredVariance(
        np.asarray(case["obs_var"]),
        np.asarray(START),
        np.asarray(WEIGHT),
        *(np.asarray(given[field]) for field in ("factor", "tail", "lean", "share")),
        np.array([1.0, 0.0] if hedges == 1 else [0.5, 0.5]),
    )
    drift = Walk(np.diag(case["state_var"]) / case["obs_var"])
    start = (case[name] for name in ("design", "initial_mean", "initial_cov"))
    how = {name: case[name] for name in ("observed", "dt")}
    return KalmanRegression(*start, drift, noise, **how), y, case


def loop(
    y: np.ndarray, case: Case, share_of: np.ndarray, *, factor: float, tail: float, lean: float,
    share: float,
) -> dict[str, Any]:  # fmt: skip
    """The equations of `AnchoredVariance`, one row at a time, in the units of y."""
    m, c = case["initial_mean"], case["initial_cov"]
    anchor = v = case["obs_var"]
    n, size, total, rows = START, 1.0, 0.0, []
    for t, h in enumerate(case["design"]):
        kept = factor ** case["dt"][t]
        c = c + case["dt"][t] * np.diag(case["state_var"])
        v = (kept * n * v + (1 - kept) * WEIGHT * anchor) / (kept * n + (1 - kept) * WEIGHT)
        n = kept * n + (1 - kept) * WEIGHT
        before = v
        if case["observed"][t]:
            square = share_of @ h**2 / size
            whole = h @ c @ h + v * (1 + lean * (square - 1))
            e, narrow = y[t] - h @ m, h @ c @ h + v
            total += stats.t.logpdf(e, tail, scale=np.sqrt(whole * (tail - 2) / tail))
            gain = c @ h / narrow
            m, c = m + gain * e, c - np.outer(gain, gain) * narrow
            news = (1 - share) * v * e**2 / whole + share * square * anchor
            v, n = (n * v + news) / (n + 1), n + 1
            size = (1 - 1 / 33) * size + share_of @ h**2 / 33
        rows.append((m, c, before, v))
    mean, cov, var, after = (np.array(part) for part in zip(*rows, strict=True))
    return {"mean": mean, "cov": cov, "var": var, "after": after, "total": total}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("hedges", [1, 2])
def test_every_pass_is_the_loop(name: str, hedges: int):
    model, y, case = posed(name, hedges)
    found = loop(y, case, np.asarray(model.noise.hedges), **SETTINGS[name])
    passed = model.filter(jnp.asarray(y))
    scaled_close(model.log_prob(jnp.asarray(y)), found["total"], 1e-10)
    scaled_close(passed.filtered.mean, found["mean"], 1e-10)
    scaled_close(passed.filtered.cov, found["cov"], 1e-10)
    scaled_close(passed.obs_var, found["var"], 1e-10)
    assert np.ptp(found["var"]) > 0.3 * case["obs_var"]
    ended = scan.ending(*model.recursion(jnp.asarray(y)))
    scaled_close(ended.least, found["after"].min(), 1e-10)
    assert noises.floored(model.noise, ended.least) is model.noise  # it cannot collapse


def test_with_variances_known_and_a_normal_tail_the_states_are_the_dense_gaussians():
    """Nothing is learnt of a variance that is worth so many observations; each row has its factor."""
    y, case = random_case(11, 2, "state_var", time=TIME, closed=True)
    huge, anchor = 1e12, case["obs_var"]
    tail = 1e8  # with more the density of a Student-t loses its digits
    noise = AnchoredVariance(
        *map(np.asarray, (anchor, huge, huge, 0.9, tail, 0.25, 0.0)), np.array([1.0, 0.0])
    )
    drift = Walk(np.diag(case["state_var"]) / anchor)
    start = (case[name] for name in ("design", "initial_mean", "initial_cov"))
    rows = {name: case[name] for name in ("observed", "dt", "obs_factor")}
    model = KalmanRegression(*start, drift, noise, gap_time=case["gap_time"][:, None], **rows)
    moved = (case["dt"] + case["gap_time"])[:, None, None]
    dense = reference.dense(case, moved * np.diag(case["state_var"]))
    mean, cov = dense.given(y)
    smoothed = model.smooth(jnp.asarray(y))
    scaled_close(smoothed.mean, mean, 1e-8)
    each = np.arange(TIME)
    scaled_close(smoothed.cov, cov[each, :, each], 1e-8)
    # with no part of today's move, the density is that of the series too
    alone = noise._replace(lean=np.asarray(0.0))
    rows["gap_time"] = case["gap_time"][:, None]
    start = (case[name] for name in ("design", "initial_mean", "initial_cov"))
    density = KalmanRegression(*start, drift, alone, **rows).log_prob(jnp.asarray(y))
    scaled_close(density, dense.log_prob(y), 1e-6)


@pytest.mark.variants
@pytest.mark.parametrize("name", SETTINGS)
def test_the_gradient_is_the_slope(name: str):
    model, y, _ = posed(name)

    def density(logs: jax.Array) -> jax.Array:
        law = model.noise
        fields = {
            "var": law.var * jnp.exp(logs[0]),
            "weight": law.weight * jnp.exp(logs[1]),
            "factor": 1 - (1 - law.factor) * jnp.exp(logs[2]),
            "tail": 2 + (law.tail - 2) * jnp.exp(logs[3]),
            "lean": law.lean * jnp.exp(logs[4]),
            "share": law.share * jnp.exp(logs[5]),
        }
        start = model.design, model.initial_mean, model.initial_cov
        rows = {"observed": model.observed, "dt": model.dt}
        other = KalmanRegression(*start, model.drift, law._replace(**fields), **rows)
        return other.log_prob(jnp.asarray(y))

    at, step = jnp.zeros(6), 1e-5
    slope = jax.grad(density)(at)
    for k in range(6):
        move = jnp.zeros(6).at[k].set(step)
        scaled_close(slope[k], (density(at + move) - density(at - move)) / (2 * step), 1e-6)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_tick_of_one_pair_and_of_two_is_the_pass(name: str):
    model, y, _ = posed(name)
    rows, state, drift, noise = model.recursion(jnp.asarray(y))
    passed = scan.filter(rows, state, drift, noise)
    for pairs in ((), (2,)):

        def spread_out(leaf: Any, pairs: tuple[int, ...] = pairs) -> np.ndarray:
            wide = np.asarray(leaf).reshape(*np.shape(leaf), *(1,) * len(pairs), 1)
            return np.broadcast_to(wide, (*np.shape(leaf), *pairs, 1)).copy()

        own, laws = jax.tree.map(spread_out, (noise, drift))
        mixture = Mixture(
            laws, own, hedges=1, level=True, share=0.0, initial=np.ones((*pairs, 1)),
            gap_names=(), gap_bars=np.ones((0, *pairs, 1)), gap_noise=np.ones((0, *pairs, 1)),
        )  # fmt: skip
        at = jax.tree.map(spread_out, (state, noise.start()))
        now = Draws(*at, np.zeros((*pairs, 1)), np.ones((*pairs, 1)))
        for t in range(TIME):
            ahead, factor = mixture.predict(now, float(rows.dt[t]), None)
            design = np.asarray(rows.design[t])
            design = np.repeat(design[:, None, None], 2, 1) if pairs else design
            seen = np.full(pairs, bool(rows.observed[t]))
            look = mixture.look(ahead, factor, design, np.asarray(rows.y[t]))
            if rows.observed[t]:
                scaled_close(np.ravel(mixture.density(ahead, look)), passed.log_density[t], 1e-10)
                _, var = mixture.spread(ahead, look)
                tail = SETTINGS[name]["tail"]
                scaled_close(np.ravel(var), passed.scale[t] * tail / (tail - 2), 1e-10)
            now = mixture.learn(ahead, look, (now.log_weights, now.weights), seen)
            scaled_close(now.state.mean.reshape(2, -1)[:, 0], passed.filtered.mean[t], 1e-10)
            scaled_close(np.ravel(now.carried.var)[0], passed.after[t], 1e-10)


def test_a_discounted_variance_in_fixed_units_is_the_textbook_loop():
    y, case = random_case(3, 2, "state_var", time=TIME)
    free = DiscountedVariance(*map(np.asarray, (case["obs_var"], 4.0, 0.9)))
    start = (case[name] for name in ("design", "initial_mean", "initial_cov"))
    drift = Walk(np.diag(case["state_var"]) / case["obs_var"])
    rows = {name: case[name] for name in ("observed", "dt")}
    model = KalmanRegression(*start, drift, noises.in_fixed_units(free), **rows)
    m, c, v, dof, total = case["initial_mean"], case["initial_cov"], case["obs_var"], 4.0, 0.0
    passed, least = model.filter(jnp.asarray(y)), np.inf
    for t, h in enumerate(case["design"]):
        c = c + case["dt"][t] * np.diag(case["state_var"])
        dof = max(dof * 0.9 ** case["dt"][t], min(dof, 3.0))
        if case["observed"][t]:
            s, e = h @ c @ h + v, y[t] - h @ m
            total += stats.t.logpdf(e, dof, scale=np.sqrt(s))
            gain = c @ h / s
            m, c, dof = m + gain * e, c - np.outer(gain, gain) * s, dof + 1
            v = v + v / dof * (e**2 / s - 1)
        least = min(least, v)
        scaled_close(passed.filtered.mean[t], m, 1e-10)
        scaled_close(passed.filtered.cov[t], c, 1e-10)
    scaled_close(model.log_prob(jnp.asarray(y)), total, 1e-10)
    ended = scan.ending(*model.recursion(jnp.asarray(y)))
    scaled_close(ended.least, least, 1e-10)
    high = noises.floored(model.noise, np.asarray(20 * case["obs_var"]))
    held = scan.ending(*model.recursion(jnp.asarray(y))[:3], high)
    assert held.least == 2 * case["obs_var"]
