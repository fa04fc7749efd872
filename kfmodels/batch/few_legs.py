"""What few legs out of many, chosen as the rows went by, would have left of one target's moves.

So that the hedge of a pair is seen beside what a universe offers in the same rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kfmodels.basket.basket import Basket
from kfmodels.basket.settings import FEW, MANY
from kfmodels.data.arrays import removed
from kfmodels.data.columns import name_by_text
from kfmodels.data.hedge_data import MIN_ROWS
from kfmodels.kalman.transforms import LOG, Transform


class FewLegs(NamedTuple):
    """Hedges of one target in few legs, by the most legs.

    `left (size, time)` is the move of the target less those of its legs, held since the row before, NaN
    where none were or the target has no move; `weight (size, time, hedge)` the sd of what was held over
    a row, against that of the target.
    """

    hedges: tuple[str, ...]
    left: np.ndarray
    weight: np.ndarray

    def name(self, place: int, rows: np.ndarray, count: int) -> tuple[str, ...]:
        """The legs that were held most over some rows, at most `count`, the heaviest first."""
        mean = np.abs(self.weight[place, rows]).mean(0)
        order = [number for number in np.argsort(-mean, kind="stable") if mean[number] > 0]
        return tuple(self.hedges[number] for number in order[:count])


def hold_few(
    prices: pd.DataFrame,
    target: str,
    hedges: Sequence[str],
    *,
    transform: Transform = LOG,
    sizes: Sequence[int] = FEW,
) -> FewLegs:
    r"""Hedge a target in the best few of some legs, with ratios known the row before.

    $$e_t = Δy_t - ∑_j β_{j,t-1} Δx_{j,t}$$

    The ratios are those of a `Basket` with at most so many legs, which it chooses by the moves up to
    the row before. From 250 rows after its first price on an asset may be a leg.

    Args:
        prices: sorted by date, with columns of target and hedges; NaN is a gap.
        target, hedges: tickers.
        transform: what a move is: dollars on levels, a simple return otherwise.
        sizes: most legs.
    """
    table = prices.loc[:, [target, *hedges]]
    filled = table.ffill()
    shape = len(sizes), len(table), len(hedges)
    if len(hedges) > MANY or (table <= 0).to_numpy().any():
        return FewLegs(tuple(hedges), np.full(shape[:2], np.nan), np.zeros(shape))
    rows = table.to_dict("records")
    money = np.full((len(sizes), len(table), len(hedges)), np.nan)
    for place, size in enumerate(sizes):
        basket = Basket([target, *hedges], targets=[target], hedges=hedges, legs=size)
        for number, row in enumerate(rows[:-1], start=1):
            basket.update(row)
            money[place, number] = basket.ratios()[0, 1:]
    last = filled.shift(1).to_numpy()
    ratio = money
    if transform.by_shares:
        ratio = money * last[:, :1] / last[:, 1:]
    own = transform.moves(table, table.shift(1)).to_numpy()[:, 0]
    legs = transform.moves(filled, filled.shift(1)).to_numpy()[:, 1:]
    # a leg that is not listed yet has no move, and nothing is held in it
    left = own - np.where(money == 0, 0.0, ratio * legs).sum(-1)
    size = np.nan_to_num(np.log(filled.to_numpy() / last)).std(0)
    return FewLegs(tuple(hedges), left, money * size[1:] / (size[0] or 1.0))


class Beside(NamedTuple):
    """A pair beside the universe of its prices, over `rows` that all were hedged in.

    `own` is the share of the target's variance that the hedges of the pair removed, `few` what the best
    leg and the best three out of `columns` would have, and `legs` those that they held most.
    """

    rows: int
    columns: int
    own: float
    few: tuple[float, ...]
    legs: tuple[tuple[str, ...], ...]


def compare_with_universe(
    pair: pd.DataFrame,
    table: pd.DataFrame,
    *,
    transform: Transform = LOG,
    since: object = None,
) -> Beside | None:
    """Set the hedges of a pair beside the best few of all columns of its table of prices.

    All ratios come of the same rule (`hold_few`), each known the row before, so that what differs is
    which legs there are. None where the table has no other column of prices, or fewer than 30 rows that
    all are hedged in.

    Args:
        pair: prices of the target and its hedges, as they were fitted.
        table: the prices they were taken from, one column a ticker; a column that holds anything but
            prices above 0 is left out.
        transform: of the pair.
        since: only rows later than it are counted.
    """
    table = name_by_text(table)
    target, *own = map(str, pair)
    index = table.index
    others = [str(name) for name, each in table.items() if name not in pair and _is_price(each)]
    if not others or not index.is_monotonic_increasing or not index.is_unique:
        return None
    every = pair.reindex(index).join(table[others])
    mine = hold_few(every, target, own, transform=transform, sizes=[len(own)])
    few = hold_few(every, target, [*own, *others], transform=transform)
    left = np.vstack([mine.left, few.left])
    rows = np.isfinite(left).all(0)
    if since is not None:
        rows &= np.asarray(index > since)
    if rows.sum() < MIN_ROWS:
        return None
    moves = transform.moves(every[target], every[target].shift(1)).to_numpy()[rows]
    shares = removed(np.column_stack([moves, (moves - left[:, rows]).T]), np.ones(len(left)))
    legs = tuple(few.name(place, rows, count) for place, count in enumerate(FEW))
    count = 1 + len(own) + len(others)
    return Beside(int(rows.sum()), count, float(shares[0]), tuple(shares[1:].tolist()), legs)


def _is_price(column: pd.Series) -> bool:
    known = column.dropna()
    if not len(known) or not pd.api.types.is_numeric_dtype(known):
        return False
    return bool(known.between(0, np.inf, inclusive="neither").all())
