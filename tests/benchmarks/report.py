"""The table on the screen."""

import os
import platform
import resource
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

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
    ways = ", ".join(f"{name} {_time(timing)}" for name, timing in ours.items())
    for name, timing in outcome.peers.items():
        shown = {"what": what, "size": contest.size, "ours": ways, "peer": name}
        ratio = outcome.ratio(name)
        if isinstance(timing, Exception):
            yield shown | {"time": _sentence(timing), "ratio": ""}
        else:
            yield shown | {"time": _time(timing), "ratio": f"{ratio:.3g}"}
        what = ""


def machine_in_words() -> str:
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{_cpu()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n{packages}"


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
