"""Blocks of pairs of one shape: what fills the last one up costs nothing and does not come back."""

import numpy as np

from kfmodels import hedge_ratio_model
from kfmodels.batch.blocks import finish, start
from kfmodels.data.arrays import pair_arrays
from kfmodels.kalman.transforms import LOG
from tests.problems import ROWS, stock_prices


def test_what_fills_a_block_up_counts_to_its_first_row_and_is_left_out():
    legs = stock_prices()[["KO", "PEP", "SPX", "KO", "PEP"]].to_numpy().T
    pairs = pair_arrays(legs, np.roll(legs, 1, 0), LOG)
    inputs, _ = hedge_ratio_model().inputs_of_pairs(pairs)
    counts = []

    def run(given, number):
        counts.extend(given.count)
        return {"number": number, "last": given.y[:, -1]}

    found = finish(start(run, (inputs, np.arange(5.0)), 3))
    assert counts == [ROWS] * 5 + [1]
    np.testing.assert_array_equal(found["number"], np.arange(5))
    np.testing.assert_array_equal(found["last"], inputs.y[:, -1])
