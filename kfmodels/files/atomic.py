"""Writing a file so that a reader sees the old one or the new one, never half of either."""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Generator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an error.

    Raises:
        ValueError: there is no such folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} to")
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
