"""Simulated trading days: a hedge ratio that walks while the market is open and jumps overnight."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.data.checks import DateLike
from kfmodels.data.simulated import memory_to_q, positive

ZONE, OPENS, CLOSES = "America/New_York", "09:30", "16:00"
_SESSION = timedelta(hours=6, minutes=30)


@dataclass(frozen=True, eq=False)
class SimulatedDays:
    """Prices of a target Y and a hedge X1 by bar, and the true values that real prices hide."""

    prices: pd.DataFrame
    """(time, 2), columns Y and X1; each stamp is the end of its bar, in New York time."""

    hedge_ratio: pd.Series
    """(time,): the true ratio of the logs."""

    intercept: pd.Series
    """(time,): the true intercept, at a log price of 0."""

    noise: pd.Series
    """(time,): the observation noise that was drawn."""

    worth: pd.Series
    """(time,): bars of state noise in the step into each row; the first row has none."""

    clock: Clock
    """The clock of these days: one open bar before each row, a closed period before each open."""

    q: dict[str, float]
    """Signal-to-noise ratios of one bar, "beta" and "alpha"; that of beta is relative to the variance
    of the log hedge over all rows."""

    pivot: float
    """Mean log price of the hedge, at which ratio and level move independently."""

    overnight_bars: float
    """What a closed period was worth, in bars of state noise."""

    obs_scale: float
    """Sd of the observation noise."""


def simulate_days(
    days: int = 20,
    *,
    bars: int = 390,
    overnight_bars: float = 100.0,
    memory: float = 2.0,
    intercept_memory: float = 5.0,
    obs_scale: float = 0.0002,
    beta: float = 1.0,
    hedge_volatility: float = 0.0005,
    hedge_overnight_volatility: float = 0.006,
    seed: int = 0,
    start: DateLike = "2024-03-04",
) -> SimulatedDays:
    r"""Draw a pair whose hedge ratio walks slowly by day and jumps by night, and keep the true path.

    $$y_t = β_t x_t + α_t + ϵ_t, \qquad ϵ_t ∼ N(0, v)$$

    with log prices y and x, and with the level $a_t = α_t + β_t \bar x$ at the mean of x

    $$β_t - β_{t-1} ∼ N\left(0, \frac{q_β v \, n_t}{\mathrm{Var}(x)}\right), \qquad
    a_t - a_{t-1} ∼ N(0, q_α v \, n_t), \qquad q = \frac{1}{m (m - 1)}$$

    for a memory of m bars. $n_t$ is 1 within a day; into the first row of a day, after a night or a
    weekend, it is `1 + overnight_bars`. The hedge moves by `hedge_volatility` a bar, into the first row
    of a day by `hedge_overnight_volatility`. The same seed with other `overnight_bars` gives the same
    noise.

    Args:
        days: number of business days, 2 or more.
        bars: rows of a day from 9:30 to 16:00: 390 of a minute, 78 of five; must divide 23,400 s.
        overnight_bars: what a closed period is worth in bars of state noise; 0 is no jump.
        memory, intercept_memory: of the ratio and of the level in bars, above 1; inf never moves.
        obs_scale: sd of the noise in logs.
        beta: the ratio at the first row.
        hedge_volatility, hedge_overnight_volatility: sd of the log return of X1 in a bar, overnight.
        seed, start: of the draw, and its first date.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> truth = simulate_days(5, bars=78, overnight_bars=200, seed=1)
        >>> len(truth.prices), str(truth.prices.index[0]), truth.clock.bar
        (390, '2024-03-04 09:35:00-05:00', datetime.timedelta(seconds=300))
        >>> truth.worth.value_counts().to_dict()
        {1.0: 385, 201.0: 4, 0.0: 1}
    """
    if days < 2 or bars < 2 or 23_400 % bars:
        raise ValueError(
            f"simulate_days: 2 days or more, with 2 bars or more that divide the 23,400 seconds of a "
            f"session, not {days} and {bars}"
        )
    q_beta = float(memory_to_q("memory", memory, ()))
    q_level = float(memory_to_q("intercept_memory", intercept_memory, ()))
    obs_scale = positive("obs_scale", obs_scale)
    hedge_volatility = positive("hedge_volatility", hedge_volatility)
    for name, size in (
        ("overnight_bars", overnight_bars),
        ("hedge_overnight_volatility", hedge_overnight_volatility),
    ):
        if not 0 <= size < np.inf:
            raise ValueError(f"{name} is a finite number, 0 or more, not {size}")

    bar = _SESSION / bars
    at = _stamps(days, bars, bar, start)
    rows = len(at)
    opens = np.arange(rows) % bars == 0
    opens[0] = False
    worth = np.where(opens, 1.0 + overnight_bars, 1.0)
    worth[0] = 0.0

    seeds = np.random.SeedSequence(seed).spawn(3)
    for_hedge, for_steps, for_noise = map(np.random.default_rng, seeds)
    returns = np.where(opens, hedge_overnight_volatility, hedge_volatility)
    returns = returns * for_hedge.standard_normal(rows)
    returns[0] = 0.0
    x = np.log(100.0) + np.cumsum(returns)
    pivot = float(x.mean())
    steps = obs_scale * np.sqrt(worth)[:, None] * for_steps.standard_normal((rows, 2))
    ratio = beta + np.cumsum(steps[:, 0]) * np.sqrt(q_beta / x.var())
    level = np.log(50.0) + np.cumsum(steps[:, 1]) * np.sqrt(q_level)
    noise = obs_scale * for_noise.standard_normal(rows)
    y = level + ratio * (x - pivot) + noise
    return SimulatedDays(
        prices=pd.DataFrame({"Y": np.exp(y), "X1": np.exp(x)}, at),
        hedge_ratio=pd.Series(ratio, at, name="hedge_ratio"),
        intercept=pd.Series(level - ratio * pivot, at, name="intercept"),
        noise=pd.Series(noise, at, name="noise"),
        worth=pd.Series(worth, at, name="worth"),
        clock=Clock.hours(OPENS, CLOSES, zone=ZONE, bar=bar),
        q={"beta": q_beta, "alpha": q_level},
        pivot=pivot,
        overnight_bars=float(overnight_bars),
        obs_scale=obs_scale,
    )


def _stamps(days: int, bars: int, bar: timedelta, start: DateLike) -> pd.DatetimeIndex:
    """Ends of all bars, in New York time."""
    dates = pd.bdate_range(start, periods=days)
    ends = np.timedelta64(9 * 60 + 30, "m") + np.arange(1, bars + 1) * np.timedelta64(bar, "us")
    naive = pd.DatetimeIndex((dates.to_numpy()[:, None] + ends).ravel(), name="at")
    return naive.tz_localize(ZONE)
