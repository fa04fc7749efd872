"""Ctrl-C at random moments within a message, caught: the filter goes on as if it had not been."""

import json
import random
import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kfmodels.live.feed import LiveFilter
from tests.faults.attacks import MANY
from tests.made_filters import feed, made_board, made_filter

ROWS = 60
PAIRS = (("XLE", "SPY"), ("XOM", "SPY"))


@contextmanager
def alarms() -> Generator[None]:
    """In here a timer raises KeyboardInterrupt where it runs out."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    usual = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)


def calls(rows: int, *, board: bool) -> list[tuple[str, dict[str, float], Any]]:
    """Messages of prices, and now and then one of new units, each with a time of its own."""
    made = []
    for number, (prices, at) in enumerate(feed(rows)):
        given = prices | ({"XOM": prices["XLE"] * 1.1} if board else {})
        made.append(("tick", {name: p * 2 ** (number // 20) for name, p in given.items()}, at))
        if number % 20 == 19:
            made.append(("rescale", dict.fromkeys(given, 2.0), at + timedelta(seconds=30)))
    return made


def opened(path: Path | None, *, board: bool) -> LiveFilter:
    made = made_board(PAIRS) if board else made_filter()
    live = LiveFilter(made, journal=path, keep=20)
    if live.journal is not None:
        live.journal.compact_every = 7  # so that a snapshot is interrupted too
    return live


def stands(live: LiveFilter) -> str:
    return json.dumps(live.to_json(), sort_keys=True)


KINDS = {"alone": (False, False), "journal": (True, False), "board": (True, True)}


@pytest.mark.parametrize("count", [15, pytest.param(100, marks=MANY)])
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_leaves_it_usable_and_takes_nothing_twice(
    kind: str, count: int, tmp_path: Path
):
    draw, (kept, board) = random.Random(f"{kind} {count}"), KINDS[kind]
    done, caught = calls(ROWS, board=board), 0
    alone = opened(None, board=board)
    for what, given, at in done:
        getattr(alone, what)(given, at=at)
    expected, runs = stands(alone), 0
    with alarms():
        while caught < count:
            runs += 1
            assert runs < 40 * count, "hardly any interrupt came within a message"
            path = tmp_path / f"{runs}" if kept else None
            live = opened(path, board=board)
            for what, given, at in done:
                hit = draw.random() < 0.3
                if hit:
                    longest = 0.02 if what == "rescale" else 0.002 if board else 0.0006
                    try:
                        signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, longest))
                        getattr(live, what)(given, at=at)
                        signal.setitimer(signal.ITIMER_REAL, 0)
                    except KeyboardInterrupt:
                        caught += 1
                with suppress(KeyboardInterrupt):  # one that was late
                    signal.setitimer(signal.ITIMER_REAL, 0)
                answer = getattr(live, what)(given, at=at)  # sent again, or for the first time
                assert answer.outcome in ("accepted", "duplicate", "rescaled", "quarantined"), (
                    answer
                )
            assert stands(live) == expected, (kind, runs)
            live.close()
            if path is not None:
                with opened(path, board=board) as again:
                    assert stands(again) == expected, (kind, runs)
