"""Whose answer is it, the data's or the prior's, and what was it worth."""
