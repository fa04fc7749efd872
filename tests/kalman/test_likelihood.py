"""The log likelihood that keeps nothing on the way, against one step after the other on NumPy.

By the scan, and by the kernel for CUDA devices in the interpreter of Pallas, which needs no device.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import gammaln

from kfmodels.kalman import kernel, scan
from kfmodels.kalman.density import gamma_ratio, student_variance
from kfmodels.kalman.likelihood import last_variance, log_likelihood
from kfmodels.kalman.logarithm import fast_log
from kfmodels.kalman.motion import Discount, Reversion, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance
from kfmodels.kalman.step import State, step

pytestmark = pytest.mark.usefixtures("x64")

PAIRS, DRAWS, N = 3, 4, 2  # draws that do not fill a block of the kernel
NOISES = ("constant", "discounted")

quick = partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0},  # it is compiled often, and run little
)
ROADS = {
    "scan": quick(log_likelihood),
    "kernel": quick(partial(kernel.log_likelihood, interpret=True)),
}
both = pytest.mark.parametrize("run", ROADS.values(), ids=ROADS)


def case(
    time: int,
    noise: str,
    *,
    timed: bool,
    drift: str = "walk",
    n: int = N,
    draws: int = DRAWS,
    seed: int = 0,
):
    """Pairs of their own series, draws of their own noise: batch axes `(pair, draw)`, 1 broadcasts."""
    rng = np.random.default_rng(seed)
    y = rng.normal(0, 2, (time, PAIRS, 1))
    design = rng.normal(0, 1, (time, n, PAIRS, 1))
    design[:, -1] = 1
    observed = rng.random((time, PAIRS, 1)) < 0.75
    observed[0, 0] = False
    if time > 1:
        observed[:, 1] = True
    dt = rng.exponential(1.0, (time, PAIRS, 1)) if timed else None
    rows = scan.series(y, design, observed, dt)
    root = rng.normal(size=(PAIRS, n, n))
    start = State(
        rng.normal(size=(n, PAIRS, 1)), np.moveaxis(root @ root.mT, 0, -1)[..., None] + np.zeros(1)
    )
    if drift == "walk":
        q = np.exp(rng.normal(-2, 1, (n, PAIRS, draws)))
        drift_of: Any = Walk(np.eye(n)[:, :, None, None] * q)
    elif drift == "reversion":  # the last comes back, the others walk
        back = np.arange(n) == n - 1
        q = np.exp(rng.normal(-2, 1, (n, PAIRS, draws)))
        noise_of_walks, settled = (
            np.eye(n)[:, :, None, None] * np.where(which[:, None, None], q, 0)
            for which in (~back, back)
        )
        factor = np.where(back[:, None, None], rng.uniform(0, 1, (n, PAIRS, draws)), 1.0)
        drift_of = Reversion(noise_of_walks, factor, settled)
    else:
        drift_of = Discount(rng.uniform(0.8, 1, (PAIRS, draws)), np.ones((n, n, 1, 1)))
    var = np.exp(rng.normal(0, 1, (PAIRS, draws)))
    noise_of: Any = ConstantVariance(var)
    if noise == "discounted":
        factor = rng.uniform(0.8, 1, (PAIRS, draws))
        noise_of = DiscountedVariance(var, np.full((1, 1), 4.0), factor)
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), (rows, start, drift_of, noise_of))


def loop(rows, start, drift, noise) -> np.ndarray:
    """The one step on NumPy, row by row, scored by scipy."""
    return run_loop(rows, start, drift, noise)[0]


def run_loop(rows, start, drift, noise) -> tuple[np.ndarray, np.ndarray]:
    """The log likelihood, and the variance of the first coefficient after the last row."""
    rows, start, drift, noise = jax.tree.map(np.asarray, (rows, start, drift, noise))
    dt = rows.dt
    if dt is None:
        dt = np.ones_like(rows.observed)
        dt[0] = 0
    state, scale, total = start, noise.start(), 0.0
    for t in range(len(rows.y)):
        seen_row = rows.observed[t]
        _, state, seen = step(state, rows.design[t], rows.y[t], drift, seen_row, dt[t])
        faded = noise.fade(scale, dt[t])
        scale = noise.learn(faded, seen, seen_row)
        if faded is None:
            density = stats.norm.logpdf(seen.error, scale=np.sqrt(noise.var * seen.var))
        else:
            density = stats.t.logpdf(seen.error, faded.dof, scale=np.sqrt(faded.var * seen.var))
        total = total + seen_row * density
    unit = noise.var if scale is None else scale.var * scale.dof / (scale.dof - 2)
    return np.asarray(total), state.cov[0, 0] * unit


# -- the same number -------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("drift", ["walk", "discount", "reversion"])
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("noise", NOISES)
def test_it_is_what_the_steps_sum_to(run: Any, noise: str, timed: bool, drift: str):
    """With the first row apart, and with it."""
    model = case(31, noise, timed=timed, drift=drift)
    found = run(*model)
    assert found.shape == (PAIRS, DRAWS)
    assert_allclose(found, loop(*model), rtol=1e-11)
    assert len(np.unique(np.asarray(found))) == PAIRS * DRAWS


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("noise", NOISES)
def test_the_variance_at_the_end_is_what_the_steps_lead_to(noise: str, timed: bool):
    """And that of a pair alone has the same bits."""
    rows, *laws = case(31, noise, timed=timed)
    found = quick(last_variance)(rows, *laws)
    assert found.shape == (PAIRS, DRAWS)
    assert_allclose(found, run_loop(rows, *laws)[1], rtol=1e-10)
    alone = jax.tree.map(
        lambda leaf: leaf[..., 1:2, :] if leaf.shape[-2] == PAIRS else leaf, (rows, *laws)
    )
    assert_array_equal(quick(last_variance)(*alone)[0], found[1])


@both
@pytest.mark.parametrize("noise", NOISES)
def test_of_any_number_of_rows(run: Any, noise: str):
    for time, timed in ((1, False), (2, False), (4, True)):
        model = case(time, noise, timed=timed, seed=time)
        assert_allclose(run(*model), loop(*model), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("noise", NOISES)
def test_rows_after_the_count_are_not_read(noise: str, timed: bool):
    """Value, slopes in forward mode, and the variance at the end; one program for all counts."""
    rows, *laws = case(31, noise, timed=timed)
    traced = []

    @quick
    def run(counts, factor):
        traced.append(counts)
        given = scan.series(*rows[:4], count=counts[:, None])

        def density(factor):
            law = jax.tree.map(lambda leaf: factor * leaf, laws[1])
            return log_likelihood(given, laws[0], law, laws[2])

        variance = last_variance(given, *jax.tree.map(jnp.asarray, laws))
        return density(factor), jax.jacfwd(density)(factor), variance

    for counts in (np.array([1, 17, 31]), np.array([31, 2, 17])):
        value, slope, variance = run(counts, 1.0)
        ends = [run(counts, 1 + step)[0] for step in (-1e-6, 1e-6)]
        assert_allclose(slope, (ends[1] - ends[0]) / 2e-6, rtol=1e-6, atol=1e-6)
        for pair, count in enumerate(counts):
            cut = jax.tree.map(lambda leaf, count=count: leaf[:count], rows)
            assert_allclose(value[pair], loop(cut, *laws)[pair], rtol=1e-11, atol=1e-13)
            assert_allclose(variance[pair], run_loop(cut, *laws)[1][pair], rtol=1e-10)
    assert len(traced) == 1


@pytest.mark.parametrize("noise", NOISES)
def test_whoever_reads_all_rows_sees_none_after_the_count(noise: str):
    """Neither a price nor the passage of time: as a GPU has it, and every other pass."""
    rows, *laws = case(31, noise, timed=False)
    counts = np.array([17, 31, 4])
    given = scan.series(*rows[:4], count=counts[:, None])
    density = scan.filter(given, *laws).log_density.sum(0)
    assert_allclose(density, quick(log_likelihood)(given, *laws), rtol=1e-11)
    state, carried = scan.final(given, *laws)
    unit = laws[2].unit(carried) * student_variance(laws[2].dof(carried), np)
    for pair, count in enumerate(counts):
        cut = jax.tree.map(lambda leaf, count=count: leaf[:count], rows)
        expected = run_loop(cut, *laws)[1][pair]
        assert_allclose((state.cov[0, 0] * unit)[pair], expected, rtol=1e-10)


@both
@pytest.mark.parametrize(("n", "drift"), [(1, "discount"), (3, "walk")])
def test_of_other_numbers_of_coefficients(run: Any, n: int, drift: str):
    model = case(31, "discounted", timed=True, drift=drift, n=n)
    assert_allclose(run(*model), loop(*model), rtol=1e-11)


@both
@pytest.mark.parametrize("noise", NOISES)
def test_a_noise_far_from_the_data_is_scored_as_exactly(run: Any, noise: str):
    """Of a start at 1e5 and at 1e-5 of the sd of the data; what is known of it then fades."""
    rows, start, drift, given = case(31, noise, timed=False)
    for size in (1e-10, 1e10):
        far = given._replace(var=given.var * size)
        assert_allclose(run(rows, start, drift, far), loop(rows, start, drift, far), rtol=1e-11)


@both
def test_a_noise_forgotten_by_many_orders_is_scored_as_exactly(run: Any):
    """The variance learnt is 1e-17 of the one it started at: nothing may be added to 1."""
    rows, start, drift, noise = case(200, "discounted", timed=False)
    noise = noise._replace(factor=jnp.full_like(noise.factor, 0.7), var=noise.var * 1e20)
    exact = State(start.mean, jnp.zeros_like(start.cov))
    still = Walk(drift.noise * 0)
    found = run(rows, exact, still, noise)
    assert np.isfinite(found).all()
    assert_allclose(found, loop(rows, exact, still, noise), rtol=1e-11)


@both
@pytest.mark.variants
@pytest.mark.parametrize("noise", NOISES)
def test_single_precision_from_a_wide_start(run: Any, noise: str):
    """As wide as `Weak` on daily prices: 100 sds of the noise. Within a hundredth of a nat."""
    rows, start, drift, given = case(200, noise, timed=False)
    wide = State(start.mean, jnp.eye(N)[:, :, None, None] * jnp.full((1, 1), 1e4))
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (rows, wide, drift, given))
    exact = run(*jax.tree.map(lambda leaf: leaf.astype(float), single))
    found = run(*single)
    assert found.dtype == jnp.float32
    assert exact.dtype == jnp.float64
    rounding = 4 * float(jnp.finfo(jnp.float32).eps) * np.abs(exact)
    assert (np.abs(found - exact) < 0.01 + rounding).all()


@both
@pytest.mark.parametrize("noise", NOISES)
def test_a_pair_has_the_same_bits_whatever_its_neighbours(run: Any, noise: str):
    model = case(31, noise, timed=False)
    rows, start, drift, given = model
    found = np.asarray(run(*model))
    for pair in range(PAIRS):
        own = slice(pair, pair + 1)
        alone = run(
            rows._replace(
                y=rows.y[:, own], design=rows.design[:, :, own], observed=rows.observed[:, own]
            ),
            State(start.mean[:, own], start.cov[:, :, own]),
            drift._replace(noise=drift.noise[:, :, own]),
            jax.tree.map(lambda leaf, own=own: leaf[own] if len(leaf) > 1 else leaf, given),
        )
        assert (np.asarray(alone) == found[own]).all()


# -- the logarithm -----------------------------------------------------------------------------------


def test_the_logarithm_is_that_of_a_longer_float():
    near_one = 1 + np.concatenate([np.linspace(-0.3, 0.5, 20_001), np.geomspace(1e-15, 1e-3, 999)])
    x = np.concatenate([np.geomspace(1e-307, 1e307, 20_001), near_one])
    found = np.asarray(jax.jit(fast_log)(x))
    exact = np.log(x.astype(np.longdouble))
    assert (np.abs(found - exact) <= 3 * np.spacing(np.abs(exact).astype(float))).all()


def test_the_logarithm_of_what_has_none_is_nan():
    x = jnp.array([0.0, -1.0, np.inf, np.nan])
    assert np.isnan(fast_log(x)).all()


def test_the_logarithm_has_its_slopes():
    x = jnp.array([1e-5, 0.3, 1.0, 7.0, 1e9])
    assert_allclose(jax.vmap(jax.grad(fast_log))(x), 1 / x, rtol=1e-15)
    assert_allclose(jax.vmap(jax.hessian(fast_log))(x), -1 / x**2, rtol=1e-15)


# -- the gamma functions ---------------------------------------------------------------------------


def log_ratio(a) -> np.ndarray:
    above, below = jax.jit(gamma_ratio)(a)
    return np.asarray(jnp.log(above / below) / 2)


@pytest.mark.parametrize("call", [jax.jit(gamma_ratio), gamma_ratio], ids=["JAX", "NumPy"])
def test_the_ratio_of_gamma_functions_is_scipys(call: Any):
    """To what scipy's difference keeps: a rounding of the larger of two logarithms."""
    a = np.geomspace(0.25, 5e5, 4001)
    above, below = call(a)
    expected = gammaln(a + 0.5) - gammaln(a)
    rounding = 4 * np.finfo(float).eps * (1 + np.abs(gammaln(a + 0.5)))
    assert (np.abs(np.log(above / below) / 2 - expected) < 3e-15 + rounding).all()


def test_two_half_steps_are_a_whole_one():
    """gamma(a + 1) / gamma(a) = a, where the logarithms of scipy have lost their digits."""
    a = np.geomspace(1e-3, 5e5, 4001)
    found = log_ratio(a) + log_ratio(a + 0.5)
    assert_allclose(found, np.log(a), rtol=0, atol=5e-15)


def test_the_ratio_in_single_precision_over_the_whole_range():
    a = np.geomspace(0.25, 5e5, 501).astype(np.float32)
    found = log_ratio(a)
    assert found.dtype == np.float32
    assert_allclose(found, log_ratio(a.astype(float)), rtol=0, atol=3e-6)
