"""Published settings: the figures printed for them, what they imply, and what may not be compared."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kfmodels import Constant, Discounted, HedgeData, fit, hedge_ratio_model
from kfmodels.data import datasets
from kfmodels.evaluate.effectiveness import hedge_effectiveness
from kfmodels.evaluate.published import (
    FromLeastSquares,
    InPriceUnits,
    Published,
    arbitragelab,
    chan,
    palomar,
    pykalman_defaults,
    quantopian_lecture,
    quantstart,
    table,
)
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.model import Absolute, Diffuse
from kfmodels.model.memory import q_to_delta
from kfmodels.model.starts import Known, Zero
from tests.problems import unsampled
from tests.reference import loop
from tests.tables import read_table

SETTINGS = [chan, arbitragelab, quantstart, quantopian_lecture, pykalman_defaults, palomar]
COLUMNS = ["q_beta", "q_alpha", "memory", "effective_memory", "gain", "z_sd"]
COLUMNS += ["inside_68", "inside_90", "log_score", "beta", "beta_sd"]


def ewc(*, transform="level", factor=1.0) -> HedgeData:
    """EWC on EWA, prices times a factor."""
    frame = read_table("chan_ewa_ewc_close.csv") * factor
    return HedgeData.from_prices(frame, target="EWC", hedges=["EWA"], transform=transform)


def ewg(*, transform="level", target=1.0, hedge=1.0) -> HedgeData:
    """EWG on EWQ, each price times a factor."""
    frame = datasets.etfs()[["EWG", "EWQ"]] * [target, hedge]
    return HedgeData.from_prices(frame, target="EWG", hedges=["EWQ"], transform=transform)


def run(setting: Published, data: HedgeData) -> HedgeFit:
    return fit(data, setting.model(data), progress=False)


def most_likely(data: HedgeData) -> HedgeFit:
    """The noise of EWC on EWA at the maximum of the exact diffuse likelihood."""
    slope, level = (Absolute(q_to_delta(var)) for var in (1.67957e-5, 5.02934e-2))
    model = hedge_ratio_model(
        delta={"beta": slope, "alpha": level},
        obs_scale=8.21088e-3**0.5,
        initial=Diffuse(),
        pivot=0,
    )
    return fit(data, model, progress=False)


@pytest.fixture(scope="module")
def stocks() -> HedgeData:
    """Two hedges, a year, a gap in the middle and one at the start."""
    frame = datasets.stocks()[["KO", "PEP", "SPX"]].loc["2021"].copy()
    frame.iloc[[0, 100], 1] = np.nan
    return HedgeData.from_prices(frame, target="KO", hedges=["PEP", "SPX"], transform="level")


# --- printed figures ------------------------------------------------------------------------


@pytest.mark.nightly
def test_what_chan_and_the_maximum_of_the_likelihood_imply_on_ewc():
    data = ewc()
    found = table(data, {"maximum likelihood": most_likely(data)})
    names = [setting().name for setting in SETTINGS]
    assert list(found.index) == [*names, "maximum likelihood"]
    assert found.index.name == "setting"
    assert list(found.columns) == COLUMNS
    assert found.notna().all(axis=None)

    book, best = found.loc["Chan (2013)"], found.loc["maximum likelihood"]
    assert_allclose(1 - book["inside_68"], 0.47, atol=0.005)
    assert_allclose(book["beta"], 0.90249284, atol=5e-9)
    assert_allclose(book["beta_sd"], 1.48831771e-4**0.5, rtol=5e-9)
    assert_allclose(best["beta"], 0.85147589, rtol=1e-7)
    assert_allclose(best["beta_sd"], 0.0502, atol=5e-5)
    assert_allclose(best["beta_sd"] / book["beta_sd"], 4, rtol=0.05)
    assert_allclose(best["q_alpha"] / best["q_beta"], 5.02934e-2 / 1.67957e-5, rtol=1e-9)
    assert_allclose(best["z_sd"], 1, atol=0.01)
    assert best["log_score"] == found["log_score"].max()

    assert_allclose(found["q_beta"].iloc[:5], [0.1 / (1 - 1e-4), 0.1, 1e-5, 5e-4, 1], rtol=2e-3)
    assert_allclose(found["q_alpha"].iloc[:5], found["q_beta"].iloc[:5], rtol=1e-12)
    assert_allclose(found.loc["Palomar (2025)", "q_alpha"], 1e-5)


def test_the_columns_are_those_of_the_filter():
    """Against the textbook loop, whose innovations are z, and their density."""
    data, state_var = ewg(), 1e-5 / (1 - 1e-5)
    passed = loop(
        data.y,
        design=np.column_stack([data.x, np.ones(len(data))]),
        initial_mean=np.zeros(2),
        initial_cov=np.ones((2, 2)),
        obs_var=1.0,
        state_var=np.full(2, state_var),
    )
    late = slice(20, None)
    z = (passed.error / np.sqrt(passed.forecast_var))[late]
    var = passed.filtered_cov[-1, 0, 0]
    found = quantstart().implies(data)
    assert found.name == "QuantStart"
    expected = {
        "gain": (1 - 1 / passed.forecast_var)[late].mean(),
        "z_sd": z.std(ddof=1),
        "inside_68": (abs(z) < 1).mean(),
        "inside_90": (abs(z) < 1.6448536269514722).mean(),
        "log_score": passed.log_density[late].mean(),
        "beta": passed.filtered_mean[-1, 0],
        "beta_sd": var**0.5,
        "effective_memory": 1 + var / state_var,
    }
    assert_allclose(found[list(expected)], list(expected.values()), rtol=1e-7)


def test_the_figures_of_arbitragelab():
    data = HedgeData.from_prices(datasets.etfs(), target="IEF", hedges=["TIP"], transform="level")
    found = run(arbitragelab(), data)
    # the slopes it prints are predicted ones (t | t-1), the 0 of row 1 included
    slope, filtered = (found.hedge_ratio(kind)["mean"].mean() for kind in ("predicted", "filtered"))
    assert_allclose(slope, 0.9017056557, atol=5e-11, rtol=0)
    assert_allclose(filtered, 0.90215674, atol=5e-9, rtol=0)
    assert_allclose(found.spread()["spread"].mean(), 0.0891654, atol=5e-8, rtol=0)
    assert_allclose(found.spread()["sd"].mean(), 1.1092028, atol=5e-8, rtol=0)


@pytest.mark.slow
def test_the_variance_that_chan_removes():
    data = ewc()
    training = data.before(data.index[252])
    found = hedge_effectiveness(
        data.prices,
        target="EWC",
        hedges=["EWA"],
        train=252,
        models={"Chan": run(chan(), training)},
        transform="level",
    )
    assert_allclose(found.loc["Chan", "variance_removed"], 0.509, atol=5e-4)


# --- units ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "z_sd"), [(0.1, 0.67), (1, 1.82), (10, 2.39)])
def test_the_bands_of_chan_depend_on_the_unit_of_money(factor, z_sd):
    data = ewc(factor=factor)
    assert_allclose(chan().implies(data)["z_sd"], z_sd, atol=0.005)


def test_the_bands_of_chan_are_four_times_too_wide_on_logs():
    data = ewc(transform="log")
    assert_allclose(chan().implies(data)["z_sd"], 0.27, atol=0.005)
    # the printed 0.24 is that of a start that says nothing
    vague = Published("vague", "", "", InPriceUnits(1e-4 / (1 - 1e-4), 1e-3, start_var=1e4))
    assert_allclose(vague.implies(data)["z_sd"], 0.24, atol=0.005)


@pytest.mark.variants
@pytest.mark.parametrize(("target", "hedge"), [(100.0, 1.0), (1.0, 1e-3), (1e-4, 1e4)])
def test_palomar_knows_no_units(target, hedge):
    plain = palomar().implies(ewg())
    scaled = palomar().implies(ewg(target=target, hedge=hedge))
    same = ["q_alpha", "memory", "effective_memory", "gain", "z_sd", "inside_68", "inside_90"]
    assert_allclose(scaled[same], plain[same], rtol=1e-8)
    assert_allclose(scaled[["beta", "beta_sd"]] * hedge / target, plain[["beta", "beta_sd"]])
    assert_allclose(scaled["log_score"] + np.log(target), plain["log_score"])


def test_palomar_starts_where_least_squares_ends():
    data = ewg(transform="log")
    model = palomar(1e-6).model(data)
    slope, level = np.polyfit(data.x[:, 0], data.y, 1)
    left = np.var(data.y - level - slope * data.x[:, 0])
    unit = np.array([left / np.var(data.x), left])
    assert isinstance(model.initial, Known)
    assert_allclose(model.initial.mean, [slope, level])
    assert_allclose(model.initial.cov, np.diag(unit / len(data)))
    assert_allclose(model.obs_scale**2, left)
    delta = np.array([*model.beta_delta.delta, model.alpha_delta.delta])
    assert_allclose(delta / (1 - delta), 1e-6 * unit)


# --- starts, several hedges, gaps -----------------------------------------------------------


@pytest.mark.slow
def test_a_start_of_ones_is_taken_as_published():
    data = ewc()
    for setting in (quantstart(), quantopian_lecture()):
        start = setting.model(data).initial
        assert isinstance(start, Known)
        assert (start.cov == 1).all()
        assert "np.ones((2, 2)), singular" in setting.says
    # slope after 1500 rows: the start is still there
    noise = {"state_var": 1e-5 / (1 - 1e-5), "obs_var": 1.0, "start_var": 1.0}
    ones, eye = (
        Published("", "", "", InPriceUnits(**noise, start_corr=corr)).implies(data)["beta"]
        for corr in (1.0, 0.0)
    )
    assert_allclose([ones, eye], [1.148, 0.992], atol=5e-4)
    assert quantstart().implies(data)["beta"] == ones


@pytest.mark.variants
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_runs_on_two_hedges_with_gaps(stocks, setting):
    model = setting().model(stocks)
    if isinstance(model.initial, Zero):
        assert setting in (chan, arbitragelab)
    else:
        assert np.shape(model.initial.cov) == (3, 3)
    found = setting().implies(stocks)
    assert found.name == setting().name
    assert found.notna().all()
    assert found["memory"] > 1
    assert setting().source
    assert setting().says


def test_settings_are_values():
    assert chan() == chan(1e-4, 1e-3) != chan(1e-5)
    assert palomar(1e-6).settings == FromLeastSquares(1e-6)
    assert chan(1e-5).says == "delta = 1e-05, Ve = 0.001, start 0 with covariance 0"


@pytest.mark.nightly
def test_the_intercept_of_another_model_has_no_q_at_zero(stocks):
    moves = {"delta": 0.01, "obs_scale": 0.3}
    fits = {
        "pivot at the mean": fit(
            stocks, hedge_ratio_model(**{"noise": Constant()} | moves), progress=False
        ),
        "none": fit(
            stocks,
            hedge_ratio_model(**{"noise": Constant()} | moves, intercept="none"),
            progress=False,
        ),
        "static at 0": fit(
            stocks,
            hedge_ratio_model(**{"noise": Constant()} | moves, intercept="static", pivot=0),
            progress=False,
        ),
    }
    found = table(stocks, fits, burn_in=0).loc[list(fits)]
    assert found["q_alpha"].isna().tolist() == [True, True, False]
    assert found.loc["static at 0", "q_alpha"] == 0
    assert found.drop(columns="q_alpha").notna().all(axis=None)


@pytest.mark.nightly
def test_a_fit_counts_what_is_not_known_of_the_noise(stocks):
    """`gain` is 1 - obs_var / spread_sd**2 of the mixture, and `beta_sd` the total sd."""
    vague = unsampled(stocks, pivot=0)
    moving = unsampled(
        stocks, intercept="none", noise=Discounted(), initial=Known([0.3, 0], np.eye(2) / 100)
    )
    found = table(stocks, {"vague": vague, "moving": moving})
    mixed, sd = vague.tree["mixture"], vague.spread()["sd"].dropna().iloc[20:]
    gain = (1 - float((mixed["obs_scale"] ** 2).mean()) / sd**2).mean()
    assert_allclose(found.loc["vague", "gain"], gain, rtol=1e-6)
    last = vague.tree["filtered"].isel(time=-1).sel(coef="PEP")
    assert found.loc["vague", "beta_sd"] == float(last["sd"]) > 1.1 * float(last["sd_given_noise"])
    assert found.loc["moving", "gain"] > 0
    assert found.loc["moving", "gain"] < 1
