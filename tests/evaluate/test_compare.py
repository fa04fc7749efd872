"""Scores on later dates: densities, CRPS and standard errors against closed forms and other code."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import beta
from statsmodels.regression.linear_model import OLS

from kfmodels import (
    NUTS,
    Constant,
    Discounted,
    HedgeData,
    HedgeFit,
    compare,
    fit,
    follow,
    hedge_ratio_model,
)
from kfmodels.data import datasets
from kfmodels.evaluate import leave_future_out
from kfmodels.evaluate.compare import Comparison, score_price, standard_error
from kfmodels.kalman.transforms import transform_of
from kfmodels.online.ticks import Predictive
from tests.problems import hedge_case, stocks_between, unsampled
from tests.reference import loop

PRICES = datasets.stocks()
LATER = PRICES.loc["2020-01":"2020-07"]
NOISES = {"constant": {}, "discounted": {"noise": Discounted()}}


def data(**options: Any) -> HedgeData:
    return stocks_between("2019-07-01", "2020-01-01", **options)


def vague(transform: Any = "log", hedges: tuple = ("PEP",), **options: Any) -> HedgeFit:
    return unsampled(data(transform=transform, hedges=hedges), draws=8, **options)


def certain(*, at: HedgeData | None = None, obs_scale: float = 0.008, **options: Any) -> HedgeFit:
    """A fit whose noise is given: nothing is sampled."""
    options = {"delta": {"beta": 1e-4, "alpha": 0.5}} | options
    model = hedge_ratio_model(obs_scale=obs_scale, **options)
    return fit(data() if at is None else at, model, progress=False)


# -- the whole forecast ----------------------------------------------------------------------------


def log_density(ahead: Predictive, value: float) -> float:
    if ahead.dof is None:
        law = stats.norm(ahead.mean, ahead.scale)
    else:
        law = stats.t(ahead.dof, ahead.mean, ahead.scale)
    return float(np.log(law.pdf(value) @ ahead.weights))


@pytest.mark.variants
@pytest.mark.parametrize("transform", ["log", "level", "return"])
@pytest.mark.parametrize("noise", NOISES)
def test_the_predictive_has_the_moments_of_the_forecast_and_the_score_of_the_tick(transform, noise):
    live = vague(transform, **NOISES[noise]).online()
    before = PRICES.loc[:"2019-12-31"].iloc[-1][["KO", "PEP"]].to_numpy(float)
    for at, row in LATER.iloc[:15].iterrows():
        prices = row[["KO", "PEP"]].to_numpy(float)
        value = TO_VALUE[transform](prices[0], before[0])
        kept = live.to_json()
        ahead, foreseen = (ask(x=prices[1]) for ask in (live.predictive, live.forecast))
        assert (live.predictive(x=prices[1], dt=5.0).scale > ahead.scale).all()
        assert live.to_json() == kept  # asking changes nothing
        assert ahead.weights.sum() == pytest.approx(1.0, rel=1e-12)
        mean = ahead.mean @ ahead.weights
        tail = 1.0 if ahead.dof is None else ahead.dof / (ahead.dof - 2)
        var = (ahead.scale**2 * tail + (ahead.mean - mean) ** 2) @ ahead.weights
        assert mean == pytest.approx(foreseen.mean, rel=1e-12)
        assert np.sqrt(var) == pytest.approx(foreseen.sd, rel=1e-10)
        score = live.update(y=prices[0], x=prices[1], at=at).log_score
        assert log_density(ahead, value) == pytest.approx(score, rel=1e-9)
        before = prices


# -- CRPS and PIT ----------------------------------------------------------------------------------


def against(ahead: Predictive, price: float, transform: str = "level") -> tuple[float, float]:
    return score_price(ahead, transform_of(transform), price, 80.0)


@pytest.mark.parametrize("away", [-30.0, -3.0, -0.4, 0.0, 1.0, 8.0])
@pytest.mark.parametrize("dof", [None, 5.0])
def test_the_score_of_one_law_is_its_closed_form(away: float, dof: float | None):
    """Gneiting and Raftery (2007), equation 21; Jordan, Krueger and Lerch (2019), JSS 90, A.1."""
    law: Any = stats.norm() if dof is None else stats.t(dof)
    exact = away * (2 * law.cdf(away) - 1)
    if dof is None:
        exact += 2 * law.pdf(away) - 1 / np.sqrt(np.pi)
    else:
        exact += 2 * law.pdf(away) * (dof + away**2) / (dof - 1)
        exact -= 2 * np.sqrt(dof) / (dof - 1) * beta(0.5, dof - 0.5) / beta(0.5, dof / 2) ** 2
    parts = [np.array([v]) for v in (1.0, 50.0, 0.7)]
    ahead = Predictive(*parts, None if dof is None else np.array([dof]))
    crps, pit = against(ahead, 50.0 + 0.7 * away)
    assert crps == pytest.approx(0.7 * exact, rel=1e-3)
    assert pit == pytest.approx(law.cdf(away), rel=1e-9)


def by_draws(ahead: Predictive, price: float, to_price: Any) -> tuple[float, float]:
    """CRPS = E|Y - y| - E|Y - Y'| / 2 with its standard error."""
    random = np.random.default_rng(0)
    count = 400_000

    def drawn():
        which = random.choice(len(ahead.weights), count, p=ahead.weights)
        if ahead.dof is None:
            noise = random.standard_normal(count)
        else:
            noise = random.standard_t(ahead.dof[which])
        return to_price(ahead.mean[which] + ahead.scale[which] * noise)

    first, second = drawn(), drawn()
    each = np.abs(first - price) - np.abs(first - second) / 2
    return each.mean(), each.std() / np.sqrt(count)


MIXTURE = {
    "weights": np.array([0.2, 0.5, 0.3]),
    "mean": np.array([4.30, 4.35, 4.50]),
    "scale": np.array([0.02, 0.05, 0.01]),
}
DOF = {"normal": None, "Student": np.array([3.0, 9.0, 30.0])}
TO_VALUE = {
    "log": lambda v, _: np.log(v),
    "level": lambda v, _: v,
    "return": lambda v, w: np.log(v / w),
}
TO_PRICE = {"level": np.asarray, "log": np.exp, "return": lambda v: 80 * np.exp(v)}


@pytest.mark.parametrize("law", DOF)
@pytest.mark.parametrize("transform", TO_PRICE)
def test_the_score_of_a_mixture_is_that_of_its_draws_in_currency(transform: str, law: str):
    ahead = Predictive(**MIXTURE, dof=DOF[law])
    each = stats.norm if ahead.dof is None else partial(stats.t, ahead.dof)
    for value in (4.1, 4.34, 4.47, 4.6):
        price = float(TO_PRICE[transform](value))
        crps, pit = against(ahead, price, transform)
        drawn, error = by_draws(ahead, price, TO_PRICE[transform])
        assert abs(crps - drawn) < 4 * error + 1e-3 * drawn
        share = each(ahead.mean, ahead.scale).cdf(value) @ ahead.weights
        assert pit == pytest.approx(share, rel=1e-9)


# -- standard errors -------------------------------------------------------------------------------


def correlated(rows: int, share: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(rows)
    values = [noise[0]]
    for step in noise[1:]:
        values.append(share * values[-1] + step)
    return np.array(values)


@pytest.mark.parametrize("share", [-0.5, 0.0, 0.8])
@pytest.mark.parametrize("rows", [31, 252, 2500])
def test_the_standard_error_is_that_of_newey_and_west(rows: int, share: float):
    values = correlated(rows, share)
    lags = int(np.floor(4 * (rows / 100) ** (2 / 9)))
    regressed = OLS(values, np.ones(rows)).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False}
    )
    assert standard_error(values) == pytest.approx(float(regressed.bse[0]), rel=1e-10)


# -- comparing -------------------------------------------------------------------------------------


def test_scores_are_of_prices_whatever_the_transform():
    fits = {transform: vague(transform) for transform in ("log", "level", "return")}
    found = compare(fits, LATER)
    price = LATER["KO"]
    slopes = {"log": np.log(price), "return": np.log(price), "level": 0 * price}
    for name, fitted in fits.items():
        ticks = follow(fitted.online(), LATER)
        expected = ticks["log_score"] - slopes[name]
        assert_allclose(found.log_scores[name], expected, rtol=1e-9)
        assert_allclose(found.z[name], ticks["z"], rtol=1e-12)
        assert found.table.loc[name, "log_score"] == pytest.approx(expected.mean(), rel=1e-9)


def simulated(seed: int) -> tuple[dict[str, HedgeFit], pd.DataFrame]:
    """The model that made the rows, and two that are wrong about the noise."""
    truth = datasets.simulate(
        900, memory=20.0, intercept_memory=3.0, obs_scale=0.005, transform="log", seed=seed
    )
    pair = HedgeData.from_prices(truth.prices, target="Y", hedges=["X1"])
    pair = pair.before(truth.prices.index[300])
    # the speed was stated on the variance of all rows; say it on that of the training rows
    x = np.log(truth.prices["X1"])
    ratio = ((x.iloc[:300] - x.iloc[:300].mean()) ** 2).mean() / x.var(ddof=0)
    q = truth.q.iloc[-1]
    true = [q["X1"] * ratio, q["intercept"]]
    fits = {}
    for name, factor, scale in (("true", 1.0, 0.005), ("slow", 1e-3, 0.005), ("wide", 1.0, 0.01)):
        beta, alpha = (factor * value for value in true)
        model = hedge_ratio_model(
            delta={"beta": beta / (1 + beta), "alpha": alpha / (1 + alpha)}, obs_scale=scale
        )
        fits[name] = fit(pair, model, progress=False)
    return fits, truth.prices


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_model_that_made_the_rows_is_not_beaten_and_covers_them(seed: int):
    fits, prices = simulated(seed)
    found = compare(fits, prices)
    row = found.table.loc["true"]
    assert row["behind"] <= 3 * row["behind_se"]
    assert found.table.index[0] == "true"  # the others are wrong by much
    bars = row["bars"]
    assert bars == 600
    for word, share in (("inside_50", 0.5), ("inside_90", 0.9)):
        assert abs(row[word] - share) < 4 * np.sqrt(share * (1 - share) / bars)
    assert abs(row["z_sd"] - 1) < 4 / np.sqrt(2 * bars)
    # its pivot is not that of the rows simulated, which tilts its forecasts by very little
    assert stats.kstest(found.pit["true"], "uniform").pvalue > 1e-3
    assert found.table.loc["wide", "inside_90"] > 0.95
    assert found.table["crps"].idxmin() in ("true", "wide")


def test_the_table_sums_up_the_scores():
    found = compare({"a": certain(), "b": certain(obs_scale=0.012)}, LATER)
    table = found.table
    assert table.index.name == "model"
    assert table["log_score"].is_monotonic_decreasing
    best, second = table.index
    assert (table.loc[best, "behind"], table.loc[best, "behind_se"]) == (0.0, 0.0)
    gaps = (found.log_scores[best] - found.log_scores[second]).to_numpy()
    assert table.loc[second, "behind"] == pytest.approx(gaps.mean(), rel=1e-9)
    assert table.loc[second, "behind_se"] == pytest.approx(standard_error(gaps), rel=1e-12)
    for name in table.index:
        assert table.loc[name, "inside_50"] == found.pit[name].between(0.25, 0.75).mean()
        assert table.loc[name, "inside_90"] == found.pit[name].between(0.05, 0.95).mean()
        assert table.loc[name, "z_sd"] == pytest.approx(found.z[name].std(ddof=1), rel=1e-12)
    assert (table["bars"] == len(LATER)).all()


def test_only_rows_that_no_fit_has_seen_are_scored():
    early = certain(at=data().before("2019-11-01"))
    found = compare({"early": early, "late": certain()}, PRICES)
    assert found.log_scores.index[0] == LATER.index[0]
    assert found.log_scores.index[-1] == PRICES.index[-1]
    # the early filter ran through the rows between
    ticks = follow(early.online(), PRICES.loc["2019-11-01":])
    expected = ticks["log_score"] - np.log(PRICES["KO"])
    assert_allclose(found.log_scores["early"], expected.loc["2020":], rtol=1e-9)


def test_a_row_with_a_gap_is_not_scored_and_every_filter_goes_on():
    holed = LATER.copy()
    holed.loc[holed.index[4], "PEP"] = np.nan
    holed.loc[holed.index[9], "KO"] = np.nan
    hedges = {"one": ("PEP",), "other": ("SPX",), "both": ("PEP", "SPX")}
    fits = {name: certain(at=data(hedges=names)) for name, names in hedges.items()}
    found = compare(fits, holed)
    gone = holed.index[[4, 9]]
    assert found.log_scores.index.tolist() == holed.index.drop(gone).tolist()
    for name, fitted in fits.items():
        expected = follow(fitted.online(), holed)["log_score"] - np.log(holed["KO"])
        assert_allclose(found.log_scores[name], expected.drop(gone), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
def test_the_future_changes_nothing_before_it(noise: str):
    fits = {transform: vague(transform, **NOISES[noise]) for transform in ("log", "return")}
    bumped = LATER.copy()
    bumped.iloc[-10:] *= np.random.default_rng(0).uniform(0.9, 1.1, bumped.iloc[-10:].shape)
    one, other = (compare(fits, rows) for rows in (LATER, bumped))
    for part in ("log_scores", "pit", "z"):
        before, after = getattr(one, part), getattr(other, part)
        assert_array_equal(before.iloc[:-10], after.iloc[:-10])
        assert (before.iloc[-10:] != after.iloc[-10:]).all(axis=None)


def test_calibration_is_shown_by_year_or_by_block():
    rows = PRICES.loc["2020":]
    found = compare({"a": certain()}, rows)
    assert found.by_year.index.tolist() == sorted(set(rows.index.year))
    assert found.by_year.index.name == "year"
    year = found.z.loc["2020", "a"]
    assert found.by_year.loc[2020, "a"] == pytest.approx(year.std(ddof=1), rel=1e-12)
    numbered = PRICES.reset_index(drop=True)
    start = len(numbered) - 600
    pair = HedgeData.from_prices(numbered, target="KO", hedges=["PEP"])
    found = compare({"a": certain(at=pair.after(start - 200).before(start))}, numbered)
    assert found.by_year.index.tolist() == [0, 1, 2]
    assert found.by_year.index.name == "block of 252"
    first = found.z["a"].iloc[:252].std(ddof=1)
    assert found.by_year.loc[0, "a"] == pytest.approx(first, rel=1e-12)
    assert len(found.z) == 600


BEST, SURE, LEVEL = ("a", 0.0, 0.0), ("b", 0.05, 0.01), ("c", 0.03, 0.02)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([BEST], "a alone"),
        ([BEST, SURE], "beyond chance"),
        ([BEST, LEVEL, SURE], "cannot be told from c (less than 2 standard errors)"),
        ([BEST, LEVEL], "no lead to rely on (less than 2 standard errors)"),
    ],
)
def test_the_verdict_says_who_leads_and_how_sure(rows: list[tuple], said: str):
    table = pd.DataFrame(rows, columns=["model", "behind", "behind_se"]).set_index("model")
    empty = pd.DataFrame()
    verdict = Comparison(table.assign(bars=250), empty, empty, empty, empty, empty).verdict()
    assert said in verdict
    assert ("Over 250 bars a is ahead of" in verdict) == (len(rows) > 1)
    for name, gap, error in rows[1:]:
        assert f"{name} by {gap:.4f} nats a bar (se {error:.4f})" in verdict


# -- leave the future out --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short() -> HedgeData:
    return data().before(data().index[60])


MODEL = hedge_ratio_model(intercept="static", noise=Constant())
FEW = NUTS(warmup=200, draws=300, chains=2)


def mean_log_density(fitted: HedgeFit, prices: pd.DataFrame) -> list[float]:
    """Log of the mean over all draws of the density of the next rows, each after the last fitted."""
    posterior, given = fitted.tree["posterior"], fitted.data
    q, scale = posterior["q"].values.reshape(-1, 2), posterior["obs_scale"].values.ravel()
    y, x = np.vstack([given.prices[["KO", "PEP"]], prices[["KO", "PEP"]]]).T
    rows = {"observed": None, "dt": None}
    rows["design"] = np.column_stack([np.log(x) - given.x.mean(), np.ones(len(x))])
    passes = [
        loop(np.log(y), **hedge_case(given, each, sd, intercept="static") | rows)
        for each, sd in zip(q, scale, strict=True)
    ]
    joint = np.array([passed.log_density[len(given) :].cumsum() for passed in passes])
    return np.log(np.exp(joint).mean(0)).tolist()


@pytest.fixture(scope="module")
def at_origin(short: HedgeData) -> list[float]:
    """What a fit on the first 57 rows says of the next one, and of the next two together."""
    first = fit(short.before(short.index[57]), MODEL, method=FEW, progress=False, seed=4)
    return mean_log_density(first, short.prices.iloc[57:59])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("horizon", [1, 2])
def test_the_first_bar_left_out_is_forecast_by_a_fit_on_the_rows_before(short, at_origin, horizon):
    whole = unsampled(short, intercept="static")
    found = leave_future_out(whole, min_observations=57, horizon=horizon, method=FEW, seed=4)
    assert found.forecast_horizon == horizon
    assert found.n_data_points == 60 - 57 - horizon + 1
    elpd = np.asarray(found.elpd_i).ravel()
    elpd = elpd[~np.isnan(elpd)]
    assert elpd[0] == pytest.approx(at_origin[horizon - 1], abs=1e-3)
    assert found.elpd == pytest.approx(elpd.sum(), rel=1e-9)
    assert len(found.refits) == found.n_refits <= found.n_data_points
