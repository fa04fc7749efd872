"""What a long call shows: in a terminal, in a notebook, in a pipe; and what Ctrl-C leaves."""

import inspect
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import kfmodels as kf
from kfmodels.cli.page import write_page
from kfmodels.words import progress
from kfmodels.words.progress import AGAIN, StoppedError, Waiting, wait_for
from tests.problems import ROWS

FIT = f"""
import kfmodels as kf
prices = kf.datasets.stocks()[["KO", "PEP"]].loc["2015":].iloc[:{ROWS}]
data = kf.HedgeData.from_prices(prices, target="KO", hedges=["PEP"])
model = kf.hedge_ratio_model(delta={{"alpha": 0.5}})
fitted = kf.fit(data, model, method=kf.ImportanceSampling())
"""
COLD = {"JAX_ENABLE_COMPILATION_CACHE": "false"}


class Terminal:
    """A process whose stderr is a terminal, and what it writes there."""

    def __init__(self, *arguments: str, folder: Path | None = None) -> None:
        self.end, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=os.environ | COLD,
            cwd=folder,
            start_new_session=True,
            # a shell that runs the tests in the background has it ignored, and children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        os.close(theirs)
        self.written = ""

    def read(self, until: str = "") -> str:
        """All up to a word, or to the end."""
        while not (until and until in self.written):
            try:
                part = os.read(self.end, 4096)
            except OSError:  # as Linux says that nobody holds the other end any more
                break
            if not part:
                break
            self.written += part.decode()
        return self.written

    def interrupt(self) -> int:
        """Ctrl-C once it compiles; the exit code."""
        assert "compiling" in self.read("compiling")
        return self.press()

    def press(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        # JAX frees memory in a callback of the garbage collector, where Python drops what is raised
        if "Exception ignored" in self.read("Exception ignored"):
            self.process.send_signal(signal.SIGINT)
            self.read()
        return self.process.wait(60)


def interrupt(*arguments: str, folder: Path | None = None) -> tuple[Terminal, int]:
    """A process that Ctrl-C ended, and its exit code.

    One in some ten is lost within JAX, which lets the call end; a user presses again, a test begins
    anew.
    """
    for _ in range(4):
        run = Terminal(*arguments, folder=folder)
        if code := run.interrupt():
            break
    return run, code


@contextmanager
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a call writes here, as if someone looked, and as often as can be."""
    found: list[str] = []
    monkeypatch.setattr(progress, "_is_watched", lambda: True)
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    monkeypatch.setattr(progress, "_EVERY", 0.001)
    monkeypatch.setattr(progress._Line, "_put", lambda _, text: found.append(text))
    yield found


def settle(found: list[str], word: str) -> None:
    """Wait until a word stands in the line."""
    begun = time.monotonic()
    while word not in "".join(found[-1:]):
        assert time.monotonic() - begun < 10, found[-3:]
        time.sleep(0.001)


# -- the line --------------------------------------------------------------------------------------


def test_the_pace_is_measured_from_the_first_step_on(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    sampling = Waiting("sampling", 10, 0, True)
    now[0] = 75.0
    assert sampling.tell() == "sampling: compiling, 1:15"
    sampling.advance(2)  # what took 75 s was mostly compilation
    now[0] = 78.0
    assert "left" not in sampling.tell()  # one step says nothing of the others
    sampling.advance(2)
    now[0] = 79.0
    # two steps in the four seconds since, six are left
    assert sampling.tell() == "sampling:  40% [########------------] 1:19, 0:12 left"
    now[0] = 3675.0
    assert sampling.finish() == "sampling: 1:01:15"


def test_what_was_done_before_is_no_pace(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    chunks = Waiting("fitting pairs", 100, 90, False)
    now[0] = 5.0
    chunks.advance(5)
    assert chunks.tell().endswith("0:05, 0:05 left")


def test_a_call_within_another_shares_its_line(monkeypatch):
    with drawn(monkeypatch) as found, wait_for("fitting KO"):
        settle(found, "fitting KO, 0:00")
        with wait_for("sampling", 4) as inner:
            settle(found, "fitting KO: sampling: compiling, 0:00")
            inner.advance()
            settle(found, "fitting KO: sampling:  25% [#####---")
        with wait_for("hidden", 4, shown=False):
            settle(found, "fitting KO, 0:00")
    assert "".join(found).endswith("\n")
    assert "".join(found).rstrip().endswith("\rfitting KO: 0:00")


def test_a_line_is_no_wider_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    inner = wait_for("sampling the noise of it", 4)
    with drawn(monkeypatch) as found, wait_for("fitting KO"), inner:
        settle(found, "sampling the noise of it: compiling, 0:")
    assert max(len(text.strip("\r\n")) for text in found) == 39


def test_a_second_call_at_a_time_writes_nothing(monkeypatch):
    begun, go = Event(), Event()

    def other() -> None:
        with wait_for("second"):
            begun.set()
            go.wait(10)

    with drawn(monkeypatch) as found, ThreadPoolExecutor(1) as pool, wait_for("first"):
        pool.submit(other)
        assert begun.wait(10)
        settle(found, "first, 0:00")
        go.set()
    assert "second" not in "".join(found)


def test_nothing_is_written_where_nobody_looks(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    with wait_for("fitting", 3) as waiting:
        time.sleep(0.02)
        waiting.advance()
    assert capsys.readouterr() == ("", "")


# -- Ctrl-C ----------------------------------------------------------------------------------------


def test_the_outermost_says_what_is_kept_and_threads_stop():
    inner: list[Waiting] = []

    def work() -> None:
        with wait_for("outer", kept=lambda: "half of it is kept"), wait_for("inner", 3) as waiting:
            inner.append(waiting)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        work()
    assert caught.value.args == ("half of it is kept",)
    with pytest.raises(StoppedError):
        inner[0].advance()


@pytest.mark.slow
def test_chains_that_were_interrupted_stop_at_their_next_block():
    """Of four million iterations, which would take an hour."""
    code = FIT.replace("ImportanceSampling()", "NUTS(warmup=1_000_000, chains=4)")
    run = Terminal("-c", code)
    assert "10%" not in run.read("sampling the noise:   0%")
    assert run.press() == -signal.SIGINT
    assert run.written.strip().endswith(f"KeyboardInterrupt: {AGAIN}")


# -- a fit -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fit_in_a_terminal_says_that_it_compiles_and_how_long_it_took():
    run = Terminal("-c", FIT + "print(fitted)")
    lines = [line.strip() for line in run.read().split("\r") if line.strip()]
    assert run.process.wait(60) == 0, run.written
    assert lines[0] == "fitting KO: sampling the noise: compiling, 0:01"
    assert re.fullmatch(r"fitting KO: 0:\d\d", lines[-1])
    assert run.process.stdout is not None
    shown = run.process.stdout.read().decode()
    assert shown.startswith("KO hedged with PEP")
    assert "compiling" not in shown


def test_ctrl_c_in_a_fit_is_a_keyboard_interrupt_with_a_sentence():
    run, code = interrupt("-c", FIT)
    assert code == -signal.SIGINT, run.written
    assert run.written.strip().endswith(f"KeyboardInterrupt: {AGAIN}")


@pytest.mark.slow
def test_ctrl_c_in_the_shell_leaves_a_sentence_and_no_traceback(tmp_path):
    kf.datasets.stocks()[["KO", "PEP"]].loc["2015"].to_csv(tmp_path / "prices.csv")
    command = ["fit", "prices.csv", "--target", "KO", "--hedges", "PEP", "--out", "y.nc"]
    run, code = interrupt("-m", "kfmodels", *command, folder=tmp_path)
    assert code == 130
    assert "Traceback" not in run.written
    assert run.written.strip().endswith(f"interrupted: {AGAIN}")
    assert not (tmp_path / "y.nc").exists()


@pytest.mark.nightly
def test_a_fit_in_a_notebook_shows_text(monkeypatch):
    monkeypatch.setenv(*next(iter(COLD.items())))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(FIT)])
    NotebookClient(book, timeout=300, kernel_name="python3").execute()
    outputs = book.cells[0].outputs  # one a message
    assert {(output.output_type, output.name) for output in outputs} == {("stream", "stderr")}
    shown = "".join(output.text for output in outputs)
    assert shown.startswith("\rfitting KO: sampling the noise: compiling, 0:01")
    assert re.search(r"\rfitting KO: 0:\d\d *\n$", shown)


# -- all that take long ----------------------------------------------------------------------------

LONG: list[Callable[..., Any]] = [
    *[kf.fit, kf.fit_many, kf.pool, kf.refresh, kf.follow, kf.compare, kf.hedge_effectiveness],
    *[kf.hedge_universe, kf.rank_hedges, kf.HedgeFit.what_if, kf.HedgeFit.static_probability],
    *[kf.HedgeFit.likelihood_surface, kf.evaluate.what_if, kf.evaluate.static_probability],
    *[kf.evaluate.likelihood_surface, kf.evaluate.calibrate, kf.evaluate.leave_future_out],
    *[kf.evaluate.compare_motions, kf.evaluate.prior_predictive, kf.evaluate.published.table],
    *[kf.evaluate.prior_sensitivity, kf.HedgeFit.prior_sensitivity, write_page],
]


@pytest.mark.parametrize("call", LONG, ids=lambda call: call.__qualname__)
def test_each_is_silenced_by_the_same_word(call):
    asked = inspect.signature(call).parameters["progress"]
    assert (asked.default, asked.kind) == (True, asked.KEYWORD_ONLY)
    assert asked.annotation in (bool, "bool")
