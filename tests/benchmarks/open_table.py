"""The table of the open in the documentation, from what `opening` has kept of its parts."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

BETWEEN = re.compile(r"(?<=<!-- opening -->\n).*?(?=<!-- /opening -->)", re.DOTALL)

HEAD = """\
| | first half hour | rest of the day | over the night | 90 % band holds |
|---|---|---|---|---|
"""

MODEL, EWMA, PLAIN = "default model", "EWMA, half-life 5 days", "log prices, no profile"
BARS = {"A": "five-minute bars", "B": "one-minute bars"}


def table_of(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """In Markdown, from the documents of the parts by name: "days", "jumps" and "blocks"."""
    rows = "\n".join(
        "| " + " | ".join(row) + " |" for part in _ROWS for row in _ROWS[part](tables(kept[part]))
    )
    return f"{HEAD}{rows}\n"


def tables(document: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """The tables of a document by title, indexed by their first column."""
    each = document["tables"]
    made = (pd.DataFrame(one["data"], columns=one["columns"]) for one in each)
    return {one["title"]: t.set_index(t.columns[0]) for one, t in zip(each, made, strict=True)}


def _days(found: Mapping[str, pd.DataFrame]) -> Iterator[list[str]]:
    for title, table in found.items():
        whole, _, part = title.partition(": ")
        name = whole[4]
        if part == "bands and scores":
            continue
        if part:
            yield [f"{BARS[name]}, the {part}", *_leads(table.loc[MODEL]), ""]
            continue
        bands = found[f"{whole}: bands and scores"]
        size = whole.removeprefix(f"set {name}, ")
        for method in (MODEL, EWMA, PLAIN):
            say = f"{BARS[name]}, {size}" if method == MODEL else f"the same by {method}"
            held = _held(bands.loc[method]) if method in bands.index else ""
            yield [say, *_leads(table.loc[method]), held]


def _jumps(found: Mapping[str, pd.DataFrame]) -> Iterator[list[str]]:
    for title, table in found.items():
        whole, _, days = title.partition(": ")
        if whole.startswith("set B"):  # three such days a pair say nothing
            continue
        what = whole.partition(" pairs, ")[2]
        yield [f"{BARS[whole[4]]}, {what}: {days}", *_leads(table.loc[MODEL]), ""]


def _blocks(found: Mapping[str, pd.DataFrame]) -> Iterator[list[str]]:
    for title, table in found.items():
        if title.endswith("week by week"):
            continue
        weeks = title.partition(", ")[2].partition(":")[0]
        each = [
            f"{_signed(row['mean'], row['se'])}, worst {row['worst']:+.1f}"
            for _, row in table.iterrows()
        ]
        yield [f"{BARS[title[4]]}, two days for training, three judged; {weeks}", *each, "", ""]


_ROWS = {"days": _days, "jumps": _jumps, "blocks": _blocks}


def _leads(row: pd.Series) -> list[str]:
    return [_signed(row[part], row[f"{part} se"]) for part in ("open30", "rest", "night")]


def _signed(lead: float, error: float) -> str:
    return f"{lead:+.2f} ({error:.2f})"


def _held(row: pd.Series) -> str:
    return f"{row['covered open']:.0%} / {row['covered rest']:.0%}".replace("%", " %")
