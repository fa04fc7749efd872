"""A folder that keeps what `fit_many` fits and every chunk it has finished; it survives kills.

    job.json     what is fitted and how, for workers on any machine; digests of prices and pairs
    prices.npz   the prices and the pairs, once
    chunks/      one npz file per chunk, named by its number and a digest of its content
    finished     journal of the finished chunks; its lock is held by the one driver that may write

Nothing in it is a pickle. A chunk is finished from the moment it stands in the journal.

One file: what is written here is read here, and a kill may come between any two lines.
"""

import json
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from kfmodels.files.documents import Format
from kfmodels.files.log import Journal, Message
from kfmodels.files.seal import read_regular, seal, unseal
from kfmodels.kalman.transforms import transform_of
from kfmodels.words.caller import warn

FORMAT = Format(
    "kfmodels batch",
    4,
    "a batch of fits",
    "make one with fit_many(..., store=...) in a new folder",
    oldest=4,
)

JOB, PRICES, CHUNKS, FINISHED = "job.json", "prices.npz", "chunks", "finished"

_OF_PAIRS = ("pairs", "prices", "transform")
"""What of a job `describe_pairs` says."""

_MANIFEST = "manifest.jsonl"
"""The file that version 1 had in the place of job and journal."""


class Record(NamedTuple):
    """A finished chunk as the journal lists it."""

    chunk: int
    file: str
    sha256: str
    names: list[str]
    statuses: list[tuple[str, str]]
    """Status and reason of each pair; see `status.Verdict`."""


class Fitted(NamedTuple):
    """A chunk that is written, and how many of its pairs are still to be refitted by NUTS."""

    record: Record
    doubted: int


@dataclass(frozen=True, eq=False)
class Store:
    """The content of a folder, for reading; `hold_store` opens one for writing."""

    path: Path
    job: dict[str, Any]
    """What is fitted and how: model, method, seed, chunk_size, pairs, prices, versions."""

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open the store in a folder.

        Raises:
            ValueError: there is none, or another version of kfmodels made it.
        """
        path = Path(path)
        if not is_store(path):
            raise ValueError(f"{path} holds no batch of fits: {FORMAT.remedy}")
        if not (path / JOB).is_file():  # a manifest alone is of version 1, and refused as such
            FORMAT.check(FORMAT.name, 1, path)
        job: Any = FORMAT.load(path / JOB).get("job")
        try:
            sound = job["pairs"]["count"] > 0 and job["chunk_size"] > 0
        except (TypeError, LookupError):
            sound = False
        if not sound:
            raise ValueError(f"{path / JOB} holds no job: {FORMAT.remedy}")
        return cls(path, job)

    @cached_property
    def identity(self) -> str:
        """Digest of the job."""
        return sha256(json.dumps(self.job).encode()).hexdigest()

    @cached_property
    def pairs(self) -> HedgePairs:
        """The prices and pairs that are fitted.

        Raises:
            ValueError: they cannot be read, or are not those of the job.
        """
        found = read_pairs(self.path / PRICES)
        if differences({name: self.job.get(name) for name in _OF_PAIRS}, describe_pairs(found)):
            raise ValueError(
                f"the prices in {self.path / PRICES} are not those of the job: run fit_many again with "
                "this store; it writes them anew"
            )
        return found

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
        """Read which chunks are finished, by number, in the order of finishing.

        Raises:
            ValueError: the journal is damaged, or lists what is not of the job.
        """
        if not (self.path / FINISHED).exists():
            return {}
        journal = Journal.read(
            self.path / FINISHED,
            remedy="run fit_many again with this store, which fits again what is missing",
        )
        try:
            before: Any = journal.snapshot["chunks"]
            listed = [*before, *(message for _, message in journal.messages)]
            found = {record["chunk"]: Record(**record) for record in listed}
            for record in found.values():
                self._check(record)
        except (TypeError, LookupError) as error:
            raise ValueError(self._not_of_job(repr(error))) from error
        return found

    def _check(self, record: Record) -> None:
        """Raise unless a record is of a chunk of the job, with the pairs that it has there."""
        names = [self.names[position] for position in self.chunks[record.chunk]]
        if record.names != names or len(record.statuses) != len(names):
            raise ValueError(self._not_of_job(f"chunk {record.chunk} has other pairs"))
        if Path(record.file).name != record.file:
            raise ValueError(self._not_of_job(f"chunk {record.chunk} is in {record.file}"))

    def _not_of_job(self, why: str) -> str:
        return (
            f"{self.path / FINISHED} lists what is not of the job ({why}): put a copy in its place, or "
            "run fit_many with a new folder"
        )

    def sound(self, record: Record) -> bool:
        """Whether the file of a chunk is there and as it was written."""
        return self._content(record) is not None

    def arrays(self, record: Record) -> dict[str, np.ndarray]:
        """Read the arrays of a finished chunk, pairs along the first axis.

        Raises:
            ValueError: the file is missing or not as it was written.
        """
        content, file = self._content(record), self.path / CHUNKS / record.file
        if content is None:
            raise ValueError(
                f"{file} is {'damaged' if file.is_file() else 'missing'}: run fit_many again with this "
                "store; it does that chunk again and no other"
            )
        return unpack(content)

    def _content(self, record: Record) -> bytes | None:
        """The bytes of the file of a chunk; None unless they are those that were written."""
        file = self.path / CHUNKS / record.file
        content = file.read_bytes() if file.is_file() else b""
        return content if sha256(content).hexdigest() == record.sha256 else None

    def write(
        self, number: int, arrays: dict[str, np.ndarray], statuses: Sequence[tuple[str, str]]
    ) -> Record:
        """Write the arrays of a chunk to a file, all or nothing; the driver lists it in the journal.

        Raises:
            ValueError: arrays or statuses are not as many as the pairs of the chunk.
        """
        names = [self.names[position] for position in self.chunks[number]]
        lengths = {"statuses": len(statuses)} | {k: len(array) for k, array in arrays.items()}
        wrong = [name for name, length in lengths.items() if length != len(names)]
        if wrong:
            raise ValueError(f"chunk {number} has {len(names)} pairs, but not {', '.join(wrong)}")
        content = pack(arrays)
        checksum = sha256(content).hexdigest()
        # two workers may fit one chunk, where one was given up for lost: a digest in the name keeps
        # them from writing different contents to the same file
        file = f"{number:06d}-{checksum[:16]}.npz"
        with replacing(self.path / CHUNKS / file) as temporary:
            temporary.write_bytes(content)
        return Record(number, file, checksum, names, list(statuses))


class Writer(NamedTuple):
    """A store held by `hold_store`, and the journal of its finished chunks."""

    store: Store
    journal: Journal

    def add(self, record: Record) -> None:
        """List a chunk as finished; when this returns it is on the disk.

        Raises:
            OSError: the disk is full; the journal is then as before.
        """
        self.journal.append(_message(record))


def is_store(path: Path) -> bool:
    """Whether a folder holds a batch of fits, of whatever version."""
    return (path / JOB).is_file() or (path / _MANIFEST).is_file()


@contextmanager
def hold_store(path: str | Path, job: dict[str, object], pairs: HedgePairs) -> Generator[Writer]:
    """Make the folder, or go on with it, and keep every other driver out meanwhile.

    Raises:
        ValueError: another process holds it; it holds another job (the message says what changed);
            it is not a folder or holds other files. What is there is left as it is.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"store is a folder; {path} is a file")
    store = Store(path, json.loads(json.dumps(job)))
    if is_store(path):
        changes = differences(Store.open(path).job, store.job)
        if changes:
            raise ValueError(
                f"{path} holds another job and is left as it is: {'; '.join(changes)}. Give this job "
                f"a folder of its own, or delete {path}"
            )
    elif others := _others(path):
        raise ValueError(
            f"{path} holds other files ({', '.join(others[:3])}{' ...' if others[3:] else ''}) and no "
            "batch of fits: give store a new or an empty folder"
        )
    path.mkdir(parents=True, exist_ok=True)
    identity = f"job {store.identity}"
    # workers on other machines read the journal, so the disk may be a shared one
    how: Any = {"identity": identity, "network": True, "accept_loss": True}
    with Journal.open(path / FINISHED, {"chunks": []}, **how) as journal:
        if journal.loss:
            warn(f"{journal.loss}; chunks that it does not list are fitted again")
        _complete(store, pairs)
        _sweep(store, journal)
        try:
            yield Writer(store, journal)
        finally:
            _remove_unfinished(path)


def _others(path: Path) -> list[str]:
    """Files in a folder that are not those of a store whose making was interrupted."""
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    ours = (PRICES, CHUNKS, FINISHED)
    return [name for name in names if not name.startswith(ours) and not name.endswith(".tmp")]


def _complete(store: Store, pairs: HedgePairs) -> None:
    """Write what is missing or damaged of a store; the job last, for by it others find the store."""
    (store.path / CHUNKS).mkdir(exist_ok=True)
    try:
        # what is known to be real moves no number: it is kept as it was said last
        kept = store.pairs.real == pairs.real
    except ValueError:
        kept = False
    if not kept:
        write_pairs(store.path / PRICES, pairs)
    if not (store.path / JOB).is_file():
        FORMAT.save(store.path / JOB, {"job": store.job})


def _sweep(store: Store, journal: Journal) -> None:
    """Remove files that the journal does not name, and from the journal those that are damaged."""
    _remove_unfinished(store.path)
    records = store.records()
    sound = {number: record for number, record in records.items() if store.sound(record)}
    if len(sound) < len(records):
        journal.compact({"chunks": [_message(record) for record in sound.values()]})
    listed = {record.file for record in sound.values()}
    for file in (store.path / CHUNKS).glob("*.npz"):
        if file.name not in listed:
            file.unlink(missing_ok=True)


def _message(record: Record) -> Message:
    """A record as the journal takes it: the journal refuses tuples, which would come back as lists."""
    return json.loads(json.dumps(record._asdict()))


def _remove_unfinished(path: Path) -> None:
    """Remove what a killed process was writing."""
    for folder in (path, path / CHUNKS):
        for left in folder.glob(".*.tmp"):
            left.unlink(missing_ok=True)


def differences(was: object, now: object, name: str = "") -> list[str]:
    """A phrase for each entry that differs between two jobs."""
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
    """Versions of the packages that the numbers of a fit may depend on."""
    found = {}
    for name in ("kfmodels", "jax", "numpyro", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from its sources
            found[name] = "unknown"
    return found


def write_pairs(path: Path, pairs: HedgePairs) -> None:
    """Write prices and pairs to one npz file.

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
        "real_moves": np.array(pairs.real, dtype=str).reshape(-1, 2),
    }
    try:  # a time zone is written as its name, by which not every one is found again
        same = _index(arrays).equals(pairs.index)
    except (KeyError, ValueError):  # ZoneInfoNotFoundError is a KeyError
        same = False
    if not same:
        raise ValueError(
            f"the dates are in the time zone {zone}, which has no name that a file could keep: use "
            'prices.tz_convert("UTC")'
        )
    with replacing(path) as temporary:
        temporary.write_bytes(seal(pack(arrays)))


def read_pairs(path: Path) -> HedgePairs:
    """Read what `write_pairs` wrote.

    Raises:
        ValueError: it is missing or damaged.
    """
    remedy = "run fit_many again with this store; it writes them anew"
    try:
        written = read_regular(path, "a table of prices", remedy)
        arrays = unpack(unseal(written, path, "a table of prices", remedy))
    except (BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"the prices in {path} cannot be read ({error}): {remedy}") from error
    tickers = arrays["tickers"].tolist()
    prices = pd.DataFrame(arrays["prices"], _index(arrays), tickers)
    listed = tuple((tickers[target], tickers[hedge]) for target, hedge in arrays["pairs"].tolist())
    keys, sentences = arrays["fault_tickers"].tolist(), arrays["fault_sentences"].tolist()
    transform = transform_of(arrays["transform"].item())
    faults = dict(zip(keys, sentences, strict=True))
    real = tuple((name, at) for name, at in arrays.get("real_moves", np.empty((0, 2))).tolist())
    return HedgePairs(prices, listed, transform, faults, real)


def describe_pairs(pairs: HedgePairs) -> dict[str, object]:
    """Pairs and prices as a job holds them: a few words for people, and two digests to compare."""
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
    """Digest of prices, tickers, faults and dates."""
    values = pairs.prices.to_numpy("<f8")
    zone = str(getattr(pairs.index, "tz", None))
    words = [[str(name) for name in pairs.prices.columns], pairs.faults, _dtype(pairs.index), zone]
    # NaN has many bit patterns; all of them are the same gap
    digest = sha256(np.where(np.isnan(values), np.nan, values).tobytes())
    digest.update(_whole(pairs.index).astype("<i8").tobytes() + json.dumps(words).encode())
    return digest.hexdigest()


def pack(arrays: dict[str, Any]) -> bytes:
    """Write arrays as the bytes of an npz file; the same arrays give the same bytes.

    Raises:
        ValueError: an array holds Python objects.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which a store does not keep")
    content = BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def unpack(content: bytes) -> dict[str, np.ndarray]:
    """Read the arrays of an npz file; one with pickles in it is refused."""
    with np.load(BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _texts(words: Iterable[object]) -> np.ndarray:
    return np.array([str(word) for word in words], dtype=str)


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
