r"""Real prices to try things on, and simulated pairs whose true path is known.

The prices lie in `kfmodels/data/prices`, every date and every digit as printed at their source. The
stocks and the factor ETFs were taken from the wheel of skfolio 1.12.2 (BSD-3-Clause,
`prices/LICENSE-skfolio`, three decimals), daily closes adjusted for splits and dividends; `SPX` is
the S&P 500 index itself, without dividends. The matrix of ETFs is a table of the tests of ArbitrageLab
(BSD-3-Clause, `prices/LICENSE-arbitragelab`). None has a gap. They are for learning and testing, not
for trading.

Adjustment and three decimals make early prices coarse: AAPL stands at 0.1 to 0.3 dollars in the
1990s, where half the last digit is up to 0.5 % of the price. From 2005 on it is at most 0.05 %.
"""

from importlib import resources

import pandas as pd

from kfmodels.data.simulated import Simulated, simulate
from kfmodels.data.simulated_days import SimulatedDays, simulate_days

__all__ = [
    "Simulated",
    "SimulatedDays",
    "etfs",
    "factor_etfs",
    "prices",
    "simulate",
    "simulate_days",
    "stocks",
]


def __dir__() -> list[str]:
    return __all__


def etfs() -> pd.DataFrame:
    """Daily closes of 23 ETFs, adjusted for splits and not for dividends, in dollars.

    Country and region funds (EEM EFA EPP EWG EWJ EWQ EWU FXI VGK VPL), sectors of the S&P 500 (XLB XLE
    XLF XLK XLU), bonds (BND CSJ IEF LQD TIP TLT) and the indices SPY and DIA: a matrix of hedges.
    Shape (2141, 23), from 2008-01-02 to 2016-07-01.

    Source: a table of the tests of ArbitrageLab, commit 32ccd56 (BSD-3-Clause).

    Example:
        >>> etfs().loc["2008-01-02", ["EEM", "SPY"]].round(3).to_list()
        [49.273, 144.93]
    """
    return _read("etfs.csv.gz")


def factor_etfs() -> pd.DataFrame:
    """Daily adjusted closes of five factor ETFs, MTUM QUAL SIZE USMV VLUE, in dollars.

    Shape (2264, 5), from 2014-01-02 to 2022-12-28.

    Source: skfolio 1.12.2, `factors_dataset.csv.gz` (BSD-3-Clause).

    Example:
        >>> factor_etfs().iloc[0].to_list()
        [52.704, 48.351, 48.986, 29.338, 47.054]
    """
    return _read("factor_etfs.csv.gz")


def stocks() -> pd.DataFrame:
    """Daily adjusted closes of AAPL KO PEP XOM CVX, in dollars, and the index SPX, in points.

    Shape (8313, 6), from 1990-01-02 to 2022-12-28.

    Source: skfolio 1.12.2, `sp500_dataset.csv.gz` and `sp500_index.csv.gz` (BSD-3-Clause).

    Example:
        >>> stocks().loc["2022-12-28", ["KO", "PEP", "SPX"]].to_list()
        [62.609, 179.278, 3783.22]
    """
    return _read("stocks.csv.gz")


def prices() -> pd.DataFrame:
    """All columns of `factor_etfs` and `stocks` on their common dates: a small matrix of pairs.

    Shape (2264, 11), from 2014-01-02 to 2022-12-28.

    Example:
        >>> " ".join(prices().columns)
        'MTUM QUAL SIZE USMV VLUE AAPL KO PEP XOM CVX SPX'
    """
    return factor_etfs().join(stocks(), how="inner")


def _read(name: str) -> pd.DataFrame:
    with resources.files("kfmodels.data").joinpath("prices", name).open("rb") as file:
        return pd.read_csv(file, compression="gzip", index_col="date", parse_dates=["date"])
