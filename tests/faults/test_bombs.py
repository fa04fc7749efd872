"""Files and messages that ask for much: refused in a short answer, within a bound of memory."""

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from kfmodels.cli.cli_live import LONGEST
from kfmodels.cli.numbers import read_csv
from kfmodels.files.seal import MOST, seal
from kfmodels.fitting.netcdf import read_file
from kfmodels.live.feed import LiveFilter
from kfmodels.online.filter import OnlineFilter
from tests.made_filters import START, feed, made_filter
from tests.processes import python


def sealed(make: Callable[[h5py.File], object], path: Path) -> Path:
    """A file of HDF5 whose digest is right."""
    with h5py.File(path, "w") as file:
        make(file)
    path.write_bytes(seal(path.read_bytes()))
    return path


def ask(file: h5py.File) -> None:
    file.create_dataset("a", (2 * 10**9,), "f8", chunks=(10**6,), compression="gzip")


def link_to_itself(file: h5py.File) -> None:
    file.create_group("g")["again"] = file["/"]


def nest(file: h5py.File) -> None:
    group: h5py.Group = file
    for _ in range(1000):
        group = group.create_group("g")


LINKS = "has links into itself or out of it"
BOMBS = {
    "16 GB": (ask, "bytes and asks for 16,000,000,000, which no fit does"),
    "a circle": (link_to_itself, LINKS),
    "a soft link": (lambda file: file.update({"s": h5py.SoftLink("/s")}), LINKS),
    "a file": (lambda file: file.update({"s": h5py.ExternalLink("/etc/passwd", "/")}), LINKS),
    "depth": (nest, LINKS),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_fit_that_asks_for_more_than_it_has_is_refused(kind: str, tmp_path: Path):
    make, says = BOMBS[kind]
    path = sealed(make, tmp_path / "a.nc")
    begun = time.process_time()
    with pytest.raises(ValueError, match=says) as caught:
        read_file(path)
    assert time.process_time() - begun < 1
    assert len(str(caught.value)) < 400


def test_a_file_larger_than_any_of_ours_is_not_read(tmp_path: Path):
    path = tmp_path / "a.json"
    path.touch()
    os.truncate(path, MOST + 1)
    with pytest.raises(ValueError, match="has 1,073,741,825 bytes, and none has more than"):
        OnlineFilter.load(path)


def test_a_packed_table_that_is_far_larger_unpacked_is_refused(tmp_path: Path):
    good, path = tmp_path / "good.csv.gz", tmp_path / "a.csv.gz"
    good.write_bytes(gzip.compress(b"date,A\n2024-01-02,1.0\n"))
    assert len(read_csv(good)[0]) == 1
    path.write_bytes(gzip.compress(b"date,A\n" + b"0" * 2**26, 1))
    with pytest.raises(
        ValueError, match=r"a.csv.gz has [\d,]+ bytes and more than [\d,]+ once unpa"
    ):
        read_csv(path)
    path.write_bytes(good.read_bytes()[:-12])
    with pytest.raises(ValueError, match="cannot be unpacked .*: give the file that it holds"):
        read_csv(path)


ANSWERS = {
    "a line of a gigabyte": b"x" * 2**20,
    "brackets": b"[" * 2**20,
    "digits": b'{"at": 1, "prices": {"XLE": ' + b"9" * 2**20,
}


@pytest.mark.variants
@pytest.mark.parametrize("kind", ANSWERS)
def test_a_line_without_end_is_answered_once_and_kept_out_of_memory(kind: str, tmp_path: Path):
    made_filter().save(tmp_path / "a.json")
    process = python("-m", "kfmodels", "live", tmp_path / "a.json")
    assert process.stdin is not None
    source = process.stdin.buffer
    source.write(ANSWERS[kind])
    for _ in range(200):
        source.write(b"9" * 2**20)
    source.write(b"\n")
    source.flush()
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert first["reason"] == (
        f"line 1: it has more than {LONGEST:,} characters, which no message has"
    )
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        most = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        assert int(most.split()[1]) < 400_000  # KiB
    prices, at = feed(1)[0]
    second, _ = process.communicate(json.dumps({"at": at.isoformat(), "prices": prices}) + "\n")
    assert json.loads(second)["outcome"] == "accepted"


HUGE = "9" * 2**20
MESSAGES = [
    ({"XLE": HUGE, "SPY": "x" * 2**20}, START),
    ({"XLE": "x" * 2**20, "SPY": 500.0}, START),
    ({"XLE": 90.0, "SPY": 500.0}, "x" * 2**20),
    ({"XLE": [[["x"] * 1000] * 1000] * 1000, "SPY": 500.0}, START),
    ({"x" * 2**20: 1.0}, START),
]


@pytest.mark.parametrize("number", range(len(MESSAGES)))
def test_a_message_of_megabytes_gets_a_short_answer(number: int):
    prices, at = MESSAGES[number]
    live = LiveFilter(made_filter())
    for _ in range(30):
        signal = live.tick(prices, at=at)
        assert len(json.dumps(signal.record(), default=str)) < 5000
    assert signal.outcome in ("rejected", "skipped", "duplicate")
