"""What others hedge a universe with: best legs, shrunk covariances, DCC, ridge and lasso.

Each is a rule: the ratios of all targets from the moves before a day. Ridge, lasso and the covariance
shrunk to a sphere are those of scikit-learn, left out where it is not installed; what no kept library
has is written out here from its paper.

One file: all peers of one benchmark, a few lines each.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.signal import lfilter

from kfmodels.basket.structures import choose_legs, place

type Rule = Callable[[np.ndarray], np.ndarray]
"""Ratios `(target, asset)` from the moves before a day `(time, asset)`."""

type Covariance = Callable[[np.ndarray], np.ndarray]
"""Second moments `(asset, asset)` from the moves before a day."""

WINDOW = 504

REFITTED = 252
"""Days between two fits of DCC."""

PERSISTENT = 0.99
"""What `a` and `b` of DCC add up to at most; with more Q forgets where to come back to."""

TAIL = 6.0
"""Degrees of freedom that DCC is fitted with; normal ones follow wild days, and remove less."""


def peers() -> dict[str, tuple[Rule, int]]:
    """Baselines, and every how many days each is worked out anew."""
    found: dict[str, tuple[Rule, int]] = {
        f"best single, EWMA {decay}": (best_legs(1, discounted(decay)), 1)
        for decay in (0.98, 0.995)
    }
    found |= {
        "OLS, 3 best, rolling 252": (best_legs(3, window(252)), 1),
        "OLS, 5 best, EWMA .995": (best_legs(5, discounted(0.995)), 1),
        "OLS on all, rolling 252": (of_covariance(window(252)), 1),
        "Ledoit-Wolf constant correlation, 504": (
            of_covariance(lately(shrink_to_one_correlation)),
            5,
        ),
        "Ledoit-Wolf nonlinear, 504": (of_covariance(lately(shrink_nonlinearly)), 5),
        "DCC-NL, composite likelihood": (of_covariance(ConditionalCorrelation()), 1),
    }
    return found | of_library(504) | of_library(1000)


def of_library(rows: int) -> dict[str, tuple[Rule, int]]:
    """Those of scikit-learn on so many rows; none where it is not installed."""
    try:
        from sklearn.covariance import LedoitWolf
        from sklearn.linear_model import LassoCV, RidgeCV
        from sklearn.model_selection import KFold
    except ImportError:
        return {}

    def shrink_to_sphere(moves: np.ndarray) -> np.ndarray:
        size = moves.std(0)
        fitted = LedoitWolf(assume_centered=True).fit(moves / size)
        return fitted.covariance_ * np.outer(size, size)

    def ridge() -> Any:
        # row by row, which it has in closed form: by folds it takes forty times as long
        return RidgeCV(alphas=np.geomspace(1, 500, 8), fit_intercept=False)

    def lasso() -> Any:
        penalties = [0.003, 0.01, 0.02, 0.04, 0.08, 0.16]
        return LassoCV(alphas=penalties, fit_intercept=False, cv=KFold(5))

    found: dict[str, tuple[Rule, int]] = {}
    if rows == WINDOW:
        found["Ledoit-Wolf, 504"] = of_covariance(lately(shrink_to_sphere)), 5
    found[f"ridge, CV, {rows}"] = one_by_one(ridge, rows), 21
    found[f"lasso, CV, {rows}"] = one_by_one(lasso, rows), 21
    return found


def discounted(decay: float) -> Covariance:
    """Second moments of all moves before, discounted."""

    def moments(moves: np.ndarray) -> np.ndarray:
        weights = decay ** np.arange(len(moves))[::-1]
        return (moves * weights[:, None]).T @ moves / weights.sum()

    return moments


def window(rows: int) -> Covariance:
    """Second moments of the last rows."""
    return lambda moves: moves[-rows:].T @ moves[-rows:] / min(rows, len(moves))


def lately(moments: Covariance) -> Covariance:
    """Of the last rows only."""
    return lambda moves: moments(moves[-WINDOW:])


def best_legs(count: int, moments: Covariance) -> Rule:
    """Least squares on the best legs by forward selection, chosen anew every 21 days."""
    chosen: list[np.ndarray] = []

    def rule(moves: np.ndarray) -> np.ndarray:
        cov = moments(moves)
        every, size = np.arange(len(cov)), np.sqrt(np.diag(cov))
        if not chosen or len(moves) % 21 == 0:
            legs, _ = choose_legs(cov / np.outer(size, size), place(every, every), count)
            chosen[:] = [legs]
        legs = chosen[0]
        gram = cov[legs[:, :, None], legs[:, None, :]]
        found = np.zeros_like(cov)
        with_target = cov[legs, every[:, None]]
        found[every[:, None], legs] = np.linalg.solve(gram, with_target[..., None])[..., 0]
        return found

    return rule


def of_covariance(moments: Covariance) -> Rule:
    """Regressions of each asset on all others, out of the inverse of a covariance."""

    def rule(moves: np.ndarray) -> np.ndarray:
        inverse = np.linalg.inv(moments(moves))
        found = -inverse / np.diag(inverse)[:, None]
        np.fill_diagonal(found, 0.0)
        return found

    return rule


def one_by_one(make: Callable[[], Any], rows: int) -> Rule:
    """A regression of scikit-learn for each target, in units of standard deviations."""

    def rule(moves: np.ndarray) -> np.ndarray:
        recent = moves[-rows:]
        size = recent.std(0)
        scaled, found = recent / size, np.zeros((len(size), len(size)))
        for target in range(len(size)):
            others = np.arange(len(size)) != target
            model = make().fit(scaled[:, others], scaled[:, target])
            found[target, others] = model.coef_ * size[target] / size[others]
        return found

    return rule


def shrink_to_one_correlation(moves: np.ndarray) -> np.ndarray:
    """The sample covariance, shrunk to one correlation for all pairs.

    Source: Ledoit and Wolf (2004), Honey, I shrunk the sample covariance matrix, Journal of Portfolio
    Management 30, appendix B.
    """
    rows, n = moves.shape
    sample = moves.T @ moves / rows
    size = np.sqrt(np.diag(sample))
    mean = ((sample / np.outer(size, size)).sum() - n) / (n * (n - 1))
    target = mean * np.outer(size, size)
    np.fill_diagonal(target, size**2)
    noise = (moves**2).T @ moves**2 / rows - sample**2
    # covariance of each sample variance with each sample covariance of the same asset
    along = (moves**3).T @ moves / rows - (size**2)[:, None] * sample
    np.fill_diagonal(along, 0.0)
    common = np.trace(noise) + mean * (along * size / size[:, None]).sum()
    share = (noise.sum() - common) / ((sample - target) ** 2).sum() / rows
    share = float(np.clip(share, 0, 1))
    return share * target + (1 - share) * sample


def shrink_nonlinearly(moves: np.ndarray) -> np.ndarray:
    r"""The sample covariance, each of its eigenvalues shrunk by the density around it.

    $$d_i = \lambda_i / \big((\pi c \lambda_i f_i)^2 + (1 - c - \pi c \lambda_i H_i)^2\big)$$

    with c the assets a row, f the Epanechnikov estimate of the eigenvalues' density, of bandwidth
    proportional to each, and H its Hilbert transform. There must be more rows than assets.

    Source: Ledoit and Wolf (2020), Analytical nonlinear shrinkage of large-dimensional covariance
    matrices, Annals of Statistics 48, equations 4.7 to 4.9.
    """
    rows, n = moves.shape
    values, vectors = np.linalg.eigh(moves.T @ moves / rows)
    width = rows ** (-1 / 3) * values
    away = (values[:, None] - values) / width
    bump = 1 - away**2 / 5
    density = (0.75 / 5**0.5 * np.maximum(bump, 0) / width).mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = bump * np.log(np.abs((5**0.5 - away) / (5**0.5 + away)))
    log = np.nan_to_num(log)  # at the edge of the kernel the limit is 0
    hilbert = ((-0.3 * away + 0.75 / 5**0.5 * log) / np.pi / width).mean(1)
    lean, c = np.pi * n / rows * values, n / rows
    shrunk = values / ((lean * density) ** 2 + (1 - c - lean * hilbert) ** 2)
    return (vectors * shrunk) @ vectors.T


class ConditionalCorrelation:
    r"""Dynamic conditional correlation for many assets; its covariance for the next day.

    $$h_t = (1 - \alpha - \beta) \bar h + \alpha r_{t-1}^2 + \beta h_{t-1}, \qquad
    Q_t = (1 - a - b) \bar R + a s_{t-1} s_{t-1}' + b Q_{t-1}, \qquad s = r / \sqrt h$$

    The variances are fitted one by one, `(a, b)` by the sum of the Student-t log likelihoods of
    neighbouring pairs, both on all days before, every so many days. The correlations that Q comes back
    to are those of the covariance of s that is shrunk nonlinearly.

    Source: Engle (2002), Dynamic conditional correlation, Journal of Business and Economic Statistics
    20; Pakel, Shephard, Sheppard and Engle (2021), Fitting vast dimensional time-varying covariance
    models, ibid. 39; Engle, Ledoit and Wolf (2019), Large dynamic covariance matrices, ibid. 37.
    """

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, moves: np.ndarray) -> np.ndarray:
        if not self.rows or len(moves) < self.rows or (len(moves) - self.start) >= REFITTED:
            self._fit(moves)
        for row in moves[self.rows :]:
            self._add(row)
        self.rows = len(moves)
        size = np.sqrt(self.variance)
        return self.q * np.outer(size, size) / np.sqrt(np.outer(np.diag(self.q), np.diag(self.q)))

    def _fit(self, moves: np.ndarray) -> None:
        self.start, self.rows, self.level = len(moves), 0, (moves**2).mean(0)
        self.news, self.kept = np.transpose([fit_variance(each) for each in moves.T])
        paths = [
            recur(each**2, *both, level)
            for each, *both, level in zip(moves.T, self.news, self.kept, self.level, strict=True)
        ]
        standard = moves / np.sqrt(np.transpose(paths))
        cov = shrink_nonlinearly(standard)
        self.centre = cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
        pairs = [
            (standard[:, i], standard[:, i + 1], self.centre[i, i + 1])
            for i in range(len(self.centre) - 1)
        ]
        self.a, self.b = search(partial(_pairs_cost, pairs=pairs), (0.02, 0.95), PERSISTENT)
        self.variance, self.q = self.level, self.centre

    def _add(self, row: np.ndarray) -> None:
        s = row / np.sqrt(self.variance)
        back = (1 - self.a - self.b) * self.centre
        self.q = back + self.a * np.outer(s, s) + self.b * self.q
        back = (1 - self.news - self.kept) * self.level
        self.variance = back + self.news * row**2 + self.kept * self.variance


def recur(news: np.ndarray, a: float, b: float, level: float) -> np.ndarray:
    """The path `x_t = (1 - a - b) level + a news_{t-1} + b x_{t-1}` that begins at its level."""
    driven = (1 - a - b) * level + a * np.concatenate([[0.0], news[:-1]])
    driven[0] = level
    return lfilter([1.0], [1.0, -b], driven)


def fit_variance(moves: np.ndarray) -> tuple[float, float]:
    """`alpha` and `beta` of a GARCH(1,1) whose level is the mean square."""
    squares, level = moves**2, float((moves**2).mean())

    def cost(a: float, b: float) -> float:
        h = recur(squares, a, b, level)
        return float((np.log(h) + (TAIL + 1) * np.log1p(squares / h / (TAIL - 2))).sum())

    return search(cost, (0.05, 0.9), 1.0)


def _pairs_cost(a: float, b: float, *, pairs: list[tuple[np.ndarray, np.ndarray, float]]) -> float:
    total = 0.0
    for one, other, centre in pairs:
        own, across, second = (
            recur(product, a, b, level)
            for product, level in ((one**2, 1.0), (one * other, centre), (other**2, 1.0))
        )
        corr = across / np.sqrt(own * second)
        rest = 1 - corr**2
        distance = (one**2 + other**2 - 2 * corr * one * other) / rest
        total += float((np.log(rest) + (TAIL + 2) * np.log1p(distance / (TAIL - 2))).sum())
    return total


def search(
    cost: Callable[[float, float], float], start: tuple[float, float], most: float
) -> tuple[float, float]:
    """The best share of news and of what was before; both positive, their sum below `most`."""

    def shares(place: np.ndarray) -> tuple[float, float]:
        news, kept = np.exp(np.minimum(place, 50))
        scale = most / (1 + news + kept)
        return float(scale * news), float(scale * kept)

    first = np.log(np.array(start) / (most - sum(start)))
    found = minimize(lambda place: cost(*shares(place)), first, method="Nelder-Mead")
    return shares(found.x)
