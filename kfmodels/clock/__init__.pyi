from kfmodels.clock.clock import Elapsed as Elapsed
