"""The file of a fit: netCDF that ends with its digest, and asks for no more memory than it has bytes.

Needs no JAX, so that `kfmodels live` can look into a fit without it.
"""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from kfmodels.files.documents import Format
from kfmodels.files.seal import read_regular, seal, unseal

if TYPE_CHECKING:
    from h5py import Group

FORMAT_VERSION = 5
FORMAT = Format(
    "kfmodels fit",
    FORMAT_VERSION,
    "a saved fit",
    "fit the prices and write one with fit.save(path)",
    oldest=4,
)

_TIMES = 4
"""Memory that the arrays of a fit may ask for, in sizes of its file; they are written as they are."""

_SPARE = 2**20  # netCDF declares dimensions as arrays that were never written
_DEPTH = 4


def seal_file(path: Path) -> None:
    """Put the digest at the end of a netCDF file, where HDF5 passes it over."""
    path.write_bytes(seal(path.read_bytes()))


def read_file(path: str | Path) -> BytesIO:
    """The netCDF file of a fit, checked to be as it was written and to be no trap.

    Raises:
        ValueError: there is none, it is damaged or no fit, asks for far more memory than it has bytes,
            or has links that lead out of it or into themselves.
    """
    from h5py import File

    content = unseal(
        read_regular(path, FORMAT.title, FORMAT.remedy), path, FORMAT.title, FORMAT.remedy
    )
    file = BytesIO(content)
    try:
        with File(file) as opened:
            asked = _measure(opened, set[int](), 0)
    except RecursionError as error:
        raise ValueError(
            f"{path} has links into itself or out of it, which no fit has: {FORMAT.remedy}"
        ) from error
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not {FORMAT.title} (netCDF): {error}; {FORMAT.remedy}"
        ) from error
    if asked > _TIMES * len(content) + _SPARE:
        raise ValueError(
            f"{path} has {len(content):,} bytes and asks for {asked:,}, which no fit does: "
            f"{FORMAT.remedy}"
        )
    file.seek(0)
    return file


def _measure(group: "Group", seen: set[int], depth: int) -> int:
    """Bytes of all arrays in a group; raises RecursionError where it is reached twice."""
    from h5py import Dataset, Group, HardLink

    place = group.id.__hash__()
    if place in seen or depth > _DEPTH:
        raise RecursionError
    seen.add(place)
    asked = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), HardLink):
            raise RecursionError
        item = group[name]
        if isinstance(item, Group):
            asked += _measure(item, seen, depth + 1)
        elif isinstance(item, Dataset):
            asked += item.size * item.dtype.itemsize if item.size else 0
    return asked
