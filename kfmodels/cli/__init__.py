"""The commands of the shell, and the text and pages that they print.

What needs JAX or pandas is imported inside the commands: `--help` and a wrong option answer at once,
and `live` runs a saved filter where JAX is not installed.
"""
