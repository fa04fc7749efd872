"""The log posterior of many pairs at many draws of their noise, in one pass of the filter."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer.util import constrain_fn, potential_energy

from kfmodels._types import Array as AnyArray
from kfmodels._types import ArrayLike, Float, Shaped, Shapes, UInt32
from kfmodels._types import JaxArray as Array
from kfmodels.model.assumptions import parameters
from kfmodels.sampling import prior as priors
from kfmodels.sampling import ridge
from kfmodels.sampling.devices import by_device, compile_little
from kfmodels.sampling.prior import Model
from kfmodels.words.caller import check_seed

_LIKELIHOOD = ["y", "diffuse"]
"""Sites of the model that belong to the likelihood, not to the prior."""

PRIOR_DRAWS = 1000


class Draws(NamedTuple):
    """The result of a method: sites and statistics, and draws of the prior.

    `mixed` are the draws for the filter to run on, the plug-in last, where the method chooses them;
    `about` describes all draws together.
    """

    sites: dict[str, Shaped[np.ndarray, "chain draw ..."]]
    stats: dict[str, Shaped[np.ndarray, "chain draw"]]
    prior: dict[str, Shaped[np.ndarray, "draw ..."]]
    mixed: dict[str, Float[np.ndarray, "draw ..."]] | None = None
    about: dict[str, float] = {}  # noqa: RUF012 - never written to


def of_recursion[Values](sites: Mapping[str, Values]) -> dict[str, Values]:
    """Those of the sites that the filter needs."""
    read = {"q", "obs_scale", *parameters(), "gap_bars", "gap_noise"}
    return {name: value for name, value in sites.items() if name in read}


def draw_prior(
    model: Model, inputs: object, seed: int
) -> tuple[dict[str, Float[np.ndarray, "draw ..."]], dict[str, Shaped[np.ndarray, "draw ..."]]]:
    """1000 draws of the prior: inferred sites, unconstrained; all sites on their own scale."""
    check_seed(seed)
    numbers, inputs = np.arange(PRIOR_DRAWS, dtype=np.uint32), without_rows(inputs, model)
    with jax.enable_x64(True):
        return jax.device_get(priors.draw(numbers, np.uint32(seed), inputs, model=model))


def without_rows(inputs: object, model: Model) -> object:
    """What the prior reads of the inputs, so that series of all lengths share its programs."""
    return model.without_rows(inputs) if hasattr(model, "without_rows") else inputs


def single_draw(prior: dict[str, Shaped[np.ndarray, "draw ..."]]) -> Draws:
    """The posterior where all noise is fixed: one draw."""
    sites = jax.tree.map(lambda site: site[None, :1], prior)
    return Draws(sites, {"diverging": np.zeros((1, 1), bool)}, prior)


@dataclass(frozen=True)
class Layout:
    """Where each inferred site stands in a vector of unconstrained parameters."""

    sites: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each site, by its name."""
        return dict(self.sites)

    @classmethod
    def of(cls, free: Mapping[str, Float[AnyArray, "pair draw ..."] | Shapes]) -> "Layout":
        """The layout of sites."""
        return cls(tuple((name, tuple(site.shape[2:])) for name, site in free.items()))

    def pack(self, free: Mapping[str, Float[Array, "..."]]) -> Float[Array, "*draws site"]:
        """Sites `(*draws, ...)` to points."""
        parts = [
            jnp.reshape(free[k], (*free[k].shape[: free[k].ndim - len(shape)], -1))
            for k, shape in self.shapes.items()
        ]
        return jnp.concatenate(parts, -1)

    def unpack(
        self, points: Float[Array | np.ndarray, "*draws site"]
    ) -> dict[str, Float[Array, "..."]]:
        """The inverse of `pack`."""
        ends = np.cumsum([int(np.prod(shape)) for _, shape in self.sites])
        parts = jnp.split(points, ends[:-1], -1)
        return {
            k: jnp.reshape(part, (*points.shape[:-1], *shape))
            for part, (k, shape) in zip(parts, self.shapes.items(), strict=True)
        }


@compile_little("model")
def straighten(
    free: dict[str, Float[Array, "pair draw ..."]], *, model: Model
) -> dict[str, Float[Array, "pair draw ..."]]:
    """Unconstrained sites in the coordinates of `ridge`, draw by draw."""
    return jax.vmap(jax.vmap(partial(ridge.straighten, bent=ridge.bent_sites(model))))(free)


def prior_draws(
    seed: UInt32[ArrayLike, ""], inputs: object, *, model: Model, count: int
) -> dict[str, Float[Array, "pair draw ..."]]:
    """Draws of the prior of every pair, unconstrained and straightened (see `ridge`)."""
    numbers = jnp.arange(count, dtype=jnp.uint32)
    bent = ridge.bent_sites(model)

    def one(pair: object) -> dict[str, Float[Array, "draw ..."]]:
        free, _ = priors.draw(numbers, seed, pair, model=model)
        if not free:
            raise ValueError(
                "every noise setting of the model is fixed, so there is nothing to infer: leave one to "
                "a prior, or run each pair through fit(...), which takes fixed noise too"
            )
        return jax.vmap(partial(ridge.straighten, bent=bent))(free)

    return jax.vmap(one)(inputs)


def log_density(
    free: dict[str, Float[Array, "pair draw ..."]],
    inputs: object,
    *,
    model: Model,
    still: Float[ArrayLike, "pair coef"] | None = None,
    left_out: frozenset[str] = frozenset(),
) -> Float[Array, "pair draw"]:
    """Log prior plus log likelihood of straightened sites.

    `inputs` begin with the axis of pairs. A hedge ratio model runs one filter whose batch axes are
    pairs and draws; any other NumPyro model is mapped over both. Coefficients where `still` is 1 do
    not move, whatever their delta, which then counts in the prior only: a delta that no coefficient
    reads can be `left_out`, which leaves every integral of the density as it is.
    """
    if not hasattr(model, "log_likelihood"):
        energy = partial(_energy, model=model)
        return -jax.vmap(jax.vmap(energy, (0, None)), (0, 0))(free, inputs)
    log_prior, noise = _look_up(free, without_rows(inputs, model), still, model, left_out)
    return _weigh(log_prior, noise, inputs, settings=(model,))


def compile_density(
    inputs: object,
    *,
    model: Model,
    layout: Layout,
    still: Float[ArrayLike, "pair coef"] | None = None,
    left_out: frozenset[str] = frozenset(),
) -> Callable[[Float[AnyArray, "pair draw site"]], Float[AnyArray, "pair draw"]]:
    """`log_density` of points, compiled; of a hedge ratio model in two parts.

    Only the second reads the rows, so that a series of another length compiles no more than that.
    """
    pairs = len(jax.tree.leaves(inputs)[0])
    if not hasattr(model, "log_likelihood"):
        whole = by_device(_density_at, (layout, model), pairs)
        return lambda points: whole(points, inputs)
    before = by_device(_look_up_at, (layout, model, left_out), pairs, rows=False)
    weigh, bare = by_device(_weigh, (model,), pairs), without_rows(inputs, model)
    return lambda points: weigh(*before(points, bare, still), inputs)


def _density_at(
    points: Float[Array, "pair draw site"], inputs: object, *, settings: tuple[Layout, Model]
) -> Float[Array, "pair draw"]:
    layout, model = settings
    return log_density(layout.unpack(points), inputs, model=model)


def _look_up_at(
    points: Float[Array, "pair draw site"],
    inputs: object,
    still: Float[ArrayLike, "pair coef"] | None,
    *,
    settings: tuple[Layout, Model, frozenset[str]],
) -> tuple[Float[Array, "pair draw"], dict[str, Float[Array, "pair draw ..."]]]:
    layout, model, left_out = settings
    return _look_up(layout.unpack(points), inputs, still, model, left_out)


def _weigh(
    log_prior: Float[Array, "pair draw"],
    noise: dict[str, Float[Array, "pair draw ..."]],
    inputs: object,
    *,
    settings: tuple[Model],
) -> Float[Array, "pair draw"]:
    each = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 1), inputs)
    return settings[0].log_likelihood(each, **noise) + log_prior


def _look_up(
    free: dict[str, Float[Array, "pair draw ..."]],
    inputs: object,
    still: Float[ArrayLike, "pair coef"] | None,
    model: Model,
    left_out: frozenset[str],
) -> tuple[Float[Array, "pair draw"], dict[str, Float[Array, "pair draw ..."]]]:
    """Log prior of straightened sites, and the sites that the filter needs."""
    # the prior is evaluated draw by draw, the likelihood in one filter for all of them
    anything = {
        name: jnp.full(shape, 0.5) for name, shape in _shapes(inputs, model, left_out).items()
    }
    prior = handlers.substitute(model, data=anything)
    prior = handlers.block(prior, hide=[*_LIKELIHOOD, *left_out])
    bent = model.bent - left_out

    def one(
        z: dict[str, Float[Array, "..."]], pair: object
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, "..."]]]:
        z = ridge.bend(z, bent)
        values = constrain_fn(prior, (pair,), {}, z, return_deterministic=True)
        return _energy(z, pair, model=prior), of_recursion(values)

    energy, noise = jax.vmap(jax.vmap(one, (0, None)), (0, 0))(free, inputs)
    if still is not None:
        noise["q"] = noise["q"] * (1 - jnp.asarray(still)[:, None])
    return -energy, noise


def _shapes(inputs: object, model: Model, names: frozenset[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of these sites, of one pair."""
    if not names:
        return {}
    draws = jax.eval_shape(partial(prior_draws, model=model, count=1), np.uint32(0), inputs)
    return {name: draws[name].shape[2:] for name in names}


def constrain(
    free: dict[str, Float[Array, "..."]], inputs: object, *, model: Model
) -> dict[str, Float[Array, "..."]]:
    """Sampled and deterministic sites of one draw of straightened sites, on their own scale."""
    z = ridge.bend(free, ridge.bent_sites(model))
    values = constrain_fn(model, (inputs,), {}, z, return_deterministic=True)
    return {name: value for name, value in values.items() if name != "y"}


def _energy(z: dict[str, Float[Array, "..."]], inputs: object, *, model: Model) -> Float[Array, ""]:
    return jnp.asarray(potential_energy(model, (inputs,), {}, z))
