"""Rows of daily prices that repeat those of the row before, as where holidays were filled."""

import numpy as np
import pandas as pd

from kfmodels.data.checks import day
from kfmodels.data.spacing import rows_of_day

_AT_ONCE, _ALONE = 0.02, 0.035
"""Shares of the rows in which all legs, and in which one, repeat their prices, that are not usual.

In a table of 45 country funds whose holidays were filled it is 3.6 %. Two liquid funds or shares repeat
theirs at once in 0 to 0.1 % of the rows, twins too, and shares of the 1990s, whose ticks were an eighth
of a dollar, in 1 %; a fund of factors that was seldom traded alone in 3 %.
"""

_COARSE = 0.12
"""Share of the rows in which every leg repeats its price from which on their ticks are coarse."""

_FEWEST = 10
"""Rows that are not taken for chance."""

_TIMES, _TICK = 3.5, 0.01
"""Times as often as by its ticks that a leg alone has to repeat its price; the quantile of its moves
that is taken for a tick. A price repeats about half as often as it moves by one."""

_LONGEST = 4
"""Rows of a holiday; a longer stretch without a move is told as one that may have stopped."""


def tell_filled(prices: pd.DataFrame) -> str:
    """Which tickers repeat their prices in more rows than is usual, and what to do; empty if none.

    Only of rows a day apart or more: in quick bars of an idle market repeated prices are ordinary.
    """
    daily = isinstance(prices.index, pd.DatetimeIndex) and rows_of_day(prices.index) <= 1
    if not daily or len(prices) < 2 * _FEWEST:
        return ""
    values = prices.to_numpy(float)
    moves = prices.ffill().diff().to_numpy(float)
    still = (moves == 0) & np.isfinite(values)
    still &= ~np.apply_along_axis(_in_long_runs, 0, still)
    every = still.all(axis=1)
    names = [str(name) for name in prices.columns]
    said = []
    fine = len(names) > 1 and still.mean(axis=0).min() < _COARSE
    if fine and every.sum() >= max(_FEWEST, _AT_ONCE * len(every)):
        few = len(names) <= 3
        which = " and ".join(names) if few else f"all {len(names)} tickers"
        moved = f"frame{[names] if few else ''}.diff().ne(0).any(axis=1)"
        said.append(
            f"{which} repeat their prices at once in {_count(prices.index, every)}: holidays that were "
            f"filled? Take them out, frame = frame[{moved}]"
        )
    for name, each, own in zip(names, still.T & ~every, moves.T, strict=True):
        if _is_unusual(each, own):
            said.append(
                f"{name} repeats its price while another moved in {_count(prices.index, each)}, far "
                "more often than its ticks explain: its holidays, or days without a trade? Make them "
                f"gaps, frame[{name!r}] = frame[{name!r}].where(frame[{name!r}].diff() != 0)"
            )
    return "\n".join(said)


def _count(index: pd.Index, rows: np.ndarray) -> str:
    return f"{int(rows.sum())} of {len(index)} rows, the first {day(index[rows][0])}"


def _in_long_runs(still: np.ndarray) -> np.ndarray:
    """Rows of stretches that are longer than a holiday."""
    number = np.cumsum(np.append(True, still[1:] != still[:-1])) - 1
    return still & (np.bincount(number)[number] > _LONGEST)


def _is_unusual(still: np.ndarray, moves: np.ndarray) -> bool:
    """Whether a leg repeats its price too often, in the first half of the rows and in the second.

    A fund that was hardly traded in its first years is none.
    """
    sizes = np.abs(moves[np.isfinite(moves) & (moves != 0)])
    half = len(still) // 2
    halves = min(still[:half].mean(), still[half:].mean())
    if not len(sizes) or still.sum() < max(_FEWEST, _ALONE * len(still)) or halves < _ALONE / 2:
        return False
    by_ticks = (sizes <= 1.5 * np.quantile(sizes, _TICK) * (1 + 1e-9)).sum() / 2
    return bool(still.sum() > _TIMES * by_ticks)
