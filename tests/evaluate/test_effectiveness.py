"""What a hedge is worth and costs: published baselines, held shares, trades by hand, refusals."""

import datetime as dt
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from kfmodels import Constant, Discounted, HedgeData, fit, follow, hedge_ratio_model
from kfmodels.data import datasets
from kfmodels.data.simulated_days import simulate_days
from kfmodels.evaluate.baselines import (
    bars_per_year,
    ewma_ols,
    mean_ewma,
    moves,
    ols_on_changes,
    ols_on_levels,
    price_ratio,
    rolling_ols,
)
from kfmodels.evaluate.effectiveness import hedge_effectiveness, hedged_moves, value_traded
from kfmodels.evaluate.garch import dcc_garch
from kfmodels.evaluate.lasso import lasso
from kfmodels.model import Absolute, Diffuse
from kfmodels.model.starts import DIFFUSE
from tests.problems import unsampled
from tests.tables import read_table

pytestmark = pytest.mark.slow

PAIR = ["MTUM", "QUAL"]


def worth(prices: pd.DataFrame, train: int = 300, **options) -> pd.DataFrame:
    chosen = {"transform": "level", "train": train} | options
    return hedge_effectiveness(prices, target="MTUM", hedges=["QUAL"], **chosen)


def on_levels(prices: pd.DataFrame) -> HedgeData:
    return HedgeData.from_prices(prices, target="MTUM", hedges=["QUAL"], transform="level")


@pytest.fixture(scope="module")
def pair() -> pd.DataFrame:
    return datasets.factor_etfs()[PAIR].loc["2016":"2018"]


@pytest.fixture(scope="module")
def fitted(pair):
    data = HedgeData.from_prices(pair, target="MTUM", hedges=["QUAL"])
    return unsampled(data.before("2018-01-01"), noise=Discounted())


def test_the_honest_baselines_of_ewc_on_ewa():
    prices = read_table("chan_ewa_ewc_close.csv")
    table = hedge_effectiveness(prices, target="EWC", hedges=["EWA"], train=252, transform="level")
    printed = {
        "price ratio": 0.297,
        "static OLS on levels": 0.531,
        "static OLS on changes": 0.583,
        "rolling OLS on levels, 60": 0.579,
        "rolling OLS on levels, 252": 0.611,
        "rolling OLS on changes, 60": 0.662,
        "rolling OLS on changes, 252": 0.655,
    }
    assert table.loc[list(printed), "variance_removed"].round(3).to_dict() == printed
    assert list(table.index[len(printed) :]) == [
        "EWMA of changes, 0.94",
        "EWMA of changes, 0.98",
        "EWMA of changes, 0.99",
        "mean of 7 EWMAs",
        "DCC-GARCH-t",
    ]


def most_likely(data: HedgeData, *, separate: bool):
    """The raw model at the noise that maximises the exact diffuse likelihood of the data."""
    raw = hedge_ratio_model(initial=Diffuse(), pivot=0, noise=Constant())

    def negative(log_noise):
        obs_var, state_var = jnp.exp(log_noise[0]), jnp.exp(log_noise[1:])
        law = raw.regression(
            inputs, q=state_var * inputs.scales**2 / obs_var, obs_scale=jnp.sqrt(obs_var)
        )
        return -(law.log_prob(inputs.y) + 0.5 * inputs.scales.size * jnp.log(DIFFUSE * obs_var))

    with jax.enable_x64(True):
        inputs = raw.inputs(data)
        slope = jax.jit(jax.value_and_grad(negative))
        # one state variance for both coefficients, or one for each
        spread = np.eye(3) if separate else np.array([[1, 0], [0, 1], [0, 1]])

        def objective(free):
            value, gradient = slope(spread @ free)
            return float(value), spread.T @ np.asarray(gradient)

        starts = np.log([[1e-2, 1e-4, 1e-2], [5e-2, 1e-5, 1e-1]])[:, : spread.shape[1]]
        found = [minimize(objective, start, jac=True) for start in starts]
    obs_var, beta, alpha = np.exp(spread @ min(found, key=lambda f: f.fun).x)
    return hedge_ratio_model(
        delta={"beta": Absolute(beta / (1 + beta)), "alpha": Absolute(alpha / (1 + alpha))},
        obs_scale=float(np.sqrt(obs_var)),
        initial=Diffuse(),
        pivot=0,
    )


@pytest.mark.nightly
def test_the_filter_of_greatest_likelihood_on_ewc_and_ewa():
    prices = read_table("chan_ewa_ewc_close.csv")
    data = HedgeData.from_prices(prices, target="EWC", hedges=["EWA"], transform="level")
    year = data.before(prices.index[252])
    models = {
        name: fit(year, most_likely(year, separate=name == "separate"), progress=False)
        for name in ("one noise", "separate")
    }
    table = hedge_effectiveness(
        prices, target="EWC", hedges=["EWA"], train=252, models=models, transform="level"
    )
    removed = table["variance_removed"]
    assert removed["one noise"] == pytest.approx(0.650, abs=0.002)
    assert removed["separate"] == pytest.approx(0.664, abs=0.002)


def test_least_squares_agrees_with_numpy(pair):
    data = HedgeData.from_prices(pair, target="MTUM", hedges=["QUAL"])
    log = np.log(pair.to_numpy())
    assert ols_on_levels(data)["QUAL"] == pytest.approx(np.polyfit(log[:, 1], log[:, 0], 1)[0])
    change = pair.pct_change().dropna().to_numpy()
    slope = np.polyfit(change[:, 1], change[:, 0], 1)[0]
    assert ols_on_changes(data)["QUAL"] == pytest.approx(slope)
    rolled = rolling_ols(moves(data), 60)["QUAL"]
    last = np.polyfit(change[-60:, 1], change[-60:, 0], 1)[0]
    assert rolled.iloc[-1] == pytest.approx(last)
    # the first row has no move, so the first full window of 60 rows holds 59 of them
    assert rolled.iloc[:59].isna().all()
    assert rolled.iloc[59:].notna().all()


@pytest.mark.parametrize(
    "method",
    [
        partial(rolling_ols, window=60),
        partial(ewma_ols, decay=0.98),
        mean_ewma,
        partial(dcc_garch, first=300),
        partial(lasso, first=400 - 3 * 21, window=252),  # estimated again at row 400
    ],
)
def test_no_ratio_sees_the_move_it_is_held_over(pair, method):
    """Later prices change later ratios only, and the move over which an older one is held."""
    bumped = pair.copy()
    bumped.iloc[400:] *= np.random.default_rng(1).uniform(0.5, 2, (len(pair) - 400, 2))
    other = on_levels(bumped)
    before, after = (method(moves(each))["QUAL"] for each in (on_levels(pair), other))
    pd.testing.assert_series_equal(before.iloc[:400], after.iloc[:400], rtol=0, atol=0)
    assert (before.iloc[400:] != after.iloc[400:]).all()
    y, x = bumped["MTUM"].to_numpy(), bumped["QUAL"].to_numpy()
    expected = (y[400] - y[399]) - before.iloc[399] * (x[400] - x[399])
    assert hedged_moves(other, after.to_frame()).iloc[400] == pytest.approx(expected, rel=1e-12)


@pytest.mark.variants
@pytest.mark.parametrize("transform", ["log", "level"])
def test_a_fit_is_scored_on_what_it_said_the_day_before(pair, fitted, transform):
    """Its ratio of money becomes shares on levels."""
    train = int((pair.index < "2018-01-01").sum())
    table = worth(pair, train, models={"ours": fitted}, transform=transform)
    later = pair.iloc[train:]
    said = follow(fitted.online(), later)["beta QUAL"]
    change = later.pct_change().to_numpy()[1:]
    if transform == "level":
        said, change = said * later["MTUM"] / later["QUAL"], later.diff().to_numpy()[1:]
    hedged = change[:, 0] - said.to_numpy()[:-1] * change[:, 1]
    row = table.loc["ours"]
    removed = 1 - hedged.var(ddof=1) / change[:, 0].var(ddof=1)
    assert row["variance_removed"] == pytest.approx(removed, rel=1e-12)
    assert row["lower"] < row["variance_removed"] < row["upper"]
    assert table.loc["static OLS on changes", "gain"] == 0
    assert row["gain_lower"] < row["gain"] < row["gain_upper"]


@pytest.mark.slow
def test_the_bootstrap_interval_covers_the_spread_of_a_known_law():
    """Independent days: the interval of the share removed must match its delta-method sd."""
    rng = np.random.default_rng(0)
    rows, rho = 2000, 0.8
    x = rng.normal(size=rows) * 0.01
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=rows) * 0.01
    dates = pd.bdate_range("2010-01-01", periods=rows + 1)
    prices = pd.DataFrame(
        {"Y": np.r_[100, 100 * np.exp(np.cumsum(y))], "X": np.r_[100, 100 * np.exp(np.cumsum(x))]},
        index=dates,
    )
    table = hedge_effectiveness(prices, target="Y", hedges=["X"], train=500, transform="log")
    row = table.loc["static OLS on changes"]
    # share removed is about a squared correlation, whose sd is 2 rho (1 - rho^2) / sqrt(n)
    sd = 2 * rho * (1 - rho**2) / np.sqrt(rows - 500)
    width = (row["upper"] - row["lower"]) / (2 * 1.645)
    assert width == pytest.approx(sd, rel=0.25)
    assert abs(row["variance_removed"] - rho**2) < 4 * sd


def test_follow_tabulates_what_update_says(fitted, pair):
    later = pair.loc["2018-01"]
    ticks = []
    table = follow(fitted.online(), later, seen=ticks.append)
    assert len(ticks) == len(table) == len(later)
    assert table["beta QUAL"].tolist() == [tick.beta["QUAL"] for tick in ticks]
    assert table["z"].tolist() == [tick.z for tick in ticks]
    assert (table["sd_total QUAL"] >= table["sd_given_noise QUAL"]).all()


def test_a_gap_is_not_a_ratio_of_zero(pair):
    gappy = pair.copy()
    gappy.iloc[200:320, 0] = np.nan
    data = HedgeData.from_prices(gappy, target="MTUM", hedges=["QUAL"])
    rolled = rolling_ols(moves(data), 60)["QUAL"]
    assert rolled.iloc[240:340].isna().all()
    assert rolled.dropna().between(0.3, 2).all()


# --- other baselines --------------------------------------------------------------------------


@pytest.mark.variants
@pytest.mark.parametrize("transform", ["log", "return"])
def test_a_price_ratio_is_one_in_money(pair, transform):
    """The same shares as on levels: the same hedged return, the same trades."""
    money = HedgeData.from_prices(pair, target="MTUM", hedges=["QUAL"], transform=transform)
    level = on_levels(pair)
    assert (price_ratio(money) == 1).all().all()
    dollars = hedged_moves(level, price_ratio(level)) / pair["MTUM"].shift(1)
    returns = hedged_moves(money, price_ratio(money))
    np.testing.assert_allclose(returns[2:], dollars.reindex(returns.index)[2:], atol=1e-15)
    trades = value_traded(level, price_ratio(level)).reindex(returns.index)
    np.testing.assert_allclose(value_traded(money, price_ratio(money))[2:], trades[2:], rtol=1e-9)
    table = worth(pair, transform=transform)
    assert "price ratio" in table.index


@pytest.mark.parametrize("hedges", [1, 2])
def test_the_ewma_is_the_recursion_of_riskmetrics(hedges):
    table = noise_table(120, 1 + hedges)
    table.iloc[50, -1] = np.nan
    found = ewma_ols(table, 0.94)
    moment = np.zeros((1 + hedges, 1 + hedges))
    complete = 0
    for at, row in enumerate(table.to_numpy()):
        if np.isfinite(row).all():
            complete += 1
            moment = 0.94 * moment + 0.06 * np.outer(row, row)
        expected = np.linalg.solve(moment[1:, 1:], moment[1:, 0]) if complete >= 30 else np.nan
        np.testing.assert_allclose(found.iloc[at], np.broadcast_to(expected, hedges), rtol=1e-8)
    assert found.iloc[28].isna().all()
    assert found.iloc[29:].notna().all().all()
    pd.testing.assert_series_equal(found.iloc[50], found.iloc[49], check_names=False)


def test_the_mean_of_ewmas_is_the_mean_of_seven(pair):
    table = moves(on_levels(pair))
    memories = (0.9, 0.94, 0.97, 0.98, 0.99, 0.995, 0.999)
    expected = pd.concat([ewma_ols(table, memory)["QUAL"] for memory in memories], axis=1).mean(
        axis=1
    )
    np.testing.assert_allclose(mean_ewma(table)["QUAL"], expected, rtol=1e-12)


def test_a_basket_has_the_lasso_among_its_baselines():
    """Each ratio known at the close before: the last of the lasso is held over the last move."""
    prices = datasets.factor_etfs()[["MTUM", "QUAL", "SIZE"]].loc["2016":"2018"]
    options = {"target": "MTUM", "hedges": ["QUAL", "SIZE"], "transform": "log"}
    table = hedge_effectiveness(prices, train=600, **options)
    change = moves(HedgeData.from_prices(prices, **options))
    held = lasso(change, 600, 504).shift(1)
    left = (change["MTUM"] - (held * change[["QUAL", "SIZE"]]).sum(axis=1))[601:]
    removed = 1 - left.var() / change["MTUM"][601:].var()
    assert table.loc["lasso on changes, 504", "variance_removed"] == pytest.approx(removed)
    assert table.loc["lasso on changes, 504", "turnover"] < table.loc["DCC-GARCH-t", "turnover"]


def noise_table(rows: int, columns: int, seed: int = 0) -> pd.DataFrame:
    """Moves of columns that have half of their variance in common, in very different units."""
    rng = np.random.default_rng(seed)
    moved = rng.normal(size=(rows, columns)) + rng.normal(size=(rows, 1))
    return pd.DataFrame(moved * 10.0 ** np.arange(0, 5 * columns, 5), columns=list("YXZ")[:columns])


def test_the_ewma_survives_a_hedge_that_is_another_hedge(pair):
    """Twins share the hedge between them, as least squares shares it; nothing explodes."""
    table = moves(HedgeData.from_prices(pair, target="MTUM", hedges=["QUAL"]))
    twins = table.assign(TWIN=table["QUAL"])
    alone, shared = ewma_ols(table, 0.98)["QUAL"], ewma_ols(twins, 0.98)
    np.testing.assert_allclose(shared["QUAL"], alone / 2, rtol=1e-6)
    np.testing.assert_allclose(shared["TWIN"], alone / 2, rtol=1e-6)


# --- what it costs ----------------------------------------------------------------------------


def test_the_trades_of_a_tiny_table_by_hand():
    prices = pd.DataFrame({"Y": [100.0, 110, 120], "X": [50.0, 40, 60]})
    ratio = pd.DataFrame({"X": [1.0, 1.5, 1.2]})
    level = HedgeData(prices, prices, "level")
    # half a share more at 40 against a target of 110, then 0.3 shares less at 60 against 120
    expected = [np.nan, 0.5 * 40 / 110, 0.3 * 60 / 120]
    np.testing.assert_allclose(value_traded(level, ratio), expected)
    # shares 1 * 100 / 50 = 2, then 1.5 * 110 / 40 = 4.125, then 1.2 * 120 / 60 = 2.4
    log = HedgeData(prices, prices, "log")
    expected = [np.nan, 2.125 * 40 / 110, 1.725 * 60 / 120]
    np.testing.assert_allclose(value_traded(log, ratio), expected)


def test_turnover_and_break_even_cost_by_hand(pair):
    train = 300
    table = worth(pair, train, risk_aversion=3)
    level = on_levels(pair)
    y, x = pair["MTUM"].to_numpy(), pair["QUAL"].to_numpy()
    dy, dx = np.diff(y)[train:], np.diff(x)[train:]
    static = float(ols_on_changes(level.before(pair.index[train]))["QUAL"])
    days = (pair.index[-1] - pair.index[train]).days
    bars = (len(pair) - train - 1) / (days / 365.25)

    def yearly(held):
        return ((dy - held * dx) / y[train:-1]).var(ddof=1) * bars

    assert 250 < bars < 254
    for name, ratio in {
        "rolling OLS on changes, 60": rolling_ols(moves(level), 60)["QUAL"].to_numpy(),
        "EWMA of changes, 0.98": ewma_ols(moves(level), 0.98)["QUAL"].to_numpy(),
    }.items():
        traded_value = np.abs(np.diff(ratio))[train:] * x[train + 1 :] / y[train + 1 :]
        assert table.loc[name, "turnover"] == pytest.approx(traded_value.mean() * bars, rel=1e-9)
        saved = yearly(static) - yearly(ratio[train:-1])
        cost = 3 / 2 * saved / (traded_value.mean() * bars) * 1e4
        expected = max(cost, 0.0)
        assert table.loc[name, "break_even_cost"] == pytest.approx(expected, rel=1e-6)
    # static shares are never traded: where they save more than static shares, they are free
    assert (table.loc[["static OLS on levels", "static OLS on changes"], "turnover"] == 0).all()
    assert table.loc["static OLS on levels", "break_even_cost"] in (0, np.inf)
    assert np.isnan(table.loc["static OLS on changes", "break_even_cost"])
    assert list(table.columns[:5]) == [
        "variance_removed", "lower", "upper", "turnover", "break_even_cost"
    ]  # fmt: skip


@pytest.mark.variants
@pytest.mark.parametrize("transform", ["level", "log"])
def test_turnover_and_cost_do_not_depend_on_units(pair, transform):
    """Another currency, a split of either leg: the same money is traded for the same variance."""
    table, other = (worth(pair * unit, transform=transform) for unit in (1, [7.0, 0.03]))
    pd.testing.assert_frame_equal(table, other, rtol=1e-6, atol=1e-9)


def test_a_ratio_that_saves_and_never_trades_is_free():
    """Bad quotes of the hedge thin the ratio of its changes to a third; levels hardly notice them."""
    rng = np.random.default_rng(3)
    rows, train = 900, 300
    x = 100 + np.cumsum(rng.normal(size=rows))
    quoted = x + np.where(np.arange(rows) < train, 1.0, 0.1) * rng.normal(size=rows)
    dates = pd.bdate_range("2018-01-01", periods=rows)
    prices = pd.DataFrame({"Y": 200 + x, "X": quoted}, dates)
    table = hedge_effectiveness(prices, target="Y", hedges=["X"], train=train, transform="level")
    levels = table.loc["static OLS on levels"]
    assert levels["gain"] > 0.3
    assert levels["turnover"] == 0
    assert levels["break_even_cost"] == np.inf


def test_the_training_rows_are_given_by_number_or_by_the_date_after_them(pair):
    rows = int((pair.index < "2017-06-01").sum())
    by_number = worth(pair, rows)
    for date in ("2017-06-01", pd.Timestamp("2017-06-01"), dt.date(2017, 6, 1)):
        pd.testing.assert_frame_equal(worth(pair, date), by_number)


def test_it_scores_the_same_units_as_data_have_by_default(pair):
    plain = hedge_effectiveness(pair, target="MTUM", hedges=["QUAL"], train=300)
    pd.testing.assert_frame_equal(plain, worth(pair, transform="log"))


def test_oil_funds_hedge_each_other_once_their_split_is_repaired():
    """Raw, USO has a reverse split of 1 for 8, and hardly any of its variance seems to be removed."""
    raw = read_table("lean_uso_bno_daily_raw.csv.gz").loc["2018":"2020"]
    options = {"target": "USO", "hedges": ["BNO"], "train": 500, "transform": "log"}
    with pytest.warns(UserWarning, match="about 8 times"):
        wrong = hedge_effectiveness(raw, **options)
    right = hedge_effectiveness(raw, **options, repair={"USO": {"2020-04-29": 8}})
    assert wrong["variance_removed"].max() < 0.04
    assert right["variance_removed"].between(0.76, 0.85).all()
    divided = raw.assign(USO=raw["USO"].where(raw.index >= "2020-04-29", 8 * raw["USO"]))
    y, x = divided.pct_change().to_numpy()[1:].T
    held = np.polyfit(x[:499], y[:499], 1)[0]
    removed = 1 - np.var((y - held * x)[500:]) / np.var(y[500:])
    assert right.loc["static OLS on changes", "variance_removed"] == pytest.approx(
        removed, abs=0.01
    )


@pytest.mark.slow
def test_a_fit_of_prices_in_other_units_is_refused_and_the_remedy_works(pair):
    """A split after the fit, which the table repairs and the fit does not know."""
    split = pair.copy()
    split.loc["2018-06-01":, "MTUM"] *= 4
    options = {"target": "MTUM", "hedges": ["QUAL"]}
    train = len(pair.loc[:"2017"])
    repair = {"MTUM": {"2018-06-01": 4}}
    scored = partial(hedge_effectiveness, train=train, **options, transform="log")
    fitted = unsampled(HedgeData.from_prices(split.loc[:"2017"], **options))
    then, now = (table["MTUM"].iloc[train - 1] for table in (pair, 4 * pair))
    words = f"other units (MTUM was {then:g} at 2017-12-29, it is {now:g} here)"
    with pytest.raises(ValueError, match=re.escape(words)):
        scored(split, models={"fit": fitted}, repair=repair)
    data = HedgeData.from_prices(split, **options, repair=repair)
    again = unsampled(data.before("2018-01-01"))
    table = scored(split, models={"fit": again}, repair=repair)
    pd.testing.assert_frame_equal(table, scored(pair, models={"fit": fitted}), rtol=1e-6)


def test_prices_below_zero_have_no_turnover(pair):
    spread = pair - pair.mean()
    table = worth(spread)
    assert table["turnover"].isna().all()
    assert table["break_even_cost"].isna().all()
    assert "price ratio" not in table.index
    assert table["variance_removed"].notna().all()


def test_bars_per_year():
    assert bars_per_year(pd.RangeIndex(100)) == 252
    dates = pd.date_range("2020-01-01", periods=1461 * 2 + 1, freq="12h", tz="UTC")
    assert bars_per_year(dates) == pytest.approx(730.5)


def by_loops(prices: pd.DataFrame, decays=(0.9, 0.94, 0.97, 0.98, 0.99, 0.995, 0.999)):
    """The mean of seven ratios of simple returns after the last row, by a plain loop."""
    returns = prices.to_numpy()[1:] / prices.to_numpy()[:-1] - 1
    found = []
    for decay in decays:
        both = one = 0.0
        for y, x in returns:
            both, one = decay * both + y * x, decay * one + x * x
        found.append(both / one)
    return np.mean(found)


def test_a_combined_ratio_is_half_the_filter_and_half_seven_averages(pair, fitted):
    until = pair.loc[:"2018-02"]
    found = fitted.combined_ratio(until)
    assert found.index.equals(until.index)
    live = follow(fitted.online(), until.loc["2018"], progress=False)
    half = (live["beta QUAL"].iloc[-1] + by_loops(until)) / 2
    assert found["QUAL"].iloc[-1] == pytest.approx(half, rel=1e-9)
    last = fitted.hedge_ratio()["mean"].iloc[-1]
    alone = (last + by_loops(pair.loc[:"2017"])) / 2
    assert fitted.combined_ratio()["QUAL"].iloc[-1] == pytest.approx(alone, rel=1e-9)


def test_what_a_combined_ratio_was_worth_stands_beside_its_model(pair, fitted):
    table = worth(pair, len(pair.loc[:"2017"]), models={"moving": fitted}, transform="log")
    data = HedgeData.from_prices(pair, target="MTUM", hedges=["QUAL"])
    hedged = hedged_moves(data, fitted.combined_ratio(pair)).loc["2018"].iloc[1:]
    alone = pair["MTUM"].pct_change().loc["2018"].iloc[1:]
    removed = 1 - hedged.var() / alone.var()
    both = table.loc["moving, half EWMAs", "variance_removed"]
    assert both == pytest.approx(removed, rel=1e-9)


def test_a_combined_ratio_needs_no_later_row(pair, fitted):
    alone = fitted.combined_ratio()
    pd.testing.assert_frame_equal(fitted.combined_ratio(pair.loc[:"2017"]), alone)


@pytest.mark.parametrize("transform", ["log", "level"])
def test_a_combined_ratio_goes_through_a_split_that_is_repaired(pair, transform):
    split, told = pair.copy(), {"QUAL": {"2018-01-16": 0.5}}
    split.loc["2018-01-16":, "QUAL"] /= 2
    options = {"target": "MTUM", "hedges": ["QUAL"], "transform": transform}
    before = HedgeData.from_prices(pair, **options).before("2018-01-01")
    plain = unsampled(before, noise=Discounted())
    found = plain.combined_ratio(split.loc[:"2018-02"], repair=told)["QUAL"]
    expected = plain.combined_ratio(pair.loc[:"2018-02"])["QUAL"]
    # in shares of the new kind twice as many, in money the same
    times = 2.0 if transform == "level" else 1.0
    np.testing.assert_allclose(found, times * expected, rtol=1e-9)
    with pytest.warns(UserWarning, match="QUAL"):
        plain.combined_ratio(split.loc[:"2018-02"])


def test_prices_in_other_units_than_a_fit_are_not_combined_with_it(pair):
    split, told = pair.copy(), {"QUAL": {"2018-06-01": 0.5}}
    split.loc["2018-06-01":, "QUAL"] /= 2
    options = {"target": "MTUM", "hedges": ["QUAL"]}
    data = HedgeData.from_prices(split, repair=told, **options)
    made = unsampled(data.before("2018-01-01"), noise=Discounted())
    with pytest.raises(ValueError, match=r"other units.*HedgeData\.from_prices\(.*\)\.prices"):
        made.combined_ratio(split)
    found = made.combined_ratio(HedgeData.from_prices(split, repair=told, **options).prices)
    whole = unsampled(
        HedgeData.from_prices(pair, **options).before("2018-01-01"), noise=Discounted()
    )
    np.testing.assert_allclose(found, whole.combined_ratio(pair), rtol=1e-6)


def test_a_model_is_not_named_as_a_combined_one(pair, fitted):
    with pytest.raises(ValueError, match="cannot be called 'a, half EWMAs'"):
        worth(pair, 500, models={"a, half EWMAs": fitted})


@pytest.mark.parametrize("clock", [True, False])
def test_bars_within_the_day_are_not_combined_with_averages_of_days(clock):
    days = simulate_days(4, bars=78, seed=3)
    how = {"clock": days.clock} if clock else {}
    data = HedgeData.from_prices(days.prices, target="Y", hedges=["X1"], **how)
    with pytest.raises(ValueError, match=r"combined_ratio is of daily prices.*fit.hedge_ratio\(\)"):
        unsampled(data).combined_ratio()
