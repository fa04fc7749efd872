"""The posteriors of many pairs at once, and the state of each filter after its last row.

One file: the steps of `fit_chunk`, all on arrays whose first axis is the pairs of one chunk.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kfmodels._types import Bool, Float, Int, Shaped, UInt32
from kfmodels._types import JaxArray as Array
from kfmodels.batch.blocks import finish, start
from kfmodels.batch.effort import explore_pairs
from kfmodels.batch.status import FITTED, Status, Verdict
from kfmodels.data.arrays import Inputs, PairArrays, half_life, pair_arrays
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.fitting.alternatives import mix_few, weigh
from kfmodels.kalman import scan
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.density import student_variance
from kfmodels.kalman.habits import habits_of
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.sampling import posterior, thinning
from kfmodels.sampling import prior as priors
from kfmodels.sampling.amis import Weighted
from kfmodels.sampling.devices import by_device
from kfmodels.sampling.importance import ImportanceSampling, layout_of, noise_at
from kfmodels.sampling.nuts import refit_failed, weights_failed

Arrays = dict[str, Shaped[np.ndarray, "pair ..."]]

CARRIED = {"var": "last_obs_var"}
"""Fields that a noise carries after the last row, to their names among the arrays where they differ."""

HABIT = "habit_"
"""Begins the names that the fields of `Habits` have among the arrays."""

LEAST, BLOCK = 16, 2048
"""Least and most pairs of one compiled program: 16 keep a CPU busy, 2048 a GPU."""

ALIKE = 64
"""Pairs whose prices are looked at together: few enough for the cache of a CPU."""

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
    refit: bool = True,
) -> tuple[Arrays, list[Verdict]]:
    """Infer the noise of some pairs, and run the filter of each to its last row.

    Args:
        numbers: positions in `pairs.pairs`.
        size: pairs that one compiled program takes. Default: their number, at most `BLOCK`.
        refit: whether pairs whose weights failed are sampled by NUTS at once; else they are doubted,
            until `refit_chunk`.

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
    fitted = [numbers[place] for place in good]
    size = _block(len(good), size)
    inputs, coordinates = _inputs(pairs, [arrays[place] for place in good], model)
    with jax.enable_x64(True):
        keys = _keys(pairs, fitted, seed)
        found, log_static, static_error = explore_pairs(inputs, keys, seed, model, method, size)
        every = [found] + [
            explore_pairs(inputs, keys, seed, one, method, size, against_static=False)[0]
            for one in model.alternatives[1:]
        ]
        made: dict[str, Any] = _end_pairs(every, inputs, model, size)
    made |= {
        "log_evidence": found.log_evidence,
        "log_evidence_mcse": found.evidence_error,
        "log_static": log_static,
        "log_static_mcse": static_error,
        "pareto_k": found.pareto_k,
        "moment_error": found.moment_error,
        "refitted": np.zeros(len(good), bool),
        "typical_move": inputs.typical_move,
    }
    made["pivot"], made["scale"], made["offset"] = np.transpose(
        [(at.pivot[0], at.scale[0], at.offset) for at in coordinates]
    )
    made |= last_prices(pairs, fitted)
    for place, note in zip(good, _notes(weights_failed(found), every[1:]), strict=True):
        verdicts[place] = Verdict(Status.DOUBTED, note) if note else FITTED
    placed = {name: _place(values, good, len(numbers)) for name, values in made.items()}
    if refit:
        return refit_chunk(pairs, numbers, placed, verdicts, model, seed, size=size)
    return placed, verdicts


def refit_chunk(
    pairs: HedgePairs,
    numbers: list[int],
    arrays: Arrays,
    verdicts: list[Verdict],
    model: HedgeRatioModel,
    seed: int,
    *,
    size: int | None = None,
) -> tuple[Arrays, list[Verdict]]:
    """Sample by NUTS, on the CPU, those pairs of a chunk from `fit_chunk` whose weights failed.

    Their evidence and k-hat stay those of the weights, and so do the draws of the alternatives of a
    model, whose weights are not tried again.
    """
    failed = [place for place, verdict in enumerate(verdicts) if verdict.status == Status.DOUBTED]
    if not failed:
        return arrays, verdicts
    doubted = [numbers[place] for place in failed]
    inputs, _ = _inputs(pairs, _align(pairs, doubted), model)
    held: dict[str, Any] = {name: values[failed] for name, values in arrays.items()}
    before = Weighted(
        points=held["points"],
        log_weights=held["log_weights"],
        log_evidence=held["log_evidence"],
        evidence_error=held["log_evidence_mcse"],
        effective_draws=held["effective_draws"],
        pareto_k=held["pareto_k"],
        moment_error=held["moment_error"],
    )
    with jax.enable_x64(True):
        keys = _keys(pairs, doubted, seed)
        found, notes = refit_failed(before, inputs, model, keys[:, 0])
        others = [_other(held, number) for number in range(1, len(model.alternatives))]
        new = _end_pairs([found, *others], inputs, model, _block(len(failed), size))
        notes = _notes(notes, others)
    arrays, verdicts = {name: np.array(values) for name, values in arrays.items()}, list(verdicts)
    for name, values in (new | {"refitted": np.ones(len(failed), bool)}).items():
        arrays[name][failed] = values
    for place, note in zip(failed, notes, strict=True):
        verdicts[place] = Verdict(Status.DOUBTED, note) if note else FITTED
    return arrays, verdicts


def _block(count: int, size: int | None) -> int:
    """Pairs of one compiled program: few sizes, and no more than the next power of two."""
    # always `LEAST` on a CPU, so that a pair has the same bits in a chunk of whatever length
    size = min(count, BLOCK) if size is None else size
    size = min(size, max(LEAST, 1 << (count - 1).bit_length()))
    devices = jax.local_device_count()
    return -(-size // devices) * devices


def _keys(pairs: HedgePairs, numbers: list[int], seed: int) -> UInt32[np.ndarray, "pair 2"]:
    names = pairs.names  # which makes all of them anew
    return np.stack([pair_key(names[number], seed) for number in numbers])


def inputs_of(pairs: HedgePairs, names: Sequence[str], model: HedgeRatioModel) -> Inputs:
    """The arrays of some pairs that were fitted, by name."""
    numbers = {name: number for number, name in enumerate(pairs.names)}
    return _inputs(pairs, _align(pairs, [numbers[name] for name in names]), model)[0]


def _inputs(
    pairs: HedgePairs, some: list[PairArrays], model: HedgeRatioModel
) -> tuple[Inputs, list[Coordinates]]:
    rows = len(pairs.index) - pairs.transform.needs_last
    return model.inputs_of_pairs(some, length=_length(some, rows))


def _notes(found: list[str], others: Sequence[Weighted]) -> list[str]:
    """By pair, what is wrong with the draws of the model or of an alternative; "" if nothing is."""
    for other in others:
        worse = [f"without the spread: {note}" if note else "" for note in weights_failed(other)]
        found = [note or more for note, more in zip(found, worse, strict=True)]
    return found


def _other(arrays: Arrays, number: int) -> Weighted:
    """The weighted draws of an alternative among the arrays of a chunk."""
    parts: dict[str, Any] = {name: arrays[f"{name}_{number}"] for name in Weighted._fields}
    return Weighted(**parts)


def _tell_evidence(every: Sequence[Weighted], noise: Sequence[dict[str, Any]]) -> Arrays:
    """What the evidence says of a model and its alternatives, odds of one before the data.

    With the quantiles of q over all draws, and the draws of the alternatives, for `HedgeBoard.sel`.
    """
    found = weigh(
        np.stack([np.asarray(one.log_evidence) for one in every]),
        np.stack([np.asarray(one.evidence_error) for one in every]),
    )
    weights = [
        np.exp(np.asarray(one.log_weights)) * part[:, None]
        for one, part in zip(every, found.share, strict=True)
    ]
    q = np.concatenate([np.asarray(one["q"]) for one in noise], 1)
    told = {
        "probability": found.share[0],
        "log_bayes": found.log_bayes,
        "log_bayes_error": found.log_bayes_error,
        "q_ends": np.asarray(_quantiles(jnp.asarray(q), jnp.asarray(np.concatenate(weights, 1)))),
    }
    for number, one in enumerate(every[1:], start=1):
        told |= {f"{name}_{number}": np.asarray(leaf) for name, leaf in one._asdict().items()}
    return told


def _end_pairs(
    every: Sequence[Weighted], inputs: Inputs, model: HedgeRatioModel, size: int
) -> Arrays:
    """The draws of all pairs, and what the filter under them ends with.

    `every` has those of the model and of each of its alternatives.
    """
    found = every[0]

    def run(function: Callable, *given: Any, assumed: HedgeRatioModel = model) -> Any:
        return finish(start(by_device(function, (assumed,), size), given, size))

    # what reads no rows is compiled for itself, once for series of all lengths
    bare, quick = model.without_rows(inputs), model.without_times(inputs)
    mixes, noises, made = [], [], dict[str, Any]()
    for one, drawn in zip(model.alternatives, every, strict=True):
        noise, about = run(_describe, drawn.points, drawn.log_weights, bare, assumed=one)
        weights = np.exp(drawn.log_weights)
        few = thinning.try_some(noise, weights)
        mixes.append(thinning.mix(noise, weights, few, run(_vary, few, quick, assumed=one)))
        noises.append(noise)
        made = made or about
    mixed = mixes[0]
    if len(every) > 1:
        made |= _tell_evidence(every, noises)
        pairs = [
            mix_few([{name: v[pair] for name, v in one.items()} for one in mixes], p, model.absent)
            for pair, p in enumerate(made["probability"].tolist())
        ]
        mixed = {name: np.stack([one[name] for one in pairs]) for name in mixed}
    made |= mixed | run(_end, mixed, inputs)
    made |= _half_lives(made.pop("error"), inputs)
    draws: dict[str, Any] = {
        "points": found.points,
        "log_weights": found.log_weights,
        "effective_draws": found.effective_draws,
    }
    return made | draws


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


def _describe(
    points: Float[Array, "pair draw site"],
    log_weights: Float[Array, "pair draw"],
    inputs: Inputs,
    *,
    settings: tuple[HedgeRatioModel],
) -> tuple[dict[str, Float[Array, "pair draw ..."]], dict[str, Float[Array, "pair ..."]]]:
    """The sites that the filter needs at every point, and what is kept of them."""
    (model,) = settings
    noise = noise_at(points, inputs, model=model)
    return noise, {
        "q_ends": _quantiles(noise["q"], jnp.exp(log_weights)),
        "log_prior": _log_prior(points, inputs, model=model),
    }


def _vary(
    noise: dict[str, Float[Array, "pair draw ..."]],
    inputs: Inputs,
    *,
    settings: tuple[HedgeRatioModel],
) -> Float[Array, "pair draw"]:
    return thinning.ratio_variance(noise, inputs, model=settings[0])


def _end(
    mixed: dict[str, Float[Array, "pair draw ..."]],
    inputs: Inputs,
    *,
    settings: tuple[HedgeRatioModel],
) -> dict[str, Float[Array, "pair ..."]]:
    """Filter every pair under the draws of its mixture; the plug-in, at the posterior mean, is last."""
    one = partial(_end_one, model=settings[0])

    def in_turn(every: tuple[dict[str, Array], Inputs]) -> dict[str, Array]:
        # one pair after the other, whose states then stay in the first cache of a CPU
        return jax.lax.map(lambda pair: one(*pair), every)

    def together(every: tuple[dict[str, Array], Inputs]) -> dict[str, Array]:
        return jax.vmap(one)(*every)

    return jax.lax.platform_dependent((mixed, inputs), cpu=in_turn, default=together)


def _end_one(
    mixed: dict[str, Float[Array, "draw ..."]], inputs: Inputs, *, model: HedgeRatioModel
) -> dict[str, Float[Array, "..."]]:
    law = model.regression(inputs, **mixed)
    rows, start, drift, noise = law.recursion(inputs.y)
    end = scan.ending(rows, start, drift, noise)
    seen, carried = end.last, end.carried
    # the spread is that of the mixture, without the plug-in; its variance that of the means on top
    error, var = seen.error[:-1], (seen.var * student_variance(seen.dof, jnp))[:-1]
    ended = {
        "mean": jnp.moveaxis(end.state.mean, 0, -1),
        "cov": jnp.moveaxis(end.state.cov, (0, 1), (-2, -1)),
        "least": end.least,
        "spread": error.mean(),
        "spread_sd": jnp.sqrt(var.mean() + error.var()),
        "error": end.errors[:, -1],
    }
    if getattr(noise, "fixed_unit", False):  # the coefficients are normal, in that unit
        ended["fixed_unit"] = jnp.broadcast_to(noise.unit(carried), end.least.shape)
    if carried is not None:
        held: dict[str, Any] = carried._asdict()
        ended |= {CARRIED.get(name, name): leaf for name, leaf in held.items()}
    return ended


def _quantiles(
    values: Float[Array, "pair draw coef"], weights: Float[Array, "pair draw"]
) -> Float[Array, "pair 3 coef"]:
    """The ends of a 90 % interval and the median between them, of all draws by their weights."""

    def one(some: Float[Array, "draw"], weights: Float[Array, "draw"]) -> Float[Array, "3"]:
        order = jnp.argsort(some)
        sums = jnp.cumsum(weights[order])
        found = jnp.searchsorted(sums / sums[-1], jnp.array([0.05, 0.5, 0.95]))
        return some[order[jnp.minimum(found, len(some) - 1)]]

    return jax.vmap(jax.vmap(one, (1, None), 1))(values, weights)


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


def last_prices(pairs: HedgePairs, numbers: list[int]) -> Arrays:
    """Prices of the last row in which both legs are there, and how these usually move."""
    places = {name: place for place, name in enumerate(pairs.prices.columns)}
    legs = np.array([[places[leg] for leg in pairs.pairs[number]] for number in numbers])
    table = pairs.prices.to_numpy()
    complete = np.isfinite(table)[:, legs].all(2)
    last, found = np.empty(legs.shape), dict[str, np.ndarray]()
    for some in _group_alike(complete):
        # (time, leg, pair): sums over time are then those of one pair alone, to the last bit
        prices = table[complete[:, some[0]]][:, legs[some].T]
        last[some] = prices[-1].T
        for name, values in habits_of(prices, pairs.transform)._asdict().items():
            by_pair = np.moveaxis(values, -1, 0)
            made = found.setdefault(HABIT + name, np.empty((len(legs), *by_pair.shape[1:])))
            made[some] = by_pair
    return {"last_y": last[:, 0], "last_x": last[:, 1]} | found


def _group_alike(
    rows: Bool[np.ndarray, "time pair"],
) -> Iterator[Int[np.ndarray, "some"]]:
    """The pairs that have the same rows, at most `ALIKE` of them at a time."""
    groups: dict[bytes, list[int]] = {}
    for number, one in enumerate(np.packbits(rows, 0).T):
        groups.setdefault(one.tobytes(), []).append(number)
    for some in groups.values():
        for at in range(0, len(some), ALIKE):
            yield np.array(some[at : at + ALIKE])


def _place(
    values: Shaped[np.ndarray, "fitted ..."], good: list[int], count: int
) -> Shaped[np.ndarray, "{count} ..."]:
    """Put the values of fitted pairs at their places among `count`, NaN elsewhere."""
    values = np.asarray(values)
    empty = False if values.dtype == bool else np.nan
    placed = np.full((count, *values.shape[1:]), empty, values.dtype)
    placed[good] = values[: len(good)]
    return placed
