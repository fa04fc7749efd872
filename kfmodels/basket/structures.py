"""What a structure makes of correlations: the coefficients of every target on the hedges.

All in units of standard deviations. `corr` is the correlation of all assets; the hedges are some or all
of them, and a target may be among them. With K the inverse of a regularised block of the hedges, a
target i among them has the coefficients `-K_ij / K_ii`, one outside `K c` with c its correlations: so
one factorisation of the block serves all targets.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

STEADY = 0.001
"""Added to the diagonal of what is shrunk to factors, so that it has an inverse."""

NARROW = 0.02
"""Size of a coefficient below which the reweighted ridge treats it as none."""

_WHOLE = 24
"""Rows of a matrix from which on it is inverted by halves."""

_SPENT = 1e-3
"""Share of its variance that a hedge must have left, given the legs chosen before it."""


class Places(NamedTuple):
    """Where targets and hedges stand among the assets.

    `targets (n,)` and `hedges (h,)` are numbers of assets; `inside` the targets that are hedges
    themselves, by number of the target, and `own` which hedge each of those is; `outside` the others.
    """

    targets: np.ndarray
    hedges: np.ndarray
    inside: np.ndarray
    own: np.ndarray
    outside: np.ndarray


def place(targets: np.ndarray, hedges: np.ndarray) -> Places:
    """Find which targets are hedges."""
    spot = np.full(max(targets.max(initial=0), hedges.max(initial=0)) + 1, -1)
    spot[hedges] = np.arange(len(hedges))
    own = spot[targets]
    inside = np.flatnonzero(own >= 0)
    return Places(targets, hedges, inside, own[inside], np.flatnonzero(own < 0))


def choose_legs(corr: np.ndarray, places: Places, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Best legs of every target by forward selection, all targets at once.

    Each step takes the hedge that removes most of what the legs before it have left. Instead of a
    residual matrix for each target the rows of its partial Cholesky factor are kept, so that a step
    costs targets x hedges.

    Returns:
        Which hedges, `(n, count)` in the order of choice, and which of these are legs at all: a target
        may have fewer hedges that add anything.
    """
    n, every = len(places.targets), np.arange(len(places.targets))
    block = corr[np.ix_(places.hedges, places.hedges)]
    with_target = corr[np.ix_(places.targets, places.hedges)].copy()
    left = np.repeat(np.diag(block)[None], n, 0)
    free = np.ones(left.shape, bool)
    free[places.inside, places.own] = False
    rows = np.zeros((count, *left.shape))
    chosen, useful = np.zeros((n, count), int), np.zeros((n, count), bool)
    for step in range(count):
        new = free & (left > _SPENT)
        gain = np.where(new, with_target**2 / np.maximum(left, 1e-9), -1.0)
        best = gain.argmax(1)
        chosen[:, step], useful[:, step] = best, gain[every, best] >= 0
        before = rows[:step, every, best]
        row = block[best] - (before[..., None] * rows[:step]).sum(0)
        pivot = np.where(useful[:, step], left[every, best], 1.0)
        row *= (useful[:, step] / np.sqrt(pivot))[:, None]
        rows[step] = row
        with_target -= (with_target[every, best] / np.sqrt(pivot) * useful[:, step])[:, None] * row
        left -= row * row
        free[every, best] = False
    return chosen, useful


def solve_legs(
    corr: np.ndarray,
    places: Places,
    chosen: np.ndarray,
    useful: np.ndarray,
    best: Sequence[tuple[int, float]],
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients on the best legs, all sizes, ridges and memories in one sweep.

    The sets are nested, and after k pivots of a Gauss-Jordan sweep the regression on the first k legs
    stands in the table, its inverse Gram matrix beside it.

    Args:
        corr: `(memory, N, N)`.
        chosen, useful: as `choose_legs` gives them.
        best: size and ridge of each structure.

    Returns:
        Coefficients and the diagonal of the inverse, `(memory, structure, n, count)`, 0 beyond a size.
    """
    memories, (n, count) = len(corr), chosen.shape
    legs = places.hedges[chosen]
    ridges = sorted({ridge for _, ridge in best})
    both = useful[:, :, None] & useful[:, None, :]
    gram = np.where(both, corr[:, legs[:, :, None], legs[:, None, :]], 0.0)
    gram[:, :, np.arange(count), np.arange(count)] = 1.0
    table = np.empty((count, count + 1, len(ridges), memories, n))
    table[:, :count] = gram.transpose(2, 3, 0, 1)[:, :, None]
    with_target = np.where(useful, corr[:, legs, places.targets[:, None]], 0.0)
    table[:, count] = with_target.transpose(2, 0, 1)[:, None]
    for leg in range(count):
        table[leg, leg] += np.array(ridges)[:, None, None]
    coefs = np.zeros((memories, len(best), n, count))
    spread = np.zeros_like(coefs)
    for pivot in range(count):
        middle = table[pivot, pivot].copy()
        row = table[pivot] / middle
        column = table[:, pivot].copy()
        table -= column[:, None] * row
        table[pivot] = row
        table[:, pivot] = -column / middle
        table[pivot, pivot] = 1 / middle
        for number, (size, ridge) in enumerate(best):
            if size == pivot + 1:
                found = table[:size, :, ridges.index(ridge)]
                diagonal = found[np.arange(size), np.arange(size)]
                coefs[:, number, :, :size] = found[:, count].transpose(1, 2, 0)
                spread[:, number, :, :size] = diagonal.transpose(1, 2, 0)
    return coefs, spread * useful


class Dense(NamedTuple):
    """Inverses of regularised blocks of the hedges, one a structure, and what a target outside has.

    `inverse (structure, h, h)`, `with_outside (structure, h, targets outside)`; `values (h,)` and
    `vectors (h, h)` are the factorisation that they come from.
    """

    values: np.ndarray
    vectors: np.ndarray
    inverse: np.ndarray
    with_outside: np.ndarray

    def coefficients(self, places: Places, out: np.ndarray) -> None:
        """Write the coefficients of every target to `out (structure, n, h)`."""
        inside, own, outside = places.inside, places.own, places.outside
        diagonal = np.diagonal(self.inverse, axis1=1, axis2=2)[:, own]
        if len(outside) == 0 and len(own) == self.inverse.shape[-1] and (own[:-1] < own[1:]).all():
            np.divide(self.inverse, -diagonal[:, :, None], out=out)  # all targets, all hedges
        else:
            out[:, inside] = self.inverse[:, own] / -diagonal[:, :, None]
            found = self.inverse @ self.with_outside
            out[:, outside] = found.transpose(0, 2, 1)
        out[:, inside, own] = 0.0

    def spread(self, places: Places) -> np.ndarray:
        """Diagonals of the inverse Gram matrices without the target itself, `(structure, n, h)`."""
        inside, own = places.inside, places.own
        diagonal = np.diagonal(self.inverse, axis1=1, axis2=2)
        found = np.repeat(diagonal[:, None], len(places.targets), 1)
        lost = self.inverse[:, own] ** 2 / diagonal[:, own][:, :, None]
        found[:, inside] -= lost
        found[:, inside, own] = 0.0
        return found


def invert(
    corr: np.ndarray,
    places: Places,
    ridges: Sequence[float],
    shrunk: Sequence[tuple[int, float]],
) -> Dense:
    """The inverses of all structures of one memory that hold every hedge.

    A ridge `a` is `R + a I`. Shrunk by x to k factors it is `(1 - x) R + x F_k + .001 I`, where F_k has
    the diagonal 1 and elsewhere the products of the loadings on the first k eigenvectors; a target
    outside the hedges loads on their factors by its correlations with these.
    """
    block = corr[np.ix_(places.hedges, places.hedges)]
    outer = corr[np.ix_(places.hedges, places.targets[places.outside])]
    h, count = len(block), len(ridges) + len(shrunk)
    values, vectors = np.linalg.eigh(block)
    values = np.maximum(values, 0.0)  # rounding may leave the least just below
    inverse, with_outside = np.empty((count, h, h)), np.empty((count, *outer.shape))
    for number, ridge in enumerate(ridges):
        np.matmul(vectors / (values + ridge), vectors.T, out=inverse[number])
        with_outside[number] = outer
    for number, (factors, share) in enumerate(shrunk, start=len(ridges)):
        top = vectors[:, -factors:]
        inverse[number] = (1 - share) * block + (top * (share * values[-factors:])) @ top.T
        # the diagonals of both are 1
        np.fill_diagonal(inverse[number], 1 + STEADY)
        with_outside[number] = (1 - share) * outer + share * (top @ (top.T @ outer))
    inverse[len(ridges) :] = invert_by_halves(inverse[len(ridges) :])
    return Dense(values, vectors, inverse, with_outside)


def invert_by_halves(matrices: np.ndarray) -> np.ndarray:
    r"""Inverses of symmetric positive definite matrices `(..., n, n)`.

    $$\begin{pmatrix} A & B \\ B' & D \end{pmatrix}^{-1} =
    \begin{pmatrix} A^{-1} + G S^{-1} G' & -G S^{-1} \\ -S^{-1} G' & S^{-1} \end{pmatrix},
    \qquad G = A^{-1} B, \quad S = D - B' G$$

    Halves of halves leave most of the work to products: half the time of `np.linalg.inv`.
    """
    n = matrices.shape[-1]
    if n <= _WHOLE:
        return np.linalg.inv(matrices)
    m = n // 2
    first, across = matrices[..., :m, :m], matrices[..., :m, m:]
    inner = invert_by_halves(first)
    onto = inner @ across
    last = invert_by_halves(matrices[..., m:, m:] - across.swapaxes(-1, -2) @ onto)
    out = np.empty_like(matrices)
    out[..., m:, m:] = last
    out[..., :m, m:] = -onto @ last
    out[..., m:, :m] = out[..., :m, m:].swapaxes(-1, -2)
    out[..., :m, :m] = inner - out[..., :m, m:] @ onto.swapaxes(-1, -2)
    return out


def start_reweighted(corr: np.ndarray, places: Places) -> np.ndarray:
    """Coefficients that the reweighted ridge starts from, `(n, h)`: a plain ridge of .05."""
    out = np.empty((1, len(places.targets), len(places.hedges)))
    invert(corr, places, (0.05,), ()).coefficients(places, out)
    return out[0]


class Reweighted:
    """The ridge whose penalty on a coefficient b is `penalty / (b^2 + .02^2)`, for all targets.

    It shrinks small coefficients away and lets large ones be, as a horseshoe does. The Gram matrices of
    the targets, each itself taken out, are made once; only their diagonals change from solve to solve.
    """

    def __init__(self, corr: np.ndarray, places: Places) -> None:
        hedges, inside, own = places.hedges, places.inside, places.own
        self.inside, self.own = inside, own
        self.gram = np.repeat(corr[np.ix_(hedges, hedges)][None], len(places.targets), 0)
        self.gram[inside, own] = 0.0
        self.gram[inside, :, own] = 0.0
        self.with_target = corr[np.ix_(places.targets, hedges)]
        self.with_target[inside, own] = 0.0

    def refine(self, penalty: float, coefs: np.ndarray, solves: int) -> np.ndarray:
        """Go on from `coefs (n, h)` for some solves; those below 1e-4 are 0 afterwards."""
        for _ in range(solves):
            self._penalise(penalty, coefs)
            coefs = np.linalg.solve(self.gram, self.with_target[..., None])[..., 0]
        return np.where(np.abs(coefs) < 1e-4, 0.0, coefs)

    def spread(self, penalty: float, coefs: np.ndarray) -> np.ndarray:
        """Diagonals of the inverse Gram matrices, `(n, h)`."""
        self._penalise(penalty, coefs)
        found = np.diagonal(np.linalg.inv(self.gram), axis1=1, axis2=2).copy()
        found[self.inside, self.own] = 0.0
        return found

    def _penalise(self, penalty: float, coefs: np.ndarray) -> None:
        every = range(self.gram.shape[-1])
        self.gram[:, every, every] = 1 + penalty / (coefs * coefs + NARROW**2)
