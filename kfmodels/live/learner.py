"""What of a live filter learns: its filters, the monitor and the watch of its feed, bar by bar.

One file: one class, whose methods all go back to the start of the open bar and on from there.
"""

import math
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from kfmodels.clock.clock import Clock, Elapsed
from kfmodels.clock.instants import Moment
from kfmodels.kalman.transforms import RETURN
from kfmodels.live.bars import Bar, Known, Start, moment_of
from kfmodels.live.feed_watch import FeedWatch
from kfmodels.live.monitor import Alarm, Watch
from kfmodels.live.quotes import Quotes, Row, Units, rows_before
from kfmodels.live.signals import Alarms, find_alarms
from kfmodels.online.engine import AnyTick, Engine

_SAME = 0.2
"""Share by which a price of the fit and one of the same row live may differ, as by a later print; the
commonest change of units, a 3-for-2 split, is a third."""

_FEW, _MANY = np.array([True]), np.array([False])


class Taken(NamedTuple):
    """A move that a pair learnt after a quarantine: its time, the leg, and its prices."""

    at: int | str
    leg: str
    before: float
    now: float

    @property
    def size(self) -> float:
        """As a share of the price; NaN where one is missing."""
        return abs(self.now - self.before) / (abs(self.before) or 1.0)

    def is_change(self, units: Units) -> bool:
        """Whether a change of units explains all of it but a quarter."""
        said = units.convert(self.leg, self.before) - self.before
        return abs(self.now - self.before - said) < abs(said) / 4


class Learner:
    """Takes the rows of a live filter, and takes that of a bar once more when more of it is known.

    Args:
        engine: the filters.
        watch: over their innovations, or None.
        quotes: last prices of the legs.
        feed: the watch over them.
        few_draws, few: share of the draws below which a pair has few, and which pairs have; none has
            where the weights are shared out anew.
        bar: the one that is open; None before the first price.
        history: the last rows.
        taken: by pair the last move that was learnt after a quarantine, as `Taken` has it.
    """

    def __init__(
        self,
        engine: Engine,
        watch: Watch | None,
        quotes: Quotes,
        feed: FeedWatch,
        *,
        few_draws: float,
        few: np.ndarray,
        bar: Bar | None,
        history: Iterable[Row],
        keep: int,
        clock: Clock | None,
        taken: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        self.engine, self.watch, self.quotes, self.feed = engine, watch, quotes, feed
        self.few_draws, self.few = few_draws, few
        self.row = None if engine.at is None else Moment.of(engine.at)
        """Time of the last row that is final."""
        self.history = deque(history, maxlen=keep)
        self.taken = {name: Taken(*each) for name, each in (taken or {}).items()}
        self._taking: dict[str, Taken] = {}  # of the open bar
        self._away: Start | None = (
            None  # where to come back to while it stands at the start of a bar
        )
        self.rung: list[tuple[str, Alarm]] = []  # leads and lags that this message has set off
        self.bar = Bar.of_row(engine.at, engine.tickers) if bar is None else bar
        if self.bar is not None and not self.bar.final:
            self.bar.start = Start.of(engine, watch, few)
            if self.bar.rows:
                self.learn(self.bar, self.bar.rows, clock)

    def mark(self) -> tuple[Any, ...]:
        """Where all that learns stands, for `back` where a message of prices fails."""
        bar, rows = self.bar, self.history
        ends = (rows[0], rows[-1]) if rows else (None, None)
        now = Start.of(self.engine, self.watch, self.few), self.row, self.taken, self._taking
        return (*now, bar, bar and bar.mark(), (len(rows), *ends))

    def back(self, mark: tuple[Any, ...]) -> None:
        """Stand again where `mark` was taken, at most one message of prices ago."""
        where, self.row, self.taken, self._taking, self.bar, bar, (count, first, last) = mark
        self._stand(where)
        if self.bar is not None:
            self.bar.back(bar)
        rows, self.rung, self._away = self.history, [], None
        # a message adds a row, which may push out the first, or takes the last one again
        if len(rows) > count or (count == len(rows) > 0 and rows[-1] is not last):
            rows.pop()
        if len(rows) < count and not (rows and rows[-1] is last):
            rows.append(last)
        if len(rows) < count:
            rows.appendleft(first)

    def come_back(self) -> None:
        """Stand where it stood where `at_start` was interrupted."""
        if self._away is not None:
            self._stand(self._away)
            self._away = None

    def replaced(
        self, engine: Engine, quotes: Quotes, feed: FeedWatch, spots: Sequence[int]
    ) -> "Learner":
        """The same with another engine, in which the pairs of this one have the numbers `spots`; what
        the bar so far has taught is in it for good."""
        bar, made = self.bar, copy(self)
        made.engine, made.quotes, made.feed = engine, quotes, feed
        made.row = None if engine.at is None else Moment.of(engine.at)
        made.bar = Bar.of_row(engine.at, engine.tickers if bar is None else bar.come)
        if made.bar is not None and bar is not None:
            made.bar.quarantined = [spots[number] for number in bar.quarantined]
        made.watch = self.watch and self.watch.monitor.board(len(engine.pairs))
        made.few = np.zeros(len(engine.pairs), bool)
        return made

    def catch_up(self, engine: Engine, clock: Clock | None) -> None:
        """Teach another engine the rows remembered that are later than its last one.

        Raises:
            ValueError: as `LiveFilter.catch_up`.
        """
        if engine.at is None or self.row is None:
            return
        start, rows = Moment.of(engine.at), list(self.history)
        if start.kind != self.row.kind:
            raise ValueError(
                f"the new fit ends on {start.kept}, {start.kind}, and the last row here was "
                f"{self.row.kind}: fit prices whose index has such times"
            )
        later = [_is_later(moment_of(row["at"]), start, clock) for row in rows]
        until = None if self.engine.until is None else Moment.of(self.engine.until)
        full = len(rows) == self.history.maxlen and all(later)
        older = until is not None and _is_later(until, start, clock)
        if older or (full and _is_later(self.row, start, clock)):
            first = rows[0]["at"] if rows else self.row.kept
            raise ValueError(
                f"the new fit ends on {start.kept}, before the rows that the live filter remembers, "
                f"from {first} on: fit prices that end later"
            )
        for row, missing in zip(rows, later, strict=True):
            at = moment_of(row["at"])
            if not missing and not _is_later(start, at, clock):
                _check_units(engine.last, row)
            if missing:
                prices = {name: row["prices"].get(name) for name in engine.tickers}
                given = {name: math.nan if p is None else p for name, p in prices.items()}
                dt, gaps = row["dt"], row["gaps"]
                if clock is not None:  # the row before may be one that the fit alone has seen
                    passed = clock.between(start.kept, at.kept)
                    dt, gaps = passed.bars, passed.gaps
                engine.take(given, at=at.kept, dt=dt, gaps=gaps)
                start = at

    def requote(
        self,
        units: Units,
        before: Moment | None,
        clock: Clock | None,
        learnt: Mapping[str, Taken] | None = None,
    ) -> Alarms:
        """Convert to new units, but for the pairs that have `learnt` the change as a move; the row of
        the open bar is then taken once more."""
        bar, moved = self.bar, tuple(learnt or ())
        self.taken = {name: each for name, each in self.taken.items() if name not in moved}
        if bar is None or bar.start is None:
            requote_engine(self.engine, units, learnt=moved)
            return ()
        requote_engine(self.engine, units, bar.start.engine, moved)
        bar.start = bar.start._replace(engine=self.engine.mark())
        bar.requote(units.convert, before)
        if not bar.rows:
            return ()
        try:
            return bar.tell(self.learn(bar, bar.rows, clock)[1])
        except ValueError:  # no arithmetic can follow it: what waits is the next row
            return ()

    def since(self, units: Units, at: Moment | None) -> tuple[Moment | None, dict[str, Taken]]:
        """From when on prices are in new units already, and the pairs that have learnt the change as a
        move, in a row that is final and not before `at`."""
        if at is None and (self._holds_scale(units) or self._jumps(units)):
            assert self.bar is not None
            at = self.bar.at
        learnt = {
            name: each
            for name, each in self.taken.items()
            if not units.shifts
            and each.is_change(units)
            and (at is None or at.number <= moment_of(each.at).number)
        }
        if learnt and at is None:
            times = [moment_of(each.at) for each in learnt.values()]
            at = min(times, key=lambda time: time.number)
        return at, learnt

    def tell(self, learnt: Mapping[str, Taken]) -> list[str]:
        """What became of the moves that turned out to be changes of units, a sentence each."""
        what = "the level has it already"
        if self.engine.transform == RETURN:
            what = "the next return starts from it already"
        if len(self.engine.pairs[0]) == 1:  # a basket, which has no level
            what = (
                "it counts as a wild day until the universe is made anew: kf.hedge_universe(prices)"
            )
        return [
            f"{leg} went from {before:g} to {now:g} at {at}, which was learnt as a real move: {what}; "
            "if a later change is meant, call once more with the time from which it holds"
            for at, leg, before, now in dict.fromkeys(learnt.values())
        ]

    def _holds_scale(self, units: Units) -> bool:
        """Whether a leg that is held in the open bar seems to be in other units, and is named."""
        held = {name for name, hold in self.engine.holds.items() if hold.cause == "scale"}
        names = self.engine.standing().names or tuple(held)
        named = zip(names, self.engine.pairs, strict=False)
        open_ = self.bar is not None and bool(self.bar.rows)
        return open_ and any(
            name in held and not units.factors.keys().isdisjoint(legs) for name, legs in named
        )

    def _jumps(self, units: Units) -> bool:
        """Whether the row of the open bar is one that such a change explains."""
        bar = self.bar
        if bar is None or not bar.rows:
            return False
        held = set(self.engine.holds)
        with self.at_start():
            last = dict(self.engine.last)
            held |= set(self.engine.holds)
        moves = _largest_moves(self.engine, held, last, prices_of(bar.rows[0]), bar.at.kept)
        return any(move.is_change(units) for move in moves.values())

    def last_before(self, since: Moment | None) -> dict[str, float]:
        """The last price of every leg that was learnt from, before a moment if one is given."""
        bar = self.bar
        if since is None or bar is None:
            return dict(self.engine.last)
        if bar.rows and Moment.of(bar.rows[0]["at"]).number >= since.number:
            # the row of the bar is of the new prices, and of a short history it may be all there is
            with self.at_start():
                last = dict(self.engine.last)
        else:
            last = dict(self.engine.last)
        for row in rows_before(self.history, since):
            last |= {name: price for name, price in row["prices"].items() if price is not None}
        return last

    def content(self) -> dict[str, object]:
        """What `__init__` takes to make it again, by name."""
        return {
            "engine": self.engine,
            "watch": self.watch,
            "few_draws": self.few_draws,
            "few": self.few.tolist(),
            "bar": self.bar and self.bar.to_json(),
            "history": list(self.history),
            "keep": self.history.maxlen,
            "taken": {name: list(each) for name, each in self.taken.items()},
        }

    def open_bar(self, now: Moment) -> tuple[Alarms, Bar]:
        """Make the row of the bar final and begin the next; also the alarms that were still to give."""
        last, left, count = self.bar, (), 1
        for name, move in self._taking.items():
            # further rows of a shock are learnt after a hold too, and move little
            if name not in self.taken or move.size > self.taken[name].size / 2:
                self.taken = self.taken | {name: move}
        self._taking = {}
        if last is not None:
            self.quotes.doubts.add(last.quarantined)
            left = last.tell(last.untold)
            if last.unwatched is not None:
                left = last.tell(self._watched(last.unwatched))
                self.rung += self.feed.take(prices_of(last.rows[0]), last.unwatched)
            if last.rows:
                self.row = moment_of(last.rows[0]["at"])
            else:
                count = last.count + 1
        self.bar = bar = Bar(now, set(), count, False)
        bar.waits = last is not None and last.polls > 1
        bar.start = Start.of(self.engine, self.watch, self.few)
        return left, bar

    def learn(self, bar: Bar, rows: list[Known], clock: Clock | None) -> tuple[AnyTick, Alarms]:
        """Take the row of a bar from the start of the bar; where it raises nothing has changed."""
        row, *others = map(prices_of, rows)
        at = rows[0]["at"]
        passed = self._passed(at, bar, clock)
        assert bar.start is not None  # only what is final has none
        before = bar.start.engine
        if bar.rows:  # else it stands at the start of the bar
            before = self.engine.mark()
            self.engine.back(bar.start.engine)
        held = set(self.engine.holds)
        last = dict(self.engine.last) if held else {}
        try:
            tick = self.engine.take(row, at=at, dt=passed.bars, gaps=passed.gaps, earlier=others)
        except ValueError:
            self.engine.back(before)
            raise
        if bar.rows and self.history:
            self.history.pop()
        bar.rows, bar.quarantined = rows, tick.quarantined()
        self._taking = {}
        if held:
            names = tick.names or tuple(held)
            held -= {names[number] for number in bar.quarantined}
            self._taking = _largest_moves(self.engine, held, last, row, at)
        # a refresh learns from this history, and must not learn from a print in quarantine
        doubted = self.quotes.doubts.hidden(bar.quarantined)
        prices = rows[0]["prices"] | dict.fromkeys(doubted)
        self.history.append({"at": at, "prices": prices, "dt": passed.bars, "gaps": passed.gaps})
        self.few = bar.start.few
        if self.watch is not None:
            self.watch.back(bar.start.watch)
        whole = bar.whole
        bar.unwatched = None if whole else tick
        alarms = self._watched(tick) if whole else ()
        bar.untold = alarms if bar.waits else ()
        return tick, () if bar.waits else alarms

    @contextmanager
    def at_start(self) -> Generator[None]:
        """What learns, as it stood at the start of the bar; afterwards as it stands now."""
        bar = self.bar
        if bar is None or bar.start is None:
            yield
            return
        self._away = Start.of(self.engine, self.watch, self.few)
        try:
            self._stand(bar.start)
            yield
        finally:
            self.come_back()

    def _stand(self, where: Start) -> None:
        self.engine.back(where.engine)
        self.few = where.few
        if self.watch is not None:
            self.watch.back(where.watch)

    def _passed(self, at: int | str, bar: Bar, clock: Clock | None) -> Elapsed:
        """Time since the last row that is final."""
        if clock is None or self.row is None:
            return Elapsed(float(bar.count), {})
        return clock.between(self.row.kept, at)

    def _watched(self, tick: AnyTick) -> Alarms:
        # where a share of the weights is handed out anew, few draws are no fault: the others can come
        # back, and on 28 daily pairs the alarm rang twice as often as without a grid of memories
        least = self.few_draws * self.engine.draws if self.engine.share == 0 else 0.0
        few = tick.effective_draws < least
        if isinstance(few, np.ndarray):
            fewer, self.few = np.flatnonzero(few & ~self.few).tolist(), few
        else:  # of one pair a plain number, for which NumPy is slow
            fewer = [0] if few and not self.few[0] else []
            self.few = _FEW if few else _MANY
        return find_alarms(tick, self.watch, fewer, self.engine.draws)


def prices_of(known: Known) -> dict[str, float]:
    """The prices of a row, NaN where there is none."""
    return {name: math.nan if p is None else p for name, p in known["prices"].items()}


def _is_later(at: Moment, before: Moment, clock: Clock | None) -> bool:
    """Whether a time is of a later bar than another."""
    if clock is None:
        return at.number > before.number
    return clock.bar_of(at.kept) > clock.bar_of(before.kept)


def _check_units(last: Mapping[str, float], row: Row) -> None:
    """Raise where the last price of a leg is far from that of the same row here."""
    for name, price in row["prices"].items():
        if price is None or name not in last:
            continue
        if abs(price - last[name]) > _SAME * max(abs(price), abs(last[name])):
            raise ValueError(
                f"{name} ends at {last[name]:g} in the new fit, and was {price:g} here in the row at "
                f"{row['at']}: fit prices in the units of the feed, or call "
                f"live.rescale({{{name!r}: {last[name] / price:g}}}) first"
            )


def _largest_moves(
    engine: Engine,
    pairs: set[str],
    before: Mapping[str, float],
    now: Mapping[str, float],
    at: int | str,
) -> dict[str, Taken]:
    """Of some pairs the leg that moved most, as a share of its price."""
    found = dict[str, Taken]()
    if not pairs:
        return found
    names = engine.standing().names or tuple(pairs)
    for name, legs in zip(names, engine.pairs, strict=True):
        if name in pairs:
            each = [Taken(at, leg, before.get(leg, math.nan), now[leg]) for leg in legs]
            known = [move for move in each if move.size == move.size]
            if known:
                found[name] = max(known, key=lambda move: move.size)
    return found


def requote_engine(
    engine: Engine, units: Units, since: Any = None, learnt: Sequence[str] = ()
) -> None:
    """Convert an engine to new units, from a mark on if one is given; `learnt` as `Engine` has it."""
    if not units.shifts:
        engine.requote(units.factors, since, learnt)
        return
    if since is not None:
        engine.back(since)
    engine.adjust(units.shifts)
