from kfmodels.online.shocks import Hold as Hold
from kfmodels.online.shocks import Shocks as Shocks
from kfmodels.online.shocks import Verdict as Verdict
from kfmodels.online.ticks import BoardTick as BoardTick
from kfmodels.online.ticks import FairValue as FairValue
from kfmodels.online.ticks import Outcome as Outcome
from kfmodels.online.ticks import Predictive as Predictive
from kfmodels.online.ticks import Tick as Tick
