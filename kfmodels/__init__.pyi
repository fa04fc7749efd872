from collections.abc import Callable

from kfmodels import evaluate as evaluate
from kfmodels import live as live
from kfmodels import model as model
from kfmodels import plots as plots
from kfmodels.batch.board import HedgeBoard as HedgeBoard
from kfmodels.batch.fit_many import fit_many as fit_many
from kfmodels.batch.pooling import pool as pool
from kfmodels.batch.ranking import rank_hedges as rank_hedges
from kfmodels.clock.clock import Clock as Clock
from kfmodels.data import datasets as datasets
from kfmodels.data.hedge_data import HedgeData as HedgeData
from kfmodels.data.hedge_pairs import HedgePairs as HedgePairs
from kfmodels.evaluate.compare import compare as compare
from kfmodels.evaluate.effectiveness import hedge_effectiveness as hedge_effectiveness
from kfmodels.fitting.fit import fit as fit
from kfmodels.fitting.hedge_fit import HedgeFit as HedgeFit
from kfmodels.fitting.hedge_fit import load as load
from kfmodels.fitting.refresh import refresh as refresh
from kfmodels.kalman.regression import KalmanRegression as KalmanRegression
from kfmodels.live.feed import LiveFilter as LiveFilter
from kfmodels.model.anchored import Anchored as Anchored
from kfmodels.model.assumptions import Constant as Constant
from kfmodels.model.assumptions import Discounted as Discounted
from kfmodels.model.assumptions import Gaps as Gaps
from kfmodels.model.assumptions import StateDiscount as StateDiscount
from kfmodels.model.hedge_ratio import hedge_ratio_model as hedge_ratio_model
from kfmodels.model.parts import Reverting as Reverting
from kfmodels.model.parts import Scales as Scales
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
from kfmodels.universe.universe import hedge_universe as hedge_universe

def _attach(
    package: str, file: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]: ...
