"""Leads and lags of a leg: the sums by hand, no false alarms, and how soon a late leg is found."""

import json
import warnings
from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import kfmodels as kf
from kfmodels import Discounted, HedgeData, fit_many, hedge_ratio_model
from kfmodels.kalman.transforms import transform_of
from kfmodels.live.lags import Lag, Lags, tell_lags
from kfmodels.online.board import OnlineBoard
from tests.tables import read_table

PAIRS = tuple((f"Y{number}", f"X{number}") for number in range(8))


def moved(rows: int, pairs: int = 1, dof: float | None = None, seed: int = 1) -> np.ndarray:
    """Independent innovations and hedge moves, `(2, row, pair)`."""
    rng = np.random.default_rng(seed)
    size = (2, rows, pairs)
    return rng.normal(size=size) if dof is None else rng.standard_t(dof, size=size)


def run(errors: np.ndarray, prices: np.ndarray) -> list[tuple[int, Lag]]:
    """The alarms of rows `(row, pair)`, each with its row."""
    pairs = PAIRS[: errors.shape[1]]
    lags, found = Lags(pairs, transform_of("log")), []
    for row, (z, now) in enumerate(zip(errors, prices, strict=True)):
        given = {names[1]: price for names, price in zip(pairs, now.tolist(), strict=True)}
        alarms = lags.update(given, z.item() if len(pairs) == 1 else z)
        found += [(row, alarm) for alarm in alarms]
    return found


def walk(moves: np.ndarray) -> np.ndarray:
    return 100 * np.exp(0.001 * np.cumsum(moves, 0))


def test_the_sums_are_weighted_moments_of_the_products():
    errors, moves = moved(90)[..., 0]
    moves = np.sign(moves) + 0.1 * moves  # none of them is cut
    errors, prices = np.clip(errors, -4, 4), walk(moves)
    lags = Lags(PAIRS[:1], transform_of("log"))
    for z, price in zip(errors.tolist(), prices.tolist(), strict=True):
        lags.update({"X0": price}, z)
    (stand,) = lags.stands
    steps = np.diff(np.log(prices))
    for sums, ahead, other in (
        (stand.before, errors[2:], steps[:-1]),
        (stand.after, errors[:-1], steps),
    ):
        weights = 0.99 ** np.arange(len(ahead))[::-1]
        product = ahead * other
        mean = weights @ product / weights.sum()
        size = weights @ product / np.sqrt((weights @ ahead**2) * (weights @ other**2))
        errors_of = weights @ product / np.sqrt(weights**2 @ (product - mean) ** 2)
        assert_allclose(sums.strength(np), (size, errors_of), rtol=1e-6)


@pytest.mark.parametrize("late", [False, True])
def test_a_board_and_a_pair_find_the_same_and_go_on_from_a_document(late: bool):
    errors, moves = moved(300, 8)
    moves[1:] = 0.8 * errors[:-1] + 0.6 * moves[1:] if late else moves[1:]
    if not late:
        errors[1:] = 0.8 * moves[:-1] + 0.6 * errors[1:]
    prices = walk(moves)
    found = run(errors, prices)
    assert {alarm.pair for _, alarm in found} == set(range(8))
    assert {alarm.late for _, alarm in found} == {late}
    assert max(row for row, _ in found[:8]) < 120
    alone = [run(errors[:, [n]], prices[:, [n]]) for n in range(8)]
    rows = sorted((row, number) for number, each in enumerate(alone) for row, _ in each)
    assert rows == sorted((row, alarm.pair) for row, alarm in found)
    for pairs in (PAIRS, PAIRS[:1]):
        one = Lags(pairs, transform_of("log"))
        for cut, (z, now) in enumerate(zip(errors[:80], prices, strict=False)):
            if cut % 7 == 3:
                document = json.loads(json.dumps(one.to_json(), allow_nan=False))
                one = Lags(pairs, transform_of("log"), document)
            given = {names[1]: price for names, price in zip(pairs, now.tolist(), strict=False)}
            one.update(given, z if len(pairs) > 1 else z[0].item())
        assert one.ringing
        one.restart([names[1] for names in pairs])
        assert not one.ringing


@pytest.mark.parametrize("dof", [None, 5, 3])
def test_right_models_do_not_ring(dof: float | None):
    """16,000 rows here; in 2,000,000 of each kind (20 pairs of 100,000) not one did."""
    errors, moves = moved(2000, 8, dof)
    assert run(errors, walk(moves)) == []


def test_no_row_and_one_bad_print_are_no_lag():
    errors, moves = moved(400)
    errors[::7], errors[200] = np.nan, 1e6
    moves[199:201, 0] = 1e3, -1e3
    assert run(errors, walk(moves)) == []


@pytest.mark.parametrize("transform", ["log", "level"])
def test_a_table_names_the_late_leg_and_real_ones_are_in_time(transform: str):
    """All 506 ordered pairs of 23 funds; those whose moves have a correlation of 0.45 are found."""
    table, of = kf.datasets.etfs().to_numpy(), transform_of(transform)
    moves = np.corrcoef(np.diff(np.log(table), axis=0).T)
    for y, x in permutations(range(table.shape[1]), 2):
        y_rows, x_rows = table[:, y], table[:, x]
        assert tell_lags(np.c_[y_rows, x_rows], "YX", of) == []
        if moves[y, x] > 0.45 and transform == "log":
            for rows, way in (
                (np.c_[y_rows[1:], x_rows[:-1]], "after"),
                (np.c_[y_rows[:-1], x_rows[1:]], "before"),
            ):
                (said,) = tell_lags(rows, "YX", of)
                assert said.startswith(f"X comes one row {way} Y: ")


@pytest.mark.slow
def test_a_late_column_is_doubted_by_fit_and_board_until_the_remedy_is_taken():
    late = kf.datasets.stocks()[["AAPL", "SPX"]].loc["2017":"2018"]
    late = late.assign(SPX=late["SPX"].shift(1)).dropna()
    fixed = hedge_ratio_model(delta=0.01, obs_scale=0.01)
    with pytest.warns(UserWarning, match="SPX comes one row after AAPL") as caught:
        kf.fit(HedgeData.from_prices(late, target="AAPL", hedges=["SPX"]), fixed, progress=False)
    said = next(str(one.message) for one in caught if "comes one row" in str(one.message))
    remedy = said.split("give ")[1].split(";")[0]
    board = fit_many(HedgeData.pairs(late, [("AAPL", "SPX")]), progress=False)
    assert board.doubts.iloc[0] == said
    repaired = eval(remedy, {"prices": late}).dropna()  # the remedy as it is printed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = HedgeData.from_prices(repaired, target="AAPL", hedges=["SPX"])
        right = kf.fit(data, fixed, progress=False)
    assert 1 < right.hedge_ratio()["mean"].iloc[-1] < 2
    board = fit_many(HedgeData.pairs(repaired, [("AAPL", "SPX")]), progress=False)
    assert board.doubts.iloc[0] == ""


def followed(board: OnlineBoard, rows: np.ndarray) -> list[int | None]:
    """The row of the first alarm of every pair; `rows` have its tickers as columns."""
    engine = OnlineBoard.from_json(board.to_json())
    lags, first = Lags(engine.pairs, transform_of("log")), [None] * len(engine.pairs)
    for number, row in enumerate(rows):
        prices = dict(zip(engine.tickers, row.tolist(), strict=True))
        for alarm in lags.update(prices, engine.update(prices).learnt()[0]):
            first[alarm.pair] = number if first[alarm.pair] is None else first[alarm.pair]
    return first


@pytest.mark.slow
@pytest.mark.nightly
def test_real_minutes_ring_where_a_leg_is_late_and_not_where_they_come_whole():
    """14 stocks and funds by SPY, 1450 minutes: none rings when fed whole.

    With SPY a row late all 14 do, the median after 100 to 250 rows, with the targets late 13 at least.
    """
    table = read_table("intraday_us_1min_2019-02.csv.gz")
    names = table.columns.drop(
        ["SPY", "DFS", "GLD", "PPLT", "SBUX", "SLV", "TZA", "UGA", "VIX", "VXXB"]
    )
    pairs = HedgeData.pairs(table.iloc[:500], [(n, "SPY") for n in names], transform="log")
    board = fit_many(pairs, hedge_ratio_model(noise=Discounted()), progress=False).online()
    live = table.iloc[500:][list(board.tickers)]
    assert followed(board, live.to_numpy()) == [None] * 14
    late = followed(board, live.assign(SPY=live["SPY"].shift(1)).to_numpy())
    assert None not in late
    assert 100 < np.median(late) < 250
    targets = live.shift(1).assign(SPY=live["SPY"])
    assert followed(board, targets.to_numpy()).count(None) <= 1
