"""The benchmark of the open: its ratios and its judgement by plain loops, its filter against live."""

import argparse
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from kfmodels import OnlineFilter, follow
from tests.benchmarks import opening
from tests.benchmarks.open_days import (
    SETS,
    Days,
    compare,
    exponential,
    least_squares,
    run_live,
)
from tests.online.test_sessions import OPTIONS, data_of, fitted, frame
from tests.tables import MissingTableError

BURN, DAYS = 3, 8


def prices(seed: int = 0) -> pd.DataFrame:
    """Ten-minute bars with their opening print."""
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2024-03-04", periods=DAYS)
    index = pd.DatetimeIndex(
        [d + pd.Timedelta(minutes=570 + 10 * n) for d in days for n in range(40)]
    )
    x = np.cumsum(rng.normal(0, 0.004, (len(index), 2)), 0)
    y = np.array([1.3, 0.6]) * x + np.cumsum(rng.normal(0, 0.003, x.shape), 0)
    names = ["Y", "W", "X", "SPY"]
    table = pd.DataFrame(np.exp(np.column_stack([y, x])), index, names)
    table.iloc[55, 0] = np.nan
    return table


def laid(**how: Any) -> Days:
    return Days.of(prices(), ["Y/X", "W/SPY"], minutes=10, burn=BURN, **how)


def moves(row: int, window: str) -> list[tuple[int, int]]:
    """From which row of a day to which the moves of a window go."""
    if window == "open30":
        return [(1, 2), (2, 3)]
    if window == "hold30":
        return [(1, 3)]
    return [(n, n + 1) for n in range(3, 39)]


@pytest.mark.parametrize("window", ["open30", "hold30", "rest"])
def test_what_is_removed_is_that_of_a_plain_loop(window: str):
    days = laid()
    ratio = least_squares(days, 2)
    base = 0 * ratio + 0.9
    share = compare(days, {"base": base, "ols": ratio}, "base")
    table = np.log(prices())
    leads = []
    for number, (target, hedge) in enumerate((("Y", "X"), ("W", "SPY"))):
        left = {"base": 0.0, "ols": 0.0, "none": 0.0}
        for day in range(BURN, DAYS):
            rows = table.iloc[40 * day : 40 * day + 40]
            for start, end in moves(day, window):
                y, x = (rows[name].iloc[end] - rows[name].iloc[start] for name in (target, hedge))
                held = {"base": 0.9, "none": 0.0, "ols": ratio[day, start, number]}
                for name, one in held.items():
                    left[name] += (y - one * x) ** 2
        leads.append(100 * (left["base"] - left["ols"]) / left["none"])
    assert share.loc["ols", window] == pytest.approx(np.mean(leads), rel=1e-10)
    assert share.loc["ols", f"{window} se"] > 0


def test_the_ratios_of_others_know_the_rows_before_alone():
    days, table = laid(), np.log(prices())
    day = 4
    y, x = (table[name].to_numpy().reshape(DAYS, 40) for name in ("W", "SPY"))
    dy, dx = np.diff(y)[2:4, 1:], np.diff(x)[2:4, 1:]
    assert_allclose(least_squares(days, 2)[day, :, 1], (dy * dx).sum() / (dx * dx).sum())
    every = np.diff(y).ravel(), np.diff(x).ravel()
    count = day * 39 + 7
    weights = 0.5 ** (np.arange(count)[::-1] / (5 * 39))
    past = [leg[:count] * weights**0.5 for leg in every]
    assert_allclose(exponential(days, 5)[day, 7, 1], past[0] @ past[1] / (past[1] @ past[1]))


def test_a_jump_moves_the_ratio_of_its_day_alone():
    jumps = np.zeros((DAYS, 2))
    jumps[5, 1] = 0.4
    plain, moved = laid(), laid(jumps=jumps)
    away = np.diff(moved.y, axis=1) - np.diff(plain.y, axis=1)
    assert_allclose(away[5, :, 1], 0.4 * np.diff(plain.x, axis=1)[5, :, 1], atol=1e-12)
    away[5, :, 1] = 0
    assert_allclose(np.nan_to_num(away), 0, atol=1e-12)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["plain", "all"])
def test_the_pass_of_all_draws_is_the_live_filter(name: str):
    data = data_of(frame())
    start = fitted(data.before(data.index[57]), **OPTIONS[name])
    found = run_live(start, data, 0.01).iloc[57:]
    live = OnlineFilter(**start.online().arguments() | {"share": 0.01})
    ticks = follow(live, frame().loc[data.index[57] :])
    seen = data.observed[57:]
    assert_allclose(found["ratio"], ticks["beta X"], rtol=1e-9)
    assert_allclose(found["z"][seen], ticks["z"][seen], rtol=1e-9)
    assert_allclose(found["score"][seen], ticks["log_score"][seen], rtol=1e-9)


def test_a_set_that_is_not_here_is_left_out_and_said_to_be(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str, options: argparse.Namespace) -> Any:
        raise MissingTableError("there is no such table")

    monkeypatch.setitem(opening._OF_PART, "days", missing)
    report = opening.measure(["--parts", "days"])
    assert [remark[:19] for remark in report.remarks] == [f"days {n}: left out, t" for n in SETS]
    assert not report.tables
