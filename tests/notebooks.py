"""Run every notebook from top to bottom, two at a time; with --write, keep the outputs.

    python -m tests.notebooks [--write] [04 ...]

Without it, nothing is written and the run fails on an error and on what `problems` finds in a notebook
as it was committed: no outputs, a warning left standing, a blurred picture, a private name, too large.
"""

import ast
import base64
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from tests.programs import keep_programs

FOLDER = Path(__file__).parents[1] / "notebooks"
LIMIT = 300 * 1024
AT_ONCE = 2
"""One keeps a core and a half busy at most."""

LEAST_DPI = 110
"""Dots an inch from which on the labels of a picture can be read."""

COLOURS = 128
"""Of a picture as it is kept, which then takes a third of the room and differs in no visible shade."""

FACES = ("kfmodels", "kfmodels.datasets", "kfmodels.evaluate", "kfmodels.live", "kfmodels.model")
FACES += ("kfmodels.plots", "kfmodels.basket")
"""Modules whose names are public; see notebooks/docs/names.md."""


def problems(path: Path) -> list[str]:
    """What is wrong with a notebook as it lies there."""
    found = []
    if path.stat().st_size > LIMIT:
        found.append(f"{path.name} has {path.stat().st_size} bytes, the limit is {LIMIT}")
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    if [c.execution_count for c in cells] != list(range(1, len(cells) + 1)):
        found.append(f"{path.name} was not run from top to bottom before it was committed")
    found += [f"{path.name} reads {name}, which is not public" for name in find_private(cells)]
    for count, output in [(cell.execution_count, one) for cell in cells for one in cell.outputs]:
        where = f"{path.name}, cell {count}"
        if output.get("name") == "stderr":
            found.append(f"{where} leaves a warning standing: {output.text[:200]}")
        if picture := output.get("data", {}).get("image/png"):
            dots = Image.open(BytesIO(base64.b64decode(picture))).info.get("dpi", (0, 0))
            if round(min(dots)) < LEAST_DPI:
                found.append(f"{where} has a picture of {dots[0]:.0f} dots an inch")
    return found


def find_private(cells: list[NotebookNode]) -> list[str]:
    """Names that the code imports from this repository and that no user is told of."""
    found = []
    for cell in cells:
        code = "\n".join(line for line in cell.source.split("\n") if not line.startswith("%"))
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
                found += [
                    n for n in names if n.startswith(("kfmodels", "tests")) and n not in FACES
                ]
            elif isinstance(node, ast.ImportFrom) and node.module:
                public = import_module(node.module).__all__ if node.module in FACES else ()
                ours = node.module.startswith(("kfmodels", "tests"))
                names = [alias.name for alias in node.names]
                found += [f"{node.module}.{n}" for n in names if ours and n not in public]
    return found


def tidy(notebook: NotebookNode) -> None:
    """Leave of a run what is read: no times of cells, no progress, pictures of few colours."""
    for cell in notebook.cells:
        cell.get("metadata", {}).pop("execution", None)
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                # a line of progress is written over itself
                output.text = re.sub(r"[^\n]*\r[^\n]*\n?", "", output.text)
            if picture := output.get("data", {}).get("image/png"):
                output.data["image/png"] = reduce_colours(picture)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr" or o.text.strip()]


def reduce_colours(picture: str) -> str:
    """A PNG in base64 with a palette, as sharp as it was."""
    given, made = Image.open(BytesIO(base64.b64decode(picture))), BytesIO()
    # chosen to cover all shades: by how often each occurs the rare end of a scale would turn grey
    how = {"method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}
    few = given.convert("RGB").quantize(COLOURS, **how)
    few.save(made, format="png", optimize=True, dpi=given.info.get("dpi"))
    return base64.b64encode(made.getvalue()).decode()


def run(path: Path, *, write: bool) -> list[str]:
    """What is wrong with a notebook, once it was run."""
    notebook = nbformat.read(path, 4)
    client = NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": FOLDER}})
    try:
        client.execute()
    except Exception as error:
        return [f"{path.name} failed: {error}"]
    if write:
        tidy(notebook)
        nbformat.write(notebook, path)
    return problems(path)


def main() -> int:
    write, wanted = "--write" in sys.argv, tuple(set(sys.argv[1:]) - {"--write"})
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    keep_programs()
    paths = [p for p in FOLDER.glob("*.ipynb") if not wanted or p.name.startswith(wanted)]
    paths.sort(reverse=True)  # the third takes longest: last, it would run alone
    wrong = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = pool.map(lambda path: run(path, write=write), paths)
        for path, found in zip(paths, results, strict=True):
            print(f"{path.name}: {'; '.join(found) or 'ran'}", flush=True)
            wrong += found
    print(f"{len(wrong)} problems" if wrong else "all notebooks ran")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
