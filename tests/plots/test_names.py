"""Names are shown as text: what the pictures say is read back from the text of an SVG."""

import warnings
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

import kfmodels as kf
from kfmodels import plots
from kfmodels.evaluate.calibration import Calibration
from tests.hostile import NAMES, SCRIPTS
from tests.problems import stock_prices, unsampled

pytestmark = pytest.mark.slow

EVERY = list(map(str, (NAMES | SCRIPTS).values()))


def said(figure: Figure) -> str:
    """All that a picture says; a font that lacks a letter is the reader's matter."""
    held = BytesIO()
    with rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(held, format="svg")
    # letters that are no text would be drawn as outlines, of which no word is left
    texts = ElementTree.fromstring(held.getvalue()).iter("{http://www.w3.org/2000/svg}text")
    return "\n".join("".join(text.itertext()) for text in texts)


def missing(figure: Figure, names: list[str]) -> list[str]:
    text = said(figure)
    return [name for name in names if name not in text]


@pytest.fixture(scope="module")
def pairs() -> dict[str, kf.HedgeFit]:
    """A fit of two hedges, and of a spread that comes back; all three legs have odd names."""
    names = [NAMES[kind] for kind in ("mathematics", "a formula", "an underscore first")]
    prices = stock_prices().set_axis(names, axis=1)
    made = kf.HedgeData.from_prices(prices, target=names[0], hedges=names[1:])
    one = kf.HedgeData.from_prices(prices, target=names[0], hedges=names[1:2])
    return {"$two$": unsampled(made), "_one$": unsampled(one, spread=kf.Reverting())}


def test_the_pictures_of_a_fit_show_its_names(pairs):
    two, one = pairs.values()
    target, hedge, other = map(str, (two.target, *two.hedges))
    assert not missing(plots.hedge_ratio_and_spread(two), [f"ratio of {target} to {hedge}", other])
    assert not missing(plots.spreads(two), [target, hedge, other])
    assert not missing(
        plots.reversion(one), [f"level of {target}", f"{target} hedged with {hedge}"]
    )
    assert not missing(plots.memories(pairs), [hedge, other, "$two$, prior", "_one$, posterior"])
    drawn = kf.evaluate.prior_predictive(two.data, two.model, draws=30)
    assert not missing(plots.plausible_paths(drawn, two.data), [f"ratio to {hedge}", target, other])


def test_the_picture_of_a_likelihood_shows_its_hedge(pairs):
    data = pairs["_one$"].data
    surface = kf.evaluate.likelihood_surface(data, points=(12, 8, 8))
    assert not missing(plots.likelihood(surface), [f"the ratio to {data.hedges[0]} (bars)"])


def test_the_pictures_of_tables_show_the_names_in_them():
    square = pd.DataFrame(np.eye(len(EVERY)), EVERY, EVERY)
    assert not missing(plots.heat_map(square), EVERY)
    rows = pd.DataFrame({"prior": 0.2, "likelihood": 0.1, "verdict": EVERY}, index=EVERY)
    assert not missing(plots.sensitivity(rows), EVERY)
    columns = ["variance_removed", "lower", "upper", "turnover"]
    worth = pd.DataFrame(0.5, EVERY, columns)
    assert not missing(plots.effectiveness(worth), EVERY)
    bands = pd.DataFrame({"z_sd": 0.5, "effective_memory": 9.0}, index=EVERY)
    assert not missing(plots.published_bands(bands), EVERY)
    few = EVERY[:6]
    below = pd.DataFrame(0.5, range(100), few)
    ranks = pd.DataFrame({"obs_scale": range(100)})
    made = Calibration(ranks, 99, below, below < 0.9, pd.DataFrame())
    assert not missing(plots.calibration(made), few)


def test_the_pictures_of_a_day_show_the_names_in_them():
    at = pd.date_range("2024-03-04 09:35", periods=9, freq="5min", tz="America/New_York")
    names = EVERY[:4]
    ratio = pd.DataFrame(1.0, at, names)
    sd = pd.Series(0.1, at, name=names[0])
    assert not missing(plots.open_hedges(ratio, sd, static=names[1]), names)
    assert not missing(plots.alarms(sd, [(at[3], name) for name in EVERY]), EVERY)


def test_the_pictures_of_a_comparison_show_the_names_of_its_fits():
    prices = kf.datasets.stocks().loc["2020":"2021"]
    data = kf.HedgeData.from_prices(prices.loc["2020"], target="KO", hedges=["PEP"])
    fixed = kf.fit(data, kf.hedge_ratio_model(delta={"beta": 1e-3, "alpha": 0.9}, obs_scale=0.004))
    names = [str(NAMES["a formula"]), str(NAMES["an underscore first"])]
    compared = kf.compare(dict.fromkeys(names, fixed), prices.loc["2021"])
    text = said(plots.forecasts(compared))
    assert [text.count(name) for name in names] == [2, 2]  # a title and a line of the legend


def test_the_pictures_of_a_universe_show_its_tickers():
    names = [str(NAMES[kind]) for kind in ("mathematics", "a formula", "an underscore first")]
    etfs = kf.datasets.etfs().loc[:"2009", ["XLE", "SPY", "XLB"]]
    universe = kf.hedge_universe(etfs.set_axis(names, axis=1))
    assert not missing(plots.target_hedge(universe, names[0]), names)
    assert not missing(plots.universe_map(universe), names)
