"""The `kfmodels` command: demo, fit, show, report, update; fit-many, board; universe; live, watch."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kfmodels.cli import cli_live, cli_many, cli_universe, cli_update, cli_watch
from kfmodels.cli.shell import (
    AsJson,
    ConstantVariance,
    DateFormat,
    DayFirst,
    Fit,
    PlainErrors,
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
    split_tickers,
)
from kfmodels.files.atomic import check_place

if TYPE_CHECKING:
    import pandas as pd

    from kfmodels.fitting.hedge_fit import HedgeFit

app = typer.Typer(
    cls=PlainErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich prints a calendar in the place of `:DATE:`
    help="Infer how fast a hedge ratio moves, then run the fitted filter tick by tick.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"kfmodels {version('kfmodels')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Stands before every command."""


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the fit, the live filter and the picture.")
    ] = Path("kfmodels-demo"),
) -> None:
    """The main job on prices of the package: 22 ETFs hedged with SPY, then with all others."""
    from kfmodels.cli.demo import run

    run(out, say=say)


@app.command()
def fit(
    prices: Prices,
    target: Annotated[str, typer.Option(help="Ticker to hedge.")],
    hedges: Annotated[str, typer.Option(help="Tickers to hedge it with, separated by commas.")],
    out: Annotated[Path, typer.Option(help="File to write the fit to (netCDF).")],
    until: Until = None,
    date_format: DateFormat = None,
    dayfirst: DayFirst = None,
    transform: Transform = "log",
    constant: ConstantVariance = False,
    spread: Spread = False,
    repair: Repair = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Draws per chain, after as many to warm up. Default: 1000; with --spread importance "
            "sampling in the place of chains."
        ),
    ] = None,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Infer the noise of one target and its hedges, and save the fit."""
    check_place(out)
    # JAX comes with these, and a mistake is told before
    from kfmodels.cli import facts
    from kfmodels.data.hedge_data import HedgeData
    from kfmodels.data.repairs import read_repairs
    from kfmodels.fitting.fit import fit as infer
    from kfmodels.sampling.nuts import NUTS

    table = read_prices(prices, until, date_format=date_format, dayfirst=dayfirst)
    names = split_tickers(hedges, table.columns)
    data = HedgeData.from_prices(
        table,
        target=target,
        hedges=names,
        transform=transform,
        repair=read_repairs(repair or [], table.columns),
    )
    count = 1000 if draws is None else draws
    chains = None if spread and draws is None else NUTS(warmup=count, draws=count)
    fitted = infer(data, model_of(constant, spread), method=chains, seed=seed)
    fitted.save(out)
    _show(fitted, json, table)
    if not json:
        typer.echo("\n  ".join([f"\nSaved to {out}. Next:", *facts.commands(out)]))


app.command("fit-many")(cli_many.fit_many)
app.command("board")(cli_many.board)
app.command("universe")(cli_universe.universe)
app.command("update")(cli_update.update)
app.command("live")(cli_live.live)
app.command("watch")(cli_watch.watch)


@app.command()
def show(fitted: Fit, json: AsJson = False) -> None:
    """Print what a saved fit found, how sure that is and what it means."""
    from kfmodels.fitting.hedge_fit import load_fit

    _show(load_fit(fitted), json)


@app.command()
def report(
    fitted: Fit,
    out: Annotated[Path, typer.Option(help="File to write the page to (HTML).")],
    prices: Annotated[
        Path | None,
        typer.Option(
            callback=find_file, help="Later prices, csv or parquet, to score the hedge on."
        ),
    ] = None,
    date_format: DateFormat = None,
    dayfirst: DayFirst = None,
    repair: Repair = None,
) -> None:
    """Write one page for those who decide: the hedge, how sure it is, what it was worth."""
    if repair and prices is None:
        raise ValueError(
            "--repair is of what --prices gives; the prices of a fit are repaired as it is made"
        )
    check_place(out)
    # JAX comes with these, and a mistake is told before
    from kfmodels.cli.page import write_page
    from kfmodels.data.repairs import read_repairs
    from kfmodels.fitting.hedge_fit import load_fit

    later, said = None, None
    if prices is not None:
        later = read_prices(prices, date_format=date_format, dayfirst=dayfirst)
        said = read_repairs(repair or [], later.columns)
    write_page(load_fit(fitted), out, later, said)
    typer.echo(f"Saved to {out}: one file, which any browser opens")


def _show(fitted: "HedgeFit", json: bool, prices: "pd.DataFrame | None" = None) -> None:
    """The report of a fit, and how its hedges stand beside the other columns of its prices."""
    from kfmodels.batch.few_legs import compare_with_universe
    from kfmodels.cli import facts
    from kfmodels.cli.report import list_notes, report

    beside = None
    if prices is not None:
        data = fitted.data
        beside = compare_with_universe(data.prices, prices, transform=data.transform)
    if not json:
        typer.echo(report(fitted))
        if beside is not None:
            said = facts.beside(fitted.target, fitted.hedges, beside)
            typer.echo(f"\n{list_notes('Beside the other columns', [said])}")
        return
    last = fitted.tree["filtered"].to_dataset().isel(time=-1)
    held = {
        name: {k: float(last[k].sel(coef=name)) for k in ("mean", "sd", "sd_given_noise")}
        for name in fitted.hedges
    }
    found = {"target": fitted.target, "hedges": fitted.hedges, "fit_until": str(fitted.fit_until)}
    found |= {"doubts": facts.doubts(fitted.data)}
    found |= {"noise": fitted.summary().to_dict("index"), "hedge_ratio": held}
    if facts.has_spread(fitted):
        found |= {"reversion": fitted.reversion_now().record()}
    if beside is not None:
        found |= {"beside": beside._asdict()}
    typer.echo(as_json(found | {"convergence": fitted.convergence()}))
