"""Writing a file so that a reader sees the old one or the new one, never half of either."""

import os
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def check_place(path: str | Path) -> Path:
    """The place that a file will have, links resolved; to be called before long work.

    Raises:
        ValueError: there is no such folder, it may not be written to, or the name is that of something
            which is no regular file: a folder, a device, a pipe.
    """
    asked, path = Path(path), Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {asked.parent} to write {asked.name} to")
    # a rename would put a file in the place of a device, for all who use it
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{asked} is there and is no regular file: give the name of a file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"{asked} cannot be written, for you may not write to {path.parent}")
    return path


@contextmanager
def replacing(path: str | Path) -> Generator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an error.

    Where `path` is a link the file that it leads to is replaced, and the link stays.

    Raises:
        ValueError: `path` is no place for a file, as `check_place` says.
    """
    path = check_place(path)
    # in the same folder, because a file is replaced atomically only within its file system
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # first the content, or a power cut could leave the new name on an empty file
        _sync(temporary)
        # mkstemp lets only its owner read; give the permissions of any new file. The mask can only be
        # read by setting it
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
        _sync(path.parent)  # the new name survives a power cut, too: a folder is synced on its own
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
