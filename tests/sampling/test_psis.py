"""Pareto-smoothed weights in JAX: as ArviZ has them, and what becomes of weights that it refuses."""

from math import sqrt

import jax
import numpy as np
import pytest
from arviz_stats.base.array import array_stats
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import logsumexp

from kfmodels.sampling.psis import resample, smooth

COUNT = 400
"""Draws whose tail of 3 sqrt(n) is a whole number: ArviZ rounds it down, the paper up."""

run = jax.jit(smooth)


def weights(log_ratio) -> tuple[np.ndarray, np.ndarray]:
    with jax.enable_x64(True):
        log_weights, pareto_k = run(np.asarray(log_ratio, float))
    return np.asarray(log_weights), np.asarray(pareto_k)


def batch(count: int = COUNT) -> np.ndarray:
    """Log ratios `(kind, draw)`, from bounded ones to some without a mean, at levels far from 0."""
    rng = np.random.default_rng(0)
    t = rng.standard_t(3, (count, 2))
    return np.stack(
        [
            700.0 + rng.beta(2, 3, count),
            -3000.0 + rng.normal(0, 0.3, count),
            rng.normal(0, 3.0, count),
            np.log(rng.exponential(1.0, count)),
            np.log(stats.genpareto.rvs(0.6, size=count, random_state=rng)),  # no variance
            np.log(stats.genpareto.rvs(1.3, size=count, random_state=rng)),  # no mean
            (-0.5 * t**2 + stats.norm.logpdf(t)).sum(1) * -0.3,  # a proposal too narrow
            stats.norm.logpdf(t[:, 0]) - stats.t.logpdf(t[:, 0], 3),  # and one of heavy tails
        ]
    )


@pytest.mark.parametrize("count", [100, COUNT, 1600])
def test_weights_and_k_are_those_of_arviz(count: int):
    given = batch(count)
    log_weights, pareto_k = weights(given.reshape(2, 4, count))
    expected = [array_stats.psislw(-each) for each in given]
    assert_allclose(pareto_k.ravel(), [k for _, k in expected], rtol=1e-9)
    assert_allclose(log_weights.reshape(given.shape), [w for w, _ in expected], atol=1e-9)
    assert pareto_k.min() < 0.2  # light tails and heavy ones were among them
    assert pareto_k.max() > 0.9


def test_the_tail_is_rounded_up_where_arviz_rounds_it_down():
    """Vehtari and others (2024): ceil(min(0.2 S, 3 sqrt(S))); all below it keep their proportions."""
    given = batch(384)[2]
    changed = np.argsort(given)[-59:]  # 3 sqrt(384) = 58.8
    apart = weights(given)[0] - given
    kept = np.delete(apart, changed)
    assert_allclose(kept, kept[0], atol=1e-12)
    assert np.abs(apart[changed] - kept[0]).min() > 1e-6


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.7, 1.2])
def test_the_shape_of_a_known_tail_is_found(k: float):
    """What lies above a cut of a generalized Pareto variable is one of the same shape."""
    count, copies, tail = 10_000, 64, 300
    drawn = stats.genpareto.rvs(k, size=(copies, count), random_state=np.random.default_rng(1))
    _, found = weights(np.log(drawn))
    found = (found * (tail + 10) - 5) / tail  # without the ten draws at 1/2
    sd = (1 + k) / sqrt(tail)  # of the maximum likelihood estimate, k > -1/2
    z = (found.mean() - k) / (sd / sqrt(copies))
    assert abs(z) < 4
    ratio = (copies - 1) * found.var(ddof=1) / sd**2
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], copies - 1)
    assert low < ratio < high


def test_nan_is_no_weight_and_stays_with_its_row():
    given = batch()
    alone, alone_k = weights(given)
    holed = np.stack([given, given])
    holed[0, :, ::7] = np.nan
    holed[1, :, ::7] = -np.inf
    log_weights, pareto_k = weights(holed)
    assert_array_equal(*log_weights)
    assert_array_equal(*pareto_k)
    assert (np.exp(log_weights[..., ::7]) == 0).all()
    assert_allclose(logsumexp(log_weights, -1), 0, atol=1e-12)
    assert np.isfinite(pareto_k).all()
    given[0] = np.nan  # beside the others, which it leaves alone
    log_weights, pareto_k = weights(given)
    assert_array_equal(log_weights[1:], alone[1:])
    assert_array_equal(pareto_k[1:], alone_k[1:])


@pytest.mark.parametrize(
    ("having", "k"),
    [(COUNT, 0.0), (COUNT // 2, 0.0), (60, np.inf), (2, np.inf), (1, np.inf), (0, np.inf)],
)
def test_equal_weights_have_no_tail_and_too_few_are_not_trusted(having: int, k: float):
    """All or nothing: `having` draws share the weight, whatever its level."""
    for level in (0.0, -800.0, 3e5):
        given = np.full(COUNT, -np.inf)
        given[:having] = level
        log_weights, pareto_k = weights(given)
        assert pareto_k == k
        if having:
            assert_allclose(np.exp(log_weights[:having]), 1 / having, rtol=1e-12)
            assert_array_equal(np.exp(log_weights[having:]), 0)


def test_no_more_draws_with_weight_than_a_tail_has_are_not_trusted():
    given, drawn = np.full(COUNT, -np.inf), np.random.default_rng(4).normal(0, 0.1, 61)
    given[:60] = drawn[:60]
    log_weights, pareto_k = weights(given)
    assert pareto_k == np.inf
    assert_allclose(np.exp(log_weights), np.exp(given - logsumexp(given)), rtol=1e-12)
    given[:61] = drawn  # a tail of 60, and a cut for it
    assert np.isfinite(weights(given)[1])


def test_one_draw_with_all_the_weight_is_not_trusted():
    """Where rounding loses the rest ArviZ answers NaN; k is infinite here."""
    given = np.random.default_rng(3).normal(0, 1, (3, COUNT))
    given[:, 17] += [20.0, 300.0, 2000.0]
    log_weights, pareto_k = weights(given)
    expected, k = zip(*(array_stats.psislw(-each) for each in given), strict=True)
    assert_allclose(log_weights, expected, rtol=1e-9)
    assert_allclose(pareto_k[:2], k[:2], rtol=1e-9)
    assert np.isnan(k[2])
    assert pareto_k[2] == np.inf
    assert (pareto_k > 0.7).all()


def test_resampled_draws_come_as_often_as_their_weight_up_or_down_to_a_whole_number():
    log_weights, _ = weights(batch()[2])
    with jax.enable_x64(True):
        one, again, other = (
            np.asarray(resample(log_weights, np.array([seed, 0], np.uint32), count=1000))
            for seed in (0, 0, 1)
        )
    assert_array_equal(one, again)
    assert (one != other).any()
    for picked in (one, other):
        times = np.bincount(picked, minlength=COUNT)
        assert (np.abs(times - 1000 * np.exp(log_weights)) < 1 + 1e-9).all()
        assert (np.diff(picked) < 0).any()  # in no order
