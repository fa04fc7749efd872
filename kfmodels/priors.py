"""Priors as numbers: draws from them, and their density at draws of the noise."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import handlers
from numpyro.distributions import biject_to

from kfmodels.noise import LEAST_VARIANCE_MEMORY

Array = Any
Model = Any
"""A NumPyro model called with its inputs; hashable."""


@partial(jax.jit, static_argnames=("model",))
def draw(
    numbers: Any, seed: Any, inputs: Any, *, model: Model
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draws from the prior, one per number: sites to be inferred, unconstrained; all sites as they are."""

    def one(number: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        key = jax.random.wrap_key_data(jnp.stack([seed, number]))
        trace = handlers.trace(handlers.seed(model, key)).get_trace(inputs)
        free = {
            name: site
            for name, site in trace.items()
            if site["type"] in ("sample", "deterministic") and not site.get("is_observed")
        }
        z = {
            name: biject_to(site["fn"].support).inv(site["value"])
            for name, site in free.items()
            if site["type"] == "sample"
        }
        return z, {name: site["value"] for name, site in free.items()}

    return jax.vmap(one)(numbers)


@partial(jax.jit, static_argnames=("model",))
def log_density(sites: dict[str, Array], inputs: Any, *, model: Model) -> dict[str, Array]:
    """Log prior density of every inferred site at draws `(draw, ...)`, one number a draw.

    Of logit(delta), log(variance_memory - 4) and log(obs_scale), whatever the scale a prior was
    stated on: so two priors compare, and raising one to a power widens it instead of bending its
    Jacobian.
    A site that the model fixes, or that `sites` lacks, is left out.
    """

    def one(values: dict[str, Array]) -> dict[str, Array]:
        seeded = handlers.seed(handlers.substitute(model, data=values), jax.random.key(0))
        trace = handlers.trace(seeded).get_trace(inputs)
        return {
            name: jnp.sum(site["fn"].log_prob(site["value"]) + _log_jacobian(name, site["value"]))
            for name, site in trace.items()
            if site["type"] == "sample" and not site["is_observed"] and name in values
        }

    return jax.vmap(one)(sites)


def free_sites(inputs: Any, model: Model) -> list[str]:
    """Names of the sites that the model infers."""
    trace = handlers.trace(handlers.seed(model, jax.random.key(0))).get_trace(inputs)
    return [k for k, s in trace.items() if s["type"] == "sample" and not s["is_observed"]]


def _log_jacobian(name: str, value: Array) -> Array:
    """log |dx / du| summed over the elements, for u = logit(delta), log(bars - 4) or log(x)."""
    if name.startswith("delta"):
        return jnp.sum(jnp.log(value) + jnp.log1p(-value))
    return jnp.sum(jnp.log(value - (LEAST_VARIANCE_MEMORY if name == "variance_memory" else 0)))
