"""Does a live ratio beat the one of the night before at the open? `python -m tests.benchmarks opening`

On simulated days, where the true ratio is known, and on one week of real one-minute prices, out of
sample and by the same function. Whoever wins: the table is printed as it comes.
"""

import argparse
from typing import Any

import numpy as np
import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.data.simulated_days import simulate_days
from kfmodels.fitting.hedge_fit import HedgeFit
from tests.benchmarks.open_hedges import NIGHTS, known_ratios, opening_table
from tests.benchmarks.report import Report, Table
from tests.tables import read_table

PAIRS = ("QQQ/SPY", "MSFT/QQQ", "AAPL/QQQ", "JPM/BAC", "GLD/SLV")
NIGHT_WORTH = (0.0, 150.0, 600.0)
BARS, TRAIN = 78, 12
"""Five-minute bars of a simulated day, and days on which the noise is inferred: 936 rows."""

SHOWN = ["moves", "left_bp", "removed", "se", "gain", "gain_se", "covered", "covered_se"]

WHAT = (
    "Noise and static ratios from the days before; then by part of the day: basis points left of a "
    "move's sd, share of squared moves removed, lead over the static ratio on changes, and share of "
    "prices inside the 90 % band of the live filters, each with the standard error of resampled "
    "days. Simulated days have a ratio that jumps overnight by as much as so many bars are worth; "
    "the real file is one week of one-minute prices, the last of its days hedged. On real prices a "
    "good static ratio is hard to beat at the open: prices are noisier there than in the rest of "
    "the day, and a filter that does not know this takes noise for a move of the ratio."
)


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks opening", description=__doc__)
    parser.add_argument("--days", type=int, default=42, help="of every simulated pair")
    parser.add_argument("--seed", type=int, default=0, help="of the first simulated pair")
    parser.add_argument(
        "--pairs", nargs="*", default=PAIRS, help="of the real file, as TARGET/HEDGE"
    )
    parser.add_argument("--train", type=int, default=2, help="days of the real file, of its five")
    options = parser.parse_args(arguments)
    tables = [simulated(worth, options.days, options.seed) for worth in NIGHT_WORTH]
    prices = read_table("intraday_us_1min_2019-02.csv.gz").tz_localize("America/New_York")
    found = [real(prices, pair, options.train) for pair in options.pairs]
    if len(found) > 1:
        every = pd.concat([part.rows for part in found])
        mean = every.groupby(["period", "method"], sort=False)[SHOWN].mean()
        shown = mean[["removed", "gain", "covered"]].reset_index()
        tables.append(Table(f"mean over {len(found)} real pairs", shown))
    return Report("The open", WHAT, [*tables, *found])


def simulated(worth: float, days: int, seed: int) -> Table:
    """One simulated pair whose night is worth so many bars."""
    truth = simulate_days(days, bars=BARS, overnight_bars=worth, hedge_volatility=0.001, seed=seed)
    known = known_ratios(truth.prices, truth.clock, target="Y", hedge="X1", train_days=TRAIN)
    table = opening_table(known, truth=truth.hedge_ratio)
    title = f"simulated, a night is worth {worth:g} bars: {said(known.fits[NIGHTS])}"
    return Table(title, table[[*SHOWN, "ratio_error", "ratio_error_se"]].reset_index())


def real(prices: pd.DataFrame, pair: str, train: int) -> Table:
    """One real pair."""
    target, hedge = pair.split("/")
    legs: Any = prices[[target, hedge]]
    clock = Clock.hours("09:30", "16:00", zone="America/New_York", bar="1min")
    known = known_ratios(legs, clock, target=target, hedge=hedge, train_days=train)
    return Table(f"{pair}: {said(known.fits[NIGHTS])}", opening_table(known)[SHOWN].reset_index())


def said(fitted: HedgeFit) -> str:
    """What a night was found to be worth."""
    posterior: Any = fitted.tree["posterior"]
    bars = posterior["gap_bars"].sel(gap="overnight").values.ravel()
    low, middle, high = np.quantile(bars, [0.05, 0.5, 0.95])
    return f"inferred {middle:.0f} bars, 90 % {low:.0f} .. {high:.0f}"
