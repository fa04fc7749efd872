"""Look at a live filter that another process runs, by its journal and without holding it up."""

import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from kfmodels.files.log import Journal
from kfmodels.kalman.density import Z90
from kfmodels.live.monitor import CONDITIONS, Condition
from kfmodels.live.quotes import Priced, Rescaled
from kfmodels.live.signals import Signal
from kfmodels.live.state import LiveState

TRAIL = 60
"""Ratios that are kept of every pair, one a message."""

RECENT = 5
"""Alarms that are kept."""


class Seen(NamedTuple):
    """One target as it stands: the ratio to its first or heaviest hedge, and whether it is in order."""

    target: str
    hedge: str
    more: int
    """How many other hedges it has."""

    ratio: float
    lower: float
    upper: float
    z: float
    condition: Condition
    note: str
    trail: tuple[float, ...]


class Spectator(LiveState):
    """The state of a live filter, from the last snapshot of its journal and the messages after it.

    Nothing is written and no lock is taken: the writer neither waits nor notices.

    Args:
        journal: of a `LiveFilter`, which may be running.

    Raises:
        ValueError: there is no such journal, or it is damaged; its filter is of a kind whose module
            was not imported.
    """

    def __init__(self, journal: str | Path) -> None:
        self.path = Path(journal)
        self.last: Signal | None = None
        """Of the last message, where one came after the snapshot."""
        self.alarms: deque[str] = deque(maxlen=RECENT)
        self._trails: dict[str, deque[float]] = {}
        self._of: tuple[str, int] | None = None
        self.look()

    def look(self) -> int:
        """Take in what has come since the last look; answers with the number of messages."""
        found = Journal.read(self.path)
        of = found.identity, found.snapshot_seq
        before = found.snapshot_seq if self._of is None else self.seq
        if of != self._of and found.snapshot_seq >= before:
            self._restore(found.snapshot, self.path)
            self.seq = found.snapshot_seq
        self._of = of
        for seq, message in found.messages:
            if seq > self.seq:
                self.last = self._apply(cast("Priced | Rescaled", message))
                self.seq = seq
                self.alarms += [f"{self.last.at}: {said}" for said in self.last.rung]
                if seq > found.last_seq - TRAIL:
                    self._follow(self.last)
        return self.seq - before

    def rows(self) -> list[Seen]:
        """Every target, those that most need a look first: broken, then watched, then the odd."""
        conditions, held = self._conditions(), self._held()
        order = {name: rank for rank, name in enumerate(CONDITIONS)}
        usual = "ok" if len(self.engine.pairs) > 1 else conditions.whole
        z = [math.nan] * len(self.engine.pairs)
        if self.last is not None:
            z = np.atleast_1d(self.last.tick.z).tolist()
        found: list[Seen] = []
        for pair, name, one in zip(self.engine.pairs, self._feed.names, z, strict=True):
            if name not in held:  # a leg alone
                continue
            legs = held[name]
            sizes = {leg: abs(ratio) for leg, (ratio, _) in legs.items()}
            hedge = max(sizes, key=lambda leg: sizes[leg], default="")
            ratio, sd = legs.get(hedge, (math.nan, math.nan))
            band = ratio - Z90 * sd, ratio + Z90 * sd
            stands = conditions.pairs.get(name, usual), self._note(name, pair)
            trail = tuple(self._trails.get(name, ()))
            found.append(Seen(pair[0], hedge, len(legs) - 1, ratio, *band, one, *stands, trail))
        return sorted(found, key=lambda row: (-order[row.condition], -abs(np.nan_to_num(row.z))))

    @property
    def sentence(self) -> str:
        """Where it stands: messages, the last time, and the condition."""
        at = self.engine.at if self._now is None else self._now.kept
        said = f"{self.seq} messages, the last of {at}" if self.seq else "no message yet"
        return f"{said}; {self._conditions().sentence}"

    def _held(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Ratio and sd by hedge of every target, by the name of its pair."""
        engine: Any = self.engine
        if hasattr(engine, "held"):  # every asset of a universe against all others
            sds = dict(zip(engine.targets, engine.sd(), strict=True))
            return {
                name: {leg: (b, sds[name][engine.tickers.index(leg)]) for leg, b in legs.items()}
                for name, legs in engine.held().items()
            }
        now: Any = engine.standing()
        ticks = {name: now.of(name) if now.names else now for name in self._feed.names}
        return {
            name: {leg: (ratio, tick.sd_total[leg]) for leg, ratio in tick.beta.items()}
            for name, tick in ticks.items()
        }

    def _note(self, name: str, pair: Sequence[str]) -> str:
        """What is out of the usual with a pair: rows held, legs that stand still or are late."""
        said: list[str] = []
        if hold := self.engine.holds.get(name):
            said.append(f"{hold.rows} row{'s'[: hold.rows != 1]} held ({hold.cause})")
        if legs := self.engine.stopped.get(name):
            said.append(f"{', '.join(legs)} stands still")
        row = {leg: self._quotes.prices[leg] for leg in pair}
        if self._now is not None and (late := self._quotes.aged(row, self._now)):
            said.append(f"late: {late}")
        return "; ".join(said)

    def _follow(self, signal: Signal) -> None:
        """Keep the ratios after a message."""
        engine: Any = self.engine
        if hasattr(engine, "held"):
            held: dict[str, dict[str, float]] = engine.held()
            now = {
                name: max(legs.values(), key=abs, default=math.nan) for name, legs in held.items()
            }
        else:
            beta: Any = signal.tick.beta
            listed: Any = list(beta.values()) if hasattr(beta, "values") else beta
            first = np.asarray(listed, float).reshape(len(engine.pairs), -1)[:, 0]
            now = dict(zip(self._feed.names, first.tolist(), strict=True))
        for name, ratio in now.items():
            self._trails.setdefault(name, deque(maxlen=TRAIL)).append(ratio)
