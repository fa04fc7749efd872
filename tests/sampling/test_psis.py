"""Pareto-smoothed weights in JAX: as ArviZ has them, and what becomes of weights it refuses."""

from math import sqrt

import jax
import numpy as np
import pytest
from arviz_stats.base.array import array_stats
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import logsumexp

from kfmodels.sampling import marginal
from kfmodels.sampling.psis import smoothed

COUNT = 400
"""Draws whose tail of 3 sqrt(n) is a whole number: ArviZ rounds it down, the paper up."""

run = jax.jit(smoothed)


def weights(log_ratio) -> tuple[np.ndarray, np.ndarray]:
    with jax.enable_x64(True):
        log_weights, pareto_k = run(np.asarray(log_ratio, float))
    return np.asarray(log_weights), np.asarray(pareto_k)


def batch(count: int = COUNT, seed: int = 0) -> dict[str, np.ndarray]:
    """Log ratios from bounded ones to some without a mean, at levels far from 0."""
    rng = np.random.default_rng(seed)
    t = rng.standard_t(3, (count, 2))
    return {
        "bounded": 700.0 + rng.beta(2, 3, count),
        "normal": -3000.0 + rng.normal(0, 0.3, count),
        "wide normal": rng.normal(0, 3.0, count),
        "exponential": np.log(rng.exponential(1.0, count)),
        "no variance": np.log(stats.genpareto.rvs(0.6, size=count, random_state=rng)),
        "no mean": np.log(stats.genpareto.rvs(1.3, size=count, random_state=rng)),
        "proposal too narrow": (-0.5 * t**2 + stats.norm.logpdf(t)).sum(1) * -0.3,
        "proposal of heavy tails": stats.norm.logpdf(t[:, 0]) - stats.t.logpdf(t[:, 0], 3),
    }


@pytest.mark.parametrize("count", [100, COUNT, 1600])
def test_weights_and_k_are_those_of_arviz(count: int):
    given = np.stack(list(batch(count).values()))
    log_weights, pareto_k = weights(given)
    expected = [array_stats.psislw(-each) for each in given]
    assert_allclose(pareto_k, [k for _, k in expected], rtol=1e-9)
    assert_allclose(log_weights, [w for w, _ in expected], atol=1e-9)
    assert pareto_k.min() < 0.2  # light tails and heavy ones were among them
    assert pareto_k.max() > 0.9


def test_the_tail_is_rounded_up_where_arviz_rounds_it_down():
    """Vehtari and others (2024): ceil(min(0.2 S, 3 sqrt(S))); all below it keep their proportions."""
    count = 384
    given = batch(count)["wide normal"]
    changed = np.argsort(given)[-59:]  # 3 sqrt(384) = 58.8
    log_weights, _ = weights(given)
    apart = log_weights - given
    kept = np.delete(apart, changed)
    assert_allclose(kept, kept[0], atol=1e-12)
    assert np.abs(apart[changed] - kept[0]).min() > 1e-6


def test_they_are_the_weights_of_one_pair_at_a_time_elsewhere():
    given = np.stack(list(batch().values()))
    log_weights, pareto_k = weights(given)
    for each, log_weight, k in zip(given, log_weights, pareto_k, strict=True):
        alone, k_alone = marginal.smoothed(each)
        assert_allclose(np.exp(log_weight), alone, rtol=1e-9)
        assert_allclose(k, k_alone, rtol=1e-9)


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.7, 1.2])
def test_the_shape_of_a_known_tail_is_found(k: float):
    """What lies above a cut of a generalized Pareto variable is one of the same shape."""
    count, copies = 10_000, 64
    tail = 300
    drawn = stats.genpareto.rvs(k, size=(copies, count), random_state=np.random.default_rng(1))
    _, found = weights(np.log(drawn))
    found = (found * (tail + 10) - 5) / tail  # without the ten draws at 1/2
    sd = (1 + k) / sqrt(tail)  # of the maximum likelihood estimate, k > -1/2
    z = (found.mean() - k) / (sd / sqrt(copies))
    assert abs(z) < 4
    ratio = (copies - 1) * found.var(ddof=1) / sd**2
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], copies - 1)
    assert low < ratio < high


def test_what_they_sum_to_and_what_none_exceeds():
    given = np.stack(list(batch().values())).reshape(2, 4, COUNT)
    log_weights, pareto_k = weights(given)
    assert log_weights.shape == given.shape
    assert pareto_k.shape == (2, 4)
    assert_allclose(logsumexp(log_weights, -1), 0, atol=1e-12)
    # order is kept: weights rise where ratios do
    order = np.argsort(given, -1)
    assert (np.diff(np.take_along_axis(log_weights, order, -1), axis=-1) >= 0).all()
    # against the draws that were not smoothed the largest is no larger than it was
    top, low = given.max(-1) - given.min(-1), log_weights.max(-1) - log_weights.min(-1)
    assert (low <= top + 1e-9).all()


def test_only_differences_count_and_the_order_of_draws_does_not():
    given = np.stack(list(batch().values()))
    log_weights, pareto_k = weights(given)
    shuffled = np.random.default_rng(2).permutation(COUNT)
    other, other_k = weights(given[:, shuffled] + 1e3)
    assert_allclose(other, log_weights[:, shuffled], atol=1e-9)
    assert_allclose(other_k, pareto_k, rtol=1e-8)


def test_nan_is_no_weight_and_stays_with_its_row():
    given = np.stack(list(batch().values()))
    alone, alone_k = weights(given)
    holed = np.concatenate([given, given])
    number = len(given)
    holed[:number, ::7] = np.nan
    holed[number:, ::7] = -np.inf
    log_weights, pareto_k = weights(holed)
    assert_array_equal(log_weights[:number], log_weights[number:])
    assert_array_equal(pareto_k[:number], pareto_k[number:])
    assert (np.exp(log_weights[:, ::7]) == 0).all()
    assert_allclose(logsumexp(log_weights, -1), 0, atol=1e-12)
    assert np.isfinite(pareto_k).all()
    # a row of nothing but holes beside them changes nothing
    beside = given.copy()
    beside[0] = np.nan
    log_weights, pareto_k = weights(beside)
    assert_array_equal(log_weights[1:], alone[1:])
    assert_array_equal(pareto_k[1:], alone_k[1:])


def test_equal_weights_have_no_tail():
    given = np.stack([np.zeros(COUNT), np.full(COUNT, -800.0), np.full(COUNT, 3e5)])
    log_weights, pareto_k = weights(given)
    assert_allclose(log_weights, -np.log(COUNT), atol=1e-12)
    assert_array_equal(pareto_k, 0.0)


def test_all_or_nothing_is_shared_by_all_that_have_it():
    given = np.full(COUNT, -np.inf)
    given[::2] = -3.0
    log_weights, pareto_k = weights(given)
    assert_allclose(np.exp(log_weights[::2]), 2 / COUNT, rtol=1e-12)
    assert_array_equal(np.exp(log_weights[1::2]), 0)
    assert pareto_k == 0


def test_one_draw_with_all_the_weight_is_not_to_be_trusted():
    """Where the rest is lost to rounding ArviZ answers NaN; k is infinite here."""
    given = np.random.default_rng(3).normal(0, 1, (3, COUNT))
    given[:, 17] += [20.0, 300.0, 2000.0]
    log_weights, pareto_k = weights(given)
    expected, k = zip(*(array_stats.psislw(-each) for each in given), strict=True)
    assert_allclose(log_weights, expected, rtol=1e-9)
    assert_allclose(pareto_k[:2], k[:2], rtol=1e-9)
    assert np.isnan(k[2])
    assert pareto_k[2] == np.inf
    assert (pareto_k > 0.7).all()
    assert_allclose(np.exp(log_weights[2, 17]), 1.0, rtol=1e-12)


def test_fewer_draws_with_weight_than_a_tail_has_are_not_to_be_trusted():
    rng = np.random.default_rng(4)
    for having in (1, 2, 4, 30, 60):
        given = np.full(COUNT, -np.inf)
        given[:having] = rng.normal(0, 0.1, having)
        log_weights, pareto_k = weights(given)
        assert pareto_k == np.inf
        expected = np.exp(given - logsumexp(given))
        assert_allclose(np.exp(log_weights), expected, rtol=1e-12, atol=0)
    given[:61] = rng.normal(0, 0.1, 61)  # a tail of 60, and a cut for it
    assert np.isfinite(weights(given)[1])


def test_no_weight_at_all_is_not_to_be_trusted():
    given = np.stack([np.full(COUNT, -np.inf), np.full(COUNT, np.nan), np.zeros(COUNT)])
    _, pareto_k = weights(given)
    assert_array_equal(pareto_k, [np.inf, np.inf, 0.0])
