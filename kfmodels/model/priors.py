r"""Priors on how fast a hedge ratio moves: stated as memory or as moves, the horseshoe, the defaults.

`delta` and the signal-to-noise ratio `q` are those of `kfmodels.model.memory`.

One file: the ways to say a prior, and the defaults that are said in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints, transforms

from kfmodels._types import Array, ArrayLike, Float
from kfmodels.kalman.density import Z90
from kfmodels.model.memory import LEAST_VARIANCE_MEMORY, memory_to_q

MEDIAN = 0.344276716
"""Median of `(z l)^2`, z standard normal and l standard half-Cauchy."""

_TERMS = 40
"""Depth of the continued fraction: ten digits at x = 1, where it is worst."""


class LogSquaredHorseshoe(dist.Distribution):
    r"""Distribution of `log s^2` where `s = z l`, z standard normal and l standard half-Cauchy.

    $$p(s) = (2 π^3)^{-1/2} e^{s^2 / 2} E_1(s^2 / 2)$$

    Unbounded density at s = 0, tails like those of a Cauchy. Support: the real line.

    Source: Carvalho, Polson and Scott (2010), The horseshoe estimator for sparse signals, Biometrika
    97; it is the triple gamma prior with a = c = 1/2: Cadonna, Fruhwirth-Schnatter and Knaus (2020),
    Triple the gamma, Econometrics 8.

    Example:
        >>> float(LogSquaredHorseshoe().log_prob(0.0)).__round__(4)
        -2.1439
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support: ClassVar[constraints.Constraint] = constraints.real  # pyright: ignore

    def __init__(self, *, validate_args: bool | None = None) -> None:
        super().__init__((), (), validate_args=validate_args)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*draws"]:
        """Draws of `log s^2`."""
        one, other = jax.random.split(key)
        normal = jnp.abs(jax.random.normal(one, sample_shape))
        cauchy = jnp.abs(jax.random.cauchy(other, sample_shape))
        return 2 * (jnp.log(normal) + jnp.log(cauchy))

    def log_prob(self, value: Float[ArrayLike, "*draws"]) -> Float[Array, "*draws"]:
        """Log density at `log s^2`."""
        return -0.5 * jnp.log(2 * jnp.pi**3) + _log_scaled_e1(value - jnp.log(2.0)) + value / 2


def _log_scaled_e1(log_x: Float[Array, "*draws"]) -> Float[Array, "*draws"]:
    """log(e^x E1(x)) at x = e^log_x: the power series below 1, a continued fraction above."""
    # `where` differentiates both branches: each sees an argument it can take, or the gradient is NaN
    under = jnp.minimum(log_x, 0.0)
    x = jnp.exp(under)
    term, total = x, x
    for k in range(2, 20):  # the last term is 1 / (19 * 19!) at most, 4e-19
        term = -term * x * (k - 1) / (k * k)
        total = total + term
    small = jnp.log(-jnp.euler_gamma - under + total) + x
    x = jnp.exp(jnp.clip(log_x, -1.0, 60.0))  # a tie at 0 would halve the gradient there
    tail = x
    for k in range(_TERMS, 0, -1):
        tail = x + k / (1 + k / tail)
    # beyond e^60 it is 1 / x to the last digit
    return jnp.where(log_x < 0, small, jnp.where(log_x < 60, -jnp.log(tail), -log_x))


def are_real(*given: object) -> bool:
    """Whether all are real numbers, which can be compared with others."""
    return all(isinstance(one, Real) for one in given)


def _check_unit(prior: "Memory | Moves") -> None:
    if not (isinstance(prior.unit, str) and prior.unit in ("bars", "days")):
        name = type(prior).__name__
        raise ValueError(f'{name} counts unit="bars" or unit="days", not {prior.unit!r}')


def _check_counted(prior: "Memory | Moves") -> None:
    if prior.unit != "bars":
        raise ValueError(
            f"{prior} counts days: fit makes bars of them, by its data; elsewhere call "
            "kfmodels.model.in_bars(model, data)"
        )


@dataclass(frozen=True)
class Memory:
    r"""A prior on a memory: about `bars`, 90 % between `low` and `high`.

    `bars` is the median; the normal distribution on `log q` with that median is as wide as `low` and
    `high` are apart (on `log(bars - 4)` for the memory of a variance, which is never shorter than 4).
    With `unit="days"` all three count days: `fit` makes bars of them, a day as many as the longest
    session of the clock has (without a clock: as the rows have, by their dates).

    With `effective=True` they are bars that a hedge ratio is learnt over beside the intercept and the
    other hedges, the `effective_memory` of `HedgeFit.summary`, which is what a desk means: beside an
    intercept that follows the price a ratio learns only from the moves of its hedge. Then, with the
    steady gain g of the intercept and D the mean square of what a filter of that gain leaves of the
    regressor (given the other hedges, over its own mean square),

    $$\log q ∼ N\big(\log q(\mathrm{bars}) - \log(D(g) (1 - g)), \; \mathrm{sd}^2\big)$$

    That is right to within a factor of two for one hedge beside an intercept that moves, at the end of
    the rows. Hedges that move alike learn from the same rows, and prices without an intercept from
    their level: over many times as many. `effective_memory` says what came of it.

    Raises:
        ValueError: unless `1 < low < bars < high`, of days `0 < low < bars < high`; another unit.

    Example:
        >>> prior = Memory(60, low=15, high=250)
        >>> prior.on_delta().event_shape
        ()
        >>> round(prior.log_q_sd, 2)
        1.73
    """

    bars: float
    low: float
    high: float
    unit: str = "bars"
    effective: bool = False

    def __post_init__(self) -> None:
        _check_unit(self)
        if not isinstance(self.effective, bool):
            raise ValueError(f"Memory: effective is True or False, not {self.effective!r}")
        numbers, least = are_real(self.low, self.bars, self.high), float(self.unit == "bars")
        if not (numbers and least < self.low < self.bars < self.high < np.inf):
            raise ValueError(
                f"Memory needs {least:g} < low < bars < high (finite), in {self.unit}; got "
                f"low={self.low!r}, bars={self.bars!r}, high={self.high!r}"
            )

    def in_bars(self, day: float) -> "Memory":
        """The same in bars, of which a day has so many.

        Example:
            >>> Memory(4, low=0.5, high=32, unit="days").in_bars(78)
            Memory(bars=312, low=39.0, high=2496, unit='bars', effective=False)
        """
        if self.unit == "bars":
            return self
        bars, low, high = (one * day for one in (self.bars, self.low, self.high))
        return replace(self, bars=bars, low=low, high=high, unit="bars")

    @property
    def log_q_sd(self) -> float:
        """Standard deviation of `log q`."""
        ends = np.log([memory_to_q(self.low), memory_to_q(self.high)])
        return float(ends[0] - ends[1]) / (2 * Z90)

    def on_delta(self, told: Float[Array, "*hedge"] | None = None) -> dist.Distribution:
        """The prior on delta: logit(delta) = log q is normal.

        Args:
            told: D(g) (1 - g), for an effective memory.
        """
        _check_counted(self)
        centre = float(np.log(memory_to_q(self.bars)))
        if self.effective:
            if told is None:
                raise ValueError(
                    "an effective memory is that of a hedge ratio, to be given as "
                    'delta={"beta": ...}: leave effective out elsewhere'
                )
            centre = centre - jnp.log(told)
        return dist.TransformedDistribution(
            dist.Normal(centre, self.log_q_sd), transforms.SigmoidTransform()
        )

    def on_bars(self, least: float = LEAST_VARIANCE_MEMORY) -> dist.Distribution:
        """The prior on the memory of a variance: log(memory - least) is normal.

        Raises:
            ValueError: `low` is not above the least, 4 bars of a variance that fades.
        """
        _check_counted(self)
        if self.effective:
            raise ValueError("effective is said of the memory of a hedge ratio, not of a variance")
        if not self.low > least:
            raise ValueError(
                f"the memory of a variance lies above {least:g} bars, where its forecasts have a "
                f"variance; raise low={self.low}"
            )
        width = float(np.log((self.high - least) / (self.low - least))) / (2 * Z90)
        return dist.TransformedDistribution(
            dist.Normal(float(np.log(self.bars - least)), width),
            [
                transforms.ExpTransform(),
                transforms.AffineTransform(least, 1.0, domain=constraints.positive),
            ],
        )


@dataclass(frozen=True)
class Moves:
    r"""A prior on how far a hedge ratio moves: about `share` of itself in `bars` days, or bars.

    $$\log q ∼ N\big(2 \log(\mathrm{share} · |β| \, s) - \log(\mathrm{bars} · v), \;
    (2 \log(\mathrm{high} / \mathrm{low}) / 3.29)^2\big)$$

    The sd of the move has the median `share`; the log-normal with that median is as wide as a 90 %
    interval from `low` to `high`. The ratio's own size `|beta|` is that of least squares
    on changes over the training rows (with its standard error, so that it is never 0), `s` the root
    mean square of the centred regressor and `v` the observation variance that is inferred beside it
    (with `Discounted` noise: what a typical one-bar move leaves of it beside the intercept). `bars`
    counts days of trading unless `unit="bars"`: 21 are a month of daily rows, of weekly ones and of
    minutes alike. For hedge ratios only, with `RandomWalk` drift.

    Raises:
        ValueError: unless `0 < low < share < high` and `bars > 0`; a share of 1 and more, as of per
            cents; another unit.

    Example:
        >>> Moves(0.05, low=0.01, high=0.2)  # "beta moves about 5 % in a month"
        Moves(share=0.05, low=0.01, high=0.2, bars=21, unit='days')
    """

    share: float
    low: float
    high: float
    bars: float = 21
    unit: str = "days"

    def __post_init__(self) -> None:
        _check_unit(self)
        numbers = are_real(self.low, self.share, self.high)
        if not (numbers and 0 < self.low < self.share < self.high < np.inf):
            raise ValueError(
                "Moves needs 0 < low < share < high (finite), as shares of the ratio itself (0.05 is "
                f"5 %); got low={self.low!r}, share={self.share!r}, high={self.high!r}"
            )
        if not (are_real(self.bars) and 0 < self.bars < np.inf):
            raise ValueError(f"Moves: bars must be positive, not {self.bars!r}")
        if self.share >= 1:
            low, share, high = (f"{one / 100:g}" for one in (self.low, self.share, self.high))
            raise ValueError(
                f"Moves({self.share:g}) is a ratio that moves by {self.share:.0%} of itself in "
                f"{self.bars:g} {self.unit}: it takes shares below 1; for {self.share:g} % say "
                f"Moves({share}, low={low}, high={high}); if it does, say it of fewer bars=..."
            )

    def in_bars(self, day: float) -> "Moves":
        """The same in bars, of which a day has so many.

        Example:
            >>> Moves(0.05, low=0.01, high=0.2).in_bars(78)
            Moves(share=0.05, low=0.01, high=0.2, bars=1638, unit='bars')
        """
        return self if self.unit == "bars" else replace(self, bars=self.bars * day, unit="bars")

    def on_delta(self, var_of_one: Float[Array, "*hedge"]) -> dist.Distribution:
        """The prior on delta, where `var_of_one` is the q of a ratio that doubles in one bar."""
        _check_counted(self)
        width = float(np.log(self.high / self.low)) / Z90
        centre = jnp.log(var_of_one) + float(np.log(self.share**2 / self.bars))
        return dist.TransformedDistribution(
            dist.Normal(centre, width), transforms.SigmoidTransform()
        )


@dataclass(frozen=True)
class Horseshoe:
    """A prior that shrinks towards a static hedge: a horseshoe on the sd of a step, `sqrt(q)`.

    Half of the prior mass is on a memory longer than `bars`, and far more of it on a ratio that hardly
    moves at all than `Memory` can put there; a ratio that does move is hardly shrunk.
    `static_probability` gives the posterior probability of a static ratio.

    Raises:
        ValueError: unless `1 < bars < inf`.

    Source: Carvalho, Polson and Scott (2010); for variances of a random walk, as the triple gamma
    with a = c = 1/2, Cadonna, Fruhwirth-Schnatter and Knaus (2020), Triple the gamma, Econometrics 8.

    Example:
        >>> Horseshoe(60).on_delta().event_shape
        ()
    """

    bars: float

    def __post_init__(self) -> None:
        if not (are_real(self.bars) and 1 < self.bars < np.inf):
            raise ValueError(
                f"Horseshoe needs a memory above 1 bar (and finite), not bars={self.bars!r}"
            )

    def on_delta(self) -> dist.Distribution:
        """The prior on delta: q over the q of `bars` is a squared horseshoe over its median."""
        scale = float(np.log(memory_to_q(self.bars) / MEDIAN))
        return dist.TransformedDistribution(
            LogSquaredHorseshoe(),
            [transforms.AffineTransform(scale, 1.0), transforms.SigmoidTransform()],
        )


@dataclass(frozen=True)
class Absolute:
    """A delta in the units of published code: `state_var = delta / (1 - delta)`, whatever the data.

    Only for reproducing published settings: it means something else for every price level. `delta`
    is a number, a sequence of one per hedge, or a prior, as elsewhere.
    """

    delta: "Memory | Horseshoe | dist.Distribution | float | Sequence[float] | str"


Speed = Memory | Moves | Horseshoe | Absolute | dist.Distribution | float | Sequence[float] | str
"""What a delta may be; text names a prior that a file could not hold."""

Scale = dist.Distribution | float | str
"""What a sd may be; text names a prior that a file could not hold."""

HEDGE_MEMORY = Memory(60, low=5, high=700)
"""Default prior of a hedge ratio beside a level that stands still: a week to three years of bars."""

HEDGE_MEMORY_BESIDE_MOVING_LEVEL = Memory(6, low=1.1, high=100)
"""The same beside an intercept that moves: it takes most of what `q` is measured against.

Once the intercept follows the price, the ratio learns only from days on which the hedge moves, and
it forgets far more slowly than its `q` says: on daily prices a `memory` of 1.1 to 100 bars is an
`effective_memory` (see `HedgeFit.summary`) of about 20 bars to longer than the sample. A prior of 60
bars on q itself sat 2.5 sds from the posterior of AAPL on the S&P 500 and split it in two.
"""

INTERCEPT_MEMORY = Memory(2, low=1.003, high=40)
"""Default prior of the intercept: on daily prices the level follows the price almost at once."""

HEDGE_MEMORY_BESIDE_SPREAD = Memory(30, low=1.1, high=3000)
"""Default prior of a hedge ratio in a model with a spread that comes back, and in the one without it.

Beside a spread the level may stand still and the ratio's `memory` be what it says; without one the
level follows the price, and it is shorter than its effective one. One prior serves both, so that the
evidence is about the spread.
"""

INTERCEPT_MEMORY_BESIDE_SPREAD = Memory(8, low=1.003, high=2000)
"""The same of the intercept: from a level that follows the price to one that hardly moves in years."""


def usual_speeds(*, alone: bool, spread: bool, still: bool) -> tuple[Speed, Speed]:
    """Default priors of the ratio and of the intercept.

    Args:
        alone: the ratio moves beside no intercept that moves.
        spread: there is a spread that comes back.
        still: what walks of the ratio stands still.
    """
    if spread:
        return 0.0 if still else HEDGE_MEMORY_BESIDE_SPREAD, INTERCEPT_MEMORY_BESIDE_SPREAD
    usual = HEDGE_MEMORY if alone else HEDGE_MEMORY_BESIDE_MOVING_LEVEL
    return 0.0 if still else usual, INTERCEPT_MEMORY


VARIANCE_MEMORY = Memory(20, low=6, high=130)
"""Default prior of the memory of the observation variance."""

EXPECTED_NOISE_SHARE = 0.5
"""Prior median of obs_scale, as a share of the sd of the one-bar hedged move."""

NOISE_LOG_SD = 1.5
"""Prior sd of log obs_scale: a factor of 12 either way at 90 %."""
