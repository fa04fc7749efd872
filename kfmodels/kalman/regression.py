"""`KalmanRegression`: a regression with moving coefficients as a NumPyro distribution.

One file: NumPyro's contract (shapes, expand, sample, density, pytree) belongs to one class.
"""

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution, constraints

from kfmodels._types import ArrayLike, Bool, Float, Int
from kfmodels._types import JaxArray as Array
from kfmodels.kalman import motion, scan
from kfmodels.kalman.likelihood import log_likelihood
from kfmodels.kalman.motion import Motion
from kfmodels.kalman.noise import Noise
from kfmodels.kalman.step import State


class Coefficients(NamedTuple):
    """Mean and covariance of the coefficients at every row.

    Where the variance is learnt the coefficients are Student-t and `cov` is their squared scale; the
    covariance is `dof / (dof - 2)` times that, and an observed row adds one degree of freedom.
    """

    mean: Float[Array, "*batch time coef"]
    cov: Float[Array, "*batch time coef coef"]


class FilterResult(NamedTuple):
    """What a forward pass finds at every row, in the units of `y`.

    `predicted` is given the rows before (t | t-1), `filtered` given this one too (t | t). `error` is
    the innovation, `forecast_var` its squared scale and `obs_var` the observation variance before
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


class _Covariance(constraints.ParameterFreeConstraint):
    """Finite matrices whose diagonal is not negative; a full check would cost an eigendecomposition."""

    event_dim = 2

    def __call__(self, x: Array) -> Array:
        each = np.arange(x.shape[-1])
        return jnp.isfinite(x).all((-2, -1)) & (x[..., each, each] >= 0).all(-1)


_EVENT_DIM = {
    "design": 2,
    "initial_mean": 1,
    "initial_cov": 2,
    "observed": 1,
    "dt": 1,
    "gap_time": 2,
    "obs_factor": 1,
    "count": 0,
}
_BY_TIME = ("observed", "dt", "obs_factor")


def _shown_by_name[Init: Callable[..., None]](init: Init) -> Init:
    """`__init__` whose arrays `help` shows by their names; the docstring of the class has their shapes.

    Their types it would write out, 2,000 characters of them.
    """
    found = signature(init)
    shown = (
        one.replace(annotation=Parameter.empty) if name in _EVENT_DIM else one
        for name, one in found.parameters.items()
    )
    init.__signature__ = found.replace(parameters=list(shown))  # pyright: ignore[reportFunctionMemberAccess]
    return init


class KalmanRegression(Distribution):
    r"""Distribution of a series whose regression coefficients move, the coefficients integrated out.

    $$y_t = x_t^⊤ θ_t + ϵ_t, \quad ϵ_t ∼ N(0, v_t), \qquad
    θ_t = G_t θ_{t-1} + w_t$$

    The event is the whole series, shape `(time,)`; `log_prob` is the sum of the one-step forecast
    densities of the Kalman filter.

    Args:
        design: regressors, `(..., time, coef)`.
        initial_mean: mean of the coefficients just before the first row, `(..., coef)`.
        initial_cov: their covariance, `(..., coef, coef)`, in squared units; may be singular or 0.
        drift: how the coefficients move, a law of `kfmodels.model`: `Walk(noise)` with
            `noise (..., coef, coef)` the variance of a step over the observation variance;
            `Discount(factor, moving)`; `Reversion(noise, factor, settled)` where coefficients come
            back to 0; `Transition(matrix, noise)`, a constant matrix a row, as of a local trend; or a
            class of your own. In all its arrays the batch comes first here, as everywhere in NumPyro.
        noise: the observation variance, of `kfmodels.model`: `ConstantVariance(var)`;
            `DiscountedVariance(var, weight, factor)`, which follows the recent squared innovations, so
            that forecasts are Student-t; or a class of your own. Arrays `(...)`.
        observed: False where y is missing, `(..., time)`; y is not read there.
        dt: time since the row before, `(..., time)`; `dt[0]` is counted from the start. Default: 0,
            then 1.
        gap_time: further time in which the coefficients move but the evidence on the variance does not
            fade: the worth of a closed period before the row, `(..., time, 1)`, or to each coefficient
            its own, `(..., time, coef)`. Default: none.
        obs_factor: factor on the observation variance of each row, `(..., time)`. Default: 1.
        count: rows that count, `(...)`; those after are not observed, and the density does not read
            them, so that series of many lengths share one compiled program. Its derivatives are then
            in forward mode. Default: all.

    Raises:
        ValueError: shapes do not fit; with `validate_args`, an argument out of range.

    Source: West and Harrison (1997), Bayesian Forecasting and Dynamic Models, sections 4.6, 6.3 and
    10.8.

    Example:
        >>> import jax.numpy as jnp
        >>> from kfmodels import KalmanRegression
        >>> from kfmodels.model import ConstantVariance, Walk
        >>> design = jnp.stack([jnp.arange(4.0), jnp.ones(4)], axis=-1)
        >>> walk, noise = Walk(jnp.diag(jnp.array([0.1, 0.0]))), ConstantVariance(jnp.array(1.0))
        >>> series = KalmanRegression(design, jnp.zeros(2), jnp.eye(2), walk, noise)
        >>> series.batch_shape, series.event_shape
        ((), (4,))
        >>> print(series.log_prob(jnp.array([0.1, 1.2, 1.9, 3.4])).round(3))
        -6.216
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "design": constraints.real_matrix,
        "initial_mean": constraints.real_vector,
        "initial_cov": constraints.real_matrix,
        "dt": constraints.independent(constraints.nonnegative, 1),
        "gap_time": constraints.independent(constraints.nonnegative, 2),
        "obs_factor": constraints.independent(constraints.positive, 1),
        "Walk.noise": _Covariance(),
        "Discount.factor": constraints.open_interval(0.0, 1.0 + 1e-6),
        "ConstantVariance.var": constraints.positive,
        "DiscountedVariance.var": constraints.positive,
        "DiscountedVariance.weight": constraints.positive,
        "Reversion.noise": _Covariance(),
        "Reversion.factor": constraints.independent(constraints.interval(0.0, 1.0), 1),
        "Reversion.settled": _Covariance(),
        "Transition.matrix": constraints.real_matrix,
        "Transition.noise": _Covariance(),
        "DiscountedVariance.factor": constraints.open_interval(0.0, 1.0 + 1e-6),
        "SteadyDiscount.var": constraints.positive,
        "SteadyDiscount.weight": constraints.positive,
        "SteadyDiscount.factor": constraints.open_interval(0.0, 1.0 + 1e-6),
        "AnchoredVariance.var": constraints.positive,
        "AnchoredVariance.start_weight": constraints.positive,
        "AnchoredVariance.weight": constraints.nonnegative,
        "AnchoredVariance.factor": constraints.open_interval(0.0, 1.0 + 1e-6),
        "AnchoredVariance.tail": constraints.greater_than(2.0),
        "AnchoredVariance.lean": constraints.interval(0.0, 1.0),
        "AnchoredVariance.share": constraints.interval(0.0, 1.0),
        "AnchoredVariance.hedges": constraints.independent(constraints.nonnegative, 1),
    }
    support: ClassVar[constraints.Constraint] = constraints.real_vector
    pytree_data_fields = (*_EVENT_DIM, "drift", "noise")

    design: Array
    initial_mean: Array
    initial_cov: Array
    drift: Motion
    noise: Noise
    observed: Array | None
    dt: Array | None
    gap_time: Array | None
    obs_factor: Array | None
    count: Array | None

    @_shown_by_name
    def __init__(
        self,
        design: Float[ArrayLike, "*#batch time coef"],
        initial_mean: Float[ArrayLike, "*#batch coef"],
        initial_cov: Float[ArrayLike, "*#batch coef coef"],
        drift: Motion,
        noise: Noise,
        *,
        observed: Bool[ArrayLike, "*#batch time"] | None = None,
        dt: Float[ArrayLike, "*#batch time"] | None = None,
        gap_time: Float[ArrayLike, "*#batch time #coef"] | None = None,
        obs_factor: Float[ArrayLike, "*#batch time"] | None = None,
        count: Int[ArrayLike, "*#batch"] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.design = jnp.asarray(design)
        self.initial_mean, self.initial_cov = jnp.asarray(initial_mean), jnp.asarray(initial_cov)
        self.drift, self.noise = jax.tree.map(jnp.asarray, (drift, noise))
        self.observed, self.dt, self.gap_time, self.obs_factor, self.count = (
            None if rows is None else jnp.asarray(rows)
            for rows in (observed, dt, gap_time, obs_factor, count)
        )
        shapes = {name: value.shape for name, value in self._given().items()}
        laws = {"drift": _shapes_of(self.drift), "noise": _shapes_of(self.noise)}
        batch_shape, event_shape = self.infer_shapes(**shapes, **laws)
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    @classmethod
    def gather_pytree_data_fields(cls) -> tuple[str, ...]:
        """Names of the arrays, in an order that is the same in every process."""
        # NumPyro keeps them in a set; a program compiled in another process would not be found again
        return tuple(sorted(super().gather_pytree_data_fields()))

    @classmethod
    def infer_shapes(cls, **shapes: Any) -> tuple[Any, tuple[int]]:
        """Batch and event shape from the shapes of the arguments; of a law, those of its fields."""
        if len(shapes["design"]) < 2:
            raise ValueError(
                f"KalmanRegression: design has shape {tuple(shapes['design'])}; it needs a row per "
                "time and a column per coefficient, (..., time, coef): one regressor is design[:, None]"
            )
        time, coef = shapes["design"][-2:]
        ends = {name: (coef,) * dim for name, dim in _EVENT_DIM.items()}
        ends |= dict.fromkeys(_BY_TIME, (time,)) | {"design": (time, coef)}
        shared = tuple(shapes.get("gap_time", ()))[-1:] == (1,)
        ends["gap_time"] = (time, 1 if shared else coef)
        listed = [(name, shape, ends[name]) for name, shape in shapes.items() if name in ends]
        for law in (shapes[name] for name in ("drift", "noise") if name in shapes):
            listed += [(name, shape, (coef,) * axes) for name, shape, axes in _fields_of(law)]
        for name, shape, end in listed:
            if tuple(shape[len(shape) - len(end) :]) != end or len(shape) < len(end):
                raise ValueError(
                    f"KalmanRegression: {name} has shape {tuple(shape)}, but design has {time} rows "
                    f"and {coef} coefficients, so it must end in {end}"
                )
        return jnp.broadcast_shapes(*(s[: len(s) - len(end)] for _, s, end in listed)), (time,)

    def _given(self) -> dict[str, Array]:
        return {name: getattr(self, name) for name in _EVENT_DIM if getattr(self, name) is not None}

    def get_args(self) -> dict[str, Array]:
        given = self._given()
        if "observed" in given:  # a NaN at a missing row is never read, so it is no fault
            given["design"] = jnp.where(given["observed"][..., None], given["design"], 0)
        for law in (self.drift, self.noise):
            given |= {name: leaf for name, leaf, _ in _fields_of(law)}
        return {name: value for name, value in given.items() if name in self.arg_constraints}

    def recursion(self, value: Array | np.ndarray) -> tuple[scan.Series, State, Motion, Noise]:
        """Everything in the layout of the recursion: batch axes last, covariances relative."""
        given = self._given()
        # not `batch_shape`: under `vmap` the arrays have lost an axis that it still counts
        ranks = [a.ndim - _EVENT_DIM[name] for name, a in given.items()]
        for law in (self.drift, self.noise):
            ranks += [leaf.ndim - axes for _, leaf, axes in _fields_of(law)]
        rank = max(value.ndim - 1, *ranks)
        part = {name: _last(a, _EVENT_DIM[name], rank) for name, a in given.items()}
        extra = part.get("gap_time")
        if extra is not None and extra.shape[1] == 1:
            extra = extra[:, 0]  # one time for all coefficients, which costs less
        rows = scan.series(
            _last(value, 1, rank),
            part["design"],
            part.get("observed"),
            part.get("dt"),
            extra,
            part.get("obs_factor"),
            part.get("count"),
        )
        drift, noise = batch_last(self.drift, rank), batch_last(self.noise, rank)
        unit = noise.unit(noise.start())
        return rows, State(part["initial_mean"], part["initial_cov"] / unit), drift, noise

    def log_prob(
        self, value: Float[ArrayLike, "*#batch time"], intermediates: object = None
    ) -> Float[Array, "*batch"]:
        """Log density of the series, one number per batch member."""
        # without NumPyro's validate_sample: a NaN in a missing row would give -inf with gradient 0
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
            predicted=_absolute(passed.predicted, passed.unit),
            filtered=_absolute(passed.filtered, passed.filtered_unit),
            error=first(passed.error),
            forecast_var=first(passed.scale),
            obs_var=first(passed.unit * passed.relative),
            dof=None if passed.dof is None else first(passed.dof),
            log_density=first(passed.log_density),
        )

    def smooth(self, value: Float[ArrayLike, "*#batch time"]) -> Coefficients:
        """Coefficients at every row given all rows: for looking back, never for a strategy."""
        rows, start, drift, noise = self.recursion(jnp.asarray(value))
        return _absolute(*scan.smooth(rows, scan.filter(rows, start, drift, noise), drift, noise))

    def sample_path(
        self, key: Array, value: Float[ArrayLike, "*#batch time"]
    ) -> Float[Array, "*batch time coef"]:
        """Draw the coefficients of all rows jointly, given all rows."""
        path = scan.sample_path(key, *self.recursion(jnp.asarray(value)))
        return jnp.moveaxis(path, (0, 1), (-2, -1))


def batch_last[Law: (Motion, Noise)](law: Law, rank: int) -> Law:
    """A law of motion or a noise with its batch axes last, `rank` of them, as the recursion has it.

    Its arrays are NumPy's or JAX's.
    """
    return type(law)(*(_last(leaf, axes, rank) for _, leaf, axes in _fields_of(law)))


def _last(a: motion.Array, event_dim: int, rank: int) -> motion.Array:
    a = a.reshape((1,) * (rank + event_dim - a.ndim) + a.shape)
    return a.transpose(*range(rank, a.ndim), *range(rank))


def _fields_of(law: Any) -> list[tuple[str, motion.Array, int]]:
    """Of each field: name, array (or its shape), and axes of coefficients beside those of the batch."""
    names = [f"{type(law).__name__}.{field}" for field in law._fields]
    return list(zip(names, law, getattr(law, "coef_axes", (0,) * len(law)), strict=True))


def _shapes_of[Law: (Motion, Noise)](law: Law) -> Law:
    return type(law)(*(leaf.shape for _, leaf, _ in _fields_of(law)))


def _absolute(state: State, unit: Array) -> Coefficients:
    """From relative, batch last to units of y, batch first; `unit (T, *b)`."""
    cov = state.cov * unit[:, None, None]
    return Coefficients(
        jnp.moveaxis(state.mean, (0, 1), (-2, -1)), jnp.moveaxis(cov, (0, 1, 2), (-3, -2, -1))
    )
