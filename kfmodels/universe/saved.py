"""A saved universe as the trading process reads it: its engine alone, without JAX."""

from pathlib import Path

from kfmodels.basket.basket import Basket
from kfmodels.basket.guard import GUARD
from kfmodels.files.documents import Format
from kfmodels.online.shocks import Shocks

UNIVERSE = Format(
    "kfmodels universe",
    2,
    "a saved universe",
    "make one with kf.hedge_universe(prices).save(path)",
    oldest=2,
)


def is_universe(path: str | Path) -> bool:
    """Whether a file is a saved universe, of whatever version."""
    try:
        with open(path, encoding="utf-8") as file:
            # the format is the first thing that a document says
            return file.read(60).startswith(f'{{"format":"{UNIVERSE.name}"')
    except (OSError, UnicodeDecodeError):
        return False


def load_engine(path: str | Path, shocks: Shocks | None = GUARD) -> Basket:
    """The basket of a saved universe, as it stood after its last row, with a policy on bad prints.

    Raises:
        ValueError: the file is no saved universe, or comes from another version of kfmodels; a policy
            that doubts rows instead of holding them.
    """
    return Basket(**UNIVERSE.load(path)["basket"].arguments() | {"shocks": shocks})
