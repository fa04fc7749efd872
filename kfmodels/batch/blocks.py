"""Pairs in blocks of one shape, so that one compiled program takes them all.

The last block is filled up with its first pair.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, PartitionSpec


def finish(pending: list[tuple[int, Any]]) -> Any:
    """Wait for blocks and join their pairs, on the host."""
    parts = [
        jax.tree.map(lambda leaf, count=count: leaf[:count], jax.device_get(part))
        for count, part in pending
    ]
    return jax.tree.map(lambda *leaf: np.concatenate(leaf), *parts)


def start(run: Callable, given: tuple, size: int, settings: Any = None) -> list[tuple[int, Any]]:
    """Start a compiled function on block after block of pairs; `finish` waits for it.

    `settings` are numbers, the same for all pairs, handed over as the last argument.
    """
    count = len(jax.tree.leaves(given)[0])
    pending = []
    for first in range(0, count, size):
        here = np.arange(first, min(first + size, count))
        places = np.concatenate([here, np.full(size - len(here), here[0])])
        block = jax.tree.map(lambda leaf, places=places: leaf[places], given)
        if settings is not None:
            block = (*block, jax.tree.map(lambda one: np.full(size, one), settings))
        pending.append((len(here), run(*block)))
    return pending


@lru_cache(maxsize=16)
def by_device(function: Callable, settings: tuple) -> Callable:
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
