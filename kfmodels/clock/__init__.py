"""Open time and closed periods, read off time stamps."""

from kfmodels import _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
