"""Run a benchmark, show what it found and, with --keep, write it to the page of the documentation.

Without a name, all that take minutes are run one after the other, each in a process of its own. Ends
with 1 where a peer's numbers differ, or an answer is off without a word.
"""

import argparse
import importlib
import subprocess
import sys
import time

from tests.benchmarks import page
from tests.benchmarks.report import show

COMMANDS = {
    "speed": [],
    "batch": [],
    "start": [],
    "latency": ["--ticks", "20000", "--memory", "100000"],
    "growth": [],
    "gpu": None,
    "variety": None,
    "universe": None,
    "books": None,
    "opening": None,
    "daily": None,
    "shocks": None,
    "spreads": None,
    "learning": None,
    "noise": None,
    "fuzz": None,
}
"""By name, in the order of the page: its arguments where all are run; None where it is left out."""


def main() -> int:
    words = sys.argv[1:]
    name = words.pop(0) if words and words[0] in COMMANDS else None
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        epilog=f"Names: {', '.join(COMMANDS)}. `NAME --help` tells the options of one.",
        add_help=name is None,  # the help of a named one is its own
    )
    parser.add_argument("--keep", action="store_true", help="write JSON, page and README")
    options, others = parser.parse_known_args(words)
    if name is None:
        if others:
            parser.error(f"{others[0]!r} is no benchmark: they are {', '.join(COMMANDS)}")
        return _run_all(options.keep)
    begun = time.perf_counter()
    # imported here: some need price tables, some pytest, and most no peer
    report = importlib.import_module(f"tests.benchmarks.{name}").measure(others)
    print(show(report))
    if options.keep and report.tables:
        command = " ".join(["python -m tests.benchmarks", name, *others])
        kept = f"{name}_{report.part}" if report.part else name
        page.keep(kept, report.document(command, time.perf_counter() - begun))
        print(f"written to {page.PAGE}")
    if report.failed:
        print(report.failed, file=sys.stderr)
    return int(bool(report.failed))


def _run_all(keep: bool) -> int:
    failed = []
    for name, arguments in COMMANDS.items():
        if arguments is not None:
            words = [name, *arguments, *(["--keep"] if keep else [])]
            done = subprocess.run([sys.executable, "-m", "tests.benchmarks", *words], check=False)
            failed += [name] if done.returncode else []
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
