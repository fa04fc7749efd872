"""Transforms of prices before they are modelled: logs, none, or log returns.

Each is an object and at the same time the word that users write: it prints, compares and is saved as
"log", "level" or "return". Prices may be numbers, arrays or tables of pandas.
"""

import math

import numpy as np

from kfmodels.kalman.motion import Array

FARTHEST = 1e50
"""No price is as large, nor as small where logarithms or ratios are taken.

Squares of a ratio of two prices stay within what a float can hold, with room for a scale.
"""


class Transform(str):
    """From prices to the values that are modelled, and back; the base class is "level", prices as is.

    A price must be above `least`; `needs_last` says whether a value depends on the row before;
    `by_shares` whether a ratio counts shares of the hedge, or else money; `words` names the values.
    """

    __slots__ = ()
    least = -math.inf
    needs_last = False
    by_shares = True
    words = "prices"

    def values(self, prices: Array, last: Array = None) -> Array:
        """The values of prices; `last` are the prices of the row before, where they are needed."""
        return prices

    def price(self, value: Array, last: Array = None) -> Array:
        """The price that has a value."""
        return value

    def log_slope(self, price: Array, last: Array = None) -> Array:
        """Log derivative of the value by its price, which turns a log density into one of prices."""
        return 0.0

    def steps(self, values: Array) -> np.ndarray:
        """One-bar changes of values, along the first axis."""
        return np.diff(values, axis=0)

    def moves(self, prices: Array, last: Array) -> Array:
        """What one unit of a position earned: dollars on levels, simple returns otherwise."""
        return prices - last

    def shares(self, ratio: Array, target: Array, hedge: Array) -> Array:
        """A hedge ratio in shares of the hedge for a share of the target, at their prices."""
        return ratio


class _Money(Transform):
    """Transforms under which a hedge ratio is money of the hedge for money of the target."""

    __slots__ = ()
    least = 1 / FARTHEST
    by_shares = False

    def moves(self, prices: Array, last: Array) -> Array:
        return prices / last - 1

    def shares(self, ratio: Array, target: Array, hedge: Array) -> Array:
        return ratio * target / hedge


class _Log(_Money):
    __slots__ = ()
    words = "log prices"

    def values(self, prices: Array, last: Array = None) -> Array:
        return np.log(prices)

    def price(self, value: Array, last: Array = None) -> Array:
        return np.exp(value)

    def log_slope(self, price: Array, last: Array = None) -> Array:
        return -np.log(price)


class _Return(_Money):
    __slots__ = ()
    needs_last = True
    words = "returns"

    def values(self, prices: Array, last: Array = None) -> Array:
        return np.log(prices / last)

    def price(self, value: Array, last: Array = None) -> Array:
        return last * np.exp(value)

    def log_slope(self, price: Array, last: Array = None) -> Array:
        return -np.log(price)

    def steps(self, values: Array) -> np.ndarray:
        return np.asarray(values)  # a return is a one-bar change already


LOG, LEVEL, RETURN = _Log("log"), Transform("level"), _Return("return")


def transform_of(word: object) -> Transform:
    """The transform of a word.

    Raises:
        ValueError: it is none of the three.
    """
    for one in (LOG, LEVEL, RETURN):
        if word == one:
            return one
    raise ValueError(f'transform must be "log", "level" or "return", not {word!r}')
