"""The step of `kalman.step` for the noise draws of one pair, in a dozen NumPy calls.

A call costs as much as the arithmetic of some hundred draws, so the calls are what a tick pays for.
All draws of a pair share its design: means and covariances stand in one table, and one matrix product
reads off it everything that the step asks of the design. The numbers are those of `step`, to rounding,
and the covariance stays symmetric to the last bit.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kfmodels.kalman.step import State

_sum = np.add.reduce


def table_of(state: State) -> np.ndarray:
    """Means, then covariances row by row: `(n + n * n, draw)`."""
    n, draws = state.mean.shape
    return np.concatenate([state.mean, state.cov.reshape(n * n, draws)])


def state_of(table: np.ndarray, n: int) -> State:
    """The same numbers as a state; shares the memory of the table."""
    return State(table[:n], table[n:].reshape(n, n, -1))


class Tables:
    """How tables of n coefficients are read and learn."""

    def __init__(self, n: int) -> None:
        places = np.zeros((n + 2, n + n * n), int)  # of 0, the design, and its products
        ahead, products = np.arange(1, n + 1), np.arange(n + 1, n + 1 + n * n)
        places[0, :n] = ahead
        for row in range(n):
            places[1 + row, n + row * n : n + (row + 1) * n] = ahead
        places[-1, n:] = products
        self._places = places
        each = range(1, n + 1)  # of the rows that `learn` takes, which two make a row of the table
        self._left = np.array([0] * n + [i for i in each for _ in each])
        self._right = np.array([*each] * (n + 1))

    def read(self, table: np.ndarray, design: list[float]) -> np.ndarray:
        """`h'm`, then the n rows of `P h`, then `h'P h`: `(n + 2, draw)`; `design (n,)`."""
        products = [a * b for a in design for b in design]
        return np.array([0.0, *design, *products]).take(self._places).dot(table)

    def learn(self, table: np.ndarray, rows: np.ndarray, root: np.ndarray) -> None:
        """Update a predicted table, in place, by an innovation of relative variance `1 / root**2`.

        `rows (n + 1, draw)` are the innovation with its sign turned, `h'm - y`, and P h; they are used
        up.
        """
        rows *= root
        change = rows.take(self._left, 0)
        change *= rows.take(self._right, 0)
        table -= change


def owned(part: Any) -> Any:
    """The same arrays in C order: with another layout a sum may round otherwise after a reload."""
    return type(part)(*(np.ascontiguousarray(leaf, float) for leaf in part))


def inflation(dof: np.ndarray) -> np.ndarray:
    """Variance of a Student-t over its squared scale: what is not known of the variance itself."""
    return np.where(dof > 2, dof / np.maximum(dof - 2, 1e-300), np.inf)


def weighed(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Logs of weights and the weights, made to sum to one; and the log of their sum before.

    The weights are those of the logs, to the last bit: the logs are what is stored.
    """
    top, total = 0.0, float(_sum(np.exp(log_weights)))
    if not 1e-200 < total < 1e200:  # out of the range of exponentials
        top = float(log_weights.max())
        total = float(_sum(np.exp(log_weights - top)))
    whole = top + math.log(total)
    log_weights = log_weights - whole
    return log_weights, np.exp(log_weights), whole


class OfDof(NamedTuple):
    """What of a Student-t depends on its degrees of freedom alone.

    `constant` of the log density of a squared scale of one, `power` of the tails, `inflation` of the
    squared scale to the variance.
    """

    constant: np.ndarray
    power: np.ndarray
    inflation: np.ndarray

    @classmethod
    def of(cls, dof: np.ndarray) -> "OfDof":
        power = 0.5 * (dof + 1)
        ratio = [math.lgamma(a + 0.5) - math.lgamma(a) for a in (0.5 * dof).tolist()]
        return cls(np.array(ratio) - 0.5 * np.log(math.pi * dof), power, inflation(dof))


class Remembered:
    """A function of an array that remembers its last two answers.

    Degrees of freedom settle after a few memories, so that most ticks ask the same two questions.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._known: list[tuple[Any, Any]] = []

    def __call__(self, array: np.ndarray, *rest: Any) -> Any:
        question = (array.tobytes(), *rest)
        for asked, answer in self._known:
            if asked == question:
                return answer
        answer = self._function(array, *rest)
        self._known = [*self._known[-1:], (question, answer)]
        return answer
