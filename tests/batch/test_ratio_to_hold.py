"""The hedge ratio of a board, and how sure it is, on real pairs beside a dense grid over the noise."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kfmodels import (
    Constant,
    Discounted,
    HedgeData,
    ImportanceSampling,
    datasets,
    fit_many,
    hedge_ratio_model,
)
from tests.sampling.test_importance import inputs_of, ratio_on_a_grid

pytestmark = pytest.mark.slow

TICKERS = ["EWG", "EWQ", "EWU", "SPY"]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(hedge_ratio_model(noise=Constant()), id="constant"),
        pytest.param(
            hedge_ratio_model(noise=Discounted()), id="discounted", marks=pytest.mark.nightly
        ),
    ],
)
def test_the_ratio_to_hold_is_that_of_a_dense_grid(model: Any):
    """On the table and from one pair: both mix the 64 draws on which the filter goes on."""
    prices = datasets.etfs().loc["2014", TICKERS]
    pairs = HedgeData.pairs(prices, list(permutations(TICKERS, 2)))
    mean, sd = ratio_on_a_grid(inputs_of(pairs, model), model)
    for method, most, usual in (
        (ImportanceSampling(), 0.035, 0.02),
        # the worst pair is as far off, for the 64 draws that are kept are drawn too
        (ImportanceSampling(draws=256), 0.035, 0.015),
    ):
        board = fit_many(pairs, model, method=method, progress=False)
        ((_, arrays),) = board.chunks()
        table = board.table()
        away = table["sd"].to_numpy() * arrays["scale"] / sd - 1
        assert np.abs(away).max() < most
        assert np.sqrt((away**2).mean()) < usual
        found = table["beta"].to_numpy() * arrays["scale"]
        assert np.abs((found - mean) / sd).max() < 0.07
        name = pairs.names[0]
        alone = board.sel(name).hedge_ratio().iloc[-1]
        assert_allclose(alone[["mean", "sd"]], table.loc[name, ["beta", "sd"]], rtol=1e-9)
