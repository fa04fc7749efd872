"""`rank_hedges` against a plain loop over the filters of the pairs, on made-up fits."""

import re
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from kfmodels import HedgeBoard, HedgeData, rank_hedges
from kfmodels.batch import fit_many as batch
from kfmodels.batch.few_legs import hold_few
from kfmodels.batch.fit_many import fit_many
from kfmodels.data import datasets
from tests import made_chunks

TRAIN, LATER = 120, 60


def prices() -> pd.DataFrame:
    """A target, three hedges, one of which is missing now and then, and one that cannot be used."""
    table = datasets.factor_etfs().iloc[: TRAIN + LATER].copy()
    table["BAD"] = table["QUAL"].where(np.arange(len(table)) != 5, np.inf)
    table.iloc[[TRAIN - 4, TRAIN + 3, TRAIN + 4, TRAIN + 31], 2] = np.nan
    return table[["MTUM", "QUAL", "SIZE", "VLUE", "BAD"]]


@pytest.fixture(params=["log", "level", "return"])
def board(request) -> Iterator[HedgeBoard]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(batch, "fit_chunk", made_chunks.fit_chunk)
        pairs = HedgeData.one_target(prices().iloc[:TRAIN], "MTUM", transform=request.param)
        yield fit_many(pairs, progress=False)


def by_hand(board: HedgeBoard, hedge: str) -> dict[str, float]:
    """One hedge, one filter, one row after the other; variances of NumPy."""
    table, transform = prices()[["MTUM", hedge]], board.pairs.transform
    live = board.online().filter(f"MTUM/{hedge}")
    now, held, scores, tick = board.table().loc[f"MTUM/{hedge}", "beta"], [], [], None
    for at, (y, x) in table.iloc[TRAIN:].iterrows():
        held.append(now)
        tick = live.update(y=y, x=[x], at=at)
        scores.append(tick.log_score)
        now = tick.beta[hedge]
    moves = table.diff() if transform == "level" else table / table.shift(1) - 1
    train, later = moves.iloc[:TRAIN].dropna(), moves.iloc[TRAIN:]
    static = np.polyfit(train[hedge], train["MTUM"], 1)[0]

    def removed(ratio: np.ndarray | float) -> float:
        both = pd.DataFrame({"y": later["MTUM"], "left": later["MTUM"] - ratio * later[hedge]})
        both = both.dropna().to_numpy()
        return 1 - np.var(both[:, 1]) / np.var(both[:, 0])

    return {
        "log_score": np.nanmean(scores),
        "variance_removed": removed(np.array(held)),
        "static_removed": removed(static),
        "best_1": np.nan,  # no leg is old enough
        "best_3": np.nan,
        "bars": np.isfinite(scores).sum(),
        "beta": tick.beta[hedge],
        "sd": tick.sd_total[hedge],
    }


def test_the_ranking_is_that_of_a_plain_loop_over_later_rows(board):
    ranked = rank_hedges(board, "MTUM", prices())
    expected = pd.DataFrame({name: by_hand(board, name) for name in ("QUAL", "SIZE", "VLUE")}).T
    expected = expected.sort_values("log_score", ascending=False)
    assert list(ranked.index) == list(expected.index)
    numbers = ranked.drop(columns="best_3_legs")
    assert list(numbers.columns) == list(expected.columns)
    assert_allclose(numbers.astype(float), expected, rtol=1e-9)
    assert ranked.loc["SIZE", "bars"] < ranked.loc["QUAL", "bars"] == LATER
    for top in (2, None):
        assert list(rank_hedges(board, "MTUM", prices(), top=top).index) == list(ranked.index[:top])


@pytest.mark.variants
def test_hedges_stand_beside_the_best_few_of_them_in_their_own_bars(board):
    """With enough rows before the end of the fit for a leg."""
    table = datasets.factor_etfs().iloc[:400][["MTUM", "QUAL", "SIZE", "VLUE"]].copy()
    table.iloc[[350, 380], 2] = np.nan
    transform = board.pairs.transform
    pairs = HedgeData.one_target(table.iloc[:300], "MTUM", transform=str(transform))
    ranked = rank_hedges(fit_many(pairs, progress=False), "MTUM", table)
    moves = transform.moves(table, table.shift(1))
    found = hold_few(table, "MTUM", ["QUAL", "SIZE", "VLUE"], transform=transform)
    for few, left in zip((1, 3), found.left, strict=True):
        for hedge in ranked.index:
            bars = moves[["MTUM", hedge]].notna().all(axis=1).to_numpy() & (np.arange(400) >= 300)
            expected = 1 - np.var(left[bars]) / np.var(moves["MTUM"].to_numpy()[bars])
            assert_allclose(ranked.loc[hedge, f"best_{few}"], expected, rtol=1e-9)
    assert set(ranked["best_3_legs"].iloc[0].split(", ")) == {"QUAL", "SIZE", "VLUE"}


def test_a_split_after_the_fit_is_told_and_repaired(board):
    """The table of prices in which it never was; beside it a bad print becomes a gap."""
    right = prices()
    split = right.copy()
    split.iloc[TRAIN + 20 :, 0] *= 4
    split.iloc[TRAIN + 40, 1] *= 5
    right.iloc[TRAIN + 40, 1] = np.nan
    with pytest.warns(UserWarning, match=r"MTUM went from .*, about 4 times") as caught:
        raw = rank_hedges(board, "MTUM", split)
    (warning,) = caught
    assert warning.filename == __file__
    (given,) = re.findall(r"repair=(\{.*?\}\})", str(warning.message))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranked = rank_hedges(board, "MTUM", split, repair=eval(given))
        expected = rank_hedges(board, "MTUM", right)
    pd.testing.assert_frame_equal(ranked, expected, rtol=1e-10)
    assert raw["log_score"].lt(expected["log_score"]).all()


def test_what_is_in_doubt_before_the_end_of_the_fit_is_not_told_again(board):
    old = prices()
    old.iloc[: TRAIN // 2, 0] *= 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rank_hedges(board, "MTUM", old)


@pytest.mark.slow
def test_whole_numbers_as_tickers_are_their_text(board):
    numbers = [7203, 9984, 6758, 6501, 8306]
    ranked = []
    for names in (numbers, [str(number) for number in numbers]):
        table = prices().set_axis(names, axis=1)
        transform = str(board.pairs.transform)
        pairs = HedgeData.one_target(table.iloc[:TRAIN], names[0], transform=transform)
        ranked.append(rank_hedges(fit_many(pairs, progress=False), names[0], table))
    pd.testing.assert_frame_equal(*ranked)
    assert set(ranked[0].index) == {"9984", "6758", "6501"}
