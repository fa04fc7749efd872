"""A posterior pressed against a bound of its prior is told, with what to do."""

import re
import warnings
from pathlib import Path

import numpyro.distributions as dist
import pytest

from kfmodels import (
    Anchored,
    Constant,
    Discounted,
    HedgeData,
    HedgeFit,
    ImportanceSampling,
    fit,
    hedge_ratio_model,
    load,
)
from kfmodels.fitting.tables import tell_bounds
from kfmodels.model.assumptions import Noise
from tests.problems import stock_prices, unsampled
from tests.tables import read_table

pytestmark = pytest.mark.slow

MEMORY = r"The memory of the observation variance, in bars, stands at its lower bound 4 \(90 % 4.0"


def sampled(data: HedgeData, noise: Noise, **options) -> tuple[HedgeFit, list[str]]:
    model = hedge_ratio_model(noise=noise, intercept="static", **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = fit(data, model, method=ImportanceSampling(), progress=False)
    return fitted, [str(one.message) for one in caught if "bound" in str(one.message)]


def stocks() -> HedgeData:
    return HedgeData.from_prices(stock_prices(), target="KO", hedges=["PEP"])


@pytest.mark.slow
def test_a_variance_that_may_not_forget_fast_enough_is_told_and_the_remedy_helps():
    """Two funds of one index: unadjusted dividends on different days are all of their noise."""
    twins = read_table("spy_ivv_close.csv").loc["2010":"2014"]
    data = HedgeData.from_prices(twins, target="SPY", hedges=["IVV"])
    fitted, said = sampled(data, Discounted())
    assert len(said) == 1
    assert re.match(MEMORY, said[0])
    assert said[0] in fitted.report().replace("\n  ", " ")
    largest = eval(re.search(r"fit\.spread\(\).*?\(10\)", said[0])[0], {"fit": fitted})
    assert largest.iloc[0] > 10
    other = eval(re.search(r"Anchored\(.*?\)", said[0])[0], {"Anchored": Anchored})
    assert not sampled(data, other)[1]


@pytest.mark.parametrize(
    ("prior", "says"),
    [
        (dist.Uniform(1e-4, 1e-3), "obs_scale stands at its upper bound 0.001 (90 % 0.000"),
        (dist.Uniform(0.05, 0.5), "obs_scale stands at its lower bound 0.05 (90 % 0.05"),
        (dist.Uniform(1e-4, 0.5), ""),
        (dist.LogNormal(-5.0, 1.0), ""),
    ],
)
def test_a_prior_that_ends_too_early_is_told(prior, says):
    fitted, said = sampled(stocks(), Constant(), obs_scale=prior)
    assert len(said) == bool(says)
    assert says in "".join(said)
    assert tell_bounds(fitted.tree) == said
    if says:
        assert "give a prior that reaches further" in said[0]


@pytest.mark.slow
def test_nothing_is_told_of_what_has_not_been_inferred_or_is_the_prior(tmp_path: Path):
    assert not tell_bounds(unsampled(stocks(), noise=Discounted()).tree)
    truncated = dist.TruncatedNormal(0.01, 0.01, low=0.001)  # which no file holds
    fitted = unsampled(stocks(), obs_scale=truncated)
    fitted.save(tmp_path / "fit.nc")
    assert not tell_bounds(load(tmp_path / "fit.nc").tree)
    assert fitted.report()
    fixed = hedge_ratio_model(delta=1e-3, obs_scale=0.01)
    assert not tell_bounds(fit(stocks(), fixed, progress=False).tree)
