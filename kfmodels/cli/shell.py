"""What the commands share: plain errors, prices from files, records for JSON, common options."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    import pandas as pd

INTERRUPTED = 128 + 2
"""Exit code after Ctrl-C, as shells count it."""

Prices = Annotated[
    Path, typer.Argument(help="Prices, csv or parquet: date first, a column a ticker.")
]
Until = Annotated[str | None, typer.Option(help="Last date (or time) to infer the noise from.")]
Transform = Annotated[
    Literal["log", "level", "return"], typer.Option(help="What to do to the prices.")
]
MovingVariance = Annotated[
    bool, typer.Option("--discounted", help="Let the observation variance move.")
]
Seed = Annotated[int, typer.Option(help="Seed of the sampler.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@contextmanager
def plain_errors() -> Iterator[None]:
    """An error or a warning is a sentence on stderr, an error exit code 2; neither a traceback.

    Ctrl-C ends with exit code 130 and leaves the words to what was interrupted.
    """

    def say(message: Any, *_: Any, **__: Any) -> None:
        typer.echo(f"warning: {message}", err=True)

    warnings.showwarning, usual = say, warnings.showwarning
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(INTERRUPTED) from interrupt
    finally:
        warnings.showwarning = usual


def read_prices(path: Path) -> "pd.DataFrame":
    """A table of prices by date.

    Raises:
        ValueError: the first column holds no dates, or parquet cannot be read here.
        OSError: there is no such file.
    """
    import pandas as pd

    if path.suffix.lower() in (".parquet", ".pq"):
        try:
            table = pd.read_parquet(path)
        except ImportError as error:
            raise ValueError("reading parquet needs pyarrow: install kfmodels[parquet]") from error
        if isinstance(table.index, pd.RangeIndex):
            table = table.set_index(table.columns[0])
    else:
        table = pd.read_csv(path, index_col=0)
    if not isinstance(table.index, pd.DatetimeIndex):
        table.index = _dates(table.index, path)
    return table


def _dates(labels: Any, path: Path) -> Any:
    """The first column as dates: text, or whole numbers like 20210104, never a count of rows."""
    import pandas as pd

    numbers = pd.api.types.is_numeric_dtype(labels)
    try:
        if numbers:
            return pd.to_datetime(labels.astype(str), format="%Y%m%d")
        try:
            return pd.to_datetime(labels)
        except ValueError as error:
            if "utc=True" not in str(error):  # offsets that change with the season become UTC
                raise
            return pd.to_datetime(labels, utc=True)
    except ValueError as error:
        raise ValueError(f"the first column of {path} should hold dates: {error}") from error


def rows_until(table: "pd.DataFrame", until: str | None) -> "pd.DataFrame":
    """The rows up to a date, the whole of it, or up to a time; all without one.

    Raises:
        ValueError: it is no date, or no row is left.
    """
    if until is None:
        return table
    import pandas as pd

    try:
        end: Any = pd.Timestamp(until, tz=getattr(table.index, "tz", None))
    except ValueError as error:
        raise ValueError(f"--until {until} is no date") from error
    whole_day = pd.Timedelta(days=1) if end == end.normalize() else pd.Timedelta(1, "ns")
    kept: Any = table[table.index < end + whole_day]
    if len(table) and not len(kept):
        raise ValueError(f"no prices up to {until}: the first are of {table.index.min()}")
    return kept


def record(values: dict[str, Any]) -> dict[str, Any]:
    """The same for JSON: no NaN, no infinity, dates as text."""
    plain = {}
    for name, value in values.items():
        if isinstance(value, float):
            plain[name] = value if abs(value) < float("inf") else None
        elif isinstance(value, dict):
            plain[name] = record(value)
        else:
            plain[name] = (
                value if isinstance(value, (bool, int, str)) or value is None else str(value)
            )
    return plain
