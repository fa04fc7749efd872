from kfmodels.model.assumptions import RandomWalk as RandomWalk
from kfmodels.model.hedge_ratio import HedgeRatioModel as HedgeRatioModel
from kfmodels.model.priors import Absolute as Absolute
from kfmodels.model.starts import Diffuse as Diffuse
from kfmodels.model.starts import Few as Few
from kfmodels.model.starts import Known as Known
from kfmodels.model.starts import Weak as Weak
from kfmodels.model.starts import Zero as Zero
