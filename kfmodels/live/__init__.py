"""A filter that runs unattended on a feed, and the shares that follow from its hedge ratio.

Imports NumPy only, so that the trading process needs no JAX.
"""

from kfmodels import _attach  # pyright: ignore[reportPrivateUsage]

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
