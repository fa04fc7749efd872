"""The whole job: what noise a universe of pairs has, found by us and as others would find it.

`uv run --group bench python -m tests.benchmarks batch [--pairs N] [--days T]`

Seconds per pair, and how far the answers lie from a grid over the posterior. A method that takes
minutes does the first few pairs only; the table says how many.
"""

import argparse
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from numpyro.infer.util import potential_energy

import kfmodels as kf
from kfmodels.batch.chunk import pair_key
from kfmodels.batch.fit_many import CHUNK_ON_CPU
from kfmodels.data.arrays import Inputs
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.sampling import posterior, ridge
from kfmodels.sampling.importance import explore, layout_of
from tests.benchmarks import peers, report
from tests.benchmarks.report import Report, Table
from tests.benchmarks.timing import run_alone, take_time
from tests.sampling.test_importance import inputs_of, moments_on_a_grid, weighted_moments

MODEL = kf.hedge_ratio_model(noise=kf.Constant())

OURS = "kfmodels.fit_many"

NUTS_LOOP = "NUTS in a loop, 4 chains"

NOISE = ["delta_beta", "delta_alpha", "obs_scale"]
"""The order in which every method here has log q of both coefficients and log obs_scale."""

FINE, FINEST = 24, 32
"""Points along an axis of the grid."""

WARMUP, DRAWS = 500, 500
"""Of the one chain that vmapped NUTS runs on each pair."""

STEPS, RATE = 100, 0.1
"""Of Adam on dynamax's likelihood."""


@dataclass(frozen=True)
class Way:
    """One method: what it took on how many pairs, and what it says of the noise `(pair, 3)`."""

    name: str
    pairs: int
    seconds: float
    core_seconds: float
    mean: np.ndarray | None = None
    sd: np.ndarray | None = None


class Problem(NamedTuple):
    """The pairs that are looked at closely: their arrays, and prior means where searches begin."""

    pairs: HedgePairs
    inputs: Inputs
    start: np.ndarray
    """`(pair, 3)`, not straightened."""


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks batch", description=__doc__)
    for name, usual, what in (
        ("--pairs", 64, "for us and dynamax; and 4 times as many, for their memory"),
        ("--days", 750, "of every pair"),
        ("--grid", 8, "pairs whose answers are checked"),
        ("--some", 16, "pairs of vmapped NUTS and statsmodels"),
        ("--few", 4, "pairs of the loop of NUTS fits"),
    ):
        parser.add_argument(name, type=int, default=usual, help=what)
    options = parser.parse_args(arguments)
    parts = options.grid, options.some, options.few
    if min(parts) < 1 or max(parts) > options.pairs:
        parser.error("--grid, --some and --few are from 1 to --pairs")

    warnings.simplefilter("ignore")  # of short chains, and of the peers
    first, again, memory, went = run_alone(_whole, options.pairs, options.days)
    larger = run_alone(_memory, 4 * options.pairs, options.days)
    with jax.enable_x64(True):
        problem = _problem(universe(options.pairs, options.days))
        exact, doubt = on_a_grid(_first(problem.inputs, options.grid))
        ways = [again, first]
        counts = {draws_only: options.pairs, dynamax_adam: options.pairs}
        counts |= {statsmodels_ml: options.some, vmapped_nuts: options.some}
        for run, count in (counts | {nuts_in_a_loop: options.few}).items():
            ways.append(run(problem, count))
            print(f"done: {ways[-1].name}", file=sys.stderr, flush=True)
    rows = pd.DataFrame([_line(way, again, exact) for way in ways])
    rows = rows.reindex(columns=list(COLUMNS)).rename(columns=COLUMNS)
    return Report(
        "The noise of many pairs",
        WHAT,
        [
            Table(
                f"simulated pairs of {options.days} days, three parameters, double precision", rows
            )
        ],
        remarks=_remarks(first, again, memory, larger, went, doubt),
        quote=_quote(ways, again),
    )


def universe(count: int, days: int) -> HedgePairs:
    """Simulated pairs, each with speeds of its own; the ratio of every fourth stands still."""
    columns = {}
    for number in range(count):
        random = np.random.default_rng(number)
        memory, level = np.exp(random.uniform(np.log([3, 1.5]), np.log([100, 20])))
        drawn = kf.datasets.simulate(
            days,
            memory=np.inf if number % 4 == 3 else memory,
            intercept_memory=level,
            obs_scale=0.004 * np.exp(random.normal(0, 0.5)),
            beta=random.uniform(0.5, 1.5),
            seed=number,
        ).prices
        columns |= {f"Y{number}": drawn["Y"], f"X{number}": drawn["X1"]}
    names = [(f"Y{number}", f"X{number}") for number in range(count)]
    return kf.HedgeData.pairs(pd.DataFrame(columns), names)


def _problem(pairs: HedgePairs) -> Problem:
    inputs = inputs_of(pairs, MODEL)._replace(dt=None)  # no pair has a gap: cheaper for all methods
    prior = _in_order(posterior.prior_draws(np.uint32(0), inputs, model=MODEL, count=400))
    start = _in_order(ridge.bend(_by_name(prior), MODEL.bent)).mean(1)
    return Problem(pairs, inputs, np.asarray(start))


def _first(tree: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[:count], tree)


def _in_order(free: dict[str, Any]) -> Any:
    """Sites `(pair, draw, ...)` as `(pair, draw, 3)`."""
    return jnp.stack([jnp.reshape(free[name], free["obs_scale"].shape) for name in NOISE], -1)


def _by_name(points: Any) -> dict[str, Any]:
    return {name: points[..., number] for number, name in enumerate(NOISE)}


def _straight(points: Any) -> np.ndarray:
    """The coordinates in which errors are measured; the posterior of the others is a bent ridge."""
    return np.asarray(_in_order(ridge.straighten(_by_name(jnp.asarray(points)), MODEL.bent)))


def _memory(count: int, days: int) -> tuple[int, int]:
    """Peak bytes before and after `fit_many`."""
    warnings.simplefilter("ignore")
    pairs = universe(count, days)
    before = report.peak_memory()
    kf.fit_many(pairs, MODEL, progress=False)
    return before, report.peak_memory()


def _whole(count: int, days: int) -> tuple[Way, Way, tuple[int, int], str]:
    """`fit_many` twice: the first run compiles. Its memory as `_memory` has it, and how it went."""
    warnings.simplefilter("ignore")
    pairs = universe(count, days)
    before = report.peak_memory()
    _, *first = take_time(lambda: kf.fit_many(pairs, MODEL, progress=False))
    memory = before, report.peak_memory()
    board, *again = take_time(lambda: kf.fit_many(pairs, MODEL, progress=False))
    order, chunks = _order(_problem(pairs).inputs), [arrays for _, arrays in board.chunks()]
    points, log_weights, refitted = (
        np.concatenate([arrays[name] for arrays in chunks])
        for name in ("points", "log_weights", "refitted")
    )
    found = weighted_moments(points[..., order], np.exp(log_weights))
    ways = Way("the same with compilation", count, *first), Way(OURS, count, *again, *found)
    failed = int((board.status != "ok").sum())
    return *ways, memory, f"{refitted.sum():.0f} were refitted by NUTS and {failed} are not ok"


def _order(inputs: Inputs) -> list[int]:
    """Where the parameters of `NOISE` stand in our points."""
    with jax.enable_x64(True):
        names = list(layout_of(inputs, MODEL).shapes)
    return [names.index(name) for name in NOISE]


def draws_only(problem: Problem, count: int) -> Way:
    """The draws and their weights: no evidence of a static ratio, no filter at the end, no store."""
    inputs, method = _first(problem.inputs, count), kf.ImportanceSampling()
    keys = np.stack([pair_key(name, 0) for name in problem.pairs.names[:count]])
    chunks = np.resize(np.arange(count), (-(-count // CHUNK_ON_CPU), CHUNK_ON_CPU))

    def one(chunk: np.ndarray) -> Any:
        with jax.enable_x64(True):
            mine = jax.tree.map(lambda leaf: leaf[chunk], inputs)
            found = explore(mine, keys[chunk], None, np.uint32(0), model=MODEL, method=method)
            return jax.device_get(found)

    one(chunks[0])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found, *clock = take_time(lambda: list(pool.map(one, chunks)))
    points = np.concatenate([part.points for part in found])[:count, :, _order(inputs)]
    weights = np.exp(np.concatenate([part.log_weights for part in found])[:count])
    return Way("its draws and weights only", count, *clock, *weighted_moments(points, weights))


def on_a_grid(inputs: Inputs) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Posterior means and sds `(pair, 3)` by quadrature, and what a coarser grid changes, in sds."""
    order = _order(inputs)
    fine, finest = (
        tuple(part[:, order] for part in found)
        for found in moments_on_a_grid(inputs, MODEL, (FINE, FINEST))
    )
    changed = [np.abs(a - b) / finest[1] for a, b in zip(fine, finest, strict=True)]
    return finest, float(np.max(changed))


def nuts_in_a_loop(problem: Problem, count: int) -> Way:
    """Our `fit` in a loop: 4 chains of 1000 + 1000 in threads; the first fit, which compiles, apart."""
    names = problem.pairs.names[:count]

    def one(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        made = kf.fit(problem.pairs.data(name), MODEL, method=kf.NUTS(), seed=seed, progress=False)
        sites = made.tree["posterior"]
        q = np.log(sites["delta"].values / (1 - sites["delta"].values)).reshape(-1, 2)
        points = _straight(np.column_stack([q, np.log(sites["obs_scale"].values).ravel()]))
        return points.mean(0), points.std(0)

    one(names[0], 1)
    found, *clock = take_time(lambda: [one(name, 0) for name in names])
    return Way(NUTS_LOOP, count, *clock, *map(np.stack, zip(*found, strict=True)))


def vmapped_nuts(problem: Problem, count: int) -> Way:
    """In the coordinates of our own NUTS, which suit it best."""
    starts = _by_name(_straight(problem.start[:count]))
    starts["delta_beta"] = starts["delta_beta"][:, None]

    def energy(z: Any, pair: Inputs) -> Any:
        return potential_energy(MODEL, (pair,), {}, ridge.bend(z, MODEL.bent))

    run = peers.numpyro_nuts(energy, starts, _first(problem.inputs, count), WARMUP, DRAWS)
    found, *clock = take_time(run)
    points = np.asarray(_in_order(found))[:, WARMUP:]
    return Way("NUTS, vmapped, 1 chain", count, *clock, points.mean(1), points.std(1))


def statsmodels_ml(problem: Problem, count: int) -> Way:
    series, starts, expected, units = _in_moves(problem, count)
    found, *clock = take_time(peers.statsmodels_search(series, starts, expected))
    return Way("statsmodels, max. likelihood", count, *clock, _straight(found + units))


def dynamax_adam(problem: Problem, count: int) -> Way:
    series, starts, expected, units = _in_moves(problem, count)
    found, *clock = take_time(peers.dynamax_search(series, starts, expected, STEPS, RATE))
    points = _straight(np.asarray(found) + units)
    return Way(f"dynamax, vmapped, {STEPS} Adam steps", count, *clock, points)


def _in_moves(problem: Problem, count: int) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """Each pair as (y, design, start mean, start covariance), y in typical moves; see `problems`.

    And, of every pair, where a search begins in these units, our log likelihood there, and what leads
    from these units to those of y.
    """
    pairs, start = _first(problem.inputs, count), problem.start[:count]
    units = np.log(pairs.typical_move)[:, None] * np.array([0.0, 0.0, 1.0])
    parts = zip(*pairs[:2], pairs.start_mean, pairs.start_cov, pairs.typical_move, strict=True)
    series = [(y / move, h, mean / move, cov / move**2) for y, h, mean, cov, move in parts]
    q, obs_scale = jnp.exp(start[:, :2]), jnp.exp(start[:, 2])
    ours = MODEL.log_likelihood(pairs, q=q, obs_scale=obs_scale)
    expected = np.asarray(ours) + pairs.y.shape[1] * units[:, 2]
    return series, start - units, expected, units


COLUMNS = {
    "method": "method",
    "pairs": "pairs",
    "seconds": "s a pair",
    "core_seconds": "core s a pair",
    "ratio": "its core s over ours",
    "checked": "checked pairs",
    "worst": "worst mean error, sds",
    "typical": "median",
    "sd_ratio": "worst sd ratio",
}

WHAT = (
    "What noise each of many pairs has: found by `fit_many`, and as others would find it. Errors "
    "are against a fine grid over the posterior of the first pairs. Core seconds count both cores, "
    "and are less disturbed by other work of the machine. A method that takes minutes does the "
    "first few pairs."
)


def _line(way: Way, ours: Way, exact: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """A line of the table; errors are over the first pairs, those of the grid."""
    line = {"method": way.name, "pairs": way.pairs, "seconds": way.seconds / way.pairs}
    line["core_seconds"] = way.core_seconds / way.pairs
    line["ratio"] = line["core_seconds"] / (ours.core_seconds / ours.pairs)
    if way.mean is not None:
        mean, sd = (part[: way.pairs] for part in exact)
        off = np.abs(way.mean[: len(mean)] - mean) / sd
        line |= {"checked": len(off), "worst": float(off.max()), "typical": float(np.median(off))}
        if way.sd is not None:
            ratio = way.sd[: len(mean)] / sd
            line["sd_ratio"] = float(ratio.flat[np.abs(np.log(ratio)).argmax()])
    return line


def _quote(ways: list[Way], ours: Way) -> str:
    each = {way.name: way.core_seconds / way.pairs for way in ways}
    ratio = each[NUTS_LOOP] / each[ours.name]
    return (
        f"noise of a pair by `fit_many`, its evidence against a static ratio included: "
        f"{1e3 * each[ours.name]:.0f} core ms, {ratio:.0f} times less than `fit` by NUTS in a loop"
    )


def _remarks(
    first: Way,
    again: Way,
    memory: tuple[int, int],
    larger: tuple[int, int],
    went: str,
    doubt: float,
) -> list[str]:
    few, many = ([size / 2**20 for size in sizes] for sizes in (memory, larger))
    growth = 1024 * (many[1] - few[1]) / (3 * again.pairs)
    return [
        f"fit_many: {first.seconds:.1f} s in a new process, {again.seconds:.1f} s again; evidence of a "
        f"static ratio, filters, refits and store included; of {again.pairs} pairs {went}",
        f"peak memory: {again.pairs} pairs {few[1]:.0f} MiB ({few[0]:.0f} before), "
        f"{4 * again.pairs} pairs {many[1]:.0f} ({many[0]:.0f}): {growth:.0f} KiB more a pair",
        f"three quarters of the grid's points along each axis: mean or sd {doubt:.1e} sds elsewhere",
        f"the others' compilation is not counted; vmapped NUTS draws {WARMUP} + {DRAWS}; "
        f"on {jax.default_backend()}",
    ]
