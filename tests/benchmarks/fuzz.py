"""A million odd messages through a live filter, against a loop that replays the rows it accepted.

    python -m tests.benchmarks fuzz [--messages 1000000] [--seed 0]

Bars of a minute, in which legs come apart, in any order and several times; flat stretches, legs that
stop, prices of zero, below it and of no number, bad prints that are corrected within the bar or not,
messages that are late or come twice, splits that are named some bars later. The seed, modulo 4, says
what is fed: a filter with a constant noise (0), with a discounted one (1), with `Robust` (2), or a
board of two pairs that share their hedge (3). Checked after every message: no row is accepted with a
predictive sd that is not above 0. Checked at every bar: the state is that of a textbook loop for each
pair, which is told no more than the row as it stood at the end of the bar and what became of it.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.kalman.noise import floored
from kfmodels.live.feed import LiveFilter
from kfmodels.live.signals import Signal
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.shocks import NONE, Quarantine, Robust
from kfmodels.online.ticks import Outcome
from tests.benchmarks.report import Report, Table
from tests.made_filters import AT, MINUTE, START, board_of, made_filter

WHAT = (
    "Odd messages through a live filter, against a textbook loop that replays the rows it accepted: "
    "legs that come apart, in any order and several times, flat stretches, legs that stop, prices "
    "of zero and of no number, bad prints, messages that are late or come twice, splits named some "
    "bars later."
)

LIMIT, CONFIRM = 6.0, 2
ROBUST = 4.0
CLOCK = Clock("1min")
PRICES = {"XLE": 90.0, "SPY": 500.0, "KRE": 60.0}
KINDS = ("a constant noise", "a discounted noise", "Robust", "a board of two pairs")


@dataclass
class Loop:
    """The recursion of one noise draw in plain NumPy, in the filter's inner coordinates.

    `dof` is infinite where the noise is constant.
    """

    target: str
    mean: np.ndarray
    cov: np.ndarray
    var: float
    dof: float
    q: np.ndarray
    factor: float
    least: float
    pivot: float
    scale: float
    offset: float
    robust: bool

    @classmethod
    def of(cls, live: OnlineFilter) -> "Loop":
        held, where = live.arguments(), live.coordinates
        noise, carried = held["noise"], held["carried"]
        return cls(
            target=live.target,
            mean=held["state"].mean[:, 0].copy(),
            cov=held["state"].cov[..., 0].copy(),
            var=float((carried or noise).var[0]),
            dof=float(carried.dof[0]) if carried else math.inf,
            q=held["drift"].noise[..., 0],
            factor=float(noise.factor[0]) if carried else 1.0,
            least=float(noise.least[0]) if carried else 0.0,
            pivot=float(where.pivot[0]),
            scale=float(where.scale[0]),
            offset=float(where.offset),
            robust=isinstance(live.shocks, Robust),
        )

    def pass_time(self, dt: float) -> None:
        self.cov = self.cov + self.q * dt
        self.dof = max(self.dof * self.factor**dt, min(self.dof, 3.0))

    def learn(self, prices: dict[str, float], *, real: bool) -> None:
        """A row that was accepted; `real` where it is a shock that was taken for one."""
        h = np.array([(math.log(prices["SPY"]) - self.pivot) / self.scale, 1.0])
        error = math.log(prices[self.target]) - self.offset - h @ self.mean
        before = var = h @ self.cov @ h + 1
        lesson = error
        if real:
            most = LIMIT * math.sqrt(self.var * before)
            lesson = min(max(error, -most), most)
            self.cov[1, 1] += error**2 / self.var
        ph = self.cov @ h
        if real:
            var = h @ ph + 1
        if self.robust:
            var += error**2 / (self.var * var) / ROBUST**2
            sd = math.sqrt(self.cov[0, 0] * self.var * self.dof / (self.dof - 2))
            before = var = max(var, abs(ph[0] * error) / sd / (ROBUST / 4))
        self.mean = self.mean + ph * error / var
        self.cov = self.cov - np.outer(ph, ph) / var
        if self.dof == math.inf:
            return
        learnt = (self.dof * self.var + lesson**2 / before) / (self.dof + 1)
        self.var = max(float(learnt), self.least)
        self.dof += 1

    def rescale(self, leg: str, factor: float) -> None:
        if leg == self.target:
            self.offset += math.log(factor)
        elif leg == "SPY":
            self.pivot += math.log(factor)

    def differ(self, held: dict[str, Any]) -> float:
        """Largest difference from the arguments of a filter, in parts of the size of each."""
        mean, cov = held["state"].mean[:, 0], held["state"].cov[..., 0]
        sizes = np.sqrt(self.var * np.diagonal(self.cov))
        parts = [
            np.abs(mean - self.mean) / (np.abs(self.mean) + sizes),
            np.abs(cov - self.cov) / np.abs(np.diagonal(self.cov)).max(),
        ]
        if self.dof < math.inf:
            carried = held["carried"]
            parts.append(np.abs([carried.var[0] / self.var - 1, carried.dof[0] / self.dof - 1]))
        return max(float(part.max()) for part in parts)


@dataclass
class Market:
    """True prices and what a bad feed makes of them."""

    random: np.random.Generator
    prices: dict[str, float]
    flat: int = 0
    stopped: tuple[str, int] = ("", 0)
    factor: float = 1.0

    def bar(self, start: datetime) -> Iterator[tuple[dict[str, Any], datetime]]:
        """The messages of one bar, in the order in which they arrive."""
        random, legs = self.random, tuple(self.prices)
        self.flat = max(self.flat - 1, 0) or (random.random() < 0.002) * int(random.integers(2, 60))
        leg, left = self.stopped
        self.stopped = (leg, left - 1) if left > 1 else ("", 0)
        if not left and random.random() < 0.001:
            self.stopped = legs[random.integers(len(legs))], int(random.integers(3, 60))
        if not self.flat:
            move = 0.004 * random.normal()
            for leg in legs:
                own = move if leg == "SPY" else move + 0.002 * random.normal()
                if leg != self.stopped[0]:
                    self.prices[leg] *= math.exp(own)
        stamps: dict[str, list[float]] = {leg: [] for leg in legs}
        for leg in legs:
            count = 0 if random.random() < 0.02 else int(random.integers(1, 4))
            stamps[leg] = sorted(random.uniform(0.5, 59.5, count))
        events = sorted((at, leg) for leg in legs for at in stamps[leg])
        for at, leg in events:
            price: Any = self.prices[leg] * math.exp(0.0002 * random.normal() * (not self.flat))
            odd = random.random()
            if odd < 0.004:
                price *= float(random.choice([0.8, 0.95, 1.05, 1.2, 1.6]))
            elif odd < 0.008:
                price = random.choice(np.array([0.0, -1.0, math.nan, math.inf, 1e300, 1e-300]))
            elif odd < 0.010:
                at -= 90.0  # late, from the bar before
            time = start + timedelta(seconds=at)
            message = {leg: float(price)}
            if random.random() < 0.2:
                other = legs[(legs.index(leg) + 1) % len(legs)]
                message[other] = self.prices[other]
            yield message, time
            if random.random() < 0.01:
                yield message, time


def made_engine(kind: str) -> Any:
    """A filter or board of one noise draw, of one of the `KINDS`."""

    def made(target: str) -> OnlineFilter:
        one = made_filter(
            target=target,
            near={target: PRICES[target]},
            draws=1,
            discounted="constant" not in kind,
            shocks=Robust(ROBUST) if kind == "Robust" else Quarantine(LIMIT),
        ).arguments()
        if one["carried"]:
            one["noise"] = floored(one["noise"], one["carried"].var / 3)
        return OnlineFilter(**one)

    return (
        board_of({name: made(name) for name in ("XLE", "KRE")}) if "board" in kind else made("XLE")
    )


def run(messages: int, seed: int) -> Counter:
    """Counts of outcomes; raises where the filter is not what the loop is."""
    random = np.random.default_rng(seed)
    live = LiveFilter(
        made_engine(KINDS[seed % len(KINDS)]), clock=CLOCK, max_staleness=MINUTE, max_ahead=None
    )
    loops = [Loop.of(OnlineFilter(**one)) for one in held_by(live.engine)]
    market = Market(random, {leg: PRICES[leg] for leg in live.engine.tickers})
    found: Counter = Counter()
    start, last = START, CLOCK.bar_of(AT)
    seen, before = 0, loops
    said = [(Outcome.SKIPPED, "")] * len(loops)
    split: tuple[str, float, int] | None = None
    while seen < messages:
        if split is None and random.random() < 0.002:
            legs = live.engine.tickers
            leg, factor = legs[random.integers(len(legs))], float(random.choice([2.0, 3.0, 10.0]))
            split = leg, 1 / factor if market.prices[leg] > 100 else factor, 4
            market.prices[leg] *= split[1]
        made = False
        for message, at in market.bar(start):
            seen += 1
            signal = live.tick(message, at=at)
            found[str(signal.outcome)] += 1
            check_sd(signal)
            if not (signal.outcome in ("accepted", "quarantined") or _idle(signal.reason)):
                continue
            # a late message may be of the bar before, whose row is then taken once more
            bar = CLOCK.bar_of(live.history()[-1]["at"])
            if bar != last:
                before, last = loops, bar
            loops, made, said = [copy(one) for one in before], True, said_of(signal.tick)
            replay(loops, live, said)
        if made:
            each = zip(loops, held_by(live.engine), strict=True)
            wrong = max(loop.differ(held) for loop, held in each)
            if wrong > 1e-9:
                raise AssertionError(
                    f"{wrong} after {seen} messages, at {live.history()[-1]}, {said}"
                )
            found["bars"] += 1
        if split is not None:
            leg, factor, left = split
            split = leg, factor, left - 1
            if left == 1:
                # the row of the bar is taken once more, in the new units
                live.rescale({leg: factor})
                for loop in before:
                    loop.rescale(leg, factor)
                loops = [copy(one) for one in before]
                said = [taken_again(live, loop, now) for loop, now in zip(loops, said, strict=True)]
                replay(loops, live, said)
                found["splits"] += 1
                split = None
        start += MINUTE
    return found


def held_by(engine: Any) -> list[dict[str, Any]]:
    """The arguments of the filter of every pair."""
    if isinstance(engine, OnlineFilter):
        return [engine.arguments()]
    return [engine.arguments_of(number) for number in range(len(engine))]


def check_sd(signal: Signal) -> None:
    """Raise where a row was accepted with an sd that is none."""
    tick = signal.tick
    for one in [tick.of(name) for name in tick.names] or [tick]:
        if one.observed and signal.accepted and one.outcome is Outcome.ACCEPTED:
            assert 0 < one.spread_sd < math.inf, signal
            assert math.isfinite(one.z), signal


def said_of(tick: Any) -> list[tuple[Outcome, str]]:
    """What became of the row of every pair, and why."""
    pairs = [tick.of(name) for name in tick.names] or [tick]
    return [(one.outcome, one.reason) for one in pairs]


def taken_again(live: LiveFilter, loop: Loop, said: tuple[Outcome, str]) -> tuple[Outcome, str]:
    """What becomes of a row in new units: one that was held is, unless still held, learnt from."""
    if said[0] is Outcome.SKIPPED:
        return said
    hold = live.engine.holds.get(loop.target, NONE)
    if hold.cause == "shock" and hold.rows >= CONFIRM:
        return Outcome.ACCEPTED, "confirmed by"
    return (Outcome.ACCEPTED if hold == NONE else Outcome.QUARANTINED), ""


def _idle(reason: str) -> bool:
    """Whether a row was made that teaches nothing, since its prices repeat."""
    return "nothing is learnt" in reason


def replay(loops: list[Loop], live: LiveFilter, said: list[tuple[Outcome, str]]) -> None:
    """The bar as it ended: time passes, and the pairs whose row was accepted learn from it."""
    row: Any = live.history()[-1]
    for number, (loop, (outcome, reason)) in enumerate(zip(loops, said, strict=True)):
        loop.pass_time(row["dt"])
        if outcome is Outcome.ACCEPTED:
            prices = row["prices"]
            if len(loops) > 1:  # the row of a board hides the prices that some other pair doubts
                board: Any = live.engine
                last = board.last_prices[number].tolist()
                prices = dict(zip(board.pairs[number], last, strict=True))
            real = "confirmed by" in reason or "no change of scale" in reason
            loop.learn(prices, real=real)


def measure(arguments: list[str]) -> Report:
    """Run, and count what became of the messages."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    found = run(options.messages, options.seed)
    rows = pd.DataFrame(found.most_common(), columns=["what became of it", "messages"])
    return Report(
        "Fuzzed messages",
        WHAT,
        [Table(f"{KINDS[options.seed % len(KINDS)]}, seed {options.seed}", rows)],
        ["Every bar is that of the loop to 1e-9; no row was accepted with an sd of 0 or NaN."],
    )
