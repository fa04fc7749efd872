"""Months of real bars around the open: what each way of hedging held, and what it removed.

A set is many pairs over the same days. Every ratio is known at the end of a bar and held over the next,
so that none looks ahead. The live filters are run as one pass of all noise draws, mixed as an
`OnlineFilter` mixes them; that both agree to rounding, tests/online/test_sessions.py shows.

One file: the days, the ways of hedging them, and how they are judged, which is one protocol.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from kfmodels import Constant, Gaps, HedgeData, ImportanceSampling, fit, hedge_ratio_model
from kfmodels.clock.clock import Clock
from kfmodels.clock.day import tilt_of_next
from kfmodels.evaluate.future import _in_coordinates_of
from kfmodels.fitting import tree as trees
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman import scan
from kfmodels.kalman.density import Z90, student_variance
from kfmodels.model import default_model
from tests.tables import read_table

OPEN = 30
"""Minutes of a day that are its open."""

WINDOWS = ("open30", "hold30", "rest", "night")
"""Moves of the first half hour after the first bar; that half hour as one move; the moves after it; and
the move from the last bar to the next opening print."""

_RESAMPLES = 1000
_MARKET = ("SPY", "QQQ")


class Source(NamedTuple):
    """Where a set comes from: tables, length of a bar in minutes, training days, and pairs."""

    tables: tuple[str, ...]
    minutes: int
    burn: int
    pairs: tuple[str, ...]


_A = """
QQQ/SPY XLK/SPY XLF/SPY XLV/SPY XLE/SPY XLI/SPY XLY/SPY XLP/SPY XLU/SPY XLB/SPY XLC/SPY XLRE/SPY
XBI/SPY TNA/SPY SMH/QQQ XLK/QQQ NVDA/QQQ MSFT/QQQ AAPL/QQQ AMZN/QQQ META/QQQ GOOG/QQQ TSLA/QQQ
NVDA/SMH AMD/SMH AVGO/SMH INTC/SMH JPM/XLF BAC/XLF C/XLF GS/XLF JPM/BAC GS/MS XOM/XLE CVX/XLE
CVX/XOM SLB/XLE HAL/SLB CAT/XLI GE/XLI LMT/RTX CRM/ADBE TGT/WMT MSTR/COIN NUGT/GDX
"""
_B = """
QQQ/SPY XLK/QQQ XLF/SPY XLV/SPY SMH/QQQ NVDA/QQQ NVDA/SMH AVGO/SMH META/QQQ ORCL/QQQ GS/XLF
SOXL/SMH NFLX/QQQ NKE/SPY RTX/SPY PANW/SNOW SNOW/QQQ COIN/QQQ AVGO/NVDA
"""
"""Pairs of the two sets, as TARGET/HEDGE."""

SETS = {
    "A": Source(
        tuple(f"us_5min_2025-05_2026-03_{part}.csv.gz" for part in ("etf", "tech", "other")),
        5,
        40,
        tuple(_A.split()),
    ),
    "B": Source(
        ("us_1min_2026-01-22_2026-03-06.csv.gz",),
        1,
        10,
        tuple(_B.split()),
    ),
}


def read_set(name: str) -> pd.DataFrame:
    """Prices of a set, times of New York without their zone."""
    return pd.concat([read_table(table) for table in SETS[name].tables], axis=1)


@dataclass(frozen=True)
class Days:
    """Two legs over the days: log prices `(day, 1 + bar, pair)`, the opening print first."""

    y: np.ndarray
    x: np.ndarray
    burn: int
    minutes: int

    @classmethod
    def of(
        cls,
        prices: pd.DataFrame,
        pairs: Sequence[str],
        *,
        minutes: int,
        burn: int,
        jumps: np.ndarray | None = None,
    ) -> "Days":
        """Lay prices out by day; `jumps (day, pair)` are added to the ratio of real prices."""
        index: Any = prices.index
        number, days = pd.factorize(index.normalize())
        bar = ((index - index.normalize()).total_seconds().to_numpy() / 60 - 570) / minutes
        legs = []
        for side in (0, 1):
            table = prices[[pair.split("/")[side] for pair in pairs]].to_numpy(float)
            laid = np.full((len(days), 390 // minutes + 1, len(pairs)), np.nan)
            laid[number, bar.astype(int)] = np.log(table)
            legs.append(laid)
        y, x = legs
        if jumps is not None:
            moved = np.nan_to_num(np.diff(x, axis=1)).cumsum(1) * jumps[:, None]
            y = y.copy()
            y[:, 1:] += moved
        return cls(y, x, burn, minutes)

    @cached_property
    def moves(self) -> tuple[np.ndarray, np.ndarray]:
        """Moves of both legs, `(day, bar, pair)`; 0 where one is missing."""
        dy, dx = np.diff(self.y, axis=1), np.diff(self.x, axis=1)
        seen = np.isfinite(dy) & np.isfinite(dx)
        return np.where(seen, dy, 0.0), np.where(seen, dx, 0.0)

    @property
    def opening(self) -> int:
        """Bars of the first half hour."""
        return OPEN // self.minutes

    @property
    def sd_ratio(self) -> np.ndarray:
        """Sd of the target's moves over that of the hedge's, on the training days, `(pair,)`."""
        y, x = (np.square(leg[: self.burn]).sum((0, 1)) for leg in self.moves)
        return np.sqrt(y / x)

    def squares(self, ratio: np.ndarray, window: str) -> np.ndarray:
        """Sum of squared hedged moves of each day in a window, `(day, pair)`."""
        (dy, dx), n = self.moves, self.opening
        if window in ("open30", "rest"):
            part = slice(1, n) if window == "open30" else slice(n, None)
            held = ratio[:, :-1]  # each from the end of one bar to that of the next
            return np.square(dy[:, part] - held[:, part] * dx[:, part]).sum(1)
        if window == "hold30":
            y, x = (leg[:, n] - leg[:, 1] for leg in (self.y, self.x))
            return np.nan_to_num(np.square(y - ratio[:, 1] * x))
        found = np.zeros((len(self.y), self.y.shape[2]))
        y, x = (leg[1:, 0] - _last(leg)[:-1] for leg in (self.y, self.x))
        found[1:] = np.nan_to_num(np.square(y - ratio[:-1, -1] * x))
        return found


def _last(leg: np.ndarray) -> np.ndarray:
    """The last price of every day."""
    return np.stack([pd.DataFrame(one).ffill().to_numpy()[-1] for one in leg])


# -- ratios, `(day, 1 + bar, pair)`, each known at the end of a bar ----------------------------------


def all_day(daily: np.ndarray, days: Days) -> np.ndarray:
    """A ratio of every day, held all day."""
    return np.repeat(daily[:, None], days.y.shape[1], 1)


def _slopes(days: Days, window: int, part: slice = slice(1, None)) -> np.ndarray:
    """Least squares on the moves of the days before each day, without an intercept, `(day, pair)`."""
    y, x = (leg[:, part] for leg in days.moves)
    above, below = (y * x).sum(1), (x * x).sum(1)
    found = np.full(above.shape, np.nan)
    for day in range(1, len(above)):
        past = slice(max(0, day - window), day)
        found[day] = above[past].sum(0) / np.maximum(below[past].sum(0), 1e-300)
    return found


def least_squares(days: Days, window: int) -> np.ndarray:
    """OLS on changes of the last days, estimated every night; the first bar of a day is left out."""
    return all_day(_slopes(days, window), days)


def on_levels(days: Days, window: int) -> np.ndarray:
    """OLS on log prices of the last days, with an intercept, estimated every night."""
    found = np.full((len(days.y), days.y.shape[2]), np.nan)
    for day in range(1, len(found)):
        past = slice(max(0, day - window), day)
        y, x = (leg[past, 1:].reshape(-1, leg.shape[2]) for leg in (days.y, days.x))
        seen = np.isfinite(y) & np.isfinite(x)
        y, x = (np.where(seen, leg, np.nan) for leg in (y, x))
        away = x - np.nanmean(x, 0)
        found[day] = np.nansum(away * y, 0) / np.nansum(away * away, 0)
    return all_day(found, days)


def exponential(days: Days, half_life: float) -> np.ndarray:
    """Covariance over variance of the moves so far, weights halved after so many days of bars."""
    y, x = days.moves
    count, bars, pairs = y.shape
    keep = 0.5 ** (1 / (half_life * bars))
    found = np.full((count, bars + 1, pairs), np.nan)
    above, below = np.zeros(pairs), np.full(pairs, 1e-300)
    for day in range(count):
        for bar in range(bars):
            found[day, bar] = above / below
            above = keep * above + y[day, bar] * x[day, bar]
            below = keep * below + x[day, bar] ** 2
        found[day, bars] = above / below
    return found


def heterogeneous(days: Days) -> np.ndarray:
    """HAR for the open: the long OLS, and pooled weights on last week's, yesterday's and past opens'.

    The weights are those of least squares over the opens so far of all pairs, each by the variance of
    its target, with a ridge of 2 %. Corsi (2009), A simple approximate long-memory model of realized
    volatility, Journal of Financial Econometrics 7.
    """
    (y, x), n, burn = days.moves, days.opening, days.burn
    long = _slopes(days, burn)
    others = [_slopes(days, 5), _slopes(days, 1), _slopes(days, burn, slice(1, n))]
    away = np.stack([np.nan_to_num(one - long) for one in others])
    weight = 1 / np.square(y[:burn]).mean((0, 1))
    at_open = x[:, 1:n]
    columns = away[:, :, None] * at_open
    left = y[:, 1:n] - np.nan_to_num(long)[:, None] * at_open
    cross = np.einsum("idbp,jdbp,p->dij", columns, columns, weight)
    target = np.einsum("idbp,dbp,p->di", columns, left, weight)
    found = long.copy()
    for day in range(burn, len(y)):
        past = slice(min(5, burn // 2), day)
        g = cross[past].sum(0)
        g = g + np.diag(0.02 * np.diagonal(g)) + 1e-12 * np.eye(3)
        found[day] = long[day] + np.linalg.solve(g, target[past].sum(0)) @ away[:, day]
    return all_day(found, days)


class Followed(NamedTuple):
    """A live filter over the days of one pair, arrays `(day, bar)`, but the ratio `(day, 1 + bar)`.

    `z` is the surprise over its forecast sd and `score` the log score, NaN where nothing was forecast.
    """

    ratio: np.ndarray
    z: np.ndarray
    score: np.ndarray


@jax.jit
def _filter(law: Any, y: Any) -> Any:
    passed = scan.filter(*law.recursion(y))
    squared = passed.var * passed.unit * student_variance(passed.dof, jax.numpy)
    return passed.filtered.mean, passed.error, squared, passed.log_density


def run_live(fitted: HedgeFit, data: HedgeData, share: float = 0.0) -> pd.DataFrame:
    """What the filter of a fit says at each row of data that begin with its own, by row.

    Columns `ratio` (held to the next row), `z` and `score`; from the rows after those of the fit on the
    draws are weighed by their forecasts, with a fixed share of the weights handed out anew every bar.
    """
    with jax.enable_x64(True):
        inputs = _in_coordinates_of(fitted, data)
        law = trees.regression(fitted.model, inputs, trees.stored_sites(fitted.tree))
        mean, error, squared, density = map(np.asarray, _filter(law, inputs.y))
    where = trees.coordinates(fitted.tree)
    if where.tilted and data.clock is not None:
        ahead = tilt_of_next(data.clock.places(data.index), data.clock.minutes)
        where = where._replace(tilt=ahead)
    to_ratio = np.broadcast_to(where.matrix()[..., 0, :], (len(mean), mean.shape[1]))
    each = np.einsum("ts,tsk->tk", to_ratio, mean) + where.shift()[0]
    logs = np.full(mean.shape[2], -np.log(mean.shape[2]))
    first = len(fitted.index)
    rows = np.full((len(mean), 3), np.nan)
    for t, seen in enumerate(data.observed):
        if t >= first:
            kept = (1 - share) ** data.dt[t]
            logs = np.log(kept * np.exp(logs) + (1 - kept) / len(logs))
        weights = np.exp(logs)
        if seen:
            spread = weights @ error[t]
            var = weights @ (squared[t] + (error[t] - spread) ** 2)
            rows[t, 1:] = spread / np.sqrt(var), np.logaddexp.reduce(logs + density[t])
            if t >= first:
                logs = logs + density[t]
                logs -= np.logaddexp.reduce(logs)
        rows[t, 0] = np.exp(logs) @ each[t]
    return pd.DataFrame(rows, data.index, ["ratio", "z", "score"])


def follow_days(
    prices: pd.DataFrame,
    pair: str,
    days: Days,
    number: int,
    clock: Clock,
    model: Callable[[HedgeData], Any],
    *,
    transform: str = "return",
    share: float = 0.0,
) -> tuple[Followed, HedgeFit]:
    """Fit one pair on the training days, then run its filter over all of them."""
    target, hedge = pair.split("/")
    legs = pd.DataFrame(index=prices.index)
    index: Any = prices.index
    rows = pd.factorize(index.normalize())[0]
    bar = (
        ((index - index.normalize()).total_seconds().to_numpy() / 60 - 570) / days.minutes
    ).astype(int)
    legs[target], legs[hedge] = (np.exp(leg[rows, bar, number]) for leg in (days.y, days.x))
    data = HedgeData.from_prices(
        legs, target=target, hedges=[hedge], transform=transform, clock=clock
    )
    first = np.flatnonzero(rows == days.burn)[0]
    training = data.before(index[first])
    fitted = fit(training, model(training), method=ImportanceSampling(), progress=False)
    table = run_live(fitted, data, share).reindex(index)
    shape = days.y.shape[:2]
    ratio, z, score = (np.full(shape, np.nan) for _ in range(3))
    for into, column in ((ratio, "ratio"), (z, "z"), (score, "score")):
        into[rows, bar] = table[column].to_numpy()
    ratio = pd.DataFrame(ratio.reshape(-1)).ffill().to_numpy().reshape(shape)
    return Followed(ratio, z[:, 1:], score[:, 1:]), fitted


# -- judging ------------------------------------------------------------------------------------------


def resample(days: int, seed: int = 0) -> np.ndarray:
    """How often each day counts: all once, then 1,000 draws of as many, `(1 + resample, day)`."""
    drawn = np.random.default_rng(seed).multinomial(days, np.full(days, 1 / days), _RESAMPLES)
    return np.concatenate([np.ones((1, days)), drawn])


def compare(
    days: Days,
    ratios: Mapping[str, np.ndarray],
    base: str,
    *,
    on: np.ndarray | None = None,
    pairs: np.ndarray | None = None,
) -> pd.DataFrame:
    """Mean over the pairs of the lead over `base`, in points of variance removed, with its error.

    Args:
        days: judged from the training days on.
        ratios: by method.
        base: one of them.
        on: which days of which pairs count, `(day, pair)`; default all.
        pairs: which pairs count; default all.
    """
    keep = slice(None) if pairs is None else pairs
    weight = np.ones(days.y.shape[::2]) if on is None else on.astype(float)
    counts = resample(len(days.y) - days.burn)

    def share(ratio: np.ndarray, window: str) -> np.ndarray:
        parts = (days.squares(one, window) * weight for one in (ratio, 0 * ratio))
        left, alone = (counts @ part[days.burn :][:, keep] for part in parts)
        with np.errstate(invalid="ignore"):
            return 1 - left / alone

    table: dict[str, dict[str, float]] = {}
    for window in WINDOWS:
        usual = share(ratios[base], window)
        for name, ratio in ratios.items():
            found = share(ratio, window)
            lead = 100 * (found - usual)
            row = table.setdefault(name, {})
            # a pair none of whose days count, or are resampled, is left out
            row[window] = np.nanmean(found[0] if name == base else lead[0])
            row[f"{window} se"] = np.nanmean(lead[1:], 1).std()
    return pd.DataFrame(table).T


def tell_bands(days: Days, live: Mapping[str, Sequence[Followed]]) -> pd.DataFrame:
    """Share of moves inside the 90 % band and mean log score a bar, in the half hour and the rest."""
    n, table = days.opening, {}
    for name, each in live.items():
        z, score = (
            np.stack([getattr(one, part)[days.burn :] for one in each]) for part in ("z", "score")
        )
        row = {}
        for label, part in (
            ("open", slice(1, n)),
            ("rest", slice(n, None)),
            ("first", slice(0, 1)),
        ):
            seen = np.isfinite(z[..., part])
            row[f"covered {label}"] = (np.abs(z[..., part][seen]) <= Z90).mean()
            row[f"score {label}"] = score[..., part][seen].mean()
        table[name] = row
    return pd.DataFrame(table).T


def today(data: HedgeData) -> Any:
    """What the night and the open were hedged by before: log prices, nights inferred, no profile."""
    return hedge_ratio_model(gaps=Gaps(), noise=Constant())


def without_deviation(data: HedgeData) -> Any:
    """The default model, without the deviation of the day."""
    return default_model(data, day=None)


def clock_of(minutes: int) -> Clock:
    """Of all sets: the sessions of New York, and times of its zone."""
    return Clock.exchange(
        "XNYS", f"{minutes}min", start="2025-04-01", end="2026-04-30", zone="America/New_York"
    )


def is_market(pairs: Sequence[str]) -> np.ndarray:
    """Which pairs have a market index for a hedge."""
    return np.array([pair.split("/")[1] in _MARKET for pair in pairs])
