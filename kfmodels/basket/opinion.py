"""What has been learnt about the experts of every target: weights, tails, variances."""

from typing import NamedTuple

import numpy as np

from kfmodels.basket.advice import Advice
from kfmodels.basket.moments import Gap
from kfmodels.basket.settings import Weighing
from kfmodels.basket.tails import TAILS, Mixture
from kfmodels.files.documents import register

_DECAY, _LATELY = 0.97, 0.99
"""Decays of the variance that an expert leaves, and of what has been removed lately."""

_LEAST = 0.2
"""Share of the target's variance that an expert's starts from at least."""

_FIRST = 2
"""Rows that a variance counts as when it has learnt from one.

It starts wide, often many times what an expert leaves: with the full memory from the start, bands
would be too wide for a hundred rows.
"""


class Opinion(NamedTuple):
    """Of every target: log weights and variances of the experts `(n, expert)`, log weights of the tails
    `(n, 3)`, the variances of the hedged and the unhedged move lately `(2, n)`, and how many rows have
    taught it `(n,)`.

    NaN is the variance of an expert that was not scored yet.
    """

    log_weights: np.ndarray
    variances: np.ndarray
    tails: np.ndarray
    lately: np.ndarray
    rows: np.ndarray

    def tail_weights(self) -> np.ndarray:
        """Those of 4, 6 and 10 degrees of freedom, `(n, 3)`."""
        weights = np.exp(self.tails - self.tails.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True)

    def start(self, errors: np.ndarray, mean_square: np.ndarray) -> np.ndarray:
        """The variances, those not yet known from a first error."""
        first = np.maximum(errors**2, _LEAST * mean_square[:, None])
        # of an asset that never moved there is nothing to start from
        return np.maximum(np.where(np.isnan(self.variances), first, self.variances), 1e-300)

    def expect(
        self,
        weighing: Weighing,
        advice: Advice,
        mean_square: np.ndarray,
        move: np.ndarray,
        gap: Gap | None,
        weight: float,
        moves: np.ndarray | None = None,
    ) -> tuple[Mixture, np.ndarray]:
        """What the experts expect of the targets, and their variances with all legs seen.

        Args:
            mean_square: of the targets' moves so far.
            move: of every asset `(N,)`, those that were not seen filled.
            gap: how far these may be off; the legs among them widen the densities.
            weight: of the row in the moments.
            moves: of the targets. An expert that was never scored starts from its error at these, or
                without them from the mean square.
        """
        targets = advice.places.targets
        if gap is not None:
            # no target may have filled the gaps of its own legs
            move = np.repeat(move[None], len(targets), 0)
            move[:, gap.where] += gap.shift[:, targets].T
        mean = advice.predict(move)
        errors = np.zeros_like(mean) if moves is None else moves[:, None] - mean
        variances, weights = self.start(errors, mean_square), weighing.weigh(self.log_weights)
        wider = np.zeros(len(mean))
        if gap is not None:
            held = np.zeros_like(move)
            held[:, advice.places.hedges] = advice.mix(weights)
            part = held[:, gap.where]
            wider = np.einsum("ij,jk,ik->i", part, gap.covariance, part).clip(0)
            wider = (wider + np.einsum("ij,ji->i", part, gap.widen[:, targets]) ** 2) / weight
        mixture = Mixture(mean, variances + wider[:, None], weights, self.tail_weights())
        return mixture, variances

    def learn(
        self,
        weighing: Weighing,
        mixture: Mixture,
        moves: np.ndarray,
        variances: np.ndarray,
        where: np.ndarray,
        size: float = 1.0,
    ) -> tuple["Opinion", np.ndarray]:
        """The opinion after one move a target, taught `where`, and the log scores.

        The tails are weighed by predictive likelihood too, with nothing forgotten.

        Args:
            variances: of the experts, without what missing legs add to those of the mixture.
            size: what moves were divided by; the share removed lately is that of whole moves.
        """
        densities = mixture.log_densities(moves)
        best = densities.max((1, 2), keepdims=True)
        shares = np.exp(densities - best)
        by_tail = np.einsum("nk,nkt->nt", mixture.weights, shares)
        by_expert = np.einsum("nt,nkt->nk", mixture.tails, shares)
        score = best[:, 0, 0] + np.log((mixture.tails * by_tail).sum(1))
        # an expert that a row rules out altogether keeps a weight that it can come back from
        by_expert = np.log(np.maximum(by_expert, 1e-300))
        tails = self.tails + np.log(np.maximum(by_tail, 1e-300))
        tails = np.maximum(tails - tails.max(1, keepdims=True), -700.0)
        errors = moves[:, None] - mixture.mean
        # of an error that missing legs have widened only the expert's own share counts
        squares = errors**2 * (variances / mixture.variance)
        hedged = (mixture.weights * errors).sum(1)
        now = np.stack([hedged**2, moves**2]) * size**2
        fresh = np.isnan(self.lately)
        lately = np.where(fresh, now, _LATELY * self.lately + (1 - _LATELY) * now)
        each = where[:, None]
        gain = np.maximum(1 - _DECAY, 1 / (self.rows[:, None] + _FIRST))
        new = Opinion(
            np.where(each, weighing.learn(self.log_weights, by_expert), self.log_weights),
            np.where(each, variances + gain * (squares - variances), self.variances),
            np.where(each, tails, self.tails),
            np.where(where, lately, self.lately),
            self.rows + where,
        )
        return new, score


def no_opinion(targets: int, experts: int) -> Opinion:
    """Nothing learnt: all experts and tails alike."""
    return Opinion(
        np.zeros((targets, experts)),
        np.full((targets, experts), np.nan),
        np.zeros((targets, len(TAILS))),
        np.full((2, targets), np.nan),
        np.zeros(targets, int),
    )


register(Opinion)
