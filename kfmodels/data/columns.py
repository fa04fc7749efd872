"""A table of prices has one column a ticker: what else is given, and how to make such a table of it."""

import re
import warnings
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches

import pandas as pd

from kfmodels.data.checks import is_numbered, like_dates, unit_since_1970

_CLOSES = ("Close", "close", "Adj Close", "adj_close", "adjclose")
"""What downloads call the closing price."""

_DATES = ("date", "datetime", "day", "time", "timestamp")
"""What a column of dates is called, in small letters."""

_ISO = r"\d{4}-\d{2}-\d{2}"
"""The beginning of a date that is read in one way only, as text."""

_ENOUGH = 100
"""Rows that say what a column holds."""

_RENAMED = re.compile(r"(.+)\.[1-9]\d*")
"""The name that pandas gives the second column of a name in a file, and later ones."""


def check_table(frame: object) -> None:
    """Raise unless this is a table of prices."""
    if not isinstance(frame, pd.DataFrame):
        cure = _as_table(frame)
        raise ValueError(
            f"prices must be a pandas DataFrame, one column a ticker, not {type(frame)}"
            f"{': ' if cure else ''}{cure}"
        )
    columns = frame.columns
    if columns.nlevels > 1:
        first = str(columns[0])
        cure = 'frame.columns = ["_".join(map(str, name)) for name in frame.columns]'
        for level in range(columns.nlevels):
            kind = next((word for word in _CLOSES if word in columns.get_level_values(level)), None)
            if kind is not None:
                cure = f"frame = frame.xs({kind!r}, axis=1, level={level})"
                break
        raise ValueError(
            f"the columns have {columns.nlevels} levels (first: {first}); a column is a ticker: use "
            f"{cure}"
        )
    _check_heads(frame)
    _check_dates_beside(frame)


def _check_heads(frame: pd.DataFrame) -> None:
    """Raise where a file was read whose tickers stand in a second line of headings.

    So yfinance writes it: a line of kinds of prices, one of tickers, one with the name of the dates.
    """
    places = [frame.index, *([frame.iloc[:, 0]] if frame.shape[1] else [])]
    if any(list(labels[:2]) == ["Ticker", "Date"] for labels in places):
        kinds = [str(name).partition(".")[0] for name in frame.columns]
        kind = next((word for word in _CLOSES if word in kinds), kinds[-1])
        raise ValueError(
            "the tickers stand in the second line of the file: read it with frame = "
            f"pd.read_csv(..., header=[0, 1], index_col=0, parse_dates=True)[{kind!r}]"
        )


def _check_dates_beside(frame: pd.DataFrame) -> None:
    """Raise where rows are numbered and their dates stand in a column beside the prices.

    By what is in the column, as DAY is a ticker too.
    """
    if not len(frame) or not is_numbered(frame.index):
        return
    for name, column in frame.items():
        if str(name).lower() in _DATES and _holds_dates(column):
            # how other text and numbers are read is said once they label the rows
            iso = column.astype(str).str.match(_ISO).all()
            read = f"frame[{name!r}] = pd.to_datetime(frame[{name!r}]); " if iso else ""
            if pd.api.types.is_datetime64_any_dtype(column):
                read = ""
            raise ValueError(
                f"the rows are numbered and their dates stand in the column {name}: label the rows "
                f"with them, {read}frame = frame.set_index({name!r})"
            )


def _holds_dates(column: pd.Series) -> bool:
    if is_numbered(column):
        numbers = pd.Index(column.to_numpy())
        return like_dates(numbers) or bool(unit_since_1970(numbers))
    if pd.api.types.is_numeric_dtype(column):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = column.iloc[:_ENOUGH]
        ways = [
            pd.to_datetime(rows, errors="coerce", utc=True, dayfirst=first)
            for first in (False, True)
        ]
    return max(float(read.notna().mean()) for read in ways) > 0.5


def _as_table(given: object) -> str:
    """What makes a table of prices of something else; nothing where that is not known."""
    if isinstance(given, pd.Series):
        return (
            "a Series is one ticker, put all of them into a table, "
            'frame = pd.concat({"TARGET": target, "HEDGE": hedge}, axis=1)'
        )
    if isinstance(given, dict):
        return "frame = pd.DataFrame(frame)"
    if not hasattr(given, "to_pandas"):
        return ""
    # of Arrow or polars
    names = getattr(given, "column_names", None) or getattr(given, "columns", None)
    if names is None:
        return (
            "a Series is one ticker, put all of them into a table by their dates, frame = "
            'pd.DataFrame({"TARGET": target.to_pandas(), "HEDGE": hedge.to_pandas()})'
            ".set_index(dates.to_pandas())"
        )
    kept = getattr(getattr(given, "schema", None), "pandas_metadata", None) or {}
    if any(isinstance(name, str) for name in kept.get("index_columns", ())):
        return "frame = frame.to_pandas()"
    dates = next((name for name in names if str(name).lower() in _DATES), names[0])
    return f"frame = frame.to_pandas().set_index({dates!r}), by its column of dates"


def name_by_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with its tickers as text: 7203 is the ticker "7203", here and in all that follows."""
    if all(isinstance(name, str) for name in frame.columns):
        return frame
    return frame.set_axis([str(name) for name in frame.columns], axis=1)


def check_columns(frame: pd.DataFrame, tickers: Iterable[str]) -> None:
    """Raise unless each ticker is one column."""
    # 1 and "1" are two columns for pandas and one ticker here
    names = list(dict.fromkeys(str(name) for name in frame.columns))
    count = len(frame.columns)
    for ticker in tickers:
        if ticker not in frame.columns:
            alike = [name for name in names if name.lower() == str(ticker).lower()]
            close = alike or get_close_matches(str(ticker), names, n=3, cutoff=0.5) or names[:8]
            raise ValueError(
                f"{ticker} is not among the {count} columns of the prices; "
                f"there is {', '.join(close)}{' ...' if count > len(close) else ''}"
            )
    check_named_once(frame, tickers)


def check_named_once(frame: pd.DataFrame, tickers: Iterable[str]) -> None:
    """Raise if a ticker has several columns, also if pandas has renamed them as it read a file."""
    names = Counter(str(name) for name in frame.columns)
    first_of = {
        name: match[1]
        for name in names
        if (match := _RENAMED.fullmatch(name)) and match[1] in names
    }
    several = {*first_of, *first_of.values()}
    for ticker in map(str, tickers):
        if names[ticker] > 1:
            raise ValueError(
                f"{ticker} names several columns of the prices: keep one, the first of each with "
                "frame = frame.loc[:, ~frame.columns.astype(str).duplicated()]"
            )
        if ticker in several:
            first = first_of.get(ticker, ticker)
            again = [name for name, other in first_of.items() if other == first]
            own = {name: name.replace(".", "_") for name in again}
            raise ValueError(
                f"the prices have {', '.join([first, *again])}, as pandas names the columns of a file "
                f"in which several are called {first}: keep one, frame = frame.drop(columns={again}), "
                "or take the others out of the file; if they are tickers of their own, "
                f"frame = frame.rename(columns={own})"
            )


def check_legs(target: str, hedges: tuple[str, ...]) -> None:
    """Raise if a ticker has the name of a coefficient, or is named twice."""
    for reserved in {"alpha", "noise"} & {target, *hedges}:
        raise ValueError(f"{reserved!r} names a coefficient here: rename that column of the prices")
    if target in hedges:
        raise ValueError(f"{target} is the target and cannot hedge itself: take it out of hedges")
    for ticker in hedges:
        if hedges.count(ticker) > 1:
            raise ValueError(f"{ticker} is named twice among the hedges: name it once")
