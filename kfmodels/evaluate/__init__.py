"""Whether the answer is the data's or the prior's, and what it was worth."""

from kfmodels import _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
