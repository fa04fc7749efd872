"""The report says what was found, how sure it is, and what to do; the picture shows the numbers."""

import numpy as np
import pandas as pd
import pytest

from kfmodels import NUTS, Discounted, HedgeData, fit, follow, hedge_ratio_model
from kfmodels.cli.report import VARIANCE_MEMORIES, discounted_gain, report
from kfmodels.data import datasets
from kfmodels.kalman import likelihood
from kfmodels.model import Absolute
from kfmodels.plots import hedge_ratio_and_spread
from tests.problems import unsampled

pytestmark = pytest.mark.slow

QUICK = NUTS(warmup=500, draws=1000, chains=2)


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return datasets.stocks()[["KO", "PEP"]].loc["2018":"2019"]


@pytest.fixture(scope="module")
def data(prices):
    return HedgeData.from_prices(prices, target="KO", hedges=["PEP"]).before("2019-07-01")


@pytest.fixture(scope="module")
def constant(data):
    return fit(data, method=QUICK, progress=False)


@pytest.fixture(scope="module")
def discounted(data):
    return unsampled(data, noise=Discounted())


def test_the_report_quotes_the_tables(constant):
    text = report(constant)
    table, last = constant.summary(), constant.hedge_ratio().iloc[-1]
    assert f"ratio to PEP: {last['mean']:.4g} +- {last['sd']:.2g}" in text
    assert f"{table.loc['PEP', 'delta']:10.3g}" in text
    shares = constant.hedge_shares(100).iloc[-1]["PEP"]
    assert f"Against 100 KO sell {-shares:.2f} PEP" in text
    assert "KO hedged with PEP: log prices, 375 rows 2018-01-02 .. 2019-06-28" in text


def test_the_report_says_what_a_moving_variance_would_gain(constant, discounted):
    nats, memory = discounted_gain(constant)
    assert memory in VARIANCE_MEMORIES
    assert f"scores {nats:+.1f} nats" in " ".join(report(constant).split())
    assert discounted_gain(discounted) is None
    assert "Discounted" not in report(discounted)


def test_that_gain_is_a_difference_of_two_log_likelihoods(constant, x64):
    """Recomputed with the scan itself, at the plug-in q and the memory that the report names."""
    from kfmodels.fitting import tree as trees
    from kfmodels.kalman.noise import DiscountedVariance

    nats, memory = discounted_gain(constant)
    rows = trees.rows(constant.tree, constant.data).series
    start, drift, noise = trees.stored_draws(constant.tree, "plug_in").recursion()
    moving = DiscountedVariance(noise.var, np.array([4.0]), np.array([1 - 1 / memory]))
    here = likelihood.log_likelihood(rows, start, drift, moving)
    there = likelihood.log_likelihood(rows, start, drift, noise)
    assert float((here - there)[0]) == pytest.approx(nats, rel=1e-10)


def test_a_fit_with_all_noise_fixed_says_so(data):
    model = hedge_ratio_model(delta=Absolute(1e-5), obs_scale=0.01, pivot=0)
    text = report(fit(data, model, progress=False))
    assert "All noise is fixed: nothing was inferred." in text


def test_a_static_hedge_is_called_static(data):
    text = report(unsampled(data, delta={"beta": 0.0}))
    assert "in effect it is a static hedge" in " ".join(text.split())


def test_the_picture_shows_training_and_live_rows(constant, prices):
    table = follow(constant.online(), prices.loc["2019-07":])
    figure = hedge_ratio_and_spread(constant, table, static=0.6)
    above, below = figure.axes
    ratio = above.lines[0].get_ydata()
    assert len(ratio) == len(prices)
    np.testing.assert_array_equal(ratio[: len(constant.index)], constant.hedge_ratio()["mean"])
    np.testing.assert_array_equal(ratio[len(constant.index) :], table["beta PEP"])
    np.testing.assert_array_equal(below.lines[0].get_ydata()[-len(table) :], table["spread"])
    assert set(above.lines[1].get_ydata()) == {0.6}
    low, high = above.get_ylim()
    assert low <= 0.6 <= high
    assert [text.get_text() for text in above.get_legend().get_texts()] == [
        "filtered, 90 % band",
        "static, fitted overnight",
    ]
    band = above.collections[0].get_paths()[0].get_extents()
    assert band.height > np.ptp(ratio[60:])


def test_the_picture_without_live_rows(constant):
    above, below = hedge_ratio_and_spread(constant).axes
    assert len(above.lines) == 1
    assert len(below.lines[0].get_ydata()) == len(constant.index)
