from kfmodels.fitting.refresh import Refresh as Refresh
