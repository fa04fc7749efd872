"""`Anchored`: an observation variance that comes back to an anchor, with a tail and the hedge in it."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from kfmodels._types import Array, ArrayLike, Float
from kfmodels.kalman.noise import AnchoredVariance
from kfmodels.model.assumptions import Noise, register
from kfmodels.model.priors import Memory, Scale
from kfmodels.model.sites import site
from kfmodels.model.supports import BARS, Allowed, is_number, keeps_to

LEAST_MEMORY, LEAST_TAIL = 1.0, 2.1
"""Bars, and degrees of freedom: a forecast with 2 has no variance."""

_START_WEIGHT = 10.0
"""Observations that the anchor is worth before the first row."""

_MEMORY = Memory(13.2, low=3.35, high=64)
_WEIGHT, _TAIL = dist.LogNormal(1.5, 1.0), dist.LogNormal(1.5, 1.0)
_TODAY, _AFTER = dist.LogNormal(-1.0, 1.5), dist.LogNormal(-2.0, 1.0)
"""Default priors; see the class."""

_ANCHOR_LOG_SD = 0.5
"""Prior sd of the log of the anchor's sd: a factor of 2.3 either way at 90 %."""

_MEMORY_RANGE = Allowed(
    "it is 1 bar or more", LEAST_MEMORY, np.inf, ("Memory(13, low=3, high=64)",)
)


@register
@dataclass(frozen=True)
class Anchored(Noise):
    r"""Observation variance that comes back to an anchor; a Student-t tail; the hedge's move in both.

    $$n_t = f n_{t-1} + (1 - f) n_0 + 1, \quad n_t v_t = f n_{t-1} v_{t-1} + (1 - f) n_0 v_0 +
    (1 - w) v e_t^2 / S_t + w z_t^2 v_0, \quad
    S_t = x_t^⊤ P_t x_t + v \frac{1 + g z_t^2}{1 + g}$$

    What is forgotten of old squared innovations is replaced by the anchor `v_0`, so the variance
    neither wanders off nor dies, and it learns from no more than it has seen. The forecast is Student-t
    with variance S. z is the hedge's move today over the sd of its moves in the last month and a half:
    with it the forecast is less certain (g) and the variance rises (w), but the gain has `v` alone, so
    that a large move of the hedge does not slow the ratio down. A bar moves the coefficients as far in
    a storm as in a calm. For data that are moves (`transform="return"`), most useful without an
    intercept; on prices, whose regressors are no moves, say `today=0, after=0`.

    `obs_scale` is the sd of the anchor: by default log-normal around the hedged one-bar move, log sd
    0.5.

    Args:
        memory: `1 / (1 - f)`, in bars: a `Memory`, a NumPyro distribution above 1, or a number.
            Default: median 13, 90 % between 3.4 and 64.
        weight: `n_0`, worth of the anchor in observations: a distribution or a number. Default:
            log-normal, median 4.5, log sd 1.
        tail: degrees of freedom of the forecast beyond 2.1, likewise; a large number makes it normal.
            Default: log-normal, median 4.5, log sd 1.
        today: g, likewise; 0 leaves today's move out. Default: log-normal, median 0.37, log sd 1.5.
        after: `w / (1 - w)`, likewise. Default: log-normal, median 0.14, log sd 1.

    Raises:
        ValueError: a number out of range, or a prior that reaches below.

    Source: stabilised forgetting, Kulhavy and Zarrop (1993), On a general concept of forgetting,
    International Journal of Control 58.

    Example:
        >>> from kfmodels import Anchored, Scales, hedge_ratio_model
        >>> model = hedge_ratio_model(noise=Anchored(), drift=Scales(), intercept="none")
        >>> model.parameters[2:6]
        ('anchor_memory', 'anchor_weight', 'tail_excess', 'move_today')
    """

    memory: Memory | Scale = _MEMORY
    weight: Scale = _WEIGHT
    tail: Scale = _TAIL
    today: Scale = _TODAY
    after: Scale = _AFTER

    makes = AnchoredVariance
    parameters = {  # noqa: RUF012 - never written to
        "anchor_memory": LEAST_MEMORY,
        "anchor_weight": 0.0,
        "tail_excess": 0.0,
        "move_today": 0.0,
        "move_after": 0.0,
    }
    moves = True
    steady = True
    by_hedges = True

    def __post_init__(self) -> None:
        if not isinstance(self.memory, Memory):
            _check("memory", self.memory, _MEMORY_RANGE)
        elif self.memory.low <= LEAST_MEMORY:  # raises, as it does with every prior
            self.memory.on_bars(LEAST_MEMORY)
        for name in ("weight", "tail", "today", "after"):
            _check(name, getattr(self, name), BARS)

    @property
    def reads_moves(self) -> bool:
        return not all(is_number(one) and one == 0 for one in (self.today, self.after))

    def scale_prior(self, typical_move: Float[ArrayLike, ""]) -> dist.Distribution:
        return dist.LogNormal(jnp.log(typical_move), _ANCHOR_LOG_SD)

    def sites(self) -> dict[str, Float[Array, ""]]:
        return {
            "anchor_memory": site("anchor_memory", self.memory, _above_one),
            "anchor_weight": site("anchor_weight", self.weight),
            "tail_excess": site("tail_excess", self.tail),
            "move_today": site("move_today", self.today),
            "move_after": site("move_after", self.after),
        }

    def noise(
        self,
        obs_var: Float[ArrayLike, "*draws"],
        anchor_memory: Float[ArrayLike, "*draws"],
        anchor_weight: Float[ArrayLike, "*draws"],
        tail_excess: Float[ArrayLike, "*draws"],
        move_today: Float[ArrayLike, "*draws"],
        move_after: Float[ArrayLike, "*draws"],
        hedges: Float[np.ndarray, "state"] = np.ones(1),
    ) -> AnchoredVariance:
        return AnchoredVariance(
            obs_var,
            np.full(np.shape(obs_var), _START_WEIGHT),
            anchor_weight,
            1 - 1 / anchor_memory,
            LEAST_TAIL + tail_excess,
            move_today / (1 + move_today),
            move_after / (1 + move_after),
            hedges,
        )


def _above_one(memory: Memory) -> dist.Distribution:
    return memory.on_bars(LEAST_MEMORY)


def _check(name: str, given: Any, allowed: Allowed) -> None:
    """Raise unless it is a prior within a range, or a number within it."""
    name = f"Anchored: {name}"
    if not keeps_to(name, given, allowed, "there is one variance, give it one", ends=True):
        raise ValueError(f"{name} is a prior or a number, and {allowed.words}; not {given!r}")
