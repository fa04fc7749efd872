"""The hedge in given legs against a solver of others, and against the normal equations."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import LinearConstraint, minimize

from kfmodels.universe.convex import Objective, minimise


def posed(seed: int) -> tuple[Objective, np.ndarray, np.ndarray]:
    """A small problem with any mixture of costs, legs held, bounds and a bounded gross."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    factors = rng.normal(size=(n, int(rng.integers(1, n + 3))))
    curve = factors @ factors.T + rng.choice([0.01, 0.5]) * np.eye(n)
    cost = np.abs(rng.normal(size=n)) * rng.choice([0.0, 0.1, 1.0])
    held = rng.normal(size=n) * rng.choice([0.0, 1.0])
    low = rng.choice([-np.inf, 0.0, -0.3, -1.0], size=n)
    high = rng.choice([0.2, 0.7, np.inf], size=n)
    gross = float(rng.choice([math.inf, 0.0, 0.4, 1.5]))
    return Objective(3.0, 2 * rng.normal(size=n), curve, cost, held, gross), low, high


def least_of_scipy(objective: Objective, low: np.ndarray, high: np.ndarray) -> float:
    """The same by SLSQP, smooth: x = long - short and x - held = bought - sold, all four 0 or more."""
    n = len(low)
    one = np.eye(n)
    held = objective.held

    def value(z: np.ndarray) -> float:
        long, short, bought, sold = z.reshape(4, n)
        x = long - short
        return objective.slope @ x + x @ objective.curve @ x / 2 + objective.cost @ (bought + sold)

    def gradient(z: np.ndarray) -> np.ndarray:
        long, short, _, _ = z.reshape(4, n)
        pull = objective.slope + objective.curve @ (long - short)
        return np.concatenate([pull, -pull, objective.cost, objective.cost])

    traded = LinearConstraint(np.hstack([one, -one, -one, one]), held, held)  # pyright: ignore[reportArgumentType]
    gross = LinearConstraint(np.repeat([1.0, 0.0], 2 * n), -np.inf, objective.gross)
    bounds = [(0, max(to, 0.0)) for to in high] + [(0, -to) for to in low]
    found = minimize(
        value,
        np.concatenate([np.zeros(2 * n), np.maximum(-held, 0), np.maximum(held, 0)]),
        jac=gradient,
        bounds=bounds + [(0, np.inf)] * (2 * n),
        constraints=[traded, gross] if math.isfinite(objective.gross) else [traded],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-13},
    )
    return objective.level + found.fun


@pytest.mark.parametrize("seed", range(40))
def test_no_solver_finds_less_inside_the_bounds(seed):
    objective, low, high = posed(seed)
    found = minimise(objective, low, high)
    assert found is not None
    value, x = found
    assert (low - 1e-12 <= x).all()
    assert (x <= high + 1e-12).all()
    assert np.abs(x).sum() <= objective.gross + 1e-9
    risk = 3.0 + objective.slope @ x + x @ objective.curve @ x / 2
    assert_allclose(value, risk + sum(objective.cost * np.abs(x - objective.held)), rtol=1e-12)
    # SLSQP ends about 1e-7 above the minimum; this one must not be above SLSQP
    assert value <= least_of_scipy(objective, low, high) + 1e-9 * (1 + abs(value))


@pytest.mark.parametrize("seed", range(10))
def test_where_the_walk_starts_changes_nothing(seed):
    objective, low, high = posed(seed)
    plain = minimise(objective, low, high)
    other = minimise(objective, low, high, np.random.default_rng(seed).normal(size=len(low)))
    assert plain is not None
    assert other is not None
    assert_allclose(other[0], plain[0], rtol=1e-9)
    assert_allclose(other[1], plain[1], atol=1e-7)


def test_without_costs_and_bounds_it_solves_the_normal_equations():
    rng = np.random.default_rng(1)
    factors = rng.normal(size=(6, 9))
    curve, slope = factors @ factors.T, rng.normal(size=6)
    found = minimise(
        Objective(0.0, slope, curve, np.zeros(6), np.zeros(6)),
        np.full(6, -np.inf),
        np.full(6, np.inf),
    )
    assert found is not None
    assert_allclose(found[1], -np.linalg.solve(curve, slope), rtol=1e-9)


def test_bounds_that_need_more_than_the_gross_have_no_answer():
    two = Objective(0.0, np.zeros(2), np.eye(2), np.zeros(2), np.zeros(2), gross=1.0)
    assert minimise(two, np.array([0.6, 0.6]), np.array([2.0, 2.0])) is None
    corner = minimise(two, np.array([0.5, 0.5]), np.array([2.0, 2.0]))
    assert corner is not None
    assert_allclose(corner[1], [0.5, 0.5])
