"""Whether forecasts were calibrated, and what each hedge was worth."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kfmodels.evaluate.calibration import Calibration
from kfmodels.evaluate.compare import Comparison
from kfmodels.plots.ink import BAND, CYCLE, DPI, FAINT, INK, OTHER, blank, literal, tell_dates

_BINS = 10
"""Steps of a histogram of probabilities."""


def forecasts(compared: Comparison) -> Figure:
    """Honesty and lead of compared models: PIT histograms, sd of z by year, and the score race.

    The histogram of an honest forecast is flat: inside the shaded band, where chance leaves 95 % of
    the bars. A hump says that the forecast was too wide, a bowl too narrow. The race, of several
    models, sums the log score of each minus that of the best one.

    Args:
        compared: of `compare`.

    Example:
        >>> from kfmodels import HedgeData, compare, datasets, fit, hedge_ratio_model
        >>> prices = datasets.stocks()[["KO", "PEP"]]
        >>> data = HedgeData.from_prices(prices, target="KO", hedges=["PEP"])
        >>> model = hedge_ratio_model(delta=0.1, obs_scale=0.005)
        >>> fixed = fit(data.after("2020-01-01").before("2021-01-01"), model)
        >>> figure = forecasts(compare({"fixed": fixed}, prices))
        >>> len(figure.axes)
        2
    """
    models = list(compared.table.index)
    colours = {name: CYCLE[i % len(CYCLE)] for i, name in enumerate(models)}
    if len(models) == 1:  # which has nobody to race with
        figure, axes = blank(10, 3.2, 1, 2)
        top, years = axes[0, :1], axes[0, 1]
    else:
        figure = Figure(figsize=(10, 6), layout="constrained", dpi=DPI)
        above, below = figure.subfigures(2, 1, squeeze=False)[:, 0]
        top = above.subplots(1, len(models), squeeze=False)[0]
        race, years = below.subplots(1, 2)
        _race(race, compared, colours)
    rows = len(compared.pit)
    # binomial, of the count in one bar, as a share of its mean
    width = 1.96 * np.sqrt((1 - 1 / _BINS) * _BINS / rows)
    for number, name in enumerate(models):
        axis = top[number]
        axis.axhspan(1 - width, 1 + width, color=BAND, alpha=0.5, lw=0)
        axis.hist(
            compared.pit[name], np.linspace(0, 1, _BINS + 1), density=True, color=colours[name]
        )
        axis.axhline(1, color=FAINT, lw=1)
        axis.set(title=literal(name), yticks=[0, 1, 2], ylim=(0, 2.6))
        axis.set_xlabel("PIT", fontsize=9)
    spots = np.arange(len(compared.by_year))
    for number, name in enumerate(models):
        shift = (number - (len(models) - 1) / 2) * 0.8 / len(models)
        years.bar(
            spots + shift, compared.by_year[name], width=0.75 / len(models), color=colours[name]
        )
    years.axhline(1, color=FAINT, lw=1)
    years.set_xticks(spots, [str(year) for year in compared.by_year.index])
    years.set(ylabel="sd of z (1 is honest)")
    return figure


def _race(axes: Axes, compared: Comparison, colours: dict[str, str]) -> None:
    best = compared.log_scores[compared.table.index[0]]
    for name, colour in colours.items():
        lead = (compared.log_scores[name] - best).cumsum()
        axes.plot(lead.index, lead, color=colour, lw=1.4, label=literal(name))
    axes.set(ylabel="log score less that of the best")
    tell_dates(axes)
    axes.legend(frameon=False, fontsize=9)


def effectiveness(table: pd.DataFrame) -> Figure:
    """Share of variance that each hedge removed, with its interval, and how much it traded.

    Args:
        table: of `hedge_effectiveness`.

    Example:
        >>> from kfmodels import datasets, hedge_effectiveness
        >>> prices = datasets.factor_etfs()[["MTUM", "QUAL"]]
        >>> table = hedge_effectiveness(prices, target="MTUM", hedges=["QUAL"], train=1000)
        >>> [text.get_text() for text in effectiveness(table).axes[0].get_yticklabels()][0]
        'price ratio'
    """
    figure, axes = blank(10, 1.0 + 0.34 * len(table), 1, 2, sharey=True, width_ratios=[3, 1.3])
    left, right = axes[0]
    spots = np.arange(len(table))
    ours = ~table.index.str.match("price ratio|static OLS|rolling OLS|EWMA|mean of 7|DCC|lasso")
    colours = np.where(ours, OTHER, INK)
    for spot, (_, row), colour in zip(spots, table.iterrows(), colours, strict=True):
        left.plot([row["lower"], row["upper"]], [spot, spot], color=colour, lw=2, alpha=0.5)
        left.plot(row["variance_removed"], spot, "o", color=colour, ms=6)
    left.axvline(table["variance_removed"].to_numpy().max(), color=FAINT, ls=":", lw=1)
    left.set_yticks(spots, [literal(name) for name in table.index])
    left.invert_yaxis()
    left.set(xlabel="share of the target's variance removed (90 % interval)")
    right.barh(spots, table["turnover"].fillna(0), height=0.5, color=colours)
    right.set(xlabel="turnover a year (x target)")
    return figure


def published_bands(table: pd.DataFrame) -> Figure:
    """How honest the bands of published settings are on these prices, and how long they remember.

    Left, the sd of z: 1 is honest; above 1 the bands are too narrow, below 1 too wide. Right, the
    effective memory of the hedge ratio.

    Args:
        table: of `published.table`.

    Example:
        >>> from kfmodels import HedgeData, datasets
        >>> from kfmodels.evaluate import published
        >>> prices = datasets.stocks().loc["2022"]
        >>> data = HedgeData.from_prices(prices, target="KO", hedges=["PEP"], transform="level")
        >>> published_bands(published.table(data)).axes[0].get_xlabel()
        'sd of z (1 is honest)'
    """
    figure, axes = blank(10, 1.0 + 0.34 * len(table), 1, 2, sharey=True)
    spots = np.arange(len(table))
    names = (("z_sd", "sd of z (1 is honest)"), ("effective_memory", "effective memory (bars)"))
    for axis, (column, label) in zip(axes[0], names, strict=True):
        values = table[column].to_numpy(float)
        shown = np.where(np.isfinite(values), values, np.nan)
        axis.hlines(spots, 1, shown, color=BAND, lw=3)
        axis.plot(shown, spots, "o", color=INK, ms=6)
        for spot, value in zip(spots, values, strict=True):
            text = f"  {value:.3g}  " if np.isfinite(value) else "  static  "
            where = (value if np.isfinite(value) else 1, spot)
            side = "right" if value < 1 else "left"
            axis.annotate(text, where, va="center", ha=side, fontsize=9)
        axis.set_xscale("log")
        axis.axvline(1, color=FAINT, lw=1)
        axis.margins(x=0.3)
        axis.set(xlabel=label)
    axes[0, 0].set_yticks(spots, [literal(name) for name in table.index])
    axes[0, 0].invert_yaxis()
    return figure


def calibration(calibrated: Calibration) -> Figure:
    """Rank of the truth among posterior draws over all simulations; flat is calibrated.

    One histogram a quantity, with the band in which chance leaves 99 % of its bars.

    Args:
        calibrated: of `calibrate`.

    Example:
        >>> ranks = pd.DataFrame({"obs_scale": np.arange(100) % 100})
        >>> below = pd.DataFrame({"PEP": np.linspace(0, 1, 100)})
        >>> cover = below < 0.9
        >>> made = Calibration(ranks, 99, below, cover, pd.DataFrame())
        >>> [axes.get_title() for axes in calibration(made).axes]
        ['obs_scale', 'final PEP']
    """
    shares = {
        name: (ranks.to_numpy() + 0.5) / (calibrated.kept + 1)
        for name, ranks in calibrated.ranks.items()
    }
    shares |= {f"final {name}": v.to_numpy() for name, v in calibrated.probability.items()}
    columns = min(len(shares), 3)
    rows = -(-len(shares) // columns)
    figure, axes = blank(10, 2.4 * rows, rows, columns)
    count = len(calibrated.cover)
    # binomial, of the count in one bar
    band = 2.58 * np.sqrt(count * (1 / _BINS) * (1 - 1 / _BINS))
    for axis, (name, values) in zip(axes.ravel(), shares.items(), strict=False):
        axis.axhspan(count / _BINS - band, count / _BINS + band, color=BAND, alpha=0.5, lw=0)
        axis.hist(values, np.linspace(0, 1, _BINS + 1), color=INK, rwidth=0.92)
        axis.axhline(count / _BINS, color=FAINT, lw=1)
        axis.set(title=literal(name), xlim=(0, 1))
    for axis in axes.ravel()[len(shares) :]:
        axis.remove()
    figure.supxlabel("rank of the truth among posterior draws", fontsize=10)
    return figure
