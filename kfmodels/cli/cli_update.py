"""`kfmodels update`: a fitted filter over later prices, its state kept in a file beside the fit."""

from datetime import timedelta
from fractions import Fraction
from itertools import pairwise
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from kfmodels.cli.remedies import for_the_shell
from kfmodels.cli.shell import (
    AsJson,
    DateFormat,
    DayFirst,
    Fit,
    as_json,
    find_file,
    read_prices,
    say,
)

if TYPE_CHECKING:
    import pandas as pd

    from kfmodels.clock.clock import Clock
    from kfmodels.online.filter import OnlineFilter
    from kfmodels.online.ticks import Tick

SHOWN = 5
"""Rows out of the usual that are told one by one."""


def update(
    fitted: Fit,
    prices: Annotated[
        Path | None, typer.Option(callback=find_file, help="Later prices, csv or parquet.")
    ] = None,
    tick: Annotated[
        list[str] | None,
        typer.Option(help="TICKER=PRICE, one price of a single tick; repeat for every ticker."),
    ] = None,
    at: Annotated[str | None, typer.Option(help="Time of that tick, like 2020-12-31.")] = None,
    rescale: Annotated[
        list[str] | None,
        typer.Option(help="TICKER=FACTOR, new price over old from here on: 0.5 after a 2-for-1."),
    ] = None,
    adjust: Annotated[
        list[str] | None,
        typer.Option(help="TICKER=SHIFT, new price minus old from here on: minus a dividend."),
    ] = None,
    date_format: DateFormat = None,
    dayfirst: DayFirst = None,
    max_ahead: Annotated[
        float, typer.Option(help="Days after the last row up to which the next may come.")
    ] = 31.0,
    json: AsJson = False,
) -> None:
    """Run the fitted filter over later prices, the rows of a file or one tick; or take in a split.

    Prices far from their forecast are held in quarantine, as by `kfmodels live`. The state is kept
    beside the fit, in FIT.live.json, from which `kfmodels live` goes on; what that one learns stays in
    its own journal. Rows that were seen are left out, so a file may be given again; of two runs at once
    the second waits for the first.
    """
    units = bool(rescale or adjust)
    if (prices and tick) or not (prices or tick or units):
        raise ValueError("give either --prices FILE or --tick TICKER=PRICE for every ticker")
    if tick and at is None:
        raise ValueError("give the time of the tick with --at, so that no price counts twice")
    # JAX comes with these, and a mistake is told before
    from kfmodels.cli import facts
    from kfmodels.data.checks import day
    from kfmodels.files.lock import writing
    from kfmodels.online.ticks import Outcome

    kept = kept_path(fitted)
    # from before the filter is read until it is written, or one of two runs would undo the other
    with writing(kept):
        live, clock = open_guarded(fitted)
        live.requote(_by_ticker(rescale or [], "--rescale", "FACTOR"))
        live.adjust(_by_ticker(adjust or [], "--adjust", "SHIFT"))
        table = None
        if prices:
            table = _later(live, read_prices(prices, date_format=date_format, dayfirst=dayfirst))
        elif tick:
            table = _one_tick(live, tick, str(at), dayfirst)
        ticks: list[Tick] = []
        odd: list[str] = []
        if table is not None and len(table):
            check_gap(live, table, timedelta(days=max_ahead))
            if tick:
                ticks = [_take(live, clock, table.index[0], table.iloc[0])]
            else:
                ticks, odd = _take_all(live, clock, table)
        odd += [f"{day(one.at)}: {for_the_shell(one.sentence)}" for one in ticks if one.reason]
        if ticks or units:
            live.save(kept)
    if json:
        for one in ticks:
            typer.echo(as_json(one.record()))
        for sentence in odd:
            say(sentence, err=True)
        return
    if not (ticks or odd or units):
        say(f"nothing later than {day(live.at)}: the filter is unchanged")
        return
    idle = sum(one.outcome != Outcome.ACCEPTED for one in ticks)
    if units:
        say("prices before are converted to the new ones")
    if ticks or odd:
        rows = "1 row" if len(ticks) == 1 else f"{len(ticks)} rows"
        less = f", {idle} of them not learnt from" if idle else ""
        say(f"{rows} taken, up to {day(live.at)}{less}")
    for sentence in odd[-SHOWN:]:
        say(f"  {sentence}")
    if len(odd) > SHOWN:
        say(f"  and {len(odd) - SHOWN} before these")
    for hedge in facts.hedges(live):
        say(f"  {facts.order(hedge)}: {facts.ratio(hedge)}")
    if ticks:
        say(f"  {facts.surprise(live.target, ticks[-1])}")
        if (now := ticks[-1].reversion) is not None:
            say(f"  {facts.stands(live.target, now)}")
    if ticks or units:
        say(f"Saved to {kept}")


def _take(live: "OnlineFilter", clock: "Clock | None", at: Any, row: "pd.Series") -> "Tick":
    """Let the filter take one row, as long after the last as its clock says."""
    if clock is None or live.at is None:
        return live.take(row.to_dict(), at=at)
    passed = clock.between(live.at, at)
    return live.take(row.to_dict(), at=at, dt=passed.bars, gaps=passed.gaps)


def _take_all(
    live: "OnlineFilter", clock: "Clock | None", table: "pd.DataFrame"
) -> "tuple[list[Tick], list[str]]":
    """The ticks of all rows; those that cannot be taken are left out and said."""
    from kfmodels.data.checks import day

    ticks, refused = [], []
    for at, row in table.iterrows():
        try:
            ticks.append(_take(live, clock, at, row))
        except ValueError as error:
            refused.append(f"{day(at)}: rejected: {error}")
    return ticks, refused


def _later(live: "OnlineFilter", table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows that the filter has not seen."""
    import pandas as pd

    from kfmodels.data.hedge_data import rows_after

    last = pd.Timestamp(live.at)
    assert isinstance(last, pd.Timestamp)  # not NaT: a fit ends at a row
    return rows_after(table, last, list(live.tickers))


def _by_ticker(given: list[str], option: str, what: str) -> dict[str, float]:
    """Numbers by ticker, from TICKER=NUMBER."""
    found = {}
    for part in given:
        name, _, number = part.rpartition("=")  # a ticker may hold "=", as ES=F does
        try:
            # a factor is named as it is of splits, 3/2
            found[name] = float(Fraction(number) if "/" in number else number)
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"{option} {part} is not TICKER={what}") from error
    return found


def _one_tick(
    live: "OnlineFilter", given: list[str], at: str, dayfirst: bool | None
) -> "pd.DataFrame":
    """A table of one row, from TICKER=PRICE."""
    import pandas as pd

    from kfmodels.cli.dates import Dating, read_dates

    found = _by_ticker(given, "--tick", "PRICE")
    missing = [name for name in live.tickers if name not in found]
    if missing:
        raise ValueError(
            f"no price of {', '.join(missing)}; add --tick {missing[0]}=PRICE (or nan)"
        )
    index = read_dates(pd.Index([at]), Dating(None, dayfirst), "--at")
    return pd.DataFrame([found], index, list(live.tickers))


def kept_path(fitted: Path) -> Path:
    """The file beside a fit that `update` keeps its filter in."""
    return fitted.with_name(fitted.name + ".live.json")


def load_kept(fitted: Path) -> "OnlineFilter | None":
    """The filter that `update` kept, with a policy on shocks; None if it never ran.

    Raises:
        ValueError: it goes on from another fit.
    """
    from h5py import File

    from kfmodels.fitting.netcdf import read_file
    from kfmodels.online.filter import OnlineFilter
    from kfmodels.online.shocks import Quarantine

    kept = kept_path(fitted)
    if not (kept.exists() and fitted.exists()):
        return None
    live = OnlineFilter.load(kept)
    # only the name of the fit is read: the whole of it would load JAX
    with File(read_file(fitted)) as opened:
        now = opened.attrs.get("fit_id")
    if live.fit_id != now:
        raise ValueError(
            f"{kept} goes on from another fit than {fitted}: remove it to start from this one"
        )
    live.shocks = live.shocks or Quarantine()  # one saved by fit.online().save() has none
    return live


def open_guarded(fitted: Path) -> "tuple[OnlineFilter, Clock | None]":
    """The filter as it was last kept, or that of `go_live` after the training rows; and its clock."""
    from kfmodels.online.filter import OnlineFilter

    live = load_kept(fitted)
    if live is None:
        from kfmodels.fitting.hedge_fit import load_fit

        running = load_fit(fitted).go_live()
        assert isinstance(running.engine, OnlineFilter)  # of one pair
        return running.engine, running.clock
    return live, _clock_of(fitted)


def _clock_of(fitted: Path) -> "Clock | None":
    from h5py import File

    from kfmodels.clock.clock import Clock
    from kfmodels.fitting.netcdf import read_file

    with File(read_file(fitted)) as opened:
        text = opened.get("constant_data/clock")
        return None if text is None else Clock.from_json(loads(cast("Any", text)[()]))


def check_gap(live: "OnlineFilter", table: "pd.DataFrame", most: timedelta) -> None:
    """Raise if a row comes so long after the one before that its date may be wrong."""
    import pandas as pd

    from kfmodels.data.checks import day

    last = pd.Timestamp(live.at)
    if not len(table) or (table.index[0].tz is None) != (last.tz is None):
        return  # where only one has a time zone the filter says so
    for before, now in pairwise([last, *table.index]):
        if now - before > most:
            raise ValueError(
                f"the row of {day(now)} comes {(now - before).days} days after that of {day(before)}, "
                "and a wrong date would put all later ones out of order: give the rows between with "
                f"--prices FILE, or if it is right --max-ahead {(now - before).days + 1}; nothing was "
                "changed"
            )
