"""What a process that fits pairs makes sure of first: it can fit, and it ends with its driver."""

import multiprocessing
import os
from threading import Thread

from kfmodels.fitting.forks import check_process

_drives = False


def begin_to_drive() -> None:
    """Say that `fit_many` runs in this process.

    Raises:
        ValueError: as `check_process`.
    """
    global _drives
    check_process()
    _drives = True


def begin_to_work() -> None:
    """End this process when that of the driver has ended, if it is another.

    A worker of a `ProcessPoolExecutor` holds both ends of the pipe that it takes its work from, so it
    would wait for ever for a driver that was killed.

    Raises:
        ValueError: as `check_process`.
    """
    check_process()
    parent = multiprocessing.parent_process()
    if parent is None or _drives:
        return

    def outlive() -> None:
        parent.join()
        os._exit(1)  # chunks are written atomically, so one that is cut short is done again

    Thread(target=outlive, name="kfmodels: wait for the driver", daemon=True).start()
