"""Moments of the coefficients over the noise draws, in the units of the data."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from kfmodels.kalman.arrays import memory_of
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.motion import Reversion
from kfmodels.kalman.reversion import Law, MeanReversion
from kfmodels.kalman.transforms import Transform
from kfmodels.online.mixture import Draws, Mixture, average


class Averaged(Protocol):
    """Draws that can say their own moments; those of `Draws` are worked out here."""

    @property
    def draws(self) -> Draws:
        """As `Draws`."""
        ...

    @property
    def effective_draws(self) -> np.ndarray:
        """Effective number of draws, `(pair,)`."""
        ...

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Belief.inner`, of one block."""
        ...


class Frame:
    """From the inner coordinates of some pairs to the units of their data.

    Args:
        pairs: the tickers of each, the target first.
        coordinates: with an axis of pairs in front.
        transform: of the prices.
    """

    def __init__(
        self, pairs: Sequence[tuple[str, ...]], coordinates: Coordinates, transform: Transform
    ) -> None:
        self.pairs, self.intercept = tuple(pairs), coordinates.intercept
        self.transform = transform
        self.matrix, self.shift = coordinates.matrix(), coordinates.shift()
        self.reverts = coordinates.spread
        self.units = np.broadcast_to(coordinates.unit, len(self.matrix))
        a, states = self.matrix, self.matrix.shape[-1]
        # a row times itself turns a flattened covariance into the variance of one coefficient, so sds
        # need no product of whole matrices
        self.squares = (a[..., :, None] * a[..., None, :]).reshape(*a.shape[:2], states * states)

    def names(self, number: int) -> tuple[str, ...]:
        """Names of the coefficients of a pair."""
        hedges = self.pairs[number][1:]
        return (*hedges, "alpha") if self.intercept else hedges


class Belief:
    """Moments of the coefficients over the draws of every pair, worked out when first asked for."""

    def __init__(
        self, frame: Frame, blocks: Sequence[Mixture], stands: Sequence[Draws | Averaged]
    ) -> None:
        self.frame, self._blocks, self._stands = frame, blocks, stands

    @cached_property
    def effective_draws(self) -> np.ndarray:
        """Effective number of draws, `(pair,)`."""
        return join_blocks(
            [
                1 / average(now.weights, now.weights)
                if isinstance(now, Draws)
                else now.effective_draws
                for now in self._stands
            ]
        )

    @cached_property
    def memory(self) -> np.ndarray:
        """Memory of q of each hedge ratio in bars, `(pair, hedge)`: the mean of its log over the draws.

        It is that of a level without regressors; a ratio is learnt over `effective_memory`.
        """
        return self._mean_memory([block.log_memory for block in self._blocks], self._weights)

    @cached_property
    def effective_memory(self) -> np.ndarray:
        """Bars that each hedge ratio is learnt over, `(pair, hedge)`: likewise the mean of a log.

        In a draw it is 1 + P / W, P the variance of the ratio and W what a bar adds to it.
        """
        return self._mean_memory(self._log_effective, self._weights)

    @cached_property
    def initial_memory(self) -> np.ndarray:
        """The same by the weights of the beginning."""
        return self._mean_memory(self._log_effective, [block.initial for block in self._blocks])

    @cached_property
    def moved(self) -> np.ndarray:
        """Share of the weights of each pair that is not where it was at the beginning, `(pair,)`."""
        each = zip(self._blocks, self._draws, strict=True)
        return join_blocks([0.5 * abs(now.weights - block.initial).sum(-1) for block, now in each])

    @property
    def fixed(self) -> bool:
        """Whether all draws of a pair have the same memories."""
        return all(not np.ptp(block.log_memory, -1).any() for block in self._blocks)

    @property
    def _draws(self) -> list[Draws]:
        return [now if isinstance(now, Draws) else now.draws for now in self._stands]

    @property
    def _weights(self) -> list[np.ndarray]:
        return [now.weights for now in self._draws]

    @cached_property
    def _log_effective(self) -> list[np.ndarray]:
        """Log of the effective memory in each block, `(hedge, pair, draw)`."""
        found: list[np.ndarray] = []
        hedges, first = len(self.frame.pairs[0]) - 1, 0
        for block, now in zip(self._blocks, self._draws, strict=True):
            cov = now.state.cov.reshape(*now.state.cov.shape[:2], -1, now.weights.shape[-1])
            added = block.drift.widen(now.state.cov, np.ones(())) - now.state.cov
            added = np.einsum("iipk->ipk", added.reshape(cov.shape))
            sums = self.frame.matrix[first : first + cov.shape[2], :hedges]
            first += cov.shape[2]
            sums = sums / np.einsum("phh->ph", sums[..., :hedges])[..., None]
            with np.errstate(divide="ignore", invalid="ignore"):
                memory = np.einsum("phi,phj,ijpk->hpk", sums, sums, cov)
                memory = 1 + memory / np.einsum("phi,ipk->hpk", sums, added)
                found.append(np.minimum(np.log(memory), np.log(1e9)))
        return found

    def _mean_memory(self, logs: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> np.ndarray:
        each = zip(logs, weights, strict=True)
        found = [np.vecdot(log, one).T.reshape(-1, len(log)) for log, one in each]
        return memory_of(found[0] if len(found) == 1 else np.concatenate(found))

    @cached_property
    def inner(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean `(pair, n)`, and covariances given the noise and total, `(2, pair, n * n)`."""
        found = [
            _moments(*now.state, block.variance(now), now.weights)
            if isinstance(now, Draws)
            else now.moments()
            for block, now in zip(self._blocks, self._stands, strict=True)
        ]
        if len(found) == 1:
            return found[0]
        means, covs = zip(*found, strict=True)
        return np.concatenate(means), np.concatenate(covs, 1)

    def reversion(self, number: int) -> MeanReversion | None:
        """The spread of a pair that comes back, in units of y; None where the model has none."""
        if not self.frame.reverts:
            return None
        place, unit = number, float(self.frame.units[number])
        for block, now in zip(self._blocks, self._stands, strict=True):
            if not isinstance(now, Draws):
                return None  # no law with a spread is compiled
            pairs = 1 if now.weights.ndim == 1 else len(now.weights)
            if place < pairs:
                return MeanReversion(self._law(block, now, place, unit))
            place -= pairs
        return None

    def _law(self, block: Mixture, now: Draws, place: int, size: float) -> Law:
        drift, level = block.drift, -1 - len(block.parts)
        assert isinstance(drift, Reversion)
        unit = block.variance(now) * size**2
        parts = (
            now.weights,
            now.state.mean[-1] * size,
            now.state.cov[-1, -1] * unit,
            drift.factor[-1],
            drift.settled[-1, -1] * unit,
            drift.noise[level, level] * unit,
            block.noise.relative(now.carried) * unit,
        )
        each = [np.broadcast_to(part, now.weights.shape) for part in parts]
        return Law(*(part if part.ndim == 1 else part[place] for part in each))

    @cached_property
    def mean(self) -> np.ndarray:
        """[beta..., alpha] in the units of the data, `(pair, n)`."""
        return _times(self.frame.matrix, self.inner[0]) + self.frame.shift

    @cached_property
    def covs(self) -> np.ndarray:
        """Covariances given the noise and total, in the units of the data, `(2, pair, n, n)`."""
        a = self.frame.matrix
        return a @ self.inner[1].reshape(2, len(a), a.shape[-1], -1) @ a.mT

    @cached_property
    def sds(self) -> np.ndarray:
        """Sds given the noise and total, of [beta..., alpha] in the data's units, `(2, pair, n)`."""
        return np.sqrt(_times(self.frame.squares, self.inner[1]))


def tell_noise(belief: Belief) -> str:
    """Over how many bars the hedge ratios are learnt now, and by the weights of the start."""
    now, before = (
        np.nanmedian(each) if np.isfinite(each).any() else math.nan
        for each in (belief.effective_memory, belief.initial_memory)
    )
    pairs = len(belief.frame.pairs)
    whose = "" if pairs == 1 else f", median of {pairs} pairs"
    if now != now:
        what = "the ratio stands still"
    else:
        what = f"effective memory {now:.3g} bars{whose}"
        what += (
            ", at a speed that the model fixes"
            if belief.fixed
            else f", by the first weights {before:.3g}"
        )
    moved = np.median(belief.moved)
    return f"{what}; {moved:.0%} of the weights of the noise draws has moved since"


def _moments(
    mean: np.ndarray, cov: np.ndarray, var: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    # law of total variance: mean over the draws of their covariances, plus covariance of their means
    n = len(mean)
    if mean.ndim == 2:  # for one pair a product of matrices, which costs NumPy less
        centre, both = mean.dot(weights), np.empty((2, 1, n * n))
        away = mean - centre[:, None]
        both[0, 0] = cov.reshape(n * n, -1).dot(weights * var)
        both[1, 0] = both[0, 0] + (away * weights).dot(away.T).reshape(-1)
        return centre[None], both
    centre = np.vecdot(mean, weights)
    covs = np.empty((2, n, n, centre.shape[1]))
    np.vecdot(cov, weights * var, out=covs[0])
    away = mean - centre[..., None]
    np.vecdot(away[:, None] * weights, away, out=covs[1])
    covs[1] += covs[0]
    return centre.T, covs.reshape(2, n * n, -1).swapaxes(1, 2)


def join_blocks(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The numbers of all blocks, `(pair,)`; that of one pair alone may come as a scalar."""
    return parts[0].reshape(-1) if len(parts) == 1 else np.concatenate(parts)


def _times(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    if len(matrix) == 1:
        return vector.dot(matrix[0].T)
    return (matrix @ vector[..., None])[..., 0]
