"""Prices after a fit: repaired by a table, and told where a split has given them other units."""

import warnings
from typing import NamedTuple

import pandas as pd

from kfmodels.data.checks import DateLike
from kfmodels.data.repairs import Real, Repair, apply_repair, factors_after
from kfmodels.data.scales import complain
from kfmodels.kalman.transforms import Transform


class Later(NamedTuple):
    """Rows after those of a fit, in the units of the last of them."""

    prices: pd.DataFrame
    factors: dict[str, float]
    """By ticker, what prices in the units of the fit are multiplied by to be in these."""

    real: Real
    """Moves that the table says are real."""

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


def warn_of_later(
    before: pd.DataFrame, later: pd.DataFrame, transform: Transform, real: Real
) -> None:
    """Warn once of later rows that are in doubt; what was in doubt of those before was said then."""
    since: DateLike = later.index[0]
    if found := complain(pd.concat([before, later]), transform, real, since):
        warnings.warn(found, stacklevel=3)
