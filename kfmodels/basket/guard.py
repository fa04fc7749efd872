"""Bad prints of one asset among many, and moves over a gap."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kfmodels.basket.moments import Gap, Others
from kfmodels.basket.standing import Standing
from kfmodels.basket.ticks import Said
from kfmodels.kalman.transforms import LOG
from kfmodels.online.shocks import (
    NONE,
    Hold,
    Quarantine,
    Shocks,
    Surprise,
    Verdict,
    check_shocks,
)
from kfmodels.online.splits import name_split
from kfmodels.online.ticks import Outcome

GUARD = Quarantine(hold=0)
"""The policy on bad prints: a second row of one sign confirms a move, a split too.

A move that is taken for real is learnt from as far as the limit, which can halve a ratio: a split is
to be told at its first row, which is held and names it.
"""

_DECAY = 0.98

_WILDEST = 36.0
"""Square of a surprise over its variance that the variance learns from at most."""


class Cleaned(NamedTuple):
    """A row that is learnt from.

    `move (N,)` with what was missing filled; `unseen` which moves those are; `gap` how far they may be
    off; `verdicts` on assets that were judged, by number; `doubt` the variance of an asset's move given
    all others, in the units of the moments, after the row; `weight` of the row in the moments.
    """

    move: np.ndarray
    unseen: np.ndarray
    gap: Gap | None
    verdicts: dict[int, Verdict]
    doubt: np.ndarray
    weight: float


def clean(
    now: Standing,
    others: Others,
    move: np.ndarray,
    seen: np.ndarray,
    *,
    shocks: Shocks | None,
    holds: dict[int, Hold],
    variance: float = 1.0,
) -> Cleaned:
    """Hold back what is far from what all other assets say of it, the farthest first, and fill it.

    One bad print spoils what the regressions say of the others, so after each the row is looked at
    anew without it. A move that is taken for real is learnt from as far as the limit: of a split no
    more enters than of a wild day. A move over a gap of g rows has the variance of g + 1 rows, so what
    it adds to the moves that were filled in is brought down to the size of one.

    Args:
        now: where the basket stands before the row.
        others: regressions of every asset on the others.
        move: of every asset `(N,)`; over a gap what the fills have not accounted for.
        seen: which assets that take part have one.
        shocks: the policy, None to take everything as it comes.
        holds: by number of the asset.
        variance: of the row, over that of a mean one.
    """
    market, doubt, unseen = now.market, now.doubt, now.joined & ~seen
    assert market is not None
    weight = market.weigh(market.realise(move, seen))
    length = np.sqrt(now.listing.rows_since(variance))
    verdicts = dict[int, Verdict]()
    held = np.isin(np.arange(len(move)), list(holds))
    while True:
        filled, gap = others.fill(move, unseen)
        left = others.surprise(filled, unseen)
        if shocks is None:
            break
        z = left * np.sqrt(weight / np.maximum(doubt, 1e-300)) / length
        judged = now.joined & ~unseen & ((np.abs(z) > shocks.limit) | held)
        judged[list(verdicts)] = False
        if not judged.any():
            break
        worst = int(np.where(judged, np.abs(z), -1.0).argmax())
        verdicts[worst] = shocks.judge(Surprise(float(z[worst])), holds.get(worst, NONE))
        unseen[worst] = not verdicts[worst].teaches(True)
    real = [number for number, verdict in verdicts.items() if verdict.moved]
    if real and shocks is not None and gap is not None:
        sign = np.array([verdicts[number].hold.sign for number in real])
        filled[real] += sign * shocks.limit * np.sqrt(doubt[real] / weight)
        unseen[real] = False
        gap = gap.without(real)
    usual = now.joined & ~unseen
    # what was held back must not make the row look wild
    learnt = market.weigh(market.realise(filled, usual))
    usual[real] = False
    filled = np.where(usual, filled - left * (1 - 1 / length), filled)
    square = np.minimum(weight * (left / length) ** 2, _WILDEST * doubt)
    doubt = np.where(usual, _DECAY * doubt + (1 - _DECAY) * square, doubt)
    return Cleaned(filled, unseen, gap, verdicts, doubt, learnt)


def tell_verdicts(
    verdicts: Mapping[int, Verdict],
    tickers: Sequence[str],
    given: np.ndarray,
    before: Standing,
    size: float = 1.0,
) -> dict[str, Said]:
    """Outcome and reason by ticker where a price was not simply accepted, and what to call of a split.

    Args:
        verdicts: by number of the asset.
        tickers: of all assets.
        given: prices of the row `(N,)`.
        before: where the basket stood before it.
        size: root of the variance of the row.
    """
    usual, said = size * np.sqrt(before.listing.mean_square), dict[str, Said]()
    for number, verdict in verdicts.items():
        reason, name = verdict.reason, tickers[number]
        if verdict.outcome is Outcome.QUARANTINED:
            one = slice(number, number + 1)
            legs = given[one], before.listing.last[one], np.zeros(1), usual[one]
            split = name_split([name], legs, LOG, at=before.at, verdict=verdict)
            reason = f"{reason}; {split}" if split else reason
        if verdict.outcome is not Outcome.ACCEPTED or verdict.moved:
            said[name] = Said(verdict.outcome, reason)
    return said


def check_policy(shocks: Shocks | None) -> None:
    """Raise where a policy neither takes a row nor holds it back, or is none."""
    check_shocks(shocks)
    if shocks is not None and shocks.doubt(np.zeros(1)) is not None:
        raise ValueError(
            f"a basket takes a price or holds it back, and {type(shocks).__name__} does neither: pass "
            "Quarantine() or None"
        )
