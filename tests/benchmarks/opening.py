"""Does a live ratio beat the one of the night before at the open? `python -m tests.benchmarks opening`

On simulated days, where the true ratio is known, and on one week of real one-minute prices, out of
sample and by the same function. Whoever wins: the table is printed as it comes.
"""

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.data.simulated_days import simulate_days
from kfmodels.fitting.hedge_fit import HedgeFit
from tests.benchmarks.open_hedges import NIGHTS, known_ratios, opening_table
from tests.tables import read_table

PAIRS = ("QQQ/SPY", "MSFT/QQQ", "AAPL/QQQ", "JPM/BAC", "GLD/SLV")
NIGHT_WORTH = (0.0, 150.0, 600.0)
BARS, TRAIN = 78, 12
"""Five-minute bars of a simulated day, and days on which the noise is inferred: 936 rows."""

SHOWN = ["moves", "left_bp", "removed", "se", "gain", "gain_se", "covered", "covered_se"]


def main(arguments: list[str]) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks opening", description=__doc__)
    parser.add_argument("--days", type=int, default=42, help="of every simulated pair")
    parser.add_argument("--seed", type=int, default=0, help="of the first simulated pair")
    parser.add_argument(
        "--pairs", nargs="*", default=PAIRS, help="of the real file, as TARGET/HEDGE"
    )
    parser.add_argument("--train", type=int, default=2, help="days of the real file, of its five")
    options = parser.parse_args(arguments)
    pd.set_option("display.width", 200, "display.precision", 4, "display.max_columns", 20)
    for worth in NIGHT_WORTH:
        simulated(worth, options.days, options.seed)
    prices = read_table("intraday_us_1min_2019-02.csv.gz").tz_localize("America/New_York")
    tables = [real(prices, pair, options.train) for pair in options.pairs]
    if len(tables) > 1:
        mean: Any = pd.concat(tables).groupby(level=["period", "method"], sort=False)[SHOWN].mean()
        print(f"\nmean over the {len(tables)} real pairs")
        print(mean[["removed", "gain", "covered"]])
    return 0


def simulated(worth: float, days: int, seed: int) -> pd.DataFrame:
    """One simulated pair whose night is worth so many bars."""
    start = time.perf_counter()
    truth = simulate_days(days, bars=BARS, overnight_bars=worth, hedge_volatility=0.001, seed=seed)
    known = known_ratios(truth.prices, truth.clock, target="Y", hedge="X1", train_days=TRAIN)
    table = opening_table(known, truth=truth.hedge_ratio)
    steps = truth.hedge_ratio.diff().iloc[1:]
    opens = np.arange(1, len(truth.prices)) % BARS == 0
    print(f"\nsimulated, a night is worth {worth:g} bars: {said(known.fits[NIGHTS])}")
    print(
        f"sd of the ratio's step: {steps[~opens].std():.4f} a bar, {steps[opens].std():.4f} a night; "
        f"{len(truth.prices)} rows, {time.perf_counter() - start:.0f} s"
    )
    print(table[[*SHOWN, "ratio_error", "ratio_error_se"]])
    return table


def real(prices: pd.DataFrame, pair: str, train: int) -> pd.DataFrame:
    """One real pair."""
    start = time.perf_counter()
    target, hedge = pair.split("/")
    legs: Any = prices[[target, hedge]]
    clock = Clock.hours("09:30", "16:00", zone="America/New_York", bar="1min")
    known = known_ratios(legs, clock, target=target, hedge=hedge, train_days=train)
    table = opening_table(known)
    print(f"\n{pair}: {said(known.fits[NIGHTS])}; {time.perf_counter() - start:.0f} s")
    print(table[SHOWN])
    return table


def said(fitted: HedgeFit) -> str:
    """What a night was found to be worth."""
    posterior: Any = fitted.tree["posterior"]
    bars = posterior["gap_bars"].sel(gap="overnight").values.ravel()
    low, middle, high = np.quantile(bars, [0.05, 0.5, 0.95])
    return f"inferred {middle:.0f} bars, 90 % {low:.0f} .. {high:.0f}"
