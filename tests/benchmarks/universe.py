"""The hedge of a whole universe against its peers: `python -m tests.benchmarks universe`.

Ratios known at the close of a day are held over the next. VR is the share of a target's variance that
its hedge removes out of sample, the mean over targets; LS the log score of the target's move given its
hedges' moves, nats a day in units of its sd in training, without the first 40 days. Differences are
paired with the reference, their standard errors from circular blocks of 20 days with all targets moved
together. Turnover is a year's, gross money in hedges for one in the target, ms the CPU time of a day.

Rows of scikit-learn are left out where it is not installed. `--within-day A B` takes bars of five
minutes and of one instead, and is kept beside them. `--draw SEED` takes 100 stocks at random
instead of the three universes, and is kept beside them; with it, or with `--only`, the time by number
of assets is left out.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kfmodels.basket.basket import Basket
from kfmodels.data.arrays import resample_blocks
from kfmodels.kalman.density import log_student
from kfmodels.online.ticks import Outcome
from tests.benchmarks import universe_day
from tests.benchmarks.report import Report, Table, numbered
from tests.benchmarks.universe_peers import Rule, peers
from tests.tables import read_table

STOCKS = """
AAL AEE AES AGN AMP ANSS ATVI BIIB BRK.B CAH CAT CB CHTR CMI CTAS CTL D DHI DOV DUK EA ED EIX FFIV GILD
GPC GWW HD IDXX INCY INTC KEY LEN LMT M MMC MMM MOS NBL NFLX NKE OKE PCLN PDCO PNR RCL RE SJM SO TMK
TRIP TXT UAA UNM USB VNO VZ WHR ZBH ZTS
"""
"""Drawn at random once, before any setting was looked at on them."""

GUARDED = "the same, prices guarded"

RESAMPLES, BLOCK, YEAR, BURN_IN = 400, 20, 252, 40

WHAT = (
    "Ratios known at the close of a day are held over the next, out of sample; daily log moves. VR: "
    "share of a target's variance that its hedge removes, the mean over targets. LS: log score of "
    "the target's move given its hedges' moves, nats a day in units of its sd in training. "
    "`behind`: the lead of the universe mixture, with the standard error of the paired difference "
    "from blocks of 20 days with all targets moved together. `No price in doubt`: over the days on "
    "which the guard neither held a price back nor took one that it had held; on the funds most of the "
    "others lie near the end of a quarter, where VGK or VPL moves alone, as by a dividend that its "
    "price lacks. Turnover is a year's, gross is money in hedges for one in the target, ms the CPU "
    "time of a day. A baseline's density is a t with 6 "
    "degrees of freedom and the mean square of its hedged moves."
)


class Universe(NamedTuple):
    """Daily log moves `(time, asset)`, of which the first `training` are not scored."""

    name: str
    tickers: tuple[str, ...]
    moves: np.ndarray
    training: int

    @property
    def later(self) -> np.ndarray:
        """The moves that are scored."""
        return self.moves[self.training :]

    @property
    def prices(self) -> np.ndarray:
        """From 100 on, with one row more than there are moves."""
        start = np.zeros((1, len(self.tickers)))
        return 100 * np.exp(np.vstack([start, np.cumsum(self.moves, 0)]))


class Held(NamedTuple):
    """Ratios `(day, target, asset)`, what they left of every target's move, its log scores `(day,
    target)`, and habits.

    `inside` is the share of moves in its bands of 50, 90 and 99 %, where it has any; `doubted` says on
    which days a price was held back or taken after it was, `(day,)`, for a mixture with a guard.
    """

    ratios: np.ndarray
    hedged: np.ndarray
    scores: np.ndarray
    turnover: float
    gross: float
    milliseconds: float
    inside: tuple[float, ...] = ()
    doubted: np.ndarray = np.zeros(0, bool)


def universes() -> Iterator[Universe]:
    """23 funds, 45 countries without days on which none moved, 60 stocks."""
    funds = read_table("etf23_close_2008_2016.csv.gz")
    yield _universe("23 funds", funds, 750)
    countries = read_table("country_etf45_close_2016_2021.csv.gz")
    yield _universe("45 countries", countries, 500)
    yield _universe("60 stocks", clean_stocks()[STOCKS.split()], 500)


def clean_stocks() -> pd.DataFrame:
    """Stocks without gaps or a move above 30 %, with labelled bad prints replaced."""
    prices = read_table("sp500_all_stocks_5yr_close.csv.gz")
    prices = prices.loc[:, prices.notna().all()].copy()
    for print_ in read_table("sp500_all_stocks_5yr_badprints.csv").itertuples():
        if print_.symbol in prices:
            prices.loc[print_.Index, print_.symbol] = print_.yahoo_close_same_basis
    moves = np.log(prices).diff().abs()
    return prices.loc[:, ~(moves >= 0.3).any()]


def _universe(name: str, prices: pd.DataFrame, training: int) -> Universe:
    moves = np.diff(np.log(prices.to_numpy()), axis=0)
    open_ = (moves != 0).any(1)
    return Universe(name, tuple(map(str, prices)), moves[open_], int(open_[:training].sum()))


def from_rule(universe: Universe, rule: Rule, every: int = 1) -> Held:
    """A rule that looks at all moves before a day, every so many days.

    Its density is a t with 6 degrees of freedom and the mean square of its hedged moves, memory 33.
    """
    moves, training = universe.moves, universe.training
    held, spent = [], 0.0
    for day in range(training, len(moves)):
        start = time.process_time()
        fresh = day == training or day % every == 0
        held.append(rule(moves[:day]) if fresh else held[-1])
        spent += time.process_time() - start
    ratios = np.array(held)
    hedged = universe.later - np.einsum("tij,tj->ti", ratios, universe.later)
    variance, scores = 0.4 * (moves[training - 60 : training] ** 2).mean(0), []
    for row in hedged:
        scores.append(log_student(row, variance * 4 / 6, 6.0, np.log))
        variance = 0.97 * variance + 0.03 * row**2
    return _held(universe, ratios, np.array(scores), spent)


def from_basket(universe: Universe, prices: np.ndarray | None = None, **settings: Any) -> Held:
    """The mixture, taught the `prices` given (default: those of the universe)."""
    prices = universe.prices if prices is None else prices
    basket = Basket(universe.tickers, **settings)
    held, scores, below, doubted, spent = [], [], [], [], 0.0
    for day, row in enumerate(prices):
        given = dict(zip(universe.tickers, row.tolist(), strict=True))
        if day > universe.training:
            forecast = basket.forecast(given)
            scores.append(forecast.log_density(universe.moves[day - 1]))
            below.append(forecast.below(universe.moves[day - 1]))
        start = time.process_time()
        tick = basket.update(given)
        if day >= universe.training:
            held.append(basket.ratios())
            spent += time.process_time() - start
            doubted.append(any(outcome is not Outcome.SKIPPED for outcome, _ in tick.said.values()))
    away = np.abs(np.array(below) - 0.5)
    inside = tuple(float((away < level / 2).mean()) for level in (0.5, 0.9, 0.99))
    ratios = np.nan_to_num(np.array(held[:-1]))
    found = _held(universe, ratios, np.array(scores), spent)
    return found._replace(inside=inside, doubted=np.array(doubted[1:]))


def traded(universe: Universe, held: Held, every: int) -> Held:
    """The same, each ratio held for so many days."""
    days = np.arange(len(held.ratios))
    seldom = _held(universe, held.ratios[days - days % every], held.scores, 0.0)
    return seldom._replace(scores=held.scores, milliseconds=held.milliseconds, inside=held.inside)


def _held(universe: Universe, ratios: np.ndarray, scores: np.ndarray, spent: float) -> Held:
    hedged = universe.later - np.einsum("tij,tj->ti", ratios, universe.later)
    days, unit = len(hedged), universe.moves[: universe.training].std(0)
    turnover = YEAR * np.abs(np.diff(ratios, axis=0)).sum(2).mean()
    gross = np.abs(ratios).sum(2).mean()
    habits = float(turnover), float(gross), 1e3 * spent / days
    return Held(ratios, hedged, scores + np.log(unit), *habits)


def spoil(prices: np.ndarray, seed: int = 1) -> np.ndarray:
    """1 % of prices missing, 1 % wrong by 5 to 50 %, and a split in the middle."""
    rng = np.random.default_rng(seed)
    wrong = np.exp(rng.choice([-1, 1], prices.shape) * rng.uniform(0.05, 0.5, prices.shape))
    spoilt = np.where(rng.random(prices.shape) < 0.01, prices * wrong, prices)
    spoilt[len(prices) // 2 :, 3] /= 2
    return np.where(rng.random(prices.shape) < 0.01, np.nan, spoilt)


def methods(universe: Universe) -> Iterator[tuple[str, Held]]:
    """Every method with what it held."""
    for name, (rule, every) in peers().items():
        yield name, from_rule(universe, rule, every)
    for legs in (3, 5, 10):
        yield f"mixture, at most {legs} legs", from_basket(universe, legs=legs, shocks=None)
    mixture = from_basket(universe, shocks=None)
    yield "universe mixture", mixture
    yield "the same, traded weekly", traded(universe, mixture, 5)
    yield GUARDED, from_basket(universe)
    yield "guarded, spoilt prices", from_basket(universe, spoil(universe.prices))


def table(universe: Universe, reference: str = "universe mixture") -> pd.DataFrame:
    """A line a method; differences are the reference's lead over it."""
    held = dict(methods(universe))
    days, best = len(universe.later), held[reference]
    rows = resample_blocks(days, RESAMPLES, block=BLOCK)
    counts = np.array([np.bincount(row, minlength=days) for row in rows]) / days

    def removed(hedged: np.ndarray, weights: np.ndarray) -> np.ndarray:
        def variance(values: np.ndarray) -> np.ndarray:
            return weights @ values**2 - (weights @ values) ** 2

        return (1 - variance(hedged) / variance(universe.later)).mean(-1)

    even, calm = np.full((1, days), 1 / days), ~held[GUARDED].doubted[None]

    def line(name: str, one: Held) -> dict[str, Any]:
        lead = removed(best.hedged, counts) - removed(one.hedged, counts)
        gain = (best.scores - one.scores)[BURN_IN:].mean(1)
        weights = counts[:, BURN_IN:] / counts[:, BURN_IN:].sum(1, keepdims=True)
        spoilt = "spoilt" in name
        return {
            "method": name,
            "VR": removed(one.hedged, even)[0],
            "VR behind": (removed(best.hedged, even) - removed(one.hedged, even))[0],
            "VR +-": lead.std(),
            "VR, no price in doubt": removed(one.hedged, calm / calm.sum())[0],
            "LS": np.nan if spoilt else one.scores[BURN_IN:].mean(),
            "LS behind": np.nan if spoilt else gain.mean(),
            "LS +-": np.nan if spoilt else (weights @ gain).std(),
            "turnover": one.turnover,
            "gross": one.gross,
            "ms": one.milliseconds,
            "in 50/90/99 %": "" if spoilt else "/".join(f"{100 * s:.1f}" for s in one.inside),
        }

    return pd.DataFrame([line(*each) for each in held.items()]).set_index("method")


def growth(sizes: tuple[int, ...] = (45, 120, 450)) -> pd.DataFrame:
    """CPU time of a row, ratios worked out, by number of assets; mean of 21 rows."""
    rng, lines = np.random.default_rng(0), []
    for assets in sizes:
        moves = rng.standard_normal((275, 3)) @ rng.normal(0.7, 0.3, (3, assets))
        moves = 0.01 * (moves + rng.standard_normal(moves.shape))
        tickers = [str(number) for number in range(assets)]
        basket, spent = Basket(tickers), []
        for row in 100 * np.exp(np.cumsum(moves, 0)):
            start = time.process_time()
            basket.update(dict(zip(tickers, row.tolist(), strict=True)))
            basket.ratios()
            spent.append(time.process_time() - start)
        milliseconds = 1e3 * float(np.mean(spent[-21:]))
        lines.append({"assets": assets, "experts": basket.draws, "ms a row": milliseconds})
    return pd.DataFrame(lines).set_index("assets")


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks universe", description=__doc__
    )
    parser.add_argument(
        "--only", default="", metavar="WORD", help="universes with it in their name"
    )
    parser.add_argument("--draw", type=int, metavar="SEED", help="100 stocks at random instead")
    parser.add_argument(
        "--within-day", choices=sorted(universe_day.SETS), nargs="+", help="sets of bars instead"
    )
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of the peers, about convergence
    if options.within_day:
        found = [Table(*universe_day.table(name)) for name in options.within_day]
        title = "A universe within the day"
        return Report(title, universe_day.WHAT, found, part="day")
    several = universes()
    if options.draw is not None:
        stocks = clean_stocks()
        chosen = np.random.default_rng(options.draw).choice(stocks.shape[1], 100, replace=False)
        several = iter([_universe("100 stocks", stocks.iloc[:, np.sort(chosen)], 500)])
    tables = []
    for universe in several:
        if options.only in universe.name:
            title = f"{universe.name}, {len(universe.later)} days after {universe.training}"
            tables.append(Table(title, numbered(table(universe), "method")))
            print(title, file=sys.stderr, flush=True)
    if options.draw is not None:
        return Report(f"A universe drawn at random, seed {options.draw}", WHAT, tables, part="draw")
    if not options.only:
        tables.append(Table("CPU time of a row", numbered(growth(), "assets")))
    return Report("The hedge of a whole universe", WHAT, tables)
