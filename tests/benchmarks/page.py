"""The page of benchmarks in the documentation, and what the README and the page of the day quote of it.

All are made of the JSON that `--keep` writes beside the page, one file a command or a part of one, and
of nothing else.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import open_table
from tests.benchmarks.report import as_markdown

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "notebooks" / "docs" / "benchmarks"
PAGE = ROOT / "notebooks" / "docs" / "benchmarks.md"
README = ROOT / "README.md"
DAY = ROOT / "notebooks" / "docs" / "trading_day.md"
OPEN = ("days", "jumps", "blocks")
"""Parts of `opening` that the page of the day quotes."""

INTRODUCTION = """# What the settings are worth, and how fast it is

Every figure on this page was written by the command above it (with `--keep`, which writes the \
page). Peers come with the group `bench`: `uv run --group bench python -m tests.benchmarks` runs \
all that take minutes, one after the other, and `python -m tests.benchmarks NAME` runs one."""

QUOTES = re.compile(r"(?<=<!-- benchmarks -->\n).*?(?=<!-- /benchmarks -->)", re.DOTALL)


def keep(name: str, document: dict[str, Any]) -> Path:
    """Write what was measured, and then page and README from all that is kept."""
    KEPT.mkdir(exist_ok=True)
    path = KEPT / f"{name}.json"
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(make_page())
    README.write_text(quoted(README.read_text()))
    if name.startswith("opening_"):
        DAY.write_text(with_open(DAY.read_text()))
    return path


def make_page() -> str:
    """The whole page."""
    return "\n\n".join([INTRODUCTION, *map(as_markdown, documents())]) + "\n"


def quoted(readme: str) -> str:
    """The README with the figures as they are kept now."""
    lines = [f"- {kept['quote']}" for kept in documents() if kept["quote"]]
    return QUOTES.sub(lambda _: "\n".join(lines) + "\n", readme)


def with_open(page: str) -> str:
    """The page of the day with the table of the open as it is kept now."""
    kept = {part: json.loads((KEPT / f"opening_{part}.json").read_text()) for part in OPEN}
    return open_table.BETWEEN.sub(lambda _: open_table.table_of(kept), page)


def documents() -> Sequence[dict[str, Any]]:
    """What is kept, in the order in which the commands are listed; parts follow the whole."""
    from tests.benchmarks.__main__ import COMMANDS

    paths = [
        path
        for name in COMMANDS
        for like in (f"{name}.json", f"{name}_*.json")
        for path in sorted(KEPT.glob(like))
    ]
    return [json.loads(path.read_text()) for path in paths]
