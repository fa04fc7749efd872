"""Other processes of Python that tests start, with this checkout on their path."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

NUMPY_ONLY = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        night = "jax jaxlib numpyro pandas scipy xarray arviz exchange_calendars h5py h5netcdf jinja2"
        night += " matplotlib tqdm platformdirs filelock jaxtyping pyarrow"
        if name.split(".")[0] in night.split():
            raise ModuleNotFoundError(f"no {name} in a trading process", name=name)

sys.meta_path.insert(0, Refuse())
"""
"""What a program begins with that is to run as in a trading process."""


def python(*arguments: Any, **environment: str) -> subprocess.Popen[str]:
    """A process whose streams are pipes."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )


def trade(
    code: str, *arguments: Any, given: str = "", code_at_end: int = 0, noted_first: str = ""
) -> str:
    """What a program prints where only NumPy is installed; on stderr it says a line that begins with
    `noted_first`, or nothing."""
    process = python("-c", NUMPY_ONLY + code, *arguments)
    printed, noted = process.communicate(given, timeout=120)
    assert process.returncode == code_at_end, noted
    assert noted.startswith(noted_first)
    assert noted.count("\n") == bool(noted_first), noted
    return printed
