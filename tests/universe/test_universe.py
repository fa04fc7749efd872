"""`hedge_universe` and its result, against the basket run by hand and against plain arithmetic."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

import kfmodels as kf
from kfmodels.basket.basket import Basket
from kfmodels.data.arrays import resample_blocks
from kfmodels.universe.reading import tell_repeats
from kfmodels.universe.universe import HedgeUniverse

NAMES = ["XLE", "SPY", "XLB", "XLF", "EWJ", "TLT"]
ROWS = 420


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return kf.datasets.etfs()[NAMES].iloc[:ROWS]


@pytest.fixture(scope="module")
def universe(prices) -> HedgeUniverse:
    return kf.hedge_universe(prices)


@pytest.fixture(scope="module")
def by_hand(prices) -> tuple[Basket, list[np.ndarray], np.ndarray]:
    """The basket after all rows, its ratios after each, and the moves they left."""
    basket, ratios = Basket(NAMES), []
    for at, row in prices.iterrows():
        basket.update(row.to_dict(), at=at)
        ratios.append(basket.ratios())
    moves = np.diff(np.log(prices.to_numpy()), axis=0)
    left = np.array([y - b @ y for b, y in zip(ratios, moves, strict=False)])
    return basket, ratios, np.vstack([np.full((1, len(NAMES)), np.nan), left])


def test_ratios_are_those_of_the_basket(universe, by_hand):
    basket, ratios, _ = by_hand
    np.testing.assert_array_equal(universe.ratios(), basket.ratios())
    np.testing.assert_array_equal(universe.sd(), basket.sd())
    past = universe.history("XLB")
    assert list(past.columns) == [name for name in NAMES if name != "XLB"]
    shown = [universe.prices.index.get_loc(at) for at in past.index]
    expected = np.array([ratios[row][2, [0, 1, 3, 4, 5]] for row in shown])
    np.testing.assert_array_equal(past, expected)


def test_spreads_are_the_moves_left_by_ratios_known_before(universe, by_hand):
    spreads, left = universe.spreads().to_numpy(), by_hand[2]
    judged = np.isfinite(spreads)
    assert judged.sum() > 900
    np.testing.assert_allclose(spreads[judged], left[judged], atol=1e-12)


def test_worth_is_the_share_of_squares_removed(universe, prices):
    singles = Basket(NAMES, legs=1)
    left = np.array([singles.update(row.to_dict(), at=at).spread for at, row in prices.iterrows()])
    moves = np.log(prices).diff().to_numpy()
    spreads = universe.spreads().to_numpy()
    seen = np.isfinite(spreads) & np.isfinite(left)
    total = [(np.where(seen, x, 0) ** 2).sum(0) for x in (moves, spreads, left)]
    np.testing.assert_allclose(universe.worth["removed"], 1 - total[1] / total[0], rtol=1e-12)
    np.testing.assert_allclose(universe.worth["best_1"], 1 - total[2] / total[0], rtol=1e-12)
    assert (universe.worth["rows"] == seen.sum(0)).all()
    # the lead's standard error against the delta method over all blocks, those over the end too
    first = np.flatnonzero(seen.any(1))[0]
    gained, whole = (left**2 - spreads**2)[first:, 0], (moves**2)[first:, 0]
    off, count = gained - whole * gained.sum() / whole.sum(), len(whole)
    sums = [off[np.arange(row, row + 20) % count].sum() for row in range(count)]
    error = np.sqrt(count / 20 * np.var(sums)) / whole.sum()
    assert universe.worth.loc["XLE", "lead_1_se"] == pytest.approx(error, rel=0.15)
    # and to the digit in the blocks that all tables of the package resample
    drawn = resample_blocks(count, 400)
    error = np.std([gained[rows].sum() / whole[rows].sum() for rows in drawn], ddof=1)
    assert universe.worth.loc["XLE", "lead_1_se"] == pytest.approx(error, rel=1e-9)


def test_few_legs_are_scored_on_the_same_rows(universe):
    curve = universe.by_legs("XLE", sizes=(1, 3))
    assert list(curve.index) == [1, 3, 5]
    np.testing.assert_allclose(
        curve, universe.worth.loc["XLE", ["best_1", "best_3", "removed"]], atol=0.01
    )


@pytest.mark.slow
def test_a_bad_print_of_a_light_leg_is_neither_a_move_nor_money(prices):
    at = prices.index[350]
    spoilt, missing = prices.copy(), prices.copy()
    spoilt.loc[at, "TLT"] *= 10
    missing.loc[at, "TLT"] = np.nan
    weight = kf.hedge_universe(prices.iloc[:350], targets=["XLB"]).weights().loc["XLB", "TLT"]
    assert 0 < abs(weight) < 0.02
    with pytest.warns(UserWarning, match="TLT went from .* and came back"):
        found = kf.hedge_universe(spoilt, targets=["XLB"])
    expected = kf.hedge_universe(missing, targets=["XLB"])
    np.testing.assert_allclose(found.worth["heavy"], expected.worth["heavy"], atol=1e-4)
    np.testing.assert_allclose(found.turnover, expected.turnover, rtol=1e-3)


def test_turnover_is_what_shares_cost_to_hold(universe, by_hand, prices):
    ratios = np.nan_to_num(np.array(by_hand[1]))[:, 0]
    shares = ratios * prices[["XLE"]].to_numpy() / prices.to_numpy()
    traded = (np.abs(np.diff(shares, axis=0)) * prices.to_numpy()[1:]).sum(1)
    traded = traded / prices["XLE"].to_numpy()[1:]
    first = next(row for row, all_of in enumerate(by_hand[1]) if not np.isnan(all_of).all())
    counted = traded[max(first, ROWS - 1 - 252) :]
    assert universe.table().loc["XLE", "turnover"] == pytest.approx(252 * counted.mean())


@pytest.mark.parametrize(
    "at",
    ["soon", 7.5, pd.offsets.Day(), pd.NaT, "2000-01-01", 7, "2030-01-01T10:00+01:00", "last"],
)
def test_a_forecast_takes_the_times_that_a_row_of_the_feed_may_have(universe, at):
    """And refuses the others in the same words."""
    table = universe.prices
    row, at = table.iloc[-1].to_dict(), table.index[-1] if at == "last" else at
    with pytest.raises(ValueError, match="time|tick") as told:
        universe.online().update(row, at=at)
    words = str(told.value).replace("was changed", "was forecast")
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        universe.forecast(row, at=at)
    later = table.index[-1] + pd.offsets.Day()
    assert universe.forecast(row, at=later).equals(universe.forecast(row))


def test_forecast_holds_the_next_price_of_the_hedges(universe):
    row = kf.datasets.etfs()[NAMES].iloc[ROWS]
    found = universe.forecast(row)
    ratios, last = universe.ratios(), universe.prices.iloc[-1]
    mean = ratios.to_numpy() @ np.log(row / last).to_numpy()
    z = (np.log(row / last) - mean) / found["sd"]
    np.testing.assert_allclose(found["z"], z, atol=1e-9)
    assert (found["lower"] < found["fair"]).all()
    assert (found["fair"] < found["upper"]).all()
    assert np.isnan(universe.forecast(row.drop("XLE")).loc["XLE", "z"])


def test_over_a_gap_the_forecast_follows_the_hedges(universe, prices):
    rows = kf.datasets.etfs()[NAMES].iloc[ROWS : ROWS + 3]
    table = pd.concat([prices, rows.iloc[:2].assign(XLE=np.nan)])
    found = kf.hedge_universe(table, targets=["XLE"]).forecast(rows.iloc[2]).loc["XLE"]
    moved = np.log(rows.iloc[2] / prices.iloc[-1]).fillna(0.0)
    fair = prices["XLE"].iloc[-1] * np.exp(universe.ratios().loc["XLE"] @ moved)
    assert found["fair"] == pytest.approx(fair, rel=2e-3)  # ratios move a little in two rows
    assert abs(np.log(fair / prices["XLE"].iloc[-1])) > 5e-3


def test_legs_in_words_are_the_heaviest(universe):
    legs, said = universe.legs("XLE"), universe.table().loc["XLE", "legs"]
    top = legs.iloc[0]
    assert f"{abs(top['ratio']):.2f} {legs.index[0]}" in said
    assert legs["weight"].is_monotonic_decreasing


def test_saved_and_loaded_it_goes_on_to_the_bit(universe, tmp_path):
    universe.save(tmp_path / "u.json")
    again = kf.load(tmp_path / "u.json")
    pd.testing.assert_frame_equal(again.table(), universe.table())
    pd.testing.assert_frame_equal(again.worth, universe.worth)
    two = universe.online(), again.online()
    for at, row in kf.datasets.etfs()[NAMES].iloc[ROWS : ROWS + 40].iterrows():
        for basket in two:
            basket.update(row.to_dict(), at=at)
    np.testing.assert_array_equal(two[0].ratios(), two[1].ratios())
    np.testing.assert_array_equal(universe.ratios(), again.ratios())  # which were left alone
    with pytest.raises(ValueError, match="holds no past: run"):
        again.spreads()


@pytest.mark.slow
def test_a_late_listing_and_a_delisting_leave_the_others(prices):
    table = prices.copy()
    table.iloc[:380, 4] = np.nan  # EWJ comes late
    table.iloc[400:, 3] = np.nan  # XLF goes
    last, missing = table.index[399].date(), len(table) - 400
    with pytest.warns(
        UserWarning, match=f"^XLF has no price after {last}, in the last {missing} rows"
    ):
        universe = kf.hedge_universe(table)
    (doubt,) = universe.doubts
    assert "its own hedge fades; end the table there or leave it out" in doubt
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mended in (table.iloc[:400], table.drop(columns="XLF")):
            assert kf.hedge_universe(mended, targets=["XLE"]).doubts == ()
    ratios = universe.ratios()
    assert ratios.loc["EWJ"].isna().all()
    assert universe.table().loc["EWJ", "legs"] == "none yet"
    assert np.isnan(universe.table().loc["EWJ", "removed"])
    assert (ratios.loc[["XLE", "SPY", "XLB", "TLT"], ["XLF", "EWJ"]] == 0).all(axis=None)
    assert ratios.loc[["XLE", "SPY"], "XLB"].abs().min() > 0


@pytest.mark.slow
def test_doubts_are_told_once_and_repaired(prices):
    prices = prices.iloc[:280]
    table = prices.copy()
    table.iloc[200:, 0] /= 4
    with pytest.warns(UserWarning, match="XLE went from .* a split") as told:
        spoilt = kf.hedge_universe(table, targets=["XLE"])
    assert len(told) == 1
    assert "XLE" in spoilt.doubts[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at = str(table.index[200].date())
        mended = kf.hedge_universe(table, targets=["XLE"], repair={"XLE": {at: 0.25}})
    whole = kf.hedge_universe(prices, targets=["XLE"])
    np.testing.assert_allclose(mended.ratios(), whole.ratios(), rtol=1e-6)


def test_its_name_fits_a_line(prices):
    universe = kf.hedge_universe(prices, legs=3)
    assert max(map(len, repr(universe).splitlines())) <= 80
    assert "at most 3 legs" in repr(universe)
    assert (universe.ratios() != 0).sum(axis=1).max() <= 3
    np.testing.assert_array_equal(universe.table()["best_3"], universe.table()["removed"])


P = kf.datasets.etfs().iloc[:300, :4]  # EEM, EWG, TIP, EWJ
BAD = P.copy()
BAD.iloc[7, 1] = -1.0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: kf.hedge_universe(P, targets=["EWK"]), "EWK is not among the 4 columns.*EWJ"),
        (
            lambda: kf.hedge_universe(P, hedges=["EWJ", "EWJ"]),
            "EWJ is named twice among the hedges",
        ),
        (lambda: kf.hedge_universe(P, targets=[]), "no target is given: name a ticker"),
        (lambda: kf.hedge_universe(P, hedges="EWJ"), "EWJ is the only hedge"),
        (lambda: kf.hedge_universe(P, legs=0), "legs is the most hedges.* 1 or more, not 0"),
        (lambda: kf.hedge_universe(P.assign(X=5.0)), r"X is constant at 5.*drop\(columns='X'\)"),
        (lambda: kf.hedge_universe(P.assign(X=np.nan)), "X has no price at all: leave it out"),
        (lambda: kf.hedge_universe(P.iloc[:250]), "250 rows.*a history of more than 250"),
        (lambda: kf.hedge_universe(BAD), "EWG is -1 at 2008-01-11.*make it a gap"),
        (lambda: kf.hedge_universe(P.iloc[::-1]), "not sorted.*sort_index"),
        (lambda: kf.hedge_universe(P["EEM"]), "a Series is one ticker"),
        (lambda: kf.hedge_universe(P, repair={"EWZ": {}}), "repair names EWZ"),
        (lambda: kf.hedge_universe(P).legs("EWK"), "EWK is not among the 4 targets: EEM"),
        (lambda: kf.load("nowhere.json"), "no file nowhere.json: make one with kf.hedge_universe"),
    ],
)
def test_errors_say_what_and_what_to_do(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_holidays_that_were_filled_are_told_of_few_tickers():
    random = np.random.default_rng(2)
    days = pd.bdate_range("2020-01-01", periods=400)
    moves = 0.01 * random.standard_normal((400, 6))
    moves[random.permutation(400)[:24]] = 0.0  # a calendar of all, filled
    for column in range(6):
        moves[random.permutation(400)[:20], column] = 0.0
    table = pd.DataFrame(100 * np.exp(moves.cumsum(0)), days, list("ABCDEF"))
    said = tell_repeats(table)
    assert len(said) == 4
    assert said[0].startswith("all 6 tickers repeat their prices at once in ")
    assert said[-1] == "4 other tickers likewise repeat their prices"
    with pytest.warns(UserWarning, match="all 6 tickers repeat their prices at once"):
        kf.hedge_universe(table, progress=False)
