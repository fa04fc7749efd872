"""The parts of a page: tables as they are shown, pictures whole and apart."""

from base64 import b64decode
from io import BytesIO

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.image import imread

from kfmodels.plots.sheet import DPI, INCH, Part, Section, drawn, render, tabled


def pixels(source: str) -> np.ndarray:
    return imread(BytesIO(b64decode(source.partition(",")[2])))


def test_a_table_keeps_its_columns_and_shows_four_digits():
    columns = {"a": [1.23456, np.nan], "b": [3, 40000], "c": ["x", "y"], "d": [np.inf, 1e-9]}
    index = pd.MultiIndex.from_tuples([("SPY", "q"), ("SPY", "memory")])
    table = tabled(pd.DataFrame(columns, index)).table
    assert table is not None
    assert table.heads == ("a", "b", "c", "d")
    assert table.rows[0] == ("SPY q", ("1.235", "3", "x", "inf"))
    assert table.rows[1] == ("SPY memory", ("", "40000", "y", "1e-09"))


def test_apart_each_axes_is_a_picture_with_all_its_words():
    """No ink is lost, and none is in two: the dark pixels of both add up to those of the whole."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    for number, axes in enumerate(figure.subplots(1, 2)):
        axes.plot([0, 1], [0, number + 1])
        axes.set(xlabel="a long label below", ylabel="beside", title="above")
    (whole,) = drawn(figure).pictures
    parts = drawn(figure, apart=True).pictures
    assert len(parts) == 2
    inks = [int((pixels(one.source)[..., :3] < 0.9).any(axis=2).sum()) for one in (whole, *parts)]
    assert inks[0] == inks[1] + inks[2] > 0
    assert whole.width == 10 * INCH
    for one in parts:
        assert one.width == round(pixels(one.source).shape[1] * INCH / DPI) < 5.1 * INCH


def test_a_page_has_an_appendix_only_where_it_is_given():
    parts = {
        "title": "t",
        "under": "u",
        "doubts": [],
        "decision": ["d"],
        "faults": [],
        "footer": "f",
    }
    section = Section("s", (Part(text="words"),))
    assert "<dl>" not in render(**parts, sections=[section])
    page = render(**parts, sections=[section], appendix=Section("Appendix", (Part(head="h"),)))
    assert page.index("<h2>1. s</h2>") < page.index("<h2>Appendix</h2>") < page.index("<h3>h</h3>")
