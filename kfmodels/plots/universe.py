"""The hedge of one target of a universe, and the legs of all as a map."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from kfmodels.basket.settings import CHOOSER
from kfmodels.plots.board import heat_map
from kfmodels.plots.ink import BAND, CYCLE, FAINT, INK, OTHER, blank, literal, tell_dates
from kfmodels.universe.universe import HedgeUniverse

_SHOWN = 5
"""Legs whose ratios are drawn, and no more: lines that cannot be told apart say nothing."""

_MEMORY = 100
"""Rows over which a running sd looks back."""


def target_hedge(universe: HedgeUniverse, target: str) -> Figure:
    """One target: what 1, 2, 3 ... legs remove, its ratios through time, and what they leave.

    The shares of variance are of rows that no ratio had seen. Ratios are those of the legs that were
    the heaviest over time. The sds are running, of the last 100 rows or so: unhedged, with the best
    single leg, with all.

    Args:
        universe: of `hedge_universe`; not one that was loaded, which holds no past.
        target: one of its targets.

    Raises:
        ValueError: it is none of the targets, or the universe was loaded.

    Example:
        >>> from kfmodels import datasets, hedge_universe, plots
        >>> prices = datasets.etfs().loc[:"2009", ["XLE", "SPY", "XLB", "EEM"]]
        >>> drawn = plots.target_hedge(hedge_universe(prices, targets=["XLE"]), "XLE")
        >>> [axes.get_title() for axes in drawn.axes]
        ['variance removed (%)', 'ratios held', 'sd of a row (%)']
    """
    figure, axes = blank(11, 6.5, 2, 2, width_ratios=[1, 1.7])
    space = axes[0, 0].get_gridspec()
    axes[1, 0].remove()
    axes[0, 0].set_subplotspec(space[:, 0])
    _draw_curve(axes[0, 0], universe, target)
    _draw_ratios(axes[0, 1], universe, target)
    _draw_sds(axes[1, 1], universe, target)
    figure.suptitle(literal(f"{target} hedged within {len(universe.hedges)} assets"), fontsize=13)
    return figure


def universe_map(universe: HedgeUniverse) -> Figure:
    """The legs of every target as a map, those that move together side by side.

    A cell is the sd of what is held in a leg over that of the target: blue is sold against a target
    that is held, brown is bought; grey is not held.

    Args:
        universe: of `hedge_universe` or `load`.

    Example:
        >>> from kfmodels import datasets, hedge_universe, plots
        >>> prices = datasets.etfs().loc[:"2009", ["XLE", "SPY", "XLB", "EEM"]]
        >>> plots.universe_map(hedge_universe(prices)).axes[0].get_ylabel()
        'target'
    """
    weights, order = universe.weights(), sort_assets(universe)
    weights = weights.where(weights != 0)
    rows = [name for name in order if name in weights.index]
    columns = [name for name in order if name in weights.columns]
    return heat_map(weights.loc[rows, columns], title="sd held in a leg, over that of the target")


def sort_assets(universe: HedgeUniverse) -> list[str]:
    """All assets in an order in which those that move together are neighbours.

    Leaves of a tree of average linkage by the distance 1 - |correlation|, turned so that neighbours are
    as near as they can be.

    Source: Bar-Joseph, Gifford and Jaakkola (2001), Fast optimal leaf ordering for hierarchical
    clustering, Bioinformatics 17.
    """
    tickers = list(universe.basket.tickers)
    corr = universe.basket.stand.moments.standardise()[0][CHOOSER]
    apart = np.clip(1 - np.abs(corr), 0, None)
    np.fill_diagonal(apart, 0.0)
    if len(tickers) < 3:
        return tickers
    tree = linkage(squareform(apart, checks=False), "average", optimal_ordering=True)
    return [tickers[number] for number in leaves_list(tree).tolist()]


def _draw_curve(axes: Axes, universe: HedgeUniverse, target: str) -> None:
    removed = 100 * universe.by_legs(target)
    places = np.arange(len(removed))
    colours = [BAND] * (len(removed) - 1) + [INK]
    axes.bar(places, removed, color=colours, width=0.7)
    for place, share in zip(places.tolist(), removed.tolist(), strict=True):
        axes.annotate(
            f"{share:.1f}",
            (place, max(share, 0.0)),
            (0, 3),
            textcoords="offset points",
            ha="center",
        )
    labels = [str(size) for size in removed.index]
    labels[-1] = f"all {labels[-1]}" if universe.basket.legs is None else labels[-1]
    axes.set_xticks(places, labels)
    axes.set(xlabel="legs at most", ylim=(min(removed.min(), 0.0), 100))
    axes.set_title("variance removed (%)", fontsize=11)


def _draw_ratios(axes: Axes, universe: HedgeUniverse, target: str) -> None:
    past = universe.history(target).dropna(how="all")
    sds = universe.basket.stand.moments.standardise()[1][CHOOSER]
    size = past.abs().mean() * pd.Series(sds, list(universe.basket.tickers))
    names = size.loc[size > 0].sort_values(ascending=False, kind="stable").index[:_SHOWN]
    for name, colour in zip(names, CYCLE, strict=False):
        axes.plot(past.index, past[name], color=colour, lw=1.3, label=literal(name))
    axes.axhline(0, color=FAINT, lw=0.8)
    axes.legend(ncols=_SHOWN, fontsize=8, frameon=False, loc="upper left")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.15 * (high - low))
    tell_dates(axes)
    axes.set_title("ratios held", fontsize=11)


def _draw_sds(axes: Axes, universe: HedgeUniverse, target: str) -> None:
    lines = {
        "unhedged": (universe.moves(), FAINT),
        "best single leg": (universe.spreads(1), OTHER),
        "all legs" if universe.basket.legs is None else "its legs": (universe.spreads(), INK),
    }
    for name, (table, colour) in lines.items():
        values = table[target].dropna()
        running = (values**2).ewm(alpha=1 / _MEMORY, min_periods=_MEMORY // 2).mean() ** 0.5
        axes.plot(running.index, 100 * running, color=colour, lw=1.4, label=name)
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])  # room for the legend
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="upper right")
    tell_dates(axes)
    axes.set_title("sd of a row (%)", fontsize=11)
