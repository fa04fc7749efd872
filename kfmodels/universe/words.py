"""The legs of a hedge as a table and in words."""

import numpy as np
import pandas as pd

from kfmodels.basket.settings import CHOOSER
from kfmodels.universe.engine import LiveBasket

SMALL = 0.02
"""Sd of what is held in a leg over that of the target, below which it is hardly worth trading: without
such legs .003 to .005 less variance is removed, and half as much is traded."""

_NAMED = 3


def sort_legs(basket: LiveBasket, place: int) -> pd.DataFrame:
    """Ratio, its sd and its weight of every leg of the target at a place, the heaviest first."""
    sd = basket.stand.moments.standardise()[1][CHOOSER]
    ratios, own = basket.ratios()[place], sd[basket.tickers.index(basket.names[place])]
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.abs(ratios) * sd / own
    columns = {"ratio": ratios, "sd": basket.sd()[place], "weight": weight}
    table = pd.DataFrame(columns, pd.Index(basket.tickers, name="hedge"))
    held = table.loc[table["ratio"].abs() > 0]
    return held.sort_values("weight", ascending=False, kind="stable")


def name_legs(legs: pd.DataFrame) -> str:
    """The heaviest legs in words, against a target that is held."""
    if legs.empty:
        return "none yet"
    worth = legs.loc[legs["weight"] >= SMALL]
    shown = (worth if len(worth) else legs).head(_NAMED)
    parts = []
    for verb, side in (("sell", shown["ratio"] > 0), ("buy", shown["ratio"] < 0)):
        listed = [f"{abs(ratio):.2f} {name}" for name, ratio in shown.loc[side, "ratio"].items()]
        parts += [f"{verb} {', '.join(listed)}"] if listed else []
    more = len(legs) - len(shown)
    return "; ".join(parts) + (f" and {more} more" if more else "")
