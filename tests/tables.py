"""Price tables that tests and benchmarks read, by file name; tests/README.md names their sources."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

SHIPPED = Path(__file__).parent / "data" / "tables"


class MissingTableError(FileNotFoundError):
    """A table without a licence is not on this machine: a test that needs it skips and says this."""


def path_of(name: str) -> Path:
    """Where a table lies: with the tests, or in the folder that KFMODELS_DATA names."""
    if (SHIPPED / name).exists():
        return SHIPPED / name
    folder = os.environ.get("KFMODELS_DATA")
    if folder and (Path(folder) / name).exists():
        return Path(folder) / name
    raise MissingTableError(
        f"{name} has no licence to be shipped: get it from the source that tests/README.md names and "
        f"set KFMODELS_DATA to its folder"
    )


def read_table(name: str, **options: Any) -> pd.DataFrame:
    """A table by the dates of its first column."""
    return pd.read_csv(path_of(name), **{"index_col": 0, "parse_dates": True} | options)
