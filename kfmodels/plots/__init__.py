"""Pictures that ArviZ lacks; each function returns a matplotlib `Figure` and shows nothing itself."""

from kfmodels.plots.board import board as board
from kfmodels.plots.board import heat_map as heat_map
from kfmodels.plots.live import alarms as alarms
from kfmodels.plots.live import open_hedges as open_hedges
from kfmodels.plots.pair import hedge_ratio_and_spread as hedge_ratio_and_spread
from kfmodels.plots.pair import spreads as spreads
from kfmodels.plots.priors import likelihood as likelihood
from kfmodels.plots.priors import memories as memories
from kfmodels.plots.priors import plausible_paths as plausible_paths
from kfmodels.plots.priors import sensitivity as sensitivity
from kfmodels.plots.scores import calibration as calibration
from kfmodels.plots.scores import effectiveness as effectiveness
from kfmodels.plots.scores import forecasts as forecasts
from kfmodels.plots.scores import published_bands as published_bands
