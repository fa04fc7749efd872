"""The legs of a live filter as they come in: the last price of each, when it came, and what is odd."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta, timezone
from typing import Any, NamedTuple

from kfmodels.clock.instants import read_shown, wall_time
from kfmodels.clock.order import instant
from kfmodels.live.doubts import Doubts

_DAY = 86_400


class Moment(NamedTuple):
    """A time: as it is kept, its kind, and as a whole number that compares within its kind.

    `kept` is a number where it came as one, else ISO text, with the offset from UTC that it came with,
    if any: dates are those of the market's own zone. `number` counts microseconds then.
    """

    kept: int | str
    kind: str
    number: int

    @classmethod
    def of(cls, at: Any) -> "Moment":
        """Read a datetime, a date, a pandas Timestamp, a datetime64, ISO text or a whole number.

        Raises:
            ValueError: it is none of these.
        """
        kind, number = instant(at)
        if kind == "a number":
            return cls(number, kind, number)
        shown = read_shown(at)
        text = wall_time(shown)
        if kind == "a time with a time zone":
            text = text.replace(tzinfo=timezone(timedelta(microseconds=(shown - number) // 1000)))
        return cls(text.isoformat(), kind, number // 1000)


class Quotes:
    """Last price of every leg and its time; changed only by `take` and `rescale`.

    Args:
        tickers: of the legs.
        pairs: legs of every pair, the target first.
        least: prices must be above it.
        held: `{ticker: [price, time, numbers of the pairs that doubt it]}` as `to_json` gave it.
    """

    def __init__(
        self,
        tickers: Sequence[str],
        pairs: Sequence[tuple[str, ...]],
        least: float,
        held: Mapping[str, list[Any]] | None = None,
    ) -> None:
        self.tickers, self._least = tuple(tickers), least
        self.prices = dict.fromkeys(self.tickers, math.nan)
        self.times: dict[str, Moment | None] = dict.fromkeys(self.tickers)
        self.doubts = Doubts(pairs)
        for ticker, (price, at, doubted) in (held or {}).items():
            self.prices[ticker], self.times[ticker] = price, Moment.of(at)
            self.doubts.put(ticker, doubted)

    def sort(
        self, given: Mapping[str, Any], now: Moment
    ) -> tuple[dict[str, float], list[str], list[str]]:
        """What to take of the given prices, what is wrong with the others, and what is known already.

        A ticker that is no leg is passed over, and so is a price of NaN or None.

        Raises:
            ValueError: the prices do not go by ticker.
        """
        if not hasattr(given, "get"):
            raise ValueError(f"prices go by ticker, in a dict, not in a {type(given).__name__}")
        good: dict[str, float] = {}
        wrong: list[str] = []
        known: list[str] = []
        for ticker in self.tickers:
            value = given.get(ticker)
            if value is None:
                continue
            try:
                price = float("no number" if isinstance(value, bool) else value)
            except (TypeError, ValueError, OverflowError):
                wrong.append(f"{ticker} has the price {value!r}, which is no number")
                continue
            if price != price:
                continue
            before = self.times[ticker]
            if not self._least < price < math.inf:
                wrong.append(f"{ticker} has the price {price:g}")
            elif before is not None and now.number < before.number:
                late = span(before.number - now.number, now.kind)
                wrong.append(f"{ticker} is out of order, {late} before its last price")
            elif before is not None and now.number == before.number:
                if price == self.prices[ticker]:
                    known.append(ticker)
                else:
                    wrong.append(f"{ticker} has a second price {price:g} at one time")
            else:
                good[ticker] = price
        return good, wrong, known

    def take(self, prices: Mapping[str, float], now: Moment) -> None:
        """Keep what `sort` found good."""
        for ticker, price in prices.items():
            self.prices[ticker], self.times[ticker] = price, now
        self.doubts.renew(prices)

    def row(self, now: Moment, max_staleness: int) -> tuple[dict[str, float], list[str]]:
        """Price of every leg, NaN where it is not of that time; and what is missing, in words.

        A price whose row went into quarantine makes no second row: it cannot confirm itself.
        """
        row, absent, hidden = {}, [], self.doubts.hidden()
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

    def aged(self, row: Mapping[str, float], now: Moment) -> str:
        """The first few legs whose price in a row is of an earlier time, and how old each is."""
        times = ((name, self.times[name]) for name, price in row.items() if price == price)
        old = [
            (name, now.number - at.number) for name, at in times if at and at.number < now.number
        ]
        more = f" and {len(old) - 3} more" if len(old) > 3 else ""
        return ", ".join(f"{name} {span(age, now.kind)}" for name, age in old[:3]) + more

    def rescale(self, factors: Mapping[str, float], before: Moment | None) -> None:
        """Put the prices of before a moment, all without one, in new units."""
        for ticker, factor in factors.items():
            at = self.times[ticker]
            if at is not None and (before is None or at.number < before.number):
                self.prices[ticker] *= factor

    def to_json(self) -> dict[str, list[Any]]:
        """What is held, as plain lists."""
        return {
            ticker: [self.prices[ticker], at.kept, self.doubts.of(ticker)]
            for ticker, at in self.times.items()
            if at
        }


class Bars:
    """Bars since the last row where no clock counts them: every new time is one.

    Where legs may come `apart`, only a time at which one comes again: legs of one bar are one bar.
    """

    def __init__(self, count: int, come: Iterable[str]) -> None:
        self.count, self.come = count, set(come)

    def add(self, legs: Iterable[str], apart: bool) -> None:
        """Prices of these legs came, at a new time."""
        again = not (apart and self.come and self.come.isdisjoint(legs))
        self.count += again
        self.come = set(legs) if again else self.come | set(legs)

    def to_json(self) -> dict[str, Any]:
        """What `__init__` takes, by the names that a live filter's document has for it."""
        return {"bars": self.count, "come": sorted(self.come)}


def span(number: int, kind: str) -> str:
    """A span of time as hh:mm:ss, with days and fractions where there are some."""
    if kind == "a number":
        return str(number)
    seconds, micros = divmod(number, 1_000_000)
    days, seconds = divmod(seconds, _DAY)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    if micros and not days and seconds < 60:
        text += f".{micros:06d}".rstrip("0")
    return f"{days}d {text}" if days else text
