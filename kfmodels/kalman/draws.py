"""The step of `kalman.step` for the noise draws of one pair, in a dozen NumPy calls.

A call costs as much as the arithmetic of some hundred draws, so the calls are what a tick pays for.
All draws of a pair share its design: means and covariances stand in one table, and one matrix product
reads off it everything that the step asks of the design. The numbers are those of `step`, to rounding,
and the covariance stays symmetric to the last bit.
"""

import math
from typing import Any

import numpy as np

from kfmodels.kalman.step import Scale, State


def table_of(state: State) -> np.ndarray:
    """Means, then covariances row by row: `(n + n * n, draw)`."""
    n, draws = state.mean.shape
    return np.concatenate([state.mean, state.cov.reshape(n * n, draws)])


def state_of(table: np.ndarray, n: int) -> State:
    """The same numbers as a state; shares the memory of the table."""
    return State(table[:n], table[n:].reshape(n, n, -1))


class Reader:
    """Reads off a table what a design sees of it.

    Args:
        n: number of coefficients.
    """

    def __init__(self, n: int) -> None:
        places = np.zeros((n + 2, n + n * n), int)  # of 0, the design, and its products
        ahead, products = np.arange(1, n + 1), np.arange(n + 1, n + 1 + n * n)
        places[0, :n] = ahead
        for row in range(n):
            places[1 + row, n + row * n : n + (row + 1) * n] = ahead
        places[-1, n:] = products
        self._places = places

    def __call__(self, table: np.ndarray, design: list[float]) -> np.ndarray:
        """`h'm`, then the n rows of `P h`, then `h'P h`: `(n + 2, draw)`; `design (n,)`."""
        products = [a * b for a in design for b in design]
        return np.array([0.0, *design, *products]).take(self._places).dot(table)


def learn(table: np.ndarray, rows: np.ndarray, root: np.ndarray) -> None:
    """Update a predicted table, in place, by an innovation of relative variance `1 / root**2`.

    `rows (n + 1, draw)` are the innovation with its sign turned, `h'm - y`, and P h; they are used up.
    """
    rows *= root
    table -= (rows[:, None] * rows[1:]).reshape(table.shape)


def owned(part: Any) -> Any:
    """The same arrays in C order: with another layout a sum may round otherwise after a reload."""
    return type(part)(*(np.ascontiguousarray(leaf, float) for leaf in part))


def tail(scale: Scale) -> np.ndarray:
    """Variance of a Student-t over its squared scale: what is not known of the variance itself."""
    return np.where(scale.dof > 2, scale.dof / np.maximum(scale.dof - 2, 1e-300), np.inf)


def weighed(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Logs of weights and the weights, made to sum to one; and the log of their sum before.

    The weights are those of the logs, to the last bit: the logs are what is stored.
    """
    top = float(log_weights.max())
    whole = top + math.log(np.exp(log_weights - top).sum())
    log_weights = log_weights - whole
    return log_weights, np.exp(log_weights), whole


class LogGamma:
    """log gamma of an array; NumPy has none, and its last two answers are remembered.

    Degrees of freedom settle after a few memories, so that most ticks ask the same two questions.
    """

    def __init__(self) -> None:
        self._known: list[tuple[bytes, np.ndarray]] = []

    def __call__(self, a: np.ndarray) -> np.ndarray:
        question = a.tobytes()
        for asked, answer in self._known:
            if asked == question:
                return answer
        answer = np.array([math.lgamma(v) for v in a.tolist()])
        self._known = [*self._known[-1:], (question, answer)]
        return answer
