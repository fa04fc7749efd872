r"""Coordinates in which the posterior of the noise is not a bent ridge.

Beside an intercept that moves, data determine the sd of the one-bar forecast, `s`, and the moves of
the ratio relative to it, `r`, far better than `obs_scale` and `q_beta` themselves. With
`f = memory / (memory - 1)` of the intercept, forecast over observation variance of a lone level,

$$\log s = \log \mathrm{obs\_scale} + \tfrac12 \log f, \quad \log r = \log q_β - \log f.$$

The map is triangular with ones on its diagonal, so that densities carry over unchanged.
"""

import jax.numpy as jnp

from kfmodels._types import Float
from kfmodels._types import JaxArray as Array

Free = dict[str, Float[Array, "..."]]
"""Noise parameters on the real line: log q of each delta, log obs_scale."""


def bent_sites(model: object) -> frozenset[str]:
    """Sites of a model that the intercept's speed shifts; none where it is no hedge ratio model."""
    return getattr(model, "bent", frozenset())


def straighten(free: Free, bent: frozenset[str]) -> Free:
    """From the parameters to the coordinates; `bent` is from `bent_sites`."""
    return _shift(free, bent, 1.0)


def bend(free: Free, bent: frozenset[str]) -> Free:
    """The inverse of `straighten`."""
    return _shift(free, bent, -1.0)


def _shift(free: Free, bent: frozenset[str], sign: float) -> Free:
    if not bent:
        return free
    q = jnp.exp(jnp.clip(free["delta_alpha"], -60.0, 60.0))
    # `q_to_state_var` with `sqrt` for `** 0.5`, whose gradient rounds otherwise and changes NUTS draws
    wider = jnp.log1p((q + jnp.sqrt(q * q + 4 * q)) / 2)
    moved = dict(free)
    if "obs_scale" in bent:
        moved["obs_scale"] = free["obs_scale"] + sign * 0.5 * wider
    if "delta_beta" in bent:
        moved["delta_beta"] = free["delta_beta"] - sign * wider
    return moved
