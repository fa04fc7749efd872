"""A pair beside its universe, against baskets run by hand and variances of NumPy."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from kfmodels.basket.basket import Basket
from kfmodels.batch.few_legs import compare_with_universe, hold_few
from kfmodels.data import datasets
from kfmodels.kalman.transforms import LEVEL, LOG, RETURN

NAMES = ["XLE", "LQD", "SPY", "XLB", "XLF"]
TABLE = datasets.etfs()[NAMES].iloc[:340]


def by_hand(table: pd.DataFrame, legs: int, level: bool) -> np.ndarray:
    """What is left of the first column, one row after the other."""
    basket, left, last, held = Basket(list(table), targets=["XLE"], legs=legs), [], None, None
    for row in table.to_dict("records"):
        if last is not None:
            known = {name: price for name, price in row.items() if price == price}
            now = last | known
            total = row["XLE"] - last["XLE"] if level else row["XLE"] / last["XLE"] - 1
            for name, ratio in held.items():
                move = now[name] - last[name]
                scale = last["XLE"] / last[name] if level else 1 / last[name]
                total -= ratio * scale * move
            left.append(total)
            last = now
        else:
            left.append(np.nan)
            last = row
        basket.update(row)
        held = dict(zip(table, basket.ratios()[0].tolist(), strict=True))
    return np.array(left)


@pytest.mark.parametrize("transform", [LOG, LEVEL, RETURN])
def test_few_legs_leave_what_a_plain_loop_leaves(transform):
    table = TABLE.copy()
    table.iloc[[300, 301], 2] = np.nan  # the move over the gap enters when the price returns
    found = hold_few(table, "XLE", NAMES[1:], transform=transform)
    for place, legs in enumerate((1, 3)):
        expected = by_hand(table, legs, transform == "level")
        judged = np.isfinite(expected)
        assert judged.sum() > 80
        assert_allclose(found.left[place][judged], expected[judged], atol=1e-12)
        assert np.isnan(found.left[place][:250]).all()


def test_a_pair_is_set_beside_its_universe_in_the_same_rows():
    table = TABLE.assign(note="text", spread=-1.0, empty=np.nan)
    found = compare_with_universe(TABLE[["XLE", "LQD"]], table, since=TABLE.index[259])
    plain = TABLE["XLE"].pct_change().to_numpy()[260:]

    def share(columns: list[str], legs: int) -> float:
        return 1 - np.var(by_hand(TABLE[columns], legs, False)[260:]) / np.var(plain)

    assert (found.rows, found.columns) == (80, 5)
    assert_allclose(found.own, share(["XLE", "LQD"], 1), rtol=1e-9)
    assert_allclose(found.few, (share(NAMES, 1), share(NAMES, 3)), rtol=1e-9)
    assert found.few[0] > found.own + 0.3
    assert found.legs[0] == ("SPY",) or found.legs[0] == ("XLB",)
    assert len(found.legs[1]) == 3


def test_the_future_changes_nothing_that_was_held():
    other = TABLE.copy()
    other.iloc[320:] *= np.linspace(1.1, 2, 20)[:, None] ** np.arange(5)
    kept = hold_few(TABLE, "XLE", NAMES[1:]).left[:, :320]
    np.testing.assert_array_equal(hold_few(other, "XLE", NAMES[1:]).left[:, :320], kept)


@pytest.mark.parametrize(
    "table",
    [
        TABLE[["XLE", "LQD"]],  # no other column
        TABLE.iloc[:270],  # 20 rows with legs
        TABLE.iloc[::-1],
    ],
)
def test_nothing_is_said_where_there_is_nothing_to_compare(table):
    assert compare_with_universe(TABLE[["XLE", "LQD"]], table) is None


def test_a_price_below_zero_has_no_hedge_in_money():
    assert np.isnan(hold_few(TABLE - 30, "XLE", NAMES[1:], transform=LEVEL).left).all()
