"""What a benchmark found: shown on the screen, kept as JSON, and a section of the page."""

import json
import math
import os
import platform
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

PACKAGES = (
    *("kfmodels", "jax", "jaxlib", "numpyro", "numpy", "pandas", "numba", "scikit-learn"),
    *("statsmodels", "dynamax", "pykalman", "filterpy", "wickra", "fast-kalman"),
)


class Table(NamedTuple):
    """Figures under a title; the first column says of what."""

    title: str
    rows: pd.DataFrame


@dataclass(frozen=True)
class Report:
    """What one command measured, in words and tables."""

    title: str
    what: str
    """How it was measured and how it is read, in Markdown."""

    tables: Sequence[Table]
    remarks: Sequence[str] = ()
    quote: str = ""
    """What the README says of it: one figure."""

    failed: str = ""
    """Why the command ends with 1."""

    part: str = ""
    """What it is of the command's, where it is kept beside the whole and not in its place."""

    def document(self, command: str, seconds: float) -> dict[str, Any]:
        """As JSON, with the machine and the versions it was measured on."""
        return {
            "title": self.title,
            "command": command,
            "date": datetime.now(UTC).date().isoformat(),
            "seconds": round(seconds),
            "machine": machine(),
            "versions": {name: number for name, number in versions().items() if number},
            "what": self.what,
            "tables": [
                {"title": title, **json.loads(rows.to_json(None, orient="split", index=False))}
                for title, rows in self.tables
            ],
            "remarks": list(self.remarks),
            "quote": self.quote,
        }


def show(report: Report) -> str:
    """For the screen."""
    tables = [
        f"{title}\n{rows.map(in_words).to_string(index=False, justify='left')}"
        for title, rows in report.tables
    ]
    return "\n\n".join([report.title, *tables, *report.remarks])


def as_markdown(document: Mapping[str, Any]) -> str:
    """A section of the page."""
    parts = [f"## {document['title']}", f"`{document['command']}`", document["what"]]
    for table in document["tables"]:
        head = "| " + " | ".join(map(str, table["columns"])) + " |"
        rule = "|" + "---|" * len(table["columns"])
        lines = ["| " + " | ".join(map(in_words, row)) + " |" for row in table["data"]]
        parts += [f"**{table['title']}**", "\n".join([head, rule, *lines])]
    parts += document["remarks"]
    numbers = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    parts.append(
        f"*Measured on {document['date']} in {document['seconds']} s: "
        f"{document['machine']}; {numbers}.*"
    )
    return "\n\n".join(part for part in parts if part)


def in_words(value: Any) -> str:
    """A number to three digits, a missing one as nothing, text as it is."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return str(value)
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def numbered(frame: pd.DataFrame, first: str) -> pd.DataFrame:
    """Its index as a first column of that name."""
    return frame.rename_axis(first).reset_index()


def machine() -> str:
    return f"{_cpu()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def peak_memory() -> int:
    """Most memory this process has held, in bytes.

    Linux hands `ru_maxrss` of the parent on to a process that it starts; `VmHWM` begins anew.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on a Mac


def versions() -> dict[str, str | None]:
    """Of the packages that a benchmark depends on; None for one that is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for row in info.read_text().splitlines():
            if row.startswith("model name"):
                return row.partition(":")[2].strip()
    return platform.processor() or platform.machine()
