"""The likelihood as a landscape: cell by cell against a textbook filter, peaks on made-up heights."""

from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from kfmodels import (
    Anchored,
    Constant,
    Discounted,
    HedgeData,
    Memory,
    StateDiscount,
    hedge_ratio_model,
)
from kfmodels.data import datasets
from kfmodels.evaluate import likelihood_surface as surface_of
from kfmodels.evaluate.landscape import NEAR_THE_TOP, VALLEY, Surface, find_summits, write_notes
from kfmodels.model import Diffuse
from kfmodels.model.memory import memory_to_q
from tests.problems import hedge_case, least_squares_on_changes, stocks_between
from tests.reference import loop
from tests.tables import read_table

SMALL = (6, 4, 4)


@pytest.fixture(scope="module")
def pair() -> HedgeData:
    return stocks_between("2019-01-01", "2019-05-01")


@pytest.mark.slow
def test_another_length_compiles_nothing(pair, compiled):
    surface_of(pair, points=SMALL)
    before = len(compiled)
    surface_of(pair.before("2019-04-25"), points=SMALL)
    assert len(compiled) == before


def wider(alpha_memory: float) -> float:
    """Forecast over observation variance of a level of that memory."""
    return alpha_memory / (alpha_memory - 1)


def by_hand(data: HedgeData, model: Any, q: list[float], obs_var: float, **noise: Any) -> float:
    """Log likelihood of the textbook loop, from the data and the documented coordinates alone."""
    case = hedge_case(data, q, np.sqrt(obs_var), intercept=model.intercept) | noise
    n = len(case["initial_mean"])
    if isinstance(model.drift, StateDiscount):
        case.pop("state_var")
        # memory solves m (m - 1) q = 1
        gain = 1 / (0.5 + np.sqrt(0.25 + 1 / q[0])) if q[0] > 0 else 0.0
        case["state_discount"] = 1 - gain
        case["moving"] = np.arange(n) < n - (model.intercept == "static")
    return float(loop(data.y, **case).log_density.sum())


def log_q_law(prior: Memory, q: float) -> float:
    return float(stats.norm(np.log(memory_to_q(prior.bars)), prior.log_q_sd).logpdf(np.log(q)))


def noise_law(data: HedgeData, obs_scale: float, log_sd: float) -> float:
    """Log-normal around half the sd of what least squares on changes leaves over, of its log."""
    guess = 0.5 * least_squares_on_changes(data)[1]
    return float(stats.norm(np.log(guess), log_sd).logpdf(np.log(obs_scale)))


BETA, ALPHA = Memory(8, low=1.5, high=90), Memory(3, low=1.2, high=30)
VARIANCE = Memory(20, low=6, high=130)
CELLS = [(0, 0, 0), (0, 3, 2), (1, 2, 1), (4, 0, 3), (6, 3, 0)]
NO_LEVEL = [(0, 0, 1), (2, 0, 0), (3, 0, 2), (6, 0, 3)]
BOTH = {"beta": BETA, "alpha": ALPHA}

MODELS: dict[str, tuple[dict[str, Any], tuple[int, int, int], list[tuple[int, int, int]]]] = {
    "default": ({"delta": BOTH}, (7, 4, 4), CELLS),
    "no intercept": ({"delta": {"beta": BETA}, "intercept": "none"}, (7, 1, 4), NO_LEVEL),
    "static intercept": ({"delta": {"beta": BETA}, "intercept": "static"}, (7, 1, 4), NO_LEVEL),
    "learnt variance": ({"delta": BOTH, "noise": Discounted(VARIANCE, dof=5.0)}, (7, 4, 4), CELLS),
    "one discount": ({"delta": {"beta": BETA}, "drift": StateDiscount()}, (7, 1, 4), NO_LEVEL),
    "fixed level and noise": (
        {"delta": {"beta": BETA, "alpha": 0.5}, "obs_scale": 0.004},
        (7, 1, 1),
        [(0, 0, 0), (3, 0, 0)],
    ),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=[pytest.mark.slow] if "intercept" in name else [])
        for name in MODELS
    ],
)
def test_every_cell_is_the_likelihood_of_a_textbook_filter(pair, case: str):
    options, shape, cells = MODELS[case]
    model, shared = hedge_ratio_model(**{"noise": Constant()} | options), "drift" in options
    ends = (2.0, 500.0) if shared else (1.002, 3000.0)
    found = surface_of(pair, model, points=SMALL, memories=ends)
    assert found.log_likelihood.shape == found.log_posterior.shape == shape
    assert found.hedge == "PEP"
    assert found.beta_memory[0] == np.inf
    assert_allclose(found.beta_memory[[1, -1]], ends, rtol=1e-9)
    alpha_prior, third = shape[1] > 1, found.third_name
    if alpha_prior:
        assert_allclose(found.alpha_memory[[0, -1]], ends, rtol=1e-9)
    else:
        assert_array_equal(found.alpha_memory, [np.nan])
    for i, j, k in cells:
        value, law = found.third[i, j, k], 0.0
        # an intercept of delta 1/2 has a q of 1
        q_alpha = memory_to_q(found.alpha_memory[j]) if alpha_prior else float("fixed" in case)
        f = 1 + (q_alpha + np.sqrt(q_alpha**2 + 4 * q_alpha)) / 2
        q = 0.0 if i == 0 else f * memory_to_q(found.beta_memory[i])
        noise: dict[str, Any] = {}
        if third == "forecast_sd":
            obs_scale = value / np.sqrt(f)
            law += noise_law(pair, obs_scale, 1.5)
        elif third == "obs_scale":
            obs_scale = value
            assert value == 0.004
        else:
            obs_scale = 0.5 * least_squares_on_changes(pair)[1]
            noise = {"variance_discount": 1 - 1 / value, "variance_dof": 5.0}
            width = np.log((VARIANCE.high - 4) / (VARIANCE.low - 4)) / (2 * stats.norm.ppf(0.95))
            law += stats.norm(np.log(16), width).logpdf(np.log(value - 4))
        exact = by_hand(pair, model, [q] if shared else [q, q_alpha], obs_scale**2, **noise)
        assert found.log_likelihood[i, j, k] == pytest.approx(exact, rel=1e-7, abs=1e-4)
        if i > 0:
            law += log_q_law(BETA, q) + (log_q_law(ALPHA, q_alpha) if alpha_prior else 0.0)
            gap = found.log_posterior[i, j, k] - found.log_likelihood[i, j, k]
            assert gap == pytest.approx(law, rel=1e-5)
    assert (found.log_posterior[0] == -np.inf).all()
    if third == "variance_memory":
        assert_allclose(found.third[2, 1, [0, -1]], [5.0, 304.0], rtol=1e-12)


@pytest.mark.slow
def test_of_two_hedges_the_named_one_is_scanned_and_the_other_held_at_its_median():
    three = stocks_between("2019-01-01", "2019-05-01", hedges=["PEP", "SPX"])
    model = hedge_ratio_model(delta={"beta": BETA, "alpha": ALPHA}, noise=Constant())
    found = surface_of(three, model, hedge="SPX", points=SMALL)
    first = surface_of(three, model, points=SMALL)
    assert (found.hedge, first.hedge) == ("SPX", "PEP")
    for i, j, k in CELLS:
        f = wider(found.alpha_memory[j])
        scanned = 0.0 if i == 0 else f * memory_to_q(found.beta_memory[i])
        alpha = memory_to_q(found.alpha_memory[j])

        def height(log_q, place, third, scanned=scanned, alpha=alpha, f=f):
            q = [np.exp(log_q), np.exp(log_q), alpha]
            q[place] = scanned
            return by_hand(three, model, q, third**2 / f)

        # the median of 999 draws is within 0.05 prior sds of that of the prior
        middle = np.log(memory_to_q(BETA.bars))
        near = [middle + shift * BETA.log_q_sd for shift in np.linspace(-0.2, 0.2, 9)]
        for surface, place in ((found, 1), (first, 0)):
            spread = [height(log_q, place, surface.third[i, j, k]) for log_q in near]
            value = surface.log_likelihood[i, j, k]
            assert min(spread) - 1e-3 <= value <= max(spread) + 1e-3


def test_a_profile_is_the_best_along_an_axis(pair):
    found = surface_of(pair, points=SMALL)
    for axis, (name, spots) in enumerate((("beta_memory", 7), ("alpha_memory", 4))):
        profile = found.profile(axis)
        assert (profile.index.name, len(profile), profile.max()) == (name, spots, 0.0)
        for number, value in enumerate(profile):
            best = np.take(found.log_likelihood, number, axis).max()
            assert value == pytest.approx(best - found.log_likelihood.max(), abs=1e-9)
    assert profile.index.tolist() == found.alpha_memory.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("intercept", ["static", "none"])
def test_a_static_ratio_is_profiled_over_its_own_noise(pair, intercept):
    """Its sd lies far from that of the ratio that fits best; its height is that of the best sd."""
    model = hedge_ratio_model(intercept=intercept, noise=Constant())
    found = surface_of(pair, model, points=(20, 4, 15))
    inputs = model.inputs(pair)
    scales = np.exp(np.linspace(np.log(1e-3), np.log(0.5), 4000))
    with jax.enable_x64(True):
        q = np.zeros((len(scales), inputs.design.shape[1]))
        heights = np.asarray(model.log_likelihood(inputs, q=q, obs_scale=scales))
    assert found.log_likelihood[0].max() == pytest.approx(heights.max(), abs=0.1)
    assert found.log_likelihood.max() - heights.max() > 20  # so its own sd matters


def test_the_masses_are_shares_and_the_peaks_are_cells(pair):
    found = surface_of(pair, hedge_ratio_model(noise=Constant()), points=(20, 12, 10))
    modes = found.modes
    assert list(modes) == ["beta_memory", "alpha_memory", "forecast_sd", "mass", "log_likelihood"]
    assert modes["mass"].is_monotonic_decreasing
    assert 0.9 < modes["mass"].sum() <= 1 + 1e-12
    inside = found.log_posterior[1:]
    i, j, k = np.unravel_index(inside.argmax(), inside.shape)
    tops = modes[["beta_memory", "alpha_memory", "forecast_sd"]].to_numpy().tolist()
    assert [found.beta_memory[1:][i], found.alpha_memory[j], found.third[1:][i, j, k]] in tops


# -- peaks -----------------------------------------------------------------------------------------


def hills(*parts: tuple[float, float, float]) -> np.ndarray:
    """Log of a sum of Gaussians along the first axis (centre, sd, mass); the others are one hill."""
    x, y, z = np.meshgrid(np.arange(60.0), np.arange(9.0), np.arange(7.0), indexing="ij")
    along = np.log(sum(mass * stats.norm(centre, sd).pdf(x) for centre, sd, mass in parts))
    return along - 0.5 * (y - 4) ** 2 - 0.5 * (z - 3) ** 2


def test_two_hills_far_apart_are_two_peaks_with_their_masses():
    height = hills((15, 3, 0.7), (42, 3, 0.3))
    peaks, basin = np.unique(find_summits(height), return_inverse=True)
    assert [np.unravel_index(peak, height.shape) for peak in peaks] == [(15, 4, 3), (42, 4, 3)]
    mass = np.exp(height).ravel()
    share = np.bincount(basin.ravel(), mass / mass.sum())
    # cells more than 15 nats down go to the higher hill; they hold less than 1e-4
    assert_allclose(share, [0.7, 0.3], atol=1e-3)


@pytest.mark.parametrize(("depth", "count"), [(VALLEY - 0.1, 1), (VALLEY + 0.1, 2)])
def test_a_valley_counts_once_it_is_deep_enough(depth: float, count: int):
    ridge = np.interp(np.arange(41.0), [0, 10, 20, 30, 40], [-8, 0, -0.3 - depth, -0.3, -8])
    y, z = np.meshgrid(np.arange(-2.0, 3), np.arange(-2.0, 3), indexing="ij")
    height = ridge[:, None, None] - (y**2 + z**2)[None]
    assert len(np.unique(find_summits(height))) == count


def test_a_way_around_the_corner_joins_two_peaks():
    """The straight way is deep, another is not."""
    height = np.full((5, 5, 1), -10.0)
    height[0, 0], height[0, 4] = 0.0, -0.1
    height[[1, 2, 2, 2, 1], [0, 1, 2, 3, 4]] = -0.3
    assert len(np.unique(find_summits(height))) == 1
    height[2, 2] = -5.0
    assert len(np.unique(find_summits(height))) == 2


def test_one_cell_and_a_plain_are_one_peak():
    assert find_summits(np.zeros((1, 1, 1))).tolist() == [[[0]]]
    assert len(np.unique(find_summits(np.zeros((4, 3, 2))))) == 1


# -- in words --------------------------------------------------------------------------------------


def simulated(memory: float, seed: int) -> HedgeData:
    truth = datasets.simulate(500, memory=memory, intercept_memory=np.inf, seed=seed)
    return HedgeData.from_prices(truth.prices, target="Y", hedges=["X1"])


@pytest.mark.variants
@pytest.mark.parametrize("seed", [1, 2])
def test_a_static_truth_is_not_ruled_out_and_a_fast_one_rules_it_out(seed: int):
    model = hedge_ratio_model(intercept="static", noise=Constant())
    static = surface_of(simulated(np.inf, seed), model, points=(24, 1, 24))
    assert -NEAR_THE_TOP < static.profile().iloc[0] <= 0
    assert "cannot tell it from static" in static.notes[0]
    fast = surface_of(simulated(3.0, seed), model, points=(24, 1, 24))
    assert fast.profile().iloc[0] < -50
    below = -fast.profile().iloc[0]
    assert fast.notes[0] == f"A static ratio to X1 is {below:.1f} nats below the best that moves"
    memory = fast.modes["beta_memory"].iloc[0]
    assert 2.0 < memory < 4.5


def table(*rows: tuple[float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["beta_memory", "mass"])


def test_the_notes_say_what_an_average_would_hide():
    flat = np.zeros((3, 1, 1))
    static, two = write_notes("SPY", 300, flat, table((5.0, 0.6), (700.0, 0.4)))
    assert "these rows cannot tell it from static" in static
    assert "2 peaks, at effective memories of SPY of 5 bars (60%); 700 bars (40%)" in two
    steep = np.array([0.0, 30.0]).reshape(2, 1, 1)
    behind, slow = write_notes("SPY", 300, steep, table((700.0, 1.0)))
    assert behind == "A static ratio to SPY is 30.0 nats below the best that moves"
    assert "in 700 bars, more than the 300 rows there are: in effect static" in slow


@pytest.mark.slow
def test_ewc_on_ewa_has_the_top_of_the_oracle():
    """The greatest diffuse log likelihood of the raw model on 1,250 rows is -172.2906."""
    prices = read_table("chan_ewa_ewc_close.csv")
    data = HedgeData.from_prices(prices, target="EWC", hedges=["EWA"], transform="level")
    model = hedge_ratio_model(initial=Diffuse(), pivot=0, noise=Constant())
    found = surface_of(data, model)
    assert isinstance(found, Surface)
    top = found.log_likelihood.max()
    assert -172.2906 - 0.15 < top < -172.2906 + 1e-3  # a grid is below the top, by its spacing


@pytest.mark.nightly
def test_what_it_does_not_scan_of_a_noise_is_told():
    data = stocks_between("2019-01-01", "2019-05-01", transform="return")
    surface = surface_of(data, hedge_ratio_model(noise=Anchored(), intercept="none"), points=SMALL)
    assert (
        surface.notes[-1] == "what else is inferred of the noise is held at its prior median here"
    )
    assert np.isfinite(surface.log_likelihood).all()
