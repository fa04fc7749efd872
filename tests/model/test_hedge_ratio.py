"""`hedge_ratio_model`: prior times likelihood, in the user's units, whatever the units are."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, Predictive
from numpyro.infer.util import log_density
from scipy import stats
from scipy.special import expit, logit
from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

from kfmodels import Discounted, HedgeData, Memory, StateDiscount, hedge_ratio_model
from kfmodels.model import Absolute, Diffuse, Known, Zero
from tests import reference
from tests.problems import ROWS, stock_prices
from tests.tables import read_table

DEFAULT = hedge_ratio_model()


def frame(rows: int = ROWS) -> pd.DataFrame:
    """Real prices with three gaps, one of them in the first row."""
    prices = stock_prices(rows)
    prices.iloc[[0, 31], 0] = prices.iloc[20, 1] = np.nan
    return prices


def pair(prices: pd.DataFrame | None = None, hedges=("PEP",), transform: Any = "log") -> HedgeData:
    prices = frame() if prices is None else prices
    return HedgeData.from_prices(prices, target="KO", hedges=hedges, transform=transform)


@partial(jax.jit, static_argnames="model")
def _joint(values, inputs, *, model):
    return log_density(model, (inputs,), {}, values)[0]


def joint(model, data: HedgeData, **values) -> float:
    """Log density of the sampled sites and of the series."""
    values = {name: jnp.asarray(value, float) for name, value in values.items()}
    return float(_joint(values, model.inputs(data), model=model))


def trace(model, data: HedgeData, seed: int = 0) -> dict[str, Any]:
    return handlers.trace(handlers.seed(model, seed)).get_trace(data)


# -- the likelihood, by the textbook loop ----------------------------------------------------------


def loop_case(data: HedgeData, q, obs_scale, *, pivot=None, intercept="random_walk"):
    """Arguments of `reference.loop`: columns [hedges - pivot..., 1], not scaled."""
    x, y = data.x[data.observed], data.y[data.observed]
    n = x.shape[1] + (intercept != "none")
    if intercept == "none":
        pivot = 0.0
    pivot = x.mean(0) if pivot is None else np.broadcast_to(pivot, x.shape[1])
    square = np.append(((x - pivot) ** 2).mean(0), 1.0)[:n]
    level = y.mean() if n > x.shape[1] else 0.0
    mean = np.append(np.zeros(x.shape[1]), level)[:n]
    return {
        "design": np.column_stack([data.x - pivot, np.ones(len(data))])[:, :n],
        "initial_mean": mean,
        "initial_cov": np.diag(9 * ((y - level) ** 2).mean() / square),
        "obs_var": obs_scale**2,
        "state_var": np.asarray(q) * obs_scale**2 / square,
        "observed": data.observed,
        "dt": data.dt,
    }


def as_it_is(data: HedgeData, case, pivot=None):
    """The same in the units of the data, columns [hedges..., 1]: alpha = level - pivot beta."""
    a = np.eye(len(case["initial_mean"]))
    a[-1, :-1] = -data.x[data.observed].mean(0) if pivot is None else -pivot
    return {
        "design": np.column_stack([data.x, np.ones(len(data))]),
        "initial_mean": a @ case["initial_mean"],
        "initial_cov": a @ case["initial_cov"] @ a.T,
        "obs_var": case["obs_var"],
        "state_cov": a @ np.diag(case["state_var"]) @ a.T,
        "observed": case["observed"],
        "dt": case["dt"],
    }


def loop_log_likelihood(data: HedgeData, case) -> float:
    return float(reference.loop(data.y, **case).log_density.sum())


# -- the prior, by scipy ---------------------------------------------------------------------------

BETA, BETA_ALONE, ALPHA = (6, 1.1, 100), (60, 5, 700), (2, 1.003, 40)
"""Median and 90 % range of the default priors on memory: of a hedge beside an intercept that moves,
of one beside none or a static one, and of the intercept."""


def log_prior_of_delta(delta, memory: tuple[float, float, float]) -> float:
    bars = np.array(memory, float)
    log_q = -np.log(bars * (bars - 1))
    sd = (log_q[1] - log_q[2]) / (stats.norm.ppf(0.95) - stats.norm.ppf(0.05))
    delta = np.asarray(delta)
    return float(
        (stats.norm.logpdf(logit(delta), log_q[0], sd) - np.log(delta * (1 - delta))).sum()
    )


def typical_move(data: HedgeData) -> float:
    y, x = np.diff(data.y[data.observed]), np.diff(data.x[data.observed], axis=0)
    rest = y - x @ np.linalg.solve(x.T @ x, x.T @ y)
    return float(np.sqrt((rest**2).mean()))


def log_prior_of_scale(data: HedgeData, obs_scale: float) -> float:
    return float(stats.lognorm.logpdf(obs_scale, s=1.5, scale=0.5 * typical_move(data)))


SETTINGS = {
    "pivot at the mean": {},
    "pivot 0": {"pivot": 0},
    "pivot elsewhere": {"pivot": 4.2},
    "static intercept": {"intercept": "static"},
    "no intercept": {"intercept": "none"},
}


def well_conditioned(options: dict) -> float:
    """An obs_scale under which both filters keep their digits.

    Without an intercept the start is as wide as the target is large; relative to 0.004 squared that
    is 1e7, and seven digits.
    """
    return 0.4 if options.get("intercept") == "none" else 0.004


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("hedges", [("PEP",), ("SPX", "PEP")], ids=["one hedge", "two hedges"])
@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_the_density_is_prior_times_the_textbook_likelihood(options: dict, hedges: tuple):
    data = pair(hedges=hedges)
    delta, alpha, obs_scale = np.array([3e-3, 2e-2])[: len(hedges)], 0.4, well_conditioned(options)
    sites = {"delta_beta": delta, "delta_alpha": alpha, "obs_scale": obs_scale}
    q = np.append(delta / (1 - delta), alpha / (1 - alpha))
    beside = BETA_ALONE if "intercept" in options else BETA
    expected = log_prior_of_delta(delta, beside) + log_prior_of_scale(data, obs_scale)
    if "intercept" in options:
        sites.pop("delta_alpha")
        q = np.append(q[:-1], 0.0) if options["intercept"] == "static" else q[:-1]
    else:
        expected += log_prior_of_delta(alpha, ALPHA)
    expected += loop_log_likelihood(data, loop_case(data, q, obs_scale, **options))
    assert_allclose(joint(hedge_ratio_model(**options), data, **sites), expected, rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("transform", ["log", "level", "return"])
@pytest.mark.parametrize("intercept", ["random_walk", "static", "none"])
def test_the_weak_start_allows_what_least_squares_finds(intercept: str, transform: str):
    """Scale-free, and within one sd of the start: it must not argue with the first rows."""
    data = pair(transform=transform)
    inputs = hedge_ratio_model(intercept=intercept).inputs(data)
    seen = data.observed
    found = np.linalg.lstsq(inputs.design[seen], inputs.y[seen])[0]
    assert (np.abs(found - inputs.start_mean) < np.sqrt(inputs.start_cov.diagonal())).all()


def assert_is_the_raw_model(data: HedgeData, obs_scale: float) -> None:
    """y = x beta + alpha as the literature has it, written out in the data's units."""
    delta, alpha = 1e-4, 0.3
    x, y = data.x[data.observed, 0], data.y[data.observed]
    square = (x**2).mean()
    width = 3 * y.std()
    case = {
        "design": np.column_stack([data.x, np.ones(len(data))]),
        "initial_mean": np.array([0.0, y.mean()]),
        "initial_cov": np.diag([width**2 / square, width**2]),
        "obs_var": obs_scale**2,
        "state_var": obs_scale**2 * np.array([delta / (1 - delta) / square, alpha / (1 - alpha)]),
        "observed": data.observed,
        "dt": data.dt,
    }
    model = hedge_ratio_model(delta={"beta": delta, "alpha": alpha}, obs_scale=obs_scale, pivot=0)
    assert_allclose(joint(model, data), loop_log_likelihood(data, case), rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("transform", ["log", "level", "return"])
def test_pivot_zero_is_independent_random_walks_at_x_equal_zero(transform: str):
    data = pair(transform=transform)
    assert_is_the_raw_model(data, 0.4 * data.y[data.observed].std())


@pytest.mark.usefixtures("x64")
def test_the_pivot_model_is_independent_random_walks_of_centred_regressors():
    data = pair(hedges=("SPX", "PEP"))
    delta, alpha, obs_scale = np.array([1e-3, 1e-2]), 0.3, 0.004
    x, y = data.x[data.observed], data.y[data.observed]
    square, width = x.var(0), 3 * y.std()
    q = np.append(delta / (1 - delta) / square, alpha / (1 - alpha))
    case = {
        "design": np.column_stack([data.x - x.mean(0), np.ones(len(data))]),
        "initial_mean": np.array([0.0, 0.0, y.mean()]),
        "initial_cov": width**2 * np.diag(np.append(1 / square, 1.0)),
        "obs_var": obs_scale**2,
        "state_var": obs_scale**2 * q,
        "observed": data.observed,
        "dt": data.dt,
    }
    model = hedge_ratio_model(delta={"beta": delta.tolist(), "alpha": alpha}, obs_scale=obs_scale)
    assert_allclose(joint(model, data), loop_log_likelihood(data, case), rtol=1e-10)


START = np.array([0.7, -0.1]), np.array([[0.04, -0.1], [-0.1, 0.5]])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("pivot", [None, 0])
@pytest.mark.parametrize(
    ("initial", "start"),
    [(Known(*START), START), (Zero(), (np.zeros(2), np.zeros((2, 2))))],
    ids=["Known", "Zero"],
)
def test_a_start_is_in_the_units_of_the_data_wherever_the_pivot_is(initial, start, pivot):
    data = pair()
    model = hedge_ratio_model(delta=0.05, obs_scale=0.01, initial=initial, pivot=pivot)
    case = as_it_is(data, loop_case(data, [0.05 / 0.95] * 2, 0.01, pivot=pivot), pivot)
    case |= {"initial_mean": start[0], "initial_cov": start[1]}
    assert_allclose(joint(model, data), loop_log_likelihood(data, case), rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("options", [{}, {"intercept": "static"}, {"intercept": "none"}])
def test_state_discounting_divides_the_covariance_of_all_that_moves(options: dict):
    data = pair(hedges=("SPX", "PEP"))
    delta, obs_scale = 2e-3, well_conditioned(options)
    model = hedge_ratio_model(drift=StateDiscount(), **options)
    n = 2 if options.get("intercept") == "none" else 3
    case = loop_case(data, np.zeros(n), obs_scale, **options)
    case.pop("state_var")
    q = delta / (1 - delta)
    p = (q + np.sqrt(q**2 + 4 * q)) / 2
    case["state_discount"] = 1 / (1 + p)  # 1 - gain
    if options.get("intercept") == "static":
        case["moving"] = np.array([True, True, False])
    prior = log_prior_of_delta(delta, BETA_ALONE) + log_prior_of_scale(data, obs_scale)
    found = joint(model, data, delta_beta=delta, obs_scale=obs_scale)
    assert_allclose(found, prior + loop_log_likelihood(data, case), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_a_discounted_variance_starts_at_obs_scale_and_learns():
    data = pair()
    delta, alpha, memory = 3e-3, 0.4, 12.0
    model = hedge_ratio_model(noise=Discounted(dof=6.0))
    obs_scale = 0.5 * typical_move(data)
    q = np.array([delta / (1 - delta), alpha / (1 - alpha)])
    case = loop_case(data, q, obs_scale) | {"variance_discount": 1 - 1 / 12, "variance_dof": 6.0}
    width = np.log(126 / 2) / (stats.norm.ppf(0.95) - stats.norm.ppf(0.05))  # Memory(20, 6, 130)
    prior = stats.norm.logpdf(np.log(memory - 4), np.log(16), width) - np.log(memory - 4)
    prior += log_prior_of_delta(delta, BETA) + log_prior_of_delta(alpha, ALPHA)
    found = joint(model, data, delta_beta=[delta], delta_alpha=alpha, variance_memory=memory)
    assert_allclose(found, prior + loop_log_likelihood(data, case), rtol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mode", [jax.grad, jax.jacfwd], ids=["reverse", "forward"])
def test_the_gradient_of_state_discounting_holds_over_a_long_series(mode):
    """With a discount of 1/2 rounding once grew by a factor of 2 a row, in the tangents only."""
    data = pair(frame(400))
    model = hedge_ratio_model(drift=StateDiscount(), obs_scale=0.004)
    inputs = model.inputs(data)
    case = loop_case(data, np.zeros(2), 0.004)
    case.pop("state_var")

    def density(log_q):
        return log_density(model, (inputs,), {}, {"delta_beta": jax.nn.sigmoid(log_q)})[0]

    def oracle(log_q):
        q = np.exp(log_q[0])
        p = (q + np.sqrt(q**2 + 4 * q)) / 2
        likelihood = loop_log_likelihood(data, case | {"state_discount": 1 / (1 + p)})
        return likelihood + log_prior_of_delta(expit(log_q[0]), BETA_ALONE)

    at = np.log(0.5)  # a memory of 2 bars
    expected = reference.slope(oracle, np.array([at]))[0]
    # differences of a number of this size, 1e-3 apart, have no more digits
    noise = np.finfo(float).eps * abs(oracle(np.array([at]))) / 1e-3
    assert_allclose(jax.jit(mode(density))(at), expected, rtol=1e-8, atol=10 * noise)


# -- the diffuse start: published numbers -----------------------------------------------------------


@pytest.fixture(scope="module")
def chan() -> HedgeData:
    prices = read_table("chan_ewa_ewc_close.csv")
    return HedgeData.from_prices(prices, target="EWC", hedges="EWA", transform="level")


def fixed(state_var, obs_var: float, **options):
    """A model without a prior, in the units of published code."""
    delta = [variance / (1 + variance) for variance in state_var]
    return hedge_ratio_model(
        delta={"beta": Absolute(delta[0]), "alpha": Absolute(delta[1])},
        obs_scale=obs_var**0.5,
        **options,
    )


CHAN = ([1e-4 / (1 - 1e-4)] * 2, 1e-3)
BEST = ([1.67957e-5, 5.02934e-2], 8.21088e-3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("noise", "expected"), [(CHAN, -914.554516), (BEST, -172.290595)])
def test_the_diffuse_start_has_the_exact_diffuse_likelihood(chan, noise, expected: float):
    assert_allclose(
        joint(fixed(*noise, initial=Diffuse(), pivot=0), chan), expected, atol=1e-4, rtol=0
    )


@pytest.mark.usefixtures("x64")
def test_the_diffuse_start_is_as_exact_under_priors_and_a_pivot(chan):
    """Against statsmodels, where the moves of slope and intercept are correlated by the pivot."""
    model = hedge_ratio_model(initial=Diffuse())
    values = {"delta_beta": [2e-3], "delta_alpha": 0.9, "obs_scale": 0.12}
    prior = (
        log_prior_of_delta(2e-3, BETA)
        + log_prior_of_delta(0.9, ALPHA)
        + log_prior_of_scale(chan, 0.12)
    )
    case = as_it_is(chan, loop_case(chan, [2e-3 / (1 - 2e-3), 9.0], 0.12))
    oracle = KalmanFilter(
        k_endog=1, k_states=2, k_posdef=2, transition=np.eye(2), selection=np.eye(2)
    )
    oracle.bind(chan.y[:, None].copy())
    oracle["design"] = case["design"].T[None].copy()
    oracle["obs_cov"] = np.array([[case["obs_var"]]])
    oracle["state_cov"] = case["state_cov"]
    oracle.initialize_diffuse()
    expected = prior + oracle.filter().llf
    assert_allclose(joint(model, chan, **values), expected, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("x64")
def test_pivot_zero_is_the_raw_model_of_ewc_on_ewa(chan):
    assert_is_the_raw_model(chan, 0.1)


@pytest.mark.usefixtures("x64")
def test_the_published_settings_of_chan(chan):
    found = joint(fixed(*CHAN, initial=Zero(), pivot=0), chan)
    assert_allclose(found, -274558.494525, atol=1e-6, rtol=0)


# -- symmetries ------------------------------------------------------------------------------------

VALUES = {"delta_beta": [3e-3], "delta_alpha": 0.4, "obs_scale": 0.004}


def moved(data: HedgeData, factors: dict[str, float]) -> HedgeData:
    prices = data.prices.assign(**{name: data.prices[name] * f for name, f in factors.items()})
    return pair(prices, data.hedges, data.transform)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("model", [DEFAULT, hedge_ratio_model(pivot=0)], ids=["pivot", "raw"])
@pytest.mark.parametrize(("a", "b"), [(100.0, 1.0), (1.0, 0.25), (0.013, 7.0)])
def test_units_of_target_and_hedge_do_not_matter(model, a: float, b: float):
    """y -> a y, x -> b x: only the density of y, and of its scale, is per another unit."""
    data = pair(transform="level")
    values = VALUES | {"obs_scale": 0.3}
    plain = joint(model, data, **values)
    found = joint(model, moved(data, {"KO": a, "PEP": b}), **values | {"obs_scale": 0.3 * a})
    jacobian = (data.observed.sum() + 1) * np.log(a)
    assert_allclose(found, plain - jacobian, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_currency_and_splits_do_not_matter_in_logs():
    """log prices move by a constant: by nothing, to the model that is centred."""
    data = pair()
    split = joint(DEFAULT, moved(data, {"KO": 0.5, "PEP": 1 / 3}), **VALUES)
    assert_allclose(split, joint(DEFAULT, data, **VALUES), rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_returns_do_not_know_units():
    data = pair(transform="return")
    values = VALUES | {"obs_scale": 0.005}
    found = joint(DEFAULT, moved(data, {"KO": 64.0, "PEP": 0.125}), **values)
    assert_allclose(found, joint(DEFAULT, data, **values), rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("pivot", [None, 0])
def test_the_order_of_the_hedges_does_not_matter(pivot):
    model = hedge_ratio_model(pivot=pivot)
    one = joint(model, pair(hedges=("PEP", "SPX")), **VALUES | {"delta_beta": [3e-3, 2e-2]})
    other = joint(model, pair(hedges=("SPX", "PEP")), **VALUES | {"delta_beta": [2e-2, 3e-3]})
    assert_allclose(one, other, rtol=1e-10)
    swapped = joint(model, pair(hedges=("SPX", "PEP")), **VALUES | {"delta_beta": [3e-3, 2e-2]})
    assert abs(swapped - one) > 1e-4  # and the deltas belong to their hedges


@pytest.mark.usefixtures("x64")
def test_relative_delta_and_memory_stay_as_units_change_while_state_var_follows():
    data, scaled = pair(transform="level"), None
    scaled = moved(data, {"KO": 10.0, "PEP": 0.5})
    free = {name: jnp.asarray(value) for name, value in VALUES.items()}
    sites = trace(handlers.substitute(DEFAULT, free), data)
    ten = trace(handlers.substitute(DEFAULT, free | {"obs_scale": jnp.asarray(0.04)}), scaled)
    for name in ("delta", "q", "memory"):
        assert_allclose(ten[name]["value"], sites[name]["value"], rtol=1e-12)
    factor = np.array([(10 / 0.5) ** 2, 10**2])
    assert_allclose(ten["state_var"]["value"], factor * sites["state_var"]["value"], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_recorded_sites_are_one_number_from_several_sides():
    data = pair(hedges=("SPX", "PEP"))
    sites = {name: site["value"] for name, site in trace(DEFAULT, data).items()}
    delta = np.append(sites["delta_beta"], sites["delta_alpha"])
    assert_allclose(sites["delta"], delta, rtol=1e-12)
    assert_allclose(sites["q"], delta / (1 - delta), rtol=1e-12)
    assert_allclose(sites["q"], 1 / (sites["memory"] * (sites["memory"] - 1)), rtol=1e-9)
    assert_allclose(sites["obs_var"], sites["obs_scale"] ** 2, rtol=1e-15)
    square = np.append(data.x[data.observed].var(0), 1.0)
    assert_allclose(sites["state_var"], sites["q"] * sites["obs_var"] / square, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_an_absolute_delta_means_the_same_state_var_whatever_the_data():
    for data in (pair(), pair(transform="level")):
        model = hedge_ratio_model(delta=Absolute(1e-4), obs_scale=0.1)
        sites = trace(model, data)
        assert_allclose(sites["state_var"]["value"], 1e-4 / (1 - 1e-4), rtol=1e-12)


# -- priors and numbers ----------------------------------------------------------------------------

FREE = {"delta_beta", "delta_alpha", "obs_scale"}
ARGUMENTS = {
    "defaults": ({}, FREE),
    "a Memory for all": ({"delta": Memory(60, low=15, high=250)}, FREE),
    "a Memory for one": (
        {"delta": {"beta": Memory(60, low=15, high=250), "alpha": 0.1}},
        FREE - {"delta_alpha"},
    ),
    "the other stays free": ({"delta": {"beta": 0.1}}, FREE - {"delta_beta"}),
    "a distribution": ({"delta": dist.Beta(1.0, 9.0)}, FREE),
    "a number": ({"delta": 1e-3}, {"obs_scale"}),
    "zero": ({"delta": 0.0}, {"obs_scale"}),
    "a number per hedge": ({"delta": {"beta": [1e-3, 1e-2]}}, {"delta_alpha", "obs_scale"}),
    "absolute, free": ({"delta": Absolute(dist.Beta(1.0, 99.0))}, FREE),
    "absolute, a number": ({"delta": Absolute(1e-4)}, {"obs_scale"}),
    "a scale": ({"obs_scale": 0.01}, FREE - {"obs_scale"}),
    "a prior on the scale": ({"obs_scale": dist.HalfNormal(0.01)}, FREE),
    "nothing free": ({"delta": 1e-3, "obs_scale": 0.01}, set()),
    "static": ({"intercept": "static"}, FREE - {"delta_alpha"}),
    "none": ({"intercept": "none"}, FREE - {"delta_alpha"}),
    "discounting": ({"drift": StateDiscount()}, {"delta_beta", "obs_scale"}),
    "discounted": ({"noise": Discounted()}, {"delta_beta", "delta_alpha", "variance_memory"}),
    "discounted, free scale": (
        {"noise": Discounted(), "obs_scale": dist.HalfNormal(0.01)},
        FREE | {"variance_memory"},
    ),
    "a number of bars": ({"noise": Discounted(25)}, {"delta_beta", "delta_alpha"}),
    "a distribution on bars": (
        {"noise": Discounted(dist.Uniform(2.0, 100.0))},
        {"delta_beta", "delta_alpha", "variance_memory"},
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("options", "free"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_distribution_is_sampled_and_a_number_stays(options: dict, free: set[str]):
    model, data = hedge_ratio_model(**options), pair(hedges=("SPX", "PEP"))
    sites = trace(model, data)
    sampled = {name for name, site in sites.items() if site["type"] == "sample"}
    assert sampled == free | {"y"}
    assert sites["y"]["is_observed"]
    assert {"delta", "q", "memory", "state_var", "obs_scale", "obs_var"} <= set(sites)
    n = 2 if options.get("intercept") == "none" else 3
    for name in ("delta", "q", "memory", "state_var"):
        assert sites[name]["value"].shape == (n,)
        assert not np.isnan(sites[name]["value"]).any()


@pytest.mark.usefixtures("x64")
def test_numbers_arrive_where_they_belong():
    data = pair(hedges=("SPX", "PEP"))
    options = {"delta": {"beta": [1e-3, 1e-2], "alpha": 0.25}, "obs_scale": 0.01}
    sites = trace(hedge_ratio_model(**options, noise=Discounted(25)), data)
    assert_allclose(sites["delta"]["value"], [1e-3, 1e-2, 0.25], rtol=1e-12)
    assert sites["obs_scale"]["value"] == 0.01
    assert sites["variance_memory"]["value"] == 25
    static = trace(hedge_ratio_model(delta=1 / 3, intercept="static"), data)
    assert_array_equal(static["delta"]["value"], [1 / 3, 1 / 3, 0.0])
    assert_allclose(static["memory"]["value"], [2.0, 2.0, np.inf], rtol=1e-15)


@pytest.mark.usefixtures("x64")
def test_a_prior_arrives_where_it_belongs():
    data, prior = pair(), Memory(30, low=10, high=100)
    model = hedge_ratio_model(delta={"beta": prior}, obs_scale=dist.Exponential(50.0))
    change = log_prior_of_delta(3e-3, (30, 10, 100)) - log_prior_of_delta(3e-3, BETA)
    change += stats.expon.logpdf(0.004, scale=1 / 50) - log_prior_of_scale(data, 0.004)
    assert_allclose(
        joint(model, data, **VALUES) - joint(DEFAULT, data, **VALUES), change, atol=1e-9
    )


# -- inside the user's own NumPyro -----------------------------------------------------------------


@pytest.mark.slow
def test_it_samples_under_numpyro_s_own_mcmc():
    """Single precision, as NumPyro comes, and prices rather than arrays."""
    kernel = NUTS(DEFAULT, forward_mode_differentiation=True)
    sampler = MCMC(kernel, num_warmup=200, num_samples=200, progress_bar=False)
    sampler.run(jax.random.key(0), pair())
    draws = sampler.get_samples()
    assert {"delta", "obs_var", "obs_scale", "state_var", "memory"} <= set(draws)
    assert draws["delta"].shape == (200, 2)
    assert draws["delta"].dtype == jnp.float32
    assert len(np.unique(draws["obs_scale"])) > 150
    assert all(np.isfinite(draw).all() for draw in draws.values())


def test_single_precision_is_within_a_hundredth_of_a_nat():
    data, prices = pair(), pair(transform="level")
    for given, scale in ((data, 0.004), (prices, 0.2)):
        with jax.enable_x64(True):
            double = joint(DEFAULT, given, **VALUES | {"obs_scale": scale})
        single = joint(DEFAULT, given, **VALUES | {"obs_scale": scale})
        assert 0 < abs(single - double) < 0.01  # and they are not the same number twice


@pytest.mark.usefixtures("x64")
def test_it_is_a_part_of_a_larger_model():
    """Two pairs that share one belief about their speed."""
    one, two = pair(), pair(transform="return")

    def speed(centre):
        logit_of_delta = dist.Normal(centre, 1.0)
        return dist.TransformedDistribution(logit_of_delta, dist.transforms.SigmoidTransform())

    def desk(first, second):
        centre = numpyro.sample("centre", dist.Normal(-8.0, 3.0))
        for name, data in (("first", first), ("second", second)):
            with handlers.scope(prefix=name):
                hedge_ratio_model(delta=speed(centre), intercept="static")(data)

    values = {
        "centre": -7.0,
        "first/delta_beta": jnp.array([1e-3]),
        "first/obs_scale": 0.01,
        "second/delta_beta": jnp.array([2e-3]),
        "second/obs_scale": 0.006,
    }
    found = log_density(desk, (one, two), {}, values)[0]
    expected = stats.norm.logpdf(-7, -8, 3)
    for data, delta, scale in ((one, 1e-3, 0.01), (two, 2e-3, 0.006)):
        expected += stats.norm.logpdf(logit(delta), -7, 1) - np.log(delta * (1 - delta))
        fixed_model = hedge_ratio_model(delta=delta, obs_scale=scale, intercept="static")
        expected += joint(fixed_model, data)
        y, x = data.y[data.observed], data.x[data.observed]
        if data.transform == "return":
            x = np.column_stack([x, np.ones(len(x))])
            rest = y - x @ np.linalg.lstsq(x, y)[0]
            guess = 0.5 * np.sqrt((rest**2).mean())
        else:
            guess = 0.5 * typical_move(data)
        expected += stats.lognorm.logpdf(scale, s=1.5, scale=guess)
    assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_the_prior_predictive_draws_series():
    data = pair()
    draws = Predictive(handlers.uncondition(DEFAULT), num_samples=40)(jax.random.key(0), data)
    assert draws["y"].shape == (40, len(data))
    assert np.isfinite(draws["y"]).all()
    assert len(np.unique(draws["y"][:, 5])) == 40
    assert len(np.unique(draws["obs_scale"])) == 40


@pytest.mark.usefixtures("x64")
def test_the_predictive_has_the_moments_of_the_dense_gaussian():
    data = pair(frame(40))
    model = hedge_ratio_model(delta=0.1, obs_scale=0.01)
    draws = Predictive(handlers.uncondition(model), num_samples=4000)(jax.random.key(1), data)["y"]
    case = loop_case(data, [1 / 9, 1 / 9], 0.01)
    design = np.where(data.observed[:, None], case["design"], 0.0)
    dense = reference.dense(case | {"design": design}, reference.increments(case))
    y = (
        np.asarray(draws)[:, data.observed] + data.y[data.observed].mean()
    )  # the model's y is centred
    mean, cov = dense.mean[data.observed], dense.cov[np.ix_(data.observed, data.observed)]
    errors = (y.mean(0) - mean) / np.sqrt(cov.diagonal() / len(y))
    assert np.abs(errors).max() < 4.5  # 37 standard normals: 1 in 4000
    # whitened by the dense covariance the draws are standard normal, all together and row by row
    white = np.linalg.solve(np.linalg.cholesky(cov), (y - mean).T)
    assert_allclose((white**2).mean(), 1.0, atol=4.5 * np.sqrt(2 / white.size))
    assert np.abs((white**2).mean(1) - 1).max() < 4.5 * np.sqrt(2 / len(y))


# -- complaints ------------------------------------------------------------------------------------

WRONG = [
    ({"delta": {"gamma": 0.1}}, 'delta has the keys "beta" and "alpha", not [\'gamma\']'),
    ({"delta": 1.0}, "delta of beta must lie in [0, 1), not 1.0"),
    ({"delta": {"alpha": -0.1}}, "delta of alpha must lie in [0, 1), not -0.1"),
    ({"delta": {"beta": [0.1, np.nan]}}, "delta of beta must lie in [0, 1)"),
    ({"delta": Absolute(1.5)}, "delta of beta must lie in [0, 1), not 1.5"),
    ({"intercept": "fixed"}, 'intercept must be "random_walk", "static" or "none", not \'fixed\''),
    (
        {"delta": {"alpha": 0.1}, "intercept": "static"},
        'delta["alpha"] has no meaning with intercept="static": leave it out',
    ),
    (
        {"delta": {"alpha": 0.1}, "drift": StateDiscount()},
        'StateDiscount has one memory for all that moves: give delta["beta"] only',
    ),
    ({"intercept": "none", "pivot": 3.0}, "use pivot=0"),
    ({"noise": "constant"}, "noise must be one of Constant(...), Discounted(...), not 'constant'"),
    ({"drift": 0.9}, "drift must be one of RandomWalk(...), StateDiscount(...), not 0.9"),
    (
        {"initial": 0},
        "initial must be one of Weak(...), Known(...), Diffuse(...), Zero(...), not 0",
    ),
    (
        {"delta": Absolute(1e-4), "noise": Discounted()},
        "an Absolute delta needs Constant noise and RandomWalk drift",
    ),
    (
        {"delta": {"beta": Absolute(1e-4)}, "drift": StateDiscount()},
        "an Absolute delta needs Constant noise and RandomWalk drift",
    ),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("options", "text"), WRONG)
def test_an_argument_that_cannot_be_is_refused(options: dict, text: str):
    with pytest.raises(ValueError, match=re.escape(text)):
        hedge_ratio_model(**options)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Discounted(4.0), "Discounted: memory must be above 4 bars"),
        (lambda: Discounted(Memory(9, low=2, high=30)), "above 4 bars, where its forecasts have"),
        (lambda: Discounted(dof=0), "Discounted: dof must be positive, not 0"),
        (lambda: Known([0.0, 0.0], np.eye(3)), "so cov must be (2, 2), not (3, 3)"),
        (lambda: Known([0.0, 0.0], [[1, 2], [2, 1]]), "eigenvalues [-1.0, 3.0]"),
        (lambda: Known([0.0, 0.0], [[1, 0.5], [0, 1]]), "cov is not a covariance"),
    ],
)
def test_an_assumption_that_cannot_be_is_refused(make, text: str):
    with pytest.raises(ValueError, match=re.escape(text)):
        make()


def test_a_start_of_the_wrong_length_names_the_coefficients():
    model = hedge_ratio_model(initial=Known([1.0, 0.0], np.eye(2)))
    with pytest.raises(ValueError, match="2 coefficients, the model 3: SPX, PEP, alpha"):
        model.inputs(pair(hedges=("SPX", "PEP")))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"pivot": [1.0, 2.0, 3.0]}, "pivot has 3 values, but there are 2 hedges: SPX, PEP"),
        (
            {"delta": {"beta": [0.1, 0.2, 0.3]}},
            "delta of beta lists 3 values, but there are 2 hedges",
        ),
        (
            {"delta": {"beta": Absolute([0.1])}},
            "delta of beta lists 1 values, but there are 2 hedges",
        ),
    ],
)
def test_a_list_is_as_long_as_there_are_hedges(options: dict, text: str):
    with pytest.raises(ValueError, match=re.escape(text)):
        hedge_ratio_model(**options).inputs(pair(hedges=("SPX", "PEP")))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("obs_scale", [0.0, -1.0, np.inf, Memory(60, low=5, high=700)])
def test_a_scale_is_a_positive_number(obs_scale):
    with pytest.raises(ValueError, match="obs_scale is a sd: a NumPyro distribution or a positive"):
        hedge_ratio_model(obs_scale=obs_scale)


def test_a_target_that_never_moves_is_refused():
    prices = frame()
    prices["KO"] = 40.0
    with pytest.raises(ValueError, match="KO never moves: there is nothing to hedge"):
        DEFAULT.inputs(pair(prices))


def test_a_target_that_is_its_hedge_has_no_noise():
    prices = frame()
    prices["KO"] = 3 * prices["PEP"]
    for transform in ("log", "level", "return"):
        with pytest.raises(ValueError, match="KO moves in exact proportion to PEP"):
            DEFAULT.inputs(pair(prices, transform=transform))


def test_too_few_rows_are_refused_when_the_model_reads_them():
    data = pair()
    with pytest.raises(ValueError, match="only 8 common rows of KO and PEP"):
        DEFAULT.inputs(data.before(data.index[9]))
    with pytest.raises(ValueError, match="only 8 common rows"):
        DEFAULT(data.before(data.index[9]))
