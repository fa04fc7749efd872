"""What is taken where nothing is named: the transform, the model, and days as bars of the clock."""

from typing import Any

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro import handlers

from kfmodels import Constant, Discounted, HedgeData, Memory, Moves, fit, hedge_ratio_model
from kfmodels.clock.clock import Clock
from kfmodels.evaluate import prior_sensitivity, prior_summary
from kfmodels.fitting.hedge_fit import load_fit
from kfmodels.model import OfTheDay, default_model, in_bars
from kfmodels.model.defaults import count_bars, count_days
from tests.problems import FromPrior

ZONE = "America/New_York"


def data_of(bar: str, days: int = 12, **how: Any) -> HedgeData:
    times = Clock.hours("09:30", "16:00", zone=ZONE, bar=bar, start="2024-03-01", end="2024-05-01")
    each = pd.date_range("09:30", "16:00", freq=bar) - pd.Timestamp("09:30").normalize()
    dates = pd.bdate_range("2024-03-04", periods=days)
    index = pd.DatetimeIndex([day + at.to_timedelta64() for day in dates for at in each])
    rng = np.random.default_rng(1)
    x = np.cumsum(rng.normal(0, 0.004, len(index)))
    y = 1.3 * x + np.cumsum(rng.normal(0, 0.003, len(index)))
    frame = pd.DataFrame({"Y": np.exp(y), "X": np.exp(x)}, index)
    given = {"target": "Y", "hedges": ["X"], "clock": times} | how
    return HedgeData.from_prices(frame, **given)


@pytest.mark.filterwarnings("ignore:these rows have 11 nights:UserWarning")
@pytest.mark.parametrize(
    ("bar", "how", "transform"),
    [
        ("30min", {}, "return"),  # 13 bars a session
        ("39min", {}, "log"),  # 10
        ("30min", {"clock": None}, "log"),
        ("30min", {"clock": Clock("30min", zone=ZONE)}, "log"),
        ("30min", {"transform": "level"}, "level"),
    ],
)
def test_moves_are_taken_within_sessions_of_more_than_ten_bars(
    bar: str, how: dict[str, Any], transform: str
):
    data = data_of(bar, **how)
    assert data.transform == transform
    model = default_model(data)
    assert (model.profile is not None) == (model.tilt is not None) == (transform == "return")
    if transform != "return":
        assert model == hedge_ratio_model()


def test_each_part_is_switchable_and_those_of_mornings_come_with_ten_days():
    data = data_of("30min")
    assert count_days(data) == 12
    assert isinstance(default_model(data).day, OfTheDay)
    few = default_model(data.before("2024-03-15"))  # nine days
    assert (few.day, few.tilt) == (None, None)
    assert few.profile is not None
    for part in ("profile", "tilt", "day"):
        assert getattr(default_model(data, **{part: None}), part) is None
    assert default_model(data, delta=0.0).beta_delta == 0.0


def test_days_are_bars_of_the_clock_wherever_they_are_said():
    data = data_of("30min")
    days = Memory(2, low=1, high=6, unit="days")
    model = hedge_ratio_model(
        intercept="none", delta=days, noise=Discounted(days), day=OfTheDay(half_life=days)
    )
    bars = Memory(26, low=13, high=78)
    counted = in_bars(model, data)
    assert (counted.beta_delta, counted.noise) == (bars, Discounted(bars))
    assert counted.day == OfTheDay(half_life=bars)
    assert in_bars(counted, data) is counted
    assert count_bars(hedge_ratio_model(noise=Constant()), 7.0) is not None
    fitted = fit(data, model, method=Weighed(draws=8), progress=False)
    assert fitted.model.beta_delta == bars
    assert count_bars(dist.Normal(0.0, 1.0), 3.0).loc == 0.0


@pytest.mark.parametrize(
    ("index", "bars"),
    [
        (pd.bdate_range("2020-01-02", periods=80), 21),
        (pd.date_range("2020-01-02", periods=80, freq="7D"), 4.2),
        (pd.date_range("2020-01-02", periods=2304, freq="5min"), 21 * 288),
        (pd.RangeIndex(80), 21),
    ],
)
def test_a_month_is_one_of_the_bars_that_the_rows_have(index, bars):
    rng = np.random.default_rng(0)
    prices = pd.DataFrame(50 * np.exp(0.01 * rng.normal(size=(len(index), 2)).cumsum(0)), index)
    prices.columns = ["Y", "X"]
    prior = Moves(0.05, low=0.01, high=0.2)
    model = hedge_ratio_model(delta={"beta": prior}, noise=Constant())
    data = HedgeData.from_prices(prices, target="Y", hedges=["X"])
    counted = in_bars(model, data).beta_delta
    assert isinstance(counted, Moves)
    assert (counted.bars, counted.unit) == (pytest.approx(bars), "bars")
    pairs = HedgeData.pairs(prices, [("Y", "X")])
    assert in_bars(model, pairs).beta_delta == counted
    found = prior_summary(data, model).loc[("X", "monthly_share"), "median"]
    assert found == pytest.approx(0.05, rel=0.05)  # 2,000 draws of a log sd of .9


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_fit_without_a_model_goes_by_the_time_of_day():
    fitted = fit(data_of("30min"), method=Weighed(draws=8), progress=False)
    assert {"profile_fall", "tilt_sd", "day_sd"} <= set(fitted.tree["posterior"])
    assert fitted.coef == ("X",)
    assert fitted.online().clock is not None


@pytest.mark.usefixtures("unchecked")
def test_days_that_were_not_counted_are_refused():
    days = Memory(4, low=0.5, high=32, unit="days")
    seeded = handlers.seed(
        hedge_ratio_model(delta={"beta": days}, intercept="none", noise=Constant()), 0
    )
    with pytest.raises(ValueError, match=r"counts days: .* kfmodels.model.in_bars\(model, data\)"):
        seeded(data_of("30min"))
    seeded = handlers.seed(
        hedge_ratio_model(delta={"beta": Moves(0.05, 0.01, 0.2)}, noise=Constant()), 0
    )
    with pytest.raises(ValueError, match=r"counts days: .* kfmodels.model.in_bars\(model, data\)"):
        seeded(data_of("30min"))
    with pytest.raises(ValueError, match='Moves counts unit="bars" or unit="days", not'):
        Moves(0.05, 0.01, 0.2, unit="weeks")
    for wrong in ({"unit": "weeks"}, {"low": -1.0, "unit": "days"}):
        with pytest.raises(ValueError, match=r'unit="bars" or unit="days"|0 < low < bars'):
            Memory(**{"bars": 4, "low": 0.5, "high": 32} | wrong)


class Weighed(FromPrior):
    """Prior draws, and evidence of three to one for the deviation of the day."""

    def run(self, model: Any, inputs: Any, seed: int, progress: bool) -> Any:
        found = super().run(model, inputs, seed, progress)
        evidence = np.log(3.0) if model.day is not None else 0.0
        return found._replace(about={"log_evidence": evidence, "log_evidence_mcse": 0.1})


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_deviation_of_the_day_may_be_none_and_a_filter_mixes_both(tmp_path: Any):
    data = data_of("30min")
    fit(data, method=Weighed(draws=40), progress=False).save(tmp_path / "fit.nc")
    found = load_fit(tmp_path / "fit.nc")
    there = found.tree["posterior"]["with_day"].values == 1
    assert there.mean() == pytest.approx(0.75)
    sizes = found.tree["posterior"]["day_sd"].values[..., 0]
    assert ((sizes > 0) == there).all()
    table = found.day()
    assert table.loc["deviation", "probability"] == pytest.approx(0.75)
    held = found.tree["posterior"]["day_size"].values[there]
    assert table.loc["deviation", "median"] == np.quantile(held, 0.5, method="nearest")
    live = found.online()
    settled = live.arguments()["drift"].settled[-1, -1]
    assert np.mean(settled > 0) == pytest.approx(0.75, abs=0.01)
    with pytest.raises(ValueError, match=r"day=OfTheDay\(...\) is weighed by its evidence"):
        prior_sensitivity(found)
