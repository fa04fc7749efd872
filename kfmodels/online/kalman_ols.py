"""`KalmanOLS`: a regression of one target on one hedge with the noise given, row by row."""

import numpy as np
from numpy.typing import ArrayLike

from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.motion import Walk
from kfmodels.kalman.noise import ConstantVariance
from kfmodels.kalman.step import State
from kfmodels.online.filter import OnlineFilter


class KalmanOLS:
    r"""Moving slope and intercept with fixed noise covariances; infers nothing.

    $$y_t = \beta_t x_t + \alpha_t + \epsilon_t, \quad \epsilon_t \sim N(0, \text{obs\_cov}), \quad
    (\beta, \alpha)_t = (\beta, \alpha)_{t-1} + w_t, \quad w_t \sim N(0, \text{trans\_cov})$$

    Args:
        dataset: DataFrame or array (rows, 2), first column y, second column x; NaN is a gap.
        init_alpha, init_beta: mean of the coefficients before the first row.
        trans_cov: covariance of a step of [beta, alpha], (2, 2); identity by default.
        obs_cov: variance of the observation noise.
        init_cov: covariance of [beta, alpha] before the first row, (2, 2); identity by default.

    Raises:
        ValueError: a dataset that has not two columns, or a covariance that is none.

    Source: the interface of SliceMatrix-IO's KalmanOLS; no state noise is added at the first row.

    Example:
        >>> import numpy as np
        >>> from kfmodels import KalmanOLS
        >>> x = np.arange(1.0, 6.0)
        >>> line = KalmanOLS(np.column_stack([2 * x, x]), trans_cov=np.zeros((2, 2)))
        >>> line.state()["mean"].round(2)
        array([1.89, 0.27])
        >>> line.update(X=6.0, Y=12.0)["mean"].round(2)
        array([1.93, 0.21])
    """

    def __init__(
        self,
        dataset: ArrayLike,
        *,
        init_alpha: float = 0.0,
        init_beta: float = 0.0,
        trans_cov: ArrayLike | None = None,
        obs_cov: float = 1.0,
        init_cov: ArrayLike | None = None,
    ) -> None:
        rows = np.asarray(dataset, float)
        if rows.ndim != 2 or rows.shape[1] != 2:
            raise ValueError(
                f"KalmanOLS: dataset needs two columns, y then x; it has the shape {rows.shape}"
            )
        if not obs_cov > 0:
            raise ValueError(
                f"KalmanOLS: obs_cov is a variance and must be positive, not {obs_cov}"
            )
        trans_cov = _covariance("trans_cov", trans_cov)
        init_cov = _covariance("init_cov", init_cov)
        self._filter = OnlineFilter(
            target="Y",
            hedges=["X"],
            transform="level",
            coordinates=Coordinates(np.zeros(1), np.ones(1), 0.0, True),
            drift=Walk(trans_cov[..., None] / obs_cov),
            noise=ConstantVariance(np.array([float(obs_cov)])),
            state=State(
                np.array([[init_beta], [init_alpha]], float), init_cov[..., None] / obs_cov
            ),
            carried=None,
            log_weights=np.zeros(1),
        )
        self._means: list[np.ndarray] = []
        self._covs: list[np.ndarray] = []
        for number, (y, x) in enumerate(rows):
            self._take(x, y, dt=float(number > 0))

    def state(self) -> dict[str, np.ndarray]:
        """Filtered `mean` [beta, alpha], shape (2,), and `cov`, shape (2, 2)."""
        now = self._filter.state()
        return {"mean": now["mean"], "cov": now["cov"]}

    def getState(self) -> dict[str, np.ndarray]:  # noqa: N802
        """`state`, by the name it has in SliceMatrix-IO."""
        return self.state()

    def update(self, *, X: float, Y: float) -> dict[str, np.ndarray]:  # noqa: N803
        """Take one more row and return the new state; NaN in either is a gap."""
        self._take(X, Y, dt=1.0)
        return self.state()

    def history(self) -> dict[str, np.ndarray]:
        """All filtered states so far: `mean (rows, 2)` and `cov (rows, 2, 2)`."""
        return {
            "mean": np.array(self._means).reshape(-1, 2),
            "cov": np.array(self._covs).reshape(-1, 2, 2),
        }

    def _take(self, x: float, y: float, dt: float) -> None:
        self._filter.update(y=y, x=[x], dt=dt)
        now = self._filter.state()
        self._means.append(now["mean"])
        self._covs.append(now["cov"])


def _covariance(name: str, given: ArrayLike | None) -> np.ndarray:
    cov = np.eye(2) if given is None else np.asarray(given, float)
    if cov.shape != (2, 2):
        raise ValueError(f"KalmanOLS: {name} must be (2, 2), over [beta, alpha], not {cov.shape}")
    if not np.allclose(cov, cov.T) or np.linalg.eigvalsh(cov)[0] < -1e-12 * np.abs(cov).max():
        raise ValueError(
            f"KalmanOLS: {name} is not a covariance (symmetric, no negative eigenvalue): "
            f"{cov.tolist()}"
        )
    return cov
