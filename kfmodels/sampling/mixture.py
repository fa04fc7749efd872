"""Mixtures of Student-t distributions, one for every pair: their draws and densities."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import gammaln, ndtri

from kfmodels._types import Float
from kfmodels._types import JaxArray as Array

DOF = 4
"""Degrees of freedom: tails heavier than a posterior's, and easy to draw from.

`draw` relies on its being even: a chi-squared variable is then a sum of exponential ones.
"""

UNIFORMS = 3
"""Uniform numbers that a draw takes beside one for each parameter."""


class Mixture(NamedTuple):
    """A mixture of Student-t distributions for every pair."""

    share: Float[Array, "pair part"]
    mean: Float[Array, "pair part site"]
    root: Float[Array, "pair part site site"]
    """Lower Cholesky factor of the squared scale."""


class Parts(NamedTuple):
    """The parts of a mixture, ready to be summed one after another: `density` reads nothing else.

    Within the sums the parts come first and the pairs last, without these axes for a single part.
    """

    height: Float[Array, "pair part"]
    """Share times density at the mean."""

    mean: Float[Array, "pair part site"]
    inverse: Float[Array, "pair part site site"]
    """Of the Cholesky factor."""


def draw(mixture: Mixture, u: Float[Array, "pair draw uniform"]) -> Float[Array, "pair draw site"]:
    """Points of the mixture from uniform numbers: one for the part, two for the radius, d normal."""
    edges = jnp.cumsum(mixture.share, -1)
    part = (u[..., :1] > edges[:, None, :-1]).sum(-1)
    radius = jnp.sqrt(-jnp.log(u[..., 1] * u[..., 2]) / (DOF / 2))
    mean = jnp.take_along_axis(mixture.mean, part[..., None], 1)
    root = jnp.take_along_axis(mixture.root, part[..., None, None], 1)
    return mean + (root * ndtri(u[..., None, UNIFORMS:])).sum(-1) / radius[..., None]


def parts_of(mixture: Mixture) -> Parts:
    """The parts with all that does not depend on a point worked out."""
    d = mixture.mean.shape[-1]
    eye = jnp.broadcast_to(jnp.eye(d), mixture.root.shape)
    inverse = jax.scipy.linalg.solve_triangular(mixture.root, eye, lower=True)
    constant = gammaln((DOF + d) / 2) - gammaln(DOF / 2) - d / 2 * np.log(DOF * np.pi)
    det = jnp.diagonal(inverse, axis1=-2, axis2=-1).prod(-1)
    height = mixture.share * jnp.exp(constant) * det
    return Parts(height, mixture.mean, inverse)


def _pairs_last(parts: Parts) -> Parts:
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), parts)


def near(part: Parts, points: Float[Array, "pair site draw"]) -> Float[Array, "pair draw"]:
    """`1 / (1 + squared distance / DOF)` of every point from one part."""
    away = [points[:, row] - mean[:, None] for row, mean in enumerate(part.mean)]
    squared = jnp.zeros((points.shape[0], points.shape[2]))
    for row in range(len(away)):
        along = sum(part.inverse[row, at][:, None] * away[at] for at in range(row + 1))
        squared = squared + along * along
    return 1 / (1 + squared / DOF)


def at(part: Parts, close: Float[Array, "pair draw"], d: int) -> Float[Array, "pair draw"]:
    """Share times density of one part, from `near`."""
    # (1 + s / 4) to the power -(4 + d) / 2 without a logarithm, which would cost most of all
    return part.height[:, None] * lax.integer_pow(jnp.sqrt(close), DOF + d)


def density(
    parts: Parts, points: Float[Array, "pair site draw"], count: Array | int
) -> Float[Array, "pair draw"]:
    """Density of the sum of the first `count` parts."""

    parts = _pairs_last(parts)

    def add(number: Array, total: Float[Array, "pair draw"]) -> Float[Array, "pair draw"]:
        part = jax.tree.map(lambda leaf: leaf[number], parts)
        return total + at(part, near(part, points), points.shape[1])

    return lax.fori_loop(0, count, add, jnp.zeros((points.shape[0], points.shape[2])))


def densities(
    parts: Parts, points: Float[Array, "pair site draw"]
) -> tuple[Float[Array, "part pair draw"], Float[Array, "part pair draw"]]:
    """Share times density of every part, and how near it every point is."""

    def one(_: None, part: Parts):
        close = near(part, points)
        return None, (at(part, close, points.shape[1]), close)

    return lax.scan(one, None, _pairs_last(parts))[1]
