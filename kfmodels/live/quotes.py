"""The prices of a live filter as they come in: the last one of every leg, and what is wrong with it.

Also the messages that a journal keeps, the pairs that wait after a quarantine (`Doubts`), and the
changes of units that were sent before.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from reprlib import repr as shown
from typing import Any, NamedTuple, NotRequired, TypedDict

from kfmodels.clock.instants import Kind, Moment
from kfmodels.kalman.transforms import FARTHEST
from kfmodels.live.arrivals import span
from kfmodels.live.bars import Known
from kfmodels.online.legs import by_text

KEPT = 100
"""Changes of units that a live filter remembers, to recognise one that is sent again."""


class Row(TypedDict):
    """A row as it is remembered: its time, its prices, and the time since the row before."""

    at: int | str
    prices: dict[str, float | None]
    dt: float
    gaps: dict[str, float]


class Priced(TypedDict):
    """A message of prices that came at one time, as the journal keeps it."""

    at: int | str
    prices: dict[str, float]


class Rescaled(TypedDict):
    """A message of new units as the journal keeps it: new price over old, or minus old, by ticker.

    A shift of logs or returns is kept with the factors that it came to; then they are what counts.
    """

    rescale: NotRequired[dict[str, float]]
    adjust: NotRequired[dict[str, float]]
    at: int | str | None


class Units(NamedTuple):
    """From old prices to new ones by ticker: times a factor, plus a shift."""

    factors: Mapping[str, float]
    shifts: Mapping[str, float]

    @classmethod
    def of(cls, message: Rescaled) -> "Units":
        """The change that a message asks for."""
        if "rescale" in message:
            return cls(message["rescale"], {})
        return cls({}, message.get("adjust", {}))

    def convert(self, name: str, price: float) -> float:
        """The new price of a ticker."""
        return price * self.factors.get(name, 1.0) + self.shifts.get(name, 0.0)

    def moved(self) -> list[str]:
        """The tickers whose prices change."""
        by_factor = [name for name, factor in self.factors.items() if factor != 1]
        return by_factor + [name for name, shift in self.shifts.items() if shift]

    def then(self, later: "Units") -> "Units":
        """Both changes as one."""
        factors, shifts = dict(self.factors), dict(self.shifts)
        for name, factor in later.factors.items():
            factors[name] = factors.get(name, 1.0) * factor
            if name in shifts:
                shifts[name] *= factor
        for name, shift in later.shifts.items():
            shifts[name] = shifts.get(name, 0.0) + shift
        return Units(factors, shifts)


class Doubts:
    """Which pairs wait for new prices of their legs, and which prices are hidden until they come.

    A pair that was quarantined sees no second row until both its legs have new prices, as a price must
    not confirm itself. A board takes one row of prices for all pairs, so a pair is kept waiting by a
    leg that no other pair needs: where one target has split, its hedge still serves the others.

    Args:
        pairs: the legs of every pair, the target first; a filter of several hedges is one pair.
        held: numbers of the pairs that doubt the price of a leg, by leg, as `of` gave them.
    """

    def __init__(
        self, pairs: Sequence[tuple[str, ...]], held: Mapping[str, Iterable[int]] | None = None
    ) -> None:
        self._pairs = tuple(pairs)
        self._count = Counter(leg for legs in self._pairs for leg in legs)
        self.waiting: dict[int, set[str]] = {}  # replaced, and never changed in place
        for leg, numbers in (held or {}).items():
            for number in numbers:
                self.waiting.setdefault(number, set()).add(leg)

    def add(self, pairs: Iterable[int]) -> None:
        """A row of these pairs went into quarantine."""
        self.waiting = self.waiting | {number: set(self._pairs[number]) for number in pairs}

    def renew(self, legs: Iterable[str]) -> None:
        """New prices of these legs came."""
        if self.waiting:
            come = set(legs)
            left = {number: old - come for number, old in self.waiting.items()}
            self.waiting = {number: old for number, old in left.items() if old}

    def of(self, leg: str) -> list[int]:
        """Numbers of the pairs that have seen the price of a leg and doubt it."""
        return [number for number, old in self.waiting.items() if leg in old]

    def hidden(self, also: Sequence[int] = ()) -> set[str]:
        """Legs whose prices go into no row: at least one of every pair that waits, or is in `also`.

        Of a pair these are the legs that no other pair needs, or else the one that the fewest need.
        """
        if not self.waiting and not also:
            return set()
        waits = self.waiting.keys() | set(also)
        waiting = Counter(leg for number in waits for leg in self._pairs[number])
        needed = {leg: self._count[leg] - times for leg, times in waiting.items()}
        found = {leg for leg, others in needed.items() if not others}
        for number in sorted(waits):
            if found.isdisjoint(self._pairs[number]):
                found.add(min(self._pairs[number], key=needed.__getitem__))
        return found


class Quotes:
    """Last price of every leg and its time; only `take` and `requote` change them.

    Args:
        tickers: of the legs.
        pairs: legs of every pair, the target first.
        least: prices must be above it.
        held: `{ticker: [price, time, numbers of the pairs that doubt it]}`, as `to_json` gives it.
    """

    def __init__(
        self,
        tickers: Sequence[str],
        pairs: Sequence[tuple[str, ...]],
        least: float,
        held: Mapping[str, list[Any]] | None = None,
    ) -> None:
        self.tickers, self._least = tuple(tickers), max(least, -FARTHEST)
        self.prices = dict.fromkeys(self.tickers, math.nan)
        self.times: dict[str, Moment | None] = dict.fromkeys(self.tickers)
        held = held or {}
        self.doubts = Doubts(pairs, {ticker: doubted for ticker, (*_, doubted) in held.items()})
        for ticker, (price, at, _) in held.items():
            self.prices[ticker], self.times[ticker] = price, Moment.of(at)

    def sort(
        self, given: Mapping[str, float | None], now: Moment
    ) -> tuple[dict[str, float], list[str], list[str]]:
        """The prices to take, what is wrong with others, and the tickers whose price is known already.

        A ticker that is no leg is ignored, and so is a price of NaN or None.

        Raises:
            ValueError: the prices do not go by ticker.
        """
        if not hasattr(given, "get"):
            raise ValueError(f"prices go by ticker, in a dict, not in a {type(given).__name__}")
        good: dict[str, float] = {}
        wrong: list[str] = []
        known: list[str] = []
        values = list(map(given.get, self.tickers))
        none = all(value is None for value in values)
        if none and not any(name in given for name in self.tickers):
            values = list(map(by_text(given).get, self.tickers))
        number = now.number
        for ticker, value in zip(self.tickers, values, strict=True):
            if value is None:
                continue
            try:
                # bool is an int in Python; reject it
                price = float("no number" if isinstance(value, bool) else value)
            except (TypeError, ValueError, OverflowError):
                wrong.append(f"{ticker} has the price {shown(value)}, which is no number")
                continue
            if price != price:  # NaN: no price
                continue
            before = self.times[ticker]
            if not self._least < price < FARTHEST:
                wrong.append(f"{ticker} has the price {price:g}")
            elif before is not None and number < before.number:
                late = span(before.number - number, now.kind)
                wrong.append(f"{ticker} is out of order, {late} before its last price")
            elif before is not None and number == before.number:
                if price == self.prices[ticker]:
                    known.append(ticker)
                else:
                    kept = "" if now.kind is Kind.NUMBER else ", which is kept to the microsecond"
                    wrong.append(f"{ticker} has a second price {price:g} at one time{kept}")
            else:
                good[ticker] = price
        return good, wrong, known

    def take(self, prices: Mapping[str, float], now: Moment) -> None:
        """Keep what `sort` found good."""
        for ticker, price in prices.items():
            self.prices[ticker], self.times[ticker] = price, now
        self.doubts.renew(prices)

    def mark(self) -> tuple[dict[str, float], dict[str, Moment | None], dict[int, set[str]]]:
        """What is held now, for `back`."""
        return self.prices.copy(), self.times.copy(), self.doubts.waiting

    def back(
        self, mark: tuple[dict[str, float], dict[str, Moment | None], dict[int, set[str]]]
    ) -> None:
        """Stand again where `mark` was taken."""
        self.prices, self.times, self.doubts.waiting = mark

    def row(self, now: Moment, max_staleness: int) -> tuple[dict[str, float], list[str]]:
        """Price of every leg, NaN where it is too old or hidden; and what is missing, in words."""
        row: dict[str, float] = {}
        absent: list[str] = []
        hidden = self.doubts.hidden()
        for ticker, at in self.times.items():
            age = 0 if at is None else now.number - at.number
            fresh = at is not None and 0 <= age <= max_staleness and ticker not in hidden
            row[ticker] = self.prices[ticker] if fresh else math.nan
            if at is None:
                absent.append(f"no price of {ticker}")
            elif age < 0:
                absent.append(f"{ticker} is {span(-age, now.kind)} ahead")
            elif age > max_staleness:
                absent.append(f"stale {ticker} {span(age, now.kind)}")
            elif not fresh and self.doubts.of(ticker):
                absent.append(f"no new price of {ticker}")
        return row, absent

    def known(self, row: Mapping[str, float], now: Moment) -> Known:
        """A row as a bar keeps it."""
        prices = {name: price if price == price else None for name, price in row.items()}
        times = {name: at.number for name, at in self.times.items() if at is not None}
        return {"at": now.kept, "prices": prices, "times": times}

    def aged(self, row: Mapping[str, float], now: Moment) -> str:
        """The first three legs whose price in a row is of an earlier time, and how old each is."""
        times = ((name, self.times[name]) for name, price in row.items() if price == price)
        old = [
            (name, now.number - at.number) for name, at in times if at and at.number < now.number
        ]
        more = f" and {len(old) - 3} more" if len(old) > 3 else ""
        return ", ".join(f"{name} {span(age, now.kind)}" for name, age in old[:3]) + more

    def requote(self, units: Units, before: Moment | None) -> None:
        """Convert the prices from before a moment to new units, or all if there is none."""
        for ticker, at in self.times.items():
            if at is not None and (before is None or at.number < before.number):
                self.prices[ticker] = units.convert(ticker, self.prices[ticker])

    def to_json(self) -> dict[str, list[Any]]:
        """What is held, as plain lists."""
        return {
            ticker: [self.prices[ticker], at.kept, self.doubts.of(ticker)]
            for ticker, at in self.times.items()
            if at
        }


def was_sent_before(asked: Rescaled, since: Moment | None, earlier: Iterable[Rescaled]) -> bool:
    """Whether the same was asked for the same time; without a time none are the same."""
    return since is not None and any(
        _asked(message) == _asked(asked) and Moment.of(message["at"])[1:] == since[1:]
        for message in earlier
        if message["at"] is not None
    )


def _asked(message: Rescaled) -> tuple[dict[str, float] | None, dict[str, float] | None]:
    """What the user gave; the factors of a shift depend on the price when it came."""
    return message.get("adjust"), None if "adjust" in message else message.get("rescale")


def requote_rows(rows: Iterable[Row], units: Units, before: Moment | None) -> None:
    """Convert the prices of rows before a moment to new units, or all if there is none."""
    for row in rows_before(rows, before):
        row["prices"] = {
            name: None if price is None else units.convert(name, price)
            for name, price in row["prices"].items()
        }


def rows_before(rows: Iterable[Row], before: Moment | None) -> list[Row]:
    """The rows before a moment, or all if there is none."""
    return [r for r in rows if before is None or Moment.of(r["at"]).number < before.number]
