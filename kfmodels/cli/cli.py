"""The `kfmodels` command: demo, fit, show, report, update; fit-many and board; live."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kfmodels.cli import cli_live, cli_many
from kfmodels.cli.shell import (
    AsJson,
    DateFormat,
    DayFirst,
    Fit,
    MovingVariance,
    PlainErrors,
    Prices,
    Seed,
    Transform,
    Until,
    as_json,
    model_of,
    read_prices,
)

if TYPE_CHECKING:
    import pandas as pd

    from kfmodels.clock.instants import Stamp
    from kfmodels.fitting.hedge_fit import HedgeFit
    from kfmodels.online.filter import OnlineFilter

app = typer.Typer(
    cls=PlainErrors,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Infer how fast a hedge ratio moves, then run the fitted filter tick by tick.",
)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the fit, the live filter and the picture.")
    ] = Path("kfmodels-demo"),
) -> None:
    """The main job on prices that come with the package: AAPL hedged with the S&P 500."""
    from kfmodels.cli.demo import run

    run(out, say=typer.echo)


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
    discounted: MovingVariance = False,
    draws: Annotated[int, typer.Option(help="Draws per chain, after as many to warm up.")] = 1000,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Infer the noise of one target and its hedges, and save the fit."""
    from kfmodels.cli import facts
    from kfmodels.data.hedge_data import HedgeData
    from kfmodels.fitting.fit import fit as infer
    from kfmodels.sampling.nuts import NUTS

    if not out.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {out.parent} to write {out.name} to")
    names = [name.strip() for name in hedges.split(",") if name.strip()]
    table = read_prices(prices, until, date_format=date_format, dayfirst=dayfirst)
    data = HedgeData.from_prices(table, target=target, hedges=names, transform=transform)
    fitted = infer(data, model_of(discounted), method=NUTS(warmup=draws, draws=draws), seed=seed)
    fitted.save(out)
    _show(fitted, json)
    if not json:
        typer.echo("\n  ".join([f"\nSaved to {out}. Next:", *facts.commands(out)]))


app.command("fit-many")(cli_many.fit_many)
app.command("board")(cli_many.board)
app.command("live")(cli_live.live)


@app.command()
def show(fitted: Fit, json: AsJson = False) -> None:
    """Print what a saved fit found, how sure that is and what it means."""
    from kfmodels.fitting.hedge_fit import load

    _show(load(fitted), json)


@app.command()
def report(
    fitted: Fit,
    out: Annotated[Path, typer.Option(help="File to write the page to (HTML).")],
    prices: Annotated[
        Path | None, typer.Option(help="Later prices, csv or parquet, to score the hedge on.")
    ] = None,
    date_format: DateFormat = None,
    dayfirst: DayFirst = None,
) -> None:
    """Write one page for those who decide: the hedge, how sure it is, what it was worth."""
    from kfmodels.cli.page import write_page
    from kfmodels.fitting.hedge_fit import load

    later = None
    if prices is not None:
        later = read_prices(prices, date_format=date_format, dayfirst=dayfirst)
    write_page(load(fitted), out, later)
    typer.echo(f"Saved to {out}: one file, which any browser opens")


@app.command()
def update(
    fitted: Fit,
    prices: Annotated[Path | None, typer.Option(help="Later prices, csv or parquet.")] = None,
    tick: Annotated[
        list[str] | None,
        typer.Option(help="TICKER=PRICE, one price of a single tick; repeat for every ticker."),
    ] = None,
    at: Annotated[str | None, typer.Option(help="Time of that tick, like 2020-12-31.")] = None,
    date_format: DateFormat = None,
    dayfirst: DayFirst = None,
    json: AsJson = False,
) -> None:
    """Run the fitted filter over later prices: the rows of a file, or one tick.

    Its state is kept beside the fit, in FIT.live.json. Rows that it has seen are left out, so a file
    may be given again.
    """
    from kfmodels.cli import facts
    from kfmodels.data.hedge_data import day

    if (prices is None) == (not tick):
        raise ValueError("give either --prices FILE or --tick TICKER=PRICE for every ticker")
    if tick and at is None:
        raise ValueError("give the time of the tick with --at, so that no price counts twice")
    kept = fitted.with_name(fitted.name + ".live.json")
    live = _live(fitted, kept)
    if prices:
        rows = _later(live, read_prices(prices, date_format=date_format, dayfirst=dayfirst))
    else:
        rows = [(at, *_one_tick(live, tick or []))]
    ticks = [live.update(y=y, x=x, at=when) for when, y, x in rows]
    live.save(kept)
    if json:
        for one in ticks:
            typer.echo(as_json(one.record()))
    elif not ticks:
        typer.echo(f"nothing later than {day(live.at)}: the filter is unchanged")
    else:
        rows = "1 row" if len(ticks) == 1 else f"{len(ticks)} rows"
        typer.echo(f"{rows} taken, up to {day(live.at)}")
        for hedge in facts.hedges(live):
            typer.echo(f"  {facts.order(hedge)}: {facts.ratio(hedge)}")
        typer.echo(f"  {facts.surprise(live.target, ticks[-1])}\nSaved to {kept}")


def _live(fitted: Path, kept: Path) -> "OnlineFilter":
    """The filter as it was last kept; as it was after the training rows if it never ran."""
    from kfmodels.online.filter import OnlineFilter

    if kept.exists() and fitted.exists():
        from h5py import File

        live = OnlineFilter.load(kept)
        # only the name of the fit is read: the whole of it would load JAX
        with File(fitted) as opened:
            now = opened.attrs.get("fit_id")
        if live.fit_id != now:
            raise ValueError(
                f"{kept} goes on from another fit than {fitted}: remove it to start from this one"
            )
        return live
    from kfmodels.fitting.hedge_fit import load

    return load(fitted).online()


def _later(live: "OnlineFilter", table: "pd.DataFrame") -> "list[tuple[Stamp, float, list[float]]]":
    """The rows that the filter has not seen: time, price of the target, prices of the hedges."""
    import pandas as pd

    from kfmodels.data.hedge_data import rows_after

    last = pd.Timestamp(live.at)
    assert isinstance(last, pd.Timestamp)  # not NaT: a fit ends at a row
    rows = rows_after(table.sort_index(), last, list(live.tickers))
    return [(at, row[0], row[1:]) for at, row in zip(rows.index, rows.to_numpy(), strict=True)]


def _one_tick(live: "OnlineFilter", given: list[str]) -> tuple[float, list[float]]:
    """Prices of target and hedges, from TICKER=PRICE."""
    found = {}
    for part in given:
        name, _, price = part.rpartition("=")  # a ticker may hold "=", as ES=F does
        try:
            found[name] = float(price)
        except ValueError as error:
            raise ValueError(f"--tick {part} is not TICKER=PRICE") from error
    missing = [name for name in live.tickers if name not in found]
    if missing:
        raise ValueError(
            f"no price of {', '.join(missing)}; add --tick {missing[0]}=PRICE (or nan)"
        )
    return found[live.target], [found[name] for name in live.hedges]


def _show(fitted: "HedgeFit", json: bool) -> None:
    if not json:
        from kfmodels.cli.report import report

        typer.echo(report(fitted))
        return
    last = fitted.tree["filtered"].to_dataset().isel(time=-1)
    held = {
        name: {k: float(last[k].sel(coef=name)) for k in ("mean", "sd", "sd_given_noise")}
        for name in fitted.hedges
    }
    found = {"target": fitted.target, "hedges": fitted.hedges, "fit_until": str(fitted.fit_until)}
    found |= {"noise": fitted.summary().to_dict("index"), "hedge_ratio": held}
    typer.echo(as_json(found | {"convergence": fitted.convergence()}))
