"""kfmodels: infer how fast a hedge ratio moves, then run the fitted filter online.

The public names load on first use, so that importing this package reads no JAX, allocates nothing
and configures nothing; what runs online, from `OnlineFilter` to `LiveFilter`, needs NumPy only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfmodels import datasets as datasets
    from kfmodels import plots as plots
    from kfmodels import published as published
    from kfmodels.assumptions import Constant as Constant
    from kfmodels.assumptions import Diffuse as Diffuse
    from kfmodels.assumptions import Discounted as Discounted
    from kfmodels.assumptions import Gaps as Gaps
    from kfmodels.assumptions import Known as Known
    from kfmodels.assumptions import RandomWalk as RandomWalk
    from kfmodels.assumptions import StateDiscount as StateDiscount
    from kfmodels.assumptions import Weak as Weak
    from kfmodels.assumptions import Zero as Zero
    from kfmodels.attribution import Attribution as Attribution
    from kfmodels.batch import fit_many as fit_many
    from kfmodels.board import HedgeBoard as HedgeBoard
    from kfmodels.calibration import calibrate as calibrate
    from kfmodels.clock import Clock as Clock
    from kfmodels.comparison import compare as compare
    from kfmodels.data import HedgeData as HedgeData
    from kfmodels.data import HedgePairs as HedgePairs
    from kfmodels.desk import go_live as go_live
    from kfmodels.distributions import KalmanRegression as KalmanRegression
    from kfmodels.evidence import prior_sensitivity as prior_sensitivity
    from kfmodels.evidence import static_probability as static_probability
    from kfmodels.evidence import what_if as what_if
    from kfmodels.future import leave_future_out as leave_future_out
    from kfmodels.health import spread_health as spread_health
    from kfmodels.hedge_book import HedgeBook as HedgeBook
    from kfmodels.hedge_book import hedge_shares as hedge_shares
    from kfmodels.importance import ImportanceSampling as ImportanceSampling
    from kfmodels.inference import NUTS as NUTS
    from kfmodels.inference import fit as fit
    from kfmodels.journal import Journal as Journal
    from kfmodels.kalman_ols import KalmanOLS as KalmanOLS
    from kfmodels.live import LiveFilter as LiveFilter
    from kfmodels.models import hedge_ratio_model as hedge_ratio_model
    from kfmodels.monitor import Monitor as Monitor
    from kfmodels.new_noise import refresh as refresh
    from kfmodels.new_noise import refresh_later as refresh_later
    from kfmodels.no_trade_band import Band as Band
    from kfmodels.no_trade_band import Cost as Cost
    from kfmodels.no_trade_band import Saving as Saving
    from kfmodels.noise import Absolute as Absolute
    from kfmodels.noise import Horseshoe as Horseshoe
    from kfmodels.noise import Memory as Memory
    from kfmodels.noise import Moves as Moves
    from kfmodels.online import OnlineFilter as OnlineFilter
    from kfmodels.online_board import OnlineBoard as OnlineBoard
    from kfmodels.pooling import pool as pool
    from kfmodels.ranking import rank_hedges as rank_hedges
    from kfmodels.replay import follow as follow
    from kfmodels.results import HedgeFit as HedgeFit
    from kfmodels.results import load as load
    from kfmodels.scores import hedge_effectiveness as hedge_effectiveness
    from kfmodels.shocks import Quarantine as Quarantine
    from kfmodels.shocks import Robust as Robust
    from kfmodels.surface import likelihood_surface as likelihood_surface
    from kfmodels.words import prior_and_posterior as prior_and_posterior
    from kfmodels.words import prior_predictive as prior_predictive
    from kfmodels.words import prior_summary as prior_summary

_HOME = {
    "Absolute": "noise",
    "Attribution": "attribution",
    "Band": "no_trade_band",
    "Clock": "clock",
    "Constant": "assumptions",
    "Cost": "no_trade_band",
    "Diffuse": "assumptions",
    "Discounted": "assumptions",
    "Gaps": "assumptions",
    "HedgeBoard": "board",
    "HedgeBook": "hedge_book",
    "HedgeData": "data",
    "HedgeFit": "results",
    "HedgePairs": "data",
    "Horseshoe": "noise",
    "ImportanceSampling": "importance",
    "Journal": "journal",
    "KalmanOLS": "kalman_ols",
    "KalmanRegression": "distributions",
    "Known": "assumptions",
    "LiveFilter": "live",
    "Memory": "noise",
    "Monitor": "monitor",
    "Moves": "noise",
    "NUTS": "inference",
    "OnlineBoard": "online_board",
    "OnlineFilter": "online",
    "Quarantine": "shocks",
    "RandomWalk": "assumptions",
    "Robust": "shocks",
    "Saving": "no_trade_band",
    "StateDiscount": "assumptions",
    "Weak": "assumptions",
    "Zero": "assumptions",
    "calibrate": "calibration",
    "compare": "comparison",
    "fit": "inference",
    "fit_many": "batch",
    "follow": "replay",
    "go_live": "desk",
    "hedge_effectiveness": "scores",
    "hedge_ratio_model": "models",
    "hedge_shares": "hedge_book",
    "leave_future_out": "future",
    "likelihood_surface": "surface",
    "load": "results",
    "pool": "pooling",
    "prior_and_posterior": "words",
    "prior_predictive": "words",
    "prior_sensitivity": "evidence",
    "prior_summary": "words",
    "rank_hedges": "ranking",
    "refresh": "new_noise",
    "refresh_later": "new_noise",
    "spread_health": "health",
    "static_probability": "evidence",
    "what_if": "evidence",
}

_MODULES = ("datasets", "plots", "published")

# pyright would have the names written out once more; they stand in _HOME
__all__ = [*_HOME, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"kfmodels.{name}")
    if name in _HOME:
        return getattr(import_module(f"kfmodels.{_HOME[name]}"), name)
    raise AttributeError(f"module 'kfmodels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
