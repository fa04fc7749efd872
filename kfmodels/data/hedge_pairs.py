"""Many pairs of one table of prices, for `fit_many`: what is wrong with one never stops the others."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from kfmodels.data.checks import (
    DateLike,
    check_index,
    check_no_serials,
    check_prices,
    day,
    to_floats,
)
from kfmodels.data.columns import (
    check_columns,
    check_legs,
    check_table,
    name_by_text,
)
from kfmodels.data.filled import tell_filled
from kfmodels.data.hedge_data import HedgeData, is_before
from kfmodels.data.repairs import Real, Repair, apply_repair
from kfmodels.data.scales import Doubt, by_ticker, complain, find_doubts
from kfmodels.kalman.transforms import Transform, transform_of
from kfmodels.words.caller import warn


@dataclass(frozen=True, eq=False)
class HedgePairs:
    """Pairs (target, hedge) of one table of prices.

    `HedgeData.pairs`, `all_pairs` and `one_target` make them. A ticker or pair whose prices
    cannot be used does not raise here: `fit_many` reports it as the status of that pair.
    """

    prices: pd.DataFrame
    """The tickers that take part, as floats; those that cannot be used are NaN throughout."""

    pairs: tuple[tuple[str, str], ...]
    transform: Transform
    faults: dict[str, str]
    """What is wrong with a ticker, by ticker."""

    real: Real = ()
    """Ticker and date of the moves that the user knows to be real."""

    @classmethod
    def from_prices(
        cls,
        frame: pd.DataFrame,
        pairs: Iterable[tuple[str, str]],
        transform: str,
        repair: Repair | None = None,
    ) -> "HedgePairs":
        """Check what concerns all pairs: the table, its dates, the names.

        Raises:
            ValueError: not a table of prices, no pair, a pair that is not two tickers or is named
                twice, an unknown ticker, dates not sorted or not unique, an unknown transform.
        """
        check_table(frame)
        frame = name_by_text(frame)
        listed = tuple(_check_pair(pair) for pair in pairs)
        if not listed:
            raise ValueError("no pair is given: name at least one (target, hedge)")
        tickers = dict.fromkeys(ticker for pair in listed for ticker in pair)
        check_columns(frame, tickers)
        named = {}
        for pair in listed:
            check_legs(pair[0], pair[1:])
            name = _name(*pair)
            if named.get(name) == pair:
                raise ValueError(f"the pair {name} is named twice: name it once")
            if name in named:  # "A" on "B/C" and "A/B" on "C"
                raise ValueError(f"two pairs are called {name}: rename a column of the prices")
            named[name] = pair
        check_index(frame.index)
        check_no_serials(frame.index)
        done = transform_of(transform)
        columns, faults = {}, {}
        for name in tickers:
            try:
                columns[name] = to_floats(frame, [name])[name]
            except ValueError as error:
                faults[name] = str(error)  # told of its own pairs; the others are fitted
                columns[name] = pd.Series(np.nan, frame.index)
        prices, real = apply_repair(pd.DataFrame(columns, frame.index), repair)
        for name in tickers:
            try:
                check_prices(prices.loc[:, [name]], done)
            except ValueError as error:
                faults[name] = str(error)
                prices[name] = np.nan
        made = cls(prices, listed, done, faults, real)
        for found in (complain(prices, done, real), tell_filled(prices)):
            if found:
                warn(found)
        return made

    @cached_property
    def doubts(self) -> dict[str, list[Doubt]]:
        """What is in doubt of a ticker, by ticker; see `HedgeData.doubts`."""
        return dict(by_ticker(find_doubts(self.prices, self.transform, self.real)))

    @property
    def names(self) -> list[str]:
        """The pairs as "target/hedge"."""
        return [_name(*pair) for pair in self.pairs]

    @cached_property
    def _by_name(self) -> dict[str | tuple[str, str], tuple[str, str]]:
        """Each pair by its name and by itself."""
        pairs = dict(zip(self.names, self.pairs, strict=True))
        return pairs | {pair: pair for pair in self.pairs}

    @property
    def index(self) -> pd.Index:
        return self.prices.index

    def data(self, pair: str | tuple[str, str]) -> HedgeData:
        """One pair alone.

        Raises:
            ValueError: it is not one of the pairs, or `HedgeData.from_prices` refuses its prices.
        """
        found = self._by_name.get(pair if isinstance(pair, str) else _check_pair(pair))
        if found is None:
            raise ValueError(
                f"{pair} is not among the {len(self.pairs)} pairs: there is {self.names[0]}"
            )
        target, hedge = found
        for name in (target, hedge):
            if name in self.faults:
                raise ValueError(self.faults[name])
        return HedgeData.align(self.prices.loc[:, [target, hedge]], self.transform, real=self.real)

    def before(self, date: DateLike) -> "HedgePairs":
        """The rows strictly before `date`."""
        return replace(self, prices=self.prices[is_before(self.index, date)])

    def after(self, date: DateLike) -> "HedgePairs":
        """The rows at `date` and later."""
        return replace(self, prices=self.prices[~is_before(self.index, date)])

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        rows = len(self.index)
        span = f"{day(self.index[0])} .. {day(self.index[-1])}" if rows else "no rows"
        return (
            f"HedgePairs({len(self)} pairs of {self.prices.shape[1]} tickers; {self.transform}; "
            f"{rows} rows, {span})"
        )


def _check_pair(pair: object) -> tuple[str, str]:
    if isinstance(pair, str) or not isinstance(pair, Iterable) or len(legs := tuple(pair)) != 2:
        raise ValueError(f"a pair is two tickers, (target, hedge), not {pair!r}")
    return str(legs[0]), str(legs[1])


def _name(target: str, hedge: str) -> str:
    return f"{target}/{hedge}"
