"""The orders of a book: closed forms, units, limits, and what they say about themselves."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kfmodels.live.costs import Cost
from kfmodels.universe.book_hedge import number_texts
from kfmodels.universe.netting import hedge_book
from tests.universe.books import book, real, simulated

FREE = {"cost": 0.0, "band": 0.0}


@pytest.mark.parametrize("kind", [simulated, real])
def test_without_cost_limit_and_band_it_is_the_regression(kind):
    cov = kind(3)
    positions, hedges = book(cov, 3)
    found = hedge_book(cov, positions, hedges=hedges, days=5, **FREE)
    own = pd.Series(positions).reindex(cov.columns, fill_value=0.0)
    inner = cov.loc[hedges, hedges].to_numpy()
    wanted = -np.linalg.solve(inner, (cov @ own)[hedges].to_numpy())
    assert_allclose(found.orders.loc[hedges, "wanted"], wanted, rtol=1e-6)
    whole = own.copy()
    whole[hedges] += wanted
    assert_allclose(found.unhedged, math.sqrt(own @ cov @ own), rtol=1e-12)
    assert_allclose(found.after, math.sqrt(whole @ cov @ whole), rtol=1e-9)
    assert_allclose(found.removed, 1 - (whole @ cov @ whole) / (own @ cov @ own), rtol=1e-9)
    assert_allclose(found.objective, 5 * found.after**2 / (found.unhedged * 5**0.5), rtol=1e-9)


def test_one_leg_has_a_closed_form_with_its_cost():
    """x = -(S_hp m - c / (2 kappa d)) / S_hh, drawn towards what is held by the cost."""
    cov = pd.DataFrame([[4.0, 3.0], [3.0, 3.0]], ["Y", "X"], ["Y", "X"]) * 1e-4
    found = hedge_book(
        cov,
        {"Y": 1e6},
        hedges=["X"],
        held={"X": -1e5},
        cost=30.0,
        days=4,
        band=0.0,
        risk_price=1e-5,
    )
    expected = -(300.0 - 30e-4 / (2 * 1e-5 * 4)) / 3e-4
    assert_allclose(found.orders.loc["X", "wanted"], expected, rtol=1e-9)
    assert_allclose(found.cost, 30e-4 * abs(expected + 1e5), rtol=1e-9)
    # below this price of risk no trade pays
    still = hedge_book(cov, {"Y": 1e6}, hedges=["X"], cost=30.0, band=0.0, risk_price=4e-6)
    assert not len(still.orders)
    assert still.why[1] == "Nothing is traded."


@pytest.mark.parametrize("options", [{}, {"legs": 2}, {"band": 0.02, "held": True}])
@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_money_in_another_unit_gives_the_same_orders(options, unit):
    cov = real(5)
    positions, hedges = book(cov, 5)
    given, held = dict(options), {hedges[0]: 4e5, hedges[1]: -1e5}
    kept = given.pop("held", False)
    one = hedge_book(cov, positions, hedges=hedges, held=held if kept else None, **given)
    scaled = {name: unit * amount for name, amount in positions.items()}
    other = hedge_book(
        cov,
        scaled,
        hedges=hedges,
        held={name: unit * amount for name, amount in held.items()} if kept else None,
        **given,
    )
    pd.testing.assert_frame_equal(one.orders * unit, other.orders, rtol=1e-7, atol=1e-6 * unit)
    assert one.left == other.left or kept
    assert_allclose(other.removed, one.removed, rtol=1e-9)


@pytest.mark.parametrize("options", [{}, {"legs": 3}, {"least": 3e5, "gross": 1.5e6}])
def test_the_order_of_the_tickers_changes_nothing(options):
    cov = real(6)
    positions, hedges = book(cov, 6)
    one = hedge_book(cov, positions, hedges=hedges, **options)
    turned = cov.loc[cov.columns[::-1], cov.columns]
    turned = turned[cov.columns[3:].append(cov.columns[:3])]
    backwards = dict(reversed(positions.items()))
    other = hedge_book(turned, backwards, hedges=hedges[::-1], **options)
    pd.testing.assert_frame_equal(
        one.orders.sort_index(), other.orders.sort_index(), rtol=1e-6, atol=1e-3
    )


def test_the_worth_of_a_leg_is_what_the_hedge_without_it_lacks():
    cov = simulated(7)
    positions, hedges = book(cov, 7, legs=5)
    options = {"band": 0.0, "cost": 2.0}
    found = hedge_book(cov, positions, hedges=hedges, **options)
    for name in found.orders.index:
        rest = hedge_book(cov, positions, hedges=[leg for leg in hedges if leg != name], **options)
        assert_allclose(found.orders.loc[name, "sd_without"], rest.after, rtol=1e-6)
        assert_allclose(
            found.orders.loc[name, "worth"], rest.objective - found.objective, rtol=1e-4
        )


def test_a_cost_a_share_counts_by_price():
    cov, (positions, hedges) = simulated(8), book(simulated(8), 8, legs=2)
    prices = {"A0": 20.0, "A1": 200.0, "A5": 1.0}
    options = {"hedges": hedges, "prices": prices, "band": 0.0}
    one = hedge_book(cov, positions, cost=Cost(bp=1.0, per_share=0.01), **options)
    other = hedge_book(cov, positions, cost={"A0": 6.0, "A1": 1.5}, **options)
    pd.testing.assert_frame_equal(one.orders, other.orders)
    assert_allclose(one.orders["shares"], one.orders["trade"] / [20.0, 200.0])


def test_a_leg_that_may_not_be_short_can_be_sold_as_far_as_it_is_owned():
    cov = pd.DataFrame([[4.0, 3.0], [3.0, 3.0]], ["Y", "X"], ["Y", "X"]) * 1e-4
    owned = {"Y": 1e6, "X": 2e5}
    found = hedge_book(cov, owned, hedges=["X"], short=False)
    assert_allclose(found.orders.loc["X", "wanted"], -2e5)
    nothing = hedge_book(cov, {"Y": 1e6}, hedges=["X"], short=False)
    assert nothing.left == {"X": "only selling it short would help"}
    forced = hedge_book(cov, {"Y": 1e6}, hedges=["X"], held={"X": -5e5}, short=False, band=0.9)
    assert forced.orders.loc["X", "wanted"] == 0.0


def test_a_book_without_positions_sells_its_legs():
    cov = simulated(9)
    found = hedge_book(cov, {}, hedges=["A0", "A1"], held={"A0": 1e6, "A1": -2e5}, **FREE)
    assert (found.orders["wanted"] == 0).all()
    assert found.after == 0
    assert math.isnan(found.removed)
    assert "nan" not in str(found)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 50),
    legs=st.sampled_from([None, 1, 3]),
    least=st.sampled_from([0.0, 2e5]),
    greatest=st.sampled_from([math.inf, 5e5]),
    short=st.sampled_from([True, False, ["A0", "A2"]]),
    gross=st.sampled_from([math.inf, 6e5, 0.0]),
    lots=st.sampled_from([None, 100.0, {"A1": 3000.0}]),
    band=st.sampled_from([0.0, 0.05]),
    held=st.sampled_from([{}, {"A0": 7e5, "A3": -1e5}]),
)
def test_every_limit_is_kept_and_every_leg_accounted_for(
    seed, legs, least, greatest, short, gross, lots, band, held
):
    cov = simulated(seed)
    positions, hedges = book(cov, seed, legs=6)
    positions["A1"] = 3e5
    prices = dict.fromkeys(hedges, 50.0)
    found = hedge_book(
        cov,
        positions,
        hedges=hedges,
        held=held,
        prices=prices,
        lots=lots,
        legs=legs,
        least=least,
        greatest=greatest,
        short=short,
        gross=gross,
        band=band,
    )
    orders, tiny = found.orders, 1e-6
    wanted = orders["wanted"][orders["wanted"] != 0]
    assert len(wanted) <= (legs or 6)
    assert (wanted.abs() >= least - tiny).all()
    assert (wanted.abs() <= greatest + tiny).all()
    assert wanted.abs().sum() <= gross + tiny
    may = hedges if short is True else short or []
    for name, amount in wanted.items():
        assert name in may or amount >= -max(positions.get(str(name), 0.0), 0.0) - tiny
        size = lots.get(name, 0.0) if isinstance(lots, dict) else lots
        if size:
            count = orders.loc[name, "trade"] / (50.0 * size)
            assert abs(count - round(count)) < tiny
    assert (orders["trade"] == orders["wanted"] - orders["held"]).all()
    assert_allclose(found.cost, 1e-4 * orders["trade"].abs().sum(), rtol=1e-9)
    assert set(found.trades.index) | set(found.left) == set(hedges)
    assert not set(found.trades.index) & set(found.left)
    text = str(found)
    assert max(map(len, text.split("\n"))) <= 80
    assert "nan" not in text + " ".join(found.why)


REASONS = {
    "gross": ({"gross": 1e5}, "the gross of 100,000 is better used by the other legs"),
    "legs": ({"legs": 1}, "the limit of 1 leg stands against it"),
    "cost": ({"cost": {"A0": 1.0, "A1": 5000.0, "A2": 1.0}}, "in risk and costs 5e+03 bp"),
    "least": ({"least": {"A1": 1e8}}, "its least of 100,000,000 is more than it is worth"),
    "greatest": ({"greatest": {"A1": 0.0}}, "its limits leave no room for it"),
    "band": ({"band": 0.9}, "inside the band of 90 %"),
    "lots": (
        {"prices": {"A0": 1.0, "A1": 1.0, "A2": 1.0}, "lots": 1e8},
        "round to no trade in lots",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_is_not_traded_says_why(name):
    cov, (positions, hedges) = simulated(10), book(simulated(10), 10, legs=3)
    options, reason = REASONS[name]
    found = hedge_book(cov, positions, hedges=hedges, **({"band": 0.0} | options))
    assert any(reason in text for text in found.left.values()), found.left
    assert any(reason in sentence for sentence in found.why)


@pytest.mark.parametrize(
    ("price", "lots", "shown"),
    [
        (200.0, 1, "-4,983"),
        (190.0, None, "-5,245.614"),
        (190.0, 0.5, "-5,245.5"),
        (6e7, None, "-0.01661"),
    ],
)
def test_shares_are_shown_to_a_fraction_that_can_be_ordered(price, lots, shown):
    cov = pd.DataFrame([[4.0, 3.0], [3.0, 3.0]], ["XLE", "SPY"], ["XLE", "SPY"]) * 1e-4
    book = hedge_book(cov, {"XLE": 1_000_000}, hedges=["SPY"], prices={"SPY": price}, lots=lots)
    *_, row = str(book).splitlines()
    assert row.split()[4].startswith(shown)
    exact = float(book.orders.loc["SPY", "shares"])
    assert float(row.split()[4].replace(",", "")) == pytest.approx(exact, rel=1e-7)
    assert number_texts(book.orders).loc["SPY", "shares"] == row.split()[4]


def test_large_money_and_long_tickers_fit_into_eighty_columns():
    cov = simulated(11)
    names = {name: f"{name} a very long name of a contract, rolled" for name in cov.columns}
    cov = cov.rename(index=names, columns=names)
    positions = {names["A9"]: 3e13, names["A8"]: -2e13}
    hedges = [names[f"A{i}"] for i in range(8)]
    found = hedge_book(cov, positions, hedges=hedges, prices=dict.fromkeys(hedges, 1e-3), lots=1)
    assert max(map(len, str(found).split("\n"))) <= 80
