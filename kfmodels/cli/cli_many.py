"""`kfmodels fit-many` and `kfmodels board`: a universe of pairs from the shell.

One file: two commands that print the same tables.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    from concurrent.futures import Executor

    from kfmodels.batch.board import HedgeBoard

Table = Any
"""A pandas DataFrame, whose types say less than is known of it."""

WIDEST = 10
"""Tickers up to which the board is printed as a matrix: more make lines that no screen holds."""

SHOWN = 10
"""Pairs or hedges that a list shows unless told."""

_FAR, _BY_CHANCE = 2.0, 0.0455
_MOVES = 3.0
"""Nats of evidence beyond which a ratio moves without doubt, as `str(board)` counts it."""


def fit_many(
    prices: Prices,
    store: Annotated[
        Path, typer.Option(help="Folder that keeps what is finished; a later run goes on in it.")
    ],
    target: Annotated[
        str | None, typer.Option(help="Ticker to hedge with each other one. Default: every pair.")
    ] = None,
    until: Until = None,
    transform: Transform = "log",
    discounted: MovingVariance = False,
    chunk_size: Annotated[
        int | None, typer.Option(min=1, help="Pairs that are fitted and kept together.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers fit.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Infer the noise of every pair of a universe; the same command goes on where it was stopped."""
    from kfmodels.batch.fit_many import fit_many as infer
    from kfmodels.batch.status import Status
    from kfmodels.data.hedge_data import HedgeData
    from kfmodels.model.assumptions import Constant, Discounted
    from kfmodels.model.hedge_ratio import hedge_ratio_model

    with plain_errors():
        table: Table = rows_until(read_prices(prices), until)
        if target is None:
            pairs = HedgeData.all_pairs(table, transform=transform)
        else:
            pairs = HedgeData.one_target(table, target, transform=transform)
        typer.echo(f"fitting {pairs!r}", err=True)
        model = hedge_ratio_model(noise=Discounted() if discounted else Constant())
        with _workers(cluster) as executor:
            made = infer(
                pairs, model, chunk_size=chunk_size, seed=seed, executor=executor, store=store
            )
        typer.echo(_universe(made, SHOWN))
        if not (made.status == Status.OK).any():
            raise ValueError("no pair was fitted: the lines above say why")


def board(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What fit-many --store filled.")],
    target: Annotated[str | None, typer.Option(help="Only the hedges of this ticker.")] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help=f"Lines of a list. Default: {SHOWN}; in files, all.")
    ] = None,
    later: Annotated[
        Path | None, typer.Option(help="Later prices: ranks the hedges of the target on them.")
    ] = None,
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option(help="File to write the table to.")] = None,
) -> None:
    """Say what happened to every pair, what to hold, how sure that is and what to do next."""
    from kfmodels.batch.board import HedgeBoard
    from kfmodels.batch.ranking import rank_hedges
    from kfmodels.files.atomic import replacing

    with plain_errors():
        made = HedgeBoard.open(folder)
        if target is None and later is not None:
            raise ValueError("--later ranks the hedges of one ticker: name it with --target")
        table: Table = made.table()
        if target is not None:
            _check_target(made, target)
            table = (
                _hedges(made, target)
                if later is None
                else rank_hedges(made, target, read_prices(later), top=None)
            )
        kept = table if target is None or top is None else table.head(top)
        if csv is not None:
            with replacing(csv) as temporary:
                kept.to_csv(temporary)
        if as_json:
            typer.echo(json.dumps(_as_record(made, kept), allow_nan=False))
            return
        if target is None:
            typer.echo(_universe(made, top or SHOWN))
        elif later is None:
            typer.echo(_one_target(made, target, table, top or SHOWN))
        else:
            typer.echo(_ranked(made, target, table, top or SHOWN))
        if csv is not None:
            typer.echo(f"\nSaved {len(kept)} rows to {csv}")


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


# -- what is printed -------------------------------------------------------------------------------


def _universe(made: "HedgeBoard", top: int) -> str:
    """All pairs: counts, spreads, the matrix or the ends of the list, and what to do next."""
    table: Table = made.table()
    known = table[table["beta"].notna()]
    parts = [str(made)]
    if len(known):
        parts[0] += f"\n{_spreads(made, known)}"
        ratios = made.hedge_ratios()
        if max(ratios.shape) <= WIDEST:
            parts.append(_matrix(made, ratios))
        else:
            parts += _ends(made, known, top)
    parts.append(_next(made, known, None))
    return "\n\n".join(parts)


def _spreads(made: "HedgeBoard", known: Table) -> str:
    """The spreads that ended far from their forecasts."""
    from kfmodels.data.hedge_data import day

    z = known["z"].dropna()
    far = z[z.abs() > _FAR].sort_values(key=abs, ascending=False)
    when = f"{len(far)} of {len(z)} spreads were beyond {_FAR:.0f} sd on {day(made.fit_until)}"
    chance = f"{when} ({_BY_CHANCE * len(z):.0f} by chance)"
    shown = [f"{pair} {one:+.1f}" for pair, one in far.head(5).items()]
    return f"{chance}: {', '.join(shown)}" if shown else chance


def _matrix(made: "HedgeBoard", ratios: Table) -> str:
    sds, statuses = made.matrix("sd"), made.matrix("status")
    rows = []
    for name, row in ratios.iterrows():
        cells = [
            ""
            if beta != beta
            else f"{beta:.3g} ({sds.loc[name, hedge]:.2g}){_mark(statuses.loc[name, hedge])}"
            for hedge, beta in row.items()
        ]
        rows.append([str(name), *cells])
    doubted = any(cell.endswith("?") for row in rows for cell in row[1:])
    return "\n".join(
        [
            f"{_held(made)} (its sd);\ntargets in rows, hedges in columns"
            f"{'; ? where the lines above doubt it' if doubted else ''}",
            *_columns(["", *map(str, ratios.columns)], rows),
        ]
    )


def _mark(status: str) -> str:
    return "" if status == "ok" else "?"


def _ends(made: "HedgeBoard", known: Table, top: int) -> list[str]:
    """The pairs whose ratios are known best and worst, by their sd as a share of the ratio."""
    share = (known["sd"] / known["beta"].abs()).sort_values()
    if len(share) <= 2 * top:
        parts = [("", share.index)]
    else:
        parts = [
            (": the most certain", share.index[:top]),
            (": the least certain", share.index[-top:]),
        ]
    told = []
    for words, names in parts:
        rows = [
            [f"{name}{_mark(row['status'])}", *_cells(row)]
            for name, row in known.loc[names].iterrows()
        ]
        title = f"{_held(made)}{words}"
        told.append("\n".join([title, *_columns(["target/hedge", *_HEAD], rows)]))
    return told


def _one_target(made: "HedgeBoard", target: str, table: Table, top: int) -> str:
    """The hedges of one target by evidence."""
    from kfmodels.data.hedge_data import day

    known = table[table["beta"].notna()]
    lines = [f"{len(known)} of {len(table)} hedges of {target} fitted until {day(made.fit_until)}"]
    doubted = table["reason"][table["status"] != "ok"]
    lines += [f"  {name}: {reason}" for name, reason in doubted.head(top).items()]
    lines += [f"  and {len(doubted) - top} more"] if len(doubted) > top else []
    parts = ["\n".join(lines)]
    if len(known):
        best = known["log_evidence"].max()
        rows = [
            [f"{row['hedge']}{_mark(row['status'])}", *_cells(row), _lag(row, best)]
            for _, row in known.head(top).iterrows()
        ]
        parts.append(
            "\n".join([f"{_held(made)}, by evidence", *_columns(["hedge", *_HEAD, "behind"], rows)])
        )
        note = "behind: nats of evidence behind the hedge that forecast the target best"
        if known["bars"].min() < known["bars"].max():
            note += ";\nevidence compares on the same bars, and some hedges were there on fewer"
        parts[-1] += f"\n{note}"
    parts.append(_next(made, known, target))
    return "\n\n".join(parts)


def _lag(row: Any, best: float) -> str:
    return "best" if row["log_evidence"] == best else f"{best - row['log_evidence']:.1f}"


def _ranked(made: "HedgeBoard", target: str, table: Table, top: int) -> str:
    """The hedges of one target by what they were worth on later dates."""
    from kfmodels.data.hedge_data import day

    best = table.iloc[0]
    head = ["hedge", "log score", "removed", "static", "bars", "ratio now", "sd"]
    rows = [
        [
            str(name),
            f"{row['log_score']:.4f}",
            f"{row['variance_removed']:.1%}",
            f"{row['static_removed']:.1%}",
            f"{row['bars']:.0f}",
            f"{row['beta']:.3g}",
            f"{row['sd']:.2g}",
        ]
        for name, row in table.head(top).iterrows()
    ]
    verdict = (
        f"{table.index[0]} forecast {target} best: it removed {best['variance_removed']:.1%} of the "
        f"variance of one-bar moves, a static ratio {best['static_removed']:.1%}."
    )
    if len(table) > 1:
        lead = best["log_score"] - table["log_score"].iloc[1]
        verdict += (
            f"\n{table.index[1]} is {lead:.4f} nats a bar behind. The best of {len(table)} is "
            "flattered by the choosing:\nbefore it is believed, score it on dates that chose nothing."
        )
    title = (
        f"{len(table)} hedges of {target} on the prices after {day(made.fit_until)}, none of which a "
        "fit has seen"
    )
    note = "log score: nats a bar; removed: share of variance; static: by least squares on changes"
    known = made.table().loc[[f"{target}/{name}" for name in table.index]]
    listed = "\n".join([title, *_columns(head, rows), note])
    return "\n\n".join([listed, verdict, _next(made, known, target)])


def _next(made: "HedgeBoard", known: Table, target: str | None) -> str:
    """The commands that go on from here."""
    folder = quote(str(made.store.path))
    pair = (known if len(known) else made.table()).iloc[0]
    named, other = target or pair["target"], pair["hedge"]
    file = quote(f"{named}-{other}.nc".lower().replace("/", "-"))
    todo = []
    if any(verdict.status.retried for verdict in made.verdicts.values()):
        todo.append(("go on", f"kfmodels fit-many PRICES.csv --store {folder} ..., as before"))
    if len(known):
        opened = f"kfmodels.HedgeBoard.open({str(made.store.path)!r})"
        todo += [
            ("one target", f"kfmodels board {folder} --target {quote(named)} --later LATER.csv"),
            ("one pair", f"in Python: {opened}.sel({pair.name!r}).save({file!r})"),
            ("", f"kfmodels report {file} --out report.html"),
            ("live", f"kfmodels update {file} --prices LATER.csv"),
            ("all live", f"in Python: {opened}.online().update(PRICES_BY_TICKER)"),
        ]
    options = "" if made.pairs.transform == "log" else f" --transform {made.pairs.transform}"
    options += " --discounted" if _discounted(made) else ""
    legs = f"--target {quote(named)} --hedges {quote(other)}"
    todo.append(("refit", f"kfmodels fit PRICES.csv {legs}{options} --out {file}"))
    return "\n".join(["Next", *(f"  {word:11} {command}" for word, command in todo)])


def _discounted(made: "HedgeBoard") -> bool:
    return made.store.job["model"]["noise"].get("kind") == "Discounted"


def _held(made: "HedgeBoard") -> str:
    from kfmodels.data.hedge_data import day

    unit = "shares" if made.pairs.transform == "level" else "money"
    return (
        f"Hedge ratios after the close of {day(made.fit_until)}, {unit} of the hedge per one of the "
        "target"
    )


_HEAD = ["ratio", "sd", "90 % interval", "learnt over", "against static", "z"]


def _cells(row: Any) -> list[str]:
    """One pair under `_HEAD`."""
    memory, against = row["effective_memory"], row["against_static"]
    if against != against:
        verdict = "unknown"
    else:
        word = "moves" if against > _MOVES else "static will do" if against < 0 else "unclear"
        verdict = f"{word} {against:+.1f}"
    bars = "no end" if memory == float("inf") else f"{memory:.0f} bars"
    return [
        f"{row['beta']:.3g}",
        f"{row['sd']:.2g}",
        f"{row['lower']:.3g} .. {row['upper']:.3g}",
        bars,
        verdict,
        f"{row['z']:+.1f}",
    ]


def _columns(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    wide = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        f"  {first:{wide[0]}}" + "".join(f"  {c:>{w}}" for c, w in zip(rest, wide[1:], strict=True))
        for first, *rest in [head, *rows]
    ]


# -- tables ----------------------------------------------------------------------------------------


def _check_target(made: "HedgeBoard", target: str) -> None:
    known = list(dict.fromkeys(name for name, _ in made.pairs.pairs))
    if target not in known:
        close = get_close_matches(target, known, n=3, cutoff=0.5) or known[:8]
        raise ValueError(
            f"{target} is not among the {len(known)} targets of this board; there is "
            f"{', '.join(close)}"
        )


def _hedges(made: "HedgeBoard", target: str) -> Table:
    """The rows of one target, the most evidence first, with the number of bars that both legs have."""
    table: Table = made.table()
    mine = table[table["target"] == target].sort_values("log_evidence", ascending=False)
    there: Any = made.pairs.prices.notna()
    both = [(there[target] & there[hedge]).sum() for hedge in mine["hedge"]]
    mine.insert(2, "bars", both)
    return mine


def _as_record(made: "HedgeBoard", table: Table) -> dict[str, Any]:
    from kfmodels.batch.status import Status

    rows = table.reset_index().to_dict("records")
    return {
        "fit_until": str(made.fit_until),
        "pairs": len(made),
        "fitted": made.status.to_list().count(Status.OK),
        "table": [record({str(name): value for name, value in row.items()}) for row in rows],
    }
