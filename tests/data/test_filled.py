"""Holidays that were filled are told, with what to do; prices that are often still are not."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

from kfmodels import HedgeData, datasets
from kfmodels.data.filled import tell_filled
from tests.data.made_prices import make
from tests.tables import read_table


def cents(rows: int = 1000) -> pd.DataFrame:
    """Daily prices that move by 1 % and stand in cents."""
    moves = np.random.default_rng(5).normal(scale=0.01, size=(rows, 3))
    dates = pd.bdate_range("2016-01-04", periods=rows)
    return pd.DataFrame(50 * np.exp(moves.cumsum(0)), dates, ["AAA", "BBB", "CCC"]).round(2)


def filled(*tickers: str, every: int = 12) -> pd.DataFrame:
    frame = cents()
    frame.iloc[every::every, frame.columns.get_indexer(list(tickers))] = np.nan
    return frame.ffill()


def told(frame: pd.DataFrame, **how) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(frame, **how)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize("tickers", [("AAA",), ("BBB",), ("AAA", "BBB")])
def test_filled_holidays_are_told_and_the_remedy_makes_gaps_of_them(tickers):
    assert not told(cents())
    frame = filled(*tickers)
    (said,) = told(frame)
    if len(tickers) == 2:
        assert re.match(
            r"AAA and BBB repeat their prices at once in 83 of 1000 rows, the first 2", said
        )
        remedy = re.search(r"frame = .*", said)
    else:
        assert re.match(
            rf"{tickers[0]} repeats its price while another moved in \d\d of 1000 ro", said
        )
        remedy = re.search(r"frame\[.*", said)
    assert f"the first {frame.index[12]:%Y-%m-%d}" in said or len(tickers) == 1
    assert remedy
    names = {"frame": frame}
    exec(remedy[0], names)
    assert not told(names["frame"])
    assert 900 <= make(names["frame"]).observed.sum() <= 917


def test_many_tickers_are_told_together():
    country = read_table("country_etf45_close_2016_2021.csv.gz", index_col=0, parse_dates=True)
    with pytest.warns(
        UserWarning, match="all 45 tickers repeat their prices at once in 47 of 1324"
    ):
        HedgeData.all_pairs(country)
    with pytest.warns(
        UserWarning, match="EWG and EWU repeat their prices at once in 48 of 1324 rows"
    ):
        HedgeData.from_prices(country, target="EWG", hedges=["EWU"])
    frame = country[country.diff().ne(0).any(axis=1)]
    assert "at once" not in tell_filled(frame)


@pytest.mark.parametrize("table", [datasets.etfs, datasets.factor_etfs, datasets.stocks])
def test_nothing_is_told_of_ordinary_tables(table):
    assert not tell_filled(table())
    assert not tell_filled(table().loc["2016":"2018"])


def test_coarse_ticks_quick_bars_and_a_leg_that_stopped_are_not_told_so():
    coarse = cents().round(0)
    assert (coarse.diff() == 0).mean().min() > 0.2
    assert not tell_filled(coarse)
    quick = filled("AAA").set_axis(pd.date_range("2024-01-02 09:30", periods=1000, freq="1min"))
    assert not tell_filled(quick)
    assert not tell_filled(filled("AAA").reset_index(drop=True))
    stopped = cents()
    stopped.iloc[300:400, 0] = stopped.iloc[800:, 0] = 50.0
    assert not tell_filled(stopped)
