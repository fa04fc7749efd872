"""What a hedge is worth: ORACLES section 6, held-share arithmetic, and what may not be scored."""

import numpy as np
import pandas as pd
import pytest

from kfmodels import NUTS, Discounted, HedgeData, datasets, fit, follow, hedge_ratio_model
from kfmodels.scores import (
    hedge_effectiveness,
    hedged_moves,
    moves,
    ols_on_changes,
    ols_on_levels,
    rolling_ols,
)

PAIR = ["MTUM", "QUAL"]


@pytest.fixture(scope="module")
def pair() -> pd.DataFrame:
    return datasets.factor_etfs()[PAIR].loc["2016":"2018"]


@pytest.fixture(scope="module")
def fitted(pair):
    data = HedgeData.from_prices(pair, target="MTUM", hedges=["QUAL"])
    quick = NUTS(warmup=500, draws=500, chains=2)
    model = hedge_ratio_model(noise=Discounted())
    return fit(data.before("2018-01-01"), model, method=quick, progress=False)


def test_the_honest_baselines_of_ewc_on_ewa(shared_data):
    prices = pd.read_csv(shared_data / "chan_ewa_ewc_close.csv", index_col=0, parse_dates=True)
    table = hedge_effectiveness(prices, target="EWC", hedges=["EWA"], train=252)
    printed = {
        "price ratio": 0.297,
        "static OLS on levels": 0.531,
        "static OLS on changes": 0.583,
        "rolling OLS on levels, 60": 0.579,
        "rolling OLS on levels, 252": 0.611,
        "rolling OLS on changes, 60": 0.662,
        "rolling OLS on changes, 252": 0.655,
    }
    assert table["variance_removed"].round(3).to_dict() == printed


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


def test_a_hedged_move_is_the_profit_of_held_shares(pair):
    """Ratio known at the close before, in shares, times the dollars that the hedge then moved."""
    data = HedgeData.from_prices(pair, target="MTUM", hedges=["QUAL"], transform="level")
    ratio = rolling_ols(moves(data), 60)
    at = 200
    shares = ratio["QUAL"].iloc[at - 1]
    y, x = pair["MTUM"].to_numpy(), pair["QUAL"].to_numpy()
    profit = (y[at] - y[at - 1]) - shares * (x[at] - x[at - 1])
    assert hedged_moves(data, ratio).iloc[at] == pytest.approx(profit, rel=1e-12)


def test_a_log_ratio_held_as_money_is_the_same_profit(pair):
    log = HedgeData.from_prices(pair, target="MTUM", hedges=["QUAL"])
    level = HedgeData.from_prices(pair, target="MTUM", hedges=["QUAL"], transform="level")
    money = pd.DataFrame({"QUAL": 0.9}, index=pair.index)
    shares = money.mul(pair["MTUM"] / pair["QUAL"], axis=0)
    dollars = hedged_moves(level, shares)
    returns = hedged_moves(log, money) * pair["MTUM"].shift(1)
    np.testing.assert_allclose(dollars[1:], returns[1:], rtol=1e-9, atol=1e-12)


def test_no_ratio_sees_the_move_it_is_held_over(pair):
    """Changing the last row changes the last hedged move of every method only through prices."""
    data = HedgeData.from_prices(pair, target="MTUM", hedges=["QUAL"], transform="level")
    bumped = pair.copy()
    bumped.iloc[-1] *= 1.2
    other = HedgeData.from_prices(bumped, target="MTUM", hedges=["QUAL"], transform="level")
    before, after = (rolling_ols(moves(d), 60)["QUAL"] for d in (data, other))
    pd.testing.assert_series_equal(before.iloc[:-1], after.iloc[:-1])
    assert before.iloc[-1] != after.iloc[-1]
    y, x = bumped["MTUM"].to_numpy(), bumped["QUAL"].to_numpy()
    expected = (y[-1] - y[-2]) - before.iloc[-2] * (x[-1] - x[-2])
    assert hedged_moves(other, after.to_frame()).iloc[-1] == pytest.approx(expected, rel=1e-12)


def test_a_fit_is_scored_on_what_it_said_the_day_before(pair, fitted):
    train = int((pair.index < "2018-01-01").sum())
    table = hedge_effectiveness(
        pair, target="MTUM", hedges=["QUAL"], train=train, models={"ours": fitted}, transform="log"
    )
    said = follow(fitted.online(), pair.iloc[train:])["beta QUAL"].to_numpy()
    change = pair.pct_change().to_numpy()[train + 1 :]
    hedged = change[:, 0] - said[:-1] * change[:, 1]
    removed = 1 - hedged.var(ddof=1) / change[:, 0].var(ddof=1)
    assert table.loc["ours", "variance_removed"] == pytest.approx(removed, rel=1e-12)
    row = table.loc["ours"]
    assert row["lower"] < row["variance_removed"] < row["upper"]
    assert table.loc["static OLS on changes", "gain"] == 0
    assert row["gain_lower"] < row["gain"] < row["gain_upper"]


def test_a_ratio_of_money_becomes_shares_on_levels(pair, fitted):
    train = int((pair.index < "2018-01-01").sum())
    table = hedge_effectiveness(
        pair, target="MTUM", hedges=["QUAL"], train=train, models={"ours": fitted}
    )
    later = pair.iloc[train:]
    said = follow(fitted.online(), later)["beta QUAL"] * later["MTUM"] / later["QUAL"]
    change = later.diff().to_numpy()[1:]
    hedged = change[:, 0] - said.to_numpy()[:-1] * change[:, 1]
    removed = 1 - hedged.var(ddof=1) / change[:, 0].var(ddof=1)
    assert table.loc["ours", "variance_removed"] == pytest.approx(removed, rel=1e-12)


def test_a_fit_is_not_scored_on_dates_it_has_seen(pair, fitted):
    with pytest.raises(ValueError, match=r"ours was fitted on prices until 2017-12-29.*2017-0"):
        hedge_effectiveness(
            pair, target="MTUM", hedges=["QUAL"], train=300, models={"ours": fitted}
        )


def test_a_fit_of_another_pair_is_refused(pair, fitted):
    turned = pair[["QUAL", "MTUM"]]
    with pytest.raises(ValueError, match=r"ours hedges MTUM with QUAL, not QUAL with MTUM"):
        hedge_effectiveness(
            turned, target="QUAL", hedges=["MTUM"], train=600, models={"ours": fitted}
        )


def test_too_few_rows_on_one_side(pair):
    with pytest.raises(ValueError, match="leaves too few on one side"):
        hedge_effectiveness(pair, target="MTUM", hedges=["QUAL"], train=len(pair) - 5)


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


def test_follow_names_a_missing_column(fitted, pair):
    with pytest.raises(ValueError, match="no column QUAL; the filter needs MTUM, QUAL"):
        follow(fitted.online(), pair[["MTUM"]])


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
    gappy.iloc[400::2, 0] = np.nan
    with pytest.raises(ValueError, match="too many gaps"):
        hedge_effectiveness(gappy, target="MTUM", hedges=["QUAL"], train=400)


def test_a_model_does_not_take_the_name_of_a_baseline(pair, fitted):
    for name in ("none", "static OLS on changes"):
        with pytest.raises(ValueError, match="cannot be called"):
            hedge_effectiveness(
                pair, target="MTUM", hedges=["QUAL"], train=600, models={name: fitted}
            )
