"""What the experts hold before a row: coefficients of all structures on all memories."""

from typing import NamedTuple

import numpy as np

from kfmodels.basket.moments import Moments, Others
from kfmodels.basket.settings import CHOOSER, LEGS_EVERY, MEMORIES, REWEIGHTED_EVERY, Structures
from kfmodels.basket.structures import (
    Reweighted,
    choose_legs,
    invert,
    place,
    solve_legs,
    start_reweighted,
)
from kfmodels.files.documents import register


class Choice(NamedTuple):
    """What is not worked out anew with every row.

    `hedges (h,)` and `targets (n,)`, numbers of the assets that it was made for; the best legs by place
    among the hedges, `chosen (n, count)`, `useful` where they are legs at all; the coefficients of the
    reweighted ridge, `(memory, penalty, n, h)`.
    """

    hedges: np.ndarray
    targets: np.ndarray
    chosen: np.ndarray
    useful: np.ndarray
    reweighted: np.ndarray


register(Choice)


class Advice:
    """Coefficients of every expert, in sds, for the next row.

    Args:
        moments: after the row before.
        structures: of each memory.
        targets, hedges: numbers of the assets that are hedged, and that may be legs now.
        choice: that of the row before, None for none.
        rows: learnt so far; they say when legs are chosen anew.
        room: an array that the coefficients may be written to, `(memory, structure, n, h)`.
    """

    def __init__(
        self,
        moments: Moments,
        structures: Structures,
        targets: np.ndarray,
        hedges: np.ndarray,
        choice: Choice | None,
        rows: int,
        room: np.ndarray | None = None,
    ) -> None:
        self.structures, self.places = structures, place(targets, hedges)
        self.corr, self.sd = moments.standardise()
        same = (
            choice is not None
            and np.array_equal(choice.hedges, hedges)
            and np.array_equal(choice.targets, targets)
        )
        before = choice if same else None
        best, penalties = structures.best, structures.reweighted
        held = len(structures.ridges) + len(structures.shrunk)
        shape = (len(MEMORIES), held + len(penalties), len(targets), len(hedges))
        self.dense = room if room is not None and room.shape == shape else np.empty(shape)
        count = max((size for size, _ in best), default=0)
        chosen, useful = np.zeros((len(targets), 0), int), np.zeros((len(targets), 0), bool)
        if count and (before is None or rows % LEGS_EVERY == 0):
            chosen, useful = choose_legs(self.corr[CHOOSER], self.places, count)
        elif before is not None:
            chosen, useful = before.chosen, before.useful
        self.few, self._few_spread = np.zeros((len(MEMORIES), 0, *chosen.shape)), np.zeros(0)
        if count:
            self.few, self._few_spread = solve_legs(self.corr, self.places, chosen, useful, best)
        self._others: Others | None = None
        for memory, corr in enumerate(self.corr):
            if held:
                solved = invert(corr, self.places, structures.ridges, structures.shrunk)
                solved.coefficients(self.places, self.dense[memory, :held])
                if memory == CHOOSER and len(hedges) == len(corr):
                    self._others = Others(solved.values, solved.vectors, self.sd[memory])
            if penalties:
                start = None if before is None else before.reweighted[memory]
                self._reweigh(corr, start, rows, self.dense[memory, held:])
        self.choice = Choice(hedges, targets, chosen, useful, self.dense[:, held:].copy())

    def _reweigh(
        self, corr: np.ndarray, before: np.ndarray | None, rows: int, out: np.ndarray
    ) -> None:
        """Write the coefficients of the reweighted ridges, refreshed where it is time."""
        if before is not None and rows % REWEIGHTED_EVERY:
            out[:] = before
            return
        ridge, solves = Reweighted(corr, self.places), 2
        if before is None:
            start, solves = start_reweighted(corr, self.places), 6
            before = np.repeat(start[None], len(out), 0)
        for number, penalty in enumerate(self.structures.reweighted):
            out[number] = ridge.refine(penalty, before[number], solves)

    def regressions(self) -> Others:
        """Of every asset on all others; where all are hedges the factorisation is at hand."""
        if self._others is None:
            self._others = Others.of(self.corr[CHOOSER], self.sd[CHOOSER])
        return self._others

    def predict(self, move: np.ndarray) -> np.ndarray:
        """What every expert expects of the targets, `(n, expert)`, given the moves of all assets.

        These are `(N,)`, or `(n, N)` as each target knows them.
        """
        hedges, targets = self.places.hedges, self.places.targets
        unit = self._unit()
        legs = hedges[self.choice.chosen]
        found: list[np.ndarray] = []
        for memory in range(len(MEMORIES)):
            scaled = move / unit[memory]
            own = self.sd[memory, targets]
            if move.ndim == 1:
                few = (self.few[memory] * scaled[legs]).sum(-1)
                every = self.dense[memory] @ scaled[hedges]
            else:
                few = (self.few[memory] * np.take_along_axis(scaled, legs, 1)).sum(-1)
                every = np.einsum("snh,nh->sn", self.dense[memory], scaled[:, hedges])
            found.append(own * np.concatenate([few, every]))
        return np.concatenate(found).T

    def mix(self, weights: np.ndarray) -> np.ndarray:
        """The ratios of all experts by their weights `(n, expert)`, `(n, h)`."""
        n, h = len(self.places.targets), len(self.places.hedges)
        parts, split = weights.T.reshape(len(MEMORIES), -1, n), self.few.shape[1]
        unit, total, few = self._unit(), np.zeros((n, h)), np.zeros(self.choice.chosen.shape)
        legs = self.places.hedges[self.choice.chosen]
        for memory, part in enumerate(parts):
            scale = self.sd[memory, self.places.targets][:, None]
            few += np.einsum("kn,knj->nj", part[:split], self.few[memory]) * (
                scale / unit[memory, legs]
            )
            if self.dense.shape[1]:
                every = np.einsum("kn,knh->nh", part[split:], self.dense[memory])
                total += every * (scale / unit[memory, self.places.hedges])
        np.add.at(total, (np.arange(n)[:, None], self.choice.chosen), few)
        return total

    def spread(self, weights: np.ndarray, variance: np.ndarray, rows: np.ndarray) -> np.ndarray:
        r"""Variance of the mixed ratios, `(n, h)`.

        Within an expert that of a regression, the variance of what it leaves times the inverse of its
        regularised Gram matrix over its effective rows; between experts the weighted spread.

        Args:
            weights, variance: of every expert, `(n, expert)`; the variance of a row in the units of the
                moments.
            rows: effective rows of every memory and target, `(memory, n)`.
        """
        mean, structures, places = self.mix(weights), self.structures, self.places
        n, unit, split = len(places.targets), self._unit(), self.few.shape[1]
        every, legs = np.arange(n)[:, None], self.choice.chosen
        held = len(structures.ridges) + len(structures.shrunk)
        parts = weights.T.reshape(len(MEMORIES), -1, n)
        left = variance.T.reshape(len(MEMORIES), -1, n)
        total = np.zeros_like(mean)
        for memory, part in enumerate(parts):
            scale = self.sd[memory, places.targets][:, None] / unit[memory, places.hedges]
            each = (
                left[memory] / rows[memory] / np.maximum(unit[memory, places.targets] ** 2, 1e-300)
            )
            for number in range(split):
                ratio, inner = np.zeros_like(mean), np.zeros_like(mean)
                np.add.at(ratio, (every, legs), self.few[memory, number])
                np.add.at(inner, (every, legs), self._few_spread[memory, number])
                total += _around(mean, ratio, inner, scale, part[number], each[number])
            if held:
                dense = invert(self.corr[memory], places, structures.ridges, structures.shrunk)
                inners = dense.spread(places)
                for number in range(held):
                    total += _around(
                        mean,
                        self.dense[memory, number],
                        inners[number],
                        scale,
                        part[split + number],
                        each[split + number],
                    )
            ridge = Reweighted(self.corr[memory], places) if structures.reweighted else None
            for number, penalty in enumerate(structures.reweighted, start=held):
                assert ridge is not None
                coefs = self.dense[memory, number]
                inner = ridge.spread(penalty, coefs)
                total += _around(
                    mean, coefs, inner, scale, part[split + number], each[split + number]
                )
        return total

    def _unit(self) -> np.ndarray:
        return np.where(self.sd > 0, self.sd, np.inf)


def _around(
    mean: np.ndarray,
    coefs: np.ndarray,
    inner: np.ndarray,
    scale: np.ndarray,
    weight: np.ndarray,
    variance: np.ndarray,
) -> np.ndarray:
    """What one expert adds to the variance of the ratios."""
    ratio = coefs * scale
    own = inner * scale**2 * variance[:, None]
    return weight[:, None] * (own + (ratio - mean) ** 2)
