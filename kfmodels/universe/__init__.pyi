from kfmodels.universe.engine import LiveBasket as LiveBasket
from kfmodels.universe.engine import LiveTick as LiveTick
from kfmodels.universe.engine import Said as Said
from kfmodels.universe.universe import HedgeUniverse as HedgeUniverse
