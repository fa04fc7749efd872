"""Alarms about the feed: once when they begin, and a condition as long as they last."""

import json
import math
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kfmodels import Discounted, HedgeData, fit, hedge_ratio_model
from kfmodels.clock.clock import Clock
from kfmodels.data import datasets
from kfmodels.kalman.habits import Habits
from kfmodels.live.feed import LiveFilter
from kfmodels.live.feed_watch import HELD, LONG_CALM, MISSING, REJECTED
from kfmodels.live.monitor import Alarm
from kfmodels.live.signals import Signal
from kfmodels.online.shocks import Quarantine
from tests.made_filters import MINUTE, START, board_of, feed, made_filter
from tests.tables import read_table

ABOUT_FEED = ("missing leg", "stopped leg", "calm", "held prices", "rejected rows", "lead or lag")
HABITS = Habits(np.full(2, 0.004), np.full(2, 5.0), np.zeros(2), np.array(0.0))


def made_live(**options: Any) -> LiveFilter:
    given = {name: options.pop(name) for name in ("shocks", "transform") if name in options}
    return LiveFilter(made_filter(habits=HABITS, **given), monitor=None, few_draws=0, **options)


def of_feed(signal: Signal) -> list[Alarm]:
    alone = [one if isinstance(one, Alarm) else one[1] for one in signal.alarms]
    return [alarm for alarm in alone if alarm.kind in ABOUT_FEED]


def told(live: LiveFilter, messages: Any) -> list[tuple[int, str, str, str]]:
    """Number of the message, kind, leg and condition of every alarm about the feed."""
    found = []
    for number, (prices, at) in enumerate(messages):
        signal = live.tick(prices, at=at)
        found += [(number, a.kind, a.leg, signal.condition) for a in of_feed(signal)]
    return found


@pytest.mark.parametrize("leg", ["XLE", "SPY"])
def test_a_leg_that_stops_is_told_once_and_broken_until_it_moves(leg: str):
    live, rows = made_live(), feed(40)
    stuck = [
        (p | {leg: rows[9][0][leg]} if 9 < n < 30 else p, at) for n, (p, at) in enumerate(rows)
    ]
    assert told(live, stuck[:30]) == [
        (14, "stopped leg", leg, "broken")
    ]  # the 5th row that repeats
    assert live.tick({}, at=stuck[29][1]).condition == "broken"
    moved = live.tick(stuck[30][0], at=stuck[30][1])
    assert (moved.condition, of_feed(moved)) == ("ok", [])


STOPPED = "stopped leg", "XLE", "broken"


@pytest.mark.parametrize(
    ("repeats", "comes", "alarms"),
    [(4, True, []), (99, True, [(29, *STOPPED)]), (99, False, [(24, *STOPPED)])],
)
def test_half_a_row_does_not_call_the_leg_that_is_still_to_come_stopped(
    repeats: int, comes: bool, alarms: Any
):
    """XLE repeats from row 10 on or does not come; in row 14, with SPY alone, it would be the fifth."""
    live, rows = made_live(max_staleness=10 * MINUTE, clock=Clock("1min")), feed(16)
    messages = []
    for number, (prices, at) in enumerate(rows):
        price = rows[9][0]["XLE"] if 9 < number < 10 + repeats else prices["XLE"]
        messages.append(({"SPY": prices["SPY"]}, at + MINUTE / 3))
        if comes or number < 10:
            messages.append(({"XLE": price}, at + MINUTE / 2))
    assert told(live, messages) == alarms


@pytest.mark.slow
@pytest.mark.parametrize("dead", ["PEP", "KO"])
def test_a_hedge_or_a_target_that_died_is_found_within_five_days(dead: str):
    """A8: KO on PEP, one of which repeats its price from 2020-06-01 on."""
    prices = datasets.stocks()[["KO", "PEP"]]
    data = HedgeData.from_prices(prices.loc["2018":"2020-05-15"], target="KO", hedges=["PEP"])
    live = LiveFilter(fit(data, hedge_ratio_model(noise=Discounted()), progress=False).online())
    later = prices.loc["2020-05-18":"2020-07-15"].copy()
    stopped = later.index >= "2020-06-01"
    later.loc[stopped, dead] = float(later[dead][~stopped].iloc[-1])
    found = told(
        live, ((row, at) for at, row in zip(later.index, later.to_dict("records"), strict=True))
    )
    ((number, kind, leg, condition),) = found
    assert (kind, leg, condition) == ("stopped leg", dead, "broken")
    assert number - int((~stopped).sum()) == 4


def test_an_outage_filled_flat_is_told_once():
    live, rows = made_live(), feed(40)
    flat = [(rows[9][0] if 9 < n < 30 else p, at) for n, (p, at) in enumerate(rows)]
    assert told(live, flat[:30]) == [(9 + LONG_CALM, "calm", "", "watch")]
    assert live.tick(flat[30][0], at=flat[30][1]).condition == "ok"


def test_a_ticker_that_never_comes_is_told_with_the_names_that_do():
    live, found = made_live(), []
    for number, (prices, at) in enumerate(feed(30)):
        signal = live.tick({"XLE": prices["XLE"], "SPYY": prices["SPY"], "GLD": 1.0}, at=at)
        found += [(number, alarm) for alarm in of_feed(signal)]
    ((number, alarm),) = found
    assert (number, alarm.leg, signal.condition) == (MISSING - 1, "SPY", "broken")
    assert (
        "SPY has not come for 10 bars in which other legs did, it brings SPYY, GLD" in alarm.message
    )
    prices, at = feed(31)[-1]
    assert live.tick(prices, at=at).condition == "ok"


@pytest.mark.parametrize("first", [0, 5])
def test_names_that_are_all_unknown_are_told(first: int):
    """From the first message on, or later; a message without a name does not count."""
    live, found = made_live(), []
    for number, (prices, at) in enumerate(feed(30)):
        lower = {name.lower(): price for name, price in prices.items()}
        signal = live.tick(prices if number < first else lower, at=at)
        live.tick({}, at=at)
        found += [(number, alarm) for alarm in of_feed(signal)]
    ((number, alarm),) = found
    assert (number, alarm.kind, alarm.leg) == (first + MISSING - 1, "missing leg", "")
    assert alarm.message == (
        "missing leg (XLE): 10 messages in succession name no leg of SPY, XLE; they bring xle, spy "
        "instead"
    )
    assert (signal.sentence, signal.condition) == ("skipped: no price of any leg", "broken")
    watch: Any = live.to_json()["feed"]
    assert watch["told"] == []  # these messages are in no journal
    prices, at = feed(31)[-1]
    assert live.tick(prices, at=at).condition == "ok"


def test_a_leg_that_is_often_away_is_missing_after_twice_as_long():
    live, rows, found = made_live(), feed(200), []
    for number, (prices, at) in enumerate(rows):
        away = number > 160 or (number < 150 and number % 20 != 0)
        signal = live.tick({"XLE": prices["XLE"]} if away else prices, at=at)
        found += [number for _ in of_feed(signal)]
    # the first two absences of 19 bars, then one of 38
    assert found == [10, 30, 160 + 38]


def test_a_change_of_scale_held_for_long_is_told_with_the_call_that_ends_it():
    live, found = made_live(shocks=Quarantine()), []
    for number, (prices, at) in enumerate(feed(30)):
        prices = prices | {"SPY": prices["SPY"] / 2} if number > 9 else prices
        signal = live.tick(prices, at=at)
        found += [(number, alarm) for alarm in of_feed(signal)]
        assert signal.condition == ("ok" if number < 10 else "watch" if number < 15 else "broken")
    ((number, alarm),) = found
    assert (number, alarm.kind, alarm.bars) == (15, "held prices", 6)
    leg, factor = alarm.message.split("call rescale with ")[1].split(",")[0].split(" at ")
    live.rescale({leg: Fraction(factor)})
    prices, at = feed(31)[-1]
    after = live.tick(prices | {"SPY": prices["SPY"] / 2}, at=at)
    assert (after.sentence, after.condition) == ("accepted", "ok")


@pytest.fixture
def any_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """No price is refused at sight, so that one may reach the arithmetic of the filter."""
    monkeypatch.setattr("kfmodels.live.quotes.FARTHEST", np.inf)


@pytest.mark.parametrize(
    ("bad", "late", "why"),
    [
        ({"XLE": math.inf, "SPY": -math.inf}, 0, "XLE has the price inf; SPY has the price -inf"),
        ({}, -90, "out of order, "),
        ({"XLE": 1e200}, 0, "XLE has the price 1e+200, which a level transform cannot take"),
    ],
)
def test_a_feed_of_which_every_message_is_rejected_is_told_once(
    bad: dict[str, float], late: int, why: str, any_price: None
):
    live, rows, found = made_live(transform="level"), feed(60), []
    with np.errstate(all="ignore"):
        for number, (prices, at) in enumerate(rows[:50]):
            wrong = 9 < number < 40
            at += late * MINUTE if wrong else 0 * MINUTE
            signal = live.tick(prices | bad if wrong else prices, at=at)
            found += [(number, alarm) for alarm in of_feed(signal)]
            assert (signal.outcome == "rejected") == wrong, signal.sentence
            assert signal.condition == ("broken" if 9 + REJECTED <= number < 40 else "ok")
    ((number, alarm),) = found
    assert (number, alarm.kind, alarm.bars) == (9 + REJECTED, "rejected rows", REJECTED)
    assert "10 messages in succession were rejected, the last of them as: " in alarm.message
    assert why in alarm.message
    assert alarm.action == "stop"


def test_the_count_of_rejections_outlives_a_restart(tmp_path: Path, any_price: None):
    """Those that are in the journal, since a message that is refused at once is in none."""
    rows, level = feed(20), {"transform": "level", "journal": tmp_path / "journal"}
    with np.errstate(all="ignore"), made_live(**level) as live:
        for prices, at in rows[: REJECTED - 1]:
            assert live.tick(prices | {"XLE": 1e200}, at=at).condition == "ok"
    with np.errstate(all="ignore"), made_live(**level) as live:
        prices, at = rows[REJECTED]
        (alarm,) = of_feed(live.tick(prices | {"XLE": 1e200}, at=at))
        assert (alarm.kind, alarm.bars) == ("rejected rows", REJECTED)


def test_a_pair_of_a_board_whose_rows_are_rejected_is_told_by_name(any_price: None):
    prices = [(p | {"OIL": p["XLE"]}, at) for p, at in feed(30)]
    made = {"habits": HABITS, "transform": "level"}
    pairs = {"XLE": made_filter(**made), "OIL": made_filter(target="OIL", **made)}
    live = LiveFilter(board_of(pairs), monitor=None, few_draws=0)
    found = []
    with np.errstate(all="ignore"):
        for number, (row, at) in enumerate(prices):
            signal = live.tick(row | {"OIL": 1e200} if number > 9 else row, at=at)
            found += [(number, one[0], one[1].kind, one[1].bars) for one in signal.alarms]
    assert signal.tick.outcome == ("accepted", "rejected")
    assert found == [(9 + REJECTED, "OIL", "rejected rows", REJECTED)]


def test_a_leg_that_stopped_at_a_jump_is_not_only_called_a_split():
    """DEAD falls from 96 to 31.5, a third, and stands still from then on."""
    live, rows, found = made_live(shocks=Quarantine()), feed(30), []
    for number, (prices, at) in enumerate(rows):
        signal = live.tick(prices | {"SPY": 160.0} if number > 9 else prices, at=at)
        found += [(number, alarm) for alarm in of_feed(signal)]
        if number > 9:
            assert "if that is a split, call rescale with SPY at 1/3" in signal.reason
        doubted = f"SPY has not moved for {number - 10} rows, since {rows[10][1].isoformat()}"
        assert (f"; {doubted}: it may have stopped, and not have split" in signal.reason) == (
            number >= 14
        )
    ((number, alarm),) = found
    assert (number, alarm.kind) == (10 + HELD, "held prices")
    assert "but SPY has not moved for 5 rows, since 2024-03-01T09:40:00-05:00" in alarm.message
    assert alarm.reason.startswith("a leg that stopped is no split: check the feed first")


def test_shocks_of_changing_sign_are_not_held_in_silence():
    live, found = made_live(shocks=Quarantine()), []
    for number, (prices, at) in enumerate(feed(30)):
        wild = prices["XLE"] * math.exp(0.4 * (-1) ** number)
        signal = live.tick(prices | {"XLE": wild} if number > 9 else prices, at=at)
        found += [(number, alarm.kind) for alarm in of_feed(signal)]
    assert found == [(15, "held prices")]
    assert signal.condition == "broken"


def test_a_board_names_pair_and_leg():
    names = {"XLE/SPY": ("XLE", "SPY"), "XLF/SPY": ("XLF", "SPY"), "XOM/USO": ("XOM", "USO")}
    near = {"XLF": 90.0, "XOM": 90.0, "USO": 500.0}
    one = made_filter(habits=HABITS).arguments()
    made = type(made_filter())
    board = board_of(
        {n: made(**one | {"target": y, "hedges": (x,)}) for n, (y, x) in names.items()}
    )
    board.habits = Habits(*(np.stack([part] * 3) for part in HABITS))
    live, found = LiveFilter(board, monitor=None, few_draws=0), []
    rng = np.random.default_rng(2)
    for number, (prices, at) in enumerate(feed(30)):
        row = prices | {n: p * math.exp(0.002 * rng.normal()) for n, p in near.items()}
        row |= {"SPY": 500.0}
        if number > 3:
            del row["USO"]
        signal = live.tick(row, at=at)
        found += [(number, *one) for one in signal.alarms]
    kinds = [(number, name, alarm.kind, alarm.leg) for number, name, alarm in found]
    assert (13, "XOM/USO", "missing leg", "USO") in kinds
    (stopped,) = [one for one in found if one[2].kind == "stopped leg"]
    assert stopped[1] == "XLE/SPY"
    assert "(XLE/SPY, XLF/SPY)" in stopped[2].message
    assert stopped[2].leg == "SPY"
    assert signal.condition == "broken"


def test_legs_of_two_times_are_told():
    live, rows = made_live(), feed(400)
    late = [
        ({"XLE": rows[n][0]["XLE"], "SPY": rows[n - 1][0]["SPY"]}, rows[n][1])
        for n in range(1, 400)
    ]
    found = told(live, late)
    assert {(kind, leg) for _, kind, leg, _ in found} == {("lead or lag", "SPY")}
    assert found[0][0] < 200


def test_what_is_known_survives_a_restart(tmp_path: Path):
    rows = feed(60)
    odd = [
        ({"XLE": p["XLE"]} if 9 < n < 25 else rows[30][0] if 30 < n < 50 else p, at)
        for n, (p, at) in enumerate(rows)
    ]
    whole = made_live()
    expected = told(whole, odd)
    assert [kind for _, kind, *_ in expected] == ["missing leg", "calm"]
    found, path = [], tmp_path / "journal"
    for first in range(0, 60, 5):
        live = made_live(journal=path)
        found += [(n + first, *rest) for n, *rest in told(live, odd[first : first + 5])]
        if first == 20:
            live.journal.compact(live.to_json())  # the rest is replayed from messages
        live.close()
    assert found == expected
    assert json.dumps(live.to_json()) == json.dumps(whole.to_json())


def test_bars_are_those_of_the_clock():
    """Ten messages within a minute are one bar of a minute; that at the open is one of its own."""
    clock = Clock.hours("09:30", "16:00", zone="America/New_York", bar="1min")
    live, found = made_live(clock=clock, max_staleness=timedelta(minutes=1)), []
    for number in range(120):
        price = {"XLE": 90.0 + 0.01 * number}
        found += [number for _ in of_feed(live.tick(price, at=START + number * MINUTE / 10))]
    assert found == [81]


def test_real_minutes_are_never_calm_nor_a_leg_of_them_missing():
    table = read_table("intraday_us_1min_2019-02.csv.gz")[["QQQ", "SPY"]]
    one = made_filter(target="QQQ", near={"QQQ": 170.0, "SPY": 270.0}, at=None, until=None)
    live = LiveFilter(one, monitor=None, few_draws=0)
    rows = ((row, at) for at, row in zip(table.index, table.to_dict("records"), strict=True))
    assert [one for one in told(live, rows) if one[1] in ("calm", "missing leg")] == []
