"""Priors as densities and as words, the coordinates they are sampled in, and what a file keeps."""

import re
from dataclasses import fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpyro.infer.util import potential_energy
from scipy import stats
from scipy.integrate import quad
from scipy.special import exp1, logit

from kfmodels import (
    NUTS,
    Constant,
    Discounted,
    Gaps,
    HedgeData,
    HedgeFit,
    Horseshoe,
    Memory,
    Moves,
    StateDiscount,
    fit,
    hedge_ratio_model,
    load,
)
from kfmodels.data import datasets
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.model import Absolute, Diffuse, Few, Known, RandomWalk, Weak, Zero, saved
from kfmodels.model.defaults import in_bars
from kfmodels.model.memory import memory_to_q, q_to_memory
from kfmodels.model.priors import MEDIAN, LogSquaredHorseshoe
from kfmodels.model.starts import DIFFUSE
from kfmodels.sampling import nuts as inference
from kfmodels.sampling import prior as priors
from kfmodels.sampling import ridge
from tests.closeness import within_standard_errors
from tests.grids import Grid, assert_is_the_posterior
from tests.problems import gappy_pair as pair
from tests.problems import least_squares_on_changes, unsampled

MOVES = Moves(0.05, low=0.01, high=0.2)
DRAWS = 20_000
SD90 = stats.norm.ppf(0.95)


TWO = ("PEP", "SPX")


def prior_draws(model, data: HedgeData, count: int = DRAWS) -> dict[str, np.ndarray]:
    model = in_bars(model, data)
    with jax.enable_x64(True):
        numbers = np.arange(count, dtype=np.uint32)
        drawn = priors.draw(numbers, np.uint32(0), model.inputs(data), model=model)
        return jax.device_get(drawn[1])


def assert_share(hits: np.ndarray, expected: float):
    """The share of True among independent draws, in binomial standard errors."""
    within_standard_errors(
        (hits.mean() - expected) / np.sqrt(expected * (1 - expected) / len(hits))
    )


# -- the horseshoe ---------------------------------------------------------------------------------


def log_density_of_horseshoe(u: Any) -> np.ndarray:
    """log p(u) at u = log s^2, from p(s) = (2 pi^3)^(-1/2) e^x E1(x), x = s^2 / 2."""
    u = np.asarray(u, float)
    x = np.exp(u) / 2
    near = np.minimum(x, 500.0)
    far = np.maximum(x, 500.0)
    scaled = np.log(exp1(near)) + near  # e^500 is still a number, e^710 is not
    series = np.log((1 - 1 / far + 2 / far**2 - 6 / far**3) / far)  # next term: 24 / 500^4 = 4e-10
    return -0.5 * np.log(2 * np.pi**3) + np.where(x < 500, scaled, series) + u / 2


def share_of_horseshoe(low: float, high: float) -> float:
    """Probability of low < u < high by quadrature, split where the density bends."""
    ends = np.unique(np.clip([low, -40, -10, 0, 10, 40, high], low, high))
    pieces = pairwise(ends)
    return sum(
        quad(lambda u: np.exp(log_density_of_horseshoe(u)), a, b, epsabs=1e-12)[0]
        for a, b in pieces
    )


@pytest.mark.usefixtures("x64")
def test_the_horseshoe_has_the_density_of_the_exponential_integral():
    """Towards 0 the density of s grows like a logarithm, towards infinity it falls like 1 / s^2."""
    u = np.r_[np.linspace(-300, -40, 261), np.linspace(-40, 6, 2001), np.linspace(6, 150, 300)]
    expected = log_density_of_horseshoe(u)
    assert_allclose(LogSquaredHorseshoe().log_prob(u), expected, rtol=0, atol=1e-8)
    low = u < -40
    assert_allclose(LogSquaredHorseshoe().log_prob(u[low]), expected[low], rtol=0, atol=1e-10)


def test_the_median_of_the_horseshoe_is_the_one_that_is_written_down():
    """Nine digits of it; the density of its logarithm is below 0.2."""
    halves = (share_of_horseshoe(*ends) for ends in ((-120, np.log(MEDIAN)), (np.log(MEDIAN), 120)))
    assert_allclose(list(halves), 0.5, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("u", [-12.0, -6.0, -3.0, np.log(MEDIAN), 1.0, 4.0, 8.0])
def test_draws_of_the_horseshoe_have_its_distribution(u: float):
    drawn = np.asarray(LogSquaredHorseshoe().sample(jax.random.key(3), (200_000,)))
    assert_share(drawn < u, share_of_horseshoe(-120, u))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_horseshoe_has_a_gradient_everywhere():
    log_prob = LogSquaredHorseshoe().log_prob
    u = np.append(np.linspace(-100, 100, 4001), np.log(2) + np.linspace(-1e-2, 1e-2, 9))
    step = 1e-3  # error of a central difference: 2e-7 of truncation, 1e-10 of rounding
    difference = (log_prob(u + step) - log_prob(u - step)) / (2 * step)
    for gradient in (jax.vmap(jax.grad(log_prob))(u), jax.vmap(jax.jacfwd(log_prob))(u)):
        assert np.isfinite(gradient).all()
        assert_allclose(gradient, difference, rtol=0, atol=1e-6)


def test_the_horseshoe_is_finite_in_single_precision():
    log_prob = LogSquaredHorseshoe().log_prob
    u = np.linspace(-100, 100, 2001, dtype=np.float32)
    value, gradient = jax.vmap(jax.value_and_grad(log_prob))(u)
    assert value.dtype == np.float32
    assert np.isfinite(gradient).all()
    assert_allclose(value, log_density_of_horseshoe(u), rtol=1e-6, atol=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("bars", [2.0, 60.0, 1000.0])
def test_half_of_a_horseshoe_forgets_more_slowly_than_its_bars(bars: float):
    delta = np.asarray(Horseshoe(bars).on_delta().sample(jax.random.key(0), (DRAWS,)))
    assert_share(q_to_memory(delta / (1 - delta)) > bars, 0.5)
    u = np.linspace(-20, 8, 57)  # logit(delta) = log q = log(q of bars / median of s^2) + log s^2
    found = Horseshoe(bars).on_delta().log_prob(1 / (1 + np.exp(-u)))
    shift = np.log(1 / (bars * (bars - 1)) / MEDIAN)
    jacobian = -u - 2 * np.log1p(np.exp(-u))
    # 1 - delta is rounded: of e^8 it has lost four of sixteen digits
    assert_allclose(found + jacobian, log_density_of_horseshoe(u - shift), rtol=0, atol=1e-8)


@pytest.mark.nightly
def test_the_posterior_under_a_horseshoe_is_that_of_a_fine_grid():
    """Two parameters, log q and log obs_scale; the prior on the grid is SciPy's."""
    truth = datasets.simulate(
        120, memory=25, intercept_memory=np.inf, hedge_volatility=0.02, seed=4
    )
    data = HedgeData.from_prices(truth.prices, target="Y", hedges=["X1"])
    model = hedge_ratio_model(delta={"beta": Horseshoe(60)}, intercept="static", noise=Constant())
    method = NUTS(warmup=500, draws=2000, chains=4)
    posterior = fit(data, model, method=method, progress=False).tree["posterior"]
    draws = [np.log(posterior["q"].values[..., 0]), np.log(posterior["obs_scale"].values)]
    inputs = model.inputs(data)
    guess = np.log(0.5 * float(inputs.typical_move))
    axes = [np.linspace(-50, 6, 225), np.median(draws[1]) + np.linspace(-0.6, 0.6, 49)]
    of_q = log_density_of_horseshoe(axes[0] - np.log(memory_to_q(60.0) / MEDIAN))

    def density(u):
        q = jnp.exp(u[:, :1]) * jnp.array([1.0, 0.0])
        prior = jnp.interp(u[:, 0], axes[0], of_q) - 0.5 * ((u[:, 1] - guess) / 1.5) ** 2
        return model.log_likelihood(inputs, q=q, obs_scale=jnp.exp(u[:, 1])) + prior

    grid = Grid(density, axes)
    assert_is_the_posterior(draws, grid)
    assert grid.expect(lambda u: (u[:, 0] - grid.expect(lambda v: v[:, 0])) ** 2) > 0.3**2


# -- Moves -----------------------------------------------------------------------------------------


def test_moves_in_per_cent_are_refused_with_the_shares_to_say():
    with pytest.raises(ValueError, match="500% of itself") as refused:
        Moves(5, low=1, high=25)
    said = re.search(r"say (Moves\(.*?\))", str(refused.value))
    assert said
    assert eval(said[1], {"Moves": Moves}) == Moves(0.05, low=0.01, high=0.25)


@pytest.mark.parametrize("transform", ["log", "level"])
@pytest.mark.parametrize("hedges", [("PEP",), TWO])
@pytest.mark.parametrize(
    "prior", [Moves(0.05, low=0.0125, high=0.2), Moves(0.1, low=0.01, high=0.3, bars=63)]
)
def test_a_ratio_moves_as_far_as_the_prior_says(hedges, transform, prior: Moves):
    """The width is that of both ends together: only where they are symmetric are they exact."""
    data = pair(hedges=hedges, transform=transform)
    sites = prior_draws(hedge_ratio_model(delta={"beta": prior}, noise=Constant()), data)
    size, _ = least_squares_on_changes(data)
    width = np.log(prior.high / prior.low) / (2 * SD90)
    for number in range(len(hedges)):
        share = np.sqrt(prior.bars * sites["state_var"][:, number]) / size[number]
        assert_share(share < prior.share, 0.5)
        for end in (prior.low, prior.high):
            assert_share(share < end, stats.norm.cdf(np.log(end / prior.share) / width))
        inside = (share > prior.low) & (share < prior.high)
        if np.isclose(prior.low * prior.high, prior.share**2):
            assert_share(inside, 0.9)


def test_several_hedges_move_independently_and_so_does_the_noise():
    sites = prior_draws(
        hedge_ratio_model(delta={"beta": Moves(0.05, low=0.01, high=0.2)}, noise=Constant()),
        pair(hedges=TWO),
    )
    logs = np.log(np.column_stack([sites["state_var"], sites["obs_scale"]]))
    off = np.corrcoef(logs.T)[np.triu_indices(4, 1)]
    # what the ratios move does not depend on the noise; what the intercept moves does (its q is given)
    together = np.array([False, False, False, False, False, True])
    assert np.abs(off[~together]).max() < 4.5 / np.sqrt(DRAWS)
    assert off[together] > 0.1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("transform", ["log", "level"])
def test_the_prior_on_delta_follows_the_noise_beside_it(transform):
    """log q is normal around 2 log(share |beta| s) - log(bars v)."""
    data, prior = (
        pair(hedges=TWO, transform=transform),
        Moves(0.05, low=0.02, high=0.2, bars=10, unit="bars"),
    )
    model = hedge_ratio_model(delta={"beta": prior}, noise=Constant())
    size, left = least_squares_on_changes(data)
    spread = data.x[data.observed].std(0)
    obs_scale = left * np.array([0.01, 0.3, 1.0, 20.0])
    delta = np.array([[1e-6, 1e-3], [1e-2, 0.3], [0.9, 1e-9], [0.5, 0.5]])
    alpha = np.full(4, 0.5)
    sites = {"delta_beta": delta, "delta_alpha": alpha, "obs_scale": obs_scale}
    inputs = model.inputs(data)
    found = priors.log_density(sites, inputs, model=model)
    centre = 2 * np.log(0.05 * size * spread) - np.log(10 * obs_scale[:, None] ** 2)
    each = stats.norm.logpdf(logit(delta), centre, 2 * np.log(0.2 / 0.02) / (2 * SD90))
    assert_allclose(found["delta_beta"], each.sum(1), rtol=1e-10)
    first = priors.log_density(sites, inputs, model=model, still=(1,))
    assert_allclose(first["delta_beta"], each[:, 0], rtol=1e-10)


def test_beside_a_discounted_variance_the_move_is_told_by_what_a_typical_bar_leaves():
    data, prior = pair(), Moves(0.05, low=0.0125, high=0.2)
    model = hedge_ratio_model(delta={"beta": prior}, noise=Discounted())
    sites = prior_draws(model, data)
    size, left = least_squares_on_changes(data)
    assert_allclose(sites["obs_scale"], 0.5 * left, rtol=1e-10)
    # of a one-bar move an intercept of that speed takes all but 1 / (1 + p)
    level = sites["q"][:, -1]
    noise = left / np.sqrt(1 + (level + np.sqrt(level**2 + 4 * level)) / 2)
    move = np.sqrt(21 * sites["q"][:, 0]) * noise / data.x[data.observed].std()
    assert_share(move / size[0] < 0.05, 0.5)
    assert_share(move / size[0] < 0.2, 0.95)


# -- straight coordinates --------------------------------------------------------------------------

BOTH = frozenset({"delta_beta", "obs_scale"})
SUBSETS = [frozenset(), frozenset({"delta_beta"}), frozenset({"obs_scale"}), BOTH]


def unbent(free: np.ndarray) -> dict[str, Any]:
    return {"delta_beta": free[:2], "delta_alpha": free[2], "obs_scale": free[3]}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("bent", SUBSETS, ids=lambda bent: "+".join(sorted(bent)) or "none")
def test_bending_what_was_straightened_gives_it_back(bent: frozenset[str]):
    random = np.random.default_rng(0)
    for free in np.vstack([random.normal(0, 8, (200, 4)), np.full((2, 4), [[200.0], [-200.0]])]):
        there = ridge.straighten(unbent(jnp.asarray(free)), bent)
        back = ridge.bend(there, bent)
        for name, value in unbent(free).items():
            assert_allclose(back[name], value, rtol=1e-12, atol=1e-12)
            moved = name in bent and free[2] > -10  # an intercept that stands still shifts nothing
            assert not moved or np.abs(there[name] - value).min() > 1e-3


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("bent", SUBSETS, ids=lambda bent: "+".join(sorted(bent)) or "none")
@pytest.mark.parametrize("way", [ridge.straighten, ridge.bend])
def test_straightening_keeps_every_volume(way, bent: frozenset[str]):
    def flat(free):
        moved = way(unbent(free), bent)
        return jnp.concatenate(
            [moved["delta_beta"], moved["delta_alpha"][None], moved["obs_scale"][None]]
        )

    for free in np.random.default_rng(1).normal(0, 5, (20, 4)):
        matrix = jax.jacfwd(flat)(jnp.asarray(free))
        assert_allclose(np.linalg.det(matrix), 1.0, rtol=1e-12)
        assert bent <= frozenset() or np.abs(matrix - np.eye(4)).max() > 1e-9


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("q", [1e-3, 0.1, 1.0, 30.0])
def test_the_straight_scale_is_the_forecast_sd_of_a_level(q: float):
    predicted = 1.0
    for _ in range(3000):  # of a local level, relative to the noise
        predicted = predicted / (predicted + 1) + q
    forecast = predicted + 1
    free = {"delta_beta": np.log([0.01, 0.2]), "delta_alpha": np.log(q), "obs_scale": np.log(0.03)}
    there = ridge.straighten({name: jnp.asarray(v) for name, v in free.items()}, BOTH)
    assert_allclose(np.exp(2 * there["obs_scale"]), 0.03**2 * forecast, rtol=1e-12)
    assert_allclose(np.exp(there["delta_beta"]), np.array([0.01, 0.2]) / forecast, rtol=1e-12)
    assert there["delta_alpha"] == free["delta_alpha"]
    memory = q_to_memory(q)
    assert_allclose(forecast, memory / (memory - 1), rtol=1e-9)  # as the module says it


BENT = {
    "defaults": ({}, BOTH),
    "a Memory for all": ({"delta": Memory(60, low=15, high=250)}, BOTH),
    "a horseshoe": ({"delta": {"beta": Horseshoe(60)}}, BOTH),
    "moves": ({"delta": {"beta": MOVES}}, BOTH),
    "a Beta prior": ({"delta": dist.Beta(1.0, 9.0)}, BOTH),
    "a prior on part of the line": ({"delta": {"beta": dist.Uniform(0.01, 0.5)}}, {"obs_scale"}),
    "the intercept on part of the line": ({"delta": {"alpha": dist.Uniform(0.01, 0.5)}}, set()),
    "a fixed ratio": ({"delta": {"beta": 1e-3}}, {"obs_scale"}),
    "an absolute ratio": ({"delta": {"beta": Absolute(dist.Beta(1.0, 9.0))}}, {"obs_scale"}),
    "all absolute": ({"delta": Absolute(dist.Beta(1.0, 9.0))}, set()),
    "a fixed intercept": ({"delta": {"alpha": 0.5}}, set()),
    "static": ({"intercept": "static"}, set()),
    "none": ({"intercept": "none"}, set()),
    "state discounting": ({"drift": StateDiscount()}, set()),
    "log-normal noise": ({"obs_scale": dist.LogNormal(-5.0, 1.0)}, BOTH),
    "uniform noise": ({"obs_scale": dist.Uniform(0.001, 0.1)}, {"delta_beta"}),
    "a number for the noise": ({"obs_scale": 0.01}, {"delta_beta"}),
    "a discounted variance": ({"noise": Discounted()}, {"delta_beta"}),
    "the same with a free start": (
        {"noise": Discounted(), "obs_scale": dist.LogNormal(-5.0, 1.0)},
        BOTH,
    ),
}


@pytest.mark.parametrize(("options", "bent"), BENT.values(), ids=BENT)
def test_only_what_bends_with_the_intercept_is_straightened(options: dict, bent: set[str]):
    assert hedge_ratio_model(**{"noise": Constant()} | options).bent == bent


@partial(jax.jit, static_argnames="model")
def _energy(z, inputs, *, model):
    return potential_energy(model, (inputs,), {}, z)


@pytest.mark.variants
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("options", "straightened"),
    [({}, True), ({"intercept": "static"}, False)],
)
def test_the_sampler_starts_at_the_energy_of_the_model(options: dict, straightened: bool):
    """It walks in other coordinates on the same landscape, and its draws come back as they were."""
    model = hedge_ratio_model(**{"noise": Constant()} | options)
    inputs = model.inputs(pair())
    z, sites = jax.device_get(
        priors.draw(np.arange(3, dtype=np.uint32), np.uint32(1), inputs, model=model)
    )
    z = {name: value[2] for name, value in z.items()}
    state = inference._start(z, np.array([0, 0], np.uint32), inputs, model=model, method=NUTS())
    expected = _energy(z, inputs, model=model)
    assert_allclose(state.potential_energy, expected, rtol=1e-10)
    walked = max(float(np.abs(state.z[name] - z[name]).max()) for name in z)
    assert (walked > 1e-3) == straightened
    again = inference._constrain(
        {name: v[None, None] for name, v in state.z.items()}, inputs, model=model
    )
    for name, value in sites.items():
        assert_allclose(again[name][0, 0], value[2], rtol=1e-10)


# -- densities in the tree -------------------------------------------------------------------------


def total_density(fitted: HedgeFit, inferred: set[str]) -> np.ndarray:
    tree: Any = fitted.tree
    log_prior = tree["log_prior"].to_dataset()
    assert set(log_prior.data_vars) == inferred
    assert all(part.dims == ("chain", "draw") for part in log_prior.data_vars.values())
    total = sum(part.values for part in log_prior.data_vars.values())
    return total + tree["series_log_likelihood"]["y"].values


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:the noise of KO")  # ten draws are too few, and suffice here
def test_prior_and_likelihood_are_the_two_parts_of_what_was_sampled():
    method = NUTS(warmup=10, draws=10, chains=1)
    model = hedge_ratio_model(noise=Constant())
    fitted = fit(pair(hedges=TWO), model, method=method, progress=False)
    total = total_density(fitted, {"delta_beta", "delta_alpha", "obs_scale"})
    assert np.ptp(total) > 0.1
    sampled: Any = fitted.tree["sample_stats"]
    assert_allclose(total, sampled["lp"].values, rtol=1e-9, atol=1e-9)


START = Known([0.5, 0.1, 1.0], np.diag([0.04, 0.01, 4.0]))
STORED = {
    "flat start": ({"initial": Diffuse()}, {"obs_scale"}),
    "discounted": ({"noise": Discounted(), "delta": {"beta": MOVES}}, {"variance_memory"}),
    "discounted, free and known start": (
        {"noise": Discounted(), "obs_scale": dist.LogNormal(-5.0, 0.5), "initial": START},
        {"variance_memory", "obs_scale"},
    ),
    # memories well above a bar, or rounding is multiplied by thousands a bar
    "state discount": (
        {"drift": StateDiscount(), "initial": START, "delta": Memory(60, low=30, high=250)},
        {"obs_scale"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("options", "others"), STORED.values(), ids=STORED)
def test_the_stored_draws_give_their_densities_back(options: dict, others: set[str]):
    """The likelihood by way of the stored noise draws, and the whole by way of NumPyro."""
    fitted = unsampled(pair(hedges=TWO), draws=20, **options)
    tree: Any = fitted.tree
    posterior = tree["posterior"].to_dataset()
    flat_start = isinstance(fitted.model.initial, Diffuse)
    # a flat start of 1e10 times the noise leaves six of the sixteen digits
    digits = 1e-6 if flat_start else 1e-9
    if isinstance(fitted.model.drift, StateDiscount):  # grows a rounding by its factor every row
        digits = 1e-8
    stored = tree["series_log_likelihood"]["y"].values.ravel()
    assert np.ptp(stored) > 0.5

    inferred = {"delta_beta", "delta_alpha"} | others
    if isinstance(fitted.model.drift, StateDiscount):
        inferred -= {"delta_alpha"}
    total = total_density(fitted, inferred).ravel()
    with jax.enable_x64(True):
        law, y = trees.posed(tree, fitted.data, trees.posterior_sites(tree))
        found = np.asarray(passes.log_likelihood(law, y))
        values = {k: posterior[k].values.reshape(40, *posterior[k].shape[2:]) for k in inferred}
        z = {name: priors.to_free(name, jnp.asarray(value)) for name, value in values.items()}
        inputs = fitted.model.inputs(fitted.data)
        energies = _energies(z, inputs, model=fitted.model)
    if flat_start:  # the exact diffuse likelihood leaves out the width of the start
        obs_var = posterior["obs_scale"].values.ravel() ** 2
        scales = trees.coordinates(tree).scales
        found = found + 1.5 * np.log(DIFFUSE * obs_var) - np.log(scales).sum()
    assert_allclose(found, stored, rtol=digits)
    assert_allclose(total, -energies, rtol=max(digits, 1e-8))


@partial(jax.jit, static_argnames="model")
def _energies(z, inputs, *, model):
    return jax.vmap(lambda one: potential_energy(model, (inputs,), {}, one))(z)


# -- a model as text -------------------------------------------------------------------------------


def parts(thing: Any) -> Any:
    """Everything that makes a model what it is, in a form that can be compared."""
    if isinstance(thing, dist.Distribution):
        given = {name: float(getattr(thing, name)) for name in thing.arg_constraints}
        return type(thing), given
    if isinstance(thing, (np.ndarray, tuple, list)):
        return [parts(inner) for inner in thing]
    if hasattr(thing, "__dataclass_fields__"):
        return type(thing), {
            field.name: parts(getattr(thing, field.name)) for field in fields(thing)
        }
    return thing


WRITTEN = {
    "defaults": {},
    "Memory": {"delta": Memory(60, low=15, high=250)},
    "Moves": {"delta": {"beta": Moves(0.05, low=0.01, high=0.2, bars=5)}},
    "Horseshoe": {"delta": {"beta": Horseshoe(60), "alpha": Horseshoe(3)}},
    "numbers": {"delta": {"beta": [1e-3, 1e-2], "alpha": 0.25}, "obs_scale": 0.01},
    "a NumPy number": {"delta": np.float64(0.1), "obs_scale": np.float64(0.02)},
    "Absolute": {"delta": Absolute(1e-4)},
    "Absolute of several": {"delta": {"beta": Absolute([1e-4, 1e-5]), "alpha": Absolute(0.0)}},
    "Absolute of a prior": {"delta": Absolute(dist.Beta(1.0, 99.0))},
    "Absolute of a Memory": {"delta": Absolute(Memory(60, low=15, high=250))},
    "Constant": {"noise": Constant()},
    "Discounted": {"noise": Discounted()},
    "Discounted by a number": {"noise": Discounted(25, dof=7.5)},
    "Discounted by a prior": {"noise": Discounted(dist.Uniform(5.0, 100.0))},
    "RandomWalk": {"drift": RandomWalk()},
    "StateDiscount": {"drift": StateDiscount()},
    "Weak": {"initial": Weak(5.0)},
    "Few": {"initial": Few(legs=2)},
    "Known": {"initial": Known([1.0, 0.0], [[1.0, 0.1], [0.1, 2.0]])},
    "Diffuse": {"initial": Diffuse()},
    "Zero": {"initial": Zero()},
    "static": {"intercept": "static", "pivot": 0},
    "none": {"intercept": "none"},
    "Gaps": {"gaps": Gaps({"weekend": 9, "overnight": dist.LogNormal(3.0, 1.0)}, noise=2.5)},
    "pivots": {"pivot": [1.5, 2.5]},
    "LogNormal": {"obs_scale": dist.LogNormal(-5.0, 0.7)},
    "HalfNormal": {"obs_scale": dist.HalfNormal(0.01)},
    "Gamma": {"obs_scale": dist.Gamma(2.0, 100.0)},
    "Beta": {"delta": {"beta": dist.Beta(1.0, 9.0), "alpha": dist.Beta(0.5, 0.5)}},
}


@pytest.mark.parametrize("options", WRITTEN.values(), ids=WRITTEN)
def test_a_model_is_read_as_it_was_written(options: dict):
    model = hedge_ratio_model(**options)
    text = saved.to_json(model)
    again = saved.from_json(text)
    assert parts(again) == parts(model)
    assert saved.to_json(again) == text
    if "Known" not in text and "distribution" not in text:  # those have no equality of their own
        assert again == model
        assert hash(again) == hash(model)  # or a fit that was read would compile everything anew


def test_the_comparison_of_models_sees_a_difference():
    models = {name: parts(hedge_ratio_model(**options)) for name, options in WRITTEN.items()}
    for name in ("Discounted", "RandomWalk"):  # the defaults, written out
        assert models.pop(name) == models["defaults"]
    for name, model in models.items():
        assert [other for other, held in models.items() if held == model] == [name]


BEYOND_A_FILE = {
    "transformed": (
        dist.TransformedDistribution(dist.Normal(-4.0, 0.5), dist.transforms.ExpTransform()),
        "TransformedDistribution",
    ),
    "truncated": (dist.TruncatedNormal(0.01, 0.01, low=0.001), "LeftTruncatedDistribution"),
    "folded": (dist.FoldedDistribution(dist.Normal(0.01, 0.01)), "FoldedDistribution"),
}


@pytest.mark.parametrize(("prior", "name"), BEYOND_A_FILE.values(), ids=BEYOND_A_FILE)
def test_a_prior_that_a_file_cannot_hold_is_said_so_when_it_is_read(prior, name: str):
    text = saved.to_json(hedge_ratio_model(obs_scale=prior))
    with pytest.raises(ValueError, match="which a file cannot hold") as caught:
        saved.from_json(text)
    assert str(caught.value).startswith("the fit was made with the prior ")
    assert name in str(caught.value)
    cure = "use the fit before it is saved, or priors that are Memory, Moves, Horseshoe or a plain"
    assert cure in str(caught.value)


@pytest.mark.slow
def test_a_fit_without_its_file_keeps_a_prior_that_no_file_holds(tmp_path: Path):
    prior = BEYOND_A_FILE["transformed"][0]
    fitted = unsampled(pair(), obs_scale=prior)
    assert fitted.model.obs_scale is prior
    fitted.save(tmp_path / "fit.nc")
    again = load(tmp_path / "fit.nc")
    assert_array_equal(again.spread(), fitted.spread())  # everything else is there
    with pytest.raises(ValueError, match="use the fit before it is saved"):
        _ = again.model
