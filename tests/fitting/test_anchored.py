"""An anchored variance, and scales beside one that moves, from fit and file to a feed and a board."""

import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from kfmodels import (
    Anchored,
    Discounted,
    HedgeData,
    HedgeFit,
    ImportanceSampling,
    Memory,
    OnlineFilter,
    Quarantine,
    Scales,
    fit_many,
    hedge_ratio_model,
    load,
    pool,
)
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.kalman.noise import AnchoredVariance, SteadyDiscount
from kfmodels.model import saved
from tests.problems import ROWS, stock_prices, unsampled

pytestmark = pytest.mark.slow

TRAIN = 100
SCALES = Scales((3.0, 40.0))
MODELS: dict[str, dict[str, Any]] = {
    "walk": {"noise": Anchored()},
    "scales": {"noise": Anchored(), "drift": SCALES, "intercept": "none"},
    "discounted": {"noise": Discounted(), "drift": SCALES, "intercept": "none"},
}


def returns() -> HedgeData:
    return HedgeData.from_prices(stock_prices(), target="KO", hedges=["PEP"], transform="return")


@pytest.fixture(scope="module", params=MODELS)
def fitted(request: pytest.FixtureRequest) -> HedgeFit:
    data = returns()
    return unsampled(data.before(data.index[TRAIN]), draws=16, **MODELS[request.param])


def whole(fitted: HedgeFit, data: HedgeData) -> Any:
    """Each draw filtered over all rows, in the coordinates of the fit."""
    where, inputs = trees.coordinates(fitted.tree), fitted.model.inputs(data)
    inner = {"design": where.design(data.x), "y": data.y - where.offset}
    before = fitted.model.inputs(fitted.data)
    inputs = before._replace(**inner, observed=data.observed, dt=data.dt)
    with jax.enable_x64(True):
        law = trees.regression(fitted.model, inputs, trees.stored_sites(fitted.tree))
        return jax.device_get(passes.scan.filter(*law.recursion(inputs.y)))


@pytest.mark.variants
def test_live_goes_on_as_the_whole_pass_does(fitted: HedgeFit, tmp_path: Path):
    data = returns()
    passed = whole(fitted, data)
    fitted.save(tmp_path / "fit.nc")
    live = load(tmp_path / "fit.nc").online()
    kind = live.arguments()["noise"]
    assert isinstance(kind, AnchoredVariance | SteadyDiscount)
    for t, (at, row) in enumerate(data.prices.iloc[TRAIN:].iterrows(), TRAIN):
        if t == TRAIN + 5:
            live.save(tmp_path / "filter.json")
            live = OnlineFilter.load(tmp_path / "filter.json")
        before = live.weights
        tick = live.update(y=row["KO"], x=row["PEP"], at=at)
        (now,) = live.board._blocks.draws
        assert_allclose(now.state.mean, passed.filtered.mean[t], rtol=1e-9, atol=1e-13)
        assert_allclose(now.state.cov, passed.filtered.cov[t], rtol=1e-8, atol=1e-16)
        assert_allclose(now.carried.var, passed.after[t], rtol=1e-9)
        score = np.log(before @ np.exp(passed.log_density[t]))
        assert tick.log_score == pytest.approx(score, rel=1e-9)
    # the covariance of the ratio is what the recursion says, without a tail
    unit = fitted.model.laws(**sites_of(fitted))[1].var
    away = now.state.mean.sum(0) if fitted.model.parts else now.state.mean[0]
    cov = now.state.cov.sum((0, 1)) if fitted.model.parts else now.state.cov[0, 0]
    scale = live.coordinates.scale[0]
    mean = now.weights @ away
    total = now.weights @ (cov * unit + (away - mean) ** 2)
    assert tick.beta["PEP"] == pytest.approx(mean / scale, rel=1e-9)
    assert tick.sd_total["PEP"] == pytest.approx(np.sqrt(total) / scale, rel=1e-9)


def sites_of(fitted: HedgeFit) -> dict[str, Any]:
    stored = trees.stored_sites(fitted.tree)
    return {name: stored[name] for name in fitted.model.parameters}


@pytest.mark.variants
def test_tables_and_smoother_are_of_that_variance(fitted: HedgeFit):
    passed = whole(fitted, fitted.data)
    posterior = trees.group_of(fitted.tree, "posterior")
    assert float(posterior["obs_var"].min()) > 0
    predicted = trees.group_of(fitted.tree, "predicted")
    tail = 1.0 if passed.dof is None else passed.dof / (passed.dof - 2)
    var = (passed.scale * tail).mean(-1) + passed.error.var(-1)
    assert_allclose(predicted["spread_sd"].values, np.sqrt(var), rtol=1e-9)
    smoothed = fitted.hedge_ratio("smoothed")
    assert_allclose(smoothed.iloc[-1]["mean"], fitted.hedge_ratio().iloc[-1]["mean"], rtol=1e-6)
    assert np.isfinite(smoothed.to_numpy()).all()
    assert fitted.summary().loc["noise", "memory"] < np.inf


def test_a_shock_is_held_and_the_filter_goes_live(fitted: HedgeFit):
    rows = returns().prices.iloc[TRAIN : TRAIN + 4]
    with fitted.go_live() as live:
        for at, row in rows.iterrows():
            signal = live.tick(row.to_dict(), at=at)
        assert signal.outcome == "accepted"
    held = fitted.online(shocks=Quarantine())
    before = held.arguments()["carried"]
    tick = held.update(y=rows["KO"].iloc[0] * 100, x=rows["PEP"].iloc[0])
    assert tick.outcome == "quarantined"
    after = held.arguments()["carried"]
    if isinstance(held.arguments()["noise"], AnchoredVariance):
        assert_allclose(after.hedge_var, before.hedge_var, rtol=0)
        law = held.arguments()["noise"]
        assert_allclose(after.var, law.fade(before, 1.0).var, rtol=1e-12)  # only nearer its anchor


@pytest.mark.nightly
def test_a_board_is_each_pair_alone():
    pairs = HedgeData.pairs(stock_prices(), [("KO", "PEP"), ("PEP", "KO")], transform="return")
    model = hedge_ratio_model(noise=Anchored(), drift=SCALES, intercept="none")
    method = ImportanceSampling(draws=32, rounds=2)
    board = fit_many(pairs, model, method=method, progress=False)
    row, one = board.table().loc["KO/PEP"], board.sel("KO/PEP")
    last = one.hedge_ratio().iloc[-1]
    assert row["beta"] == pytest.approx(last["mean"], rel=1e-9)
    assert row["sd"] == pytest.approx(last["sd"], rel=1e-9)
    live, alone = board.online(), {name: board.sel(name).online() for name in pairs.names}
    live = type(live).from_json(live.to_json())
    for step in (1.01, 0.99):
        prices = pairs.prices.iloc[-1] * [step, 1.003]
        tick = live.update(prices.to_dict())
        for name, filter_ in alone.items():
            target, hedge = name.split("/")
            own = filter_.update(y=prices[target], x=[prices[hedge]])
            assert tick.of(name).beta[hedge] == pytest.approx(own.beta[hedge], rel=1e-9)
            assert tick.of(name).log_score == pytest.approx(own.log_score, rel=1e-9)
    with pytest.raises(ValueError, match="cannot be pooled, .* no Anchored noise"):
        pool(board)


def test_a_model_is_kept_with_its_priors():
    model = hedge_ratio_model(noise=Anchored(memory=Memory(20, low=5, high=80), today=0, tail=4.0))
    text = saved.to_json(model)
    assert saved.to_json(saved.from_json(text)) == text
    assert "LogNormal" in text


@pytest.mark.nightly
def test_on_prices_it_reads_no_moves():
    prices = HedgeData.from_prices(stock_prices(), target="KO", hedges=["PEP"])
    with pytest.raises(ValueError, match=r"of KO are log prices.*or Anchored\(today=0, after=0\)"):
        hedge_ratio_model(noise=Anchored()).inputs(prices)
    pairs = HedgeData.pairs(stock_prices(), [("KO", "PEP")])
    with pytest.raises(ValueError, match="of these pairs are log prices"):
        fit_many(pairs, hedge_ratio_model(noise=Anchored()), progress=False)
    found = unsampled(prices, draws=8, noise=Anchored(today=0, after=0))
    assert np.isfinite(found.hedge_ratio().to_numpy()).all()
    assert len(found.hedge_ratio()) == ROWS


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"memory": 0.5},
            "Anchored: memory is a prior or a number, and it is 1 bar or more; not 0.5",
        ),
        ({"weight": -1.0}, "Anchored: weight .* it is 0 or more; not -1.0"),
        ({"tail": [3.0]}, "Anchored: tail"),
        ({"today": np.inf}, "Anchored: today"),
    ],
)
def test_a_number_out_of_range_is_refused(given: dict[str, Any], text: str):
    with warnings.catch_warnings(), pytest.raises(ValueError, match=text):
        Anchored(**given)
