"""Hedge ratios that move, and their spread, each as it was known at the time."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kfmodels.evaluate.baselines import static_spread
from kfmodels.evaluate.health import burn_in
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.density import Z90
from kfmodels.plots.ink import BAND, INK, OTHER, blank, literal, tell_dates, unit


def hedge_ratio_and_spread(
    fitted: HedgeFit,
    live: pd.DataFrame | None = None,
    *,
    static: float | Mapping[str, float] | None = None,
) -> Figure:
    """Every hedge ratio with its 90 % band, and the spread: training rows, then live ones.

    Args:
        fitted: the fit; its filtered ratios and its spread are drawn up to `fit_until`.
        live: the table of `follow`, drawn after it.
        static: a fixed ratio to compare with, of several hedges by name.

    Example:
        >>> from kfmodels import HedgeData, datasets, fit, hedge_ratio_model
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> fitted = fit(data.after("2021-01-01"), hedge_ratio_model(delta=1e-4, obs_scale=0.01))
        >>> [axes.get_ylabel() for axes in hedge_ratio_and_spread(fitted).axes]
        ['ratio of KO to PEP', 'spread of KO (log)']
    """
    return draw_paths(fitted, ratio_paths(fitted, live), spread_path(fitted, live), static)


def ratio_paths(fitted: HedgeFit, live: pd.DataFrame | None = None) -> dict[str, pd.DataFrame]:
    """`mean` and `sd` of the ratio to every hedge, filtered: the training rows, then those `live`."""
    found, ratio = {}, fitted.hedge_ratio()
    for hedge in fitted.hedges:
        path = ratio if len(fitted.hedges) == 1 else ratio.xs(hedge, axis=1)
        found[hedge] = path[["mean", "sd"]]
        if live is not None:
            later = _columns(live, f"beta {hedge}", f"sd_total {hedge}")
            found[hedge] = pd.concat([found[hedge], later])
    return found


def spread_path(fitted: HedgeFit, live: pd.DataFrame | None = None) -> pd.DataFrame:
    """`mean` and `sd` of the spread: the training rows, then those of `live`."""
    spread = fitted.spread().rename(columns={"spread": "mean"})
    spread = spread.drop(columns=["band_lower", "band_upper", "z"])
    return spread if live is None else pd.concat([spread, _columns(live, "spread", "spread_sd")])


def span_of(path: pd.DataFrame, static: float | None = None) -> tuple[float, float]:
    """The range of an axis that shows a ratio, of a table with `mean` and `sd`, and a static one."""
    # the first rows, where the prior still shows, would set the scale of all others
    warm = path.iloc[min(60, len(path) // 2) :]
    low, high = (warm["mean"] - 3 * warm["sd"]).min(), (warm["mean"] + 3 * warm["sd"]).max()
    if static is not None:
        low, high = min(low, static), max(high, static)
    return float(low), float(high)


def height_of(spread: pd.DataFrame) -> float:
    """How far an axis that shows a spread goes, up and down, of a table with its `mean`."""
    return 1.1 * max(np.nanmax(np.abs(spread["mean"].iloc[20:])), 0.0)


def draw_paths(
    fitted: HedgeFit,
    paths: Mapping[str, pd.DataFrame],
    spread: pd.DataFrame,
    static: float | Mapping[str, float] | None = None,
) -> Figure:
    """`hedge_ratio_and_spread` of tables such as those of `ratio_paths` and `spread_path`."""
    count = len(paths)
    figure, axes = blank(
        10, 3.2 + 3.3 * count**0.6, count + 1, sharex=True, height_ratios=[3] * count + [2]
    )
    below = axes[-1, 0]
    fixed = {} if static is None else pd.Series(static, list(paths)).to_dict()
    for above, (hedge, path) in zip(axes[:, 0], paths.items(), strict=False):
        middle, wide = path["mean"], Z90 * path["sd"]
        above.fill_between(path.index, middle - wide, middle + wide, color=BAND, alpha=0.6, lw=0)
        above.plot(path.index, middle, color=INK, lw=1.3, label="filtered, 90 % band")
        if hedge in fixed:
            label = "static, fitted overnight"
            above.axhline(fixed[hedge], color=OTHER, lw=1.4, ls="--", label=label)
        above.set(
            ylabel=literal(f"ratio of {fitted.target} to {hedge}"),
            ylim=span_of(path, fixed.get(hedge)),
        )
    wide = Z90 * spread["sd"]
    below.fill_between(spread.index, -wide, wide, color=BAND, alpha=0.6, lw=0)
    below.plot(spread.index, spread["mean"], color=INK, lw=0.7)
    tall = height_of(spread)
    below.set(
        ylabel=literal(f"spread of {fitted.target}{unit(fitted.data.transform)}"),
        ylim=(-tall, tall),
    )
    tell_dates(below)
    if spread.index[-1] > fitted.fit_until:
        for axis in axes[:, 0]:
            axis.axvline(fitted.fit_until, color="0.3", ls=":", lw=1.2)
        axes[0, 0].annotate(
            "noise inferred up to here, then tick by tick",
            (fitted.fit_until, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-6, -6),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=9,
        )
    axes[0, 0].legend(loc="lower left", frameon=False, fontsize=9)
    title = f"{fitted.target} hedged with {', '.join(fitted.hedges)}"
    figure.suptitle(literal(title), fontsize=12)
    return figure


def spreads(fitted: HedgeFit) -> Figure:
    """The spread of a fixed hedge ratio, and what a filter leaves of it, on one scale.

    Above is the residual of least squares on levels over the training rows, below the innovation;
    `spread_health` puts numbers on both.

    Example:
        >>> from kfmodels import HedgeData, datasets, fit, hedge_ratio_model
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> model = hedge_ratio_model(delta=1e-4, obs_scale=0.01)
        >>> len(spreads(fit(data.after("2021-01-01"), model)).axes)
        2
    """
    innovation = fitted.spread()["spread"]
    innovation.iloc[: burn_in(len(innovation))] = np.nan
    figure, axes = blank(10, 4.5, 2, sharex=True, sharey=True)
    static = static_spread(fitted.data)
    rows = (("static spread", static, OTHER), ("innovation", innovation, INK))
    for (name, spread, colour), axis in zip(rows, axes[:, 0], strict=True):
        axis.axhline(0, color="0.7", lw=0.8)
        axis.plot(spread.index, spread, color=colour, lw=0.8)
        axis.set(ylabel=name)
        axis.set_title(f"sd {np.nanstd(spread):.3g}", loc="right", fontsize=9)
    tell_dates(axes[-1, 0])
    title = f"{fitted.target} against {', '.join(fitted.hedges)}"
    figure.suptitle(literal(title), fontsize=12)
    return figure


def _columns(table: pd.DataFrame, mean: str, sd: str) -> pd.DataFrame:
    return pd.DataFrame({"mean": table[mean], "sd": table[sd]}, index=table.index)
