"""Adaptive importance sampling of many small posteriors at once: modes, proposals, weights.

Every pair has its own target of `d` real parameters. Arrays begin with the axis of pairs, no pair
affects another, and all have the same shapes, so that the same compiled programs serve them all.
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
from kfmodels.sampling.modes import Climb, Size, Units, begin, climb, defend, propose
from kfmodels.sampling.psis import smooth

Density = Callable[[Float[AnyArray, "pair draw site"]], Float[AnyArray, "pair draw"]]
"""Log density of points `(pair, draw, d)`, up to a constant of the pair: `(pair, draw)`."""

_ENOUGH = 40.0
"""Effective draws below which weights are flattened before they move a proposal."""

_POWERS = 0.8 ** np.arange(24)
"""Powers that weights are flattened by, the largest that suffices is taken."""


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


def sample(
    log_density: Density,
    prior: Float[AnyArray, "pair draw site"],
    keys: UInt32[AnyArray, "pair 2"],
    size: Size,
    effort: Effort,
    advance: Callable[[], object] = lambda: None,
) -> Weighted:
    r"""Draws and weights for every pair.

    Newton's method climbs from several prior draws at once to the modes; Student-t distributions
    there are the first proposal. After each round the proposal is fitted to the weighted draws of all
    rounds so far, and every draw is weighted against the mixture of all proposals,

    $$w_k ∝ p(u_k) \Big/ \tfrac1R ∑_r q_r(u_k).$$

    Args:
        log_density: of the unconstrained parameters; a compiled function, called from here.
        prior: draws of the prior, `(pair, draw, d)`: where to look, and in what units.
        keys: the data of one random key a pair.
        size: of the arrays; draws beyond the rounds of `effort` have no weight.
        effort: how many densities to compute, and where.
        advance: called after every round.

    Source: Cornuet, Marin, Mira and Robert (2012), Adaptive multiple importance sampling,
    Scandinavian Journal of Statistics 39; the update of the mixture: Cappe, Douc, Guillin, Marin and
    Robert (2008), Adaptive importance sampling in general mixture classes, Statistics and Computing
    18; the flattening: Koblents and Miguez (2015), Statistics and Computing 25.
    """
    # in steps, each compiled for itself and none for the rows of a series: the density alone reads
    # these, so that a series of another length compiles nothing else
    pairs = len(prior)
    start, ascend, set_out, draw, adapt, finish = (
        by_device(step, (size,), pairs, rows=False)
        for step in (begin, climb, _set_out, _draw_round, _adapt, _finish)
    )
    tried = prior[:, : size.tried]
    units, at, spots = start(prior, log_density(tried))
    for _ in range(effort.steps):
        at, spots = ascend(units, at, log_density(spots))
    rounds = set_out(at, np.full(pairs, effort.wider))
    for number in np.arange(effort.rounds):
        new, points = draw(units, rounds.now, keys, np.full(pairs, number))
        rounds = adapt(units, rounds, new, log_density(points), np.full(pairs, number))
        advance()
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


def _set_out(at: Climb, wider: Float[Array, "pair"], *, settings: tuple[Size]) -> _Rounds:
    """The first proposal, and nothing drawn yet."""
    first, size = propose(at, wider), settings[0]
    pairs, _, d = first.mean.shape
    every = size.draws * size.rounds
    return _Rounds(
        now=first,
        parts=jax.tree.map(
            lambda leaf: jnp.tile(leaf, (1, size.rounds) + (1,) * (leaf.ndim - 2)),
            mixture.parts_of(first),
        ),
        points=jnp.zeros((pairs, d, every)),
        values=jnp.full((pairs, every), -jnp.inf, first.mean.dtype),
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
    # the defensive parts are not fitted but made anew by `defend`
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
    return defend(jnp.maximum(share, 0.05), mean, cov)


def _flatten(log_ratio: Float[Array, "pair draw"]) -> Float[Array, "pair draw"]:
    """Weights raised to the largest power, at most 1, that leaves enough effective draws."""
    top = log_ratio.max(-1, keepdims=True)
    log_ratio = jnp.where(jnp.isfinite(log_ratio), log_ratio - top, -jnp.inf)

    def at(power: Float[Array, "*any"]) -> Float[Array, "pair draw"]:
        return jax.nn.softmax(jnp.where(jnp.isfinite(log_ratio), power * log_ratio, -jnp.inf), -1)

    effective = jax.vmap(lambda power: 1 / (at(power) ** 2).sum(-1))(jnp.asarray(_POWERS))
    first = jnp.argmax(effective >= _ENOUGH, 0)
    return at(jnp.asarray(_POWERS)[first][:, None])
