"""Pareto-smoothed importance weights of many targets at once, in JAX.

Source: Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, JMLR 25;
the fit of the tail: Zhang and Stephens (2009), A new and efficient estimation method for the
generalized Pareto distribution, Technometrics 51.
"""

from math import ceil, sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp

from kfmodels._types import ArrayLike, Float, Int, UInt32
from kfmodels._types import JaxArray as Array

# `psislw` of ArviZ is the reference in the tests. It is not used here because it runs in NumPy, one
# target at a time, outside compiled programs, and returns NaN where too few draws have weight.

_LEAST = -1e4
"""Log weight, relative to the largest, below which a draw counts as having none."""


def smooth(
    log_ratio: Float[ArrayLike, "*batch draw"],
) -> tuple[Float[Array, "*batch draw"], Float[Array, "*batch"]]:
    r"""Log weights that sum to one, their largest smoothed, and k-hat.

    The largest `min(n / 5, 3 sqrt(n))` weights are replaced by the expected order statistics of a
    generalized Pareto distribution fitted to them,

    $$F(x) = 1 - (1 + \hat k x / \hat σ)^{-1 / \hat k}$$

    and no weight exceeds the largest raw one.

    Args:
        log_ratio: log of target over proposal; NaN counts as no weight.

    Returns:
        Log weights and k-hat; 0 where the largest weights are equal,
        infinite where no more draws have a weight than are smoothed.

    Example:
        >>> import jax.numpy as jnp
        >>> log_weights, pareto_k = smooth(jnp.zeros((2, 100)))
        >>> log_weights.shape, pareto_k.tolist()
        ((2, 100), [0.0, 0.0])
    """
    log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)
    top = log_ratio.max(-1, keepdims=True)
    log_ratio = jnp.maximum(log_ratio - jnp.where(jnp.isfinite(top), top, 0), _LEAST)
    count = log_ratio.shape[-1]
    tail = max(5, ceil(min(0.2 * count, 3 * sqrt(count))))
    places = jnp.broadcast_to(jnp.arange(count), log_ratio.shape)
    ordered, order = lax.sort_key_val(log_ratio, places)
    cut = ordered[..., -tail - 1]
    above = jnp.exp(ordered[..., -tail:]) - jnp.exp(cut)[..., None]
    shape, scale = _fit(above)
    spots = (jnp.arange(tail) + 0.5) / tail
    excess = scale[..., None] * jnp.expm1(-shape[..., None] * jnp.log1p(-spots)) / shape[..., None]
    log_tail = jnp.minimum(jnp.log(excess + jnp.exp(cut)[..., None]), 0.0)
    # equal weights have no tail; where few draws have weight, the tail has no fit
    equal = (ordered[..., -1] - cut < 1e-9) & (cut > _LEAST)
    usable = jnp.isfinite(shape) & (cut > _LEAST) & ~equal
    ordered = ordered.at[..., -tail:].set(
        jnp.where(usable[..., None], log_tail, ordered[..., -tail:])
    )
    _, back = lax.sort_key_val(order, ordered)
    shape = jnp.where(equal, 0.0, jnp.where(usable, shape, jnp.inf))
    return back - logsumexp(back, -1, keepdims=True), shape


def resample(
    log_weights: Float[ArrayLike, "draw"], key: UInt32[np.ndarray, "2"], *, count: int
) -> Int[np.ndarray, "{count}"]:
    """Indices of draws of equal weight that represent weighted ones.

    Systematic resampling: each draw comes as often as its share of the count, rounded up or down. In
    random order.
    """
    random = np.random.default_rng(key)
    ends = (np.arange(count) + random.uniform()) / count
    sums = np.cumsum(np.exp(log_weights))
    picked = np.minimum(np.searchsorted(sums / sums[-1], ends), len(sums) - 1)
    return random.permutation(picked)


def pick_evenly(
    weights: Float[np.ndarray, "draw"], order_by: Float[np.ndarray, "draw"], count: int
) -> Int[np.ndarray, "{count}"]:
    """Indices of draws evenly spaced by weight, in the order of one of their parameters."""
    order = np.argsort(order_by)
    ends = np.cumsum(weights[order])
    spots = (np.arange(count) + 0.5) * ends[-1] / count
    return order[np.minimum(np.searchsorted(ends, spots), len(ends) - 1)]


def _fit(
    above: Float[Array, "*batch tail"],
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Shape and scale of a generalized Pareto distribution, excesses sorted, on the last axis."""
    count = above.shape[-1]
    grid = 30 + int(sqrt(count))
    quarter = above[..., int(count / 4 + 0.5) - 1][..., None]
    places = 1 - jnp.sqrt(grid / (jnp.arange(1, grid + 1) - 0.5))
    b = places / (3 * quarter) + 1 / above[..., -1:]
    k = jnp.log1p(-b[..., None] * above[..., None, :]).mean(-1)
    profile = count * (jnp.log(-b / k) - k - 1)
    weights = jax.nn.softmax(profile, -1)
    b = (weights * b).sum(-1)
    k = jnp.log1p(-b[..., None] * above).mean(-1)
    # shrunk to 1/2 with the weight of ten draws, as in the paper
    return (count * k + 5) / (count + 10), -k / b
