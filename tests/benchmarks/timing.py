"""Contestants that take turns, after they have shown that they compute the same."""

import gc
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

Run = Callable[[], Any]
"""Computes once and returns arrays that are ready."""

Setup = Callable[[], Run]
"""Everything that is done once: imports, models, compilation."""

BLOCK_SECONDS = 0.02
"""A contestant repeats its call for about this long before the next one has its turn."""

PATIENCE_SECONDS = 20.0
"""After this long a contest stops, if every contestant has had `FEWEST_ROUNDS` turns."""

FEWEST_ROUNDS = 3


class MismatchError(AssertionError):
    """A peer computed something else than we did."""


@dataclass(frozen=True)
class Contest:
    """One computation by us, in one or several ways, and by others."""

    what: str
    size: str
    ours: dict[str, Setup]
    peers: dict[str, Setup]
    per: str = "call"
    count: int = 1
    """How many units of `per` one call does."""

    rtol: float = 1e-8
    """Largest difference allowed, relative to the largest element of each array."""


@dataclass(frozen=True)
class Outcome:
    """Seconds per unit of work, of the best round; a peer may have an error instead."""

    contest: Contest
    ours: dict[str, float]
    peers: dict[str, float | Exception]

    @property
    def winner(self) -> str:
        """Our fastest way."""
        return min(self.ours, key=lambda name: self.ours[name])

    def ratio(self, peer: str) -> float | None:
        """How many times longer the peer takes than our fastest way."""
        timing = self.peers[peer]
        if isinstance(timing, Exception):
            return None
        return timing / self.ours[self.winner]


def run_alone(run: Callable[..., Any], *arguments: Any) -> Any:
    """In a new process: nothing is compiled there, and a device and the peak of memory are its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, *arguments).result()


def take_time(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a run returns, its seconds, and those of all cores of this process together."""
    wall, cores = time.perf_counter(), time.process_time()
    found = jax.block_until_ready(run())
    return found, time.perf_counter() - wall, time.process_time() - cores


def jitted(function: Callable[..., Any], *args: Any) -> Run:
    """Compile once; a run ends when the device has finished, not when the call returns."""
    compiled = jax.jit(function)
    args = jax.tree.map(jax.numpy.asarray, args)
    return lambda: jax.block_until_ready(compiled(*args))


def race(contest: Contest, rounds: int) -> Outcome:
    """Set everybody up, compare the numbers, then time in turns."""
    ours = {name: setup() for name, setup in contest.ours.items()}
    expected = next(iter(ours.values()))()
    for run in ours.values():
        check_same(run(), expected, contest.rtol)
    peers: dict[str, Run] = {}
    failed: dict[str, Exception] = {}
    for name, setup in contest.peers.items():
        try:
            run = setup()
            check_same(run(), expected, contest.rtol)
            peers[name] = run
        except Exception as error:  # a peer that is missing or broken is a line of the table
            failed[name] = error
    timed = _take_turns({**ours, **peers}, contest.count, rounds)
    return Outcome(
        contest,
        ours={name: timed[name] for name in ours},
        peers={name: failed.get(name) or timed[name] for name in contest.peers},
    )


def check_same(found: Any, expected: Any, rtol: float) -> None:
    """Raise if they differ, relative to the largest element of each array."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.shape != b.shape:
            raise MismatchError(f"shape {a.shape}, ours {b.shape}")
        difference = float(np.abs(a - b).max() / np.abs(b).max())
        if not difference <= rtol:  # a NaN differs too
            raise MismatchError(f"{difference:.1e} of the largest element, allowed are {rtol:.0e}")


def _take_turns(runs: dict[str, Run], count: int, rounds: int) -> dict[str, float]:
    for run in runs.values():
        run()  # setting up the later ones may have made the earlier ones compile again
    calls = {name: max(1, round(BLOCK_SECONDS / _block(run, 1))) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    begun = time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() - begun > PATIENCE_SECONDS:
            break
        for name, run in runs.items():
            seconds[name].append(_block(run, calls[name]) / count)
    return {name: min(each) for name, each in seconds.items()}


def _block(run: Run, calls: int) -> float:
    """Seconds per call, with the garbage collector out of the way."""
    gc.collect()
    gc.disable()
    try:
        begun = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - begun) / calls
    finally:
        gc.enable()
