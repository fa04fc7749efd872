from kfmodels.batch.pooling import Pooled as Pooled
