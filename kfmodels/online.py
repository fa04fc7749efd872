"""The fitted filter, tick by tick. NumPy only: the trading process needs no JAX.

Each tick runs the one `step` of `kalman.step` for all noise draws at once and reweights them by how
well they forecast it.
"""

import json
import math
from collections.abc import Sequence
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
from kfmodels.records import Z90, FairValue, Predictive, Tick


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
        fit_id: of the fit it comes from, or None.

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
        fit_id: str | None = None,
    ) -> None:
        self.target, self.hedges, self.transform = target, tuple(hedges), transform
        self.coordinates, self.until, self.fit_id = coordinates, until, fit_id
        self.at = at
        self.last_prices = last_prices
        self.log_weights, self.weights = log_weights, np.exp(log_weights)
        self.drift, self.noise = owned(drift), owned(noise)
        self._state, self._scale = owned(state), scale and owned(scale)
        self._matrix, self._shift = coordinates.matrix(), coordinates.shift()
        self._names = (*self.hedges, "alpha") if coordinates.intercept else self.hedges
        self._lgamma = _LogGamma()

    @property
    def draws(self) -> int:
        """Number of noise draws."""
        return len(self.weights)

    def forecast(self, *, x: Any, dt: float = 1.0) -> FairValue:
        """Fair value of the target at the hedge prices `x`, before its own price is known.

        Args:
            x: hedge prices, as for `update`.
            dt: bars since the last tick.

        Raises:
            ValueError: a price that cannot be transformed.
        """
        seen, faded = self._ahead(x, dt)
        mean, var = self._mix_forecast(seen, faded)
        mean, sd = self.coordinates.offset - mean, math.sqrt(var)
        band = (mean - Z90 * sd, mean + Z90 * sd)
        lower, price, upper = (self._price(v) for v in (band[0], mean, band[1]))
        return FairValue(price=price, lower=lower, upper=upper, mean=mean, sd=sd)

    def predictive(self, *, x: Any, dt: float = 1.0) -> Predictive:
        """Distribution of the transformed target at the hedge prices `x`, before its price is known.

        Takes and raises what `forecast` does; answers with the whole mixture over noise draws.
        """
        seen, faded = self._ahead(x, dt)
        var = self.noise.var if faded is None else faded.var
        return Predictive(
            weights=self.weights,
            mean=self.coordinates.offset - seen.error,
            scale=np.sqrt(var * seen.var),
            dof=None if faded is None else faded.dof,
        )

    def update(self, *, y: float, x: Any, at: Any = None, dt: float = 1.0) -> Tick:
        """Take one row of prices: predict, score, reweight, update.

        Args:
            y: price of the target; NaN if there is none.
            x: hedge prices: a number for one hedge, a list in their order, or a dict or Series by
                ticker; NaN if there is none.
            at: time of the row; must be later than the one before.
            dt: bars since the row before.

        Returns:
            A `Tick`. Where a price is missing the state only diffuses.

        Raises:
            ValueError: infinite or non-positive price, wrong number of hedges, negative dt, time not
                later than the last. The filter is then as it was before.
        """
        check_dt(dt)
        if at is not None:
            self._check_later(at)
        prices = [float(y), *self._prices(x)]
        missing = any(price != price for price in prices)
        values = None if missing else self._transformed(prices)
        before = self._state, self._scale, self.log_weights, self.weights
        predicted = predict(self._state, self.drift, dt)
        faded = self.noise.fade(self._scale, dt)
        if values is None:
            self._state, self._scale = predicted, faded
            spread, spread_sd, gain, score = math.nan, math.nan, 0.0, math.nan
        else:
            seen = forecast(predicted, self._design(values), values[0] - self.coordinates.offset)
            spread, var = self._mix_forecast(seen, faded)
            gain = float((1 - 1 / seen.var) @ self.weights)
            score = self._reweight(seen, faded)
            spread_sd = math.sqrt(var)
            self._state = update(predicted, seen)
            self._scale = self.noise.learn(faded, seen, 1.0)
        at = self.at if at is None else at
        tick = self._tick(at, values is not None, spread, spread_sd, gain, score)
        if not math.isfinite(sum(tick.beta.values(), tick.alpha) + sum(tick.sd_total.values())):
            self._state, self._scale, self.log_weights, self.weights = before
            raise ValueError(self._too_far())
        self.at = at
        if not missing:
            self.last_prices = np.array(prices)
        return tick

    def state(self) -> dict[str, np.ndarray]:
        """Mixture moments of [beta..., alpha] in the units of the data, filtered.

        `mean (n,)`, `cov (n, n)` with the uncertainty about the noise, `cov_given_noise (n, n)`
        without.
        """
        mean, (cov, given) = self._moments()
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
            "fit_id": self.fit_id,
        }

    def _ahead(self, x: Any, dt: float) -> tuple[Forecast, Scale | None]:
        """Forecast of zero by every draw, and where its noise will stand."""
        check_dt(dt)
        hedges = self._prices(x)
        if any(price != price for price in hedges):
            raise ValueError(f"forecast needs a price of every hedge: {', '.join(self.hedges)}")
        values = self._transformed([1.0, *hedges])
        if values is None:
            raise ValueError("forecast of a return needs an earlier complete row of prices")
        predicted = predict(self._state, self.drift, dt)
        return forecast(predicted, self._design(values), 0.0), self.noise.fade(self._scale, dt)

    def _check_later(self, at: Any) -> None:
        kind, now = instant(at)
        if self.at is None:
            return
        kept, last = instant(self.at)
        if kind != kept:
            raise ValueError(
                f"the tick at {at} is {kind}, the one before, at {self.at}, was {kept}: use one "
                "kind; the filter is unchanged"
            )
        if not now > last:
            raise ValueError(
                f"the tick at {at} is not later than the last one, at {self.at}: ticks come in order, "
                "each once; the filter is unchanged"
            )

    def _prices(self, x: Any) -> list[float]:
        """Hedge prices in their order."""
        if isinstance(x, (int, float)):
            x = [x]
        if hasattr(x, "keys"):  # a dict or a row of a DataFrame goes by ticker, not by position
            missing = [name for name in self.hedges if name not in x]
            if missing:
                raise ValueError(f"no price of {', '.join(missing)} in x (NaN means not observed)")
            x = [x[name] for name in self.hedges]
        prices = [float(price) for price in x]
        if len(prices) != len(self.hedges):
            raise ValueError(
                f"x has {len(prices)} prices, but there are {len(self.hedges)} hedges: "
                f"{', '.join(self.hedges)}"
            )
        return prices

    def _transformed(self, prices: list[float]) -> list[float] | None:
        """Transformed row; None for a return without an earlier row."""
        least = -math.inf if self.transform == "level" else 0.0
        for name, price in zip((self.target, *self.hedges), prices, strict=True):
            if not least < price < math.inf:
                raise ValueError(
                    f"{name} has the price {price:g}, which a {self.transform} transform cannot "
                    "take; pass NaN if there is none. The filter is unchanged"
                )
        if self.transform == "log":
            return [math.log(price) for price in prices]
        if self.transform == "level":
            return prices
        if self.last_prices is None:
            return None
        return [now / last - 1 for now, last in zip(prices, self.last_prices, strict=True)]

    def _design(self, values: list[float]) -> np.ndarray:
        where = self.coordinates
        design = np.ones((where.coefficients, 1))
        hedges = len(self.hedges)
        design[:hedges, 0] = (np.array(values[1:]) - where.pivot) / where.scale
        return design

    def _price(self, value: float) -> float:
        if self.transform == "log":
            return math.exp(value)
        if self.transform == "level":
            return value
        assert self.last_prices is not None  # or there would be no return to forecast
        return float(self.last_prices[0] * (1 + value))

    def _mix_forecast(self, seen: Forecast, faded: Scale | None) -> tuple[float, float]:
        """Mean and variance of the innovation over the draws."""
        obs_var = self.noise.var if faded is None else faded.var * tail(faded)
        var = obs_var * seen.var
        weights, error = self.weights, seen.error
        mean = float(error @ weights)
        return mean, float((var + (error - mean) ** 2) @ weights)

    def _reweight(self, seen: Forecast, faded: Scale | None) -> float:
        """Log score of the tick; moves the weights towards the draws that foresaw it."""
        if faded is None:
            density = log_normal(seen.error, self.noise.var * seen.var, np.log)
        else:
            density = log_student(seen.error, faded.var * seen.var, faded.dof, np.log, self._lgamma)
        joint = self.log_weights + density
        if not math.isfinite(joint.sum()):
            raise ValueError(self._too_far())
        if len(density) == 1:
            return float(density[0])
        top = float(joint.max())
        score = top + math.log(np.exp(joint - top).sum())
        self.log_weights = joint - score
        self.weights = np.exp(self.log_weights)
        return score

    def _too_far(self) -> str:
        return (
            f"the row is so far from all that {self.target} and {', '.join(self.hedges)} did before "
            "that the arithmetic cannot follow; pass NaN for bad prints. The filter is unchanged"
        )

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean, and the covariances with and without what is not known of the noise, stacked."""
        n, a, weights = len(self._names), self._matrix, self.weights
        mean, cov = self._state
        var = self.noise.var if self._scale is None else self._scale.var * tail(self._scale)
        centre = mean @ weights
        away = mean - centre[:, None]
        both = np.empty((2, n, n))
        both[1] = (cov.reshape(n * n, -1) @ (weights * var)).reshape(n, n)
        both[0] = both[1] + (away * weights) @ away.T
        return a @ centre + self._shift, a @ both @ a.T

    def _tick(
        self, at: Any, observed: bool, spread: float, sd: float, gain: float, score: float
    ) -> Tick:
        mean, both = self._moments()
        total, given = np.sqrt(both.diagonal(axis1=1, axis2=2)).tolist()
        means = mean.tolist()
        names, weights = self._names, self.weights
        return Tick(
            at=at,
            observed=observed,
            beta=dict(zip(self.hedges, means, strict=False)),
            alpha=means[-1] if self.coordinates.intercept else 0.0,
            sd_given_noise=dict(zip(names, given, strict=True)),
            sd_total=dict(zip(names, total, strict=True)),
            spread=spread,
            spread_sd=sd,
            z=spread / sd,
            gain=gain,
            log_score=score,
            effective_draws=1 / float(weights @ weights),
        )


def owned(part: Any) -> Any:
    """The same arrays in C order: with another layout a sum may round otherwise after a reload."""
    return type(part)(*(np.ascontiguousarray(leaf, float) for leaf in part))


def tail(scale: Scale) -> np.ndarray:
    """Variance of a Student-t over its squared scale: what is not known of the variance itself."""
    return np.where(scale.dof > 2, scale.dof / np.maximum(scale.dof - 2, 1e-300), np.inf)


class _LogGamma:
    """log gamma of an array; NumPy has none, and its last two answers are remembered.

    Degrees of freedom settle after a few memories, so that most ticks ask the same two questions.
    """

    def __init__(self) -> None:
        self._known: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, a: np.ndarray) -> np.ndarray:
        for asked, answer in self._known:
            if (asked == a).all():
                return answer
        answer = np.array([math.lgamma(v) for v in a.tolist()])
        self._known = [*self._known[-1:], (a, answer)]
        return answer


def check_dt(dt: float) -> None:
    """Raise unless it is a number of bars."""
    if not 0 <= dt < math.inf:
        raise ValueError(f"dt is the number of bars since the last row, 0 or more, not {dt}")


def instant(at: Any) -> tuple[str, Any]:
    """The kind of a time, and the time as something that compares with others of its kind."""
    if isinstance(at, (int, np.integer)):
        return "a number", int(at)
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    kind = "a time without a time zone"
    if getattr(at, "tzinfo", None) is not None:
        kind = "a time with a time zone"
        at = at.astimezone(UTC).replace(tzinfo=None)
    # asm8: NumPy would drop the nanoseconds of a pandas Timestamp
    return kind, np.datetime64(getattr(at, "asm8", at), "ns")
