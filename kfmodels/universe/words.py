"""The legs of a hedge in words."""

import pandas as pd

from kfmodels.universe.history import LIGHT

_NAMED = 3


def name_legs(legs: pd.DataFrame) -> str:
    """The heaviest legs in words, against a target that is held."""
    if legs.empty:
        return "none yet"
    worth = legs.loc[legs["weight"] >= LIGHT]
    shown = (worth if len(worth) else legs).head(_NAMED)
    parts = []
    for verb, side in (("sell", shown["ratio"] > 0), ("buy", shown["ratio"] < 0)):
        listed = [f"{abs(ratio):.2f} {name}" for name, ratio in shown.loc[side, "ratio"].items()]
        parts += [f"{verb} {', '.join(listed)}"] if listed else []
    more = len(legs) - len(shown)
    return "; ".join(parts) + (f" and {more} more" if more else "")
