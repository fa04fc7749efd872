"""The log posterior of many pairs at many draws of their noise, in one pass of the filter."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer.util import constrain_fn, potential_energy

from kfmodels import priors, ridge

Array = Any
Model = Any
"""A NumPyro model called with its inputs; hashable."""

_RECURSION = ("q", "obs_scale", "variance_memory")
_LIKELIHOOD = ["y", "diffuse"]


class Layout:
    """Where each inferred site stands in a vector of unconstrained parameters."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
        self.size = int(ends[-1]) if len(ends) else 0
        self._cuts = ends[:-1]

    def pack(self, free: dict[str, Array]) -> Array:
        """Sites `(*draws, ...)` to `(*draws, d)`."""
        parts = [
            jnp.reshape(free[k], (*free[k].shape[: free[k].ndim - len(shape)], -1))
            for k, shape in self.shapes.items()
        ]
        return jnp.concatenate(parts, -1)

    def unpack(self, points: Array) -> dict[str, Array]:
        """The inverse of `pack`."""
        parts = jnp.split(points, self._cuts, -1)
        return {
            k: jnp.reshape(part, (*points.shape[:-1], *shape))
            for part, (k, shape) in zip(parts, self.shapes.items(), strict=True)
        }


def prior_draws(seed: Array, inputs: Any, *, model: Model, count: int) -> dict[str, Array]:
    """Unconstrained, straightened draws of the prior of every pair, `(pair, draw, ...)`."""
    numbers = jnp.arange(count, dtype=jnp.uint32)
    bent = getattr(model, "bent", frozenset())

    def one(pair: Any) -> dict[str, Array]:
        free, _ = priors.draw(numbers, seed, pair, model=model)
        return jax.vmap(partial(ridge.straight, bent=bent))(free)

    return jax.vmap(one)(inputs)


def log_density(free: dict[str, Array], inputs: Any, *, model: Model) -> Array:
    """Log prior plus log likelihood, `(pair, draw)`, of straightened sites `(pair, draw, ...)`.

    `inputs` begin with the axis of pairs. A hedge ratio model runs one filter whose batch axes are
    pairs and draws; any other NumPyro model is mapped over both.
    """
    if not hasattr(model, "log_likelihood"):
        energy = partial(_energy, model=model)
        return -jax.vmap(jax.vmap(energy, (0, None)), (0, 0))(free, inputs)

    prior = handlers.block(model, hide=_LIKELIHOOD)

    bent = model.bent

    def one(z: dict[str, Array], pair: Any) -> tuple[Array, dict[str, Array]]:
        z = ridge.bend(z, bent)
        values = constrain_fn(prior, (pair,), {}, z, return_deterministic=True)
        return _energy(z, pair, model=prior), {k: values[k] for k in _RECURSION if k in values}

    energy, noise = jax.vmap(jax.vmap(one, (0, None)), (0, 0))(free, inputs)
    each = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 1), inputs)
    return model.log_likelihood(each, **noise) - energy


def _energy(z: dict[str, Array], inputs: Any, *, model: Model) -> Array:
    return potential_energy(model, (inputs,), {}, z)
