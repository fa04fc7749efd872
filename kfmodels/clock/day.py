"""The time of day: in which session a time lies, how long after its open and before its close."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Whole = int | NDArray[np.int64]
Minutes = float | NDArray[np.float64]

OUTSIDE = -1
"""Stands for the session of a time at which the market is closed."""


class Place(NamedTuple):
    """Where times lie in their sessions, one or many.

    `session` numbers the sessions of the clock, `OUTSIDE` while the market is closed; `since` are
    minutes since the open, `left` minutes until the close. Of a time outside they are those of the
    next open.
    """

    session: Whole
    since: Minutes
    left: Minutes


def stay_within(places: Place) -> NDArray[np.bool_]:
    """Which of rows in order are reached from the row before within one session, `(time,)`."""
    session = np.asarray(places.session)
    found = np.zeros(len(session), bool)
    found[1:] = (session[1:] == session[:-1]) & (session[1:] != OUTSIDE)
    return found
