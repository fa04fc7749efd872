"""Arrays of many pairs: each what it is alone, and unusable exactly where it is refused alone."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import Constant, HedgeData, hedge_ratio_model
from kfmodels.data.arrays import Inputs, PairArrays, half_life, pair_arrays, removed, slopes
from kfmodels.data.hedge_data import MIN_ROWS
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.model import Diffuse, Known, Weak, Zero
from tests.data.made_prices import TRANSFORMS, stocks_with_gaps

ROWS = 80
KNOWN = Known([0.8, 0.3], [[0.04, 0.01], [0.01, 0.09]])
MODELS = {
    "default": hedge_ratio_model(noise=Constant()),
    "diffuse": hedge_ratio_model(initial=Diffuse(), noise=Constant()),
    "known": hedge_ratio_model(initial=KNOWN, noise=Constant()),
    "known, raw": hedge_ratio_model(initial=KNOWN, pivot=0, noise=Constant()),
    "pivot": hedge_ratio_model(pivot=[2.5], intercept="static", noise=Constant()),
    "raw, static": hedge_ratio_model(
        pivot=0, intercept="static", initial=Weak(1.0), noise=Constant()
    ),
    "none, zero": hedge_ratio_model(intercept="none", initial=Zero(), noise=Constant()),
}


def arrays_of(pairs: HedgePairs) -> list[PairArrays]:
    legs = ([pair[leg] for pair in pairs.pairs] for leg in (0, 1))
    return pair_arrays(*(pairs.prices[names].to_numpy().T for names in legs), pairs.transform)


def assert_same(found: Any, desired: Any) -> None:
    """The same arrays to the last bit, name by name."""
    for name in desired._fields:
        assert_array_equal(getattr(found, name), getattr(desired, name), err_msg=name)


@pytest.mark.filterwarnings("ignore:prices are in doubt:UserWarning")  # made so
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_each_pair_among_many_is_what_it_is_alone(model, transform):
    frame = stocks_with_gaps()
    if transform == "level":
        frame.iloc[5, 0] = -1.0  # a spread may be negative
    pairs = HedgeData.all_pairs(frame, transform=transform)
    arrays = arrays_of(pairs)
    assert all(pair.usable for pair in arrays)
    assert {bool(pair.observed[0]) for pair in arrays} == {True, False}
    many, coordinates = model.inputs_of_pairs(arrays)
    for number, name in enumerate(pairs.names):
        data = pairs.data(name)
        alone = model.inputs(data)._replace(dt=data.dt, count=np.asarray(len(data)))
        one = Inputs(*(None if part is None else part[number] for part in many))
        assert_same(one, alone)
        assert_same(coordinates[number], model.coordinates(data))


def test_shorter_pairs_are_padded_with_rows_that_are_not_there():
    arrays = arrays_of(HedgeData.all_pairs(stocks_with_gaps()))[:2]
    cut = {name: getattr(arrays[1], name)[:70] for name in ("y", "x", "observed", "dt")}
    model = MODELS["default"]
    whole, _ = model.inputs_of_pairs([arrays[0], arrays[1]._replace(**cut)], length=90)
    assert whole.y.shape == whole.dt.shape == whole.observed.shape == (2, 90)
    assert whole.count is not None
    for place, rows in ((0, 80), (1, 70)):
        assert whole.count[place] == rows
        for part in (whole.y, whole.design, whole.observed, whole.dt):
            assert not part[place, rows:].any()
            assert part[place, :rows].any()


def awkward(transform: str) -> pd.DataFrame:
    """Tickers that make good pairs, and others that spoil every pair or one."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        np.exp(rng.normal(0, 0.01, (ROWS, 3)).cumsum(0)) * [50, 100, 20],
        pd.bdate_range("2020-01-01", periods=ROWS),
        ["A", "B", "C"],
    )
    needed = MIN_ROWS + (transform == "return")  # a return takes a row before it
    row = np.arange(ROWS)
    enough = frame["B"] * np.exp(rng.normal(0, 0.01, ROWS))
    return frame.assign(
        **{
            "flat": 7.0,
            "twice A": 2.0 * frame["A"],
            "A to the power 3": frame["A"] ** 3,
            "nearly A": frame["A"] * np.exp(rng.normal(0, 1e-5, ROWS)),
            "A to nine digits": frame["A"] * (1 + rng.normal(0, 1e-9, ROWS)),
            "A in single precision": frame["A"].astype("float32").astype(float),
            "enough": enough.where(row < needed),
            "too few": enough.where(row < needed - 1),
            "late": frame["C"].where(row >= 60),
            "moves once": np.where(row < 40, 3.0, 4.0),
            "moves late": np.where(row < 75, 3.0, 3.0 + rng.normal(0, 0.1, ROWS)),
            "nothing": np.nan,
            "steady": 10.0 * 1.01**row,
            "climbs": 10.0 + row,
        }
    )


@pytest.mark.filterwarnings("ignore:prices are in doubt:UserWarning")  # made so
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_usable_is_what_is_not_refused_alone(transform):
    pairs = HedgeData.all_pairs(awkward(transform), transform=transform)
    said = {}
    for name, pair in zip(pairs.names, arrays_of(pairs), strict=True):
        try:
            MODELS["default"].inputs(pairs.data(name))
            said[name] = ""
        except ValueError as error:
            said[name] = str(error)
        assert pair.usable == (not said[name]), (name, said[name])
    assert not said["A/B"] + said["enough/B"] + said["nearly A/A"]
    assert "common rows" in said["too few/B"]
    assert "hedge flat is constant" in said["A/flat"]
    assert "flat never moves" in said["flat/A"]
    assert "A moves in exact proportion to twice A" in said["A/twice A"] or transform == "level"
    assert said["A/twice A"]
    for name in ("A to nine digits", "A in single precision"):
        for pair_name in (f"{name}/A", f"A/{name}"):
            assert "a bar over, which is rounding; there is no noise to infer" in said[pair_name]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_table_without_rows_has_no_usable_pair(rows, transform):
    pairs = HedgeData.all_pairs(awkward(transform).iloc[:rows], transform=transform)
    for pair in arrays_of(pairs):
        assert not pair.usable
        assert len(pair.y) == max(rows - (transform == "return"), 0)


# -- statistics of moves ---------------------------------------------------------------------------


def test_slopes_and_variance_removed_are_those_of_numpy_where_both_are_there():
    moves = np.random.default_rng(0).normal(size=(50, 3)) @ [[1, 0.8, 0.3], [0, 1, 0], [0, 0, 1]]
    moves[3, 0] = moves[7, 1] = np.nan
    ratio = np.linspace(0.5, 1, 50)[:, None] * [1.0, 0.2]
    for number in (1, 2):
        there = np.isfinite(moves[:, [0, number]]).all(1)
        y, x = moves[there, 0], moves[there, number]
        assert_allclose(slopes(moves)[number - 1], np.polyfit(x, y, 1)[0], rtol=1e-12)
        hedged = y - ratio[there, number - 1] * x
        found = removed(moves, ratio)[number - 1]
        assert_allclose(found, 1 - hedged.var() / y.var(), rtol=1e-12)


def test_a_half_life_is_the_bars_in_which_half_is_gone():
    rho = np.array([-0.2, 0.0, 0.5, 0.5**0.1, 1.0, 1.1])
    assert_allclose(half_life(rho), [0, 0, 1, 10, np.inf, np.inf], rtol=1e-12)
