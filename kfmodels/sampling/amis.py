"""Adaptive importance sampling of many small posteriors at once: modes, proposals, weights.

Every pair has its own target of `d` real parameters. Arrays begin with the axis of pairs, no pair
affects another, and all have the same shapes, so that one compiled program serves them all.

One file: the steps of one algorithm, in the order in which they run.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp

from kfmodels._types import ArrayLike, Float, Int, Shaped
from kfmodels._types import JaxArray as Array
from kfmodels.sampling import mixture
from kfmodels.sampling.mixture import DOF, UNIFORMS, Mixture, Parts
from kfmodels.sampling.psis import smooth

Density = Callable[[Float[Array, "pair draw site"]], Float[Array, "pair draw"]]
"""Log density of points `(pair, draw, d)`, up to a constant of the pair: `(pair, draw)`."""

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

_ENOUGH = 40.0
"""Effective draws below which weights are flattened before they move a proposal."""

_POWERS = 0.8 ** np.arange(24)
"""Powers that weights are flattened by, the largest that suffices is taken."""


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


class Effort(NamedTuple):
    """What is spent on every pair: numbers, so that one program serves a small and a large effort."""

    rounds: Int[ArrayLike, ""]
    """Of drawing; between two of them the proposal is adapted."""

    steps: Int[ArrayLike, ""] = 8
    """Of Newton's method from each start."""

    wider: Float[ArrayLike, ""] = 1.5
    """Factor on the covariance at a mode: a wide first proposal needs fewer steps and rounds."""


class Weighted(NamedTuple):
    """Weighted draws of the posterior of every pair, and how far to trust them."""

    points: Float[Array, "pair draw site"]
    log_weights: Float[Array, "pair draw"]
    """Pareto-smoothed, summing to one."""

    log_evidence: Float[Array, "pair"]
    """Log of the integral of the target."""

    evidence_error: Float[Array, "pair"]
    """Monte-Carlo standard error of `log_evidence`, as if the draws were independent.

    They are a Sobol sequence, so it is too large: over seeds, evidences of 28 pairs of ETFs varied
    half as much.
    """

    effective_draws: Float[Array, "pair"]
    """One over the sum of squared weights."""

    pareto_k: Float[Array, "pair"]
    """The weights have no reliable mean above 0.7."""

    moment_error: Float[Array, "pair"]
    """Largest Monte-Carlo standard error of a mean or an sd of the parameters, in sds."""


class Climb(NamedTuple):
    """Where each start stands, and the quadratic there, its curvature as eigenpairs."""

    u: Float[Array, "pair start site"]
    value: Float[Array, "pair start"]
    gradient: Float[Array, "pair start site"]
    curvature: tuple[Float[Array, "pair start site"], Float[Array, "pair start site site"]]
    damping: Float[Array, "pair start"]


def sample(
    log_density: Density,
    prior: Float[Array, "pair draw site"],
    keys: Shaped[Array, "pair"],
    size: Size,
    effort: Effort,
) -> Weighted:
    r"""Draws and weights for every pair.

    Newton's method climbs from several prior draws at once to the modes; Student-t distributions
    there are the first proposal. After each round the proposal is fitted to the weighted draws of all
    rounds so far, and every draw is weighted against the mixture of all proposals,

    $$w_k \propto p(u_k) \Big/ \tfrac1R \sum_r q_r(u_k).$$

    Args:
        log_density: of the unconstrained parameters.
        prior: draws of the prior, `(pair, draw, d)`: where to look, and in what units.
        keys: one random key a pair, `(pair,)`.
        size: of the arrays; draws beyond the rounds of `effort` have no weight.
        effort: how many densities to compute, and where.

    Source: Cornuet, Marin, Mira and Robert (2012), Adaptive multiple importance sampling,
    Scandinavian Journal of Statistics 39; the update of the mixture: Cappe, Douc, Guillin, Marin and
    Robert (2008), Adaptive importance sampling in general mixture classes, Statistics and Computing
    18; the flattening: Koblents and Miguez (2015), Statistics and Computing 25.
    """
    centre, unit = prior.mean(1, keepdims=True), prior.std(1, keepdims=True)

    def density(u: Float[Array, "pair point site"]) -> Float[Array, "pair point"]:
        found = log_density(centre + unit * u) + jnp.log(unit).sum(-1)
        return jnp.where(jnp.isnan(found), -jnp.inf, found)

    first = _propose_modes(density, (prior - centre) / unit, size, effort)
    points, log_ratio = _adapt(density, first, keys, size, effort.rounds)
    log_weights, pareto_k = smooth(log_ratio)
    total = size.draws * jnp.asarray(effort.rounds, float)
    effective = 1 / jnp.exp(2 * log_weights).sum(-1)
    return Weighted(
        points=centre + unit * points,
        log_weights=log_weights,
        log_evidence=logsumexp(log_ratio, -1) - jnp.log(total),
        evidence_error=jnp.sqrt(jnp.maximum(1 / effective - 1 / total, 0.0)),
        effective_draws=effective,
        pareto_k=pareto_k,
        moment_error=_moment_error(points, jnp.exp(log_weights)),
    )


def _moment_error(
    points: Float[Array, "pair draw site"], weights: Float[Array, "pair draw"]
) -> Float[Array, "pair"]:
    """By the delta method; half that of a variance is that of an sd."""
    weights = weights[..., None]
    away = points - (weights * points).sum(1, keepdims=True)
    square = away**2 / (weights * away**2).sum(1, keepdims=True)
    mean = (weights**2 * square).sum(1)
    sd = (weights**2 * (square - 1) ** 2).sum(1) / 4
    return jnp.sqrt(jnp.maximum(mean, sd).max(-1))


# -- modes -----------------------------------------------------------------------------------------


def _propose_modes(
    density: Density, prior: Float[Array, "pair draw site"], size: Size, effort: Effort
) -> Mixture:
    """Student-t distributions at the modes, and a wide one over the prior."""
    tried = prior[:, : size.tried]
    starts = _spread_out(tried, density(tried), size.starts)
    u, value, (w, v) = _climb(density, starts, effort.steps)
    height = value - 0.5 * jnp.log(w).sum(-1)
    height = jnp.where(jnp.isfinite(height), height, -jnp.inf)
    # Laplace's approximation of the mass of each mode, of which none starts with less than 0.1
    share = jnp.maximum(jax.nn.softmax(height, -1), 0.1)
    cov = (v / w[..., None, :]) @ v.mT * effort.wider
    mean = _part(u, w, v)
    # the data may say nothing about a parameter, whose posterior is then as wide as its prior
    best = jnp.argmax(height, -1)[:, None]
    mode = jnp.take_along_axis(u, best[..., None], 1)[:, 0]
    slab = _slabs(mode, jnp.take_along_axis(cov, best[..., None, None], 1)[:, 0])
    mean, cov = jnp.concatenate([mean, slab[0]], 1), jnp.concatenate([cov, slab[1]], 1)
    share = jnp.concatenate([share, jnp.full(slab[0].shape[:2], _SLAB)], 1)
    return _defend(share, mean, cov)


def _part(
    u: Float[Array, "pair start site"],
    w: Float[Array, "pair start site"],
    v: Float[Array, "pair start site site"],
) -> Float[Array, "pair start site"]:
    """The modes, but for repetitions, which are moved aside: a skewed posterior needs several parts."""
    longest = v[..., 0] / jnp.sqrt(w[..., :1])
    starts = u.shape[1]
    aside = u + jnp.asarray(_ASIDE[:starts])[:, None] * longest
    parted = [u[:, 0]]
    for number in range(1, starts):
        away = u[:, :number] - u[:, number : number + 1]
        along = (away[..., None, :] @ v[:, number : number + 1])[..., 0, :]
        near = ((along**2 * w[:, number : number + 1]).sum(-1) < 1).any(1)
        parted.append(jnp.where(near[:, None], aside[:, number], u[:, number]))
    return jnp.stack(parted, 1)


def _slabs(
    mode: Float[Array, "pair site"], cov: Float[Array, "pair site site"]
) -> tuple[Float[Array, "pair part site"], Float[Array, "pair part site site"]]:
    """One part a parameter: prior mean and width in that parameter, the mode's in all others."""
    d = mode.shape[-1]
    one = jnp.eye(d)
    mean = mode[:, None] * (1 - one)
    others = (1 - one)[:, :, None] * (1 - one)[:, None, :]
    return mean, cov[:, None] * others + one[:, :, None] * one[:, None, :]


def _defend(
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
    taken, left = [], value
    for _ in range(count):
        best = jnp.argmax(left, -1)
        chosen = jnp.take_along_axis(points, best[:, None, None], 1)
        taken.append(chosen)
        near = ((points - chosen) ** 2).sum(-1) < _APART**2
        left = jnp.where(near, -jnp.inf, left)
    return jnp.concatenate(taken, 1)


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
    hessian = diagonal[..., None] * jnp.eye(d)
    pairs = [(i, j) for i in range(d) for j in range(i)]
    for number, (i, j) in enumerate(pairs):
        cross = both[..., number] - ahead[..., i] - ahead[..., j] + value[..., 0]
        cross = cross / _STEP**2
        hessian = hessian.at[..., i, j].set(cross).at[..., j, i].set(cross)
    return value[..., 0], gradient, hessian


def _climb(
    density: Density, starts: Float[Array, "pair start site"], steps: Int[ArrayLike, ""]
) -> tuple[
    Float[Array, "pair start site"],
    Float[Array, "pair start"],
    tuple[Float[Array, "pair start site"], Float[Array, "pair start site site"]],
]:
    """Damped Newton steps: points, log densities, and curvature as eigenpairs."""
    # slope and curvature are central differences, accurate to a ten-thousandth here, so that only the
    # value of the filter has to be compiled
    pairs, count, d = starts.shape
    stencil = jnp.asarray(_stencil(d)) * _STEP

    def stepped(at: Climb) -> Float[Array, "pair start site"]:
        w, v = at.curvature
        along = (v.mT @ at.gradient[..., None])[..., 0] / (w + at.damping[..., None])
        step = (v @ along[..., None])[..., 0]
        length = jnp.sqrt((step**2).sum(-1, keepdims=True))
        # the first step has no gradient and so no length: do not divide by 0
        return at.u + step * jnp.minimum(1, _FARTHEST / jnp.maximum(length, 1e-300))

    def climb(_: object, at: Climb) -> Climb:
        u = stepped(at)
        spots = u[:, :, None] + stencil
        values = density(spots.reshape(pairs, -1, d)).reshape(pairs, count, -1)
        value, gradient, hessian = _fit_quadratic(values, d)
        # next to a region without density the step is rejected and the damping grows, so that the
        # start is held back and not lost
        fine = jnp.isfinite(values).all(-1)
        hessian = jnp.where(fine[..., None, None], hessian, -jnp.eye(d))
        w, v = jnp.linalg.eigh(-hessian)
        # at a saddle some curvature is negative; its absolute value still leads uphill
        w = jnp.maximum(jnp.abs(w), _LEAST_CURVATURE)
        new = Climb(u, value, gradient, (w, v), at.damping / 10)
        better = fine & (value > at.value)
        kept = at._replace(damping=jnp.maximum(at.damping, 1e-2) * 10)
        return jax.tree.map(
            lambda a, b: jnp.where(better.reshape(better.shape + (1,) * (a.ndim - 2)), a, b),
            new,
            kept,
        )

    begin = Climb(
        u=starts,
        value=jnp.full((pairs, count), -jnp.inf),
        gradient=jnp.zeros_like(starts),
        curvature=(jnp.ones_like(starts), jnp.broadcast_to(jnp.eye(d), (pairs, count, d, d))),
        damping=jnp.zeros((pairs, count)),
    )
    at = lax.fori_loop(0, steps, climb, begin)
    return at.u, at.value, at.curvature


# -- rounds ----------------------------------------------------------------------------------------


class _Rounds(NamedTuple):
    """What the rounds so far have proposed and drawn; all arrays have the size of the last round."""

    now: Mixture
    parts: Parts
    """Those of all proposals, round after round."""

    points: Float[Array, "site pair every"]
    values: Float[Array, "pair every"]
    """Log density of the target; -inf where nothing is drawn yet."""

    proposed: Float[Array, "pair every"]
    """Density under the sum of all proposals."""


def _adapt(
    density: Density,
    first: Mixture,
    keys: Shaped[Array, "pair"],
    size: Size,
    count: Int[ArrayLike, ""],
) -> tuple[Float[Array, "pair every site"], Float[Array, "pair every"]]:
    """All draws and their log weights against all proposals."""
    # here, not above: it takes half a second to import, and reading a fit needs none of it
    from scipy.stats import qmc

    draws, rounds = size.draws, size.rounds
    pairs, many, d = first.mean.shape
    # one Sobol sequence for all; a random shift modulo 1 for each pair and round makes it unbiased
    sobol = qmc.Sobol(d + UNIFORMS, scramble=True, rng=np.random.default_rng(0)).random(draws)
    shift = jax.vmap(lambda key: jax.random.uniform(key, (rounds, d + UNIFORMS)))(keys)
    shift = jnp.moveaxis(shift, 1, 0)

    def draw_round(number: Array, at: _Rounds) -> _Rounds:
        # at exactly 0 or 1 a normal quantile is infinite
        u = jnp.clip((sobol + shift[number][:, None]) % 1, 1e-12, 1 - 1e-12)
        new = mixture.draw(at.now, u)
        put = partial(lax.dynamic_update_slice_in_dim, start_index=number * draws, axis=-1)
        values, new = put(at.values, density(new)), jnp.moveaxis(new, -1, 0)
        points = put(at.points, new)
        # the sum grows by what is new: the new draws under the earlier proposals, all under this one
        earlier = mixture.density(at.parts, new, number * many)
        parts = mixture.parts_of(at.now)
        each, close = mixture.densities(parts, points)
        proposed = put(at.proposed, earlier) + each.sum(0)
        held = jax.tree.map(
            lambda every, one: lax.dynamic_update_slice_in_dim(every, one, number * many, 0),
            at.parts,
            parts,
        )
        now = _move(at.now, points, values - jnp.log(proposed), each, close)
        return _Rounds(now, held, points, values, proposed)

    every = draws * rounds
    begin = _Rounds(
        now=first,
        parts=jax.tree.map(
            lambda leaf: jnp.tile(leaf, (rounds,) + (1,) * (leaf.ndim - 1)), mixture.parts_of(first)
        ),
        points=jnp.zeros((d, pairs, every)),
        values=jnp.full((pairs, every), -jnp.inf),
        proposed=jnp.zeros((pairs, every)),
    )
    at = lax.fori_loop(0, count, draw_round, begin)
    return jnp.moveaxis(at.points, 0, -1), at.values - jnp.log(at.proposed / count)


def _move(
    now: Mixture,
    points: Float[Array, "site pair every"],
    log_ratio: Float[Array, "pair every"],
    each: Float[Array, "part pair every"],
    close: Float[Array, "part pair every"],
) -> Mixture:
    """The proposal after one step of expectation-maximisation on the weighted draws.

    `each` and `close` are those of `mixture.densities` for `now`.
    """
    d = len(points)
    weights = _flatten(log_ratio)
    # the defensive parts are not fitted but made anew by `_defend`
    owned = (weights / each.sum(0) * each)[:-2]
    # in the fit of a Student-t, a point far out counts less
    pulled = owned * ((DOF + d) / DOF * close[:-2])
    share, mass = owned.sum(-1).T, jnp.maximum(pulled.sum(-1).T, 1e-30)
    # moments about the mean of all draws, so that little is lost where they are differences
    middle = (weights * points).sum(-1)
    away = points - middle[..., None]
    rows, columns = np.tril_indices(d)
    features = jnp.concatenate([away, away[rows] * away[columns]])
    sums = jnp.einsum("mpk,fpk->pmf", pulled, features)
    mean = sums[..., :d] / mass[..., None]
    squares = jnp.zeros((*share.shape, d, d))
    squares = squares.at[..., rows, columns].set(sums[..., d:])
    squares = squares.at[..., columns, rows].set(sums[..., d:])
    found = squares - mass[..., None, None] * mean[..., :, None] * mean[..., None, :]
    mean = mean + middle.T[:, None]
    old = (now.root @ now.root.mT)[:, :-2]
    # a part that owns few draws keeps most of its old mean and covariance
    count = share**2 / jnp.maximum((owned**2).sum(-1).T, 1e-30)
    trust = count / (count + 5 * d)
    shape = found / jnp.maximum(share, 1e-30)[..., None, None]
    cov = trust[..., None, None] * shape + (1 - trust)[..., None, None] * old
    mean = trust[..., None] * mean + (1 - trust)[..., None] * now.mean[:, :-2]
    cov = cov + 1e-9 * jnp.eye(d)  # a part whose draws coincide would have no Cholesky factor
    return _defend(jnp.maximum(share, 0.05), mean, cov)


def _flatten(log_ratio: Float[Array, "pair draw"]) -> Float[Array, "pair draw"]:
    """Weights raised to the largest power, at most 1, that leaves enough effective draws."""
    top = log_ratio.max(-1, keepdims=True)
    log_ratio = jnp.where(jnp.isfinite(log_ratio), log_ratio - top, -jnp.inf)

    def at(power: Float[Array, "*any"]) -> Float[Array, "pair draw"]:
        return jax.nn.softmax(jnp.where(jnp.isfinite(log_ratio), power * log_ratio, -jnp.inf), -1)

    effective = jax.vmap(lambda power: 1 / (at(power) ** 2).sum(-1))(jnp.asarray(_POWERS))
    first = jnp.argmax(effective >= _ENOUGH, 0)
    return at(jnp.asarray(_POWERS)[first][:, None])
