"""The shipped prices are the source's, and `simulate` draws what its docstring says."""

from importlib import resources

import numpy as np
import pandas as pd
import pytest

from kfmodels.data import datasets
from tests.processes import python
from tests.tables import read_table

FACTORS = ["MTUM", "QUAL", "SIZE", "USMV", "VLUE"]
STOCKS = ["AAPL", "KO", "PEP", "XOM", "CVX", "SPX"]

BARS = 20_000
"""Rows of the Monte-Carlo tests: a variance is then known to 1 %."""


def transformed(truth, transform):
    return np.log(truth.prices) if transform == "log" else truth.prices


def standard_steps(truth, transform):
    """Steps of [ratios, level at the pivot] over their stated sd, the first row left out."""
    x = transformed(truth, transform)[truth.hedge_ratio.columns]
    level = truth.intercept + truth.hedge_ratio @ truth.pivot
    steps = truth.hedge_ratio.assign(intercept=level).diff().iloc[1:]
    mean_square = ((x - x.mean()) ** 2).mean()
    mean_square["intercept"] = 1.0
    variance = truth.q.mul(truth.obs_var, axis=0).iloc[1:] / mean_square
    return (steps / np.sqrt(variance)).to_numpy()


def assert_standard_normal(z, *, width=4.0):
    """Mean 0 and variance 1 within `width` standard errors, which must be small to say anything."""
    n = len(z)
    assert n >= 5000, "too few draws for this test to mean anything"
    assert np.all(np.abs(z.mean(0)) < width / np.sqrt(n))
    assert np.all(np.abs((z**2).mean(0) - 1) < width * np.sqrt(2 / n))


# -- prices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "columns", "rows", "first", "last"),
    [
        (datasets.factor_etfs, FACTORS, 2264, "2014-01-02", "2022-12-28"),
        (datasets.stocks, STOCKS, 8313, "1990-01-02", "2022-12-28"),
        (datasets.prices, FACTORS + STOCKS, 2264, "2014-01-02", "2022-12-28"),
    ],
)
def test_tables_are_complete_sorted_and_typed(load, columns, rows, first, last):
    frame = load()
    assert list(frame) == columns
    assert len(frame) == rows
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert frame.index.name == "date"
    assert frame.index[0] == pd.Timestamp(first)
    assert frame.index[-1] == pd.Timestamp(last)
    assert frame.index.is_monotonic_increasing
    assert frame.index.is_unique
    assert (frame.dtypes == np.float64).all()
    assert np.isfinite(frame.to_numpy()).all()
    assert (frame > 0).all(axis=None)


def test_first_and_last_rows_and_decimals_are_the_sources():
    stocks, etfs = datasets.stocks(), datasets.factor_etfs()
    assert stocks.iloc[0].to_list() == [0.264, 2.235, 4.738, 4.068, 4.991, 359.69]
    assert stocks.iloc[-1].to_list() == [125.674, 62.609, 179.278, 106.627, 173.728, 3783.22]
    assert etfs.iloc[0].to_list() == [52.704, 48.351, 48.986, 29.338, 47.054]
    assert etfs.iloc[-1].to_list() == [143.73, 111.883, 111.121, 71.134, 88.473]
    frame = datasets.prices().to_numpy()
    np.testing.assert_array_equal(frame, np.round(frame, 3))
    stocks.iloc[:, :] = 0.0  # a caller's own copy
    assert datasets.stocks().iloc[0, 0] == 0.264


def test_dates_are_those_of_known_days():
    returns = datasets.stocks().pct_change()
    assert returns["AAPL"].idxmin() == pd.Timestamp("2000-09-29")  # the profit warning: -52 %
    assert returns["SPX"].idxmin() == pd.Timestamp("2020-03-16")
    assert returns["SPX"].min() == pytest.approx(-0.1198, abs=1e-4)


def test_files_are_small_and_licensed():
    folder = resources.files("kfmodels.data").joinpath("prices")
    files = {item.name: item.read_bytes() for item in folder.iterdir()}
    tables = {"etfs.csv.gz", "factor_etfs.csv.gz", "stocks.csv.gz"}
    assert set(files) == tables | {"LICENSE-skfolio", "LICENSE-arbitragelab"}
    assert sum(map(len, files.values())) < 400_000
    for source, holder in (("skfolio", "skfolio"), ("arbitragelab", "Hudson and Thames")):
        licence = files[f"LICENSE-{source}"].decode()
        assert "BSD 3-Clause License" in licence
        assert f"The {holder} developers" in licence
    for name in tables:
        assert files[name][4:8] == bytes(4), f"{name} carries a time stamp: write it with mtime=0"


def test_aapl_moves_as_in_another_source():
    other = read_table("aapl_spy_close_2016_2017.csv")
    ours = datasets.stocks()
    assert other.index.isin(ours.index).all()
    ours = ours.loc[other.index]

    gap = (np.log(ours["AAPL"]).diff() - np.log(other["AAPL"]).diff()).iloc[1:]
    dividends = gap.abs() > 2e-4
    days = [f"{day:%Y-%m-%d}" for day in gap.index[dividends]]
    assert days == ["2016-02-04", "2016-05-05", "2016-08-04", "2016-11-03", "2017-02-09"]
    assert gap[dividends].between(0.003, 0.008).all()  # adjusted: ours does not drop
    # Half a unit of the third decimal, twice, on a price above 20.
    assert gap[~dividends].abs().max() < 2 * 0.0005 / ours["AAPL"].min()

    index, fund = np.log(ours["SPX"]).diff().iloc[1:], np.log(other["SPY"]).diff().iloc[1:]
    assert np.corrcoef(index, fund)[0, 1] > 0.99


def test_import_is_silent_and_free_of_jax():
    code = (
        "import sys; import kfmodels.data.datasets; "
        "print([m for m in ('jax', 'numpyro', 'arviz', 'matplotlib') if m in sys.modules])"
    )
    assert python("-W", "error", "-c", code).communicate() == ("[]\n", "")


# -- simulate -----------------------------------------------------------------------------------


def test_shapes_names_and_dates():
    truth = datasets.simulate(40, hedges=2, start="2020-01-04")
    assert list(truth.prices) == ["Y", "X1", "X2"]
    assert list(truth.hedge_ratio) == ["X1", "X2"]
    assert list(truth.q) == list(truth.delta) == ["X1", "X2", "intercept"]
    for part in (truth.hedge_ratio, truth.intercept, truth.noise, truth.obs_var, truth.q):
        assert part.index.equals(truth.prices.index)
    assert truth.prices.shape == (40, 3)
    assert truth.prices.index[0] == pd.Timestamp("2020-01-06")  # the Monday after
    assert truth.prices.index.day_of_week.max() == 4
    assert truth.prices.index.name == "date"
    np.testing.assert_allclose(truth.prices[["X1", "X2"]].iloc[0], 100)


def test_the_seed_decides_and_memory_changes_neither_hedges_nor_noise():
    once, again, other = (datasets.simulate(100, seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(once.prices, again.prices, check_exact=True)
    pd.testing.assert_frame_equal(once.hedge_ratio, again.hedge_ratio, check_exact=True)
    assert not np.allclose(once.prices, other.prices)
    fast = datasets.simulate(100, memory=10, seed=3)
    np.testing.assert_array_equal(once.prices["X1"], fast.prices["X1"])
    np.testing.assert_array_equal(once.noise, fast.noise)
    assert not np.allclose(once.hedge_ratio, fast.hedge_ratio)


@pytest.mark.parametrize(
    ("transform", "alpha", "obs_scale"), [("log", 0.3, 0.005), ("level", 150.0, 0.2)]
)
@pytest.mark.parametrize("volatility_memory", [None, 120])
def test_the_true_path_gives_the_prices(transform, alpha, obs_scale, volatility_memory):
    truth = datasets.simulate(
        800,
        hedges=2,
        beta=[0.4, 0.7],
        alpha=alpha,
        obs_scale=obs_scale,
        transform=transform,
        volatility_memory=volatility_memory,
        seed=5,
    )
    values = transformed(truth, transform)
    fitted = (values[["X1", "X2"]] * truth.hedge_ratio).sum(axis=1) + truth.intercept
    np.testing.assert_allclose(values["Y"], fitted + truth.noise, rtol=1e-12)
    np.testing.assert_allclose(truth.hedge_ratio.iloc[0], [0.4, 0.7])
    assert truth.intercept.iloc[0] == pytest.approx(alpha)
    assert truth.obs_var.iloc[0] == pytest.approx(obs_scale**2)
    np.testing.assert_allclose(truth.pivot, values[["X1", "X2"]].mean())


TWO = {"hedges": 2, "beta": 0.5, "memory": [[60.0, 600.0]], "intercept_memory": 30, "seed": 11}


@pytest.mark.parametrize(
    "settings",
    [
        TWO | {"obs_scale": 0.001, "hedge_volatility": 0.003},
        TWO | {"obs_scale": 0.001, "hedge_volatility": 0.003, "volatility_memory": 300},
        {
            "transform": "level",
            "alpha": 500,
            "obs_scale": 0.3,
            "hedge_volatility": 0.002,
            "seed": 2,
        },
    ],
)
def test_hedges_noise_and_steps_have_the_stated_variance(settings):
    truth = datasets.simulate(BARS, **settings)
    assert_standard_normal((truth.noise / np.sqrt(truth.obs_var)).to_numpy())
    returns = np.log(truth.prices[truth.hedge_ratio.columns]).diff().iloc[1:]
    assert_standard_normal(returns.to_numpy() / settings["hedge_volatility"])
    steps = standard_steps(truth, settings.get("transform", "log"))
    assert_standard_normal(steps)
    off_diagonal = np.corrcoef(steps.T)[np.triu_indices(steps.shape[1], 1)]
    assert np.all(np.abs(off_diagonal) < 4 / np.sqrt(len(steps)))


def test_a_moving_variance_is_a_random_walk_in_logs():
    truth = datasets.simulate(BARS, volatility_memory=3000, obs_scale=1e-4, memory=np.inf, seed=6)
    steps = np.log(truth.obs_var).diff().iloc[1:].to_numpy()
    assert_standard_normal(steps / np.sqrt(np.pi**2 / 2 / (3000 * 2999)))


def test_hedges_steps_noise_and_variance_are_drawn_apart():
    truth = datasets.simulate(BARS, volatility_memory=3000, hedge_volatility=0.003, seed=8)
    draws = [
        np.log(truth.prices["X1"]).diff().iloc[1:],
        truth.noise.iloc[1:] / np.sqrt(truth.obs_var.iloc[1:]),
        np.log(truth.obs_var).diff().iloc[1:],
        *standard_steps(truth, "log").T,
    ]
    # In the same row and, in case one stream feeds two of them, in the order they were drawn: the
    # steps take two numbers a row, so theirs begin at the third.
    in_order = [*(draw[1:] for draw in draws[:3]), standard_steps(truth, "log").ravel()[: BARS - 2]]
    for group in (draws, in_order):
        off_diagonal = np.corrcoef(group)[np.triu_indices(len(group), 1)]
        assert np.all(np.abs(off_diagonal) < 4 / np.sqrt(BARS))


def test_a_memory_may_be_infinite_or_change_from_row_to_row():
    truth = datasets.simulate(300, beta=0.8, alpha=0.5, memory=np.inf, intercept_memory=np.inf)
    assert (truth.hedge_ratio["X1"] == 0.8).all()
    np.testing.assert_allclose(truth.intercept, 0.5, rtol=1e-12)
    assert (truth.q == 0).all(axis=None)
    memory = np.where(np.arange(600) < 300, np.inf, 15)
    truth = datasets.simulate(600, hedges=2, beta=0.5, memory=memory, intercept_memory=5)
    assert (truth.hedge_ratio.iloc[:300] == 0.5).all(axis=None)
    assert (truth.hedge_ratio.diff().iloc[300:] != 0).all(axis=None)
    np.testing.assert_allclose(truth.q["X2"].iloc[300:], 1 / (15 * 14))
    np.testing.assert_allclose(truth.q["intercept"], 1 / (5 * 4))
    np.testing.assert_allclose(truth.delta["intercept"], 1 / (1 + 5 * 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 1}, "rows must be a whole number of at least 2, not 1"),
        ({"rows": 10.0}, "rows must be a whole number of at least 2, not 10.0"),
        ({"hedges": 0}, "hedges must be a whole number of at least 1, not 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"seed": None}, "seed must be a whole number of at least 0, not None"),
        ({"memory": 1}, "memory must be above 1 bar, not 1; inf is one that never moves"),
        ({"memory": np.nan}, "memory must be above 1 bar, not nan"),
        ({"intercept_memory": [9.0] * 9 + [0.5]}, "intercept_memory must be above 1 bar, not 0.5"),
        ({"volatility_memory": 0}, "volatility_memory must be above 1 bar, not 0"),
        ({"volatility_memory": [9, 9]}, r"volatility_memory has shape \(2,\); give one number$"),
        (
            {"hedges": 2, "memory": [60, 20]},
            r"memory has shape \(2,\); give .* or \(10,\) for one per row or \(1, 2\) for one per",
        ),
        ({"beta": [1, 2]}, r"beta has shape \(2,\); give one number or shape \(1,\)"),
        ({"beta": np.inf}, "beta must be finite, not inf"),
        ({"alpha": "a"}, "alpha must be a number or an array of numbers, not 'a'"),
        ({"obs_scale": 0}, "obs_scale is a standard deviation: give a positive number, not 0"),
        ({"hedge_volatility": -0.1}, "hedge_volatility is a standard deviation"),
        ({"transform": "return"}, 'transform must be "log" or "level", not \'return\''),
        (
            {"transform": "level", "alpha": -500},
            "the simulated target Y reaches -.* on 2015-01-02, which is no price: lower obs_scale",
        ),
        ({"beta": 1000}, "the simulated target Y reaches inf on 2015-01-02"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.simulate(**{"rows": 10} | arguments)
