"""Newton's method from several starts to the modes of many targets, and a proposal made there."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kfmodels._types import Float
from kfmodels._types import JaxArray as Array
from kfmodels.sampling.mixture import Mixture

_APART = 1.5
"""Least distance between starts of Newton's method, in prior sds."""

_FARTHEST = 2.5
"""Longest step of Newton's method, in prior sds."""

_STEP = 1e-2
"""Step of finite differences, in prior sds."""

_LEAST_CURVATURE = 0.3
"""Floor of the curvature of the log density, in prior sds: a normal prior alone has 1."""

_ASIDE = np.array([0.0, 1.5, -1.5, 3.0, -3.0])
"""Where starts that ended at the same mode are moved to, in sds along its longest axis."""

_SLAB = 0.1
"""Share, before normalisation, of a part that has the prior in one parameter; see `_slabs`."""

_DEFENCE = np.array([0.1, 0.03])
"""Shares of two defensive parts: one as wide as the whole proposal, one about the prior."""

_WIDTH, _PRIOR_WIDTH = 2.0, 1.5
"""How much wider than the proposal, and than the prior, these two are."""


class Size(NamedTuple):
    """The shapes of a compiled program."""

    draws: int
    """Per round, best a power of two (they are a shifted Sobol sequence)."""

    rounds: int
    """The most that there is room for."""

    starts: int = 5
    """Of Newton's method, at most 5.

    With three, one of the sixty pairs in `tests/sampling/test_importance.py` (a jumping ratio) lost a
    mode of 0.2 % of the mass.
    """

    tried: int = 128
    """Draws of the prior, of which Newton's method starts from the best."""


class Climb(NamedTuple):
    """Where each start stands, the quadratic there, its curvature as eigenpairs, and the next point."""

    u: Float[Array, "pair start site"]
    value: Float[Array, "pair start"]
    gradient: Float[Array, "pair start site"]
    curvature: tuple[Float[Array, "pair start site"], Float[Array, "pair start site site"]]
    damping: Float[Array, "pair start"]
    ahead: Float[Array, "pair start site"]


class Units(NamedTuple):
    """Mean and sd of the prior of every pair: Newton's method and proposals are in these units."""

    centre: Float[Array, "pair 1 site"]
    unit: Float[Array, "pair 1 site"]

    def place(self, u: Float[Array, "pair *draws site"]) -> Float[Array, "pair _ site"]:
        """The parameters at some points, in one axis of points."""
        pairs, d = u.shape[0], u.shape[-1]
        return self.centre + self.unit * u.reshape(pairs, -1, d)

    def level(self, found: Float[Array, "pair point"]) -> Float[Array, "pair point"]:
        """The density of a point in these units, from that of the parameters; of NaN, none."""
        found = found + jnp.log(self.unit).sum(-1)
        return jnp.where(jnp.isnan(found), -jnp.inf, found)


def begin(
    prior: Float[Array, "pair draw site"],
    found: Float[Array, "pair tried"],
    *,
    settings: tuple[Size],
) -> tuple[Units, Climb, Float[Array, "pair point site"]]:
    """The units, the starts, and where to look from these; `found` is at the first prior draws."""
    size = settings[0]
    units = Units(prior.mean(1, keepdims=True), prior.std(1, keepdims=True))
    tried = (prior[:, : size.tried] - units.centre) / units.unit
    starts = _spread_out(tried, units.level(found), size.starts)
    pairs, count, d = starts.shape
    at = Climb(
        u=starts,
        value=jnp.full((pairs, count), -jnp.inf, starts.dtype),
        gradient=jnp.zeros_like(starts),
        curvature=(jnp.ones_like(starts), jnp.broadcast_to(jnp.eye(d), (pairs, count, d, d))),
        damping=jnp.zeros((pairs, count)),
        ahead=starts,
    )
    return units, at, _look(units, at)


def _look(units: Units, at: Climb) -> Float[Array, "pair point site"]:
    """Where the density says how it slopes and curves at the next points."""
    # slope and curvature are central differences, accurate to a ten-thousandth here, so that only the
    # value of the filter has to be compiled
    return units.place(at.ahead[:, :, None] + _stencil(at.u.shape[-1]) * _STEP)


def climb(
    units: Units, at: Climb, found: Float[Array, "pair point"], *, settings: tuple[Size]
) -> tuple[Climb, Float[Array, "pair point site"]]:
    """A damped Newton step, and where to look next."""
    pairs, count, d = at.u.shape
    values = units.level(found).reshape(pairs, count, -1)
    value, gradient, hessian = _fit_quadratic(values, d)
    # next to a region without density the step is rejected and the damping grows, so that the
    # start is held back and not lost
    fine = jnp.isfinite(values).all(-1)
    hessian = jnp.where(fine[..., None, None], hessian, -jnp.eye(d))
    w, v = jnp.linalg.eigh(-hessian)
    # at a saddle some curvature is negative; its absolute value still leads uphill
    w = jnp.maximum(jnp.abs(w), _LEAST_CURVATURE)
    new = Climb(at.ahead, value, gradient, (w, v), at.damping / 10, at.ahead)
    better = fine & (value > at.value)
    kept = at._replace(damping=jnp.maximum(at.damping, 1e-2) * 10)
    at = jax.tree.map(
        lambda a, b: jnp.where(better.reshape(better.shape + (1,) * (a.ndim - 2)), a, b), new, kept
    )
    w, v = at.curvature
    along = (v.mT @ at.gradient[..., None])[..., 0] / (w + at.damping[..., None])
    step = (v @ along[..., None])[..., 0]
    length = jnp.sqrt((step**2).sum(-1, keepdims=True))
    # a start without a gradient has no length: do not divide by 0
    ahead = at.u + step * jnp.minimum(1, _FARTHEST / jnp.maximum(length, 1e-300))
    at = at._replace(ahead=ahead)
    return at, _look(units, at)


def propose(at: Climb, wider: Float[Array, "pair"]) -> Mixture:
    """Student-t distributions at the modes, and a wide one over the prior."""
    u, value, (w, v) = at.u, at.value, at.curvature
    height = value - 0.5 * jnp.log(w).sum(-1)
    height = jnp.where(jnp.isfinite(height), height, -jnp.inf)
    # Laplace's approximation of the mass of each mode, of which none starts with less than 0.1
    share = jnp.maximum(jax.nn.softmax(height, -1), 0.1)
    cov = (v / w[..., None, :]) @ v.mT * wider[0]
    mean = _part(u, w, v)
    # the data may say nothing about a parameter, whose posterior is then as wide as its prior
    best = jnp.argmax(height, -1)[:, None]
    mode = jnp.take_along_axis(u, best[..., None], 1)[:, 0]
    slab = _slabs(mode, jnp.take_along_axis(cov, best[..., None, None], 1)[:, 0])
    mean, cov = jnp.concatenate([mean, slab[0]], 1), jnp.concatenate([cov, slab[1]], 1)
    share = jnp.concatenate([share, jnp.full(slab[0].shape[:2], _SLAB)], 1)
    return defend(share, mean, cov)


def _part(
    u: Float[Array, "pair start site"],
    w: Float[Array, "pair start site"],
    v: Float[Array, "pair start site site"],
) -> Float[Array, "pair start site"]:
    """The modes, but for repetitions, which are moved aside: a skewed posterior needs several parts."""
    longest = v[..., 0] / jnp.sqrt(w[..., :1])
    starts = u.shape[1]
    aside = u + jnp.asarray(_ASIDE[:starts])[:, None] * longest
    # how far each start is from each other one, in sds of the first
    away = u[:, None] - u[:, :, None]
    far = (((away @ v) ** 2) * w[:, :, None]).sum(-1)
    repeats = ((far < 1) & np.tri(starts, k=-1, dtype=bool)).any(-1)
    return jnp.where(repeats[..., None], aside, u)


def _slabs(
    mode: Float[Array, "pair site"], cov: Float[Array, "pair site site"]
) -> tuple[Float[Array, "pair part site"], Float[Array, "pair part site site"]]:
    """One part a parameter: prior mean and width in that parameter, the mode's in all others."""
    d = mode.shape[-1]
    one = jnp.eye(d)
    mean = mode[:, None] * (1 - one)
    others = (1 - one)[:, :, None] * (1 - one)[:, None, :]
    return mean, cov[:, None] * others + one[:, :, None] * one[:, None, :]


def defend(
    share: Float[Array, "pair part"],
    mean: Float[Array, "pair part site"],
    cov: Float[Array, "pair part site site"],
) -> Mixture:
    """The mixture with two more parts, one wide over all of it and one about the prior."""
    pairs, _, d = mean.shape
    share = share / share.sum(-1, keepdims=True)
    middle = jnp.einsum("pm,pmi->pi", share, mean)[:, None]
    away = mean - middle
    spread = jnp.einsum("pm,pmij->pij", share, cov + away[..., None] * away[..., None, :])
    wide = jnp.broadcast_to(_PRIOR_WIDTH**2 * jnp.eye(d), (pairs, 1, d, d))
    defence = jnp.broadcast_to(jnp.asarray(_DEFENCE), (pairs, 2))
    share = jnp.concatenate([share * (1 - _DEFENCE.sum()), defence], 1)
    mean = jnp.concatenate([mean, middle, jnp.zeros((pairs, 1, d))], 1)
    cov = jnp.concatenate([cov, _WIDTH**2 * spread[:, None], wide], 1)
    return Mixture(share, mean, jnp.linalg.cholesky(cov))


def _spread_out(
    points: Float[Array, "pair draw site"], value: Float[Array, "pair draw"], count: int
) -> Float[Array, "pair {count} site"]:
    """The most likely point, then the most likely one far from all points taken so far."""

    def take(left: Float[Array, "pair draw"], _: None):
        chosen = jnp.take_along_axis(points, jnp.argmax(left, -1)[:, None, None], 1)
        near = ((points - chosen) ** 2).sum(-1) < _APART**2
        return jnp.where(near, -jnp.inf, left), chosen[:, 0]

    _, taken = lax.scan(take, value, None, count)
    return jnp.moveaxis(taken, 0, 1)


def _stencil(d: int) -> Float[np.ndarray, "offset site"]:
    """Offsets `(point, d)` for value, slope and curvature: 0, +-e_i, e_i + e_j."""
    eye = np.eye(d)
    both = [eye[i] + eye[j] for i in range(d) for j in range(i)]
    return np.array([np.zeros(d), *eye, *-eye, *both])


def _fit_quadratic(
    values: Float[Array, "pair start offset"], d: int
) -> tuple[
    Float[Array, "pair start"],
    Float[Array, "pair start {d}"],
    Float[Array, "pair start {d} {d}"],
]:
    """Value, gradient and Hessian from values at the stencil.

    Differences are central, but those across two parameters, which bend the proposal only.
    """
    value, ahead, behind, both = jnp.split(values, np.cumsum([1, d, d]), -1)
    gradient = (ahead - behind) / (2 * _STEP)
    diagonal = (ahead + behind - 2 * value) / _STEP**2
    rows, columns = np.tril_indices(d, -1)
    cross = (both - ahead[..., rows] - ahead[..., columns] + value) / _STEP**2
    place = np.diag(np.arange(d))
    place[rows, columns] = place[columns, rows] = d + np.arange(len(rows))
    return value[..., 0], gradient, jnp.concatenate([diagonal, cross], -1)[..., place]
