"""`OnlineBoard`: many filters in one tick say what each would say alone."""

import json
import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal, assert_equal

from kfmodels import OnlineFilter
from kfmodels.data import datasets
from kfmodels.online import blocks
from kfmodels.online.board import OnlineBoard
from kfmodels.online.shocks import NONE, Quarantine, Robust
from kfmodels.online.ticks import BoardTick
from tests.made_filters import board_of, made_filter, one_draw

pytestmark = pytest.mark.usefixtures("road")

TICKS, DRAWS = 50, 16
JUMPED, RESCALED = 24, 15
SINGLE = (("KO", ("PEP",)), ("PEP", ("SPX",)), ("KO", ("SPX",)), ("SPX", ("KO",)))
DOUBLE = (("KO", ("PEP", "SPX")), ("PEP", ("SPX", "KO")), ("SPX", ("KO", "PEP")))
KINDS: dict[str, dict[str, Any]] = {
    "random walk, constant": {},
    "random walk, discounted": {"discounted": True},
    "state discount, constant": {"walks": False},
    "state discount, discounted": {"walks": False, "discounted": True},
    "no intercept": {"walks": False, "intercept": False},
    "no intercept, discounted": {"discounted": True, "intercept": False},
    "two hedges": {"discounted": True},
}
GAPS = ("overnight", "weekend")


@cache
def prices() -> pd.DataFrame:
    """Real prices; each ticker is missing now and then, and all are once."""
    table = datasets.stocks()[["KO", "PEP", "SPX"]].loc["2016":].iloc[: TICKS + 1].copy()
    table.iloc[[3, 4, 30], 0] = table.iloc[[4, 11], 1] = table.iloc[[1, 49], 2] = np.nan
    table.iloc[20] = np.nan
    return table


def later(jump: float = 1.0, factors: dict[str, float] | None = None) -> pd.DataFrame:
    """The rows after the first, KO elsewhere or some quoted otherwise from one of them on."""
    table = prices().iloc[1:].copy()
    table.iloc[JUMPED:, 0] *= jump
    for name, factor in (factors or {}).items():
        table.iloc[RESCALED:, table.columns.get_loc(name)] *= factor
    return table


def filters(kind: str, transform: str = "log", **options: Any) -> dict[str, OnlineFilter]:
    """One filter a pair that has seen the first row, each with draws of its own."""
    first = prices().iloc[0]
    at = {"at": str(first.name), "until": str(first.name)}
    common: dict[str, Any] = {"near": first, "transform": transform, "draws": DRAWS}
    return {
        "/".join([target, *hedges]): made_filter(
            target=target, hedges=hedges, seed=seed, **common | at | KINDS[kind] | options
        )
        for seed, (target, hedges) in enumerate(DOUBLE if kind == "two hedges" else SINGLE)
    }


def assert_same_ticks(one: BoardTick, other: BoardTick) -> None:
    """To the last bit."""
    assert_equal(one.record(), other.record())


def standing(board: OnlineBoard) -> dict[str, Any]:
    """All that the next tick depends on."""
    return board.to_json()


CASES = [(kind, "log") for kind in KINDS] + [
    (kind, transform)
    for kind in ("random walk, discounted", "state discount, constant")
    for transform in ("level", "return")
]


SHOCKS = [  # a policy, and what it says of some rows
    (None, ["skipped"]),
    (Quarantine(2.5, 2), ["quarantined", "confirmed", "skipped"]),
    (Robust(1.5), ["learnt from with the weight", "skipped"]),
]


@pytest.mark.parametrize(("shocks", "words"), SHOCKS, ids=["none", "quarantine", "robust"])
@pytest.mark.parametrize(("kind", "transform"), CASES)
def test_a_board_is_a_loop_over_filters(kind, transform, shocks, words):
    singles = filters(kind, transform, gaps=GAPS, share=0.01, shocks=shocks)
    said = check_against_filters(singles, later(jump=1.25), gaps=True)
    assert all(any(word in outcome for outcome in said) for word in ["accepted", *words])


@pytest.mark.parametrize(("kind", "transform"), CASES)
def test_so_it_is_through_a_split(kind, transform):
    singles = filters(kind, transform, shocks=Quarantine())
    factors = {"KO": 0.5, "SPX": 3.7}
    if "intercept" in KINDS[kind] and transform == "log":
        with pytest.raises(ValueError, match="holds for one unit of price only"):
            board_of(singles).rescale(factors)
        return
    check_against_filters(singles, later(factors=factors), rescaled=factors)


def check_against_filters(
    singles: dict[str, OnlineFilter],
    rows: pd.DataFrame | None = None,
    *,
    gaps: bool = False,
    rescaled: dict[str, float] | None = None,
) -> set[str]:
    """Fifty ticks of all together and of each alone; what was said of them."""
    board = board_of(singles)
    assert (len(board), board.draws) == (len(singles), next(iter(singles.values())).draws)
    ticks: dict[str, list[tuple[dict, dict]]] = {name: [] for name in singles}
    for number, (at, row) in enumerate((later() if rows is None else rows).iterrows()):
        if number == RESCALED and rescaled is not None:
            board.rescale(rescaled)
            for one in singles.values():
                there = {name: rescaled[name] for name in one.hedges if name in rescaled}
                one.rescale(target=rescaled.get(one.target, 1.0), hedges=there)
        passed: dict[str, Any] = {"at": at, "dt": 1.0 if number % 7 else 2.5}
        if gaps and number % 5 == 0:
            passed["gaps"] = {"overnight": 1, "weekend": number % 2, "unknown": 3}
        tick = board.update(row, **passed)
        assert tick.at == at
        for name, one in singles.items():
            alone = one.update(y=row[one.target], x=row, **passed)
            ticks[name].append((tick.of(name).record(), alone.record()))
    outcomes: set[str] = set()
    for name, one in singles.items():
        mine, its = (pd.json_normalize(list(part)) for part in zip(*ticks[name], strict=True))
        pd.testing.assert_frame_equal(mine, its, rtol=1e-10, atol=1e-10)
        outcomes |= {*its["outcome"], *its["reason"]}
        mine, its = board.filter(name).arguments(), one.arguments()
        for field in ("at", "until", "hold", "shocks", "share", "gap_names", "last_prices"):
            assert_equal(mine[field], its[field])
        assert board.holds.get(name, NONE) == its["hold"]
    return outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_taken_from_the_board_is_the_one_put_in_and_leaves_the_board(kind, tmp_path):
    singles = filters(kind)
    board = board_of(singles)
    before, row = standing(board), later().iloc[0]
    for name, one in singles.items():
        taken = board.filter(name)
        mine, its = taken.arguments(), one.arguments()
        for part in ("target", "hedges", "state", "carried", "noise"):
            assert_equal(mine[part], its[part])
        taken.save(tmp_path / "one.json")
        now = {"y": row[one.target], "x": row, "at": row.name}
        expected = one.update(**now).record()
        for again in (OnlineFilter.load(tmp_path / "one.json"), taken):
            assert_equal(again.update(**now).record(), expected)
    assert standing(board) == before


@pytest.mark.parametrize("shocks", [None, Quarantine(2.5, 2), Robust(1.5)], ids=type)
@pytest.mark.parametrize("kind", KINDS)
def test_a_board_that_is_saved_goes_on_to_the_last_bit(kind, shocks, tmp_path):
    transform = "return" if kind == "random walk, discounted" else "level"
    board = board_of(filters(kind, transform, gaps=GAPS, share=0.02, shocks=shocks))
    board.last_prices[2] = np.nan
    rows = [*later(jump=1.25).iterrows()]
    for at, row in rows[: JUMPED + 1]:  # one row into the quarantine
        board.update(row, at=at, gaps={"overnight": 1})
    board.rescale({"KO": 1.1, "PEP": 1 / 3})
    board.save(tmp_path / "board.json")
    again = OnlineBoard.load(tmp_path / "board.json")
    assert again.names == board.names
    assert json.dumps(again.to_json()) == json.dumps(board.to_json())
    for number, (at, row) in enumerate(rows[JUMPED + 1 :]):
        passed: dict[str, Any] = {"at": at, "dt": 1.0 + number % 2, "gaps": {"weekend": number % 3}}
        assert_same_ticks(again.update(row, **passed), board.update(row, **passed))
    assert again.to_json() == board.to_json()


@pytest.mark.parametrize("size", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_blocks_do_not_show(kind, size, monkeypatch):
    """Small blocks, of which the last may be of one pair, say what one of all says, to the last bit."""
    singles = filters(kind, "level", gaps=GAPS, share=0.01, shocks=Quarantine(2.5, 2))
    whole = board_of(singles)
    for name in ("_BLOCK", "_COMPILED"):
        monkeypatch.setattr(blocks, name, size * DRAWS)
    parts = board_of(singles)
    for at, row in later(jump=1.25).iterrows():
        passed = {"at": at, "gaps": {"weekend": int(at.day_of_week == 0)}}
        assert_same_ticks(parts.update(row, **passed), whole.update(row, **passed))
    assert parts.to_json() == whole.to_json()


def test_one_draw_a_pair_is_a_single_filter():
    whole = filters("random walk, discounted", share=0.1)
    check_against_filters({name: one_draw(one, 0) for name, one in whole.items()})


def test_a_record_is_plain():
    board = board_of(filters("random walk, constant"))
    record = board.update(later().iloc[0]).record()
    assert json.loads(json.dumps(record, default=str))["outcome"] == record["outcome"]
    table = pd.DataFrame(record).set_index("pair")
    assert list(table.index) == list(board.names)
    assert table.loc["KO/PEP", "dof"] == math.inf


@pytest.mark.parametrize(
    ("row", "less"),
    [
        ({"KO": 40.0, "PEP": math.nan, "SPX": 2000.0}, {"KO": 40.0, "SPX": 2000.0}),
        (dict.fromkeys(("KO", "PEP", "SPX"), math.nan), {}),
        (pd.Series({"KO": -2.0, "PEP": 0.0, "more": 7.0}), {"KO": -2.0, "PEP": 0.0}),
    ],
    ids=["one is missing", "all are", "one is of no pair"],
)
def test_a_ticker_may_be_nan_or_not_there_and_a_level_negative(row, less):
    one, other = (board_of(filters("random walk, constant", "level")) for _ in range(2))
    assert_same_ticks(one.update(row), other.update(less))
    assert standing(one) == standing(other)


def test_a_return_needs_a_complete_row_before():
    singles = filters("random walk, discounted", "return")
    held = board_of(singles)
    held.last_prices[1] = np.nan
    assert held.filter("PEP/SPX").last_prices is None
    rows = later().ffill().bfill()
    assert_array_equal(held.update(rows.iloc[0]).observed, [True, False, True, True])
    assert held.update(rows.iloc[1]).observed.all()


def test_one_dead_ticker_never_stops_the_board():
    """A discounted state that is not seen grows by a factor a bar: it must not reach infinity."""
    board = board_of(filters("no intercept"))
    row = later().ffill().bfill().iloc[0]
    alive = {"PEP": row["PEP"], "SPX": row["SPX"]}
    for number in range(200):
        moved = {name: price * (1 + 1e-4 * (number % 3)) for name, price in alive.items()}
        tick = board.update(moved, dt=10.0)
    assert_array_equal(tick.observed, [False, True, False, False])
    assert np.isfinite(tick.beta).all()
    assert np.isfinite(tick.sd_total).all()
    assert board.update(row).observed.all()


# -- errors ----------------------------------------------------------------------------------------


def tick(prices: Any, **more: Any) -> Any:
    return lambda board: board.update(prices, **more)


def rescale(**factors: Any) -> Any:
    return lambda board: board.rescale(factors)


ONE = {"KO": 40.0}
BAD: list[tuple[Any, str]] = [
    (tick({"KO": 0.0, "PEP": 1.0}), "KO has the price 0, which a log transform"),
    (tick({"KO": -3.0}), "KO has the price -3"),
    (tick({"SPX": math.inf}), "SPX has the price inf"),
    (tick({"SPX": "a lot"}), "SPX has the price 'a lot', which is no number"),
    (tick({"ko": 3.0}), "no price of any of the 3 tickers"),
    (tick(pd.Series([3.0, 4.0], ["KO", "KO"])), "name a ticker twice"),
    (tick([3.0, 4.0]), "go by ticker"),
    (tick(ONE, dt=-1.0), "dt is the number of bars"),
    (tick(ONE, dt=math.nan), "dt is the number of bars"),
    (tick(ONE, at="2001-01-01"), "is not later than the last one"),
    (tick(ONE, at=7), "is a number, the one before"),
    (tick(ONE, at="2030-01-01T00:00+00:00"), "is a time with a time zone"),
    (rescale(XOM=2.0), "XOM is not among the tickers KO, PEP, SPX"),
    (rescale(PEP=2.0, KO=0.0), "the factor of KO is its new price over its old one"),
    (lambda board: board.filter("KO/XOM"), "KO/XOM is not among the 4 pairs"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_an_error_changes_nothing(call, message):
    board = board_of(filters("random walk, discounted"))
    before = standing(board)
    with pytest.raises(ValueError, match=message):
        call(board)
    assert standing(board) == before


def test_other_files_are_refused(tmp_path):
    singles, path = filters("random walk, constant"), tmp_path / "other.json"
    board, one = board_of(singles), singles["KO/PEP"]
    for kind, other, name in ((OnlineBoard, one, "board"), (OnlineFilter, board, "online filter")):
        other.save(path)
        with pytest.raises(ValueError, match=f"other.json is not a saved {name}"):
            kind.load(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": ["a", "a", "b", "c"]}, "each named once"),
        ({"transform": "root"}, "transform must be"),
        ({"share": 1.0}, "share is a share of the weights a bar"),
        ({"initial_log_weights": np.zeros((4, 1))}, "initial_log_weights has shape"),
        (
            {"gap_names": ["night"], "gap_bars": np.ones((1, 4)), "gap_noise": np.ones((1, 4))},
            "gap",
        ),
        ({"targets": ["KO"]}, "there are 1 targets, but the hedges of 4"),
        ({"holds": {"KO/XOM": NONE}}, "KO/XOM is not among the 4 pairs"),
        ({"pivot": np.zeros((3, 1))}, r"pivot has shape \(3, 1\), but it must be \(4, 1\)"),
        ({"log_weights": np.full((4, 2), np.log(0.5))}, "pair and draw"),
        ({"log_weights": np.zeros((4, 16))}, "PEP.* more: .*weights that do not sum to one"),
        ({"scale": np.array([[1.0], [np.nan], [1.0], [1.0]])}, "PEP/SPX: the state holds numbers"),
    ],
)
def test_what_cannot_be_a_board_is_refused(changed, message):
    changed = dict(changed)
    board = board_of(filters("random walk, constant"))
    arguments = board.arguments() | {"at": None}
    assert OnlineBoard(**arguments).at is None
    where = {name: changed.pop(name) for name in ("pivot", "scale") if name in changed}
    changed["coordinates"] = board.coordinates._replace(**where)
    with pytest.raises(ValueError, match=message):
        OnlineBoard(**(arguments | changed))
