"""A live filter looked at from outside: the same state, and a writer that does not notice."""

import numpy as np
import pytest

from kfmodels.cli.cli_watch import draw_line
from kfmodels.live.feed import LiveFilter
from kfmodels.live.spectator import TRAIL, Spectator
from tests.command import kfmodels
from tests.made_filters import feed, made_board, made_filter
from tests.processes import trade

ROWS = 90


@pytest.fixture
def running(tmp_path):
    with LiveFilter(made_filter(discounted=True), journal=tmp_path / "j") as live:
        yield live


def same(seen: Spectator, live: LiveFilter) -> bool:
    np.testing.assert_equal(seen.engine.standing().record(), live.engine.standing().record())
    return seen.seq == live.seq


def test_it_stands_where_the_writer_stands_after_every_look(running, tmp_path):
    seen, looks = Spectator(tmp_path / "j"), 0
    for row, (prices, at) in enumerate(feed(ROWS)):
        running.tick(prices, at=at)
        if row == 40:
            running.rescale({"XLE": 0.5})
        if row == 60:
            running.journal.compact(running.to_json())
        if row % 7 == 0:
            looks += seen.look()
            assert same(seen, running)
    assert looks + seen.look() == running.seq
    assert same(seen, running)
    assert same(Spectator(tmp_path / "j"), running)


def test_what_it_shows_is_what_the_filter_believes(running, tmp_path):
    for prices, at in feed(ROWS):
        signal = running.tick(prices, at=at)
    ((target, hedge, more, ratio, lower, upper, z, condition, note, trail),) = Spectator(
        tmp_path / "j"
    ).rows()
    tick = signal.tick
    assert (target, hedge, more, ratio, z) == ("XLE", "SPY", 0, tick.beta["SPY"], tick.z)
    assert upper - lower == pytest.approx(2 * 1.6448536 * tick.sd_total["SPY"])
    assert (condition, note) == (signal.condition, "")
    assert len(trail) == TRAIL
    assert trail[-1] == ratio


def test_a_late_leg_and_a_held_price_are_named(running, tmp_path):
    *first, (prices, at) = feed(4)
    for row, when in first:
        running.tick(row, at=when)
    running.tick({"SPY": prices["SPY"]}, at=at)
    assert Spectator(tmp_path / "j").rows()[0].note == "late: XLE 00:01:00"


def test_pairs_that_need_a_look_stand_first(tmp_path):
    board = made_board((("XLE", "SPY"), ("XLF", "SPY"), ("XLK", "SPY")))
    with LiveFilter(board, journal=tmp_path / "b") as live:
        for prices, at in feed(ROWS):
            live.tick({name: prices.get(name, 50.0) for name in board.tickers}, at=at)
        rows = Spectator(tmp_path / "b").rows()
        order = {"ok": 0, "watch": 1, "broken": 2}
        ranks = [(-order[row.condition], -abs(np.nan_to_num(row.z))) for row in rows]
        assert ranks == sorted(ranks)
        assert {row.target for row in rows} == {"XLE", "XLF", "XLK"}


def test_the_command_needs_numpy_and_leaves_the_journal_as_it_is(running, tmp_path):
    for prices, at in feed(ROWS):
        running.tick(prices, at=at)
    before = (tmp_path / "j").read_bytes()
    code = "from kfmodels.cli.cli import app; app(['watch', sys.argv[1], '--once'])"
    said = trade(code, tmp_path / "j")
    assert f"{ROWS} messages" in " ".join(said.split())
    assert "XLE" in said
    assert (tmp_path / "j").read_bytes() == before


def test_a_journal_that_is_not_there_is_named(tmp_path):
    said = kfmodels("watch", tmp_path / "none", "--once", code=2).output
    assert "there is no journal" in said


@pytest.mark.parametrize(
    ("values", "line"),
    [((), ""), ((1.0, 1.0), "▁▁"), ((0.0, 1.0), "▁█"), ((float("nan"), 3.0, 2.0, 1.0), "█▅▁")],
)
def test_a_sparkline_goes_from_the_lowest_to_the_highest(values, line):
    assert draw_line(values) == line
