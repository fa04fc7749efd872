"""Look at a live filter that another process runs, by its journal and without holding it up."""

import math
from collections import deque
from pathlib import Path
from typing import Any, cast

import numpy as np

from kfmodels.files.log import Journal
from kfmodels.live.quotes import Priced, Rescaled
from kfmodels.live.signals import Signal
from kfmodels.live.state import LiveState, Seen

TRAIL = 60
"""Ratios that are kept of every pair, one a message."""

RECENT = 5
"""Alarms that are kept."""


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
        trails = self._trails
        return [row._replace(trail=tuple(trails.get(row.name, ()))) for row in self._rows()]

    @property
    def sentence(self) -> str:
        """Where it stands: messages, the last time, and the condition."""
        at = self.engine.at if self._now is None else self._now.kept
        said = f"{self.seq} messages, the last of {at}" if self.seq else "no message yet"
        return f"{said}; {self._conditions().sentence}"

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
