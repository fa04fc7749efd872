"""Adaptive importance sampling of many small posteriors at once: modes, proposals, weights.

Every pair has its own target of `d` real parameters. Arrays begin with the axis of pairs, no pair
affects another, and all have the same shapes, so that the same compiled programs serve them all.

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

from kfmodels._types import Array as AnyArray
from kfmodels._types import Float, Int, Shaped, UInt32
from kfmodels._types import JaxArray as Array
from kfmodels.sampling import mixture
from kfmodels.sampling.devices import by_device
from kfmodels.sampling.mixture import DOF, UNIFORMS, Mixture, Parts
from kfmodels.sampling.psis import smooth

Density = Callable[[Float[AnyArray, "pair draw site"]], Float[AnyArray, "pair draw"]]
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

    rounds: int
    """Of drawing; between two of them the proposal is adapted."""

    steps: int = 8
    """Of Newton's method from each start."""

    wider: float = 1.5
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


def sample(
    log_density: Density,
    prior: Float[AnyArray, "pair draw site"],
    keys: UInt32[AnyArray, "pair 2"],
    size: Size,
    effort: Effort,
) -> Weighted:
    r"""Draws and weights for every pair.

    Newton's method climbs from several prior draws at once to the modes; Student-t distributions
    there are the first proposal. After each round the proposal is fitted to the weighted draws of all
    rounds so far, and every draw is weighted against the mixture of all proposals,

    $$w_k \propto p(u_k) \Big/ \tfrac1R \sum_r q_r(u_k).$$

    Args:
        log_density: of the unconstrained parameters; a compiled function, called from here.
        prior: draws of the prior, `(pair, draw, d)`: where to look, and in what units.
        keys: the data of one random key a pair.
        size: of the arrays; draws beyond the rounds of `effort` have no weight.
        effort: how many densities to compute, and where.

    Source: Cornuet, Marin, Mira and Robert (2012), Adaptive multiple importance sampling,
    Scandinavian Journal of Statistics 39; the update of the mixture: Cappe, Douc, Guillin, Marin and
    Robert (2008), Adaptive importance sampling in general mixture classes, Statistics and Computing
    18; the flattening: Koblents and Miguez (2015), Statistics and Computing 25.
    """
    # in steps, each compiled for itself and none for the rows of a series: the density alone reads
    # these, so that a series of another length compiles nothing else
    pairs = len(prior)
    begin, climb, propose, draw, adapt, finish = (
        by_device(step, (size,), pairs)
        for step in (_begin, _climb, _propose, _draw_round, _adapt, _finish)
    )
    tried = prior[:, : size.tried]
    units, at, spots = begin(prior, log_density(tried))
    for _ in range(effort.steps):
        at, spots = climb(units, at, log_density(spots))
    rounds = propose(at, np.full(pairs, effort.wider))
    for number in np.arange(effort.rounds):
        new, points = draw(units, rounds.now, keys, np.full(pairs, number))
        rounds = adapt(units, rounds, new, log_density(points), np.full(pairs, number))
    return finish(units, rounds, np.full(pairs, effort.rounds))


def _finish(
    units: Units, at: "_Rounds", rounds: Int[Array, "pair"], *, settings: tuple[Size]
) -> Weighted:
    total = settings[0].draws * rounds[0]
    log_ratio = at.values - jnp.log(at.proposed / rounds[0])
    log_weights, pareto_k = smooth(log_ratio)
    effective = 1 / jnp.exp(2 * log_weights).sum(-1)
    points = jnp.moveaxis(at.points, 1, -1)
    return Weighted(
        points=units.place(points),
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


def _begin(
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
        value=jnp.full((pairs, count), -jnp.inf),
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


def _climb(
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


def _propose(at: Climb, wider: Float[Array, "pair"], *, settings: tuple[Size]) -> "_Rounds":
    """Student-t distributions at the modes, and a wide one over the prior; nothing is drawn yet."""
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
    return _no_rounds(_defend(share, mean, cov), settings[0])


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


# -- rounds ----------------------------------------------------------------------------------------


class _Rounds(NamedTuple):
    """What the rounds so far have proposed and drawn; all arrays have the size of the last round."""

    now: Mixture
    parts: Parts
    """Those of all proposals, round after round."""

    points: Float[Array, "pair site every"]
    values: Float[Array, "pair every"]
    """Log density of the target; -inf where nothing is drawn yet."""

    proposed: Float[Array, "pair every"]
    """Density under the sum of all proposals."""


def _no_rounds(first: Mixture, size: Size) -> _Rounds:
    pairs, _, d = first.mean.shape
    every = size.draws * size.rounds
    return _Rounds(
        now=first,
        parts=jax.tree.map(
            lambda leaf: jnp.tile(leaf, (1, size.rounds) + (1,) * (leaf.ndim - 2)),
            mixture.parts_of(first),
        ),
        points=jnp.zeros((pairs, d, every)),
        values=jnp.full((pairs, every), -jnp.inf),
        proposed=jnp.zeros((pairs, every)),
    )


def _draw_round(
    units: Units,
    now: Mixture,
    keys: UInt32[Array, "pair 2"],
    number: Int[Array, "pair"],
    *,
    settings: tuple[Size],
) -> tuple[Float[Array, "pair draw site"], Float[Array, "pair draw site"]]:
    """New draws of a round, in units of the prior and as parameters."""
    # here, not above: it takes half a second to import, and reading a fit needs none of it
    from scipy.stats import qmc

    size, d = settings[0], now.mean.shape[-1]
    # one Sobol sequence for all; a random shift modulo 1 for each pair and round makes it unbiased
    sobol = qmc.Sobol(d + UNIFORMS, scramble=True, rng=np.random.default_rng(0)).random(size.draws)

    def shift_of(key: Shaped[Array, "2"]) -> Float[Array, "round uniform"]:
        return jax.random.uniform(jax.random.wrap_key_data(key), (size.rounds, d + UNIFORMS))

    shift = jax.vmap(shift_of)(keys)[:, number[0]]
    # at exactly 0 or 1 a normal quantile is infinite
    u = jnp.clip((sobol + shift[:, None]) % 1, 1e-12, 1 - 1e-12)
    new = mixture.draw(now, u)
    return new, units.place(new)


def _adapt(
    units: Units,
    at: _Rounds,
    new: Float[Array, "pair draw site"],
    found: Float[Array, "pair draw"],
    number: Int[Array, "pair"],
    *,
    settings: tuple[Size],
) -> _Rounds:
    """Weigh the draws of a round with all before, and fit the proposal to them."""
    begun, many = number[0] * settings[0].draws, at.now.mean.shape[1]
    put = partial(lax.dynamic_update_slice_in_dim, start_index=begun, axis=-1)
    values, new = put(at.values, units.level(found)), jnp.moveaxis(new, -1, 1)
    points = put(at.points, new)
    # the sum grows by what is new: the new draws under the earlier proposals, all under this one
    earlier = mixture.density(at.parts, new, number[0] * many)
    parts = mixture.parts_of(at.now)
    each, close = mixture.densities(parts, points)
    proposed = put(at.proposed, earlier) + each.sum(0)
    held = jax.tree.map(
        lambda every, one: lax.dynamic_update_slice_in_dim(every, one, number[0] * many, 1),
        at.parts,
        parts,
    )
    now = _move(at.now, jnp.moveaxis(points, 1, 0), values - jnp.log(proposed), each, close)
    return _Rounds(now, held, points, values, proposed)


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
    place = np.zeros((d, d), int)
    place[rows, columns] = place[columns, rows] = d + np.arange(len(rows))
    squares = sums[..., place]
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
