"""The hedge of a whole universe: tables of its legs, and the net hedge of a book."""
