"""What prices must be before anything is inferred from them, and what to do where they are not.

One file: what labels of rows may be, and what prices, is asked of every table together.
"""

import re
import warnings
from datetime import date

import numpy as np
import pandas as pd

from kfmodels.kalman.transforms import FARTHEST, Transform

Label = pd.Timestamp | int
"""The label of a row: its date, or a number where rows are numbered."""

_SEPARATED = r"\s*-?\d{1,3}(,\d{3})+(\.\d*)?\s*"
"""A number whose thousands are set apart."""

RETURNS = (
    "these look like returns: make prices of them, (1 + frame).cumprod(), in per cent "
    "(1 + frame / 100).cumprod(), or np.exp(frame.cumsum()) if they are logarithms"
)
"""What is said where returns were given."""

_FEWEST, _RARER = 20, 0.2
"""Rows that returns can be recognised by, and the share of the sign they have less often."""

_AUTUMN = 4
"""Hours of the night, and no others, come twice when clocks go back."""

_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
"""Units in which files count time, by their name in pandas."""

_SINCE, _UNTIL = 631_152_000, 4_102_444_800
"""Seconds from 1970 to 1990 and to 2100; no table has so many rows that they number them."""

_SERIALS = 32_874, 73_050
"""Days that spreadsheets count to 1990 and to 2100."""

_THREE_NUMBERS = re.compile(r"\s*(\d{1,2})([-/. ])(\d{1,2})\2(\d{4}|\d{2})(?!\d).*")
"""A date whose year stands last."""

DateLike = str | date | Label
"""What a user may write for a label: a date as text too."""


def day(at: object) -> str:
    """A date without its midnight."""
    return str(at).removesuffix(" 00:00:00")


def is_numbered(labels: pd.Index | pd.Series) -> bool:
    """Whether these are whole numbers."""
    return pd.api.types.is_integer_dtype(labels.dtype)


def check_index(index: pd.Index) -> None:
    """Raise unless rows are labelled with dates or whole numbers, sorted, each once."""
    # pandas before 3 reads text as object, pandas 3 as a type of its own
    if len(index) and (index.dtype == object or isinstance(index.dtype, pd.StringDtype)):
        raise ValueError(_no_dates(index))
    if pd.api.types.is_float_dtype(index.dtype):
        raise ValueError(_floats(index))
    numbered = is_numbered(index)
    if numbered and like_dates(index):
        raise ValueError(
            f"the rows are labelled with whole numbers that look like dates (first: {index[0]}): set "
            'frame.index = pd.to_datetime(frame.index.astype(str), format="%Y%m%d")'
        )
    if numbered and (unit := unit_since_1970(index)):
        raise ValueError(
            f"the rows are labelled with whole numbers that look like {_UNITS[unit]} since 1970 "
            f"(first: {index[0]}): set "
            f'frame.index = pd.to_datetime(frame.index, unit="{unit}", utc=True)'
        )
    if not numbered and not isinstance(index, pd.DatetimeIndex):
        raise ValueError(
            f"the rows are labelled with {index.dtype}: dates or whole numbers are needed; use "
            "frame.index = pd.to_datetime(...) or, for periods, frame.index.to_timestamp()"
        )
    if index.hasnans:
        raise ValueError("a row has no date (NaT): drop it with frame[frame.index.notna()]")
    if not index.is_unique:
        repeated = index[index.duplicated()]
        twice = repeated[0]
        if _autumn(index, repeated):
            raise ValueError(
                f"the time {twice} stands twice, as in a night in which clocks go back: say the zone, "
                'frame.index = frame.index.tz_localize("America/New_York", ambiguous="infer"), with '
                "the zone of the exchange; or, if it is one row that was given twice, keep one: "
                "frame[~frame.index.duplicated(keep='last')]"
            )
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


def check_no_serials(index: pd.Index) -> None:
    """Raise if whole numbers may be days as spreadsheets count them.

    Not asked of later rows: those of a long table have such numbers too.
    """
    if not is_numbered(index) or not _like_serials(index):
        return
    remedy = 'pd.to_datetime(frame.index, origin="1899-12-30", unit="D")'
    raise ValueError(
        f"the rows are labelled with whole numbers that look like days of a spreadsheet "
        f"({index[0]} is {_of_serial(index[0])}): set frame.index = {remedy}; if they number the "
        "rows, frame = frame.reset_index(drop=True)"
    )


def _like_serials(index: pd.Index) -> bool:
    days = index.to_numpy(float)
    return bool(len(days) and days.min() >= _SERIALS[0] and days.max() <= _SERIALS[1])


def _of_serial(days: float) -> str:
    """The date of a number of days that a spreadsheet counts."""
    return day(pd.to_datetime(float(days), origin="1899-12-30", unit="D").round("s"))


def _floats(index: pd.Index) -> str:
    """What is wrong with labels that are numbers with a point."""
    said = f"the rows are labelled with {index.dtype}"
    if not index.hasnans:
        whole = pd.Index(index.to_numpy(float).clip(-(2.0**62), 2.0**62).astype(np.int64))
        if bool((whole == index).all()) and like_dates(whole):
            return (
                f"{said} that look like dates (first: {whole[0]}): set frame.index = "
                'pd.to_datetime(frame.index.astype("int64").astype(str), format="%Y%m%d")'
            )
        if unit := unit_since_1970(whole):
            return (
                f"{said} that look like {_UNITS[unit]} since 1970 (first: {index[0]:.10g}): set "
                f'frame.index = pd.to_datetime(frame.index, unit="{unit}", utc=True)'
            )
        if _like_serials(index):
            return (
                f"{said} that look like days of a spreadsheet ({index[0]:g} is "
                f"{_of_serial(index[0])}): set frame.index = "
                'pd.to_datetime(frame.index, origin="1899-12-30", unit="D").round("s")'
            )
    return (
        f"{said}: dates or whole numbers are needed; if they number the rows, frame = "
        "frame.reset_index(drop=True); if they count time, say since when and in what: "
        'pd.to_datetime(frame.index, origin="1970-01-01", unit="s")'
    )


def _readings(index: pd.Index) -> dict[bool, pd.DatetimeIndex]:
    """Dates whose year stands last, by whether the day is taken to be first, where all are some."""
    found: dict[bool, pd.DatetimeIndex] = {}
    texts = [_THREE_NUMBERS.fullmatch(label) for label in index if isinstance(label, str)]
    numbers = [(int(text[1]), int(text[3])) for text in texts if text]
    if len(numbers) < len(index):
        return found
    for first in (True, False):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dates = pd.DatetimeIndex(pd.to_datetime(index, dayfirst=first))
        except (TypeError, ValueError):
            continue
        # pandas takes the other order for one that it cannot read in this
        read = zip(*((dates.day, dates.month) if first else (dates.month, dates.day)), strict=True)
        if list(read) == numbers:
            found[first] = dates
    return found


def _no_dates(index: pd.Index) -> str:
    """What is wrong with labels that are text, or objects."""
    given = isinstance(index[0], date)
    said = f"the rows are labelled with text (first: {index[0]!r}), not dates: "
    if given:
        kind = type(index[0]).__name__
        said = f"the rows are labelled with {kind} objects of Python (first: {index[0]}): "
    if readings := _readings(index):
        ways = [
            f"{'day' if first else 'month'} first they run {day(dates[0])} .. {day(dates[-1])}, set "
            f"frame.index = pd.to_datetime(frame.index, dayfirst={first})"
            for first, dates in readings.items()
        ]
        return f"{said}{'they can be read in two ways: ' * (len(ways) > 1)}{'; '.join(ways)}"
    try:
        pd.to_datetime(index)
    except (TypeError, ValueError):
        at = pd.to_datetime(pd.Series(index), utc=True, errors="coerce")
        if at.notna().all():
            return (
                f"{said}the offsets change with the season: set frame.index = "
                'pd.to_datetime(frame.index, utc=True).tz_convert("America/New_York"), with the zone '
                "of the exchange"
            )
        return f"{said}{index[int(np.argmax(at.isna()))]!r} is none; name the column of the dates"
    if given:
        return f"{said}set frame.index = pd.to_datetime(frame.index)"
    return (
        f"{said}read them with pd.read_csv(..., index_col=0, parse_dates=True) or set frame.index = "
        "pd.to_datetime(frame.index)"
    )


def like_dates(index: pd.Index) -> bool:
    """Whether whole numbers are all dates such as 20200102; rows are not counted so."""
    days = index.to_numpy(np.int64)
    if not (len(days) and days.min() >= 19_000_101 and days.max() <= 21_001_231):
        return False
    return bool(pd.to_datetime(index.astype(str), format="%Y%m%d", errors="coerce").notna().all())


def unit_since_1970(index: pd.Index) -> str:
    """The unit in which whole numbers all count to times from 1990 to 2100; empty if in none."""
    numbers = index.to_numpy(np.int64)
    for power, unit in zip((0, 3, 6, 9), _UNITS, strict=True):
        least, most = 10**power * _SINCE, 10**power * _UNTIL
        if len(numbers) and numbers.min() >= least and numbers.max() <= most:
            return unit
    return ""


def _autumn(index: pd.Index, repeated: pd.Index) -> bool:
    """Whether times without a zone stand twice only in the night, as an hour does in autumn."""
    if not isinstance(index, pd.DatetimeIndex) or index.tz is not None or len(repeated) == 0:
        return False
    times = pd.DatetimeIndex(repeated)
    days = times.normalize()
    intraday = bool((index != index.normalize()).any())
    night = bool((times.hour < _AUTUMN).all()) and bool(times.is_unique)
    one_hour = all(np.ptp(times[days == day].asi8) < 3_600_000_000_000 for day in days.unique())
    return intraday and night and one_hour


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
            cure = "use pd.to_numeric(..., errors='coerce') to make it a gap"
            if pd.api.types.is_datetime64_any_dtype(given):
                cure = f"label the rows with these dates: frame = frame.set_index({name!r})"
            if len(bad) and bad.astype(str).str.fullmatch(_SEPARATED).all():
                cure = (
                    'read the file with pd.read_csv(..., thousands=","), or set '
                    f'frame["{name}"] = frame["{name}"].astype(str).str.replace(",", "").astype(float)'
                )
            raise ValueError(
                f"{name} holds something that is not a number{where}; {cure}"
            ) from error
    return pd.DataFrame(columns, index=frame.index)


def check_prices(prices: pd.DataFrame, transform: Transform) -> None:
    """Raise if a price is infinite or absurd, or not positive where it must be."""
    for name in prices:
        column = prices[name]
        absurd = column.loc[column.abs() >= FARTHEST]
        if len(absurd):
            size = "infinite" if np.isinf(absurd.iloc[0]) else f"{absurd.iloc[0]:g}"
            raise ValueError(
                f"{name} is {size} at {absurd.index[0]}: replace it with NaN to make it a gap"
            )
        low = column.loc[column <= transform.least]
        if len(low) and like_returns(column.to_numpy()):
            raise ValueError(
                f"{name} is {low.iloc[0]:g} at {low.index[0]}: a {transform} transform needs positive "
                f"prices, and {RETURNS}"
            )
        if len(low):
            raise ValueError(
                f"{name} is {low.iloc[0]:g} at {low.index[0]}: a {transform} transform needs positive "
                'prices; make it a gap (NaN) if it is a bad print, or use transform="level"'
            )


def like_returns(values: np.ndarray) -> bool:
    """Whether a column changes sign freely and does not remember the row before, as no price does."""
    values = values[np.isfinite(values)]
    if len(values) < _FEWEST or np.ptp(values[1:]) == 0 or np.ptp(values[:-1]) == 0:
        return False
    rarer = min((values > 0).mean(), (values < 0).mean())
    return bool(rarer > _RARER and np.corrcoef(values[1:], values[:-1])[0, 1] < 0.5)


def check_moves(column: pd.Series, name: str) -> None:
    """Raise if a hedge never moves."""
    if np.ptp(column.to_numpy()) == 0:
        raise ValueError(
            f"hedge {name} is constant at {column.iloc[0]:g} from {column.index[0]} to "
            f"{column.index[-1]}: it hedges nothing; leave it out or choose other dates"
        )
