"""Pooling: a population from stored draws, against closed forms and against the whole hierarchy."""

import warnings
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from numpyro import handlers
from numpyro.infer import MCMC
from numpyro.infer import NUTS as NUMPYRO_NUTS
from scipy.stats import norm

from kfmodels import (
    Anchored,
    Constant,
    HedgeData,
    ImportanceSampling,
    Memory,
    fit_many,
    hedge_ratio_model,
)
from kfmodels.batch.pooling import Pooled, pool, pool_draws, scale_free
from kfmodels.batch.population import POPULATION_SD, log_evidence, shrunk_weights, universe_of
from kfmodels.batch.status import FITTED, Status, Verdict
from kfmodels.data import datasets
from kfmodels.data.arrays import pair_arrays
from kfmodels.kalman.transforms import LOG
from kfmodels.model.anchored import LEAST_TAIL
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.model.memory import memory_to_q
from kfmodels.model.priors import Absolute
from kfmodels.sampling import prior as priors
from kfmodels.sampling import ridge
from kfmodels.sampling.nuts import MAX_PARETO_K
from tests.grids import effective_draws

WIDTH, ERROR = 3.0, 0.7


def toy(pairs: int, count: int, sd: float, *, draws: int = 400, seed: int = 0) -> SimpleNamespace:
    """Pairs whose parameter is seen with a normal error: all is known in closed form.

    Draws are from a Student-t about twice as wide as the posterior, weighed exactly.
    """
    random = np.random.default_rng(seed)
    true = np.linspace(-1, 1, count) + sd * random.normal(size=(pairs, count))
    y = true + ERROR * random.normal(size=true.shape)
    var = 1 / (1 / ERROR**2 + 1 / WIDTH**2)
    mean, scale = y * var / ERROR**2, np.sqrt(var)
    z = random.standard_t(4, size=(pairs, draws, count)) * 1.3
    u = mean[:, None] + scale * z
    proposed = -2.5 * np.log1p((z / 1.3) ** 2 / 4)
    log_weights = (norm.logpdf(u, mean[:, None], scale) - proposed).sum(-1)
    log_weights -= np.log(np.exp(log_weights).sum(1, keepdims=True))
    return SimpleNamespace(
        y=y, true=true, u=u, log_weights=log_weights, log_prior=norm.logpdf(u, 0, WIDTH)
    )


def of(made: SimpleNamespace, **options: Any) -> Pooled:
    pairs, _, count = made.u.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return pool_draws(
            made.u,
            made.log_weights,
            log_prior=made.log_prior,
            names=[f"pair {i}" for i in range(pairs)],
            parameters=[f"p{j}" for j in range(count)],
            **options,
        )


def exact_evidence(y: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    return (
        norm.logpdf(y, mean, np.hypot(ERROR, sd)) - norm.logpdf(y, 0, np.hypot(ERROR, WIDTH))
    ).sum(-1)


def evidence(made: SimpleNamespace, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    universe, middle = universe_of(made.u, made.log_weights, made.log_prior)
    return np.asarray(jax.jit(log_evidence)(universe, jnp.asarray(mean - middle), jnp.asarray(sd)))


def effective(made: SimpleNamespace, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Effective draws of each pair under a population, a normal at each draw as wide as its error."""
    ratio = made.log_weights - made.log_prior.sum(-1)
    ratio = ratio + norm.logpdf(made.u, mean, np.hypot(sd, ERROR / 2)).sum(-1)
    share = np.exp(ratio - ratio.max(-1, keepdims=True))
    return share.sum(-1) ** 2 / (share**2).sum(-1)


def exact_posterior(made: SimpleNamespace) -> dict[str, tuple[float, float]]:
    """Mean and sd of the population's mean and log sd, one parameter, on a fine grid."""
    universe, middle = universe_of(made.u, made.log_weights, made.log_prior)
    mean = np.linspace(-3, 1.5, 500)
    sd = np.exp(np.linspace(-5, 1.5, 400))[:, None]
    log = norm.logpdf(mean, middle[0], 3 * universe.spread[0])
    log = log + norm.logpdf(sd, 0, POPULATION_SD) + np.log(sd)
    for y in made.y[:, 0]:
        log = log + norm.logpdf(y, mean, np.hypot(ERROR, sd))
    share = np.exp(log - log.max())
    share /= share.sum()

    def moments(value: np.ndarray) -> tuple[float, float]:
        centre = (share * value).sum()
        return centre, np.sqrt((share * (value - centre) ** 2).sum())

    return {"mean": moments(mean + 0 * sd), "log sd": moments(np.log(sd) + 0 * mean)}


# -- closed forms ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "sd"), [(1, 0.02), (2, 0.02), (1, 0.3), (3, 0.4), (3, 1.0), (2, 4)]
)
def test_the_evidence_of_a_pair_is_that_of_the_closed_form(count, sd, x64):
    made = toy(40, count, 0.5)
    mean, sds = made.y.mean(0), np.full(count, sd)
    found, expected = evidence(made, mean, sds), exact_evidence(made.y, mean, sds)
    noise = 1 / np.sqrt(effective(made, mean, sds))
    assert (noise < 0.5).mean() > 0.9
    assert (np.abs(found - expected) < 4 * noise).all()
    assert abs((found - expected).mean()) < 4 * np.sqrt((noise**2).sum()) / 40 + (noise**2).mean()


def test_gradients_of_the_evidence_are_finite_differences(x64):
    made = toy(5, 2, 0.5)
    universe, _ = universe_of(made.u, made.log_weights, made.log_prior)

    @jax.jit
    def total(at: Any) -> Any:
        return log_evidence(universe, at[:2], jnp.exp(at[2:])).sum()

    at = jnp.array([0.2, -0.1, -0.7, 0.4])
    step = 1e-5
    rough = [(total(at + step * e) - total(at - step * e)) / (2 * step) for e in np.eye(4)]
    assert_allclose(jax.jacfwd(total)(at), np.array(rough), rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def one() -> tuple[SimpleNamespace, Pooled]:
    made = toy(40, 1, 0.8, seed=1)
    return made, of(made)


@pytest.mark.slow
def test_the_population_is_that_of_the_closed_form(one):
    made, found = one
    draws = {"mean": found.mean[..., 0], "log sd": np.log(found.sd[..., 0])}
    for name, (centre, sd) in exact_posterior(made).items():
        ess = found.weighted
        assert ess > 200
        assert abs(draws[name].mean() - centre) < 4 * sd / np.sqrt(ess) + 0.05 * sd
        assert abs(draws[name].std() / sd - 1) < 4 / np.sqrt(2 * ess) + 0.05


@pytest.mark.slow
def test_a_part_of_the_draws_finds_the_same_population(one, monkeypatch):
    made, whole = one
    monkeypatch.setattr("kfmodels.batch.population._EVERY", 1)  # so 256 draws of 400
    part = of(made)
    for name in ("mean", "sd"):
        width = np.std(getattr(whole, name))
        error = width * np.sqrt(1 / whole.weighted + 1 / part.weighted)
        off = getattr(part, name).mean() - getattr(whole, name).mean()
        assert 0 < abs(off) < 4 * error + 0.15 * width


@pytest.mark.slow
def test_pairs_shrink_towards_the_mean_and_not_past_it(one):
    made, found = one
    table = found.table()["p0"]
    centre = found.population.loc["p0", "mean"]
    assert (table["pooled_upper"] - table["pooled_lower"]).sum() < (
        table["alone_upper"] - table["alone_lower"]
    ).sum()
    # what the closed form says at the population's own median
    keep = 1 / (1 + ERROR**2 / found.population.loc["p0", "sd"] ** 2)
    expected = centre + keep * (made.y[:, 0] - centre)
    error = ERROR / np.sqrt(found.effective_draws)
    assert (np.abs(table["pooled"] - expected) < 5 * error + 0.1).all()
    far = np.abs(table["alone"] - centre) > 0.7
    assert far.sum() > 5
    moved = (table["pooled"] - centre)[far] / (table["alone"] - centre)[far]
    assert ((moved > 0) & (moved < 1)).all()


@pytest.mark.slow
def test_what_a_pooled_universe_shows(one):
    _, found = one
    assert found.u.shape == (40, 400, 1)
    assert_allclose(np.exp(found.log_weights).sum(1), 1, rtol=1e-9)
    assert_allclose(found.effective_draws, 1 / np.exp(2 * found.log_weights).sum(1))
    row = found.population.loc["p0"]
    for name in ("mean", "sd", "typical"):
        assert row[f"{name}_lower"] < row[name] < row[f"{name}_upper"]
    assert row["pairs_lower"] < row["mean_lower"]
    assert row["pairs_upper"] > row["mean_upper"]
    assert np.isnan(row["rhat"])  # weighted draws have none
    assert row["ess"] == found.weighted
    table = found.table()
    assert list(table.index) == list(found.names)
    assert set(found.verdicts) == {FITTED}
    assert (table["pareto_k"] <= MAX_PARETO_K).all()


# -- pairs that are not like the others ------------------------------------------------------------


@pytest.mark.slow
def test_a_wild_pair_is_flagged_and_a_broken_one_left_out():
    made = toy(40, 1, 0.8, seed=1)
    # the first holds all its weight in three draws, far out; the second failed; the last was not
    # fitted, and says why
    made.u[0] = 2.5 + 0.1 * np.linspace(-1, 1, 400)[:, None] ** 3
    made.log_weights[0] = np.where(np.arange(400) < 397, -60.0, np.log(1 / 3))
    made.log_prior[0] = norm.logpdf(made.u[0], 0, WIDTH)
    made.u[1] = np.nan
    few = Verdict(Status.UNUSABLE, "KO has too few rows")
    found = of(made, verdicts=[FITTED] * 39 + [few])
    assert found.verdicts[0].status == Status.DOUBTED
    assert "refit it with the population as its prior" in found.verdicts[0].reason
    assert not found.pareto_k[0] <= MAX_PARETO_K
    assert found.verdicts[1] == (Status.UNUSABLE, "left out: its draws are not finite")
    assert found.verdicts[-1] == few
    for number in (1, 39):
        assert np.isnan(found.log_weights[number]).all()
        assert np.isnan(found.pareto_k[number])
        assert np.isnan(found.table().loc[f"pair {number}", ("p0", "pooled")])
        assert found.effective_draws[number] == 0
    assert set(found.verdicts[2:-1]) == {FITTED}
    assert list(found.table()["status"][:3]) == ["doubted", "unusable", "ok"]
    assert np.isfinite(found.log_weights[2:-1]).all()
    # one pair of 38 at 2.5 does not carry the mean away
    assert abs(found.population.loc["p0", "mean"] - made.y[2:-1].mean()) < 0.4


def test_the_order_of_pairs_does_not_matter(x64):
    made = toy(12, 2, 0.5)
    order = np.random.default_rng(0).permutation(12)
    turned = SimpleNamespace(**{k: v[order] for k, v in vars(made).items()})
    mean, sd = np.array([-0.5, 0.3]), np.array([0.4, 1.1])
    assert_allclose(evidence(made, mean, sd)[order], evidence(turned, mean, sd), rtol=1e-9)
    both = []
    for one in (made, turned):
        ratio = one.log_weights - one.log_prior.sum(-1)
        both.append(shrunk_weights(one.u, ratio, mean[None], sd[None]))
    assert_allclose(both[0][0][order], both[1][0], rtol=1e-9)
    assert_allclose(both[0][1][order], both[1][1], rtol=1e-6)


def test_what_cannot_be_pooled_is_refused():
    made = toy(3, 1, 0.5)
    with pytest.raises(ValueError, match="at least two pairs that were fitted, not 1"):
        of(made, verdicts=[FITTED, *2 * [Verdict(Status.FAILED, "no")]])
    with pytest.raises(ValueError, match=r"must have the shape \(3, 400, 2\)"):
        pool_draws(
            made.u,
            made.log_weights,
            log_prior=made.log_prior,
            names="abc",
            parameters=["one", "other"],
        )


# -- hedge ratio models ----------------------------------------------------------------------------


def pooled_model(
    inputs: Any, model: HedgeRatioModel, *, centre: Any, spread: Any, sites: tuple[str, ...]
) -> None:
    """The whole hierarchy as one NumPyro model of all parameters of all pairs: slow, and exact.

    Args:
        inputs: of all pairs, one axis in front.
        model: of one pair; its priors on `sites` are replaced by the population.
        centre, spread: `(J,)`, prior mean of the population mean, and a third of its sd.
        sites: names of the J inferred sites.
    """
    pairs = len(inputs.y)
    mean = numpyro.sample("mean", dist.Normal(jnp.asarray(centre), 3 * spread).to_event(1))
    scale = dist.HalfNormal(POPULATION_SD).expand((len(sites),)).to_event(1)
    sd = numpyro.sample("sd", scale)
    with numpyro.plate("pair", pairs):
        away = numpyro.sample("away", dist.Normal(0.0, 1.0).expand((len(sites),)).to_event(1))
    u = numpyro.deterministic("u", mean + sd * away)

    def noise(free: Any, pair: Any) -> dict[str, Any]:
        given = {}
        for number, site in enumerate(sites):
            value = free[number] + (jnp.log(pair.typical_move) if site == "obs_scale" else 0)
            given[site] = priors.from_free(site, value.reshape(1, *shapes[site]))
        every = priors.complete(given, pair, model=model)
        return {k: every[k][0] for k in ("q", "obs_scale", "variance_memory") if k in every}

    with handlers.block():  # the sites of the single pairs are none of this model
        shapes = priors.inferred(jax.tree.map(lambda leaf: leaf[0], inputs), model)
        found = jax.vmap(noise)(u, inputs)
    numpyro.factor("pairs", model.log_likelihood(inputs, **found).sum())


@pytest.mark.slow
@pytest.mark.nightly
def test_a_board_pools_to_what_the_whole_hierarchy_says():
    model, columns, legs = hedge_ratio_model(intercept="static", noise=Constant()), {}, []
    for number, memory in enumerate((8.0, 12.0, 15.0, 20.0, 25.0, 40.0)):
        # memories as short as these, beside a level that stands still
        truth = datasets.simulate(
            160,
            memory=memory,
            intercept_memory=np.inf,
            obs_scale=0.004 * 2.0**number,
            hedge_volatility=0.02,
            seed=number,
        )
        legs.append((f"Y{number}", f"X{number}"))
        columns |= {legs[-1][0]: truth.prices["Y"], legs[-1][1]: truth.prices["X1"]}
    pairs = HedgeData.pairs(pd.DataFrame(columns), legs)
    board = fit_many(pairs, model, chunk_size=len(legs), progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = pool(board, seed=1)
    assert found.parameters == board.sites
    assert set(found.population.index) == {"memory", "noise share"}
    _, held = board.fitted(("points", "log_weights", "log_prior", "typical_move"))
    u = scale_free(held["points"], board.sites, bent=model.bent, typical_move=held["typical_move"])
    made, middle = universe_of(u, held["log_weights"], held["log_prior"])
    prices = pairs.prices.to_numpy().T
    inputs, _ = model.inputs_of_pairs(pair_arrays(prices[::2], prices[1::2], LOG))
    with jax.enable_x64(True):
        sampler = MCMC(
            NUMPYRO_NUTS(pooled_model, dense_mass=[("mean", "sd")], max_tree_depth=5),
            num_warmup=150,
            num_samples=300,
            num_chains=1,
            progress_bar=False,
        )
        about = {"centre": middle, "spread": made.spread, "sites": board.sites}
        sampler.run(jax.random.key(3), inputs, model, **about)
        whole = jax.device_get(sampler.get_samples(group_by_chain=True))
    weights = np.exp(found.log_weights)
    mean = np.einsum("pk,pkj->pj", weights, u)
    for j in range(len(board.sites)):
        for ours, theirs in (
            (found.mean[..., j], whole["mean"][..., j]),
            (np.log(found.sd[..., j]), np.log(whole["sd"][..., j])),
        ):
            ess = [effective_draws(x) for x in (ours, theirs)]
            assert min(ess) > 30
            error = theirs.std() * np.sqrt(1 / ess[0] + 1 / ess[1])
            assert abs(ours.mean() - theirs.mean()) < 4 * error + 0.1 * theirs.std(), j
        for i, drawn in enumerate(np.moveaxis(whole["u"][..., j], -1, 0)):  # each pair under it
            ess = effective_draws(drawn)
            assert found.effective_draws[i] > 50
            error = drawn.std() * np.sqrt(1 / ess + 1 / found.effective_draws[i])
            assert abs(mean[i, j] - drawn.mean()) < 4 * error + 0.05 * drawn.std(), (i, j)
    shown = found.table()["memory"]
    assert (shown["pooled_lower"] > 1).all()
    assert (shown["pooled_lower"] <= shown["pooled"]).all()
    assert (shown["pooled"] <= shown["pooled_upper"]).all()


def test_scale_free_parameters_are_those_of_the_model():
    random = np.random.default_rng(0)
    sites = ("delta_alpha", "delta_beta", "obs_scale")
    free = {site: random.normal(size=(3, 7)) for site in sites}
    bent = hedge_ratio_model(noise=Constant()).bent
    assert bent == {"delta_beta", "obs_scale"}
    with jax.enable_x64(True):
        straight = jax.device_get(ridge.straighten(jax.device_put(free), bent))
    points = np.stack([straight[site] for site in sites], -1)
    move = np.array([0.01, 0.1, 10.0])
    u = scale_free(points, sites, bent=bent, typical_move=move)
    assert_allclose(u[..., 0], free["delta_alpha"], atol=1e-12)
    assert_allclose(u[..., 1], free["delta_beta"], atol=1e-12)
    assert_allclose(u[..., 2], free["obs_scale"] - np.log(move)[:, None], atol=1e-12)


def test_parameters_are_shown_as_a_desk_reads_them():
    u = np.array([np.log(memory_to_q(60.0)), np.log(memory_to_q(2.0)), np.log(0.4), np.log(16.0)])
    sites = ("delta_beta", "delta_alpha", "obs_scale", "variance_memory")
    draws = np.broadcast_to(u, (2, 50, 4)) + 1e-6 * np.random.default_rng(0).normal(size=(2, 50, 4))
    found = Pooled(
        names=("a", "b"),
        parameters=sites,
        u=np.broadcast_to(u, (2, 10, 4)),
        alone=np.full((2, 10), -np.log(10)),
        log_weights=np.full((2, 10), -np.log(10)),
        pareto_k=np.zeros(2),
        effective_draws=np.full(2, 10.0),
        verdicts=(FITTED, FITTED),
        mean=draws,
        sd=np.exp(draws - u - 9),
    )
    labels = ["memory", "intercept memory", "noise share", "variance memory"]
    assert list(found.population.index) == labels
    assert_allclose(found.population["typical"], [60, 2, 0.4, 20], rtol=1e-4)
    table = found.table()
    assert_allclose([table[name, "pooled"]["a"] for name in labels], [60, 2, 0.4, 20], rtol=1e-9)


def test_a_parameter_that_differs_by_pair_is_not_pooled():
    options, site = {"delta": Absolute(Memory(60, low=5, high=700))}, "delta_beta"
    board = SimpleNamespace(
        model=hedge_ratio_model(**{"noise": Constant()} | options),
        sites=(site,),
        fitted=lambda keys: (["a"], {}),
    )
    with pytest.raises(ValueError, match=f"{site} cannot be pooled"):
        pool(board)


@pytest.mark.nightly
def test_the_noise_of_a_board_is_pooled_and_read_as_in_a_fit_of_each_pair():
    names = ["EWG", "EWQ", "EWU", "EWJ"]
    prices = datasets.etfs().loc["2012":"2013", [*names, "SPY"]]
    pairs = HedgeData.pairs(prices, [(name, "SPY") for name in names], transform="return")
    model = hedge_ratio_model(noise=Anchored(), intercept="none")
    board = fit_many(pairs, model, method=ImportanceSampling(), progress=False)
    found = pool(board, progress=False)
    sites = {
        "variance memory": "anchor_memory",
        "anchor weight": "anchor_weight",
        "move today": "move_today",
        "move after": "move_after",
    }
    table = found.table()
    assert set(sites) | {"degrees of freedom"} < set(table.columns.get_level_values(0))
    tree = board.sel("EWG/SPY").tree["posterior"]
    shown = table.loc["EWG/SPY"]
    for label, site in sites.items():
        drawn = np.quantile(tree[site].values.ravel(), [0.05, 0.5, 0.95])
        said = [shown[label, f"alone{end}"] for end in ("_lower", "", "_upper")]
        assert_allclose(np.log(said), np.log(drawn), atol=0.35)  # some hundred effective draws
    excess = np.median(tree["tail_excess"].values)
    assert_allclose(shown["degrees of freedom", "alone"], LEAST_TAIL + excess, rtol=0.35)
    assert np.isfinite(found.population.drop(columns="rhat").to_numpy()).all()
