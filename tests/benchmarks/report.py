"""The table on the screen and the same figures as JSON."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from tests.benchmarks.timing import Outcome, Timing

PACKAGES = (
    "kfmodels",
    "jax",
    "jaxlib",
    "numpy",
    "statsmodels",
    "dynamax",
    "pykalman",
    "simdkalman",
    "filterpy",
)


def table(outcomes: Sequence[Outcome]) -> Table:
    """One line per peer; the ratio is the peer's time over the time of our fastest way."""
    drawn = Table(title="kfmodels against its peers, n = 2, float64, CPU; best of several rounds")
    drawn.add_column("what")
    drawn.add_column("size")
    drawn.add_column("ours")
    drawn.add_column("time", justify="right", no_wrap=True)
    drawn.add_column("peer")
    drawn.add_column("time", justify="right")
    drawn.add_column("ratio", justify="right", no_wrap=True, style="bold")
    last = None
    for outcome in outcomes:
        contest = outcome.contest
        if last not in (None, contest.what):
            drawn.add_section()
        last = contest.what
        what = f"{contest.what}, per {contest.per}" if contest.count > 1 else contest.what
        left = what, contest.size, _ways(outcome), _time(outcome.ours[outcome.winner])
        for name, timing in outcome.peers.items():
            if isinstance(timing, Exception):
                drawn.add_row(*left, name, f"[red]{escape(_sentence(timing))}", "")
            else:
                drawn.add_row(*left, name, _time(timing), _ratio(outcome, name))
            left = "", "", "", ""
    return drawn


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything that was measured, and where; times are seconds per `per`."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "results": [_result(outcome) for outcome in outcomes],
    }


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


def _result(outcome: Outcome) -> dict[str, Any]:
    contest = outcome.contest
    return {
        "what": contest.what,
        "size": contest.size,
        "per": contest.per,
        "rtol": contest.rtol,
        "ours": {name: asdict(timing) for name, timing in outcome.ours.items()},
        "best": outcome.winner,
        "peers": {
            name: {"error": _sentence(timing)}
            if isinstance(timing, Exception)
            else {
                **asdict(timing),
                "ratio": outcome.ratio(name),
                "difference": outcome.differences[name],
            }
            for name, timing in outcome.peers.items()
        },
    }


def _ways(outcome: Outcome) -> str:
    """Our fastest way, and in brackets the others with their times."""
    others = [f"{name} {_time(t)}" for name, t in outcome.ours.items() if name != outcome.winner]
    return f"{outcome.winner} ({', '.join(others)})" if others else outcome.winner


def _ratio(outcome: Outcome, peer: str) -> str:
    ratio = outcome.ratio(peer)
    if ratio is None:
        return ""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}"


def _time(timing: Timing) -> str:
    for unit, seconds in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if timing.best >= seconds:
            return f"{timing.best / seconds:.3g} {unit}"
    return f"{timing.best / 1e-9:.3g} ns"


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
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
