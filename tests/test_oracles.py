"""Published numbers of others, reproduced; the closed forms stand in `kalman/test_scan.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

from kfmodels.kalman.regression import KalmanRegression
from tests import reference
from tests.benchmarks.spreads import climb, hold
from tests.made_models import regression
from tests.tables import read_table

pytestmark = pytest.mark.usefixtures("x64")

log_prob = jax.jit(KalmanRegression.log_prob)
run_filter = jax.jit(KalmanRegression.filter)
run_smooth = jax.jit(KalmanRegression.smooth)


def legs(prices: pd.DataFrame, target: str, hedge: str) -> tuple[np.ndarray, np.ndarray]:
    """Target `(time,)` and design `[hedge, 1]`."""
    return prices[target].to_numpy(), np.column_stack([prices[hedge], np.ones(len(prices))])


# --- 1. the seed product, tick by tick in `online/test_kalman_ols.py` -----------------------

SEED_STATES = {
    294: (
        [0.5862619781348402, 0.0034064598573656443],
        [0.005189436104539258, -1.2330712005856919, 293.98884752492955],
    ),
    295: (
        [0.5861620741470888, 0.003405671636829966],
        [0.005238177410697875, -1.2409605965399522, 294.9887852793271],
    ),
}
TICKS = {
    294: (
        [0.5855217106683254, 0.0034016229939260647],
        [0.005226738319753954, -1.23960489716516, 294.9888048341461],
    ),
    295: (
        [0.5855216995507875, 0.0034038488248975996],
        # the print has 295.98877718694285: one digit of it is wrong
        [0.005244396950524588, -1.243807056418034, 295.98877717694285],
    ),
}


def full(cov: list[float]) -> np.ndarray:
    return np.array([[cov[0], cov[1]], [cov[1], cov[2]]])


@pytest.mark.parametrize("rows", [294, 295])
def test_the_seed_states_of_apple_on_spy(rows: int):
    y, design = legs(read_table("aapl_spy_close_2016_2017.csv"), "AAPL", "SPY")
    mean, cov = SEED_STATES[rows]
    model = regression(design, np.zeros(2), np.eye(2), 1.0, state_var=np.ones(2))
    filtered = run_filter(model, y).filtered
    assert_allclose(filtered.mean[rows - 1], mean, rtol=1e-12)
    assert_allclose(filtered.cov[rows - 1], full(cov), rtol=1e-12)


@pytest.mark.parametrize("rows", [294, 295])
def test_the_seed_tick(rows: int):
    mean, cov = TICKS[rows]
    start = np.array(SEED_STATES[rows][0]), full(SEED_STATES[rows][1])
    design, one = np.array([[237.97, 1.0]]), np.ones(1)
    model = regression(design, *start, 1.0, state_var=np.ones(2), dt=one)
    filtered = run_filter(model, 139.34 * one).filtered
    assert_allclose(filtered.mean[0], mean, rtol=1e-12)
    assert_allclose(filtered.cov[0], full(cov), rtol=1e-12)


# --- 2. Chan, EWC on EWA --------------------------------------------------------------------


@pytest.fixture
def chan() -> tuple[np.ndarray, np.ndarray]:
    return legs(read_table("chan_ewa_ewc_close.csv"), "EWC", "EWA")


def of_chan(design: np.ndarray) -> KalmanRegression:
    """The settings of the book: coefficients of 0, and certain of it."""
    noise = {"obs_var": 1e-3, "state_var": np.full(2, 1e-4 / (1 - 1e-4))}
    return regression(design, np.zeros(2), np.zeros((2, 2)), **noise)


def test_the_filter_of_chan(chan):
    y, design = chan
    model = of_chan(design)
    passed = run_filter(model, y)
    sd = np.sqrt(passed.forecast_var)
    assert passed.error[0] == 22.95
    assert_allclose(sd[0], 0.031623, atol=5e-7)
    # printed as the predicted slope of row 2, but that is 0: no state noise came before row 1
    assert_allclose(passed.filtered.mean[1, 0], 1.366666, atol=5e-7)
    assert passed.predicted.mean[1, 0] == 0
    assert_allclose(sd[1], 0.163213, atol=5e-7)
    # these two it calls predicted slopes as well: they are filtered ones (t | t) of all 1500 rows;
    # the mean of the predicted ones (t | t-1), the zeros of rows 1 and 2 included, is 1.08909138
    slope = passed.filtered.mean[:, 0]
    assert_allclose(np.median(slope), 1.04736740, atol=5e-9)
    assert_allclose(slope.mean(), 1.08969304, atol=5e-9)
    assert_allclose(passed.predicted.mean[:, 0].mean(), 1.08909138, atol=5e-9)
    assert_allclose(passed.filtered.mean[-1], [0.90249284, 6.76736015], atol=5e-9)
    cov = full([1.48831771e-4, -3.37048055e-3, 7.72984436e-2])
    assert_allclose(passed.filtered.cov[-1], cov, rtol=5e-9)
    assert_allclose(log_prob(model, y), -274558.494525, atol=1e-6, rtol=0)


def test_the_strategy_of_chan(chan):
    y, design = chan
    passed = run_filter(of_chan(design), y)
    error, sd = np.asarray(passed.error), np.sqrt(passed.forecast_var)
    units = np.where(error < -sd, 1.0, 0.0) - np.where(error > sd, 1.0, 0.0)
    prices = np.column_stack([design[:, 0], y])
    shares = units[:, None] * np.column_stack([-passed.filtered.mean[:, 0], np.ones(len(y))])
    profit = (shares[:-1] * np.diff(prices, axis=0)).sum(1)
    gross = np.abs(shares * prices)[:-1].sum(1)
    returns = np.r_[0.0, np.divide(profit, gross, out=np.zeros_like(profit), where=gross > 0)]
    apr = np.prod(1 + returns) ** (252 / len(returns)) - 1
    assert_allclose(apr, 0.26225194, atol=5e-9)
    sharpe = np.sqrt(252) * returns.mean() / returns.std(ddof=1)
    assert_allclose(sharpe, 2.36116164, atol=5e-9)


WIDE = 1e10


def diffuse(design: np.ndarray, state_var, obs_var) -> tuple[KalmanRegression, np.ndarray, float]:
    """A start of relative variance 1e10, columns of size 1; their size, and the missing constant.

    The exact diffuse log likelihood is the limit of `log_prob + log det(initial_cov) / 2`, the
    covariance taken in the units of the unscaled coefficients.
    """
    size = (design**2).mean(0) ** 0.5
    n = len(size)
    start = WIDE * obs_var * jnp.eye(n)
    model = regression(
        design / size, jnp.zeros(n), start, obs_var, state_var=jnp.asarray(state_var) * size**2
    )
    return model, size, 0.5 * n * jnp.log(WIDE * obs_var) - jnp.log(size).sum()


def statsmodels_diffuse(y: np.ndarray, design: np.ndarray, state_var, obs_var: float):
    """Durbin and Koopman's exact diffuse filter and smoother."""
    n = design.shape[1]
    eye = np.eye(n)
    model = KalmanSmoother(k_endog=1, k_states=n, k_posdef=n, transition=eye, selection=eye)
    model.bind(y[:, None].copy())
    model["design"] = design.T[None].copy()
    model["obs_cov"] = np.array([[obs_var]])
    model["state_cov"] = np.diag(state_var)
    model.initialize_diffuse()
    return model.smooth()


CHAN_NOISE = (np.full(2, 1e-4 / (1 - 1e-4)), 1e-3, -914.554516)
BEST_NOISE = (np.array([1.67957e-5, 5.02934e-2]), 8.21088e-3, -172.290595)


@pytest.mark.parametrize(("state_var", "obs_var", "expected"), [CHAN_NOISE, BEST_NOISE])
def test_the_exact_diffuse_likelihood_of_ewc_on_ewa(chan, state_var, obs_var, expected: float):
    y, design = chan
    model, size, constant = diffuse(design, state_var, obs_var)
    found = log_prob(model, y) + constant
    oracle = statsmodels_diffuse(y, design, state_var, obs_var)
    assert oracle.nobs_diffuse == 2
    assert_allclose(oracle.llf, expected, atol=1e-6, rtol=0)
    assert_allclose(found, expected, atol=1e-4, rtol=0)
    # a start of 1e10 is not infinite and costs 6 of 16 digits: 4e-8 here, after two dozen rows
    settled = slice(25, None)
    filtered = run_filter(model, y).filtered
    assert_allclose(filtered.mean[settled] / size, oracle.filtered_state.T[settled], rtol=1e-6)
    cov = oracle.filtered_state_cov.transpose(2, 0, 1)[settled]
    assert_allclose(filtered.cov[settled] / np.outer(size, size), cov, rtol=1e-5)


def test_the_gradient_is_that_of_statsmodels(chan):
    y, design = chan
    at = np.log(np.r_[CHAN_NOISE[0], CHAN_NOISE[1]])

    def oracle(log_noise):
        return statsmodels_diffuse(y, design, np.exp(log_noise[:2]), np.exp(log_noise[2])).llf

    found = jax.jit(jax.grad(diffuse_log_likelihood))(at, y, design)
    # h**4 is 1e-12, the 1e10 of the start leaves about 1e-7 of the digits
    assert_allclose(found, reference.slope(oracle, at), rtol=1e-6)


def diffuse_log_likelihood(log_noise, y, design):
    """At the logarithms of two state variances and of obs_var."""
    model, _, constant = diffuse(design, jnp.exp(log_noise[:2]), jnp.exp(log_noise[2]))
    return model.log_prob(y) + constant


def test_the_published_maximum_is_the_maximum(chan):
    y, design = chan
    state_var, obs_var, _ = BEST_NOISE
    at = np.log(np.r_[state_var, obs_var])
    slope = jax.jit(jax.grad(diffuse_log_likelihood))
    gradient = slope(at, y, design)
    curve = jax.jit(jax.jacfwd(jax.jacfwd(diffuse_log_likelihood)))(at, y, design)
    assert (np.linalg.eigvalsh(curve) < -1).all()
    newton = -np.linalg.solve(curve, gradient)
    # the print is 1e-5 nats short of the top, -172.290585, by statsmodels' reckoning as well
    assert 0 < newton @ gradient / 2 < 1e-4
    assert np.abs(newton).max() < 1e-3
    rest = slope(at + newton, y, design)
    assert abs(rest @ np.linalg.solve(curve, rest)) / 2 < 1e-8
    model, size, _ = diffuse(design, state_var, obs_var)
    final = run_filter(model, y).filtered.mean[-1] / size
    assert_allclose(final, [0.85147589, 7.94908262], rtol=1e-7)


@pytest.mark.parametrize("learnt", [{}, {"variance_discount": 0.95, "variance_dof": 5.0}])
@pytest.mark.parametrize("q", [(0.0, 0.0), (1e-4, 1e-3), (1e-2, 1.0), (1e-1, 10.0)])
def test_float32_agrees_on_whitened_prices(chan, q, learnt):
    """Up to a start of relative variance 1e4; 1e6 costs 0.05 nats and 1e8 gives NaN."""
    y, design = chan
    x = design[:, 0]
    design = np.column_stack([(x - x.mean()) / x.std(), np.ones(len(x))])

    def model(obs_var: float, dtype) -> KalmanRegression:
        arguments = {
            "design": design,
            "initial_mean": np.zeros(2),
            "initial_cov": 1e4 * obs_var * np.eye(2),
            "obs_var": obs_var,
            "state_var": obs_var * np.array(q),
        }
        return regression(
            **{name: np.asarray(a, dtype) for name, a in (arguments | learnt).items()}
        )

    relative = run_filter(model(1.0, np.float64), y)
    obs_var = float(np.mean(relative.error**2 * relative.obs_var / relative.forecast_var))
    double = log_prob(model(obs_var, np.float64), y)
    with jax.enable_x64(False):
        single = log_prob(model(obs_var, np.float32), y.astype(np.float32))
    assert single.dtype == np.float32
    assert_allclose(single, double, atol=0.01, rtol=0)


# --- 3. Nile --------------------------------------------------------------------------------

NILE = (np.array([1469.2]), 15098.5)


def test_the_likelihood_and_the_level_of_the_nile():
    y = read_table("nile.csv")["volume"].to_numpy(float)
    design = np.ones((len(y), 1))
    oracle = statsmodels_diffuse(y, design, *NILE)
    model, _, constant = diffuse(design, *NILE)
    found = log_prob(model, y) + constant
    assert_allclose(found, -633.464564, atol=1e-6, rtol=0)
    assert_allclose(oracle.llf, -633.464564, atol=1e-6, rtol=0)
    # some leave log(2 pi) / 2 of the diffuse row out
    assert_allclose(found + 0.5 * np.log(2 * np.pi), -632.5456, atol=5e-5, rtol=0)
    kept = regression(design, np.zeros(1), 1e7 * np.eye(1), NILE[1], state_var=NILE[0])
    assert_allclose(log_prob(kept, y), -641.5856, atol=5e-5, rtol=0)
    filtered, smoothed = run_filter(model, y).filtered, run_smooth(model, y)
    assert_allclose(filtered.mean, oracle.filtered_state.T, rtol=1e-8)
    assert_allclose(filtered.cov[:, 0, 0], oracle.filtered_state_cov[0, 0], rtol=1e-5)
    assert_allclose(smoothed.mean, oracle.smoothed_state.T, rtol=1e-6)
    assert_allclose(smoothed.cov[:, 0, 0], oracle.smoothed_state_cov[0, 0], rtol=1e-5)


# --- spreads that come back: maximum likelihood of Clegg and Krauss's model -------------------


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("pair", "learnt", "gain", "half_life", "share"),
    [
        ("SPY/IVV", False, 95.7, 2.1, 1.00),
        ("SPY/IVV", True, 40.7, 1.9, 0.90),
        ("GOOG/GOOGL", False, 7.2, 1.8, 0.59),
        ("GOOG/GOOGL", True, 3.9, 1.1, 0.56),
        ("EWC/EWA", False, 2.2, 85.0, 1.00),
        ("EWC/EWA", True, 2.3, 77.0, 1.00),
    ],
)
def test_a_spread_gains_what_was_found_elsewhere(
    pair: str, learnt: bool, gain: float, half_life: float, share: float
):
    top, without = (climb(pair, spread=there, learnt=learnt) for there in (True, False))
    assert top.log_likelihood - without.log_likelihood == pytest.approx(gain, abs=0.5)
    assert top.half_life == pytest.approx(half_life, rel=0.05)
    assert top.share == pytest.approx(share, abs=0.01)


@pytest.mark.slow
@pytest.mark.nightly
def test_intervals_of_a_known_half_life_hold_it():
    found = hold(200)
    assert found["few draws"] < 10
    assert 0.85 <= found["held"] <= 0.95
