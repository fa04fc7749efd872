"""What a hedge is worth: the share of variance that held shares removed, on dates not yet seen."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from kfmodels.data import MIN_ROWS, HedgeData, Transform
from kfmodels.replay import follow, ratios
from kfmodels.results import HedgeFit

_BLOCK = 20
_RESAMPLES = 2000


def moves(data: HedgeData) -> pd.DataFrame:
    """One-bar moves of target and hedges: dollars on levels, simple returns otherwise.

    A position held from close to close earns exactly its ratio times the hedge's move: shares times
    dollars, or money times return.
    """
    if data.transform == "level":
        return data.prices.diff()
    return data.prices / data.prices.shift(1) - 1


def ols_on_levels(data: HedgeData) -> pd.Series:
    """Hedge ratios by least squares on the transformed prices, with an intercept."""
    return _ols(data.values, MIN_ROWS)


def ols_on_changes(data: HedgeData) -> pd.Series:
    """Hedge ratios by least squares on one-bar moves, with an intercept."""
    return _ols(moves(data), MIN_ROWS)


def rolling_ols(table: pd.DataFrame, window: int) -> pd.DataFrame:
    """Hedge ratios by least squares (with an intercept) on the last `window` rows, at every row.

    The first column is the target; NaN until the window is full, and where less than half of it is
    complete.
    """
    values = table.to_numpy()
    found = np.full((len(values), values.shape[1] - 1), np.nan)
    for end in range(window, len(values) + 1):
        found[end - 1] = _ols(
            table.iloc[end - window : end], max(window // 2, len(table.columns) + 1)
        )
    return pd.DataFrame(found, table.index, table.columns[1:])


def hedged_moves(data: HedgeData, ratio: pd.DataFrame) -> pd.Series:
    """Move of the target less the hedges held since the row before: `dy_t - ratio_t-1 . dx_t`.

    `ratio (date, hedge)` is what is known, and held, at the close of its date.
    """
    table = moves(data)
    held = ratio.reindex(table.index).shift(1)
    hedged = table.iloc[:, 0] - (held * table.iloc[:, 1:]).sum(axis=1, skipna=False)
    return hedged.rename("hedged")


def hedge_effectiveness(
    prices: pd.DataFrame,
    *,
    target: str,
    hedges: list[str] | tuple[str, ...],
    train: int,
    models: Mapping[str, HedgeFit] | None = None,
    transform: Transform = "level",
    level: float = 0.9,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Share of the target's one-bar variance that each hedge removed after the training rows.

    $$1 - \mathrm{Var}(\Delta y_t - h_{t-1} \Delta x_t) / \mathrm{Var}(\Delta y_t)$$

    Every ratio is known at the close before the move it is held over; each method is scored on the
    same moves. Baselines: the price ratio, least squares on levels and on changes over the training
    rows, and rolling over the last 60 and 252 rows.

    Args:
        prices: as for `HedgeData.from_prices`.
        train: number of training rows; the first ratio used is that of row `train`.
        models: fits by name, none of which may have seen a later row; they run on online.
        transform: "level" scores dollars per share, the others return on the target's value.
        level: of the bootstrap interval (circular blocks of 20 rows, 2000 resamples).

    Returns:
        By method: `variance_removed, lower, upper`, and `gain, gain_lower, gain_upper`, its lead
        over static least squares on changes on the same resampled days.

    Raises:
        ValueError: a model was fitted on rows that it would be scored on, or too few rows are left.

    Source: Ederington (1979), The hedging performance of the new futures markets, Journal of Finance
    34; Politis and Romano (1992), A circular block-resampling procedure.

    Example:
        >>> from kfmodels import datasets
        >>> prices = datasets.factor_etfs()[["MTUM", "QUAL"]]
        >>> table = hedge_effectiveness(prices, target="MTUM", hedges=["QUAL"], train=1000)
        >>> table["variance_removed"].idxmax() in table.index
        True
    """
    data = HedgeData.from_prices(prices, target=target, hedges=hedges, transform=transform)
    if not MIN_ROWS <= train <= len(data) - MIN_ROWS:
        raise ValueError(
            f"train={train} of {len(data)} rows leaves too few on one side: both need {MIN_ROWS}"
        )
    training = data.before(data.index[train])
    held = _baselines(data, training)
    for name, fitted in (models or {}).items():
        if name in held or name == "none":
            raise ValueError(f"a model cannot be called {name!r}, as a baseline is: rename it")
        held[name] = _model_ratio(name, fitted, data, train)
    scored = pd.DataFrame({name: hedged_moves(data, ratio) for name, ratio in held.items()})
    scored.insert(0, "none", moves(data).iloc[:, 0])
    scored = scored.iloc[train + 1 :].dropna()
    if len(scored) < MIN_ROWS:
        raise ValueError(
            f"only {len(scored)} rows after the first {train} have a move and a ratio of every method; "
            f"{MIN_ROWS} are needed: too many gaps"
        )
    return _table(scored, level, seed)


def _baselines(data: HedgeData, training: HedgeData) -> dict[str, pd.DataFrame]:
    hedges = list(data.hedges)

    def constant(ratio: pd.Series) -> pd.DataFrame:
        return pd.DataFrame([ratio] * len(data), data.index, hedges)

    held = {}
    if len(hedges) == 1 and data.transform == "level":
        held["price ratio"] = data.prices[hedges].rdiv(data.prices.iloc[:, 0], axis=0)
    held["static OLS on levels"] = constant(ols_on_levels(training))
    held["static OLS on changes"] = constant(ols_on_changes(training))
    for window in (60, 252):
        if window <= len(training):
            held[f"rolling OLS on levels, {window}"] = rolling_ols(data.values, window)
            held[f"rolling OLS on changes, {window}"] = rolling_ols(moves(data), window)
    return held


def _model_ratio(name: str, fitted: HedgeFit, data: HedgeData, train: int) -> pd.DataFrame:
    first = data.index[train]
    if not fitted.fit_until < first:
        raise ValueError(
            f"{name} was fitted on prices until {fitted.fit_until}, but is scored from {first}: "
            "fit it on data.before(...) or score later rows"
        )
    if (fitted.target, fitted.hedges) != (data.target, data.hedges):
        raise ValueError(
            f"{name} hedges {fitted.target} with {', '.join(fitted.hedges)}, "
            f"not {data.target} with {', '.join(data.hedges)}"
        )
    later = data.prices.loc[data.index > fitted.fit_until]
    found = ratios(follow(fitted.online(), later), fitted.hedges)
    by_shares = data.transform == "level"
    if by_shares == (fitted.tree.attrs["transform"] == "level"):
        return found
    worth = later.iloc[:, [0]].to_numpy() / later.iloc[:, 1:].to_numpy()
    return found * worth if by_shares else found / worth


def _ols(table: pd.DataFrame, least: int) -> pd.Series:
    """Slopes of the first column on the others, with an intercept, on complete rows; NaN if few."""
    values = table.to_numpy()
    values = values[~np.isnan(values).any(axis=1)]
    if len(values) < least:
        return pd.Series(np.nan, table.columns[1:])
    away = values - values.mean(0)
    slopes = np.linalg.lstsq(away[:, 1:], away[:, 0], rcond=None)[0]
    return pd.Series(slopes, table.columns[1:])


def _table(scored: pd.DataFrame, level: float, seed: int) -> pd.DataFrame:
    values = scored.to_numpy()
    rows = len(values)
    starts = np.random.default_rng(seed).integers(0, rows, (_RESAMPLES, -(-rows // _BLOCK)))
    picked = (starts[..., None] + np.arange(_BLOCK)).reshape(_RESAMPLES, -1)[:, :rows] % rows

    def removed(variances: np.ndarray) -> np.ndarray:
        return 1 - variances[..., 1:] / variances[..., :1]

    point = removed(values.var(0, ddof=1))
    drawn = removed(np.array([values[days].var(0, ddof=1) for days in picked]))
    anchor = list(scored.columns[1:]).index("static OLS on changes")
    ends = [(1 - level) / 2, (1 + level) / 2]
    lower, upper = np.quantile(drawn, ends, axis=0)
    gain = drawn - drawn[:, [anchor]]
    gain_lower, gain_upper = np.quantile(gain, ends, axis=0)
    return pd.DataFrame(
        {
            "variance_removed": point,
            "lower": lower,
            "upper": upper,
            "gain": point - point[anchor],
            "gain_lower": gain_lower,
            "gain_upper": gain_upper,
        },
        index=pd.Index(scored.columns[1:], name="method"),
    )
