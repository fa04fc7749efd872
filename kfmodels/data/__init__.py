"""Prices in, aligned arrays out, and every complaint about data."""
