"""Hedge ratios of a desk without a filter: by prices, least squares and moving averages."""

from typing import Any

import numpy as np
import pandas as pd

from kfmodels.data.hedge_data import MIN_ROWS, HedgeData
from kfmodels.kalman.transforms import transform_of

_MEMORIES = (0.9, 0.94, 0.97, 0.98, 0.99, 0.995, 0.999)
"""Decays of `mean_ewma`: memories of 10, 17, 33, 50, 100, 200 and 1000 rows."""


def moves(data: HedgeData) -> pd.DataFrame:
    """One-bar moves of target and hedges: dollars on levels, simple returns otherwise."""
    # not log returns: a position held from close to close earns exactly its ratio times such a move,
    # shares times dollars or money times return
    return transform_of(data.transform).moves(data.prices, data.prices.shift(1))


def bars_per_year(index: pd.Index) -> float:
    """Rows per year of 365.25 days, by their dates; 252 for rows labelled by whole numbers.

    Example:
        >>> round(bars_per_year(pd.date_range("2020-01-01", "2020-12-31")), 6)
        365.25
    """
    if not isinstance(index, pd.DatetimeIndex):
        return 252.0
    span: Any = index[-1] - index[0]  # which may be NaT, if pandas' annotations are believed
    return (len(index) - 1) / (span / pd.Timedelta(days=365.25))


def price_ratio(data: HedgeData) -> pd.DataFrame:
    """Ratio at which the hedge is worth as much as the target: P_y / P_x shares, or 1 in money."""
    hedge = data.prices.iloc[:, 1:]
    if transform_of(data.transform).by_shares:
        return hedge.rdiv(data.prices.iloc[:, 0], axis=0)
    return pd.DataFrame(1.0, hedge.index, hedge.columns)


def ols_on_levels(data: HedgeData) -> pd.Series:
    """Hedge ratios by least squares on the transformed prices, with an intercept."""
    return _least_squares(data.values, MIN_ROWS)


def ols_on_changes(data: HedgeData) -> pd.Series:
    """Hedge ratios by least squares on one-bar moves, with an intercept."""
    return _least_squares(moves(data), MIN_ROWS)


def static_ratio(data: HedgeData) -> pd.DataFrame:
    """The ratios of `ols_on_changes` as `ratio` and their `sd`, a row per hedge.

    The sd is White's, so that days of large moves may have large errors.

    Source: White (1980), A heteroskedasticity-consistent covariance matrix estimator, Econometrica 48,
    with the factor rows / (rows - coefficients).
    """
    ratios, table = ols_on_changes(data), moves(data).dropna()
    away = (table - table.mean()).to_numpy()
    x, left = away[:, 1:], away[:, 0] - away[:, 1:] @ ratios.to_numpy()
    inverse = np.linalg.pinv(x.T @ x)
    rows, n = x.shape
    cov = inverse @ ((x * left[:, None] ** 2).T @ x) @ inverse * rows / max(rows - n - 1, 1)
    return pd.DataFrame({"ratio": ratios, "sd": np.sqrt(np.diagonal(cov))}, ratios.index)


def static_spread(data: HedgeData) -> pd.Series:
    """Residual of `ols_on_levels`, less its mean."""
    ratios = ols_on_levels(data)
    left = data.values.iloc[:, 0] - data.values[ratios.index] @ ratios
    return left - left.mean()


def rolling_ols(table: pd.DataFrame, window: int) -> pd.DataFrame:
    """Hedge ratios by least squares (with an intercept) on the last `window` rows, at every row.

    The first column is the target; NaN until the window is full, and where less than half of it is
    complete.
    """
    least = max(window // 2, len(table.columns) + 1)
    found = np.full((len(table), len(table.columns) - 1), np.nan)
    for end in range(window, len(table) + 1):
        found[end - 1] = _least_squares(table.iloc[end - window : end], least)
    return pd.DataFrame(found, table.index, table.columns[1:])


def ewma_ols(table: pd.DataFrame, decay: float) -> pd.DataFrame:
    r"""Hedge ratios from exponentially weighted second moments, at every row.

    $$S_t = λ S_{t-1} + (1 - λ) x_t x_t^⊤, \qquad h_t = S_{xx,t}^{-1} S_{xy,t}$$

    Moments are about zero, as in RiskMetrics: the mean of a one-bar move is too small to be
    estimated. The first column is the target. A row with a gap changes nothing; NaN until 30 rows
    are complete.

    Source: J.P. Morgan and Reuters (1996), RiskMetrics Technical Document, chapter 5 (0.94 for daily
    data).
    """
    values, _ = complete_rows(table, 0)
    rows, n = values.shape
    products = pd.DataFrame((values[:, :, None] * values[:, None, :]).reshape(rows, n * n))
    # pandas' default adjust=True makes the weights sum to one from the first row on; it multiplies all
    # moments alike, so the ratio is that of the recursion
    second = products.ewm(alpha=1 - decay).mean().to_numpy().reshape(rows, n, n)
    found = ratios_of(second)
    found[: MIN_ROWS - 1] = np.nan  # moments of a few rows give any ratio
    return on_all_rows(found, table)


def mean_ewma(table: pd.DataFrame) -> pd.DataFrame:
    """Plain mean of the ratios of `ewma_ols` with seven memories, from 10 to 1000 rows.

    A ratio moves on several time scales at once, and no one memory is right: the mean hedges better
    than the best of the seven on daily pairs of funds, and needs no choice.
    """
    found = np.mean([ewma_ols(table, decay).to_numpy() for decay in _MEMORIES], axis=0)
    return pd.DataFrame(found, table.index, table.columns[1:])


def complete_rows(table: pd.DataFrame, first: int) -> tuple[np.ndarray, int]:
    """Rows without a gap, and how many of them are known at row `first`, but 30 at least."""
    complete = table.notna().all(axis=1).to_numpy()
    return table.to_numpy()[complete], max(int(complete[: first + 1].sum()), MIN_ROWS)


def on_all_rows(found: np.ndarray, table: pd.DataFrame) -> pd.DataFrame:
    """Ratios of the rows without a gap, held over the others."""
    return pd.DataFrame(found, table.dropna().index, table.columns[1:]).reindex(table.index).ffill()


def to_unit(second: np.ndarray) -> np.ndarray:
    """Second moments `(..., column, column)` in units of each column, as correlations about zero."""
    size = _size(second)
    return second / size[..., :, None] / size[..., None, :]


def ratios_of(second: np.ndarray) -> np.ndarray:
    """Ratios `(row, hedge)` of second moments `(row, column, column)`, the target first."""
    # in units of each column, or the cutoff of the pseudo-inverse would drop a hedge of small moves
    # beside one of large moves; hedges that are copies of each other share the ratio
    unit, size = to_unit(second), _size(second)
    inverse = np.linalg.pinv(unit[:, 1:, 1:], rcond=1e-12, hermitian=True)
    return (inverse @ unit[:, 1:, :1])[..., 0] * size[:, :1] / size[:, 1:]


def _size(second: np.ndarray) -> np.ndarray:
    """Root of each column's second moment, 1 where it has not moved."""
    size = np.sqrt(np.diagonal(second, axis1=-2, axis2=-1))
    return np.where(size > 0, size, 1.0)


def _least_squares(table: pd.DataFrame, least: int) -> pd.Series:
    """Slopes of the first column on the others, with an intercept; NaN below `least` complete rows."""
    values = table.to_numpy()
    values = values[~np.isnan(values).any(axis=1)]
    if len(values) < least:
        return pd.Series(np.nan, table.columns[1:])
    away = values - values.mean(0)
    slopes = np.linalg.lstsq(away[:, 1:], away[:, 0], rcond=None)[0]
    return pd.Series(slopes, table.columns[1:])
