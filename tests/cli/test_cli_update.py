"""`kfmodels update` is guarded as a live filter is, and says what it did not learn from."""

import json
import os
import pty
import re
import subprocess
import sys
from typing import Any

import pandas as pd
import pytest

import kfmodels as kf
from kfmodels import HedgeData, OnlineFilter, load
from kfmodels.online.shocks import Quarantine
from tests.command import kfmodels
from tests.problems import unsampled

pytestmark = pytest.mark.slow

KEPT = "pair.nc.live.json"


@pytest.fixture
def fresh(desk):
    """The folder, where the filter of the fit has not run yet."""
    (desk / KEPT).unlink(missing_ok=True)
    return desk


def tick(folder: Any, xom: float, cvx: float, at: str, *options: str, code: int = 0) -> Any:
    given = ["--tick", f"XOM={xom}", "--tick", f"CVX={cvx}", "--at", at, *options]
    return kfmodels("update", "pair.nc", *given, folder=folder, code=code)


def test_ten_times_the_price_is_held_and_said(fresh):
    said = tick(fresh, 573.0, 112.4, "2022-01-03").stdout
    assert "1 row taken, up to 2022-01-03, 1 of them not learnt from" in said
    assert "2022-01-03: quarantined: z +" in said
    assert "XOM went from 57.903 to 573, about 10 times" in said
    assert "is far above it, and the row is held until later ones confirm it" in said
    assert "rich" not in said
    before, kept = load(fresh / "pair.nc").online(), OnlineFilter.load(fresh / KEPT)
    assert kept.standing().beta == pytest.approx(before.standing().beta, rel=0.02)
    assert kept.last == before.last
    # the remedy that it names
    factor, real = re.findall(r"--rescale (\S+?)[,;]", said)
    assert real == "XOM=1"
    held = kfmodels("update", "pair.nc", "--rescale", factor, folder=fresh).stdout
    assert held.startswith("prices before are converted to the new ones")
    assert "1 row taken, up to 2022-01-04\n" in tick(fresh, 601.0, 113.0, "2022-01-04").stdout


@pytest.mark.slow
def test_a_terminal_of_80_columns_tears_no_word(fresh):
    """The words are those that a pipe takes, where each sentence is one line, for programs."""
    given = ["--tick", "XOM=573.0", "--tick", "CVX=112.4", "--at", "2022-01-03"]
    piped = kfmodels("update", "pair.nc", *given, folder=fresh).stdout
    (fresh / KEPT).unlink()
    end, theirs = pty.openpty()
    command = [sys.executable, "-m", "kfmodels", "update", "pair.nc", *given]
    subprocess.run(
        command, cwd=fresh, stdout=theirs, env=os.environ | {"COLUMNS": "80"}, check=True
    )
    os.close(theirs)
    shown = os.read(end, 2**16).decode().removesuffix("\x1b[0m")  # of a library, at its end
    os.close(end)
    assert max(map(len, piped.splitlines())) > 100
    assert max(map(len, shown.splitlines())) < 80
    assert shown.split() == piped.split()


def test_a_factor_may_be_a_fraction(fresh):
    kfmodels("update", "pair.nc", "--rescale", "XOM=3/2", folder=fresh)
    live = load(fresh / "pair.nc").go_live().engine
    live.rescale(target=1.5)
    kept = OnlineFilter.load(fresh / KEPT)
    assert kept.state()["mean"].tolist() == live.state()["mean"].tolist()
    done = kfmodels("update", "pair.nc", "--rescale", "XOM=1/0", folder=fresh, code=2)
    assert "--rescale XOM=1/0 is not TICKER=FACTOR" in done.stderr


def test_rows_out_of_order_are_refused_until_the_file_is_sorted(fresh, prices):
    """As in every command; only a file that is newest first is turned."""
    rows = prices.loc["2022-01"]
    rows.iloc[[1, 0, *range(2, len(rows))]].to_csv(fresh / "mixed.csv")
    done = kfmodels("update", "pair.nc", "--prices", "mixed.csv", folder=fresh, code=2)
    assert "dates are not sorted: 2022-01-03 00:00:00 comes after 2022-01-04" in done.stderr
    assert "sort the rows of the file by date" in done.stderr
    assert not (fresh / KEPT).exists()
    rows.to_csv(fresh / "mixed.csv")
    assert (
        f"{len(rows)} rows taken"
        in kfmodels("update", "pair.nc", "--prices", "mixed.csv", folder=fresh).stdout
    )


def test_a_move_that_was_real_goes_on_by_a_factor_of_one(fresh):
    tick(fresh, 573.0, 112.4, "2022-01-03")
    kfmodels("update", "pair.nc", "--rescale", "XOM=1", folder=fresh)
    assert "not learnt" not in tick(fresh, 573.0, 112.4, "2022-01-04").stdout


def test_a_row_two_months_late_is_refused_until_it_is_said_to_be_right(fresh):
    done = tick(fresh, 20.0, 112.4, "2022-03-05", code=2)
    assert "the row of 2022-03-05 comes 64 days after that of 2021-12-31" in done.stderr
    assert "--max-ahead 65; nothing was changed" in done.stderr
    assert not (fresh / KEPT).exists()
    said = tick(fresh, 57.9, 112.4, "2022-03-05", "--max-ahead", "65").stdout
    assert "1 row taken, up to 2022-03-05" in said


def test_rows_between_are_the_other_remedy(fresh, prices):
    prices.loc["2022-01":"2022-03-05"].to_csv(fresh / "between.csv")
    said = kfmodels("update", "pair.nc", "--prices", "between.csv", folder=fresh).stdout
    assert f"{len(prices.loc['2022-01':'2022-03-05'])} rows taken, up to 2022-03-04" in said


def test_a_row_that_no_filter_can_take_is_left_out_and_said(fresh, prices):
    table = prices.loc["2022-01"].copy()
    table.iloc[3, 0], table.iloc[5, 0], table.iloc[7, 0] = 0.0, float("nan"), 640.0
    table.to_csv(fresh / "bad.csv")
    done = kfmodels("update", "pair.nc", "--prices", "bad.csv", folder=fresh)
    said = done.stdout
    assert "19 rows taken, up to 2022-01-31, 2 of them not learnt from" in said
    assert "2022-01-06: rejected: XOM has the price 0, which a log transform cannot take" in said
    assert "2022-01-10: skipped: no price of XOM" in said
    assert "2022-01-12: quarantined: " in said
    # the state is that of a loop of the guarded filter over the rows but that one
    live = load(fresh / "pair.nc").go_live().engine
    for at, row in table.drop(table.index[3]).iterrows():
        live.update(y=row["XOM"], x=row["CVX"], at=at)
    kept = OnlineFilter.load(fresh / KEPT)
    assert kept.state()["mean"].tolist() == live.state()["mean"].tolist()


def test_a_dividend_is_said_as_it_is_to_a_live_filter(fresh):
    said = kfmodels("update", "pair.nc", "--adjust", "XOM=-0.88", folder=fresh).stdout
    assert "Saved to pair.nc.live.json" in said
    live = load(fresh / "pair.nc").go_live().engine
    last = live.last["XOM"]
    live.rescale(target=(last - 0.88) / last)
    kept = OnlineFilter.load(fresh / KEPT)
    assert kept.state()["mean"].tolist() == pytest.approx(live.state()["mean"].tolist(), rel=1e-12)
    assert kept.last["XOM"] == pytest.approx(last - 0.88)


def test_a_filter_that_was_saved_unguarded_is_guarded_from_here_on(fresh):
    load(fresh / "pair.nc").online().save(fresh / KEPT)
    assert "quarantined" in tick(fresh, 573.0, 112.4, "2022-01-03").stdout
    assert OnlineFilter.load(fresh / KEPT).shocks == Quarantine()


def test_time_is_counted_by_the_clock_of_the_fit(tmp_path):
    """Three hours after a row are three bars, for the filter of the fit and for the one kept."""
    table = kf.datasets.stocks()[["XOM", "CVX"]].iloc[:130]
    hours = pd.date_range("2021-01-04", periods=130, freq="h", tz="America/New_York")
    table = table.set_axis(hours)
    clock = kf.Clock("1h")
    data = HedgeData.from_prices(table.iloc[:120], target="XOM", hedges=["CVX"], clock=clock)
    fitted = unsampled(data)
    fitted.save(tmp_path / "pair.nc")
    live = fitted.go_live().engine
    for row, bars in ((122, 3.0), (125, 3.0)):
        xom, cvx = table.iloc[row]
        tick(tmp_path, xom, cvx, hours[row].isoformat())
        live.update(y=xom, x=cvx, dt=bars)
    kept = OnlineFilter.load(tmp_path / KEPT)
    assert kept.state()["mean"].tolist() == live.state()["mean"].tolist()


# -- with `kfmodels live` --------------------------------------------------------------------------


def message(xom: float, cvx: float, at: str) -> str:
    return json.dumps({"at": at, "prices": {"XOM": xom, "CVX": cvx}}) + "\n"


def test_live_goes_on_from_what_update_learnt(fresh):
    tick(fresh, 60.1, 113.0, "2022-01-03")
    done = kfmodels("live", "pair.nc", folder=fresh, given=message(62.4, 115.1, "2022-01-04"))
    assert "pair.nc: goes on from pair.nc.live.json, up to 2022-01-03; what it learns stays in" in (
        done.stderr
    )
    assert "begins after the last row learnt of 2022-01-03" in done.stderr
    live = load(fresh / "pair.nc").go_live().engine
    live.update(y=60.1, x=113.0)
    expected = live.update(y=62.4, x=115.1)
    assert json.loads(done.stdout)["beta"]["CVX"] == pytest.approx(expected.beta["CVX"], rel=1e-12)


def test_update_does_not_see_what_live_learnt_and_live_says_so(fresh):
    """The other order: live first, then update, then live once more."""
    options = ["live", "pair.nc", "--journal", "pair.journal"]
    first = kfmodels(*options, folder=fresh, given=message(60.1, 113.0, "2022-01-03"))
    assert (
        "starts after the training rows, up to 2021-12-31; what it learns stays in" in first.stderr
    )
    assert "pair.journal, kfmodels update does not see it" in first.stderr
    assert "1 row taken, up to 2022-01-04" in tick(fresh, 62.4, 115.1, "2022-01-04").stdout
    again = kfmodels(*options, folder=fresh, given=message(62.4, 115.1, "2022-01-04"))
    assert (
        "goes on from pair.journal, up to 2022-01-03 and not from pair.nc.live.json" in again.stderr
    )
    live = load(fresh / "pair.nc").go_live().engine
    live.update(y=60.1, x=113.0)
    expected = live.update(y=62.4, x=115.1)
    assert json.loads(again.stdout)["beta"]["CVX"] == pytest.approx(expected.beta["CVX"], rel=1e-12)
    (fresh / "pair.journal").unlink()
