from kfmodels.clock.clock import Elapsed as Elapsed
from kfmodels.clock.day import Place as Place
from kfmodels.clock.sessions import Sessions as Sessions
