"""From data to a fit: `fit`, `HedgeFit` and its tree, and new noise for a live filter."""
