"""The page of benchmarks and the README say what the commands measured, and nothing else."""

import json
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from tests.benchmarks import page
from tests.benchmarks.__main__ import COMMANDS
from tests.benchmarks.report import Report, Table, as_markdown, in_words, numbered, show

FOUND = Report(
    "A race",
    "How it was run.",
    [Table("seconds", numbered(pd.DataFrame({"s": [0.01234, None]}, ["ours", "theirs"]), "who"))],
    remarks=["One remark."],
    quote="we take 0.0123 s",
)


def test_the_page_is_made_of_what_is_kept():
    assert page.PAGE.read_text() == page.make_page()


def test_the_readme_quotes_what_is_kept():
    readme = page.README.read_text()
    assert page.quoted(readme) == readme
    assert page.QUOTES.search(readme), "the README has lost the marks between which figures stand"


def test_the_page_of_the_day_quotes_what_is_kept_of_the_open():
    day = page.DAY.read_text()
    assert page.with_open(day) == day
    assert page.open_table.BETWEEN.search(day), "the page has lost the marks of its table"


def test_every_command_is_a_module_and_what_is_kept_is_of_a_command():
    assert all(find_spec(f"tests.benchmarks.{name}") for name in COMMANDS)
    assert {path.stem.partition("_")[0] for path in page.KEPT.glob("*.json")} <= set(COMMANDS)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012345, "0.0123"),
        (12.0, "12"),
        (12345.6, "12,346"),
        (float("nan"), ""),
        (None, ""),
        ("as it is", "as it is"),
        (True, "yes"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_three_digits(value: object, text: str):
    assert in_words(value) == text


def test_a_report_is_shown_kept_and_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert "theirs" in show(FOUND)
    assert "One remark." in show(FOUND)
    for name, path in (("KEPT", "kept"), ("PAGE", "page.md"), ("README", "README.md")):
        monkeypatch.setattr(page, name, tmp_path / path)
    page.README.write_text("before\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nafter\n")
    page.keep("speed", FOUND.document("python -m tests.benchmarks speed", 1.6))
    stored = json.loads((page.KEPT / "speed.json").read_text())
    assert stored["tables"][0]["data"] == [["ours", 0.01234], ["theirs", None]]
    assert as_markdown(stored) in page.PAGE.read_text()
    assert "| ours | 0.0123 |\n| theirs |  |" in page.PAGE.read_text()
    assert "in 2 s: " in page.PAGE.read_text()
    text = page.README.read_text()
    assert text == "before\n<!-- benchmarks -->\n- we take 0.0123 s\n<!-- /benchmarks -->\nafter\n"


def test_a_part_is_kept_beside_the_whole_and_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("universe_draw", "universe", "books"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"title": name}))
    monkeypatch.setattr(page, "KEPT", tmp_path)
    titles = [document["title"] for document in page.documents()]
    assert titles == ["universe", "universe_draw", "books"]
