"""A universe run over a table of prices: what every row brought, and what few legs would have done."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kfmodels.basket.basket import Basket
from kfmodels.basket.settings import CHOOSER, FEW
from kfmodels.data.arrays import resample_blocks
from kfmodels.online.ticks import Outcome
from kfmodels.words.progress import wait_for

LIGHT = 0.02
"""Sd of what is held in a leg over that of the target, below which a leg is light."""

YEAR = 252
"""Rows that turnover is told for."""

_EVERY, _RARELY, _MANY = 5, 21, 100
"""Rows between two ratios that are kept, and from how many assets on they are kept rarely."""

_BLOCK, _DRAWS = 20, 400
"""Daily rows that are resampled together, and how often, for a standard error."""


class History(NamedTuple):
    """What the rows of a table brought; arrays `(time, target)` unless said.

    `move` of the target, `mean` what its hedges said of it, `sd` and `below` of that forecast, NaN
    where nothing was judged. `left (few, time, target)` is what the best few legs left, one array for
    each of `FEW` that is fewer than the mixture may hold; `left_heavy` what the mixture leaves without
    its light legs. `kept` are rows, and `ratios (kept, target, asset)` those to hold after them;
    `traded` is the money traded in the hedges after a row, against one of the target, and
    `traded_heavy` the same without light legs. `events` are (row, ticker, outcome, reason) of prices
    that were held back or taken in doubt.
    """

    move: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    below: np.ndarray
    left: np.ndarray
    left_heavy: np.ndarray
    kept: np.ndarray
    ratios: np.ndarray
    traded: np.ndarray
    traded_heavy: np.ndarray
    events: list[tuple[int, str, str, str]]


def run(
    basket: Basket, rivals: list[Basket], prices: pd.DataFrame, progress: bool = False
) -> History:
    """Take a table of prices row by row; `rivals` see the same rows, each for itself."""
    with wait_for(
        f"hedging {len(basket)} targets", len(prices), shown=progress, compiles=False
    ) as row:
        return _run(basket, rivals, prices, row.advance)


def _run(
    basket: Basket, rivals: list[Basket], prices: pd.DataFrame, advance: Callable[[], object]
) -> History:
    rows, columns = prices.to_numpy(float), list(basket.tickers)
    targets = [columns.index(name) for name in basket.targets]
    shape = len(rows), len(basket)
    numbers = {name: np.full(shape, np.nan) for name in ("move", "mean", "spread_sd", "below")}
    left, left_heavy = np.full((len(rivals), *shape), np.nan), np.full(shape, np.nan)
    all_legs, heavy = Held(basket), Held(basket)
    every = _EVERY if len(columns) <= _MANY else _RARELY
    # of rows within the day as many times rarer, or their ratios would fill the memory
    every = round(every * max(1.0, basket.day.bars / 4))
    kept: list[int] = []
    ratios: list[np.ndarray] = []
    events: list[tuple[int, str, str, str]] = []
    for number, (label, row) in enumerate(zip(stamps(prices.index), rows, strict=True)):
        given = dict(zip(columns, row.tolist(), strict=True))
        tick = basket.update(given, at=label)
        for name, values in numbers.items():
            values[number] = getattr(tick, name)[targets]
        for place, rival in enumerate(rivals):
            left[place, number] = rival.update(given, at=label).spread[targets]
        events += [
            (number, ticker, str(outcome), reason)
            for ticker, (outcome, reason) in tick.said.items()
            if outcome is not Outcome.SKIPPED
        ]
        # a bad print is no move: legs are scored, and money drifts, by what the row was learnt from
        moves = np.nan_to_num(tick.moves)
        light = np.nan_to_num(all_legs.ratios - heavy.ratios)
        left_heavy[number] = tick.spread[targets] + light @ moves
        now = basket.ratios()
        all_legs.trade(now, np.exp(moves))
        heavy.trade(np.where(weigh_legs(basket, now) < LIGHT, 0.0, now), np.exp(moves))
        if number % every == every - 1 or number == len(rows) - 1:
            kept.append(number)
            ratios.append(now)
        advance()
    return History(
        move=numbers["move"],
        mean=numbers["mean"],
        sd=numbers["spread_sd"],
        below=numbers["below"],
        left=left,
        left_heavy=left_heavy,
        kept=np.array(kept),
        ratios=np.array(ratios),
        traded=np.array(all_legs.traded),
        traded_heavy=np.array(heavy.traded),
        events=events,
    )


class Held:
    r"""Ratios that are held, and what was traded to hold them, against one of each target.

    $$∑_j |β_{j,t} - β_{j,t-1} \, (1 + r_{j,t}) / (1 + r_{y,t})|$$

    since shares are held over a row, and money drifts with the prices.
    """

    def __init__(self, basket: Basket) -> None:
        self._targets = [basket.tickers.index(name) for name in basket.targets]
        self.ratios = np.full((len(basket), len(basket.tickers)), np.nan)
        self.traded: list[np.ndarray] = []
        """Of every target in each row; NaN where nothing was held before."""

    def trade(self, ratios: np.ndarray, growth: np.ndarray) -> None:
        """Go to new ratios after prices have grown by these factors."""
        drifted = np.nan_to_num(self.ratios * (growth / growth[self._targets, None]))
        traded = np.abs(np.nan_to_num(ratios) - drifted).sum(1)
        self.traded.append(np.where(np.isnan(self.ratios).all(1), np.nan, traded))
        self.ratios = ratios


def weigh_legs(basket: Basket, ratios: np.ndarray) -> np.ndarray:
    """Sd of what is held in every leg over that of the target, `(target, asset)`."""
    sd = basket.stand.moments.standardise()[1][CHOOSER]
    own = sd[[basket.tickers.index(name) for name in basket.targets]]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(ratios) * sd / own[:, None]


def sum_traded(traded: np.ndarray) -> np.ndarray:
    """What was traded in the last 252 rows, by target; over fewer rows, as if it went on."""
    lately = traded[-YEAR:]
    seen = ~np.isnan(lately)
    with np.errstate(invalid="ignore"):
        return YEAR * np.where(seen, lately, 0.0).sum(0) / seen.sum(0)


def stamps(index: pd.Index) -> list[Any]:
    """The labels of a table as times that a basket takes."""
    return list(index) if isinstance(index, pd.DatetimeIndex) else [int(label) for label in index]


def measure_worth(
    history: History, names: list[str], same: list[bool], block: float = 1
) -> pd.DataFrame:
    r"""Share of the mean square of each target's move that was removed, by the mixture and by few legs.

    $$1 - ∑_t e_t^2 / ∑_t y_t^2, \qquad e_t = y_t - \hat β_{t-1}' x_t$$

    over the rows that all judged; the standard error of the lead resamples circular blocks of 20 rows.
    `heavy` is that of the mixture without its light legs.

    Args:
        same: for each of `FEW`, whether the mixture itself has no more legs.
        block: rows of a day; blocks of fewer are of 20.
    """
    spread = history.move - history.mean
    others = iter(history.left)
    each = [spread, *(spread if equal else next(others) for equal in same), history.left_heavy]
    judged = np.isfinite(np.stack(each)).all(0)
    squares = np.stack([np.where(judged, part, 0.0) ** 2 for part in (history.move, *each)])
    total = squares.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        removed = 1 - total[1:] / total[0]
        error = _errors(squares[:, judged.any(1)], max(_BLOCK, round(block)))
    table = {"rows": judged.sum(0), "removed": removed[0]}
    table["heavy"] = removed[-1]
    for place, legs in enumerate(FEW, start=1):
        table[f"best_{legs}"] = removed[place]
        table[f"lead_{legs}"] = removed[0] - removed[place]
        table[f"lead_{legs}_se"] = error[place - 1]
    return pd.DataFrame(table, pd.Index(names, name="target"))


def _errors(squares: np.ndarray, block: int) -> np.ndarray:
    """Standard errors of the leads over each, from squares `(method, time, target)`."""
    rows = squares.shape[1]
    picked = resample_blocks(rows, _DRAWS, block=block)
    # how often each row is drawn: the sums of a draw are then one product for all targets
    often = np.stack([np.bincount(draw, minlength=rows) for draw in picked]).astype(float)
    drawn = np.moveaxis(often @ squares, 1, 0)
    removed = 1 - drawn[:, 1:] / drawn[:, :1]
    lead = removed[:, :1] - removed[:, 1:]
    # a target that came late may be in none of the blocks of a draw
    seen = np.isfinite(lead)
    count = seen.sum(0)
    mean = np.where(seen, lead, 0.0).sum(0) / count
    error = np.sqrt((np.where(seen, lead - mean, 0.0) ** 2).sum(0) / (count - 1))
    return np.where(count > 1, error, np.nan)
