"""One hedge a day, on several time scales or one: `python -m tests.benchmarks daily [SAMPLE [PAIRS]]`.

Ratios known at the close of a day are held over the next, on daily log moves without an intercept. VR
is the share of a target's variance that its hedge removes out of sample, the mean over pairs; LS the
log score of its move given the hedge's, nats a day in units of its sd in training; `inside` are shares
of moves in the central 50, 90 and 99 % of their forecasts. Differences are paired with the reference,
their standard errors from circular blocks of 20 days with all pairs moved together. The noise is
inferred from an expanding window and again every 400 days; the live filters learn in between, as they
would at a desk.

`SAMPLE` is 28, etf, ctry or sp, `PAIRS` how many of the last three; `--first N` takes the first pairs
only, `--only WORD ...` the rows whose names hold one of the words. `--intervals SERIES` measures
instead what 90 % intervals of a simulated ratio and its memory hold under stochastic volatility.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from scipy.stats import t as student

from kfmodels import (
    Anchored,
    Discounted,
    HedgeData,
    ImportanceSampling,
    Scales,
    fit_many,
    hedge_ratio_model,
)
from kfmodels.data.arrays import resample_blocks
from kfmodels.evaluate.baselines import ewma_ols, mean_ewma, rolling_ols
from kfmodels.evaluate.garch import dcc_garch
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.online.blocks import When
from tests.benchmarks import intervals
from tests.benchmarks.report import Report, Table
from tests.benchmarks.universe import clean_stocks
from tests.tables import read_table

FUNDS = "SPY/EPP VPL/XLF XLU/EWQ EWQ/EWG XLE/XLK DIA/EEM DIA/EWJ VPL/EPP XLF/EWQ CSJ/EFA TLT/VPL"
FUNDS += " EPP/XLB EPP/FXI EWG/DIA"
COUNTRIES = "EWD/NORW NGE/EWW IDX/EPU EWK/EWW EWU/GXG GREK/EWW PGAL/EIS KSA/EWM EPHE/UAE EWU/NGE"
COUNTRIES += " EWZ/EWD ENZL/GREK EWD/EIS UAE/EZA"
"""The 28 pairs, drawn at random once."""

RESAMPLES, BLOCK, EVERY, DRAW = 300, 20, 400, 11

REFERENCE, SEVEN, ANCHORED = "EWMA .98", "mean of 7 EWMAs", "scales, Anchored"

SHARES = ("in 50", "in 90", "in 99")

NEXT = When(1.0, None, None)
"""The day after."""

WHAT = __doc__.split("\n\n", 2)[1].replace("\n", " ")


class Sample(NamedTuple):
    """Pairs of the columns of `prices`, and days of training."""

    name: str
    prices: pd.DataFrame
    pairs: list[tuple[str, str]]
    training: int

    @property
    def moves(self) -> pd.DataFrame:
        """Daily log moves of all columns."""
        return np.log(self.prices).diff().iloc[1:]

    def legs(self) -> tuple[np.ndarray, np.ndarray]:
        """Moves of every pair's target and hedge, `(day, pair)`."""
        target, hedge = zip(*self.pairs, strict=True)
        return self.moves[list(target)].to_numpy(), self.moves[list(hedge)].to_numpy()


class Held(NamedTuple):
    """Ratios known before each day `(day, pair)`, log scores and probabilities of the forecast."""

    ratio: np.ndarray
    score: np.ndarray | None = None
    below: np.ndarray | None = None


def samples(kind: str, count: int) -> Iterator[Sample]:
    """The pairs of a sample; the 28 are of two tables."""
    funds = read_table("etf23_close_2008_2016.csv.gz")
    countries = read_table("country_etf45_close_2016_2021.csv.gz")
    if kind == "28":
        for name, table, words, training in (
            ("funds", funds, FUNDS, 750),
            ("countries", countries, COUNTRIES, 500),
        ):
            listed = [tuple(word.split("/")) for word in words.split()]
            yield Sample(name, table, [(y, x) for y, x in listed], training)
        return
    if kind == "sp":
        stocks = clean_stocks()
        alike = np.corrcoef(np.diff(np.log(stocks.to_numpy()), axis=0)[:500].T)
        np.fill_diagonal(alike, -1)
        nearest = alike.argmax(1)
        every = [(y, stocks.columns[x]) for y, x in zip(stocks.columns, nearest, strict=True)]
        prices, training = stocks, 500
    else:
        prices, training = (funds, 750) if kind == "etf" else (countries, 500)
        if kind == "ctry":  # days on which no market was open
            open_ = np.r_[True, (np.diff(prices.to_numpy(), axis=0) != 0).any(1)]
            prices, training = prices[open_], int(open_[1:501].sum())
        every = [(y, x) for y in prices.columns for x in prices.columns if y != x]
    drawn = np.random.default_rng(DRAW).choice(len(every), min(count, len(every)), replace=False)
    yield Sample(kind, prices, [every[k] for k in sorted(drawn)], training)


# -- who hedges ------------------------------------------------------------------------------------


def by_pair(sample: Sample, rule: Callable[[pd.DataFrame], pd.DataFrame]) -> Held:
    """Ratios of a rule on a table of two columns of moves, known a day before they are held."""
    moves = sample.moves
    each = [rule(moves[[y, x]]).shift(1).to_numpy()[:, 0] for y, x in sample.pairs]
    return Held(np.stack(each, 1))


def static(sample: Sample) -> Held:
    """Least squares on the training rows."""
    y, x = (leg[: sample.training - 1] for leg in sample.legs())
    y, x = y - y.mean(0), x - x.mean(0)
    ratio = (x * y).sum(0) / (x * x).sum(0)
    return Held(np.broadcast_to(ratio, sample.legs()[0].shape))


def filters(sample: Sample, model: HedgeRatioModel, transform: str = "return") -> Held:
    """The live filters of a board, made anew every `EVERY` days from all days before."""
    days, many = sample.legs()[0].shape
    found = Held(*(np.full((days, many), np.nan) for _ in range(3)))
    pairs = HedgeData.pairs(sample.prices, sample.pairs, transform=transform)
    for first in range(sample.training, days, EVERY):
        before = pairs.before(sample.prices.index[first + 1])
        board = fit_many(before, model, method=ImportanceSampling(), progress=False)
        _run_live(board.online(), sample, range(first, min(first + EVERY, days)), found)
    return found


def _run_live(engine: Any, sample: Sample, days: range, found: Held) -> None:
    """Fill in what the filters of a board say of these days, of which none is known to them."""
    places = {"/".join(pair): place for place, pair in enumerate(sample.pairs)}
    columns = {name: place for place, name in enumerate(sample.prices.columns)}
    legs = [[columns[leg] for leg in legs] for legs in engine.pairs]
    table, where = sample.prices.to_numpy(), [places[name] for name in engine.names]
    for day in days:
        now, last = table[day + 1], table[day]
        for number, (y, x) in enumerate(legs):
            seen = engine.foresee(NEXT, number, now[[y, x]])
            # the ratio is the slope of the forecast, over a move of one per cent
            moved = np.array([now[y], 1.01 * last[x]]), np.array([now[y], last[x]])
            ahead, flat = (engine.foresee(NEXT, number, one) for one in moved)
            run = np.diff([engine.legs.transform.values(one[1], last[x]) for one in moved])
            found.ratio[day, where[number]] = ((ahead.spread - flat.spread) / run).item()
            found.below[day, where[number]] = seen.weights @ probability_below(seen)
        tick = engine.update(dict(zip(sample.prices.columns, now, strict=True)))
        found.score[day, where] = tick.log_score


def probability_below(seen: Any) -> np.ndarray:
    """Probability of an innovation below that of a row, under every draw."""
    return student.cdf(seen.error / np.sqrt(seen.squared), 1e9 if seen.dof is None else seen.dof)


def ceiling(sample: Sample, model: HedgeRatioModel) -> Held:
    """The smoother given all days but the one that is hedged, under the posterior mean of all days."""
    pairs = HedgeData.pairs(sample.prices, sample.pairs, transform="return")
    board = fit_many(pairs, model, progress=False)
    names, arrays = board.fitted(model.parameters, None)
    places = {"/".join(pair): place for place, pair in enumerate(sample.pairs)}
    found = np.full(sample.legs()[0].shape, np.nan)
    for number, name in enumerate(names):
        with jax.enable_x64(True):
            inputs = model.inputs(pairs.data(name))
            sites = {site: array[number, -1:] for site, array in arrays.items()}
            law, y = model.regression(inputs, **sites), np.asarray(inputs.y)
            smoothed, passed = jax.device_get((law.smooth(y), law.filter(y)))
        design = np.asarray(law.design)
        mean = (design * smoothed.mean[0]).sum(-1)
        var = np.einsum("ti,tij,tj->t", design, smoothed.cov[0], design)
        v = passed.obs_var[0]
        # the day's own word taken out of what all days say of x times the ratio
        with np.errstate(divide="ignore", invalid="ignore"):
            without = (mean / var - y / v) / (1 / var - 1 / v) / np.asarray(inputs.design)[:, 0]
            plain = smoothed.mean[0].sum(-1)
        ratio = np.where(np.isfinite(without), without, plain) / np.asarray(inputs.scales)[0]
        found[-len(ratio) :, places[name]] = ratio
    return Held(found)


# -- how well --------------------------------------------------------------------------------------


class Contest:
    """What the methods did on some samples; differences are paired with a reference."""

    def __init__(self, every: Sequence[Sample]) -> None:
        self.every, self.found = every, dict[str, list[Held]]()

    def rows(self) -> pd.DataFrame:
        """A row per method."""
        many = {name: self._of(held) for name, held in self.found.items()}
        reference = many[REFERENCE]
        scored = [name for name, one in many.items() if one["scores"] is not None]
        rows = []
        for name, (removed, drawn, scores, drawn_scores, inside, turnover) in (
            (name, one.values()) for name, one in many.items()
        ):
            row: dict[str, Any] = {"method": name, "VR": removed.mean()}
            row["lead"] = (removed - reference["removed"]).mean()
            row["se"] = (drawn - reference["drawn"]).std()
            row["won"] = (removed > reference["removed"]).mean()
            row["turnover"] = turnover
            if scores is not None:
                row["LS"] = scores.mean()
                behind = many[scored[0]]
                row["LS lead"] = (scores - behind["scores"]).mean()
                row["LS se"] = (drawn_scores - behind["drawn_scores"]).std()
                row |= dict(zip(SHARES, inside, strict=True))
            rows.append(row)
        return pd.DataFrame(rows)

    def _of(self, held: list[Held]) -> dict[str, Any]:
        """Figures by pair, and the mean over pairs of every resampling of days."""
        both = zip(self.every, held, strict=True)
        each = [self._in(sample, one, seed) for seed, (sample, one) in enumerate(both)]
        joined: dict[str, Any] = {}
        for word in ("removed", "drawn", "scores", "drawn_scores", "below", "turnover"):
            parts = [one[word] for one in each]
            joined[word] = None if parts[0] is None else np.concatenate(parts, -1)
        inside = None
        if joined["below"] is not None:
            away = np.abs(joined["below"] - 0.5)
            inside = [float((away < share / 2).mean()) for share in (0.5, 0.9, 0.99)]
        scored = joined["scores"] is not None
        return {
            "removed": joined["removed"],
            "drawn": joined["drawn"].mean(1),
            "scores": joined["scores"],
            "drawn_scores": joined["drawn_scores"].mean(1) if scored else None,
            "inside": inside,
            "turnover": float(joined["turnover"].mean()),
        }

    def _in(self, sample: Sample, held: Held, seed: int) -> dict[str, Any]:
        """The same of one sample: `(pair,)` and `(resampling, pair)`."""
        start = sample.training
        y, x = (leg[start:] for leg in sample.legs())
        picked = resample_blocks(len(y), RESAMPLES, block=BLOCK, seed=seed)
        counts = np.stack([np.bincount(one, minlength=len(y)) for one in picked]) / len(y)

        def var(values: np.ndarray) -> np.ndarray:
            return counts @ values**2 - (counts @ values) ** 2

        left = y - held.ratio[start:] * x
        found: dict[str, Any] = {
            "removed": 1 - left.var(0) / y.var(0),
            "drawn": 1 - var(left) / var(y),
            "turnover": 252 * np.abs(np.diff(held.ratio[start:], axis=0)).mean(0),
            "scores": None,
            "drawn_scores": None,
            "below": None,
        }
        if held.score is not None:
            score = held.score[start:] + np.log(sample.legs()[0][:start].std(0))
            found |= {"scores": score.mean(0), "drawn_scores": counts @ score}
        if held.below is not None:
            found["below"] = held.below[start:].ravel()
        return found


def models() -> dict[str, HedgeRatioModel]:
    """By the names of their rows."""
    return {
        "random walk, Discounted": hedge_ratio_model(noise=Discounted(), intercept="none"),
        "random walk, Anchored": hedge_ratio_model(noise=Anchored(), intercept="none"),
        "scales, Discounted": hedge_ratio_model(
            noise=Discounted(), drift=Scales(), intercept="none"
        ),
        ANCHORED: hedge_ratio_model(noise=Anchored(), drift=Scales(), intercept="none"),
    }


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks daily", description=__doc__)
    parser.add_argument("sample", nargs="?", default="28", choices=["28", "etf", "ctry", "sp"])
    parser.add_argument("pairs", nargs="?", type=int, default=80)
    parser.add_argument("--first", type=int, help="only so many pairs of each table")
    parser.add_argument("--only", nargs="*", default=[], help="rows whose names hold one of these")
    parser.add_argument("--intervals", type=int, nargs="?", const=1000, help="simulated series")
    options = parser.parse_args(arguments)
    if options.intervals:
        return intervals.measure(options.intervals)
    every = list(samples(options.sample, options.pairs))
    every = [one._replace(pairs=one.pairs[: options.first]) for one in every]
    contest = Contest(every)

    def take(name: str, method: Callable[[Sample], Held], needed: bool = False) -> None:
        if needed or not options.only or any(word in name for word in options.only):
            begun = time.process_time()
            contest.found[name] = [method(one) for one in every]
            print(f"{name}: {time.process_time() - begun:.0f} s of CPU", file=sys.stderr)
            if name != REFERENCE:
                print(contest.rows().tail(1).to_string(), file=sys.stderr, flush=True)

    take(REFERENCE, lambda one: by_pair(one, lambda table: ewma_ols(table, 0.98)), needed=True)
    take("static OLS", static)
    for window in (60, 120, 252):
        take(f"rolling {window}", lambda one, w=window: by_pair(one, lambda t: rolling_ols(t, w)))
    for decay in (0.94, 0.97, 0.99, 0.995):
        name = f"EWMA {decay:g}".replace("0.", ".")
        take(name, lambda one, d=decay: by_pair(one, lambda table: ewma_ols(table, d)))
    take(SEVEN, lambda one: by_pair(one, mean_ewma))
    take("DCC-GARCH-t", lambda one: by_pair(one, lambda t: dcc_garch(t, one.training - 1)))
    walks = {"level that walks, Discounted": (hedge_ratio_model(noise=Discounted()), "log")}
    walks |= {name: (model, "return") for name, model in models().items()}
    for name, (model, transform) in walks.items():
        take(name, lambda one, m=model, t=transform: filters(one, m, t))
    for name in [name for name in walks if name in contest.found]:
        if SEVEN not in contest.found:
            take(SEVEN, lambda one: by_pair(one, mean_ewma), needed=True)
        both = zip(contest.found[name], contest.found[SEVEN], strict=True)
        half = [Held((mine.ratio + other.ratio) / 2) for mine, other in both]
        contest.found[f"{name}, half of the 7"] = half
    take("ceiling: smoother without today", lambda one: ceiling(one, models()[ANCHORED]))
    title = f"{sum(len(one.pairs) for one in every)} pairs, {options.sample}"
    rows = contest.rows().round({"won": 2, "turnover": 1} | dict.fromkeys(SHARES, 3)).round(4)
    part = "" if options.sample == "28" else options.sample
    return Report("One hedge a day", WHAT, [Table(title, rows)], part=part)
