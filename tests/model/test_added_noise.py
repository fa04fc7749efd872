"""An observation noise that is defined here goes from its prior through fit and file to a feed."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import HedgeData, HedgeFit, ImportanceSampling, OnlineFilter, fit, load
from kfmodels.fitting import tree as trees
from kfmodels.kalman.noise import DiscountedVariance, Scale
from kfmodels.kalman.regression import FilterResult
from kfmodels.model import saved
from kfmodels.model.assumptions import REGISTERED, Noise, register
from kfmodels.model.hedge_ratio import hedge_ratio_model
from kfmodels.model.priors import VARIANCE_MEMORY, Memory
from kfmodels.model.sites import site
from tests.problems import stock_prices

pytestmark = pytest.mark.slow

TRAIN, CAP = 100, 4.0


class CappedVariance(NamedTuple):
    """Learnt from squared innovations, none of which counts for more than `cap` times the variance."""

    var: Any
    weight: Any
    factor: Any
    cap: Any

    def start(self):
        return Scale(self.weight, self.var)

    def keep(self, dt):
        return self.factor**dt

    def fade(self, carried, dt):
        return DiscountedVariance(self.var, self.weight, self.factor).fade(carried, dt)

    def unit(self, carried):
        return carried.var

    def relative(self, carried):
        return 1.0

    def dof(self, carried):
        return carried.dof

    def learn(self, carried, forecast, observed):
        dof = carried.dof + observed
        square = forecast.error**2 / forecast.var
        most = self.cap * carried.var
        square = square - (square > most) * (square - most)
        return Scale(dof, (carried.dof * carried.var + observed * square) / dof)


@dataclass(frozen=True)
class Capped(Noise):
    memory: Any = VARIANCE_MEMORY

    makes = CappedVariance
    parameters = {"capped_memory": 4.0}  # noqa: RUF012
    moves = True

    def sites(self):
        return {"capped_memory": site("capped_memory", self.memory, Memory.on_bars)}

    def noise(self, obs_var, capped_memory):
        full = np.ones(np.shape(obs_var))
        return CappedVariance(obs_var, 4 * full, 1 - 1 / capped_memory, CAP * full)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    register(Capped)
    yield
    del REGISTERED["Capped"]  # other tests list what there is


@pytest.fixture(scope="module")
def data() -> HedgeData:
    return HedgeData.from_prices(stock_prices(), target="KO", hedges=["PEP"])


@pytest.fixture(scope="module")
def fitted(data: HedgeData) -> HedgeFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # so few draws need not have converged
        model = hedge_ratio_model(noise=Capped(Memory(20, low=8, high=60)))
        method = ImportanceSampling(draws=32, rounds=2)
        return fit(data.before(data.index[TRAIN]), model, method=method, progress=False)


@pytest.mark.nightly
@pytest.mark.slow
def test_its_parameter_is_inferred_and_its_filter_is_in_the_tables(fitted: HedgeFit):
    memory = fitted.tree["posterior"]["capped_memory"].values
    assert memory.min() > 4 < memory.std()
    passed = filtered(fitted, fitted.data)
    # no forecast after the first ones is of more than cap times the variance learnt till then
    growth = passed.obs_var[:, 1:] / passed.obs_var[:, :-1]
    assert (growth <= 1 + (CAP - 1) / passed.dof[:, :-1] + 1e-9).all()
    assert_allclose(passed.error.mean(0), fitted.spread()["spread"], rtol=1e-9)
    assert np.isfinite(fitted.hedge_ratio("smoothed").to_numpy()).all()


def filtered(fitted: HedgeFit, data: HedgeData, group: str = "mixture") -> FilterResult:
    """The filter over rows of data under the draws of the fit."""
    sites, inputs = trees.stored_sites(fitted.tree, group), fitted.model.inputs(fitted.data)
    where = trees.coordinates(fitted.tree)
    inputs = inputs._replace(
        design=where.design(data.x),
        y=data.y - where.offset,
        observed=data.observed,
        dt=data.dt,
    )
    with jax.enable_x64(True):
        found = trees.regression(fitted.model, inputs, sites).filter(inputs.y)
    return jax.device_get(found)


def test_a_file_keeps_it(fitted: HedgeFit, tmp_path):
    fitted.save(tmp_path / "pair.nc")
    found = load(tmp_path / "pair.nc")
    assert found.model == fitted.model
    for kind in ("filtered", "smoothed"):
        pd.testing.assert_frame_equal(found.hedge_ratio(kind), fitted.hedge_ratio(kind))
    assert found.online().to_json() == fitted.online().to_json()


def test_online_it_goes_on_as_offline_also_after_a_restart(
    fitted: HedgeFit, data: HedgeData, tmp_path
):
    live = fitted.online(draws=1)
    passed = filtered(fitted, data, "plug_in")
    for number, (at, row) in enumerate(data.prices.iloc[TRAIN:].iterrows(), TRAIN):
        if number == TRAIN + 5:
            live.save(tmp_path / "filter.json")
            live = OnlineFilter.load(tmp_path / "filter.json")
        tick = live.update(y=row["KO"], x=row["PEP"], at=at)
        assert_allclose(tick.spread, passed.error[0, number], rtol=1e-9, atol=1e-13)
        variance = passed.forecast_var[0, number] * (1 + 2 / (passed.dof[0, number] - 2))
        assert_allclose(tick.spread_sd**2, variance, rtol=1e-9)


def test_it_goes_live(fitted: HedgeFit, data: HedgeData):
    with fitted.go_live() as live:
        assert live.engine.draws == 80
        for at, row in data.prices.iloc[TRAIN : TRAIN + 3].iterrows():
            signal = live.tick(row.to_dict(), at=at)
        assert signal.outcome == "accepted"
    held = live.engine.arguments()["noise"]
    assert type(held) is CappedVariance
    assert_array_equal(held.cap, np.full(80, CAP))


def test_one_that_is_not_registered_is_refused_by_name():
    @dataclass(frozen=True)
    class Unknown(Capped):
        pass

    text = r"cannot hold .*Unknown\(memory=9\): register its class"
    with pytest.raises(ValueError, match=text):
        saved.to_json(hedge_ratio_model(noise=Unknown(9)))
    written = saved.to_json(hedge_ratio_model(noise=Capped(9))).replace("Capped", "Unknown")
    with pytest.raises(ValueError, match="assumes Unknown, .* import the module that registers it"):
        saved.from_json(written)
