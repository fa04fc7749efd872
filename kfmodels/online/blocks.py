"""The draws of all pairs of a board, in blocks of pairs, and what a row of prices makes of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kfmodels.clock.instants import Stamp
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.habits import Habits
from kfmodels.kalman.motion import Motion
from kfmodels.kalman.noise import Carried, Noise
from kfmodels.kalman.step import State
from kfmodels.online.arrays import cut, join, join_arrays, make_contiguous
from kfmodels.online.mixture import Draws, Mixture, average, weigh
from kfmodels.online.shocks import NONE, Hold, Shocks, Surprise, Verdict
from kfmodels.online.ticks import DrawForecasts

_BLOCK = 32768
"""Draws of a block, 512 pairs of 64: smaller blocks take more calls of NumPy, larger leave the cache.

The fastest of four sizes for a board of 1000 pairs (`python -m tests.benchmarks latency`).
"""

_HALF = 0.5
"""Weight of a doubted row below which it is worth a word."""


class Policy(NamedTuple):
    """How rows are judged: the policy on shocks, the holds, and what becomes of a move taken for real.

    `level`: there is an intercept to take it; `returns`: the next return starts from it.
    """

    shocks: Shocks | None
    holds: Mapping[int, Hold]
    level: bool
    returns: bool


class Passed(NamedTuple):
    """The draws after a row, and what it tells of each pair, `(pair,)`; scalars for one pair alone."""

    draws: list[Draws]
    forecasts: list[DrawForecasts]
    spread: np.ndarray
    sd: np.ndarray
    score: np.ndarray
    z: np.ndarray
    verdicts: dict[int, Verdict]


class Mark(NamedTuple):
    """Where a board stood, to go `back` to; a row replaces all of this and changes none of it."""

    at: Stamp | None
    draws: list[Draws]
    holds: dict[int, Hold]
    last_prices: np.ndarray
    habits: Habits
    coordinates: Coordinates


class Foreseen(NamedTuple):
    """Mean and variance of an innovation, and what each draw says of it, in inner units."""

    spread: float
    var: float
    weights: np.ndarray
    error: np.ndarray
    squared: np.ndarray
    dof: np.ndarray | None


class Blocks:
    """The draws of all pairs, a `Mixture` for each block of them.

    Args:
        drift, noise, state, carried, log_weights: as for `OnlineBoard`.
        level, forgetting, gap_names, gap_bars, gap_noise: as for `Mixture`.
    """

    def __init__(
        self,
        drift: Motion,
        noise: Noise,
        state: State,
        carried: Carried,
        log_weights: np.ndarray,
        *,
        level: bool,
        forgetting: float,
        gap_names: Sequence[str],
        gap_bars: np.ndarray,
        gap_noise: np.ndarray,
    ) -> None:
        pairs, draws = log_weights.shape
        # two at least, because the arrays of one pair have no axis of pairs
        self._size = size = max(2, _BLOCK // max(1, draws))
        self._parts: list[slice | int] = [0]
        if pairs > 1:
            self._parts = [slice(i, min(i + size, pairs)) for i in range(0, pairs, size)]
        self.shape = pairs, draws
        self.mixtures: list[Mixture] = []
        self.draws: list[Draws] = []
        drift, noise, state, carried = (
            make_contiguous(drift),
            make_contiguous(noise),
            make_contiguous(state),
            make_contiguous(carried),
        )
        for part in self._parts:
            how = {"gap_bars": gap_bars[:, part], "gap_noise": gap_noise[:, part]}
            self.mixtures.append(
                Mixture(
                    cut(drift, part),
                    cut(noise, part),
                    level=level,
                    forgetting=forgetting,
                    gap_names=gap_names,
                    **how,
                )
            )
            weights = log_weights[part]
            self.draws.append(Draws(cut(state, part), cut(carried, part), weights, np.exp(weights)))

    def advance(
        self,
        values: np.ndarray,
        seen: np.ndarray | None,
        dt: float,
        gaps: Mapping[str, float] | None,
        policy: Policy,
    ) -> Passed:
        """The draws after a row; `self.draws` stay until `keep` takes them over.

        Args:
            values: inner target and design of every pair, `(1 + n, pair)`, finite.
            seen: which pairs observe it, `(pair,)`; None where all do.
            dt, gaps: time since the last row.
            policy: how it is judged.
        """
        draws: list[Draws] = []
        forecasts: list[DrawForecasts] = []
        numbers: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        verdicts: dict[int, Verdict] = {}
        for part, mixture, now in zip(self._parts, self.mixtures, self.draws, strict=True):
            y, design = _of_block(values, part)
            ahead, factor = mixture.predict(now, dt, gaps)
            look = mixture.look(ahead, factor, design, y)
            spread, squared = mixture.spread(ahead, look)
            log_weights, weights, score = weigh(ahead.log_weights + mixture.density(ahead, look))
            sd = np.sqrt(squared)
            z = spread / sd
            taught = None if seen is None else seen[part]
            lesson = None
            if policy.shocks is not None:
                scale = policy.shocks.doubt(look.seen.error**2 / look.squared)
                if scale is not None:
                    # z and score stay those of the forecast as it was made; only learning changes
                    plain = np.asarray(look.noise)
                    look = mixture.doubt(ahead, look, scale, policy.shocks.pull)
                    density = mixture.density(ahead, look)
                    log_weights, weights, _ = weigh(ahead.log_weights + density)
                    weight = average(plain / look.noise, ahead.weights)
                    rows, far = (z, np.zeros_like(z), weight), weight < _HALF
                else:
                    pull = mixture.pull(ahead, look, weights, policy.shocks.pull)
                    far = abs(z) > policy.shocks.limit
                    if pull is not None:
                        far = far | (pull > policy.shocks.pull)
                    rows = z, np.zeros_like(z) if pull is None else pull, np.ones_like(z)
                judged = self._judge(part, rows, far, seen, policy)
                if judged:
                    verdicts |= judged
                    taught, real = self._teach(part, seen, judged, policy)
                    wide = real & (policy.level and not policy.returns)
                    if real.any():
                        seen_as = mixture.lesson(look, real, policy.shocks.limit)
                        lesson = seen_as, (taught | real)[..., None].astype(float)
                    if wide.any():
                        # the level takes the move, and no draw is judged by what none could foresee
                        ahead = mixture.widen(ahead, look, wide)
                        look = mixture.look(ahead, factor, design, y)
                        log_weights = np.where(wide[..., None], ahead.log_weights, log_weights)
                        weights = np.where(wide[..., None], ahead.weights, weights)
            dof = mixture.noise.dof(ahead.carried)
            forecasts.append(DrawForecasts(dof, ahead.weights, look.noise, look.seen.var))
            draws.append(mixture.learn(ahead, look, (log_weights, weights), taught, lesson))
            numbers.append((spread, sd, score, z))
        if len(numbers) == 1:
            spread, sd, score, z = numbers[0]
        else:
            spread, sd, score, z = map(np.concatenate, zip(*numbers, strict=True))
        return Passed(draws, forecasts, spread, sd, score, z, verdicts)

    def _judge(
        self,
        part: slice | int,
        rows: tuple[np.ndarray, np.ndarray, np.ndarray],
        far: np.ndarray,
        seen: np.ndarray | None,
        policy: Policy,
    ) -> dict[int, Verdict]:
        """What the policy makes of rows that are `far` off, and of pairs that have a hold.

        `rows` are the fields of their `Surprise`.
        """
        assert policy.shocks is not None
        holds, judge = policy.holds, policy.shocks.judge
        # nearly every tick ends here, so the loop below may be one of Python
        if not holds and not far.any():
            return {}
        numbers = [part] if isinstance(part, int) else range(self.shape[0])[part]
        found = zip(numbers, *(np.ravel(each).tolist() for each in (far, *rows)), strict=True)
        return {
            number: judge(Surprise(*surprise), holds.get(number, NONE))
            for number, beyond, *surprise in found
            if (seen is None or seen[number]) and (beyond or number in holds)
        }

    def _teach(
        self,
        part: slice | int,
        seen: np.ndarray | None,
        judged: Mapping[int, Verdict],
        policy: Policy,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which pairs of a block learn from their row, and of which a shock is taken for real."""
        taught = np.ones(self.shape[0], bool) if seen is None else seen.copy()
        real = np.zeros(self.shape[0], bool)
        for number, verdict in judged.items():
            taught[number] &= verdict.teaches(policy.returns)
            real[number] = verdict.moved
        return taught[part], real[part]

    def keep(self, passed: Passed) -> None:
        """Take over the draws that `advance` returned."""
        self.draws = passed.draws

    def of_pair(self, number: int) -> tuple[Mixture, Draws]:
        """The mixture and the draws of one pair, without the axis of pairs."""
        if self.shape[0] == 1:
            return self.mixtures[0], self.draws[0]
        block, place = divmod(number, self._size)
        mixture, now = self.mixtures[block], self.draws[block]
        one = Mixture(
            cut(mixture.drift, place),
            cut(mixture.noise, place),
            level=mixture.level,
            forgetting=mixture.forgetting,
            gap_names=mixture.gap_names,
            gap_bars=mixture.gap_bars[:, place],
            gap_noise=mixture.gap_noise[:, place],
        )
        state, carried = cut(now.state, place), cut(now.carried, place)
        return one, Draws(state, carried, now.log_weights[place], now.weights[place])

    def foresee(
        self, number: int, values: np.ndarray, dt: float, gaps: Mapping[str, float] | None
    ) -> Foreseen:
        """What the draws of one pair say of a row of inner `values (1 + n,)`; nothing moves."""
        mixture, now = self.of_pair(number)
        ahead, factor = mixture.predict(now, dt, gaps)
        look = mixture.look(ahead, factor, values[1:], values[0])
        spread, var = mixture.spread(ahead, look)
        return Foreseen(
            float(spread),
            float(var),
            ahead.weights,
            look.seen.error,
            look.squared,
            mixture.noise.dof(ahead.carried),
        )

    @property
    def weights(self) -> np.ndarray:
        """Weights of the draws, `(pair, draw)`."""
        return join_arrays([now.weights for now in self.draws], alone=self.shape[0] == 1)

    def arguments(self) -> dict[str, object]:
        """The arrays that `__init__` takes to make these blocks again."""
        mixtures, draws, alone = self.mixtures, self.draws, self.shape[0] == 1
        return {
            "drift": join([each.drift for each in mixtures], alone=alone),
            "noise": join([each.noise for each in mixtures], alone=alone),
            "state": join([each.state for each in draws], alone=alone),
            "carried": join([each.carried for each in draws], alone=alone),
            "log_weights": join_arrays([each.log_weights for each in draws], alone=alone),
            "gap_bars": join_arrays([each.gap_bars for each in mixtures], alone=alone),
            "gap_noise": join_arrays([each.gap_noise for each in mixtures], alone=alone),
        }


def _of_block(values: np.ndarray, part: slice | int) -> tuple[np.ndarray, np.ndarray]:
    """Target and design of the pairs of a block; for one pair alone a number and `(n,)`."""
    if isinstance(part, int):
        return values[0, part], values[1:, part]
    return values[0, part, None], values[1:, part, None]
