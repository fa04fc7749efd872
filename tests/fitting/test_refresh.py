"""From a fit to a filter that is left alone: the grid of memories, new noise from the rows seen."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import Constant, Discounted, HedgeData, HedgeFit, StateDiscount, hedge_ratio_model
from kfmodels.clock.clock import Clock
from kfmodels.data import datasets
from kfmodels.fitting.fit import fit
from kfmodels.fitting.grid import COUNT, LEAST, MOST, WEIGHT
from kfmodels.fitting.refresh import carry_over, collect_rows, refresh
from kfmodels.kalman import scan
from kfmodels.live.feed import LiveFilter
from kfmodels.live.monitor import Monitor
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.shocks import Robust
from kfmodels.sampling.importance import ImportanceSampling
from tests.problems import unsampled

pytestmark = pytest.mark.slow

TRAIN = 60
KINDS: dict[str, dict[str, Any]] = {
    "random walk, constant": {},
    "random walk, discounted": {"noise": Discounted()},
    "state discount, discounted": {"drift": StateDiscount(), "noise": Discounted()},
}


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return datasets.stocks()[["KO", "PEP"]].loc["2016":].iloc[:220]


def trained(prices: pd.DataFrame, **options: Any) -> HedgeFit:
    data = HedgeData.from_prices(prices.iloc[:TRAIN], target="KO", hedges=["PEP"])
    return unsampled(data, **options)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=name, marks=[] if "constant" in name else [pytest.mark.slow])
        for name, kind in KINDS.items()
    ],
)
def test_a_draw_of_the_grid_stands_where_the_filter_of_its_noise_ends(
    kind: Any, prices: pd.DataFrame
):
    """Each against a filter of its own run over the training rows by `scan`."""
    fitted = trained(prices, **kind)
    plain, wide = fitted.online(), fitted.online(share=0.002)
    assert wide.draws == plain.draws + COUNT
    held, own = wide.arguments(), plain.arguments()
    for name in ("mean", "cov"):
        both = getattr(held["state"], name), getattr(own["state"], name)
        assert_array_equal(both[0][..., :-COUNT], both[1])
    assert_allclose(wide.weights[-COUNT:], WEIGHT / COUNT, rtol=1e-12)
    assert_allclose(wide.weights.sum(), 1.0, rtol=1e-12)
    assert_array_equal(held["initial_log_weights"], held["log_weights"])

    data, where = fitted.data, wide.coordinates
    design = where.design(data.x)
    inputs = fitted.model.inputs(data)
    start, cov = inputs.start_mean, inputs.start_cov
    memories = []
    with jax.enable_x64(True):
        for number in range(-COUNT, 0, 3):
            take = lambda leaf, number=number: np.asarray(
                leaf[..., 0] if leaf.shape[-1] == 1 else leaf[..., number]
            )
            drift = type(held["drift"])(*(take(leaf) for leaf in held["drift"]))
            noise = type(held["noise"])(*(take(leaf) for leaf in held["noise"]))
            var = float(noise.var)
            rows = scan.series(data.y - where.offset, design, data.observed, data.dt)
            passed = scan.filter(rows, scan.State(start, cov / var), drift, noise)
            assert_allclose(held["state"].mean[:, number], passed.filtered.mean[-1], rtol=1e-8)
            assert_allclose(held["state"].cov[..., number], passed.filtered.cov[-1], rtol=1e-7)
            if held["carried"] is None:
                right = float((passed.error**2 / passed.var)[data.observed].mean())
                assert_allclose(right, var, rtol=0.25)  # its own start is relative to what it was
            late = np.asarray(passed.filtered.cov[len(data.y) // 2 :, 0, 0]).mean()
            added = drift.widen(np.eye(2) * late, 1.0)[0, 0] - late
            memories.append(1 + late / added)
    grid = np.geomspace(LEAST, MOST, COUNT)[::3]
    assert_allclose(memories, grid, rtol=0.1)


def test_a_speed_that_is_fixed_has_no_grid(prices: pd.DataFrame):
    """Nor has a filter of one draw: there is nothing to share."""
    data = HedgeData.from_prices(prices.iloc[:TRAIN], target="KO", hedges=["PEP"])
    fixed = fit(data, hedge_ratio_model(delta=0.01, obs_scale=0.01), progress=False)
    assert fixed.go_live().engine.draws == 1
    still = unsampled(data, delta={"beta": 0.01})
    assert still.go_live().engine.draws == still.online().draws
    assert trained(prices).go_live(draws=1).engine.draws == 1


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after", "lead"), [(np.inf, 8.0, 7.0), (8.0, np.inf, 10.0)])
def test_a_live_filter_follows_a_ratio_that_starts_or_ceases_to_move(
    before: float, after: float, lead: float
):
    """The weight goes to draws that are as fast, or as slow, in both directions."""
    memory = np.where(np.arange(1000) < 500, before, after)
    truth = datasets.simulate(1000, memory=memory, intercept_memory=np.inf, seed=4)
    data = HedgeData.from_prices(truth.prices.iloc[:500], target="Y", hedges=["X1"])
    model = hedge_ratio_model(intercept="static", noise=Constant())
    fitted = fit(data, model, method=ImportanceSampling(), progress=False)
    live, plain = fitted.go_live(shocks=None), fitted.online(draws=1)
    found, gained = [], 0.0
    for at, row in truth.prices.iloc[500:].iterrows():
        signal = live.tick(row.to_dict(), at=at)
        one = plain.update(y=row["Y"], x=row["X1"], at=at)
        gained += signal.tick.log_score - one.log_score
        found.append(signal.tick.memory["X1"])
    factor = found[-1] / found[0]
    assert factor < 1 / 3 if after < before else factor > 2.5
    assert signal.tick.moved > 0.5
    assert gained > lead  # nats of evidence against a speed that stays what it was


@pytest.mark.slow
def test_the_noise_is_refreshed_and_the_ratio_carried_over(prices: pd.DataFrame, tmp_path):
    fitted = trained(prices)
    settings: Any = {"journal": tmp_path / "ko.journal", "monitor": None}
    live = fitted.go_live(shocks=Robust(), **settings)
    for at, row in prices.iloc[TRAIN:200].iterrows():
        live.tick(row.to_dict(), at=at)
    data = collect_rows(live, prices.iloc[:TRAIN])
    assert_array_equal(data.prices.to_numpy(), prices.iloc[:200].to_numpy())
    assert_array_equal(data.index, prices.index[:200])
    before, old = live.engine.state(), live.engine.arguments()
    again = refresh(live, model=fitted.model, earlier=prices.iloc[:TRAIN]).take()
    after, now = live.engine.state(), live.engine.arguments()
    assert_allclose(after["mean"], before["mean"], rtol=1e-9)
    assert_allclose(after["cov"], before["cov"], rtol=1e-9)
    assert now["fit_id"] == again.tree.attrs["fit_id"] != old["fit_id"]
    for name in ("share", "shocks", "at", "hold"):
        assert now[name] == old[name]
    kept = json.dumps(live.to_json())
    live.close()  # the journal holds the new noise
    reopened = LiveFilter(fitted.online(), journal=tmp_path / "ko.journal")
    assert json.dumps(reopened.to_json()) == kept
    reopened.close()


@pytest.mark.parametrize(("draws", "share"), [(8, 0.01), (None, 0.002), (8, 0.0), (1, 0.002)])
def test_new_noise_has_as_many_draws_the_grid_and_the_share(
    prices: pd.DataFrame, draws: Any, share: float, tmp_path: Any
):
    fitted = trained(prices)
    settings: Any = {"journal": tmp_path / "ko", "monitor": None}
    for _ in range(2):  # the journal keeps the share
        live = fitted.go_live(draws=draws, share=share, **settings)
        for at, row in prices.iloc[TRAIN : TRAIN + 9].iterrows():
            live.tick(row.to_dict(), at=at)
        live.close()
    again = carry_over(live.engine, fitted)
    expected = fitted.online(draws=draws, share=share)
    assert again.draws == expected.draws
    assert again.share == share
    assert_allclose(again.weights, expected.weights, rtol=1e-12)
    assert again.standing().moved < 1e-12


def test_rows_seen_keep_the_dates_of_their_stamps(prices: pd.DataFrame):
    """Through the end of summer time; 20:30 in New York is the next date in UTC."""
    days = pd.date_range("2020-10-01 20:30", periods=40, tz="America/New_York")
    local = prices.iloc[:TRAIN].tz_localize("America/New_York")
    live = LiveFilter(trained(local).online(), clock=Clock.daily(), monitor=None, max_ahead=None)
    for at, row in zip(days, prices.iloc[TRAIN:].to_dict("records"), strict=False):
        live.tick(row, at=at)
    data = collect_rows(live, None)
    assert_array_equal(data.index.normalize(), pd.date_range("2020-10-01", periods=40))
    assert_array_equal(data.dt[1:], np.ones(39))
    assert_array_equal(collect_rows(live, local).index[TRAIN:], days)


@pytest.mark.slow
def test_a_refresh_may_take_its_time(prices: pd.DataFrame):
    fitted = trained(prices)
    live = fitted.go_live(monitor=None)
    for at, row in prices.iloc[TRAIN:150].iterrows():
        live.tick(row.to_dict(), at=at)
    with ThreadPoolExecutor(1) as threads:
        pending = refresh(live, model=fitted.model, executor=threads)
        for at, row in prices.iloc[150:170].iterrows():
            live.tick(row.to_dict(), at=at)
        before = live.engine.state()["mean"]
        found = pending.take()
    assert str(found.fit_until) == str(prices.index[149])
    assert_allclose(live.engine.state()["mean"], before, rtol=1e-9)
    assert live.engine.at == prices.index[169].isoformat()
    other = HedgeData.from_prices(prices.iloc[:TRAIN], target="PEP", hedges=["KO"])
    assert isinstance(live.engine, OnlineFilter)
    with pytest.raises(ValueError, match="the fit is of PEP, KO"):
        carry_over(live.engine, unsampled(other))


@pytest.mark.parametrize("share", [0.0, 0.002])
def test_few_draws_are_told_once_where_none_can_come_back(prices: pd.DataFrame, share: float):
    live = trained(prices).go_live(share=share, few_draws=0.5, monitor=Monitor())
    told, least = [], np.inf
    for at, row in prices.iloc[TRAIN:].iterrows():
        signal = live.tick(row.to_dict(), at=at)
        told += [(signal.tick.effective_draws, a) for a in signal.alarms if a.kind == "few draws"]
        least = min(least, signal.tick.effective_draws)
    assert least < 32
    assert bool(told) == (share == 0)
    if share > 0:
        return
    assert told[0][0] < 32
    assert told[0][1].action == "refresh noise"


def test_what_was_said_to_be_real_is_not_warned_of_again(prices: pd.DataFrame):
    """With the data of the first fit, whose moves stay known, as rows before those seen live."""
    jump = prices.copy()
    jump.iloc[:30, 0] *= 2
    options: Any = {"target": "KO", "hedges": ["PEP"]}
    with pytest.warns(UserWarning, match="about 1/2 times"):
        HedgeData.from_prices(jump.iloc[:TRAIN], **options)
    real = {"KO": {str(jump.index[30].date()): 1}}
    data = HedgeData.from_prices(jump.iloc[:TRAIN], **options, repair=real)
    live = unsampled(data).go_live(monitor=None)
    for at, row in jump.iloc[TRAIN:100].iterrows():
        live.tick(row.to_dict(), at=at)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = collect_rows(live, data)
        assert_array_equal(rows.prices.to_numpy(), jump.iloc[:100].to_numpy())
        # or said again, of a table
        said = collect_rows(live, data.prices, repair=real)
    assert rows.real == said.real == (("KO", str(jump.index[30].date())),)
    with pytest.warns(UserWarning, match="about 1/2 times"):
        collect_rows(live, data.prices)
