"""Open time and closed periods, worked out from time stamps.

Imports NumPy only, so that the trading process needs no JAX.
"""

from kfmodels import _attach  # pyright: ignore[reportPrivateUsage]

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
