"""What a model may assume of the noise, the drift and the start, as small validated objects."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kfmodels.noise import LEAST_VARIANCE_MEMORY, VARIANCE_MEMORY, Memory

DIFFUSE = 1e10
"""Relative start variance that stands for infinity: float64 keeps six digits of the likelihood."""


@dataclass(frozen=True)
class Constant:
    """Observation noise of one variance, which is inferred (`obs_scale`)."""


@dataclass(frozen=True)
class Discounted:
    """Observation variance that follows the recent squared innovations, with inferred memory.

    West and Harrison (1997), section 10.8: the weight of a squared innovation fades by
    `1 - 1 / memory` a bar; forecasts are Student-t. `obs_scale` is only where it starts, worth `dof`
    observations.

    Args:
        memory: a `Memory` prior, a NumPyro distribution on bars, or a number of bars; above 4, so
            that a forecast keeps 3 degrees of freedom.
        dof: weight of the start, in observations.
    """

    memory: Any = VARIANCE_MEMORY
    dof: float = 4.0

    def __post_init__(self) -> None:
        if isinstance(self.memory, Memory):
            self.memory.on_bars()
        if isinstance(self.memory, (int, float)) and not self.memory > LEAST_VARIANCE_MEMORY:
            raise ValueError(
                f"Discounted: memory must be above {LEAST_VARIANCE_MEMORY:g} bars, so that "
                f"a forecast keeps 3 degrees of freedom, not {self.memory}"
            )
        if not self.dof > 0:
            raise ValueError(f"Discounted: dof must be positive, not {self.dof}")


@dataclass(frozen=True)
class RandomWalk:
    """Coefficients that take independent Gaussian steps, at the speed `delta` of each."""


@dataclass(frozen=True)
class StateDiscount:
    """Coefficients whose information fades: predicted cov = cov / (1 - 1 / memory)**dt.

    One memory for all that moves; `delta["beta"]` is its prior. West and Harrison (1997), section
    6.3.
    """


@dataclass(frozen=True)
class Weak:
    """Start that says little: sd of `sds` standard deviations of the target, per coefficient.

    Centred on no hedge and on the mean of the target; scale-free.
    """

    sds: float = 3.0

    def __post_init__(self) -> None:
        if not self.sds > 0:
            raise ValueError(
                f"Weak: sds must be positive, not {self.sds}; for certainty use Zero()"
            )


@dataclass(frozen=True, eq=False)
class Known:
    """Start with a given mean and covariance of [beta..., alpha], in the units of the data."""

    mean: Any
    cov: Any

    def __post_init__(self) -> None:
        mean, cov = np.asarray(self.mean, float), np.asarray(self.cov, float)
        if cov.shape != mean.shape * 2:
            raise ValueError(
                f"Known: mean has shape {mean.shape}, so cov must be {mean.shape * 2}, not {cov.shape}"
            )
        if not np.allclose(cov, cov.T) or np.linalg.eigvalsh(cov).min() < -1e-9 * np.abs(cov).max():
            raise ValueError(
                "Known: cov is not a covariance (symmetric, no negative eigenvalue); "
                f"eigenvalues {np.linalg.eigvalsh(cov).round(6).tolist()}"
            )


@dataclass(frozen=True)
class Diffuse:
    """Start that says nothing: flat on the coefficients, with the exact diffuse likelihood."""


@dataclass(frozen=True)
class Zero:
    """Start at exactly zero, as Chan's published code has it; anchors the intercept for years."""


Noise = Constant | Discounted
Drift = RandomWalk | StateDiscount
Start = Weak | Known | Diffuse | Zero
