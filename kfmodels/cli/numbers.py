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


def read_csv(path: Path) -> "tuple[pd.DataFrame, str]":
    """The table, its first column as text, and what was out of the usual in how it is written.

    Raises:
        ValueError: there is no such file, it is empty or no UTF-8, rows differ in length, or its
            numbers are of two readings.
    """
    import pandas as pd

    check_file(path)
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
