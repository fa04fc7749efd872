"""The draws of all pairs of a board, in blocks of pairs, and what a row of prices makes of them.

One file: which block a pair is in, and whether it has an axis there, is known here alone.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kfmodels.clock.day import DayVariance
from kfmodels.clock.instants import Stamp
from kfmodels.kalman.arrays import cut, join, join_arrays, make_contiguous, map_arrays
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.habits import Habits
from kfmodels.kalman.motion import Motion
from kfmodels.kalman.noise import Carried, Noise
from kfmodels.kalman.step import State
from kfmodels.online.compiled import CompiledBlock, Packed, find_kernels
from kfmodels.online.mixture import Draws, Mixture, average, weigh
from kfmodels.online.shocks import NONE, Hold, Shocks, Surprise, Verdict
from kfmodels.online.ticks import DrawForecasts, MeanForecasts

_BLOCK = 32768
"""Draws of a block, 512 pairs of 64: smaller blocks take more calls of NumPy, larger leave the cache.

The fastest of four sizes for a board of 1000 pairs (`python -m tests.benchmarks latency`).
"""

_COMPILED = 65536
"""The same where a tick is compiled: it takes pair by pair, so every block only costs a call.

A closed period goes through NumPy there too, for which yet larger blocks would be slow.
"""

TOO_FAR = (
    "the row is so far from all that this pair did before that the arithmetic cannot follow; pass NaN "
    "for bad prints"
)

_HALF = 0.5
"""Weight of a doubted row below which it is worth a word."""


type Told = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Spread, its sd, log score and z."""

type Stand = Draws | Packed
"""Where the draws of a block stand."""


class Policy(NamedTuple):
    """How rows are judged: the policy on shocks, the holds, and what becomes of a move taken for real.

    `level`: there is an intercept to take it; `returns`: the next return starts from it.
    """

    shocks: Shocks | None
    holds: Mapping[int, Hold]
    level: bool
    returns: bool


class When(NamedTuple):
    """Time since the last row, `dt` bars and the closed periods, and the time of day of a row."""

    dt: float
    gaps: Mapping[str, float] | None
    day: np.ndarray | None


class Row(NamedTuple):
    """A row of all pairs, as `Blocks.advance` is given it, and the verdicts on it so far."""

    values: np.ndarray
    seen: np.ndarray | None
    when: When
    policy: Policy
    verdicts: dict[int, Verdict]


class Passed(NamedTuple):
    """Where the draws stand after a row, and what it tells of each pair, `(pair,)`; scalars for one
    pair alone."""

    stands: list[Stand]
    forecasts: list[DrawForecasts | MeanForecasts]
    spread: np.ndarray
    sd: np.ndarray
    score: np.ndarray
    z: np.ndarray
    verdicts: dict[int, Verdict]


class Mark(NamedTuple):
    """Where a board stood, to go `back` to; a row replaces all of this and changes none of it."""

    at: Stamp | None
    stands: list[Stand]
    holds: dict[int, Hold]
    last_prices: np.ndarray
    unopened: np.ndarray
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
        initial_log_weights: as for `OnlineBoard`.
        level, parts, tilted, share, gap_names, gap_bars, gap_noise, profile: as for `Mixture`.
    """

    def __init__(
        self,
        drift: Motion,
        noise: Noise,
        state: State,
        carried: Carried,
        log_weights: np.ndarray,
        initial_log_weights: np.ndarray,
        level: bool,
        parts: tuple[int, ...],
        tilted: tuple[int, ...],
        share: float,
        gap_names: Sequence[str],
        gap_bars: np.ndarray,
        gap_noise: np.ndarray,
        profile: DayVariance | None,
    ) -> None:
        pairs, draws = log_weights.shape
        # two at least, because the arrays of one pair have no axis of pairs
        lowers = profile is None and CompiledBlock.lowers(drift, noise)
        kernels = find_kernels() if lowers else None
        most = _BLOCK if kernels is None else _COMPILED
        self._size = size = max(2, most // max(1, draws))
        self._parts: list[slice | int] = [0]
        if pairs > 1:
            self._parts = [slice(i, min(i + size, pairs)) for i in range(0, pairs, size)]
        self.shape = pairs, draws
        self.mixtures: list[Mixture] = []
        self.compiled: list[CompiledBlock] = []
        self.stands: list[Stand] = []
        self.initial_log_weights = initial_log_weights
        hedges = len(state.mean) - len(parts) - level
        drift, noise, state, carried, profile = (
            make_contiguous(drift),
            make_contiguous(noise),
            make_contiguous(state),
            make_contiguous(carried),
            make_contiguous(profile),
        )
        for part in self._parts:
            how = {
                "gap_bars": gap_bars[..., part, :],
                "gap_noise": gap_noise[..., part, :],
            }
            self.mixtures.append(
                Mixture(
                    cut(drift, part),
                    cut(noise, part),
                    hedges=hedges,
                    level=level,
                    parts=parts,
                    tilted=tilted,
                    profile=cut(profile, part),
                    share=share,
                    initial=np.exp(initial_log_weights[part]),
                    gap_names=gap_names,
                    **how,
                )
            )
            weights = log_weights[part]
            now = Draws(cut(state, part), cut(carried, part), weights, np.exp(weights))
            if kernels is not None:
                block = CompiledBlock(kernels, self.mixtures[-1], weights.shape)
                self.compiled.append(block)
                now = block.pack(now)
            self.stands.append(now)

    @property
    def draws(self) -> list[Draws]:
        """The draws of each block."""
        return [_draws_of(each) for each in self.stands]

    def advance(
        self,
        values: np.ndarray,
        seen: np.ndarray | None,
        when: When,
        policy: Policy,
    ) -> Passed:
        """The draws after a row; `self.stands` stay until `keep` takes them over.

        Args:
            values: inner target and design of every pair, `(1 + n, pair)`, finite.
            seen: which pairs observe it, `(pair,)`; None where all do.
            when: it comes.
            policy: how it is judged.
        """
        stands: list[Stand] = []
        forecasts: list[DrawForecasts | MeanForecasts] = []
        numbers: list[Told] = []
        verdicts: dict[int, Verdict] = {}
        compiles = bool(self.compiled) and all(b.judges(policy.shocks) for b in self.compiled)
        compiles = compiles and not self.mixtures[0].crosses(when.gaps)
        row = Row(values, seen, when, policy, verdicts)
        for number, part in enumerate(self._parts):
            now = self.stands[number]
            if compiles and isinstance(now, Packed):
                after = self._compiled(part, now, row)
                forecast, told = after.means(), after.told()
            else:
                mixture, draws = self.mixtures[number], _draws_of(now)
                after, forecast, told = self._pass(part, mixture, draws, row)
                # packed at once, so that a reloaded filter stands at the same bits
                after = self.compiled[number].pack(after) if self.compiled else after
            stands.append(after)
            forecasts.append(forecast)
            numbers.append(told)
        if len(numbers) == 1:
            spread, sd, score, z = numbers[0]
        else:
            spread, sd, score, z = map(np.concatenate, zip(*numbers, strict=True))
        return Passed(stands, forecasts, spread, sd, score, z, verdicts)

    def _compiled(self, part: slice | int, now: Packed, row: Row) -> Packed:
        """A block after a row; pairs for which it is not an ordinary one go the other road, each alone,
        so that no pair depends on its neighbours."""
        pairs = slice(0, 1) if isinstance(part, int) else part
        y = np.ascontiguousarray(row.values[0, pairs])
        design = np.ascontiguousarray(row.values[1:, pairs])
        taught = None if row.seen is None else row.seen[pairs]
        after, places = now.block.advance(now, y, design, taught, row.when.dt)
        if holds := row.policy.holds:
            held = [pair - pairs.start for pair in self._numbers(part) if pair in holds]
            places = sorted({*places, *held})
        for place in places:
            pair = pairs.start + place
            learnt, forecast, told = self._pass(pair, *self.of_pair(pair), row)
            now.block.put(after, place, learnt, forecast.means(), told)
        return after

    def _pass(
        self, part: slice | int, mixture: Mixture, now: Draws, row: Row
    ) -> tuple[Draws, DrawForecasts, Told]:
        """A block or one pair after a row, what it forecast, and spread, sd, log score and z.

        What becomes of the rows that are judged is added to the verdicts.
        """
        values, seen, (dt, gaps, day), policy, verdicts = row
        mixture = mixture.at(day)
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
                ratios = mixture.ratios(ahead)
                look = mixture.doubt(ahead, look, scale, policy.shocks.pull, ratios)
                density = mixture.density(ahead, look)
                log_weights, weights, _ = weigh(ahead.log_weights + density)
                weight = average(plain / look.noise, ahead.weights)
                log_weights, weights = mixture.restrain(
                    ahead,
                    look,
                    (log_weights, weights),
                    policy.shocks.pull,
                    np.minimum(1.0, weight / _HALF),
                    ratios,
                )
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
        forecast = DrawForecasts(dof, ahead.weights, look.noise, look.seen.var)
        after = mixture.learn(ahead, look, (log_weights, weights), taught, lesson)
        return after, forecast, (spread, sd, score, z)

    def _numbers(self, part: slice | int) -> Sequence[int]:
        """Numbers of the pairs of a block."""
        return [part] if isinstance(part, int) else range(self.shape[0])[part]

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
        numbers = self._numbers(part)
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
        self.stands = passed.stands

    def of_pair(self, number: int) -> tuple[Mixture, Draws]:
        """The mixture and the draws of one pair, without the axis of pairs."""
        if self.shape[0] == 1:
            return self.mixtures[0], self.draws[0]
        block, place = divmod(number, self._size)
        mixture, now = self.mixtures[block], _draws_of(self.stands[block])
        one = Mixture(
            cut(mixture.drift, place),
            cut(mixture.noise, place),
            hedges=mixture.hedges,
            level=mixture.level,
            parts=mixture.parts,
            tilted=mixture.tilted,
            profile=cut(mixture.profile, place),
            share=mixture.share,
            initial=mixture.initial[place],
            gap_names=mixture.gap_names,
            gap_bars=mixture.gap_bars[..., place, :],
            gap_noise=mixture.gap_noise[..., place, :],
        )
        state, carried = cut(now.state, place), cut(now.carried, place)
        return one, Draws(state, carried, now.log_weights[place], now.weights[place])

    def foresee(self, number: int, values: np.ndarray, when: When) -> Foreseen:
        """What the draws of one pair say of a row of inner `values (1 + n,)`; nothing moves."""
        mixture, now = self.of_pair(number)
        dt, gaps, day = when
        mixture = mixture.at(day)
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
            "initial_log_weights": self.initial_log_weights.copy(),
            "gap_bars": join_arrays([each.gap_bars for each in mixtures], alone=alone),
            "gap_noise": join_arrays([each.gap_noise for each in mixtures], alone=alone),
            "profile": join([each.profile for each in mixtures], alone=alone),
        }

    def arguments_of(self, number: int) -> dict[str, object]:
        """The same for one pair; copies, so that what is made of them goes on independently."""
        mixture, now = self.of_pair(number)
        return {
            "drift": map_arrays(np.copy, mixture.drift),
            "noise": map_arrays(np.copy, mixture.noise),
            "state": map_arrays(np.copy, now.state),
            "carried": map_arrays(np.copy, now.carried),
            "log_weights": now.log_weights.copy(),
            "initial_log_weights": self.initial_log_weights[number].copy(),
            "gap_bars": mixture.gap_bars.copy(),
            "gap_noise": mixture.gap_noise.copy(),
            "profile": map_arrays(np.copy, mixture.profile),
        }


def _of_block(values: np.ndarray, part: slice | int) -> tuple[np.ndarray, np.ndarray]:
    """Target and design of the pairs of a block; for one pair alone a number and `(n,)`."""
    if isinstance(part, int):
        return values[0, part], values[1:, part]
    return values[0, part, None], values[1:, part, None]


def _draws_of(stand: Stand) -> Draws:
    return stand.draws if isinstance(stand, Packed) else stand
