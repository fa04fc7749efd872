"""The `kfmodels` command: demo, fit, show, report, update; fit-many and board; live."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kfmodels.cli import cli_live, cli_many
from kfmodels.cli.shell import (
    AsJson,
    MovingVariance,
    Prices,
    Seed,
    Transform,
    Until,
    plain_errors,
    read_prices,
    record,
    rows_until,
)

if TYPE_CHECKING:
    import pandas as pd

    from kfmodels.online.filter import OnlineFilter

app = typer.Typer(
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

    with plain_errors():
        run(out, say=typer.echo)


@app.command()
def fit(
    prices: Prices,
    target: Annotated[str, typer.Option(help="Ticker to hedge.")],
    hedges: Annotated[str, typer.Option(help="Tickers to hedge it with, separated by commas.")],
    out: Annotated[Path, typer.Option(help="File to write the fit to (netCDF).")],
    until: Until = None,
    transform: Transform = "log",
    discounted: MovingVariance = False,
    draws: Annotated[int, typer.Option(help="Draws per chain, after as many to warm up.")] = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Infer the noise of one target and its hedges, and save the fit."""
    from kfmodels.cli.report import report
    from kfmodels.data.hedge_data import HedgeData
    from kfmodels.fitting.fit import fit as infer
    from kfmodels.model.assumptions import Constant, Discounted
    from kfmodels.model.hedge_ratio import hedge_ratio_model
    from kfmodels.sampling.nuts import NUTS

    with plain_errors():
        if not out.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {out.parent} to write {out.name} to")
        table = rows_until(read_prices(prices), until)
        names = [name.strip() for name in hedges.split(",") if name.strip()]
        data = HedgeData.from_prices(table, target=target, hedges=names, transform=transform)
        model = hedge_ratio_model(noise=Discounted() if discounted else Constant())
        fitted = infer(data, model, method=NUTS(warmup=draws, draws=draws), seed=seed)
        fitted.save(out)
        if as_json:
            typer.echo(json.dumps(_summary(fitted), allow_nan=False))
            return
        typer.echo(report(fitted))
        typer.echo(
            f"\nSaved to {out}. Next:\n  kfmodels update {out} --prices LATER.csv\n"
            f"  kfmodels report {out} --prices LATER.csv --out report.html"
        )


app.command("fit-many")(cli_many.fit_many)
app.command("board")(cli_many.board)
app.command("live")(cli_live.live)


@app.command()
def show(
    fitted: Annotated[Path, typer.Argument(metavar="FIT", help="A saved fit.")],
    as_json: AsJson = False,
) -> None:
    """Say what a saved fit found, how sure it is and what it means."""
    from kfmodels.cli.report import report
    from kfmodels.fitting.hedge_fit import load

    with plain_errors():
        found = load(fitted)
        typer.echo(json.dumps(_summary(found), allow_nan=False) if as_json else report(found))


@app.command()
def report(
    fitted: Annotated[Path, typer.Argument(metavar="FIT", help="A saved fit.")],
    out: Annotated[Path, typer.Option(help="The page, HTML in one file.")],
    prices: Annotated[
        Path | None, typer.Option(help="Later prices, csv or parquet, to say what it was worth.")
    ] = None,
) -> None:
    """Write one page for those who decide: the hedge, how sure it is, what it was worth."""
    from kfmodels.cli.page import write_page
    from kfmodels.fitting.hedge_fit import load

    with plain_errors():
        found = load(fitted)
        write_page(found, out, None if prices is None else read_prices(prices))
        typer.echo(f"Saved to {out}: one file, to be opened in any browser")


@app.command()
def update(
    fitted: Annotated[Path, typer.Argument(metavar="FIT", help="A saved fit.")],
    prices: Annotated[Path | None, typer.Option(help="Later prices, csv or parquet.")] = None,
    tick: Annotated[
        list[str] | None, typer.Option(help="One price of a single tick, TICKER=PRICE; repeat.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Time of that tick.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the fitted filter on: rows later than the last one seen, or one tick.

    Where it stands is kept beside the fit, in FIT.live.json; rows already seen are left out, so the
    same file may be given again.
    """
    with plain_errors():
        if (prices is None) == (not tick):
            raise ValueError("give either --prices FILE or --tick TICKER=PRICE for every ticker")
        if tick and at is None:
            raise ValueError("give the time of the tick with --at, so that no price counts twice")
        kept = fitted.with_name(fitted.name + ".live.json")
        live = _live(fitted, kept)
        if prices is not None:
            rows = _later(live, read_prices(prices))
        else:
            rows = [(at, *_one_tick(live, tick or []))]
        ticks = [live.update(y=y, x=x, at=when) for when, y, x in rows]
        live.save(kept)
        if as_json:
            for one in ticks:
                typer.echo(json.dumps(record(one.record()), allow_nan=False))
            return
        if not ticks:
            typer.echo(f"nothing later than {live.at}: the filter stands where it stood")
            return
        last = ticks[-1]
        typer.echo(f"{len(ticks)} rows taken, up to {last.at}")
        for name, beta in last.beta.items():
            typer.echo(
                f"  hold {beta:.4g} +- {last.sd_total[name]:.2g} of {name} "
                f"({'money' if live.transform != 'level' else 'shares'} per one of {live.target})"
            )
        if last.observed:
            rich = "rich" if last.spread > 0 else "cheap"
            typer.echo(
                f"  spread {last.spread:+.4g}, {last.z:+.2f} sd of its forecast: "
                f"{live.target} looks {rich}{'' if abs(last.z) > 2 else ', within the ordinary'}"
            )
        else:
            typer.echo("  a price was missing in the last row: the ratio only became less certain")
        typer.echo(f"Saved to {kept}")


def _live(fitted: Path, kept: Path) -> "OnlineFilter":
    """Where the filter stood last; after the training rows if it never ran."""
    from kfmodels.online.filter import OnlineFilter

    if kept.exists() and fitted.exists():
        from h5py import File

        live = OnlineFilter.load(kept)
        with File(fitted) as opened:
            now = opened.attrs.get("fit_id")
        if live.fit_id != now:
            raise ValueError(
                f"{kept} goes on from another fit than {fitted}: remove it to start from this one"
            )
        return live
    from kfmodels.fitting.hedge_fit import load

    return load(fitted).online()


def _later(live: "OnlineFilter", table: "pd.DataFrame") -> list[tuple[Any, float, list[float]]]:
    import pandas as pd

    names = [live.target, *live.hedges]
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise ValueError(f"the prices have no column {', '.join(missing)}")
    last = pd.Timestamp(live.at)
    dates: Any = table.index
    if (last.tz is None) != (dates.tz is None):
        raise ValueError(f"time zones do not match: the filter stands at {live.at}")
    table = table.loc[dates > last].sort_index()
    return [
        (at, row[0], row[1:]) for at, row in zip(table.index, table[names].to_numpy(), strict=True)
    ]


def _one_tick(live: "OnlineFilter", given: list[str]) -> tuple[float, list[float]]:
    found = {}
    for part in given:
        name, _, price = part.rpartition("=")
        try:
            found[name] = float(price)
        except ValueError as error:
            raise ValueError(f"--tick {part} is not TICKER=PRICE") from error
    missing = [name for name in (live.target, *live.hedges) if name not in found]
    if missing:
        raise ValueError(
            f"no price of {', '.join(missing)}; add --tick {missing[0]}=PRICE (or nan)"
        )
    return found[live.target], [found[name] for name in live.hedges]


def _summary(fitted: Any) -> dict[str, Any]:
    table = fitted.summary()
    return {
        "target": fitted.target,
        "hedges": list(fitted.hedges),
        "fit_until": str(fitted.fit_until),
        "noise": {name: record(row.to_dict()) for name, row in table.iterrows()},
        "hedge_ratio": {
            name: {
                k: float(fitted.tree["filtered"][k].isel(time=-1).sel(coef=name))
                for k in ("mean", "sd", "sd_given_noise")
            }
            for name in fitted.hedges
        },
        "convergence": record(fitted.convergence()),
    }
