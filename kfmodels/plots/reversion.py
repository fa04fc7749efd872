"""A spread that comes back, beside the level that it comes back to."""

import jax
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from kfmodels.evaluate.health import burn_in
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.fitting.alternatives import WITH
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.density import Z90
from kfmodels.plots.ink import BAND, INK, OTHER, blank, literal, tell_dates, unit


def reversion(fitted: HedgeFit, live: pd.DataFrame | None = None) -> Figure:
    """Level and spread by date, each with its 90 % band, and the half-life before and after the data.

    Both are filtered. The level is that of the target at the mean of its hedges over the training rows,
    in transformed units; the thin line is level and spread together. The histograms are of the draws
    that have a spread.

    Args:
        fitted: of a model with `spread=Reverting()`.
        live: the table of `follow`, whose spread is drawn after that of the training rows.

    Raises:
        ValueError: the model has no spread that comes back.

    Example:
        >>> from kfmodels import HedgeData, Reverting, datasets, fit, hedge_ratio_model
        >>> prices = datasets.stocks()[["KO", "PEP"]].loc["2019"]
        >>> data = HedgeData.from_prices(prices, target="KO", hedges=["PEP"])
        >>> fitted = fit(data, hedge_ratio_model(spread=Reverting()), progress=False)
        >>> [axes.get_ylabel() for axes in reversion(fitted).axes]
        ['level of KO (log)', 'spread of KO (log)', 'share of draws']
    """
    spread = fitted.reversion().drop(columns=["z", "level"])
    level, both = _level(fitted)
    if live is not None:
        later = live[["reversion", "reversion_sd"]].set_axis(["mean", "sd"], axis=1)
        spread = pd.concat([spread, pd.DataFrame(later)])
    figure, axes = blank(11, 5.5, 2, 2, width_ratios=[3, 1.2])
    (above, upper), (below, lower) = axes
    above.sharex(below)
    above.tick_params(labelbottom=False)
    right = figure.add_subplot(upper.get_gridspec()[:, 1])
    upper.remove()
    lower.remove()
    warm = burn_in(len(level))  # the first rows, where the start still shows, would set the scale
    _band(above, level, warm)
    above.plot(both.index[warm:], both.iloc[warm:], color=OTHER, lw=0.5, label="with the spread")
    above.set(ylabel=literal(f"level of {fitted.target}{unit(fitted.data.transform)}"))
    above.legend(loc="best", frameon=False, fontsize=9)
    _band(below, spread, warm)
    below.axhline(0, color="0.5", lw=0.8)
    below.set(ylabel=literal(f"spread of {fitted.target}{unit(fitted.data.transform)}"))
    tell_dates(below)
    if live is not None:
        for axis in (above, below):
            axis.axvline(fitted.fit_until, color="0.3", ls=":", lw=1.2)
    _half_lives(right, fitted)
    hedges = ", ".join(fitted.hedges)
    title = f"{fitted.target} hedged with {hedges}: a spread that comes back?"
    figure.suptitle(literal(title), fontsize=12)
    return figure


def _band(axis: Axes, table: pd.DataFrame, warm: int) -> None:
    shown = table.iloc[warm:]
    middle, wide = shown["mean"], Z90 * shown["sd"]
    axis.fill_between(shown.index, middle - wide, middle + wide, color=BAND, alpha=0.6, lw=0)
    axis.plot(shown.index, middle, color=INK, lw=1.0, label="filtered, 90 % band")


def _level(fitted: HedgeFit) -> tuple[pd.DataFrame, pd.Series]:
    """Mean and sd of the level at the mean of the hedges, and level and spread together, by date."""
    tree, inner = fitted.tree, trees.coordinates(fitted.tree)
    groups = (trees.stored_sites(tree), trees.stored_sites(tree, "plug_in"))
    sites = {name: np.concatenate([one[name] for one in groups]) for name in groups[0]}
    with jax.enable_x64(True):
        law, y = trees.posed(tree, fitted.data, sites)
        belief = jax.device_get(passes.forward(law, y)).first(len(fitted.index)).filtered
    place = inner.coefficients - 1  # the spread is the last state
    level = belief.mean[:, place] + inner.offset
    sd = np.sqrt(belief.cov[:, place, place])
    both = pd.Series(level + belief.mean[:, -1], fitted.index)
    return pd.DataFrame({"mean": level, "sd": sd}, fitted.index), both


def _half_lives(axis: Axes, fitted: HedgeFit) -> None:
    """Histograms of the half-life, prior and posterior, on a logarithmic axis."""
    found = {}
    for group in ("prior", "posterior"):
        drawn = trees.group_of(fitted.tree, group)
        found[group] = drawn["spread_half_life"].values[drawn[WITH].values == 1]
    edges = np.geomspace(0.5, 2000, 31)
    for (group, lives), style in zip(found.items(), ("--", "-"), strict=True):
        if len(lives):
            shown = np.clip(lives, edges[0], edges[-1] * (1 - 1e-12))
            counts, _ = np.histogram(shown, edges)
            axis.stairs(counts / len(lives), edges, color=INK, ls=style, lw=1.3, label=group)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda bars, _: f"{bars:g}"))
    axis.set(xlabel="half-life, bars", ylabel="share of draws")
    axis.set_title(f"it comes back: {float(fitted.tree.attrs['probability']):.0%}", fontsize=10)
    axis.legend(frameon=False, fontsize=9)
