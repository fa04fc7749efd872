"""Files that kfmodels wrote before its formats were of version 2: read, or refused in one sentence.

`version_1` holds such files, and in `said.json` what the filters in them said of the next row.
"""

import json
import shutil
from pathlib import Path

import pytest
from numpy.testing import assert_allclose

from kfmodels.batch.store import Store
from kfmodels.clock.clock import Clock
from kfmodels.files.log import Journal
from kfmodels.live.feed import LiveFilter
from kfmodels.online.board import OnlineBoard
from kfmodels.online.filter import OnlineFilter
from tests.made_filters import feed, made_filter

OLD = Path(__file__).parent / "version_1"
SAID = json.loads((OLD / "said.json").read_text())
ROWS = feed(6)


def assert_says(name: str, tick) -> None:
    beta = tick.beta["SPY"] if hasattr(tick.beta, "keys") else tick.beta
    assert_allclose([beta, tick.alpha, tick.spread, tick.spread_sd], SAID[name], rtol=1e-12)


@pytest.mark.parametrize(("name", "row"), [("filter", 3), ("discount", 0)])
def test_a_saved_filter_goes_on_and_is_saved_as_the_version_of_now(name, row, tmp_path):
    old = OnlineFilter.load(OLD / f"{name}.json")
    old.save(tmp_path / "now.json")
    assert json.loads((tmp_path / "now.json").read_text())["version"] == 2
    prices, at = ROWS[row]
    for live in (old, OnlineFilter.load(tmp_path / "now.json")):
        assert_says(name, live.update(y=prices["XLE"], x=prices, at=at))


def test_a_saved_board_goes_on():
    prices, at = ROWS[3]
    assert_says("board", OnlineBoard.load(OLD / "board.json").update(prices, at=at))


def test_a_journal_is_gone_on_with(tmp_path):
    path = tmp_path / "live.journal"
    shutil.copy(OLD / path.name, path)
    found = Journal.read(path)
    assert (found.snapshot_seq, found.last_seq) == (3, 4)
    engine = made_filter(draws=3, discounted=True, gaps=("overnight",))
    with LiveFilter(engine, clock=Clock("1min"), journal=path) as live:
        prices, at = ROWS[4]
        assert_says("live", live.tick(prices, at=at).tick)
    assert Journal.read(path).last_seq == 5


def test_the_folder_of_a_batch_is_refused_and_left_as_it_is(tmp_path):
    shutil.copy(OLD / "manifest.jsonl", tmp_path)
    says = r"was written by an older kfmodels \(format 1, this one reads from 2 on\): make one with"
    with pytest.raises(ValueError, match=says):
        Store.open(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.jsonl"]
