"""What one worker, notebook or command has compiled need not be compiled by the others.

Import it before JAX.
"""

import os
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(FOLDER))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
