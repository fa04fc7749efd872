"""What a CUDA device is worth: one pass of the filter, and `fit_many`, beside the CPU of its machine.

    python -m tests.benchmarks gpu [--out gpu.json] [--small]

Takes up to four minutes. Every part has a process of its own, so that its compilation and its peak of
memory are its own. `--small` needs no device: it runs every part on a few pairs wherever JAX computes,
the kernel in the interpreter of Pallas where that is a CPU; its seconds say nothing.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

import kfmodels as kf
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.kalman import kernel, scan
from kfmodels.kalman.likelihood import UNROLLED, by_scan
from kfmodels.kalman.motion import Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance
from kfmodels.kalman.step import State
from tests.benchmarks import report
from tests.benchmarks.report import Report, Table
from tests.benchmarks.timing import run_alone, take_time
from tests.tables import read_table

FEWEST = 3
"""Times a pass is run, at least; its median counts."""

LONGEST_TRACED = 60.0
"""A fit that takes longer, in seconds, is not run once more under the profiler."""


TITLE = "On a GPU"

WHAT = (
    "One pass of the filter over many pairs and draws, by the plain scan and by the kernel, and "
    "`fit_many`, beside the CPU of the same machine."
)

FITS = "fit_many, every ordered pair; device: busy; cores: CPU seconds of the host"


class Sizes(NamedTuple):
    """How much of everything."""

    lanes: tuple[int, int, int]
    """Pairs, draws and rows of the pass."""

    etfs: int
    stocks: int
    """Tickers, every ordered pair of which is fitted."""

    chunk: int
    """Pairs of one chunk, which are fitted apart to see how memory grows."""

    rows: int | None
    """Last rows of the prices; None for all."""


WHOLE = Sizes(lanes=(506, 128, 2141), etfs=23, stocks=101, chunk=2048, rows=None)
SMALL = Sizes(lanes=(3, 20, 40), etfs=3, stocks=3, chunk=4, rows=120)


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="where the figures go")
    parser.add_argument("--small", action="store_true", help="a few pairs, on any machine")
    options = parser.parse_args(arguments)
    begun = time.perf_counter()
    device = run_alone(describe_device)
    if device["platform"] != "gpu" and not options.small:
        none = f"JAX sees no GPU here, only {device['kind']}, so nothing was measured."
        return Report(TITLE, WHAT, [], failed=none)
    sizes = SMALL if options.small else WHOLE
    found: dict[str, Any] = {
        "device": device,
        "machine": report.machine(),
        "versions": report.versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "sizes": sizes._asdict(),
        "passes": [],
        "fits": [],
        "agreement": {},
        "failed": [],
    }

    def keep(what: str, part: Callable[..., Any], *arguments: Any) -> Any:
        """Run a part; what there is so far goes to the file, whatever becomes of the next one."""
        try:
            made = run_alone(part, *arguments)
        except Exception as error:  # a part that dies must not cost what the others measured
            found["failed"].append(f"{what}: {type(error).__name__}: {error}")
            made = None
        if part is time_passes:
            found["passes"] = made or []
        elif made is not None:
            found["fits"].append(made[0])
        found["seconds"] = time.perf_counter() - begun
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(f"after {found['seconds']:.0f} s: {what}", file=sys.stderr, flush=True)
        return made

    keep("one pass", time_passes, sizes.lanes)
    mine = keep("pairs of ETFs", time_fits, "etfs", sizes)
    keep("one chunk of pairs of stocks", time_fits, "stocks", sizes, sizes.chunk, False)
    keep("pairs of stocks", time_fits, "stocks", sizes)
    with _on_the_cpu():
        theirs = keep("pairs of ETFs on the CPU", time_fits, "etfs", sizes, None, False)
    if mine and theirs:
        found["agreement"] = compare(mine[1], theirs[1])
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return in_tables(found, options.out)


def describe_device() -> dict[str, Any]:
    """Where JAX computes."""
    device = jax.devices()[0]
    return {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()}


# -- the pass --------------------------------------------------------------------------------------


def time_passes(lanes: tuple[int, int, int]) -> list[dict[str, Any]]:
    """The log likelihood of every draw of every pair, by the kernel and by the scan."""
    away = jax.default_backend() != "gpu"
    ways = {
        "scan": by_scan,
        "kernel": partial(kernel.log_likelihood, interpret=away),
        f"scan, {UNROLLED} rows a turn": partial(by_scan, unroll=UNROLLED),
    }
    lines = []
    with jax.enable_x64(True):
        for noise in ("constant", "discounted"):
            model = jax.device_put(made_model(lanes, noise))
            exact = None
            for way, run in ways.items():
                begun = time.perf_counter()
                compiled = jax.jit(run).lower(*model).compile()
                compilation = time.perf_counter() - begun
                found = np.asarray(compiled(*model))
                exact = found if exact is None else exact
                seconds = _median_seconds(partial(compiled, *model))
                line = {"noise": noise, "way": way, "ms": 1e3 * seconds}
                line["ns a row and lane"] = 1e9 * seconds / np.prod(lanes)
                line["compilation, s"] = compilation
                line["off the scan"] = float(np.abs(found / exact - 1).max())
                lines.append(line)
    return lines


def made_model(lanes: tuple[int, int, int], noise: str) -> tuple[Any, ...]:
    """A ratio and an intercept that walk, `(pair, draw)` of them; draws differ in noise alone."""
    pairs, draws, rows = lanes
    random = np.random.default_rng(0)
    x = random.normal(0, 0.01, (rows, pairs, 1)).cumsum(0)
    design = np.stack([x, np.ones_like(x)], 1)
    y = x + random.normal(0, 0.004, x.shape)
    q = np.exp(random.normal([[[-6.0]], [[-4.0]]], 1, (2, pairs, draws)))
    var = 0.004**2 * np.exp(random.normal(0, 0.5, (pairs, draws)))
    eye = np.eye(2)[:, :, None, None]
    learnt = DiscountedVariance(var, np.full((1, 1), 5.0), random.uniform(0.9, 1, (pairs, draws)))
    return (
        scan.series(y, design),
        State(np.zeros((2, pairs, 1)), eye / var),
        Walk(eye * q),
        ConstantVariance(var) if noise == "constant" else learnt,
    )


def _median_seconds(run: Callable[[], Any]) -> float:
    seconds: list[float] = []
    while len(seconds) < FEWEST or sum(seconds) < 0.5:
        begun = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds))


# -- the fits --------------------------------------------------------------------------------------


def time_fits(
    universe: str, sizes: Sizes, count: int | None = None, again: bool = True
) -> tuple[dict[str, Any], pd.DataFrame]:
    """`fit_many` in this new process, once more compiled, and once under the profiler; its table."""
    warnings.simplefilter("ignore")  # of prices, which are as they are
    pairs = pairs_of(universe, sizes, count)
    run = partial(kf.fit_many, pairs, progress=False)
    line: dict[str, Any] = {"universe": universe, "on": jax.default_backend(), "pairs": len(pairs)}
    line["rows"] = len(pairs.index)
    board, line["with compilation, s"], _ = take_time(run)
    if again:
        board, line["again, s"], line["cores, s"] = take_time(run)
        if line["again, s"] < LONGEST_TRACED and jax.default_backend() == "gpu":
            with suppress(Exception):  # a profiler that may not look costs this figure alone
                line["device, s"] = _device_seconds(run)
    table = board.table()
    line["refitted"] = int(table["refitted"].sum())
    line["not ok"] = int((table["status"] != "ok").sum())
    if (memory := jax.devices()[0].memory_stats()) is not None:
        line["device, MiB"] = memory["peak_bytes_in_use"] / 2**20
    line["host, MiB"] = report.peak_memory() / 2**20
    return line, table[["beta", "sd", "status"]]


def pairs_of(universe: str, sizes: Sizes, count: int | None) -> HedgePairs:
    """The first `count` ordered pairs of the first tickers."""
    if universe == "etfs":
        prices = kf.datasets.etfs().iloc[:, : sizes.etfs]
    else:
        prices = read_table("sp500_all_stocks_5yr_close.csv.gz").dropna(axis=1)
        prices = prices.iloc[:, : sizes.stocks]
    if sizes.rows is not None:
        prices = prices.iloc[-sizes.rows :]
    return kf.HedgeData.pairs(prices, list(permutations(prices.columns, 2))[:count])


def _device_seconds(run: Callable[[], Any]) -> float:
    """Seconds in which the device computed or copied."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (file,) = Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(file)).planes
        spans = [
            (event.start_ns, event.start_ns + event.duration_ns)
            for plane in planes
            if plane.name.startswith("/device:GPU")
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        ]
    return covered(spans) / 1e9


def covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of some spans."""
    if not spans:
        return 0.0
    starts, ends = np.array(sorted(spans)).T
    ends = np.maximum.accumulate(ends)
    idle = np.maximum(starts[1:] - ends[:-1], 0).sum()
    return float(ends[-1] - starts[0] - idle)


def compare(table: pd.DataFrame, reference: pd.DataFrame) -> dict[str, float]:
    """How far the ratios of two boards are apart, in the sds of the second, and their sds."""
    both = (table["status"] == "ok") & (reference["status"] == "ok")
    mine, theirs = table[both], reference[both]
    beta = (mine["beta"] - theirs["beta"]).abs() / theirs["sd"]
    sd = (mine["sd"] / theirs["sd"] - 1).abs()
    found = {
        "pairs": int(both.sum()),
        "other status": int((table.status != reference.status).sum()),
    }
    for name, off in (("beta", beta), ("sd", sd)):
        found |= {f"{name}, largest": off.max(), f"{name}, median": off.median()}
    return {name: float(value) for name, value in found.items()}


# -- processes and words ---------------------------------------------------------------------------


@contextmanager
def _on_the_cpu() -> Iterator[None]:
    """New processes see no GPU."""
    before = os.environ.get("JAX_PLATFORMS")
    os.environ["JAX_PLATFORMS"] = "cpu"
    try:
        yield
    finally:
        del os.environ["JAX_PLATFORMS"]
        if before is not None:
            os.environ["JAX_PLATFORMS"] = before


def in_tables(found: dict[str, Any], out: Path) -> Report:
    """The same for a reader."""
    pairs, draws, rows = found["sizes"]["lanes"]
    apart = ", ".join(f"{name} {value:.2g}" for name, value in found["agreement"].items())
    each = f"One pass of {pairs} pairs x {draws} draws x {rows} rows, double precision"
    return Report(
        f"{TITLE}: {found['device']['kind']}",
        WHAT,
        [Table(each, pd.DataFrame(found["passes"])), Table(FITS, pd.DataFrame(found["fits"]))],
        [f"How far from the CPU, in sds: {apart}.", f"All of it is in {out}."],
        failed="\n".join(found["failed"]),
    )
