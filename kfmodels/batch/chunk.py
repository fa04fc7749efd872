"""The numbers of many pairs at once: their posteriors, and where each filter stands at the end."""

from functools import lru_cache, partial
from hashlib import sha256
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from kfmodels.data.arrays import Inputs, PairArrays, pair_arrays
from kfmodels.data.hedge_data import day
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.kalman import scan
from kfmodels.kalman.density import student_variance
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.sampling import posterior
from kfmodels.sampling import prior as priors
from kfmodels.sampling.amis import Weighted
from kfmodels.sampling.importance import (
    ImportanceSampling,
    chosen,
    evidence_error,
    explore,
    layout_of,
    recursion,
)
from kfmodels.sampling.nuts import MAX_PARETO_K, refitted

Array = Any
Arrays = dict[str, np.ndarray]

STALE = 20
"""Rows without a change at the end from which a price is taken to have died."""

CARRIED = {"var": "last_obs_var"}
"""What a noise carries after the last row, as the arrays call it; the others have their own names."""

_SETTLED = 30
"""First rows that a half-life is not taken from."""


def fit_chunk(
    pairs: HedgePairs,
    numbers: list[int],
    model: HedgeRatioModel,
    method: ImportanceSampling,
    seed: int,
    *,
    size: int | None = None,
) -> tuple[Arrays, list[str]]:
    """Fit the numbered pairs.

    Args:
        numbers: positions in `pairs.pairs`.
        size: pairs that one compiled program takes; fewer are padded. Default: their number.

    Returns:
        Arrays whose first axis is that of `numbers` (NaN for a pair that could not be fitted), and a
        status by pair: "ok", or a sentence.
    """
    statuses = ["ok"] * len(numbers)
    arrays = _aligned(pairs, numbers)
    for place, number in enumerate(numbers):
        statuses[place] = _complaint(pairs, number, model, bool(arrays.usable[place]))
    good = [place for place, status in enumerate(statuses) if status == "ok"]
    if not good:
        return {}, statuses
    # a padding pair is the first one again: nothing of it is kept
    devices = jax.local_device_count()
    size = -(-max(size or 0, len(good)) // devices) * devices
    taken = good + [good[0]] * (size - len(good))
    inputs, coordinates = model.inputs_of_pairs(_shortened(arrays, taken))
    keys = np.stack([pair_key(pairs.names[numbers[place]], seed) for place in taken])
    with jax.enable_x64(True):
        found, log_static, static_error = _explored(inputs, keys, seed, model, method)
        found, notes, redone = refitted(found, inputs, model, keys[:, 0], range(len(good)))
        ended = _by_device(_ended, (model,))
        made = jax.device_get(ended(found, inputs))
        made |= jax.device_get(
            {
                "points": found.points,
                "log_weights": found.log_weights,
                "log_evidence": found.log_evidence,
                "log_evidence_mcse": evidence_error(found),
                "log_static": log_static,
                "log_static_mcse": static_error,
                "effective_draws": found.effective_draws,
                "pareto_k": found.pareto_k,
            }
        )
    made |= {"refitted": redone, "typical_move": inputs.typical_move}
    made |= dict(zip(("pivot", "scale", "offset"), coordinates, strict=True))
    made |= _half_lives(made.pop("error"), inputs)
    made |= _last_prices(pairs, [numbers[place] for place in taken])
    for place, note in zip(good, notes, strict=False):
        statuses[place] = note
    return {name: _spread(values, good, len(numbers)) for name, values in made.items()}, statuses


def _aligned(pairs: HedgePairs, numbers: list[int]) -> PairArrays:
    """The pairs as arrays, each from its first observed row on; `dt` is 0 there and past its end."""
    table = pairs.prices.to_numpy().T
    column = {name: place for place, name in enumerate(pairs.prices.columns)}
    listed = [pairs.pairs[number] for number in numbers]
    target, hedge = (table[[column[pair[leg]] for pair in listed]] for leg in (0, 1))
    arrays = pair_arrays(target, hedge, pairs.transform)
    rows = arrays.observed.shape[1]
    first = np.argmax(arrays.observed, 1)
    spots = first[:, None] + np.arange(rows)
    inside = spots < rows
    spots = np.minimum(spots, rows - 1)

    def moved(values: np.ndarray) -> np.ndarray:
        return np.where(inside, np.take_along_axis(values, spots, 1), 0)

    return arrays._replace(
        y=moved(arrays.y),
        x=moved(arrays.x),
        observed=moved(arrays.observed).astype(bool),
        dt=moved(arrays.dt),
    )


def _shortened(arrays: PairArrays, taken: list[int]) -> PairArrays:
    """Some of the pairs, cut to the length of the longest: all rows, or a half, a quarter, ..."""
    arrays = PairArrays(*(part[taken] for part in arrays))
    rows = arrays.y.shape[1]
    longest = int(np.flatnonzero(arrays.observed.any(0))[-1]) + 1
    # rows after the last that is observed still widen the state
    longest = max(longest, int(np.flatnonzero(arrays.dt.any(0))[-1]) + 1)
    length = rows
    while -(-length // 2) >= longest:
        length = -(-length // 2)
    return arrays._replace(
        **{k: getattr(arrays, k)[:, :length] for k in ("y", "x", "observed", "dt")}
    )


def _complaint(pairs: HedgePairs, number: int, model: HedgeRatioModel, usable: bool) -> str:
    """What is wrong with a pair, "ok" if nothing is."""
    target, hedge = pairs.pairs[number]
    for word, name in (("target", target), ("hedge", hedge)):
        if name in pairs.faults:
            return pairs.faults[name]
        since = _unchanged_since(pairs.prices[name].to_numpy())
        if usable and since is not None:
            return f"{word} {name} constant since {day(pairs.index[since])}"
    if usable:
        return "ok"
    try:
        model.inputs(pairs.data(pairs.names[number]))
    except ValueError as error:
        return str(error)
    return "the prices leave nothing to infer"


def _unchanged_since(values: np.ndarray) -> int | None:
    """Row at which a price took the value it has kept for its last 20 rows; None if it has not."""
    there = np.flatnonzero(np.isfinite(values))
    moved = np.flatnonzero(values[there] != values[there[-1]]) if len(there) else there
    since = moved[-1] + 1 if len(moved) else 0
    return int(there[since]) if len(there) - since >= STALE else None


def pair_key(name: str, seed: int) -> np.ndarray:
    """Random key of a pair: its own, wherever it stands."""
    one, two = np.frombuffer(sha256(name.encode()).digest()[:8], np.uint32)
    return np.array([one ^ np.uint32(seed), two], np.uint32)


def _explored(
    inputs: Inputs, keys: np.ndarray, seed: int, model: HedgeRatioModel, method: ImportanceSampling
) -> tuple[Weighted, Array, Array]:
    """Weighted draws, and by how many nats a ratio that stands still does better."""
    quick = inputs
    if not model.drift.overflows:
        # rows past the end are not observed: time passing there changes no density
        quick = inputs._replace(dt=None)
    run = _by_device(_weighted, (model, method))
    seeds = np.full(len(keys), seed, np.uint32)
    found = run(quick, keys, seeds, np.zeros(len(keys)))
    if "delta_beta" not in layout_of(quick, model).shapes:
        unknown = jnp.full(len(keys), jnp.nan)
        return found, unknown, unknown
    static = run(quick, keys, seeds, np.ones(len(keys)))
    factor = static.log_evidence - found.log_evidence
    reliable = jnp.maximum(static.pareto_k, found.pareto_k) <= MAX_PARETO_K
    error = jnp.hypot(evidence_error(static), evidence_error(found))
    return found, jnp.where(reliable, factor, jnp.nan), error


@lru_cache(maxsize=8)
def _by_device(function: Any, settings: tuple[Any, ...]) -> Any:
    """A function of arrays that begin with the axis of pairs, which the devices here share."""
    run = partial(function, settings=settings)
    count = jax.local_device_count()
    if count == 1:
        return jax.jit(run)
    mesh = jax.make_mesh(
        (count,), ("pair",), axis_types=(AxisType.Auto,), devices=jax.local_devices()
    )
    spec = PartitionSpec("pair")
    return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))


def _weighted(
    inputs: Inputs, keys: Array, seeds: Array, still: Array, *, settings: tuple[Any, Any]
) -> Weighted:
    model, method = settings
    return explore(inputs, keys, still, seeds[0], model=model, method=method)


def _ended(found: Weighted, inputs: Inputs, *, settings: tuple[Any]) -> dict[str, Array]:
    """The mixture of every pair after its last row, and the innovations of the plug-in."""
    (model,) = settings
    mixed = chosen(recursion(found.points, inputs, model=model), found.log_weights)
    each = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 1), inputs)
    law = model.regression(each, **mixed)
    rows, start, drift, noise = law.recursion(each.y)
    state, carried, seen, errors = scan.ending(rows, start, drift, noise)
    error, var = seen.error[:, :-1], (seen.var * student_variance(seen.dof, jnp))[:, :-1]
    ended = {
        "mean": jnp.moveaxis(state.mean, 0, -1),
        "cov": jnp.moveaxis(state.cov, (0, 1), (-2, -1)),
        "spread": error.mean(1),
        "spread_sd": jnp.sqrt(var.mean(1) + error.var(1)),
        "error": jnp.moveaxis(errors[..., -1], 0, -1),
        "log_prior": _log_prior(found.points, inputs, model=model),
    }
    if carried is not None:
        ended |= {CARRIED.get(name, name): leaf for name, leaf in carried._asdict().items()}
    return mixed | ended


def _log_prior(points: Array, inputs: Inputs, *, model: HedgeRatioModel) -> Array:
    """Log prior density of each parameter, `(pair, draw, d)`."""
    layout = layout_of(inputs, model)

    def one(some: Array, pair: Inputs) -> dict[str, Array]:
        free = layout.unpack(some)
        values = jax.vmap(partial(posterior.constrained, inputs=pair, model=model))(free)
        sites = {name: values[name] for name in layout.shapes}
        return priors.log_density(sites, pair, model=model)

    each = jax.vmap(one)(points, inputs)
    return jnp.stack([each[name] for name in layout.shapes], -1)


def _half_lives(error: np.ndarray, inputs: Inputs) -> Arrays:
    """Bars in which half of the filter's spread, and of the static one, is gone."""
    seen = np.asarray(inputs.observed)
    target, hedge = (np.where(seen, a, 0.0) for a in (inputs.y, np.asarray(inputs.design)[..., 0]))
    # both are centred where there is an intercept, as least squares with one has them
    ratio = (target * hedge).sum(1) / (hedge**2).sum(1)
    static = target - ratio[:, None] * hedge
    return {
        "half_life": _half_life(error, seen),
        "static_half_life": _half_life(static, seen),
    }


def _half_life(series: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """-ln 2 / ln rho of least squares of a series on its own last bar, `(pair, time)`."""
    settled = np.minimum(_SETTLED, seen.sum(1) // 5)
    late = np.cumsum(seen, 1) > settled[:, None]
    both = seen[:, 1:] & seen[:, :-1] & late[:, :-1]
    count = np.maximum(both.sum(1), 1)
    before, after = (np.where(both, part, 0.0) for part in (series[:, :-1], series[:, 1:]))
    before = np.where(both, before - (before.sum(1) / count)[:, None], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = (before * after).sum(1) / (before**2).sum(1)
        life = -np.log(2) / np.log(np.clip(rho, 0, 1))
    return np.where(rho >= 1, np.inf, np.where(rho <= 0, 0.0, life))


def _last_prices(pairs: HedgePairs, numbers: list[int]) -> Arrays:
    """Prices of the last row in which both legs are there."""
    found = {"last_y": [], "last_x": []}
    for number in numbers:
        both = pairs.prices[list(pairs.pairs[number])].to_numpy()
        last = both[np.flatnonzero(np.isfinite(both).all(1))[-1]]
        found["last_y"].append(last[0])
        found["last_x"].append(last[1])
    return {name: np.array(values) for name, values in found.items()}


def _spread(values: np.ndarray, good: list[int], count: int) -> np.ndarray:
    """Rows of the pairs that were fitted put in their places; NaN elsewhere."""
    values = np.asarray(values)
    empty = False if values.dtype == bool else np.nan
    placed = np.full((count, *values.shape[1:]), empty, values.dtype)
    placed[good] = values[: len(good)]
    return placed
