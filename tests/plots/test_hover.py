"""Pictures that answer to the pointer: their lines are the numbers, and the pointer shows them."""

import re
from typing import Any

import numpy as np
import pandas as pd
from bokeh.models import BoxZoomTool, HoverTool, Line, Span, VArea

from kfmodels.kalman.density import Z90
from kfmodels.plots import hover

DAYS = pd.bdate_range("2020-01-01", periods=300)


def path(index: pd.Index) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    ratio = 1 + 0.01 * rng.normal(size=len(index)).cumsum()
    return pd.DataFrame({"mean": ratio, "sd": rng.uniform(0.01, 0.1, len(index))}, index)


def glyphs(drawn: Any, kind: type) -> list[Any]:
    return [one for one in drawn.renderers if isinstance(one.glyph, kind)]


def pointed(drawn: Any) -> dict[str, str]:
    (tool,) = drawn.select(HoverTool)
    return dict(tool.tooltips)


def test_a_ratio_is_drawn_with_its_band_and_the_static_one_dashed():
    table = path(DAYS)
    drawn = hover.draw_ratio(table, 0.7, DAYS[199], beside=None)
    moving, static = glyphs(drawn, Line)
    columns = moving.data_source.data
    np.testing.assert_array_equal(columns["at"], DAYS.to_numpy("datetime64[ms]"))
    np.testing.assert_allclose(columns[moving.glyph.y], table["mean"], rtol=1e-6)
    assert static.glyph.line_dash == [6]
    assert set(columns[static.glyph.y]) == {np.float32(0.7)}
    (band,) = glyphs(drawn, VArea)
    wide = columns[band.glyph.y2] - columns[band.glyph.y1]
    np.testing.assert_allclose(wide, 2 * Z90 * table["sd"], rtol=1e-4)
    assert drawn.y_range.start <= 0.7 <= drawn.y_range.end
    (mark,) = drawn.select(Span)
    assert pd.Timestamp(mark.location, unit="ms") == DAYS[199]


def test_the_pointer_shows_date_ratio_sd_and_the_static_ratio():
    drawn = hover.draw_ratio(path(DAYS), 0.7, DAYS[-1], beside=None)
    shown = pointed(drawn)
    assert list(shown) == ["Date", "Ratio", "sd", "Static"]
    assert shown["Date"] == "@at{%F}"
    named = {words.split("{")[0].removeprefix("@") for words in shown.values()}
    assert named <= set(glyphs(drawn, Line)[0].data_source.data)
    assert list(drawn.select(Span)) == []  # no row follows the training rows
    # a finger on the picture moves the page; to zoom asks for the tool
    assert drawn.toolbar.active_drag is None
    assert drawn.select(BoxZoomTool)
    assert drawn.sizing_mode == "stretch_width"


def test_bars_within_the_day_show_the_time_of_their_zone():
    index = pd.date_range("2024-03-08 09:35", periods=90, freq="5min", tz="America/New_York")
    drawn = hover.draw_ratio(path(index), 1.0, index[-1], beside=None)
    assert pointed(drawn)["Date"] == "@at{%F %R}"
    first = glyphs(drawn, Line)[0].data_source.data["at"][0]
    assert first == np.datetime64("2024-03-08T09:35")


def test_rows_without_dates_are_counted():
    drawn = hover.draw_ratio(path(pd.RangeIndex(50)), 1.0, 29, beside=None)
    assert pointed(drawn)["Row"] == "@at{0}"
    (mark,) = drawn.select(Span)
    assert mark.location == 29


def test_of_many_rows_the_last_is_kept_and_of_a_spread_the_oddest():
    index = pd.RangeIndex(3 * hover.MOST - 1)
    table = path(index)
    columns = glyphs(hover.draw_ratio(table, 1.0, 9, beside=None), Line)[0].data_source.data
    assert len(columns["at"]) <= hover.MOST
    assert columns["at"][-1] == index[-1]
    assert set(np.diff(columns["at"])) == {3}
    spread = table.assign(mean=np.where(index == 3001, -9.0, 0.1 * np.sin(index)))
    spread.iloc[5, 0] = np.nan
    columns = glyphs(hover.draw_spread(spread, 9, beside=None), Line)[0].data_source.data
    assert columns["value"].min() == -9
    assert len(columns["at"]) <= hover.MOST


def test_pictures_move_together():
    one = hover.draw_ratio(path(DAYS), 1.0, DAYS[-1], beside=None)
    other = hover.draw_spread(path(DAYS), DAYS[-1], beside=one)
    assert other.x_range is one.x_range
    assert list(pointed(other)) == ["Date", "Spread", "sd"]


def test_a_spread_that_comes_back_has_a_band_of_its_own():
    table = path(DAYS)
    drawn = hover.draw_reversion(table, DAYS[-1], beside=None)
    (line,), (band,) = glyphs(drawn, Line), glyphs(drawn, VArea)
    columns = line.data_source.data
    np.testing.assert_allclose(columns[line.glyph.y], table["mean"], rtol=1e-6)
    np.testing.assert_allclose(
        columns[band.glyph.y2] - columns[line.glyph.y], Z90 * table["sd"], rtol=1e-4
    )
    assert [one.location for one in drawn.select(Span)] == [0]
    assert list(pointed(drawn)) == ["Date", "Spread", "sd"]


def test_the_worth_shows_each_hedge_and_marks_ours():
    columns = ["variance_removed", "lower", "upper", "turnover"]
    table = pd.DataFrame([[0.6, 0.5, 0.7, 2.0], [0.5, 0.4, 0.6, 0.0]], ["ours", "OLS"], columns)
    drawn = hover.draw_worth(table, "ours")
    assert list(drawn.y_range.factors) == ["OLS", "ours"]  # the first stands on top
    dots = drawn.renderers[-1]
    np.testing.assert_array_equal(dots.data_source.data["variance_removed"], [0.6, 0.5])
    assert len(set(dots.data_source.data["colour"])) == 2
    assert list(pointed(drawn)) == ["Hedge", "Removed", "Traded a year"]


def test_what_is_embedded_has_a_place_for_each_and_no_name_of_a_user():
    drawn = hover.draw_ratio(path(DAYS), 1.0, DAYS[-1], beside=None)
    script, places = hover.embed({"<b>": drawn})
    (place,) = places.values()
    assert "<b>" not in script.rpartition("<script")[2] + place
    root = re.findall(r'data-root-id="(\w+)"', place)
    assert root[0] in script.rpartition("<script")[2]
