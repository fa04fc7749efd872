"""kfmodels on whole series: log likelihood, its gradient, filtered coefficients."""

from typing import Any

import jax
import jax.numpy as jnp

from kfmodels.kalman import likelihood, scan
from kfmodels.kalman.motion import Walk
from kfmodels.kalman.noise import ConstantVariance
from kfmodels.kalman.step import State
from tests.benchmarks.problems import Problem
from tests.benchmarks.timing import Run, jitted


def log_likelihood(problem: Problem) -> Run:
    return jitted(_log_likelihood, *_arguments(problem))


def gradient_forward(problem: Problem) -> Run:
    return jitted(_forward, *_arguments(problem))


def gradient_reverse(problem: Problem) -> Run:
    return jitted(jax.grad(lambda *args: _log_likelihood(*args).sum()), *_arguments(problem))


def filtered(problem: Problem) -> Run:
    return jitted(_filtered, *_arguments(problem))


def _arguments(problem: Problem) -> tuple[Any, ...]:
    """Everything as arguments, parameters first, so that nothing is computed at compile time."""
    rows = scan.series(problem.y, problem.design)
    return problem.params, rows, problem.mean, problem.cov


def _model(params: Any, mean: Any, cov: Any) -> tuple[State, Walk, ConstantVariance]:
    q, obs_var = jnp.exp(params)
    eye = jnp.eye(2).reshape(2, 2, *(1 for _ in q.shape))
    return State(mean, cov / obs_var), Walk(eye * q), ConstantVariance(obs_var)


def _log_likelihood(params: Any, rows: scan.Series, mean: Any, cov: Any) -> Any:
    return likelihood.log_likelihood(rows, *_model(params, mean, cov))


def _forward(params: Any, *rest: Any) -> Any:
    """One direction per parameter, shape (2, *b): `jax.jacfwd` where there is no batch."""

    def push(direction: Any) -> Any:
        return jax.jvp(lambda p: _log_likelihood(p, *rest), (params,), (direction,))[1]

    eye = jnp.eye(2).reshape(2, 2, *(1 for _ in params.shape[1:]))
    return jax.vmap(push)(jnp.broadcast_to(eye, (2, *params.shape)))


def _filtered(params: Any, rows: scan.Series, mean: Any, cov: Any) -> tuple[Any, Any]:
    start, drift, noise = _model(params, mean, cov)
    state = scan.filter(rows, start, drift, noise).filtered
    return state.mean, state.cov * noise.var
