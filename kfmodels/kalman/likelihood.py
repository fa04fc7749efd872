"""Log likelihood of a whole series, and where it ends: `lax.scan` over `kalman.step`, storing no row.

Where the batch has several axes, say pairs and draws, a CPU runs one member of the first after the
other: the state of a few hundred lanes then stays in its first cache over the whole series, and a pair
has the same log likelihood, to the last bit, whatever its neighbours. A CUDA device runs the kernel of
`kalman.kernel` where that takes the law and the noise.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from kfmodels._types import Float
from kfmodels._types import JaxArray as Array
from kfmodels.kalman import kernel
from kfmodels.kalman.density import student_variance
from kfmodels.kalman.motion import Motion
from kfmodels.kalman.noise import Carried, Noise, scale_of, state_dof
from kfmodels.kalman.scan import Series, advance, begin, log_density, timed
from kfmodels.kalman.step import State

UNROLLED = 16
"""Rows to a turn of the loop on a GPU, which launches kernels turn by turn."""


def log_likelihood(
    rows: Series, start: State, drift: Motion, noise: Noise
) -> Float[Array, "*batch"]:
    """Log density of all observed rows with the coefficients integrated out, shape (*b)."""
    if rows.y.ndim < 3:
        return by_scan(rows, start, drift, noise)
    ways: dict[str, Callable[..., Array]] = {
        "cpu": partial(_one_by_one, log_likelihood),
        "default": _over_all(partial(by_scan, unroll=UNROLLED)),
    }
    # all ways are traced, whichever runs: ask for the kernel only where there may be a device for it
    every = rows._replace(count=None)
    if jax.default_backend() == "gpu" and kernel.takes(every, start, drift, noise):
        ways["cuda"] = _over_all(_in_kernel)
    return lax.platform_dependent(rows, start, drift, noise, **ways)


def last_variance(
    rows: Series, start: State, drift: Motion, noise: Noise
) -> Float[Array, "*batch"]:
    """Variance of the first coefficient after the last row given the noise, shape (*b)."""
    if rows.y.ndim < 3:
        return _variance_by_scan(rows, start, drift, noise)
    ways = {
        "cpu": partial(_one_by_one, last_variance),
        # no time passes after the rows that count: it would widen what is known at the end
        "default": lambda rows, *laws: _variance_by_scan(timed(rows), *laws, unroll=UNROLLED),
    }
    return lax.platform_dependent(rows, start, drift, noise, **ways)


def _over_all(run: Callable[..., Array]) -> Callable[..., Array]:
    """`run` over all rows: those after the count change no density, and a GPU waits for no lane."""
    return lambda rows, *laws: run(rows._replace(count=None), *laws)


@jax.custom_jvp
def _in_kernel(
    rows: Series, start: State, drift: Motion, noise: Noise
) -> Float[Array, "member lane"]:
    return kernel.log_likelihood(rows, start, drift, noise)


@_in_kernel.defjvp
def _slopes(
    primals: tuple[Series, State, Motion, Noise], tangents: tuple[Series, State, Motion, Noise]
) -> tuple[Float[Array, "member lane"], Float[Array, "member lane"]]:
    """Where a gradient is asked for the scan runs instead, which can be differentiated."""
    return jax.jvp(by_scan, primals, tangents)


def _one_by_one(
    run: Callable[[Series, State, Motion, Noise], Float[Array, "*batch"]],
    rows: Series,
    start: State,
    drift: Motion,
    noise: Noise,
) -> Float[Array, "member *batch"]:
    """What `run` finds of each member of the first batch axis after the other."""
    every = rows, start, drift, noise
    rank = rows.y.ndim - 1
    leaves, form = jax.tree.flatten(every)
    count = max(leaf.shape[leaf.ndim - rank] for leaf in leaves)

    def first(leaf: Array) -> Array:
        axis = leaf.ndim - rank
        wide = (*leaf.shape[:axis], count, *leaf.shape[axis + 1 :])
        return jnp.moveaxis(jnp.broadcast_to(leaf, wide), axis, 0)

    return lax.map(
        lambda own: run(*jax.tree.unflatten(form, own)), [first(leaf) for leaf in leaves]
    )


def by_scan(
    rows: Series, start: State, drift: Motion, noise: Noise, *, unroll: int = 1
) -> Float[Array, "*batch"]:
    """The log likelihood of all lanes at once, `unroll` rows to a turn of the loop."""
    _, _, total = _pass_over(rows, start, drift, noise, unroll)
    return total


def _variance_by_scan(
    rows: Series, start: State, drift: Motion, noise: Noise, *, unroll: int = 1
) -> Float[Array, "*batch"]:
    state, carried, total = _pass_over(rows, start, drift, noise, unroll)
    var = state.cov[0, 0] * noise.unit(carried) * student_variance(state_dof(noise, carried), jnp)
    return jnp.broadcast_to(var, total.shape)


def _pass_over(
    rows: Series, start: State, drift: Motion, noise: Noise, unroll: int
) -> tuple[State, Carried, Float[Array, "*batch"]]:
    """State and what the noise carries after the last row, and the log likelihood.

    The compiler leaves out what its caller does not read.
    """
    state, carried = begin(rows, start, drift, noise)

    def one(
        carry: tuple[State, Carried, Float[Array, "*batch"]], row: Series, dt: float = 1.0
    ) -> tuple[tuple[State, Carried, Float[Array, "*batch"]], None]:
        state, carried, total = carry
        if row.dt is None:
            row = row._replace(dt=dt)
        _, state, seen, met, carried = advance(state, carried, row, drift, noise)
        density = log_density(seen.error, scale_of(noise, met, seen), noise.dof(met))
        return (state, carried, total + jnp.where(row.observed > 0, density, 0)), None

    carry = state, carried, jnp.zeros(state.mean.shape[1:], state.mean.dtype)
    count, rows, begun = rows.count, rows._replace(count=None), 0

    def at(number: Array | int) -> Series:
        return jax.tree.map(lambda leaf: leaf[number], rows)

    if rows.dt is None:  # the first row alone has no time before it
        (carry, _), begun = one(carry, at(0), 0.0), 1
    if count is not None:
        # no more turns than rows are read, so that one program serves series of many lengths
        last = count.max() if count.ndim else count
        return lax.fori_loop(begun, last, lambda number, carry: one(carry, at(number))[0], carry)
    rows = jax.tree.map(lambda leaf: leaf[begun:], rows)
    ended, _ = lax.scan(one, carry, rows, unroll=unroll)
    return ended
