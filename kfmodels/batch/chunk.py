"""The posteriors of many pairs at once, and the state of each filter after its last row.

One file: the steps of `fit_chunk`, all on arrays whose first axis is the pairs of one chunk.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import sha256

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from kfmodels._types import Bool, Float, Shaped, UInt32
from kfmodels._types import JaxArray as Array
from kfmodels.batch.status import FITTED, Status, Verdict
from kfmodels.data.arrays import Inputs, PairArrays, half_life, pair_arrays
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.kalman import scan
from kfmodels.kalman.density import student_variance
from kfmodels.kalman.habits import Habits, habits_of
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.sampling import posterior
from kfmodels.sampling import prior as priors
from kfmodels.sampling.amis import Weighted
from kfmodels.sampling.importance import (
    ImportanceSampling,
    explore,
    layout_of,
    noise_at,
    thin_draws,
)
from kfmodels.sampling.nuts import MAX_PARETO_K, refit_failed

Arrays = dict[str, Shaped[np.ndarray, "pair ..."]]

CARRIED = {"var": "last_obs_var"}
"""Fields that a noise carries after the last row, to their names among the arrays where they differ."""

HABIT = "habit_"
"""Begins the names that the fields of `Habits` have among the arrays."""

SETTLED = 30
"""First rows that a half-life leaves out: the filter is still finding its level there."""


def fit_chunk(
    pairs: HedgePairs,
    numbers: list[int],
    model: HedgeRatioModel,
    method: ImportanceSampling,
    seed: int,
    *,
    size: int | None = None,
) -> tuple[Arrays, list[Verdict]]:
    """Infer the noise of some pairs, and run the filter of each to its last row.

    Args:
        numbers: positions in `pairs.pairs`.
        size: pairs that one compiled program takes; where there are fewer, the first one is repeated.
            Default: their number.

    Returns:
        Arrays whose first axis is that of `numbers` (NaN for a pair that could not be fitted), and
        the verdict of each pair.
    """
    arrays = _align(pairs, numbers)
    verdicts = [
        _judge(pairs, number, model, one.usable)
        for number, one in zip(numbers, arrays, strict=True)
    ]
    good = [place for place, verdict in enumerate(verdicts) if verdict == FITTED]
    if not good:
        return {}, verdicts
    # the first pair fills the chunk up: all chunks have one shape then, and share one compiled program
    devices = jax.local_device_count()
    size = -(-max(size or 0, len(good)) // devices) * devices
    taken = good + [good[0]] * (size - len(good))
    rows = len(pairs.index) - pairs.transform.needs_last
    some = [arrays[place] for place in taken]
    inputs, coordinates = model.inputs_of_pairs(some, length=_length(some, rows))
    keys = np.stack([pair_key(pairs.names[numbers[place]], seed) for place in taken])
    with jax.enable_x64(True):
        found, log_static, static_error = _explore_twice(inputs, keys, seed, model, method)
        found, notes, redone = refit_failed(found, inputs, model, keys[:, 0], range(len(good)))
        ended = _by_device(_end, (model,))
        made = jax.device_get(ended(found, inputs))
        made |= jax.device_get(
            {
                "points": found.points,
                "log_weights": found.log_weights,
                "log_evidence": found.log_evidence,
                "log_evidence_mcse": found.evidence_error,
                "log_static": log_static,
                "log_static_mcse": static_error,
                "effective_draws": found.effective_draws,
                "pareto_k": found.pareto_k,
            }
        )
    made |= {"refitted": redone, "typical_move": inputs.typical_move}
    made["pivot"], made["scale"], made["offset"] = np.transpose(
        [(at.pivot[0], at.scale[0], at.offset) for at in coordinates]
    )
    made |= _half_lives(made.pop("error"), inputs)
    made |= _last_prices(pairs, [numbers[place] for place in taken])
    for place, note in zip(good, notes, strict=False):
        verdicts[place] = FITTED if note == "ok" else Verdict(Status.DOUBTED, note)
    return {name: _place(values, good, len(numbers)) for name, values in made.items()}, verdicts


def _align(pairs: HedgePairs, numbers: list[int]) -> list[PairArrays]:
    """The pairs as arrays, each from its first observed row on."""
    legs = ([pairs.pairs[number][leg] for number in numbers] for leg in (0, 1))
    target, hedge = (pairs.prices[names].to_numpy().T for names in legs)
    found = []
    for pair in pair_arrays(target, hedge, pairs.transform):
        late = slice(int(np.argmax(pair.observed)) if pair.usable else 0, None)
        cut = {name: getattr(pair, name)[late] for name in ("y", "x", "observed", "dt")}
        found.append(pair._replace(**cut))
    return found


def _length(some: list[PairArrays], rows: int) -> int:
    """Rows of a chunk: all, or a half, a quarter, ... of them, so that few shapes are compiled."""
    longest = max(len(pair.y) for pair in some)
    while -(-rows // 2) >= longest:
        rows = -(-rows // 2)
    return rows


def _judge(pairs: HedgePairs, number: int, model: HedgeRatioModel, usable: bool) -> Verdict:
    """Tell `FITTED` of a pair that can be fitted, and of another what is wrong with it."""
    target, hedge = pairs.pairs[number]
    for name in (target, hedge):
        if name in pairs.faults:
            return Verdict(Status.UNUSABLE, pairs.faults[name])
    if usable:
        return FITTED
    # the pair alone refuses what its arrays could not use, and says in words why
    try:
        model.inputs(pairs.data(pairs.names[number]))
    except ValueError as error:
        return Verdict(Status.UNUSABLE, str(error))
    return Verdict(Status.UNUSABLE, "the prices leave nothing to infer")


def pair_key(name: str, seed: int) -> UInt32[np.ndarray, "2"]:
    """Random key of a pair: from its name, so that it has the same draws in any chunk."""
    one, two = np.frombuffer(sha256(name.encode()).digest()[:8], np.uint32)
    return np.array([one ^ np.uint32(seed), two], np.uint32)


def _explore_twice(
    inputs: Inputs,
    keys: UInt32[np.ndarray, "pair 2"],
    seed: int,
    model: HedgeRatioModel,
    method: ImportanceSampling,
) -> tuple[Weighted, Float[Array, "pair"], Float[Array, "pair"]]:
    """Draw from the posterior, and once more with a ratio that stands still.

    Returns:
        The weighted draws, by how many nats the ratio that stands still does better (NaN where it
        cannot be told), and the Monte-Carlo error of that.
    """
    quick = inputs
    if not model.drift.overflows:
        # no dt costs less; padded rows are not observed, so time that passes there changes no density,
        # but a discounted state would overflow over hundreds of them
        quick = inputs._replace(dt=None)
    run = _by_device(_explore, (model, method))
    seeds = np.full(len(keys), seed, np.uint32)
    still = np.tile(1.0 * model.follows(quick.design.shape[-1]), (len(keys), 1))
    found = run(quick, keys, seeds, np.zeros_like(still))
    if "delta_beta" not in layout_of(quick, model).shapes:
        unknown = jnp.full(len(keys), jnp.nan)
        return found, unknown, unknown
    static = run(quick, keys, seeds, still)
    factor = static.log_evidence - found.log_evidence
    reliable = jnp.maximum(static.pareto_k, found.pareto_k) <= MAX_PARETO_K
    error = jnp.hypot(static.evidence_error, found.evidence_error)
    return found, jnp.where(reliable, factor, jnp.nan), error


@lru_cache(maxsize=8)
def _by_device(function: Callable, settings: tuple) -> Callable:
    """Compile a function of arrays `(pair, ...)` so that the devices here share the pairs.

    The cache keeps the compiled function: a new `jax.jit` for each chunk would compile each anew.
    """
    run = partial(function, settings=settings)
    count = jax.local_device_count()
    if count == 1:
        return jax.jit(run)
    # the default axis type, Explicit, would ask every array inside for its sharding
    mesh = jax.make_mesh(
        (count,), ("pair",), axis_types=(AxisType.Auto,), devices=jax.local_devices()
    )
    spec = PartitionSpec("pair")
    return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))


def _explore(
    inputs: Inputs,
    keys: UInt32[Array, "pair 2"],
    seeds: UInt32[Array, "pair"],
    still: Float[Array, "pair coef"],
    *,
    settings: tuple[HedgeRatioModel, ImportanceSampling],
) -> Weighted:
    model, method = settings
    return explore(inputs, keys, still, seeds[0], model=model, method=method)


def _end(
    found: Weighted, inputs: Inputs, *, settings: tuple[HedgeRatioModel]
) -> dict[str, Float[Array, "pair ..."]]:
    """Filter every pair under the draws of its mixture; the plug-in, at the posterior mean, is last."""
    (model,) = settings
    mixed = thin_draws(noise_at(found.points, inputs, model=model), found.log_weights)
    each = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 1), inputs)  # (pair, 1, ...) over draws
    law = model.regression(each, **mixed)
    rows, start, drift, noise = law.recursion(each.y)
    end = scan.ending(rows, start, drift, noise)
    seen, carried = end.last, end.carried
    # the spread is that of the mixture, without the plug-in; its variance that of the means on top
    error, var = seen.error[:, :-1], (seen.var * student_variance(seen.dof, jnp))[:, :-1]
    ended = {
        "mean": jnp.moveaxis(end.state.mean, 0, -1),
        "cov": jnp.moveaxis(end.state.cov, (0, 1), (-2, -1)),
        "least": end.least,
        "spread": error.mean(1),
        "spread_sd": jnp.sqrt(var.mean(1) + error.var(1)),
        "error": jnp.moveaxis(end.errors[..., -1], 0, -1),
        "log_prior": _log_prior(found.points, inputs, model=model),
    }
    if carried is not None:
        ended |= {CARRIED.get(name, name): leaf for name, leaf in carried._asdict().items()}
    return mixed | ended


def _log_prior(
    points: Float[Array, "pair draw site"], inputs: Inputs, *, model: HedgeRatioModel
) -> Float[Array, "pair draw site"]:
    """Log prior density of each parameter."""
    layout = layout_of(inputs, model)

    def one(some: Float[Array, "draw site"], pair: Inputs) -> dict[str, Float[Array, "draw"]]:
        free = layout.unpack(some)
        values = jax.vmap(partial(posterior.constrain, inputs=pair, model=model))(free)
        sites = {name: values[name] for name in layout.shapes}
        return priors.log_density(sites, pair, model=model)

    each = jax.vmap(one)(points, inputs)
    return jnp.stack([each[name] for name in layout.shapes], -1)


def _half_lives(error: Float[np.ndarray, "pair time"], inputs: Inputs) -> Arrays:
    """Half-lives in bars, of the filter's spread and of the residual of a static ratio."""
    seen = np.asarray(inputs.observed)
    target, hedge = (np.where(seen, a, 0.0) for a in (inputs.y, np.asarray(inputs.design)[..., 0]))
    # where there is an intercept both are centred already, so the slope is that beside an intercept
    ratio = (target * hedge).sum(1) / (hedge**2).sum(1)
    static = target - ratio[:, None] * hedge
    return {
        "half_life": half_life(_persistence(error, seen)),
        "static_half_life": half_life(_persistence(static, seen)),
    }


def _persistence(
    series: Float[np.ndarray, "pair time"], seen: Bool[np.ndarray, "pair time"]
) -> Float[np.ndarray, "pair"]:
    """Slope of each series on its own last bar, by least squares with an intercept."""
    settled = np.minimum(SETTLED, seen.sum(1) // 5)
    late = np.cumsum(seen, 1) > settled[:, None]
    both = seen[:, 1:] & seen[:, :-1] & late[:, :-1]
    count = np.maximum(both.sum(1), 1)
    before, after = (np.where(both, part, 0.0) for part in (series[:, :-1], series[:, 1:]))
    before = np.where(both, before - (before.sum(1) / count)[:, None], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (before * after).sum(1) / (before**2).sum(1)


def _last_prices(pairs: HedgePairs, numbers: list[int]) -> Arrays:
    """Prices of the last row in which both legs are there, and how these usually move."""
    last, habits = [], []
    for number in numbers:
        both = pairs.prices[list(pairs.pairs[number])].to_numpy()
        complete = both[np.isfinite(both).all(1)]
        last.append(complete[-1])
        habits.append(habits_of(complete, pairs.transform))
    last_y, last_x = np.transpose(last)
    usual = {
        HABIT + name: np.array([getattr(one, name) for one in habits]) for name in Habits._fields
    }
    return {"last_y": last_y, "last_x": last_x} | usual


def _place(
    values: Shaped[np.ndarray, "fitted ..."], good: list[int], count: int
) -> Shaped[np.ndarray, "{count} ..."]:
    """Put the values of fitted pairs at their places among `count`, NaN elsewhere."""
    values = np.asarray(values)
    empty = False if values.dtype == bool else np.nan
    placed = np.full((count, *values.shape[1:]), empty, values.dtype)
    placed[good] = values[: len(good)]
    return placed
