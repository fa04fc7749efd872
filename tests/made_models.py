"""Models stated by name, as `tests.reference` knows them, made of laws of motion and noises."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kfmodels.kalman.motion import Discount, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance
from kfmodels.kalman.regression import KalmanRegression


def compiled(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, compiled once for all models of a shape, with NumPy's arrays as its answer.

    The distribution is a pytree, so one trace serves them. On JAX's arrays every look at a part and
    every comparison would be a program of its own.
    """
    program = jax.jit(method)
    return lambda model, *given: jax.device_get(program(model, *given))


log_prob = compiled(KalmanRegression.log_prob)
run_filter = compiled(KalmanRegression.filter)
run_smooth = compiled(KalmanRegression.smooth)


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
    validate_args: bool = False,
    **rows: Any,
) -> KalmanRegression:
    """The model that `loop` and `dense` know by the same names, state noise in the units of y.

    Whether its numbers are in range is not asked unless told to: NumPyro's checks compile forty
    programs a shape.
    """
    given = (obs_var, state_var, state_cov, state_discount)
    library: Any = jnp if any(isinstance(one, jax.Array) for one in given) else np
    obs_var = library.asarray(obs_var)
    if gap_time is not None:  # of all coefficients
        rows["gap_time"] = (jnp if isinstance(gap_time, jax.Array) else np).asarray(gap_time)[
            ..., None
        ]
    n = np.shape(design)[-1]
    drift: Any
    if state_discount is not None:
        moving = np.ones(n, bool) if moving is None else np.asarray(moving)
        block = (moving[:, None] & moving).astype(obs_var.dtype)
        drift = Discount(library.asarray(state_discount), block)
    else:
        if state_cov is None:
            state_cov = library.asarray(state_var)[..., None] * np.eye(n, dtype=obs_var.dtype)
        drift = Walk(state_cov / obs_var[..., None, None])
    noise: Any = ConstantVariance(obs_var)
    if variance_discount is not None:
        noise = DiscountedVariance(obs_var, variance_dof, variance_discount)
    return KalmanRegression(
        design, initial_mean, initial_cov, drift, noise, validate_args=validate_args, **rows
    )
