"""The mixtures of many pairs: `mixture` with an axis of pairs before that of draws. NumPy only."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kfmodels.kalman.motion import Motion, Walk
from kfmodels.kalman.noise import DiscountedVariance, Noise, Scale
from kfmodels.kalman.step import State
from kfmodels.online.board_block import LANES, Block, Passing, Stand, Told, judge
from kfmodels.online.draws import owned
from kfmodels.online.mixture import check_forgetting, gap_arrays
from kfmodels.online.shocks import Shocks

_BLOCK = 16384
"""Draws of a block: fewer cost calls, more leave the cache. Measured with 64 draws a pair."""


class BoardMixture:
    """What the draws of P pairs assume, where they stand, and how they go on.

    Args:
        drift, noise, state, scale, log_weights: as for `Mixture`, batch axes (pair, draw).
        forgetting: factor a bar on the log weights.
        gap_names, gap_bars, gap_noise: closed periods, `(gap, pair, draw)`.
    """

    def __init__(
        self,
        drift: Motion,
        noise: Noise,
        state: State,
        scale: Scale | None,
        log_weights: np.ndarray,
        *,
        forgetting: float,
        gap_names: Sequence[str],
        gap_bars: np.ndarray | None,
        gap_noise: np.ndarray | None,
    ) -> None:
        check_forgetting(forgetting)
        self.drift, self.noise, self.forgetting = owned(drift), owned(noise), forgetting
        self.n, self.shape = len(state.mean), log_weights.shape
        self.gap_names = tuple(gap_names)
        wanted = (len(self.gap_names), *self.shape)
        axes = "gap, pair and draw"
        self.gap_bars, self.gap_noise = gap_arrays(gap_bars, gap_noise, wanted, axes)
        (pairs, draws), lanes = self.shape, LANES[self.n]
        now = Stand(
            np.empty((self.n + len(lanes), *self.shape)),
            np.array(log_weights, float),
            np.exp(log_weights),
            None if scale is None else np.array(scale.dof, float),
            None if scale is None else np.array(scale.var, float),
            np.empty((self.n, pairs)),
            np.empty((len(lanes), pairs)),
        )
        now.table[1::2] = state.mean
        now.table[::2] = [(state.cov[i, j] + state.cov[j, i]) / 2 for i, j in lanes]
        then = now.copy()
        size = min(pairs, max(1, _BLOCK // max(1, draws)))
        work = np.empty((7 + 2 * (self.n + 1), size, draws))
        # what of a Student density depends on the degrees of freedom alone, and on which
        known = np.full((2, pairs, 0 if scale is None else draws), np.nan)
        parts = [slice(start, min(start + size, pairs)) for start in range(0, pairs, size)]
        self.now, self._then = now, then
        self._blocks, self._others = (
            [Block(part, *ends, self.noise.var, work, known) for part in parts]
            for ends in ((now, then), (then, now))
        )
        for block in self._blocks:
            block.centre(block.now, block.now.weights)
        self._asked: tuple[float, Passing] | None = None

    def state(self) -> State:
        """Means and relative covariances, `(n, pair, draw)` and `(n, n, pair, draw)`."""
        cov = np.empty((self.n, self.n, *self.shape))
        for lane, (i, j) in zip(self.now.table[::2], LANES[self.n], strict=True):
            cov[i, j] = cov[j, i] = lane
        return State(self.now.table[1::2].copy(), cov)

    def scale(self) -> Scale | None:
        """Beliefs on the observation variances, if they are learnt."""
        now = self.now
        return None if now.dof is None else Scale(now.dof.copy(), now.var.copy())

    def advance(
        self,
        y: np.ndarray,
        x: np.ndarray,
        seen: np.ndarray,
        *,
        dt: float,
        gaps: Mapping[str, float] | None,
        shocks: Shocks | None,
        returns: bool,
        streak: np.ndarray,
    ) -> Told:
        """Where a row leads, and what it tells; nothing has moved before `keep` says so.

        Args:
            y, x: inner target and hedge `(pair,)`; finite also where `seen (pair,)` is False.
            dt, gaps: time since the last row.
            shocks: the policy; `returns` says whether there is no level for a move to be taken up by.
            streak: rows in quarantine in succession `(pair,)`.
        """
        passing = self._passing(dt, gaps or {})
        told = Told(self.n, streak, seen)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for block in self._blocks:
                part = block.part
                block.ahead(passing, seen[part])
                block.look(y[part], x[part], told)
                if shocks is not None:
                    judge(block, told, shocks, returns)
                block.learn(told)
            told.finish(self._then)
        return told

    def keep(self) -> None:
        """Take over what `advance` found."""
        self.now, self._then = self._then, self.now
        self._blocks, self._others = self._others, self._blocks

    def rescale(self, factors: np.ndarray) -> None:
        """The target of each pair in other units, `factors (pair,)` times as many."""
        by, now = factors[:, None], self.now
        now.table[1::2] *= by
        self.noise.var[:] *= by * by
        if now.var is not None:
            now.var[:] *= by * by
        for block in self._blocks:
            block.centre(block.now, block.now.weights)

    def _passing(self, dt: float, gaps: Mapping[str, float]) -> Passing:
        """The effects of the time, kept while they stay the same: the powers are dear."""
        crossed = {name: count for name, count in gaps.items() if name in self.gap_names and count}
        if self._asked is not None and self._asked[0] == dt and not crossed:
            return self._asked[1]
        time: Any = dt
        noise: Any = 1.0
        for name, count in crossed.items():
            number = self.gap_names.index(name)
            time = time + self.gap_bars[number] * count
            noise = noise * self.gap_noise[number] ** count
        if isinstance(self.drift, Walk):
            widen, rates, idle = np.add, self.drift.noise * time, 0.0
        else:
            with np.errstate(over="ignore"):  # the block bounds what this widens
                grown = self.drift.moving * (self.drift.factor**-time - 1)
            widen, rates, idle = np.multiply, 1 + grown, 1.0
        by = tuple(
            None if (rates[lane] == idle).all() else np.broadcast_to(rates[lane], self.shape).copy()
            for lane in LANES[self.n]
        )
        fade = self.noise.factor**dt if isinstance(self.noise, DiscountedVariance) else None
        found = Passing(widen, by, fade, noise, self.forgetting**dt)
        if not crossed:
            self._asked = dt, found
        return found
