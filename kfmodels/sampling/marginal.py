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

_PILOTS = 30

_ENOUGH = 64
"""Effective draws of a batch from which a mean and a covariance may be taken."""


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
    Pilot rounds, whose draws are not counted, first walk to where the mass is.

    Args:
        log_joint: log prior plus log likelihood of `(draw, parameter)`, 512 draws at a time.
        near: `(draw, parameter)`, points to start from, best about where the density has its mass.
        seed: of the proposals.

    Source: Cornuet, Marin, Mira and Robert (2012), Adaptive multiple importance sampling,
    Scandinavian Journal of Statistics 39; the pilots: Koblents and Miguez (2015), A population Monte
    Carlo scheme with transformed weights, Statistics and Computing 25.
    """
    random = np.random.default_rng(seed)
    centre, cov = _approached(log_joint, near, random)
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
    likely = log_ratio > -1e4
    if np.ptp(log_ratio[likely]) < 1e-9:  # all or nothing: there is no tail to smooth
        return likely / likely.sum(), 0.0
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


def _approached(
    log_joint: Callable[[np.ndarray], np.ndarray], near: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Centre and covariance of a first proposal, from which enough draws have weight.

    From a start far off one draw has all the weight. Weights are then flattened by a power until
    enough have some; the spread about the old centre stretches the proposal the way it goes.
    """
    centre, cov = near.mean(0), _widened(np.cov(near.T, ddof=0))
    for _ in range(_PILOTS):
        root = np.linalg.cholesky(cov)
        points = _draw(centre, root, random)
        log_ratio = np.nan_to_num(log_joint(points), nan=-np.inf)
        log_ratio -= _mixture(points, [(centre, root)])
        log_ratio = np.maximum(log_ratio - log_ratio.max(), -1e4)
        power = 1.0
        while 1 / (_flattened(log_ratio, power) ** 2).sum() < _ENOUGH:
            power *= 0.8
        weights = _flattened(log_ratio, power)
        arrived = power == 1
        old, centre = centre, weights @ points
        away = points - (centre if arrived else old)
        cov = _widened((away * weights[:, None]).T @ away)
        if arrived:
            break
    return centre, cov


def _flattened(log_ratio: np.ndarray, power: float) -> np.ndarray:
    weights = np.exp(power * log_ratio)
    return weights / weights.sum()


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
