"""Many pairs as a table and as arrays: each what it is alone, and nothing wrong with one stops all."""

import re
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import HedgeData, hedge_ratio_model
from kfmodels.data import checks, datasets, hedge_data, hedge_pairs
from kfmodels.data.arrays import Inputs, PairArrays, pair_arrays
from kfmodels.data.hedge_data import MIN_ROWS
from kfmodels.data.hedge_pairs import HedgePairs
from kfmodels.model import Diffuse, Known, Weak, Zero

TRANSFORMS = ("log", "level", "return")
ROWS = 80


def table() -> pd.DataFrame:
    """Real prices; gaps at the start, in the middle (alone, in a row) and at the end."""
    frame = (
        datasets.stocks()[["KO", "PEP", "AAPL", "SPX", "XOM", "CVX"]]
        .loc["2015":]
        .iloc[:ROWS]
        .copy()
    )
    frame.iloc[:3, 0] = np.nan
    frame.iloc[[0, 20, 21, 22, 40], 1] = np.nan
    frame.iloc[[20, 50], 2] = np.nan
    frame.iloc[-2:, 3] = np.nan
    return frame


def arrays_of(pairs: HedgePairs) -> PairArrays:
    legs = [pairs.prices[[pair[leg] for pair in pairs.pairs]].to_numpy().T for leg in (0, 1)]
    return pair_arrays(legs[0], legs[1], pairs.transform)


def close(found: Any, desired: Any, what: str) -> None:
    """To 1e-12 of the largest entry: what is centred has lost the digits of its level."""
    desired = np.asarray(desired, float)
    size = np.abs(desired).max(initial=0.0)
    assert_allclose(found, desired, rtol=1e-12, atol=1e-12 * size, err_msg=what)


def models() -> dict[str, Any]:
    known = Known([0.8, 0.3], [[0.04, 0.01], [0.01, 0.09]])
    return {
        "default": hedge_ratio_model(),
        "diffuse": hedge_ratio_model(initial=Diffuse()),
        "zero": hedge_ratio_model(initial=Zero()),
        "known": hedge_ratio_model(initial=known),
        "known, raw": hedge_ratio_model(initial=known, pivot=0),
        "pivot": hedge_ratio_model(pivot=[2.5], intercept="static"),
        "raw, static": hedge_ratio_model(pivot=0, intercept="static", initial=Weak(1.0)),
        "static, zero": hedge_ratio_model(intercept="static", initial=Zero()),
        "none": hedge_ratio_model(intercept="none"),
        "none, known": hedge_ratio_model(intercept="none", initial=Known([1.0], [[0.5]])),
        "none, diffuse": hedge_ratio_model(intercept="none", initial=Diffuse()),
        "none, zero": hedge_ratio_model(intercept="none", initial=Zero()),
    }


# -- arrays ----------------------------------------------------------------------------------------


@pytest.mark.variants
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_each_pair_among_many_is_what_it_is_alone(transform: str):
    pairs = HedgeData.all_pairs(table(), transform=transform)
    arrays = arrays_of(pairs)
    assert arrays.usable.all()
    for model_name, model in models().items():
        many, (pivot, scale, offset) = model.inputs_of_pairs(arrays)
        for number, name in enumerate(pairs.names):
            data = pairs.data(name)
            alone = model.inputs(data)
            for field in Inputs._fields:
                expected = getattr(alone, field)
                if field in ("gaps", "gap_unit"):  # which many pairs do not have
                    assert expected is getattr(many, field) is None
                    continue
                if expected is None:
                    assert data.observed[0]
                    expected = data.dt
                found = getattr(many, field)[number]
                assert np.shape(found) == np.shape(expected), field
                close(found, expected, f"{model_name}, {name}: {field}")
            at = model.coordinates(data)
            close([pivot[number]], at.pivot, name)
            close([scale[number]], at.scale, name)
            close(offset[number], at.offset, name)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_gaps_anywhere_are_rows_not_observed(transform: str):
    frame = table()
    if transform == "level":
        frame.iloc[5, 0] = -1.0  # a spread may be negative
    pairs = HedgeData.all_pairs(frame, transform=transform)
    arrays = arrays_of(pairs)
    firsts, lasts = set(), set()
    for number, name in enumerate(pairs.names):
        data = pairs.data(name)
        assert_array_equal(arrays.observed[number], data.observed)
        assert_array_equal(arrays.dt[number], data.dt)
        assert_allclose(arrays.y[number], data.y, rtol=0, atol=1e-15 * np.abs(data.y).max())
        assert_allclose(arrays.x[number], data.x[:, 0], rtol=0, atol=1e-15 * np.abs(data.x).max())
        firsts.add(bool(data.observed[0]))
        lasts.add(bool(data.observed[-1]))
    assert firsts == lasts == {True, False}


def test_a_pair_is_the_same_whatever_stands_beside_it():
    pairs = HedgeData.all_pairs(table())
    model = hedge_ratio_model()
    arrays = arrays_of(pairs)
    order = np.random.default_rng(0).permutation(len(pairs))[:4]
    some = PairArrays(*(part[order] for part in arrays))
    few, _ = model.inputs_of_pairs(some)
    many, _ = model.inputs_of_pairs(arrays)
    legs = [
        pairs.prices[[pairs.pairs[i][leg] for i in order]].to_numpy().T.copy() for leg in (0, 1)
    ]
    legs[0][0] = np.nan  # one of them cannot be used
    beside = pair_arrays(legs[0], legs[1], "log")
    assert_array_equal(beside.usable, [False, True, True, True])
    for field in PairArrays._fields:
        assert_array_equal(getattr(beside, field)[1:], getattr(some, field)[1:])
    for field in set(Inputs._fields) - {"gaps", "gap_unit"}:  # which many pairs do not have
        assert_array_equal(getattr(few, field), getattr(many, field)[order])


# -- what cannot be used ---------------------------------------------------------------------------


def awkward(transform: str) -> pd.DataFrame:
    """Tickers that make good pairs, and others that spoil every pair or one."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        np.exp(rng.normal(0, 0.01, (ROWS, 3)).cumsum(0)) * [50, 100, 20],
        pd.bdate_range("2020-01-01", periods=ROWS),
        ["A", "B", "C"],
    )
    frame["flat"] = 7.0
    frame["twice A"] = 2.0 * frame["A"]
    frame["A to the power 3"] = frame["A"] ** 3
    frame["nearly A"] = frame["A"] * np.exp(rng.normal(0, 1e-7, ROWS))
    # a return takes a row before it
    needed = MIN_ROWS + (transform == "return")
    frame["enough"] = frame["B"] * np.exp(rng.normal(0, 0.01, ROWS))
    frame["too few"] = frame["enough"]
    frame.iloc[needed:, frame.columns.get_loc("enough")] = np.nan
    frame.iloc[needed - 1 :, frame.columns.get_loc("too few")] = np.nan
    frame["late"] = frame["C"]
    frame.iloc[:60, frame.columns.get_loc("late")] = np.nan
    frame["moves once"] = np.where(np.arange(ROWS) < 40, 3.0, 4.0)
    frame["moves late"] = np.where(np.arange(ROWS) < 75, 3.0, 3.0 + rng.normal(0, 0.1, ROWS))
    frame["nothing"] = np.nan
    frame["steady"] = 10.0 * 1.01 ** np.arange(ROWS)
    frame["climbs"] = 10.0 + np.arange(ROWS)
    return frame


def refused(pairs: HedgePairs, name: str, model: Any) -> str:
    try:
        model.inputs(pairs.data(name))
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_usable_is_what_is_not_refused_alone(transform: str):
    pairs = HedgeData.all_pairs(awkward(transform), transform=transform)
    model = hedge_ratio_model()
    said = [refused(pairs, name, model) for name in pairs.names]
    usable = arrays_of(pairs).usable
    wrong = [
        f"{name}: {why or 'fine'}"
        for name, why, ok in zip(pairs.names, said, usable, strict=True)
        if ok != (not why)
    ]
    assert not wrong
    everything = " ".join(said)
    for complaint in ("common rows", "is constant", "never moves", "exact proportion"):
        assert complaint in everything
    by_name = dict(zip(pairs.names, usable, strict=True))
    assert by_name["A/B"]
    assert by_name["enough/B"]
    assert not by_name["too few/B"]
    assert by_name["nearly A/A"]
    assert not by_name["A/twice A"]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_table_without_rows_has_no_usable_pair(rows: int, transform: str):
    pairs = HedgeData.all_pairs(awkward(transform).iloc[:rows], transform=transform)
    arrays = arrays_of(pairs)
    assert_array_equal(arrays.usable, False)
    assert arrays.y.shape == (len(pairs), max(rows - (transform == "return"), 0))


# -- HedgePairs ------------------------------------------------------------------------------------


def test_all_pairs_and_one_target():
    frame = table()
    names = list(frame.columns)
    every = HedgeData.all_pairs(frame)
    assert every.pairs == tuple(permutations(names, 2))
    assert len(every) == len(names) * (len(names) - 1)
    assert every.names[:2] == [f"{names[0]}/{names[1]}", f"{names[0]}/{names[2]}"]
    one = HedgeData.one_target(frame, "PEP")
    assert one.pairs == tuple(("PEP", name) for name in names if name != "PEP")
    some = HedgeData.pairs(frame, [("PEP", "KO"), ("SPX", "PEP")], transform="level")
    assert some.transform == "level"
    assert list(some.prices.columns) == ["PEP", "KO", "SPX"]
    assert every.faults == {}
    assert "30 pairs of 6 tickers; log; 80 rows" in repr(every)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_one_pair_is_hedge_data_of_it(transform: str):
    frame = table()
    pairs = HedgeData.all_pairs(frame, transform=transform)
    for name, (target, hedge) in zip(pairs.names, pairs.pairs, strict=True):
        alone = HedgeData.from_prices(frame, target=target, hedges=hedge, transform=transform)
        for found in (pairs.data(name), pairs.data((target, hedge))):
            pd.testing.assert_frame_equal(found.prices, alone.prices)
            pd.testing.assert_frame_equal(found.values, alone.values)
            assert found.transform == transform


def test_before_and_after_split_the_rows():
    frame = table()
    pairs = HedgeData.all_pairs(frame)
    date = frame.index[40]
    early, late = pairs.before(date), pairs.after(str(date.date()))
    assert early.index.equals(frame.index[:40])
    assert late.index.equals(frame.index[40:])
    assert early.pairs == late.pairs == pairs.pairs
    pd.testing.assert_frame_equal(
        early.data("PEP/SPX").values, pairs.data("PEP/SPX").before(date).values
    )
    with pytest.raises(ValueError, match="time zones do not match"):
        pairs.before(pd.Timestamp(date, tz="UTC"))


def test_what_is_wrong_with_a_ticker_is_kept_and_not_raised():
    frame = table().astype(object)
    frame["text"] = frame["PEP"]
    frame.iloc[7, frame.columns.get_loc("text")] = "n/a"
    frame["infinite"] = frame["PEP"]
    frame.iloc[8, frame.columns.get_loc("infinite")] = np.inf
    frame["zero"] = frame["PEP"]
    frame.iloc[9, frame.columns.get_loc("zero")] = 0.0
    pairs = HedgeData.all_pairs(frame)
    assert set(pairs.faults) == {"text", "infinite", "zero"}
    assert f"'n/a' at {frame.index[7]}" in pairs.faults["text"]
    assert f"infinite at {frame.index[8]}" in pairs.faults["infinite"]
    assert f"zero is 0 at {frame.index[9]}" in pairs.faults["zero"]
    for fault in pairs.faults:
        assert pairs.prices[fault].isna().all()
        for name in (f"{fault}/KO", f"KO/{fault}"):
            with pytest.raises(ValueError, match=re.escape(pairs.faults[fault])):
                pairs.data(name)
    bad = np.array([bool({*pair} & set(pairs.faults)) for pair in pairs.pairs])
    assert_array_equal(arrays_of(pairs).usable, ~bad)
    assert pairs.before(frame.index[60]).faults == pairs.faults
    # a price of zero is a price where no logarithm is taken
    assert set(HedgeData.all_pairs(frame, transform="level").faults) == {"text", "infinite"}
    assert set(HedgeData.all_pairs(frame, transform="return").faults) == set(pairs.faults)


def complaint(make) -> str:
    with pytest.raises(ValueError, match=".") as caught:  # each caller judges the text
        make()
    return str(caught.value)


def test_what_concerns_all_pairs_is_raised():
    frame = table()
    assert "KOO is not among the" in complaint(lambda: HedgeData.pairs(frame, [("KOO", "PEP")]))
    assert "KO" in complaint(lambda: HedgeData.one_target(frame, "KOO"))
    twice = [("KO", "PEP"), ("PEP", "KO"), ("KO", "PEP")]
    assert "the pair KO/PEP is named twice" in complaint(lambda: HedgeData.pairs(frame, twice))
    assert "cannot hedge itself" in complaint(lambda: HedgeData.pairs(frame, [("KO", "KO")]))
    assert "no pair is given" in complaint(lambda: HedgeData.pairs(frame, []))
    assert "no pair is given" in complaint(lambda: HedgeData.all_pairs(frame[["KO"]]))
    assert "not sorted" in complaint(lambda: HedgeData.all_pairs(frame[::-1]))
    assert "more than once" in complaint(lambda: HedgeData.all_pairs(frame.iloc[[0, 1, 1, 2]]))
    assert "transform must be" in complaint(lambda: HedgeData.all_pairs(frame, transform="logs"))
    doubled = pd.concat([frame, frame[["KO"]]], axis=1)
    assert "several columns" in complaint(lambda: HedgeData.pairs(doubled, [("KO", "PEP")]))
    renamed = frame.rename(columns={"KO": "alpha"})
    assert "names a coefficient" in complaint(lambda: HedgeData.all_pairs(renamed))
    one = HedgeData.all_pairs(frame)
    assert "not among the" in complaint(lambda: one.data("KO/KOO"))
    assert "not among the" in complaint(lambda: one.data(("KO", "KO")))


def test_what_is_no_table_and_no_pair_is_said_in_words():
    frame = table()
    array: Any = frame.to_numpy()
    for make in (
        lambda: HedgeData.all_pairs(array),
        lambda: HedgeData.one_target(array, "KO"),
        lambda: HedgeData.pairs(array, [("KO", "PEP")]),
    ):
        assert "must be a pandas DataFrame" in complaint(make)
    for odd in ("KO/PEP", ("KO", "PEP", "SPX"), ("KO",), 3):
        odd_pairs: Any = [("PEP", "KO"), odd]
        said = complaint(lambda given=odd_pairs: HedgeData.pairs(frame, given))
        assert "(target, hedge)" in said
        assert repr(odd) in said


def test_tickers_need_not_be_text():
    frame = table().iloc[:, :3]
    frame.columns = pd.Index([1, 2, 3])
    pairs = HedgeData.all_pairs(frame)
    assert pairs.names[0] == "1/2"
    assert pairs.data("1/2").target == "1"
    twice: Any = [(1, 2), (1, 2)]
    assert "1/2 is named twice" in complaint(lambda: HedgeData.pairs(frame, twice))


def test_two_pairs_of_one_name_are_refused():
    frame = table().iloc[:, :4]
    frame.columns = ["A", "B/C", "A/B", "C"]
    given = [("A", "B/C"), ("A/B", "C")]
    assert "A/B/C" in complaint(lambda: HedgeData.pairs(frame, given))


def test_the_table_is_looked_at_once_a_ticker(monkeypatch: pytest.MonkeyPatch):
    """Of 20,022 pairs of 142 tickers; counted, not timed."""
    rng = np.random.default_rng(2)
    moves = rng.normal(0, 0.01, (40, 142)).cumsum(0)
    frame = pd.DataFrame(np.exp(moves), columns=[f"T{number}" for number in range(142)])
    counts: dict[str, int] = {}
    for name in ("check_table", "check_columns", "check_index", "check_prices"):
        check = getattr(checks, name)

        def counted(*args: Any, name: str = name, check: Any = check) -> None:
            counts[name] = counts.get(name, 0) + 1
            check(*args)

        for module in (hedge_data, hedge_pairs):
            monkeypatch.setattr(module, name, counted, raising=False)
    pairs = HedgeData.all_pairs(frame)
    assert len(pairs) == 142 * 141
    assert counts == {"check_table": 2, "check_columns": 1, "check_index": 1, "check_prices": 142}
    # and one pair of them is found without a look at the others
    assert pairs.data("T141/T140").target == "T141"
    monkeypatch.setattr(HedgePairs, "names", property(lambda _: pytest.fail("all were listed")))
    assert pairs.data("T140/T141").target == "T140"
