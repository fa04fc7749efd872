"""The protocol that a live filter asks of what it runs: prices and time in, a tick out.

`OnlineFilter` and `OnlineBoard` are engines. To add another, write a class with these members and
`register` it with `files.documents` in one line; `LiveFilter` then runs it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kfmodels.clock.instants import Stamp
from kfmodels.files.documents import Json
from kfmodels.online.shocks import Hold, Shocks
from kfmodels.online.ticks import Outcome


@runtime_checkable
class AnyTick(Protocol):
    """What an engine answers to a row."""

    @property
    def at(self) -> Stamp | None:
        """Time of the row."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its pairs; empty where there is one, which needs no name."""
        ...

    @property
    def effective_draws(self) -> float | np.ndarray:
        """Effective number of noise draws of every pair."""
        ...

    def overall(self) -> tuple[Outcome, str]:
        """What became of the row as a whole, and why."""
        ...

    def quarantined(self) -> list[int]:
        """Numbers of the pairs whose row went into quarantine."""
        ...

    def rejected(self) -> list[int]:
        """Numbers of the pairs whose row no arithmetic could follow."""
        ...

    def learnt(self) -> tuple[float, float] | tuple[np.ndarray, np.ndarray]:
        """`z` and `dof` of the pairs that learnt from their row, NaN and inf of the others; numbers
        where there is one pair."""
        ...

    def record(self) -> dict[str, object]:
        """All of it as a plain dict."""
        ...


def name_pairs(engine: Any) -> str:
    """The first pairs of an engine, and what it transforms their prices by."""
    names = ", ".join("/".join(legs) for legs in engine.pairs[:3])
    more = f" and {len(engine.pairs) - 3} more" if len(engine.pairs) > 3 else ""
    return f"{names}{more} ({engine.transform})"


def say_when(engine: Any) -> str:
    """After which row an engine stands."""
    return "before its first row" if engine.at is None else f"after {engine.at}"


@runtime_checkable
class Engine(Protocol):
    """Filters of some pairs that advance together."""

    @property
    def shocks(self) -> Shocks | None:
        """The policy on prices that no forecast expected."""
        ...

    @property
    def pairs(self) -> Sequence[tuple[str, ...]]:
        """The tickers of every pair, the target first."""
        ...

    @property
    def targets(self) -> Sequence[str]:
        """The tickers that are judged: pairs whose first is none of them are legs alone."""
        ...

    @property
    def tickers(self) -> tuple[str, ...]:
        """All tickers, each once."""
        ...

    @property
    def transform(self) -> str:
        """One of "log", "level" and "return"."""
        ...

    @property
    def draws(self) -> int:
        """Number of noise draws of a pair."""
        ...

    @property
    def share(self) -> float:
        """Share of the weights of the draws that every bar hands out anew; 0 where none is."""
        ...

    @property
    def holds(self) -> Mapping[str, Hold]:
        """Rows in quarantine, by the name of the pair."""
        ...

    @property
    def stopped(self) -> Mapping[str, tuple[str, ...]]:
        """Legs that repeat their price for longer than they do, by the name of the pair."""
        ...

    @property
    def at(self) -> Stamp | None:
        """Time of the last row."""
        ...

    @property
    def until(self) -> Stamp | None:
        """Last date whose prices the noise was inferred from."""
        ...

    @property
    def fit_id(self) -> str | None:
        """Identity of the fit that it comes from."""
        ...

    def take(
        self,
        prices: Mapping[str, float],
        *,
        at: Stamp | None = None,
        dt: float = 1.0,
        gaps: Mapping[str, float] | None = None,
        earlier: Sequence[Mapping[str, float]] = (),
    ) -> AnyTick:
        """Take a row of prices by ticker, NaN where there is none; where it raises nothing changes.

        A pair without a price of every leg in it takes the first of the `earlier` rows of the same bar
        in which it has them.
        """
        ...

    def mark(self) -> Any:
        """Where it stands now, for `back`; cheap, because it is called with every row."""
        ...

    def back(self, mark: Any) -> None:
        """Stand again where `mark` was taken, to the bit."""
        ...

    def requote(
        self, factors: Mapping[str, float], since: Any = None, learnt: Collection[str] = ()
    ) -> None:
        """Convert to prices in new units, `factors` times the old, from now on.

        With a mark go back there first, where what is held since is released as it would be now. Of
        the pairs in `learnt` the last row was in the new units, and was taken for a real move.
        """
        ...

    def adjust(self, shifts: Mapping[str, float]) -> None:
        """Convert to prices that are `shifts` above the old, from now on."""
        ...

    @property
    def last(self) -> Mapping[str, float]:
        """The last price of every ticker that has been learnt from."""
        ...

    def standing(self) -> AnyTick:
        """What is believed now, as a tick that observed nothing."""
        ...

    def to_json(self) -> dict[str, Json]:
        """A document of all that is needed to go on."""
        ...
