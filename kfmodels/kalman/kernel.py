"""The log likelihood of many lanes on a CUDA device, as one kernel that never leaves its registers.

A scan launches kernels of its own for every few rows and keeps the state in memory between them. Here
one program takes a block of lanes, say draws, of one member of the first batch axis, say a pair, from
the first row to the last: it reads the row that all its lanes share, number by number, and holds mean,
covariance and what the noise carries. Every row is `scan.advance`, as everywhere.

Values only: what differentiates them runs the scan, see `likelihood`.
"""

from functools import partial
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kfmodels._types import Float
from kfmodels._types import JaxArray as Array
from kfmodels.kalman.motion import Discount, Motion, Reversion, Walk
from kfmodels.kalman.noise import Carried, ConstantVariance, DiscountedVariance, Noise, scale_of
from kfmodels.kalman.scan import Series, advance, log_density
from kfmodels.kalman.step import State

LANES = 32
"""Lanes of a program: one for each thread of a single warp, so that few are idle in the last block."""

TAKEN = (Walk, Discount, Reversion), (ConstantVariance, DiscountedVariance)
"""Laws and noises whose arithmetic is known to lower; one of a user need not."""

MOST_COEFFICIENTS = 8
"""With so many the 255 registers that a thread may have are all in use."""

MOST_NUMBERS = 2**31
"""Of all rows: the kernel finds its place among them in 32 bits."""

TRITON = "jax.experimental.pallas.triton"


class _Block(np.ndarray):
    """An array of coefficients whose elements are blocks of lanes, so that the recursion is unrolled.

    Triton knows arrays of 2^k numbers only, and neither indices nor concatenation.
    """

    # those of NumPy would ask every element whether it is true
    def __lt__(self, other: Any) -> Any:
        return np.less(self, other, dtype=object)

    def __gt__(self, other: Any) -> Any:
        return np.greater(self, other, dtype=object)


def takes(rows: Series, start: State, drift: Motion, noise: Noise) -> bool:
    """Whether the kernel does these: lanes `(member, lane)` over rows `(time, member, 1)`."""
    laws, noises = TAKEN
    known = type(drift) in laws and type(noise) in noises
    shared = all(leaf.shape[-1] == 1 for leaf in jax.tree.leaves(rows))
    few = len(start.mean) <= MOST_COEFFICIENTS
    counted = rows.y.size * (len(start.mean) + len(Series._fields)) < MOST_NUMBERS
    # JAX means to part with this compiler one day; without it the scan runs
    there = find_spec(TRITON) is not None
    return known and rows.y.ndim == 3 and shared and few and counted and there


def log_likelihood(
    rows: Series, start: State, drift: Motion, noise: Noise, *, interpret: bool = False
) -> Float[Array, "member lane"]:
    """What `likelihood.log_likelihood` computes, of what this module `takes`.

    `interpret` runs the kernel without a device, which is slow.
    """
    # only a process that has a device needs these, and they take a while to load
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    laws = start, drift, noise
    dtype = jnp.result_type(*jax.tree.leaves((rows, laws)))
    shapes = [leaf.shape[-2:] for leaf in jax.tree.leaves((rows, laws))]
    members, lanes = np.broadcast_shapes(*shapes)
    wide = -(-lanes // LANES) * LANES

    def pack(leaf: Array, axes: int, shape: tuple[int, ...]) -> Array:
        """The numbers of a leaf, its coefficients in one axis before those of the batch."""
        leaf = jnp.broadcast_to(leaf, (*leaf.shape[:-2], *shape)).astype(dtype)
        return leaf.reshape(*leaf.shape[:axes], -1, *shape)

    read = [pack(leaf, 1, (members, 1)) for leaf in jax.tree.leaves(rows)]
    read = jnp.moveaxis(jnp.concatenate(read, 1)[..., 0], -1, 0)
    # lanes that fill the last block up repeat one that is there: no number overflows that would not
    given = jnp.concatenate([pack(leaf, 0, (members, lanes)) for leaf in jax.tree.leaves(laws)])
    given = jnp.pad(given, ((0, 0), (0, 0), (0, wide - lanes)), "edge")

    run = pl.pallas_call(
        partial(_pass_over, rows=_outline(rows, 1), laws=_outline(laws, 0)),
        out_shape=jax.ShapeDtypeStruct((members, wide), dtype),
        grid=(members, wide // LANES),
        in_specs=[
            pl.BlockSpec((None, *read.shape[1:]), lambda member, block: (member, 0, 0)),
            pl.BlockSpec((len(given), None, LANES), lambda member, block: (0, member, block)),
        ],
        out_specs=pl.BlockSpec((None, LANES), lambda member, block: (member, block)),
        compiler_params=triton.CompilerParams(num_warps=LANES // 32, num_stages=1),
        interpret=interpret,
    )
    return run(read, given)[:, :lanes]


def _pass_over(read: Any, given: Any, found: Any, *, rows: Any, laws: Any) -> None:
    """The kernel: `read (time, number)` and `given (number, lane)` give `found (lane)`."""
    start, drift, noise = _fill(laws, [given[number, :] for number in range(given.shape[0])])
    n = len(start.mean)
    below = np.tril_indices(n)
    entry = np.zeros((n, n), int)
    entry[below] = entry.T[below] = np.arange(len(below[0]))

    def hold(state: State, carried: Carried) -> tuple[Any, Any, Carried]:
        # of the half above the diagonal nothing is held, so nothing of it is computed either
        return state.mean, state.cov[below], carried

    form = hold(start, noise.start())

    def advance_one(time: Any, held: tuple[list[Any], Any], dt: int = 1) -> tuple[list[Any], Any]:
        (mean, entries, carried), total = _fill(form, held[0]), held[1]
        row = _fill(rows, [read[time, number] for number in range(read.shape[1])])
        if row.dt is None:
            row = row._replace(dt=dt)
        state = State(mean, entries[entry])
        _, state, seen, met, carried = advance(state, carried, row, drift, noise)
        (error,), (var,), dof = seen.error, scale_of(noise, met, seen), noise.dof(met)
        density = log_density(error, var, None if dof is None else dof[0])
        total = total + jnp.where(row.observed[0] > 0, density, 0)
        return _numbers(hold(state, carried)), total

    held, first = (_numbers(form), jnp.zeros(found.shape, found.dtype)), 0
    if rows.dt is None:  # the first row alone has no time before it
        held, first = advance_one(0, held, 0), 1
    _, found[:] = lax.fori_loop(np.int32(first), np.int32(read.shape[0]), advance_one, held)


def _outline(tree: Any, axes: int) -> Any:
    """Each array without its first `axes` and without those of the batch, empty."""
    return jax.tree.map(lambda leaf: np.empty((*leaf.shape[axes:-2], 1), object), tree)


def _numbers(tree: Any) -> list[Any]:
    return [number for leaf in jax.tree.leaves(tree) for number in leaf.flat]


def _fill(outline: Any, numbers: list[Any]) -> Any:
    """The tree of that outline with these numbers, the inverse of `_numbers`."""
    left = iter(numbers)

    def one(leaf: np.ndarray) -> _Block:
        filled = np.empty(leaf.size, object)
        for place in range(leaf.size):
            filled[place] = next(left)  # one by one, or NumPy would ask a block for its elements
        return filled.reshape(leaf.shape).view(_Block)

    return jax.tree.map(one, outline)
