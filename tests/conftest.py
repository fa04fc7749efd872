"""What several test files share."""

import gc
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"
MAPS = Path("/proc/self/maps")
MANY = 15_000
"""Memory maps, of the 65,530 that Linux grants a process: every program XLA compiles holds some."""


class Programs:
    """Forgets what was compiled for one file before the next one begins."""

    last: Path | None = None

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self.last not in (None, item.path) and held() > MANY:
            jax.clear_caches()
            gc.collect()
        self.last = item.path


def held() -> int:
    """Memory maps of this process, 0 where the system does not count them."""
    return MAPS.read_bytes().count(b"\n") if MAPS.exists() else 0


def pytest_configure(config: pytest.Config) -> None:
    # a hook of this file would not see the examples in kfmodels/
    config.pluginmanager.register(Programs(), "programs")


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
