"""The arrays of what moves with the pairs: motions, noises and states are NamedTuples of them.

Their last axes are pair and draw. What all pairs share has an axis of one there. None stands for a
noise that carries nothing, and stays None.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def changed[T](change: Callable[[np.ndarray], np.ndarray], part: T) -> T:
    """The same with every array changed."""
    arrays: Any = part  # a law of anyone's, of which only this is known: it is a NamedTuple or None
    return part if arrays is None else type(arrays)(*map(change, arrays))


def own[T](part: T) -> T:
    """The same arrays in C order: with another layout a sum may round otherwise after a reload."""
    return changed(lambda leaf: np.ascontiguousarray(leaf, float), part)


def with_pair[T](part: T) -> T:
    """The arrays of one pair, with an axis of pairs before that of draws."""
    return changed(lambda leaf: np.asarray(leaf)[..., None, :], part)


def one_of[T](part: T, number: int) -> T:
    """The arrays of one pair, without the axis of pairs."""
    return changed(lambda leaf: leaf[..., number if leaf.shape[-2] > 1 else 0, :], part)


def cut[T](part: T, pairs: slice | int) -> T:
    """The arrays of some of the pairs, or of one without the axis; those that all pairs share stay."""

    def of_pairs(leaf: np.ndarray) -> np.ndarray:
        if leaf.shape[-2] > 1:
            return np.ascontiguousarray(leaf[..., pairs, :])
        return leaf[..., 0, :] if isinstance(pairs, int) else leaf

    return changed(of_pairs, part)


def join[T](parts: Sequence[T], *, alone: bool) -> T:
    """The arrays of all blocks, with an axis of pairs; what all pairs share stands once."""
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
