"""Parts of a coefficient that come back: the spread beside the level, the day's deviation, the scales.

A coefficient of the hedge ratio model may be a sum: of what walks or stands still, and of parts that
are pulled back to 0, each with a state of its own in the recursion. To add a kind of part, subclass
`Part` as a frozen dataclass and `register` it.

One file: what a coefficient can be a sum of, and how the sums become one law.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from kfmodels._types import Array, ArrayLike, Bool, Float
from kfmodels.data.arrays import Inputs
from kfmodels.kalman.density import Z90
from kfmodels.kalman.motion import Reversion, Walk
from kfmodels.kalman.transforms import Transform
from kfmodels.model.assumptions import Assumption, Drift, Noise, RandomWalk, register
from kfmodels.model.priors import Memory, Scale
from kfmodels.model.sites import site
from kfmodels.model.supports import BARS, SCALE, keeps_to
from kfmodels.words.caller import explain_kinds

ANEW = 1e9
"""Bars that a closed period is worth to a part that begins anew with every session."""

_LN2 = float(np.log(2))

_HALF_LIFE = dist.LogNormal(float(np.log(20)), float(np.log(20)) / Z90)
_SIZE = dist.LogNormal(float(np.log(0.5)), 0.8)
_OF_THE_DAY, _DAY_SIZE = Memory(60, low=10, high=360), dist.LogNormal(float(np.log(0.1)), 1.0)
_SCALES_SIZE = dist.LogNormal(-2.0, 1.0)
"""Default priors; see the classes."""

PART_SITES = ("day_half_life", "day_size", "tilt_size", "scales_size")
"""Sites of the parts of a ratio that may be sampled, one number each."""


class Part(Assumption):
    """Assumption about a part of each hedge ratio ("beta") or of the level ("alpha") that comes back.

    `parameters` are its sites that the recursion needs, `states` how many states each coefficient has
    of it; with `anew` they begin anew, in their settled law, with every session; with `tilted` they
    count by the tilt of the time of day.
    """

    makes = Reversion
    of: ClassVar[Literal["alpha", "beta"]]
    anew: ClassVar[bool] = False
    tilted: ClassVar[bool] = False
    absent: ClassVar[Mapping[str, float]] = {}
    """What its sites are in draws of a model without it: a part without a size."""

    @property
    def doubted(self) -> bool:
        """Whether it may not be there at all, with odds of one before the data."""
        return False

    @property
    def states(self) -> int:
        return 1

    @abstractmethod
    def sites_of(self, inputs: Inputs) -> dict[str, Float[Array, "..."]]:
        """Sample what has a prior, and answer with the `parameters`; called inside a model."""

    @abstractmethod
    def settle(
        self, **parameters: Float[Array, "..."]
    ) -> tuple[Float[Array, "*draws state"], Float[Array, "*draws coef"]]:
        """Factor a bar of each state, and the variance it settles in for each coefficient.

        In inner units of the coefficients, on NumPy or JAX.
        """


def factor_of(half_life: Array) -> Array:
    """Share of a deviation that is left after a bar, of which half is gone after `half_life`."""
    return 2.0 ** (-1.0 / half_life)


def reverting_share(factor: ArrayLike, step: ArrayLike, level: ArrayLike) -> ArrayLike:
    r"""Share of the variance of a bar's move of level and spread that comes back.

    $$R^2_{MR} = \frac{2 q_s}{2 q_s + (1 + ϕ) q_α}$$

    with `step` the variance of a step of the spread and `level` that of one of the level.

    Source: Clegg and Krauss (2018), Pairs trading with partial cointegration, Quantitative Finance 18.

    Example:
        >>> round(reverting_share(0.9055, 0.2431**2, 0.0993**2), 3)  # R package partialCI
        0.863
    """
    return 2 * step / (2 * step + (1 + factor) * level)


def _half_life_prior(given: "Memory | Scale") -> "dist.Distribution | float | str":
    """A half-life said as a `Memory` is log-normal with that median and that 90 % interval."""
    if not isinstance(given, Memory):
        return given
    given.on_delta()  # raises where it counts days
    return dist.LogNormal(np.log(given.bars), np.log(given.high / given.low) / (2 * Z90))


def _check(name: str, given: Any, what: str, *, bars: bool) -> None:
    """Raise unless it is a prior on a positive number, or one; a `Memory` only where it is `bars`."""
    if bars and isinstance(given, Memory):
        return
    if not keeps_to(name, given, BARS if bars else SCALE, "state it for one"):
        raise ValueError(f"{name} is {what}: a prior or a positive number, not {given!r}")


@register
@dataclass(frozen=True)
class Reverting(Part):
    r"""A spread that comes back, beside the level: an AR(1) state with its half-life and size inferred.

    $$y_t = x_t β_t + α_t + s_t + ϵ_t, \qquad s_t = ϕ s_{t-1} + η_t, \qquad
    ϕ = 2^{-1/h}, \qquad \mathrm{Var}(s) = \frac{(\mathrm{size} · m)^2}{2 (1 - ϕ)}$$

    with m the sd of the hedged one-bar move of the training rows, so that `size` is the sd of one bar's
    change of the spread as a share of that move. The spread starts in its settled law. `fit` weighs the
    model by its evidence against the same without the spread, with odds of one before the data.

    Args:
        half_life: bars in which half of a deviation is gone: a `Memory` (log-normal with that median
            and 90 % interval), a NumPyro distribution on positive numbers, or a number. Default:
            log-normal, median 20, 90 % between 1 and 400.
        size: NumPyro distribution on positive numbers, or a number. Default: log-normal, median 0.5,
            90 % between 0.13 and 1.9.

    Raises:
        ValueError: a number that is not positive, or a prior that reaches below 0.

    Source: partial cointegration, Clegg and Krauss (2018), Pairs trading with partial cointegration,
    Quantitative Finance 18.

    Example:
        >>> from kfmodels import Discounted, Reverting, hedge_ratio_model
        >>> model = hedge_ratio_model(spread=Reverting())
        >>> model.parameters
        ('q', 'obs_scale', 'variance_memory', 'spread_half_life', 'spread_scale')
    """

    half_life: Memory | Scale = _HALF_LIFE
    size: Scale = _SIZE

    of = "alpha"
    parameters = {"spread_half_life": 0.0, "spread_scale": 0.0}  # noqa: RUF012 - never written to
    absent: ClassVar[Mapping[str, float]] = {
        "spread_half_life": 20.0,
        "spread_size": 0.5,
        "spread_scale": 0.0,
    }

    @property
    def doubted(self) -> bool:
        return True

    @explain_kinds
    def __post_init__(self) -> None:
        _check("Reverting: half_life", self.half_life, "a time in bars", bars=True)
        _check("Reverting: size", self.size, "a share of the move", bars=False)

    def sites_of(self, inputs: Inputs) -> dict[str, Float[Array, "..."]]:
        half_life = site("spread_half_life", _half_life_prior(self.half_life))
        size = site("spread_size", self.size)
        change = -2 * jnp.expm1(-_LN2 / half_life)  # 2 (1 - phi), without a loss of digits
        sd = size * inputs.typical_move / jnp.sqrt(change)
        return {
            "spread_half_life": half_life,
            "spread_scale": jnp.asarray(numpyro.deterministic("spread_scale", sd)),
        }

    def settle(
        self, spread_half_life: Float[Array, "*draws"], spread_scale: Float[Array, "*draws"]
    ) -> tuple[Float[Array, "*draws state"], Float[Array, "*draws coef"]]:
        return factor_of(spread_half_life)[..., None], spread_scale[..., None] ** 2


@register
@dataclass(frozen=True)
class OfTheDay(Part):
    r"""A deviation of the ratio for the day: begins anew with every session, comes back within it.

    $$β_t = m_t + d_t, \qquad d_t = ϕ d_{t-1} + η_t, \quad
    d ∼ N(0, (\mathrm{size} · |β|)^2) \text{ at the first row of a session}$$

    with $|β|$ the typical size of the ratio, as for `Moves`. Needs data with a clock.

    Args:
        half_life: in open bars, as for `Reverting`. Default: log-normal, median 60, 90 % between 10 and
            360.
        size: sd of a morning's deviation as a share of the ratio; a NumPyro distribution on positive
            numbers, or a number. Default: log-normal, median 0.1, 90 % between 0.02 and 0.5.
        spike: put half of the mass on no deviation at all: `fit` weighs the model by its evidence
            against the same without one, as a spread.

    Raises:
        ValueError: a number that is not positive, or a prior that reaches below 0.
    """

    half_life: Memory | Scale = _OF_THE_DAY
    size: Scale = _DAY_SIZE
    spike: bool = False

    of = "beta"
    anew = True
    parameters = {"day_half_life": 0.0, "day_sd": 0.0}  # noqa: RUF012 - never written to
    absent: ClassVar[Mapping[str, float]] = {"day_half_life": 60.0, "day_size": 0.1, "day_sd": 0.0}

    @property
    def doubted(self) -> bool:
        return self.spike

    @explain_kinds
    def __post_init__(self) -> None:
        _check("OfTheDay: half_life", self.half_life, "a time in bars", bars=True)
        _check("OfTheDay: size", self.size, "a share of the ratio", bars=False)

    def sites_of(self, inputs: Inputs) -> dict[str, Float[Array, "..."]]:
        half_life = site("day_half_life", _half_life_prior(self.half_life))
        sd = site("day_size", self.size) * _typical(inputs)
        return {
            "day_half_life": half_life,
            "day_sd": jnp.asarray(numpyro.deterministic("day_sd", sd)),
        }

    def settle(
        self, day_half_life: Float[Array, "*draws"], day_sd: Float[Array, "*draws hedge"]
    ) -> tuple[Float[Array, "*draws state"], Float[Array, "*draws coef"]]:
        return factor_of(day_half_life)[..., None], day_sd**2


@register
@dataclass(frozen=True)
class Tilt(Part):
    r"""What the ratio differs by at every open in the same way, fading within the session.

    $$β_t = m_t + γ g_t, \qquad g_t = e^{-τ_t / 60}, \qquad
    γ ∼ N(0, (\mathrm{size} · s_y / s_x)^2)$$

    with $τ$ minutes since the open and $s_y / s_x$ the sd of the target's moves over that of the
    hedge's. $γ$ stands still. The ratio to hold is that of the next bar. For returns within the
    session, of data whose clock has sessions.

    Args:
        size: sd of $γ$ as a share of $s_y / s_x$; a NumPyro distribution on positive numbers, or a
            number.

    Raises:
        ValueError: a number that is not positive, or a prior that reaches below 0.

    Source: betas spread at the open and come together within the day: Andersen, Thyrsgaard and Todorov
    (2021), Recalcitrant betas: intraday variation in the cross-sectional dispersion of systematic risk,
    Quantitative Economics 12.
    """

    size: Scale = 0.1

    of = "beta"
    tilted = True
    parameters = {"tilt_sd": 0.0}  # noqa: RUF012 - never written to

    def __post_init__(self) -> None:
        _check("Tilt: size", self.size, "a share of the ratio", bars=False)

    def sites_of(self, inputs: Inputs) -> dict[str, Float[Array, "..."]]:
        most = jnp.asarray(inputs.typical_size)
        sd = site("tilt_size", self.size) * most * jnp.asarray(inputs.scales)[..., : most.shape[-1]]
        return {"tilt_sd": jnp.asarray(numpyro.deterministic("tilt_sd", sd))}

    def settle(
        self, tilt_sd: Float[Array, "*draws hedge"]
    ) -> tuple[Float[Array, "*draws state"], Float[Array, "*draws coef"]]:
        return 1.0 + 0 * tilt_sd[..., :1], tilt_sd**2


@register
@dataclass(frozen=True)
class EachScale(Part):
    """The parts of a ratio that moves on several scales, all of one size."""

    bars: tuple[float, ...]
    size: Scale

    of = "beta"
    parameters = {"scales_sd": 0.0}  # noqa: RUF012 - never written to

    @property
    def states(self) -> int:
        return len(self.bars)

    def sites_of(self, inputs: Inputs) -> dict[str, Float[Array, "..."]]:
        sd = site("scales_size", self.size) * _typical(inputs)
        return {"scales_sd": jnp.asarray(numpyro.deterministic("scales_sd", sd))}

    def settle(
        self, scales_sd: Float[Array, "*draws hedge"]
    ) -> tuple[Float[Array, "*draws state"], Float[Array, "*draws coef"]]:
        factors = np.exp(-1 / np.asarray(self.bars)) + 0 * scales_sd[..., :1]
        return factors, scales_sd**2


@register
@dataclass(frozen=True)
class Scales(Drift):
    r"""A ratio that moves on several time scales: a sum of parts that come back, and a still one.

    $$β_t = b_\infty + ∑_k b_{k,t}, \qquad b_{k,t} = ϕ_k^{dt} b_{k,t-1} + N(0, s^2 (1 -
    ϕ_k^{2 dt})), \qquad ϕ_k = e^{-1/τ_k}$$

    One parameter, s, in units of the typical ratio, for all scales $τ_k$; the still part starts as
    `initial` says.

    Args:
        bars: the scales $τ_k$, in bars, without infinity, which is always there.
        size: prior of s: a NumPyro distribution on positive numbers, or a number. Default: log-normal,
            `log s ~ N(-2, 1)`.

    Raises:
        ValueError: no scale, one that is not positive and finite, or a size that is not positive.

    Example:
        >>> from kfmodels import Scales, hedge_ratio_model
        >>> hedge_ratio_model(drift=Scales(), intercept="none").parameters
        ('q', 'obs_scale', 'variance_memory', 'scales_sd')
    """

    bars: Sequence[float] = (2.0, 8.0, 32.0, 128.0, 512.0)
    size: Scale = _SCALES_SIZE

    makes = Reversion
    still = True

    @explain_kinds
    def __post_init__(self) -> None:
        bars = tuple(float(one) for one in self.bars)
        if not bars or not all(0 < one < np.inf for one in bars):
            raise ValueError(f"Scales: bars are positive, finite times, not {self.bars!r}")
        _check("Scales: size", self.size, "a share of the ratio", bars=False)
        object.__setattr__(self, "bars", bars)  # a model must be hashable

    def check(self, delta: Mapping[str, object]) -> None:
        if delta.get("beta") is not None:
            raise ValueError(
                'Scales moves the ratio by its own sizes: leave delta["beta"] out, or say size=...'
            )

    @property
    def parts(self) -> tuple[Part, ...]:
        return (EachScale(tuple(self.bars), self.size),)

    def law(
        self,
        q: Float[Array, "*draws coef"],
        obs_var: Float[Array, "*draws"],
        moving: Bool[np.ndarray, "coef"],
    ) -> Walk:
        return RandomWalk().law(q, obs_var, moving)

    def added(
        self, law: Walk | Reversion, cov: Float[Array, "coef coef *draws"]
    ) -> Float[Array, "coef *#draws"]:
        return RandomWalk().added(law, cov)


def _typical(inputs: Inputs) -> Float[Array, "hedge"]:
    """Typical size of each ratio, in inner units."""
    ratio = jnp.asarray(inputs.typical_ratio)
    return ratio * jnp.asarray(inputs.scales)[..., : ratio.shape[-1]]


def check_parts(
    spread: Reverting | None,
    day: OfTheDay | None,
    drift: Drift,
    tilt: Tilt | None,
    *,
    level: bool,
) -> None:
    """Raise where the parts of a model do not go together; `level` says that its intercept walks."""
    if not isinstance(spread, Reverting | None):
        raise ValueError(f"spread must be Reverting(...) or None, not {spread!r}")
    if not isinstance(day, OfTheDay | None):
        raise ValueError(f"day must be OfTheDay(...) or None, not {day!r}")
    if not isinstance(tilt, Tilt | None):
        raise ValueError(f"tilt must be Tilt(...) or None, not {tilt!r}")
    if spread is not None and not level:
        raise ValueError(
            "a spread that comes back does so to a level that walks, or else any walk of the prices "
            'would count as one: leave intercept="static" and intercept="none" out'
        )
    if (spread is not None or day is not None or tilt is not None) and drift.shared:
        raise ValueError(
            "spread, day and tilt need drift=RandomWalk() or Scales(), not "
            f"{type(drift).__name__}(), whose one memory is of all coefficients"
        )


def check_transform(
    spread: Reverting | None, noise: Noise, transform: Transform, target: str
) -> None:
    """Raise where a spread or a noise means nothing for prices that are transformed so."""
    if spread is not None and transform.needs_last:
        raise ValueError(
            f"a spread that comes back is of prices, but those of {target} are returns: "
            'use HedgeData.from_prices(..., transform="log")'
        )
    if noise.reads_moves and not transform.needs_last:
        raise ValueError(
            f"Anchored reads the moves of the hedges, but those of {target} are {transform.words}: "
            'use transform="return", or Anchored(today=0, after=0), which reads none'
        )


def place(parts: Sequence[Part], hedges: int, coefficients: int) -> tuple[int, ...]:
    """The number of the coefficient that each state of the parts belongs to, in their order."""
    found: list[int] = []
    for part in parts:
        of = [coefficients - 1] if part.of == "alpha" else list(range(hedges))
        found += [number for _ in range(part.states) for number in of]
    return tuple(found)


def join(
    walk: Walk,
    parts: Sequence[Part],
    obs_var: Float[Array, "*draws"],
    parameters: Mapping[str, Float[Array, "..."]],
) -> Reversion:
    """One law of the coefficients that walk and, after them, of the states of all parts."""
    settled = [
        part.settle(**{name: parameters[name] for name in part.parameters}) for part in parts
    ]
    n = walk.noise.shape[-1]
    states = [factor.shape[-1] * var.shape[-1] for factor, var in settled]
    total = n + sum(states)
    # products with constant matrices, as NumPy and JAX have no concatenation in common
    wide, at = np.eye(total, n), n
    factors = np.ones(total) + 0 * obs_var[..., None]
    variances = np.zeros(total) + 0 * obs_var[..., None]
    for factor, var in settled:
        for state in range(factor.shape[-1]):
            for coef in range(var.shape[-1]):
                here = np.arange(total) == at
                factors = factors + here * (factor[..., state, None] - 1)
                variances = variances + here * (var[..., coef, None] / obs_var[..., None])
                at += 1
    return Reversion(wide @ walk.noise @ wide.T, factors, np.eye(total) * variances[..., None, :])
