"""What the commands share: options, plain errors, prices from files, JSON for programs.

One file: whatever stands between a command and its user is looked for here.
"""

import json
import math
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperGroup

from kfmodels.cli.dates import EPOCH, EXCEL, Dating, read_dates
from kfmodels.cli.numbers import check_file, read_csv
from kfmodels.cli.remedies import for_the_shell
from kfmodels.data.spacing import describe
from kfmodels.words.shown import wrap_prose

if TYPE_CHECKING:
    import pandas as pd

    from kfmodels.clock.clock import Clock
    from kfmodels.model.hedge_ratio import HedgeRatioModel

INTERRUPTED = 128 + 2
"""Exit code after Ctrl-C: 128 plus the number of SIGINT, as shells count it."""


def find_file(path: Path | None) -> Path | None:
    """The file of an argument or an option, looked for before a command loads what it needs."""
    if path is not None:
        check_file(path)
    return path


def find_fit(path: Path) -> Path:
    """The same of a saved fit, filter or universe."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the fit in it; of a board see kfmodels board")
    if path.exists():
        return path
    named = quote(str(path))
    if path.name.endswith(".nc.live.json"):
        fit = quote(str(path).removesuffix(".live.json"))
        raise ValueError(
            f"there is no file {path}: kfmodels update {fit} --prices LATER.csv makes it"
        )
    if path.suffix == ".json":
        raise ValueError(
            f"there is no file {path}: make one with kfmodels universe PRICES.csv --save {named}"
        )
    raise ValueError(f"there is no file {path}: fit the prices with kfmodels fit --out {named}")


Prices = Annotated[
    Path,
    typer.Argument(
        callback=find_file, help="Prices, csv or parquet: date first, a column a ticker."
    ),
]
Fit = Annotated[Path, typer.Argument(metavar="FIT", callback=find_fit, help="A saved fit.")]
Until = Annotated[str | None, typer.Option(help="Last date (or time) to infer the noise from.")]
DateFormat = Annotated[
    str | None,
    typer.Option(
        help=f"How dates of the prices are written, such as %d.%m.%Y; {EXCEL} or {EPOCH} for counts."
    ),
]
DayFirst = Annotated[
    bool | None,
    typer.Option(
        "--dayfirst/--monthfirst", help="What 01/02/2020 begins with.", show_default=False
    ),
]
Transform = Annotated[
    Literal["log", "level", "return"],
    typer.Option(help="What is modelled: log prices, prices or returns."),
]
ConstantVariance = Annotated[
    bool, typer.Option("--constant", help="Hold the observation variance constant.")
]
Spread = Annotated[
    bool,
    typer.Option(
        "--spread",
        help="Infer a spread that comes back beside the level: whether it does, and how quickly.",
    ),
]
Calendar = Annotated[
    str | None, typer.Option(help='Exchange whose open hours count ("XNYS"); needs --bar.')
]
Repair = Annotated[
    list[str] | None,
    typer.Option(
        "--repair",
        help="TICKER:DATE:FACTOR multiplies all prices before that row (new price over old), "
        "TICKER:DATE:gap takes the row out, factor 1 says that the move is real; repeat.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the sampler.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


_MOST = 512 * 2**20
"""Bytes of the folder, from which on the programs used least lately are deleted."""


def keep_programs() -> None:
    """Tell JAX, before it is imported, to keep its programs in a folder of this user and machine.

    Two processes may use it at once, for JAX locks a folder whose size has a bound. A setting of the
    user's own is left alone, and so is a home that cannot be written to.
    """
    try:
        from platformdirs import user_cache_path
    except ImportError:  # nor is JAX there, which comes with the same packages
        return
    # a folder for each machine: a home may be shared, and a program fits one kind of processor
    folder = user_cache_path("kfmodels") / f"programs-{platform.node()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(_MOST),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if settings.keys().isdisjoint(os.environ):
        os.environ.update(settings)


def say(text: str, *, err: bool = False) -> None:
    """Print; in a terminal with its prose wrapped, so that no word is torn, and elsewhere as it is.

    Tables keep their lines. What a pipe or a file takes is searched by line.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is not None and stream.isatty():
        text = wrap_prose(text, shutil.get_terminal_size().columns - 1)
    typer.echo(text, err=err)


class PlainErrors(TyperGroup):
    """Commands whose errors and warnings are a sentence on stderr, without a traceback.

    An error ends with exit code 2, Ctrl-C with 130 and a sentence on what is kept.
    """

    def invoke(self, ctx: typer.Context) -> object:
        """Run the command that was typed."""
        keep_programs()
        with _plain_warnings():
            try:
                return super().invoke(ctx)
            except ModuleNotFoundError as error:
                say(f"error: {_say_missing(error)}", err=True)
                raise typer.Exit(2) from error
            except (ValueError, OSError) as error:
                say(f"error: {for_the_shell(str(error))}", err=True)
                raise typer.Exit(2) from error
            except KeyboardInterrupt as interrupt:
                every = "each file was written whole or not at all; run it again"
                kept = next(iter(interrupt.args), every)  # what takes long knows more of it
                say(f"\ninterrupted: {kept}", err=True)
                raise typer.Exit(INTERRUPTED) from interrupt


def _say_missing(error: ModuleNotFoundError) -> str:
    """What to install where the package came without what it needs."""
    return (
        f"this needs {error.name}, which is not installed here. `pip install kfmodels` installs all; "
        "with numpy and typer alone, `live` runs what was saved as a live filter or a universe"
    )


@contextmanager
def _plain_warnings() -> Iterator[None]:
    def say_plainly(message: Warning | str, *_: object, **__: object) -> None:
        say(f"warning: {for_the_shell(str(message))}", err=True)

    warnings.showwarning, usual = say_plainly, warnings.showwarning
    try:
        yield
    finally:
        warnings.showwarning = usual


def model_of(constant: bool, spread: bool = False) -> "HedgeRatioModel":
    """The default model, its observation variance moving or constant, with or without a spread."""
    from kfmodels.model.assumptions import Constant
    from kfmodels.model.hedge_ratio import hedge_ratio_model
    from kfmodels.model.parts import Reverting

    noise = Constant() if constant else None
    return hedge_ratio_model(noise=noise, spread=Reverting() if spread else None)


def split_tickers(text: str, columns: Iterable[object]) -> list[str]:
    """Tickers with commas between them; one that is a column may have commas of its own."""
    known, parts = {str(name) for name in columns}, text.split(",")
    found: list[str] = []
    while parts:
        ends = range(len(parts), 0, -1)
        end = next((end for end in ends if ",".join(parts[:end]).strip() in known), 1)
        found.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return [name for name in found if name]


def read_prices(
    path: Path,
    until: str | None = None,
    *,
    date_format: str | None = None,
    dayfirst: bool | None = None,
) -> "pd.DataFrame":
    """A table of prices by date; its rows up to a date (the whole of that day) or up to a time.

    How many rows, from when to when and how far apart, and what is unusual in how they are written, is
    said on stderr.

    Raises:
        ValueError: there is no such file, the first column or `until` holds no dates, or dates or
            numbers that can be read in two ways, no row is left, or parquet cannot be read here.
    """
    import pandas as pd

    check_file(path)
    dating, said = Dating(date_format, dayfirst), []
    if path.suffix.lower() in (".parquet", ".pq"):
        try:
            table = pd.read_parquet(path)
        except ImportError as error:
            raise ValueError("reading parquet needs pyarrow: install kfmodels[parquet]") from error
        except ValueError as error:
            raise ValueError(
                f"{path} is named as parquet and is none: save it as parquet, or name it .csv if it is "
                "text"
            ) from error
    else:
        table, notation = read_csv(path)
        said += [notation] if notation else []
    if isinstance(table.index, pd.RangeIndex):  # dates are a column
        table = table.set_index(table.columns[0])
    table.index = read_dates(table.index, dating, str(path))
    # only a file that is newest first: another order may be one of dates that were read wrong
    if len(table) > 1 and table.index.is_monotonic_decreasing:
        table = table.iloc[::-1]
        said.append("newest first in the file")
    kept = table if until is None else _rows_until(table, until, dating)
    parts = [describe(pd.DatetimeIndex(kept.index)), *said]
    say(f"{path}: {', '.join(parts)}", err=True)
    return kept


def _rows_until(table: "pd.DataFrame", until: str, dating: Dating) -> "pd.DataFrame":
    import pandas as pd

    zone = getattr(table.index, "tz", None)
    try:
        (end,) = read_dates(pd.Index([until]), dating._replace(format=None), "--until")
    except ValueError as error:
        raise ValueError(f"--until {until} is no date like 2020-12-31: {error}") from error
    if end.tz is None:
        end = end.tz_localize(zone)
    elif zone is None:
        raise ValueError(f"--until {until} has a time zone, the prices have none: leave it out")
    # a date takes in its whole day, a time of day that moment too
    end += pd.offsets.Day() if end == end.normalize() else pd.offsets.Nano()
    kept = table.loc[table.index < end]
    if len(table) and not len(kept):
        raise ValueError(f"no prices up to {until}: the first are of {table.index.min()}")
    return kept


def read_clock(bar: str | None, calendar: str | None) -> "Clock | None":
    """The clock of `--bar` and `--calendar`; None without a bar.

    Raises:
        ValueError: a calendar without a bar, or either is none.
    """
    from kfmodels.clock.clock import Clock

    if bar is None:
        if calendar is not None:
            raise ValueError("--calendar says when time passes, --bar how it is counted: give both")
        return None
    return Clock(bar) if calendar is None else Clock.exchange(calendar, bar=bar)


def as_json(values: Mapping[str, object]) -> str:
    """A record in one line of JSON: NaN and infinity as null, dates as ISO text."""
    return json.dumps(_plain(values), allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)
