"""`OnlineBoard`: many filters in one tick say what each would say alone."""

import json
import math
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal, assert_equal

from kfmodels import HedgeData, OnlineFilter
from kfmodels.data import datasets
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.motion import Discount, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance, Scale
from kfmodels.kalman.step import State
from kfmodels.online import blocks
from kfmodels.online.board import OnlineBoard
from kfmodels.online.shocks import NONE, Quarantine, Robust
from kfmodels.online.ticks import BoardTick
from tests.made_filters import board_of, one_draw

TRAIN, TICKS, DRAWS = 60, 50, 16
JUMPED, RESCALED = 24, 15
SINGLE = (("KO", ("PEP",)), ("PEP", ("SPX",)), ("KO", ("SPX",)), ("SPX", ("KO",)))
DOUBLE = (("KO", ("PEP", "SPX")), ("PEP", ("SPX", "KO")), ("SPX", ("KO", "PEP")))
KINDS = {  # drift, noise, intercept, pairs
    "random walk, constant": (Walk, ConstantVariance, True, SINGLE),
    "random walk, discounted": (Walk, DiscountedVariance, True, SINGLE),
    "state discount, constant": (Discount, ConstantVariance, True, SINGLE),
    "state discount, discounted": (Discount, DiscountedVariance, True, SINGLE),
    "no intercept": (Discount, ConstantVariance, False, SINGLE),
    "no intercept, discounted": (Walk, DiscountedVariance, False, SINGLE),
    "two hedges": (Walk, DiscountedVariance, True, DOUBLE),
}
FIELDS = ("spread", "spread_sd", "z", "dof", "gain", "log_score", "effective_draws")
BELIEFS = ("beta", "alpha", "sd_given_noise", "sd_total", "alpha_sd_given_noise", "alpha_sd_total")
GAPS = ("overnight", "weekend")


@cache
def prices() -> pd.DataFrame:
    """Real prices; among the later ones each ticker is missing now and then, and all are once."""
    table = datasets.stocks()[["KO", "PEP", "SPX"]].loc["2016":].iloc[: TRAIN + TICKS + 1].copy()
    table.iloc[[TRAIN + 3, TRAIN + 4, TRAIN + 30], 0] = np.nan
    table.iloc[[TRAIN + 4, TRAIN + 11], 1] = np.nan
    table.iloc[[TRAIN + 1, TRAIN + 49], 2] = np.nan
    table.iloc[TRAIN + 20] = np.nan
    return table


def later(jump: float = 1.0, factors: dict[str, float] | None = None) -> pd.DataFrame:
    """The rows after the training rows, KO elsewhere or some quoted otherwise from one of them on."""
    table = prices().iloc[TRAIN + 1 :].copy()
    table.iloc[JUMPED:, 0] *= jump
    for name, factor in (factors or {}).items():
        table.iloc[RESCALED:, table.columns.get_loc(name)] *= factor
    return table


def filters(
    kind: str, transform: str = "log", *, gaps: bool = False, **policy: Any
) -> dict[str, OnlineFilter]:
    """One filter a pair, its draws at random, after the training rows."""
    random = np.random.default_rng(1)
    found = {}
    for name, arguments in trained(kind, transform).items():
        if gaps:
            policy["gap_names"] = GAPS
            policy["gap_bars"] = np.exp(random.normal(-2, 0.5, (2, DRAWS)))
            policy["gap_noise"] = np.exp(random.normal(0, 0.5, (2, DRAWS)))
        found[name] = OnlineFilter(**deepcopy(arguments) | policy)
    return found


@cache
def trained(kind: str, transform: str) -> dict[str, dict[str, Any]]:
    """The arguments of those filters."""
    drift, noise, intercept, pairs = KINDS[kind]
    random = np.random.default_rng(0)
    found = {}
    for target, hedges in pairs:
        train = prices().iloc[: TRAIN + 1]
        data = HedgeData.from_prices(train, target=target, hedges=list(hedges), transform=transform)
        x, y, n = data.x, data.y, len(hedges) + intercept
        where = Coordinates(x.mean(0) * intercept, x.std(0) * 1.0, y.mean() * intercept, intercept)
        var = np.diff(y).var() * np.exp(random.normal(size=DRAWS))
        q = np.exp(random.normal(-4, 1, (n, DRAWS)))
        eye = np.eye(n)[..., None]
        one = OnlineFilter(
            target=target,
            hedges=hedges,
            transform=transform,
            coordinates=where,
            drift=drift(eye * q)
            if drift is Walk
            else drift(random.uniform(0.7, 0.99, DRAWS), np.ones((n, n, 1))),
            noise=noise(var)
            if noise is ConstantVariance
            else noise(var, np.full(DRAWS, 4.0), random.uniform(0.76, 0.99, DRAWS)),
            state=State(np.zeros((n, DRAWS)), eye * np.ones(DRAWS) * 100),
            carried=None if noise is ConstantVariance else Scale(np.full(DRAWS, 4.0), var),
            log_weights=np.full(DRAWS, -np.log(DRAWS)),
            until=train.index[-1],
        )
        for at, row in train.iterrows():
            one.update(y=row[target], x=row, at=at)
        found["/".join([target, *hedges])] = one.arguments()
    return found


def arrays(tick: BoardTick) -> dict[str, np.ndarray]:
    return {name: getattr(tick, name) for name in ("observed", *BELIEFS, *FIELDS)}


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
    (None, {"accepted", "skipped"}),
    (Quarantine(2.5, 2), {"quarantined", "accepted", "accepted: confirmed", "skipped"}),
    (Robust(1.5), {"accepted", "accepted: weighed", "skipped"}),
]


@pytest.mark.parametrize(("shocks", "words"), SHOCKS, ids=["none", "quarantine", "robust"])
@pytest.mark.parametrize(("kind", "transform"), CASES)
def test_a_board_is_a_loop_over_filters(kind, transform, shocks, words):
    singles = filters(kind, transform, gaps=True, forgetting=0.99, shocks=shocks)
    assert words <= check_against_filters(singles, later(jump=1.25), gaps=True)


@pytest.mark.parametrize(("kind", "transform"), CASES)
def test_so_it_is_through_a_split(kind, transform):
    singles = filters(kind, transform, shocks=Quarantine())
    factors = {"KO": 0.5, "SPX": 3.7}
    if not KINDS[kind][2] and transform == "log":
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
    """Fifty ticks of all together and of each alone; the kinds of outcomes that there were."""
    board = board_of(singles)
    assert (len(board), board.draws) == (len(singles), next(iter(singles.values())).draws)
    outcomes = set()
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
            assert_same_record(tick.of(name).record(), alone.record(), one, name)
            outcomes.add(kind_of(alone.sentence))
    for name, one in singles.items():
        mine, its = board.filter(name).arguments(), one.arguments()
        sds = np.sqrt(np.diagonal(its["state"].cov).T * its["noise"].var)
        apart = np.abs(mine["state"].mean - its["state"].mean)
        assert (apart <= 1e-11 * (np.abs(its["state"].mean) + sds)).all()
        assert_allclose(mine["state"].cov, its["state"].cov, rtol=1e-11, atol=1e-14)
        assert_allclose(mine["log_weights"], its["log_weights"], rtol=1e-11, atol=1e-11)
        assert_allclose(mine["noise"].var, its["noise"].var, rtol=1e-14)
        assert_array_equal(mine["last_prices"], its["last_prices"])
        assert board.holds.get(name, NONE) == its["hold"]
        for field in ("at", "until", "hold", "shocks", "forgetting", "gap_names"):
            assert mine[field] == its[field]
    return outcomes


def kind_of(outcome: str) -> str:
    """What an outcome says, without its numbers."""
    for word in ("skipped", "quarantined"):
        if outcome.startswith(word):
            return word
    if outcome == "accepted":
        return outcome
    return f"accepted: {'confirmed' if 'confirmed' in outcome else 'weighed'}"


def assert_same_record(mine: dict, its: dict, one: OnlineFilter, name: str) -> None:
    """What a board and a filter say of one pair, numbers to 1e-11 of them or of their sd."""
    assert mine.keys() == its.keys()
    for field in ("at", "outcome", "observed"):
        assert mine[field] == its[field], name
    where, sds = one.coordinates, its["sd_total"]
    beta = max(map(abs, its["beta"].values()))
    size = max(abs(its["alpha"]), beta * max(1.0, abs(where.pivot).max()), abs(where.offset))
    slack = {
        "beta": 1e-11 * max(sds[name] for name in one.hedges),
        "alpha": 1e-12 * size + 1e-11 * sds.get("alpha", 0),
        "spread": 1e-12 * size,
        "z": 1e-11,
        "log_score": 1e-11,  # a sum of terms that cancel
    }
    found, expected = numbers_of(mine), numbers_of(its)
    assert found.keys() == expected.keys()
    atol = np.array([slack.get(field, 0.0) for field, _ in expected])
    with np.errstate(invalid="ignore"):  # degrees of freedom may be infinite
        off = np.abs(np.array([*found.values()]) - np.array([*expected.values()]))
    allowed = 1e-11 * np.abs([*expected.values()]) + atol
    for field, far, most in zip(expected, off, allowed, strict=True):
        both = found[field], expected[field]
        same = both[0] == both[1] or np.isnan(both).all() or far <= most
        assert same, f"{name} {field} at {its['at']}: {both}"


def numbers_of(record: dict[str, Any]) -> dict[tuple[str, str], float]:
    """The numbers of a record by field and coefficient."""
    found = {}
    for field, value in record.items():
        if isinstance(value, dict):
            found |= {(field, name): number for name, number in value.items()}
        elif isinstance(value, float):
            found[field, ""] = value
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_taken_from_the_board_is_the_one_put_in(kind, tmp_path):
    singles = filters(kind)
    board = board_of(singles)
    row = later().iloc[0]
    for name, one in singles.items():
        taken = board.filter(name)
        mine, its = taken.arguments(), one.arguments()
        for part in ("state", "carried", "noise"):
            for a, b in zip(mine[part] or (), its[part] or (), strict=True):
                assert_array_equal(a, b)
        assert (mine["target"], mine["hedges"]) == (its["target"], its["hedges"])
        taken.save(tmp_path / "one.json")
        now = {"y": row[one.target], "x": row, "at": row.name}
        again = OnlineFilter.load(tmp_path / "one.json").update(**now)
        assert_equal(again.record(), one.update(**now).record())


def test_what_a_taken_filter_does_leaves_the_board():
    board = board_of(filters("random walk, discounted"))
    before = standing(board)
    row = later().iloc[0]
    board.filter("KO/PEP").update(y=row["KO"], x=row["PEP"])
    assert standing(board) == before


def test_weights_sum_to_one():
    board = board_of(filters("random walk, discounted"))
    for _, row in later().iterrows():
        tick = board.update(row)
        assert_allclose(board.weights.sum(1), 1, rtol=1e-12)
        assert ((tick.effective_draws > 1 - 1e-12) & (tick.effective_draws < 16 + 1e-9)).all()
        assert (tick.sd_total >= tick.sd_given_noise).all()


@pytest.mark.parametrize("shocks", [None, Quarantine(2.5, 2), Robust(1.5)], ids=type)
@pytest.mark.parametrize("kind", KINDS)
def test_a_board_that_is_saved_goes_on_to_the_last_bit(kind, shocks, tmp_path):
    transform = "return" if kind == "random walk, discounted" else "level"
    board = board_of(filters(kind, transform, gaps=True, forgetting=0.98, shocks=shocks))
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
    singles = filters(kind, "level", gaps=True, forgetting=0.99, shocks=Quarantine(2.5, 2))
    whole = board_of(singles)
    monkeypatch.setattr(blocks, "_BLOCK", size * DRAWS)
    parts = board_of(singles)
    for at, row in later(jump=1.25).iterrows():
        passed = {"at": at, "gaps": {"weekend": int(at.day_of_week == 0)}}
        assert_same_ticks(parts.update(row, **passed), whole.update(row, **passed))
    assert parts.to_json() == whole.to_json()


def test_one_draw_a_pair_is_a_single_filter():
    whole = filters("random walk, discounted", forgetting=0.9)
    check_against_filters({name: one_draw(one, 0) for name, one in whole.items()})


def test_a_record_is_plain():
    board = board_of(filters("random walk, constant"))
    record = board.update(later().iloc[0]).record()
    assert json.loads(json.dumps(record, default=str))["outcome"] == record["outcome"]
    table = pd.DataFrame(record).set_index("pair")
    assert list(table.index) == list(board.names)
    assert table.loc["KO/PEP", "dof"] == math.inf


def test_the_order_of_pairs_does_not_matter():
    singles = filters("state discount, discounted")
    names = list(singles)
    turned = [names[i] for i in (2, 0, 3, 1)]
    one, other = board_of(singles), board_of({name: singles[name] for name in turned})
    order = [names.index(name) for name in turned]
    for _, row in later().iterrows():
        a, b = one.update(row), other.update(row)
        assert b.names == tuple(turned)
        for field, value in arrays(a).items():
            assert_array_equal(value[order], arrays(b)[field], err_msg=field)


@pytest.mark.parametrize("how", ["NaN", "not there"])
def test_a_missing_ticker_stops_only_its_own_pairs(how):
    one, other = (board_of(filters("random walk, discounted")) for _ in range(2))
    rows = later().ffill().bfill()
    one.update(rows.iloc[0])
    other.update(rows.iloc[0])
    row = rows.iloc[1].to_dict()
    gone = {name: price for name, price in row.items() if name != "PEP"}
    gone |= {"PEP": math.nan} if how == "NaN" else {}
    before = other.weights
    whole, part = one.update(row), other.update(gone)
    stopped = np.array(["PEP" in name for name in one.names])
    assert_array_equal(part.observed, ~stopped)
    for field, value in arrays(whole).items():
        assert_array_equal(value[~stopped], arrays(part)[field][~stopped], err_msg=field)
    for field in ("spread", "spread_sd", "z", "log_score"):
        assert np.isnan(arrays(part)[field][stopped]).all()
    assert (part.gain[stopped] == 0).all()
    assert (part.sd_total[stopped] > whole.sd_total[stopped]).all()
    assert_array_equal(other.weights[stopped], before[stopped])
    assert_array_equal(
        other.last_prices[stopped],
        rows.iloc[0][["KO", "PEP", "PEP", "SPX"]].to_numpy().reshape(2, 2),
    )


def test_tickers_of_no_pair_are_not_read_and_levels_may_be_negative():
    one, other = (board_of(filters("random walk, constant", "level")) for _ in range(2))
    row = {"KO": -2.0, "PEP": 0.0}
    assert_same_ticks(one.update(pd.Series(row | {"more": 7.0})), other.update(row))
    assert other.last_prices[0].tolist() == [-2.0, 0.0]


def test_no_prices_at_all_only_diffuse():
    board = board_of(filters("random walk, constant"))
    first = board.update({}, dt=0.0)
    second = board.update({}, dt=3.0)
    assert not first.observed.any()
    assert_array_equal(first.beta, second.beta)
    assert (second.sd_total > first.sd_total).all()


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
    for _ in range(200):
        tick = board.update(alive, dt=10.0)
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
    *(
        (rescale(PEP=2.0, KO=factor), "the factor of KO is its new price over its old one")
        for factor in (0.0, -1.0, math.nan, math.inf)
    ),
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
        newer = (board if kind is OnlineBoard else one).to_json() | {"version": 99}
        with pytest.raises(ValueError, match=r"newer kfmodels \(format 99, this one reads up to 2"):
            kind.from_json(newer)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": ["a", "a", "b", "c"]}, "each named once"),
        ({"transform": "root"}, "transform must be"),
        ({"forgetting": 0.0}, "forgetting is a factor a bar"),
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
