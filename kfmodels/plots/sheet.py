"""A page of HTML with no file beside it: words, tables and pictures on screen, phone and paper."""

import base64
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

DPI, INCH = 120, 96
"""Dots of an inch of a picture, and the pixels of a page that it takes where there is room."""


class Table(NamedTuple):
    """The cells of a table as they are shown: headings, and rows by name."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


class Picture(NamedTuple):
    """A picture in the page itself, and its width in pixels where there is room."""

    source: str
    width: int


@dataclass(frozen=True)
class Part:
    """What stands under a heading: a paragraph, a warning, a table or pictures with their caption."""

    head: str = ""
    text: str = ""
    warning: str = ""
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()
    caption: str = ""
    live: str = ""
    """HTML of a picture that answers to the pointer."""

    small: bool = False
    """Whether the text is small on paper, as what only programs read may be."""

    still: bool = False
    """Whether the pictures are shown on paper only, and where no script runs."""


class Section(NamedTuple):
    """A heading and what stands under it."""

    title: str
    parts: tuple[Part, ...]


def render(
    *,
    title: str,
    under: str,
    doubts: Sequence[str],
    decision: Sequence[str],
    faults: Sequence[str],
    sections: Sequence[Section],
    footer: str,
    appendix: Section | None = None,
    script: str = "",
) -> str:
    """A page of its parts; `script` draws what is `live` in them."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = files("kfmodels.plots").joinpath("sheet.html").read_text(encoding="utf-8")
    return environment.from_string(page).render(
        title=title,
        under=under,
        doubts=doubts,
        decision=decision,
        faults=faults,
        sections=sections,
        footer=footer,
        appendix=appendix,
        script=script,
    )


def tabled(table: pd.DataFrame, *, head: str = "") -> Part:
    """A table of numbers with four digits; what is not known is left empty."""
    names = [" ".join(map(str, row)) if isinstance(row, tuple) else str(row) for row in table.index]
    rows = [tuple(map(_cell, row)) for row in table.itertuples(index=False, name=None)]
    heads = tuple(str(column) for column in table)
    return Part(head=head, table=Table(heads, tuple(zip(names, rows, strict=True))))


def _cell(value: object) -> str:
    if isinstance(value, float):  # of Python or NumPy
        return "" if np.isnan(value) else f"{value:.4g}"
    return str(value)


def give_or_take(value: float, sd: float) -> str:
    """A number and its sd, to the first two digits of the sd.

    Example:
        >>> give_or_take(72.314, 7.92), give_or_take(1234.5, 120.0), give_or_take(0.5, float("nan"))
        ('72.3 \u00b1 7.9', '1234 \u00b1 120', '0.5')
    """
    if not (np.isfinite(sd) and sd > 0):
        return f"{value:.4g}"
    places = max(1 - int(np.floor(np.log10(sd))), 0)
    return f"{value:.{places}f} \u00b1 {sd:.{places}f}"


def write_ranges(lower: Any, upper: Any, form: str = "{:.3g}") -> list[str]:
    """Intervals as one column, so that a table fits a sheet of paper; a browser breaks none of them.

    Example:
        >>> write_ranges(pd.Series([0.123, np.nan]), pd.Series([0.456, 1.0]), "{:.0%}")
        ['12%\\xa0..\\xa046%', '']
    """
    pairs = zip(lower, upper, strict=True)
    shown = [(form.format(low), form.format(high), low == low) for low, high in pairs]
    return [f"{low}\u00a0..\u00a0{high}" if known else "" for low, high, known in shown]


def drawn(
    figure: Figure, caption: str = "", *, head: str = "", apart: bool = False, still: bool = False
) -> Part:
    """A picture, held in the page itself.

    It is of PNG. Where matplotlib's fonts lack a letter of a name (贵, த) it is of SVG, whose text the
    browser sets in a font that has it.

    Args:
        figure: what to draw.
        caption: stands under it.
        head: stands above it.
        apart: whether each of its axes is a picture of its own, so that a phone shows them one below
            the other and not all of them small.
        still: whether only paper shows it, and a browser that runs no script.
    """
    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("error", r"Glyph \d+ .* missing from font")
        try:
            pictures = _cut(figure, apart)
        except UserWarning:
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
            held = BytesIO()
            figure.savefig(held, format="svg", metadata={"Date": None})
            source = _hold(held, "svg+xml")
            pictures = (Picture(source, round(figure.get_figwidth() * INCH)),)
    return Part(head=head, pictures=pictures, caption=caption, still=still)


def _cut(figure: Figure, apart: bool) -> tuple[Picture, ...]:
    """The picture as one, or one for each of its axes, drawn once."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(DPI)
    canvas.draw()
    whole = np.asarray(canvas.buffer_rgba())
    pieces = [whole]
    if apart:
        pieces, pad = [], DPI // 20
        for axes in figure.axes:
            box = axes.get_tightbbox(canvas.get_renderer())
            assert box is not None  # as it is of axes that cannot be seen
            left, right = max(int(box.x0) - pad, 0), int(box.x1) + pad
            top, bottom = max(len(whole) - int(box.y1) - pad, 0), len(whole) - int(box.y0) + pad
            pieces.append(whole[top:bottom, left:right])
    found = []
    for piece in pieces:
        imsave(held := BytesIO(), np.ascontiguousarray(piece), format="png")
        found.append(Picture(_hold(held, "png"), round(piece.shape[1] * INCH / DPI)))
    return tuple(found)


def _hold(held: BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(held.getvalue()).decode()}"
