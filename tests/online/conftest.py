"""The two roads of a tick, on each of which the tests of the online filters run."""

import pytest

from kfmodels.online import blocks
from kfmodels.online.compiled import find_kernels


@pytest.fixture(params=["numpy", "compiled"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On which road the filters of a test take their rows, in processes that it starts too."""
    if request.param == "numpy":
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
        monkeypatch.setattr(blocks, "find_kernels", lambda: None)
    elif find_kernels() is None:
        pytest.skip("numba is not installed")
    return request.param
