"""What a prior says, what the data add, and the likelihood between them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kfmodels.data.hedge_data import HedgeData
from kfmodels.evaluate.landscape import NEAR_THE_TOP, Surface
from kfmodels.evaluate.prior_check import PriorPredictive
from kfmodels.evaluate.sensitivity import SENSITIVE
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.transforms import transform_of
from kfmodels.plots.ink import (
    BAND,
    CYCLE,
    FAINT,
    INK,
    OTHER,
    blank,
    even_memories,
    in_bars,
    literal,
    tell_dates,
    unit,
)


def plausible_paths(drawn: PriorPredictive, data: HedgeData, *, shown: int = 40) -> Figure:
    """Paths that a prior considers plausible: hedge ratio, target and spread, and the target as it was.

    The shaded band holds 90 % of all paths at each date; the axes show the middle 98 %, and all of the
    target as it was.

    Args:
        drawn: of `prior_predictive`.
        data: the rows it was drawn over.
        shown: number of paths of ratio and target that are drawn one by one; of the spread it is one.

    Example:
        >>> from kfmodels import datasets, hedge_ratio_model
        >>> from kfmodels.evaluate import prior_predictive
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> year = data.after("2022-01-01")
        >>> figure = plausible_paths(prior_predictive(year, hedge_ratio_model(), draws=30), year)
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['ratio to PEP', 'KO, log prices', 'spread of KO (log)']
    """
    hedge, paths = data.hedges[0], drawn.paths
    figure, axes = blank(10, 7.5, 3, sharex=True)
    time = data.index
    target = data.values.iloc[:, 0].to_numpy()
    parts = (
        (f"ratio to {hedge}", paths["ratio"].sel(hedge=hedge).values, None, shown),
        (
            f"{data.target}, {transform_of(data.transform).words}",
            paths["target"].values,
            target,
            shown,
        ),
        (f"spread of {data.target}{unit(data.transform)}", paths["spread"].values, None, 1),
    )
    for axis, (name, values, seen, count) in zip(axes[:, 0], parts, strict=True):
        lower, upper = np.nanquantile(values, [0.05, 0.95], axis=0)
        axis.fill_between(
            time, lower, upper, color=BAND, alpha=0.5, lw=0, label="90 % of all paths"
        )
        axis.plot(time, values[:count].T, color=INK, lw=0.5, alpha=0.35)
        if seen is not None:
            axis.plot(time, seen, color=OTHER, lw=1.4, label="as it was")
            axis.legend(loc="upper left", frameon=False, fontsize=9)
        low, high = np.nanquantile(values, [0.01, 0.99])
        if seen is not None:  # what was is never left out
            low, high = min(low, np.nanmin(seen)), max(high, np.nanmax(seen))
            low, high = low - 0.03 * (high - low), high + 0.03 * (high - low)
        axis.set(ylabel=literal(name), ylim=(low, high))
    tell_dates(axes[-1, 0])
    title = f"Plausible before the data: {data.target} on {', '.join(data.hedges)}"
    figure.suptitle(literal(title))
    return figure


def memories(fits: Mapping[str, HedgeFit]) -> Figure:
    """Prior and posterior memory of every coefficient, on a logarithmic axis of bars.

    One colour a fit: its prior is dashed, its posterior solid. It takes one fit, fits under several
    priors, or `what_if(...).fit` beside the fit it came from.

    Example:
        >>> from kfmodels import NUTS, datasets, fit
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> year, quick = data.after("2019-01-01").before("2020-01-01"), NUTS(draws=500, chains=2)
        >>> figure = memories({"default": fit(year, method=quick, progress=False)})
        >>> [axes.get_title() for axes in figure.axes]
        ['PEP', 'alpha']
    """
    names = list(dict.fromkeys(name for fitted in fits.values() for name in fitted.coef))
    figure, axes = blank(4.8 * len(names), 3.2, 1, len(names))
    edges = even_memories(1.0005, 5000.0, 61)
    for axis, name in zip(axes[0], names, strict=True):
        for number, (label, fitted) in enumerate(fits.items()):
            if name not in fitted.coef:
                continue
            colour = CYCLE[number % len(CYCLE)]
            for group, style in (("prior", "--"), ("posterior", "-")):
                memory = fitted.tree[group].to_dataset()["memory"].sel(coef=name).values.ravel()
                # the end steps count all beyond; the last edge belongs to no step
                shown = np.clip(memory, edges[0], np.nextafter(edges[-1], 0))
                share = np.histogram(shown, edges)[0] / max(len(shown), 1)
                said = f"{label}, {group}" if len(fits) > 1 else group
                axis.stairs(share, edges, color=colour, ls=style, lw=1.5, label=literal(said))
        in_bars(axis)
        axis.tick_params(axis="x", labelsize=8)
        axis.set(
            title=literal(name),
            xlabel="memory (bars; the outermost steps hold all beyond them)",
            yticks=[],
            ylim=(0, None),
        )
    if len(fits) > 2:
        entries = axes[0, 0].get_legend_handles_labels()
        figure.legend(*entries, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    else:
        axes[0, 0].legend(frameon=False, fontsize=9)
    return figure


def sensitivity(table: pd.DataFrame) -> Figure:
    """How far each posterior moves when the prior, or the likelihood, is raised to a power near one.

    Args:
        table: of `prior_sensitivity`.

    Example:
        >>> rows = {"prior": [0.2, 0.01], "likelihood": [0.1, 0.1], "verdict": ["both", "the data's"]}
        >>> figure = sensitivity(pd.DataFrame(rows, index=["log q of PEP", "ratio to PEP"]))
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['log q of PEP', 'ratio to PEP']
    """
    figure, axes = blank(7.5, 0.8 + 0.45 * len(table))
    axis, spots = axes[0, 0], np.arange(len(table))
    for shift, part, colour in ((-0.18, "prior", OTHER), (0.18, "likelihood", INK)):
        axis.barh(spots + shift, table[part], height=0.33, color=colour, label=part)
    axis.axvline(SENSITIVE, color=FAINT, ls=":", lw=1.2)
    for spot, verdict in zip(spots, table["verdict"], strict=True):
        axis.annotate(
            literal(verdict),
            (float(table[["prior", "likelihood"]].iloc[spot].max()), spot),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="0.3",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},  # over the dotted line
        )
    axis.set_yticks(spots, [literal(name) for name in table.index])
    axis.invert_yaxis()
    axis.set(xlabel=f"sensitivity (worth a look above {SENSITIVE:g})")
    axis.margins(x=0.45)
    axis.set_xlim(left=0)
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def likelihood(surface: Surface) -> Figure:
    """The likelihood of the memories: profile of that of the ratio, and both memories together.

    Left, the best log likelihood at each effective memory of the ratio, relative to the top, and that
    of a static ratio as a line; right, the same over both memories, with the peaks of the posterior.

    Example:
        >>> from kfmodels import datasets
        >>> from kfmodels.evaluate import likelihood_surface
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> figure = likelihood(likelihood_surface(data.after("2022-01-01"), points=(20, 12, 12)))
        >>> [axes.get_ylabel() for axes in figure.axes][:2]
        ['log likelihood below the top', 'memory of the intercept (bars)']
    """
    both = len(surface.alpha_memory) > 1
    figure, axes = blank(10 if both else 5.5, 3.8, 1, 2 if both else 1)
    profile = surface.profile(0)
    left = axes[0, 0]
    left.plot(surface.beta_memory[1:], profile.iloc[1:], color=INK, lw=1.6)
    still = float(profile.iloc[0])
    # 12 nats down nothing is left to see, and a fall of hundreds would flatten the top
    deepest = max(-12.0, min(float(profile.min()), still) - 1)
    left.set(ylim=(1.3 * deepest if still < deepest else deepest, 0.5))
    if still > deepest:
        left.axhline(still, color=OTHER, lw=1.2, ls="--", label=f"static: {still:.1f}")
    else:
        left.plot([], [], color=OTHER, lw=1.2, ls="--", label=f"static: {still:.0f}, far below")
    left.axhspan(-NEAR_THE_TOP, 0, color=BAND, alpha=0.4, lw=0)
    left.legend(frameon=False, fontsize=9, loc="lower right")
    name = literal(f"effective memory of the ratio to {surface.hedge} (bars)")
    left.set(xlabel=name, ylabel="log likelihood below the top")
    in_bars(left)
    left.set_xlim(surface.beta_memory[1], surface.beta_memory[-1])
    left.tick_params(axis="x", labelsize=8)
    if both:
        right = axes[0, 1]
        height = surface.log_likelihood[1:].max(axis=2) - surface.log_likelihood.max()
        levels = [-1000.0, -100.0, -30.0, -10.0, -5.0, -2.0, -0.5, 0.0]
        alpha = surface.alpha_memory
        right.contourf(
            surface.beta_memory[1:], alpha, np.maximum(height.T, -999.0), levels, cmap="Blues"
        )
        right.contour(
            surface.beta_memory[1:], alpha, height.T, [-NEAR_THE_TOP], colors=[INK], linewidths=1
        )
        columns = ["beta_memory", "alpha_memory", "mass"]
        for across, up, mass in surface.modes[columns].to_numpy().tolist():
            right.plot(across, up, "o", color=OTHER, ms=5)
            name_it = f"  {mass:.0%}" if len(surface.modes) > 1 else "  peak of the posterior"
            right.annotate(name_it, (across, up), fontsize=9, color=OTHER, va="center")
        in_bars(right)
        in_bars(right, along="y")
        right.tick_params(labelsize=8)
        right.set(xlabel=name, ylabel="memory of the intercept (bars)")
    return figure
