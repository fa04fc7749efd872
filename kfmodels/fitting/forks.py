"""Whether a fit can run here: not in a process that was forked after JAX had run in its parent.

The threads of XLA are not copied by a fork, and the child would wait for them for ever.
"""

import os

_without_threads = False  # set in a child, by the hook below


def check_process() -> None:
    """Raise where a fit would hang.

    Raises:
        ValueError: this process was forked from one in which JAX had run.
    """
    if _without_threads:
        raise ValueError(
            "this process was forked from one in which JAX had run, and a fit would wait for ever for "
            "threads that were left behind there: start processes anew, "
            'ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))'
        )


def _note_fork() -> None:
    global _without_threads
    try:
        from jax._src.xla_bridge import backends_are_initialized
    except ImportError:  # no public name says it
        _without_threads = True
    else:
        _without_threads = backends_are_initialized()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
