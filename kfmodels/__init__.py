"""kfmodels: infer how fast a hedge ratio moves, then run the fitted filter online.

The public names load on first use, so that importing this package reads no JAX, allocates nothing
and configures nothing; what runs online, from `OnlineFilter` to `LiveFilter`, needs NumPy only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfmodels import plots as plots
    from kfmodels.batch.board import HedgeBoard as HedgeBoard
    from kfmodels.batch.fit_many import fit_many as fit_many
    from kfmodels.batch.pooling import pool as pool
    from kfmodels.batch.ranking import rank_hedges as rank_hedges
    from kfmodels.clock.clock import Clock as Clock
    from kfmodels.data import datasets as datasets
    from kfmodels.data.hedge_data import HedgeData as HedgeData
    from kfmodels.data.hedge_data import HedgePairs as HedgePairs
    from kfmodels.evaluate import published as published
    from kfmodels.evaluate.calibration import calibrate as calibrate
    from kfmodels.evaluate.compare import compare as compare
    from kfmodels.evaluate.effectiveness import hedge_effectiveness as hedge_effectiveness
    from kfmodels.evaluate.future import leave_future_out as leave_future_out
    from kfmodels.evaluate.health import spread_health as spread_health
    from kfmodels.evaluate.landscape import likelihood_surface as likelihood_surface
    from kfmodels.evaluate.prior_check import prior_and_posterior as prior_and_posterior
    from kfmodels.evaluate.prior_check import prior_predictive as prior_predictive
    from kfmodels.evaluate.prior_check import prior_summary as prior_summary
    from kfmodels.evaluate.sensitivity import prior_sensitivity as prior_sensitivity
    from kfmodels.evaluate.sensitivity import static_probability as static_probability
    from kfmodels.evaluate.sensitivity import what_if as what_if
    from kfmodels.files.log import Journal as Journal
    from kfmodels.fitting.desk import go_live as go_live
    from kfmodels.fitting.hedge_fit import HedgeFit as HedgeFit
    from kfmodels.fitting.hedge_fit import load as load
    from kfmodels.fitting.refresh import refresh as refresh
    from kfmodels.fitting.refresh import refresh_later as refresh_later
    from kfmodels.kalman.regression import KalmanRegression as KalmanRegression
    from kfmodels.live.account import Attribution as Attribution
    from kfmodels.live.book import HedgeBook as HedgeBook
    from kfmodels.live.book import hedge_shares as hedge_shares
    from kfmodels.live.costs import Band as Band
    from kfmodels.live.costs import Cost as Cost
    from kfmodels.live.costs import Saving as Saving
    from kfmodels.live.feed import LiveFilter as LiveFilter
    from kfmodels.live.monitor import Monitor as Monitor
    from kfmodels.model.assumptions import Constant as Constant
    from kfmodels.model.assumptions import Diffuse as Diffuse
    from kfmodels.model.assumptions import Discounted as Discounted
    from kfmodels.model.assumptions import Gaps as Gaps
    from kfmodels.model.assumptions import Known as Known
    from kfmodels.model.assumptions import RandomWalk as RandomWalk
    from kfmodels.model.assumptions import StateDiscount as StateDiscount
    from kfmodels.model.assumptions import Weak as Weak
    from kfmodels.model.assumptions import Zero as Zero
    from kfmodels.model.hedge_ratio import hedge_ratio_model as hedge_ratio_model
    from kfmodels.model.priors import Absolute as Absolute
    from kfmodels.model.priors import Horseshoe as Horseshoe
    from kfmodels.model.priors import Memory as Memory
    from kfmodels.model.priors import Moves as Moves
    from kfmodels.online.board import OnlineBoard as OnlineBoard
    from kfmodels.online.filter import OnlineFilter as OnlineFilter
    from kfmodels.online.follow import follow as follow
    from kfmodels.online.kalman_ols import KalmanOLS as KalmanOLS
    from kfmodels.online.shocks import Quarantine as Quarantine
    from kfmodels.online.shocks import Robust as Robust
    from kfmodels.sampling.importance import ImportanceSampling as ImportanceSampling
    from kfmodels.sampling.nuts import NUTS as NUTS
    from kfmodels.sampling.nuts import fit as fit

_HOME = {
    "Absolute": "model.priors",
    "Attribution": "live.account",
    "Band": "live.costs",
    "Clock": "clock.clock",
    "Constant": "model.assumptions",
    "Cost": "live.costs",
    "Diffuse": "model.assumptions",
    "Discounted": "model.assumptions",
    "Gaps": "model.assumptions",
    "HedgeBoard": "batch.board",
    "HedgeBook": "live.book",
    "HedgeData": "data.hedge_data",
    "HedgeFit": "fitting.hedge_fit",
    "HedgePairs": "data.hedge_data",
    "Horseshoe": "model.priors",
    "ImportanceSampling": "sampling.importance",
    "Journal": "files.log",
    "KalmanOLS": "online.kalman_ols",
    "KalmanRegression": "kalman.regression",
    "Known": "model.assumptions",
    "LiveFilter": "live.feed",
    "Memory": "model.priors",
    "Monitor": "live.monitor",
    "Moves": "model.priors",
    "NUTS": "sampling.nuts",
    "OnlineBoard": "online.board",
    "OnlineFilter": "online.filter",
    "Quarantine": "online.shocks",
    "RandomWalk": "model.assumptions",
    "Robust": "online.shocks",
    "Saving": "live.costs",
    "StateDiscount": "model.assumptions",
    "Weak": "model.assumptions",
    "Zero": "model.assumptions",
    "calibrate": "evaluate.calibration",
    "compare": "evaluate.compare",
    "fit": "sampling.nuts",
    "fit_many": "batch.fit_many",
    "follow": "online.follow",
    "go_live": "fitting.desk",
    "hedge_effectiveness": "evaluate.effectiveness",
    "hedge_ratio_model": "model.hedge_ratio",
    "hedge_shares": "live.book",
    "leave_future_out": "evaluate.future",
    "likelihood_surface": "evaluate.landscape",
    "load": "fitting.hedge_fit",
    "pool": "batch.pooling",
    "prior_and_posterior": "evaluate.prior_check",
    "prior_predictive": "evaluate.prior_check",
    "prior_sensitivity": "evaluate.sensitivity",
    "prior_summary": "evaluate.prior_check",
    "rank_hedges": "batch.ranking",
    "refresh": "fitting.refresh",
    "refresh_later": "fitting.refresh",
    "spread_health": "evaluate.health",
    "static_probability": "evaluate.sensitivity",
    "what_if": "evaluate.sensitivity",
}

_MODULES = {"datasets": "data.datasets", "plots": "plots", "published": "evaluate.published"}

# pyright would have the names written out once more; they stand in _HOME
__all__ = [*_HOME, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"kfmodels.{_MODULES[name]}")
    if name in _HOME:
        return getattr(import_module(f"kfmodels.{_HOME[name]}"), name)
    raise AttributeError(f"module 'kfmodels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
