"""A folder that keeps what `fit_many` fits and every chunk it has finished; it survives kills.

    prices.npz       the prices and the pairs, once
    manifest.jsonl   a first line with the job, then one line a finished chunk
    chunks/          one npz file a chunk, named by number and content
    lock             held by the one driver that may write

Nothing in it is a pickle; prices and pairs are also told by a digest, by which a changed job is found.
A chunk counts from the moment its line stands in the manifest in full.

One file: what is written here is read here, and a kill may come between any two lines.
"""

import fcntl
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOSPC
from functools import cached_property
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.files.atomic import replacing
from kfmodels.kalman.transforms import transform_of

FORMAT = "kfmodels batch"
FORMAT_VERSION = 1

MANIFEST, PRICES, CHUNKS, LOCK = "manifest.jsonl", "prices.npz", "chunks", "lock"

_OURS = {MANIFEST, PRICES, CHUNKS, LOCK}


class Record(NamedTuple):
    """A finished chunk as the manifest lists it."""

    chunk: int
    file: str
    sha256: str
    names: list[str]
    statuses: list[tuple[str, str]]
    """Status and reason of each pair; see `status.Verdict`."""


@dataclass(frozen=True, eq=False)
class Store:
    """The content of a folder, to read; `held` is for the one who writes."""

    path: Path
    job: dict[str, Any]
    """What is fitted and how: model, method, seed, chunk_size, pairs, prices, versions."""

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """The store in a folder.

        Raises:
            ValueError: there is none, or a newer kfmodels made it.
        """
        path = Path(path)
        manifest = path / MANIFEST
        if not manifest.is_file():
            raise ValueError(
                f"{path} holds no batch of fits (there is no {MANIFEST} in it): make one with "
                "fit_many(..., store=...)"
            )
        with manifest.open("rb") as lines:
            header = _parsed(lines.readline())
        if header.get("format") != FORMAT or not isinstance(header.get("job"), dict):
            raise ValueError(
                f"the first line of {manifest} does not describe a batch of fits: the file is damaged "
                "or not from kfmodels; delete the folder and run fit_many again"
            )
        if header["version"] > FORMAT_VERSION:
            raise ValueError(
                f"{path} was written by a newer kfmodels (format {header['version']}, this one reads "
                f"up to {FORMAT_VERSION}): upgrade kfmodels"
            )
        return cls(path, header["job"])

    @cached_property
    def identity(self) -> str:
        """Digest of the job."""
        return sha256(json.dumps(self.job).encode()).hexdigest()

    @cached_property
    def pairs(self) -> HedgePairs:
        """The prices and pairs that are fitted.

        Raises:
            ValueError: they cannot be read.
        """
        return read_pairs(self.path / PRICES)

    @cached_property
    def names(self) -> list[str]:
        """The pairs as "target/hedge"."""
        return self.pairs.names

    @cached_property
    def chunks(self) -> list[list[int]]:
        """The positions of the pairs of each chunk."""
        count, size = self.job["pairs"]["count"], self.job["chunk_size"]
        return [list(range(at, min(at + size, count))) for at in range(0, count, size)]

    def records(self) -> dict[int, Record]:
        """The chunks that the manifest lists, by number; lines that are torn or damaged are not."""
        lines = (self.path / MANIFEST).read_bytes().split(b"\n")[1:-1]
        found = [_parsed(line) for line in lines]
        listed = [Record(**line) for line in found if line.keys() == Record.__annotations__.keys()]
        return {record.chunk: record for record in listed}

    def sound(self, record: Record) -> bool:
        """Whether the file of a chunk is there and as it was written."""
        try:
            content = (self.path / CHUNKS / record.file).read_bytes()
        except FileNotFoundError:
            return False
        return sha256(content).hexdigest() == record.sha256

    def arrays(self, record: Record) -> dict[str, np.ndarray]:
        """The arrays of a finished chunk, pairs along the first axis.

        Raises:
            ValueError: the file is missing or not as it was written.
        """
        file = self.path / CHUNKS / record.file
        content = file.read_bytes() if file.is_file() else b""
        if sha256(content).hexdigest() != record.sha256:
            raise ValueError(
                f"{file} is {'damaged' if content else 'missing'}: run fit_many again with this store; "
                "it does that chunk again and no other"
            )
        return unpacked(content)

    def write(
        self, number: int, arrays: dict[str, np.ndarray], statuses: Sequence[tuple[str, str]]
    ) -> Record:
        """Keep the arrays of a chunk in a file, in one go; the manifest is left to the driver.

        The name holds a digest of the content, so that two workers on one chunk (one given up for
        lost) never write the same name with different contents.
        """
        names = [self.names[position] for position in self.chunks[number]]
        lengths = {"statuses": len(statuses)} | {k: len(array) for k, array in arrays.items()}
        wrong = [name for name, length in lengths.items() if length != len(names)]
        if wrong:
            raise ValueError(f"chunk {number} has {len(names)} pairs, but not {', '.join(wrong)}")
        content = packed(arrays)
        checksum = sha256(content).hexdigest()
        file = f"{number:06d}-{checksum[:16]}.npz"
        with replacing(self.path / CHUNKS / file) as temporary:
            temporary.write_bytes(content)
        return Record(number, file, checksum, names, list(statuses))


class Journal(NamedTuple):
    """A store that is held, and its manifest open at the end."""

    store: Store
    descriptor: int

    def add(self, record: Record) -> None:
        """List a chunk as finished; when this returns it is on the disk.

        Raises:
            OSError: the disk is full; the manifest is then as before.
        """
        line = _line(record)
        before = os.fstat(self.descriptor).st_size
        written = os.write(self.descriptor, line)
        if written < len(line):
            os.ftruncate(self.descriptor, before)
            raise OSError(ENOSPC, os.strerror(ENOSPC), str(self.store.path / MANIFEST))
        os.fsync(self.descriptor)


@contextmanager
def held(path: str | Path, job: dict[str, Any], pairs: HedgePairs) -> Iterator[Journal]:
    """Make the folder, or go on with it, while no one else does.

    Raises:
        ValueError: another process holds it; it holds another job (the message says what changed);
            it is not a folder or holds other files. What is there is left as it is.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"store is a folder; {path} is a file")
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    others = sorted(name for name in names - _OURS if not name.endswith(".tmp"))
    if others and MANIFEST not in names:
        raise ValueError(
            f"{path} holds other files ({', '.join(others[:3])}{' ...' if others[3:] else ''}) and no "
            "batch of fits: give store a new or an empty folder"
        )
    path.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        store = _made(path, job, pairs)
        _swept(store)
        descriptor = os.open(path / MANIFEST, os.O_WRONLY | os.O_APPEND)
        try:
            yield Journal(store, descriptor)
        finally:
            os.close(descriptor)
            _unfinished(path)


def _made(path: Path, job: dict[str, Any], pairs: HedgePairs) -> Store:
    """The store in a folder, written where there is none."""
    job = json.loads(json.dumps(job))
    if (path / MANIFEST).is_file():
        store = Store.open(path)
        changes = differences(store.job, job)
        if changes:
            raise ValueError(
                f"{path} holds another job and is left as it is: {'; '.join(changes)}. Give this job "
                f"a folder of its own, or delete {path}"
            )
        try:
            _ = store.pairs
        except ValueError:
            write_pairs(path / PRICES, pairs)
        return Store(path, job)
    (path / CHUNKS).mkdir(exist_ok=True)
    write_pairs(path / PRICES, pairs)
    header = {"format": FORMAT, "version": FORMAT_VERSION, "job": job}
    with replacing(path / MANIFEST) as temporary:
        temporary.write_text(json.dumps(header) + "\n")
    return Store(path, job)


def differences(was: Any, now: Any, name: str = "") -> list[str]:
    """What two jobs differ in, a phrase each."""
    if isinstance(was, dict) and isinstance(now, dict):
        inner = [
            differences(was.get(key), now.get(key), f"{name}.{key}" if name else str(key))
            for key in dict.fromkeys([*was, *now])
        ]
        return [phrase for phrases in inner for phrase in phrases]
    before, after = json.dumps(was), json.dumps(now)
    if before == after:
        return []
    if name.endswith("sha256"):
        before, after = before[1:9], after[1:9]
        name = f"{name.rpartition('.')[0]} (digest)"
    return [f"{name} was {before}, is now {after}"]


def versions() -> dict[str, str]:
    """What the numbers of a fit may depend on."""
    found = {}
    for name in ("kfmodels", "jax", "numpyro", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from its sources
            found[name] = "unknown"
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The lock of a folder; the kernel releases it when the process dies."""
    # not inherited across exec; a worker that is forked would hold the lock after us
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    holding = [descriptor]
    os.register_at_fork(after_in_child=lambda: [os.close(held) for held in holding])
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
            raise ValueError(
                f"{path} is in use by {holder}: wait until that run has ended, or give another folder"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        yield
    finally:
        holding.clear()
        os.close(descriptor)


def _unfinished(path: Path) -> None:
    """Remove what a killed worker was writing."""
    for folder in (path, path / CHUNKS):
        for left in folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)


def _swept(store: Store) -> None:
    """Remove lines that are torn or whose file is not sound, and files that no line names."""
    _unfinished(store.path)
    manifest = store.path / MANIFEST
    sound = [record for record in store.records().values() if store.sound(record)]
    before = manifest.read_bytes()
    after = before[: before.index(b"\n") + 1] + b"".join(map(_line, sound))
    if after != before:
        with replacing(manifest) as temporary:
            temporary.write_bytes(after)
    (store.path / CHUNKS).mkdir(exist_ok=True)
    listed = {record.file for record in sound}
    for file in (store.path / CHUNKS).glob("*.npz"):
        if file.name not in listed:
            file.unlink(missing_ok=True)


def _line(record: Record) -> bytes:
    return json.dumps(record._asdict()).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def write_pairs(path: Path, pairs: HedgePairs) -> None:
    """Prices and pairs as one npz file.

    Raises:
        ValueError: the dates are in a time zone that has no name.
    """
    places = {name: place for place, name in enumerate(pairs.prices.columns)}
    zone = getattr(pairs.index, "tz", None)
    named = [] if pairs.index.name is None else [str(pairs.index.name)]
    arrays = {
        "prices": pairs.prices.to_numpy(float),
        "tickers": _texts(pairs.prices.columns),
        "pairs": np.array([[places[name] for name in pair] for pair in pairs.pairs]),
        "index": _whole(pairs.index),
        "index_dtype": _texts([_dtype(pairs.index)]),
        "index_zone": _texts([] if zone is None else [zone]),
        "index_name": _texts(named),
        "transform": _texts([pairs.transform]),
        "fault_tickers": _texts(pairs.faults),
        "fault_sentences": _texts(pairs.faults.values()),
    }
    try:
        same = _index(arrays).equals(pairs.index)
    except (KeyError, ValueError):  # ZoneInfoNotFoundError is a KeyError
        same = False
    if not same:
        raise ValueError(
            f"the dates are in the time zone {zone}, which has no name that a file could keep: use "
            'prices.tz_convert("UTC")'
        )
    with replacing(path) as temporary:
        temporary.write_bytes(packed(arrays))


def read_pairs(path: Path) -> HedgePairs:
    """What `write_pairs` wrote.

    Raises:
        ValueError: it is missing or damaged.
    """
    try:
        arrays = unpacked(path.read_bytes())
    except (FileNotFoundError, BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"the prices in {path} cannot be read ({error}): run fit_many again with this store; it "
            "writes them anew"
        ) from error
    tickers = arrays["tickers"].tolist()
    prices = pd.DataFrame(arrays["prices"], _index(arrays), tickers)
    listed = tuple((tickers[target], tickers[hedge]) for target, hedge in arrays["pairs"].tolist())
    keys, sentences = arrays["fault_tickers"].tolist(), arrays["fault_sentences"].tolist()
    transform = transform_of(arrays["transform"].item())
    return HedgePairs(prices, listed, transform, dict(zip(keys, sentences, strict=True)))


def described(pairs: HedgePairs) -> dict[str, Any]:
    """Pairs and prices in a few words and two digests, by which a change is found."""
    names, index = pairs.names, pairs.index
    return {
        "pairs": {
            "count": len(names),
            "first": names[0],
            "last": names[-1],
            "sha256": sha256(json.dumps(names).encode()).hexdigest(),
        },
        "prices": {
            "rows": len(index),
            "span": " .. ".join(str(label) for label in (*index[:1], *index[-1:])),
            "sha256": _prices_digest(pairs),
        },
        "transform": pairs.transform,
    }


def _prices_digest(pairs: HedgePairs) -> str:
    """Digest of all that is known of the prices; every NaN is the same."""
    values = pairs.prices.to_numpy("<f8")
    zone = str(getattr(pairs.index, "tz", None))
    words = [[str(name) for name in pairs.prices.columns], pairs.faults, _dtype(pairs.index), zone]
    made = sha256(np.where(np.isnan(values), np.nan, values).tobytes())
    made.update(_whole(pairs.index).astype("<i8").tobytes() + json.dumps(words).encode())
    return made.hexdigest()


def packed(arrays: dict[str, Any]) -> bytes:
    """An npz file; the same arrays give the same bytes.

    Raises:
        ValueError: an array holds Python objects.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which a store does not keep")
    content = BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def unpacked(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz file; one with pickles in it is refused."""
    with np.load(BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _texts(words: Any) -> np.ndarray:
    listed = [str(word) for word in words]
    return np.array(listed, dtype=str)


def _dtype(index: pd.Index) -> str:
    return f"M8[{index.unit}]" if isinstance(index, pd.DatetimeIndex) else str(index.dtype)


def _whole(index: pd.Index) -> np.ndarray:
    return index.asi8 if isinstance(index, pd.DatetimeIndex) else index.to_numpy(np.int64)


def _index(arrays: dict[str, np.ndarray]) -> pd.Index:
    name = arrays["index_name"].item() if arrays["index_name"].size else None
    kind, zone = arrays["index_dtype"].item(), arrays["index_zone"].tolist()
    if not kind.startswith("M8"):
        return pd.Index(arrays["index"].astype(kind), name=name)
    dates = pd.DatetimeIndex(arrays["index"].view(kind), name=name)
    return dates.tz_localize("UTC").tz_convert(zone[0]) if zone else dates
