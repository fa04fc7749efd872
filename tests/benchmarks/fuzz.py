"""A million odd messages through a live filter, against a loop that replays the rows it accepted.

    python -m tests.benchmarks fuzz [--messages 1000000] [--seed 0]

Bars of a minute, in which legs come apart, in any order and several times; flat stretches, legs that
stop, prices of zero, below it and of no number, bad prints that are corrected within the bar or not,
messages that are late or come twice, splits that are named some bars later. Checked after
every message: no row is accepted with a predictive sd that is not above 0. Checked at every bar: the
state is that of a textbook loop which is told no more than the row as it stood at the end of the bar
and what became of it.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from kfmodels.clock.clock import Clock
from kfmodels.kalman.noise import floored
from kfmodels.live.feed import LiveFilter
from kfmodels.live.signals import Signal
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.shocks import NONE, Quarantine
from tests.made_filters import MINUTE, START, made_filter

LIMIT, CONFIRM = 6.0, 2
LEGS = ("XLE", "SPY")


@dataclass
class Loop:
    """The recursion of one noise draw in plain NumPy, in the filter's inner coordinates."""

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

    @classmethod
    def of(cls, live: Any) -> "Loop":
        held, where = live.arguments(), live.coordinates
        return cls(
            mean=held["state"].mean[:, 0].copy(),
            cov=held["state"].cov[..., 0].copy(),
            var=float(held["carried"].var[0]),
            dof=float(held["carried"].dof[0]),
            q=held["drift"].noise[..., 0],
            factor=float(held["noise"].factor[0]),
            least=float(held["noise"].least[0]),
            pivot=float(where.pivot[0]),
            scale=float(where.scale[0]),
            offset=float(where.offset),
        )

    def pass_time(self, dt: float) -> None:
        self.cov = self.cov + self.q * dt
        self.dof = max(self.dof * self.factor**dt, min(self.dof, 3.0))

    def learn(self, prices: dict[str, float], *, real: bool) -> None:
        """A row that was accepted; `real` where it is a shock that was taken for one."""
        h = np.array([(math.log(prices["SPY"]) - self.pivot) / self.scale, 1.0])
        error = math.log(prices["XLE"]) - self.offset - h @ self.mean
        before = h @ self.cov @ h + 1
        lesson = error
        if real:
            most = LIMIT * math.sqrt(self.var * before)
            lesson = min(max(error, -most), most)
            self.cov[1, 1] += error**2 / self.var
        ph = self.cov @ h
        var = h @ ph + 1
        self.mean = self.mean + ph * error / var
        self.cov = self.cov - np.outer(ph, ph) / var
        learnt = (self.dof * self.var + lesson**2 / before) / (self.dof + 1)
        self.var = max(float(learnt), self.least)
        self.dof += 1

    def rescale(self, leg: str, factor: float) -> None:
        if leg == "XLE":
            self.offset += math.log(factor)
        else:
            self.pivot += math.log(factor)

    def differ(self, live: Any) -> float:
        """Largest difference from the filter, in parts of the size of each."""
        held = live.arguments()
        mean, cov = held["state"].mean[:, 0], held["state"].cov[..., 0]
        sizes = np.sqrt(self.var * np.diagonal(self.cov))
        parts = [
            np.abs(mean - self.mean) / (np.abs(self.mean) + sizes),
            np.abs(cov - self.cov) / np.abs(np.diagonal(self.cov)).max(),
            np.abs([held["carried"].var[0] / self.var - 1, held["carried"].dof[0] / self.dof - 1]),
        ]
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
        random = self.random
        self.flat = max(self.flat - 1, 0) or (random.random() < 0.002) * int(random.integers(2, 60))
        leg, left = self.stopped
        self.stopped = (leg, left - 1) if left > 1 else ("", 0)
        if not left and random.random() < 0.001:
            self.stopped = LEGS[random.integers(2)], int(random.integers(3, 60))
        if not self.flat:
            move = 0.004 * random.normal()
            for leg, own in (("SPY", move), ("XLE", move + 0.002 * random.normal())):
                if leg != self.stopped[0]:
                    self.prices[leg] *= math.exp(own)
        stamps: dict[str, list[float]] = {leg: [] for leg in LEGS}
        for leg in LEGS:
            count = 0 if random.random() < 0.02 else int(random.integers(1, 4))
            stamps[leg] = sorted(random.uniform(0.5, 59.5, count))
        events = sorted((at, leg) for leg in LEGS for at in stamps[leg])
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
                other = LEGS[leg == "XLE"]
                message[other] = self.prices[other]
            yield message, time
            if random.random() < 0.01:
                yield message, time


def run(messages: int, seed: int) -> Counter:
    """Counts of outcomes; raises where the filter is not what the loop is."""
    random = np.random.default_rng(seed)
    held = made_filter(draws=1, discounted=True, shocks=Quarantine(LIMIT)).arguments()
    held["noise"] = floored(held["noise"], held["carried"].var / 3)
    live = LiveFilter(
        OnlineFilter(**held), clock=Clock("1min"), max_staleness=MINUTE, max_ahead=None
    )
    loop, market = Loop.of(live.engine), Market(random, {"XLE": 90.0, "SPY": 500.0})
    found: Counter = Counter()
    start, last = START, live.engine.at
    seen, idle, before = 0, False, deepcopy(loop)
    split: tuple[str, float, int] | None = None
    while seen < messages:
        if split is None and random.random() < 0.002:
            leg, factor = LEGS[random.integers(2)], float(random.choice([2.0, 3.0, 10.0]))
            split = leg, 1 / factor if market.prices[leg] > 100 else factor, 4
            market.prices[leg] *= split[1]
        row: Signal | None = None
        prices: Any = {}
        for message, at in market.bar(start):
            seen += 1
            signal = live.tick(message, at=at)
            found[str(signal.outcome)] += 1
            if signal.tick.observed and signal.accepted:
                assert 0 < signal.tick.spread_sd < math.inf, signal
                assert math.isfinite(signal.tick.z), signal
            if not (signal.outcome in ("accepted", "quarantined") or _idle(signal)):
                continue
            kept: Any = live.history()[-1]
            if kept["at"] != last:
                row, prices = signal, kept
            else:  # a late leg of the bar before, whose row is taken once more
                loop, idle = deepcopy(before), _idle(signal)
                replay(loop, kept, taught=signal.accepted, real=_is_real(signal.reason))
        if row is not None:
            before = deepcopy(loop)
            replay(loop, prices, taught=row.accepted, real=_is_real(row.reason))
            last, idle = prices["at"], _idle(row)
            wrong = loop.differ(live.engine)
            if wrong > 1e-9:
                raise AssertionError(f"{wrong} after {seen} messages, at {row}")
            found["bars"] += 1
        if split is not None:
            leg, factor, left = split
            split = leg, factor, left - 1
            if left == 1:
                # the row of the bar is taken once more, in the new units
                live.rescale({leg: factor})
                before.rescale(leg, factor)
                loop = deepcopy(before)
                hold = live.engine.holds.get("XLE", NONE)
                real = hold.cause == "shock" and hold.rows >= CONFIRM
                taught = not idle and (hold == NONE or real)
                replay(loop, live.history()[-1], taught=taught, real=real)
                found["splits"] += 1
                split = None
        start += MINUTE
    return found


def _idle(signal: Signal) -> bool:
    """Whether a row was made that teaches nothing, since its prices repeat."""
    return signal.outcome == "skipped" and "nothing is learnt" in signal.reason


def _is_real(reason: str) -> bool:
    return "confirmed by" in reason or "no change of scale" in reason


def replay(loop: Loop, kept: Any, *, taught: bool, real: bool) -> None:
    """The bar as it ended: time passes, and it is learnt from if it was accepted."""
    loop.pass_time(kept["dt"])
    if taught:
        loop.learn(kept["prices"], real=real)


def main(argv: list[str]) -> None:
    """Run, and print what became of the messages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    found = run(options.messages, options.seed)
    for name, count in found.most_common():
        print(f"{name:12} {count:9}")
    print("every bar is that of the loop to 1e-9; no row was accepted with an sd of 0 or NaN")
