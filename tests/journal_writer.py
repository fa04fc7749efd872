"""Programs that write and get killed: one forks a writer for every line on its input.

A writer prints its process number, then a number for everything that was acknowledged; when it has
died, the program prints "end". It imports before it forks, so that a fork costs a millisecond.
"""

import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kfmodels.files.log import Journal

ROOT = Path(__file__).parents[1]
IDENTITY = "a recursion"
PIPED = 10_000
"""Lines that a pipe has for `kfmodels live`."""
START = {"n": 0, "x": 1.0, "path": [1.0, 1.0, 1.0]}


def message(seq: int) -> dict:
    """What the recursion is told, the same whenever it is asked."""
    return {"u": (seq * 2654435761 % 2**32) / 7 / 2**31, "note": "é\u2028" * (seq % 5)}


def moved(state: dict, told: dict) -> dict:
    """The recursion: every bit of it depends on all messages."""
    x = 0.9 * state["x"] + math.sin(told["u"] * state["n"]) / 3
    return {"n": state["n"] + 1, "x": x, "path": [*state["path"][1:], x]}


def write_journal(path: str, durable: str, every: str) -> None:
    """Go on with a journal, as fast as it takes messages, until the process is killed."""
    settings = {"durable": durable == "True", "compact_every": int(every)}
    journal = Journal.open(path, START, identity=IDENTITY, **settings)
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


@cache
def store_job() -> tuple[Any, Any]:
    """A job of twenty pairs, one a chunk, and the pairs."""
    from kfmodels.batch.store import describe_pairs
    from kfmodels.data.hedge_data import HedgeData

    logs = np.random.default_rng(0).normal(size=(60, 20)).cumsum(0) / 100
    names = [f"T{number}" for number in range(20)]
    pairs = HedgeData.all_pairs(pd.DataFrame(np.exp(logs), columns=names))
    return {"seed": 1, "chunk_size": 1} | describe_pairs(pairs), pairs


def store_chunk(number: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays and status of a chunk, the same whenever it is asked."""
    return {"points": np.full((1, 2000), np.pi * number)}, [f"pair {number}"]


def write_store(path: str) -> None:
    """Go on with a batch, as fast as it takes chunks, until the process is killed."""
    from kfmodels.batch.store import hold_store

    with hold_store(path, *store_job()) as writer:
        done = writer.store.records()
        for number in range(len(writer.store.chunks)):
            if number not in done:
                writer.add(writer.store.write(number, *store_chunk(number)))
                os.write(1, b"%d\n" % number)
        time.sleep(60)


@cache
def basket_job() -> tuple[dict[str, Any], list[dict[str, float]]]:
    """A basket that has legs, as a document, and rows to go on with: bad prints and holes in them."""
    from kfmodels.basket.basket import Basket
    from tests.basket.conftest import TICKERS, draw_moves, feed, prices_of

    prices = prices_of(draw_moves(1, 270))
    basket = Basket(TICKERS)
    feed(basket, prices)
    rows = prices[-1] * np.exp(np.cumsum(draw_moves(9, 2000), 0))
    rows[6::13, 3] *= 1.4
    rows[3::7, 1] = np.nan
    return basket.to_json(), [dict(zip(TICKERS, row.tolist(), strict=True)) for row in rows]


def write_basket(path: str) -> None:
    """Go on with a live filter round a basket, as fast as it takes rows, until it is killed."""
    from kfmodels.basket.basket import Basket
    from kfmodels.live.feed import LiveFilter

    document, rows = basket_job()
    live = LiveFilter(Basket.from_json(document), journal=path)
    for number in range(live.seq, len(rows)):
        signal = live.tick(rows[number], at=1000 + number)
        os.write(1, b"%d\n" % signal.seq)
    time.sleep(60)


def write_pipe(path: str) -> None:
    """`kfmodels live` with a journal, on lines from where the journal stands, until it is killed."""
    from kfmodels.cli.cli import app
    from tests.made_filters import feed, made_filter

    saved, rows = Path(f"{path}.json"), feed(PIPED)
    if not saved.exists():
        made_filter().save(saved)
    done = Journal.read(path).last_seq if os.path.exists(path) else 0
    given = Path(f"{path}.lines")
    lines = ({"at": at.isoformat(), "prices": prices} for prices, at in rows[done:])
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with given.open() as source:
        os.dup2(source.fileno(), 0)
    sys.stdin = os.fdopen(0)
    app(["live", str(saved), "--journal", path], standalone_mode=False)
    time.sleep(60)


@contextmanager
def writers(kind: str) -> Generator[subprocess.Popen]:
    """The program, of writers of one kind."""
    server = subprocess.Popen(
        [sys.executable, __file__, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert server.stdin is not None
    with server:
        yield server
        server.stdin.close()
        assert server.wait(10) == 0


def acknowledged(
    server: subprocess.Popen,
    order: str,
    seconds: float,
    number: Callable[[str], int] = int,
    *,
    after: int = 0,
) -> list[int]:
    """What a new writer said was there before SIGKILL came, so many seconds `after` so many lines;
    `number` reads a line that it said."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(order.encode() + b"\n")
    server.stdin.flush()
    descriptor, read = server.stdout.fileno(), b""
    while read.count(b"\n") <= after:
        read += os.read(descriptor, 65536)
    writer, end = int(read.split(b"\n")[0]), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            read += os.read(descriptor, 65536)
    os.kill(writer, signal.SIGKILL)
    while b"end" not in read or not read.endswith(b"\n"):
        read += os.read(descriptor, 65536)
    *lines, last = read.decode().splitlines()
    assert last == f"end {-signal.SIGKILL}"
    return [number(line) for line in lines[1:]]


@contextmanager
def file_limit(size: int) -> Generator[None]:
    """In this process no file grows beyond so many bytes: as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


if __name__ == "__main__":
    kinds = {"journal": write_journal, "store": write_store, "basket": write_basket}
    write = (kinds | {"pipe": write_pipe})[sys.argv[1]]
    if write in (write_store, write_basket):
        {write_store: store_job, write_basket: basket_job}[write]()  # before a writer is forked
    if write is write_pipe:
        import kfmodels.cli.cli
        import kfmodels.universe.saved  # noqa: F401
        from kfmodels.online.compiled import find_kernels

        find_kernels()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                os.write(1, b"%d\n" % os.getpid())
                write(*line.split())
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        os.write(1, b"end %d\n" % os.waitstatus_to_exitcode(status))
