"""The list of what is compared with whom."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.benchmarks import ours, peers, problems
from tests.benchmarks.timing import Contest, Run

LENGTHS = 311, 1250, 20_000

PAIRS, DAYS = 500, 1250


def contests() -> Iterator[Contest]:
    yield from _whole_series()
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


def _on(problem: problems.Problem, runs: dict[str, Callable[..., Run]]) -> Any:
    return {name: partial(run, problem) for name, run in runs.items()}


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
