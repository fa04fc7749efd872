"""Pairs chosen for variety: the batch knows their posteriors as a fine grid does, or says so.

Twelve of them here; `python -m tests.benchmarks variety` does the same with sixty.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from kfmodels import (
    Constant,
    Discounted,
    HedgeData,
    HedgePairs,
    ImportanceSampling,
    hedge_ratio_model,
)
from kfmodels.batch.chunk import fit_chunk
from kfmodels.data.arrays import pair_arrays
from kfmodels.kalman.transforms import LOG
from kfmodels.sampling import posterior as joint
from kfmodels.sampling.importance import layout_of, noise_at

pytestmark = pytest.mark.slow

ROWS = 256
KINDS = ("static", "slow", "fast", "jumping", "short", "outliers")
COARSE, FINE = 15, 33
"""Points along each of three axes: while the box is cut to where the mass is, and then."""

CUTS = (100000.0, 20000.0, 3000.0, 500.0, 90.0, 35.0, 20.0)
"""Nats below the top at which each cut is made: a coarse grid passes narrow ridges by."""

MARGIN, BATCH = 1, 128
REACH = 8
"""Prior sds that the first box goes either way: some posteriors lie four from the prior."""


def universe(each: int) -> HedgePairs:
    """Pairs of each kind: how the ratio moves, how long it was watched, how clean the prices are."""
    random = np.random.default_rng(7)
    columns: dict[str, np.ndarray] = {}
    for kind in KINDS:
        for number in range(each):
            size = 0.004 * np.exp(random.normal(0, 1))
            hedge = np.cumsum(random.normal(0, 0.01, ROWS)) + 4
            q = {"static": 0.0, "slow": 1e-4, "fast": 0.3, "jumping": 0.0}.get(kind, 1e-2)
            step = np.sqrt(q) * size / hedge.std()
            ratio = 0.8 + np.cumsum(random.normal(0, 1, ROWS)) * step
            if kind == "jumping":
                ratio[ROWS // 2 :] += 0.5
            level = np.cumsum(random.normal(0, size * np.exp(random.normal(0, 1)), ROWS))
            target = hedge * ratio + level + random.normal(0, size, ROWS)
            if kind == "outliers":
                target[random.integers(20, ROWS, 4)] += 15 * size
            if kind == "short":
                target[: ROWS - random.integers(35, 80)] = np.nan
            columns[f"{kind}{number}"] = np.exp(target)
            columns[f"x{kind}{number}"] = np.exp(hedge)
    prices = pd.DataFrame(columns, pd.bdate_range("2020-01-01", periods=ROWS))
    names = [f"{kind}{number}" for kind in KINDS for number in range(each)]
    return HedgeData.pairs(prices, [(name, f"x{name}") for name in names])


@pytest.fixture(scope="module")
def pairs() -> HedgePairs:
    return universe(2)


def inputs_of(pairs: HedgePairs, model: Any) -> Any:
    """What a model takes of pairs of log prices, one hedge each."""
    legs = (pairs.prices[[pair[leg] for pair in pairs.pairs]].to_numpy().T for leg in (0, 1))
    return model.inputs_of_pairs(pair_arrays(*legs, LOG))[0]


def weighted_moments(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and sds `(pair, parameter)` of points `(pair, point, parameter)`."""
    mean = np.einsum("pk,pka->pa", weights, points)
    return mean, np.sqrt(np.einsum("pk,pka->pa", weights, (points - mean[:, None]) ** 2))


def moments_on_a_grid(
    inputs: Any, model: Any, points: Sequence[int] = (FINE,)
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Posterior means and sds in the sampler's coordinates, by quadrature: one answer for each number
    of points along an axis."""
    with jax.enable_x64(True):
        height, low, high = where_the_mass_is(inputs, model)
        return [weighted_moments(*on_a_fine_grid(height, low, high, each)) for each in points]


def ratio_on_a_grid(inputs: Any, model: Any, points: int = FINE) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd `(pair,)` of the hedge ratio after the last row, in inner units, by quadrature."""

    @jax.jit
    def last(at: Any) -> Any:
        each = jax.tree.map(lambda leaf: np.expand_dims(leaf, 1), inputs)
        law = model.regression(each, **noise_at(at, inputs, model=model))
        passed = law.filter(each.y)
        dof = 3.0 if passed.dof is None else passed.dof[..., -1] + 1  # every row is observed
        wider = 1.0 if passed.dof is None else dof / (dof - 2)
        return passed.filtered.mean[..., -1, 0], wider * passed.filtered.cov[..., -1, 0, 0]

    with jax.enable_x64(True):
        at, mass = on_a_fine_grid(*where_the_mass_is(inputs, model), points)
        few = [last(at[:, part]) for part in pieces_of(at.shape[1])]
        mean, var = (np.concatenate(part, 1)[:, : at.shape[1]] for part in zip(*few, strict=True))
    centre = (mass * mean).sum(1)
    return centre, np.sqrt((mass * (var + (mean - centre[:, None]) ** 2)).sum(1))


def where_the_mass_is(inputs: Any, model: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """The log density, and a box found by the grid itself: from the prior, cut by cut."""
    layout = layout_of(inputs, model)
    draws = joint.prior_draws(np.uint32(0), inputs, model=model, count=400)
    prior = np.asarray(layout.pack(draws))

    @jax.jit
    def height(points: Any) -> Any:
        return joint.log_density(layout.unpack(points), inputs, model=model)

    low, high = (prior.mean(1) + side * REACH * prior.std(1) for side in (-1, 1))
    for below in CUTS:
        low, high = narrowed(*on_the_grid(height, low, high, COARSE), below)
    return height, low, high


def on_a_fine_grid(
    height: Any, low: np.ndarray, high: np.ndarray, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Grid points `(pair, point, parameter)` and the probability of each `(pair, point)`."""
    fine, value = on_the_grid(height, low, high, points)
    mass = np.exp(value - value.max((1, 2, 3), keepdims=True)).reshape(len(low), -1)
    return fine.reshape(*low.shape, -1).swapaxes(1, 2), mass / mass.sum(1, keepdims=True)


def pieces_of(count: int) -> list[np.ndarray]:
    """Indices in pieces of one size, the last filled up from the first."""
    return list(np.resize(np.arange(count), (-(-count // BATCH), BATCH)))


def on_the_grid(
    height: Any, low: np.ndarray, high: np.ndarray, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Grid points `(pair, parameter, i, j, k)` and log densities there `(pair, i, j, k)`."""
    unit = np.stack(np.meshgrid(*3 * [np.linspace(0, 1, points)], indexing="ij"))
    wide = (slice(None), slice(None), None, None, None)
    fine = low[wide] + (high - low)[wide] * unit
    flat = fine.reshape(*low.shape, -1).swapaxes(1, 2)
    found = [np.asarray(height(flat[:, piece])) for piece in pieces_of(flat.shape[1])]
    value = np.concatenate(found, 1)[:, : flat.shape[1]]
    value = np.nan_to_num(value, nan=-np.inf)  # beyond all arithmetic
    return fine, value.reshape(len(low), points, points, points)


def narrowed(fine: np.ndarray, value: np.ndarray, below: float) -> tuple[np.ndarray, np.ndarray]:
    """The box without its low edges, a grid step to spare."""
    value = value - value.max((1, 2, 3), keepdims=True)
    low, high = np.empty(fine.shape[:2]), np.empty(fine.shape[:2])
    for axis in range(3):
        others = tuple(a + 1 for a in range(3) if a != axis)
        held = value.max(others) > -below
        line = np.moveaxis(fine[:, axis], axis + 1, 1)[:, :, 0, 0]
        points = held.shape[1]
        first, last = held.argmax(1), points - 1 - held[:, ::-1].argmax(1)
        rows = np.arange(len(held))
        low[:, axis] = line[rows, np.maximum(first - MARGIN, 0)]
        high[:, axis] = line[rows, np.minimum(last + MARGIN, points - 1)]
    return low, high


def compared(pairs: HedgePairs, model: Any) -> pd.DataFrame:
    """By pair: the worst error of a mean in sds, the worst ratio of sds less 1, and the status."""
    ((mean, sd),) = moments_on_a_grid(inputs_of(pairs, model), model)
    fitted = partial(fit_chunk, pairs, model=model, method=ImportanceSampling(), seed=0)
    arrays, statuses = fitted(list(range(len(pairs))))
    found, spread = weighted_moments(arrays["points"], np.exp(arrays["log_weights"]))
    return pd.DataFrame(
        {
            "mean": (np.abs(found - mean) / sd).max(1),
            "sd": np.abs(spread / sd - 1).max(1),
            "pareto_k": arrays["pareto_k"],
            "refitted": arrays["refitted"],
            "status": [verdict.status for verdict in statuses],
        },
        pairs.names,
    )


@pytest.mark.nightly
@pytest.mark.parametrize(
    "model",
    [hedge_ratio_model(noise=Constant()), hedge_ratio_model(noise=Discounted())],
    ids=["constant", "discounted"],
)
def test_no_pair_is_missed_without_a_word(pairs: HedgePairs, model: Any):
    table = compared(pairs, model)
    assert table[["mean", "sd"]].notna().all(axis=None)
    missed = ((table["mean"] > 0.15) | (table["sd"] > 0.15)) & (table["status"] == "ok")
    assert not missed.any(), table[missed]
    assert (table["status"] != "ok").sum() <= len(pairs) // 10
