"""The engine in double precision against a plain loop with 50 digits."""

import numpy as np
import pytest

from kfmodels.basket.basket import Basket
from tests.basket.conftest import draw_moves, feed, prices_of
from tests.basket.exact import replay_exactly

TICKERS, ROWS = tuple("ABCDEFGH"), 1000  # 1000 % 21: the last legs are those of the ratios after it


@pytest.mark.nightly
@pytest.mark.timeout(3600)  # two minutes of a quiet processor
def test_a_thousand_updates_are_those_of_fifty_digits():
    prices = prices_of(draw_moves(1, ROWS, len(TICKERS)))
    basket = Basket(TICKERS, shocks=None)
    feed(basket, prices[:1])
    ticks, legs = [], {}
    for t, row in enumerate(prices[1:]):
        ticks += feed(basket, row[None], t + 1)
        if basket.stand.choice is not None:
            legs[t] = basket.stand.choice.chosen
    plain = replay_exactly(np.log(prices[1:] / prices[:-1]), legs)
    for found, numbers in (("mean", plain.mean), ("spread_sd", plain.sd)):
        expected = np.array([getattr(tick, found) for tick in ticks])
        size = np.nanmax(np.abs(expected))
        np.testing.assert_allclose(expected / size, numbers / size, rtol=0, atol=1e-9)
    np.testing.assert_allclose([t.log_score for t in ticks], plain.scores, rtol=0, atol=1e-9)
    np.testing.assert_allclose(basket.ratios(), plain.ratios, rtol=0, atol=1e-9)
