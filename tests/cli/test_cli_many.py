"""`kfmodels fit-many` and `kfmodels board` in this process, on made-up fits."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest

from kfmodels import Constant, HedgeBoard, rank_hedges
from kfmodels.batch import fit_many as batch
from kfmodels.cli import board_report
from kfmodels.cli.remedies import for_the_shell
from tests import made_chunks
from tests.command import kfmodels

# -- fit-many --------------------------------------------------------------------------------------


def test_fit_many_ends_with_the_board_and_goes_on_by_itself(universe, until, monkeypatch):
    def again(*_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is left to fit")

    monkeypatch.setattr(batch, "fit_chunk", again)
    arguments = ["fit-many", "all.csv", "--store", "pairs", "--until", until]
    done = kfmodels(*arguments, folder=universe)
    read, fitting = done.stderr.splitlines()[:2]
    assert read.startswith("all.csv: 120 rows from ")
    assert read.endswith(", one every business day")
    assert fitting.startswith("fitting HedgePairs(20 pairs of 5 tickers; log; 120 rows")
    assert done.stdout == kfmodels("board", universe / "pairs").stdout
    assert done.stdout.startswith(f"12 of 20 pairs fitted on prices until {until}\n")
    assert "error: " in kfmodels(*arguments, "--seed", 1, folder=universe, code=2).stderr


def test_what_is_fitted_is_what_was_asked_for(universe):
    options = ["--target", "QUAL", "--transform", "level", "--constant", "--chunk-size", 2]
    kfmodels("fit-many", "all.csv", "--store", "one", *options, "--seed", 5, folder=universe)
    board = HedgeBoard.open(universe / "one")
    assert board.pairs.names == ["QUAL/MTUM", "QUAL/SIZE", "QUAL/USMV", "QUAL/BAD"]
    assert board.pairs.transform == "level"
    assert board.model.noise == Constant()
    assert (board.store.job["chunk_size"], board.store.job["seed"]) == (2, 5)
    text = kfmodels("board", "one", folder=universe).stdout
    assert "shares of the hedge per share of the target" in text
    assert "--transform level --constant" in text


def test_a_split_in_the_prices_leads_the_board_and_repair_settles_it(tmp_path, funds, until, quick):
    day = str(funds.index[60].date())
    split = funds.drop(columns="BAD")
    split.iloc[:60, 3] *= 4
    split.to_csv(tmp_path / "split.csv")
    arguments = ["fit-many", "split.csv", "--until", until, "--store"]
    done = kfmodels(*arguments, "raw", folder=tmp_path)
    assert f"--repair USMV:{day}:1/4" in done.stderr
    first, doubt = done.stdout.splitlines()[:2]
    assert first == f"12 of 12 pairs fitted on prices until {until}"
    assert doubt.startswith("  in doubt, 6 pairs: USMV went from")
    assert "? where the lines above doubt it" in done.stdout
    listed = kfmodels("board", "raw", "--target", "USMV", folder=tmp_path).stdout
    assert "  USMV/MTUM: USMV went from" in listed
    table = json.loads(kfmodels("board", "raw", "--json", folder=tmp_path).stdout)["table"]
    assert {row["pair"] for row in table if row["doubts"]} == {
        row["pair"] for row in table if "USMV" in (row["target"], row["hedge"])
    }
    options = ["--repair", f"USMV:{day}:1/4"]
    done = kfmodels(*arguments, "repaired", *options, folder=tmp_path)
    assert "in doubt" not in done.stdout + done.stderr
    found = HedgeBoard.open(tmp_path / "repaired").pairs.prices
    pd.testing.assert_frame_equal(
        found, funds.loc[:until].drop(columns="BAD"), check_freq=False, check_names=False
    )
    assert (
        "is no factor"
        in kfmodels(
            *arguments, "wrong", "--repair", f"USMV:{day}:x", folder=tmp_path, code=2
        ).stderr
    )


def test_prices_after_until_spoil_nothing(tmp_path, funds, until, quick):
    """A bad print later than the last date is not a fault of the ticker."""
    late = funds.copy()
    late.iloc[-1, 0] = 0.0
    late.to_csv(tmp_path / "late.csv")
    kfmodels("fit-many", "late.csv", "--store", "late", "--until", until, folder=tmp_path)
    assert HedgeBoard.open(tmp_path / "late").status["MTUM/QUAL"] == "ok"


def test_ctrl_c_keeps_what_is_finished(universe, monkeypatch):
    def interrupted(pairs: Any, numbers: list[int], *rest: Any, **options: Any) -> Any:
        if numbers[0] == 2:
            raise KeyboardInterrupt
        return made_chunks.fit_chunk(pairs, numbers, *rest, **options)

    monkeypatch.setattr(batch, "fit_chunk", interrupted)
    monkeypatch.setattr(batch, "_threads", lambda: 1)
    arguments = ["fit-many", "all.csv", "--store", "cut", "--target", "MTUM"]
    done = kfmodels(*arguments, "--chunk-size", 1, folder=universe, code=130)
    assert "chunks are finished and kept in" in done.stderr
    assert "run the same call again to go on from there" in done.stderr
    assert "Traceback" not in done.output
    waiting = kfmodels("board", "cut", folder=universe).stdout
    assert "not fitted yet: run fit_many again with this store" in waiting
    assert "go on       kfmodels fit-many PRICES.csv --store cut" in waiting
    monkeypatch.setattr(batch, "fit_chunk", made_chunks.fit_chunk)
    assert kfmodels(*arguments, folder=universe).stdout.startswith("3 of 4 pairs fitted")


def test_a_cluster_lends_its_executor(universe, monkeypatch):
    distributed, client = pytest.importorskip("distributed"), MagicMock()
    entered = client.return_value.__enter__.return_value
    entered.get_executor.return_value = ThreadPoolExecutor(1)
    monkeypatch.setattr(distributed, "Client", client)
    arguments = ["fit-many", "all.csv", "--store", "dask", "--target", "MTUM"]
    kfmodels(*arguments, "--cluster", "tcp://here:8786", folder=universe)
    client.assert_called_once_with("tcp://here:8786")
    entered.get_executor.assert_called_once_with()
    client.return_value.__exit__.assert_called_once()


def test_a_night_in_which_nothing_was_fitted_is_an_error(universe):
    arguments = ["fit-many", "all.csv", "--store", "none", "--target", "BAD"]
    done = kfmodels(*arguments, folder=universe, code=2)
    assert done.stderr.endswith("error: no pair was fitted: the lines above say why\n")
    assert done.stdout.startswith("0 of 4 pairs fitted")
    assert "BAD is 0 at" in done.stdout


# -- board -----------------------------------------------------------------------------------------


def test_a_small_board_is_a_matrix(universe):
    text = kfmodels("board", "pairs", folder=universe).stdout
    board = HedgeBoard.open(universe / "pairs")
    assert text.startswith(for_the_shell(str(board)))
    for name, row in board.table().loc[board.status == "ok"].iterrows():
        line = next(one for one in text.splitlines() if one.startswith(f"  {row['target']} "))
        assert f"{row['beta']:.3g} ({row['sd']:.2g})" in line, name
    for words in ("one target", "one pair", "live", "refit"):
        assert f"\n  {words}" in text
    z = board.table()["z"].dropna()
    assert f"{(z.abs() > 2).sum()} of {len(z)} spreads were beyond 2 sd on" in text


def test_a_large_board_shows_both_ends(tmp_path, quick):
    moves = np.random.default_rng(1).normal(0, 0.01, (60, 12))
    moves += np.random.default_rng(2).normal(0, 0.01, (60, 1))
    names = [f"T{number:02d}" for number in range(12)]
    table = pd.DataFrame(np.exp(moves.cumsum(0)), pd.bdate_range("2024-01-01", periods=60), names)
    table.to_csv(tmp_path / "many.csv")
    kfmodels("fit-many", "many.csv", "--store", "many", "--chunk-size", 64, folder=tmp_path)
    text = kfmodels("board", "many", "--top", 3, folder=tmp_path).stdout
    table = HedgeBoard.open(tmp_path / "many").table()
    order = (table["sd"] / table["beta"].abs()).sort_values().index
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("  T")]
    assert shown == [*order[:3], *order[-3:]]
    assert "the most certain" in text
    assert "the least certain" in text


def test_the_hedges_of_a_target_come_by_evidence(universe):
    text = kfmodels("board", "pairs", "--target", "QUAL", "--top", 2, folder=universe).stdout
    table = HedgeBoard.open(universe / "pairs").table()
    best = table[table["target"] == "QUAL"].sort_values("log_evidence", ascending=False)
    behind = best["log_evidence"].iloc[0] - best["log_evidence"]
    listed = text[text.index("  hedge ") :].splitlines()
    for line, hedge, nats in zip(listed[1:3], best["hedge"], behind, strict=False):
        assert line.split()[0] == hedge
        assert line.split()[-1] == f"{nats:.1f}"
    assert listed[3].startswith("behind: nats of evidence")
    assert "QUAL/BAD: BAD is 0 at" in text


def test_later_prices_rank_the_hedges(universe, funds, until):
    arguments = ["board", "pairs", "--target", "MTUM", "--later", "all.csv"]
    text = kfmodels(*arguments, "--top", 2, folder=universe).stdout
    ranked = rank_hedges(HedgeBoard.open(universe / "pairs"), "MTUM", funds)
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("3 hedges of MTUM")
    assert [line[0] for line in lines[2:4]] == list(ranked.index[:2])
    best = ranked.iloc[0]
    assert lines[2][1:5] == [
        f"{best['log_score']:.4f}",
        f"{best['variance_removed']:.1%}",
        f"{best['static_removed']:.1%}",
        str(len(funds.loc[until:]) - 1),
    ]
    assert f"{ranked.index[0]} forecast MTUM best" in text
    assert "Being chosen flatters the best of 3" in text
    found = json.loads(kfmodels(*arguments, "--json", folder=universe).stdout)
    assert [row["hedge"] for row in found["table"]] == list(ranked.index)
    assert found["table"][0]["log_score"] == pytest.approx(best["log_score"], rel=1e-12)


def test_programs_get_json_and_csv(universe):
    board = HedgeBoard.open(universe / "pairs")
    table = board.table()
    done = kfmodels("board", "pairs", "--json", "--csv", "board.csv", folder=universe)
    found = json.loads(done.stdout)
    assert (found["pairs"], found["fitted"]) == (20, 12)
    assert found["fit_until"] == board.fit_until.isoformat()
    rows = {row["pair"]: row for row in found["table"]}
    assert rows["MTUM/QUAL"]["beta"] == table.loc["MTUM/QUAL", "beta"]
    assert rows["MTUM/QUAL"]["refitted"] is False
    assert rows["MTUM/BAD"]["beta"] is None
    assert rows["MTUM/BAD"]["status"] == "unusable"
    assert rows["MTUM/BAD"]["reason"].startswith("BAD is 0 at")
    written = pd.read_csv(universe / "board.csv", index_col="pair", dtype={"doubts": "str"})
    written = written.fillna({"doubts": "", "reason": ""})
    table["reason"] = table["reason"].map(for_the_shell)  # what programs show is read in a shell
    pd.testing.assert_frame_equal(written, table, check_exact=False, rtol=1e-12)
    text = kfmodels("board", "pairs", "--target", "MTUM", "--csv", "b.csv", folder=universe).stdout
    assert text.endswith("Saved 4 rows to b.csv\n")


def test_a_ranking_tells_what_few_of_the_hedges_would_have_removed():
    columns = {"log_score": [3.2, 3.1], "variance_removed": [0.05, 0.04]}
    columns |= {"static_removed": [0.04, 0.03], "best_1": [0.61, 0.6], "best_3": [0.71, 0.7]}
    table = pd.DataFrame(columns, ["LQD", "TLT"]).assign(best_3_legs="SPY, XLB, VPL")
    said = " ".join(board_report.best_hedge("XLE", table).split())
    assert "the best leg, chosen anew as they went by, would have removed 61.0%" in said
    assert "the best three (mostly SPY, XLB, VPL) 71.0%." in said
    unknown = table.assign(best_1=np.nan, best_3=np.nan, best_3_legs="")
    assert "chosen anew" not in board_report.best_hedge("XLE", unknown)
