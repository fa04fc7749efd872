"""A filter that runs unattended on a feed: uneven time, missing legs, bad ticks, a crash.

One file: one class; a message passes through all of it before it is answered.
"""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from copy import copy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

from kfmodels.clock.clock import Clock
from kfmodels.clock.instants import Moment, Stamp
from kfmodels.files.documents import Json, encode
from kfmodels.files.log import Journal
from kfmodels.kalman.transforms import LEVEL
from kfmodels.live.arrivals import MONTH, Ahead, Limit, check_kind, span
from kfmodels.live.bars import moment_of
from kfmodels.live.monitor import Monitor
from kfmodels.live.quotes import Priced, Rescaled, Row, was_sent_before
from kfmodels.live.settings import (
    Turn,
    UnfitError,
    check_amounts,
    check_survives,
    extends,
    find_pairs,
    identify,
    list_overruled,
    settle_clock,
    shorten,
    tell_start,
)
from kfmodels.live.signals import Signal, with_feed
from kfmodels.live.state import LiveState
from kfmodels.online.engine import Engine
from kfmodels.online.splits import check_factors, check_shifts, turn_into_factors
from kfmodels.online.ticks import Outcome
from kfmodels.words.caller import explain_kinds
from kfmodels.words.shown import Shown


class LiveFilter(Shown, LiveState, AbstractContextManager["LiveFilter"]):
    """An `OnlineFilter`, or the `OnlineBoard` of a whole universe, that survives its feed.

    Messages bring prices of one leg or of many. A row is made when every leg has a price of that time,
    or one not older than `max_staleness`; time between rows is read off the time stamps. The messages
    of a bar make one row: each goes back to the start of the bar and takes the row as known so far,
    which the next bar makes final. So legs may come in any order, and a bar may be polled. A message
    that is bad is answered, not raised, and never changes the state halfway; nor does Ctrl-C. With a
    journal every message that is taken is committed before it is answered: after a crash the same call
    goes on where the filter stood, to the last bit, and `started` says where that is.

    Args:
        engine: of `HedgeFit.online(...)` or `HedgeBoard.online()`; it belongs to the live filter from
            now on.
        clock: turns time stamps into bars (`Clock.bar_of`) and closed periods. None is that of an
            engine that reads the time of day; without one every new time is one bar, with
            `max_staleness` every new time at which a leg comes again.
        max_staleness: how old a leg's price may be when another leg's makes a row; a timedelta, or a
            number where times are numbers. Default: rows of one time only.
        monitor: what to watch the innovations for, or None.
        journal: path of the file that keeps it, or None. A file that is there is gone on with:
            `engine` and the settings are then those in it, and `overruled` says which others were
            given; but a `clock` of the same market with later sessions takes over.
        survives: what no message that was answered is lost by: "kill", of the process, or also a
            "power-cut", for which every message waits for the disk.
        accept_loss: go on with a journal in which messages that were answered are missing, as after a
            power cut where it was to survive kills; `started` says which.
        few_draws: share of the noise draws below which their effective number sets off an alarm; of an
            engine whose `share` is 0, for else any draw can come back.
        strict: raise on a message that is rejected.
        keep: rows to remember for `history`, from which the noise is refreshed.
        max_ahead: how far ahead of the last one taken, or of the last row of the fit, a time may be,
            lest a wrong one puts all others out of order; a timedelta (where times are numbers: a
            thousandth of the last one, and at least a million), a number, or None.

    Raises:
        ValueError: negative staleness or `keep`, a span in other units than the times; a journal that
            is of another fit, in use, damaged, lacks messages, or is of a newer kfmodels.

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

    @explain_kinds
    def __init__(
        self,
        engine: Engine,
        *,
        clock: Clock | None = None,
        max_staleness: timedelta | int = 0,
        monitor: Monitor | None = Monitor(),
        journal: str | Path | None = None,
        survives: Literal["kill", "power-cut"] = "kill",
        accept_loss: bool = False,
        few_draws: float = 0.1,
        strict: bool = False,
        keep: int = 1000,
        max_ahead: timedelta | int | None = MONTH,
    ) -> None:
        clock = settle_clock(engine, clock)
        stale, ahead = Limit.of("max_staleness", max_staleness), Ahead.of(max_ahead)
        check_amounts(keep, few_draws)
        if engine.at is not None:
            stale.check("max_staleness", Moment.of(engine.at).kind)
            ahead.check_units(Moment.of(engine.at).kind)
        self.strict, self.journal = strict, None
        self._turn: Turn | None = None
        watch = None if monitor is None else monitor.board(len(engine.pairs))
        self._begin(
            engine,
            {
                "max_staleness": stale,
                "keep": keep,
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
        self.started = tell_start(journal, self.seq, engine.at)
        """Where it goes on, in a sentence."""
        if journal is not None:
            # a new file keeps the state that was just begun; the state of one that is there replaces it
            given, sure = self._settings(), check_survives(survives)
            how: Any = {"identity": identify(engine), "durable": sure, "accept_loss": accept_loss}
            self.journal = Journal.open(journal, self.to_json(), **how)
            self._restore(self.journal.snapshot, journal)
            for seq, message in self.journal.messages():
                self._apply(cast("Priced | Rescaled", message))
                self.seq = seq
            if extends(clock, self.clock, self._learner.row and self._learner.row.kept):
                self.clock = settle_clock(self.engine, clock)
                self.journal.compact(self.to_json())
            self.overruled = list_overruled(given, self._settings())
            last = engine.at if self._now is None else self._now.kept
            self.started = tell_start(journal, self.seq, last, self.journal.loss)

    def __str__(self) -> str:
        return self._tell()

    def tick(self, prices: Mapping[str, float | None], *, at: Stamp) -> Signal:
        """Take the prices that came at one time, of one leg or of many.

        Args:
            prices: by ticker; NaN or None is no price, other tickers are passed over.
            at: time of the prices. Times are kept to the microsecond.

        Raises:
            ValueError: a time in other units than `max_staleness`; with `strict`, what is rejected.
            OSError: the journal's disk fails. The message was not taken.
        """
        self._recover()
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
        try:
            signal = self._carry_out({"at": now.kept, "prices": good})
        except UnfitError as error:
            return self._refused(now.kept, str(error))
        self._ahead.taken()
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

    def replace(self, engine: Engine) -> None:
        """Go on with a filter whose noise was inferred anew; see `refresh` and `HedgeBoard.take_over`.

        It has all the pairs of this one, and may have more. The monitor starts again, as its evidence
        was about the old noise. With a journal it is one step, which is there after a crash or is not.

        Raises:
            ValueError: a pair is missing or has other legs, another transform; a journal of another
                thread.
            OSError: the journal's disk fails. Nothing was replaced.
        """
        self._recover()
        spots = find_pairs(engine, self.engine)
        before = self._learner, self._quotes, self._feed
        try:
            self._put_in_place(engine, spots)
            if self.journal is not None:
                self.journal.compact(self.to_json())
        except BaseException:
            self._learner, self._quotes, self._feed = before
            raise

    def catch_up(self, engine: Engine) -> None:
        """Teach another engine, made from a table of prices, the rows seen since its last one.

        Prices that are in doubt here are left out.

        Raises:
            ValueError: its last row is earlier than the rows remembered, of another kind of time, or
                in other units than the same row here.
        """
        self._recover()
        self._learner.catch_up(engine, self.clock)

    def history(self) -> list[Row]:
        """The last rows, one a bar: `at`, `prices`, and `dt` and `gaps` since the row before."""
        self._recover()
        return list(self._learner.history)

    def to_json(self) -> dict[str, Json]:
        """All it needs to go on, as plain numbers, text, lists and dicts.

        What has learnt is as it stood at the start of the bar, with the row of the bar beside it.
        """
        self._recover()
        return self._document()

    def close(self) -> None:
        """Hand the journal back; what was answered is in it already."""
        if self.journal is not None:
            self.journal.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _time(self, at: Stamp) -> Moment:
        """Read the time of a message; raise if it cannot be taken."""
        now = moment_of(at) if type(at) in (int, str) else Moment.of(at)
        row = self._learner.row
        check_kind("tick", at, now, self._now or row, self._now is not None)
        if row is not None and now.number < row.number:
            late = span(row.number - now.number, now.kind)
            raise ValueError(f"out of order, {late} before the last row")
        if self.clock is not None:  # a time that it cannot read is refused here
            self.clock.between((row or now).kept, now.kept)
        self._ahead.check(now, self._now or row)
        return now

    def _carry_out(self, message: Priced | Rescaled) -> Signal:
        """Apply a message, then commit it; where either fails or is interrupted nothing has changed.

        Raises:
            UnfitError: it cannot be applied, or nothing could be read again after it.
            OSError: the journal's disk fails.
        """
        self._turn = self._begin_turn(message)
        try:
            self.seq += 1
            try:
                signal = self._apply(message)
                if "prices" not in message:
                    copy(self)._restore(json.loads(encode(self._document(), "the rescaled filter")))
            except Exception as error:
                raise UnfitError.of(error) from error
            if self.journal is not None:
                self.journal.append(message)
        except BaseException:
            self._recover()
            raise
        self._turn = None
        return signal

    def _begin_turn(self, message: Priced | Rescaled) -> Turn:
        """Where all stands; cheap for prices, and a whole document for what changes everything."""
        if "prices" not in message:
            return Turn(self.seq, document=self._document())
        marks = self._quotes.mark(), self._feed.mark(), self._learner.mark()
        return Turn(self.seq, (self._now, *marks))

    def _recover(self) -> None:
        """Make good what an exception has left in the middle of a message, as Ctrl-C does."""
        self._learner.come_back()
        turn = self._turn
        if turn is None:
            return
        if self.journal is not None and self.journal.last_seq > turn.seq:
            self.seq = self.journal.last_seq  # it was committed, and so it had been applied
        elif turn.document is not None:
            self._restore(turn.document)
        else:
            self._now, quotes, feed, learner = turn.marks
            self._quotes.back(quotes)
            self._feed.back(feed)
            self._learner.back(learner)
            self.seq = turn.seq
        self._turn = None

    def _settle(self) -> None:
        """Replace the messages by a snapshot where there are many, as replaying them takes time."""
        if self.journal is not None and self.journal.due:
            with suppress(OSError):  # the message is in; the next one tries again
                self.journal.compact(self._document())

    def _since(self, what: str, at: Stamp | None) -> Moment | None:
        """Read the time from which on prices are in new units."""
        if at is None:
            return None
        since = Moment.of(at)
        check_kind(what, at, since, self._now or self._learner.row, self._now is not None)
        return since

    def _change(self, message: Rescaled, since: Moment | None) -> Signal:
        """Take a message of new units, unless it came before."""
        self._recover()
        if was_sent_before(message, since, self._rescaled):
            return self.standing(Outcome.DUPLICATE, "rescaled already at this time")
        signal = self._carry_out(message)
        self._settle()
        return signal

    def _refused(self, at: Stamp, why: str) -> Signal:
        why = shorten(why)
        if isinstance(at, str):
            at = shorten(at, 64)
        if self.strict:
            raise ValueError(f"rejected: {why}; nothing was changed")
        self._feed.refuse(why)
        return self._ring(self._signal(at, Outcome.REJECTED, why))

    def _ring(self, signal: Signal) -> Signal:
        """The answer to a message that is not recorded, with what it says of the feed."""
        return with_feed(signal, self._feed.ring(self.engine, signal.tick), self._conditions())
