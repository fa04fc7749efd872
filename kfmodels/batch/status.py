"""What became of a pair: a status for programs to act on, and a sentence for people to read."""

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """How far a pair came, and whether its numbers may be believed."""

    OK = "ok"
    """Fitted, and its draws represent the posterior."""

    DOUBTED = "doubted"
    """Fitted, but the draws may not represent the posterior."""

    UNUSABLE = "unusable"
    """Not fitted: its prices cannot be used."""

    FAILED = "failed"
    """Not fitted and not kept: the computation of its chunk raised an error."""

    DIED = "died"
    """Not fitted and not kept: the worker of its chunk died."""

    WAITING = "waiting"
    """Not fitted yet."""

    @property
    def retried(self) -> bool:
        """Whether the next run with the same store fits the pair again."""
        return self in (Status.FAILED, Status.DIED, Status.WAITING)


class Verdict(NamedTuple):
    """A status and the reason for it; no reason where all is well."""

    status: Status
    reason: str = ""


FITTED = Verdict(Status.OK)
