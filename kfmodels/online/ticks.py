"""What the online filter answers: a tick's outcome, what is believed after it, and a fair value."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from kfmodels.kalman.noise import Scale
from kfmodels.online.draws import inflation

ACCEPTED = "accepted"
_NUMBERS = ("spread", "spread_sd", "z", "dof", "gain", "log_score", "effective_draws")
_BELIEFS = ("beta", "alpha", "sd_given_noise", "sd_total", "alpha_sd_given_noise", "alpha_sd_total")


@dataclass(frozen=True, slots=True)
class Frame:
    """From the inner coordinates of a filter to the units of its data."""

    hedges: tuple[str, ...]
    names: tuple[str, ...]
    matrix: np.ndarray
    shift: np.ndarray
    squares: np.ndarray
    """`(n, n * n)`: rows of `matrix` against themselves, which makes variances of a covariance."""

    @classmethod
    def of(cls, hedges: tuple[str, ...], coordinates: Any) -> "Frame":
        """Of the tickers and the `Coordinates` of a filter."""
        matrix = coordinates.matrix()
        squares = (matrix[:, :, None] * matrix[:, None]).reshape(len(matrix), -1)
        names = (*hedges, "alpha") if coordinates.intercept else hedges
        return cls(hedges, names, matrix, coordinates.shift(), squares)


class Belief:
    """Mixture of noise draws, each with its own coefficients; worked out when first asked.

    `table (n + n * n, draw)` as in `online.draws` and `weights (draw,)`; the covariances are relative
    to the observation variance, which is `obs_var (draw,)`, or `scale` where that is learnt.
    """

    def __init__(
        self,
        frame: Frame,
        table: np.ndarray,
        weights: np.ndarray,
        obs_var: np.ndarray,
        scale: Scale | None,
    ) -> None:
        self.frame, self.table, self.weights = frame, table, weights
        self._obs_var, self._scale = obs_var, scale

    @cached_property
    def inner(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean `(n,)`, and covariances given the noise and in all, `(2, n * n)`; inner coordinates."""
        n = len(self.frame.names)
        means, weights = self.table[:n], self.weights
        var = self._obs_var if self._scale is None else self._scale.var * inflation(self._scale.dof)
        centre = means.dot(weights)
        away = means - centre[:, None]
        both = np.empty((2, n * n))
        self.table[n:].dot(weights * var, out=both[0])
        np.add(both[0], (away * weights).dot(away.T).reshape(-1), out=both[1])
        return centre, both

    @cached_property
    def mean(self) -> np.ndarray:
        """[beta..., alpha] in the units of the data, (n,)."""
        return self.frame.matrix.dot(self.inner[0]) + self.frame.shift

    @cached_property
    def covs(self) -> tuple[np.ndarray, np.ndarray]:
        """Covariances `(n, n)` given the noise and in all, in the units of the data."""
        a, n = self.frame.matrix, len(self.frame.names)
        given, total = (a @ cov.reshape(n, n) @ a.T for cov in self.inner[1])
        return given, total

    @cached_property
    def sds(self) -> list[list[float]]:
        """Sds given the noise, and in all, of [beta..., alpha] in the units of the data."""
        return np.sqrt(self.inner[1].dot(self.frame.squares.T)).tolist()

    def finite(self) -> bool:
        """Whether all of it is a number."""
        return math.isfinite(float(self.mean.sum()) + sum(self.sds[1]))


class Tick(NamedTuple):
    """What is known after one tick, in the units of the data.

    `outcome` is "accepted", or says in words why the row was not learnt from. `beta`, `alpha` and their
    sds are filtered (t | t): the hedge to hold until the next tick. `sd_given_noise` takes the noise as
    known, `sd_total` adds what is not known about it (law of total variance); both have an entry
    "alpha" too. `spread` is the innovation, y minus its forecast from the ticks before: positive means
    the target is rich. `z` is spread / spread_sd, and `dof` the degrees of freedom of the forecast (inf
    where it is normal). `gain` is the share of the spread that was taken to be permanent. Where nothing
    was observed, `spread`, `z` and `log_score` are NaN; where a row was not learnt from, `gain` is 0.
    """

    at: Any
    outcome: str
    observed: bool
    spread: float
    spread_sd: float
    z: float
    dof: float
    gain: float
    log_score: float
    effective_draws: float
    belief: Belief

    @property
    def beta(self) -> dict[str, float]:
        return dict(zip(self.belief.frame.hedges, self.belief.mean.tolist(), strict=False))

    @property
    def alpha(self) -> float:
        frame = self.belief.frame
        return float(self.belief.mean[-1]) if len(frame.names) > len(frame.hedges) else 0.0

    @property
    def sd_given_noise(self) -> dict[str, float]:
        return dict(zip(self.belief.frame.names, self.belief.sds[0], strict=True))

    @property
    def sd_total(self) -> dict[str, float]:
        return dict(zip(self.belief.frame.names, self.belief.sds[1], strict=True))

    def record(self) -> dict[str, Any]:
        """All of it as a plain dict, in the order of the published record."""
        return {
            "at": self.at,
            "outcome": self.outcome,
            "observed": self.observed,
            "beta": self.beta,
            "alpha": self.alpha,
            "sd_given_noise": self.sd_given_noise,
            "sd_total": self.sd_total,
            "spread": self.spread,
            "spread_sd": self.spread_sd,
            "z": self.z,
            "dof": self.dof,
            "gain": self.gain,
            "log_score": self.log_score,
            "effective_draws": self.effective_draws,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tick) and self.record() == other.record()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.at, self.outcome, self.spread))

    def __repr__(self) -> str:
        return f"Tick({', '.join(f'{k}={v!r}' for k, v in self.record().items())})"


@dataclass(frozen=True, slots=True)
class FairValue:
    """Forecast of the target given its hedges.

    `price` with its 90 % band `lower`, `upper` in currency; `mean` and `sd` in transformed units.
    """

    price: float
    lower: float
    upper: float
    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class Predictive:
    """Forecast of the transformed target as a mixture over noise draws, arrays of shape (draw,).

    Draw k says Student-t with `dof[k]` degrees of freedom around `mean[k]` with scale `scale[k]`;
    normal where `dof` is None.
    """

    weights: Any
    mean: Any
    scale: Any
    dof: Any


@dataclass(frozen=True, slots=True, eq=False)
class BoardTick:
    """What is known of every pair after one tick; arrays `(pair,)` in the order of `names`.

    As in `Tick`: `outcome` has the words of every pair, ratio, intercept and their sds are filtered,
    `spread` is the innovation and `z` is spread / spread_sd. Where a pair was not observed, `spread`,
    `spread_sd`, `z`, `dof` and `log_score` are NaN; where its row was not learnt from, `gain` is 0.
    Without an intercept `alpha` and its sds are 0.
    """

    names: tuple[str, ...]
    hedges: tuple[str, ...]
    intercept: bool
    at: Any
    outcome: tuple[str, ...]
    observed: np.ndarray
    beta: np.ndarray
    alpha: np.ndarray
    sd_given_noise: np.ndarray
    sd_total: np.ndarray
    alpha_sd_given_noise: np.ndarray
    alpha_sd_total: np.ndarray
    spread: np.ndarray
    spread_sd: np.ndarray
    z: np.ndarray
    dof: np.ndarray
    gain: np.ndarray
    log_score: np.ndarray
    effective_draws: np.ndarray

    def of(self, name: str) -> dict[str, Any]:
        """What `Tick.record` says of one pair.

        Raises:
            ValueError: there is no pair of that name.
        """
        number = number_of(name, self.names)
        hedge = self.hedges[number]
        sds = {}
        for kind in ("sd_given_noise", "sd_total"):
            sds[kind] = {hedge: float(getattr(self, kind)[number])}
            if self.intercept:
                sds[kind]["alpha"] = float(getattr(self, f"alpha_{kind}")[number])
        return {
            "at": self.at,
            "outcome": self.outcome[number],
            "observed": bool(self.observed[number]),
            "beta": {hedge: float(self.beta[number])},
            "alpha": float(self.alpha[number]),
            **sds,
            **{field: float(getattr(self, field)[number]) for field in _NUMBERS},
        }

    def learnt(self) -> tuple[np.ndarray, np.ndarray]:
        """`z` and `dof` of the pairs that learnt from their row; NaN and inf of the others."""
        taken = self.observed & (self.gain != 0)
        return np.where(taken, self.z, np.nan), np.where(taken, self.dof, np.inf)

    def record(self) -> dict[str, Any]:
        """All of it as a plain dict of lists, which a `pandas.DataFrame` takes as it is."""
        return {
            "pair": list(self.names),
            "at": self.at,
            "outcome": list(self.outcome),
            **{
                field: getattr(self, field).tolist() for field in ("observed", *_BELIEFS, *_NUMBERS)
            },
        }


def number_of(name: str, names: tuple[str, ...]) -> int:
    """Which of the pairs that is."""
    if name not in names:
        raise ValueError(
            f"{name} is not among the {len(names)} pairs of this board: there is {names[0]}"
        )
    return names.index(name)
