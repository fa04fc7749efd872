"""The ArviZ tree of a fit: how it is put together, written, read, and turned back into a filter.

One file: what one function writes into the tree another reads back, name by name.
"""

import json
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.data.hedge_data import HedgeData
from kfmodels.files.atomic import replacing
from kfmodels.files.documents import Format
from kfmodels.fitting import passes
from kfmodels.fitting.passes import Belief, NoiseDraws, Pass
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.noise import Scale
from kfmodels.kalman.step import State
from kfmodels.kalman.transforms import transform_of
from kfmodels.model import gaps as closed
from kfmodels.model.assumptions import DIFFUSE
from kfmodels.model.hedge_ratio import HedgeRatioModel, Inputs
from kfmodels.model.memory import q_to_gain
from kfmodels.online.filter import OnlineFilter
from kfmodels.sampling import prior as priors
from kfmodels.sampling.posterior import RECURSION, of_recursion

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

Tree = Any
"""An xarray `DataTree`, whose type says too little about what a path in it holds."""

FORMAT_VERSION = 2
FORMAT = Format(
    "kfmodels fit",
    FORMAT_VERSION,
    "a saved fit",
    "fit the prices and write one with fit.save(path)",
    oldest=FORMAT_VERSION,
)
_BY_COEF = ("delta", "q", "memory", "state_var")
_BY_GAP = ("gap_bars", "gap_noise")


def flat(sites: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Chains joined: (chain, draw, ...) to (chain * draw, ...)."""
    return {name: np.reshape(v, (-1, *np.shape(v)[2:])) for name, v in sites.items()}


@partial(jax.jit, static_argnames=("model",))
def noise_draws(model: HedgeRatioModel, inputs: Inputs, sites: dict[str, Any]) -> NoiseDraws:
    """What the recursion needs under each of the given draws; sites are (draw, ...)."""
    q = sites["q"]
    law: Any = model.regression(inputs, **of_recursion(sites))
    count, n = q.shape
    cov = law.initial_cov / law.obs_var[:, None, None]
    discounted = law.state_discount is not None
    learnt = law.variance_discount is not None
    return NoiseDraws(
        start_mean=jnp.broadcast_to(law.initial_mean, (count, n)),
        start_cov=jnp.broadcast_to(cov, (count, n, n)),
        obs_var=law.obs_var,
        q=None if discounted else q,
        state_discount=law.state_discount,
        moving=law.moving.astype(float) if discounted else None,
        variance_discount=law.variance_discount,
        variance_dof=jnp.broadcast_to(law.variance_dof, (count,)) if learnt else None,
        **closed.active(model.gaps, {name: sites.get(name) for name in _BY_GAP}),
    )


@partial(jax.jit, static_argnames=("model",))
def densities(
    model: HedgeRatioModel, inputs: Inputs, sites: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Log prior by inferred site, and log likelihood of all rows, at draws (draw, ...)."""
    likelihood = model.log_likelihood(inputs, **of_recursion(sites))
    log_prior = priors.log_density(sites, inputs, model=model)
    return {"log_prior": log_prior, "log_likelihood": {"y": likelihood}}


def every_draw(tree: Tree) -> NoiseDraws:
    """All posterior draws of the noise, as the recursion needs them; the mixture holds a few."""
    posterior = tree["posterior"].to_dataset()
    sites = flat({k: posterior[k].values for k in RECURSION if k in posterior})
    q, obs_var, memory = sites["q"], sites["obs_scale"] ** 2, sites.get("variance_memory")
    held = stored_draws(tree, "plug_in")
    # a flat start is wide relative to the noise of each draw; any other has its own units
    flat_start = np.array_equal(held.start_cov[0], DIFFUSE * np.eye(q.shape[1]))
    units = np.ones(len(q)) if flat_start else held.obs_var / obs_var
    draws = NoiseDraws(
        start_mean=np.broadcast_to(held.start_mean[0], q.shape),
        start_cov=held.start_cov[0] * units[:, None, None],
        obs_var=obs_var,
        **{name: sites[name] for name in _BY_GAP if getattr(held, name) is not None},
    )
    if held.state_discount is None:
        draws = draws._replace(q=q)
    else:
        draws = draws._replace(state_discount=1 - q_to_gain(q[:, 0]), moving=held.moving)
    if memory is None:
        return draws
    dof = np.broadcast_to(np.asarray(held.variance_dof), obs_var.shape)
    return draws._replace(variance_discount=1 - 1 / memory, variance_dof=dof)


def build(
    data: HedgeData,
    gaps: tuple[str, ...],
    coordinates: Coordinates,
    groups: dict[str, dict[str, np.ndarray]],
    draws: NoiseDraws,
    passed: Pass,
) -> "DataTree":
    """All groups of a fit; `passed` is the forward pass of `draws`, the plug-in last.

    `gaps` are the kinds of closed periods that the model tells apart.
    """
    from arviz_base import from_dict
    from xarray import Dataset, DataTree

    names = [*data.hedges, "alpha"][: coordinates.coefficients]
    dims = {name: ["coef"] for name in _BY_COEF} | {"delta_beta": ["hedge"]}
    sites = groups["posterior"]
    several = "delta_beta" in sites and sites["delta_beta"].ndim == 3
    if not several:
        dims.pop("delta_beta")
    spots = {"coef": names, "hedge": list(data.hedges)}
    if gaps:
        dims |= {name: ["gap"] for name in _BY_GAP}
        spots["gap"] = list(gaps)
    sited = {k: groups[k] for k in ("posterior", "prior", "sample_stats")}
    tree = from_dict(sited, dims=dims, coords=spots)
    # apart, for there a site of several hedges is one number a draw
    for name, group in from_dict({k: groups[k] for k in groups.keys() - sited}).children.items():
        tree[name] = group
    timing: dict[str, Any] = {"dt": ("time", data.dt)}
    if data.clock is not None:  # no attribute, for those may not exceed 64 kB
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
    tree["filtered"] = DataTree(_in_units(coordinates, passed.filtered, spots))
    tree["predicted"] = DataTree(_in_units(coordinates, passed.predicted, spots).assign(scored))
    ended = _ended(draws, passed, names, gaps)
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
    }
    return tree


def in_units(tree: Tree, belief: Belief) -> "Dataset":
    """A belief in the units of the data, as the groups filtered and predicted have it."""
    constant = tree["constant_data"]
    names = tree["posterior"]["coef"].values
    spots = {"time": constant["time"].values, "coef": names, "coef_": names}
    return _in_units(coordinates(tree), belief, spots)


def belief(group: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and total sd of one coefficient by date."""
    return group["mean"].sel(coef=name).values, group["sd"].sel(coef=name).values


def coordinates(tree: Tree) -> Coordinates:
    """The inner coordinates of the fit."""
    constant = tree["constant_data"]
    return Coordinates(
        constant["pivot"].values,
        constant["scale"].values,
        float(constant["offset"]),
        bool(constant["intercept"]),
    )


def index(tree: Tree) -> pd.Index:
    """The dates of the training rows, time zone and unit restored."""
    found = tree["constant_data"]["time"].to_index()
    name = tree.attrs["index_name"] or None
    if isinstance(found, pd.DatetimeIndex):
        found = found.as_unit(tree.attrs["index_unit"])
        if tree.attrs["timezone"]:
            found = found.tz_localize("UTC").tz_convert(tree.attrs["timezone"])
    return found.rename(name)


def data(tree: Tree) -> HedgeData:
    """The training rows."""
    constant = tree["constant_data"]
    dates, tickers = index(tree), [str(name) for name in constant["ticker"].values]
    prices, values = (
        pd.DataFrame(constant[k].values, dates, tickers) for k in ("prices", "values")
    )
    text = constant.get("clock")
    clock = None if text is None else Clock.from_json(json.loads(str(text.values)))
    return HedgeData(prices, values, transform_of(tree.attrs["transform"]), clock)


def gap_names(tree: Tree) -> tuple[str, ...]:
    """The kinds of closed periods that the model tells apart."""
    posterior = tree["posterior"]
    return tuple(str(name) for name in posterior["gap"].values) if "gap" in posterior.dims else ()


def rows(tree: Tree, given: HedgeData) -> Any:
    """The training series in inner coordinates."""
    inner = coordinates(tree)
    design = np.where(given.observed[:, None], inner.design(given.x), 0.0)
    y = np.where(given.observed, given.y - inner.offset, 0.0)
    names = gap_names(tree)
    gaps = closed.columns(given, names) if names else None
    return passes.series(y, design, given.observed, given.dt, gaps)


def stored_draws(tree: Tree, group: str = "mixture") -> NoiseDraws:
    """The noise draws of a group."""
    held = tree[group].to_dataset()
    return NoiseDraws(**{k: held[k].values for k in NoiseDraws._fields if k in held})


def online(tree: Tree, given: HedgeData, draws: int) -> OnlineFilter:
    """The filter after the last training row, over evenly chosen stored draws."""
    held = tree["plug_in" if draws == 1 else "mixture"].to_dataset()
    total = held.sizes["noise_draw"]
    taken = held.isel(noise_draw=((np.arange(draws) + 0.5) * total / draws).astype(int))
    kept = NoiseDraws(**{k: taken[k].values for k in NoiseDraws._fields if k in taken})
    with jax.enable_x64(True):  # or the noise would be rounded to single precision
        _, drift, noise = jax.device_get(kept.recursion())
    more: dict[str, Any] = {}
    if kept.gap_bars is not None:
        noise_of = np.ones_like(kept.gap_bars) if kept.gap_noise is None else kept.gap_noise
        more = {"gap_bars": np.asarray(kept.gap_bars).T, "gap_noise": np.asarray(noise_of).T}
        more["gap_names"] = gap_names(tree)
    complete = given.prices.dropna()
    last = given.last_date
    return OnlineFilter(
        target=given.target,
        hedges=given.hedges,
        transform=given.transform,
        coordinates=coordinates(tree),
        drift=_numpy(drift),
        noise=_numpy(noise),
        state=State(
            np.moveaxis(taken["mean"].values, 0, -1), np.moveaxis(taken["cov"].values, 0, -1)
        ),
        scale=Scale(taken["dof"].values, taken["last_obs_var"].values) if "dof" in taken else None,
        log_weights=np.full(draws, -np.log(draws)),
        last_prices=complete.iloc[-1].to_numpy(),
        at=last,
        until=last,
        fit_id=tree.attrs["fit_id"],
        **more,
    )


def effective_memory(tree: Tree) -> dict[str, float]:
    """Bars over which each hedge ratio is learnt: 1 + its variance / its state variance, at the end."""
    held = tree["plug_in"].to_dataset().isel(noise_draw=0)
    hedges = [str(name) for name in tree["constant_data"]["hedge"].values]
    with np.errstate(divide="ignore"):
        if "q" in held:
            memory = 1 + np.diagonal(held["cov"].values) / held["q"].values
        else:
            memory = np.full(len(hedges), 1 / (1 - float(held["state_discount"])))
    return dict(zip(hedges, memory.tolist(), strict=False))


def save(tree: Tree, path: str | Path) -> None:
    """Write the tree as one netCDF file, atomically."""
    with replacing(path) as temporary:
        tree.to_netcdf(temporary, engine="h5netcdf")


def load(path: str | Path) -> "DataTree":
    """Read a tree and close the file.

    Raises:
        ValueError: the file is not a fit, or comes from a newer version of kfmodels.
    """
    from xarray import open_datatree

    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no file {path}: {FORMAT.remedy}")
    try:
        with open_datatree(path, engine="h5netcdf") as opened:
            tree = opened.load()
    except OSError as error:
        raise ValueError(f"{path} is not a saved fit (netCDF): {error}") from error
    FORMAT.check(tree.attrs.get("format"), int(tree.attrs.get("format_version", 0)), path)
    return tree


def _numpy(part: Any) -> Any:
    return type(part)(*(np.asarray(leaf) for leaf in part))


def _plain_index(index: pd.Index) -> pd.Index:
    """The dimension "time". netCDF knows no time zones: UTC, and the zone is kept as an attribute."""
    if isinstance(index, pd.DatetimeIndex) and index.tz is not None:
        index = index.tz_convert("UTC").tz_localize(None)
    # xarray would take the name of the index for the dimension
    return index.rename("time")


def _in_units(inner: Coordinates, belief: Belief, spots: dict[str, Any]) -> "Dataset":
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


def _ended(draws: NoiseDraws, done: Pass, names: list[str], gaps: tuple[str, ...]) -> "Dataset":
    """Noise draws and the state each ended in, in inner coordinates, covariances relative."""
    from xarray import Dataset

    one, two = ("noise_draw", "coef"), ("noise_draw", "coef", "coef_")
    dims = {"start_mean": one, "start_cov": two, "q": one, "moving": ("coef",)}
    dims |= dict.fromkeys(_BY_GAP, ("noise_draw", "gap"))
    parts = {
        name: (dims.get(name, ("noise_draw",)), value)
        for name, value in draws._asdict().items()
        if value is not None
    }
    parts |= {"mean": (one, done.mean), "cov": (two, done.cov)}
    if done.dof is not None:
        parts |= {
            "dof": (("noise_draw",), done.dof),
            "last_obs_var": (("noise_draw",), done.obs_var),
        }
    spots = {"coef": names, "coef_": names} | ({"gap": list(gaps)} if gaps else {})
    return Dataset(parts, coords=spots)
