"""What a live filter answers to a message: its schema, the alarms a row set off, the condition."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kfmodels.live.monitor import Alarm, BoardWatch, Watch
from kfmodels.online.shocks import HELD
from kfmodels.online.ticks import ACCEPTED, BoardTick, Tick

SCHEMA = 1
"""Version of `Signal.record`: a field is only ever added under the same number."""

_FARTHEST = 1e99
"""A z beyond is as odd as one at it."""


@dataclass(frozen=True, slots=True)
class Signal:
    """The outcome of one message.

    `outcome` begins with one word: "accepted" (a row was made of it, perhaps with prices as old as it
    says), "skipped" (it waits for another leg, or one is stale), "quarantined" (a shock, not learnt
    from yet), "rescaled" (a split was taken in), "duplicate" or "rejected" (it changed nothing). `tick`
    is what is believed now, `seq` the number of the message in the journal, or among those taken; the
    one before where it was not taken. `alarms` are those this row set off (pairs of a board as
    `(name, alarm)`), `condition` "ok", "watch" or "broken" (of a board the worst), "watch"
    at least while prices are held that look like a split.
    """

    seq: int
    at: Any
    outcome: str
    tick: Tick | BoardTick
    alarms: tuple[Any, ...]
    condition: str

    @property
    def accepted(self) -> bool:
        """Whether the filter learnt from it."""
        return self.outcome.startswith(ACCEPTED)

    def record(self) -> dict[str, Any]:
        """All of it as a plain dict of the published schema."""
        tick = self.tick.record()
        return (
            {"schema": SCHEMA, "seq": self.seq}
            | tick
            | {
                "at": self.at,
                "outcome": self.outcome,
                "row_at": tick["at"],
                "alarms": [_alarm(alarm) for alarm in self.alarms],
                "condition": self.condition,
            }
        )


def _alarm(alarm: Any) -> dict[str, Any]:
    if isinstance(alarm, Alarm):
        return {name: getattr(alarm, name) for name in Alarm.__slots__}
    name, alone = alarm
    return {"pair": name} | _alarm(alone)


def few_draws(effective: float, draws: int) -> Alarm:
    """The alarm that the mixture lives on few of its noise draws."""
    return Alarm(
        kind="few draws",
        bars=1,
        size=float(effective),
        evidence=0.0,
        threshold=0.0,
        action="refresh noise",
        reason="the noise is not what it was when it was inferred",
        message=f"few draws: the rows leave {effective:.1f} of the {draws} noise draws",
    )


def set_off(
    tick: Tick | BoardTick, watch: Watch | BoardWatch | None, fewer: list[int], draws: int
) -> tuple[Any, ...]:
    """Alarms of a row that was learnt from; a shock in quarantine is one already.

    Args:
        tick: of the row, seen by the `watch` here.
        fewer: numbers of the pairs that have few of their `draws` left since this row.
    """
    effective = np.atleast_1d(tick.effective_draws)
    if isinstance(tick, BoardTick):
        found = [(tick.names[pair], few_draws(effective[pair], draws)) for pair in fewer]
        if isinstance(watch, BoardWatch):
            z, dof = tick.learnt()
            z = np.clip(z, -_FARTHEST, _FARTHEST)
            found += [(tick.names[pair], alarm) for pair, alarm in watch.update(z, dof)]
        return tuple(found)
    alone = tuple(few_draws(effective[pair], draws) for pair in fewer)
    if isinstance(watch, Watch) and tick.observed and tick.outcome.startswith(ACCEPTED):
        z = min(max(tick.z, -_FARTHEST), _FARTHEST)
        alone += watch.update(z, tick.dof if tick.dof < math.inf else None)
    return alone


def worst(watch: Watch | BoardWatch | None, streak: Any) -> str:
    """The condition, of a board that of its worst pair; "watch" at least while a scale is in doubt.

    `streak` is that of the rows in quarantine, of every pair.
    """
    found = ["watch" if (np.abs(streak) > HELD).any() else "ok"]
    if isinstance(watch, BoardWatch):
        found += watch.conditions
    elif watch is not None:
        found.append(watch.condition)
    return max(found, key=("ok", "watch", "broken").index)


def fresh(watch: Watch | BoardWatch | None) -> Any:
    """A watch of the same settings that has seen nothing yet."""
    if isinstance(watch, BoardWatch):
        return watch.monitor.board(len(watch.last))
    return None if watch is None else watch.monitor.start()
