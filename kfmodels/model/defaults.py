"""The model that data ask for where none is named, and days as bars of a clock."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from kfmodels.data.hedge_data import HedgeData
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.data.spacing import rows_of_day
from kfmodels.model.assumptions import Discounted, Gaps
from kfmodels.model.hedge_ratio import HedgeRatioModel, hedge_ratio_model
from kfmodels.model.memory import LEAST_VARIANCE_MEMORY
from kfmodels.model.parts import OfTheDay, Tilt
from kfmodels.model.priors import Memory, Moves
from kfmodels.model.profile import Profile

RATIO_MEMORY = Memory(4, low=1, high=16, unit="days")
"""Prior of a ratio within the day: real ones remember days, not bars."""

DEVIATION = Memory(0.6, low=0.3, high=1.2, unit="days")
"""Prior of the half-life of the deviation of the day."""

DAYS = 10
"""Training days from which on there are deviation and tilt, as both are of mornings.

With two days either costs more than it gives in the first half hour: the deviation half a point; and
the tilt takes the deviations of two mornings for that of every one (one-minute bars, three weeks of ten
pairs: -0.8 points with it, +0.2 without).
"""

_VARIANCE = 0.5, 0.1, 2.5
"""Days that the variance remembers: the median, and 90 %."""


def default_model(data: HedgeData, **parts: Any) -> HedgeRatioModel:
    """The model that `fit(data)` takes: by the time of day where rows are moves within a session.

    There: no intercept, a memory of four days, `Gaps()`, `Discounted` noise of half a day's memory and
    `Profile()`; from ten days on also `Tilt()` and `OfTheDay(spike=True)`. Elsewhere
    `hedge_ratio_model()`.

    Args:
        data: the training rows.
        parts: arguments of `hedge_ratio_model` to be taken instead, such as `tilt=None`.

    Example:
        >>> from kfmodels import HedgeData, datasets
        >>> prices = datasets.stocks()[["AAPL", "SPX"]].loc["2019"]
        >>> data = HedgeData.from_prices(prices, target="AAPL", hedges=["SPX"])
        >>> default_model(data).profile is None
        True
    """
    if not data.by_session:
        return hedge_ratio_model(**parts)
    memory, low, high = (share * bars_of_day(data) for share in _VARIANCE)
    low = max(low, LEAST_VARIANCE_MEMORY + 1)
    variance = Memory(max(memory, 2 * low), low=low, high=max(high, 10 * low))
    many = count_days(data) >= DAYS
    made = {
        "intercept": "none",
        "delta": RATIO_MEMORY,
        "noise": Discounted(variance),
        "gaps": Gaps(),
        "profile": Profile(),
        "tilt": Tilt() if many else None,
        "day": OfTheDay(half_life=DEVIATION, spike=True) if many else None,
    }
    return hedge_ratio_model(**made | parts)


def in_bars(model: HedgeRatioModel, data: HedgeData | HedgePairs) -> HedgeRatioModel:
    """The model with every `Memory` and `Moves` of days made one of bars, as the data have them."""
    return count_bars(model, bars_of_day(data))


def count_bars(given: Any, day: float) -> Any:
    """A part of a model, or all of it, with every `Memory` and `Moves` of days made one of bars.

    Args:
        given: dataclasses, in whose fields there may be such.
        day: bars of a day.
    """
    if isinstance(given, Memory | Moves):
        return given.in_bars(day)
    if not is_dataclass(given) or isinstance(given, type):
        return given
    parts = {field.name: getattr(given, field.name) for field in fields(given)}
    changed = {name: count_bars(part, day) for name, part in parts.items()}
    same = all(changed[name] is parts[name] for name in parts)
    return given if same else replace(given, **changed)


def bars_of_day(data: HedgeData | HedgePairs) -> float:
    """Bars of a day of trading: those of the longest session, or where there is none of 24 hours.

    Without a clock, or with `Clock.daily`: as many as the rows have by their dates, a fifth of weekly
    ones; rows that are numbered are days.
    """
    clock = data.clock if isinstance(data, HedgeData) else None
    if clock is None or clock.bar is None:
        return rows_of_day(data.prices.index)
    return clock.bars_of_day


def count_days(data: HedgeData) -> int:
    """Sessions in which the data have observed rows."""
    if data.clock is None:
        return 0
    return len(np.unique(data.clock.places(data.index[data.observed]).session))
