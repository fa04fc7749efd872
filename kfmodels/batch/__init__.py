"""Thousands of pairs: chunks, the store that makes them resumable, the board, pooling."""
