"""Pairs whose importance weights fail are fitted again with NUTS, one by one."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import numpy as np
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

from kfmodels.fitting.hedge_fit import MAX_PARETO_K, MAX_RHAT, MIN_ESS, MIN_WEIGHTED
from kfmodels.sampling import prior as priors
from kfmodels.sampling import ridge
from kfmodels.sampling.amis import Weighted
from kfmodels.sampling.importance import layout_of
from kfmodels.sampling.nuts import NUTS

_METHOD = NUTS()


def refitted(
    found: Weighted, inputs: Any, model: Any, seeds: np.ndarray, numbers: Iterable[int]
) -> tuple[Weighted, list[str], np.ndarray]:
    """The draws with those of failed pairs replaced, a status by pair, and which were replaced.

    `seeds (pair,)` are those of the sampler. A pair fails above a Pareto k-hat of 0.7 or below 200
    effective draws. Its evidence stays as it was; its k-hat too, for the record.
    """
    found = jax.tree.map(np.array, found)
    notes, redone = [], np.zeros(len(found.pareto_k), bool)
    for number in numbers:
        k, ess = found.pareto_k[number], found.effective_draws[number]
        if k <= MAX_PARETO_K and ess >= MIN_WEIGHTED:
            notes.append("ok")
            continue
        alone = jax.tree.map(lambda leaf, n=number: leaf[n], inputs)
        points, rhat, drawn = _by_nuts(alone, model, int(seeds[number]))
        count = found.points.shape[1]
        found.points[number] = points[(np.arange(count) * len(points)) // count]
        found.log_weights[number] = -np.log(count)
        found.effective_draws[number] = drawn
        redone[number] = True
        fine = rhat <= MAX_RHAT and drawn >= MIN_ESS
        first = f"Pareto k-hat {k:.2f}" if k > MAX_PARETO_K else f"{ess:.0f} effective draws"
        again = f"R-hat {rhat:.2f}, {drawn:.0f} effective draws"
        notes.append("ok" if fine else f"{first}, after NUTS refit {again}")
    return found, notes, redone


def _by_nuts(inputs: Any, model: Any, seed: int) -> tuple[np.ndarray, float, float]:
    """Unconstrained, straightened points in the order of the draws; R-hat and effective draws."""
    drawn = _METHOD.run(model, inputs, seed, False)
    pairs = jax.tree.map(lambda leaf: np.asarray(leaf)[None], inputs)
    layout = layout_of(pairs, model)
    free = {name: priors.to_free(name, drawn.sites[name]) for name in layout.shapes}
    straight = jax.vmap(jax.vmap(partial(ridge.straight, bent=model.bent)))(free)
    points = np.asarray(layout.pack(straight))
    rhat = float(np.max(split_gelman_rubin(points)))
    ess = float(np.min(effective_sample_size(points)))
    return points.swapaxes(0, 1).reshape(-1, points.shape[-1]), rhat, ess
