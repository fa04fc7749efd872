"""Tables of prices that the tests of this room share."""

import numpy as np
import pandas as pd

from kfmodels import HedgeData, datasets

TRANSFORMS = ("log", "level", "return")
ROWS = 60

INDEXES = {
    "dates": pd.bdate_range("2020-01-01", periods=ROWS, name="date"),
    "a time zone": pd.date_range("2020-01-01 16:00", periods=ROWS, tz="America/New_York", name="t"),
    "minutes": pd.date_range("2020-01-01 09:30", periods=ROWS, freq="min"),
    "whole numbers": pd.RangeIndex(100, 100 + ROWS, name="bar"),
}


def prices(rows: int = ROWS, index: pd.Index | None = None) -> pd.DataFrame:
    """Three tickers that move, from 2020-01-01 on business days."""
    moves = np.random.default_rng(0).normal(0, 0.01, (rows, 3)).cumsum(0)
    if index is None:
        index = pd.bdate_range("2020-01-01", periods=rows, name="date")
    return pd.DataFrame(np.exp(moves) * [50.0, 100.0, 20.0], index, ["AAA", "BBB", "CCC"])


def make(
    frame: pd.DataFrame, *, target="AAA", hedges=("BBB",), transform="log", repair=None
) -> HedgeData:
    return HedgeData.from_prices(
        frame, target=target, hedges=hedges, transform=transform, repair=repair
    )


def stocks_with_gaps() -> pd.DataFrame:
    """80 rows of real prices; gaps at the start, in the middle (alone, in a row) and at the end."""
    frame = datasets.stocks()[["KO", "PEP", "AAPL", "SPX", "XOM", "CVX"]].loc["2015":].iloc[:80]
    frame = frame.copy()
    frame.iloc[:3, 0] = np.nan
    frame.iloc[[0, 20, 21, 22, 40], 1] = np.nan
    frame.iloc[[20, 50], 2] = np.nan
    frame.iloc[-2:, 3] = np.nan
    return frame
