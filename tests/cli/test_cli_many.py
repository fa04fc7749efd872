"""`kfmodels fit-many` and `kfmodels board` in this process, on made-up fits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from kfmodels import Discounted, HedgeBoard, rank_hedges
from kfmodels.batch import fit_many as batch
from kfmodels.cli.cli import app
from kfmodels.data import datasets
from tests import made_chunks

TICKERS = ["MTUM", "QUAL", "SIZE", "USMV"]
TRAIN, LATER = 120, 40


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Made-up draws in the place of the fits."""
    monkeypatch.setattr(batch, "fit_chunk", made_chunks.fit_chunk)


def kfmodels(*arguments: Any, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [str(part) for part in arguments])
    assert done.exit_code == code, done.output
    return done


def said(done: Any) -> str:
    """The one sentence on stderr."""
    *progress, last = done.stderr.splitlines()
    assert last.startswith("error: ")
    assert all(line.startswith("fitting ") for line in progress)
    return last


@pytest.fixture
def prices() -> pd.DataFrame:
    table = datasets.factor_etfs()[TICKERS].iloc[: TRAIN + LATER].copy()
    table["BAD"] = table["QUAL"].where(table.index != table.index[5], 0.0)
    return table


@pytest.fixture
def folder(tmp_path, prices) -> Path:
    """A folder with the prices and a board of the first of them."""
    prices.to_csv(tmp_path / "all.csv")
    until = prices.index[TRAIN - 1].date()
    kfmodels("fit-many", tmp_path / "all.csv", "--store", tmp_path / "pairs", "--until", until)
    return tmp_path


def many(tmp_path: Path, count: int, rows: int = 60) -> Path:
    """A store of all pairs of many tickers."""
    moves = np.random.default_rng(1).normal(0, 0.01, (rows, count))
    moves += np.random.default_rng(2).normal(0, 0.01, (rows, 1))
    names = [f"T{number:02d}" for number in range(count)]
    table = pd.DataFrame(np.exp(moves.cumsum(0)), pd.bdate_range("2024-01-01", periods=rows), names)
    table.to_csv(tmp_path / "many.csv")
    kfmodels("fit-many", tmp_path / "many.csv", "--store", tmp_path / "many", "--chunk-size", 64)
    return tmp_path / "many"


# -- fit-many --------------------------------------------------------------------------------------


def test_fit_many_ends_with_the_board_and_goes_on_by_itself(folder, prices, monkeypatch):
    until = prices.index[TRAIN - 1].date()
    arguments = ["fit-many", folder / "all.csv", "--store", folder / "pairs", "--until", until]

    def again(*_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is left to fit")

    monkeypatch.setattr(batch, "fit_chunk", again)
    done = kfmodels(*arguments)
    assert done.stderr.startswith("fitting HedgePairs(20 pairs of 5 tickers; log; 120 rows")
    assert done.stdout == kfmodels("board", folder / "pairs").stdout
    assert done.stdout.startswith(f"12 of 20 pairs fitted on prices until {until}\n")
    assert "error: " in kfmodels(*arguments, "--seed", 1, code=2).stderr


def test_what_is_fitted_is_what_was_asked_for(folder):
    store = folder / "one"
    options = ["--target", "QUAL", "--transform", "level", "--discounted", "--chunk-size", 2]
    kfmodels("fit-many", folder / "all.csv", "--store", store, *options, "--seed", 5)
    board = HedgeBoard.open(store)
    assert board.pairs.names == ["QUAL/MTUM", "QUAL/SIZE", "QUAL/USMV", "QUAL/BAD"]
    assert board.pairs.transform == "level"
    assert board.model.noise == Discounted()
    assert (board.store.job["chunk_size"], board.store.job["seed"]) == (2, 5)
    text = kfmodels("board", store).stdout
    assert "shares of the hedge per one of the target" in text
    assert "--transform level --discounted" in text


def test_prices_after_until_spoil_nothing(folder, prices):
    """A bad print later than the last date is not a fault of the ticker."""
    prices.iloc[-1, 0] = 0.0
    prices.to_csv(folder / "late.csv")
    until = prices.index[TRAIN - 1].date()
    kfmodels("fit-many", folder / "late.csv", "--store", folder / "late", "--until", until)
    assert HedgeBoard.open(folder / "late").status["MTUM/QUAL"] == "ok"


def test_ctrl_c_keeps_what_is_finished(folder, monkeypatch):
    def interrupted(pairs: Any, numbers: list[int], *rest: Any, size: int) -> Any:
        if numbers[0] == 2:
            raise KeyboardInterrupt
        return made_chunks.fit_chunk(pairs, numbers, *rest, size=size)

    monkeypatch.setattr(batch, "fit_chunk", interrupted)
    monkeypatch.setattr(batch, "_threads", lambda: 1)
    arguments = ["fit-many", folder / "all.csv", "--store", folder / "cut", "--target", "MTUM"]
    done = kfmodels(*arguments, "--chunk-size", 1, code=130)
    assert "chunks are finished and kept in" in done.stderr
    assert "run the same call again to go on from there" in done.stderr
    assert "Traceback" not in done.output
    waiting = kfmodels("board", folder / "cut").stdout
    assert "not fitted yet: run fit_many again with this store" in waiting
    assert f"go on       kfmodels fit-many PRICES.csv --store {folder / 'cut'}" in waiting
    monkeypatch.setattr(batch, "fit_chunk", made_chunks.fit_chunk)
    assert kfmodels(*arguments).stdout.startswith("3 of 4 pairs fitted")


def test_a_cluster_lends_its_executor(folder, monkeypatch):
    distributed = pytest.importorskip("distributed")
    from concurrent.futures import ThreadPoolExecutor

    asked = []

    class Client:
        def __init__(self, address: str) -> None:
            asked.append(address)

        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: Any) -> None:
            asked.append("closed")

        def get_executor(self) -> ThreadPoolExecutor:
            asked.append("executor")
            return ThreadPoolExecutor(1)

    monkeypatch.setattr(distributed, "Client", Client)
    arguments = ["fit-many", folder / "all.csv", "--store", folder / "dask"]
    kfmodels(*arguments, "--target", "MTUM", "--cluster", "tcp://here:8786")
    assert asked == ["tcp://here:8786", "executor", "closed"]


def test_errors_are_one_sentence(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    given = ["fit-many", folder / "all.csv", "--store", folder / "new"]
    for arguments, words in (
        ([*given, "--cluster", "x:1"], "pip install 'kfmodels[cluster]'"),
        ([*given, "--target", "MTUN"], "MTUN is not among the 5 columns"),
        ([*given, "--until", "soon"], "--until soon is no date"),
        ([*given, "--until", "1999-12-31"], "no prices up to 1999-12-31"),
        (["fit-many", folder / "no.csv", "--store", folder / "new"], "no.csv"),
        (["board", folder / "new"], "holds no batch of fits"),
        (["board", folder / "pairs", "--target", "MTUN"], "MTUN is not among the 5 targets"),
        (["board", folder / "pairs", "--later", "x.csv"], "name it with --target"),
        (["board", folder / "pairs", "--csv", folder / "no" / "x.csv"], "there is no folder"),
        (
            ["board", folder / "pairs", "--target", "BAD", "--later", folder / "all.csv"],
            "no pair of BAD was fitted",
        ),
    ):
        assert words in said(kfmodels(*arguments, code=2))
    assert not (folder / "new").exists()


def test_a_night_in_which_nothing_was_fitted_is_an_error(folder):
    arguments = ["fit-many", folder / "all.csv", "--store", folder / "none", "--target", "BAD"]
    done = kfmodels(*arguments, code=2)
    assert said(done) == "error: no pair was fitted: the lines above say why"
    assert done.stdout.startswith("0 of 4 pairs fitted")
    assert "BAD is 0 at" in done.stdout


# -- board -----------------------------------------------------------------------------------------


def test_a_small_board_is_a_matrix(folder):
    text = kfmodels("board", folder / "pairs").stdout
    board = HedgeBoard.open(folder / "pairs")
    assert text.startswith(str(board))
    for name, row in board.table().loc[board.status == "ok"].iterrows():
        line = next(one for one in text.splitlines() if one.startswith(f"  {row['target']} "))
        assert f"{row['beta']:.3g} ({row['sd']:.2g})" in line, name
    for words in ("one target", "one pair", "live", "refit"):
        assert f"\n  {words}" in text
    z = board.table()["z"].dropna()
    assert f"{(z.abs() > 2).sum()} of {len(z)} spreads were beyond 2 sd on" in text


@pytest.mark.slow
def test_a_process_of_its_own_shows_the_same_board(folder):
    arguments = ["board", str(folder / "pairs")]
    given = [sys.executable, "-m", "kfmodels", *arguments]
    done = subprocess.run(given, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == kfmodels(*arguments).stdout


def test_a_large_board_shows_both_ends(tmp_path):
    store = many(tmp_path, 12)
    text = kfmodels("board", store, "--top", 3).stdout
    table = HedgeBoard.open(store).table()
    order = (table["sd"] / table["beta"].abs()).sort_values().index
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("  T")]
    assert shown == [*order[:3], *order[-3:]]
    assert "the most certain" in text
    assert "the least certain" in text


def test_the_hedges_of_a_target_come_by_evidence(folder):
    text = kfmodels("board", folder / "pairs", "--target", "QUAL", "--top", 2).stdout
    table = HedgeBoard.open(folder / "pairs").table()
    best = table[table["target"] == "QUAL"].sort_values("log_evidence", ascending=False)
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("  hedge "))
    first, second, after = lines[start + 1 : start + 4]
    assert first.split()[0] == best["hedge"].iloc[0]
    assert first.endswith("best")
    assert second.split()[0] == best["hedge"].iloc[1]
    assert second.endswith(f"{best['log_evidence'].iloc[0] - best['log_evidence'].iloc[1]:.1f}")
    assert after.startswith("behind: nats of evidence")
    assert "QUAL/BAD: BAD is 0 at" in text


def test_later_prices_rank_the_hedges(folder, prices):
    later = ["--target", "MTUM", "--later", folder / "all.csv"]
    text = kfmodels("board", folder / "pairs", *later, "--top", 2).stdout
    ranked = rank_hedges(HedgeBoard.open(folder / "pairs"), "MTUM", prices)
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("3 hedges of MTUM")
    assert [line[0] for line in lines[2:4]] == list(ranked.index[:2])
    best = ranked.iloc[0]
    assert lines[2][1:5] == [
        f"{best['log_score']:.4f}",
        f"{best['variance_removed']:.1%}",
        f"{best['static_removed']:.1%}",
        str(LATER),
    ]
    assert f"{ranked.index[0]} forecast MTUM best" in text
    assert "The best of 3 is flattered" in text
    found = json.loads(kfmodels("board", folder / "pairs", *later, "--json").stdout)
    assert [row["hedge"] for row in found["table"]] == list(ranked.index)
    assert found["table"][0]["log_score"] == pytest.approx(best["log_score"], rel=1e-12)


def test_programs_get_json_and_csv(folder):
    board = HedgeBoard.open(folder / "pairs")
    done = kfmodels("board", folder / "pairs", "--json", "--csv", folder / "board.csv")
    found = json.loads(done.stdout)
    assert (found["pairs"], found["fitted"]) == (20, 12)
    assert found["fit_until"] == str(board.fit_until)
    rows = {row["pair"]: row for row in found["table"]}
    table = board.table()
    assert rows["MTUM/QUAL"]["beta"] == table.loc["MTUM/QUAL", "beta"]
    assert rows["MTUM/QUAL"]["refitted"] is False
    assert rows["MTUM/BAD"]["beta"] is None
    assert rows["MTUM/BAD"]["status"] == "unusable"
    assert rows["MTUM/BAD"]["reason"].startswith("BAD is 0 at")
    written = pd.read_csv(folder / "board.csv", index_col="pair").fillna({"reason": ""})
    pd.testing.assert_frame_equal(written, table, check_exact=False, rtol=1e-12)
    text = kfmodels("board", folder / "pairs", "--target", "MTUM", "--csv", folder / "b.csv").stdout
    assert text.endswith(f"Saved 4 rows to {folder / 'b.csv'}\n")


def test_help_names_every_option():
    text = kfmodels("--help").stdout
    assert "fit-many" in text
    assert "board" in text
