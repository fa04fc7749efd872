"""Which covariance hedges a book best: `python -m tests.benchmarks books`.

Books of five positions of random sign and size, each hedged every day at the least variance in at most
three, or five, of the other assets (forward selection), without cost. Every covariance is known the
day before. Differences are paired with the one that `estimate_covariance` gives.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from kfmodels.basket.basket import Basket
from kfmodels.kalman.density import Z90
from kfmodels.universe.covariance import estimate_covariance
from tests.benchmarks.report import Report, Table, numbered
from tests.benchmarks.universe import BLOCK, RESAMPLES, Universe, universes

BOOKS, POSITIONS, SIZES = 20, 5, (3, 5)
OURS = "as shipped"
WHAT = (
    f"{BOOKS} books of {POSITIONS} positions of random sign and size, each hedged every day at the "
    "least variance in at most so many of the other assets, without cost, by a covariance known the "
    "day before. `removed`: share of the mean square of the book's daily move, the mean over books; "
    "`behind`: the lead of the covariance that is shipped, with its paired standard error from blocks "
    "of 20 days. `inside`: share of hedged moves within 1.645 of the sd that the covariance states "
    "(90 % of a normal); `rms z`: root mean square of hedged moves over that sd."
)


class Books(NamedTuple):
    """Money in every asset `(book, asset)`, and where legs may be."""

    money: np.ndarray
    free: np.ndarray


def draw_books(assets: int) -> Books:
    """Positions of random sign, of .2 to 1.8; legs may be all others."""
    rng = np.random.default_rng(1)
    money, free = np.zeros((BOOKS, assets)), np.ones((BOOKS, assets), bool)
    for book in range(BOOKS):
        own = rng.choice(assets, POSITIONS, replace=False)
        money[book, own] = rng.choice([-1, 1], POSITIONS) * rng.uniform(0.2, 1.8, POSITIONS)
        free[book, own] = False
    return Books(money, free)


def hedge(cov: np.ndarray, books: Books) -> dict[int, np.ndarray]:
    """Money with the legs in it, `(book, asset)`, by the most legs: forward selection by sweeps."""
    money, every, n = books.money, np.arange(len(books.money)), len(cov)
    table = np.empty((len(money), n + 1, n + 1))
    table[:, :n, :n] = cov
    table[:, :n, n] = table[:, n, :n] = with_legs = money @ cov
    table[:, n, n] = (with_legs * money).sum(1)
    free, chosen, found = books.free.copy(), [], {}
    for count in range(1, max(SIZES) + 1):
        left = table[:, range(n), range(n)]
        useful = free & (left > 1e-4 * np.diag(cov))
        gain = np.where(useful, table[:, :n, n] ** 2, -1.0) / np.where(useful, left, 1.0)
        best = gain.argmax(1)
        chosen.append(best)
        free[every, best] = False
        column = table[every, :, best]
        table = table - column[:, :, None] * column[:, None] / column[every, best, None, None]
        if count in SIZES:
            legs = np.stack(chosen, 1)
            gram = cov[legs[:, :, None], legs[:, None]]
            right = np.take_along_axis(with_legs, legs, 1)
            found[count] = money.copy()
            found[count][every[:, None], legs] = -np.linalg.solve(gram, right[..., None])[..., 0]
    return found


def shrink(corr: np.ndarray, share: float) -> np.ndarray:
    """Correlations, a share of the way to those of their first factor."""
    values, vectors = np.linalg.eigh(corr)
    common = values[-1] * np.outer(vectors[:, -1], vectors[:, -1])
    np.fill_diagonal(common, 1.0)
    return (1 - share) * corr + share * common


def candidates(basket: Basket, short: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Covariances of the next row; `short` are variances of memory 33."""
    market = basket.stand.market
    assert market is not None
    corr, sd = basket.stand.moments.standardise()
    sd = sd / np.sqrt(market.foreseen())
    yield OURS, estimate_covariance(basket).to_numpy()
    each = corr * sd[:, :, None] * sd[:, None]
    for number, memory in enumerate((50, 100, 200, 500)):
        yield f"memory {memory}", each[number]
    mean = each.mean(0)
    own = np.sqrt(np.diag(mean))
    whole = mean / np.outer(own, own)
    yield "mean of the four", mean
    for share in (0.1, 0.3, 0.6):
        yield f"mean, {share} to one factor", shrink(whole, share) * np.outer(own, own)
    yield "mean, variances of memory 33", whole * np.sqrt(np.outer(short, short))
    yield "correlations 200, variances 50", corr[2] * np.outer(sd[0], sd[0])
    size = np.sqrt(sd[0] * sd[2])
    for share in (0.1, 0.3):
        yield f"as shipped, {share} to one factor", shrink(corr[2], share) * np.outer(size, size)


def run(universe: Universe) -> tuple[np.ndarray, dict[tuple[str, int], np.ndarray]]:
    """Moves of the books `(day, book)`; by name and legs those of the hedged, and their sds."""
    books, basket = draw_books(len(universe.tickers)), Basket(universe.tickers, legs=1, shocks=None)
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    short, held = (universe.moves[:60] ** 2).mean(0), {}
    for day, row in enumerate(universe.prices):
        if day:
            move = universe.moves[day - 1]
            short = 0.97 * short + 0.03 * move**2
            for key, (money, sd) in held.items():
                found.setdefault(key, []).append(np.stack([money @ move, sd]))
        basket.update(dict(zip(universe.tickers, row.tolist(), strict=True)))
        if day >= universe.training:
            held = {}
            for name, cov in candidates(basket, short):
                for size, money in hedge(cov, books).items():
                    sd = np.sqrt(np.einsum("bi,ij,bj->b", money, cov, money))
                    held[name, size] = money, sd
    return universe.later @ books.money.T, {key: np.array(each) for key, each in found.items()}


def table(universe: Universe) -> pd.DataFrame:
    """A line a covariance, for three legs and for five."""
    plain, found = run(universe)
    days, rng, lines = len(plain), np.random.default_rng(0), []
    starts = rng.integers(0, days, (RESAMPLES, -(-days // BLOCK)))
    rows = ((starts[..., None] + np.arange(BLOCK)) % days).reshape(RESAMPLES, -1)[:, :days]
    counts = np.array([np.bincount(row, minlength=days) for row in rows])

    def removed(hedged: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return (1 - (weights @ hedged**2) / (weights @ plain**2)).mean(-1)

    even = np.ones((1, days))
    for (name, size), each in found.items():
        (hedged, sd), ours = (each[:, 0], each[:, 1]), found[OURS, size][:, 0]
        z = hedged / sd
        line = {"covariance": name, "legs": size, "removed": removed(hedged, even)[0]}
        line["behind"] = (removed(ours, even) - removed(hedged, even))[0]
        line["+-"] = (removed(ours, counts) - removed(hedged, counts)).std()
        line |= {"inside": (np.abs(z) < Z90).mean(), "rms z": np.sqrt((z**2).mean())}
        lines.append(line)
    return pd.DataFrame(lines).sort_values("legs", kind="stable").set_index("covariance")


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks books", description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="WORD", help="universes with it in their name"
    )
    options = parser.parse_args(arguments)
    tables = []
    for universe in universes():
        if options.only in universe.name:
            title = f"{universe.name}, {len(universe.later)} days after {universe.training}"
            tables.append(Table(title, numbered(table(universe), "covariance")))
            print(title, file=sys.stderr, flush=True)
    return Report("The covariance that hedges a book", WHAT, tables)
