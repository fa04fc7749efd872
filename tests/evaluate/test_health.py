"""Is there a spread left: a planted one, a filter that eats it, walks that have none, Chan's pair."""

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.adfvalues import mackinnoncrit
from statsmodels.tsa.ar_model import AutoReg

from kfmodels import Constant, HedgeData, Reverting, fit, hedge_ratio_model
from kfmodels.evaluate.health import ENGLE_GRANGER, SpreadHealth, spread_health
from kfmodels.model import Absolute, Zero
from tests.tables import read_table

FOLLOWS = "The filter forgets faster than the spread comes back"
GAIN = "of every surprise to be permanent"
NO_RETURN = "The static spread does not come back"

FAST = {"delta": {"beta": 1e-6, "alpha": 0.9}, "obs_scale": 0.01}
STILL = {"delta": 1e-6, "obs_scale": 0.02, "intercept": "static"}


def planted(half_life: float, *, rows: int = 1500, hedges: int = 1, seed: int = 0) -> pd.DataFrame:
    """Y hedged with walks, its ratios all but still, and a spread that comes back."""
    rng = np.random.default_rng(seed)
    x = np.log(100) + 0.01 * rng.normal(size=(rows, hedges)).cumsum(0)
    ratio = 1 / hedges + 1e-5 * rng.normal(size=(rows, hedges)).cumsum(0)
    rho, surprise = 2 ** (-1 / half_life), 0.01 * rng.normal(size=rows)
    spread = np.zeros(rows)
    for t in range(1, rows):
        spread[t] = rho * spread[t - 1] + surprise[t]
    log = np.column_stack([(ratio * x).sum(1) + spread, x])
    columns = ["Y", *(f"X{j + 1}" for j in range(hedges))]
    return pd.DataFrame(np.exp(log), pd.bdate_range("2015-01-02", periods=rows), columns)


def health_of(prices: pd.DataFrame, *, transform="log", **model) -> SpreadHealth:
    target, *hedges = prices.columns
    data = HedgeData.from_prices(prices, target=target, hedges=hedges, transform=transform)
    return spread_health(
        fit(data, hedge_ratio_model(**{"noise": Constant()} | model), progress=False)
    )


@pytest.mark.parametrize("half_life", [5, 20])
def test_a_fast_filter_absorbs_a_planted_spread(half_life):
    health = health_of(planted(half_life), **FAST)
    static, filtered = health.table.loc["static OLS"], health.table.loc["innovation"]
    assert static["half_life_lower"] < half_life < static["half_life_upper"]
    # a filter that believes every bar leaves the one-bar change: 2 (1 - rho) of the variance
    assert filtered["absorbed"] == pytest.approx(2 * 2 ** (-1 / half_life) - 1, abs=0.04)
    assert filtered["half_life_upper"] < 1
    assert filtered["crossings"] > 2 * static["crossings"]
    assert filtered["memory"] == pytest.approx(1.1, abs=0.01)
    assert filtered["gain"] == 1 / filtered["memory"]
    follows, gain = health.warnings
    assert follows.startswith(FOLLOWS)
    assert "the intercept (1.1)" in follows
    for warning in (follows, gain):
        assert "To trade the spread, refit with hedge_ratio_model(spread=Reverting())." in warning
    assert "A hedger wants the ratio, not the spread, and need not care" in follows
    assert GAIN in gain
    text = str(health)
    assert f"- {FOLLOWS}" in text
    assert max(len(line) for line in text.splitlines()) <= 100


@pytest.mark.slow
def test_the_remedy_that_is_named_finds_the_planted_spread():
    prices = planted(5, rows=500)
    warning = health_of(prices, **FAST).warnings[0]
    named = re.search(r"hedge_ratio_model\(.*?\)\)", warning)
    assert named
    data = HedgeData.from_prices(prices, target="Y", hedges=["X1"])
    model = eval(named[0], {"hedge_ratio_model": hedge_ratio_model, "Reverting": Reverting})
    fitted = fit(data, model, progress=False)
    life = fitted.half_life()
    assert fitted.reversion_now().probability > 0.99
    assert life["lower"] < 5 < life["upper"]
    assert spread_health(fitted).warnings == ()  # of a state of its own, and not of the innovation


@pytest.mark.slow
def test_the_interval_of_the_half_life_covers_about_nine_in_ten():
    """Of 60 draws 54 +- 2.3 (one sd), less what the bias of least squares costs: here 49."""
    inside = 0
    for seed in range(60):
        row = health_of(planted(5, rows=500, seed=seed), **STILL).table.loc["static OLS"]
        inside += row["half_life_lower"] < 5 < row["half_life_upper"]
    assert 45 <= inside <= 59


@pytest.mark.parametrize("hedges", [1, 2])
def test_a_still_intercept_leaves_a_planted_spread(hedges):
    health = health_of(planted(5, hedges=hedges), **STILL)
    assert health.warnings == ()
    static, filtered = health.table.loc["static OLS"], health.table.loc["innovation"]
    assert filtered["half_life"] == pytest.approx(5, rel=0.35)
    assert filtered["half_life"] == pytest.approx(static["half_life"], rel=0.1)
    assert abs(filtered["absorbed"]) < 0.05
    assert (filtered["gain"], filtered["memory"]) == (0, np.inf)
    assert [name for name in health.table if name.startswith("effective_memory")] == [
        f"effective_memory X{j + 1}" for j in range(hedges)
    ]
    assert (static[["memory", "effective_memory X1"]] == np.inf).all()
    assert (static[["absorbed", "gain"]] == 0).all()


def test_every_number_by_hand():
    prices = planted(4, rows=80)
    data = HedgeData.from_prices(prices, target="Y", hedges=["X1"])
    fitted = fit(data, hedge_ratio_model(**{"noise": Constant()} | STILL), progress=False)
    table = spread_health(fitted).table
    log = np.log(prices.to_numpy())
    slope, level = np.polyfit(log[:, 1], log[:, 0], 1)
    burn_in = 16  # a fifth of 80 rows is less than 30
    days = (prices.index[-1] - prices.index[0]).days
    for name, spread in {
        "static OLS": log[:, 0] - slope * log[:, 1] - level,
        "innovation": fitted.spread()["spread"].to_numpy(),
    }.items():
        row, late = table.loc[name], spread[burn_in:]
        assert row["rows"] == 64
        assert row["sd"] == pytest.approx(late.std(ddof=1), rel=1e-9)
        crossed = sum(a * b < 0 for a, b in pairwise(late)) / 63
        assert row["crossings"] == pytest.approx(crossed * 79 / (days / 365.25))
        oracle = AutoReg(late, 1).fit()
        rho = float(oracle.params[1])
        # statsmodels divides the squared residuals by all pairs, not by those less two parameters
        error = float(oracle.bse[1]) * np.sqrt(63 / 61)
        assert row["half_life"] == pytest.approx(-np.log(2) / np.log(rho), rel=1e-8)
        for end, sign in (("half_life_lower", -1), ("half_life_upper", 1)):
            at = rho + sign * 1.6448536 * error
            expected = 0 if at <= 0 else np.inf if at >= 1 else -np.log(2) / np.log(at)
            assert row[end] == pytest.approx(expected, rel=1e-6)
    sd = table["sd"]
    assert table.loc["innovation", "absorbed"] == 1 - (sd["innovation"] / sd["static OLS"]) ** 2


def test_the_settings_of_chan_absorb_almost_all():
    prices = read_table("chan_ewa_ewc_close.csv")
    published = {"delta": Absolute(1e-4), "obs_scale": 1e-3**0.5, "initial": Zero(), "pivot": 0}
    health = health_of(prices[["EWC", "EWA"]], transform="level", **published)
    filtered = health.table.loc["innovation"]
    assert filtered["absorbed"] > 0.9
    assert filtered["half_life"] < 1
    assert filtered["sd"] == pytest.approx(0.333, abs=0.002)
    assert health.table.loc["static OLS", "half_life"] > 15
    follows = health.warnings[0]
    assert follows.startswith(FOLLOWS)
    assert "the ratio to EWA (2.49)" in follows
    assert "should check a ratio that moves this fast with hedge_effectiveness" in follows


def test_walks_that_share_nothing_have_no_spread():
    rng = np.random.default_rng(5)
    walks = pd.DataFrame(
        100 * np.exp(0.01 * rng.normal(size=(800, 2)).cumsum(0)), columns=["Y", "X"]
    )
    health = health_of(walks, **STILL)
    assert health.warnings[0].startswith(NO_RETURN)
    assert "from 0 to 799" in health.warnings[0]
    # rows without dates: per 252 bars
    late = health.table.loc["static OLS"]
    assert late["crossings"] * 769 / 252 == pytest.approx(round(late["crossings"] * 769 / 252))


def test_the_points_of_engle_and_granger():
    expected = [mackinnoncrit(hedges + 1, "c", np.inf)[1] for hedges in range(1, 11)]
    np.testing.assert_allclose(ENGLE_GRANGER, expected, atol=6e-4)


def test_a_fit_on_returns_has_nothing_to_come_back_to():
    returns = health_of(planted(5), transform="return", delta=0.5, obs_scale=0.01)
    assert returns.warnings == ()
    assert returns.table.loc["static OLS", "half_life"] < 1


def test_a_fit_without_an_intercept_has_no_gain():
    health = health_of(planted(5), delta=1e-9, obs_scale=0.02, intercept="none")
    assert health.table.loc["innovation", ["gain", "memory"]].isna().all()
    assert health.table.loc["innovation", "effective_memory X1"] > 5
    assert health.table.loc["static OLS", "memory"] == np.inf


def test_a_gap_joins_no_neighbours():
    prices = planted(5, rows=600)
    prices.iloc[100:400:10, 0] = np.nan
    health = health_of(prices, **STILL)
    assert (health.table["rows"] == 540).all()
    assert (health.table["half_life"] / 5 - 1).abs().max() < 0.35
