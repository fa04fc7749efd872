r"""Published settings as models that run, and what they imply on the prices at hand.

A `delta` that was printed in a book is a variance in the units of the author's prices, and so is the
noise variance beside it. Together they say how long a hedge ratio remembers, how much of a surprise it
takes to be permanent and how wide its bands are; on other prices they say something else. Each setting
here is kept as it was published, and `table` shows what all of them imply, side by side.

One file: a list of settings, each with its source, and the table that compares them.

Source: the settings name their own; the state noise `delta / (1 - delta)` comes from Montana,
Triantafyllopoulos and Tsagaris (2009), Flexible least squares for temporal data mining, Expert
Systems with Applications 36, where the observation variance is 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from kfmodels.data.hedge_data import HedgeData
from kfmodels.fitting import tree as trees
from kfmodels.fitting.fit import fit
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.model.hedge_ratio import HedgeRatioModel, hedge_ratio_model
from kfmodels.model.memory import delta_to_q, q_to_delta
from kfmodels.model.priors import Absolute
from kfmodels.model.starts import Known, Start, Zero
from kfmodels.words.progress import wait_for

__all__ = [
    "FromLeastSquares",
    "InPriceUnits",
    "Published",
    "arbitragelab",
    "chan",
    "palomar",
    "pykalman_defaults",
    "quantopian_lecture",
    "quantstart",
    "table",
]


def __dir__() -> list[str]:
    return __all__


_ONE_SD = NormalDist().cdf(1) - NormalDist().cdf(-1)
"""Probability within one standard deviation, 68.27 %."""


@dataclass(frozen=True)
class InPriceUnits:
    """Numbers that are the same for every coefficient and whatever the data.

    Args:
        state_var: variance of a step of a coefficient in one bar.
        obs_var: variance of the observation noise.
        start_var: variance of each coefficient, whose mean is 0, before the first row.
        start_corr: correlation of any two of them then; 1 with `start_var=1` is a covariance of
            ones, which is singular: all coefficients are taken to err alike.

    Raises:
        ValueError: a variance that is not positive (that of the start may be 0).
    """

    state_var: float
    obs_var: float
    start_var: float = 0.0
    start_corr: float = 0.0

    def __post_init__(self) -> None:
        for name in ("state_var", "obs_var"):
            _check_positive(getattr(self, name), name)
        if self.start_var:
            _check_positive(self.start_var, "start_var")

    def model(self, data: HedgeData) -> HedgeRatioModel:
        """The raw model of the literature (pivot 0), with nothing left to infer."""
        n = len(data.hedges) + 1
        cov = np.full((n, n), self.start_var * self.start_corr)
        np.fill_diagonal(cov, self.start_var)
        start = Known(np.zeros(n), cov) if self.start_var else Zero()
        return _fixed(q_to_delta(self.state_var), q_to_delta(self.state_var), self.obs_var, start)


@dataclass(frozen=True)
class FromLeastSquares:
    r"""Variances in proportion to what a constant hedge leaves over, so that units cancel.

    $$\mathrm{Var}(ϵ) = v, \quad \mathrm{Var}(w_α) = α v, \quad
    \mathrm{Var}(w_j) = α v / \mathrm{Var}(x_j)$$

    with $v$ the residual variance of least squares, intercept included, on the T rows given. The
    start is its solution with the variances $v / T$ and $v / \mathrm{Var}(x_j) / T$, uncorrelated.

    Args:
        alpha: state variance over observation variance, per bar.

    Raises:
        ValueError: alpha is not positive.
    """

    alpha: float

    def __post_init__(self) -> None:
        _check_positive(self.alpha, "alpha")

    def model(self, data: HedgeData) -> HedgeRatioModel:
        """The raw model (pivot 0) on these rows, all of which it has seen before it starts."""
        data.check_enough()
        y, x = data.y[data.observed], data.x[data.observed]
        design = np.column_stack([x, np.ones(len(x))])
        ols = np.linalg.lstsq(design, y, rcond=None)[0]
        left = float((y - design @ ols).var())
        if left <= 1e-20 * float((y**2).mean()):  # the rounding error of an exact fit, squared
            raise ValueError(
                f"least squares of {data.target} on {', '.join(data.hedges)} leaves no residual to "
                "scale the noise by; check that they are not the same series"
            )
        unit = np.append(left / x.var(0), left)
        delta = q_to_delta(self.alpha * unit)
        start = Known(ols, np.diag(unit / len(y)))
        return _fixed(tuple(delta[:-1].tolist()), float(delta[-1]), left, start)


Settings = InPriceUnits | FromLeastSquares


@dataclass(frozen=True)
class Published:
    """A published setting: whose it is, what it says, and the numbers; made by `chan()` and others.

    `says` gives the numbers as the source names them.

    Example:
        >>> from kfmodels import HedgeData, datasets, fit
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> year = data.after("2021-01-01").before("2022-01-01")
        >>> chan().says
        'delta = 0.0001, Ve = 0.001, start 0 with covariance 0'
        >>> fit(year, chan().model(year), progress=False).summary()["memory"].round(2).to_list()
        [1.31, 3.7, inf]
    """

    name: str
    source: str
    says: str
    settings: Settings

    def model(self, data: HedgeData) -> HedgeRatioModel:
        """A model with nothing left to infer, which `fit` runs without sampling.

        It has an intercept that moves, and pivot 0. `data` are the training rows: `palomar` takes
        its numbers from them, the others only their number of hedges.

        Raises:
            ValueError: least squares leaves no residual to scale the noise of `palomar` by.
        """
        return self.settings.model(data)

    def implies(self, data: HedgeData, *, burn_in: int = 20) -> pd.Series:
        """Run the setting on these rows: its row of `table`, where the columns are explained.

        Raises:
            ValueError: as `model`, or too few rows after `burn_in`.
        """
        return _imply(self.name, fit(data, self.model(data), progress=False), burn_in)


def chan(delta: float = 1e-4, obs_var: float = 1e-3) -> Published:
    """Chan's filter for EWC on EWA: `state_var = delta / (1 - delta)`, certain of 0 at the start."""
    if not 0 < delta < 1:
        raise ValueError(f"delta lies between 0 and 1, as in delta / (1 - delta), not {delta}")
    return Published(
        "Chan (2013)",
        "Chan (2013), Algorithmic Trading, chapter 3, KF_beta_EWA_EWC.m",
        f"delta = {delta:g}, Ve = {obs_var:g}, start 0 with covariance 0",
        InPriceUnits(delta_to_q(delta), obs_var),
    )


def quantstart() -> Published:
    """The pykalman regression of TLT on IEI that QuantStart took over from O'Mahony."""
    return Published(
        "QuantStart",
        "QuantStart, Dynamic hedge ratio between ETF pairs using the Kalman filter; O'Mahony (2014)",
        "delta = 1e-5, observation_covariance = 1, start 0 with covariance np.ones((2, 2)), singular",
        InPriceUnits(delta_to_q(1e-5), 1.0, start_var=1.0, start_corr=1.0),
    )


def quantopian_lecture() -> Published:
    """The regression of the Quantopian lecture on Kalman filters, copied into many strategies."""
    return Published(
        "Quantopian lecture",
        "Quantopian lecture series, Kalman filters",
        "delta = 1e-3, observation_covariance = 2, start 0 with covariance np.ones((2, 2)), singular",
        InPriceUnits(delta_to_q(1e-3), 2.0, start_var=1.0, start_corr=1.0),
    )


def pykalman_defaults() -> Published:
    """What pykalman assumes where nothing is said: every covariance the identity."""
    return Published(
        "pykalman defaults",
        "pykalman, KalmanFilter",
        "transition_covariance = I, observation_covariance = 1, start 0 with covariance I",
        InPriceUnits(1.0, 1.0, start_var=1.0),
    )


def arbitragelab() -> Published:
    """ArbitrageLab's `KalmanFilterStrategy`: Chan's numbers with `state_var = 1e-4` itself."""
    return Published(
        "ArbitrageLab",
        "Hudson and Thames, ArbitrageLab, KalmanFilterStrategy",
        "transition_variance = 1e-4, observation_variance = 1e-3, start 0 with covariance 0",
        InPriceUnits(1e-4, 1e-3),
    )


def palomar(alpha: float = 1e-5) -> Published:
    """Palomar's filter on log prices, its noise relative to least squares: `FromLeastSquares`.

    The only setting here without units. It starts at the least squares solution of the rows given,
    so on those rows it looks ahead: give it training rows, and run it on with `online()`.
    """
    return Published(
        "Palomar (2025)",
        "Palomar (2025), Portfolio Optimization: Theory and Application, section 15.6",
        f"alpha = {alpha:g}, log prices, start at least squares with its variance / T",
        FromLeastSquares(alpha),
    )


def table(
    data: HedgeData,
    fits: Mapping[str, HedgeFit] | None = None,
    *,
    burn_in: int = 20,
    progress: bool = True,
) -> pd.DataFrame:
    """Tabulate what each published setting implies on these rows: a row per setting, then one per fit.

    A setting in price units runs on whatever `data` hold, log prices and returns too: that it means
    something else there is what the table shows.

    Args:
        data: the rows; every filter runs through them in order. Palomar's has seen them before.
        fits: fits of the same rows by name, to compare with. They were inferred from the rows they
            are scored on here, as published settings were not.
        burn_in: observed rows left out of `gain`, `z_sd`, `inside_68`, `inside_90`, `log_score`.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        One row per setting, with the columns

        - `q_beta`, `q_alpha`: variance of a step over observation variance in the units of the data,
          the q of the literature (medians of a fit): for the first hedge, and for the intercept at
          x = 0 (NaN where the model has none or moves it at another pivot).
        - `memory`: of the first hedge in bars, its q taken relative to the size of its price.
        - `effective_memory`: bars that its ratio is learnt over beside an intercept that moves, at
          the last row; see `HedgeFit.summary`.
        - `gain`: mean of `1 - obs_var / spread_sd**2`, the share of the variance of the spread that
          is not observation noise, and of a surprise that is taken to be permanent.
        - `z_sd`: sd of the spread in units of its forecast sd; above 1 the filter is overconfident.
        - `inside_68`, `inside_90`: share of the rows in the bands of 68.27 % and 90 %.
        - `log_score`: mean log density of the target given the rows before, per row. It depends on
          the transform: compare it within one table.
        - `beta`, `beta_sd`: first hedge after the last row; the sd of a fit is the total one.

    Raises:
        ValueError: a fit of other rows or with the name of a setting, or too few rows after
            `burn_in`.

    Example:
        >>> from kfmodels import HedgeData, datasets
        >>> prices = datasets.stocks().loc["2021"]
        >>> data = HedgeData.from_prices(prices, target="KO", hedges=["PEP"], transform="level")
        >>> found = table(data)
        >>> found["memory"].round(1).to_list()  # from forgets at once to five weeks
        [1.0, 1.0, 2.8, 1.1, 1.0, 25.0]
        >>> found["z_sd"].round(2).to_list()  # every band is too wide here
        [0.26, 0.26, 0.36, 0.07, 0.0, 0.69]
    """
    kinds = chan, arbitragelab, quantstart, quantopian_lecture, pykalman_defaults, palomar
    settings, fits = [kind() for kind in kinds], fits or {}
    for name, fitted in fits.items():
        if name in [setting.name for setting in settings]:
            raise ValueError(f"a fit cannot be called {name!r}, as a setting is: rename it")
        if not _same_rows(fitted.data, data):
            raise ValueError(
                f"{name} was fitted on {fitted.data!r}, not on the values of the table, {data!r}: "
                "fit it on these, or make a table of its own"
            )
    rows = []
    with wait_for("running published settings", len(settings), shown=progress) as waiting:
        for setting in settings:
            rows.append(setting.implies(data, burn_in=burn_in))
            waiting.advance()
    rows += [_imply(name, fitted, burn_in) for name, fitted in fits.items()]
    return pd.DataFrame(rows).rename_axis("setting")


def _fixed(
    beta: float | tuple[float, ...], alpha: float, obs_var: float, start: Start
) -> HedgeRatioModel:
    """A model in absolute units around x = 0, with nothing left to infer."""
    return hedge_ratio_model(
        delta={"beta": Absolute(beta), "alpha": Absolute(alpha)},
        obs_scale=float(np.sqrt(obs_var)),
        initial=start,
        pivot=0,
    )


def _imply(name: str, fitted: HedgeFit, burn_in: int) -> pd.Series:
    """One row of `table`."""
    groups = ("posterior", "predicted", "constant_data")
    posterior, predicted, constant = (trees.group_of(fitted.tree, name) for name in groups)
    spread = fitted.spread()
    seen = np.flatnonzero(spread["z"].notna())
    if not 0 <= burn_in <= len(seen) - 2:
        raise ValueError(
            f"burn_in={burn_in} must leave two of the {len(seen)} rows of {fitted.target} on "
            f"{', '.join(fitted.hedges)}: give 0 to {len(seen) - 2}"
        )
    rows = seen[burn_in:]
    hedge = fitted.hedges[0]
    q = (posterior["state_var"] / posterior["obs_var"]).median(("chain", "draw"))
    # the literature's intercept is that at x = 0; one that moves at another pivot is another quantity
    at_zero = "alpha" in fitted.coef and not constant["pivot"].values.any()
    # the variance of a forecast is that of x . theta and that of the noise
    data = fitted.data
    design = np.column_stack([data.x, np.ones(len(data))])[rows, : len(fitted.coef)]
    moved = np.einsum("ti,tij,tj->t", design, predicted["cov"].values[rows], design)
    z = spread["z"].to_numpy()[rows]
    summary = fitted.summary().loc[hedge]
    ratio = fitted.hedge_ratio()
    last = (ratio if len(fitted.hedges) == 1 else ratio[hedge]).iloc[-1]
    return pd.Series(
        {
            "q_beta": float(q.sel(coef=hedge)),
            "q_alpha": float(q.sel(coef="alpha")) if at_zero else np.nan,
            "memory": summary["memory"],
            "effective_memory": summary["effective_memory"],
            "gain": (moved / spread["sd"].to_numpy()[rows] ** 2).mean(),
            "z_sd": z.std(ddof=1),
            "inside_68": _inside(z, _ONE_SD),
            "inside_90": _inside(z, 0.9),
            "log_score": predicted["log_density"].values[rows].mean(),
            "beta": last["mean"],
            "beta_sd": last["sd"],
        },
        name=name,
    )


def _inside(z: np.ndarray, level: float) -> float:
    """Share of standardised innovations in the central band of a probability."""
    return float((np.abs(z) <= NormalDist().inv_cdf(0.5 + level / 2)).mean())


def _same_rows(one: HedgeData, other: HedgeData) -> bool:
    """Whether target, hedges, dates and transformed values are the same."""
    return (
        (one.target, one.hedges, one.transform) == (other.target, other.hedges, other.transform)
        and one.index.equals(other.index)
        and np.array_equal(one.values.to_numpy(), other.values.to_numpy(), equal_nan=True)
    )


def _check_positive(number: float, name: str) -> None:
    if not 0 < number < np.inf:
        raise ValueError(f"{name} must be positive and finite, not {number}")
