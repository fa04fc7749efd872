"""The state of a live filter, and what a message that is taken makes of it, live and when replayed.

One file: whatever a message changes is named, written, read again and told here.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from kfmodels.clock.clock import Clock
from kfmodels.clock.instants import Moment, Stamp
from kfmodels.files.documents import Format, Json, register
from kfmodels.files.log import Message
from kfmodels.kalman.density import Z90
from kfmodels.kalman.transforms import transform_of
from kfmodels.live.arrivals import Ahead
from kfmodels.live.bars import Bar, moment_of
from kfmodels.live.feed_watch import FeedWatch
from kfmodels.live.learner import Learner
from kfmodels.live.monitor import CONDITIONS, Condition, Watch
from kfmodels.live.quotes import KEPT, Priced, Quotes, Rescaled, Units, requote_rows
from kfmodels.live.signals import Alarms, Conditions, Signal, find_conditions, with_feed
from kfmodels.online.engine import AnyTick, Engine, name_pairs, say_when
from kfmodels.online.splits import tell_shifts
from kfmodels.online.ticks import Outcome
from kfmodels.words.shown import wrap

FORMAT = Format(
    "kfmodels live filter",
    5,
    "the state of a live filter",
    "begin a new journal with a filter of the fit",
    oldest=4,
)

register(Clock, Clock.to_json, Clock.from_json)  # here, because `clock` does not import `files`


SHOWN = 5
"""Pairs that the text of a live filter shows."""


class Seen(NamedTuple):
    """One target as it stands: the ratio to its first or heaviest hedge, and whether it is in order."""

    name: str
    target: str
    hedge: str
    more: int
    """How many other hedges it has."""

    ratio: float
    sd: float
    z: float
    """NaN where no row has come since the state was read."""

    condition: Condition
    note: str
    trail: tuple[float, ...] = ()

    @property
    def lower(self) -> float:
        """Of the 90 % band of the ratio."""
        return self.ratio - Z90 * self.sd

    @property
    def upper(self) -> float:
        return self.ratio + Z90 * self.sd


class LiveState:
    """Prices as they came in, what learns from them, the watch of the feed, and the units.

    The same messages in the same order make the same state, to the last bit.
    """

    def _begin(
        self, engine: Engine, held: dict[str, Any], clock: Clock | None, watch: Watch | None
    ) -> None:
        self.clock = clock
        self._stale, self._ahead = held["max_staleness"], Ahead(held["max_ahead"])
        self.seq = held["seq"]
        self._rescaled = deque(held["rescaled"], maxlen=KEPT)
        self.units = Units(held["factors"], held.get("shifts", {}))
        """All changes of units so far, as one."""
        least = transform_of(engine.transform).least
        self._quotes = Quotes(engine.tickers, engine.pairs, least, held["quotes"])
        self._feed: FeedWatch = FeedWatch(engine, held.get("feed"))
        self._last: AnyTick | None = None  # of the last row, for those who look
        now = held["now"]
        self._now = None if now is None else Moment.of(now)
        self._learner = Learner(
            engine,
            watch,
            self._quotes,
            self._feed,
            few_draws=held["few_draws"],
            few=np.array(held["few"], bool),
            bar=None if held["bar"] is None else Bar.from_json(held["bar"]),
            history=held["history"],
            keep=held["keep"],
            clock=clock,
            taken=held.get("taken"),
        )

    @property
    def engine(self) -> Engine:
        """The filters."""
        return self._learner.engine

    @property
    def watch(self) -> Watch | None:
        """The monitor of their innovations."""
        return self._learner.watch

    def _restore(self, document: Message, where: object = "this") -> None:
        """Take over the state in a document."""
        held = FORMAT.content(document, where)
        self._begin(held["engine"], held, held["clock"], held["watch"])

    def _put_in_place(self, engine: Engine, spots: Sequence[int]) -> None:
        """Go on with another engine, in which the pairs of this one have the numbers `spots`."""
        if engine.pairs != self.engine.pairs:
            held = self._quotes.to_json()
            for quote in held.values():
                quote[-1] = [spots[number] for number in quote[-1]]
            least = transform_of(engine.transform).least
            self._quotes = Quotes(engine.tickers, engine.pairs, least, held)
            self._feed = self._feed.of_more(engine)
        self._learner = self._learner.replaced(engine, self._quotes, self._feed, spots)

    def _document(self) -> dict[str, Json]:
        with self._learner.at_start():
            return FORMAT.document(self._content())

    def _content(self) -> dict[str, object]:
        return {
            "clock": self.clock,
            "max_staleness": self._stale,
            "quotes": self._quotes.to_json(),
            "now": self._now and self._now.kept,
            "seq": self.seq,
            "rescaled": list(self._rescaled),
            "factors": dict(self.units.factors),
            "shifts": dict(self.units.shifts),
            "max_ahead": self._ahead.limit,
            "feed": self._feed.to_json(),
            **self._learner.content(),
        }

    def standing(self, outcome: Outcome = Outcome.SKIPPED, reason: str = "no new row") -> Signal:
        """What is believed now, with this outcome and reason; nothing is changed."""
        return self._signal(self.engine.at, outcome, reason)

    def _apply(self, message: Priced | Rescaled) -> Signal:
        """Carry out a message that is recorded; does the same when it is replayed."""
        signal = self._take(message) if "prices" in message else self._requote(message)
        told = self._feed.known.told
        rung = [*self._learner.rung, *self._feed.ring(self.engine, signal.tick)]
        self._learner.rung = []
        if not rung and self._feed.known.told is told:
            return signal  # nothing of the condition has changed since `_take`
        return with_feed(signal, rung, self._conditions())

    def _requote(self, message: Rescaled) -> Signal:
        units, at = Units.of(message), message["at"]
        if at is not None:
            self._rescaled.append(message)
        before, learnt = self._learner.since(units, None if at is None else Moment.of(at))
        self._quotes.requote(units, before)
        self._feed.rescale(units.moved())
        requote_rows(self._learner.history, units, before)
        self.units = self.units.then(units)
        said = [tell_shifts(message.get("adjust", {}), units.factors), *self._learner.tell(learnt)]
        reason = "; ".join(filter(None, said))
        alarms = self._learner.requote(units, before, self.clock, learnt)
        seen = self.engine.at if at is None else at
        return self._signal(seen, Outcome.RESCALED, reason, alarms)

    def _take(self, message: Priced) -> Signal:
        """Keep the prices, and make a row of them if every leg has one."""
        now, prices = moment_of(message["at"]), message["prices"]
        left: Alarms = ()
        bar = self._learner.bar
        opens = bar is None
        if bar is None or bar.is_followed(now, prices, self.clock, apart=bool(self._stale.units)):
            opens, (left, bar) = True, self._learner.open_bar(now)
        self._feed.arrive(prices, self._quotes.prices, now, opens=opens)
        self._quotes.take(prices, now)
        if self._now is None or now.number > self._now.number:
            self._now = now
        if bar.holds(now, self.clock):
            bar.come = bar.come | prices.keys()
        if bar.final:
            reason = (
                f"no time has passed since the row at {bar.at.kept}, which is final: "
                f"{', '.join(prices)} kept for the next"
            )
            return self._signal(now.kept, Outcome.SKIPPED, reason, left)
        # a leg that comes late makes the row of the latest time
        row, absent = self._quotes.row(self._now, self._stale.units or 0)
        # one pair waits for all its legs; on a board those that have theirs need not wait for others
        if absent and (
            len(self.engine.pairs) == 1 or all(price != price for price in row.values())
        ):
            return self._signal(now.kept, Outcome.SKIPPED, ", ".join(absent), left)
        rows = bar.add(self._quotes.known(row, self._now), self.engine.pairs)
        try:
            tick, alarms = self._learner.learn(bar, rows, self.clock)
        except ValueError as error:
            self._feed.reject(str(error))
            return self._signal(now.kept, Outcome.REJECTED, str(error), left)
        self._feed.answer(tick)
        self._last = tick
        outcome, reason = tick.overall()
        if self._stale.units and (aged := self._quotes.aged(row, self._now)):
            reason = "; ".join(filter(None, [reason, f"with {aged} old"]))
        if bar.unwatched is None:
            self._learner.rung += self._feed.take(row, tick)
        if doubted := self._feed.doubt_split(tick):
            reason = f"{reason}; {doubted}"
        told = cast("Alarms", (*left, *bar.tell(alarms)))  # both of one pair, or both of a board
        return self._signal(now.kept, outcome, reason, told, tick)

    def _rows(self) -> list[Seen]:
        """What `Spectator.rows` gives, without trails."""
        conditions, held = self._conditions(), self._held()
        order = {name: rank for rank, name in enumerate(CONDITIONS)}
        usual = "ok" if len(self.engine.pairs) > 1 else conditions.whole
        # after an interrupt the last row may be one that was taken back
        last: Any = self._last if self._last and self._last.at == self.engine.at else None
        z = [math.nan] * len(self.engine.pairs) if last is None else np.atleast_1d(last.z).tolist()
        found: list[Seen] = []
        for pair, name, one in zip(self.engine.pairs, self._feed.names, z, strict=True):
            if name not in held:  # a leg alone
                continue
            legs = held[name]
            hedge = max(legs, key=lambda leg: abs(legs[leg][0]), default="")
            ratio, sd = legs.get(hedge, (math.nan, math.nan))
            stands = conditions.pairs.get(name, usual), self._note(name, pair)
            found.append(Seen(name, pair[0], hedge, len(legs) - 1, ratio, sd, one, *stands))
        return sorted(found, key=lambda row: (-order[row.condition], -abs(np.nan_to_num(row.z))))

    def _tell(self) -> str:
        """Of whom, whether in order, the ratios to hold, and what is believed of the noise now."""
        engine, rows = self.engine, self._rows()
        head = f"{name_pairs(engine)} {say_when(engine)}"
        if len(engine.pairs) == 1:
            z = _write_z(rows[0].z)
            head += z and f"; {z}"
            legs = self._held()[rows[0].name].items()
            cells = [(leg, _write_ratio(ratio, sd)) for leg, (ratio, sd) in legs]
        else:
            cells = [
                (
                    f"{row.target}/{row.hedge}{f' +{row.more}' if row.more > 0 else ''}",
                    _write_ratio(row.ratio, row.sd),
                    _write_z(row.z),
                    row.condition,
                )
                for row in rows[:SHOWN]
            ]
        columns = [column for column in zip(*cells, strict=True) if any(column)]
        widths = [max(map(len, column)) for column in columns]
        lines = ["  ".join(map(str.ljust, row, widths)) for row in zip(*columns, strict=True)]
        more = len(rows) - SHOWN if len(engine.pairs) > 1 else 0
        lines += [f"and {more} more"] if more > 0 else []
        noise: str = getattr(engine.standing(), "noise_said", "")  # a universe has none
        said = [
            wrap(f"{head}; {self._conditions().sentence}", others="    "),
            *(f"  {line.rstrip()}" for line in lines),
        ]
        return "\n".join([*said, wrap(noise, others="  ")] if noise else said)

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

    def _settings(self) -> dict[str, object]:
        """The settings in force, by name, as the user gives them."""
        return {
            "clock": self.clock,
            "monitor": None if self.watch is None else self.watch.monitor,
            "shocks": self.engine.shocks,
            "share": self.engine.share,
            "draws": self.engine.draws,
            "few_draws": self._learner.few_draws,
            "keep": self._learner.history.maxlen,
            "max_staleness": self._stale.given,
            "max_ahead": self._ahead.limit.given,
        }

    def _signal(
        self,
        at: Stamp | None,
        outcome: Outcome,
        reason: str = "",
        alarms: Alarms = (),
        tick: AnyTick | None = None,
    ) -> Signal:
        tick = self.engine.standing() if tick is None else tick
        return Signal(self.seq, at, outcome, reason, tick, alarms, self._conditions())

    def _conditions(self) -> Conditions:
        return find_conditions(self.watch, self.engine, self._feed)


def _write_ratio(ratio: float, sd: float) -> str:
    return f"{ratio:.4g} +- {sd:.2g}"


def _write_z(z: float) -> str:
    return f"z {z:+.1f}" if z == z else ""
