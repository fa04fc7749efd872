"""Draws about the mode are the posterior where it has one; where weights fail NUTS draws."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from kfmodels.sampling.near_mode import NearMode
from kfmodels.sampling.nuts import NUTS

SHORT = NUTS(warmup=300, draws=250, chains=4)


def gamma(data: np.ndarray) -> None:
    """A rate of exponential waiting times: its posterior is a gamma distribution."""
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    numpyro.sample("y", dist.Exponential(rate).expand((len(data),)).to_event(1), obs=data)


def heavy(data: np.ndarray) -> None:
    """Tails that no Student-t with four degrees of freedom covers."""
    numpyro.sample("x", dist.Cauchy(jnp.zeros(3), 1.0).to_event(1))


@pytest.mark.nightly
def test_the_draws_are_those_of_the_closed_form():
    data = np.random.default_rng(0).exponential(0.5, 12)
    drawn = NearMode().run(gamma, data, 0, False)
    exact = stats.gamma(2 + len(data), scale=1 / (1 + data.sum()))
    ess, rate = drawn.about["ess"], drawn.sites["rate"].ravel()
    assert ess > 250
    assert rate.shape == (1000,)
    assert abs(rate.mean() - exact.mean()) < 4 * exact.std() / np.sqrt(ess)
    places = np.sort(exact.cdf(rate))
    assert np.abs(places - np.linspace(0, 1, 1000)).max() < 1.95 / np.sqrt(ess)
    again = NearMode().run(gamma, data, 0, False)
    assert_allclose(again.sites["rate"], drawn.sites["rate"], rtol=0)


@pytest.mark.slow
@pytest.mark.nightly
def test_where_weights_fail_the_other_sampler_draws():
    drawn = NearMode(draws=400, otherwise=SHORT).run(heavy, np.empty(0), 0, False)
    assert drawn.about == {}
    assert drawn.sites["x"].shape == (4, 250, 3)
    inside = (np.abs(drawn.sites["x"]) < 1).mean()
    assert inside == pytest.approx(0.5, abs=0.1)


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="at least 400, not 100"):
        NearMode(draws=100)
