"""Dates of a price file: read in one way only, or refused with the ways there are.

A column is read as a whole. Year-first dates (ISO) and dates with the name of a month say themselves
what they are. Three numbers may be day-month-year, month-day-year or, with a short year, begin with the
year: a way counts if every date of the column is one in it, and two ways that count are refused.

One file: the ways to write a date and what tells them apart are read together.
"""

import re
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kfmodels.data.spacing import span

if TYPE_CHECKING:
    import pandas as pd

EXCEL = "excel"
"""What `--date-format` calls days counted from 1899-12-30, as spreadsheets store dates."""

EPOCH = "epoch"
"""What it calls seconds, or thousandths and less of them, counted from 1970."""

_YEAR_FIRST = re.compile(r"\d{4}([-/. ])\d{1,2}(\1\d{1,2}(?!\d).*)?|\d{8}[T ]\d.*")
_NUMBERS = re.compile(r"(\d{1,2})([-/. ])(\d{1,2})\2(\d{4}|\d{2})(?!\d)(.*)")
_WHOLE = re.compile(r"\d+(\.0*)?")
_SHORT = re.compile(r"\d{1,2}([- ])[A-Za-z]{3}\1\d{2}")

_ORDERS = {"day first": (2, 1, 0), "month first": (2, 0, 1), "year first": (0, 1, 2)}
"""Where the year, the month and the day stand among three numbers."""

_OPTIONS = {
    "day first": "--dayfirst",
    "month first": "--monthfirst",
    "year first": "--date-format %y{0}%m{0}%d",
}

_EPOCHS = {9: "s", 10: "s", 12: "ms", 13: "ms", 15: "us", 16: "us", 18: "ns", 19: "ns"}
"""Units of whole numbers with so many digits, counted from 1970."""

_COMPACT = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_SERIALS = 20_000, 80_000
"""Days that spreadsheets count from 1954 to 2119."""


class Dating(NamedTuple):
    """How dates are to be read: `strftime` format, `EXCEL` or `EPOCH`, or whether the day is first."""

    format: str | None = None
    dayfirst: bool | None = None


def read_dates(labels: "pd.Index", dating: Dating, source: str) -> "pd.DatetimeIndex":
    """Texts or whole numbers as dates; offsets that differ, and counts of seconds, become UTC.

    Raises:
        ValueError: a label is no date, or all may be read in two ways; `source` says whose they are.
    """
    import pandas as pd

    if isinstance(labels, pd.DatetimeIndex):
        return labels
    if dating.format is not None and dating.dayfirst is not None:
        raise ValueError("--date-format says all: leave out --dayfirst and --monthfirst")
    texts = [_text(label) for label in labels]
    if "" in texts:
        raise ValueError(
            f"row {texts.index('') + 1} of {source} has no date: take it out or date it"
        )
    if not texts:
        return pd.DatetimeIndex([])
    # as yfinance writes it: kinds of prices, tickers, then rows
    if texts[:2] == ["Ticker", "Date"]:
        raise ValueError(
            f"the tickers of {source} stand in its second line: write one column a ticker, "
            'frame["Close"].to_csv(...) of what was downloaded'
        )
    if dating.format is not None:
        return _formatted(texts, dating.format, source)
    kind = _kind(texts[0])
    other = next((text for text in texts if _kind(text) != kind), None)
    if other is not None:
        raise ValueError(
            f"the dates of {source} mix ways to write them: {texts[0]!r} and {other!r}; write all alike"
        )
    return _READERS[kind](texts, dating, source)


def _text(label: object) -> str:
    """A label as it is written; nothing where it is missing."""
    text = str(label).strip()
    return "" if text in ("nan", "NaT", "None", "<NA>") else text


def _kind(text: str) -> str:
    if _WHOLE.fullmatch(text):
        return "whole"
    if re.fullmatch(r"\d+\.\d+", text):
        return "serial"
    if _YEAR_FIRST.fullmatch(text):
        return "year first"
    return "numbers" if _NUMBERS.fullmatch(text) else "words"


# -- each way to write dates -----------------------------------------------------------------------


def _formatted(texts: list[str], form: str, source: str) -> "pd.DatetimeIndex":
    """Dates of a given format."""
    import pandas as pd

    from kfmodels.data.checks import day

    if form in (EXCEL, EPOCH):
        return (_excel if form == EXCEL else _epoch)(texts, source)
    whole = all(map(_WHOLE.fullmatch, texts))
    if whole:
        texts = [text.partition(".")[0] for text in texts]
    try:
        found = _parse(texts, form)
    except ValueError as error:
        read = pd.to_datetime(pd.Index(texts), format=form, errors="coerce", utc="%z" in form)
        bad = next((text for text, at in zip(texts, read, strict=True) if pd.isna(at)), texts[0])
        raise ValueError(
            f"--date-format {form} does not read {bad!r} of {source}: give the format of that "
            "date, such as %d/%m/%Y for 31/12/2020"
        ) from error
    if whole and "%f" not in form:  # %f reads fewer digits than it writes
        again = zip(texts, found.strftime(form), found, strict=True)
        if odd := next((one for one in again if one[0] != one[1]), None):
            raise ValueError(
                f"--date-format {form} reads {odd[0]} of {source} as {day(odd[2])}, which it writes "
                f"{odd[1]}: a number has lost the 0 that it began with, or the format is another; "
                "write the dates like 2020-12-31"
            )
    return found


def _excel(texts: list[str], source: str) -> "pd.DatetimeIndex":
    import pandas as pd

    try:
        days = np.array(texts, float)
    except ValueError as error:
        raise ValueError(
            f"--date-format {EXCEL} reads numbers of days, not {texts[0]!r}"
        ) from error
    if not ((days >= 1) & (days < 200_000)).all():
        raise ValueError(
            f"--date-format {EXCEL} reads numbers of days, 1 to 200000; {source} has {texts[0]}"
        )
    return pd.DatetimeIndex(pd.to_datetime(days, unit="D", origin="1899-12-30").round("s"))


def _epoch(texts: list[str], source: str) -> "pd.DatetimeIndex":
    """Counts since 1970, whose digits say of what."""
    import pandas as pd

    plain = [text.partition(".")[0] for text in texts]
    units = {_EPOCHS.get(len(text)) for text in plain if text.isdigit()}
    unit = units.pop() if len(units) == 1 and all(map(str.isdigit, plain)) else None
    if unit is None:
        raise ValueError(
            f"--date-format {EPOCH} reads counts since 1970 of seconds (10 digits), thousandths (13), "
            f"millionths (16) or nanoseconds (19), all alike; {source} has {texts[0]}"
        )
    return pd.to_datetime(pd.Index([int(text) for text in plain]), unit=unit, utc=True)


def _whole(texts: list[str], dating: Dating, source: str) -> "pd.DatetimeIndex":
    """Whole numbers: 20200102, or counts of seconds and less since 1970; never a count of rows."""
    plain = [text.partition(".")[0] for text in texts]
    written = _compact(plain, _COMPACT)
    if written is not None:
        return written
    try:
        counted = _epoch(plain, source)
    except ValueError:
        return _serial(plain, dating, source)
    short = _compact(plain, {10: "%y%m%d%H%M"})
    if short is not None:
        raise ValueError(
            f"the dates of {source} can be read in 2 ways, as seconds since 1970 {span(counted)} "
            f"(--date-format {EPOCH}); by a year of two digits {span(short)} "
            "(--date-format %y%m%d%H%M): say which by the option in brackets"
        )
    return counted


def _compact(texts: list[str], forms: dict[int, str]) -> "pd.DatetimeIndex | None":
    """Dates written as one number, whose digits say their format; None where they are none."""
    import pandas as pd

    form = forms.get(len(texts[0]))
    if form is None or any(len(text) != len(texts[0]) for text in texts):
        return None
    try:
        found = _parse(texts, form)
    except ValueError:
        return None
    inside = (found >= pd.Timestamp("1900")) & (found < pd.Timestamp("2200"))
    return found if inside.all() else None


def _serial(texts: list[str], _: Dating, source: str) -> "pd.DatetimeIndex":
    """Numbers that are no dates by themselves; said what a spreadsheet would take them for."""
    low, high = _SERIALS
    if all(low <= float(text) <= high for text in texts):
        counted = span(_excel(texts, source))
        raise ValueError(
            f"the dates of {source} are numbers ({texts[0]}): as a spreadsheet counts days they "
            f"run {counted}; if they are that, give --date-format {EXCEL}"
        )
    raise ValueError(
        f"the first column of {source} should hold dates, not {texts[0]!r}: write them like "
        "2020-12-31 or 20201231, or give their format, such as --date-format %d%m%Y"
    )


def _year_first(texts: list[str], _: Dating, source: str) -> "pd.DatetimeIndex":
    plain = [re.sub(r"^(\d{4})[/. ](\d{1,2})[/. ](\d{1,2})", r"\1-\2-\3", text) for text in texts]
    padded = [re.sub(r"(?<=-)(\d)(?=-|$|[T ])", r"0\1", text) for text in plain]
    try:
        return _parse(padded, "ISO8601")
    except ValueError:
        return _guessed(padded, source)


def _three_numbers(texts: list[str], dating: Dating, source: str) -> "pd.DatetimeIndex":
    """Day, month and year in an order that has to be found."""
    split = [match.groups() for match in map(_NUMBERS.fullmatch, texts) if match]
    ways = ("day first", "month first")
    if any(len(year) == 2 for *_, year, _ in split):
        ways = tuple(_ORDERS)
    if dating.dayfirst is not None:
        ways = ways[:1] if dating.dayfirst else ways[1:2]
    found: dict[str, pd.DatetimeIndex] = {}
    refused: dict[str, str] = {}
    for way in ways:
        iso, bad = _in_order(split, _ORDERS[way])
        if bad is None:
            found[way] = _year_first(iso, dating, source)
        else:
            refused[way] = texts[bad]
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        said = ", ".join(f"{text!r} is none {way}" for way, text in refused.items())
        raise ValueError(
            f"the first column of {source} should hold dates, but {said}: write all alike, or "
            "give their format with --date-format"
        )
    between = split[0][1]
    readings = "; ".join(
        f"{way} {span(dates)} ({_OPTIONS[way].format(between)})" for way, dates in found.items()
    )
    raise ValueError(
        f"the dates of {source} can be read in {len(found)} ways, {readings}: say which by the option "
        "in brackets"
    )


def _in_order(
    split: list[tuple[str, ...]], order: tuple[int, int, int]
) -> tuple[list[str], int | None]:
    """Three numbers written year first, and the first row in which they are no date."""
    from datetime import date

    iso: list[str] = []
    for row, (one, _, two, three, rest) in enumerate(split):
        year, month, day = (int((one, two, three)[place]) for place in order)
        if len((one, two, three)[order[0]]) <= 2:
            year += 1900 if year > 68 else 2000  # the turn of POSIX
        try:
            iso.append(date(year, month, day).isoformat() + rest)
        except ValueError:
            return [], row
    return iso, None


def _words(texts: list[str], _: Dating, source: str) -> "pd.DatetimeIndex":
    """Dates with the name of a month, such as 02-Jan-2020."""
    named = all(re.search(r"[A-Za-z]{3}", text) and re.search(r"\d", text) for text in texts)
    whole = all(re.search(r"\d{4}", text) or _SHORT.fullmatch(text) for text in texts)
    if not (named and whole):
        raise ValueError(
            f"the first column of {source} should hold dates, not {texts[0]!r}: write them like "
            "2020-12-31, or give their format with --date-format, such as %d/%m/%Y for 31/12/2020"
        )
    if short := _SHORT.fullmatch(texts[0]):
        return _formatted(texts, f"%d{short[1]}%b{short[1]}%y", source)
    return _guessed([re.sub(r"^(\d)(?!\d)", r"0\1", text) for text in texts], source)


def _guessed(texts: list[str], source: str) -> "pd.DatetimeIndex":
    """Dates of the format that pandas sees in the first of them."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # pandas warns where it would read row by row
            return pd.to_datetime(pd.Index(texts))
    except (ValueError, UserWarning) as error:
        raise ValueError(
            f"the first column of {source} should hold dates, all written alike: {error}; give their "
            "format with --date-format, such as '%d/%m/%Y %H:%M' for 31/12/2020 16:00"
        ) from error


_READERS = {
    "whole": _whole,
    "serial": _serial,
    "year first": _year_first,
    "numbers": _three_numbers,
    "words": _words,
}


def _parse(texts: list[str], form: str) -> "pd.DatetimeIndex":
    """Dates of one format; those with offsets that differ are put into UTC."""
    import pandas as pd

    try:
        return pd.to_datetime(pd.Index(texts), format=form)
    except ValueError as error:
        if "utc=True" not in str(error):
            raise
        return pd.to_datetime(pd.Index(texts), format=form, utc=True)
