"""What a hedge is worth on later dates: the variance that it removed, and what its trades cost.

One file: every method has a table of ratios, and all are judged by the same moves.
"""

from collections.abc import Callable, Mapping
from functools import partial
from numbers import Integral, Real

import numpy as np
import pandas as pd

from kfmodels.data.arrays import resample_blocks
from kfmodels.data.checks import DateLike, day
from kfmodels.data.hedge_data import MIN_ROWS, HedgeData, is_before, rows_after
from kfmodels.data.later import repair_later, warn_of_later
from kfmodels.data.repairs import Repair
from kfmodels.data.spacing import rows_of_day
from kfmodels.evaluate.baselines import (
    bars_per_year,
    ewma_ols,
    mean_ewma,
    moves,
    ols_on_changes,
    ols_on_levels,
    price_ratio,
    rolling_ols,
)
from kfmodels.evaluate.garch import dcc_garch
from kfmodels.evaluate.lasso import lasso
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.transforms import transform_of
from kfmodels.online.follow import follow_rows, ratios
from kfmodels.words.caller import explain_kinds
from kfmodels.words.progress import wait_for

_BLOCK, _RESAMPLES = 20, 2000
"""Rows of a block of the bootstrap (a trading month), and its resamples."""

_ANCHOR = "static OLS on changes"
"""The method whose variance and turnover the others are compared with."""

_SPLIT = 1.2
"""New price over old, or old over new, from which two prices of one row are in different units."""

_WINDOWS = (60, 252)
"""Rows of a quarter and of a year."""

_DECAYS = (0.94, 0.98, 0.99)
"""That of RiskMetrics for daily data, and two slower ones: memories of 17, 50 and 100 rows."""

_AVERAGES, COMBINED = "mean of 7 EWMAs", "half EWMAs"
"""The averages that the ratio of a model is combined with, and what ends the name of half of each."""

_LASSO = 504
"""Rows of two years."""


def hedged_moves(data: HedgeData, ratio: pd.DataFrame) -> pd.Series:
    """Move of the target less those of the hedges held since the row before, `dy_t - ratio_t-1 dx_t`.

    `ratio (date, hedge)` is known, and held, at the close of its date.
    """
    table = moves(data)
    held = ratio.reindex(table.index).shift(1)
    hedged = table.iloc[:, 0] - (held * table.iloc[:, 1:]).sum(axis=1, skipna=False)
    return hedged.rename("hedged")


def value_traded(data: HedgeData, ratio: pd.DataFrame) -> pd.Series:
    r"""Value of hedges traded at each close, as a multiple of the target's value.

    $$∑_j |s_{j,t} - s_{j,t-1}| \, P_{j,t} / P_{y,t}$$

    Shares $s$ per share of the target are the ratio itself on levels, and ratio * P_y / P_j
    otherwise: to keep a ratio of money one has to trade at every close, even if it never changes. NaN
    throughout when a price is zero or negative.
    """
    prices = data.prices
    # a price of a spread, or of power, may be negative: a multiple of such a value means nothing
    if (prices <= 0).to_numpy().any():
        return pd.Series(np.nan, prices.index, name="traded")
    target, hedge = prices.iloc[:, [0]].to_numpy(), prices.iloc[:, 1:]
    ratio = ratio.reindex(prices.index)
    shares = transform_of(data.transform).shares(ratio, target, hedge)
    return (shares.diff().abs() * hedge / target).sum(axis=1, skipna=False).rename("traded")


@explain_kinds
def hedge_effectiveness(
    prices: pd.DataFrame,
    *,
    target: str,
    hedges: list[str] | tuple[str, ...],
    train: int | DateLike,
    models: Mapping[str, HedgeFit] | None = None,
    transform: str = "log",
    level: float = 0.9,
    risk_aversion: float = 4.0,
    seed: int = 0,
    repair: Repair | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    r"""Share of the target's one-bar variance that each hedge removed after the training rows.

    $$1 - \mathrm{Var}(Δ y_t - h_{t-1} Δ x_t) / \mathrm{Var}(Δ y_t)$$

    Every ratio is known at the close before the move it is held over. Fits and baselines are scored on
    the same moves. The baselines need no filter: the price ratio (one hedge, positive prices), least
    squares on levels and on changes over the training rows, the same over the last 60 and 252 rows,
    exponentially weighted moments of changes, the mean of seven ratios of such moments, a DCC-GARCH
    with Student-t moves and, of several hedges, the lasso.

    Args:
        prices: as for `HedgeData.from_prices`.
        train: number of training rows, or the date before which they lie; the first ratio used is that
            of the row after them.
        models: fits by name, none of which may have seen a later row; their filters run on. Each also
            has a row of its ratio combined with the seven, as `HedgeFit.combined_ratio` has it.
        transform: as of `HedgeData.from_prices`; always moves are scored. "level" scores the dollars of
            a hedge in shares, the others return on the target's value, of a hedge that keeps its ratio
            of money. A fit is scored in either, whatever it was made of.
        level: probability of the bootstrap intervals (circular blocks of 20 rows, 2000 resamples).
        risk_aversion: a, of a holder who gives up a / 2 of yearly return per unit of yearly
            variance.
        repair: of the prices, as for `HedgeData.from_prices`, which warns where they are in doubt.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        One row per method: `variance_removed` with its interval `lower`, `upper`; `turnover`, the value
        of hedges traded in a year over that of the target; `break_even_cost`, the cost of trading in
        basis points of traded value at which static least squares on changes is as good,

        $$10^4 · \frac{a}{2} ·
        \frac{\mathrm{Var}_{static} - \mathrm{Var}}{\mathrm{turnover} - \mathrm{turnover}_{static}}$$

        with yearly variances of hedged moves, as returns on the target's value (0 where no variance is
        saved, inf where some is saved without more trading, NaN for the static ratio itself); and
        `gain, gain_lower, gain_upper`, the lead in variance removed over that ratio on the same
        resampled days. Turnover and cost are NaN when a price is not positive.

    Raises:
        ValueError: a model was fitted on rows that it would be scored on, or on prices in other units;
            too few rows are left; risk_aversion is not positive.

    Source: Ederington (1979), The hedging performance of the new futures markets, Journal of Finance
    34; Politis and Romano (1992), A circular block-resampling procedure. Variance against the cost
    of trading: after Kroner and Sultan (1993), Time-varying distributions and dynamic hedging with
    foreign currency futures, JFQA 28, whose weight on variance is 4 (conventions differ by the half).

    Example:
        >>> from kfmodels import datasets
        >>> prices = datasets.factor_etfs()[["MTUM", "QUAL"]]
        >>> table = hedge_effectiveness(prices, target="MTUM", hedges=["QUAL"], train=1000)
        >>> table["variance_removed"].idxmax() in table.index
        True
        >>> float(table.loc["static OLS on changes", "gain"])
        0.0
    """
    if not (isinstance(level, Real) and 0 < level < 1):
        raise ValueError(
            f"level is the probability of the intervals, between 0 and 1, not {level!r}"
        )
    if not (isinstance(seed, Integral) and seed >= 0):
        raise ValueError(f"seed is a whole number from 0 on, not {seed!r}")
    if not (isinstance(risk_aversion, Real) and 0 < risk_aversion < 1e300):
        raise ValueError(
            f"risk_aversion must be positive and finite, not {risk_aversion}: 4 is usual, more fears "
            "variance more"
        )
    data = HedgeData.from_prices(
        prices, target=target, hedges=hedges, transform=transform, repair=repair
    )
    asked, train = train, _training_rows(data, train)
    if not MIN_ROWS <= train <= len(data) - MIN_ROWS:
        before = f" of {len(data)} rows" if asked == train else f", {train} of {len(data)} rows,"
        raise ValueError(f"train={asked}{before} leaves too few on one side: both need {MIN_ROWS}")
    training = data.before(data.index[train])
    methods, held = _baselines(data, training, train), dict[str, pd.DataFrame]()
    for name, fitted in (models or {}).items():
        both = f"{name}, {COMBINED}"
        if name in methods or name == "none" or name.endswith(COMBINED):
            raise ValueError(f"a model cannot be called {name!r}, as a baseline is: rename it")
        _check_model(name, fitted, data, train)
        methods[name] = partial(_model_ratios, fitted, data)
        # of ratios that are held already
        methods[both] = lambda name=name: (
            (held[name] + held[_AVERAGES].reindex(held[name].index)) / 2
        )
    with wait_for("holding each hedge", len(methods), shown=progress, compiles=False) as waiting:
        for name, hold in methods.items():
            held[name] = hold()
            waiting.advance()
    scored = pd.DataFrame({name: hedged_moves(data, ratio) for name, ratio in held.items()})
    scored.insert(0, "none", moves(data).iloc[:, 0])
    # every method on the same rows, or those that lack quiet days would seem worse
    scored = scored.iloc[train + 1 :].dropna()
    if len(scored) < MIN_ROWS:
        raise ValueError(
            f"only {len(scored)} rows after the first {train} have a move and a ratio of every method; "
            f"{MIN_ROWS} are needed: too many gaps"
        )
    table = _bootstrap(scored, level, seed)
    for place, column in enumerate(_costs(data, held, scored, train, risk_aversion), start=3):
        table.insert(place, str(column.name), column)
    return table


def _training_rows(data: HedgeData, train: int | DateLike) -> int:
    """How many rows are trained on, by their number or by the date that they lie before.

    Raises:
        ValueError: it is no whole number and no date of rows with dates.
    """
    if isinstance(train, Integral) and not isinstance(train, bool):
        return int(train)
    if isinstance(data.index, pd.DatetimeIndex):
        return int(is_before(data.index, train).sum())
    raise ValueError(f"train is a number of rows, where rows are numbered, not {train!r}")


def _baselines(
    data: HedgeData, training: HedgeData, train: int
) -> dict[str, Callable[[], pd.DataFrame]]:
    """By name, what computes the ratios of each; in the order of the table."""
    hedges = list(data.hedges)

    def constant(ratio: pd.Series) -> pd.DataFrame:
        return pd.DataFrame([ratio] * len(data), data.index, hedges)

    made: dict[str, Callable[[], pd.DataFrame]] = {}
    moved = moves(data)
    # shares worth as much as the target: of several hedges there is no one answer, nor below zero
    if len(hedges) == 1 and not (data.prices <= 0).to_numpy().any():
        made["price ratio"] = lambda: price_ratio(data)
    made["static OLS on levels"] = lambda: constant(ols_on_levels(training))
    made[_ANCHOR] = lambda: constant(ols_on_changes(training))
    for window in _WINDOWS:
        if window <= len(training):
            made[f"rolling OLS on levels, {window}"] = partial(rolling_ols, data.values, window)
            made[f"rolling OLS on changes, {window}"] = partial(rolling_ols, moved, window)
    for decay in _DECAYS:
        made[f"EWMA of changes, {decay}"] = partial(ewma_ols, moved, decay)
    made[_AVERAGES] = lambda: mean_ewma(moved)
    made["DCC-GARCH-t"] = lambda: dcc_garch(moved, train)
    if len(hedges) > 1:
        made[f"lasso on changes, {_LASSO}"] = lambda: lasso(moved, train, _LASSO)
    return made


def _check_model(name: str, fitted: HedgeFit, data: HedgeData, train: int) -> None:
    """Raise unless the fit can be scored on the rows from `train` on."""
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
    if other := _other_units(fitted.data.prices, data.prices):
        raise ValueError(
            f"{name} was fitted on prices in other units ({other}): make data of all prices and this "
            "repair, and fit data.before(...)"
        )


def _model_ratios(fitted: HedgeFit, data: HedgeData) -> pd.DataFrame:
    """Ratios of a fit whose filter runs on, in the units of the moves that are scored."""
    later = data.prices.loc[data.index > fitted.fit_until]
    found = ratios(follow_rows(fitted.online(), later), fitted.hedges)
    target, hedge = later.iloc[:, [0]].to_numpy(), later.iloc[:, 1:].to_numpy()
    if transform_of(data.transform).by_shares:
        return transform_of(fitted.data.transform).shares(found, target, hedge)
    return found * hedge / target if transform_of(fitted.data.transform).by_shares else found


def _other_units(fitted: pd.DataFrame, prices: pd.DataFrame) -> str:
    """The first leg whose price at the last row of a fit is that of another unit in these prices."""
    there = prices[list(fitted.columns)].notna().all(axis=1)
    shared = fitted.dropna().index.intersection(prices.index[there])
    for ticker in fitted.columns if len(shared) else ():
        then, now = (float(one[ticker].loc[shared[-1]]) for one in (fitted, prices))
        if now > 0 and then > 0 and max(now / then, then / now) > _SPLIT:
            return f"{ticker} was {then:g} at {day(shared[-1])}, it is {now:g} here"
    return ""


def _bootstrap(scored: pd.DataFrame, level: float, seed: int) -> pd.DataFrame:
    """Share removed and lead over the static ratio, with intervals, by method."""
    values = scored.to_numpy()
    picked = resample_blocks(len(values), _RESAMPLES, block=_BLOCK, seed=seed)

    def removed(variances: np.ndarray) -> np.ndarray:
        return 1 - variances[..., 1:] / variances[..., :1]

    point = removed(values.var(0, ddof=1))
    drawn = removed(np.array([values[days].var(0, ddof=1) for days in picked]))
    anchor = list(scored.columns[1:]).index(_ANCHOR)
    ends = [(1 - level) / 2, (1 + level) / 2]
    lower, upper = np.quantile(drawn, ends, axis=0)
    gain = drawn - drawn[:, [anchor]]  # on the same days, so that what they share cancels
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


def _costs(
    data: HedgeData,
    held: Mapping[str, pd.DataFrame],
    scored: pd.DataFrame,
    train: int,
    risk_aversion: float,
) -> tuple[pd.Series, pd.Series]:
    """Turnover per year and break-even cost in basis points, by method."""
    bars = bars_per_year(data.index[train:])
    each = {name: value_traded(data, ratio).reindex(scored.index) for name, ratio in held.items()}
    turnover = bars * pd.DataFrame(each).mean()
    returns = scored[list(held)]
    if transform_of(data.transform).by_shares:  # moves are dollars
        returns = returns.div(data.prices.iloc[:, 0].shift(1), axis=0).reindex(scored.index)
    variance = bars * returns.to_numpy().var(0, ddof=1)
    anchor = list(held).index(_ANCHOR)
    saved = variance[anchor] - variance
    extra = turnover.to_numpy() - turnover.iloc[anchor]
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = 1e4 * risk_aversion / 2 * saved / extra
    cost = np.where(extra <= 0, np.inf, cost)  # trades no more than the static ratio
    cost = np.where(saved <= 0, 0.0, cost)
    cost[np.isnan(extra)] = cost[anchor] = np.nan
    return turnover.rename("turnover"), pd.Series(cost, turnover.index, name="break_even_cost")


@explain_kinds
def combined_ratio(
    fitted: HedgeFit, prices: pd.DataFrame | None = None, *, repair: Repair | None = None
) -> pd.DataFrame:
    r"""Hedge ratio by date, half the filter's and half the mean of seven moving averages.

    $$h_t = \tfrac12 β_{t|t} + \tfrac1{14} ∑_{k=1}^7
    \frac{S_{xy,t}^{(k)}}{S_{xx,t}^{(k)}}$$

    with second moments of one-row moves over 10 to 1000 rows. The two err in their own ways, so that
    of daily prices less variance is left than under the filter's ratio alone, by a little; the averages
    alone may leave as little (`python -m tests.benchmarks daily`). How sure a ratio is, only the filter
    tells.

    Args:
        fitted: of daily prices.
        prices: a table whose rows after the fit the filter takes; the others are passed over.
        repair: of these prices, as for `HedgeData.from_prices`.

    Returns:
        A row per date and a column per hedge, filtered: what to hold until the next row, in the units
        of the last row. NaN until 30 rows are complete.

    Raises:
        ValueError: rows within the day, whose averages would count bars as days; prices in other units
            than those of the fit, or what `follow` says of them.

    Warns:
        UserWarning: of later prices that are in doubt.

    Source: equal weights: Bates and Granger (1969), The combination of forecasts, Operational Research
    Quarterly 20; Timmermann (2006), Forecast combinations, Handbook of Economic Forecasting 1.

    Example:
        >>> from kfmodels import HedgeData, datasets, fit
        >>> prices = datasets.factor_etfs()[["MTUM", "QUAL"]]
        >>> data = HedgeData.from_prices(prices, target="MTUM", hedges=["QUAL"])
        >>> fitted = fit(data.before("2019-01-01"), progress=False)
        >>> table = fitted.combined_ratio(prices)
        >>> table.index[-1] == prices.index[-1], list(table)
        (True, ['QUAL'])
    """
    data, each = fitted.data, fitted.hedge_ratio()
    if rows_of_day(data.index) > 1:
        raise ValueError(
            f"combined_ratio is of daily prices, and those of {data.target} lie within the day: hold "
            "the filter's ratio, fit.hedge_ratio()"
        )
    blocks = {name: each if len(data.hedges) == 1 else each[name] for name in data.hedges}
    found = pd.DataFrame({name: block["mean"] for name, block in blocks.items()})
    every, units = data.prices, pd.Series(1.0, data.prices.columns)
    if prices is not None:
        rows = rows_after(prices, fitted.fit_until, [data.target, *data.hedges])
        if other := _other_units(every, prices):
            raise ValueError(
                f"the fit is of prices in other units ({other}): give those of the data that it was "
                "made of, HedgeData.from_prices(..., repair=...).prices"
            )
        if len(rows):
            later = repair_later(every, rows, repair)
            warn_of_later(every, later.as_fitted, data.transform, later.real)
            live = follow_rows(fitted.online(), later.as_fitted)
            found = pd.concat([found, ratios(live, data.hedges)])
            every = pd.concat([every, later.as_fitted])
            if data.transform.by_shares:
                units = pd.Series(later.factors)
    averages = mean_ewma(data.transform.moves(every, every.shift(1)))
    return (found + averages) / 2 * (units[data.target] / units[list(data.hedges)])
