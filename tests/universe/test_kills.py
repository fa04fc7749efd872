"""A basket in a live filter with a journal: whenever it is killed, what was answered is there."""

import random

import pytest

from kfmodels.basket.basket import Basket
from kfmodels.live.feed import LiveFilter
from tests.journal_writer import acknowledged, basket_job, writers

KILLS, FILES = 30, 5


@pytest.mark.faults
@pytest.mark.nightly
def test_a_kill_at_any_moment_loses_no_acknowledged_row(tmp_path):
    draw = random.Random()
    seed = draw.randrange(2**32)
    draw.seed(seed)
    document, rows = basket_job()
    total = 0
    with writers("basket") as server:
        for kill in range(KILLS):
            if kill % (KILLS // FILES) == 0:  # a new file, so that making one is interrupted too
                path, last, alone = tmp_path / f"{kill}.journal", 0, Basket.from_json(document)
            after, seconds = (0, 0.4) if kill % 3 == 0 else (1, 0.1)
            said = acknowledged(server, str(path), draw.uniform(0, seconds), after=after)
            where = f"seed {seed}, kill {kill}, {path}"
            assert said == list(range(last + 1, last + 1 + len(said))), where
            with LiveFilter(Basket.from_json(document), journal=path) as live:
                # the row that was being acknowledged may be there or not
                assert live.seq - (last + len(said)) in (0, 1), where
                for number in range(last, live.seq):
                    alone.update(rows[number], at=1000 + number)
                last, total = live.seq, total + len(said)
                assert live.engine.to_json() == alone.to_json(), where
    assert total > KILLS
