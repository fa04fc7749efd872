"""`kfmodels universe`: every asset hedged with all others, or a few of them, from the shell.

One file: the command, what it reads and the words it says.
"""

from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kfmodels.cli.numbers import read_csv
from kfmodels.cli.remedies import for_the_shell
from kfmodels.cli.shell import (
    AsJson,
    Calendar,
    DateFormat,
    DayFirst,
    Repair,
    as_json,
    find_file,
    read_clock,
    read_prices,
    split_tickers,
)

if TYPE_CHECKING:
    import pandas as pd

    from kfmodels.clock.clock import Clock
    from kfmodels.universe.book_hedge import BookHedge
    from kfmodels.universe.universe import HedgeUniverse

FAINT = 0.1
"""Share of a variance below which no hedge of a target is worth trading."""

_COLUMNS = (
    "removed, best_1, best_3: share of the variance removed lately (some 100 rows) by all legs, the "
    "best single leg, the best three. memory: rows that the mixture remembers; then the weight of each "
    "kind of structure in it. turnover: money traded in hedges in 252 rows, against one of the target."
)
_LEGS = (
    "ratio: money to sell against one of the target that is held, to buy where below 0; sd: of the "
    "ratio. weight: sd of what is held in the leg over that of the target. alone: share of the "
    "variance that the leg would remove by itself."
)
_WORTH = (
    "Shares of the variance removed over all rows that no ratio had seen. heavy: by the legs that hold "
    "at least 2 % of the risk. best_1, best_3: by the best single leg and the best three; lead_1, "
    "lead_3: what all legs removed more than these, and its standard error."
)

SHOWN = 10
"""Legs of a target, or events, that a list shows."""


def universe(
    prices: Annotated[
        Path,
        typer.Argument(
            callback=find_file,
            help="Prices, csv or parquet: date first; or a universe that --save kept.",
        ),
    ],
    target: Annotated[
        str | None, typer.Option(help="Tickers to hedge, separated by commas. Default: all.")
    ] = None,
    hedges: Annotated[
        str | None, typer.Option(help="Tickers that may be legs, likewise. Default: all.")
    ] = None,
    legs: Annotated[
        int | None, typer.Option(help="Most legs of a target, or of the book. Default: no limit.")
    ] = None,
    book: Annotated[
        Path | None,
        typer.Option(
            callback=find_file,
            help="Positions to hedge as one book, csv: ticker, money and, if any, held.",
        ),
    ] = None,
    cost: Annotated[
        float | None, typer.Option(help="Basis points that a trade of the book costs. Default: 1.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(help="Days until the book is traded again. Default: 1.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Last date (or time) of the prices that are used.")
    ] = None,
    date_format: DateFormat = None,
    dayfirst: DayFirst = None,
    repair: Repair = None,
    bar: Annotated[
        str | None, typer.Option(help='Length of a bar within the day ("5min"); daily without it.')
    ] = None,
    calendar: Calendar = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write a page to (HTML), with pictures.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="File to keep it in (.json), for kfmodels live.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Print which legs hedge each asset, how much of each, what they removed, what to leave alone.

    With --book: the one order list that hedges all positions together.
    """
    from kfmodels.files.atomic import check_place
    from kfmodels.universe.saved import is_universe

    if save is not None and save.suffix != ".json":
        raise ValueError(f"--save {save}: its name must end in .json, by which it is known again")
    for file in (out, save):
        if file is not None:
            check_place(file)
    if book is None and not cost is days is None:
        raise ValueError("--cost and --days are of a book: name its positions with --book")
    how = {"--date-format": date_format, "--dayfirst": dayfirst, "--repair": repair or None}
    how |= {"--bar": bar, "--calendar": calendar}
    whose = {"--target": target, "--until": until, "--save": save, "--out": out, **how}
    money = None if book is None else _read_book(book)
    if is_universe(prices):
        made = _load(prices, whose | ({"--hedges": hedges, "--legs": legs} if book is None else {}))
    else:
        asked = target, hedges, legs, until
        made = _make(prices, asked, (date_format, dayfirst, repair), read_clock(bar, calendar))
    order = None
    if money is not None:
        asked = {"cost": cost, "days": days, "legs": legs}
        chosen = None if hedges is None else split_tickers(hedges, made.basket.tickers)
        rules = {name: given for name, given in asked.items() if given is not None}
        order = made.book(money[0], held=money[1], hedges=chosen, **rules)
    if save is not None:
        made.save(save)
    if out is not None:
        _write_page(made, out, order, picture=target is not None)
    if json and order is not None:
        typer.echo(as_json(_record(made, order)))
        return
    if json:
        held = {name: made.legs(name).to_dict("index") for name in made.targets}
        worth = made.worth.add_suffix("_ever")
        rows = {name: dict(row) for name, row in made.table().join(worth).iterrows()}
        typer.echo(as_json({"until": made.span[1], "targets": rows, "legs": held}))
        return
    said = _report(made) if order is None else f"{made!r}\n\n{order}"
    typer.echo(for_the_shell(said))
    for path, what in ((out, "one file, which any browser opens"), (save, f"kfmodels live {save}")):
        if path is not None:
            typer.echo(f"\nSaved to {path}: {what}")


def _make(
    prices: Path,
    asked: tuple[str | None, str | None, int | None, str | None],
    written: tuple[str | None, bool | None, list[str] | None],
    clock: "Clock | None",
) -> "HedgeUniverse":
    """The universe of a file of prices: target, hedges, legs, until; date format, day first, repair.

    Times without a zone are those of the exchange.
    """
    from kfmodels.data.repairs import read_repairs
    from kfmodels.universe.universe import hedge_universe

    (target, hedges, legs, until), (date_format, dayfirst, repair) = asked, written
    table = read_prices(prices, until, date_format=date_format, dayfirst=dayfirst)
    if (
        clock is not None
        and clock.sessions is not None
        and getattr(table.index, "tz", None) is None
    ):
        clock = replace(clock, zone=clock.sessions.zone)
    return hedge_universe(
        table,
        clock=clock,
        targets=None if target is None else split_tickers(target, table.columns),
        hedges=None if hedges is None else split_tickers(hedges, table.columns),
        legs=legs,
        repair=read_repairs(repair or [], table.columns),
    )


def _load(path: Path, given: dict[str, object]) -> "HedgeUniverse":
    """A saved universe, which no option of its making can change any more."""
    from kfmodels.universe.universe import HedgeUniverse

    for option, value in given.items():
        if value is not None:
            raise ValueError(
                f"{option} needs prices, and {path} is a saved universe, which has none: leave it out, "
                "or give the file of prices"
            )
    return HedgeUniverse.load(path)


def _read_book(path: Path) -> tuple["pd.Series", "pd.Series"]:
    """Positions, and what is held in the legs now, by ticker.

    Raises:
        ValueError: it has no ticker, no money or another column, or a cell is no number.
    """
    import pandas as pd

    table, _ = read_csv(path)
    table = table.set_axis([str(name).strip().lower() for name in table], axis=1)
    if list(table)[:2] != ["ticker", "money"] or list(table)[2:] not in ([], ["held"]):
        raise ValueError(
            f"{path} begins with {', '.join(table)}: its first line must be ticker,money or "
            "ticker,money,held"
        )
    found: list[pd.Series] = []
    for name in list(table)[1:]:
        numbers = pd.Series(pd.to_numeric(table[name], errors="coerce"), dtype=float)
        odd = table.loc[numbers.isna() & table[name].notna()]
        for ticker, cell in zip(odd["ticker"], odd[name], strict=True):
            raise ValueError(f"{path}: {name} of {ticker} is {cell!r}, no number: write its money")
        amounts = pd.Series(numbers.to_numpy(), table["ticker"].str.strip())
        found.append(amounts.dropna())
    return found[0], found[1] if len(found) > 1 else pd.Series(dtype=float)


def _record(made: "HedgeUniverse", order: "BookHedge") -> dict[str, Any]:
    """The order list for programs."""
    numbers = ("unhedged", "now", "after", "removed", "cost", "objective", "days")
    return {
        "until": made.span[1],
        "orders": order.orders.to_dict("index"),
        "left": order.left,
        **{name: getattr(order, name) for name in numbers},
    }


def _report(made: "HedgeUniverse") -> str:
    """All targets in a table, or the legs of the few that were asked for."""
    parts = [repr(made), *([_targets(made)] if len(made.targets) > 3 else [])]
    if len(made.targets) <= 3:
        parts += [_legs(made, name) for name in made.targets]
    said = sentences(made)
    return "\n\n".join([*parts, "\n".join(fill(one, 100, subsequent_indent="  ") for one in said)])


def sentences(made: "HedgeUniverse") -> list[str]:
    """What the hedges were worth, and what is not worth trading."""
    import numpy as np

    from kfmodels.universe.history import LIGHT

    worth = made.worth.dropna(subset="removed")
    ready = dict(zip(made.targets, made.basket.ready, strict=True))
    waiting = [name for name in made.targets if not ready[name]]
    said: list[str] = []
    if len(worth):
        mean = worth[["removed", "best_1", "best_3"]].mean()
        whose = worth.index[0] if len(worth) == 1 else f"{len(worth)} targets (the mean)"
        ahead = worth["lead_1"].iloc[0]
        lead = f" ({abs(ahead):.1%} {'more' if ahead < 0 else 'less'}, standard error "
        lead += f"{worth['lead_1_se'].iloc[0]:.1%})"
        said.append(
            f"Over {worth['rows'].max()} rows that no ratio had seen, the hedges removed "
            f"{mean['removed']:.1%} of the variance of {whose}, the best single leg "
            f"{mean['best_1']:.1%}{lead if len(worth) == 1 else ''}, the best three "
            f"{mean['best_3']:.1%}. Rows whose price was held back are left out of all three."
        )
    if made.basket.legs is None and len(worth):
        even = list(worth.loc[worth["lead_3"] < 2 * worth["lead_3_se"]].index)
        if even:
            said.append(
                f"Three legs (--legs 3) did as well, within two standard errors: {', '.join(even)}."
            )
    idle = list(worth.loc[worth["removed"] < FAINT].index)
    if idle:
        said.append(
            f"Not worth hedging here, less than {FAINT:.0%} of the variance was removed: "
            f"{', '.join(idle)}."
        )
    weights = made.weights().abs()
    light, held = (
        int(((weights > 0) & (weights < LIGHT)).to_numpy().sum()),
        (weights > 0).to_numpy(),
    )
    if light and len(worth):
        every, heavy = np.nanmean(made.turnover, axis=1).tolist()
        said.append(
            f"Not worth trading: {light} of the {held.sum()} legs, each of which holds less than "
            f"{LIGHT:.0%} of the risk of its target; without such legs {worth['heavy'].mean():.1%} "
            f"would have been removed, and {heavy:.1f} times the target traded in the last 252 rows "
            f"instead of {every:.1f}."
        )
    said += [
        f"No row of {name} was judged while it had a hedge: nothing says what that removes."
        for name in made.targets
        if ready[name] and name not in worth.index
    ]
    said += [
        f"No hedge yet for {name}: an asset is a target from 60 rows after its first price on, and a "
        "leg from 250."
        for name in waiting
    ]
    return said


def _targets(made: "HedgeUniverse") -> str:
    from kfmodels.cli import facts

    table = made.table().assign(ever=made.worth["removed"])
    columns = {
        "lately": "{removed:.1%}",
        "best leg": "{best_1:.1%}",
        "best 3": "{best_3:.1%}",
        "ever": "{ever:.1%}",
        "memory": "{memory:.0f}",
        "turnover": "{turnover:.0f}",
        "legs": "{legs}",
    }
    note = (
        "share of the variance removed lately (some 100 rows): by all, by the best leg, by the best "
        "three;\never: over all rows that no ratio had seen; memory in rows; turnover: money traded in "
        "252 rows,\nagainst one of the target; legs: money against one of a target that is held"
    )
    return f"{facts.tabulate(table, columns, 'target')}\n{note}"


def _legs(made: "HedgeUniverse", target: str) -> str:
    """The legs of one target, and why they are."""
    from kfmodels.cli import facts

    table = made.legs(target)
    if table.empty:
        return f"{target} has no hedge yet"
    side = ["sell" if ratio > 0 else "buy" for ratio in table["ratio"]]
    shown = table.assign(side=side, size=table["ratio"].abs()).head(SHOWN)
    columns = {
        "": "{side}",
        "money": "{size:.3f}",
        "its sd": "{sd:.2g}",
        "risk": "{weight:.1%}",
        "alone": "{alone:.1%}",
    }
    row = made.table().loc[target]
    judged = row["removed"] == row["removed"]
    lately = (
        f"lately they removed {row['removed']:.1%} of the variance, the best leg {row['best_1']:.1%}, "
        f"the best three {row['best_3']:.1%};\n"
    )
    more = f"\n  and {len(table) - len(shown)} more" if len(table) > len(shown) else ""
    return (
        f"Against one of {target}, held over the next row\n"
        f"{facts.tabulate(shown, columns, 'leg')}{more}\n"
        "risk: sd of what is held over that of the target; alone: what the leg would remove by itself\n"
        f"{lately if judged else ''}memory {row['memory']:.0f} rows; "
        f"{row['turnover']:.0f} times the target was traded in 252 rows"
    )


def _write_page(
    made: "HedgeUniverse", path: Path, order: "BookHedge | None", *, picture: bool
) -> None:
    """One page: what to hold, the map of all legs, a `picture` of each target, what it was worth.

    With an `order` for a book it leads, in whole money: four digits of an order are none.
    """
    from importlib.metadata import version

    from kfmodels.files.atomic import replacing
    from kfmodels.plots.sheet import Part, Section, drawn, render, tabled
    from kfmodels.plots.universe import target_hedge, universe_map
    from kfmodels.universe.book_hedge import number_texts

    held = made.table()
    said = sentences(made)
    decision = [*said, *[f"{name}: {words}." for name, words in held["legs"].items()][:SHOWN]]
    parts: list[Any] = [tabled(held), Part(text=_COLUMNS)]
    if len(made.targets) > 1:
        caption = (
            "Targets in rows, legs in columns, those that move together side by side: the sd of what "
            "is held in a leg over that of the target. Blue is sold against a target that is held."
        )
        parts.append(drawn(universe_map(made), caption))
    worth: list[Any] = [tabled(made.worth), Part(text=_WORTH)]
    sections = [Section("What to hold over the next row", tuple(parts))]
    if order is not None:
        decision = order.why
        worth.insert(0, Part(text=" ".join(said)))
        orders = number_texts(order.orders)
        sections = [
            Section("The hedge of the book", (tabled(orders),)),
            Section("Each asset alone: what to hold over the next row", tuple(parts)),
        ]
    for name in made.targets if picture else ():
        caption = "Every ratio was known before the move it was held over."
        drawing = drawn(target_hedge(made, name), caption, apart=True)
        legs = tabled(made.legs(name)), Part(text=_LEGS), drawing
        sections.append(Section(f"{name}: its legs", legs))
    sections.append(Section("What it was worth, out of sample", tuple(worth)))
    events = made.events()
    if len(events):
        events = events.assign(at=events["at"].astype(str)).tail(SHOWN).set_index("at")
        text = f"{len(made.events())} prices were far from what all others said; the last of them:"
        sections.append(Section("Prices held back", (Part(text=text), tabled(events))))
    whose = f"{', '.join(made.targets[:5])}{' ...' if len(made.targets) > 5 else ''}"
    text = render(
        title=f"{whose if order is None else 'A book'}: hedged within {len(made.hedges)} assets",
        under=f"{made.rows} rows, {made.span[0]} .. {made.span[1]}; log moves, all in one currency",
        doubts=list(made.doubts),
        decision=decision,
        faults=[],
        sections=sections,
        footer=f"kfmodels {version('kfmodels')}",
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
