r"""Is the pair still the one that was fitted? Watched on the innovations of the live filter.

Under a right model the standardised innovations z are independent N(0, 1). Page's CUSUM adds up what
each bar says, in nats, for an alternative against that, and never owes more than nothing:

$$G_t = \max(0,\ G_{t-1} + \ell(z_t, z_{t-1})), \qquad \text{alarm when } G_t > h$$

The threshold h follows from the rate of false alarms asked for, in equal shares for the six tests:

$$e^b - b - 1 = 6 \, I \cdot \text{bars}, \qquad h = b - d$$

I is what a bar tells on average once the alternative is true; d, the overshoot at both ends, is
Siegmund's 1.166 m for a mean m and for the others a curve through what simulation of the cycles of G
gave. The rate then holds to 3 %; Lorden's bound `h = log(6 bars)` rings 13 to 33 times too seldom.

One file: six tests against one another's thresholds, of one pair and of a board.

Source: Page (1954), Continuous inspection schemes, Biometrika 41; Lorden (1971), Procedures for
reacting to a change in distribution, Annals of Mathematical Statistics 42; Siegmund (1985), Sequential
Analysis, chapter 10.
"""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

Action = Literal["widen", "refresh noise", "fall back to static", "stop"]
Condition = Literal["ok", "watch", "broken"]

BOUND = 4.0
"""In the tests of mean and autocorrelation |z| counts as 4 at most: no bad print alone says "stop"."""

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
_NEAR, _FARTHEST, _NORMAL_FROM = 2 / 3, 1e100, 1e9
_NOT_A_Z = "a standardised innovation is finite; pass NaN if there is none. Nothing has changed"
_NO_SD = "a Student-t forecast has an sd, and so a z, above 2 only. Nothing has changed"


def made_normal(z: ArrayLike, dof: ArrayLike) -> Any:
    r"""Standard normal score of the z of a Student-t forecast: as far out in its own distribution.

    $$t = z \sqrt{\nu / (\nu - 2)}, \qquad
    \frac{8 \nu + 1}{8 \nu + 3} \sqrt{\nu \log(1 + t^2 / \nu)} \ \text{with the sign of } t$$

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
        >>> made_normal([4.0, 4.0], [5.0, 1000.0]).round(2).tolist()
        [2.9, 3.99]
    """
    dof = np.asarray(dof, float)
    if not (dof > 2).all():
        raise ValueError(f"dof is {dof.min():g}: {_NO_SD}")
    return _wallace(np.asarray(z, float), np.minimum(dof, _NORMAL_FROM), np)


def _wallace(z: Any, dof: Any, of: Any) -> Any:
    """`of` has the functions: `math` is many times faster than `numpy` on one number."""
    size = (8 * dof + 1) / (8 * dof + 3) * of.sqrt(dof * of.log1p(z * z / (dof - 2)))
    return of.copysign(size, z)


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alternative has become likelier than the model that was fitted, by `evidence` nats.

    `bars` says since when: this one and those before it, with a z, since the CUSUM left 0. `size` is
    the sd, the lag-one autocorrelation or the mean of z in them: of the worst stretch, so more than to
    expect from now on. `message` is what happened, `action` what to do and `reason` why.
    """

    kind: str
    bars: int
    size: float
    evidence: float
    threshold: float
    action: Action
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Monitor:
    """What to look for in the innovations of a live filter, and how seldom to be wrong about it.

    Simulated on right models with the defaults: 2515 +- 33 bars between alarms if the forecasts are
    normal, 2509 +- 46 if Student-t with 10 degrees of freedom; "watch" on 4 % of the bars. From the
    change to its alarm: 41 bars for a doubled variance, 62 for a halved one, 110 for an autocorrelation
    of 0.3, 49 for a mean of 0.5, and 26 for the sd of 1.54 that EWA/EWC had in 2008. No forecast of
    real prices is quite right: Student-t ones of a moving variance ring two to six times as often as
    stated on KO, XOM and AAPL. While the variance is up, the other alarms say little.

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
        >>> alarms[0].kind, alarms[0].bars, alarms[0].action, watch.condition
        ('variance up', 4, 'widen', 'broken')
        >>> print(alarms[0].message)
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
        none = [0.0] * len(KINDS)
        return Watch(self, none, none, [0] * len(KINDS), 0.0, 0)

    def board(self, pairs: int) -> "BoardWatch":
        """A watch over many pairs, which have seen nothing yet; the rate is that of each pair."""
        none, never = np.zeros((len(KINDS), pairs)), np.zeros((len(KINDS), pairs), int)
        return BoardWatch(self, none, none, never, none[0], never[0])


def _reach(rate: float) -> float:
    """The b with `exp(b) - b - 1 = rate`, by iteration from below."""
    b = math.log1p(rate)
    for _ in range(60):
        b = math.log1p(rate + b)
    return b


class _Tests:
    """What every bar needs of a monitor: log likelihood ratios and thresholds, in order of `KINDS`."""

    def __init__(self, monitor: Monitor) -> None:
        rho, mean = monitor.autocorrelation, monitor.mean
        up, down, rest = monitor.variance_up, monitor.variance_down, 1 - rho * rho
        self.up_down = [(-math.log(var) / 2, (1 - 1 / var) / 2) for var in (up, down)]
        self.tie = -math.log(rest) / 2, rho * rho / rest / 2, rho / rest
        self.mean = -mean * mean / 2, mean
        self.thresholds = tuple(monitor.thresholds().values())

    def bar(self, z: Any, near: Any, last: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """What one bar adds to the sums, and its ratios; numbers or arrays."""
        square, product = z * z, near * last
        (up, more), (down, less) = self.up_down
        tie, energy, turn = self.tie
        level, push = self.mean
        tie = tie - energy * (near * near + last * last)
        turn, push = turn * product, push * near
        more, less = up + more * square, down + less * square
        ratios = more, less, tie + turn, tie - turn, level + push, level - push
        return (square, square, product, product, near, near), ratios

    def alarm(self, test: int, evidence: float, total: float, bars: int) -> Alarm:
        """The alarm of a test whose statistics since it left 0 add up to `total`."""
        kind, top = KINDS[test], self.thresholds[test]
        size = math.sqrt(total / bars) if test < 2 else total / bars
        if test in (2, 3):  # the evidence holds the sum of the squares, too
            tie, energy, turn = self.tie
            turn = turn if test == 2 else -turn
            size = 2 * energy * total / (bars * tie + turn * total - evidence)
        said = _SAID[test // 2].format(size)
        if kind == "variance up" and bars == 1:
            said = f"{size:.2f} in size; look for a bad print or a split first"
        span = f"{bars} bars" if bars > 1 else "this bar"
        said = f"for {span} z had {said} (evidence {evidence:.1f} nats, alarm from {top:.1f})"
        return Alarm(kind, bars, size, evidence, top, *_ADVICE[kind], f"{kind}: {said}")


class _Stored:
    """Goes into plain numbers and lists, and comes back exactly where it stood."""

    __slots__ = ()
    monitor: Monitor
    _NAMES = ("evidence", "sums", "bars", "last", "broken_left")

    def to_json(self) -> dict[str, Any]:
        """All it needs to go on, in plain numbers and lists; JSON keeps them to the last bit."""
        held = {name: np.asarray(getattr(self, name)).tolist() for name in self._NAMES}
        return {"monitor": asdict(self.monitor)} | held

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """What `to_json` wrote, made again.

        Raises:
            ValueError: the document is not one.
        """
        try:
            parts: Any = {name: document[name] for name in cls._NAMES}
            return cls(**parts | {"monitor": Monitor(**document["monitor"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not a watch written by to_json: {error}") from error


@dataclass(slots=True)
class Watch(_Stored):
    """The live monitor of one pair; from `Monitor.start()` or `Watch.from_json(...)`.

    Args:
        monitor: the settings.
        evidence, sums, bars: of each of `KINDS` the CUSUM in nats and, since it left 0, the sum of
            what it looks at (z squared, z times the last z, or z) and the number of bars.
        last: z of the last bar that had one, within +-4.
        broken_left: bars for which the last alarm still makes the pair "broken".

    Example:
        >>> import json
        >>> watch = Monitor().start()
        >>> watch.update(1.9, dof=6.0), watch.update(float("nan")), watch.condition
        ((), (), 'ok')
        >>> Watch.from_json(json.loads(json.dumps(watch.to_json()))) == watch
        True
    """

    monitor: Monitor
    evidence: list[float]
    sums: list[float]
    bars: list[int]
    last: float
    broken_left: int
    _tests: _Tests = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.evidence, self.sums, self.bars = [*self.evidence], [*self.sums], [*self.bars]
        self._tests = _Tests(self.monitor)

    def update(self, z: float, dof: float | None = None) -> tuple[Alarm, ...]:
        """Take one bar: its alarms, usually none. A test that rings starts again from nothing.

        Args:
            z: spread / spread_sd, predicted; NaN (nothing was observed) changes nothing.
            dof: degrees of freedom of a Student-t forecast, above 2; None for a normal one.

        Raises:
            ValueError: infinite z, dof of 2 or less. The watch is then as it was before.
        """
        z = float(z)
        if z != z:
            return ()
        if not -_FARTHEST < z < _FARTHEST:
            raise ValueError(f"z is {z:g}: {_NOT_A_Z}")
        if dof is not None:
            if not dof > 2:
                raise ValueError(f"dof is {dof:g}: {_NO_SD}")
            z = _wallace(z, min(float(dof), _NORMAL_FROM), math)
        near = min(max(z, -BOUND), BOUND)
        adds, ratios = self._tests.bar(z, near, self.last)
        evidence, sums, bars, alarms = self.evidence, self.sums, self.bars, ()
        for test, top in enumerate(self._tests.thresholds):
            level = evidence[test] + ratios[test]
            total, count = sums[test] + adds[test], bars[test] + 1
            if level > top:
                alarms += (self._tests.alarm(test, level, total, count),)
            if not 0 < level <= top:
                level, total, count = 0.0, 0.0, 0
            evidence[test], sums[test], bars[test] = level, total, count
        self.last = near
        self.broken_left = self.monitor.broken_bars if alarms else max(0, self.broken_left - 1)
        return alarms

    @property
    def condition(self) -> Condition:
        """Broken for some bars after an alarm; watch with a test past two thirds of its threshold."""
        if self.broken_left:
            return "broken"
        levels = zip(self.evidence, self._tests.thresholds, strict=True)
        return "watch" if any(level > _NEAR * top for level, top in levels) else "ok"


@dataclass(slots=True, eq=False)
class BoardWatch(_Stored):
    """The live monitors of many pairs in one, from `Monitor.board(pairs)`: says what a `Watch` says.

    Args, and what `update` takes, are those of `Watch` with the pairs as last axis.

    Example:
        >>> board = Monitor().board(2)
        >>> for z in ([0.3, 0.3], [-1.0, 4.0], [float("nan"), -4.5]):
        ...     alarms = board.update(z)
        >>> [(pair, alarm.kind, alarm.bars) for pair, alarm in alarms], board.conditions
        ([(1, 'variance up', 2)], ['ok', 'broken'])
    """

    monitor: Monitor
    evidence: np.ndarray
    sums: np.ndarray
    bars: np.ndarray
    last: np.ndarray
    broken_left: np.ndarray
    _tests: _Tests = field(init=False, repr=False)
    _tops: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in self._NAMES:  # arrays of its own, whether from lists or another's
            setattr(self, name, np.array(getattr(self, name)))
        self._tests = _Tests(self.monitor)
        self._tops = np.array(self._tests.thresholds)[:, None]

    def update(self, z: ArrayLike, dof: ArrayLike | None = None) -> list[tuple[int, Alarm]]:
        """Take one bar of every pair: the numbers of pairs with an alarm, each with its alarm.

        Raises:
            ValueError: as for a `Watch`, or z not of shape (pairs,). The board is then as before.
        """
        z = np.asarray(z, float)
        if z.shape != self.last.shape:
            raise ValueError(f"z has the shape {z.shape}; the board has {self.last.shape}")
        seen = ~np.isnan(z)
        for pair in np.flatnonzero(seen & ~(np.abs(z) < _FARTHEST))[:1]:
            raise ValueError(f"z of pair {pair} is {z[pair]:g}: {_NOT_A_Z}")
        whole: np.ndarray = np.where(seen, z, 0.0)
        if dof is not None:
            whole = made_normal(whole, np.where(seen, dof, np.inf))
        near = np.clip(whole, -BOUND, BOUND)
        adds, ratios = self._tests.bar(whole, near, self.last)
        level, sums = self.evidence + np.stack(ratios), self.sums + np.stack(adds)
        bars = self.bars + 1
        rung = (level > self._tops) & seen
        kept = (level > 0) & ~rung
        # a product is four times faster than a choice that no processor can foresee
        self.evidence = np.where(seen, level * kept, self.evidence)
        self.sums = np.where(seen, sums * kept, self.sums)
        self.bars = np.where(seen, bars * kept, self.bars)
        self.last = np.where(seen, near, self.last)
        left = np.maximum(0, self.broken_left - seen)
        self.broken_left = np.where(rung.any(0), self.monitor.broken_bars, left)
        alarm, parts = self._tests.alarm, (level, sums, bars)
        where = sorted((k, test) for test, k in np.argwhere(rung).tolist())
        return [(k, alarm(test, *(part[test, k].item() for part in parts))) for k, test in where]

    @property
    def conditions(self) -> list[Condition]:
        """The condition of every pair."""
        words: list[Condition] = ["ok", "watch", "broken"]
        near = (self.evidence > _NEAR * self._tops).any(0)
        return [words[k] for k in np.where(self.broken_left > 0, 2, near).tolist()]
