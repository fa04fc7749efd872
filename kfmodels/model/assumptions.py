"""Assumptions about noise, drift and closed periods, as small validated objects.

To add a noise or a drift, subclass `Noise` or `Drift` as a frozen dataclass and `register` it: fits,
files and filters ask the class for all they need. It makes an object of `kalman.noise` or of
`kalman.motion`, which may be a class of your own too. If your noise carries an object of its own class
from row to row, register that class with `kfmodels.files.documents.register`.

One file: what a user can assume about the rows, and the interface that these assumptions share.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from kfmodels._types import Array, ArrayLike, Bool, Float
from kfmodels.files import documents
from kfmodels.kalman import noise as noises
from kfmodels.kalman.motion import Discount, Motion, Reversion, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance
from kfmodels.model.memory import LEAST_VARIANCE_MEMORY, q_to_gain
from kfmodels.model.priors import (
    EXPECTED_NOISE_SHARE,
    NOISE_LOG_SD,
    VARIANCE_MEMORY,
    Absolute,
    Memory,
    Moves,
    Scale,
    Speed,
)
from kfmodels.model.sites import site
from kfmodels.model.supports import (
    BARS,
    FACTOR,
    check_one,
    check_prior,
    is_number,
    variance_memory,
)
from kfmodels.words.caller import explain_kinds

REGISTERED: dict[str, type] = {}
"""Classes that a saved model may refer to, by name."""


def register[Kind: type](kind: Kind) -> Kind:
    """Make an assumption known to fits, files and filters by its name; a class decorator."""
    REGISTERED[kind.__name__] = kind
    if issubclass(kind, Assumption):
        documents.register(kind.makes)
    return kind


def parameters() -> dict[str, float]:
    """Sites of all registered noises, drifts and starts, each with its lower bound."""
    found = {}
    for kind in REGISTERED.values():
        found |= getattr(kind, "parameters", {})  # closed periods have none
    return found


def least(site: str) -> float:
    """Lower bound of a site of the noise, which is subtracted before its logarithm is taken."""
    return parameters().get(site, 0.0)


def is_bounded(site: str) -> bool:
    """Whether a site of the noise has a lower bound; a few may be any number."""
    return least(site) > -np.inf


class Assumption(ABC):
    """What noises and drifts have in common.

    `makes` is the class of the recursion that it is turned into; `parameters` are its sites beside
    `delta` and `obs_scale`, each with its lower bound.
    """

    makes: ClassVar[type]
    parameters: ClassVar[Mapping[str, float]] = {}

    def sites(self) -> dict[str, Float[Array, ""]]:
        """Sample the parameters that have a prior, record the others; called inside a model."""
        return {}


class Noise(Assumption):
    """Assumption about the observation variance.

    Where `moves` is True the variance follows the data, and `obs_scale` is only its start, unless it is
    `steady`: then what a bar moves the coefficients by is relative to that start for good. With
    `by_hedges` it is told the share of each state in the size of the hedges, `hedges (state,)`, whose
    regressors must be moves where it `reads_moves`.
    """

    moves: ClassVar[bool] = False
    steady: ClassVar[bool] = False
    by_hedges: ClassVar[bool] = False

    @property
    def reads_moves(self) -> bool:
        return False

    def scale_prior(self, typical_move: Float[ArrayLike, ""]) -> Any:
        """Default prior of `obs_scale`, or its value, given the sd of a hedged one-bar move."""
        guess = EXPECTED_NOISE_SHARE * typical_move
        return guess if self.moves else dist.LogNormal(jnp.log(guess), NOISE_LOG_SD)

    @abstractmethod
    def noise(
        self, obs_var: Float[ArrayLike, "*draws"], **parameters: Float[ArrayLike, "*draws"]
    ) -> noises.Noise:
        """The noise of the recursion under draws `(*draws)` of the parameters, on NumPy or JAX."""


class Drift(Assumption):
    """Assumption about how the coefficients move.

    Where `shared` is True one delta drives every coefficient that moves; where `still` is True none
    drives the ratio, which moves by its `parts` (see `kfmodels.model.parts`), and the steps of all
    coefficients do not grow with an observation variance that moves. Where `overflows` is True, the
    covariance exceeds the largest float after hundreds of rows without an observation.
    """

    shared: ClassVar[bool] = False
    still: ClassVar[bool] = False
    overflows: ClassVar[bool] = False

    @property
    def parts(self) -> tuple[Any, ...]:
        return ()

    def check(self, delta: Mapping[str, object]) -> None:
        """Raise where a delta, by "beta" and "alpha" as the user gave it, means nothing here."""

    @abstractmethod
    def law(
        self,
        q: Float[Array, "*draws coef"],
        obs_var: Float[Array, "*draws"],
        moving: Bool[np.ndarray, "coef"],
        **parameters: Float[Array, "*draws"],
    ) -> Motion:
        """The law of motion under draws, on NumPy or JAX, batch axes first.

        `q (*draws, coef)` is the state variance over `obs_var (*draws)`; `moving (coef)` is False for
        an intercept that stands still.
        """

    def added(
        self, law: Motion, cov: Float[Array, "coef coef *draws"]
    ) -> Float[Array, "coef *draws"]:
        """Variance that one bar adds to each coefficient, relative, `(coef, *draws)`."""
        return _diagonal(law.widen(cov, 1.0)) - _diagonal(cov)


def _diagonal(cov: Float[Array, "coef coef *draws"]) -> Float[Array, "coef *draws"]:
    each = np.arange(len(cov))
    return cov[each, each]


def split_delta(
    delta: Speed | Mapping[str, Speed] | None, intercept: str, drift: Drift
) -> tuple[Speed | None, Speed | None]:
    """The deltas of beta and alpha as they were given; None where a default is meant."""
    moves = intercept == "random_walk"
    if not isinstance(delta, Mapping):
        drift.check({"beta": delta})
        return delta, delta if moves else None
    unknown = set(delta) - {"beta", "alpha"}
    if unknown:
        raise ValueError(f'delta has the keys "beta" and "alpha", not {sorted(unknown)}')
    if not moves and "alpha" in delta:
        raise ValueError(
            f'delta["alpha"] has no meaning with intercept="{intercept}": leave it out'
        )
    drift.check(delta)
    return delta.get("beta"), delta.get("alpha")


@register
@dataclass(frozen=True)
class Constant(Noise):
    """Observation noise of constant variance, which is inferred (`obs_scale`)."""

    makes = ConstantVariance

    def noise(self, obs_var: Float[ArrayLike, "*draws"]) -> ConstantVariance:
        return ConstantVariance(obs_var)


@register
@dataclass(frozen=True)
class Discounted(Noise):
    """Observation variance that follows the recent squared innovations, with inferred memory.

    West and Harrison (1997), section 10.8: the weight of a squared innovation fades by
    `1 - 1 / memory` a bar; forecasts are Student-t. `obs_scale` is only where it starts, worth `dof`
    observations.

    Args:
        memory: a `Memory` prior, a NumPyro distribution on bars, or a number of bars; above 4, so
            that a forecast keeps 3 degrees of freedom.
        dof: weight of the start, in observations.
    """

    memory: Memory | Scale = VARIANCE_MEMORY
    dof: float = 4.0

    makes = DiscountedVariance
    parameters = {"variance_memory": LEAST_VARIANCE_MEMORY}  # noqa: RUF012 - never written to
    moves = True

    @explain_kinds
    def __post_init__(self) -> None:
        if isinstance(self.memory, Memory):
            if self.memory.unit == "bars":
                self.memory.on_bars()
        elif isinstance(self.memory, dist.Distribution):
            allowed = variance_memory(LEAST_VARIANCE_MEMORY)
            check_prior("Discounted: memory", self.memory, allowed)
            check_one("Discounted: memory", self.memory, "there is one variance, give it one")
        elif not (
            isinstance(self.memory, str)
            or (is_number(self.memory) and self.memory > LEAST_VARIANCE_MEMORY)
        ):
            raise ValueError(
                f"Discounted: memory must be above {LEAST_VARIANCE_MEMORY:g} bars, so that "
                f"a forecast keeps 3 degrees of freedom, not {self.memory}"
            )
        if not (is_number(self.dof) and self.dof > 0):
            raise ValueError(f"Discounted: dof must be a positive number, not {self.dof}")

    def sites(self) -> dict[str, Float[Array, ""]]:
        return {"variance_memory": site("variance_memory", self.memory, Memory.on_bars)}

    def noise(
        self, obs_var: Float[ArrayLike, "*draws"], variance_memory: Float[ArrayLike, "*draws"]
    ) -> DiscountedVariance:
        weight = np.full(np.shape(obs_var), float(self.dof))
        return DiscountedVariance(obs_var, weight, 1 - 1 / variance_memory)


@register
@dataclass(frozen=True)
class RandomWalk(Drift):
    """Coefficients that take independent Gaussian steps, at the speed `delta` of each."""

    makes = Walk

    def law(
        self,
        q: Float[Array, "*draws coef"],
        obs_var: Float[Array, "*draws"],
        moving: Bool[np.ndarray, "coef"],
    ) -> Walk:
        # through the units of y and back: the detour decides the last bit, which samplers amplify, so
        # without it the same seed would no longer give the same draws
        state_var = q * obs_var[..., None]
        return Walk(np.eye(len(moving)) * state_var[..., None, :] / obs_var[..., None, None])

    def added(
        self, law: Walk | Reversion, cov: Float[Array, "coef coef *draws"]
    ) -> Float[Array, "coef *#draws"]:
        return _diagonal(law.noise)  # the difference of two covariances would lose its digits


def usual_noise(delta: Speed | Mapping[str, Speed] | None, obs_scale: Scale | None) -> Noise:
    """The noise where none is named: one that moves, unless what is said is of one sd.

    On 28 pairs of funds the variance that moves forecasts better on every one, on simulated pairs of
    constant variance hardly worse: `python -m tests.benchmarks noise`.
    """
    each = delta.values() if isinstance(delta, Mapping) else (delta,)
    of_one = obs_scale is not None or any(isinstance(one, Absolute) for one in each)
    return Constant() if of_one else Discounted()


@register
@dataclass(frozen=True)
class StateDiscount(Drift):
    """Coefficients whose information fades: predicted cov = cov / (1 - 1 / memory)**dt.

    One memory for all that moves; `delta["beta"]` is its prior. West and Harrison (1997), section
    6.3.
    """

    makes = Discount
    shared = True
    overflows = True

    def check(self, delta: Mapping[str, object]) -> None:
        if "alpha" in delta:
            raise ValueError(
                'StateDiscount has one memory for all that moves: give delta["beta"] only'
            )
        if isinstance(delta.get("beta"), Moves):
            raise ValueError(
                "StateDiscount has one memory for all that moves: say it as Memory(...), not as "
                "Moves(...)"
            )
        if getattr(delta.get("beta"), "effective", False):
            raise ValueError(
                "StateDiscount has one memory for all that moves, so that it is the effective one too: "
                "leave effective out"
            )

    def law(
        self,
        q: Float[Array, "*draws coef"],
        obs_var: Float[Array, "*draws"],
        moving: Bool[np.ndarray, "coef"],
    ) -> Discount:
        return Discount(1 - q_to_gain(q[..., 0]), np.outer(moving, moving).astype(float))

    def added(
        self, law: Discount, cov: Float[Array, "coef coef *draws"]
    ) -> Float[Array, "coef *draws"]:
        return _diagonal(cov) * _diagonal(law.moving) * (1 / law.factor - 1)


Multiplier = (
    dist.Distribution
    | float
    | Mapping[str, dist.Distribution | float]
    | tuple[tuple[str, dist.Distribution | float], ...]
)
"""The worth of one closed period, the same for all kinds or by kind."""


@register
@dataclass(frozen=True)
class Gaps:
    r"""The effect of a closed period between two rows: one night, one weekend, one break at noon.

    $$\mathrm{Var}(w_t) ∝ dt_t + ∑_g n_{tg} \, \mathrm{bars}_g, \qquad
    \mathrm{Var}(ϵ_t) ∝ ∏_g \mathrm{noise}_g^{n_{tg}}$$

    with `dt` bars of open time and `n` closed periods of kind g crossed just before the row; with
    `StateDiscount` that time is the power of the discount. The weight of old squared innovations
    (`Discounted`) fades in open time alone.

    Args:
        bars: the open bars that one closed period moves the coefficients by. A NumPyro distribution on
            positive numbers (each kind its own draw), a number (0: it does not move them), or a dict by
            kind. Default: log-normal, median 0.3 times the open bars between two closed periods,
            log sd 1.5 (90 %: 12 times less to 12 times more); see `GAP_SHARE`.
        noise: the factor on the observation variance of the first row after one closed period, given
            likewise. Default: 1. Returns have their whole overnight move in that one row: infer it.

    Raises:
        ValueError: a number out of range, a prior that reaches below 0 or has a shape of its own, a
            dict without a kind, or two dicts of different kinds.

    Source: the effective length of closed time: French and Roll (1986), Stock return variances,
    Journal of Financial Economics 17; Hansen and Lunde (2005), A realized variance for the whole day,
    Journal of Financial Econometrics 3.

    Example:
        >>> import numpyro.distributions as dist
        >>> Gaps(bars={"overnight": dist.LogNormal(4.0, 1.0), "weekend": 90}).kinds
        ('overnight', 'weekend')
    """

    bars: Multiplier | None = None
    noise: Multiplier = 1.0

    @explain_kinds
    def __post_init__(self) -> None:
        for name in ("bars", "noise"):
            given = getattr(self, name)
            if isinstance(given, Mapping):
                given = tuple(
                    given.items()
                )  # a model must be hashable to be a static argument of jit
            if given == ():
                raise ValueError(f"Gaps: the dict of {name} names no kind of closed period")
            listed = given if isinstance(given, tuple) else (("", given),)
            for kind, one in listed:
                if one is not None or kind or name == "noise":
                    _check_multiplier(f"{name} of {kind}" if kind else name, one, name == "noise")
            object.__setattr__(self, name, given)
        if isinstance(self.bars, tuple) and isinstance(self.noise, tuple):
            bars, noise = dict(self.bars), dict(self.noise)
            if bars.keys() != noise.keys():
                raise ValueError(
                    f"Gaps: bars is given for {', '.join(bars)}, noise for {', '.join(noise)}: "
                    "name the same kinds in both"
                )
            object.__setattr__(self, "noise", tuple((kind, noise[kind]) for kind in bars))

    @property
    def kinds(self) -> tuple[str, ...] | None:
        """The kinds named in a dict, in their order; None where all are alike."""
        for given in (self.bars, self.noise):
            if isinstance(given, tuple):
                return tuple(str(kind) for kind, _ in given)
        return None


def _check_multiplier(name: str, given: Any, positive: bool) -> None:
    """Raise unless it is a prior on positive numbers, or such a number."""
    least = "positive" if positive else "0 or more"
    if not isinstance(given, dist.Distribution):
        if not is_number(given) or not (0 < given < np.inf or (not positive and given == 0)):
            raise ValueError(
                f"Gaps: {name} is a NumPyro distribution or a number, {least}, not {given!r}"
            )
        return
    check_prior(f"Gaps: {name}", given, FACTOR if positive else BARS)
    by_kind = 'state it for one closed period, or by kind, {"overnight": ..., "weekend": ...}'
    check_one(f"Gaps: {name}", given, by_kind)
