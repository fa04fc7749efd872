"""Trading days: the simulated path against its equation, and the open, where the ratios are judged."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from kfmodels.data.simulated_days import SimulatedDays, simulate_days
from kfmodels.model.assumptions import Gaps
from kfmodels.model.hedge_ratio import HedgeRatioModel, hedge_ratio_model
from tests.benchmarks.open_hedges import (
    CHANGES,
    NO_HEDGE,
    PERIODS,
    KnownRatios,
    known_ratios,
    opening_table,
)

TRAIN, BARS = 6, 39
NAMES = {"target": "Y", "hedge": "X1", "train_days": TRAIN}


def days_of(overnight_bars: float, **settings: Any) -> SimulatedDays:
    usual: Any = {"days": 40, "bars": BARS, "hedge_volatility": 0.001, "seed": 11}
    return simulate_days(overnight_bars=overnight_bars, **usual | settings)


def true_model(truth: SimulatedDays) -> HedgeRatioModel:
    """The noise that the days were drawn with, in the units of the training rows."""
    logs, dates = np.log(truth.prices["X1"].to_numpy()), truth.prices.index.normalize()
    training = dates < dates.unique()[TRAIN]
    unit = np.mean((logs[training] - truth.pivot) ** 2) / logs.var()
    q = truth.q["beta"] * unit
    return hedge_ratio_model(
        delta={"beta": q / (1 + q), "alpha": truth.q["alpha"] / (1 + truth.q["alpha"])},
        obs_scale=truth.obs_scale,
        pivot=truth.pivot,
        gaps=Gaps(bars=truth.overnight_bars),
    )


def known(truth: SimulatedDays, prices: pd.DataFrame | None = None) -> KnownRatios:
    """What was known on the days, or on others like them, with the true noise."""
    prices = truth.prices if prices is None else prices
    return known_ratios(prices, truth.clock, models={"live": true_model(truth)}, **NAMES)


# -- simulated days --------------------------------------------------------------------------------


@pytest.mark.parametrize("overnight_bars", [0.0, 300.0])
def test_the_simulated_path_obeys_its_equation(overnight_bars: float):
    truth = days_of(overnight_bars, days=250, hedge_overnight_volatility=0.02)
    x, y = (np.log(truth.prices[name].to_numpy()) for name in ("X1", "Y"))
    ratio, intercept = truth.hedge_ratio.to_numpy(), truth.intercept.to_numpy()
    assert_allclose(y - ratio * x - intercept, truth.noise, atol=1e-12)
    level = intercept + ratio * truth.pivot
    v, worth = truth.obs_scale**2, truth.worth.to_numpy()[1:]
    assert_allclose(truth.pivot, x.mean(), rtol=1e-12)
    parts = {
        "noise": truth.noise.to_numpy()[1:] / np.sqrt(v),
        "ratio": np.diff(ratio) / np.sqrt(truth.q["beta"] * v * worth / x.var()),
        "level": np.diff(level) / np.sqrt(truth.q["alpha"] * v * worth),
    }
    opens = np.arange(1, len(x)) % BARS == 0
    parts["hedge"] = np.diff(x) / np.where(opens, 0.02, 0.001)
    assert_array_equal(worth, np.where(opens, 1 + overnight_bars, 1.0))
    for name, part in parts.items():
        for rows in (opens, ~opens):
            n = rows.sum()
            # a sum of n squared standard normals; one run in a million lies outside
            low, high = stats.chi2(n).ppf([5e-7, 1 - 5e-7])
            assert low < np.sum(part[rows] ** 2) < high, name
    assert abs(np.corrcoef(parts["ratio"], parts["level"])[0, 1]) < 5 / np.sqrt(len(x))


def test_the_clock_of_the_days_finds_a_bar_before_every_row_and_a_gap_before_every_open():
    truth = days_of(5.0, days=11)
    dt, gaps, names = truth.clock.rows(truth.prices.index)
    assert_array_equal(dt[1:], 1.0)
    assert_array_equal(gaps.sum(1)[1:], np.arange(1, len(dt)) % BARS == 0)
    table = dict(zip(names, gaps.sum(0), strict=True))
    assert table == {"overnight": 8.0, "weekend": 2.0}  # eleven business days from a Monday


def test_the_same_seed_has_the_same_noise_whatever_the_night():
    calm, wild = days_of(0.0), days_of(900.0)
    assert_array_equal(calm.noise, wild.noise)
    assert_array_equal(calm.prices["X1"], wild.prices["X1"])
    first = calm.hedge_ratio.iloc[:BARS]
    assert_array_equal(first, wild.hedge_ratio.iloc[:BARS])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"days": 1}, "2 days or more"),
        ({"bars": 77}, "divide the 23,400 seconds"),
        ({"memory": 1.0}, "memory must be above 1 bar, not 1"),
        ({"overnight_bars": -1.0}, "overnight_bars is a finite number, 0 or more"),
        ({"obs_scale": 0.0}, "obs_scale is a standard deviation: give a positive"),
        ({"hedge_volatility": np.inf}, "hedge_volatility must be finite, not inf"),
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, message: str):
    with pytest.raises(ValueError, match=message):
        simulate_days(**settings)


# -- the open --------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_after_large_jumps_the_ratio_of_the_night_before_leaves_more_variance_at_the_open():
    gains, errors = [], []
    for seed in (11, 12, 13):
        truth = days_of(600.0, bars=78, seed=seed)
        table = opening_table(known(truth), truth=truth.hedge_ratio).loc["first half hour"]
        gains.append(table.loc["live", "gain"])
        errors.append(table.loc["live", "gain_se"])
        assert table.loc["live", "ratio_error"] < table.loc[CHANGES, "ratio_error"]
    assert np.sum(gains) > 4 * np.sqrt(np.sum(np.square(errors)))  # three pairs, independent


def test_the_band_of_the_true_filter_covers_nine_in_ten():
    truth = days_of(300.0, days=60)
    table = opening_table(known(truth))
    for period in PERIODS:
        live = table.loc[(period, "live")]
        share = np.sqrt(0.09 / live["moves"])
        assert abs(live["covered"] - 0.9) < 4 * share, period
        assert np.isnan(table.loc[(period, CHANGES), "covered"])


def test_the_table_against_a_loop_by_hand():
    truth = days_of(200.0, days=12)
    found = known(truth)
    table = opening_table(found, minutes=30)
    prices = truth.prices.loc[found.ratio.index]
    sums = {(period, name): [0.0, 0.0, 0] for period in PERIODS for name in found.ratio}
    for row in range(1, len(prices)):
        at, before = prices.index[row], prices.index[row - 1]
        since = at - at.normalize() - pd.Timedelta(hours=9, minutes=30)
        period = PERIODS[2] if since > pd.Timedelta(minutes=30) else PERIODS[1]
        period = PERIODS[0] if at.date() != before.date() else period
        y, x = (prices.loc[at, name] / prices.loc[before, name] - 1 for name in ("Y", "X1"))
        for name in found.ratio:
            hedged = y - found.ratio.loc[before, name] * x
            one = sums[period, name]
            one[0], one[1], one[2] = one[0] + hedged**2, one[1] + y**2, one[2] + 1
    for place, (hedged, alone, moves) in sums.items():
        assert table.loc[place, "moves"] == moves
        assert_allclose(table.loc[place, "removed"], 1 - hedged / alone, atol=1e-12)
        assert_allclose(table.loc[place, "left_bp"], 1e4 * np.sqrt(hedged / moves), rtol=1e-12)
    assert (table.xs(NO_HEDGE, level="method")["removed"] == 0).all()


def test_no_ratio_looks_ahead():
    truth = days_of(200.0, days=10)
    whole = known(truth)
    cut = len(truth.prices) - 50
    other = truth.prices.copy()
    other.iloc[cut:] *= np.exp(0.01 * np.random.default_rng(5).normal(size=(50, 2)))
    changed = known(truth, other)
    until = truth.prices.index[cut - 1]
    for name in ("ratio", "sd", "z"):
        before, after = (getattr(one, name).loc[:until] for one in (whole, changed))
        assert len(before) > BARS
        assert_array_equal(before, after)
    assert (whole.ratio != changed.ratio)["live"].any()  # the future did change
