"""The fitted filters of a universe of pairs, advancing together. NumPy only.

One tick takes all pairs and all their noise draws at once, `board_mixture` has the arithmetic. What a
pair answers is what its own `OnlineFilter` would.

One file: what goes into a board and what comes out of it, with the checks in between.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kfmodels.clock.instants import check_dt, check_later
from kfmodels.files.atomic import replacing
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.motion import Motion
from kfmodels.kalman.noise import Noise, Scale
from kfmodels.kalman.step import State
from kfmodels.online.board_block import Told
from kfmodels.online.board_mixture import BoardMixture
from kfmodels.online.document import VERSION, built, to_json
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.legs import BoardLegs
from kfmodels.online.shocks import Quarantine, Shocks
from kfmodels.online.ticks import ACCEPTED, BoardTick, number_of

Array = Any
FORMAT = "kfmodels online board"
_TOO_FAR = (
    "rejected: the row is so far from all that this pair did before that the arithmetic cannot follow; "
    "pass NaN for bad prints"
)


class OnlineBoard:
    r"""The filters of P pairs of one hedge each, K noise draws a pair, one tick at a time.

    Each pair is a mixture of its own draws, `w_k <- w_k^(f^dt) p(y_t | y_<t, draw k)`, normalised, and
    none sees another.

    Args:
        names: of the pairs, each once.
        targets, hedges: the two tickers of every pair.
        transform: "log", "level" or "return", applied to the prices given.
        pivot, scale, offset: the inner coordinates `(pair,)`, see `Coordinates`.
        drift, noise: of the recursion, batch axes (pair, draw) last.
        state, variance: where each draw stands, `mean (n, pair, draw)`, `cov (n, n, pair, draw)`,
            n = 2 with an intercept and 1 without; `variance` is None when that is constant.
        log_weights: of the draws, `(pair, draw)`; those of a pair sum to one.
        forgetting: f, a bar, in (0, 1], see `OnlineFilter`.
        shocks: `Quarantine`, `Robust`, or None to learn from every row alike.
        gap_names, gap_bars, gap_noise: closed periods that the model knows, `(gap, pair, draw)`.
        last_prices: `(pair, 2)`, [target, hedge] of the last row that each pair learnt from; NaN where
            there is none.
        at: time of the last tick seen, or None.
        until: last date whose prices the noise was inferred from, or None.
        streak: rows in quarantine in succession `(pair,)`, negative below; 0 if not given.

    Raises:
        ValueError: a name twice, an array of another shape, a number that is not finite (leave out
            the pairs whose fit failed), weights that do not sum to one, or a forgetting factor
            outside (0, 1].

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
        drift: Motion,
        noise: Noise,
        state: State,
        variance: Scale | None,
        log_weights: Array,
        forgetting: float = 1.0,
        shocks: Shocks | None = None,
        gap_names: Sequence[str] = (),
        gap_bars: Array | None = None,
        gap_noise: Array | None = None,
        last_prices: Array | None = None,
        at: Any = None,
        until: Any = None,
        streak: Array | None = None,
    ) -> None:
        self.names, self._legs = tuple(names), BoardLegs(targets, hedges, transform)
        self.at, self.until, self.shocks = at, until, shocks
        self.pivot, self.scale, self.offset = (np.array(p, float) for p in (pivot, scale, offset))
        count = len(self.names)
        none = np.full((count, 2), np.nan)
        self.last_prices = none if last_prices is None else np.array(last_prices, float)
        self.streak = np.array(np.zeros(count) if streak is None else streak, int)
        check(self, state, variance, noise, np.asarray(log_weights, float))
        self._mixture = BoardMixture(
            drift,
            noise,
            state,
            variance,
            np.asarray(log_weights, float),
            forgetting=forgetting,
            gap_names=gap_names,
            gap_bars=gap_bars,
            gap_noise=gap_noise,
        )

    @property
    def targets(self) -> tuple[str, ...]:
        return self._legs.targets

    @property
    def hedges(self) -> tuple[str, ...]:
        return self._legs.hedges

    @property
    def transform(self) -> str:
        return self._legs.transform

    @property
    def tickers(self) -> tuple[str, ...]:
        """All that are target or hedge of a pair, each once."""
        return self._legs.tickers

    @property
    def draws(self) -> int:
        """Number of noise draws of a pair."""
        return self._mixture.shape[1]

    @property
    def weights(self) -> np.ndarray:
        """Of the draws, `(pair, draw)`; those of a pair sum to one."""
        return self._mixture.now.weights.copy()

    def __len__(self) -> int:
        return len(self.names)

    def update(
        self,
        prices: Any,
        *,
        at: Any = None,
        dt: float = 1.0,
        gaps: Mapping[str, float] | None = None,
    ) -> BoardTick:
        """Take one row of prices: predict, score, reweight and update every pair.

        Args:
            prices: by ticker, a dict or a pandas Series. A ticker that is NaN or not there has no
                price: its own pairs only diffuse, the others do not notice. So it is with a price so
                far off that no arithmetic can follow; `outcome` says "rejected" there.
            at: time of the row; must be later than the one before.
            dt: bars since the row before.
            gaps: closed periods since the row before, by name; one that the model does not know moves
                nothing.

        Returns:
            A `BoardTick`, its arrays in the order of `names`.

        Raises:
            ValueError: a price that is infinite, (log, return) not positive or no number, prices of
                none of the tickers, negative dt, a time not later than the last. All filters are then
                as they were before.
        """
        check_dt(dt)
        if at is not None:
            check_later(at, self.at, "the filters are unchanged")
        given = self._legs.prices(prices)
        told, wild = self._ahead(given, dt, gaps)
        outcome = self._outcome(given, told, wild, at)
        self._mixture.keep()
        taken = told.learnt | told.based | ~(told.seen | wild | np.isnan(given).any(1))
        self.last_prices = np.where(taken[:, None], given, self.last_prices)
        self.streak, self.at = told.streak, self.at if at is None else at
        return self._tick(told, outcome)

    def standing(self) -> BoardTick:
        """What is believed now, as a tick that observed nothing; no filter moves."""
        none, nothing = np.zeros(len(self)), np.zeros(len(self), bool)
        told = self._mixture.advance(
            none, none, nothing, dt=0.0, gaps=None, shocks=None, returns=False, streak=self.streak
        )
        return self._tick(told, ("skipped: no new row",) * len(self))

    def rescale(self, factors: Mapping[str, float]) -> None:
        """Prices are quoted otherwise from now on: a split, a multiplier, another currency.

        Exact in mean, covariance and every draw of every pair with the ticker, as target or as hedge.

        Args:
            factors: new price over old by ticker; 0.5 after a 2-for-1 split.

        Raises:
            ValueError: a factor that is not positive, a ticker of no pair, or a model of logs without
                an intercept. All filters are then as they were before.
        """
        by = self._legs.factors(factors)
        target, hedge = by.T
        if self.transform == "log":
            if self._mixture.n == 1 and (by != 1).any():
                raise ValueError(
                    "a model of logs without an intercept holds for one unit of price only: fit again"
                )
            self.pivot, self.offset = self.pivot + np.log(hedge), self.offset + np.log(target)
        elif self.transform == "level":
            self.pivot, self.scale = self.pivot * hedge, self.scale * hedge
            self.offset = self.offset * target
            self._mixture.rescale(target)
        self.last_prices = self.last_prices * by
        self.streak = self._legs.released(factors, self.streak)

    def filter(self, name: str) -> OnlineFilter:
        """The filter of one pair as it stands now; what it does next does not move the board.

        Raises:
            ValueError: there is no pair of that name.
        """
        number, mixture = number_of(name, self.names), self._mixture
        where = (self.pivot[[number]], self.scale[[number]])
        last, scale = self.last_prices[number], mixture.scale()
        return OnlineFilter(
            target=self.targets[number],
            hedges=(self.hedges[number],),
            transform=self.transform,
            coordinates=Coordinates(*where, float(self.offset[number]), mixture.n == 2),
            drift=self._one(mixture.drift, number),
            noise=self._one(mixture.noise, number),
            state=self._one(mixture.state(), number),
            scale=scale and self._one(scale, number),
            log_weights=mixture.now.log_weights[number].copy(),
            forgetting=mixture.forgetting,
            shocks=self.shocks,
            gap_names=mixture.gap_names,
            gap_bars=mixture.gap_bars[:, number],
            gap_noise=mixture.gap_noise[:, number],
            last_prices=None if np.isnan(last).any() else last.copy(),
            at=self.at,
            until=self.until,
            streak=int(self.streak[number]),
        )

    def save(self, path: str | Path) -> None:
        """Write everything needed to go on, as one JSON file, atomically and to the last bit."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(self.to_json(), allow_nan=False))

    @classmethod
    def load(cls, path: str | Path) -> "OnlineBoard":
        """Read a board written by `save`; goes on exactly where that one stood.

        Raises:
            ValueError: the file is not one, or comes from a newer version of kfmodels.
        """
        try:
            content = json.loads(Path(path).read_text())
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a saved board: {error}") from error
        try:
            return cls.from_json(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """What `save` writes, as plain numbers, strings, lists and dicts."""
        last = tuple([None if p != p else p for p in row] for row in self.last_prices.tolist())
        return to_json(self.arguments() | {"last_prices": last}) | {"format": FORMAT}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "OnlineBoard":
        """The board of a document made by `to_json`.

        Raises:
            ValueError: the document is not one, or comes from a newer version of kfmodels.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError("this is not a saved board; make one with board.online().save(path)")
        if content["version"] > VERSION:
            raise ValueError(
                f"this was written by a newer kfmodels (format {content['version']}, this one reads up "
                f"to {VERSION}): upgrade kfmodels"
            )
        return cls(**built(content))

    def arguments(self) -> dict[str, Any]:
        """What `__init__` takes to make this board again."""
        mixture = self._mixture
        mine = ("names", "targets", "hedges", "transform", "pivot", "scale", "offset", "shocks")
        its = ("drift", "noise", "forgetting", "gap_names", "gap_bars", "gap_noise")
        return (
            {name: getattr(self, name) for name in (*mine, "last_prices", "at", "until", "streak")}
            | {name: getattr(mixture, name) for name in its}
            | {"state": mixture.state(), "variance": mixture.scale()}
            | {"log_weights": mixture.now.log_weights.copy()}
        )

    def _one(self, part: Any, number: int) -> Any:
        """The arrays of one pair, those that all pairs share written out."""
        leaves = (np.broadcast_to(leaf, (*leaf.shape[:-2], *self._mixture.shape)) for leaf in part)
        return type(part)(*(leaf[..., number, :].copy() for leaf in leaves))

    def _ahead(
        self, given: np.ndarray, dt: float, gaps: Mapping[str, float] | None
    ) -> tuple[Told, np.ndarray]:
        """What a row tells, and whose prices no arithmetic can follow: those are as not observed."""
        values = self._legs.values(given, self.last_prices)
        seen, wild, streak = ~np.isnan(values).any(1), np.zeros(len(self), bool), self.streak
        if isinstance(shocks := self.shocks, Quarantine) and shocks.hold != 0:
            beyond = partial(self._beyond, dt=dt, gaps=gaps, limit=shocks.limit)
            streak = self._legs.begun(given, self.last_prices, streak, beyond)
        while True:
            told = self._mixture.advance(
                np.where(seen, values[:, 0] - self.offset, 0.0),
                np.where(seen, (values[:, 1] - self.pivot) / self.scale, 0.0),
                seen,
                dt=dt,
                gaps=gaps,
                shocks=shocks,
                returns=self.transform == "return",
                streak=np.where(wild, self.streak, streak),
            )
            if told.sound.all():
                return told, wild
            found = seen & ~told.sound
            if not found.any():
                raise ValueError(
                    f"{listed(self.names, ~told.sound)}: the time since the last row is so long that "
                    "the arithmetic cannot follow; fit anew. The filters are unchanged"
                )
            seen, wild = seen & ~found, wild | found

    def _beyond(self, number: int, row: list[float], *, dt: float, gaps: Any, limit: float) -> bool:
        """`OnlineFilter.beyond` of one pair."""
        one = self.filter(self.names[number])
        return one.beyond(row, one.ahead(dt, gaps), limit)

    def _outcome(
        self, prices: np.ndarray, told: Told, wild: np.ndarray, at: Any
    ) -> tuple[str, ...]:
        """What became of every row, in the words of a single filter."""
        words, shocks = [ACCEPTED] * len(self), self.shocks
        for number in np.flatnonzero(~told.seen).tolist():
            words[number] = _TOO_FAR if wild[number] else self._legs.skipped(number, prices)
        for number, word in told.words.items():
            words[number] = word
        taken = told.learnt | told.based
        named = np.flatnonzero(self._legs.broken(prices, self.last_prices) & taken).tolist()
        if isinstance(shocks, Quarantine):
            named = [number for number in told.words if not taken[number]]
        for number in named:
            how: Any = {"at": at, "streak": int(told.streak[number])}
            words[number] += self._legs.split(number, prices, self.last_prices, **how)
        return tuple(words)

    def _tick(self, told: Told, outcome: tuple[str, ...]) -> BoardTick:
        """From inner coordinates to the units of the data."""
        scale, intercept = self.scale, self._mixture.n == 2
        beta, alpha = told.centre[0] / scale, np.zeros(len(self))
        given, total = np.sqrt(told.given[0]) / scale, np.sqrt(told.total[0]) / scale
        levels: Any = np.zeros((2, len(self)))
        if intercept:
            alpha = told.centre[1] + self.offset - self.pivot * beta
            turn = self.pivot / scale
            covs = (told.given, told.total)
            levels = [np.sqrt(c[2] - 2 * turn * c[1] + turn * turn * c[0]) for c in covs]
        spread_sd = np.sqrt(told.squared)
        return BoardTick(
            names=self.names,
            hedges=self.hedges,
            intercept=intercept,
            at=self.at,
            outcome=outcome,
            observed=told.seen,
            beta=beta,
            alpha=alpha,
            sd_given_noise=given,
            sd_total=total,
            alpha_sd_given_noise=levels[0],
            alpha_sd_total=levels[1],
            spread=told.spread,
            spread_sd=spread_sd,
            z=told.spread / spread_sd,
            dof=told.dof,
            gain=told.gain,
            log_score=told.log_score,
            effective_draws=told.effective_draws,
        )


def check(
    board: Any, state: State, variance: Scale | None, noise: Noise, log_weights: np.ndarray
) -> None:
    """Raise unless all arrays of an `OnlineBoard` have a place for each pair and draw, all finite."""
    count, n = len(board.names), len(state.mean)
    if len(set(board.names)) < max(count, 1):
        raise ValueError("a board needs at least one pair, and each named once")
    if n not in (1, 2):
        raise ValueError(f"a pair has a ratio and perhaps an intercept, not {n} coefficients")
    batch = (count, log_weights.shape[-1])
    good = np.ones(count, bool)
    for name in ("targets", "hedges", "pivot", "scale", "offset", "streak", "last_prices"):
        found, wanted = np.shape(getattr(board, name)), (count, 2)[: 1 + (name == "last_prices")]
        if found != wanted:
            raise ValueError(f"{name} has shape {found}, but it must be {wanted}")
    for part in (state, variance or (), noise, (log_weights,)):
        for leaf in part:
            if leaf.shape[-2:] != batch:
                raise ValueError(
                    f"an array has the shape {leaf.shape}, but log_weights say that its last axes "
                    f"are {batch}, pair and draw"
                )
            good &= np.isfinite(leaf).reshape(-1, *batch).all((0, 2))
    good &= np.isfinite(board.pivot + board.offset) & (board.scale > 0) & (board.scale < np.inf)
    good &= abs(np.exp(log_weights).sum(1) - 1) < 1e-6
    if not good.all():
        raise ValueError(
            f"{listed(board.names, ~good)}: the state holds numbers that are not finite, or "
            "weights that do not sum to one; leave out the pairs whose fit failed"
        )


def listed(names: tuple[str, ...], which: np.ndarray) -> str:
    """The first few of the names that are meant."""
    found = [names[number] for number in np.flatnonzero(which)]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more
