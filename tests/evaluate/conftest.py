"""What several files of this room are asked about."""

import pytest

from kfmodels import HedgeData
from tests.problems import stocks_between


@pytest.fixture(scope="session")
def year() -> HedgeData:
    """KO on PEP in 2019."""
    return stocks_between("2019-01-01", "2020-01-01")
