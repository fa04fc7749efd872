"""Priors and posteriors in the terms of a trading desk, and what a prior considers plausible."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

from kfmodels.data.hedge_data import HedgeData
from kfmodels.evaluate.arguments import check_data_and_model, check_fit
from kfmodels.fitting import tree as trees
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.transforms import transform_of
from kfmodels.model import gaps as closed
from kfmodels.model.assumptions import Constant
from kfmodels.model.defaults import bars_of_day
from kfmodels.model.hedge_ratio import HedgeRatioModel, Inputs
from kfmodels.model.memory import q_to_gain
from kfmodels.model.starts import Weak
from kfmodels.sampling import prior as priors
from kfmodels.sampling.posterior import draw_prior, of_recursion
from kfmodels.words.caller import check_seed, explain_kinds
from kfmodels.words.progress import wait_for
from kfmodels.words.shown import Shown

if TYPE_CHECKING:
    from xarray import Dataset

Sites = dict[str, np.ndarray]

MONTH = 21
"""Bars of the month in which a ratio is said to move."""

_ENDS = [0.05, 0.5, 0.95]
_NAMES = ["lower", "median", "upper"]


@explain_kinds
def prior_summary(data: HedgeData, model: HedgeRatioModel, *, seed: int = 0) -> pd.DataFrame:
    """Summarise the prior of a model, its speeds in every term that a desk may know them by.

    Args:
        data: the rows whose units and moves are used.
        model: from `hedge_ratio_model(...)`.
        seed: of the 1000 draws from the prior.

    Returns:
        Rows by coefficient and word: `delta`, `q`, `gain`, `memory` (bars), `monthly_move` (sd of what
        the coefficient moves in 21 days, in its own units, at the typical variance where that is
        `Discounted`) and, for a hedge ratio, `monthly_share`, the same over the size of the ratio by
        least squares on changes; then `noise` with `obs_scale` and `variance_memory`, and each kind of
        closed period with `gap_bars` and `gap_noise`. Columns: the `median`, and the 90 %
        interval `lower`, `upper`.

    Example:
        >>> from kfmodels import HedgeData, Moves, datasets, hedge_ratio_model
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> model = hedge_ratio_model(delta={"beta": Moves(0.05, low=0.01, high=0.25)})
        >>> prior_summary(data, model).loc[("PEP", "monthly_share"), "median"].round(2)
        np.float64(0.05)
    """
    model = check_data_and_model(data, model)
    _, sites = draw_prior(model, model.inputs(data), seed)
    return _summarise(sites, data, model)


@explain_kinds
def prior_and_posterior(fitted: HedgeFit) -> pd.DataFrame:
    """Set prior and posterior side by side, with the rows of `prior_summary`.

    Returns:
        Column blocks `prior` and `posterior`, and `narrowed`: how many times narrower the 90 % interval
        of the logarithm has become.
    """
    check_fit(fitted)
    both = {}
    for group in ("prior", "posterior"):
        stored = trees.group_of(fitted.tree, group)
        names = ("delta", "q", "memory", "state_var", "obs_scale", "variance_memory")
        names += ("gap_bars", "gap_noise")
        sites = trees.flat({name: stored[name].values for name in names if name in stored})
        both[group] = _summarise(sites, fitted.data, fitted.model)
    table = pd.concat(both, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        widths = [np.log(both[k]["upper"]) - np.log(both[k]["lower"]) for k in both]
        table[("narrowed", "")] = widths[0] / widths[1]
    return table


@dataclass(frozen=True, eq=False, repr=False)
class PriorPredictive(Shown):
    """Paths that a prior considers plausible over given regressors.

    `paths` holds `ratio` (dims draw, time, hedge) and, without hedge, `target` (transformed price) and
    `spread` (innovation under the noise that made the path), NaN at gaps. `table` sets a summary of
    them beside the data.
    """

    paths: "Dataset"
    table: pd.DataFrame

    def __str__(self) -> str:
        shown = self.table.to_string(float_format="{:.3g}".format)
        return f"{self.paths.sizes['draw']} paths that the prior considers plausible\n{shown}"


@explain_kinds
def prior_predictive(
    data: HedgeData,
    model: HedgeRatioModel,
    *,
    draws: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> PriorPredictive:
    r"""Draw hedge ratios, targets and spreads from the prior, over the regressors of the data.

    $$\mathrm{noise} ∼ p, \quad β_{1:T}, y_{1:T} ∼ p(· ∣ x_{1:T}, \mathrm{noise})$$

    Every path starts near the ratio of least squares on changes and the first price of the target,
    whatever start the model has, because the question is how fast things move, not where they begin.
    A `Discounted` variance is held at what a typical one-bar move implies.

    Args:
        data: the rows whose regressors are used.
        model: from `hedge_ratio_model(...)`.
        draws: number of paths.
        seed: of the draws.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        A `PriorPredictive`; the rows of its `table` are the sd of what each ratio moves in 21 days (in
        half of the rows, if these are fewer), its range over all rows, the sd of the spread and of
        the target's one-bar move. Columns: the median and the 90 % interval over paths and, in `data`,
        the same quantity of the data: for the ratio of a 60-bar rolling regression on changes (which
        adds its own error), for the spread of the one-bar move that a constant hedge leaves over.

    Raises:
        ValueError: fewer than 20 draws, or no more than 21 rows.

    Source: Gabry, Simpson, Vehtari, Betancourt and Gelman (2019), Visualization in Bayesian workflow,
    JRSS A 182.

    Example:
        >>> from kfmodels import HedgeData, datasets, hedge_ratio_model
        >>> data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP"])
        >>> drawn = prior_predictive(data.after("2021-06-01"), hedge_ratio_model(), draws=50)
        >>> dict(drawn.paths["ratio"].sizes)
        {'draw': 50, 'time': 399, 'hedge': 1}
    """
    from xarray import Dataset

    model = check_data_and_model(data, model)
    if draws < 20:
        raise ValueError(f"draws={draws} are too few to sum up; 20 at least")
    if len(data) <= MONTH:
        raise ValueError(f"{len(data)} rows are too few for paths: give more than {MONTH}")
    inputs = model.inputs(data)
    coordinates = model.coordinates(data)
    ratio, _ = _regress_changes(data)
    inner = ratio * coordinates.scale
    n = coordinates.coefficients
    first = int(np.argmax(data.observed))
    mean = np.zeros(n)
    mean[: len(ratio)] = inner
    if coordinates.intercept:
        mean[-1] = inputs.y[first] - inputs.design[first, : len(ratio)] @ inner
    start = np.eye(n) * inputs.typical_move**2 / 60  # as if a quarter's rows had been seen
    inputs = inputs._replace(start_mean=mean, start_cov=start)
    # Discounted estimates a variance and is no model of one: simulated forward it grows without bound
    plain = replace(model, initial=Weak(), noise=Constant())
    numbers = np.arange(draws, dtype=np.uint32)
    with jax.enable_x64(True), wait_for("drawing paths", 1, shown=progress):
        check_seed(seed)
        _, drawn = priors.draw(numbers, np.uint32(seed), inputs, model=model)
        sites = jax.device_get(drawn)
        key = np.array([seed, draws], np.uint32)
        sites["obs_scale"] = _settled_scale(model, inputs, sites)
        path, target, spread = jax.device_get(_draw_paths(sites, inputs, key, model=plain))
    ratios = (path @ coordinates.sums.T)[..., : len(ratio)] / coordinates.scale
    seen = data.observed
    paths = Dataset(
        {
            "ratio": (("draw", "time", "hedge"), ratios),
            "target": (("draw", "time"), np.where(seen, target + coordinates.offset, np.nan)),
            "spread": (("draw", "time"), np.where(seen, spread, np.nan)),
        },
        coords={"time": np.asarray(data.index), "hedge": list(data.hedges)},
    )
    return PriorPredictive(paths, _compare_paths(paths, data, float(inputs.typical_move)))


@partial(jax.jit, static_argnames=("model",))
def _draw_paths(
    sites: Sites, inputs: Inputs, key: np.ndarray, *, model: HedgeRatioModel
) -> tuple[Array, Array, Array]:
    """Coefficients (draw, time, coef), target and innovation (draw, time) under each noise draw."""
    one, other = jax.random.split(jax.random.wrap_key_data(jnp.asarray(key)))
    noise = of_recursion(sites)
    noise = {name: noise[name] for name in model.parameters}  # a constant variance takes no others
    law = model.regression(inputs, **noise)
    target = law.sample(one)
    return law.sample_path(other, target), target, law.filter(target).error


def _settled_scale(model: HedgeRatioModel, inputs: Inputs, sites: Sites) -> np.ndarray:
    """Sd of the observation noise that moves are measured against, for each draw."""
    moving = model.intercept == "random_walk"
    q_alpha = sites["q"][:, -1] if moving else np.zeros(len(sites["q"]))
    with jax.enable_x64(True):
        return np.sqrt(np.asarray(model.settled_var(inputs, sites["obs_scale"] ** 2, q_alpha)))


def _summarise(sites: Sites, data: HedgeData, model: HedgeRatioModel) -> pd.DataFrame:
    """Quantiles by coefficient and word; sites are (draw, ...)."""
    rows = {}
    inputs = model.inputs(data)
    size = inputs.typical_ratio
    step_var = sites["state_var"]
    if not model.drift.shared:  # at the same typical variance for prior and posterior
        noise_var = _settled_scale(model, inputs, sites)[:, None] ** 2
        step_var = sites["q"] * noise_var / inputs.scales**2
    for number, name in enumerate([*data.hedges, "alpha"][: step_var.shape[1]]):
        moved = np.sqrt(MONTH * bars_of_day(data) * step_var[:, number])
        words = {word: sites[word][:, number] for word in ("delta", "q")}
        words |= {"gain": q_to_gain(sites["q"][:, number]), "memory": sites["memory"][:, number]}
        words["monthly_move"] = moved
        if name != "alpha":
            words["monthly_share"] = moved / size[number]
        rows |= {(name, word): value for word, value in words.items()}
    for word in ("obs_scale", *model.noise.parameters, *model.drift.parameters):
        if word in sites:
            rows[("noise", word)] = sites[word]
    for part in model.parts:
        of = "spread" if part is model.spread else "ratio"
        rows |= {(of, word): sites[word].reshape(-1) for word in part.parameters if word in sites}
    for number, kind in enumerate(closed.kinds(model.gaps, data)):
        for word in ("gap_bars", "gap_noise"):
            rows[(kind, word)] = sites[word][:, number]
    found = {row: np.quantile(value, _ENDS, method="nearest") for row, value in rows.items()}
    table = pd.DataFrame.from_dict(found, orient="index", columns=_NAMES)
    table.index = pd.MultiIndex.from_tuples(table.index, names=["coefficient", "word"])
    return table


def _regress_changes(data: HedgeData) -> tuple[np.ndarray, np.ndarray]:
    """Regress changes: the ratio by least squares, and the changes [target, hedges...] themselves."""
    table = np.column_stack([data.y, data.x])[data.observed]
    moves = transform_of(data.transform).steps(table)
    return np.linalg.lstsq(moves[:, 1:], moves[:, 0], rcond=None)[0], moves


def _compare_paths(paths: "Dataset", data: HedgeData, left_over: float) -> pd.DataFrame:
    """The table of `PriorPredictive`; `left_over` is the sd of a move hedged by a constant ratio."""
    _, moves = _regress_changes(data)
    rolled = np.array(
        [
            np.linalg.lstsq(part[:, 1:], part[:, 0], rcond=None)[0]
            for part in (moves[end - 60 : end] for end in range(60, len(moves) + 1))
        ]
    ).reshape(-1, len(data.hedges))
    drawn, seen = {}, {}
    bars = max(1, min(round(MONTH * bars_of_day(data)), len(data) // 2))
    for number, name in enumerate(data.hedges):
        ratio = paths["ratio"].values[:, :, number]
        month, span = f"{name}: sd of a {bars}-bar move of the ratio", f"{name}: range of the ratio"
        drawn[month] = (ratio[:, bars:] - ratio[:, :-bars]).std(1)
        drawn[span] = np.ptp(ratio, axis=1)
        seen[month] = _spread_of(rolled[bars:, number] - rolled[:-bars, number], np.std)
        seen[span] = _spread_of(rolled[:, number], np.ptp)
    settled = min(60, len(data) // 2)  # rows in which the filter settles
    # a row that was not observed has no design, and so no target of its own
    target = paths["target"].values[:, data.observed]
    steps = transform_of(data.transform).steps(target.T).T
    late = data.observed & (np.arange(len(data)) >= settled)
    drawn["sd of the spread"] = paths["spread"].values[:, late].std(1)
    seen["sd of the spread"] = left_over
    drawn["sd of the target's one-bar move"] = steps.std(1)
    seen["sd of the target's one-bar move"] = float(moves[:, 0].std())
    found = {name: np.quantile(values, _ENDS) for name, values in drawn.items()}
    table = pd.DataFrame.from_dict(found, orient="index", columns=_NAMES)
    return table.assign(data=pd.Series(seen)).rename_axis("quantity")


def _spread_of(values: np.ndarray, how: Callable[[np.ndarray], float]) -> float:
    return float(how(values)) if len(values) > 1 else np.nan
