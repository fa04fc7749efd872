"""Many noise draws of one pair, each with its own state, and how far each is believed. NumPy only."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kfmodels.kalman.density import log_normal
from kfmodels.kalman.motion import Motion, Walk
from kfmodels.kalman.noise import Noise, Scale
from kfmodels.kalman.step import Forecast, State
from kfmodels.online.draws import (
    OfDof,
    Remembered,
    Tables,
    owned,
    state_of,
    table_of,
    weighed,
)

_WIDEST = 1e10
"""Relative variance that stands for infinity, as that of a flat start: more ruins the arithmetic."""


class Stand(NamedTuple):
    """Where the draws stand at one moment, arrays with the axis of draws last.

    `table (n + n * n, draw)` as in `online.draws`; `scale` is None where the variance is constant;
    `noise` is the relative observation variance of the row that is due.
    """

    table: np.ndarray
    scale: Scale | None
    log_weights: np.ndarray
    weights: np.ndarray
    noise: Any = 1.0

    def finite(self) -> bool:
        """Whether all of it is a number, and so will be its squares."""
        flat = self.table.reshape(-1)
        rest = 0.0 if self.scale is None else self.scale.var.sum()
        return math.isfinite(flat.dot(flat) + rest)

    @property
    def effective_draws(self) -> float:
        return 1 / float(self.weights.dot(self.weights))


class Look(NamedTuple):
    """What every draw says of a row, arrays with the axis of draws last.

    `missed` is the innovation with its sign turned, `var` its relative variance, `scaled` the same in
    squared units of the target, `rows (n + 1, draw)` are `missed` and P h.
    """

    missed: np.ndarray
    var: np.ndarray
    scaled: np.ndarray
    rows: np.ndarray


class Mixture:
    """What the draws of a pair assume, and how they go on from where they stand.

    Args:
        drift, noise: of the recursion, batch axis (draws) last.
        forgetting: factor a bar on the log weights.
        gap_names, gap_bars, gap_noise: closed periods, see `OnlineFilter`.
    """

    def __init__(
        self,
        drift: Motion,
        noise: Noise,
        draws: int,
        *,
        forgetting: float,
        gap_names: Sequence[str],
        gap_bars: np.ndarray | None,
        gap_noise: np.ndarray | None,
    ) -> None:
        check_forgetting(forgetting)
        self.drift, self.noise, self.forgetting = owned(drift), owned(noise), forgetting
        moves = self.drift.noise if isinstance(self.drift, Walk) else self.drift.moving
        self.n = len(moves)
        self._walk = None
        if isinstance(self.drift, Walk):
            still = np.zeros((self.n, self.drift.noise.shape[-1]))
            self._walk = np.concatenate([still, self.drift.noise.reshape(self.n**2, -1)])
        self.gap_names = tuple(gap_names)
        wanted = (len(self.gap_names), draws)
        self.gap_bars, self.gap_noise = gap_arrays(gap_bars, gap_noise, wanted, "gap and draw")
        self._tables, self._of_dof = Tables(self.n), Remembered(OfDof.of)
        self._faded = Remembered(self._fade)

    def begin(self, state: State, scale: Scale | None, log_weights: np.ndarray) -> Stand:
        """Where given states stand."""
        return Stand(
            table_of(owned(state)), scale and owned(scale), log_weights, np.exp(log_weights)
        )

    def state(self, stand: Stand) -> State:
        """Means and relative covariances."""
        return state_of(stand.table, self.n)

    def ahead(self, stand: Stand, dt: float, gaps: Mapping[str, float] | None) -> Stand:
        """Where the draws stand `dt` bars and some closed periods later; shares nothing that moves."""
        time: Any = dt
        noise: Any = 1.0
        for name, count in (gaps or {}).items():
            if name in self.gap_names and count:
                number = self.gap_names.index(name)
                time = time + self.gap_bars[number] * count
                noise = noise * self.gap_noise[number] ** count
        if self._walk is not None:
            table = stand.table + (self._walk if time is dt and dt == 1.0 else self._walk * time)
        else:
            table = stand.table.copy()
            time = np.minimum(time, self._longest(table))
            wide = self.drift.widen(state_of(table, self.n).cov, time)
            table[self.n :] = wide.reshape(self.n**2, -1)
        log_weights, weights = stand.log_weights, stand.weights
        if self.forgetting < 1 and len(weights) > 1:
            log_weights, weights, _ = weighed(log_weights * self.forgetting**dt)
        scale = stand.scale and stand.scale._replace(dof=self._faded(stand.scale.dof, dt))
        return Stand(table, scale, log_weights, weights, noise)

    def _fade(self, dof: np.ndarray, dt: float) -> np.ndarray:
        """Degrees of freedom `dt` bars later."""
        return self.noise.fade(Scale(dof, dof), dt).dof

    def _longest(self, table: np.ndarray) -> np.ndarray:
        """Bars of fading after which a draw knows nothing, and could not know less."""
        widest = table[self.n :: self.n + 1].max(0)
        with np.errstate(divide="ignore"):
            return np.maximum(np.log(_WIDEST / widest), 0) / -np.log(self.drift.factor)

    def held(self, ahead: Stand, before: Stand) -> Stand:
        """`ahead`, if its draws know anything; else they could not know less, and need not."""
        if ahead.table[self.n :: self.n + 1].max() > _WIDEST:
            return ahead._replace(table=before.table)
        return ahead

    def look(self, ahead: Stand, design: list[float], y: float) -> Look:
        """What every draw says of `y`."""
        seen = self._tables.read(ahead.table, design)
        missed, var = seen[0], seen[-1]
        missed -= y
        var += ahead.noise
        return Look(missed, var, self.squared_scale(ahead) * var, seen[:-1])

    def spread(self, ahead: Stand, seen: Look) -> tuple[float, float]:
        """Mean and variance of the innovation over the draws."""
        var = seen.scaled
        if ahead.scale is not None:
            var = var * self._of_dof(ahead.scale.dof).inflation
        if len(var) == 1:
            return -float(seen.missed[0]), float(var[0])
        weights, missed = ahead.weights, seen.missed
        mean = float(missed.dot(weights))
        away = missed - mean
        away *= away
        away += var
        return -mean, float(away.dot(weights))

    def dof(self, stand: Stand) -> float:
        """Degrees of freedom of a forecast, averaged over the draws; inf where it is normal."""
        return math.inf if stand.scale is None else float(stand.scale.dof.dot(stand.weights))

    def squared_scale(self, stand: Stand) -> np.ndarray:
        """Observation variance of every draw, without what is not known of it."""
        return self.noise.var if stand.scale is None else stand.scale.var

    def density(self, ahead: Stand, seen: Look) -> np.ndarray:
        """Log density of the innovation under every draw."""
        scale = ahead.scale
        if scale is None:
            return log_normal(seen.missed, seen.scaled, np.log)
        constant, power, _ = self._of_dof(scale.dof)
        distance = seen.missed * seen.missed / (scale.dof * seen.scaled)
        return constant - 0.5 * np.log(seen.scaled) - power * np.log(1 + distance)

    def weighed(self, ahead: Stand, density: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Logs of the weights after the row and the weights, and the log score of the row."""
        if len(density) == 1:
            return ahead.log_weights, ahead.weights, float(density[0])
        return weighed(ahead.log_weights + density)

    def robust(self, ahead: Stand, seen: Look, limit: float) -> tuple[Stand, Look]:
        """The row with the noise that a doubtful one has."""
        doubt = seen.missed * seen.missed / (limit**2 * seen.scaled)
        noise = ahead.noise * (1 + doubt)
        var = seen.var + ahead.noise * doubt
        scaled = self.squared_scale(ahead) * var
        return ahead._replace(noise=noise), seen._replace(var=var, scaled=scaled)

    def widened(self, ahead: Stand, seen: Look) -> Stand:
        """The variance of the last coefficient, the intercept, wide enough for the innovation."""
        table = ahead.table.copy()
        table[-1] += seen.missed * seen.missed / self.squared_scale(ahead)
        return ahead._replace(table=table)

    def after(
        self, ahead: Stand, seen: Look, weights: tuple[np.ndarray, np.ndarray]
    ) -> tuple[Stand, float]:
        """Where the draws stand after the row, with the weights they have then; the level's gain.

        Takes the tables of `ahead` and `seen` over.
        """
        scale = ahead.scale
        if scale is not None:
            scale = self.noise.learn(scale, Forecast(seen.missed, seen.var, seen.rows[1:]), 1.0)
        inverse = 1 / seen.var
        share = inverse if isinstance(ahead.noise, float) else inverse * ahead.noise
        gain = 1 - float(share.dot(ahead.weights))
        self._tables.learn(ahead.table, seen.rows, np.sqrt(inverse))
        return Stand(ahead.table, scale, *weights), gain

    def rescaled(self, stand: Stand, factor: float) -> Stand:
        """The target in other units, `factor` times as many; changes what is assumed of the noise."""
        table, scale = stand.table.copy(), stand.scale
        table[: self.n] *= factor
        self.noise = self.noise._replace(var=self.noise.var * factor**2)
        scale = scale and Scale(scale.dof, scale.var * factor**2)
        return stand._replace(table=table, scale=scale)


def check_forgetting(forgetting: float) -> None:
    """Raise unless it is a factor."""
    if not 0 < forgetting <= 1:
        raise ValueError(f"forgetting is a factor a bar, above 0 and up to 1, not {forgetting}")


def gap_arrays(bars: Any, noise: Any, shape: tuple[int, ...], axes: str) -> tuple[Any, Any]:
    """What closed periods are worth as arrays of that shape; raises if they have another."""
    if not shape[0]:  # no gap, whatever an empty list has become in a file
        return np.ones(shape), np.ones(shape)
    found = np.array(bars, float), np.array(noise, float)
    for given in found:
        if given.shape != shape:
            raise ValueError(f"gap_bars and gap_noise must be {shape}, {axes}, not {given.shape}")
    return found
