"""Where the coefficients of a pair start, in the coordinates of the recursion."""

import numpy as np

from kfmodels.kalman.coordinates import Coordinates
from kfmodels.model.assumptions import Diffuse, Known, Start, Weak


def start_of(
    initial: Start, coordinates: Coordinates, spread: float, hedges: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the inner coefficients; zeros stand for a flat start."""
    n = coordinates.coefficients
    mean, cov = np.zeros(n), np.zeros((n, n))
    if isinstance(initial, Weak):
        cov = np.eye(n) * (initial.sds * spread) ** 2
    elif isinstance(initial, Known):
        given = np.asarray(initial.mean, float)
        if given.shape != (n,):
            names = ", ".join([*hedges, "alpha"][:n])
            raise ValueError(
                f"Known: the start has {given.size} coefficients, the model {n}: {names}"
            )
        mean, cov = coordinates.from_original(given, np.asarray(initial.cov, float))
    elif not isinstance(initial, Diffuse):
        mean, cov = coordinates.from_original(np.zeros(n), cov)
    return mean, cov
