"""`KalmanOLS`: a regression of one target on one hedge with the noise given, row by row.

The recursion runs on decimals of 100 digits. The variances are the user's own, and a start that
knows nothing (1e12) over a small observation noise (1e-6) at prices of 1e5 needs the difference of
numbers 1e28 apart. Doubles have no digit left there, and in them neither Joseph's form nor a square
root keeps all that is asked for.
"""

import math
from decimal import Context, Decimal, localcontext

import numpy as np
from numpy.typing import ArrayLike

DIGITS = Context(prec=100, Emax=999_999, Emin=-999_999)
WIDEST = Decimal("1e50")
"""Largest variance of a forecast over that of the observation noise: it costs half of the digits."""
ROUNDING = 1e-9
"""How far, relatively, a covariance may miss symmetry or a correlation of 1: doubles made it."""

Pair = tuple[Decimal, Decimal]
"""Beta and alpha."""
Covariance = tuple[Decimal, Decimal, Decimal]
"""Variance of beta, covariance, variance of alpha."""


class KalmanOLS:
    r"""Moving slope and intercept with fixed noise covariances; infers nothing.

    $$y_t = β_t x_t + α_t + ε_t, \quad ε_t ∼ N(0, \text{obs\_cov}), \quad
    (β, α)_t = (β, α)_{t-1} + w_t, \quad w_t ∼ N(0, \text{trans\_cov})$$

    The state is right to the last digits of a double for any covariances, a start that knows
    nothing (`init_cov=1e12 * np.eye(2)`) among them.

    Args:
        dataset: DataFrame or array (rows, 2), first column y, second column x; NaN is a gap.
        init_alpha, init_beta: mean of the coefficients before the first row.
        trans_cov: covariance of a step of [beta, alpha], (2, 2); identity by default.
        obs_cov: variance of the observation noise.
        init_cov: covariance of [beta, alpha] before the first row, (2, 2); identity by default.

    Raises:
        ValueError: a dataset that has not two columns of numbers, an infinite price, a covariance
            that is none, or a forecast whose variance is above 1e50 times `obs_cov`.

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
        rows = _numbers("dataset", dataset)
        if rows.ndim != 2 or rows.shape[1] != 2:
            raise ValueError(
                f"KalmanOLS: dataset needs two columns, y then x; it has the shape {rows.shape}"
            )
        noise = _number("obs_cov", obs_cov)
        if not 0 < noise < math.inf:
            raise ValueError(
                f"KalmanOLS: obs_cov is a variance and must be positive, not {obs_cov}"
            )
        start = _number("init_beta", init_beta), _number("init_alpha", init_alpha)
        if not (math.isfinite(start[0]) and math.isfinite(start[1])):
            raise ValueError(
                "KalmanOLS: init_beta and init_alpha must be finite numbers, not "
                f"{init_beta} and {init_alpha}"
            )
        self._noise = Decimal(noise)
        self._drift = _covariance("trans_cov", trans_cov)
        self._mean: Pair = Decimal(start[0]), Decimal(start[1])
        self._cov = _covariance("init_cov", init_cov)
        self._means: list[np.ndarray] = []
        self._covs: list[np.ndarray] = []
        for number, (y, x) in enumerate(rows.tolist()):
            self._take(x, y, moves=number > 0)

    def state(self) -> dict[str, np.ndarray]:
        """Filtered `mean` [beta, alpha], shape (2,), and `cov`, shape (2, 2)."""
        return _in_doubles(self._mean, self._cov)

    def getState(self) -> dict[str, np.ndarray]:  # noqa: N802
        """`state`, by the name it has in SliceMatrix-IO."""
        return self.state()

    def update(self, *, X: float, Y: float) -> dict[str, np.ndarray]:  # noqa: N803
        """Take one more row and return the new state; NaN in either is a gap.

        Raises:
            ValueError: as the class; the state is then as it was.
        """
        self._take(_number("X", X), _number("Y", Y), moves=True)
        return self.state()

    def history(self) -> dict[str, np.ndarray]:
        """All filtered states so far: `mean (rows, 2)` and `cov (rows, 2, 2)`."""
        return {
            "mean": np.array(self._means).reshape(-1, 2),
            "cov": np.array(self._covs).reshape(-1, 2, 2),
        }

    def _take(self, x: float, y: float, moves: bool) -> None:
        where = f"row {len(self._means)} (y {y}, x {x})"
        if math.isinf(x) or math.isinf(y):
            raise ValueError(f"KalmanOLS: {where} has an infinite price; give NaN for a gap")
        mean, cov = self._mean, self._cov
        with localcontext(DIGITS):
            if moves:
                step = self._drift
                cov = cov[0] + step[0], cov[1] + step[1], cov[2] + step[2]
            if not (math.isnan(x) or math.isnan(y)):
                mean, cov = self._learn(mean, cov, Decimal(x), Decimal(y), where)
        now = _in_doubles(mean, cov)
        if not all(np.isfinite(part).all() for part in now.values()):
            raise ValueError(
                f"KalmanOLS: the state after {where} is too large for a double; give prices in a "
                "larger unit, or a smaller init_cov or trans_cov"
            )
        self._mean, self._cov = mean, cov
        self._means.append(now["mean"])
        self._covs.append(now["cov"])

    def _learn(
        self, mean: Pair, cov: Covariance, x: Decimal, y: Decimal, where: str
    ) -> tuple[Pair, Covariance]:
        """The state after a row, given the state predicted for it."""
        (beta, alpha), (bb, ba, aa) = mean, cov
        pull, lift = bb * x + ba, ba * x + aa  # the covariance times the design [x, 1]
        var = pull * x + lift + self._noise
        if var > WIDEST * self._noise:
            raise ValueError(
                f"KalmanOLS: at {where} the forecast has a variance of {float(var):.3g}, above 1e50 "
                f"times obs_cov ({float(self._noise):.3g}); give a smaller init_cov or trans_cov, or a "
                "larger obs_cov"
            )
        error = (y - beta * x - alpha) / var
        return (
            (beta + pull * error, alpha + lift * error),
            (bb - pull * pull / var, ba - pull * lift / var, aa - lift * lift / var),
        )


def _in_doubles(mean: Pair, cov: Covariance) -> dict[str, np.ndarray]:
    bb, ba, aa = map(float, cov)
    return {"mean": np.array([*map(float, mean)]), "cov": np.array([[bb, ba], [ba, aa]])}


def _covariance(name: str, given: ArrayLike | None) -> Covariance:
    """The covariance in decimals; a correlation that rounding brought above 1 becomes 1."""
    matrix = np.eye(2) if given is None else _numbers(name, given)
    if matrix.shape != (2, 2):
        raise ValueError(
            f"KalmanOLS: {name} must be (2, 2), over [beta, alpha], not {matrix.shape}"
        )
    fault = ValueError(
        f"KalmanOLS: {name} is not a covariance (finite, symmetric, no negative eigenvalue): "
        f"{matrix.tolist()}"
    )
    if not np.isfinite(matrix).all() or matrix[0, 0] < 0 or matrix[1, 1] < 0:
        raise fault
    with localcontext(DIGITS):
        (bb, ba), (ab, aa) = [[Decimal(entry) for entry in row] for row in matrix.tolist()]
        # relative to the variances: beta and alpha have other units, so that an eigenvalue has none
        most, room = (bb * aa).sqrt(), Decimal(ROUNDING)
        between = (ba + ab) / 2
        if abs(ba - ab) > room * most or abs(between) > (1 + room) * most:
            raise fault
        return bb, max(-most, min(most, between)), aa


def _numbers(name: str, given: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(given, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"KalmanOLS: {name} must be numbers, not {given!r}") from error


def _number(name: str, given: float) -> float:
    try:
        return float(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"KalmanOLS: {name} must be a number, not {given!r}") from error
