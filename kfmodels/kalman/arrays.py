"""Operations on the arrays of a motion, a noise or a state, each of which is a NamedTuple of arrays.

Their last axes are pair and draw; what all pairs share has an axis of length one there. A noise that
carries nothing is None, and None is returned for it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kfmodels.kalman.motion import Discount, Motion, Reversion, Walk


def even_steps(count: int, total: int) -> np.ndarray:
    """Places of `count` of a `total`, at even steps, each in the middle of what it stands for.

    Example:
        >>> even_steps(3, 9).tolist()
        [1, 4, 7]
    """
    return ((np.arange(count) + 0.5) * total / max(count, 1)).astype(int)


def map_arrays[T](change: Callable[[np.ndarray], np.ndarray], part: T) -> T:
    """The same NamedTuple with `change` applied to each of its arrays."""
    # a user's own law is known to be a NamedTuple or None, and no type says that it can be rebuilt
    arrays: Any = part
    return part if arrays is None else type(arrays)(*map(change, arrays))


def make_contiguous[T](part: T) -> T:
    """The same arrays in C order."""
    # a file has no other layout, and a sum over another may round differently after a reload
    return map_arrays(lambda leaf: np.ascontiguousarray(leaf, float), part)


def add_pair_axis[T](part: T) -> T:
    """The arrays of one pair, with an axis of pairs added before that of draws."""
    return map_arrays(lambda leaf: np.asarray(leaf)[..., None, :], part)


def cut[T](part: T, pairs: slice | int) -> T:
    """The arrays of a slice of the pairs, or of one without the axis; shared ones stay as they are."""

    def of_pairs(leaf: np.ndarray) -> np.ndarray:
        if leaf.shape[-2] > 1:
            return np.ascontiguousarray(leaf[..., pairs, :])
        return leaf[..., 0, :] if isinstance(pairs, int) else leaf

    return map_arrays(of_pairs, part)


def join[T](parts: Sequence[T], *, alone: bool) -> T:
    """The arrays of all blocks joined along the pairs; those that all pairs share are kept once."""
    each: Any = parts
    if each[0] is None:
        return parts[0]
    return type(each[0])(*(join_arrays(leaves, alone=alone) for leaves in zip(*each, strict=True)))


def join_arrays(leaves: Sequence[np.ndarray], *, alone: bool) -> np.ndarray:
    """One array of all blocks; `alone` says that there is one pair, without an axis."""
    if alone:
        return leaves[0][..., None, :].copy()
    if len(leaves) > 1 and all(leaf.shape[-2] == 1 for leaf in leaves):
        return leaves[0].copy()
    return np.concatenate(leaves, -2)


ENDLESS = 9e8
"""Bars from which on a ratio stands still.

In averages it counts as 1e9, because a draw without weight would make NaN of infinity.
"""


def log_memory(law: Motion, hedges: int, parts: Sequence[int] = ()) -> np.ndarray:
    r"""Log of the memory of each hedge ratio in bars, `(hedge, *b)`.

    Of a walk with the signal-to-noise ratio q that of a local level, `1 + 2 / (q + sqrt(q^2 + 4 q))`;
    of a discount f it is `1 / (1 - f)`. NaN of another law, and of a ratio that moves by its `parts`
    alone.
    """
    if isinstance(law, Discount):
        moving = np.stack([law.moving[hedge, hedge] for hedge in range(hedges)])
        with np.errstate(divide="ignore"):
            found = np.where(moving > 0, -np.log1p(-law.factor), np.inf)
    elif isinstance(law, (Walk, Reversion)):
        q = np.stack([law.noise[hedge, hedge] for hedge in range(hedges)])
        with np.errstate(divide="ignore"):
            found = np.log1p(2 / (q + np.sqrt(q * q + 4 * q)))
        still = [hedge in parts and not q[hedge].any() for hedge in range(hedges)]
        found[still] = np.nan
    else:
        return np.full((hedges, 1, 1), np.nan)
    return np.minimum(found, np.log(1e9))


def memory_of(mean_log: np.ndarray) -> np.ndarray:
    """Bars from averages of `log_memory`; infinite of a ratio that stands still."""
    found = np.exp(mean_log)
    found[found > ENDLESS] = np.inf
    return found
