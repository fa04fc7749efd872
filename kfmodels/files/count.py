"""How many messages of a journal were acknowledged, kept outside of its log.

    PATH-count    one line: the number of the last message, and a checksum of it

A log that was cut or deleted looks like one that was always short. So the number is written after each
commit: a process that is killed between the two leaves it one behind, never ahead, and a journal that
holds fewer messages than it says has lost some.
"""

import os
import zlib
from pathlib import Path

from kfmodels.files.atomic import replacing


class Count:
    """The file open for writing, by the process that writes the journal."""

    def __init__(self, path: Path, seq: int) -> None:
        if read_count(path) is None:
            with replacing(path) as temporary:
                temporary.write_bytes(_line(seq))
        # no buffer between, and no fsync: after a power cut an older number only guards less
        self._file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        self.write(seq)

    def write(self, seq: int) -> None:
        """Note a message; one call of the system, so that a kill leaves the old line or the new."""
        os.pwrite(self._file, _line(seq), 0)

    def close(self) -> None:
        """Let go of the file; a second time does nothing."""
        if self._file >= 0:
            file, self._file = self._file, -1
            os.close(file)


def read_count(path: Path) -> int | None:
    """The number of the last message acknowledged; None where the file is missing or damaged."""
    try:
        line = path.read_bytes()
        seq = int(line[:20])
    except (OSError, ValueError):
        return None
    return seq if line == _line(seq) else None


def _line(seq: int) -> bytes:
    number = b"%020d" % seq
    return b"%b %08x\n" % (number, zlib.crc32(number))
