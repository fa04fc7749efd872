"""The bar that a live filter is in: what it learns within a bar is provisional.

The state at the start of the bar is kept. Every message of the bar goes back to it and takes the row as
known so far, and only the next bar makes that final. So the legs of a bar may come in any order, and a
bar may be polled as often as one likes: its last prices stand, and they count once. Where bars are
polled, what the monitor says of one is told when its last row is known, for every poll is a chance of a
false alarm: on ETFs that were polled six times a day it rang up to four times as often.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict

import numpy as np

from kfmodels.clock.clock import Clock
from kfmodels.clock.instants import Moment, Stamp
from kfmodels.live.monitor import Watch
from kfmodels.live.signals import Alarm, Alarms
from kfmodels.online.engine import AnyTick, Engine

moment_of = lru_cache(16)(Moment.of)
"""`Moment.of` a whole number or a text: a message asks for its own several times."""


class Known(TypedDict):
    """A row as known so far: its time, the prices (None where there is none), and when each came."""

    at: int | str
    prices: dict[str, float | None]
    times: dict[str, int]


class Start(NamedTuple):
    """Where all that learns stood when a bar began."""

    engine: Any
    watch: Any
    few: np.ndarray

    @classmethod
    def of(cls, engine: Engine, watch: Watch | None, few: np.ndarray) -> "Start":
        return cls(engine.mark(), None if watch is None else watch.mark(), few)


@dataclass
class Bar:
    """A bar, and the row that its messages make.

    Args:
        at: the first time in it.
        come: legs with a price of this bar.
        count: bars since the last row that is final, this one included; used where no clock counts.
        final: whether it cannot be undone, as the last row of a fit: further prices teach nothing.
        rows: the row as known so far, then earlier rows of the bar that a pair of a board still needs;
            empty as long as nothing was learnt.
        quarantined: numbers of the pairs whose row is in quarantine.
        told: alarms of the bar that were given, pair and kind.
        polls: messages that made a row of prices of this bar alone.
        waits: whether the bar before was polled, so that the alarms of this one wait for its end.
    """

    at: Moment
    come: set[str]
    count: int
    final: bool
    rows: list[Known] = field(default_factory=list[Known])
    quarantined: list[int] = field(default_factory=list[int])
    told: list[list[str]] = field(default_factory=list[list[str]])
    polls: int = 0
    waits: bool = False
    start: Start | None = field(default=None, init=False)
    unwatched: AnyTick | None = field(default=None, init=False)
    """The tick of a row with a price from before the bar; the monitor sees it only if it stays so."""
    untold: Alarms = field(default=(), init=False)
    """Alarms of the row as known so far, where they wait."""

    @classmethod
    def of_row(cls, at: Stamp | None, come: Iterable[str]) -> "Bar | None":
        """The bar of a row that is final; None if there is no row."""
        return None if at is None else cls(Moment.of(at), set(come), 0, True)

    def is_followed(
        self, now: Moment, legs: Iterable[str], clock: Clock | None, *, apart: bool
    ) -> bool:
        """Whether prices of these legs at a time are of a later bar.

        Without a clock every new time is a bar; where the legs of a bar may come `apart`, every new
        time at which a leg comes again.
        """
        if now.number <= self.at.number:
            return False
        if clock is not None:
            return clock.bar_of(now.kept) > clock.bar_of(self.at.kept)
        return not (apart and self.come and self.come.isdisjoint(legs))

    def holds(self, now: Moment, clock: Clock | None) -> bool:
        """Whether a time that is of no later bar is of this one, and not of one before."""
        if clock is None or now.number >= self.at.number:
            return True
        return clock.bar_of(now.kept) == clock.bar_of(self.at.kept)

    def add(self, row: Known, pairs: Sequence[tuple[str, ...]]) -> list[Known]:
        """The rows with one more; of the earlier ones those stay that complete a pair."""
        self.polls += self._is_own(row)
        if None not in row["prices"].values():
            return [row]
        kept, left = [row], [legs for legs in pairs if not _has(row, legs)]
        for earlier in self.rows:
            rest = [legs for legs in left if not _has(earlier, legs)]
            if len(rest) < len(left):
                kept.append(earlier)
            left = rest
        return kept

    @property
    def whole(self) -> bool:
        """Whether all prices of the row came in this bar."""
        return all(map(self._is_own, self.rows))

    def _is_own(self, row: Known) -> bool:
        prices = row["prices"]
        return prices.keys() <= self.come or all(
            price is None or name in self.come for name, price in prices.items()
        )

    def requote(self, convert: Callable[[str, float], float], before: Moment | None) -> None:
        """Convert the prices from before a moment to new units, or all if there is none."""
        for row in self.rows:
            prices, times = row["prices"], row["times"]
            for name, price in prices.items():
                if price is not None and (before is None or times[name] < before.number):
                    prices[name] = convert(name, price)

    def tell(self, alarms: Alarms) -> Alarms:
        """Those of the alarms that were not given in this bar yet."""
        new: list[Any] = []
        for alarm in alarms:
            key = ["", alarm.kind] if isinstance(alarm, Alarm) else [alarm[0], alarm[1].kind]
            if key not in self.told:
                self.told = [*self.told, key]
                new.append(alarm)
        return tuple(new)

    def mark(self) -> tuple[Any, ...]:
        """What a message of prices may replace; it changes nothing in place."""
        now = self.come, self.rows, self.quarantined, self.told, self.polls, self.waits
        return (*now, self.start, self.unwatched, self.untold)

    def back(self, mark: tuple[Any, ...]) -> None:
        """Stand again where `mark` was taken."""
        self.come, self.rows, self.quarantined, self.told, self.polls, self.waits, *kept = mark
        self.start, self.unwatched, self.untold = kept

    def to_json(self) -> dict[str, object]:
        """What `from_json` takes."""
        return {
            "at": self.at.kept,
            "come": sorted(self.come),
            "count": self.count,
            "final": self.final,
            "rows": self.rows,
            "quarantined": self.quarantined,
            "told": self.told,
            "polls": self.polls,
            "waits": self.waits,
        }

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> "Bar":
        """The bar of `to_json`, without its start."""
        given: dict[str, Any] = dict(held)
        return cls(Moment.of(given.pop("at")), set(given.pop("come")), **given)


def _has(row: Known, legs: Iterable[str]) -> bool:
    return all(row["prices"][name] is not None for name in legs)
