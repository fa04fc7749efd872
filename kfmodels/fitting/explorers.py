"""Noise draws beside those of the posterior, for a live mixture in markets unlike its history."""

from numbers import Integral
from typing import TYPE_CHECKING

import jax
import numpy as np

from kfmodels.data.hedge_data import HedgeData
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.kalman.arrays import even_steps
from kfmodels.kalman.noise import floored
from kfmodels.kalman.regression import batch_last
from kfmodels.online.filter import OnlineFilter

if TYPE_CHECKING:
    from xarray import DataTree

SHARE = 0.05
"""Weight of all explorers together when the filter starts; forgetting keeps it from vanishing."""


def add_explorers(
    live: OnlineFilter, tree: "DataTree", data: HedgeData, count: int
) -> OnlineFilter:
    r"""The same filter with draws added whose speeds are spread evenly over the prior.

    Each has run over the training rows, with the observation variance that makes its own innovations
    right, $v = \overline{e_t^2 / S_t}$, and starts with the weight `SHARE / count`. A posterior from
    calm years may hold no draw that is fast enough for a crisis; the explorers are.

    Args:
        live: fresh from the training rows.
        tree, data: of the fit.
        count: number of explorers.

    Raises:
        ValueError: a count that is none, or the speed is fixed in the model, so that it has no
            prior to be spread over.

    Source: the grid of models of Raftery, Karny and Ettler (2010), Technometrics 52.
    """
    if not (isinstance(count, Integral) and count >= 1):
        raise ValueError(f"explorers is a number of draws, 0 for none, not {count!r}")
    every = trees.flat({"q": trees.group_of(tree, "prior")["q"].values})["q"]
    order = np.argsort(every[:, 0], kind="stable")
    q = every[order[even_steps(count, len(order))]]
    if np.ptp(q[:, 0]) == 0:
        raise ValueError("explorers spread the speed over its prior, but the model fixes it: use 0")
    one = trees.stored_sites(tree, "plug_in")
    sites = {name: np.repeat(value, count, 0) for name, value in one.items()} | {"q": q}
    with jax.enable_x64(True):
        # first with the variance of the plug-in, to find the one that suits each speed; then with that
        law, y = trees.posed(tree, data, sites)
        sites["obs_scale"] = np.sqrt(jax.device_get(passes.right_variance(law, y)))
        law, y = trees.posed(tree, data, sites)
        state, learnt, least = jax.device_get(passes.end(law, y))
    drift, noise = trees.assumed(tree).laws(**sites)
    held = live.arguments()

    def joined[Held](old: Held, new: Held) -> Held:
        """Both along the axis of draws, which is the last; what all draws share stays shared."""

        def join(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            if np.shape(a)[-1] == 1 and live.draws > 1:
                return a
            b = np.asarray(b)[..., :count]
            return np.concatenate([a, np.broadcast_to(b, (*b.shape[:-1], count))], -1)

        return jax.tree.map(join, old, new)

    weights = [held["log_weights"] + np.log1p(-SHARE), np.full(count, np.log(SHARE / count))]
    if held["gap_names"]:
        bars = trees.assumed(tree).gap_bars(sites["gap_bars"], len(data.hedges))
        held["gap_bars"] = np.concatenate([held["gap_bars"], bars], -1)
        held["gap_noise"] = np.concatenate([held["gap_noise"], sites["gap_noise"].T], -1)
    held |= {
        "drift": joined(held["drift"], batch_last(drift, 1)),
        "noise": joined(held["noise"], floored(batch_last(noise, 1), least)),
        "state": joined(held["state"], state),
        "carried": joined(held["carried"], learnt),
        "log_weights": np.concatenate(weights),
    }
    return OnlineFilter(**held)
