"""A small universe with factors, heavy tails and a market that calms down and wakes up."""

import numpy as np
import pytest

from kfmodels.basket.basket import Basket

TICKERS = ("A", "B", "C", "D", "E", "F")
ROWS = 300


def draw_moves(seed: int, rows: int = ROWS, assets: int = len(TICKERS)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    loadings = rng.normal(0.7, 0.3, (2, assets))
    size = 0.01 * np.exp(0.5 * np.sin(np.arange(rows) / 40))[:, None]
    common = rng.standard_t(6, (rows, 2)) @ loadings
    return size * (common + 0.5 * rng.standard_t(5, (rows, assets)))


def prices_of(moves: np.ndarray) -> np.ndarray:
    """From 100 on, with one row more than there are moves."""
    return 100 * np.exp(np.vstack([np.zeros(moves.shape[1]), np.cumsum(moves, 0)]))


def feed(basket: Basket, prices: np.ndarray, first: int = 0) -> list:
    """The ticks of rows of prices, at the times 1, 2, ... (from `first + 1` on)."""
    return [
        basket.update(dict(zip(basket.tickers, row.tolist(), strict=True)), at=first + number)
        for number, row in enumerate(prices, start=1)
    ]


@pytest.fixture(scope="session")
def moves() -> np.ndarray:
    return draw_moves(1)


@pytest.fixture(scope="session")
def prices(moves: np.ndarray) -> np.ndarray:
    return prices_of(moves)
