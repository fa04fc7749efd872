"""A filter that runs unattended on a feed: uneven time, missing legs, bad ticks, a crash.

One file: one class; a message passes through all of it before it is answered.
"""

from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from copy import copy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np

from kfmodels.clock.clock import Clock
from kfmodels.clock.instants import Moment, Stamp
from kfmodels.files.documents import Format, Json, built, encode, plain, register
from kfmodels.files.log import Journal, Message
from kfmodels.kalman.transforms import LEVEL, transform_of
from kfmodels.live.arrivals import MONTH, Ahead, Limit, check_kind, span
from kfmodels.live.bars import Bar, moment_of
from kfmodels.live.condition import Conditions, find_conditions
from kfmodels.live.feed_watch import FeedWatch
from kfmodels.live.learner import Learner, requote_engine
from kfmodels.live.monitor import Monitor, Watch
from kfmodels.live.quotes import (
    KEPT,
    Priced,
    Quotes,
    Rescaled,
    Row,
    Units,
    requote_rows,
    was_sent_before,
)
from kfmodels.live.settings import check_amounts, check_same, extends, identify, list_overruled
from kfmodels.live.signals import Alarms, Signal, with_feed
from kfmodels.online.engine import AnyTick, Engine
from kfmodels.online.splits import check_factors, check_shifts, tell_shifts, turn_into_factors
from kfmodels.online.ticks import Outcome

FORMAT = Format(
    "kfmodels live filter",
    5,
    "the state of a live filter",
    "begin a new journal with a filter of the fit",
    oldest=4,
)

register(Clock, Clock.to_json, Clock.from_json)  # here, because `clock` does not import `files`


class LiveFilter(AbstractContextManager["LiveFilter"]):
    """An `OnlineFilter`, or the `OnlineBoard` of a whole universe, that survives its feed.

    Messages bring prices of one leg or of many. A row is made when every leg has a price of that time,
    or one not older than `max_staleness`; time between rows is read off the time stamps. The messages
    of a bar make one row: each goes back to the start of the bar and takes the row as known so far,
    which the next bar makes final. So legs may come in any order, and a bar may be polled. A message
    that is bad is answered, not raised, and never changes the state halfway. With a journal every
    message that is taken is committed before it is answered: after a crash the same call goes on
    where the filter stood, to the last bit.

    Args:
        engine: of `HedgeFit.online(...)` or `HedgeBoard.online()`; it belongs to the live filter from
            now on.
        clock: turns time stamps into bars (`Clock.bar_of`) and closed periods. Without one every
            new time is one bar; with `max_staleness`, every new time at which a leg comes again.
        max_staleness: how old a leg's price may be when another leg's makes a row; a timedelta, or a
            number where times are numbers. Default: rows of one time only.
        monitor: what to watch the innovations for, or None.
        journal: path of the file that keeps it, or None. A file that is there is gone on with:
            `engine` and the settings are then those in it, and `overruled` says which others were
            given; but a `clock` of the same market with later sessions takes over.
        durable: a message is on the disk when `tick` returns, so that a power cut loses none. False is
            faster, and survives a kill of the process only.
        few_draws: share of the noise draws below which their effective number sets off an alarm.
        strict: raise on a message that is rejected.
        keep: rows to remember for `history`, from which the noise is refreshed.
        max_ahead: how far ahead of the last one taken a time may be, lest a wrong one puts all others
            out of order; a timedelta (of no effect where times are numbers), a number, or None.
        explorers: how many of the noise draws of `engine` are explorers, for `refresh` to give new
            noise as many; None takes those beyond the draws that a fit keeps.

    Raises:
        ValueError: negative staleness or `keep`, a span in other units than the times; a journal that
            is of another fit, in use, damaged, or of a newer kfmodels.

    Example:
        >>> from kfmodels import HedgeData, datasets, fit, hedge_ratio_model
        >>> prices = datasets.stocks()[["AAPL", "SPX"]].loc["2019"]
        >>> data = HedgeData.from_prices(prices, target="AAPL", hedges=["SPX"])
        >>> model = hedge_ratio_model(delta=0.01, obs_scale=0.01)
        >>> live = LiveFilter(fit(data, model, progress=False).online(), max_staleness=timedelta(0, 5))
        >>> live.tick({"SPX": 3257.8}, at="2020-01-02T09:30:00").sentence
        'skipped: no price of AAPL'
        >>> live.tick({"AAPL": 75.1}, at="2020-01-02T09:30:02").sentence
        'accepted: with SPX 00:00:02 old'
        >>> live.tick({"AAPL": 75.2}, at="2020-01-02T09:33:12").sentence
        'skipped: stale SPX 00:03:12'
        >>> live.tick({"AAPL": -1.0}, at="2020-01-02T09:33:13").sentence
        'rejected: AAPL has the price -1'
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Clock | None = None,
        max_staleness: timedelta | int = 0,
        monitor: Monitor | None = Monitor(),
        journal: str | Path | None = None,
        durable: bool = True,
        few_draws: float = 0.1,
        strict: bool = False,
        keep: int = 1000,
        explorers: int | None = None,
        max_ahead: timedelta | int | None = MONTH,
    ) -> None:
        stale, ahead = Limit.of("max_staleness", max_staleness), Ahead.of(max_ahead)
        check_amounts(keep, few_draws)
        if engine.at is not None:
            stale.check("max_staleness", Moment.of(engine.at).kind)
            ahead.check_units(Moment.of(engine.at).kind)
        self.strict, self.journal = strict, None
        watch = None if monitor is None else monitor.board(len(engine.pairs))
        self._begin(
            engine,
            {
                "max_staleness": stale,
                "keep": keep,
                "explorers": explorers,
                "few_draws": few_draws,
                "few": [False] * len(engine.pairs),
                "quotes": {},
                "bar": None,
                "now": None,
                "seq": 0,
                "history": [],
                "rescaled": [],
                "factors": {},
                "shifts": {},
                "max_ahead": ahead.limit,
            },
            clock,
            watch,
        )
        self.overruled: tuple[str, ...] = ()
        """Settings given that the journal has otherwise, a sentence each."""
        if journal is not None:
            # a new file keeps the state that was just begun; the state of one that is there replaces it
            given = self._settings()
            self.journal = Journal.open(
                journal, self.to_json(), identity=identify(engine), durable=durable
            )
            self._restore(self.journal.snapshot, journal)
            for seq, message in self.journal.messages():
                self._apply(cast("Priced | Rescaled", message))
                self.seq = seq
            if extends(clock, self.clock, self._learner.row and self._learner.row.kept):
                self.clock = clock
                self.journal.compact(self.to_json())
            self.overruled = list_overruled(given, self._settings())

    def tick(self, prices: Mapping[str, float | None], *, at: Stamp) -> Signal:
        """Take the prices that came at one time, of one leg or of many.

        Args:
            prices: by ticker; NaN or None is no price, other tickers are passed over.
            at: time of the prices. Times are kept to the microsecond.

        Raises:
            ValueError: a time in other units than `max_staleness`; with `strict`, what is rejected.
            OSError: the journal's disk fails. The message was not taken.
        """
        try:
            now = self._time(at)
            good, wrong, known = self._quotes.sort(prices, now)
        except ValueError as error:
            return self._refused(at, str(error))
        # a wrong setting would spoil every message to come, so these two are raised
        self._stale.check("max_staleness", now.kind)
        self._ahead.check_units(now.kind)
        self._feed.note_names(prices)
        if wrong and (self.strict or not good):
            return self._refused(now.kept, "; ".join(wrong))
        if known and not good:
            return self._signal(now.kept, Outcome.DUPLICATE, f"{', '.join(known)} at this time")
        if not good:
            return self._ring(self._signal(now.kept, Outcome.SKIPPED, "no price of any leg"))
        message: Priced = {"at": now.kept, "prices": good}
        # written first: a crash from here on is made good by replaying the message
        self._record(message)
        self._ahead.taken()
        signal = self._apply(message)
        self._settle()
        if self.strict and signal.outcome is Outcome.REJECTED:
            raise ValueError(signal.sentence)
        if wrong:
            reason = "; ".join(filter(None, [signal.reason, f"rejected: {'; '.join(wrong)}"]))
            return replace(signal, reason=reason)
        return signal

    def rescale(self, factors: Mapping[str, float], *, at: Stamp | None = None) -> Signal:
        """A leg is quoted otherwise from now on: a split, a multiplier, another currency.

        Args:
            factors: new price over old by ticker; 0.5 after a 2-for-1 split.
            at: from when on prices are in the new units, all that come later unless given. The same
                factors at the same time once more, after a crash say, do nothing. Without a time none
                can be told from another: each is done.

        Raises:
            ValueError: no factor or one that is not positive, a ticker that is no leg, a time of
                another kind than those of the ticks.
            OSError: the journal's disk fails. Nothing was rescaled.
        """
        factors = check_factors(factors, self.engine.tickers)
        if not factors:
            raise ValueError(
                "no factor is given: name the ticker, with 1 where a move that is held was real"
            )
        since = self._since("rescale", at)
        return self._change({"rescale": factors, "at": since and since.kept}, since)

    def adjust(self, shifts: Mapping[str, float], *, at: Stamp | None = None) -> Signal:
        """The price of a leg moves by an amount when no value does: a cash dividend, a roll.

        On levels the shift is exact. On logs and returns it is taken as the factor
        `(last + shift) / last` at the last price of the leg that was learnt from, before `at` if that
        is given; the reason of the answer, whose outcome is "rescaled", says which.

        Args:
            shifts: new price minus old by ticker, in currency: minus the dividend on its ex-day, new
                contract minus old on the day of a roll.
            at: as for `rescale`, which says too what becomes of one that is sent again.

        Raises:
            ValueError: no shift or one that is no number, a ticker that is no leg, a time of another
                kind than those of the ticks; what `OnlineFilter.adjust` raises.
            OSError: the journal's disk fails. Nothing was changed.
        """
        shifts = check_shifts(shifts, self.engine.tickers)
        if not shifts:
            raise ValueError("no shift is given: name the ticker, with minus its dividend")
        since = self._since("adjust", at)
        message: Rescaled = {"adjust": shifts, "at": since and since.kept}
        if self.engine.transform != LEVEL and not was_sent_before(message, since, self._rescaled):
            message["rescale"] = turn_into_factors(shifts, self._learner.last_before(since))
        return self._change(message, since)

    def standing(self, outcome: Outcome, reason: str) -> Signal:
        """What is believed now, with this outcome and reason; nothing is changed."""
        return self._signal(self.engine.at, outcome, reason)

    def replace(self, engine: Engine) -> None:
        """Go on with a filter of the same legs whose noise was inferred anew; see `refresh`.

        The monitor starts again, as its evidence was about the old noise.

        Raises:
            ValueError: other legs, other pairs or another transform; a journal of another thread.
            OSError: the journal's disk fails. Nothing was replaced.
        """
        check_same(engine, self.engine)
        before, self._learner = self._learner, copy(self._learner)
        self._learner.replace(engine)
        try:
            if self.journal is not None:
                self.journal.compact(self.to_json())
        except BaseException:
            self._learner = before
            raise

    def history(self) -> list[Row]:
        """The last rows, one a bar: `at`, `prices`, and `dt` and `gaps` since the row before."""
        return list(self._learner.history)

    def to_json(self) -> dict[str, Json]:
        """All it needs to go on, as plain numbers, text, lists and dicts.

        What has learnt is as it stood at the start of the bar, with the row of the bar beside it.
        """
        with self._learner.at_start():
            return FORMAT.document(self._content())

    def _content(self) -> dict[str, object]:
        return {
            "clock": self.clock,
            "max_staleness": self._stale,
            "explorers": self.explorers,
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

    def close(self) -> None:
        """Hand the journal back; what was answered is in it already."""
        if self.journal is not None:
            self.journal.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(
        self, engine: Engine, held: dict[str, Any], clock: Clock | None, watch: Watch | None
    ) -> None:
        self.clock, self.explorers = clock, held.get("explorers")
        self._stale, self._ahead = held["max_staleness"], Ahead(held["max_ahead"])
        self.seq = held["seq"]
        self._rescaled = deque(held["rescaled"], maxlen=KEPT)
        self.units = Units(held["factors"], held.get("shifts", {}))
        """All changes of units so far, as one."""
        least = transform_of(engine.transform).least
        self._quotes = Quotes(engine.tickers, engine.pairs, least, held["quotes"])
        self._feed, now = FeedWatch(engine, held.get("feed")), held["now"]
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

    def _time(self, at: Stamp) -> Moment:
        """Read the time of a message; raise if it cannot be taken."""
        now, row = Moment.of(at), self._learner.row
        check_kind("tick", at, now, self._now or row, self._now is not None)
        if row is not None and now.number < row.number:
            late = span(row.number - now.number, now.kind)
            raise ValueError(f"out of order, {late} before the last row")
        if self.clock is not None:  # a time that it cannot read is refused here
            self.clock.between((row or now).kept, now.kept)
        self._ahead.check(now, self._now)
        return now

    def _record(self, message: Priced | Rescaled) -> None:
        self.seq = self.seq + 1 if self.journal is None else self.journal.append(message)

    def _settle(self) -> None:
        """Replace the messages by a snapshot where there are many, as replaying them takes time."""
        if self.journal is not None and self.journal.due:
            with suppress(OSError):  # the message is in; the next one tries again
                self.journal.compact(self.to_json())

    def _apply(self, message: Priced | Rescaled) -> Signal:
        """Carry out a message that is recorded; does the same when it is replayed."""
        signal = self._take(message) if "prices" in message else self._requote(message)
        told = self._feed.known.told
        rung = [*self._learner.rung, *self._feed.ring(self.engine, signal.tick)]
        self._learner.rung = []
        if not rung and self._feed.known.told is told:
            return signal  # nothing of the condition has changed since `_take`
        return with_feed(signal, rung, self._conditions())

    def _since(self, what: str, at: Stamp | None) -> Moment | None:
        """Read the time from which on prices are in new units."""
        if at is None:
            return None
        since = Moment.of(at)
        check_kind(what, at, since, self._now or self._learner.row, self._now is not None)
        return since

    def _change(self, message: Rescaled, since: Moment | None) -> Signal:
        """Take a message of new units, unless it came before."""
        # try it on a copy: what the engine refuses, or no document can hold, must not be written
        if was_sent_before(message, since, self._rescaled):
            return self.standing(Outcome.DUPLICATE, "rescaled already at this time")
        trial = built(plain(self.engine))
        requote_engine(trial, Units.of(message))
        encode(plain(trial), "the rescaled filter")
        self._record(message)
        signal = self._apply(message)
        self._settle()
        return signal

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
        bar, opens = self._learner.bar, False
        if bar is None or bar.is_followed(now, prices, self.clock, apart=bool(self._stale.units)):
            opens, (left, bar) = True, self._learner.open_bar(now)
        self._feed.arrive(prices, self._quotes.prices, now, opens=opens)
        self._quotes.take(prices, now)
        if self._now is None or now.number > self._now.number:
            self._now = now
        if bar.holds(now, self.clock):
            bar.come |= prices.keys()
        if bar.final:
            reason = (
                f"no time has passed since the row at {bar.at.kept}, which is final: "
                f"{', '.join(prices)} kept for the next"
            )
            return self._signal(now.kept, Outcome.SKIPPED, reason, left)
        # a leg that comes late makes the row of the latest time
        row, absent = self._quotes.row(self._now, self._stale.units or 0)
        # one pair waits for all its legs; on a board those that have theirs need not wait for others
        empty = all(price != price for price in row.values())
        if absent and (len(self.engine.pairs) == 1 or empty):
            return self._signal(now.kept, Outcome.SKIPPED, ", ".join(absent), left)
        rows = bar.add(self._quotes.known(row, self._now), self.engine.pairs)
        try:
            tick, alarms = self._learner.learn(bar, rows, self.clock)
        except ValueError as error:
            self._feed.reject(str(error))
            return self._signal(now.kept, Outcome.REJECTED, str(error), left)
        self._feed.answer(tick)
        outcome, reason = tick.overall()
        if self._stale.units and (aged := self._quotes.aged(row, self._now)):
            reason = "; ".join(filter(None, [reason, f"with {aged} old"]))
        if bar.unwatched is None:
            self._learner.rung += self._feed.take(row, tick)
        if doubted := self._feed.doubt_split(tick):
            reason = f"{reason}; {doubted}"
        told = cast("Alarms", (*left, *bar.tell(alarms)))  # both of one pair, or both of a board
        return self._signal(now.kept, outcome, reason, told, tick)

    def _settings(self) -> dict[str, object]:
        """The settings in force, by name, as the user gives them."""
        return {
            "clock": self.clock,
            "monitor": None if self.watch is None else self.watch.monitor,
            "shocks": self.engine.shocks,
            "forgetting": self.engine.forgetting,
            "draws": self.engine.draws,
            "few_draws": self._learner.few_draws,
            "keep": self._learner.history.maxlen,
            "max_staleness": self._stale.given,
            "max_ahead": self._ahead.limit.given,
        }

    def _refused(self, at: Stamp, why: str) -> Signal:
        if self.strict:
            raise ValueError(f"rejected: {why}; nothing was changed")
        self._feed.refuse(why)
        return self._ring(self._signal(at, Outcome.REJECTED, why))

    def _ring(self, signal: Signal) -> Signal:
        """The answer to a message that is not recorded, with what it says of the feed."""
        return with_feed(signal, self._feed.ring(self.engine, signal.tick), self._conditions())

    def _signal(
        self,
        at: Stamp | None,
        outcome: Outcome,
        reason: str = "",
        alarms: Alarms = (),
        tick: AnyTick | None = None,
    ) -> Signal:
        said = tick or self.engine.standing(), alarms, self._conditions()
        return Signal(self.seq, at, outcome, reason, *said)

    def _conditions(self) -> Conditions:
        return find_conditions(self.watch, self.engine, self._feed)
