r"""What a universe of pairs says about its speeds: a population, and each pair drawn towards it.

Every pair was inferred alone, under the same prior. Here that prior is replaced by the population of
the pairs themselves, from the stored importance draws and without refitting: with draws $u_{ik}$ of
weight $w_{ik}$ and $p_j$ the prior that a parameter was fitted with,

$$p(y_i \mid \mu, \tau) = p(y_i) \sum_k w_{ik} \prod_j \frac{N(u_{ikj} \mid \mu_j, \tau_j^2)}
{p_j(u_{ikj})}.$$

Source: Hogg, Myers and Bovy (2010), Inferring the eccentricity distribution, ApJ 725, 2166.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
from jax import lax
from jax.scipy.special import logsumexp
from numpyro import handlers
from numpyro.distributions import constraints

from kfmodels import priors, ridge
from kfmodels.evidence import MAX_PARETO_K
from kfmodels.inference import NUTS
from kfmodels.models import HedgeRatioModel
from kfmodels.noise import Absolute, Memory, q_to_memory
from kfmodels.pareto import smoothed
from kfmodels.results import MAX_RHAT, MIN_ESS
from kfmodels.sites import on_the_line

Array = Any

POPULATION_SD = 2.0
"""Scale of the half-normal prior on the sd of the pairs about their mean: a factor of 7 in q."""

_AVERAGED = 200
"""Draws of the population that the weights of the pairs are averaged over."""

_LEAST = -1e30
"""Log weight of a draw that has none: finite, so that no gradient is NaN."""

_ENDS = (0.05, 0.5, 0.95)

_READ: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "delta_beta": ("memory", lambda u: q_to_memory(np.exp(np.clip(u, -80, 80)))),
    "delta_alpha": ("intercept memory", lambda u: q_to_memory(np.exp(np.clip(u, -80, 80)))),
    "obs_scale": ("noise share", np.exp),
    "variance_memory": (
        "variance memory",
        lambda u: np.asarray(priors.from_free("variance_memory", np.asarray(u, float))),
    ),
}
"""What a desk calls each parameter, and its scale-free value as one reads it."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """The population of a universe, and what it makes of every pair.

    `parameters` name the sites that were pooled, J of them, and `u (pair, draw, J)` are their
    scale-free values (see `scale_free`); `alone (pair, draw)` and `log_weights (pair, draw)` are the
    log weights of the draws under the prior they were fitted with and under the population, both
    summing to one. `pareto_k`, `effective_draws` and `status` say by pair how well the draws carry
    the latter. `mean` and `sd (chain, draw, J)` are draws of the population.
    """

    names: tuple[str, ...]
    parameters: tuple[str, ...]
    u: np.ndarray
    alone: np.ndarray
    log_weights: np.ndarray
    pareto_k: np.ndarray
    effective_draws: np.ndarray
    status: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray

    @cached_property
    def population(self) -> pd.DataFrame:
        """One row a parameter: where its pairs lie and how far apart.

        `mean` and `sd` over pairs on the scale that is pooled (log q, log of the noise over the
        typical move, log of the variance memory less 4), with 90 % intervals; then in readable units
        (bars; a share of the typical one-bar move) the `typical` pair with its 90 % interval, and
        `pairs_lower`, `pairs_upper`, between which 90 % of pairs lie; `rhat` and `ess`, the worse of
        mean and log sd.
        """
        rows = {}
        z = np.array([NormalDist().inv_cdf((i + 0.5) / 100) for i in range(100)])
        for number, site in enumerate(self.parameters):
            label, read = _readable(site)
            mean, sd = self.mean[..., number], self.sd[..., number]
            row = {}
            for name, value in {"mean": mean, "sd": sd, "typical": read(mean)}.items():
                row[f"{name}_lower"], row[name], row[f"{name}_upper"] = np.quantile(value, _ENDS)
            pairs = read(mean.ravel()[:, None] + sd.ravel()[:, None] * z)
            row["pairs_lower"], row["pairs_upper"] = np.quantile(pairs, [_ENDS[0], _ENDS[-1]])
            rows[label] = row | _mixing(mean, np.log(sd))
        return pd.DataFrame(rows).T.reindex(columns=_COLUMNS).rename_axis("parameter")

    def table(self) -> pd.DataFrame:
        """One row a pair: each parameter alone and pooled, and how far that may be believed.

        For each parameter, in readable units, the median and the 90 % interval under the prior it was
        fitted with (`alone, alone_lower, alone_upper`) and under the population (`pooled,
        pooled_lower, pooled_upper`); then `pareto_k`, `effective_draws` and `status`.
        """
        blocks = {}
        for number, site in enumerate(self.parameters):
            label, read = _readable(site)
            value = read(self.u[..., number])
            for word, weights in (("alone", self.alone), ("pooled", self.log_weights)):
                lower, middle, upper = _quantiles(value, weights)
                blocks[(label, word)] = middle
                blocks[(label, f"{word}_lower")] = lower
                blocks[(label, f"{word}_upper")] = upper
        for name in ("pareto_k", "effective_draws", "status"):
            blocks[(name, "")] = list(getattr(self, name))
        return pd.DataFrame(blocks, pd.Index(self.names, name="pair"))


_COLUMNS = [
    *("mean", "mean_lower", "mean_upper", "sd", "sd_lower", "sd_upper"),
    *("typical", "typical_lower", "typical_upper", "pairs_lower", "pairs_upper", "rhat", "ess"),
]


class Universe(NamedTuple):
    """What the model of a population reads of every pair: a mixture of normals, its prior, a unit.

    The posterior of a pair is `sum_k exp(log_ratio_k) N(centre_k, inverse(sharp))`, times what its
    log prior `linear u - u' prior u / 2` is not. All u are counted from the middle of all draws.
    """

    log_ratio: Array
    """`(pair, draw)`"""

    features: Array
    """Centres and their products, `(pair, draw, J + J J)`."""

    sharp: Array
    """Inverse covariance of the normals, `(pair, J, J)`."""

    linear: Array
    """`(pair, J)`"""

    prior: Array
    """`(pair, J, J)`"""

    spread: Array
    """Sd of all draws of all pairs, `(J,)`."""


def pooled(
    u: Array,
    log_weights: Array,
    *,
    log_prior: Array,
    names: Sequence[str],
    parameters: Sequence[str],
    status: Sequence[str] | None = None,
    seed: int = 0,
    method: NUTS = NUTS(warmup=500, draws=500, chains=4),
    progress: bool = False,
) -> Pooled:
    r"""Infer the population of a universe, and each pair under it, from the draws of every pair.

    $$u_{ij} \sim N(\mu_j, \tau_j^2), \quad \mu_j \sim N(m_j, (3 s_j)^2), \quad
    \tau_j \sim N^+(0, 2^2)$$

    with m and s the mean and sd of all weighted draws of all pairs together.

    Args:
        u: scale-free parameters, `(pair, draw, J)`.
        log_weights: `(pair, draw)`.
        log_prior: log density of each u under the prior it was fitted with, `(pair, draw, J)`.
        names: of the pairs.
        parameters: names of the J sites; `delta_beta`, `delta_alpha`, `obs_scale` and
            `variance_memory` are shown in readable units.
        status: of the pairs; those that are not "ok" are left out, and so are those whose numbers are
            not finite.
        seed: of the sampler.
        method: how the population is sampled.
        progress: a bar on stderr, where that is a terminal.

    Returns:
        A `Pooled`.

    Raises:
        ValueError: arrays whose shapes do not agree, or fewer than two pairs to pool.

    Warns:
        UserWarning: the draws of the population may not represent its posterior.

    Source: Hogg, Myers and Bovy (2010), Inferring the eccentricity distribution, ApJ 725, 2166.

    Example:
        >>> import numpy as np
        >>> u = np.random.default_rng(0).normal(size=(8, 200, 1)) + np.arange(8)[:, None, None]
        >>> flat = np.zeros((8, 200))
        >>> found = pooled(u, flat - np.log(200), log_prior=flat[..., None], names="abcdefgh",
        ...                parameters=["level"])
        >>> 2 < found.population.loc["level", "mean"] < 5
        True
    """
    u, log_weights, log_prior = (np.asarray(part, float) for part in (u, log_weights, log_prior))
    pairs, draws, count = _shape(u, log_weights, log_prior, names, parameters)
    said = ["ok"] * pairs if status is None else list(status)
    usable = np.isfinite(u).all((1, 2)) & ~np.isnan(log_weights).any(1)
    usable &= ~np.isnan(log_prior).any((1, 2)) & (log_weights > -np.inf).any(1)
    kept = usable & np.array([one == "ok" for one in said])
    if kept.sum() < 2:
        raise ValueError(f"pooling needs at least two pairs that were fitted, not {kept.sum()}")
    universe, centre = _universe(u[kept], log_weights[kept], log_prior[kept])
    sampled = method.run(population, universe, seed, progress)
    mean, sd = sampled.sites["mean"], sampled.sites["sd"]
    _warn_if_unmixed(mean, sd)
    every = [part.reshape(-1, count) for part in (mean, sd)]
    step = max(1, len(every[0]) // _AVERAGED)
    with jax.enable_x64(True):
        ratio = _over_prior(log_weights[kept], log_prior[kept])
        shrunk, k = jax.device_get(_shrunk(u[kept] - centre, ratio, *(p[::step] for p in every)))
    weights = np.full((pairs, draws), np.nan)
    pareto_k, effective = np.full(pairs, np.nan), np.zeros(pairs)
    weights[kept], pareto_k[kept] = shrunk, k
    effective[kept] = 1 / np.exp(2 * shrunk).sum(-1)
    for number in np.flatnonzero(~usable):
        said[number] = (
            said[number] if said[number] != "ok" else "left out: its draws are not finite"
        )
    for number in np.flatnonzero(kept & ~(pareto_k <= MAX_PARETO_K)):
        said[number] = (
            f"its draws hardly reach where the population puts it (Pareto k-hat "
            f"{pareto_k[number]:.2f}): refit it with the population as its prior"
        )
    return Pooled(
        names=tuple(names),
        parameters=tuple(parameters),
        u=u,
        alone=log_weights,
        log_weights=weights,
        pareto_k=pareto_k,
        effective_draws=effective,
        status=tuple(said),
        mean=mean + centre,
        sd=sd,
    )


def pool(
    board: Any, *, seed: int = 0, method: NUTS = NUTS(warmup=500, draws=500, chains=4)
) -> Pooled:
    """Infer the population of all pairs of a board, and each pair under it; see `pooled`.

    Pooled are log q of the hedge ratio and of the intercept, the log of the noise sd over the typical
    move of the pair, and the log of the variance memory less 4: those that were inferred.

    Raises:
        ValueError: a parameter that means something else for every pair (an `Absolute` delta, a prior
            with bounds of its own), or fewer than two pairs that were fitted.
    """
    arrays = board.arrays()
    sites = tuple(board.sites)
    _check_shared(board.model, sites)
    u = scale_free(
        arrays["points"], sites, bent=board.model.bent, typical_move=arrays["typical_move"]
    )
    return pooled(
        u,
        arrays["log_weights"],
        log_prior=arrays["log_prior"],
        names=board.names,
        parameters=sites,
        status=board.status,
        seed=seed,
        method=method,
    )


def scale_free(
    points: Array, sites: Sequence[str], *, bent: frozenset[str], typical_move: Array
) -> np.ndarray:
    """Stored points as parameters that mean the same for every pair, `(pair, draw, J)`.

    The bend of the ridge is put back (see `ridge`), and the noise sd is told as a share of the typical
    move of its pair. Both are shifts of one parameter by others, so densities carry over unchanged.

    Args:
        points: unconstrained, straightened, `(pair, draw, J)`, one column a site.
        sites: names of the columns.
        bent: of the model.
        typical_move: `(pair,)`, see `inputs.typical_move`.
    """
    with jax.enable_x64(True):
        free = {site: jnp.asarray(points)[..., number] for number, site in enumerate(sites)}
        free = jax.device_get(ridge.bend(free, bent))
    if "obs_scale" in free:
        free["obs_scale"] = free["obs_scale"] - np.log(np.asarray(typical_move))[:, None]
    return np.stack([free[site] for site in sites], -1)


def population(universe: Universe) -> None:
    """NumPyro model of a population, its pairs integrated out; the mean is from the centre."""
    count = universe.spread.shape[-1]
    mean = numpyro.sample("mean", dist.Normal(0.0, 3 * universe.spread).to_event(1))
    sd = numpyro.sample("sd", dist.HalfNormal(POPULATION_SD).expand((count,)).to_event(1))
    numpyro.factor("pairs", _log_evidence(universe, mean, sd).sum())


def pooled_model(
    inputs: Any, model: HedgeRatioModel, *, centre: Array, spread: Array, sites: tuple[str, ...]
) -> None:
    """The same hierarchy as one NumPyro model of all parameters of all pairs, for small universes.

    Slow, and exact: what `pool` is checked against.

    Args:
        inputs: of all pairs, one axis in front.
        model: of one pair; its priors on `sites` are replaced by the population.
        centre, spread: `(J,)`, prior mean of the population mean, and a third of its sd.
        sites: names of the J inferred sites.
    """
    pairs = len(inputs.y)
    mean = numpyro.sample("mean", dist.Normal(jnp.asarray(centre), 3 * spread).to_event(1))
    scale = dist.HalfNormal(POPULATION_SD).expand((len(sites),)).to_event(1)
    sd = numpyro.sample("sd", scale)
    with numpyro.plate("pair", pairs):
        away = numpyro.sample("away", dist.Normal(0.0, 1.0).expand((len(sites),)).to_event(1))
    u = numpyro.deterministic("u", mean + sd * away)

    def noise(free: Array, pair: Any) -> dict[str, Array]:
        given = {}
        for number, site in enumerate(sites):
            value = free[number] + (jnp.log(pair.typical_move) if site == "obs_scale" else 0)
            value = value[None] if site == "delta_beta" else value
            given[site] = priors.from_free(site, value)[None]
        every = priors.complete(given, pair, model=model)
        return {k: every[k][0] for k in ("q", "obs_scale", "variance_memory") if k in every}

    with handlers.block():  # the sites of the single pairs are none of this model
        found = jax.vmap(noise)(u, inputs)
    numpyro.factor("pairs", model.log_likelihood(inputs, **found).sum())


# -- importance weights ----------------------------------------------------------------------------


def _universe(
    u: np.ndarray, log_weights: np.ndarray, log_prior: np.ndarray
) -> tuple[Universe, np.ndarray]:
    """The arrays of the model, and the middle that all its u are counted from."""
    pairs, _, count = u.shape
    weights = np.exp(log_weights)
    weights = weights / weights.sum(1, keepdims=True)
    middle = np.einsum("pk,pkj->j", weights, u) / pairs
    away = u - middle
    spread = np.sqrt(np.einsum("pk,pkj->j", weights, away**2) / pairs)
    mean = np.einsum("pk,pkj->pj", weights, away)[:, None]
    cov = np.einsum("pk,pki,pkj->pij", weights, away - mean, away - mean)
    cov = cov + 1e-9 * np.eye(count) * spread**2
    # a normal for every draw, as wide as Silverman's rule says and drawn to the mean: the mixture
    # keeps mean and covariance
    effective = 1 / (weights**2).sum(1)
    width = np.minimum((4 / ((count + 2) * effective)) ** (1 / (count + 4)), 0.9)[:, None, None]
    centres = mean + np.sqrt(1 - width**2) * (away - mean)
    linear, prior, rest = _quadratic(away, log_prior.sum(-1), weights)
    products = (centres[..., None] * centres[..., None, :]).reshape(*centres.shape[:2], -1)
    return Universe(
        log_ratio=_over_prior(log_weights, rest[..., None]),
        features=np.concatenate([centres, products], -1),
        sharp=np.linalg.inv(cov * width**2),
        linear=linear,
        prior=prior,
        spread=spread,
    ), middle


def _quadratic(
    u: np.ndarray, value: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each pair `value = rest + linear u - u' curved u / 2`, by least squares about its draws.

    Priors on log q and on the log of a scale mostly are normal: then `rest` is a constant.
    """
    pairs, draws, count = u.shape
    rows, columns = np.triu_indices(count)
    design = np.concatenate([np.ones((pairs, draws, 1)), u, u[..., rows] * u[..., columns]], -1)
    root = np.sqrt(weights + 1e-3 / draws)
    linear, curved = np.empty((pairs, count)), np.zeros((pairs, count, count))
    for number in range(pairs):
        value[number] = np.maximum(value[number], -1e6)
        found = np.linalg.lstsq(
            design[number] * root[number][:, None], value[number] * root[number]
        )
        linear[number] = found[0][1 : count + 1]
        curved[number][rows, columns] -= found[0][count + 1 :]
        curved[number][columns, rows] -= found[0][count + 1 :]
    fitted = np.einsum("pj,pkj->pk", linear, u) - 0.5 * np.einsum("pki,pij,pkj->pk", u, curved, u)
    return linear, curved, value - fitted


def _over_prior(log_weights: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """Log weights less log prior, finite: no gradient is NaN for a draw without weight."""
    with np.errstate(invalid="ignore"):
        ratio = log_weights - log_prior.sum(-1)
    return np.where((log_weights > -np.inf) & (ratio < np.inf), ratio, _LEAST)


def _log_evidence(universe: Universe, mean: Array, sd: Array) -> Array:
    r"""Log evidence of every pair under a population, less that under its own prior, `(pair,)`.

    The identity above with a normal in the place of every draw, so that a population narrower than
    the distance between draws has an evidence too:

    $$\sum_k w_k \int N(u \mid c_k, B) \frac{N(u \mid \mu, \tau^2)}{p(u)} du$$
    """
    precision = jnp.diag(1 / (sd * sd))
    pull = mean / (sd * sd) - universe.linear
    joint = universe.sharp + precision - universe.prior
    gain = jnp.linalg.solve(joint, universe.sharp)  # inverse(joint) sharp
    answer = jnp.linalg.solve(joint, pull[..., None])[..., 0]
    along = jnp.einsum("pij,pi->pj", gain, pull)
    across = -0.5 * (universe.sharp - universe.sharp @ gain)
    constant = 0.5 * (jnp.linalg.slogdet(universe.sharp)[1] - jnp.linalg.slogdet(joint)[1])
    constant = constant + 0.5 * (pull * answer).sum(-1)
    constant = constant - 0.5 * (jnp.log(2 * jnp.pi * sd * sd) + mean * mean / (sd * sd)).sum()
    coefficients = jnp.concatenate([along, across.reshape(len(along), -1)], -1)
    return _log_sum(universe.log_ratio, universe.features, coefficients) + constant


@jax.custom_jvp
def _log_sum(log_ratio: Array, features: Array, coefficients: Array) -> Array:
    return logsumexp(log_ratio + jnp.einsum("pkf,pf->pk", features, coefficients), -1)


@_log_sum.defjvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    # the mean features of a pair serve every direction: a gradient costs hardly more than a value
    log_ratio, features, coefficients = primals
    ratio = log_ratio + jnp.einsum("pkf,pf->pk", features, coefficients)
    value = logsumexp(ratio, -1)
    mean = jnp.einsum("pk,pkf->pf", jnp.exp(ratio - value[:, None]), features)
    return value, (mean * tangents[2]).sum(-1)


@jax.jit
def _shrunk(u: Array, log_ratio: Array, mean: Array, sd: Array) -> tuple[Array, Array]:
    """Log weights of every draw averaged over populations `(draw, J)`, smoothed, and k-hat."""

    def add(total: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
        mean, sd = one
        ratio = log_ratio - 0.5 * (((u - mean) / sd) ** 2).sum(-1)
        return jnp.logaddexp(total, ratio - logsumexp(ratio, -1, keepdims=True)), None

    total, _ = lax.scan(add, jnp.full(log_ratio.shape, -jnp.inf), (mean, sd))
    return smoothed(total)


# -- what is shown ---------------------------------------------------------------------------------


def _readable(site: str) -> tuple[str, Callable[[Array], Array]]:
    return _READ.get(site, (site, np.asarray))


def _quantiles(value: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """Lower end, median and upper end of every pair, `(3, pair)`; NaN where it has no weights."""
    order = np.argsort(value, -1)
    ordered = np.take_along_axis(value, order, -1)
    passed = np.cumsum(np.take_along_axis(np.exp(log_weights), order, -1), -1)
    at = [(passed < end * passed[:, -1:]).sum(-1) for end in _ENDS]
    found = np.stack([np.take_along_axis(ordered, one[:, None], -1)[:, 0] for one in at])
    return np.where(np.isnan(passed[:, -1]), np.nan, found)


def _mixing(mean: np.ndarray, log_sd: np.ndarray) -> dict[str, float]:
    from arviz_stats.base.array import array_stats

    stats: Any = array_stats  # whose annotations promise tuples where it gives numbers
    both = [(stats.rhat(x, 0, 1), stats.ess(x, 0, 1)) for x in (mean, log_sd)]
    return {"rhat": max(float(one[0]) for one in both), "ess": min(float(one[1]) for one in both)}


def _warn_if_unmixed(mean: np.ndarray, sd: np.ndarray) -> None:
    """One sentence with a remedy when the draws of the population may not represent it."""
    found = [_mixing(mean[..., j], np.log(sd[..., j])) for j in range(mean.shape[-1])]
    rhat, ess = max(one["rhat"] for one in found), min(one["ess"] for one in found)
    if not (rhat <= MAX_RHAT and ess >= MIN_ESS):
        warnings.warn(
            f"the population may be sampled badly: R-hat {rhat:.3f} (should be below {MAX_RHAT}), "
            f"effective sample size {ess:.0f} (should exceed {MIN_ESS}). Pool again with "
            "method=NUTS(warmup=1000, draws=2000)",
            stacklevel=3,
        )


# -- checks ----------------------------------------------------------------------------------------


def _shape(
    u: np.ndarray,
    log_weights: np.ndarray,
    log_prior: np.ndarray,
    names: Sequence[str],
    parameters: Sequence[str],
) -> tuple[int, int, int]:
    """Pairs, draws, parameters."""
    wanted = (len(names), *log_weights.shape[1:2], len(parameters))
    for name, held, shape in (
        ("u", u, wanted),
        ("log_prior", log_prior, wanted),
        ("log_weights", log_weights, wanted[:-1]),
    ):
        if held.shape != shape:
            raise ValueError(f"{name} has shape {held.shape}, but it must be {shape}")
    return len(names), log_weights.shape[1], len(parameters)


def _check_shared(model: HedgeRatioModel, sites: tuple[str, ...]) -> None:
    """Raise unless every inferred parameter means the same for all pairs."""
    given = {
        "delta_beta": (model.beta_delta, constraints.unit_interval),
        "delta_alpha": (model.alpha_delta, constraints.unit_interval),
        "obs_scale": (model.obs_scale, constraints.positive),
        "variance_memory": (getattr(model.noise, "memory", None), None),
    }
    if not sites:
        raise ValueError("the model infers nothing: there is nothing to pool")
    for site in sites:
        held, support = given[site]
        if isinstance(held, Absolute):
            raise ValueError(
                f"{site} is an Absolute delta, which means something else for every price level: it "
                "cannot be pooled"
            )
        plain = held is None or isinstance(held, Memory) or on_the_line(held, support)
        if not plain:
            raise ValueError(
                f"the prior of {site} has bounds of its own, which a population would not keep: give "
                "it a Memory, or a distribution on the whole range"
            )
