"""Pairs in blocks of one shape, so that one compiled program takes them all.

The last block is filled up with the first row of its first pair.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kfmodels.data.arrays import Inputs


def finish(pending: list[tuple[int, Any]]) -> Any:
    """Wait for blocks and join their pairs, on the host."""
    parts = [
        jax.tree.map(lambda leaf, count=count: leaf[:count], jax.device_get(part))
        for count, part in pending
    ]
    return jax.tree.map(lambda *leaf: np.concatenate(leaf), *parts)


def start(run: Callable, given: tuple, size: int) -> list[tuple[int, Any]]:
    """Start a compiled function on block after block of pairs; `finish` waits for it."""
    count = len(jax.tree.leaves(given)[0])
    pending = []
    for first in range(0, count, size):
        here = np.arange(first, min(first + size, count))
        places = np.concatenate([here, np.full(size - len(here), here[0])])
        block = [
            _fill_up(jax.tree.map(lambda leaf, places=places: leaf[places], one), len(here))
            for one in given
        ]
        pending.append((len(here), run(*block)))
    return pending


def _fill_up(given: Any, count: int) -> Any:
    """The same, but of the pairs after so many nothing counts except the first row."""
    if not isinstance(given, Inputs) or given.count is None:
        return given
    own = np.arange(len(given.count)) < count
    return given._replace(count=np.where(own, given.count, 1))
