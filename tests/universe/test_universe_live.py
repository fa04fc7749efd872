"""A universe run by `LiveFilter`: the same numbers as the basket alone, whatever the feed does."""

import json
import re
from fractions import Fraction

import numpy as np
import pytest

import kfmodels as kf
from kfmodels.clock.clock import Clock
from kfmodels.universe.saved import load_engine

NAMES = ["XLE", "SPY", "XLB", "XLF", "EWJ", "TLT"]
TABLE = kf.datasets.etfs()[NAMES]
TRAIN, LATER = TABLE.iloc[:300], TABLE.iloc[300:330]


@pytest.fixture(scope="module")
def universe():
    return kf.hedge_universe(TRAIN, targets=["XLE", "XLB"])


def feed(live, rows):
    """The answers to rows, one message each; NaN is no price."""
    return [live.tick(row.to_dict(), at=str(at)) for at, row in rows.iterrows()]


def alone(universe, rows):
    basket = universe.online()
    for at, row in rows.iterrows():
        basket.update(row.to_dict(), at=at)
    return basket


def test_it_streams_as_the_basket_alone(universe):
    live, basket = universe.go_live(), alone(universe, LATER)
    signals = feed(live, LATER)
    np.testing.assert_array_equal(live.engine.ratios(), basket.ratios())
    assert {str(signal.outcome) for signal in signals} == {"accepted"}
    assert {signal.condition for signal in signals} == {"ok"}
    record = json.loads(json.dumps(signals[-1].record(), default=str))
    assert record["pair"] == NAMES
    assert np.isnan(record["z"][1])
    assert np.isfinite(record["z"][0])


@pytest.mark.parametrize("split", ["1/2", "2/3", "10"])
def test_a_split_that_is_told_at_the_row_that_names_it_is_as_if_it_never_was(universe, split):
    rows = LATER.copy()
    rows.loc[rows.index[10] :, "SPY"] *= float(Fraction(split))
    live = universe.go_live()
    said = feed(live, rows.iloc[:11])[10].tick.of("SPY")
    assert str(said.outcome) == "quarantined"
    (name, factor) = re.findall(r"call rescale with (\w+) at (\S+) now", said.reason)[0]
    assert (name, factor) == ("SPY", split)
    live.rescale({name: float(Fraction(factor))})
    feed(live, rows.iloc[11:])
    ratios = alone(universe, LATER).ratios()
    np.testing.assert_allclose(live.engine.ratios(), ratios, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("late", [3, 5, 9])
def test_a_split_that_is_told_late_is_no_second_move(universe, late):
    """What it taught is that of a filter to which it was never told, and the remedy is named."""
    rows = LATER.copy()
    rows.loc[rows.index[10] :, "SPY"] *= 0.8
    live, untold = universe.go_live(), universe.go_live()
    feed(untold, rows)
    feed(live, rows.iloc[: 10 + late])
    said = live.rescale({"SPY": 0.8}).sentence
    assert re.search("SPY went from .* learnt as a real move: it counts as a wild day until", said)
    assert "the universe is made anew: kf.hedge_universe(prices)" in said
    after = feed(live, rows.iloc[10 + late :])
    assert {str(signal.tick.of("SPY").outcome) for signal in after} == {"accepted"}
    np.testing.assert_array_equal(live.engine.ratios(), untold.engine.ratios())


@pytest.mark.parametrize("cut", [1, 13, 29])
def test_killed_and_reopened_it_stands_where_it_stood(universe, tmp_path, cut):
    whole, journal = universe.go_live(), tmp_path / "journal"
    feed(whole, LATER)
    live = universe.go_live(journal=journal)
    feed(live, LATER.iloc[:cut])
    half = {"XLE": float(LATER["XLE"].iloc[cut])}  # a bar that is open when it is killed
    live.tick(half, at=str(LATER.index[cut]))
    live.journal.close()
    again = universe.go_live(journal=journal)
    assert json.dumps(again.to_json()) == json.dumps(live.to_json())
    feed(again, LATER.iloc[cut:])
    np.testing.assert_array_equal(again.engine.ratios(), whole.engine.ratios())
    np.testing.assert_array_equal(again.engine.sd(), whole.engine.sd())


def test_legs_of_a_bar_may_come_one_by_one(universe):
    together, apart = universe.go_live(), universe.go_live()
    feed(together, LATER.iloc[:5])
    for at, row in LATER.iloc[:5].iterrows():
        for name in reversed(NAMES):
            apart.tick({name: row[name]}, at=str(at))
    np.testing.assert_array_equal(together.engine.ratios(), apart.engine.ratios())


def test_a_leg_without_a_price_keeps_nobody_waiting(universe):
    rows = LATER.iloc[:12].copy()
    rows.loc[rows.index[2:], "SPY"] = np.nan
    live, basket = universe.go_live(), alone(universe, rows)
    signals = feed(live, rows)
    np.testing.assert_array_equal(live.engine.ratios(), basket.ratios())
    assert (live.engine.ratios()[:, 1] == 0).all()  # no leg after five rows without a price
    assert signals[3].tick.of("SPY") == ("skipped", "no price")
    assert np.isfinite(signals[-1].tick.z[[0, 2]]).all()
    alarms = [alarm for signal in signals for _, alarm in signal.alarms]
    assert [alarm.kind for alarm in alarms] == ["missing leg"]
    assert "the others go on without it" in alarms[0].reason


def test_a_leg_that_stops_is_told_and_left_out(universe):
    rows = LATER.iloc[:12].copy()
    rows.loc[rows.index[1:], "SPY"] = rows["SPY"].iloc[0]
    live = universe.go_live()
    alarms = [alarm for signal in feed(live, rows) for _, alarm in signal.alarms]
    assert [(alarm.kind, alarm.leg) for alarm in alarms] == [("stopped leg", "SPY")]
    assert (live.engine.ratios()[:, 1] == 0).all()
    np.testing.assert_array_equal(live.engine.ratios(), alone(universe, rows).ratios())


def test_a_bad_print_of_a_mere_hedge_does_not_confirm_itself(universe):
    spoilt = LATER.iloc[:3].copy()
    spoilt.loc[spoilt.index[1], "SPY"] *= 1.3
    # bars of a day, prices good for two: a bar whose SPY has not come takes the one before
    live = universe.go_live(clock=Clock("1D"), max_staleness=np.timedelta64(2, "D").item())
    first, second = feed(live, spoilt.iloc[:2])
    assert first.tick.of("SPY").outcome == "accepted"
    assert second.tick.of("SPY").outcome == "quarantined"
    rest = spoilt.iloc[2].drop("SPY").to_dict()
    third = live.tick(rest, at=str(spoilt.index[2]))
    assert third.tick.of("SPY") == ("skipped", "no price")
    assert live.engine.last["SPY"] == spoilt["SPY"].iloc[0]


@pytest.mark.parametrize("told", [{"XLE": 0.5}, {"SPY": 10.0}])
def test_a_split_that_is_told_changes_nothing_but_the_units(universe, told, tmp_path):
    plain, live = universe.go_live(), universe.go_live(journal=tmp_path / "journal")
    feed(plain, LATER.iloc[:10])
    feed(live, LATER.iloc[:5])
    (name, factor), since = *told.items(), str(LATER.index[5])
    assert live.rescale(told, at=since).outcome == "rescaled"
    assert live.rescale(told, at=since).outcome == "duplicate"
    later = LATER.iloc[5:10].copy()
    later[name] *= factor
    signals = feed(live, later)
    assert {str(signal.outcome) for signal in signals} == {"accepted"}
    np.testing.assert_allclose(live.engine.ratios(), plain.engine.ratios(), rtol=1e-9)
    assert live.engine.last[name] == pytest.approx(LATER[name].iloc[9] * factor)
    live.journal.close()
    again = universe.go_live(journal=tmp_path / "journal")
    np.testing.assert_array_equal(live.engine.ratios(), again.engine.ratios())


def test_a_split_told_after_its_row_is_taken_back(universe):
    plain, live = universe.go_live(), universe.go_live()
    feed(plain, LATER.iloc[:8])
    later = LATER.iloc[:8].copy()
    later.loc[later.index[5:], "SPY"] *= 0.25
    signals = feed(live, later.iloc[:6])
    assert signals[-1].tick.of("SPY").outcome == "quarantined"
    live.rescale({"SPY": 0.25}, at=str(later.index[5]))
    assert not live.engine.holds
    feed(live, later.iloc[6:])
    np.testing.assert_allclose(live.engine.ratios(), plain.engine.ratios(), rtol=1e-9)


def test_a_dividend_is_no_move(universe):
    live, basket = universe.go_live(), alone(universe, LATER.iloc[:5])
    feed(live, LATER.iloc[:5])
    last = LATER["XLE"].iloc[4]
    signal = live.adjust({"XLE": -1.0}, at=str(LATER.index[5]))
    assert signal.outcome == "rescaled"
    assert live.engine.last["XLE"] == pytest.approx(last - 1.0)
    np.testing.assert_array_equal(live.engine.ratios(), basket.ratios())


def test_the_monitor_judges_targets_alone(universe):
    tick = feed(universe.go_live(), LATER.iloc[:1])[0].tick
    z, dof = tick.learnt()
    np.testing.assert_array_equal(np.isfinite(z), [True, False, True, False, False, False])
    np.testing.assert_array_equal(np.isfinite(dof), np.isfinite(z))


def test_a_saved_universe_is_the_engine(universe, tmp_path):
    universe.save(tmp_path / "u.json")
    live = kf.LiveFilter(load_engine(tmp_path / "u.json"))
    feed(live, LATER)
    np.testing.assert_array_equal(live.engine.ratios(), alone(universe, LATER).ratios())
