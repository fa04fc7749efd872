"""Pictures that ArviZ lacks: each function returns a matplotlib `Figure` and opens no window."""

from kfmodels.plots.board import board, heat_map
from kfmodels.plots.live import alarms, open_hedges
from kfmodels.plots.pair import hedge_ratio_and_spread, spreads
from kfmodels.plots.priors import likelihood, memories, plausible_paths, sensitivity
from kfmodels.plots.reversion import reversion
from kfmodels.plots.scores import calibration, effectiveness, forecasts, published_bands
from kfmodels.plots.universe import target_hedge, universe_map

__all__ = [
    "alarms",
    "board",
    "calibration",
    "effectiveness",
    "forecasts",
    "heat_map",
    "hedge_ratio_and_spread",
    "likelihood",
    "memories",
    "open_hedges",
    "plausible_paths",
    "published_bands",
    "reversion",
    "sensitivity",
    "spreads",
    "target_hedge",
    "universe_map",
]


def __dir__() -> list[str]:
    return __all__
