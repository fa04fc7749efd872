"""The fitted filters of a universe of pairs, advancing together.

One tick advances all pairs and all their noise draws. An `OnlineFilter` is a board of one pair.

One file: a row of prices passes through all of it, from the checks to its tick.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from kfmodels.clock.clock import Clock
from kfmodels.clock.day import OUTSIDE, DayVariance, Place, read_day, tilt_of_next
from kfmodels.clock.instants import Stamp, check_later, check_passed
from kfmodels.files.documents import register
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.habits import Habits, count_repeats, unknown_habits
from kfmodels.kalman.motion import Motion
from kfmodels.kalman.noise import Carried, Noise
from kfmodels.kalman.step import State
from kfmodels.kalman.transforms import LEVEL
from kfmodels.online import document
from kfmodels.online.belief import Belief, Frame
from kfmodels.online.blocks import TOO_FAR, Blocks, Foreseen, Mark, Passed, Policy, Stand, When
from kfmodels.online.compiled import Packed, PairFrame
from kfmodels.online.document import BOARD, Documented, list_names
from kfmodels.online.legs import ByTicker, Inner, Legs
from kfmodels.online.shocks import NONE, Hold, Shocks, check_shocks, release, with_hold
from kfmodels.online.splits import FIRST, add_splits, find_moves, scaled_from, watch_scales
from kfmodels.online.ticks import BoardTick, Outcome, number_of
from kfmodels.words.caller import explain_kinds

if TYPE_CHECKING:
    from kfmodels.online.filter import OnlineFilter


class OnlineBoard(Documented):
    r"""The filters of P pairs with as many hedges each, K noise draws a pair, one tick at a time.

    Each pair is a mixture of its own draws, `w_k <- ((1 - s) w_k + s w0_k) p(y_t | y_<t, draw k)`,
    normalised, as in `OnlineFilter`, and none sees another.

    Args:
        names: of the pairs, no name twice.
        targets: the ticker of every pair's target.
        hedges: the ticker of every pair's hedge, or a sequence of as many in each.
        transform: "log", "level" or "return", applied to the prices given.
        coordinates: the inner coordinates, with an axis of pairs in front.
        drift, noise: of the recursion, batch axes (pair, draw) last.
        state: where each draw stands, `mean (n, pair, draw)`, `cov (n, n, pair, draw)`.
        carried: what the noise has learnt, as its `start` gives it, `(pair, draw)`; None if nothing.
        log_weights: of the draws, `(pair, draw)`; those of a pair sum to one.
        share, initial_log_weights, shocks, clock, at, until, fit_id: as for `OnlineFilter`.
        gap_names, gap_bars, gap_noise, profile: as for `OnlineFilter`.
        last_prices: `(pair, leg)`, the target first, of the last row learnt from; NaN where none is.
        unopened: `(pair,)`, where they are of an earlier session than `at`; None where none is.
        habits: how the legs usually move, `(pair, leg)`; None where nothing is known of it.
        holds: rows in quarantine in succession, by the name of the pair.

    Raises:
        ValueError: a name twice, an array of another shape, a number that is not finite (leave out
            the pairs whose fit failed), weights that do not sum to one, or a share outside [0, 1).

    Source: West and Harrison (1997), section 12.2 (multi-process models, class I).
    """

    FORMAT = BOARD

    def __init__(
        self,
        *,
        names: Sequence[str],
        targets: Sequence[str],
        hedges: Sequence[str] | Sequence[Sequence[str]],
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
        unopened: ArrayLike | None = None,
        habits: Habits | None = None,
        clock: Clock | None = None,
        at: Stamp | None = None,
        until: Stamp | None = None,
        fit_id: str | None = None,
        holds: Mapping[str, Hold] | None = None,
    ) -> None:
        check_shocks(shocks)
        self.names = tuple(names)
        several = [(each,) if isinstance(each, str) else each for each in hedges]
        self.legs = legs = Legs(targets, several, transform)
        self.targets, self.hedges, self.pairs = legs.targets, legs.hedges, legs.pairs
        self.tickers, self.transform = legs.tickers, legs.transform
        self.at, self.until, self.fit_id, self.shocks = at, until, fit_id, shocks
        self.share, self.gap_names = share, tuple(gap_names)
        log_weights = np.array(log_weights, float)
        first = log_weights if initial_log_weights is None else initial_log_weights
        initial = np.array(first, float)
        pairs, draws = log_weights.shape
        self.clock = document.check_day(clock, profile, coordinates, (pairs, draws))
        none = np.full((pairs, len(several[0]) + 1 if several else 1), np.nan)
        last = none if last_prices is None else np.array(last_prices, float)
        self._last: np.ndarray | None = last
        self.unopened = np.zeros(pairs, bool) if unopened is None else np.array(unopened, bool)
        self.habits: Habits = unknown_habits(*none.shape) if habits is None else habits
        parts = drift, noise, state, carried, log_weights, initial
        document.check_parts(self, coordinates, *parts, holds or {})
        closed = document.gap_arrays(gap_bars, gap_noise, (len(self.gap_names), pairs, draws))
        found = {number_of(name, self.names): hold for name, hold in (holds or {}).items()}
        self._holds = {number: hold for number, hold in found.items() if hold != NONE}
        states = coordinates.intercept, tuple(coordinates.parts), tuple(coordinates.tilted)
        self._blocks = Blocks(*parts, *states, share, self.gap_names, *closed, profile)
        self.compiles = bool(self._blocks.compiled) and clock is None
        self._place(coordinates)

    def _place(self, coordinates: Coordinates) -> None:
        """Use these coordinates from now on, and work out what every tick needs of them."""
        self._turn(coordinates)
        self._inner = Inner(self.transform, coordinates)
        self._all = np.ones(len(self), bool)
        self._all.setflags(write=False)  # handed out with every tick
        self._scaled = scaled_from(self.transform, self.habits.move)
        self._alone: PairFrame | None = None  # made when the compiled road first needs it

    def _turn(self, coordinates: Coordinates) -> None:
        """Tell coefficients in these coordinates, with the tilt of the bar that comes next."""
        if coordinates.tilted and self.clock is not None and self.at is not None:
            tilt = tilt_of_next(self.clock.place(self.at), self.clock.minutes)
            coordinates = coordinates._replace(tilt=float(tilt))
        self.coordinates = coordinates
        self._frame = Frame(self.pairs, coordinates, self.transform)

    @property
    def last_prices(self) -> np.ndarray:
        """`(pair, leg)`, of the last row that each pair learnt from."""
        if self._last is None:  # the compiled road leaves them where the draws are
            self._last = cast("Packed", self._blocks.stands[0]).prices()
        return self._last

    @last_prices.setter
    def last_prices(self, prices: np.ndarray) -> None:
        self._last = prices

    @property
    def draws(self) -> int:
        """Number of noise draws of a pair."""
        return self._blocks.shape[1]

    @property
    def weights(self) -> np.ndarray:
        """Of the draws, `(pair, draw)`; those of a pair sum to one."""
        return self._blocks.weights

    @property
    def holds(self) -> dict[str, Hold]:
        """Rows in quarantine in succession, by the name of the pair; only where there are some."""
        return {self.names[number]: hold for number, hold in self._holds.items()}

    @property
    def stopped(self) -> dict[str, tuple[str, ...]]:
        """Legs that have repeated their price for longer than they do, by the name of the pair."""
        found = self.habits.stopped
        return {
            self.names[number]: tuple(compress(self.pairs[number], found[number].tolist()))
            for number in np.flatnonzero(found.any(1)).tolist()
        }

    def __len__(self) -> int:
        return len(self.names)

    @explain_kinds
    def update(
        self,
        prices: ByTicker,
        *,
        at: Stamp | None = None,
        dt: float = 1.0,
        gaps: Mapping[str, float] | None = None,
        earlier: Sequence[Mapping[str, float]] = (),
    ) -> BoardTick:
        """Take one row of prices: predict, score, reweight and update every pair.

        Args:
            prices: by ticker, a dict or a pandas Series. A ticker that is NaN or not there has no
                price: its own pairs only diffuse, the others do not notice. So it is with a price so
                far off that no arithmetic can follow; `outcome` says "rejected" there.
            at: time of the row; must be later than the one before.
            dt: bars since the row before.
            gaps: closed periods since the row before, by name; an unknown one moves nothing.
            earlier: other rows of the same bar, the last first, for the pairs that `prices` leaves
                without one of a leg: such a pair takes the first of them in which it has both.

        Raises:
            ValueError: a price that is infinite, (log, return) not positive or no number, prices of no
                ticker, negative dt, a time not later than the last. All filters are then as before.
        """
        check_passed(dt, gaps)
        if at is not None:
            check_later(at, self.at, "nothing was changed")
        given = self.legs.of_all(prices)
        for row in earlier:
            other = self.legs.of_all(row)
            better = np.isnan(given).any(1) & ~np.isnan(other).any(1)
            given = np.where(better[:, None], other, given)
        return self.advance(given, at, dt, gaps)

    take = update  # the name in the protocol `Engine`

    def mark(self) -> Mark:
        """Where the board stands now, for `back`; it costs a few references."""
        now = self._blocks.stands, self._holds, self.last_prices, self.unopened, self.habits
        return Mark(self.at, *now, self.coordinates)

    def back(self, mark: Mark) -> None:
        """Stand again where `mark` was taken, to the bit."""
        self.at, self._holds = mark.at, mark.holds
        self._blocks.stands = mark.stands
        self.last_prices, self.unopened, self.habits = mark.last_prices, mark.unopened, mark.habits
        if mark.coordinates is not self.coordinates:
            self._place(mark.coordinates)

    def advance(
        self,
        given: np.ndarray,
        at: Stamp | None,
        dt: float,
        gaps: Mapping[str, float] | None,
        *,
        strict: bool = False,
    ) -> BoardTick:
        """Take a row of checked prices `(pair, leg)`; with `strict` raise instead of "rejected"."""
        opening, day, last = None, None, self.last_prices
        if self.clock is not None:
            place = self.clock.place(document.check_dated(at))
            opening, day = self.opening(place), read_day(place, self.clock.minutes)
        if opening is not None:  # no move leads there from another session
            last = np.where(opening[:, None], np.nan, last)
        when = When(dt, gaps, day)
        values, seen = self._inner.of_all(given, last)
        habits, idle = count_repeats(self.habits, given, self.last_prices, self.pairs)
        if idle:
            seen = np.ones(len(self), bool) if seen is None else seen
            seen[list(idle)] = False
            values[:, ~seen] = 0.0
        wild = np.zeros(len(self), bool)
        # a row that overflows is rejected below, so no warning is needed; where it is an error instead,
        # as with one pair, setting up `errstate` would only cost time
        with nullcontext() if strict else np.errstate(all="ignore"):
            holds, judged = self._holds, {}
            if self.shocks is not None and self.shocks.holds:
                rows = given, self.last_prices, self._scaled, self.habits.move
                ahead = partial(self.foresee, when)
                holds, judged = watch_scales(self.shocks, holds, rows, seen, opening, ahead)
            passed = self._blocks.advance(values, seen, when, self._policy(holds))
            # one sum tells whether anything has overflowed; only then look which pair it was
            while not math.isfinite(np.dot(passed.sd, passed.score)):
                sound = np.atleast_1d(np.isfinite(passed.sd + passed.score) & (passed.sd > 0))
                if sound.all():  # it was the sum alone
                    break
                lost = ~sound if seen is None else seen & ~sound
                if strict or not lost.any():
                    raise ValueError(
                        f"{list_names(self.names, ~sound)}: {TOO_FAR}. Nothing was changed"
                    )
                wild |= lost
                seen = sound if seen is None else seen & sound
                values[:, ~seen] = 0.0
                # a rejected row must not begin or end a hold
                for number in np.flatnonzero(lost).tolist():
                    holds = with_hold(holds, number, self._holds.get(number, NONE))
                passed = self._blocks.advance(values, seen, when, self._policy(holds))
        passed.verdicts.update(judged)
        return self._commit(given, at, seen, wild, holds, passed, habits, idle, opening)

    def opening(self, place: Place) -> np.ndarray | None:
        """The pairs of which a row there would begin a session, `(pair,)`; None where of none."""
        if self.clock is None or not self.transform.needs_last or self.at is None:
            return None
        if place.session == OUTSIDE or place.session != self.clock.place(self.at).session:
            return self._all
        return self.unopened if self.unopened.any() else None

    def quick(
        self, prices: Sequence[float], dt: float, gaps: Mapping[str, float] | None
    ) -> Packed | None:
        """The only pair after a row on the compiled road, unchecked; None where it is not for it."""
        now: Any = self._blocks.stands[0]
        if (
            now.__class__ is not Packed
            or now.last is not self._last
            or now.habits is not self.habits
            or now.block.frame is not self._alone
            or now.block.shocks is not self.shocks
            or self._alone is None
        ):
            now = self._enter(now)
        if now is None or self._holds or (gaps and self._blocks.mixtures[0].crosses(gaps)):
            return None
        after: Packed | None = now.block.take(now, prices, dt)
        if after is not None:
            self._blocks.stands, self._last, self.habits = [after], None, after.habits
        return after

    def _enter(self, now: Stand) -> Packed | None:
        """The draws as the compiled road takes them; None where there is none."""
        if not isinstance(now, Packed) or not now.block.judges(self.shocks):
            return None
        patience, frame = self.habits.patience, self._frame
        if self._alone is None or self._alone.patience is not patience:
            legs = self._inner.centre[:, 0], self._inner.unit[:, 0], self._scaled[0], patience[0]
            self._alone = PairFrame(np.stack(legs), frame, patience)
        now = now.block.place(now, self._alone, self.last_prices, self.habits)
        self._blocks.stands = [now]
        return now

    def _policy(self, holds: Mapping[int, Hold]) -> Policy:
        return Policy(self.shocks, holds, self.coordinates.intercept, self.transform.needs_last)

    def standing(self) -> BoardTick:
        """What is believed now, as a tick that observed nothing; no filter moves."""
        return BoardTick.standing(self.names, self.at, self.belief())

    def rescale(self, factors: Mapping[str, float], *, learnt: Collection[str] = ()) -> None:
        """Prices are quoted otherwise from now on: a split, a multiplier, another currency.

        Exact in every draw of every pair with the ticker, as target or as hedge: afterwards a filter is
        what it would be, had all prices so far been quoted so.

        Args:
            factors: new price over old by ticker; 0.5 after a 2-for-1 split.
            learnt: pairs whose level has taken this for a move; the last row is in the new units.

        Raises what `OnlineFilter.rescale` does; all filters are then as they were before.
        """
        by = self.legs.factors(factors)
        about = np.where(np.isin(self.names, list(learnt))[:, None], self.last_prices, np.nan)
        coordinates = self.coordinates.requote(self.transform, by, about if learnt else None)
        if self.transform == LEVEL:
            self.habits = self.habits._replace(move=self.habits.move * by)
        self._place(coordinates)
        self.last_prices = np.where(np.isnan(about), self.last_prices * by, about)
        for number, hold in self._holds.items():
            if named := [factors[name] for name in self.pairs[number] if name in factors]:
                self._holds = with_hold(self._holds, number, release(hold, named))

    def requote(self, factors: Mapping[str, float], since: Any = None, learnt: Any = ()) -> None:
        """`rescale`; with `since` go back there first, and release there what was held since."""
        now = self._holds
        if since is not None:
            self.back(since)
        self.rescale(factors, learnt=learnt)
        for number, hold in now.items():
            named = [factors[name] for name in self.pairs[number] if name in factors]
            if named and (free := release(hold, named)).cause == "released":
                self._holds = with_hold(self._holds, number, free)

    def adjust(self, shifts: Mapping[str, float]) -> None:
        """A dividend or a roll, as `OnlineFilter.adjust` has it, for every pair with the ticker."""
        if self.transform != LEVEL:
            self.rescale(self.legs.shift_factors(shifts, self.last))
            return
        by = self.legs.shifts(shifts)
        self._place(self.coordinates.move(by))
        self.last_prices = self.last_prices + by

    @property
    def last(self) -> dict[str, float]:
        """The last price of every ticker that was learnt from."""
        earlier = {*self._holds, *np.flatnonzero(self.unopened).tolist()}
        return self.legs.last(self.last_prices, earlier)

    def filter(self, name: str) -> "OnlineFilter":
        """The filter of one pair as it stands now; what it does next does not move the board."""
        from kfmodels.online.filter import OnlineFilter

        return OnlineFilter(**self.arguments_of(number_of(name, self.names)))

    def arguments(self) -> dict[str, Any]:
        """What `__init__` takes to make this board again."""
        mine = ("names", "targets", "hedges", "transform", "coordinates", "share", "shocks")
        mine += ("gap_names", "last_prices", "unopened", "habits")
        mine += ("clock", "at", "until", "fit_id", "holds")
        return {name: getattr(self, name) for name in mine} | self._blocks.arguments()

    def arguments_of(self, number: int) -> dict[str, Any]:
        """What `OnlineFilter` takes to make the filter of one pair."""
        last = self.last_prices[number]
        same = ("transform", "share", "shocks", "gap_names", "clock", "at", "until", "fit_id")
        return self._blocks.arguments_of(number) | {
            "target": self.targets[number],
            "hedges": self.hedges[number],
            "coordinates": self.coordinates.of_pair(number),
            "last_prices": None if np.isnan(last).any() else last.copy(),
            "unopened": bool(self.unopened[number]),
            "habits": Habits(*(each[number] for each in self.habits)),
            "hold": self._holds.get(number, NONE),
            **{name: getattr(self, name) for name in same},
        }

    def _commit(
        self,
        given: np.ndarray,
        at: Stamp | None,
        seen: np.ndarray | None,
        wild: np.ndarray,
        holds: dict[int, Hold],
        passed: Passed,
        habits: Habits,
        idle: Mapping[int, str],
        opening: np.ndarray | None,
    ) -> BoardTick:
        """Take over the draws, the prices, the time and the holds; the tick of the row."""
        said, observed = dict[int, tuple[Outcome, str]](), self._all
        taught = taken = observed
        if seen is not None or passed.verdicts:
            observed = self._all if seen is None else seen
            taught, taken = observed.copy(), observed.copy()
        if seen is not None:
            for number in np.flatnonzero(~seen).tolist():
                absent = self.legs.absent(number, given[number])
                begins = opening is not None and bool(opening[number])
                said[number] = Outcome.SKIPPED, absent or idle.get(number) or FIRST[begins]
                taken[number] = not absent  # the next return starts from it
                if wild[number]:
                    said[number], taken[number] = (Outcome.REJECTED, TOO_FAR), False
        for number, verdict in passed.verdicts.items():
            taken[number] = verdict.starts
            taught[number] = verdict.teaches(self.transform.needs_last)
            holds = with_hold(holds, number, verdict.hold)
            said[number] = verdict.outcome, verdict.reason
        rows = given, self.last_prices, self._scaled, self.habits.move
        opens = () if opening is None else np.flatnonzero(opening & taken).tolist()
        told = {n for n, hold in self._holds.items() if hold.cause == "shock"}.union(opens)
        named = [
            n for n, one in passed.verdicts.items() if not taken[n] or (one.moved and n in told)
        ]
        if self.shocks is None or not self.shocks.holds:
            named += [number for number in find_moves(rows) if taken[number]]
        add_splits(said, named, self.legs, rows, at=at, verdicts=passed.verdicts)
        if self.shocks is None and holds:  # left over from a policy that the user has removed
            holds = {n: h for n, h in holds.items() if seen is not None and not seen[n]}
        self._blocks.keep(passed)  # nothing has changed the board so far
        self._holds = holds
        if taken is not self._all:
            given = np.where(taken[:, None], given, self.last_prices)
            if habits is not self.habits:
                habits = habits.where(taken, self.habits)
        if opening is not None:
            self.unopened = opening & ~taken
        self.last_prices, self.habits = given, habits
        self.at = self.at if at is None else at
        if self.coordinates.tilted:  # what is held now is for the next bar
            self._turn(self.coordinates)
        spread, sd, score, z = passed.spread, passed.sd, passed.score, passed.z
        # the log score is a density of the target, and so has the Jacobian
        if self._inner.requoted:
            unit = self._inner.unit[0]
            spread, sd, score = spread * unit, sd * unit, score - np.log(unit)
        if seen is not None:
            spread, sd, score, z = (np.where(seen, x, np.nan) for x in (spread, sd, score, z))
        return BoardTick(
            self.names,
            self.at,
            observed=observed,
            taught=taught,
            said=said,
            opens=set(opens).difference(idle),
            numbers=(spread, sd, z, score),
            forecasts=passed.forecasts,
            belief=self.belief(),
        )

    def belief(self) -> Belief:
        """Moments of the coefficients of every pair."""
        return Belief(self._frame, self._blocks.mixtures, self._blocks.stands)

    def foresee(self, when: When, number: int, prices: Sequence[float]) -> Foreseen:
        """What the draws of one pair say of its row `(leg,)`, in inner units; nothing is changed."""
        values = self._inner.of_one(number, np.asarray(prices), self.last_prices[number])
        return self._blocks.foresee(number, values, when)


register(OnlineBoard, OnlineBoard.to_json, OnlineBoard.from_json)
