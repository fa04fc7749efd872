"""The fitted filter, tick by tick. NumPy only: the trading process needs no JAX.

Each tick runs the one `step` of `kalman.step` for all noise draws at once and reweights them by how
well they forecast it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from kfmodels.coordinates import Coordinates
from kfmodels.files import replacing
from kfmodels.kalman.density import log_normal, log_student
from kfmodels.kalman.step import (
    Drift,
    Forecast,
    Noise,
    Scale,
    State,
    forecast,
    predict,
    update,
)
from kfmodels.online_file import from_json, to_json

_Z90 = 1.6448536269514722


@dataclass(frozen=True, slots=True)
class Tick:
    """What is known after one tick, in the units of the data.

    `beta`, `alpha` and their sds are filtered (t | t): the hedge to hold until the next tick.
    `sd_given_noise` takes the noise as known, `sd_total` adds what is not known about it (law of
    total variance); both have an entry "alpha" too. `spread` is the innovation, y minus its forecast
    from the ticks before: positive means the target is rich. `z` is spread / spread_sd. `gain` is the
    share of the spread that was taken to be permanent. Where nothing was observed, `spread`, `z` and
    `log_score` are NaN.
    """

    at: Any
    observed: bool
    beta: dict[str, float]
    alpha: float
    sd_given_noise: dict[str, float]
    sd_total: dict[str, float]
    spread: float
    spread_sd: float
    z: float
    gain: float
    log_score: float
    effective_draws: float


@dataclass(frozen=True, slots=True)
class FairValue:
    """Forecast of the target given its hedges.

    `price` with its 90 % band `lower`, `upper` in currency; `mean` and `sd` in transformed units.
    """

    price: float
    lower: float
    upper: float
    mean: float
    sd: float


class OnlineFilter:
    """A fitted filter that takes prices and answers with a hedge ratio and its uncertainty.

    Comes from `HedgeFit.online()` or `OnlineFilter.load(path)`. K noise draws, each with its own
    state, form a mixture: `w_k <- w_k p(y_t | y_<t, draw k)`, normalised.

    Args:
        target, hedges: tickers.
        transform: "log", "level" or "return", applied to the prices given.
        coordinates: the inner coordinates of the recursion.
        drift, noise: of the recursion, batch axis (draws) last.
        state, scale: where each draw stands; `scale` is None when the variance is constant.
        log_weights: of the draws; the weights sum to one.
        last_prices: [target, hedges...] of the last complete row, for returns.
        at: time of the last tick seen, or None.
        until: last date whose prices the noise was inferred from, or None.

    Source: West and Harrison (1997), section 12.2 (multi-process models, class I).
    """

    def __init__(
        self,
        *,
        target: str,
        hedges: Sequence[str],
        transform: str,
        coordinates: Coordinates,
        drift: Drift,
        noise: Noise,
        state: State,
        scale: Scale | None,
        log_weights: np.ndarray,
        last_prices: np.ndarray | None = None,
        at: Any = None,
        until: Any = None,
    ) -> None:
        self.target, self.hedges, self.transform = target, tuple(hedges), transform
        self.coordinates, self.until = coordinates, until
        self.at = at
        self.last_prices = last_prices
        self.log_weights, self.weights = log_weights, np.exp(log_weights)
        self.drift, self.noise = _owned(drift), _owned(noise)
        self._state, self._scale = _owned(state), scale and _owned(scale)
        self._matrix, self._shift = coordinates.matrix(), coordinates.shift()
        self._names = (*self.hedges, "alpha") if coordinates.intercept else self.hedges

    @property
    def draws(self) -> int:
        """Number of noise draws."""
        return len(self.weights)

    def forecast(self, *, x: Any, dt: float = 1.0) -> FairValue:
        """Fair value of the target at the hedge prices `x`, before its own price is known.

        Args:
            x: hedge prices, one a hedge, in their order or as a dict by ticker.
            dt: bars since the last tick.

        Raises:
            ValueError: a price that cannot be transformed.
        """
        prices = self._prices(math.nan, x)
        values = self._transformed(np.where(np.isnan(prices), [1.0] + [math.nan] * (len(prices) - 1), prices))
        if values is None:
            raise ValueError(f"forecast needs a price of every hedge ({', '.join(self.hedges)}), not NaN")
        predicted = predict(self._state, self.drift, dt)
        seen = forecast(predicted, self.coordinates.design(values[1:])[:, None], 0.0)
        mean, var = self._mix_forecast(seen, self.noise.fade(self._scale, dt))
        mean, sd = self.coordinates.offset - mean, math.sqrt(var)
        band = (mean - _Z90 * sd, mean + _Z90 * sd)
        lower, price, upper = (self._price(v) for v in (band[0], mean, band[1]))
        return FairValue(price=price, lower=lower, upper=upper, mean=mean, sd=sd)

    def update(self, *, y: float, x: Any, at: Any = None, dt: float = 1.0) -> Tick:
        """Take one row of prices: predict, score, reweight, update.

        Args:
            y: price of the target; NaN if there is none.
            x: hedge prices, one a hedge, in their order or as a dict by ticker; NaN if there is none.
            at: time of the row; must be later than the one before.
            dt: bars since the row before.

        Returns:
            A `Tick`. Where a price is missing the state only diffuses.

        Raises:
            ValueError: infinite or non-positive price, wrong number of hedges, time not later than
                the last. The filter is then as it was before.
        """
        if at is not None and self.at is not None:
            self._check_later(at)
        prices = self._prices(y, x)
        values = self._transformed(prices)
        predicted = predict(self._state, self.drift, dt)
        faded = self.noise.fade(self._scale, dt)
        if values is None:
            self._state, self._scale = predicted, faded
            spread, spread_sd, gain, score = math.nan, math.nan, 0.0, math.nan
        else:
            design = self.coordinates.design(values[1:])[:, None]
            seen = forecast(predicted, design, values[0] - self.coordinates.offset)
            spread, var = self._mix_forecast(seen, faded)
            spread_sd = math.sqrt(var)
            gain = float((1 - 1 / seen.var) @ self.weights)
            score = self._reweight(seen, faded)
            self._state = update(predicted, seen)
            self._scale = self.noise.learn(faded, seen, 1.0)
        if at is not None:
            self.at = at
        if not np.isnan(prices).any():
            self.last_prices = prices
        return self._tick(values is not None, spread, spread_sd, gain, score)

    def state(self) -> dict[str, np.ndarray]:
        """Mixture moments of [beta..., alpha] in the units of the data, filtered.

        `mean (n,)`, `cov (n, n)` with the uncertainty about the noise, `cov_given_noise (n, n)`
        without.
        """
        mean, cov, given = self._moments()
        return {"mean": mean, "cov": cov, "cov_given_noise": given}

    def save(self, path: str | Path) -> None:
        """Write everything needed to go on, as one JSON file, atomically.

        Floats are written so that they read back to the last bit; nothing is pickled.
        """
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(to_json(self._arguments()), allow_nan=False))

    @classmethod
    def load(cls, path: str | Path) -> "OnlineFilter":
        """Read a filter written by `save`; goes on exactly where that one stood.

        Raises:
            ValueError: the file is not one, or comes from a newer version of kfmodels.
        """
        return cls(**from_json(path))

    def _arguments(self) -> dict[str, Any]:
        """What `__init__` takes to make this filter again."""
        return {
            "target": self.target,
            "hedges": self.hedges,
            "transform": self.transform,
            "coordinates": self.coordinates,
            "drift": self.drift,
            "noise": self.noise,
            "state": self._state,
            "scale": self._scale,
            "log_weights": self.log_weights,
            "last_prices": self.last_prices,
            "at": self.at,
            "until": self.until,
        }

    def _check_later(self, at: Any) -> None:
        now, last = _instant(at), _instant(self.at)
        if type(now) is not type(last):
            raise ValueError(f"the tick is dated {at!r}, the one before {self.at!r}: use one kind")
        if not now > last:
            raise ValueError(
                f"the tick at {at} is not later than the last one, at {self.at}: ticks come in order, "
                "each once; the filter is unchanged"
            )

    def _prices(self, y: float, x: Any) -> np.ndarray:
        if isinstance(x, Mapping):
            missing = [name for name in self.hedges if name not in x]
            if missing:
                raise ValueError(f"no price of {', '.join(missing)} in x (NaN means not observed)")
            x = [x[name] for name in self.hedges]
        prices = np.append(float(y), np.asarray(x, float))
        if len(prices) != 1 + len(self.hedges):
            raise ValueError(
                f"x has {len(prices) - 1} prices, but there are {len(self.hedges)} hedges: "
                f"{', '.join(self.hedges)}"
            )
        return prices

    def _transformed(self, prices: np.ndarray) -> np.ndarray | None:
        """Transformed row, or None where a price is missing."""
        if np.isnan(prices).any():
            return None
        bad = np.isinf(prices) if self.transform == "level" else ~((prices > 0) & (prices < np.inf))
        if bad.any():
            name = (self.target, *self.hedges)[int(np.argmax(bad))]
            raise ValueError(
                f"{name} has the price {prices[np.argmax(bad)]:g}, which a {self.transform} transform "
                "cannot take; pass NaN if there is none. The filter is unchanged"
            )
        if self.transform == "log":
            return np.log(prices)
        if self.transform == "level":
            return prices
        return None if self.last_prices is None else prices / self.last_prices - 1

    def _price(self, value: float) -> float:
        if self.transform == "log":
            return math.exp(value)
        if self.transform == "level":
            return value
        return float(self.last_prices[0] * (1 + value))

    def _mix_forecast(self, seen: Forecast, faded: Scale | None) -> tuple[float, float]:
        """Mean and variance of the innovation over the draws."""
        if faded is None:
            var = self.noise.var * seen.var
        else:
            tail = np.where(faded.dof > 2, faded.dof / np.maximum(faded.dof - 2, 1e-300), np.inf)
            var = faded.var * seen.var * tail
        weights, error = self.weights, seen.error
        mean = float(error @ weights)
        return mean, float((var + (error - mean) ** 2) @ weights)

    def _reweight(self, seen: Forecast, faded: Scale | None) -> float:
        """Log score of the tick; moves the weights towards the draws that foresaw it."""
        if faded is None:
            density = log_normal(seen.error, self.noise.var * seen.var, np.log)
        else:
            density = log_student(seen.error, faded.var * seen.var, faded.dof, np.log, _lgamma)
        if len(density) == 1:
            return float(density[0])
        joint = self.log_weights + density
        top = float(joint.max())
        score = top + math.log(np.exp(joint - top).sum())
        self.log_weights = joint - score
        self.weights = np.exp(self.log_weights)
        return score

    def _moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n, a = len(self._names), self._matrix
        mean, cov, weights = self._state.mean, self._state.cov, self.weights
        centre = mean @ weights
        var = self.noise.var if self._scale is None else self._scale.var
        given = (cov.reshape(n * n, -1) @ (weights * var)).reshape(n, n)
        away = mean - centre[:, None]
        total = given + (away * weights) @ away.T
        return a @ centre + self._shift, a @ total @ a.T, a @ given @ a.T

    def _tick(self, observed: bool, spread: float, sd: float, gain: float, score: float) -> Tick:
        mean, total, given = self._moments()
        means = mean.tolist()
        names, hedges = self._names, self.hedges
        return Tick(
            at=self.at,
            observed=observed,
            beta=dict(zip(hedges, means, strict=False)),
            alpha=means[-1] if self.coordinates.intercept else 0.0,
            sd_given_noise=dict(zip(names, np.sqrt(given.diagonal()).tolist(), strict=True)),
            sd_total=dict(zip(names, np.sqrt(total.diagonal()).tolist(), strict=True)),
            spread=spread,
            spread_sd=sd,
            z=spread / sd,
            gain=gain,
            log_score=score,
            effective_draws=1 / float(self.weights @ self.weights),
        )


def _owned(part: Any) -> Any:
    """The same arrays in C order: with another layout a sum may round otherwise after a reload."""
    return type(part)(*(np.ascontiguousarray(leaf, float) for leaf in part))


def _lgamma(a: np.ndarray) -> np.ndarray:
    return np.array([math.lgamma(v) for v in a.tolist()])


def _instant(at: Any) -> Any:
    """A time as something comparable: integers stay, everything else becomes a moment in UTC."""
    if isinstance(at, (int, np.integer)):
        return int(at)
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    if getattr(at, "tzinfo", None) is not None:
        at = at.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(at, "ns")
