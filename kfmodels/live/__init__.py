"""A filter left alone with a feed, and the shares that follow from it."""
