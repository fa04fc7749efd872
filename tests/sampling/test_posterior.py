"""The log posterior of many pairs at many draws is NumPyro's, pair by pair and draw by draw."""

from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpyro.infer.util import potential_energy
from scipy import stats

from kfmodels import (
    Constant,
    Discounted,
    HedgeData,
    Horseshoe,
    Moves,
    StateDiscount,
    hedge_ratio_model,
)
from kfmodels.data import datasets
from kfmodels.data.arrays import pair_arrays
from kfmodels.kalman.transforms import LOG
from kfmodels.model import Absolute, Diffuse, Known, RandomWalk, Weak, Zero
from kfmodels.model.starts import DIFFUSE
from kfmodels.sampling import posterior, ridge
from kfmodels.sampling import prior as priors

pytestmark = pytest.mark.usefixtures("x64")

PAIRS = ("KO/PEP", "AAPL/SPX", "XOM/CVX")
DRAWS = 3
ROWS = 31

quick = partial(
    jax.jit,
    static_argnames="model",
    compiler_options={"xla_backend_optimization_level": 0},  # it is compiled often, and run little
)
run = quick(posterior.log_density)


@quick
def by_numpyro(free, inputs, *, model):
    """Minus the potential energy of one pair at one draw, in straightened coordinates."""
    z = ridge.bend(free, getattr(model, "bent", frozenset()))
    return -potential_energy(model, (inputs,), {}, z)


def inputs_of(model, starts=()) -> Any:
    """The pairs, from each start in turn: a start is values only, unless it is flat."""
    frame = (
        datasets.stocks()[["KO", "PEP", "AAPL", "SPX", "XOM", "CVX"]].loc["2015"].iloc[: ROWS + 3]
    )
    frame = frame.copy()
    frame.iloc[[0, 7], 0] = frame.iloc[-1, 3] = np.nan
    pairs = HedgeData.pairs(frame, [tuple(name.split("/")) for name in PAIRS])
    legs = [pairs.prices[[pair[leg] for pair in pairs.pairs]].to_numpy().T for leg in (0, 1)]
    arrays = pair_arrays(legs[0], legs[1], LOG)
    assert all(pair.usable for pair in arrays)
    made = [one.inputs_of_pairs(arrays)[0] for one in starts or (model,)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *made)


def one_of(tree: Any, *at: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[at], tree)


def draws_of(model, inputs, seed: int = 0) -> dict[str, np.ndarray]:
    """Anywhere on the real line that a prior might reach."""
    rng = np.random.default_rng(seed)
    centre = {"delta_beta": -4.0, "delta_alpha": -1.0, "obs_scale": -5.0, "variance_memory": 2.5}
    return {
        name: centre[name] + rng.normal(0, 1, (len(inputs.y), DRAWS, *shape))
        for name, shape in priors.inferred(one_of(inputs, 0), model).items()
    }


def bent_back(model, free) -> Any:
    """The parameters of the model itself, draw by draw."""
    return jax.vmap(jax.vmap(partial(ridge.bend, bent=model.bent)))(free)


def check(model, inputs, slack: float = 0.0) -> np.ndarray:
    free = draws_of(model, inputs)
    found = np.asarray(run(free, inputs, model=model))
    assert found.shape == (len(inputs.y), DRAWS)
    expected = [
        [by_numpyro(one_of(free, i, j), one_of(inputs, i), model=model) for j in range(DRAWS)]
        for i in range(len(inputs.y))
    ]
    assert_allclose(found, expected, rtol=1e-9, atol=slack)
    assert len(np.unique(found)) == found.size
    return found


# -- every model -----------------------------------------------------------------------------------

NOISES = {"constant": Constant(), "discounted": Discounted()}
DRIFTS = {"walk": RandomWalk(), "discount": StateDiscount()}
INTERCEPTS = ("random_walk", "static", "none")
QUICK = [("constant", "walk", "random_walk"), ("discounted", "discount", "static")]
"""Each noise and each drift once."""


@pytest.mark.parametrize(
    ("noise", "drift", "intercept"),
    [
        pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow])
        for case in product(NOISES, DRIFTS, INTERCEPTS)
    ],
)
def test_it_is_numpyros_potential_energy(noise: str, drift: str, intercept: Any):
    """From three starts; the model itself asks of a start only whether it is flat."""
    known = Known([1.0, 0.2], [[0.3, 0.1], [0.1, 0.4]])
    if intercept == "none":
        known = Known([1.0], [[0.3]])
    starts = [
        hedge_ratio_model(
            noise=NOISES[noise], drift=DRIFTS[drift], intercept=intercept, initial=initial
        )
        for initial in (Weak(), known, Zero())
    ]
    found = check(starts[0], inputs_of(starts[0], starts)).reshape(3, len(PAIRS), DRAWS)
    assert (np.abs(np.diff(found, axis=0)) > 1e-6).all()  # the start is felt


@pytest.mark.variants
@pytest.mark.parametrize(
    ("noise", "drift", "intercept"),
    [
        ("constant", "walk", "random_walk"),
        ("discounted", "walk", "none"),
        ("discounted", "discount", "random_walk"),
        ("constant", "discount", "static"),
    ],
)
def test_and_so_from_a_flat_start(noise: str, drift: str, intercept: Any):
    model = hedge_ratio_model(
        noise=NOISES[noise], drift=DRIFTS[drift], intercept=intercept, initial=Diffuse()
    )
    check(model, inputs_of(model), slack=4 * DIFFUSE * np.finfo(float).eps)


@pytest.mark.variants
@pytest.mark.parametrize(
    "options",
    [
        {
            "delta": {"beta": Moves(0.05, 0.01, 0.25, unit="bars"), "alpha": Horseshoe(30)},
            "noise": Discounted(),
        },
        {"delta": {"beta": Absolute(dist.Beta(1.0, 9.0)), "alpha": 0.3}, "pivot": 0},
        {"obs_scale": 0.01, "noise": Discounted(memory=dist.Uniform(5.0, 60.0))},
    ],
    ids=["moves", "absolute", "fixed"],
)
def test_whatever_the_priors_and_what_is_fixed(options: Any):
    model = hedge_ratio_model(**{"noise": Constant()} | options)
    check(model, inputs_of(model))


def test_where_the_ratio_stands_still_only_its_prior_is_left():
    model = hedge_ratio_model(noise=Constant())
    still = hedge_ratio_model(delta={"beta": 0.0}, noise=Constant())
    inputs = inputs_of(model)
    free = draws_of(model, inputs)
    which = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])  # the ratio, not the intercept
    found = jax.jit(partial(posterior.log_density, model=model))(free, inputs, still=which)
    plain = run(free, inputs, model=model)
    rest = {name: free[name] for name in ("delta_alpha", "obs_scale")}
    low, bars, high = (np.log(m * (m - 1)) for m in (1.1, 6.0, 100.0))
    u = np.asarray(bent_back(model, free)["delta_beta"])[..., 0]
    prior = stats.norm.logpdf(u, -bars, (high - low) / (2 * stats.norm.ppf(0.95)))
    expected = run(rest, inputs, model=still) + prior
    assert_allclose(found[::2], expected[::2], rtol=1e-9)
    assert_allclose(found[1], plain[1], rtol=1e-12)
    assert (np.abs(found[::2] - plain[::2]) > 1e-3).any()


# -- any other model -------------------------------------------------------------------------------


def plain_model(y) -> None:
    centre = numpyro.sample("centre", dist.Normal(1.0, 2.0))
    width = numpyro.sample("width", dist.Gamma(2.0, 3.0))
    numpyro.sample("y", dist.Normal(centre, width).expand([y.shape[-1]]).to_event(1), obs=y)


def plain_log_density(centre, log_width, y) -> float:
    width = np.exp(log_width)
    prior = stats.norm.logpdf(centre, 1, 2) + stats.gamma.logpdf(width, 2, scale=1 / 3) + log_width
    return float(prior + stats.norm.logpdf(y, centre, width).sum())


def test_another_model_is_mapped_over_pairs_and_draws():
    rng = np.random.default_rng(0)
    y = rng.normal(0.5, 2.0, (4, 10))
    free = {"centre": rng.normal(0, 1, (4, 5)), "width": rng.normal(0, 1, (4, 5))}
    found = run(free, y, model=plain_model)
    expected = [
        [plain_log_density(free["centre"][i, j], free["width"][i, j], y[i]) for j in range(5)]
        for i in range(4)
    ]
    assert_allclose(found, expected, rtol=1e-12)


def test_draws_of_the_prior_of_another_model_are_draws_of_it():
    y = np.zeros((2, 10))
    count = 4000
    free = posterior.prior_draws(jnp.uint32(1), y, model=plain_model, count=count)
    for site in free.values():
        assert site.shape == (2, count)
        assert_array_equal(site[0], site[1])  # two pairs of equal inputs
    assert stats.kstest(free["centre"][0], stats.norm(1, 2).cdf).pvalue > 1e-4
    assert stats.kstest(np.exp(free["width"][0]), stats.gamma(2, scale=1 / 3).cdf).pvalue > 1e-4


def test_draws_of_the_prior_are_straightened():
    """Bent back they are the prior: log q normal, and log obs_scale about half the typical move."""
    model = hedge_ratio_model(noise=Constant())
    inputs = inputs_of(model)
    count = 4000
    free = posterior.prior_draws(jnp.uint32(2), inputs, model=model, count=count)
    bars = {"delta_alpha": (1.003, 2.0, 40.0), "delta_beta": (1.1, 6.0, 100.0)}
    bent = bent_back(model, free)
    assert model.bent == {"delta_beta", "obs_scale"}
    for name, range_of in bars.items():
        low, middle, high = (np.log(m * (m - 1)) for m in range_of)
        law = stats.norm(-middle, (high - low) / (2 * stats.norm.ppf(0.95)))
        for drawn in np.asarray(bent[name]).reshape(len(PAIRS), count):
            assert stats.kstest(drawn, law.cdf).pvalue > 1e-4
    for drawn, move in zip(bent["obs_scale"], inputs.typical_move, strict=True):
        assert stats.kstest(drawn, stats.norm(np.log(0.5 * move), 1.5).cdf).pvalue > 1e-4


# -- the vector of parameters ----------------------------------------------------------------------


def test_a_layout_packs_and_unpacks():
    shapes = {"delta_beta": (1,), "delta_alpha": (), "matrix": (2, 3)}
    layout = posterior.Layout(tuple(shapes.items()))
    points = np.arange(2.0 * 4 * 8).reshape(2, 4, 8)
    free = layout.unpack(points)
    assert {name: site.shape for name, site in free.items()} == {
        name: (2, 4, *shape) for name, shape in shapes.items()
    }
    assert_array_equal(free["delta_beta"][..., 0], points[..., 0])
    assert_array_equal(free["delta_alpha"], points[..., 1])
    assert_array_equal(free["matrix"][1, 2], points[1, 2, 2:].reshape(2, 3))
    assert_array_equal(layout.pack(free), points)
    assert_array_equal(posterior.Layout.of(free).pack(free), points)
