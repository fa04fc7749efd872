"""A prior keeps within the range of its parameter, and each remedy that a refusal names does."""

import re
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints, transforms
from scipy import stats

from kfmodels import Constant, Discounted, Gaps, HedgeData, Memory, StateDiscount, hedge_ratio_model
from kfmodels.model import Absolute, Known, Weak
from tests.problems import stock_prices

INF = np.inf


def shifted(by: float, scale: float = 1.0, domain: Any = constraints.positive) -> Any:
    """A half-normal moved along the line."""
    move = transforms.AffineTransform(by, scale, domain=domain)
    return dist.TransformedDistribution(dist.HalfNormal(1.0), move)


def mixed(support: Any) -> Any:
    """A mixture of a normal and a half-normal, said to lie on this support."""
    parts = [dist.Normal(0.0, 1.0), dist.HalfNormal(1.0)]
    return dist.MixtureGeneral(dist.Categorical(probs=jnp.ones(2) / 2), parts, support=support)


class Nowhere(dist.Distribution):
    """A distribution that does not say where it lies: uniform from `low` to `low + 1`."""

    arg_constraints: ClassVar[dict] = {}
    support: ClassVar[Any] = constraints.dependent

    def __init__(self, low: float | None) -> None:
        self.low = low
        super().__init__((), ())

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        if self.low is None:
            raise NotImplementedError
        return self.low + jax.random.uniform(key, sample_shape)

    def log_prob(self, value: Any) -> Any:
        return jnp.where((value > self.low) & (value < self.low + 1), 0.0, -jnp.inf)


PLACES: dict[str, tuple[Callable[[Any], Any], float, float, str]] = {
    "obs_scale": (lambda p: hedge_ratio_model(obs_scale=p), 0.0, INF, "a sd, which is positive"),
    "delta of beta": (
        lambda p: hedge_ratio_model(delta={"beta": p}, noise=Constant()),
        0.0,
        1.0,
        "between 0 and 1",
    ),
    "delta of alpha": (
        lambda p: hedge_ratio_model(delta={"alpha": p}, noise=Constant()),
        0.0,
        1.0,
        "between 0 and 1",
    ),
    "delta of beta, shared": (
        lambda p: hedge_ratio_model(delta={"beta": p}, drift=StateDiscount(), noise=Constant()),
        0.0,
        1.0,
        "a memory in bars is said as Memory",
    ),
    "delta of beta, absolute": (
        lambda p: hedge_ratio_model(delta={"beta": Absolute(p), "alpha": 0.1}, noise=Constant()),
        0.0,
        1.0,
        "between 0 and 1",
    ),
    "delta of beta, of all": (
        lambda p: hedge_ratio_model(delta=p, noise=Constant()),
        0.0,
        1.0,
        "between 0 and 1",
    ),
    "Discounted: memory": (Discounted, 4.0, INF, "above 4 bars"),
    "Gaps: bars": (lambda p: Gaps(bars=p), 0.0, INF, "0 or more"),
    "Gaps: bars of overnight": (lambda p: Gaps(bars={"overnight": p}), 0.0, INF, "0 or more"),
    "Gaps: noise": (lambda p: Gaps(noise=p), 0.0, INF, "it is positive"),
    "Gaps: noise of weekend": (lambda p: Gaps(noise={"weekend": p}), 0.0, INF, "it is positive"),
}
"""Each argument that takes a distribution, the range of its parameter, and words that say it."""

PRIORS: dict[str, tuple[Any, float, float]] = {
    "normal": (dist.Normal(0.5, 0.1), -INF, INF),
    "student": (dist.StudentT(3.0, 0.5, 0.1), -INF, INF),
    "log-normal": (dist.LogNormal(0.0, 1.0), 0.0, INF),
    "half-normal": (dist.HalfNormal(1.0), 0.0, INF),
    "half-Cauchy": (dist.HalfCauchy(1.0), 0.0, INF),
    "gamma": (dist.Gamma(2.0, 1.0), 0.0, INF),
    "inverse gamma": (dist.InverseGamma(2.0, 1.0), 0.0, INF),
    "Pareto from 5": (dist.Pareto(5.0, 2.0), 5.0, INF),
    "beta": (dist.Beta(1.0, 9.0), 0.0, 1.0),
    "Kumaraswamy": (dist.Kumaraswamy(1.0, 2.0), 0.0, 1.0),
    "uniform": (dist.Uniform(0.1, 0.9), 0.1, 0.9),
    "uniform over 1": (dist.Uniform(0.1, 1.5), 0.1, 1.5),
    "uniform under 0": (dist.Uniform(-0.1, 0.9), -0.1, 0.9),
    "log-uniform": (dist.LogUniform(5.0, 100.0), 5.0, 100.0),
    "truncated at 0": (dist.TruncatedNormal(1.0, 1.0, low=0.0), 0.0, INF),
    "truncated at -1": (dist.TruncatedNormal(1.0, 1.0, low=-1.0), -1.0, INF),
    "truncated at 5": (dist.TruncatedNormal(20.0, 9.0, low=5.0), 5.0, INF),
    "truncated above": (dist.TruncatedNormal(0.0, 1.0, high=1.0), -INF, 1.0),
    "truncated twice": (dist.TruncatedNormal(0.5, 1.0, low=0.0, high=1.0), 0.0, 1.0),
    "truncated Student": (dist.LeftTruncatedDistribution(dist.StudentT(3.0), low=0.0), 0.0, INF),
    "folded": (dist.FoldedDistribution(dist.Normal(0.0, 1.0)), 0.0, INF),
    "exp of normal": (
        dist.TransformedDistribution(dist.Normal(), transforms.ExpTransform()),
        0.0,
        INF,
    ),
    "sigmoid of normal": (
        dist.TransformedDistribution(dist.Normal(), transforms.SigmoidTransform()),
        0.0,
        1.0,
    ),
    "softplus of normal": (
        dist.TransformedDistribution(dist.Normal(), transforms.SoftplusTransform()),
        0.0,
        INF,
    ),
    "shifted": (shifted(4.0), 4.0, INF),
    "shifted back": (shifted(-1.0), -1.0, INF),
    "turned round": (shifted(1.0, -1.0), -INF, 1.0),
    "shifted, of no domain": (shifted(4.0, domain=constraints.real), -INF, INF),
    "masked": (dist.LogNormal(0.0, 1.0).mask(True), 0.0, INF),
    "improper": (dist.ImproperUniform(constraints.positive, (), ()), 0.0, INF),
    "mixed": (mixed(constraints.real), -INF, INF),
    "silent, 0 to 1": (Nowhere(0.0), 0.0, 1.0),
    "silent, 5 to 6": (Nowhere(5.0), 5.0, 6.0),
    "silent, -0.5 to 0.5": (Nowhere(-0.5), -0.5, 0.5),
}
"""Distributions and where they lie, by their definitions."""


def refusal(call: Callable[[Any], Any], prior: Any) -> str:
    with pytest.raises(ValueError, match="use ") as caught:
        call(prior)
    return str(caught.value)


@pytest.mark.parametrize("place", PLACES)
def test_a_prior_is_taken_where_it_lies_in_the_range_and_nowhere_else(place: str):
    call, low, high, words = PLACES[place]
    for name, (prior, least, most) in PRIORS.items():
        if least >= low and most <= high:
            call(prior)
            continue
        said = refusal(call, prior)
        assert said.startswith(f"{place.split(',')[0]}: the prior {type(prior).__name__} has "), (
            name
        )
        assert words in said
        for end in (least, most):
            silent = np.isinf(end) or "silent" in name  # draws come near the ends, not to them
            assert silent or f"{end:g}" in said, said


def remedies(said: str) -> list[str]:
    return re.findall(r"dist\.\w+\([^()]*\)|Memory\([^().]+\)", said)


@pytest.mark.parametrize("place", PLACES)
def test_each_remedy_is_taken(place: str):
    call = PLACES[place][0]
    for prior, count in ((dist.Normal(6.0, 3.0), 3), (dist.StudentT(3.0, 0.0, 1.0), 2)):
        found = remedies(refusal(call, prior))
        assert len(found) == count
        for code in found:
            call(eval(code, {"dist": dist, "Memory": Memory}))


SHAPED = dist.Beta(np.array([1.0, 2.0]), 9.0)

OTHERWISE: list[tuple[Callable[[], Any], str]] = [
    (lambda: hedge_ratio_model(obs_scale=dist.Poisson(3.0)), "has whole values only"),
    (lambda: Discounted(dist.Poisson(30.0)), "has whole values only"),
    (
        lambda: hedge_ratio_model(delta=dist.Bernoulli(0.5), noise=Constant()),
        "has whole values only",
    ),
    (lambda: hedge_ratio_model(obs_scale=dist.Delta(0.01)), "give the number itself"),
    (
        lambda: hedge_ratio_model(delta={"beta": Absolute(dist.Delta(0.1))}, noise=Constant()),
        "the number itself",
    ),
    (lambda: Gaps(bars=dist.Delta(3.0)), "give the number itself"),
    (
        lambda: hedge_ratio_model(obs_scale=Nowhere(None)),
        "nor can it be drawn from",
    ),
    (lambda: hedge_ratio_model(obs_scale=SHAPED), "has the shape (2,): there is one sd"),
    (lambda: Discounted(dist.LogNormal(np.full(2, 3.0), 1.0)), "but it must be above 4 bars"),
    (lambda: Discounted(dist.Uniform(np.full(2, 5.0), 9.0)), "has the shape (2,): there is one"),
    (
        lambda: hedge_ratio_model(delta={"alpha": SHAPED}, noise=Constant()),
        "shape (2,): state it for one coefficient",
    ),
    (
        lambda: hedge_ratio_model(delta={"beta": SHAPED.to_event(1)}, noise=Constant()),
        "state it for one coefficient",
    ),
    (
        lambda: hedge_ratio_model(delta={"beta": [dist.Beta(1.0, 9.0)] * 2}, noise=Constant()),
        "dist.Beta(np.array([",
    ),
    (lambda: hedge_ratio_model(obs_scale=[0.1, 0.2]), "obs_scale is a sd: a NumPyro distribution"),
    (lambda: hedge_ratio_model(obs_scale=True), "obs_scale is a sd: a NumPyro distribution"),
    (
        lambda: hedge_ratio_model(pivot=dist.Normal(), noise=Constant()),
        "numbers, not a distribution",
    ),
    (lambda: Weak(dist.HalfNormal(3.0)), "Weak: sds must be a positive number"),
    (lambda: Known(dist.Normal(), np.eye(2)), "Known: mean and cov are numbers"),
    (lambda: Discounted(dof=dist.HalfNormal(3.0)), "Discounted: dof must be a positive number"),
    (lambda: Discounted(np.int64(3)), "Discounted: memory must be above 4 bars"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "text"), OTHERWISE)
def test_what_is_no_prior_of_one_number_is_refused_in_words(call: Callable[[], Any], text: str):
    with pytest.raises(ValueError, match=re.escape(text)):
        call()


@pytest.mark.usefixtures("unchecked")
def test_one_prior_per_hedge_is_a_distribution_with_a_value_for_each():
    with pytest.raises(ValueError, match="one prior per hedge") as caught:
        hedge_ratio_model(
            delta={"beta": [dist.Beta(1.0, 9.0), dist.Beta(2.0, 9.0)]}, noise=Constant()
        )
    (code,) = re.findall(r"dist\.Beta\(.*\)", str(caught.value))
    prior = eval(code, {"dist": dist, "np": np})
    model = hedge_ratio_model(delta={"beta": prior}, noise=Constant())
    data = HedgeData.from_prices(stock_prices(), target="KO", hedges=["SPX", "PEP"])

    @jax.jit  # one program instead of one for each step of the model
    def score(delta):
        seeded = numpyro.handlers.seed(model, jax.random.key(0))
        return numpyro.handlers.trace(seeded).get_trace(data)["delta_beta"]["fn"].log_prob(delta)

    expected = stats.beta(1, 9).logpdf(0.1) + stats.beta(2, 9).logpdf(0.2)
    np.testing.assert_allclose(score(jnp.array([0.1, 0.2])), expected, rtol=1e-6)
