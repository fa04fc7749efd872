"""`KalmanRegression` keeps NumPyro's contract, says what it refuses, and draws what it scores."""

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC, NUTS, Predictive
from numpyro.infer.util import log_density
from scipy import stats

from kfmodels.kalman.motion import Discount, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance
from kfmodels.kalman.regression import KalmanRegression
from tests import reference
from tests.closeness import gaussian_moments, within_standard_errors
from tests.made_models import log_prob, regression
from tests.reference import Case, random_case

pytestmark = pytest.mark.usefixtures("x64")

TIME = 6
DRAWS = 20_000
score_of = jax.jit(lambda wrapped, y: wrapped.log_prob(y))


@jax.jit
def moments(model: KalmanRegression) -> tuple[jax.Array, jax.Array]:
    return model.mean, model.variance


@jax.jit
def draws_of(model: KalmanRegression) -> jax.Array:
    return model.sample(jax.random.key(0), (DRAWS,))


@pytest.fixture
def plain() -> tuple[np.ndarray, Case]:
    """Two coefficients, everything observed."""
    return random_case(1, 2, "state_var", time=TIME, gaps=False)


@pytest.fixture
def gappy() -> tuple[np.ndarray, Case]:
    """The same with gaps: 0 < seen rows < all rows."""
    y, case = random_case(2, 2, "state_var", time=TIME)
    case["observed"] = np.array([True, False, True, True, False, True])
    return y, case


def batch_of_three(case: Case) -> Case:
    return case | {"obs_var": case["obs_var"] * np.array([1.0, 2.0, 5.0])}


# --- shapes ---------------------------------------------------------------------------------


def shape_of(model: KalmanRegression, read) -> tuple[int, ...]:
    return jax.eval_shape(read, model).shape


@pytest.mark.parametrize("batch_shape", [(), (3,)])
def test_one_series_is_one_event(plain, batch_shape):
    y, case = plain
    case = batch_of_three(case) if batch_shape else case
    model = regression(**case)
    assert (model.batch_shape, model.event_shape) == (batch_shape, (TIME,))
    key = jax.random.key(0)
    assert shape_of(model, lambda m: m.sample(key)) == (*batch_shape, TIME)
    assert shape_of(model, lambda m: m.sample(key, (5, 4))) == (5, 4, *batch_shape, TIME)
    assert shape_of(model, lambda m: m.log_prob(y)) == batch_shape
    assert shape_of(model, lambda m: m.mean) == (*batch_shape, TIME)
    assert shape_of(model, lambda m: m.variance) == (*batch_shape, TIME)
    assert shape_of(model, lambda m: m.sample_path(key, y)) == (*batch_shape, TIME, 2)
    assert shape_of(model, lambda m: m.smooth(y).cov) == (*batch_shape, TIME, 2, 2)
    assert shape_of(model, lambda m: m.filter(y).error) == (*batch_shape, TIME)


def reference_log_prob(y: np.ndarray, case: Case) -> float:
    return reference.dense(case, reference.increments(case)).log_prob(y)


def test_sample_axes_of_the_value_come_before_the_batch(plain):
    y, case = plain
    values = y + np.arange(4)[:, None, None]
    found = log_prob(regression(**batch_of_three(case)), values)
    assert found.shape == (4, 3)
    alone = regression(**case)
    assert_allclose(found[:, 0], [log_prob(alone, value[0]) for value in values], rtol=1e-12)


def test_expand_repeats_a_series_to_event_joins_and_mask_drops_whole_ones(plain):
    y, case = plain
    model = regression(**case)
    wide = model.expand((3,))
    assert (wide.batch_shape, wide.event_shape) == ((3,), (TIME,))
    assert_allclose(score_of(wide, y), np.full(3, log_prob(model, y)), rtol=1e-12)
    assert shape_of(wide, lambda m: m.mean) == (3, TIME)
    sample = jax.jit(lambda m: m.sample(jax.random.key(0), (2,)))(wide)
    assert sample.shape == (2, 3, TIME)
    assert len(np.unique(sample[..., -1])) == 6

    three, values = regression(**batch_of_three(case)), np.stack([y, y + 1, y + 2])
    joined, keep = three.to_event(1), np.array([True, False, True])
    assert (joined.batch_shape, joined.event_shape) == ((), (3, TIME))
    assert_allclose(score_of(joined, values), log_prob(three, values).sum(), rtol=1e-12)
    assert_array_equal(score_of(three.mask(keep), y), log_prob(three, y) * keep)


@pytest.mark.parametrize("learnt", [False, True], ids=["constant", "discounted"])
@pytest.mark.parametrize("drift", ["state_var", "state_cov", "state_discount"])
def test_it_passes_through_jit_as_an_argument(drift: str, learnt: bool):
    y, case = random_case(3, 2, drift, time=TIME, learnt=learnt)
    model = regression(**case)
    leaves, tree = jax.tree.flatten(model)
    rebuilt = jax.tree.unflatten(tree, leaves)
    through = jax.jit(lambda x: x)(model)
    for other in (rebuilt, through):
        assert type(other) is KalmanRegression
        assert (other.batch_shape, other.event_shape) == (model.batch_shape, model.event_shape)
        assert type(other.drift) is type(model.drift)
        assert type(other.noise) is type(model.noise)
        for found, wanted in zip(jax.tree.leaves(other), leaves, strict=True):
            assert_array_equal(found, wanted)
        assert log_prob(other, y) == log_prob(model, y)


def test_a_second_series_of_the_same_shape_is_not_traced_again(plain):
    y, case = plain
    traces = []

    @jax.jit
    def counted(model: KalmanRegression, y):
        traces.append(model)
        return model.log_prob(y)

    first = counted(regression(**case), y)
    second = counted(regression(**case | {"obs_var": 2 * case["obs_var"]}), y + 1)
    assert first != second
    assert len(traces) == 1


def test_vmap_over_parameters_inside_a_function(plain):
    y, case = plain

    def score(obs_var, state_var):
        inner = regression(**case | {"obs_var": obs_var, "state_var": state_var})
        assert inner.batch_shape == ()
        return inner.log_prob(y)

    var = case["obs_var"] * np.array([1.0, 2.0, 5.0])
    state = case["state_var"] * np.array([[1.0], [0.1], [0.0]])
    found = jax.jit(jax.vmap(score))(var, state)
    for i in range(3):
        alone = regression(**case | {"obs_var": var[i], "state_var": state[i]})
        assert_allclose(found[i], log_prob(alone, y), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_follows_the_dtype_it_is_given(plain, dtype):
    y, case = random_case(1, 2, "state_var", time=TIME, learnt=True, gaps=False)
    model = regression(**{name: np.asarray(a, dtype) for name, a in case.items()})
    y, key = y.astype(dtype), jax.random.key(0)

    def everything(m: KalmanRegression):
        paths = m.sample_path(key, y)
        return m.log_prob(y), m.sample(key), m.mean, m.variance, m.filter(y), m.smooth(y), paths

    leaves = jax.tree.leaves(jax.eval_shape(everything, model))
    assert {leaf.dtype for leaf in leaves} == {np.dtype(dtype)}


def test_float32_is_the_default_without_x64_and_agrees(plain):
    y, case = plain
    exact = log_prob(regression(**case), y)
    with jax.enable_x64(False):
        single = log_prob(regression(**case), y)
        assert single.dtype == np.float32
    assert_allclose(single, exact, rtol=1e-5)


# --- missing rows ---------------------------------------------------------------------------


@partial(jax.jit, static_argnames="validate_args")
@jax.value_and_grad
def score(log_noise, case, y, validate_args):
    noise = case["state_var"] * jnp.exp(log_noise)
    model = regression(**case | {"state_var": noise}, validate_args=validate_args)
    return model.log_prob(y)


@pytest.mark.parametrize("validate_args", [True, False])
def test_nan_in_a_row_that_is_not_observed_changes_nothing(gappy, validate_args: bool):
    y, case = gappy
    gap = ~case["observed"]
    value, gradient = score(np.zeros(2), case, y, validate_args)
    assert_allclose(value, reference_log_prob(y, case), rtol=1e-8)
    assert (np.abs(gradient) > 1e-6).all()
    left = case | {"design": np.where(gap[:, None], np.nan, case["design"])}
    y = np.where(gap, np.nan, y)
    again = score(np.zeros(2), left, y, validate_args)
    assert again[0] == value
    assert_array_equal(again[1], gradient)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(regression(**left, validate_args=validate_args).log_prob(y))


@pytest.mark.parametrize("validate_args", [True, False])
@pytest.mark.parametrize("where", ["y", "design"])
def test_nan_in_an_observed_row_is_nan_and_not_a_number(gappy, where: str, validate_args: bool):
    """Not -inf with gradient 0, which a sampler would take for an answer."""
    y, case = gappy
    row = np.flatnonzero(case["observed"])[1]
    y, case = y.copy(), case | {"design": case["design"].copy()}
    (y if where == "y" else case["design"][:, 0])[row] = np.nan
    value, gradient = score(np.zeros(2), case, y, validate_args)
    assert np.isnan(value)
    assert np.isnan(gradient).all()


def test_nothing_observed_is_log_density_zero(plain):
    _, case = plain
    model = regression(**case, observed=np.zeros(TIME, bool))
    assert model.log_prob(np.full(TIME, np.nan)) == 0


# --- what it refuses ------------------------------------------------------------------------


def arguments(case: Case) -> dict[str, Any]:
    """What `KalmanRegression` takes for a case, by name."""
    model = regression(**case)
    names = ("design", "initial_mean", "initial_cov", "drift", "noise", "observed", "dt")
    return {name: getattr(model, name) for name in names}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("initial_mean", np.zeros(3), r"initial_mean has shape .* must end in \(2,\)"),
        ("initial_cov", np.eye(3), r"initial_cov has shape .* must end in \(2, 2\)"),
        ("drift", Walk(np.float64(1.0)), r"Walk.noise has shape \(\), .* must end in \(2, 2\)"),
        ("drift", Walk(np.ones((3, 2, 1))), r"Walk.noise has shape .* must end in \(2, 2\)"),
        ("drift", Discount(np.ones(3), np.ones(2)), r"Discount.moving .* must end in \(2, 2\)"),
        ("observed", np.ones(TIME - 1, bool), rf"observed .* {TIME} rows .* end in \({TIME},\)"),
        ("dt", np.ones(1), rf"dt has shape .* must end in \({TIME},\)"),
        ("design", np.ones(TIME), r"design has shape .* one regressor is design\[:, None\]"),
        ("noise", ConstantVariance(np.ones(3)), r"Incompatible shapes.*\(4,\).*\(3,\)"),
    ],
)
def test_a_wrong_shape_is_named(plain, name: str, value, text: str):
    given = arguments(plain[1]) | {"initial_mean": np.zeros((4, 2))} | {name: value}
    with pytest.raises(ValueError, match=text):
        KalmanRegression(**given)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("length", [1, TIME - 1])
@pytest.mark.parametrize("gaps", [False, True])
def test_a_series_of_another_length_is_refused(plain, length: int, gaps: bool):
    y, case = plain
    if gaps:
        case["observed"] = np.ones(TIME, bool)
    with pytest.raises((ValueError, TypeError)):
        regression(**case).log_prob(y[:length])


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("noise", ConstantVariance(0.0), "ConstantVariance.var"),
        ("noise", ConstantVariance(np.nan), "ConstantVariance.var"),
        ("noise", DiscountedVariance(-1.0, 5.0, 0.9), "DiscountedVariance.var"),
        ("noise", DiscountedVariance(1.0, 0.0, 0.9), "DiscountedVariance.weight"),
        ("noise", DiscountedVariance(1.0, 5.0, 1.2), "DiscountedVariance.factor"),
        ("drift", Walk(np.diag([1.0, -1.0])), "Walk.noise"),
        ("drift", Walk(np.full((2, 2), np.nan)), "Walk.noise"),
        ("drift", Discount(1.2, np.ones((2, 2))), "Discount.factor"),
        ("drift", Discount(0.0, np.ones((2, 2))), "Discount.factor"),
        ("initial_mean", np.array([np.inf, 0.0]), "initial_mean"),
        ("initial_cov", np.full((2, 2), np.nan), "initial_cov"),
        ("dt", np.full(TIME, -1.0), "dt"),
        ("design", np.full((TIME, 2), np.nan), "design"),
    ],
)
def test_validation_names_the_argument_that_is_out_of_range(plain, name: str, value, told: str):
    given = arguments(plain[1]) | {name: value}
    with pytest.raises(ValueError, match=f"KalmanRegression .* got invalid {told} parameter"):
        KalmanRegression(**given, validate_args=True)
    KalmanRegression(**given, validate_args=False)


def test_a_discount_of_one_is_allowed_in_float32(plain):
    y, case = plain
    del case["state_var"]
    with jax.enable_x64(False):
        static = {"state_discount": 1.0, "variance_discount": 1.0, "variance_dof": 5.0}
        found = log_prob(regression(**case, **static, validate_args=True), y)
    dense = reference.dense(case, np.zeros((TIME, 2, 2)))
    assert_allclose(found, dense.student_log_prob(y, 5.0), rtol=1e-5)


# --- draws ----------------------------------------------------------------------------------


def seen_rows(case: Case) -> np.ndarray:
    return np.flatnonzero(case["observed"])


@pytest.mark.parametrize("drift", ["state_var", "state_cov", "state_discount"])
def test_mean_and_variance_are_the_dense_ones(drift: str):
    _, case = random_case(4, 2, drift, time=TIME, closed=True)
    rows = seen_rows(case)
    assert 0 < len(rows) < TIME
    dense = reference.dense(case, reference.increments(case))
    mean, variance = moments(regression(**case))
    assert_allclose(mean[rows], dense.mean[rows], rtol=1e-10)
    assert_allclose(variance[rows], np.diag(dense.cov)[rows], rtol=1e-10)
    # a t with a variance that never fades has its dense scale times dof / (dof - 2)
    mean, variance = moments(regression(**case, variance_discount=1.0, variance_dof=5.0))
    assert_allclose(mean[rows], dense.mean[rows], rtol=1e-10)
    assert_allclose(variance[rows], np.diag(dense.cov)[rows] * 5 / 3, rtol=1e-10)


@pytest.mark.parametrize("drift", ["state_var", "state_discount"])
def test_draws_have_the_dense_mean_and_covariance(drift: str):
    _, case = random_case(5, 2, drift, time=TIME, closed=True)
    rows = seen_rows(case)
    dense = reference.dense(case, reference.increments(case))
    draws = np.asarray(draws_of(regression(**case)))[:, rows]
    gaussian_moments(draws, dense.mean[rows], dense.cov[np.ix_(rows, rows)])


@pytest.mark.variants
@pytest.mark.parametrize("drift", ["state_var", "state_discount"])
def test_draws_with_a_learnt_variance_have_the_stated_mean_and_variance(drift: str):
    _, case = random_case(6, 2, drift, time=TIME)
    case |= {"dt": np.ones(TIME), "variance_discount": 0.95, "variance_dof": 20.0}
    # the standard error of a variance needs a fourth moment, which a t has above 4
    assert reference.loop(np.zeros(TIME), **case).dof.min() > 12
    rows, model = seen_rows(case), regression(**case)
    mean, variance = (np.asarray(a)[rows] for a in moments(model))
    draws = np.asarray(draws_of(model))[:, rows]
    assert draws.shape == (DRAWS, len(rows)) == np.unique(draws, axis=0).shape
    square = (draws - mean) ** 2
    within_standard_errors((draws.mean(0) - mean) / np.sqrt(variance / DRAWS))
    within_standard_errors((square.mean(0) - variance) / (square.std(0) / np.sqrt(DRAWS)))


def test_draws_with_a_learnt_variance_follow_the_forecasts_of_the_loop():
    """Standardised by the textbook loop, a draw is a row of independent uniforms."""
    _, case = random_case(7, 2, "state_var", time=TIME, learnt=True)
    case["observed"] = np.arange(TIME) != 2
    rows, levels = seen_rows(case), []
    for draw in np.asarray(draws_of(regression(**case)))[:1000]:
        passed = reference.loop(draw, **case)
        z = (passed.error / np.sqrt(passed.forecast_var))[rows]
        levels.append(stats.t.cdf(z, passed.dof[rows]))
    levels = np.array(levels)
    for row in levels.T:
        assert stats.kstest(row, "uniform").pvalue > 1e-4
    correlation = np.corrcoef(levels.T) - np.eye(len(rows))
    within_standard_errors(correlation * np.sqrt(len(levels)))


def test_a_draw_at_a_missing_row_is_not_seen_by_later_rows(gappy):
    _, case = gappy
    model = regression(**case)
    draws = np.asarray(draws_of(model))
    # y is not read at a gap, so the error there is minus the forecast from the rows before
    surprise = draws + np.asarray(model.filter(draws).error)
    for gap in np.flatnonzero(~case["observed"]):
        others = np.delete(draws, gap, axis=1)
        correlation = [np.corrcoef(surprise[:, gap], other)[0, 1] for other in others.T]
        within_standard_errors(np.array(correlation) * np.sqrt(DRAWS))


def test_a_missing_row_with_a_known_design_is_forecast_from_it(gappy):
    """The forecast of a gap is what it would be, had the row been observed."""
    _, case = gappy
    y = np.asarray(draws_of(regression(**case)))[0]
    for gap in np.flatnonzero(~case["observed"]):
        seen = case["observed"].copy()
        seen[gap] = True
        passed = [regression(**case | {"observed": o}).filter(y) for o in (case["observed"], seen)]
        forecasts = [-passed[0].error[gap], y[gap] - passed[1].error[gap]]
        assert_allclose(*forecasts, rtol=1e-9)
        assert_allclose(passed[0].forecast_var[gap], passed[1].forecast_var[gap], rtol=1e-12)


def test_variance_is_infinite_where_the_forecast_has_two_degrees_of_freedom_or_fewer(plain):
    model = regression(**plain[1], variance_discount=1.0, variance_dof=1.5)
    # the first squared innovation has no mean, so no later scale has one
    assert_array_equal(moments(model)[1], np.full(TIME, np.inf))


# --- inference ------------------------------------------------------------------------------

PAIRS, LONG = 2, 40


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Two series with one moving slope each, state variances 1 and 0.01, and their design."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(PAIRS, LONG))
    path = np.cumsum(rng.normal(size=(PAIRS, LONG)) * [[1.0], [0.1]], axis=1)
    return (x * path + rng.normal(size=(PAIRS, LONG))), x[..., None]


def hedge(x, y=None):
    with numpyro.plate("pair", PAIRS):
        log_q = numpyro.sample("log_q", dist.Normal(-2.0, 2.0))
        state_var = jnp.exp(log_q)[..., None]
        law = regression(x, jnp.zeros(1), jnp.eye(1), 1.0, state_var=state_var)
        return numpyro.sample("y", law, obs=y)


def test_independent_plates_add_up(pairs):
    y, x = pairs
    log_q = np.array([-1.0, -3.0])
    joint = jax.jit(lambda p: log_density(hedge, (x, y), {}, p)[0])({"log_q": log_q})
    by_hand = 0.0
    for i in range(PAIRS):
        by_hand += dist.Normal(-2.0, 2.0).log_prob(log_q[i])
        law = regression(x[i], np.zeros(1), np.eye(1), 1.0, state_var=np.exp(log_q[i : i + 1]))
        by_hand += log_prob(law, y[i])
    assert_allclose(joint, by_hand, rtol=1e-12)


def test_a_plate_expands_a_series_without_a_batch(plain):
    y, case = plain

    def model(y=None):
        with numpyro.plate("copies", 3):
            return numpyro.sample("y", regression(**case), obs=y)

    copies = np.stack([y, y + 1, y + 2])
    joint, trace = log_density(model, (copies,), {}, {})
    alone = regression(**case)
    assert trace["y"]["fn"].batch_shape == (3,)
    assert_allclose(joint, sum(log_prob(alone, copy) for copy in copies), rtol=1e-12)


def grid_posterior(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of log_q of each pair on a fine grid."""
    grid = np.linspace(-12, 6, 721)
    batch = jnp.exp(grid)[:, None, None]
    law = regression(x, jnp.zeros(1), jnp.eye(1), 1.0, state_var=batch)
    weight = log_prob(law, y) + dist.Normal(-2.0, 2.0).log_prob(grid)[:, None]
    weight = np.exp(weight - weight.max(0))
    assert max(weight[0].max(), weight[-1].max()) < 1e-3
    weight /= weight.sum(0)
    mean = grid @ weight
    return mean, np.sqrt(grid**2 @ weight - mean**2)


@pytest.mark.slow
def test_nuts_finds_the_posterior_of_a_fine_grid(pairs):
    y, x = pairs
    mcmc = MCMC(NUTS(hedge), num_warmup=100, num_samples=200, progress_bar=False)
    mcmc.run(jax.random.key(1), x, y)
    log_q = np.asarray(mcmc.get_samples()["log_q"])
    mean, sd = grid_posterior(y, x)
    assert mean[0] - mean[1] > 2  # the data do tell the two pairs apart
    effective = effective_sample_size(log_q[None])
    assert (effective > 40).all()
    within_standard_errors((log_q.mean(0) - mean) / (sd / np.sqrt(effective)))
    assert ((log_q.std(0) > 0.7 * sd) & (log_q.std(0) < 1.4 * sd)).all()


def test_predictive_draws_series_from_each_parameter_draw(pairs):
    _, x = pairs
    prior = Predictive(hedge, num_samples=7)(jax.random.key(3), x)
    assert prior["log_q"].shape == (7, PAIRS)
    assert prior["y"].shape == (7, PAIRS, LONG)
    assert len(np.unique(prior["y"][..., 0])) == 7 * PAIRS
    log_q = np.linspace(-8.0, 4.0, 400)[:, None] * np.ones(PAIRS)
    drawn = Predictive(hedge, {"log_q": log_q})(jax.random.key(4), x)["y"]
    state_var = np.exp(log_q)[..., None]
    law = regression(x, np.zeros(1), np.eye(1), 1.0, state_var=state_var)
    # each draw is a draw under its own parameter: y' inverse(cov) y is chi-square with LONG
    # degrees of freedom, and so is minus twice the log density up to its value at y = 0
    square = -2 * (log_prob(law, drawn) - log_prob(law, jnp.zeros_like(drawn)))
    count = square.size
    within_standard_errors((square.mean() - LONG) / np.sqrt(2 * LONG / count))
