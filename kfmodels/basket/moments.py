"""Discounted second moments on four memories, rows weighted by the market's variance, gaps filled."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from kfmodels.files.documents import register

_SLOW, _FAST = 0.99, 0.94
"""Decays of the assets' own variances and of the market's."""

_CAP = 50.0
"""Squared move over its variance that one asset counts for at most."""

REGULAR = 0.03
"""Ridge of the regressions of an asset on all others that fill its gaps."""


class Market(NamedTuple):
    """How much the market moves: the variance of every asset `(N,)`, and of the market over them."""

    variance: np.ndarray
    level: float

    def realise(self, move: np.ndarray, known: np.ndarray) -> float:
        """Squared size of a row: the mean over known assets of squared moves over variances."""
        known = known & (self.variance > 0)
        if not known.any():
            return self.level
        sizes = move[known] ** 2 / self.variance[known]
        return float(np.minimum(sizes, _CAP).mean())

    def weigh(self, realised: float) -> float:
        """Weight of a row in second moments: the inverse of its variance, partly as it was foreseen."""
        return 1 / (0.7 * self.level + 0.3 * realised + 0.1)

    def foreseen(self) -> float:
        """The weight of a row of the size that is foreseen."""
        return self.weigh(self.level)

    def after(self, move: np.ndarray, known: np.ndarray, realised: float) -> "Market":
        """The market after a row."""
        variance = np.where(known, _SLOW * self.variance + (1 - _SLOW) * move * move, self.variance)
        return Market(variance, _FAST * self.level + (1 - _FAST) * realised)


def open_market(rows: np.ndarray, seen: np.ndarray) -> Market:
    """The market as of the first of some rows `(time, N)`, from their means; 0 where not `seen`."""
    variance = (rows * rows).sum(0) / np.maximum(seen.sum(0), 1)
    now, sizes = Market(variance, 1.0), list[float]()
    for row, known in zip(rows, seen, strict=True):
        sizes.append(now.realise(row, known))
        now = now.after(row, known, sizes[-1])
    return Market(variance, float(np.mean(sizes)))


class Moments(NamedTuple):
    """Discounted sums of squares and products `(memory, N, N)`, and of their weights `(memory,)`."""

    squares: np.ndarray
    total: np.ndarray

    def after(
        self, move: np.ndarray, weight: float, doubt: "Gap | None", decays: np.ndarray
    ) -> "Moments":
        """The moments after a row of moves; what was filled adds its conditional covariance."""
        product = weight * (move[:, None] * move)
        if doubt is not None:
            product[np.ix_(doubt.where, doubt.where)] += doubt.covariance
        squares = decays[:, None, None] * self.squares
        squares += product
        return Moments(squares, decays * self.total + 1)

    def standardise(self) -> tuple[np.ndarray, np.ndarray]:
        """Correlations `(memory, N, N)` and sds `(memory, N)`; an asset without moves has sd 0."""
        root = np.sqrt(np.diagonal(self.squares, axis1=1, axis2=2))
        unit = np.where(root > 0, root, 1.0)
        corr = self.squares / unit[:, :, None]
        corr /= unit[:, None, :]
        every = range(corr.shape[-1])
        corr[:, every, every] = 1.0
        return corr, root / np.sqrt(np.maximum(self.total, 1e-300))[:, None]

    def admit(self, new: int, on: np.ndarray, own: float) -> "Moments":
        """Let an asset in as though it had always been there, its past moves filled.

        They were `on @ moves` of the others, with the variance `own` beside it.
        """
        squares = self.squares.copy()
        along = squares @ on
        squares[:, new], squares[:, :, new] = along, along
        squares[:, new, new] = along @ on + own * self.total
        return Moments(squares, self.total)


class Gap(NamedTuple):
    """Moves that were not seen: `where` of which assets, and their covariance given those seen.

    What is forecast must not have filled the gaps of its legs. Without the move of asset i the means
    that fill the gap are `shift[:, i]` elsewhere, and their covariance is larger by the products of
    `widen[:, i]`; both are `(missing, N)`, 0 for what is missing itself.
    """

    where: np.ndarray
    covariance: np.ndarray
    shift: np.ndarray
    widen: np.ndarray

    def without(self, seen: Sequence[int]) -> "Gap":
        """The same without some assets."""
        kept = ~np.isin(self.where, seen)
        covariance = self.covariance[np.ix_(kept, kept)]
        return Gap(self.where[kept], covariance, self.shift[kept], self.widen[kept])


class Others:
    """Regressions of every asset on all others, from one factorisation.

    With `K` the inverse of the regularised covariance, the move of i given all others is
    `-sum_j K_ij r_j / K_ii`; of several that are missing it is `-K_UU^-1 K_UO r_O`. Without the move of
    i that is `K_UU^-1 K_Ui s_i` more, with s_i the surprise of i given the other moves seen.
    """

    def __init__(self, values: np.ndarray, vectors: np.ndarray, sd: np.ndarray) -> None:
        self.vectors = vectors
        self.shrink = 1 / (np.maximum(values, 0.0) + REGULAR)
        self.unit = np.where(sd > 0, sd, 1.0)
        self.diagonal = (self.vectors**2) @ self.shrink

    @classmethod
    def of(cls, corr: np.ndarray, sd: np.ndarray) -> Self:
        """From correlations `(N, N)` and sds `(N,)`."""
        return cls(*np.linalg.eigh(corr), sd)

    def fill(self, move: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, Gap | None]:
        """The moves with the missing ones given the others, and how far these may be off."""
        where = np.flatnonzero(missing)
        if not len(where):
            return move, None
        found = np.where(missing, 0.0, move) / self.unit
        rows = (self.vectors[where] * self.shrink) @ self.vectors.T
        inverse = np.linalg.inv(rows[:, where])
        found[where] = -inverse @ (rows @ found)
        left = inverse - REGULAR * np.eye(len(where))
        unit, filled = self.unit[where][:, None], found * self.unit
        along = np.where(missing, 0.0, inverse @ rows) * unit
        shift = along * (self.surprise(filled, missing) / self.unit)
        widen = along / np.sqrt(self._alone(missing))
        return filled, Gap(where, left * unit * unit.T, shift, widen)

    def surprise(self, move: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Every move, complete or filled, minus what the other moves seen say of it."""
        scaled = self.vectors @ (self.shrink * (self.vectors.T @ (move / self.unit)))
        return scaled / self._alone(missing) * self.unit

    def _alone(self, missing: np.ndarray) -> np.ndarray:
        """Diagonal of the inverse covariance of the moves seen, 1 for the missing."""
        where = np.flatnonzero(missing)
        if not len(where):
            return self.diagonal
        rows = (self.vectors[where] * self.shrink) @ self.vectors.T
        lost = (rows * np.linalg.solve(rows[:, where], rows)).sum(0)
        return np.where(missing, 1.0, self.diagonal - lost)


def regress(target: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, float]:
    """Ridge regression of a newcomer's few moves `(time,)` on those of the others `(time, N)`.

    Returns:
        Its coefficients `(N,)`, and the mean square of what each row's own regression on the other
        rows leaves of it.
    """
    size = np.sqrt((others**2).mean(0))
    unit = np.where(size > 0, size, np.inf)
    scaled = others / unit
    gram = scaled @ scaled.T
    # a tenth of the mean variance of a row a hedge: as many coefficients as rows must be shrunk
    gram[np.diag_indices_from(gram)] += 0.1 * len(target) + 1e-300
    inverse = np.linalg.inv(gram)
    dual = inverse @ target
    left = dual / np.diag(inverse)
    return (dual @ scaled) / unit, float((left**2).mean())


for _kind in (Market, Moments):
    register(_kind)
