"""Which observation variance is the default: `python -m tests.benchmarks noise [--simulated N]`.

Each pair is fitted on its first rows by importance sampling under both, and its filter runs over the
rest. LS is the mean log score of the target's price, nats a row; `behind` the lead of the variance that
moves with the standard error of its mean over pairs. VR is the share of the variance of the one-bar
move that the ratio known before it removed. Simulated pairs have a constant variance, a memory of the
ratio drawn from the default prior, and 1,500 rows.
"""

import argparse
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd

import kfmodels as kf
from kfmodels.data.arrays import removed
from tests.benchmarks import daily
from tests.benchmarks.report import Report, Table, numbered

WHAT = __doc__.split("\n\n", 2)[1].replace("\n", " ")

ROWS, TRAINING = 1500, 750

NOISES = {"Discounted": kf.Discounted(), "Constant": kf.Constant()}


def real() -> Iterator[tuple[pd.DataFrame, int]]:
    """The 28 pairs of the benchmark of daily ratios: prices of target and hedge, training rows."""
    for sample in daily.samples("28", 0):
        for pair in sample.pairs:
            table = sample.prices[list(pair)]
            moved = np.r_[True, (np.diff(table.to_numpy(), axis=0) != 0).any(1)]
            yield table[moved], sample.training


def simulated(count: int) -> Iterator[tuple[pd.DataFrame, int]]:
    """Pairs of a variance that is constant."""
    for seed in range(count):
        memory = 6 * np.exp(np.random.default_rng(seed).normal(0, 1.0))
        made = kf.datasets.simulate(ROWS, memory=1 + memory, seed=seed)
        yield made.prices, TRAINING


def compare(prices: pd.DataFrame, training: int) -> dict[str, float]:
    """Scores of both noises on the rows after the training ones."""
    target, hedge = map(str, prices.columns)
    data = kf.HedgeData.from_prices(prices.iloc[:training], target=target, hedges=[hedge])
    fits = {
        name: kf.fit(
            data,
            kf.hedge_ratio_model(noise=noise),
            method=kf.ImportanceSampling(),
            progress=False,
        )
        for name, noise in NOISES.items()
    }
    later = prices.iloc[training:]
    table = kf.compare(fits, later).table
    moves = np.diff(np.log(prices.iloc[training - 1 :].to_numpy()), axis=0)
    found = {f"LS {name}": float(table.loc[name, "log_score"]) for name in NOISES}
    found |= {f"in 90 % {name}": float(table.loc[name, "inside_90"]) for name in NOISES}
    for name, fitted in fits.items():
        live = fitted.online()
        first = live.state()["mean"][0]
        held = kf.follow(live, later)[f"beta {hedge}"].to_numpy()
        ratio = np.concatenate([[first], held[:-1]])  # each known at the row before
        found[f"VR {name}"] = float(removed(moves, ratio[:, None])[0])
    return found


def summarise(of: str, pairs: Iterator[tuple[pd.DataFrame, int]]) -> pd.DataFrame:
    each = pd.DataFrame([compare(*pair) for pair in pairs])
    rows = []
    for name in NOISES:
        lead = each["LS Discounted"] - each[f"LS {name}"]
        rows.append(
            {
                "noise": name,
                "pairs": len(each),
                "LS": each[f"LS {name}"].mean(),
                "behind": lead.mean(),
                "+-": lead.sem(),
                "pairs behind": int((lead > 0).sum()),
                "VR": each[f"VR {name}"].mean(),
                "in 90 %": each[f"in 90 % {name}"].mean(),
            }
        )
    return numbered(pd.DataFrame(rows).set_index("noise"), "noise")


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks noise", description=__doc__)
    parser.add_argument("--simulated", type=int, default=28, help="pairs")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of prices in doubt
    tables = [
        Table("28 pairs of funds", summarise("real", real())),
        Table("simulated, constant variance", summarise("simulated", simulated(options.simulated))),
    ]
    return Report("Which observation variance is the default", WHAT, tables)
