"""Where a basket stands, and how assets come in: the first rows all at once, newcomers one by one."""

from typing import NamedTuple

import numpy as np

from kfmodels.basket.advice import Choice
from kfmodels.basket.listing import (
    ENOUGH,
    GONE,
    LEG_FROM,
    TARGET_FROM,
    Listing,
    unlisted,
    without_wild,
)
from kfmodels.basket.moments import Market, Moments, Others, open_market, regress
from kfmodels.basket.opinion import Opinion, no_opinion
from kfmodels.basket.settings import CHOOSER, MEMORIES
from kfmodels.clock.instants import Stamp
from kfmodels.files.documents import register
from kfmodels.online.shocks import Hold


class Standing(NamedTuple):
    """Where a basket stands after a row; its arrays are never written to.

    `joined (N,)` says which assets take part. `recent (time, N)` and `recent_weights` are the last rows
    of moves, kept while an asset has yet to join. `doubt (N,)` is the variance of an asset's move given
    all others; `holds` are those of `Shocks`, by ticker.
    """

    at: Stamp | None
    rows: int
    listing: Listing
    joined: np.ndarray
    market: Market | None
    moments: Moments
    recent: np.ndarray
    recent_weights: np.ndarray
    doubt: np.ndarray
    choice: Choice | None
    opinion: Opinion
    holds: dict[str, Hold]

    def legs(self, among: np.ndarray) -> np.ndarray:
        """Which assets may be legs now, of those `among (N,)`."""
        listing = self.listing
        old = self.joined & (listing.age >= LEG_FROM) & (listing.gap <= GONE)
        return among & old & ~listing.stopped


register(Standing)


def nothing_learnt(assets: int, targets: int, experts: int) -> Standing:
    """Where a basket stands before its first row."""
    square = np.zeros((len(MEMORIES), assets, assets))
    return Standing(
        at=None,
        rows=0,
        listing=unlisted(assets),
        joined=np.zeros(assets, bool),
        market=None,
        moments=Moments(square, np.zeros(len(MEMORIES))),
        recent=np.zeros((0, assets)),
        recent_weights=np.zeros(0),
        doubt=np.zeros(assets),
        choice=None,
        opinion=no_opinion(targets, experts),
        holds={},
    )


def open_moments(now: Standing, guarded: bool, decays: np.ndarray) -> Standing:
    """Learn the first rows, all at once; `guarded` leaves out moves far outside.

    With fewer than two assets that have enough moves the oldest row goes, and the next is waited for.
    """
    moves = without_wild(now.recent) if guarded else now.recent
    seen = ~np.isnan(moves)
    joined = (now.listing.age >= TARGET_FROM) & (seen.sum(0) >= ENOUGH)
    if joined.sum() < 2:
        return now._replace(rows=now.rows - 1, recent=now.recent[1:])
    seen &= joined
    rough = np.where(seen, moves, 0.0)
    unit = np.sqrt((rough**2).mean(0))
    unit = np.where(unit > 0, unit, 1.0)
    corr = (rough / unit).T @ (rough / unit) / len(rough)
    # half the correlations: as many assets as rows would fill the gaps with noise
    others = Others.of(0.5 * corr + 0.5 * np.eye(len(corr)), unit)
    market, moments, listing = open_market(rough, seen), now.moments, now.listing
    recent, weights = np.where(joined, rough, now.recent), np.zeros(len(rough))
    for number, (row, known) in enumerate(zip(rough, seen, strict=True)):
        realised = market.realise(row, known)
        weights[number] = weight = market.weigh(realised)
        filled, gap = others.fill(row, joined & ~known)
        moments = moments.after(filled, weight, gap, decays)
        market = market.after(filled, known, realised)
        listing = listing.learn(filled, known)
        recent[number, joined] = filled[joined]
    return now._replace(
        listing=listing,
        joined=joined,
        market=market,
        moments=moments,
        doubt=np.diagonal(moments.squares[CHOOSER]) / moments.total[CHOOSER],
        recent=recent,
        recent_weights=weights,
    )


def admit(now: Standing, guarded: bool) -> Standing:
    """Let assets in that have been there for long enough; rows are kept until all have come in."""
    moves = without_wild(now.recent) if guarded else now.recent
    seen = ~np.isnan(moves)
    fresh = ~now.joined & (now.listing.age >= TARGET_FROM) & (seen.sum(0) >= ENOUGH)
    joined, doubt, moments, listing = now.joined | fresh, now.doubt.copy(), now.moments, now.listing
    market = now.market
    assert market is not None
    variance, square, count = market.variance.copy(), listing.square.copy(), listing.seen.copy()
    for new in np.flatnonzero(fresh).tolist():
        row = moves[seen[:, new], new]
        unit = np.sqrt(now.recent_weights[seen[:, new]])
        others = np.where(now.joined, now.recent[seen[:, new]], 0.0) * unit[:, None]
        on, doubt[new] = regress(row * unit, others)
        moments = moments.admit(new, on, doubt[new])
        square[new], count[new] = (row**2).sum(), len(row)
        variance[new] = (row**2).mean()
    kept = 0 if joined.all() else len(moves)
    return now._replace(
        joined=joined,
        market=market._replace(variance=variance),
        moments=moments,
        doubt=doubt,
        listing=listing._replace(square=square, seen=count),
        recent=now.recent[:kept],
        recent_weights=now.recent_weights[:kept],
    )
