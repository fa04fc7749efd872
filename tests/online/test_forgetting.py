"""Weights of the noise draws under a forgetting factor, against a loop over filters of one draw."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from kfmodels.kalman import motion, step
from kfmodels.online.filter import OnlineFilter
from tests.benchmarks import forgetting as bench
from tests.made_filters import made_filter, made_prices, one_draw

ROWS = 60
KINDS: dict[str, dict[str, Any]] = {"constant": {}, "discounted": {"discounted": True}}


def one_by_one(live: OnlineFilter, rows: np.ndarray) -> np.ndarray:
    """Log density of every row under every draw, `(row, draw)`, each from a filter of its own."""
    unforgetting = OnlineFilter(**live.arguments() | {"forgetting": 1.0})
    return np.array(
        [
            [one.update(y=y, x=x).log_score for y, *x in rows]
            for one in (one_draw(unforgetting, draw) for draw in range(live.draws))
        ]
    ).T


def normalised(log_weights: np.ndarray) -> np.ndarray:
    return log_weights - np.logaddexp.reduce(log_weights)


def now(live: OnlineFilter) -> np.ndarray:
    return live.arguments()["log_weights"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("factor", [1.0, 0.99, 0.6, 1e-12])
def test_weights_and_scores_are_those_of_the_recursion(kind: dict[str, Any], factor: float):
    """Down to a factor near 0, under which all draws are alike before every row."""
    live, rows = made_filter(forgetting=factor, **kind), made_prices(ROWS)
    log_weights = now(live)
    for (y, *x), density in zip(rows, one_by_one(live, rows), strict=True):
        before = normalised(factor * log_weights)
        assert_allclose(live.predictive(x=x).weights, np.exp(before), rtol=1e-9)
        tick = live.update(y=y, x=x)
        joint = before + density
        log_weights = normalised(joint)
        assert_allclose(tick.log_score, np.logaddexp.reduce(joint), rtol=1e-12, atol=1e-11)
        assert_allclose(now(live), log_weights, rtol=1e-12, atol=1e-11)
        assert_allclose(tick.effective_draws, 1 / (np.exp(log_weights) ** 2).sum(), rtol=1e-10)


@pytest.mark.parametrize("kind", [*KINDS.values(), {"walks": False, "discounted": True}])
def test_two_bars_at_once_are_two_bars_without_a_price(kind: dict[str, Any]):
    one, two = (made_filter(forgetting=0.9, **kind) for _ in range(2))
    for y, *x in made_prices(ROWS):
        one.update(y=math.nan, x=x, dt=2.0)
        for _ in range(2):
            two.update(y=math.nan, x=x)
        assert_allclose(now(one), now(two), rtol=1e-12)
        a, b = one.update(y=y, x=x, dt=3.0), two
        b.update(y=math.nan, x=x, dt=2.0)
        b = b.update(y=y, x=x)
        assert_allclose([a.log_score, a.spread_sd], [b.log_score, b.spread_sd], rtol=1e-9)
    for part in ("state", "carried"):
        for first, second in zip(
            one.arguments()[part] or (), two.arguments()[part] or (), strict=True
        ):
            assert_allclose(first, second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("factor", [0.0, -0.1, 1.01, math.nan])
def test_a_factor_is_above_0_and_up_to_1(factor: float):
    with pytest.raises(ValueError, match="forgetting is a factor a bar, above 0 and up to 1"):
        made_filter(forgetting=factor)


# -- the benchmark ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_benchmark_weighs_as_the_filter_does(kind: dict[str, Any]):
    live = made_filter(forgetting=0.97, **kind)
    rows = pd.DataFrame(made_prices(ROWS), columns=["XLE", "SPY"])
    density = bench.densities(live, rows)
    assert_allclose(density, one_by_one(live, rows.to_numpy()), rtol=1e-10, atol=1e-9)
    run = bench.weighed(density, now(live), 0.97)
    ticks = [live.update(y=y, x=x) for y, x in rows.to_numpy()]
    assert_allclose(run.log_score, [tick.log_score for tick in ticks], rtol=1e-9, atol=1e-9)
    assert_allclose(run.effective, [tick.effective_draws for tick in ticks], rtol=1e-8)
    assert_allclose(run.log_weights[-1], now(live), rtol=1e-9, atol=1e-8)


def test_an_explorer_has_the_variance_that_makes_its_innovations_right():
    rng = np.random.default_rng(4)
    x = np.cumsum(0.01 * rng.normal(size=(200, 1)), 0)
    y = 1.2 * x[:, 0] + np.cumsum(0.002 * rng.normal(size=200)) + 0.003 * rng.normal(size=200)
    where = made_filter().coordinates._replace(pivot=x.mean(0), scale=x.std(0), offset=y.mean())
    grid = bench.explorers(x, y, where, None)
    assert len(grid["noise"].var) == len(bench.BETA_MEMORY) * len(bench.ALPHA_MEMORY)
    assert grid["carried"] is None
    for draw in (0, 17, 38):
        state = step.State(np.zeros(2), 1e4 * np.eye(2))
        squares = []
        for row, value in zip(where.design(x), y - where.offset, strict=True):
            drift = motion.Walk(grid["drift"].noise[..., draw])
            _, state, seen = step.step(state, row, value, drift)
            squares.append(seen.error**2 / seen.var)
        assert_allclose(grid["noise"].var[draw], np.mean(squares[bench.BURN_IN :]), rtol=1e-9)
        assert_allclose(grid["state"].mean[:, draw], state.mean, rtol=1e-9)
