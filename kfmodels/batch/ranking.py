"""Which single hedge serves a target best, on dates that no fit has seen."""

import numpy as np
import pandas as pd

from kfmodels.basket.settings import FEW
from kfmodels.batch.board import HedgeBoard
from kfmodels.batch.few_legs import hold_few
from kfmodels.data.arrays import removed, slopes
from kfmodels.data.hedge_data import MIN_ROWS
from kfmodels.data.later import repair_later, warn_of_later
from kfmodels.data.repairs import Repair
from kfmodels.words.caller import explain_kinds
from kfmodels.words.progress import wait_for


@explain_kinds
def rank_hedges(
    board: HedgeBoard,
    target: str,
    prices: pd.DataFrame,
    *,
    top: int | None = 10,
    repair: Repair | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    r"""Rank the hedges of one target by how well they forecast it on later dates, the best first.

    $$\bar\ell = \tfrac1T ∑_t \log p(y_t ∣ x_t, y_{<t}, x_{<t}), \qquad
    1 - \mathrm{Var}(Δy_t - β_{t-1} Δx_t) / \mathrm{Var}(Δy_t)$$

    The filter of every fitted pair of the target runs on through the later rows. The best of many looks
    better than it is, because it was chosen for it: score it again on dates that had no part in that.

    Args:
        board: from `fit_many`, fitted on prices that end before the dates to be scored.
        target: its ticker.
        prices: rows later than the fit, with columns of the target and its hedges; earlier rows are
            left out.
        top: number of hedges; None for all.
        repair: of the later rows, as for `HedgeData.from_prices`; ratios stay in the units of the fit.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        One row per hedge, sorted by `log_score` (mean, nats a bar): `log_score`; the share of the
        variance of the target's one-bar moves that was removed by the ratio known the bar before
        (`variance_removed`), and by least squares on changes over the rows of the fit
        (`static_removed`); what the best leg of all these hedges and the best three would have removed
        in the same bars, chosen as they went by (`best_1`, `best_3`, and `best_3_legs` that were held
        most; NaN where a bar has less than 250 before it, and of more than 100 hedges); `bars` that
        were scored; `beta` and `sd` at the end. Compare the log scores of hedges with as many bars:
        with fewer, a hedge may owe its place to quiet days.

    Raises:
        ValueError: no pair of the target was fitted, or fewer than 30 later rows.

    Warns:
        UserWarning: once, of later prices that are in doubt, as `HedgeData.from_prices` does.

    Source: variance removed: Ederington (1979), Journal of Finance 34; the log score: Gneiting and
    Raftery (2007), Strictly proper scoring rules, JASA 102.

    Example:
        >>> from kfmodels import HedgeData, datasets, fit_many
        >>> prices = datasets.etfs().loc["2014":, ["EWG", "EWQ", "EWU"]]
        >>> pairs = HedgeData.one_target(prices, "EWG").before("2016-01-01")
        >>> table = rank_hedges(fit_many(pairs, progress=False), "EWG", prices, top=2)
        >>> len(table), bool(table["variance_removed"].iloc[0] > 0.5)
        (2, True)
    """
    target = str(target)
    live = board.online([target])
    hedges = [str(hedge) for (hedge,) in live.hedges]
    later = board.later(prices, [target, *hedges])
    if len(later) < MIN_ROWS:
        raise ValueError(
            f"only {len(later)} rows are later than {board.fit_until}, {MIN_ROWS} are needed: fit on "
            "pairs.before(date) and score from that date on"
        )
    training: pd.DataFrame = board.pairs.prices.loc[:, [target, *hedges]]
    repaired = repair_later(training, later, repair)
    later = repaired.as_fitted
    known = (*board.pairs.real, *repaired.real)
    warn_of_later(training, later, board.pairs.transform, known)
    ticks = []
    with wait_for("following the hedges", len(later), shown=progress, compiles=False) as waiting:
        for at, (_, row) in zip(later.index, later.iterrows(), strict=True):
            ticks.append(live.update(row, at=at))
            waiting.advance()
    score = np.array([tick.log_score for tick in ticks])
    # a move is hedged by the ratio of the bar before: for the first one that of the fit
    fitted = board.table().loc[list(live.names), "beta"].to_numpy()
    held = np.array([fitted, *(tick.beta for tick in ticks[:-1])])
    every = pd.concat([training, later])  # the first later move starts at the last price of the fit
    moves = board.pairs.transform.moves(every, every.shift(1)).to_numpy()
    known, scored = np.split(moves, [len(training)])
    best = hold_few(every, target, hedges, transform=board.pairs.transform)
    left = best.left[:, len(training) :]
    legs = best.name(1, np.arange(len(training), len(every)), FEW[1])
    found = pd.DataFrame(
        {
            "log_score": np.nanmean(score, 0),
            "variance_removed": removed(scored, held),
            "static_removed": removed(scored, slopes(known)),
            **{f"best_{few}": _removed_by(scored, one) for few, one in zip(FEW, left, strict=True)},
            "best_3_legs": ", ".join(legs),
            "bars": np.isfinite(score).sum(0),
            "beta": ticks[-1].beta,
            "sd": ticks[-1].sd_total,
        },
        index=pd.Index(hedges, name="hedge"),
    )
    ordered = found.sort_values("log_score", ascending=False)
    return ordered if top is None else ordered.head(top)


def _removed_by(moves: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Share of the target's variance that is not in `left (time,)`, over the bars of every hedge."""
    found = np.full(moves.shape[1] - 1, np.nan)
    for number, both in enumerate(np.isfinite(moves[:, :1] + moves[:, 1:]).T):
        if both.any() and np.isfinite(left[both]).all():
            y = moves[both, 0]
            found[number] = removed(np.column_stack([y, y - left[both]]), np.ones(1))[0]
    return found
