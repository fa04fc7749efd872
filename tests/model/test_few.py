"""`Few`: a start that differs from draw to draw, against the textbook loop and a dense Gaussian."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from numpyro.infer.util import log_density
from scipy import stats

from kfmodels import (
    Constant,
    Discounted,
    HedgeData,
    Horseshoe,
    ImportanceSampling,
    fit,
    hedge_ratio_model,
    load,
)
from kfmodels.model import Few, Weak
from tests import reference
from tests.problems import assert_same_fit, hedge_case, stock_prices, unsampled
from tests.problems import gappy_pair as pair

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

TWO = ("SPX", "PEP")
TAU, LAM = 0.03, np.array([20.0, 0.4])


def sizes(tau, lam) -> np.ndarray:
    return tau * lam / np.sqrt(1 + (tau * lam) ** 2)


def case_of(data: HedgeData, size, q, obs_scale, **how) -> dict:
    """The textbook case whose ratios start with sd `size`, in ratios of the sds of moves."""
    case = hedge_case(data, q, obs_scale, **how)
    y, x = data.y[data.observed], data.x[data.observed]
    if data.transform != "return":
        y, x = np.diff(y), np.diff(x, axis=0)
    width = case["initial_cov"].diagonal().copy()
    width[: x.shape[1]] = np.square(size * y.std() / x.std(0))
    return case | {"initial_cov": np.diag(width)}


def joint(data: HedgeData, initial, **values) -> float:
    """With the noise fixed: log density of the sites of the start, and of the series."""
    options = {"delta": {"beta": 2e-3, "alpha": 0.4}}
    if data.transform == "return":
        options = {"delta": 2e-3, "intercept": "none"}
    model = hedge_ratio_model(**options, obs_scale=0.004, initial=initial)
    values = {name: jnp.asarray(value, float) for name, value in values.items()}
    return float(log_density(model, (model.inputs(data),), {}, values)[0])


@pytest.mark.variants
@pytest.mark.parametrize("transform", ["log", "level", "return"])
def test_the_density_is_prior_times_the_textbook_likelihood(transform):
    data, q = pair(hedges=TWO, transform=transform), [2 / 998, 2 / 998, 0.4 / 0.6]
    how = {"intercept": "none"} if transform == "return" else {}
    case = case_of(data, sizes(TAU, LAM), q, 0.004, **how)
    expected = reference.loop(data.y, **case).log_density.sum()
    # one leg of two: 1 / (2 - 1) over the root of the rows
    expected += stats.halfcauchy.logpdf(TAU, scale=1 / np.sqrt(data.observed.sum()))
    expected += stats.halfcauchy.logpdf(LAM).sum()
    found = joint(data, Few(legs=1), start_global=TAU, start_local=LAM)
    assert_allclose(found, expected, rtol=1e-10)


def test_another_unit_of_a_hedge_changes_nothing():
    prices = stock_prices()
    sites = {"start_global": TAU, "start_local": LAM}
    cents = prices.assign(SPX=100 * prices["SPX"])
    one, other = (joint(pair(p, TWO, "level"), Few(legs=1), **sites) for p in (prices, cents))
    assert_allclose(one, other, rtol=1e-10)


@pytest.mark.nightly
@pytest.mark.parametrize("noise", [Constant(), Discounted(30.0)], ids=["Constant", "Discounted"])
def test_every_draw_is_filtered_smoothed_and_goes_on_from_its_own_start(noise, tmp_path):
    whole = pair(hedges=TWO)
    data, (last, *_) = whole.before(whole.index[-1]), whole.index[-1:]
    options = {"delta": {"beta": Horseshoe(250)}, "initial": Few(legs=1), "noise": noise}
    fitted = unsampled(data, draws=8, **options)
    held = fitted.tree["mixture"]
    assert np.ptp(held["start_size"].values[:, 0]) > 0.01
    ends, firsts = [], []
    for number in range(held.sizes["noise_draw"]):
        size, q, scale = (held[k].values[number] for k in ("start_size", "q", "obs_scale"))
        case = case_of(data, size[:2], q, scale)
        if noise.moves:
            case |= {"variance_discount": 1 - 1 / 30, "variance_dof": 4.0}
        passed = reference.loop(data.y, **case)
        ends.append(passed.filtered_mean[-1])
        path, _ = reference.dense(case, passed.increment).given(data.y)
        firsts.append(path[0, :2])
    ended = np.mean(ends, 0)
    found = fitted.hedge_ratio().xs("mean", axis=1, level=1).iloc[-1]
    assert_allclose(found, ended[:2], rtol=1e-7)
    fitted.save(tmp_path / "fit.nc")
    read = load(tmp_path / "fit.nc")
    assert_same_fit(fitted, read)
    target, *hedges = whole.prices.loc[last]
    tick = read.online().update(y=target, x=hedges, at=last)
    pivot = data.x[data.observed].mean(0)
    forecast = ended @ np.append(np.log(hedges) - pivot, 1.0)
    assert_allclose(tick.spread, np.log(target) - forecast, rtol=1e-6)
    smoothed = fitted.hedge_ratio("smoothed").xs("mean", axis=1, level=1)
    assert_allclose(smoothed.iloc[-1], found, rtol=1e-7)
    if not noise.moves:
        assert_allclose(smoothed.iloc[0], np.mean(firsts, 0), rtol=1e-6)


LEGS = [f"X{number}" for number in range(8)]
CORRELATION = 0.6 + 0.4 * np.eye(8)
TRUE = np.array([0.7, 0.4, 0, 0, 0, 0, 0, 0])


@pytest.mark.nightly
def test_of_eight_hedges_it_finds_the_two_that_are_needed():
    """A dozen seeds, paired: nearer to the true ratios, and less excess variance on other rows."""
    errors, excesses = [], []
    for seed in range(12):
        random = np.random.default_rng(seed)
        x = 0.01 * random.multivariate_normal(np.zeros(8), CORRELATION, 251)
        y = x @ TRUE + 0.007 * random.normal(size=251)
        prices = 100 * np.exp(np.cumsum(np.column_stack([y, x]), 0))
        prices = pd.DataFrame(prices, columns=["Y", *LEGS])
        data = HedgeData.from_prices(prices, target="Y", hedges=LEGS, transform="return")
        error, excess = {}, {}
        for start in (Few(legs=2), Weak()):
            fixed = {"delta": 0.0, "obs_scale": 0.007, "intercept": "none"}
            model = hedge_ratio_model(**{"noise": Constant()} | fixed, initial=start)
            fitted = fit(data, model, method=ImportanceSampling(), seed=seed, progress=False)
            ratios = fitted.hedge_ratio().xs("mean", axis=1, level=1).iloc[-1].to_numpy()
            away = ratios - TRUE
            error[start], excess[start] = np.sqrt(away @ away), away @ CORRELATION @ away / 0.49
        errors.append(error[Few(legs=2)] - error[Weak()])
        excesses.append(excess[Few(legs=2)] - excess[Weak()])
    for differences in (errors, excesses):
        mean, sd = np.mean(differences), np.std(differences, ddof=1)
        assert mean < -3 * sd / np.sqrt(12)
