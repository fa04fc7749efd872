"""Adaptive importance sampling on targets whose integral, mean and modes are known.

Every check of a number first asks for effective draws, and then counts in standard errors. The
draws are a shifted Sobol sequence, so that errors may be smaller than independent draws would have.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import gammaln, polygamma, psi

from kfmodels import adaptive

pytestmark = pytest.mark.usefixtures("x64")

DRAWS, ROUNDS = 128, 6
COUNT = DRAWS * ROUNDS
SURE = 1e-4
"""A right sampler fails a check this rarely, if at all: the seeds are fixed."""


def prior(pairs: int, d: int, centre=0.0, scale=1.0) -> np.ndarray:
    """64 draws of a normal prior for every pair."""
    drawn = np.random.default_rng(0).normal(size=(64, d))
    return centre + scale * np.broadcast_to(drawn, (pairs, 64, d))


def keys(pairs: int, seed: int = 0) -> Any:
    return jax.random.split(jax.random.key(seed), pairs)


def moments(found, function) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean of a function of the points and its standard error, `(pair, ...)`."""
    weights = np.exp(np.asarray(found.log_weights))
    values = np.asarray(function(np.asarray(found.points)))
    weights = weights.reshape(weights.shape + (1,) * (values.ndim - 2))
    mean = (weights * values).sum(1)
    error = np.sqrt((weights**2 * (values - mean[:, None]) ** 2).sum(1))
    return mean, error


def check_squares(z: np.ndarray, what: str) -> None:
    """Errors in standard errors: no larger than normal ones, and without a common direction."""
    z = np.asarray(z)
    size = (z**2).mean()
    print(what, "size", size, "mean", z.mean(), "max", np.abs(z).max())
    assert size < 1.5, f"{what}: {size}"
    assert abs(z.mean()) < 4 / np.sqrt(z.size), f"{what}: {z.mean()}"


# -- normal targets --------------------------------------------------------------------------------


@partial(jax.jit, static_argnames=("draws", "rounds"))
def run_normal(mean, root, level, prior, keys, *, draws=DRAWS, rounds=ROUNDS):
    d = mean.shape[-1]

    def log_density(points):
        away = (points - mean[:, None])[..., None]
        away = jax.scipy.linalg.solve_triangular(
            jnp.broadcast_to(root[:, None], (*points.shape[:2], d, d)), away, lower=True
        )[..., 0]
        log_det = jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)).sum(-1)[:, None]
        normal = -0.5 * (away**2).sum(-1) - log_det - 0.5 * d * np.log(2 * np.pi)
        return normal + level[:, None]

    return adaptive.sample(log_density, prior, keys, draws=draws, rounds=rounds)


def normal_targets(d: int, pairs: int):
    """Somewhere in the prior, a twentieth to nine tenths of its width, correlated."""
    rng = np.random.default_rng(d)
    mean = rng.normal(0, 1.0, (pairs, d))
    sd = np.exp(rng.uniform(np.log(0.05), np.log(0.9), (pairs, d)))
    directions = np.linalg.qr(rng.normal(size=(pairs, d, d)))[0]
    cov = directions @ (sd[:, :, None] ** 2 * directions.swapaxes(1, 2))
    return mean, cov, np.linalg.cholesky(cov), rng.normal(0, 100, pairs)


@pytest.mark.parametrize("d", [1, 3, 7])
def test_normal_targets_have_their_integral_mean_and_covariance(d: int):
    pairs = 48
    mean, cov, root, level = normal_targets(d, pairs)
    found = run_normal(mean, root, level, prior(pairs, d), keys(pairs))
    assert found.points.shape == (pairs, COUNT, d)
    ess = np.asarray(found.effective_draws)
    print(d, "ess", ess.min(), np.median(ess), "k", np.asarray(found.pareto_k).max())
    assert ess.min() > 100
    assert np.asarray(found.pareto_k).max() < 0.7
    # of a mean of weights, relative to it: var / n = 1 / ess - 1 / n
    error = np.expm1(np.asarray(found.log_evidence) - level) / np.sqrt(1 / ess - 1 / COUNT)
    check_squares(error, "evidence")
    at, error = moments(found, lambda x: x)
    check_squares((at - mean) / error, "mean")
    away = lambda x: (x - mean[:, None])[..., :, None] * (x - mean[:, None])[..., None, :]
    at, error = moments(found, away)
    check_squares((at - cov) / error, "covariance")
