"""Two references that share no code with kfmodels, and random models to compare on.

`loop` is the textbook filter, one series and one row at a time; `dense` is the joint Gaussian of
all coefficients and all observations at once. Both take a model by name, in the units of y, without
batch axes; `made_models.regression` is the same model as a `KalmanRegression`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Case = dict[str, Any]
"""A model by name: what `made_models.regression` takes."""


class Pass(NamedTuple):
    """Every row of the loop; `error`, `forecast_var` and `obs_var` are NaN where y is missing."""

    predicted_mean: np.ndarray
    predicted_cov: np.ndarray
    filtered_mean: np.ndarray
    filtered_cov: np.ndarray
    error: np.ndarray
    forecast_var: np.ndarray
    obs_var: np.ndarray
    dof: np.ndarray
    log_density: np.ndarray
    increment: np.ndarray
    filtered_obs_var: np.ndarray


def loop(
    y: np.ndarray,
    *,
    design: np.ndarray,
    initial_mean: np.ndarray,
    initial_cov: np.ndarray,
    obs_var: float,
    state_var: np.ndarray | None = None,
    state_cov: np.ndarray | None = None,
    state_discount: float | None = None,
    moving: np.ndarray | None = None,
    variance_discount: float | None = None,
    variance_dof: float | None = None,
    observed: np.ndarray | None = None,
    dt: np.ndarray | None = None,
    gap_time: np.ndarray | None = None,
    obs_factor: np.ndarray | None = None,
) -> Pass:
    """Predict, S, K, Joseph; West and Harrison (1997), table 10.4, when the variance is learnt."""
    time, n = design.shape
    seen = np.ones(time, bool) if observed is None else observed
    dt = np.r_[0.0, np.ones(time - 1)] if dt is None else dt
    moves = dt if gap_time is None else dt + gap_time
    factor = np.ones(time) if obs_factor is None else obs_factor
    block = np.ones(n, bool) if moving is None else moving
    block = np.outer(block, block)
    if state_var is not None:
        state_cov = np.diag(state_var)
    m, c, s = np.asarray(initial_mean, float), np.asarray(initial_cov, float), float(obs_var)
    start, dof = s, variance_dof
    rows = []
    for t in range(time):
        if state_discount is None:
            grown = c + moves[t] * state_cov * (s / start)
        else:
            grown = np.where(block, c / state_discount ** moves[t], c)
        increment, a, r, before = grown - c, m, grown, s
        if dof is not None:
            dof = max(dof * variance_discount ** dt[t], min(dof, 3.0))
        ahead = np.inf if dof is None else dof
        if seen[t]:
            h = design[t]
            q = h @ r @ h + s * factor[t]
            e = y[t] - h @ a
            k = r @ h / q
            blend = np.eye(n) - np.outer(k, h)
            m, c = a + k * e, blend @ r @ blend.T + s * factor[t] * np.outer(k, k)
            if dof is None:
                density = stats.norm.logpdf(e, scale=np.sqrt(q))
            else:
                density = stats.t.logpdf(e, df=dof, scale=np.sqrt(q))
                dof = dof + 1
                s = before + before / dof * (e**2 / q - 1)
                c = c * (s / before)
        else:
            m, c, e, q, density = a, r, np.nan, np.nan, 0.0
        rows.append((a, r, m, c, e, q, before if seen[t] else np.nan, ahead, density, increment, s))
    return Pass(*(np.array(column) for column in zip(*rows, strict=True)))


class Dense(NamedTuple):
    """The joint Gaussian of the path `(T, n)` and the series `(T,)`."""

    path_mean: np.ndarray
    path_cov: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    cross: np.ndarray
    seen: np.ndarray

    def log_prob(self, y: np.ndarray) -> float:
        """Log density of the observed rows."""
        seen = self.seen
        joint = stats.multivariate_normal(self.mean[seen], self.cov[np.ix_(seen, seen)])
        return float(joint.logpdf(y[seen]))

    def student_log_prob(self, y: np.ndarray, dof: float) -> float:
        """The same when the one unknown variance is `dof * obs_var / chi2(dof)`."""
        seen = self.seen
        joint = stats.multivariate_t(self.mean[seen], self.cov[np.ix_(seen, seen)], df=dof)
        return float(joint.logpdf(y[seen]))

    def square(self, y: np.ndarray) -> float:
        """Squared Mahalanobis distance of the observed rows."""
        gap = (y - self.mean)[self.seen]
        return float(gap @ np.linalg.solve(self.cov[np.ix_(self.seen, self.seen)], gap))

    def given(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean `(T, n)` and covariance `(T, n, T, n)` of the path given the observed rows."""
        time, n = self.path_mean.shape
        cross = self.cross.reshape(time * n, time)[:, self.seen]
        weight = np.linalg.solve(self.cov[np.ix_(self.seen, self.seen)], cross.T).T
        mean = self.path_mean.ravel() + weight @ (y - self.mean)[self.seen]
        cov = self.path_cov.reshape(time * n, time * n) - weight @ cross.T
        return mean.reshape(time, n), cov.reshape(time, n, time, n)


def dense(case: Case, increment: np.ndarray, transition: np.ndarray | None = None) -> Dense:
    """Joint Gaussian when `increment (T, n, n)` is added before each row.

    theta_t = G_t theta_t-1 + w_t, with `transition (T, n, n)` the G of every row (or their diagonals,
    `(T, n)`; by default the identity), so that cov(theta_t, theta_s) = G_t cov(theta_t-1, theta_s) for
    s < t, and cov(y_t, y_s) = h_t' cov(theta_t, theta_s) h_s + [t = s] obs_var factor_t.
    """
    h = case["design"]
    time, n = h.shape
    if transition is None:
        transition = np.ones((time, n))
    if transition.ndim == 2:
        transition = transition[:, :, None] * np.eye(n)
    path_mean, path_cov = np.empty((time, n)), np.empty((time, n, time, n))
    m, p = np.asarray(case["initial_mean"], float), np.asarray(case["initial_cov"], float)
    for t, g in enumerate(transition):
        m, p = g @ m, g @ p @ g.T + increment[t]
        path_mean[t], path_cov[t, :, t] = m, p
        for s in range(t):
            path_cov[t, :, s] = g @ path_cov[t - 1, :, s]
            path_cov[s, :, t] = path_cov[t, :, s].T
    cross = np.einsum("tisj,sj->tis", path_cov, h)
    noise = case["obs_var"] * np.asarray(case.get("obs_factor", np.ones(time)))
    cov = np.einsum("ti,tis->ts", h, cross) + np.diag(noise)
    seen = case.get("observed")
    seen = np.ones(time, bool) if seen is None else seen
    return Dense(path_mean, path_cov, (h * path_mean).sum(1), cov, cross, seen)


def increments(case: Case) -> np.ndarray:
    """Covariance added before each row, without a look at y.

    Under state discounting it is the one that the filter itself implies; with a learnt variance it
    is the one that holds while the variance stays at `obs_var`.
    """
    constant = {name: a for name, a in case.items() if not name.startswith("variance_")}
    return loop(np.zeros(len(case["design"])), **constant).increment


def random_case(
    seed: int,
    n: int,
    drift: str,
    *,
    learnt: bool = False,
    time: int = 12,
    gaps: bool = True,
    closed: bool = False,
) -> tuple[np.ndarray, Case]:
    """A model with `n` coefficients on odd scales, correlated starts, gaps and uneven time.

    `closed` adds closed periods before some rows, which are noisier or calmer than the others.
    """
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    case: Case = {
        "design": rng.normal(1.0, 1.0, (time, n)) * np.exp(rng.normal(size=n)),
        "initial_mean": rng.normal(size=n),
        "initial_cov": root @ root.T + 0.1 * np.eye(n),
        "obs_var": np.exp(rng.normal()),
    }
    if drift == "state_var":
        case["state_var"] = np.exp(rng.normal(-1.0, 1.0, n))
    elif drift == "state_cov":
        root = rng.normal(size=(n, n))
        case["state_cov"] = 0.3 * root @ root.T
    else:
        case["state_discount"] = rng.uniform(0.6, 0.98)
        # one coefficient stands still where there is one to spare
        case["moving"] = np.arange(n) != 1
    if learnt:
        case |= {"variance_discount": rng.uniform(0.7, 0.98), "variance_dof": rng.uniform(3, 9)}
    if gaps:
        case |= {"observed": rng.random(time) < 0.7, "dt": rng.exponential(1.0, time)}
    if closed:
        before = rng.random(time) < 0.4
        case["gap_time"] = np.where(before, rng.exponential(5.0, time), 0.0)
        case["obs_factor"] = np.where(before, np.exp(rng.normal(1.0, 0.7, time)), 1.0)
    return rng.normal(0.0, 3.0, time), case


def stacked(cases: list[tuple[np.ndarray, Case]]) -> tuple[np.ndarray, Case]:
    """One batch of cases of the same kind; `moving` has no batch axis."""
    y = np.stack([series for series, _ in cases])
    first = cases[0][1]
    batch = {name: np.stack([case[name] for _, case in cases]) for name in first}
    if "moving" in first:
        batch["moving"] = first["moving"]
    return y, batch


def slope(f: Callable[[np.ndarray], float], x: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """Gradient by central differences of fourth order: error about h**4 and eps / h."""
    out = np.empty_like(x)
    for i, unit in enumerate(np.eye(len(x)) * h):
        near, far = f(x + unit) - f(x - unit), f(x + 2 * unit) - f(x - 2 * unit)
        out[i] = (8 * near - far) / (12 * h)
    return out
