r"""How fast a hedge ratio moves, converted between the measures that the field uses.

`delta`, the signal-to-noise ratio `q = delta / (1 - delta)`, the steady gain of a local level with
that ratio, `g = p / (1 + p)` with `p = (q + sqrt(q^2 + 4 q)) / 2`, and the memory `1 / g` in bars.
Each determines the others: `q = 1 / (memory (memory - 1))`.

Source: Durbin and Koopman (2012), Time Series Analysis by State Space Methods, section 2.11 (steady
state of the local level); Montana, Triantafyllopoulos and Tsagaris (2009), Flexible least squares
for temporal data mining, Expert Systems with Applications 36 (where delta comes from).
"""

from types import ModuleType

import numpy as np

from kfmodels.kalman.motion import Array

LEAST_VARIANCE_MEMORY = 4.0
"""Bars: a variance remembered for m bars is known with m - 1 degrees of freedom, and 3 are kept."""


def delta_to_q(delta: Array) -> Array:
    """Signal-to-noise ratio `q = delta / (1 - delta)`, so that `logit(delta) = log q`.

    Example:
        >>> float(delta_to_q(0.5))
        1.0
    """
    return delta / (1 - delta)


def q_to_delta(q: Array) -> Array:
    """`delta = q / (1 + q)`, the inverse of `delta_to_q`."""
    return q / (1 + q)


def q_to_state_var(q: Array) -> Array:
    """Steady `p` of a local level: its predicted variance over that of an observation."""
    return (q + (q * q + 4 * q) ** 0.5) / 2


def q_to_gain(q: Array) -> Array:
    """Steady Kalman gain of a local level: the share of a surprise that is taken to be permanent.

    Example:
        >>> round(float(q_to_gain(0.0973)), 3)  # the Nile: 1469.1 / 15098.5
        0.267
    """
    p = q_to_state_var(q)
    return p / (1 + p)


def q_to_memory(q: Array) -> Array:
    """Memory in bars, `1 / gain`; infinite when q is 0.

    Example:
        >>> round(float(q_to_memory(1e-4)), 1)
        100.5
    """
    # a Python float would raise where q is 0
    plain = isinstance(q, (int, float, np.integer, np.floating))
    gain = q_to_gain(np.float64(q) if plain else q)
    with np.errstate(divide="ignore"):
        return 1 / gain


def memory_to_q(memory: Array) -> Array:
    """`q = 1 / (memory (memory - 1))`, for a memory above one bar.

    Example:
        >>> round(float(q_to_memory(memory_to_q(60.0))), 9)
        60.0
    """
    return 1 / (memory * (memory - 1))


LOGIT_GAINS = np.linspace(-9.0, 9.0, 19)
"""Log odds of the gains of an intercept for which `told_beside` is worked out."""


def told_beside(regressors: np.ndarray, *, moving: bool) -> np.ndarray:
    """What a row tells of each ratio beside an intercept of those gains, `(gain, hedge)`.

    The mean square that a filter of that gain, and then least squares on the other regressors, leave
    of a regressor `(time, hedge)`; one row for an intercept that does not move.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(4000, 1))
        >>> told_beside(x, moving=False).round(1)
        array([[1.]])
        >>> told_beside(x, moving=True)[-1].round(1)  # an intercept that follows: moves count
        array([2.])
    """
    if not moving:
        return _alone(regressors)[None]
    # here, not above: it takes half a second to import, and reading a fit needs none of it
    from scipy.signal import lfilter

    gains = 1 / (1 + np.exp(-LOGIT_GAINS))
    centred = regressors - regressors[:1]
    left = (np.asarray(lfilter([1, -1], [1, gain - 1], centred, axis=0)) for gain in gains)
    return np.stack([_alone(each) for each in left])


def _alone(regressors: np.ndarray) -> np.ndarray:
    """Mean square of each regressor given the others, `(hedge,)`."""
    gram = regressors.T @ regressors / len(regressors)
    # pinv, as hedges may move in exact proportion to each other
    return 1 / np.maximum(np.diagonal(np.linalg.pinv(gram)), 1e-300)


def told_at(told: Array | None, q_level: Array, xp: ModuleType) -> Array | None:
    """D(g) (1 - g) of every hedge beside an intercept of that q, `(hedge,)`; None of None."""
    if told is None or len(told) == 1:
        return None if told is None else told[0]
    gain = q_to_gain(q_level)
    # as an array of NumPy JAX lowers it in single precision where it is the first to be lowered
    grid = xp.asarray(LOGIT_GAINS, gain.dtype)
    place = xp.log(gain) - xp.log1p(-gain)
    each = [xp.interp(place, grid, xp.log(column)) for column in told.T]
    return xp.exp(xp.stack(each)) * (1 - gain)
