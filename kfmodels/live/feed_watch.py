"""What a live filter says of its feed: a leg that is missing, stands still or comes early, rows held.

The monitor judges innovations, and a feed that has died has none. So this counts, message by message,
the bars since each leg came and the rows in which it has not moved.

One file: one class, whose alarms read the same counts.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from kfmodels.clock.instants import Moment, Stamp
from kfmodels.files.documents import Json
from kfmodels.kalman.transforms import transform_of
from kfmodels.live.lags import Lag, Lags, Stand
from kfmodels.live.monitor import Action, Alarm, Condition
from kfmodels.live.settings import shorten
from kfmodels.online.engine import AnyTick, Engine

MISSING = 10
"""Bars in which other legs came after which one that did not is missing.

It is twice its second longest absence where that is longer, so a leg that is often away is not called
missing, and one outage does not make it so.
"""

LONG_CALM = 10
"""Rows in succession in which no leg of a pair moved from which on that is an alarm.

Two weeks of days, which hardly any holiday lasts.
"""

HELD = 5
"""Rows that may be quarantined in succession before that is an alarm."""

REJECTED = 10
"""Answers in succession that are all "rejected", with no row made between them, that are an alarm."""

_STILL = 4  # rows that a leg has stood still at least when the engine calls it stopped
_NAMES = 50  # unknown tickers remembered

type Kind = Literal[
    "missing leg", "stopped leg", "calm", "held prices", "rejected rows", "lead or lag"
]
type Subject = tuple[Kind, str, str]
"""What an alarm is about: its kind, the pair (empty for a leg of all), the leg (empty for a pair)."""


class Known(NamedTuple):
    """All that a feed watch remembers; never changed in place, so that it can be gone back to.

    `bar` is the number of bars so far, the last of which was `opened` at that time, `come` the bar in
    which each leg came last (0: never) and `away` its two longest absences in bars, the longer first;
    `stood` the rows in succession in which a leg did not move and `since` when it last did; `held` the
    rows in succession that a pair did not learn from, and `told` what alarms are on.
    """

    bar: int
    opened: Stamp | None
    come: dict[str, int]
    away: dict[str, list[int]]
    stood: dict[str, int]
    since: dict[str, Stamp]
    held: dict[str, int]
    told: tuple[Subject, ...]


class Taken(NamedTuple):
    """What to go back to where the row of a `bar` is taken again: what was `held` and where the tests
    of lags stood before it, and the legs that it counted."""

    bar: int
    held: dict[str, int]
    lags: tuple[Stand, ...]
    legs: list[str]


class FeedWatch:
    """Alarms about the feed of an engine. `known` and `lags.stands` are its state.

    Args:
        engine: whose pairs and tickers it watches.
        held: what `to_json` gave.
    """

    def __init__(self, engine: Engine, held: Mapping[str, Any] | None = None) -> None:
        self._pairs, self._tickers = tuple(engine.pairs), frozenset(engine.tickers)
        self.names = engine.standing().names or (engine.pairs[0][0],)
        held = held or {}
        self.lags = Lags(engine.pairs, transform_of(engine.transform), held.get("lags"))
        none = dict.fromkeys(engine.tickers, 0)
        known = Known(0, None, none, {}, none, {}, {}, ())
        if held:
            told = tuple(cast("Subject", tuple(each)) for each in held["told"])
            known = known._replace(**{name: held[name] for name in Known._fields[:-1]}, told=told)
        self.known: Known = known
        self._last: Taken | None = None
        if held and held["last"] is not None:
            bar, before, lags, legs = held["last"]
            self._last = Taken(bar, before, self.lags.read(lags), legs)
        self.rejected: dict[str, int] = dict(held.get("rejected", {}))
        """Answers in succession that rejected the row of a pair, by its name; of all pairs under ""."""
        # in memory only, as a journal holds the prices of legs alone, and no message that is refused
        self._refused, self._why = 0, ""
        self._unknown: dict[str, None] = {}
        self._strange = 0

    def of_more(self, engine: Engine) -> "FeedWatch":
        """What is known so far, for an engine of more pairs; the tests of lags begin again.

        A new leg is given as much time to come as one that came in this bar.
        """
        made, known = FeedWatch(engine), self.known
        fresh = dict.fromkeys(engine.tickers, known.bar)
        made.known = known._replace(
            come=fresh | known.come, stood=dict.fromkeys(engine.tickers, 0) | known.stood
        )
        made.rejected = self.rejected
        return made

    def mark(self) -> tuple[Any, ...]:
        """Where it stands now; all of it is replaced by a message, and never changed in place."""
        return self.known, self.lags.stands, self._last, self.rejected, self._refused, self._why

    def back(self, mark: tuple[Any, ...]) -> None:
        """Stand again where `mark` was taken."""
        self.known, self.lags.stands, self._last, self.rejected, self._refused, self._why = mark

    def note_names(self, given: Collection[object]) -> None:
        """Count the messages in succession that name no leg, and remember the names of no leg in them,
        or in any message while some leg has never come."""
        if given:
            self._strange = self._strange + 1 if self._tickers.isdisjoint(given) else 0
        wanted = self._strange or 0 in self.known.come.values()
        if wanted and len(self._unknown) < _NAMES:
            others = [shorten(str(name), 40) for name in given if name not in self._tickers]
            self._unknown |= dict.fromkeys(others[:_NAMES])

    def arrive(
        self,
        prices: Mapping[str, float],
        before: Mapping[str, float],
        now: Moment,
        *,
        opens: bool,
    ) -> None:
        """Prices came.

        Args:
            prices, before: by ticker, those of the message and the last ones of all legs.
            now: time of the message.
            opens: whether it begins a bar.
        """
        bar, opened, come, away, stood, since, held, told = self.known
        if opens:
            bar, opened = bar + 1, now.kept
        gaps: dict[str, int] = {}
        if min(come.values()) < bar - 1:
            each = ((name, bar - come[name] - 1) for name in prices if come[name])
            gaps = {name: gap for name, gap in each if gap > away.get(name, (0, 0))[1]}
        if gaps:
            away = away | {n: sorted([gap, away.get(n, [0])[0]])[::-1] for n, gap in gaps.items()}
        come = come | dict.fromkeys(prices, bar)
        if moved := [name for name, price in prices.items() if price != before[name]]:
            stood = stood | dict.fromkeys(moved, -1)  # the row that is made of them counts it to 0
            since = since | dict.fromkeys(moved, now.kept)
        self.known = Known(bar, opened, come, away, stood, since, held, told)

    def refuse(self, why: str) -> None:
        """A message was rejected at sight."""
        self._refused, self._why = self._refused + 1, why

    def reject(self, why: str) -> None:
        """The row of a message was rejected, of all pairs."""
        self.rejected, self._why = self.rejected | {"": self.rejected.get("", 0) + 1}, why

    def answer(self, tick: AnyTick) -> None:
        """A row was made, and answered with this tick."""
        self._refused, numbers = 0, tick.rejected()
        if numbers or self.rejected:
            names = [self.names[number] for number in numbers]
            self.rejected = {name: self.rejected.get(name, 0) + 1 for name in names}

    def doubt_split(self, tick: AnyTick) -> str:
        """Which leg of the only pair stopped when its price jumped, in words; empty if none."""
        why = "" if tick.names else tick.overall()[1]
        still = self._still(self._pairs[0], why) if why else ""
        return f"{still}: it may have stopped, and not have split" if still else ""

    def take(self, prices: Mapping[str, float], tick: AnyTick) -> list[tuple[str, Alarm]]:
        """A row of these prices was answered with this tick: the leads and lags that begin.

        The row of a bar may be taken again, when more prices of it have come: the last one counts.
        """
        bar, opened, come, away, stood, since, held, told = self.known
        last = self._last
        if last is not None and last.bar == bar:
            held, self.lags.stands = last.held, last.lags
            # a leg that has moved since stands at -1 and counts anew
            stood = stood | {name: stood[name] - 1 for name in last.legs if stood[name] >= 0}
        legs = [name for name, price in prices.items() if price == price]
        self._last = Taken(bar, held, self.lags.stands, legs)
        stood = stood | {name: stood[name] + 1 for name in legs}
        z, _ = tick.learnt()
        quarantined = [self.names[number] for number in tick.quarantined()]
        if held or quarantined:
            learnt = np.atleast_1d(z)
            kept = {n: rows for n, rows in held.items() if np.isnan(learnt[self.names.index(n)])}
            held = kept | {name: held.get(name, 0) + 1 for name in quarantined}
        self.known = Known(bar, opened, come, away, stood, since, held, told)
        return [self._lag(lag) for lag in self.lags.update(prices, z)]

    def ring(self, engine: Engine, tick: AnyTick) -> list[tuple[str, Alarm]]:
        """The alarms that begin with this message, each with the name of its pair.

        Of a leg that concerns several pairs there is one, with the name of the first.
        """
        now, told = self._on(engine), self.known.told
        if not now and not told:
            return []
        self.known = self.known._replace(told=tuple(now))
        begun: dict[tuple[Kind, str], list[str]] = {}
        for kind, pair, leg in now:
            if (kind, pair, leg) not in told:
                begun.setdefault((kind, leg or ("" if kind == "calm" else pair)), []).append(pair)
        return [self._alarm(kind, of, pairs, tick) for (kind, of), pairs in begun.items()]

    @property
    def conditions(self) -> tuple[Condition, dict[int, Condition]]:
        """Of all pairs at least, and of those that an alarm is about, by number.

        A pair is "broken" while one of its legs is missing, stopped, early or late, or rows of it are
        held or rejected for long, "watch" while none of its legs moves. All are "broken" while no
        message can be used, and otherwise "watch" at least while any alarm is on.
        """
        found: dict[int, Condition] = dict.fromkeys(self.lags.ringing, "broken")
        told = self.known.told
        if not told:
            return ("watch" if found else "ok"), found
        for kind, pair, leg in told:
            each = enumerate(zip(self.names, self._pairs, strict=True))
            about = [number for number, (name, legs) in each if name == pair or leg in legs]
            for number in about:
                if kind != "calm" or number not in found:
                    found[number] = "watch" if kind == "calm" else "broken"
        of_all = any(not pair and not leg for _, pair, leg in told)
        return ("broken" if of_all else "watch"), found

    def rescale(self, tickers: Iterable[str]) -> None:
        """These legs are quoted in new units from now on."""
        names = tuple(tickers)
        if self._last is not None:
            now, self.lags.stands = self.lags.stands, self._last.lags
            self.lags.restart(names)
            self._last, self.lags.stands = self._last._replace(lags=self.lags.stands), now
        self.lags.restart(names)

    def to_json(self) -> dict[str, Json]:
        """What `__init__` takes, as plain lists and dicts."""
        # messages that bring no price are in no journal, and so no document knows of their alarms
        few = self.rejected.get("", 0) < REJECTED
        unkept = _STRANGE, _subject("rejected rows", "") if few else _STRANGE
        told = [list(subject) for subject in self.known.told if subject not in unkept]
        held = self.known._replace(told=())._asdict() | {"told": told, "lags": self.lags.to_json()}
        last = self._last and self._last._replace(lags=self.lags.to_json(self._last.lags))
        held |= {"rejected": self.rejected, "last": last and list(last)}
        return cast("dict[str, Json]", held)

    def _on(self, engine: Engine) -> list[Subject]:
        """What alarms are on, in a fixed order."""
        known, found = self.known, list[Subject]()
        if self._strange >= MISSING:
            found.append(_STRANGE)
        if known.bar - min(known.come.values()) >= MISSING:
            for name, last in known.come.items():
                if known.bar - last >= self._patience(name):
                    found.append(_subject("missing leg", "", name))
        longest = max(known.stood.values())
        if longest >= _STILL:
            for pair, legs in engine.stopped.items():
                # in half a row the last price of a leg that is still to come repeats
                each = ((_subject("stopped leg", pair, leg), known.come[leg]) for leg in legs)
                found += [of for of, bar in each if bar != known.bar - 1 or of in known.told]
        if longest >= LONG_CALM:
            calm = {name for name, rows in known.stood.items() if rows >= LONG_CALM}
            if len(calm) > 1:
                each = zip(self.names, self._pairs, strict=True)
                found += [_subject("calm", pair) for pair, legs in each if calm.issuperset(legs)]
        if known.held and max(known.held.values()) > HELD:
            causes = {name: hold.cause for name, hold in engine.holds.items()}
            for name, rows in known.held.items():
                if rows > HELD and causes.get(name) in ("scale", "shock"):
                    found.append(_subject("held prices", name))
        if self.rejected or self._refused:
            names = dict.fromkeys(("", *self.rejected))
            rejected = [name for name in names if self._rejections(name) >= REJECTED]
            found += [_subject("rejected rows", name) for name in rejected]
        return found

    def _rejections(self, name: str) -> int:
        """Answers in succession that rejected the row of a pair, or of all under ""."""
        return self.rejected.get(name, 0) + (0 if name else self._refused)

    def _still(self, legs: Sequence[str], why: str) -> str:
        """How long the leg that a quarantine calls split has stood still, if the others move."""
        stood = {leg: self.known.stood[leg] for leg in legs}
        for leg, rows in stood.items():
            if f"rescale with {leg} at" in why and rows >= _STILL > min(stood.values()):
                return f"{leg} has not moved for {rows} rows, since {self.known.since.get(leg)}"
        return ""

    def _patience(self, leg: str) -> int:
        """Bars for which a leg may be absent."""
        return max(MISSING, 2 * self.known.away.get(leg, [0, 0])[1])

    def _alarm(self, kind: Kind, of: str, pairs: Sequence[str], tick: Any) -> tuple[str, Alarm]:
        """The alarm of a leg, or of a pair, that concerns these pairs."""
        known, leg = self.known, of
        if kind == "missing leg" and not leg:
            pairs, rows, legs = self.names, self._strange, sorted(self._tickers)
            more = f" and {len(legs) - 5} more" if len(legs) > 5 else ""
            said = f"{rows} messages in succession name no leg of {', '.join(legs[:5])}{more}"
            said += f"; they bring {self._names_brought()} instead"
            reason = "no row is made without prices: check how the feed spells its names"
        elif kind == "missing leg":
            each = zip(self.names, self._pairs, strict=True)
            pairs, rows = [name for name, legs in each if leg in legs], known.bar - known.come[leg]
            said = f"{leg} has not come for {rows} bars in which other legs did"
            said += self._last_seen(leg) if known.come[leg] else self._others()
            alone = (leg,) in self._pairs
            waits = "the others go on" if alone else "no row is made"
            reason = f"{waits} without it: check the feed, and how it spells {leg}"
        elif kind == "stopped leg":
            rows = known.stood[leg]
            said = f"{leg} has had the same price for {rows} rows, since {known.since.get(leg)}, "
            said += "while another leg moved"
            reason = f"nothing is learnt until {leg} moves: check the feed"
        elif kind == "calm":
            legs, leg = self._pairs[self.names.index(pairs[0])], ""
            last = min(legs, key=known.stood.__getitem__)
            rows = known.stood[last]
            said = f"no leg has moved for {rows} rows, since {known.since.get(last)}"
            reason = (
                "nothing is learnt until one moves: check the feed, unless the market is closed"
            )
        elif kind == "rejected rows":
            rows, leg, pairs = self._rejections(of), "", pairs if of else self.names
            why = self._why if not of else tick.of(of).reason
            said = f"{rows} messages in succession were rejected, the last of them as: {why}"
            reason = "nothing is learnt: check the feed, its prices and its clock"
        else:
            rows, leg = known.held[of], ""
            why = tick.of(of).reason if tick.names else tick.reason
            said = f"{rows} rows in succession were quarantined, the last of them with {why}"
            reason = "nothing is learnt until `rescale` is called, with 1 if the move was real"
            if "rescale" not in why:
                reason = "nothing is learnt: check the feed, or refresh the noise"
            elif still := self._still(self._pairs[self.names.index(of)], why):
                said += f"; but {still}"
                reason = (
                    "a leg that stopped is no split: check the feed first, and call `rescale` only if "
                    "the new price is right"
                )
        return pairs[0], _made(kind, pairs, leg, rows, float(rows), said, "stop", reason)

    def _lag(self, lag: Lag) -> tuple[str, Alarm]:
        """The alarm of a hedge that comes before or after its target."""
        pair, legs = self.names[lag.pair], self._pairs[lag.pair]
        target, hedge = legs[0], legs[1 + lag.hedge]
        way, next_ = ("after", "next") if lag.late else ("before", "last")
        said = (
            f"{hedge} arrives one row {way} {target}: the innovations of {lag.rows:.0f} rows have a "
            f"correlation of {lag.correlation:+.2f} with its {next_} move ({lag.errors:.1f} standard "
            "errors)"
        )
        reason = (
            "prices of two times make a ratio too small: send those of one time together, or give "
        )
        reason += "a shorter max_staleness"
        rows, size = round(lag.rows), lag.correlation
        advised: Action = "fall back to static"
        return pair, _made("lead or lag", [pair], hedge, rows, size, said, advised, reason)

    def _last_seen(self, leg: str) -> str:
        since = self.known.since.get(leg)
        return f"; its last new price was that of {since}" if since is not None else ""

    def _others(self) -> str:
        """Which unknown names the feed brings in place of a leg, in words."""
        names = self._names_brought()
        return f", it brings {names} instead" if names else ""

    def _names_brought(self) -> str:
        """Unknown names in messages, those that look like a missing leg first."""
        known = self.known
        never = [name for name in self._tickers if not known.come[name]]
        like = [near for name in never for near in get_close_matches(name, self._unknown, 3, 0.6)]
        names = list(dict.fromkeys([*like, *self._unknown]))
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return ", ".join(names[:5]) + more


def _subject(kind: Kind, pair: str, leg: str = "") -> Subject:
    return kind, pair, leg


_STRANGE = _subject("missing leg", "")
"""No leg is named at all."""


def _made(
    kind: Kind,
    pairs: Sequence[str],
    leg: str,
    rows: int,
    size: float,
    said: str,
    action: Action,
    reason: str,
) -> Alarm:
    """An alarm about the feed; evidence is what the monitor has, and this has none."""
    of = f" ({', '.join(pairs[:3])}{f' and {len(pairs) - 3} more' if len(pairs) > 3 else ''})"
    message = f"{kind}{of}: {said}"
    return Alarm(kind, rows, size, 0.0, 0.0, action, reason, message, leg)
