"""Folders as a desk has them: a fit that cost no sampling with later prices, and a board."""

from pathlib import Path

import pandas as pd
import pytest

from kfmodels import HedgeData, datasets
from kfmodels.batch import fit_many as batch
from tests import made_chunks
from tests.command import kfmodels
from tests.problems import unsampled

TRAIN, LATER = 120, 40


@pytest.fixture(scope="session")
def prices() -> pd.DataFrame:
    return datasets.stocks()[["XOM", "CVX"]].loc["2021":"2022"]


@pytest.fixture(scope="session")
def desk(tmp_path_factory, prices) -> Path:
    """A fit of 2021, a filter that needs no fit, and the later prices in two formats."""
    folder = tmp_path_factory.mktemp("desk")
    fitted = unsampled(HedgeData.from_prices(prices.loc["2021"], target="XOM", hedges=["CVX"]))
    fitted.save(folder / "pair.nc")
    fitted.online().save(folder / "filter.json")
    prices.to_csv(folder / "all.csv")
    prices.loc["2022-01"].to_csv(folder / "later.csv")
    prices.loc["2022-01":"2022-02"].to_parquet(folder / "later.parquet")
    (folder / "text.csv").write_text("day,XOM,CVX\nMonday,1,2\n")
    return folder


@pytest.fixture(scope="session")
def funds() -> pd.DataFrame:
    """Prices of four funds, and of one with a bad print."""
    table = datasets.factor_etfs().loc["2017":, ["MTUM", "QUAL", "SIZE", "USMV"]]
    table = table.iloc[: TRAIN + LATER].copy()
    table["BAD"] = table["QUAL"].where(table.index != table.index[5], 0.0)
    return table


@pytest.fixture
def quick(monkeypatch) -> None:
    """Made-up draws in the place of the fits of a board."""
    monkeypatch.setattr(batch, "fit_chunk", made_chunks.fit_chunk)


@pytest.fixture
def until(funds) -> str:
    return str(funds.index[TRAIN - 1].date())


@pytest.fixture
def universe(tmp_path, funds, until, quick) -> Path:
    """A folder with the prices and a board of the first of them."""
    funds.to_csv(tmp_path / "all.csv")
    kfmodels("fit-many", "all.csv", "--store", "pairs", "--until", until, folder=tmp_path)
    return tmp_path
