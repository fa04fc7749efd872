"""Prices after a fit: repaired by a table, and told where a split has given them other units."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from kfmodels.data.checks import DateLike, check_index, to_floats
from kfmodels.data.columns import check_columns, check_table, name_by_text
from kfmodels.data.repairs import Real, Repair, apply_repair, factors_after
from kfmodels.data.scales import complain
from kfmodels.kalman.transforms import Transform
from kfmodels.words.caller import warn


class Later(NamedTuple):
    """Rows after those of a fit, in the units of the last of them."""

    prices: pd.DataFrame
    factors: dict[str, float]
    """By ticker, what prices in the units of the fit are multiplied by to be in these."""

    real: Real
    """Moves that the table says are real."""

    @property
    def changed(self) -> dict[str, float]:
        """The factors of the tickers whose units are others than at the fit."""
        return {name: factor for name, factor in self.factors.items() if factor != 1}

    @property
    def as_fitted(self) -> pd.DataFrame:
        """The same rows in the units of the fit."""
        return self.prices / pd.Series(self.factors)


def repair_later(before: pd.DataFrame, later: pd.DataFrame, repair: Repair | None) -> Later:
    """The rows after a fit as a table of repairs says, which is that of `HedgeData.from_prices`.

    Args:
        before: the prices of the fit, in its units, of the same tickers.
        later: the rows after them, as they came.
        repair: dates within `before` change nothing here.
    """
    every, real = apply_repair(pd.concat([before, later]), repair)
    factors = factors_after(every, repair, len(before))
    return Later(every.iloc[len(before) :], factors, real)


def read_on(
    prices: pd.DataFrame,
    names: list[str],
    last: Mapping[str, float],
    transform: Transform,
    repair: Repair | None,
) -> tuple[Later, str]:
    """The rows that a filter goes on with, and what is in doubt of them, in words.

    Args:
        prices: as they came.
        names: the tickers of the filter, the target first.
        last: the last prices that it has learnt from; empty if there are none.
        transform: of its prices.
        repair: of these rows.
    """
    check_table(prices)
    prices = name_by_text(prices)
    check_columns(prices, names)
    check_index(prices.index)
    rows = to_floats(prices, names)
    # the last row learnt from is judged with them; any date before theirs will do for it
    earlier = rows.index[:1] - (pd.Timedelta(seconds=1) if hasattr(rows.index, "unit") else 1)
    before: pd.DataFrame = pd.DataFrame(last, earlier, columns=names, dtype=float)
    later = repair_later(before if last else before.head(0), rows, repair)
    every: pd.DataFrame = pd.concat([before * pd.Series(later.factors), later.prices])
    return later, complain(every, transform, later.real)


def warn_of_later(
    before: pd.DataFrame, later: pd.DataFrame, transform: Transform, real: Real
) -> None:
    """Warn once of later rows that are in doubt; what was in doubt of those before was said then."""
    since: DateLike = later.index[0]
    if found := complain(pd.concat([before, later]), transform, real, since):
        warn(found)
