"""A board in plain words: what was fitted, what to hold, how sure that is, what to do next."""

import math
from difflib import get_close_matches
from shlex import quote
from typing import Any

import pandas as pd

from kfmodels.batch.board import OK, HedgeBoard
from kfmodels.cli import facts
from kfmodels.data.hedge_data import day

Row = dict[Any, Any]
"""One row of a board's table."""

WIDEST = 10
"""Tickers up to which the board is printed as a matrix: more make lines that no screen holds."""

FAR, BY_CHANCE = 2.0, 0.0455
"""Sds beyond which a spread is told, and the share of normal ones that lie there."""


def universe(made: HedgeBoard, top: int) -> str:
    """All pairs: counts, spreads, the matrix or the ends of the list, and what to do next."""
    table = made.table()
    known = table.dropna(subset="beta")
    parts = [str(made)]
    if len(known):
        parts[0] += f"\n{_spreads(made, known)}"
        ratios = made.hedge_ratios()
        if max(ratios.shape) <= WIDEST:
            parts.append(_matrix(made, ratios))
        else:
            parts += _ends(made, known, top)
    return "\n\n".join([*parts, _next(made, known, None)])


def hedges_of(made: HedgeBoard, target: str) -> pd.DataFrame:
    """The rows of one target, the most evidence first, with the number of bars that both legs have.

    Raises:
        ValueError: it is no target of the board.
    """
    known = list(dict.fromkeys(name for name, _ in made.pairs.pairs))
    if target not in known:
        close = get_close_matches(target, known, n=3, cutoff=0.5) or known[:8]
        raise ValueError(
            f"{target} is not among the {len(known)} targets of this board; there is "
            f"{', '.join(close)}"
        )
    table = made.table()
    mine = table.loc[table["target"] == target].sort_values("log_evidence", ascending=False)
    there = made.pairs.prices.notna()
    mine.insert(2, "bars", [(there[target] & there[hedge]).sum() for hedge in mine["hedge"]])
    return mine


def one_target(made: HedgeBoard, target: str, table: pd.DataFrame, top: int) -> str:
    """The hedges of one target by evidence; `table` is that of `hedges_of`."""
    known = table.dropna(subset="beta")
    lines = [f"{len(known)} of {len(table)} hedges of {target} fitted until {day(made.fit_until)}"]
    doubted = table.loc[table["status"] != OK, "status"]
    lines += [f"  {name}: {sentence}" for name, sentence in doubted.head(top).items()]
    lines += [f"  and {len(doubted) - top} more"] if len(doubted) > top else []
    parts = ["\n".join(lines)]
    if len(known):
        best = known["log_evidence"].max()
        rows = {
            f"{row['hedge']}{_mark(row)}": [*_cells(row), _lag(best - row["log_evidence"])]
            for row in known.head(top).to_dict("records")
        }
        note = "behind: nats of evidence behind the hedge that forecast the target best"
        if len(set(known["bars"])) > 1:
            note += ";\nevidence compares on the same bars, and some hedges were there on fewer"
        listed = facts.table(["hedge", *_HEAD, "behind"], rows)
        parts.append(f"{_held(made)}, by evidence\n{listed}\n{note}")
    return "\n\n".join([*parts, _next(made, known, target)])


def ranked(made: HedgeBoard, target: str, table: pd.DataFrame, top: int) -> str:
    """The hedges of one target on later dates; `table` is that of `rank_hedges`."""
    rows = {
        name: [
            f"{row['log_score']:.4f}",
            f"{row['variance_removed']:.1%}",
            f"{row['static_removed']:.1%}",
            f"{row['bars']:.0f}",
            f"{row['beta']:.3g}",
            f"{row['sd']:.2g}",
        ]
        for name, row in table.head(top).to_dict("index").items()
    }
    head = ["hedge", "log score", "removed", "static", "bars", "ratio now", "sd"]
    title = (
        f"{len(table)} hedges of {target} on the prices after {day(made.fit_until)}, none of which a "
        "fit has seen"
    )
    note = "log score: nats a bar; removed: share of variance; static: by least squares on changes"
    known = made.table().loc[[f"{target}/{name}" for name in table.index]]
    parts = [f"{title}\n{facts.table(head, rows)}\n{note}", facts.best_hedge(target, table)]
    return "\n\n".join([*parts, _next(made, known, target)])


def _spreads(made: HedgeBoard, known: pd.DataFrame) -> str:
    """The spreads that ended far from their forecasts."""
    z = known.dropna(subset="z")["z"]
    far = z.loc[z.abs() > FAR].sort_values(key=abs, ascending=False)
    when = f"{len(far)} of {len(z)} spreads were beyond {FAR:.0f} sd on {day(made.fit_until)}"
    chance = f"{when} ({BY_CHANCE * len(z):.0f} by chance)"
    shown = [f"{pair} {one:+.1f}" for pair, one in far.head(5).items()]
    return f"{chance}: {', '.join(shown)}" if shown else chance


def _matrix(made: HedgeBoard, ratios: pd.DataFrame) -> str:
    known = made.table().dropna(subset="beta").set_index(["target", "hedge"]).to_dict("index")
    cells = {
        legs: f"{row['beta']:.3g} ({row['sd']:.2g}){_mark(row)}" for legs, row in known.items()
    }
    rows = {
        name: [cells.get((name, hedge), "") for hedge in ratios.columns] for name in ratios.index
    }
    doubted = any(cell.endswith("?") for cell in cells.values())
    legend = "; ? where the lines above doubt it" if doubted else ""
    head = f"{_held(made)} (its sd);\ntargets in rows, hedges in columns{legend}"
    return f"{head}\n{facts.table(['', *map(str, ratios.columns)], rows)}"


def _ends(made: HedgeBoard, known: pd.DataFrame, top: int) -> list[str]:
    """The pairs whose ratios are known best and worst, by their sd as a share of the ratio."""
    order = known.assign(share=known["sd"] / known["beta"].abs()).sort_values("share")
    parts = {": the most certain": order.head(top), ": the least certain": order.tail(top)}
    if len(order) <= 2 * top:
        parts = {"": order}
    told = []
    for words, part in parts.items():
        found = part.to_dict("index")
        rows = {f"{name}{_mark(row)}": _cells(row) for name, row in found.items()}
        told.append(f"{_held(made)}{words}\n{facts.table(['target/hedge', *_HEAD], rows)}")
    return told


_HEAD = ["ratio", "sd", "90 % interval", "learnt over", "against static", "z"]


def _cells(row: Row) -> list[str]:
    """One pair under `_HEAD`."""
    memory, against = row["effective_memory"], row["against_static"]
    return [
        f"{row['beta']:.3g}",
        f"{row['sd']:.2g}",
        facts.interval(row["lower"], row["upper"]),
        "no end" if memory == math.inf else f"{memory:.0f} bars",
        facts.motion(against) + ("" if math.isnan(against) else f" {against:+.1f}"),
        f"{row['z']:+.1f}",
    ]


def _mark(row: Row) -> str:
    return "" if row["status"] == OK else "?"


def _lag(nats: float) -> str:
    return f"{nats:.1f}" if nats else "best"


def _held(made: HedgeBoard) -> str:
    until, unit = day(made.fit_until), facts.unit(made.pairs.transform)
    return f"Hedge ratios after the close of {until}, {unit}"


def _next(made: HedgeBoard, known: pd.DataFrame, target: str | None) -> str:
    """The commands that go on from here."""
    path = str(made.store.path)
    pair = (known if len(known) else made.table()).iloc[0]
    named, other = target or pair["target"], pair["hedge"]
    file = quote(f"{named}-{other}.nc".lower().replace("/", "-"))
    todo = []
    if made.status.str.startswith(("not fitted yet", "failed:", "the worker died")).any():
        again = f"kfmodels fit-many PRICES.csv --store {quote(path)} ..., as before"
        todo.append(("go on", again))
    if len(known):
        opened, (update, report) = f"kfmodels.HedgeBoard.open({path!r})", facts.commands(file)
        ranking = f"kfmodels board {quote(path)} --target {quote(named)} --later LATER.csv"
        todo += [
            ("one target", ranking),
            ("one pair", f"in Python: {opened}.sel({pair.name!r}).save({file!r})"),
            ("", report),
            ("live", update),
            ("all live", f"in Python: {opened}.online().update(PRICES_BY_TICKER)"),
        ]
    options = "" if made.pairs.transform == "log" else f" --transform {made.pairs.transform}"
    if made.store.job["model"]["noise"].get("kind") == "Discounted":
        options += " --discounted"
    legs = f"--target {quote(named)} --hedges {quote(other)}"
    todo.append(("refit", f"kfmodels fit PRICES.csv {legs}{options} --out {file}"))
    return "\n".join(["Next", *(f"  {word:11} {command}" for word, command in todo)])
