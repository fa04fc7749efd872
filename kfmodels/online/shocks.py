"""Policies on shocks: what an online filter does with a price far from its forecast.

To add a policy, write a frozen dataclass with the members of `Shocks` and register it with
`files.documents.register` in one line.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from kfmodels.files.documents import register
from kfmodels.online.ticks import Outcome
from kfmodels.words.caller import explain_kinds


class Hold(NamedTuple):
    """Rows in succession that a pair was not taught.

    `cause` is "shock" (rows of one sign beyond the limit), "scale" (a leg seems to be quoted in other
    units) or "released" (the user has said that it is not, and the next row is learnt from); `sign` is
    that of the innovations.
    """

    cause: Literal["none", "shock", "scale", "released"]
    rows: int
    sign: int


NONE = Hold("none", 0, 0)
"""Nothing is held."""


class Verdict(NamedTuple):
    """What a policy makes of a row: taught or not, the hold after it, and why.

    `moved` says that a shock is taken for real: the level takes the move, or on returns the next return
    starts from it.
    """

    outcome: Outcome
    reason: str = ""
    hold: Hold = NONE
    moved: bool = False

    def teaches(self, returns: bool) -> bool:
        """Whether the pair learns from the row; of `returns` a move only starts the next one."""
        return self.outcome is Outcome.ACCEPTED and not (self.moved and returns)

    @property
    def starts(self) -> bool:
        """Whether the next row starts from the prices of this one."""
        return self.moved or self.outcome is Outcome.ACCEPTED


class Surprise(NamedTuple):
    """How far a row is from what was expected.

    `z` is its innovation in predictive sds. `pull` says by how many of its sds a hedge ratio would
    move, of several the largest number; 0 where that is within the limit. `weight` is the share of it
    that a policy which doubts rows leaves, 1 where none does.
    """

    z: float
    pull: float = 0.0
    weight: float = 1.0


@runtime_checkable
class Shocks(Protocol):
    """A policy on shocks."""

    @property
    def limit(self) -> float:
        """Predictive sds up to which a row is ordinary."""
        ...

    @property
    def pull(self) -> float:
        """Sds of a hedge ratio by which one row moves it at most.

        A row that would move it farther is judged, or its variance is inflated by a policy that doubts.
        """
        ...

    @property
    def holds(self) -> bool:
        """Whether rows are held where a leg seems to be quoted in other units."""
        ...

    def doubt(self, square: np.ndarray) -> np.ndarray | None:
        """Factor on the observation variance of a row in each draw, None where it is 1.

        `square` is its innovation in predictive sds of the draw, squared.
        """
        ...

    def judge(self, row: Surprise, hold: Hold) -> Verdict:
        """What becomes of a row beyond a limit, or of a pair of which rows are held."""
        ...


@dataclass(frozen=True, slots=True)
class Quarantine:
    r"""A tick beyond the limit moves nothing until others confirm it; until then time only passes.

    With $z_t$ the innovation in predictive sds, a row with $|z_t| > \text{limit}$ is not learnt from,
    nor one that would move a hedge ratio by more than `pull` of its sds: a wrong price of a hedge
    widens its own forecast, so that its z is small. The `confirm`-th such row in succession and of one
    sign is taken for real. The intercept's variance is then widened by the squared innovation, so that
    the level takes the move and the ratio stays (without an intercept the row is learnt from as it is);
    a variance that is learnt takes it for an innovation of `limit` sds at most.

    On returns there is no level: a move that is taken for real is where the next return starts, and
    is not learnt from.

    No row confirms a change of scale: where the price of a leg went up or down by a factor of 1.75 or
    more, or by 3/2 or 4/3 where that is far beyond its moves in the training rows, and the innovation
    is beyond the limit by the sd of a forecast at the last hedge prices, rows are held until that price
    is back or `rescale` is called, with the factor of the split, or with 1 if the move was real: the
    next row is then taken up. Of the first prices of a session of returns, to which no move leads, the
    factor alone decides.

    Args:
        limit: in predictive sds, above 0.
        confirm: rows it takes, 1 or more; 1 only widens the intercept.
        hold: rows after which a change of scale is taken up without `rescale`; None never does, 0
            confirms it as any other move.
        pull: in sds of the hedge ratio, above 0; no single row moves it farther.

    Raises:
        ValueError: a limit or a number of rows outside.

    Source: West and Harrison (1997), section 11.2 (intervention).
    """

    limit: float = 6.0
    confirm: int = 2
    hold: int | None = None
    pull: float = 2.0

    @explain_kinds
    def __post_init__(self) -> None:
        _check_limit(self, "limit")
        _check_limit(self, "pull")
        if not (self.hold is None or _counts(self.hold, 0)):
            raise ValueError(
                f"Quarantine: hold is a number of rows, 0 or more, or None, not {self.hold}"
            )
        if not _counts(self.confirm, 1):
            raise ValueError(
                f"Quarantine: confirm is a number of rows, 1 or more, not {self.confirm}"
            )

    @property
    def holds(self) -> bool:
        """Whether rows are held where a leg seems to be quoted in other units."""
        return self.hold != 0

    def doubt(self, square: np.ndarray) -> None:
        """A row counts in full, or not at all."""
        return

    def judge(self, row: Surprise, hold: Hold) -> Verdict:
        """What becomes of a row beyond a limit, or of a pair that has a hold."""
        z, pull, _ = row
        said, sign = f"z {z:+.1f}", 1 if z > 0 else -1
        if pull > self.pull and abs(z) <= self.limit:
            said += f", which would move the ratio by {pull:.1f} of its sds"
        if hold.cause == "released" or (
            hold.cause == "scale" and self.hold is not None and hold.rows >= self.hold
        ):
            # a hold as if confirmed, so that further rows of that sign need no new confirmation
            taken = Hold("shock", self.confirm, sign)
            return Verdict(Outcome.ACCEPTED, f"{said}, no change of scale", taken, True)
        # z may be small by now: the longer a change of scale waits, the wider the forecast
        if hold.cause == "scale":
            rows = hold.rows + 1
            of = "" if self.hold is None else f" of {self.hold}"
            return Verdict(
                Outcome.QUARANTINED, f"{said}, row {rows}{of} held", Hold("scale", rows, sign)
            )
        if abs(z) <= self.limit and pull <= self.pull:
            return Verdict(Outcome.ACCEPTED)
        rows = hold.rows + 1 if hold.sign == sign else 1
        now = Hold("shock", rows, sign)
        if rows < self.confirm:
            return Verdict(Outcome.QUARANTINED, f"{said}, {rows} of {self.confirm}", now)
        reason = f"{said}, confirmed by {self.confirm} rows in succession"
        return Verdict(Outcome.ACCEPTED, reason, now, True)


@dataclass(frozen=True, slots=True)
class Robust:
    r"""A tick counts the less the farther it is from its forecast; its influence is bounded.

    The observation variance of the row is multiplied by $1 + z_t^2 / \text{limit}^2$ (inverse
    multi-quadric weights), in each noise draw by its own z, and by more where a hedge ratio would still
    move by more than a quarter of `limit` of its sds: for an outsized price of a hedge the weights
    alone bound nothing, as nearly all of the forecast's variance is then that of the ratio. That
    variance is also what the draws are weighed by.

    Such a row would favour the draws in which the ratio is widest, and so move the mean over the draws
    farther than any draw moves. So the weights of the draws go only a part of the way that it asks for:
    at most twice its own weight, where that is less than half, and no farther than leaves the mean of
    every ratio within the same bound. What one row does to the ratio that is reported is so bounded,
    whichever leg is wrong and by how much; other rows weigh the draws in full.

    Args:
        limit: in predictive sds, above 0; at that z the row weighs half. No row moves a hedge ratio,
            in a noise draw or on average over them, by more than limit / 4 of the sds that it has
            over the draws just before the row.

    Raises:
        ValueError: a limit outside.

    Source: Duran-Martin, Altamirano, Shestopaloff, Sanchez-Betancourt, Knoblauch, Jones, Briol and
    Murphy (2024), Outlier-robust Kalman filtering through generalised Bayes, ICML.
    """

    limit: float = 4.0

    @explain_kinds
    def __post_init__(self) -> None:
        _check_limit(self, "limit")

    @property
    def pull(self) -> float:
        """Sds of a hedge ratio by which any row moves it at most."""
        return self.limit / 4

    @property
    def holds(self) -> bool:
        """No row is held: one in other units counts next to nothing."""
        return False

    def doubt(self, square: np.ndarray) -> np.ndarray:
        """Inverse multi-quadric weights: the variance grows with the squared innovation."""
        return 1 + square / self.limit**2

    def judge(self, row: Surprise, hold: Hold) -> Verdict:
        """What becomes of a row that weighs less than half."""
        if row.weight >= 0.5:
            return Verdict(Outcome.ACCEPTED)
        said = f"z {row.z:+.1f}, learnt from with the weight {row.weight:.2g}"
        return Verdict(Outcome.ACCEPTED, said)


def with_hold(holds: Mapping[int, Hold], number: int, hold: Hold) -> dict[int, Hold]:
    """A copy of the holds by number of the pair, with one replaced, or taken out if it is `NONE`."""
    others = {n: other for n, other in holds.items() if n != number}
    return others if hold == NONE else others | {number: hold}


def check_shocks(given: object) -> None:
    """Raise unless it is a policy on shocks, or None."""
    if not isinstance(given, Shocks | None):
        raise ValueError(f"shocks is Quarantine(...), Robust(...) or None, not {given!r}")


def release(hold: Hold, factors: Iterable[float]) -> Hold:
    """The hold after a call of `rescale`: factors of 1 throughout say that the move was real."""
    real = hold.cause in ("scale", "released") and all(factor == 1 for factor in factors)
    return Hold("released", hold.rows, hold.sign) if real else hold


def _counts(given: object, least: int) -> bool:
    """Whether it is a whole number of rows; one that comes from a file may be anything."""
    return isinstance(given, int) and not isinstance(given, bool) and given >= least


def _check_limit(policy: Shocks, name: str) -> None:
    limit, of = getattr(policy, name), {"limit": "predictive sds", "pull": "sds of a hedge ratio"}
    if not 0 < limit < math.inf:
        kind = type(policy).__name__
        raise ValueError(f"{kind}: {name} is a number of {of[name]} above 0, not {limit}")


for _kind in (Quarantine, Robust, Hold):
    register(_kind)
