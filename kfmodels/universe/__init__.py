"""The hedge of a whole universe: tables of its legs, and the net hedge of a book."""

from kfmodels import _attach  # pyright: ignore[reportPrivateUsage]

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
