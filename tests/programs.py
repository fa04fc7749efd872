"""What JAX compiles in tests and notebooks is kept in a folder that all their processes share."""

import os
from pathlib import Path

SETTINGS = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".pytest_cache" / "jax"),
    # bounded: only then does JAX lock what several processes read and write
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**31),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
UNOPTIMISED = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
"""What quick tests run is short; without optimisation it is compiled in two thirds of the time."""


def keep_programs(*, optimised: bool = True) -> None:
    """Set the environment of this process and of all it starts; call it before JAX is imported."""
    for name, value in (SETTINGS | ({} if optimised else UNOPTIMISED)).items():
        os.environ.setdefault(name, value)
