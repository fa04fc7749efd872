"""One online tick: predict, look, update, in NumPy, for 1 or many draws of the parameters.

A run starts afresh, does all ticks of the problem one after the other and returns the last mean
(2, draws) and covariance (2, 2, draws). The start is the distribution at the first row, so the
first tick predicts nothing.
"""

from typing import NamedTuple

import numpy as np

from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.motion import Walk
from kfmodels.kalman.noise import ConstantVariance
from kfmodels.kalman.step import State, step
from kfmodels.online.filter import OnlineFilter
from tests.benchmarks.problems import Problem
from tests.benchmarks.timing import Run


class Draws(NamedTuple):
    """Parameters scattered around those of the problem."""

    q: np.ndarray
    obs_var: np.ndarray


def draws(problem: Problem, count: int) -> Draws:
    scatter = np.random.default_rng(0).normal(scale=0.3, size=(2, count))
    return Draws(*np.exp(problem.params[:, None] + scatter))


def bare_step(problem: Problem, count: int) -> Run:
    """`kalman.step.step` and nothing else: no score, no reweighting, no report."""
    q, obs_var = draws(problem, count)
    batch = (count,) if count > 1 else ()
    q, obs_var = q.reshape(batch), obs_var.reshape(batch)
    column = (1,) * len(batch)
    cov = problem.cov.reshape(2, 2, *column) / obs_var
    start = State(np.broadcast_to(problem.mean.reshape(2, *column), (2, *batch)), cov)
    drift = Walk(np.eye(2).reshape(2, 2, *column) * q)
    rows = [
        (float(y), h.reshape(2, *column), float(t > 0))
        for t, (y, h) in enumerate(zip(problem.y, problem.design, strict=True))
    ]

    def run() -> tuple[np.ndarray, np.ndarray]:
        state = start
        for y, design, dt in rows:
            _, state, _ = step(state, design, y, drift, 1.0, dt)
        return state.mean.reshape(2, count), (state.cov * obs_var).reshape(2, 2, count)

    return run


def online_filter(problem: Problem, count: int) -> Run:
    """`OnlineFilter.update`: also scores, reweights the draws, and reports mean, sds, spread and z."""
    q, obs_var = draws(problem, count)
    inner = Coordinates(np.zeros(1), np.ones(1), 0.0, True)
    cov = problem.cov[..., None] / obs_var
    mean = np.repeat(problem.mean[:, None], count, axis=1)
    rows = [
        (float(y), [float(h[0])], float(t > 0))
        for t, (y, h) in enumerate(zip(problem.y, problem.design, strict=True))
    ]

    def run() -> tuple[np.ndarray, np.ndarray]:
        live = OnlineFilter(
            target="Y",
            hedges=["X"],
            transform="level",
            coordinates=inner,
            drift=Walk(np.eye(2)[..., None] * q),
            noise=ConstantVariance(obs_var),
            state=State(mean, cov),
            carried=None,
            log_weights=np.full(count, -np.log(count)),
        )
        for y, x, dt in rows:
            live.update(y=y, x=x, dt=dt)
        state = live.arguments()["state"]
        return state.mean, state.cov * obs_var

    return run


def filterpy_ticks(problem: Problem, count: int) -> Run:
    """One `KalmanFilter` per draw, H set at each tick."""
    from filterpy.kalman import KalmanFilter

    filters = []
    for q, obs_var in zip(*draws(problem, count), strict=True):
        model = KalmanFilter(dim_x=2, dim_z=1)
        model.F = np.eye(2)
        model.Q = np.eye(2) * q * obs_var
        model.R = np.array([[obs_var]])
        filters.append(model)
    rows = [(float(y), h[None]) for y, h in zip(problem.y, problem.design, strict=True)]

    def run() -> tuple[np.ndarray, np.ndarray]:
        for model in filters:
            model.x, model.P = problem.mean[:, None], problem.cov
        for t, (y, design) in enumerate(rows):
            for model in filters:
                if t:
                    model.predict()
                model.H = design
                model.update(y)
        mean = np.stack([model.x[:, 0] for model in filters], axis=-1)
        return mean, np.stack([model.P for model in filters], axis=-1)

    return run


def pykalman_ticks(problem: Problem, count: int) -> Run:
    """One `KalmanFilter` per draw, `filter_update` with the observation matrix of the tick."""
    from pykalman import KalmanFilter

    models = [
        KalmanFilter(
            transition_matrices=np.eye(2),
            transition_covariance=np.eye(2) * q * obs_var,
            observation_covariance=np.array([[obs_var]]),
            initial_state_mean=problem.mean,
            initial_state_covariance=problem.cov,
            n_dim_obs=1,
        )
        for q, obs_var in zip(*draws(problem, count), strict=True)
    ]
    rows = [(np.array([y]), h[None]) for y, h in zip(problem.y, problem.design, strict=True)]
    still = {"transition_covariance": np.zeros((2, 2))}

    def run() -> tuple[np.ndarray, np.ndarray]:
        states = [(problem.mean, problem.cov)] * count
        for t, (y, design) in enumerate(rows):
            options = {} if t else still
            states = [
                model.filter_update(*state, y, observation_matrix=design, **options)
                for model, state in zip(models, states, strict=True)
            ]
        means, covs = zip(*states, strict=True)
        return np.stack(means, axis=-1), np.stack(covs, axis=-1)

    return run


def simdkalman_ticks(problem: Problem, count: int) -> Run:
    """Its `primitives`, which take a new observation model at each tick and all draws at once."""
    from simdkalman import primitives

    q, obs_var = draws(problem, count)
    transition = np.eye(2)[None]
    noise = np.eye(2) * (q * obs_var)[:, None, None]
    observation_noise = obs_var[:, None, None]
    mean = np.repeat(problem.mean[None, :, None], count, axis=0)
    cov = np.repeat(problem.cov[None], count, axis=0)
    rows = [
        (np.full((1, 1, 1), y), h[None, None])
        for y, h in zip(problem.y, problem.design, strict=True)
    ]

    def run() -> tuple[np.ndarray, np.ndarray]:
        m, p = mean, cov
        for t, (y, design) in enumerate(rows):
            if t:
                m, p = primitives.predict(m, p, transition, noise)
            m, p = primitives.update(m, p, design, observation_noise, y)
        return m[..., 0].T, np.moveaxis(p, 0, -1)

    return run
