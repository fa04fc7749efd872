"""`KalmanRegression`: a regression with moving coefficients as a NumPyro distribution.

One file: NumPyro's contract (shapes, expand, sample, density, pytree) belongs to one class.
"""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float
from numpyro.distributions import Distribution, constraints

from kfmodels.kalman import scan
from kfmodels.kalman.likelihood import log_likelihood
from kfmodels.kalman.motion import Discount, Motion, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance, Noise
from kfmodels.kalman.step import State


class Coefficients(NamedTuple):
    """Mean and covariance of the coefficients at every row.

    With a discounted variance they are Student-t and `cov` is their squared scale: the covariance is
    `dof / (dof - 2)` times that, with one degree of freedom more than before an observed row.
    """

    mean: Float[Array, "*batch time coef"]
    cov: Float[Array, "*batch time coef coef"]


class FilterResult(NamedTuple):
    """Everything a forward pass knows, in the units of `y`.

    `predicted` is given the rows before (t | t-1), `filtered` given this one too (t | t). `error` is
    the innovation, `forecast_var` its variance scale and `obs_var` the observation variance before
    the row was seen (of a row whose `obs_factor` is 1); `dof` is None when that variance is constant.
    `log_density` is 0 where nothing was observed.
    """

    predicted: Coefficients
    filtered: Coefficients
    error: Float[Array, "*batch time"]
    forecast_var: Float[Array, "*batch time"]
    obs_var: Float[Array, "*batch time"]
    dof: Float[Array, "*batch time"] | None
    log_density: Float[Array, "*batch time"]


_EVENT_DIM = {
    "design": 2,
    "initial_mean": 1,
    "initial_cov": 2,
    "obs_var": 0,
    "state_var": 1,
    "state_cov": 2,
    "state_discount": 0,
    "moving": 1,
    "variance_discount": 0,
    "variance_dof": 0,
    "observed": 1,
    "dt": 1,
    "gap_time": 1,
    "obs_factor": 1,
}
_BY_TIME = ("observed", "dt", "gap_time", "obs_factor")


class KalmanRegression(Distribution):
    r"""Distribution of a series whose regression coefficients move, the coefficients integrated out.

    $$y_t = x_t^\top \theta_t + \epsilon_t, \quad \epsilon_t \sim N(0, v_t), \qquad
    \theta_t = \theta_{t-1} + w_t$$

    The event is the whole series, shape `(time,)`; `log_prob` is the sum of the one-step forecast
    densities of the Kalman filter. The state noise is given by exactly one of

    - `state_var (..., coef)`: $w_t \sim N(0, dt_t \, \mathrm{diag}(\text{state\_var}))$,
    - `state_cov (..., coef, coef)`: the same with a full matrix,
    - `state_discount (...)`: the predicted covariance is `cov / state_discount**dt` (on the
      coefficients marked in `moving`, all by default).

    The observation variance is `obs_var`, constant unless `variance_discount (...)` is given: then
    `obs_var` is where it starts, worth `variance_dof` observations, it follows the recent squared
    innovations, all covariances scale with it, and forecasts are Student-t in closed form.

    Args:
        design: regressors, `(..., time, coef)`.
        initial_mean: mean of the coefficients just before the first row, `(..., coef)`.
        initial_cov: their covariance, `(..., coef, coef)`, in squared units; may be singular or 0.
        obs_var: observation variance, `(...)`, in squared units of y.
        observed: False where y is missing, `(..., time)`; y is not read there.
        dt: time since the row before, `(..., time)`; `dt[0]` is counted from the start. Default: 0,
            then 1.
        gap_time: further time in which the coefficients move and the variance does not fade,
            `(..., time)`: what a closed period before the row is worth. Default: none.
        obs_factor: factor on the observation variance of each row, `(..., time)`. Default: 1.

    Raises:
        ValueError: not exactly one state noise was given, or shapes do not fit.

    Source: West and Harrison (1997), Bayesian Forecasting and Dynamic Models, sections 4.6, 6.3 and
    10.8.

    Example:
        >>> import jax, numpyro
        >>> from kfmodels import KalmanRegression
        >>> design = jax.numpy.stack([jax.numpy.arange(4.0), jax.numpy.ones(4)], axis=-1)
        >>> series = KalmanRegression(design, jax.numpy.zeros(2), jax.numpy.eye(2), 1.0,
        ...                           state_var=jax.numpy.array([0.1, 0.0]))
        >>> series.batch_shape, series.event_shape
        ((), (4,))
        >>> print(series.log_prob(jax.numpy.array([0.1, 1.2, 1.9, 3.4])).round(3))
        -6.216
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "design": constraints.real_matrix,
        "initial_mean": constraints.real_vector,
        "initial_cov": constraints.real_matrix,
        "obs_var": constraints.positive,
        "state_var": constraints.independent(constraints.nonnegative, 1),
        "state_cov": constraints.real_matrix,
        "state_discount": constraints.open_interval(0.0, 1.0 + 1e-6),
        "variance_discount": constraints.open_interval(0.0, 1.0 + 1e-6),
        "variance_dof": constraints.positive,
        "dt": constraints.independent(constraints.nonnegative, 1),
        "gap_time": constraints.independent(constraints.nonnegative, 1),
        "obs_factor": constraints.independent(constraints.positive, 1),
    }
    support: ClassVar[constraints.Constraint] = constraints.real_vector
    pytree_data_fields = tuple(_EVENT_DIM)

    design: Array
    initial_mean: Array
    initial_cov: Array
    obs_var: Array
    state_var: Array | None
    state_cov: Array | None
    state_discount: Array | None
    moving: Array | None
    variance_discount: Array | None
    variance_dof: Array | None
    observed: Array | None
    dt: Array | None
    gap_time: Array | None
    obs_factor: Array | None

    def __init__(
        self,
        design: Float[ArrayLike, "*#batch time coef"],
        initial_mean: Float[ArrayLike, "*#batch coef"],
        initial_cov: Float[ArrayLike, "*#batch coef coef"],
        obs_var: Float[ArrayLike, "*#batch"],
        *,
        state_var: Float[ArrayLike, "*#batch coef"] | None = None,
        state_cov: Float[ArrayLike, "*#batch coef coef"] | None = None,
        state_discount: Float[ArrayLike, "*#batch"] | None = None,
        moving: Bool[ArrayLike, " coef"] | None = None,
        variance_discount: Float[ArrayLike, "*#batch"] | None = None,
        variance_dof: Float[ArrayLike, "*#batch"] | None = None,
        observed: Bool[ArrayLike, "*#batch time"] | None = None,
        dt: Float[ArrayLike, "*#batch time"] | None = None,
        gap_time: Float[ArrayLike, "*#batch time"] | None = None,
        obs_factor: Float[ArrayLike, "*#batch time"] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = [name is not None for name in (state_var, state_cov, state_discount)]
        if sum(given) != 1:
            raise ValueError(
                "KalmanRegression needs exactly one of state_var, state_cov, state_discount; "
                f"{sum(given)} were given"
            )
        if (variance_discount is None) != (variance_dof is None):
            raise ValueError(
                "KalmanRegression: give variance_discount and variance_dof together (the weight of "
                "the starting obs_var, in observations), or neither for a constant variance"
            )
        arguments = locals()
        for name in _EVENT_DIM:
            value = arguments[name]
            setattr(self, name, None if value is None else jnp.asarray(value))
        shapes = {name: value.shape for name, value in self._given().items()}
        batch_shape, event_shape = self.infer_shapes(**shapes)
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    @classmethod
    def infer_shapes(cls, *args: tuple[int, ...], **shapes: tuple[int, ...]):
        """Batch and event shape from the shapes of the arguments."""
        shapes = dict(zip(_EVENT_DIM, args, strict=False)) | shapes
        if len(shapes["design"]) < 2:
            raise ValueError(
                f"KalmanRegression: design has shape {tuple(shapes['design'])}; it needs a row per "
                "time and a column per coefficient, (..., time, coef): one regressor is design[:, None]"
            )
        time, coef = shapes["design"][-2:]
        if len(shapes.get("moving", (coef,))) != 1:
            raise ValueError(
                f"KalmanRegression: moving marks coefficients, shape ({coef},), the same for the whole "
                f"batch, not {tuple(shapes['moving'])}"
            )
        want = {1: (coef,), 2: (coef, coef), 0: ()}
        for name, shape in shapes.items():
            if name == "design":
                continue
            dim = _EVENT_DIM[name]
            expected = (time,) if name in _BY_TIME else want[dim]
            if tuple(shape[len(shape) - dim :]) != expected or len(shape) < dim:
                raise ValueError(
                    f"KalmanRegression: {name} has shape {tuple(shape)}, but design has {time} rows "
                    f"and {coef} coefficients, so it must end in {expected}"
                )
        batches = [shape[: len(shape) - _EVENT_DIM[name]] for name, shape in shapes.items()]
        return jnp.broadcast_shapes(*batches), (time,)

    def _given(self) -> dict[str, Array]:
        return {name: getattr(self, name) for name in _EVENT_DIM if getattr(self, name) is not None}

    def get_args(self) -> dict[str, Any]:
        given = self._given()
        if "observed" in given:  # a NaN at a missing row is not read, so it is not judged
            given["design"] = jnp.where(given["observed"][..., None], given["design"], 0)
        return {name: value for name, value in given.items() if name in self.arg_constraints}

    def recursion(
        self, value: Array, sample_shape: tuple[int, ...] = ()
    ) -> tuple[scan.Series, State, Motion, Noise]:
        """Everything in the layout of the recursion: batch axes last, covariances relative."""
        given = self._given()
        batch = [a.ndim - _EVENT_DIM[name] for name, a in given.items()]
        rank = max([value.ndim - 1, len(sample_shape), *batch])

        def last(a: Array, event_dim: int) -> Array:
            own = a.ndim - event_dim
            a = a.reshape((1,) * (rank - own) + a.shape)
            return jnp.moveaxis(a, tuple(range(rank, a.ndim)), tuple(range(event_dim)))

        part = {name: last(a, _EVENT_DIM[name]) for name, a in given.items()}
        var = part["obs_var"]
        rows = scan.series(last(value, 1), part["design"], *(part.get(name) for name in _BY_TIME))
        start = State(part["initial_mean"], part["initial_cov"] / var)
        if self.state_discount is None:
            if self.state_cov is None:
                eye = jnp.eye(self.design.shape[-1], dtype=var.dtype)
                noise = eye.reshape(eye.shape + (1,) * rank) * part["state_var"]
            else:
                noise = part["state_cov"]
            drift = Walk(noise / var)
        else:
            moving = part.get("moving", jnp.ones((self.design.shape[-1],) + (1,) * rank, bool))
            drift = Discount(part["state_discount"], (moving[:, None] & moving).astype(var.dtype))
        if self.variance_discount is None:
            return rows, start, drift, ConstantVariance(var)
        noise = DiscountedVariance(var, part["variance_dof"], part["variance_discount"])
        return rows, start, drift, noise

    def log_prob(
        self, value: Float[ArrayLike, "*#batch time"], intermediates: Any = None
    ) -> Float[Array, "*batch"]:
        """Log density of the series, one number per batch member."""
        # not under NumPyro's validate_sample: it makes -inf, gradient 0, of a NaN in any row
        return log_likelihood(*self.recursion(jnp.asarray(value)))

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*draws time"]:
        """Draw whole series; unobserved rows get a draw that later rows do not see."""
        shape = tuple(sample_shape) + self.batch_shape + self.event_shape
        blank = jnp.zeros(shape, self.design.dtype)
        return jnp.moveaxis(scan.sample(key, *self.recursion(blank)), 0, -1)

    @property
    def mean(self) -> Float[Array, "*batch time"]:
        """Marginal mean of every row."""
        return self._moments()[0]

    @property
    def variance(self) -> Float[Array, "*batch time"]:
        """Marginal variance of every row."""
        return self._moments()[1]

    def _moments(self) -> tuple[Array, Array]:
        blank = jnp.zeros(self.batch_shape + self.event_shape, self.design.dtype)
        mean, variance = scan.moments(*self.recursion(blank))
        return jnp.moveaxis(mean, 0, -1), jnp.moveaxis(variance, 0, -1)

    def filter(self, value: Float[ArrayLike, "*#batch time"]) -> FilterResult:
        """Coefficients and forecasts at every row given the rows up to it."""
        passed = scan.filter(*self.recursion(jnp.asarray(value)))

        def first(a: Array) -> Array:
            return jnp.moveaxis(a, 0, -1)

        return FilterResult(
            predicted=_absolute(passed.predicted, passed.obs_var),
            filtered=_absolute(passed.filtered, passed.filtered_obs_var),
            error=first(passed.error),
            forecast_var=first(passed.obs_var * passed.var),
            obs_var=first(passed.obs_var),
            dof=None if passed.dof is None else first(passed.dof),
            log_density=first(passed.log_density),
        )

    def smooth(self, value: Float[ArrayLike, "*#batch time"]) -> Coefficients:
        """Coefficients at every row given all rows: for looking back, never for a strategy."""
        rows, start, drift, noise = self.recursion(jnp.asarray(value))
        state, var = scan.smooth(rows, scan.filter(rows, start, drift, noise), noise)
        return _absolute(state, var)

    def sample_path(
        self, key: Array, value: Float[ArrayLike, "*#batch time"]
    ) -> Float[Array, "*batch time coef"]:
        """Draw the coefficients of all rows jointly, given all rows."""
        path = scan.sample_path(key, *self.recursion(jnp.asarray(value)))
        return jnp.moveaxis(path, (0, 1), (-2, -1))


def _absolute(state: State, var: Array) -> Coefficients:
    """From relative, batch last to units of y, batch first; `var (T, *b)`."""
    cov = state.cov * var[:, None, None]
    return Coefficients(
        jnp.moveaxis(state.mean, (0, 1), (-2, -1)), jnp.moveaxis(cov, (0, 1, 2), (-3, -2, -1))
    )
