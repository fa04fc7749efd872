"""Prices in, aligned arrays out; what is wrong with data is said here."""
