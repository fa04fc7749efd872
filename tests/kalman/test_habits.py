"""Repeated prices: what is usual on real bars, and what is counted."""

from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import datasets
from kfmodels.kalman.habits import CALM, Habits, calm_rows, habits_of
from kfmodels.kalman.transforms import LEVEL, LOG, RETURN
from tests.tables import read_table

PRICES = st.lists(st.tuples(*[st.sampled_from([1.0, 2.0, 3.0])] * 2), min_size=2, max_size=40)


def counted(rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
    """A plain loop: which rows are calm, and the runs of every leg and of both after each."""
    calm, runs, both = [False], [np.zeros(rows.shape[1])], [0]
    for before, now in pairwise(rows):
        if (before == now).all():
            both.append(both[-1] + 1)
            runs.append(runs[-1])
        else:
            both.append(0)
            legs = zip(runs[-1], before, now, strict=True)
            runs.append(np.array([count + 1 if a == b else 0 for count, a, b in legs]))
        calm.append(both[-1] >= CALM)
    return np.array(calm), runs, both


@given(PRICES)
def test_offline_and_online_count_as_a_loop_does(rows):
    prices = np.array(rows)
    calm, runs, both = counted(prices)
    assert_array_equal(calm_rows(prices), calm)
    offline = habits_of(prices, LEVEL)
    assert_array_equal(offline.still, runs[-1])
    assert offline.calm == both[-1]
    assert_array_equal(offline.patience, np.maximum(5, 2 * np.max(runs, axis=0)))
    online = Habits(offline.move, offline.patience, np.zeros(2), np.zeros(()))
    for before, now in pairwise(prices):
        online = online.after(before == now, np.array(True))
    assert_array_equal(online.still, runs[-1])
    assert online.calm == both[-1]


def test_a_row_without_a_price_counts_for_nothing():
    one = Habits(np.ones((1, 2)), np.full((1, 2), 5.0), np.array([[2.0, 0.0]]), np.array([1.0]))
    after = one.after(np.array([[True, False]]), np.array([False]))
    assert_array_equal(after.still, one.still)
    assert_array_equal(after.calm, one.calm)


@pytest.mark.parametrize("transform", [LOG, LEVEL, RETURN])
def test_the_usual_move_is_the_sd_of_normal_moves(transform):
    random = np.random.default_rng(0)
    moves = random.normal(0, [0.01, 0.02], (50_000, 2))
    prices = {
        LOG: np.exp(moves.cumsum(0)),
        LEVEL: moves.cumsum(0),
        RETURN: np.cumprod(1 + moves, 0),
    }[transform]
    # the standard error of a mean absolute value is 0.76 of the sd over the root of the rows
    assert_allclose(habits_of(prices, transform).move, [0.01, 0.02], rtol=4 * 0.76 / 50_000**0.5)


BARS = {
    "intraday_us_1min_2019-02.csv.gz": 0.031,
    "lean_fxcm_1min_bid_2014-05.csv.gz": 0.018,
    "daily ETFs": 0.001,
}
"""Largest share of rows on which both legs of a pair repeat their price."""


@pytest.mark.parametrize(("name", "share"), BARS.items(), ids=BARS)
def test_on_real_bars_next_to_no_row_is_calm(name: str, share: float):
    """So that the variance of bars of which a few per cent do not move is what it was."""
    prices = datasets.etfs() if name == "daily ETFs" else read_table(name)
    repeats, calm = [], []
    for pair in combinations(prices.columns[:12], 2):
        rows = prices[list(pair)].dropna().to_numpy()
        repeats.append((rows[1:] == rows[:-1]).all(1).mean())
        calm.append(calm_rows(rows).mean())
    assert 0 < max(repeats) <= share
    assert max(calm) <= 0.0002


def test_a_filled_outage_is_calm_but_for_its_first_rows():
    index = pd.date_range("2024-01-02", periods=40, freq="5min")
    prices = pd.DataFrame({"Y": np.arange(40.0), "X": np.arange(40.0) ** 2}, index)
    prices.iloc[10:30] = prices.iloc[9].to_numpy()
    assert_array_equal(np.flatnonzero(calm_rows(prices.to_numpy())), np.arange(12, 30))
