"""What prices must be before anything is inferred from them, and what to do where they are not."""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from difflib import get_close_matches

import numpy as np
import pandas as pd

from kfmodels.kalman.transforms import Transform

Label = pd.Timestamp | int
"""The label of a row: its date, or a number where rows are numbered."""

DateLike = str | date | Label
"""What a user may write for a label: a date as text too."""


def check_table(frame: object) -> None:
    """Raise unless this is a table of prices."""
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(
            f"prices must be a pandas DataFrame, one column a ticker, not {type(frame)}"
        )


def check_columns(frame: pd.DataFrame, tickers: Iterable[str]) -> None:
    """Raise unless each ticker is one column."""
    # 1 and "1" are two columns for pandas and one ticker here
    names = Counter(str(name) for name in frame.columns)
    count = len(frame.columns)
    for ticker in tickers:
        if ticker not in frame.columns:
            close = get_close_matches(str(ticker), names, n=3, cutoff=0.5) or list(names)[:8]
            raise ValueError(
                f"{ticker} is not among the {count} columns of the prices; "
                f"there is {', '.join(close)}{' ...' if count > len(close) else ''}"
            )
        if names[str(ticker)] > 1:
            raise ValueError(f"{ticker} names several columns of the prices: keep one")


def check_legs(target: str, hedges: tuple[str, ...]) -> None:
    """Raise if a ticker has the name of a coefficient, or is named twice."""
    for reserved in {"alpha", "noise"} & {target, *hedges}:
        raise ValueError(f"{reserved!r} names a coefficient here: rename that column of the prices")
    if target in hedges:
        raise ValueError(f"{target} is the target and cannot hedge itself: take it out of hedges")
    for ticker in hedges:
        if hedges.count(ticker) > 1:
            raise ValueError(f"{ticker} is named twice among the hedges: name it once")


def check_index(index: pd.Index) -> None:
    """Raise unless rows are labelled with dates or whole numbers, sorted, each once."""
    # pandas before 3 reads text as object, pandas 3 as a type of its own
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
        # as whole numbers: the difference of dates with a time zone does not compare with 0
        at = int(np.flatnonzero(np.diff(getattr(index, "asi8", index)) < 0)[0])
        raise ValueError(
            f"dates are not sorted: {index[at + 1]} comes after {index[at]}; use frame.sort_index()"
        )


def to_floats(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Some columns of a table as floats, or the first cell that is none named in an error."""
    columns = {}
    for name in names:
        try:
            columns[name] = frame[name].astype(float)
        except (TypeError, ValueError) as error:
            given = frame[name]
            bad = given.loc[pd.isna(pd.to_numeric(given, errors="coerce")) & given.notna()]
            where = f": {bad.iloc[0]!r} at {bad.index[0]}" if len(bad) else ""
            raise ValueError(
                f"{name} holds something that is not a number{where}; "
                "use pd.to_numeric(..., errors='coerce') to make it a gap"
            ) from error
    return pd.DataFrame(columns, index=frame.index)


def check_prices(prices: pd.DataFrame, transform: Transform) -> None:
    """Raise if a price is infinite, or not positive where it must be."""
    for name in prices:
        column = prices[name]
        infinite = np.isinf(column.to_numpy())
        if infinite.any():
            raise ValueError(
                f"{name} is infinite at {column.index[infinite][0]}: "
                "replace it with NaN to make it a gap"
            )
        low = column.loc[column <= transform.least]
        if len(low):
            raise ValueError(
                f"{name} is {low.iloc[0]:g} at {low.index[0]}: a {transform} transform needs positive "
                'prices; make it a gap (NaN) if it is a bad print, or use transform="level"'
            )


def check_moves(column: pd.Series, name: str) -> None:
    """Raise if a hedge never moves."""
    if np.ptp(column.to_numpy()) == 0:
        raise ValueError(
            f"hedge {name} is constant at {column.iloc[0]:g} from {column.index[0]} to "
            f"{column.index[-1]}: it hedges nothing; leave it out or choose other dates"
        )
