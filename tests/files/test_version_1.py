"""Files of the first versions, of which `version_1` holds one each: refused in words, and untouched."""

import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from kfmodels.batch.store import Store
from kfmodels.files.count import Count
from kfmodels.files.log import Journal
from kfmodels.live.feed import LiveFilter
from kfmodels.online.board import OnlineBoard
from kfmodels.online.filter import OnlineFilter
from tests.made_filters import made_filter

OLD = Path(__file__).parent / "version_1"


def open_live(folder: Path) -> LiveFilter:
    engine = made_filter(draws=3, discounted=True, gaps=("overnight",))
    return LiveFilter(engine, journal=folder / "live.journal")


REFUSED = [
    (lambda folder: OnlineFilter.load(folder / "filter.json"), "make one with fit.online"),
    (lambda folder: OnlineBoard.load(folder / "board.json"), "make one with board.online"),
    (Store.open, r"make one with fit_many\(..., store=...\) in a new folder"),
    (open_live, "begin a new journal"),
]


@pytest.mark.parametrize(("use", "remedy"), REFUSED)
def test_a_file_of_version_1_is_refused_and_left_as_it_is(use, remedy, tmp_path):
    folder = shutil.copytree(OLD, tmp_path / "old")
    Count(folder / "live.journal-count", 4).close()
    before = {file.name: sha256(file.read_bytes()).digest() for file in OLD.iterdir()}
    with pytest.raises(ValueError, match=f"written by an older kfmodels .format .*: {remedy}"):
        use(folder)
    del before["live.journal"]
    assert (
        before.items()
        <= {f.name: sha256(f.read_bytes()).digest() for f in folder.iterdir()}.items()
    )
    found = Journal.read(folder / "live.journal")  # the log itself is of one version until now
    assert (found.snapshot["version"], found.snapshot_seq, found.last_seq) == (2, 3, 4)
