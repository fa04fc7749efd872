"""How fast kfmodels is, each figure a ratio to another package in the same run.

`uv run --group bench python -m tests.benchmarks [--out FILE.json] [--only WORD] [--rounds N]`

Two packages are timed only after they have returned the same numbers.
"""
