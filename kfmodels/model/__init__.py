"""Priors on the noise, assumptions about drift, noise and start, and the NumPyro model of them."""

from kfmodels import _attach

__getattr__, __dir__, __all__ = _attach(__name__, __file__)
