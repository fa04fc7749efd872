"""What a model may assume of the noise, the drift and the start, as small validated objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kfmodels.model.memory import LEAST_VARIANCE_MEMORY
from kfmodels.model.priors import VARIANCE_MEMORY, Memory

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


@dataclass(frozen=True)
class Gaps:
    r"""What a closed period between two rows does: one night, one weekend, one break at noon.

    $$\mathrm{Var}(w_t) \propto dt_t + \sum_g n_{tg} \, \mathrm{bars}_g, \qquad
    \mathrm{Var}(\epsilon_t) \propto \prod_g \mathrm{noise}_g^{n_{tg}}$$

    with `dt` bars of open time and `n` closed periods of kind g crossed just before the row; with
    `StateDiscount` that time is the power of the discount. The
    weight of old squared innovations (`Discounted`) fades in open time alone: while nothing trades,
    nothing is learnt of the variance.

    Args:
        bars: the open bars that one closed period moves the coefficients by. A NumPyro distribution on
            positive numbers (each kind its own draw), a number (0: it does not move them), or a dict by
            kind. Default: log-normal, median 0.3 times the open bars between two closed periods,
            log sd 1.5 (90 %: 12 times less to 12 times more); see `GAP_SHARE`.
        noise: the factor on the observation variance of the first row after one closed period, given
            likewise. Default: 1. Returns have their whole overnight move in that one row: infer it.

    Raises:
        ValueError: a number out of range, a prior that reaches below 0 or has a shape of its own, a
            dict without a kind, or two dicts of different kinds.

    Source: the effective length of closed time: French and Roll (1986), Stock return variances,
    Journal of Financial Economics 17; Hansen and Lunde (2005), A realized variance for the whole day,
    Journal of Financial Econometrics 3.

    Example:
        >>> import numpyro.distributions as dist
        >>> Gaps(bars={"overnight": dist.LogNormal(4.0, 1.0), "weekend": 90}).kinds
        ('overnight', 'weekend')
    """

    bars: Any = None
    noise: Any = 1.0

    def __post_init__(self) -> None:
        for name in ("bars", "noise"):
            given = getattr(self, name)
            if isinstance(given, Mapping):
                given = tuple(given.items())  # a dict could not be hashed
            if given == ():
                raise ValueError(f"Gaps: the dict of {name} names no kind of closed period")
            listed = given if isinstance(given, tuple) else (("", given),)
            for kind, one in listed:
                if one is not None or kind or name == "noise":
                    _check_multiplier(f"{name} of {kind}" if kind else name, one, name == "noise")
            object.__setattr__(self, name, given)
        if isinstance(self.bars, tuple) and isinstance(self.noise, tuple):
            bars, noise = dict(self.bars), dict(self.noise)
            if bars.keys() != noise.keys():
                raise ValueError(
                    f"Gaps: bars is given for {', '.join(bars)}, noise for {', '.join(noise)}: "
                    "name the same kinds in both"
                )
            object.__setattr__(self, "noise", tuple((kind, noise[kind]) for kind in bars))

    @property
    def kinds(self) -> tuple[str, ...] | None:
        """The kinds named in a dict, in their order; None where all are alike."""
        for given in (self.bars, self.noise):
            if isinstance(given, tuple):
                return tuple(str(kind) for kind, _ in given)
        return None


def _check_multiplier(name: str, given: Any, positive: bool) -> None:
    """Raise unless it is a prior on positive numbers, or such a number."""
    least = "positive" if positive else "0 or more"
    support = getattr(given, "support", None)
    if support is None:
        try:
            fine = 0 < float(given) < np.inf or (not positive and float(given) == 0)
        except (TypeError, ValueError):
            fine = False
        if not fine:
            raise ValueError(
                f"Gaps: {name} is a NumPyro distribution or a number, {least}, not {given!r}"
            )
        return
    if not np.all(np.asarray(getattr(support, "lower_bound", -np.inf)) >= 0):
        raise ValueError(
            f"Gaps: the prior on {name} reaches below 0 ({given!r}): use one on positive numbers, "
            "such as dist.LogNormal(3.0, 1.5)"
        )
    if given.batch_shape or given.event_shape:
        raise ValueError(
            f"Gaps: the prior on {name} has the shape {given.batch_shape + given.event_shape}: state "
            'it for one closed period, or by kind, {"overnight": ..., "weekend": ...}'
        )


Noise = Constant | Discounted
Drift = RandomWalk | StateDiscount
Start = Weak | Known | Diffuse | Zero
