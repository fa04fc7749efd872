"""Likelihood, gradient and filter against other libraries, after they have shown the same numbers."""

import argparse
import sys
import warnings
from collections.abc import Iterator

import jax
import pandas as pd

from tests.benchmarks.contests import contests
from tests.benchmarks.report import Report, Table
from tests.benchmarks.timing import MismatchError, Outcome, race

WHAT = (
    "Both sides first have to give the same numbers (to 1e-8 of the largest); then they take turns, "
    "and the best of several rounds counts. Two coefficients, double precision, CPU; `ratio` is the "
    "peer's time over that of our fastest way. Compilation is not counted."
)


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks speed", description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="WORD", help="contests with this in their name"
    )
    parser.add_argument("--rounds", type=int, default=9, help="turns per contestant")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of the peers, about things that are not ours to mend
    outcomes = []
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        for contest in contests():
            if options.only in contest.what:
                print(f"{contest.what}, {contest.size}", file=sys.stderr, flush=True)
                outcomes.append(race(contest, options.rounds))
    if not outcomes:
        parser.error(f"no contest has {options.only!r} in its name")
    lines = pd.DataFrame([shown for outcome in outcomes for shown in _lines(outcome)])
    errors = [found for outcome in outcomes for found in outcome.peers.values()]
    differ = [str(found) for found in errors if isinstance(found, MismatchError)]
    return Report(
        "The filter and its likelihood",
        WHAT,
        [Table("kfmodels against its peers", lines)],
        quote=_quote(outcomes),
        failed="; ".join(differ),
    )


def _lines(outcome: Outcome) -> Iterator[dict[str, str | float | None]]:
    contest, ours = outcome.contest, outcome.ours
    what = f"{contest.what}, per {contest.per}" if contest.count > 1 else contest.what
    ways = ", ".join(f"{name} {_time(timing)}" for name, timing in ours.items())
    for name, timing in outcome.peers.items():
        found = _sentence(timing) if isinstance(timing, Exception) else _time(timing)
        shown = {"what": what, "size": contest.size, "ours": ways, "peer": name, "its time": found}
        yield shown | {"ratio": outcome.ratio(name)}


def _quote(outcomes: list[Outcome]) -> str:
    """Of the batch, which is what the sampler spends its time on."""
    for outcome in outcomes:
        for name in outcome.peers:
            ratio = outcome.ratio(name)
            if outcome.contest.what == "batch log likelihood" and ratio is not None:
                size = outcome.contest.size
                return f"log likelihood of {size} days: {ratio:.2g} times as fast as {name}"
    return ""


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _sentence(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
