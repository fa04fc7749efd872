from kfmodels.basket.basket import Basket as Basket
from kfmodels.basket.ticks import BasketTick as BasketTick
from kfmodels.basket.ticks import Forecast as Forecast
from kfmodels.basket.ticks import Said as Said
