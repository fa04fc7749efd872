"""From a live hedge ratio to the shares held: whole lots, a no-trade band, costs.

One file: the shares wanted, the trade and its cost are one decision.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from kfmodels.clock.clock import Clock
from kfmodels.clock.instants import Moment, Stamp
from kfmodels.files.documents import Format, Json
from kfmodels.kalman.transforms import transform_of
from kfmodels.live.costs import Band, Cost, Saving
from kfmodels.live.signals import Signal, tick_of
from kfmodels.online.legs import by_text
from kfmodels.online.splits import check_factors, check_shifts
from kfmodels.online.ticks import Tick
from kfmodels.words.shown import Shown

FORMAT = Format(
    "kfmodels hedge book", 1, "a saved hedge book", "write one with HedgeBook.to_json()"
)

_Numbers = Mapping[str, float]

_SMALL = 0.1
"""Shares below which digits are counted from the first that is not 0."""


def hedge_shares(
    beta: Mapping[str, float],
    prices: Mapping[str, float],
    *,
    target: str,
    transform: str,
    position: float = 1.0,
) -> dict[str, float]:
    r"""Shares of every hedge that take its moves out of a position in the target.

    $$h_j = -β_j \, n \quad \text{(level)}, \qquad
    h_j = -β_j \, n \, P_y / P_j \quad \text{(log, return)}$$

    On levels a ratio counts shares. On logs and returns it counts money, so the shares change with the
    prices. `position` is n, shares of the target, negative when short; so are the shares returned.

    Raises:
        ValueError: `transform` is not one of "log", "level" and "return".

    Source: Chan (2013), Algorithmic Trading, chapter 3 (shares for price spreads, market values for
    log price spreads).

    Example:
        >>> prices = {"KO": 60.0, "PEP": 180.0}
        >>> hedge_shares({"PEP": 0.9}, prices, target="KO", transform="log", position=1000)
        {'PEP': -300.0}
        >>> hedge_shares({"PEP": 0.3}, prices, target="KO", transform="level", position=1000)
        {'PEP': -300.0}
    """
    one = transform_of(transform)
    if one.by_shares:
        return {name: -ratio * position for name, ratio in beta.items()}
    money = position * prices[target]
    return {name: one.shares(-ratio, money, prices[name]) for name, ratio in beta.items()}


def order_sentence(target: str, hedge: str, shares: float, *, position: float = 100.0) -> str:
    """What to trade in a hedge against a position in the target; shares below 0 are sold.

    Example:
        >>> order_sentence("KO", "SPX", -60.3)
        'against 100 KO sell 60.30 SPX'
    """
    side, size = "sell" if shares < 0 else "buy", abs(shares)
    # of a token worth a millionth of its hedge the two digits would be zeros
    shown = f"{size:.3g}" if 0 < size < _SMALL else f"{size:.2f}"
    return f"against {position:g} {target} {side} {shown} {hedge}"


@dataclass(frozen=True, repr=False)
class Orders(Shown):
    """What a book did at one bar; by hedge, in shares (contracts where there is a multiplier).

    `wanted` is a real number (NaN where nothing was done). The trade of `traded` shares (positive is
    bought) takes the book from `before` to `held`. `rounding` is held minus wanted, `rounding_value`
    the same in currency. `cost` and `turnover` are those of this bar in currency, all hedges together.
    `position` is that of the target. `why` says for every hedge why it was traded, or not.
    """

    at: Stamp | None
    position: float
    wanted: dict[str, float]
    before: dict[str, float]
    traded: dict[str, float]
    held: dict[str, float]
    rounding: dict[str, float]
    rounding_value: dict[str, float]
    cost: float
    turnover: float
    why: str

    def __str__(self) -> str:
        return f"{self.at}: {self.why}; cost {self.cost:.2f}"


class _Moves(NamedTuple):
    """Mean squared move per bar of one hedge, up to its last price, which came `gone` bars ago."""

    price: float | None = None
    gone: int = 0
    seen: int = 0
    variance: float = 0.0

    def add(self, price: float, memory: float) -> "_Moves":
        if math.isnan(price):
            return self._replace(gone=self.gone + 1)
        if self.price is None:
            return _Moves(price)
        # a move over k bars has k times the variance of one; the mean is plain until `memory` bars
        # are seen and fades exponentially from then on
        more = (price - self.price) ** 2 / (self.gone + 1) - self.variance
        variance = self.variance + more / min(self.seen + 1, max(memory, 1.0))
        return _Moves(price, 0, self.seen + 1, variance)

    def rescale(self, factor: float) -> "_Moves":
        price = None if self.price is None else self.price * factor
        return self._replace(price=price, variance=self.variance * factor**2)

    def adjust(self, shift: float) -> "_Moves":
        return self if self.price is None else self._replace(price=self.price + shift)


class HedgeBook(Shown):
    """The shares of every hedge against a position in the target, bar by bar.

    At each bar it compares the shares held with those wanted (`hedge_shares`): inside the band it
    waits, outside it trades to the nearest whole lot. `position` may be set at any time; 0 closes all
    hedges. `turnover`, `turnover_shares` (by hedge) and `costs` count from the start.

    Args:
        target, hedges, transform: as of the filter that makes the ticks; `HedgeFit.book` and
            `HedgeBoard.book` fill them in, and ticks of another are refused.
        position: shares of the target held, negative when short.
        lots: smallest tradable number of shares by hedge; 1 where none is given.
        band, cost: when to rehedge, and what a trade costs.
        multiplier: currency per point and contract by ticker, target or hedge; 1 where none is given.
        held: shares held at the start by hedge; 0 where none is given.
        clock: that of the live filter. The ticks of one of its bars are polls of one bar, the last of
            which counts for the variance that `Saving` needs; without a clock, those of one time are.

    Raises:
        ValueError: a ticker of no leg, a lot or multiplier that is not positive, a position that is no
            finite number.

    Example:
        >>> from types import SimpleNamespace
        >>> sd = {"PEP": 0.02}
        >>> seen = {"at": 7, "observed": True, "gain": 0.1, "sd_total": sd}
        >>> prices = {"KO": 60.0, "PEP": 180.0}
        >>> book = HedgeBook(target="KO", hedges=["PEP"], transform="log", position=1001)
        >>> orders = book.act(SimpleNamespace(beta={"PEP": 0.9}, **seen), prices)
        >>> orders.held, round(orders.rounding["PEP"], 3), round(orders.cost, 2)
        ({'PEP': -300.0}, 0.3, 6.9)
        >>> print(orders.why)
        PEP: sold 300 to hold -300, as 0 was 300.3 off the wanted -300.3 and outside its band of 6.67
        >>> print(book.act(SimpleNamespace(beta={"PEP": 0.903}, **seen), prices).why)
        PEP: kept -300, 1.301 off the wanted -301.301 and inside its band of 6.67 (total sd)
    """

    def __init__(
        self,
        *,
        target: str,
        hedges: Sequence[str],
        transform: str,
        position: float,
        lots: Mapping[str, float] | None = None,
        band: Band = Band(),
        cost: Cost = Cost(),
        multiplier: Mapping[str, float] | None = None,
        held: Mapping[str, float] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.target, self.hedges, self.transform = target, tuple(hedges), transform_of(transform)
        legs = (target, *self.hedges)
        # text is a sequence too, of letters
        if isinstance(hedges, str) or len(legs) < 2 or len(set(legs)) < len(legs):
            given = repr(hedges)
            raise ValueError(f"HedgeBook of {target}: name other tickers, each once, not {given}")
        self.position, self.band, self.cost = float(position), band, cost
        if not math.isfinite(self.position):
            raise ValueError(f"HedgeBook of {target}: the position is {self.position}: no number")
        self.lots = _by_ticker("lots", lots, self.hedges, 1.0)
        self.multiplier = _by_ticker("multiplier", multiplier, legs, 1.0)
        self.held = _by_ticker("held", held, self.hedges, 0.0, least=-math.inf)
        self.turnover = dict.fromkeys(self.hedges, 0.0)
        self.turnover_shares = dict.fromkeys(self.hedges, 0.0)
        self.costs = 0.0
        self.moves: dict[str, _Moves] = dict.fromkeys(self.hedges, _Moves())
        self.clock = clock
        self._at: Stamp | None = None
        self._before = self.moves  # as they stood at the start of the bar of that time

    def __str__(self) -> str:
        held = ", ".join(f"{number:g} {name}" for name, number in self.held.items())
        against = f"{self.position:g} {self.target} against {held}"
        return f"{against}; turnover {sum(self.turnover.values()):.0f}, cost {self.costs:.2f}"

    def act(self, tick: Tick | Signal, prices: Mapping[str, float]) -> Orders:
        """Compare the shares held with those wanted now, and trade those outside their band.

        Call it once a bar, or at every poll of it, with a tick or its signal; trades fill at `prices`,
        by ticker. The first prices of a session teach nothing, and are acted on by the ratio of the bar
        that begins. Where a price is missing (NaN), another tick was not learnt from or a ratio is not
        a number, nothing is done and the orders say why.

        Raises:
            ValueError: a tick of other tickers, of another transform or of a whole board, a leg without
                an entry in `prices` or in the tick, a price that the transform cannot take, a position
                that is not a number. The book is then as it was before.
        """
        self.check(tick := tick_of(tick))
        at, before, held = tick.at, self.held, dict(self.held)
        quotes = self.quotes(prices, at)
        if not math.isfinite(self.position):
            raise ValueError(f"the position in {self.target} at {at} is {self.position}: no number")
        beta, sd = self._of_tick("beta", tick), self._of_tick("sd_total", tick)
        memory = self.band.saving.memory if self.band.saving else 1.0
        skipped = say_why_unread(tick, quotes)
        last = dict.fromkeys(quotes, math.nan) if skipped else quotes
        polled = self._is_of_bar(at)
        start = self._before if polled else self.moves
        moves = {name: was.add(last[name], memory) for name, was in start.items()}
        if polled and skipped:  # an earlier poll of the bar may have had prices
            moves = self.moves
        if unknown := skipped or _not_numbers(beta, sd):
            wanted = dict.fromkeys(self.hedges, math.nan)
            why = f"nothing was done at {at}: {unknown}"
        else:
            wanted, doubt = self.wanted(beta, quotes), self.wanted(sd, quotes)
            reasons: list[str] = []
            for name in self.hedges:
                width = self._width(name, abs(doubt[name]), quotes[name], moves[name].variance)
                held[name], reason = self._decide(name, wanted[name], *width)
                reasons.append(f"{name}: {reason}")
            why = "; ".join(reasons)
        traded = {name: held[name] - before[name] for name in self.hedges}
        value = {name: quotes[name] * self.multiplier[name] for name in self.hedges}
        cost = turnover = 0.0
        for name in (name for name in self.hedges if traded[name]):  # the others may have no price
            shares, money = abs(traded[name]), abs(traded[name] * value[name])
            cost += shares * self.cost.of_one(quotes[name], self.multiplier[name])
            turnover += money
            self.turnover[name] += money
            self.turnover_shares[name] += shares
        self.moves, self.held, self.costs = moves, held, self.costs + cost
        self._at, self._before = at, start
        rounding = {name: held[name] - wanted[name] for name in self.hedges}
        return Orders(
            at=at,
            position=self.position,
            wanted=wanted,
            before=before,
            traded=traded,
            held=dict(held),
            rounding=rounding,
            rounding_value={name: rounding[name] * value[name] for name in self.hedges},
            cost=cost,
            turnover=turnover,
            why=why,
        )

    def wanted(self, beta: Mapping[str, float], prices: Mapping[str, float]) -> dict[str, float]:
        """Real-valued shares (contracts) of every hedge at these ratios and prices."""
        position = self.position * self.multiplier[self.target]
        shares = hedge_shares(
            beta, prices, target=self.target, transform=self.transform, position=position
        )
        return {name: shares[name] / self.multiplier[name] for name in self.hedges}

    def check(self, tick: Tick) -> None:
        """Raise unless a tick is of the tickers and the transform of this book."""
        if getattr(tick, "names", ()):  # which one of a pair never has
            raise ValueError(
                f"the tick is of a board: pass that of one pair, tick.of({tick.names[0]!r})"
            )
        mine = (self.target, *self.hedges)
        # one that is made by hand may do without both
        its, transform = getattr(tick, "tickers", mine), getattr(tick, "transform", self.transform)
        if its[0] != self.target or set(its) != set(mine):
            raise ValueError(
                f"the tick at {tick.at} is of {', '.join(its)}, the book of {', '.join(mine)}: make it "
                "with fit.book(position=...)"
            )
        if transform != self.transform:
            raise ValueError(
                f'the tick at {tick.at} is of a fit with the transform "{transform}", the book reads '
                f'its ratios as those of "{self.transform}": make it with fit.book(position=...)'
            )

    def quotes(self, prices: Mapping[str, float], at: object) -> dict[str, float]:
        """Prices of all legs as floats, NaN where there is none; raises what `act` raises."""
        found: dict[str, float] = {}
        if self.target not in prices:
            prices = by_text(prices)
        for name in (self.target, *self.hedges):
            if name not in prices:
                raise ValueError(f"no price of {name} at {at} (NaN means not observed)")
            price = found[name] = float(prices[name])
            if not (math.isnan(price) or self.transform.least < price < math.inf):
                raise ValueError(
                    f"{name} has the price {price:g} at {at}, which a {self.transform} transform "
                    "cannot take; pass NaN if there is none. The book is unchanged"
                )
        return found

    def rescale(self, *, target: float = 1.0, hedges: Mapping[str, float] | None = None) -> None:
        """Take in a split: divide the shares of every leg by its new price over the old one.

        Position, shares held, shares traded so far and the moves seen are converted to the new units,
        so that the split itself earns nothing. Before the first row in new prices call `rescale` of the
        filter, of this book and of its `Attribution`, with the same arguments.

        Lots stay what they were. A fraction of a lot, as in 451.5 shares of 301 after a 3-for-2 split,
        is held until the next trade, which ends at a whole lot; brokers pay for the fraction in cash,
        at about that price. A new unit of quotation (pence for pounds) is no split, as the number
        of shares stays: make a new book with another `multiplier`.

        Args:
            target: new price over old of the target; 0.5 after a 2-for-1 split.
            hedges: the same by ticker of the hedges.

        Raises:
            ValueError: a factor that is no positive number, or a ticker that is no hedge. The book is
                then as it was before.

        Example:
            >>> names = {"target": "KO", "hedges": ["PEP"], "transform": "log"}
            >>> book = HedgeBook(**names, position=1000, held={"PEP": -301})
            >>> book.rescale(target=0.5, hedges={"PEP": 2 / 3})
            >>> book.position, book.held
            (2000.0, {'PEP': -451.5})
        """
        of_target, factors = split_factors(self.target, self.hedges, target, hedges)
        self.position /= of_target
        self.held = {name: held / factors[name] for name, held in self.held.items()}
        self.turnover_shares = {n: done / factors[n] for n, done in self.turnover_shares.items()}
        self.moves, self._before = (
            {name: was.rescale(factors[name]) for name, was in seen.items()}
            for seen in (self.moves, self._before)
        )

    def adjust(self, shifts: Mapping[str, float]) -> None:
        """Take in a cash dividend, or a roll by difference: prices shift, and no share is gained.

        Before the first row in new prices call `adjust` of the filter, of this book and of its
        `Attribution`, which credits the dividend, with the same shifts.

        Args:
            shifts: new price minus old by ticker, in points: minus the dividend of a share.

        Raises:
            ValueError: a shift that is no number, or a ticker of no leg. The book is then as it was.

        Example:
            >>> book = HedgeBook(target="KO", hedges=["PEP"], transform="log", position=1000)
            >>> book.adjust({"KO": -0.42})
            >>> book.position
            1000.0
        """
        shifts = check_shifts(shifts, (self.target, *self.hedges))
        self.moves, self._before = (
            {name: was.adjust(shifts.get(name, 0.0)) for name, was in seen.items()}
            for seen in (self.moves, self._before)
        )

    def to_json(self) -> dict[str, Json]:
        """Everything needed to go on, as plain numbers, strings, lists and dicts, exact to the bit."""
        return {
            "format": FORMAT.name,
            "version": FORMAT.version,
            "target": self.target,
            "hedges": list(self.hedges),
            "transform": str(self.transform),
            "position": float(self.position),
            "band": asdict(self.band),
            "cost": asdict(self.cost),
            "lots": dict(self.lots),
            "multiplier": dict(self.multiplier),
            "held": dict(self.held),
            "turnover": dict(self.turnover),
            "turnover_shares": dict(self.turnover_shares),
            "costs": self.costs,
            "moves": {name: list(known) for name, known in self.moves.items()},
            "before": {name: list(known) for name, known in self._before.items()},
            "at": None if self._at is None else Moment.of(self._at).kept,
            "clock": self.clock and self.clock.to_json(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "HedgeBook":
        """The book of `to_json`; goes on exactly where that one stood.

        Raises:
            ValueError: not such a dict, or one of a newer version of kfmodels.
        """
        FORMAT.check(stored.get("format"), stored.get("version"))
        try:
            saving = stored["band"]["saving"]
            band = Band(stored["band"]["sds"], saving and Saving(**saving))
            named = ("target", "hedges", "transform", "position", "lots", "multiplier", "held")
            settings = {name: stored[name] for name in named}
            clock = stored.get("clock") and Clock.from_json(stored["clock"])
            book = cls(**settings, band=band, cost=Cost(**stored["cost"]), clock=clock)
            book.turnover = dict(stored["turnover"])
            book.turnover_shares = dict(stored["turnover_shares"])
            book.costs = stored["costs"]
            book.moves = {name: _Moves(*known) for name, known in stored["moves"].items()}
            before = stored.get("before", stored["moves"])  # older files say nothing of polls
            book._before = {name: _Moves(*known) for name, known in before.items()}
            book._at = stored.get("at")
        except (KeyError, TypeError) as error:
            raise ValueError(f"the stored hedge book is damaged: {error!r}") from error
        return book

    def _is_of_bar(self, at: Stamp | None) -> bool:
        """Whether a time is of the same bar as the last tick."""
        if at is None or self._at is None:
            return False
        if Moment.of(at).number == Moment.of(self._at).number:
            return True
        return self.clock is not None and self.clock.bar_of(at) == self.clock.bar_of(self._at)

    def _width(self, name: str, sd: float, price: float, variance: float) -> tuple[float, str]:
        """Width of the band of one hedge in shares, and what it comes from."""
        width = (self.band.sds * sd if self.band.sds else 0.0), "total sd"
        if self.band.saving is None:
            return width
        one = self.multiplier[name]
        pays = self.band.saving.width(self.cost.of_one(price, one), one**2 * variance)
        return max(width, (pays, "cost of a trade"))

    def _decide(self, name: str, wanted: float, width: float, kind: str) -> tuple[float, str]:
        """Shares to hold of one hedge, and why."""
        before, lot = self.held[name], self.lots[name]
        off = abs(before - wanted)
        about = f"{off:.6g} off the wanted {wanted:.6g}"
        if self.position and off <= width:
            return before, f"kept {before:.6g}, {about} and inside its band of {width:.3g} ({kind})"
        held = lot * round(wanted / lot)
        if held == before:
            return before, f"kept {before:.6g}, the nearest lot to the wanted {wanted:.6g}"
        did = f"{'bought' if held > before else 'sold'} {abs(held - before):.6g} to hold {held:.6g}, as"
        if not self.position:
            return held, f"{did} there is no position to hedge"
        return held, f"{did} {before:.6g} was {about} and outside its band of {width:.3g}"

    def _of_tick(self, part: str, tick: Tick) -> dict[str, float]:
        given = getattr(tick, part)
        if gone := [name for name in self.hedges if name not in given]:
            raise ValueError(f"the tick at {tick.at} has no {part} of {', '.join(gone)}")
        return {name: float(given[name]) for name in self.hedges}


def split_factors(
    target: str, names: tuple[str, ...], of_target: float, given: Mapping[str, float] | None
) -> tuple[float, dict[str, float]]:
    """New price over old of the target, and by name of every hedge; raises what `rescale` raises."""
    factors = check_factors(given or {}, names)
    of = check_factors({target: of_target}, (target,))[target]
    return of, dict.fromkeys(names, 1.0) | factors


def say_why_unread(tick: Tick, quotes: Mapping[str, float]) -> str:
    """Why a row cannot be acted on or booked; empty if it can."""
    if gone := [name for name, price in quotes.items() if math.isnan(price)]:
        return f"no price of {', '.join(gone)}"
    if not tick.observed:  # one that is made by hand may do without both of these
        opens, why = getattr(tick, "opens", False), getattr(tick, "reason", "")
        return "" if opens else f"the tick was not observed{why and ': ' + why}"
    return tick.reason if tick.gain == 0 else ""


def _not_numbers(beta: dict[str, float], sd: dict[str, float]) -> str:
    bad = [name for name in beta if not math.isfinite(beta[name]) or math.isnan(sd[name])]
    return f"the ratio to {', '.join(bad)} or its sd is not a number" if bad else ""


def _by_ticker(
    word: str, given: _Numbers | None, names: tuple[str, ...], default: float, least: float = 0.0
) -> dict[str, float]:
    given = given or {}
    for name, value in given.items():
        if name not in names or not least < value < math.inf:
            raise ValueError(
                f"HedgeBook: {word} of {name} cannot be {value}; it takes a number"
                f"{'' if least else ' above 0'} of each of {', '.join(names)}"
            )
    return {name: float(given.get(name, default)) for name in names}
