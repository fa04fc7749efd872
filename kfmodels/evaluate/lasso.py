"""Hedge ratios of a basket by the lasso, its penalty chosen by cross-validation."""

import numpy as np
import pandas as pd

from kfmodels.evaluate.baselines import complete_rows, on_all_rows

PENALTIES = np.array([0.003, 0.01, 0.02, 0.04, 0.08, 0.16])
"""In correlations: a hedge that explains less of the rest than this is left out."""

_FOLDS = 5
"""Blocks of neighbouring rows, so that a row is not told by those beside it."""

_REFIT = 21
"""Rows of a trading month, after which the ratios are estimated again."""

_ENOUGH, _SWEEPS = 1e-7, 5000
"""Largest change of a coefficient in the last sweep over all of them, and the most sweeps."""

_SETTLE = 10
"""Sweeps after which the hedges taken are solved for: funds of one market would need hundreds."""


def lasso(table: pd.DataFrame, first: int, window: int) -> pd.DataFrame:
    r"""Hedge ratios by the lasso on the last `window` rows, at every row from `first` on.

    $$\min_b \; \tfrac12 b^⊤ R_{xx} b - b^⊤ R_{xy} + λ |b|_1$$

    R are correlations about zero; the penalty is that of .003 to .16 with the least squared error
    over five blocks of rows, each left out in turn. The first column is the target. Estimated at
    row `first` and every 21 rows; fewer rows than the window are taken as they are. A row with a gap
    changes nothing; NaN before `first` and until 30 rows are complete.

    Source: Tibshirani (1996), Regression shrinkage and selection via the lasso, JRSS B 58; Friedman,
    Hastie and Tibshirani (2010) for the coordinate descent, J. Stat. Software 33.
    """
    values, start = complete_rows(table, first)
    rows, n = values.shape
    found = np.full((rows, n - 1), np.nan)
    best = np.zeros((_FOLDS + 1, len(PENALTIES), n - 1))
    for end in range(start, rows + 1, _REFIT):
        seen = values[max(end - window, 0) : end]
        size = np.sqrt((seen**2).mean(0))
        size[size == 0] = 1.0
        blocks = np.array([part.T @ part for part in np.array_split(seen / size, _FOLDS)])
        # without each block in turn, then on all rows
        kept = np.concatenate([blocks.sum(0) - blocks, blocks.sum(0)[None]])
        lengths = [len(part) for part in np.array_split(seen, _FOLDS)]
        counts = np.append(len(seen) - np.array(lengths), len(seen))
        best = descend(kept / counts[:, None, None], best)
        left = np.concatenate([np.ones((*best.shape[:2], 1)), -best], axis=2)[:_FOLDS]
        error = np.einsum("fki,fij,fkj->k", left, blocks, left)
        found[end - 1 : end - 1 + _REFIT] = best[-1, error.argmin()] * size[0] / size[1:]
    return on_all_rows(found, table)


def descend(moments: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Lasso coefficients `(problem, penalty, hedge)` of second moments `(problem, column, column)`.

    By coordinate descent from `start`, all problems and penalties at once.
    """
    found = start.copy()
    gram, target = moments[:, 1:, 1:], moments[:, 1:, 0]
    for sweep in range(1, _SWEEPS):
        moved = 0.0
        for j in range(found.shape[2]):
            own, at = gram[:, j, j, None], found[..., j]
            pull = target[:, j, None] - (found @ gram[:, j, :, None])[..., 0] + own * at
            # own is 0 for a hedge that has not moved, which takes no part
            new = (
                np.sign(pull) * np.maximum(np.abs(pull) - PENALTIES, 0) / np.where(own > 0, own, 1)
            )
            moved = max(moved, float(np.abs(new - at).max()))
            found[..., j] = new
        if moved < _ENOUGH:
            break
        if sweep % _SETTLE == 0:
            found = _settle(gram, target, found)
    return found


def _settle(gram: np.ndarray, target: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The least of the problem over hedges of the same signs, where it has these signs."""
    signs = np.sign(found)
    held = signs != 0
    own = gram[:, None] * held[..., :, None] * held[..., None, :]
    pull = (target[:, None] - PENALTIES[:, None] * signs) * held
    least = (np.linalg.pinv(own, rcond=1e-12, hermitian=True) @ pull[..., None])[..., 0] * held
    return np.where((np.sign(least) == signs).all(-1, keepdims=True), least, found)
