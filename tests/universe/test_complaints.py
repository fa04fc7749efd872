"""Every complaint about a book: what is wrong, where, and what to do; and what to do then works."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kfmodels import datasets
from kfmodels.live.costs import Cost
from kfmodels.universe.netting import hedge_book

NAMES = ["XLE", "SPY", "TLT"]
COV = pd.DataFrame([[4.0, 3.0, -1.0], [3.0, 3.0, -1.0], [-1.0, -1.0, 2.0]], NAMES, NAMES) * 1e-4
ODD = pd.DataFrame([[1.0, 2.0], [2.0, 1.0]], NAMES[:2], NAMES[:2]) * 1e-4
"""Not positive semi-definite: its eigenvalues are 3e-4 and -1e-4."""


def hedged(
    cov: Any = COV, positions: Any = None, hedges: Any = ("SPY", "TLT"), **options: Any
) -> Any:
    return hedge_book(cov, positions or {"XLE": 1e6}, hedges=hedges, **options)


def changed(value: float, row: str = "SPY", column: str = "TLT") -> pd.DataFrame:
    cov = COV.copy()
    cov.loc[row, column] = value
    return cov


def doubled(what: pd.Series | pd.DataFrame) -> Any:
    return pd.concat([what, what.iloc[:1]])


MONEY = pd.Series({"XLE": 1e6, "SPY": 2e5})
REFUSED = {
    # the covariance
    "give pd.DataFrame(cov, index=tickers, columns=tickers)": lambda: hedged(COV.to_numpy()),
    "cov names XLE twice: keep one row and one column of it": lambda: hedged(
        COV[["XLE", "XLE", "SPY"]]
    ),
    "cov has 2 rows and 3 columns, and TLT is on one side only: give it the same tickers on both": (
        lambda: hedged(COV.iloc[:2])
    ),
    "cov has 4 rows and 3 columns: give it the same tickers": lambda: hedged(doubled(COV)),
    "cov of SPY and TLT is nan: estimate it from rows where both have a price, or leave one of them": (
        lambda: hedged(changed(np.nan))
    ),
    "cov is not symmetric: SPY with TLT differs by 0.0003 from TLT with SPY: give (cov + cov.T) / 2": (
        lambda: hedged(changed(2e-4))
    ),
    "cov is not positive semi-definite: its least eigenvalue is -0.0001, the largest 0.0003: estimate "
    "it from complete rows, or add 0.0001 to its diagonal": lambda: hedged(ODD, hedges=["SPY"]),
    "by cov the sd of XLE is 2 a day, and half of the assets move by more than 50%: log moves do "
    "not; of a table of prices take np.log(prices).diff().cov(), of moves in per cent divide by 1e4": (
        lambda: hedged(COV * 1e4)
    ),
    # the names
    "positions has QQQ, which is not in cov: estimate cov with it, or leave it out of the positions": (
        lambda: hedged(positions={"QQQ": 1.0})
    ),
    "positions of XLE is nan: give its money, or leave it out": lambda: hedged(
        positions={"XLE": np.nan}
    ),
    "held has XLE, which is not among the hedges: allow it there, or count it among the positions": (
        lambda: hedged(held={"XLE": 1.0})
    ),
    "hedges has QQQ, which is not in cov: estimate cov with it, or take it out": lambda: hedged(
        hedges=["QQQ"]
    ),
    "hedges names SPY twice: name it once": lambda: hedged(hedges=["SPY", "SPY"]),
    'hedges must be a list of tickers: give ["SPY"]': lambda: hedged(hedges="SPY"),
    "no leg is allowed: name at least one in hedges": lambda: hedged(hedges=[]),
    "TLT has no variance in cov and hedges nothing: take it out of the hedges": lambda: hedged(
        COV * np.outer([1, 1, 0], [1, 1, 0])
    ),
    "neither the positions nor the legs held have any variance: give at least one position": (
        lambda: hedged(positions={"XLE": 0.0})
    ),
    # the limits
    "SPY must have at least 10 and at most 5: raise greatest, lower least, or take it out of the": (
        lambda: hedged(least=10.0, greatest={"SPY": 5.0})
    ),
    "least of SPY is -1.0: give 0 or more": lambda: hedged(least=-1.0),
    "greatest of TLT is nan: give 0 or more": lambda: hedged(greatest={"TLT": np.nan}),
    "least names XLE, which is not among the hedges: take it out": lambda: hedged(
        least={"XLE": 1.0}
    ),
    "short names XLE, which is not among the hedges: take it out": lambda: hedged(short=["XLE"]),
    'short must be True, False or a list of tickers: give ["SPY"]': lambda: hedged(short="SPY"),
    "gross is -1.0: give 0 or more": lambda: hedged(gross=-1.0),
    "legs must be a whole number, 1 or more, not 0": lambda: hedged(legs=0),
    "legs must be a whole number, 1 or more, not 1.5": lambda: hedged(legs=1.5),
    "legs must be a whole number, 1 or more, not True": lambda: hedged(legs=True),
    "band is -0.1: give 0 or more": lambda: hedged(band=-0.1),
    "days is 0: give a number above 0": lambda: hedged(days=0),
    "risk_price is nan: give a number above 0": lambda: hedged(risk_price=np.nan),
    # costs, prices, lots
    "the cost of SPY is -1.0 basis points: give 0 or more": lambda: hedged(cost=-1.0),
    "cost has nothing for TLT: give its basis points, 0 if it is free": lambda: hedged(
        cost={"SPY": 1.0}
    ),
    "the cost of SPY is 0.005 a share, which needs prices: give prices=, or a cost in basis points": (
        lambda: hedged(cost=Cost())
    ),
    "lots are counted in shares, so they need prices: give prices=, one by leg, or leave lots out": (
        lambda: hedged(lots=1)
    ),
    "the price of TLT is nan: give one above 0, or take it out of the hedges": lambda: hedged(
        prices={"SPY": 1.0}
    ),
    "the price of TLT is 0.0: give one above 0": lambda: hedged(prices={"SPY": 1.0, "TLT": 0.0}),
    "prices names SPY twice: give one number for it": lambda: hedged(
        prices=doubled(pd.Series({"SPY": 1.0, "TLT": 1.0}))
    ),
    "lots of SPY is inf: give shares": lambda: hedged(prices={"SPY": 1.0, "TLT": 1.0}, lots=np.inf),
}
REFUSED["positions names XLE twice: give one number for it"] = lambda: hedge_book(
    COV, doubled(MONEY), hedges=["SPY"]
)


@pytest.mark.parametrize("text", REFUSED)
def test_it_says_what_is_wrong_where_and_what_to_do(text):
    with pytest.raises(ValueError, match=re.escape(text)):
        REFUSED[text]()


REMEDIES = {
    "labels": lambda: hedged(pd.DataFrame(COV.to_numpy(), index=NAMES, columns=NAMES)),
    "symmetric": lambda: hedged((changed(-1.2e-4) + changed(-1.2e-4).T) / 2),
    "diagonal": lambda: hedged(ODD + 0.0001 * np.eye(2), hedges=["SPY"]),
    "a list": lambda: hedged(hedges=["SPY"], short=["SPY"]),
    "free": lambda: hedged(cost={"SPY": 1.0, "TLT": 0}),
    "prices": lambda: hedged(prices={"SPY": 1.0, "TLT": 2.0}, lots=1, cost=Cost()),
    "a cost in basis points alone": lambda: hedged(cost=Cost(per_share=0.0)),
}


@pytest.mark.parametrize("remedy", REMEDIES)
def test_what_a_complaint_advises_works(remedy):
    assert REMEDIES[remedy]().after < REMEDIES[remedy]().unhedged


def test_a_covariance_that_is_not_of_log_moves_is_refused_until_it_is_made_one_as_said():
    prices = datasets.etfs().loc["2010":"2011", NAMES]
    right = hedged(np.log(prices).diff().cov())
    moves = prices.pct_change()
    for wrong in (prices.cov(), moves.corr(), (100 * moves).cov()):
        with pytest.raises(ValueError, match=r"np\.log\(prices\)\.diff\(\)\.cov\(\)"):
            hedged(wrong)
    assert right.orders.equals(hedged(eval("np.log(prices).diff().cov()")).orders)
    np.testing.assert_allclose(
        hedged((100 * moves).cov() / 1e4).orders["trade"], right.orders["trade"], rtol=0.03
    )
