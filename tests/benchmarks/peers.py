"""The others on whole series, each the fastest way we found to ask it for the same numbers.

They are imported where they are set up: one that is not installed is a line of the table.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks.problems import Problem
from tests.benchmarks.timing import Run, jitted


def statsmodels_log_likelihood(problem: Problem) -> Run:
    """The bare state space filter, without the layers of `MLEModel`, and set up once.

    `loglike` keeps the log likelihoods and nothing else. Switching off the forced symmetry gains
    6 %; the univariate filter, other inversions and tolerances are slower or the same.
    """
    from statsmodels.tsa.statespace.kalman_filter import KalmanFilter

    q, obs_var = np.exp(problem.params)
    model = KalmanFilter(k_endog=1, k_states=2)
    model.bind(problem.y[:, None].copy())
    model["design"] = np.ascontiguousarray(problem.design.T[None])
    model["transition"] = model["selection"] = np.eye(2)
    model["state_cov"] = np.eye(2) * q * obs_var
    model["obs_cov"] = np.array([[obs_var]])
    model.initialize_known(problem.mean, np.array(problem.cov))
    model.stability_method = 0
    return model.loglike


def dynamax_log_likelihood(problem: Problem) -> Run:
    return jitted(_over_batch(_dynamax(), problem), *_dynamax_arguments(problem))


def dynamax_gradient(problem: Problem) -> Run:
    """`jax.grad` of each series; the parameters are brought to the front, as in our gradient."""
    gradient = _over_batch(jax.grad(_dynamax()), problem)
    return jitted(lambda *args: gradient(*args).T, *_dynamax_arguments(problem))


def pykalman_filtered(problem: Problem) -> Run:
    from pykalman import KalmanFilter

    q, obs_var = np.exp(problem.params)
    model = KalmanFilter(
        transition_matrices=np.eye(2),
        observation_matrices=problem.design[:, None],
        transition_covariance=np.eye(2) * q * obs_var,
        observation_covariance=np.array([[obs_var]]),
        initial_state_mean=problem.mean,
        initial_state_covariance=problem.cov,
    )
    return lambda: model.filter(problem.y)


def simdkalman_filtered(problem: Problem) -> Run:
    """Its observation model cannot move with time: only a constant design can be asked for.

    It takes a batch in one go, series first.
    """
    import simdkalman

    if np.ptp(problem.design, axis=0).any():
        raise ValueError("simdkalman.KalmanFilter has one observation_model for all rows")
    y, design, mean, cov, params = _batch_first(problem)
    q, obs_var = np.exp(params.T)[..., None, None]
    model = simdkalman.KalmanFilter(
        state_transition=np.eye(2),
        process_noise=np.eye(2) * q * obs_var,
        observation_model=design[..., :1, :],
        observation_noise=obs_var,
    )

    def run() -> tuple[np.ndarray, np.ndarray]:
        result = model.compute(
            y,
            n_test=0,
            initial_value=mean[..., None],
            initial_covariance=cov,
            smoothed=False,
            filtered=True,
            observations=False,
        )
        states = result.filtered.states
        if y.ndim == 1:
            return states.mean, states.cov
        return np.moveaxis(states.mean, 0, -1), np.moveaxis(states.cov, 0, -1)

    return run


def _dynamax() -> Callable[..., Any]:
    """Marginal log likelihood of one series: y (T, 1), design (T, 1, 2).

    The observation covariance is a (1, 1) matrix: its other form, a diagonal, takes twice as long.
    Importing dynamax sets `jax_default_matmul_precision`; done while something is being traced,
    that adds 0.2 ms to every later call, ours included. So it is imported here, before.
    """
    from dynamax.linear_gaussian_ssm import (
        ParamsLGSSM,
        ParamsLGSSMDynamics,
        ParamsLGSSMEmissions,
        ParamsLGSSMInitial,
        lgssm_filter,
    )

    def log_likelihood(params: Any, y: Any, design: Any, mean: Any, cov: Any) -> Any:
        q, obs_var = jnp.exp(params)
        eye = jnp.eye(2)
        no_inputs = jnp.zeros((2, 0)), jnp.zeros((1, 0))
        model = ParamsLGSSM(
            initial=ParamsLGSSMInitial(mean, cov),
            dynamics=ParamsLGSSMDynamics(eye, jnp.zeros(2), no_inputs[0], eye * q * obs_var),
            emissions=ParamsLGSSMEmissions(
                design, jnp.zeros(1), no_inputs[1], obs_var.reshape(1, 1)
            ),
        )
        return lgssm_filter(model, y).marginal_loglik

    return log_likelihood


def _over_batch(function: Callable[..., Any], problem: Problem) -> Callable[..., Any]:
    return jax.vmap(function) if problem.y.ndim > 1 else function


def _dynamax_arguments(problem: Problem) -> tuple[np.ndarray, ...]:
    """An axis for the one observation of each row."""
    y, design, mean, cov, params = _batch_first(problem)
    return params, y[..., None], design[..., None, :], mean, cov


def _batch_first(problem: Problem) -> Problem:
    if problem.y.ndim == 1:
        return problem
    return Problem(*(np.ascontiguousarray(np.moveaxis(each, -1, 0)) for each in problem))
