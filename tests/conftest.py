"""What all test files share: a compilation cache, and what happens where a price table is not here."""

import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.programs import keep_programs

keep_programs(optimised=False)

import jaxtyping  # noqa: E402

from tests import checking  # noqa: E402, F401 - the hook finds it by its name

CHECKED = [
    *[f"kalman.{name}" for name in ("kernel", "likelihood", "logarithm", "regression", "scan")],
    *["model", "sampling", "fitting.passes", "batch.chunk"],
]
"""Rooms and files whose annotations name axes: their calls are checked against them.

Not imported before this. The rest of `kalman` writes `Any` for an array; checking it says nothing, and
takes four fifths of the time of a tick.
"""
jaxtyping.install_import_hook([f"kfmodels.{name}" for name in CHECKED], "tests.checking.check")

import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from jax import monitoring  # noqa: E402

from tests.tables import MissingTableError  # noqa: E402

settings.register_profile("first", max_examples=20, deadline=None)
settings.register_profile("night", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "first"))

MAPS = Path("/proc/self/maps")
MANY = 15_000
"""Memory maps, of the 65,530 that Linux grants a process: every program XLA compiles holds some."""


class Programs:
    """Forgets what was compiled for one file before the next one begins, where it grows too much.

    What stays is kept out of later searches for garbage, which went through a million objects again
    and again: a tenth of the time of the first tests, more of the last.
    """

    last: Path | None = None

    def pytest_collection_finish(self) -> None:
        keep_what_lives()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self.last not in (None, item.path):
            if held() > MANY:
                jax.clear_caches()
                gc.unfreeze()
            keep_what_lives()
        self.last = item.path


def keep_what_lives() -> None:
    gc.collect()
    gc.freeze()


class Tables:
    """Skips, and says why, where a test or a fixture asks for a table that is not on this machine."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Iterator[None]:
        return (yield from asked())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        return (yield from asked())


class Slow:
    """Marks as slow docstrings that sample and what is nightly, and all but the first of `variants`.

    Where a test is slow already, the others of its variants are left to the night.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        for item in items:
            sampled = isinstance(item, pytest.DoctestItem) and samples(item)
            if sampled and item.name.endswith(NIGHTLY):
                item.add_marker("nightly")
            varied = item.get_closest_marker("variants") and any(item.callspec.indices.values())
            if varied and item.get_closest_marker("slow"):
                item.add_marker("nightly")
            if sampled or varied or item.get_closest_marker("nightly"):
                item.add_marker("slow")


SAMPLING = re.compile(
    r"[ (]fit\(|fit_many\(|calibrate\(|refresh\(|KalmanRegression\(|pool_draws\(|likelihood_surface\("
    r"|prior_predictive\(|hedge_effectiveness\(|\.implies\(|published\.table\(|published_bands\("
)
"""Calls in an example that compile or sample for seconds."""

NIGHTLY = ("pool_draws", "plots.reversion.reversion")
"""Names whose example takes most of a minute, and shows what a test of CI asserts."""


def samples(item: pytest.DoctestItem) -> bool:
    test: Any = item.dtest
    return any(SAMPLING.search(example.source) for example in test.examples)


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
    config.pluginmanager.register(Slow(), "slow")


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for one test; `jax.config` is never touched."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """Every program that XLA compiles while the test runs, in any thread."""
    seen: list[str] = []

    def note(event: str, _: float, **__: object) -> None:
        if "backend_compile" in event:
            seen.append(event)

    monitoring.register_event_duration_secs_listener(note)
    yield seen
    monitoring.unregister_event_duration_listener(note)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """What a user sees of an argument of the wrong kind: the check of types would speak first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
