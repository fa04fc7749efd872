from kfmodels.clock.clock import Elapsed as Elapsed
from kfmodels.clock.sessions import Sessions as Sessions
