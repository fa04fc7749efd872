"""Noise draws beside the posterior's, so that a live mixture can follow where no history has been."""

from typing import Any

import jax
import numpy as np

from kfmodels.data.hedge_data import HedgeData
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.fitting.passes import NoiseDraws
from kfmodels.kalman.noise import Scale
from kfmodels.kalman.step import State
from kfmodels.model.memory import q_to_gain
from kfmodels.online.filter import OnlineFilter

Tree = Any

SHARE = 0.05
"""Weight of all explorers together when the filter starts; forgetting keeps them from dying out."""


def with_explorers(live: OnlineFilter, tree: Tree, data: HedgeData, count: int) -> OnlineFilter:
    r"""The same filter with draws added whose speeds are spread evenly over the prior.

    Each has run over the training rows, with the observation variance that makes its own innovations
    right, $v = \overline{e_t^2 / S_t}$, and starts with the weight `SHARE / count`. A posterior from
    years of calm rows holds no draw that is fast enough for what may come; these do.

    Args:
        live: fresh from the training rows.
        tree, data: of the fit.
        count: number of explorers.

    Raises:
        ValueError: the speed is fixed in the model, so that it has no prior to be spread over.

    Source: the grid of models of Raftery, Karny and Ettler (2010), Technometrics 52.
    """
    every = trees.flat({"q": tree["prior"]["q"].values})["q"]
    order = np.argsort(every[:, 0], kind="stable")
    q = every[order[((np.arange(count) + 0.5) * len(order) / count).astype(int)]]
    if np.ptp(q[:, 0]) == 0:
        raise ValueError("explorers spread the speed over its prior, but the model fixes it: use 0")
    one = trees.stored_draws(tree, "plug_in")
    wide = {
        name: np.repeat(np.asarray(value), count + 1, 0)  # the last draw of a pass stands apart
        for name, value in one._asdict().items()
        if value is not None and name != "moving"
    }
    q = np.concatenate([q, q[-1:]])
    moves = {"q": q} if one.q is not None else {"state_discount": 1 - q_to_gain(q[:, 0])}
    draws = NoiseDraws(**wide | moves | {"moving": one.moving})
    with jax.enable_x64(True):
        rows = trees.rows(tree, data)
        var = jax.device_get(passes.right_variance(rows, draws))
        factor = var / draws.obs_var
        start = draws.start_cov / factor[:, None, None]
        draws = draws._replace(obs_var=var, start_cov=start)
        passed = jax.device_get(passes.forward(rows, draws))
        _, drift, noise = jax.device_get(draws.recursion())
    held = live.arguments()

    def joined(old: Any, new: Any) -> Any:
        """Both along the axis of draws, which is the last; what all draws share stays shared."""
        return type(old)(
            *(
                a if np.shape(a)[-1] == 1 and live.draws > 1 else _side_by_side(a, b, count)
                for a, b in zip(old, new, strict=True)
            )
        )

    state = State(np.moveaxis(passed.mean, 0, -1), np.moveaxis(passed.cov, 0, -1))
    scale = held["scale"]
    if scale is not None:
        scale = joined(scale, Scale(passed.dof, passed.obs_var))
    weights = np.concatenate(
        [held["log_weights"] + np.log1p(-SHARE), np.full(count, np.log(SHARE / count))]
    )
    gaps = {}
    for name, plain in (("gap_bars", one.gap_bars), ("gap_noise", one.gap_noise)):
        if held["gap_names"]:
            own = np.ones((len(held[name]), 1)) if plain is None else np.asarray(plain).T
            gaps[name] = np.concatenate([held[name], np.repeat(own, count, 1)], 1)
    return OnlineFilter(
        **held
        | gaps
        | {
            "drift": joined(held["drift"], drift),
            "noise": joined(held["noise"], noise),
            "state": joined(held["state"], state),
            "scale": scale,
            "log_weights": weights,
        }
    )


def _side_by_side(a: Any, b: Any, count: int) -> np.ndarray:
    b = np.asarray(b)[..., :count]
    return np.concatenate([a, np.broadcast_to(b, (*b.shape[:-1], count))], -1)
