"""What a live filter does with a price that its forecast did not expect."""

import math
from dataclasses import dataclass
from fractions import Fraction

from kfmodels.records import ACCEPTED

_SPLITS = sorted(
    {Fraction(n) for n in (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)}
    | {Fraction(3, 2), Fraction(4, 3), Fraction(5, 4)}
)
_AS_A_SPLIT = 0.05
"""How far, in logs, the price of a split day may be from its ratio: the market moves as well."""


@dataclass(frozen=True, slots=True)
class Quarantine:
    r"""A tick beyond the limit moves nothing until others confirm it; until then time only passes.

    With $z_t$ the innovation in predictive sds, a row with $|z_t| > \text{limit}$ is not learnt from.
    The `confirm`-th such row in succession and of one sign is taken for real. The intercept's variance
    is then widened by the squared innovation, so that the level takes the move and the ratio stays
    (without an intercept, or on returns, the row is learnt from as it is).

    Args:
        limit: in predictive sds, above 0.
        confirm: rows it takes, 1 or more; 1 only widens the intercept.

    Raises:
        ValueError: a limit or a number of rows outside.

    Source: West and Harrison (1997), section 11.2 (intervention).
    """

    limit: float = 6.0
    confirm: int = 2

    def __post_init__(self) -> None:
        _check_limit(self)
        if not (isinstance(self.confirm, int) and self.confirm >= 1):
            raise ValueError(
                f"Quarantine: confirm is a number of rows, 1 or more, not {self.confirm}"
            )

    def judge(self, z: float, streak: int) -> tuple[int, str]:
        """Rows in quarantine in succession after this one, negative below; and the outcome in words."""
        if abs(z) <= self.limit:
            return 0, ACCEPTED
        sign = 1 if z > 0 else -1
        streak = streak + sign if streak * sign > 0 else sign
        if abs(streak) < self.confirm:
            return streak, f"quarantined: z {z:+.1f}, {abs(streak)} of {self.confirm}"
        return streak, f"{ACCEPTED}: z {z:+.1f}, confirmed by {self.confirm} rows in succession"


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


def split_sentence(names: tuple[str, ...], prices: list[float], last: list[float]) -> str:
    """Which legs went by a factor that is usual for splits, and what to call; empty if none."""
    for name, now, before in zip(names, prices, last, strict=True):
        factor = like_a_split(now / before) if before > 0 else None
        if factor is not None:
            return (
                f"; {name} went from {before:g} to {now:g}, about {factor} times: if that is a split, "
                f"call rescale with {name} at {factor}"
            )
    return ""


def _check_limit(policy: Shocks) -> None:
    if not 0 < policy.limit < math.inf:
        raise ValueError(
            f"{type(policy).__name__}: limit is a number of predictive sds above 0, not {policy.limit}"
        )
