"""What a basket knows for the hedge of a book: covariance of the next row, and which legs there are."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kfmodels.basket.basket import Basket
from kfmodels.basket.listing import GONE, LEG_FROM, TARGET_FROM
from kfmodels.basket.settings import CHOOSER
from kfmodels.universe.asked import Money, check_money
from kfmodels.words.caller import warn

SHORT = 0
"""The shortest memory, by number."""


def estimate_covariance(basket: Basket) -> pd.DataFrame:
    r"""Covariance of one day's log moves, `(asset, asset)`, of all assets that have joined.

    $$Σ_{ij} = R_{ij}^{(200)} s_i s_j, \qquad
    s_i^2 = \frac nw \sqrt{v_i^{(50)} v_i^{(200)}}$$

    with the correlations R of the memory of 200 rows and, in between those of 50 and 200, the mean
    squares v of moves whose rows are weighted by the market's variance; w is the weight of a row as
    calm or as wild as the next one is foreseen to be, n the mean rows that the variance of a day with
    its night is worth (1 of daily rows). An asset joins 60 rows after its first price.

    Chosen out of sample, by what random books of 5 positions keep of their variance when hedged in 3
    or 5 legs (`python -m tests.benchmarks books`). The mean of the four memories removed .001 to .002
    less on 23 funds, .006 to .013 less on 45 countries and 60 stocks. Shrunk by a tenth towards one
    factor, correlations removed .002 to .005 less on the funds, .003 more on the countries and .006 to
    .009 more on the stocks: nothing is shrunk.

    Raises:
        ValueError: the basket has learnt too few rows for any asset to join.

    Source: J.P. Morgan and Reuters (1996), RiskMetrics Technical Document, for discounted second
    moments; Engle (2002), Dynamic conditional correlation, Journal of Business and Economic Statistics
    20, for variances that forget faster than correlations.
    """
    now = basket.stand
    if now.market is None:
        raise ValueError(
            f"the basket has learnt from {now.rows} rows, and a covariance needs "
            f"{TARGET_FROM}: update it with more"
        )
    corr, sd = now.moments.standardise()
    size = np.sqrt(basket.day.variance_of_day * sd[SHORT] * sd[CHOOSER] / now.market.foreseen())
    found = corr[CHOOSER] * np.outer(size, size)
    names = [name for name, joined in zip(basket.tickers, now.joined, strict=True) if joined]
    return pd.DataFrame(found[np.ix_(now.joined, now.joined)], names, names)


def choose_hedges(
    basket: Basket, positions: Money, hedges: Sequence[str] | None, held: Money | None
) -> list[str]:
    """The legs of a book: those asked for, or all legs without a position, and those held.

    Raises:
        ValueError: a position or a hedge is no asset of the basket, or has had a price for too short a
            time; a hedge that is asked for is no leg now; positions or held are not by ticker.

    Warns:
        UserWarning: of positions without a price for so long that what is known of them fades.
    """
    now = basket.stand
    check_money("positions", positions)
    check_money("held", {} if held is None else held)
    if isinstance(hedges, str):
        raise ValueError(f'hedges must be a list of tickers: give ["{hedges}"]')
    place = {name: number for number, name in enumerate(basket.tickers)}
    legs = now.legs(np.ones(len(place), bool))
    for role, names in (("positions", list(positions.keys())), ("hedges", list(hedges or []))):
        for name in map(str, names):
            if name not in place:
                raise ValueError(
                    f"{role}: {name} is not among the {len(place)} tickers of the universe; make one "
                    "with its prices, or leave it out"
                )
            age = int(now.listing.age[place[name]])
            if not now.joined[place[name]]:
                raise ValueError(
                    f"{role}: {name} has had a price for {age + 1} rows only, and its covariance needs "
                    f"{TARGET_FROM}; leave it out until then"
                )
            if role == "hedges" and not legs[place[name]]:
                why = f"has had a price for {age + 1} rows only, and a leg needs {LEG_FROM}"
                if age >= LEG_FROM:
                    why = "has no price now, or repeats its last one"
                raise ValueError(f"hedges: {name} {why}; leave it out until then")
    for name in map(str, positions.keys()):
        if (rows := int(now.listing.gap[place[name]])) > GONE:
            warn(
                f"{name} has had no price for {rows} rows: its hedge goes by moves filled in from "
                "others, and fades; leave it out of the positions, or update the universe with "
                "its prices"
            )
    if hedges is not None:
        return list(map(str, hedges))
    money = positions, {} if held is None else held
    own, kept = (set(map(str, each.keys())) for each in money)
    return [
        name for name in basket.hedges if legs[place[name]] and (name not in own or name in kept)
    ]
