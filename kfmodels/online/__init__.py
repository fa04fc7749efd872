"""One tick, of one pair or of all pairs of a board."""
