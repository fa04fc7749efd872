"""The shell and the page with odd names: what they were given is what they show."""

import html
import json
import shlex
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from kfmodels import HedgeBoard, HedgeData, datasets, fit, hedge_ratio_model
from kfmodels.cli.page import page
from kfmodels.plots.sheet import drawn, render
from tests.command import kfmodels
from tests.hostile import NAMES, SCRIPTS
from tests.problems import unsampled

EVERY = list(map(str, (NAMES | SCRIPTS).values()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Prices that move together, in a file whose columns have all the odd names."""
    rng = np.random.default_rng(1)
    moves = 0.01 * rng.normal(size=(300, 1)) + 0.005 * rng.normal(size=(300, len(EVERY)))
    dates = pd.bdate_range("2020-01-01", periods=300)
    table = pd.DataFrame(100 * np.exp(moves.cumsum(axis=0)), dates, EVERY)
    table.to_csv(tmp_path / "all.csv")
    table.iloc[:120, :4].to_csv(tmp_path / "four.csv")
    return tmp_path


class Reader(HTMLParser):
    """What a browser would show of a page, and the tags that it would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said, self.scripts, self.tags, self.last = "", "", set[str](), ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.last = tag

    def handle_data(self, data: str) -> None:
        if self.last == "script":
            self.scripts += data
        else:
            self.said += data

    def handle_endtag(self, tag: str) -> None:
        self.last = ""


def test_the_page_and_the_lines_of_a_universe_show_every_name(folder):
    said = kfmodels("universe", "all.csv", "--out", "page.html", folder=folder).output
    assert [name for name in EVERY if name not in said] == []
    shown = Reader((folder / "page.html").read_text(encoding="utf-8"))
    assert [name for name in EVERY if name not in shown.said] == []
    assert not shown.tags & {"script", "b"}


@pytest.mark.parametrize("name", list(map(str, NAMES.values())))
def test_a_target_can_be_named(folder, name):
    given = ["--target", name, "--legs", 1, "--json"]
    said = json.loads(kfmodels("universe", "all.csv", *given, folder=folder).stdout)
    assert list(said["targets"]) == [name]


def test_the_commands_that_a_board_prints_name_its_pair(folder, quick, monkeypatch):
    # made-up draws are too few for a whole fit
    monkeypatch.setattr(HedgeBoard, "sel", lambda self, pair: unsampled(self.pairs.data(pair)))
    kfmodels("fit-many", "four.csv", "--store", "pairs", folder=folder)
    said = kfmodels("board", "pairs", folder=folder).output
    lines = said[said.index("\nNext") :].splitlines()[2:]
    words = [shlex.split(line) for line in lines if "Python" not in line]
    (one,) = (line for line in words if line[:2] == ["one", "pair"])
    name, kept = one[-3], one[-1]
    table = HedgeBoard.open(folder / "pairs").table()
    assert name == (table["sd"] / table["beta"].abs()).idxmin()  # the one that is known best
    target, hedge = table.loc[name, ["target", "hedge"]]
    (refit,) = (line for line in words if line[0] == "refit")
    assert refit[refit.index("--target") + 1 :][:3] == [target, "--hedges", hedge]
    assert sum(kept in line for line in words) == 5  # one pair, report, update, live, refit
    assert f"{target} hedged with {hedge}" in kfmodels(*one[3:], folder=folder).stdout
    assert f"{target} hedged with {hedge}" in kfmodels("show", kept, folder=folder).stdout


@pytest.mark.parametrize("name", EVERY)
def test_a_picture_is_of_letters_that_its_reader_has(name):
    """PNG, or, of letters that matplotlib lacks, text that the browser sets; and no warning."""
    figure = Figure()
    figure.text(0.5, 0.5, name.replace("$", r"\$"))
    part = drawn(figure, name)
    kind, _, coded = part.pictures[0].source.partition(";base64,")
    held = b64decode(coded)
    assert (kind, held[:4]) == ("data:image/png", b"\x89PNG") or (
        kind == "data:image/svg+xml" and name in "".join(ElementTree.fromstring(held).itertext())
    )


def test_letters_that_matplotlib_lacks_are_left_to_the_browser():
    figure = Figure()
    figure.text(0.5, 0.5, SCRIPTS["Han"])
    (picture,) = drawn(figure).pictures
    assert picture.source.startswith("data:image/svg+xml;base64,")


@pytest.mark.parametrize("name", EVERY)
def test_a_page_shows_a_name_wherever_it_stands(name):
    parts = dict.fromkeys(("title", "under", "footer"), name)
    lines = {part: [name] for part in ("doubts", "decision", "faults")}
    shown = Reader(render(**parts, **lines, sections=[]))
    assert shown.said.count(name) == 7  # the title twice, in the window and above
    assert not shown.tags & {"script", "b"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mathematics", "HTML", "a template", "Han"])
def test_the_page_of_a_pair_shows_its_name(kind):
    name = str((NAMES | SCRIPTS)[kind])
    prices = datasets.stocks()[["KO", "PEP"]].loc["2020":].rename(columns={"KO": name})
    data = HedgeData.from_prices(prices.loc["2020"], target=name, hedges=["PEP"])
    fixed = hedge_ratio_model(delta={"beta": 1e-3, "alpha": 0.9}, obs_scale=0.004)
    shown = page(fit(data, fixed), prices)
    assert name in html.unescape(shown)
    # only numbers go into what draws the pictures
    scripts = Reader(shown).scripts
    assert "const docs_json" in scripts
    assert name not in html.unescape(scripts)
