"""`documents`: what is registered comes back to the last bit, and other documents are refused."""

import json
import math
import os
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import kfmodels.online.document  # noqa: F401 - arrays and parts of a filter are registered there
from kfmodels.files.documents import Format, built, encode, plain, register
from kfmodels.kalman.step import State

TOY = Format("kfmodels toy", 3, "a saved toy", "make one with toy.save(path)", oldest=2)


@register
class Part(NamedTuple):
    name: str
    weight: Any


@register
@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    since: date
    about: dict


VALUES = {
    "numbers": [0.1 + 0.2, -0.0, 5e-324, 2**70, True, None],
    "nested": Whole((Part("é", (1, (2.5,))), Part("b", [()])), date(2024, 3, 1), {"a": {"b": ()}}),
    "times": datetime(2024, 3, 1, 14, 30, 0, 123456, UTC),
    "a key that names classes": {"class": "Part", "name": 1},
    "keys that are no text": {1: "a", date(2024, 3, 1): {None: 2}},
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_equal_in_type_and_to_the_last_bit(name):
    text = json.dumps(plain(VALUES[name]), allow_nan=False)
    assert repr(built(json.loads(text))) == repr(VALUES[name])


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).normal(size=(2, 0, 3)),
        np.random.default_rng(0).normal(size=(3, 4)).T,
        np.array(0.1),
        np.array([[1 / 3]], np.float32),
        np.array([2**63 - 1, -5]),
        np.array([True, False]),
        np.array(["KO", "PEPé"]),
        np.array([1.5, np.nan]),
    ],
)
def test_an_array_comes_back_with_its_shape_and_type(array):
    found = built(json.loads(json.dumps(plain(array), allow_nan=False)))
    assert_array_equal(found, array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)


def test_numbers_of_numpy_are_written_as_numbers_and_parts_of_the_filter_as_what_they_are():
    assert built(plain([np.float64(0.1), np.int64(3), np.float32(0.5)])) == [0.1, 3, 0.5]
    state = built(plain(State(np.ones(2), np.eye(2))))
    assert type(state) is State
    assert_array_equal(state.cov, np.eye(2))


def test_a_file_holds_named_values(tmp_path):
    path = tmp_path / "toy.json"
    TOY.save(path, {"whole": VALUES["nested"], "count": 3})
    assert TOY.load(path) == {"whole": VALUES["nested"], "count": 3}
    before = path.read_text()
    with pytest.raises(ValueError, match="toy.json would not come back from JSON"):
        TOY.save(path, {"whole": math.nan})
    assert path.read_text() == before


@pytest.mark.parametrize("fails", ["replace", "fsync"])
def test_a_file_is_replaced_whole_or_not_at_all(fails, tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    path = tmp_path / "toy.json"
    TOY.save(path, {"count": 3})
    monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError, match="no space left"):
        TOY.save(path, {"count": 4})
    assert TOY.load(path) == {"count": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["toy.json"]


def test_an_older_document_is_brought_up_to_date_where_there_is_a_way():
    def upgrade(parts: dict, version: int) -> dict:
        return {"count": [parts["number"], version]}

    newer = Format("kfmodels toy", 3, "a toy", "make one", upgrade=upgrade)
    assert newer.content({"format": newer.name, "version": 2, "number": 7}) == {"count": [7, 2]}
    assert newer.content({"format": newer.name, "version": 3, "number": 7}) == {"number": 7}


class Unknown(NamedTuple):
    a: int


def head(version: object, **parts: Any) -> dict:
    return {"format": TOY.name, "version": version, **parts}


REFUSED = [
    *(
        (
            lambda p, c=content: (p.write_bytes(c), TOY.load(p)),
            "toy.json is not a saved toy, .*: put a copy in its place, or make one",
        )
        for content in (b"hello", b"[1, 2]", b"\x89HDF\xff", b'{"format": "x"', b"")
    ),
    (lambda p: TOY.load(p), "there is no file .*toy.json: make one with toy.save"),
    (lambda p: TOY.load(p.parent), "is no regular file|Is a directory"),
    (lambda p: TOY.save(p / "none" / "x", {}), "there is no folder .*none to write x to"),
    (lambda p: TOY.content([]), "this is not a saved toy: make one with toy.save"),
    (
        lambda p: TOY.content({"format": "kfmodels clock", "version": 1}, p),
        "toy.json is not a saved toy but of format 'kfmodels clock': make one",
    ),
    (lambda p: TOY.content(head(4), p), r"newer kfmodels \(format 4, .* up to 3\): upgrade kfm"),
    (lambda p: TOY.content(head(1)), r"older kfmodels \(format 1, .* from 2 on\): make one with"),
    (lambda p: TOY.content(head(None)), "this is damaged: its version is None; make one with"),
    (
        lambda p: TOY.content(head(3, a={"class": "Nobody"}), p),
        "toy.json cannot be read: the document holds a 'Nobody', which .*: upgrade kfmodels, or reg",
    ),
    (
        lambda p: built({"class": "Part", "name": "a"}),
        "the Part in the document is damaged: TypeErr",
    ),
    (lambda p: built({"class": "tuple"}), "the tuple in the document is damaged: KeyError"),
    (lambda p: plain(Unknown(1)), r"cannot hold a .*test_documents.Unknown: register the class"),
    (lambda p: plain({"at": np.datetime64("2024")}), "cannot hold a numpy.datetime64: register"),
    (lambda p: plain(np.array([{}])), "cannot hold an array of object"),
    (lambda p: register(complex), "complex is neither a NamedTuple nor a dataclass: register it w"),
    (lambda p: register(Unknown, name="Part"), "documents know another class as 'Part'"),
    (lambda p: encode([1.0]), "the document would not come back from JSON as a dict that equals"),
    (lambda p: encode({"a": (1,)}, "the message"), "the message would not .* sequences lists"),
]


@pytest.mark.parametrize(("use", "says"), REFUSED)
def test_what_is_refused(use, says, tmp_path):
    with pytest.raises((ValueError, OSError), match=says):
        use(tmp_path / "toy.json")


def test_a_class_of_a_module_that_is_imported_again_takes_its_own_place():
    class Again(NamedTuple):
        name: str
        weight: float

    Again.__module__, Again.__qualname__ = Part.__module__, Part.__qualname__
    try:
        register(Again, name="Part")
        assert type(built({"class": "Part", "name": "a", "weight": 1.0})) is Again
    finally:
        register(Part)
