"""The natural logarithm of many numbers at once, in vector instructions.

A logarithm of every row costs the filter more than its recursion where the compiler calls the
mathematical library number by number.
"""

import jax
import jax.numpy as jnp
from jax import lax

from kfmodels._types import Float
from kfmodels._types import JaxArray as Array

_HALF_ROOT = 0x3FE6A09E667F3BCD
"""The bits of the square root of a half."""

_LOG_2 = 0.6931471805599453

_SERIES = (
    2.0,
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
"""2 + 2 f^2 / 3 + 2 f^4 / 5 + ..., cut off so that no f in question errs by more than 2^-58.

Source: FreeBSD's msun, e_log.c (Sun Microsystems, 1993).
"""


@jax.custom_jvp
def fast_log(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Natural logarithm of positive finite numbers, to three roundings; NaN for all others.

    The number is `2^k m` with m between the roots of a half and of two, and
    `log m = f (2 + 2 f^2 / 3 + 2 f^4 / 5 + ...)` with `f = (m - 1) / (m + 1)`.
    """
    if x.dtype != jnp.float64:
        return jnp.log(x)
    bits = lax.bitcast_convert_type(x, jnp.int64)
    power = (bits - _HALF_ROOT) >> 52
    m = lax.bitcast_convert_type(bits - (power << 52), jnp.float64)
    f = (m - 1) / (m + 1)
    square = f * f
    total = 0.0
    for coefficient in reversed(_SERIES):
        total = total * square + coefficient
    fine = (x >= jnp.finfo(x.dtype).tiny) & (x < jnp.inf)
    return jnp.where(fine, _LOG_2 * power.astype(x.dtype) + f * total, jnp.nan)


@fast_log.defjvp
def _slope(
    primals: tuple[Float[Array, "*axes"]], tangents: tuple[Float[Array, "*axes"]]
) -> tuple[Float[Array, "*axes"], Float[Array, "*axes"]]:
    (x,), (moved,) = primals, tangents
    return fast_log(x), moved / x
