"""The hedge of every asset of a table of prices: which legs, how much of each, what it removes.

One file: a result and the call that makes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kfmodels.basket.basket import Basket
from kfmodels.basket.listing import LEG_FROM
from kfmodels.basket.settings import CHOOSER, FEW
from kfmodels.clock.clock import Clock
from kfmodels.clock.instants import Stamp
from kfmodels.data.checks import day
from kfmodels.data.repairs import Repair
from kfmodels.data.scales import complain, find_doubts
from kfmodels.kalman.transforms import LOG
from kfmodels.live.feed import LiveFilter
from kfmodels.universe.asked import Money
from kfmodels.universe.book_hedge import BookHedge
from kfmodels.universe.covariance import choose_hedges, estimate_covariance
from kfmodels.universe.history import History, measure_worth, run, stamps, sum_traded, weigh_legs
from kfmodels.universe.netting import hedge_book
from kfmodels.universe.reading import Tickers, read_table, tell_ended, tell_hours, tell_repeats
from kfmodels.universe.saved import UNIVERSE
from kfmodels.universe.take_over import take_over
from kfmodels.universe.words import name_legs
from kfmodels.words.caller import explain_kinds, warn
from kfmodels.words.shown import Shown


@explain_kinds
def hedge_universe(
    prices: pd.DataFrame,
    *,
    targets: Tickers | None = None,
    hedges: Tickers | None = None,
    legs: int | None = None,
    repair: Repair | None = None,
    clock: Clock | None = None,
    progress: bool = True,
) -> "HedgeUniverse":
    r"""Hedge every asset of a table with all others, or with the few best of them.

    $$y_t = β_t' x_t + e_t, \qquad β_t = ∑_k ω_{k,t} β_{k,t}, \qquad
    ω_{k,t} ∝ \Big(∏_{s<t} p_k(y_s)^{f^{t-s}}\Big)^{0.3}$$

    with y and x the log moves of a target and of its hedges. The $β_k$ come of discounted second
    moments on four memories (50 to 500 rows), each with several structures: best legs, ridges,
    correlations shrunk to factors; they are weighed by what they forecast. Every row is one update, and
    every ratio is known before the move it is held over. Hedges of the best leg and of the best three
    run beside it, to say what few legs would have removed.

    Args:
        prices: a column a ticker, a row a bar, sorted by date, in one currency. NaN is a gap, filled by
            its mean given the moves seen.
        targets: which to hedge. Default: every column.
        hedges: which may be legs. Default: every column.
        legs: at most as many legs for a target. Default: no limit.
        repair: what is wrong with the prices, as for `HedgeData.from_prices`.
        clock: of bars within the day. Moves are then weighed by the time of day, a night is one move of
            its own variance, and memories count days: see `kfmodels.basket.day`.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Raises:
        ValueError: a ticker that is no column or is named twice, a target without a hedge but itself,
            `legs` below 1, dates not sorted or not unique, a price that is no positive number, a
            ticker that never moves, fewer than 251 rows, most rows outside the sessions of the clock.
            The message says which and what to do.

    Warns:
        UserWarning: once, of all prices that are in doubt, with the `repair` that mends them, of those
            that ended before the last rows, and of rows within the day without a clock.

    Source: Raftery, Karny and Ettler (2010), Online prediction under model uncertainty via dynamic
    model averaging, Technometrics 52; West and Harrison (1997), Bayesian Forecasting and Dynamic
    Models, chapter 16.

    Example:
        >>> from kfmodels import datasets, hedge_universe
        >>> prices = datasets.etfs().loc[:"2010", ["SPY", "XLE", "XLB", "XLF", "TLT"]]
        >>> universe = hedge_universe(prices, targets=["XLE"])
        >>> universe
        HedgeUniverse(1 target, 5 hedges; 757 rows, 2008-01-02 .. 2010-12-31)
        >>> universe.ratios().round(1).loc["XLE"].to_dict()
        {'SPY': 1.0, 'XLE': 0.0, 'XLB': 0.3, 'XLF': -0.1, 'TLT': 0.0}
        >>> universe.worth.loc["XLE", ["best_1", "best_3", "removed"]].round(2).to_list()
        [0.79, 0.83, 0.84]
        >>> row = {"SPY": 127.0, "XLB": 38.8, "XLF": 13.0, "TLT": 94.0, "XLE": 68.5}
        >>> universe.forecast(row)[["lower", "fair", "upper"]].round(1).loc["XLE"].to_list()
        [68.6, 69.1, 69.5]
    """
    table, real, asked = read_table(prices, targets, hedges, repair)
    tickers = list(table.columns)
    basket = Basket(tickers, targets=asked[0], hedges=asked[1], legs=legs, clock=clock)
    if len(table) <= LEG_FROM:
        raise ValueError(
            f"the prices have {len(table)} rows, and an asset is a leg from {LEG_FROM} rows after its "
            f"first price on: give a history of more than {LEG_FROM} rows"
        )
    found = complain(table, LOG, real)
    over = [*tell_ended(table), *tell_hours(table.index, clock), *tell_repeats(table)]
    if found or over:
        warn("\n".join(filter(None, [found, *over])))
    same = [legs is not None and legs <= few for few in FEW]
    sizes = [few for few, equal in zip(FEW, same, strict=True) if not equal]
    rivals = [Basket(**basket.arguments() | {"legs": few, "standing": None}) for few in sizes]
    history = run(basket, rivals, table, progress)
    others = iter(rivals)
    few = [(basket if equal else next(others)).removed() for equal in same]
    return HedgeUniverse(
        basket=basket,
        span=(day(table.index[0]), day(table.index[-1])),
        rows=len(table),
        few=np.array(few),
        turnover=np.array([sum_traded(history.traded), sum_traded(history.traded_heavy)]),
        doubts=(*map(str, find_doubts(table, LOG, real)), *over),
        worth=measure_worth(history, list(basket.targets), same, basket.day.bars),
        prices=table,
        past=history,
    )


@dataclass(frozen=True, eq=False, repr=False)
class HedgeUniverse(Shown):
    """The hedges of a universe after a table of prices; `hedge_universe` makes it.

    Ratios are money of the hedge for one of the target, known after the last row and to be held over
    the next; a positive one is sold against a target that is held. A saved one that was loaded again
    has no `prices` and no `past`: what needs them says so.

    Args:
        basket: the engine after the last row; `online` copies it.
        span: first and last date, as text.
        rows: of the table.
        few: variance removed lately by the best few legs, `(few, target)`.
        turnover: money traded in hedges in the last 252 rows, against one of each target `(2, target)`:
            with all legs, and without those that hold less than .02 of its sd.
        doubts: what may be wrong with the prices, a sentence each.
        worth: by target, the share of its variance that was removed over all rows judged: `removed`,
            `heavy` without legs that hold less than .02 of its sd, `best_1` and `best_3` by the best
            single leg and the best three, the leads over them (`lead_1`, `lead_3`) with standard errors
            by blocks of 20 rows. A target's price that was held back is not judged, and a wild move
            that was taken for real counts as far as the limit of the guard: see `events`.
        prices: as used, repaired.
        past: what every row brought.
    """

    basket: Basket
    span: tuple[str, str]
    rows: int
    few: np.ndarray
    turnover: np.ndarray
    doubts: tuple[str, ...]
    worth: pd.DataFrame
    prices: pd.DataFrame | None = None
    past: History | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        return self.basket.targets

    @property
    def hedges(self) -> tuple[str, ...]:
        return self.basket.hedges

    def ratios(self) -> pd.DataFrame:
        """Ratios to hold over the next row, targets by hedges.

        0 on the target itself and for what is no leg now, NaN for a target that has no hedge yet.
        """
        return self._by_hedge(self.basket.ratios())

    def sd(self) -> pd.DataFrame:
        """Sd of every ratio, targets by hedges: within the experts, and between them."""
        return self._by_hedge(self.basket.sd())

    @explain_kinds
    def forecast(
        self, row: Mapping[str, float] | pd.Series, *, at: Stamp | None = None
    ) -> pd.DataFrame:
        """What the hedges' prices say of the targets; nothing is learnt.

        Args:
            row: prices by ticker; a hedge without one counts by its mean given those that are there,
                but for the target's own, which no forecast of it knows.
            at: time of the row, later than the last one and of its kind; a universe within the day
                needs it.

        Returns:
            By target: its `price` in the row, the `fair` one with the ends of its 90 % band (`lower`,
            `upper`), the `sd` of its log and `z`, how many of these the price is from the mean; NaN
            where there is no price, or no forecast yet.

        Raises:
            ValueError: no price at all, or one that is no positive number; a time that `online` would
                not take.
        """
        found = self.basket.forecast(row, at=at)
        given: dict[str, Any] = {str(name): value for name, value in dict(row).items()}
        price = np.array([float(given.get(name, np.nan)) for name in self.targets])
        lower, fair, upper = (found.price(level) for level in (0.05, 0.5, 0.95))
        z = (np.log(price / found.last) - found.mean) / found.sd
        columns = {"price": price, "fair": fair, "lower": lower, "upper": upper}
        return pd.DataFrame(columns | {"sd": found.sd, "z": z}, self._index())

    def table(self) -> pd.DataFrame:
        """A row a target.

        `legs` in words, the heaviest first; `removed`, `best_1`, `best_3`: share of the variance that
        was removed lately (memory of 100 rows) by the mixture, the best single leg and the best three;
        `memory`: mean memory of the experts in rows; the weight of each kind of structure
        (`legs_share`, `ridge_share`, ...); `turnover`: money traded in hedges in 252 rows, against one
        of the target.
        """
        basket, ratios = self.basket, self.basket.ratios()
        words = [name_legs(legs) for legs in self._legs()]
        shares = {f"{kind}_share": share for kind, share in basket.shares().items()}
        columns = {"legs": words, "removed": basket.removed()}
        columns |= {f"best_{few}": found for few, found in zip(FEW, self.few, strict=True)}
        columns |= {"memory": basket.memory(), **shares, "turnover": self.turnover[0]}
        table = pd.DataFrame(columns, self._index())
        table.loc[np.isnan(ratios).all(1), table.columns[1:]] = np.nan
        return table

    def weights(self) -> pd.DataFrame:
        """Sd of what is held in every leg over that of the target, with the sign of its ratio."""
        ratios = self.basket.ratios()
        return self._by_hedge(np.sign(ratios) * weigh_legs(self.basket, ratios))

    @explain_kinds
    def legs(self, target: str) -> pd.DataFrame:
        """The legs of one target, the heaviest first: `ratio`, its `sd`, `weight` and `alone`.

        The weight is the sd of what is held in the leg over that of the target; legs of less than .02
        are hardly worth trading. `alone` is the share of the variance that the leg would remove if it
        were the only one, by its correlation over a memory of 200 rows.

        Raises:
            ValueError: it is none of the targets.
        """
        if target not in self.targets:
            there = ", ".join(self.targets[:8])
            raise ValueError(f"{target} is not among the {len(self.targets)} targets: {there}")
        return self._legs()[self.targets.index(target)]

    def history(self, target: str) -> pd.DataFrame:
        """The ratios of one target by date, every fifth row (every 21st above 100 assets)."""
        self.legs(target)  # raises on an unknown name
        prices, past = self._past()
        ratios = past.ratios[:, self.targets.index(target)]
        found = pd.DataFrame(ratios, prices.index[past.kept], list(self.basket.tickers))
        return found.reindex(columns=[name for name in self.hedges if name != target])

    @explain_kinds
    def spreads(self, few: int | None = None) -> pd.DataFrame:
        """What the hedges left of every target's log move, by date; NaN where nothing was judged.

        Args:
            few: 1 or 3: what the best single leg would have left, or the best three.

        Raises:
            ValueError: another number of legs.
        """
        prices, past = self._past()
        if few not in (None, *FEW):
            raise ValueError(f"few is 1, 3 or left out, not {few}: for others there is by_legs")
        found = past.move - past.mean
        if few is not None and (self.basket.legs is None or few < self.basket.legs):
            found = past.left[FEW.index(few)]
        return pd.DataFrame(found, prices.index, list(self.targets))

    def moves(self) -> pd.DataFrame:
        """The log moves of the targets that were judged, by date."""
        prices, past = self._past()
        return pd.DataFrame(past.move, prices.index, list(self.targets))

    def events(self) -> pd.DataFrame:
        """Prices that were held back, or taken for real after they were: date, ticker, outcome, why."""
        prices, past = self._past()
        rows = [(prices.index[row], *rest) for row, *rest in past.events]
        return pd.DataFrame(rows, columns=["at", "ticker", "outcome", "reason"])

    @explain_kinds
    def by_legs(self, target: str, sizes: Sequence[int] = (1, 2, 3, 5, 8)) -> pd.Series:
        """Share of one target's variance removed with at most 1, 2, 3 ... legs, and with all.

        The table is run again for each, so that every ratio is known before the move it is held over;
        all are scored on the same rows.
        """
        prices, past = self._past()
        self.legs(target)
        place, tickers = self.targets.index(target), self.basket.tickers
        most = len(self.hedges) - (target in self.hedges)
        limit = most if self.basket.legs is None else min(self.basket.legs, most)
        left = {limit: (past.move - past.mean)[:, place]}
        for size in sizes:
            if size < limit:
                parts = {"targets": [target], "legs": size, "standing": None}
                few = Basket(**self.basket.arguments() | parts)
                each = zip(stamps(prices.index), prices.to_dict("records"), strict=True)
                ticks = [few.update(row, at=at) for at, row in each]
                left[size] = np.array([tick.spread[tickers.index(target)] for tick in ticks])
        judged = np.isfinite(np.stack(list(left.values()))).all(0)
        whole = (past.move[judged, place] ** 2).sum()
        found = {size: 1 - (part[judged] ** 2).sum() / whole for size, part in left.items()}
        return pd.Series(found, name=target).sort_index().rename_axis("legs")

    def book(
        self,
        positions: Money,
        *,
        hedges: Sequence[str] | None = None,
        held: Money | None = None,
        basket: Basket | None = None,
        **rules: Any,
    ) -> BookHedge:
        """One net order list for positions in many assets: see `kfmodels.universe.netting.hedge_book`.

        The covariance is that of the next row's log moves (`estimate_covariance`); money becomes shares
        at the last prices.

        Args:
            positions: money by ticker, below 0 when short.
            hedges: tickers of the legs allowed. Default: those of the universe that are legs now and
                have no position, and those held.
            held: money in the legs now, by ticker; not counted among the positions.
            basket: where the universe stands, such as `live.engine` after the morning's rows. Default:
                after the last row of the table.
            rules: of `hedge_book`: prices, lots, days, cost, legs, least, greatest, short, gross, band.

        Raises:
            ValueError: a position or a hedge is not in the universe, or too young; as `hedge_book`.

        Warns:
            UserWarning: of positions that have had no price for more than 5 rows.

        Example:
            >>> from kfmodels import datasets, hedge_universe
            >>> prices = datasets.etfs().loc["2014":"2015", ["SPY", "XLE", "XLB", "XLF", "TLT"]]
            >>> hedge = hedge_universe(prices).book({"XLE": 1e6, "XLF": -5e5}, hedges=["SPY", "XLB"])
            >>> hedge.trades.round(-4).to_dict()
            {'XLB': -680000.0}
            >>> hedge.left
            {'SPY': 'opening it would lower the objective by 0.89 %, inside the band of 1 %'}
        """
        now = self.basket if basket is None else basket
        allowed = choose_hedges(now, positions, hedges, held)
        rules = {"prices": now.last} | rules
        return hedge_book(estimate_covariance(now), positions, hedges=allowed, held=held, **rules)

    def online(self) -> Basket:
        """The basket as it stands after the last row; `update(prices, at=)` takes the next."""
        basket = Basket(**self.basket.arguments())
        basket.back(self.basket.mark())  # whose time is no text
        return basket

    @explain_kinds
    def go_live(self, **settings: Any) -> LiveFilter:
        """A live filter for a feed, unattended: bad prints, splits and missing prices are seen to.

        Args:
            settings: of `LiveFilter`: max_staleness, monitor, journal and so on; its clock is that of
                the universe unless another is given.

        Example:
            >>> from kfmodels import datasets, hedge_universe
            >>> prices = datasets.etfs().loc["2014":"2015", ["SPY", "DIA", "XLK"]]
            >>> with hedge_universe(prices).go_live() as live:
            ...     signal = live.tick({"SPY": 203.0, "DIA": 174.0, "XLK": 42.5}, at="2016-01-04")
            ...     held = live.engine.ratios()
            >>> print(signal.outcome, held.shape)
            accepted (3, 3)
        """
        return LiveFilter(self.online(), **settings)

    def take_over(self, live: LiveFilter) -> tuple[str, ...]:
        """Take the place of the universe that a live filter runs, with the rows that it has seen since.

        Returns a sentence for each asset that joins. In the journal it is one step: see
        `kfmodels.universe.take_over`, which says too what is refused.
        """
        return take_over(self.online(), live)

    def save(self, path: str | Path) -> None:
        """Write it as one JSON file, atomically, without prices and past; `kfmodels.load` reads it, and
        it goes on to the last bit. `kfmodels live` runs it."""
        worth = {name: self.worth[name].to_numpy(float) for name in self.worth}
        content = {"basket": self.basket, "span": self.span, "rows": self.rows, "few": self.few}
        content |= {"turnover": self.turnover, "doubts": self.doubts, "worth": worth}
        UNIVERSE.save(path, content)

    @classmethod
    def load(cls, path: str | Path) -> "HedgeUniverse":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is no saved universe, or comes from a newer version of kfmodels.
        """
        content = UNIVERSE.load(path)
        names = pd.Index(content["basket"].targets, name="target")
        worth = pd.DataFrame(content.pop("worth"), names)
        return cls(**content, worth=worth.astype({"rows": int}))

    def __str__(self) -> str:
        count = len(self.targets)
        limit = f", at most {self.basket.legs} legs" if self.basket.legs else ""
        whose = (
            f"HedgeUniverse({count} target{'s'[: count != 1]}, {len(self.hedges)} hedges{limit};"
        )
        when = f"{self.rows} rows, {' .. '.join(self.span)})"
        return f"{whose} {when}" if len(whose) + len(when) < 80 else f"{whose}\n    {when}"

    def _correlations(self) -> np.ndarray:
        """Of the targets with all assets, on the memory that legs are chosen on."""
        corr = self.basket.stand.moments.standardise()[0][CHOOSER]
        return corr[[self.basket.tickers.index(name) for name in self.targets]]

    def _legs(self) -> list[pd.DataFrame]:
        """Those of every target: the sds of all cost as much as those of one."""
        parts = {"ratio": self.ratios(), "sd": self.sd(), "weight": self.weights().abs()}
        parts["alone"] = self._by_hedge(self._correlations() ** 2)
        found: list[pd.DataFrame] = []
        for name in self.targets:
            table = pd.DataFrame({part: each.loc[name] for part, each in parts.items()})
            held = table.loc[table["ratio"].abs() > 0]
            found.append(held.sort_values("weight", ascending=False, kind="stable"))
        return found

    def _index(self) -> pd.Index:
        return pd.Index(self.targets, name="target")

    def _by_hedge(self, values: np.ndarray) -> pd.DataFrame:
        """Columns of assets that may be legs."""
        table = pd.DataFrame(values, self._index(), pd.Index(self.basket.tickers, name="hedge"))
        return table.reindex(columns=pd.Index(self.hedges, name="hedge"))

    def _past(self) -> tuple[pd.DataFrame, History]:
        if self.prices is None or self.past is None:
            raise ValueError(
                "a saved universe holds no past: run kf.hedge_universe on its prices again"
            )
        return self.prices, self.past
