"""The notebooks as they are committed; `python -m tests.notebooks` runs them."""

import base64
from io import BytesIO

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat import v4
from PIL import Image

from kfmodels import plots
from tests.notebooks import FOLDER, find_private, problems, reduce_colours, tidy

PATHS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_each_is_as_a_reader_wants_it(path):
    assert not problems(path)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_each_opens_with_what_the_reader_will_be_able_to_do(path):
    first = nbformat.read(path, 4).cells[0]
    assert first.cell_type == "markdown"
    assert "\n\n**After it you can** " in first.source


def test_each_is_listed():
    home = FOLDER.parent
    for page in ("README.md", "notebooks/index.md", "notebooks/docs/mkdocs.yml"):
        text = (home / page).read_text()
        assert not [path.name for path in PATHS if path.name not in text], page


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("%matplotlib inline\nimport kfmodels as kf\nfrom kfmodels.model import Walk", []),
        ("from kfmodels.cli.report import report", ["kfmodels.cli.report.report"]),
        ("import kfmodels.kalman.scan as scan", ["kfmodels.kalman.scan"]),
        ("from tests.problems import ROWS", ["tests.problems.ROWS"]),
        ("from kfmodels.model import saved", ["kfmodels.model.saved"]),
    ],
)
def test_a_private_name_is_found(code, found):
    assert find_private([v4.new_code_cell(code)]) == found


def test_of_a_run_progress_goes_and_a_warning_stays():
    texts = ["\rfitting KO, 0:01", "\rfitting KO: 0:02 \nfile.py: UserWarning: doubt\n", "\n"]
    outputs = [v4.new_output("stream", name="stderr", text=text) for text in texts]
    outputs.append(v4.new_output("stream", name="stdout", text="42\n"))
    book = v4.new_notebook(cells=[v4.new_code_cell("", outputs=outputs)])
    tidy(book)
    kept = [(output.name, output.text) for output in book.cells[0].outputs]
    assert kept == [("stderr", "file.py: UserWarning: doubt\n"), ("stdout", "42\n")]


def test_fewer_colours_change_no_shade_that_can_be_seen():
    """A map of two scales, whose ends are a few cells: they must not turn grey."""
    values = np.random.default_rng(0).normal(size=(20, 20))
    held = BytesIO()
    plots.heat_map(pd.DataFrame(values)).savefig(held, format="png")
    given, coded = Image.open(held), base64.b64encode(held.getvalue()).decode()
    made = Image.open(BytesIO(base64.b64decode(reduce_colours(coded))))
    away = np.abs(np.asarray(made.convert("RGB"), int) - np.asarray(given.convert("RGB"), int))
    assert away.max() <= 16
    assert round(made.info["dpi"][0]) == 110
