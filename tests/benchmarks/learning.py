"""What a live mixture learns when the noise changes: `python -m tests.benchmarks learning`.

Three questions to the draws of the posterior and of the grid, under a fixed share of the weights, under
a factor of forgetting on the log weights, and under neither. Where the memory of a simulated ratio
jumps: how soon is it found, and what is it worth? On 28 pairs of real daily prices, and on real
one-minute bars: what do log score and variance removed gain and lose?

A draw's state does not depend on the weights. Each pair is therefore filtered once, and every rule then
weighs the same log densities.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kfmodels import Discounted, HedgeData, fit_many, hedge_ratio_model
from kfmodels.batch.chunk import inputs_of
from kfmodels.data import datasets
from kfmodels.fitting.grid import COUNT, LEAST, MOST, WEIGHT, add_grid
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.motion import Walk
from kfmodels.kalman.noise import ConstantVariance
from kfmodels.kalman.step import State
from kfmodels.model.memory import memory_to_q
from kfmodels.online.board import OnlineBoard
from kfmodels.online.mixture import SHARE
from tests.benchmarks.report import Report, Table
from tests.tables import read_table

WHAT = (
    "Each draw of the noise has a weight. `grid` is as many draws with memories on a logarithmic grid "
    "beside the posterior's, a tenth of the weight; the fixed share is the part of the weights that "
    "every bar hands out as at the beginning; forgetting is a factor a bar on the log weights. "
    "Simulated: the memory of a ratio jumps, log score gained a bar after it over the draws of the "
    "posterior alone, bars until half of the series believe in a memory beyond the middle, and root "
    "mean squared error of the ratio. Real: log score a bar and variance removed, over the draws of "
    "the posterior with forgetting 0.997, with standard errors by blocks of 20 bars. `go_live` takes "
    "the grid from 12 bars with a share of 0.002."
)

JUMPS = ((100.0, 10.0), (10.0, 100.0), (30.0, 30.0), (10.0, 10.0), (100.0, 100.0))
BARS, JUMP = 2500, 1000
OWN, POSTERIOR_SD = 64, 0.35
"""Draws of the simulated posterior, log-normal about the old memory."""

FINEST = np.geomspace(3, MOST, 40)
"""The grid on real prices, of which a rule takes those above its floor."""


class Rule(NamedTuple):
    """How the draws are weighed: `start (draw,)` or `(pair, draw)`, 0 for those that it leaves out."""

    start: np.ndarray
    share: float = 0.0
    forgetting: float = 1.0


class Weighed:
    """The weights of the draws under one rule, `(pair, draw)`."""

    def __init__(self, rule: Rule, pairs: int) -> None:
        self.used, self.rule = np.flatnonzero(rule.start), rule
        self.start = np.broadcast_to(rule.start[self.used], (pairs, len(self.used)))
        self.weights = self.start

    def go_on(self) -> None:
        """A bar later, before its row."""
        if self.rule.forgetting < 1:
            self.weights = self.weights**self.rule.forgetting
            self.weights = self.weights / self.weights.sum(-1)[:, None]
        if self.rule.share:
            self.weights = (1 - self.rule.share) * self.weights + self.rule.share * self.start

    def learn(self, row: "Row") -> np.ndarray:
        """Log scores of a row, `(pair,)`."""
        joint = self.weights * row.likelihood[:, self.used]
        total = joint.sum(-1)
        # a draw that has lost all weight must be able to regain it
        self.weights = np.maximum(joint / total[:, None], 1e-300)
        return row.top + np.log(total)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over the draws, `(pair,)`."""
        return np.vecdot(self.weights, values[:, self.used])


class Row(NamedTuple):
    """Of one row: the likelihood of each draw over the largest, `(pair, draw)`, the log of the largest,
    and the inner first hedge ratio of each draw before the row."""

    likelihood: np.ndarray
    top: np.ndarray
    ratio: np.ndarray


def densities(board: OnlineBoard, rows: Sequence[Mapping[str, float]]) -> Iterator[Row]:
    """What every draw of a board says of each row, all alike where nothing is observed."""
    arguments: dict[str, Any] = board.arguments()
    arguments["share"] = 0.0
    live = OnlineBoard(**arguments)
    held = live.arguments()
    for row in rows:
        ratio = held["state"].mean[0]
        tick = live.update(row)
        after = live.arguments()
        scores = np.nan_to_num(tick.log_score)
        density = after["log_weights"] - held["log_weights"] + scores[:, None]
        top = density.max(-1)
        yield Row(np.exp(density - top[:, None]), top, ratio)
        held = after


# -- a memory that jumps ---------------------------------------------------------------------------


def simulated_board(pairs: int, memories: np.ndarray) -> OnlineBoard:
    """Filters of ratios that walk, known noise, draws of these memories."""
    draws, one = len(memories), np.ones((1, pairs, 1))
    return OnlineBoard(
        names=[f"{n}" for n in range(pairs)],
        targets=[f"Y{n}" for n in range(pairs)],
        hedges=[f"X{n}" for n in range(pairs)],
        transform="level",
        coordinates=Coordinates(np.zeros((pairs, 1)), np.ones((pairs, 1)), np.zeros(pairs), False),
        drift=Walk(memory_to_q(memories)[None, None, None]),
        noise=ConstantVariance(np.ones((1, 1))),
        state=State(one + np.zeros(draws), 0.05 * one[None] + np.zeros(draws)),
        carried=None,
        log_weights=np.full((pairs, draws), -np.log(draws)),
    )


def rules_after_a_jump(own: int, others: int) -> dict[str, Rule]:
    """Of draws of the old posterior, of the grid, and of the posterior of the new memory."""
    none = np.zeros(own + COUNT + others)
    old, both, new = none.copy(), none.copy(), none.copy()
    old[:own], new[own + COUNT :] = 1 / own, 1 / others
    both[:own], both[own : own + COUNT] = (1 - WEIGHT) / own, WEIGHT / COUNT
    return {
        "posterior": Rule(old),
        "posterior, forgetting 0.997": Rule(old, forgetting=0.997),
        "grid": Rule(both),
        "grid, forgetting 0.997": Rule(both, forgetting=0.997),
        "grid, share 0.0005": Rule(both, 0.0005),
        f"grid, share {SHARE}": Rule(both, SHARE),
        "grid, share 0.01": Rule(both, 0.01),
        "the new posterior, known": Rule(new),
    }


def after_a_jump(before: float, after: float, series: int = 400, seed: int = 1) -> pd.DataFrame:
    """What each rule gains after the memory of a ratio jumps, and when it has found it.

    By rule: `gain` in nats a bar over the posterior alone with its standard error over the series,
    `found`, bars until the median memory has passed the middle (NaN: never), and `rmse` of the ratio.
    """
    rng = np.random.default_rng(seed)
    speed = np.where(np.arange(BARS) < JUMP, memory_to_q(before), memory_to_q(after))
    x = rng.normal(size=(BARS, series))
    ratio = 1 + np.cumsum(np.sqrt(speed)[:, None] * rng.normal(size=(BARS, series)), 0)
    y = ratio * x + rng.normal(size=(BARS, series))
    # draws of equal weight, as a fit picks them
    even = np.array([NormalDist().inv_cdf((k + 0.5) / OWN) for k in range(OWN)])
    clouds = [np.exp(np.log(m) + POSTERIOR_SD * even) for m in (before, after)]
    memories = np.maximum(np.r_[clouds[0], np.geomspace(LEAST, MOST, COUNT), clouds[1]], 1.05)
    board, rules = simulated_board(series, memories), rules_after_a_jump(OWN, OWN)
    each = {name: Weighed(rule, series) for name, rule in rules.items()}
    scores = {name: np.zeros(series) for name in rules}
    errors, believed = dict.fromkeys(rules, 0.0), {name: np.zeros(BARS) for name in rules}
    logs = np.broadcast_to(np.log(memories), (series, len(memories)))
    names = [*board.targets, *(hedge for (hedge,) in board.hedges)]
    rows = [dict(zip(names, row, strict=True)) for row in np.hstack([y, x])]
    for t, row in enumerate(densities(board, rows)):
        for name, one in each.items():
            one.go_on()
            believed[name][t] = np.median(one.mean(logs))
            away = one.mean(row.ratio) - ratio[t]
            score = one.learn(row)
            if t >= JUMP:
                scores[name] += score / (BARS - JUMP)
                errors[name] += float((away**2).mean()) / (BARS - JUMP)
    found = {}
    for name in rules:
        lead = scores[name] - scores["posterior"]
        past = (believed[name][JUMP:] - 0.5 * np.log(before * after)) * (after - before) > 0
        bars = float(past.argmax()) if past.any() else np.nan
        se = lead.std() / np.sqrt(series)
        found[name] = lead.mean(), se, bars, np.sqrt(errors[name])
    return pd.DataFrame.from_dict(found, "index", columns=["gain", "se", "found", "rmse"])


# -- real prices -----------------------------------------------------------------------------------


def daily() -> list[Any]:
    """28 pairs, 14 each of US funds and of funds of countries: prices, pairs, training rows."""
    rng, found = np.random.default_rng(5), []
    tables = (datasets.etfs(), 750), (read_table("country_etf45_close_2016_2021.csv.gz"), 500)
    for prices, moves in tables:
        names = [tuple(rng.choice(list(prices.columns), 2, replace=False)) for _ in range(14)]
        found.append((prices, names, moves + 1))
    return found


def minutes() -> list[Any]:
    """One-minute bars, the nights left out: each name against the market."""
    found = []
    for file, market, names, days in (
        ("intraday_us_1min_2019-02.csv.gz", "SPY", ["QQQ", "MSFT", "AAPL", "JPM", "XLP"], 2),
        ("us_1min_2026-01-22_2026-03-06.csv.gz", "SPY", None, 15),
    ):
        table: Any = read_table(file)
        names = names or [name for name in table.columns if name != market]
        table = table[[market, *names]].ffill()
        logs: Any = np.log(table)
        moves = logs.diff()
        opens = table.index.normalize().to_numpy()
        moves[np.r_[True, opens[1:] != opens[:-1]]] = 0.0
        prices = 100 * np.exp(moves.cumsum())
        training = int((opens < np.unique(opens)[days]).sum())
        found.append((prices, [(name, market) for name in names], training))
    return found


def rules_on_prices(own: int, memories: np.ndarray) -> dict[str, Rule]:
    """Of the draws of the posterior, and of those of the grid above a floor."""

    def both(floor: float, weight: float = WEIGHT) -> np.ndarray:
        grid = 1.0 * (memories >= floor - 1e-9)
        return np.r_[np.full(own, (1 - weight) / own), weight * grid / grid.sum()]

    old = np.r_[np.full(own, 1 / own), 0 * memories]
    found = {
        "posterior, forgetting 0.997": Rule(old, forgetting=0.997),
        "posterior": Rule(old),
        f"posterior, share {SHARE}": Rule(old, SHARE),
        "grid from 12, forgetting 0.997": Rule(both(LEAST), forgetting=0.997),
        "grid from 12": Rule(both(LEAST)),
    }
    found |= {f"grid from {k:g}, share {SHARE}": Rule(both(k), SHARE) for k in (3, LEAST, 25)}
    found |= {f"grid from 12, share {s}": Rule(both(LEAST), s) for s in (0.0005, 0.005, 0.01)}
    return found | {
        f"grid from 12, half of the weight, share {SHARE}": Rule(both(LEAST, 0.5), SHARE)
    }


def on_prices(
    prices: pd.DataFrame, names: list[tuple[str, str]], training: int, *, transform: str
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """By rule: log scores `(row, pair)`, hedged moves, and moves of the targets.

    In units of the sd of the target's move in training.
    """
    pairs = HedgeData.pairs(prices.iloc[:training], names, transform=transform)
    model = hedge_ratio_model(
        noise=Discounted(), intercept="none" if transform == "return" else "random_walk"
    )
    fits = fit_many(pairs, model, progress=False)
    board = fits.online()
    kept, arrays = fits.fitted(model.parameters)
    plug_in = {name: arrays[name][:, -1] for name in model.parameters}
    wide = add_grid(board, model, inputs_of(pairs, kept, model), plug_in, FINEST)
    rules = rules_on_prices(board.draws, FINEST)
    each = {name: Weighed(rule, len(board)) for name, rule in rules.items()}
    logs: Any = np.log(prices)
    moves = logs.diff() if transform == "log" else prices.pct_change()
    y = moves[list(wide.targets)].to_numpy()
    x = moves[[hedge for (hedge,) in wide.hedges]].to_numpy()
    unit, y, x = np.nanstd(y[:training], axis=0), y[training:], x[training:]
    scores = {name: np.zeros(y.shape) for name in rules}
    hedged = {name: np.zeros(y.shape) for name in rules}
    rows = prices.iloc[training:].to_dict("records")
    for t, row in enumerate(densities(wide, rows)):
        for name, one in each.items():
            one.go_on()
            ratio = one.mean(row.ratio) / wide.coordinates.scale[:, 0]
            hedged[name][t] = (y[t] - ratio * x[t]) / unit
            scores[name][t] = one.learn(row) + np.log(unit)
    return {name: (scores[name], hedged[name], y / unit) for name in rules}


def compare_rules(parts: Sequence[Mapping[str, Any]], block: int = 20) -> pd.DataFrame:
    """Log score and variance removed over all pairs, and what each rule gains over the first."""
    found = {}
    reference = next(iter(parts[0]))
    for name in parts[0]:
        score, lead, removed, more, noise, noise_removed = [], [], [], [], 0.0, 0.0
        for part in parts:
            (mine, left, y), (theirs, before, _) = part[name], part[reference]
            share = y.shape[1] / sum(one[name][2].shape[1] for one in parts)
            away = mine - theirs
            score.append(mine.mean(0))
            lead.append(away.mean(0))
            noise += share**2 * _error(away.mean(1), block) ** 2
            removed.append(1 - left.var(0) / y.var(0))
            more.append((before.var(0) - left.var(0)) / y.var(0))
            squares = ((before**2 - left**2) / y.var(0)).mean(1)
            noise_removed += share**2 * _error(squares, block) ** 2
        found[name] = (
            *(np.concatenate(score).mean(), np.concatenate(lead).mean(), np.sqrt(noise)),
            *(np.concatenate(removed).mean(), np.concatenate(more).mean(), np.sqrt(noise_removed)),
        )
    columns = ["log score", "gain", "se", "removed", "gain in it", "its se"]
    return pd.DataFrame.from_dict(found, "index", columns=columns)


def _error(values: np.ndarray, block: int) -> float:
    """Standard error of a mean, by blocks of rows."""
    rows = len(values) // block * block
    means = values[:rows].reshape(-1, block).mean(1)
    return float(means.std() / np.sqrt(len(means)))


def measure(arguments: list[str]) -> Report:
    """A jump of the memory, daily prices and one-minute bars."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks learning")
    parser.add_argument("--series", type=int, default=400, help="simulated for each jump")
    parser.add_argument("--only", choices=["jumps", "daily", "minutes"])
    options = parser.parse_args(arguments)
    tables, quote = [], ""
    if options.only in (None, "jumps"):
        found = {jump: after_a_jump(*jump, options.series) for jump in JUMPS}
        for (before, after), table in found.items():
            title = f"memory of the ratio goes from {before:g} to {after:g} bars"
            tables.append(Table(title, table.rename_axis("draws and weights").reset_index()))
        quote = _quote(found)
    for name, read in (("daily", daily), ("minutes", minutes)):
        if options.only not in (None, name):
            continue
        for transform in ("return", "log"):
            table = compare_rules([on_prices(*each, transform=transform) for each in read()])
            title = f"{'28 pairs of daily prices' if name == 'daily' else '22 pairs of minutes'}"
            title = f"{title}, {'moves' if transform == 'return' else 'levels with an intercept'}"
            tables.append(Table(title, table.rename_axis("draws and weights").reset_index()))
    part = options.only or ""
    title = f"What is learnt live{part and f': {part}'}"
    return Report(title, WHAT, tables, quote=quote, part=part)


def _quote(found: Mapping[tuple[float, float], pd.DataFrame]) -> str:
    rule = f"grid, share {SHARE}"
    fast, slow = (found[jump].loc[rule] for jump in JUMPS[:2])
    cost = min(found[jump].loc[rule, "gain"] for jump in JUMPS[2:])
    share = [found[jump].loc[rule, "gain"] / found[jump]["gain"].iloc[-1] for jump in JUMPS[:2]]
    return (
        f"a memory that falls from 100 to 10 bars is found live after {fast['found']:.0f} bars, with "
        f"{share[0]:.0%} of what knowing it gains, one that rises from 10 to 100 after "
        f"{slow['found']:.0f}, with {share[1]:.0%}; where nothing changes that costs at most "
        f"{-cost:.4f} nats a bar"
    )
