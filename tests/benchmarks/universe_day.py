"""The hedge of a universe on bars within the day, against its own of the evening and against peers.

Every ratio is known at the end of a bar and held over the next; that of an evening over the next day
and the night after it. The first move of a session, out of the opening print, is left out.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kfmodels.basket.basket import Basket
from kfmodels.clock.clock import Clock
from tests.benchmarks.open_days import OPEN, SETS, read_set
from tests.benchmarks.universe_peers import (
    Rule,
    best_legs,
    discounted,
    of_covariance,
    of_library,
    shrink_nonlinearly,
    window,
)

REFERENCE = "universe, bar by bar"
WINDOWS = ("open30", "rest", "night")
RESAMPLES = 400

WHAT = (
    "Ratios known at the end of a bar are held over the next, those of an evening over the next day "
    "and night. VR: share of a target's variance that its hedge removes after the training days, the "
    "mean over targets: in the session without its first bar, in the first half hour (`open30`), after "
    "it (`rest`), and overnight. `behind`: the lead of the universe bar by bar in the session, its "
    "standard error from resampled days with all targets moved together. `in 90 %`: share of moves in "
    "that band of their forecast. Peers learn from the moves within sessions of so many days, every "
    "evening, the lasso every fifth."
)


class Bars(NamedTuple):
    """Log moves into each row `(time, asset)`, which day it is of, minutes since the open."""

    prices: pd.DataFrame
    clock: Clock
    moves: np.ndarray
    day: np.ndarray
    minute: np.ndarray
    training: int

    @classmethod
    def of(cls, name: str) -> "Bars":
        source, prices = SETS[name], read_set(name)
        used = {ticker for pair in source.pairs for ticker in pair.split("/")}
        prices = prices[[ticker for ticker in prices if ticker in used]]
        clock = Clock.hours("09:30", "16:00", zone="America/New_York", bar=f"{source.minutes}min")
        index: Any = prices.index
        day = pd.factorize(index.normalize())[0]
        minute = (index - index.normalize()).total_seconds().to_numpy() / 60 - 570
        logs = np.log(prices.to_numpy(float))
        moves = np.vstack([np.full(logs.shape[1], np.nan), np.diff(logs, axis=0)])
        return cls(prices, clock, moves, day, minute, source.burn)

    def where(self, part: str) -> np.ndarray:
        """Which rows are of a window after the training days."""
        bar = self.clock.minutes
        within = {
            "open30": (self.minute > bar) & (self.minute <= OPEN),
            "rest": self.minute > OPEN,
            "night": self.minute == 0,
        }
        return within[part] & (self.day >= self.training)


class Held(NamedTuple):
    """What a method left of every move `(time, asset)`, and where the moves lay in its forecasts."""

    left: np.ndarray
    below: np.ndarray | None = None


def run(bars: Bars, clock: Clock | None) -> tuple[Held, Held]:
    """The mixture bar by bar, and its ratios of the evening held until the next."""
    basket = Basket(list(bars.prices), clock=clock)
    each, evening, below = (np.full(bars.moves.shape, np.nan) for _ in range(3))
    moves = np.nan_to_num(bars.moves)
    now = last = basket.ratios()
    for row, (at, prices) in enumerate(
        zip(bars.prices.index, bars.prices.to_dict("records"), strict=True)
    ):
        each[row] = bars.moves[row] - np.nan_to_num(now) @ moves[row]
        evening[row] = bars.moves[row] - np.nan_to_num(last) @ moves[row]
        tick = basket.update(prices, at=at)
        below[row], now = tick.below, basket.ratios()
        if row + 1 == len(moves) or bars.day[row + 1] != bars.day[row]:
            last = now
    return Held(each, below), Held(evening)


def from_rule(bars: Bars, rule: Rule, every: int) -> Held:
    """A rule that looks at the moves within the sessions before each day."""
    left, moves = bars.moves.copy(), np.nan_to_num(bars.moves)
    learnt = bars.minute > bars.clock.minutes
    ratios = np.zeros((moves.shape[1],) * 2)
    for day in range(bars.training, int(bars.day[-1]) + 1):
        if (day - bars.training) % every == 0:
            ratios = rule(moves[learnt & (bars.day < day)])
        # the night is that after the day
        rows = np.flatnonzero((bars.day == day) & (bars.minute > 0))
        rows = np.append(rows, rows[-1] + 1) if rows[-1] + 1 < len(moves) else rows
        left[rows] = bars.moves[rows] - moves[rows] @ ratios.T
    return Held(left)


def peers(bars: Bars) -> dict[str, tuple[Rule, int]]:
    """Baselines, and every how many evenings each is worked out anew."""
    length = round(390 / bars.clock.minutes)
    half = 0.5 ** (1 / (5 * length))
    days = 20 if bars.training >= 20 else bars.training

    def lately(moments: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda moves: moments(moves[-days * length :])

    found: dict[str, tuple[Rule, int]] = {
        "best single, EWMA half-life 5 days": (best_legs(1, discounted(half)), 1),
        f"OLS, 3 best, {days} days": (best_legs(3, window(days * length)), 1),
        f"OLS on all, {days} days": (of_covariance(window(days * length)), 1),
        f"Ledoit-Wolf nonlinear, {days} days": (of_covariance(lately(shrink_nonlinearly)), 1),
    }
    lasso = {name: rule for name, rule in of_library(days * length).items() if "lasso" in name}
    return found | {f"lasso, CV, {days} days": (rule, 5) for rule, _ in lasso.values()}


def table(name: str) -> tuple[str, pd.DataFrame]:
    """The title and a line a method; differences are the lead of the universe bar by bar."""
    bars = Bars.of(name)
    every, evening = run(bars, bars.clock)
    held = {name: from_rule(bars, *each) for name, each in peers(bars).items()}
    held |= {"universe without its clock": run(bars, None)[0]}
    held |= {"universe, ratios of the evening": evening, REFERENCE: every}
    days = int(bars.day[-1]) + 1 - bars.training
    whole = {part: _by_day(bars, bars.moves, part) for part in WINDOWS}
    left = {
        method: {part: _by_day(bars, one.left, part) for part in WINDOWS}
        for method, one in held.items()
    }
    drawn = np.random.default_rng(0).integers(days, size=(RESAMPLES, days))

    def removed(method: str, parts: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
        kept, moved = (
            np.sum([table[part][rows].sum(-2) for part in parts], 0)
            for table in (left[method], whole)
        )
        return (1 - kept / moved).mean(-1)

    session, all_days = ("open30", "rest"), np.arange(days)
    lines = []
    for method, one in held.items():
        lead = removed(REFERENCE, session, drawn) - removed(method, session, drawn)
        line = {"method": method, "VR": removed(method, session, all_days)}
        line["behind"] = removed(REFERENCE, session, all_days) - line["VR"]
        line["+-"] = lead.std()
        line |= {part: removed(method, (part,), all_days) for part in WINDOWS}
        for part in WINDOWS:
            inside = "" if one.below is None else _inside(one.below[bars.where(part)])
            line[f"in 90 %, {part}"] = inside
        lines.append(line)
    title = (
        f"set {name}: {bars.moves.shape[1]} assets, {bars.clock.minutes:g}-minute bars, {days} days "
        f"after {bars.training}"
    )
    return title, pd.DataFrame(lines)


def _by_day(bars: Bars, moves: np.ndarray, part: str) -> np.ndarray:
    """Sums of squares by day after the training, `(day, asset)`."""
    rows = bars.where(part)
    found = np.zeros((int(bars.day[-1]) + 1 - bars.training, moves.shape[1]))
    seen = np.isfinite(bars.moves[rows])
    np.add.at(found, bars.day[rows] - bars.training, np.where(seen, moves[rows], 0.0) ** 2)
    return found


def _inside(below: np.ndarray) -> str:
    told = below[np.isfinite(below)]
    return f"{100 * float((np.abs(told - 0.5) < 0.45).mean()):.1f}"
