"""`Journal`: what is acknowledged is there, to the bit, whatever is killed, full, flipped or locked."""

import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from errno import EIO, ENOSPC
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfmodels.files.log import FORMAT, Journal, Recorded
from tests.journal_writer import (
    IDENTITY,
    START,
    acknowledged,
    file_limit,
    message,
    moved,
    writers,
)
from tests.processes import python

TICK = {"at": "2024-03-01 15:30", "y": 0.1 + 0.2, "x": [-0.0, 5e-324, 1.7976931348623157e308]}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "EWA.journal"


@pytest.fixture
def quick(tmp_path) -> Generator[Path]:
    """A journal where a sync costs nothing, if there is such a place: for very many of them."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder) / "EWA.journal"


def opened(path: Path, document: dict | None = None, **options) -> Journal:
    given = {"identity": "fit 12"} | options
    return Journal.open(path, {"beta": 1.0} if document is None else document, **given)


def digests(folder: Path) -> dict[str, str]:
    """What every file of a folder holds; locks and shared memory hold nothing."""
    files = [file for file in folder.iterdir() if file.is_file()]
    kept = [file for file in files if not file.name.endswith(("-writer", "-shm", "-count"))]
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in kept}


def program(code: str, *arguments: object) -> subprocess.Popen:
    """Another process that has `Journal` at hand."""
    return python("-c", f"from kfmodels.files.log import Journal\n{code}", *arguments)


HOT = """
import os, signal, sys
journal = Journal.open(sys.argv[1], {"beta": 1.0}, identity="fit 12", durable=sys.argv[3] == "True")
for seq in range(1, int(sys.argv[2]) + 1):
    journal.append({"seq": seq, "y": seq / 7})
os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_hot(path: Path, count: int, durable: bool = True) -> None:
    """A journal whose messages are all in the write-ahead log, as a killed process leaves it."""
    killed = program(HOT, path, count, durable)
    _, noted = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, noted
    assert Path(f"{path}-wal").stat().st_size > count * 4096


# -- what goes in comes out ------------------------------------------------------------------------


@pytest.mark.parametrize("network", [False, True])
def test_what_is_appended_is_there_after_closing_and_a_snapshot_takes_its_place(path, network):
    with opened(path, {"beta": 0.1}, network=network) as journal:
        assert (journal.last_seq, journal.snapshot) == (0, {"beta": 0.1})
        said = [TICK, {}, {"y": None}, {"y": np.float64(0.1)}]
        assert [journal.append(one) for one in said] == [1, 2, 3, 4]
    assert sorted(digests(path.parent)) == [path.name]  # nothing hot is left
    with opened(path, {"beta": math.nan}, compact_every=5, network=network) as journal:
        assert (journal.last_seq, journal.snapshot_seq, journal.snapshot) == (4, 0, {"beta": 0.1})
        assert repr([one for _, one in journal.messages()]) == repr([*said[:3], {"y": 0.1}])
        assert [seq for seq, _ in journal.messages()] == [1, 2, 3, 4]
        assert not journal.due
        journal.append(TICK)
        assert journal.due
        journal.compact({"beta": 2.0})
        assert not journal.due
        assert (journal.snapshot, list(journal.messages())) == ({"beta": 2.0}, [])
        assert journal.append({"y": 4}) == 6
    assert Journal.read(path) == Recorded("fit 12", {"beta": 2.0}, 5, [(6, {"y": 4})])


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),  # lone surrogates too
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_any_json_message_comes_back_to_the_bit(quick):
    said = []
    with opened(quick, durable=False) as journal:

        @given(st.dictionaries(st.text(), json_values, max_size=6))
        @settings(max_examples=100, database=None)
        def tell(one: dict) -> None:
            journal.append(one)
            said.append(one)
            if len(said) % 50 == 1:
                journal.compact(one)

        tell()
    found = Journal.read(quick)
    assert repr(found.snapshot) == repr(said[found.snapshot_seq - 1])
    assert repr([one for _, one in found.messages]) == repr(said[found.snapshot_seq :])
    assert found.snapshot_seq > 1


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("network", [True, False])
def test_every_commit_is_synced_if_it_is_to_be_durable(path, durable, network):
    opened(path, durable=not durable).close()
    with opened(path, durable=durable, network=network) as journal:
        how = [journal._connection.execute(f"PRAGMA {k}").fetchone()[0] for k in PRAGMAS]
        assert how == [3 if durable else 1, "delete" if network else "wal"]  # EXTRA, NORMAL


PRAGMAS = ("synchronous", "journal_mode")


@pytest.mark.slow
def test_the_file_does_not_grow_without_bound(quick):
    sizes, frame, log = [], 24 + 4096, Path(f"{quick}-wal")
    with opened(quick, durable=False, compact_every=2000) as journal:
        for seq in range(100_000):
            journal.append({"seq": 10**6 + seq, "y": 1 / 3, "x": [1 / 7, 1 / 11]})
            if seq % 10 == 0:
                sizes.append(quick.stat().st_size + log.stat().st_size)
            if journal.due:
                journal.compact({"seq": seq})
                assert log.stat().st_size == 0
    early = max(sizes[: len(sizes) // 10])
    assert max(sizes) <= early + 10 * 2 * frame  # what ten messages can add between two looks
    assert max(sizes) < 2000 * 200 + 1100 * frame  # the messages, and a log of a thousand pages


# -- one writer, any readers -----------------------------------------------------------------------


@pytest.mark.parametrize("network", [False, True])
def test_a_second_writer_is_refused_and_a_reader_is_not(path, tmp_path, network):
    link = tmp_path / "link"
    link.symlink_to(path)
    with opened(path, network=network) as journal:
        journal.append(TICK)
        for name in (path, link):
            with pytest.raises(
                ValueError, match="is already open in this process: wait until it is closed"
            ):
                opened(name)
        writer = program("import sys\nJournal.open(sys.argv[1], {}, identity='fit 12')", path)
        noted = writer.communicate(timeout=60)[1]
        assert f"ValueError: {path} is in use by process {os.getpid()} on" in noted
        assert "wait until it is closed there" in noted
        reader = program("import sys\nprint(Journal.read(sys.argv[1]).messages)", path)
        assert reader.communicate(timeout=60)[0] == f"{[(1, TICK)]}\n"
        assert journal.append({}) == 2  # neither has disturbed the writer, or its lock
        with pytest.raises(ValueError, match="already open"):
            opened(path)
        assert Journal.read(path).last_seq == 2
    opened(path).close()


def test_what_is_read_is_what_one_moment_held(path):
    stop, faults = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            found = Journal.read(path)
            seqs = [seq for seq, _ in found.messages]
            first = found.snapshot["n"] + 1
            if seqs != list(range(first, first + len(seqs))) or found.snapshot_seq != first - 1:
                faults.append(found)

    with opened(path, {"n": 0}, durable=False, compact_every=50) as journal:
        reader = threading.Thread(target=look)
        reader.start()
        for seq in range(1, 5001):
            journal.append({"seq": seq})
            if journal.due:
                journal.compact({"n": seq})
        stop.set()
        reader.join()
    assert not faults
    assert Journal.read(path).last_seq == 5000


def test_a_journal_that_is_forgotten_lets_go_of_its_file(path):
    journal = opened(path)
    journal.append(TICK)
    del journal
    with opened(path) as again:
        assert again.last_seq == 1


USES = [
    lambda journal: journal.append(TICK),
    lambda journal: journal.compact({}),
    lambda journal: journal.messages(),
    lambda journal: journal.snapshot,
]


def test_after_closing_and_in_another_thread_it_says_so(path):
    journal, said = opened(path), []

    def use_elsewhere() -> None:
        for use in (*USES, Journal.close):
            with pytest.raises(ValueError, match="belongs to the thread that opened it") as caught:
                use(journal)
            said.append(caught.value)

    thread = threading.Thread(target=use_elsewhere)
    thread.start()
    thread.join()
    assert len(said) == 5
    assert journal.append(TICK) == 1
    journal.close()
    journal.close()
    for use in USES:
        with pytest.raises(ValueError, match="is closed: open it again"):
            use(journal)


FORKED = """
import os, sys, time
with Journal.open(sys.argv[1], {}, identity="fit 12") as journal:
    journal.append({"by": "parent"})
    child = os.fork()
    if child == 0:
        try:
            journal.append({"by": "child"})
        except ValueError as error:
            print(error, flush=True)
        journal.close()
    else:
        os.waitpid(child, 0)
        journal.append({"by": "parent"})
if child == 0:
    del journal  # all that a child that ends in the ordinary way does
    sys.exit()
journal = Journal.open(sys.argv[1], {}, identity="fit 12")
orphan = os.fork()
if orphan == 0:
    time.sleep(60)
journal.append({"by": "parent"})
print(orphan, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_forked_process_neither_writes_nor_harms_nor_keeps_the_lock(path):
    run = program(FORKED, path)
    assert run.stdout is not None
    said, orphan = run.stdout.readline(), int(run.stdout.readline())
    try:
        assert run.wait(60) == -signal.SIGKILL
        assert f"belongs to the thread that opened it, in process {run.pid}: write" in said
        with opened(path) as journal:  # the orphan lives
            assert list(journal.messages()) == [(n, {"by": "parent"}) for n in (1, 2, 3)]
    finally:
        os.kill(orphan, signal.SIGKILL)
        _, noted = run.communicate()
    assert noted == ""  # the child's close did nothing


def test_another_program_that_writes_is_told_apart(path):
    with opened(path) as journal:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BlockingIOError, match="no other program writes to it"):
                journal.append(TICK)
            other.execute("ROLLBACK")
            assert journal.append(TICK) == 1
            other.execute("INSERT INTO message VALUES (2, '{}', 0)")
        with pytest.raises(OSError, match="no other program writes to it"):
            journal.append(TICK)
    with pytest.raises(ValueError, match="is damaged .message 2 is not as it was"):
        opened(path)


# -- refused, and left as it is --------------------------------------------------------------------


def run_sql(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def sealed(path: Path) -> None:
    opened(path, {"beta": 123.25}).close()


def of_newer(path: Path) -> None:
    sealed(path)
    run_sql(path, f"PRAGMA user_version = {FORMAT.version + 1}")


def only_its_log(path: Path) -> None:
    leave_hot(path, 3)
    path.unlink()


def many(path: Path) -> None:
    """Snapshot and messages in many pages, nothing in the log."""
    with opened(path, {"path": [k / 7 for k in range(2000)]}, durable=False) as journal:
        for seq in range(300):
            journal.append({"seq": seq, "y": 1 / (1 + seq)})


def without_its_end(path: Path) -> None:
    many(path)
    os.truncate(path, 8192)


def with_another_message(path: Path) -> None:
    many(path)
    path.write_bytes(path.read_bytes().replace(b'{"seq":123,', b'{"seq":124,'))


def with_another_snapshot(path: Path) -> None:
    sealed(path)
    path.write_bytes(path.read_bytes().replace(b'{"beta":123.25}', b'{"beta":123.75}'))


def without_a_message(path: Path) -> None:
    many(path)
    run_sql(path, "DELETE FROM message WHERE seq = 7")


REFUSED = [
    (Path.mkdir, "cannot be written: give the name of a file in a folder"),
    (Path.touch, "is not a journal: give another name, or put a backup in its place"),
    (lambda p: p.write_text("a,b\n" * 100), "is not a journal: give another name, or put a backup"),
    (lambda p: p.write_bytes(b"SQLite format 3"), "is not a journal: give another name, or put a"),
    (
        lambda p: run_sql(p, "CREATE TABLE prices (y REAL)"),
        "is not a journal: give another name, or",
    ),
    (of_newer, r"was written by a newer kfmodels \(format 2, this one reads up to 1\): upgrade"),
    (only_its_log, "is gone, but .*-wal holds its last messages: put it back, or delete that too"),
    (without_its_end, "is damaged.*: put a backup in its place, or move it away.* and begin again"),
    (
        with_another_message,
        "is damaged .message 124 is not as it was written.. Nothing was changed",
    ),
    (with_another_snapshot, "is damaged .the snapshot is not as it was written.. Nothing was"),
    (without_a_message, "is damaged .message 7 is not as it was written"),
]


@pytest.mark.parametrize(("make", "says"), REFUSED)
def test_what_is_no_journal_is_refused_and_left_as_it_is(path, make, says):
    make(path)
    before = digests(path.parent)
    for use in (opened, Journal.read):
        with pytest.raises(ValueError, match=says) as caught:
            use(path)
        assert str(path) in str(caught.value)
        assert digests(path.parent) == before


def test_what_was_asked_for_is_refused(path):
    with pytest.raises(ValueError, match="there is no journal .*: look at its name"):
        Journal.read(path)
    with pytest.raises(ValueError, match="cannot be written: give the name of a file in a folder"):
        opened(path.parent / "none" / path.name)
    with pytest.raises(ValueError, match="identity is a text that names the fit, not ''"):
        opened(path, identity="")
    with pytest.raises(ValueError, match="the document would not come back from JSON"):
        opened(path, {"beta": math.nan})
    assert not path.exists()
    with opened(path) as journal:
        journal.append(TICK)
        for write in (journal.append, journal.compact):
            with pytest.raises(ValueError, match="would not come back from JSON"):
                write({"y": math.nan})
        assert list(journal.messages()) == [(1, TICK)]
        assert journal.append(TICK) == 2
    before = digests(path.parent)
    with pytest.raises(ValueError, match=r"is the journal of 'fit 12', not of 'fit 13'"):
        opened(path, identity="fit 13")
    assert digests(path.parent) == before


@contextmanager
def unprivileged() -> Generator[None]:
    """Where this user may do anything, another one."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_a_file_or_folder_that_is_read_only_is_refused_but_can_be_read(which):
    folder = Path(tempfile.mkdtemp())
    path = folder / "EWA.journal"
    try:
        folder.chmod(0o777)
        with unprivileged(), opened(path) as journal:
            journal.append(TICK)
        before = digests(folder)
        place, mode = (path, 0o444) if which == "file" else (folder, 0o555)
        place.chmod(mode)
        with unprivileged():
            with pytest.raises(ValueError, match="EWA.journal cannot be written: give"):
                opened(path)
            assert Journal.read(path).last_seq == 1
            new = folder / "new.journal"
            if which == "folder":
                with pytest.raises(ValueError, match="new.journal cannot be written: give"):
                    opened(new)
        place.chmod(0o777)
        assert digests(folder) == before
        with unprivileged(), opened(path) as journal:
            assert journal.last_seq == 1
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("hot", [False, True])
def test_flipped_bytes_are_found_or_do_not_matter(quick, hot):
    """In the log of a killed process SQLite takes them for the end of what had reached the disk."""
    (many if not hot else lambda p: leave_hot(p, 40))(quick)
    sound, damaged = Journal.read(quick), quick.parent / "damaged"
    copy, end = damaged / quick.name, "-wal" if hot else ""
    good, draw, refused, cut = Path(f"{quick}{end}").read_bytes(), random.Random(0), 0, 0
    for _ in range(100):
        shutil.rmtree(damaged, ignore_errors=True)
        damaged.mkdir()
        shutil.copy(quick, copy)
        shutil.copy(f"{quick}-count", f"{copy}-count")
        bad = bytearray(good)
        bad[draw.randrange(len(good))] ^= 1 << draw.randrange(8)
        Path(f"{copy}{end}").write_bytes(bad)
        before = digests(damaged)
        try:
            journal = opened(copy)
        except ValueError as error:
            refused += 1
            cut += "were acknowledged" in str(error)
            assert digests(damaged) == before
        else:
            journal.close()
            assert Journal.read(copy) == sound
    assert refused > 50
    assert cut > 50 if hot else cut == 0


@pytest.mark.parametrize("durable", [False, True])
def test_a_log_whose_end_is_torn_opens_without_what_was_not_whole(path, durable):
    leave_hot(path, 20, durable)
    log = Path(f"{path}-wal")
    os.truncate(log, log.stat().st_size - 100)
    with pytest.raises(ValueError, match="stands at message 19, but 20 were acknowledged: its log"):
        opened(path)
    with opened(path, accept_loss=True) as journal:
        assert journal.last_seq == 19
        assert "stands at message 19, but 20 were acknowledged" in journal.loss
        assert journal.append({"seq": 20}) == 20
    assert Journal.read(path).last_seq == 20


def test_power_lost_without_sync_loses_the_last_messages_and_no_more(path):
    leave_hot(path, 20, durable=False)
    log = Path(f"{path}-wal")
    content = bytearray(log.read_bytes())
    content[-10 * 4120 : -9 * 4120] = bytes(4120)  # later pages reached the disk, this one did not
    log.write_bytes(content)
    with pytest.raises(ValueError, match="or a power cut came where it was safe from kills only"):
        opened(path, durable=False)
    with opened(path, durable=False, accept_loss=True) as journal:
        kept = [told for _, told in journal.messages()]
        assert kept == [{"seq": seq, "y": seq / 7} for seq in range(1, len(kept) + 1)]
        assert 9 <= len(kept) <= 11


# -- a full disk -----------------------------------------------------------------------------------


def fill(journal: Journal) -> OSError:
    """Append until the disk is full."""
    large = {"y": "0123456789" * 1000}
    with pytest.raises(OSError, match="as before") as caught:
        [journal.append(large) for _ in range(1000)]
    assert f"message {journal.last_seq + 1} is not in {journal.path}" in str(caught.value)
    assert "try again" in str(caught.value)
    return caught.value


@pytest.mark.parametrize("network", [False, True])
def test_a_full_disk_stops_one_message_and_nothing_else(path, network):
    with opened(path, network=network) as journal:
        with file_limit(300_000):
            assert fill(journal).errno == EIO  # as SQLite names a limit of this kind
            with pytest.raises(OSError, match="the snapshot after message"):
                journal.compact({"large": "0123456789" * 100_000})
        count = journal.last_seq
        assert count > 5
        assert len(list(journal.messages())) == count
        assert journal.append(TICK) == count + 1
        journal.compact({"beta": 2.0})
        assert journal.append(TICK) == count + 2
    found = Journal.read(path)
    assert (found.snapshot, found.messages) == ({"beta": 2.0}, [(count + 2, TICK)])


def test_a_killed_process_on_a_full_disk_loses_nothing_acknowledged(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    said = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1500k", "none", disk], capture_output=True, text=True
    )
    if not said or said.returncode:
        pytest.skip(f"no disk of a small size can be mounted here: {said and said.stderr}")
    path, ballast = disk / "EWA.journal", disk / "ballast"
    try:
        ballast.write_bytes(bytes(800_000))
        with opened(path) as journal:
            assert fill(journal).errno == ENOSPC
            assert fill(journal).errno == ENOSPC
            count = journal.last_seq
            for file in disk.iterdir():  # what a kill would leave at this moment
                shutil.copy(file, tmp_path)
            assert Journal.read(path).last_seq == count
            ballast.unlink()
            journal.compact({"beta": 2.0})
            assert journal.append(TICK) == count + 1
            assert fill(journal).errno == ENOSPC
            last = journal.last_seq
        with pytest.raises(OSError, match="No space left"):
            (disk / "more").write_bytes(bytes(1_500_000))
        with pytest.raises(
            (ValueError, OSError), match="the disk is full: make room|No space left"
        ):
            opened(disk / "new.journal")
        assert not (disk / "new.journal").exists()
        found = Journal.read(path)
        assert (found.snapshot_seq, found.last_seq) == (count, last)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    with opened(tmp_path / path.name) as journal:
        assert journal.last_seq == count


# -- kills -----------------------------------------------------------------------------------------


def states(until: int, known: list[dict] = [START]) -> list[dict]:  # noqa: B006  (remembered)
    """The recursion from its start, computed without any journal; entry n is after n messages."""
    while len(known) <= until:
        known.append(moved(known[-1], message(len(known))))
    return known


@pytest.mark.faults
@pytest.mark.slow
def test_after_sigkill_at_any_moment_all_that_was_acknowledged_is_there(tmp_path):
    draw = random.Random()
    seed = draw.randrange(2**32)
    draw.seed(seed)
    hot = compacted = 0
    with writers("journal") as server:
        for kill in range(200):
            if kill % 25 == 0:  # a new file, so that making one is interrupted too
                path, last = tmp_path / f"{kill}.journal", 0
            durable, every = draw.random() < 0.7, draw.choice([7, 60, 300])
            seconds = draw.uniform(0, 0.008) if kill % 3 == 0 else draw.uniform(0, 0.09)
            said = acknowledged(server, f"{path} {durable} {every}", seconds)
            where = f"seed {seed}, kill {kill}, {path}"
            assert said == list(range(last + 1, last + 1 + len(said))), where
            hot += os.path.exists(f"{path}-wal")
            options = {"identity": IDENTITY, "durable": durable, "compact_every": every}
            with Journal.open(path, START, **options) as journal:
                # the one message that was being acknowledged may be there or not
                assert journal.last_seq - (last + len(said)) in (0, 1), where
                last = journal.last_seq
                reference = states(last)
                state, at = journal.snapshot, journal.snapshot_seq
                compacted += at > 0
                assert repr(state) == repr(reference[at]), where
                for seq, told in journal.messages():
                    at += 1
                    assert (seq, repr(told)) == (at, repr(message(at))), where
                    state = moved(state, told)
                assert at == last, where
                assert repr(state) == repr(reference[last]), where
    assert min(hot, compacted) > 50, (hot, compacted)
    assert not list(tmp_path.glob("*.journal-journal"))
