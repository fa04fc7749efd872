"""Arrays in signatures, by the names of their axes.

`Float[Array, "pair draw coef"]` is an array of real numbers with three axes. The names are `pair`,
`draw` (of the noise), `time`, `coef` (of the regression: hedges, then the intercept), `hedge`, `gap`
(kinds of closed periods) and, while sampling, `site` (an unconstrained parameter), `part` (of a
proposal) and `start` (of a climb); `*batch` and `*draws` stand for any number of axes, and `#` before a
name says that its length may be 1 instead. The tests check every call against them; nothing else does.

Importing this loads JAX, so the rooms that need NumPy only write NumPy's types, or
`kalman.motion.Array`, instead. Where jaxtyping or JAX is not installed, every name is `Any`.
"""

from typing import TYPE_CHECKING, Any

try:
    import jax
    import numpy as np
    from jaxtyping import Array as JaxArray
    from jaxtyping import ArrayLike, Bool, Float, Int, Shaped, UInt32

    Array = JaxArray | np.ndarray
    """JAX's (a tracer too) or NumPy's."""

    Shapes = jax.ShapeDtypeStruct
    """Stands for an array where only shape and type are needed, as in `jax.eval_shape`."""
except ImportError:
    if not TYPE_CHECKING:

        class _Unnamed:
            def __class_getitem__(cls, axes: object) -> object:
                return Any

        Array = JaxArray = ArrayLike = Shapes = Any
        Bool = Float = Int = Shaped = UInt32 = _Unnamed

__all__ = ["Array", "ArrayLike", "Bool", "Float", "Int", "JaxArray", "Shaped", "Shapes", "UInt32"]
