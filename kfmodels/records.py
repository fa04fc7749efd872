"""What the online filter answers: a tick's outcome and a fair value."""

from dataclasses import dataclass
from typing import Any

Z90 = 1.6448536269514722
"""Half width of a central 90 % normal interval, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What is known after one tick, in the units of the data.

    `beta`, `alpha` and their sds are filtered (t | t): the hedge to hold until the next tick.
    `sd_given_noise` takes the noise as known, `sd_total` adds what is not known about it (law of
    total variance); both have an entry "alpha" too. `spread` is the innovation, y minus its forecast
    from the ticks before: positive means the target is rich. `z` is spread / spread_sd. `gain` is the
    share of the spread that was taken to be permanent. Where nothing was observed, `spread`, `z` and
    `log_score` are NaN.
    """

    at: Any
    observed: bool
    beta: dict[str, float]
    alpha: float
    sd_given_noise: dict[str, float]
    sd_total: dict[str, float]
    spread: float
    spread_sd: float
    z: float
    gain: float
    log_score: float
    effective_draws: float


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
