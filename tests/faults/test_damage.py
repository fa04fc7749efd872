"""Damaged copies of every kind of file: each is refused in one sentence, or reads as it was written."""

import json
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kfmodels as kf
from kfmodels.batch.store import CHUNKS, FINISHED, JOB, PRICES, Store, hold_store
from kfmodels.files.log import Journal
from kfmodels.files.seal import LENGTH, seal
from kfmodels.fitting.hedge_fit import load_fit
from kfmodels.online.board import OnlineBoard
from kfmodels.online.filter import OnlineFilter
from kfmodels.universe.universe import HedgeUniverse
from tests.faults.attacks import MANY
from tests.files.test_log import leave_hot
from tests.journal_writer import store_chunk, store_job
from tests.made_filters import made_board, made_filter
from tests.problems import gappy_pair, unsampled

QUICK = 12


FAULTS = ("flip", "cut", "zero", "swap", "insert")


def damage(good: bytes, draw: random.Random) -> bytes:
    """The content with one fault, anywhere in it."""
    at, kind = (
        draw.randrange(len(good)),
        draw.choice(["flip", "flip", "flip", "cut", "zero", "swap", "insert"]),
    )
    if kind == "flip":
        return good[:at] + bytes([good[at] ^ 1 << draw.randrange(8)]) + good[at + 1 :]
    if kind == "cut":
        return good[:at]
    size = draw.randrange(1, 600)
    if kind == "zero":
        return good[:at] + bytes(len(good[at : at + size])) + good[at + size :]
    if kind == "swap":
        parts = good[at : at + size], good[at + size : at + 2 * size]
        return good[:at] + parts[1] + parts[0] + good[at + 2 * size :]
    return good[:at] + draw.randbytes(size) + good[at:]


def made_store(path: Path) -> Path:
    with hold_store(path, *store_job()) as writer:
        for number in range(4):
            writer.add(writer.store.write(number, *store_chunk(number)))
    return path


def of_filter(path: Path) -> tuple[Path, Callable[[], Any]]:
    file = path / "a.json"
    made_filter(discounted=True, gaps=("overnight",)).save(file)
    return file, lambda: OnlineFilter.load(file).to_json()


def of_board(path: Path) -> tuple[Path, Callable[[], Any]]:
    file = path / "a.json"
    made_board((("XLE", "SPY"), ("XOM", "SPY"))).save(file)
    return file, lambda: OnlineBoard.load(file).to_json()


def of_universe(path: Path) -> tuple[Path, Callable[[], Any]]:
    file = path / "a.json"
    table = kf.datasets.etfs()[["XLE", "SPY", "XLB", "XLF"]].iloc[:300]
    kf.hedge_universe(table).save(file)
    return file, lambda: HedgeUniverse.load(file).basket.to_json()


def of_fit(path: Path) -> tuple[Path, Callable[[], Any]]:
    file = path / "a.nc"
    unsampled(gappy_pair()).save(file)
    return file, lambda: load_fit(file).online().to_json()


def of_store(name: str, path: Path) -> tuple[Path, Callable[[], Any]]:
    """A file of a batch; all of the batch is read."""
    store = made_store(path / "store")
    file = {"job": JOB, "prices": PRICES, "journal": FINISHED}.get(name)
    first = next((store / CHUNKS).iterdir()) if file is None else store / file

    def read() -> Any:
        found = Store.open(store)
        records = found.records()
        arrays = [found.arrays(record)["points"].tolist() for record in records.values()]
        return found.job, list(records.values()), arrays, found.pairs.prices.to_numpy().tolist()

    return first, read


def of_journal(end: str, path: Path) -> tuple[Path, Callable[[], Any]]:
    """A journal as a killed process leaves it; the log, the main file or the count is damaged."""
    file = path / "a.journal"
    leave_hot(file, 40)

    def read() -> Any:
        found = Journal.read(file)
        with Journal.open(file, {}, identity="fit 12") as journal:
            assert journal.last_seq == found.last_seq
            return found.snapshot, found.messages

    return Path(f"{file}{end}"), read


KINDS = {
    "filter": of_filter,
    "board": of_board,
    "universe": of_universe,
    "fit": of_fit,
    **{f"batch, {name}": partial(of_store, name) for name in ("job", "prices", "journal", "chunk")},
    "journal": partial(of_journal, ""),
    "log of a journal": partial(of_journal, "-wal"),
    "count of a journal": partial(of_journal, "-count"),
}


@pytest.mark.parametrize("count", [QUICK, pytest.param(1000, marks=MANY)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_or_reads_as_it_was(kind: str, count: int, tmp_path: Path):
    draw, home = random.Random(f"{kind} {count}"), tmp_path / "home"
    home.mkdir()
    file, read = KINDS[kind](home)
    whole = shutil.copytree(home, tmp_path / "whole")
    expected = repr(read())
    good, refused = (whole / file.relative_to(home)).read_bytes(), 0
    for number in range(count):
        if kind.endswith("journal"):  # reading one may tidy it up
            shutil.rmtree(home)
            shutil.copytree(whole, home)
        bad = good
        while bad == good:
            bad = damage(good, draw)
        file.write_bytes(bad)
        try:
            found = repr(read())
        except ValueError as error:
            refused += 1
            said = str(error)
            assert str(file.parent if "journal" in kind else file) in said or "batch" in kind, said
            assert ":" in said, said
            assert "\n" not in said
            assert len(said) < 700
        else:
            # a whole file with a changed byte is never read, even where the change would not matter
            assert "journal" in kind, (kind, number)
            assert found == expected, (kind, number)
    assert refused > count / 10 if "journal" in kind else refused == count


def test_a_journal_whose_files_are_cut_lost_or_copied_one_by_one_is_refused(tmp_path: Path):
    leave_hot(tmp_path / "a", 130)

    def half(folder: Path) -> None:
        log = folder / "a-wal"
        log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])

    cases: list[tuple[Callable[[Path], object], str]] = [
        (half, r"stands at message \d+, but 130 were acknowledged: its log was cut"),
        (lambda f: (f / "a-wal").unlink(), "stands at message 0, but 130 were acknowledged"),
        (
            lambda f: [(f / f"a{end}").unlink() for end in ("", "-wal")],
            "gone, but 130 messages were",
        ),
        (
            lambda f: [(f / f"a{end}").unlink() for end in ("-wal", "-count")],
            "stands at message 0, and nothing says how many were acknowledged, for a-count is not",
        ),
        (lambda f: (f / "a-count").write_text("0" * 20), "nothing says how many were acknowledged"),
    ]
    for number, (harm, says) in enumerate(cases):
        folder = shutil.copytree(tmp_path, tmp_path.parent / f"case {number}")
        harm(folder)
        for _ in range(2):  # a refusal does not heal it
            with pytest.raises(ValueError, match=f"{says}.*accept_loss=True"):
                Journal.open(folder / "a", {"beta": 1.0}, identity="fit 12")
        with Journal.open(
            folder / "a", {"beta": 1.0}, identity="fit 12", accept_loss=True
        ) as journal:
            assert journal.loss
            last = journal.append({"n": 1})
        with Journal.open(folder / "a", {}, identity="fit 12") as journal:
            assert (journal.last_seq, journal.loss) == (last, "")


# -- sealed, and yet no filter ---------------------------------------------------------------------


def resealed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a document, and give it the digest of what it then holds."""
    document = json.loads(path.read_bytes()[:-LENGTH] + b"}")
    change(document)
    text = json.dumps(document, separators=(",", ":"))
    path.write_bytes(seal(text.removesuffix("}").encode()))


def scaled(*keys: str, by: float) -> Callable[[dict[str, Any]], None]:
    """Multiply an array of a document."""

    def change(document: dict[str, Any]) -> None:
        for key in keys:
            document = document[key]
        document["values"] = (np.array(document["values"]) * by).tolist()

    return change


def set_to(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update({key: value})


def nested(document: dict[str, Any]) -> None:
    inner: Any = 1
    for _ in range(900):
        inner = [inner]
    document["transform"] = inner


UNSOUND = [
    (scaled("state", "cov", by=-1.0), "a covariance not positive"),
    (scaled("drift", "noise", by=-1.0), "a covariance not positive"),
    (scaled("noise", "var", by=-1.0), "a variance is not above 0"),
    (scaled("noise", "var", by=0.0), "a variance is not above 0"),
    (scaled("log_weights", by=0.1), "weights that do not sum to one"),
    (scaled("last_prices", by=-1.0), "a last price no price"),
    (set_to("transform", "sqrt"), 'transform must be "log", "level" or "return"'),
    (set_to("share", 7.0), "share is a share of the weights"),
    (set_to("at", "yesterday"), "'yesterday' is not a time"),
    (set_to("hedges", ["SPY", "USO"]), "shape"),
    (
        set_to("hold", {"class": "Hold", "cause": "whim", "rows": 1, "sign": 1}),
        "is no hold of rows",
    ),
    (set_to("extra", 1), "unexpected keyword argument 'extra'"),
    (lambda document: document.pop("noise"), "missing 1 required keyword-only argument"),
    (
        set_to(
            "log_weights", {"class": "array", "values": ["a"], "shape": [1], "dtype": "<U9999999"}
        ),
        "no array of numbers or text",
    ),
    (nested, "shape|transform must be"),
]


@pytest.mark.parametrize(("change", "says"), UNSOUND)
def test_a_filter_that_cannot_be_is_refused_though_its_digest_is_right(change, says, tmp_path):
    path = tmp_path / "a.json"
    made_filter().save(path)
    resealed(path, lambda document: None)
    assert OnlineFilter.load(path).to_json() == made_filter().to_json()
    resealed(path, change)
    with pytest.raises(ValueError, match=f"a.json .*{says}"):
        OnlineFilter.load(path)


def test_a_board_is_checked_as_a_filter_is(tmp_path):
    path = tmp_path / "a.json"
    made_board((("XLE", "SPY"), ("XOM", "SPY"))).save(path)
    resealed(path, scaled("state", "cov", by=-1.0))
    with pytest.raises(ValueError, match="a.json .*XLE/SPY, XOM/SPY: .*a covariance not positive"):
        OnlineBoard.load(path)


@pytest.mark.parametrize(
    ("group", "name", "by"), [("mixture", "cov", -1.0), ("plug_in", "cov", -1.0)]
)
def test_a_fit_is_checked_as_its_filter_is(group, name, by, tmp_path):
    path = tmp_path / "a.nc"
    fitted = unsampled(gappy_pair())
    fitted.tree[group][name] = fitted.tree[group][name] * by
    fitted.save(path)
    with pytest.raises(ValueError, match="a.nc is no sound fit: .*a covariance not positive"):
        load_fit(path)


def test_names_of_a_batch_are_checked_against_its_job(tmp_path):
    store = made_store(tmp_path / "store")
    with Journal.open(
        store / FINISHED, {}, identity=f"job {Store.open(store).identity}"
    ) as journal:
        records = [told for _, told in journal.messages()]
        names: Any = [record["names"] for record in records[:2]]
        records[0]["names"], records[1]["names"] = names[::-1]
        journal.compact({"chunks": records})
    with pytest.raises(ValueError, match="lists what is not of the job .chunk 0 has other pairs"):
        Store.open(store).records()
    other = made_store(tmp_path / "other")
    resealed(other / JOB, lambda document: document["job"]["pairs"].update(sha256="0" * 64))
    with pytest.raises(ValueError, match="are not those of the job: run fit_many again"):
        _ = Store.open(other).pairs
    resealed(other / JOB, lambda document: document["job"].pop("chunk_size"))
    with pytest.raises(ValueError, match="holds no job: make one with fit_many"):
        Store.open(other)
