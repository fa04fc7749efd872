"""What several test files share."""

import os
from collections.abc import Iterator
from pathlib import Path

# what one worker, notebook or command has compiled need not be compiled by the others
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax  # noqa: E402
import pytest  # noqa: E402

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for one test; `jax.config` is never touched."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def shared_data() -> Path:
    """The folder with the price tables that ORACLES.md speaks of."""
    if not DATA.is_dir():
        pytest.skip(f"the shared price tables are not here: {DATA} does not exist")
    return DATA
