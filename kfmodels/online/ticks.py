"""What the online filters answer to a row, and what they forecast before it.

One file: the record of one pair and that of many say the same things by the same names.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from kfmodels.clock.instants import Stamp
from kfmodels.kalman.reversion import MeanReversion
from kfmodels.online.belief import Belief, join_blocks, tell_noise
from kfmodels.online.mixture import average
from kfmodels.words.shown import Shown


class Outcome(StrEnum):
    """What became of a row or a message."""

    ACCEPTED = "accepted"
    SKIPPED = "skipped"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"
    RESCALED = "rescaled"
    DUPLICATE = "duplicate"

    def with_reason(self, reason: str) -> str:
        """The outcome and its reason as one sentence."""
        return f"{self}: {reason}" if reason else str(self)


class DrawForecasts(NamedTuple):
    """What `dof` and `gain` of a tick are worked out from: the forecasts of each draw, `(pair, draw)`.

    `dof` is None where the forecasts are normal; `noise` is the relative observation variance of the
    row and `var` that of its innovation.
    """

    dof: np.ndarray | None
    weights: np.ndarray
    noise: float | np.ndarray
    var: np.ndarray

    def means(self) -> "MeanForecasts":
        """Their averages over the draws."""
        dof = None if self.dof is None else average(self.dof, self.weights)
        return MeanForecasts(dof, 1 - average(self.noise / self.var, self.weights))


class MeanForecasts(NamedTuple):
    """Averages over the draws, `(pair,)`: degrees of freedom (None: normal), and the gain."""

    dof: np.ndarray | None
    gain: np.ndarray

    def means(self) -> "MeanForecasts":
        """Itself."""
        return self


_PLAIN = (Outcome.ACCEPTED, "")
_NUMBERS = ("spread", "spread_sd", "z", "dof", "gain", "log_score", "effective_draws")
_NOISE = ("memory", "moved")
_BELIEFS = ("beta", "alpha", "sd_given_noise", "sd_total", "alpha_sd_given_noise", "alpha_sd_total")
RECORD = ("at", "outcome", "reason", "observed", *_BELIEFS[:4], *_NUMBERS, *_NOISE)
"""What the record of one pair holds, in this order."""


class BoardTick(Shown):
    """What is known of every pair after one tick; arrays `(pair,)` in the order of `names`.

    The fields are those of `Tick`, with the outcome and the reason of every pair in a tuple. Ratios
    and their sds are `(pair, hedge)` where pairs have several hedges. Where a pair was not observed,
    `spread`, its sd, `z`, `dof` and `log_score` are NaN; where its row was not learnt from, `gain` is
    0. Without an intercept `alpha` and its sds are 0.

    Args:
        names: of the pairs.
        at: time of the last row.
        observed: which pairs had a row that could be judged.
        taught: which pairs learnt from it.
        said: outcome and reason by the number of the pair, where it was not simply accepted.
        opens: numbers of the pairs whose session it begins.
        numbers: spread, its sd, z and the log score.
        forecasts: those of the draws of each block.
        belief: moments of the coefficients after it.
    """

    # many readers of a tick look at one or two numbers only, so the rest waits until it is asked for

    def __init__(
        self,
        names: tuple[str, ...],
        at: Stamp | None,
        *,
        observed: np.ndarray,
        taught: np.ndarray,
        said: Mapping[int, tuple[Outcome, str]],
        opens: Collection[int] = (),
        numbers: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
        forecasts: Sequence[DrawForecasts | MeanForecasts],
        belief: Belief,
    ) -> None:
        self.names, self.at, self.observed, self.taught = names, at, observed, taught
        self._said, self.opens = said, opens
        self._numbers = numbers
        self.belief, self._forecasts = belief, forecasts

    @classmethod
    def standing(cls, names: tuple[str, ...], at: Stamp | None, belief: Belief) -> "BoardTick":
        """What is believed now, where no row was observed."""
        none = np.zeros(len(names), bool)
        nothing = np.full(len(names), np.nan)
        return cls(
            names,
            at,
            observed=none,
            taught=none,
            said=dict.fromkeys(range(len(names)), (Outcome.SKIPPED, "no new row")),
            numbers=(nothing, nothing, nothing, nothing),
            forecasts=(),
            belief=belief,
        )

    @cached_property
    def outcome(self) -> tuple[Outcome, ...]:
        return tuple(self.said(number)[0] for number in range(len(self.names)))

    @cached_property
    def reason(self) -> tuple[str, ...]:
        return tuple(self.said(number)[1] for number in range(len(self.names)))

    @cached_property
    def sentence(self) -> tuple[str, ...]:
        """The outcome of every pair with its reason."""
        said = (self.said(number) for number in range(len(self.names)))
        return tuple(outcome.with_reason(reason) for outcome, reason in said)

    def said(self, number: int) -> tuple[Outcome, str]:
        """Outcome and reason of one pair."""
        return self._said.get(number, _PLAIN)

    @cached_property
    def spread(self) -> np.ndarray:
        return self._numbers[0].reshape(-1)

    @cached_property
    def spread_sd(self) -> np.ndarray:
        return self._numbers[1].reshape(-1)

    @cached_property
    def z(self) -> np.ndarray:
        return self._numbers[2].reshape(-1)

    @cached_property
    def log_score(self) -> np.ndarray:
        return self._numbers[3].reshape(-1)

    @cached_property
    def dof(self) -> np.ndarray:
        """Degrees of freedom of the forecasts, averaged over the draws; inf where they are normal."""
        learnt = [mean.dof for mean in self._means if mean.dof is not None]
        found = join_blocks(learnt) if learnt else math.inf
        return np.where(self.observed, found, math.nan)

    @cached_property
    def _means(self) -> list[MeanForecasts]:
        return [one.means() for one in self._forecasts]

    @cached_property
    def gain(self) -> np.ndarray:
        """Share of the spread that was taken to be permanent; 0 where nothing was learnt."""
        if not self._forecasts:
            return np.zeros(len(self.names))
        return np.where(self.taught, join_blocks([mean.gain for mean in self._means]), 0.0)

    @property
    def effective_draws(self) -> np.ndarray:
        """Effective number of draws after the row."""
        return self.belief.effective_draws

    @property
    def memory(self) -> np.ndarray:
        return self._ratios(self.belief.memory)

    @property
    def effective_memory(self) -> np.ndarray:
        return self._ratios(self.belief.effective_memory)

    @property
    def moved(self) -> np.ndarray:
        return self.belief.moved

    @property
    def beta(self) -> np.ndarray:
        return self._ratios(self.belief.mean)

    @property
    def alpha(self) -> np.ndarray:
        return self._levels(self.belief.mean)

    @property
    def sd_given_noise(self) -> np.ndarray:
        return self._ratios(self.belief.sds[0])

    @property
    def sd_total(self) -> np.ndarray:
        return self._ratios(self.belief.sds[1])

    @property
    def alpha_sd_given_noise(self) -> np.ndarray:
        return self._levels(self.belief.sds[0])

    @property
    def alpha_sd_total(self) -> np.ndarray:
        return self._levels(self.belief.sds[1])

    def _ratios(self, values: np.ndarray) -> np.ndarray:
        hedges = len(self.belief.frame.pairs[0]) - 1
        return values[:, 0] if hedges == 1 else values[:, :hedges]

    def _levels(self, values: np.ndarray) -> np.ndarray:
        return values[:, -1] if self.belief.frame.intercept else np.zeros(len(values))

    @property
    def noise_said(self) -> str:
        """Over how many bars the ratios are learnt now, in a sentence."""
        return tell_noise(self.belief)

    def __str__(self) -> str:
        return count_outcomes(self.at, self.outcome)

    def of(self, name: str) -> "Tick":
        """The tick of one pair.

        Raises:
            ValueError: there is no pair of that name.
        """
        return Tick(self, number_of(name, self.names))

    def learnt(self) -> tuple[np.ndarray, np.ndarray]:
        """`z` and `dof` of the pairs that learnt from their row; NaN and inf of the others."""
        taught = self.taught
        return np.where(taught, self.z, math.nan), np.where(taught, self.dof, math.inf)

    def overall(self) -> tuple[Outcome, str]:
        """The row as a whole was taken, whatever became of each pair."""
        return _PLAIN

    def quarantined(self) -> list[int]:
        """Numbers of the pairs whose row went into quarantine."""
        return [n for n, (outcome, _) in self._said.items() if outcome is Outcome.QUARANTINED]

    def rejected(self) -> list[int]:
        """Numbers of the pairs whose row no arithmetic could follow."""
        return [n for n, (outcome, _) in self._said.items() if outcome is Outcome.REJECTED]

    def record(self) -> dict[str, object]:
        """All of it as a plain dict of lists, which a `pandas.DataFrame` takes as it is.

        "reversion" is there where a pair has a spread that comes back: its `MeanReversion.record`.
        """
        numbers = ("observed", *_BELIEFS, *_NUMBERS, *_NOISE)
        found: dict[str, object] = {
            "pair": list(self.names),
            "at": self.at,
            "outcome": list(self.outcome),
            "reason": list(self.reason),
            **{name: getattr(self, name).tolist() for name in numbers},
        }
        if self.belief.frame.reverts:
            spreads = [self.belief.reversion(number) for number in range(len(self.names))]
            found["reversion"] = [one and one.record() for one in spreads]
        return found


def _of_pair(name: str) -> Any:
    """A property that is the number of one pair in the tick of all."""
    return property(lambda tick: float(getattr(tick._all, name)[tick._number]))


class Tick(Shown):
    """What is known of a pair after one tick, in the units of its data.

    `outcome` says what became of the row, and `reason` why where it was not plainly learnt from.
    `beta`, `alpha` and their sds are filtered (t | t): the hedge to hold until the next tick.
    `sd_given_noise` takes the noise as known, `sd_total` adds what is not known about it (law of total
    variance); both have an entry "alpha" too. `spread` is the innovation, y minus its forecast from the
    ticks before: positive means the target is above it. `z` is spread / spread_sd, and `dof` the
    degrees of freedom of the forecast (inf where it is normal). `gain` is the share of the spread that
    was taken to be permanent. `memory` is that of each hedge ratio in bars, as `HedgeFit.summary` has
    it, that of q, but as it is believed now: the mean of its log over the draws; NaN where a ratio
    moves on several scales at once. `effective_memory` are the bars that the ratio is learnt over,
    likewise, 1 + its variance over what a bar adds to it; it is worked out when it is asked for, and
    not in the record. `moved` is the share of the weights of the draws that is not where it was at
    the start. Where nothing was observed, `spread`, `z` and `log_score` are NaN; where a row was not
    learnt from, `gain` is 0. `opens` says that its prices begin a session of returns, from which moves
    are counted: nothing is learnt from them, and the ratio is that of the bar that begins.
    """

    __slots__ = ("_all", "_number")

    def __init__(self, board: BoardTick, number: int = 0) -> None:
        self._all, self._number = board, number

    @property
    def at(self) -> Stamp | None:
        return self._all.at

    @property
    def tickers(self) -> tuple[str, ...]:
        """The target, then its hedges."""
        return self._all.belief.frame.pairs[self._number]

    @property
    def transform(self) -> str:
        """What the ratios multiply: "log" and "return" count money, "level" shares."""
        return self._all.belief.frame.transform

    @property
    def outcome(self) -> Outcome:
        return self._all.said(self._number)[0]

    @property
    def reason(self) -> str:
        return self._all.said(self._number)[1]

    @property
    def sentence(self) -> str:
        """The outcome with its reason."""
        return self.outcome.with_reason(self.reason)

    @property
    def observed(self) -> bool:
        return bool(self._all.observed[self._number])

    @property
    def opens(self) -> bool:
        return self._number in self._all.opens

    spread: float = _of_pair("spread")
    spread_sd: float = _of_pair("spread_sd")
    z: float = _of_pair("z")
    dof: float = _of_pair("dof")
    gain: float = _of_pair("gain")
    log_score: float = _of_pair("log_score")
    effective_draws: float = _of_pair("effective_draws")
    moved: float = _of_pair("moved")

    @property
    def memory(self) -> dict[str, float]:
        hedges = self._all.belief.frame.pairs[self._number][1:]
        return dict(zip(hedges, self._all.belief.memory[self._number].tolist(), strict=True))

    @property
    def _belief(self) -> Belief:
        return self._all.belief

    @property
    def effective_memory(self) -> dict[str, float]:
        each = self._belief.effective_memory[self._number].tolist()
        return dict(zip(self.tickers[1:], each, strict=True))

    @property
    def beta(self) -> dict[str, float]:
        hedges = self._all.belief.frame.pairs[self._number][1:]
        mean = self._all.belief.mean[self._number].tolist()
        return dict(zip(hedges, mean, strict=False))

    @property
    def alpha(self) -> float:
        belief = self._all.belief
        return float(belief.mean[self._number, -1]) if belief.frame.intercept else 0.0

    @property
    def reversion(self) -> MeanReversion | None:
        """The spread that comes back after this row; None where the model has none."""
        return self._all.belief.reversion(self._number)

    @property
    def sd_given_noise(self) -> dict[str, float]:
        return self._sds(0)

    @property
    def sd_total(self) -> dict[str, float]:
        return self._sds(1)

    def _sds(self, kind: int) -> dict[str, float]:
        belief = self._all.belief
        sds = belief.sds[kind, self._number].tolist()
        return dict(zip(belief.frame.names(self._number), sds, strict=True))

    @property
    def noise_said(self) -> str:
        """Over how many bars the ratio is learnt now, in a sentence."""
        return tell_noise(self._belief)

    @property
    def names(self) -> tuple[str, ...]:
        """None: there is one pair."""
        return ()

    def overall(self) -> tuple[Outcome, str]:
        """The outcome and its reason."""
        return self.outcome, self.reason

    def quarantined(self) -> list[int]:
        """Numbers of the pairs whose row went into quarantine: the only one, or none."""
        return [0] if self.outcome is Outcome.QUARANTINED else []

    def rejected(self) -> list[int]:
        """None: a row of one pair that is rejected raises, and has no tick."""
        return []

    def learnt(self) -> tuple[float, float]:
        """`z` and `dof` where it learnt from the row; NaN and inf where it did not."""
        taught = self._all.taught[self._number]
        return (self.z, self.dof) if taught else (math.nan, math.inf)

    def record(self) -> dict[str, object]:
        """All of it as a plain dict, in the order of the published record.

        "reversion" is there where the model has a spread that comes back: its `MeanReversion.record`.
        """
        found: dict[str, object] = {name: getattr(self, name) for name in RECORD}
        now = self.reversion
        return found if now is None else found | {"reversion": now.record()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tick) and self.record() == other.record()

    def __hash__(self) -> int:
        return hash((self.at, self.outcome, self.spread))

    def __str__(self) -> str:
        sds = self.sd_total
        ratios = ", ".join(
            f"{name} {beta:.4g} +- {sds[name]:.2g}" for name, beta in self.beta.items()
        )
        said = f"{self.at} {self.sentence}; ratio to {ratios}"
        if not self.observed:
            return said
        return f"{said}; spread {self.spread:+.4g} +- {self.spread_sd:.2g}, z {self.z:+.1f}"


@dataclass(frozen=True, slots=True)
class FairValue:
    """Forecast of the target given its hedges.

    `price` with its 90 % band `lower`, `upper` in currency; `mean` and `sd` in transformed units.
    """

    price: float
    lower: float
    upper: float
    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class Predictive:
    """Forecast of the transformed target as a mixture over noise draws, arrays of shape (draw,).

    Draw k says Student-t with `dof[k]` degrees of freedom around `mean[k]` with scale `scale[k]`;
    normal where `dof` is None.
    """

    weights: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    dof: np.ndarray | None


def count_outcomes(at: Stamp | None, outcomes: Sequence[Outcome]) -> str:
    """What became of a row of many pairs, in a sentence."""
    counts = Counter(map(str, outcomes)).most_common()
    return f"{at}: of {len(outcomes)} pairs {', '.join(f'{n} {outcome}' for outcome, n in counts)}"


def number_of(name: str, names: tuple[str, ...]) -> int:
    """The number of a pair by its name; raises where there is none."""
    if name not in names:
        raise ValueError(
            f"{name} is not among the {len(names)} pairs of this board: there is {names[0]}"
        )
    return names.index(name)
