"""Draws of the noise from its posterior: NUTS, and one importance sampler."""
