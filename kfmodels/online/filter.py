"""The fitted filter, tick by tick. NumPy only: the trading process needs no JAX.

The arithmetic of the noise draws stands in `mixture`; here prices come in and a `Tick` goes out.

One file: one class, whose state every method reads.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kfmodels.clock.instants import check_dt, check_later
from kfmodels.files.atomic import replacing
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.density import Z90
from kfmodels.kalman.motion import Motion
from kfmodels.kalman.noise import Noise, Scale
from kfmodels.kalman.step import State
from kfmodels.online.document import built, read, to_json
from kfmodels.online.legs import Legs
from kfmodels.online.mixture import Look, Mixture, Stand
from kfmodels.online.shocks import (
    Quarantine,
    Robust,
    Shocks,
    begun,
    broken,
    released,
    split_sentence,
)
from kfmodels.online.ticks import ACCEPTED, Belief, FairValue, Frame, Predictive, Tick


class OnlineFilter:
    r"""A fitted filter that takes prices and answers with a hedge ratio and its uncertainty.

    Comes from `HedgeFit.online()` or `OnlineFilter.load(path)`. K noise draws, each with its own
    state, form a mixture that goes on learning which of them to believe:

    $$w_k \leftarrow w_k^{f^{dt}} \, p(y_t \mid y_{<t}, \text{draw } k), \text{ normalised,}$$

    with the forgetting factor f. It takes what it is given or raises; `LiveFilter` is the one that may
    be left alone with a feed.

    Args:
        target, hedges: tickers.
        transform: "log", "level" or "return", applied to the prices given.
        coordinates: the inner coordinates of the recursion.
        drift, noise: of the recursion, batch axis (draws) last.
        state, scale: where each draw stands; `scale` is None when the variance is constant.
        log_weights: of the draws; the weights sum to one.
        forgetting: f, a bar, in (0, 1]: 1 forgets nothing and ends with one draw, 0.99 remembers about
            a hundred bars.
        shocks: `Quarantine`, `Robust`, or None to learn from every row alike.
        gap_names: of the closed periods that the model knows, with `gap_bars` and `gap_noise`
            `(gap, draw)`: how many bars of state noise each is worth, and the factor on the
            observation variance of the row after it.
        last_prices: [target, hedges...] of the last row learnt from, or None.
        at: time of the last tick seen, or None.
        until: last date whose prices the noise was inferred from, or None.
        fit_id: of the fit it comes from, or None.
        streak: rows in quarantine in succession, negative where they were below their forecast.

    Raises:
        ValueError: a forgetting factor outside (0, 1], or gaps of another shape.

    Source: West and Harrison (1997), section 12.2 (multi-process models); forgetting: Raftery, Karny
    and Ettler (2010), Online prediction under model uncertainty via dynamic model averaging,
    Technometrics 52.
    """

    def __init__(
        self,
        *,
        target: str,
        hedges: Sequence[str],
        transform: str,
        coordinates: Coordinates,
        drift: Motion,
        noise: Noise,
        state: State,
        scale: Scale | None,
        log_weights: np.ndarray,
        forgetting: float = 1.0,
        shocks: Shocks | None = None,
        gap_names: Sequence[str] = (),
        gap_bars: np.ndarray | None = None,
        gap_noise: np.ndarray | None = None,
        last_prices: np.ndarray | None = None,
        at: Any = None,
        until: Any = None,
        fit_id: str | None = None,
        streak: int = 0,
    ) -> None:
        self._legs = Legs(target, hedges, transform)
        self._mixture = Mixture(
            drift,
            noise,
            len(log_weights),
            forgetting=forgetting,
            gap_names=gap_names,
            gap_bars=gap_bars,
            gap_noise=gap_noise,
        )
        self._stand = self._mixture.begin(state, scale, log_weights)
        self._place(coordinates)
        self.shocks, self.streak = shocks, int(streak)
        self.last_prices, self.at = last_prices, at
        self.until, self.fit_id = until, fit_id

    def _place(self, coordinates: Coordinates) -> None:
        self.coordinates = coordinates
        self._centre = coordinates.pivot.tolist(), coordinates.scale.tolist()
        self._frame = Frame.of(self._legs.hedges, coordinates)

    @property
    def target(self) -> str:
        return self._legs.target

    @property
    def hedges(self) -> tuple[str, ...]:
        return self._legs.hedges

    @property
    def transform(self) -> str:
        return self._legs.transform

    @property
    def tickers(self) -> tuple[str, ...]:
        """Target, then hedges."""
        return self._legs.names

    @property
    def draws(self) -> int:
        """Number of noise draws."""
        return len(self._stand.weights)

    @property
    def weights(self) -> np.ndarray:
        """Of the draws; they sum to one."""
        return self._stand.weights

    def forecast(
        self, *, x: Any, dt: float = 1.0, gaps: Mapping[str, float] | None = None
    ) -> FairValue:
        """Fair value of the target at the hedge prices `x`, before its own price is known.

        Args:
            x: hedge prices, as for `update`.
            dt, gaps: time since the last tick, as for `update`.

        Raises:
            ValueError: a price that cannot be transformed.
        """
        mean, var = self._mixture.spread(*self._blank(x, dt, gaps))
        mean, sd = self.coordinates.offset - mean, math.sqrt(var)
        band = (mean - Z90 * sd, mean, mean + Z90 * sd)
        lower, price, upper = (self._legs.price(value, self.last_prices) for value in band)
        return FairValue(price=price, lower=lower, upper=upper, mean=mean, sd=sd)

    def predictive(
        self, *, x: Any, dt: float = 1.0, gaps: Mapping[str, float] | None = None
    ) -> Predictive:
        """Distribution of the transformed target at the hedge prices `x`, before its price is known.

        Takes and raises what `forecast` does; answers with the whole mixture over noise draws.
        """
        ahead, seen = self._blank(x, dt, gaps)
        return Predictive(
            weights=ahead.weights,
            mean=self.coordinates.offset + seen.missed,
            scale=np.sqrt(seen.scaled),
            dof=None if ahead.scale is None else ahead.scale.dof,
        )

    def update(
        self,
        *,
        y: float,
        x: Any,
        at: Any = None,
        dt: float = 1.0,
        gaps: Mapping[str, float] | None = None,
    ) -> Tick:
        """Take one row of prices: predict, score, reweight, update.

        Args:
            y: price of the target; NaN if there is none.
            x: hedge prices: a number for one hedge, a list in their order, or a dict or Series by
                ticker; NaN if there is none.
            at: time of the row; must be later than the one before.
            dt: bars since the row before.
            gaps: closed periods since the row before, by name ("overnight": 1); one that the model
                does not know moves nothing.

        Returns:
            A `Tick`. Where a price is missing, and where a shock is in quarantine, the state only
            diffuses.

        Raises:
            ValueError: infinite or non-positive price, wrong number of hedges, negative dt, time not
                later than the last. The filter is then as it was before.
        """
        check_dt(dt)
        if at is not None:
            check_later(at, self.at, "the filter is unchanged")
        prices = self._legs.prices(y, x)
        total = sum(prices)
        missing = total != total and any(price != price for price in prices)
        values = None if missing else self._legs.values(prices, self.last_prices)
        ahead = self.ahead(dt, gaps)
        if values is not None:
            return self._judge(ahead, at, prices, values)
        ahead = self._mixture.held(ahead, self._stand)
        if not missing:
            return self._commit(ahead, at, "skipped: the first price of a return", np.array(prices))
        absent = ", ".join(n for n, p in zip(self._legs.names, prices, strict=True) if p != p)
        return self._commit(ahead, at, f"skipped: no price of {absent}", self.last_prices)

    def rescale(self, *, target: float = 1.0, hedges: Mapping[str, float] | None = None) -> None:
        """Prices are quoted otherwise from now on: a split, a multiplier, another currency.

        Exact in mean, covariance and every draw: afterwards the filter is what it would be, had all
        prices so far been quoted so.

        Args:
            target: new price over old of the target; 0.5 after a 2-for-1 split.
            hedges: the same by ticker of the hedges.

        Raises:
            ValueError: a factor that is not positive, or a ticker that is no hedge.
        """
        factors = self._legs.factors(target, hedges or {})
        self._place(self.coordinates.requoted(self.transform, factors))
        if self.transform == "level":
            self._stand = self._mixture.rescaled(self._stand, float(factors[0]))
        if self.last_prices is not None:
            self.last_prices = self.last_prices * factors
        self.streak = released(self.streak, factors.tolist())

    def standing(self) -> Tick:
        """What is believed now, as a tick that observed nothing; the filter does not move."""
        nan, said, drawn = math.nan, "skipped: no new row", self._stand.effective_draws
        belief = self._belief(self._stand)
        return Tick(self.at, said, False, nan, nan, nan, nan, 0.0, nan, drawn, belief)

    def state(self) -> dict[str, np.ndarray]:
        """Mixture moments of [beta..., alpha] in the units of the data, filtered.

        `mean (n,)`, `cov (n, n)` with the uncertainty about the noise, `cov_given_noise (n, n)`
        without.
        """
        now = self._belief(self._stand)
        given, total = now.covs
        return {"mean": now.mean, "cov": total, "cov_given_noise": given}

    def save(self, path: str | Path) -> None:
        """Write everything needed to go on, as one JSON file, atomically.

        Floats are written so that they read back to the last bit; nothing is pickled.
        """
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.to_json(), allow_nan=False))

    @classmethod
    def load(cls, path: str | Path) -> "OnlineFilter":
        """Read a filter written by `save`; goes on exactly where that one stood.

        Raises:
            ValueError: the file is not one, or comes from a newer version of kfmodels.
        """
        return cls.from_json(read(path))

    def to_json(self) -> dict[str, Any]:
        """What `save` writes, as plain numbers, strings, lists and dicts."""
        return to_json(self.arguments())

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "OnlineFilter":
        """The filter of a document made by `to_json`."""
        return cls(**built(content))

    def arguments(self) -> dict[str, Any]:
        """What `__init__` takes to make this filter again."""
        mixture, stand = self._mixture, self._stand
        mine = ("target", "hedges", "transform", "coordinates", "shocks", "last_prices", "at")
        its = ("drift", "noise", "forgetting", "gap_names", "gap_bars", "gap_noise")
        return (
            {name: getattr(self, name) for name in (*mine, "until", "fit_id", "streak")}
            | {name: getattr(mixture, name) for name in its}
            | {
                "state": mixture.state(stand),
                "scale": stand.scale,
                "log_weights": stand.log_weights,
            }
        )

    def _blank(self, x: Any, dt: float, gaps: Mapping[str, float] | None) -> tuple[Stand, Look]:
        """Forecast of zero by every draw."""
        check_dt(dt)
        hedges = self._legs.of_hedges(x)
        if any(price != price for price in hedges):
            raise ValueError(f"forecast needs a price of every hedge: {', '.join(self.hedges)}")
        values = self._legs.values([1.0, *hedges], self.last_prices)
        if values is None:
            raise ValueError("forecast of a return needs an earlier complete row of prices")
        ahead = self.ahead(dt, gaps)
        return ahead, self._mixture.look(ahead, self._design(values), 0.0)

    def _design(self, values: list[float]) -> list[float]:
        design = [(x - p) / s for x, p, s in zip(values[1:], *self._centre, strict=True)]
        return [*design, 1.0] if self.coordinates.intercept else design

    def _judge(self, ahead: Stand, at: Any, prices: list[float], values: list[float]) -> Tick:
        """A complete row: judged by its forecast, then learnt from as the policy has it."""
        mixture, shocks = self._mixture, self.shocks
        design, y = self._design(values), values[0] - self.coordinates.offset
        seen = mixture.look(ahead, design, y)
        spread, var = mixture.spread(ahead, seen)
        density = mixture.density(ahead, seen)
        if not (var > 0 and math.isfinite(var + np.add.reduce(density))):
            raise ValueError(self._too_far())
        sd = math.sqrt(var)
        z = spread / sd
        *weights, score = mixture.weighed(ahead, density)
        found = spread, sd, z, mixture.dof(ahead), score
        streak, outcome, last = 0, ACCEPTED, self._last()
        if isinstance(shocks, Quarantine):
            streak = self.streak
            if shocks.hold != 0:
                beyond = partial(self.beyond, prices, ahead, shocks.limit)
                streak = begun(streak, prices, last, beyond)
            streak, outcome = shocks.judge(z, streak)
            if not shocks.learns(streak):
                outcome += split_sentence(self._legs.names, prices, last, at=at, streak=streak)
                return self._commit(ahead, at, outcome, self.last_prices, streak, found=found)
            if streak and self.transform == "return":
                return self._commit(ahead, at, outcome, np.array(prices), streak, found=found)
            if streak and self.coordinates.intercept:
                # the level takes the move, and no draw is judged by what none could foresee
                ahead = mixture.widened(ahead, seen)
                seen = mixture.look(ahead, design, y)
                weights = [ahead.log_weights, ahead.weights]
        elif broken(prices, last):
            outcome += split_sentence(self._legs.names, prices, last, at=at, streak=0)
        if isinstance(shocks, Robust):
            outcome = shocks.judge(z) + outcome.removeprefix(ACCEPTED)
            ahead, seen = mixture.robust(ahead, seen, shocks.limit)
            *weights, _ = mixture.weighed(ahead, mixture.density(ahead, seen))
        after, gain = mixture.after(ahead, seen, (weights[0], weights[1]))
        return self._commit(after, at, outcome, np.array(prices), streak, gain, found)

    def ahead(self, dt: float, gaps: Mapping[str, float] | None) -> Stand:
        """Where the draws will stand after that time; nothing is changed."""
        return self._mixture.ahead(self._stand, dt, gaps)

    def beyond(self, prices: list[float], ahead: Stand, limit: float) -> bool:
        """Whether a complete row is farther off than `limit` sds of a forecast at the last prices."""
        spreads = []
        for row in (self._last(), prices):
            values: Any = self._legs.values(row, self.last_prices)
            design, y = self._design(values), values[0] - self.coordinates.offset
            spreads.append(self._mixture.spread(ahead, self._mixture.look(ahead, design, y)))
        (_, var), (spread, _) = spreads
        return not abs(spread) <= limit * math.sqrt(var)

    def _last(self) -> list[float]:
        """Prices of the last row learnt from, NaN without one."""
        last = self.last_prices
        return [math.nan] * len(self.tickers) if last is None else last.tolist()

    def _commit(
        self,
        now: Stand,
        at: Any,
        outcome: str,
        last: np.ndarray | None,
        streak: int | None = None,
        gain: float = 0.0,
        found: tuple[float, ...] = (),
    ) -> Tick:
        """Take over where the draws stand now, if that is a number, and tell."""
        if not now.finite():
            raise ValueError(self._too_far())
        self._stand, self.last_prices = now, last
        self.at = self.at if at is None else at
        self.streak = self.streak if streak is None else streak
        spread, sd, z, dof, score = found or _NOTHING
        belief, effective = self._belief(now), now.effective_draws
        return Tick(
            self.at, outcome, bool(found), spread, sd, z, dof, gain, score, effective, belief
        )

    def _belief(self, stand: Stand) -> Belief:
        return Belief(self._frame, stand.table, stand.weights, self._mixture.noise.var, stand.scale)

    def _too_far(self) -> str:
        return (
            f"the row is so far from all that {self.target} and {', '.join(self.hedges)} did before "
            "that the arithmetic cannot follow; pass NaN for bad prints. The filter is unchanged"
        )


_NOTHING = (math.nan,) * 5
"""Spread, its sd, z, dof and score of a row that was not observed."""
