"""Versioned documents: objects as plain JSON that any program reads, exact to the last bit.

`register` tells how a class is written, `Format` names a kind of document and its version. What a
document holds stands beside its class; here are only the rules that all documents share.

One file: what is written here is read here.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from numbers import Integral, Real
from pathlib import Path
from reprlib import Repr
from typing import Any, NamedTuple, cast

from kfmodels.files.atomic import replacing
from kfmodels.files.seal import read_regular, seal, unseal

type Json = bool | int | float | str | list[Json] | dict[str, Json] | None
"""What JSON can hold."""

TAG = "class"
"""Key of a document that names a registered class; no field can have this name."""

# NaN and infinity are no JSON: Python would write them, and most other readers refuse them
_HEAD = re.compile(rb'\{"format": ?"([^"]{1,99})", ?"version": ?(\d{1,9})\b')
"""What every document begins with."""

UNSOUND = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
"""What a class may raise that is made of parts which are not its own."""

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class _Codec(NamedTuple):
    kind: type
    write: Callable[..., Mapping[str, Json]]
    read: Callable[..., object]


_codecs: dict[str, _Codec] = {}
_names: dict[type, str] = {}


def register[T](
    kind: type[T],
    write: Callable[[T], Mapping[str, Json]] | None = None,
    read: Callable[[dict[str, Any]], T] | None = None,
    *,
    name: str | None = None,
) -> type[T]:
    """Let documents hold objects of a class; a NamedTuple or dataclass needs no more than this line.

    Args:
        kind: the class itself; its subclasses are registered on their own.
        write: returns the parts of an object, already plain. Default: its fields, by `plain`.
        read: makes the object from those parts. Default: calls the class with its fields, by `built`.
        name: what documents call the class; it must not change later. Default: the class's own.

    Raises:
        ValueError: another class has the name, or a class that is neither a NamedTuple nor a dataclass
            comes without `write` and `read`.

    Example:
        >>> class Toy(NamedTuple):
        ...     half_life: float
        >>> _ = register(Toy)
        >>> plain((Toy(3.5), None))
        {'class': 'tuple', 'items': [{'class': 'Toy', 'half_life': 3.5}, None]}
        >>> built(plain((Toy(3.5), None)))
        (Toy(half_life=3.5), None)
    """
    name = name or kind.__name__
    # a notebook that imports its module again makes the same class anew: compare by name
    if name in _codecs and str(_codecs[name].kind) != str(kind):
        raise ValueError(
            f"documents know another class as {name!r} ({_codecs[name].kind}): give register a name"
        )
    if write is None or read is None:
        parts = _fields(kind)
        write = write or (lambda value: {part: plain(getattr(value, part)) for part in parts})
        read = read or (lambda given: kind(**{k: built(part) for k, part in given.items()}))
    _codecs[name], _names[kind] = _Codec(kind, write, read), name
    return kind


def plain(value: object) -> Json:
    """A value as JSON; `built` makes it again, of the same type and equal to the last bit.

    Raises:
        ValueError: a class in it is not registered.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    # by exact type: a subclass would come back as its parent, and a NamedTuple as a tuple
    kind: type[object] = type(value)
    if kind is list:
        return [plain(part) for part in cast("list[object]", value)]
    if kind is dict:
        mapping = cast("dict[object, object]", value)
        # JSON has only text for keys; any other dict goes the way of the registered classes
        if TAG not in mapping and all(isinstance(key, str) for key in mapping):
            return {str(key): plain(part) for key, part in mapping.items()}
    if name := _names.get(kind):
        return {TAG: name, **_codecs[name].write(value)}
    if isinstance(value, Integral):  # a number of NumPy as well
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise ValueError(
        f"a document cannot hold a {kind.__module__}.{kind.__qualname__}: register the "
        "class with kfmodels.files.documents.register"
    )


def built(document: Json) -> Any:
    """The value that `plain` made a document of.

    Raises:
        ValueError: the document names a class that is not registered, or parts that it does not take.
    """
    if isinstance(document, list):
        return [built(part) for part in document]
    if not isinstance(document, dict):
        return document
    if TAG not in document:
        return {key: built(part) for key, part in document.items()}
    parts = dict(document)
    name = parts.pop(TAG)
    if not isinstance(name, str) or name not in _codecs:
        raise ValueError(
            f"the document holds a {name!r}, which this kfmodels does not know: upgrade kfmodels, or "
            "register the class with kfmodels.files.documents.register before reading"
        )
    try:
        return _codecs[name].read(parts)
    except UNSOUND as error:
        said = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"the {name} in the document is damaged: {said}") from error


def encode(document: object, name: str = "the document") -> str:
    """A dict as JSON text that reads back as an equal dict.

    Raises:
        ValueError: it would not (NaN, infinity, a tuple, a key that is not text).
    """
    reason = "keys must be text and sequences lists"
    try:
        text = _encode(document)
        # JSON quietly turns tuples into lists and the key 1 into "1": what might do so is read back
        plain_dict = isinstance(document, dict)
        if plain_dict and (_is_plain(cast("object", document)) or json.loads(text) == document):
            return text
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"{error}; None is for no number"
    raise ValueError(
        f"{name} would not come back from JSON as a dict that equals it ({reason}): "
        f"{Repr(maxdict=20).repr(document)}"
    )


def _is_plain(value: object) -> bool:
    """Whether JSON surely gives back the same; a tenth of the time that reading it back takes."""
    if type(value) is float or type(value) is int:
        return True
    if type(value) is str:
        return value.isascii()
    if type(value) is dict:
        mapping = cast("dict[object, object]", value)
        return all(map(_is_plain, mapping.values())) and all(map(_is_ascii, mapping))
    if type(value) is list:
        return all(map(_is_plain, cast("list[object]", value)))
    return value is None or type(value) is bool


def _is_ascii(value: object) -> bool:
    return type(value) is str and value.isascii()


@dataclass(frozen=True, slots=True)
class Format:
    """What a document calls itself, and the versions of it that this kfmodels reads.

    Args:
        name: as it stands in every document, under "format".
        version: that is written.
        title: what an error calls a document of this format: "a saved online filter".
        remedy: how to get one: "make one with fit.online().save(path)".
        oldest: the oldest version that is still read.
        upgrade: turns the content of an older version into that of this one; None where older ones
            are read as they are.

    Example:
        >>> saved = Format("kfmodels toy", 2, "a saved toy", "make one with toy.save(path)")
        >>> saved.document({"weights": (1, 2)})["version"]
        2
        >>> saved.content(saved.document({"weights": (1, 2)}))
        {'weights': (1, 2)}
        >>> saved.content({"format": "kfmodels toy", "version": 3}, "toy.json")
        Traceback (most recent call last):
        ValueError: toy.json was written by a newer kfmodels (format 3, this one reads up to 2): \
upgrade kfmodels
    """

    name: str
    version: int
    title: str
    remedy: str
    oldest: int = 1
    upgrade: Callable[[dict[str, Json], int], dict[str, Json]] | None = None

    def check(self, name: object, version: object, where: object = "this") -> int:
        """The version of a document with this name and version; `where` is what an error calls it.

        Raises:
            ValueError: it is of another format, of a newer version, or too old.
        """
        if name != self.name:
            says = f" but of format {name!r}" if isinstance(name, str) else ""
            raise ValueError(f"{where} is not {self.title}{says}: {self.remedy}")
        if not isinstance(version, int):
            raise ValueError(f"{where} is damaged: its version is {version!r}; {self.remedy}")
        if version > self.version:
            raise ValueError(
                f"{where} was written by a newer kfmodels (format {version}, this one reads up to "
                f"{self.version}): upgrade kfmodels"
            )
        if version < self.oldest:
            raise ValueError(
                f"{where} was written by an older kfmodels (format {version}, this one reads from "
                f"{self.oldest} on): {self.remedy}"
            )
        return version

    def document(self, content: Mapping[str, object]) -> dict[str, Json]:
        """Named values as a document of plain JSON."""
        parts = {name: plain(value) for name, value in content.items()}
        return {"format": self.name, "version": self.version, **parts}

    def content(self, document: object, where: object = "this") -> dict[str, Any]:
        """The named values of a document, whatever readable version it has.

        Raises:
            ValueError: as `check`, or a value cannot be built.
        """
        given = cast("dict[str, Json]", document if isinstance(document, dict) else {})
        version = self.check(given.get("format"), given.get("version"), where)
        parts = {name: part for name, part in given.items() if name not in ("format", "version")}
        if version < self.version and self.upgrade is not None:
            parts = self.upgrade(parts, version)
        try:
            return {name: built(part) for name, part in parts.items()}
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} cannot be read: {error}") from error

    def save(self, path: str | Path, content: Mapping[str, object]) -> None:
        """Write named values to a file with its digest at the end, all or nothing.

        Raises:
            ValueError: JSON cannot hold a value, or the path is no place for a file.
        """
        text = encode(self.document(content), f"what is saved to {path}")
        # nothing is opened before the text is known to read back
        with replacing(path) as temporary:
            temporary.write_bytes(seal(text.removesuffix("}").encode()))

    def load(self, path: str | Path) -> dict[str, Any]:
        """The named values in a file.

        Raises:
            ValueError: there is none, it is of another format, damaged, or of a newer version.
        """
        written = read_regular(path, self.title, self.remedy)
        # of another format or version: that is the better news, and nothing needs to be read for it
        if head := _HEAD.match(written):
            self.check(head[1].decode(errors="replace"), int(head[2]), path)
        text = unseal(written, path, self.title, self.remedy)
        try:
            return self.content(json.loads(text + b"}"), path)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{path} is not {self.title} ({error}): {self.remedy}") from error

    def make[T](self, kind: Callable[..., T], content: Mapping[str, Any], where: object) -> T:
        """An object of the named values of a document.

        Raises:
            ValueError: they are not what the class takes, or it refuses them.
        """
        try:
            return kind(**content)
        except UNSOUND as error:
            raise ValueError(
                f"{where} is no sound {self.title[2:]}: {error}; {self.remedy}"
            ) from error


def _fields(kind: type[object]) -> tuple[str, ...]:
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind) if field.init)
    named: tuple[str, ...] | None = getattr(kind, "_fields", None)
    if named is None:
        raise ValueError(
            f"{kind.__qualname__} is neither a NamedTuple nor a dataclass: register it with write and "
            "read"
        )
    return named


def _tuple(value: tuple[object, ...]) -> dict[str, Json]:
    return {"items": [plain(part) for part in value]}


def _dict(value: dict[object, object]) -> dict[str, Json]:
    return {"items": [[plain(key), plain(part)] for key, part in value.items()]}


def _text(value: date) -> dict[str, Json]:
    return {"text": value.isoformat()}


register(tuple, _tuple, lambda parts: tuple(built(parts["items"])))
# with keys that are not text, or with one that would be read as the name of a class
register(dict, _dict, lambda parts: dict(built(parts["items"])))
register(date, _text, lambda parts: date.fromisoformat(parts["text"]))
register(datetime, _text, lambda parts: datetime.fromisoformat(parts["text"]))
