"""`kfmodels watch`: a running live filter in a terminal, by its journal."""

import math
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from kfmodels.live.spectator import Seen, Spectator

BARS = "▁▂▃▄▅▆▇█"
"""A sparkline, from the lowest to the highest."""

LENGTH = 20
"""Characters of a sparkline."""

COLOURS = {"ok": "green", "watch": "yellow", "broken": "red"}


def watch(
    journal: Annotated[Path, typer.Argument(metavar="JOURNAL", help="Of a live filter.")],
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and stop.")] = False,
    most: Annotated[int, typer.Option(help="Pairs that are shown.", min=1)] = 30,
) -> None:
    """Show a live filter or board that another process runs: ratios, bands, z, alarms, late legs.

    Only the journal is read, and the writer does not notice. What most needs a look stands first.
    Ctrl-C ends it.
    """
    from rich.console import Console
    from rich.live import Live

    from kfmodels.live.spectator import Spectator

    if not every > 0:
        raise ValueError(f"--every is a number of seconds above 0, not {every:g}")
    for engine in ("online.filter", "online.board", "basket.basket"):
        import_module(f"kfmodels.{engine}")  # makes its documents known
    seen, console = Spectator(journal), Console()
    if once:
        console.print(picture(seen, most))
        return
    try:
        with Live(picture(seen, most), console=console, auto_refresh=False, screen=True) as shown:
            while True:
                time.sleep(every)
                seen.look()
                shown.update(picture(seen, most), refresh=True)
    except KeyboardInterrupt as interrupt:
        interrupt.args = ("the watching alone, the filter runs on",)
        raise


def picture(seen: "Spectator", most: int) -> "Group":
    """The table of the pairs, with a line above it and the last alarms below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("target", "hedge"):
        table.add_column(name, no_wrap=True)
    for name in ("ratio", "90 % band", "z"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ratio lately", no_wrap=True)
    table.add_column("condition", no_wrap=True)
    table.add_column("", overflow="fold")
    rows = seen.rows()
    for row in rows[:most]:
        table.add_row(*_cells(row))
    parts: list[RenderableType] = [Text(f"{seen.path}: {seen.sentence}"), table]
    if len(rows) > most:
        parts.append(Text(f"and {len(rows) - most} more, in better order"))
    if seen.alarms:
        parts += [Text("Last alarms", style="bold"), *(Text(f"- {one}") for one in seen.alarms)]
    return Group(*parts)


def _cells(row: "Seen") -> list["RenderableType"]:
    from rich.text import Text

    more = f" +{row.more}" if row.more > 0 else ""
    return [
        Text(row.target),
        Text(f"{row.hedge}{more}"),
        f"{row.ratio:.4g}",
        f"{row.lower:.4g} .. {row.upper:.4g}",
        "" if math.isnan(row.z) else f"{row.z:+.1f}",
        draw_line(row.trail),
        Text(row.condition, style=COLOURS[row.condition]),
        Text(row.note),
    ]


def draw_line(values: Sequence[float]) -> str:
    """Numbers as a sparkline of at most `LENGTH` characters, the last at its end."""
    shown = [value for value in values if value == value][-LENGTH:]
    if not shown:
        return ""
    low, wide = min(shown), max(shown) - min(shown)
    if wide <= 1e-9 * max(map(abs, shown)):
        return BARS[0] * len(shown)
    return "".join(BARS[int((value - low) / wide * (len(BARS) - 1) + 0.5)] for value in shown)
