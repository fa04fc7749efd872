"""Run every contest and print the table; ends with 1 if a peer's numbers differ.

`batch`, `gpu`, `latency`, `opening`, `variety`, `shocks`, `forgetting` or `fuzz` as the first word runs
that module of `tests.benchmarks` instead.
"""

import argparse
import importlib
import sys
import warnings

OTHERS = ("batch", "gpu", "latency", "opening", "variety", "shocks", "forgetting", "fuzz")


def main() -> int:
    if sys.argv[1:2] and sys.argv[1] in OTHERS:
        # imported here: some need price tables, some pytest, and most no peer
        return importlib.import_module(f"tests.benchmarks.{sys.argv[1]}").main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="WORD", help="contests with this in their name"
    )
    parser.add_argument("--rounds", type=int, default=9, help="turns per contestant")
    options = parser.parse_args()

    import jax

    from tests.benchmarks import report
    from tests.benchmarks.contests import contests
    from tests.benchmarks.timing import MismatchError, race

    warnings.simplefilter("ignore")  # of the peers, about things that are not ours to mend
    outcomes = []
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        for contest in contests():
            if options.only in contest.what:
                print(f"{contest.what}, {contest.size}", file=sys.stderr, flush=True)
                outcomes.append(race(contest, options.rounds))
    if not outcomes:
        parser.error(f"no contest has {options.only!r} in its name")
    print(report.table(outcomes))
    print(report.machine_in_words())
    errors = [found for outcome in outcomes for found in outcome.peers.values()]
    return int(any(isinstance(found, MismatchError) for found in errors))


if __name__ == "__main__":
    sys.exit(main())
