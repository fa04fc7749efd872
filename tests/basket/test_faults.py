"""Prices that are missing, wrong, stopped, late or gone: the others go on."""

import numpy as np
import pytest

from kfmodels.basket.basket import Basket
from kfmodels.live.feed import LiveFilter
from kfmodels.online.engine import Engine
from kfmodels.online.shocks import Quarantine, Robust
from kfmodels.online.ticks import Outcome
from tests.basket.conftest import TICKERS, draw_moves, feed, prices_of


@pytest.fixture(scope="module")
def taught(prices):
    basket = Basket(TICKERS)
    feed(basket, prices)
    return basket


def again(basket: Basket) -> Basket:
    return Basket.from_json(basket.to_json())


def test_it_goes_on_to_the_last_bit_from_a_file(tmp_path, prices):
    later = prices_of(draw_moves(2, 60)) * prices[-1] / 100
    later[10, 2], later[20, 1] = np.nan, 1.3 * later[20, 1]
    for stop in (30, 200, 280):  # before the moments open, before there are legs, and after
        one = Basket(TICKERS, legs=3 if stop == 280 else None)
        feed(one, prices[:stop])
        one.save(tmp_path / "basket.json")
        other = Basket.load(tmp_path / "basket.json")
        rest = np.vstack([prices[stop:], later[1:]])
        for mine, theirs in zip(feed(one, rest, stop), feed(other, rest, stop), strict=True):
            assert str(mine.record()) == str(theirs.record())
        np.testing.assert_array_equal(one.ratios(), other.ratios())
        np.testing.assert_array_equal(one.sd(), other.sd())
        assert one.to_json() == other.to_json()


def test_a_live_filter_drives_it_and_goes_on_from_its_journal(tmp_path, taught, prices):
    rows = prices[-1] * np.exp(np.cumsum(draw_moves(9, 6), 0))
    alone, path = again(taught), tmp_path / "basket.journal"
    assert isinstance(alone, Engine)
    live = LiveFilter(again(taught), journal=path)
    for at, row in enumerate(rows, 400):
        if at == 403:
            live.close()
            live = LiveFilter(again(taught), journal=path)
        live.tick(dict(zip(TICKERS, row.tolist(), strict=True)), at=at)
    feed(alone, rows, 400)
    np.testing.assert_array_equal(live.engine.ratios(), alone.ratios())
    live.close()


def test_in_a_live_filter_a_bad_print_of_a_mere_hedge_is_not_taken_twice(prices):
    """It would confirm itself, where the last price of a leg is good for another row."""
    taught = Basket(TICKERS, targets=["A", "B"])
    feed(taught, prices)
    rows = prices[-1] * np.exp(np.cumsum(draw_moves(9, 3), 0))
    first, second, third = (dict(zip(TICKERS, row.tolist(), strict=True)) for row in rows)
    live, alone = LiveFilter(again(taught), max_staleness=1), again(taught)
    alone.update(first | {"D": 1.4 * first["D"]}, at=400)
    assert live.tick(first | {"D": 1.4 * first["D"]}, at=400).tick.quarantined() == [3]
    # that of A is taken again
    late = {name: second[name] for name in "BCEF"}
    alone.update(late | {"A": first["A"]}, at=401)
    tick = live.tick(late, at=401).tick
    assert tick.of("D") == (Outcome.SKIPPED, "no price")
    assert tick.observed.tolist() == [name in "AB" for name in TICKERS]
    alone.update(third, at=402)
    live.tick(third, at=402)
    np.testing.assert_array_equal(live.engine.ratios(), alone.ratios())


def test_a_live_filter_takes_no_expert_for_a_draw_of_a_posterior(taught, prices):
    """One that wins is no alarm, as few draws of a posterior would be."""
    basket = again(taught)
    opinion = basket.stand.opinion
    certain = np.where(np.arange(basket.draws) == 5, 0.0, -500.0) + 0 * opinion.log_weights
    basket.stand = basket.stand._replace(opinion=opinion._replace(log_weights=certain))
    live = LiveFilter(basket)
    row = prices[-1] * np.exp(draw_moves(9, 1)[0])
    signal = live.tick(dict(zip(TICKERS, row.tolist(), strict=True)), at=400)
    assert signal.tick.observed.all()
    assert signal.alarms == ()


def test_numbers_are_those_of_targets_and_outcomes_of_all(prices):
    basket = Basket(TICKERS, targets=["E", "B"])
    feed(basket, prices[:-1])
    tick = feed(basket, prices[-1:] * [1, 1, 1, 2, 1, 1], 400)[0]
    assert tick.names == tuple(TICKERS)
    for numbers in (tick.move, tick.z, tick.log_score, tick.dof, tick.learnt()[0]):
        assert np.isfinite(numbers).tolist() == [False, True, False, False, True, False]
    assert np.log(prices[-1, 4] / prices[-2, 4]) == pytest.approx(tick.move[4])
    assert tick.of("D").outcome is Outcome.QUARANTINED
    assert list(basket.held()) == ["E", "B"]
    assert np.array([basket.held()["B"].get(name, 0.0) for name in TICKERS]) == pytest.approx(
        basket.ratios()[1]
    )


def test_an_asset_takes_its_price_of_the_first_row_that_has_one(taught, prices):
    rows = [dict(zip(TICKERS, (f * prices[-1]).tolist(), strict=True)) for f in (1.01, 1.02, 1.03)]
    basket = again(taught)
    basket.take(rows[0] | {"B": np.nan, "C": np.nan}, earlier=[rows[1] | {"C": np.nan}, rows[2]])
    found = [basket.last[name] / price for name, price in zip(TICKERS, prices[-1], strict=True)]
    np.testing.assert_allclose(found, [1.01, 1.02, 1.03, 1.01, 1.01, 1.01])
    with pytest.raises(ValueError, match="dt"):
        basket.take(rows[0], dt=-1.0)


def test_a_mark_is_gone_back_to(taught, prices):
    basket = again(taught)
    mark, before = basket.mark(), basket.ratios()
    feed(basket, prices[-1] * np.exp(draw_moves(9, 30)), 1000)
    assert not np.array_equal(basket.ratios(), before)
    basket.back(mark)
    np.testing.assert_array_equal(basket.ratios(), before)


def test_a_bad_print_is_held_and_moves_nothing(taught, prices):
    next_row = prices[-1] * np.exp(draw_moves(9, 2))
    spoilt, gone = next_row.copy(), next_row.copy()
    spoilt[0, 3] *= 1.4
    gone[0, 3] = np.nan
    one, other = again(taught), again(taught)
    tick = feed(one, spoilt, 400)[0]
    assert tick.outcome == tuple(
        Outcome.QUARANTINED if name == "D" else Outcome.ACCEPTED for name in TICKERS
    )
    assert tick.quarantined() == [3]
    assert "1 of 2" in tick.reason[3]
    assert np.isnan(tick.z[3])
    feed(other, gone, 400)
    # to the bit what a missing price would have been
    np.testing.assert_array_equal(one.ratios(), other.ratios())
    assert one.holds == {}
    assert one.last["D"] == next_row[1, 3]


def test_a_split_is_taken_up_with_the_second_row_and_teaches_little(taught, prices):
    rows = prices[-1] * np.exp(np.cumsum(draw_moves(9, 20), 0))
    split = rows.copy()
    split[:, 3] /= 2
    one, other, told = again(taught), again(taught), again(taught)
    ticks = feed(one, split, 400)
    feed(other, rows, 400)
    assert ticks[0].outcome[3] is Outcome.QUARANTINED
    assert ticks[1].outcome[3] is Outcome.ACCEPTED
    assert "confirmed by 2 rows" in ticks[1].reason[3]
    assert set(ticks[2].outcome) == {Outcome.ACCEPTED}
    assert np.abs(one.ratios() - other.ratios()).max() < 0.12
    raw = Basket.from_json(taught.to_json() | {"shocks": None})
    feed(raw, split, 400)
    assert np.abs(raw.ratios() - other.ratios()).max() > 0.2
    told.rescale({"D": 0.5})
    feed(told, split, 400)
    np.testing.assert_allclose(told.ratios(), other.ratios(), rtol=1e-9, atol=1e-12)
    told.adjust({"D": -0.01 * told.last["D"]})
    assert told.last["D"] == pytest.approx(0.99 * split[-1, 3])


def test_missing_moves_add_up_when_the_price_returns(taught, prices):
    rows = prices[-1] * np.exp(np.cumsum(draw_moves(9, 3), 0))
    holey = rows.copy()
    holey[:2, [1, 4]] = np.nan
    basket = again(taught)
    said = basket.forecast(dict(zip(TICKERS, holey[0].tolist(), strict=True)))
    first = feed(basket, holey[:1], 400)[0]
    assert first.sentence[1] == "skipped: no price"
    assert np.isnan(first.log_score[[1, 4]]).all()
    assert np.isfinite(first.log_score[[0, 2, 3, 5]]).all()
    # what stands in for a move is near what the mixture says of it
    filled = basket.stand.listing.filled
    assert (np.abs(filled - said.mean)[[1, 4]] < 0.5 * said.sd[[1, 4]]).all()
    assert (filled[[0, 2, 3, 5]] == 0).all()
    feed(basket, holey[1:2], 401)
    assert basket.stand.listing.gap.tolist() == [0, 2, 0, 0, 2, 0]
    # a fair price counts from where the fills have carried the last one
    given = dict(zip(TICKERS, holey[2].tolist(), strict=True))
    ratios, listing = basket.ratios(), basket.stand.listing
    moves = np.log(rows[-1] / listing.last) - listing.filled
    said = basket.forecast(given)
    np.testing.assert_allclose(said.mean, ratios @ moves, rtol=1e-9)
    carried = prices[-1, [1, 4]] * np.exp(listing.filled[[1, 4]])
    fair = carried * np.exp(said.quantile(0.5)[[1, 4]])
    np.testing.assert_allclose(said.price()[[1, 4]], fair, rtol=1e-12)
    assert (np.abs(listing.filled[[1, 4]]) > 1e-3).all()
    last = feed(basket, holey[2:], 402)[0]
    listing = basket.stand.listing
    assert not listing.gap.any()
    assert not listing.filled.any()
    np.testing.assert_array_equal(listing.last, rows[-1])
    assert np.isfinite(last.log_score).all()


def test_the_band_of_a_price_that_returns_after_a_gap_holds(taught, prices):
    """Three rows of five without a price: a band of one row would hold far fewer returns."""
    rows = prices[-1] * np.exp(np.cumsum(draw_moves(21, 500), 0))
    basket, inside = again(taught), []
    for number, row in enumerate(rows):
        given = dict(zip(TICKERS, row.tolist(), strict=True))
        if number % 5 < 3:
            del given["B"]
        elif number % 5 == 3:
            said = basket.forecast(given)
            inside.append(said.price(0.05)[1] < given["B"] < said.price(0.95)[1])
        basket.update(given, at=400 + number)
    assert 0.83 < np.mean(inside) < 0.97


def test_a_forecast_without_a_leg_is_wider(taught, prices):
    row = dict(zip(TICKERS, (prices[-1] * 1.001).tolist(), strict=True))
    full, part = taught.forecast(row), taught.forecast({n: p for n, p in row.items() if n != "C"})
    others = [n for n in range(6) if n != 2]
    assert (part.sd[others] >= full.sd[others]).all()
    assert (part.sd[others] > full.sd[others]).any()


def test_no_target_fills_the_gaps_of_its_own_legs(taught, prices):
    """Else a forecast would follow the price that it is held against, and its z would be small."""
    row = prices[-1] * np.exp(draw_moves(9, 1)[0])
    alone = again(taught).forecast({"A": 1.2 * prices[-1, 0]})
    assert alone.mean[0] == pytest.approx(0.0, abs=1e-12)
    assert (alone.mean[1:] > 0.01).all()
    part = {name: price for name, price in zip(TICKERS, row.tolist(), strict=True) if name in "ABC"}
    said, other = taught.forecast(part), taught.forecast(part | {"B": 1.1 * part["B"]})
    assert other.mean[1] == pytest.approx(said.mean[1], abs=1e-12)
    assert abs(other.mean[0] - said.mean[0]) > 1e-3
    tick = again(taught).update(part, at=400)
    np.testing.assert_allclose(tick.mean[:3], said.mean[:3], rtol=1e-9)


def test_forecasts_from_few_legs_are_as_far_off_as_they_say(taught, prices):
    rows = prices[-1] * np.exp(np.cumsum(draw_moves(22, 600), 0))
    basket, z = again(taught), []
    for at, row in enumerate(rows, 400):
        given = dict(zip(TICKERS, row.tolist(), strict=True))
        said = basket.forecast({name: given[name] for name in "AB"})
        move = np.log([given[name] / basket.last[name] for name in "AB"])
        z.append((move - said.mean[:2]) / said.sd[:2])
        basket.update(given, at=at)
    assert np.std(z, axis=0) == pytest.approx([1.0, 1.0], abs=0.12)


def test_ratios_survive_holes_and_bad_prints():
    moves = draw_moves(11, 700, 8)
    clean = prices_of(moves)
    rng = np.random.default_rng(0)
    wrong = np.where(rng.random(clean.shape) < 0.01, rng.choice([0.8, 1.25], clean.shape), 1.0)
    spoilt = np.where(rng.random(clean.shape) < 0.01, np.nan, clean * wrong)
    spoilt[400:, 3] /= 2
    removed = {}
    for name, prices in {"clean": clean, "spoilt": spoilt}.items():
        basket, hedged = Basket("ABCDEFGH"), []
        for number, row in enumerate(prices[:-1]):
            basket.update(dict(zip("ABCDEFGH", row.tolist(), strict=True)))
            if number >= 300:
                hedged.append(moves[number] - basket.ratios() @ moves[number])
        removed[name] = 1 - np.var(hedged, axis=0).mean() / moves[300:].var(0).mean()
    assert removed["clean"] > 0.5
    assert removed["spoilt"] > removed["clean"] - 0.01


@pytest.mark.slow
def test_a_newcomer_is_a_target_from_60_rows_and_a_leg_from_250():
    moves = draw_moves(3, 650)
    prices = prices_of(moves)
    prices[:300, 5] = np.nan
    basket, ready, leg = Basket(TICKERS), [], []
    for number, row in enumerate(prices):
        basket.update(dict(zip(TICKERS, row.tolist(), strict=True)))
        ready.append(bool(basket.ready[5]))
        leg.append(bool(number > 300 and (basket.ratios()[:5, 5] != 0).any()))
    assert ready.index(True) == 300 + 60
    assert leg.index(True) == 300 + 250
    assert np.isnan(Basket(TICKERS).ratios()).all()
    whole = Basket(TICKERS)
    feed(whole, prices_of(moves))
    assert np.abs(basket.ratios() - whole.ratios()).max() < 0.1


def test_a_leg_that_is_gone_or_has_stopped_is_no_leg(taught, prices):
    rows = prices[-1] * np.exp(np.cumsum(draw_moves(9, 12), 0))
    gone, stopped = rows.copy(), rows.copy()
    gone[:, 2] = np.nan
    stopped[:, 2] = prices[-1, 2]
    for name, row in {"gone": gone, "stopped": stopped}.items():
        basket = again(taught)
        ticks = feed(basket, row, 400)
        assert (basket.ratios()[:, 2] == 0).all(), name
        assert np.isfinite(basket.ratios()).all()
        assert ("C" in basket.stopped) == (name == "stopped")
        assert ticks[-1].outcome[2] is Outcome.SKIPPED
        feed(basket, rows[-1:] * 1.01, 500)  # back again
        assert (basket.ratios()[[0, 1, 3, 4, 5], 2] != 0).any()


def test_half_the_universe_on_holiday_leaves_the_other_half(taught, prices):
    rows = prices[-1] * np.exp(np.cumsum(draw_moves(9, 3), 0))
    half = rows.copy()
    half[0, 3:] = np.nan
    basket, whole = again(taught), again(taught)
    ticks = feed(basket, half, 400)
    feed(whole, rows, 400)
    assert ticks[0].observed.tolist() == [True] * 3 + [False] * 3
    assert np.isfinite(basket.ratios()).all()
    assert np.abs(basket.ratios() - whole.ratios()).max() < 0.1


def test_a_monitor_does_not_ring_because_a_basket_is_fresh():
    """A hedge that removes 99 %, with forecasts of it that are right from the first rows on."""
    rng = np.random.default_rng(5)
    moves = 0.01 * (rng.normal(size=(340, 1)) + 0.1 * rng.normal(size=(340, 6)))
    live, alarms = LiveFilter(Basket(TICKERS)), []
    for at, row in enumerate(prices_of(moves)):
        signal = live.tick(dict(zip(TICKERS, row.tolist(), strict=True)), at=at)
        alarms += signal.alarms
    assert alarms == []
    assert live.engine.rows == 340


@pytest.mark.parametrize("row", [None, np.nan])
def test_a_closed_day_teaches_nothing(taught, prices, row):
    basket = again(taught)
    tick = feed(basket, prices[-1:] if row is None else prices[-1:] * row, 400)[0]
    assert tick.overall() == (Outcome.SKIPPED, "no price moved")
    assert basket.rows == taught.rows
    np.testing.assert_array_equal(basket.ratios(), taught.ratios())


def test_an_asset_that_never_moves_stops_nobody():
    prices = prices_of(draw_moves(3, 280))
    prices[:, 5] = 50.0
    basket = Basket(TICKERS)
    with np.errstate(all="raise", under="ignore"):
        feed(basket, prices)
    assert np.isfinite(basket.ratios()[:5]).all()
    assert np.isnan(basket.ratios()[5]).all()


def test_first_rows_may_have_holes_and_bad_prints():
    prices = prices_of(draw_moves(12, 280))
    rng = np.random.default_rng(1)
    spoilt = np.where(rng.random(prices.shape) < 0.02, np.nan, prices)
    spoilt[17, 2], spoilt[33, 4] = 2 * prices[17, 2], 0.5 * prices[33, 4]
    one, other = Basket(TICKERS), Basket(TICKERS)
    feed(one, prices)
    feed(other, spoilt)
    assert np.abs(one.ratios() - other.ratios()).max() < 0.15


def _ready() -> Basket:
    basket = Basket(TICKERS[:3])
    feed(basket, prices_of(draw_moves(1, 260, 3)))
    return basket


ERRORS = {
    "twice": (lambda: Basket(["A", "A"]), "each named once"),
    "one ticker": (lambda: Basket(["A"]), "at least two tickers"),
    "unknown target": (lambda: Basket(TICKERS, targets=["X"]), "target X is not among the 6"),
    "target twice": (lambda: Basket(TICKERS, targets=["A", "A"]), "target A is named twice"),
    "no hedge": (lambda: Basket(TICKERS, hedges=[]), "there is no hedge: name one"),
    "only itself": (lambda: Basket(TICKERS, hedges=["A"]), "leave it out of the targets"),
    "no legs": (lambda: Basket(TICKERS, legs=0), "1 or more, not 0"),
    "a yes": (lambda: Basket(TICKERS, legs=True), "1 or more, not True"),
    "doubts": (lambda: Basket(TICKERS, shocks=Robust()), "Robust does neither: pass Quarantine"),
    "too early": (lambda: Basket(TICKERS).forecast({"A": 1.0}), "legs need 250"),
    "no price": (lambda: _ready().forecast({}), "no price that says anything of the targets"),
    "NaN alone": (lambda: _ready().forecast({"A": np.nan}), "give that of a hedge at least"),
    "not positive": (lambda: Basket(TICKERS).update({"A": -1.0}), "A has the price -1"),
    "no ticker": (lambda: Basket(TICKERS).update({"X": 1.0}), "no price of any of the 6 tickers"),
    "unknown split": (lambda: Basket(TICKERS).rescale({"X": 0.5}), "X is not among the tickers"),
}


@pytest.mark.parametrize("call", ERRORS)
def test_errors_say_what_is_wrong(call):
    make, text = ERRORS[call]
    with pytest.raises(ValueError, match=text):
        make()


def test_a_refused_row_changes_nothing(taught, prices):
    basket = again(taught)
    row = dict(zip(TICKERS, prices[-1].tolist(), strict=True))
    for wrong, at in ((row | {"B": 0.0}, 400), (row, 5)):
        with pytest.raises(ValueError, match=r"[Nn]othing was changed"):
            basket.update(wrong, at=at)
    assert basket.to_json() == taught.to_json()


def test_the_remedies_of_errors_work(prices):
    only = Basket(TICKERS, hedges=["A"], targets=TICKERS[1:], shocks=Quarantine())
    feed(only, prices)
    assert (only.ratios()[:, 0] != 0).all()
    assert (only.ratios()[:, 1:] == 0).all()
