r"""Is the pair still the one that was fitted? Tests on the innovations of the live filter.

Under the right model the standardised innovations z are independent N(0, 1). For each of six
alternatives Page's CUSUM adds up the log likelihood ratio of every bar, and starts again at 0:

$$G_t = \max(0,\ G_{t-1} + \ell(z_t, z_{t-1})), \qquad \text{alarm when } G_t > h$$

The threshold h follows from the rate of false alarms asked for, divided equally among the six tests:

$$e^b - b - 1 = 6 \, I · \text{bars}, \qquad h = b - d$$

I is the mean log likelihood ratio of a bar once the alternative is true. The overshoot d, at both ends,
is Siegmund's 1.166 m for a mean m; for the other tests it is a curve fitted to simulated cycles of G.
The rate then holds to 3 %; Lorden's bound `h = log(6 bars)` rings 13 to 33 times too seldom.

One file: six tests share one rate of false alarms, and the settings are documented by its simulation.

Source: Page (1954), Continuous inspection schemes, Biometrika 41; Lorden (1971), Procedures for
reacting to a change in distribution, Annals of Mathematical Statistics 42; Siegmund (1985), Sequential
Analysis, chapter 10.
"""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field
from itertools import repeat
from operator import gt
from types import ModuleType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kfmodels.files.documents import Json, register

Action = Literal["widen", "refresh noise", "fall back to static", "stop"]
Condition = Literal["ok", "watch", "broken"]

BOUND = 4.0
"""Largest |z| in the tests of mean and autocorrelation, so that no single bad print says "stop"."""

_DRIFTED = "the spread has drifted: its levels before and after do not compare"
_ADVICE: dict[str, tuple[Action, str]] = {
    "variance up": ("widen", "the forecast is too narrow: widen the bands, refresh the noise"),
    "variance down": ("refresh noise", "the forecast is too wide: trades are missed"),
    "positive autocorrelation": ("refresh noise", "the filter trails a ratio that moves faster"),
    "negative autocorrelation": ("fall back to static", "the ratio chases noise: refresh it too"),
    "mean up": ("stop", _DRIFTED),
    "mean down": ("stop", _DRIFTED),
}
KINDS = tuple(_ADVICE)
"""The six kinds of alarm, in the order of the tests."""

_RANGES = {
    "bars_between_false_alarms": (250, 1e9),
    "variance_up": (1.25, 4),
    "variance_down": (0.25, 0.8),
    "autocorrelation": (0.1, 0.7),
    "mean": (0.25, 1.5),
    "broken_bars": (1, 1e9),
}
_SAID = ("an sd of {:.2f}", "a lag-one autocorrelation of {:+.2f}", "a mean of {:+.2f}")
CONDITIONS: tuple[Condition, ...] = ("ok", "watch", "broken")
"""From the best to the worst."""

_NEAR = 2 / 3  # of a threshold, from where on the condition is "watch"
_FARTHEST = 1e100  # from here on z is refused: its square and the sums of squares might overflow
_NORMAL_FROM = 1e9  # degrees of freedom; infinite ones would give inf * 0 below

Value = Any
"""A number for a watch over one pair, an array whose last axis is the pairs for one over many."""


def normal_score(z: ArrayLike, dof: ArrayLike) -> NDArray[np.float64]:
    r"""Standard normal score of the z of a Student-t forecast: the same tail probability.

    $$t = z \sqrt{ν / (ν - 2)}, \qquad
    \frac{8 ν + 1}{8 ν + 3} \sqrt{ν\log(1 + t^2 / ν)} \ \text{with the sign of } t$$

    Up to 4 the score is right to 2.9 % for 3 degrees of freedom, 1.2 % for 5 and 0.3 % for 10; under
    the model it has a variance of 0.994, 0.998 and 1.000.

    Args:
        z: innovation over its predictive sd, which for a Student-t is sqrt(dof / (dof - 2)) scales.
        dof: degrees of freedom, above 2; of a shape that broadcasts with that of `z`.

    Raises:
        ValueError: 2 degrees of freedom or less.

    Source: Wallace (1959), Bounds on normal approximations to Student's and the chi-square
    distributions, Annals of Mathematical Statistics 30.

    Example:
        >>> normal_score([4.0, 4.0], [5.0, 1000.0]).round(2).tolist()
        [2.9, 3.99]
    """
    dof = np.asarray(dof, float)
    if not (dof > 2).all():
        raise ValueError(
            f"dof is {dof.min():g}: a Student-t forecast has an sd, and so a z, above 2 only. Nothing "
            "has changed"
        )
    return _wallace(np.asarray(z, float), np.minimum(dof, _NORMAL_FROM), np)


def _wallace(z: Value, dof: Value, of: ModuleType) -> Value:
    """`of` is `numpy`, or `math` for one number, on which NumPy is many times slower."""
    size = (8 * dof + 1) / (8 * dof + 3) * of.sqrt(dof * of.log1p(z * z / (dof - 2)))
    return of.copysign(size, z)


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alternative has become likelier than the model that was fitted, by `evidence` nats.

    `bars` is the number of bars with a z since the CUSUM left 0, this one included. `size` is the sd,
    the lag-one autocorrelation or the mean of z in them; it is that of the worst stretch, and thus
    larger than what to expect from now on. `message` says what happened, `action` what to do, `reason`
    why. Alarms about the feed (`live.feed_watch`) have no evidence; `leg` is the ticker they are about,
    empty where they are about a whole pair.
    """

    kind: str
    bars: int
    size: float
    evidence: float
    threshold: float
    action: Action
    reason: str
    message: str
    leg: str = ""


@dataclass(frozen=True, slots=True)
class Monitor:
    """Which changes in the innovations of a live filter to detect, and how rare false alarms are.

    Simulated on right models with the defaults: 2515 +- 33 bars between alarms if the forecasts are
    normal, 2509 +- 46 if Student-t with 10 degrees of freedom; "watch" on 4 % of the bars. From the
    change to its alarm: 41 bars for a doubled variance, 62 for a halved one, 110 for an autocorrelation
    of 0.3, 49 for a mean of 0.5, and 26 for the sd of 1.54 that EWA/EWC had in 2008. No forecast of
    real prices is exact: Student-t forecasts of a moving variance ring two to six times as often as
    stated on KO, XOM and AAPL. While the variance is up, the other alarms are unreliable.

    Args:
        bars_between_false_alarms: mean number of bars between two alarms of any kind for a pair whose
            model is right, 250 or more; the default is ten years of days.
        variance_up, variance_down: variances of z to be found, 1.25 to 4 and 0.25 to 0.8.
        autocorrelation: lag-one autocorrelation of z to be found, of either sign, 0.1 to 0.7.
        mean: mean of z to be found, of either sign, 0.25 to 1.5.
        broken_bars: number of bars for which an alarm makes the pair "broken".

    Raises:
        ValueError: a setting outside the range for which the thresholds were checked.

    Example:
        >>> watch = Monitor(2520).start()
        >>> for z in [0.3, -1.1, 0.8, 3.1, -2.6, 2.9, -3.3]:
        ...     alarms = watch.update(z)
        >>> [(pair, alarm.kind, alarm.bars, alarm.action) for pair, alarm in alarms], watch.condition
        ([(0, 'variance up', 4, 'widen')], 'broken')
        >>> print(alarms[0][1].message)
        variance up: for 4 bars z had an sd of 2.99 (evidence 7.5 nats, alarm from 6.6)
    """

    bars_between_false_alarms: float = 2520.0
    _: KW_ONLY
    variance_up: float = 2.0
    variance_down: float = 0.5
    autocorrelation: float = 0.3
    mean: float = 0.5
    broken_bars: int = 21

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} is {value:g}: take it from {least:g} to {most:g}")

    def thresholds(self) -> dict[str, float]:
        """Evidence in nats above which each kind of alarm is given."""
        up, down = math.log(self.variance_up), -math.log(self.variance_down)
        rho, mean = self.autocorrelation, self.mean
        # of each pair of tests the mean log likelihood ratio I and the overshoot d, whose factors were
        # fitted to simulated cycles of G, but for Siegmund's of the mean
        told_and_over = (
            ((self.variance_up - 1 - up) / 2, 1.73 * up),
            ((self.variance_down - 1 + down) / 2, 0.39 * down),
            (-math.log1p(-(rho**2)) / 2, 1.67 * rho - 0.63 * rho**2),
            (mean**2 / 2, 1.166 * mean),
        )
        bars = self.bars_between_false_alarms * len(KINDS)
        up, down, rho, mean = (_reach(told * bars) - over for told, over in told_and_over)
        return dict(zip(KINDS, (up, down, rho, rho, mean, mean), strict=True))

    def start(self) -> "Watch":
        """A watch over one pair, which has seen nothing yet."""
        return self.board(1)

    def board(self, pairs: int) -> "Watch":
        """A watch over many pairs, which have seen nothing yet; the rate is that of each pair."""
        of_tests, of_pairs = np.zeros((len(KINDS), pairs)), np.zeros(pairs)
        return Watch(self, of_tests, of_tests, of_tests, of_pairs, of_pairs)


def _reach(rate: float) -> float:
    """The b with `exp(b) - b - 1 = rate`."""
    b = math.log1p(rate)
    # a contraction: a turn leaves 1 / (1 + rate + b) of the error, which is a tenth at most
    for _ in range(60):
        b = math.log1p(rate + b)
    return b


class _Tests:
    """Log likelihood ratios of a bar, and their thresholds, in the order of `KINDS`."""

    def __init__(self, monitor: Monitor) -> None:
        rho, mean = monitor.autocorrelation, monitor.mean
        up, down, rest = monitor.variance_up, monitor.variance_down, 1 - rho * rho
        self.up_down = [(-math.log(var) / 2, (1 - 1 / var) / 2) for var in (up, down)]
        self.tie = -math.log(rest) / 2, rho * rho / rest / 2, rho / rest
        self.mean = -mean * mean / 2, mean
        self.thresholds = tuple(monitor.thresholds().values())
        self.near = tuple(_NEAR * top for top in self.thresholds)
        self.column = np.array(self.thresholds)[:, None]

    def bar(
        self, z: Value, near: Value, last: Value
    ) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """The log likelihood ratios of one bar, and what it adds to the sums."""
        square, product = z * z, near * last
        (up, more), (down, less) = self.up_down
        tie, energy, turn = self.tie
        level, push = self.mean
        tie = tie - energy * (near * near + last * last)
        turn, push = turn * product, push * near
        more, less = up + more * square, down + less * square
        ratios = more, less, tie + turn, tie - turn, level + push, level - push
        return ratios, (square, square, product, product, near, near)

    def alarm(self, test: int, evidence: float, total: float, count: float) -> Alarm:
        """The alarm of a test whose statistics since it left 0 add up to `total`."""
        bars = int(count)
        kind, top = KINDS[test], self.thresholds[test]
        size = math.sqrt(total / bars) if test < 2 else total / bars
        if test in (2, 3):  # the sum of squares that normalises it is worked out from the evidence
            tie, energy, turn = self.tie
            turn = turn if test == 2 else -turn
            size = 2 * energy * total / (bars * tie + turn * total - evidence)
        said = _SAID[test // 2].format(size)
        if kind == "variance up" and bars == 1:
            said = f"{size:.2f} in size; look for a bad print or a split first"
        span = f"{bars} bars" if bars > 1 else "this bar"
        said = f"for {span} z had {said} (evidence {evidence:.1f} nats, alarm from {top:.1f})"
        return Alarm(kind, bars, size, evidence, top, *_ADVICE[kind], f"{kind}: {said}")


def _copy(values: Value, kind: type[float], *shape: int) -> Value:
    """A copy as an array; for one pair as numbers of Python, on which NumPy is many times slower."""
    held: Value = np.array(values, kind).reshape(shape)
    return held if shape[-1] != 1 else held[..., 0].tolist()


def _plain(values: Value, *shape: int) -> Json:
    """Values as nested lists, with an axis of pairs where there is one pair as well."""
    held: NDArray[np.float64] = np.asarray(values).reshape(shape)
    return held.tolist()


def _add(
    level: Value, total: Value, bars: Value, ratio: Value, more: Value, seen: Value, top: Value
) -> tuple[Value, ...]:
    """One bar of one CUSUM or of an array of them; where nothing was `seen` it stays.

    Returns:
        `level`, `total` and `bars` to go on with, whether it rang, and the three as they were reached.
    """
    level, total, bars = level + seen * ratio, total + seen * more, bars + seen
    # on arrays a product is faster than a choice that no processor can foresee
    kept = (level > 0) & (level <= top)
    return level * kept, total * kept, bars * kept, level > top, level, total, bars


def _add_one(
    held: Value, ratios: Value, more: Value, seen: bool, thresholds: tuple[float, ...]
) -> tuple[Value, ...]:
    """The same of all CUSUMs of one pair, as lists; none has rung unless `rung` has a True."""
    if not seen:
        done = map(_add, *held, ratios, more, repeat(seen), thresholds)
        return tuple(map(list, zip(*done, strict=True)))
    evidence, sums, bars = [0.0] * len(KINDS), [0.0] * len(KINDS), [0] * len(KINDS)
    each = zip(*held, ratios, more, thresholds, strict=True)
    for test, (level, total, count, ratio, size, top) in enumerate(each):
        level += ratio
        if level > 0:
            if level > top:  # rare, and then all that was reached is asked for
                done = map(_add, *held, ratios, more, repeat(seen), thresholds)
                return tuple(map(list, zip(*done, strict=True)))
            evidence[test], sums[test], bars[test] = level, total + size, count + 1
    return evidence, sums, bars, ()


@dataclass(slots=True, eq=False)
class Watch:
    """The state of a monitor of one pair or of many, from `Monitor.start()` or `Monitor.board(pairs)`.

    Args:
        monitor: the settings.
        evidence, sums, bars: of each of `KINDS` the CUSUM in nats and, since it left 0, the sum of
            what it looks at (z squared, z times the last z, or z) and the number of bars: `(6, pair)`,
            or 6 numbers for one pair.
        last: z of the last bar that had one, within +-4; `(pair,)`, or a number.
        broken_left: bars for which the last alarm still makes a pair "broken"; as `last`.

    Example:
        >>> board = Monitor().board(2)
        >>> for z in ([0.3, 0.3], [-1.0, 4.0], [float("nan"), -4.5]):
        ...     alarms = board.update(z)
        >>> [(pair, alarm.kind, alarm.bars) for pair, alarm in alarms], board.conditions
        ([(1, 'variance up', 2)], ['ok', 'broken'])
    """

    monitor: Monitor
    evidence: Value
    sums: Value
    bars: Value
    last: Value
    broken_left: Value
    _tests: _Tests = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pairs = np.size(self.last)
        self.evidence = _copy(self.evidence, float, len(KINDS), pairs)
        self.sums = _copy(self.sums, float, len(KINDS), pairs)
        self.bars = _copy(self.bars, int, len(KINDS), pairs)
        self.last = _copy(self.last, float, pairs)
        self.broken_left = _copy(self.broken_left, int, pairs)
        self._tests = _Tests(self.monitor)

    def __len__(self) -> int:
        return np.size(self.last)

    def update(self, z: ArrayLike, dof: ArrayLike | None = None) -> list[tuple[int, Alarm]]:
        """Take one bar: the alarms, usually none, each with the number of its pair.

        A test that rings starts again from nothing.

        Args:
            z: spread / spread_sd, predicted, of every pair, `(pair,)`; a number will do for one pair.
                NaN (nothing was observed) changes nothing.
            dof: degrees of freedom of Student-t forecasts, above 2; None for normal ones.

        Raises:
            ValueError: infinite z, dof of 2 or less, z of another shape. The watch is then as before.
        """
        single = isinstance(self.last, float)
        score, near, seen = _read_one(z, dof) if single else _read(z, dof, len(self.last))
        ratios, more = self._tests.bar(score, near, self.last)
        held = self.evidence, self.sums, self.bars
        if single:
            done = _add_one(held, ratios, more, bool(seen), self._tests.thresholds)
        else:
            done = _add(*held, np.stack(ratios), np.stack(more), seen, self._tests.column)
        self.evidence, self.sums, self.bars, rung, *reached = done
        self.last = near * seen + self.last * (1 - seen)
        self.broken_left = self.broken_left - seen * (self.broken_left > 0)
        if (True not in rung) if single else not rung.any():
            return []
        # alarms are rare, so both kinds of watch may go through arrays here
        rung, reached = np.reshape(rung, (6, -1)), np.reshape(reached, (3, 6, -1))
        most = self.monitor.broken_bars
        self.broken_left = most if single else np.where(rung.any(0), most, self.broken_left)
        return [
            (pair, self._tests.alarm(test, *reached[:, test, pair].tolist()))
            for pair, test in np.argwhere(rung.T).tolist()
        ]

    def mark(self) -> tuple[Value, ...]:
        """Where the watch stands now, for `back`; `update` replaces these values and changes none."""
        return self.evidence, self.sums, self.bars, self.last, self.broken_left

    def back(self, mark: tuple[Value, ...]) -> None:
        """Stand again where `mark` was taken."""
        self.evidence, self.sums, self.bars, self.last, self.broken_left = mark

    @property
    def conditions(self) -> list[Condition]:
        """Of every pair: broken for some bars after an alarm, watch where a test is close to one."""
        return [CONDITIONS[rank] for rank in self._ranks()]

    @property
    def doubtful(self) -> dict[int, Condition]:
        """The conditions of the pairs that are not ok, by number."""
        ranks = self._ranks()
        if not any(ranks):  # as with nearly every tick
            return {}
        return {number: CONDITIONS[rank] for number, rank in enumerate(ranks) if rank}

    @property
    def condition(self) -> Condition:
        """That of the worst pair."""
        return CONDITIONS[max(self._ranks(), default=0)]

    def to_json(self) -> dict[str, Json]:
        """All it needs to go on, in plain numbers and lists; JSON keeps them to the last bit."""
        pairs = len(self)
        return {
            "monitor": asdict(self.monitor),
            "evidence": _plain(self.evidence, -1, pairs),
            "sums": _plain(self.sums, -1, pairs),
            "bars": _plain(self.bars, -1, pairs),
            "last": _plain(self.last, pairs),
            "broken_left": _plain(self.broken_left, pairs),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What `to_json` wrote, made again.

        Raises:
            ValueError: the document was not written by it.
        """
        try:
            held = dict(document)
            return cls(Monitor(**held.pop("monitor")), **held)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not a watch written by to_json: {error!r}") from error

    def _ranks(self) -> list[int]:
        """Places of the conditions in `CONDITIONS`."""
        if isinstance(self.last, float):
            return [
                2 if self.broken_left else int(True in map(gt, self.evidence, self._tests.near))
            ]
        near = (self.evidence > _NEAR * self._tests.column).any(0)
        return np.where(self.broken_left > 0, 2, near).tolist()


register(Watch, Watch.to_json, Watch.from_json)


def _read_one(z: ArrayLike, dof: ArrayLike | None) -> tuple[float, float, bool]:
    """`_read` of one pair, without NumPy where these are plain numbers that can be taken."""
    if isinstance(z, float) and -_FARTHEST < z < _FARTHEST:
        if dof is None:
            return z, min(max(z, -BOUND), BOUND), True
        if isinstance(dof, float) and dof > 2:
            score = _wallace(z, min(dof, _NORMAL_FROM), math)
            return score, min(max(score, -BOUND), BOUND), True
    score, near, seen = _read(np.reshape(z, -1), dof, 1)
    return score.item(), near.item(), seen.item()


def _read(
    z: ArrayLike, dof: ArrayLike | None, pairs: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Normal scores, the same within the bound, and where there is one; each `(pair,)`."""
    z = np.asarray(z, float)
    if z.shape != (pairs,):
        raise ValueError(f"z has the shape {z.shape}, not ({pairs},), one for each pair")
    seen = ~np.isnan(z)
    for pair in np.flatnonzero(seen & ~(np.abs(z) < _FARTHEST))[:1]:
        raise ValueError(
            f"z of pair {pair} is {z[pair]:g}: a standardised innovation is finite; pass NaN if there "
            "is none. Nothing has changed"
        )
    score = np.where(seen, z, 0.0)
    if dof is not None:
        score = normal_score(score, np.where(seen, dof, np.inf))
    return score, np.clip(score, -BOUND, BOUND), seen
