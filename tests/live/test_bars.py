"""Messages of one bar make one row, in whatever order its legs come and however often it is polled."""

import json
import math
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels.clock.clock import Clock
from kfmodels.data import datasets
from kfmodels.data.hedge_data import HedgeData
from kfmodels.fitting.fit import fit
from kfmodels.fitting.refresh import collect_rows
from kfmodels.live.account import Attribution
from kfmodels.live.book import HedgeBook
from kfmodels.live.feed import LiveFilter
from kfmodels.live.monitor import Monitor
from kfmodels.model.assumptions import Discounted
from kfmodels.model.hedge_ratio import hedge_ratio_model
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.follow import follow
from kfmodels.online.shocks import Quarantine
from kfmodels.online.ticks import Outcome
from kfmodels.sampling.importance import ImportanceSampling
from tests.made_filters import MINUTE, START, feed, made_board, made_filter, made_prices

pytestmark = pytest.mark.slow

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
PAIRS = (("XLE", "SPY"), ("XLE", "USO"), ("XOM", "SPY"))
NEW_YORK = Clock.hours("09:30", "16:00", zone="America/New_York")


def state(live: LiveFilter) -> str:
    """All that has learnt, to the bit."""
    held = [live.engine, live.watch, live._learner.few]
    return json.dumps([one.tolist() if one is held[2] else one.to_json() for one in held])


def fitted(prices: pd.DataFrame, target: str, hedge: str, clock: Clock | None, **how: Any) -> Any:
    how = {"transform": "log"} | how
    data = HedgeData.from_prices(prices, target=target, hedges=[hedge], clock=clock, **how)
    model = hedge_ratio_model(noise=Discounted())
    return fit(data, model, method=ImportanceSampling(), progress=False)


def poll(live: LiveFilter, at: Any, row: dict[str, float], times: int) -> Any:
    """The row of a day, sent every ten minutes from 9:30 on."""
    first = at + timedelta(hours=9, minutes=30)
    return [live.tick(row, at=first + n * timedelta(minutes=10)) for n in range(times)][-1]


def test_a_bar_that_is_polled_is_learnt_from_once():
    prices = datasets.simulate(900, seed=1, volatility_memory=20).prices[["Y", "X1"]]
    found = fitted(prices.iloc[:500], "Y", "X1", Clock.daily())
    often, once = found.go_live(), found.go_live()
    for at, row in prices.iloc[500:520].iterrows():
        last, one = poll(often, at, row.to_dict(), 30), poll(once, at, row.to_dict(), 1)
        assert last.tick.beta == one.tick.beta
    # of the filter that saw each day once, before bars were provisional
    assert last.tick.beta["X1"] == pytest.approx(0.930, abs=1e-3)
    assert last.tick.sd_total["X1"] == pytest.approx(0.0574, abs=1e-3)
    assert last.tick.effective_draws == one.tick.effective_draws == pytest.approx(69, abs=1.5)
    assert len(often.history()) == 20
    with_times = often.engine.arguments() | {"at": None}
    for name in ("state", "carried", "log_weights"):
        for mine, other in zip(with_times[name], once.engine.arguments()[name], strict=True):
            assert_array_equal(mine, other)
    shown = pd.DataFrame([row["prices"] for row in often.history()])
    assert_array_equal(collect_rows(often, prices.iloc[:500]).prices.iloc[-20:], shown)


def test_the_last_bar_of_a_fit_teaches_nothing_more():
    prices = datasets.simulate(300, seed=1).prices[["Y", "X1"]]
    found = fitted(prices.iloc[:250], "Y", "X1", Clock.daily())
    live, other = found.go_live(), found.go_live()
    said = poll(live, prices.index[249], prices.iloc[249].to_dict(), 3)
    assert said.sentence.startswith("skipped: no time has passed since the row at ")
    assert said.sentence.endswith("which is final: Y, X1 kept for the next")
    assert state(live) == state(other)
    row, at = prices.iloc[250].to_dict(), prices.index[250]
    assert poll(live, at, row, 2).tick.beta == poll(other, at, row, 1).tick.beta
    followed = found.online()
    table = follow(followed, prices.iloc[[249, 250]].shift(freq="9h"), clock=Clock.daily())
    assert math.isnan(table["z"].iloc[0])
    assert (
        table["beta X1"].iloc[1]
        == found.go_live(share=0.0, shocks=None).tick(row, at=at).tick.beta["X1"]
    )


def test_factor_etfs_polled_seven_times_a_day():
    prices = datasets.factor_etfs()[["MTUM", "QUAL"]].loc["2019":]
    found = fitted(prices.iloc[:300], "MTUM", "QUAL", Clock.daily())
    often, once = found.go_live(), found.go_live()
    rng = np.random.default_rng(1)
    for at, row in prices.iloc[300:360].iterrows():
        for n in range(6):  # on the way to the close
            part = {name: price * (1 + 0.002 * rng.normal()) for name, price in row.items()}
            often.tick(part, at=at + timedelta(hours=9 + n))
        close = at + timedelta(hours=16)
        last, one = often.tick(row.to_dict(), at=close), once.tick(row.to_dict(), at=close)
        assert last.tick == one.tick
    assert state(often) == state(once)


def test_legs_of_a_day_that_come_one_after_another():
    """EEM on EFA with a staleness of days: half of the rows are of one fresh leg and one old."""
    prices = datasets.etfs()[["EEM", "EFA"]].dropna().iloc[-700:]
    found = fitted(prices.iloc[:500], "EEM", "EFA", Clock.daily())
    apart, whole = found.go_live(max_staleness=timedelta(days=5)), found.go_live()
    alarms = 0
    for at, row in prices.iloc[500:].iterrows():
        for n, name in enumerate(("EFA", "EEM")):
            said = apart.tick({name: row[name]}, at=at + timedelta(hours=16, minutes=n))
            alarms += len(said.alarms) if name == "EFA" else 0
        one = whole.tick(row.to_dict(), at=at + timedelta(hours=16, minutes=1))
        assert said.tick == one.tick
    assert 0.5 < said.tick.beta["EFA"] < 1.3  # of rows half old it was 0.1
    assert alarms == 0  # half a row sets none off
    assert state(apart) == state(whole)


@st.composite
def bars(draw: Any) -> list[list[tuple[tuple[str, ...], int]]]:
    """Bars of messages, each with the legs that it prices; the last prices all."""
    legs = ("XLE", "SPY", "USO", "XOM")
    message = st.lists(st.sampled_from(legs), min_size=1, unique=True).map(tuple)
    polls = st.lists(message, max_size=5).map(lambda some: [*some, *draw(order)])
    order = st.permutations(legs).map(lambda each: [(one,) for one in each])
    return draw(st.lists(polls, min_size=1, max_size=6))


@pytest.mark.nightly
@settings(max_examples=25)
@given(bars=bars(), single=st.booleans(), discounted=st.booleans(), seed=st.integers(0, 99))
def test_any_interleaving_ends_as_rows_fed_whole(
    bars: Any, single: bool, discounted: bool, seed: int, tmp_path_factory: Any
):
    options: Any = {"discounted": discounted, "shocks": Quarantine(), "share": 0.01}
    path = tmp_path_factory.mktemp("bars") / "journal"

    def made(**how: Any) -> LiveFilter:
        engine = (
            made_filter(hedges=("SPY", "USO", "XOM"), **options)
            if single
            else made_board(PAIRS, **options)
        )
        return LiveFilter(engine, clock=NEW_YORK, max_staleness=MINUTE, **how)

    rng = np.random.default_rng(seed)
    rows = made_prices(len(bars), ("SPY", "USO", "XOM"), seed=seed)
    rows[:, 3] /= 5
    apart, whole = made(journal=path), made()
    for number, (messages, row) in enumerate(zip(bars, rows, strict=True)):
        prices = dict(zip(("XLE", "SPY", "USO", "XOM"), row.tolist(), strict=True))
        last: dict[str, float] = {}
        for place, legs in enumerate(messages):
            at = START + number * MINUTE + (place + 1) * 5 * SECOND
            come = {leg: prices[leg] * (1 + 1e-3 * rng.normal()) for leg in legs}
            last |= come
            said = apart.tick(come, at=at)
            assert said.outcome is not Outcome.REJECTED
            if place == 3 and number % 2:
                stood = json.dumps(apart.to_json())
                apart._restore(json.loads(stood))
                assert json.dumps(apart.to_json()) == stood
        whole.tick(last, at=at)
        assert state(apart) == state(whole)
    assert [{**row} for row in apart.history()] == whole.history()
    stood = state(apart), json.dumps(apart.to_json())
    apart.close()
    with made(journal=path) as again:
        assert (state(again), json.dumps(again.to_json())) == stood


def test_late_legs_of_a_bar_complete_its_row():
    """The second leg is stamped before the first, and comes after it."""
    live, whole = (
        LiveFilter(made_filter(), clock=NEW_YORK, max_staleness=MINUTE) for _ in range(2)
    )
    for number, (prices, _) in enumerate(feed(5)):
        at = START + number * MINUTE
        live.tick({"XLE": prices["XLE"]}, at=at + 50 * SECOND)
        live.tick({"SPY": prices["SPY"]}, at=at + 20 * SECOND)
        whole.tick({"SPY": prices["SPY"]}, at=at + 20 * SECOND)
        whole.tick({"XLE": prices["XLE"]}, at=at + 50 * SECOND)
        assert state(live) == state(whole)


def test_quarantine_counts_bars():
    live = LiveFilter(made_filter(shocks=Quarantine(6.0, pull=1e6)), clock=NEW_YORK)
    rows = feed(6)
    for prices, at in rows[:4]:
        assert live.tick(prices, at=at + SECOND).accepted
    wrong = rows[4][0] | {"XLE": rows[4][0]["XLE"] * 1.3}
    for n in range(1, 30):
        said = live.tick(wrong, at=rows[4][1] + n * SECOND)
        assert said.outcome is Outcome.QUARANTINED
        assert "1 of 2" in said.reason
    assert live.tick(wrong, at=rows[5][1] + SECOND).accepted  # the second bar confirms it
    assert live.tick(rows[4][0], at=rows[5][1] + 2 * SECOND).accepted  # and is taken back
    assert live.engine.holds == {}


def test_an_alarm_is_given_once_a_bar():
    one, often = (LiveFilter(made_filter(), clock=NEW_YORK, monitor=Monitor(250)) for _ in "ab")
    rng = np.random.default_rng(1)
    found: list[list[str]] = [[], []]
    for prices, at in feed(80):
        noisy = prices | {"XLE": prices["XLE"] * math.exp(0.03 * rng.normal())}
        found[0] += [a.kind for a in one.tick(noisy, at=at + 3 * SECOND).alarms]
        for n in range(1, 4):
            found[1] += [a.kind for a in often.tick(noisy, at=at + n * SECOND).alarms]
    assert found[0]
    assert found[0] == found[1]


def test_polls_that_are_on_their_way_to_the_close_set_off_no_alarm_of_their_own():
    """Every poll is another chance of a false alarm; the first polled bar is not known to be one."""
    prices = datasets.factor_etfs()[["QUAL", "VLUE"]].iloc[:900]
    found = fitted(prices.iloc[:400], "QUAL", "VLUE", Clock.daily())
    rang: list[list[tuple[str, int]]] = []
    for polls in (1, 6):
        live, rng, rung = found.go_live(), np.random.default_rng(1), list[tuple[str, int]]()
        for number, (at, row) in enumerate(prices.iloc[400:].iterrows()):
            for n in range(polls, 0, -1):
                own = 1 + 0.004 * rng.normal(size=2) * (n > 1)
                now = dict(zip(prices, row * own, strict=True))
                signal = live.tick(now, at=at + timedelta(hours=16 - n))
                # those that come with the first message of a bar are of the one before
                waited = polls > 1 and number > 0
                rung += [(alarm.kind, number - waited) for alarm in signal.alarms]
                assert not (waited and n < polls and signal.alarms)
            if number == 250:  # what waits is kept over a restart
                live._restore(json.loads(json.dumps(live.to_json())))
        rang.append([each for each in rung if 0 < each[1] < 499])
    assert len(rang[0]) >= 3
    assert rang[0] == rang[1]


@pytest.mark.parametrize("at", [None, START + 2 * MINUTE])
def test_a_split_within_a_bar_is_as_if_quoted_so_all_along(at: Any):
    live, plain = (
        LiveFilter(made_filter(shocks=Quarantine()), clock=NEW_YORK, max_staleness=MINUTE)
        for _ in range(2)
    )
    rows = feed(4)
    for prices, when in rows[:2]:
        live.tick(prices, at=when + SECOND)
        plain.tick(prices, at=when + SECOND)
    (prices, when), halved = rows[2], rows[2][0] | {"SPY": rows[2][0]["SPY"] / 2}
    plain.tick(prices, at=when + SECOND)
    assert live.tick(halved, at=when + SECOND).outcome is Outcome.QUARANTINED
    assert live.rescale({"SPY": 0.5}, at=at).condition == "ok"
    document = json.dumps(live.to_json())
    live._restore(json.loads(document))
    assert json.dumps(live.to_json()) == document
    plain.rescale({"SPY": 0.5}, at=when + 30 * SECOND)
    a, b = live.engine.standing(), plain.engine.standing()
    assert_allclose(a.beta["SPY"], b.beta["SPY"], rtol=1e-9)
    assert_allclose(a.sd_total["SPY"], b.sd_total["SPY"], rtol=1e-9)
    for engine in (live, plain):  # polls of the same bar go on from there
        said = engine.tick({"XLE": prices["XLE"] * 1.001}, at=when + 40 * SECOND)
        assert said.accepted
    assert_allclose(live.engine.state()["mean"], plain.engine.state()["mean"], rtol=1e-9)


def test_a_move_held_for_a_split_is_released_within_its_bar():
    live = LiveFilter(made_filter(shocks=Quarantine()), clock=NEW_YORK)
    rows = feed(3)
    for prices, at in rows[:2]:
        live.tick(prices, at=at + SECOND)
    fell = rows[2][0] | {"XLE": rows[2][0]["XLE"] / 2}
    assert live.tick(fell, at=rows[2][1] + SECOND).condition == "watch"
    live.rescale({"XLE": 1})
    assert [hold.cause for hold in live.engine.holds.values()] == ["shock"]  # confirmed
    assert live.history()[-1]["prices"]["XLE"] == fell["XLE"]
    assert live.tick(fell, at=rows[2][1] + 2 * SECOND).accepted


def test_replacing_the_engine_makes_the_bar_final():
    live = LiveFilter(made_filter(), clock=NEW_YORK)
    rows = feed(3)
    for prices, at in rows[:2]:
        live.tick(prices, at=at + SECOND)
    live.replace(OnlineFilter.from_json(live.engine.to_json()))
    stood = state(live)
    said = live.tick(rows[2][0], at=rows[1][1] + 2 * SECOND)
    assert said.sentence.startswith("skipped: no time has passed since the row at")
    assert state(live) == stood
    assert live.tick(rows[2][0], at=rows[2][1] + SECOND).accepted
    assert len(live.history()) == 3


def test_a_pair_of_a_board_keeps_the_row_of_the_bar_in_which_it_had_both_legs():
    board = LiveFilter(made_board(PAIRS), clock=NEW_YORK)
    alone = LiveFilter(made_filter(hedges=("USO",)), clock=NEW_YORK)
    whole = {"XLE": 90.1, "SPY": 500.5, "USO": 501.0, "XOM": 90.3}
    part = {"XLE": 90.2, "SPY": 500.7, "XOM": 90.1}
    board.tick(whole, at=START + 20 * SECOND)
    tick = board.tick(part, at=START + 50 * SECOND).tick
    assert tick.observed.tolist() == [True] * 3
    alone.tick(whole, at=START + 20 * SECOND)
    assert tick.spread[1] == pytest.approx(alone.engine.standing().alpha * 0 + _spread(whole))
    stood = json.dumps(board.to_json())
    board._restore(json.loads(stood))
    assert json.dumps(board.to_json()) == stood


def _spread(row: dict[str, float]) -> float:
    """Of the filter at its start, of whole of a pair."""
    return made_filter(hedges=("USO",)).update(y=row["XLE"], x=row["USO"], dt=0.0).spread


def test_the_account_of_polled_bars_adds_up():
    live = LiveFilter(made_filter(), clock=NEW_YORK)
    book = HedgeBook(target="XLE", hedges=["SPY"], transform="log", position=1000)
    account, earned, last = Attribution(book), 0.0, None
    for prices, at in feed(12):
        for n in (1, 20, 40):
            now = {name: price * (1 + 1e-4 * n / 40) for name, price in prices.items()}
            held = dict(book.held)
            signal = live.tick(now, at=at + n * SECOND)
            account.add(signal.tick, now, orders=book.act(signal.tick, now))
            if last is not None:
                earned += 1000 * (now["XLE"] - last["XLE"])
                earned += held["SPY"] * (now["SPY"] - last["SPY"])
            last = now
    assert account.table().loc["total", "pnl"] == pytest.approx(earned - book.costs)
