"""`kfmodels live`: a fitted filter between two pipes, for platforms in any language.

One file: a line is read, answered and kept by one loop.
"""

import json
import os
import select
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO, TypedDict

import typer

from kfmodels.cli.cli_update import kept_path, load_kept
from kfmodels.cli.remedies import for_the_shell
from kfmodels.cli.shell import Calendar, as_json, find_fit, read_clock, say
from kfmodels.live.settings import shorten

if TYPE_CHECKING:
    from kfmodels.clock.clock import Clock
    from kfmodels.live.feed import LiveFilter
    from kfmodels.live.signals import Signal
    from kfmodels.online.shocks import Shocks


SHOWN = 40
"""Characters of a line without sense that are shown."""

LONGEST = 2**22
"""Characters of a line, 100,000 prices; what follows of a longer one is passed over unread."""

EXAMPLE = '{"at": "2024-03-01T09:31:00-05:00", "prices": {"XLE": 88.1, "SPY": 512.3}}'


class _Settings(TypedDict):
    """Settings of `LiveFilter` that options give."""

    max_staleness: timedelta
    journal: Path | None
    survives: Literal["kill", "power-cut"]
    accept_loss: bool
    max_ahead: timedelta | int


def live(
    fitted: Annotated[
        Path,
        typer.Argument(
            metavar="FIT",
            callback=find_fit,
            help="A saved fit; or a filter saved by fit.online().save() or a universe by kfmodels "
            "universe --save, which need no JAX.",
        ),
    ],
    journal: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps every message; if it exists, the filter goes on from it."
        ),
    ] = None,
    bar: Annotated[
        str | None,
        typer.Option(help='Length of a bar ("1min"); without it each new time is a bar.'),
    ] = None,
    calendar: Calendar = None,
    max_staleness: Annotated[
        float, typer.Option(help="Greatest age of the price of a leg, in seconds.")
    ] = 0.0,
    shocks: Annotated[
        Literal["quarantine", "robust", "none"],
        typer.Option(help="What to do with a price far from its forecast."),
    ] = "quarantine",
    limit: Annotated[
        float | None, typer.Option(help="Distance that counts as far, in sds of the forecast.")
    ] = None,
    survives: Annotated[
        Literal["kill", "power-cut"],
        typer.Option(
            help="What no answered message of the journal is lost by: a kill, or also a power cut, for "
            "which each answer waits for the disk."
        ),
    ] = "kill",
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Go on with a journal in which answered messages are missing."
        ),
    ] = False,
    max_ahead: Annotated[
        float, typer.Option(help="Days after the last time up to which the next may come.")
    ] = 31.0,
    max_step: Annotated[
        int | None, typer.Option(help="The same where times are whole numbers, in their unit.")
    ] = None,
) -> None:
    """Read messages from the standard input, one JSON object a line, and answer each with one.

    In: {"at": "2024-03-01T09:31:00-05:00", "prices": {"XLE": 88.1, "SPY": 512.3}}, or
    {"at": ..., "rescale": {"XLE": 0.5}} after a split, {"at": ..., "adjust": {"XLE": -0.4}} on the
    ex-day of a dividend of 0.4. Out: the record of `Signal`, with "schema": 2.
    A line that cannot be read is answered as rejected. SIGTERM ends it once the message at hand
    is answered.
    """
    settings = _Settings(
        max_staleness=timedelta(seconds=max_staleness),
        journal=journal,
        survives=survives,
        accept_loss=accept_loss,
        max_ahead=timedelta(days=max_ahead) if max_step is None else max_step,
    )
    running = _running(fitted, _policy(shocks, limit), read_clock(bar, calendar), settings)
    say(for_the_shell(running.started), err=True)
    for sentence in running.overruled:
        say(f"{journal}: {sentence}", err=True)
    # a broken pipe: who read the answers has gone, and nobody is left to be told
    with running, _stoppable() as lines, suppress(BrokenPipeError):
        for number, line in enumerate(lines(sys.stdin), 1):
            line = line.lstrip("\ufeff")  # a byte order mark, with which files of Windows begin
            if not line.strip():
                continue
            answer = _answer(running, line, number).record() | _held(running)
            sys.stdout.write(as_json(answer) + "\n")
            sys.stdout.flush()


def _answer(running: "LiveFilter", line: str, number: int) -> "Signal":
    """The answer of the filter to one line."""
    from kfmodels.online.ticks import Outcome

    try:
        message = _object(line)
        given = [kind for kind in ("prices", "rescale", "adjust") if kind in message]
        if not given or "at" not in message:
            raise ValueError(
                'a message has "at", and "prices", "rescale" or "adjust": '
                '{"at": "2024-03-12T09:35-04:00", "prices": {"XLE": 88.1, "SPY": 512.3}}'
            )
        if len(given) > 1:
            raise ValueError(
                f"a message has one of {', '.join(given)}, not several: send a line for each, and "
                "prices in new units after the line that says so"
            )
        if "rescale" in message:
            return running.rescale(message["rescale"], at=message["at"])
        if "adjust" in message:
            return running.adjust(message["adjust"], at=message["at"])
        return running.tick(message["prices"], at=message["at"])
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        return running.standing(Outcome.REJECTED, f"line {number}: {shorten(str(error))}")


def _held(running: "LiveFilter") -> dict[str, object]:
    """Of a universe, the ratios to hold by target and hedge; those of a fit stand in its record."""
    from kfmodels.basket.basket import Basket

    engine = running.engine
    return {"ratios": engine.held()} if isinstance(engine, Basket) else {}


def _object(line: str) -> dict[str, Any]:
    """The JSON object that a line is."""
    if len(line) > LONGEST:
        raise ValueError(f"it has more than {LONGEST:,} characters, which no message has")
    message = None
    with suppress(ValueError, RecursionError):
        message = json.loads(line)
    if not isinstance(message, dict):
        start = line.strip()
        start = start if len(start) <= SHOWN else f"{start[:SHOWN]} ..."
        raise ValueError(f"{start!r} is no JSON object, such as {EXAMPLE}")
    return message


@contextmanager
def _stoppable() -> Iterator[Callable[[TextIO], Iterator[str]]]:
    """A function from a stream to its lines until SIGTERM; a line once read is answered first."""
    stop = False

    def on_signal(*_: object) -> None:
        nonlocal stop
        stop = True

    # a signal leaves a byte in this pipe, which ends the wait in `select`; an exception out of the
    # handler could come between reading a line and answering it, and the line would be lost
    woken, waker = os.pipe()
    os.set_blocking(waker, False)

    def lines(stream: TextIO) -> Iterator[str]:
        try:
            source = stream.fileno()
        except OSError:  # text from memory, for which nobody has to wait
            while not stop and (line := stream.readline()):
                yield line
            return
        # chunks of the line whose end has not come; adding each to one text would take time in the
        # square of its length
        begun: list[bytes] = []
        ended: deque[bytes] = deque()
        more, length = True, 0
        while not stop and (more or ended):
            while more and not ended:
                ready, _, _ = select.select([source, woken], [], [])
                if woken in ready:
                    os.read(woken, 512)
                if stop:
                    return
                if source in ready:
                    chunk = os.read(source, 65536)
                    more = bool(chunk)
                    *ends, rest = chunk.split(b"\n") if more else (b"", b"")
                    for end in ends:
                        ended.append(b"".join([*begun, end]))
                        begun.clear()
                        length = 0
                    if length <= LONGEST:
                        begun.append(rest)
                        length += len(rest)
            yield ended.popleft().decode(errors="replace")

    usual = signal.signal(signal.SIGTERM, on_signal)
    before = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    try:
        yield lines
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGTERM, usual)
        os.close(woken)
        os.close(waker)


def _running(
    fitted: Path, policy: "Shocks | None", clock: "Clock | None", settings: _Settings
) -> "LiveFilter":
    """The live filter of a saved filter, or of a saved fit."""
    if fitted.suffix == ".json":
        from kfmodels.live.feed import LiveFilter
        from kfmodels.online.filter import OnlineFilter
        from kfmodels.universe.saved import is_universe, load_engine

        if is_universe(fitted):
            return LiveFilter(load_engine(fitted, _guard(policy)), clock=clock, **settings)
        engine = OnlineFilter.load(fitted)
        engine.shocks = policy
        if clock is not None:
            say(
                f"{fitted} does not say by which bar its noise was inferred: it is taken to be "
                f"{clock.bar}",
                err=True,
            )
        return LiveFilter(engine, clock=clock, **settings)
    from kfmodels.fitting.hedge_fit import load_fit

    fit, journal = load_fit(fitted), settings["journal"]
    begun = journal is not None and journal.exists()
    running = fit.go_live(shocks=policy, clock=clock, **settings)
    say(_tell_start(fitted, running, journal, begun), err=True)
    return running


def _tell_start(fitted: Path, running: "LiveFilter", journal: Path | None, begun: bool) -> str:
    """Go on from what `kfmodels update` learnt, unless a journal was begun, and say which it is."""
    from kfmodels.data.checks import day
    from kfmodels.live.settings import tell_start

    kept, own = load_kept(fitted), journal or "memory only"
    if begun:
        at = str(running.engine.at).removesuffix("T00:00:00")
        start = f"goes on from {journal}, up to {at}"
        start += f" and not from {kept_path(fitted)}" if kept else ""
    elif kept:
        kept.shocks = running.engine.shocks
        running.replace(kept)
        running.started = tell_start(journal, running.seq, kept.at)
        start = f"goes on from {kept_path(fitted)}, up to {day(kept.at)}"
    else:
        start = f"starts after the training rows, up to {day(running.engine.at)}"
    return f"{fitted}: {start}; what it learns stays in {own}, kfmodels update does not see it"


def _policy(shocks: str, limit: float | None) -> "Shocks | None":
    from kfmodels.online.shocks import Quarantine, Robust

    if shocks == "none":
        if limit is not None:
            raise ValueError("--limit has no meaning with --shocks none")
        return None
    kind = Quarantine if shocks == "quarantine" else Robust
    return kind() if limit is None else kind(limit)


def _guard(policy: "Shocks | None") -> "Shocks | None":
    """The policy for a universe, which takes a split for real in the second row of new prices."""
    from dataclasses import replace

    from kfmodels.basket.guard import GUARD
    from kfmodels.online.shocks import Quarantine

    if not isinstance(policy, Quarantine):
        return policy
    return GUARD if policy == Quarantine() else replace(policy, hold=0)
