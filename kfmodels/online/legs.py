"""The prices of one pair (`Legs`) or of many (`BoardLegs`): read, checked and transformed by row."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from kfmodels.online.shocks import BREAK, HELD, begun, released, split_sentence


class Legs:
    """A target and its hedges, and how their prices are transformed.

    Args:
        target, hedges: tickers.
        transform: "log", "level" or "return".
    """

    def __init__(self, target: str, hedges: Sequence[str], transform: str) -> None:
        self.target, self.hedges, self.transform = target, tuple(hedges), transform
        self.names = (target, *self.hedges)
        self._least = -math.inf if transform == "level" else 0.0

    def prices(self, y: float, x: Any) -> list[float]:
        """[target, hedges...]; `x` is a number, a list in the order of the hedges, or by ticker."""
        return [float(y), *self.of_hedges(x)]

    def of_hedges(self, x: Any) -> list[float]:
        """Hedge prices in their order."""
        if isinstance(x, (int, float)):
            x = [x]
        if hasattr(x, "keys"):  # a dict or a row of a DataFrame goes by ticker, not by position
            missing = [name for name in self.hedges if name not in x]
            if missing:
                raise ValueError(f"no price of {', '.join(missing)} in x (NaN means not observed)")
            x = [x[name] for name in self.hedges]
        prices = [float(price) for price in x]
        if len(prices) != len(self.hedges):
            raise ValueError(
                f"x has {len(prices)} prices, but there are {len(self.hedges)} hedges: "
                f"{', '.join(self.hedges)}"
            )
        return prices

    def check(self, name: str, price: float) -> None:
        """Raise unless it is a price that the transform can take."""
        if not self._least < price < math.inf:
            raise ValueError(
                f"{name} has the price {price:g}, which a {self.transform} transform cannot "
                "take; pass NaN if there is none. The filter is unchanged"
            )

    def values(self, prices: list[float], last: np.ndarray | None) -> list[float] | None:
        """The row transformed; None for a return without an earlier row."""
        if not (self._least < min(prices) and max(prices) < math.inf):
            for name, price in zip(self.names, prices, strict=True):
                self.check(name, price)
        if self.transform == "log":
            return [math.log(price) for price in prices]
        if self.transform == "level":
            return prices
        if last is None:
            return None
        return [now / before - 1 for now, before in zip(prices, last.tolist(), strict=True)]

    def price(self, value: float, last: np.ndarray | None) -> float:
        """The target's price at a transformed value."""
        if self.transform == "log":
            return math.exp(value)
        if self.transform == "level":
            return value
        assert last is not None  # or there would be no return to forecast
        return float(last[0] * (1 + value))

    def factors(self, target: float, hedges: Mapping[str, float]) -> np.ndarray:
        """New price over old of every leg, in the order of `names`."""
        unknown = [name for name in hedges if name not in self.hedges]
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)} is not among the hedges, which are {', '.join(self.hedges)}"
            )
        try:
            found = np.array([target, *(hedges.get(name, 1.0) for name in self.hedges)], float)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"a factor is no number: {target!r}, {dict(hedges)!r}") from error
        for name, factor in zip(self.names, found.tolist(), strict=True):
            if not 0 < factor < math.inf:
                raise ValueError(
                    f"the factor of {name} is its new price over its old one, above 0, not {factor}"
                )
        return found


class BoardLegs:
    """The targets and hedges of many pairs of one hedge each: `Legs` for all of them.

    Args:
        targets, hedges: the two tickers of every pair.
        transform: "log", "level" or "return".

    Raises:
        ValueError: another transform, or not as many hedges as targets.
    """

    def __init__(self, targets: Sequence[str], hedges: Sequence[str], transform: str) -> None:
        if transform not in ("log", "level", "return"):
            raise ValueError(f'transform must be "log", "level" or "return", not {transform!r}')
        self.targets, self.hedges, self.transform = tuple(targets), tuple(hedges), transform
        if len(self.targets) != len(self.hedges):
            raise ValueError(
                f"there are {len(self.targets)} targets, but {len(self.hedges)} hedges: one a pair"
            )
        self.tickers = tuple(dict.fromkeys([*self.targets, *self.hedges]))
        spot = {ticker: number for number, ticker in enumerate(self.tickers)}
        pairs = zip(self.targets, self.hedges, strict=True)
        self._spots = np.array([[spot[y], spot[x]] for y, x in pairs]).reshape(-1, 2)

    def prices(self, prices: Any) -> np.ndarray:
        """[target, hedge] of every pair, `(pair, 2)`; NaN where there is none."""
        if not hasattr(prices, "keys"):
            raise ValueError(
                f"prices go by ticker, in a dict or a pandas Series, not in a {type(prices).__name__}"
            )
        held = prices.to_dict() if hasattr(prices, "to_dict") else prices  # a Series is slow to ask
        if len(held) != len(prices):
            raise ValueError("the prices name a ticker twice: give each once")
        found = np.full(len(self.tickers), np.nan)
        known = 0
        for number, ticker in enumerate(self.tickers):
            if ticker in held:
                known += 1
                try:
                    found[number] = held[ticker]
                except (TypeError, ValueError):
                    raise ValueError(
                        f"{ticker} has the price {held[ticker]!r}, which is no number; pass NaN if "
                        "there is none. The filters are unchanged"
                    ) from None
        if len(held) and not known:
            raise ValueError(
                f"there is no price of any of the {len(self.tickers)} tickers of this board (one is "
                f"{self.tickers[0]}); the filters are unchanged"
            )
        least = -np.inf if self.transform == "level" else 0.0
        bad = ~np.isnan(found) & ~((least < found) & (found < np.inf))
        if bad.any():
            first = int(np.argmax(bad))
            raise ValueError(
                f"{self.tickers[first]} has the price {found[first]:g}, which a {self.transform} "
                "transform cannot take; pass NaN if there is none. The filters are unchanged"
            )
        return found[self._spots]

    def values(self, prices: np.ndarray, last: np.ndarray) -> np.ndarray:
        """The rows transformed; NaN where a price, or for returns the one before, is not there."""
        if self.transform == "log":
            return np.log(prices)
        return prices if self.transform == "level" else prices / last - 1

    def factors(self, factors: Mapping[str, float]) -> np.ndarray:
        """New price over old of both legs of every pair, `(pair, 2)`."""
        for name, factor in factors.items():
            if name not in self.tickers:
                raise ValueError(
                    f"{name} is not among the {len(self.tickers)} tickers of this board: there is "
                    f"{self.tickers[0]}; the filters are unchanged"
                )
            if not 0 < factor < np.inf:
                raise ValueError(
                    f"the factor of {name} is its new price over its old one, above 0, not {factor}"
                )
        return np.array([factors.get(name, 1.0) for name in self.tickers], float)[self._spots]

    def broken(self, prices: np.ndarray, last: np.ndarray) -> np.ndarray:
        """`shocks.broken` of every pair."""
        with np.errstate(over="ignore"):
            far = (prices >= BREAK * last) | (BREAK * prices <= last)
        return (far & (last > 0)).any(1)

    def begun(
        self, prices: np.ndarray, last: np.ndarray, streak: np.ndarray, beyond: Callable[..., bool]
    ) -> np.ndarray:
        """`shocks.begun` of every pair with all its prices; `beyond` takes its number and its row."""
        streak = streak.copy()
        far = self.broken(prices, last) | (abs(streak) > HELD)
        for number in np.flatnonzero(far & ~np.isnan(prices + last).any(1)).tolist():
            row = prices[number].tolist()
            ask = partial(beyond, number, row)
            streak[number] = begun(int(streak[number]), row, last[number].tolist(), ask)
        return streak

    def released(self, factors: Mapping[str, float], streak: np.ndarray) -> np.ndarray:
        """The streaks after a rescale, of the pairs that have a leg that it names."""
        streak = streak.copy()
        for number in np.flatnonzero(abs(streak) >= HELD).tolist():
            legs = self.targets[number], self.hedges[number]
            if found := [factors[name] for name in legs if name in factors]:
                streak[number] = released(int(streak[number]), found)
        return streak

    def skipped(self, number: int, prices: np.ndarray) -> str:
        """Why a row of a pair was not observed."""
        legs = zip((self.targets[number], self.hedges[number]), prices[number], strict=True)
        absent = ", ".join(name for name, price in legs if price != price)
        return (
            f"skipped: no price of {absent}" if absent else "skipped: the first price of a return"
        )

    def split(
        self, number: int, prices: np.ndarray, last: np.ndarray, *, at: Any, streak: int
    ) -> str:
        """Whether the price of a leg of a pair went as in a split; empty if not."""
        if np.isnan(last[number]).any():
            return ""
        legs = (self.targets[number], self.hedges[number])
        rows = prices[number].tolist(), last[number].tolist()
        return split_sentence(legs, *rows, at=at, streak=streak)
