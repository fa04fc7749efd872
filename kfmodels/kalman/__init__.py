"""The recursion: `step` in plain array arithmetic, `scan` over it on JAX."""
