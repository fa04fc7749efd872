"""What a hedged position earned and why: its profit and loss in columns that add up.

One file: the columns must add up, so they are computed in one place.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (pandas has no complete types of its own)

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from kfmodels.clock.instants import Stamp, read_rows
from kfmodels.kalman.transforms import LEVEL, LOG, RETURN, Transform
from kfmodels.live.book import HedgeBook, Orders, hedge_shares, say_why_unread, split_factors
from kfmodels.live.signals import Signal, tick_of
from kfmodels.online.splits import check_shifts, turn_into_factors
from kfmodels.online.ticks import Tick

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("spread", "hedge_ratio_error", "drift", "convexity", "rounding", "cost")
"""The columns that add up to `pnl`."""


@dataclass(frozen=True, slots=True)
class Attributed:
    """Profit and loss of one row in currency, and its parts; see `Attribution`.

    `pnl` is that of the shares held, less the costs, worked out from prices alone; `spread`,
    `hedge_ratio_error`, `drift`, `convexity`, `rounding` and `cost` add up to it. `unhedged` is the
    target's own. `bars` is how many rows the move took: 0 where nothing is booked, 2 after one gap.
    """

    at: Stamp | None
    bars: int
    unhedged: float
    spread: float
    hedge_ratio_error: float
    drift: float
    convexity: float
    rounding: float
    cost: float
    pnl: float


class _Row(NamedTuple):
    """A complete row: the coefficients of the fair value, the prices, and what was held afterwards."""

    alpha: float
    beta: dict[str, float]
    quotes: dict[str, float]
    orders: Orders


class Attribution:
    r"""Running account of what the shares of a `HedgeBook` earned, divided by cause.

    From one complete row to the next, n units of the target and $h_j$ of the hedges, held since the row
    before, earn $n Δy + ∑_j h_j Δx_j$ less the cost of the trades. With the filtered
    intercept a and ratios b, $F_t(x) = a_t + b_t^⊤ x$ on levels, and $y_t = F_t(x_t) + s_t$:

    $$Δy = \underbrace{F_{t-1}(x_t) - F_{t-1}(x_{t-1})}_{\text{hedged}}
    + \underbrace{F_t(x_{t-1}) - F_{t-1}(x_{t-1})}_{\text{drift}}
    + \underbrace{(b_t - b_{t-1})^⊤ Δx}_{\text{hedge-ratio error}}
    + \underbrace{Δs}_{\text{spread}}$$

    On logs the same holds for $F_t(x) = \exp(a_t + b_t^⊤ \log x + u_{t-1})$, u the log spread:
    $b P_y / P_x$ shares keep the relative spread of the row before, so `spread` is what the change of u
    was worth. The hedge-ratio error is again the cross difference of F, and `convexity` is what the
    hedge, linear in x, leaves of $F_{t-1}(x_t) - F_{t-1}(x_{t-1})$. On returns
    $F_t(x) = P_{t-1} (1 + a_t + b_t^⊤ r)$ starts from the last price: `drift` is $P_{t-1} a_t$ and
    `spread` the residual of the row.

    `rounding` is the move of the hedges times the shares held beyond those wanted a row before (whole
    lots, the band, a row not acted on). `cost`, negative, is that of the trades at this row.

    The sum of spread, drift and hedge-ratio error is the move that the hedge did not offset. How it
    divides depends on the filter: one with a fast intercept calls nearly all of it drift.

    A row with a price missing, or not learnt from, books its cost only; the whole move is booked at the
    next complete row. So does the first complete row.

    Source: the accounting identity above; that P&L must come from shares held and not from a spread
    under moving ratios: Chan (2013), Algorithmic Trading, chapter 3.

    Example:
        >>> from types import SimpleNamespace
        >>> seen = {"observed": True, "gain": 0.1, "sd_total": {"X": 0.0}}
        >>> book = HedgeBook(target="Y", hedges=["X"], transform="level", position=100)
        >>> account = Attribution(book)
        >>> for at, alpha, beta, y, x in [(0, 1.0, 0.5, 11.0, 20.0), (1, 1.0, 0.6, 14.0, 22.0)]:
        ...     tick = SimpleNamespace(at=at, alpha=alpha, beta={"X": beta}, **seen)
        ...     prices = {"Y": y, "X": x}
        ...     row = account.add(tick, prices, orders=book.act(tick, prices))
        >>> [round(part, 3) for part in (row.spread, row.hedge_ratio_error, row.drift, row.cost)]
        [-20.0, 20.0, 200.0, -0.072]
        >>> round(row.pnl, 3), row.unhedged
        (199.928, 300.0)
    """

    def __init__(self, book: HedgeBook) -> None:
        self.target, self.hedges, self.transform = book.target, book.hedges, book.transform
        self.multiplier = dict(book.multiplier)
        self._check, self._quotes = book.check, book.quotes
        self._last: _Row | None = None
        self._bars = 0
        self._rows: list[Attributed] = []

    def add(
        self, tick: Tick | Signal, prices: Mapping[str, float], *, orders: Orders
    ) -> Attributed:
        """Book one row, once `HedgeBook.act` has answered it with `orders`.

        Raises:
            ValueError: a tick of another pair or transform, a price that cannot be, orders of another
                time, a position or shares that changed at a row without all prices, where their gain
                cannot be told, or shares that changed between two rows. Nothing is then booked.
        """
        self._check(tick := tick_of(tick))
        at, last = tick.at, self._last
        if orders.at != at:
            raise ValueError(f"the orders are of {orders.at}, the tick of {self.target} of {at}")
        # shares that changed in between earned something that no row accounts for
        if last and orders.before != last.orders.held:
            raise ValueError(
                f"the book held {last.orders.held} after its last trade, but {orders.before} before "
                f"that of {at}: after a split call rescale of both, the book and its account"
            )
        quotes = self._quotes(prices, at)
        alpha, beta = float(tick.alpha), {name: float(tick.beta[name]) for name in self.hedges}
        skipped = say_why_unread(tick, quotes)
        if not (skipped or math.isfinite(sum(beta.values(), alpha))):
            skipped = "the intercept or a ratio is not a number"
        if skipped:
            if last and (orders.position, orders.held) != (last.orders.position, last.orders.held):
                raise ValueError(
                    f"the position in {self.target} or its hedge {', '.join(self.hedges)} changed at "
                    f"{at}, a row that cannot be booked: {skipped}"
                )
            row = _nothing(at, orders.cost)
            self._bars += 1
        else:
            now = _Row(alpha, beta, quotes, orders)
            row = _nothing(at, orders.cost) if last is None else self._booked(at, last, now)
            self._last, self._bars = now, 0
        self._rows.append(row)
        return row

    def rescale(self, *, target: float = 1.0, hedges: Mapping[str, float] | None = None) -> None:
        """Take in a split: convert the last row to new units, so that the next can be booked.

        What is booked already is money and stays. Takes and raises what `HedgeBook.rescale` does; call
        both before the first row in new prices.
        """
        of_target, factors = split_factors(self.target, self.hedges, target, hedges)
        last = self._last
        if last is None:
            return
        alpha, beta = last.alpha, last.beta
        if self.transform == LEVEL:
            alpha = alpha * of_target
            beta = {name: ratio * of_target / factors[name] for name, ratio in beta.items()}
        elif self.transform == LOG:
            moved = {name: math.log(factor) for name, factor in factors.items()}
            alpha = alpha + math.log(of_target) - _inner(beta, moved)
        by = {self.target: of_target, **factors}
        orders = replace(
            last.orders,
            position=last.orders.position / of_target,
            held={name: held / factors[name] for name, held in last.orders.held.items()},
        )
        quotes = {name: price * by[name] for name, price in last.quotes.items()}
        self._last = _Row(alpha, beta, quotes, orders)

    def adjust(self, shifts: Mapping[str, float]) -> float:
        """Take in a cash dividend, or a roll by difference: the shift of the price is no loss.

        The last row is converted to the new prices, so that the next one earns the move beyond the
        shift: shares times the dividend are credited on the ex-day, to the target in `unhedged` as
        well. Call it with `HedgeBook.adjust`, before the first row in new prices.

        Args:
            shifts: new price minus old by ticker, in points: minus the dividend of a share.

        Returns:
            What is credited so, in currency: the sum of minus the shift times the shares held. A short
            leg pays. 0 before the first complete row.

        Raises:
            ValueError: a shift that is no number, a ticker of no leg, or (log, return) a price that
                would not stay above 0. The account is then as it was.

        Example:
            >>> from types import SimpleNamespace
            >>> names = {"target": "KO", "hedges": ["PEP"], "transform": "level"}
            >>> book = HedgeBook(**names, position=1000)
            >>> account, prices = Attribution(book), {"KO": 60.0, "PEP": 180.0}
            >>> seen = {"observed": True, "gain": 0.1, "sd_total": {"PEP": 0.0}, "reason": ""}
            >>> tick = SimpleNamespace(at=0, alpha=0.0, beta={"PEP": 0.3}, **seen)
            >>> row = account.add(tick, prices, orders=book.act(tick, prices))
            >>> account.adjust({"KO": -0.5, "PEP": -1.0})  # 1000 long earn 500, 300 short pay 300
            200.0
        """
        shifts = check_shifts(shifts, (self.target, *self.hedges))
        last = self._last
        if last is None:
            return 0.0
        factors, alpha = {}, last.alpha
        if self.transform != LEVEL:
            factors = turn_into_factors(shifts, last.quotes)
        if self.transform == LEVEL:
            hedged = {name: shifts.get(name, 0.0) for name in last.beta}
            alpha += shifts.get(self.target, 0.0) - _inner(last.beta, hedged)
        elif self.transform == LOG:
            moved = {name: math.log(factors.get(name, 1.0)) for name in last.beta}
            alpha += math.log(factors.get(self.target, 1.0)) - _inner(last.beta, moved)
        quotes = {name: price + shifts.get(name, 0.0) for name, price in last.quotes.items()}
        self._last = last._replace(alpha=alpha, quotes=quotes)
        shares = {self.target: last.orders.position, **last.orders.held}
        return -math.fsum(
            shares[name] * self.multiplier[name] * shift for name, shift in shifts.items()
        )

    def table(self) -> "pd.DataFrame":
        """All rows by `at`, with their sums in a last row "total"; the columns of `Attributed`."""
        import pandas as pd

        table = self._frame()
        table.index = table.index.astype(object)  # dates and the word "total" in one index
        total = table.sum().to_frame("total").T
        whole = pd.concat([table, total]).rename_axis(index="at")
        return whole.astype({"bars": int})

    def by_day(self) -> "pd.DataFrame":
        """Sums by calendar day in the time zone of the ticks; the columns of `Attributed`.

        Times as text, such as those of a `LiveFilter`, count on the date that they show.

        Raises:
            ValueError: the ticks have numbers for times.
        """
        import pandas as pd

        table = self._frame()
        if all(isinstance(at, str) for at in table.index):
            shown = read_rows(list(table.index)).shown
            table.index = pd.DatetimeIndex(shown.view("datetime64[ns]"), name="at")
        if not isinstance(table.index, pd.DatetimeIndex):
            raise ValueError(
                f"the rows of {self.target} are labelled {list(table.index[:3])}, not with dates: "
                "give the filter at= times to sum by day"
            )
        return cast("pd.DataFrame", table.groupby(table.index.normalize()).sum())

    def variance_shares(self) -> "pd.Series":
        r"""Share of every column in the variance of `pnl`: Cov(column, pnl) / Var(pnl), sums to one.

        A column that works against the others has a negative share.

        Raises:
            ValueError: fewer than two rows are booked, or they all earned the same.

        Source: Euler's allocation, Tasche (1999), Risk contributions and performance measurement.
        """
        import pandas as pd

        pnl, _, parts = self._varied()
        shares = parts @ (pnl - pnl.mean()) / (pnl @ (pnl - pnl.mean()))
        return pd.Series(shares, pd.Index(COLUMNS, name="column"), name="share")

    def variance_removed(self) -> float:
        """1 - Var(pnl) / Var(unhedged) of the rows booked; raises what `variance_shares` raises."""
        pnl, unhedged, _ = self._varied()
        return float(1 - pnl.var() / unhedged.var())

    def reading(self) -> str:
        """The account in one line: variance removed, causes of the rest, money earned and its cost."""
        try:
            shares, removed = self.variance_shares(), self.variance_removed()
        except ValueError as error:
            return str(error)
        ordered = sorted(zip(COLUMNS, shares, strict=True), key=lambda part: -abs(part[1]))
        parts = ", ".join(f"{name.replace('_', ' ')} {share:z.1%}" for name, share in ordered)
        pnl = math.fsum(row.pnl for row in self._rows)
        costs = -math.fsum(row.cost for row in self._rows)
        names = ", ".join(self.hedges)
        return (
            f"{self.target} hedged with {names}: {removed:.1%} of the variance removed; "
            f"what is left: {parts}. Earned {pnl:,.2f} after costs of {costs:,.2f}."
        )

    def _booked(self, at: Stamp | None, last: _Row, now: _Row) -> Attributed:
        """The move from one complete row to the next."""
        size = last.orders.position * self.multiplier[self.target]
        y0, y1 = last.quotes[self.target], now.quotes[self.target]
        # the hedge of one unit of the target, whatever was held
        wanted = hedge_shares(
            last.beta, last.quotes, target=self.target, transform=self.transform, position=1.0
        )
        step = {name: now.quotes[name] - last.quotes[name] for name in self.hedges}
        money = {name: last.orders.held[name] * self.multiplier[name] for name in self.hedges}
        held = math.fsum(money[name] * step[name] for name in self.hedges)
        beyond = math.fsum((money[name] - size * wanted[name]) * step[name] for name in self.hedges)
        try:
            carried, bent, drift, crossed = _fair(self.transform, y0, last, now)
        except OverflowError as error:
            raise ValueError(
                f"fair value of {self.target} at {at} is beyond all numbers"
            ) from error
        return Attributed(
            at=at,
            bars=self._bars + 1,
            unhedged=size * (y1 - y0),
            spread=size * (y1 - y0 - carried - drift - crossed),
            hedge_ratio_error=size * crossed,
            drift=size * drift,
            convexity=size * bent,
            rounding=beyond,
            cost=-now.orders.cost,
            pnl=size * (y1 - y0) + held - now.orders.cost,
        )

    def _frame(self) -> "pd.DataFrame":
        import pandas as pd

        names = [field.name for field in fields(Attributed)]
        rows = [[getattr(row, name) for name in names] for row in self._rows]
        return pd.DataFrame(rows, columns=names).set_index("at")

    def _varied(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Of the rows booked: `pnl (row,)`, `unhedged (row,)` and the columns `(column, row)`."""
        names = ("pnl", "unhedged", *COLUMNS)
        rows = [[getattr(row, name) for name in names] for row in self._rows if row.bars]
        pnl, unhedged, *parts = np.array(rows).reshape(-1, len(names)).T
        if len(rows) < 2 or np.ptp(pnl) == 0 or np.ptp(unhedged) == 0:
            raise ValueError(
                f"no variance to divide yet: {len(rows)} rows of {self.target} are booked, without two "
                "that differ in what target and book earned"
            )
        return pnl, unhedged, np.array(parts)


def _fair(
    transform: Transform, price: float, last: _Row, now: _Row
) -> tuple[float, float, float, float]:
    """Moves of the fair value per unit of the target, which cost `price` a row before.

    By the hedges alone, the part of that which is not linear, by the coefficients alone, by both.
    """
    place, step = _VALUES[transform]
    x = {name: place(last.quotes[name]) for name in last.beta}
    moved = {name: step(now.quotes[name], last.quotes[name]) for name in last.beta}
    turned = {name: now.beta[name] - last.beta[name] for name in last.beta}
    # on returns the fair value of every row starts from the last price, whatever the last intercept
    alpha = now.alpha - (0.0 if transform == RETURN else last.alpha)
    carried, crossed = _inner(last.beta, moved), _inner(turned, moved)
    drift = math.fsum([alpha, *(turned[name] * x[name] for name in x)])
    if transform != LOG:
        unit = price if transform == RETURN else 1.0
        return unit * carried, 0.0, unit * drift, unit * crossed
    # each factor of the fair value less one, so that small moves keep their digits
    one, other, both = math.expm1(carried), math.expm1(drift), math.expm1(crossed)
    crossed = (1 + one) * (1 + other) * both + one * other
    returns = {name: now.quotes[name] / last.quotes[name] - 1 for name in x}
    bent = one - _inner(last.beta, returns)
    return price * one, price * bent, price * other, price * crossed


_VALUES: dict[str, tuple[Callable[[float], float], Callable[[float, float], float]]] = {
    LEVEL: (lambda price: price, lambda price, last: price - last),
    LOG: (math.log, lambda price, last: math.log(price / last)),
    RETURN: (lambda price: 0.0, lambda price, last: price / last - 1),
}
"""What the ratios multiply in the fair value of a row, and its change to the next row."""


def _inner(beta: Mapping[str, float], values: Mapping[str, float]) -> float:
    return math.fsum(ratio * values[name] for name, ratio in beta.items())


def _nothing(at: Stamp | None, cost: float) -> Attributed:
    return Attributed(at, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -cost, -cost)
