"""What all test files share: a compilation cache, and what happens where a price table is not here."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

CACHE = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".pytest_cache" / "jax"),
    # bounded: only then does JAX lock what workers and the processes that tests start share
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**31),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
for name, value in CACHE.items():
    os.environ.setdefault(name, value)  # before JAX is imported, here and in what tests start

import jax  # noqa: E402
import pytest  # noqa: E402

from tests.tables import MissingTableError  # noqa: E402

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


class Tables:
    """Skips, and says why, where a test or a fixture asks for a table that is not on this machine."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Iterator[None]:
        return (yield from asked())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        return (yield from asked())


def asked() -> Iterator[None]:
    try:
        yield
    except MissingTableError as error:
        pytest.skip(str(error))


def held() -> int:
    """Memory maps of this process, 0 where the system does not count them."""
    return MAPS.read_bytes().count(b"\n") if MAPS.exists() else 0


def pytest_configure(config: pytest.Config) -> None:
    # hooks of this file would not see the examples in kfmodels/
    config.pluginmanager.register(Programs(), "programs")
    config.pluginmanager.register(Tables(), "tables")


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for one test; `jax.config` is never touched."""
    with jax.enable_x64(True):
        yield
