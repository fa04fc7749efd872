r"""The population of a universe of pairs, inferred from the stored draws of every pair.

Every pair was inferred alone, under the same prior. Here that prior is replaced by the population of
the pairs themselves, from the stored importance draws and without refitting: with draws $u_{ik}$ of
weight $w_{ik}$ and $p_j$ the prior that a parameter was fitted with,

$$p(y_i ∣ μ, τ) = p(y_i) ∑_k w_{ik} ∏_j \frac{N(u_{ikj} ∣ μ_j, τ_j^2)}
{p_j(u_{ikj})}.$$

Source: Hogg, Myers and Bovy (2010), Inferring the eccentricity distribution, ApJ 725, 2166.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import lax
from jax.scipy.special import logsumexp

from kfmodels._types import Array
from kfmodels.sampling.psis import pick_evenly, smooth

POPULATION_SD = 2.0
"""Scale of the half-normal prior on the sd of the pairs about their mean: a factor exp(2) in q."""

_EVERY, _LEAST = 2**21, 256
"""Draws of all pairs together that evidences are worked out from, but of each pair at least so many.

The logarithm of a mean of n is too low by about half their relative variance over n, in every pair.
"""

_NO_WEIGHT = -1e30
"""Log weight of a draw that has none: finite, for -inf would make gradients NaN."""


class Universe(NamedTuple):
    """What the model of a population reads of every pair: its posterior and its prior.

    The likelihood of a pair, as a function of u, is a mixture of normals, one for each of its draws,
    `sum_k exp(log_ratio_k) N(centre_k, inverse(sharp))`, divided by the prior of the pair,
    `exp(linear u - u' prior u / 2)`. Every u is measured from the mean of all draws.
    """

    log_ratio: Array
    """`(pair, draw)`"""

    features: Array
    """Centres, their squares and products, `(pair, draw, J + J (J + 1) / 2)`."""

    sharp: Array
    """Inverse covariance of the normals, `(pair, J, J)`."""

    linear: Array
    """`(pair, J)`"""

    prior: Array
    """`(pair, J, J)`"""

    spread: Array
    """Sd of all draws of all pairs, `(J,)`."""


def population(universe: Universe) -> None:
    """NumPyro model of a population, its pairs integrated out; `mean` is measured as every u is."""
    count = universe.spread.shape[-1]
    mean = numpyro.sample("mean", dist.Normal(0.0, 3 * universe.spread).to_event(1))
    sd = numpyro.sample("sd", dist.HalfNormal(POPULATION_SD).expand((count,)).to_event(1))
    numpyro.factor("pairs", log_evidence(universe, jnp.asarray(mean), jnp.asarray(sd)).sum())


# -- importance weights ----------------------------------------------------------------------------


def universe_of(
    u: np.ndarray, log_weights: np.ndarray, log_prior: np.ndarray
) -> tuple[Universe, np.ndarray]:
    """The arrays of the model, and the middle that every u in it is measured from.

    Of thousands of pairs a part of the draws stands for all.
    """
    taken = min(u.shape[1], max(_LEAST, _EVERY // len(u)))
    effective = np.minimum(np.exp(log_weights).sum(1) ** 2 / np.exp(2 * log_weights).sum(1), taken)
    if taken < u.shape[1]:
        u, log_weights, log_prior = _thin(u, log_weights, log_prior, taken)
    pairs, _, count = u.shape
    weights = np.exp(log_weights)
    weights = weights / weights.sum(1, keepdims=True)
    middle = np.einsum("pk,pkj->j", weights, u) / pairs
    away = u - middle
    spread = np.sqrt(np.einsum("pk,pkj->j", weights, away**2) / pairs)
    mean = np.einsum("pk,pkj->pj", weights, away)[:, None]
    cov = np.einsum("pk,pki,pkj->pij", weights, away - mean, away - mean)
    # a pair whose weight lies on one draw has no covariance of its own to invert
    cov = cov + 1e-9 * np.eye(count) * spread**2
    # a normal at every draw, as wide as Silverman's rule says; its centre is moved towards the mean, so
    # that the mixture keeps the covariance of the draws
    width = np.minimum((4 / ((count + 2) * effective)) ** (1 / (count + 4)), 0.9)[:, None, None]
    centres = mean + np.sqrt(1 - width**2) * (away - mean)
    linear, prior, rest = _quadratic(away, log_prior.sum(-1), weights)
    sharp = np.linalg.inv(cov * width**2)
    unit = 0.5 * np.linalg.slogdet(sharp)[1]
    return Universe(
        log_ratio=over_prior(log_weights, rest[..., None]) + unit[:, None],
        features=np.concatenate([centres, _products(centres)], -1),
        sharp=sharp,
        linear=linear,
        prior=prior,
        spread=spread,
    ), middle


def _thin(
    u: np.ndarray, log_weights: np.ndarray, log_prior: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws of equal weight, evenly spaced by weight in the order of the first parameter."""
    each = zip(np.exp(log_weights), u[..., 0], strict=True)
    picked = np.array([pick_evenly(weights, first, count) for weights, first in each])
    equal = np.full(picked.shape, -np.log(count))
    u, log_prior = (np.take_along_axis(a, picked[..., None], 1) for a in (u, log_prior))
    return u, equal, log_prior


def _quadratic(
    u: np.ndarray, value: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit `value = rest + linear u - u' curved u / 2` to the draws of each pair, by least squares.

    Priors on log q and on the log of a scale mostly are normal: then `rest` is a constant.
    """
    pairs, draws, count = u.shape
    rows, columns = np.triu_indices(count)
    design = np.concatenate([np.ones((pairs, draws, 1)), u, _products(u)], -1)
    # no weight is 0, or the few draws left with one would not determine the fit
    root = np.sqrt(weights + 1e-3 / draws)
    value = np.maximum(value, -1e6)  # finite where the prior has no density
    linear, curved = np.empty((pairs, count)), np.zeros((pairs, count, count))
    for number in range(pairs):
        found = np.linalg.lstsq(
            design[number] * root[number][:, None], value[number] * root[number]
        )
        linear[number] = found[0][1 : count + 1]
        curved[number][rows, columns] -= found[0][count + 1 :]
        curved[number][columns, rows] -= found[0][count + 1 :]
    fitted = np.einsum("pj,pkj->pk", linear, u) - 0.5 * np.einsum("pki,pij,pkj->pk", u, curved, u)
    return linear, curved, value - fitted


def _products(u: np.ndarray) -> np.ndarray:
    """Squares and products of the parameters, each once."""
    rows, columns = np.triu_indices(u.shape[-1])
    return u[..., rows] * u[..., columns]


def over_prior(log_weights: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """Log weights less log prior; finite, also for a draw without weight."""
    with np.errstate(invalid="ignore"):
        ratio = log_weights - log_prior.sum(-1)
    return np.where((log_weights > -np.inf) & (ratio < np.inf), ratio, _NO_WEIGHT)


def log_evidence(universe: Universe, mean: Array, sd: Array) -> Array:
    r"""Log evidence of every pair under a population, less that under its own prior, `(pair,)`.

    The sum over draws at the head of this file, with a normal in the place of every draw, so that a
    population narrower than the distance between draws has an evidence too:

    $$∑_k w_k ∫ N(u ∣ c_k, B) \frac{N(u ∣ μ, τ^2)}{p(u)} du$$
    """
    n = len(mean)
    pull = mean / (sd * sd) - universe.linear
    joint = universe.sharp + jnp.diag(1 / (sd * sd)) - universe.prior
    # Gaussian elimination by hand: calls of LAPACK, one a pair, cost more than all draws together
    tableau = jnp.concatenate([joint, universe.sharp, pull[..., None]], -1)
    constant = -0.5 * (jnp.log(2 * jnp.pi * sd * sd) + mean * mean / (sd * sd)).sum()
    for i in range(n):
        constant = constant - 0.5 * jnp.log(tableau[:, i, i])
        row = tableau[:, i] / tableau[:, i, i, None]
        here = (jnp.arange(n) == i)[:, None]
        tableau = jnp.where(here, row[:, None], tableau - tableau[:, :, i, None] * row[:, None])
    # inverse(joint) times sharp, and times pull
    gain, answer = tableau[..., n:-1], tableau[..., -1]
    along = (gain * pull[..., None]).sum(1)
    kept = (universe.sharp[..., None] * gain[:, None]).sum(2) - universe.sharp
    across = (kept * (1 - 0.5 * jnp.eye(n)))[:, *np.triu_indices(n)]
    constant = constant + 0.5 * (pull * answer).sum(-1)
    coefficients = jnp.concatenate([along, across], -1)
    return _log_sum(universe.log_ratio, universe.features, coefficients) + constant


@jax.custom_jvp
def _log_sum(log_ratio: Array, features: Array, coefficients: Array) -> Array:
    return logsumexp(log_ratio + jnp.einsum("pkf,pf->pk", features, coefficients), -1)


@_log_sum.defjvp
def _log_sum_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    # without this rule the gradient would read every draw once more for each parameter; `log_ratio` and
    # `features` are data, so their tangents are left out
    value = _log_sum(*primals)
    log_ratio, features, coefficients = primals
    ratio = log_ratio + jnp.einsum("pkf,pf->pk", features, coefficients)
    mean = jnp.einsum("pk,pkf->pf", jnp.exp(ratio - value[:, None]), features)
    return value, (mean * tangents[2]).sum(-1)


@jax.jit
def shrunk_weights(u: Array, log_ratio: Array, mean: Array, sd: Array) -> tuple[Array, Array]:
    """Weights of every draw, averaged over the populations `(draw, J)` and smoothed; their k-hat.

    The weights are given and returned as logarithms, and so is the sum over populations: draws far
    from a narrow one have weights that no float can hold.
    """

    def add(total: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
        mean, sd = one
        ratio = log_ratio - 0.5 * (((u - mean) / sd) ** 2).sum(-1)
        weight = jnp.exp(ratio - ratio.max(-1, keepdims=True))
        return total + weight / weight.sum(-1, keepdims=True), None

    total, _ = lax.scan(add, jnp.zeros(log_ratio.shape), (mean, sd))
    return smooth(jnp.log(total))
