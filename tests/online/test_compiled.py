"""The compiled road of a tick: it says what the other says, and goes on where the other stood."""

import importlib.util
import json
import logging
from typing import Any

import numpy as np
import pytest

from kfmodels import LiveFilter, OnlineBoard, OnlineFilter, Quarantine, Robust
from kfmodels.kalman.density import gamma_ratio
from kfmodels.online import blocks, compiled, kernel
from kfmodels.online.compiled import find_kernels
from kfmodels.online.filter import PairTick
from tests.made_filters import made_board, made_filter, made_prices
from tests.processes import python

pytestmark = pytest.mark.skipif(find_kernels() is None, reason="numba is not installed")

KINDS: dict[str, dict[str, Any]] = {
    "walk, constant": {},
    "walk, discounted": {"discounted": True},
    "discount, constant": {"walks": False},
    "discount, discounted": {"walks": False, "discounted": True},
    "no level": {"intercept": False, "transform": "return"},
    "one draw": {"draws": 1, "discounted": True},
    "two hedges, share": {"hedges": ("SPY", "QQQ"), "share": 0.01},
    "robust": {"shocks": Robust(), "discounted": True},
}


def rows_of_a_feed(hedges: tuple[str, ...]) -> np.ndarray:
    """Prices with all that leaves the ordinary: gaps, repeats, a jump, a bad print, a split."""
    rows = made_prices(200, hedges)
    rows[20, 0] = rows[31, 1] = np.nan
    rows[40:42] = rows[39]
    rows[50:53, 1] = rows[49, 1]
    rows[60, 0] *= 1.05
    rows[80:, 0] *= 1.06
    rows[120, 1] *= 0.7
    rows[150:, 0] /= 2
    return rows


def passed(number: int) -> dict[str, Any]:
    """Time since the row before; on every eleventh row some of it was a closed period."""
    closed = {"gaps": {"weekend": 1.0}} if number % 11 == 10 else {}
    return {"at": number, "dt": (1.0, 2.5, 0.5)[number % 3], **closed}


def take_rows(live: OnlineFilter, rows: np.ndarray, first: int = 0) -> list[Any]:
    """The ticks; after row 150 the split is told."""
    ticks = []
    for number, (y, *x) in enumerate(rows.tolist(), first):
        if number == 152:
            live.rescale(target=0.5)
        ticks.append(live.update(y=y, x=x if len(x) > 1 else x[0], **passed(number)))
    return ticks


def on_numpy(monkeypatch: pytest.MonkeyPatch, made: Any) -> Any:
    """What is made on the other road."""
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "find_kernels", lambda: None)
        return made()


def assert_same(found: list[Any], expected: list[Any]) -> None:
    """To 1e-12 of the size of each column; ratios and level of the terms that they are left of."""
    assert [tick.sentence for tick in found] == [tick.sentence for tick in expected]
    assert [tick.at for tick in found] == [tick.at for tick in expected]
    a, b = ([flat(tick.record()) for tick in ticks] for ticks in (found, expected))
    assert [row.keys() for row in a] == [row.keys() for row in b]
    for name in b[0]:
        ours, theirs = (np.array([row[name] for row in table]) for table in (a, b))
        np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs), name)
        ours, theirs = ours[np.isfinite(theirs)], theirs[np.isfinite(theirs)]
        least = 10.0 if "alpha" in name else name == "moved"
        size = max(np.abs(theirs).max(initial=0), least) or 1
        np.testing.assert_allclose(ours / size, theirs / size, rtol=0, atol=1e-12, err_msg=name)


def flat(record: dict[str, Any]) -> dict[str, float]:
    found = {name: value for name, value in record.items() if isinstance(value, float)}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= {f"{name} {key}": number for key, number in value.items()}
    return found


@pytest.mark.parametrize("shocks", [None, Quarantine()], ids=["exact", "quarantine"])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_both_roads_say_the_same(options, shocks, monkeypatch):
    options = {"shocks": shocks, "at": None, "gaps": ("weekend",)} | options
    rows = rows_of_a_feed(options.get("hedges", ("SPY",)))
    quick = take_rows(made_filter(**options), rows)
    plain = take_rows(on_numpy(monkeypatch, lambda: made_filter(**options)), rows)
    assert_same(quick, plain)
    ordinary = sum(type(tick) is PairTick for tick in quick)
    assert ordinary == 0 if isinstance(options["shocks"], Robust) else ordinary > 100
    assert not any(type(tick) is PairTick for tick in plain)


@pytest.mark.parametrize("row", [50, 81, 130])
def test_a_saved_filter_goes_on_on_the_other_road(row, monkeypatch):
    """To 1e-12, and on its own road to the last bit."""
    rows, options = (
        rows_of_a_feed(("SPY",)),
        {"discounted": True, "shocks": Quarantine(), "at": None},
    )
    live = made_filter(**options)
    take_rows(live, rows[:row])
    document = json.loads(json.dumps(live.to_json()))
    expected = take_rows(live, rows[row:], row)
    same = OnlineFilter.from_json(document)
    assert take_rows(same, rows[row:], row) == expected
    assert same.to_json() == live.to_json()
    other = on_numpy(monkeypatch, lambda: OnlineFilter.from_json(document))
    assert_same(take_rows(other, rows[row:], row), expected)


def test_a_journal_is_replayed_on_the_other_road(tmp_path, monkeypatch):
    def opened() -> LiveFilter:
        path = tmp_path / "XLE.journal"
        return LiveFilter(made_filter(shocks=Quarantine(), at=None), journal=path)

    with opened() as live:
        for number, (y, x) in enumerate(rows_of_a_feed(("SPY",)).tolist()):
            live.tick({"XLE": y, "SPY": x}, at=number)
        expected, document = live.engine.standing(), live.to_json()
    with opened() as same:
        assert same.to_json() == document
    with on_numpy(monkeypatch, opened) as other:
        assert_same([other.engine.standing()], [expected])


@pytest.mark.parametrize("discounted", [False, True])
def test_both_roads_say_the_same_of_a_board(discounted, monkeypatch):
    """One pair that is out of the ordinary takes the other road, and no neighbour notices."""
    monkeypatch.setattr(blocks, "_COMPILED", 4 * 8)
    pairs = tuple((f"T{number}", "SPY") for number in range(10))

    def made() -> OnlineBoard:
        return made_board(pairs, discounted=discounted, shocks=Quarantine(), at=None)

    quick, plain, rows = made(), on_numpy(monkeypatch, made), rows_of_a_feed(("SPY",))
    for number, (y, x) in enumerate(rows.tolist()):
        calm = rows[0, 0] * (1 + 0.001 * np.sin(number))
        prices = dict.fromkeys(quick.targets, calm) | {"T2": y, "SPY": x}
        one, other = (board.update(prices, at=number) for board in (quick, plain))
        assert_same(
            [one.of(name) for name in quick.names], [other.of(name) for name in quick.names]
        )
        np.testing.assert_allclose(quick.weights, plain.weights, atol=1e-12)
    assert len(quick._blocks.compiled) == 3
    assert not plain._blocks.compiled


def test_a_tick_keeps_what_it_said():
    """Its numbers are read when they are asked for, and later rows leave them alone."""
    rows, live = made_prices(30).tolist(), made_filter(at=None)
    ticks = [live.update(y=y, x=x) for y, x in rows]
    live.rescale(target=3.0)
    again = made_filter(at=None)
    assert [tick.record() for tick in ticks] == [again.update(y=y, x=x).record() for y, x in rows]


@pytest.mark.parametrize("way", [float, np.float64, lambda x: [x], lambda x: {"SPY": x}])
def test_hedge_prices_come_in_any_form(way):
    one, other = (made_filter(at=None) for _ in range(2))
    for y, x in made_prices(5).tolist():
        assert one.update(y=y, x=way(x)) == other.update(y=y, x=x)


def test_the_elementary_functions_are_right_to_the_last_places():
    x = np.random.default_rng(1).uniform(-650, 700, 4000)
    found, logs, dof = np.empty(4000), np.exp(x), np.geomspace(3, 1e6, 4000)
    kernel.exponentiate(x, found)
    np.testing.assert_allclose(found, logs, rtol=5e-16)
    low = np.array([-651.0, -1e5, -np.inf])
    kernel.exponentiate(low, low)
    assert low.tolist() == [0.0, 0.0, 0.0]
    expected = np.log(logs)
    kernel.take_logs(logs)
    np.testing.assert_allclose(logs, expected, rtol=5e-16)
    zero, one = np.zeros(4000), np.ones(4000)
    joint = zero.copy()
    kernel.density_of_student(one, dof, zero, joint)
    above, below = gamma_ratio(0.5 * dof)
    expected = 0.5 * np.log(above / (below * dof * np.pi))
    np.testing.assert_allclose(joint, expected, rtol=1e-14)


def test_without_numba_there_is_no_such_road(monkeypatch):
    def absent(name: str) -> None:
        raise ImportError(f"{name} is not here")

    find_kernels.cache_clear()
    with monkeypatch.context() as patch:
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        assert find_kernels() is None
    find_kernels.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "find_spec", absent)
        assert find_kernels() is None
    find_kernels.cache_clear()
    assert importlib.util.find_spec("numba") is not None
    assert find_kernels() is not None


@pytest.mark.slow
def test_it_says_when_it_compiles(caplog, tmp_path, monkeypatch):
    numba = pytest.importorskip("numba")
    compile_one = compiled._compile

    def compile_the_least(njit: Any, signature: Any, function: Any, options: Any) -> Any:
        # it stands for all five, which take half a minute
        least = function is kernel.exponentiate
        return compile_one(njit, signature, function, options) if least else function

    monkeypatch.setattr(compiled, "_compile", compile_the_least)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    find_kernels.cache_clear()
    with caplog.at_level(logging.INFO, "kfmodels"):
        assert find_kernels() is not None
        assert [record.message for record in caplog.records] == [compiled.COMPILING]
        assert list(tmp_path.rglob("*.nbi"))
        find_kernels.cache_clear()
        assert find_kernels() is not None
    find_kernels.cache_clear()
    assert len(caplog.records) == 1


ROWS_OF_BOTH = """
from tests.made_filters import feed, made_filter
for discounted in (False, True):
    live = made_filter(discounted=discounted)
    for prices, at in feed(300):
        tick = live.update(y=prices["XLE"], x=[prices["SPY"]], at=at)
    print(tick.z.hex(), tick.beta["SPY"].hex())
"""


@pytest.mark.slow
def test_who_compiles_it_says_to_the_last_bit_what_the_next_process_says(tmp_path):
    pytest.importorskip("numba")
    said = []
    for _ in range(2):
        out, error = python("-c", ROWS_OF_BOTH, NUMBA_CACHE_DIR=str(tmp_path)).communicate()
        assert not error, error
        said.append(out)
    assert said[0] == said[1] != ""
    assert list(tmp_path.rglob("*.nbi"))
