"""The ArviZ tree of a fit: how it is built, written, read, and turned back into a filter.

One file: what one function writes into the tree another reads back, name by name.
"""

import json
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
import pandas as pd

from kfmodels._types import Float, JaxArray
from kfmodels.clock.clock import Clock
from kfmodels.clock.day import TILT, tilt_of_next
from kfmodels.data.arrays import lengthen
from kfmodels.data.hedge_data import HedgeData
from kfmodels.files.atomic import replacing
from kfmodels.files.documents import UNSOUND
from kfmodels.fitting.netcdf import FORMAT, FORMAT_VERSION, read_file, seal_file
from kfmodels.fitting.passes import Belief, Pass
from kfmodels.kalman.arrays import even_steps
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.habits import habits_of
from kfmodels.kalman.noise import floored
from kfmodels.kalman.regression import KalmanRegression, batch_last
from kfmodels.kalman.step import State
from kfmodels.kalman.transforms import transform_of
from kfmodels.model import gaps as closed
from kfmodels.model import profile as profiles
from kfmodels.model import saved
from kfmodels.model.hedge_ratio import HedgeRatioModel, Inputs
from kfmodels.online.filter import OnlineFilter
from kfmodels.sampling import prior as priors
from kfmodels.sampling import thinning
from kfmodels.sampling.posterior import of_recursion

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

_BY_COEF = ("delta", "q", "memory", "state_var", "start_size")
_BY_GAP = ("gap_bars", "gap_noise")

SERIES = "series_log_likelihood"
"""Group with one number a draw. ArviZ would take a group log_likelihood apart by observation, and call
this one observation: `az.loo` gave an answer without a warning."""

_SERIES_BEFORE_5 = "log_likelihood"
"""Its name in files written by version 4."""


def group_of(tree: "DataTree", name: str) -> "Dataset":
    """A group of the tree."""
    return tree[name].to_dataset()


def flat(sites: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Chains joined: (chain, draw, ...) to (chain * draw, ...)."""
    return {name: np.reshape(v, (-1, *np.shape(v)[2:])) for name, v in sites.items()}


@partial(jax.jit, static_argnames=("model",))
def regression(
    model: HedgeRatioModel, inputs: Inputs, sites: dict[str, np.ndarray]
) -> KalmanRegression:
    """The series under each of the given draws; sites are (draw, ...)."""
    return model.regression(inputs, **of_recursion(sites))


def choose(
    model: HedgeRatioModel, inputs: Inputs, sites: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The draws for a filter to run on, (draw, ...), of draws of equal weight (chain, draw, ...)."""
    noise = {name: np.asarray(v)[None] for name, v in of_recursion(flat(sites)).items()}
    weights, alone = (
        np.ones(noise["obs_scale"].shape),
        jax.tree.map(lambda v: np.asarray(v)[None], inputs),
    )
    chosen = thinning.choose(noise, weights, alone, model=model)
    return {name: values[0] for name, values in chosen.items()}


def densities(
    model: HedgeRatioModel, inputs: Inputs, sites: dict[str, np.ndarray]
) -> dict[str, dict[str, object]]:
    """Log prior by inferred site, and log likelihood of all rows, at draws (draw, ...), by group."""
    likelihood = _log_likelihood(model, inputs, of_recursion(sites))
    log_prior = priors.log_density(sites, model.without_rows(inputs), model=model)
    return {"log_prior": log_prior, SERIES: {"y": likelihood}}


@partial(jax.jit, static_argnames=("model",))
def _log_likelihood(
    model: HedgeRatioModel, inputs: Inputs, sites: dict[str, np.ndarray]
) -> Float[JaxArray, "draw"]:
    return model.log_likelihood(inputs, **sites)


def assumed(tree: "DataTree") -> HedgeRatioModel:
    """The model that was fitted; a prior that the file could not hold is known by name only."""
    return saved.assumed(tree.attrs["model"])


def posterior_sites(tree: "DataTree") -> dict[str, np.ndarray]:
    """Sites that the recursion needs, at all posterior draws (draw, ...)."""
    posterior = group_of(tree, "posterior")
    return flat({k: posterior[k].values for k in assumed(tree).parameters})


def stored_sites(tree: "DataTree", group: str = "mixture") -> dict[str, np.ndarray]:
    """The same at the draws of a group: those of the mixture, or the plug-in."""
    held = group_of(tree, group)
    return {k: held[k].values for k in assumed(tree).parameters}


def posed(
    tree: "DataTree", given: HedgeData, sites: dict[str, np.ndarray]
) -> tuple[KalmanRegression, np.ndarray]:
    """The training series as a distribution under draws of the sites, and its values; lengthened."""
    model = assumed(tree)
    inputs = lengthen(model.inputs(given))
    return regression(model, inputs, sites), np.asarray(inputs.y)


def build(
    data: HedgeData,
    gaps: tuple[str, ...],
    coordinates: Coordinates,
    groups: dict[str, dict[str, np.ndarray]],
    sites: dict[str, np.ndarray],
    passed: Pass,
) -> "DataTree":
    """All groups of a fit; `passed` is the forward pass of the draws of `sites`, the plug-in last.

    `gaps` are the kinds of closed periods that the model tells apart.
    """
    # here, not above: ArviZ takes seconds to import, and a filter needs none of it
    from arviz_base import from_dict
    from xarray import Dataset, DataTree

    names = [*data.hedges, "alpha"][: coordinates.coefficients]
    dims = {name: ["coef"] for name in _BY_COEF}
    for name, values in groups["posterior"].items():  # not one delta, or one size, for all hedges
        if name not in (*_BY_COEF, *_BY_GAP) and values.ndim == 3:
            dims[name] = ["hedge"]
    spots = {"coef": names, "hedge": list(data.hedges)}
    if gaps:
        dims |= {name: ["gap"] for name in _BY_GAP}
        spots["gap"] = list(gaps)
    sited = {k: groups[k] for k in ("posterior", "prior", "sample_stats")}
    tree = from_dict(sited, dims=dims, coords=spots)
    # with no dims given, for in these groups a site of several hedges is one number a draw
    others = {k: group for k, group in groups.items() if k not in sited}
    for name, group in from_dict(others).children.items():
        tree[name] = group
    timing: dict[str, object] = {"dt": ("time", data.dt)}
    if data.clock is not None:  # a variable, since an attribute may not exceed 64 kB
        timing["clock"] = json.dumps(data.clock.to_json())
    if gaps:
        timing["gaps"] = (("time", "gap"), closed.columns(data, gaps))
    time = _plain_index(data.index)
    tickers = [data.target, *data.hedges]
    spots = {"time": time, "coef": names, "coef_": names}
    tree["observed_data"] = DataTree(
        Dataset({"y": ("time", data.values.iloc[:, 0].to_numpy())}, coords={"time": time})
    )
    tree["constant_data"] = DataTree(
        Dataset(
            {
                "prices": (("time", "ticker"), data.prices.to_numpy()),
                "values": (("time", "ticker"), data.values.to_numpy()),
                "observed": ("time", data.observed.astype("int8")),
                **timing,
                "pivot": ("hedge", coordinates.pivot),
                "scale": ("hedge", coordinates.scale),
                "offset": coordinates.offset,
                "intercept": int(coordinates.intercept),
            },
            coords={"time": time, "ticker": tickers, "hedge": list(data.hedges)}
            | ({"gap": list(gaps)} if gaps else {}),
        )
    )
    scored = {
        "spread": ("time", passed.spread),
        "spread_sd": ("time", np.sqrt(passed.spread_var)),
        "log_density": ("time", passed.log_density),
    }
    now, ahead = _tilts(data, coordinates)
    filtered, predicted = (
        _in_units(where, belief, spots).assign(_of_spread(where, belief))
        for where, belief in ((ahead, passed.filtered), (now, passed.predicted))
    )
    tree["filtered"], tree["predicted"] = DataTree(filtered), DataTree(predicted.assign(scored))
    ended = _ended(sites, passed, names, gaps)
    tree["mixture"] = DataTree(ended.isel(noise_draw=slice(0, -1)))
    tree["plug_in"] = DataTree(ended.isel(noise_draw=slice(-1, None)))
    zone = getattr(data.index, "tz", None)
    tree.attrs = {
        "format": FORMAT.name,
        "format_version": FORMAT_VERSION,
        "kfmodels_version": version("kfmodels"),
        "target": data.target,
        "transform": str(data.transform),
        "fit_until": str(data.last_date),
        "fit_id": sha256(passed.mean.tobytes() + passed.cov.tobytes()).hexdigest()[:16],
        "timezone": "" if zone is None else str(zone),
        "index_name": "" if data.index.name is None else str(data.index.name),
        "index_unit": getattr(data.index, "unit", ""),
        "real_moves": json.dumps(data.real),
    }
    return tree


def _tilts(data: HedgeData, inner: Coordinates) -> tuple[Coordinates, Coordinates]:
    """The coordinates with the tilt of every row, and with that of the bar after it."""
    if not inner.tilted or data.clock is None:
        return inner, inner
    now = data.clock.days(data.index)[:, TILT]
    ahead = tilt_of_next(data.clock.places(data.index), data.clock.minutes)
    return inner._replace(tilt=now), inner._replace(tilt=ahead)


def in_units(tree: "DataTree", belief: Belief) -> "Dataset":
    """A belief about each row in the units of the data, laid out as the group predicted."""
    constant = group_of(tree, "constant_data")
    names = group_of(tree, "posterior")["coef"].values
    spots = {"time": constant["time"].values, "coef": names, "coef_": names}
    where = coordinates(tree)
    if where.tilted:
        where = _tilts(data(tree), where)[0]
    return _in_units(where, belief, spots)


def belief(group: "Dataset", name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and total sd of one coefficient by date."""
    return group["mean"].sel(coef=name).values, group["sd"].sel(coef=name).values


def coordinates(tree: "DataTree") -> Coordinates:
    """The inner coordinates of the fit."""
    constant = group_of(tree, "constant_data")
    return Coordinates(
        constant["pivot"].values,
        constant["scale"].values,
        float(constant["offset"]),
        bool(constant["intercept"]),
        parts=assumed(tree).states(constant.sizes["hedge"]),
        tilted=assumed(tree).tilted(constant.sizes["hedge"]),
    )


def index(tree: "DataTree") -> pd.Index:
    """The dates of the training rows, time zone and unit restored."""
    found = group_of(tree, "constant_data")["time"].to_index()
    name = tree.attrs["index_name"] or None
    if isinstance(found, pd.DatetimeIndex):
        found = found.as_unit(tree.attrs["index_unit"])
        if tree.attrs["timezone"]:
            found = found.tz_localize("UTC").tz_convert(tree.attrs["timezone"])
    return found.rename(name)


def data(tree: "DataTree") -> HedgeData:
    """The training rows."""
    constant = group_of(tree, "constant_data")
    dates, tickers = index(tree), [str(name) for name in constant["ticker"].values]
    prices, values = (
        pd.DataFrame(constant[k].values, dates, tickers) for k in ("prices", "values")
    )
    text = constant.get("clock")
    clock = None if text is None else Clock.from_json(json.loads(str(text.values)))
    real = tuple((name, at) for name, at in json.loads(tree.attrs.get("real_moves", "[]")))
    return HedgeData(prices, values, transform_of(tree.attrs["transform"]), clock, real)


def gap_names(tree: "DataTree") -> tuple[str, ...]:
    """The kinds of closed periods that the model tells apart."""
    posterior = group_of(tree, "posterior")
    return tuple(str(name) for name in posterior["gap"].values) if "gap" in posterior.dims else ()


def online(tree: "DataTree", given: HedgeData, draws: int) -> OnlineFilter:
    """The filter after the last training row, over stored draws taken at even steps."""
    held = group_of(tree, "plug_in" if draws == 1 else "mixture")
    total = held.sizes["noise_draw"]
    return _online(tree, given, held.isel(noise_draw=even_steps(draws, total)))


def _online(tree: "DataTree", given: HedgeData, taken: "Dataset") -> OnlineFilter:
    """The filter over these draws."""
    model, draws = assumed(tree), taken.sizes["noise_draw"]
    sites = {k: taken[k].values for k in model.parameters}
    drift, noise = model.laws(**sites)
    names = gap_names(tree)
    carried = noise.start()
    if carried is not None:
        carried = type(carried)(*(taken[f"carried_{k}"].values for k in carried._fields))
    complete = given.prices[~given.superseded].dropna()
    last = given.last_date
    return OnlineFilter(
        target=given.target,
        hedges=given.hedges,
        transform=given.transform,
        coordinates=coordinates(tree),
        drift=batch_last(drift, 1),
        noise=floored(batch_last(noise, 1), taken["least"].values),
        state=State(
            np.moveaxis(taken["mean"].values, 0, -1), np.moveaxis(taken["cov"].values, 0, -1)
        ),
        carried=carried,
        log_weights=np.full(draws, -np.log(draws)),
        last_prices=given.last_prices,
        unopened=given.unopened,
        habits=habits_of(complete.to_numpy(), given.transform),
        clock=given.clock if given.by_session or model.reads_day else None,
        at=last,
        until=last,
        fit_id=tree.attrs["fit_id"],
        gap_names=names,
        gap_bars=model.gap_bars(sites["gap_bars"], len(given.hedges)) if names else None,
        gap_noise=sites["gap_noise"].T if names else None,
        profile=profiles.law(model.profile, given.clock, sites),
    )


def effective_memory(tree: "DataTree") -> dict[str, float]:
    """Bars that each hedge ratio remembers: 1 + its variance over its state variance, at the end."""
    model, sites = assumed(tree), stored_sites(tree, "plug_in")
    hedges = [str(name) for name in group_of(tree, "constant_data")["hedge"].values]
    cov = np.moveaxis(group_of(tree, "plug_in")["cov"].values, 0, -1)
    drift, _ = model.laws(**sites)
    where = coordinates(tree)
    if where.tilted:
        ahead = _tilts(data(tree), where)[1]
        where = where._replace(tilt=np.ravel(ahead.tilt)[-1])
    law, sums, each = batch_last(drift, 1), where.sums, np.arange(len(cov))
    if len(each) > len(sums):  # of coefficients that are sums, and of all that one bar adds to them
        var = np.einsum("ci,ijd,cj->cd", sums, cov, sums)
        added = sums @ (law.widen(cov, 1.0) - cov)[each, each]
    else:
        var, added = cov[each, each], model.drift.added(law, cov)
    with np.errstate(divide="ignore", invalid="ignore"):
        memory = 1 + (var / added)[:, 0]
    return dict(zip(hedges, memory.tolist(), strict=False))


def save(tree: "DataTree", path: str | Path) -> None:
    """Write the tree as one netCDF file with its digest at the end, atomically."""
    with replacing(path) as temporary:
        tree.to_netcdf(temporary, engine="h5netcdf")
        seal_file(temporary)


def load(path: str | Path) -> "DataTree":
    """Read a tree and close the file.

    Raises:
        ValueError: the file is not a fit, is damaged, holds what no fit can be, or comes from a newer
            version of kfmodels.
    """
    from xarray import open_datatree

    file = read_file(path)
    try:
        with open_datatree(file, engine="h5netcdf") as opened:
            tree = opened.load()
        version = int(tree.attrs.get("format_version", 0))
    except (OSError, *UNSOUND) as error:
        raise ValueError(
            f"{path} is not {FORMAT.title} (netCDF): {error}; {FORMAT.remedy}"
        ) from error
    FORMAT.check(tree.attrs.get("format"), version, path)
    if _SERIES_BEFORE_5 in tree:
        tree[SERIES] = tree[_SERIES_BEFORE_5]
        del tree[_SERIES_BEFORE_5]
        tree.attrs |= {"format_version": FORMAT_VERSION}
    try:
        # what a filter refuses no fit can be
        given = data(tree)
        for group in ("mixture", "plug_in"):
            _online(tree, given, group_of(tree, group))
    except UNSOUND as error:
        raise ValueError(f"{path} is no sound fit: {error}; {FORMAT.remedy}") from error
    return tree


def _plain_index(index: pd.Index) -> pd.Index:
    """The dimension "time" of the groups."""
    # netCDF has no time zones: write UTC, and keep the zone as an attribute
    if isinstance(index, pd.DatetimeIndex) and index.tz is not None:
        index = index.tz_convert("UTC").tz_localize(None)
    # xarray would take the name of the index for the dimension
    return index.rename("time")


def _in_units(inner: Coordinates, belief: Belief, spots: dict[str, np.ndarray]) -> "Dataset":
    from xarray import Dataset

    mean, cov = inner.to_original(belief.mean, belief.cov)
    _, given = inner.to_original(belief.mean, belief.cov_given_noise)
    by_coef, square = ("time", "coef"), ("time", "coef", "coef_")
    return Dataset(
        {
            "mean": (by_coef, mean),
            "sd": (by_coef, np.sqrt(np.diagonal(cov, axis1=1, axis2=2))),
            "sd_given_noise": (by_coef, np.sqrt(np.diagonal(given, axis1=1, axis2=2))),
            "cov": (square, cov),
        },
        coords=spots,
    )


def _of_spread(inner: Coordinates, belief: Belief) -> dict[str, tuple[str, np.ndarray]]:
    """Mean and sd of a spread that comes back, by date, in units of the target; none without one."""
    if not inner.spread:
        return {}
    mean, cov = np.asarray(belief.mean)[:, -1], np.asarray(belief.cov)[:, -1, -1]
    return {"spread_mean": ("time", mean), "spread_state_sd": ("time", np.sqrt(cov))}


def _ended(
    sites: dict[str, np.ndarray],
    done: Pass,
    names: list[str],
    gaps: tuple[str, ...],
) -> "Dataset":
    """Noise draws and the last state under each, in inner coordinates, covariances relative."""
    from xarray import Dataset

    draw = ("noise_draw",)
    parts: dict[str, object] = {}
    for name, value in sites.items():
        last = "gap" if name in _BY_GAP else "coef" if name in _BY_COEF else "hedge"
        parts[name] = ((*draw, last) if value.ndim == 2 else draw, value)
    # the coefficients' own states come first, and where there are no others they are the coefficients
    place = "coef" if done.mean.shape[1] == len(names) else "state"
    parts |= {"mean": ((*draw, place), done.mean), "cov": ((*draw, place, f"{place}_"), done.cov)}
    carried = {} if done.carried is None else done.carried._asdict()
    parts |= {f"carried_{name}": (draw, value) for name, value in carried.items()}
    parts["least"] = (draw, done.least)
    spots = {"coef": names, "coef_": names} | ({"gap": list(gaps)} if gaps else {})
    return Dataset(parts, coords=spots)
