"""The pictures of a universe show the numbers that its tables hold."""

import numpy as np
import pytest

import kfmodels as kf
from kfmodels.plots.universe import sort_assets, target_hedge, universe_map

NAMES = ["XLE", "TLT", "SPY", "IEF", "XLB"]


@pytest.fixture(scope="module")
def universe():
    return kf.hedge_universe(kf.datasets.etfs()[NAMES].iloc[:320])


def test_the_picture_of_a_target(universe):
    figure = target_hedge(universe, "XLE")
    curve, ratios, sds = figure.axes
    heights = [bar.get_height() for bar in curve.patches]
    np.testing.assert_allclose(heights, 100 * universe.by_legs("XLE"))
    past = universe.history("XLE").dropna(how="all")
    for line in ratios.lines[:-1]:  # the last is the axis at 0
        np.testing.assert_array_equal(line.get_ydata(), past[line.get_label()])
    assert [line.get_label() for line in sds.lines] == ["unhedged", "best single leg", "all legs"]


def test_what_moves_together_stands_together(universe):
    order = sort_assets(universe)
    assert sorted(order) == sorted(NAMES)
    assert abs(order.index("TLT") - order.index("IEF")) == 1
    image = universe_map(universe).axes[0].images[0].get_array()
    weights = universe.weights().loc[order, order].to_numpy()
    shown = weights != 0
    np.testing.assert_allclose(image[shown], weights[shown])
    assert image.mask[~shown].all()


def test_a_loaded_universe_has_no_past_to_draw(universe, tmp_path):
    universe.save(tmp_path / "u.json")
    again = kf.load(tmp_path / "u.json")
    universe_map(again)
    with pytest.raises(ValueError, match="holds no past"):
        target_hedge(again, "XLE")
