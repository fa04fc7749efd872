"""A hedge book trades what the ratio asks for, and its account adds up to the money earned."""

import json
import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kfmodels.clock.clock import Clock
from kfmodels.live.account import COLUMNS, Attribution
from kfmodels.live.book import Band, Cost, HedgeBook, Orders, Saving, hedge_shares
from tests.made_filters import START, made_filter, made_prices

TRANSFORMS = ("log", "level", "return")
FREE = Cost(bp=0.0, per_share=0.0)
ALWAYS = Band(sds=0.0)


def estimate(
    at: Any = 0, *, beta: dict[str, float], alpha: float = 0.0, sd: float = 0.0, **more: Any
) -> Any:
    """What the book and its account read of a `Tick`."""
    told = {"observed": True, "reason": "", "gain": 0.1} | more
    return SimpleNamespace(at=at, beta=beta, alpha=alpha, sd_total=dict.fromkeys(beta, sd), **told)


def a_book(transform: str = "level", position: float = 100.0, **options: Any) -> HedgeBook:
    named = {"target": "Y", "hedges": ["X"], "transform": transform, "position": position}
    return HedgeBook(**(named | options))


def moved(book: HedgeBook, position: float) -> HedgeBook:
    book.position = position
    return book


def row(y: float, **x: float) -> dict[str, float]:
    return {"Y": y, **x}


# -- shares ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_wanted_shares_take_out_the_slope_of_the_fair_value(transform):
    """Central differences of the value of target and hedges together, in every hedge."""
    prices, beta, alpha = {"Y": 40.0, "A": 25.0, "B": 130.0}, {"A": 0.7, "B": -0.4}, 0.3
    names, position = ["A", "B"], -250.0

    def target(x: dict[str, float]) -> float:
        if transform == "level":
            return alpha + sum(beta[k] * x[k] for k in names)
        if transform == "return":
            return prices["Y"] * (1 + alpha + sum(beta[k] * (x[k] / prices[k] - 1) for k in names))
        # passes through the price of today at today's hedges
        return prices["Y"] * math.prod((x[k] / prices[k]) ** beta[k] for k in names)

    shares = hedge_shares(beta, prices, target="Y", transform=transform, position=position)
    for name in names:
        step = 1e-4 * prices[name]
        up, down = ({**prices, name: prices[name] + sign * step} for sign in (1, -1))
        slope = (target(up) - target(down)) / (2 * step)
        # a central difference is wrong by step**2 times the third derivative / 6
        assert_allclose(shares[name], -position * slope, rtol=1e-7)


def test_a_multiplier_counts_contracts():
    """50 currency a point of Y against 20 of X: the money that moves is that of shares."""
    book = a_book("log", 10.0, multiplier={"Y": 50.0, "X": 20.0}, lots={"X": 1e-9}, band=ALWAYS)
    orders = book.act(estimate(beta={"X": 0.8}), row(30.0, X=60.0))
    exposed = orders.held["X"] * 20.0 * 60.0
    assert_allclose(exposed, -0.8 * 10 * 50.0 * 30.0, rtol=1e-8)
    assert_allclose(orders.turnover, -exposed, rtol=1e-15)


# -- trading ---------------------------------------------------------------------------------------


def test_lots_are_whole_and_the_rest_is_told():
    book = a_book(lots={"X": 25.0}, band=ALWAYS, cost=Cost(bp=2.0, per_share=0.01))
    first = book.act(estimate(beta={"X": 0.6}), row(11.0, X=20.0))
    assert first.wanted == {"X": -60.0}
    assert (first.before, first.traded, first.held) == ({"X": 0.0}, {"X": -50.0}, {"X": -50.0})
    assert (first.rounding, first.rounding_value) == ({"X": 10.0}, {"X": 200.0})
    assert_allclose(first.cost, 50 * 20 * 2e-4 + 50 * 0.01)
    assert first.turnover == 1000.0
    assert first.why == (
        "X: sold 50 to hold -50, as 0 was 60 off the wanted -60 and outside its band of 0"
    )
    second = book.act(estimate(1, beta={"X": 0.5}), row(11.0, X=22.0))
    assert (second.traded, second.cost, second.turnover) == ({"X": 0.0}, 0.0, 0.0)
    third = book.act(estimate(2, beta={"X": 0.61}), row(11.0, X=22.0))
    assert third.why == "X: kept -50, the nearest lot to the wanted -61"
    last = book.act(estimate(3, beta={"X": 0.26}), row(11.0, X=30.0))
    assert last.why.startswith("X: bought 25 to hold -25")
    assert book.turnover == {"X": 50 * 20.0 + 25 * 30.0}
    assert book.turnover_shares == {"X": 75.0}
    assert_allclose(book.costs, first.cost + last.cost, rtol=1e-15)


def test_the_band_is_in_sds_of_the_wanted_shares():
    """On logs the sd of the shares is that of the ratio times the position times P_y / P_x."""
    book = a_book("log", 1000.0, band=Band(sds=2.0))
    book.act(estimate(beta={"X": 0.8}, sd=0.01), row(30.0, X=60.0))
    assert book.held == {"X": -400.0}
    inside = book.act(estimate(1, beta={"X": 0.8 + 0.0199}, sd=0.01), row(30.0, X=60.0))
    assert inside.held == {"X": -400.0}
    assert "inside its band of 10 (total sd)" in inside.why
    outside = book.act(estimate(2, beta={"X": 0.8 + 0.0201}, sd=0.01), row(30.0, X=60.0))
    assert outside.held == {"X": -410.0}


@pytest.mark.parametrize("off", [0.5, 0.95, 1.05, 3.0])
@pytest.mark.parametrize("multiplier", [1.0, 20.0])
def test_a_trade_is_made_when_the_variance_it_saves_is_worth_its_cost(off, multiplier):
    """Against both sides of the decision counted out: the book's V is that of moves of 2 each bar."""
    cost, risk, bars = Cost(bp=3.0, per_share=0.02), 2e-4, 4.0
    saving = Saving(risk_aversion=risk, horizon=bars)
    price, variance = 20.0, (2.0 * multiplier) ** 2
    one = 3e-4 * price * multiplier + 0.02
    away = off * 2 * one / (risk * variance * bars)
    options = {"multiplier": {"X": multiplier}, "lots": {"X": 1e-9}, "cost": cost}
    start = -0.5 * 100 / multiplier
    book = a_book(band=Band(0.0, saving), held={"X": start - away}, **options)
    for at, move in enumerate([22.0, 20.0, 22.0]):  # nothing to do while the ratio fits the shares
        book.act(estimate(at, beta={"X": 0.5 + away * multiplier / 100}), row(11.0, X=move))
    assert book.turnover_shares["X"] < 1e-6
    orders = book.act(estimate(9, beta={"X": 0.5}), row(11.0, X=price))
    saved = 0.5 * risk * away**2 * variance * bars
    assert (orders.traded["X"] != 0) == (saved > away * one)
    if off > 1:
        assert_allclose(orders.cost, away * one, rtol=1e-6)
    else:
        assert "(cost of a trade)" in orders.why


def test_the_variance_of_a_bar_is_the_mean_square_of_its_moves():
    band = Band(0.0, Saving(risk_aversion=1e-12, memory=2.0))
    book = a_book(band=band)
    # before any move the cost is not weighed; after it hardly any trade pays
    assert book.act(estimate(beta={"X": 0.5}), row(11.0, X=20.0)).held == {"X": -50.0}
    for at, price in enumerate([22.0, math.nan, math.nan, 25.0], 1):
        tick = estimate(at, beta={"X": 0.9}, observed=price == price)
        assert book.act(tick, row(11.0, X=price)).held == {"X": -50.0}
    # 4 from one bar, then 9 over three
    assert book.moves["X"].variance == (4.0 + 9.0 / 3) / 2


@pytest.mark.parametrize("stored", [False, True])
def test_a_bar_that_is_polled_is_one_move(stored):
    """By hand: bars of a minute that end at 20, 22 and 19, so the squares of the moves are 4 and 9."""
    saving = Band(0.0, Saving(risk_aversion=1e-12, memory=100.0))
    book = a_book(band=saving, clock=Clock("1min"))
    polls = [
        (1, 20.0),
        (61, 20.5),
        (75, 23.0),
        (90, 22.0),
        (91, math.nan),
        (130, 21.0),
        (170, 19.0),
    ]
    for second, price in polls:
        at = START + timedelta(seconds=second)
        book.act(estimate(at, beta={"X": 0.5}, observed=price == price), row(11.0, X=price))
        book = HedgeBook.from_json(json.loads(json.dumps(book.to_json()))) if stored else book
    assert book.moves["X"].variance == (4.0 + 9.0) / 2
    book.rescale(
        hedges={"X": 0.5}
    )  # within the bar, whose last poll is 10.5, a move of half a point
    book.act(estimate(START + timedelta(seconds=175), beta={"X": 0.5}), row(11.0, X=10.5))
    assert book.moves["X"].variance == pytest.approx((1.0 + 0.25) / 2)


def test_a_daily_bar_that_is_polled_is_one_move():
    """Without a clock the ticks of one time are one bar; 30 of them once made its variance 0.13."""
    book = a_book(band=Band(0.0, Saving(risk_aversion=1e-12, memory=100.0)))
    for day, price in (("2024-03-01", 20.0), *30 * [("2024-03-04", 22.0)]):
        book.act(estimate(day, beta={"X": 0.5}), row(11.0, X=price))
    assert book.moves["X"].variance == 4.0


def test_a_closed_position_closes_its_hedges():
    book = a_book(band=Band(50.0, Saving(1e-9)))
    book.act(estimate(beta={"X": 0.5}, sd=1e-3), row(11.0, X=20.0))
    book.position = 0.0
    orders = book.act(estimate(1, beta={"X": 0.5}, sd=1e-3), row(11.0, X=20.5))
    assert orders.held == {"X": 0.0}
    assert orders.why == "X: bought 50 to hold 0, as there is no position to hedge"


@pytest.mark.parametrize(
    ("told", "prices", "reason"),
    [
        ({"observed": False}, row(11.0, X=20.0), "not observed"),
        ({"beta": {"X": math.nan}}, row(11.0, X=20.0), "ratio to X or its sd is not a"),
        ({"sd": math.nan}, row(11.0, X=20.0), "ratio to X or its sd"),
        ({}, row(math.nan, X=20.0), "no price of Y"),
        ({}, row(11.0, X=math.nan), "no price of X"),
        ({"gain": 0.0, "reason": "too far"}, row(99.0, X=20.0), "too far"),
    ],
)
def test_where_nothing_is_known_nothing_is_done(told, prices, reason):
    book = a_book(band=ALWAYS)
    before = book.act(estimate(beta={"X": 0.5}), row(11.0, X=20.0))
    orders = book.act(estimate(1, **({"beta": {"X": 0.9}} | told)), prices)
    assert orders.held == book.held == before.held
    assert (orders.cost, orders.turnover, orders.traded) == (0.0, 0.0, {"X": 0.0})
    assert math.isnan(orders.wanted["X"])
    assert orders.why.startswith("nothing was done at 1: ")
    assert reason in orders.why


@pytest.mark.parametrize(
    ("told", "prices", "text"),
    [
        ({}, {"Y": 1.0}, "no price of X at 7"),
        ({}, row(0.0, X=1.0), "Y has the price 0 at 7, which a log transform cannot take"),
        ({}, row(1.0, X=-2.0), "X has the price -2 at 7"),
        ({}, row(1.0, X=math.inf), "X has the price inf at 7"),
        ({"beta": {"Z": 1.0}}, row(1.0, X=1.0), "the tick at 7 has no beta of X"),
    ],
)
def test_an_error_names_ticker_and_time_and_changes_nothing(told, prices, text):
    book = a_book("log")
    book.act(estimate(beta={"X": 0.5}), row(11.0, X=20.0))
    before = book.to_json()
    with pytest.raises(ValueError, match=text):
        book.act(estimate(7, **({"beta": {"X": 0.7}} | told)), prices)
    assert book.to_json() == before


@pytest.mark.parametrize("of", [a_book(), Attribution(a_book())], ids=["book", "account"])
@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"target": 0.0}, "the factor of Y is its new price over its old one, a number above 0"),
        ({"hedges": {"X": math.inf}}, "the factor of X .*, not inf"),
        ({"hedges": {"Y": 0.5}}, "Y is not among the tickers X"),
        ({"hedges": 0.5}, "factors go by ticker, each a number, not 0.5"),
    ],
)
def test_a_factor_that_cannot_be_is_refused(of, told, text):
    with pytest.raises(ValueError, match=text):
        of.rescale(**told)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: a_book("root"), 'transform must be "log", "level" or "return", not \'root\''),
        (lambda: a_book(hedges=[]), "HedgeBook of Y: name other tickers"),
        (lambda: a_book(hedges=["Y"]), "HedgeBook of Y: name other tickers"),
        (lambda: a_book(hedges=["X", "X"]), "each once"),
        (lambda: a_book(hedges="X"), "name other tickers, each once, not 'X'"),
        (lambda: a_book(lots={"X": 0.0}), "lots of X cannot be 0.0; it takes a number above 0"),
        (lambda: a_book(lots={"Z": 1.0}), "lots of Z cannot be 1.0; .* of each of X"),
        (lambda: a_book(multiplier={"Y": -5.0}), "multiplier of Y cannot be -5.0"),
        (lambda: a_book(held={"X": math.nan}), "held of X cannot be nan"),
        (lambda: follow(moved(a_book(), math.nan), *ONE), "position in Y at 0 is nan"),
        (lambda: a_book(position=math.nan), "HedgeBook of Y: the position is nan"),
        (lambda: a_book(position=-math.inf), "HedgeBook of Y: the position is -inf"),
        (lambda: Band(sds=-1.0), "Band: sds must be a number, 0 or more, not -1.0"),
        (lambda: Cost(bp=math.inf), "Cost: bp must be a number, 0 or more, not inf"),
        (lambda: Saving(0.0), "Saving: risk_aversion must be a number, above 0, not 0.0"),
        (lambda: Saving(1.0, memory=math.nan), "Saving: memory must be a number, above 0"),
        (
            lambda: HedgeBook.from_json({"format": "other"}),
            "this is not a saved hedge book but of format .other.: write one",
        ),
        (lambda: HedgeBook.from_json(stored(lots={"X": 0.0})), "lots of X cannot be 0.0"),
        (
            lambda: HedgeBook.from_json(stored(cost={"fee": 1.0})),
            "the stored hedge book is damaged",
        ),
        (lambda: Attribution(a_book()).variance_shares(), "no variance to divide yet: 0 rows of Y"),
        (
            lambda: follow(a_book(), *ONE)[0].by_day(),
            r"rows of Y are labelled \[0\], not with dates",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


ONE = [estimate(beta={"X": 0.5})], [row(11.0, X=20.0)]


def stored(**changed: Any) -> dict[str, Any]:
    return a_book().to_json() | changed


# -- splits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_split_earns_nothing_and_leaves_all_else_as_if_it_never_was(transform):
    """Against the book and the account in old prices; 2-for-1, 3-for-1 and 1-for-10."""
    split = {"Y": 0.5, "A": 1 / 3, "B": 10.0}
    options: Any = {"hedges": ["A", "B"], "lots": {"A": 1e-9, "B": 1e-9}}
    options |= {"band": Band(0.0, Saving(1e-6)), "cost": Cost(bp=3.0, per_share=0.0)}
    kept, turned = (a_book(transform, 900.0, **options) for _ in range(2))
    plain, after = Attribution(kept), Attribution(turned)
    rng, by = np.random.default_rng(3), dict.fromkeys(split, 1.0)
    prices, beta = {"Y": 50.0, "A": 30.0, "B": 120.0}, {"A": 0.4, "B": 0.2}
    for at in range(9):
        if at == 5:
            by, factors = split, {name: split[name] for name in ("A", "B")}
            turned.rescale(target=split["Y"], hedges=factors)
            after.rescale(target=split["Y"], hedges=factors)
            still = {name: price * by[name] for name, price in prices.items()}
            same, flat = (estimate(45, beta=ratios, alpha=level, sd=math.inf) for _ in range(2))
            flat.beta, flat.alpha = in_units(transform, ratios, level, by)
            assert abs(after.add(flat, still, orders=turned.act(flat, still)).pnl) < 1e-9
            plain.add(same, prices, orders=kept.act(same, prices))
        prices = {name: price * math.exp(0.01 * rng.normal()) for name, price in prices.items()}
        ratios = {name: ratio + 0.02 * rng.normal() for name, ratio in beta.items()}
        level = 0.1 * rng.normal() / 100
        tick, other = (estimate(10 * at, beta=ratios, alpha=level) for _ in range(2))
        other.beta, other.alpha = in_units(transform, ratios, level, by)
        now = {name: price * by[name] for name, price in prices.items()}
        a = plain.add(tick, prices, orders=kept.act(tick, prices))
        b = after.add(other, now, orders=turned.act(other, now))
        for name in ("unhedged", "pnl", *COLUMNS):
            assert_allclose(getattr(b, name), getattr(a, name), rtol=1e-7, atol=1e-5)
    assert_allclose(list(turned.turnover.values()), list(kept.turnover.values()), rtol=1e-9)
    for name in ("A", "B"):
        assert_allclose(turned.held[name] * split[name], kept.held[name], rtol=1e-9)
        shares = turned.turnover_shares[name] * split[name]
        assert_allclose(shares, kept.turnover_shares[name], rtol=1e-7)


def in_units(
    transform: str, beta: dict[str, float], alpha: float, by: dict[str, float]
) -> tuple[dict[str, float], float]:
    """Ratios and intercept once all prices are `by` times what they were."""
    if transform == "level":
        return {name: ratio * by["Y"] / by[name] for name, ratio in beta.items()}, alpha * by["Y"]
    moved = sum(ratio * math.log(by[name]) for name, ratio in beta.items())
    return beta, alpha + (math.log(by["Y"]) - moved if transform == "log" else 0.0)


def test_a_fraction_left_by_a_split_goes_with_the_next_trade():
    book = a_book("log", 400.0, held={"X": -301.0}, band=ALWAYS, cost=FREE)
    book.rescale(hedges={"X": 2 / 3})
    assert book.held == {"X": -451.5}
    unknown = book.act(estimate(beta={"X": math.nan}), row(30.0, X=26.6))
    assert unknown.held == {"X": -451.5}
    traded = book.act(estimate(1, beta={"X": 1.0}), row(30.0, X=26.6))
    assert traded.held == {"X": -451.0}
    assert traded.traded == {"X": 0.5}


def test_a_split_told_to_the_book_alone_is_found_out():
    book = a_book(band=ALWAYS)
    account = Attribution(book)
    first, prices = estimate(beta={"X": 0.5}), row(11.0, X=20.0)
    account.add(first, prices, orders=book.act(first, prices))
    book.rescale(hedges={"X": 0.5})
    tick, halved = estimate(1, beta={"X": 1.0}), row(11.0, X=10.0)
    orders = book.act(tick, halved)
    with pytest.raises(ValueError, match="call rescale of both, the book and its account"):
        account.add(tick, halved, orders=orders)
    account.rescale(hedges={"X": 0.5})
    assert account.add(tick, halved, orders=orders).pnl == 0.0


# -- the account -----------------------------------------------------------------------------------


def follow(
    book: HedgeBook, ticks: list[Any], prices: list[dict[str, float]]
) -> tuple[Attribution, list[Orders]]:
    """Every row acted on and booked."""
    account, done = Attribution(book), []
    for tick, now in zip(ticks, prices, strict=True):
        done.append(book.act(tick, now))
        account.add(tick, now, orders=done[-1])
    return account, done


def plain_pnl(
    prices: list[dict[str, float]], done: list[Orders], multiplier: dict[str, float]
) -> list[float]:
    """Holdings times moves between rows without a gap, less costs: no model at all."""
    found, last, held = [], None, None
    for now, orders in zip(prices, done, strict=True):
        money = -orders.cost
        if not any(math.isnan(price) for price in now.values()):
            if last is not None and held is not None:
                money += sum(held[k] * multiplier[k] * (now[k] - last[k]) for k in now)
            last, held = now, {"Y": orders.position, **orders.held}
        found.append(money)
    return found


number = st.floats(-1.0, 1.0)


@st.composite
def histories(draw: Any) -> dict[str, Any]:
    """Rows whose ratios jump about while the fair value stays near the price."""
    transform = draw(st.sampled_from(TRANSFORMS))
    names = ["A", "B", "C"][: draw(st.integers(1, 3))]
    ticks, prices = [], []
    level = {k: draw(st.floats(1.0, 500.0)) for k in ("Y", *names)}
    for at in range(draw(st.integers(2, 6))):
        level = {k: price * math.exp(0.3 * draw(number)) for k, price in level.items()}
        now = {k: math.nan if draw(st.integers(0, 9)) == 0 else p for k, p in level.items()}
        beta = {k: 2 * draw(number) for k in names}
        alpha = 0.1 * draw(number)
        if transform == "log":
            alpha += math.log(level["Y"]) - sum(beta[k] * math.log(level[k]) for k in names)
        if transform == "level":
            alpha += level["Y"] * (1 + alpha) - sum(beta[k] * level[k] for k in names)
        seen = not any(map(math.isnan, now.values()))
        ticks.append(estimate(at, beta=beta, alpha=alpha, sd=abs(draw(number)), observed=seen))
        prices.append(now)
    return {
        "ticks": ticks,
        "prices": prices,
        "options": {
            "target": "Y",
            "hedges": names,
            "transform": transform,
            "position": round(1e4 * draw(number), 3),
            "lots": {k: draw(st.sampled_from([1e-6, 1.0, 100.0])) for k in names},
            "multiplier": {k: draw(st.sampled_from([1.0, 50.0])) for k in ("Y", *names)},
            "band": Band(
                draw(st.sampled_from([0.0, 1.0])), draw(st.none() | st.just(Saving(1e-4)))
            ),
        },
    }


@given(histories())
def test_the_columns_add_up_to_the_money_earned(made):
    book, prices = HedgeBook(**made["options"]), made["prices"]
    account, multiplier, done, booked = Attribution(book), book.multiplier, [], []
    for tick, now in zip(made["ticks"], prices, strict=True):
        done.append(book.act(tick, now))
        booked.append(account.add(tick, now, orders=done[-1]))
    # the largest sums of money that cancel: all legs, held or wanted, and the fair value's own terms
    ratio = max(abs(beta) for tick in made["ticks"] for beta in tick.beta.values())
    dear = {k: np.nanmax([0.0, *(now[k] for now in prices)]) for k in multiplier}
    gross = abs(book.position) * multiplier["Y"] * (1 + ratio) * sum(dear.values())
    gross += sum(
        max(abs(orders.held[k]) for orders in done) * multiplier[k] * dear[k] for k in book.hedges
    )
    for row_, earned in zip(booked, plain_pnl(prices, done, multiplier), strict=True):
        assert_allclose(row_.pnl, earned, rtol=0, atol=1e-12 * gross)
        parts = math.fsum(getattr(row_, name) for name in COLUMNS)
        assert_allclose(parts, earned, rtol=0, atol=1e-12 * gross)
    complete = sum(not any(map(math.isnan, now.values())) for now in prices)
    assert sum(row_.bars > 0 for row_ in booked) == max(complete - 1, 0)


def columns(
    transform: str, rows: list[tuple[float, float, float, float]], **options: Any
) -> list[float]:
    """What one share of Y earned by column, over rows of (alpha, beta, y, x)."""
    whole = {"lots": {"X": 1e-12}, "band": ALWAYS, "cost": FREE} | options
    ticks = [
        estimate(at, beta={"X": beta}, alpha=alpha) for at, (alpha, beta, *_) in enumerate(rows)
    ]
    book = a_book(transform, 1.0, **whole)
    account, _ = follow(book, ticks, [row(y, X=x) for *_, y, x in rows])
    return account.table().loc["total", list(COLUMNS)].to_list()


@pytest.mark.parametrize("transform", TRANSFORMS)
@given(
    st.tuples(number, number, st.floats(5.0, 9.0), st.floats(10.0, 20.0)),
    st.tuples(number, number, st.floats(5.0, 9.0), st.floats(10.0, 20.0)),
)
def test_the_columns_are_differences_of_the_fair_value(transform, first, second):
    (a, b, y0, x0), (c, d, y1, x1) = first, second

    def fair(alpha: float, beta: float, x: float) -> float:
        if transform == "level":
            return alpha + beta * x
        if transform == "return":
            return y0 * (1 + alpha + beta * (x / x0 - 1))
        rich = y0 / (math.exp(a) * x0**b)  # the log spread of the first row is carried
        return rich * math.exp(alpha) * x**beta

    start = 0.0 if transform == "return" else a  # returns start from the last price
    alone = fair(start, b, x1) - fair(start, b, x0)
    drift = fair(c, d, x0) - fair(start, b, x0)
    error = fair(c, d, x1) - fair(c, d, x0) - alone
    spread = y1 - y0 - alone - drift - error
    linear = b * (1 if transform == "level" else y0 / x0) * (x1 - x0)
    expected = [spread, error, drift, alone - linear, 0.0, 0.0]
    # the largest fair value is y0 e^2 2^1 on logs; shares are rounded to 1e-12
    assert_allclose(columns(transform, [first, second]), expected, atol=1e-10)


def test_lots_are_the_only_cause_of_rounding():
    """0.25 shares too many are short, and the hedge rises by 2; all else lies on the line."""
    rows = [(1.0, 0.5, 11.0, 20.0), (1.0, 0.5, 12.0, 22.0)]
    assert columns("level", rows, lots={"X": 0.75}) == [0, 0, 0, 0, -0.5, 0]


def test_costs_are_booked_where_they_fall():
    book = a_book(cost=Cost(bp=1.0, per_share=0.0), band=ALWAYS)
    ticks = [estimate(at, beta={"X": beta}) for at, beta in enumerate([0.5, 0.5, 0.7])]
    account, done = follow(book, ticks, [row(11.0, X=20.0)] * 3)
    for column in ("cost", "pnl"):
        assert_allclose(account.table()[column], [-0.1, 0.0, -0.04, -0.14], rtol=1e-12)
    assert_allclose([orders.cost for orders in done], [0.1, 0.0, 0.04], rtol=1e-12)


def test_a_row_not_learnt_from_is_booked_at_the_next():
    prices = [row(11.0, X=20.0), row(110.0, X=20.0), row(11.5, X=math.nan), row(12.0, X=21.0)]
    prices.append(row(12.5, X=21.0))
    told = [{}, {"gain": 0.0, "reason": "too far"}, {"observed": False}, {}, {}]
    ticks = [estimate(at, beta={"X": 0.5}, alpha=1.0, **more) for at, more in enumerate(told)]
    account, _ = follow(a_book(cost=FREE), ticks, prices)
    table = account.table()
    assert table["bars"].to_list() == [0, 0, 0, 3, 1, 4]
    assert_allclose(table["pnl"], [0, 0, 0, 50, 50, 100])
    assert_allclose(table["spread"], [0, 0, 0, 50, 50, 100])


def test_a_position_may_not_change_where_it_cannot_be_priced():
    book = a_book()
    account, _ = follow(book, *ONE)
    book.position = 200.0
    gap, prices = estimate(5, beta={"X": 0.5}, observed=False), row(11.0, X=math.nan)
    orders = book.act(gap, prices)
    with pytest.raises(ValueError, match="position in Y or its hedge X changed at 5"):
        account.add(gap, prices, orders=orders)
    with pytest.raises(ValueError, match="orders are of 5, the tick of Y of 6"):
        account.add(estimate(6, beta={"X": 0.5}), row(11.0, X=20.0), orders=orders)
    assert len(account.table()) == 2


# -- many rows -------------------------------------------------------------------------------------

HEDGES = ("SPY", "USO")
POSITION = 10_000.0


class Day:
    """One filter's ticks on prices with gaps in every leg, for any number of books."""

    def __init__(self, transform: str) -> None:
        self.transform, table = transform, made_prices(500, HEDGES)
        table[[50, 51], 0] = table[[200, 201, 401], 1] = table[300] = np.nan
        self.prices = [dict(zip(("XLE", *HEDGES), now, strict=True)) for now in table.tolist()]
        live = made_filter(hedges=HEDGES, transform=transform)
        dates = pd.bdate_range("2024-03-04 16:00", periods=500, tz="America/New_York")
        self.ticks = [
            live.update(y=now["XLE"], x=now, at=at)
            for at, now in zip(dates, self.prices, strict=True)
        ]

    def hedged(self, **options: Any) -> tuple[HedgeBook, Attribution, list[Orders]]:
        named = {"target": "XLE", "hedges": HEDGES, "position": POSITION}
        book = HedgeBook(transform=self.transform, **(named | options))
        account, done = follow(book, self.ticks, self.prices)
        return book, account, done


@pytest.fixture(scope="module", params=TRANSFORMS)
def day(request: pytest.FixtureRequest) -> Day:
    return Day(request.param)


def test_the_hedge_removes_variance_and_its_shares_sum_to_one(day):
    _, account, _ = day.hedged(band=ALWAYS, cost=FREE)
    rows = account.table().iloc[:-1]
    rows = rows[rows["bars"] > 0]
    removed = 1 - np.var(rows["pnl"]) / np.var(rows["unhedged"])
    assert_allclose(account.variance_removed(), removed, rtol=1e-12)
    assert 0 < removed < 1
    shares = account.variance_shares()
    assert_allclose(shares.sum(), 1.0, rtol=1e-9)
    for name in COLUMNS:
        share = np.cov(rows[name], rows["pnl"])[0, 1] / np.var(rows["pnl"], ddof=1)
        assert_allclose(shares[name], share, atol=1e-12)
    said = account.reading()
    assert f"XLE hedged with SPY, USO: {removed:.1%} of the variance removed" in said
    assert f"{shares.abs().idxmax().replace('_', ' ')} {shares[shares.abs().idxmax()]:.1%}" in said


def test_a_band_trades_turnover_for_rounding(day):
    books = [
        day.hedged(lots=dict.fromkeys(HEDGES, 1e-9), band=Band(sds)) for sds in (0.0, 1.0, 2.0)
    ]
    turnover = [sum(book.turnover.values()) for book, _, _ in books]
    rounding = [account.table()["rounding"].iloc[:-1].std() for _, account, _ in books]
    assert turnover[0] > turnover[1] > turnover[2]
    assert rounding[0] < rounding[1] < rounding[2]
    # half a lot of 1e-9 shares times moves of less than 300 points
    assert rounding[0] < 1e-6


@pytest.mark.parametrize("as_text", [False, True])
def test_hours_are_summed_by_the_day_of_their_own_time_zone(as_text):
    times = pd.date_range("2024-03-08 22:00", periods=4, freq="h", tz="America/New_York")
    ticks = [estimate(at.isoformat() if as_text else at, beta={"X": 0.0}) for at in times]
    account, _ = follow(a_book(), ticks, [row(y, X=20.0) for y in (10.0, 11.0, 13.0, 17.0)])
    days = account.by_day()
    assert_allclose(days["pnl"], [100.0, 600.0])
    assert str(days.index[1]) == "2024-03-09 00:00:00" + ("" if as_text else "-05:00")


@pytest.mark.parametrize("cut", [0, 1, 137, 400])
def test_a_stored_book_goes_on_to_the_last_bit(day, cut):
    options: Any = {"band": Band(0.7, Saving(3e-5, memory=33.3)), "cost": Cost(0.7, 0.003)}
    options |= {"lots": {"SPY": 3.0}, "multiplier": {"USO": 0.1, "XLE": 1.7}, "held": {"USO": 12.5}}
    whole, _, done = day.hedged(**options)
    named = {"target": "XLE", "hedges": HEDGES, "position": POSITION}
    first = HedgeBook(transform=day.transform, **named, **options)
    steps = list(zip(day.ticks, day.prices, strict=True))
    for tick, now in steps[:cut]:
        first.act(tick, now)
    stored = json.loads(json.dumps(first.to_json(), allow_nan=False))
    assert stored == first.to_json()
    second = HedgeBook.from_json(stored)
    after = [second.act(tick, now) for tick, now in steps[cut:]]
    # repr, as NaN is no equal of itself
    assert repr(after) == repr(done[cut:])
    assert second.to_json() == whole.to_json()
    assert stored == first.to_json()
