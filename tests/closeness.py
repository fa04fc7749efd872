"""How close is close: to the largest entry, or to what chance allows."""

import numpy as np
from numpy.testing import assert_allclose


def scaled_close(actual, desired, rtol: float) -> None:
    """Close relative to the largest entry: entries that cancel to 0 have no digits of their own."""
    desired = np.asarray(desired)
    assert_allclose(actual, desired, rtol=rtol, atol=rtol * np.abs(desired).max())


def within_standard_errors(errors) -> None:
    assert np.max(np.abs(errors)) < 4.5, f"{np.max(np.abs(errors)):.1f} standard errors"


def gaussian_moments(draws, mean, cov) -> None:
    """Mean and every covariance of distinct Gaussian draws `(N, k)`, within 4.5 standard errors."""
    count, var = len(draws), np.diag(cov)
    assert count == len(np.unique(draws, axis=0)) >= 20_000
    within_standard_errors((draws.mean(0) - mean) / np.sqrt(var / count))
    gap = (draws - mean).T @ (draws - mean) / count - cov
    within_standard_errors(gap / np.sqrt((np.outer(var, var) + cov**2) / count))
