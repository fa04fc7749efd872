"""What the shell compiled is kept for its next call."""

import os
import platform

from platformdirs import user_cache_path

_MOST = 512 * 2**20
"""Bytes of the folder, from which on the programs used least lately are deleted."""


def keep_programs() -> None:
    """Tell JAX, before it is imported, to keep its programs in a folder of this user and machine.

    Two processes may use it at once, for JAX locks a folder whose size has a bound. A setting of the
    user's own is left alone, and so is a home that cannot be written to.
    """
    # a folder for each machine: a home may be shared, and a program fits one kind of processor
    folder = user_cache_path("kfmodels") / f"programs-{platform.node()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(_MOST),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if settings.keys().isdisjoint(os.environ):
        os.environ.update(settings)
