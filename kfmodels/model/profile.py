"""The profile of the observation variance over the session, which is the same every day."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from kfmodels._types import Array, Float
from kfmodels.clock.clock import Clock
from kfmodels.clock.day import USUAL_FALL, USUAL_RISE, DayVariance
from kfmodels.data.arrays import Inputs
from kfmodels.data.hedge_data import HedgeData
from kfmodels.model.assumptions import register
from kfmodels.model.priors import Scale
from kfmodels.model.sites import site
from kfmodels.model.supports import FACTOR, REAL, keeps_to

SITES = ("profile_fall", "profile_rise", "profile_first")
"""The sites of a profile: a, c and b."""


_FALL, _RISE = dist.Normal(USUAL_FALL, 0.2), dist.Normal(USUAL_RISE, 0.7)
_FIRST = dist.LogNormal(float(np.log(1.5)), 0.5)


@register
@dataclass(frozen=True)
class Profile:
    r"""How the observation variance depends on the time of day.

    $$\mathrm{Var}(ϵ_t) = v_t f_t, \qquad f_t ∝ (1 + τ_t / 5)^{-a} \,
    e^{c \exp(-κ_t / 15)}, \text{ times } b \text{ in the first bar}$$

    with $τ$ minutes since the open and $κ$ until the close, at the middle of the bar, and a
    mean of one over a session, before b. Needs data whose clock has sessions.

    Args:
        fall: a, how fast the variance falls after the open: a NumPyro distribution or a number.
        rise: c, the log of how far it rises before the close, likewise.
        first: b, the further factor of the first bar, positive.

    Raises:
        ValueError: an argument that is neither, or a `first` that is not positive.

    Source: measured on 206 days of 45 pairs: (1 + tau / 5 min)^-0.85 and a bump at the close, nearly
    the same for every pair. Andersen and Bollerslev (1997), Intraday periodicity and volatility
    persistence in financial markets, Journal of Empirical Finance 4.

    Example:
        >>> from kfmodels import hedge_ratio_model
        >>> from kfmodels.model import Profile
        >>> model = hedge_ratio_model(intercept="none", profile=Profile(rise=1.5))
        >>> model.parameters
        ('q', 'obs_scale', 'variance_memory', 'profile_fall', 'profile_rise', 'profile_first')
    """

    fall: Scale = _FALL
    rise: Scale = _RISE
    first: Scale = _FIRST

    parameters = {  # noqa: RUF012 - never written to
        "profile_fall": -np.inf,
        "profile_rise": -np.inf,
        "profile_first": 0.0,
    }

    def __post_init__(self) -> None:
        for name, allowed in (("fall", REAL), ("rise", REAL), ("first", FACTOR)):
            given = getattr(self, name)
            if not keeps_to(f"Profile: {name}", given, allowed, "state it for one"):
                raise ValueError(
                    f"Profile: {name} is a NumPyro distribution or a number, and {allowed.words}, not "
                    f"{given!r}"
                )

    def sites(self) -> dict[str, Float[Array, ""]]:
        """Sample the constants that have a prior, record the others; called inside a model."""
        given = (self.fall, self.rise, self.first)
        return {name: site(name, one) for name, one in zip(SITES, given, strict=True)}


def check(given: object) -> None:
    """Raise unless it is a profile, or None."""
    if not isinstance(given, Profile | None):
        raise ValueError(f"profile must be Profile(...) or None, not {given!r}")


def by_row(
    profile: Profile | None,
    inputs: Inputs,
    sites: Mapping[str, Float[Array, "..."]],
    by_gap: dict[str, Float[Array, "..."]],
) -> dict[str, Float[Array, "..."]]:
    """What closed periods say of each row, its `obs_factor` multiplied by that of the profile."""
    if profile is None or inputs.day is None or inputs.session is None:
        return by_gap
    # each constant has an axis for the rows, and the session one more, for its bars
    fall, rise, first = (sites[name][..., None] for name in SITES)
    law = DayVariance.of(fall, rise, first, inputs.session[..., None, :, :], jnp)
    factor = law.factor(jnp.asarray(inputs.day), jnp)
    return by_gap | {"obs_factor": by_gap.get("obs_factor", 1.0) * factor}


def day_of(
    data: HedgeData, what: str, *, within: bool
) -> tuple[Float[np.ndarray, "time 4"], Float[np.ndarray, "bar 4"]] | None:
    """What a model reads of the time of day: of the rows, and of a whole session.

    Args:
        data: the rows.
        what: of the model goes by the time of day; empty if nothing does.
        within: whether that is for moves within the session only.

    Raises:
        ValueError: the data know of no sessions, or their rows are no such moves.
    """
    if not what:
        return None
    if data.clock is None or data.clock.sessions is None:
        why = "have no clock" if data.clock is None else "have a clock without sessions"
        raise ValueError(
            f"the model has a {what}, which goes by the time of day, but the data of {data.target} "
            f"{why}: HedgeData.from_prices(..., clock=Clock.exchange(...)), or leave it out"
        )
    if within and not data.by_session:
        raise ValueError(
            f"a tilt is of moves within the session, but the rows of {data.target} are prices: "
            'HedgeData.from_prices(..., transform="return"), or leave it out'
        )
    return data.clock.days(data.index), data.clock.session_days()


def law(
    profile: Profile | None, clock: Clock | None, sites: Mapping[str, np.ndarray]
) -> DayVariance | None:
    """The profile of online filters under draws of the sites, `(*draws)`."""
    if profile is None or clock is None:
        return None
    fall, rise, first = (sites[name] for name in SITES)
    return DayVariance.of(fall, rise, first, clock.session_days())
