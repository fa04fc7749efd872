"""Files on which answers were wrong once, or must stay right, against plain NumPy."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import t as student

from kfmodels import (
    Discounted,
    HedgeData,
    HedgeFit,
    ImportanceSampling,
    Quarantine,
    Robust,
    datasets,
    fit,
    follow,
    hedge_effectiveness,
    hedge_ratio_model,
)
from kfmodels.online.ticks import Tick
from tests.made_filters import board_of, made_filter
from tests.problems import hedge_case, stock_prices, stocks_between, unsampled
from tests.reference import loop
from tests.tables import read_table

TRAIN = 500


def fitted_to(data: HedgeData) -> HedgeFit:
    model = hedge_ratio_model(noise=Discounted())
    return fit(data, model, method=ImportanceSampling(), progress=False)


def inside_90(ticks: list[Tick]) -> float:
    """Share of the rows whose z is inside the central 90 % of its Student-t forecast."""
    z, dof = np.array([(tick.z, tick.dof) for tick in ticks if tick.observed]).T
    return float(np.mean(np.abs(z) <= student.ppf(0.95, dof) * np.sqrt((dof - 2) / dof)))


# -- an outage filled flat, on a board -------------------------------------------------------------

PAIRS = (("MTUM", "QUAL"), ("SIZE", "USMV"), ("VLUE", "QUAL"))


@pytest.fixture(scope="module")
def funds() -> dict[str, Any]:
    data = (
        HedgeData.from_prices(datasets.factor_etfs().iloc[:TRAIN], target=y, hedges=[x])
        for y, x in PAIRS
    )
    fits = [unsampled(each, noise=Discounted()) for each in data]
    return {"/".join(one.data.prices): one.online(shocks=Quarantine()) for one in fits}


@pytest.mark.parametrize("rows", [60, 120, 250])
def test_a_board_of_funds_is_after_flat_rows_as_after_missing_ones(funds: dict, rows: int):
    """But for the first two, which real markets have as well; no sd falls, and no row is shut out."""
    prices = datasets.factor_etfs()
    flat, missing, plain = (board_of(funds) for _ in range(3))
    last = prices.iloc[TRAIN - 1].to_dict()
    for row in range(rows):
        flat.update(last)
        missing.update(last if row < 2 else dict.fromkeys(last))
    taken = np.zeros(len(PAIRS))
    for row in prices.iloc[TRAIN : TRAIN + 250].to_dict("records"):
        a, b, c = (board.update(row) for board in (flat, missing, plain))
        for name in ("beta", "spread", "spread_sd", "z", "effective_draws"):
            assert_array_equal(getattr(a, name), getattr(b, name))
        assert a.outcome == b.outcome
        taken += a.taught
    assert (taken >= 249).all()
    assert_allclose(a.spread_sd, c.spread_sd, rtol=0.05)


# -- a price below zero ----------------------------------------------------------------------------


def test_oil_below_zero_is_a_row_that_is_not_there():
    """Held by the name of WTI, no split is offered, and the ratio is that of a loop without the row."""
    prices = read_table("eia_wti_brent_spot_daily.csv.gz").loc["2018":"2020-05-07"]
    train = len(prices.loc[:"2020-03-31"])
    data = HedgeData.from_prices(
        prices.iloc[:train], target="WTI", hedges=["BRENT"], transform="level"
    )
    noise = {"delta": {"beta": 2e-3, "alpha": 0.3}, "obs_scale": 0.8}
    live = unsampled(data, **noise).go_live(draws=1)
    held = {}
    for at, row in prices.iloc[train:].iterrows():
        signal = live.tick(row.to_dict(), at=at)
        if row.notna().all() and signal.outcome != "accepted":
            held[str(at.date())] = signal.reason
    assert list(held) == ["2020-04-20"]
    assert "WTI went from 18.31 to -36.98, " in held["2020-04-20"]
    assert "rescale" not in held["2020-04-20"]
    case = hedge_case(data, [q / (1 - q) for q in noise["delta"].values()], noise["obs_scale"])
    y, x = prices.to_numpy().T
    seen = ~np.isnan(y + x) & (y > 0)
    pivot = data.x[data.observed].mean()
    case |= {"design": np.column_stack([np.nan_to_num(x) - pivot, np.ones(len(x))])}
    case |= {"observed": seen, "dt": np.r_[0.0, np.ones(len(y) - 1)]}
    right = loop(np.nan_to_num(y), **case)
    state = live.engine.state()
    assert_allclose(state["mean"][0], right.filtered_mean[-1, 0], rtol=1e-9)
    assert_allclose(state["cov"][0, 0], right.filtered_cov[-1, 0, 0], rtol=1e-9)
    # what an account of this day found by hand
    assert abs(state["mean"][0] - 0.727) < 0.1


# -- one bad print of an index ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def apple() -> HedgeFit:
    data = stocks_between("2017-01-01", "2019-01-01", target="AAPL", hedges=["SPX"])
    return unsampled(data, delta={"beta": 1e-3, "alpha": 0.9}, obs_scale=0.01)


@pytest.mark.parametrize("leg", ["AAPL", "SPX"])
@pytest.mark.parametrize("factor", [1.05, 1.2])
@pytest.mark.parametrize("policy", [None, Quarantine(), Robust(4.0), Robust(2.0)])
def test_one_print_of_an_index_moves_the_ratio_of_apple_as_the_policy_says(
    apple: HedgeFit, policy: Any, factor: float, leg: str
):
    """By the gain of the textbook; at most 2 sds in quarantine, and a quarter of `limit` if robust."""
    y, x = (
        datasets.stocks().loc["2019-01-02", ["AAPL", "SPX"]]
        * pd.Series({"AAPL": 1.0, "SPX": 1.0, leg: factor})[["AAPL", "SPX"]]
    )
    ahead = apple.online(draws=1)
    ahead.update(y=np.nan, x=[x])
    mean, cov = ahead.state()["mean"], ahead.state()["cov"]
    design, noise = np.array([np.log(x), 1.0]), 0.01**2
    error, shared = np.log(y) - design @ mean, cov @ design
    var, sd = design @ shared, np.sqrt(cov[0, 0])
    z = error / np.sqrt(var + noise)
    expected = shared[0] * error / (var + noise) / sd
    if isinstance(policy, Quarantine):
        expected *= abs(z) <= 6 and abs(expected) <= 2
    elif policy is not None:
        doubted = shared[0] * error / (var + noise * (1 + z**2 / policy.limit**2)) / sd
        expected = np.clip(doubted, -policy.limit / 4, policy.limit / 4)
    live = apple.online(draws=1, shocks=policy)
    live.update(y=y, x=[x])
    moved = (live.state()["mean"][0] - mean[0]) / sd
    assert_allclose(moved, expected, rtol=1e-6, atol=1e-9)


# -- what was right --------------------------------------------------------------------------------


def test_the_covariance_of_near_twins_stays_one_in_a_long_run():
    """Three hedges of a correlation near 1; against a recursion in extended precision."""
    rows, hedges = 5_000, ("A", "B", "C")
    live = made_filter(hedges=hedges, near=dict.fromkeys(("XLE", *hedges), 100.0), draws=1)
    random = np.random.default_rng(0)
    x = 4e-4 * random.normal(size=(rows, 1)).cumsum(0) + 1e-6 * random.normal(size=(rows, 3))
    y = x.mean(1) + 1e-4 * random.normal(size=rows)
    held, where = live.arguments(), live.coordinates
    mean, cov = (np.longdouble(part[..., 0]) for part in held["state"])
    q, wide = np.longdouble(held["drift"].noise[..., 0]), np.longdouble
    design = np.c_[(np.log(100) + x - where.pivot) / where.scale, np.ones(rows)].astype(wide)
    target = wide(np.log(100) + y - where.offset)
    for row in range(rows):
        live.update(y=100 * np.exp(y[row]), x=100 * np.exp(x[row]))
        cov = cov + q
        shared = cov @ design[row]
        gain = shared / (design[row] @ shared + 1)
        mean = mean + gain * (target[row] - design[row] @ mean)
        left = np.eye(4, dtype=wide) - np.outer(gain, design[row])
        cov = left @ cov @ left.T + np.outer(gain, gain)
    state = live.arguments()["state"]
    assert_allclose(state.cov[..., 0], cov.astype(float), rtol=1e-7)
    assert_allclose(state.mean[:, 0], mean.astype(float), rtol=1e-7, atol=1e-9)
    total = live.state()
    assert np.linalg.eigvalsh(total["cov"])[0] > 0
    assert abs(total["mean"][:3].sum() - 1) < 3 * np.sqrt(total["cov"][:3, :3].sum())


@pytest.mark.parametrize("transform", ["log", "level", "return"])
def test_prices_of_a_hundred_millionth_are_as_good_as_others(transform: str):
    """Of both legs: the same ratios and the same z."""
    found = []
    for scale in (1.0, 1e-8):
        prices = stock_prices(120) * scale
        data = HedgeData.from_prices(prices, target="KO", hedges=["PEP"], transform=transform)
        live = unsampled(data.before(prices.index[100])).online()
        found.append(follow(live, prices.iloc[100:])[["beta PEP", "z", "spread_sd"]])
        if transform == "level":
            found[-1]["spread_sd"] /= scale
    assert_allclose(*found, rtol=1e-7)


@pytest.mark.slow
def test_two_classes_of_one_share_hedge_one_for_one():
    prices = read_table("sp500_all_stocks_5yr_close.csv.gz")[["GOOG", "GOOGL"]].dropna()
    data = HedgeData.from_prices(prices.iloc[:TRAIN], target="GOOG", hedges=["GOOGL"])
    live, ticks = fitted_to(data).online(), []
    follow(live, prices.iloc[TRAIN:], seen=ticks.append)
    y, x = np.diff(np.log(prices), axis=0).T
    state = live.state()
    assert abs(state["mean"][0] - x @ y / (x @ x)) < 2 * np.sqrt(state["cov"][0, 0]) < 0.04
    assert 0.87 < inside_90(ticks) < 0.95


@pytest.mark.nightly
def test_a_triangle_of_currencies_closes():
    """A cross rate is the quotient of two others, whatever Sundays and holes the file has."""
    prices = read_table("lean_fxcm_daily_bid.csv.gz").rename(columns=str.upper)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        data = HedgeData.from_prices(prices, target="EURGBP", hedges=["EURUSD", "GBPUSD"])
        state = fitted_to(data).online().state()
    sds = np.sqrt(np.diag(state["cov"]))[:2]
    assert (sds < 1e-3).all()
    assert (np.abs(state["mean"][:2] - [1.0, -1.0]) < 4 * sds).all()


WHOLE = {  # target, hedge, repair, and the least share of the variance that a hedge removed
    "eia_wti_brent_spot_daily.csv.gz": ("WTI", "BRENT", {"WTI": {"2020-04-20": None}}, 0.15),
    "lean_uso_bno_daily_raw.csv.gz": ("USO", "BNO", {"USO": {"2020-04-29": 8}}, 0.7),
}


@pytest.mark.slow
@pytest.mark.parametrize("file", WHOLE)
def test_a_real_file_goes_all_the_way(file: str):
    """From prices to what the followed filter was worth; least squares beside it."""
    target, hedge, repair, least = WHOLE[file]
    prices = read_table(file)[[target, hedge]].loc["2017":"2020"]
    options = {"target": target, "hedges": [hedge], "repair": repair}
    data = HedgeData.from_prices(prices, **options)
    fitted = fitted_to(data.before("2019-01-01"))
    y, x = (np.diff(each) for each in (data.before("2019-01-01").values.dropna().to_numpy().T))
    slope = x @ y / (x @ x)
    state = fitted.online().state()
    assert abs(state["mean"][0] - slope) < 4 * np.sqrt(state["cov"][0, 0])
    assert (fitted.summary()["ess"] > 100).all()
    worth = hedge_effectiveness(prices, train=len(data.before("2019-01-01")), **options)
    assert (worth["variance_removed"] > least).all()
    live = fitted.go_live()
    ticks = [
        live.tick(row, at=at).tick
        for at, row in zip(data.prices.index, data.prices.to_dict("records"), strict=True)
        if at >= pd.Timestamp("2019-01-01")
    ]
    assert sum(tick.observed for tick in ticks) > 0.9 * len(ticks)
    seen: list[Tick] = []
    table = follow(fitted.online(), data.prices.loc["2019":], seen=seen.append)
    assert 0.85 < inside_90(seen) < 0.96
    assert 0.75 < table["z"].std() < 1.35
