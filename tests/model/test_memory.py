"""delta, q, gain, memory: one number from four sides; and the priors stated in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import norm

from kfmodels import Memory
from kfmodels.model.memory import (
    LEAST_VARIANCE_MEMORY,
    delta_to_q,
    memory_to_q,
    q_to_delta,
    q_to_gain,
    q_to_memory,
)
from kfmodels.model.priors import (
    HEDGE_MEMORY,
    HEDGE_MEMORY_BESIDE_MOVING_LEVEL,
    INTERCEPT_MEMORY,
    VARIANCE_MEMORY,
)

EPS = np.finfo(float).eps
RATIOS = np.logspace(-150, 150, 301)
"""Signal-to-noise ratios far outside of what any price has shown (1e-7 to 1e3)."""


def test_q_is_the_odds_of_delta():
    delta = np.array([0.0, 1e-300, 1e-4, 0.5, 0.999, 1 - EPS])
    assert_allclose(delta_to_q(delta), [0, 1e-300, 1 / 9999, 1, 999, (1 - EPS) / EPS], rtol=1e-12)
    inner = delta[1:-1]
    assert_allclose(np.log(delta_to_q(inner)), logit(inner), rtol=1e-14, atol=1e-15)


def test_delta_and_q_lead_back_to_each_other():
    delta = np.r_[0.0, np.logspace(-300, -1, 300), 0.5, 1 - np.logspace(-1, -15, 15)]
    assert_allclose(q_to_delta(delta_to_q(delta)), delta, rtol=8 * EPS)
    # 1 - delta of a large q has lost the digits that q has above 1
    assert_allclose(delta_to_q(q_to_delta(RATIOS[:150])), RATIOS[:150], rtol=8 * EPS)
    q = np.logspace(0, 12, 25)
    assert (np.abs(delta_to_q(q_to_delta(q)) / q - 1) <= 8 * EPS * (1 + q)).all()


def test_the_gain_is_the_fixed_point_of_the_recursion_of_a_local_level():
    """Variance relative to the noise: P = C + q is predicted, g = P / (P + 1), C = (1 - g) P."""
    g = q_to_gain(RATIOS)
    predicted = RATIOS / g  # from P = (1 - g) P + q
    assert_allclose(g, predicted / (predicted + 1), rtol=8 * EPS)
    # the same without the root: g^2 / (1 - g) = q
    small = RATIOS < 1e6
    assert_allclose(g[small] ** 2, RATIOS[small] * (1 - g[small]), rtol=1e-9)
    assert (np.diff(g[RATIOS < 1e6]) > 0).all()
    assert ((g > 0) & (g <= 1)).all()


@pytest.mark.parametrize(
    ("q", "gain"),
    [(0.5, 0.5), (1 / 6, 1 / 3), (4 / 3, 2 / 3), (0.0, 0.0), (1.0, (np.sqrt(5) - 1) / 2)],
)
def test_gains_known_in_closed_form(q: float, gain: float):
    assert_allclose(q_to_gain(q), gain, rtol=4 * EPS)


def test_memory_is_one_over_the_gain():
    assert_allclose(q_to_memory(RATIOS), 1 / q_to_gain(RATIOS), rtol=EPS)
    assert q_to_memory(0.0) == np.inf
    assert q_to_memory(np.array([0.0, 0.5])).tolist() == [np.inf, 2.0]
    assert_allclose(q_to_memory(1e-300), 1e150, rtol=8 * EPS)
    assert_allclose(q_to_memory(1e-4), 100.5, atol=0.01)  # 1 / sqrt(q) + 1/2 + O(sqrt(q))


def test_memory_and_q_lead_back_to_each_other():
    bars = 1 + np.logspace(-12, 150, 200)
    assert_allclose(q_to_memory(memory_to_q(bars)), bars, rtol=8 * EPS)
    # memory - 1 is what q knows of a short memory; the error grows by its condition number
    q = np.logspace(-150, 10, 200)
    memory = q_to_memory(q)
    condition = (2 * memory - 1) / (memory - 1)
    assert (np.abs(memory_to_q(memory) / q - 1) <= 8 * EPS * condition).all()


def test_the_words_work_on_jax_arrays_too():
    with jax.enable_x64(True):
        q = jnp.array([1e-6, 0.1, 10.0])
        assert_allclose(q_to_memory(q), q_to_memory(np.asarray(q)), rtol=4 * EPS)
        assert_allclose(delta_to_q(q_to_delta(q)), q, rtol=1e-13)


# -- priors --------------------------------------------------------------------------------------


def share_of_delta(prior: Memory, low: float, high: float) -> float:
    """Probability that the memory lies between two bounds, by quadrature over logit(delta)."""
    law = prior.on_delta()

    def density(u: float) -> float:
        delta = expit(u)
        return float(jnp.exp(law.log_prob(delta))) * delta * (1 - delta)

    ends = [np.log(memory_to_q(bars)) for bars in (high, low)]
    return quad(density, *ends, epsabs=1e-10)[0]


def share_of_bars(prior: Memory, low: float, high: float) -> float:
    law = prior.on_bars()

    def density(u: float) -> float:
        return float(jnp.exp(law.log_prob(4 + np.exp(u)))) * np.exp(u)

    return quad(density, np.log(low - 4), np.log(high - 4), epsabs=1e-10)[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("share", "bars", "low"),
    [
        (share_of_delta, 60, 5),
        (share_of_delta, 2, 1.003),
        (share_of_delta, 250, 20),
        (share_of_bars, 20, 5),
        (share_of_bars, 4.5, 4.01),
    ],
)
def test_nine_tenths_of_the_prior_lie_where_it_says(share, bars: float, low: float):
    """Exactly so where the ends are as far from the median, of log q or of the log of bars above 4."""
    if share is share_of_delta:
        high = float(q_to_memory(memory_to_q(bars) ** 2 / memory_to_q(low)))
    else:
        high = 4 + (bars - 4) ** 2 / (low - 4)
    prior = Memory(bars, low=low, high=high)
    assert_allclose(share(prior, low, bars), 0.45, atol=1e-9)
    assert_allclose(share(prior, bars, high), 0.45, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("prior", [Memory(60, low=15, high=250), Memory(10, low=9, high=5000)])
def test_the_median_is_at_bars_even_if_the_ends_are_lopsided(prior: Memory):
    three, ends = norm.cdf(3) - 0.5, np.array([3.0, -3.0])
    shorter, longer = q_to_memory(memory_to_q(prior.bars) * np.exp(ends * prior.log_q_sd))
    assert_allclose(share_of_delta(prior, shorter, prior.bars), three, atol=1e-9)
    assert_allclose(share_of_delta(prior, prior.bars, longer), three, atol=1e-9)
    width = np.log((prior.high - 4) / (prior.low - 4)) / (norm.ppf(0.95) - norm.ppf(0.05))
    longer, shorter = 4 + (prior.bars - 4) * np.exp(ends * width)
    assert_allclose(share_of_bars(prior, shorter, prior.bars), three, atol=1e-9)
    assert_allclose(share_of_bars(prior, prior.bars, longer), three, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("prior", "share"),
    [
        (HEDGE_MEMORY, share_of_delta),
        (HEDGE_MEMORY_BESIDE_MOVING_LEVEL, share_of_delta),
        (INTERCEPT_MEMORY, share_of_delta),
        (VARIANCE_MEMORY, share_of_bars),
    ],
)
def test_the_default_priors_are_what_their_words_say(prior: Memory, share):
    """Their ends are round numbers, so the 90 % are not exact: within one per cent."""
    assert_allclose(share(prior, prior.low, prior.high), 0.9, atol=0.01)


def test_delta_is_between_zero_and_one_and_the_memory_of_a_variance_above_its_least():
    prior = Memory(60, low=5, high=700)
    key = jax.random.key(0)
    delta, bars = (law.sample(key, (1000,)) for law in (prior.on_delta(), prior.on_bars()))
    assert ((delta > 0) & (delta < 1)).all()
    assert (bars > LEAST_VARIANCE_MEMORY).all()
    assert LEAST_VARIANCE_MEMORY - 1 > 2  # degrees of freedom after a fade: a variance takes over 2
