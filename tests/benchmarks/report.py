"""The table on the screen and the same figures as JSON."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from tests.benchmarks.timing import Outcome

PACKAGES = ("kfmodels", "jax", "jaxlib", "numpy", "statsmodels", "dynamax", "pykalman", "filterpy")


def table(outcomes: Sequence[Outcome]) -> str:
    """One line per peer; the ratio is the peer's time over the time of our fastest way."""
    lines = pd.DataFrame([shown for outcome in outcomes for shown in _lines(outcome)])
    title = "kfmodels against its peers, n = 2, float64, CPU; best of several rounds"
    return f"{title}\n{lines.to_string(index=False, justify='left')}"


def _lines(outcome: Outcome) -> Iterator[dict[str, str]]:
    contest, ours = outcome.contest, outcome.ours
    what = f"{contest.what}, per {contest.per}" if contest.count > 1 else contest.what
    ways = ", ".join(f"{name} {_time(timing.best)}" for name, timing in ours.items())
    for name, timing in outcome.peers.items():
        shown = {"what": what, "size": contest.size, "ours": ways, "peer": name}
        ratio = outcome.ratio(name)
        if isinstance(timing, Exception):
            yield shown | {"time": _sentence(timing), "ratio": ""}
        else:
            yield shown | {"time": _time(timing.best), "ratio": f"{ratio:.3g}"}
        what = ""


def line(outcome: Outcome) -> dict[str, Any]:
    """Everything that was measured in one contest; times are seconds per `per`."""
    contest, peers = outcome.contest, {}
    for name, timing in outcome.peers.items():
        if isinstance(timing, Exception):
            peers[name] = {"error": _sentence(timing)}
        else:
            about = {"ratio": outcome.ratio(name), "difference": outcome.differences[name]}
            peers[name] = asdict(timing) | about
    return {
        "what": contest.what,
        "size": contest.size,
        "per": contest.per,
        "rtol": contest.rtol,
        "ours": {name: asdict(timing) for name, timing in outcome.ours.items()},
        "best": outcome.winner,
        "peers": peers,
    }


def write(path: Path, results: list[dict[str, Any]], **more: Any) -> None:
    """The figures as JSON, with the machine and the versions they were measured on."""
    about = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    content = about | {"versions": versions()} | more | {"results": results}
    path.write_text(json.dumps(content, indent=2) + "\n")


def versions() -> dict[str, str | None]:
    return {name: _version(name) for name in PACKAGES}


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def machine_in_words() -> str:
    here = machine()
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{here['cpu']}, {here['cores']} cores, load {here['load'] or 0:.1f}\n{packages}"


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _sentence(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


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
