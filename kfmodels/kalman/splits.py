"""The factors of splits: what a price that is quoted in other units goes up or down by."""

import math
from fractions import Fraction

_SPLITS = sorted(
    {Fraction(n) for n in (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)}
    | {Fraction(3, 2), Fraction(4, 3), Fraction(5, 4)}
)
BREAK = 1.75
"""A price that goes up or down by this factor may be quoted in another unit.

So does a split of 2 on a day on which the market moves the other way.
"""

_AS_A_SPLIT = 0.05
"""How far, in logs, the price of a split day may be from its ratio: the market moves as well."""


def like_a_split(ratio: float, room: float = _AS_A_SPLIT) -> Fraction | None:
    """The split that a price which went up by `ratio` looks like: the factor to rescale by, or None.

    `room`: how far it may be from one, in logs, where a day's move of that price is larger than usual.
    """
    if not 0 < ratio < math.inf:
        return None
    move = abs(math.log(ratio))
    near = min(_SPLITS, key=lambda split: abs(math.log(split) - move))
    if abs(math.log(near) - move) > max(room, _AS_A_SPLIT):
        return None
    return near if ratio > 1 else 1 / near
