"""Operations on the arrays of a motion, a noise or a state, each of which is a NamedTuple of arrays.

Their last axes are pair and draw; what all pairs share has an axis of length one there. A noise that
carries nothing is None, and None is returned for it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


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
