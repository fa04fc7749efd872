"""How an online filter or board becomes a document, and what it must be when it is made again.

Which classes a document may hold, a place for each pair and draw, numbers that a filter can have.

One file: what is written of a filter and what is believed of a file are checked by the same rules.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import ArrayLike

from kfmodels.clock.clock import Clock
from kfmodels.clock.day import DayVariance
from kfmodels.clock.instants import Moment, Stamp
from kfmodels.files.documents import Format, Json, register
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.habits import Habits
from kfmodels.kalman.motion import Discount, Motion, Reversion, Walk
from kfmodels.kalman.noise import (
    Anchor,
    AnchoredVariance,
    Carried,
    ConstantVariance,
    DiscountedVariance,
    FlooredVariance,
    Noise,
    Scale,
    SteadyDiscount,
)
from kfmodels.kalman.step import State
from kfmodels.online.engine import name_pairs, say_when
from kfmodels.online.shocks import Hold
from kfmodels.words.caller import explain_kinds
from kfmodels.words.shown import Shown

if TYPE_CHECKING:
    from kfmodels.online.board import OnlineBoard

FILTER = Format(
    "kfmodels online filter",
    5,
    "a saved online filter",
    "make one with fit.online().save(path)",
    oldest=4,
)
BOARD = Format(
    "kfmodels online board", 5, "a saved board", "make one with board.online().save(path)", oldest=4
)

_TIMES: tuple[type[object], ...] = (date, np.datetime64)


class Documented(Shown, ABC):
    """A class that is saved to a file, or as a part of another document, and made again from it."""

    FORMAT: ClassVar[Format]

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """What `__init__` takes to make it again."""

    def __str__(self: Any) -> str:
        draws = f"{self.draws} draws, " if self.draws > 0 else ""
        return f"{type(self).__name__} of {name_pairs(self)}, {draws}{say_when(self)}"

    @explain_kinds
    def save(self, path: str | Path) -> None:
        """Write everything needed to go on, as one JSON file, atomically.

        Floats are written so that they read back to the last bit; nothing is pickled.
        """
        self.FORMAT.save(path, as_text(self.arguments()))

    @classmethod
    @explain_kinds
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; the result goes on exactly where the one saved stopped.

        Raises:
            ValueError: the file is not such a document, is damaged, holds what no filter can be, or
                comes from a newer version of kfmodels.
        """
        return cls.FORMAT.make(cls, cls.FORMAT.load(path), path)

    def to_json(self) -> dict[str, Json]:
        """What `save` writes, as plain numbers, strings, lists and dicts."""
        return self.FORMAT.document(as_text(self.arguments()))

    @classmethod
    @explain_kinds
    def from_json(cls, content: Mapping[str, Json]) -> Self:
        """Make again what `to_json` wrote.

        Raises:
            ValueError: it is not such a document, or comes from a newer version of kfmodels.
        """
        return cls.FORMAT.make(cls, cls.FORMAT.content(content), "this")


def as_text(arguments: Mapping[str, object]) -> dict[str, object]:
    """The same with times as text, which any program can read."""
    texts = {name: str(at) for name, at in arguments.items() if isinstance(at, _TIMES)}
    return {**arguments, **texts}


def gap_arrays(
    bars: ArrayLike | None, noise: ArrayLike | None, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """`gap_bars` and `gap_noise` as arrays; raises unless both have that shape, gap, pair and draw.

    `gap_bars` may have an axis of states after that of gaps.
    """
    if not shape[0]:  # no gap: None and an empty array of any shape will do
        return np.ones(shape), np.ones(shape)
    found = np.array(bars, float), np.array(noise, float)
    for given in found:
        if not ((given >= 0) & (given < np.inf)).all():
            raise ValueError("gap_bars and gap_noise are finite and 0 or more")
        if given.shape[:1] + given.shape[-2:] != shape or given.ndim > len(shape) + (
            given is found[0]
        ):
            raise ValueError(
                f"gap_bars and gap_noise must be {shape}, gap, pair and draw, not {given.shape}"
            )
    return found


def check_day(
    clock: Clock | None,
    profile: DayVariance | None,
    coordinates: Coordinates,
    shape: tuple[int, ...],
) -> Clock | None:
    """The clock of a board; raises unless it has what goes by the time of day.

    A clock has sessions, a profile or a tilt needs one, and a profile is finite, with a place for each
    pair and draw.
    """
    if clock is None and (profile is not None or coordinates.tilted):
        raise ValueError("a filter with a profile or a tilt of the day needs its clock")
    if clock is not None and clock.sessions is None:
        raise ValueError(f"the clock of a filter is one with sessions, or None, not {clock!r}")
    for name, leaf in () if profile is None else profile._asdict().items():
        if np.shape(leaf) != shape or not np.isfinite(leaf).all():
            raise ValueError(
                f"the profile of the day has finite numbers {shape}, pair and draw; its {name} has not"
            )
    if profile is not None and not (np.asarray(profile.first) > 0).all():
        raise ValueError("the factor of a profile on the first bar is positive")
    if not all(0 <= state < len(coordinates.parts) for state in coordinates.tilted):
        raise ValueError(f"tilted {coordinates.tilted} are of parts that there are not")
    return clock


def check_dated(at: Stamp | None) -> Stamp:
    """The time of a row of a filter that has a clock; raises where there is none."""
    if at is None:
        raise ValueError(
            "this filter reads the time of day off its rows: pass the time of each, at=..."
        )
    return at


def check_parts(
    board: "OnlineBoard",
    coordinates: Coordinates,
    drift: Motion,
    noise: Noise,
    state: State,
    carried: Carried,
    log_weights: np.ndarray,
    initial: np.ndarray,
    holds: Mapping[str, Hold],
) -> None:
    """Raise unless a board is one that a filter can be.

    All arrays have a place for each pair and draw and are finite; covariances, and what a bar adds to
    them, are positive semidefinite; variances are positive; weights sum to one, and the share
    of them is one; the last prices are prices; holds and times are such.
    """
    if not 0 <= board.share < 1:
        raise ValueError(
            f"share is a share of the weights a bar, from 0 to below 1, not {board.share}"
        )
    count, hedges = len(board.names), len(board.hedges[0]) if board.hedges else 0
    if len(set(board.names)) < max(count, 1):
        raise ValueError("a board needs at least one pair, and each named once")
    legs, size = (count, hedges + 1), coordinates.states
    habits = board.habits
    places = {
        "targets": (np.shape(board.targets), (count,)),
        "hedges": (np.shape(board.hedges), (count, hedges)),
        "pivot": (np.shape(coordinates.pivot), (count, hedges)),
        "scale": (np.shape(coordinates.scale), (count, hedges)),
        "offset": (np.shape(coordinates.offset), (count,)),
        "last_prices": (board.last_prices.shape, legs),
        "unopened": (board.unopened.shape, (count,)),
        "habits": (tuple(map(np.shape, habits)), (legs, legs, legs, (count,))),
        "log_weights": (log_weights.shape, (count, log_weights.shape[-1])),
        "mean": (state.mean.shape[:-2], (size,)),
        "cov": (state.cov.shape[:-2], (size, size)),
    }
    if not all(0 <= part < coordinates.coefficients for part in coordinates.parts):
        raise ValueError(f"parts {coordinates.parts} are of coefficients that there are not")
    for name, (found, wanted) in places.items():
        if found != wanted:
            raise ValueError(f"{name} has shape {found}, but it must be {wanted}")
    # which pairs are sound is collected over all arrays, so that one error names them all
    batch, good = log_weights.shape, np.ones(count, bool)
    for part in cast("Sequence[Any]", (state, carried or (), noise, (log_weights, initial))):
        for leaf in part:
            try:
                whole = np.broadcast_to(leaf, (*leaf.shape[:-2], *batch))
            except ValueError:
                raise ValueError(
                    f"an array has the shape {leaf.shape}, but log_weights say that its last axes "
                    f"are {batch}, pair and draw"
                ) from None
            good &= np.isfinite(whole).reshape(-1, *batch).all((0, 2))
    if initial.shape != batch:
        raise ValueError(f"initial_log_weights has shape {initial.shape}, but it must be {batch}")
    scale, last, least = coordinates.scale, board.last_prices, board.legs.transform.least
    good &= np.isfinite(coordinates.pivot.sum(1) + coordinates.offset)
    good &= ((scale > 0) & (scale < np.inf)).all(1)
    for weights in (log_weights, initial):
        good &= abs(np.exp(weights).sum(1) - 1) < 1e-6
    if not good.all():
        raise ValueError(
            f"{list_names(board.names, ~good)}: the state holds numbers that are not finite, or "
            "weights that do not sum to one; leave out the pairs whose fit failed"
        )
    with np.errstate(all="ignore"):
        added = drift.widen(state.cov, np.ones(())) - state.cov
        moved = drift.transition(np.ones(()))
        if moved is not None:
            good &= np.broadcast_to(np.isfinite(moved).all(0), batch).all(1)
        dof = noise.dof(carried)
        above = [noise.unit(carried), np.asarray(noise.relative(carried))]
        above += [] if dof is None else [dof]
        good &= is_semidefinite(state.cov) & is_semidefinite(added)
        for part in above:
            good &= np.broadcast_to((part > 0) & (part < np.inf), batch).all(1)
        good &= (np.isnan(last) | ((last > least) & (last < np.inf))).all(1)
        good &= np.broadcast_to((coordinates.unit > 0) & (coordinates.unit < np.inf), count)
    if not good.all():
        raise ValueError(
            f"{list_names(board.names, ~good)}: a variance is not above 0, a covariance not positive "
            "semidefinite, or a last price no price; make the filter from its fit again"
        )
    for name, hold in holds.items():
        if hold.cause not in _CAUSES or hold.rows < 0 or hold.sign not in (-1, 0, 1):
            raise ValueError(f"{name}: {hold} is no hold of rows")
    for at in (board.at, board.until):
        if at is not None:
            Moment.of(at)


_CAUSES = ("none", "shock", "scale", "released")

_ROUNDING = 1e-6
"""Of the unit diagonal of a correlation matrix: how far below 0 rounding may take an eigenvalue."""


def is_semidefinite(cov: np.ndarray) -> np.ndarray:
    """Of which pairs the covariances of all draws `(n, n, pair, draw)` are symmetric and such."""
    each = np.moveaxis(np.asarray(cov, float), (0, 1), (-2, -1))
    variances = np.diagonal(each, axis1=-2, axis2=-1)
    sd = np.sqrt(np.where(variances > 0, variances, 1.0))
    scaled = each / sd[..., :, None] / sd[..., None, :]
    finite = np.isfinite(scaled).all((-2, -1))
    scaled = np.where(finite[..., None, None], scaled, 0.0)
    even = (abs(scaled - scaled.swapaxes(-2, -1)) < _ROUNDING).all((-2, -1))
    good = finite & even & (np.linalg.eigvalsh(scaled)[..., 0] > -_ROUNDING)
    return (good & (variances >= 0).all(-1)).all(-1)


def list_names(names: tuple[str, ...], which: np.ndarray) -> str:
    """The first three of the names marked in `which`, and how many more there are."""
    found = [names[number] for number in np.flatnonzero(which)]
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def write_array(array: np.ndarray) -> dict[str, Json]:
    """The numbers of an array with its shape and type; None for NaN, which no JSON text can hold."""
    kind = array.dtype
    if kind.kind not in "biufU":
        raise ValueError(
            f"a document cannot hold an array of {kind}: make it one of numbers or text"
        )
    values = array
    if kind.kind == "f" and np.isnan(array).any():
        values = array.astype(object)
        values[np.isnan(array)] = None
    return {"values": values.tolist(), "shape": list(array.shape), "dtype": kind.str}


def read_array(parts: Mapping[str, Any]) -> np.ndarray:
    """The array that `write_array` wrote."""
    kind, values = np.dtype(parts["dtype"]), np.array(parts["values"], object)
    longest = max(map(len, map(str, values.flat)), default=0) if kind.kind == "U" else 1
    # a few bytes of text must not ask for much memory
    if kind.kind not in "biufU" or kind.itemsize > 4 * max(longest, 64):
        raise ValueError(f"it is no array of numbers or text but of {kind}")
    # the shape is kept because the lists of an empty array do not tell it
    return values.astype(kind).reshape(parts["shape"])


register(np.ndarray, write_array, read_array, name="array")
register(Clock, Clock.to_json, Clock.from_json)
register(DayVariance)
for _kind in (Coordinates, Walk, Discount, Reversion, State, Habits):
    register(_kind)
for _kind in (ConstantVariance, DiscountedVariance, FlooredVariance, Scale):
    register(_kind)
for _kind in (SteadyDiscount, AnchoredVariance, Anchor):
    register(_kind)
