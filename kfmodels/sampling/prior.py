"""Draws from the priors of a model, and their density at draws of the noise."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import biject_to

from kfmodels._types import ArrayLike, Float, Shaped, UInt32
from kfmodels._types import JaxArray as Array
from kfmodels.model.assumptions import is_bounded, least
from kfmodels.sampling.devices import compile_little

Model = Callable[..., object]
"""A NumPyro model called with its inputs; hashable."""


@compile_little("model")
def draw(
    numbers: UInt32[ArrayLike, "draw"], seed: UInt32[ArrayLike, ""], inputs: object, *, model: Model
) -> tuple[dict[str, Float[Array, "draw ..."]], dict[str, Shaped[Array, "draw ..."]]]:
    """One draw of the prior for each number: inferred sites, unconstrained; all sites as they are."""

    def one(
        number: UInt32[Array, ""],
    ) -> tuple[dict[str, Float[Array, "..."]], dict[str, Shaped[Array, "..."]]]:
        key = jax.random.wrap_key_data(jnp.stack([seed, number]))
        trace = handlers.trace(handlers.seed(model, key)).get_trace(inputs)
        values = _values(trace)
        z = {
            name: biject_to(trace[name]["fn"].support).inv(value)
            for name, value in values.items()
            if trace[name]["type"] == "sample"
        }
        return z, values

    return jax.vmap(one)(jnp.asarray(numbers))


@compile_little("model", "still")
def log_density(
    sites: dict[str, Shaped[Array, "draw ..."]],
    inputs: object,
    *,
    model: Model,
    still: tuple[int, ...] = (),
) -> dict[str, Float[Array, "draw"]]:
    """Log prior density of every inferred site at draws, one number a draw.

    Densities are of the unconstrained values (see `to_free`), whatever the scale a prior was stated
    on: so two priors can be compared, and one raised to a power below 1 is wider. Sites that the model
    fixes or that `sites` lacks are left out, and so are the hedges numbered in `still`.
    """

    def one(values: dict[str, Shaped[Array, "..."]]) -> dict[str, Float[Array, ""]]:
        seeded = handlers.seed(handlers.substitute(model, data=values), jax.random.key(0))
        trace = handlers.trace(seeded).get_trace(inputs)
        found = {}
        for name, site in trace.items():
            if site["type"] != "sample" or site["is_observed"] or name not in values:
                continue
            law, value = site["fn"], site["value"]
            each = law.base_dist if isinstance(law, dist.Independent) else law
            density = jnp.ravel(each.log_prob(value) + _log_jacobian(name, value))
            if name == "delta_beta":
                density = jnp.delete(density, jnp.array(still, int), assume_unique_indices=True)
            found[name] = density.sum()
        return found

    return jax.vmap(one)(sites)


def to_free(name: str, value: Float[ArrayLike, "*any"]) -> Float[Array, "*any"]:
    """A noise parameter on the real line: logit(delta), or the logarithm above its lower bound.

    One without a lower bound is there already.
    """
    value = jnp.asarray(value)
    if name.startswith("delta"):
        return jnp.log(value) - jnp.log1p(-value)
    return jnp.log(value - least(name)) if is_bounded(name) else value


def from_free(name: str, value: Float[ArrayLike, "*any"]) -> Float[Array, "*any"]:
    """The inverse of `to_free`."""
    if name.startswith("delta"):
        return jax.nn.sigmoid(value)
    return jnp.exp(value) + least(name) if is_bounded(name) else jnp.asarray(value)


@compile_little("model")
def complete(
    sites: dict[str, Shaped[Array, "draw ..."]], inputs: object, *, model: Model
) -> dict[str, Shaped[Array, "draw ..."]]:
    """All sites, deterministic ones too, given the inferred ones."""

    def one(values: dict[str, Shaped[Array, "..."]]) -> dict[str, Shaped[Array, "..."]]:
        return _values(handlers.trace(handlers.substitute(model, data=values)).get_trace(inputs))

    return jax.vmap(one)(sites)


def inferred(inputs: object, model: Model) -> dict[str, tuple[int, ...]]:
    """The sites that the model infers, with their shapes."""
    trace = handlers.trace(handlers.seed(model, jax.random.key(0))).get_trace(inputs)
    free = (s for s in trace.values() if s["type"] == "sample" and not s["is_observed"])
    return {site["name"]: jnp.shape(site["value"]) for site in free}


@compile_little("model")
def bounds(inputs: object, *, model: Model) -> dict[str, tuple[Array, Array]]:
    """The ends of the prior of every inferred site, infinite where it has none."""
    trace = handlers.trace(handlers.seed(model, jax.random.key(0))).get_trace(inputs)
    found = {}
    for name, site in trace.items():
        if site["type"] == "sample" and not site["is_observed"]:
            support = getattr(site["fn"].support, "base_constraint", site["fn"].support)
            low = getattr(support, "lower_bound", -jnp.inf)
            high = getattr(support, "upper_bound", jnp.inf)
            found[name] = jnp.min(jnp.asarray(low)), jnp.max(jnp.asarray(high))
    return found


def _values(trace: Mapping[str, Mapping[str, Any]]) -> dict[str, Array]:
    """Values of all sites that are not observed."""
    return {
        name: site["value"]
        for name, site in trace.items()
        if site["type"] in ("sample", "deterministic") and not site.get("is_observed")
    }


def _log_jacobian(name: str, value: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """log |dx / du| of every element, u as `to_free` has it."""
    if name.startswith("delta"):
        return jnp.log(value) + jnp.log1p(-value)
    return jnp.log(value - least(name)) if is_bounded(name) else jnp.zeros_like(value)
