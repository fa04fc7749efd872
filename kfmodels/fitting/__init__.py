"""From data to a fit: `fit`, `HedgeFit` and its tree, and new noise for a live filter."""

from kfmodels import _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
