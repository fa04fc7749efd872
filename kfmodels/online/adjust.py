"""Prices that move by an amount when no value does: a cash dividend, a roll by difference.

On levels the amount is exact. Logs and returns know factors only, and there a dividend of d at the last
price P is the factor (P - d) / P, as in every series of adjusted prices.
"""

import math
from collections.abc import Iterable, Mapping
from numbers import Real


def check_shifts(shifts: Mapping[str, object], tickers: Iterable[str]) -> dict[str, float]:
    """New price minus old by ticker, as floats.

    Args:
        shifts: -0.5 for a ticker that goes ex a dividend of 0.5; those not named do not change.
        tickers: all that can be named.

    Raises:
        ValueError: a ticker that is not among them, a shift that is no finite number.

    Example:
        >>> check_shifts({"PEP": -1}, ["KO", "PEP"])
        {'PEP': -1.0}
    """
    if not hasattr(shifts, "items"):
        raise ValueError(f"shifts go by ticker, each an amount of money, not {shifts!r:.80}")
    known = tuple(tickers)
    for name, shift in shifts.items():
        if name not in known:
            more = f" and {len(known) - 8} more" if len(known) > 8 else ""
            raise ValueError(f"{name} is not among the tickers {', '.join(known[:8])}{more}")
        # bool is an int in Python; reject it
        if isinstance(shift, bool) or not isinstance(shift, Real) or not abs(shift) < math.inf:
            raise ValueError(
                f"the shift of {name} is its new price minus its old one, such as minus the dividend, "
                f"not {shift!r:.40}"
            )
    return {name: float(shift) for name, shift in shifts.items()}  # pyright: ignore[reportArgumentType]


def turn_into_factors(shifts: Mapping[str, float], last: Mapping[str, float]) -> dict[str, float]:
    """The factors that shifts are at the `last` prices by ticker; a shift of 0 is none.

    Raises:
        ValueError: a ticker without a last price, or one whose price would not stay above 0.

    Example:
        >>> turn_into_factors({"KO": -1.5}, {"KO": 60.0})
        {'KO': 0.975}
    """
    factors: dict[str, float] = {}
    for name, shift in shifts.items():
        if not shift:
            continue
        price = last.get(name, math.nan)
        if price != price:
            raise ValueError(
                f"a shift of {name} needs its last price, and there is none yet: call rescale with its "
                "new price over its old one"
            )
        factors[name] = (price + shift) / price
        if not 0 < factors[name] < math.inf:
            raise ValueError(
                f"the shift of {name} by {shift:g} would take its last price {price:g} to "
                f"{price + shift:g}, which is no price: a dividend is less than the price"
            )
    return factors


def tell_shifts(shifts: Mapping[str, float], factors: Mapping[str, float]) -> str:
    """Shifts in words, with the factors that they came to, if any."""
    said = [
        f"{name} by {shift:g}" + (f", the factor {factors[name]:.6g}" if name in factors else "")
        for name, shift in shifts.items()
    ]
    return "; ".join(said)
