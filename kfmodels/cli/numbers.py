"""The table of a csv file as desks write it: separators of cells and of thousands, decimal commas.

A file says by itself how its numbers are written, or it is refused: "1,234" alone may be either.
"""

import re
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


def check_file(path: Path) -> None:
    """Raise where there is no file of prices or positions to read.

    Raises:
        ValueError: it is a folder, or there is none.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the file in it, csv or parquet")
    if not path.exists():  # may be a pipe
        raise ValueError(
            f"there is no file {path.name} in {path.absolute().parent}: check its name and its folder"
        )


class _Notation(NamedTuple):
    """How numbers are written, and what is said of it."""

    words: str
    decimal: str
    thousands: str

    @property
    def pattern(self) -> str:
        point, comma = re.escape(self.decimal), re.escape(self.thousands)
        return rf"(?=.*\d)\s*[-+]?(\d{{1,3}}({comma}\d{{3}})+|\d+)?({point}\d*)?([eE][-+]?\d+)?\s*"


_NOTATIONS = _Notation("commas between thousands", ".", ","), _Notation("decimal commas", ",", ".")
_SEPARATORS = (";", "\t")
"""What stands between cells where no comma does."""


_PACKED = (".gz", ".bz2", ".xz", ".zip", ".zst", ".tar", ".tgz")
_SPARE, _TIMES = 64 * 2**20, 100
"""Bytes that a packed file may have unpacked: so many, or so many times its own size."""


def check_unpacked(path: Path) -> None:
    """Raise where a packed file would take far more memory than a table of prices of its size does.

    Raises:
        ValueError: it is that large once unpacked, or cannot be unpacked.
        OSError: there is no such file.
    """
    import zlib
    from lzma import LZMAError
    from zipfile import BadZipFile

    from pandas.io.common import get_handle

    if path.suffix.lower() not in _PACKED or not path.is_file():
        return
    most, found = max(_SPARE, _TIMES * path.stat().st_size), 0
    try:
        with get_handle(path, "rb", compression="infer", is_text=False) as opened:
            while found <= most and (part := opened.handle.read(2**20)):
                found += len(part)
    except (EOFError, ImportError, ValueError, OSError, zlib.error, LZMAError, BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be unpacked ({error}): give the file that it holds"
        ) from error
    if found > most:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes and more than {most:,} once unpacked, which no "
            "table of prices has: give the file that it holds, if it is right"
        )


def read_csv(path: Path) -> "tuple[pd.DataFrame, str]":
    """The table, its first column as text, and what was out of the usual in how it is written.

    Raises:
        ValueError: there is no such file, it is empty or no UTF-8, rows differ in length, or its
            numbers are of two readings.
    """
    import pandas as pd

    check_file(path)
    check_unpacked(path)
    source = path if path.is_file() else BytesIO(path.read_bytes())  # a pipe is read once only

    def read(**how: object) -> "pd.DataFrame":
        if isinstance(source, BytesIO):
            source.seek(0)
        try:
            return pd.read_csv(source, **how)  # pyright: ignore[reportCallIssue, reportArgumentType]
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise ValueError(
                f"{path} is no table, a line of tickers and below it a line for each date: "
                f"{str(error).strip()}"
            ) from error
        except UnicodeDecodeError as error:
            word = error.object[:20].decode("latin-1").encode("ascii", "backslashreplace").decode()
            raise ValueError(
                f"{path} is not text in UTF-8, the first that is none begins with {word!r}: save it as "
                'csv in UTF-8, which spreadsheets list as "CSV UTF-8"'
            ) from error

    (head, *_), said = [*read(nrows=0, index_col=False).columns, ""], ""
    between = next((one for one in _SEPARATORS if one in head), ",")
    # dates as text, or 01022020 would lose its first digit; `index_col` would undo that
    table = read(sep=between, dtype={0: str})
    # pandas takes the first of too many cells for labels, and moves the others under wrong tickers
    if len(table) and not isinstance(table.index, pd.RangeIndex):
        raise ValueError(
            f"{path} has {len(table.columns)} cells in its first line and more below it: name the "
            "column of dates too, take away commas at the ends of lines, and write decimals with "
            "a point or semicolons between the cells"
        )
    if any(_is_text(column) for _, column in [*table.items()][1:]):
        texts = read(sep=between, dtype=str)
        notation, columns = _notation(texts, str(path))
        if notation is not None:
            for name in columns:
                table[name] = _numbers(pd.Series(texts[name]), notation)
            said = notation.words
    return table, said


def _is_text(column: "pd.Series") -> bool:
    import pandas as pd

    return not (pd.api.types.is_numeric_dtype(column) or column.isna().all())


def _notation(texts: "pd.DataFrame", source: str) -> "tuple[_Notation | None, list[str]]":
    """The one way in which all columns of numbers can be read, and these columns."""
    ways: dict[str, list[_Notation]] = {}
    for name in texts.columns[1:]:
        cells = texts[name].dropna()
        fits = [one for one in _NOTATIONS if cells.str.fullmatch(one.pattern).all()]
        if len(cells) and fits:
            ways[name] = fits
    found = [one for one in _NOTATIONS if all(one in fits for fits in ways.values())]
    odd = [text for name in ways for text in texts[name].dropna() if "," in text]
    if not (odd and found):
        return None, []
    if len(found) > 1:
        raise ValueError(
            f"the numbers of {source} can be read in 2 ways: {odd[0]} has a decimal comma, or a comma "
            "between thousands; write all with a decimal point and nothing between thousands"
        )
    return found[0], list(ways)


def _numbers(texts: "pd.Series", notation: _Notation) -> "pd.Series":
    import pandas as pd

    plain = texts.str.replace(notation.thousands, "", regex=False)
    pointed = plain.str.replace(notation.decimal, ".", regex=False)
    return pd.Series(pd.to_numeric(pointed), dtype=float)
