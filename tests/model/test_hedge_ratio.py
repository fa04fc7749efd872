"""`hedge_ratio_model`: prior times likelihood, in the user's units, whatever the units are."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, Predictive
from numpyro.infer.util import log_density
from scipy import stats
from scipy.special import logit
from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

from kfmodels import (
    Constant,
    Discounted,
    HedgeData,
    Horseshoe,
    Memory,
    Moves,
    StateDiscount,
    hedge_ratio_model,
)
from kfmodels.model import Absolute, Diffuse, Known, Zero
from tests import reference
from tests.problems import gappy_pair as pair
from tests.problems import hedge_case, least_squares_on_changes
from tests.tables import read_table

pytestmark = pytest.mark.usefixtures("x64")

DEFAULT = hedge_ratio_model(noise=Constant())


@partial(jax.jit, static_argnames="model")
def _joint(values, inputs, *, model):
    return log_density(model, (inputs,), {}, values)[0]


def joint(model, data: HedgeData, **values) -> float:
    """Log density of the sampled sites and of the series."""
    values = {name: jnp.asarray(value, float) for name, value in values.items()}
    return float(_joint(values, model.inputs(data), model=model))


def trace(model, data: HedgeData) -> dict[str, Any]:
    return handlers.trace(handlers.seed(model, 0)).get_trace(data)


def values(model, data: HedgeData) -> dict[str, Any]:
    """What the sites hold, by one program instead of one for each step of the model."""
    return jax.jit(lambda: {name: site["value"] for name, site in trace(model, data).items()})()


# -- the likelihood, by the textbook loop ----------------------------------------------------------


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


def log_prior_of_scale(data: HedgeData, obs_scale: float) -> float:
    _, left = least_squares_on_changes(data)
    return float(stats.lognorm.logpdf(obs_scale, s=1.5, scale=0.5 * left))


SETTINGS = {
    "pivot at the mean": ({}, "log", 0.004),
    "pivot 0": ({"pivot": 0}, "log", 0.004),
    "pivot 0, levels": ({"pivot": 0}, "level", 0.4),
    "pivot 0, returns": ({"pivot": 0}, "return", 0.004),
    "pivot elsewhere": ({"pivot": 4.2}, "log", 0.004),
    "static intercept": ({"intercept": "static"}, "log", 0.004),
    # without one the start is as wide as the target is large: 1e7 times 0.004 squared, seven digits
    "no intercept": ({"intercept": "none"}, "log", 0.4),
}


@pytest.mark.parametrize("hedges", [("PEP",), ("SPX", "PEP")], ids=["one hedge", "two hedges"])
@pytest.mark.parametrize(("options", "transform", "obs_scale"), SETTINGS.values(), ids=SETTINGS)
def test_the_density_is_prior_times_the_textbook_likelihood(options, transform, obs_scale, hedges):
    data = pair(hedges=hedges, transform=transform)
    delta, alpha = np.array([3e-3, 2e-2])[: len(hedges)], 0.4
    sites = {"delta_beta": delta, "delta_alpha": alpha, "obs_scale": obs_scale}
    q = np.append(delta / (1 - delta), alpha / (1 - alpha))
    beside = BETA_ALONE if "intercept" in options else BETA
    expected = log_prior_of_delta(delta, beside) + log_prior_of_scale(data, obs_scale)
    if "intercept" in options:
        sites.pop("delta_alpha")
        q = np.append(q[:-1], 0.0) if options["intercept"] == "static" else q[:-1]
    else:
        expected += log_prior_of_delta(alpha, ALPHA)
    expected += loop_log_likelihood(data, hedge_case(data, q, obs_scale, **options))
    assert_allclose(
        joint(hedge_ratio_model(**{"noise": Constant()} | options), data, **sites),
        expected,
        rtol=1e-10,
    )


@pytest.mark.parametrize("transform", ["log", "level", "return"])
@pytest.mark.parametrize("intercept", ["random_walk", "static", "none"])
def test_the_weak_start_allows_what_least_squares_finds(intercept: str, transform: str):
    """Scale-free, and within one sd of the start: it must not argue with the first rows."""
    data = pair(transform=transform)
    inputs = hedge_ratio_model(intercept=intercept, noise=Constant()).inputs(data)
    seen = data.observed
    found = np.linalg.lstsq(inputs.design[seen], inputs.y[seen])[0]
    assert (np.abs(found - inputs.start_mean) < np.sqrt(inputs.start_cov.diagonal())).all()


START = np.array([0.7, -0.1]), np.array([[0.04, -0.1], [-0.1, 0.5]])


@pytest.mark.parametrize("pivot", [None, 0])
@pytest.mark.parametrize(
    ("initial", "start"),
    [(Known(*START), START), (Zero(), (np.zeros(2), np.zeros((2, 2))))],
    ids=["Known", "Zero"],
)
def test_a_start_is_in_the_units_of_the_data_wherever_the_pivot_is(initial, start, pivot):
    data = pair()
    model = hedge_ratio_model(delta=0.05, obs_scale=0.01, initial=initial, pivot=pivot)
    case = as_it_is(data, hedge_case(data, [0.05 / 0.95] * 2, 0.01, pivot=pivot), pivot)
    case |= {"initial_mean": start[0], "initial_cov": start[1]}
    assert_allclose(joint(model, data), loop_log_likelihood(data, case), rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "obs_scale"),
    [({}, 0.004), ({"intercept": "static"}, 0.004), ({"intercept": "none"}, 0.4)],
)
def test_state_discounting_divides_the_covariance_of_all_that_moves(options: dict, obs_scale):
    data, delta = pair(hedges=("SPX", "PEP")), 2e-3
    model = hedge_ratio_model(drift=StateDiscount(), **{"noise": Constant()} | options)
    n = 2 if options.get("intercept") == "none" else 3
    case = hedge_case(data, np.zeros(n), obs_scale, **options)
    case.pop("state_var")
    q = delta / (1 - delta)
    p = (q + np.sqrt(q**2 + 4 * q)) / 2
    case["state_discount"] = 1 / (1 + p)  # 1 - gain
    if options.get("intercept") == "static":
        case["moving"] = np.array([True, True, False])
    prior = log_prior_of_delta(delta, BETA_ALONE) + log_prior_of_scale(data, obs_scale)
    found = joint(model, data, delta_beta=delta, obs_scale=obs_scale)
    assert_allclose(found, prior + loop_log_likelihood(data, case), rtol=1e-10)


def test_a_discounted_variance_starts_at_obs_scale_and_learns():
    data = pair()
    delta, alpha, memory = 3e-3, 0.4, 12.0
    model = hedge_ratio_model(noise=Discounted(dof=6.0))
    obs_scale = 0.5 * least_squares_on_changes(data)[1]
    q = np.array([delta / (1 - delta), alpha / (1 - alpha)])
    case = hedge_case(data, q, obs_scale) | {"variance_discount": 1 - 1 / 12, "variance_dof": 6.0}
    width = np.log(126 / 2) / (stats.norm.ppf(0.95) - stats.norm.ppf(0.05))  # Memory(20, 6, 130)
    prior = stats.norm.logpdf(np.log(memory - 4), np.log(16), width) - np.log(memory - 4)
    prior += log_prior_of_delta(delta, BETA) + log_prior_of_delta(alpha, ALPHA)
    found = joint(model, data, delta_beta=[delta], delta_alpha=alpha, variance_memory=memory)
    assert_allclose(found, prior + loop_log_likelihood(data, case), rtol=1e-10)


# -- the diffuse start: published numbers -----------------------------------------------------------


@pytest.fixture(scope="module")
def chan() -> HedgeData:
    prices = read_table("chan_ewa_ewc_close.csv")
    return HedgeData.from_prices(prices, target="EWC", hedges="EWA", transform="level")


@pytest.mark.parametrize(
    ("state_var", "obs_var", "initial", "expected"),
    [
        ([1e-4 / (1 - 1e-4)] * 2, 1e-3, Diffuse(), -914.554516),
        ([1e-4 / (1 - 1e-4)] * 2, 1e-3, Zero(), -274558.494525),
        ([1.67957e-5, 5.02934e-2], 8.21088e-3, Diffuse(), -172.290595),
    ],
)
def test_published_noise_has_its_published_likelihood(chan, state_var, obs_var, initial, expected):
    beta, alpha = (Absolute(var / (1 + var)) for var in state_var)
    delta = {"beta": beta, "alpha": alpha}
    model = hedge_ratio_model(delta=delta, obs_scale=obs_var**0.5, initial=initial, pivot=0)
    within = 1e-4 if initial == Diffuse() else 1e-6
    assert_allclose(joint(model, chan), expected, atol=within, rtol=0)


def test_the_diffuse_start_is_as_exact_under_priors_and_a_pivot(chan):
    """Against statsmodels, where the moves of slope and intercept are correlated by the pivot."""
    model = hedge_ratio_model(initial=Diffuse(), noise=Constant())
    values = {"delta_beta": [2e-3], "delta_alpha": 0.9, "obs_scale": 0.12}
    prior = (
        log_prior_of_delta(2e-3, BETA)
        + log_prior_of_delta(0.9, ALPHA)
        + log_prior_of_scale(chan, 0.12)
    )
    case = as_it_is(chan, hedge_case(chan, [2e-3 / (1 - 2e-3), 9.0], 0.12))
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


# -- symmetries ------------------------------------------------------------------------------------

VALUES = {"delta_beta": [3e-3], "delta_alpha": 0.4, "obs_scale": 0.004}


def moved(data: HedgeData, factors: dict[str, float]) -> HedgeData:
    prices = data.prices.assign(**{name: data.prices[name] * f for name, f in factors.items()})
    return pair(prices, data.hedges, data.transform)


UNIT_FREE = {
    "pivot": {},
    "raw": {"pivot": 0},
    "moves": {"delta": {"beta": Moves(0.05, low=0.01, high=0.25, unit="bars")}},
    "horseshoe, discounted": {"delta": {"beta": Horseshoe(60)}, "noise": Discounted()},
}


@pytest.mark.parametrize("options", UNIT_FREE.values(), ids=UNIT_FREE)
@pytest.mark.parametrize(("a", "b"), [(100.0, 1.0), (1.0, 0.25), (0.013, 7.0)])
def test_units_of_target_and_hedge_do_not_matter(options: dict, a: float, b: float):
    """y -> a y, x -> b x: only the density of y, and of its scale, is per another unit."""
    data, model, scaled = (
        pair(transform="level"),
        hedge_ratio_model(**{"noise": Constant()} | options),
        1,
    )
    here, there = (VALUES | {"obs_scale": unit * 0.3} for unit in (1, a))
    if "noise" in options:
        here = there = {"delta_beta": [3e-3], "delta_alpha": 0.4, "variance_memory": 12.0}
        scaled = 0
    found = joint(model, moved(data, {"KO": a, "PEP": b}), **there)
    jacobian = (data.observed.sum() + scaled) * np.log(a)
    assert_allclose(found, joint(model, data, **here) - jacobian, rtol=1e-10)


@pytest.mark.parametrize("transform", ["log", "return"])
def test_currency_and_splits_do_not_matter_in_logs_and_returns(transform: str):
    """Log prices move by a constant: by nothing, to the model that is centred."""
    data = pair(transform=transform)
    split = joint(DEFAULT, moved(data, {"KO": 64.0, "PEP": 1 / 3}), **VALUES)
    assert_allclose(split, joint(DEFAULT, data, **VALUES), rtol=1e-10)


@pytest.mark.parametrize("pivot", [None, 0])
def test_the_order_of_the_hedges_does_not_matter(pivot):
    model = hedge_ratio_model(pivot=pivot, noise=Constant())
    one = joint(model, pair(hedges=("PEP", "SPX")), **VALUES | {"delta_beta": [3e-3, 2e-2]})
    other = joint(model, pair(hedges=("SPX", "PEP")), **VALUES | {"delta_beta": [2e-2, 3e-3]})
    assert_allclose(one, other, rtol=1e-10)
    swapped = joint(model, pair(hedges=("SPX", "PEP")), **VALUES | {"delta_beta": [3e-3, 2e-2]})
    assert abs(swapped - one) > 1e-4  # and the deltas belong to their hedges


def test_the_recorded_sites_are_one_number_from_several_sides():
    data = pair(hedges=("SPX", "PEP"))
    sites = values(DEFAULT, data)
    delta = np.append(sites["delta_beta"], sites["delta_alpha"])
    assert_allclose(sites["delta"], delta, rtol=1e-12)
    assert_allclose(sites["q"], delta / (1 - delta), rtol=1e-12)
    assert_allclose(sites["q"], 1 / (sites["memory"] * (sites["memory"] - 1)), rtol=1e-9)
    assert_allclose(sites["obs_var"], sites["obs_scale"] ** 2, rtol=1e-15)
    square = np.append(data.x[data.observed].var(0), 1.0)
    assert_allclose(sites["state_var"], sites["q"] * sites["obs_var"] / square, rtol=1e-12)


def test_an_absolute_delta_means_the_same_state_var_whatever_the_data():
    for data in (pair(), pair(transform="level")):
        model = hedge_ratio_model(delta=Absolute(1e-4), obs_scale=0.1)
        assert_allclose(values(model, data)["state_var"], 1e-4 / (1 - 1e-4), rtol=1e-12)


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
        {"noise": Discounted(dist.Uniform(5.0, 100.0))},
        {"delta_beta", "delta_alpha", "variance_memory"},
    ),
}


@pytest.mark.parametrize(("options", "free"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_distribution_is_sampled_and_a_number_stays(options: dict, free: set[str]):
    model, data = hedge_ratio_model(**{"noise": Constant()} | options), pair(hedges=("SPX", "PEP"))
    sites = trace(model, data)
    sampled = {name for name, site in sites.items() if site["type"] == "sample"}
    assert sampled == free | {"y"}
    assert sites["y"]["is_observed"]
    assert {"delta", "q", "memory", "state_var", "obs_scale", "obs_var"} <= set(sites)
    n = 2 if options.get("intercept") == "none" else 3
    for name in ("delta", "q", "memory", "state_var"):
        assert sites[name]["value"].shape == (n,)
        assert not np.isnan(sites[name]["value"]).any()


def test_numbers_arrive_where_they_belong():
    data = pair(hedges=("SPX", "PEP"))
    options = {"delta": {"beta": [1e-3, 1e-2], "alpha": 0.25}, "obs_scale": 0.01}
    sites = trace(hedge_ratio_model(**options, noise=Discounted(25)), data)
    assert_allclose(sites["delta"]["value"], [1e-3, 1e-2, 0.25], rtol=1e-12)
    assert sites["obs_scale"]["value"] == 0.01
    assert sites["variance_memory"]["value"] == 25
    static = trace(hedge_ratio_model(delta=1 / 3, intercept="static", noise=Constant()), data)
    assert_array_equal(static["delta"]["value"], [1 / 3, 1 / 3, 0.0])
    assert_allclose(static["memory"]["value"], [2.0, 2.0, np.inf], rtol=1e-15)


def test_a_prior_arrives_where_it_belongs():
    data, prior = pair(), Memory(30, low=10, high=100)
    model = hedge_ratio_model(delta={"beta": prior}, obs_scale=dist.Exponential(50.0))
    change = log_prior_of_delta(3e-3, (30, 10, 100)) - log_prior_of_delta(3e-3, BETA)
    change += stats.expon.logpdf(0.004, scale=1 / 50) - log_prior_of_scale(data, 0.004)
    assert_allclose(
        joint(model, data, **VALUES) - joint(DEFAULT, data, **VALUES), change, atol=1e-9
    )


# -- inside the user's own NumPyro -----------------------------------------------------------------


@pytest.mark.nightly
def test_it_samples_under_numpyro_s_own_mcmc():
    """Single precision, as NumPyro comes, and prices rather than arrays."""
    with jax.enable_x64(False):
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
    for transform, scale in (("log", 0.004), ("level", 0.2)):
        given, values = pair(transform=transform), VALUES | {"obs_scale": scale}
        with jax.enable_x64(False):
            single = joint(DEFAULT, given, **values)
        # and they are not the same number twice
        assert 0 < abs(single - joint(DEFAULT, given, **values)) < 0.01


def test_it_is_a_part_of_a_larger_model():
    """Two pairs that share one belief about their speed."""
    data = {"first": pair(), "second": pair(transform="return")}
    values = {"first": (1e-3, 0.01), "second": (2e-3, 0.006)}

    def speed(centre):
        logit_of_delta = dist.Normal(centre, 1.0)
        return dist.TransformedDistribution(logit_of_delta, dist.transforms.SigmoidTransform())

    def desk(pairs):
        centre = numpyro.sample("centre", dist.Normal(-8.0, 3.0))
        for name, one in pairs.items():
            with handlers.scope(prefix=name):
                hedge_ratio_model(delta=speed(centre), intercept="static", noise=Constant())(one)

    sites: dict[str, Any] = {"centre": -7.0}
    expected = stats.norm.logpdf(-7, -8, 3)
    for name, (delta, scale) in values.items():
        sites |= {f"{name}/delta_beta": jnp.array([delta]), f"{name}/obs_scale": scale}
        expected += stats.norm.logpdf(logit(delta), -7, 1) - np.log(delta * (1 - delta))
        fixed_model = hedge_ratio_model(delta=delta, obs_scale=scale, intercept="static")
        expected += joint(fixed_model, data[name]) + log_prior_of_scale(data[name], scale)
    found = jax.jit(lambda sites: log_density(desk, (data,), {}, sites)[0])(sites)
    assert_allclose(found, expected, rtol=1e-10)


def test_the_predictive_has_the_moments_of_the_dense_gaussian():
    data = pair(rows=40)
    model = hedge_ratio_model(delta=0.1, obs_scale=0.01)
    draws = Predictive(handlers.uncondition(model), num_samples=4000)(jax.random.key(1), data)["y"]
    case = hedge_case(data, [1 / 9, 1 / 9], 0.01)
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
