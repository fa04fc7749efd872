"""A pair's numbers are its own: whatever the chunk, its size, the devices, and who stands beside it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jax import monitoring
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import Discounted, HedgeData, HedgePairs, ImportanceSampling, fit, hedge_ratio_model
from kfmodels.batch.chunk import STALE, fit_chunk
from kfmodels.data import datasets
from kfmodels.sampling import nuts

QUICK = ImportanceSampling()
MODEL = hedge_ratio_model()
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


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """Events of compiling."""
    seen: list[str] = []

    def note(event: str, _: float, **__: object) -> None:
        if "backend_compile" in event:
            seen.append(event)

    monitoring.register_event_duration_secs_listener(note)
    yield seen
    monitoring.unregister_event_duration_listener(note)


@pytest.fixture(scope="module")
def four(pairs) -> dict[str, np.ndarray]:
    arrays, statuses = fit_chunk(pairs, [0, 1, 2, 3], MODEL, QUICK, 0, size=4)
    assert statuses == ["ok"] * 4
    return arrays


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], rows: list[int]) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        if name != "log_weights":  # of draws that have none, the logarithm means nothing
            assert_allclose(found[name], values[rows], err_msg=name, **CLOSE)
    weights = (np.exp(part["log_weights"]) for part in (found, wanted))
    assert_allclose(next(weights), next(weights)[rows], **CLOSE)


@pytest.mark.slow
def test_neighbours_and_order_change_nothing(pairs, four):
    found, _ = fit_chunk(pairs, [17, 2, 9, 0], MODEL, QUICK, 0, size=4)
    for name in ("points", "log_weights", "mean", "cov", "log_evidence"):
        assert_array_equal(found[name][[3, 1]], four[name][[0, 2]], err_msg=name)


@pytest.mark.slow
def test_the_size_of_a_chunk_changes_rounding_only(pairs, four):
    found, _ = fit_chunk(pairs, [2, 0], MODEL, QUICK, 0, size=2)
    same(found, four, [2, 0])


@pytest.mark.slow
def test_another_chunk_of_the_same_shape_compiles_nothing(pairs, four, compiled):
    fit_chunk(pairs, [6, 7, 8], MODEL, QUICK, 1, size=4)
    assert not compiled


@pytest.mark.slow
def test_a_late_listing_is_fitted_on_what_there_is(pairs):
    number = pairs.names.index("MTUM/VLUE")
    found, (status,) = fit_chunk(pairs, [number], MODEL, QUICK, 0, size=4)
    assert status == "ok"
    alone = HedgeData.from_prices(table().iloc[180:], target="MTUM", hedges=["VLUE"])
    inputs = MODEL.inputs(alone)
    assert_allclose(found["typical_move"], inputs.typical_move)
    assert_allclose(found["pivot"], alone.x.mean())


def test_a_price_that_died_is_named_with_its_date():
    prices = table()
    prices.iloc[-STALE:, 0] = prices.iloc[-STALE, 0]
    day = f"{prices.index[-STALE]:%Y-%m-%d}"
    dead = HedgeData.pairs(prices, [("MTUM", "QUAL"), ("QUAL", "MTUM")])
    found, statuses = fit_chunk(dead, [0, 1], MODEL, QUICK, 0)
    assert statuses == [f"target MTUM constant since {day}", f"hedge MTUM constant since {day}"]
    assert not found


@pytest.mark.slow
@pytest.mark.parametrize("noise", [Discounted()], ids=["discounted"])
def test_a_failed_pair_is_refitted_to_the_same_posterior(pairs, monkeypatch, noise):
    model = hedge_ratio_model(noise=noise)
    method = ImportanceSampling()
    before, _ = fit_chunk(pairs, [0], model, method, 0)
    assert before["effective_draws"][0] > 400
    assert not before["refitted"][0]
    monkeypatch.setattr(nuts, "MAX_PARETO_K", -10.0)
    after, statuses = fit_chunk(pairs, [0], model, method, 0)
    assert statuses == ["ok"]
    assert after["refitted"][0]
    weights = np.exp(before["log_weights"][0])
    mean = weights @ before["points"][0]
    sd = np.sqrt(weights @ (before["points"][0] - mean) ** 2)
    error = sd * np.sqrt(1 / before["effective_draws"][0] + 1 / after["effective_draws"][0])
    assert (np.abs(after["points"][0].mean(0) - mean) < 4.5 * error).all()


@pytest.mark.slow
def test_nuts_that_fails_too_is_said_so(pairs, monkeypatch):
    monkeypatch.setattr(nuts, "MAX_PARETO_K", -10.0)
    monkeypatch.setattr(nuts, "MIN_ESS", 10**6)
    model = hedge_ratio_model(noise=Discounted())
    _, (status,) = fit_chunk(pairs, [0], model, ImportanceSampling(), 0)
    assert status.startswith("Pareto k-hat ")
    assert "after NUTS refit R-hat 1.0" in status


@pytest.mark.slow
def test_a_single_fit_samples_as_the_batch_does(pairs, four):
    data = pairs.data(pairs.names[1])
    fitted = fit(data, MODEL, method=ImportanceSampling(), progress=False)
    found = fitted.convergence()
    assert found["ess"] > 400
    assert found["pareto_k"] < 0.7
    # the same posterior from other draws: log evidence within its errors
    error = np.hypot(fitted.tree.attrs["log_evidence_mcse"], four["log_evidence_mcse"][1])
    gap = fitted.tree.attrs["log_evidence"] - four["log_evidence"][1]
    assert abs(gap) < 4.5 * error + 0.05


SHARED = """
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax, numpy as np
from kfmodels import HedgeData
from kfmodels.batch.chunk import fit_chunk
from tests.batch.test_chunk import MODEL, QUICK, table
assert jax.local_device_count() == 4
arrays, _ = fit_chunk(HedgeData.all_pairs(table()), [0, 1, 2, 3], MODEL, QUICK, 0, size=4)
np.savez(sys.argv[1], **arrays)
"""


@pytest.mark.slow
def test_four_devices_share_a_chunk(four, tmp_path):
    where = tmp_path / "shared.npz"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", SHARED, str(where)], check=True, cwd=root, timeout=300)
    with np.load(where) as found:
        same(dict(found), four, [0, 1, 2, 3])
