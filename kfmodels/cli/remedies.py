"""What the rooms below tell users of Python to do, said as what to do with a file or an option."""

import ast
import re
import shlex
from collections.abc import Callable

_CELL = r"(?P<name>\S[^\n]*?) is (?P<price>\S+) at (?P<at>\d{4}-[^\n]+?)"
"""A price that cannot be one; what stands before the last colon of its ticker is of a board."""


def for_the_shell(text: str) -> str:
    """The text with remedies that can be followed where no Python is written."""
    for pattern, remedy in _REMEDIES.items():
        text = re.sub(pattern, remedy, text)
    return text


def _gap(found: re.Match[str]) -> str:
    """The option that makes a gap of a price."""
    ticker, at = found["name"].rpartition(": ")[2], found["at"].removesuffix(" 00:00:00")
    return f"--repair {shlex.quote(f'{ticker}:{at}:gap')}"


def _options(found: re.Match[str]) -> str:
    """The options that say what a table of repairs does."""
    table, said = ast.parse(found["table"], mode="eval").body, list[str]()
    assert isinstance(table, ast.Dict)
    for ticker, rows in zip(table.keys, table.values, strict=True):
        assert isinstance(ticker, ast.Constant)
        assert isinstance(rows, ast.Dict)
        for date, what in zip(rows.keys, rows.values, strict=True):
            assert isinstance(date, ast.Constant)
            factor = ast.unparse(what).replace(" ", "").replace("None", "gap")
            said.append(f"--repair {shlex.quote(f'{ticker.value}:{date.value}:{factor}')}")
    return " ".join(said)


def _rescale(found: re.Match[str]) -> str:
    factor = found["factor"].replace("its factor", "FACTOR")
    return f"give kfmodels update --rescale {shlex.quote(found['name'])}={factor}"


def _not_positive(found: re.Match[str]) -> str:
    said = (
        f"{found['name']} is {found['price']} at {found['at']}: {found['why']}; make it a gap with "
        f"{_gap(found)} if it is a bad print"
    )
    return f"{said}, or fit with --transform level" if found["level"] else said


def _absurd(found: re.Match[str]) -> str:
    return f"{found['name']} is {found['price']} at {found['at']}: make it a gap with {_gap(found)}"


def _several(found: re.Match[str]) -> str:
    return f"{found['said']}: in the file keep one of them, or give each a name of its own"


_REMEDIES: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"use frame\.sort_index\(\)": "sort the rows of the file by date, if its dates were read right",
    r"keep one row of it, for example frame\[.*?keep='last'\)\]": (
        "keep one of its rows in the file"
    ),
    r"say the zone, frame\.index = .*?; or, if it is one row that was given twice, keep one: .*?\)\]": (
        "write the times with their offset from UTC, such as 2020-11-01 01:30:00-04:00; or, if it is "
        "one row that was given twice, keep one in the file"
    ),
    r"(?P<said>the prices have [^\n]*? are called [^\n]*?): keep one, frame = .*?columns=\{.*?\}\)": (
        _several
    ),
    r"use pd\.to_numeric\(.*?\) to make it a gap": "leave its cell in the file empty to make it a gap",
    r"read the file with pd\.read_csv\(\.\.\., thousands=.*?\.astype\(float\)": (
        "write all numbers of the file with a decimal point and nothing between thousands"
    ),
    _CELL
    + r": (?P<why>a \w+ transform needs positive prices); make it a gap \(NaN\) if it is a bad print"
    r"(?P<level>, or use transform=\"level\")?": (_not_positive),
    _CELL + r": replace it with NaN to make it a gap": _absurd,
    r"make prices of them, \(1 \+ frame\).*? if they are logarithms": (
        "give a file of the prices that they are returns of"
    ),
    r"make prices of them, frame\.cumprod\(\)": "give a file of the prices that they are returns of",
    r"repair=(?P<table>\{.*?\}\})": _options,
    r"None takes the rows out": "gap takes the rows out",
    r"data\.before\(\.\.\.\) with that date": "--until with the date before that one",
    r"fit the rows before: data\.before\('?(?P<date>.*?)'?\)": (
        r"fit the rows before \g<date>, with --until"
    ),
    # as many draws warm up, and in a longer warm-up the steps become shorter where draws diverge
    r"Refit with method=NUTS\([^)]*\); if it stays, a tighter prior on delta \(Memory\)": (
        "Refit with --draws 4000"
    ),
    r"use HedgeData\.from_prices\(\.\.\., transform=\"log\"\)": "use --transform log",
    r"call rescale with (?P<name>.+?) at (?P<factor>\d[\d/.]*|its factor)": _rescale,
    r", if not with (?P<name>.+?) at 1;": r", if not --rescale \g<name>=1;",
    r"name at least one ticker in hedges=\[\.\.\.\]": "name at least one ticker with --hedges",
    r"use prices\.tz_localize\(\.\.\.\) or prices\.tz_localize\(None\)": (
        "write the dates of both files with an offset from UTC, or both without"
    ),
    r"leave it out with frame\.drop\(columns='.*?'\)": "take its column out of the file",
    r"go on without them with accept_loss=True": "go on without them with --accept-loss",
    r"board\.reason says why": "kfmodels board without --target says why",
}
"""By what is said to users of Python, what is said here."""
