"""Whose answer is it, the data's or the prior's, and what was it worth."""

from kfmodels import _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
