"""How long a live tick takes, and how long the slowest do: percentiles over many ticks.

    python -m tests.benchmarks latency [--ticks 100000] [--pairs 1000]

Contestants take turns of a thousand ticks, so that what else the machine does falls on all alike.
Ours come on both roads, as NumPy and compiled by numba. The others run one filter of known noise: no
draws, no checks of prices, no forecast that is told. Memory is that of the process after the first turn
and after the last.
"""

import argparse
import gc
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kfmodels.live.feed import LiveFilter
from kfmodels.online import blocks
from kfmodels.online.compiled import find_kernels
from tests.benchmarks.report import Report, Table, numbered
from tests.made_filters import made_board, made_filter

WHAT = (
    "Percentiles over many ticks, in turns of a thousand so that what else the machine does falls "
    "on all alike; two coefficients. `all read` has the hedge ratio, its sd and z worked out, `z "
    "read` what filterpy's predict and update give. `NumPy` is the plain install, `compiled` has "
    "`kfmodels[fast]`. wickra (Rust) and fast-kalman (C++) are compiled filters of one fixed noise; "
    "none of the peers has draws, checks of prices or a forecast that is told."
)

Tick = Callable[[int], Any]
TURN = 1000


def _rows(count: int) -> list[list[float]]:
    """Prices of a hedge that comes back and of a target that is as noisy as `made_filter` has it.

    So the filter's monitor is as quiet as that of a pair that was fitted.
    """
    random = np.random.default_rng(3)
    away = np.cumsum(0.002 * random.normal(size=-(-count // 2)))
    hedge = np.concatenate([away, away[::-1]])[:count]
    target = hedge + 0.006 * random.normal(size=count)
    return (np.array([90.0, 500.0]) * np.exp(np.column_stack([target, hedge]))).tolist()


def _filter(draws: int, rows: list[list[float]], *, read: bool = True, **options: Any) -> Tick:
    live = made_filter(draws=draws, at=None, **options)

    def tick(number: int) -> Any:
        y, x = rows[number % len(rows)]
        seen = live.update(y=y, x=x, at=number)
        return (seen.beta, seen.sd_total, seen.z) if read else seen.z

    return tick


def _live(draws: int, rows: list[list[float]], **options: Any) -> Tick:
    live = LiveFilter(made_filter(draws=draws, at=None), **options)

    def tick(number: int) -> Any:
        y, x = rows[number % len(rows)]
        return live.tick({"XLE": y, "SPY": x}, at=number).record()

    return tick


def _board(pairs: int, rows: list[list[float]], discounted: bool) -> Tick:
    board = made_board(
        tuple((f"T{number}", "SPY") for number in range(pairs)),
        draws=64,
        discounted=discounted,
        at=None,
    )

    def tick(number: int) -> Any:
        y, x = rows[number % len(rows)]
        prices = dict.fromkeys(board.targets, y) | {"SPY": x}
        return board.update(prices, at=number)

    return tick


def _filterpy(rows: list[list[float]]) -> Tick:
    from filterpy.kalman import KalmanFilter

    model = KalmanFilter(dim_x=2, dim_z=1)
    model.F, model.Q, model.R = np.eye(2), np.eye(2) * 1e-5, np.array([[1e-3]])

    def tick(number: int) -> Any:
        y, x = rows[number % len(rows)]
        model.H = np.array([[x, 1.0]])
        model.predict()
        model.update(y)
        return model.x

    return tick


def _pykalman(rows: list[list[float]]) -> Tick:
    from pykalman import KalmanFilter

    model = KalmanFilter(
        transition_matrices=np.eye(2),
        transition_covariance=np.eye(2) * 1e-5,
        observation_covariance=np.array([[1e-3]]),
        n_dim_obs=1,
    )
    state = [np.zeros(2), np.eye(2)]

    def tick(number: int) -> Any:
        y, x = rows[number % len(rows)]
        seen = np.array([y])
        state[:] = model.filter_update(*state, seen, observation_matrix=np.array([[x, 1.0]]))
        return state

    return tick


def _wickra(rows: list[list[float]]) -> Tick:
    from wickra import KalmanHedgeRatio

    model = KalmanHedgeRatio(1e-5, 1e-3)

    def tick(number: int) -> Any:
        y, x = rows[number % len(rows)]
        return model.update(y, x)

    return tick


def _fast_kalman(rows: list[list[float]]) -> Tick:
    import kalman

    model: Any = kalman.LinearKalmanFilter(2, 1)
    model.x, model.P, model.F = [0.0, 0.0], [1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0]
    model.Q, model.R = [1e-5, 0.0, 0.0, 1e-5], [1e-3]

    def tick(number: int) -> Any:
        y, x = rows[number % len(rows)]
        model.H = [x, 1.0]
        model.update([y])  # predicts first
        return model.x

    return tick


@contextmanager
def _on(kernels: Any) -> Iterator[None]:
    """Filters that are made meanwhile take the compiled road, or NumPy's where that is None."""
    before, blocks.find_kernels = blocks.find_kernels, lambda: kernels
    try:
        yield
    finally:
        blocks.find_kernels = before


def _peers(rows: list[list[float]]) -> Iterator[tuple[str, Tick, float]]:
    made = {
        "wickra update": (_wickra, 1.0),
        "fast-kalman update": (_fast_kalman, 1.0),
        "filterpy predict + update": (_filterpy, 1.0),
        "pykalman filter_update": (_pykalman, 0.1),
    }
    for name, (make, share) in made.items():
        try:
            yield name, make(rows), share
        except ImportError as error:
            print(f"{name}: {error}")


def _ours(folder: Path, rows: list[list[float]], pairs: int) -> Iterator[tuple[str, Tick, float]]:
    for draws in (1, 64):
        yield f"OnlineFilter, {draws} draws, z read", _filter(draws, rows, read=False), 1.0
        yield f"OnlineFilter, {draws} draws, all read", _filter(draws, rows), 1.0
    discounted = _filter(64, rows, read=False, discounted=True)
    yield "OnlineFilter, 64 draws, discounted, z read", discounted, 1.0
    yield "LiveFilter, 64 draws, whole record", _live(64, rows), 1.0
    fast = {"journal": folder / "fast"}
    yield "with journal, safe from kill", _live(64, rows, **fast), 0.2
    yield (
        "with journal, safe from power cut",
        _live(64, rows, journal=folder / "sure", survives="power-cut"),
        0.02,
    )
    for discounted in (False, True):
        name = f"OnlineBoard, {pairs} x 64{', discounted' if discounted else ''}"
        yield name, _board(pairs, rows, discounted), 0.02


def contestants(folder: Path, pairs: int) -> Iterator[tuple[str, Tick, float]]:
    """Name, one tick, and the share of the ticks that it takes part in."""
    rows = _rows(5000)
    yield from _peers(rows)
    for road, kernels in (("NumPy", None), ("compiled", find_kernels())):
        if road == "compiled" and kernels is None:
            print("compiled: numba is not installed")
            continue
        (folder / road).mkdir()
        with _on(kernels):
            for name, tick, share in _ours(folder / road, rows, pairs):
                yield f"{name}, {road}", tick, share


def percentiles(ticks: int, pairs: int) -> pd.DataFrame:
    """Percentiles in microseconds, one row a contestant."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            (name, tick, max(TURN, int(ticks * share)), [])
            for name, tick, share in contestants(Path(folder), pairs)
        ]
        gc.collect()
        for turn in range(0, ticks, TURN):
            for _, tick, wanted, found in runs:
                if turn < wanted:
                    for number in range(turn, turn + TURN):
                        begun = time.perf_counter_ns()
                        tick(number)
                        found.append(time.perf_counter_ns() - begun)
    table = {
        name: [len(found), *(np.quantile(found, [0.5, 0.99, 0.999]) / 1e3)]
        for name, _, _, found in runs
    }
    return pd.DataFrame.from_dict(table, orient="index", columns=["ticks", "p50", "p99", "p99.9"])


def growth(ticks: int) -> tuple[float, float]:
    """MiB of the process after the first twentieth of the ticks of a live filter, and after all."""
    tick, sizes = _live(64, _rows(5000)), []
    for number in range(ticks):
        tick(number)
        if number in (ticks // 20, ticks - 1):
            sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return sizes[0], sizes[1]


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks latency")
    parser.add_argument("--ticks", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--memory", type=int, default=1_000_000, help="ticks of the memory test")
    options = parser.parse_args(arguments)
    begun = time.perf_counter()
    find_kernels()
    remarks = [
        f"Start of the compiled road, `import numba` included: {time.perf_counter() - begun:.1f} s "
        "(about ten more the first time, when it is compiled)."
    ]
    table = percentiles(options.ticks, options.pairs)
    if options.memory:
        first, last = growth(options.memory)
        remarks.append(
            f"Memory over {options.memory:,} ticks of a live filter: {first:.0f} MiB after a "
            f"twentieth of them, {last:.0f} MiB at the end."
        )
    return Report(
        "One live tick",
        WHAT,
        [Table("microseconds a tick", numbered(table, "tick"))],
        remarks=remarks,
        quote=_quote(table["p50"].to_dict()),
    )


def _quote(middle: dict[str, float]) -> str:
    ours, theirs = (
        middle.get(name)
        for name in ("OnlineFilter, 64 draws, z read, compiled", "filterpy predict + update")
    )
    if ours is None or theirs is None:
        return ""
    return (
        f"a tick of 64 draws with `kfmodels[fast]`: {ours:.2g} µs; filterpy's one filter of known "
        f"noise takes {theirs / ours:.2g} times as long"
    )
