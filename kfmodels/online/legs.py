"""The prices of pairs: which ticker is which leg of which pair, and what a price must be."""

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.transforms import FARTHEST, Transform, transform_of
from kfmodels.online.splits import check_factors, check_shifts, turn_into_factors


@runtime_checkable
class ByTicker(Protocol):
    """Prices by ticker: a dict, or a Series or a row of pandas."""

    def keys(self) -> Iterable[object]: ...

    def __getitem__(self, ticker: str, /) -> object: ...

    def __len__(self) -> int: ...


def by_text(prices: ByTicker) -> dict[str, Any]:
    """Prices by the text of their tickers: a code may come as a whole number, 7203 as "7203"."""
    held: Any = prices
    return {str(ticker): held[ticker] for ticker in held.keys()}  # noqa: SIM118 (pandas)


type HedgePrices = float | Sequence[float] | np.ndarray | ByTicker
"""Prices of the hedges of one pair: of the only one, in their order, or by ticker."""


class Legs:
    """Targets and their hedges, and how their prices are transformed.

    Args:
        targets: the ticker of every pair's target.
        hedges: the tickers of every pair's hedges, as many in each pair.
        transform: "log", "level" or "return".

    Raises:
        ValueError: another transform, or not as many hedges in every pair.
    """

    def __init__(
        self, targets: Sequence[str], hedges: Sequence[Sequence[str]], transform: str
    ) -> None:
        self.transform = transform_of(transform)
        self.targets, self.hedges = tuple(targets), tuple(tuple(names) for names in hedges)
        if len(self.targets) != len(self.hedges):
            raise ValueError(
                f"there are {len(self.targets)} targets, but the hedges of {len(self.hedges)}"
            )
        if len({len(names) for names in self.hedges}) > 1:
            raise ValueError("every pair of a board has as many hedges as every other")
        self.pairs = tuple((y, *x) for y, x in zip(self.targets, self.hedges, strict=True))
        others = (name for names in self.hedges for name in names)
        self.tickers = tuple(dict.fromkeys([*self.targets, *others]))
        spot = {ticker: number for number, ticker in enumerate(self.tickers)}
        self._spots = np.array([[spot[name] for name in names] for names in self.pairs])
        self._least = self.transform.least

    def of_all(self, prices: ByTicker) -> np.ndarray:
        """[target, hedges...] of every pair out of prices by ticker, `(pair, leg)`; NaN where none."""
        if not hasattr(prices, "keys"):
            raise ValueError(
                f"prices go by ticker, in a dict or a pandas Series, not in a {type(prices).__name__}"
            )
        held: Any = prices
        if hasattr(held, "to_dict"):  # a look-up in a Series costs pandas far more than in a dict
            held = held.to_dict()
        if len(held) != len(prices):  # the dict has kept the last of two prices of one ticker
            raise ValueError("the prices name a ticker twice: give each once")
        # with a plain number for every ticker, as mostly, there is nothing to look at one by one
        given: list[Any] = list(map(held.get, self.tickers)) if hasattr(held, "get") else []
        if set(map(type, given)) == {float}:
            row = np.array(given)
            if not (self._least < row.min() and row.max() < math.inf):  # NaN is neither
                self.check(self.tickers, given, farthest=math.inf)
            return row[self._spots]
        known = [ticker for ticker in self.tickers if ticker in held]
        if not known:
            held = by_text(held)
            known = [ticker for ticker in self.tickers if ticker in held]
        if len(held) and not known:
            raise ValueError(
                f"there is no price of any of the {len(self.tickers)} tickers of this board (one is "
                f"{self.tickers[0]}); nothing was changed"
            )
        found = np.full(len(self.tickers), np.nan)
        for number, ticker in enumerate(self.tickers):
            if ticker in held:
                try:
                    found[number] = held[ticker]
                except (TypeError, ValueError):
                    raise ValueError(
                        f"{ticker} has the price {held[ticker]!r}, which is no number; pass NaN if "
                        "there is none. Nothing was changed"
                    ) from None
        # one too far off stops the pairs that have it only, which the board sees to
        self.check(self.tickers, found.tolist(), farthest=math.inf)
        return found[self._spots]

    def of_one(self, y: float, x: HedgePrices) -> list[float]:
        """[target, hedges...] of the only pair; `x` is one number, a list in order, or by ticker."""
        prices = self.read_one(y, x)
        self.check(self.pairs[0], prices)
        return prices

    def read_one(self, y: float, x: HedgePrices) -> list[float]:
        """The same, unchecked."""
        if type(x) is float and type(y) is float:
            return [y, x]
        if type(x) is dict:  # of plain numbers, as mostly, there is nothing to look at one by one
            given = [y, *map(x.get, self.hedges[0])]
            if set(map(type, given)) == {float}:
                return given
        try:
            target = float(y)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(
                f"y is the price of {self.targets[0]}, a number, not {y!r:.60}"
            ) from None
        return [target, *self.of_hedges(x)]

    def of_hedges(self, x: HedgePrices) -> list[float]:
        """Hedge prices of the only pair, in their order."""
        given: Any = [x] if isinstance(x, (int, float)) else x
        hedges = self.hedges[0]
        if hasattr(given, "keys"):  # a dict or a row of a DataFrame goes by ticker, not by position
            missing = [name for name in hedges if name not in given]
            if missing:
                given = by_text(given)
                missing = [name for name in hedges if name not in given]
            if missing:
                raise ValueError(f"no price of {', '.join(missing)} in x (NaN means not observed)")
            given = [given[name] for name in hedges]
        try:
            prices = [float(price) for price in given]
        except (TypeError, ValueError, OverflowError):
            raise ValueError(
                f"x is a price of each hedge, {', '.join(hedges)}: a number, a list of numbers in this "
                f"order, or a dict by ticker, not a {type(x).__name__} that holds something else"
            ) from None
        if len(prices) != len(hedges):
            raise ValueError(
                f"x has {len(prices)} prices, but there are {len(hedges)} hedges: {', '.join(hedges)}"
            )
        return prices

    def check(
        self, names: Sequence[str], prices: list[float], *, farthest: float = FARTHEST
    ) -> None:
        """Raise unless each is a price that the transform can take, or NaN."""
        least = max(self._least, -farthest)
        # fast, and enough for nearly every row; a NaN may hide from `min`, but not from the sum
        if least < min(prices) and max(prices) < farthest and sum(prices) == sum(prices):
            return
        for name, price in zip(names, prices, strict=True):
            if price == price and not least < price < farthest:
                raise ValueError(
                    f"{name} has the price {price:g}, which a {self.transform} transform cannot take; "
                    "pass NaN if there is none. Nothing was changed"
                )

    def factors(self, factors: Mapping[str, float]) -> np.ndarray:
        """New price over old of every leg of every pair, `(pair, leg)`."""
        factors = check_factors(factors, self.tickers)
        return np.array([factors.get(name, 1.0) for name in self.tickers], float)[self._spots]

    def shifts(self, shifts: Mapping[str, float]) -> np.ndarray:
        """New price minus old of every leg of every pair, `(pair, leg)`."""
        shifts = check_shifts(shifts, self.tickers)
        return np.array([shifts.get(name, 0.0) for name in self.tickers], float)[self._spots]

    def shift_factors(
        self, shifts: Mapping[str, float], last: Mapping[str, float]
    ) -> dict[str, float]:
        """The factors by ticker that shifts are at the `last` prices."""
        return turn_into_factors(check_shifts(shifts, self.tickers), last)

    def last(self, prices: np.ndarray, held: Container[int]) -> dict[str, float]:
        """Prices `(pair, leg)` by ticker; where pairs differ, of the first that is not `held`."""
        found: dict[str, float] = {}
        for number in sorted(range(len(self.pairs)), key=held.__contains__):
            for name, price in zip(self.pairs[number], prices[number].tolist(), strict=True):
                if price == price:
                    found.setdefault(name, price)
        return found

    def absent(self, number: int, prices: np.ndarray) -> str:
        """The legs of a pair that have no price in its row, in words; empty if all have one."""
        legs = zip(self.pairs[number], prices.tolist(), strict=True)
        missing = ", ".join(name for name, price in legs if price != price)
        return f"no price of {missing}" if missing else ""


class Inner:
    """From the prices of some pairs to the inner values of their rows.

    `centre` and `unit` of the legs are `(leg, pair)`; `requoted` says whether the target's unit is
    another than at the fit.

    Args:
        transform: of the prices.
        coordinates: with an axis of pairs in front.
    """

    def __init__(self, transform: Transform, coordinates: Coordinates) -> None:
        legs = [np.asarray(coordinates.offset)[None], coordinates.pivot.T]
        units = [np.broadcast_to(coordinates.unit, legs[0].shape), coordinates.scale.T]
        self.transform = transform
        self.centre, self.unit = np.concatenate(legs), np.concatenate(units)
        self.requoted = bool((self.unit[0] != 1).any())
        self._row = np.ones((len(self.centre) + coordinates.intercept, self.centre.shape[1]))

    def of_all(self, prices: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Inner values `(1 + n, pair)`, the target first, 0 where not observed; and which are.

        None means that all pairs are observed, and that nothing needs to be masked.
        """
        values = self.transform.values(prices, last)
        legs = len(self.centre)
        found = self._row.copy()
        np.subtract(values.T, self.centre, out=found[:legs])
        found[:legs] /= self.unit
        if math.isfinite(np.vdot(found, found)):  # one product finds any NaN among them
            return found, None
        seen = ~np.isnan(found.sum(0))
        found[:, ~seen] = 0.0
        return found, None if seen.all() else seen

    def of_one(self, number: int, prices: np.ndarray, last: np.ndarray) -> np.ndarray:
        """The same of one pair, `(1 + n,)`, 0 where a leg has no price."""
        values = self.transform.values(prices, last)
        found = self._row[:, number].copy()
        found[: len(values)] = (values - self.centre[:, number]) / self.unit[:, number]
        return np.nan_to_num(found)
