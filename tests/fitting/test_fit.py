"""`fit`: the draws are those of the posterior, which a fine grid knows."""

import re
import threading
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from kfmodels import (
    NUTS,
    Constant,
    Discounted,
    HedgeData,
    HedgeFit,
    ImportanceSampling,
    Memory,
    StateDiscount,
    fit,
    hedge_ratio_model,
)
from kfmodels.data import datasets
from kfmodels.data.arrays import lengthen
from kfmodels.model.memory import memory_to_q
from kfmodels.model.priors import HEDGE_MEMORY, INTERCEPT_MEMORY, VARIANCE_MEMORY
from kfmodels.model.priors import HEDGE_MEMORY_BESIDE_MOVING_LEVEL as BESIDE_MOVING_LEVEL
from tests.grids import Grid, assert_is_the_posterior, effective_draws
from tests.problems import FromPrior, altered
from tests.tables import read_table

STATIC = hedge_ratio_model(intercept="static", noise=Constant())
SHORT = NUTS(warmup=500, draws=1000, chains=4)


@pytest.fixture(scope="module")
def apple() -> HedgeData:
    """AAPL on SPY, 310 days of closes."""
    prices = read_table("aapl_spy_close_2016_2017.csv")
    return HedgeData.from_prices(prices, target="AAPL", hedges=["SPY"])


@pytest.fixture(scope="module")
def static(apple: HedgeData) -> HedgeFit:
    return fit(apple, STATIC, method=SHORT, progress=False)


# -- the posterior, by a grid ----------------------------------------------------------------------


def normal(u, prior: Memory):
    """log q of the prior: logit(delta) is normal around the median memory."""
    return stats_normal(u, np.log(memory_to_q(prior.bars)), prior.log_q_sd)


def stats_normal(u, centre, sd):
    return -0.5 * ((u - centre) / sd) ** 2


@pytest.mark.slow
def test_two_parameters_are_drawn_from_the_posterior_of_a_fine_grid(apple, static):
    inputs = STATIC.inputs(apple)

    def density(u):
        q = jnp.exp(u[:, :1]) * jnp.array([1.0, 0.0])
        law = STATIC.regression(inputs, q=q, obs_scale=jnp.exp(u[:, 1]))
        guess = np.log(0.5 * inputs.typical_move)
        prior = normal(u[:, 0], HEDGE_MEMORY) + stats_normal(u[:, 1], guess, 1.5)
        return law.log_prob(inputs.y) + prior

    grid = Grid(density, [np.linspace(-3.5, 1, 61), np.linspace(-3.9, -2.9, 61)])
    posterior = static.tree["posterior"]
    draws = [np.log(posterior["q"].values[..., 0]), np.log(posterior["obs_scale"].values)]
    assert_is_the_posterior(draws, grid)


@pytest.mark.nightly
def test_three_parameters_are_drawn_from_the_posterior_of_a_fine_grid(apple: HedgeData):
    """Only log q + 2 log obs_scale of the level is well known: a ridge."""
    model = hedge_ratio_model(noise=Constant())
    fitted = fit(apple, model, method=NUTS(warmup=500, draws=2000), progress=False)
    inputs = model.inputs(apple)

    def density(u):
        law = model.regression(inputs, q=jnp.exp(u[:, :2]), obs_scale=jnp.exp(u[:, 2]))
        guess = np.log(0.5 * inputs.typical_move)
        prior = normal(u[:, 0], BESIDE_MOVING_LEVEL) + normal(u[:, 1], INTERCEPT_MEMORY)
        return law.log_prob(inputs.y) + prior + stats_normal(u[:, 2], guess, 1.5)

    def along_the_ridge(mesh):
        return np.column_stack([mesh[:, 0], mesh[:, 1], (mesh[:, 2] - mesh[:, 1]) / 2])

    axes = [np.linspace(-28, 12, 53), np.linspace(-3, 22, 75), np.linspace(-9.8, -8.2, 37)]
    grid = Grid(density, axes, along_the_ridge)
    posterior = fitted.tree["posterior"]
    q = np.log(posterior["q"].values)
    draws = [q[..., 0], q[..., 1], np.log(posterior["obs_scale"].values)]
    assert_is_the_posterior(draws, grid)


@pytest.mark.slow
def test_the_memory_of_a_moving_variance_is_drawn_from_the_posterior_of_a_fine_grid():
    """State discounting and a discounted variance, two hedges, gaps."""
    prices = datasets.stocks().loc["2018":].iloc[:200].copy()
    prices.iloc[50:53, 1] = prices.iloc[100, 2] = np.nan
    data = HedgeData.from_prices(prices, target="KO", hedges=["PEP", "SPX"])
    model = hedge_ratio_model(drift=StateDiscount(), noise=Discounted())
    fitted = fit(data, model, method=SHORT, progress=False)
    inputs = model.inputs(data)

    def density(u):
        law = model.regression(
            inputs,
            q=jnp.exp(u[:, :1]) * jnp.ones(3),
            obs_scale=jnp.full(len(u), 0.5 * inputs.typical_move),
            variance_memory=4 + jnp.exp(u[:, 1]),
        )
        known = VARIANCE_MEMORY
        width = np.log((known.high - 4) / (known.low - 4)) / (2 * stats.norm.ppf(0.95))
        prior = stats_normal(u[:, 1], np.log(known.bars - 4), width)
        return law.log_prob(inputs.y) + prior + normal(u[:, 0], HEDGE_MEMORY)

    grid = Grid(density, [np.linspace(-12, 4, 121), np.linspace(-6, 10, 121)])
    posterior = fitted.tree["posterior"]
    draws = [np.log(posterior["q"].values[..., 0]), np.log(posterior["variance_memory"].values - 4)]
    assert_is_the_posterior(draws, grid)


# -- the same again --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_seed_decides(apple: HedgeData, static: HedgeFit):
    again = fit(apple, STATIC, method=SHORT, progress=False, seed=0)
    other = fit(apple, STATIC, method=SHORT, progress=False, seed=1)
    for group in ("posterior", "prior", "sample_stats", "filtered", "predicted", "mixture"):
        for name, values in static.tree[group].data_vars.items():
            assert_array_equal(again.tree[group][name], values)
    one, two = (f.tree["posterior"]["obs_scale"].values for f in (static, other))
    assert (one != two).all()
    # chains go their own ways: independent, not merely different
    chains = np.log(static.tree["posterior"]["obs_scale"].values)
    effective = effective_draws(chains) / SHORT.chains
    together = np.corrcoef(chains)[np.triu_indices(SHORT.chains, 1)]
    assert np.abs(together).max() < 4 / np.sqrt(effective)


@pytest.mark.slow
def test_a_second_fit_of_another_length_compiles_nothing(apple, static, compiled: list[str]):
    prices = datasets.stocks().loc["2018":].iloc[: len(apple) // 2].copy()
    prices.iloc[17, 0] = np.nan
    other = HedgeData.from_prices(prices, target="KO", hedges=["PEP"])
    model = hedge_ratio_model(intercept="static", noise=Constant())
    assert model is not STATIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        fit(other, model, method=SHORT, progress=False, seed=3)
    assert compiled == []
    jax.jit(lambda x: x + 17)(jnp.ones(3))  # the ear is open
    assert compiled != []


@pytest.mark.parametrize(("rows", "length"), [(30, 2048), (2048, 2048), (2049, 4096), (5000, 8192)])
def test_series_are_given_one_of_few_lengths(apple: HedgeData, rows: int, length: int):
    inputs = hedge_ratio_model(noise=Constant()).inputs(apple)
    assert inputs.dt is None
    cut, places = ("y", "design", "observed"), np.arange(rows) % len(apple)
    given = inputs._replace(**{name: getattr(inputs, name)[places] for name in cut})
    longer = lengthen(given)
    assert {len(getattr(longer, name)) for name in (*cut, "dt")} == {length}
    assert longer.count == rows
    assert longer.dt.sum() == rows - 1
    assert not longer.observed[rows:].any()


def test_single_precision_stays_the_default(static):
    assert not jax.config.jax_enable_x64
    seen = []
    thread = threading.Thread(target=lambda: seen.append(jnp.ones(1).dtype))
    thread.start()
    thread.join()
    assert seen == [jnp.float32]
    assert jnp.ones(1).dtype == jnp.float32
    assert static.tree["posterior"]["obs_var"].dtype == np.float64


def test_it_is_silent_where_nobody_watches(apple, static, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(apple, STATIC, method=SHORT)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


# -- when draws are bad ----------------------------------------------------------------------------


def only_warning(data: HedgeData, method: NUTS) -> str:
    with pytest.warns(UserWarning, match="may be sampled badly") as caught:
        fit(data, STATIC, method=method, progress=False)
    (warning,) = caught
    assert warning.filename == __file__  # it points at the caller
    return str(warning.message)


def test_too_few_draws_give_one_warning_with_a_remedy(apple: HedgeData):
    text = only_warning(apple, NUTS(draws=20, warmup=20, chains=2))
    assert text.startswith("the noise of AAPL on SPY may be sampled badly: ")
    effective = re.search(r"effective sample size (\d+) \(should exceed 400\)", text)
    assert int(effective.group(1)) < 400
    remedy = eval(re.search(r"method=(NUTS\(.*?\))", text).group(1), {"NUTS": NUTS})
    assert remedy.draws > 1000 or remedy.target_accept > 0.9


def test_chains_that_disagree_are_reported(apple: HedgeData):
    far = np.array([1.0, 1000.0])[:, None, None]
    apart = altered(FromPrior, lambda sites: {k: sites[k] * far for k in ("q", "state_var")})
    text = only_warning(apple, apart(draws=500))
    rhat = re.search(r"R-hat (\d+\.\d+) \(should be below 1.01\)", text)
    assert float(rhat.group(1)) > 1.1
    assert "method=NUTS(warmup=2000, draws=4000)" in text


def test_divergences_are_reported_with_their_own_remedy(apple: HedgeData):
    text = only_warning(apple, FromPrior(draws=1000, diverging=0.02))
    assert "2.0% of the draws diverged (should be below 0.1%)" in text
    assert "R-hat" not in text
    assert "effective sample size" not in text
    assert "method=NUTS(target_accept=0.99)" in text


def test_good_draws_give_no_warning(apple: HedgeData):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(apple, STATIC, method=FromPrior(draws=1000, diverging=0.001), progress=False)


# -- edges -----------------------------------------------------------------------------------------


def test_nothing_to_infer_is_one_certain_draw(apple: HedgeData):
    model = hedge_ratio_model(delta={"beta": 1e-3, "alpha": 0.9}, obs_scale=0.004)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit(apple, model, progress=False)
    posterior = fitted.tree["posterior"]
    assert dict(posterior.sizes) == {"chain": 1, "draw": 1, "coef": 2}
    assert_allclose(posterior["delta"].values[0, 0], [1e-3, 0.9], rtol=1e-12)
    assert_allclose(fitted.summary().loc["noise", "var"], 0.004**2, rtol=1e-12)
    assert fitted.summary()[["rhat", "ess"]].isna().all(axis=None)
    filtered = fitted.tree["filtered"]
    assert_allclose(filtered["sd"], filtered["sd_given_noise"], rtol=1e-12)
    assert fitted.online().draws == 1


def test_the_prior_is_drawn_beside_the_posterior(static: HedgeFit):
    log_q = np.log(static.tree["prior"]["q"].values[0, :, 0])
    assert log_q.shape == (1000,)
    centre = np.log(memory_to_q(HEDGE_MEMORY.bars))
    assert stats.kstest(log_q, stats.norm(centre, HEDGE_MEMORY.log_q_sd).cdf).pvalue > 1e-4


def constant_hedge(data: HedgeData) -> HedgeData:
    prices = data.prices.copy()
    prices.iloc[:60, 1] = 200.0
    return HedgeData.from_prices(prices, target="AAPL", hedges=["SPY"]).before(data.index[50])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda data: fit(data.prices), r"fit takes HedgeData, made by HedgeData.from_prices"),
        (lambda data: fit(data, seed=-1), "seed is a whole number.*not -1"),
        (lambda data: fit(data, seed=2**32), "seed is a whole number.*not 4294967296"),
        (lambda data: fit(data.before(data.index[20])), "only 20 common rows of AAPL and SPY"),
        (lambda data: fit(constant_hedge(data)), "hedge SPY is constant"),
        (lambda _: NUTS(warmup=0), "NUTS: warmup must be at least 1, not 0"),
        (lambda _: NUTS(draws=0), "NUTS: draws must be at least 1, not 0"),
        (lambda _: NUTS(chains=0), "NUTS: chains must be at least 1, not 0"),
        *(
            (lambda _, p=p: NUTS(target_accept=p), r"NUTS: target_accept lies in \(0, 1\)")
            for p in (0.0, 1.0, np.nan)
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:prices are in doubt:UserWarning")  # made so
def test_it_is_refused_in_words(apple: HedgeData, call: Callable, text: str):
    with pytest.raises(ValueError, match=text):
        call(apple)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "ratio", "shares"),
    [(Constant(), 1.047, 268), (Discounted(), 1.059, 271)],
    ids=["constant", "discounted"],
)
def test_raw_prices_of_oil_funds_are_hedged_rightly_once_their_split_is_repaired(
    noise, ratio, shares
):
    """USO did a reverse split of 1 for 8 on 2020-04-29; least squares on log changes have 1.053."""
    raw = read_table("lean_uso_bno_daily_raw.csv.gz").loc["2018":"2020"]
    options = {"target": "USO", "hedges": ["BNO"]}
    model, method = hedge_ratio_model(noise=noise), ImportanceSampling()
    with pytest.warns(UserWarning, match="USO went from 2.13 to 18 at 2020-04-29, about 8 times"):
        data = HedgeData.from_prices(raw, **options)
    wrong = fit(data, model, method=method, progress=False)
    assert [doubt.factor for doubt in wrong.data.doubts] == ["8"]
    assert abs(wrong.hedge_ratio()["mean"].iloc[-1] - 1.053) > 0.05
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = HedgeData.from_prices(raw, **options, repair={"USO": {"2020-04-29": 8}})
        right = fit(data, model, method=method, progress=False)
    uso = raw["USO"] * np.where(raw.index < "2020-04-29", 8, 1)
    y, x = (np.diff(np.log(prices)) for prices in (uso, raw["BNO"]))
    least = x @ y / (x @ x)
    assert least == pytest.approx(1.053, abs=1e-3)
    now = right.hedge_ratio().iloc[-1]
    assert now["mean"] == pytest.approx(ratio, abs=5e-3)
    held = right.hedge_shares(100).iloc[-1]["BNO"]
    assert held == pytest.approx(-shares, abs=1.5)
    uso, bno = raw.iloc[-1]
    assert held == pytest.approx(-100 * least * uso / bno, abs=5)
