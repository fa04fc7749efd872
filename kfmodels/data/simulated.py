"""Simulated pairs whose true path is known."""

import math
import operator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from kfmodels.data.checks import DateLike
from kfmodels.kalman.transforms import LEVEL, LOG, transform_of

_LOG_CHI2_VAR = math.pi**2 / 2
"""Variance of log(eps^2) for a standard normal eps: the noise with which a log variance is observed."""


@dataclass(frozen=True, eq=False)
class Simulated:
    """A target with its hedges, and the true values that real prices hide; see `simulate`.

    Each row of `prices` obeys, in transformed units, `y = (x * hedge_ratio).sum() + intercept +
    noise`. The coefficients of `q` and `delta` are the hedges, then "intercept".
    """

    prices: pd.DataFrame
    """(time, 1 + hedges), columns Y, X1, X2, ..."""

    hedge_ratio: pd.DataFrame
    """(time, hedges): the true ratios."""

    intercept: pd.Series
    """(time,): the true intercept in original units, that is at x = 0."""

    noise: pd.Series
    """(time,): the observation noise that was drawn."""

    obs_var: pd.Series
    """(time,): its variance."""

    q: pd.DataFrame
    """(time, coef): the signal-to-noise ratio of the step into each row (the first row has none)."""

    pivot: pd.Series
    """(hedges,): the mean of each transformed hedge, at which ratio and level move independently."""

    @property
    def delta(self) -> pd.DataFrame:
        """(time, coef): `q / (1 + q)`."""
        return self.q / (1 + self.q)


def simulate(
    rows: int = 1250,
    *,
    hedges: int = 1,
    memory: ArrayLike = 60.0,
    intercept_memory: ArrayLike = 5.0,
    obs_scale: float = 0.005,
    beta: ArrayLike = 1.0,
    alpha: float = 0.0,
    transform: str = "log",
    volatility_memory: float | None = None,
    hedge_volatility: float = 0.01,
    seed: int = 0,
    start: DateLike = "2015-01-02",
) -> Simulated:
    r"""Draw a target whose hedge ratios move as the model says, and keep the true path.

    $$y_t = x_t^⊤ β_t + α_t + ϵ_t, \qquad ϵ_t ∼ N(0, v_t)$$

    The hedges are independent random walks in log price from 100. The ratios, and the level of y at
    the mean of each hedge, $a_t = α_t + \bar x^⊤ β_t$, are independent random walks:

    $$β_{j,t} - β_{j,t-1} ∼ N\left(0, \frac{q_j v_t}{\mathrm{mean}((x_j - \bar x_j)^2)}
    \right), \qquad a_t - a_{t-1} ∼ N(0, q_α v_t), \qquad q = \frac{1}{m (m - 1)}$$

    for a memory of m bars; means are over all rows. The variance $v_t$ is `obs_scale**2`, or starts
    there and is a random walk in logs whose steps have variance $π^2 / (2 m (m - 1))$. The same seed
    with another memory gives the same hedges and the same standardised noise.

    Args:
        rows: number of business days, at least 2.
        hedges: number of hedges, at least 1.
        memory: of the hedge ratios in bars, above 1; `inf` is a static ratio. A number, one per row
            `(rows,)` for a speed that changes, `(1, hedges)` for one per hedge, or `(rows, hedges)`.
        intercept_memory: the same for the level at the pivot: a number or `(rows,)`.
        obs_scale: sd of the noise, in transformed units (0.005 is half a per cent in logs, half a
            cent in levels).
        beta: hedge ratios at the first row, a number or `(hedges,)`.
        alpha: intercept at the first row, at x = 0.
        transform: "log" (y and x are log prices) or "level" (prices).
        volatility_memory: of the observation variance in bars, above 1; None is a constant one.
        hedge_volatility: sd of the hedges' daily log returns.
        seed: a whole number; the same one gives the same draw.
        start: first date, anything pandas reads.

    Raises:
        ValueError: an argument out of range or of the wrong shape, or a target that left the
            positive finite numbers on its way. The message says what to change.

    Source: Harvey, Ruiz and Shephard (1994), Multivariate stochastic variance models, Review of
    Economic Studies 61: the random walk in log variance, whose best linear estimate from
    $\log ϵ_t^2$ forgets in m bars.

    Example:
        A hedge ratio that is static for two years and then starts to move:

        >>> jump = simulate(1000, memory=np.where(np.arange(1000) < 500, np.inf, 20))
        >>> list(jump.prices), jump.hedge_ratio["X1"].iloc[:500].nunique()
        (['Y', 'X1'], 1)
    """
    rows = whole("rows", rows, least=2)
    hedges = whole("hedges", hedges, least=1)
    obs_scale = positive("obs_scale", obs_scale)
    hedge_volatility = positive("hedge_volatility", hedge_volatility)
    if transform not in (LOG, LEVEL):
        raise ValueError(f'transform must be "log" or "level", not {transform!r}')
    done = transform_of(transform)
    beta = finite("beta", beta, (hedges,))
    alpha = float(finite("alpha", alpha, ()))
    q_beta = memory_to_q("memory", memory, (rows, hedges))
    q_level = memory_to_q("intercept_memory", intercept_memory, (rows,))

    # a stream each: another memory or variance leaves the hedges and the standardised noise as they are
    seeds = np.random.SeedSequence(whole("seed", seed, least=0)).spawn(4)
    for_hedges, for_steps, for_noise, for_variance = map(np.random.default_rng, seeds)

    returns = hedge_volatility * for_hedges.standard_normal((rows, hedges))
    x_prices = 100 * np.exp(_walk(returns))
    x = done.values(x_prices)
    pivot = x.mean(0)

    obs_var = np.full(rows, obs_scale**2)
    if volatility_memory is not None:
        q_variance = memory_to_q("volatility_memory", volatility_memory, ())
        steps = np.sqrt(_LOG_CHI2_VAR * q_variance) * for_variance.standard_normal(rows)
        obs_var *= np.exp(_walk(steps))

    steps = for_steps.standard_normal((rows, hedges + 1)) * np.sqrt(obs_var)[:, None]
    ratio = beta + _walk(steps[:, :-1] * np.sqrt(q_beta / x.var(0)))
    level = alpha + pivot @ beta + _walk(steps[:, -1] * np.sqrt(q_level))
    intercept = level - ratio @ pivot
    noise = np.sqrt(obs_var) * for_noise.standard_normal(rows)

    y = (x * ratio).sum(1) + intercept + noise
    with np.errstate(over="ignore"):  # infinite prices are refused below, in words
        y_prices = done.price(y)
    index = pd.bdate_range(start, periods=rows, name="date")
    _check_target(y_prices, index)

    names = [f"X{j + 1}" for j in range(hedges)]
    return Simulated(
        prices=pd.DataFrame(np.column_stack([y_prices, x_prices]), index, ["Y", *names]),
        hedge_ratio=pd.DataFrame(ratio, index, names),
        intercept=pd.Series(intercept, index, name="intercept"),
        noise=pd.Series(noise, index, name="noise"),
        obs_var=pd.Series(obs_var, index, name="obs_var"),
        q=pd.DataFrame(np.column_stack([q_beta, q_level]), index, [*names, "intercept"]),
        pivot=pd.Series(pivot, names, name="pivot"),
    )


def _walk(steps: np.ndarray) -> np.ndarray:
    """Random walk from 0: the first step is drawn and not taken, so that each draw keeps its row."""
    walk = np.zeros_like(steps)
    walk[1:] = np.cumsum(steps[1:], axis=0)
    return walk


def memory_to_q(name: str, memory: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """The signal-to-noise ratio of a memory, `q = 1 / (m (m - 1))`, in a shape.

    `model.memory`, which this room may not import, has the same formula without the checks.
    """
    memory = _numbers(name, memory)
    short = memory[~(memory > 1)]
    if short.size:
        raise ValueError(
            f"{name} must be above 1 bar, not {short[0]:g}; inf is one that never moves"
        )
    by_row = len(shape) == 2 and memory.shape == shape[:1]
    bars = _shaped(name, memory[:, None] if by_row else memory, shape)
    return 1 / (bars * (bars - 1))


def finite(name: str, value: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Finite numbers in a shape, or the argument named in an error."""
    value = _numbers(name, value)
    if not np.isfinite(value).all():
        raise ValueError(f"{name} must be finite, not {value}")
    return _shaped(name, value, shape)


def positive(name: str, value: float) -> float:
    """A standard deviation, or the argument named in an error."""
    value = float(finite(name, value, ()))
    if value <= 0:
        raise ValueError(f"{name} is a standard deviation: give a positive number, not {value:g}")
    return value


def _numbers(name: str, value: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or an array of numbers, not {value!r}") from None


def _shaped(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    fits = ["one number", f"shape {shape}"][: 1 + bool(shape)]
    if len(shape) == 2:
        fits += [f"({shape[0]},) for one per row", f"(1, {shape[1]}) for one per hedge"]
    # broadcasting alone would take one number per row for one per hedge where rows and hedges are
    # equally many
    if value.ndim in (0, len(shape)):
        try:
            return np.broadcast_to(value, shape)
        except ValueError:
            pass
    raise ValueError(f"{name} has shape {value.shape}; give {' or '.join(fits)}")


def whole(name: str, value: int, *, least: int) -> int:
    """A whole number, or the argument named in an error."""
    try:
        found = operator.index(value)
    except TypeError:
        found = None
    if found is None or found < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return found


def _check_target(y_prices: np.ndarray, index: pd.DatetimeIndex) -> None:
    bad = ~(np.isfinite(y_prices) & (y_prices > 0))
    if bad.any():
        raise ValueError(
            f"the simulated target Y reaches {y_prices[bad][0]:g} on {index[bad][0]:%Y-%m-%d}, which "
            "is no price: lower obs_scale, lengthen memory, or change beta, alpha or the seed"
        )
