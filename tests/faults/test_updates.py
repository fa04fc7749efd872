"""Two runs of `kfmodels update` at once: each change is kept, one after the other."""

from pathlib import Path

import pytest

from kfmodels import HedgeData, OnlineFilter, datasets
from kfmodels.files.lock import hold, writing
from tests.command import kfmodels
from tests.faults import updates
from tests.faults.attacks import MANY
from tests.problems import unsampled
from tests.processes import python


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with a fit and the filter that was kept beside it."""
    folder = tmp_path_factory.mktemp("desk")
    table = datasets.stocks()[["XOM", "CVX"]].loc["2021"]
    unsampled(HedgeData.from_prices(table, target="XOM", hedges=["CVX"])).save(folder / "pair.nc")
    kfmodels("update", "pair.nc", "--rescale", "XOM=1", folder=folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [3, pytest.param(100, marks=MANY)])
def test_of_two_updates_at_once_none_is_lost(pairs: int, desk: Path):
    kept = desk / "pair.nc.live.json"
    expected = OnlineFilter.load(kept)
    before = expected.last["XOM"]
    server = python(updates.__file__)
    printed, noted = server.communicate(f"{desk}\t{pairs}\n", timeout=60 + 10 * pairs)
    assert printed.split("\n") == ["0 0"] * pairs + ["end", ""], noted
    for _ in range(2 * pairs):
        expected.requote({"XOM": 1.1})
    found = OnlineFilter.load(kept)
    assert found.to_json() == expected.to_json()
    assert found.last["XOM"] == pytest.approx(before * 1.1 ** (2 * pairs))


def test_one_that_waits_too_long_says_for_whom(tmp_path: Path):
    holder = hold(tmp_path / "a")
    assert holder is not None
    with pytest.raises(ValueError, match="a is in use by another process: wait until that one"):  # noqa: SIM117
        with writing(tmp_path / "a", wait=0.05):
            pass
    holder.close()
    with writing(tmp_path / "a", wait=0.05):
        assert hold(tmp_path / "a") is None
    with pytest.raises(ValueError, match="cannot be written: give the name of a file in a folder"):  # noqa: SIM117
        with writing(tmp_path / "none" / "a"):
            pass
