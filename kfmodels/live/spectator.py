"""Look at a live filter that another process runs, by its journal and without holding it up."""

import math
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from kfmodels.files.log import Journal
from kfmodels.kalman.density import Z90
from kfmodels.live.monitor import CONDITIONS, Alarm, Condition
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
                self.alarms += _say_alarms(self.last)
                if seq > found.last_seq - TRAIL:
                    self._follow()
        return self.seq - before

    def rows(self) -> list[Seen]:
        """Every target, those that most need a look first: broken, then watched, then the odd."""
        conditions = self._conditions()
        order = {name: rank for rank, name in enumerate(CONDITIONS)}
        z = [math.nan] * len(self.engine.pairs)
        if self.last is not None:
            z = np.atleast_1d(self.last.tick.z).tolist()
        found: list[Seen] = []
        for (target, name), one in zip(self._targets(), z, strict=True):
            legs = self._legs(name)
            if legs is None:
                continue
            sizes = {leg: abs(ratio) for leg, (ratio, _) in legs.items()}
            hedge = max(sizes, key=lambda leg: sizes[leg], default="")
            ratio, sd = legs.get(hedge, (math.nan, math.nan))
            band = ratio - Z90 * sd, ratio + Z90 * sd
            whole = conditions.pairs.get(name, "ok" if len(z) > 1 else conditions.whole)
            trail = tuple(self._trails.get(name, ()))
            found.append(
                Seen(
                    target, hedge, len(legs) - 1, ratio, *band, one, whole, self._note(name), trail
                )
            )
        return sorted(found, key=lambda row: (-order[row.condition], -abs(np.nan_to_num(row.z))))

    @property
    def sentence(self) -> str:
        """Where it stands: messages, the last time, and the condition."""
        at = self.engine.at if self._now is None else self._now.kept
        said = f"{self.seq} messages, the last of {at}" if self.seq else "no message yet"
        return f"{said}; {self._conditions().sentence}"

    def _targets(self) -> list[tuple[str, str]]:
        """The first ticker and the name of every pair."""
        names = self._feed.names
        return [(pair[0], name) for pair, name in zip(self.engine.pairs, names, strict=True)]

    def _legs(self, name: str) -> dict[str, tuple[float, float]] | None:
        """Ratio and sd by hedge; None for an asset that is a leg alone."""
        engine: Any = self.engine
        if hasattr(engine, "held"):  # every asset of a universe against all others
            if name not in engine.targets:
                return None
            sds = engine.sd()[engine.targets.index(name)].tolist()
            of = dict(zip(engine.tickers, sds, strict=True))
            return {leg: (ratio, of[leg]) for leg, ratio in engine.held()[name].items()}
        tick: Any = engine.standing()
        tick = tick.of(name) if tick.names else tick
        return {leg: (ratio, tick.sd_total[leg]) for leg, ratio in tick.beta.items()}

    def _note(self, name: str) -> str:
        """What is out of the usual with a pair: rows held, legs that stand still or are late."""
        said: list[str] = []
        if hold := self.engine.holds.get(name):
            said.append(f"{hold.rows} row{'s'[: hold.rows != 1]} held ({hold.cause})")
        if legs := self.engine.stopped.get(name):
            said.append(f"{', '.join(legs)} stands still")
        number = self._feed.names.index(name)
        row = {leg: self._quotes.prices[leg] for leg in self.engine.pairs[number]}
        if self._now is not None and (late := self._quotes.aged(row, self._now)):
            said.append(f"late: {late}")
        return "; ".join(said)

    def _follow(self) -> None:
        """Keep the ratios after a message."""
        engine: Any = self.engine
        if hasattr(engine, "held"):
            held: dict[str, dict[str, float]] = engine.held()
            now = {
                name: max(legs.values(), key=abs, default=math.nan) for name, legs in held.items()
            }
        else:
            beta: Any = engine.standing().beta
            listed: Any = list(beta.values()) if hasattr(beta, "values") else beta
            first = np.asarray(listed, float).reshape(len(engine.pairs), -1)[:, 0]
            now = dict(zip(self._feed.names, first.tolist(), strict=True))
        for name, ratio in now.items():
            self._trails.setdefault(name, deque(maxlen=TRAIL)).append(ratio)


def _say_alarms(signal: Signal) -> list[str]:
    """The alarms of a message with its time, and with the pair where there are several."""
    said: list[str] = []
    for one in signal.alarms:
        whose, alarm = ("", one) if isinstance(one, Alarm) else (f"{one[0]}: ", one[1])
        said.append(f"{signal.at}: {whose}{alarm.message}")
    return said
