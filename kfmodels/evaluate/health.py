"""Whether a spread is left to trade: what a filter leaves over, beside plain least squares."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kfmodels.batch.chunk import SETTLED
from kfmodels.data.arrays import half_life
from kfmodels.data.checks import day
from kfmodels.evaluate.arguments import check_fit
from kfmodels.evaluate.baselines import bars_per_year, static_spread
from kfmodels.fitting import tree as trees
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.density import Z90
from kfmodels.kalman.transforms import transform_of
from kfmodels.words.caller import explain_kinds
from kfmodels.words.shown import Shown, wrap

_LEAST_PAIRS = 20
"""Pairs of neighbouring rows that a half-life needs."""

_MUCH_GAIN = 0.2
"""Gain of an intercept above which a spread is close to a hedged one-bar move."""

_TRADE = "To trade the spread, refit with hedge_ratio_model(spread=Reverting())"
"""What to do where the innovation is no spread that comes back."""

ENGLE_GRANGER = (-3.336, -3.741, -4.096, -4.415, -4.707, -4.977, -5.229, -5.467, -5.692, -5.907)
"""5 % points of the t ratio of rho - 1 for residuals of walks regressed on 1, 2, ... other walks.

MacKinnon (2010), Critical values for cointegration tests: with a constant, many rows.
"""


@dataclass(frozen=True, eq=False, repr=False)
class SpreadHealth(Shown):
    """What `spread_health` found: a table of two spreads, and warnings in plain words."""

    table: pd.DataFrame
    """Rows "static OLS" and "innovation"; the columns are those of `spread_health`."""

    warnings: tuple[str, ...]
    """What a trader of the spread should know, and do; empty if there is nothing."""

    def __str__(self) -> str:
        shown = self.table.T.to_string(float_format=lambda number: f"{number:.4g}")
        notes = [wrap(note, "- ", "  ") for note in self.warnings]
        return "\n".join([shown, *notes])


@explain_kinds
def spread_health(fitted: HedgeFit) -> SpreadHealth:
    r"""Compare the spread of a fit with the one a desk trades without a filter.

    $$s_t = c + ρ \, s_{t-1} + η_t, \qquad
    \mathrm{half\ life} = -\ln 2 / \ln ρ, \qquad
    \mathrm{absorbed} = 1 - \mathrm{Var}(\mathrm{innovation}) / \mathrm{Var}(\mathrm{static})$$

    "static OLS" is the residual of least squares (with an intercept) on the transformed prices of
    all training rows; "innovation" is `fitted.spread()`, each row less its forecast from the rows
    before. A fast filter makes the second small and quick not because the pair is good but because the
    coefficients have followed the price: what they absorbed cannot be traded. Both leave out the first
    30 rows, or a fifth of all if that is less, while the filter settles. A model with
    `spread=Reverting()` has what can be traded in a state of its own, `fitted.reversion()`: its
    innovation is a surprise and no spread, and of it no warning is given.

    Args:
        fitted: from `fit`. The spread of a fit on returns is a one-bar move, which never comes back.

    Returns:
        A `SpreadHealth`. Columns of its table: `sd` (units of the transformed target), `crossings`
        (changes of sign per year, per 252 bars when undated), `half_life` with its 90 % interval
        `half_life_lower`, `half_life_upper` (bars; from the standard error of rho; inf from rho = 1
        on, 0 up to rho = 0), `rows` used, `absorbed` (share of the static variance), `gain` and
        `memory` of the intercept (posterior medians) and `effective_memory X` of every hedge X, in
        bars. Least squares draws rho down by about (1 + 3 rho) / rows, so half-lives are a little
        short.

    Raises:
        ValueError: too few rows stand next to each other for a half-life.

    Source: half-life as in Chan (2013), Algorithmic Trading, chapter 2; bias of rho: Kendall (1954),
    Note on bias in the estimation of autocorrelation, Biometrika 41; a residual that does not come
    back: Engle and Granger (1987), Co-integration and error correction, Econometrica 55.

    Example:
        >>> from kfmodels import HedgeData, datasets, fit, hedge_ratio_model
        >>> pair = datasets.stocks().loc["2019":"2020", ["KO", "PEP"]]
        >>> data = HedgeData.from_prices(pair, target="KO", hedges=["PEP"])
        >>> fast = hedge_ratio_model(delta={"beta": 1e-5, "alpha": 0.5}, obs_scale=0.005)
        >>> health = spread_health(fit(data, fast))
        >>> bool(health.table.loc["innovation", "absorbed"] > 0.8)
        True
        >>> for warning in health.warnings[:2]:
        ...     print(warning.split(":")[0])
        The static spread does not come back
        The filter forgets faster than the spread comes back
    """
    check_fit(fitted)
    data = fitted.data
    spreads = {"static OLS": static_spread(data), "innovation": fitted.spread()["spread"]}
    settled = burn_in(len(data))
    years = bars_per_year(data.index)
    lines, found = {}, {}
    for name, spread in spreads.items():
        values = spread.to_numpy()[settled:]
        rho, error = found[name] = _autoregression(values, fitted)
        lines[name] = {
            "sd": np.nanstd(values, ddof=1),
            "crossings": _crossings(values) * years,
            "half_life": float(half_life(rho)),
            "half_life_lower": float(half_life(rho - Z90 * error)),
            "half_life_upper": float(half_life(rho + Z90 * error)),
            "rows": int(np.isfinite(values).sum()),
        }
    static, innovation = lines["static OLS"], lines["innovation"]
    memories = _memories(fitted)
    static |= {"absorbed": 0.0, "gain": 0.0} | dict.fromkeys(memories, np.inf)
    innovation["absorbed"] = 1 - (innovation["sd"] / static["sd"]) ** 2
    innovation["gain"] = 1 / memories["memory"]
    innovation |= memories
    table = pd.DataFrame.from_dict(lines, orient="index").rename_axis(index="spread")
    rho, error = found["static OLS"]
    # the spread of a fit on returns is a one-bar move anyway, whatever its intercept does
    gain = "" if transform_of(data.transform).needs_last else _warn_of_gain(table)
    walk = _warn_of_walk(fitted, table, (rho - 1) / error)
    warnings = walk, _warn_of_speed(table, memories), gain
    if trees.assumed(fitted.tree).spread is not None:
        warnings = ()
    return SpreadHealth(table, tuple(warning for warning in warnings if warning))


def burn_in(rows: int) -> int:
    """Rows that the innovation is not judged on, at the start, while the filter settles."""
    return min(SETTLED, rows // 5)


def _autoregression(values: np.ndarray, fitted: HedgeFit) -> tuple[float, float]:
    """Slope of a series on its value the bar before, with an intercept, and its standard error."""
    before, after = values[:-1], values[1:]
    both = np.isfinite(before) & np.isfinite(after)
    pairs = int(both.sum())
    if pairs < _LEAST_PAIRS:
        raise ValueError(
            f"only {pairs} neighbouring rows of {fitted.target} and {', '.join(fitted.hedges)} are "
            f"complete; a half-life needs {_LEAST_PAIRS}: drop the rows with gaps, or fit a longer "
            "history"
        )
    x, y = before[both] - before[both].mean(), after[both] - after[both].mean()
    rho = (x @ y) / (x @ x)
    left = y - rho * x
    return float(rho), float(np.sqrt(left @ left / (pairs - 2) / (x @ x)))


def _crossings(values: np.ndarray) -> float:
    """Changes of sign per bar, between neighbouring rows that are both there."""
    product = values[:-1] * values[1:]
    return float((product[np.isfinite(product)] < 0).mean())


def _memories(fitted: HedgeFit) -> dict[str, float]:
    """Memory of the intercept (NaN without one) and effective memory of every hedge, in bars."""
    summary = fitted.summary()
    intercept = summary.loc["alpha", "memory"] if "alpha" in fitted.coef else np.nan
    hedges = {f"effective_memory {k}": summary.loc[k, "effective_memory"] for k in fitted.hedges}
    return {"memory": intercept} | hedges


def _warn_of_speed(table: pd.DataFrame, memories: dict[str, float]) -> str:
    """Warn if a coefficient forgets faster than the static spread comes back."""
    half_life = table.loc["static OLS", "half_life"]
    fast = {name: bars for name, bars in memories.items() if bars < half_life}
    if not fast:
        return ""
    who = [
        f"{'the intercept' if hedge == 'memory' else f'the ratio to {hedge}'} ({bars:.3g})"
        for hedge, bars in ((k.removeprefix("effective_memory "), v) for k, v in fast.items())
    ]
    absorbed = table.loc["innovation", "absorbed"]
    hedger = (
        "wants the ratio, not the spread, and need not care: on daily prices the default moving "
        "intercept usually does this."
        if list(fast) == ["memory"]
        else "need not care about the spread, but should check a ratio that moves this fast with "
        "hedge_effectiveness."
    )
    return (
        f"The filter forgets faster than the spread comes back: memory in bars of "
        f"{', '.join(who)}; half-life of the static spread {_bars(half_life)}. So it follows the "
        f"spread instead of letting it come back: {absorbed:.0%} of the variance of the static spread "
        f"is not in the innovation. {_TRADE}. A hedger {hedger}"
    )


def _warn_of_gain(table: pd.DataFrame) -> str:
    """Warn if the intercept takes much of every surprise to be permanent."""
    gain = table.loc["innovation", "gain"]
    if not gain > _MUCH_GAIN:
        return ""
    return (
        f"The intercept takes {gain:.0%} of every surprise to be permanent (above {_MUCH_GAIN:.0%}): "
        "the spread is close to the hedged one-bar move, and a large z says that this bar was odd, not "
        f"that the target is rich. Do not wait for such a z to come back. {_TRADE}. For hedging it "
        "does no harm."
    )


def _warn_of_walk(fitted: HedgeFit, table: pd.DataFrame, t: float) -> str:
    """Warn if the static spread cannot be told from a walk; `t` is the t ratio of its rho - 1."""
    half_life, rows = table.loc["static OLS", "half_life"], table.loc["static OLS", "rows"]
    point = ENGLE_GRANGER[min(len(fitted.hedges), len(ENGLE_GRANGER)) - 1]
    if half_life <= rows and t <= point:
        return ""
    return (
        f"The static spread does not come back: from {day(fitted.index[0])} to "
        f"{day(fitted.fit_until)} its half-life is {_bars(half_life)} in {rows} rows, and walks that "
        f"have nothing to do with each other look as good (Engle-Granger t {t:.2f}; one in twenty of "
        f"such walks lies below {point:.2f}). There was no spread of a fixed ratio to trade: take "
        "another pair or other dates. As a hedge it may still serve; see hedge_effectiveness."
    )


def _bars(half_life: float) -> str:
    return "infinite" if np.isinf(half_life) else f"{half_life:.3g} bars"
