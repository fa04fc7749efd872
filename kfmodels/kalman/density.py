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
    ratio, rest = gamma_ratio(0.5 * dof)
    tail = (dof + 1) * log(1 + error * error / width)
    return rest - 0.5 * (LOG_PI + log(width / ratio) + tail)


def student_variance(dof: Array | None, library: ModuleType) -> Array:
    """Variance of a Student-t over its squared scale: infinite with 2 degrees of freedom or fewer.

    1 where `dof` is None, which stands for a normal distribution; `library` is `numpy` or `jax.numpy`.
    """
    if dof is None:
        return 1.0
    finite = dof > 2
    # the inner `where` keeps the division by 0 of the other branch, and its gradient, from happening
    return library.where(finite, dof / library.where(finite, dof - 2, 1.0), library.inf)


def gamma_ratio(a: Array) -> tuple[Array, Array]:
    r"""`(gamma(a + 1/2) / gamma(a))**2` as a factor r and an exponent s, `r exp(2 s)`.

    `log(r) / 2 + s` is right to 3e-14 for a > 0.

    Source: Tricomi and Erdelyi (1951), The asymptotic expansion of a ratio of gamma functions, Pacific
    Journal of Mathematics 1.
    """
    # the series is accurate for large arguments only: eight steps up by `gamma(a + 1) = a gamma(a)`
    b = a + 8
    each = 1 / b
    odd = each * each
    series = 17 / 14336 + odd * (-31 / 18432 + odd * 691 / 180224)
    series = -1 / 8 + odd * (1 / 192 + odd * (-1 / 640 + odd * series))
    up = _eight(a, odd) / _eight(a + 0.5, odd)
    return up * up * b, series * each


def _eight(a: Array, odd: Array) -> Array:
    """`a (a + 1) ... (a + 7) / b**8`, where `odd` is `1 / b**2`."""
    # the product itself overflows single precision, so each pair of factors, first with last, is
    # divided by b**2: (a + 1)(a + 6) = a (a + 7) + 6 and so on
    ends = a * (a + 7) * odd
    return ends * (ends + 6 * odd) * (ends + 10 * odd) * (ends + 12 * odd)
