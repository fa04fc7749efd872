"""A mistake in a command is one sentence on stderr and changes no file."""

import sys
from pathlib import Path

import pytest

from tests.command import kfmodels
from tests.processes import python

AT = "--at 2022-01-03"
LEGS = "--target XOM --hedges CVX"
NEW = "fit-many all.csv --store new"

OF_A_PAIR = {
    "show nothing.nc": "there is no file nothing.nc: fit the prices with kfmodels fit --out nothing.nc",
    "live nothing.json": "make one with kfmodels universe PRICES.csv --save nothing.json",
    "show all.csv": "all.csv is not a saved fit",
    "report nothing.nc --out page.html": "there is no file nothing.nc",
    "update pair.nc": "give either --prices FILE or --tick",
    "update pair.nc --tick XOM=57": "give the time of the tick with --at",
    f"update pair.nc --tick XOM=57 {AT}": "no price of CVX",
    f"update pair.nc --tick XOM {AT}": "is not TICKER=PRICE",
    f"update pair.nc --tick XOM=-1 --tick CVX=1 {AT}": "XOM has the price -1",
    f"fit all.csv {LEGS} --out no/x.nc": "no folder no",
    "fit all.csv --target XON --hedges CVX --out x.nc": "XON is not among",
    f"fit no.csv {LEGS} --out x.nc": "there is no file no.csv in ",
    f"fit no.parquet {LEGS} --out x.nc": "there is no file no.parquet in ",
    f"fit . {LEGS} --out x.nc": ". is a folder: name the file in it",
    "report pair.nc --prices no.csv --out page.html": "there is no file no.csv in ",
    "update pair.nc --prices no.csv": "there is no file no.csv in ",
    f"fit text.csv {LEGS} --out x.nc": "the first column of text.csv should hold dates",
    "live filter.json --shocks none --limit 3": "--limit has no meaning",
    "live filter.json --calendar XNYS": "give both",
}
MISTYPED = (
    "show no.nc",
    "report no.nc --out page.html",
    "report pair.nc --out no/page.html",
    "report pair.nc --out page.html --prices no.csv",
    "update no.nc --tick XOM=1",
    "update pair.nc --prices no.csv",
    "live no.nc",
    f"fit no.csv {LEGS} --out x.nc",
    f"fit all.csv {LEGS} --out no/x.nc",
    "fit-many no.csv --store new",
    "board no",
    "board pairs --later no.csv --target XOM",
    "universe no.csv",
    "universe all.csv --book no.csv",
)
"""Commands with a file that is not there."""

OF_A_UNIVERSE = {
    f"{NEW} --cluster x:1": "pip install 'kfmodels[cluster]'",
    f"{NEW} --target MTUN": "MTUN is not among the 5 columns",
    f"{NEW} --until soon": "--until soon is no date",
    f"{NEW} --until nat": "--until nat is no date",
    f"{NEW} --until 1999-12-31": "no prices up to 1999-12-31",
    "fit-many no.csv --store new": "there is no file no.csv in ",
    "universe no.csv": "there is no file no.csv in ",
    "universe all.csv --book no.csv": "there is no file no.csv in ",
    "board new": "holds no batch of fits",
    "board pairs --target MTUN": "MTUN is not among the 5 targets",
    "board pairs --later no.csv": "there is no file no.csv in ",
    "board pairs --later all.csv": "name it with --target",
    "board pairs --out x.nc": "name it with --pair TARGET/HEDGE",
    "board pairs --pair QUAL/MTUM --json": "--out FILE.nc and ask kfmodels show FILE.nc --json",
    "board pairs --pair QUAL": "QUAL is not among",
    "board pairs --csv no/x.csv": "there is no folder",
    "board pairs --target BAD --later all.csv": "no pair of BAD was fitted",
}


def refused(command: str, folder: Path) -> str:
    """The sentence, after which the folder is as it was, but for locks, which hold nothing."""

    def files() -> list[Path]:
        return sorted(file for file in folder.rglob("*") if not file.name.endswith("-writer"))

    before = files()
    done = kfmodels(*command.split(), folder=folder, code=2)
    *progress, last = done.stderr.splitlines()
    assert done.stdout == ""
    assert last.startswith("error: ")
    assert all(line.startswith("fitting ") or " rows from " in line for line in progress)
    assert files() == before
    return last


@pytest.mark.parametrize("command", OF_A_PAIR)
def test_of_a_pair(desk, command):
    (desk / "pair.nc.live.json").unlink(missing_ok=True)
    assert OF_A_PAIR[command] in refused(command, desk)


def test_of_a_universe(universe, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    for command, words in OF_A_UNIVERSE.items():
        assert words in refused(command, universe)


def test_a_file_is_looked_for_before_jax_is_loaded(tmp_path):
    """Which takes two seconds, and pandas half of one."""
    for name in ("pair.nc", "all.csv", "pairs"):
        (tmp_path / name).touch()
    code = """
import os, sys
from typer.testing import CliRunner
from kfmodels.cli.cli import app
os.chdir(sys.argv[1])
for command in sys.argv[2:]:
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 2 and done.output.startswith("error: "), done.output
    loaded = {"jax", "pandas", "scipy"} & set(sys.modules)
    assert not loaded, f"{command} loads {loaded}"
"""
    process = python("-c", code, tmp_path, *MISTYPED)
    assert process.communicate(timeout=120)[1] == ""


def test_a_folder_is_no_fit_and_a_state_is_made_by_update(desk):
    (desk / "folder").mkdir(exist_ok=True)
    said = kfmodels("show", "folder", folder=desk, code=2).stderr
    assert "folder is a folder: name the fit in it" in said
    said = kfmodels("live", "none.nc.live.json", folder=desk, code=2).stderr
    assert "kfmodels update none.nc --prices LATER.csv makes it" in said
