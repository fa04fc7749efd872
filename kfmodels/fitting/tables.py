"""The tables of a fit: the inferred noise, the worth of closed periods, the spread that comes back."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kfmodels.fitting import tree as trees
from kfmodels.fitting.alternatives import WITH
from kfmodels.kalman.density import Z90
from kfmodels.model import saved
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.model.parts import factor_of, reverting_share
from kfmodels.sampling import prior as priors

if TYPE_CHECKING:
    from xarray import DataTree

_COLUMNS = ["memory", "effective_memory", "memory_lower", "memory_upper", "delta", "q", "gain"]
_COLUMNS += ["var", "rhat", "ess"]
_OF_SPREAD = ["half_life", "half_life_lower", "half_life_upper", "r2_mr", "probability"]


def summarise(tree: "DataTree") -> pd.DataFrame:
    """The rows of `HedgeFit.summary`."""
    posterior = trees.group_of(tree, "posterior")
    effective = trees.effective_memory(tree)
    rows = {}
    for name in (str(one) for one in posterior["coef"].values):
        mine = posterior[["delta", "q", "memory", "state_var"]].sel(coef=name)
        described = _describe(mine["state_var"].values)
        described |= _span("memory", mine["memory"].values)
        for word in ("delta", "q"):
            described[word] = float(np.median(mine[word].values))
        described["gain"] = 1 / described["memory"]
        described["effective_memory"] = effective.get(name, np.nan)
        if "start_size" in posterior:
            start = _describe(posterior["start_size"].sel(coef=name).values)
            described["start_size"] = start["var"]
            described["rhat"] = np.fmax(described["rhat"], start["rhat"])
            described["ess"] = np.fmin(described["ess"], start["ess"])
        rows[name] = described
    memory = posterior.get("variance_memory", posterior.get("anchor_memory"))
    spans = np.full((1, 1), np.inf) if memory is None else memory.values
    rows["noise"] = _span("memory", spans) | _describe(posterior["obs_var"].values)
    columns = [*_COLUMNS, *(["start_size"] if "start_size" in posterior else [])]
    if WITH in posterior:
        rows["spread"] = _tell_spread(tree)
        columns += _OF_SPREAD
    return _mixed(tree, pd.DataFrame(rows).T.reindex(columns=columns))


def _tell_spread(tree: "DataTree") -> dict[str, float]:
    posterior = trees.group_of(tree, "posterior")
    there = posterior[WITH].values == 1
    found = {"probability": float(tree.attrs["probability"])}
    if not there.any():  # so improbable that no draw has one
        return found
    life = posterior["spread_half_life"].values[there]
    relative = (posterior["spread_scale"].values[there] / posterior["obs_scale"].values[there]) ** 2
    # with the observation variance where it moves, which is told as after the last row too
    var = relative * posterior["obs_var"].values[there]
    factor = factor_of(life)
    step = relative * (1 - factor**2)
    share = reverting_share(factor, step, posterior["q"].values[..., -1][there])
    found |= {"var": float(np.median(var)), "r2_mr": float(np.median(share))}
    return found | _span("half_life", life)


def tell_half_life(tree: "DataTree") -> pd.Series:
    """What `HedgeFit.half_life` gives."""
    check_spread(tree)
    posterior = trees.group_of(tree, "posterior")
    there = posterior[WITH].values == 1
    lives = posterior["spread_half_life"].values[there]
    found = np.quantile(lives, [0.05, 0.5, 0.95]) if there.any() else [np.nan] * 3
    return pd.Series(found, ["lower", "median", "upper"], name="half_life")


def tell_reversion(tree: "DataTree", kind: str, index: pd.Index) -> pd.DataFrame:
    """What `HedgeFit.reversion` gives."""
    check_spread(tree)
    if kind not in ("filtered", "predicted"):
        raise ValueError(f'kind of a reversion must be "filtered" or "predicted", not {kind!r}')
    group = trees.group_of(tree, kind)
    mean, sd = group["spread_mean"].values, group["spread_state_sd"].values
    z = np.divide(mean, sd, out=np.zeros_like(mean), where=sd > 0)
    level = group["mean"].sel(coef="alpha").values - mean
    return pd.DataFrame({"mean": mean, "sd": sd, "z": z, "level": level}, index)


def check_spread(tree: "DataTree") -> None:
    """Raise where the model has no spread that comes back."""
    if WITH not in trees.group_of(tree, "posterior"):
        raise ValueError(
            f"the model of {tree.attrs['target']} has no spread that comes back: fit with "
            "hedge_ratio_model(spread=Reverting())"
        )


def tell_gaps(tree: "DataTree") -> pd.DataFrame:
    """The rows of `HedgeFit.gaps`."""
    constant, posterior = (trees.group_of(tree, k) for k in ("constant_data", "posterior"))
    rows = {}
    for kind in trees.gap_names(tree):
        row = {"crossed": float(constant["gaps"].sel(gap=kind).sum())}
        mixing = []
        for word in ("bars", "noise"):
            values = posterior[f"gap_{word}"].sel(gap=kind).values
            row |= _span(word, values)
            mixing.append(_describe(values))
        row["rhat"] = np.fmax(*(part["rhat"] for part in mixing))
        row["ess"] = np.fmin(*(part["ess"] for part in mixing))
        rows[kind] = row
    parts = [f"{word}{end}" for word in ("bars", "noise") for end in ("", "_lower", "_upper")]
    columns = ["crossed", *parts, "rhat", "ess"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)
    return _mixed(tree, table.rename_axis("gap"))


_BY_DAY = {
    "fall": "profile_fall",
    "rise": "profile_rise",
    "first bar": "profile_first",
    "deviation": "day_size",
    "half-life": "day_half_life",
}


def tell_day(tree: "DataTree") -> pd.DataFrame:
    """The rows of `HedgeFit.day`."""
    posterior = trees.group_of(tree, "posterior")
    rows = {}
    for row, name in _BY_DAY.items():
        if name in posterior:
            values = posterior[name].values
            there = (
                posterior["with_day"].values == 1 if "with_day" in posterior else values == values
            )
            values = values[there] if name.startswith("day_") and there.any() else values
            rows[row] = _span("median", values)
    if "with_day" in posterior:
        rows["deviation"]["probability"] = float(tree.attrs["probability"])
    given, where = trees.data(tree), trees.coordinates(tree)
    if where.tilted:
        now = trees.online(tree, given, tree["mixture"].sizes["noise_draw"]).board.belief()
        means, covs = now.inner
        variances = np.diagonal(covs[1, 0].reshape(where.states, where.states))
    for number in where.tilted:
        state, hedge = where.coefficients + number, where.parts[number]
        middle, wide = means[0, state], Z90 * np.sqrt(variances[state])
        ends = np.array([middle, middle - wide, middle + wide]) / where.scale[hedge]
        names = ("median", "median_lower", "median_upper")
        rows[f"tilt {given.hedges[hedge]}"] = dict(zip(names, ends.tolist(), strict=True))
    columns = {"median": "median", "median_lower": "lower", "median_upper": "upper"}
    table = pd.DataFrame(rows, dtype=float).T.reindex(columns=[*columns, "probability"])
    table = table.rename(columns=columns)
    return table if "with_day" in posterior else table.drop(columns="probability")


_NEAR, _PRIOR = 0.1, 0.05
"""A posterior is pressed against a bound of its prior when nine tenths of it lie within this share of
the bound, and half of it nearer than this share of the prior."""

_BEYOND = "the rows would have it beyond: give a prior that reaches further, if it may"
_ROWS_STAND_OUT = (
    "single rows stand out, not storms and calms, as dividends that were not adjusted for, bad prints "
    "and coarse ticks do. Look at fit.spread()['z'].abs().nlargest(10); if these rows are right, refit "
    "with noise=Anchored(today=0, after=0), which has a tail for them, and let compare on later rows "
    "say which forecasts better"
)


def tell_bounds(tree: "DataTree", given: HedgeRatioModel | None = None) -> list[str]:
    """Which posteriors are pressed against a bound of their prior, and what to do, a sentence each.

    Not of the ends that a parameter has by itself, as a sd at 0 or a delta at 0 and 1; and not of a
    fit from a file that could not hold one of its priors.

    Args:
        given: the model as it was given, if the fit does not come from a file.
    """
    try:
        model = given or saved.from_json(tree.attrs["model"])
    except ValueError:
        return []
    sites = [str(name) for name in tree["log_prior"].data_vars] if "log_prior" in tree else []
    if not sites:
        return []
    inputs, found = model.without_rows(model.inputs(trees.data(tree))), []
    for name, ends in priors.bounds(inputs, model=model).items():
        own = (0.0, 1.0 if name.startswith("delta") else np.inf)
        for side, bound, natural in zip(("lower", "upper"), map(float, ends), own, strict=True):
            if name not in sites or bound == natural or not np.isfinite(bound):
                continue
            after, before = (np.abs(drawn - bound) for drawn in _drawn(tree, name))
            pressed = np.median(after, 0) < np.quantile(before, _PRIOR, axis=0)
            pressed &= np.quantile(after, 0.9, axis=0) < _NEAR * abs(bound)
            for number in np.flatnonzero(pressed):
                found.append(_tell_bound(tree, name, int(number), f"{side} bound {bound:g}"))
    return found


def _drawn(tree: "DataTree", name: str) -> list[np.ndarray]:
    """Draws of a site from the posterior and from the prior, `(draw, number)` each."""
    each = (trees.group_of(tree, group)[name].values for group in ("posterior", "prior"))
    return [np.reshape(values, (values.shape[0] * values.shape[1], -1)) for values in each]


def _tell_bound(tree: "DataTree", name: str, number: int, bound: str) -> str:
    """One of these sentences."""
    ends = [np.quantile(drawn[:, number], [0.05, 0.95]) for drawn in _drawn(tree, name)]
    spans = [f"{lower:.3g} .. {upper:.3g}" for lower, upper in ends]
    said = {"variance_memory": "The memory of the observation variance, in bars,"}.get(name, name)
    hedges = trees.group_of(tree, "constant_data")["hedge"].values
    if name == "delta_beta" and len(hedges) > 1:
        said = f"delta of {hedges[number]}"
    why = _ROWS_STAND_OUT if name == "variance_memory" else _BEYOND
    return f"{said} stands at its {bound} (90 % {spans[0]}, of the prior {spans[1]}): {why}."


def _mixed(tree: "DataTree", table: pd.DataFrame) -> pd.DataFrame:
    """The table, of importance draws with the `ess` of their weights and without R-hat.

    Of chains that were joined with those of an alternative, with the worst of both: see `join_draws`.
    """
    # resampled draws hold copies, and their chains are none
    if "ess" in tree.attrs:
        table["ess"] = table["ess"].where(table["ess"].isna(), tree.attrs["ess"])
        table["rhat"] = np.nan
    elif "worst_rhat" in tree.attrs:
        for word, of_all in (("rhat", "worst_rhat"), ("ess", "least_ess")):
            table[word] = table[word].where(table[word].isna(), tree.attrs[of_all])
    return table


def _span(name: str, values: np.ndarray) -> dict[str, float]:
    """Median and 90 % interval."""
    # "nearest" takes draws themselves: between an infinite memory and another there is no mean
    lower, middle, upper = np.quantile(values, [0.05, 0.5, 0.95], method="nearest")
    return {name: float(middle), f"{name}_lower": float(lower), f"{name}_upper": float(upper)}


def _describe(var: np.ndarray) -> dict[str, float]:
    """Median of a variance, with R-hat and effective sample size; NaN where it is fixed."""
    from arviz_stats.base.array import array_stats

    stats: Any = array_stats  # whose annotations promise tuples where it gives numbers
    described = {"var": float(np.median(var)), "rhat": np.nan, "ess": np.nan}
    log_var = np.log(var) if (var > 0).all() else var
    if np.ptp(log_var) > 1e-9:
        described["rhat"] = float(stats.rhat(log_var, chain_axis=0, draw_axis=1))
        described["ess"] = float(stats.ess(log_var, chain_axis=0, draw_axis=1))
    return described
