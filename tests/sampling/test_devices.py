"""Functions that are compiled as they are written."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import monitoring

from kfmodels.sampling.devices import compile_little


@compile_little("power")
def raise_to(x, *, power: int):
    return x**power


def test_it_is_compiled_once_for_all_of_a_shape():
    compiled: list[str] = []

    def hear(name: str, _: float, **said: str) -> None:
        if name.endswith("backend_compile_duration"):
            compiled.append(said["fun_name"])

    monitoring.register_event_duration_secs_listener(hear)
    try:
        for first in range(3):
            x = np.arange(first, first + 5.0, dtype=np.float32)
            np.testing.assert_allclose(raise_to(x, power=3), x**3)
    finally:
        monitoring.unregister_event_duration_listener(hear)
    assert compiled == ["jit(raise_to)"]


def test_within_a_compiled_function_it_is_a_part_of_that():
    """JAX refuses options of the compiler there."""
    x = jnp.arange(5.0)
    found = jax.jit(jax.vmap(lambda one: 2 * raise_to(one, power=2)))(x)
    np.testing.assert_allclose(found, 2 * x**2)
