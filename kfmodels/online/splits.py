"""Prices that are quoted in other units: how they are recognised, named, and given as a factor."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from numbers import Real

import numpy as np

from kfmodels.clock.instants import Stamp
from kfmodels.online.shocks import NONE, Hold, Verdict

_SPLITS = sorted(
    {Fraction(n) for n in (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)}
    | {Fraction(3, 2), Fraction(4, 3), Fraction(5, 4)}
)
BREAK = 1.75
"""A price that goes up or down by this factor may be quoted in another unit.

So does a split of 2 on a day on which the market moves the other way.
"""

_STILL = 1.4
"""A price within this factor of its last one in the old units is back in them.

In new units it stays farther away, whatever the market does.
"""

_AS_A_SPLIT = 0.05
"""How far, in logs, the price of a split day may be from its ratio: the market moves as well."""

_FEW = 8
"""Pairs up to which a loop costs less than setting up NumPy."""


def check_factors(factors: Mapping[str, object], tickers: Iterable[str]) -> dict[str, float]:
    """New price over old by ticker, as floats.

    Args:
        factors: 0.5 for a ticker after a 2-for-1 split; those not named do not change.
        tickers: all that can be named.

    Raises:
        ValueError: a ticker that is not among them, a factor that is no positive finite number.

    Example:
        >>> from fractions import Fraction
        >>> check_factors({"PEP": Fraction(1, 2)}, ["KO", "PEP"])
        {'PEP': 0.5}
    """
    if not hasattr(factors, "items"):
        raise ValueError(f"factors go by ticker, each a number, not {factors!r:.80}")
    known, checked = tuple(tickers), dict[str, float]()
    for name, factor in factors.items():
        if name not in known:
            more = f" and {len(known) - 8} more" if len(known) > 8 else ""
            raise ValueError(f"{name} is not among the tickers {', '.join(known[:8])}{more}")
        if not 0 < (number := _read(factor)) < math.inf:
            raise ValueError(
                f"the factor of {name} is its new price over its old one, a number above 0, not "
                f"{factor!r}"
            )
        checked[name] = number
    return checked


def _read(factor: object) -> float:
    """A float, NaN where it is no number; bool is an int in Python, so reject it."""
    if isinstance(factor, bool) or not isinstance(factor, Real):
        return math.nan
    try:
        return float(factor)
    except OverflowError:
        return math.inf


def like_a_split(ratio: float) -> Fraction | None:
    """The usual split nearest to a price ratio, as the factor to rescale by; None if none is near."""
    if not 0 < ratio < math.inf:
        return None
    move = abs(math.log(ratio))
    near = min(_SPLITS, key=lambda split: abs(math.log(split) - move))
    if abs(math.log(near) - move) > _AS_A_SPLIT:
        return None
    return near if ratio > 1 else 1 / near


def find_moves(prices: np.ndarray, last: np.ndarray) -> list[int]:
    """Numbers of the pairs with a leg that moved so far that its units may be others, `(pair, leg)`."""
    if len(prices) <= _FEW:
        pairs = enumerate(zip(prices.tolist(), last.tolist(), strict=True))
        return [number for number, (row, before) in pairs if breaks_scale(row, before)]
    with np.errstate(all="ignore"):
        moves = prices / last
    far = ~((moves < BREAK) & (moves > 1 / BREAK)).all(1)
    return [
        n
        for n in np.flatnonzero(far).tolist()
        if breaks_scale(prices[n].tolist(), last[n].tolist())
    ]


def breaks_scale(prices: Sequence[float], last: Sequence[float]) -> bool:
    """Whether the price of a leg moved so far that its units may be others."""
    for now, before in zip(prices, last, strict=True):  # in every tick, and a generator costs more
        if before > 0 and not 1 / BREAK < now / before < BREAK:
            return True
    return False


def watch_scale(
    hold: Hold, prices: Sequence[float], last: Sequence[float], beyond: Callable[[], bool]
) -> Hold:
    """Start, keep or end a hold for a change of scale, before the row is judged.

    `beyond` says whether the row is beyond the limit by the sd of a forecast at the last hedge prices;
    it is called only where a price has moved so far.
    """
    if hold.cause in ("scale", "released"):
        back = all(1 / _STILL < move < _STILL for move in _moves(prices, last))
        return NONE if back else hold
    return Hold("scale", 0, hold.sign) if breaks_scale(prices, last) and beyond() else hold


def _moves(prices: Sequence[float], last: Sequence[float]) -> list[float]:
    return [now / before for now, before in zip(prices, last, strict=True) if before > 0]


def name_split(
    names: Sequence[str],
    prices: Sequence[float],
    last: Sequence[float],
    *,
    at: Stamp | None,
    verdict: Verdict,
) -> str:
    """Which leg moved by a factor usual for splits, when, and what to call; empty if none did."""
    legs = [leg for leg in zip(names, prices, last, strict=True) if leg[1] > 0 and leg[2] > 0]
    if not legs:
        return ""
    held = verdict.hold.cause == "scale"
    name, now, before = max(legs, key=lambda leg: abs(math.log(leg[1] / leg[2])))
    factor = like_a_split(now / before)
    if factor is None and not (held or breaks_scale([now], [before])):
        return ""
    said = f"{name} went from {before:g} to {now:g}"
    said += f", about {factor} times" if factor else ""
    waited = verdict.hold.rows - 1 if held else 0
    if waited > 0:
        said += f", first {waited} row{'s'[: waited > 1]} ago"
    elif at is not None:
        said += f", at {at}"
    said += f": if that is a split, call rescale with {name} at {factor or 'its factor'}"
    return said + (f", if not with {name} at 1; no row is learnt from before" if held else "")
