"""Weights of the noise draws under a fixed share, against a loop over filters of one draw."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kfmodels.kalman.arrays import log_memory, memory_of
from kfmodels.kalman.motion import Discount, Reversion, Walk
from kfmodels.live.feed import LiveFilter
from kfmodels.model.memory import q_to_gain, q_to_memory
from kfmodels.online import blocks
from kfmodels.online.board import OnlineBoard
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.shocks import Quarantine
from tests.benchmarks import learning
from tests.made_filters import board_of, feed, made_filter, made_prices, one_draw

ROWS = 60
KINDS: dict[str, dict[str, Any]] = {
    "constant": {},
    "discounted": {"discounted": True},
    "fading": {"walks": False, "discounted": True},
}


def one_by_one(live: OnlineFilter, rows: np.ndarray) -> np.ndarray:
    """Log density of every row under every draw, `(row, draw)`, each from a filter of its own."""
    return np.array(
        [
            [one.update(y=y, x=x).log_score for y, *x in rows]
            for one in (one_draw(live, draw) for draw in range(live.draws))
        ]
    ).T


def now(live: OnlineFilter) -> np.ndarray:
    return live.arguments()["log_weights"]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("share", [0.0, 0.002, 0.3, 0.999])
def test_weights_and_scores_are_those_of_the_recursion(
    kind: dict[str, Any], share: float, compiled: bool, monkeypatch: pytest.MonkeyPatch
):
    """Up to a share near 1, under which all draws are as at the beginning before every row."""
    if not compiled:
        monkeypatch.setattr(blocks, "find_kernels", lambda: None)
    live, rows = made_filter(share=share, **kind), made_prices(ROWS)
    first = np.exp(now(live))
    weights = first
    for (y, *x), density in zip(rows, one_by_one(live, rows), strict=True):
        before = (1 - share) * weights + share * first
        assert_allclose(live.predictive(x=x).weights, before, rtol=1e-9)
        tick = live.update(y=y, x=x)
        joint = before * np.exp(density - density.max())
        assert_allclose(tick.log_score, np.log(joint.sum()) + density.max(), rtol=1e-12, atol=1e-11)
        weights = joint / joint.sum()
        assert_allclose(live.weights, weights, rtol=1e-9, atol=1e-14)
        assert_allclose(tick.effective_draws, 1 / (weights**2).sum(), rtol=1e-10)
        assert_allclose(tick.moved, 0.5 * abs(weights - first).sum(), rtol=1e-9, atol=1e-12)
    if share == 0.3:
        assert tick.moved > 0.01  # or nothing was tested


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_two_bars_at_once_are_two_bars_without_a_price(kind: dict[str, Any]):
    one, two = (made_filter(share=0.1, **kind) for _ in range(2))
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


def test_a_draw_that_lost_all_its_weight_comes_back():
    """In a pair whose ratio is far from that of one draw, whose weight would be 0 without a share."""
    for share in (0.0, 0.01):
        live = made_filter(draws=2, share=share)
        held = live.arguments()
        held["state"].mean[0, 1] += 50.0 * abs(held["state"].mean[0, 0])
        held["state"].cov[..., 1] /= 1e6
        live = OnlineFilter(**held)
        for y, *x in made_prices(30):
            live.update(y=y, x=x)
        expected = share * np.exp(held["log_weights"][1])
        assert_allclose(live.predictive(x=x).weights[1], expected, rtol=1e-6, atol=1e-60)
        assert np.isfinite(now(live)).all()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_filter_goes_on_to_the_bit_from_where_it_was_saved(kind: dict[str, Any], tmp_path: Any):
    """With the weights of the beginning, not those of the moment; also after a row without a price."""
    live = made_filter(share=0.05, shocks=Quarantine(), **kind)
    for number, (y, *x) in enumerate(made_prices(ROWS)):
        live.update(y=math.nan if number % 7 == 6 else y, x=x)
        if number % 7 in (5, 6):
            live.save(tmp_path / "one")
            other = OnlineFilter.load(tmp_path / "one")
            assert other.to_json() == live.to_json()
            live = other
    held = live.arguments()
    assert not np.array_equal(held["log_weights"], held["initial_log_weights"])


def test_a_board_says_what_its_filters_say_of_their_noise():
    singles = {f"{n}/SPY": made_filter(target=n, share=0.02, seed=k) for k, n in enumerate("ABC")}
    board = board_of(singles)
    for y, x in made_prices(20):
        tick = board.update({"A": y, "B": y, "C": y, "SPY": x})
        for number, (name, one) in enumerate(singles.items()):
            alone = one.update(y=y, x=x)
            assert_allclose(tick.memory[number], alone.memory["SPY"], rtol=1e-12)
            assert_allclose(tick.moved[number], alone.moved, rtol=1e-9)
            mine = alone.effective_memory["SPY"]
            assert_allclose(tick.effective_memory[number], mine, rtol=1e-9)
            assert tick.of(name).record()["memory"] == {"SPY": tick.memory[number]}
    q = singles["A/SPY"].arguments()["drift"].noise[0, 0]
    believed = np.exp(np.log(q_to_memory(q)) @ singles["A/SPY"].weights)
    assert_allclose(singles["A/SPY"].standing().memory["SPY"], believed, rtol=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_effective_memory_is_what_is_unknown_over_what_a_bar_adds(
    kind: dict[str, Any], compiled: bool, monkeypatch: pytest.MonkeyPatch
):
    if not compiled:
        monkeypatch.setattr(blocks, "find_kernels", lambda: None)
    live = made_filter(share=0.02, **kind)
    for y, x in made_prices(20):
        tick = live.update(y=y, x=x)
    held = live.arguments()
    var = held["state"].cov[0, 0]
    if kind.get("walks", True):
        added = held["drift"].noise[0, 0]
    else:
        added = var * (1 / held["drift"].factor - 1)
    told = np.exp(np.log(1 + var / added) @ live.weights)
    for one in (tick, live.standing()):
        assert one.effective_memory == {"SPY": pytest.approx(told, rel=1e-9)}
        assert f"effective memory {told:.3g} bars, by the first weights" in one.noise_said
    assert tick.memory["SPY"] < told  # a level would share the information of a bar with nothing


def test_the_benchmark_weighs_as_a_board_does():
    singles = {f"{n}/SPY": made_filter(target=n, seed=k) for k, n in enumerate("ABC")}
    board = board_of(singles)
    rows = [{"A": y, "B": y, "C": y, "SPY": x} for y, x in made_prices(30)]
    start = board.weights[0]  # a rule has the same draws for all pairs
    arguments: dict[str, Any] = board.arguments()
    logs = np.tile(np.log(start), (3, 1))
    arguments |= {"log_weights": logs, "initial_log_weights": logs, "share": 0.02}
    live, one = OnlineBoard(**arguments), learning.Weighed(learning.Rule(start, 0.02), 3)
    for row, seen in zip(rows, learning.densities(live, rows), strict=True):
        before = live.arguments()["state"].mean[0]
        one.go_on()
        assert_allclose(one.mean(seen.ratio), (before * one.weights).sum(-1), rtol=1e-12)
        assert_allclose(one.learn(seen), live.update(row).log_score, rtol=1e-9, atol=1e-9)
        assert_allclose(one.weights, live.weights, rtol=1e-7, atol=1e-12)


def told(live: LiveFilter) -> str:
    """Its text in one line, where a line of prose may have been broken."""
    return " ".join(str(live).split())


def test_a_live_filter_says_what_it_believes_of_the_noise():
    live = LiveFilter(made_filter(share=0.01, at=None))
    for prices, at in feed(3):
        signal = live.tick(prices, at=at)
    memory = signal.tick.effective_memory["SPY"]
    assert signal.tick.noise_said in told(live)
    assert f" effective memory {memory:.3g} bars, by the first weights " in told(live)
    assert told(live).endswith(" of the weights of the noise draws has moved since")
    fixed = made_filter(draws=3).arguments()
    fixed["drift"] = Walk(fixed["drift"].noise[..., :1])
    assert " bars, at a speed that the model fixes; " in told(LiveFilter(OnlineFilter(**fixed)))
    two = LiveFilter(board_of({f"{n}/SPY": made_filter(target=n) for n in "AB"}))
    assert "A/SPY, B/SPY (log)" in told(two)
    assert "bars, median of 2 pairs, by the first weights " in told(two)


def test_the_memory_of_each_law():
    q, eye = np.array([1e-8, 0.02, 3.0, 0.0]), np.eye(2)[..., None]
    assert_allclose(memory_of(log_memory(Walk(eye * q), 1)[0]), q_to_memory(q), rtol=1e-9)
    fading = Discount(1 - q_to_gain(q[:3]), np.ones((2, 2, 1)))
    assert_allclose(memory_of(log_memory(fading, 1)[0]), q_to_memory(q[:3]), rtol=1e-6)
    back = Reversion(np.eye(3)[..., None] * q, np.ones((3, 4)), np.zeros((3, 3, 4)))
    assert_allclose(memory_of(log_memory(back, 1, (0,))[0]), q_to_memory(q), rtol=1e-9)
    several = back._replace(noise=0 * back.noise)
    assert np.isnan(memory_of(log_memory(several, 1, (0, 0)))).all()
    assert np.isinf(memory_of(log_memory(several, 1, (1,)))).all()


@pytest.mark.parametrize("share", [1.0, -0.1, 1.01, math.nan])
def test_a_share_is_from_0_to_below_1(share: float):
    with pytest.raises(
        ValueError, match="share is a share of the weights a bar, from 0 to below 1"
    ):
        made_filter(share=share)
