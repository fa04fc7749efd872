"""What is kept of many draws, and the evidence of a ratio that stands still, against a grid."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import Constant, HedgeData, ImportanceSampling, hedge_ratio_model
from kfmodels.batch import effort
from kfmodels.batch.chunk import pair_key
from kfmodels.batch.effort import choose, explore_pairs
from kfmodels.data import datasets
from kfmodels.data.arrays import pair_arrays
from kfmodels.kalman.transforms import LOG
from kfmodels.sampling import posterior
from kfmodels.sampling.importance import layout_of

COUNT = 300


def test_heavy_draws_are_kept_as_they_are_and_means_within_their_error():
    random = np.random.default_rng(0)
    points = random.normal(size=(2, 1000, 2))
    weights = random.gamma([[0.3], [1.0]], size=(2, 1000))
    weights /= weights.sum(1, keepdims=True)
    log_weights, picked = choose(weights, points[..., 0], COUNT)
    assert_allclose(np.exp(log_weights).sum(1), 1)
    for pair in (0, 1):
        assert len(np.unique(picked[pair])) == COUNT
        for number in np.argsort(-weights[pair])[:50]:
            (found,) = np.flatnonzero(picked[pair] == number)
            assert_allclose(np.exp(log_weights[pair, found]), weights[pair, number], rtol=0.01)
        kept = np.exp(log_weights[pair]) @ points[pair, picked[pair]]
        assert_allclose(kept, weights[pair] @ points[pair], atol=[0.02, 0.06][pair])
        alone = choose(weights[[pair]], points[[pair], :, 0], COUNT)
        assert_array_equal(alone[0][0], log_weights[pair])
        assert_array_equal(alone[1][0], picked[pair])


def test_draws_without_weight_are_left_out():
    weights = np.where(np.arange(1000) < 100, 0.01, 0.0)
    weights[100] = 1e-190
    log_weights, picked = choose(np.maximum(weights, 1e-200)[None], np.arange(1000.0)[None], COUNT)
    assert set(range(100)) <= set(picked[0])
    assert_allclose(np.exp(log_weights)[picked < 100], 0.01)


def log_evidence_on_a_grid(inputs, model, still) -> np.ndarray:
    """Log integral of prior times likelihood over log q of the intercept and log obs_scale, by pair."""
    sites = layout_of(inputs, model).shapes
    left_out = frozenset(["delta_beta"])
    free = jax.device_get(posterior.prior_draws(np.uint32(0), inputs, model=model, count=400))
    density = jax.jit(
        lambda free: posterior.log_density(
            free, inputs, model=model, still=still, left_out=left_out
        )
    )
    names = [name for name in sites if name not in left_out]
    low, high = (
        np.stack([free[n].mean(1) + side * 6 * free[n].std(1) for n in names], -1)
        for side in (-1, 1)
    )
    for points in (33, 33, 33, 41):
        line = np.linspace(low, high, points)  # (point, pair, site)
        grid = [
            line[:, None, :, 0] + 0 * line[None, :, :, 0],
            line[None, :, :, 1] + 0 * line[:, None, :, 0],
        ]
        at = {n: part.reshape(points**2, -1).T for n, part in zip(names, grid, strict=True)}
        value = np.asarray(density(at)).reshape(-1, points, points)
        step = (high - low) / (points - 1)
        top = value.max((1, 2), keepdims=True)
        total = top[:, 0, 0] + np.log(np.exp(value - top).sum((1, 2))) + np.log(step).sum(-1)
        for axis in (0, 1):
            held = (value - top).max(2 - axis) > -25
            first, last = held.argmax(1), points - 1 - held[:, ::-1].argmax(1)
            pairs = np.arange(len(held))
            new_low = line[np.maximum(first - 1, 0), pairs, axis]
            high[:, axis] = line[np.minimum(last + 1, points - 1), pairs, axis]
            low[:, axis] = new_low
    return total


@pytest.mark.nightly
def test_the_evidence_of_a_ratio_that_stands_still_is_that_of_a_grid(x64):
    prices = datasets.factor_etfs().loc["2021-06":"2022-06"]
    pairs, model = HedgeData.all_pairs(prices), hedge_ratio_model(noise=Constant())
    legs = (pairs.prices[[pair[leg] for pair in pairs.pairs[:6]]].to_numpy().T for leg in (0, 1))
    inputs, _ = model.inputs_of_pairs(pair_arrays(*legs, LOG))
    still = np.tile(1.0 * model.follows(2), (6, 1))
    keys = np.stack([pair_key(name, 0) for name in pairs.names[:6]])
    found, factor, error = explore_pairs(inputs, keys, 0, model, ImportanceSampling(), 6)
    exact = log_evidence_on_a_grid(inputs._replace(dt=None), model, still)
    assert (error < 2 * effort.MAX_EVIDENCE_ERROR).all()
    assert_allclose(factor + found.log_evidence, exact, atol=0.1)
