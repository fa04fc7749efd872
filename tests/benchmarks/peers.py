"""The others on whole series, each the fastest way we found to ask it for the same numbers.

They are imported where they are set up: one that is not installed is a line of the table.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks.problems import Problem
from tests.benchmarks.timing import Run, check_same, jitted


def statsmodels_log_likelihood(problem: Problem) -> Run:
    """The bare state space filter, without the layers of `MLEModel`, and set up once.

    `loglike` keeps the log likelihoods and nothing else. Switching off the forced symmetry gains
    6 %; the univariate filter, other inversions and tolerances are slower or the same.
    """
    return _statsmodels(problem).loglike


def _statsmodels(problem: Problem) -> Any:
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
    return model


def statsmodels_likelihood(
    y: np.ndarray, design: np.ndarray, mean: np.ndarray, cov: np.ndarray
) -> Callable[[np.ndarray], float]:
    """The same filter as a function of log q of both coefficients and log obs_scale."""
    params = np.zeros(2)
    model = _statsmodels(Problem(y, design, mean, cov, params))

    def log_likelihood(point: np.ndarray) -> float:
        obs_var = np.exp(2 * point[2])
        model["state_cov"] = np.diag(np.exp(point[:2])) * obs_var
        model["obs_cov"] = np.array([[obs_var]])
        return model.loglike()

    return log_likelihood


def statsmodels_search(series: list[Any], starts: np.ndarray, expected: np.ndarray) -> Run:
    """Maximum likelihood of one series after the other: what `MLEModel.fit` does, without its layers.

    Over log q of both coefficients and log obs_scale; slopes are differences. With a coefficient that
    stands still log q would run to -inf, so it is held.
    """
    from scipy.optimize import minimize

    costs = [lambda at, f=statsmodels_likelihood(*each): -f(at) for each in series]
    check_same(np.array([-f(at) for f, at in zip(costs, starts, strict=True)]), expected, 1e-8)
    held = [(-30.0, 30.0)] * starts.shape[1]

    def run() -> np.ndarray:
        searches = zip(costs, starts, strict=True)
        return np.stack([minimize(f, at, method="L-BFGS-B", bounds=held).x for f, at in searches])

    return run


def dynamax_search(
    series: list[Any], starts: np.ndarray, expected: np.ndarray, steps: int, rate: float
) -> Run:
    """Steps of Adam on the log likelihood, all series at once, over the same parameters."""
    import optax

    filtered, adam = dynamax_likelihood(), optax.adam(rate)

    def likelihood(point: Any, *each: Any) -> Any:
        return filtered(point * jnp.array([1.0, 1.0, 2.0]), *each)

    def climb(start: Any, *each: Any) -> Any:
        def step(carry: Any, _: None) -> Any:
            point, state = carry
            slope = jax.grad(lambda at: -likelihood(at, *each))(point)
            change, state = adam.update(slope, state)
            return (optax.apply_updates(point, change), state), None

        return jax.lax.scan(step, (start, adam.init(start)), None, length=steps)[0][0]

    y, design, mean, cov = (np.stack(part) for part in zip(*series, strict=True))
    given = starts, y[..., None], design[..., None, :], mean, cov
    check_same(jax.jit(jax.vmap(likelihood))(*given), expected, 1e-8)
    run = jax.jit(jax.vmap(climb)).lower(*given).compile()
    return lambda: run(*given)


def numpyro_nuts(
    energy: Callable[[Any, Any], Any], starts: Any, inputs: Any, warmup: int, draws: int
) -> Run:
    """NumPyro's functional NUTS on an energy of (parameters, pair), one chain a pair, vmapped."""
    from numpyro.infer.hmc import hmc

    def chain(z: Any, key: Any, pair: Any) -> Any:
        begin, move = hmc(lambda at: energy(at, pair), algo="NUTS")
        state = begin(
            z,
            num_warmup=warmup,
            rng_key=key,
            dense_mass=True,
            forward_mode_differentiation=True,
        )
        both = lambda at, _: (move(at),) * 2
        return jax.lax.scan(both, state, None, length=warmup + draws)[1].z

    keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(starts)[0]))
    run = jax.jit(jax.vmap(chain)).lower(starts, keys, inputs).compile()
    return lambda: run(starts, keys, inputs)


def dynamax_log_likelihood(problem: Problem) -> Run:
    return jitted(_over_batch(dynamax_likelihood(), problem), *_dynamax_arguments(problem))


def dynamax_gradient(problem: Problem) -> Run:
    """`jax.grad` of each series; the parameters are brought to the front, as in our gradient."""
    gradient = _over_batch(jax.grad(dynamax_likelihood()), problem)
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


def dynamax_likelihood() -> Callable[..., Any]:
    """Marginal log likelihood of one series: y (T, 1), design (T, 1, 2).

    The parameters are log q, one for both coefficients or one each, and log obs_var.

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
        q, obs_var = jnp.exp(params[:-1]), jnp.exp(params[-1])
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
