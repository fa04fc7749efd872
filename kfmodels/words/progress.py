"""What a call that takes long shows while it runs, and what Ctrl-C leaves of it.

One line on stderr, in a terminal and in a notebook, and none where nobody looks: in a pipe or a log. It
is plain text, so that a notebook that is saved holds no widget. A call within another shares its line.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from threading import Event, Lock, Thread
from typing import Any

from kfmodels.words.shown import WIDTH

_AFTER, _EVERY = 1.0, 0.5
"""Seconds until a call shows a line, since most are over by then, and between two looks at it."""

_SURE = 2.0
"""Seconds that the pace is measured over before it says how much is left."""

AGAIN = "nothing is kept; run it again to begin anew"


class StoppedError(Exception):
    """The call that a thread works for was interrupted."""


class Waiting:
    """Something that is waited for: how far it is, and how long it will take.

    Until its first step has ended it says that it compiles; the pace is measured from then on.
    """

    def __init__(self, what: str, total: int | None, done: int, compiles: bool) -> None:
        self.what, self.total, self.done = what, total, done
        self.stopped = False
        self._began, self._lock = time.monotonic(), Lock()
        self._since = None if compiles else (self._began, done)

    def advance(self, steps: int = 1) -> None:
        """Say that so many steps more are done; from any thread.

        Raises:
            StoppedError: the call was interrupted, and this thread has nothing left to work for.
        """
        if self.stopped:
            raise StoppedError
        with self._lock:
            self.done += steps
            if self._since is None:
                self._since = time.monotonic(), self.done

    def outline(self) -> str:
        """What it is, in short, before what a call within it shows."""
        return f"{self.what}: " if self.total is None else f"{self.what}, {self._share():.0%}: "

    def tell(self) -> str:
        """How far it is."""
        now = time.monotonic()
        took = _say_span(now - self._began)
        if self.total is None:
            return f"{self.what}, {took}"
        if self._since is None:
            return f"{self.what}: compiling, {took}"
        since, first = self._since
        measured, gone = now - since, self.done - first
        line = f"{self.what}: {self._share():4.0%} [{'#' * int(20 * self._share()):-<20}] {took}"
        if gone > 0 and measured >= _SURE:
            line += f", {_say_span(measured * (self.total - self.done) / gone)} left"
        return line

    def finish(self) -> str:
        """How long it took."""
        return f"{self.what}: {_say_span(time.monotonic() - self._began)}"

    def _share(self) -> float:
        return self.done / max(self.total or 1, 1)


class _Line:
    """The line that a call and those within it share, the outermost first."""

    def __init__(self) -> None:
        self.held: list[Waiting] = []
        self._wide, self._over = 0, Event()
        self._thread = Thread(target=self._keep_writing, name="kfmodels: progress", daemon=True)

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Write it until what is in here has ended."""
        # a second call, in another thread, would write over the line of the first
        if not _is_watched() or not _drawing.acquire(blocking=False):
            yield
            return
        try:
            self._thread.start()
            yield
        finally:
            self._over.set()
            self._thread.join()
            if self._wide:
                self._write(self.held[0].finish())
                self._put("\n")
            _drawing.release()

    def _keep_writing(self) -> None:
        wait = _AFTER
        while not self._over.wait(wait):
            *outer, last = list(self.held)
            self._write("".join(one.outline() for one in outer) + last.tell(), last.tell())
            wait = _EVERY

    def _write(self, *texts: str) -> None:
        """Write the first text that fits, over the one before."""
        # the last column stays free, or some terminals would begin a new line
        room = shutil.get_terminal_size((WIDTH + 1, 24)).columns - 1
        text = next((text for text in texts if len(text) <= room), texts[-1][:room])
        self._put("\r" + text.ljust(self._wide))
        self._wide = len(text)

    def _put(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that was closed stops no call
            sys.stderr.write(text)
            sys.stderr.flush()


_open: ContextVar[_Line | None] = ContextVar("_open", default=None)
_drawing = Lock()


@contextmanager
def wait_for(
    what: str,
    total: int | None = None,
    *,
    done: int = 0,
    shown: bool = True,
    compiles: bool = True,
    kept: str | Callable[[], str] = AGAIN,
) -> Iterator[Waiting]:
    """Show how far something is while it runs, where it takes over a second and someone looks.

    Args:
        what: in a few words, as "sampling the noise".
        total: steps that it takes; `advance` counts them. Where None it shows how long it has taken.
        done: steps that were done before.
        shown: the `progress` of the public call.
        compiles: whether its first step compiles, which says nothing of how long the others take.
        kept: a sentence for Ctrl-C, what is kept and how to go on; a KeyboardInterrupt leaves with that
            of the outermost call.
    """
    line = _open.get()
    waiting = Waiting(what, total, done, compiles)
    try:
        if line is not None:
            with _held(line, waiting) if shown else nullcontext():
                yield waiting
            return
        line = _Line()
        line.held.append(waiting)
        token = _open.set(line)
        try:
            with line.drawn() if shown else nullcontext():
                yield waiting
        finally:
            _open.reset(token)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (kept() if callable(kept) else kept,)
        raise
    finally:
        waiting.stopped = True


@contextmanager
def _held(line: _Line, waiting: Waiting) -> Iterator[None]:
    line.held.append(waiting)
    try:
        yield
    finally:
        line.held.remove(waiting)


def _is_watched() -> bool:
    """Whether someone reads stderr as it is written: at a terminal, or in a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    ipython: Any = sys.modules.get("IPython")  # loaded before any code of a notebook runs
    return hasattr(ipython, "get_ipython") and hasattr(ipython.get_ipython(), "kernel")


def _say_span(seconds: float) -> str:
    """A time as a clock counts it: 0:07, 12:30, 1:00:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
