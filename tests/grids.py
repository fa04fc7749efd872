"""A posterior on a fine grid, and whether draws are of it."""

from collections.abc import Callable

import jax
import numpy as np
from arviz_stats.base import array_stats

ENOUGH = 400
"""Effective draws below which a Monte-Carlo standard error is itself too uncertain."""


class Grid:
    """A posterior density on a rectangular grid over unconstrained parameters `u`."""

    def __init__(self, density: Callable, axes: list[np.ndarray], shear: Callable = np.asarray):
        mesh = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
        self.u = shear(mesh)
        blocks = -(-len(self.u) // 4096)
        padded = np.resize(self.u, (blocks, 4096, self.u.shape[1]))
        with jax.enable_x64(True):
            log_p = np.asarray(jax.jit(lambda u: jax.lax.map(density, u))(padded))
        log_p = log_p.ravel()[: len(self.u)]
        weights = np.exp(log_p - log_p.max())
        self.weights = weights / weights.sum()
        shape = [len(axis) for axis in axes]
        on_coarse = np.zeros(shape, bool)
        on_coarse[(slice(None, None, 2),) * len(axes)] = True
        self.on_coarse = on_coarse.ravel()
        cube = self.weights.reshape(shape)
        sides = [np.take(cube, end, i).sum() for i in range(len(axes)) for end in (0, -1)]
        self.mass_at_the_edges = float(max(sides))

    def expect(self, g: Callable) -> float:
        return float(self.weights @ g(self.u))

    def expect_on_every_other_point(self, g: Callable) -> float:
        """The answer of a grid of twice the spacing."""
        weights = self.weights * self.on_coarse
        return float(weights @ g(self.u) / weights.sum())


def effective_draws(draws: np.ndarray) -> float:
    """Of one quantity, `(chain, draw)`."""
    return float(array_stats.ess(draws, chain_axis=0, draw_axis=1))


def assert_is_the_posterior(draws: list[np.ndarray], grid: Grid) -> None:
    """First and second moments of all parameters, within four Monte-Carlo standard errors."""
    assert grid.mass_at_the_edges < 1e-6
    each = range(len(draws))
    centre = [grid.expect(lambda u, i=i: u[:, i]) for i in each]
    sd = np.sqrt([grid.expect(lambda u, i=i: (u[:, i] - centre[i]) ** 2) for i in each])
    drawn = (np.stack(draws, -1) - centre) / sd
    questions = [lambda v, i=i: v[..., i] for i in each]
    questions += [lambda v, i=i, j=j: v[..., i] * v[..., j] for i in each for j in range(i + 1)]
    for question in questions:
        on_grid = lambda u, question=question: question((u - centre) / sd)
        exact = grid.expect(on_grid)
        answers = question(drawn)
        effective = effective_draws(answers)
        assert effective > ENOUGH
        error = answers.std() / np.sqrt(effective)
        assert abs(answers.mean() - exact) < 4 * error
        # the spacing does not matter
        assert abs(grid.expect_on_every_other_point(on_grid) - exact) < 0.1 * error
