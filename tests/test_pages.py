"""The site: the code of its pages runs, its reference has every public name, its pictures are drawn."""

import inspect
import re
import runpy
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import numpyro
import pytest

import kfmodels as kf
from tests.test_architecture import PUBLIC

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
DOCS = NOTEBOOKS / "docs"
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>.+) -->\n)?```python\n(?P<code>.*?)```"
    r"(?:\n+```text\n(?P<printed>.*?)```)?",
    re.DOTALL,
)
NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
SAMPLES = [
    ("README",),
    ("one_pair", "priors", "trading_day"),  # the later ones go on with its names
    ("spread",),
    ("open",),
    ("universe",),
]
"""Pages whose code infers something, each row in one namespace."""
LATE = SAMPLES[2:]
"""What the notebooks, which CI runs, show as well."""
QUICK = ["connect"]
OWN = "your_own_model"


def blocks(page: str) -> list[tuple[str, str | None]]:
    """The blocks of a page that are to run, each with what it says they print; others say why not."""
    folder = NOTEBOOKS.parent if page == "README" else DOCS
    found = BLOCK.finditer((folder / f"{page}.md").read_text())
    return [(block["code"], block["printed"]) for block in found if not block["why"]]


def run(pages: tuple[str, ...]) -> dict[str, Any]:
    """Run the code of pages one after the other, as a reader types it."""
    names: dict[str, Any] = {"__name__": "page"}
    for page in pages:
        for number, (code, printed) in enumerate(blocks(page)):
            said = StringIO()
            with warnings.catch_warnings(), redirect_stdout(said):
                warnings.simplefilter("error", DeprecationWarning)
                exec(compile(code, f"{page}.md, block {number}", "exec"), names)
            if printed is not None:
                check_text(said.getvalue(), printed)
    return names


def check_text(said: str, printed: str) -> None:
    """The same words, and numbers as near as another machine's draws come."""
    assert NUMBER.sub("#", said).split() == NUMBER.sub("#", printed).split(), said
    ours, theirs = ([float(n) for n in NUMBER.findall(text)] for text in (said, printed))
    np.testing.assert_allclose(ours, theirs, rtol=0.1, atol=0.02)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder to write to, and the precision of JAX as it was: a page may ask for double."""
    monkeypatch.chdir(tmp_path)
    yield
    numpyro.enable_x64(False)


@pytest.mark.parametrize("page", QUICK)
def test_the_code_of_a_page_runs(page: str):
    run((page,))


@pytest.mark.slow
@pytest.mark.parametrize(
    "pages",
    [
        pytest.param(pages, id=pages[0], marks=[pytest.mark.nightly] if pages in LATE else [])
        for pages in SAMPLES
    ],
)
def test_the_code_of_a_page_that_samples_runs(pages: tuple[str, ...]):
    run(pages)


@pytest.mark.slow
def test_the_model_of_your_own_finds_what_was_drawn():
    names = run((OWN,))
    assert not names["sampler"].get_extra_fields()["diverging"].any()
    found = np.median(names["memory"], axis=0)
    assert np.abs(np.log(found / names["memories"])).max() < np.log(2)
    assert (names["sd_total"] > names["sd_given_noise"]).all()


def test_every_page_with_code_is_run():
    known = {page for pages in SAMPLES[1:] for page in pages} | {*QUICK, OWN}
    assert {path.stem for path in DOCS.glob("*.md") if blocks(path.stem)} == known


def test_the_reference_has_every_public_name_once():
    pages = "\n".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    shown = re.findall(r"^::: (\S+)$", pages, re.MULTILINE)
    found = [resolve_name(name) for name in shown]
    assert len(found) == len({id(one) for one in found})
    public = {name: getattr(face, name) for face in PUBLIC for name in face.__all__}
    assert {name for name, one in public.items() if not any(one is other for other in found)} == {
        name for name, one in public.items() if inspect.ismodule(one)
    }


def test_every_picture_is_drawn_shown_and_small():
    drawn = runpy.run_path(str(DOCS / "draw.py"))["PICTURES"]
    kept = {path.stem: path.stat().st_size for path in (DOCS / "pictures").iterdir()}
    assert kept.keys() == drawn.keys()
    assert max(kept.values()) <= 40 * 1024
    page = (DOCS / "concepts.md").read_text()
    assert set(re.findall(r"\(pictures/(\w+)\.png\)", page)) == drawn.keys()


@pytest.mark.slow
def test_the_pictures_can_be_drawn_anew(tmp_path: Path):
    runpy.run_path(str(DOCS / "draw.py"))["main"](tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in (DOCS / "pictures").iterdir()
    }


def test_the_site_names_every_page():
    pages = {str(p.relative_to(NOTEBOOKS)) for p in [*DOCS.rglob("*.md"), *NOTEBOOKS.glob("*.*")]}
    settings = (DOCS / "mkdocs.yml").read_text()
    listed = set(re.findall(r": (\S+\.(?:md|ipynb))$", settings, re.MULTILINE))
    assert listed == pages


def test_what_changed_begins_with_this_version():
    told = re.search(r"^## (\S+)", (DOCS / "changes.md").read_text(), re.MULTILINE)
    assert told
    assert told[1] == kf.__version__
