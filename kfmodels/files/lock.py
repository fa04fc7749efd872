"""The one process that may write a file, and whether the file is one that a lock can guard.

PATH-writer   locked by that process; holds nothing, and is let go of when the process dies
"""

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_SHARED = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs")
)
"""File systems of other machines."""


def hold(path: Path, wait: float = 0.0) -> sqlite3.Connection | None:
    """Become the only writer until this is closed or the process ends; None where another is.

    A transaction of SQLite, because its locks work on every system that Python runs on.
    """
    holder = sqlite3.connect(f"{path}-writer", wait, isolation_level=None)
    try:
        holder.execute("PRAGMA journal_mode = MEMORY")  # a kill leaves no third file
        holder.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        holder.close()
        if kind_of(error) != "BUSY":
            raise
        return None
    return holder


@contextmanager
def writing(path: str | Path, wait: float = 60.0) -> Generator[None]:
    """Keep other writers of a file out, from before it is read until it is written.

    Raises:
        ValueError: another process has kept it for longer than `wait` seconds, or the folder is none
            that may be written to.
    """
    path = Path(os.path.realpath(path))
    try:
        holder = hold(path, wait)
    except sqlite3.Error as error:
        raise ValueError(
            f"{path} cannot be written: give the name of a file in a folder, both of which you may "
            "write"
        ) from error
    if holder is None:
        raise ValueError(f"{path} is in use by another process: wait until that one has ended")
    with closing(holder):
        yield


def check_guarded(path: Path, *, network: bool) -> None:
    """Raise where a second way to a file would pass by the lock: a hard link, another machine."""
    if path.is_file() and (links := path.stat().st_nlink) > 1:
        raise ValueError(
            f"{path} has {links} names (hard links), and the lock and the log of each are its own: "
            "keep one name, or make the others copies"
        )
    if not network and (kind := find_file_system(path)) in _SHARED:
        raise ValueError(
            f"{path} is on a file system of the kind {kind}, which other machines share and where a "
            "write-ahead log is not safe: give the name of a file on a disk of this machine"
        )


def find_file_system(path: Path) -> str:
    """The kind of file system that a path is on; empty where the system does not tell."""
    if not _MOUNTS.exists():
        return ""
    found = (0, "")
    for line in _MOUNTS.read_text().splitlines():
        _, place, kind, *_ = line.split()
        place = Path(place.encode().decode("unicode_escape"))  # a space is written \040
        if path.is_relative_to(place):
            found = max(found, (len(place.parts), kind))
    return found[1]


def kind_of(error: sqlite3.Error) -> str:
    """BUSY of SQLITE_BUSY_SNAPSHOT; empty where Python itself raised."""
    return (getattr(error, "sqlite_errorname", "") + "__").split("_")[1]
