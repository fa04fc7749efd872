"""`kfmodels live` between two pipes, killed at any moment: what was answered is there, to the bit."""

import json
import random
from pathlib import Path

import pytest

from kfmodels.live.feed import LiveFilter
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.shocks import Quarantine
from tests.faults.attacks import MANY
from tests.journal_writer import PIPED, acknowledged, writers
from tests.made_filters import feed, made_filter


def guarded() -> OnlineFilter:
    """The filter as the shell runs it."""
    return made_filter(shocks=Quarantine())


def number_of(line: str) -> int:
    return json.loads(line)["seq"]


@pytest.mark.variants
@pytest.mark.parametrize("kills", [8, pytest.param(220, marks=MANY)])
def test_what_was_answered_into_a_pipe_survives_a_kill(kills: int, tmp_path: Path):
    draw, rows = random.Random(kills), feed(PIPED)
    path, last, alone, total = tmp_path / "0", 0, LiveFilter(guarded()), 0
    with writers("pipe") as server:
        for kill in range(kills):
            if kill % 4 == 0:  # a new file, so that making one is interrupted too
                path, last, alone = tmp_path / f"{kill}", 0, LiveFilter(guarded())
            after, seconds = (
                (0, 0.5 * draw.random()) if kill % 4 == 0 else (1, 0.05 * draw.random())
            )
            said = acknowledged(server, f"{path}", seconds, number_of, after=after)
            where = f"kill {kill}, {path}"
            assert said == list(range(last + 1, last + 1 + len(said))), where
            with LiveFilter(guarded(), journal=path) as live:
                # the one message that was being answered may be there or not
                assert live.seq - (last + len(said)) in (0, 1), where
                for prices, at in rows[last : live.seq]:
                    alone.tick(prices, at=at)
                last, total = live.seq, total + len(said)
                assert live.to_json() == alone.to_json(), where
    assert total > kills
