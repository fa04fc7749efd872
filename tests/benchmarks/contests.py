"""The list of what is compared with whom."""

from collections.abc import Iterator
from functools import partial

from tests.benchmarks import ours, peers, problems, ticks
from tests.benchmarks.timing import Contest

LENGTHS = 311, 1250, 20_000

TICKS = {1: 311, 64: 100}
"""Ticks in one call, by number of draws."""

PAIRS, DAYS = 500, 1250

CONSTANT_DESIGN = "filtered, constant design (simdkalman has no other)"


def contests() -> Iterator[Contest]:
    yield from _whole_series()
    yield from _ticks()
    yield from _batch()


def _whole_series() -> Iterator[Contest]:
    moving = {rows: problems.single(rows) for rows in LENGTHS}
    for rows, problem in moving.items():
        yield Contest(
            "log likelihood",
            f"T = {rows}",
            ours={"scan": partial(ours.log_likelihood, problem)},
            peers={
                "statsmodels": partial(peers.statsmodels_log_likelihood, problem),
                "dynamax": partial(peers.dynamax_log_likelihood, problem),
            },
        )
    for rows, problem in moving.items():
        yield Contest(
            "gradient, 2 parameters",
            f"T = {rows}",
            ours={
                "forward": partial(ours.gradient_forward, problem),
                "reverse": partial(ours.gradient_reverse, problem),
            },
            peers={"dynamax": partial(peers.dynamax_gradient, problem)},
        )
    for rows, problem in moving.items():
        yield Contest(
            "filtered means and covs",
            f"T = {rows}",
            ours={"scan": partial(ours.filtered, problem)},
            peers={"pykalman": partial(peers.pykalman_filtered, problem)},
        )
    for rows, problem in moving.items():
        problem = problems.constant_design(problem)
        yield Contest(
            CONSTANT_DESIGN,
            f"T = {rows}",
            ours={"scan": partial(ours.filtered, problem)},
            peers={"simdkalman": partial(peers.simdkalman_filtered, problem)},
        )


def _ticks() -> Iterator[Contest]:
    for count, rows in TICKS.items():
        problem = problems.single(rows)
        each = "" if count == 1 else f", {count} filters"
        others = {
            f"filterpy{each}": partial(ticks.filterpy_ticks, problem, count),
            f"pykalman{each}": partial(ticks.pykalman_ticks, problem, count),
            "simdkalman.primitives": partial(ticks.simdkalman_ticks, problem, count),
        }
        size = "1 draw" if count == 1 else f"{count} draws"
        for what, contestant in {
            "online tick, state only": {"bare step": ticks.bare_step},
            "online tick, with score and report": {"OnlineFilter": ticks.online_filter},
        }.items():
            yield Contest(
                what,
                size,
                ours={name: partial(run, problem, count) for name, run in contestant.items()},
                peers=others,
                per="tick",
                count=rows,
            )


def _batch() -> Iterator[Contest]:
    problem = problems.batch(PAIRS, DAYS)
    size = f"{PAIRS} pairs x {DAYS}"
    yield Contest(
        "batch log likelihood",
        size,
        ours={"batch last": partial(ours.log_likelihood, problem)},
        peers={"dynamax, vmapped": partial(peers.dynamax_log_likelihood, problem)},
        per="pair and step",
        count=PAIRS * DAYS,
    )
    yield Contest(
        "batch gradient, 2 parameters",
        size,
        ours={
            "forward": partial(ours.gradient_forward, problem),
            "reverse": partial(ours.gradient_reverse, problem),
        },
        peers={"dynamax, vmapped": partial(peers.dynamax_gradient, problem)},
        per="pair and step",
        count=PAIRS * DAYS,
    )
    constant = problems.constant_design(problem)
    yield Contest(
        f"batch {CONSTANT_DESIGN}",
        size,
        ours={"batch last": partial(ours.filtered, constant)},
        peers={"simdkalman": partial(peers.simdkalman_filtered, constant)},
        per="pair and step",
        count=PAIRS * DAYS,
    )
