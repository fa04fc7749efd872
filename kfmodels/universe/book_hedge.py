"""The hedge of a book as its desk reads it: the orders, what they leave, and what was not worth it."""

from collections.abc import Hashable
from dataclasses import dataclass
from textwrap import fill

import pandas as pd

_WIDTH = 80
"""Columns of a terminal."""

_SHOWN = 8
"""Legs left alone that are printed; `left` has them all."""


def money(amount: float) -> str:
    """Money with thousands apart, three digits where it is small.

    Example:
        >>> money(-1234567.8), money(0.012345), money(0.0)
        ('-1,234,568', '0.0123', '0')
    """
    return f"{amount:,.0f}" if abs(amount) >= 1000 or amount == 0 else f"{amount:.3g}"


def shares(count: float) -> str:
    """A number of shares, to seven digits: a fraction is there because no lots were given.

    Example:
        >>> shares(-4983.0), shares(4983.27451), shares(0.00123), shares(0.0)
        ('-4,983', '4,983.275', '0.00123', '0')
    """
    if abs(count) >= 1e9:
        return f"{count:.7g}"
    near = (d for d in range(9) if abs(round(count, d) - count) <= 1e-7 * abs(count))
    return f"{count:,.{next(near, 9)}f}"


def number_texts(orders: pd.DataFrame) -> pd.DataFrame:
    """The orders as they are read: whole money, shares to seven digits, nothing for NaN."""
    texts = {
        name: [
            "" if value != value else (shares if name in ("shares", "lots") else money)(value)
            for value in orders[name].tolist()
        ]
        for name in orders
    }
    return pd.DataFrame(texts, orders.index)


@dataclass(frozen=True, eq=False)
class BookHedge:
    """The net orders that hedge a book, in the one currency its positions are given in.

    Attributes:
        orders: by ticker of each leg held or wanted: `held`, `wanted` and `trade` in money (sold below
            0), `cost` of the trade in money; `shares` traded where prices were given and `lots` where
            lots were; `sd_without`, money a day, of the book hedged without that leg, the other legs in
            use solved again, and `worth`, money, by which the objective would then rise (both before
            rounding to lots, NaN of a leg that is closed).
        left: why each allowed leg that is not traded is left alone, by ticker.
        unhedged: sd of the positions, money a day.
        now: the same with the legs held now.
        after: the same with the legs wanted.
        cost: of all trades, money.
        objective: the risk priced and the cost, money; see `hedge_book`.
        risk_price: price of one unit of variance, per money.
        days: the days over which the risk is counted.
    """

    orders: pd.DataFrame
    left: dict[str, str]
    unhedged: float
    now: float
    after: float
    cost: float
    objective: float
    risk_price: float
    days: float

    @property
    def removed(self) -> float:
        """Share of the variance of the positions that the wanted legs remove; NaN without positions."""
        return 1.0 - (self.after / self.unhedged) ** 2 if self.unhedged else float("nan")

    @property
    def trades(self) -> pd.Series:
        """Money to trade by ticker, without the legs left as they are."""
        return self.orders.loc[self.orders["trade"] != 0, "trade"]  # pyright: ignore[reportReturnType]

    @property
    def why(self) -> list[str]:
        """What the orders do, leg by leg, and why the others are left alone; a sentence each."""
        now = f", {money(self.now)} with the legs held now" if self.now != self.unhedged else ""
        said = [
            f"The positions move by {money(self.unhedged)} a day (one sd){now}; with the legs wanted "
            f"by {money(self.after)}{self._share()}."
        ]
        for ticker, row in self.orders.loc[self.trades.index].to_dict("index").items():
            side = "Sell" if row["trade"] < 0 else "Buy"
            said.append(f"{side} {money(abs(row['trade']))} {ticker}{_use(row)}.")
        if not len(self.trades):
            said.append("Nothing is traded.")
        return said + [f"{ticker}: {reason}." for ticker, reason in self.left.items()]

    def _share(self) -> str:
        if not self.unhedged:
            return ""
        if self.removed < 0:
            return ", more than without any leg"
        return f", {100 * self.removed:.1f} % of the variance less"

    def __str__(self) -> str:
        share = self._share().replace(",", ":", 1)
        numbers = [_number(one) for one in (self.unhedged, self.now, self.after, self.cost)]
        width = max(map(len, numbers))
        names = ["sd of the book a day", "", "", "cost of the trades"]
        said = ["positions alone", "with the legs held now", f"after the trades{share}"]
        said.append(f"the risk counts over {self.days:g} {'day' if self.days == 1 else 'days'}")
        lines = [
            f"{name:<20}  {number:>{width}}  {text}"
            for name, number, text in zip(names, numbers, said, strict=True)
        ]
        lines.append("All money is in the one currency of the positions.")
        lines += ["", *self._table()] if len(self.orders) else ["", "No leg is held or wanted."]
        idle = [(ticker, reason) for ticker, reason in self.left.items()]
        if idle:
            lines += ["", "Not traded"]
        for ticker, reason in idle[:_SHOWN]:
            lines += fill(f"{ticker}: {reason}", _WIDTH, subsequent_indent="  ").split("\n")
        if len(idle) > _SHOWN:
            lines.append(f"and {len(idle) - _SHOWN} more: see .left")
        return "\n".join(lines)

    def _table(self) -> list[str]:
        shown = {"held": "held", "wanted": "wanted", "trade": "trade", "shares": "shares"}
        shown |= {"sd_without": "sd without"}
        names = [name for name in shown if name in self.orders]
        biggest = self.orders[["held", "wanted", "trade"]].abs().to_numpy().max()
        unit, called = next(
            ((unit, called) for unit, called in _UNITS if biggest < 1e9 * unit), _UNITS[-1]
        )
        texts = [[shown[name] for name in names]]
        for row in self.orders.to_dict("index").values():
            texts.append(
                [
                    shares(row[name]) if name == "shares" else _number(row[name] / unit)
                    for name in names
                ]
            )
        labels = [called, *(_short(str(ticker)) for ticker in self.orders.index)]
        widths = [max(len(row[i]) for row in texts) for i in range(len(names))]
        first = max(map(len, labels))
        return [
            label.ljust(first)
            + "".join(f"  {text:>{width}}" for text, width in zip(row, widths, strict=True))
            for label, row in zip(labels, texts, strict=True)
        ]


_UNITS = [(1.0, ""), (1e3, "thousands"), (1e6, "millions"), (1e9, "billions"), (1e12, "trillions")]


def _number(value: float) -> str:
    if value != value:
        return ""
    return money(value) if abs(value) < 1e9 else f"{value:.4g}"


def _short(ticker: str) -> str:
    return ticker if len(ticker) <= 16 else ticker[:15] + "…"


def _use(row: dict[Hashable, float]) -> str:
    """What a leg is there for."""
    if row["wanted"] == 0:
        return f": the {money(row['held'])} held are not needed any more"
    return (
        f", to {money(row['wanted'])}: without it the sd would be {money(row['sd_without'])} a day"
    )
