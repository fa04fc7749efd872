"""Densities of an innovation, for any array library (pass its functions)."""

from collections.abc import Callable
from math import log as _log
from math import pi
from types import ModuleType

from kfmodels.kalman.motion import Array

LOG_2PI = _log(2 * pi)

LOG_PI = _log(pi)

Z90 = 1.6448536269514722
"""Half width of a central 90 % normal interval, in standard deviations."""


def log_normal(error: Array, var: Array, log: Callable[[Array], Array]) -> Array:
    """Log density of N(0, var) at `error`."""
    return -0.5 * (LOG_2PI + log(var) + error * error / var)


def log_student(error: Array, var: Array, dof: Array, log: Callable[[Array], Array]) -> Array:
    """Log density at `error` of a Student-t with `dof` degrees of freedom and squared scale `var`."""
    width = dof * var
    above, below = gamma_ratio(0.5 * dof)
    tail = (dof + 1) * log(1 + error * error / width)
    return -0.5 * (LOG_PI + log(width * below / above) + tail)


def student_variance(dof: Array | None, library: ModuleType) -> Array:
    """Variance of a Student-t over its squared scale: infinite with 2 degrees of freedom or fewer.

    1 where `dof` is None, which stands for a normal distribution; `library` is `numpy` or `jax.numpy`.
    """
    if dof is None:
        return 1.0
    finite = dof > 2
    # the inner `where` keeps the division by 0 of the other branch, and its gradient, from happening
    return library.where(finite, dof / library.where(finite, dof - 2, 1.0), library.inf)


ABOVE = 1.0, 6.872689186452927, 11.315328314621096, 4.494900794182167, 0.2611343512215239
BELOW = 1.0, 6.841439186453569, 11.105927871157888, 4.175570883484923, 0.16603512188018996
"""Coefficients of `gamma_ratio`, which interpolates at nine Chebyshev points of 1 / w**2.

`online.kernel` is compiled with them: numba looks only there whether anything has changed.
"""


def gamma_ratio(a: Array) -> tuple[Array, Array]:
    r"""Two numbers whose quotient is `(gamma(a + 1/2) / gamma(a))**2`, right to 1e-14 for a > 0.

    In w = a - 1/4 the square is w times a series in 1 / w**2.

    Source: Tricomi and Erdelyi (1951), The asymptotic expansion of a ratio of gamma functions, Pacific
    Journal of Mathematics 1; for even powers alone: Fields (1966), Proceedings of the Edinburgh
    Mathematical Society 15.
    """
    # three steps up by `gamma(a + 1) = a gamma(a)`, where four powers are enough; every factor over w,
    # as their product overflows single precision
    w = a + 2.75
    each = 1 / w
    up = (a * each) * ((a + 1) * each) * ((a + 2) * each)
    down = ((a + 0.5) * each) * ((a + 1.5) * each) * ((a + 2.5) * each)
    square = each * each
    return up * up * w * _power_series(ABOVE, square), down * down * _power_series(BELOW, square)


def _power_series(coefficients: tuple[float, ...], x: Array) -> Array:
    total = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total
