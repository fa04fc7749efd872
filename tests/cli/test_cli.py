"""The commands of one pair: real files, and a real process where the process is the point."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import image

from kfmodels import OnlineFilter, __version__, datasets, follow, load
from kfmodels.batch.few_legs import compare_with_universe
from kfmodels.cli import facts
from kfmodels.cli.shell import read_prices
from kfmodels.sampling import nuts
from tests.command import kfmodels, process
from tests.problems import FromPrior, Weighed
from tests.processes import ROOT, trade
from tests.test_pages import check_text

SPREAD = ["fit", "all.csv", "--target", "XOM", "--hedges", "CVX", "--spread"]


@pytest.fixture
def spread(prices, tmp_path, monkeypatch) -> Path:
    """A folder with a fit that has a spread, made by the command."""
    monkeypatch.setattr(nuts, "NUTS", Weighed)
    prices.to_csv(tmp_path / "all.csv")
    options = ["--until", "2021-12-31", "--out", "x.nc", "--draws", "32"]
    done = kfmodels(*SPREAD, *options, folder=tmp_path)
    assert "The spread that comes back" in done.stdout
    return tmp_path


@pytest.mark.slow
def test_a_spread_is_asked_for_shown_and_followed(spread, prices):
    fitted = load(spread / "x.nc")
    found = json.loads(kfmodels("show", "x.nc", "--json", folder=spread).stdout)
    assert found["reversion"] == pytest.approx(fitted.reversion_now().record())
    row = prices.loc["2022"].iloc[0]
    ticks = [f"--tick={name}={row[name]}" for name in row.index]
    text = kfmodels("update", "x.nc", *ticks, "--at", "2022-01-03", folder=spread).stdout
    now = fitted.go_live().tick(row.to_dict(), at="2022-01-03").tick.reversion
    assert f"  {facts.stands('XOM', now)}\n" in text
    given = json.dumps({"at": "2022-01-03", "prices": row.to_dict()}) + "\n"
    fitted.online().save(spread / "x.json")
    record = json.loads(kfmodels("live", "x.json", given=given, folder=spread).stdout)
    expected = fitted.online().take(row.to_dict(), at="2022-01-03").reversion
    assert record["reversion"] == pytest.approx(expected.record())


def test_a_spread_of_returns_is_refused_with_what_can_be_typed(prices, tmp_path, monkeypatch):
    monkeypatch.setattr(nuts, "NUTS", Weighed)
    prices.loc["2021"].to_csv(tmp_path / "all.csv")
    options = [*SPREAD, "--out", "x.nc", "--draws", "32", "--transform"]
    done = kfmodels(*options, "return", folder=tmp_path, code=2)
    said, remedy = done.stderr.split("use --transform ")
    assert "those of XOM are returns" in said
    kfmodels(*options, remedy.strip(), folder=tmp_path)


@pytest.fixture
def fresh(desk):
    """The folder, where the filter of the fit has not run yet."""
    (desk / "pair.nc.live.json").unlink(missing_ok=True)
    return desk


@pytest.mark.slow
def test_fit_says_what_it_found_and_what_to_do_next(desk):
    arguments = ["--target", "XOM", "--hedges", "CVX", "--until", "2021-12-31", "--out", "mine.nc"]
    done = kfmodels("fit", "all.csv", *arguments, folder=desk)
    assert "XOM hedged with CVX: log prices, 252 rows 2021-01-04 .. 2021-12-31" in done.stdout
    assert "kfmodels update mine.nc --prices" in done.stdout
    said = done.stdout[done.stdout.index("Inferred noise") : done.stdout.index("Saved")]
    assert said.rstrip() in kfmodels("show", "mine.nc", folder=desk).stdout


def test_show_says_what_the_fit_holds(desk):
    assert "Inferred noise" in kfmodels("show", "pair.nc", folder=desk).stdout
    found = json.loads(kfmodels("show", "pair.nc", "--json", folder=desk).stdout)
    fitted = load(desk / "pair.nc")
    assert found["fit_until"].startswith("2021-12-31")
    assert found["hedge_ratio"]["CVX"]["mean"] == fitted.hedge_ratio()["mean"].iloc[-1]
    assert found["noise"]["CVX"]["delta"] == fitted.summary().loc["CVX", "delta"]


@pytest.mark.slow
def test_tickers_with_commas_and_equals_signs_can_be_named(prices, tmp_path, monkeypatch):
    """ES=F and EURUSD=X are names of a large vendor, and a table may have any."""
    monkeypatch.setattr(nuts, "NUTS", FromPrior)
    odd = prices.set_axis(["EURUSD=X", "BRK,B"], axis=1).assign(OTHER=prices["CVX"] ** 0.5)
    odd.loc["2021"].to_csv(tmp_path / "odd.csv")
    command = ["fit", "odd.csv", "--target", "EURUSD=X", "--out", "odd.nc", "--hedges"]
    kfmodels(*command, "OTHER, BRK,B", folder=tmp_path)
    assert load(tmp_path / "odd.nc").hedges == ("OTHER", "BRK,B")
    kfmodels(*command, "BRK,B", folder=tmp_path)
    row = odd.loc["2022"].iloc[0]
    ticks = [f"--tick={name}={row[name]}" for name in ("EURUSD=X", "BRK,B")]
    done = kfmodels(
        "update", "odd.nc", *ticks, "--at", "2022-01-03", "--json", folder=tmp_path
    ).stdout
    expected = load(tmp_path / "odd.nc").go_live().tick(row.to_dict(), at="2022-01-03").tick
    assert json.loads(done)["beta"] == pytest.approx(expected.beta, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("pair.nc", 0), ("nothing.nc", 2)])
def test_a_process_of_its_own_says_the_same_and_ends_with_its_code(desk, name, code):
    here = kfmodels("show", name, "--json", folder=desk, code=code)
    there = process("show", name, "--json", folder=desk, code=code)
    assert (there.stdout, there.stderr) == (here.stdout, here.stderr)


def test_update_runs_on_from_where_it_stood(fresh, prices):
    """January from csv, then January and February from parquet: each row counts once."""
    first = kfmodels("update", "pair.nc", "--prices", "later.csv", folder=fresh)
    assert "20 rows taken, up to 2022-01-31\n" in first.stdout
    second = kfmodels("update", "pair.nc", "--prices", "later.parquet", "--json", folder=fresh)
    ticks = [json.loads(line) for line in second.stdout.splitlines()]
    assert len(ticks) == len(prices.loc["2022-02"])
    again = kfmodels("update", "pair.nc", "--prices", "later.parquet", folder=fresh)
    assert "nothing later than 2022-02-28:" in again.stdout
    table = follow(load(fresh / "pair.nc").go_live().engine, prices.loc["2022-01":"2022-02"])
    assert ticks[-1]["beta"]["CVX"] == pytest.approx(table["beta CVX"].iloc[-1], rel=1e-12)
    assert ticks[-1]["z"] == pytest.approx(table["z"].iloc[-1], rel=1e-9)


def test_update_takes_one_tick_and_says_what_to_hold(fresh):
    def tick(price: object, at: str, *options: str) -> str:
        given = ["--tick", f"XOM={price}", "--tick", "CVX=112.4", "--at", at, *options]
        return kfmodels("update", "pair.nc", *given, folder=fresh).stdout

    found = json.loads(tick(57.3, "2022-01-03", "--json"))
    live = load(fresh / "pair.nc").go_live().engine
    expected = live.update(y=57.3, x=[112.4], at=pd.Timestamp("2022-01-03"))
    assert found["observed"]
    assert found["beta"] == pytest.approx(expected.beta, rel=1e-12)
    kept = OnlineFilter.load(fresh / "pair.nc.live.json")
    np.testing.assert_array_equal(kept.state()["mean"], live.state()["mean"])
    text = tick("nan", "2022-01-04")
    ratio = live.update(y=float("nan"), x=[112.4]).beta["CVX"]  # older rows are forgotten a little
    assert f"against 100 XOM sell {100 * ratio * 57.3 / 112.4:.2f} CVX: ratio {ratio:.4g}" in text
    assert "a price was missing" in text


def test_dates_are_read_as_they_are_written(desk, prices):
    """20220103, New York offsets that change with the season, and dates as text in parquet."""
    table = prices.loc["2022"]
    york = table.tz_localize("America/New_York")
    table.set_axis(table.index.strftime("%Y%m%d")).to_csv(desk / "numbers.csv")
    table.set_axis(table.index.strftime("%Y-%m-%d")).to_parquet(desk / "text.parquet")
    york.to_csv(desk / "york.csv")
    for name, dates in (("numbers.csv", table), ("text.parquet", table), ("york.csv", york)):
        assert list(read_prices(desk / name).index) == list(dates.index)
    table.reset_index(drop=True).to_csv(desk / "rows.csv")
    with pytest.raises(ValueError, match=r"first column of .*rows.csv should hold dates"):
        read_prices(desk / "rows.csv")


def test_the_live_filter_of_another_fit_is_not_continued(fresh):
    live = load(fresh / "pair.nc").go_live().engine
    live.board.fit_id = "another"
    live.save(fresh / "pair.nc.live.json")
    done = kfmodels("update", "pair.nc", "--prices", "later.csv", folder=fresh, code=2)
    assert "goes on from another fit than pair.nc" in done.stderr


@pytest.mark.slow
def test_demo_does_the_main_job(tmp_path):
    text = kfmodels("demo", folder=tmp_path).stdout
    folder = tmp_path / "kfmodels-demo"
    made = {"ewg-spy.nc", "ewg-spy.nc.live.json", "ewg-spy.png"}
    assert {path.name for path in folder.iterdir()} == made
    for words in ("Of 22 ratios", "Against 100 EWG", "kfmodels, tick by tick", "Next ("):
        assert words in text
    assert max(map(len, text.splitlines())) <= 100
    ours, shown = (image.imread(at / "ewg-spy.png") for at in (folder, ROOT / "notebooks" / "docs"))
    assert np.abs(ours - shown).mean() < 0.02  # the picture that README shows
    later = datasets.etfs()[["EWG", "SPY"]].loc["2014"]
    table = follow(load(folder / "ewg-spy.nc").online(), later)
    assert f"2014-12-31  {table['beta SPY'].iloc[-1]:.3f}" in text
    live = OnlineFilter.load(folder / "ewg-spy.nc.live.json")
    assert live.state()["mean"][0] == pytest.approx(table["beta SPY"].iloc[-1], rel=1e-12)
    # what it says of all funds, by a plain loop for one of them; the same as of the one before
    moves = datasets.etfs().loc["2014", ["EWG", "SPY"]].pct_change()
    y, x = moves.iloc[1:].to_numpy().T
    left = [a - b * c for a, b, c in zip(y, table["beta SPY"].iloc[:-1], x, strict=True)]
    said, removed = " ".join(text.split()), f"{1 - np.var(left) / np.var(y):.3f}"
    assert f"SPY, kfmodels tick by tick {removed}" in said
    assert f" kfmodels, tick by tick {removed} " in said
    for row in ("static OLS on changes", "SPY, static ratio"):
        assert f" {row} 0.425 " in said
    # README shows its last table
    told = re.search(r"^```text\n( +EWG.*?)```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert told
    check_text(text.split("and all legs:\n\n")[1].split("A static ratio")[0], told[1])
    tick = next(line for line in text.splitlines() if "kfmodels update" in line).split()[1:]
    done = kfmodels(*tick, folder=tmp_path)
    assert "1 row taken, up to 2015-01-02" in done.stdout
    assert "quarantine" not in done.stdout


@pytest.mark.slow
def test_fit_tells_what_the_other_columns_would_have_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(nuts, "NUTS", FromPrior)
    table = datasets.etfs()[["XLE", "LQD", "SPY", "XLB"]].iloc[:340].assign(note="text")
    table.to_csv(tmp_path / "all.csv")
    command = ["fit", "all.csv", "--target", "XLE", "--hedges", "LQD", "--out", "pair.nc"]
    found = compare_with_universe(table[["XLE", "LQD"]], table)
    text = " ".join(kfmodels(*command, folder=tmp_path).stdout.split())
    assert f"Of the 4 columns, the best leg (mostly {found.legs[0][0]}) would have removed" in text
    assert f"{', '.join(found.legs[1])}) {found.few[1]:.0%}; LQD removed {found.own:.0%}." in text
    told = json.loads(kfmodels(*command, "--json", folder=tmp_path).stdout)["beside"]
    assert (told["few"], told["rows"]) == (list(found.few), found.rows)
    table[["XLE", "LQD"]].to_csv(tmp_path / "all.csv")
    assert "Beside the other columns" not in kfmodels(*command, folder=tmp_path).stdout


def test_the_version_is_that_of_the_package():
    assert kfmodels("--version").stdout == f"kfmodels {__version__}\n"


def test_what_is_not_installed_is_named_with_what_to_install(tmp_path):
    (tmp_path / "p.csv").write_text("date,A,B\n2020-01-01,1,2\n")
    code = "from kfmodels.cli.cli import app; app(['universe', *sys.argv[1:]])"
    said = (
        "error: this needs pandas, which is not installed here. `pip install kfmodels` installs all"
    )
    trade(code, tmp_path / "p.csv", code_at_end=2, noted_first=said)
