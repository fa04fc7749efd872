"""The hedge of a whole universe: every asset against all others, one update a row.

Imports NumPy only, so that the trading process needs no JAX.
"""
