"""A new universe in the place of one that runs: it stands where it would, had it run all along."""

import json
import re

import numpy as np
import pytest

import kfmodels as kf
from kfmodels.online.shocks import Quarantine

NAMES = ["XLE", "SPY", "XLB", "XLF", "EWJ", "TLT"]
TABLE = kf.datasets.etfs()[NAMES]
OLD = NAMES[:5]


@pytest.fixture(scope="module")
def day():
    return kf.hedge_universe(TABLE.iloc[:300][OLD], targets=["XLE", "XLB"])


@pytest.fixture(scope="module")
def night():
    return kf.hedge_universe(TABLE.iloc[:320][NAMES[::-1]], targets=["XLB", "XLE", "TLT"])


def feed(live, first, last):
    return [live.tick(row.to_dict(), at=str(at)) for at, row in TABLE.iloc[first:last].iterrows()]


def test_it_stands_where_the_new_one_would_have_run_to(day, night, tmp_path):
    live = day.go_live(journal=tmp_path / "j")
    feed(live, 300, 330)
    assert night.take_over(live) == ("TLT joins",)
    alone = night.online()
    for at, row in TABLE.iloc[320:330].iterrows():
        # what the old universe did not know is no price
        alone.update(row[OLD].to_dict(), at=at)
    np.testing.assert_array_equal(live.engine.ratios(), alone.ratios())
    signals = feed(live, 330, 340)
    for at, row in TABLE.iloc[330:340].iterrows():
        alone.update(row.to_dict(), at=at)
    np.testing.assert_array_equal(live.engine.ratios(), alone.ratios())
    assert {str(signal.outcome) for signal in signals} == {"accepted"}
    kept = json.dumps(live.to_json())
    live.close()
    with day.go_live(journal=tmp_path / "j") as again:
        assert json.dumps(again.to_json()) == kept


def test_a_print_that_is_held_stays_held(day):
    """The second row of a new price is told from the first, as if the night had not been."""
    wrong = TABLE.iloc[330:332].copy()
    wrong["SPY"] *= 0.5
    outcomes = []
    for replaced in (False, True):
        basket = day.online()
        basket.shocks = Quarantine(limit=8)
        live = kf.LiveFilter(basket)
        feed(live, 300, 330)
        live.tick(wrong.iloc[0].to_dict(), at=str(wrong.index[0]))
        held = live.engine.holds["SPY"]
        if replaced:
            kf.hedge_universe(TABLE.iloc[:330][OLD], targets=["XLE", "XLB"]).take_over(live)
            assert live.engine.holds["SPY"] == held
            assert live.engine.shocks == Quarantine(limit=8)
        second = live.tick(wrong.iloc[1].to_dict(), at=str(wrong.index[1]))
        outcomes.append(second.tick.of("SPY"))
    assert outcomes[0].outcome == outcomes[1].outcome
    assert outcomes[0].reason == outcomes[1].reason


def halved():
    table = TABLE.iloc[:320].copy()
    table["SPY"] /= 2
    return kf.hedge_universe(table)


REFUSED = [
    (lambda: kf.hedge_universe(TABLE.iloc[:320][OLD[:4]]), "EWJ: no asset of the new universe"),
    (
        lambda: kf.hedge_universe(TABLE.iloc[:320], targets=["XLE"]),
        "XLB: no target of the new universe",
    ),
    (halved, "or call live.rescale({'SPY': 0.5}) first"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("made", "text"), REFUSED)
def test_what_cannot_take_over_is_refused_and_nothing_changes(day, made, text):
    live = day.go_live()
    feed(live, 300, 330)
    before = json.dumps(live.to_json())
    with pytest.raises(ValueError, match=re.escape(text)):
        made().take_over(live)
    assert json.dumps(live.to_json()) == before


def test_rows_that_nobody_remembers_are_not_left_out_in_silence(day, night):
    live = day.go_live(keep=5)
    feed(live, 300, 330)
    with pytest.raises(
        ValueError, match="before the rows that the live filter remembers, from 2009"
    ):
        night.take_over(live)
