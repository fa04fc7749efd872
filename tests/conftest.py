"""What several test files share."""

from collections.abc import Iterator
from pathlib import Path

import tests.cache  # noqa: F401

# isort: split
import jax
import pytest

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
