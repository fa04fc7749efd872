"""`HedgeFit`: tables that an independent mixture of textbook loops finds too; and the file."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import arviz
import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from kfmodels import (
    Discounted,
    HedgeData,
    HedgeFit,
    Memory,
    StateDiscount,
    fit,
    hedge_ratio_model,
    load,
)
from kfmodels.data import datasets
from kfmodels.model import Absolute, Diffuse, Known, Weak
from kfmodels.model.memory import q_to_memory
from tests import reference
from tests.closeness import scaled_close
from tests.problems import ROWS, assert_same_fit, hedge_case, stock_prices, unsampled


def prices(rows: int = ROWS, index: pd.Index | None = None) -> pd.DataFrame:
    """Real prices with gaps in target and hedge, the last row but one among them."""
    table = stock_prices(rows)
    table.iloc[[12, 40], 0] = table.iloc[[41, rows - 2], 1] = np.nan
    return table if index is None else table.set_axis(index)


def pair(table: pd.DataFrame, *, hedges=("SPX", "PEP"), transform="log") -> HedgeData:
    return HedgeData.from_prices(table, target="KO", hedges=hedges, transform=transform)


class Case(NamedTuple):
    data: HedgeData
    fit: HedgeFit


HEDGES = ("SPX", "PEP")
SLOW = Discounted(Memory(20, low=10, high=40))
"""Slow enough that no gap here fades to fewer than 3 degrees of freedom, where fading stops."""

CASES = {
    "two hedges, logs, random walk, constant": ({"hedges": HEDGES, "transform": "log"}, {}),
    "levels, a variance that moves, no intercept": (
        {"hedges": ("PEP",), "transform": "level"},
        # a weak start without an intercept is 1e7 times as wide as the noise: seven digits
        {"noise": SLOW, "intercept": "none", "initial": Known([0.4], [[0.01]])},
    ),
    "returns, discounting, static intercept": (
        {"hedges": ("PEP",), "transform": "return"},
        {"drift": StateDiscount(), "intercept": "static"},
    ),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    how, options = request.param
    data = pair(prices(), **how)
    return Case(data, unsampled(data, **options))


@pytest.fixture(scope="module")
def plain() -> Case:
    """The default model; a second fit of its shape costs nothing."""
    data = pair(prices())
    return Case(data, unsampled(data))


# -- the tree --------------------------------------------------------------------------------------


@pytest.mark.variants
def test_the_tree_has_the_groups_dims_and_coordinates_it_promises(case: Case):
    tree, data = case.fit.tree, case.data
    groups = (
        "log_prior series_log_likelihood posterior sample_stats prior observed_data constant_data"
    )
    assert set(tree.children) == {*groups.split(), "filtered", "predicted", "mixture", "plug_in"}
    coef = [*data.hedges, "alpha"][: len(case.fit.coef)]
    assert list(case.fit.coef) == list(tree["posterior"]["coef"].values) == coef
    one = ("chain", "draw")
    dims = {
        "posterior": dict.fromkeys(("delta", "q", "memory", "state_var"), (*one, "coef")),
        "prior": {"delta": (*one, "coef")},
        "sample_stats": {"diverging": one},
        "filtered": {"mean": ("time", "coef"), "cov": ("time", "coef", "coef_")},
        "predicted": {"mean": ("time", "coef"), "spread": ("time",)},
    }
    dims["posterior"] |= {"obs_scale": one, "obs_var": one}
    for group, each in dims.items():
        assert {name: tree[group][name].dims for name in each} == each
    assert tree["posterior"]["delta"].shape == (2, 32, len(coef))
    assert tree["mixture"].sizes["noise_draw"] == 64
    for group in ("observed_data", "constant_data", "filtered", "predicted"):
        assert_array_equal(tree[group].indexes["time"], data.index)
        assert "date" not in tree[group].sizes  # the name of the index is not a dimension
    day, table = data.index[20], case.fit.hedge_ratio()
    table = table["PEP"] if len(data.hedges) > 1 else table
    assert tree["filtered"]["mean"].sel(time=day, coef="PEP") == table.loc[day, "mean"]


def test_the_tree_has_nothing_that_arviz_takes_for_one_observation(plain: Case):
    assert plain.fit.tree["series_log_likelihood"]["y"].dims == ("chain", "draw")
    with pytest.raises((KeyError, TypeError, ValueError), match="log[ _]likelihood"):
        arviz.loo(plain.fit.tree)


def test_the_tree_holds_the_data(case: Case):
    tree, data = case.fit.tree, case.data
    assert_array_equal(tree["observed_data"]["y"], data.values["KO"])
    assert_array_equal(tree["constant_data"]["prices"], data.prices)
    assert_array_equal(tree["constant_data"]["observed"], data.observed)
    assert (case.fit.target, case.fit.hedges) == (data.target, data.hedges)
    assert case.fit.fit_until == data.last_date
    assert tree.attrs["fit_until"] == str(data.last_date)
    pd.testing.assert_index_equal(case.fit.index, data.index)
    pd.testing.assert_frame_equal(case.fit.data.values, data.values, check_freq=False)
    pd.testing.assert_frame_equal(case.fit.data.prices, data.prices, check_freq=False)


def test_the_mixture_is_made_of_posterior_draws(plain: Case):
    posterior, mixture = plain.fit.tree["posterior"], plain.fit.tree["mixture"]
    drawn = np.column_stack(
        [posterior["q"].values.reshape(64, 3), posterior["obs_scale"].values.ravel()]
    )
    held = np.column_stack([mixture["q"], mixture["obs_scale"]])
    assert_allclose(drawn[np.lexsort(drawn.T)], held[np.lexsort(held.T)], rtol=1e-12)


def test_many_draws_are_thinned_to_64_that_stand_for_all(plain: Case):
    many = unsampled(plain.data, draws=1000)
    posterior, mixture = many.tree["posterior"], many.tree["mixture"]
    assert mixture.sizes["noise_draw"] == 64
    inputs = many.model.inputs(plain.data)
    sites = {name: posterior[name].values.reshape(2000, -1) for name in ("q", "obs_scale")}
    with jax.enable_x64(True):
        law = many.model.regression(inputs, q=sites["q"], obs_scale=sites["obs_scale"][:, 0])
        every = np.sort(law.filter(inputs.y).filtered.cov[:, -1, 0, 0])
        law = many.model.regression(
            inputs, q=mixture["q"].values, obs_scale=mixture["obs_scale"].values
        )
        kept = np.sort(law.filter(inputs.y).filtered.cov[:, -1, 0, 0])
    # evenly spaced in the order of the variance that the ratio ends with
    shares = np.searchsorted(every, kept) / 2000 * 64 - 0.5
    assert np.abs(shares - np.arange(64)).max() < 4


def test_the_plug_in_sits_at_the_posterior_mean_of_the_logarithms(case: Case):
    posterior, plug_in = case.fit.tree["posterior"], case.fit.tree["plug_in"]
    for name in ("q", "obs_scale"):
        expected = np.exp(np.log(posterior[name]).mean(("chain", "draw")))
        assert_allclose(plug_in[name][0], expected, rtol=1e-12)
    if "variance_memory" in plug_in:
        memory = 4 + np.exp(np.log(posterior["variance_memory"] - 4).mean())
        assert_allclose(plug_in["variance_memory"][0], memory, rtol=1e-12)


# -- an independent mixture ------------------------------------------------------------------------


def loops(case: Case, group: str = "mixture") -> list[tuple[dict, reference.Pass]]:
    """The textbook loop of every stored draw, of [ratios..., level at the pivot]."""
    data, model, held = case.data, case.fit.model, case.fit.tree[group].to_dataset()
    found = []
    for k in range(held.sizes["noise_draw"]):
        draw = {name: values.values for name, values in held.isel(noise_draw=k).items()}
        obs_scale = float(draw["obs_scale"])
        arguments = hedge_case(data, draw["q"], obs_scale, intercept=model.intercept)
        if isinstance(model.initial, Known):  # only where there is no pivot
            arguments |= {"initial_mean": model.initial.mean, "initial_cov": model.initial.cov}
        if isinstance(model.drift, StateDiscount):
            n = len(arguments.pop("state_var"))
            arguments["state_discount"] = float(1 - 1 / q_to_memory(draw["q"][0]))
            arguments["moving"] = np.arange(n) < n - (model.intercept == "static")
        if isinstance(model.noise, Discounted):
            arguments["variance_discount"] = float(1 - 1 / draw["variance_memory"])
            arguments["variance_dof"] = model.noise.dof
        found.append((arguments, reference.loop(data.y, **arguments)))
    return found


@pytest.fixture(scope="module")
def passes(case: Case) -> list[tuple[dict, reference.Pass]]:
    return loops(case)


def mixed(case: Case, means: np.ndarray, covs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Moments over draws (first axis) of the data's own [ratios..., intercept at zero]."""
    turn = np.eye(means.shape[-1])
    if "alpha" in case.fit.coef:
        turn[-1, :-1] = -case.data.x[case.data.observed].mean(0)
    means, covs = means @ turn.T, turn @ covs @ turn.T
    within = covs.mean(0)
    between = np.mean([[np.outer(m, m) for m in draw] for draw in means - means.mean(0)], axis=0)
    return means.mean(0), within + between, within


def tail(dof: np.ndarray) -> np.ndarray:
    """Variance of a Student-t over its squared scale; 1 where dof is infinite."""
    return 1 + 2 / (dof - 2)


@pytest.mark.parametrize("kind", ["filtered", "predicted"])
def test_beliefs_are_the_mixture_of_textbook_loops(case: Case, passes, kind: str):
    means = np.array([getattr(found, f"{kind}_mean") for _, found in passes])
    covs = np.array([getattr(found, f"{kind}_cov") for _, found in passes])
    learnt = case.data.observed if kind == "filtered" else 0
    dof = np.array([found.dof for _, found in passes], float) + learnt
    covs = covs * tail(dof)[..., None, None]
    mean, cov, within = mixed(case, means, covs)
    group = case.fit.tree[kind]
    scaled_close(group["mean"], mean, 1e-9)
    sd = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    assert_allclose(group["sd"], sd, rtol=1e-9)
    assert_allclose(group["sd_given_noise"] ** 2, np.diagonal(within, axis1=1, axis2=2), rtol=1e-9)
    scaled_close(group["cov"], cov, 1e-9)
    assert (group["sd"] >= group["sd_given_noise"]).all()
    assert (group["sd"] > 1.01 * group["sd_given_noise"]).any()  # the draws do disagree

    table = case.fit.hedge_ratio(kind, level=0.8)
    z = stats.norm.ppf(0.9)
    for i, hedge in enumerate(case.data.hedges):
        block = table[hedge] if len(case.data.hedges) > 1 else table
        assert list(block.columns) == ["mean", "sd", "lower", "upper"]
        pd.testing.assert_index_equal(block.index, case.data.index)
        scaled_close(block["mean"], mean[:, i], 1e-9)
        assert_allclose(block["sd"], sd[:, i], rtol=1e-9)
        scaled_close(block["lower"], mean[:, i] - z * sd[:, i], 1e-9)
        scaled_close(block["upper"], mean[:, i] + z * sd[:, i], 1e-9)
    if "alpha" in case.fit.coef:
        table = case.fit.intercept(kind)
        scaled_close(table["mean"], mean[:, -1], 1e-9)
        assert_allclose(table["sd"], sd[:, -1], rtol=1e-9)


def test_smoothed_beliefs_are_the_mixture_of_dense_gaussians(plain: Case):
    means, covs = [], []
    for arguments, found in loops(plain):
        dense = reference.dense(arguments, found.increment)
        mean, cov = dense.given(plain.data.y)
        means.append(mean)
        covs.append(np.array([cov[t, :, t] for t in range(len(mean))]))
    mean, cov, _ = mixed(plain, np.array(means), np.array(covs))
    table = plain.fit.hedge_ratio("smoothed")
    words = ["mean", "sd", "lower", "upper"]
    assert list(table.columns) == [(hedge, word) for hedge in HEDGES for word in words]
    for i, hedge in enumerate(HEDGES):
        scaled_close(table[hedge]["mean"], mean[:, i], 1e-6)
        assert_allclose(table[hedge]["sd"], np.sqrt(cov[:, i, i]), rtol=1e-6)


def test_the_spread_is_the_innovation_of_the_mixture(case: Case, passes):
    seen, data = case.data.observed, case.data
    error = np.array([found.error for _, found in passes])[:, seen]
    var = np.array([found.forecast_var for _, found in passes])[:, seen]
    var = var * tail(np.array([found.dof for _, found in passes])[:, seen])
    density = np.array([found.log_density for _, found in passes])
    table = case.fit.spread(level=0.5)
    # no mean: the band is around zero, and one called lower and upper beside a mean is read as its own
    assert list(table.columns) == ["spread", "sd", "band_lower", "band_upper", "z"]
    assert table[~seen].isna().all(axis=None)
    found = table[seen]
    scaled_close(found["spread"], error.mean(0), 1e-9)
    assert_allclose(found["sd"], np.sqrt(var.mean(0) + error.var(0)), rtol=1e-9)
    assert_allclose(found["z"], found["spread"] / found["sd"], rtol=1e-12)
    assert_allclose(found["band_upper"], stats.norm.ppf(0.75) * found["sd"], rtol=1e-9)
    assert_allclose(found["band_lower"], -found["band_upper"], rtol=1e-12)
    # y - x beta - alpha with the predicted coefficients: positive when the target is rich
    predicted = case.fit.tree["predicted"]["mean"].values
    hedged = (data.x * predicted[:, : data.x.shape[1]]).sum(1)
    alpha = predicted[:, -1] if "alpha" in case.fit.coef else 0.0
    scaled_close(found["spread"], (data.y - hedged - alpha)[seen], 1e-9)
    scored = np.logaddexp.reduce(density, axis=0) - np.log(64)
    scaled_close(case.fit.tree["predicted"]["log_density"].values[seen], scored[seen], 1e-9)


# -- time labels -----------------------------------------------------------------------------------


def test_with_the_noise_fixed_the_future_changes_nothing_printed_earlier():
    """Everything that is learnt from the whole table (noise, pivot, start) is given here."""
    given = {
        "delta": Absolute(1e-5),
        "obs_scale": 0.005,
        "pivot": 0,
        "initial": Known([1.0, 0.0], np.diag([0.1, 1.0])),
    }
    table, cut = prices(), 50
    other = table.copy()
    other.iloc[cut:] *= np.linspace(0.5, 3.0, ROWS - cut)[:, None] * [[1.0, 2.0, 1.0]]
    one, two = (unsampled(pair(t, hedges=["PEP"]), **given) for t in (table, other))
    for kind in ("filtered", "predicted"):
        a, b = one.hedge_ratio(kind), two.hedge_ratio(kind)
        assert_allclose(a.iloc[:cut], b.iloc[:cut], rtol=1e-9)
        assert (a.iloc[cut + 1 :] != b.iloc[cut + 1 :]).any(axis=None)
    a, b = one.spread().iloc[:cut], two.spread().iloc[:cut]
    assert_allclose(a, b, rtol=1e-9, atol=1e-9 * a["sd"].max())
    earlier = one.hedge_ratio("smoothed")["mean"].iloc[:cut]
    assert (earlier != two.hedge_ratio("smoothed")["mean"].iloc[:cut]).all()  # it does look ahead


# -- tables ----------------------------------------------------------------------------------------


def test_the_summary_is_recomputed_from_the_posterior(case: Case):
    table, posterior = case.fit.summary(), case.fit.tree["posterior"].to_dataset()
    assert list(table.index) == [*case.fit.coef, "noise"]
    assert list(table.columns[:3]) == ["memory", "effective_memory", "memory_lower"]

    def assert_sampled(row: pd.Series, var: xr.DataArray) -> None:
        log_var = np.log(var).rename("x").to_dataset()
        expected = [float(ask(log_var)["x"]) for ask in (arviz.rhat, arviz.ess)]
        assert_allclose(row[["rhat", "ess"]].to_numpy(float), expected, rtol=1e-9)

    for name in case.fit.coef:
        mine, row = posterior.sel(coef=name), table.loc[name]
        for word, site in (("delta", "delta"), ("q", "q"), ("var", "state_var")):
            assert_allclose(row[word], mine[site].median(), rtol=1e-12)
        memory = np.sort(mine["memory"].values.ravel())
        for word, p in (("memory_lower", 0.05), ("memory", 0.5), ("memory_upper", 0.95)):
            rank = p * (len(memory) - 1)
            assert memory[int(np.floor(rank))] <= row[word] <= memory[int(np.ceil(rank))]
        assert_allclose(row["gain"], 1 / row["memory"], rtol=1e-12)
        if row["q"] > 0:
            assert_sampled(row, mine["state_var"])
        else:
            assert np.isnan(row["ess"])
            assert row["memory"] == np.inf
    row = table.loc["noise"]
    assert_allclose(row["var"], posterior["obs_var"].median(), rtol=1e-12)
    assert_sampled(row, posterior["obs_var"])
    if "variance_memory" in posterior:
        below = (posterior["variance_memory"] <= row["memory"]).mean()
        assert 0.49 <= float(below) <= 0.52
    else:
        assert row["memory"] == np.inf


def test_what_moves_with_the_filter_is_reported_as_it_stands_at_the_end(case: Case, passes):
    """The observation variance, and the state noise that goes with it into the next bar."""
    posterior = case.fit.tree["posterior"]
    obs_var, state_var = [], []
    for arguments, found in passes:
        obs_var.append(found.filtered_obs_var[-1])
        if "state_discount" in arguments:
            grown = found.filtered_cov[-1].diagonal() * (1 / arguments["state_discount"] - 1)
            state_var.append(np.where(arguments["moving"], grown, 0.0))
        else:
            state_var.append(arguments["state_var"] / arguments["obs_var"] * obs_var[-1])
    assert_allclose(np.sort(posterior["obs_var"].values.ravel()), np.sort(obs_var), rtol=1e-9)
    drawn = np.sort(posterior["state_var"].values.reshape(64, -1), axis=0)
    assert_allclose(drawn, np.sort(state_var, axis=0), rtol=1e-9)


def test_the_effective_memory_weighs_what_is_unknown_against_what_moves(case: Case):
    """1 + var(ratio) / state variance after the last row, of the plug-in."""
    table = case.fit.summary()
    ((arguments, found),) = loops(case, "plug_in")
    if "state_discount" in arguments:
        memory = 1 / (1 - arguments["state_discount"])
        assert_allclose(table.loc[list(case.data.hedges), "effective_memory"], memory, rtol=1e-9)
    else:
        var = found.filtered_cov[-1].diagonal() / found.filtered_obs_var[-1]
        moves = arguments["state_var"] / arguments["obs_var"]
        for i, hedge in enumerate(case.data.hedges):
            assert_allclose(table.loc[hedge, "effective_memory"], 1 + var[i] / moves[i], rtol=1e-9)
    live = case.fit.online(draws=1).standing().effective_memory
    assert_allclose(list(live.values()), table.loc[list(live), "effective_memory"], rtol=1e-6)


def test_the_effective_memory_of_a_lone_level_is_its_memory():
    """A hedge that stands at one is the level of the closed form; it has to move a little."""
    table = datasets.stocks()[["KO"]].loc["2017":].iloc[:60]
    table["ONE"] = 1.0 + 1e-9 * (np.arange(60) % 2)
    data = HedgeData.from_prices(table, target="KO", hedges=["ONE"], transform="level")
    row = unsampled(data, delta=0.1, obs_scale=1.0, intercept="none").summary().loc["ONE"]
    assert 3 < row["memory"] < 4
    assert_allclose(row["effective_memory"], row["memory"], rtol=1e-8)


def test_convergence_is_the_worst_of_the_summary(case: Case):
    found, table = case.fit.convergence(), case.fit.summary()
    assert found["rhat"] == table["rhat"].max()
    assert found["ess"] == table["ess"].min()
    assert found["diverging"] == 0


@pytest.mark.parametrize("transform", ["log", "level", "return"])
def test_shares_hold_the_ratio_of_money_or_of_units(transform: str):
    """For each share of the target: -beta shares on levels, -beta of its money otherwise."""
    data = pair(prices(ROWS + (transform == "return")), transform=transform)
    fitted = unsampled(data)
    for kind in ("filtered", "predicted"):
        shares = fitted.hedge_shares(1000.0, kind)
        assert list(shares.columns) == ["SPX", "PEP"]
        last = data.prices.ffill()  # a gap is traded at the last price
        if kind == "predicted":
            last = last.shift(1)  # what is predicted for a bar is bought before it
        for hedge in ("SPX", "PEP"):
            beta = fitted.hedge_ratio(kind)[hedge]["mean"]
            if transform == "level":
                assert_allclose(shares[hedge], -1000 * beta, rtol=1e-12)
            else:
                money = shares[hedge] * last[hedge]
                assert_allclose(money, -beta * 1000 * last["KO"], rtol=1e-12)
        assert_allclose(shares * -0.002, fitted.hedge_shares(-2.0, kind), rtol=1e-12)


def test_what_cannot_be_asked_is_refused(plain: Case):
    fitted = plain.fit
    refused = [
        (partial(ask, level=level), f"probability of the interval.*not {level}")
        for ask in (fitted.hedge_ratio, fitted.spread)
        for level in (0.0, 1.0, -0.5, 90)
    ]
    refused += [(partial(fitted.hedge_ratio, "smooth"), "not 'smooth'")]
    refused += [
        (partial(fitted.online, draws=draws), rf"between 1 \(plug-in\) and 64, not {draws}")
        for draws in (0, 65)
    ]
    none = unsampled(pair(prices(), hedges=["PEP"]), intercept="none")
    for ask, text in [*refused, (none.intercept, "KO has no intercept")]:
        with pytest.raises(ValueError, match=text):
            ask()


# -- the file --------------------------------------------------------------------------------------


@pytest.mark.variants
def test_a_fit_reads_back_as_it_was_also_from_the_file_it_is_saved_over(case: Case, tmp_path: Path):
    path = tmp_path / "pair.nc"
    case.fit.save(path)
    again = load(path)
    assert_same_fit(case.fit, again)
    again.save(path)
    assert_same_fit(case.fit, load(path))


DAYS = pd.date_range("2019-10-01 16:00", periods=ROWS + 1).delete(4)
INDEXES = {
    "New York": DAYS.tz_localize("America/New_York").rename("close"),
    "a fixed offset": DAYS.tz_localize("+05:30"),
    "nanoseconds": (DAYS.as_unit("ns") + pd.Timedelta(1, "ns")).rename("time"),
    "whole numbers": pd.Index(np.arange(ROWS) * 3 + 7, name="bar"),
}


@pytest.mark.variants
@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_any_index_survives_the_file(index: pd.Index, tmp_path: Path):
    data = pair(prices(index=index))
    fitted = unsampled(data)
    fitted.save(tmp_path / "pair.nc")
    again = load(tmp_path / "pair.nc")
    for found in (fitted, again):
        pd.testing.assert_index_equal(found.index, index, exact="equiv")
        pd.testing.assert_index_equal(found.hedge_ratio().index, index, exact="equiv")
        assert found.fit_until == index[-1]
        assert getattr(found.index, "unit", None) == getattr(index, "unit", None)
        assert str(getattr(found.index, "tz", None)) == str(getattr(index, "tz", None))
    assert_same_fit(fitted, again)
    later = index[-1] + (index[-1] - index[-2])
    for live in (fitted.online(), again.online()):
        with pytest.raises(ValueError, match="not later than the last one"):
            live.update(y=40.0, x=[2000.0, 100.0], at=index[-1])
        assert live.update(y=40.0, x=[2000.0, 100.0], at=later).observed


def test_a_file_is_replaced_whole_or_not_at_all(plain: Case, tmp_path: Path):
    path = tmp_path / "pair.nc"
    plain.fit.save(path)
    before = path.read_bytes()
    tree = plain.fit.tree.copy()
    tree["filtered"].attrs["half way"] = {"netCDF": "cannot hold this"}
    with pytest.raises((TypeError, ValueError)):
        HedgeFit(tree).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["pair.nc"]


def test_a_file_of_version_4_is_read(plain: Case, tmp_path: Path):
    old = plain.fit.tree.copy()
    old["log_likelihood"] = old["series_log_likelihood"]
    del old["series_log_likelihood"]
    old.attrs |= {"format_version": 4}
    HedgeFit(old).save(tmp_path / "pair.nc")
    again = load(tmp_path / "pair.nc")
    assert_same_fit(again, plain.fit)
    xr.testing.assert_equal(
        again.tree["series_log_likelihood"], plain.fit.tree["series_log_likelihood"]
    )


def versioned(fitted: HedgeFit, path: Path, version: int) -> None:
    tree = fitted.tree.copy()
    tree.attrs |= {"format_version": version}
    HedgeFit(tree).save(path)


def half(fitted: HedgeFit, path: Path) -> None:
    fitted.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def other(_: HedgeFit, path: Path) -> None:
    xr.Dataset({"a": ("t", [1.0])}).to_netcdf(path, engine="h5netcdf")


NOT_SAVED = "pair.nc is not a saved fit"


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda *_: None, "there is no file .*pair.nc: fit the prices and write one"),
        (lambda _, path: path.write_text("hello"), NOT_SAVED),
        (lambda _, path: path.touch(), NOT_SAVED),
        (other, f"{NOT_SAVED}, or .* digest: put a copy in its place, or fit the prices and write"),
        (half, NOT_SAVED),
        (partial(versioned, version=99), r"newer kfmodels \(format 99, .*\): upgrade kfmodels"),
        (
            partial(versioned, version=1),
            r"pair.nc was written by an older kfmodels \(format 1, .*\): fit the prices and write one",
        ),
        (
            lambda fitted, path: fitted.save(path.parent / "nowhere" / "pair.nc"),
            "there is no folder .*nowhere to write pair.nc to",
        ),
    ],
)
def test_other_files_and_folders_are_refused(plain: Case, tmp_path: Path, write, text: str):
    path = tmp_path / "pair.nc"
    with pytest.raises(ValueError, match=text):  # noqa: PT012
        write(plain.fit, path)
        load(path)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("intercept", ["random_walk", "static"])
def test_a_flat_start_smooths_its_first_row_like_a_very_wide_one(intercept: str):
    """P - P N P is a difference of numbers as large as the squared start; the first row shows it."""
    tables = []
    for start in (Diffuse(), Weak(30)):
        model = hedge_ratio_model(
            delta={"beta": 1e-3}, obs_scale=0.005, initial=start, intercept=intercept
        )
        data = HedgeData.from_prices(datasets.stocks().loc["2018"], target="KO", hedges=["PEP"])
        tables.append(fit(data, model, progress=False).hedge_ratio("smoothed").iloc[:3])
    assert_allclose(tables[0]["sd"], tables[1]["sd"], rtol=1e-3)
    assert_allclose(tables[0]["mean"], tables[1]["mean"], atol=1e-3)
