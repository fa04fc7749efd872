"""The command as it is typed: in this process, or in one of its own."""

import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from kfmodels.cli.cli import app


def kfmodels(*arguments: Any, folder: Path = Path(), code: int = 0, given: str = "") -> Any:
    """What it printed, in a folder; the test fails if it ends with another code."""
    with chdir(folder):
        done = CliRunner().invoke(app, [str(part) for part in arguments], input=given)
    assert done.exit_code == code, done.output
    return done


def process(*arguments: Any, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "kfmodels", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done
