"""`kfmodels universe` in this process, and `kfmodels live` on what it saved."""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest

import kfmodels as kf
from tests.command import kfmodels

NAMES = ["XLE", "SPY", "XLB", "XLF", "TLT", "EWJ", "FXI"]
TABLE = kf.datasets.etfs()[NAMES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("universe")
    TABLE.iloc[:320].to_csv(made / "prices.csv")
    return made


@pytest.fixture(scope="module")
def universe():
    return kf.hedge_universe(TABLE.iloc[:320])


def test_one_target_prints_its_legs_and_what_they_were_worth(folder):
    done = kfmodels(
        "universe",
        "prices.csv",
        "--target",
        "XLE",
        "--legs",
        2,
        "--out",
        "page.html",
        folder=folder,
    )
    made = kf.hedge_universe(TABLE.iloc[:320], targets=["XLE"], legs=2)
    legs, worth = made.legs("XLE"), made.worth.loc["XLE"]
    for name, row in legs.iterrows():
        side = "sell" if row["ratio"] > 0 else "buy"
        assert re.search(rf"{name} +{side} +{abs(row['ratio']):.3f}", done.stdout)
    assert f"removed {worth['removed']:.1%} of the" in done.stdout
    behind = f"leg {worth['best_1']:.1%} ({worth['lead_1']:.1%} less, standard error"
    assert worth["lead_1"] > 0
    assert behind in " ".join(done.stdout.split())
    page = (folder / "page.html").read_text()
    assert page.count("<h2>") == 3  # what to hold, the target, what it was worth
    assert page.count("<figure") == 1
    for column in ("heavy", "lead_1, lead_3", "turnover", "memory", "weight", "alone"):
        assert f"{column}: " in page
    assert "page.html: one file" in done.stdout


@pytest.mark.slow
def test_all_targets_stand_in_a_table_and_in_json(folder, universe):
    text = kfmodels("universe", "prices.csv", "--out", "all.html", folder=folder).stdout
    table = universe.table()
    for name in NAMES:
        assert re.search(rf"{name} +{table.loc[name, 'removed']:.1%}", text)
        assert table.loc[name, "legs"] in text
    assert (folder / "all.html").read_text().count("data:image/png") == 1
    found = json.loads(kfmodels("universe", "prices.csv", "--json", folder=folder).stdout)
    assert found["targets"]["XLE"]["removed"] == table.loc["XLE", "removed"]
    assert found["legs"]["XLE"]["SPY"]["ratio"] == universe.ratios().loc["XLE", "SPY"]


def test_what_is_not_worth_trading_is_said(folder, universe):
    text = " ".join(kfmodels("universe", "prices.csv", folder=folder).stdout.split())
    weights = universe.weights().abs().to_numpy()
    light, held = ((weights > 0) & (weights < 0.02)).sum(), (weights > 0).sum()
    assert f"Not worth trading: {light} of the {held} legs" in text
    assert f"without such legs {universe.worth['heavy'].mean():.1%} would have been removed" in text


def test_live_runs_a_saved_universe_and_says_what_to_hold(folder, universe):
    kfmodels("universe", "prices.csv", "--save", "u.json", folder=folder)
    rows = TABLE.iloc[320:325]
    lines = [
        json.dumps({"at": str(at), "prices": row.to_dict()}) + "\n" for at, row in rows.iterrows()
    ]
    options = "--journal", "journal"
    first = kfmodels("live", "u.json", *options, folder=folder, given="".join(lines[:3]))
    second = kfmodels("live", "u.json", *options, folder=folder, given="".join(lines[3:]))
    answers = [json.loads(line) for line in (first.stdout + second.stdout).splitlines()]
    basket = universe.online()
    for (at, row), answer in zip(rows.iterrows(), answers, strict=True):
        basket.update(row.to_dict(), at=at)
        assert answer["outcome"] == "accepted"
        found = [[answer["ratios"][y].get(x, 0.0) for x in NAMES] for y in NAMES]
        np.testing.assert_array_equal(found, basket.ratios())
        fine = len(NAMES) - len(answer["pair_conditions"])
        assert answer["standing"].startswith(f"{answer['condition']}: {fine} of {len(NAMES)} ok")


def test_live_needs_no_jax_for_a_universe(folder):
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "pandas", "scipy"):
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Refuse())
from kfmodels.live.feed import LiveFilter
from kfmodels.universe.saved import load_engine
print(LiveFilter(load_engine("u.json")).engine.tickers)
"""
    import subprocess

    kf.hedge_universe(TABLE.iloc[:320]).save(folder / "u.json")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tuple(NAMES))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--save", "u.nc"], "--save u.nc: its name must end in .json"),
        (["--out", "no/page.html"], "there is no folder no to write page.html to"),
        (["--target", "XLX"], "XLX is not among the 7 columns"),
        (["--legs", 0], "legs is the most hedges that a target may have"),
        (["--until", "2008-03-01"], "have 41 rows.*give a history of more than 250"),
    ],
)
def test_errors_are_a_sentence(folder, arguments, text):
    done = kfmodels("universe", "prices.csv", *arguments, folder=folder, code=2)
    assert re.search(text, done.stderr)


def test_a_price_that_cannot_be_one_names_the_option_that_mends_it(folder, tmp_path):
    bad = TABLE.iloc[:320].copy()
    bad.iloc[40, 1] = 0.0
    bad.to_csv(tmp_path / "bad.csv")
    done = kfmodels("universe", "bad.csv", folder=tmp_path, code=2)
    option = f"--repair SPY:{bad.index[40].date()}:gap"
    assert f"{option} if it is a bad print\n" in done.stderr
    kfmodels("universe", "bad.csv", *option.split(), folder=tmp_path)


def test_a_price_that_never_moves_is_refused_until_its_column_is_gone(tmp_path):
    table = TABLE.iloc[:320].assign(CASH=1.0)
    table.to_csv(tmp_path / "prices.csv")
    done = kfmodels("universe", "prices.csv", folder=tmp_path, code=2)
    assert "CASH is constant at 1" in done.stderr
    assert "take its column out of the file" in done.stderr
    table.drop(columns="CASH").to_csv(tmp_path / "prices.csv")
    kfmodels("universe", "prices.csv", "--target", "XLE", folder=tmp_path)


def test_live_refuses_a_policy_that_a_universe_has_not(folder, universe):
    universe.save(folder / "u.json")
    done = kfmodels("live", "u.json", "--shocks", "robust", folder=folder, given="", code=2)
    assert "Quarantine() or None" in done.stderr


def test_a_target_that_ended_is_said_to_have_and_not_to_wait(folder):
    table = TABLE.iloc[:320].copy()
    table.iloc[220:, 3] = np.nan  # XLF goes before any asset is a leg
    table.to_csv(folder / "ended.csv")
    done = kfmodels("universe", "ended.csv", "--target", "XLF", folder=folder)
    last = table.index[219].date()
    assert f"XLF has no price after {last}, in the last 100 rows" in done.stderr
    text = " ".join(done.stdout.split())
    assert "No row of XLF was judged while it had a hedge" in text
    assert "No hedge yet" not in text
    assert "nan%" not in text


@pytest.mark.slow
def test_bars_within_the_day_are_taken_by_the_hours_of_the_exchange(tmp_path):
    rng = np.random.default_rng(0)
    days = pd.bdate_range("2024-03-04", periods=5)
    offsets = pd.to_timedelta(np.arange(0, 391, 5) + 570, "min")
    index = pd.DatetimeIndex([day + part for day in days for part in offsets], name="date")
    moves = 1e-3 * (rng.normal(size=(len(index), 1)) + rng.normal(0, 0.5, (len(index), 3)))
    path = tmp_path / "bars.csv"
    pd.DataFrame(50 * np.exp(moves.cumsum(0)), index, ["A", "B", "C"]).to_csv(path)
    saved = tmp_path / "day.json"
    how = "--bar", "5min", "--calendar", "XNYS"
    assert "Saved to" in kfmodels("universe", path, *how, "--save", saved).stdout
    made = kf.load(saved)
    assert made.basket.day.bars == 78
    assert made.basket.clock is not None
    assert made.basket.clock.zone == "America/New_York"
    refused = kfmodels("universe", saved, "--bar", "5min", code=2)
    assert "--bar needs prices" in refused.output
