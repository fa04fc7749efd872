"""The compiled road of a tick: numba's, where it is installed (extra `fast`), else there is none.

It takes ordinary rows of the laws, noises and policies that `kernel` knows: `Walk` and `Discount`,
`ConstantVariance`, `DiscountedVariance` and `FlooredVariance`, `Quarantine` or no policy, and no closed
period. Every other row goes through `mixture`, from the same state to the same kind of state.

Which road a row takes depends on the state and the row alone, so a journal is replayed to the last bit
by any process of the same machine. Where one has numba and another has not (or runs with numba's own
`NUMBA_DISABLE_JIT=1`), their numbers agree to 1e-12.

One file: what is compiled, and where the draws stand then.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
# (numba has no types of its own)

import logging
import os
import sys
from collections.abc import Callable, Sequence
from copy import copy
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import numpy as np

from kfmodels.clock.instants import Stamp
from kfmodels.kalman.habits import Habits
from kfmodels.kalman.motion import Discount, Motion, Walk
from kfmodels.kalman.noise import (
    ConstantVariance,
    DiscountedVariance,
    FlooredVariance,
    Noise,
    Scale,
)
from kfmodels.kalman.step import State
from kfmodels.kalman.transforms import FARTHEST, LOG
from kfmodels.online import kernel
from kfmodels.online.belief import Belief, Frame
from kfmodels.online.mixture import Draws, Mixture
from kfmodels.online.shocks import Quarantine, Shocks
from kfmodels.online.ticks import RECORD, MeanForecasts, Outcome, Tick

_LOG = logging.getLogger(__name__)

COMPILING = "compiling the tick for this machine, which takes some ten seconds the first time"

Loop = Callable[..., Any]


ELEMENTARY = ("exponentiate", "take_logs")
"""Functions that are rounded as they are written."""

HELPERS = (
    "weigh_row",
    "split_model",
    "split_buffer",
    "place_of",
    "raise_row",
    "student_factor",
    "density_of_student",
    "pull_of",
    "pass_pair",
    "moments",
)
"""Functions that others call, and whose sums may be taken in any order."""

PLAIN: dict[str, Any] = {"error_model": "numpy", "fastmath": False}
SUMS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
"""How numba compiles the elementary functions and the others.

The second lets a processor add eight numbers at a time. Loops here write to one row each, because for a
loop with many rows the compiler does not prove that none overlap, and takes one number at a time.
"""


class Kernels(NamedTuple):
    """The compiled functions of `kernel`, by the same names."""

    advance: Loop
    take: Loop
    moments: Loop
    summarise: Loop
    exponentiate: Loop


@cache
def find_kernels() -> Kernels | None:
    """The compiled functions, from numba's cache on disk or compiled now; None without numba."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0" or not _is_here("numba"):
        return None
    from numba import njit, types
    from numba.core import event
    from numba.extending import register_jitable

    row, table, number = types.float64[::1], types.float64[:, ::1], types.float64
    signatures = {
        "advance": types.int64(
            row, row, row, row, table, types.boolean[::1], types.boolean, number
        ),
        "take": types.int64(row, row, row, number),
        "moments": types.void(row, row, table, types.float64[:, :, ::1]),
        "summarise": types.void(row, row, row),
        "exponentiate": types.void(row, row),
    }
    # inlined: who compiled one would call that, and who finds it on disk a copy with other last bits
    for name in ELEMENTARY:
        register_jitable(**PLAIN, forceinline=True)(getattr(kernel, name))
    for name in HELPERS:
        register_jitable(**SUMS, forceinline=True)(getattr(kernel, name))
    found = dict[str, Any]()
    with event.install_listener("numba:compile", _notice(event)):
        for name, signature in signatures.items():
            options = PLAIN if name in ELEMENTARY else SUMS
            found[name] = _compile(njit, signature, getattr(kernel, name), options)
    return Kernels(**found)


def _notice(event: Any) -> Any:
    """Says that numba compiles, once, to a person at a terminal and to the log."""

    class Notice(event.Listener):
        said = False

        def on_start(self, event: Any) -> None:
            if not self.said:
                self.said = True
                _LOG.log(logging.WARNING if sys.stderr.isatty() else logging.INFO, COMPILING)

        def on_end(self, event: Any) -> None:
            pass

    return Notice()


def _is_here(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False


def _compile(njit: Any, signature: Any, function: Loop, options: dict[str, Any]) -> Any:
    try:
        return njit(signature, cache=True, **options)(function)
    except RuntimeError:  # no folder that it may write to
        return njit(signature, **options)(function)


class Packed:
    """Where the draws of a block stand, in one row of numbers that nobody changes.

    Args:
        block: whose they are.
        buffer: as `kernel` lays it out.
        last, habits: prices and counts of a board of one pair that the buffer holds as well, if any.
    """

    __slots__ = ("_draws", "_summary", "block", "buffer", "habits", "last")

    def __init__(
        self, block: "CompiledBlock", buffer: np.ndarray, last: Any = None, habits: Any = None
    ) -> None:
        self.block, self.buffer, self.last, self.habits = block, buffer, last, habits
        self._draws: Draws | None = None
        self._summary: list[float] | None = None

    @property
    def draws(self) -> Draws:
        """The same as `mixture` takes them."""
        if self._draws is None:
            self._draws = self.block.unpack(self.buffer)
        return self._draws

    @property
    def effective_draws(self) -> np.ndarray:
        """Effective number of draws, `(pair,)`."""
        return self.number(kernel.EFFECTIVE)

    def means(self) -> MeanForecasts:
        """What the forecasts of the row were on average."""
        dof = self.number(kernel.DOF) if self.block.learnt else None
        return MeanForecasts(dof, self.number(kernel.GAIN))

    def told(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Spread, its sd, the log score and z of the row, `(pair,)`; scalars for one pair alone."""
        spread, sd, z, score = map(self.number, range(4))
        if self.block.alone:
            return spread[0], sd[0], score[0], z[0]
        return spread, sd, score, z

    def prices(self) -> np.ndarray:
        """Prices of the only pair, `(1, leg)`, those that the board has from now on."""
        if self.last is None:
            self.last = self.buffer[None, kernel.LAST : kernel.LAST + self.block.legs]
        return self.last

    def number(self, which: int) -> np.ndarray:
        """One of the numbers of the row, `(pair,)`."""
        pairs = self.block.shape[0]
        return self.buffer[which * pairs : (which + 1) * pairs]

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean `(pair, n)`, and covariances given the noise and total `(2, pair, n * n)`."""
        (pairs, _), n = self.block.shape, self.block.coefficients
        means, covs = np.empty((pairs, n)), np.empty((2, pairs, n * n))
        self.block.kernels.moments(self.block.model, self.buffer, means, covs)
        return means, covs

    @property
    def summary(self) -> list[float]:
        """What `kernel.summarise` says of the only pair."""
        if self._summary is None:
            found = np.empty(3 * self.block.coefficients + self.block.legs)
            self.block.kernels.summarise(self.block.model, self.buffer, found)
            self._summary = found.tolist()
        return self._summary

    @property
    def frame(self) -> Frame:
        """Of the only pair, where `place` has put it."""
        assert self.block.frame is not None
        return self.block.frame.frame


class PairFrame(NamedTuple):
    """What `kernel.take` needs of the only pair of a board: its coordinates, transform and habits.

    `legs` has the rows centre, unit, price from which on one has a scale, and `patience`, `(4, leg)`.
    """

    legs: np.ndarray
    frame: Frame
    patience: np.ndarray


class CompiledBlock:
    """The compiled road of one block of pairs.

    Args:
        kernels: the compiled functions.
        mixture: what the draws assume; of a law and a noise for which `lowers` is true.
        shape: numbers of pairs and draws; of draws only where the arrays have no axis of pairs.
    """

    def __init__(self, kernels: Kernels, mixture: Mixture, shape: tuple[int, ...]) -> None:
        self.alone = alone = len(shape) == 1
        pairs, draws = (1, *shape) if alone else shape
        drift, noise = mixture.drift, cast("Any", mixture.noise)
        moving = drift.moving if isinstance(drift, Discount) else cast("Walk", drift).noise
        self.kernels, self.shape, self._take = kernels, (pairs, draws), kernels.take
        self.mixture = mixture
        self.coefficients = n = len(moving)
        self.learnt = not isinstance(noise, ConstantVariance)
        self.legs = n - mixture.level + 1
        self.begin = kernel.LAST + 2 * self.legs
        head = np.zeros(kernel.FRAME + 4 * self.legs + n * n + n)
        head[kernel.PAIRS], head[kernel.DRAWS] = pairs, draws
        head[kernel.COEFFICIENTS], head[kernel.LEGS] = n, self.legs
        head[kernel.LEVEL], head[kernel.LEARNT] = mixture.level, self.learnt
        head[kernel.DISCOUNT] = isinstance(drift, Discount)
        head[kernel.SHARE] = mixture.share
        head[kernel.LIMIT] = head[kernel.PULL] = np.inf
        hedges, initial = self.legs - 1, n * n + 2 + 2 * self.learnt
        rows = np.zeros((pairs, initial + 1 + hedges, draws))

        def fill(first: int, values: np.ndarray) -> None:
            of = values[..., None, :] if alone else values
            of = of.reshape(-1, *of.shape[-2:])
            rows[:, first : first + len(of)] = of.swapaxes(0, 1)

        fill(0, moving)
        fill(n * n, noise.var)
        if isinstance(drift, Discount):
            fill(n * n + 1, drift.factor)
        if isinstance(noise, (DiscountedVariance, FlooredVariance)):
            fill(n * n + 2, noise.factor)
        if isinstance(noise, FlooredVariance):
            fill(n * n + 3, noise.least)
        fill(initial, mixture.initial)
        fill(initial + 1, mixture.log_memory)
        scratch = np.zeros((n + 8) * draws + n)
        self.model = np.concatenate([head, rows.reshape(-1), scratch])
        self._above = np.triu_indices(n)
        self._end = n + len(self._above[0])  # of the covariance, which stands there once
        self.size = pairs * (self.begin + draws * (self._end + 2 * self.learnt + 2))
        self.shocks: Shocks | None = None
        self.frame: PairFrame | None = None

    def place(self, now: Packed, frame: PairFrame, last: np.ndarray, habits: Habits) -> Packed:
        """The draws with the prices and counts of a board, where `take` finds them."""
        block = self if self.frame is frame else self.framed(frame)
        buffer, prices = now.buffer.copy(), kernel.LAST + self.legs
        buffer[kernel.LAST : prices] = last[0]
        buffer[prices : prices + self.legs], buffer[kernel.CALM] = habits.still[0], habits.calm[0]
        return Packed(block, buffer, last, habits)

    def take(self, now: Packed, prices: Sequence[float], dt: float) -> Packed | None:
        """The only pair after a row of prices, if it is an ordinary one."""
        buffer = _empty(self.size)
        if len(prices) != self.legs:
            return None
        at = _LAST
        for price in prices:
            buffer[at] = price
            at += 1
        answer = self._take(self.model, now.buffer, buffer, dt)
        if answer == kernel.TAKEN:
            return Packed(self, buffer, None, now.habits)
        if answer == kernel.DECLINED:
            return None
        still = buffer[None, at : at + self.legs]
        habits = now.habits._replace(still=still, calm=buffer[kernel.CALM : kernel.CALM + 1])
        return Packed(self, buffer, None, habits)

    @staticmethod
    def lowers(drift: Motion, noise: Noise) -> bool:
        """Whether the kernel knows the law and the noise."""
        # the classes themselves, because a subclass may do otherwise
        known = ConstantVariance, DiscountedVariance, FlooredVariance
        return type(drift) in (Walk, Discount) and type(noise) in known

    def framed(self, frame: PairFrame) -> "CompiledBlock":
        """The same with a frame; ticks of before keep the one that they were made in."""
        other = copy(self)
        other.model, other.frame = self.model.copy(), frame
        head, legs, inner = other.model, frame.legs, frame.frame
        transform = inner.transform
        head[kernel.LOGS], head[kernel.RETURNS] = transform == LOG, transform.needs_last
        head[kernel.LEAST] = max(transform.least, -FARTHEST)
        head[kernel.REQUOTED] = legs[1, 0] != 1
        flat = np.concatenate([part.reshape(-1) for part in (legs, inner.matrix, inner.shift)])
        head[kernel.FRAME : kernel.FRAME + len(flat)] = flat
        return other

    def judges(self, shocks: Shocks | None) -> bool:
        """Whether ordinary rows are ordinary under a policy; from now on it is this one."""
        if shocks is self.shocks:
            return True
        if shocks is not None and type(shocks) is not Quarantine:
            return False
        self.shocks = shocks
        self.model[kernel.LIMIT] = np.inf if shocks is None else shocks.limit
        self.model[kernel.PULL] = np.inf if shocks is None else shocks.pull
        return True

    def pack(self, draws: Draws) -> Packed:
        """The draws as one row of numbers; their weights are those of their log weights."""
        found = Packed(self, np.zeros(self.size))
        weights = self._write(self._rows(found.buffer), draws)
        found.number(kernel.EFFECTIVE)[:] = 1 / np.vecdot(weights, weights)
        return found

    def put(
        self, into: Packed, place: int, draws: Draws, means: MeanForecasts, told: Sequence[Any]
    ) -> None:
        """What the other road has made of one pair, and said of it, in a block that is new."""
        rows = self._rows(into.buffer)
        weights = self._write(rows if self.alone else rows[:, place], draws)
        numbers = into.buffer[place :: self.shape[0]][: kernel.FAR + 1]
        numbers[[kernel.SPREAD, kernel.SD, kernel.SCORE, kernel.Z]] = told
        numbers[kernel.GAIN] = means.gain
        numbers[kernel.DOF] = np.inf if means.dof is None else means.dof
        numbers[kernel.EFFECTIVE] = 1 / np.dot(weights, weights)

    def _write(self, rows: np.ndarray, draws: Draws) -> np.ndarray:
        """Put the draws where `_rows` of a buffer has them; their weights."""
        n = self.coefficients
        rows[:n], rows[n : self._end] = draws.state.mean, draws.state.cov[self._above]
        if self.learnt:
            rows[-4], rows[-3] = draws.carried
        rows[-2], rows[-1] = draws.log_weights, self._exponentials(draws.log_weights)
        return rows[-1]

    def _exponentials(self, logs: np.ndarray) -> np.ndarray:
        found = logs.copy()
        self.kernels.exponentiate(found.reshape(-1), found.reshape(-1))
        return found

    def unpack(self, buffer: np.ndarray) -> Draws:
        """A buffer as `mixture` takes it."""
        rows, n = self._rows(buffer), self.coefficients
        cov = np.empty((n, n, *rows.shape[1:]))
        cov[self._above] = cov.swapaxes(0, 1)[self._above] = rows[n : self._end]
        carried = Scale(rows[-4], rows[-3]) if self.learnt else None
        return Draws(State(rows[:n], cov), carried, rows[-2], rows[-1])

    def _rows(self, buffer: np.ndarray) -> np.ndarray:
        """Its rows of draws, `(row, pair, draw)`; `(row, draw)` where the arrays have no pairs."""
        rows = buffer[self.begin * self.shape[0] :].reshape(self.shape[0], -1, self.shape[1])
        return rows[0] if self.alone else rows.swapaxes(0, 1)

    def advance(
        self,
        now: Packed,
        y: np.ndarray,
        design: np.ndarray,
        seen: np.ndarray | None,
        dt: float,
    ) -> tuple[Packed, Sequence[int]]:
        """All pairs after a row, `y (pair,)`, `design (n, pair)`, and for which it is not this road."""
        buffer, model = _empty(self.size), self.model
        given = seen is not None
        taught = _NONE if seen is None else seen
        far = self.kernels.advance(model, now.buffer, buffer, y, design, taught, given, dt)
        after = Packed(self, buffer)
        return after, np.flatnonzero(after.number(kernel.FAR)).tolist() if far else ()


_NONE = np.ones(0, bool)
_empty, _LAST = np.empty, kernel.LAST  # looked up in every tick


def _item(place: int) -> Any:
    """A property that is one number of the buffer."""
    return property(lambda tick: tick._stand.buffer.item(place))


class PairTick(Tick):
    """The tick of an ordinary row on the compiled road, read from where the draws stand after it."""

    __slots__ = ("_at", "_stand")
    _number: Any = 0

    def __init__(self, at: Stamp | None, stand: Packed) -> None:
        self._at, self._stand = at, stand

    @property
    def _belief(self) -> Belief:
        return Belief(self._stand.frame, [self._stand.block.mixture], [self._stand])

    @property
    def at(self) -> Stamp | None:
        return self._at

    @property
    def tickers(self) -> tuple[str, ...]:
        return self._stand.frame.pairs[0]

    @property
    def transform(self) -> str:
        return self._stand.frame.transform

    outcome: Any = Outcome.ACCEPTED
    reason: Any = ""
    observed: Any = True
    opens: Any = False
    spread: Any = _item(kernel.SPREAD)
    spread_sd: Any = _item(kernel.SD)
    z: Any = _item(kernel.Z)
    dof: Any = _item(kernel.DOF)
    gain: Any = _item(kernel.GAIN)
    log_score: Any = _item(kernel.SCORE)
    effective_draws: Any = _item(kernel.EFFECTIVE)
    moved: Any = property(lambda tick: tick._stand.summary[-1])

    @property
    def beta(self) -> dict[str, float]:
        return dict(zip(self.tickers[1:], self._stand.summary, strict=False))

    @property
    def alpha(self) -> float:
        n = self._stand.block.coefficients
        return self._stand.summary[n - 1] if n == len(self.tickers) else 0.0

    @property
    def memory(self) -> dict[str, float]:
        found = self._stand.summary[3 * self._stand.block.coefficients : -1]
        return dict(zip(self.tickers[1:], found, strict=True))

    @property
    def reversion(self) -> None:
        """None: no law with a spread is compiled."""

    def _sds(self, kind: int) -> dict[str, float]:
        n, first = self._stand.block.coefficients, (kind + 1) * self._stand.block.coefficients
        names = (*self.tickers[1:], "alpha")
        return dict(zip(names, self._stand.summary[first : first + n], strict=False))

    def quarantined(self) -> list[int]:
        return []

    def learnt(self) -> tuple[float, float]:
        return self.z, self.dof

    def record(self) -> dict[str, object]:
        """All of it as a plain dict, in the order of the published record."""
        stand, at = self._stand, self._at
        spread, sd, z, score, gain, dof, draws = stand.buffer[: kernel.EFFECTIVE + 1].tolist()
        n, summary, hedges = stand.block.coefficients, stand.summary, self.tickers[1:]
        names, alpha = (*hedges, "alpha"), summary[n - 1] if n > len(hedges) else 0.0
        beta = dict(zip(hedges, summary, strict=False))
        given = dict(zip(names, summary[n : 2 * n], strict=False))
        total = dict(zip(names, summary[2 * n : 3 * n], strict=False))
        memory = dict(zip(hedges, summary[3 * n :], strict=False))
        own = (at, Outcome.ACCEPTED, "", True, beta, alpha, given, total)
        told = (spread, sd, z, dof, gain, score, draws, memory, summary[-1])
        return dict(zip(RECORD, own + told, strict=True))
