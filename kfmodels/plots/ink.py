"""Colours and axes that the pictures share."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, BAND, OTHER, FAINT = "#1f4e79", "#9dc3e6", "#c55a11", "0.6"
CYCLE = (INK, OTHER, "#548235", "#7f6000", "#7030a0", "#00808a")
"""Colours of things compared, in their order."""


def blank(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure outside pyplot, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


TICKS = (1.001, 1.01, 1.1, 1.5, 3.0, 10.0, 60.0, 250.0, 2000.0)
"""Memories in bars that an axis of memories names."""


def _stretched(bars: np.ndarray) -> np.ndarray:
    """-log q of a memory."""
    bars = np.maximum(bars, 1 + 1e-6)
    return np.log(bars) + np.log(bars - 1)


def _unstretched(value: np.ndarray) -> np.ndarray:
    return (1 + np.sqrt(1 + 4 * np.exp(value))) / 2


def in_bars(axes: "Axes", along: str = "x") -> None:
    """An axis of memories, even in log q (so that memories near one bar have room), ticks in bars."""
    scale = axes.set_xscale if along == "x" else axes.set_yscale
    scale("function", functions=(_stretched, _unstretched))
    axis = axes.xaxis if along == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(TICKS))
    axis.set_major_formatter(FuncFormatter(lambda bars, _: f"{bars:g}"))


def even_memories(low: float, high: float, count: int) -> np.ndarray:
    """Memories that are evenly spaced on such an axis."""
    first, last = _stretched(np.array([low, high]))
    return _unstretched(np.linspace(first, last, count))


def density(axes: "Axes", memories: np.ndarray, edges: np.ndarray, **style: Any) -> None:
    """Share of the memories per step of such an axis, as a curve of steps."""
    shown = np.clip(memories, edges[0], np.nextafter(edges[-1], 0))
    counts, _ = np.histogram(shown, edges)
    axes.stairs(counts / max(len(shown), 1), edges, **style)
