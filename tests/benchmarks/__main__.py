"""Run every contest, print the table, write the JSON; ends with 1 if a peer's numbers differ.

`batch`, `latency`, `opening`, `variety`, `shocks` or `forgetting` as the first word runs that module of
`tests.benchmarks` instead.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import jax
from rich.console import Console

from tests.benchmarks import batch, report
from tests.benchmarks.contests import contests
from tests.benchmarks.timing import MismatchError, race


def main() -> int:
    if sys.argv[1:2] == ["batch"]:
        return batch.main(sys.argv[2:])
    if sys.argv[1:2] == ["latency"]:
        from tests.benchmarks import latency

        return latency.main(sys.argv[2:])
    if sys.argv[1:2] == ["opening"]:
        from tests.benchmarks import opening  # which needs no peer

        return opening.main(sys.argv[2:])
    if sys.argv[1:2] == ["variety"]:
        from tests.benchmarks import variety  # which needs pytest, and no peer

        return variety.main()
    if sys.argv[1:2] in (["shocks"], ["forgetting"]):
        from tests.benchmarks import forgetting, shocks  # which need price tables, and no peer

        return shocks.main() if sys.argv[1] == "shocks" else forgetting.main()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the figures here")
    parser.add_argument(
        "--only", default="", metavar="WORD", help="contests with this in their name"
    )
    parser.add_argument("--rounds", type=int, default=9, help="turns per contestant")
    options = parser.parse_args()

    warnings.simplefilter("ignore")  # of the peers, about things that are not ours to mend
    console = Console()
    outcomes = []
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        for contest in contests():
            if options.only in contest.what:
                with console.status(f"{contest.what}, {contest.size}"):
                    outcomes.append(race(contest, options.rounds))
    if not outcomes:
        parser.error(f"no contest has {options.only!r} in its name")
    console.print(report.table(outcomes))
    machine, versions = report.machine(), report.versions()
    console.print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']:.1f}")
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()))
    if options.out:
        options.out.write_text(json.dumps(report.as_json(outcomes), indent=2) + "\n")
    errors = [found for outcome in outcomes for found in outcome.peers.values()]
    return int(any(isinstance(found, MismatchError) for found in errors))


if __name__ == "__main__":
    sys.exit(main())
