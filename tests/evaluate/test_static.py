"""The Bayes factor of a static ratio against integrals on grids, and against known answers."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats
from scipy.special import logit, logsumexp

from kfmodels import (
    Constant,
    Discounted,
    HedgeData,
    HedgeFit,
    Reverting,
    StateDiscount,
    datasets,
    fit,
    hedge_ratio_model,
)
from kfmodels.evaluate import static_probability
from kfmodels.evaluate.static import integrate
from kfmodels.sampling import prior as priors
from kfmodels.sampling.posterior import of_recursion
from tests.problems import stocks_between, unsampled

BLOCK = 8192
"""Points of a grid that one compiled program takes."""


@pytest.fixture(scope="module")
def default(year: HedgeData) -> HedgeFit:
    return unsampled(year)


# -- an integral on a grid -------------------------------------------------------------------------


@jax.jit(static_argnames=("model", "still"))
def log_joint(free: Any, inputs: Any, *, model: Any, still: tuple[int, ...]) -> Any:
    """Log prior of what is inferred, on the real line, plus log likelihood, by draw.

    The speeds of the hedges numbered in `still` are no parameters: their ratios do not move.
    """
    sites = {name: priors.from_free(name, value) for name, value in free.items()}
    every = priors.complete(sites, inputs, model=model)
    stays = np.ones(every["q"].shape[1])
    stays[slice(None) if isinstance(model.drift, StateDiscount) and still else list(still)] = 0.0
    noise = of_recursion(every) | {"q": every["q"] * stays}
    prior = priors.log_density(sites, inputs, model=model, still=still)
    return model.log_likelihood(inputs, **noise) + sum(prior.values())


def on_grid(data: HedgeData, model: Any, axes: dict[str, np.ndarray], still: tuple) -> float:
    """Log marginal likelihood by the rectangle rule, all of it inside the grid.

    Where the intercept moves, the last axis is log obs_scale + log(q_alpha) / 2, which the rows know:
    along it the ridge of the posterior is straight. Axes named delta_beta0, delta_beta1 are hedges.
    """
    inputs = model.inputs(data)
    mesh = np.stack(np.meshgrid(*axes.values(), indexing="ij"), -1).reshape(-1, len(axes))
    u = dict(zip(axes, mesh.T, strict=True))
    beta = [u.pop(f"delta_beta{j}", np.zeros(len(mesh))) for j in range(len(data.hedges))]
    shared = isinstance(model.drift, StateDiscount)
    u = {"delta_beta": beta[0] if shared else np.column_stack(beta), **u}
    if "delta_alpha" in u and "obs_scale" in u:
        u["obs_scale"] = u["obs_scale"] - u["delta_alpha"] / 2
    found = []
    with jax.enable_x64(True):
        for first in range(0, len(mesh), BLOCK):
            part = {name: np.resize(v[first:], (BLOCK, *v.shape[1:])) for name, v in u.items()}
            values = log_joint(part, inputs, model=model, still=still)
            found.append(np.asarray(values)[: len(mesh) - first])
    # a discount that forgets all at each bar overflows: no mass there, as the edges show
    height = np.nan_to_num(np.concatenate(found), nan=-np.inf)
    height = height.reshape([len(axis) for axis in axes.values()])
    total = float(logsumexp(height))
    for number in range(len(axes)):
        for end in (0, -1):
            assert logsumexp(np.take(height, end, number)) < total - 9, (list(axes)[number], end)
    return total + float(np.log([axis[1] - axis[0] for axis in axes.values()]).sum())


def stable(
    data: HedgeData, model: Any, spans: dict[str, tuple], count: int, still: tuple = ()
) -> float:
    """The integral, where a grid two thirds as fine agrees to 0.01."""
    coarse, fine = (
        on_grid(data, model, {k: np.linspace(*span, n) for k, span in spans.items()}, still)
        for n in (2 * count // 3, count)
    )
    assert abs(coarse - fine) < 0.01
    return fine


def log_move(data: HedgeData) -> float:
    return float(np.log(np.diff(data.y).std()))


def moving_level(data: HedgeData) -> dict[str, tuple]:
    return {
        "delta_alpha": (-4.0, 16.0),
        "obs_scale": (log_move(data) - 1.2, log_move(data) + 1.2),
    }


# -- one hedge -------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_the_bayes_factor_is_that_of_a_fine_grid_and_its_error_is_honest(year, default):
    model, level = hedge_ratio_model(noise=Constant()), moving_level(year)
    moving = stable(year, model, {"delta_beta0": (-22.0, 8.0)} | level, 49)
    exact = stable(year, model, level, 81, still=(0,)) - moving
    tables = [static_probability(default, seed=seed).loc["PEP"] for seed in range(8)]
    for row in tables:
        assert row["pareto_k"] <= 0.7
        assert abs(row["log_bayes_factor"] - exact) < 4 * row["mcse"] + 0.01
    z = [(row["log_bayes_factor"] - exact) / row["mcse"] for row in tables]
    chance = stats.chi2(len(z)).cdf(np.square(z).sum())
    assert 1e-3 < chance < 1 - 1e-3  # neither too proud nor too shy


@pytest.mark.slow
def test_the_error_of_an_evidence_is_at_least_the_spread_of_evidences(default):
    """The error counts draws as independent; those of a Sobol sequence err half as much here."""
    still = np.array([[0.0, 0.0], [1.0, 0.0]])
    found = [integrate(default.data, default.model, still, seed) for seed in range(30)]
    spread = np.var([each.log_evidence for each in found], axis=0, ddof=1)
    ratio = spread / np.mean([each.evidence_error**2 for each in found], axis=0)
    assert (stats.chi2(29).cdf(29 * ratio) < 1 - 1e-3).all()
    assert (ratio > 0.1).all()


CASES = {
    "far from static, and from the prior": (
        ("XOM", "CVX", "2017"),
        {"intercept": "static"},
        {"delta_beta0": (-24.0, 8.0), "obs_scale": (-2.0, 3.0)},
    ),
    "one discount for all that moves": (
        ("KO", "PEP", "2019"),
        {"drift": StateDiscount()},
        {"delta_beta0": (-16.0, 6.0), "obs_scale": (-4.0, 5.0)},
    ),
    "a variance that is learnt": (
        ("KO", "PEP", "2019"),
        {"intercept": "static", "noise": Discounted()},
        {"delta_beta0": (-24.0, 8.0), "variance_memory": (-8.0, 14.0)},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_bayes_factor_is_that_of_a_grid(case: str):
    (target, hedge, year), options, spans = CASES[case]
    ends = f"{year}-01-01", f"{int(year) + 1}-01-01"
    data = stocks_between(*ends, target=target, hedges=[hedge])
    if "obs_scale" in spans:
        low, high = spans["obs_scale"]
        spans = spans | {"obs_scale": (log_move(data) + low, log_move(data) + high)}
    model = hedge_ratio_model(**{"noise": Constant()} | options)
    rest = {name: span for name, span in spans.items() if name != "delta_beta0"}
    exact = stable(data, model, rest, 201, still=(0,)) - stable(data, model, spans, 121)
    table = static_probability(unsampled(data, **options))
    (row,) = table.to_dict("records")
    assert table.index.tolist() == ["all" if "drift" in options else hedge]
    assert abs(row["log_bayes_factor"] - exact) < 4 * row["mcse"] + 0.02
    assert row["pareto_k"] <= 0.7


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_simulated_truth_is_recognised(seed: int):
    for memory, (low, high) in ((np.inf, (0.5, 1.0)), (2.0, (0.0, 0.01))):
        truth = datasets.simulate(500, memory=memory, intercept_memory=np.inf, seed=seed)
        data = HedgeData.from_prices(truth.prices, target="Y", hedges=["X1"])
        row = static_probability(unsampled(data, intercept="static")).loc["X1"]
        assert low <= row["probability"] <= high


@pytest.mark.nightly
def test_the_prior_shifts_the_odds_and_nothing_else(default):
    even = static_probability(default).loc["PEP"]
    assert logit(even["probability"]) == pytest.approx(even["log_bayes_factor"], rel=1e-9)
    for prior in (0.01, 0.9):
        row = static_probability(default, prior=prior).loc["PEP"]
        odds = logit(row["probability"]) - logit(prior)
        assert odds == pytest.approx(even["log_bayes_factor"], rel=1e-9)
        assert_array_equal(row.iloc[1:], even.iloc[1:])


# -- several ---------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_two_hedges_are_asked_one_by_one_and_together():
    data = stocks_between("2019-01-01", "2019-07-01", hedges=["PEP", "SPX"])
    model = hedge_ratio_model(noise=Constant())
    table = static_probability(unsampled(data))
    assert table.index.tolist() == ["PEP", "SPX", "all"]
    assert table.index.name == "hedge"
    assert list(table) == ["probability", "log_bayes_factor", "mcse", "pareto_k"]
    assert (table["pareto_k"] <= 0.7).all()
    # differences of factors leave integrals of at most three parameters, which a grid can do
    level = moving_level(data)
    none = stable(data, model, level, 81, still=(0, 1))
    for j, name in enumerate(data.hedges):
        one = stable(data, model, {f"delta_beta{1 - j}": (-22.0, 8.0)} | level, 41, still=(j,))
        gap = table.loc["all", "log_bayes_factor"] - table.loc[name, "log_bayes_factor"]
        error = np.hypot(table.loc["all", "mcse"], table.loc[name, "mcse"])
        assert abs(gap - (none - one)) < 4 * error + 0.02


@pytest.mark.nightly
def test_where_nothing_is_left_to_infer_the_evidence_is_the_likelihood(year):
    """The noise is fixed and the ratio stands still: one model, without a parameter."""
    fitted = unsampled(year, obs_scale=0.01, intercept="static")
    still = hedge_ratio_model(obs_scale=0.01, intercept="static", delta=0.0)
    certain = fit(year, still, progress=False).tree["predicted"]["log_density"].sum()
    (found,) = integrate(fitted.data, fitted.model, np.array([[1.0, 0.0]]), 0).log_evidence
    assert found == pytest.approx(float(certain), abs=0.1)


@pytest.mark.nightly
def test_a_spread_is_weighed_against_none_in_both(year: HedgeData):
    """Of four models at even odds, a spread or none and a ratio that moves or not, the static two."""
    fitted = unsampled(year, draws=16, spread=Reverting())
    found = static_probability(fitted).loc["PEP"]
    still = np.array([[0.0, 0.0], [1.0, 0.0]])
    models = (fitted.model, replace(fitted.model, spread=None))
    logs = np.array([integrate(year, one, still, 0).log_evidence for one in models])
    assert found["log_bayes_factor"] == pytest.approx(np.diff(logsumexp(logs, 0)).item(), rel=1e-9)
    assert found["probability"] == pytest.approx(np.exp(logsumexp(logs[:, 1]) - logsumexp(logs)))
