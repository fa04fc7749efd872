"""A hedge ratio that moves, and its spread, each as it was known at the time."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kfmodels.evaluate.baselines import static_spread
from kfmodels.evaluate.health import burn_in
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.density import Z90
from kfmodels.plots.ink import BAND, INK, OTHER, blank, literal


def hedge_ratio_and_spread(
    fitted: HedgeFit, live: pd.DataFrame | None = None, *, static: float | None = None
) -> Figure:
    """The ratio of the first hedge with its 90 % band, and the spread: training rows, then live ones.

    Args:
        fitted: the fit; its filtered ratio and its spread are drawn up to `fit_until`.
        live: the table of `follow`, drawn after it.
        static: a fixed ratio to compare with.

    Example:
        >>> from kfmodels import HedgeData, datasets, fit, hedge_ratio_model
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> fitted = fit(data.after("2021-01-01"), hedge_ratio_model(delta=1e-4, obs_scale=0.01))
        >>> [axes.get_ylabel() for axes in hedge_ratio_and_spread(fitted).axes]
        ['ratio of KO to PEP', 'spread of KO']
    """
    figure, axes = blank(10, 6.5, 2, sharex=True, height_ratios=[3, 2])
    above, below = axes[:, 0]
    hedge = fitted.hedges[0]
    ratio, spread = fitted.hedge_ratio(), fitted.spread()
    if len(fitted.hedges) > 1:
        ratio = ratio.xs(hedge, axis=1)
    if live is not None:
        ratio = pd.concat([ratio, _columns(live, f"beta {hedge}", f"sd_total {hedge}")])
        spread = pd.concat([spread, _columns(live, "spread", "spread_sd")])
    middle, wide = ratio["mean"], Z90 * ratio["sd"]
    above.fill_between(ratio.index, middle - wide, middle + wide, color=BAND, alpha=0.6, lw=0)
    above.plot(ratio.index, middle, color=INK, lw=1.3, label="filtered, 90 % band")
    # the first rows, where the prior still shows, would set the scale of all others
    warm = ratio.iloc[min(60, len(ratio) // 2) :]
    low, high = (warm["mean"] - 3 * warm["sd"]).min(), (warm["mean"] + 3 * warm["sd"]).max()
    if static is not None:
        above.axhline(static, color=OTHER, lw=1.4, label="static, fitted overnight")
        low, high = min(low, static), max(high, static)
    above.set(ylabel=literal(f"ratio of {fitted.target} to {hedge}"), ylim=(low, high))
    below.fill_between(
        spread.index, -Z90 * spread["sd"], Z90 * spread["sd"], color=BAND, alpha=0.6, lw=0
    )
    below.plot(spread.index, spread["mean"], color=INK, lw=0.7)
    tall = 1.1 * max(np.nanmax(np.abs(spread["mean"].iloc[20:])), 0.0)
    below.set(ylabel=literal(f"spread of {fitted.target}"), ylim=(-tall, tall))
    if live is not None:
        for axes in (above, below):
            axes.axvline(fitted.fit_until, color="0.3", ls=":", lw=1.2)
        above.annotate(
            "noise inferred up to here, then tick by tick",
            (fitted.fit_until, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-6, -6),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=9,
        )
    above.legend(loc="lower left", frameon=False, fontsize=9)
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
    innovation = fitted.spread()["mean"]
    innovation.iloc[: burn_in(len(innovation))] = np.nan
    figure, axes = blank(10, 4.5, 2, sharex=True, sharey=True)
    static = static_spread(fitted.data)
    rows = (("static spread", static, OTHER), ("innovation", innovation, INK))
    for (name, spread, colour), axis in zip(rows, axes[:, 0], strict=True):
        axis.axhline(0, color="0.7", lw=0.8)
        axis.plot(spread.index, spread, color=colour, lw=0.8)
        axis.set(ylabel=name)
        axis.set_title(f"sd {np.nanstd(spread):.3g}", loc="right", fontsize=9)
    title = f"{fitted.target} against {', '.join(fitted.hedges)}"
    figure.suptitle(literal(title), fontsize=12)
    return figure


def _columns(table: pd.DataFrame, mean: str, sd: str) -> pd.DataFrame:
    return pd.DataFrame({"mean": table[mean], "sd": table[sd]}, index=table.index)
