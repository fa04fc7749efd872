"""`kfmodels fit-many` and `kfmodels board`: a universe of pairs from the shell."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from kfmodels.cli.remedies import for_the_shell
from kfmodels.cli.shell import (
    AsJson,
    ConstantVariance,
    DateFormat,
    DayFirst,
    Prices,
    Repair,
    Seed,
    Spread,
    Transform,
    Until,
    as_json,
    find_file,
    model_of,
    read_prices,
    say,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from kfmodels.batch.board import HedgeBoard

SHOWN = 10
"""Pairs or hedges that a list shows by default."""


def fit_many(
    prices: Prices,
    store: Annotated[
        Path, typer.Option(help="Folder for finished fits; a later run goes on from what it holds.")
    ],
    target: Annotated[
        str | None, typer.Option(help="Only pairs with this target. Default: every ordered pair.")
    ] = None,
    until: Until = None,
    date_format: DateFormat = None,
    dayfirst: DayFirst = None,
    transform: Transform = "log",
    constant: ConstantVariance = False,
    spread: Spread = False,
    repair: Repair = None,
    chunk_size: Annotated[
        int | None, typer.Option(min=1, help="Number of pairs that are fitted and kept together.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers fit.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Infer the noise of every pair of a universe; run again, it goes on where it was stopped."""
    from kfmodels.batch.fit_many import fit_many as infer
    from kfmodels.batch.status import Status
    from kfmodels.cli.board_report import universe
    from kfmodels.data.hedge_data import HedgeData
    from kfmodels.data.repairs import read_repairs

    table = read_prices(prices, until, date_format=date_format, dayfirst=dayfirst)
    said = read_repairs(repair or [], table.columns)
    if target is None:
        pairs = HedgeData.all_pairs(table, transform=transform, repair=said)
    else:
        pairs = HedgeData.one_target(table, target, transform=transform, repair=said)
    say(f"fitting {pairs!r}", err=True)
    options = {"chunk_size": chunk_size, "seed": seed, "store": store}
    with _workers(cluster) as executor:
        made = infer(pairs, model_of(constant, spread), executor=executor, **options)
    say(for_the_shell(universe(made, SHOWN)))
    if not (made.status == Status.OK).any():
        raise ValueError("no pair was fitted: the lines above say why")


def _find_store(folder: Path) -> Path:
    """The folder of a board, looked for before what opens it is loaded."""
    there = folder.is_dir()
    if there:
        from kfmodels.batch.store import is_store

        there = is_store(folder)
    if not there:
        raise ValueError(
            f"{folder} holds no batch of fits: make one with kfmodels fit-many PRICES.csv --store "
            f"{quote(str(folder))}"
        )
    return folder


def board(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", callback=_find_store, help="Folder of fit-many --store."),
    ],
    target: Annotated[str | None, typer.Option(help="Only the hedges of this ticker.")] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help=f"Rows of a list. Default: {SHOWN}; all in JSON and csv."),
    ] = None,
    later: Annotated[
        Path | None,
        typer.Option(
            callback=find_file, help="Later prices, on which to rank the hedges of the target."
        ),
    ] = None,
    date_format: DateFormat = None,
    dayfirst: DayFirst = None,
    repair: Repair = None,
    json: AsJson = False,
    csv: Annotated[Path | None, typer.Option(help="File to write the table to.")] = None,
    pair: Annotated[
        str | None, typer.Option(help="TARGET/HEDGE, of which to print what show prints of a fit.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write the fit of that pair to (netCDF).")
    ] = None,
) -> None:
    """Print what became of every pair, what to hold, how sure that is and what to do next.

    With --pair: the same of one, as a fit that show, report, update and live take.
    """
    from kfmodels.files.atomic import check_place, replacing

    for file in (csv, out):
        if file is not None:
            check_place(file)
    if out is not None and pair is None:
        raise ValueError("--out is the fit of one pair: name it with --pair TARGET/HEDGE")
    if pair is not None and (target or later or json or csv or top):
        raise ValueError(
            "--pair is of one fit, and the other options are of the table: keep it with --out FILE.nc "
            "and ask kfmodels show FILE.nc --json, or kfmodels report FILE.nc --prices LATER.csv"
        )
    if repair and later is None:
        raise ValueError(
            "--repair is of what --later gives; the prices of a fit are repaired as it is made"
        )
    # JAX comes with these, and a mistake is told before
    from kfmodels.batch.board import HedgeBoard
    from kfmodels.batch.ranking import rank_hedges
    from kfmodels.batch.status import Status
    from kfmodels.cli import board_report
    from kfmodels.data.repairs import read_repairs

    made, shown = HedgeBoard.open(folder), top or SHOWN
    if pair is not None:
        _show_pair(made, pair, out)
        return
    if target is not None:
        table = board_report.hedges_of(made, target)
        if later is None:
            text = board_report.one_target(made, target, table, shown)
        else:
            prices = read_prices(later, date_format=date_format, dayfirst=dayfirst)
            said = read_repairs(repair or [], prices.columns)
            table = rank_hedges(made, target, prices, top=None, repair=said)
            text = board_report.ranked(made, target, table, shown)
    elif later is not None:
        raise ValueError("--later ranks the hedges of one ticker: name it with --target")
    else:
        table, text = made.table(), board_report.universe(made, shown)
    table = table.assign(
        **{name: table[name].map(for_the_shell) for name in ("doubts", "reason") if name in table}
    )
    kept = table if target is None or top is None else table.head(top)
    if csv is not None:
        with replacing(csv) as temporary:
            kept.to_csv(temporary)
    if json:
        counts = {"pairs": len(made), "fitted": int((made.status == Status.OK).sum())}
        rows = kept.reset_index().to_dict("records")
        typer.echo(as_json({"fit_until": made.fit_until, **counts, "table": rows}))
        return
    say(for_the_shell(text))
    if csv is not None:
        typer.echo(f"\nSaved {len(kept)} rows to {csv}")


def _show_pair(made: "HedgeBoard", pair: str, out: Path | None) -> None:
    """What a fit found, kept in a file where one is named."""
    from kfmodels.cli.facts import commands
    from kfmodels.cli.report import report

    fitted = made.sel(pair)
    typer.echo(report(fitted))
    if out is not None:
        fitted.save(out)
        typer.echo("\n  ".join([f"\nSaved to {out}. Next:", *commands(out)]))


@contextmanager
def _workers(cluster: str | None) -> Iterator["Executor | None"]:
    """The executor of a Dask cluster, or none."""
    if cluster is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(
            "--cluster needs Dask's distributed: pip install 'kfmodels[cluster]'"
        ) from error
    with Client(cluster) as client:
        yield client.get_executor()
