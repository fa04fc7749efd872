"""The horseshoe on the sd of a step, as a NumPyro distribution of the log of its square."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

Array = Any

MEDIAN = 0.344276716
"""Median of `(z l)^2`, z standard normal and l standard half-Cauchy."""

_TERMS = 40
"""Depth of the continued fraction: ten digits at x = 1, where it is worst."""


class LogSquaredHorseshoe(dist.Distribution):
    r"""Distribution of `log s^2` where `s = z l`, z standard normal and l standard half-Cauchy.

    $$p(s) = (2 \pi^3)^{-1/2} e^{s^2 / 2} E_1(s^2 / 2)$$

    Unbounded density at s = 0, tails like those of a Cauchy. Support: the real line.

    Source: Carvalho, Polson and Scott (2010), The horseshoe estimator for sparse signals, Biometrika
    97; it is the triple gamma prior with a = c = 1/2: Cadonna, Fruhwirth-Schnatter and Knaus (2020),
    Triple the gamma, Econometrics 8.

    Example:
        >>> float(LogSquaredHorseshoe().log_prob(0.0)).__round__(4)
        -2.1439
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support: ClassVar[constraints.Constraint] = constraints.real  # pyright: ignore

    def __init__(self, *, validate_args: bool | None = None) -> None:
        super().__init__((), (), validate_args=validate_args)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of `log s^2`."""
        one, other = jax.random.split(key)
        normal = jnp.abs(jax.random.normal(one, sample_shape))
        cauchy = jnp.abs(jax.random.cauchy(other, sample_shape))
        return 2 * (jnp.log(normal) + jnp.log(cauchy))

    def log_prob(self, value: Array) -> Array:
        """Log density at `log s^2`."""
        return -0.5 * jnp.log(2 * jnp.pi**3) + _log_scaled_e1(value - jnp.log(2.0)) + value / 2


def _log_scaled_e1(log_x: Array) -> Array:
    """log(e^x E1(x)) at x = e^log_x: the power series below 1, a continued fraction above.

    Each branch sees an argument it can take, so that no gradient is NaN.
    """
    under = jnp.minimum(log_x, 0.0)
    x = jnp.exp(under)
    term, total = x, x
    for k in range(2, 20):
        term = -term * x * (k - 1) / (k * k)
        total = total + term
    small = jnp.log(-jnp.euler_gamma - under + total) + x
    x = jnp.exp(jnp.clip(log_x, -1.0, 60.0))  # a tie at 0 would halve the gradient there
    tail = x
    for k in range(_TERMS, 0, -1):
        tail = x + k / (1 + k / tail)
    return jnp.where(log_x < 0, small, jnp.where(log_x < 60, -jnp.log(tail), -log_x))
