"""The hedge of a whole universe: every asset against all others, one update a row.

Imports NumPy only, so that the trading process needs no JAX.
"""

from kfmodels import _attach  # pyright: ignore[reportPrivateUsage]

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
