"""What the pictures show, read back from their lines and bars."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch

import kfmodels as kf
from kfmodels import plots
from kfmodels.evaluate.calibration import Calibration
from kfmodels.evaluate.compare import Comparison
from kfmodels.evaluate.landscape import NEAR_THE_TOP
from kfmodels.plots.ink import blank, even_memories, tell_dates
from tests.problems import stock_prices, unsampled


@pytest.fixture(scope="module")
def data() -> kf.HedgeData:
    return kf.HedgeData.from_prices(stock_prices()[["KO", "PEP"]], target="KO", hedges=["PEP"])


@pytest.fixture(scope="module")
def vague(data) -> kf.HedgeFit:
    return unsampled(data)


@pytest.fixture(scope="module")
def fixed(data) -> kf.HedgeFit:
    return kf.fit(data, kf.hedge_ratio_model(delta={"beta": 1e-3, "alpha": 0.9}, obs_scale=0.004))


@pytest.fixture(scope="module")
def compared(fixed, data) -> Comparison:
    other = kf.fit(data, kf.hedge_ratio_model(delta={"beta": 0.0, "alpha": 0.9}, obs_scale=0.02))
    return kf.compare({"wide": other, "fixed": fixed}, kf.datasets.stocks().loc["2021":])


def bars(axes) -> np.ndarray:
    """Heights of a histogram."""
    return np.array([p.get_height() for p in axes.patches if isinstance(p, Rectangle)])


def rendered(figure: Figure) -> None:
    """Every picture must also draw: a layout that cannot be solved only fails here."""
    figure.canvas.draw()


def test_memories_are_shares_of_the_draws_on_an_axis_of_bars(vague):
    figure = plots.memories({"vague": vague})
    edges = even_memories(1.0005, 5000.0, 61)
    for axes, name in zip(figure.axes, vague.coef, strict=True):
        steps = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
        for patch, group in zip(steps, ("prior", "posterior"), strict=True):
            drawn = vague.tree[group]["memory"].sel(coef=name).values.ravel()
            counts, _ = np.histogram(np.clip(drawn, edges[0], edges[-1] * (1 - 1e-12)), edges)
            np.testing.assert_allclose(patch.get_data().values, counts / len(drawn))
            assert patch.get_data().values.sum() == pytest.approx(1)
        labels = [text.get_text() for text in axes.get_xticklabels()]
        assert "60" in labels
        assert "1.01" in labels
    rendered(figure)


def test_memories_of_several_fits_have_a_colour_each_and_skip_what_one_lacks(vague, data):
    bare = unsampled(data, intercept="none")
    figure = plots.memories({"a": vague, "b": bare, "c": vague})
    beta, alpha = figure.axes
    assert len([p for p in beta.patches if isinstance(p, StepPatch)]) == 6
    assert len([p for p in alpha.patches if isinstance(p, StepPatch)]) == 4
    assert len({patch.get_edgecolor() for patch in beta.patches}) == 3
    assert [t.get_text() for t in figure.legends[0].get_texts()][:2] == ["a, prior", "a, posterior"]
    rendered(figure)


def test_plausible_paths_draw_the_paths_and_the_target_as_it_was(data):
    drawn = kf.evaluate.prior_predictive(data, kf.hedge_ratio_model(noise=kf.Constant()), draws=30)
    figure = plots.plausible_paths(drawn, data, shown=5)
    ratio, target, spread = figure.axes
    for line, path in zip(ratio.lines, drawn.paths["ratio"].values[:5, :, 0], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), path)
    np.testing.assert_array_equal(target.lines[-1].get_ydata(), data.y)
    assert len(target.lines) == 6
    low, high = target.get_ylim()
    assert low < np.nanmin(data.y) < np.nanmax(data.y) < high  # what was is never left out
    assert len(spread.lines) == 1
    assert spread.get_ylabel().endswith("(log)")
    assert figure.dpi == 110
    rendered(figure)


@pytest.mark.parametrize("days", [9, 40, 250, 1300, 5000])
def test_dates_do_not_collide(days):
    figure, axes = blank(4, 2)
    index = pd.date_range("2015-11-20", periods=days)
    axes[0, 0].plot(index, np.arange(days))
    tell_dates(axes[0, 0])
    figure.canvas.draw()
    labels = [text for text in axes[0, 0].get_xticklabels() if text.get_text()]
    ends = sorted(label.get_window_extent().intervalx.tolist() for label in labels)
    assert len(ends) >= 3
    assert all(before[1] < after[0] for before, after in pairwise(ends))


def test_likelihood_draws_the_profile_and_the_static_line(data):
    surface = kf.evaluate.likelihood_surface(data, points=(20, 12, 12))
    left, right = plots.likelihood(surface).axes
    profile = surface.profile(0)
    curve, static = left.lines
    np.testing.assert_array_equal(curve.get_xdata(), surface.beta_memory[1:])
    np.testing.assert_array_equal(curve.get_ydata(), profile.iloc[1:])
    assert static.get_ydata()[0] == profile.iloc[0]
    assert f"static: {profile.iloc[0]:.1f}" in left.get_legend().get_texts()[0].get_text()
    band = left.patches[0]
    assert band.get_y() == -NEAR_THE_TOP
    peaks = [line.get_xydata()[0] for line in right.lines]
    np.testing.assert_array_equal(peaks, surface.modes[["beta_memory", "alpha_memory"]])


def test_likelihood_without_a_moving_intercept_has_one_panel(data):
    model = kf.hedge_ratio_model(intercept="static", noise=kf.Discounted())
    surface = kf.evaluate.likelihood_surface(data, model, points=(12, 4, 8))
    figure = plots.likelihood(surface)
    assert len(figure.axes) == 1
    rendered(figure)


def test_sensitivity_bars_are_the_table():
    table = pd.DataFrame(
        {"prior": [0.2, 0.01], "likelihood": [0.1, 0.3], "verdict": ["one", "other"]},
        index=["log q of PEP", "ratio to PEP"],
    )
    axes = plots.sensitivity(table).axes[0]
    widths = [p.get_width() for p in axes.patches if isinstance(p, Rectangle)]
    assert widths == [0.2, 0.01, 0.1, 0.3]
    assert [t.get_text().strip() for t in axes.texts] == ["one", "other"]


def test_forecasts_draw_pit_race_and_years(compared):
    figure = plots.forecasts(compared)
    names = list(compared.table.index)
    panels, (race, years) = figure.axes[: len(names)], figure.axes[len(names) :]
    for axes, name in zip(panels, names, strict=True):
        counts, _ = np.histogram(compared.pit[name], np.linspace(0, 1, 11))
        heights = bars(axes)[-10:]  # after the band of chance
        np.testing.assert_allclose(heights, counts / len(compared.pit) * 10)
        assert axes.get_title() == name
    lead = (compared.log_scores[names[1]] - compared.log_scores[names[0]]).sum()
    assert race.lines[0].get_ydata()[-1] == 0
    assert race.lines[1].get_ydata()[-1] == pytest.approx(lead)
    np.testing.assert_allclose(bars(years), compared.by_year[names].to_numpy().T.ravel())
    rendered(figure)


def test_forecasts_of_one_model_have_no_race(fixed):
    alone = kf.compare({"fixed": fixed}, kf.datasets.stocks().loc["2021":])
    pit, years = plots.forecasts(alone).axes
    assert pit.get_xlabel() == "PIT"
    np.testing.assert_allclose(bars(years), alone.by_year["fixed"].to_numpy())


def test_effectiveness_draws_every_method_and_marks_the_models(fixed, data):
    prices = pd.concat([data.prices, kf.datasets.stocks()[["KO", "PEP"]].loc["2021"]])
    table = kf.hedge_effectiveness(
        prices,
        target="KO",
        hedges=["PEP"],
        train=len(data),
        transform="log",
        models={"mine": fixed},
    )
    left, right = plots.effectiveness(table).axes
    dots = [line for line in left.lines if line.get_marker() == "o"]
    shown = [float(np.ravel(dot.get_xdata())[0]) for dot in dots]
    np.testing.assert_array_equal(shown, table["variance_removed"])
    np.testing.assert_allclose(
        [p.get_width() for p in right.patches], table["turnover"].fillna(0), rtol=1e-12
    )
    colours = [dot.get_color() for dot in dots]
    assert list(table.index[-2:]) == ["mine", "mine, half EWMAs"]
    assert not set(colours[-2:]) & set(colours[:-2])
    assert [t.get_text() for t in left.get_yticklabels()] == list(table.index)


def test_published_bands_draw_the_table_and_call_an_infinite_memory_static():
    table = pd.DataFrame(
        {"z_sd": [0.5, 2.0], "effective_memory": [10.0, np.inf]}, index=["one", "other"]
    )
    left, right = plots.published_bands(table).axes
    np.testing.assert_array_equal(left.lines[0].get_xdata(), [0.5, 2.0])
    assert [t.get_text().strip() for t in left.texts] == ["0.5", "2"]
    assert [t.get_text().strip() for t in right.texts] == ["10", "static"]


def test_calibration_counts_ranks_and_leaves_no_empty_panel():
    ranks = pd.DataFrame({"obs_scale": np.repeat([0, 50, 99], [20, 30, 50])})
    below = pd.DataFrame({"PEP": np.linspace(0, 0.999, 100), "alpha": np.full(100, 0.05)})
    made = Calibration(ranks, 99, below, below < 0.9, pd.DataFrame())
    figure = plots.calibration(made)
    assert [axes.get_title() for axes in figure.axes] == ["obs_scale", "final PEP", "final alpha"]
    counts = [bars(axes)[-10:].tolist() for axes in figure.axes]
    assert counts[0] == [20, 0, 0, 0, 0, 30, 0, 0, 0, 50]
    assert counts[1] == [10] * 10
    assert counts[2] == [100] + [0] * 9
    rendered(figure)


def test_spreads_show_the_static_residual_and_the_innovation(fixed, data):
    above, below = plots.spreads(fixed).axes
    x, y = data.x[:, 0], data.y
    slope = np.cov(x, y)[0, 1] / x.var(ddof=1)
    static = y - slope * x
    np.testing.assert_allclose(above.lines[1].get_ydata(), static - static.mean(), atol=1e-12)
    innovation = fixed.spread()["spread"].to_numpy()
    burn_in = len(data) // 5  # 30 rows, of a short series a fifth
    np.testing.assert_array_equal(below.lines[1].get_ydata()[burn_in:], innovation[burn_in:])
    assert np.isnan(below.lines[1].get_ydata()[:burn_in]).all()


def test_the_axis_of_memories_is_even_in_log_q():
    memories = even_memories(1.01, 1000.0, 9)
    steps = np.diff(np.log(memories * (memories - 1)))
    np.testing.assert_allclose(steps, steps[0])
    np.testing.assert_allclose(memories[[0, -1]], [1.01, 1000.0])


def test_reversion_draws_level_spread_and_half_lives(data):
    fitted = unsampled(data, spread=kf.Reverting())
    live = kf.follow(fitted.online(), stock_prices(140).iloc[120:])
    figure = plots.reversion(fitted, live)
    above, below, right = figure.axes
    table, warm = fitted.reversion(), len(data) // 5
    spread, later = below.lines[0].get_ydata(), live["reversion"]
    np.testing.assert_array_equal(spread, [*table["mean"].iloc[warm:], *later])
    level, both = (line.get_ydata() for line in above.lines[:2])
    # at the mean of the hedge, where the intercept is the level and the spread
    ratio, alpha = fitted.hedge_ratio()["mean"], fitted.intercept()["mean"]
    expected = alpha + ratio * data.x.mean()
    np.testing.assert_allclose(both, expected.iloc[warm:], rtol=1e-9)
    np.testing.assert_allclose(level, (expected - table["mean"]).iloc[warm:], rtol=1e-9)
    band = below.collections[0].get_paths()[0].get_extents()
    assert band.height > np.ptp(spread)
    for patch, group in zip(right.patches, ("prior", "posterior"), strict=True):
        drawn = fitted.tree[group]
        lives = drawn["spread_half_life"].values[drawn["with_spread"].values == 1]
        counts, _ = np.histogram(np.clip(lives, 0.5, 1999.99), patch.get_data().edges)
        np.testing.assert_allclose(patch.get_data().values, counts / len(lives))
    assert right.get_title() == "it comes back: 75%"
    rendered(figure)
