"""`ImportanceSampling`: weighted draws of the noise of one pair, or of many at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral

import jax
import jax.numpy as jnp
import numpy as np

from kfmodels._types import Array as AnyArray
from kfmodels._types import ArrayLike, Float, UInt32
from kfmodels._types import JaxArray as Array
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.sampling import amis, posterior, thinning
from kfmodels.sampling.amis import Effort, Size, Weighted
from kfmodels.sampling.devices import compile_little
from kfmodels.sampling.posterior import Draws, Layout, Model, draw_prior, of_recursion, single_draw
from kfmodels.sampling.psis import resample
from kfmodels.words.progress import wait_for

CHAINS, KEPT = 4, 250
"""Chains and draws per chain that resampled draws are laid out in, as NUTS lays out its own."""

_COARSE = 128
"""Prior draws, which say where the parameters lie and in what units."""

_QUICK_ROUNDS, _STEPS, _WIDER = 6, 4, 3.0
"""What every pair of many gets first; see `Effort`.

Of the sixty varied pairs of `tests/sampling/test_importance.py`, each with five seeds, 3 % then had a
`moment_error` or a k-hat that wants more; the means of the others were within 0.1 sd, the sds within
12 %. With a `wider` of 1.5 some tails were missed; with four rounds errors were half as large again.
"""

_STATIC_ROUNDS = 3
"""The same for the evidence of a ratio that stands still, which has one parameter less."""

MAX_ERROR, MAX_QUICK_K = 0.08, 0.6
"""Beyond this `moment_error` or k-hat a pair gets all rounds."""


@dataclass(frozen=True)
class ImportanceSampling:
    """Adaptive importance sampling: for a handful of parameters as good as NUTS, and far quicker.

    Newton's method finds the modes of the log posterior; the proposal starts from Student-t
    distributions there and is fitted to the weighted draws round by round (see
    `kfmodels.sampling.amis.sample`). The weights are Pareto-smoothed; their k-hat and the number of
    effective draws say whether to trust them. Works for any NumPyro model of up to about eight
    continuous parameters.

    Args:
        draws: per round; a power of two.
        rounds: of proposing and adapting.

    Raises:
        ValueError: draws is not a power of two from 32 on, or there is no round.

    Source: see `kfmodels.sampling.amis.sample` and `kfmodels.sampling.psis.smooth`.

    Example:
        >>> from kfmodels import HedgeData, ImportanceSampling, datasets, fit
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> year = data.after("2019-01-01").before("2020-01-01")
        >>> fitted = fit(year, method=ImportanceSampling())
        >>> fitted.convergence()["pareto_k"] < 0.7
        True
    """

    draws: int = 128
    rounds: int = 10

    @property
    def size(self) -> Size:
        """Arrays of one of many pairs."""
        return Size(self.draws, self.rounds, starts=4)

    @property
    def static_size(self) -> Size:
        """The same where the ratio stands still."""
        return Size(max(self.draws // 2, 32), self.rounds, starts=2, tried=64)

    @property
    def kept(self) -> int:
        """Draws that are kept of one of many pairs."""
        return self.draws * min(_QUICK_ROUNDS, self.rounds)

    @property
    def quick(self) -> Effort:
        """The first effort on one of many pairs."""
        return Effort(min(_QUICK_ROUNDS, self.rounds), _STEPS, _WIDER)

    @property
    def quick_static(self) -> Effort:
        """The same where the ratio stands still."""
        return Effort(min(_STATIC_ROUNDS, self.rounds), _STEPS, _WIDER)

    @property
    def thorough(self) -> tuple[Effort, ...]:
        """The efforts, one after another, on a pair that was too hard for the first."""
        return tuple(Effort(self.rounds, 2 * _STEPS, wider) for wider in (1.5, 6.0))

    def __post_init__(self) -> None:
        whole = isinstance(self.draws, Integral)
        if not whole or self.draws < 32 or self.draws & (self.draws - 1):
            raise ValueError(
                f"ImportanceSampling: draws is a power of two from 32 on, not {self.draws!r}"
            )
        if not (isinstance(self.rounds, Integral) and self.rounds >= 1):
            raise ValueError(
                f"ImportanceSampling: rounds must be a whole number from 1 on, not {self.rounds!r}"
            )

    def run(self, model: Model, inputs: object, seed: int, progress: bool) -> Draws:
        """Sample the posterior of any NumPyro model called with `inputs`."""
        waiting = wait_for("sampling the noise", self.rounds, shown=progress)
        with jax.enable_x64(True), waiting as line:
            free, prior = draw_prior(model, inputs, seed)
            if not free:
                return single_draw(prior)
            alone = jax.tree.map(lambda leaf: np.asarray(leaf)[None], inputs)
            keys = np.array([[seed, 0]], np.uint32)
            some = {name: draws[None, :_COARSE] for name, draws in free.items()}
            start = posterior.straighten(some, model=model)
            size, effort = Size(self.draws, self.rounds), Effort(self.rounds)
            found = explore_from(
                start,
                alone,
                keys,
                None,
                effort,
                model=model,
                size=size,
                alike=True,
                advance=line.advance,
            )
        with jax.enable_x64(True), wait_for("choosing among the draws", 1, shown=progress):
            found = jax.device_get(found)
            every = jax.device_get(
                resample_sites(found.points[0], found.log_weights[0], keys[0], inputs, model=model)
            )
            mixed = None
            if isinstance(model, HedgeRatioModel):
                bare = posterior.without_rows(alone, model)
                noise = jax.device_get(noise_at(found.points, bare, model=model))
                chosen = thinning.choose(noise, np.exp(found.log_weights), alone, model=model)
                mixed = {name: values[0] for name, values in chosen.items()}
            about = {
                "pareto_k": float(found.pareto_k[0]),
                "ess": float(found.effective_draws[0]),
                "log_evidence": float(found.log_evidence[0]),
                "log_evidence_mcse": float(found.evidence_error[0]),
            }
        return Draws(every, {"diverging": np.zeros((CHAINS, KEPT), bool)}, prior, mixed, about)


def explore(
    inputs: object,
    keys: UInt32[AnyArray, "pair 2"],
    still: Float[ArrayLike, "pair coef"] | None,
    seed: UInt32[ArrayLike, ""],
    *,
    model: Model,
    method: ImportanceSampling,
    advance: Callable[[], object] = lambda: None,
) -> Weighted:
    """Weighted draws of every pair; each has its key of `keys`, all draw from the prior with `seed`.

    `still` is 1 for each coefficient of a hedge ratio model that is not to move; `advance` is called
    after every round.
    """
    size, effort = Size(method.draws, method.rounds), Effort(method.rounds)
    free = draw_start(seed, posterior.without_rows(inputs, model), model=model)
    return explore_from(
        free, inputs, keys, still, effort, model=model, size=size, alike=True, advance=advance
    )


@compile_little("model")
def draw_start(
    seed: UInt32[ArrayLike, ""], inputs: object, *, model: Model
) -> dict[str, Float[Array, "pair draw ..."]]:
    """Draws of the prior to explore from."""
    return posterior.prior_draws(jnp.asarray(seed), inputs, model=model, count=_COARSE)


def explore_from(
    free: Mapping[str, Float[AnyArray, "pair draw ..."]],
    inputs: object,
    keys: UInt32[AnyArray, "pair 2"],
    still: Float[ArrayLike, "pair coef"] | None,
    effort: Effort,
    *,
    model: Model,
    size: Size,
    left_out: frozenset[str] = frozenset(),
    alike: bool = False,
    advance: Callable[[], object] = lambda: None,
) -> Weighted:
    """`explore` with a size and an effort of its own; `left_out` as in `posterior.log_density`.

    `alike` asks for the densities of `size.draws` points at every call, so that one program computes
    all: for few pairs, where it takes longer to compile another than to run. `advance` is called after
    every round.
    """
    free = {name: draws for name, draws in free.items() if name not in left_out}
    layout = Layout.of(free)
    density = posterior.compile_density(
        inputs, model=model, layout=layout, still=still, left_out=left_out
    )
    if alike:
        density = partial(_in_blocks, density, size.draws)
    return amis.sample(density, _pack(free, layout=layout), keys, size, effort, advance)


@compile_little("layout")
def _pack(
    free: Mapping[str, Float[Array, "pair draw ..."]], *, layout: Layout
) -> Float[Array, "pair draw site"]:
    return layout.pack(free)


def _in_blocks(
    density: amis.Density, count: int, points: Float[AnyArray, "pair draw site"]
) -> Float[np.ndarray, "pair draw"]:
    """The density, of `count` points at a time; the last block is filled up with its first points."""
    total = points.shape[1]
    every = np.asarray(points)[:, np.arange(-(-total // count) * count) % total]
    parts = np.split(every, every.shape[1] // count, 1)
    return np.concatenate([density(part) for part in parts], 1)[:, :total]


@compile_little("model")
def noise_at(
    points: Float[Array, "pair draw site"], inputs: object, *, model: Model
) -> dict[str, Float[Array, "pair draw ..."]]:
    """The sites that the filter needs, at these points."""
    layout = layout_of(inputs, model)

    def at_point(point: Float[Array, "site"], pair: object) -> dict[str, Float[Array, "..."]]:
        return of_recursion(posterior.constrain(layout.unpack(point), pair, model=model))

    return jax.vmap(jax.vmap(at_point, (0, None)))(points, inputs)


def resample_sites(
    points: Float[np.ndarray, "draw site"],
    log_weights: Float[np.ndarray, "draw"],
    key: UInt32[np.ndarray, "2"],
    inputs: object,
    *,
    model: Model,
) -> dict[str, Float[Array, "chain kept ..."]]:
    """All sites of one pair at draws of equal weight, in random order."""
    picked = resample(log_weights, key, count=CHAINS * KEPT).reshape(CHAINS, KEPT)
    return sites_at(points[picked], posterior.without_rows(inputs, model), model=model)


@compile_little("model")
def sites_at(
    points: Float[Array, "chain draw site"], inputs: object, *, model: Model
) -> dict[str, Float[Array, "chain draw ..."]]:
    """All sites of one pair at these points."""
    layout = layout_of(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], inputs), model)

    def at_point(point: Float[Array, "site"]) -> dict[str, Float[Array, "..."]]:
        return posterior.constrain(layout.unpack(point), inputs, model=model)

    return jax.vmap(jax.vmap(at_point))(points)


def layout_of(inputs: object, model: Model) -> Layout:
    """The layout of a point, the same for all pairs; nothing is computed but shapes."""
    shapes = jax.eval_shape(
        partial(posterior.prior_draws, model=model, count=1), np.uint32(0), inputs
    )
    return Layout.of(shapes)
