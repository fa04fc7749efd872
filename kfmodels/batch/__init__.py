"""Thousands of pairs: chunks, the store that makes them resumable, the board, pooling."""

from kfmodels import _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
