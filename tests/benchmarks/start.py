"""CPU seconds until something is there, with imports: `python -m tests.benchmarks start`.

    python -m tests.benchmarks start [--rounds 3]

Every figure is user and system time of a fresh process, the median of several, so that another load on
the machine moves it little. First fits find no program compiled; the second ones find those that the
shell kept.
"""

import argparse
import os
import sys
import tempfile
from statistics import median

import pandas as pd

from kfmodels import datasets
from tests.benchmarks.report import Report, Table
from tests.processes import ROOT

WHAT = (
    "User and system seconds of a fresh process, imports included, the median of several rounds. "
    "Of up to 2,048 rows all series share their programs, so that the next pair compiles nothing, here "
    "of 480 rows and of three times as many. The second calls find what the shell has kept of the "
    "first."
)

METHODS = {"importance sampling": "ImportanceSampling()", "NUTS": "NUTS()"}

FITS = """
import time, warnings
warnings.simplefilter("ignore")
import kfmodels as kf

def fit(target, hedge, first, last):
    data = kf.HedgeData.from_prices(kf.datasets.stocks(), target=target, hedges=[hedge])
    begun = time.process_time()
    kf.fit(data.after(first).before(last), method=kf.METHOD, progress=False)
    return time.process_time() - begun

fit("AAPL", "SPX", "2017", "2019")
print(time.process_time())
print(fit("KO", "PEP", "2017", "2018-11"))
print(fit("KO", "PEP", "2012", "2018"))
print(fit("KO", "PEP", "2012", "2017-11"))
"""
"""The first pair; then one of about the same length; and two of three times that."""

KEPT = """
import sys
from kfmodels.cli.shell import keep_programs
keep_programs()
import kfmodels as kf
data = kf.HedgeData.from_prices(kf.datasets.stocks(), target="AAPL", hedges=["SPX"])
kf.fit(data.after("2017").before("2019"), method=kf.ImportanceSampling(), progress=False)
"""

LOAD = "import sys, kfmodels; kfmodels.load(sys.argv[1])"

LIMITS = {
    "first fit, importance sampling": 8.0,
    "first fit, NUTS": 14.0,
    "next pair, importance sampling": 1.0,
    "next pair, NUTS": 4.0,
    "next pair of another length, importance sampling": 1.0,
    "next pair of another length, NUTS": 4.0,
    "next pair of that length, importance sampling": 1.0,
    "next pair of that length, NUTS": 4.0,
    "second process, importance sampling": 5.0,
    "second `kfmodels fit`": 8.0,
    "`kf.load`": 3.0,
    "`kfmodels --help`": 0.4,
}
"""CPU seconds to aim at."""


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="fresh processes of each kind")
    options = parser.parse_args(arguments)
    seconds: dict[str, list[float]] = {name: [] for name in LIMITS}
    for done in range(options.rounds):
        for name, one in run_all().items():
            seconds[name].append(one)
        print(f"round {done + 1} of {options.rounds}", file=sys.stderr, flush=True)
    lines = [
        {"what": name, "CPU s": median(each), "target": LIMITS[name]}
        for name, each in seconds.items()
    ]
    return Report("Until something is there", WHAT, [Table("CPU seconds", pd.DataFrame(lines))])


def run_all() -> dict[str, float]:
    """Each figure once."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as home:
        for method, made in METHODS.items():
            _, said = run(home, "-c", FITS.replace("METHOD", made))
            marks = [f"first fit, {method}", f"next pair, {method}"]
            marks += [f"next pair of {which} length, {method}" for which in ("another", "that")]
            found |= zip(marks, map(float, said.split()), strict=True)
        prices = datasets.stocks().loc["2017":"2018", ["AAPL", "SPX"]]
        prices.to_csv(f"{home}/prices.csv")
        shell = ["-m", "kfmodels"]
        legs = ["--target", "AAPL", "--hedges", "SPX"]
        for name, call in (
            ("second process, importance sampling", ["-c", KEPT]),
            ("second `kfmodels fit`", [*shell, "fit", "prices.csv", *legs, "--out", "aapl.nc"]),
            ("`kf.load`", ["-c", LOAD, "aapl.nc"]),
            ("`kfmodels --help`", [*shell, "--help"]),
        ):
            run(home, *call)
            found[name], _ = run(home, *call)
    return {name: found[name] for name in LIMITS}


def run(home: str, *arguments: str) -> tuple[float, str]:
    """CPU seconds of a process of Python in a home of its own, and what it printed."""
    with tempfile.TemporaryFile("w+") as told:
        own = {"HOME": home, "XDG_CACHE_HOME": f"{home}/cache", "PYTHONPATH": str(ROOT)}
        there = {name: value for name, value in os.environ.items() if "JAX_" not in name}
        command = [sys.executable, *arguments]
        sent = [(os.POSIX_SPAWN_DUP2, told.fileno(), 1)]
        before = os.getcwd()
        os.chdir(home)
        try:
            child = os.posix_spawn(command[0], command, there | own, file_actions=sent)
        finally:
            os.chdir(before)
        _, status, used = os.wait4(child, 0)
        told.seek(0)
        if status:
            raise RuntimeError(f"{' '.join(arguments)[:200]} ended with {status}")
        return used.ru_utime + used.ru_stime, told.read()
