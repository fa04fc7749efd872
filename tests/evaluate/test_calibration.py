"""`calibrate`: the inference is calibrated where it is right, and is rejected where it is wrong."""

import warnings
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal
from scipy import stats

from kfmodels import (
    NUTS,
    Constant,
    Discounted,
    HedgeData,
    ImportanceSampling,
    StateDiscount,
    hedge_ratio_model,
)
from kfmodels.data import datasets
from kfmodels.evaluate.calibration import Calibration, calibrate
from kfmodels.model import Known, Zero
from kfmodels.sampling.posterior import Draws
from tests.problems import FromPrior, altered

pytestmark = pytest.mark.slow

REJECTED = 1e-3
QUICK = NUTS(warmup=200, draws=300, chains=1)
STATIC = hedge_ratio_model(intercept="static", noise=Constant())


@pytest.fixture(scope="module")
def pair() -> HedgeData:
    """KO on PEP over five months, with a gap."""
    prices = datasets.stocks().loc["2018-01-02":].iloc[:110].copy()
    prices.iloc[40:42, 0] = np.nan
    return HedgeData.from_prices(prices, target="KO", hedges=["PEP"])


@pytest.fixture(scope="module")
def short(pair: HedgeData) -> HedgeData:
    return pair.before(pair.index[60])


def quiet(*arguments, **options) -> Calibration:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return calibrate(*arguments, progress=False, **options)


def assert_calibrated(found: Calibration):
    table = found.table()
    assert (table["p_value"] > REJECTED).all(), table
    coverage = table["coverage"].dropna()
    assert len(coverage) == len(found.cover.columns) > 0
    assert ((coverage - 0.9).abs() < 3.3 * table["coverage_se"].dropna()).all(), table


# -- where it is right -----------------------------------------------------------------------------


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("noise", "method", "simulations", "quantities"),
    [
        (Constant(), NUTS(warmup=500, draws=1000, chains=1), 60, ["obs_scale"]),
        (Constant(), ImportanceSampling(), 200, ["obs_scale"]),
        (Discounted(), ImportanceSampling(), 200, ["variance_memory"]),
    ],
    ids=["nuts", "constant", "discounted"],
)
def test_the_default_inference_is_calibrated(pair, noise, method, simulations, quantities):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no more than a few were sampled badly
        warnings.filterwarnings("ignore", message="jax.core", category=DeprecationWarning)
        found = calibrate(
            pair,
            hedge_ratio_model(noise=noise),
            simulations=simulations,
            method=method,
            progress=False,
        )
    names = ["q PEP", "q alpha", *quantities, "log_likelihood"]
    assert list(found.ranks) == names
    assert list(found.table().index) == [*names, "PEP", "alpha"]
    assert found.kept == 99
    assert len(found.ranks) == simulations
    assert found.doubtful <= simulations / 20
    assert_calibrated(found)


KNOWN = Known([0.5, 1.5], [[0.04, -0.1], [-0.1, 0.5]])


@pytest.mark.nightly
@pytest.mark.parametrize(
    "options",
    [
        {"delta": {"beta": 1e-3, "alpha": 0.5}, "obs_scale": 0.004, "initial": KNOWN},
        {"delta": {"beta": 1e-3, "alpha": 0.5}, "obs_scale": 0.004, "noise": Discounted(5.0)},
        {"delta": 0.01, "obs_scale": 0.01, "drift": StateDiscount(), "initial": Zero()},
        {"delta": 0.0, "obs_scale": 0.01, "intercept": "none", "noise": Discounted(10.0, dof=2.0)},
    ],
    ids=["known", "discounted", "state-discount", "static"],
)
def test_with_the_noise_known_the_filter_is_calibrated(pair, options):
    """Nothing is sampled, so a thousand simulations cost seconds; a fixed site has no rank."""
    found = quiet(
        pair, hedge_ratio_model(**{"noise": Constant()} | options), simulations=1000, seed=1
    )
    assert found.ranks.shape == (1000, 0)
    assert (found.kept, found.doubtful) == (1, 0)
    table = found.table(20)
    assert list(table.index) == list(found.cover) == list(found.probability)
    assert (table["p_value"] > REJECTED).all(), table
    for below in found.probability.to_numpy().T:
        assert stats.kstest(below, stats.uniform.cdf).pvalue > REJECTED


@pytest.mark.nightly
def test_two_hedges(short: HedgeData):
    prices = datasets.stocks().loc[short.index[0] : short.last_date]
    data = HedgeData.from_prices(prices, target="KO", hedges=["PEP", "SPX"])
    found = quiet(data, hedge_ratio_model(noise=Constant()), simulations=30, method=QUICK)
    assert list(found.ranks) == ["q PEP", "q SPX", "q alpha", "obs_scale", "log_likelihood"]
    assert list(found.cover) == ["PEP", "SPX", "alpha"]
    assert_calibrated(found)


@pytest.mark.nightly
def test_one_memory_has_one_rank_and_what_is_certain_none(short: HedgeData):
    model = hedge_ratio_model(drift=StateDiscount(), noise=Discounted())
    found = quiet(short, model, simulations=20, method=FromPrior())
    assert list(found.ranks) == ["q", "variance_memory", "log_likelihood"]
    model = hedge_ratio_model(delta=0.0, intercept="none", initial=Zero(), obs_scale=0.01)
    found = quiet(short, model, simulations=20)
    assert found.cover.shape == found.probability.shape == (20, 0)
    assert found.table().empty


# -- where it is wrong -----------------------------------------------------------------------------


@pytest.mark.nightly
@pytest.mark.parametrize(("shift", "width"), [(1.0, 1.0), (0.0, 0.5)], ids=["moved", "narrow"])
def test_draws_that_are_wrong_are_rejected(short, shift: float, width: float):
    """Log obs_scale is moved, in posterior sds, or narrowed about its mean."""

    def wrong(sites):
        log = np.log(sites["obs_scale"])
        moved = log.mean() + width * (log - log.mean()) + shift * log.std()
        return {"obs_scale": np.exp(moved)}

    method = altered(NUTS, wrong)(**vars(QUICK))
    found = quiet(short, STATIC, simulations=80, method=method)
    assert found.table().loc["obs_scale", "p_value"] < REJECTED
    ranks = found.ranks["obs_scale"] / found.kept
    if shift:
        assert ranks.mean() < 0.4  # the truth lies below draws that were moved up
    else:
        assert ranks.std() > np.sqrt(1 / 12) * 1.15  # it crowds at both ends


def test_draws_that_ignore_the_target_are_rejected(short: HedgeData):
    """They come from the prior, as the truth does: only what reads the target can tell."""
    found = quiet(short, STATIC, simulations=60, method=FromPrior(draws=50))
    table = found.table()
    assert table.loc["log_likelihood", "p_value"] < REJECTED
    assert (table.loc[["q PEP", "obs_scale"], "p_value"] > REJECTED).all()


def test_a_filter_that_is_too_sure_is_rejected(short: HedgeData):
    """A noise that is a quarter of the truth: the coefficients are not where it says."""
    sure = altered(NUTS, lambda sites: {"obs_scale": sites["obs_scale"] / 4})
    model = hedge_ratio_model(delta={"beta": 1e-3, "alpha": 0.5}, obs_scale=0.004)
    # the truth is drawn with the noise of the model, whatever the method says
    table = quiet(short, model, simulations=60, method=sure()).table()
    assert table.loc["PEP", "p_value"] < REJECTED
    assert table.loc["PEP", "coverage"] < 0.9 - 5 * table.loc["PEP", "coverage_se"]


def test_few_effective_draws_are_counted_kept_and_reported(short: HedgeData):
    sticky = altered(
        FromPrior, lambda sites: {k: np.repeat(v[:, ::10], 10, axis=1) for k, v in sites.items()}
    )
    method = sticky(draws=40, chains=2)
    with pytest.warns(UserWarning, match="20 of 20 simulations have fewer effective") as caught:
        found = calibrate(short, STATIC, simulations=20, method=method, progress=False)
    (warning,) = caught
    assert warning.filename == __file__
    assert "than the 80 that are ranked" in str(warning.message)
    assert len(found.ranks) == len(found.cover) == len(found.sampling) == 20
    assert found.kept == 80
    assert found.doubtful == (found.sampling["ess"] < 80).sum() == 20


def test_a_chain_that_stands_still_is_counted(short: HedgeData):
    stuck = altered(
        FromPrior,
        lambda sites: {k: np.broadcast_to(v[:1, :1], v.shape) for k, v in sites.items()},
    )
    found = quiet(short, STATIC, simulations=20, method=stuck())
    assert found.doubtful == 20
    assert (found.sampling["ess"] == 1).all()
    assert np.isinf(found.sampling["rhat"]).all()


# -- what is drawn ---------------------------------------------------------------------------------


def test_only_the_target_changes_between_simulations(pair: HedgeData, capfd):
    """The pivot, the start and the prior of obs_scale stay those of the data."""

    class Spy(FromPrior):
        seen: ClassVar[list] = []

        def run(self, model, inputs, seed, progress) -> Draws:
            self.seen.append((inputs, seed, progress))
            return FromPrior.run(self, model, inputs, seed, progress)

    model = hedge_ratio_model(noise=Constant())
    quiet(pair, model, simulations=20, method=Spy())
    assert capfd.readouterr() == ("", "")
    given = model.inputs(pair)
    assert len(Spy.seen) == 20
    for inputs, _, progress in Spy.seen:
        for name in set(given._fields) - {"y"}:
            assert_array_equal(getattr(inputs, name), getattr(given, name))
        assert (inputs.y[~pair.observed] == 0).all()
        assert np.isfinite(inputs.y).all()
        assert progress is False
    assert len({inputs.y.tobytes() for inputs, _, _ in Spy.seen}) == 20
    assert len({seed for _, seed, _ in Spy.seen}) == 20


def test_the_seed_decides(short: HedgeData):
    one, again, other = (
        quiet(short, STATIC, simulations=20, method=QUICK, seed=seed) for seed in (4, 4, 5)
    )
    for name in ("ranks", "probability", "cover", "sampling"):
        assert_frame_equal(getattr(one, name), getattr(again, name))
    assert (one.probability.to_numpy() != other.probability.to_numpy()).all()


def test_other_simulations_of_the_same_shape_compile_nothing(short, compiled: list[str]):
    quiet(short, STATIC, simulations=20, method=QUICK).table()
    before = len(compiled)
    quiet(
        short, hedge_ratio_model(intercept="static", noise=Constant()), simulations=30, method=QUICK
    ).table()
    assert len(compiled) == before
    jax.jit(lambda x: x + 23)(jnp.ones(3))  # the ear is open
    assert len(compiled) > before


# -- the table -------------------------------------------------------------------------------------


def made(count: int = 200, kept: int = 99) -> Calibration:
    random = np.random.default_rng(3)
    return Calibration(
        ranks=pd.DataFrame({"obs_scale": random.integers(kept + 1, size=count)}),
        kept=kept,
        probability=pd.DataFrame({"KO": np.linspace(0, 1, count)}),
        cover=pd.DataFrame({"KO": np.arange(count) < 0.85 * count}),
        sampling=pd.DataFrame({"rhat": 1.0, "ess": 500.0, "diverging": 0.0}, range(count)),
    )


@pytest.mark.parametrize(("kept", "bins"), [(99, 10), (99, 20), (64, 7), (30, 31)])
def test_the_table_is_pearsons_chi_square(kept: int, bins: int):
    found = made(kept=kept)
    table = found.table(bins)
    bin_of = found.ranks["obs_scale"].to_numpy() * bins // (kept + 1)
    possible = np.arange(kept + 1) * bins // (kept + 1)
    share = np.bincount(possible, minlength=bins) / (kept + 1)  # bins may hold unequal ranks
    expected = stats.chisquare(np.bincount(bin_of, minlength=bins), 200 * share)
    assert_allclose(table.loc["obs_scale", ["chi2", "p_value"]].astype(float), expected, rtol=1e-9)
    assert table.loc["obs_scale", ["coverage", "coverage_se"]].isna().all()
    row = table.loc["KO"]
    assert row["coverage"] == 0.85
    assert_allclose(row["coverage_se"], np.sqrt(0.09 / 200), rtol=1e-12)
    assert row["p_value"] > 0.999  # a grid is as even as can be; 1 falls into the last bin


def test_few_simulations_have_few_bins():
    for count, bins in ((35, 7), (200, 10)):
        assert_frame_equal(made(count).table(), made(count).table(bins))
