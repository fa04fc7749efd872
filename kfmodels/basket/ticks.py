"""What a basket answers to a row, and what it forecasts before one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kfmodels.basket.tails import Mixture
from kfmodels.clock.instants import Stamp
from kfmodels.online.ticks import Outcome, count_outcomes
from kfmodels.words.shown import Shown


class Said(NamedTuple):
    """What became of one asset in a row, and why."""

    outcome: Outcome
    reason: str = ""


_PLAIN = Said(Outcome.ACCEPTED)


@dataclass(frozen=True, eq=False, repr=False)
class BasketTick(Shown):
    """What is known of every asset after one row; arrays `(asset,)` in the order of `names`.

    `move` is the log move of a target, `mean` what its hedges' moves said of it, `spread` the one
    minus the other (what the hedge left), `spread_sd` the sd of its forecast, `z` their ratio, `below`
    the probability that was given to less, `log_score` its log density in nats, `dof` its mean degrees
    of freedom. All are NaN of an asset that is no target, or that was not judged. `moves` are those of
    all assets as the row was learnt from: what was missing or held back is filled, NaN before anything
    is learnt. `said` has the outcome and its reason by ticker where an asset was not simply accepted,
    and under "" those of the row as a whole.
    """

    names: tuple[str, ...]
    at: Stamp | None
    move: np.ndarray
    mean: np.ndarray
    spread_sd: np.ndarray
    below: np.ndarray
    log_score: np.ndarray
    dof: np.ndarray
    moves: np.ndarray
    said: Mapping[str, Said]

    @property
    def observed(self) -> np.ndarray:
        """Which assets are targets whose move was judged, and learnt from."""
        return ~np.isnan(self.move)

    @property
    def effective_draws(self) -> np.ndarray:
        """NaN: experts are no draws of a posterior, and one that wins is no cause for alarm."""
        return np.full(len(self.names), np.nan)

    @property
    def spread(self) -> np.ndarray:
        return self.move - self.mean

    @property
    def z(self) -> np.ndarray:
        return self.spread / self.spread_sd

    def of(self, name: str) -> Said:
        """What became of one asset."""
        return self.said.get(name, _PLAIN)

    @property
    def outcome(self) -> tuple[Outcome, ...]:
        """What became of every asset."""
        return tuple(self.of(name).outcome for name in self.names)

    @property
    def reason(self) -> tuple[str, ...]:
        return tuple(self.of(name).reason for name in self.names)

    @property
    def sentence(self) -> tuple[str, ...]:
        """The outcome of every asset with its reason."""
        return tuple(outcome.with_reason(reason) for outcome, reason in map(self.of, self.names))

    def __str__(self) -> str:
        return count_outcomes(self.at, self.outcome)

    def learnt(self) -> tuple[np.ndarray, np.ndarray]:
        """`z` and `dof` of the targets that were judged; NaN and inf of all others."""
        return self.z, np.where(self.observed, self.dof, np.inf)

    def overall(self) -> Said:
        """Whether the row as a whole was taken, and which prices of it are held."""
        outcome, reason = self.of("")
        held = [f"{self.names[n]} {self.of(self.names[n]).reason}" for n in self.quarantined()[:3]]
        return Said(outcome, "; ".join(filter(None, [reason, *held])))

    def quarantined(self) -> list[int]:
        """Numbers of the assets whose price went into quarantine."""
        return [n for n, outcome in enumerate(self.outcome) if outcome is Outcome.QUARANTINED]

    def rejected(self) -> list[int]:
        """None: a row that no arithmetic could follow raises."""
        return []

    def record(self) -> dict[str, object]:
        """All of it as a plain dict of lists, which a `pandas.DataFrame` takes as it is."""
        numbers = ("move", "mean", "spread", "spread_sd", "z", "dof", "below", "log_score")
        return {
            "pair": list(self.names),
            "at": self.at,
            "outcome": list(self.outcome),
            "reason": list(self.reason),
            **{name: getattr(self, name).tolist() for name in numbers},
            "effective_draws": self.effective_draws.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Forecast:
    """Forecast of the targets' log moves given the moves of their hedges.

    After a gap of g rows a move counts from the carried price, and has the variance of g + 1 rows.

    Args:
        names: of the targets.
        mixture: the densities.
        last: the price that the moves count from, `(target,)`: the last one of every target, carried on
            over a gap by the moves that stood in for those not seen.
        ready: which targets have a forecast; the numbers of others are NaN.
    """

    names: tuple[str, ...]
    mixture: Mixture
    last: np.ndarray
    ready: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self._where(self.mixture.centre()[0])

    @property
    def sd(self) -> np.ndarray:
        return self._where(self.mixture.centre()[1])

    def quantile(self, level: float) -> np.ndarray:
        """The move exceeded with probability 1 - level."""
        return self._where(self.mixture.quantile(level))

    def price(self, level: float = 0.5) -> np.ndarray:
        """The same as a price: the fair value, or an end of a band."""
        return self.last * np.exp(self.quantile(level))

    def log_density(self, moves: np.ndarray) -> np.ndarray:
        """Of one log move a target, in nats."""
        found = self.mixture.log_densities(moves)
        weights = self.mixture.weights[:, :, None] * self.mixture.tails[:, None, :]
        best = found.max((1, 2), keepdims=True)
        total = (weights * np.exp(found - best)).sum((1, 2))
        return self._where(best[:, 0, 0] + np.log(total))

    def below(self, moves: np.ndarray) -> np.ndarray:
        """Probability of less than one log move a target."""
        return self._where(self.mixture.below(moves))

    def _where(self, values: np.ndarray) -> np.ndarray:
        return np.where(self.ready, values, np.nan)
