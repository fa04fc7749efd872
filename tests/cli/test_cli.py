"""The command as it is typed: real files, and a real process where the process is the point."""

import json
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from kfmodels import HedgeData, OnlineFilter, follow, load
from kfmodels.cli.cli import app
from kfmodels.data import datasets
from tests.problems import unsampled


def kfmodels(*arguments: str, folder: Path, code: int = 0) -> Any:
    with chdir(folder):
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return done


def process(*arguments: str, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "kfmodels", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return datasets.stocks()[["XOM", "CVX"]].loc["2021":"2022"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, prices) -> Path:
    """A folder with a fit of 2021 that cost no sampling, and the later prices in two formats."""
    folder = tmp_path_factory.mktemp("desk")
    year = HedgeData.from_prices(prices.loc["2021"], target="XOM", hedges=["CVX"])
    unsampled(year).save(folder / "pair.nc")
    prices.to_csv(folder / "all.csv")
    prices.loc["2022-01"].to_csv(folder / "later.csv")
    prices.loc["2022-01":"2022-02"].to_parquet(folder / "later.parquet")
    return folder


@pytest.mark.slow
def test_fit_says_what_it_found_and_what_to_do_next(folder):
    arguments = ["--target", "XOM", "--hedges", "CVX", "--until", "2021-12-31", "--out", "mine.nc"]
    done = kfmodels("fit", "all.csv", *arguments, folder=folder)
    assert "XOM hedged with CVX: log prices, 252 rows 2021-01-04 .. 2021-12-31" in done.stdout
    assert "kfmodels update mine.nc --prices" in done.stdout
    said = done.stdout[done.stdout.index("Inferred noise") : done.stdout.index("Saved")]
    assert said.rstrip() in kfmodels("show", "mine.nc", folder=folder).stdout


def test_show_says_what_the_fit_holds(folder):
    text = kfmodels("show", "pair.nc", folder=folder).stdout
    assert "Inferred noise" in text
    found = json.loads(kfmodels("show", "pair.nc", "--json", folder=folder).stdout)
    fitted = load(folder / "pair.nc")
    assert found["fit_until"].startswith("2021-12-31")
    assert found["hedge_ratio"]["CVX"]["mean"] == fitted.hedge_ratio()["mean"].iloc[-1]
    assert found["noise"]["CVX"]["delta"] == fitted.summary().loc["CVX", "delta"]


@pytest.mark.slow
def test_a_process_of_its_own_says_the_same_and_ends_with_its_code(folder):
    asked = ("show", "pair.nc", "--json")
    assert process(*asked, folder=folder).stdout == kfmodels(*asked, folder=folder).stdout
    wrong = ("show", "nothing.nc")
    here = kfmodels(*wrong, folder=folder, code=2)
    done = process(*wrong, folder=folder, code=2)
    assert (done.stdout, done.stderr) == (here.stdout, here.stderr)


def test_update_runs_on_from_where_it_stood(folder, prices):
    """January from csv, then January and February from parquet: each row counts once."""
    (folder / "pair.nc.live.json").unlink(missing_ok=True)
    first = kfmodels("update", "pair.nc", "--prices", "later.csv", folder=folder)
    assert "20 rows taken, up to 2022-01-31" in first.stdout
    second = kfmodels("update", "pair.nc", "--prices", "later.parquet", "--json", folder=folder)
    ticks = [json.loads(line) for line in second.stdout.splitlines()]
    assert len(ticks) == len(prices.loc["2022-02"])
    again = kfmodels("update", "pair.nc", "--prices", "later.parquet", folder=folder)
    assert "nothing later than 2022-02-28" in again.stdout
    table = follow(load(folder / "pair.nc").online(), prices.loc["2022-01":"2022-02"])
    assert ticks[-1]["beta"]["CVX"] == pytest.approx(table["beta CVX"].iloc[-1], rel=1e-12)
    assert ticks[-1]["z"] == pytest.approx(table["z"].iloc[-1], rel=1e-9)


def test_update_takes_one_tick(folder):
    (folder / "pair.nc.live.json").unlink(missing_ok=True)
    arguments = ["--tick", "XOM=57.3", "--tick", "CVX=112.4", "--at", "2022-01-03", "--json"]
    tick = json.loads(kfmodels("update", "pair.nc", *arguments, folder=folder).stdout)
    assert tick["observed"]
    live = load(folder / "pair.nc").online()
    expected = live.update(y=57.3, x=[112.4], at=pd.Timestamp("2022-01-03"))
    assert tick["beta"] == pytest.approx(expected.beta, rel=1e-12)
    kept = OnlineFilter.load(folder / "pair.nc.live.json")
    np.testing.assert_array_equal(kept.state()["mean"], live.state()["mean"])
    missing = ["--tick", "XOM=nan", "--tick", "CVX=112.4", "--at", "2022-01-04"]
    text = kfmodels("update", "pair.nc", *missing, folder=folder).stdout
    assert "a price was missing" in text


def test_an_error_is_a_sentence_and_changes_nothing(folder):
    (folder / "pair.nc.live.json").unlink(missing_ok=True)
    at = ("--at", "2022-01-03")
    for arguments, words in {
        ("show", "nothing.nc"): "there is no file nothing.nc",
        ("show", "all.csv"): "all.csv is not a saved fit",
        ("update", "pair.nc"): "give either --prices FILE or --tick",
        ("update", "pair.nc", "--tick", "XOM=57"): "give the time of the tick with --at",
        ("update", "pair.nc", "--tick", "XOM=57", *at): "no price of CVX",
        ("update", "pair.nc", "--tick", "XOM", *at): "is not TICKER=PRICE",
        ("update", "pair.nc", "--tick", "XOM=-1", "--tick", "CVX=1", *at): "XOM has the price -1",
        (
            "fit",
            "all.csv",
            "--target",
            "XOM",
            "--hedges",
            "CVX",
            "--out",
            "no/x.nc",
        ): "no folder no",
        (
            "fit",
            "all.csv",
            "--target",
            "XON",
            "--hedges",
            "CVX",
            "--out",
            "x.nc",
        ): "XON is not among",
        ("fit", "no.csv", "--target", "XOM", "--hedges", "CVX", "--out", "x.nc"): "no.csv",
    }.items():
        done = kfmodels(*arguments, folder=folder, code=2)
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not (folder / "pair.nc.live.json").exists()
    assert not (folder / "x.nc").exists()


def test_dates_that_are_none_are_named(folder):
    (folder / "text.csv").write_text("day,XOM,CVX\nMonday,1,2\n")
    arguments = ("fit", "text.csv", "--target", "XOM", "--hedges", "CVX", "--out", "x.nc")
    done = kfmodels(*arguments, folder=folder, code=2)
    assert "the first column of text.csv should hold dates" in done.stderr


def test_dates_are_read_as_they_are_written(folder, prices):
    """20220103, New York offsets that change with the season, and dates as text in parquet."""
    from kfmodels.cli.shell import read_prices as _read

    table = prices.loc["2022"]
    table.set_axis(table.index.strftime("%Y%m%d")).to_csv(folder / "numbers.csv")
    assert list(_read(folder / "numbers.csv").index) == list(table.index)
    york = table.tz_localize("America/New_York")
    york.to_csv(folder / "york.csv")
    assert list(_read(folder / "york.csv").index) == list(york.index)
    table.set_axis(table.index.strftime("%Y-%m-%d")).to_parquet(folder / "text.parquet")
    assert list(_read(folder / "text.parquet").index) == list(table.index)
    table.reset_index(drop=True).to_csv(folder / "rows.csv")
    with pytest.raises(ValueError, match=r"first column of .*rows.csv should hold dates"):
        _read(folder / "rows.csv")


def test_the_live_filter_of_another_fit_is_not_continued(folder):
    (folder / "pair.nc.live.json").unlink(missing_ok=True)
    live = load(folder / "pair.nc").online()
    live.fit_id = "another"
    live.save(folder / "pair.nc.live.json")
    done = kfmodels("update", "pair.nc", "--prices", "later.csv", folder=folder, code=2)
    assert "goes on from another fit than pair.nc" in done.stderr


@pytest.mark.slow
def test_demo_does_the_main_job(tmp_path):
    text = kfmodels("demo", folder=tmp_path).stdout
    assert {path.name for path in (tmp_path / "kfmodels-demo").iterdir()} == {
        "aapl-spx.nc",
        "aapl-spx.nc.live.json",
        "aapl-spx.png",
    }
    for words in ("Inferred noise", "ratio to SPX", "kfmodels, tick by tick", "Next ("):
        assert words in text
    fitted = load(tmp_path / "kfmodels-demo" / "aapl-spx.nc")
    live = OnlineFilter.load(tmp_path / "kfmodels-demo" / "aapl-spx.nc.live.json")
    later = datasets.stocks()[["AAPL", "SPX"]].loc["2022"]
    table = follow(fitted.online(), later)
    assert f"{table['beta SPX'].iloc[-1]:8.3f}" in text
    assert live.state()["mean"][0] == pytest.approx(table["beta SPX"].iloc[-1], rel=1e-12)
    tick = ["--tick", "AAPL=130.5", "--tick", "SPX=3825", "--at", "2023-01-03"]
    done = kfmodels("update", "kfmodels-demo/aapl-spx.nc", *tick, folder=tmp_path)
    assert "1 rows taken, up to 2023-01-03" in done.stdout
