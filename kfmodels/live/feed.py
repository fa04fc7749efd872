"""A filter that may be left alone with a feed: uneven time, missing legs, bad ticks, a crash.

NumPy and the standard library only, as all that trades.

One file: one class; a message passes through all of it before it is answered.
"""

from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from kfmodels.clock.clock import Clock, Elapsed
from kfmodels.clock.instants import Moment, shown
from kfmodels.files.documents import Format, built, encode, plain, register
from kfmodels.files.log import Journal
from kfmodels.kalman.transforms import transform_of
from kfmodels.live.arrivals import MONTH, Ahead, Limit, check_kind, span
from kfmodels.live.monitor import Monitor, Watch
from kfmodels.live.quotes import KEPT, Bars, Quotes, rescale_rows, sent_before
from kfmodels.live.signals import Signal, set_off, worst
from kfmodels.online.engine import AnyTick, Engine
from kfmodels.online.splits import check_factors
from kfmodels.online.ticks import Outcome

FORMAT = Format(
    "kfmodels live filter",
    3,
    "the state of a live filter",
    "begin a new journal with a filter of the fit",
    oldest=3,
)
register(Clock, Clock.to_json, Clock.from_json)  # here, for a clock knows of no files


class LiveFilter(AbstractContextManager["LiveFilter"]):
    """An `OnlineFilter`, or the `OnlineBoard` of a whole universe, that survives its feed.

    Messages bring prices of one leg or of many. A row is made when every leg has a price of that time,
    or one not older than `max_staleness`; time between rows is read off the time stamps. A message
    that is odd is answered, not raised, and never changes the state halfway. With a journal every
    message that counts is committed before it is answered: after a crash the same call goes on where
    the filter stood, to the bit.

    Args:
        engine: of `HedgeFit.online(...)` or `HedgeBoard.online()`; it belongs to the live filter from
            now on.
        clock: turns time stamps into bars and closed periods; without, every new time is one bar, with
            staleness every time at which a leg comes again.
        max_staleness: how old a leg's price may be when another leg's makes a row; a timedelta, or in
            units of the times where those are numbers. Default: rows of one time only.
        monitor: what to watch the innovations for, or None.
        journal: path of the file that keeps it; made if it is not there, gone on with if it is (then
            `engine` and the settings are those in the file, and `overruled` says which others were
            given; but a `clock` of the same market with later sessions takes over). None keeps nothing.
        durable: a message is on the disk when `tick` returns, so that a power cut loses none. False is
            faster, and survives a kill of the process only.
        few_draws: share of the noise draws below which their effective number sets off an alarm.
        strict: raise on a message that is rejected.
        keep: rows to remember for `history`, from which the noise is refreshed.
        max_ahead: how far ahead of the last one taken a time may be, lest a wrong one puts all others
            out of order; a timedelta, of no effect on times that are numbers, one of those, or None.
        explorers: how many of the noise draws of `engine` are explorers, for `refresh` to give new
            noise as many; None takes those beyond the draws that a fit keeps.

    Raises:
        ValueError: negative staleness or `keep`, a span in other units than the times; a journal of
            another fit, in use, damaged or newer.

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
        count = len(engine.pairs)
        watch = None if monitor is None else monitor.board(count)
        self._begin(
            engine,
            {
                "max_staleness": stale,
                "keep": keep,
                "explorers": explorers,
                "few_draws": few_draws,
                "few": [False] * count,
                "quotes": {},
                "bars": 0,
                "come": [],
                "now": None,
                "seq": 0,
                "history": [],
                "rescaled": [],
                "factors": {},
                "max_ahead": ahead.limit,
            },
            clock,
            watch,
        )
        self.overruled: tuple[str, ...] = ()
        """Settings given that the journal has otherwise, a sentence each."""
        if journal is not None:
            given = self._settings()
            self.journal = Journal.open(
                journal, self.to_json(), identity=identify(engine), durable=durable
            )
            self._restore(self.journal.snapshot, journal)
            for seq, message in self.journal.messages():
                self._apply(message)
                self.seq = seq
            if follows(clock, self.clock, self._row and self._row.kept):
                self.clock = clock
                self.journal.compact(self.to_json())
            self.overruled = overruled(given, self._settings())

    def tick(self, prices: Mapping[str, Any], *, at: Any) -> Signal:
        """Take the prices that came at one time, of one leg or of many.

        Args:
            prices: by ticker; NaN or None is no price, other tickers are passed over.
            at: time of the prices. Times are kept to the microsecond.

        Raises:
            ValueError: with `strict`, what else would be answered by "rejected"; a time in other units
                than `max_staleness`.
            OSError: the journal's disk fails. The message was not taken.
        """
        try:
            now = self._time(at)
            good, wrong, known = self._quotes.sort(prices, now)
        except ValueError as error:
            return self._refused(at, str(error))
        self._stale.check("max_staleness", now.kind)
        self._ahead.check_units(now.kind)
        if wrong and (self.strict or not good):
            return self._refused(now.kept, "; ".join(wrong))
        if not good:
            if known:
                reason = f"{', '.join(known)} at this time"
                return self._signal(now.kept, Outcome.DUPLICATE, reason)
            return self._signal(now.kept, Outcome.SKIPPED, "no price of any leg")
        message = {"at": now.kept, "prices": good}
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

    def rescale(self, factors: Mapping[str, float], *, at: Any = None) -> Signal:
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
        trial = built(plain(self.engine))  # or raise, before anything is written
        trial.requote(factors)
        encode(plain(trial), "the rescaled filter")
        since = None if at is None else Moment.of(at)
        if since:
            check_kind("rescale", at, since, self._now or self._row, self._now is not None)
        if sent_before(factors, since, self._rescaled):
            return self.standing(Outcome.DUPLICATE, "rescaled already at this time")
        message = {"rescale": factors, "at": since and since.kept}
        self._record(message)
        signal = self._apply(message)
        self._settle()
        return signal

    def standing(self, outcome: Outcome, reason: str) -> Signal:
        """What is believed now, under an outcome of one's own; nothing is changed."""
        return self._signal(self.engine.at, outcome, reason)

    def replace(self, engine: Engine) -> None:
        """Go on with a filter of the same legs whose noise was inferred anew; see `refresh`.

        What the monitor held against the old noise is forgotten.

        Raises:
            ValueError: other legs, other pairs or another transform; a journal of another thread.
            OSError: the journal's disk fails. Nothing was replaced.
        """
        check_same(engine, self.engine)
        before = self.engine, self._row, self.watch, self._few
        self.engine, self._row = engine, engine.at and Moment.of(engine.at)
        self.watch = self.watch and self.watch.monitor.board(len(self.watch))
        self._few = np.zeros_like(self._few)
        try:
            if self.journal is not None:
                self.journal.compact(self.to_json())
        except BaseException:
            self.engine, self._row, self.watch, self._few = before
            raise

    def history(self) -> list[dict[str, Any]]:
        """The last rows made: `at`, `prices`, and `dt` and `gaps` since the row before."""
        return list(self._history)

    def to_json(self) -> dict[str, Any]:
        """All it needs to go on, as plain numbers, text, lists and dicts."""
        content: dict[str, Any] = {
            "engine": self.engine,
            "clock": self.clock,
            "max_staleness": self._stale,
            "watch": self.watch,
            "few_draws": self._few_draws,
            "few": self._few.tolist(),
            "keep": self._history.maxlen,
            "explorers": self.explorers,
            "history": list(self._history),
            "quotes": self._quotes.to_json(),
            **self._bars.to_json(),
            "now": self._now and self._now.kept,
            "seq": self.seq,
            "rescaled": list(self._rescaled),
            "factors": self.factors,
            "max_ahead": self._ahead.limit,
        }
        return FORMAT.document(content)

    def close(self) -> None:
        """Hand the journal back; what was answered is in it already."""
        if self.journal is not None:
            self.journal.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, engine: Engine, held: dict[str, Any], clock: Clock | None, watch: Any) -> None:
        self.engine, self.clock, self.explorers = engine, clock, held.get("explorers")
        self.watch: Watch | None = watch
        self._stale, self._ahead = held["max_staleness"], Ahead(held["max_ahead"])
        self._bars, self.seq = Bars(held["bars"], held["come"]), held["seq"]
        self._rescaled = deque(held["rescaled"], maxlen=KEPT)
        self.factors = dict(held["factors"])
        self._few_draws, self._few = held["few_draws"], np.array(held["few"], bool)
        least = transform_of(engine.transform).least
        self._quotes = Quotes(engine.tickers, engine.pairs, least, held["quotes"])
        self._now = None if held["now"] is None else Moment.of(held["now"])
        self._row = None if engine.at is None else Moment.of(engine.at)
        self._history: deque[dict[str, Any]] = deque(held["history"], maxlen=held["keep"])

    def _restore(self, document: dict[str, Any], where: object = "this") -> None:
        """Stand where a document says."""
        held = FORMAT.content(document, where)
        self._begin(held["engine"], held, held["clock"], held["watch"])

    def _time(self, at: Any) -> Moment:
        """When it is, if that is not before the last row."""
        now, row = Moment.of(at), self._row
        check_kind("tick", at, now, self._now or row, self._now is not None)
        if row is not None and now.number < row.number:
            late = span(row.number - now.number, now.kind)
            raise ValueError(f"out of order, {late} before the last row")
        if self.clock is not None:  # a time that it cannot read is refused here
            self.clock.between((row or now).kept, now.kept)
        self._ahead.check(now, self._now)
        return now

    def _record(self, message: dict[str, Any]) -> None:
        self.seq = self.seq + 1 if self.journal is None else self.journal.append(message)

    def _settle(self) -> None:
        """A snapshot now and then."""
        if self.journal is not None and self.journal.due:
            with suppress(OSError):  # the message is in; the next one tries again
                self.journal.compact(self.to_json())

    def _apply(self, message: dict[str, Any]) -> Signal:
        """What a message does; the same again when it is replayed."""
        if "rescale" in message:
            self.engine.requote(message["rescale"])
            if message["at"] is not None:
                self._rescaled.append(message)
            factors, at = message["rescale"], message["at"]
            before = None if at is None else Moment.of(at)
            self._quotes.rescale(factors, before)
            rescale_rows(self._history, factors, before)
            self.factors |= {n: self.factors.get(n, 1.0) * f for n, f in factors.items()}
            return self._signal(self.engine.at if at is None else at, Outcome.RESCALED)
        now = Moment.of(message["at"])
        if self._row is not None and now.number == self._row.number:
            self._quotes.take(message["prices"], now)
            late = f"{', '.join(message['prices'])} after the row of this time was made"
            return self._signal(now.kept, Outcome.SKIPPED, f"{late}, kept for the next")
        if self._now is None or now.number > self._now.number:
            self._bars.add(message["prices"], apart=bool(self._stale.units))
            self._now = now
        self._quotes.take(message["prices"], now)
        row, absent = self._quotes.row(now, self._stale.units or 0)
        # one pair waits for all its legs; of many each takes the row that it has
        empty = all(price != price for price in row.values())
        if absent and (len(self.engine.pairs) == 1 or empty):
            return self._signal(now.kept, Outcome.SKIPPED, ", ".join(absent))
        passed = self._passed(now)
        try:
            tick = self.engine.take(row, at=now.kept, dt=passed.bars, gaps=passed.gaps)
        except ValueError as error:
            return self._signal(now.kept, Outcome.REJECTED, str(error))
        self._bars.count, self._row = 0, now
        self._quotes.doubts.add(tick.quarantined())
        doubted = self._quotes.doubts.hidden()
        prices = {n: None if p != p or n in doubted else p for n, p in row.items()}
        self._history.append(
            {"at": now.kept, "prices": prices, "dt": passed.bars, "gaps": passed.gaps}
        )
        outcome, reason = tick.overall()
        if self._stale.units and (aged := self._quotes.aged(row, now)):
            reason = "; ".join(filter(None, [reason, f"with {aged} old"]))
        return self._signal(now.kept, outcome, reason, self._watched(tick), tick)

    def _settings(self) -> dict[str, Any]:
        """What rules, as it is shown to the user."""
        own = {"few_draws": self._few_draws, "keep": self._history.maxlen}
        own |= {"max_staleness": self._stale.given, "max_ahead": self._ahead.limit.given}
        return settings(self.engine, self.clock, self.watch, **own)

    def _passed(self, now: Moment) -> Elapsed:
        """Time since the last row."""
        if self.clock is None or self._row is None:
            return Elapsed(float(self._bars.count), {})
        return self.clock.between(self._row.kept, now.kept)

    def _watched(self, tick: AnyTick) -> tuple[Any, ...]:
        few = np.atleast_1d(tick.effective_draws) < self._few_draws * self.engine.draws
        fewer, self._few = np.flatnonzero(few & ~self._few).tolist(), few
        return set_off(tick, self.watch, fewer, self.engine.draws)

    def _refused(self, at: Any, why: str) -> Signal:
        if self.strict:
            raise ValueError(f"rejected: {why}; nothing was changed")
        return self._signal(at, Outcome.REJECTED, why)

    def _signal(
        self,
        at: Any,
        outcome: Outcome,
        reason: str = "",
        alarms: tuple[Any, ...] = (),
        tick: AnyTick | None = None,
    ) -> Signal:
        tick = self.engine.standing() if tick is None else tick
        condition = worst(self.watch, self.engine.holds)
        return Signal(self.seq, at, outcome, reason, tick, alarms, condition)


def check_same(new: Engine, old: Engine) -> None:
    """Raise unless one engine may take the place of another: same pairs and transform."""
    if type(new) is not type(old) or new.pairs != old.pairs or new.transform != old.transform:
        raise ValueError(
            f"the new filter is of {', '.join(new.tickers[:4])} ({new.transform}), this one of "
            f"{', '.join(old.tickers[:4])} ({old.transform})"
        )


def identify(engine: Engine) -> str:
    """What a journal belongs to: the fit, or at least the legs."""
    made = engine.fit_id or f"noise until {engine.until}"
    return f"{made}; {', '.join(engine.tickers)}; {engine.transform}"


def check_amounts(keep: int, few_draws: float) -> None:
    """Raise unless these are a number of rows and a share of the draws."""
    if keep < 0:
        raise ValueError(f"keep is a number of rows, 0 or more, not {keep}")
    if not 0 <= few_draws < 1:
        raise ValueError(f"few_draws is a share of the draws, from 0 to below 1, not {few_draws}")


def settings(
    engine: Engine,
    clock: Clock | None,
    watch: Watch | None,
    **others: Any,
) -> dict[str, Any]:
    """What rules a live filter, by name."""
    return {
        "clock": clock,
        "monitor": None if watch is None else watch.monitor,
        "shocks": engine.shocks,
        "forgetting": engine.forgetting,
        "draws": engine.draws,
    } | others


def overruled(given: Mapping[str, Any], kept: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each setting that differs from the one that a journal keeps."""
    return tuple(
        f"{name} is {_told(kept[name])} as the journal keeps it, not {_told(value)} as given now"
        for name, value in given.items()
        if kept[name] != value
    )


def follows(given: Clock | None, kept: Clock | None, row: Any) -> bool:
    """Whether a clock is the one kept with later sessions, which knows the last `row` as well."""
    if given is None or kept is None or given.sessions is None or kept.sessions is None:
        return False
    new, old = given.sessions, kept.sessions
    if (given.bar, given.zone, new.name, new.zone) != (kept.bar, kept.zone, old.name, old.zone):
        return False
    try:
        if row is not None:
            given.between(row, row)
    except ValueError:
        return False
    return new.closes[-1] > old.closes[-1]


def _told(value: Any) -> str:
    if not isinstance(value, Clock) or value.sessions is None:
        return repr(value) if not isinstance(value, timedelta) else str(value)
    first, last = shown(value.sessions.opens[0]), shown(value.sessions.closes[-1])
    return f"a clock in bars of {value.bar} of {value.sessions.name} from {first} to {last} UTC"
