"""The list of what is compared with whom."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.benchmarks import ours, peers, problems, ticks
from tests.benchmarks.timing import Contest, Run

LENGTHS = 311, 1250, 20_000

TICKS = {1: 311, 64: 100}
"""Ticks in one call, by number of draws."""

PAIRS, DAYS = 500, 1250


def contests() -> Iterator[Contest]:
    yield from _whole_series()
    yield from _ticks()
    yield from _batch()


def _whole_series() -> Iterator[Contest]:
    """Everybody on one series of each length."""
    asked = {
        "log likelihood": (
            {"scan": ours.log_likelihood},
            {
                "statsmodels": peers.statsmodels_log_likelihood,
                "dynamax": peers.dynamax_log_likelihood,
            },
        ),
        "gradient, 2 parameters": (
            {"forward": ours.gradient_forward, "reverse": ours.gradient_reverse},
            {"dynamax": peers.dynamax_gradient},
        ),
        "filtered means and covs": (
            {"scan": ours.filtered},
            {"pykalman": peers.pykalman_filtered},
        ),
    }
    for what, (mine, others) in asked.items():
        for rows in LENGTHS:
            problem = problems.single(rows)
            yield Contest(what, f"T = {rows}", ours=_on(problem, mine), peers=_on(problem, others))


def _on(problem: problems.Problem, runs: dict[str, Callable[..., Run]], *more: int) -> Any:
    return {name: partial(run, problem, *more) for name, run in runs.items()}


def _ticks() -> Iterator[Contest]:
    for count, rows in TICKS.items():
        problem = problems.single(rows)
        each = "" if count == 1 else f", {count} filters"
        others = {
            f"filterpy{each}": ticks.filterpy_ticks,
            f"pykalman{each}": ticks.pykalman_ticks,
            "simdkalman.primitives": ticks.simdkalman_ticks,
        }
        for what, mine in {
            "online tick, state only": {"bare step": ticks.bare_step},
            "online tick, with score and report": {"OnlineFilter": ticks.online_filter},
        }.items():
            yield Contest(
                what,
                "1 draw" if count == 1 else f"{count} draws",
                ours=_on(problem, mine, count),
                peers=_on(problem, others, count),
                per="tick",
                count=rows,
            )


def _batch() -> Iterator[Contest]:
    problem = problems.batch(PAIRS, DAYS)
    asked = {
        "batch log likelihood": (
            {"batch last": ours.log_likelihood},
            {"dynamax, vmapped": peers.dynamax_log_likelihood},
        ),
        "batch gradient, 2 parameters": (
            {"forward": ours.gradient_forward, "reverse": ours.gradient_reverse},
            {"dynamax, vmapped": peers.dynamax_gradient},
        ),
    }
    for what, (mine, others) in asked.items():
        yield Contest(
            what,
            f"{PAIRS} pairs x {DAYS}",
            ours=_on(problem, mine),
            peers=_on(problem, others),
            per="pair and step",
            count=PAIRS * DAYS,
        )
