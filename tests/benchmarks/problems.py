"""What is computed: one regression with two moving coefficients, or 500 of them.

Series are standardised as the library does it: the hedge is centred and scaled, and the target is
in units of its daily move. The observation variance is then of order 1, which dynamax needs: it
adds 1e-9 to every innovation variance before it solves.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from kfmodels import datasets


class Problem(NamedTuple):
    """Series, start and parameters; coefficients are [beta, alpha], batch axes come last."""

    y: np.ndarray
    """(T, *b)"""

    design: np.ndarray
    """(T, 2, *b)"""

    mean: np.ndarray
    """(2, *b): of the coefficients just before the first row."""

    cov: np.ndarray
    """(2, 2, *b): in units of y, not relative to the observation variance."""

    params: np.ndarray
    """(2, *b): log q, the same for both coefficients, and log obs_var."""


def single(rows: int) -> Problem:
    """AAPL on SPX, log prices, the last `rows` days; a simulated pair where they do not suffice."""
    prices = datasets.stocks()[["AAPL", "SPX"]]
    if rows > len(prices):
        prices = datasets.simulate(rows).prices
    log_prices = np.log(prices.to_numpy()[-rows:])
    return _problem(log_prices[:, 0], log_prices[:, 1])


def constant_design(rows: int) -> Problem:
    """`single`, seen through a design that does not move."""
    problem = single(rows)
    design = np.broadcast_to([0.5, 1.0], problem.design.shape)
    return problem._replace(design=np.ascontiguousarray(design))


def batch(pairs: int, rows: int) -> Problem:
    """Ordered pairs of eleven US stocks and ETFs, log prices, in windows that start 250 days apart."""
    prices: pd.DataFrame = datasets.prices()
    columns = np.log(prices.to_numpy())
    names = range(columns.shape[1])
    chosen = [
        (first, target, hedge)
        for first in range(0, len(columns) - rows + 1, 250)
        for target in names
        for hedge in names
        if target != hedge
    ][:pairs]
    if len(chosen) < pairs:
        raise ValueError(f"{len(chosen)} windows of {rows} days are there, {pairs} were asked for")
    y, x = (
        np.stack([columns[at[0] : at[0] + rows, at[which]] for at in chosen], axis=-1)
        for which in (1, 2)
    )
    return _problem(y, x)


def _problem(y: np.ndarray, x: np.ndarray) -> Problem:
    members = y.shape[1:]
    x = x - x.mean(0)
    x = x / np.sqrt((x * x).mean(0))
    y = (y - y[0]) / np.diff(y, axis=0).std(0)
    spread = np.linspace(-0.5, 0.5, y[0].size).reshape(members) if members else 0.0
    return Problem(
        y=y,
        design=np.stack([x, np.ones_like(x)], axis=1),
        mean=np.zeros((2, *members)),
        cov=np.broadcast_to(np.eye(2).reshape(2, 2, *(1 for _ in members)) * 100.0, (2, 2, *members)),
        params=np.stack([np.full(members, -2.0) + spread, np.full(members, -0.7) - spread]),
    )
