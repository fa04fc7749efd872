"""What is computed: one regression with two moving coefficients, or 500 of them.

Series are standardised as the library does it: the hedge is centred and scaled, and the target is
in units of its daily move. The observation variance is then of order 1, which dynamax needs: it
adds 1e-9 to every innovation variance before it solves.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from kfmodels.data import datasets


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


def batch(pairs: int, rows: int) -> Problem:
    """Ordered pairs of eleven US stocks, ETFs and the index, log prices, windows 250 days apart."""
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
    batch = y.shape[1:]
    x = x - x.mean(0)
    x = x / np.sqrt((x * x).mean(0))
    y = (y - y[0]) / np.diff(y, axis=0).std(0)
    scatter = np.linspace(-0.5, 0.5, batch[0]) if batch else 0.0
    wide = np.diag([100.0, 100.0]).reshape(2, 2, *(1 for _ in batch))
    return Problem(
        y=y,
        design=np.stack([x, np.ones_like(x)], axis=1),
        mean=np.zeros((2, *batch)),
        cov=np.ascontiguousarray(np.broadcast_to(wide, (2, 2, *batch))),
        params=np.stack([scatter - 2.0, -scatter - 0.7]),
    )
