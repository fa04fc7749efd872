"""What is known of a spread that comes back, and what a trade on it is expected to earn."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class ExpectedGain(NamedTuple):
    """Mean and sd of what a trade earns after costs, in money, closed after `bars`.

    `side` is what is done with the target, its hedge on the other side: -1 sell, 1 buy, 0 nothing,
    where there is no spread.
    """

    side: int
    bars: float
    mean: float
    sd: float


class Law(NamedTuple):
    """What each noise draw assumes and believes, arrays `(draw,)`, variances in squared units of y.

    `mean` and `var` of the spread now; `factor` is the share of it that is left after a bar, and
    `settled` the variance it settles in, 0 in a draw without one; `level` is the variance that one bar
    adds to the level, `noise` that of an observation.
    """

    weights: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    factor: np.ndarray
    settled: np.ndarray
    level: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True)
class MeanReversion:
    """The spread that comes back, beside the level: where it stands after a row, and what it is worth.

    In units of the transformed target: of logs 0.01 is one per cent, of levels a price. `law` has what
    each noise draw says.
    """

    law: Law

    @property
    def mean(self) -> float:
        """Filtered mean; positive where the target is rich."""
        return float(self.law.weights @ self.law.mean)

    @property
    def sd(self) -> float:
        """Sd of it over the noise draws; what it may be, not how far it swings."""
        away = self.law.mean - self.mean
        return float(np.sqrt(self.law.weights @ (self.law.var + away**2)))

    @property
    def z(self) -> float:
        """`mean / sd`; 0 where no draw has a spread."""
        return self.mean / self.sd if self.sd > 0 else 0.0

    @property
    def probability(self) -> float:
        """Weight of the draws that have a spread which comes back."""
        return min(float(self.law.weights @ (self.law.settled > 0)), 1.0)  # sums round

    @property
    def half_life(self) -> tuple[float, float, float]:
        """Lower, median and upper end of 90 %, in bars, given that it comes back; NaN if none does."""
        there = self.law.settled > 0
        if not there.any():
            return np.nan, np.nan, np.nan
        lives = -np.log(2) / np.log(self.law.factor[there])
        lower, middle, upper = weighted_quantiles(
            lives, self.law.weights[there], np.array([0.05, 0.5, 0.95])
        )
        return lower, middle, upper

    def expect(
        self, bars: float | None = None, *, money: float = 1.0, cost: float = 0.0
    ) -> ExpectedGain:
        r"""What a trade against the spread, entered now, is expected to earn when closed later.

        $$E[s_t - s_{t+h}] = ∑_k w_k (1 - ϕ_k^h) m_k, \qquad
        \mathrm{Var}_k = (1 - ϕ_k^h)^2 P_k + (1 - ϕ_k^{2h}) V_k + h W_k + v_k$$

        with the spread's mean m, variance P and settled variance V, the level's step W and the noise v
        of each draw; what the hedge ratio moves by in that time is not in it.

        Args:
            bars: h, until it is closed; by default the median half-life.
            money: position in the target: money (log), or shares (level).
            cost: of entering and leaving together, target and hedge, in the same money.

        Raises:
            ValueError: bars or money is no positive finite number, or cost is below 0.
        """
        if bars is not None and not 0 < bars < np.inf:
            raise ValueError(f"bars is the time until the trade is closed, positive, not {bars}")
        if not 0 < money < np.inf:
            raise ValueError(f"money is a size above 0, and `side` says buy or sell, not {money}")
        if not 0 <= cost < np.inf:
            raise ValueError(
                f"cost is what entering and leaving cost together, 0 or more, not {cost}"
            )
        if self.probability == 0:
            return ExpectedGain(0, 0.0, 0.0, 0.0)
        bars = self.half_life[1] if bars is None else float(bars)
        law = self.law
        gone = 1 - law.factor**bars
        each = gone * law.mean
        mean = float(law.weights @ each)
        var = gone**2 * law.var + (1 - (1 - gone) ** 2) * law.settled
        var = var + bars * law.level + law.noise
        sd = float(np.sqrt(law.weights @ (var + (each - mean) ** 2)))
        return ExpectedGain(-int(np.sign(mean)), bars, abs(mean) * money - cost, sd * money)

    def choose_side(
        self,
        held: int = 0,
        *,
        bars: float | None = None,
        money: float = 1.0,
        cost: float = 0.0,
        probability: float = 0.95,
    ) -> int:
        """The side to hold now: -1 short of the target, 1 long, 0 flat; a plain rule, not a backtest.

        Enter against the spread where it comes back with that `probability` and the expected gain pays
        the cost. Leave when the spread has come back to 0 or beyond.

        Args:
            held: the side held so far.
            bars, money, cost: as for `expect`.
            probability: least `probability` to enter; near 1, for a walk looks like a spread with a
                long half-life, and the probability seldom falls far below a half.

        Raises:
            ValueError: as `expect`; held is no side, or probability lies outside 0..1.
        """
        if held not in (-1, 0, 1):
            raise ValueError(f"held is the side held so far, -1, 0 or 1, not {held}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability lies between 0 and 1, not {probability}")
        gain = self.expect(bars, money=money, cost=cost)
        if held and gain.side == held:
            return held
        enters = self.probability >= probability and gain.mean > 0
        return gain.side if enters else 0

    def record(self) -> dict[str, float]:
        """As a plain dict: `half_life` is the median, `gain` that of a trade now, per unit of y.

        `side` is what such a trade does with the target, closed after the half-life, before costs, and
        `gain_sd` the sd of its gain.
        """
        gain = self.expect()
        return {
            "mean": self.mean,
            "sd": self.sd,
            "z": self.z,
            "probability": self.probability,
            "half_life": self.half_life[1],
            "side": gain.side,
            "gain": gain.mean,
            "gain_sd": gain.sd,
        }


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, at: np.ndarray) -> list[float]:
    """Quantiles of weighted values, each one of the values."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    place = np.searchsorted(share, at * share[-1])
    return [float(values[order[min(one, len(order) - 1)]]) for one in place]
