"""One net order list for positions in many assets: the cheapest hedge of them all in a few legs.

One file: the equation, the numbers it is solved in and the reasons for what is left alone belong
together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from kfmodels.live.costs import Cost
from kfmodels.universe.asked import (
    Bound,
    Money,
    Rules,
    amounts,
    check_hedges,
    check_number,
    covariance_of,
    number_of_legs,
    rules_of,
)
from kfmodels.universe.book_hedge import BookHedge, money
from kfmodels.universe.convex import Objective, minimise
from kfmodels.universe.legs import Limits, Search
from kfmodels.words.caller import explain_kinds

_RIDGE = 1e-12
"""Share of their mean variance added to every leg, so that two equal legs have one answer."""

_NOTHING = 1e-9
"""Share of the objective below which a leg adds nothing."""


@explain_kinds
def hedge_book(
    cov: pd.DataFrame,
    positions: Money,
    *,
    hedges: Sequence[str],
    held: Money | None = None,
    prices: Money | None = None,
    lots: Bound | None = None,
    days: float = 1.0,
    cost: float | Cost | Mapping[str, float | Cost] = 1.0,
    legs: int | None = None,
    least: Bound = 0.0,
    greatest: Bound = math.inf,
    short: bool | Sequence[str] = True,
    gross: float = math.inf,
    band: float = 0.01,
    risk_price: float | None = None,
) -> BookHedge:
    r"""Hedge all positions together in few liquid legs, at the least of risk and cost.

    With m the money in every asset, x the money wanted in the legs and h what is held there now, the
    orders x - h minimise

    $$J(x) = κ\, d \, (m + x)^⊤ Σ\, (m + x) + ∑_j c_j \, |x_j - h_j|,$$

    the variance of the hedged book over d days at the price $κ$, and the cost of the trades. Both
    are money. Without a cost, limit or band this is $x = -Σ_{HH}^{-1} Σ_{H·} m$.

    Unless `risk_price` says otherwise, $κ$ is 1 / sd of the positions over the d days. The
    unhedged book then costs its own sd, and a trade pays as long as it costs less than what it takes
    off: twice its saving in sd at first, less as the hedge becomes good. Money in thousands gives the
    same trades, and so does a book twice as large. Without any risk in the positions the sd is that of
    the legs held.

    For given legs the problem is convex and solved exactly. Legs are added while J falls, then
    exchanged one for another until none helps: over all sets of ten legs J is within 1 % of the least.

    A leg is left alone where moving it would hardly lower J: legs are left as they are held, the
    cheapest first, as long as all of them together raise J by less than `band` of it.

    Args:
        cov: covariance of one-day log moves, (assets, assets), tickers on both sides.
        positions: money by ticker, below 0 when short; at the same prices and in the same currency as
            all other money here. A position in one of `hedges` may be hedged by trading that leg.
        hedges: tickers of the legs allowed.
        held: money in the legs now, by ticker; not counted among the positions.
        prices: money of one share of every leg, in that same currency; adds the shares to the orders.
        lots: shares traded at a time, one number or one by ticker (others: any size). A leg may always
            be closed.
        days: d, the days until the next trade.
        cost: basis points of the money traded, or a `Cost`; one for all, or one by ticker.
        legs: how many legs may be held at most; None for no limit.
        least: money that a leg must have if it is used at all; one number or one by ticker.
        greatest: money that a leg may have at most; one number or one by ticker.
        short: whether the legs may be sold short, or which of them. A leg that may not be can still be
            sold as far as the positions are long in it.
        gross: money, long and short added, that the legs may have at most.
        band: share of J below which nothing is done.
        risk_price: $κ$, per money.

    Raises:
        ValueError: `cov` is not a DataFrame, not finite, not symmetric, not positive semi-definite or
            not of log moves, a ticker is unknown or named twice, a limit is negative or below another,
            no leg is allowed, lots or costs a share lack a price, or there is no risk at all.
        ArithmeticError: the covariance of the legs is so close to singular that no answer is exact.

    The moves are taken as small: a move of 1 in the log is money of 1. Sources: Anderson and Danthine
    (1981), Cross hedging, Journal of Political Economy 89, for x; Lobo, Fazel and Boyd (2007),
    Portfolio optimization with linear and fixed transaction costs, Annals of Operations Research 152,
    for costs and the number of legs.

    Example:
        >>> cov = pd.DataFrame([[4.0, 3.0], [3.0, 3.0]], ["XLE", "SPY"], ["XLE", "SPY"]) * 1e-4
        >>> hedge = hedge_book(cov, {"XLE": 1_000_000}, hedges=["SPY"], prices={"SPY": 200.0}, lots=1)
        >>> print(hedge)
        sd of the book a day  20,000  positions alone
                              20,000  with the legs held now
                              10,000  after the trades: 75.0 % of the variance less
        cost of the trades      99.7  the risk counts over 1 day
        All money is in the one currency of the positions.
        <BLANKLINE>
             held    wanted     trade  shares  sd without
        SPY     0  -996,600  -996,600  -4,983      20,000
    """
    cov = covariance_of(cov)
    names = check_hedges(hedges, cov)
    everyone = list(cov.columns)
    own = amounts(
        "positions",
        positions,
        everyone,
        "in cov: estimate cov with it, or leave it out of the positions",
    )
    now = amounts(
        "held",
        {} if held is None else held,
        names,
        "among the hedges: allow it there, or count it among the positions",
    )
    check_number("days", days, positive=True)
    check_number("band", band)
    if not gross >= 0:
        raise ValueError(f"gross is {gross}: give 0 or more")
    if risk_price is not None:
        check_number("risk_price", risk_price, positive=True)
    rules = rules_of(
        names, prices=prices, lots=lots, cost=cost, least=least, greatest=greatest, short=short
    )
    at = np.array([everyone.index(name) for name in names])
    book = _Book(names, cov.to_numpy(), own, at, now, rules, days, gross, risk_price, band)
    return book.hedge(number_of_legs(legs, len(names)))


@dataclass(frozen=True, eq=False)
class _Book:
    """The numbers of one call: `at` says where the legs stand among all assets."""

    names: list[str]
    cov: np.ndarray
    own: np.ndarray
    at: np.ndarray
    held: np.ndarray
    rules: Rules
    days: float
    gross: float
    risk_price: float | None
    band: float

    def sd(self, x: np.ndarray) -> float:
        """sd a day with money x in the legs."""
        whole = self.own.copy()
        whole[self.at] += x
        return math.sqrt(max(whole @ self.cov @ whole, 0.0))

    def unit(self) -> float:
        """sd over all days of the positions, or of the legs where the positions have none."""
        sd = self.sd(np.zeros(len(self.at))) or self.sd(self.held)
        if not sd > 0:
            raise ValueError(
                "neither the positions nor the legs held have any variance: give at least one position"
            )
        return sd * math.sqrt(self.days)

    def search(self, unit: float, legs: int) -> Search:
        """The objective in money of one `unit`, and the limits in the same."""
        price = self.days * unit * (1 / unit if self.risk_price is None else self.risk_price)
        own, rules, n = self.own / unit, self.rules, len(self.at)
        curve = 2 * price * self.cov[np.ix_(self.at, self.at)]
        objective = Objective(
            level=float(price * own @ self.cov @ own),
            slope=2 * price * (self.cov @ own)[self.at],
            curve=curve + _RIDGE * np.trace(curve) / n * np.eye(n),
            cost=rules.cost,
            held=self.held / unit,
            gross=self.gross / unit,
        )
        long = np.maximum(own[self.at], 0.0)
        low = np.where(
            rules.short, -rules.greatest / unit, -np.minimum(rules.greatest / unit, long)
        )
        return Search(objective, Limits(low, rules.greatest / unit, rules.least / unit, legs))

    def hedge(self, legs: int) -> BookHedge:
        unit = self.unit()
        search = self.search(unit, legs)
        side = search.best()
        idle = search.leave(side, self.band)
        pins = {j: float(search.objective.held[j]) for j in idle}
        lots = self.lot_money() / unit
        x = search.round(side, pins, lots)
        wanted = self.exact(x, unit, lots)
        trade = wanted - self.held
        orders = pd.DataFrame(
            {"held": self.held, "wanted": wanted, "trade": trade},
            pd.Index(self.names, name="ticker"),
        )
        orders["cost"] = np.abs(trade) * self.rules.cost
        if self.rules.prices is not None:
            orders["shares"] = trade / self.rules.prices
        if self.rules.lots is not None and self.rules.prices is not None:
            sizes = np.where(self.rules.lots > 0, self.rules.lots, np.nan)
            orders["lots"] = orders["shares"] / sizes
        orders[["sd_without", "worth"]] = self.without(search, side, pins, x, unit)
        objective = search.objective.at(wanted / unit) * unit
        still = np.flatnonzero(trade == 0).tolist()
        return BookHedge(
            orders=orders.loc[(wanted != 0) | (self.held != 0)],
            left={self.names[j]: self.reason(search, side, idle, j, x, unit) for j in still},
            unhedged=self.sd(np.zeros(len(self.at))),
            now=self.sd(self.held),
            after=self.sd(wanted),
            cost=float(np.abs(trade) @ self.rules.cost),
            objective=objective,
            risk_price=1 / unit if self.risk_price is None else self.risk_price,
            days=self.days,
        )

    def lot_money(self) -> np.ndarray:
        """Money of one lot of each leg, 0 for any size."""
        if self.rules.lots is None or self.rules.prices is None:
            return np.zeros(len(self.at))
        return self.rules.lots * self.rules.prices

    def exact(self, x: np.ndarray, unit: float, lots: np.ndarray) -> np.ndarray:
        """Money wanted, with what is left alone, closed or in whole lots free of rounding errors."""
        held = self.held / unit
        counts = np.round((x - held) / np.where(lots > 0, lots, math.inf))
        whole = np.where(lots > 0, self.held + counts * self.lot_money(), x * unit)
        return np.select([x == held, x == 0], [self.held, np.zeros(len(x))], whole)

    def without(
        self, search: Search, side: np.ndarray, pins: dict[int, float], x: np.ndarray, unit: float
    ) -> np.ndarray:
        """sd a day without each leg in use, and by how much the objective rises, shape (n, 2)."""
        table = np.full((len(x), 2), math.nan)
        base = search.fix(side, pins)
        assert base is not None
        for j in np.flatnonzero(x).tolist():
            if found := search.fix(side, pins | {j: 0.0}, base[1]):
                table[j] = self.sd(found[1] * unit), (found[0] - base[0]) * unit
        return table

    # -- reasons -----------------------------------------------------------------------------------

    def reason(
        self,
        search: Search,
        side: np.ndarray,
        idle: dict[int, float],
        j: int,
        x: np.ndarray,
        unit: float,
    ) -> str:
        """Why leg j is not traded."""
        best = search.solve(side)
        assert best is not None
        kept = "opening it" if self.held[j] == 0 else f"held at {money(self.held[j])}, moving it"
        if j in idle:
            gain, width = _percent(idle[j], best[0]), f"{100 * self.band:g} %"
            return f"{kept} would lower the objective by {gain}, inside the band of {width}"
        if best[1][j] != search.objective.held[j]:
            lot = money(float(self.lot_money()[j]))
            return f"the {money(best[1][j] * unit)} wanted round to no trade in lots of {lot}"
        if self.held[j]:
            return f"{kept} would cost more than it saves"
        if not search.limits.sides(j):
            return "its limits leave no room for it"
        return self.unused(search, side, j, best, unit)

    def unused(
        self, search: Search, side: np.ndarray, j: int, best: tuple[float, np.ndarray], unit: float
    ) -> str:
        """Why leg j is not among the legs."""
        limits, objective = search.limits, search.objective
        any_size = limits.least.copy()
        any_size[j] = 0.0
        less, more = side.copy(), side.copy()
        less[j], more[j] = 0, 1
        boxes = [replace(limits, least=any_size).box(sides) for sides in (less, more)]

        def saved(gross: float) -> float:
            freed = replace(objective, gross=gross)
            before, after = (minimise(freed, *box) for box in boxes)
            return 0.0 if before is None or after is None else before[0] - after[0]

        if saved(math.inf) <= _NOTHING * best[0]:
            slope = objective.slope[j] + objective.curve[j] @ best[1]
            if not self.rules.short[j] and slope > objective.cost[j]:
                return "only selling it short would help"
            saves, costs = (round(1e4 * rate, 3) for rate in (abs(slope), objective.cost[j]))
            return (
                f"beside the other legs a trade in it takes off {saves:.3g} bp of its money in risk "
                f"and costs {costs:.3g} bp"
            )
        gain = saved(objective.gross)
        if gain <= _NOTHING * best[0]:
            return f"the gross of {money(self.gross)} is better used by the other legs"
        if np.count_nonzero(side) >= limits.legs:
            count = f"{limits.legs} {'leg' if limits.legs == 1 else 'legs'}"
            return (
                f"as one leg more it would lower the objective by {_percent(gain, best[0])}: the limit "
                f"of {count} stands against it"
            )
        return f"its least of {money(float(self.rules.least[j]))} is more than it is worth"


def _percent(part: float, whole: float) -> str:
    return f"{100 * max(part, 0.0) / whole:.2g} %" if whole else "nothing"
