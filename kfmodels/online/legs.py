"""The prices of a target and its hedges: read, checked and transformed, one row at a time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


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
