"""Many pairs as maps: a cell for each pair, targets in rows and hedges in columns."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from kfmodels.batch.board import HedgeBoard
from kfmodels.plots.ink import BAND, INK, OTHER, TICKS, blank, literal

WRITTEN = 15
"""Tickers up to which the cells hold their values."""

_LABELLED = 40
"""Tickers up to which each is named."""

_OUTSIDE = 0.02
"""Share of the cells at either end that may lie beyond the scale of colours: one odd pair would
otherwise leave one shade to all others."""

_DOUBT, _SURE = 3.0, 10.0
"""Bounds on the nats of evidence at which the colours end: small evidence is not to look strong, and
beyond the second more makes nothing surer."""


def heat_map(matrix: pd.DataFrame, *, title: str = "") -> Figure:
    """A table of targets (rows) by hedges (columns) as colours; grey where there is no number.

    Values of both signs diverge from 0, values on both sides of 1 (hedge ratios) from 1, others run
    from pale to dark. One cell in fifty at either end may lie beyond the scale. With up to 15 tickers
    the cells show their values.

    Args:
        matrix: of `HedgeBoard.matrix` or `HedgeBoard.hedge_ratios`.
        title: above the map.

    Example:
        >>> ratios = pd.DataFrame({"A": [np.nan, 0.8], "B": [1.25, np.nan]}, index=["A", "B"])
        >>> [text.get_text() for text in heat_map(ratios, title="ratio").axes[0].texts]
        ['1.25', '0.80']
    """
    rows, columns = matrix.shape
    figure, axes = blank(*_size(rows, columns))
    _draw(axes[0, 0], title, matrix, *_scale(matrix))
    return figure


def board(board: HedgeBoard) -> Figure:
    """Four maps of a board: hedge ratio, its sd in per cent of it, effective memory, evidence.

    The memory is the one over which the ratio is learnt, on a log scale. The evidence is in nats for
    the model against a ratio that stands still; its colours end at 10, beyond which more is no surer.

    Args:
        board: of `fit_many`, or `HedgeBoard.open`.

    Example:
        >>> from kfmodels import HedgeData, datasets, fit_many
        >>> prices = datasets.etfs().loc["2014":"2015", ["EWG", "EWQ"]]
        >>> fitted = fit_many(HedgeData.all_pairs(prices), progress=False)
        >>> from kfmodels import plots
        >>> [axes.get_title() for axes in plots.board(fitted).axes[:2]]
        ['hedge ratio', 'its sd (% of it)']
    """
    ratio = board.hedge_ratios()
    share = 100 * board.matrix("sd") / ratio.abs()
    memory = board.matrix("effective_memory").replace(np.inf, np.nan)
    evidence = board.matrix("against_static")
    rows, columns = ratio.shape
    wide, tall = _size(rows, columns)
    figure, axes = blank(2 * wide, 2 * tall, 2, 2)
    sure = _around(0.0, evidence, _DOUBT, _SURE)
    _draw(axes[0, 0], "hedge ratio", ratio, *_scale(ratio))
    _draw(axes[0, 1], "its sd (% of it)", share, _PALE, Normalize(0, min(_most(share), 100.0)))
    _draw(axes[1, 0], "learnt over (bars)", memory, _PALE, _logarithmic(memory))
    _draw(axes[1, 1], "evidence against a static ratio (nats)", evidence, _BOTH, sure)
    return figure


def _size(rows: int, columns: int) -> tuple[float, float]:
    """Width and height of one map: room for numbers in the cells where there are any."""
    cell = 0.5 if max(rows, columns) <= WRITTEN else 0.25
    wide, tall = (min(max(cell * count, 2.5), 12.0) for count in (columns, rows))
    return wide + 2.2, tall + 1.2


def _colours(*colours: str) -> Colormap:
    return LinearSegmentedColormap.from_list("board", colours).with_extremes(bad="0.8")


_BOTH = _colours(OTHER, "#f4b183", "#fdfcf8", BAND, INK)
_PALE = _colours("#f4f8fc", BAND, INK)


def _scale(matrix: pd.DataFrame) -> tuple[Colormap, Normalize]:
    """Colours for any numbers: around 0 or 1 where they lie on both sides, pale to dark otherwise."""
    values = _finite(matrix)
    if len(values):
        low, high = values.min(), values.max()
        for centre in (0.0, 1.0):
            if low < centre < high:
                return _BOTH, _around(centre, matrix, 0.0, np.inf)
        low, high = _ends(values)
        # a scale needs two ends where all numbers are equal, or 0
        return _PALE, Normalize(low, high if high > low else low + (abs(low) or 1.0))
    return _PALE, Normalize(0, 1)


def _ends(values: np.ndarray) -> np.ndarray:
    """The least and the largest value, without those that may lie beyond the scale."""
    # "nearest" takes a value of the table: where cells are few, none lies beyond the scale
    return np.quantile(values, [_OUTSIDE, 1 - _OUTSIDE], method="nearest")


def _around(centre: float, matrix: pd.DataFrame, least: float, most: float) -> Normalize:
    """Colours on both sides of a centre, up to the largest distance from it within two limits."""
    away = min(max(_most((matrix - centre).abs()), least), most)
    return Normalize(centre - away, centre + away)


def _logarithmic(matrix: pd.DataFrame) -> Normalize:
    values = _finite(matrix)
    if not len(values):
        return LogNorm(1, 10)
    low, high = _ends(values)
    return LogNorm(low / 1.2, high * 1.2)


def _most(matrix: pd.DataFrame) -> float:
    """The upper end of the values; 1 where there is none, or it is 0."""
    values = _finite(matrix)
    return (float(_ends(values)[1]) if len(values) else 1.0) or 1.0


def _finite(matrix: pd.DataFrame) -> np.ndarray:
    values = matrix.to_numpy(float)
    return values[np.isfinite(values)]


def _draw(axes: Axes, title: str, matrix: pd.DataFrame, colours: Colormap, norm: Normalize) -> None:
    values = matrix.to_numpy(float)
    rows, columns = values.shape
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, norm=norm, aspect="auto")
    for axis, labels in ((axes.xaxis, matrix.columns), (axes.yaxis, matrix.index)):
        step = -(-len(labels) // _LABELLED)
        axis.set_ticks(range(0, len(labels), step), [literal(name) for name in labels[::step]])
        axis.set_tick_params(length=0, labelsize=9 if len(labels) <= WRITTEN else 7)
    axes.tick_params(axis="x", rotation=90 if columns > WRITTEN else 0)
    axes.set(xlabel="hedge", ylabel="target")
    axes.set_title(title, fontsize=11)
    for side in axes.spines.values():
        side.set_visible(False)
    if len(values) and max(rows, columns) <= WRITTEN:
        _write(axes, values, colours, norm)
    found = _finite(matrix)
    below, above = (found < norm.vmin).any(), (found > norm.vmax).any()
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
    ends = {"extend": extend[int(below), int(above)], "extendfrac": 0.02}
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, aspect=30, **ends)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    if isinstance(
        norm, LogNorm
    ):  # the usual ticks are powers of ten, of which a scale may hold none
        low, high = image.get_clim()
        shown = [tick for tick in (*TICKS, 30.0, 120.0, 500.0) if low <= tick <= high]
        bar.ax.yaxis.set_major_locator(FixedLocator(sorted(shown)))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda bars, _: f"{bars:g}"))


def _write(axes: Axes, values: np.ndarray, colours: Colormap, norm: Normalize) -> None:
    """The numbers in their cells, light on dark."""
    size = 9 if max(values.shape) <= 8 else 7
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            red, green, blue, _ = colours(norm(value))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.55  # luma: how bright an eye sees it
            axes.text(
                column,
                row,
                _short(value),
                ha="center",
                va="center",
                fontsize=size,
                color="white" if dark else "black",
            )


def _short(value: float) -> str:
    digits = ".0f" if abs(value) >= 100 else "#.3g" if abs(value) >= 1 else "#.2g"
    return f"{value:{digits}}"
