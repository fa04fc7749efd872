"""The few draws of the noise that tables and the online filter mix over, of many weighted ones."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kfmodels._types import Float, JaxArray
from kfmodels.kalman.likelihood import last_variance
from kfmodels.model.assumptions import is_bounded, least
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.sampling.psis import pick_evenly

MIXTURE_DRAWS = 64
"""Noise draws that tables and the online filter mix over."""

TRIED = 256
"""Draws of which the filter says how sure it ends of the ratio."""

Noise = dict[str, Float[np.ndarray, "pair draw ..."]]
"""The sites that the filter needs, at draws of every pair."""

Few = dict[str, Float[np.ndarray, "pair few ..."]]
Mixed = dict[str, Float[np.ndarray, "pair mixed ..."]]
"""The same at fewer of them."""


def choose(
    noise: Noise, weights: Float[np.ndarray, "pair draw"], inputs: Any, *, model: HedgeRatioModel
) -> Mixed:
    """The draws that a filter runs on: at most 64 that stand for all, and the plug-in last."""
    few = try_some(noise, weights)
    with jax.enable_x64(True):
        var = np.asarray(_ratio_variance(few, inputs, model=model))
    return mix(noise, weights, few, var)


def try_some(noise: Noise, weights: Float[np.ndarray, "pair draw"]) -> Few:
    """At most 256 draws of equal weight, in the order of a guess of `ratio_variance`."""
    return _pick(noise, weights, _guess(noise), TRIED)


def _guess(noise: Noise | Few) -> Float[np.ndarray, "pair _"]:
    """That of a lone level: observation variance times the root of q, or so where it stands still."""
    return noise["obs_scale"] ** 2 * np.sqrt(noise["q"][..., 0] + 1e-6)


def mix(
    noise: Noise,
    weights: Float[np.ndarray, "pair draw"],
    few: Few,
    var: Float[np.ndarray, "pair few"],
) -> Mixed:
    """At most 64 draws, evenly spaced by weight in the order of their `ratio_variance`, which is `var`
    at the few; and the plug-in of all draws last.

    The plug-in is the posterior mean of log q, log obs_scale, log(variance memory - 4) and the
    logarithms of what gaps are worth.
    """
    spread = _pick(noise, weights, _interpolate(few, var, noise), MIXTURE_DRAWS)
    share = weights / weights.sum(1, keepdims=True)
    mixed = {}
    for name, values in noise.items():
        wide = (...,) + (None,) * (values.ndim - 2)
        # a draw without weight may be where the logarithm is infinite, and 0 times that is NaN
        above = np.where(share[wide] > 0, _above(name, values), 0)
        middle = (share[wide] * above).sum(1, keepdims=True)
        middle = least(name) + np.exp(middle) if is_bounded(name) else middle
        mixed[name] = np.concatenate([spread[name], middle], 1)
    return mixed


def _above(
    name: str, values: Float[np.ndarray, "pair draw *site"]
) -> Float[np.ndarray, "pair draw *site"]:
    """Logarithm of a site above its lower bound, if it has one; -inf of a q fixed at 0."""
    if not is_bounded(name):
        return values
    with np.errstate(divide="ignore"):
        return np.log(values - least(name))


def _interpolate(
    few: Few, var: Float[np.ndarray, "pair few"], noise: Noise
) -> Float[np.ndarray, "pair draw"]:
    """The logarithm of `var` at all draws: it is smooth, so a quadratic in the logarithms will do."""
    at, every = (
        np.concatenate(
            [_above(name, v).reshape(*v.shape[:2], -1) for name, v in draws.items()]
            + [np.log(_guess(draws))[..., None]],
            -1,
        )
        for draws in (few, noise)
    )
    found = np.empty(every.shape[:2])
    for number, (x, y, all_x) in enumerate(zip(at, np.log(var), every, strict=True)):
        # what is fixed says nothing; what has no weight may be beyond all arithmetic
        moves = np.isfinite(x).all(0) & (x != x[0]).any(0)
        centre, unit = x[:, moves].mean(0), x[:, moves].std(0)
        near = np.clip(np.nan_to_num((all_x[:, moves] - centre) / unit), -5, 5)
        known = _quadratic((x[:, moves] - centre) / unit)
        found[number] = _quadratic(near) @ np.linalg.lstsq(known, y, rcond=1e-9)[0]
    return found


def _quadratic(x: Float[np.ndarray, "draw site"]) -> Float[np.ndarray, "draw term"]:
    rows, columns = np.tril_indices(x.shape[1])
    return np.column_stack([np.ones(len(x)), x, x[:, rows] * x[:, columns]])


def ratio_variance(
    noise: dict[str, Float[JaxArray, "pair draw ..."]], inputs: Any, *, model: HedgeRatioModel
) -> Float[JaxArray, "pair draw"]:
    """Variance of the first hedge ratio after the last row under every draw of the noise."""
    each = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 1), inputs)
    return last_variance(*model.regression(each, **noise).recursion(each.y))


_ratio_variance = partial(jax.jit, static_argnames=("model",))(ratio_variance)


def _pick(
    noise: Noise,
    weights: Float[np.ndarray, "pair draw"],
    order_by: Float[np.ndarray, "pair draw"],
    count: int,
) -> dict[str, Float[np.ndarray, "pair picked ..."]]:
    """At most `count` draws of every pair, evenly spaced by weight in that order."""
    count = min(count, weights.shape[1])
    places = np.stack([pick_evenly(*one, count) for one in zip(weights, order_by, strict=True)])
    rows = np.arange(len(places))[:, None]
    return {name: values[rows, places] for name, values in noise.items()}
