"""The fitted filter of one pair, tick by tick: a board of one.

One file: one public class, the same for one pair that `OnlineBoard` is for many.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kfmodels.clock.clock import Clock
from kfmodels.clock.day import DayVariance, read_day
from kfmodels.clock.instants import Stamp, check_later, check_passed
from kfmodels.files.documents import register
from kfmodels.kalman.arrays import add_pair_axis
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.density import Z90
from kfmodels.kalman.habits import Habits
from kfmodels.kalman.motion import Motion
from kfmodels.kalman.noise import Carried, Noise
from kfmodels.kalman.reversion import MeanReversion
from kfmodels.kalman.step import State
from kfmodels.online.blocks import Foreseen, Mark, When
from kfmodels.online.board import OnlineBoard
from kfmodels.online.compiled import PairTick
from kfmodels.online.document import FILTER, Documented, check_dated
from kfmodels.online.legs import HedgePrices, by_text
from kfmodels.online.shocks import NONE, Hold, Shocks
from kfmodels.online.splits import check_factors
from kfmodels.online.ticks import FairValue, Predictive, Tick
from kfmodels.words.caller import explain_kinds


class OnlineFilter(Documented):
    r"""A fitted filter that takes prices and answers with a hedge ratio and its uncertainty.

    Comes from `HedgeFit.online()` or `OnlineFilter.load(path)`. K noise draws, each with its own
    state, form a mixture that goes on learning which of them to believe:

    $$w_k \leftarrow \left((1 - s)^{dt} \, w_k + (1 - (1 - s)^{dt}) \, w^0_k\right) \,
    p(y_t ∣ y_{<t}, \text{draw } k), \text{ normalised,}$$

    with the share s of the weights that every bar hands out anew as they were at the beginning, so that
    any draw can come back when the noise changes. It takes what it is given or raises; `LiveFilter`,
    which `HedgeFit.go_live` makes, is the one to leave unattended on a feed.

    Args:
        target, hedges: tickers.
        transform: "log", "level" or "return", applied to the prices given.
        coordinates: the inner coordinates of the recursion.
        drift, noise: of the recursion, batch axis (draws) last.
        state: where each draw stands.
        carried: what the noise has learnt, as its `start` gives it; None if nothing.
        log_weights: of the draws; the weights sum to one.
        share: s, a bar, from 0 to below 1; with 0 one draw has all weight in the end.
        initial_log_weights: log of w0, which sum to one. Default: `log_weights`.
        shocks: `Quarantine`, `Robust`, or None to learn from every row alike.
        gap_names: of the closed periods that the model knows, with `gap_bars` and `gap_noise`
            `(gap, draw)`: how many bars of state noise each is worth (`(gap, state, draw)` where not to
            each state as many), and the factor on the observation variance of the row after it.
        profile: of the observation variance over the day, `(draw,)` each, or None.
        last_prices: [target, hedges...] of the last row learnt from, or None.
        unopened: whether they are of an earlier session than `at`.
        habits: how the legs usually move, `(leg,)`; None where nothing is known of it.
        clock: one with sessions, of a filter that reads the time of day off the time of its rows: of
            returns within the session, for which the first row of one is no move. Else None.
        at, until: time of the last tick seen; last date that the noise was inferred from; or None.
        fit_id: of the fit it comes from, or None.
        hold: rows in quarantine in succession.

    Raises:
        ValueError: a share outside [0, 1), arrays of another shape, numbers that are not finite.

    Source: West and Harrison (1997), section 12.2 (multi-process models); the fixed share: Herbster
    and Warmuth (1998), Tracking the best expert, Machine Learning 32.
    """

    FORMAT = FILTER

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
        carried: Carried,
        log_weights: np.ndarray,
        share: float = 0.0,
        initial_log_weights: np.ndarray | None = None,
        shocks: Shocks | None = None,
        gap_names: Sequence[str] = (),
        gap_bars: ArrayLike | None = None,
        gap_noise: ArrayLike | None = None,
        profile: DayVariance | None = None,
        last_prices: ArrayLike | None = None,
        unopened: bool = False,
        habits: Habits | None = None,
        clock: Clock | None = None,
        at: Stamp | None = None,
        until: Stamp | None = None,
        fit_id: str | None = None,
        hold: Hold = NONE,
    ) -> None:
        several = len(gap_names) > 0
        self.board = OnlineBoard(
            names=(target,),
            targets=(target,),
            hedges=(tuple(hedges),),
            transform=transform,
            coordinates=_as_board(coordinates),
            drift=add_pair_axis(drift),
            noise=add_pair_axis(noise),
            state=add_pair_axis(state),
            carried=add_pair_axis(carried),
            log_weights=np.asarray(log_weights)[None],
            share=share,
            initial_log_weights=None if initial_log_weights is None else initial_log_weights[None],
            shocks=shocks,
            gap_names=gap_names,
            gap_bars=np.asarray(gap_bars)[..., None, :] if several else None,
            gap_noise=np.asarray(gap_noise)[..., None, :] if several else None,
            profile=add_pair_axis(profile),
            last_prices=None if last_prices is None else np.asarray(last_prices)[None],
            unopened=[unopened],
            habits=None if habits is None else Habits(*(np.asarray(each)[None] for each in habits)),
            clock=clock,
            at=at,
            until=until,
            fit_id=fit_id,
            holds={target: hold},
        )
        self.target, self.hedges, self.pairs = target, tuple(hedges), self.board.pairs
        self.targets: tuple[str, ...] = self.board.targets
        self.tickers, self.transform = self.board.pairs[0], self.board.transform
        self.draws, self.share = self.board.draws, share
        self.until, self.fit_id = until, fit_id

    @property
    def coordinates(self) -> Coordinates:
        """The inner coordinates of the recursion."""
        return self.board.coordinates.of_pair(0)

    @property
    def weights(self) -> np.ndarray:
        """Of the draws; they sum to one."""
        return self.board.weights[0]

    @property
    def shocks(self) -> Shocks | None:
        """The policy on prices that the forecast did not expect."""
        return self.board.shocks

    @shocks.setter
    def shocks(self, policy: Shocks | None) -> None:
        self.board.shocks = policy

    @property
    def clock(self) -> Clock | None:
        """By which it reads the time of day off its rows, if it does."""
        return self.board.clock

    @clock.setter
    def clock(self, later: Clock | None) -> None:
        self.board.clock = later

    @property
    def hold(self) -> Hold:
        """Rows in quarantine in succession."""
        return self.board.holds.get(self.target, NONE)

    @property
    def holds(self) -> dict[str, Hold]:
        """The same by the name of the target; empty where there is none."""
        return self.board.holds

    @property
    def stopped(self) -> dict[str, tuple[str, ...]]:
        """Legs that have repeated their price for longer than they do, by the name of the target."""
        return self.board.stopped

    @property
    def last_prices(self) -> np.ndarray | None:
        """[target, hedges...] of the last row learnt from."""
        last = self.board.last_prices[0]
        return None if np.isnan(last).any() else last

    @property
    def at(self) -> Stamp | None:
        """Time of the last tick."""
        return self.board.at

    def begins(self, at: Stamp | None) -> bool:
        """Whether a row at that time begins a session, so that of returns no move leads to it."""
        clock = self.clock
        return clock is not None and self.board.opening(clock.place(check_dated(at))) is not None

    @explain_kinds
    def forecast(
        self,
        *,
        x: HedgePrices,
        at: Stamp | None = None,
        dt: float = 1.0,
        gaps: Mapping[str, float] | None = None,
    ) -> FairValue:
        """Fair value of the target at the hedge prices `x`, before its own price is known.

        Args:
            x: hedge prices, as for `update`.
            at: time of the row, where the filter reads the time of day; default: the end of the bar of
                its clock that comes next, with the time and the closed periods until then.
            dt, gaps: time since the last tick, as for `update`.

        Raises:
            ValueError: a price that cannot be transformed; a return over a closed period; `dt` or
                `gaps` without `at`, where the filter reads the time of day.
        """
        seen, last = self._foresee(x, at, dt, gaps), self.board.last_prices[0, 0]
        where, transform = self.coordinates, self.board.transform
        mean, sd = where.offset - where.unit * seen.spread, where.unit * math.sqrt(seen.var)
        band = (mean + width * sd for width in (-Z90, 0.0, Z90))
        lower, price, upper = (float(transform.price(value, last)) for value in band)
        return FairValue(price=price, lower=lower, upper=upper, mean=mean, sd=sd)

    def reversion(self) -> MeanReversion | None:
        """The spread that comes back as it stands now; None where the model has none."""
        return self.board.belief().reversion(0)

    @explain_kinds
    def predictive(
        self,
        *,
        x: HedgePrices,
        at: Stamp | None = None,
        dt: float = 1.0,
        gaps: Mapping[str, float] | None = None,
    ) -> Predictive:
        """Distribution of the transformed target at the hedge prices `x`, before its price is known.

        Takes and raises what `forecast` does; answers with the whole mixture over noise draws.
        """
        seen, where = self._foresee(x, at, dt, gaps), self.coordinates
        return Predictive(
            weights=seen.weights,
            mean=where.offset - where.unit * seen.error,
            scale=where.unit * np.sqrt(seen.squared),
            dof=seen.dof,
        )

    def update(
        self,
        *,
        y: float,
        x: HedgePrices,
        at: Stamp | None = None,
        dt: float = 1.0,
        gaps: Mapping[str, float] | None = None,
    ) -> Tick:
        """Take one row of prices: predict, score, reweight, update.

        This is the exact filter: it takes what it is given, a bad print as well, unless `shocks` says
        otherwise. `HedgeFit.go_live` makes the guarded one.

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
        check_passed(dt, gaps)
        board = self.board
        if at is not None and not _is_later(at, board.at):
            check_later(at, board.at, "nothing was changed")
        if board.compiles:
            after = board.quick(board.legs.read_one(y, x), dt, gaps)
            if after is not None:
                if at is not None:
                    board.at = at
                return PairTick(board.at, after)
        prices = np.array([board.legs.of_one(y, x)])
        return Tick(board.advance(prices, at, dt, gaps, strict=True))

    @explain_kinds
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
        factors = {self.target: target} | check_factors(hedges or {}, self.hedges)
        # all legs are named, because a hold ends only where every factor that is given is 1
        self.board.rescale(dict.fromkeys(self.tickers, 1.0) | factors)

    @explain_kinds
    def adjust(self, shifts: Mapping[str, float]) -> None:
        """Prices move by an amount when no value does: a cash dividend, a roll by difference.

        On levels exact in every draw: afterwards the filter is what it would be, had all prices so far
        been quoted so. On logs and returns a shift is taken as the factor `(last + shift) / last` at
        the last price of the leg, as adjusted series of prices are made, and goes through `rescale`.

        Args:
            shifts: new price minus old by ticker, in currency; minus the dividend on its ex-day.

        Raises:
            ValueError: a shift that is no number, a ticker that is no leg; a model of levels or logs
                without an intercept; (log, return) no last price yet, or one that is not larger than
                the dividend. The filter is then as it was before.
        """
        self.board.adjust(shifts)

    @property
    def last(self) -> dict[str, float]:
        """The last price of every ticker that has been learnt from."""
        return self.board.last

    @explain_kinds
    def take(
        self,
        prices: Mapping[str, float],
        *,
        at: Stamp | None = None,
        dt: float = 1.0,
        gaps: Mapping[str, float] | None = None,
        earlier: Sequence[Mapping[str, float]] = (),
    ) -> Tick:
        """`update` with all prices by ticker, as `live` has them; one pair needs no `earlier` rows."""
        given = prices if self.target in prices else by_text(prices)
        if self.target not in given:
            raise ValueError(f"there is no price of {self.target} (NaN means not observed)")
        return self.update(y=given[self.target], x=given, at=at, dt=dt, gaps=gaps)

    def requote(
        self,
        factors: Mapping[str, float],
        since: Mark | None = None,
        learnt: Collection[str] = (),
    ) -> None:
        """`rescale` with all factors by ticker, as `live` has them; see `OnlineBoard.requote`."""
        self.board.requote(factors, since, learnt)

    def mark(self) -> Mark:
        """Where the filter stands now, for `back`; it costs a few references."""
        return self.board.mark()

    def back(self, mark: Mark) -> None:
        """Stand again where `mark` was taken, to the bit."""
        self.board.back(mark)

    def standing(self) -> Tick:
        """What is believed now, as a tick that observed nothing; the filter does not move."""
        return Tick(self.board.standing())

    def state(self) -> dict[str, np.ndarray]:
        """Mixture moments of [beta..., alpha] in the units of the data, filtered.

        `mean (n,)`, `cov (n, n)` with the uncertainty about the noise, `cov_given_noise (n, n)`
        without.
        """
        now = self.board.belief()
        given, total = now.covs[:, 0]
        return {"mean": now.mean[0], "cov": total, "cov_given_noise": given}

    def arguments(self) -> dict[str, Any]:
        """What `__init__` takes to make this filter again."""
        return self.board.arguments_of(0)

    def _foresee(
        self, x: HedgePrices, at: Stamp | None, dt: float, gaps: Mapping[str, float] | None
    ) -> Foreseen:
        """What the draws say of a target at the centre of its coordinates, at these hedge prices."""
        check_passed(dt, gaps)
        legs = self.board.legs
        hedges = legs.of_hedges(x)
        if any(price != price for price in hedges):
            raise ValueError(f"forecast needs a price of every hedge: {', '.join(self.hedges)}")
        legs.check(self.hedges, hedges)
        if self.last_prices is None and self.board.transform.needs_last:
            raise ValueError("forecast of a return needs an earlier complete row of prices")
        clock, day = self.clock, None
        if clock is not None:
            if at is None:
                if self.at is None or dt != 1 or gaps:
                    raise ValueError(
                        "this filter reads the time of day: pass that of the row to forecast, at=..., "
                        "or leave out dt and gaps after a row that it has seen"
                    )
                at = clock.next_bar(self.at)
                passed = clock.between(self.at, at)
                dt, gaps = passed.bars, passed.gaps
            place = clock.place(at)
            if self.board.opening(place) is not None:
                raise ValueError(
                    f"no return within the session leads from the row at {self.at} to one at {at}: "
                    "update the filter with the first prices of that session, then forecast, at=..., a "
                    "later time of it"
                )
            day = read_day(place, clock.minutes)
        return self.board.foresee(When(dt, gaps, day), 0, [math.nan, *hedges])


register(OnlineFilter, OnlineFilter.to_json, OnlineFilter.from_json)


def _is_later(at: object, before: object) -> bool:
    """Whether both are numbers in order, which costs next to nothing to see."""
    return type(at) is int and type(before) is int and before < at < 2**63


def _as_board(where: Coordinates) -> Coordinates:
    """The same with an axis of one pair."""
    return where._replace(
        pivot=np.atleast_2d(where.pivot),
        scale=np.atleast_2d(where.scale),
        offset=np.array([float(where.offset)]),
        unit=np.array([float(where.unit)]),
    )
