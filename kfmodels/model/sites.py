"""The sites of a hedge ratio model: what each argument, a prior or a number, becomes in NumPyro."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from kfmodels.model.memory import delta_to_q
from kfmodels.model.priors import Absolute, Horseshoe, Memory, Moves

Array = Any


def checked_delta(delta: Any, name: str) -> Any:
    """A delta whose numbers lie in [0, 1), in a form that can be hashed.

    Raises:
        ValueError: a number outside, or a statement that means nothing for this coefficient.
    """
    inside = delta.delta if isinstance(delta, Absolute) else delta
    if isinstance(inside, Moves) and (name != "beta" or inside is not delta):
        raise ValueError(
            "Moves says how far a hedge ratio goes, as a share of itself: it has no meaning for "
            f"{'the intercept' if name != 'beta' else 'an Absolute delta'}; use Memory there"
        )
    if isinstance(inside, (Memory, Moves, Horseshoe, dist.Distribution)):
        return delta
    numbers = np.asarray(inside, float)
    if not ((numbers >= 0) & (numbers < 1)).all():
        raise ValueError(f"delta of {name} must lie in [0, 1), not {inside}")
    plain = tuple(numbers.tolist()) if numbers.ndim else float(numbers)
    return Absolute(plain) if isinstance(delta, Absolute) else plain


def checked_scale(scale: Any) -> Any:
    """A sd of the observation noise, or its prior, or None for the default.

    Raises:
        ValueError: it is neither.
    """
    if scale is None or isinstance(scale, dist.Distribution):
        return scale
    if isinstance(scale, Memory) or not 0 < float(scale) < np.inf:
        raise ValueError(
            f"obs_scale is a sd: a NumPyro distribution or a positive number, not {scale!r}"
        )
    return scale


def delta_site(name: str, delta: Any, shape: tuple[int, ...], unit: Array) -> Array:
    """Sample a delta that has a prior, broadcast one that has a number.

    `unit` is the q of a ratio that moves by its own size in one bar, for `Moves`.
    """
    inside = delta.delta if isinstance(delta, Absolute) else delta
    if isinstance(inside, Moves):
        return numpyro.sample(name, inside.on_delta(unit).to_event(len(shape)))
    if isinstance(inside, (Memory, Horseshoe)):
        inside = inside.on_delta()
    if isinstance(inside, dist.Distribution):
        return numpyro.sample(name, inside.expand(shape).to_event(len(shape)))
    return jnp.broadcast_to(jnp.asarray(inside, float), shape)


def on_the_line(given: Any, support: Any) -> bool:
    """Whether a site is inferred, on exactly this support (so that NumPyro takes its logit or log)."""
    if isinstance(given, dist.Distribution):
        return given.support is support
    return isinstance(given, (Memory, Moves, Horseshoe))


def relative(delta: Array, given: Any, scales: Array, obs_var: Array) -> Array:
    """q in units of the noise; an absolute delta becomes it by way of the scales."""
    q = delta_to_q(delta)
    return q * scales**2 / obs_var if isinstance(given, Absolute) else q


def site(name: str, given: Any, prior_of: Any = None) -> Array:
    """Sample a site that has a prior, record one that has a number."""
    if isinstance(given, Memory):
        given = prior_of(given)
    if isinstance(given, dist.Distribution):
        return numpyro.sample(name, given)
    return numpyro.deterministic(name, jnp.asarray(given, float))
