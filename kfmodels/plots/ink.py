"""Colours and axes that the pictures share."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DateLocator
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from kfmodels.kalman.transforms import Transform

INK, BAND, OTHER, FAINT = "#1f4e79", "#9dc3e6", "#c55a11", "0.6"
DPI = 110
"""Dots an inch that a picture is drawn with where nothing else is asked for: its labels can be read."""

CYCLE = (INK, OTHER, "#548235", "#7f6000", "#7030a0", "#00808a")
"""Colours of what is compared, in its order."""


def blank(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    *,
    sharex: bool = False,
    sharey: bool = False,
    width_ratios: Sequence[float] | None = None,
    height_ratios: Sequence[float] | None = None,
) -> tuple[Figure, np.ndarray]:
    """An empty figure and its axes `(rows, columns)`; options as of `Figure.subplots`."""
    # not by pyplot, which would keep every figure open until it is told to close it
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        sharex=sharex,
        sharey=sharey,
        width_ratios=width_ratios,
        height_ratios=height_ratios,
    )
    return figure, axes


def tell_dates(axes: Axes) -> None:
    """Label an axis of dates with few words, far enough apart; leave any other alone."""
    if isinstance(axes.xaxis.get_major_locator(), DateLocator):
        locator = AutoDateLocator(minticks=3, maxticks=7)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))


def literal(text: object) -> str:
    """Text with a ticker or a name of the user in it, as matplotlib shows it unchanged.

    It would read what stands between two dollar signs as mathematics, and leave a line whose name
    begins with an underscore out of the legend.
    """
    shown = str(text).replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{shown}" if shown.startswith("_") else shown


def unit(transform: Transform) -> str:
    """After what is drawn of a target, the unit it has; nothing where it has that of the prices."""
    return "" if transform.by_shares else f" ({transform})"


TICKS = (1.001, 1.01, 1.1, 1.5, 3.0, 10.0, 60.0, 250.0, 2000.0)
"""Memories in bars at which an axis of memories has ticks."""


def _stretched(bars: np.ndarray) -> np.ndarray:
    """-log q of a memory."""
    bars = np.maximum(bars, 1 + 1e-6)  # the log of 0 at a memory of one bar, where q is infinite
    return np.log(bars) + np.log(bars - 1)


def _unstretched(value: np.ndarray) -> np.ndarray:
    return (1 + np.sqrt(1 + 4 * np.exp(value))) / 2


def in_bars(axes: Axes, along: str = "x") -> None:
    """Make an axis one of memories: even in log q, so that those near one bar have room."""
    scale = axes.set_xscale if along == "x" else axes.set_yscale
    scale("function", functions=(_stretched, _unstretched))
    axis = axes.xaxis if along == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(TICKS))
    axis.set_major_formatter(FuncFormatter(lambda bars, _: f"{bars:g}"))


def even_memories(low: float, high: float, count: int) -> np.ndarray:
    """Memories that are evenly spaced on an axis of memories."""
    first, last = _stretched(np.array([low, high]))
    return _unstretched(np.linspace(first, last, count))
