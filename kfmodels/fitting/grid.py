"""Noise draws on a grid of memories, beside those of the posterior, for a mixture that learns live.

A posterior from calm years may hold no draw that is fast enough for a crisis, or slow enough for the
calm after it; with the grid and a fixed share of the weights there is one whenever the noise changes.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from kfmodels.kalman import scan
from kfmodels.kalman.noise import Carried, floored, variance_of
from kfmodels.kalman.regression import batch_last
from kfmodels.kalman.step import State
from kfmodels.model.hedge_ratio import HedgeRatioModel, Inputs
from kfmodels.model.priors import Absolute
from kfmodels.online.board import OnlineBoard

COUNT, WEIGHT = 16, 0.1
"""Draws of the grid, and the weight of all of them together at the beginning."""

LEAST, MOST = 12.0, 600.0
"""Bars that the fastest and the slowest ratio of the grid remembers, the last at least.

Draws that remember less win likelihood in a crisis and lose the hedge: from 3 bars on, 28 pairs of
daily moves lose .010 of the variance removed, and 22 of one-minute moves .004, against a grid from 12
bars (`python -m tests.benchmarks learning`).
"""

_BLOCK = 128
"""Pairs that are filtered together, few enough for the cache of a processor."""

_LOG_SPEEDS = math.log(1e-9), math.log(10.0)
"""Between which log signal-to-noise ratios the memory of a ratio is looked up, as many as wanted."""

type Sites = dict[str, np.ndarray]


class Passed(NamedTuple):
    """Where a pass of the training rows ends, batch axes `(pair, draw)`.

    `log_memory` is that of the ratio over the later half of the rows, `right` the observation variance
    under which the innovations are as large as forecast, `least` the smallest one it had.
    """

    state: State
    carried: Carried
    log_memory: np.ndarray
    right: np.ndarray
    least: np.ndarray


def spreads(model: HedgeRatioModel) -> bool:
    """Whether there is a memory to be spread: the model infers how fast the ratio moves, in bars.

    Of a model of the time of day the memory is one of days; a grid from 12 bars up would open its band
    every morning as if the ratio had moved by a multiple of what it does.
    """
    if model.profile is not None:
        return False
    given = model.beta_delta.delta if isinstance(model.beta_delta, Absolute) else model.beta_delta
    return not isinstance(given, (int, float, tuple))


def add_grid(
    board: OnlineBoard,
    model: HedgeRatioModel,
    inputs: Inputs,
    plug_in: Sites,
    memories: np.ndarray | None = None,
) -> OnlineBoard:
    r"""The same board with draws added whose memories are on a logarithmic grid, from 12 bars up.

    The memory is that of the ratio itself, $1 + P / W$ with its variance P and what a bar adds to it,
    as the training rows make it; all else of the noise is that of the plug-in. Each draw has run over
    the training rows, with the observation variance that makes its own innovations right,
    $v = \overline{e_t^2 / S_t}$.

    Args:
        board: as it stands after the training rows.
        model: of the fit, one that `spreads`.
        inputs: of every pair, `(pair, ...)`.
        plug_in: sites of the recursion at the posterior mean, `(pair, ...)`.
        memories: of the draws, in bars, rising. Default: 16 from 12 bars to 600 or the training rows.

    Source: the grid of models of Raftery, Karny and Ettler (2010), Technometrics 52.
    """
    if memories is None:
        rows = int(np.asarray(inputs.observed).sum(-1).max())
        memories = np.geomspace(LEAST, max(MOST, rows), COUNT)
    count, parts = len(memories), []
    for start in range(0, len(board), _BLOCK):
        some = slice(start, start + _BLOCK)
        block = jax.tree.map(lambda leaf, some=some: np.asarray(leaf)[some], inputs)
        parts.append(
            _run_grid(model, block, {name: v[some] for name, v in plug_in.items()}, memories)
        )
    sites = {name: np.concatenate([part[0][name] for part in parts]) for name in plug_in}
    passed = jax.tree.map(lambda *leaves: np.concatenate(leaves, -2), *(part[1] for part in parts))
    drift, noise = model.laws(**sites)
    held = board.arguments()

    def joined[Part](old: Part, new: Part) -> Part:
        """Both along the axis of draws, which is the last; what all draws share stays shared."""

        def join(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            if np.shape(a)[-1] == 1 and board.draws > 1:
                return a
            whole = (
                np.broadcast_to(part, (*np.shape(part)[:-2], len(board), draws))
                for part, draws in ((a, a.shape[-1]), (b, count))
            )
            return np.concatenate(list(whole), -1)

        return jax.tree.map(join, old, new)

    weights = [
        held["log_weights"] + np.log1p(-WEIGHT),
        np.full((len(board), count), np.log(WEIGHT / count)),
    ]
    held["log_weights"] = held["initial_log_weights"] = np.concatenate(weights, -1)
    if held["gap_names"]:
        bars = model.gap_bars(sites["gap_bars"][0], len(board.hedges[0]))[..., None, :]
        factors = sites["gap_noise"][0].T[:, None]
        held["gap_bars"] = np.concatenate([held["gap_bars"], bars], -1)
        held["gap_noise"] = np.concatenate([held["gap_noise"], factors], -1)
    return OnlineBoard(
        **held
        | {
            "drift": joined(held["drift"], batch_last(drift, 2)),
            "noise": joined(held["noise"], floored(batch_last(noise, 2), passed.least)),
            "state": joined(held["state"], passed.state),
            "carried": joined(held["carried"], passed.carried),
        }
    )


def _run_grid(
    model: HedgeRatioModel, inputs: Inputs, plug_in: Sites, memories: np.ndarray
) -> tuple[Sites, Passed]:
    """Sites of the draws of the grid, `(pair, draw, ...)`, and where they end."""
    count = len(memories)
    every = {name: np.repeat(value[:, None], count, 1) for name, value in plug_in.items()}
    moving, log_speeds = model.follows(every["q"].shape[-1]), np.linspace(*_LOG_SPEEDS, count)

    def at(log_q: np.ndarray, **others: np.ndarray) -> Sites:
        return every | {"q": np.where(moving, np.exp(log_q)[..., None], every["q"])} | others

    tried = np.broadcast_to(log_speeds, every["obs_scale"].shape)
    found = _run(model, inputs, at(tried)).log_memory
    # the slower a ratio moves the longer it remembers, but for rounding, and `interp` relies on it
    found = np.maximum.accumulate(found[:, ::-1], -1)
    wanted = np.log(memories)
    log_q = np.stack([np.interp(wanted, one, log_speeds[::-1]) for one in found])
    # first with the variance of the plug-in, to find the one that suits each draw; then with that
    right = _run(model, inputs, at(log_q)).right
    sites = at(log_q, obs_scale=np.sqrt(right))
    return sites, _run(model, inputs, sites)


@partial(jax.jit, static_argnames=("model",))
def _recursion(model: HedgeRatioModel, inputs: Inputs, sites: Sites) -> Any:
    each = jax.tree.map(lambda leaf: jax.numpy.expand_dims(leaf, 1), inputs)
    rows, *others = model.regression(each, **sites).recursion(each.y)
    return scan.timed(rows), *others


def _run(model: HedgeRatioModel, inputs: Inputs, sites: Sites) -> Passed:
    """Filter the training rows under draws `(pair, draw, ...)`, on NumPy: nothing is compiled."""
    with jax.enable_x64(True):
        rows, state, drift, noise = jax.device_get(_recursion(model, inputs, sites))
    shape, hedges = sites["obs_scale"].shape, inputs.typical_ratio.shape[-1]
    carried, least = noise.start(), np.full(shape, np.inf)
    squares, count, var, late = np.zeros(shape), np.zeros(shape), np.zeros((hedges, *shape)), 0
    each = np.arange(hedges)
    # the extreme speeds at which memories are looked up may overflow
    with np.errstate(all="ignore"):
        for t in range(len(rows.y)):
            row = jax.tree.map(lambda leaf, t=t: leaf[t], rows)
            _, state, seen, _, carried = scan.advance(state, carried, row, drift, noise)
            squares += row.observed * seen.error**2 / seen.var
            count += row.observed
            least = np.minimum(least, variance_of(noise, carried))
            if 2 * t >= len(rows.y):
                var += state.cov[each, each]
                late += 1
        var /= late
        cov = np.zeros((len(state.mean), *state.cov.shape[1:]))
        cov[each, each] = var
        memory = 1 + var / (drift.widen(cov, np.ones(())) - cov)[each, each]
        return Passed(state, carried, np.log(memory).mean(0), squares / count, least)
