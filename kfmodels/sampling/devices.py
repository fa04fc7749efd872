"""Compile functions: of many pairs, which the devices here share, and small ones, which run once."""

from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import AxisType, PartitionSpec

AS_WRITTEN = {"xla_backend_optimization_level": 0}
"""Options of XLA that halve the time to compile: of programs that take less to run than to compile."""


WIDE = {"xla_cpu_prefer_vector_width": 512}
"""Options of XLA for programs of many lanes: use the widest vectors that the processor has."""


def by_device(function: Callable, settings: tuple, pairs: int, *, rows: bool = True) -> Callable:
    """Compile `function(*arrays, settings=settings)`; the devices share so many pairs, if they can.

    One pair alone, where `rows` says that it reads none of a series, is compiled as it is written.
    """
    little = pairs == 1 and not rows
    return _compiled(function, settings, pairs % jax.local_device_count() == 0, little)


@lru_cache(maxsize=256)
def _compiled(function: Callable, settings: tuple, shared: bool, little: bool) -> Callable:
    # kept, because a new `jax.jit` at every call would compile each time
    run, count = partial(function, settings=settings), jax.local_device_count()
    options = AS_WRITTEN if little else WIDE
    if count == 1 or not shared:
        return jax.jit(run, compiler_options=options)
    # the default axis type, Explicit, would ask every array inside for its sharding
    mesh = jax.make_mesh(
        (count,), ("pair",), axis_types=(AxisType.Auto,), devices=jax.local_devices()
    )
    spec = PartitionSpec("pair")
    each = jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return jax.jit(each, compiler_options=options)


def compile_little(*static: str) -> Callable[[Callable], Callable]:
    """Compile, as it is written, a function that takes longer to compile than to run.

    `static` are names of arguments that are no arrays. Called with arrays of a function that is being
    compiled it is a part of that.
    """

    def wrap(function: Callable) -> Callable:
        alone = jax.jit(function, static_argnames=static, compiler_options=AS_WRITTEN)

        @wraps(function)
        def run(*given: Any, **named: Any) -> Any:
            within = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((given, named)))
            return (function if within else alone)(*given, **named)

        return run

    return wrap
