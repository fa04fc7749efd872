"""Prices repaired by a table: units made one, bad rows made gaps, and moves known to be real."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
import pandas as pd

from kfmodels.data.checks import day

Repair = Mapping[str, Mapping[Any, float | None]]
"""By ticker, by date: a factor for all rows before, None for no price, 1 for a real move."""

Real = tuple[tuple[str, str], ...]
"""Ticker and date of moves that are known to be real."""


def apply_repair(prices: pd.DataFrame, repair: Repair | None) -> tuple[pd.DataFrame, Real]:
    """The prices as the table says, and what it says is real.

    A number is the new price over the old one at that date: all prices before it are multiplied by it.
    None makes the row a gap, or all rows of "first .. last". 1 leaves all as it is. A range takes no
    other number: it has two ends, each with a factor of its own.

    Args:
        prices: floats by ticker, sorted by date.
        repair: such as `{"USO": {"2020-04-29": 8, "2016-05-19": None}}`.

    Raises:
        ValueError: a ticker that is none of these, no row at a date, no positive finite factor.

    Example:
        >>> days = pd.to_datetime(["2020-04-27", "2020-04-28", "2020-04-29"])
        >>> prices = pd.DataFrame({"USO": [2.2, 2.1, 18.0]}, days)
        >>> apply_repair(prices, {"USO": {"2020-04-29": 8}})[0]["USO"].round(6).to_list()
        [17.6, 16.8, 18.0]
    """
    if not isinstance(repair, Mapping | None):
        raise ValueError(f"repair goes by ticker, then by date, not {repair!r:.80}")
    if not repair:
        return prices, ()
    prices, real = prices.copy(), []
    for ticker, rows in repair.items():
        name = str(ticker)
        if name not in prices.columns:
            known = ", ".join(str(one) for one in prices.columns[:8])
            raise ValueError(f"repair names {name}, which is not among the tickers used: {known}")
        if not hasattr(rows, "items"):
            raise ValueError(f"repair of {name} goes by date, {{date: factor}}, not {rows!r:.80}")
        for date, what in rows.items():
            first, last = _rows(prices.index, name, date)
            if what is None:
                if last < first:
                    raise ValueError(f"repair of {name}: there is no row at {date}")
                prices.iloc[first : last + 1, prices.columns.get_loc(name)] = np.nan
                continue
            factor = _factor(name, date, what)
            if factor != 1 and isinstance(date, str) and " .. " in date:
                raise ValueError(_factor_of_range(name, prices.index, (first, last), factor))
            if factor == 1:
                real.append((name, day(prices.index[first])))
            else:
                prices.iloc[:first, prices.columns.get_loc(name)] *= factor
    return prices, tuple(real)


def factors_after(prices: pd.DataFrame, repair: Repair | None, row: int) -> dict[str, float]:
    """By ticker, the product of the factors that a table has at a row and later."""
    factors = dict.fromkeys(map(str, prices.columns), 1.0)
    for ticker, rows in (repair or {}).items():
        for date, what in rows.items():
            if what is not None and _rows(prices.index, str(ticker), date)[0] >= row:
                factors[str(ticker)] *= float(what)
    return factors


def known_real(real: Real, repair: Repair | None = None) -> dict[str, dict[Any, float | None]]:
    """The table that says of these moves that they are real, beside what another table says."""
    table: dict[str, dict[Any, float | None]] = {}
    for ticker, date in real:
        table.setdefault(ticker, {})[date] = 1
    for ticker, rows in (repair or {}).items():
        table[ticker] = table.get(ticker, {}) | dict(rows)
    return table


def read_repairs(texts: Iterable[str], tickers: Iterable[object]) -> dict[str, dict[str, Any]]:
    """The table of what was typed, each "TICKER:DATE:FACTOR" with a factor such as 8, 1/2 or gap.

    Raises:
        ValueError: another form, or a ticker that is no column.

    Example:
        >>> read_repairs(["USO:2020-04-29:8", "BNO:2013-08-29 .. 2013-08-30:gap"], ["USO", "BNO"])
        {'USO': {'2020-04-29': 8.0}, 'BNO': {'2013-08-29 .. 2013-08-30': None}}
    """
    names = sorted((str(name) for name in tickers), key=len, reverse=True)
    table: dict[str, dict[str, Any]] = {}
    for text in texts:
        known = next((name for name in names if text.startswith(f"{name}:")), None)
        ticker = text.partition(":")[0] if known is None else known
        date, colon, what = text[len(ticker) + 1 :].rpartition(":")
        if not (colon and date):
            raise ValueError(f"--repair {text} is not TICKER:DATE:FACTOR, or TICKER:DATE:gap")
        try:
            factor = None if what == "gap" else float(Fraction(what))
        except (ValueError, ZeroDivisionError):
            raise ValueError(
                f"--repair {text}: {what} is no factor (8, 1/2, 0.43) and not gap"
            ) from None
        table.setdefault(ticker, {})[date] = factor
    return table


def _rows(index: pd.Index, ticker: str, date: Any) -> tuple[int, int]:
    """The first and the last row that a key of the table names, or the row after a date between two."""
    ends = date.split(" .. ") if isinstance(date, str) else [date]
    try:
        first = int(index.searchsorted(_at(index, ends[0]), "left"))
        last = int(index.searchsorted(_at(index, ends[-1]), "right")) - 1
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"repair of {ticker}: {date!r} is no date of the prices: {error}"
        ) from error
    if first >= len(index):
        raise ValueError(f"repair of {ticker}: there is no row at {date} or later")
    return first, last


def _at(index: pd.Index, date: Any) -> Any:
    if not isinstance(index, pd.DatetimeIndex):
        return int(date)
    stamp = pd.Timestamp(date)
    return stamp.tz_localize(index.tz) if stamp.tz is None and index.tz is not None else stamp


def _factor_of_range(ticker: str, index: pd.Index, rows: tuple[int, int], factor: float) -> str:
    """What is said where a factor is given for a range: the one or two dates it may be given for."""
    first, last = rows
    ends = [f"{_key(index[first])}: {factor!r}"]
    if last + 1 < len(index):
        ends.append(f"{_key(index[last + 1])}: {1 / factor!r}")
    return (
        f"repair of {ticker}: a factor belongs to one date, the first in new units, and multiplies all "
        f"prices before it; if the rows {day(index[first])} .. {day(index[last])} alone are "
        f"{factor:g} times too large give their ends, repair={{{ticker!r}: {{{', '.join(ends)}}}}}"
    )


def _key(label: Any) -> str:
    return repr(day(label)) if isinstance(label, pd.Timestamp) else str(label)


def _factor(ticker: str, date: object, what: object) -> float:
    try:
        factor = float(what)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        factor = 0.0
    if isinstance(what, bool) or not 0 < factor < inf:
        raise ValueError(
            f"repair of {ticker} at {date}: its new price over its old one, a number above 0, or None "
            f"for no price, not {what!r}"
        )
    return factor
