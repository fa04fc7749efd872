"""The hedge of a universe as a plain loop once more, with 50 digits.

Arrays of decimal numbers, elimination, Jacobi's rotations. Moves and best legs are handed in as the
engine has them in double precision.
"""

from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import NamedTuple

import numpy as np

from tests.basket.plain import MEMORIES, TAILS

DIGITS = 50


class Exact(NamedTuple):
    """Means, sds and log scores by row `(row, target)`, NaN before there are any; ratios at the end."""

    mean: np.ndarray
    sd: np.ndarray
    scores: np.ndarray
    ratios: np.ndarray


def replay_exactly(moves: np.ndarray, legs: dict[int, np.ndarray]) -> Exact:
    """All assets hedged with all others; `legs[t]` are those of row t, `(target, count)`."""
    with localcontext() as context:
        context.prec = DIGITS
        return _replay(exact(moves), legs)


exact = np.vectorize(lambda value: Decimal(float(value)), otypes=[object])
root = np.vectorize(Decimal.sqrt, otypes=[object])
log = np.vectorize(Decimal.ln, otypes=[object])
exp = np.vectorize(Decimal.exp, otypes=[object])


def diagonal(values: Sequence[Decimal]) -> np.ndarray:
    found = exact(np.zeros((len(values), len(values))))
    np.fill_diagonal(found, values)
    return found


def solve(gram: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Gaussian elimination; a positive definite matrix needs no pivots."""
    table, n = np.hstack([gram, right[:, None]]), len(gram)
    for i in range(n):
        below = table[i + 1 :, i] / table[i, i]
        table[i + 1 :, i:] -= below[:, None] * table[i, i:]
    found = table[:, n].copy()
    for i in reversed(range(n)):
        found[i] = (found[i] - (table[i, i + 1 : n] * found[i + 1 :]).sum()) / table[i, i]
    return found


def rotate(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of a symmetric matrix, the largest first, by Jacobi's rotations."""
    a, n = matrix.copy(), len(matrix)
    vectors = diagonal([Decimal(1)] * n)
    while max(abs(a[i, j]) for i in range(n) for j in range(i)) > Decimal(10) ** (5 - DIGITS):
        for i in range(n):
            for j in range(i):
                if not a[i, j]:
                    continue
                turn = (a[j, j] - a[i, i]) / (2 * a[i, j])
                t = (1 if turn >= 0 else -1) / (abs(turn) + (1 + turn * turn).sqrt())
                c = 1 / (1 + t * t).sqrt()
                s = t * c
                for side in (a, a.T, vectors.T):
                    side[i], side[j] = c * side[i] - s * side[j], s * side[i] + c * side[j]
    order = sorted(range(n), key=lambda i: -a[i, i])
    return np.diag(a)[order], vectors[:, order]


def market_weights(moves: np.ndarray) -> list[Decimal]:
    """Weight of every row."""
    variance = (moves[:60] ** 2).sum(0) / 60
    sizes = []
    for row in moves:
        sizes.append(np.minimum(row**2 / variance, Decimal(50)).sum() / len(row))
        variance = Decimal("0.99") * variance + Decimal("0.01") * row**2
    level, weights = sum(sizes[:60]) / 60, []
    for size in sizes:
        weights.append(1 / (Decimal("0.7") * level + Decimal("0.3") * size + Decimal("0.1")))
        level = Decimal("0.94") * level + Decimal("0.06") * size
    return weights


class Memory:
    """The structures of all targets on one memory."""

    def __init__(self, rows: int, assets: int) -> None:
        self.decay, self.total = 1 - 1 / Decimal(rows), Decimal(0)
        self.squares = exact(np.zeros((assets, assets)))
        self.warm: dict[tuple[int, str], np.ndarray] = {}

    def learn(self, move: np.ndarray, weight: Decimal) -> None:
        self.squares = self.decay * self.squares + weight * np.outer(move, move)
        self.total = self.decay * self.total + 1

    def look(self, t: int) -> None:
        """Correlations, and those of their first factors; the reweighted ridges where it is time."""
        self.size = root(np.diag(self.squares))
        self.corr = self.squares / np.outer(self.size, self.size)
        n, self.common = len(self.corr), {}
        values, vectors = rotate(self.corr)
        for count in (1, 3):
            self.common[count] = (vectors[:, :count] * values[:count]) @ vectors[:, :count].T
            np.fill_diagonal(self.common[count], Decimal(1))
        for target in range(n):
            others = [j for j in range(n) if j != target]
            gram, right = self.corr[np.ix_(others, others)], self.corr[others, target]
            for a in ("0.0003", "0.001", "0.003", "0.006"):
                before = self.warm.get((target, a))
                solves = 6 if before is None else 0 if t % 5 else 2
                start = before
                if start is None:
                    start = solve(gram + diagonal([Decimal("0.05")] * len(others)), right)
                for _ in range(solves):
                    width = Decimal(a) / (start**2 + Decimal("0.0004"))
                    start = solve(gram + diagonal(width), right)
                start = np.where(abs(start) < Decimal("0.0001"), Decimal(0), start)
                self.warm[target, a] = start

    def ratios(self, target: int, legs: list[int]) -> list[np.ndarray]:
        """Of every structure, over all assets."""
        n = len(self.corr)
        others = [j for j in range(n) if j != target]
        found = []

        def add(places: list[int], coefs: np.ndarray) -> None:
            ratio = exact(np.zeros(n))
            ratio[places] = coefs * self.size[target] / self.size[places]
            found.append(ratio)

        def ridge(places: list[int], corr: np.ndarray, a: str) -> None:
            gram = corr[np.ix_(places, places)] + diagonal([Decimal(a)] * len(places))
            add(places, solve(gram, corr[places, target]))

        for size in (1, 2, 3, 5, 8):
            if size < n:
                ridge(legs[:size], self.corr, "0.01")
        for a in ("0.001", "0.01", "0.03", "0.1", "0.3"):
            ridge(others, self.corr, a)
        for count, share in ((1, "0.1"), (1, "0.3"), (1, "0.6"), (3, "0.3"), (3, "0.6")):
            part = Decimal(share)
            ridge(others, (1 - part) * self.corr + part * self.common[count], "0.001")
        for a in ("0.0003", "0.001", "0.003", "0.006"):
            add(others, self.warm[target, a])
        return found


def densities(errors: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Student-t of every tail, `(tail, expert)`, up to a factor of each tail that `constants` has."""
    found = []
    for nu in TAILS:
        square = 1 + errors**2 / (variances * (nu - 2))
        found.append(1 / (square ** (nu // 2) * root(square * variances)))
    return np.array(found)


def constants() -> np.ndarray:
    """Gamma((nu + 1) / 2) / (Gamma(nu / 2) sqrt(pi (nu - 2))) of every tail."""
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
    found = []
    for nu in TAILS:
        above, below = pi.sqrt(), Decimal(1)
        for k in range(nu // 2):
            above *= k + Decimal("0.5")
        for k in range(1, nu // 2):
            below *= k
        found.append(above / below / (pi * (nu - 2)).sqrt())
    return np.array(found)


def _replay(moves: np.ndarray, legs: dict[int, np.ndarray]) -> Exact:
    rows, n = moves.shape
    weights, scale = market_weights(moves), constants()
    memories = [Memory(m, n) for m in MEMORIES]
    told, ratios = np.full((3, rows, n), np.nan), np.full((n, n), np.nan)
    log_weights, variances = {}, {}
    tails = {i: np.array([Decimal(1)] * len(TAILS)) for i in range(n)}
    for t in range(rows + 1):
        if t >= 250:
            for memory in memories:
                memory.look(t)
            for i in range(n):
                chosen = legs[min(t, rows - 1)][i].tolist()
                beta = np.array([each for m in memories for each in m.ratios(i, chosen)])
                log_w = log_weights.get(i, exact(np.zeros(len(beta))))
                mixed = exp(Decimal("0.3") * (log_w - max(log_w)))
                mixed = mixed / mixed.sum()
                if t == rows:
                    ratios[i] = mixed @ beta
                    continue
                y = moves[t, i]
                mean = beta @ moves[t]
                e = y - mean
                if i not in variances:
                    first = (moves[:t, i] ** 2).sum() / t
                    variances[i] = np.maximum(e**2, first / 5)
                v, q = variances[i], tails[i] / tails[i].sum()
                dense = densities(e, v) * scale[:, None]
                centre = mixed @ mean
                told[0, t, i] = centre
                told[1, t, i] = (mixed @ (v + (mean - centre) ** 2)).sqrt()
                told[2, t, i] = (q @ dense @ mixed).ln()
                tails[i] = q * (dense @ mixed)
                log_weights[i] = Decimal("0.997") * log_w + log(q @ dense)
                gain = max(Decimal("0.03"), 1 / Decimal(t - 250 + 2))
                variances[i] = v + gain * (e**2 - v)
        if t < rows:
            for memory in memories:
                memory.learn(moves[t], weights[t])
    return Exact(*told, ratios)
