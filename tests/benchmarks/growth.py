"""What grows with what: rows, pairs, hedges, draws and workers, in seconds and in memory.

    python -m tests.benchmarks growth [--pairs 10 100 1000 10000] [--workers 1 2 4]

Every point has a process of its own, so that its peak of memory is its own; what is timed is the second
run in it, which compiles nothing.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import kfmodels as kf
from kfmodels.kalman import likelihood, scan
from kfmodels.kalman.motion import Walk
from kfmodels.kalman.noise import ConstantVariance
from kfmodels.kalman.step import State
from tests.benchmarks import report
from tests.benchmarks.gpu import WHOLE, pairs_of
from tests.benchmarks.report import Report, Table
from tests.benchmarks.timing import run_alone, take_time
from tests.made_filters import made_filter, made_prices

ROWS = (100, 1000, 10_000, 100_000)
HEDGES = (1, 2, 4, 8, 12)
DRAWS = (1, 16, 64, 256, 1024)
LANES, LENGTH = 2048, 1250
"""Of the pass whose cost is told by the number of hedges."""

PAIRS_OF_WORKERS = 256
TICKS = 2000

WHAT = (
    "Each point is the second run of a process of its own, so nothing is compiled in it and its "
    "peak of memory is its own. Rows: one simulated pair by `fit` with `ImportanceSampling`. Pairs: "
    "ordered pairs of S&P stocks on 1,259 days by `fit_many`, evidence, filters and store included. "
    "Hedges: one pass of the likelihood over 2,048 lanes of 1,250 rows. Draws: one tick of "
    "`OnlineFilter`. Workers: 256 of these pairs by `fit_many` on so many Dask processes of one "
    "thread each."
)


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks growth", description=__doc__)
    many = {"type": int, "nargs": "*"}
    parser.add_argument("--rows", default=ROWS, **many)
    parser.add_argument("--pairs", default=(10, 100, 1000, 10_000), **many)
    parser.add_argument("--workers", default=(1, 2, 4), **many)
    options = parser.parse_args(arguments)
    pairs = _table("pairs", time_pairs, options.pairs)
    return Report(
        "What grows with what",
        WHAT,
        [
            Table("rows of one pair", _table("rows", time_rows, options.rows)),
            Table("pairs", pairs),
            Table("hedges", _table("hedges", time_hedges, HEDGES)),
            Table("draws of a live filter", _table("draws", time_draws, DRAWS)),
            Table("Dask processes", _table("processes", time_workers, options.workers)),
        ],
        remarks=_extrapolate(pairs),
        quote=_quote(pairs),
    )


def time_rows(rows: int) -> dict[str, float]:
    prices = kf.datasets.simulate(rows).prices
    data = kf.HedgeData.from_prices(prices, target="Y", hedges=["X1"])
    run = partial(kf.fit, data, method=kf.ImportanceSampling(), progress=False)
    run()
    _, seconds, cores = take_time(run)
    return {"s": seconds, "core s": cores, "peak MiB": report.peak_memory() / 2**20}


def time_pairs(count: int) -> dict[str, float]:
    pairs = pairs_of("stocks", WHOLE, count)
    run = partial(kf.fit_many, progress=False)
    run(pairs_of("stocks", WHOLE, min(count, 128)))  # compiles
    _, seconds, cores = take_time(partial(run, pairs))
    each = {"ms a pair": 1e3 * seconds / count, "core ms a pair": 1e3 * cores / count}
    return {"s": seconds, **each, "peak MiB": report.peak_memory() / 2**20}


def time_hedges(hedges: int) -> dict[str, float]:
    """One pass in nanoseconds a row and lane, on all cores."""
    random, size = np.random.default_rng(0), hedges + 1
    design = np.concatenate([random.normal(size=(LENGTH, hedges, 1)), np.ones((LENGTH, 1, 1))], 1)
    eye = np.eye(size)[..., None]
    q = np.exp(random.normal(-5, 1, LANES))
    with jax.enable_x64(True):
        series = scan.series(design.sum(1) + random.normal(size=(LENGTH, 1)), design)
        start = State(np.zeros((size, LANES)), np.repeat(100 * eye, LANES, -1))
        run = jax.jit(likelihood.log_likelihood)
        model = jax.tree.map(
            jnp.asarray, (series, start, Walk(eye * q), ConstantVariance(np.ones(LANES)))
        )
        jax.block_until_ready(run(*model))
        found = [take_time(lambda: run(*model))[1:] for _ in range(3)]
    seconds, cores = np.median(found, axis=0)
    each = 1e9 / (LENGTH * LANES)
    return {"ns a row and lane": seconds * each, "core ns": cores * each}


def time_draws(draws: int) -> dict[str, float]:
    live, rows = made_filter(draws=draws, at=None), made_prices(TICKS).tolist()
    taken = []
    for number, (y, x) in enumerate(rows):
        begun = time.perf_counter_ns()
        seen = live.update(y=y, x=x, at=number)
        _ = seen.beta, seen.sd_total, seen.z
        taken.append(time.perf_counter_ns() - begun)
    return {"µs a tick, p50": float(np.median(taken)) / 1e3}


def time_workers(workers: int) -> dict[str, float]:
    from distributed import Client, LocalCluster

    pairs = pairs_of("stocks", WHOLE, PAIRS_OF_WORKERS)
    with (
        LocalCluster(workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        run = partial(
            kf.fit_many, pairs, executor=client.get_executor(), chunk_size=32, progress=False
        )
        run()
        _, seconds, _ = take_time(run)
    return {"s": seconds, "pairs a second": PAIRS_OF_WORKERS / seconds}


def _table(name: str, run: Callable[[int], dict[str, float]], points: Any) -> pd.DataFrame:
    return pd.DataFrame([{name: point, **run_alone(_quietly, run, point)} for point in points])


def _quietly(run: Callable[[int], dict[str, float]], point: int) -> dict[str, float]:
    warnings.simplefilter("ignore")  # of prices, which are as they are
    return run(point)


def _quote(pairs: pd.DataFrame) -> str:
    most = pairs.iloc[-1]
    return (
        f"{most['pairs']:,.0f} pairs of stocks, 1,259 days each: {most['s']:.0f} s on this machine, "
        f"{most['core ms a pair']:.0f} core ms a pair, at most {most['peak MiB']:.0f} MiB"
    )


def _extrapolate(pairs: pd.DataFrame) -> list[str]:
    """What a million pairs would take, by the slope between the two largest points."""
    if len(pairs) < 2:
        return []
    cores = pairs["core ms a pair"] * pairs["pairs"] / 1e3
    slope = (cores.iloc[-1] - cores.iloc[-2]) / (pairs["pairs"].iloc[-1] - pairs["pairs"].iloc[-2])
    hours = 1e6 * slope / 3600
    memory = pairs["peak MiB"].iloc[-1] - pairs["peak MiB"].iloc[-2]
    grown = 1024 * memory / (pairs["pairs"].iloc[-1] - pairs["pairs"].iloc[-2])
    return [
        f"By the slope of the last two points, a million such pairs are {hours:.1f} core hours: "
        f"{hours / 16:.2g} hours on one machine of 16 cores, or an hour on {np.ceil(hours / 16):.0f}. "
        f"The memory of the process that collects them grows by {grown:.1f} KiB a pair."
    ]
