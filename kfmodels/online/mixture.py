"""The noise draws of some pairs, each with its own state, and how far each draw is believed.

Arrays have the axes (coefficient, pair, draw), that of pairs left out where there is one, because
NumPy is slower with an axis of one. A block of pairs is one `Mixture`: small enough that what
a tick touches stays in the cache of the processor. Nothing is changed in place, so what a tick says may
be worked out later, and a row that is rejected leaves no trace.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kfmodels.kalman.density import LOG_PI, half_a_step, log_normal, student_variance
from kfmodels.kalman.motion import Motion
from kfmodels.kalman.noise import Carried, Noise
from kfmodels.kalman.step import Forecast, State, forecast, predict, update

_WIDEST = 1e10
"""Relative variance that stands for infinity, as that of a flat start: more ruins the arithmetic."""

_LEAST = 1e-200
"""Sums of exponentials below this, and above its inverse, are taken once more from their largest."""

_add = np.add.reduce


class Draws(NamedTuple):
    """Where the draws stand: state, what the noise carries, and the weights, which sum to one."""

    state: State
    carried: Carried
    log_weights: np.ndarray
    weights: np.ndarray


class Look(NamedTuple):
    """What every draw says of a row before it learns from it.

    `noise` is the relative observation variance of the row and `squared` the variance scale of the
    innovation in squared units of the target.
    """

    seen: Forecast
    noise: float | np.ndarray
    squared: np.ndarray


class Mixture:
    """What the draws of a block of pairs assume, and how they go on from where they stand.

    Args:
        drift, noise: of the recursion, batch axes (pair, draw).
        forgetting: factor a bar on the log weights.
        gap_names, gap_bars, gap_noise: closed periods, `(gap, pair, draw)`.
    """

    def __init__(
        self,
        drift: Motion,
        noise: Noise,
        *,
        forgetting: float,
        gap_names: Sequence[str],
        gap_bars: np.ndarray,
        gap_noise: np.ndarray,
    ) -> None:
        self.drift, self.noise, self.forgetting = drift, noise, forgetting
        self.gap_names, self.gap_bars, self.gap_noise = tuple(gap_names), gap_bars, gap_noise
        self._constant: tuple[np.ndarray, np.ndarray] | None = None

    def predict(
        self, draws: Draws, dt: float, gaps: Mapping[str, float] | None
    ) -> tuple[Draws, float | np.ndarray]:
        """The draws `dt` bars and some closed periods later, and the factor on the row's variance."""
        time: float | np.ndarray = dt
        factor: float | np.ndarray = 1.0
        for name, count in (gaps or {}).items():
            if name in self.gap_names and count:
                number = self.gap_names.index(name)
                time = time + self.gap_bars[number] * count
                factor = factor * self.gap_noise[number] ** count
        state, carried, log_weights, weights = draws
        if dt <= 1 and not gaps:
            state = _cap(predict(state, self.drift, time), state)
        else:  # so long a time may take a variance that fades beyond all floats
            with np.errstate(over="ignore", invalid="ignore"):
                state = _cap(predict(state, self.drift, time), state)
        if self.forgetting < 1 and weights.shape[-1] > 1:
            log_weights, weights, _ = weigh(log_weights * self.forgetting**dt)
        return Draws(state, self.noise.fade(carried, dt), log_weights, weights), factor

    def look(
        self, ahead: Draws, factor: float | np.ndarray, design: np.ndarray, y: np.ndarray
    ) -> Look:
        """What every draw says of `y (pair, 1)`, given its `design (n, pair, 1)`."""
        noise = self.noise.relative(ahead.carried) * factor
        seen = forecast(ahead.state, design, y, noise)
        return Look(seen, noise, self.noise.unit(ahead.carried) * seen.var)

    def spread(self, ahead: Draws, look: Look) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the innovation over the draws, `(pair,)`."""
        error, var = look.seen.error, look.squared
        dof = self.noise.dof(ahead.carried)
        if dof is not None:
            var = var * student_variance(dof, np)
        if error.shape[-1] == 1:
            return error[..., 0], var[..., 0]
        mean = average(error, ahead.weights)
        away = error - spread_out(mean)
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

    def doubt(self, ahead: Draws, look: Look, factor: np.ndarray) -> Look:
        """The row with an observation variance that many times as large."""
        seen, noise, _ = look
        seen = seen._replace(var=seen.var + noise * (factor - 1))
        return Look(seen, noise * factor, self.noise.unit(ahead.carried) * seen.var)

    def widen(self, ahead: Draws, look: Look, which: np.ndarray) -> Draws:
        """The variance of the last coefficient, the intercept, wide enough for the innovation."""
        square = look.seen.error**2 / self.noise.unit(ahead.carried)
        cov = ahead.state.cov.copy()
        cov[-1, -1] += np.where(which[..., None], np.minimum(square, _WIDEST), 0.0)
        return ahead._replace(state=State(ahead.state.mean, cov))

    def learn(
        self,
        ahead: Draws,
        look: Look,
        weights: tuple[np.ndarray, np.ndarray],
        learnt: np.ndarray | None,
    ) -> Draws:
        """The draws after the row, with the weights that they have then.

        `learnt (pair,)` says which pairs learn from it; None is all of them.
        """
        if learnt is None:
            carried = self.noise.learn(ahead.carried, look.seen, 1.0)
            return Draws(update(ahead.state, look.seen), carried, *weights)
        observed = learnt[..., None].astype(float)
        kept = (
            np.where(learnt[..., None], new, old)
            for new, old in zip(weights, (ahead.log_weights, ahead.weights), strict=True)
        )
        carried = self.noise.learn(ahead.carried, look.seen, observed)
        return Draws(update(ahead.state, look.seen, observed), carried, *kept)

    def variance(self, draws: Draws) -> np.ndarray:
        """What turns relative covariances of the draws into covariances, `(pair, draw)`."""
        unit, dof = self.noise.unit(draws.carried), self.noise.dof(draws.carried)
        return unit if dof is None else unit * student_variance(dof, np)

    def _of_dof(self, dof: np.ndarray) -> np.ndarray:
        """What of a Student-t log density depends on its degrees of freedom alone.

        They settle after a few memories, and then most ticks ask for the same.
        """
        if self._constant is None or not np.array_equal(self._constant[0], dof):
            ratio, rest = half_a_step(0.5 * dof)
            self._constant = dof, np.log(ratio) + rest - 0.5 * LOG_PI
        return self._constant[1]


def average(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over the draws; of one pair alone a dot product, which costs less than `vecdot`."""
    return values.dot(weights) if values.ndim == 1 else np.vecdot(values, weights)


def spread_out(each: np.ndarray) -> np.ndarray:
    """A number of every pair with an axis for the draws; of one pair alone it stays a number."""
    return each[:, None] if each.ndim else each


def weigh(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logs of weights and the weights, made to sum to one; and the log of their sum before.

    The weights are those of the logs, to the last bit: the logs are what is stored.
    """
    if joint.shape[-1] == 1:
        return np.zeros_like(joint), np.ones_like(joint), joint[..., 0]
    total = _add(np.exp(joint), -1)
    fine = (total > _LEAST) & (total < 1 / _LEAST)
    if fine if joint.ndim == 1 else fine.all():
        whole = np.log(total)
    else:  # a sum has left the range of exponentials, as it does beyond 39 sds
        top = np.maximum.reduce(joint, -1)
        whole = top + np.log(_add(np.exp(joint - top[..., None]), -1))
    log_weights = joint - spread_out(whole)
    return log_weights, np.exp(log_weights), whole


def _cap(ahead: State, before: State) -> State:
    """The predicted state with no variance beyond what stands for infinity.

    Where no row teaches, or none tells the coefficients apart, a variance may grow for ever, and one
    that has overflowed ruins the draw. A coefficient that is too wide is scaled down, with its
    covariances; only from twice the bound on, so that a flat start stays what it is offline.
    """
    if ahead.cov.max() <= 2 * _WIDEST:  # not so where it is NaN
        return ahead
    each = np.arange(len(ahead.cov))
    lost = ~np.isfinite(ahead.cov).all((0, 1))
    grown: np.ndarray = ahead.cov
    stood: np.ndarray = before.cov
    cov = np.where(lost, stood, grown)
    wide = np.where(lost & ~(grown[each, each] <= _WIDEST), np.inf, cov[each, each])
    with np.errstate(divide="ignore"):
        shrink = np.where(wide > _WIDEST, np.sqrt(_WIDEST / cov[each, each]), 1.0)
    shrink = np.where(np.isfinite(shrink), shrink, 1.0)  # what is known for sure stays so
    return State(ahead.mean, cov * shrink[:, None] * shrink)
