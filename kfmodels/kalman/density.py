"""Log densities of an innovation, for any array library (pass its `log` and `lgamma`)."""

from collections.abc import Callable
from math import log as _log
from math import pi
from typing import Any

Array = Any
LOG_2PI = _log(2 * pi)
LOG_PI = _log(pi)


def log_normal(error: Array, var: Array, log: Callable[[Array], Array]) -> Array:
    """Log density of N(0, var) at `error`."""
    return -0.5 * (LOG_2PI + log(var) + error * error / var)


def log_student(
    error: Array,
    var: Array,
    dof: Array,
    log: Callable[[Array], Array],
    lgamma: Callable[[Array], Array],
) -> Array:
    """Log density at `error` of a Student-t with `dof` degrees of freedom and squared scale `var`."""
    tail = 0.5 * (dof + 1)
    constant = lgamma(tail) - lgamma(0.5 * dof) - 0.5 * log(dof * pi * var)
    return constant - tail * log(1 + error * error / (dof * var))
