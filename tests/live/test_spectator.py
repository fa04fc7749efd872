"""A live filter looked at from outside: the same state, and a writer that does not notice."""

import numpy as np
import pytest

from kfmodels.cli.cli_watch import draw_line
from kfmodels.live.feed import LiveFilter
from kfmodels.live.spectator import TRAIL, Spectator
from kfmodels.live.state import SHOWN
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
    (row,), tick = Spectator(tmp_path / "j").rows(), signal.tick
    named = ("XLE", "XLE", "SPY", 0, tick.beta["SPY"], tick.sd_total["SPY"], tick.z)
    assert row[:7] == named
    assert row.upper - row.lower == pytest.approx(2 * 1.6448536 * tick.sd_total["SPY"])
    assert (row.condition, row.note) == (signal.condition, "")
    assert len(row.trail) == TRAIL
    assert row.trail[-1] == row.ratio


def test_a_live_filter_says_where_it_stands_in_a_terminal(running):
    """Its ratios with their sds, z of the last row, the condition and the last time."""
    for prices, at in feed(9):
        signal = running.tick(prices, at=at)
    head, ratio, *noise = str(running).splitlines()
    assert head == (f"XLE/SPY (log) after {at.isoformat()}; z {signal.tick.z:+.1f}; ok: 1 of 1 ok")
    now = running.standing().tick
    np.testing.assert_equal(now.record(), running.engine.standing().record())
    assert ratio == f"  SPY  {now.beta['SPY']:.4g} +- {now.sd_total['SPY']:.2g}"
    assert max(map(len, [head, ratio, *noise])) < 80
    fresh = LiveFilter(made_filter(hedges=("SPY", "USO"), at=None))
    assert [line.split()[0] for line in str(fresh).splitlines()[1:3]] == ["SPY", "USO"]
    assert "; z " not in str(fresh)  # no row has come yet


def test_a_board_says_where_its_oddest_pairs_stand():
    pairs = tuple((f"X{number}", "SPY") for number in range(SHOWN + 2))
    live = LiveFilter(made_board(pairs), monitor=None)
    for prices, at in feed(9):
        near = {name: prices["XLE"] * (1 + number / 1e4) for number, (name, _) in enumerate(pairs)}
        signal = live.tick(prices | near, at=at)
    lines = str(live).splitlines()
    assert "  and 2 more" in lines
    assert max(map(len, lines)) < 80
    z = dict(zip(signal.tick.names, signal.tick.z, strict=True))
    oddest = sorted(z, key=lambda name: -abs(z[name]))[:SHOWN]
    for name, line in zip(oddest, (line for line in lines if "+-" in line), strict=True):
        tick = signal.tick.of(name)
        ratio = f"{tick.beta['SPY']:.4g} +- {tick.sd_total['SPY']:.2g}"
        assert line.split() == [name, *ratio.split(), "z", f"{tick.z:+.1f}", "ok"]


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
