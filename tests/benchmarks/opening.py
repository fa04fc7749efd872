"""Does a live ratio beat the one of the night before at the open? `python -m tests.benchmarks opening`

On months of real bars, on blocks of a week, on the same months with jumps of the ratio added, and on
simulated days where the true ratio is known, out of sample and by the same functions. Whoever wins: the
table is printed as it comes. Sets whose tables are not on this machine are left out, and said to be.

One file: the parts of one command.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.data.simulated_days import simulate_days
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.model import default_model
from tests.benchmarks import open_days
from tests.benchmarks.open_days import SETS, Days, Followed, follow_days, read_set
from tests.benchmarks.open_hedges import NIGHTS, known_ratios, opening_table
from tests.benchmarks.report import Report, Table
from tests.tables import MissingTableError, read_table

PARTS = ("days", "blocks", "jumps", "simulated", "week")
WEEK_PAIRS = ("QQQ/SPY", "MSFT/QQQ", "AAPL/QQQ", "JPM/BAC", "GLD/SLV")
NIGHT_WORTH = (0.0, 150.0, 600.0)
BARS, TRAIN = 78, 12
"""Five-minute bars of a simulated day, and days on which the noise is inferred: 936 rows."""

SHOWN = ["moves", "left_bp", "removed", "se", "gain", "gain_se", "covered", "covered_se"]

MODEL, PLAIN, TODAY = "default model", "without the day's deviation", "log prices, no profile"
EWMA, HAR = "EWMA, half-life 5 days", "HAR for the open"
SHARE = 0.002
"""Of the live filters, as `HedgeFit.go_live` has it."""

WHAT = (
    "Noise from the first days, once; then the filter runs on. Sets: A, five-minute bars of 45 pairs, "
    "206 days, 40 of them for training; B, one-minute bars of 19 pairs, 31 days, 10 for training. "
    "Lead over OLS on the changes of as many days, in points of variance removed, whose first row is "
    "the share removed; errors by resampling whole days, all pairs together. open30: moves from 5 (or "
    "1) to 30 minutes after the open; hold30: that time as one move; rest: the moves after it; night: "
    "the last bar to the next opening print. Bands are those of 90 %, scores the log density a bar. "
    "Blocks are weeks of two training days and three that are judged. Jumps: on 15 % of the days a "
    "jump of the ratio by so many sd ratios is added to real prices, for the day."
)


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks opening", description=__doc__)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=tuple(SETS))
    parser.add_argument("--every", type=int, default=1, help="take every so manieth pair of a set")
    parser.add_argument("--train", type=int, help="training days of a set, instead of its own")
    parser.add_argument("--blocks", type=int, default=10, help="weeks of every set, evenly spaced")
    parser.add_argument("--size", type=float, default=0.5, help="of a jump, in sd ratios")
    parser.add_argument("--simulated-days", type=int, default=42, help="of every simulated pair")
    parser.add_argument("--seed", type=int, default=0, help="of the first simulated pair")
    options = parser.parse_args(arguments)
    tables, remarks = list[Table](), list[str]()
    for part in options.parts:
        if part == "simulated":
            how = options.simulated_days, options.seed
            tables += [simulated(worth, *how) for worth in NIGHT_WORTH]
            continue
        for name in options.sets if part != "week" else [""]:
            try:
                tables += _OF_PART[part](name, options)
            except MissingTableError as error:
                remarks.append(f"{part} {name}: left out, {error}")
    every = set(options.parts) == set(PARTS)
    part = "" if every else "_".join(options.parts)
    return Report(f"The open{f': {part}' * bool(part)}", WHAT, tables, remarks, part=part)


def whole(name: str, options: argparse.Namespace) -> list[Table]:
    """All days of a set."""
    prices, pairs, burn = _chosen(name, options)
    minutes = SETS[name].minutes
    days = Days.of(prices, pairs, minutes=minutes, burn=burn)
    live = {
        MODEL: _follow(prices, pairs, days, default_model),
        TODAY: _follow(prices, pairs, days, open_days.today, transform="log"),
    }
    ratios = _static(days) | {
        label: np.stack([one.ratio for one in each], -1) for label, each in live.items()
    }
    base = _ols(burn)
    title = f"set {name}, {len(pairs)} pairs, {burn} of {len(days.y)} days for training"
    found = [Table(title, _index(open_days.compare(days, ratios, base)))]
    market = open_days.is_market(pairs)
    for label, which in (("market hedges", market), ("others", ~market)):
        if which.any():
            part = open_days.compare(days, ratios, base, pairs=which)
            found.append(Table(f"{title}: {which.sum()} {label}", _index(part)))
    return [*found, Table(f"{title}: bands and scores", _index(open_days.tell_bands(days, live)))]


def blocks(name: str, options: argparse.Namespace) -> list[Table]:
    """Weeks of two training days and three that are judged."""
    prices, pairs, _ = _chosen(name, options)
    minutes, index = SETS[name].minutes, pd.DatetimeIndex(prices.index)
    number = pd.factorize(index.normalize())[0]
    weeks = (number.max() + 1) // 5
    rows = []
    for week in np.unique(
        np.linspace(0, weeks - 1, min(options.blocks, weeks)).round().astype(int)
    ):
        part = prices[(number >= 5 * week) & (number < 5 * week + 5)]
        days = Days.of(part, pairs, minutes=minutes, burn=2)
        live = _follow(part, pairs, days, default_model)
        ratios = {
            "OLS 2 days": open_days.least_squares(days, 2),
            MODEL: np.stack([one.ratio for one in live], -1),
        }
        row = {"week": week}
        for window in ("open30", "rest"):
            left = {k: days.squares(one, window)[2:].sum(0) for k, one in ratios.items()}
            alone = days.squares(0 * ratios[MODEL], window)[2:].sum(0)
            row[window] = 100 * ((left["OLS 2 days"] - left[MODEL]) / alone).mean()
        rows.append(row)
    table = pd.DataFrame(rows)
    title = (
        f"set {name}, {len(pairs)} pairs, {len(table)} weeks: lead over OLS of two days, in points"
    )
    leads = table[["open30", "rest"]]
    told = pd.DataFrame(
        {"mean": leads.mean(), "se": leads.std() / np.sqrt(len(leads)), "worst": leads.min()}
    )
    return [Table(title, _index(told)), Table(f"{title}, week by week", table)]


def jumps(name: str, options: argparse.Namespace) -> list[Table]:
    """A jump of the ratio on 15 % of the days of each pair, for the day."""
    prices, pairs, burn = _chosen(name, options)
    minutes = SETS[name].minutes
    plain = Days.of(prices, pairs, minutes=minutes, burn=burn)
    random = np.random.default_rng(5)
    shape = len(plain.y), len(pairs)
    hit = random.random(shape) < 0.15
    hit[:burn] = False
    sizes = hit * random.choice([-1.0, 1.0], shape) * options.size * plain.sd_ratio
    days = Days.of(prices, pairs, minutes=minutes, burn=burn, jumps=sizes)
    live = {
        MODEL: _follow(prices, pairs, days, default_model),
        PLAIN: _follow(prices, pairs, days, open_days.without_deviation),
    }
    ratios = _static(days) | {
        label: np.stack([one.ratio for one in each], -1) for label, each in live.items()
    }
    title = f"set {name}, {len(pairs)} pairs, jumps of {options.size:g} sd ratios"
    short = min(20, burn)
    return [
        Table(f"{title}: {label}", _index(open_days.compare(days, ratios, _ols(short), on=on)))
        for label, on in (("the days with one", hit), ("all others", ~hit))
    ]


def week(_: str, options: argparse.Namespace) -> list[Table]:
    """One week of real one-minute prices, two days of it for training, by the live filter itself."""
    prices = read_table("intraday_us_1min_2019-02.csv.gz").tz_localize("America/New_York")
    found = [real(prices, pair, 2) for pair in WEEK_PAIRS]
    every = pd.concat([part.rows for part in found])
    mean = every.groupby(["period", "method"], sort=False)[SHOWN].mean()
    shown = mean[["removed", "gain", "covered"]].reset_index()
    return [Table(f"mean over {len(found)} real pairs", shown), *found]


_OF_PART: dict[str, Callable[[str, argparse.Namespace], list[Table]]] = {
    "days": whole,
    "blocks": blocks,
    "jumps": jumps,
    "week": week,
}


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


def _chosen(name: str, options: argparse.Namespace) -> tuple[pd.DataFrame, Sequence[str], int]:
    """Prices, pairs and training days of a set."""
    source = SETS[name]
    return read_set(name), source.pairs[:: options.every], options.train or source.burn


def _follow(
    prices: pd.DataFrame,
    pairs: Sequence[str],
    days: Days,
    model: Callable[[Any], Any],
    transform: str = "return",
) -> list[Followed]:
    """The live filter of every pair; says on stderr which is done, as it takes long."""
    clock, found = open_days.clock_of(days.minutes), list[Followed]()
    for number, pair in enumerate(pairs):
        how = {"transform": transform, "share": SHARE}
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # splits and jumps of these months are real
            found.append(follow_days(prices, pair, days, number, clock, model, **how)[0])
        print(f"{pair} ({number + 1} of {len(pairs)})", file=sys.stderr, flush=True)
    return found


def _ols(window: int) -> str:
    return f"OLS on changes, {window} days"


def _static(days: Days) -> dict[str, np.ndarray]:
    """The ratios of others."""
    windows = sorted({days.burn, min(20, days.burn)}, reverse=True)
    return {_ols(window): open_days.least_squares(days, window) for window in windows} | {
        EWMA: open_days.exponential(days, 5),
        HAR: open_days.heterogeneous(days),
        f"OLS on levels, {min(20, days.burn)} days": open_days.on_levels(days, min(20, days.burn)),
    }


def _index(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename_axis("of").reset_index()
