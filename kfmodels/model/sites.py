"""The NumPyro sites of a hedge ratio model, each made from a prior or a number."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from kfmodels._types import Array, ArrayLike, Float
from kfmodels.model.memory import delta_to_q, told_beside
from kfmodels.model.priors import Absolute, Horseshoe, Memory, Moves, Scale, Speed
from kfmodels.model.supports import DELTA, SCALE, check_one, check_prior, is_number


def checked_delta(delta: Speed, name: str) -> Speed:
    """A delta whose numbers, or whose prior, lie in [0, 1), in a form that can be hashed.

    Raises:
        ValueError: it reaches outside, or is a statement that means nothing for this coefficient.
    """
    inside = delta.delta if isinstance(delta, Absolute) else delta
    if isinstance(inside, Moves) and (name != "beta" or inside is not delta):
        raise ValueError(
            "Moves says how far a hedge ratio goes, as a share of itself: it has no meaning for "
            f"{'the intercept' if name != 'beta' else 'an Absolute delta'}; use Memory there"
        )
    if getattr(inside, "effective", False) and (name != "beta" or inside is not delta):
        raise ValueError(
            "an effective memory is that of a hedge ratio, not of "
            f"{'the intercept' if name != 'beta' else 'an Absolute delta'}: leave effective out there"
        )
    if isinstance(inside, (Memory, Moves, Horseshoe)):
        return delta
    if isinstance(inside, dist.Distribution):
        check_prior(f"delta of {name}", inside, DELTA)
        if inside.event_shape or name != "beta":
            check_one(f"delta of {name}", inside, "state it for one coefficient")
        return delta
    if isinstance(inside, (list, tuple)) and not all(is_number(one) for one in inside):
        raise ValueError(
            f"delta of {name} lists something else than numbers; one prior per hedge is a single "
            "distribution with a value for each, such as dist.Beta(np.array([1.0, 2.0]), 9.0)"
        )
    numbers = np.asarray(inside, float)
    if not ((numbers >= 0) & (numbers < 1)).all():
        raise ValueError(f"delta of {name} must lie in [0, 1), not {inside}")
    plain = tuple(numbers.tolist()) if numbers.ndim else float(numbers)
    return Absolute(plain) if isinstance(delta, Absolute) else plain


def checked_scale(scale: Scale | None) -> Scale | None:
    """The sd of the observation noise, its prior, or None for the default.

    Raises:
        ValueError: it is neither, or the prior is not one of a positive number.
    """
    if scale is None:
        return scale
    if isinstance(scale, dist.Distribution):
        check_prior("obs_scale", scale, SCALE)
        check_one("obs_scale", scale, "there is one sd, give it one")
        return scale
    if not (is_number(scale) and 0 < float(scale) < np.inf):
        raise ValueError(
            f"obs_scale is a sd: a NumPyro distribution or a positive number, not {scale!r}"
        )
    return scale


def delta_site(
    name: str,
    delta: Speed,
    shape: tuple[int, ...],
    unit: Float[Array, "hedge"],
    told: Float[Array, "hedge"] | None = None,
) -> Float[Array, "*shape"]:
    """Sample a delta that has a prior, broadcast one that is a number.

    `unit` is the q of a ratio that moves by its own size in one bar, for `Moves`; `told` is what a row
    tells of it beside the rest of the model, for an effective memory.
    """
    inside = delta.delta if isinstance(delta, Absolute) else delta
    if isinstance(inside, Moves):
        return jnp.asarray(numpyro.sample(name, inside.on_delta(unit).to_event(len(shape))))
    if isinstance(inside, Memory):
        inside = inside.on_delta(told if inside is delta else None)
    elif isinstance(inside, Horseshoe):
        inside = inside.on_delta()
    if isinstance(inside, dist.Distribution):
        return jnp.asarray(numpyro.sample(name, inside.expand(shape).to_event(len(shape))))
    return jnp.broadcast_to(jnp.asarray(inside, float), shape)


def told_of(
    delta: Speed, regressors: Float[np.ndarray, "time hedge"], *, moving: bool
) -> Float[np.ndarray, "gain hedge"] | None:
    """`told_beside` where a prior is on the effective memory of the ratios, else None."""
    wanted = isinstance(delta, Memory) and delta.effective
    return told_beside(regressors, moving=moving) if wanted else None


def infers_on(given: object, support: constraints.Constraint) -> bool:
    """Whether a site is inferred, on exactly this support (so that NumPyro takes its logit or log)."""
    if isinstance(given, dist.Distribution):
        return given.support is support
    return isinstance(given, (Memory, Moves, Horseshoe))


def relative(
    delta: Float[Array, "coef"],
    given: Speed,
    scales: Float[Array, "coef"],
    obs_var: Float[ArrayLike, ""],
) -> Float[Array, "coef"]:
    """q relative to the noise; an absolute delta, which is in user units, is converted."""
    q = delta_to_q(delta)
    return q * scales**2 / obs_var if isinstance(given, Absolute) else q


def site(
    name: str,
    given: Memory | Scale | Float[Array, ""],
    prior_of: Callable[[Memory], dist.Distribution] = Memory.on_delta,
) -> Float[Array, ""]:
    """Sample a site that has a prior, record one that is a number."""
    if isinstance(given, Memory):
        given = prior_of(given)
    if isinstance(given, dist.Distribution):
        return jnp.asarray(numpyro.sample(name, given))
    return jnp.asarray(numpyro.deterministic(name, jnp.asarray(given, float)))


def check_listed(beta: Speed, pivot: tuple[float, ...] | None, hedges: Sequence[str]) -> None:
    """Raise where a delta or a pivot lists another number of values than there are hedges."""
    for listed in (beta, getattr(beta, "delta", None)):
        if isinstance(listed, tuple) and len(listed) != len(hedges):
            raise ValueError(
                f"delta of beta lists {len(listed)} values, but there are {len(hedges)} "
                f"hedges: {', '.join(hedges)}"
            )
    pivot = pivot or ()
    if len(pivot) > 1 and len(pivot) != len(hedges):
        raise ValueError(
            f"pivot has {len(pivot)} values, but there are {len(hedges)} hedges: {', '.join(hedges)}"
        )
