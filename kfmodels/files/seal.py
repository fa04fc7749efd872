"""The digest that ends every file that is written whole, so that a damaged one is refused, not read.

    CONTENT,"sha256":"64 digits"}

The digest is of every byte before it. A document of JSON is closed by it; HDF5 and zip, which know
where they end, pass it over. It tells damage; it is no signature: what is read is checked all the same.
"""

import os
import stat
from hashlib import sha256
from pathlib import Path

MOST = 2**30
"""Bytes that a file may have: a larger one is none of ours, and reading it would only take memory."""

_BEGIN, _END = b',"sha256":"', b'"}'
LENGTH = len(_BEGIN) + 64 + len(_END)
"""Bytes of a seal."""


def seal(content: bytes) -> bytes:
    """The content of a file with its digest at the end.

    Example:
        >>> seal(b'{"a":1')[:20]
        b'{"a":1,"sha256":"8b0'
        >>> unseal(seal(b'{"a":1'), "a.json", "a toy", "make one")
        b'{"a":1'
    """
    return content + _BEGIN + sha256(content).hexdigest().encode() + _END


def unseal(sealed: bytes, where: object, title: str, remedy: str) -> bytes:
    """The content that was sealed.

    Args:
        sealed: all bytes of a file.
        where: its path, for errors.
        title: what it should be: "a saved fit".
        remedy: what to do instead.

    Raises:
        ValueError: it ends with no digest, or with that of another content.
    """
    content, end = sealed[:-LENGTH], sealed[-LENGTH:]
    if not (end.startswith(_BEGIN) and end.endswith(_END)):
        raise ValueError(
            f"{where} is not {title}, or was cut off or changed, for it does not end with its digest: "
            f"put a copy in its place, or {remedy}"
        )
    if seal(content) != sealed:
        raise ValueError(
            f"{where} is damaged, for it is not as it was written (its digest is of another content): "
            f"put a copy in its place, or {remedy}"
        )
    return content


def read_regular(path: str | Path, title: str, remedy: str) -> bytes:
    """All bytes of a file.

    Raises:
        ValueError: there is no such file, it is no regular file or larger than `MOST`.
        OSError: it cannot be read.
    """
    try:
        # without waiting, or a pipe that nobody writes to would keep us here
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ValueError(f"there is no file {path}: {remedy}") from error
    with open(opened, "rb") as file:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is not {title}, for it is no regular file: {remedy}")
        if found.st_size > MOST:
            raise ValueError(
                f"{path} is not {title}, for it has {found.st_size:,} bytes, and none has more than "
                f"{MOST:,}: {remedy}"
            )
        return file.read()
