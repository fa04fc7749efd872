"""A log of JSON messages in one SQLite file: what is acknowledged is there, or its loss is told.

    PATH          identity, the latest snapshot of a state, every message after it
    PATH-wal      the last commits; while it exists it is part of the journal
    PATH-shm      memory shared by those who have PATH open; it may be lost
    PATH-count    the number of the last message acknowledged, see `count`
    PATH-writer   locked by the one process that may write; holds nothing

Documents and messages are JSON text; nothing is a pickle.

One file: opening, appending, compaction and reading keep one promise together.
"""

import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from errno import EAGAIN, EIO, ENOSPC, ESTALE
from pathlib import Path
from typing import NamedTuple, NoReturn

from kfmodels.files.atomic import replacing
from kfmodels.files.count import Count, read_count
from kfmodels.files.documents import Format, Json, encode
from kfmodels.files.lock import check_guarded, hold, kind_of

type Message = dict[str, Json]

FORMAT = Format(
    "kfmodels journal", 1, "a journal", "give another name, or put a backup in its place"
)
_APPLICATION = 0x6B666A6C  # "kfjl" in ASCII: tells a journal from other files of SQLite

_SCHEMA = f"""BEGIN;
CREATE TABLE journal (identity TEXT NOT NULL, durable INTEGER NOT NULL);
CREATE TABLE snapshot (seq INTEGER PRIMARY KEY, document TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE message (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, crc INTEGER NOT NULL);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {FORMAT.version};
"""

_NO_PLACE = "cannot be written: give the name of a file in a folder, both of which you may write"
_REMEDIES = {
    "NOTADB": f"is not {FORMAT.title}: {FORMAT.remedy}",
    "CORRUPT": "is damaged: put a backup in its place, or move it away and begin again",
    "READONLY": _NO_PLACE,
    "CANTOPEN": _NO_PLACE,
    "BUSY": "is locked by another program: end that program",
    "FULL": "cannot be written, for the disk is full: make room",
}
"""What is wrong with a file, and what to do, by the second word of SQLite's name of an error."""

GO_ON = "go on without them with accept_loss=True"
"""How to overrule that messages are missing."""


class Recorded(NamedTuple):
    """What a journal holds at one moment: `messages` replayed on `snapshot` give the state.

    `snapshot_seq` is the number of the last message in the snapshot; `messages` are pairs (seq,
    message) from there on.
    """

    identity: str
    snapshot: Message
    snapshot_seq: int
    messages: list[tuple[int, Message]]

    @property
    def last_seq(self) -> int:
        """Number of the last message."""
        return self.snapshot_seq + len(self.messages)


class Journal(AbstractContextManager["Journal"]):
    """An append-only journal of JSON messages, written by the one thread that has opened it.

    Floats come back to the last bit. Each message has a checksum over it and all before it: what is
    damaged is refused, not replayed. A process that dies leaves no lock; a forked one cannot write.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "EWA.journal"
        >>> with Journal.open(path, {"beta": 1.0}, identity="fit 12") as journal:
        ...     journal.append({"y": 20.1, "x": 25.3})
        1
        >>> with Journal.open(path, {}, identity="fit 12") as journal:
        ...     journal.snapshot, list(journal.messages())
        ({'beta': 1.0}, [(1, {'y': 20.1, 'x': 25.3})])

    Source: Gray and Reuter (1993), Transaction Processing, chapters 9 and 10 (log and checkpoint).
    """

    def __init__(
        self,
        path: Path,
        found: Recorded,
        compact_every: int,
        crc: int,
        holder: sqlite3.Connection,
        connection: sqlite3.Connection,
        count: Count,
        loss: str,
    ) -> None:
        self.path, self.identity, self.compact_every = path, found.identity, compact_every
        self.loss = loss
        """Which messages are missing, in words, where `accept_loss` let that pass; else empty."""
        self.snapshot_seq, self._last_seq = found.snapshot_seq, found.last_seq
        self._crc, self._holder, self._count = crc, holder, count
        self._connection: sqlite3.Connection | None = connection
        self._process, self._thread = os.getpid(), threading.get_ident()
        self._name, self._file = str(path), _file_of(path)
        self._midway = False  # true while an exception of any kind would leave these numbers behind

    @classmethod
    def open(
        cls,
        path: str | Path,
        document: Message,
        *,
        identity: str,
        durable: bool = True,
        network: bool = False,
        compact_every: int = 10_000,
        accept_loss: bool = False,
    ) -> "Journal":
        """Make a journal, or go on with the one that is there.

        Args:
            document: the state to begin with; ignored where there is a journal.
            identity: names what the state belongs to.
            durable: a message is on the disk when `append` returns (223 microseconds). False is faster
                (12) and survives a process that is killed; when the power fails the last messages may
                be lost.
            network: the disk may be shared with other machines; a commit then takes milliseconds.
            compact_every: messages after which `due` asks for a new snapshot.
            accept_loss: go on where messages that were acknowledged are missing; `loss` says which.

        Raises:
            ValueError: another process or journal has the file; it has another identity, is damaged,
                no journal, from a newer kfmodels, read-only, has a hard link or is on a network; it
                holds fewer messages than were acknowledged, or its count is not beside it; the
                document is not JSON. No message of what was there is lost.
        """
        if not identity:
            raise ValueError(f"identity is a text that names the fit, not {identity!r}")
        path = Path(os.path.realpath(path))
        with _explain(path), ExitStack() as undo:
            # first of all, so that two processes cannot both find no journal and make one
            holder = hold(path)
            if holder is None:
                raise ValueError(f"{path} is {_tell_writer(path)}: wait until it is closed there")
            undo.enter_context(closing(holder))
            check_guarded(path, network=network)
            counted, loss = read_count(_count_of(path)), ""
            if not _is_there(path):
                if counted and not accept_loss:
                    raise ValueError(
                        f"{path} is gone, but {counted} messages were acknowledged in it, says "
                        f"{_count_of(path)}: put it back, or {GO_ON}; to begin anew delete that too"
                    )
                loss = (
                    f"{path} is gone with its {counted} messages, a new one begins"
                    if counted
                    else ""
                )
                counted = 0
                # the count first: a journal without one is taken for a copy that lacks messages
                Count(_count_of(path), 0).close()
                _create(path, encode(document), identity, durable)
            connection = undo.enter_context(closing(_connect(path)))
            found, crc = _read(path, connection)
            loss = loss or _tell_loss(path, found.last_seq, counted)
            if loss and not accept_loss:
                raise ValueError(f"{loss}: put back all files of a copy that is whole, or {GO_ON}")
            if found.identity != identity:
                raise ValueError(
                    f"{path} is the journal of {found.identity!r}, not of {identity!r}: open it with "
                    "what it belongs to, or give this one a file of its own"
                )
            # only now is anything written to a file that was there
            _prepare(connection, durable, network)
            count = Count(_count_of(path), found.last_seq)
            undo.callback(count.close)
            journal = cls(path, found, compact_every, crc, holder, connection, count, loss)
            undo.pop_all()  # it is open from here on
            return journal

    @classmethod
    def read(
        cls, path: str | Path, *, remedy: str = "open it for writing, which says more"
    ) -> Recorded:
        """What a journal holds now; a writer that has it open neither waits nor is disturbed.

        Args:
            remedy: what to do where messages are missing.

        Raises:
            ValueError: there is none, it is damaged, holds fewer messages than were acknowledged, has
                no count beside it, or comes from a newer kfmodels.
        """
        path = Path(os.path.realpath(path))
        with _explain(path):
            # first, or a writer could be ahead of what is read
            counted = read_count(_count_of(path))
            if not _is_there(path):
                raise ValueError(f"there is no journal {path}: look at its name")
            with closing(_connect(path)) as connection:
                connection.execute("BEGIN")  # one moment for all that is read
                found, _ = _read(path, connection)
            if loss := _tell_loss(path, found.last_seq, counted):
                raise ValueError(f"{loss}: put back all files of a copy that is whole, or {remedy}")
            return found

    @property
    def last_seq(self) -> int:
        """Number of the last message."""
        if self._midway:
            self._usable()
        return self._last_seq

    @property
    def snapshot(self) -> Message:
        """The latest document."""
        (document,) = self._usable().execute("SELECT document FROM snapshot").fetchone()
        return json.loads(document)

    def messages(self) -> Iterator[tuple[int, Message]]:
        """The messages after the snapshot as pairs (seq, message), as they stand at the call."""
        # all at once: a SELECT that is still open stands in the way of a checkpoint
        found = self._usable().execute("SELECT seq, body FROM message ORDER BY seq").fetchall()
        return ((seq, json.loads(body)) for seq, body in found)

    @property
    def due(self) -> bool:
        """Whether it is time for `compact`."""
        return self.last_seq - self.snapshot_seq >= self.compact_every

    def append(self, message: Mapping[str, object]) -> int:
        """Commit a message; its number.

        Raises:
            ValueError: the message would not come back from JSON as it is (NaN, infinity, a tuple, a
                key that is no text); the journal is closed or not of this thread and process.
            OSError: the disk is full or fails, or the file was deleted, renamed or replaced meanwhile.
                The journal is as before and takes messages again when there is room. If a process is
                killed right after its disk failed to sync, the message may be there all the same:
                `last_seq` says.
        """
        connection = self._usable()
        seq = self._last_seq + 1
        body = encode(message, "the message")
        crc = _checksum(seq, body, self._crc)
        self._check_place(f"message {seq}")
        self._midway = True
        try:
            connection.execute("INSERT INTO message VALUES (?, ?, ?)", (seq, body, crc))
        except sqlite3.Error as error:
            self._fail(f"message {seq}", error)
        self._last_seq, self._crc = seq, crc
        self._count.write(seq)
        self._midway = False
        return seq

    def compact(self, document: Message) -> None:
        """Put the state after the last message in the place of all before; raises as `append`."""
        connection = self._usable()
        seq, text = self._last_seq, encode(document)
        crc = _checksum(seq, text, zlib.crc32(self.identity.encode()))
        self._check_place(f"the snapshot after message {seq}")
        self._midway = True
        try:
            # one transaction: a kill leaves the old snapshot with its messages, or the new one
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                connection.execute("DELETE FROM message")
                connection.execute("DELETE FROM snapshot")
                connection.execute("INSERT INTO snapshot VALUES (?, ?, ?)", (seq, text, crc))
        except sqlite3.Error as error:
            self._fail(f"the snapshot after message {seq}", error)
        self.snapshot_seq, self._crc, self._midway = seq, crc, False
        # the snapshot is committed; what a reader or a full disk prevents here is done later
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Hand the file back; a second time does nothing, and so does a forked process."""
        # SQLite forbids a forked process to use a connection of its parent, and closing is a use
        if self._connection is not None and os.getpid() == self._process:
            connection = self._usable()
            # leave one plain file, which can be read in a folder that cannot be written; a reader may
            # prevent it, and then the log stays beside it. What has been replaced is left alone, for
            # SQLite would remove the log of another file
            if _file_of(self.path) == self._file:
                with suppress(sqlite3.OperationalError):
                    connection.execute("PRAGMA journal_mode = DELETE")
            else:
                connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
            connection.close()
            self._count.close()
            self._holder.close()
            self._connection = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # a connection of sqlite3 is part of a reference cycle: without this the lock would stay until
        # the garbage collector runs
        with suppress(ValueError, sqlite3.Error):
            self.close()

    def _usable(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError(f"the journal {self.path} is closed: open it again")
        if os.getpid() != self._process or threading.get_ident() != self._thread:
            raise ValueError(
                f"the journal {self.path} belongs to the thread that opened it, in process "
                f"{self._process}: write from there"
            )
        if (
            self._midway
        ):  # Ctrl-C, or a failed disk, in the middle of a commit: it is there, or is not
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            (self.snapshot_seq, crc) = self._connection.execute(
                "SELECT seq, crc FROM snapshot"
            ).fetchone()
            last = self._connection.execute(
                "SELECT seq, crc FROM message ORDER BY seq DESC LIMIT 1"
            ).fetchone()
            self._last_seq, self._crc = last or (self.snapshot_seq, crc)
            self._count.write(self._last_seq)
            self._midway = False
        return self._connection

    def _check_place(self, what: str) -> None:
        """Raise unless the path still leads to the file that is open here, and no other does."""
        if _file_of(self._name) != self._file:
            raise OSError(
                ESTALE,
                f"{what} is not in {self.path}, which was deleted, renamed, replaced or linked to "
                f"while it was open here, and stands at message {self._last_seq}: put that file back, "
                "or close this and open it again",
            )

    def _fail(self, what: str, error: sqlite3.Error) -> NoReturn:
        self._midway = False
        code = {"FULL": ENOSPC, "BUSY": EAGAIN}.get(kind_of(error), EIO)
        says = (
            f"{what} is not in {self.path}, which stands at message {self._last_seq} as before "
            f"({error}): see that the disk works and has room, for the size of {self.path.name}-wal "
            "and more, and that no other program writes to it; then try again"
        )
        raise OSError(code, says) from error


def _is_there(path: Path) -> bool:
    """Whether there is a file. It is not opened: closing it would release SQLite's locks on it."""
    log = Path(f"{path}-wal")
    if not path.exists() and log.exists() and log.stat().st_size:
        # a new file in its place would be taken together with the log of the old one
        raise ValueError(
            f"{path} is gone, but {log} holds its last messages: put it back, or delete that too"
        )
    return path.exists()


def _count_of(path: Path) -> Path:
    return Path(f"{path}-count")


def _file_of(path: str | Path) -> tuple[int, int, int] | None:
    """What tells a file from others, and how many names it has; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_dev, found.st_nlink


def _tell_loss(path: Path, last_seq: int, counted: int | None) -> str:
    """Which messages are missing of those that were acknowledged; empty if none."""
    if counted is None:
        return (
            f"{path} stands at message {last_seq}, and nothing says how many were acknowledged, for "
            f"{_count_of(path).name} is not beside it or is damaged, as where files are copied or "
            "renamed one by one"
        )
    if counted <= last_seq:
        return ""
    return (
        f"{path} stands at message {last_seq}, but {counted} were acknowledged: its log was cut, "
        "damaged or left behind, or a power cut came where it was safe from kills only"
    )


def _tell_writer(path: Path) -> str:
    """Who has a journal open."""
    writer = "another process"  # unless the journal tells which; one being made does not yet
    with suppress(sqlite3.Error, TypeError), closing(_connect(path)) as connection:
        (writer,) = connection.execute("SELECT name FROM writer").fetchone()
    return "already open in this process" if writer == _name_writer() else f"in use by {writer}"


def _name_writer() -> str:
    return f"process {os.getpid()} on {os.uname().nodename}"


def _connect(path: Path) -> sqlite3.Connection:
    """Open a journal in order to read it; closing it changes nothing."""
    # mode=rw, because the default would make an empty file where there is none
    connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", 1.0, uri=True, isolation_level=None)
    # a file that is refused as damaged keeps its log, for whoever repairs it
    connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
    return connection


def _prepare(connection: sqlite3.Connection, durable: bool, network: bool) -> None:
    """Set up a connection for appending, and sign the journal with this process."""
    connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, False)
    # the write-ahead log needs memory that all readers share, which machines do not share
    connection.executescript(f"""
        PRAGMA journal_mode = {"DELETE" if network else "WAL"};
        PRAGMA synchronous = {"EXTRA" if durable else "NORMAL"};  -- as FULL, and the folder too
        PRAGMA fullfsync = {durable:d};  -- macOS, where fsync alone promises little
        PRAGMA secure_delete = OFF;
        PRAGMA busy_timeout = {10_000 if network else 1_000};  -- without WAL a reader delays a commit
        BEGIN IMMEDIATE;
        CREATE TABLE IF NOT EXISTS writer (name TEXT NOT NULL);
        DELETE FROM writer;
    """)
    with connection:
        connection.execute("INSERT INTO writer VALUES (?)", (_name_writer(),))
        connection.execute("UPDATE journal SET durable = ?", (durable,))


def _create(path: Path, document: str, identity: str, durable: bool) -> None:
    """Write a new journal with one snapshot, all or nothing."""
    crc = _checksum(0, document, zlib.crc32(identity.encode()))
    with (
        replacing(path) as temporary,
        closing(sqlite3.connect(temporary, isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = MEMORY")  # a kill leaves no second file beside it
        connection.executescript(_SCHEMA)
        connection.execute("INSERT INTO journal VALUES (?, ?)", (identity, durable))
        connection.execute("INSERT INTO snapshot VALUES (0, ?, ?)", (document, crc))
        connection.commit()


def _read(path: Path, connection: sqlite3.Connection) -> tuple[Recorded, int]:
    """What an open database holds, and the last checksum."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    FORMAT.check(FORMAT.name if application == _APPLICATION else None, version, path)
    try:
        (fault,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if fault != "ok":
            raise ValueError(fault)
        # one row each; another number is a ValueError, and so a damaged file
        ((identity,),) = connection.execute("SELECT identity FROM journal")
        ((first, document, crc),) = connection.execute("SELECT * FROM snapshot")
        running = _checksum(first, document, zlib.crc32(identity.encode()))
        if crc != running:
            raise ValueError("the snapshot is not as it was written")
        messages: list[tuple[int, Message]] = []
        rows = connection.execute("SELECT seq, body, crc FROM message ORDER BY seq")
        # with the number due and the checksum before: a row lost or exchanged breaks the chain
        for due, (seq, body, crc) in enumerate(rows, first + 1):
            running = _checksum(due, body, running)
            if (seq, crc) != (due, running):
                raise ValueError(f"message {due} is not as it was written")
            messages.append((due, json.loads(body)))
    except (ValueError, TypeError) as error:
        said = " ".join(str(error).split())  # SQLite tells in several lines
        raise ValueError(
            f"{path} is damaged ({said}). Nothing was changed: put a backup in its place, or move it "
            f"away, {path.name}-wal with it, and begin again"
        ) from error
    return Recorded(identity, json.loads(document), first, messages), running


def _checksum(seq: int, text: str, before: int) -> int:
    return zlib.crc32(f"{seq}\n{text}".encode(), before)


@contextmanager
def _explain(path: Path) -> Generator[None]:
    """Turn an error of SQLite into one sentence that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        other = f"cannot be read ({error}): put a backup in its place, or see that the disk works"
        raise ValueError(f"{path} {_REMEDIES.get(kind_of(error), other)}") from error
