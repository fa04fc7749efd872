"""Real prices as feeds bring them: leg by leg, polled, ex a dividend; against a textbook loop."""

import json
import signal
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from kfmodels import Discounted, HedgeData, fit_many, hedge_ratio_model
from kfmodels.clock.clock import Clock
from kfmodels.live.account import COLUMNS, Attribution
from kfmodels.live.book import HedgeBook
from kfmodels.live.feed import LiveFilter
from kfmodels.online.board import OnlineBoard
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.shocks import Quarantine
from tests.made_filters import MINUTE, START, board_of, leg_by_leg, made_board, made_filter
from tests.processes import python
from tests.reference import loop
from tests.tables import read_table

NEW_YORK = Clock.hours("09:30", "16:00", zone="America/New_York")
HEDGED = ("AAPL", "MSFT", "VOO", "BAC", "AMT", "PPLT")  # PPLT has no price in 7 of 10 minutes


def one_draw(first: pd.Series, target: str, hedge: str, transform: str = "log") -> OnlineFilter:
    """A filter of one noise draw near the first prices of a table."""
    near = {name: float(first[name]) for name in (target, hedge)}
    return made_filter(
        target=target, hedges=(hedge,), near=near, transform=transform, draws=1, at=None, until=None
    )


def textbook(
    made: OnlineFilter, rows: np.ndarray, dt: np.ndarray, moved: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of [ratio, level] after rows `(row, leg)` of logs or levels.

    `moved` is by how much prices of before were shifted, which takes the filter's origin with them.
    """
    held, where, var = made.arguments(), made.coordinates, float(made.arguments()["noise"].var[0])
    y, x = (rows - np.array([where.offset, where.pivot[0]]) - (0 if moved is None else moved)).T
    found = loop(
        np.nan_to_num(y),
        design=np.nan_to_num(np.c_[x / where.scale[0], np.ones(len(rows))]),
        initial_mean=held["state"].mean[:, 0],
        initial_cov=held["state"].cov[..., 0] * var,
        obs_var=var,
        state_cov=held["drift"].noise[..., 0] * var,
        observed=~np.isnan(rows).any(1),
        dt=dt,
    )
    return found.filtered_mean[-1], found.filtered_cov[-1] / var


def check_state(made: OnlineFilter, expected: tuple[np.ndarray, np.ndarray]) -> None:
    state = made.arguments()["state"]
    size = np.sqrt(np.diagonal(expected[1]))
    assert_allclose(state.mean[:, 0], expected[0], rtol=1e-10, atol=1e-12)
    assert_allclose(state.cov[..., 0], expected[1], rtol=1e-8, atol=1e-10 * size.max() ** 2)


def test_real_minutes_that_come_leg_by_leg_end_as_a_textbook_loop_over_whole_rows():
    """Six pairs by SPY, 60 minutes across a night: polled, in any order, SPY gone from a tenth."""
    table = read_table("intraday_us_1min_2019-02.csv.gz")[[*HEDGED, "SPY"]].iloc[360:420]
    first = table.bfill().iloc[0]
    singles = {name: one_draw(first, name, "SPY") for name in HEDGED}
    board = LiveFilter(board_of(singles), clock=NEW_YORK, max_staleness=0.2 * MINUTE)
    rng, kept = np.random.default_rng(4), []
    for at, row in table.iterrows():
        prices = {name: price for name, price in row.items() if price == price}
        if rng.random() < 0.1:
            prices.pop("SPY")
        legs = rng.permutation(list(prices)).tolist()
        polls = [(name, prices[name] * (1 + 1e-3 * rng.normal())) for name in legs]
        last = [(name, prices[name]) for name in legs[::-1]]
        for number, (name, price) in enumerate(polls + last, 1):
            board.tick({name: price}, at=at - 0.3 * MINUTE * (1 - number / 2 / len(legs)))
        kept.append([prices.get(name, np.nan) for name in table.columns])
    logs = np.log(kept)
    bars = [NEW_YORK.between(*two).bars for two in zip(table.index, table.index[1:], strict=False)]
    assert len(board.history()) == len(table)
    for number, (name, made) in enumerate(singles.items()):
        rows = logs[:, [number, -1]]
        assert np.isnan(rows).any()
        check_state(board.engine.filter(name), textbook(made, rows, np.array([1.0, *bars])))


CASES = {
    # file, target, hedge, first row, rows before, and what shifts
    "special dividend": ("sp500_all_stocks_5yr_close.csv.gz", "IBM", "MSFT", 88, 60, (-5.55, 0.0)),
    "both legs": ("aapl_spy_close_2016_2017.csv", "AAPL", "SPY", 0, 60, (-2.28, -4.1)),
    "roll": ("lean_fxcm_1min_bid_2014-05.csv.gz", "NZDUSD", "EURUSD", 600, 60, (0.004, -0.011)),
}


def cased(case: str, transform: str) -> tuple[np.ndarray, int, tuple[float, ...], Any]:
    """Raw rows, the row of the ex-day, the shifts, and a function that makes the filter."""
    file, y, x, start, ex, shift = CASES[case]
    table = read_table(file)[[y, x]].iloc[start : start + 2 * ex].dropna()
    ex = len(table) // 2
    raw = table.to_numpy() + np.outer(np.arange(len(table)) >= ex, shift)
    made = partial(one_draw, table.iloc[0], y, x, transform)
    return raw, ex, shift, made


def adjusted(raw: np.ndarray, ex: int, shift: Any, transform: str) -> tuple[np.ndarray, Any]:
    """Logs or levels of the file adjusted beforehand, and by how much its early rows moved."""
    close = raw[ex - 1]
    early = (np.arange(len(raw)) < ex)[:, None]
    if transform == "level":
        return raw + early * shift, np.array(shift)
    moved = np.log((close + shift) / close)
    return np.log(raw) + early * moved, moved


@pytest.mark.parametrize("late", [False, True], ids=["before", "late"])
@pytest.mark.parametrize("transform", ["log", "level"])
@pytest.mark.parametrize("case", CASES)
def test_a_shift_of_real_prices_ends_as_a_textbook_loop_over_the_adjusted_file(
    case: str, transform: str, late: bool
):
    """One that is told `late` comes with its time after the first price of the ex-day, and the filter
    remembers no rows of before."""
    raw, ex, shift, made = cased(case, transform)
    names = made().tickers
    live = LiveFilter(made(), clock=Clock("1min"), keep=0)
    for number, row in enumerate(raw.tolist()):
        at = START + number * MINUTE
        told = number == ex
        if told and not late:
            live.adjust(dict(zip(names, shift, strict=True)), at=at)
        live.tick(dict(zip(names, row, strict=True)), at=at)
        if told and late:
            live.adjust(dict(zip(names, shift, strict=True)), at=at)
    rows, moved = adjusted(raw, ex, shift, transform)
    check_state(live.engine, textbook(made(), rows, np.ones(len(raw)), moved))


@pytest.mark.parametrize("transform", ["log", "level"])
@pytest.mark.parametrize("case", CASES)
def test_the_account_of_an_ex_day_is_that_of_the_shares_and_the_cash(case: str, transform: str):
    """Against a sum over the shares held: their moves in raw prices, and the dividend in cash."""
    raw, ex, shift, made = cased(case, transform)
    target, hedge = names = made().tickers
    live = LiveFilter(made(), clock=Clock("1min"))
    book = HedgeBook(target=target, hedges=[hedge], transform=transform, position=10_000)
    account, shifts = Attribution(book), dict(zip(names, shift, strict=True))
    earned, held = 0.0, np.zeros(2)
    for number, row in enumerate(raw):
        prices = dict(zip(names, row.tolist(), strict=True))
        if number == ex:
            live.adjust(shifts, at=START + number * MINUTE)
            book.adjust(shifts)
            cash = -float(held @ shift)
            assert account.adjust(shifts) == pytest.approx(cash, rel=1e-12)
            assert (book.position, book.held[hedge]) == tuple(held)
            earned += cash
        said = live.tick(prices, at=START + number * MINUTE).tick
        earned += float(held @ (row - raw[number - 1])) if number else 0.0
        account.add(said, prices, orders=book.act(said, prices))
        held = np.array([10_000.0, book.held[hedge]])
    total = account.table().loc["total"]
    assert total["pnl"] == pytest.approx(earned - book.costs, rel=1e-9)
    assert sum(total[name] for name in COLUMNS) == pytest.approx(total["pnl"], rel=1e-9)


KILLED = """
import os, signal, sys
from kfmodels.live.feed import LiveFilter
from tests.made_filters import leg_by_leg, made_board
for line in sys.stdin:
    child = os.fork()
    if not child:
        board = made_board((("XLE", "SPY"), ("XLE", "USO")))
        live = LiveFilter(board, journal=sys.argv[1])  # the rest is in the journal
        for prices, at in leg_by_leg(40)[live.seq : int(line)]:
            live.tick(prices, at=at)
        os.kill(os.getpid(), signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def clocked(**options: Any) -> LiveFilter:
    pairs = ("XLE", "SPY"), ("XLE", "USO")
    made = made_board(pairs, discounted=True, shocks=Quarantine(), share=0.01)
    return LiveFilter(made, clock=NEW_YORK, max_staleness=MINUTE, **options)


def test_a_process_killed_within_a_bar_goes_on_as_one_that_lived(tmp_path: Path):
    """Killed after the first leg of a bar, after the second, and after the last of another."""
    path, whole, rows = tmp_path / "journal", clocked(), leg_by_leg(40)
    clocked(journal=path).close()
    process = python("-c", KILLED, path)
    assert process.stdin is not None
    assert process.stdout is not None
    begun = 0
    for cut in (22, 53, 78, 100):
        process.stdin.write(f"{cut}\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{-signal.SIGKILL}\n"
        for prices, at in rows[begun:cut]:
            whole.tick(prices, at=at)
        with clocked(journal=path) as again:
            assert again.seq == cut
            assert json.dumps(again.to_json()) == json.dumps(whole.to_json())
            assert again.engine.to_json() == whole.engine.to_json()  # the open bar too
        begun = cut
    process.communicate()
    with clocked(journal=path) as again:
        for prices, at in rows[begun:]:
            one, other = again.tick(prices, at=at), whole.tick(prices, at=at)
            assert repr(one.record()) == repr(other.record())
        assert json.dumps(again.to_json()) == json.dumps(whole.to_json())


FILES = {
    "us_5min_2025-05_2026-03_etf.csv.gz": [
        ("XLK", "QQQ"),
        ("XLF", "SPY"),
        ("TNA", "SPY"),
        ("XLU", "XLP"),
    ],
    "us_1min_2026-01-22_2026-03-06.csv.gz": [
        ("QQQ", "SPY"),
        ("SOXL", "SMH"),
        ("XLK", "SPY"),
        ("NVDA", "SMH"),
    ],
    "crypto_5min_2025.csv.gz": [("ETH", "BTC"), ("SOL", "BTC"), ("BNB", "BTC"), ("XRP", "BTC")],
}
"""Files and pairs; of each pair the first 700 rows are fitted and the next 1300 are live."""


@cache
def fitted(file: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """A board of the pairs, as a document, and the live rows."""
    table = read_table(file)
    pairs = HedgeData.pairs(table.iloc[:700], FILES[file], transform="log")
    board = fit_many(pairs, hedge_ratio_model(noise=Discounted()), progress=False).go_live()
    return board.engine.to_json(), table.iloc[700:2000][list(board.engine.tickers)]


def rung(live: LiveFilter, rows: pd.DataFrame, *kinds: str) -> list[tuple[int, str, str]]:
    """Row, pair and leg of the alarms of some kinds."""
    found = []
    for number, (at, row) in enumerate(rows.iterrows()):
        alarms = live.tick(row.to_dict(), at=at).alarms
        found += [(number, name, alarm.leg) for name, alarm in alarms if alarm.kind in kinds]
    return found


@pytest.mark.nightly
@pytest.mark.parametrize("file", FILES)
def test_a_leg_that_is_one_bar_late_rings_in_every_pair_and_good_rows_in_none(file: str):
    """Pairs that move together; one of a correlation near the least, 0.3, takes longer or forever."""
    document, rows = fitted(file)
    hedges = sorted({hedge for _, hedge in FILES[file]})
    targets = sorted({target for target, _ in FILES[file]} - {*hedges})

    def run(table: pd.DataFrame) -> dict[str, int]:
        live = LiveFilter(OnlineBoard.from_json(document))
        return {name: number for number, name, _ in rung(live, table, "lead or lag")[::-1]}

    assert run(rows) == {}
    for legs, least in ((hedges, 200), (targets, 500)):
        found = run(rows.assign(**{leg: rows[leg].shift(1) for leg in legs}))
        assert len(found) == 4
        assert max(found.values()) < least


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("file", FILES)
def test_a_leg_that_died_is_told_within_ten_rows_and_live_ones_are_not_called_dead(file: str):
    """One that repeats its price, and one that comes no more, at six rows each."""
    document, rows = fitted(file)
    live = LiveFilter(OnlineBoard.from_json(document))
    starts = np.random.default_rng(2).choice(np.arange(60, 1200), 6, replace=False).tolist()
    for first, start in pairwise([0, *sorted(starts)]):
        assert rung(live, rows.iloc[first:start], "missing leg", "stopped leg") == []
        stood = live.to_json()
        for leg in FILES[file][first % 4]:
            before = rows[leg].iloc[start - 1]
            for value, kind in ((before, "stopped leg"), (np.nan, "missing leg")):
                dead = LiveFilter(OnlineBoard.from_json(document))
                dead._restore(json.loads(json.dumps(stood)))
                found = rung(dead, rows.iloc[start : start + 40].assign(**{leg: value}), kind)
                assert [alarm[2] for alarm in found[:1]] == [leg]
                assert found[0][0] < 10
