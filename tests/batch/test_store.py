"""The folder of a batch: what is written is read back, and what is torn or changed is noticed."""

import json
import random
import shutil
from datetime import timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from kfmodels.batch.store import (
    CHUNKS,
    FINISHED,
    JOB,
    PRICES,
    Store,
    describe_pairs,
    hold_store,
    pack,
    read_pairs,
    write_pairs,
)
from kfmodels.data.hedge_data import HedgeData
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.files.log import Journal
from tests.batch_script import prices
from tests.journal_writer import acknowledged, store_chunk, store_job, writers

SETTINGS = {"seed": 1, "chunk_size": 3, "versions": {"jax": "1"}}


def pairs(table: pd.DataFrame | None = None, **options) -> HedgePairs:
    return HedgeData.all_pairs(prices() if table is None else table, **options)


def job(some: HedgePairs) -> dict:
    return SETTINGS | describe_pairs(some)


def made(path: Path, chunks: tuple[int, ...] = (0, 1)) -> Store:
    """A store with some finished chunks."""
    with hold_store(path, job(pairs()), pairs()) as writer:
        for number in chunks:
            names = [writer.store.names[place] for place in writer.store.chunks[number]]
            statuses = [f'{name}: "-1.5" at 2024-01-02, ≤ 0\n' for name in names]
            arrays = {"points": np.full((len(names), 2), np.pi * number), "k": np.full(3, np.nan)}
            writer.add(writer.store.write(number, arrays, statuses))
    return Store.open(path)


def content(path: Path) -> dict[str, object]:
    """Everything in a folder, the journal by what it says."""
    files = {str(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
    named = {name: file.read_bytes() for name, file in files.items() if FINISHED not in name}
    return {**named, FINISHED: Journal.read(path / FINISHED)}


INDEXES = {
    "dates": pd.bdate_range("2024-01-01", periods=40, name="date"),
    "seconds": pd.bdate_range("2024-01-01", periods=40, unit="s"),
    "New York": pd.bdate_range("2024-03-01", periods=40, tz="America/New_York"),
    "an offset": pd.bdate_range("2024-03-01", periods=40, tz=timezone(-timedelta(hours=5))),
    "numbers": pd.RangeIndex(5, 45),
    "small numbers": pd.Index(np.arange(40, dtype="int32"), name="bar"),
}


@pytest.mark.parametrize("kind", INDEXES)
@pytest.mark.parametrize("transform", ["log", "level"])
def test_prices_and_pairs_are_read_back_as_they_were(tmp_path, kind, transform):
    table = prices().set_axis(INDEXES[kind])
    table["AÄ≤"] = [*table["A"].iloc[:-1], -3.0]
    given = pairs(table, transform=transform)
    write_pairs(tmp_path / "a.npz", given)
    found = read_pairs(tmp_path / "a.npz")
    pd.testing.assert_frame_equal(
        found.prices, given.prices, check_freq=False, check_index_type="equiv"
    )
    assert found.index.dtype == given.index.dtype
    for name in ("pairs", "transform", "faults", "names"):
        assert getattr(found, name) == getattr(given, name)
    assert bool(found.faults) == (transform == "log")
    assert describe_pairs(found) == describe_pairs(given)
    write_pairs(tmp_path / "b.npz", found)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_time_zone_without_a_name_is_refused(tmp_path):
    table = prices().tz_localize("UTC").tz_convert("dateutil/Europe/Berlin")
    with pytest.raises(ValueError, match=r'time zone tzfile.*use prices.tz_convert\("UTC"\)'):
        write_pairs(tmp_path / "a.npz", pairs(table))
    assert not list(tmp_path.iterdir())


def test_the_digest_sees_every_change_of_the_data():
    table = prices()
    nudged, renamed = table.copy(), table.rename(columns={"E": "F"})
    nudged.iloc[3, 2] = np.nextafter(nudged.iloc[3, 2], 200)
    given = [table, nudged, renamed, table.iloc[1:], table.shift(freq="D")]
    given += [table.tz_localize("UTC"), table.fillna(100.0)]
    seen = [describe_pairs(pairs(one))["prices"]["sha256"] for one in given]
    assert len(set(seen)) == len(given)
    other_nan = table.copy()
    other_nan.iloc[-1, 4] = np.uint64(0x7FF8000000000123).view(np.float64)
    assert describe_pairs(pairs(other_nan)) == describe_pairs(pairs(table))


def test_what_was_written_is_read_back(tmp_path):
    store = made(tmp_path / "a" / "b", (1, 0))
    records = store.records()
    assert list(records) == [1, 0]
    assert records[1].names == ["A/E", "B/A", "B/C"]
    assert records[1].statuses[1] == 'B/A: "-1.5" at 2024-01-02, ≤ 0\n'
    found = store.arrays(records[1])
    assert_array_equal(found["points"], np.full((3, 2), np.pi))
    assert np.isnan(found["k"]).all()
    assert [place for chunk in store.chunks for place in chunk] == list(range(20))
    assert [len(chunk) for chunk in store.chunks] == [3] * 6 + [2]


def test_arrays_of_another_length_or_of_objects_are_refused(tmp_path):
    store = made(tmp_path)
    with pytest.raises(ValueError, match="chunk 6 has 2 pairs, but not points"):
        store.write(6, {"points": np.zeros(3)}, ["ok", "ok"])
    with pytest.raises(ValueError, match="chunk 6 has 2 pairs, but not statuses"):
        store.write(6, {}, ["ok"])
    with pytest.raises(ValueError, match="points holds Python objects"):
        pack({"points": np.array([{}])})


def test_a_damaged_or_missing_chunk_is_noticed_and_done_again(tmp_path):
    store = made(tmp_path, (0, 1, 2))
    zero, one, two = store.records().values()
    file = tmp_path / CHUNKS / zero.file
    bad = bytearray(file.read_bytes())
    bad[200] ^= 1
    file.write_bytes(bad)
    (tmp_path / CHUNKS / one.file).unlink()
    with pytest.raises(ValueError, match="is damaged: run fit_many again with this store"):
        store.arrays(zero)
    with pytest.raises(ValueError, match="is missing: run fit_many again with this store"):
        store.arrays(one)
    with hold_store(tmp_path, job(pairs()), pairs()) as writer:
        assert writer.store.records() == {2: two}
        assert [kept.name for kept in (tmp_path / CHUNKS).iterdir()] == [two.file]
    assert list(made(tmp_path, (1,)).records()) == [2, 1]


def test_a_damaged_journal_is_refused_and_no_chunk_lost(tmp_path):
    made(tmp_path)
    log = tmp_path / FINISHED
    whole = log.read_bytes()
    log.write_bytes(whole.replace(b'"chunk":1', b'"chunk":2'))
    before = sorted(tmp_path.rglob("*"))
    for use in (made, lambda path: Store.open(path).records()):
        with pytest.raises(ValueError, match=f"{FINISHED} is damaged .message 2 is not as it was"):
            use(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    log.write_bytes(whole)
    assert list(made(tmp_path, ()).records()) == [0, 1]


def test_a_journal_that_lost_chunks_is_said_and_they_are_done_again(tmp_path):
    made(tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "early")
    made(tmp_path / "store", (2,))
    shutil.copy(tmp_path / "early" / FINISHED, tmp_path / "store" / FINISHED)
    says = "finished stands at message 2, but 3 were acknowledged"
    with pytest.raises(ValueError, match=f"{says}.* run fit_many again with this store, which"):
        Store.open(tmp_path / "store").records()
    with pytest.warns(
        UserWarning, match=f"{says}.*; chunks that it does not list are fitted again"
    ):
        again = made(tmp_path / "store", (3,))
    assert list(again.records()) == [0, 1, 3]


def test_damaged_prices_are_written_anew(tmp_path):
    made(tmp_path)
    before = (tmp_path / PRICES).read_bytes()
    for content in (b"", before[:-9], before[:500] + b"x" * 100 + before[600:]):
        (tmp_path / PRICES).write_bytes(content)
        with pytest.raises(ValueError, match=r"prices in .* cannot be read .*writes them anew"):
            _ = Store.open(tmp_path).pairs
        made(tmp_path, ())
        assert (tmp_path / PRICES).read_bytes() == before


def test_leftovers_of_killed_workers_are_removed_and_nothing_else(tmp_path):
    before = content(made(tmp_path).path)
    for name in (f"{CHUNKS}/.000004-ab.npz.x1.tmp", f".{JOB}.x.tmp", f"{CHUNKS}/000004-ab.npz"):
        (tmp_path / name).write_bytes(b"half")
    made(tmp_path, ())
    assert content(tmp_path) == before


def test_a_store_killed_before_its_job_was_written_is_still_of_that_job(tmp_path):
    before = content(made(tmp_path).path)
    (tmp_path / JOB).unlink()
    other = job(pairs()) | {"seed": 2}
    says = f"{FINISHED} is the journal of 'job .*', not of 'job .*'"
    with pytest.raises(ValueError, match=says), hold_store(tmp_path, other, pairs()):
        pass
    made(tmp_path, ())
    assert content(tmp_path) == before


def of_newer(path: Path) -> Path:
    made(path)
    (path / JOB).write_text(json.dumps(json.loads((path / JOB).read_text()) | {"version": 5}))
    return path


def of_others(path: Path) -> Path:
    (path / "thesis.txt").touch()
    return path


def without_words(path: Path) -> Path:
    made(path)
    (path / JOB).write_text("date,A,B")
    return path


REFUSED = [
    (of_newer, r"newer kfmodels \(format 5, this one reads up to 4\): upgrade"),
    (without_words, "job.json is not a batch of fits, .*, or make one with fit_many"),
    (of_others, r"holds other files \(thesis.txt\) and no batch of fits: give store a new or an"),
    (lambda path: path / __file__, "store is a folder; .* is a file"),
]


@pytest.mark.parametrize(("make", "says"), REFUSED)
def test_other_folders_are_refused_and_left_as_they_are(tmp_path, make, says):
    path = make(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=says):
        made(path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_folder_without_a_store_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match=r"holds no batch of fits: make one with fit_many"):
        Store.open(tmp_path)


@pytest.mark.faults
@pytest.mark.nightly
def test_after_sigkill_at_any_moment_no_finished_chunk_is_lost_or_done_twice(tmp_path):
    draw = random.Random()
    seed = draw.randrange(2**32)
    draw.seed(seed)
    job, pairs = store_job()
    interrupted = 0
    with writers("store") as server:
        for kill in range(100):
            if kill % 5 == 0:  # a new folder, so that making one is interrupted too
                path, done = tmp_path / str(kill), set()
            said = acknowledged(server, str(path), draw.uniform(0, 0.25))
            where = f"seed {seed}, kill {kill}, {path}"
            assert done.isdisjoint(said), where
            with hold_store(path, job, pairs) as writer:
                found = writer.store.records()
                assert done | set(said) <= set(found), where
                assert len(set(found) - done - set(said)) <= 1, where
                done = set(found)
                for number, record in found.items():
                    arrays, statuses = store_chunk(number)
                    assert_array_equal(writer.store.arrays(record)["points"], arrays["points"])
                    assert record.statuses == statuses
                files = {file.name for file in (path / CHUNKS).iterdir()}
                assert files == {record.file for record in found.values()}, where
                interrupted += 0 < len(found) < len(writer.store.chunks)
    assert interrupted > 10
