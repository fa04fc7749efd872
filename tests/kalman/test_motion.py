"""Laws with a transition: reversion, a matrix, and a time of its own for each coefficient."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from statsmodels.tsa.statespace.mlemodel import MLEModel

from kfmodels import KalmanRegression
from kfmodels.kalman.motion import Discount, Reversion, Transition, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance
from kfmodels.kalman.step import State, predict
from tests import reference
from tests.closeness import gaussian_moments, scaled_close

pytestmark = pytest.mark.usefixtures("x64")

TIME, N = 10, 3
PHI = np.array([1.0, 0.8, 0.3])
STEP = np.array([0.3, 0.0, 0.0])
SETTLED = np.array([0.0, 0.7, 0.4])
TREND = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -0.6]])
VAR = 1.7


def rows_of(seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(N, N))
    rows = {
        "design": rng.normal(1.0, 1.0, (TIME, N)),
        "initial_mean": rng.normal(size=N),
        "initial_cov": root @ root.T,
        "observed": rng.random(TIME) < 0.8,
    }
    return rng.normal(0, 3, TIME), rows


def posed(rows: dict[str, Any], law: Any, noise: Any = None, **more: Any) -> KalmanRegression:
    noise = ConstantVariance(jnp.asarray(VAR)) if noise is None else noise
    return KalmanRegression(drift=jax.tree.map(jnp.asarray, law), noise=noise, **rows, **more)


def reversion() -> Reversion:
    return Reversion(np.diag(STEP) / VAR, PHI, np.diag(SETTLED) / VAR)


def settled_steps(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors `(T, n)` and covariances added `(T, n, n)` in times `(T, n)`, in the units of y."""
    factors = PHI**times
    added = STEP * times + SETTLED * (1 - factors**2)
    return factors, added[:, :, None] * np.eye(N)


def cases() -> dict[str, tuple[KalmanRegression, np.ndarray, reference.Dense]]:
    y, rows = rows_of(3)
    rng = np.random.default_rng(4)
    dt = rng.exponential(1.0, TIME)
    own = np.where(rng.random((TIME, N)) < 0.4, rng.exponential(5.0, (TIME, N)), 0.0)
    own[4, 2] = 1e6  # the last begins anew here
    unit = np.r_[0.0, np.ones(TIME - 1)]
    even = np.tile(unit[:, None], N)
    noise = np.array([[0.5, 0.2, 0.0], [0.2, 0.3, 0.1], [0.0, 0.1, 0.4]])
    case = rows | {"obs_var": VAR}
    timed = dt[:, None] + own
    walked = noise * np.minimum(timed[:, :, None], timed[:, None])
    turned = np.where(unit[:, None, None] > 0, TREND, np.eye(N))
    times = np.asarray(unit)[:, None, None] * noise
    return {
        "reversion": (
            posed(rows, reversion()),
            y,
            reference.dense(case, *settled_steps(even)[::-1]),
        ),
        "reversion by its own time": (
            posed(rows, reversion(), dt=dt, gap_time=own),
            y,
            reference.dense(case, *settled_steps(timed)[::-1]),
        ),
        "walks by their own time": (
            posed(rows, Walk(noise / VAR), dt=dt, gap_time=own),
            y,
            reference.dense(case, walked),
        ),
        "matrix": (
            posed(rows, Transition(TREND, noise / VAR)),
            y,
            reference.dense(case, times, turned),
        ),
    }


@pytest.mark.variants
@pytest.mark.parametrize("name", cases())
def test_every_pass_is_the_dense_gaussian(name: str):
    model, y, dense = cases()[name]
    score, passed, smoothed = jax.jit(lambda m: (m.log_prob(y), m.filter(y), m.smooth(y)))(model)
    path, cov = dense.given(y)
    scaled_close(score, dense.log_prob(y), 1e-8)
    scaled_close(smoothed.mean, path, 1e-8)
    scaled_close(smoothed.cov, np.einsum("titj->tij", cov), 1e-8)
    scaled_close(passed.filtered.mean[-1], path[-1], 1e-8)
    scaled_close(model.mean, dense.mean, 1e-8)
    scaled_close(model.variance, np.diag(dense.cov), 1e-8)


@pytest.mark.variants
@pytest.mark.parametrize("name", ["reversion by its own time", "matrix"])
def test_draws_have_the_moments_of_the_dense_gaussian(name: str):
    model, y, dense = cases()[name]
    keys = jax.random.split(jax.random.key(0), 20_000)
    paths = np.asarray(jax.jit(jax.vmap(lambda key: model.sample_path(key, y)))(keys))
    mean, cov = dense.given(y)
    for at in (0, 4, TIME - 1):
        gaussian_moments(paths[:, at], mean[at], cov[at, :, at])


@pytest.mark.slow
@pytest.mark.parametrize("learnt", [False, True])
def test_the_gradient_is_that_of_finite_differences(learnt: bool):
    y, rows = rows_of(8)
    own = np.zeros((TIME, N))
    own[5] = [0.0, 2.0, 1e6]

    @jax.jit
    def score(at: Any) -> Any:
        law = Reversion(
            jnp.diag(jnp.append(jnp.exp(at[:1]), jnp.zeros(2))),
            jnp.append(jnp.ones(1), jax.nn.sigmoid(at[1:3])),
            jnp.diag(jnp.append(jnp.zeros(1), jnp.exp(at[3:5]))),
        )
        learns = DiscountedVariance(VAR, 4.0, 0.9) if learnt else ConstantVariance(VAR)
        return posed(rows, law, jax.tree.map(jnp.asarray, learns), gap_time=own).log_prob(y)

    here = np.array([-1.0, 1.4, -0.8, -0.4, -0.9])
    wide = 1e-5 * np.eye(5)
    slopes = [(score(here + step) - score(here - step)) / 2e-5 for step in wide]
    assert_allclose(jax.grad(score)(here), slopes, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("law", [reversion(), Transition(TREND, np.diag([0.5, 0.3, 0.4]))])
def test_statsmodels_finds_the_same(law: Any):
    y, rows = rows_of(11)
    transition = np.diag(PHI) if isinstance(law, Reversion) else TREND
    steps = (
        np.diag(STEP + SETTLED * (1 - PHI**2)) if isinstance(law, Reversion) else law.noise * VAR
    )
    theirs = MLEModel(np.where(rows["observed"], y, np.nan), k_states=N, k_posdef=N)
    theirs["design"] = rows["design"].T[None]
    theirs["obs_cov", 0, 0] = VAR
    theirs["transition"], theirs["selection"], theirs["state_cov"] = transition, np.eye(N), steps
    theirs.ssm.initialize_known(rows["initial_mean"], rows["initial_cov"])
    found = theirs.ssm.smooth()
    ours = posed(rows, law)
    scaled_close(ours.log_prob(y), found.llf, 1e-8)
    scaled_close(ours.smooth(y).mean, found.smoothed_state.T, 1e-8)
    scaled_close(ours.filter(y).filtered.mean, found.filtered_state.T, 1e-8)


@pytest.mark.parametrize(
    "law",
    [
        Walk(np.diag([0.4, 0.2])),
        Discount(np.asarray(0.9), np.ones((2, 2))),
        Reversion(np.diag([0.4, 0.0]), np.array([1.0, 0.6]), np.diag([0.0, 2.0])),
    ],
)
def test_a_time_of_each_coefficient_is_the_shared_one_where_they_agree(law: Any):
    start = State(np.array([1.0, -2.0]), np.array([[2.0, 0.7], [0.7, 1.0]]))
    shared, each = predict(start, law, 1.7), predict(start, law, np.array([1.7, 1.7]))
    assert_allclose(each.mean, shared.mean, rtol=1e-15)
    assert_allclose(each.cov, shared.cov, rtol=1e-14)
    apart = predict(start, law, np.array([0.3, 9.0])).cov
    assert np.linalg.eigvalsh(apart).min() > 0


def test_a_session_that_starts_anew_forgets_the_coefficient_and_no_other():
    start = State(np.array([1.0, -2.0]), np.array([[2.0, 0.7], [0.7, 1.0]]))
    law = Reversion(np.diag([0.4, 0.0]), np.array([1.0, 0.999]), np.diag([0.0, 3.0]))
    after = predict(start, law, np.array([1.0, 1e6]))
    assert_allclose(after.mean, [1.0, 0.0], atol=1e-200)
    assert_allclose(after.cov, [[2.4, 0.0], [0.0, 3.0]], atol=1e-200)


def test_argument_names_say_which_matrix_is_wrong():
    _, rows = rows_of(1)
    with pytest.raises(
        ValueError, match=r"Transition.matrix has shape \(2, 2\).* must end in \(3, 3\)"
    ):
        posed(rows, Transition(np.eye(2), np.eye(3)))
    with pytest.raises(ValueError, match="invalid Reversion.factor"):
        posed(rows, reversion()._replace(factor=PHI + 1), validate_args=True)
