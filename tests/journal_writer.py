"""A program whose writers get killed: it forks one for every line on its input.

A line holds a path, True or False for `durable`, and the journal's `compact_every`. The writer prints
its process number, then every message that was acknowledged; when it has died, the program prints
"end". It imports little, so that it is up at once and a fork costs a millisecond.
"""

import math
import os
import sys

from kfmodels.files.log import Journal

IDENTITY = "a recursion"
START = {"n": 0, "x": 1.0, "path": [1.0, 1.0, 1.0]}


def message(seq: int) -> dict:
    """What the recursion is told, the same whenever it is asked."""
    return {"u": (seq * 2654435761 % 2**32) / 7 / 2**31, "note": "é\u2028" * (seq % 5)}


def moved(state: dict, told: dict) -> dict:
    """The recursion: every bit of it depends on all messages."""
    x = 0.9 * state["x"] + math.sin(told["u"] * state["n"]) / 3
    return {"n": state["n"] + 1, "x": x, "path": [*state["path"][1:], x]}


def write(path: str, durable: bool, every: int) -> None:
    """Go on with a journal, as fast as it takes messages, until the process is killed."""
    journal = Journal.open(path, START, identity=IDENTITY, durable=durable, compact_every=every)
    state = journal.snapshot
    for _, told in journal.messages():
        state = moved(state, told)
    while True:
        told = message(journal.last_seq + 1)
        seq = journal.append(told)
        state = moved(state, told)
        os.write(1, b"%d\n" % seq)
        if journal.due:
            journal.compact(state)


if __name__ == "__main__":
    for line in sys.stdin:
        path, durable, every = line.split()
        child = os.fork()
        if child == 0:
            try:
                os.write(1, b"%d\n" % os.getpid())
                write(path, durable == "True", int(every))
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        os.write(1, b"end %d\n" % os.waitstatus_to_exitcode(status))
