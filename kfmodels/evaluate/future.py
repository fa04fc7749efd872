"""Leave-future-out cross-validation: how well a model forecasts its own rows, refitted on the way."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from kfmodels.data.arrays import Inputs, lengthen
from kfmodels.data.hedge_data import MIN_ROWS, HedgeData
from kfmodels.evaluate.arguments import check_inferred
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.fitting.fit import fit
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.model import gaps as closed
from kfmodels.sampling.nuts import NUTS
from kfmodels.words.caller import explain_kinds
from kfmodels.words.progress import wait_for

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

_DRAWS = 1000
"""Draws per refit that are reweighted; each needs the density of every row."""


@explain_kinds
def leave_future_out(
    fitted: HedgeFit,
    *,
    min_observations: int,
    horizon: int = 1,
    method: NUTS = NUTS(),
    seed: int = 0,
    progress: bool = True,
) -> Any:
    r"""Estimate the expected log density of the next bars, each given only the bars before it.

    $$∑_i \log p(y_{i:i+h} ∣ y_{<i})$$

    The noise posterior of the first `min_observations` rows is carried on by importance weights and
    refitted where they fail (Pareto k-hat above 0.7). Where there are later dates that no fit has seen,
    `compare` is the cheaper and the plainer test.

    Args:
        fitted: the fit whose model and rows are used.
        min_observations: complete rows of the first fit; 30 at least.
        horizon: bars that are forecast together.
        method: how to refit.
        seed: of the refits.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        ArviZ's `ELPDDataLFO`: `elpd`, `se`, `elpd_i` (by bar), `pareto_k`, `n_refits`.

    Raises:
        ValueError: too few rows before the first forecast, or none after it.

    Source: Buerkner, Gabry and Vehtari (2020), Approximate leave-future-out cross-validation for
    Bayesian time series models, Journal of Statistical Computation and Simulation 90. Computed by
    ArviZ (`lfo_cv`).

    Example:
        >>> from kfmodels import HedgeData, datasets
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> year, quick = data.after("2019-01-01").before("2020-01-01"), NUTS(draws=500, chains=2)
        >>> fitted = fit(year, method=quick, progress=False)
        >>> found = leave_future_out(fitted, min_observations=240, method=quick)
        >>> found.n_data_points, bool(found.elpd > 0)
        (12, True)
    """
    from arviz_stats.loo.lfo_cv import lfo_cv
    from arviz_stats.loo.wrapper import SamplingWrapper
    from xarray import Dataset, DataTree

    check_inferred(fitted)
    data, model = fitted.data, fitted.model
    seen = np.flatnonzero(data.observed)
    if not MIN_ROWS <= min_observations <= len(seen) - horizon:
        raise ValueError(
            f"min_observations={min_observations} and horizon={horizon} do not fit into {len(seen)} "
            f"complete rows: at least {MIN_ROWS} before the first forecast and the horizon after it"
        )

    class Refit(SamplingWrapper):
        """What ArviZ needs to refit on the rows before a bar; it counts complete rows."""

        def sel_observations(self, idx: np.ndarray) -> tuple[int, np.ndarray]:
            return int(np.min(idx)), idx

        def sample(self, modified_observed_data: int) -> HedgeFit:
            rows = data.before(data.index[seen[modified_observed_data]])
            # kept, for ArviZ gives `log_likelihood__i` only the tree that was made of it
            self.last = fit(rows, model, method=method, seed=seed, progress=progress)
            return self.last

        def get_inference_data(self, fitted_model: HedgeFit) -> DataTree:
            return DataTree.from_dict(_inferred(fitted_model))

        def log_likelihood__i(self, excluded_obs: np.ndarray, idata__i: object) -> "DataArray":
            return _by_bar(self.last, data).isel(time=excluded_obs)

    whole = _inferred(fitted) | {"log_likelihood": Dataset({"y": _by_bar(fitted, data)})}
    with wait_for("leaving the future out", shown=progress):
        return lfo_cv(
            DataTree.from_dict(whole),
            wrapper=Refit(model=model),
            min_observations=min_observations,
            forecast_horizon=horizon,
            pointwise=True,
        )


def _inferred(fitted: HedgeFit) -> "dict[str, Dataset]":
    """The posterior of the inferred parameters alone."""
    # what follows from them is left out: ArviZ works on every variable, and a memory may be infinite
    inferred = list(trees.group_of(fitted.tree, "log_prior").data_vars)
    return {"posterior": trees.group_of(fitted.tree, "posterior")[inferred]}


def _by_bar(fitted: HedgeFit, data: HedgeData) -> "DataArray":
    """Log density of each complete row given the rows before, by chain, thinned draw and row."""
    from xarray import DataArray

    chains, length = trees.group_of(fitted.tree, "posterior")["obs_scale"].shape
    kept = np.arange(0, length, max(1, chains * length // _DRAWS))
    picked = (np.arange(chains)[:, None] * length + kept).ravel()
    thinned = {name: site[picked] for name, site in trees.posterior_sites(fitted.tree).items()}
    with jax.enable_x64(True):
        inputs = lengthen(_in_coordinates_of(fitted, data))
        law = trees.regression(fitted.model, inputs, thinned)
        density = np.asarray(passes.log_densities(law, inputs.y))
    density = density[: len(data)][data.observed]
    shape = (chains, len(kept), len(density))
    return DataArray(
        density.T.reshape(shape),
        dims=("chain", "draw", "time"),
        coords={"chain": np.arange(chains), "draw": kept, "time": np.arange(len(density))},
    )


def _in_coordinates_of(fitted: HedgeFit, data: HedgeData) -> Inputs:
    """All rows in the coordinates of the fit: centre, scale and start are those of its rows alone.

    Centred on all rows, a forecast would know where later prices lie.
    """
    where, names = trees.coordinates(fitted.tree), trees.gap_names(fitted.tree)
    return fitted.model.inputs(fitted.data)._replace(
        y=np.where(data.observed, data.y - where.offset, 0.0),
        design=np.where(data.observed[:, None], where.design(data.x), 0.0),
        observed=data.observed,
        dt=data.dt,
        gaps=closed.columns(data, names) if names else None,
        day=data.clock.days(data.index) if fitted.model.reads_day and data.clock else None,
    )
