"""What cannot be applied is rejected before it is committed, and a restart finds nothing of it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kfmodels.live.feed import LiveFilter
from kfmodels.live.state import LiveState
from kfmodels.online.ticks import Outcome
from tests.made_filters import START, feed, made_board, made_filter

ROWS = feed(6)


def stands(live: LiveFilter) -> str:
    return json.dumps(live.to_json(), sort_keys=True)


def opened(path: Path, **options: Any) -> LiveFilter:
    return LiveFilter(made_filter(**options), journal=path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy says when a price overflows; so do we
@pytest.mark.parametrize("factor", [1e-300, 1e300, 5e-324, 0.5])
@pytest.mark.parametrize("price", [90.0, 5e-324, 1e-49])
@pytest.mark.parametrize("transform", ["level", "log", "return"])
def test_a_price_and_a_split_that_no_restart_would_survive(
    transform: str, price: float, factor: float, tmp_path: Path
):
    """Whatever is answered, the journal opens again where it stood, and the feed goes on."""
    path = tmp_path / "a"
    with opened(path, transform=transform) as live:
        for number, (row, at) in enumerate(ROWS):
            live.tick(row | ({"XLE": price} if number == 2 else {}), at=at)
            if number == 2:
                before = stands(live)
                answered = False
                with suppress(ValueError):
                    answered = live.rescale({"XLE": factor}, at=at).outcome is Outcome.RESCALED
                assert answered or stands(live) == before  # refused, and nothing has happened
        expected, seq = stands(live), live.seq
    with opened(path, transform=transform) as again:
        assert (stands(again), again.seq) == (expected, seq)


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("float division"), KeyError("XLE"), ValueError("no")]
)
@pytest.mark.parametrize("board", [False, True])
def test_whatever_a_message_raises_is_rejected_and_not_in_the_journal(
    error: Exception, board: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = made_board((("XLE", "SPY"),)) if board else made_filter()
    with LiveFilter(made, journal=tmp_path / "a") as live:
        live.tick(ROWS[0][0], at=ROWS[0][1])
        before, whole = stands(live), LiveState._take

        def fail(self: LiveState, message: Any) -> Any:
            whole(self, message)
            raise error

        monkeypatch.setattr(LiveState, "_take", fail)
        said = live.tick(ROWS[1][0], at=ROWS[1][1])
        monkeypatch.undo()
        assert said.outcome is Outcome.REJECTED
        assert str(error) in said.reason
        assert (stands(live), live.seq) == (before, 1)
        assert live.tick(ROWS[1][0], at=ROWS[1][1]).seq == 2
        expected = stands(live)
    made = made_board((("XLE", "SPY"),)) if board else made_filter()
    with LiveFilter(made, journal=tmp_path / "a") as again:
        assert stands(again) == expected


def test_a_live_board_may_have_one_pair():
    live, alone = LiveFilter(made_board((("XLE", "SPY"),))), LiveFilter(made_filter())
    for row, at in ROWS:
        board, single = (each.tick(row, at=at) for each in (live, alone))
        assert board.outcome is single.outcome is Outcome.ACCEPTED
        assert board.tick.z[0] == pytest.approx(single.tick.z, rel=1e-9)


def test_a_rescale_that_raises_has_not_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with opened(tmp_path / "a") as live:
        live.tick(ROWS[0][0], at=ROWS[0][1])
        before, whole = stands(live), LiveState._requote

        def fail(self: LiveState, message: Any) -> Any:
            whole(self, message)
            raise OverflowError("math range error")

        monkeypatch.setattr(LiveState, "_requote", fail)
        with pytest.raises(ValueError, match="no arithmetic can follow it .OverflowError"):
            live.rescale({"SPY": 2.0}, at=START)
        monkeypatch.undo()
        assert stands(live) == before
        assert live.rescale({"SPY": 2.0}, at=START).outcome is Outcome.RESCALED
        assert live.rescale({"SPY": 2.0}, at=START).outcome is Outcome.DUPLICATE


def test_a_disk_that_fails_leaves_the_filter_where_it_was(tmp_path: Path, monkeypatch):
    with opened(tmp_path / "a") as live:
        live.tick(ROWS[0][0], at=ROWS[0][1])
        before = stands(live)

        def fail(message: Any) -> int:
            raise OSError("no space left on device")

        assert live.journal is not None
        monkeypatch.setattr(live.journal, "append", fail)
        for act in (
            lambda: live.tick(*ROWS[1][:1], at=ROWS[1][1]),
            lambda: live.rescale({"SPY": 2}),
        ):
            with pytest.raises(OSError, match="no space left"):
                act()
            assert stands(live) == before
        monkeypatch.undo()
        assert live.tick(ROWS[1][0], at=ROWS[1][1]).accepted


def test_it_says_where_it_goes_on_and_what_is_missing(tmp_path: Path):
    path = tmp_path / "a"
    with opened(path) as live:
        assert live.started == (
            f"{path}: begins after the last row learnt of 2024-02-29T16:00:00-05:00"
        )
        for row, at in ROWS:
            live.tick(row, at=at)
    with opened(path) as live:
        assert live.started == f"{path}: goes on after message 6 of 2024-03-01T09:35:00-05:00"
    (tmp_path / "a-count").unlink()
    with pytest.raises(ValueError, match="go on without them with accept_loss=True"):
        opened(path)
    with LiveFilter(made_filter(), journal=path, accept_loss=True) as live:
        assert "goes on after message 6" in live.started
        assert "messages are missing, as accept_loss allows" in live.started
    with pytest.raises(ValueError, match="survives is .* not 'fire'"):
        LiveFilter(made_filter(), journal=path, survives="fire")  # pyright: ignore
