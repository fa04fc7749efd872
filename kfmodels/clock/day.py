r"""The time of day: in which session a row lies, the variance profile and the tilt of that time.

Moves after the open have many times the variance of those at noon, and so have, less, those before the
close. With $τ$ minutes since the open and $κ$ until the close, at the middle of a bar,

$$\mathrm{Var}(ε_t) ∝ (1 + τ_t / 5)^{-a} \, e^{c \exp(-κ_t / 15)} \,
b^{[\text{first bar}]}, \qquad g_t = e^{-τ_t / 60}$$

where g is the tilt of the hedge ratio, which fades after the open.

Source: the U shape of variance within the day: Wood, McInish and Ord (1985), An investigation of
transactions data for NYSE stocks, Journal of Finance 40; Andersen and Bollerslev (1997), Intraday
periodicity and volatility persistence in financial markets, Journal of Empirical Finance 4.
"""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Whole = int | NDArray[np.int64]
Minutes = float | NDArray[np.floating[Any]]

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


OPEN_MINUTES, CLOSE_MINUTES, TILT_MINUTES = 5.0, 15.0, 60.0
"""How fast the variance falls after the open and rises before the close, and the tilt fades.

On 206 days of 45 pairs (five-minute bars) and 31 days of 19 (one-minute bars) other values, from a half
to the double, change no measure by more than its standard error.
"""

USUAL_FALL, USUAL_RISE = 0.85, 1.5
"""The constants a and c of nearly every pair of those days."""

SESSION_BARS = 10
"""Bars of a session above which rows lie within the day."""

FALL, RISE, FIRST, TILT = range(4)
"""Columns of what the profile and the tilt read of a row, as `read_day` has them."""

Array = Any
"""An array of NumPy or of JAX."""


def read_day(places: Place, bar: float) -> NDArray[np.float64]:
    r"""What the profile and the tilt read of rows, `(..., 4)`.

    They are $\log(1 + τ / 5)$, $e^{-κ / 15}$, 1 in the first bar of a session and 0 elsewhere,
    and the tilt.

    Args:
        places: of the ends of the bars.
        bar: its length in minutes.
    """
    since, whole = np.asarray(places.since), np.asarray(places.since + places.left)
    tau = np.maximum(since - bar / 2, 0.0)
    first = (since > 0) & (since <= bar * (1 + 1e-9))
    return np.stack(
        [
            np.log1p(tau / OPEN_MINUTES),
            np.exp(-(whole - tau) / CLOSE_MINUTES),
            first.astype(float),
            np.exp(-tau / TILT_MINUTES),
        ],
        -1,
    )


def tilt_of_next(places: Place, bar: float) -> NDArray[np.float64]:
    """The tilt of the bar that comes after each row; 0 after a close, as the night is no bar."""
    session = np.asarray(places.session)
    closed = (session == OUTSIDE) | (np.asarray(places.left) <= 0)
    return np.where(closed, 0.0, np.exp(-(np.asarray(places.since) + bar / 2) / TILT_MINUTES))


class DayVariance(NamedTuple):
    """The constants of the profile, `(*draws)` each: a, c and b, and the log of its mean.

    `level` is the log of the mean of a whole session without b, so that the profile has mean one.
    """

    fall: Array
    rise: Array
    first: Array
    level: Array

    @classmethod
    def of(
        cls, fall: Array, rise: Array, first: Array, session: Array, xp: ModuleType = np
    ) -> "DayVariance":
        """The profile with these constants.

        Args:
            fall, rise, first: a, c and b.
            session: `read_day` of the bars of a whole session, `(..., bar, 4)`.
            xp: numpy, or jax.numpy.
        """
        logs = rise[..., None] * session[..., RISE] - fall[..., None] * session[..., FALL]
        return cls(fall, rise, first, xp.log(xp.exp(logs).mean(-1)))

    def factor(self, day: Array, xp: ModuleType = np) -> Array:
        """Factor on the observation variance of rows `(..., 4)`, which broadcast with the draws."""
        logs = self.rise * day[..., RISE] - self.fall * day[..., FALL] - self.level
        return xp.exp(logs + xp.log(self.first) * day[..., FIRST])
