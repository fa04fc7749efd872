"""Run every notebook from top to bottom, two at a time; with --write, keep the outputs.

    python -m tests.notebooks [--write] [04 ...]

Without it, nothing is written and the run fails on an error, on a notebook that was committed
without outputs, or on one over 300 kB.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.programs import keep_programs

FOLDER = Path(__file__).parents[1] / "notebooks"
LIMIT = 300 * 1024
AT_ONCE = 2
"""One keeps a core and a half busy at most."""


def problems(path: Path) -> list[str]:
    """What is wrong with a notebook as it lies there."""
    found = []
    if path.stat().st_size > LIMIT:
        found.append(f"{path.name} has {path.stat().st_size} bytes, the limit is {LIMIT}")
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    if [c.execution_count for c in cells] != list(range(1, len(cells) + 1)):
        found.append(f"{path.name} was not run from top to bottom before it was committed")
    return found


def run(path: Path, *, write: bool) -> list[str]:
    """What is wrong with a notebook, once it was run."""
    notebook = nbformat.read(path, 4)
    client = NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": FOLDER}})
    try:
        client.execute()
    except Exception as error:
        return [f"{path.name} failed: {error}"]
    if write:
        for cell in notebook.cells:
            cell.get("metadata", {}).pop("execution", None)
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
