"""Priors in words, assumptions about drift and noise, and the NumPyro model of them."""
