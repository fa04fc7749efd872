"""The posteriors of some pairs, with effort where it is needed: a quick pass, and more for the hard."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from kfmodels._types import Bool, Float, Int, UInt32
from kfmodels._types import JaxArray as Array
from kfmodels.batch.blocks import finish, start
from kfmodels.data.arrays import Inputs
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.sampling import posterior
from kfmodels.sampling.amis import Effort, Size, Weighted
from kfmodels.sampling.devices import by_device
from kfmodels.sampling.importance import (
    MAX_ERROR,
    MAX_QUICK_K,
    ImportanceSampling,
    draw_start,
    explore_from,
)
from kfmodels.sampling.nuts import MAX_PARETO_K, weights_failed
from kfmodels.sampling.psis import pick_evenly

MAX_EVIDENCE_ERROR = 0.1
"""Monte-Carlo error of the evidence of a static ratio, in nats, beyond which it gets all rounds."""


def explore_pairs(
    inputs: Inputs,
    keys: UInt32[np.ndarray, "pair 2"],
    seed: int,
    model: HedgeRatioModel,
    method: ImportanceSampling,
    size: int,
    *,
    against_static: bool = True,
) -> tuple[Weighted, Float[np.ndarray, "pair"], Float[np.ndarray, "pair"]]:
    """Draw from the posterior of every pair, and integrate it with a ratio that stands still.

    Returns:
        The weighted draws, by how many nats the ratio that stands still does better (NaN where it
        cannot be told), and the Monte-Carlo error of that.
    """
    quick = model.without_times(inputs)
    count, coefs = quick.design.shape[0], quick.design.shape[-1]
    still, seeds = np.zeros((count, coefs)), np.full(count, seed, np.uint32)
    begin = by_device(_draw_start, (model,), size)
    starts = finish(start(begin, (posterior.without_rows(quick, model), seeds), size))
    run = _Explore(model, method.size)
    every = start(partial(run, method.quick), (starts, quick, keys, still), size)
    twin = None
    if against_static and "delta_beta" in starts:
        # a ratio that stands still does not read its delta, whose prior integrates to 1
        left_out = frozenset(["delta_beta"]) if len(starts) > 1 else frozenset()
        still = still + model.follows(coefs)
        run_static = _Explore(model, method.static_size, left_out)
        given = starts, quick, keys, still
        twin = finish(start(partial(run_static, method.quick_static), given, size))
        hard = ~((twin.evidence_error <= MAX_EVIDENCE_ERROR) & (twin.pareto_k <= MAX_QUICK_K))
        twin = _try_again(twin, hard, run_static, given, size, method.thorough)
    found = finish(every)
    hard = ~((found.moment_error <= MAX_ERROR) & (found.pareto_k <= MAX_QUICK_K))
    hard |= _failed(found)
    points, log_weights = (leaf[:, : method.kept] for leaf in (found.points, found.log_weights))
    found = found._replace(points=points, log_weights=log_weights)
    found = _try_again(found, hard, run, (starts, quick, keys, 0 * still), size, method.thorough)
    if twin is None:
        unknown = np.full(count, np.nan)
        return found, unknown, unknown
    factor = twin.log_evidence - found.log_evidence
    reliable = np.maximum(twin.pareto_k, found.pareto_k) <= MAX_PARETO_K
    error = np.hypot(twin.evidence_error, found.evidence_error)
    return found, np.where(reliable, factor, np.nan), error


def _try_again(
    found: Weighted,
    hard: Bool[np.ndarray, "pair"],
    run: "_Explore",
    given: tuple,
    size: int,
    efforts: tuple[Effort, ...],
) -> Weighted:
    """Draw the hard pairs anew with all rounds, and once more those whose weights fail even so.

    As many draws are put in their places as the others have; a later effort, only where it is better.
    """
    new, count = jax.tree.map(np.array, found), found.points.shape[1]
    for number, effort in enumerate(efforts):
        places = np.flatnonzero(hard)
        if not len(places):
            break
        some = jax.tree.map(lambda leaf, places=places: leaf[places], given)
        again = finish(start(partial(run, effort), some, size))
        better = np.isfinite(again.pareto_k)
        if number:
            better &= ~(again.pareto_k >= new.pareto_k[places])
        if again.points.shape[1] > count:
            again = _thin(again, count)
        for old, leaf in zip(new, again, strict=True):
            old[places[better]] = leaf[better]
        hard = hard & _failed(new)
    return new


def _failed(found: Weighted) -> Bool[np.ndarray, "pair"]:
    return np.array([bool(note) for note in weights_failed(found)])


def _thin(found: Weighted, count: int) -> Weighted:
    """Keep `count` of the draws: the heavy ones as they are, of the light ones some, at one weight.

    Source: Fearnhead and Clifford (2003), On-line inference for hidden Markov models via particle
    filters, JRSS B 65: no other choice that keeps every mean on average changes a weight less.
    """
    weights = np.exp(np.asarray(found.log_weights))
    weights = np.maximum(weights, 1e-200 * weights.max(1, keepdims=True))
    log_weights, picked = choose(weights, np.asarray(found.points)[..., 0], count)
    points = np.take_along_axis(np.asarray(found.points), picked[..., None], 1)
    return found._replace(points=points, log_weights=log_weights)


def choose(
    weights: Float[np.ndarray, "pair draw"], order_by: Float[np.ndarray, "pair draw"], count: int
) -> tuple[Float[np.ndarray, "pair {count}"], Int[np.ndarray, "pair {count}"]]:
    """Log weights and places of `count` of the draws of every pair; see `_thin`."""
    low, high = np.log(weights.min(1)) - 20, np.log(weights.max(1))
    for _ in range(100):  # bisect for the weight of the light draws: the shares then sum to `count`
        middle = (low + high) / 2
        many = np.minimum(weights / np.exp(middle)[:, None], 1).sum(1) > count
        low, high = np.where(many, middle, low), np.where(many, high, middle)
    least = np.exp(high)[:, None]
    share = np.minimum(weights / least, 1)
    picked = np.stack([pick_evenly(*one, count) for one in zip(share, order_by, strict=True)])
    heavy = np.maximum(np.take_along_axis(weights, picked, 1), least)
    return np.log(heavy / heavy.sum(1, keepdims=True)), picked


def _draw_start(
    inputs: Inputs, seeds: UInt32[Array, "pair"], *, settings: tuple[HedgeRatioModel]
) -> dict[str, Float[Array, "pair draw ..."]]:
    return draw_start(seeds[0], inputs, model=settings[0])


class _Explore(NamedTuple):
    """Draws from the posteriors of a block of pairs, of a given effort."""

    model: HedgeRatioModel
    size: Size
    left_out: frozenset[str] = frozenset()

    def __call__(
        self,
        effort: Effort,
        starts: dict[str, Float[np.ndarray, "pair draw ..."]],
        inputs: Inputs,
        keys: UInt32[np.ndarray, "pair 2"],
        still: Float[np.ndarray, "pair coef"],
    ) -> Weighted:
        given = starts, inputs, keys, still, effort
        return explore_from(*given, model=self.model, size=self.size, left_out=self.left_out)
