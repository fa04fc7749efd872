"""A spread that comes back: the fit that weighs it, its states by date and live, and what it earns."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from arviz_stats.base.array import array_stats
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import (
    Constant,
    Discounted,
    HedgeData,
    HedgeFit,
    OnlineFilter,
    Reverting,
    fit,
    follow,
    hedge_ratio_model,
    load,
)
from kfmodels.kalman.motion import Reversion
from kfmodels.kalman.reversion import ExpectedGain, Law, MeanReversion
from kfmodels.kalman.step import State, predict
from tests.problems import ROWS, FromPrior, Weighed, stock_prices, unsampled

pytestmark = pytest.mark.slow

LATER = 15
SHARE = 0.75
NOISES = {"constant": Constant(), "discounted": Discounted()}


def prices() -> pd.DataFrame:
    return stock_prices(ROWS + LATER)


@pytest.fixture(scope="module", params=NOISES)
def fitted(request: pytest.FixtureRequest) -> HedgeFit:
    data = HedgeData.from_prices(prices().iloc[:ROWS], target="KO", hedges=["PEP"])
    model = hedge_ratio_model(spread=Reverting(), noise=NOISES[request.param])
    return fit(data, model, method=Weighed(draws=64), progress=False)


def run_loop(fitted: HedgeFit, y: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """Each of the draws by a textbook loop over [beta, level, spread] in the fit's inner units."""
    held, constant = fitted.tree["mixture"].to_dataset(), fitted.tree["constant_data"].to_dataset()
    pivot, scale, offset = (float(constant[k].squeeze()) for k in ("pivot", "scale", "offset"))
    inner, found = (x - pivot) / scale, {"mean": [], "var": [], "spread": [], "unit": []}
    spread = np.sqrt(np.mean((y[:ROWS] - offset) ** 2))
    for k in range(held.sizes["noise_draw"]):
        v = dof = float(held["obs_scale"][k] ** 2)
        q, sd = held["q"].values[k] * v, float(held["spread_scale"][k])
        phi = 2.0 ** (-1 / float(held["spread_half_life"][k]))
        g = np.diag([1.0, 1.0, phi])
        w = np.diag([*q, sd**2 * (1 - phi**2)])
        m, c = np.zeros(3), np.diag([(3 * spread) ** 2, (3 * spread) ** 2, sd**2])
        memory, dof = held.get("variance_memory"), 4.0
        start, rows = v, {"mean": [], "var": [], "spread": [], "unit": []}
        for t in range(len(y)):
            if t:
                m, c = g @ m, g @ c @ g + w * v / start
                dof = dof if memory is None else max(dof * (1 - 1 / float(memory[k])), min(dof, 3))
            h = np.array([inner[t], 1.0, 1.0])
            s = h @ c @ h + v
            e = y[t] - offset - h @ m
            rows["spread"].append(e)
            m, c = m + c @ h * e / s, c - np.outer(c @ h, c @ h) / s
            tail = 1.0
            if memory is not None:
                dof, before = dof + 1, v
                v = v + v / dof * (e**2 / s - 1)
                c, tail = c * v / before, dof / (dof - 2)
            rows["mean"].append(m)
            rows["var"].append(np.diag(c) * tail)
            rows["unit"].append(v * tail)
        for name, value in rows.items():
            found[name].append(value)
    return {name: np.array(value) for name, value in found.items()}


def test_the_draws_are_in_proportion_to_the_evidence(fitted: HedgeFit):
    attrs, posterior = fitted.tree.attrs, fitted.tree["posterior"].to_dataset()
    assert attrs["probability"] == pytest.approx(SHARE)
    assert attrs["log_bayes"] == pytest.approx(np.log(3))
    assert attrs["log_bayes_error"] == pytest.approx(0.1 * np.sqrt(2))
    there = posterior["with_spread"].values
    assert (there.mean(1) == SHARE).all()  # in every chain
    assert_array_equal(posterior["spread_scale"].values > 0, there == 1)
    # a chain mixes them: no half of it is of one kind
    halves = there.reshape(len(there), 2, -1).mean(-1)
    assert ((halves > 0.5) & (halves < 1)).all()
    mixed = fitted.tree["mixture"].to_dataset()
    assert (mixed["spread_scale"].values > 0).mean() == SHARE
    prior = fitted.tree["prior"].to_dataset()["with_spread"].values
    assert prior.mean() == 0.5


def test_the_summary_tells_how_probable_it_is_and_how_quick(fitted: HedgeFit):
    row, life = fitted.summary().loc["spread"], fitted.half_life()
    posterior = fitted.tree["posterior"].to_dataset()
    there = posterior["with_spread"].values == 1
    lives = posterior["spread_half_life"].values[there]
    assert row["probability"] == pytest.approx(SHARE)
    assert list(life.index) == ["lower", "median", "upper"]
    assert_allclose(life, np.quantile(lives, [0.05, 0.5, 0.95]))
    assert row["half_life_lower"] < row["half_life"] < row["half_life_upper"]
    assert 0 < row["r2_mr"] < 1


def test_by_date_and_live_it_is_the_textbook_loop(fitted: HedgeFit, tmp_path: Path):
    logs = np.log(prices()[["KO", "PEP"]].to_numpy())
    loop = run_loop(fitted, *logs.T)
    mean, var = loop["mean"][..., 2], loop["var"][..., 2]
    centre = mean.mean(0)
    sd = np.sqrt((var + (mean - centre) ** 2).mean(0))
    table = fitted.reversion()
    assert_allclose(table["mean"], centre[:ROWS], rtol=1e-9, atol=1e-14)
    assert_allclose(table["sd"], sd[:ROWS], rtol=1e-9)
    assert_allclose(table["z"], (centre / sd)[:ROWS], rtol=1e-8)
    alpha = fitted.intercept()["mean"]
    assert_allclose(table["level"] + table["mean"], alpha, rtol=1e-12)
    assert_allclose(fitted.spread()["spread"], loop["spread"].mean(0)[:ROWS], rtol=1e-8, atol=1e-14)
    live = fitted.online()
    live.save(tmp_path / "filter.json")
    fitted.save(tmp_path / "fit.nc")
    others = [OnlineFilter.load(tmp_path / "filter.json"), load(tmp_path / "fit.nc").online()]
    for t in range(ROWS, ROWS + LATER):
        row = prices().iloc[t]
        ticks = [one.update(y=row["KO"], x=[row["PEP"]], at=row.name) for one in (live, *others)]
        assert ticks[0] == ticks[1] == ticks[2]
        now = ticks[0].reversion
        assert now is not None
        assert_allclose(now.law.mean, mean[:, t], rtol=1e-9, atol=1e-14)
        assert_allclose(now.law.var, var[:, t], rtol=1e-9, atol=1e-16)
        assert_allclose(now.law.noise, loop["unit"][:, t], rtol=1e-9)
        weights = now.law.weights
        middle = weights @ mean[:, t]
        assert now.mean == pytest.approx(middle, rel=1e-9)
        assert now.sd == pytest.approx(
            np.sqrt(weights @ (var[:, t] + (mean[:, t] - middle) ** 2)), rel=1e-9
        )
        assert now.probability == pytest.approx(weights[now.law.settled > 0].sum())


def test_the_live_record_carries_it_and_that_of_a_model_without_one_does_not(fitted: HedgeFit):
    live, board = fitted.go_live(), fitted.online().board
    row, at = prices()[["KO", "PEP"]].iloc[ROWS], prices().index[ROWS]
    signal = live.tick(row.to_dict(), at=at)
    now, gain = signal.tick.reversion, signal.tick.reversion.expect()
    found = signal.record()["reversion"]
    assert found == {
        "mean": now.mean,
        "sd": now.sd,
        "z": now.z,
        "probability": now.probability,
        "half_life": now.half_life[1],
        "side": gain.side,
        "gain": gain.mean,
        "gain_sd": gain.sd,
    }
    every = board.take(row.to_dict(), at=at)
    (own,) = every.record()["reversion"]
    assert own == every.of("KO").reversion.record()
    table = follow(fitted.online(), prices()[["KO", "PEP"]].iloc[ROWS : ROWS + 1])
    names = ["reversion", "reversion_sd", "reversion_probability"]
    assert table[names].iloc[0].to_list() == [own["mean"], own["sd"], own["probability"]]
    plain = unsampled(HedgeData.from_prices(prices().iloc[:ROWS], target="KO", hedges=["PEP"]))
    tick = plain.online().take(row.to_dict(), at=at)
    assert "reversion" not in tick.record()
    assert "reversion" not in plain.online().board.take(row.to_dict(), at=at).record()
    assert "reversion" not in plain.go_live().tick(row.to_dict(), at=at).record()
    assert "reversion" not in follow(plain.online(), prices()[["KO", "PEP"]].iloc[ROWS:])


def law(**changes: Any) -> Law:
    """Three draws, the last without a spread."""
    parts = {
        "weights": np.array([0.5, 0.3, 0.2]),
        "mean": np.array([0.02, 0.01, 0.0]),
        "var": np.array([1e-5, 2e-5, 0.0]),
        "factor": np.array([0.9, 0.7, 0.9]),
        "settled": np.array([4e-4, 1e-4, 0.0]),
        "level": np.array([1e-6, 2e-6, 3e-6]),
        "noise": np.array([1e-5, 1e-5, 2e-5]),
    }
    return Law(**parts | changes)


def test_the_expected_gain_is_that_of_the_states_carried_on():
    """Each draw carries on four states bar by bar: the spread now, the spread, the level, noise."""
    given, bars = law(), 7
    means, squares = [], []
    for k in range(3):
        motion = Reversion(
            np.diag([0, 0, given.level[k], 0]),
            np.array([1, given.factor[k], 1, 0]),
            np.diag([0, given.settled[k], 0, given.noise[k]]),
        )
        s, p = given.mean[k], given.var[k]
        cov = np.zeros((4, 4))
        cov[:2, :2] = p
        state = State(np.array([s, s, 0.0, 0.0]), cov)
        for _ in range(bars):
            state = predict(state, motion)
        sold = np.array([1.0, -1.0, -1.0, -1.0])
        means.append(sold @ state.mean)
        squares.append(sold @ state.cov @ sold + means[-1] ** 2)
    mean = given.weights @ means
    sd = np.sqrt(given.weights @ squares - mean**2)
    gain = MeanReversion(given).expect(bars, money=1000.0, cost=3.0)
    assert (gain.side, gain.bars) == (-1, bars)
    assert_allclose([gain.mean, gain.sd], [1000 * mean - 3, 1000 * sd], rtol=1e-12)
    cheap = MeanReversion(law(mean=-given.mean)).expect(bars, money=1000.0, cost=3.0)
    assert cheap == gain._replace(side=1)


def test_half_lives_are_those_of_the_draws_that_come_back():
    now = MeanReversion(law())
    lower, middle, upper = now.half_life
    assert (lower, middle, upper) == pytest.approx(
        (np.log(0.5) / np.log(0.7), np.log(0.5) / np.log(0.9), np.log(0.5) / np.log(0.9))
    )
    assert now.probability == pytest.approx(0.8)
    assert now.expect().bars == middle


def test_it_enters_what_pays_and_leaves_what_has_come_back():
    now = MeanReversion(law())
    assert now.choose_side(probability=0.7) == -1
    assert now.choose_side() == 0  # 0.8 is not 0.95
    assert now.choose_side(probability=0.7, money=1000.0, cost=100.0) == 0  # dearer than its gain
    assert now.choose_side(held=-1, money=1000.0, cost=100.0) == -1  # it stays
    crossed = MeanReversion(law(mean=-law().mean))
    assert crossed.choose_side(held=-1) == 0
    assert crossed.choose_side(held=-1, probability=0.7) == 1


def test_where_no_draw_has_a_spread_nothing_is_expected():
    none = MeanReversion(law(mean=np.zeros(3), var=np.zeros(3), settled=np.zeros(3)))
    assert none.expect() == ExpectedGain(0, 0.0, 0.0, 0.0)
    assert (none.z, none.probability, none.choose_side()) == (0.0, 0.0, 0)
    assert np.isnan(none.half_life).all()


def test_what_means_nothing_is_refused(fitted: HedgeFit):
    data = HedgeData.from_prices(prices(), target="KO", hedges=["PEP"], transform="return")
    with pytest.raises(ValueError, match='KO are returns: use .*transform="log"'):
        fit(data, hedge_ratio_model(spread=Reverting(), noise=Constant()))
    with pytest.raises(ValueError, match='kind of a reversion must be "filtered" or "predicted"'):
        fitted.reversion("smoothed")
    plain = HedgeData.from_prices(prices().iloc[:ROWS], target="KO", hedges=["PEP"])
    without = fit(
        plain, hedge_ratio_model(noise=Constant()), method=FromPrior(draws=64), progress=False
    )
    for call in (without.reversion, without.half_life, without.reversion_now):
        with pytest.raises(ValueError, match=r"of KO has no spread.*spread=Reverting\(\)"):
            call()
    assert without.online().reversion() is None


@pytest.mark.parametrize(
    ("given", "text"),
    [
        *(({"bars": h}, "bars is the time until") for h in (-1.0, 0.0, np.nan, np.inf)),
        *(({"money": m}, "money is a size above 0") for m in (-1e6, 0.0, np.nan)),
        *(({"cost": c}, "cost is what entering") for c in (-1.0, np.nan, np.inf)),
    ],
)
def test_a_trade_without_a_size_or_an_end_is_refused(given: dict[str, float], text: str):
    none = MeanReversion(law(mean=np.zeros(3), var=np.zeros(3), settled=np.zeros(3)))
    for now in (MeanReversion(law()), none):
        for call in (now.expect, now.choose_side):
            with pytest.raises(ValueError, match=text):
                call(**given)


@pytest.mark.parametrize("given", [{"held": 5}, {"probability": 90.0}, {"probability": np.nan}])
def test_a_side_or_a_probability_that_is_none_is_refused(given: dict[str, Any]):
    with pytest.raises(ValueError, match=r"held is the side|probability lies between"):
        MeanReversion(law()).choose_side(**given)


def test_its_variance_is_what_it_settles_in_after_the_last_row(fitted: HedgeFit):
    """In the summary, by the law that the filter goes on with."""
    posterior = fitted.tree["posterior"].to_dataset()
    there = posterior["with_spread"].values == 1
    every = {
        name: posterior[name].values[there] for name in ("spread_scale", "obs_scale", "obs_var")
    }
    moved = every["obs_var"] / every["obs_scale"] ** 2
    assert np.allclose(moved, 1) == (fitted.model.noise == Constant())
    assert fitted.summary().loc["spread", "var"] == pytest.approx(
        np.median(every["spread_scale"] ** 2 * moved)
    )
    now = fitted.reversion_now().law
    held = fitted.tree["mixture"].to_dataset()
    last = held["carried_var"].values if "carried_var" in held else held["obs_scale"].values ** 2
    ours = (held["spread_scale"].values / held["obs_scale"].values) ** 2 * last
    assert_allclose(now.settled / now.noise * last, ours, rtol=1e-12)


def test_chains_that_hardly_move_are_not_taken_for_good_ones():
    """Mixed with those of the alternative their draws look independent, and are not."""
    chain = np.cumsum(np.random.default_rng(1).standard_normal((2, 500)), 1) * 0.02

    class Slow(Weighed):
        def run(self, model: Any, inputs: Any, seed: int, progress: bool) -> Any:
            found = super().run(model, inputs, seed, progress)
            if "spread_half_life" in found.sites:
                life = np.exp(3 + chain)
                found = found._replace(sites=found.sites | {"spread_half_life": life})
            return found

    data = HedgeData.from_prices(prices().iloc[:ROWS], target="KO", hedges=["PEP"])
    with pytest.warns(UserWarning, match="sampled badly"):
        made = fit(
            data,
            hedge_ratio_model(spread=Reverting(), noise=Constant()),
            method=Slow(draws=500, chains=2),
            progress=False,
        )
    found, stats = made.convergence(), array_stats
    assert found["rhat"] == pytest.approx(float(stats.rhat(chain, chain_axis=0, draw_axis=1)))
    assert found["ess"] == pytest.approx(float(stats.ess(chain, chain_axis=0, draw_axis=1)))
    row = made.summary().loc["noise"]
    assert (row["rhat"], row["ess"]) == (found["rhat"], found["ess"])
