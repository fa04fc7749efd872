"""Sensitivity to the prior, and another prior without a refit: against ArviZ, refits and a loop."""

import warnings
from typing import Any

import jax
import numpy as np
import pytest
from arviz_stats.psense import psense
from numpy.testing import assert_allclose
from scipy import stats
from xarray import Dataset, DataTree

from kfmodels import (
    NUTS,
    Constant,
    Discounted,
    HedgeData,
    HedgeFit,
    Memory,
    Scales,
    StateDiscount,
    datasets,
    fit,
    hedge_ratio_model,
    load,
)
from kfmodels.evaluate import prior_sensitivity, what_if
from kfmodels.evaluate import sensitivity as evidence
from kfmodels.model import Known
from kfmodels.sampling.psis import smooth
from tests.grids import ENOUGH, effective_draws
from tests.problems import assert_same_fit, hedge_case, unsampled
from tests.reference import loop

QUICK = NUTS(warmup=500, draws=500, chains=2)
LONG = NUTS(warmup=500, draws=1500, chains=2)


@pytest.fixture(scope="module")
def fitted(year: HedgeData) -> HedgeFit:
    """The default model, few and rough draws of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return fit(year, hedge_ratio_model(noise=Constant()), method=QUICK, progress=False)


# -- the prior's or the data's ---------------------------------------------------------------------


@pytest.mark.slow
def test_it_is_the_sensitivity_of_arviz(fitted):
    posterior = fitted.tree["posterior"]
    log_q = np.log(posterior["q"].values)
    by_draw = {
        "beta": (("chain", "draw"), log_q[..., 0]),
        "alpha": (("chain", "draw"), log_q[..., 1]),
        "noise": (("chain", "draw"), np.log(posterior["obs_scale"].values)),
    }
    own = {"log_prior": "log_prior", "log_likelihood": "series_log_likelihood"}
    groups = {theirs: fitted.tree[name].to_dataset() for theirs, name in own.items()}
    asked = DataTree.from_dict({"posterior": Dataset(by_draw), **groups})
    table = prior_sensitivity(fitted)
    rows = table.loc[["log q of PEP", "log q of alpha", "log obs_scale"]]
    for group in ("prior", "likelihood"):
        found = psense(asked, group=group)
        expected = [float(found[name]) for name in by_draw]
        assert_allclose(rows[group], expected, rtol=1e-12)
        assert min(expected) > 0


@pytest.mark.slow
def test_the_ratio_that_is_asked_about_is_the_one_after_the_last_row(fitted):
    drawn = evidence.draw_ratios(fitted, 0)["ratio to PEP"]
    last = fitted.hedge_ratio().iloc[-1]
    # the table mixes 64 of the draws: its mean and sd are as uncertain as those of 64
    assert drawn.shape == (2, 500)
    assert abs(drawn.mean() - last["mean"]) < 4 * last["sd"] / np.sqrt(64)
    assert drawn.std() == pytest.approx(last["sd"], rel=4 / np.sqrt(2 * 64))


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["log q of PEP", "log q of SPX", "log q of alpha", "log obs_scale"]),
        ({"intercept": "static"}, ["log q of PEP", "log q of SPX", "log obs_scale"]),
        (
            {"noise": Discounted(), "intercept": "none"},
            ["log q of PEP", "log q of SPX", "log variance_memory"],
        ),
        ({"drift": StateDiscount()}, ["log q of all", "log obs_scale"]),
        ({"drift": Scales()}, ["log q of alpha", "log obs_scale", "log scales_size"]),
        (
            {"delta": {"beta": 1e-4, "alpha": Memory(2, low=1.5, high=40)}, "obs_scale": 0.01},
            ["log q of alpha"],
        ),
    ],
)
def test_what_is_inferred_is_asked_about(options: dict, names: list[str]):
    data = HedgeData.from_prices(datasets.stocks(), target="KO", hedges=["PEP", "SPX"])
    fitted = unsampled(data.after("2021-01-01"), draws=50, **options)
    table = prior_sensitivity(fitted)
    assert table.index.tolist() == [*names, "ratio to PEP", "ratio to SPX"]
    assert list(table) == ["prior", "likelihood", "verdict"]
    both = zip(table["prior"], table["likelihood"], strict=True)
    assert table["verdict"].tolist() == [evidence.judge(*one) for one in both]


def test_the_ratio_of_several_scales_is_their_sum(year: HedgeData):
    """Its draws have the moments that the filter has after the last row."""
    fixed = {"delta": {"alpha": 0.5}, "obs_scale": 0.01}
    made = unsampled(year, draws=64, drift=Scales(size=0.1), **fixed)
    drawn = np.stack([evidence.draw_ratios(made, seed)["ratio to PEP"] for seed in range(60)])
    last = made.hedge_ratio().iloc[-1]
    assert drawn.mean() == pytest.approx(last["mean"], abs=5 * last["sd"] / np.sqrt(drawn.size))
    assert drawn.std() == pytest.approx(last["sd"], rel=5 / np.sqrt(2 * drawn.size))


@pytest.mark.parametrize(
    ("prior", "likelihood", "verdict"),
    [
        (0.04, 0.06, "the data's"),
        (0.04, 0.04, "hardly moved by either"),
        (0.06, 0.04, "the prior's: the data say little"),
        (0.06, 0.06, "both: see that they agree"),
    ],
)
def test_a_verdict_follows_from_both_sensitivities(prior: float, likelihood: float, verdict: str):
    assert evidence.judge(prior, likelihood) == verdict


# -- another prior ---------------------------------------------------------------------------------


def noise_draws(fitted: HedgeFit) -> dict[str, np.ndarray]:
    posterior = fitted.tree["posterior"]
    found = {"log q": np.log(posterior["q"].values[..., 0])}
    if "variance_memory" in posterior:
        return found | {"log memory": np.log(posterior["variance_memory"].values - 4)}
    return found | {"log obs_scale": np.log(posterior["obs_scale"].values)}


@pytest.fixture(scope="module", params=["constant", "discounted"])
def both(request, year) -> tuple[HedgeFit, dict[str, Any]]:
    """A fit of two parameters, and the options of its model."""
    options: dict[str, Any] = {"intercept": "static"}
    if request.param == "discounted":
        options["noise"] = Discounted()
    return fit(
        year, hedge_ratio_model(**{"noise": Constant()} | options), method=LONG, progress=False
    ), options


@pytest.mark.nightly
def test_reweighting_is_a_refit(both, year):
    fitted, options = both
    model = hedge_ratio_model(
        delta={"beta": Memory(30, low=8, high=150)}, **{"noise": Constant()} | options
    )
    found = what_if(fitted, model, seed=1)
    assert found.draws == 3000
    assert 0 < found.effective_draws < 3000
    assert found.pareto_k < 0.7
    again = fit(year, model, method=LONG, progress=False)
    before = noise_draws(fitted)
    for name, refitted in noise_draws(again).items():
        drawn = noise_draws(found.fit)[name]
        # what the weights leave of draws that were not independent to start with
        left = found.effective_draws * min(1.0, effective_draws(before[name]) / found.draws)
        there = effective_draws(refitted)
        assert min(left, there) > ENOUGH
        error = refitted.std() * np.sqrt(1 / left + 1 / there)
        assert abs(drawn.mean() - refitted.mean()) < 4 * error
        # of a sd, by the kurtosis
        share = np.sqrt((stats.kurtosis(refitted, None, fisher=False) - 1) / 4)
        assert abs(drawn.std() - refitted.std()) < 4 * share * error
    moved = abs(noise_draws(again)["log q"].mean() - before["log q"].mean())
    assert moved > 8 * before["log q"].std() / np.sqrt(
        effective_draws(before["log q"])
    )  # it did move


@pytest.mark.nightly
@pytest.mark.slow
def test_the_same_model_changes_nothing(both):
    fitted, _ = both
    found = what_if(fitted, fitted.model)
    assert found.pareto_k == pytest.approx(0.0, abs=1e-12)
    assert found.effective_draws == pytest.approx(found.draws, rel=1e-9)
    for name, draws in noise_draws(fitted).items():
        kept = np.sort(noise_draws(found.fit)[name].ravel())
        # every draw once, but for one that rounding of their number may cost
        assert len(kept) >= found.draws - 1
        assert len(np.unique(kept)) == len(np.unique(draws)) - (found.draws - len(kept))
    ends = found.table["after"] / found.table["before"]
    assert_allclose(ends.drop(index=["ratio to PEP", "memory of alpha"]), 1.0, rtol=0.02)
    # of the ratio 64 draws are mixed: neighbours of the old ones where rounding cost a draw
    assert_allclose(ends.loc["ratio to PEP"], 1.0, rtol=1e-3 if len(kept) == found.draws else 0.01)


@pytest.mark.nightly
def test_the_weights_are_new_over_old_by_an_independent_filter(year):
    """A new prior and a new start at once; 64 draws, each filtered by the textbook loop."""
    old = unsampled(year, delta={"beta": Memory(20, low=5, high=100)}, intercept="static")
    mean, cov = [0.4, 1.5], [[0.25, -0.9], [-0.9, 4.0]]
    prior = Memory(25, low=6, high=120)
    model = hedge_ratio_model(
        delta={"beta": prior}, intercept="static", initial=Known(mean, cov), noise=Constant()
    )
    posterior = old.tree["posterior"]
    draws = posterior["q"].values.reshape(64, 2), posterior["obs_scale"].values.ravel()
    # at the pivot: ratio, and level = intercept + pivot * ratio; only the ratio moves there
    to_pivot = np.array([[1.0, 0.0], [float(year.x.mean()), 1.0]])
    known = {"initial_mean": to_pivot @ mean, "initial_cov": to_pivot @ np.array(cov) @ to_pivot.T}
    ratios = []
    for q, scale in zip(*draws, strict=True):
        case = hedge_case(year, q, scale, intercept="static")
        weak, informed = (loop(year.y, **c).log_density.sum() for c in (case, case | known))
        laws = [
            stats.norm(-np.log(m.bars * (m.bars - 1)), m.log_q_sd).logpdf(np.log(q[0]))
            for m in (old.model.beta_delta, prior)
        ]
        ratios.append(laws[1] - laws[0] + informed - weak)
    with jax.enable_x64(True):
        log_weights, k = jax.device_get(smooth(np.array(ratios)))
    weights = np.exp(log_weights)
    assert np.ptp(ratios) > 0.5
    found = what_if(old, model)
    # the two filters agree to 1e-4 nats here: the start is a million times as wide as the noise
    assert found.pareto_k == pytest.approx(k, abs=1e-3)
    assert found.effective_draws == pytest.approx(1 / (weights**2).sum(), rel=1e-3)
    # each draw as often as its share, up or down to a whole number
    drawn = found.fit.tree["posterior"]["obs_scale"].values.ravel()
    times = np.array([(drawn == scale).sum() for scale in draws[1]])
    assert times.sum() == len(drawn) == int(found.effective_draws)
    assert (np.abs(times - len(drawn) * weights) < 1 + 1e-2).all()


@pytest.mark.slow
def test_the_table_has_the_quantiles_of_both_fits(both):
    fitted, options = both
    found = what_if(
        fitted,
        hedge_ratio_model(delta=Memory(50, low=5, high=500), **{"noise": Constant()} | options),
    )
    assert found.table.columns.get_level_values(0).unique().tolist() == ["before", "after"]
    for word, one in (("before", fitted), ("after", found.fit)):
        block, posterior = found.table[word], one.tree["posterior"]
        assert list(block) == ["lower", "median", "upper"]
        summary, last = one.summary(), one.hedge_ratio().iloc[-1]
        expected = summary.loc["PEP", ["memory_lower", "memory", "memory_upper"]]
        assert_allclose(block.loc["memory of PEP"], expected.to_numpy(float), rtol=1e-12)
        assert_allclose(
            block.loc["ratio to PEP"], last[["lower", "mean", "upper"]].to_numpy(float), rtol=1e-9
        )
        for name in {"obs_scale", "variance_memory"} & set(posterior.data_vars):
            share = [(posterior[name].values <= value).mean() for value in block.loc[name]]
            if np.ptp(posterior[name].values) > 0:
                assert_allclose(share, [0.05, 0.5, 0.95], atol=2 / posterior[name].size)
    assert ("variance_memory" in found.table.index) == ("noise" in options)


@pytest.mark.slow
def test_what_was_resampled_is_a_fit_like_any_other(both, tmp_path):
    fitted, options = both
    model = hedge_ratio_model(delta=Memory(50, low=5, high=500), **{"noise": Constant()} | options)
    found = what_if(fitted, model).fit
    later = datasets.stocks().loc["2020-01-02"]
    tick = found.online().update(y=later["KO"], x=later, at=later.name)
    assert np.isfinite([tick.z, tick.log_score, tick.beta["PEP"]]).all()
    found.save(tmp_path / "fit.nc")
    back = load(tmp_path / "fit.nc")
    assert back.model == model
    assert_same_fit(back, found)
    # and can be asked in turn
    assert what_if(back, model).pareto_k == pytest.approx(0.0, abs=1e-12)


@pytest.mark.slow
def test_a_model_too_far_away_is_to_be_refitted(both):
    fitted, options = both
    far = hedge_ratio_model(
        delta={"beta": Memory(1.2, low=1.19, high=1.21)}, **{"noise": Constant()} | options
    )
    with pytest.raises(ValueError, match=r"too far from.*k-hat.*up to 0.7\): refit with fit\(data"):
        what_if(fitted, far)
