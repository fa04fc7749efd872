"""A table replayed through a live filter by `follow`: what messages would have brought, as a frame."""

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kfmodels import Clock, LiveFilter, OnlineFilter, Quarantine, follow
from kfmodels.live.signals import Signal
from tests.made_filters import MINUTE, START, feed, made_board, made_filter, made_prices

ROWS = 80
PAIRS = (("XLE", "SPY"), ("XOM", "SPY"))


def table(rows: int = ROWS) -> pd.DataFrame:
    """Rows a minute apart, with a bad print, a leg that is late twice, and a column of no leg."""
    index = pd.DatetimeIndex([at for _, at in feed(rows)])
    made = pd.DataFrame(made_prices(rows), index, columns=["XLE", "SPY"])
    made.iloc[20, 0] *= 1.3
    made.iloc[40:42, 1] = np.nan
    return made.assign(GLD=180.0)


def guarded() -> OnlineFilter:
    return made_filter(shocks=Quarantine())


def stands(live: LiveFilter) -> str:
    return json.dumps(live.to_json(), sort_keys=True)


def test_it_is_what_the_messages_bring():
    alone, replayed, seen = LiveFilter(guarded()), LiveFilter(guarded()), list[Signal]()
    found = follow(replayed, table(), seen=seen.append)
    told = [
        alone.tick(row, at=at)
        for at, row in zip(table().index, table().to_dict("records"), strict=True)
    ]
    assert stands(replayed) == stands(alone)
    assert repr([answer.record() for answer in seen]) == repr([one.record() for one in told])
    assert found.index.equals(table().index)
    assert found["outcome"].to_list() == [str(answer.outcome) for answer in told]
    assert found["reason"].to_list() == [answer.reason for answer in told]
    assert found["condition"].to_list() == [answer.condition for answer in told]
    assert found["beta SPY"].to_list() == [answer.tick.beta["SPY"] for answer in told]
    assert found["alarms"].to_list() == [
        "; ".join(alarm.kind for alarm in answer.alarms) for answer in told
    ]


def test_a_bad_print_is_held_back_and_a_late_leg_makes_no_row():
    found = follow(LiveFilter(guarded()), table())
    assert found["outcome"].iloc[20] == "quarantined"
    assert set(found["outcome"].iloc[[40, 41]]) == {"skipped"}
    assert found["z"].iloc[[40, 41]].isna().all()
    assert set(found["outcome"].drop(found.index[[20, 40, 41]])) == {"accepted"}
    # a filter that believes what it is given takes the bad print for a move
    with pytest.warns(UserWarning, match="in doubt"):
        believed = follow(made_filter(), table())
    assert abs(believed["spread"].iloc[20]) > 0.2
    assert "outcome" not in believed


def test_staleness_and_journal_are_those_of_the_filter(tmp_path):
    with LiveFilter(
        made_filter(), max_staleness=timedelta(minutes=1), journal=tmp_path / "day"
    ) as live:
        found = follow(live, table())
        left = stands(live)
    assert found["outcome"].iloc[40] == "accepted"  # with a price one minute old
    assert found["outcome"].iloc[41] == "skipped"
    with LiveFilter(made_filter(), journal=tmp_path / "day") as again:
        assert stands(again) == left


def test_a_table_in_two_parts_is_one():
    whole, parts = LiveFilter(made_filter()), LiveFilter(made_filter())
    found = follow(whole, table())
    joined = pd.concat([follow(parts, table().iloc[:33]), follow(parts, table().iloc[33:])])
    pd.testing.assert_frame_equal(found, joined)
    assert stands(whole) == stands(parts)


def test_of_many_pairs_there_is_a_row_for_each():
    rows = table(30).assign(XOM=lambda made: 1.1 * made["XLE"])
    live = LiveFilter(made_board(PAIRS, shocks=Quarantine()))
    found = follow(live, rows)
    assert found.index.names[-1] == "pair"
    assert found.index.to_list() == [(at, f"{y}/{x}") for at in rows.index for y, x in PAIRS]
    alone = follow(LiveFilter(guarded()), rows)
    one = found.xs("XLE/SPY", level="pair")
    np.testing.assert_allclose(one["spread"], alone["spread"], rtol=1e-9)
    assert one["outcome"].iloc[20] == "quarantined"
    assert one["outcome"].to_list() == alone["outcome"].to_list()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"clock": Clock(bar="1min")}, "a live filter is followed without a clock"),
    ({"repair": {"XLE": {START: None}}}, "a live filter is followed without a repair"),
    ({"prices": table()[["XLE"]]}, "SPY is not among the 1 columns"),
    ({"prices": table().iloc[::-1]}, "sort"),
]


@pytest.mark.parametrize(("given", "says"), REFUSED, ids=lambda value: str(value)[:20])
def test_what_it_does_not_take_is_said(given, says):
    live = LiveFilter(made_filter())
    with pytest.raises(ValueError, match=says):
        follow(live, **{"prices": table()} | given)
    assert stands(live) == stands(LiveFilter(made_filter()))


def test_the_remedy_for_a_clock_is_to_follow_the_engine():
    live = LiveFilter(made_filter())
    assert isinstance(live.engine, OnlineFilter)
    clean = table().loc[: START + 10 * MINUTE]
    found = follow(live.engine, clean, clock=Clock(bar="1min"))
    assert len(found) == 11
