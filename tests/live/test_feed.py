"""A filter left alone with a feed: every oddity has an outcome, and none a wrong state."""

import json
import math
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels.clock.clock import Clock
from kfmodels.live.feed import LiveFilter
from kfmodels.live.monitor import Monitor
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.shocks import Quarantine, Robust
from kfmodels.online.ticks import Outcome
from tests.made_filters import MINUTE, START, feed, made_board, made_filter
from tests.processes import python


def made_live(engine: OnlineFilter | None = None, **options: Any) -> LiveFilter:
    return LiveFilter(made_filter() if engine is None else engine, **options)


def numbered(**options: Any) -> LiveFilter:
    """One whose times are numbers, or as the first tick has them."""
    return made_live(made_filter(at=None, until=None), **options)


def document(live: LiveFilter) -> str:
    return json.dumps(live.to_json(), sort_keys=True)


def engine(live: LiveFilter) -> str:
    return json.dumps(live.engine.to_json(), sort_keys=True)


# -- outcomes --------------------------------------------------------------------------------------

PAIRS = (("XLE", "SPY"), ("XLE", "USO"), ("XOM", "SPY"))
ROW = {"XLE": 90.1, "SPY": 500.5}
LATE = START + timedelta(minutes=3, seconds=10)
ODD = {
    "one leg": ({"XLE": 90.0}, LATE, "skipped: stale SPY 00:03:10"),
    "nothing": ({}, LATE, "skipped: no price of any leg"),
    "NaN": ({"XLE": math.nan, "SPY": None}, LATE, "skipped: no price of any leg"),
    "others": ({"GLD": 190.0}, LATE, "skipped: no price of any leg"),
    "zero": ({"XLE": 0.0, "SPY": 1.0}, LATE, "skipped: stale XLE 00:03:10; rejected: XLE has"),
    "negative": ({"XLE": -3}, LATE, "rejected: XLE has the price -3"),
    "infinite": ({"XLE": math.inf, "SPY": -math.inf}, LATE, "rejected: XLE has the price inf; SPY"),
    "text": ({"XLE": "12,5"}, LATE, "rejected: XLE has the price '12,5', which is no number"),
    "an array": (
        {"XLE": np.array([1.0, 2.0])},
        LATE,
        "rejected: XLE has the price array([1., 2.]), which is no number",
    ),
    "again": (ROW, START, "duplicate: XLE, SPY at this time"),
    "a second price": (
        ROW | {"XLE": 91.0},
        START,
        "rejected: XLE has a second price 91 at one time, which is kept to the microsecond",
    ),
    "earlier": (
        ROW,
        START - timedelta(seconds=3),
        "rejected: XLE is out of order, 00:00:03 before its",
    ),
    "no zone": (
        ROW,
        datetime(2024, 3, 1, 9, 31),
        "rejected: the tick at 2024-03-01 09:31:00 is a t",
    ),
    "a number": (ROW, 12, "rejected: the tick at 12 is a number, the ticks before were a t"),
    "no time": (ROW, "tomorrow", "rejected: 'tomorrow' is not a time"),
    "no dict": ([90.0, 500.0], LATE, "rejected: prices go by ticker, in a dict, not in a list"),
}


@pytest.mark.parametrize(("prices", "at", "outcome"), ODD.values(), ids=ODD)
def test_what_is_odd_is_answered_and_moves_nothing(prices: Any, at: Any, outcome: str):
    """A strict filter raises what another rejects."""
    live = made_live()
    assert live.tick(ROW, at=START).sentence == "accepted"
    before, whole = engine(live), document(live)
    signal = live.tick(prices, at=at)
    assert signal.sentence.startswith(outcome)
    assert not signal.accepted
    assert signal.alarms == ()
    assert engine(live) == before
    if outcome.startswith(("rejected", "duplicate")):
        assert document(live) == whole
    if "rejected: " in outcome:
        strict = made_live(strict=True)
        strict.tick(ROW, at=START)
        whole = document(strict)
        with pytest.raises(ValueError, match=outcome.split("rejected: ")[1][:12].strip()):
            strict.tick(prices, at=at)
        assert document(strict) == whole
    # and nothing of it is in the way of what comes next
    good = live.tick({"XLE": 90.2, "SPY": 500.9}, at=LATE + MINUTE)
    assert good.sentence == "accepted"
    assert math.isfinite(good.tick.z)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_strict_raises_a_row_that_only_the_filter_can_reject():
    small = made_filter(transform="level", near={"XLE": 1e-110})
    live = made_live(small, strict=True)
    with pytest.raises(ValueError, match="rejected: XLE: the row is so far"):
        live.tick({"XLE": 1e49, "SPY": 500.0}, at=START)


def test_one_leg_after_the_other_makes_a_row_when_both_are_fresh():
    live = made_live(max_staleness=timedelta(seconds=5))
    alone = made_filter()
    assert live.tick({"SPY": 500.5}, at=START).sentence == "skipped: no price of XLE"
    second = live.tick({"XLE": 90.1}, at=START + timedelta(seconds=5))
    assert second.sentence == "accepted: with SPY 00:00:05 old"
    same = alone.update(y=90.1, x=500.5, at=second.tick.at, dt=1.0)  # one bar
    assert second.tick == same
    stale = live.tick({"SPY": 500.6}, at=START + timedelta(seconds=10, microseconds=1000))
    assert stale.sentence == "skipped: stale XLE 00:00:05.001"


def test_legs_of_one_time_may_come_in_two_messages_and_in_two_zones():
    live = made_live()
    tokyo = "2024-03-01T23:30:00+09:00"
    assert live.tick({"SPY": 500.5}, at=tokyo).sentence == "skipped: no price of XLE"
    assert live.tick({"XLE": 90.1}, at=START).sentence == "accepted"
    alone = made_filter()
    alone.update(y=90.1, x=500.5, at=START)
    assert live.engine.state()["mean"].tolist() == alone.state()["mean"].tolist()


@pytest.mark.parametrize("stale", [MINUTE, MINUTE / 2])
def test_legs_of_one_time_that_come_one_by_one(stale: timedelta, tmp_path: Path):
    """With a bar of staleness the first leg makes a row, and says so; the second completes it."""
    path, found = tmp_path / "a", []
    for first, last in ((0, 3), (3, 6)):
        live = made_live(max_staleness=stale, journal=path)
        for prices, at in feed(6)[first:last]:
            found += [live.tick({name: prices[name]}, at=at).sentence for name in ("SPY", "XLE")]
        stood = document(live)
        live.close()
    if stale < MINUTE:
        assert found[1::2] == ["accepted"] * 6
        assert found[2::2] == ["skipped: stale XLE 00:01:00"] * 5
        return
    assert found[:2] == ["skipped: no price of XLE", "accepted"]
    assert found[2::2] == ["accepted: with XLE 00:01:00 old"] * 5
    assert found[3::2] == ["accepted"] * 5
    assert [row["prices"] for row in live.history()] == [prices for prices, _ in feed(6)]
    with made_live(max_staleness=stale, journal=path) as again:
        assert document(again) == stood


def test_a_staleness_is_in_the_units_of_the_times():
    of_dates, of_numbers = (numbered(max_staleness=old) for old in (timedelta(seconds=3), 3))
    with pytest.raises(ValueError, match=r"timedelta 0:00:03, but the times are numbers: give a w"):
        of_dates.tick(ROW, at=7)
    assert of_dates.tick(ROW, at=START).accepted
    with pytest.raises(ValueError, match="the number 3, but the times are dates: give a timedelta"):
        of_numbers.tick(ROW, at=START)
    of_numbers.tick({"XLE": 90.0}, at=7)
    assert of_numbers.tick({"SPY": 500.0}, at=10).sentence == "accepted: with XLE 3 old"


def test_a_leg_that_comes_too_late_is_named():
    live = made_live(made_filter(hedges=("SPY", "USO")), max_staleness=timedelta(minutes=2))
    live.tick({"XLE": 90.0, "SPY": 500.0}, at=START)
    live.tick({"SPY": 500.1}, at=START + MINUTE)
    late = live.tick({"SPY": 499.0, "USO": 70.0}, at=START + MINUTE / 2)
    assert late.outcome is Outcome.ACCEPTED  # it makes no row of the past, but that of now
    old = "with XLE 00:01:00, USO 00:00:30 old"
    wrong = "rejected: SPY is out of order, 00:00:30 before its last price"
    assert late.sentence.endswith(f"{old}; {wrong}")
    assert live.engine.at == (START + MINUTE).isoformat()


# -- time ------------------------------------------------------------------------------------------


def test_without_a_clock_every_time_is_a_bar_and_a_missing_row_passes():
    """A skipped time counts: offline it is a row that is not observed."""
    live, alone = made_live(), made_filter()
    for number, (prices, at) in enumerate(feed(12)):
        if number in (3, 7, 8):
            assert live.tick(prices | {"SPY": None}, at=at).sentence.startswith("skipped")
            alone.update(y=prices["XLE"], x=math.nan, at=at)
            continue
        one = live.tick(prices, at=at).tick
        two = alone.update(y=prices["XLE"], x=prices["SPY"], at=at)
        for field in ("spread", "spread_sd", "z", "log_score", "alpha"):
            assert_allclose(getattr(one, field), getattr(two, field), rtol=1e-9, atol=1e-12)


def test_without_a_clock_legs_that_come_apart_are_of_one_bar():
    together, apart = (made_live(max_staleness=timedelta(seconds=30)) for _ in range(2))
    for number, (prices, at) in enumerate(feed(12)):
        same = together.tick(prices, at=at) if number != 5 else None  # a bar without SPY
        if same is not None:
            apart.tick({"SPY": prices["SPY"]}, at=at)
        else:
            together.tick({"XLE": prices["XLE"]}, at=at)
        signal = apart.tick({"XLE": prices["XLE"]}, at=at + timedelta(seconds=3))
        assert signal.accepted == (same is not None)
        if same is not None:
            assert signal.tick.sd_total == same.tick.sd_total
        apart._restore(json.loads(document(apart)))
    assert [row["dt"] for row in apart.history()] == [row["dt"] for row in together.history()]
    assert max(row["dt"] for row in apart.history()) == 2.0


@pytest.mark.parametrize("discounted", [False, True])
def test_a_clock_says_how_many_bars_and_which_gaps(discounted: bool):
    clock = Clock.hours("09:30", "16:00", zone="America/New_York", bar="1min")
    kind: Any = {"gaps": ("overnight", "weekend"), "discounted": discounted}
    live, alone = made_live(made_filter(**kind), clock=clock), made_filter(**kind)
    times = [
        (START, 0.0, {"overnight": 1.0}),  # the filter stands at the close before
        (START + 2 * MINUTE, 2.0, {}),
        (START + timedelta(hours=6, minutes=29), 387.0, {}),
        (START + timedelta(days=3, minutes=5), 6.0, {"weekend": 1.0}),
        (START + timedelta(days=4), 385.0, {"overnight": 1.0}),
    ]
    for (prices, _), (at, dt, gaps) in zip(feed(5), times, strict=True):
        signal = live.tick(prices, at=at)
        assert signal.sentence == "accepted"
        found = live.history()[-1]
        assert found["dt"] == dt
        assert {name: n for name, n in found["gaps"].items() if n} == gaps
        same = alone.update(y=prices["XLE"], x=prices["SPY"], at=signal.at, dt=dt, gaps=gaps)
        assert signal.tick == same


@pytest.mark.parametrize("zone", [None, "America/New_York"])
def test_a_daily_clock_counts_the_dates_of_the_market(zone: str | None):
    """20:30 in New York is the next day in UTC; without a zone of the clock the stamps say it."""
    live = made_live(clock=Clock.daily(zone=zone))
    evening, night = timedelta(hours=6, minutes=30), timedelta(hours=11)
    times = [START, START + evening, START + night, START + timedelta(days=3)]
    for (prices, _), at in zip(feed(4), times, strict=True):
        live.tick(prices, at=at if zone is None else at.astimezone(UTC))
    assert [row["dt"] for row in live.history()] == [1.0, 1.0]  # a row a date
    assert [row["gaps"]["weekend"] for row in live.history()] == [0.0, 1.0]
    if zone is None:
        assert live.engine.at == "2024-03-04T09:30:00-05:00"


def test_a_time_of_a_far_future_locks_nothing(tmp_path: Path):
    """Neither now nor for those who open the journal; time that did pass is taken with the second."""
    path, far, rows = tmp_path / "a", timedelta(days=65_743), feed(6)
    live = made_live(journal=path)
    assert live.tick(*rows[0][:1], at=START).accepted
    stood = document(live)
    wrong = live.tick(ROW, at=START + far)
    assert wrong.sentence.startswith(
        "rejected: 2204-03-01T09:30:00-05:00 is 65743d 00:00:00 ahead of"
    )
    assert (
        "max_ahead is 31d 00:00:00: if so long a silence was real the next mess" in wrong.sentence
    )
    assert live.tick(ROW, at=START + far).sentence.startswith("rejected")  # the same says no more
    assert document(live) == stood
    assert live.tick(*rows[1][:1], at=START + MINUTE).accepted
    assert live.tick(ROW, at=START + far + MINUTE).sentence.startswith("rejected")  # alone again
    late = START + timedelta(days=60)
    assert live.tick(ROW, at=late).sentence.startswith("rejected")
    assert live.tick(*rows[2][:1], at=late + MINUTE).accepted
    stood = document(live)
    live.close()
    with made_live(journal=path, max_ahead=None) as again:
        assert document(again) == stood
        assert again.overruled == (
            "max_ahead is 31 days, 0:00:00 as the journal keeps it, not None as given now",
        )
        assert again.tick(ROW, at=START + far).sentence.startswith("rejected")


def test_rows_that_are_always_far_apart_take_a_longer_limit(tmp_path: Path):
    path, years = tmp_path / "a", timedelta(days=800)
    with made_live(journal=path, max_ahead=years) as live:
        found = [live.tick(p, at=START + n * years).accepted for n, (p, _) in enumerate(feed(4))]
        assert found == [True] * 4
        assert live.overruled == ()


def moved_by(number: int) -> dict[str, float]:
    """A row that repeats no other one."""
    return {name: price * (1 + 1e-4 * (number % 7)) for name, price in ROW.items()}


def test_how_far_ahead_a_time_may_be_is_in_the_units_of_the_times():
    free, live = numbered(max_ahead=None), numbered(max_ahead=9)
    assert [free.tick(ROW, at=at).accepted for at in (1, 10**15)] == [True, True]
    times = (1, 10**15, 2, 11, 12, 30, 40, 42)
    found = [live.tick(moved_by(at), at=at).accepted for at in times]
    assert found == [True, False, True, True, True, False, False, True]


def test_a_first_time_is_judged_by_the_last_row_of_the_fit(tmp_path: Path):
    """One of 2199 would put all others out of order, also after a restart."""
    for _ in range(2):
        with made_live(journal=tmp_path / "a") as live:
            wrong = live.tick(ROW, at="2199-01-02T09:30:00-05:00").sentence
            assert wrong.startswith(
                "rejected: 2199-01-02T09:30:00-05:00 is 63859d 17:30:00 ahead of"
            )
            assert live.seq == 0
    with made_live(journal=tmp_path / "a") as live:
        assert live.tick(ROW, at=START).accepted


@pytest.mark.parametrize("unit", [1, 1000, 10**6])
def test_whole_numbers_in_another_unit_lock_nothing(unit: int):
    """Seconds since 1970 and the like; a weekend passes, and the option says otherwise."""
    now, weekend = 1_709_303_400, 3 * 86_400
    live = numbered()
    assert live.tick(ROW, at=now * unit).accepted
    assert live.tick(moved_by(1), at=(now + weekend) * unit).accepted
    assert "ahead of the last time" in live.tick(ROW, at=(now + weekend) * unit * 1000).reason
    assert live.tick(moved_by(2), at=(now + weekend + 1) * unit).accepted
    first = made_live(made_filter(at=now * unit, until=now * unit))
    assert not first.tick(ROW, at=now * unit * 1000).accepted
    assert first.tick(ROW, at=now * unit + unit).accepted


def test_the_time_0_is_a_time():
    live = made_live(made_filter(at=None, until=None))
    assert live.tick(ROW, at=0).accepted
    live.replace(OnlineFilter.from_json(live.engine.to_json()))
    assert live.tick(ROW, at=-1).reason == "out of order, 1 before the last row"
    assert live.tick(ROW, at=1).accepted


def test_times_of_another_kind_than_the_fit_are_told_what_to_do():
    naive = made_live(made_filter(at="2024-02-29", until="2024-02-29"))
    for at, kind in ((START, "a time with a time zone"), (12, "a number")):
        said = f"is {kind}, the last row of the fit was a time without a time zone: send dates or"
        outcome = naive.tick(ROW, at=at).sentence
        assert said in outcome
        assert outcome.endswith("without an offset, or fit prices whose index has a time zone")
    assert naive.tick(ROW, at="2024-03-01").accepted
    assert naive.tick(ROW, at=START).sentence.endswith("send dates or times without an offset")


# -- shocks, splits, alarms ------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Quarantine(), Robust(), None])
def test_a_split_is_named_and_a_rescale_makes_it_as_if_it_never_was(policy: Any):
    split, plain = (made_live(made_filter(shocks=policy)) for _ in range(2))
    rows = feed(30)
    for number, (prices, at) in enumerate(rows):
        same = plain.tick(prices, at=at)
        halved = prices | {"SPY": prices["SPY"] / 4 if number >= 10 else prices["SPY"]}
        if number == 10:
            if isinstance(policy, Quarantine):
                trial = made_live(OnlineFilter.from_json(split.engine.to_json()))
                said = trial.tick(halved, at=at)
                assert "SPY went from" in said.sentence
                assert "about 1/4 times" in said.sentence
                assert said.condition == "watch"
                trial.rescale({"SPY": 0.25})
                assert trial.tick(halved, at=at + timedelta(seconds=1)).condition == "ok"
            split.rescale({"SPY": 0.25})
        signal = split.tick(halved, at=at)
        a, b = signal.tick, same.tick
        assert signal.sentence == same.sentence
        for field in ("spread", "spread_sd", "z", "gain", "log_score", "effective_draws"):
            assert_allclose(getattr(a, field), getattr(b, field), rtol=1e-8, atol=1e-11)
        assert_allclose(a.beta["SPY"], b.beta["SPY"], rtol=1e-9)
        assert_allclose(a.sd_total["SPY"], b.sd_total["SPY"], rtol=1e-9)


@pytest.mark.parametrize("transform", ["log", "level", "return"])
@pytest.mark.parametrize("options", [{}, {"discounted": True}, {"shocks": Robust(2.0)}], ids=str)
def test_rescaling_is_exact_in_every_draw(transform: str, options: dict[str, Any]):
    """Against the filter that was fed the other units from its first row on, through wild rows."""
    factors = {"XLE": 3.0, "SPY": 0.25, "USO": 7.0}
    names = ("XLE", "SPY", "USO")
    one = made_filter(transform=transform, hedges=names[1:], **options)
    other = OnlineFilter.from_json(one.to_json())
    other.rescale(target=3.0, hedges={"SPY": 0.25, "USO": 7.0})
    for number, (prices, at) in enumerate(feed(25, names[1:])):
        prices["XLE"] *= 1.05 if number % 9 == 4 else 1.0
        a = one.update(y=prices["XLE"], x=prices, at=at)
        turned = {name: price * factors[name] for name, price in prices.items()}
        b = other.update(y=turned["XLE"], x=turned, at=at)
        unit = 3.0 if transform == "level" else 1.0
        assert_allclose(b.z, a.z, rtol=1e-8, atol=1e-10)
        assert_allclose(b.spread, a.spread * unit, rtol=1e-8, atol=1e-10)
        for name in names[1:]:
            ratio = unit / factors[name] if transform == "level" else 1.0
            assert_allclose(b.beta[name], a.beta[name] * ratio, rtol=1e-9)
            assert_allclose(b.sd_total[name], a.sd_total[name] * ratio, rtol=1e-9)
        assert_allclose(b.effective_draws, a.effective_draws, rtol=1e-9)
    back = OnlineFilter.from_json(other.to_json())
    back.rescale(target=1 / 3.0, hedges={"SPY": 4.0, "USO": 1 / 7.0})
    assert_allclose(back.state()["cov"], one.state()["cov"], rtol=1e-9)


def test_alarms_come_with_the_row_that_set_them_off():
    live = made_live(monitor=Monitor(250))
    rng, kinds = np.random.default_rng(1), set()
    for prices, at in feed(80):
        noisy = prices | {"XLE": prices["XLE"] * math.exp(0.03 * rng.normal())}
        signal = live.tick(noisy, at=at)
        kinds |= {alarm.kind for alarm in signal.alarms}
    assert "variance up" in kinds
    assert signal.condition in ("watch", "broken")


def test_a_bad_print_does_not_confirm_itself():
    """The other leg comes alone while the bad price is still fresh."""
    live = made_live(made_filter(shocks=Quarantine(6.0)), max_staleness=timedelta(seconds=30))
    rows = feed(12)
    for prices, at in rows[:10]:
        live.tick(prices, at=at)
    (prices, at), before = rows[10], engine(live)
    bad = live.tick(prices | {"SPY": prices["SPY"] / 2}, at=at)
    assert bad.sentence.startswith("quarantined")
    alone = live.tick({"XLE": prices["XLE"]}, at=at + timedelta(seconds=1))
    assert alone.sentence == "skipped: no new price of SPY"
    assert live.history()[-1]["prices"] == {"XLE": None, "SPY": None}
    assert live.tick(*rows[11][:1], at=rows[11][1]).sentence == "accepted"
    assert before != engine(live)


def test_a_rescale_leaves_what_came_in_the_new_units():
    live = made_live(max_staleness=timedelta(minutes=5))
    rows = feed(4)
    for prices, at in rows[:2]:
        live.tick(prices, at=at)
    split = rows[2][1]
    live.tick({"SPY": rows[2][0]["SPY"] / 4}, at=split + timedelta(seconds=1))
    live.rescale({"SPY": 0.25}, at=split)
    assert live.history()[0]["prices"]["SPY"] == pytest.approx(rows[0][0]["SPY"] / 4)
    signal = live.tick({"XLE": rows[2][0]["XLE"]}, at=split + timedelta(seconds=2))
    assert signal.accepted
    assert live.history()[-1]["prices"]["SPY"] == rows[2][0]["SPY"] / 4
    for same in (split, split.astimezone(UTC)):
        assert live.rescale({"SPY": 0.25}, at=same).sentence.startswith("duplicate")


FACTORS: list[tuple[Any, Any, str]] = [
    ({}, None, "no factor is given: name the ticker, with 1 where"),
    ({"GLD": 2.0}, None, "GLD is not among the tickers"),
    *(
        ({"SPY": wrong}, None, f"the factor of SPY is .* a number above 0, not {wrong!r:.9}")
        for wrong in (True, 0.0, -1.0, 10**400, math.inf, math.nan, "half")
    ),
    *(
        ({"SPY": 0.25}, at, f"rescale at {at} is a .*: send times with their offset")
        for at in (5, "2024-03-01")
    ),
]


def test_a_rescale_that_cannot_be_changes_and_releases_nothing():
    live = LiveFilter(made_board(PAIRS, shocks=Quarantine()))
    live.tick(ROW, at=START)
    live.tick(ROW | {"SPY": 125.0}, at=START + MINUTE)
    before = document(live)
    for factors, at, text in FACTORS:
        with pytest.raises(ValueError, match=text):
            live.rescale(factors, at=at)
        assert document(live) == before


def test_changes_of_units_that_are_sent_again_are_taken_once(tmp_path: Path):
    """Also when others came between them, and by those who open the journal."""
    path, splits = tmp_path / "b", [{"XLE": 0.25}, {"XOM": 0.5}, {"SPY": 2.0}]
    for expected in ("rescaled", "duplicate"):
        with LiveFilter(made_board(PAIRS), journal=path) as live:
            live.tick(ROW | {"USO": 70.0, "XOM": 90.0}, at=START)
            found = [live.rescale(factors, at=START + MINUTE).sentence for factors in splits]
            assert [outcome.split(":")[0] for outcome in found] == [expected] * 3
            assert live.units.factors == {"XLE": 0.25, "XOM": 0.5, "SPY": 2.0}
            live.journal.compact(live.to_json())  # pyright: ignore[reportOptionalMemberAccess]
    live = LiveFilter(made_board(PAIRS))
    for _ in range(2):  # without a time nobody can tell
        assert live.rescale({"SPY": 0.5}).sentence == "rescaled"


@pytest.mark.parametrize("days", [3, 40, 4000])
def test_a_long_silence_leaves_a_filter_that_learns_again(days: int):
    """Fading would widen without end; a complete row after it must not find infinity."""
    made = made_board((("XLE", "SPY"), ("XLE", "USO")), walks=False, discounted=True)
    live = LiveFilter(made, clock=Clock("1min"), max_ahead=timedelta(days=5000))
    for prices, at in feed(40, ("SPY", "USO")):
        signal = live.tick(prices, at=at + timedelta(days=days))
        assert signal.sentence == "accepted"
        document(live)
    assert (signal.tick.sd_total < 1).all()
    assert np.isfinite(signal.tick.z).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("shocks", [None, Robust()])
def test_no_price_locks_the_journal(shocks: Any, tmp_path: Path):
    live = LiveFilter(made_filter(transform="level", shocks=shocks), journal=tmp_path / "a")
    for number, price in enumerate([90.0, 1e120, -1e130, 1e300, 5e-324, 90.0]):
        live.tick({"XLE": price, "SPY": 500.0}, at=START + number * MINUTE)
    stood = document(live)
    live.close()
    again = LiveFilter(made_filter(transform="level"), journal=tmp_path / "a")
    assert document(again) == stood
    again.close()


def test_times_that_cannot_be_kept_are_refused(tmp_path: Path):
    live = LiveFilter(made_filter(at=None), journal=tmp_path / "a")
    assert live.tick(ROW, at=10**5000).sentence.startswith("rejected: a time that is a number must")
    assert live.tick(ROW, at=7).accepted
    live.close()
    clock = Clock.hours("09:30", "16:00", zone="America/New_York", start="2024-03-04")
    early = LiveFilter(made_filter(at=None), clock=clock)
    assert early.tick(ROW, at=START).sentence.startswith("rejected")
    assert early.tick(ROW, at=START + timedelta(days=4)).accepted


def test_another_thread_puts_no_engine_in_its_place(tmp_path: Path):
    single = LiveFilter(made_filter(), journal=tmp_path / "a")
    before = document(single)
    with ThreadPoolExecutor(1) as threads, pytest.raises(ValueError, match="belongs to the thread"):
        threads.submit(single.replace, made_filter(draws=4)).result()
    assert document(single) == before
    single.close()


REFUSED = [
    *(
        (lambda w=w: made_live(max_staleness=w), "max_staleness is a timedelta or a whole number")
        for w in (-1, 1.5, timedelta(-1))
    ),
    *(
        (lambda w=w: made_live(max_ahead=w), "max_ahead is a timedelta or a whole number above 0")
        for w in (0, -1, 1.5, True, timedelta(0))
    ),
    (lambda: made_live(max_staleness=3), "give a timedelta"),  # this one has seen a date
    (lambda: made_live(max_ahead=9), "max_ahead is the number 9, but the times are dates"),
    (lambda: numbered(max_ahead=9).tick(ROW, at=START), "max_ahead is the number 9, but the times"),
    *(
        (lambda other=other: LiveFilter(made_board(PAIRS)).replace(other()), "new filter is of")
        for other in (lambda: made_board(PAIRS[:2]), made_filter)
    ),
]


@pytest.mark.parametrize(("call", "text"), REFUSED)
def test_what_cannot_be_is_refused(call: Any, text: str):
    with pytest.raises(ValueError, match=text):
        call()


# -- the journal -----------------------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "robust, discounted": {"discounted": True, "shocks": Robust(), "share": 0.01},
    "quarantine, fading": {"walks": False, "shocks": Quarantine(4.0), "share": 0.02},
}


def one_of(live: LiveFilter, number: int, prices: dict[str, float], at: datetime) -> None:
    """A row, with oddities at some numbers."""
    if number % 7 == 3:
        live.tick({"XLE": prices["XLE"]}, at=at)
    elif number % 11 == 5:
        live.tick(prices | {"XLE": prices["XLE"] * 1.2}, at=at)
    elif number % 13 == 6:
        live.rescale({"SPY": 1.0})
    else:
        live.tick(prices, at=at)
        live.tick(prices, at=at)  # a duplicate


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_reopening_goes_on_to_the_bit(options: dict[str, Any], tmp_path: Path):
    rows, path = feed(60), tmp_path / "xle.journal"
    never_closed = made_live(made_filter(**options), max_staleness=timedelta(minutes=1))
    for number, row in enumerate(rows):
        if number == 25:
            never_closed.replace(OnlineFilter.from_json(never_closed.engine.to_json()))
        one_of(never_closed, number, *row)
    for first, last in ((0, 1), (1, 25), (25, 26), (26, 60)):
        part = rows[first:last]
        with made_live(
            made_filter(**options), max_staleness=timedelta(minutes=1), journal=path
        ) as live:
            for number, row in enumerate(part, first):
                one_of(live, number, *row)
            if last == 25:
                live.replace(OnlineFilter.from_json(live.engine.to_json()))  # a snapshot
    assert document(live) == document(never_closed)


def test_settings_that_the_journal_has_otherwise_are_named(tmp_path: Path):
    path = tmp_path / "xle.journal"
    with made_live(max_staleness=MINUTE, journal=path, monitor=None) as live:
        assert live.overruled == ()
        live.tick(ROW, at=START)
    with made_live(max_staleness=MINUTE, journal=path, monitor=None) as live:
        assert live.overruled == ()
    other = made_filter(shocks=Robust(), share=0.01, draws=4)
    with made_live(other, journal=path, keep=7, clock=Clock("1min")) as live:
        assert (live.clock, live.watch, live.engine.shocks) == (None, None, None)
        found = live.overruled
    assert found[0].startswith("clock is None as the journal keeps it, not Clock(bar=")
    assert found[1].startswith("monitor is None as the journal keeps it, not Monitor(")
    assert found[2:] == (
        "shocks is None as the journal keeps it, not Robust(limit=4.0) as given now",
        "share is 0.0 as the journal keeps it, not 0.01 as given now",
        "draws is 8 as the journal keeps it, not 4 as given now",
        "keep is 1000 as the journal keeps it, not 7 as given now",
        "max_staleness is 0:01:00 as the journal keeps it, not 0 as given now",
    )


def test_a_clock_whose_sessions_ran_out_is_followed_by_one_that_knows_more(tmp_path: Path):
    path, rows = tmp_path / "xle.journal", feed(4)
    zone, days = "America/New_York", [timedelta(days=n) for n in (0, 3, 4)]

    def until(end: str, **options: Any) -> LiveFilter:
        clock = Clock.hours("09:30", "16:00", zone=zone, start="2024-02-01", end=end, **options)
        return made_live(clock=clock, journal=path)

    with until("2024-03-01") as live:
        assert live.tick(rows[0][0], at=START).accepted
        assert "outside what this clock knows" in live.tick(rows[1][0], at=START + days[1]).sentence
    for options in ({"end": "2024-03-29", "bar": "5min"}, {"end": "2024-02-20"}):
        with until(**options) as live:
            assert "is a clock in bars of 0:01:00 of 09:30 to 16:00 Am" in live.overruled[0]
            assert "to 2024-03-01 21:00:00 UTC as the journal keeps it, no" in live.overruled[0]
            assert live.tick(rows[1][0], at=START + days[1]).sentence.startswith("rejected")
    with until("2024-03-04") as live:
        assert live.overruled == ()
        assert live.tick(rows[1][0], at=START + days[1]).accepted
    with until("2024-03-29", holidays=["2024-03-19"]) as live:
        assert live.tick(rows[2][0], at=START + days[2]).accepted
        assert live.history()[-1]["gaps"]["overnight"] == 1
        stood = document(live)
    with until("2024-03-29", holidays=["2024-03-19"]) as live:
        assert document(live) == stood
        assert len(live.history()) == 3


def test_new_noise_is_not_judged_by_what_the_old_one_made_of_the_rows():
    live = made_live(made_filter(draws=4), monitor=Monitor(250), few_draws=0.9)
    for number, (prices, at) in enumerate(feed(30)):
        live.tick(prices | {"XLE": prices["XLE"] * (1.01 + 0.02 * (number % 2))}, at=at)
    assert live.standing(Outcome.SKIPPED, "").condition == "broken"
    live.replace(OnlineFilter.from_json(live.engine.to_json()))
    assert live.standing(Outcome.SKIPPED, "").condition == "ok"
    fresh = made_live(made_filter(draws=4), monitor=Monitor(250), few_draws=0.9)
    assert live.to_json()["watch"] == fresh.to_json()["watch"]
    assert live.to_json()["few"] == [False]


def test_a_journal_of_another_fit_is_refused(tmp_path: Path):
    path = tmp_path / "xle.journal"
    made_live(journal=path).close()
    with pytest.raises(ValueError, match="is the journal of"):
        made_live(made_filter(fit_id="another"), journal=path)


SCRIPT = """
import sys
from kfmodels.live.feed import LiveFilter
from tests.made_filters import feed, made_filter
live = LiveFilter(made_filter(discounted=True), journal=sys.argv[1])
done = live.seq
for prices, at in feed(4000)[done:]:
    signal = live.tick(prices, at=at)
    print(signal.seq, signal.tick.spread.hex(), flush=True)
"""


def test_a_killed_filter_has_lost_nothing_it_answered(tmp_path: Path):
    path = tmp_path / "xle.journal"
    whole = made_live(made_filter(discounted=True))
    expected = [whole.tick(p, at=at).tick.spread.hex() for p, at in feed(4000)]
    rng, answered = np.random.default_rng(), 0
    for _ in range(4):
        process = python("-c", SCRIPT, path)
        assert process.stdout is not None
        for _ in range(rng.integers(1, 200)):
            seq, spread = process.stdout.readline().split()
            assert expected[int(seq) - 1] == spread
            answered = int(seq)
        process.send_signal(signal.SIGKILL)
        for line in process.communicate()[0].splitlines():
            if len(line.split()) == 2 and line.split()[1] == expected[int(line.split()[0]) - 1]:
                answered = int(line.split()[0])
    with made_live(made_filter(discounted=True), journal=path) as live:
        assert live.seq >= answered
        again = made_live(made_filter(discounted=True))
        for prices, at in feed(4000)[: live.seq]:
            again.tick(prices, at=at)
        assert document(live) == document(again)


# -- a board --------------------------------------------------------------------------------------


def board_rows(rows: int) -> list[Any]:
    """Four symbols, one of which sometimes is not there, stale or impossible."""
    found = []
    for number, (prices, at) in enumerate(feed(rows, ("SPY", "USO"))):
        prices = prices | {"XOM": prices["XLE"] * (1 + 0.0003 * number)}
        if number % 5 == 2:
            prices["USO"] = None
        if number % 8 == 3:
            prices["XOM"] = -1.0
        found.append((prices, at))
    return found


@pytest.mark.parametrize("discounted", [False, True])
def test_a_board_answers_for_every_pair_as_its_own_filter_does(discounted: bool, tmp_path: Path):
    options: Any = {"discounted": discounted, "shocks": Quarantine(), "share": 0.01}
    board = LiveFilter(made_board(PAIRS, **options), journal=tmp_path / "b")
    singles = [made_filter(**options) for _ in PAIRS]
    for number, (prices, at) in enumerate(board_rows(40)):
        if number == 23:  # another process goes on
            board.close()
            board = LiveFilter(made_board(PAIRS, **options), journal=tmp_path / "b")
        if number == 31:
            board.rescale({"SPY": 0.5})
            for (_, hedge), one in zip(PAIRS, singles, strict=True):
                if hedge == "SPY":
                    one.rescale(hedges={"SPY": 0.5})
        if number >= 31:
            prices = prices | {"SPY": prices["SPY"] / 2}
        signal = board.tick(prices, at=at)
        assert signal.sentence.startswith("accepted")
        assert ("rejected: XOM has the price -1" in signal.sentence) == (prices["XOM"] == -1.0)
        for place, ((target, hedge), one) in enumerate(zip(PAIRS, singles, strict=True)):
            y, x = (math.nan if p is None or p < 0 else p for p in (prices[target], prices[hedge]))
            alone = one.update(y=y, x=x, at=at)
            assert signal.tick.sentence[place].split(":")[0] == alone.sentence.split(":")[0]
            beta = next(iter(alone.beta.values()))
            assert_allclose(signal.tick.beta[place], beta, rtol=1e-9)
            assert_allclose(signal.tick.z[place], alone.z, rtol=1e-8, atol=1e-10)
            assert_allclose(signal.tick.effective_draws[place], alone.effective_draws, rtol=1e-8)
    stood = document(board)
    board.close()
    again = LiveFilter(made_board(PAIRS, **options), journal=tmp_path / "b")
    assert document(again) == stood
    again.close()
    waiting = again.engine.standing()
    assert_array_equal(waiting.beta, signal.tick.beta)
    assert json.loads(json.dumps(signal.record()["pair"])) == ["XLE/SPY", "XLE/USO", "XOM/SPY"]


def one_by_one(live: LiveFilter, messages: list[dict[str, float]], after: int) -> list[Any]:
    """The ticks of prices that come a second apart, with what each said of the pairs."""
    begin = START + after * MINUTE
    ticks = [live.tick(p, at=begin + timedelta(0, n)).tick for n, p in enumerate(messages)]
    return [[said.split(":")[0] for said in tick.sentence] for tick in ticks]


def made_of_legs(pairs: Any, tmp_path: Path) -> LiveFilter:
    return LiveFilter(
        made_board(pairs, shocks=Quarantine(6.0)),
        max_staleness=timedelta(seconds=30),
        journal=tmp_path / "b",
    )


def test_a_held_pair_leaves_the_hedge_to_the_others(tmp_path: Path):
    """Of legs that come one by one: the target that has split waits, the shared hedge does not."""
    pairs = (("XLE", "SPY"), ("XOM", "SPY"))
    live = made_of_legs(pairs, tmp_path)
    live.tick({"XLE": 90.0, "XOM": 90.0, "SPY": 500.0}, at=START)
    for minute in range(1, 4):
        said = one_by_one(live, [{"SPY": 500.1}, {"XLE": 45.0}, {"XOM": 90.1}], minute)
        assert [row[0] for row in said] == ["skipped", "quarantined", "quarantined"]
        assert said[2][1] == "accepted"
        stood = document(live)
        live.close()
        live = made_of_legs(pairs, tmp_path)
        assert document(live) == stood
    prices = [tuple(row["prices"].values()) for row in live.history()[1:]]
    assert prices == [(None, 90.1, 500.1)] * 3
    live.close()


@pytest.mark.parametrize("others", [(("XOM", "SPY"),), (("XOM", "SPY"), ("XLE", "USO"))])
def test_a_bad_hedge_of_many_pairs_does_not_confirm_itself(others: Any, tmp_path: Path):
    """However often the targets come while its price is fresh; every pair looks at it once."""
    live = made_of_legs((("XLE", "SPY"), *others), tmp_path)
    live.tick({"XLE": 90.0, "XOM": 90.0, "SPY": 500.0, "USO": 70.0}, at=START)
    bad = [{"SPY": 560.0}, *[{"XLE": 90.0 + n / 100} for n in range(6)], {"XOM": 90.1}]
    said = one_by_one(live, [*bad, {"XOM": 90.2}, {"XLE": 90.1}], 1)
    assert [row[0] for row in said].count("quarantined") == 1
    assert [row[1] for row in said].count("quarantined") == 1
    assert not any("accepted" in row[:2] for row in said)
    said = one_by_one(live, [{"SPY": 500.1}, {"XLE": 90.1}, {"XOM": 90.1}], 2)
    assert said[-1][:2] == ["accepted"] * 2
    live.close()


def test_a_board_waits_where_no_pair_has_both_its_legs():
    board = LiveFilter(made_board(PAIRS))
    before = document(board)
    assert board.tick({"GLD": 1.0}, at=START).sentence == "skipped: no price of any leg"
    assert document(board) == before
    signal = board.tick({"USO": 70.0}, at=START)
    assert signal.tick.sentence == tuple(
        f"skipped: no price of {names}" for names in ("XLE, SPY", "XLE", "XOM, SPY")
    )


# -- whatever comes --------------------------------------------------------------------------------

PRICE = st.one_of(
    st.floats(), st.floats(1.0, 1000.0), st.none(), st.text(max_size=3), st.integers(-3, 10**9)
)
TIME = st.one_of(
    st.integers(-5, 5),
    st.just("2024"),
    st.none(),
    st.datetimes(),
    st.timedeltas(-MINUTE, 9 * MINUTE),
)
MESSAGE = st.tuples(st.dictionaries(st.sampled_from(["XLE", "SPY", "GLD"]), PRICE), TIME)


@given(
    messages=st.lists(MESSAGE, max_size=25),
    shocks=st.sampled_from([None, Quarantine(), Robust()]),
    walks=st.booleans(),
    discounted=st.booleans(),
    transform=st.sampled_from(["log", "level", "return"]),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy says when a price overflows; so do we
def test_nothing_that_comes_breaks_the_invariants(
    messages: Any, shocks: Any, walks: bool, discounted: bool, transform: str
):
    live = made_live(
        made_filter(shocks=shocks, walks=walks, discounted=discounted, transform=transform),
        max_staleness=timedelta(minutes=2),
    )
    now, seq = START, 0
    for prices, time in messages:
        if isinstance(time, timedelta):
            time = now = max(now + time, START)
        before = document(live)
        signal = live.tick(prices, at=time)
        assert (signal.seq == seq) == (document(live) == before)
        words = ("accepted", "skipped", "quarantined", "duplicate", "rejected")
        assert signal.sentence.startswith(words)
        assert signal.seq in (seq, seq + 1)
        seq = signal.seq
        json.dumps(live.to_json(), allow_nan=False)
        held = live.engine.arguments()
        mean, cov = held["state"].mean, np.moveaxis(held["state"].cov, -1, 0)
        assert np.isfinite(mean).all()
        assert_array_equal(cov, cov.swapaxes(1, 2))
        assert np.linalg.eigvalsh(cov).min() > -1e-9 * np.abs(cov).max()
        assert live.engine.weights.sum() == pytest.approx(1.0, abs=1e-9)
