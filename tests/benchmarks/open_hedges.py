"""The open: what a hedge ratio of the night before is worth, beside one that goes on learning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kfmodels import Constant
from kfmodels.clock.clock import Clock
from kfmodels.data.hedge_data import HedgeData
from kfmodels.evaluate.baselines import moves, ols_on_levels
from kfmodels.fitting.fit import fit
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.density import Z90
from kfmodels.model.assumptions import Discounted, Gaps
from kfmodels.model.hedge_ratio import HedgeRatioModel, hedge_ratio_model
from kfmodels.sampling.importance import ImportanceSampling
from kfmodels.sampling.nuts import NUTS

NO_HEDGE = "no hedge"
CHANGES, LEVELS = "static overnight, OLS on changes", "static overnight, OLS on levels"
ONE_BAR, NIGHTS = "live, a night is one bar", "live, nights inferred"
MOVING = "live, nights and moving variance"

PERIODS = ("close to open", "first half hour", "rest of the day")
"""What a trading day is divided into: the move through the night, the open, and what follows."""

_RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class KnownRatios:
    """Hedge ratios of every row of the days after the training days, as they were known there.

    Tables `(time, method)`: `ratio` as known, and held, from that time on, and of the live filters its
    `sd` and `z`, the surprise of the row over its forecast sd (NaN where nothing was forecast).
    """

    data: HedgeData
    ratio: pd.DataFrame
    sd: pd.DataFrame
    z: pd.DataFrame
    fits: dict[str, HedgeFit]


def known_ratios(
    prices: pd.DataFrame,
    clock: Clock,
    *,
    target: str,
    hedge: str,
    train_days: int,
    models: Mapping[str, HedgeRatioModel] | None = None,
    method: NUTS | ImportanceSampling = ImportanceSampling(),
) -> KnownRatios:
    """What each way of hedging would have held, row by row, after the training days.

    The noise of the live filters is inferred once, on the training days; the filters then run on row
    by row (`HedgeFit.go_live` with its defaults). The static ratios are estimated every night on the
    `train_days` days before, on moves within the days or on log prices, and kept for a day. In a live
    model with `gaps` time runs by the clock, in others every row is one bar.
    """
    legs: dict[str, Any] = {"target": target, "hedges": [hedge], "transform": "log"}
    data = HedgeData.from_prices(prices, **legs, clock=clock)
    plain = HedgeData.from_prices(prices, **legs)
    number = _sessions(data)[0]
    days = np.unique(number)
    if not 1 <= train_days < len(days):
        raise ValueError(
            f"train_days is a number of days, from 1 to below the {len(days)} of {target}, not "
            f"{train_days}"
        )
    first = data.index[number >= days[train_days]][0]
    later = data.after(first)
    if models is None:
        models = {
            ONE_BAR: hedge_ratio_model(noise=Constant()),
            NIGHTS: hedge_ratio_model(gaps=Gaps(), noise=Constant()),
            MOVING: hedge_ratio_model(gaps=Gaps(), noise=Discounted()),
        }
    ratio = _static(plain, number, train_days).loc[first:]
    sd, z = pd.DataFrame(index=ratio.index), pd.DataFrame(index=ratio.index)
    fits = {}
    for name, model in models.items():
        training = (plain if model.gaps is None else data).before(first)
        fits[name] = fit(training, model, method=method, progress=False)
        ratio[name], sd[name], z[name] = _followed(fits[name], later.prices)
    return KnownRatios(later, ratio, sd, z, fits)


def opening_table(
    known: KnownRatios, *, minutes: int = 30, truth: pd.Series | None = None, seed: int = 0
) -> pd.DataFrame:
    r"""Share of the target's variance that each ratio removed: overnight, at the open, and later.

    $$1 - \sum_t (r_t - h_{t-1} \, r^x_t)^2 \Big/ \sum_t r_t^2$$

    over the returns of one period of all days, each ratio known at the row before. Sums are about
    zero: the mean of so short a move is too small to be known. "close to open" is the move into the
    first row of a day, "first half hour" the moves after it up to `minutes` after the open. All methods
    are judged by the moves that have both prices and a ratio of each method. Standard errors are those
    of 2000 resamples of whole days.

    By period and method: `moves`; `left_bp`, the sd of the hedged move in basis points of the target;
    `removed`; `gain`, the lead over the static ratio on changes; `covered`, the share of prices inside
    the 90 % band of the live filters; with `truth`, the true ratio by time, `ratio_error`, the root
    mean squared error of the ratio held.

    Source: Ederington (1979), The hedging performance of the new futures markets, Journal of Finance
    34; resampling of blocks: Kunsch (1989), The jackknife and the bootstrap for general stationary
    observations, Annals of Statistics 17.
    """
    returns = moves(known.data)
    held = known.ratio.shift(1)
    hedged = held.mul(-returns.iloc[:, 1], axis=0).add(returns.iloc[:, 0], axis=0)
    judged = hedged.notna().all(axis=1).to_numpy()
    inside = (
        known.z.abs().le(Z90).where(known.z.notna()).astype(float).reindex(columns=hedged.columns)
    )
    number, opened = _sessions(known.data)
    first = np.diff(number, prepend=number[0]) > 0
    at_open = ~first & (opened <= pd.Timedelta(minutes=minutes))
    bare, usual = (hedged.columns.get_indexer([name]) for name in (NO_HEDGE, CHANGES))
    table = {}
    for period, rows in zip(PERIODS, (first, at_open, ~first & ~at_open), strict=True):
        keep = rows & judged
        days, day = np.unique(number[keep], return_inverse=True)
        if len(days) < 2:
            raise ValueError(
                f"{period}: {int(keep.sum())} moves of {known.data.target} on {len(days)} days are too "
                "few for a variance; give more days after the training days"
            )
        counts = _resampled(len(days), seed)
        squares = _means(hedged[keep].to_numpy() ** 2, day, counts)
        removed = 1 - squares / squares[:, bare]
        gain = removed - removed[:, usual]
        found: dict[str, Any] = {"moves": int(keep.sum()), "left_bp": 1e4 * np.sqrt(squares[0])}
        found |= _with_error("removed", "se", removed) | _with_error("gain", "gain_se", gain)
        covered = _means(inside[keep].to_numpy(), day, counts)
        found |= _with_error("covered", "covered_se", covered)
        if truth is not None:
            off = held[keep].sub(truth.reindex(held.index)[keep], axis=0) ** 2
            error = np.sqrt(_means(off.to_numpy(), day, counts))
            found |= _with_error("ratio_error", "ratio_error_se", error)
        table[period] = pd.DataFrame(found, index=hedged.columns)
    return pd.concat(table, names=["period", "method"])


def _sessions(data: HedgeData) -> tuple[np.ndarray, np.ndarray]:
    """Of every row the number of its session, and the time since that opened."""
    index, clock = data.index, data.clock
    if clock is None or clock.sessions is None or not isinstance(index, pd.DatetimeIndex):
        raise ValueError(
            f"the prices of {data.target} have no trading days: give times, and a clock with sessions, "
            "such as Clock.hours(...) or Clock.exchange(...)"
        )
    aware: Any = index.tz_localize(clock.zone) if index.tz is None else index
    at, opens = aware.as_unit("ns").asi8, np.array(clock.sessions.opens)
    number = np.searchsorted(opens, at, "right") - 1
    return number, (at - opens[number]).astype("timedelta64[ns]")


def _static(plain: HedgeData, number: np.ndarray, window: int) -> pd.DataFrame:
    """No hedge, and the ratios that the days before give, by row; NaN in the first days."""
    table = pd.DataFrame(np.nan, plain.index, [NO_HEDGE, CHANGES, LEVELS])
    table[NO_HEDGE] = 0.0
    returns = moves(plain).to_numpy()
    complete = ~np.isnan(returns).any(axis=1) & (np.diff(number, prepend=-1) == 0)
    days = np.unique(number)
    for oldest, today in zip(days, days[window:], strict=False):
        past = (number >= oldest) & (number < today)
        cov = np.cov(returns[past & complete].T)
        before: Any = plain.prices[past]
        logs = HedgeData.from_prices(before, target=plain.target, hedges=list(plain.hedges))
        table.loc[number == today, CHANGES] = cov[0, 1] / cov[1, 1]
        table.loc[number == today, LEVELS] = ols_on_levels(logs).iloc[0]
    return table


def _followed(
    fitted: HedgeFit, later: pd.DataFrame
) -> tuple[list[float], list[float], list[float]]:
    """Ratio, its sd and z after every row, of the filter that a desk would leave running."""
    ratio, sd, z = [], [], []
    hedge = fitted.hedges[0]
    with fitted.go_live(monitor=None, keep=0) as live:
        for at, row in zip(later.index, later.to_dict("records"), strict=True):
            tick = live.tick(row, at=at).tick
            ratio.append(tick.beta[hedge])
            sd.append(tick.sd_total[hedge])
            z.append(tick.z)
    return ratio, sd, z


def _resampled(days: int, seed: int) -> np.ndarray:
    """How often each day is in the sample: all of them once, then 2000 draws of as many."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(days, np.full(days, 1 / days), size=_RESAMPLES)
    return np.concatenate([np.ones((1, days)), drawn])


def _means(values: np.ndarray, day: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means of the columns `(row, method)` over resampled days, `(resample, method)`."""
    known = ~np.isnan(values)
    sums, numbers = (np.zeros((counts.shape[1], values.shape[1])) for _ in range(2))
    np.add.at(sums, day, np.where(known, values, 0.0))
    np.add.at(numbers, day, known.astype(float))
    total = counts @ numbers
    return np.divide(counts @ sums, total, out=np.full(total.shape, np.nan), where=total > 0)


def _with_error(name: str, error: str, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """The figure of the sample, and the sd over its resamples."""
    return {name: drawn[0], error: drawn[1:].std(axis=0)}
