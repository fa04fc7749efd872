"""delta, q, gain, memory: one number from four sides; and the priors stated in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpyro import distributions as dist
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


@pytest.mark.parametrize(("q", "gain"), [(0.5, 0.5), (1 / 6, 1 / 3), (4 / 3, 2 / 3), (0.0, 0.0)])
def test_gains_known_in_fractions(q: float, gain: float):
    assert_allclose(q_to_gain(q), gain, rtol=4 * EPS)


def test_q_of_one_gives_the_golden_ratio():
    assert_allclose(q_to_gain(1.0), (np.sqrt(5) - 1) / 2, rtol=4 * EPS)


@pytest.mark.parametrize("q", [1e-3, 0.1, 1.0, 50.0])
def test_the_gain_is_where_the_filter_settles(q: float):
    cov = 1.0
    for _ in range(2000):
        gain = (cov + q) / (cov + q + 1)
        cov = (1 - gain) * (cov + q)
    assert_allclose(q_to_gain(q), gain, rtol=1e-12)


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


def symmetric_in_log_q(bars: float, low: float) -> Memory:
    q = memory_to_q(bars) ** 2 / memory_to_q(low)
    return Memory(bars, low=low, high=float(q_to_memory(q)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("bars", "low"), [(60, 5), (2, 1.003), (250, 20)])
def test_nine_tenths_of_the_prior_on_delta_lie_where_it_says(bars: float, low: float):
    prior = symmetric_in_log_q(bars, low)
    assert_allclose(share_of_delta(prior, prior.low, prior.high), 0.9, atol=1e-9)
    assert_allclose(share_of_delta(prior, prior.low, bars), 0.45, atol=1e-9)
    assert_allclose(share_of_delta(prior, bars, prior.high), 0.45, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("bars", "low"), [(20, 5), (4.5, 4.01)])
def test_nine_tenths_of_the_prior_on_bars_lie_where_it_says(bars: float, low: float):
    prior = Memory(bars, low=low, high=4 + (bars - 4) ** 2 / (low - 4))
    assert_allclose(share_of_bars(prior, low, prior.high), 0.9, atol=1e-9)
    assert_allclose(share_of_bars(prior, low, bars), 0.45, atol=1e-9)


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
    assert isinstance(prior.on_delta(), dist.Distribution)


def test_the_memory_of_a_variance_leaves_room_for_one():
    """Remembered for m bars it is known with m - 1 degrees of freedom; a variance takes more than 2."""
    assert LEAST_VARIANCE_MEMORY - 1 > 2
    prior = Memory(20, low=4.0, high=90)
    assert prior.on_delta().event_shape == ()
    with pytest.raises(ValueError, match=r"lies above 4 bars.*raise low=4.0"):
        prior.on_bars()
    VARIANCE_MEMORY.on_bars()


@pytest.mark.parametrize(
    "numbers", [(60, 60, 70), (60, 5, 60), (60, 1.0, 70), (60, 5, np.inf), (np.nan, 5, 70)]
)
def test_a_memory_out_of_order_is_refused(numbers: tuple[float, float, float]):
    bars, low, high = numbers
    with pytest.raises(ValueError, match="Memory needs 1 < low < bars < high") as caught:
        Memory(bars, low=low, high=high)
    assert f"low={low}, bars={bars}, high={high}" in str(caught.value)
