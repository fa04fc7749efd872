"""A pair's numbers are its own: whatever the chunk, its size, the devices, and who stands beside it."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import (
    Constant,
    Discounted,
    HedgeData,
    HedgePairs,
    ImportanceSampling,
    hedge_ratio_model,
)
from kfmodels.batch.chunk import HABIT, fit_chunk, last_prices
from kfmodels.batch.status import FITTED, Status
from kfmodels.data import datasets
from kfmodels.kalman.habits import habits_of
from kfmodels.sampling import nuts
from tests.processes import python

QUICK = ImportanceSampling()
MODEL = hedge_ratio_model(noise=Constant())
MOVING = hedge_ratio_model(noise=Discounted())
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
"""Finite differences blow the rounding of other vector lengths up, to 1e-7 of a posterior sd."""


def table() -> pd.DataFrame:
    """Five ETFs, the last of which lists late."""
    prices = datasets.factor_etfs().loc["2021-06":"2022-06"].copy()
    prices.iloc[:180, -1] = np.nan
    return prices


@pytest.fixture(scope="module")
def pairs() -> HedgePairs:
    return HedgeData.all_pairs(table())


@pytest.fixture(scope="module")
def four(pairs) -> dict[str, np.ndarray]:
    arrays, verdicts = fit_chunk(pairs, [0, 1, 2, 3], MODEL, QUICK, 0, size=4)
    assert verdicts == [FITTED] * 4
    return arrays


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        if name == "log_weights":  # of draws that have none, the logarithm means nothing
            assert_allclose(np.exp(found[name]), np.exp(values), **CLOSE)
        else:
            assert_allclose(found[name], values, err_msg=name, **CLOSE)


@pytest.mark.slow
def test_neighbours_and_order_change_nothing(pairs, four):
    found, _ = fit_chunk(pairs, [17, 2, 9, 0], MODEL, QUICK, 0, size=4)
    for name in ("points", "log_weights", "mean", "cov", "log_evidence"):
        assert_array_equal(found[name][[3, 1]], four[name][[0, 2]], err_msg=name)


@pytest.mark.nightly
def test_the_size_of_a_chunk_changes_rounding_only(pairs, four):
    found, _ = fit_chunk(pairs, [2, 0], MODEL, QUICK, 0, size=2)
    assert_same(found, {name: values[[2, 0]] for name, values in four.items()})


@pytest.mark.slow
def test_another_chunk_of_the_same_shape_compiles_nothing(pairs, four, compiled):
    fit_chunk(pairs, [6, 7, 8], MODEL, QUICK, 1, size=4)
    assert not compiled


@pytest.mark.slow
def test_a_late_listing_is_fitted_on_what_there_is(pairs):
    number = pairs.names.index("MTUM/VLUE")
    found, verdicts = fit_chunk(pairs, [number], MODEL, QUICK, 0, size=4)
    assert verdicts == [FITTED]
    alone = HedgeData.from_prices(table().iloc[180:], target="MTUM", hedges=["VLUE"])
    assert_allclose(found["typical_move"], MODEL.inputs(alone).typical_move)
    assert_allclose(found["pivot"], alone.x.mean())


def testlast_prices_and_habits_are_those_of_each_pair_alone(pairs):
    """Among pairs with other gaps, and in whatever order."""
    prices = pairs.prices.copy()
    prices.iloc[[3, 9], 0] = prices.iloc[-1, 1] = np.nan
    prices.iloc[50:53] = prices.iloc[49].to_numpy()  # no leg moves
    gappy = HedgeData.all_pairs(prices)
    found = last_prices(gappy, [*range(20)][::-1])
    for place, (target, hedge) in enumerate(gappy.pairs[::-1]):
        both = prices[[target, hedge]].dropna().to_numpy()
        assert [found["last_y"][place], found["last_x"][place]] == both[-1].tolist()
        for name, values in habits_of(both, gappy.transform)._asdict().items():
            assert_array_equal(found[HABIT + name][place], values, err_msg=name)


def test_a_price_that_died_is_named_with_its_date():
    prices = table()
    prices.iloc[-20:, 0] = prices.iloc[-20, 0]
    day = f"{prices.index[-20]:%Y-%m-%d}"
    dead = HedgeData.pairs(prices, [("MTUM", "QUAL"), ("QUAL", "MTUM")])
    found, verdicts = fit_chunk(dead, [0, 1], MODEL, QUICK, 0)
    said = [f"{leg} MTUM constant since {day}: fit the rows before" for leg in ("target", "hedge")]
    for verdict, words in zip(verdicts, said, strict=True):
        assert verdict.status == Status.UNUSABLE
        assert verdict.reason.startswith(words)
    assert not found


@pytest.mark.nightly
def test_a_failed_pair_is_refitted_to_the_same_posterior(pairs, monkeypatch):
    before, _ = fit_chunk(pairs, [0], MOVING, QUICK, 0)
    assert before["effective_draws"][0] > 400
    assert not before["refitted"][0]
    monkeypatch.setattr(nuts, "MAX_PARETO_K", -10.0)
    after, verdicts = fit_chunk(pairs, [0], MOVING, QUICK, 0)
    assert verdicts == [FITTED]
    assert after["refitted"][0]
    weights = np.exp(before["log_weights"][0])
    mean = weights @ before["points"][0]
    sd = np.sqrt(weights @ (before["points"][0] - mean) ** 2)
    error = sd * np.sqrt(1 / before["effective_draws"][0] + 1 / after["effective_draws"][0])
    assert (np.abs(after["points"][0].mean(0) - mean) < 4.5 * error).all()


@pytest.mark.nightly
@pytest.mark.slow
def test_a_pair_for_which_nuts_fails_too_is_doubted(pairs, monkeypatch):
    monkeypatch.setattr(nuts, "MAX_PARETO_K", -10.0)
    monkeypatch.setattr(nuts, "MIN_ESS", 10**6)
    _, (verdict,) = fit_chunk(pairs, [0], MOVING, QUICK, 0)
    assert verdict.status == Status.DOUBTED
    assert verdict.reason.startswith("Pareto k-hat ")
    assert "after NUTS refit R-hat 1.0" in verdict.reason


SHARED = """
import os, sys
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
import jax, numpy as np
from kfmodels import HedgeData
from kfmodels.batch.chunk import HABIT, last_prices, fit_chunk
from tests.batch.test_chunk import MODEL, QUICK, table
assert jax.local_device_count() == 4
arrays, _ = fit_chunk(HedgeData.all_pairs(table()), [0, 1, 2, 3], MODEL, QUICK, 0, size=4)
np.savez(sys.argv[1], **arrays)
"""


@pytest.mark.slow
def test_four_devices_share_a_chunk(four, tmp_path):
    where = tmp_path / "shared.npz"
    with python("-c", SHARED, where) as process:
        assert process.wait(300) == 0
    with np.load(where) as found:
        assert_same(dict(found), four)
