"""`NearMode`: weighted draws about the one mode of a posterior that many data have made narrow."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kfmodels._types import Float
from kfmodels._types import JaxArray as Array
from kfmodels.sampling import posterior
from kfmodels.sampling.importance import CHAINS, KEPT, layout_of, resample_sites
from kfmodels.sampling.mixture import DOF
from kfmodels.sampling.nuts import MAX_PARETO_K, MIN_WEIGHTED, NUTS
from kfmodels.sampling.posterior import Draws, Model, draw_prior, single_draw
from kfmodels.sampling.psis import smooth
from kfmodels.words.progress import wait_for

_WIDER = 1.3
"""Factor on their covariance."""

_STEPS, _CLOSE = 60, 1e-3
"""Newton steps at most, and the rise of the log density, in nats, below which they end."""

_ROUNDS = 4


class Slope(NamedTuple):
    """Log density of a point, and its first and second derivatives."""

    value: Float[Array, ""]
    gradient: Float[Array, "site"]
    hessian: Float[Array, "site site"]


@dataclass(frozen=True)
class NearMode:
    """Weighted draws about the mode: for a posterior with one mode and an expensive density.

    Newton's method, with derivatives by JAX, climbs from the prior mean to the mode. A quarter of the
    draws comes from a Student-t distribution there, each further quarter from one with the moments of
    all draws before; all are weighted against the four together, and the weights are Pareto-smoothed.
    Where they fail, `otherwise` samples instead.

    Args:
        draws: in all; each costs one evaluation of the density.
        otherwise: the sampler where the k-hat of the weights is above 0.7, or fewer than 200 effective
            draws are left.

    Source: Tierney and Kadane (1986), JASA 81; the weights: Owen and Zhou (2000), JASA 95, and
    `kfmodels.sampling.psis.smooth`.
    """

    draws: int = 512
    otherwise: NUTS = NUTS(warmup=500, draws=500, chains=4)  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if self.draws < 2 * MIN_WEIGHTED:
            least = 2 * MIN_WEIGHTED
            raise ValueError(f"NearMode: draws must be at least {least}, not {self.draws}")

    def run(self, model: Model, inputs: object, seed: int, progress: bool) -> Draws:
        """Sample the posterior of any NumPyro model called with `inputs`."""
        free, prior = draw_prior(model, inputs, seed)
        if not free:
            return single_draw(prior)
        random = np.random.default_rng(seed)
        waiting = wait_for("sampling near the mode", _ROUNDS, shown=progress)
        with jax.enable_x64(True), waiting as line:
            start = np.concatenate([np.ravel(z.mean(0)) for z in free.values()])
            at = partial(_slope, inputs=inputs, model=model)
            proposals = [_climb(at, start)]
            points, values = np.empty((0, len(start))), np.empty(0)
            for _ in range(_ROUNDS):
                new = _draw(proposals[-1], self.draws // _ROUNDS, random)
                found = _densities(new, inputs, model=model)
                points, values = np.concatenate([points, new]), np.concatenate([values, found])
                proposed = np.logaddexp.reduce([_log_t(one, points) for one in proposals], 0)
                log_weights, pareto_k = jax.device_get(smooth(values - proposed))
                proposals.append(_moments(points, np.exp(log_weights)))
                line.advance()
            effective = 1 / np.exp(2 * log_weights).sum()
            if not (pareto_k <= MAX_PARETO_K and effective >= MIN_WEIGHTED):
                return self.otherwise.run(model, inputs, seed, progress)
            key = np.array([seed, 0], np.uint32)
            drawn = resample_sites(points, log_weights, key, inputs, model=model)
            sites = jax.device_get(drawn)
        about = {"pareto_k": float(pareto_k), "ess": float(effective)}
        return Draws(sites, {"diverging": np.zeros((CHAINS, KEPT), bool)}, prior, None, about)


class Proposal(NamedTuple):
    """A Student-t distribution: its middle, and the lower Cholesky factor of its squared scale."""

    mean: Float[np.ndarray, "site"]
    root: Float[np.ndarray, "site site"]


def _climb(at: partial, start: Float[np.ndarray, "site"]) -> Proposal:
    """Damped Newton steps to the mode, and a Student-t distribution there."""
    here, damping = start, 1e-3
    slope = jax.device_get(at(here))
    for _ in range(_STEPS):
        w, v = np.linalg.eigh(-slope.hessian)
        # at a saddle some curvature is negative; its absolute value still leads uphill
        w = np.maximum(np.abs(w), 1e-6)
        there = here + v @ ((v.T @ slope.gradient) / (w + damping * w.max()))
        new = jax.device_get(at(there))
        rise = new.value - slope.value
        if np.isfinite(new.hessian).all() and rise >= 0:
            here, slope, damping = there, new, damping / 10
            if rise < _CLOSE and np.linalg.eigvalsh(-slope.hessian)[0] > 0:
                break
        else:
            damping = max(damping, 1e-9) * 10
    w, v = np.linalg.eigh(-slope.hessian)
    cov = (v / np.maximum(np.abs(w), 1e-6)) @ v.T
    return Proposal(here, np.linalg.cholesky(_WIDER * cov))


def _moments(
    points: Float[np.ndarray, "draw site"], weights: Float[np.ndarray, "draw"]
) -> Proposal:
    """The Student-t distribution with the moments of weighted draws."""
    mean = weights @ points
    away = points - mean
    cov = (weights[:, None] * away).T @ away + 1e-12 * np.eye(len(mean))
    return Proposal(mean, np.linalg.cholesky(_WIDER * (DOF - 2) / DOF * cov))


def _draw(
    proposal: Proposal, count: int, random: np.random.Generator
) -> Float[np.ndarray, "draw site"]:
    radius = np.sqrt(random.chisquare(DOF, (count, 1)) / DOF)
    normal = random.standard_normal((count, len(proposal.mean)))
    return proposal.mean + normal @ proposal.root.T / radius


def _log_t(proposal: Proposal, points: Float[np.ndarray, "draw site"]) -> Float[np.ndarray, "draw"]:
    """Log density of the proposal, up to a constant that all proposals share."""
    scaled = np.linalg.solve(proposal.root, (points - proposal.mean).T)
    tail = 0.5 * (DOF + len(proposal.mean)) * np.log1p((scaled**2).sum(0) / DOF)
    return -np.log(np.diagonal(proposal.root)).sum() - tail


def _log_density(point: Float[Array, "site"], inputs: object, *, model: Model) -> Float[Array, ""]:
    alone = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], inputs)
    free = layout_of(alone, model).unpack(point[None, None])
    return posterior.log_density(free, alone, model=model)[0, 0]


@partial(jax.jit, static_argnames=("model",))
def _slope(point: Float[Array, "site"], inputs: object, *, model: Model) -> Slope:
    density = partial(_log_density, inputs=inputs, model=model)

    def gradient(
        point: Float[Array, "site"],
    ) -> tuple[Float[Array, "site"], tuple[Float[Array, ""], Float[Array, "site"]]]:
        value, slope = jax.value_and_grad(density)(point)
        return slope, (value, slope)

    hessian, (value, slope) = jax.jacfwd(gradient, has_aux=True)(point)
    return Slope(value, slope, hessian)


@partial(jax.jit, static_argnames=("model",))
def _densities(
    points: Float[Array, "draw site"], inputs: object, *, model: Model
) -> Float[Array, "draw"]:
    """One draw after the other: each reads all the data."""
    return jax.lax.map(partial(_log_density, inputs=inputs, model=model), points)
