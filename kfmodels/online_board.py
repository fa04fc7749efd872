"""The fitted filters of a universe of pairs, advancing together. NumPy only.

One tick runs the one `step` of `kalman.step` for all pairs and all their noise draws at once: batch
axes `(pair, draw)`, last. What a pair answers is what its own `OnlineFilter` would.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kfmodels.coordinates import Coordinates
from kfmodels.kalman.density import log_normal, log_student_series
from kfmodels.kalman.step import Drift, Forecast, Noise, Scale, State, forecast, predict, update
from kfmodels.online import OnlineFilter, check_dt, instant, owned, tail

Array = Any

_WIDEST = 1e10
"""Relative variance that stands for infinity, as that of a flat start: more ruins the arithmetic."""


@dataclass(frozen=True, slots=True, eq=False)
class BoardTick:
    """What is known of every pair after one tick; arrays `(pair,)` in the order of `names`.

    As in `Tick`: `beta`, `alpha` and the sds of `beta` are filtered, `spread` is the innovation and
    `z` is spread / spread_sd. Where a pair was not observed, `spread`, `spread_sd`, `z` and
    `log_score` are NaN and `gain` is 0. Without an intercept `alpha` is 0.
    """

    names: tuple[str, ...]
    at: Any
    observed: np.ndarray
    beta: np.ndarray
    alpha: np.ndarray
    sd_given_noise: np.ndarray
    sd_total: np.ndarray
    spread: np.ndarray
    spread_sd: np.ndarray
    z: np.ndarray
    gain: np.ndarray
    log_score: np.ndarray
    effective_draws: np.ndarray


class OnlineBoard:
    r"""The filters of P pairs of one hedge each, K noise draws a pair, one tick at a time.

    Each pair is a mixture of its own draws, `w_k <- w_k p(y_t | y_<t, draw k)`, normalised, and none
    sees another.

    Args:
        names: of the pairs, each once.
        targets, hedges: the two tickers of every pair.
        transform: "log", "level" or "return", applied to the prices given.
        pivot, scale, offset: the inner coordinates `(pair,)`, see `Coordinates`.
        drift, noise: of the recursion, batch axes (pair, draw) last.
        state, variance: where each draw stands, `mean (n, pair, draw)`, `cov (n, n, pair, draw)`,
            n = 2 with an intercept and 1 without; `variance` is None when that is constant.
        log_weights: of the draws, `(pair, draw)`; those of a pair sum to one.
        last_prices: `(pair, 2)`, [target, hedge] of the last complete row of each pair, for returns;
            NaN where there is none.
        at: time of the last tick seen, or None.
        until: last date whose prices the noise was inferred from, or None.

    Raises:
        ValueError: a name twice, an array of another shape, a number that is not finite (leave out
            the pairs whose fit failed), or weights that do not sum to one.

    Source: West and Harrison (1997), section 12.2 (multi-process models, class I).
    """

    def __init__(
        self,
        *,
        names: Sequence[str],
        targets: Sequence[str],
        hedges: Sequence[str],
        transform: str,
        pivot: Array,
        scale: Array,
        offset: Array,
        drift: Drift,
        noise: Noise,
        state: State,
        variance: Scale | None,
        log_weights: Array,
        last_prices: Array | None = None,
        at: Any = None,
        until: Any = None,
    ) -> None:
        self.names, self.targets, self.hedges = tuple(names), tuple(targets), tuple(hedges)
        self.transform, self.at, self.until = transform, at, until
        self.log_weights = np.array(log_weights, float)
        self.weights = np.exp(self.log_weights)
        self.pivot, self.scale, self.offset = (np.array(p, float) for p in (pivot, scale, offset))
        self.drift, self.noise = owned(drift), owned(noise)
        self._state, self._variance = owned(state), variance and owned(variance)
        self._intercept = len(self._state.mean) == 2
        none = np.full((len(self.names), 2), np.nan)
        self.last_prices = none if last_prices is None else np.array(last_prices, float)
        self._check()
        self.tickers = tuple(dict.fromkeys([*self.targets, *self.hedges]))
        spot = {ticker: number for number, ticker in enumerate(self.tickers)}
        legs = zip(self.targets, self.hedges, strict=True)
        self._legs = np.array([[spot[y], spot[x]] for y, x in legs])

    @property
    def draws(self) -> int:
        """Number of noise draws of a pair."""
        return self.log_weights.shape[1]

    def __len__(self) -> int:
        return len(self.names)

    def update(self, prices: Any, *, at: Any = None, dt: float = 1.0) -> BoardTick:
        """Take one row of prices: predict, score, reweight and update every pair.

        Args:
            prices: by ticker, a dict or a pandas Series. A ticker that is NaN or not there has no
                price: its own pairs only diffuse, the others do not notice.
            at: time of the row; must be later than the one before.
            dt: bars since the row before.

        Returns:
            A `BoardTick`, its arrays in the order of `names`.

        Raises:
            ValueError: a price that is infinite, (log, return) not positive or no number, prices of
                none of the tickers, negative dt, a time not later than the last, a price that no
                arithmetic can follow. All filters are then as they were before.
        """
        check_dt(dt)
        if at is not None:
            self._check_later(at)
        given = self._given(prices)[self._legs]
        complete = ~np.isnan(given).any(1)
        y, design, seen = self._rows(given, complete)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            predicted = self._held(predict(self._state, self.drift, dt), seen)
            faded = self.noise.fade(self._variance, dt)
            ahead = forecast(predicted, design, y)
            spread, spread_sd = self._mix_forecast(ahead, faded)
            gain = ((1 - 1 / ahead.var) * self.weights).sum(-1)
            score, log_weights = self._reweighted(ahead, faded)
            after = update(predicted, ahead), self.noise.learn(faded, ahead, 1.0)
            state, variance = _chosen(seen, after, (predicted, faded))
            log_weights = np.where(seen[:, None], log_weights, self.log_weights)
            weights = np.exp(log_weights)
            finite, moments = self._moments(state, variance, weights)
        wrong = ~finite | (seen & ~np.isfinite(score))
        if wrong.any():
            raise ValueError(
                f"{_listed(self.names, wrong)}: the row is so far from all that these did before that "
                "the arithmetic cannot follow; pass NaN for bad prints. The filters are unchanged"
            )
        self._state, self._variance = state, variance
        self.log_weights, self.weights = log_weights, weights
        self.last_prices = np.where(complete[:, None], given, self.last_prices)
        self.at = self.at if at is None else at
        spread, spread_sd, score = (np.where(seen, v, np.nan) for v in (spread, spread_sd, score))
        return BoardTick(
            names=self.names,
            at=self.at,
            observed=seen,
            **moments,
            spread=spread,
            spread_sd=spread_sd,
            z=spread / spread_sd,
            gain=np.where(seen, gain, 0.0),
            log_score=score,
            effective_draws=1 / (weights**2).sum(-1),
        )

    def filter(self, name: str) -> OnlineFilter:
        """The filter of one pair as it stands now; what it does next does not move the board.

        Raises:
            ValueError: there is no pair of that name.
        """
        if name not in self.names:
            raise ValueError(
                f"{name} is not among the {len(self)} pairs of this board: there is {self.names[0]}"
            )
        number = self.names.index(name)
        where = (self.pivot[[number]], self.scale[[number]])
        last = self.last_prices[number]
        return OnlineFilter(
            target=self.targets[number],
            hedges=(self.hedges[number],),
            transform=self.transform,
            coordinates=Coordinates(*where, float(self.offset[number]), self._intercept),
            drift=self._one(self.drift, number),
            noise=self._one(self.noise, number),
            state=self._one(self._state, number),
            scale=self._variance and self._one(self._variance, number),
            log_weights=self.log_weights[number].copy(),
            last_prices=None if np.isnan(last).any() else last.copy(),
            at=self.at,
            until=self.until,
        )

    def _held(self, predicted: State, seen: np.ndarray) -> State:
        """The predicted state; draws of unseen pairs that know nothing any more grow no wider.

        A discounted covariance grows by a factor a bar, and one dead ticker would in the end stop all.
        """
        if seen.all():
            return predicted
        wide = (np.diagonal(predicted.cov).max(-1) > _WIDEST) & ~seen[:, None]
        return State(predicted.mean, np.where(wide, self._state.cov, predicted.cov))

    def _one(self, part: Any, number: int) -> Any:
        """The arrays of one pair, those that all pairs share written out."""
        batch = self.log_weights.shape
        leaves = (np.broadcast_to(leaf, (*leaf.shape[:-2], *batch)) for leaf in part)
        return type(part)(*(leaf[..., number, :].copy() for leaf in leaves))

    def _check(self) -> None:
        """Raise unless all arrays speak of the same pairs and draws, in finite numbers."""
        count, n = len(self.names), len(self._state.mean)
        if len(set(self.names)) < max(count, 1):
            raise ValueError("a board needs at least one pair, and each named once")
        if self.transform not in ("log", "level", "return"):
            raise ValueError(
                f'transform must be "log", "level" or "return", not {self.transform!r}'
            )
        if n not in (1, 2):
            raise ValueError(f"a pair has a ratio and perhaps an intercept, not {n} coefficients")
        batch = (count, self.log_weights.shape[-1])
        good = np.ones(count, bool)
        for name in ("targets", "hedges", "pivot", "scale", "offset", "last_prices"):
            found, wanted = np.shape(getattr(self, name)), (count, 2)[: 1 + (name == "last_prices")]
            if found != wanted:
                raise ValueError(f"{name} has shape {found}, but it must be {wanted}")
        for part in (self._state, self._variance or (), self.noise, (self.log_weights,)):
            for leaf in part:
                if leaf.shape[-2:] != batch:
                    raise ValueError(
                        f"an array has the shape {leaf.shape}, but log_weights say that its last axes "
                        f"are {batch}, pair and draw"
                    )
                good &= np.isfinite(leaf).reshape(-1, *batch).all((0, 2))
        good &= np.isfinite(self.pivot + self.offset) & (self.scale > 0) & (self.scale < np.inf)
        good &= abs(self.weights.sum(1) - 1) < 1e-6
        if not good.all():
            raise ValueError(
                f"{_listed(self.names, ~good)}: the state holds numbers that are not finite, or "
                "weights that do not sum to one; leave out the pairs whose fit failed"
            )

    def _check_later(self, at: Any) -> None:
        kind, now = instant(at)
        kept, last = (kind, None) if self.at is None else instant(self.at)
        if kind != kept:
            raise ValueError(
                f"the tick at {at} is {kind}, the one before, at {self.at}, was {kept}: use one "
                "kind; the filters are unchanged"
            )
        if last is not None and not now > last:
            raise ValueError(
                f"the tick at {at} is not later than the last one, at {self.at}: ticks come in order, "
                "each once; the filters are unchanged"
            )

    def _given(self, prices: Any) -> np.ndarray:
        """Price of every ticker, NaN where there is none."""
        if not hasattr(prices, "keys"):
            raise ValueError(
                f"prices go by ticker, in a dict or a pandas Series, not in a {type(prices).__name__}"
            )
        held = prices.to_dict() if hasattr(prices, "to_dict") else prices  # a Series is slow to ask
        if len(held) != len(prices):
            raise ValueError("the prices name a ticker twice: give each once")
        found = np.full(len(self.tickers), np.nan)
        known = 0
        for number, ticker in enumerate(self.tickers):
            if ticker in held:
                known += 1
                try:
                    found[number] = held[ticker]
                except (TypeError, ValueError):
                    raise ValueError(
                        f"{ticker} has the price {held[ticker]!r}, which is no number; pass NaN if "
                        "there is none. The filters are unchanged"
                    ) from None
        if len(held) and not known:
            raise ValueError(
                f"there is no price of any of the {len(self.tickers)} tickers of this board (one is "
                f"{self.tickers[0]}); the filters are unchanged"
            )
        least = -np.inf if self.transform == "level" else 0.0
        bad = ~np.isnan(found) & ~((least < found) & (found < np.inf))
        if bad.any():
            first = int(np.argmax(bad))
            raise ValueError(
                f"{self.tickers[first]} has the price {found[first]:g}, which a {self.transform} "
                "transform cannot take; pass NaN if there is none. The filters are unchanged"
            )
        return found

    def _rows(self, given: np.ndarray, complete: np.ndarray) -> tuple[np.ndarray, ...]:
        """Inner target `(pair, 1)`, design `(n, pair, 1)`, and which pairs are observed."""
        values = given
        if self.transform == "log":
            values = np.log(given)
        elif self.transform == "return":
            values = given / self.last_prices - 1
        seen = complete & ~np.isnan(values).any(1)
        x = np.where(seen, (values[:, 1] - self.pivot) / self.scale, 0.0)
        design = np.ones((len(self._state.mean), len(self), 1))
        design[0, :, 0] = x
        return np.where(seen, values[:, 0] - self.offset, 0.0)[:, None], design, seen

    def _mix_forecast(self, seen: Forecast, faded: Scale | None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd of the innovation over the draws."""
        var = (self.noise.var if faded is None else faded.var * tail(faded)) * seen.var
        mean = (seen.error * self.weights).sum(-1)
        return mean, np.sqrt(((var + (seen.error - mean[:, None]) ** 2) * self.weights).sum(-1))

    def _reweighted(self, seen: Forecast, faded: Scale | None) -> tuple[np.ndarray, np.ndarray]:
        """Log score of the tick, and the log weights after it."""
        if faded is None:
            density = log_normal(seen.error, self.noise.var * seen.var, np.log)
        else:
            density = log_student_series(seen.error, faded.var * seen.var, faded.dof, np.log)
        joint = self.log_weights + density
        top = joint.max(-1, keepdims=True)
        score = top + np.log(np.exp(joint - top).sum(-1, keepdims=True))
        whole = np.isfinite(joint).all(-1)
        return np.where(whole, score[:, 0], np.nan), joint - score

    def _moments(
        self, state: State, variance: Scale | None, weights: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """What a tick tells of ratio and intercept, and for which pairs it is finite."""
        var = self.noise.var if variance is None else variance.var * tail(variance)
        centre = (state.mean * weights).sum(-1)
        away = state.mean - centre[..., None]
        own = np.diagonal(state.cov).transpose(2, 0, 1)
        given = (own * (weights * var)).sum(-1)
        total = given + (away * away * weights).sum(-1)
        beta = centre[0] / self.scale
        alpha = np.zeros(len(self))
        if self._intercept:
            alpha = centre[1] + self.offset - self.pivot * beta
        return np.isfinite(beta + alpha + total.sum(0)), {
            "beta": beta,
            "alpha": alpha,
            "sd_given_noise": np.sqrt(given[0]) / self.scale,
            "sd_total": np.sqrt(total[0]) / self.scale,
        }


def _chosen(which: np.ndarray, these: Any, those: Any) -> tuple[State, Scale | None]:
    """State and variance of each pair from `these` where it is chosen, from `those` where not."""

    def pick(a: Any, b: Any) -> Any:
        if a is None or which.all():
            return a
        return type(a)(*(np.where(which[:, None], x, y) for x, y in zip(a, b, strict=True)))

    return pick(these[0], those[0]), pick(these[1], those[1])


def _listed(names: tuple[str, ...], which: np.ndarray) -> str:
    """The first few of the names that are meant."""
    found = [names[number] for number in np.flatnonzero(which)]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more
