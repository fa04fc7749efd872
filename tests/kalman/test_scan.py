"""The recursion against the textbook loop, the dense Gaussian, closed forms and symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels.kalman.motion import Walk
from kfmodels.kalman.noise import DiscountedVariance
from kfmodels.kalman.regression import KalmanRegression
from kfmodels.kalman.step import State, forecast, step
from tests import reference
from tests.closeness import gaussian_moments, scaled_close
from tests.made_models import log_prob, regression, run_filter, run_smooth
from tests.reference import Case, random_case, stacked

pytestmark = pytest.mark.usefixtures("x64")

DRIFTS = ("state_var", "state_cov", "state_discount")
SIZES = [
    (1, "state_var"),
    (2, "state_cov"),
    (2, "state_discount"),
    (3, "state_var"),
    (3, "state_discount"),
    (4, "state_cov"),
]
TIME = 12
few = settings(
    deadline=None,
    max_examples=20,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def member(batch: Case, i: int) -> Case:
    return {name: a if name == "moving" else a[i] for name, a in batch.items()}


@pytest.mark.parametrize(
    ("n", "drift", "learnt"),
    [
        *((n, drift, False) for n, drift in SIZES),
        (1, "state_var", True),
        (2, "state_cov", True),
        (3, "state_discount", True),
    ],
)
def test_filter_is_the_textbook_loop(n: int, drift: str, learnt: bool):
    made = [random_case(10 * n + i, n, drift, learnt=learnt, closed=n > 2) for i in range(3)]
    y, batch = stacked(made)
    model = regression(**batch)
    passed = run_filter(model, y)
    for i in range(3):
        case = member(batch, i)
        loop, seen = reference.loop(y[i], **case), case["observed"]
        assert 0 < seen.sum() < TIME
        for name in ("predicted", "filtered"):
            scaled_close(getattr(passed, name).mean[i], getattr(loop, f"{name}_mean"), 1e-10)
            scaled_close(getattr(passed, name).cov[i], getattr(loop, f"{name}_cov"), 1e-10)
        for name in ("error", "forecast_var", "obs_var"):
            scaled_close(getattr(passed, name)[i][seen], getattr(loop, name)[seen], 1e-10)
        if learnt:
            scaled_close(passed.dof[i], loop.dof, 1e-10)
        else:
            assert passed.dof is None
        scaled_close(passed.log_density[i], loop.log_density, 1e-10)
        assert_array_equal(passed.log_density[i][~seen], 0)


@pytest.mark.parametrize(("n", "drift"), SIZES)
def test_log_prob_is_the_dense_gaussian(n: int, drift: str):
    y, batch = stacked([random_case(100 * n + i, n, drift, closed=n > 2) for i in range(3)])
    for i, found in enumerate(log_prob(regression(**batch), y)):
        case = member(batch, i)
        dense = reference.dense(case, reference.increments(case))
        assert_allclose(found, dense.log_prob(y[i]), rtol=1e-8)


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_variance_that_is_learnt_but_never_fades_gives_a_multivariate_t(drift: str):
    y, case = random_case(7, 2, drift, learnt=True)
    case["variance_discount"] = 1.0
    dense = reference.dense(case, reference.increments(case))
    expected = dense.student_log_prob(y, case["variance_dof"])
    assert_allclose(log_prob(regression(**case), y), expected, rtol=1e-8)


@few
@given(
    seed=st.integers(0, 2**32 - 1),
    observed=st.lists(st.booleans(), min_size=TIME, max_size=TIME).filter(any),
    dt=st.lists(st.floats(0, 50), min_size=TIME, max_size=TIME),
    log_noise=st.floats(-12, 4),
)
def test_any_gaps_in_rows_and_time_agree_with_the_dense_gaussian(seed, observed, dt, log_noise):
    y, case = random_case(seed, 2, "state_var")
    case |= {"observed": np.array(observed), "dt": np.array(dt)}
    case["state_var"] = case["state_var"] * np.exp(log_noise)
    dense = reference.dense(case, reference.increments(case))
    model = regression(**case, validate_args=True)
    assert_allclose(log_prob(model, y), dense.log_prob(y), rtol=1e-8)


def test_defaults_are_all_rows_seen_and_no_noise_before_the_first():
    y, case = random_case(3, 2, "state_var", gaps=False)
    passed = run_filter(regression(**case), y)
    assert_allclose(passed.predicted.cov[0], case["initial_cov"], rtol=1e-14)
    scaled_close(passed.filtered.cov, reference.loop(y, **case).filtered_cov, 1e-10)
    written_out = case | {"observed": np.ones(TIME, bool), "dt": np.r_[0.0, np.ones(TIME - 1)]}
    found, wanted = (log_prob(regression(**given), y) for given in (case, written_out))
    assert_allclose(found, wanted, rtol=1e-14)


def test_batch_shapes_broadcast_and_members_do_not_mix():
    y, case = random_case(4, 2, "state_var")
    batch = case | {
        "obs_var": case["obs_var"] * np.array([[1.0], [2.0], [5.0]]),
        "state_var": case["state_var"] * np.array([[1.0], [0.1]]),
        "observed": np.stack([case["observed"], ~case["observed"]]),
        "initial_cov": case["initial_cov"] * np.arange(1, 5)[:, None, None, None, None],
    }
    model = regression(**batch)
    assert model.batch_shape == (4, 3, 2)
    total, passed, smoothed = log_prob(model, y), run_filter(model, y), run_smooth(model, y)
    assert total.shape == (4, 3, 2)
    assert passed.filtered.cov.shape == smoothed.cov.shape == (4, 3, 2, TIME, 2, 2)
    for i, j, k in np.ndindex(4, 3, 2):
        alone = case | {
            "obs_var": batch["obs_var"][j, 0],
            "state_var": batch["state_var"][k],
            "observed": batch["observed"][k],
            "initial_cov": batch["initial_cov"][i, 0, 0],
        }
        model = regression(**alone)
        assert_allclose(total[i, j, k], log_prob(model, y), rtol=1e-12)
        scaled_close(passed.filtered.cov[i, j, k], run_filter(model, y).filtered.cov, 1e-12)
        scaled_close(smoothed.mean[i, j, k], run_smooth(model, y).mean, 1e-12)


def varied(case: Case, x) -> Case:
    """The case with its positive numbers multiplied by exp(x) (a discount d becomes d**exp(x))."""
    factor, shift, out = jnp.exp(x) if isinstance(x, jax.Array) else np.exp(x), x, dict(case)
    out["obs_var"] = case["obs_var"] * factor[0]
    out["initial_cov"] = case["initial_cov"] * factor[1]
    out["initial_mean"] = case["initial_mean"] + shift[2:4]
    for name in ("variance_discount", "state_discount"):
        if name in case:
            out[name] = case[name] ** factor[4 if name == "state_discount" else 6]
    if "state_var" in case:
        out["state_var"] = case["state_var"] * factor[4:6]
    if "state_cov" in case:
        out["state_cov"] = case["state_cov"] * factor[4]
    if "variance_dof" in case:
        out["variance_dof"] = case["variance_dof"] * factor[7]
    return out


@pytest.mark.parametrize(
    ("drift", "learnt", "mode"),
    [
        ("state_var", False, jax.grad),
        ("state_var", False, jax.jacfwd),
        ("state_var", True, jax.grad),
        ("state_cov", False, jax.grad),
        pytest.param("state_discount", False, jax.grad, marks=pytest.mark.slow),
        pytest.param("state_discount", True, jax.grad, marks=pytest.mark.slow),
        ("state_discount", True, jax.jacfwd),
    ],
)
def test_gradients_are_finite_differences_of_the_loop(drift: str, learnt: bool, mode):
    y, case = random_case(5, 2, drift, learnt=learnt)

    def density(x):
        return regression(**varied(case, x)).log_prob(y)

    at = np.zeros(8)
    loop = reference.slope(lambda x: reference.loop(y, **varied(case, x)).log_density.sum(), at)
    assert np.abs(loop[:4]).min() > 1e-3
    scaled_close(jax.jit(mode(density))(at), loop, 1e-8)


def test_gradients_under_discounting_keep_their_digits_over_a_long_series():
    """An asymmetry in the tangent of the covariance would grow by 1 / factor a row."""
    y, case = random_case(6, 2, "state_discount", time=150)
    case |= {"state_discount": 0.8, "moving": np.ones(2, bool)}

    def multiplied(x):
        out = case | {"obs_var": case["obs_var"] * jnp.exp(x[0])}
        return out | {"state_discount": case["state_discount"] ** jnp.exp(x[1])}

    def loop(x):
        plain = {name: np.asarray(a) for name, a in multiplied(x).items()}
        return reference.loop(y, **plain).log_density.sum()

    at = np.zeros(2)
    found = jax.jit(jax.grad(lambda x: regression(**multiplied(x)).log_prob(y)))(at)
    assert_allclose(found, reference.slope(loop, at), rtol=1e-7)


@pytest.mark.parametrize(("n", "drift"), SIZES)
def test_smoother_is_the_dense_conditional(n: int, drift: str):
    y, case = random_case(20 + n, n, drift, closed=n > 2)
    mean, cov = reference.dense(case, reference.increments(case)).given(y)
    smoothed = run_smooth(regression(**case), y)
    scaled_close(smoothed.mean, mean, 1e-8)
    scaled_close(smoothed.cov, np.einsum("titj->tij", cov), 1e-8)


def test_smoother_accepts_a_known_start_and_standing_coefficients():
    y, case = random_case(24, 2, "state_var")
    case["initial_cov"], case["state_var"] = np.zeros((2, 2)), np.array([0.3, 0.0])
    mean, cov = reference.dense(case, reference.increments(case)).given(y)
    smoothed = run_smooth(regression(**case), y)
    scaled_close(smoothed.mean, mean, 1e-8)
    scaled_close(smoothed.cov, np.einsum("titj->tij", cov), 1e-8)
    assert_array_equal(smoothed.mean[:, 1], np.full(TIME, case["initial_mean"][1]))


@pytest.mark.parametrize("drift", DRIFTS)
def test_smoother_with_a_learnt_variance_that_never_fades_is_the_multivariate_t(drift: str):
    y, case = random_case(8, 2, drift, learnt=True)
    case["variance_discount"] = 1.0
    dense = reference.dense(case, reference.increments(case))
    mean, cov = dense.given(y)
    dof, rows = case["variance_dof"], case["observed"].sum()
    var = (dof + dense.square(y)) / (dof + rows)  # of obs_var, given all rows
    smoothed = run_smooth(regression(**case), y)
    scaled_close(smoothed.mean, mean, 1e-8)
    scaled_close(smoothed.cov, var * np.einsum("titj->tij", cov), 1e-8)


def test_smoothed_variance_is_the_weighted_harmonic_mean_of_the_filtered_ones():
    y, case = random_case(9, 2, "state_var", learnt=True)
    kept = case["variance_discount"] ** np.r_[case["dt"][1:], 0.0]
    filtered = reference.loop(y, **case).filtered_obs_var
    var = np.empty(TIME)
    for t in range(TIME):
        carried = np.r_[1.0, np.cumprod(kept[t:-1])]
        stays = np.r_[1 - kept[t:-1], 1.0]
        assert_allclose((carried * stays).sum(), 1)
        var[t] = 1 / (carried * stays / filtered[t:]).sum()
    _, cov = reference.dense(case, reference.increments(case)).given(y)
    relative = np.einsum("titj->tij", cov) / case["obs_var"]
    smoothed = run_smooth(regression(**case), y)
    scaled_close(smoothed.cov, var[:, None, None] * relative, 1e-8)


@jax.jit
def paths(model: KalmanRegression, y: jax.Array) -> jax.Array:
    """20 000 independent paths given y."""
    keys = jax.random.split(jax.random.key(0), 20_000)
    return jax.vmap(lambda key: model.sample_path(key, y))(keys)


@pytest.mark.parametrize("drift", ["state_var", "state_discount"])
def test_sampled_paths_have_the_joint_moments_of_the_dense_conditional(drift: str):
    y, case = random_case(31, 2, drift, time=5, closed=drift == "state_var")
    assert 0 < case["observed"].sum() < 5
    mean, cov = reference.dense(case, reference.increments(case)).given(y)
    draws = np.asarray(paths(regression(**case), y))
    assert draws.shape == (20_000, 5, 2)
    gaussian_moments(draws.reshape(-1, 10), mean.ravel(), cov.reshape(10, 10))


def test_sampled_paths_with_a_learnt_variance_have_the_smoothed_moments_at_every_row():
    y, case = random_case(33, 2, "state_var", time=5, learnt=True)
    smoothed = run_smooth(regression(**case), y)
    draws = np.asarray(paths(regression(**case), y))
    for t in range(5):
        gaussian_moments(draws[:, t], np.asarray(smoothed.mean[t]), np.asarray(smoothed.cov[t]))


def test_sampled_paths_keep_a_standing_coefficient_still():
    y, case = random_case(32, 2, "state_var", time=5)
    case["state_var"] = np.array([0.5, 0.0])
    draws = np.asarray(paths(regression(**case), y))
    still = np.ptp(draws[:, :, 1], axis=1)
    # a square root of a rounding error is what the eigenvalues of a singular matrix leave
    assert still.max() < 100 * np.sqrt(np.finfo(float).eps)
    assert np.ptp(draws[:, :, 0], axis=1).min() > 1e-3
    assert np.ptp(draws[:, 0, 1]) > 1e-3


@pytest.mark.parametrize(
    ("drift", "dtype"), [*((drift, np.float32) for drift in DRIFTS), ("state_var", np.float64)]
)
def test_covariances_are_symmetric_to_the_last_bit(drift: str, dtype):
    y, case = random_case(41, 3, drift, learnt=True, time=200)
    case["initial_cov"] = case["initial_cov"] * 1e4
    case = {
        name: np.asarray(a, a.dtype if a.dtype == bool else dtype)
        for name, a in ((name, np.asarray(a)) for name, a in case.items())
    }
    if drift == "state_cov":
        case["state_cov"] = (case["state_cov"] + case["state_cov"].T) / 2
    case["initial_cov"] = (case["initial_cov"] + case["initial_cov"].T) / 2
    passed = run_filter(regression(**case), y.astype(dtype))
    for cov in (passed.predicted.cov, passed.filtered.cov):
        assert cov.dtype == dtype
        assert np.isfinite(cov).all()
        assert_array_equal(cov, cov.mT)
        assert (np.diagonal(cov, axis1=1, axis2=2) > 0).all()


@few
@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(3)))
def test_the_order_of_the_coefficients_does_not_matter(seed: int, order: list[int]):
    y, case = random_case(seed, 3, "state_var")
    other = case | {
        "design": case["design"][:, order],
        "initial_mean": case["initial_mean"][order],
        "initial_cov": case["initial_cov"][np.ix_(order, order)],
        "state_var": case["state_var"][order],
    }
    model, permuted = regression(**case), regression(**other)
    assert_allclose(log_prob(permuted, y), log_prob(model, y), rtol=1e-10)
    old, new = run_filter(model, y).filtered, run_filter(permuted, y).filtered
    scaled_close(new.mean, old.mean[:, order], 1e-10)
    scaled_close(new.cov, old.cov[:, order][:, :, order], 1e-10)


@few
@given(
    seed=st.integers(0, 2**32 - 1),
    a=st.floats(1e-3, 1e3),
    b=st.floats(1e-3, 1e3),
    learnt=st.booleans(),
)
def test_units_of_target_and_hedge_change_only_the_units(seed: int, a: float, b: float, learnt):
    y, case = random_case(seed, 2, "state_var", learnt=learnt)
    unit = a / np.array([b, 1.0])  # of [beta, alpha] when y is in a and x in b
    other = case | {
        "design": case["design"] * np.array([b, 1.0]),
        "initial_mean": case["initial_mean"] * unit,
        "initial_cov": case["initial_cov"] * np.outer(unit, unit),
        "state_var": case["state_var"] * unit**2,
        "obs_var": case["obs_var"] * a**2,
    }
    old = run_filter(regression(**case), y)
    new = run_filter(regression(**other), a * y)
    scaled_close(new.filtered.mean, old.filtered.mean * unit, 1e-10)
    scaled_close(
        new.error / np.sqrt(new.forecast_var), old.error / np.sqrt(old.forecast_var), 1e-10
    )
    jacobian = np.log(a) * case["observed"]
    assert_allclose(new.log_density, old.log_density - jacobian, rtol=1e-10, atol=1e-10)


def test_without_state_noise_every_row_is_recursive_least_squares():
    y, case = random_case(71, 3, "state_var")
    case["state_var"] = np.zeros(3)
    filtered = run_filter(regression(**case), y).filtered
    prior = np.linalg.inv(case["initial_cov"])
    for t in range(TIME):
        x, target = (a[: t + 1][case["observed"][: t + 1]] for a in (case["design"], y))
        precision = prior + x.T @ x / case["obs_var"]
        right = prior @ case["initial_mean"] + x.T @ target / case["obs_var"]
        scaled_close(filtered.mean[t], np.linalg.solve(precision, right), 1e-10)
        scaled_close(filtered.cov[t], np.linalg.inv(precision), 1e-10)


def test_state_discounting_is_exponentially_weighted_least_squares():
    y, case = random_case(73, 2, "state_discount")
    case["moving"] = np.ones(2, bool)
    case["dt"][0] = 0
    filtered = run_filter(regression(**case), y).filtered
    age, prior = np.cumsum(case["dt"]), np.linalg.inv(case["initial_cov"])
    for t in range(TIME):
        fade = case["state_discount"] ** age[t]
        weight = (case["observed"] * fade / case["state_discount"] ** age)[: t + 1]
        x = case["design"][: t + 1]
        precision = fade * prior + (x.T * weight) @ x / case["obs_var"]
        right = fade * prior @ case["initial_mean"] + (x.T * weight) @ y[: t + 1] / case["obs_var"]
        scaled_close(filtered.mean[t], np.linalg.solve(precision, right), 1e-10)
        scaled_close(filtered.cov[t], np.linalg.inv(precision), 1e-10)


@pytest.mark.parametrize("learnt", [False, True], ids=["constant", "discounted"])
@pytest.mark.parametrize("drift", DRIFTS)
def test_the_future_changes_no_earlier_bit(drift: str, learnt: bool):
    y, case = random_case(81, 2, drift, learnt=learnt)
    cut = 7
    _, future = random_case(82, 2, drift, learnt=learnt)
    other = dict(case)
    for name in ("design", "observed", "dt"):
        other[name] = np.concatenate([case[name][:cut], 5 * future[name][cut:]])
    other["observed"] = other["observed"].astype(bool)
    now = run_filter(regression(**case), y)
    then = run_filter(regression(**other), np.r_[y[:cut], 1e6 * y[cut:]])
    for old, new in zip(jax.tree.leaves(now), jax.tree.leaves(then), strict=True):
        assert old.shape[0] == TIME
        assert_array_equal(old[:cut], new[:cut])
    for name in ("predicted", "filtered"):
        assert (getattr(now, name).mean[-1] != getattr(then, name).mean[-1]).any()
    smoothed = [run_smooth(regression(**c), z) for c, z in ((case, y), (other, 1e6 * y))]
    assert (smoothed[0].mean[0] != smoothed[1].mean[0]).any()


def test_a_numpy_step_learns_nothing_from_a_row_that_is_not_observed():
    """Whatever stands there: `scan.series` blanks such rows, online nobody does."""
    _, case = random_case(97, 2, "state_var", learnt=True)
    start, drift = State(case["initial_mean"], case["initial_cov"]), Walk(np.eye(2))
    noise = DiscountedVariance(case["obs_var"], case["variance_dof"], case["variance_discount"])
    scale = noise.fade(noise.start(), 2.0)
    predicted, state, seen = step(start, case["design"][0], 100.0, drift, 0.0, 2.0)
    after = noise.learn(scale, seen, 0.0)
    assert (np.abs(seen.gain) > 0.01).all()  # there was something to learn
    assert_array_equal(state.mean, predicted.mean)
    assert_array_equal(state.cov, predicted.cov)
    assert after.dof == scale.dof
    assert_allclose(after.var, scale.var, rtol=1e-15)


@pytest.mark.parametrize("q", [1e-4, 1e-2, 1.0, 30.0])
def test_the_gain_of_a_local_level_settles_at_its_closed_form(q: float):
    p = (q + np.sqrt(q**2 + 4 * q)) / 2
    gain = p / (1 + p)
    drift, state = Walk(np.array([[q]])), State(np.zeros(1), np.array([[100.0]]))
    for _ in range(int(20 / gain) + 1):
        _, state, seen = step(state, np.ones(1), 0.0, drift)
    # forgets its start like (1 - gain)**(2 t), here exp(-40)
    assert_allclose(seen.gain, [gain], rtol=1e-12)
    assert_allclose(state.cov, [[gain]], rtol=1e-12)  # relative to obs_var
    assert_allclose(forecast(state, np.ones(1), 1.0).var, 1 + gain, rtol=1e-12)


@pytest.mark.parametrize("delta", [1e-4, 1e-2, 0.5])
def test_the_filter_minimises_flexible_least_squares(delta: float):
    """sum (y - h'theta)^2 + mu sum |theta_t - theta_t-1|^2 with mu = (1 - delta) / delta."""
    mu, wide = (1 - delta) / delta, 1e6
    y, case = random_case(95, 2, "state_var", gaps=False)
    fit = np.zeros((TIME, TIME * 2))
    for t in range(TIME):
        fit[t, 2 * t : 2 * t + 2] = case["design"][t]
    change = np.kron(np.diff(np.eye(TIME), axis=0), np.eye(2))
    normal = fit.T @ fit + mu * change.T @ change
    case |= {
        "obs_var": 1.0,
        "state_var": np.full(2, 1 / mu),
        "initial_mean": np.zeros(2),
        "initial_cov": wide * np.eye(2),
    }
    model = regression(**case)
    filtered, smoothed = run_filter(model, y).filtered.mean, run_smooth(model, y).mean

    start = np.diag(np.r_[1.0, 1.0, np.zeros(2 * TIME - 2)]) / wide  # adds |theta_1|^2 / wide
    path = np.linalg.solve(normal + start, fit.T @ y).reshape(TIME, 2)
    assert_allclose(filtered[-1], path[-1], rtol=1e-7)
    assert_allclose(smoothed, path, rtol=1e-7)

    path = np.linalg.solve(normal, fit.T @ y).reshape(TIME, 2)
    # without it the minimum moves by inverse(normal) theta_1 / wide
    slack = 1.01 * np.linalg.norm(np.linalg.inv(normal), 2) * np.linalg.norm(path[0]) / wide
    assert slack < 1e-4
    assert_allclose(filtered[-1], path[-1], rtol=1e-7, atol=slack)
