"""`OnlineBoard`: many filters in one tick say what each would say alone."""

import math
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal, assert_equal
from scipy.special import gammaln

from kfmodels import Discounted, HedgeData, OnlineFilter, datasets
from kfmodels.coordinates import Coordinates
from kfmodels.kalman.density import half_a_step, log_student, log_student_series
from kfmodels.kalman.step import (
    ConstantVariance,
    DiscountedVariance,
    RandomWalk,
    Scale,
    State,
    StateDiscount,
)
from kfmodels.online_board import BoardTick, OnlineBoard
from tests.unsampled import unsampled

TRAIN, TICKS, DRAWS = 60, 50, 16
PAIRS = (("KO", "PEP"), ("PEP", "SPX"), ("KO", "SPX"), ("SPX", "KO"))
KINDS = {  # drift, noise, coefficients
    "random walk, constant": (RandomWalk, ConstantVariance, 2),
    "random walk, discounted": (RandomWalk, DiscountedVariance, 2),
    "state discount, constant": (StateDiscount, ConstantVariance, 2),
    "state discount, discounted": (StateDiscount, DiscountedVariance, 2),
    "no intercept": (StateDiscount, ConstantVariance, 1),
    "no intercept, discounted": (RandomWalk, DiscountedVariance, 1),
}
FIELDS = ("spread", "spread_sd", "z", "gain", "log_score", "effective_draws")


@cache
def prices() -> pd.DataFrame:
    """Real prices; among the later ones each ticker is missing now and then, and all are once."""
    table = datasets.stocks()[["KO", "PEP", "SPX"]].loc["2016":].iloc[: TRAIN + TICKS + 1].copy()
    table.iloc[[TRAIN + 3, TRAIN + 4, TRAIN + 30], 0] = np.nan
    table.iloc[[TRAIN + 4, TRAIN + 11], 1] = np.nan
    table.iloc[[TRAIN + 1, TRAIN + 49], 2] = np.nan
    table.iloc[TRAIN + 20] = np.nan
    return table


def later() -> pd.DataFrame:
    return prices().iloc[TRAIN + 1 :]


def filters(kind: str, transform: str = "log") -> dict[str, OnlineFilter]:
    """One filter a pair, its draws at random, after the training rows."""
    drift, noise, n = KINDS[kind]
    random = np.random.default_rng(0)
    found = {}
    for target, hedge in PAIRS:
        train = prices().iloc[: TRAIN + 1]
        data = HedgeData.from_prices(train, target=target, hedges=[hedge], transform=transform)
        x, y = data.x, data.y
        where = Coordinates(x.mean(0) * (n - 1), x.std(0) * 1.0, y.mean() * (n - 1), n == 2)
        var = np.diff(y).var() * np.exp(random.normal(size=DRAWS))
        q = np.exp(random.normal(-4, 1, (n, DRAWS)))
        eye = np.eye(n)[..., None]
        one = OnlineFilter(
            target=target,
            hedges=[hedge],
            transform=transform,
            coordinates=where,
            drift=drift(eye * q)
            if drift is RandomWalk
            else drift(random.uniform(0.5, 0.99, DRAWS), np.ones((n, n, 1))),
            noise=noise(var)
            if noise is ConstantVariance
            else noise(var, np.full(DRAWS, 4.0), random.uniform(0.76, 0.99, DRAWS)),
            state=State(np.zeros((n, DRAWS)), eye * np.ones(DRAWS) * 100),
            scale=None if noise is ConstantVariance else Scale(np.full(DRAWS, 4.0), var),
            log_weights=np.full(DRAWS, -np.log(DRAWS)),
            until=train.index[-1],
        )
        for at, row in train.iterrows():
            one.update(y=row[target], x=row[hedge], at=at)
        found[f"{target}/{hedge}"] = one
    return found


def board_of(singles: dict[str, OnlineFilter]) -> OnlineBoard:
    """The board of some filters that stand at the same time."""
    held = [one._arguments() for one in singles.values()]

    def stacked(part: str) -> Any:
        leaves = [one[part] for one in held]
        if leaves[0] is None:
            return None
        # what the draws of a pair share keeps an axis of one
        return type(leaves[0])(*(np.stack(leaf, -2) for leaf in zip(*leaves, strict=True)))

    where = [one["coordinates"] for one in held]
    return OnlineBoard(
        names=list(singles),
        targets=[one["target"] for one in held],
        hedges=[one["hedges"][0] for one in held],
        transform=held[0]["transform"],
        pivot=[inner.pivot[0] for inner in where],
        scale=[inner.scale[0] for inner in where],
        offset=[inner.offset for inner in where],
        drift=stacked("drift"),
        noise=stacked("noise"),
        state=stacked("state"),
        variance=stacked("scale"),
        log_weights=np.stack([one["log_weights"] for one in held]),
        last_prices=np.stack([one["last_prices"] for one in held]),
        at=held[0]["at"],
        until=held[0]["until"],
    )


def arrays(tick: BoardTick) -> dict[str, np.ndarray]:
    return {
        name: getattr(tick, name)
        for name in ("observed", "beta", "alpha", "sd_given_noise", "sd_total", *FIELDS)
    }


def standing(board: OnlineBoard) -> list[np.ndarray]:
    """All that the next tick depends on."""
    state = [*board._state, *(board._variance or ())]
    return [*state, board.log_weights, board.weights, board.last_prices]


def assert_same_board(now: list[np.ndarray], then: list[np.ndarray]) -> None:
    for a, b in zip(now, then, strict=True):
        assert_array_equal(a, b)


CASES = [(kind, "log") for kind in KINDS] + [
    (kind, transform)
    for kind in ("random walk, discounted", "state discount, constant")
    for transform in ("level", "return")
]


@pytest.mark.parametrize(("kind", "transform"), CASES)
def test_a_board_is_a_loop_over_filters(kind, transform):
    check_against_filters(filters(kind, transform))


def test_the_filters_of_fits_make_a_board():
    train = prices().iloc[1 : TRAIN + 1]
    singles = {}
    for target, hedge in PAIRS[:2]:
        data = HedgeData.from_prices(train, target=target, hedges=[hedge])
        singles[f"{target}/{hedge}"] = unsampled(data, noise=Discounted()).online()
    check_against_filters(singles)


def check_against_filters(singles: dict[str, OnlineFilter]) -> None:
    """Fifty ticks of all together and of each alone."""
    board = board_of(singles)
    assert (len(board), board.draws) == (len(singles), next(iter(singles.values())).draws)
    for number, (at, row) in enumerate(later().iterrows()):
        dt = 1.0 if number % 7 else 2.5
        tick = board.update(row, at=at, dt=dt)
        assert tick.at == at
        for place, (name, one) in enumerate(singles.items()):
            target, hedge = name.split("/")
            alone = one.update(y=row[target], x=row[hedge], at=at, dt=dt)
            size = max(abs(alone.alpha), abs(alone.beta[hedge]) * max(1.0, abs(board.pivot[place])))
            assert tick.observed[place] == alone.observed
            expected = {
                "beta": alone.beta[hedge],
                "alpha": alone.alpha,
                "sd_given_noise": alone.sd_given_noise[hedge],
                "sd_total": alone.sd_total[hedge],
                **{field: getattr(alone, field) for field in FIELDS},
            }
            for field, value in expected.items():
                atol = 1e-12 * size if field in ("alpha", "spread") else 0
                # a log score is a sum of terms that cancel
                atol = 1e-11 if field in ("log_score", "z") else atol
                found = getattr(tick, field)[place]
                assert_allclose(found, value, rtol=1e-11, atol=atol, err_msg=f"{name} {field}")
    for name, one in singles.items():
        mine, its = board.filter(name)._arguments(), one._arguments()
        assert_allclose(mine["state"].mean, its["state"].mean, rtol=1e-11, atol=1e-12)
        assert_allclose(mine["state"].cov, its["state"].cov, rtol=1e-11, atol=1e-14)
        assert_allclose(mine["log_weights"], its["log_weights"], rtol=1e-11, atol=1e-11)
        assert_array_equal(mine["last_prices"], its["last_prices"])
        assert mine["at"] == its["at"]
        assert mine["until"] == its["until"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_taken_from_the_board_is_the_one_put_in(kind, tmp_path):
    singles = filters(kind)
    board = board_of(singles)
    row = later().iloc[0]
    for name, one in singles.items():
        taken = board.filter(name)
        mine, its = taken._arguments(), one._arguments()
        for part in ("state", "scale", "noise"):
            for a, b in zip(mine[part] or (), its[part] or (), strict=True):
                assert_array_equal(a, b)
        assert (mine["target"], mine["hedges"]) == (its["target"], its["hedges"])
        taken.save(tmp_path / "one.json")
        target, hedge = name.split("/")
        now = {"y": row[target], "x": row[hedge], "at": row.name}
        again = OnlineFilter.load(tmp_path / "one.json").update(**now)
        assert_equal(asdict(again), asdict(one.update(**now)))


def test_what_a_taken_filter_does_leaves_the_board():
    board = board_of(filters("random walk, discounted"))
    before = standing(board)
    row = later().iloc[0]
    board.filter("KO/PEP").update(y=row["KO"], x=row["PEP"])
    assert_same_board(standing(board), before)


def test_weights_sum_to_one():
    board = board_of(filters("random walk, discounted"))
    for _, row in later().iterrows():
        tick = board.update(row)
        assert_allclose(board.weights.sum(1), 1, rtol=1e-12)
        assert ((tick.effective_draws > 1 - 1e-12) & (tick.effective_draws < 16 + 1e-9)).all()
        assert (tick.sd_total >= tick.sd_given_noise).all()


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
    before = other.log_weights.copy()
    whole, part = one.update(row), other.update(gone)
    stopped = np.array(["PEP" in name for name in one.names])
    assert_array_equal(part.observed, ~stopped)
    for field, value in arrays(whole).items():
        assert_array_equal(value[~stopped], arrays(part)[field][~stopped], err_msg=field)
    for field in ("spread", "spread_sd", "z", "log_score"):
        assert np.isnan(arrays(part)[field][stopped]).all()
    assert (part.gain[stopped] == 0).all()
    assert (part.sd_total[stopped] > whole.sd_total[stopped]).all()
    assert_array_equal(other.log_weights[stopped], before[stopped])
    assert_array_equal(
        other.last_prices[stopped],
        rows.iloc[0][["KO", "PEP", "PEP", "SPX"]].to_numpy().reshape(2, 2),
    )


def test_no_prices_at_all_only_diffuse():
    board = board_of(filters("random walk, constant"))
    first = board.update({}, dt=0.0)
    second = board.update({}, dt=3.0)
    assert not first.observed.any()
    assert_array_equal(first.beta, second.beta)
    assert (second.sd_total > first.sd_total).all()


def test_a_dict_and_a_series_say_the_same():
    one, other = (board_of(filters("random walk, discounted")) for _ in range(2))
    row = later().iloc[0]
    row = pd.concat([row, pd.Series({"more": 7.0})])  # tickers of no pair are not read
    a, b = one.update(row), other.update(dict(row))
    for field, value in arrays(a).items():
        assert_array_equal(value, arrays(b)[field])


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
    for _ in range(40):
        tick = board.update(alive, dt=100.0)
    assert_array_equal(tick.observed, [False, True, False, False])
    assert np.isfinite(tick.beta).all()
    assert np.isfinite(tick.sd_total).all()
    assert board.update(row).observed.all()


# -- errors ----------------------------------------------------------------------------------------

AT = pd.Timestamp("2020-01-01")
BAD: list[tuple[dict[str, Any], str]] = [
    ({"prices": {"KO": 0.0, "PEP": 1.0}}, "KO has the price 0, which a log transform"),
    ({"prices": {"KO": -3.0}}, "KO has the price -3"),
    ({"prices": {"SPX": math.inf}}, "SPX has the price inf"),
    ({"prices": {"SPX": "a lot"}}, "SPX has the price 'a lot', which is no number"),
    ({"prices": {"ko": 3.0}}, "no price of any of the 3 tickers"),
    ({"prices": pd.Series([3.0, 4.0], ["KO", "KO"])}, "name a ticker twice"),
    ({"prices": [3.0, 4.0]}, "go by ticker"),
    ({"prices": {"KO": 40.0}, "dt": -1.0}, "dt is the number of bars"),
    ({"prices": {"KO": 40.0}, "dt": math.nan}, "dt is the number of bars"),
    ({"prices": {"KO": 40.0}, "at": "2001-01-01"}, "is not later than the last one"),
    ({"prices": {"KO": 40.0}, "at": 7}, "is a number, the one before"),
    ({"prices": {"KO": 40.0}, "at": "2030-01-01T00:00+00:00"}, "is a time with a time zone"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_an_error_changes_nothing(given, message):
    board = board_of(filters("random walk, discounted"))
    before, at = standing(board), board.at
    with pytest.raises(ValueError, match=message):
        board.update(given["prices"], **{k: v for k, v in given.items() if k != "prices"})
    assert_same_board(standing(board), before)
    assert board.at == at


def test_a_price_beyond_arithmetic_is_named_and_changes_nothing():
    board = board_of(filters("random walk, constant", "level"))
    before = standing(board)
    row = later().ffill().bfill().iloc[0]
    with pytest.raises(ValueError, match=r"KO/PEP, KO/SPX, SPX/KO: the row is so far"):
        board.update({**row, "KO": 1e200})
    assert_same_board(standing(board), before)
    assert board.update(row).observed.all()


def test_levels_may_be_negative():
    board = board_of(filters("random walk, constant", "level"))
    assert board.update({"KO": -2.0, "PEP": 0.0}).observed[0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": ["a", "a", "b", "c"]}, "each named once"),
        ({"transform": "root"}, "transform must be"),
        ({"pivot": np.zeros(3)}, r"pivot has shape \(3,\), but it must be \(4,\)"),
        ({"log_weights": np.full((4, 2), np.log(0.5))}, "pair and draw"),
        ({"log_weights": np.zeros((4, 16))}, "PEP.* more: .*weights that do not sum to one"),
        ({"scale": np.array([1.0, np.nan, 1.0, 1.0])}, "PEP/SPX: the state holds numbers"),
    ],
)
def test_what_cannot_be_a_board_is_refused(changed, message):
    board = board_of(filters("random walk, constant"))
    arguments = {
        name: getattr(board, name)
        for name in ("names", "targets", "hedges", "transform", "pivot", "scale", "offset")
    } | {
        "drift": board.drift,
        "noise": board.noise,
        "state": board._state,
        "variance": None,
        "log_weights": board.log_weights,
    }
    assert OnlineBoard(**arguments).at is None
    with pytest.raises(ValueError, match=message):
        OnlineBoard(**(arguments | changed))


def test_an_unknown_pair_is_refused():
    with pytest.raises(ValueError, match="KO/XOM is not among the 4 pairs"):
        board_of(filters("random walk, constant")).filter("KO/XOM")


# -- gamma functions -------------------------------------------------------------------------------


def test_half_a_step_is_a_ratio_of_gamma_functions():
    a = np.exp(np.linspace(np.log(0.5), np.log(1e6), 400))
    ratio, rest = half_a_step(a)
    # gammaln of a large number is itself only good to its own last digit
    atol = 3e-13 + 1e-15 * np.abs(gammaln(a))
    assert (np.abs(np.log(ratio) + rest - (gammaln(a + 0.5) - gammaln(a))) < atol).all()


def test_the_student_density_is_that_of_the_filter():
    random = np.random.default_rng(0)
    error, var = random.normal(size=200), np.exp(random.normal(size=200))
    dof = 3 + 40 * random.random(200)
    expected = log_student(error, var, dof, np.log, gammaln)
    assert_allclose(log_student_series(error, var, dof, np.log), expected, rtol=1e-12, atol=1e-13)
