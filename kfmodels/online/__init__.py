"""One tick, of one pair or of all pairs of a board."""

from kfmodels import _attach  # pyright: ignore[reportPrivateUsage]

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
