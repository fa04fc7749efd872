"""What a live filter answers to a message: its record, the alarms that a row set off, the condition."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from kfmodels.clock.instants import Stamp
from kfmodels.live.feed_watch import FeedWatch
from kfmodels.live.monitor import CONDITIONS, Alarm, Condition, Watch
from kfmodels.online.engine import AnyTick, Engine
from kfmodels.online.ticks import Outcome, Tick
from kfmodels.words.shown import Shown

SHARE = 0.2
"""Share of the pairs above which their condition is that of the whole; below five pairs one is enough.

Some of many pairs nearly always ring: on 23 funds and 45 countries, each hedged with all others, the
worst target was broken on 74 and 67 % of the days, and more than a fifth of them on 3 %, in the days
when the market broke.
"""

_NAMED = 5
"""Pairs that a sentence names."""


class Conditions(NamedTuple):
    """The condition of the `whole`, and of the `pairs` that are not ok, by name.

    The whole is the worst that more than a fifth of its pairs are in or beyond; at least "watch" while
    an alarm about the feed is on or prices are held that look like a split, and "broken" while the feed
    brings nothing at all that can be used. `judged` pairs have forecasts: of a universe its targets.
    `fine` of them are ok.
    """

    whole: Condition
    pairs: Mapping[str, Condition]
    judged: int
    fine: int

    @property
    def sentence(self) -> str:
        """In words, such as "ok: 43 of 45 ok; broken: ITB, SMH"."""
        said = [f"{self.whole}: {self.fine} of {self.judged} ok"]
        for condition in CONDITIONS[:0:-1]:
            names = [name for name, found in self.pairs.items() if found == condition]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            said += [f"{condition}: {', '.join(names[:_NAMED])}{more}"] if names else []
        return "; ".join(said)


SCHEMA = 2
"""Version of `Signal.record`: a field is only ever added under the same number."""

type Alarms = tuple[Alarm, ...] | tuple[tuple[str, Alarm], ...]
"""The alarms of one pair, or those of a board, each with the name of its pair."""

_FARTHEST = 1e99
"""A z beyond this is cut to it: the monitor refuses values whose square may overflow."""


@dataclass(frozen=True, slots=True, repr=False)
class Signal(Shown):
    """The answer to one message.

    `outcome` is accepted (a row was made of it), skipped (it waits for another leg, or one is stale),
    quarantined (a shock, not learnt from yet), rescaled (a split was taken in), duplicate or rejected
    (it changed nothing), and `reason` says why. `tick` is what is believed now, `seq` the number of the
    message in the journal, or among those taken; the one before where it was not taken.

    `alarms` are those that this message set off, each once when it begins (pairs of a board as
    `(name, alarm)`): the kinds of the monitor, "few draws", and about the feed "missing leg", "stopped
    leg", "calm", "held prices", "rejected rows" and "lead or lag". Where bars are polled, the first two
    wait for the end of the bar. `condition` is "ok", "watch" or "broken": of a pair "broken" for some
    bars after an alarm of the monitor and as long as one about the feed is on ("watch" if it is
    "calm"), and "watch" at least while prices are held that look like a split. Of many pairs it is the
    worst that more than a fifth are in or beyond, and `conditions` has those that are not ok.
    """

    seq: int
    at: Stamp | None
    outcome: Outcome
    reason: str
    tick: Any  # the `Tick` or `BoardTick` of the engine, whose numbers are for the user to take
    alarms: Alarms
    conditions: Conditions

    @property
    def condition(self) -> Condition:
        """Of the whole."""
        return self.conditions.whole

    @property
    def accepted(self) -> bool:
        """Whether the filter learnt from it."""
        return self.outcome is Outcome.ACCEPTED

    @property
    def sentence(self) -> str:
        """The outcome with its reason."""
        return self.outcome.with_reason(self.reason)

    def __str__(self) -> str:
        # a row that was made of it tells its own outcome
        said = [str(self.tick) if self.accepted else f"{self.at} {self.sentence}"]
        said.append(f"condition {self.conditions.sentence}")
        return "\n".join([*said, *(f"alarm: {sentence}" for sentence in self.rung)])

    @property
    def rung(self) -> list[str]:
        """What the alarms say, of several pairs with the name of each."""
        each = [("", one) if isinstance(one, Alarm) else one for one in self.alarms]
        return [f"{name}: {alarm.message}" if name else alarm.message for name, alarm in each]

    def record(self) -> dict[str, object]:
        """All of it as a plain dict of the published schema."""
        tick = self.tick.record()
        own = dict[str, object]()
        if self.tick.names:
            own = {"pair_outcomes": tick["outcome"], "pair_reasons": tick["reason"]}
            own |= {"pair_conditions": dict(self.conditions.pairs)}
            own |= {"standing": self.conditions.sentence}
        return {
            "schema": SCHEMA,
            "seq": self.seq,
            **tick,
            "at": self.at,
            "outcome": str(self.outcome),
            "reason": self.reason,
            **own,
            "row_at": tick["at"],
            "alarms": [_alarm(alarm) for alarm in self.alarms],
            "condition": self.condition,
        }


def _alarm(alarm: Alarm | tuple[str, Alarm]) -> dict[str, object]:
    if isinstance(alarm, Alarm):
        return asdict(alarm)
    name, alone = alarm
    return {"pair": name, **asdict(alone)}


def tick_of(answer: Tick | Signal) -> Tick:
    """The tick of a signal, or the one given.

    Raises:
        ValueError: neither.
    """
    if isinstance(answer, Signal):
        return answer.tick
    if not hasattr(answer, "at"):
        raise ValueError(
            f"it takes the tick of a filter or the signal of a live one, not {answer!r}"
        )
    return answer


def find_alarms(tick: AnyTick, watch: Watch | None, fewer: list[int], draws: int) -> Alarms:
    """Alarms of a row that was learnt from; a quarantine is reported by its own outcome.

    Args:
        tick: of the row, seen by the `watch` here.
        fewer: numbers of the pairs that have few of their `draws` left since this row.
    """
    found: list[tuple[int, Alarm]] = []
    if fewer:
        effective = np.atleast_1d(tick.effective_draws)
        found = [(pair, few_draws(effective[pair], draws)) for pair in fewer]
    if watch is not None:
        z, dof = tick.learnt()
        # of one pair these are plain numbers, for which NumPy is slow
        if isinstance(z, float) and isinstance(dof, float):
            z = min(max(z, -_FARTHEST), _FARTHEST) if z == z else z
            found += watch.update(z, dof if dof < math.inf else None)
        else:
            found += watch.update(np.clip(z, -_FARTHEST, _FARTHEST), dof)
    if not found:
        return ()
    names = tick.names
    return of_engine([(names[pair] if names else "", alarm) for pair, alarm in found], tick)


def of_engine(found: Sequence[tuple[str, Alarm]], tick: AnyTick) -> Alarms:
    """Alarms by the name of their pair, without the name where the tick is of one pair."""
    return tuple(found) if tick.names else tuple(alarm for _, alarm in found)


def with_feed(signal: Signal, rung: Sequence[tuple[str, Alarm]], conditions: Conditions) -> Signal:
    """A signal with the alarms about the feed that its message has set off, and the condition now."""
    if not rung and conditions == signal.conditions:
        return signal
    alarms: Any = (*signal.alarms, *of_engine(rung, signal.tick))
    return replace(signal, alarms=alarms, conditions=conditions)


def few_draws(effective: float, draws: int) -> Alarm:
    """The alarm that few of the noise draws of a mixture have any weight left."""
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


def find_conditions(watch: Watch | None, engine: Engine, feed: FeedWatch) -> Conditions:
    """The condition of an engine, by its innovations, its held prices and its feed."""
    whole, alarmed = feed.conditions
    found = {} if watch is None else watch.doubtful
    for number, condition in alarmed.items():
        found[number] = _worse(condition, found.get(number, "ok"))
    for name, hold in engine.holds.items():
        if hold.cause in ("scale", "released"):
            whole, number = _worse(whole, "watch"), feed.names.index(name)
            found[number] = _worse("watch", found.get(number, "ok"))
    count = len(engine.targets)
    if not found:
        return Conditions(whole, {}, count, count)
    judged = list(found.values())
    if count < len(engine.pairs):  # some are legs alone
        names = frozenset(engine.targets)
        judged = [each for number, each in found.items() if engine.pairs[number][0] in names]
    if len(judged) > SHARE * count:
        many = judged.count("broken") > SHARE * count
        whole = _worse(whole, "broken" if many else "watch")
    pairs: dict[str, Condition] = {feed.names[n]: found[n] for n in sorted(found)}
    return Conditions(whole, pairs, count, count - len(judged))


def _worse(one: Condition, other: Condition) -> Condition:
    return one if CONDITIONS.index(one) >= CONDITIONS.index(other) else other
