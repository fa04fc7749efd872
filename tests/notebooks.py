"""Run every notebook from top to bottom; with --write, keep the outputs.

Without it, nothing is written and the run fails on an error, on a notebook that was committed
without outputs, or on one over 300 kB.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

import tests.cache  # noqa: F401

FOLDER = Path(__file__).parents[1] / "notebooks"
LIMIT = 300 * 1024


def problems(path: Path) -> list[str]:
    """What is wrong with a notebook as it lies there."""
    found = []
    if path.stat().st_size > LIMIT:
        found.append(f"{path.name} has {path.stat().st_size} bytes, the limit is {LIMIT}")
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    if [c.execution_count for c in cells] != list(range(1, len(cells) + 1)):
        found.append(f"{path.name} was not run from top to bottom before it was committed")
    return found


def main() -> int:
    write = sys.argv[1:] == ["--write"]
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    wrong = []
    for path in sorted(FOLDER.glob("*.ipynb")):
        print(f"running {path.name}", flush=True)
        notebook = nbformat.read(path, 4)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": FOLDER}}).execute()
        if write:
            for cell in notebook.cells:
                cell.get("metadata", {}).pop("execution", None)
            nbformat.write(notebook, path)
        wrong += problems(path)
    print("\n".join(wrong) or "all notebooks ran")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
