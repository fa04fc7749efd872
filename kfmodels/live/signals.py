"""What a live filter answers to a message, and its published schema."""

from dataclasses import dataclass
from typing import Any

from kfmodels.live.monitor import Alarm
from kfmodels.online.board import BoardTick
from kfmodels.online.ticks import ACCEPTED, Tick

SCHEMA = 1
"""Version of `Signal.record`: a field is only ever added under the same number."""


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
