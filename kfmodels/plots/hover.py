"""Pictures of a page that answer to the pointer: the date, the value and the sd of a row.

Bokeh draws them, by a script that goes into the page itself, so that it opens without a network. No
name that a user gave is in them: Bokeh reads mathematics and templates in its texts, so the page
writes names beside them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from bokeh.embed import components
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    FactorRange,
    HoverTool,
    Legend,
    LegendItem,
    NumeralTickFormatter,
    Range1d,
    ResetTool,
    Span,
)
from bokeh.plotting import figure
from bokeh.resources import Resources

from kfmodels.kalman.density import Z90
from kfmodels.plots.ink import BAND, INK, OTHER
from kfmodels.plots.pair import height_of, span_of

MOST = 2000
"""Points of a line: more would not be seen, and would make the page large."""


def embed(figures: Mapping[str, figure]) -> tuple[str, dict[str, str]]:
    """The script that draws all figures, and what stands for each in the page, by name."""
    script, places = components(dict(figures))
    library = Resources(mode="inline", components=["bokeh"], minified=True).render_js()
    return f"{library}\n{script}", places


def draw_ratio(path: pd.DataFrame, static: float, until: Any, *, beside: figure | None) -> figure:
    """A ratio with its 90 % band, and the static one as a dashed line.

    Args:
        path: `mean` and `sd` by date.
        static: the ratio that does not move.
        until: the last training row, a dotted line where others follow.
        beside: the figure whose dates this one follows when it is zoomed.
    """
    shown = _thin(path)
    columns = _band(shown["mean"], shown["sd"]) | {
        "static": np.full(len(shown), static, np.float32)
    }
    words = {"Ratio": "value", "sd": "sd", "Static": "static"}
    drawn, line = _draw(shown.index, columns, words, span_of(path, static), beside)
    held = drawn.line(
        "at", "static", source=line.data_source, color=OTHER, line_width=2, line_dash="dashed"
    )
    _explain(drawn, {"moving ratio, 90 % band": [line], "static ratio": [held]})
    _mark(drawn, path.index, until)
    return drawn


def draw_spread(spread: pd.DataFrame, until: Any, *, beside: figure | None) -> figure:
    """A spread within the 90 % band that was forecast for it; the arguments are as for `draw_ratio`."""
    step = step_of(spread)
    sizes = spread["mean"].abs().fillna(0).to_numpy()
    # of several rows that one point stands for, the oddest
    starts = range(0, len(spread), step)
    shown = spread.iloc[[start + int(sizes[start : start + step].argmax()) for start in starts]]
    columns = _band(0 * shown["sd"], shown["sd"]) | {"value": shown["mean"].to_numpy(np.float32)}
    tall = height_of(spread)
    drawn, line = _draw(
        shown.index, columns, {"Spread": "value", "sd": "sd"}, (-tall, tall), beside
    )
    _explain(drawn, {"spread, and the 90 % band forecast for it": [line]})
    _mark(drawn, spread.index, until)
    return drawn


def draw_reversion(spread: pd.DataFrame, until: Any, *, beside: figure | None) -> figure:
    """A spread that comes back to zero, with its 90 % band; the arguments are as for `draw_ratio`."""
    shown = _thin(spread)
    columns, words = _band(shown["mean"], shown["sd"]), {"Spread": "value", "sd": "sd"}
    drawn, line = _draw(shown.index, columns, words, span_of(spread, 0.0), beside)
    drawn.add_layout(Span(location=0, dimension="width", line_color="#888888"))
    _explain(drawn, {"spread, 90 % band": [line]})
    _mark(drawn, spread.index, until)
    return drawn


def draw_worth(table: pd.DataFrame, ours: str) -> figure:
    """The share of variance that each hedge removed, with its interval, by a table of
    `hedge_effectiveness` without names of users; the row `ours` is marked.
    """
    names = [str(name) for name in table.index]
    source = ColumnDataSource(
        {
            "name": names,
            "colour": [OTHER if name == ours else INK for name in names],
            **{
                word: table[word].to_numpy(float)
                for word in ("variance_removed", "lower", "upper", "turnover")
            },
        }
    )
    drawn = figure(
        y_range=FactorRange(factors=names[::-1]),
        height=90 + 22 * len(names),
        sizing_mode="stretch_width",
        tools="",
        toolbar_location=None,
        x_axis_label="variance removed",
    )
    drawn.segment("lower", "name", "upper", "name", source=source, color="colour", line_width=2)
    dots = drawn.scatter("variance_removed", "name", source=source, color="colour", size=9)
    drawn.xaxis.formatter = NumeralTickFormatter(format="0%")
    drawn.yaxis.major_label_text_font_size = "11px"
    lines = [("Removed", "@variance_removed{0.0%} (@lower{0.0%} .. @upper{0.0%})")]
    lines += [("Traded a year", "@turnover{0.0} x target")]
    drawn.add_tools(
        HoverTool(renderers=[dots], tooltips=[("Hedge", "@name"), *lines], mode="hline")
    )
    return drawn


def step_of(table: pd.DataFrame) -> int:
    """How many rows one point of a line stands for."""
    return -(-len(table) // MOST)


def _thin(table: pd.DataFrame) -> pd.DataFrame:
    """Of several rows that one point stands for, the last: what was held."""
    step = step_of(table)
    return table.iloc[(len(table) - 1) % step :: step]


def _band(middle: Any, sd: Any) -> dict[str, np.ndarray]:
    wide = Z90 * sd
    columns = {"value": middle, "sd": sd, "lower": middle - wide, "upper": middle + wide}
    return {name: column.to_numpy(np.float32) for name, column in columns.items()}


def _draw(
    index: pd.Index,
    columns: dict[str, np.ndarray],
    words: dict[str, str],
    span: tuple[float, float],
    beside: figure | None,
) -> tuple[figure, Any]:
    """A band with a line, and what the pointer shows: the date, then columns by their `words`."""
    dated = isinstance(index, pd.DatetimeIndex)
    drawn = figure(
        x_axis_type="datetime" if dated else "linear",
        y_range=Range1d(start=span[0], end=span[1]),
        height=260,
        sizing_mode="stretch_width",
        tools=[BoxZoomTool(dimensions="width"), ResetTool()],
        toolbar_location="right",
    )
    if beside is not None:
        drawn.x_range = beside.x_range
    # a finger that moves over the picture moves the page
    drawn.toolbar.active_drag = None
    drawn.toolbar.logo = None
    drawn.toolbar.autohide = True
    source = ColumnDataSource({"at": _local(index), **columns})
    drawn.varea("at", "lower", "upper", source=source, fill_color=BAND, fill_alpha=0.6)
    line = drawn.line("at", "value", source=source, color=INK, line_width=1.5)
    when = ("Date", f"@at{{{_form(index)}}}") if dated else ("Row", "@at{0}")
    shown = [when, *((word, f"@{column}{{%.4g}}") for word, column in words.items())]
    forms: dict[str, Any] = {f"@{column}": "printf" for column in words.values()}
    forms |= {"@at": "datetime"} if dated else {}
    drawn.add_tools(HoverTool(renderers=[line], tooltips=shown, formatters=forms, mode="vline"))
    return drawn, line


def _explain(drawn: figure, words: dict[str, list[Any]]) -> None:
    """A legend above a picture, where it hides nothing."""
    legend = Legend(orientation="horizontal", border_line_width=0, margin=0)
    legend.items = [LegendItem(label=label, renderers=lines) for label, lines in words.items()]
    legend.label_text_font_size = "12px"
    drawn.add_layout(legend, "above")


def _mark(drawn: figure, index: pd.Index, until: Any) -> None:
    """Draw a dotted line at the last training row, where others follow."""
    place = int(index.searchsorted(until, side="right")) - 1
    if place < len(index) - 1:
        at = _local(index)[place]
        at = at.astype("datetime64[ms]").astype(float) if at.dtype.kind == "M" else float(at)
        span = Span(location=at, dimension="height", line_dash="dotted", line_color="#444444")
        drawn.add_layout(span)


def _local(index: pd.Index) -> np.ndarray:
    """Dates as the clocks of their zone show them, for a browser has no zone but its own."""
    if isinstance(index, pd.DatetimeIndex):
        return index.tz_localize(None).to_numpy("datetime64[ms]")
    return index.to_numpy(float)


def _form(index: pd.DatetimeIndex) -> str:
    """How a date is written: with the time of day where there is one."""
    return "%F" if (index == index.normalize()).all() else "%F %R"
