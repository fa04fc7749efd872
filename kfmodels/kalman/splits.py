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

SUSPECT = 1.3
"""A price that goes by less is in the units that it was in."""

SMALL = {Fraction(3, 2): 25.0, Fraction(4, 3): 35.0}
"""Splits of less than `BREAK`, by the own moves that such a change must be at least.

In the files of tests/data/test_scales.py the largest real move near 3/2 is 18 of its own (EVHC
2017-11-01), near 4/3 31 (UAA 2017-01-31) and near 5/4 51 (INTC 2025-09-18, 5 minutes). So where prices
move by 1 % a row 3-for-2 is found, 4-for-3 only where they move by less than 0.8 %, and 5-for-4 not.
Judged by the moves of training rows, as live, three prices of 2.1 million are such: a company that
was split in two (ARNC 2016-11-01), a series begun anew (VXX 2019-05-02) and a fall (WMB 2016-02-08).
"""

_NEAR_SMALL = 2.5
"""Own moves, or 1 %, within which a change must be of such a ratio."""

_AS_A_SPLIT = 0.05
"""How far, in logs, the price of a split day may be from its ratio: the market moves as well."""


def like_a_small_split(ratio: float, usual: float) -> bool:
    """Whether a price that went up by `ratio` is one of `SMALL`; `usual` is its own move, in logs."""
    size, near = abs(math.log(ratio)), max(_NEAR_SMALL * usual, 0.01)
    return any(
        size > many * usual > 0 and abs(size - math.log(split)) <= near
        for split, many in SMALL.items()
    )


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
