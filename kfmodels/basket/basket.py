"""The hedge of every asset of a universe with all others: one object, one update a row.

One file: a row of prices passes through all of it, from the checks to its tick.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kfmodels.basket.advice import Advice
from kfmodels.basket.day import TimeOfDay
from kfmodels.basket.guard import GUARD, Cleaned, check_policy, clean, tell_verdicts
from kfmodels.basket.hedges import Hedges
from kfmodels.basket.listing import LEG_FROM, TARGET_FROM, pick
from kfmodels.basket.moments import Others
from kfmodels.basket.opinion import Opinion
from kfmodels.basket.settings import (
    CHOOSER,
    MEMORIES,
    FixedShare,
    Forgetting,
    Weighing,
    choose_structures,
)
from kfmodels.basket.standing import Standing, admit, nothing_learnt, open_moments
from kfmodels.basket.ticks import BasketTick, Forecast, Said
from kfmodels.clock.clock import Clock
from kfmodels.clock.instants import Stamp, check_later, check_passed
from kfmodels.files.documents import Format, register
from kfmodels.kalman.transforms import LOG
from kfmodels.online.document import as_text
from kfmodels.online.legs import ByTicker, Legs, by_text
from kfmodels.online.shocks import NONE, Hold, Shocks
from kfmodels.online.ticks import Outcome

BASKET = Format("kfmodels basket", 2, "a saved basket", "make one with basket.save(path)", oldest=2)


class Basket(Hedges):
    r"""Hedges every target with all other assets, by a mixture of regressions that all share memories.

    $$C_{m,t} = λ_m C_{m,t-1} + w_t r_t r_t', \qquad
    β_i = ∑_k ω_{ik} β_{ik}, \qquad
    ω_{ik} ∝ \Big(∏_s p_k(y_{is})^{f^{t-s}}\Big)^{0.3}$$

    with r the log moves and w the weight of the row by the market's variance. On each of four memories
    (50, 100, 200, 500 rows) stand several structures: best legs, ridges, correlations shrunk to one or
    three factors, a reweighted ridge. An expert is a structure on a memory; it is weighed, for each
    target, by its predictive Student-t density of the moves so far. Ratios are money of the hedge for
    one of the target, known after a row and to be held over the next.

    An asset is a target from 60 rows after its first price on, and a leg of others from 250. A missing
    move is filled by its mean given the moves seen, its covariance given them goes into the moments,
    and what the fill has not accounted for enters when the price returns. After 5 rows without a price,
    or while it repeats one for longer than it does, an asset is no leg; the ratios of others go on
    without it. A row in which no price moves is a closed day: nothing is learnt.

    Args:
        tickers: of all assets, each once.
        targets: which of them are hedged. Default: all.
        hedges: which of them may be legs. Default: all.
        legs: at most as many legs for a target. Default: no limit.
        weighing: how experts gain and lose weight, `Forgetting` or `FixedShare`.
        shocks: the policy on bad prints; None learns from every price.
        clock: of rows within the day: moves are then weighed by the time of day and nights, and the
            memories are 2.5, 5, 10 and 25 days. None, or a clock of daily rows: every row is a bar.
        standing: where it stands, as a document has it; None for the start.

    Raises:
        ValueError: a ticker twice, a target or hedge that is none of them, a target without any hedge
            but itself, or a policy that doubts rows (`Robust`) instead of holding them.

    Source: West and Harrison (1997), chapter 16 (discounted Wishart); Ledoit and Wolf (2003), Improved
    estimation of the covariance matrix of stock returns, Journal of Empirical Finance 10; Raftery,
    Karny and Ettler (2010), Technometrics 52.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> market = rng.normal(0, 0.01, (300, 1))
        >>> prices = 100 * np.exp(np.cumsum(market + rng.normal(0, 0.002, (300, 4)), axis=0))
        >>> basket = Basket(["A", "B", "C", "D"])
        >>> for row in prices:
        ...     tick = basket.update(dict(zip("ABCD", row)))
        >>> basket.ratios()[0].sum().round(1)
        np.float64(1.0)
    """

    FORMAT = BASKET
    transform = LOG
    until = fit_id = None

    def __init__(
        self,
        tickers: Sequence[str],
        *,
        targets: Sequence[str] | None = None,
        hedges: Sequence[str] | None = None,
        legs: int | None = None,
        weighing: Weighing = Forgetting(),
        shocks: Shocks | None = GUARD,
        clock: Clock | None = None,
        standing: Standing | None = None,
    ) -> None:
        self.tickers = tuple(map(str, tickers))
        if len(set(self.tickers)) < max(len(self.tickers), 2):
            raise ValueError("a universe needs at least two tickers, and each named once")
        self.targets = pick(targets, self.tickers, "target")
        self.hedges = pick(hedges, self.tickers, "hedge")
        if len(self.hedges) == 1 and self.hedges[0] in self.targets:
            raise ValueError(
                f"{self.hedges[0]} is the only hedge, and has none itself: leave it out of the targets"
            )
        check_policy(shocks)
        self.share = weighing.share if isinstance(weighing, FixedShare) else 0.0
        most = len(self.hedges) - (set(self.targets) <= set(self.hedges))
        self.legs, self.weighing, self.shocks = legs, weighing, shocks
        self.structures = choose_structures(most, legs)
        self.clock = clock
        # the first ticker stands as the target of all others, so that prices are read as a board reads
        self._prices = Legs(self.tickers[:1], [self.tickers[1:]], LOG)
        spot = {name: number for number, name in enumerate(self.tickers)}
        self._targets = np.array([spot[name] for name in self.targets])
        self._hedges = np.zeros(len(self.tickers), bool)
        self._hedges[[spot[name] for name in self.hedges]] = True
        self._advised: tuple[Standing, Advice | None] | None = None
        self.stand = standing or nothing_learnt(len(self.tickers), len(self), self.draws)
        if self.stand.opinion.log_weights.shape != (len(self.targets), self.draws):
            raise ValueError(
                f"the standing is of {self.stand.opinion.log_weights.shape} targets and experts, but "
                f"these settings make {(len(self.targets), self.draws)}"
            )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def clock(self) -> Clock | None:
        """That of rows within the day; one of the same market with later sessions may take over."""
        return self.day.clock

    @clock.setter
    def clock(self, clock: Clock | None) -> None:
        self.day = TimeOfDay(clock)
        self._decays = 1 - 1 / self.day.memories

    @property
    def draws(self) -> int:
        """Number of experts."""
        return len(MEMORIES) * len(self.structures.kinds)

    @property
    def at(self) -> Stamp | None:
        """Time of the last row."""
        return self.stand.at

    @property
    def rows(self) -> int:
        """Rows learnt from."""
        return self.stand.rows

    @property
    def pairs(self) -> tuple[tuple[str, ...], ...]:
        """Every asset alone: in a live filter none waits for another."""
        return tuple((name,) for name in self.tickers)

    @property
    def holds(self) -> dict[str, Hold]:
        """Rows in quarantine in succession, by ticker."""
        return self.stand.holds

    @property
    def stopped(self) -> dict[str, tuple[str, ...]]:
        """Assets that have repeated their price for longer than they do, by ticker."""
        found = np.flatnonzero(self.stand.listing.stopped).tolist()
        return {self.tickers[number]: (self.tickers[number],) for number in found}

    @property
    def last(self) -> dict[str, float]:
        """The last price taken of every ticker."""
        each = zip(self.tickers, self.stand.listing.last.tolist(), strict=True)
        return {name: price for name, price in each if price == price}

    @property
    def ready(self) -> np.ndarray:
        """Which targets have ratios, `(target,)`."""
        legs = self.stand.legs(self._hedges)
        return self.stand.joined[self._targets] & (legs.sum() > legs[self._targets])

    def update(self, prices: ByTicker, *, at: Stamp | None = None) -> BasketTick:
        """Take one row of prices: forecast, score, reweigh the experts, then learn the moments.

        Args:
            prices: by ticker, a dict or a pandas Series; NaN or left out where there is none.
            at: time of the row; must be later than the one before.

        Raises:
            ValueError: a price that is infinite, not positive or no number, prices of none of the
                tickers, a time not later than the last. Nothing has changed then.
        """
        now = self.stand
        if at is not None:
            check_later(at, now.at, "nothing was changed")
        given = self._prices.of_all(prices)[0]
        at, variance = now.at if at is None else at, self.day.variance(at, now.at)
        reading = now.listing.read(given)
        absent = now.listing.explain(given, reading.seen)
        said = {self.tickers[n]: Said(Outcome.SKIPPED, why) for n, why in absent.items()}
        if reading.closed:
            self.stand = now._replace(at=at, listing=now.listing.begin(given))
            return self._tick(at, said | {"": Said(Outcome.SKIPPED, "no price moved")})
        now = now._replace(at=at, listing=reading.listing)
        move = np.where(reading.seen, reading.move, np.nan)
        if now.market is None:
            return self._gather(now, given, move, said, variance)
        return self._advance(now, given, move, said, variance)

    def _gather(
        self,
        now: Standing,
        given: np.ndarray,
        move: np.ndarray,
        said: dict[str, Said],
        variance: float,
    ) -> BasketTick:
        """Keep the first rows, and open the moments once there are enough of them."""
        seen = ~np.isnan(move)
        first = np.where(now.listing.gap > 0, np.nan, move) / np.sqrt(variance)
        recent = np.vstack([now.recent, first])
        listing = now.listing.after(given, seen, np.zeros(len(given)), variance)
        now = now._replace(rows=now.rows + 1, listing=listing, recent=recent)
        opens = now.rows == TARGET_FROM
        self.stand = open_moments(now, self.shocks is not None, self._decays) if opens else now
        return self._tick(now.at, said)

    def _advance(
        self,
        now: Standing,
        given: np.ndarray,
        move: np.ndarray,
        said: dict[str, Said],
        variance: float,
    ) -> BasketTick:
        """Take a row once the moments are open; all its moves are over the root of its variance."""
        market, joined, size = now.market, now.joined, float(np.sqrt(variance))
        assert market is not None
        advice = self._advice()
        seen = ~np.isnan(move) & joined
        # a newcomer's move over a gap is left out: nothing has filled it
        young = np.where(joined | (now.listing.gap > 0), np.nan, move) / size
        raw = np.where(seen, move - now.listing.filled, 0.0) / size
        cleaned = self._clean(now, advice, raw, seen, variance)
        weight, unseen = cleaned.weight, cleaned.unseen
        said |= tell_verdicts(cleaned.verdicts, self.tickers, given, now, size)
        known = joined & ~unseen
        realised = market.realise(cleaned.move, known)
        opinion, tick = self._judge(now, advice, cleaned, said, size)
        moments = now.moments.after(cleaned.move, weight, cleaned.gap, self._decays)
        taken = known | (~joined & ~np.isnan(move))
        held = dict(now.holds)
        for number, verdict in cleaned.verdicts.items():
            held[self.tickers[number]] = verdict.hold
            taken[number] |= verdict.moved
        listing = now.listing.after(given, taken, cleaned.move * size, variance)
        recent, weights = now.recent, now.recent_weights
        if not joined.all():
            recent = np.vstack([recent, np.where(joined, cleaned.move, young)])[-TARGET_FROM:]
            weights = np.append(weights, weight)[-TARGET_FROM:]
        after = now._replace(
            rows=now.rows + 1,
            listing=listing.learn(cleaned.move, known),
            market=market.after(cleaned.move, known, realised),
            moments=moments,
            recent=recent,
            recent_weights=weights,
            doubt=cleaned.doubt,
            choice=now.choice if advice is None else advice.choice,
            opinion=opinion,
            holds={name: hold for name, hold in held.items() if hold != NONE},
        )
        self.stand = after if joined.all() else admit(after, self.shocks is not None)
        return tick

    def _clean(
        self,
        now: Standing,
        advice: Advice | None,
        move: np.ndarray,
        seen: np.ndarray,
        variance: float,
    ) -> Cleaned:
        """The row that is learnt from."""
        market, joined = now.market, now.joined
        assert market is not None
        if self.shocks is None and seen[joined].all() and not now.listing.gap[joined].any():
            weight = market.weigh(market.realise(move, seen))
            return Cleaned(move, joined & ~seen, None, {}, now.doubt, weight)
        if advice is not None:
            others = advice.regressions()
        else:
            corr, sd = now.moments.standardise()
            others = Others.of(corr[CHOOSER], sd[CHOOSER])
        spot = {name: number for number, name in enumerate(self.tickers)}
        holds = {spot[name]: hold for name, hold in now.holds.items()}
        return clean(now, others, move, seen, shocks=self.shocks, holds=holds, variance=variance)

    def _judge(
        self,
        now: Standing,
        advice: Advice | None,
        cleaned: Cleaned,
        said: Mapping[str, Said],
        size: float,
    ) -> tuple[Opinion, BasketTick]:
        """Score the experts on the row; what is told is in whole moves."""
        if advice is None:
            return now.opinion, self._tick(now.at, said, moves=cleaned.move * size)
        moves = cleaned.move[self._targets]
        where = (now.joined & ~cleaned.unseen)[self._targets]
        row = cleaned.move, cleaned.gap, cleaned.weight
        square = now.listing.mean_square[self._targets]
        mixture, variances = now.opinion.expect(self.weighing, advice, square, *row, moves)
        learnt, score = now.opinion.learn(self.weighing, mixture, moves, variances, where, size)
        whole, below = mixture.times(size).centre(), mixture.below(moves)
        numbers = (moves * size, *whole, below, score - np.log(size), mixture.degrees())
        told = [np.where(where, each, np.nan) for each in numbers]
        return learnt, self._tick(now.at, said, told, cleaned.move * size)

    def _tick(
        self,
        at: Stamp | None,
        said: Mapping[str, Said],
        judged: Sequence[np.ndarray] | None = None,
        moves: np.ndarray | None = None,
    ) -> BasketTick:
        """The tick of a row; `judged` are numbers of the targets, `moves` those of all assets."""
        wide = np.full((6, len(self.tickers)), np.nan)
        if judged is not None:
            wide[:, self._targets] = judged
        moves = np.full(len(self.tickers), np.nan) if moves is None else moves
        return BasketTick(self.tickers, at, *wide, moves=moves, said=said)

    def _advice(self) -> Advice | None:
        """What the experts hold now; None while there are no legs."""
        if self._advised is not None and self._advised[0] is self.stand:
            return self._advised[1]
        now, legs = self.stand, np.flatnonzero(self.stand.legs(self._hedges))
        room = None if self._advised is None or self._advised[1] is None else self._advised[1].dense
        advice = None
        if len(legs):
            parts = now.moments, self.structures, self._targets, legs, now.choice, now.rows
            advice = Advice(*parts, room)
        self._advised = now, advice
        return advice

    def forecast(self, prices: ByTicker, *, at: Stamp | None = None) -> Forecast:
        """What the hedges' prices say of the targets; nothing is learnt.

        Args:
            prices: of the next row by ticker. A hedge without one counts by its mean given the prices
                that are there, but for the target's own, and widens the forecast; so does a gap of the
                target.
            at: time of that row, which a universe within the day needs; as for `update`.

        Raises:
            ValueError: no target is ready yet, no asset has a price, or as `update`.
        """
        now, advice = self.stand, self._advice()
        if at is not None:
            check_later(at, now.at, "nothing was forecast")
        if advice is None or now.market is None:
            raise ValueError(
                f"the basket has learnt from {now.rows} rows, and legs need {LEG_FROM}: update it with "
                "more before asking for a forecast"
            )
        given, variance = self._prices.of_all(prices)[0], self.day.variance(at, now.at)
        reading = now.listing.read(given)
        seen = reading.seen & now.joined
        if not seen.any():
            raise ValueError(
                "the row has no price that says anything of the targets: give that of a hedge at least"
            )
        raw = np.where(seen, reading.move - now.listing.filled, 0.0) / np.sqrt(variance)
        move, gap = advice.regressions().fill(raw, now.joined & ~seen)
        square = now.listing.mean_square[self._targets]
        row = move, gap, now.market.foreseen()
        mixture, _ = now.opinion.expect(self.weighing, advice, square, *row)
        last = now.listing.carried[self._targets]
        over = mixture.over(now.listing.rows_since(variance)[self._targets])
        return Forecast(self.targets, over.times(np.sqrt(variance)), last, self.ready)

    def take(
        self,
        prices: ByTicker,
        *,
        at: Stamp | None = None,
        dt: float = 1.0,
        gaps: Mapping[str, float] | None = None,
        earlier: Sequence[ByTicker] = (),
    ) -> BasketTick:
        """`update` as a live filter calls it; an asset takes its price of the first row with one.

        Memories count rows, and the time of day is that of its own clock, so neither `dt`, the bars
        since the row before, nor closed periods in `gaps` change what is learnt.
        """
        check_passed(dt, gaps)
        row = dict[str, Any]()
        for each in map(by_text, [*reversed(earlier), prices]):
            row |= {name: price for name, price in each.items() if price == price}
        return self.update(row, at=at)

    def standing(self) -> BasketTick:
        """What is believed now, as a tick that observed nothing."""
        return self._tick(self.at, {"": Said(Outcome.SKIPPED, "no new row")})

    def mark(self) -> Standing:
        """Where the basket stands now, for `back`."""
        return self.stand

    def back(self, mark: Standing) -> None:
        """Stand again where `mark` was taken, to the bit."""
        self.stand = mark

    def rescale(self, factors: Mapping[str, float]) -> None:
        """Prices are quoted otherwise from now on: new price over old, .5 after a 2-for-1 split."""
        by = self._prices.factors(factors)[0]
        listing = self.stand.listing
        holds = {name: hold for name, hold in self.holds.items() if name not in factors}
        self.stand = self.stand._replace(
            listing=listing._replace(last=listing.last * by), holds=holds
        )

    def requote(self, factors: Mapping[str, float], since: Any = None, learnt: Any = ()) -> None:
        """`rescale`, but not of those whose move is `learnt`; with `since` go back there first."""
        if since is not None:
            self.back(since)
        self.rescale({name: by for name, by in factors.items() if name not in learnt})

    def adjust(self, shifts: Mapping[str, float]) -> None:
        """A dividend or a roll: new price minus old by ticker."""
        self.rescale(self._prices.shift_factors(shifts, self.last))

    def arguments(self) -> dict[str, Any]:
        """What `__init__` takes to make this basket again."""
        # a time becomes text, which any program can read
        at = as_text({"at": self.at})["at"]
        return {
            "tickers": list(self.tickers),
            "targets": list(self.targets),
            "hedges": list(self.hedges),
            "legs": self.legs,
            "weighing": self.weighing,
            "shocks": self.shocks,
            "clock": self.clock,
            "standing": self.stand._replace(at=at),
        }


register(Basket, Basket.to_json, Basket.from_json)
