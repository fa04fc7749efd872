"""The first price of a session: none is learnt from, and one in other units is held until told."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import (
    Gaps,
    HedgeData,
    HedgeFit,
    LiveFilter,
    OnlineBoard,
    OnlineFilter,
    Quarantine,
    Robust,
    fit,
    hedge_ratio_model,
)
from kfmodels.clock.clock import Clock
from kfmodels.fitting.carry import carry
from kfmodels.fitting.refresh import carry_over
from kfmodels.kalman.habits import habits_of
from kfmodels.kalman.splits import like_a_split
from kfmodels.kalman.transforms import RETURN
from kfmodels.live.account import Attribution
from kfmodels.live.book import Band, HedgeBook
from kfmodels.live.signals import Signal
from kfmodels.model import Profile
from kfmodels.online.splits import breaks_scale
from tests.made_filters import board_of
from tests.online.test_sessions import CLOCK, OPTIONS, ZONE, data_of, fitted, frame
from tests.problems import FromPrior
from tests.tables import read_table

pytestmark = pytest.mark.slow

MORNING = 70
"""The opening print of the sixth day."""


@pytest.fixture(scope="module", params=["plain", "all"])
def start(request: pytest.FixtureRequest) -> HedgeFit:
    data = data_of(frame())
    with pytest.warns(UserWarning, match="may be sampled badly"):
        return fitted(data.before(frame().index[MORNING]), **OPTIONS[request.param])


def rows(*, count: int = 12, **factors: float) -> pd.DataFrame:
    """Rows of the feed, with the prices of some legs multiplied."""
    return frame().iloc[MORNING : MORNING + count] * pd.Series({"Y": 1.0, "X": 1.0} | factors)


def feed(live: LiveFilter, table: pd.DataFrame) -> list[Signal]:
    times: Any = table.index
    return [live.tick(row, at=at) for at, row in zip(times, table.to_dict("records"), strict=True)]


def same(mine: list[Signal], others: list[Signal], rtol: float = 1e-12) -> None:
    """The same is believed and said, whatever the units of the prices."""
    for one, other in zip(mine, others, strict=True):
        assert one.sentence == other.sentence
        assert_allclose(one.tick.beta["X"], other.tick.beta["X"], rtol=rtol)
        assert_allclose(one.tick.sd_total["X"], other.tick.sd_total["X"], rtol=rtol)
        assert_allclose(one.tick.z, other.tick.z, rtol=1e-9)


SPLITS = [("Y", 0.5), ("X", 2.0), ("Y", 0.1), ("X", 1 / 3)]


@pytest.mark.parametrize(("leg", "factor"), SPLITS)
def test_a_split_overnight_is_held_and_after_rescale_as_if_there_had_been_none(
    start: HedgeFit, road: str, leg: str, factor: float
):
    split, plain = rows() * pd.Series({"Y": 1.0, "X": 1.0} | {leg: factor}), start.go_live()
    live = start.go_live()
    before = live.engine.last
    held = feed(live, split.iloc[:1])[0]
    assert held.outcome == "quarantined"
    assert (
        f"about {like_a_split(factor)} times, at {split.index[0]}".replace(" 0", "T0")
        in held.reason
    )
    remedy = f"call rescale with {leg} at {like_a_split(factor)}, if not with {leg} at 1; no row is"
    assert remedy in held.reason
    assert held.condition == "watch"
    assert live.engine.last == before
    live.rescale({leg: factor})
    assert live.engine.holds == {}
    first = feed(plain, rows().iloc[:1])[0]
    assert first.sentence == "skipped: the first price of a session"
    same(feed(live, split.iloc[1:]), feed(plain, rows().iloc[1:]))


def test_both_legs_may_split_at_once(start: HedgeFit):
    """The ratio would not notice, and a book would count in old shares."""
    split, live, plain = rows(Y=0.5, X=0.5), start.go_live(), start.go_live()
    assert "rescale with" in feed(live, split.iloc[:1])[0].reason
    for leg, holds in (("Y", {"Y"}), ("X", set[str]())):
        live.rescale({leg: 0.5})
        assert live.engine.holds.keys() == holds
    feed(plain, rows().iloc[:1])
    same(feed(live, split.iloc[1:]), feed(plain, rows().iloc[1:]))


def test_rows_wait_until_it_is_told_and_the_first_after_it_begins_the_session(
    start: HedgeFit, road: str
):
    split, live, plain = rows(Y=0.5), start.go_live(), start.go_live()
    said = [signal.sentence for signal in feed(live, split.iloc[:3])]
    assert all("row " + str(n) + " held" in one for n, one in enumerate(said, 1))
    assert "first 2 rows ago" in said[2]
    live.rescale({"Y": 0.5})
    same(feed(live, split.iloc[3:]), feed(plain, rows().iloc[2:])[1:], rtol=1e-9)


def test_a_wrong_first_price_is_left_out_and_the_next_one_begins_the_session(
    start: HedgeFit, road: str
):
    wrong, live, plain = rows(), start.go_live(), start.go_live()
    wrong.iloc[0, 0] *= 10
    assert feed(live, wrong.iloc[:1])[0].outcome == "quarantined"
    found = feed(live, wrong.iloc[1:])
    assert found[0].sentence == "skipped: the first price of a session"
    same(found, feed(plain, rows().iloc[1:]), rtol=1e-9)


@pytest.mark.parametrize("told", [True, False])
def test_a_move_that_was_real_is_taken_up_when_told_or_after_the_rows_of_the_policy(
    start: HedgeFit, road: str, told: bool
):
    fell, plain = rows(Y=0.5), start.go_live(shocks=Robust())
    live = start.go_live(shocks=Quarantine(hold=None if told else 2))
    first = 0 if told else 2
    assert {one.outcome for one in feed(live, fell.iloc[: max(first, 1)])} == {"quarantined"}
    if told:
        live.rescale({"Y": 1.0})
    else:
        taken = feed(live, fell.iloc[2:3])[0]
        assert taken.outcome == "skipped"
        assert "no change of scale, the first price of a session; Y went from" in taken.reason
        assert "taken for a real move: if it was a split, the ratio holds as it is" in taken.reason
    assert live.engine.holds == {}
    feed(plain, fell.iloc[first : first + 1])  # a policy that holds nothing begins there
    mine, others = (feed(one, fell.iloc[first + 1 :]) for one in (live, plain))
    assert all(one.accepted for one in mine)
    assert_allclose(mine[0].tick.spread, others[0].tick.spread, rtol=1e-9)


@pytest.mark.parametrize(("y", "x"), [(0.92, 1.0), (1.07, 1.09), (0.8, 0.85), (1.25, 1.0)])
def test_an_ordinary_gap_is_not_held(start: HedgeFit, y: float, x: float):
    live = start.go_live()
    first, second = feed(live, rows(Y=y, X=x).iloc[:2])
    assert first.sentence == "skipped: the first price of a session"
    assert (first.condition, second.accepted) == ("ok", True)


def test_a_leg_that_comes_later_is_held_against_the_evening_too(start: HedgeFit, road: str):
    split, live, plain = rows(X=0.5), start.go_live(), start.go_live()
    for table in (split, late := rows()):
        table.iloc[:2, 1] = np.nan
    feed(live, split.iloc[:2])
    feed(plain, late.iloc[:2])
    held = feed(live, split.iloc[2:3])[0]
    assert held.outcome == "quarantined"
    assert "call rescale with X at 1/2" in held.reason
    live.rescale({"X": 0.5})
    feed(plain, late.iloc[2:3])
    same(feed(live, split.iloc[3:]), feed(plain, late.iloc[3:]))


def test_what_is_held_in_the_evening_is_held_in_the_morning(start: HedgeFit, road: str):
    table = rows(count=20)
    table.iloc[13:, 0] *= 0.5  # the last bar of the day
    live = start.go_live()
    *_, evening, morning = feed(live, table.iloc[:15])
    assert (evening.outcome, morning.outcome) == ("quarantined", "quarantined")
    assert "first 1 row ago: if that is a split, call rescale with Y at 1/2" in morning.reason
    live.rescale({"Y": 0.5})
    assert [one.accepted for one in feed(live, table.iloc[15:])] == [True] * 5


def test_a_hold_at_the_open_survives_a_file_a_crash_and_new_noise(
    start: HedgeFit, road: str, tmp_path: Path
):
    split, plain = rows(Y=0.5), start.go_live()
    with start.go_live(journal=tmp_path / "journal") as live:
        held = feed(live, split.iloc[:2])[1]
    live = start.go_live(journal=tmp_path / "journal")
    again = feed(live, split.iloc[2:3])[0]
    assert "row 2 held" in held.reason
    assert "row 3 held" in again.reason
    engine: Any = live.engine
    engine.save(tmp_path / "live.json")
    loaded = OnlineFilter.load(tmp_path / "live.json")
    assert loaded.arguments()["unopened"]
    assert_array_equal(loaded.last_prices, engine.last_prices)
    live.replace(carry_over(engine, start))
    assert "row 4 held" in feed(live, split.iloc[3:4])[0].reason
    live.rescale({"Y": 0.5})
    feed(plain, rows().iloc[3:4])
    mine, others = feed(live, split.iloc[4:]), feed(plain, rows().iloc[4:])
    assert [one.sentence for one in mine] == [one.sentence for one in others]
    for one in (loaded, OnlineFilter(**loaded.arguments())):
        one.rescale(target=0.5)
        at, (y, x) = split.index[4], split.iloc[4]
        assert one.update(y=y, x=x, at=at).sentence == "skipped: the first price of a session"


def board(start: HedgeFit) -> OnlineBoard:
    """Three pairs of the same noise, the middle one of which has a target of its own."""
    one: dict[str, Any] = start.online(shocks=Quarantine()).arguments()
    names = {"Y/X": ("Y", "X"), "W/X": ("W", "X"), "W/V": ("W", "V")}
    singles = {
        name: OnlineFilter(**one | {"target": target, "hedges": (hedge,)})
        for name, (target, hedge) in names.items()
    }
    held: dict[str, Any] = board_of(singles).arguments() | {"clock": CLOCK}
    return OnlineBoard(**held)


def test_one_pair_that_is_held_holds_no_other(road: str):
    data = data_of(frame())
    start = fitted(data.before(frame().index[MORNING]), **OPTIONS["plain"])
    table = rows()
    table["W"], table["V"] = table["Y"], table["X"]
    split = table.assign(W=table["W"] * 0.5)
    live, plain = LiveFilter(board(start), clock=CLOCK), LiveFilter(board(start), clock=CLOCK)
    mine, others = feed(live, split.iloc[:1])[0], feed(plain, table.iloc[:1])[0]
    assert [str(one) for one in mine.tick.outcome] == ["skipped", "quarantined", "quarantined"]
    assert {str(one) for one in others.tick.outcome} == {"skipped"}
    mine, others = feed(live, split.iloc[1:2])[0], feed(plain, table.iloc[1:2])[0]
    assert mine.tick.beta[0] == others.tick.beta[0]
    assert mine.tick.observed.tolist() == [True, False, False]
    assert live.engine.last["X"] == table["X"].iloc[1]  # not that of a pair that waits
    before: Any = live.engine
    live.replace(after := carry(board(start), before))
    assert sorted(live.engine.holds) == ["W/V", "W/X"]
    assert after.unopened.tolist() == [False, True, True]
    live.rescale({"W": 0.5})
    # they begin a row later than the others
    mine = feed(live, split.iloc[2:4])
    assert [one.tick.observed.tolist() for one in mine] == [[True, False, False], [True] * 3]


FIVE_MINUTES = [f"us_5min_2025-05_2026-03_{name}.csv.gz" for name in ("etf", "other", "tech")]


def test_no_real_morning_is_held():
    """The first prices of 47 tickers on 206 days and of 18 on 31, against those of the evening."""
    mornings = halved = 0
    for name in (*FIVE_MINUTES, "us_1min_2026-01-22_2026-03-06.csv.gz"):
        for _, prices in read_table(name).items():
            known: Any = prices.dropna()
            move = habits_of(known.to_numpy()[:, None], RETURN).move.tolist()
            first = np.flatnonzero(np.diff(known.index.normalize().asi8) > 0) + 1
            for now, before in zip(known.iloc[first], known.iloc[first - 1], strict=True):
                assert not breaks_scale([now], [before], [0.0], move)
                halved += breaks_scale([now / 2], [before], [0.0], move)
            mornings += len(first)
    assert mornings == 10151
    assert halved > 0.99 * mornings  # but where the price went up by a tenth and more


def a_book(start: HedgeFit, **how: Any) -> HedgeBook:
    return start.book(position=1000.0, band=Band(0.0), lots={start.hedges[0]: 1e-6}, **how)


def test_a_book_acts_on_the_first_prices_of_a_session_by_the_ratio_of_the_bar_that_begins(
    start: HedgeFit, road: str
):
    table, live, book = rows(), start.go_live(), a_book(start)
    signal, prices = feed(live, table.iloc[:1])[0], table.iloc[0].to_dict()
    assert (signal.tick.observed, signal.tick.opens) == (False, True)
    held = book.act(signal.tick, prices).held["X"]
    wanted = -1000 * signal.tick.beta["X"] * prices["Y"] / prices["X"]
    assert held == pytest.approx(wanted, abs=1e-6)
    # the ratio is that of the forecast of the bar that begins: its slope by the hedge's move
    at, gaps = table.index[1], {"overnight": 0.0}
    ends = [1.0, 1.01]
    engine: Any = live.engine
    fair = [engine.forecast(x=prices["X"] * end, at=at, gaps=gaps).mean for end in ends]
    assert (fair[1] - fair[0]) / np.log(1.01) == pytest.approx(signal.tick.beta["X"], rel=1e-9)
    assert not feed(live, table.iloc[1:2])[0].tick.opens


def test_a_book_keeps_its_shares_while_the_first_prices_are_held_and_says_what_to_call(
    start: HedgeFit, road: str
):
    split, live, plain = rows(X=0.5), start.go_live(), start.go_live()
    book, other = a_book(start, held={"X": -100.0}), a_book(start, held={"X": -100.0})
    account = Attribution(book)
    signal = feed(live, split.iloc[:1])[0]
    orders = book.act(signal.tick, split.iloc[0].to_dict())
    assert (orders.held, signal.tick.opens) == ({"X": -100.0}, False)
    assert orders.why.startswith(
        f"nothing was done at {signal.tick.at}: the tick was not observed: z"
    )
    assert "call rescale with X at 1/2" in orders.why
    account.add(signal.tick, split.iloc[0].to_dict(), orders=orders)
    for one in (book, account):
        one.rescale(hedges={"X": 0.5})
    live.rescale({"X": 0.5})
    feed(plain, rows().iloc[:1])
    for (at, row), (_, usual) in zip(
        split.iloc[1:3].iterrows(), rows().iloc[1:3].iterrows(), strict=True
    ):
        mine, others = (
            one.tick(r.to_dict(), at=at).tick for one, r in ((live, row), (plain, usual))
        )
        orders = book.act(mine, row.to_dict())
        account.add(mine, row.to_dict(), orders=orders)
        usual_held = other.act(others, usual.to_dict()).held["X"]
        assert orders.held["X"] / 2 == pytest.approx(usual_held, abs=1e-5)


def test_on_real_bars_a_book_is_hedged_from_the_first_price_on():
    """JPM hedged with XLF: the shares of the opening print are those of the ratio told there."""
    table = pd.concat([read_table(name) for name in FIVE_MINUTES[:2]], axis=1)[["JPM", "XLF"]]
    days: Any = pd.DatetimeIndex(table.index).normalize().unique()
    clock = Clock.hours("09:30", "16:00", zone=ZONE, bar="5min", start=days[0], end=days[12])
    data = HedgeData.from_prices(
        table.loc[: str(days[8].date())], target="JPM", hedges=["XLF"], clock=clock
    )
    found = fitted(data, **OPTIONS["all"])
    book = found.book(position=1000.0, clock=clock)
    account = Attribution(book)
    morning = table.loc[str(days[9].date())].iloc[:3]
    with found.go_live() as live:
        for number, (at, row) in enumerate(morning.iterrows()):
            tick, prices = live.tick(row.to_dict(), at=at).tick, row.to_dict()
            orders = book.act(tick, prices)
            booked = account.add(tick, prices, orders=orders)
            wanted = -1000 * tick.beta["XLF"] * prices["JPM"] / prices["XLF"]
            assert orders.wanted["XLF"] == pytest.approx(wanted)
            assert tick.opens == (number == 0)
            if not number:
                assert orders.held["XLF"] == round(wanted) != 0
                before = prices, orders.held["XLF"]
            elif number == 1:
                moved = {name: prices[name] - before[0][name] for name in prices}
                earned = 1000 * moved["JPM"] + before[1] * moved["XLF"] - orders.cost
                assert booked.pnl == pytest.approx(earned)


def test_a_forecast_without_a_time_is_of_the_next_bar_of_the_clock(start: HedgeFit):
    live = start.online()
    table = rows()
    for at, (y, x) in table.iloc[:3].iterrows():
        live.update(y=y, x=x, at=at)
    fair = live.forecast(x=table["X"].iloc[3])
    assert fair == live.forecast(x=table["X"].iloc[3], at=table.index[3])


def test_a_return_over_the_night_is_refused_and_the_remedy_works(start: HedgeFit):
    """After the close, and where the first row of a session lacks a leg."""
    live, table = start.online(), rows()
    x = table["X"].iloc[0]
    text = r"no return within the session leads from the row at 2024-03-08 16:00:00 to one at "
    for given in ({}, {"at": table.index[0]}, {"at": table.index[3]}):
        with pytest.raises(ValueError, match=text + ".* first prices .*, at=..., a later time"):
            live.forecast(x=x, **given)
    live.update(y=np.nan, x=x, at=table.index[0])
    with pytest.raises(ValueError, match="no return within the session"):
        live.predictive(x=x)
    for at, (y, x) in table.iloc[1:2].iterrows():
        live.update(y=y, x=x, at=at)
    assert live.forecast(x=x, at=table.index[2]) == live.forecast(x=x)


def test_over_the_night_log_prices_are_forecast_with_the_night_and_the_profile():
    table = frame()
    data = HedgeData.from_prices(table, target="Y", hedges=["X"], transform="log", clock=CLOCK)
    model = hedge_ratio_model(profile=Profile(first=2.0), gaps=Gaps(bars=7.0))
    found = fit(data.before(data.index[MORNING]), model, method=FromPrior(draws=16), progress=False)
    live, x = found.online(), table["X"].iloc[MORNING]
    fair = live.forecast(x=x)
    weekend = {"overnight": 0.0, "weekend": 1.0}
    assert fair == live.forecast(x=x, at="2024-03-11 10:00", dt=1.0, gaps=weekend)
    assert fair.sd > 1.1 * live.forecast(x=x, at="2024-03-11 10:00").sd
    with pytest.raises(
        ValueError, match=r"pass that of the row to forecast, at=\.\.\., or leave out"
    ):
        live.forecast(x=x, gaps=weekend)
    first = OnlineFilter(**live.arguments() | {"at": None})
    with pytest.raises(ValueError, match=r"pass that of the row to forecast, at=\.\.\."):
        first.forecast(x=x)
    assert first.forecast(x=x, at="2024-03-11 10:00").price > 0


def test_no_clock_is_that_of_the_fit(start: HedgeFit):
    """Without its nights a morning would be one bar after the evening."""
    table = rows()
    usual = feed(start.go_live(), table.iloc[:2])
    for live in (start.go_live(clock=None), LiveFilter(start.online(share=0.002))):
        assert live.clock == CLOCK
    same(feed(start.go_live(clock=None), table.iloc[:2]), usual)
    whole = HedgeData.from_prices(frame(), target="Y", hedges=["X"], transform="log", clock=CLOCK)
    found = fit(whole, hedge_ratio_model(gaps=Gaps()), method=FromPrior(draws=16), progress=False)
    assert found.go_live(clock=None).clock == CLOCK


def test_a_clock_that_knows_more_sessions_is_read_by_the_filter_too(start: HedgeFit):
    later = Clock.hours(
        "09:30", "16:00", zone=ZONE, bar="30min", start="2024-03-01", end="2024-06-28"
    )
    live = start.go_live(clock=later, max_ahead=None)
    engine: Any = live.engine
    assert engine.clock == later
    signals = [live.tick({"Y": 50.0 + n, "X": 20.0}, at=f"2024-05-01 1{n}:00") for n in range(2)]
    assert signals[1].tick.observed
    always = Clock("30min")
    with pytest.raises(ValueError, match=r"reads the time of day, and .* has no sessions: leave"):
        start.go_live(clock=always)


def test_the_effective_memory_at_the_open_is_that_of_the_summary(start: HedgeFit, road: str):
    plug_in = start.online(draws=1)
    told = start.summary().loc["X", "effective_memory"]
    assert plug_in.standing().effective_memory["X"] == pytest.approx(told, rel=1e-6)
