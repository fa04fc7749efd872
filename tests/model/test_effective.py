"""A prior said in effective memory: what a row tells of a ratio, and how long it is learnt over."""

import jax
import numpy as np
import pytest

from kfmodels import (
    Constant,
    Discounted,
    HedgeData,
    Memory,
    StateDiscount,
    fit_many,
    hedge_ratio_model,
)
from kfmodels.data import datasets
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.model import Absolute, saved
from kfmodels.model.memory import LOGIT_GAINS, memory_to_q, told_at, told_beside
from kfmodels.sampling import prior as priors
from tests.processes import python

pytestmark = pytest.mark.slow


def said(bars: float) -> Memory:
    return Memory(bars, low=bars / 4, high=4 * bars, effective=True)


def two_regressors() -> np.ndarray:
    rng = np.random.default_rng(2)
    return np.cumsum(rng.normal(size=(300, 2)) @ [[1.0, 0.6], [0.0, 0.5]], 0)


def test_a_row_tells_what_a_filter_of_the_intercept_and_the_other_hedges_leave():
    x = two_regressors()
    found = told_beside(x, moving=True)
    for number, odds in enumerate(LOGIT_GAINS):
        gain, level, left = 1 / (1 + np.exp(-odds)), x[0], []
        for row in x:
            left.append(row - level)
            level = level + gain * (row - level)
        gram = np.array(left).T @ np.array(left) / len(x)
        alone = [
            gram[0, 0] - gram[0, 1] ** 2 / gram[1, 1],
            gram[1, 1] - gram[0, 1] ** 2 / gram[0, 0],
        ]
        np.testing.assert_allclose(found[number], alone, rtol=1e-9)
    gain = 1 / (1 + np.exp(-LOGIT_GAINS[6]))
    level = gain**2 / (1 - gain)  # the q of that gain
    np.testing.assert_allclose(told_at(found, level, np), found[6] * (1 - gain), rtol=1e-9)


def test_beside_an_intercept_that_stands_still_it_is_the_memory_of_q():
    data = HedgeData.from_prices(datasets.stocks().loc["2019":], target="KO", hedges=["PEP"])
    same = [
        hedge_ratio_model(
            delta={"beta": Memory(60, low=15, high=240, effective=flag)},
            intercept="static",
            noise=Constant(),
        )
        for flag in (False, True)
    ]
    drawn = [_draw(model, data, 64)[0]["q"] for model in same]
    np.testing.assert_allclose(drawn[1], drawn[0], rtol=1e-9)


def _draw(model, data: HedgeData, count: int):
    inputs = model.inputs(data)
    with jax.enable_x64(True):
        numbers = np.arange(count, dtype=np.uint32)
        sites = jax.device_get(priors.draw(numbers, np.uint32(0), inputs, model=model)[1])
        law = trees.regression(model, inputs, {name: sites[name] for name in model.parameters})
        return sites, jax.device_get(passes.forward(law, inputs.y))


@pytest.mark.parametrize("noise", [None, Discounted()])
@pytest.mark.parametrize(("target", "hedge"), [("XLE", "SPY"), ("TLT", "IEF")])
@pytest.mark.parametrize("bars", [20, 60, 200])
def test_a_ratio_is_learnt_over_about_as_many_bars_as_the_prior_says(target, hedge, noise, bars):
    """At the end of the rows, as `HedgeFit.summary` tells it; told of q it is many times longer."""
    prices = datasets.etfs().loc["2010":"2013"]
    data = HedgeData.from_prices(prices, target=target, hedges=[hedge])
    parts = {} if noise is None else {"noise": noise}

    def learnt_over(prior: Memory) -> float:
        model = hedge_ratio_model(delta={"beta": prior}, **{"noise": Constant()} | parts)
        sites, ended = _draw(model, data, 100)
        return float(np.median(1 + np.asarray(ended.cov)[:, 0, 0] / sites["q"][:, 0]))

    assert bars / 2 < learnt_over(said(bars)) < 2 * bars
    assert learnt_over(Memory(bars, low=bars / 4, high=4 * bars)) > 4 * bars


@pytest.mark.nightly
@pytest.mark.slow
def test_many_pairs_have_the_prior_of_each():
    prices = datasets.etfs().loc["2013":"2014"]
    model = hedge_ratio_model(delta={"beta": said(60)}, noise=Constant())
    pairs = [("XLE", "SPY"), ("TLT", "IEF")]
    board = fit_many(HedgeData.pairs(prices, pairs), model, progress=False)
    assert set(board.status) == {"ok"}
    for target, hedge in pairs:
        data = HedgeData.from_prices(prices, target=target, hedges=[hedge])
        told = model.inputs(data).told
        assert told is not None
        assert told.shape == (len(LOGIT_GAINS), 1)
        row = board.table().loc[f"{target}/{hedge}"]
        assert row["effective_memory"] > 5 * row["memory"]


def test_it_is_kept_in_files():
    model = hedge_ratio_model(delta={"beta": said(60)}, noise=Constant())
    assert saved.from_json(saved.to_json(model)).beta_delta == said(60)
    days = Memory(60, low=15, high=240, unit="days", effective=True)
    assert days.in_bars(78).effective


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: hedge_ratio_model(delta={"alpha": said(60)}, noise=Constant()),
            "is that of a hedge ratio",
        ),
        (
            lambda: hedge_ratio_model(delta={"beta": Absolute(said(60))}, noise=Constant()),
            "is that of a hedge ratio",
        ),
        (lambda: hedge_ratio_model(delta=said(60), noise=Constant()), "is that of a hedge ratio"),
        (lambda: hedge_ratio_model(noise=Discounted(said(60))), "not of a variance"),
        (
            lambda: hedge_ratio_model(
                delta={"beta": said(60)}, drift=StateDiscount(), noise=Constant()
            ),
            "leave effective out",
        ),
        (lambda: Memory(60, low=15, high=240, effective=1), "effective is True or False"),
    ],
)
def test_where_it_means_nothing_it_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_the_q_of_a_regressor_of_unit_size_is_that_of_its_memory():
    assert told_beside(np.ones((50, 1)), moving=False)[0, 0] == pytest.approx(1)
    assert memory_to_q(60.0) == pytest.approx(1 / (60 * 59))


@pytest.mark.slow
def test_many_pairs_are_fitted_in_a_process_that_has_done_nothing_else():
    """What a process lowers first, JAX may lower in another precision than what comes later."""
    code = """
import kfmodels as kf
prices = kf.datasets.etfs().loc["2013":"2014"]
told = kf.Memory(60, low=15, high=240, effective=True)
model = kf.hedge_ratio_model(delta={"beta": told}, noise=kf.Constant())
pairs = kf.HedgeData.pairs(prices, [("XLE", "SPY"), ("TLT", "IEF")])
print(*kf.fit_many(pairs, model, progress=False).status)
"""
    out, _ = python("-c", code).communicate(timeout=300)
    assert out.split() == ["ok", "ok"]
