"""Fitted models compared on dates that none of them has seen, while each filter runs on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, stdtr

from kfmodels.data.checks import day
from kfmodels.data.hedge_data import MIN_ROWS, rows_after
from kfmodels.data.later import Later, repair_later
from kfmodels.data.repairs import Repair
from kfmodels.data.scales import complain
from kfmodels.evaluate.arguments import check_fit
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.transforms import Transform, transform_of
from kfmodels.online.ticks import Predictive
from kfmodels.words.caller import explain_kinds, warn
from kfmodels.words.progress import wait_for
from kfmodels.words.shown import Shown

_NODES = np.sinh(np.linspace(-6.5, 6.5, 321)) / np.sinh(6.5)
"""Where the distribution of a forecast is integrated: from -1 to 1, dense about its centre.

CRPS is then within a thousandth of the closed forms, even for a price 30 sds away.
"""

_REACH = 60.0
"""Standard deviations to either side that the nodes cover."""

_SURE = 2.0
"""Standard errors above which one model is said to be ahead of another."""


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Shown):
    """How well each model forecast the same bars.

    Attributes:
        table: by model, best first: `log_score` (mean log density of the price, nats a bar), `behind`
            (its mean distance from the best) with standard error `behind_se`, `crps` (mean, in
            currency; lower is better), `inside_50` and `inside_90` (shares of prices inside the
            central intervals), `z_sd` (sd of spread over its forecast sd) and `bars`.
        by_year: sd of z by year and model; by blocks of 252 rows where rows have no dates.
        pit: probability integral transforms by date and model; uniform where the forecasts are right.
        log_scores: log density of each price, by date and model.
        z: spread over its forecast sd, by date and model.
        crps: continuous ranked probability score, in currency, by date and model.
    """

    table: pd.DataFrame
    by_year: pd.DataFrame
    pit: pd.DataFrame
    log_scores: pd.DataFrame
    z: pd.DataFrame
    crps: pd.DataFrame

    def __str__(self) -> str:
        shown = self.table.to_string(float_format=lambda value: f"{value:.4g}")
        return f"{shown}\n{self.verdict()}"

    def verdict(self) -> str:
        """Say in one sentence which model is ahead, by how much and how surely."""
        best, bars = str(self.table.index[0]), int(self.table["bars"].iloc[0])
        if len(self.table) == 1:
            return f"{best} alone: nothing to compare it with"
        rivals = [
            f"{name} by {gap:.4f} nats a bar (se {error:.4f})"
            for name, gap, error in self.table[["behind", "behind_se"]].iloc[1:].itertuples()
        ]
        sure = self.table.iloc[1:].eval("behind > @_SURE * behind_se", local_dict={"_SURE": _SURE})
        if sure.all():
            how = "beyond chance"
        elif sure.any():
            level = ", ".join(str(name) for name in sure.index[~sure])
            how = f"but it cannot be told from {level} (less than {_SURE:g} standard errors)"
        else:
            how = f"which is no lead to rely on (less than {_SURE:g} standard errors)"
        return f"Over {bars} bars {best} is ahead of {'; '.join(rivals)}: {how}"


@explain_kinds
def compare(
    fits: Mapping[str, HedgeFit],
    later: pd.DataFrame,
    *,
    repair: Repair | None = None,
    progress: bool = True,
) -> Comparison:
    r"""Score the one-bar forecasts of fitted models on later prices.

    $$\log p(y_t ∣ y_{<t}), \quad \mathrm{CRPS}_t = ∫ (F_t(v) - 1\{v ≥ y_t\})^2 \, dv, \quad
    \mathrm{PIT}_t = F_t(y_t)$$

    The filter of each fit runs on from its own last training row through all later rows. Its noise
    draws are reweighted by their forecasts, as in `OnlineFilter`, but nothing is refitted. The rows
    scored are those after the training rows of every fit. Scores are densities of prices, whatever the
    transform, so that models of log prices, prices and returns can be compared. Standard errors of
    differences allow for autocorrelation (Newey and West).

    Args:
        fits: fits of one target by name; their hedges may differ.
        later: prices with a column for each ticker of each fit.
        repair: of the later rows, as for `HedgeData.from_prices`; they are scored in the units of the
            fits.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        A `Comparison`; `.verdict()` says it in words.

    Raises:
        ValueError: different targets, a missing column, or fewer than 30 common rows that no fit has
            seen.

    Warns:
        UserWarning: once, of later prices that are in doubt, as `HedgeData.from_prices` does.

    Source: Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and estimation,
    JASA 102; Diebold and Mariano (1995), Comparing predictive accuracy, JBES 13.

    Example:
        >>> from kfmodels import Discounted, HedgeData, datasets, fit, hedge_ratio_model
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> year = data.after("2019-01-01").before("2020-01-01")
        >>> known = {"delta": {"beta": 1e-3, "alpha": 0.9}, "obs_scale": 0.003}
        >>> fits = {
        ...     "constant": fit(year, hedge_ratio_model(**known)),
        ...     "discounted": fit(year, hedge_ratio_model(**known, noise=Discounted(20.0))),
        ... }
        >>> compare(fits, datasets.stocks().loc["2020"]).table.index[0]
        'discounted'
    """
    if not isinstance(fits, Mapping) or not fits:
        raise ValueError("compare takes at least one fit by name: {name: fit}")
    for name, fitted in fits.items():
        check_fit(fitted, name)
    targets = {fitted.target for fitted in fits.values()}
    if len(targets) > 1:
        raise ValueError(
            f"the fits have different targets ({', '.join(sorted(targets))}): compare fits of one"
        )
    rows = {name: _read(name, fitted, later, repair) for name, fitted in fits.items()}
    if found := _doubt(fits, rows):
        warn(found)
    return compare_rows(fits, {name: each.as_fitted for name, each in rows.items()}, progress)


def compare_rows(
    fits: Mapping[str, HedgeFit], rows: Mapping[str, pd.DataFrame], progress: bool = False
) -> Comparison:
    """`compare` on the rows after each fit, read and in its units."""
    count = sum(len(rows[name]) for name in fits)
    with wait_for("scoring forecasts", count, shown=progress, compiles=False) as row:
        scored = {name: _score(fitted, rows[name], row.advance) for name, fitted in fits.items()}
    last = max(fitted.fit_until for fitted in fits.values())
    words = ("log_score", "crps", "pit", "z")
    parts = {
        word: pd.DataFrame({name: table[word] for name, table in scored.items()}) for word in words
    }
    common = parts["log_score"].dropna().index
    common = common[common > last]
    if len(common) < MIN_ROWS:
        raise ValueError(
            f"only {len(common)} rows later than {day(last)} have a price of every ticker of every "
            f"fit; {MIN_ROWS} are needed"
        )
    return _judge(*(pd.DataFrame(parts[word].loc[common]) for word in words))


def join_comparisons(parts: Sequence[Comparison]) -> Comparison:
    """One comparison of the rows of several, whose models have the same names."""
    words = ("log_scores", "crps", "pit", "z")
    return _judge(*(pd.concat([getattr(part, word) for part in parts]) for word in words))


def _judge(
    log_scores: pd.DataFrame, crps: pd.DataFrame, pit: pd.DataFrame, z: pd.DataFrame
) -> Comparison:
    table = _sum_up(log_scores, crps, pit, z)
    return Comparison(table, _sd_by_year(z), pit, log_scores, z, crps)


def _read(name: str, fitted: HedgeFit, prices: pd.DataFrame, repair: Repair | None) -> Later:
    """The rows of the legs of a fit after its last training row."""
    try:
        later = rows_after(prices, fitted.fit_until, [fitted.target, *fitted.hedges])
        known = {str(ticker): rows for ticker, rows in (repair or {}).items()}
        mine = {ticker: known[ticker] for ticker in later.columns if ticker in known}
        return repair_later(fitted.data.prices, later, mine)
    except ValueError as error:
        raise ValueError(f"{name} cannot be scored: {error}") from error


def _doubt(fits: Mapping[str, HedgeFit], rows: Mapping[str, Later]) -> str:
    """What is in doubt of the later rows, of each ticker once; empty if nothing is."""
    columns: dict[str, pd.Series] = {}
    real = [move for name, fitted in fits.items() for move in (*fitted.data.real, *rows[name].real)]
    for name, fitted in fits.items():
        every: pd.DataFrame = pd.concat([fitted.data.prices, rows[name].as_fitted])
        for ticker in (fitted.target, *fitted.hedges):
            columns.setdefault(ticker, pd.Series(every[ticker]))
    since = min((each.prices.index[0] for each in rows.values() if len(each.prices)), default=None)
    first = next(iter(fits.values()))
    return complain(pd.DataFrame(columns), first.data.transform, real, since)


def _score(fitted: HedgeFit, later: pd.DataFrame, advance: Callable[[], object]) -> pd.DataFrame:
    """One row per bar after the fit's last training row: log score, CRPS, PIT and z; NaN at gaps."""
    live = fitted.online()
    transform = transform_of(live.transform)
    rows = []
    for at, row in zip(later.index, later.to_numpy(float), strict=True):
        last = None if live.last_prices is None else live.last_prices[0]
        known = not np.isnan(row).any() and (last is not None or not transform.needs_last)
        known = known and not live.begins(at)
        ahead = live.predictive(x=row[1:], at=at) if known else None
        tick = live.update(y=row[0], x=row[1:], at=at)
        advance()
        if ahead is None:
            rows.append([np.nan] * 4)
            continue
        # a density of log prices or returns, turned into one of prices: dy / dprice
        score = tick.log_score + transform.log_slope(row[0], last)
        rows.append([score, *score_price(ahead, transform, row[0], last), tick.z])
    return pd.DataFrame(rows, index=later.index, columns=["log_score", "crps", "pit", "z"])


def distribution(ahead: Predictive, values: np.ndarray) -> np.ndarray:
    """Probability that the transformed target is at most each of `values`."""
    away = (np.asarray(values)[..., None] - ahead.mean) / ahead.scale
    below = ndtr(away) if ahead.dof is None else stdtr(ahead.dof, away)
    return below @ ahead.weights


def score_price(
    ahead: Predictive, transform: Transform, price: float, last: float | None
) -> tuple[float, float]:
    """CRPS in currency, and probability integral transform, of one price."""
    value = float(transform.values(price, last))
    centre = ahead.mean @ ahead.weights
    wide = float(ahead.scale.max() + np.ptp(ahead.mean))  # draws may forecast far from each other
    nodes = centre + _REACH * wide * _NODES
    # the value twice, once for each side, because the integrand jumps there
    nodes = np.sort(np.append(nodes, [value, value]))
    below = distribution(ahead, nodes)
    after = np.arange(len(nodes)) > np.searchsorted(nodes, value)
    crps = np.trapezoid((below - after) ** 2, transform.price(nodes, last))
    return float(crps), float(distribution(ahead, np.array(value)))


def _sum_up(
    log_scores: pd.DataFrame, crps: pd.DataFrame, pit: pd.DataFrame, z: pd.DataFrame
) -> pd.DataFrame:
    mean = log_scores.mean().sort_values(ascending=False)
    best = log_scores[mean.index[0]]
    table = pd.DataFrame(
        {
            "log_score": mean,
            "behind": mean.iloc[0] - mean,
            "behind_se": {
                name: standard_error((best - log_scores[name]).to_numpy()) for name in mean.index
            },
            "crps": crps.mean(),
            "inside_50": ((pit - 0.5).abs() < 0.25).mean(),
            "inside_90": ((pit - 0.5).abs() < 0.45).mean(),
            "z_sd": z.std(),
        }
    )
    return table.loc[mean.index].assign(bars=len(log_scores)).rename_axis("model")


def standard_error(values: np.ndarray) -> float:
    """Standard error of the mean of a series that may be autocorrelated.

    Source: Newey and West (1987), Econometrica 55; Bartlett weights, floor(4 (T / 100)^(2/9)) lags.
    """
    away = values - values.mean()
    rows = len(away)
    lags = int(4 * (rows / 100) ** (2 / 9))
    long_run = away @ away / rows
    for lag in range(1, lags + 1):
        long_run += 2 * (1 - lag / (lags + 1)) * (away[lag:] @ away[:-lag]) / rows
    return float(np.sqrt(max(long_run, 0.0) / rows))  # rounding may take a variance of 0 below it


def _sd_by_year(z: pd.DataFrame) -> pd.DataFrame:
    if isinstance(z.index, pd.DatetimeIndex):
        return pd.DataFrame(z.groupby(z.index.year.rename("year")).std())
    blocks = pd.Index(np.arange(len(z)) // 252, name="block of 252")
    return pd.DataFrame(z.groupby(blocks).std())
