"""What a live filter was told, so that it goes on where it stood: a journal in one SQLite file.

    PATH        identity, the latest snapshot of the state, every message after it
    PATH-wal    the last commits; as long as it is there it is part of the journal
    PATH-shm    what those who have PATH open share; nothing in it is kept
    PATH-lock   held by the one process that may write

Documents and messages are JSON text; nothing is a pickle. The file must be on a local disk: neither
locks nor the write-ahead log can be relied on over a network.

One file: opening, recovery, appending and compaction keep one promise, and are read together.
"""

import fcntl
import json
import os
import shutil
import sqlite3
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from errno import EAGAIN, EIO, ENOSPC
from pathlib import Path
from reprlib import Repr
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from kfmodels.files.atomic import replacing

VERSION = 1
_APPLICATION = 0x6B666A6C
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode

_SCHEMA = f"""BEGIN;
CREATE TABLE journal (identity TEXT NOT NULL, durable INTEGER NOT NULL);
CREATE TABLE snapshot (seq INTEGER PRIMARY KEY, document TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE message (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, crc INTEGER NOT NULL);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
"""

# A process that opens and closes a file loses its POSIX locks on it, SQLite's among them: who holds
# what in this process must be known before anything is opened, by one thread at a time.
_guard = threading.Lock()
_held: "WeakValueDictionary[tuple[int, Path], Journal]" = WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a journal holds at one moment: `messages` replayed on `snapshot` give the state.

    `snapshot_seq` is the number of the last message in the snapshot; `messages` are pairs (seq,
    message) from there on.
    """

    identity: str
    snapshot: dict[str, Any]
    snapshot_seq: int
    messages: list[tuple[int, dict[str, Any]]]

    @property
    def last_seq(self) -> int:
        """Number of the last message."""
        return self.snapshot_seq + len(self.messages)


class Journal(AbstractContextManager["Journal"]):
    """An append-only journal of JSON messages, written by the one thread that has opened it.

    Floats come back to the bit. Each message has a checksum over all before it: what is damaged is
    refused, not replayed. A process that dies leaves no lock; one forked from it cannot write.

    Example:
        >>> path = Path(tempfile.mkdtemp()) / "EWA.journal"
        >>> with Journal.open(path, {"beta": 1.0}, identity="fit 12") as journal:
        ...     journal.append({"y": 20.1, "x": 25.3})
        1
        >>> with Journal.open(path, {}, identity="fit 12") as journal:
        ...     journal.snapshot, list(journal.messages())
        ({'beta': 1.0}, [(1, {'y': 20.1, 'x': 25.3})])

    Source: Gray and Reuter (1993), Transaction Processing, chapters 9 and 10 (log and checkpoint).
    """

    def __init__(self, path: Path, found: Recorded, compact_every: int, *held: Any) -> None:
        self.path, self.identity, self.compact_every = path, found.identity, compact_every
        self.last_seq, self.snapshot_seq = found.last_seq, found.snapshot_seq
        self._crc, self._lock, self._connection = held
        self._process, self._thread = os.getpid(), threading.get_ident()

    @classmethod
    def open(
        cls,
        path: str | Path,
        document: dict[str, Any],
        *,
        identity: str,
        durable: bool = True,
        compact_every: int = 10_000,
    ) -> "Journal":
        """Make a journal, or go on with the one that is there.

        What is there is examined on a copy first; where it is refused no byte of it has changed.

        Args:
            document: the state to begin with; not looked at where there is a journal.
            identity: of the fit or model that the state belongs to.
            durable: a message is on the disk when `append` returns. False is faster and survives a
                process that is killed; when the power fails the last messages may be lost.
            compact_every: messages after which `due` asks for a new snapshot.

        Raises:
            ValueError: another process or journal has the file; it has another identity, is damaged,
                no journal, from a newer kfmodels or read-only; the document is not JSON.
        """
        if not isinstance(identity, str) or not identity:
            raise ValueError(f"identity is a text that names the fit, not {identity!r}")
        path = Path(os.path.realpath(path))
        here = os.getpid(), path
        with _guard, _told(path), ExitStack() as undo:
            if here in _held:
                raise ValueError(f"{path} is already open in this process: use that, or close it")
            _is_there(path)
            lock = undo.enter_context(closing(_locked(path)))
            if not _is_there(path):
                _create(path, _text(document, "the document"), identity, durable)
            found, crc, was_durable, lost = _examined(path)
            if found.identity != identity:
                raise ValueError(
                    f"{path} is the journal of {found.identity!r}, not of {identity!r}: open it with "
                    "what it belongs to, or give this one a file of its own"
                )
            if was_durable and lost > 1:  # one is torn where a process died
                raise ValueError(
                    f"{path}-wal is damaged: {lost} commits after message {found.last_seq} cannot be "
                    "read. Nothing was changed: put a backup in its place, or begin another journal "
                    "from what Journal.read still finds"
                )
            connection = undo.enter_context(closing(_connected(path, durable)))
            if durable != was_durable:
                connection.execute("UPDATE journal SET durable = ?", (durable,))
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            _held[here] = journal = cls(path, found, compact_every, crc, lock, connection)
            undo.pop_all()
            return journal

    @classmethod
    def read(cls, path: str | Path) -> Recorded:
        """What a journal holds now; a writer that has it open neither waits nor is disturbed.

        Raises:
            ValueError: there is none, it is damaged, or comes from a newer kfmodels.
        """
        path = Path(os.path.realpath(path))
        with _guard:
            if (os.getpid(), path) not in _held and not _is_there(path):
                raise ValueError(f"there is no journal {path}: Journal.open makes one")
            # without -shm no one has it open, and SQLite would leave files beside it
            if not Path(f"{path}-shm").exists():
                return _examined(path)[0]
            with closing(_opened(path, "ro")) as connection:
                connection.execute("BEGIN")
                return _recorded(path, connection)[0]

    @property
    def snapshot(self) -> dict[str, Any]:
        """The latest document."""
        (document,) = self._usable().execute("SELECT document FROM snapshot").fetchone()
        return json.loads(document)

    def messages(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The messages after the snapshot as pairs (seq, message), as they stand at the call."""
        found = self._usable().execute("SELECT seq, body FROM message ORDER BY seq").fetchall()
        return ((seq, json.loads(body)) for seq, body in found)

    @property
    def due(self) -> bool:
        """Whether it is time for `compact`."""
        return self.last_seq - self.snapshot_seq >= self.compact_every

    def append(self, message: dict[str, Any]) -> int:
        """Commit a message; its number.

        Raises:
            ValueError: the message would not come back from JSON as it is (NaN, infinity, a tuple, a
                key that is no text); the journal is closed or not of this thread and process.
            OSError: the disk is full or fails. The journal is as before and takes messages again
                when there is room. If a process is killed right after its disk failed to sync, the
                message may be there all the same: `last_seq` says.
        """
        connection, seq = self._usable(), self.last_seq + 1
        body = _text(message, "the message")
        crc = _checksum(seq, body, self._crc)
        try:
            connection.execute("INSERT INTO message VALUES (?, ?, ?)", (seq, body, crc))
        except sqlite3.Error as error:
            self._fail(f"message {seq}", error)
        self.last_seq, self._crc = seq, crc
        return seq

    def compact(self, document: dict[str, Any]) -> None:
        """Put the state after the last message in the place of all before; raises as `append`."""
        connection, seq = self._usable(), self.last_seq
        text = _text(document, "the document")
        crc = _checksum(seq, text, zlib.crc32(self.identity.encode()))
        try:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                connection.execute("DELETE FROM message")
                connection.execute("DELETE FROM snapshot")
                connection.execute("INSERT INTO snapshot VALUES (?, ?, ?)", (seq, text, crc))
        except sqlite3.Error as error:
            self._fail(f"the snapshot after message {seq}", error)
        self.snapshot_seq, self._crc = seq, crc
        # the snapshot is committed; what a reader or a full disk prevents here is done later
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Hand the file back; a second time does nothing, and so does a forked process."""
        if self._connection is not None and os.getpid() == self._process:
            with _guard:
                self._usable().close()
                self._lock.close()
                self._connection = None
                _held.pop((self._process, self.path), None)

    def __exit__(self, *_: object) -> None:
        self.close()

    def _usable(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError(f"the journal {self.path} is closed: open it again with Journal.open")
        if os.getpid() != self._process or threading.get_ident() != self._thread:
            raise ValueError(
                f"the journal {self.path} belongs to the thread that opened it, in process "
                f"{self._process}: write from there; Journal.read works anywhere"
            )
        return self._connection

    def _fail(self, what: str, error: sqlite3.Error) -> NoReturn:
        code = {"SQLITE_FULL": ENOSPC, "SQLITE_BUSY": EAGAIN}.get(error.sqlite_errorname, EIO)
        says = (
            f"{what} is not in {self.path}, which stands at message {self.last_seq} as before "
            f"({error}): see that the disk works and has room, for the size of {self.path.name}-wal "
            "and more, and that no other program writes to it; then try again"
        )
        raise OSError(code, says) from error


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", 1.0, uri=True, isolation_level=None)


def _connected(path: Path, durable: bool) -> sqlite3.Connection:
    """A connection to append with."""
    connection = _opened(path, "rw")
    connection.executescript(f"""
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = {"FULL" if durable else "NORMAL"};
        PRAGMA fullfsync = {durable:d};  -- macOS, where fsync alone promises little
        PRAGMA secure_delete = OFF;
        PRAGMA wal_autocheckpoint = 1000;
    """)
    return connection


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        advice = "see that no other program has it open and that the disk has room"
        raise ValueError(f"{path} cannot be opened to write ({error}): {advice}") from error


def _create(path: Path, document: str, identity: str, durable: bool) -> None:
    """A journal with one snapshot, there in full or not at all."""
    crc = _checksum(0, document, zlib.crc32(identity.encode()))
    with replacing(path) as temporary, closing(_connected(temporary, True)) as connection:
        connection.executescript(_SCHEMA)
        connection.execute("INSERT INTO journal VALUES (?, ?)", (identity, durable))
        connection.execute("INSERT INTO snapshot VALUES (0, ?, ?)", (document, crc))
        connection.commit()
        connection.close()  # before it is renamed: its write-ahead log would keep the old name
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _is_there(path: Path) -> bool:
    """Whether there is a journal; raise if there is something else. Reads 100 bytes."""
    log, fault = Path(f"{path}-wal"), ""
    if not path.parent.is_dir():
        fault = f"cannot be: there is no folder {path.parent}"
    elif not path.exists():
        if not log.exists() or not log.stat().st_size:
            return False
        fault = f"is gone, but {log} holds its last messages: put it back, or delete that too"
    elif not path.is_file():
        fault = "is a folder or a device: give the name of a file"
    else:
        with path.open("rb") as file:
            head = file.read(100)
        version, application = struct.unpack_from(">i4xi", head.ljust(100), 60)
        if not head:
            fault = "is empty, not a journal: delete it, or give another name"
        elif not head.startswith(b"SQLite format 3\0"):
            fault = "is no journal, or its beginning is damaged: give another name, or use a backup"
        elif application != _APPLICATION:
            fault = "is an SQLite file of another program: give another name"
        elif version > VERSION:
            fault = f"was written by a newer kfmodels (format {version}, not {VERSION}): upgrade"
    if fault:
        raise ValueError(f"{path} {fault}")
    return True


def _locked(path: Path) -> Any:
    """The lock of a journal; the kernel releases it when the process dies."""
    for place in (path.parent, path):
        if place.exists() and not os.access(place, os.W_OK, effective_ids=True):
            raise ValueError(f"{place} is read-only: change its permissions or give another place")
    # lockf, not flock: a forked worker does not inherit it and cannot outlive us with it
    lock = os.fdopen(os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        holder = lock.read(200).decode(errors="replace") or "another process"
        lock.close()
        raise ValueError(
            f"{path} is in use by {holder}: end that process, or only look with Journal.read"
        ) from error
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {os.uname().nodename}".encode())
    return lock


def _examined(path: Path) -> tuple[Recorded, int, bool, int]:
    """What `_recorded` finds in a copy (SQLite may write when it opens a file), and the commits after.

    Those are frames of the log, with its salt and a size (sqlite.org/fileformat2.html, section 4).
    """
    with tempfile.TemporaryDirectory() as folder:
        copy, wal = Path(folder) / "copy", b""
        with suppress(FileNotFoundError):  # before the file that it is written back to
            wal = Path(shutil.copyfile(f"{path}-wal", f"{copy}-wal")).read_bytes()
        shutil.copyfile(path, copy)
        with closing(_opened(copy, "rw")) as connection:
            found = _recorded(path, connection)
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            (_, frames, _) = connection.execute("PRAGMA wal_checkpoint").fetchone()
    rest = range(32 + frames * (24 + page), len(wal), 24 + page)
    lost = sum(wal[at + 8 : at + 16] == wal[16:24] and any(wal[at + 4 : at + 8]) for at in rest)
    return *found, lost


def _recorded(path: Path, connection: sqlite3.Connection) -> tuple[Recorded, int, bool]:
    """What an open database holds, the last checksum, and whether each message was synced."""
    try:
        (fault,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if fault != "ok":
            raise ValueError(fault)
        ((identity, durable),) = connection.execute("SELECT * FROM journal").fetchall()
        ((first, document, crc),) = connection.execute("SELECT * FROM snapshot").fetchall()
        running, messages = _checksum(first, document, zlib.crc32(identity.encode())), []
        if crc != running:
            raise ValueError("the snapshot is not as it was written")
        rows = connection.execute("SELECT * FROM message ORDER BY seq")
        for due, row in enumerate(rows, first + 1):
            running = _checksum(due, row[1], running)
            if (row[0], row[2]) != (due, running):
                raise ValueError(f"message {due} is not as it was written")
            messages.append((due, json.loads(row[1])))
    except (sqlite3.DatabaseError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} cannot be read or is damaged ({error}). Nothing was changed: put a backup in its "
            f"place, or move it away with {path.name}-wal and begin again from the fit"
        ) from error
    return Recorded(identity, json.loads(document), first, messages), running, bool(durable)


def _checksum(seq: int, text: str, before: int) -> int:
    return zlib.crc32(f"{seq}\n{text}".encode(), before)


def _text(value: Any, name: str) -> str:
    """A document as JSON that reads back as the same document."""
    reason = "keys must be text and sequences lists"
    try:
        text = _encode(value)
        if isinstance(value, dict) and json.loads(text) == value:
            return text
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"{error}; None is for no number"
    raise ValueError(
        f"{name} would not come back from JSON as a dict that equals it ({reason}): "
        f"{Repr(maxdict=20).repr(value)}; the journal is unchanged"
    )
