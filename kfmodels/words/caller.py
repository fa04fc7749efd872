"""What a public function owes to who called it: a sentence on a wrong argument, a warning in its place.

A function that says so by `@explain_kinds` may trust its annotations. Where it fails, the arguments are
held against them, and the first that is of another kind is named; what fails with all arguments in
order is a fault of the package and shows as it is.
"""

import os
import traceback
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import wraps
from inspect import Parameter, signature
from numbers import Integral, Real
from pathlib import Path
from typing import Any

_HERE = str(Path(__file__).parents[1])

_SAID = {
    float: "a number",
    int: "a whole number",
    bool: "True or False",
    str: "text",
    type(None): "None",
    os.PathLike: "a path",
    Path: "a path",
}
"""Kinds whose name says little to a user."""


def warn(message: str) -> None:
    """Warn, at the line outside this package from which it was called."""
    warnings.warn(message, skip_file_prefixes=(_HERE,))


def check_seed(seed: int) -> None:
    """Raise unless it is one that JAX can count with."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is a whole number from 0 to 2**32 - 1, not {seed}")


def explain_kinds[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """The same function, whose failure at an argument of the wrong kind is a sentence about it.

    Raises:
        ValueError: the function failed, not by an error of this package, and an argument is not of the
            kind that its annotation names.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            wrong = None if _is_ours(error) else _find_wrong(function, args, kwargs)
            if wrong is None:
                raise
            raise ValueError(wrong) from error

    return call


def _is_ours(error: Exception) -> bool:
    """Whether it is a sentence that this package wrote, or a file's own error."""
    if isinstance(error, OSError):
        return True
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    return isinstance(error, ValueError) and raised_in.startswith(_HERE)


def _find_wrong(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str | None:
    """A sentence on the first argument of the wrong kind; None where there is none."""
    owner, _, called = function.__qualname__.rpartition(".")
    if called == "__post_init__":  # of a dataclass, whose fields are its arguments
        kinds = {one.name: one.type for one in fields(args[0]) if one.init}
        given = {name: getattr(args[0], name) for name in kinds}
    else:
        form = signature(function)
        try:
            given = form.bind(*args, **kwargs).arguments
        except TypeError:  # one too many or too few: Python says so well
            return None
        kinds = {name: one.annotation for name, one in form.parameters.items()}
    said = owner if called in ("__init__", "__post_init__") else f"{owner}.{called}".lstrip(".")
    for name, value in given.items():
        if _fits(value, kinds.get(name, Parameter.empty)) is False:
            return f"{said}: {name} must be {_say(kinds[name])}, not {_shorten(value)}"
    return None


def _shorten(value: object) -> str:
    """A value as it would be typed; only its kind where that takes lines."""
    try:
        text = repr(value)
    except ValueError:  # more digits than Python writes
        return "a number of thousands of digits"
    except Exception:  # of what was never made to its end
        text = "\n"
    if "\n" in text:
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fits(value: Any, kind: Any) -> bool | None:
    """Whether a value is of a kind; None where the kind is none that can be told so."""
    kind = getattr(kind, "__value__", kind)  # of a `type` statement
    if kind is Parameter.empty:  # of `self`
        return None
    if len(members := _members(kind)) > 1:
        each = [_fits(value, one) for one in members]
        return True if True in each else None if None in each else False
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in inside)
    if kind in (None, type(None)):
        return value is None
    if kind in (int, float):
        return _is_number(value, Integral if kind is int else Real)
    if not isinstance(origin or kind, type) or kind is typing.Any:
        return None
    try:
        if not isinstance(value, origin or kind):
            return False
    except TypeError:  # a protocol that was not made for such questions
        return None
    if isinstance(value, str | bytes) and origin is not None and issubclass(origin, Iterable):
        return False  # letters are no list of names
    return _fits_inside(value, origin, inside)


def _is_number(value: object, kind: type) -> bool:
    """Whether it is a number of a kind, and one that a float can hold."""
    if not isinstance(value, kind) or isinstance(value, bool):
        return False
    try:
        return isinstance(float(value), float)  # pyright: ignore[reportArgumentType]
    except OverflowError:
        return False


def _fits_inside(value: Any, origin: Any, inside: tuple[Any, ...]) -> bool | None:
    """The same of what a dict or a list holds; what can be read only once is left alone."""
    if origin is None or not inside:
        return True
    if isinstance(value, Mapping) and len(inside) == 2:
        each = [_fits(one, inside[1]) for one in value.values()]
    elif isinstance(value, list | tuple) and (len(inside) == 1 or inside[1:] == (...,)):
        each = [_fits(one, inside[0]) for one in value]
    else:
        return True
    return False if False in each else None if None in each else True


def _say(kind: Any) -> str:
    """A kind in words."""
    words = list(dict.fromkeys(map(_say_one, _members(kind))))
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _members(kind: Any) -> list[Any]:
    """The kinds that a union allows, those of the unions in it too."""
    kind = getattr(kind, "__value__", kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [member for one in typing.get_args(kind) for member in _members(one)]
    return [kind]


def _say_one(kind: Any) -> str:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in inside)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a dict"
    if isinstance(origin, type) and issubclass(origin, Iterable) and inside:
        return f"a list of {_say(inside[0]).removeprefix('a ')}".replace("number", "numbers")
    named = origin or kind
    return _SAID.get(named, getattr(named, "__name__", str(named)))
