"""The noise draws of some pairs, each with its own state, and how far each draw is believed.

Arrays have the axes (coefficient, pair, draw); that of pairs is left out where there is one pair, as
NumPy is slower with an axis of length one. A block of pairs is one `Mixture`, small enough that what a
tick touches stays in the cache of the processor. Nothing is changed in place, so a tick may work out
its numbers later, and a row that is rejected leaves no trace.

One file: one class, whose methods are the steps of one tick.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kfmodels.clock.day import TILT, DayVariance
from kfmodels.kalman.arrays import log_memory
from kfmodels.kalman.density import LOG_PI, gamma_ratio, log_normal, student_variance
from kfmodels.kalman.motion import Motion
from kfmodels.kalman.noise import Carried, Noise, meet, scale_of, state_dof
from kfmodels.kalman.step import Forecast, State, forecast, predict, update

SHARE = 0.002
"""Of the weights that a live mixture hands out anew every bar.

A share of .0005 gains as much and finds a change a little later; .01 loses half of what is gained where
a memory grows, and up to two fifths on real prices, daily and by the minute (`python -m
tests.benchmarks learning`).
"""

_WIDEST = 1e10
"""Relative variance that stands for infinity, as that of a flat start: more ruins the arithmetic."""

_LEAST = 1e-200
"""Of a sum of exponentials below this, or above its inverse, the largest is factored out first; and no
weight is less where a share is handed out, so that its logarithm is finite."""

_ROUNDING = 1e-9
"""Share of a hedge ratio by which it may always move."""

_add = np.add.reduce

type Ratios = list[tuple[np.ndarray, np.ndarray]]
"""Mean and sd of each inner hedge ratio over the draws, `(pair,)` each."""


class Draws(NamedTuple):
    """Where the draws stand: state, what the noise carries, and the weights, which sum to one."""

    state: State
    carried: Carried
    log_weights: np.ndarray
    weights: np.ndarray


class Look(NamedTuple):
    """What every draw says of a row before it learns from it.

    `noise` is the relative observation variance of the row, `squared` the variance scale of the
    innovation in squared units of the target, and `carried` what the noise carries into the row.
    """

    seen: Forecast
    noise: float | np.ndarray
    squared: np.ndarray
    carried: Carried


class Mixture:
    """What the draws of a block of pairs assume, and how they go on from where they stand.

    Args:
        drift, noise: of the recursion, batch axes (pair, draw).
        hedges: their number, the first coefficients.
        level: whether the next coefficient is an intercept.
        parts: of the states after the coefficients, the coefficient that each is a part of.
        share: of the weights that is handed out anew every bar, as the `initial (pair, draw)` were.
        tilted: numbers among the parts of those that count by the tilt of the time of day.
        profile: of the observation variance over the day, `(pair, draw)`, or None.
        gap_names, gap_bars, gap_noise: closed periods, `(gap, pair, draw)`; where they are not worth as
            many bars to each state, `gap_bars (gap, state, pair, draw)`.
    """

    def __init__(
        self,
        drift: Motion,
        noise: Noise,
        *,
        hedges: int,
        level: bool,
        parts: tuple[int, ...] = (),
        tilted: tuple[int, ...] = (),
        profile: DayVariance | None = None,
        share: float,
        initial: np.ndarray,
        gap_names: Sequence[str],
        gap_bars: np.ndarray,
        gap_noise: np.ndarray,
    ) -> None:
        self.drift, self.noise = drift, noise
        self.share, self.initial = share, initial
        self.hedges, self.level, self.parts = hedges, level, parts
        self.tilted, self.profile = tilted, profile
        self._counts, self._day = np.ones(len(parts)), None
        self.gap_names, self.gap_bars, self.gap_noise = tuple(gap_names), gap_bars, gap_noise
        self._constant: tuple[np.ndarray, np.ndarray] | None = None

    def at(self, day: np.ndarray | None) -> "Mixture":
        """The same at a time of day, `(4,)` as `kfmodels.clock.day.read_day` has it."""
        if day is None:
            return self
        other = copy(self)
        other._day = day
        other._counts = self._counts.copy()
        other._counts[list(self.tilted)] = day[TILT]
        return other

    def predict(
        self, draws: Draws, dt: float, gaps: Mapping[str, float] | None
    ) -> tuple[Draws, float | np.ndarray]:
        """The draws `dt` bars and some closed periods later, and the factor on the row's variance."""
        # plain numbers where no period was crossed, which leaves NumPy less to do
        time: float | np.ndarray = dt
        factor: float | np.ndarray = 1.0
        for name, count in (gaps or {}).items():
            if name in self.gap_names and count:
                number = self.gap_names.index(name)
                time = time + self.gap_bars[number] * count
                factor = factor * self.gap_noise[number] ** count
        if self.profile is not None and self._day is not None:
            factor = factor * self.profile.factor(self._day)
        state, carried, log_weights, weights = draws
        if dt <= 1 and not gaps:
            state = _cap(predict(state, self.drift, time), state)
        else:  # so long a time may take a discounted variance beyond the largest float
            with np.errstate(over="ignore", invalid="ignore"):
                state = _cap(predict(state, self.drift, time), state)
        if self.share > 0 and weights.shape[-1] > 1:
            log_weights, weights = self._hand_out(weights, dt)
        return Draws(state, self.noise.fade(carried, dt), log_weights, weights), factor

    def _hand_out(self, weights: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
        """Log weights and weights `dt` bars later, of which a share is that of the beginning."""
        kept = (1 - self.share) ** dt
        logs = np.log(np.maximum(kept * weights + (1 - kept) * self.initial, _LEAST))
        return logs, np.exp(logs)

    @cached_property
    def log_memory(self) -> np.ndarray:
        """Log of the memory of each hedge ratio in bars, `(hedge, pair, draw)`."""
        found = log_memory(self.drift, self.hedges, self.parts)
        shape = self.initial.shape
        found = found.reshape(self.hedges, *found.shape[1:][-len(shape) :])
        return np.ascontiguousarray(np.broadcast_to(found, (self.hedges, *shape)))

    def crosses(self, gaps: Mapping[str, float] | None) -> bool:
        """Whether one of the closed periods that were crossed is one that the model knows."""
        return bool(gaps) and any(gaps[name] for name in self.gap_names if name in gaps)

    def look(
        self, ahead: Draws, factor: float | np.ndarray, design: np.ndarray, y: np.ndarray
    ) -> Look:
        """What every draw says of `y (pair, 1)`, given its `design (coefficient, pair, 1)`."""
        if self.parts:
            counts = self._counts.reshape(-1, *[1] * (design.ndim - 1))
            design = np.concatenate([design, design[list(self.parts)] * counts])
        noise = self.noise.relative(ahead.carried) * factor
        seen = forecast(ahead.state, design, y, noise)
        carried = meet(self.noise, ahead.carried, design, noise)
        return Look(seen, noise, scale_of(self.noise, carried, seen), carried)

    def spread(self, ahead: Draws, look: Look) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the innovation over the draws, `(pair,)`."""
        error, var = look.seen.error, look.squared
        dof = self.noise.dof(ahead.carried)
        if dof is not None:
            var = var * student_variance(dof, np)
        if error.shape[-1] == 1:  # one draw is no mixture
            return error[..., 0], var[..., 0]
        mean = average(error, ahead.weights)
        away = error - add_draw_axis(mean)
        away *= away
        away += var
        return mean, average(away, ahead.weights)

    def density(self, ahead: Draws, look: Look) -> np.ndarray:
        """Log density of the innovation under every draw."""
        dof = self.noise.dof(ahead.carried)
        if dof is None:
            return log_normal(look.seen.error, look.squared, np.log)
        width = dof * look.squared
        tail = np.log(1 + look.seen.error * look.seen.error / width)
        return self._of_dof(dof) - 0.5 * (np.log(width) + (dof + 1) * tail)

    def doubt(
        self, ahead: Draws, look: Look, factor: np.ndarray, most: float, ratios: Ratios
    ) -> Look:
        """The row with its observation variance multiplied by `factor`, or by more if need be.

        With an outsized price of a hedge nearly all of the forecast's variance is that of the ratio,
        and the row would move it by any amount. In no draw does a ratio move by more than `most` of the
        sds that it has over the draws, those of `ratios`.
        """
        seen, noise = look.seen, look.noise
        var = seen.var + noise * (factor - 1)
        push = np.abs(seen.error) / most
        for leverage, (_, sd) in zip(self._sums(seen.leverage), ratios, strict=False):
            with np.errstate(invalid="ignore"):  # a ratio that is known moves by nothing
                var = np.fmax(var, np.abs(leverage) / add_draw_axis(sd) * push)
        doubted = seen._replace(var=var)
        squared = scale_of(self.noise, look.carried, doubted)
        return Look(doubted, noise + (var - seen.var), squared, look.carried)

    def restrain(
        self,
        ahead: Draws,
        look: Look,
        weights: tuple[np.ndarray, np.ndarray],
        most: float,
        share: np.ndarray,
        ratios: Ratios,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log weights and weights of the draws after a doubted row, between those before and `weights`.

        A share of each is taken: at most `share (pair,)` of those that the row asks for, and so much
        less that the mean of no ratio moves by more than `most` of its sds. That holds with none of
        them, as no draw moves farther; pairs that are within both keep what they are given to the bit.
        """
        if weights[0].shape[-1] == 1:
            return weights
        moved = ahead.state.mean + look.seen.leverage * (look.seen.error / look.seen.var)
        for mean, (here, sd) in zip(self._sums(moved), ratios, strict=False):
            # a ratio that is known has no sd, and moves by roundings
            room = most * sd + _ROUNDING * np.abs(here)
            near, far = average(mean, ahead.weights) - here, average(mean, weights[1]) - here
            near = near * np.sign(far)
            with np.errstate(divide="ignore", invalid="ignore"):
                within = np.clip((room - near) / (np.abs(far) - near), 0.0, 1.0)
            share = np.where(np.abs(far) > room, np.minimum(share, within), share)
        bound = share < 1
        if not bound.any():
            return weights
        with np.errstate(divide="ignore"):
            before = ahead.log_weights + add_draw_axis(np.log1p(-share))
            mixed = np.logaddexp(before, weights[0] + add_draw_axis(np.log(share)))
        logs = np.where(add_draw_axis(bound), mixed, weights[0])
        return logs, np.where(add_draw_axis(bound), np.exp(logs), weights[1])

    def ratios(self, ahead: Draws) -> Ratios:
        """Mean and sd of each inner hedge ratio over the draws."""
        unit, found = self.variance(ahead), list[tuple[np.ndarray, np.ndarray]]()
        means = self._sums(ahead.state.mean)
        for hedge in range(self.hedges):
            mean, var = means[hedge], ahead.state.cov[hedge, hedge] * unit
            if self.parts:
                each = np.flatnonzero(np.equal(self.parts, hedge))
                states, counts = [hedge, *each + len(means)], np.append(1.0, self._counts[each])
                var = np.tensordot(
                    np.outer(counts, counts), ahead.state.cov[np.ix_(states, states)], 2
                )
                var = var * unit
            centre = average(mean, ahead.weights)
            away = mean - add_draw_axis(centre)
            found.append((centre, np.sqrt(average(away * away + var, ahead.weights))))
        return found

    def _sums(self, states: np.ndarray) -> np.ndarray:
        """Coefficients as the sums of their states, `(coefficient, pair, draw)`."""
        if not self.parts:
            return states
        sums = states[: len(states) - len(self.parts)].copy()
        for state, coefficient in enumerate(self.parts, start=len(sums)):
            sums[coefficient] += states[state] * self._counts[state - len(sums)]
        return sums

    def widen(self, ahead: Draws, look: Look, which: np.ndarray) -> Draws:
        """The draws with a variance of the intercept that is wide enough for the row."""
        square = look.seen.error**2 / self.noise.unit(ahead.carried)
        cov = ahead.state.cov.copy()
        level = len(cov) - len(self.parts) - 1
        cov[level, level] += np.where(which[..., None], np.minimum(square, _WIDEST), 0.0)
        return ahead._replace(state=State(ahead.state.mean, cov))

    def pull(
        self, ahead: Draws, look: Look, weights: np.ndarray, limit: float
    ) -> np.ndarray | None:
        """By how many of its sds a row moves the ratio that it moves farthest, `(pair,)`.

        `weights` are those of the draws after the row. None where it is within the limit for sure: no
        draw moves a ratio by more of its sds than its innovation has, and rows within one sd hardly
        move the weights.
        """
        strain = average(look.seen.error * look.seen.error / look.squared, ahead.weights)
        if not strain.max() > min(1.0, limit * limit / 4):
            return None
        farthest: np.ndarray = np.zeros(look.seen.error.shape[:-1])
        shift = look.seen.error / look.seen.var
        moved = ahead.state.mean + look.seen.leverage * shift
        for mean, (here, sd) in zip(self._sums(moved), self.ratios(ahead), strict=False):
            farthest = np.maximum(farthest, np.abs(average(mean, weights) - here) / sd)
        return farthest

    def lesson(self, look: Look, real: np.ndarray, limit: float) -> Forecast:
        """What rows say of the noise: of a shock taken for `real (pair,)` at most `limit` sds.

        Were it nothing, a filter whose variance is far too small would take every row for a shock, for
        ever; were it all, one jump would widen the bands for as long as the variance remembers.
        """
        most = np.where(real[..., None], limit * np.sqrt(look.squared), np.inf)
        return look.seen._replace(error=np.clip(look.seen.error, -most, most))

    def learn(
        self,
        ahead: Draws,
        look: Look,
        weights: tuple[np.ndarray, np.ndarray],
        learnt: np.ndarray | None,
        lesson: tuple[Forecast, np.ndarray] | None = None,
    ) -> Draws:
        """The draws after the row, with their log weights and weights as given.

        `learnt (pair,)` says which pairs learn from it; None is all of them. `lesson` is what the
        noise learns from, and in which pairs, where that is not the row.
        """
        if learnt is None:
            carried = self.noise.learn(look.carried, look.seen, 1.0)
            return Draws(update(ahead.state, look.seen), carried, *weights)
        observed = learnt[..., None].astype(float)
        kept = (
            np.where(learnt[..., None], new, old)
            for new, old in zip(weights, (ahead.log_weights, ahead.weights), strict=True)
        )
        seen, taught = (look.seen, observed) if lesson is None else lesson
        carried = self.noise.learn(look.carried, seen, taught)
        return Draws(update(ahead.state, look.seen, observed), carried, *kept)

    def variance(self, draws: Draws) -> np.ndarray:
        """Factor that turns relative covariances of the draws into covariances, `(pair, draw)`."""
        unit, dof = self.noise.unit(draws.carried), state_dof(self.noise, draws.carried)
        return unit if dof is None else unit * student_variance(dof, np)

    def _of_dof(self, dof: np.ndarray) -> np.ndarray:
        """The part of a Student-t log density that depends on its degrees of freedom alone."""
        # these settle after a few memories of the variance, and then most ticks ask for the same
        if self._constant is None or not np.array_equal(self._constant[0], dof):
            above, below = gamma_ratio(0.5 * dof)
            self._constant = dof, 0.5 * (np.log(above / below) - LOG_PI)
        return self._constant[1]


def average(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the draws."""
    # for one pair alone a dot product, which costs less than `vecdot`
    return values.dot(weights) if values.ndim == 1 else np.vecdot(values, weights)


def add_draw_axis(each: np.ndarray) -> np.ndarray:
    """A number of every pair with an axis for the draws; of one pair alone it stays a number."""
    return each[:, None] if each.ndim else each


def weigh(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log weights and weights, made to sum to one; and the log of their sum before."""
    if joint.shape[-1] == 1:
        return np.zeros_like(joint), np.ones_like(joint), joint[..., 0]
    total = _add(np.exp(joint), -1)
    fine = (total > _LEAST) & (total < 1 / _LEAST)
    if fine if joint.ndim == 1 else fine.all():
        whole = np.log(total)
    else:  # a sum has left the range of exponentials, as it does beyond 39 sds
        top = np.maximum.reduce(joint, -1)
        whole = top + np.log(_add(np.exp(joint - top[..., None]), -1))
    # from the logs, which are what is stored, so that a reloaded filter has the same weights to the bit
    log_weights = joint - add_draw_axis(whole)
    return log_weights, np.exp(log_weights), whole


def _cap(ahead: State, before: State) -> State:
    """The predicted state, with the variances that exceed the cap scaled down to it.

    Where no row is observed, or none tells the coefficients apart, a variance may grow for ever, and
    one that has overflowed ruins the draw. Covariances are scaled with their variances.
    """
    # twice, so that a flat start, which is at the cap, stays what it is offline; false where it is NaN
    if ahead.cov.max() <= 2 * _WIDEST:
        return ahead
    each = np.arange(len(ahead.cov))
    # a draw that has overflowed keeps the covariance it had, scaled to the cap where it grew
    lost = ~np.isfinite(ahead.cov).all((0, 1))
    grown: np.ndarray = ahead.cov
    stood: np.ndarray = before.cov
    cov = np.where(lost, stood, grown)
    wide = np.where(lost & ~(grown[each, each] <= _WIDEST), np.inf, cov[each, each])
    with np.errstate(divide="ignore"):
        shrink = np.where(wide > _WIDEST, np.sqrt(_WIDEST / cov[each, each]), 1.0)
    shrink = np.where(np.isfinite(shrink), shrink, 1.0)  # a variance of 0 stays 0
    return State(ahead.mean, cov * shrink[:, None] * shrink)
