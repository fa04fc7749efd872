"""Which rows a command used: how many, from when to when and how far apart."""

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_NAMES = {1: "day", 7: "week"}
_LONG = {"month": (28, 31), "quarter": (89, 92), "year": (365, 366)}
_UNITS = {"hour": 3600, "minute": 60, "second": 1}


def describe(index: "pd.DatetimeIndex") -> str:
    """How many rows there are, from when to when, and how far apart.

    Example:
        >>> import pandas as pd
        >>> describe(pd.bdate_range("2008-01-02", "2008-02-01"))
        '23 rows from 2008-01-02 to 2008-02-01, one every business day'
    """
    count = len(index)
    if count < 2:
        return f"{count} row{'s' * (count == 0)}" + (f", of {_shown(index[0])}" if count else "")
    return f"{count} rows {span(index)}, {_spacing(index.sort_values())}"


def rows_of_day(index: "pd.Index") -> float:
    """Rows of a day of trading, by the dates: a fifth of weekly rows, 1 of numbered ones.

    Example:
        >>> import pandas as pd
        >>> round(rows_of_day(pd.date_range("2008-01-02", periods=9, freq="7D")), 3)
        0.2
    """
    import pandas as pd

    if not isinstance(index, pd.DatetimeIndex) or len(index) < 2:
        return 1.0
    days = np.unique(index.tz_localize(None).normalize().as_unit("s").asi8) / 86400
    if len(days) <= len(index) / 2:
        return float(len(index) / len(days))
    apart = np.diff(days)
    # holidays leave daily rows daily
    return 1.0 if np.median(apart) <= 1 else float(7 / 5 / apart.mean())


def span(index: "pd.DatetimeIndex") -> str:
    """The first and the last date."""
    return f"from {_shown(index.min())} to {_shown(index.max())}"


def _shown(at: object) -> str:
    """A date without its midnight; a zone says itself."""
    return re.sub(r" 00:00:00$", "", str(at))


def _spacing(index: "pd.DatetimeIndex") -> str:
    """The step that most rows are apart, in words."""
    seconds = np.diff(index.as_unit("us").asi8) / 1e6
    days = (seconds / 86400).round(6)
    if (
        days % 1 == 0
    ).all() or seconds.min() >= 86400 * 0.9:  # a change of the clocks takes an hour
        days = days.round()
        weekend = np.mean(index.day_of_week >= 5) > 0.05
        for name, (low, high) in _LONG.items():
            if ((days >= low) & (days <= high)).mean() > 0.5:
                return f"one every {name}"
        for step, name in _NAMES.items():
            if (days == step).mean() > 0.5:
                business = step == 1 and not weekend
                return f"one every {'business ' * business}{name}"
        low, high = days.min(), days.max()
        return (
            f"unevenly, {low:.0f} to {high:.0f} days apart"
            if low < high
            else f"{low:.0f} days apart"
        )
    step = float(np.median(seconds))
    if (abs(seconds - step) <= 0.01 * step).mean() <= 0.5 or step <= 0:
        return f"unevenly, half of them within {max(step, 0):g} seconds of the one before"
    for name, unit in _UNITS.items():
        if step >= unit and step % unit == 0:
            count = int(step // unit)
            return f"one every {name}" if count == 1 else f"one every {count} {name}s"
    return f"one every {step:g} seconds"
