"""Models stated by name, as `tests.reference` knows them, made of laws of motion and noises."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kfmodels.kalman.motion import Discount, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance
from kfmodels.kalman.regression import KalmanRegression

# the distribution is a pytree, so one trace serves every model of the same shape
log_prob = jax.jit(KalmanRegression.log_prob)
run_filter = jax.jit(KalmanRegression.filter)
run_smooth = jax.jit(KalmanRegression.smooth)


def regression(
    design: Any,
    initial_mean: Any,
    initial_cov: Any,
    obs_var: Any,
    *,
    state_var: Any = None,
    state_cov: Any = None,
    state_discount: Any = None,
    moving: Any = None,
    variance_discount: Any = None,
    variance_dof: Any = None,
    gap_time: Any = None,
    **rows: Any,
) -> KalmanRegression:
    """The model that `loop` and `dense` know by the same names, state noise in the units of y."""
    obs_var = jnp.asarray(obs_var)
    if gap_time is not None:  # of all coefficients
        rows["gap_time"] = jnp.asarray(gap_time)[..., None]
    n = np.shape(design)[-1]
    drift: Any
    if state_discount is not None:
        moving = jnp.ones(n, bool) if moving is None else jnp.asarray(moving)
        block = (moving[:, None] & moving).astype(obs_var.dtype)
        drift = Discount(jnp.asarray(state_discount), block)
    else:
        if state_cov is None:
            state_cov = jnp.asarray(state_var)[..., None] * jnp.eye(n, dtype=obs_var.dtype)
        drift = Walk(state_cov / obs_var[..., None, None])
    noise: Any = ConstantVariance(obs_var)
    if variance_discount is not None:
        noise = DiscountedVariance(obs_var, variance_dof, variance_discount)
    return KalmanRegression(design, initial_mean, initial_cov, drift, noise, **rows)
