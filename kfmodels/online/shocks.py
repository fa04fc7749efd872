"""What a live filter does with a price that its forecast did not expect."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from kfmodels.online.ticks import ACCEPTED

_SPLITS = sorted(
    {Fraction(n) for n in (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)}
    | {Fraction(3, 2), Fraction(4, 3), Fraction(5, 4)}
)
HELD = 1_000_000_000_000
"""Streaks of rows that are held as a change of scale count from here on."""

BREAK = 1.75
"""Factor of a price, up or down, that is a change of scale: 2 on a day when the market moves too."""

_STILL = 1.4
"""How far a price in a new scale stays from its last one in the old, whatever the market does."""

_AS_A_SPLIT = 0.05
"""How far, in logs, the price of a split day may be from its ratio: the market moves as well."""


@dataclass(frozen=True, slots=True)
class Quarantine:
    r"""A tick beyond the limit moves nothing until others confirm it; until then time only passes.

    With $z_t$ the innovation in predictive sds, a row with $|z_t| > \text{limit}$ is not learnt from.
    The `confirm`-th such row in succession and of one sign is taken for real. The intercept's variance
    is then widened by the squared innovation, so that the level takes the move and the ratio stays
    (without an intercept the row is learnt from as it is).

    On returns there is no level: a move that is taken for real is where the next return starts, and
    is not learnt from.

    No row confirms a change of scale: where the price of a leg went up or down by a factor of 1.75 or
    more, and the innovation is beyond the limit by the sd of a forecast at the last hedge prices, rows
    are held until that price is back or `rescale` is called, with the factor of the split, or with 1 if
    the move was real: the next row is then taken up.

    Args:
        limit: in predictive sds, above 0.
        confirm: rows it takes, 1 or more; 1 only widens the intercept.
        hold: rows after which a change of scale is taken up without `rescale`; None never does, 0
            confirms it as any other move.

    Raises:
        ValueError: a limit or a number of rows outside.

    Source: West and Harrison (1997), section 11.2 (intervention).
    """

    limit: float = 6.0
    confirm: int = 2
    hold: int | None = None

    def __post_init__(self) -> None:
        _check_limit(self)
        if not (self.hold is None or (isinstance(self.hold, int) and 0 <= self.hold < HELD)):
            raise ValueError(
                f"Quarantine: hold is a number of rows from 0 to below {HELD}, or None, not {self.hold}"
            )
        if not (isinstance(self.confirm, int) and self.confirm >= 1):
            raise ValueError(
                f"Quarantine: confirm is a number of rows, 1 or more, not {self.confirm}"
            )

    def judge(self, z: float, streak: int) -> tuple[int, str]:
        """Rows in quarantine in succession after this one, negative below; and the outcome in words."""
        sign, most = 1 if z > 0 else -1, HELD if self.hold is None else self.hold
        rows = abs(streak) - HELD + 1
        if rows > most:
            return sign * self.confirm, f"{ACCEPTED}: z {z:+.1f}, no change of scale"
        if rows > 0:  # by now z may be small: who waits knows ever less
            return sign * (HELD + rows), self._waits(z, rows)
        if abs(z) <= self.limit:
            return 0, ACCEPTED
        streak = streak + sign if streak * sign > 0 else sign
        if abs(streak) < self.confirm:
            return streak, f"quarantined: z {z:+.1f}, {abs(streak)} of {self.confirm}"
        return streak, f"{ACCEPTED}: z {z:+.1f}, confirmed by {self.confirm} rows in succession"

    def learns(self, streak: int) -> bool:
        """Whether a row is learnt from that leaves this streak."""
        return streak == 0 or self.confirm <= abs(streak) < HELD

    def _waits(self, z: float, rows: int) -> str:
        of = "" if self.hold is None else f" of {self.hold}"
        return f"quarantined: z {z:+.1f}, row {rows}{of} held"


@dataclass(frozen=True, slots=True)
class Robust:
    r"""A tick counts the less the farther it is from its forecast; its influence is bounded.

    The observation variance of the row is multiplied by $1 + z_t^2 / \text{limit}^2$ (inverse
    multi-quadric weights), in each noise draw by its own z, so that the state moves by at most a
    bounded amount and by ever less beyond. That variance is also what the draws are weighed by.

    Args:
        limit: in predictive sds, above 0; at that z the row weighs half.

    Raises:
        ValueError: a limit outside.

    Source: Duran-Martin, Altamirano, Shestopaloff, Sanchez-Betancourt, Knoblauch, Jones, Briol and
    Murphy (2024), Outlier-robust Kalman filtering through generalised Bayes, ICML.
    """

    limit: float = 4.0

    def __post_init__(self) -> None:
        _check_limit(self)

    def judge(self, z: float) -> str:
        """The outcome in words."""
        if abs(z) <= self.limit:
            return ACCEPTED
        weight = 1 / (1 + (z / self.limit) ** 2)
        return f"{ACCEPTED}: z {z:+.1f}, learnt from with the weight {weight:.2f}"


Shocks = Quarantine | Robust


def like_a_split(ratio: float) -> Fraction | None:
    """The split that a price which went up by `ratio` looks like: the factor to rescale by, or None."""
    if not 0 < ratio < math.inf:
        return None
    move = abs(math.log(ratio))
    near = min(_SPLITS, key=lambda split: abs(math.log(split) - move))
    if abs(math.log(near) - move) > _AS_A_SPLIT:
        return None
    return near if ratio > 1 else 1 / near


def broken(prices: Sequence[float], last: Sequence[float]) -> bool:
    """Whether the price of a leg went by so much that its scale may be another."""
    return any(not 1 / BREAK < move < BREAK for move in _moves(prices, last))


def begun(
    streak: int, prices: Sequence[float], last: Sequence[float], beyond: Callable[[], bool]
) -> int:
    """The streak to judge a row with: HELD where a leg has a new scale, 0 where none has any more.

    `beyond` says whether the row is beyond the limit by the sd of a forecast at the last hedge prices.
    """
    if abs(streak) > HELD:
        still = all(1 / _STILL < move < _STILL for move in _moves(prices, last))
        return 0 if still else streak
    return HELD if broken(prices, last) and beyond() else streak


def _moves(prices: Sequence[float], last: Sequence[float]) -> list[float]:
    return [now / before for now, before in zip(prices, last, strict=True) if before > 0]


def released(streak: int, factors: Iterable[float]) -> int:
    """The streak after a call of `rescale`: with 1 the next row is taken up; see `begun` for others."""
    taken = abs(streak) >= HELD and all(factor == 1 for factor in factors)
    return 2 * HELD if taken else streak


def split_sentence(
    names: tuple[str, ...], prices: list[float], last: list[float], *, at: Any, streak: int
) -> str:
    """Which leg went by a factor that is usual for splits, when, and what to call; empty if none."""
    legs = [leg for leg in zip(names, prices, last, strict=True) if leg[1] > 0 and leg[2] > 0]
    if not legs:
        return ""
    name, now, before = max(legs, key=lambda leg: abs(math.log(leg[1] / leg[2])))
    factor, held = like_a_split(now / before), abs(streak) >= HELD
    if factor is None and not (held or broken([now], [before])):
        return ""
    said = f"; {name} went from {before:g} to {now:g}"
    said += f", about {factor} times" if factor else ""
    waited = abs(streak) - HELD - 1
    if waited > 0:
        said += f", first {waited} row{'s'[: waited > 1]} ago"
    elif at is not None:
        said += f", at {at}"
    said += f": if that is a split, call rescale with {name} at {factor or 'its factor'}"
    return said + (f", if not with {name} at 1; no row is learnt from before" if held else "")


def _check_limit(policy: Shocks) -> None:
    if not 0 < policy.limit < math.inf:
        raise ValueError(
            f"{type(policy).__name__}: limit is a number of predictive sds above 0, not {policy.limit}"
        )
