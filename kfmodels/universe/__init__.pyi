from kfmodels.universe.book_hedge import BookHedge as BookHedge
from kfmodels.universe.netting import hedge_book as hedge_book
from kfmodels.universe.universe import HedgeUniverse as HedgeUniverse
