"""The folder of a batch: what is written is read back, and what is torn or changed is noticed."""

import json
import os
import resource
import time
import warnings
from datetime import timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from kfmodels.batch.store import (
    CHUNKS,
    LOCK,
    MANIFEST,
    PRICES,
    Record,
    Store,
    described,
    differences,
    held,
    packed,
    read_pairs,
    write_pairs,
)
from kfmodels.data.hedge_data import HedgeData
from kfmodels.data.hedge_pairs import HedgePairs
from tests.batch_script import prices

JOB = {"seed": 1, "chunk_size": 3, "versions": {"jax": "1"}}


def pairs(table: pd.DataFrame | None = None, **options) -> HedgePairs:
    return HedgeData.all_pairs(prices() if table is None else table, **options)


def job(some: HedgePairs) -> dict:
    return JOB | described(some)


def made(path: Path, chunks: tuple[int, ...] = (0, 1)) -> Store:
    """A store with some finished chunks."""
    with held(path, job(pairs()), pairs()) as journal:
        for number in chunks:
            names = [journal.store.names[place] for place in journal.store.chunks[number]]
            statuses = [f'{name}: "-1.5" at 2024-01-02, ≤ 0\n' for name in names]
            arrays = {
                "points": np.full((len(names), 2), np.pi * number),
                "k": np.array([np.nan] * 3),
            }
            journal.add(journal.store.write(number, arrays, statuses))
    return Store.open(path)


def files(path: Path) -> dict[str, bytes]:
    """Everything in a folder but the lock."""
    found = [file for file in path.rglob("*") if file.is_file() and file.name != LOCK]
    return {str(file.relative_to(path)): file.read_bytes() for file in found}


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
    assert (found.pairs, found.transform, found.faults, found.names) == (
        given.pairs,
        given.transform,
        given.faults,
        given.names,
    )
    assert bool(found.faults) == (transform == "log")
    assert described(found) == described(given)
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
    given = [
        table,
        nudged,
        renamed,
        table.iloc[1:],
        table.shift(freq="D"),
        table.tz_localize("UTC"),
        table.fillna(100.0),
    ]
    seen = [described(pairs(one))["prices"]["sha256"] for one in given]
    assert len(set(seen)) == len(given)
    other_nan = table.copy()
    other_nan.iloc[-1, 4] = np.uint64(0x7FF8000000000123).view(np.float64)
    assert described(pairs(other_nan)) == described(pairs(table))


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
        packed({"points": np.array([{}])})


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_is_not_there(tmp_path, kept):
    made(tmp_path)
    manifest = tmp_path / MANIFEST
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])
    assert list(Store.open(tmp_path).records()) == [0]
    store = made(tmp_path, (1,))
    assert list(store.records()) == [0, 1]
    assert manifest.read_bytes() == b"".join(lines)


def test_a_damaged_line_in_the_middle_counts_as_not_there(tmp_path):
    made(tmp_path)
    manifest = tmp_path / MANIFEST
    lines = manifest.read_bytes().splitlines(keepends=True)
    for damaged in (b"\x00" * 30 + b"\n", b"[1]\n", lines[1].replace(b"sha256", b"sha255")):
        manifest.write_bytes(lines[0] + damaged + lines[2])
        assert list(Store.open(tmp_path).records()) == [1]


def test_a_damaged_or_missing_chunk_is_noticed(tmp_path):
    store = made(tmp_path)
    zero, one = store.records().values()
    file = tmp_path / CHUNKS / zero.file
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)
    (tmp_path / CHUNKS / one.file).unlink()
    with pytest.raises(ValueError, match="is damaged: run fit_many again with this store"):
        store.arrays(zero)
    with pytest.raises(ValueError, match="is missing: run fit_many again with this store"):
        store.arrays(one)
    with held(tmp_path, job(pairs()), pairs()) as journal:
        assert journal.store.records() == {}
    assert not list((tmp_path / CHUNKS).iterdir())


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
    before = files(made(tmp_path).path)
    for name in (
        f"{CHUNKS}/.000004-ab.npz.x1.tmp",
        f".{MANIFEST}.x.tmp",
        f"{CHUNKS}/000004-ab.npz",
    ):
        (tmp_path / name).write_bytes(b"half")
    made(tmp_path, ())
    assert files(tmp_path) == before


def test_another_job_is_refused_and_nothing_changes(tmp_path):
    before = files(made(tmp_path).path)
    other = job(pairs()) | {"seed": 2, "versions": {"jax": "1", "numpy": "2"}}
    with (
        pytest.raises(ValueError, match="holds another job") as caught,
        held(tmp_path, other, pairs()),
    ):
        pass
    assert (
        f"{tmp_path} holds another job and is left as it is: seed was 1, is now 2; versions.numpy was "
        f'null, is now "2". Give this job a folder of its own, or delete {tmp_path}'
    ) == str(caught.value)
    assert files(tmp_path) == before


def test_differences_are_named():
    was = {"a": {"b": 1, "sha256": "0123456789"}, "c": [1, 2], "d": None}
    assert differences(was, was) == []
    now = {"a": {"b": 2, "sha256": "abcdef01234"}, "c": [1, 3], "d": {"e": 1}}
    assert differences(was, now) == [
        "a.b was 1, is now 2",
        "a (digest) was 01234567, is now abcdef01",
        "c was [1, 2], is now [1, 3]",
        'd was null, is now {"e": 1}',
    ]


def test_newer_formats_and_other_folders_are_refused(tmp_path):
    path = made(tmp_path / "store").path
    manifest = path / MANIFEST
    header, _, rest = manifest.read_text().partition("\n")
    newer = json.dumps(json.loads(header) | {"version": 2})
    manifest.write_text(f"{newer}\n{rest}")
    before = files(path)
    with pytest.raises(ValueError, match=r"newer kfmodels \(format 2.* up to 1\): upgrade"):
        made(path)
    assert files(path) == before
    manifest.write_text("date,A,B\n")
    with pytest.raises(ValueError, match="does not describe a batch of fits"):
        made(path)
    with pytest.raises(
        ValueError, match=r"tmp.* holds no batch of fits .*fit_many\(..., store=...\)"
    ):
        Store.open(tmp_path)
    with pytest.raises(ValueError, match=r"holds other files \(store\) and no batch of fits"):
        made(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["store"]
    with pytest.raises(ValueError, match="store is a folder; .* is a file"):
        made(manifest)


def test_a_store_that_was_killed_in_the_making_is_made_again(tmp_path):
    (tmp_path / CHUNKS).mkdir()
    (tmp_path / LOCK).touch()
    (tmp_path / f".{PRICES}.ab.tmp").touch()
    assert list(made(tmp_path).records()) == [0, 1]
    assert not list(tmp_path.rglob("*.tmp"))


def test_two_writers_are_refused_and_a_forked_worker_holds_nothing(tmp_path):
    with held(tmp_path, job(pairs()), pairs()):
        held_by = rf"is in use by process {os.getpid()} on .*: wait until that run has ended"
        with pytest.raises(ValueError, match=held_by):
            made(tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # forking with threads; this child only sleeps
            ready, says = os.pipe()
            child = os.fork()
        if child == 0:
            os.write(says, b".")  # it has let go of what it inherited
            time.sleep(60)
            os._exit(0)
    try:
        assert os.read(ready, 1) == b"."
        made(tmp_path)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(says)


def test_a_line_that_does_not_fit_on_the_disk_is_not_there(tmp_path):
    made(tmp_path)
    manifest = tmp_path / MANIFEST
    before = manifest.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with held(tmp_path, job(pairs()), pairs()) as journal:
        record = Record(5, "x", "y", ["a"] * 9, ["ok"] * 9)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
        try:
            with pytest.raises(OSError, match="No space left"):
                journal.add(record)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert manifest.read_bytes() == before
        journal.add(record)
    assert list(Store.open(tmp_path).records()) == [0, 1, 5]
