"""`hedge_ratio_model`: the NumPyro model of a moving hedge ratio, coefficients integrated out.

One file: the arguments, their checks, the defaults they imply and the model are read together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from kfmodels._types import Array, ArrayLike, Bool, Float, JaxArray
from kfmodels.clock.day import TILT
from kfmodels.data.arrays import (
    Inputs,
    PairArrays,
    arrays_of,
    coordinates_of,
    first_row,
    stack_inputs,
)
from kfmodels.data.hedge_data import HedgeData
from kfmodels.kalman import motion
from kfmodels.kalman import noise as noises
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.regression import KalmanRegression
from kfmodels.kalman.transforms import Transform
from kfmodels.model import anchored as anchored  # which registers itself
from kfmodels.model import gaps as closed
from kfmodels.model import profile as profiles
from kfmodels.model.assumptions import (
    REGISTERED,
    Drift,
    Gaps,
    Noise,
    RandomWalk,
    split_delta,
    usual_noise,
)
from kfmodels.model.memory import q_to_delta, q_to_memory, q_to_state_var, told_at
from kfmodels.model.parts import (
    ANEW,
    OfTheDay,
    Part,
    Reverting,
    Tilt,
    check_parts,
    check_transform,
    join,
    place,
)
from kfmodels.model.priors import Absolute, Scale, Speed, usual_speeds
from kfmodels.model.profile import Profile
from kfmodels.model.sites import (
    check_listed,
    checked_delta,
    checked_scale,
    delta_site,
    infers_on,
    relative,
    site,
    told_of,
)
from kfmodels.model.starts import Start, Weak, flat_width
from kfmodels.words.caller import explain_kinds

Intercept = Literal["random_walk", "static", "none"]


@dataclass(frozen=True)
class HedgeRatioModel:
    """A NumPyro model, called with `HedgeData`; made by `hedge_ratio_model`, where it is explained."""

    beta_delta: Speed
    alpha_delta: Speed
    obs_scale: Scale | None
    noise: Noise
    drift: Drift
    initial: Start
    intercept: Intercept
    pivot: tuple[float, ...] | None
    gaps: Gaps | None = None
    spread: Reverting | None = None
    day: OfTheDay | None = None
    tilt: Tilt | None = None
    profile: Profile | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of coefficients that come back, each with states of its own in the recursion."""
        return tuple(
            part
            for part in (*self.drift.parts, self.tilt, self.day, self.spread)
            if part is not None
        )

    @property
    def sums_ratios(self) -> bool:
        """Whether a hedge ratio is a sum, whose parts move on where the rest stands still."""
        return any(part.of == "beta" for part in self.parts)

    def states(self, hedges: int) -> tuple[int, ...]:
        """The coefficient that each state of the parts belongs to; the coefficients' own come first."""
        return place(self.parts, hedges, hedges + (self.intercept != "none"))

    def tilted(self, hedges: int) -> tuple[int, ...]:
        """Of those states, counted among themselves, the ones that count by the tilt."""
        flags = [part.tilted for part in self.parts for _ in place([part], hedges, hedges + 1)]
        return tuple(np.flatnonzero(flags).tolist())

    @property
    def reads_day(self) -> str:
        """What of the model goes by the time of day, in a word; empty if nothing does."""
        return "tilt" if self.tilt is not None else "profile" if self.profile is not None else ""

    @property
    def doubted(self) -> str:
        """The argument whose part may not be there, which evidence decides; empty if none is."""
        each = (("spread", self.spread), ("day", self.day))
        return next((name for name, part in each if part is not None and part.doubted), "")

    @property
    def alternatives(self) -> tuple["HedgeRatioModel", ...]:
        """The model, and the same without the part that may not be there."""
        return (self, replace(self, **{self.doubted: None})) if self.doubted else (self,)

    @property
    def absent(self) -> Mapping[str, float]:
        """What the sites of that part are in draws of the alternative without it."""
        return getattr(self, self.doubted).absent if self.doubted else {}

    @property
    def bent(self) -> frozenset[str]:
        """Sites whose posterior bends with the speed of the intercept; see `ridge`."""
        moving = self.intercept == "random_walk" and not self.drift.shared
        if not moving or not infers_on(self.alpha_delta, constraints.unit_interval):
            return frozenset()
        found = {"delta_beta"} if infers_on(self.beta_delta, constraints.unit_interval) else set()
        by_default = self.obs_scale is None and (self.noise.steady or not self.noise.moves)
        if by_default or infers_on(self.obs_scale, constraints.positive):
            found.add("obs_scale")
        return frozenset(found)

    def follows(self, coefficients: int) -> Bool[np.ndarray, "coef"]:
        """True for each coefficient that stands still when the hedge ratio does."""
        hedges = coefficients - (self.intercept != "none")
        return (np.arange(coefficients) < hedges) | self.drift.shared

    def coordinates(self, data: HedgeData | PairArrays) -> Coordinates:
        """Centre and scale of the training rows."""
        found = coordinates_of(data, intercept=self.intercept != "none", pivot=self.pivot)
        hedges = len(found.pivot)
        return found._replace(parts=self.states(hedges), tilted=self.tilted(hedges))

    def inputs(self, data: HedgeData) -> Inputs:
        """The arrays of the training rows, float64, ready for `jax.jit`.

        Raises:
            ValueError: too few rows, a target that moves in exact proportion to its hedges, or
                `Gaps` of data that know of none, or a spread of returns, which have none, or an
                `Anchored` noise of prices, which are no moves.
        """
        self.check_transform(data.transform, data.target)
        day = profiles.day_of(data, self.reads_day, within=self.tilt is not None)
        made, _ = self._inputs(arrays_of(data), list(data.hedges))
        even = data.observed[0] and (data.dt[1:] == 1).all()  # the recursion then reads no times
        return made._replace(
            dt=None if even else data.dt,
            gaps=closed.counts(self.gaps, data),
            gap_unit=None if self.gaps is None else np.asarray(closed.between(data)),
            day=day and day[0],
            session=day and day[1],
        )

    def check_transform(self, transform: Transform, target: str) -> None:
        """Raise where the model means nothing for prices that are transformed so."""
        check_transform(self.spread, self.noise, transform, target)

    def without_times(self, inputs: Inputs) -> Inputs:
        """Inputs whose rows are one unit apart, without their times, which the recursion reads sooner.

        Rows added at the end are not observed, so time that passes there changes no density, and none
        passes after the `count` of rows; but a discounted state keeps its times, lest it overflow.
        """
        return inputs if self.drift.overflows else inputs._replace(dt=None)

    def without_rows(self, inputs: Inputs) -> Inputs:
        """Inputs cut to their first row, where the prior of the noise reads no more than that."""
        return inputs if self.initial.reads_rows else first_row(inputs)

    def inputs_of_pairs(
        self, pairs: Sequence[PairArrays], *, length: int | None = None
    ) -> tuple[Inputs, list[Coordinates]]:
        """`inputs` of many usable pairs of one hedge each, stacked, and the coordinates of each.

        Pairs shorter than `length`, by default the longest, are padded with unobserved rows.

        Raises:
            ValueError: the model lists a delta or a pivot for more than one hedge, it has `Gaps`, or it
                goes by the time of day.
        """
        closed.check_none(self.gaps, self.reads_day)
        each = [self._inputs(pair, ["the hedge"]) for pair in pairs]
        return stack_inputs([made for made, _ in each], length), [found for _, found in each]

    def _inputs(self, pair: PairArrays, hedges: list[str]) -> tuple[Inputs, Coordinates]:
        """The arrays of one pair in inner coordinates, `dt` written out."""
        check_listed(self.beta_delta, self.pivot, hedges)
        coordinates = self.coordinates(pair)
        mean, cov = self.initial.moments(coordinates, pair, hedges)
        design = coordinates.design(pair.x)
        rows = design[pair.observed, : len(hedges)]
        made = Inputs(
            y=np.where(pair.observed, pair.y - coordinates.offset, 0.0),
            design=np.where(pair.observed[:, None], design, 0.0),
            observed=pair.observed,
            dt=pair.dt,
            scales=coordinates.scales,
            typical_move=np.asarray(pair.move),
            typical_ratio=pair.ratio,
            typical_size=pair.size,
            start_mean=mean,
            start_cov=cov,
            told=told_of(self.beta_delta, rows, moving=self.intercept == "random_walk"),
        )
        return made, coordinates

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the sites that the recursion needs."""
        gaps = () if self.gaps is None else ("gap_bars", "gap_noise")
        more = () if self.profile is None else (self.profile,)
        parts = (self.noise, self.drift, self.initial, *self.parts, *more)
        return ("q", "obs_scale", *(name for part in parts for name in part.parameters), *gaps)

    def laws(
        self,
        *,
        q: Float[Array, "*draws coef"],
        obs_scale: Float[Array, "*draws"],
        **sites: Float[Array, "..."],
    ) -> tuple[motion.Motion, noises.Noise]:
        """Law of motion and noise of the recursion under draws of the sites, batch axes first."""
        n = q.shape[-1]
        moving = np.arange(n) < n - (self.intercept == "static")
        of_drift = {name: sites[name] for name in self.drift.parameters}
        of_noise = {name: sites[name] for name in self.noise.parameters}
        obs_var, hedges = obs_scale**2, n - (self.intercept != "none")
        if self.noise.by_hedges:
            states = np.arange(n + len(self.states(hedges)))
            of_noise["hedges"] = (states < hedges) / hedges
        drift = self.drift.law(q, obs_var, moving, **of_drift)
        if self.parts:
            assert isinstance(drift, motion.Walk)  # as `hedge_ratio_model` sees to
            drift = join(drift, self.parts, obs_var, sites)
        noise = self.noise.noise(obs_var, **of_noise)
        return drift, noises.in_fixed_units(noise) if self.drift.still else noise

    def regression(
        self,
        inputs: Inputs,
        *,
        q: Float[Array, "*draws coef"],
        obs_scale: Float[ArrayLike, "*draws"],
        **sites: Float[Array, "..."],
    ) -> KalmanRegression:
        """The series as a distribution, in inner coordinates, given the noise parameters.

        `sites` are those of `parameters`, `(*draws)` or `(*draws, gap)`.
        """
        obs_scale = jnp.asarray(obs_scale)
        of_start = {name: sites[name] for name in self.initial.parameters}
        drift, noise = self.laws(q=q, obs_scale=obs_scale, **sites)
        design, mean = jnp.asarray(inputs.design), jnp.asarray(inputs.start_mean)
        cov = self.initial.covariance(inputs, jnp.square(obs_scale), **of_start)
        of = self.states(inputs.typical_ratio.shape[-1])
        if isinstance(drift, motion.Reversion) and of:
            # each state of a part enters as its coefficient does, and starts in its settled law
            wide = jnp.eye(mean.shape[-1] + len(of), mean.shape[-1])
            own = design[..., list(of)]
            for number in self.tilted(inputs.typical_ratio.shape[-1]):
                assert inputs.day is not None  # as `inputs` sees to
                own = own.at[..., number].multiply(inputs.day[..., TILT])
            design = jnp.concatenate([design, own], -1)
            mean, cov = mean @ wide.T, wide @ cov @ wide.T
            cov = cov + drift.settled * jnp.square(obs_scale)[..., None, None]
        by_gap = closed.by_row(
            self.gaps, inputs.gaps, sites, self.anew(inputs.typical_ratio.shape[-1])
        )
        return KalmanRegression(
            design,
            mean,
            cov,
            drift,
            noise,
            observed=inputs.observed,
            dt=inputs.dt,
            count=inputs.count,
            validate_args=False,  # what is infinite or negative was refused in words
            **profiles.by_row(self.profile, inputs, sites, by_gap),
        )

    def gap_bars(
        self, bars: Float[np.ndarray, "draw gap"], hedges: int
    ) -> Float[np.ndarray, "gap *state draw"]:
        """Bars that each kind of closed period is worth, as an online filter takes them."""
        anew = self.anew(hedges)
        return bars.T if anew is None else bars.T[:, None] + anew[:, None]

    def anew(self, hedges: int) -> Float[np.ndarray, "state"] | None:
        """Bars that a closed period is worth beside its own, by state; None where all are alike."""
        if not any(part.anew for part in self.parts):
            return None
        n = hedges + (self.intercept != "none")
        each = [place([part], hedges, n) for part in self.parts]
        extra = [ANEW * part.anew for part, of in zip(self.parts, each, strict=True) for _ in of]
        return np.array([*np.zeros(n), *extra])

    def log_likelihood(
        self,
        inputs: Inputs,
        *,
        obs_scale: Float[ArrayLike, "*draws"],
        **noise: Float[Array, "..."],
    ) -> Float[JaxArray, "*draws"]:
        """Log density of the observed rows given the noise, as `regression` takes it, of all draws."""
        series = self.regression(inputs, obs_scale=obs_scale, **noise)
        density = series.log_prob(inputs.y)
        if self.initial.flat:
            density = density + flat_width(inputs, jnp.square(obs_scale))
        return density

    def __call__(self, data: HedgeData | Inputs) -> None:
        inputs = self.inputs(data) if isinstance(data, HedgeData) else data
        usual = self.noise.scale_prior(jnp.asarray(inputs.typical_move))
        obs_scale = site("obs_scale", usual if self.obs_scale is None else self.obs_scale)
        more = self.noise.sites() | self.drift.sites() | self.initial.sites(inputs)
        for part in self.parts:
            more |= part.sites_of(inputs)
        obs_var = jnp.square(obs_scale)
        numpyro.deterministic("obs_var", obs_var)
        q = self._q(inputs, obs_var)
        numpyro.deterministic("q", q)
        numpyro.deterministic("delta", q_to_delta(q))
        numpyro.deterministic("memory", q_to_memory(q))
        numpyro.deterministic("state_var", q * obs_var / inputs.scales**2)
        more |= closed.sites(self.gaps, inputs.gaps, inputs.gap_unit)
        more |= {} if self.profile is None else self.profile.sites()
        if self.initial.flat:
            numpyro.factor("diffuse", flat_width(inputs, obs_var))
        series = self.regression(inputs, q=q, obs_scale=obs_scale, **more)
        numpyro.sample("y", series, obs=inputs.y)

    def settled_var(
        self,
        inputs: Inputs,
        obs_var: Float[ArrayLike, "*#draws"],
        q_alpha: Float[ArrayLike, "*#draws"],
    ) -> Float[ArrayLike, "*draws"]:
        """The observation variance that a `Moves` prior is relative to."""
        if self.noise.steady or not self.noise.moves:
            return obs_var
        # obs_var is only where a moving variance starts: take what a typical one-bar move leaves to it
        # beside an intercept of that speed
        return jnp.square(inputs.typical_move) / (1 + q_to_state_var(q_alpha))

    def _q(self, inputs: Inputs, obs_var: Float[Array, ""]) -> Float[Array, "coef"]:
        """Signal-to-noise ratio per coefficient; samples what has a prior."""
        hedges = inputs.design.shape[-1] - (self.intercept != "none")
        shared = self.drift.shared
        moving = self.intercept == "random_walk" and not shared
        # the intercept first: a `Moves` prior on the ratio depends on the intercept's speed
        one = jnp.zeros(1)
        level = delta_site("delta_alpha", self.alpha_delta, (), one) if moving else one[0]
        q_level = relative(level[None], self.alpha_delta, jnp.ones(1), obs_var)
        settled = self.settled_var(inputs, obs_var, q_level[0])
        unit = jnp.square(inputs.typical_ratio * inputs.scales[:hedges]) / settled
        told = told_at(inputs.told, q_level[0], jnp)
        beta = delta_site("delta_beta", self.beta_delta, () if shared else (hedges,), unit, told)
        beta = jnp.broadcast_to(beta, (hedges,))
        parts = [relative(beta, self.beta_delta, inputs.scales[:hedges], obs_var)]
        if self.intercept == "static":
            parts.append(jnp.zeros(1))
        elif self.intercept != "none":
            parts.append(
                relative(beta[:1], self.beta_delta, jnp.ones(1), obs_var) if shared else q_level
            )
        return jnp.concatenate(parts)


@explain_kinds
def hedge_ratio_model(
    *,
    delta: Speed | Mapping[str, Speed] | None = None,
    obs_scale: Scale | None = None,
    noise: Noise | None = None,
    drift: Drift = RandomWalk(),
    initial: Start = Weak(),
    intercept: Intercept = "random_walk",
    pivot: float | Sequence[float] | None = None,
    gaps: Gaps | None = None,
    spread: Reverting | None = None,
    day: OfTheDay | None = None,
    tilt: Tilt | None = None,
    profile: Profile | None = None,
) -> HedgeRatioModel:
    r"""A NumPyro model of a hedge ratio that moves, with priors on how fast it does.

    $$y_t = x_t β_t + α_t + ϵ_t, \quad
    θ_t = θ_{t-1} + w_t, \quad
    \mathrm{Var}(w_j) = q_j \, v / \overline{(x_j - \mathrm{pivot}_j)^2}, \quad
    q = δ / (1 - δ)$$

    `q` is a signal-to-noise ratio without units, so the same prior serves dollars, log prices, and
    both sides of a split.

    Args:
        delta: how fast each coefficient moves: a `Memory`, `Moves` (hedge ratios only), `Horseshoe`,
            NumPyro distribution on (0, 1), number, or `Absolute(...)`; a dict gives "beta" and
            "alpha" one each ("beta" may list a number per hedge). Default: a memory of 60 bars (90 %:
            5 to 700), beside an intercept that moves of 6 (1.1 to 100), of which the intercept's own
            is 2 (up to 40).
        obs_scale: prior or value of the sd of the observation noise, or of where it starts, in units
            of the transformed target. Default: log-normal around half the sd of the one-bar hedged
            move; fixed there where the noise moves.
        noise: `Discounted(memory)`, `Constant()` or `Anchored()`. Default: `Discounted()`, as real
            variance moves; `Constant()` where `obs_scale` or an `Absolute` delta speak of one sd.
        drift: `RandomWalk()`, `StateDiscount()`, or `Scales()`, a ratio on several time scales.
        initial: `Weak()`, `Few(legs)`, `Known(mean, cov)`, `Diffuse()` or `Zero()`.
        intercept: "random_walk", "static" or "none".
        pivot: where the regressors are centred; default their training mean.
        gaps: `Gaps(bars, noise)`: what closed periods are worth, of data that have a clock.
        spread: `Reverting()`: a spread that comes back, beside a level that walks. The defaults of
            delta are then wider, so that with it or without it the same level and ratio are possible.
        day: `OfTheDay()`: a deviation of the ratio that begins anew with every session.
        tilt: `Tilt()`: what the ratio differs by at every open, fading within the session.
        profile: `Profile()`: how the observation variance depends on the time of day.

    Returns:
        A model to be passed to `fit`, or called with `HedgeData` inside NumPyro.

    Raises:
        ValueError: an argument is not what it may be; the message says what is allowed.

    Source: West and Harrison (1997), chapters 4, 6 and 10; the relative state noise: Palomar (2025),
    Portfolio Optimization, section 15.6.

    Example:
        >>> from kfmodels import Memory, hedge_ratio_model
        >>> model = hedge_ratio_model(delta={"beta": Memory(60, low=15, high=250)})
        >>> model.noise.memory.bars
        20
    """
    if intercept not in ("random_walk", "static", "none"):
        raise ValueError(f'intercept must be "random_walk", "static" or "none", not {intercept!r}')
    if intercept == "none" and pivot not in (None, 0):
        raise ValueError("without an intercept the regressors cannot be centred: use pivot=0")
    if isinstance(pivot, dist.Distribution):
        raise ValueError("pivot is where the regressors are centred: numbers, not a distribution")
    noise = usual_noise(delta, obs_scale) if noise is None else noise
    each = (noise, Noise, "noise"), (drift, Drift, "drift"), (initial, Start, "initial")
    for value, kind, name in each:
        if not isinstance(value, kind):
            allowed = [f"{k}(...)" for k, one in REGISTERED.items() if issubclass(one, kind)]
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    if not (gaps is None or isinstance(gaps, Gaps)):
        raise ValueError(f"gaps must be Gaps(bars=..., noise=...) or None, not {gaps!r}")
    profiles.check(profile)
    check_parts(spread, day, drift, tilt, level=intercept == "random_walk")
    if day is not None and gaps is None:
        gaps = Gaps(bars=0.0)  # the sessions are counted, and a night moves nothing else
    beta, alpha = split_delta(delta, intercept, drift)
    absolute = isinstance(beta, Absolute) or isinstance(alpha, Absolute)
    if absolute and (noise.moves or drift.shared):
        raise ValueError(
            "an Absolute delta needs Constant noise and RandomWalk drift: the others know the state "
            "noise only relative to the observation noise"
        )
    alone = intercept != "random_walk" or drift.shared
    usual, level = usual_speeds(alone=alone, spread=spread is not None, still=drift.still)
    return HedgeRatioModel(
        beta_delta=usual if beta is None else checked_delta(beta, "beta"),
        alpha_delta=level if alpha is None else checked_delta(alpha, "alpha"),
        obs_scale=checked_scale(obs_scale),
        noise=noise,
        drift=drift,
        initial=initial,
        intercept=intercept,
        pivot=tuple(np.atleast_1d(pivot).tolist()) if pivot is not None else None,
        gaps=gaps,
        spread=spread,
        day=day,
        tilt=tilt,
        profile=profile,
    )
