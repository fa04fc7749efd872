"""Where a prior may lie: its support is checked against what its parameter allows, as a number is.

A prior that reaches further than its parameter is not cut off by the samplers: they step outside, and
a negative sd comes back as a variance like any other.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints

_DRAWS = 1000
"""Draws that judge a distribution which does not say where it lies."""


class Allowed(NamedTuple):
    """The range of a parameter: in words, its ends, and priors that keep to it, as code.

    A prior may include the ends, where a density has no mass.
    """

    words: str
    low: float
    high: float
    priors: tuple[str, ...]


DELTA = Allowed(
    "a delta lies between 0 and 1 (a memory in bars is said as Memory(...))",
    0.0,
    1.0,
    ("Memory(60, low=5, high=700)", "dist.Beta(1.0, 99.0)"),
)
SCALE = Allowed(
    "it is a sd, which is positive",
    0.0,
    np.inf,
    ("dist.LogNormal(-5.0, 1.0)", "dist.HalfNormal(0.01)"),
)
BARS = Allowed(
    "it is 0 or more", 0.0, np.inf, ("dist.LogNormal(3.0, 1.5)", "dist.HalfNormal(20.0)")
)
REAL = Allowed("it is any finite number", -np.inf, np.inf, ("dist.Normal(1.0, 0.5)",))
FACTOR = Allowed(
    "it is positive", 0.0, np.inf, ("dist.LogNormal(0.0, 0.5)", "dist.Gamma(4.0, 4.0)")
)


def variance_memory(least: float) -> Allowed:
    """The range of the memory of a variance, in bars above `least`."""
    return Allowed(
        f"it must be above {least:g} bars, so that a forecast keeps 3 degrees of freedom",
        least,
        np.inf,
        ("Memory(20, low=6, high=130)", f"dist.TruncatedNormal(20.0, 10.0, low={least})"),
    )


def is_number(given: Any) -> bool:
    """Whether it is one number; bool, an int in Python, is none."""
    return np.ndim(given) == 0 and np.asarray(given).dtype.kind in "iuf"


def check_prior(name: str, prior: dist.Distribution, allowed: Allowed) -> None:
    """Raise unless a continuous prior lies within the range of its parameter.

    Args:
        name: the argument, as the user wrote it.
        prior: a NumPyro distribution; one that does not say where it lies is judged by its draws.
        allowed: the range.

    Raises:
        ValueError: it reaches outside, has whole values only, or is one number.
    """
    kind = type(prior).__name__
    if isinstance(prior, dist.Delta):
        raise ValueError(f"{name}: {kind} is one number, not a prior: give the number itself")
    try:
        support = prior.support
        discrete = support is not None and support.is_discrete
    except RuntimeError:  # a support that is not written down raises
        support, discrete = None, False
    if discrete:
        raise ValueError(
            f"{name}: the prior {kind} has whole values only, the samplers need a density: "
            f"{_remedies(prior, allowed)}"
        )
    found = _ends(support)
    reach = "has the support" if found else "has draws"
    low, high = found or _drawn(name, prior, allowed)
    if not (low >= allowed.low and high <= allowed.high):
        raise ValueError(
            f"{name}: the prior {kind} {reach} {_span(low, high)}, but {allowed.words}: "
            f"{_remedies(prior, allowed)}"
        )


def check_one(name: str, prior: dist.Distribution, how: str) -> None:
    """Raise unless the prior is on one number; `how` says how several are given."""
    if prior.batch_shape or prior.event_shape:
        raise ValueError(
            f"{name}: the prior has the shape {prior.batch_shape + prior.event_shape}: {how}"
        )


def keeps_to(name: str, given: Any, allowed: Allowed, how: str, *, ends: bool = False) -> bool:
    """Whether it is a number within a range, with `ends` its lowest too, or a prior on one.

    A prior on other numbers raises, as `check_prior` and `check_one` say. Text passes: it stands for
    one that a file could not hold.
    """
    if isinstance(given, dist.Distribution):
        check_prior(name, given, allowed)
        check_one(name, given, how)
        return True
    if isinstance(given, str):
        return True
    if not is_number(given) or not given < np.inf:
        return False
    return given > allowed.low or (ends and given == allowed.low)


def _ends(support: constraints.Constraint | None) -> tuple[float, float] | None:
    """The ends of a support; None where it does not have any."""
    support = getattr(support, "base_constraint", support)
    if support is constraints.real:
        return -np.inf, np.inf
    low, high = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    if low is None and high is None:
        return None
    return (
        -np.inf if low is None else float(np.min(np.asarray(low))),
        np.inf if high is None else float(np.max(np.asarray(high))),
    )


def _drawn(name: str, prior: dist.Distribution, allowed: Allowed) -> tuple[float, float]:
    """The least and the largest of some draws."""
    try:
        draws = np.asarray(prior.sample(jax.random.key(0), (_DRAWS,)), float)
    except Exception as error:  # a distribution of a user may fail in any way
        raise ValueError(
            f"{name}: the prior {type(prior).__name__} neither says where it lies (its support) nor "
            f"can it be drawn from, but {allowed.words}: {_remedies(prior, allowed)}"
        ) from error
    return float(draws.min()), float(draws.max())


def _remedies(prior: dist.Distribution, allowed: Allowed) -> str:
    """Priors that would do, first the user's own one cut off at the range."""
    usable = list(allowed.priors)
    if type(prior) is dist.Normal and not (prior.batch_shape or prior.event_shape):
        high = "" if allowed.high == np.inf else f", high={allowed.high}"
        loc, scale = (float(np.asarray(part)) for part in (prior.loc, prior.scale))
        given = f"{loc:.6g}, {scale:.6g}, low={allowed.low}{high}"
        usable.insert(0, f"dist.TruncatedNormal({given})")
    return "use " + " or ".join(usable)


def _span(low: float, high: float) -> str:
    if low == -np.inf and high == np.inf:
        return "of all numbers, negative ones too"
    if high == np.inf:
        return f"from {low:g} up"
    return f"up to {high:g}" if low == -np.inf else f"from {low:g} to {high:g}"
