"""Compiled functions of arrays `(pair, ...)`, whose pairs the devices here share."""

from collections.abc import Callable
from functools import lru_cache, partial

import jax
from jax.sharding import AxisType, PartitionSpec


def by_device(function: Callable, settings: tuple, pairs: int) -> Callable:
    """Compile `function(*arrays, settings=settings)`; the devices share so many pairs, if they can."""
    return _compiled(function, settings, pairs % jax.local_device_count() == 0)


@lru_cache(maxsize=256)
def _compiled(function: Callable, settings: tuple, shared: bool) -> Callable:
    # kept, because a new `jax.jit` at every call would compile each time
    run, count = partial(function, settings=settings), jax.local_device_count()
    if count == 1 or not shared:
        return jax.jit(run)
    # the default axis type, Explicit, would ask every array inside for its sharding
    mesh = jax.make_mesh(
        (count,), ("pair",), axis_types=(AxisType.Auto,), devices=jax.local_devices()
    )
    spec = PartitionSpec("pair")
    return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
