"""What is asked of the hedge of a book, as arrays; or a sentence that says what is wrong with it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kfmodels.live.costs import Cost

type Money = Mapping[str, float] | pd.Series
"""A number by ticker."""

type Bound = float | Mapping[str, float]
"""One number for every leg, or one by ticker."""

_ROUNDING = 1e-8
"""Share of the largest entry, or eigenvalue, up to which an asymmetry or a negative one is rounding."""

_WILD = 0.5
"""Sd of a day's log move that no half of the assets of a market have; correlations have 1."""


def covariance_of(cov: pd.DataFrame) -> pd.DataFrame:
    """The covariance with rows in the order of its columns, symmetric and positive semi-definite."""
    if not isinstance(cov, pd.DataFrame):
        raise ValueError(
            f"cov must be a DataFrame labelled with tickers on both sides, not {type(cov).__name__}: "
            "give pd.DataFrame(cov, index=tickers, columns=tickers)"
        )
    cov = cov.set_axis(cov.index.map(str), axis=0).set_axis(cov.columns.map(str), axis=1)
    twice = cov.columns[cov.columns.duplicated()]
    if len(twice):
        raise ValueError(f"cov names {twice[0]} twice: keep one row and one column of it")
    odd = cov.index.symmetric_difference(cov.columns)
    if len(odd) or len(cov.index) != len(cov.columns):
        which = f", and {odd[0]} is on one side only" if len(odd) else ""
        raise ValueError(
            f"cov has {len(cov.index)} rows and {len(cov.columns)} columns{which}: give it the same "
            "tickers on both sides"
        )
    cov = cov.loc[cov.columns].astype(float)
    values = cov.to_numpy()
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        one, other = (cov.columns[i] for i in bad[0])
        raise ValueError(
            f"cov of {one} and {other} is {values[tuple(bad[0])]}: estimate it from rows where both "
            "have a price, or leave one of them out"
        )
    skew = np.abs(values - values.T)
    if len(values) and skew.max() > _ROUNDING * np.abs(values).max():
        one, other = (cov.columns[i] for i in np.unravel_index(skew.argmax(), skew.shape))
        raise ValueError(
            f"cov is not symmetric: {one} with {other} differs by {skew.max():.3g} from {other} with "
            f"{one}: give (cov + cov.T) / 2"
        )
    sd = np.sqrt(values.diagonal().clip(0))
    if len(sd) and np.median(sd) > _WILD:
        raise ValueError(
            f"by cov the sd of {cov.columns[0]} is {sd[0]:.3g} a day, and half of the assets move by "
            f"more than {_WILD:.0%}: log moves do not; of a table of prices take "
            "np.log(prices).diff().cov(), of moves in per cent divide by 1e4"
        )
    roots = np.linalg.eigvalsh(values) if len(values) else np.zeros(1)
    if roots[0] < -_ROUNDING * roots[-1]:
        raise ValueError(
            f"cov is not positive semi-definite: its least eigenvalue is {roots[0]:.3g}, the largest "
            f"{roots[-1]:.3g}: estimate it from complete rows, or add {-roots[0]:.3g} to its diagonal"
        )
    return (cov + cov.T) / 2


def amounts(what: str, given: Money, among: Sequence[str], where: str) -> np.ndarray:
    """Money in each of `among`, shape (n,), 0 where none is given."""
    table = _once(what, given)
    for name, number in table.items():
        if name not in among:
            raise ValueError(f"{what} has {name}, which is not {where}")
        if not math.isfinite(number):
            raise ValueError(f"{what} of {name} is {number}: give its money, or leave it out")
    return np.array([table.get(name, 0.0) for name in among])


def check_money(what: str, given: Money) -> None:
    """Raise where there is nothing by ticker."""
    if not isinstance(given, Mapping | pd.Series):
        raise ValueError(
            f"{what} must be money by ticker, a dict or a Series, not {type(given).__name__}: give "
            '{"XLE": 1e6}'
        )


def _once(what: str, given: Money) -> dict[str, float]:
    check_money(what, given)
    table = {str(name): float(number) for name, number in given.items()}
    if len(table) < len(given):
        twice = pd.Index(list(given.keys())).duplicated()
        raise ValueError(
            f"{what} names {list(given.keys())[int(twice.argmax())]} twice: give one number for it"
        )
    return table


def _bound(what: str, given: Bound, legs: Sequence[str], default: float) -> np.ndarray:
    by_leg = given if isinstance(given, Mapping) else dict.fromkeys(legs, given)
    unknown = [name for name in by_leg if name not in legs]
    if unknown:
        raise ValueError(f"{what} names {unknown[0]}, which is not among the hedges: take it out")
    for name, number in by_leg.items():
        if not number >= 0:
            raise ValueError(f"{what} of {name} is {number}: give 0 or more")
    return np.array([float(by_leg.get(name, default)) for name in legs])


@dataclass(frozen=True, eq=False)
class Rules:
    """Limits and costs by leg, all of shape (n,): money, shares of the money traded, prices."""

    least: np.ndarray
    greatest: np.ndarray
    short: np.ndarray
    cost: np.ndarray
    prices: np.ndarray | None
    lots: np.ndarray | None


def rules_of(
    legs: Sequence[str],
    *,
    prices: Money | None,
    lots: Bound | None,
    cost: float | Cost | Mapping[str, float | Cost],
    least: Bound,
    greatest: Bound,
    short: bool | Sequence[str],
) -> Rules:
    """Check what is asked of each leg."""
    low, high = (
        _bound("least", least, legs, 0.0),
        _bound("greatest", greatest, legs, math.inf),
    )
    for name, lo, hi in zip(legs, low, high, strict=True):
        if not lo <= hi or math.isinf(lo):
            raise ValueError(
                f"{name} must have at least {lo:g} and at most {hi:g}: raise greatest, lower least, or "
                "take it out of the hedges"
            )
    if isinstance(short, str):
        raise ValueError(f'short must be True, False or a list of tickers: give ["{short}"]')
    may = legs if short is True else short or []
    unknown = [name for name in may if name not in legs]
    if unknown:
        raise ValueError(f"short names {unknown[0]}, which is not among the hedges: take it out")
    quoted = None if prices is None else _prices(legs, prices)
    sizes = None
    if lots is not None:
        if quoted is None:
            raise ValueError(
                "lots are counted in shares, so they need prices: give prices=, one by leg, or leave "
                "lots out"
            )
        sizes = _bound("lots", lots, legs, 0.0)
        if np.isinf(sizes).any():
            raise ValueError(f"lots of {legs[int(np.isinf(sizes).argmax())]} is inf: give shares")
    return Rules(
        low,
        high,
        np.array([name in may for name in legs]),
        _rates(legs, cost, quoted),
        quoted,
        sizes,
    )


def _prices(legs: Sequence[str], prices: Money) -> np.ndarray:
    known = _once("prices", prices)
    for name in legs:
        price = known.get(name, math.nan)
        if not 0 < price < math.inf:
            raise ValueError(
                f"the price of {name} is {price}: give one above 0, or take it out of the hedges"
            )
    return np.array([known[name] for name in legs])


def _rates(
    legs: Sequence[str], cost: float | Cost | Mapping[str, float | Cost], prices: np.ndarray | None
) -> np.ndarray:
    """Cost of one traded, as a share of its money."""
    by_leg = cost if isinstance(cost, Mapping) else dict.fromkeys(legs, cost)
    rates = []
    for j, name in enumerate(legs):
        if name not in by_leg:
            raise ValueError(f"cost has nothing for {name}: give its basis points, 0 if it is free")
        one = by_leg[name]
        if isinstance(one, Cost):
            if one.per_share and prices is None:
                raise ValueError(
                    f"the cost of {name} is {one.per_share:g} a share, which needs prices: give prices="
                    ", or a cost in basis points alone"
                )
            price = 1.0 if prices is None else float(prices[j])
            rates.append(one.of_one(price) / price)
        elif 0 <= one < math.inf:
            rates.append(1e-4 * one)
        else:
            raise ValueError(f"the cost of {name} is {one} basis points: give 0 or more")
    return np.array(rates)


def number_of_legs(legs: int | None, allowed: int) -> int:
    """At most so many legs."""
    if legs is None:
        return allowed
    if isinstance(legs, bool) or not legs >= 1 or legs % 1:
        raise ValueError(f"legs must be a whole number, 1 or more, not {legs}")
    return min(int(legs), allowed)


def check_hedges(hedges: Sequence[str], cov: pd.DataFrame) -> list[str]:
    """The allowed legs, each known and once."""
    if isinstance(hedges, str):
        raise ValueError(f'hedges must be a list of tickers: give ["{hedges}"]')
    names = [str(name) for name in hedges]
    if not names:
        raise ValueError("no leg is allowed: name at least one in hedges")
    for name in names:
        if name not in cov.columns:
            raise ValueError(
                f"hedges has {name}, which is not in cov: estimate cov with it, or take it out"
            )
        if names.count(name) > 1:
            raise ValueError(f"hedges names {name} twice: name it once")
        if not cov.loc[name, name] > 0:
            raise ValueError(
                f"{name} has no variance in cov and hedges nothing: take it out of the hedges"
            )
    return names


def check_number(what: str, number: float, *, positive: bool = False) -> None:
    """Raise unless a number is finite and 0 or more, or above 0 where it must be `positive`."""
    if not 0 <= number < math.inf or (positive and number == 0):
        raise ValueError(
            f"{what} is {number}: give {'a number above 0' if positive else '0 or more'}"
        )
