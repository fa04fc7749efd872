"""A basket as a live filter drives it: every asset is a pair of its own, so none waits for another.

Imports NumPy only, so that the trading process needs no JAX; a saved universe is read here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kfmodels.basket.basket import GUARD, Basket
from kfmodels.basket.ticks import BasketTick
from kfmodels.files.documents import Format, register
from kfmodels.online.legs import ByTicker
from kfmodels.online.shocks import Shocks
from kfmodels.online.ticks import Outcome

UNIVERSE = Format(
    "kfmodels universe", 1, "a saved universe", "make one with kf.hedge_universe(prices).save(path)"
)


class Said(NamedTuple):
    """What became of one asset in a row, and why."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True, eq=False)
class LiveTick(BasketTick):
    """A `BasketTick` of every asset; numbers are NaN for those that are no targets.

    `effective_draws` are NaN: experts are no draws of a posterior, and one that wins is no alarm.
    """

    def of(self, name: str) -> Said:
        """What became of one asset."""
        return Said(*self.said.get(name, (Outcome.ACCEPTED, "")))


class LiveBasket(Basket):
    """A `Basket` whose assets a live filter sees one by one.

    In `LiveFilter` none waits for another, a bad print of a mere hedge is told and not used twice, and
    no alarm takes experts for draws of a posterior.
    """

    @property
    def pairs(self) -> tuple[tuple[str, ...], ...]:
        """Every asset alone: a row is made without those that have no price."""
        return tuple((name,) for name in self.tickers)

    def take(self, prices: ByTicker, **settings: Any) -> LiveTick:
        """`Basket.take`, with a tick of every asset."""
        return self._widen(super().take(prices, **settings))

    def held(self) -> dict[str, dict[str, float]]:
        """The ratios that are not 0, by target and hedge; none for a target that is not ready."""
        each = zip(self.names, self.ratios().tolist(), strict=True)
        return {
            name: {leg: b for leg, b in zip(self.tickers, row, strict=True) if b and b == b}
            for name, row in each
        }

    def standing(self) -> LiveTick:
        """What is believed now, as a tick that observed nothing."""
        return self._widen(super().standing())

    def _widen(self, tick: BasketTick) -> LiveTick:
        spots = [self.tickers.index(name) for name in tick.names]

        def wide(values: np.ndarray) -> np.ndarray:
            found = np.full(len(self.tickers), np.nan)
            found[spots] = values
            return found

        taught = np.zeros(len(self.tickers), bool)
        taught[spots] = tick.taught
        numbers = ("move", "mean", "spread_sd", "below", "log_score", "dof")
        return LiveTick(
            names=self.tickers,
            at=tick.at,
            effective_draws=np.full(len(self.tickers), np.nan),
            taught=taught,
            moves=tick.moves,
            said=tick.said,
            **{name: wide(getattr(tick, name)) for name in numbers},
        )


def is_universe(path: str | Path) -> bool:
    """Whether a file is a saved universe, of whatever version."""
    try:
        with open(path, encoding="utf-8") as file:
            # the format is the first thing that a document says
            return file.read(60).startswith(f'{{"format":"{UNIVERSE.name}"')
    except (OSError, UnicodeDecodeError):
        return False


def load_engine(path: str | Path, shocks: Shocks | None = GUARD) -> LiveBasket:
    """The basket of a saved universe, as it stood after its last row, with a policy on bad prints.

    Raises:
        ValueError: the file is no saved universe, or comes from a newer version of kfmodels; a policy
            that doubts rows instead of holding them.
    """
    return LiveBasket(**UNIVERSE.load(path)["basket"].arguments() | {"shocks": shocks})


register(LiveBasket, LiveBasket.to_json, LiveBasket.from_json)
