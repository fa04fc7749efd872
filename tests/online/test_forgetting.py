"""Weights of the noise draws under a forgetting factor, against a loop over filters of one draw."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels.kalman import motion, step
from kfmodels.online.filter import OnlineFilter
from tests.benchmarks import forgetting as bench
from tests.made_filters import made_filter, made_prices, one_draw

ROWS = 60
KINDS: dict[str, dict[str, Any]] = {"constant": {}, "discounted": {"discounted": True}}


def one_by_one(live: OnlineFilter, rows: np.ndarray) -> np.ndarray:
    """Log density of every row under every draw, `(row, draw)`, each from a filter of its own."""
    return np.array(
        [
            [one.update(y=y, x=x).log_score for y, *x in rows]
            for one in (one_draw(live, draw) for draw in range(live.draws))
        ]
    ).T


def normalised(log_weights: np.ndarray) -> np.ndarray:
    return log_weights - np.logaddexp.reduce(log_weights)


def now(live: OnlineFilter) -> np.ndarray:
    return live.arguments()["log_weights"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("factor", [1.0, 0.99, 0.6])
def test_weights_and_scores_are_those_of_the_recursion(kind: dict[str, Any], factor: float):
    live, rows = made_filter(forgetting=factor, **kind), made_prices(ROWS)
    log_weights = now(live)
    for (y, *x), density in zip(rows, one_by_one(live, rows), strict=True):
        tick = live.update(y=y, x=x)
        joint = normalised(factor * log_weights) + density
        log_weights = normalised(joint)
        assert_allclose(tick.log_score, np.logaddexp.reduce(joint), rtol=1e-12, atol=1e-11)
        assert_allclose(now(live), log_weights, rtol=1e-12, atol=1e-11)
        assert_allclose(tick.effective_draws, 1 / (np.exp(log_weights) ** 2).sum(), rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("factor", [1.0, 0.95])
def test_an_older_row_counts_less_by_the_factor_to_its_age(kind: dict[str, Any], factor: float):
    r"""Unrolled: $\log w_T = f^T \log w_0 + \sum_t f^{T-t} \log p_t$; with f = 1 Bayes's theorem."""
    live, rows = made_filter(forgetting=factor, **kind), made_prices(ROWS)
    expected = factor**ROWS * now(live)
    expected = expected + factor ** np.arange(ROWS - 1, -1, -1) @ one_by_one(live, rows)
    for y, *x in rows:
        live.update(y=y, x=x)
    assert_allclose(now(live), normalised(expected), rtol=1e-11, atol=1e-10)


def test_a_factor_near_0_leaves_all_draws_alike_before_every_row():
    live, rows = made_filter(forgetting=1e-12), made_prices(20)
    for (y, *x), density in zip(rows, one_by_one(live, rows), strict=True):
        assert_allclose(live.predictive(x=x).weights, 1 / live.draws, rtol=1e-9)
        live.update(y=y, x=x)
        assert_allclose(now(live), normalised(density), rtol=1e-9, atol=1e-9)


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


def test_forgetting_moves_weights_and_no_draw():
    quick, never = made_filter(forgetting=0.5), made_filter()
    for y, *x in made_prices(ROWS):
        quick.update(y=y, x=x)
        never.update(y=y, x=x)
    assert not np.allclose(quick.weights, never.weights)
    for first, second in zip(quick.arguments()["state"], never.arguments()["state"], strict=True):
        assert_array_equal(first, second)


def test_one_draw_has_nothing_to_forget():
    ticks = [
        [live.update(y=y, x=x) for y, *x in made_prices(10)]
        for live in (made_filter(draws=1, forgetting=factor) for factor in (1.0, 0.5))
    ]
    assert [tick.record() for tick in ticks[0]] == [tick.record() for tick in ticks[1]]


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


def test_the_standard_error_is_that_of_independent_days_and_grows_with_their_dependence():
    rng = np.random.default_rng(2)
    white = rng.normal(size=4000)
    assert_allclose(bench.standard_error(white, 0), white.std() / np.sqrt(4000), rtol=1e-12)
    slow = np.convolve(white, np.ones(5) / 5, "valid")  # the sd of its mean is that of `white`
    assert_allclose(bench.standard_error(slow, 40), 1 / np.sqrt(4000), rtol=0.15)
    assert bench.standard_error(slow, 0) < 0.6 / np.sqrt(4000)
