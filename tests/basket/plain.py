"""The hedge of a universe as a plain loop: one target, one expert at a time, nothing shared.

Written from the equations alone: every regression is an inverse or a least squares of its own.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

MEMORIES = (50, 100, 200, 500)
TAILS = (4, 6, 10)


class Replay(NamedTuple):
    """Ratios and sds after the last row `(target, asset)`, log scores and PITs by row."""

    ratios: np.ndarray
    sd: np.ndarray
    scores: np.ndarray
    below: np.ndarray


def market_weights(moves: np.ndarray) -> np.ndarray:
    """Weight of every row, and in the last place that of a row as it is foreseen after the last."""
    variance = (moves[:60] ** 2).mean(0)
    sizes = []
    for row in moves:
        sizes.append(np.minimum(row**2 / variance, 50).mean())
        variance = 0.99 * variance + 0.01 * row**2
    level, weights = np.mean(sizes[:60]), []
    for size in sizes:
        weights.append(1 / (0.7 * level + 0.3 * size + 0.1))
        level = 0.94 * level + 0.06 * size
    return np.array([*weights, 1 / (level + 0.1)])


def forward(corr: np.ndarray, target: int, allowed: list[int], count: int) -> list[int]:
    """Best legs by forward selection, each step by the variance that least squares would leave."""
    legs: list[int] = []
    while len(legs) < count:
        left = {}
        for new in allowed:
            if new not in legs:
                some = [*legs, new]
                block, with_target = corr[np.ix_(some, some)], corr[some, target]
                left[new] = 1 - with_target @ np.linalg.lstsq(block, with_target)[0]
        legs.append(min(left, key=left.__getitem__))
    return legs


def factors(corr: np.ndarray, hedges: list[int], target: int, count: int) -> np.ndarray:
    """Correlations of the hedges, and last the target, by the first eigenvectors of the hedges."""
    values, vectors = np.linalg.eigh(corr[np.ix_(hedges, hedges)])
    loadings = (vectors * np.sqrt(values.clip(0)))[:, -count:]
    own = np.array(
        [
            corr[target, hedges] @ v / np.sqrt(max(x, 1e-12))
            for x, v in zip(values[-count:], vectors[:, -count:].T, strict=True)
        ]
    )
    both = np.vstack([loadings, own])
    found = both @ both.T
    np.fill_diagonal(found, 1.0)
    return found


def experts(
    corr: np.ndarray,
    target: int,
    hedges: list[int],
    legs: list[int],
    reweighted: list[np.ndarray],
    limit: int | None,
    most: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Coefficients and diagonal of the inverse Gram matrix of every structure on one memory."""
    n = len(corr)
    others = [j for j in hedges if j != target]
    block, with_target = corr[np.ix_(others, others)], corr[others, target]
    found = []

    def add(places: list[int], gram: np.ndarray, right: np.ndarray) -> None:
        coefs, inner = np.zeros(n), np.zeros(n)
        inverse = np.linalg.inv(gram)
        coefs[places], inner[places] = inverse @ right, np.diag(inverse)
        found.append((coefs, inner))

    if limit is None:
        sizes = [(k, 0.01) for k in (1, 2, 3, 5, 8) if k <= most]
    else:
        ridges = (0.003, 0.05, 0.2)
        sizes = [
            (k, a) for k in (1, 2, 3, 5, 7, 10) if k <= limit for a in ridges[: 3 if k > 1 else 1]
        ]
        sizes = [(k, a) for k, a in sizes if k <= most]
    for size, ridge in sizes:
        some = legs[:size]  # a target among few hedges has one less
        add(some, corr[np.ix_(some, some)] + ridge * np.eye(len(some)), corr[some, target])
    if limit is not None:
        return found
    for ridge in (0.001, 0.01, 0.03, 0.1, 0.3):
        add(others, block + ridge * np.eye(len(others)), with_target)
    for count, share in ((1, 0.1), (1, 0.3), (1, 0.6), (3, 0.3), (3, 0.6)):
        # factors are those of all hedges, the target among them where it is one
        common = factors(corr, hedges, target, count)
        rows = [hedges.index(j) for j in others]
        gram = (1 - share) * block + share * common[np.ix_(rows, rows)]
        own = hedges.index(target) if target in hedges else -1
        add(
            others,
            gram + 0.001 * np.eye(len(others)),
            (1 - share) * with_target + share * common[rows, own],
        )
    for penalty, coefs in zip((0.0003, 0.001, 0.003, 0.006), reweighted, strict=True):
        width = penalty / (coefs[others] ** 2 + 0.02**2)
        inner = np.zeros(n)
        inner[others] = np.diag(np.linalg.inv(block + np.diag(width)))
        found.append((coefs, inner))
    return found


def reweigh(corr, target, others, penalty, before, rows):
    """The reweighted ridge of one target, from where it stood."""
    block, with_target = corr[np.ix_(others, others)], corr[others, target]
    if before is None:
        start = np.linalg.solve(block + 0.05 * np.eye(len(others)), with_target)
    else:
        start = before[others]
    for _ in range(6 if before is None else 2 if rows % 5 == 0 else 0):
        start = np.linalg.solve(block + np.diag(penalty / (start**2 + 0.0004)), with_target)
    out = np.zeros(len(corr))
    out[others] = np.where(abs(start) < 1e-4, 0, start)
    return out


def replay(
    moves: np.ndarray,
    *,
    targets: list[int] | None = None,
    hedges: list[int] | None = None,
    limit: int | None = None,
    share: float | None = None,
) -> Replay:
    """All of it, row by row; with `share` weights by fixed share instead of forgetting."""
    rows, n = moves.shape
    targets = list(range(n)) if targets is None else targets
    hedges = list(range(n)) if hedges is None else hedges
    weights = market_weights(moves)
    scores, below = np.full((2, rows, len(targets)), np.nan)
    ratios, sds = np.zeros((2, len(targets), n))
    squares = {m: np.zeros((n, n)) for m in MEMORIES}
    total = dict.fromkeys(MEMORIES, 0.0)
    legs: dict[int, list[int]] = {}
    warm: dict[tuple[int, int, int], np.ndarray] = {}
    log_weights, variances = {}, {}
    tails, taught = {i: np.zeros(3) for i in targets}, dict.fromkeys(targets, 0)
    for t in range(rows + 1):
        if t >= 250:
            cov = {m: squares[m] / total[m] for m in MEMORIES}
            size = {m: np.sqrt(np.diag(cov[m])) for m in MEMORIES}
            corr = {m: cov[m] / np.outer(size[m], size[m]) for m in MEMORIES}
            for number, i in enumerate(targets):
                others = [j for j in hedges if j != i]
                most = len(hedges) - (set(targets) <= set(hedges))
                if i not in legs or t % 21 == 0:
                    count = min(10 if limit else 8, len(others), most)
                    legs[i] = forward(corr[200], i, others, count)
                each, inner = [], []
                for m in MEMORIES:
                    for k, a in enumerate((0.0003, 0.001, 0.003, 0.006) if not limit else ()):
                        warm[i, m, k] = reweigh(corr[m], i, others, a, warm.get((i, m, k)), t)
                    held = [warm[i, m, k] for k in range(0 if limit else 4)]
                    for coefs, diagonal in experts(corr[m], i, hedges, legs[i], held, limit, most):
                        each.append(coefs * size[m][i] / size[m])
                        lam = 1 - 1 / m
                        effective = min((1 + lam) / (1 - lam), t)
                        inner.append(diagonal / size[m] ** 2 / effective)
                beta = np.array(each)
                log_w = log_weights.get(i, np.zeros(len(beta)))
                mixed = np.exp((1.0 if share else 0.3) * (log_w - log_w.max()))
                mixed /= mixed.sum()
                if t == rows:
                    ratios[number] = mixed @ beta
                    own = np.array(inner) * (variances[i] * weights[-1])[:, None]
                    sds[number] = np.sqrt(mixed @ (own + (beta - ratios[number]) ** 2))
                    continue
                y = moves[t, i]
                e = y - beta @ moves[t]
                if i not in variances:
                    variances[i] = np.maximum(e**2, 0.2 * (moves[:t, i] ** 2).mean())
                v = variances[i]
                q = np.exp(tails[i] - tails[i].max())
                q /= q.sum()
                each_tail = [stats.t(nu, scale=np.sqrt(v * (nu - 2) / nu)) for nu in TAILS]
                dense = np.array([law.pdf(e) for law in each_tail])  # (tail, expert)
                scores[t, number] = np.log(q @ dense @ mixed)
                below[t, number] = q @ np.array([law.cdf(e) for law in each_tail]) @ mixed
                gain = np.log(q @ dense)
                tails[i] = tails[i] + np.log(dense @ mixed)
                if share:
                    w = np.exp(log_w - log_w.max() + 0.3 * (gain - gain.max()))
                    log_weights[i] = np.log((1 - share) * w / w.sum() + share / len(w))
                else:
                    log_weights[i] = 0.997 * log_w + gain
                # the start counts as one row, until the memory is full
                gain = max(0.03, 1 / (taught[i] + 2))
                variances[i], taught[i] = v + gain * (e**2 - v), taught[i] + 1
        if t < rows:
            for m in MEMORIES:
                squares[m] = (1 - 1 / m) * squares[m] + weights[t] * np.outer(moves[t], moves[t])
                total[m] = (1 - 1 / m) * total[m] + 1
    return Replay(ratios, sds, scores, below)
