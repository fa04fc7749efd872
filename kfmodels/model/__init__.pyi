from kfmodels.model.assumptions import Diffuse as Diffuse
from kfmodels.model.assumptions import Known as Known
from kfmodels.model.assumptions import RandomWalk as RandomWalk
from kfmodels.model.assumptions import Weak as Weak
from kfmodels.model.assumptions import Zero as Zero
from kfmodels.model.hedge_ratio import HedgeRatioModel as HedgeRatioModel
from kfmodels.model.priors import Absolute as Absolute
