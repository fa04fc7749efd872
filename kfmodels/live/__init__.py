"""A filter left alone with a feed, and the shares that follow from it."""

from kfmodels import _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
