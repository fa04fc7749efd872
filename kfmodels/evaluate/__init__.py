"""Whether an answer comes from the data or from the prior, and what it was worth on later dates."""

from kfmodels import _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
