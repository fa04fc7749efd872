"""Prices in, aligned arrays out. Every complaint about data is made here, and NaN stops here."""

from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

Transform = Literal["log", "level", "return"]

MIN_ROWS = 30
"""Fewest common rows that a noise variance may be inferred from."""


@dataclass(frozen=True, eq=False)
class HedgeData:
    """A target and its hedges over time, transformed and aligned; make it with `from_prices`.

    `prices` are the prices as given, `values` the same rows transformed; both have the columns
    [target, hedges...]. A row in which any of them is missing is kept and counts as not observed.
    """

    prices: pd.DataFrame
    values: pd.DataFrame
    transform: Transform

    @classmethod
    def from_prices(
        cls,
        frame: pd.DataFrame,
        *,
        target: str,
        hedges: list[str] | tuple[str, ...] | str,
        transform: Transform = "log",
    ) -> "HedgeData":
        """Align a target with its hedges and transform both.

        Args:
            frame: prices, one column a ticker, one row a bar, sorted by date. NaN is a gap.
            target: the ticker held.
            hedges: the tickers it is hedged with.
            transform: "log" (hedge ratio in percent per percent), "level" (in shares) or "return"
                (simple returns between complete rows).

        Raises:
            ValueError: unknown ticker, target among the hedges, unsorted or duplicate dates, a
                price that is infinite, not a number or (log, return) not positive, a hedge that
                never moves, fewer than 30 common rows. The message names ticker, date and remedy.

        Example:
            >>> from kfmodels import HedgeData, datasets
            >>> data = HedgeData.from_prices(datasets.stocks(), target="AAPL", hedges=["SPX"])
            >>> data.before("2020-01-01").last_date.date().isoformat()
            '2019-12-31'
        """
        hedges = (hedges,) if isinstance(hedges, str) else tuple(hedges)
        _check_tickers(frame, target, hedges)
        _check_index(frame.index)
        if transform not in ("log", "level", "return"):
            raise ValueError(f'transform must be "log", "level" or "return", not {transform!r}')
        prices = _numbers(frame, [target, *hedges])
        _check_prices(prices, transform)
        values = transform_prices(prices, transform)
        if transform == "return" and len(prices):
            prices, values = prices.iloc[1:], values.iloc[1:]
        data = cls(prices, values, transform)
        data.check_enough()
        return data

    def before(self, date: Any) -> "HedgeData":
        """The rows strictly before `date`; with `after` it splits the data in two."""
        return self._rows(self.index < self._stamp(date))

    def after(self, date: Any) -> "HedgeData":
        """The rows at `date` and later."""
        return self._rows(self.index >= self._stamp(date))

    @property
    def target(self) -> str:
        return str(self.values.columns[0])

    @property
    def hedges(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.values.columns[1:])

    @property
    def index(self) -> pd.Index:
        return self.values.index

    @property
    def last_date(self) -> Any:
        return self.index[-1]

    @cached_property
    def observed(self) -> np.ndarray:
        """True where target and all hedges are there, shape (time,)."""
        return self.values.notna().all(axis=1).to_numpy()

    @cached_property
    def y(self) -> np.ndarray:
        """Transformed target, shape (time,); 0 where not observed."""
        return np.where(self.observed, self.values.iloc[:, 0].to_numpy(), 0.0)

    @cached_property
    def x(self) -> np.ndarray:
        """Transformed hedges, shape (time, hedges); 0 where not observed."""
        return np.where(self.observed[:, None], self.values.iloc[:, 1:].to_numpy(), 0.0)

    @cached_property
    def dt(self) -> np.ndarray:
        """Bars since the row before, shape (time,): 0 up to the first observed row, then 1."""
        return (np.cumsum(self.observed) - self.observed > 0).astype(float)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        span = f"{day(self.index[0])} .. {day(self.last_date)}" if len(self) else "no rows"
        gaps = int((~self.observed).sum())
        return (
            f"HedgeData({self.target} on {', '.join(self.hedges)}; {self.transform}; "
            f"{len(self)} rows, {gaps} of them with a gap; {span})"
        )

    def check_enough(self) -> None:
        """Raise if there are too few complete rows to infer from, or a hedge never moves in them."""
        common = int(self.observed.sum())
        if common >= MIN_ROWS:
            for name, column in self.values[self.observed].iloc[:, 1:].items():
                _check_moves(column, str(name))
            return
        counts = self.values.notna().sum()
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(
            f"only {common} common rows of {self.target} and {', '.join(self.hedges)} "
            f"(prices there: {listed}); {MIN_ROWS} are needed: give a longer history or drop the "
            "ticker with the gaps"
        )

    def _rows(self, keep: np.ndarray) -> "HedgeData":
        return replace(self, prices=self.prices[keep], values=self.values[keep])

    def _stamp(self, date: Any) -> Any:
        index = self.index
        if not isinstance(index, pd.DatetimeIndex):
            return date
        stamp = pd.Timestamp(date)
        if (stamp.tz is None) != (index.tz is None):
            have = f"in {index.tz}" if index.tz is not None else "without a time zone"
            cure = (
                f"pd.Timestamp({str(date)!r}, tz={str(index.tz)!r})"
                if index.tz is not None
                else "date.tz_localize(None)"
            )
            raise ValueError(
                f"time zones do not match: the prices are dated {have}, the date {date} is "
                f"{'without one' if stamp.tz is None else f'in {stamp.tz}'}; use {cure}"
            )
        return stamp


def rows_after(prices: Any, date: Any, names: list[str]) -> pd.DataFrame:
    """The rows of some columns of a price table that are later than a date, as numbers.

    Raises:
        ValueError: not a table of prices, a missing column, dates that are not dates, out of order or
            twice, a time zone where the date has none (or the other way round), or text.
    """
    if not isinstance(prices, pd.DataFrame):
        raise ValueError(
            f"prices must be a pandas DataFrame, one column a ticker, not {type(prices)}"
        )
    missing = [name for name in names if name not in prices.columns]
    if missing:
        raise ValueError(f"the prices have no column {', '.join(missing)}")
    _check_index(prices.index)
    dated = isinstance(prices.index, pd.DatetimeIndex)
    if dated != isinstance(date, pd.Timestamp):
        raise ValueError(
            f"the rows are labelled like {prices.index[0]!r}, those of the fit like {date!r}: use the "
            "same labels for both"
        )
    zone = getattr(prices.index, "tz", None)
    if dated and (date.tz is None) != (zone is None):
        raise ValueError(
            f"time zones do not match: the prices are dated in {zone}, the fit ends at "
            f"{date}; use prices.tz_localize(...) or prices.tz_localize(None)"
        )
    return _numbers(prices.loc[prices.index > date], names)


def day(at: Any) -> str:
    """A date without its midnight."""
    return str(at).removesuffix(" 00:00:00")


def transform_prices(prices: pd.DataFrame, transform: Transform) -> pd.DataFrame:
    """Log prices, prices, or simple returns between rows in which nothing is missing."""
    if transform == "log":
        logs: Any = np.log(prices)  # a DataFrame, though NumPy declares an array
        return logs
    if transform == "level":
        return prices
    complete = prices.dropna()
    return (complete / complete.shift(1) - 1).reindex(prices.index)


def _check_tickers(frame: pd.DataFrame, target: str, hedges: tuple[str, ...]) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(
            f"prices must be a pandas DataFrame, one column a ticker, not {type(frame)}"
        )
    if not hedges:
        raise ValueError(f"no hedge given for {target}: name at least one ticker in hedges=[...]")
    names = [str(name) for name in frame.columns]
    for ticker in (target, *hedges):
        if ticker not in frame.columns:
            close = get_close_matches(str(ticker), names, n=3, cutoff=0.5) or names[:8]
            raise ValueError(
                f"{ticker} is not among the {len(names)} columns of the prices; "
                f"there is {', '.join(close)}{' ...' if len(names) > len(close) else ''}"
            )
        if names.count(str(ticker)) > 1:
            raise ValueError(f"{ticker} names several columns of the prices: keep one")
    for reserved in {"alpha", "noise"} & {target, *hedges}:
        raise ValueError(f"{reserved!r} names a coefficient here: rename that column of the prices")
    if target in hedges:
        raise ValueError(f"{target} is the target and cannot hedge itself: take it out of hedges")
    for ticker in hedges:
        if hedges.count(ticker) > 1:
            raise ValueError(f"{ticker} is named twice among the hedges: name it once")


def _check_index(index: pd.Index) -> None:
    if index.dtype == object or isinstance(index.dtype, pd.StringDtype):
        raise ValueError(
            f"the rows are labelled with text (first: {index[0]!r}), not dates: read them with "
            "pd.read_csv(..., index_col=0, parse_dates=True) or set frame.index = pd.to_datetime(...)"
        )
    numbered = pd.api.types.is_integer_dtype(index.dtype)
    if not numbered and not isinstance(index, pd.DatetimeIndex):
        raise ValueError(
            f"the rows are labelled with {index.dtype}: dates or whole numbers are needed; use "
            "frame.index = pd.to_datetime(...) or, for periods, frame.index.to_timestamp()"
        )
    if index.hasnans:
        raise ValueError("a row has no date (NaT): drop it with frame[frame.index.notna()]")
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise ValueError(
            f"the date {twice} stands more than once: keep one row of it, for example "
            "frame[~frame.index.duplicated(keep='last')]"
        )
    if not index.is_monotonic_increasing:
        at = int(np.flatnonzero(np.diff(getattr(index, "asi8", index)) < 0)[0])
        raise ValueError(
            f"dates are not sorted: {index[at + 1]} comes after {index[at]}; use frame.sort_index()"
        )


def _numbers(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    columns = {}
    for name in names:
        try:
            columns[name] = frame[name].astype(float)
        except (TypeError, ValueError) as error:
            given: Any = frame[name]
            bad = given[pd.isna(pd.to_numeric(given, errors="coerce")) & given.notna()]
            where = f": {bad.iloc[0]!r} at {bad.index[0]}" if len(bad) else ""
            raise ValueError(
                f"{name} holds something that is not a number{where}; "
                "use pd.to_numeric(..., errors='coerce') to make it a gap"
            ) from error
    return pd.DataFrame(columns, index=frame.index)


def _check_prices(prices: pd.DataFrame, transform: Transform) -> None:
    for name in prices:
        column = prices[name]
        infinite = np.isinf(column.to_numpy())
        if infinite.any():
            raise ValueError(
                f"{name} is infinite at {column.index[infinite][0]}: "
                "replace it with NaN to make it a gap"
            )
        if transform == "level":
            continue
        low = column.loc[column <= 0]
        if len(low):
            raise ValueError(
                f"{name} is {low.iloc[0]:g} at {low.index[0]}: a {transform} transform needs positive "
                'prices; make it a gap (NaN) if it is a bad print, or use transform="level"'
            )


def _check_moves(column: pd.Series, name: str) -> None:
    if np.ptp(column.to_numpy()) == 0:
        raise ValueError(
            f"hedge {name} is constant at {column.iloc[0]:g} from {column.index[0]} to "
            f"{column.index[-1]}: it hedges nothing; leave it out or choose other dates"
        )
