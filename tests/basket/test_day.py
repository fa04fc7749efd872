"""A universe within the day: moves weighed by the time of day, nights, memories in days."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from kfmodels import Clock, follow, hedge_universe
from kfmodels.basket.basket import Basket
from kfmodels.basket.day import TimeOfDay
from kfmodels.live.feed import LiveFilter
from tests.basket.conftest import TICKERS, draw_moves, prices_of

pytestmark = pytest.mark.slow

DAYS, BARS = 22, 20
CLOCK = Clock.hours("09:30", "12:50", zone="America/New_York", bar="10min")
"""Sessions of twenty bars, for which the memories are those of daily rows."""


def _times(clock: Clock = CLOCK) -> pd.DatetimeIndex:
    """The open and the ends of all bars of some weeks."""
    assert clock.sessions is not None
    days = pd.bdate_range("2024-03-04", periods=DAYS)
    offsets = pd.to_timedelta(np.arange(BARS + 1) * 10 + 570, "min")
    return pd.DatetimeIndex([at + part for at in days for part in offsets])


def _variances(index: pd.DatetimeIndex) -> np.ndarray:
    """The variance of every row by the equation, without the code under test."""
    minute = (index - index.normalize()).total_seconds().to_numpy() / 60 - 570

    def bar(end: np.ndarray) -> np.ndarray:
        middle = end - 5
        return (1 + middle / 5) ** -0.85 * np.exp(1.5 * np.exp(-(200 - middle) / 15))

    mean = bar(10.0 * np.arange(1, BARS + 1)).mean()
    within = bar(np.maximum(minute, 10)) / mean + np.where(minute == 10, BARS / 12, 0.0)
    return np.where(minute == 0, BARS / 3, within)


@pytest.fixture(scope="module")
def index() -> pd.DatetimeIndex:
    return _times()


@pytest.fixture(scope="module")
def whole(index: pd.DatetimeIndex) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prices whose moves are those of the time of day, and the same with all rows alike."""
    moves = 0.1 * draw_moves(3, len(index) - 1)
    even = pd.DataFrame(prices_of(moves), index, list(TICKERS))
    uneven = prices_of(moves * np.sqrt(_variances(index))[1:, None])
    return pd.DataFrame(uneven, index, list(TICKERS)), even


def _run(basket: Basket, prices: pd.DataFrame) -> list:
    rows = zip(prices.index, prices.to_dict("records"), strict=True)
    return [basket.update(row, at=at) for at, row in rows]


def test_row_over_the_root_of_its_variance_is_a_row_like_any_other(whole, index):
    uneven, even = whole
    within, plain = Basket(TICKERS, clock=CLOCK), Basket(TICKERS)
    ticks, others = _run(within, uneven), _run(plain, even)
    np.testing.assert_allclose(within.ratios(), plain.ratios(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(within.sd(), plain.sd(), rtol=1e-9)
    size = np.sqrt(_variances(index))
    judged = 0
    for tick, other, part in zip(ticks, others, size, strict=True):
        np.testing.assert_allclose(tick.spread, part * other.spread, rtol=1e-7, atol=1e-14)
        np.testing.assert_allclose(tick.spread_sd, part * other.spread_sd, rtol=1e-9)
        np.testing.assert_allclose(tick.below, other.below, rtol=1e-8)
        np.testing.assert_allclose(tick.log_score, other.log_score - np.log(part), rtol=1e-9)
        np.testing.assert_allclose(tick.moves, part * other.moves, rtol=1e-7, atol=1e-14)
        judged += int(tick.observed.any())
    assert judged > 100


def test_forecast_is_that_of_the_time_of_the_next_row(whole, index):
    uneven, _ = whole
    basket = Basket(TICKERS, clock=CLOCK)
    _run(basket, uneven.iloc[:-1])
    row = dict(zip(TICKERS, uneven.iloc[-1], strict=True))
    found = basket.forecast(row, at=index[-1])
    tick = basket.update(row, at=index[-1])
    np.testing.assert_allclose(found.mean, tick.mean, rtol=1e-9)
    np.testing.assert_allclose(found.sd, tick.spread_sd, rtol=1e-9)
    with pytest.raises(ValueError, match="time of day: give that of the row, at="):
        basket.forecast(row)
    with pytest.raises(ValueError, match="time of day: give that of the row, at="):
        Basket(TICKERS, clock=CLOCK).update(row)


def test_variance_adds_up_over_rows_left_out(index):
    time = TimeOfDay(CLOCK)
    each = [time.variance(at, before) for before, at in pairwise(index)]
    np.testing.assert_allclose(each, _variances(index)[1:], rtol=1e-12)
    # over several bars, and over a night to the end of the first bar: all of them
    assert time.variance(index[15], index[1]) == pytest.approx(sum(each[1:15]))
    assert time.variance(index[45], index[13]) == pytest.approx(sum(each[13:45]))
    assert time.variance(index[22], index[20]) == pytest.approx(sum(each[20:22]))
    assert time.variance(index[20], index[19]) > 2 * time.variance(index[15], index[14])
    after = index[20] + pd.Timedelta("1h")  # closed: the night is crossed, then no time passes
    assert time.variance(after, index[20]) == pytest.approx(BARS / 3)
    assert time.variance(after + pd.Timedelta("1h"), after) == 1
    assert time.variance_of_day == pytest.approx(BARS * (1 + 1 / 12 + 1 / 3))


def test_missing_prices_are_judged_by_the_variance_they_span(whole):
    """A move over a gap has the variance of all its rows: over a night many times that of noon."""
    uneven, _ = whole
    spoilt = uneven.copy()
    rng = np.random.default_rng(5)
    spoilt[rng.random(spoilt.shape) < 0.1] = np.nan
    whole_ticks, ticks = (_run(Basket(TICKERS, clock=CLOCK), each) for each in (uneven, spoilt))
    z, z_spoilt = (np.array([tick.z for tick in each])[-150:] for each in (whole_ticks, ticks))
    returned = ~np.isnan(spoilt.to_numpy()) & np.isnan(spoilt.shift(1).to_numpy())
    back = z_spoilt[returned[-150:]]
    assert np.isfinite(back).sum() > 50
    assert np.nanstd(back) == pytest.approx(np.nanstd(z), abs=4 * np.nanstd(z) / np.sqrt(2 * 50))
    held = [str(s.outcome) for tick in ticks for s in tick.said.values()]
    assert held.count("quarantined") < 0.01 * spoilt.size


@pytest.mark.parametrize(
    ("clock", "memories", "bars"),
    [
        (None, [50, 100, 200, 500], 1),
        (Clock.daily(), [50, 100, 200, 500], 1),
        (Clock.hours("09:30", "16:00", zone="America/New_York", bar="1h"), [50, 100, 200, 500], 1),
        (
            Clock.hours("09:30", "16:00", zone="America/New_York", bar="5min"),
            [195, 390, 780, 1950],
            78,
        ),
        (Clock("5min"), [720, 1440, 2880, 7200], 288),
    ],
)
def test_memories_count_days(clock, memories, bars):
    found = TimeOfDay(clock)
    np.testing.assert_allclose(found.memories, memories)
    assert found.bars == bars
    assert (bars > 1) or found.variance("2024-03-05", "2024-03-04") == 1


def test_universe_goes_live_by_its_clock(whole, tmp_path):
    uneven, _ = whole
    made = hedge_universe(uneven.iloc[:-30], clock=CLOCK)
    made.save(tmp_path / "u.json")
    journal = tmp_path / "j"
    with made.go_live(journal=journal) as live:
        assert live.clock == CLOCK
        for at, row in uneven.iloc[-30:-10].iterrows():
            live.tick(row.to_dict(), at=at)
    with LiveFilter(type(made).load(tmp_path / "u.json").online(), journal=journal) as live:
        for at, row in uneven.iloc[-10:].iterrows():
            live.tick(row.to_dict(), at=at)
        found = live.engine.ratios()
    straight = made.online()
    _run(straight, uneven.iloc[-30:])
    np.testing.assert_array_equal(found, straight.ratios())


def test_rows_within_the_day_ask_for_a_clock(whole):
    uneven, _ = whole
    with pytest.warns(UserWarning, match="rows lie within the day") as said:
        made = hedge_universe(uneven)
    assert "give clock=kf.Clock.hours" in str(said[0].message)
    assert any("rows lie within the day" in doubt for doubt in made.doubts)
    wrong = uneven.tz_localize("America/New_York").tz_convert("UTC").tz_localize(None)
    with pytest.raises(ValueError, match="rows lie outside the sessions"):
        hedge_universe(wrong, clock=CLOCK)
    with pytest.raises(ValueError, match="clock must be Clock or None"):
        hedge_universe(uneven, clock="5min")  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_rows_and_clock_that_do_not_belong_together_are_refused(whole):
    uneven, _ = whole
    for bar in ("2min", "30min"):
        wrong = Clock.hours("09:30", "12:50", zone="America/New_York", bar=bar)
        with pytest.raises(
            ValueError, match=r"bars of the clock apart.*give it a bar of 10 minutes"
        ):
            hedge_universe(uneven, clock=wrong)
    made = hedge_universe(uneven, clock=CLOCK)
    other = Clock.hours("09:30", "12:50", zone="America/New_York", bar="1min")
    with pytest.raises(ValueError, match="give a clock of the same bar, or none"):
        made.go_live(clock=other)
    with pytest.warns(UserWarning, match="stop for more than four hours"):
        hedge_universe(uneven, clock=Clock("10min", zone="America/New_York"))


def test_a_price_that_is_held_is_named_by_the_answer(whole):
    uneven, _ = whole
    with hedge_universe(uneven.iloc[:-30], clock=CLOCK).go_live() as live:
        at, row = uneven.index[-30], uneven.iloc[-30].to_dict()
        signal = live.tick(row | {"B": row["B"] / 2}, at=at)
    assert signal.reason.startswith("B ")
    assert "call rescale with B at 1/2" in signal.reason


def test_follow_tabulates_what_a_live_universe_refused(whole):
    uneven, _ = whole
    made = hedge_universe(uneven.iloc[:-30], clock=CLOCK)
    table = follow(made.go_live(), uneven.iloc[-33:], progress=False)
    before, after = table.loc[uneven.index[-33:-31]], table.loc[uneven.index[-29:]]
    assert set(before["outcome"]) == {"rejected"}
    assert before["reason"].str.startswith("out of order").all()
    assert before["z"].isna().all()  # what is believed is of a later time
    assert set(after["outcome"]) == {"accepted"}
    assert after["z"].notna().all()


def test_policy_on_shocks_is_one(whole):
    uneven, _ = whole
    made = hedge_universe(uneven, clock=CLOCK)
    with pytest.raises(ValueError, match=r"shocks is Quarantine\(...\), Robust\(...\) or None"):
        Basket(**made.basket.arguments() | {"shocks": "none"})


def test_universe_of_a_market_without_a_close_goes_live(whole):
    """By its own clock, and by the same given again."""
    _, even = whole
    always = Clock("10min")
    index = pd.date_range("2024-03-04", periods=len(even), freq="10min")
    made = hedge_universe(even.set_axis(index), clock=always)
    for how in ({}, {"clock": always}):
        with made.go_live(**how) as live:
            assert live.clock == always
            signal = live.tick(even.iloc[-1].to_dict() | {"A": 99.0}, at=index[-1] + index.freq)
            assert signal.accepted
    with pytest.raises(ValueError, match="give a clock of the same bar, or none"):
        made.go_live(clock=Clock("5min"))
