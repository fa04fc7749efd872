"""What the shell compiles is there for its next call."""

import os
from pathlib import Path

import pytest

from kfmodels import datasets
from kfmodels.cli.shell import keep_programs
from tests.processes import python

SETTING = "JAX_COMPILATION_CACHE_DIR"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of its own, without settings of JAX."""
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if "JAX_" not in k})
    os.environ |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return tmp_path


def test_jax_is_told_of_a_folder(home: Path):
    keep_programs()
    assert Path(os.environ[SETTING]).is_dir()
    assert Path(os.environ[SETTING]).is_relative_to(home)


def test_a_setting_of_the_user_stays():
    os.environ[SETTING] = "/elsewhere"
    keep_programs()
    assert os.environ[SETTING] == "/elsewhere"
    assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ


def test_a_home_that_cannot_be_written_to_is_no_fault(home: Path):
    (home / "cache").write_text("a file where the folder would be")
    keep_programs()
    assert SETTING not in os.environ


@pytest.mark.nightly
def test_two_at_once_and_one_after_them_share_what_they_compiled(home: Path):
    prices = datasets.stocks().loc["2018", ["AAPL", "SPX"]]
    prices.to_csv(home / "prices.csv")

    def begin(out: str):
        command = f"fit {home}/prices.csv --target AAPL --hedges SPX --draws 300 --out {home}/{out}"
        return python("-m", "kfmodels", *command.split(), **os.environ)

    def end(process) -> None:
        _, noted = process.communicate(timeout=300)
        assert process.returncode == 0, noted
        assert "Error" not in noted

    for process in [begin("one.nc"), begin("two.nc")]:
        end(process)
    kept = {path.name for path in (home / "cache").rglob("*-cache")}
    assert kept
    end(begin("three.nc"))
    assert {path.name for path in (home / "cache").rglob("*-cache")} == kept
