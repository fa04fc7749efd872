"""What is read of a table of prices before a universe is run over it, and what is said of it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kfmodels.basket.listing import GONE
from kfmodels.clock.clock import Clock
from kfmodels.data.bars import tell_outside
from kfmodels.data.checks import check_index, check_no_serials, check_prices, day, to_floats
from kfmodels.data.columns import check_columns, check_table, name_by_text
from kfmodels.data.filled import tell_filled
from kfmodels.data.repairs import Repair, apply_repair
from kfmodels.kalman.transforms import LOG

type Tickers = Sequence[str] | str

_SAID = 3
"""Tickers that are told one by one."""


def tell_ended(table: pd.DataFrame) -> list[str]:
    """Which tickers have no price in the last rows, too many for them to be legs, a sentence each."""
    said = []
    for name in table:
        there = np.flatnonzero(table[name].notna())
        missing = len(table) - 1 - int(there[-1]) if len(there) else 0
        if missing > GONE:
            said.append(
                f"{name} has no price after {day(table.index[there[-1]])}, in the last {missing} rows: "
                "it is no leg, and its own hedge fades; end the table there or leave it out"
            )
    return said


def tell_repeats(table: pd.DataFrame) -> list[str]:
    """Which tickers repeat their prices as where holidays were filled, a sentence each, but few."""
    said = tell_filled(table).splitlines()
    if len(said) > _SAID:
        said[_SAID:] = [f"{len(said) - _SAID} other tickers likewise repeat their prices"]
    return said


def tell_hours(index: pd.Index, clock: Clock | None) -> list[str]:
    """Check the rows by the clock; without one, whether they lie within the day, in a sentence."""
    if clock is not None:
        return _tell_clock(index, clock)
    if not isinstance(index, pd.DatetimeIndex) or len(index) < 4 * len(set(index.date)):
        return []
    return [
        "the rows lie within the day: without a clock a night counts as one bar and the memories are "
        '50 to 500 bars; give clock=kf.Clock.hours("09:30", "16:00", zone=..., bar=...), or, of '
        'markets without a close, kf.Clock("5min")'
    ]


def _tell_clock(index: pd.Index, clock: Clock) -> list[str]:
    """What rows and clock say of each other; raises where they do not belong together."""
    dt, gaps, _ = clock.rows(index)  # raises on a time that it cannot read
    outside = tell_outside(index, clock)
    if clock.bar is None or len(index) < 3:
        return []
    within = dt[1:][(gaps[1:] == 0).all(1) & (dt[1:] > 0)]
    usual = float(np.median(within)) if len(within) else 1.0
    if not 0.7 < usual < 1.5:
        raise ValueError(
            f"most rows lie {usual:.3g} bars of the clock apart, whose bar is {clock.bar}: give it a "
            f"bar of {usual * clock.minutes:.3g} minutes"
        )
    said = list[str]()
    if outside:
        said.append(
            f"{outside}: each is learnt as a mean bar; drop them with "
            "frame[~clock.outside(frame.index)]"
        )
    if (
        clock.sessions is None
        and (wide := int((dt > 60 / clock.minutes * 4).sum())) > len(dt) / 1000
    ):
        said.append(
            f"{wide} times the rows stop for more than four hours, which count as open: give a clock "
            "with sessions, kf.Clock.hours(...) or kf.Clock.exchange(...)"
        )
    return said


def read_table(
    prices: pd.DataFrame,
    targets: Tickers | None,
    hedges: Tickers | None,
    repair: Repair | None,
) -> tuple[pd.DataFrame, tuple[tuple[str, str], ...], tuple[list[str], list[str]]]:
    """The columns that take part as floats, repaired; what is known to be real; targets and hedges."""
    check_table(prices)
    frame = name_by_text(prices)
    every = [str(name) for name in frame.columns]
    asked = tuple(
        every if given is None else [given] if isinstance(given, str) else list(map(str, given))
        for given in (targets, hedges)
    )
    for names, role in zip(asked, ("target", "hedge"), strict=True):
        check_columns(frame, names)
        if not names:
            raise ValueError(f"no {role} is given: name a ticker, or leave {role}s out for all")
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is named twice among the {role}s: name it once")
    wanted = {*asked[0], *asked[1]}
    chosen = [name for name in every if name in wanted]
    check_index(frame.index)
    check_no_serials(frame.index)
    table, real = apply_repair(to_floats(frame, chosen), repair)
    try:
        check_prices(table, LOG)
    except ValueError as error:  # there is no other transform here
        raise ValueError(str(error).removesuffix(', or use transform="level"')) from error
    for name in chosen:
        values = table[name].dropna().to_numpy()
        cure = f"leave it out with frame.drop(columns={name!r})"
        if not len(values):
            raise ValueError(f"{name} has no price at all: {cure}")
        if np.ptp(values) == 0:
            raise ValueError(
                f"{name} is constant at {values[0]:g} throughout: it needs no hedge and hedges "
                f"nothing; {cure}, or choose other dates"
            )
    return table, real, (asked[0], asked[1])
