"""Noise draws beside the posterior's, so that a live mixture can follow where no history has been."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from kfmodels.data.hedge_data import HedgeData
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.kalman.regression import batch_last
from kfmodels.online.filter import OnlineFilter

if TYPE_CHECKING:
    from xarray import DataTree

SHARE = 0.05
"""Weight of all explorers together when the filter starts; forgetting keeps them from dying out."""


def add_explorers(
    live: OnlineFilter, tree: "DataTree", data: HedgeData, count: int
) -> OnlineFilter:
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
    every = trees.flat({"q": trees.group_of(tree, "prior")["q"].values})["q"]
    order = np.argsort(every[:, 0], kind="stable")
    q = every[order[((np.arange(count) + 0.5) * len(order) / count).astype(int)]]
    if np.ptp(q[:, 0]) == 0:
        raise ValueError("explorers spread the speed over its prior, but the model fixes it: use 0")
    one = trees.stored_sites(tree, "plug_in")
    sites = {name: np.repeat(value, count, 0) for name, value in one.items()} | {"q": q}
    with jax.enable_x64(True):
        law, y = trees.posed(tree, data, sites)
        sites["obs_scale"] = np.sqrt(jax.device_get(passes.right_variance(law, y)))
        law, y = trees.posed(tree, data, sites)
        state, learnt = jax.device_get(passes.end(law, y))
    drift, noise = trees.assumed(tree).laws(**sites)
    held = live.arguments()

    def joined(old: Any, new: Any) -> Any:
        """Both along the axis of draws, which is the last; what all draws share stays shared."""
        return type(old)(
            *(
                a if np.shape(a)[-1] == 1 and live.draws > 1 else _side_by_side(a, b, count)
                for a, b in zip(old, new, strict=True)
            )
        )

    carried = held["carried"]
    if carried is not None:
        carried = joined(carried, learnt)
    weights = np.concatenate(
        [held["log_weights"] + np.log1p(-SHARE), np.full(count, np.log(SHARE / count))]
    )
    gaps: dict[str, Any] = {
        name: np.concatenate([held[name], sites[name].T], 1)
        for name in ("gap_bars", "gap_noise")
        if held["gap_names"]
    }
    return OnlineFilter(
        **held
        | gaps
        | {
            "drift": joined(held["drift"], batch_last(drift, 1)),
            "noise": joined(held["noise"], batch_last(noise, 1)),
            "state": joined(held["state"], state),
            "carried": carried,
            "log_weights": weights,
        }
    )


def _side_by_side(a: np.ndarray, b: np.ndarray, count: int) -> np.ndarray:
    b = np.asarray(b)[..., :count]
    return np.concatenate([a, np.broadcast_to(b, (*b.shape[:-1], count))], -1)
