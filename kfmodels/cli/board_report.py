"""A board in plain words: what was fitted, what to hold, how sure that is, what to do next."""

import math
from collections.abc import Hashable, Mapping
from difflib import get_close_matches
from shlex import quote
from typing import Any

import pandas as pd

from kfmodels.batch.board import HedgeBoard
from kfmodels.batch.status import Status
from kfmodels.cli import facts
from kfmodels.data.checks import day

WIDEST = 10
"""Tickers up to which the board is printed as a matrix: more make lines that no screen holds."""

FAR, BY_CHANCE = 2.0, 0.0455
"""Sds beyond which a spread is listed, and the share of normal ones that lie there."""

SURE = 0.95
"""Probability from which on a spread is said to come back."""


def universe(made: HedgeBoard, top: int) -> str:
    """All pairs: counts, spreads, the matrix or the ends of the list, and what to do next."""
    table = made.table()
    known = table.dropna(subset="beta")
    parts = [str(made)]
    if len(known):
        parts[0] += f"\n{_spreads(made, known)}{_come_back(known)}"
        ratios = made.hedge_ratios()
        if max(ratios.shape) <= WIDEST:
            parts.append(_matrix(made, ratios))
        else:
            parts += _ends(made, known, top)
    # the examples are of the pair that is known best
    best = known.assign(share=known["sd"] / known["beta"].abs()).sort_values("share")
    return "\n\n".join([*parts, _next(made, best, None)])


def hedges_of(made: HedgeBoard, target: str) -> pd.DataFrame:
    """The rows of one target, the most evidence first, with the number of bars that both legs have.

    Raises:
        ValueError: the board has no such target.
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
    doubted = table.loc[table["status"] != Status.OK, "reason"]
    doubted = pd.concat([known["doubts"], doubted]).loc[lambda said: said != ""]
    lines += [f"  {name}: {sentence}" for name, sentence in doubted.head(top).items()]
    lines += [f"  and {len(doubted) - top} more"] if len(doubted) > top else []
    parts = ["\n".join(lines)]
    if len(known):
        note = "behind: nats of evidence behind the hedge that forecast the target best"
        if len(set(known["bars"])) > 1:
            note += ";\nevidence compares on the same bars, and some hedges were there on fewer"
        behind = known["log_evidence"].max() - known["log_evidence"]
        shown = known.assign(behind=behind).set_index("hedge").head(top)
        listed = _listed(shown, "hedge", {"behind": "{behind:.1f}"})
        parts.append(f"{_held(made)}, by evidence\n{listed}\n{note}")
    return "\n\n".join([*parts, _next(made, known, target)])


def ranked(made: HedgeBoard, target: str, table: pd.DataFrame, top: int) -> str:
    """The hedges of one target on later dates; `table` is that of `rank_hedges`."""
    columns = {
        "log score": "{log_score:.4f}",
        "removed": "{variance_removed:.1%}",
        "static": "{static_removed:.1%}",
        "bars": "{bars:.0f}",
        "ratio now": "{beta:.3g}",
        "sd": "{sd:.2g}",
    }
    listed = facts.tabulate(table.head(top), columns, "hedge")
    title = (
        f"{len(table)} hedges of {target} on the prices after {day(made.fit_until)}, none of which a "
        "fit has seen"
    )
    note = (
        "log score: nats a bar; removed: share of the variance of one-bar moves;\n"
        "static: the same of a static ratio, by least squares on changes"
    )
    known = made.table().loc[[f"{target}/{name}" for name in table.index]]
    parts = [f"{title}\n{listed}\n{note}", best_hedge(target, table)]
    return "\n\n".join([*parts, _next(made, known, target)])


def best_hedge(target: str, ranked: pd.DataFrame) -> str:
    """The verdict of a table of `rank_hedges`."""
    best = ranked.iloc[0]
    said = (
        f"{ranked.index[0]} forecast {target} best: it removed {best.variance_removed:.1%} of the "
        f"variance of one-bar moves, a static ratio {best.static_removed:.1%}."
    )
    if len(ranked) == 1:
        return said
    if best.best_3 == best.best_3:  # no NaN
        said += (
            f"\nIn the same bars the best leg, chosen anew as they went by, would have removed "
            f"{best.best_1:.1%},\nthe best three (mostly {best.best_3_legs}) {best.best_3:.1%}."
        )
    lead = best.log_score - ranked["log_score"].iloc[1]
    return (
        f"{said}\n{ranked.index[1]} is {lead:.4f} nats a bar behind. Being chosen flatters the best of "
        f"{len(ranked)}:\nbefore you believe it, score it on dates that were not used to choose it."
    )


def _spreads(made: HedgeBoard, known: pd.DataFrame) -> str:
    """The spreads that ended far from their forecasts."""
    z = known.dropna(subset="z")["z"]
    far = z.loc[z.abs() > FAR].sort_values(key=abs, ascending=False)
    when = f"{len(far)} of {len(z)} spreads were beyond {FAR:.0f} sd on {day(made.fit_until)}"
    chance = f"{when} ({BY_CHANCE * len(z):.0f} expected by chance)"
    shown = [f"{pair} {one:+.1f}" for pair, one in far.head(5).items()]
    return f"{chance}: {', '.join(shown)}" if shown else chance


def _come_back(known: pd.DataFrame) -> str:
    """The pairs whose spread comes back nearly for sure, where the model has one."""
    if "comes_back" not in known:
        return ""
    there = known.dropna(subset="comes_back")["comes_back"]
    sure = there.loc[there >= SURE].sort_values(key=lambda share: -share)
    names = f": {', '.join(str(name) for name in sure.index[:5])}" if len(sure) else ""
    more = f" and {len(sure) - 5} more" if len(sure) > 5 else ""
    share = f"{100 * SURE:.0f} %"
    head = f"{len(sure)} of {len(there)} spreads come back with a probability of {share} or more"
    return f"\n{head}{names}{more}"


def _matrix(made: HedgeBoard, ratios: pd.DataFrame) -> str:
    known = made.table().dropna(subset="beta").to_dict("records")
    cells = {
        (row["target"], row["hedge"]): f"{row['beta']:.3g} ({row['sd']:.2g}){_mark(row)}"
        for row in known
    }
    rows = [[cells.get((target, hedge), "") for hedge in ratios] for target in ratios.index]
    doubted = any(cell.endswith("?") for cell in cells.values())
    legend = "; ? where the lines above doubt it" if doubted else ""
    head = f"{_held(made)} (its sd);\ntargets in rows, hedges in columns{legend}"
    return f"{head}\n{facts.align(pd.DataFrame(rows, ratios.index, ratios.columns))}"


def _ends(made: HedgeBoard, known: pd.DataFrame, top: int) -> list[str]:
    """The pairs whose ratios are known best and worst, by their sd as a share of the ratio."""
    order = known.assign(share=known["sd"] / known["beta"].abs()).sort_values("share")
    parts = {": the most certain": order.head(top), ": the least certain": order.tail(top)}
    if len(order) <= 2 * top:
        parts = {"": order}
    return [
        f"{_held(made)}{words}\n{_listed(part, 'target/hedge')}" for words, part in parts.items()
    ]


def _listed(part: pd.DataFrame, corner: str, more: dict[str, str] | None = None) -> str:
    """Pairs line by line."""
    shown = part.assign(
        bars=part["effective_memory"].map(
            lambda bars: f"{bars:.0f}" if bars < math.inf else "no end"
        ),
        verdict=part["against_static"].map(facts.motion),
    ).set_axis(
        [f"{row[part.index.name]}{_mark(row)}" for row in part.reset_index().to_dict("records")]
    )
    columns = {
        "ratio": "{beta:.3g}",
        "sd": "{sd:.2g}",
        "90 % interval": facts.INTERVAL,
        "learnt over bars": "{bars}",
        "against static": "{verdict} {against_static:+.1f}",
        "z": "{z:+.1f}",
    }
    if "comes_back" in part:
        columns["spread comes back"] = "{comes_back:.0%}"
    return facts.tabulate(shown, columns | (more or {}), corner)


def _mark(row: Mapping[Hashable, Any]) -> str:
    return "" if row["status"] == Status.OK and not row["doubts"] else "?"


def _held(made: HedgeBoard) -> str:
    until, unit = day(made.fit_until), facts.unit(made.pairs.transform)
    return f"Hedge ratios after the close of {until}, {unit}"


def _next(made: HedgeBoard, known: pd.DataFrame, target: str | None) -> str:
    """The commands that go on from here."""
    path = str(made.store.path)
    pair = (known if len(known) else made.table()).iloc[0]
    named, other = target or pair["target"], pair["hedge"]
    file = f"{named}-{other}.nc".lower().replace("/", "-")
    todo = []
    if any(verdict.status.retried for verdict in made.verdicts.values()):
        again = f"kfmodels fit-many PRICES.csv --store {quote(path)} ..., as before"
        todo.append(("go on", again))
    if len(known):
        opened = f"kfmodels.HedgeBoard.open({path!r})"
        evening, report, day_long = facts.commands(quote(file))
        shown = f"kfmodels board {quote(path)}"
        ranking = f"{shown} --target {quote(named)} --later LATER.csv"
        todo += [
            ("one target", ranking),
            ("one pair", f"{shown} --pair {quote(str(pair.name))} --out {quote(file)}"),
            ("", report),
            ("every day", evening),
            ("live", day_long),
            ("all live", f"in Python: {opened}.online().update(PRICES_BY_TICKER)"),
        ]
    options = "" if made.pairs.transform == "log" else f" --transform {made.pairs.transform}"
    if made.store.job["model"]["noise"].get("kind") == "Constant":
        options += " --constant"
    if made.store.job["model"]["spread"] is not None:
        options += " --spread"
    legs = f"--target {quote(named)} --hedges {quote(other)}"
    todo.append(("refit", f"kfmodels fit PRICES.csv {legs}{options} --out {quote(file)}"))
    return "\n".join(["Next", *(f"  {word:11} {command}" for word, command in todo)])
