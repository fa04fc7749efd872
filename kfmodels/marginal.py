"""Marginal likelihood of a handful of noise parameters, by adaptive importance sampling."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaln, logsumexp

_DOF = 5.0
_BATCH = 512
_ROUNDS = 5
DRAWS = _BATCH * _ROUNDS
"""Draws that an evidence rests on."""


class Evidence(NamedTuple):
    """Log marginal likelihood, and what says whether it may be believed."""

    log_marginal: float
    effective_draws: float
    pareto_k: float


def log_marginal(
    log_joint: Callable[[np.ndarray], np.ndarray], near: np.ndarray, *, seed: int = 0
) -> Evidence:
    r"""Log of the integral of a density over the real space of its parameters.

    $$\log \int \exp(\mathrm{log\_joint}(u)) \, du$$

    Multivariate Student-t proposals (5 degrees of freedom), whose mean and covariance follow the
    weighted draws of all rounds so far; every draw is weighted by the mixture of all proposals.

    Args:
        log_joint: log prior plus log likelihood of `(draw, parameter)`, 512 draws at a time.
        near: `(draw, parameter)`, points about where the density has its mass.
        seed: of the proposals.

    Source: Cornuet, Marin, Mira and Robert (2012), Adaptive multiple importance sampling,
    Scandinavian Journal of Statistics 39.
    """
    random = np.random.default_rng(seed)
    centre, cov = near.mean(0), _widened(np.cov(near.T, ddof=0))
    proposals, points, values = [], [], []
    weights = np.ones(0)
    for _ in range(_ROUNDS):
        root = np.linalg.cholesky(cov)
        proposals.append((centre, root))
        points.append(_draw(centre, root, random))
        values.append(log_joint(points[-1]))
        weights = np.concatenate(values) - _mixture(np.concatenate(points), proposals)
        smooth, _ = smoothed(weights)
        every = np.concatenate(points)
        centre = smooth @ every
        away = every - centre
        cov = _widened((away * smooth[:, None]).T @ away)
    final, pareto_k = smoothed(weights)
    return Evidence(log_mean(weights, final), float(1 / (final**2).sum()), pareto_k)


def smoothed(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    """Pareto-smoothed weights that sum to one, and k-hat.

    Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25; computed by ArviZ.
    """
    from arviz_stats.base.array import array_stats

    stats: Any = array_stats  # whose annotations promise less than it gives
    log_ratio = np.where(np.isnan(log_ratio), -np.inf, log_ratio)
    log_ratio = np.maximum(log_ratio - log_ratio.max(), -1e4)
    if np.ptp(log_ratio) < 1e-9:  # nothing changed: there is no tail to smooth
        return np.full(len(log_ratio), 1 / len(log_ratio)), 0.0
    log_weights, pareto_k = stats.psislw(-log_ratio)  # it was made for one over a likelihood
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum(), float(pareto_k)


def log_mean(log_ratio: np.ndarray, weights: np.ndarray) -> float:
    """Log of the mean of the smoothed weights, before they were made to sum to one.

    Smoothing leaves all but the largest in proportion, so that the middle ones tell by how much.
    """
    likely = weights > np.median(weights[weights > 0]) * 1e-6
    total = np.median(log_ratio[likely] - np.log(weights[likely]))
    return float(total - np.log(len(log_ratio)))


def _widened(cov: np.ndarray) -> np.ndarray:
    """A covariance that a Cholesky factor can be taken of, a little wider than the draws."""
    cov = np.atleast_2d(cov) * 1.2
    return cov + np.diag(np.diagonal(cov) * 1e-6 + 1e-8)


def _draw(centre: np.ndarray, root: np.ndarray, random: np.random.Generator) -> np.ndarray:
    normal = random.standard_normal((_BATCH, len(centre))) @ root.T
    return centre + normal / np.sqrt(random.chisquare(_DOF, (_BATCH, 1)) / _DOF)


def _mixture(points: np.ndarray, proposals: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Log density of the equal mixture of all proposals."""
    parts = []
    d = points.shape[1]
    constant = gammaln((_DOF + d) / 2) - gammaln(_DOF / 2) - d / 2 * np.log(_DOF * np.pi)
    for centre, root in proposals:
        away = np.linalg.solve(root, (points - centre).T)
        log_det = np.log(np.diagonal(root)).sum()
        parts.append(constant - log_det - (_DOF + d) / 2 * np.log1p((away**2).sum(0) / _DOF))
    return logsumexp(parts, axis=0) - np.log(len(parts))
