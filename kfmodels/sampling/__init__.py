"""Draws of the noise: NUTS, and one importance sampler."""
