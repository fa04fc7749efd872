"""Closed periods: the recursion over them, what is inferred of them, and what a fit keeps of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpyro import handlers
from scipy import stats

from kfmodels import (
    Constant,
    Discounted,
    Gaps,
    HedgeData,
    ImportanceSampling,
    StateDiscount,
    fit,
    hedge_ratio_model,
    load,
)
from kfmodels.cli import report
from kfmodels.clock.clock import Clock
from kfmodels.evaluate import prior_and_posterior
from kfmodels.kalman.regression import KalmanRegression
from kfmodels.model import gaps as closed
from kfmodels.model.priors import Memory
from tests import reference
from tests.closeness import scaled_close
from tests.made_models import log_prob, regression, run_filter, run_smooth
from tests.problems import assert_same_fit, hedge_case
from tests.reference import Case, random_case, slope

pytestmark = pytest.mark.usefixtures("x64")

NOISES = pytest.mark.parametrize("learnt", [False, True], ids=["constant", "discounted"])
TIME = 11


def case_of(seed: int, drift: str, learnt: bool = False, time: int = TIME):
    return random_case(seed, 2, drift, learnt=learnt, time=time, closed=True)


# --- the recursion ----------------------------------------------------------------------------


@pytest.mark.variants
@pytest.mark.parametrize("drift", ["state_var", "state_discount"])
def test_a_night_of_m_bars_is_m_rows_without_an_observation(drift: str):
    y, case = case_of(4, drift)
    night = np.array([0, 3, 0, 0, 1, 0, 7, 0, 0, 2, 0])
    for name in ("dt", "obs_factor"):
        case.pop(name)
    at = np.arange(TIME) + np.cumsum(night)
    long: Case = {name: a for name, a in case.items() if name not in ("design", "observed")}
    long.pop("gap_time")
    total = at[-1] + 1
    long["design"] = np.zeros((total, 2))
    long["design"][at] = case["design"]
    long["observed"] = np.zeros(total, bool)
    long["observed"][at] = case["observed"]
    stretched = np.zeros(total)
    stretched[at] = y
    case["gap_time"] = night.astype(float)
    short, wide = regression(**case), regression(**long)
    assert_allclose(log_prob(short, y), log_prob(wide, stretched), rtol=1e-12)
    for run in (run_filter, run_smooth):
        one, other = run(short, y), run(wide, stretched)
        for part, whole in zip(*map(jax.tree.leaves, (one, other)), strict=True):
            scaled_close(part, np.asarray(whole)[at], 1e-10)


@NOISES
def test_closed_time_fades_no_variance_and_open_time_does(learnt: bool):
    y, case = case_of(5, "state_var", learnt)
    case["dt"] = np.full(TIME, 0.5)
    longer = case | {"gap_time": case["gap_time"] + 4.0}
    first, other = (run_filter(regression(**one), y) for one in (case, longer))
    if learnt:
        assert_array_equal(first.dof, other.dof)
        later = run_filter(regression(**(case | {"dt": case["dt"] + 4.0})), y)
        assert (later.dof < first.dof).any()
    assert (other.forecast_var > first.forecast_var)[1:].all() or learnt


@pytest.mark.variants
@NOISES
def test_gradients_are_finite_differences(learnt: bool):
    y, case = case_of(6, "state_var", learnt)
    here = np.log(np.concatenate([case["gap_time"] + 0.5, case["obs_factor"]]))

    @jax.jit
    def score(logs):
        time, factor = jnp.exp(logs[:TIME]), jnp.exp(logs[TIME:])
        model = regression(**(case | {"gap_time": time, "obs_factor": factor}))
        return model.log_prob(y)

    found = jax.jit(jax.grad(score))(here)
    scaled_close(found, slope(lambda u: float(score(u)), here), 1e-7)
    assert (np.abs(found[TIME:][case["observed"]]) > 0).all()
    assert_array_equal(found[TIME:][~case["observed"]], 0)


@NOISES
def test_no_gaps_leave_the_same_program(learnt: bool):
    """None costs nothing: nothing in the traced program stands for it."""
    y, case = random_case(9, 2, "state_var", learnt=learnt)
    zeros = case | {"gap_time": np.zeros(len(y)), "obs_factor": np.ones(len(y))}
    programs = [
        str(jax.make_jaxpr(KalmanRegression.log_prob)(regression(**one), y))
        for one in (case, zeros)
    ]
    assert len(programs[0]) < len(programs[1])
    rows = regression(**case).recursion(jnp.asarray(y))[0]
    assert (rows.extra, rows.noise) == (None, None)
    plain, other = (log_prob(regression(**one), y) for one in (case, zeros))
    assert_allclose(plain, other, rtol=1e-14)


def test_the_distribution_keeps_its_contract():
    y, case = case_of(10, "state_var")
    three = case | {"gap_time": case["gap_time"] * np.array([[0.0], [1.0], [3.0]])}
    model = regression(**three)
    assert (model.batch_shape, model.event_shape) == ((3,), (TIME,))
    found = log_prob(model, y)
    alone = [regression(**(three | {"gap_time": time})) for time in three["gap_time"]]
    assert_allclose(found, [log_prob(one, y) for one in alone], rtol=1e-12)
    leaves, kind = jax.tree.flatten(model)
    assert_allclose(log_prob(jax.tree.unflatten(kind, leaves), y), found, rtol=0)
    assert regression(**case).expand((2, 3)).log_prob(y).shape == (2, 3)
    with pytest.raises(ValueError, match=r"gap_time has shape \(3, 1\).* must end in \(11, 1\)"):
        KalmanRegression.infer_shapes(design=(TIME, 2), gap_time=(3, 1))
    with pytest.raises(ValueError, match="invalid obs_factor"):
        regression(**(case | {"obs_factor": np.zeros(TIME)}), validate_args=True)


# --- data with a clock ------------------------------------------------------------------------

CLOCK = Clock.hours(
    "09:30",
    "10:30",
    zone="America/New_York",
    days=range(7),
    start="2024-01-01",
    end="2024-03-01",
)
BARS, DAYS = 60, 10
TRUTH = {"q": 0.2, "scale": 1e-3, "overnight": 60.0}


def stamps(days: int = DAYS) -> pd.DatetimeIndex:
    """Closes of one-minute bars, an hour a day."""
    first = pd.date_range("2024-01-08 09:31", periods=BARS, freq="min")
    return pd.DatetimeIndex([at + pd.Timedelta(days=n) for n in range(days) for at in first])


def prices(
    seed: int, overnight: float, *, noise: float = 1.0, days: int = DAYS, missing: float = 0.0
) -> pd.DataFrame:
    """A target whose level moves by `overnight` bars a night, in log prices."""
    rng = np.random.default_rng(seed)
    index = stamps(days)
    first = np.arange(len(index)) % BARS == 0
    first[0] = False
    scale, worth = TRUTH["scale"], np.where(first, 1 + overnight, 1.0)
    x = np.cumsum(rng.normal(0, 1e-3, len(index)) * np.sqrt(worth))
    level = np.cumsum(rng.normal(0, scale * np.sqrt(TRUTH["q"]), len(index)) * np.sqrt(worth))
    error = rng.normal(0, scale, len(index)) * np.sqrt(np.where(first, noise, 1.0))
    frame = pd.DataFrame({"Y": np.exp(x + level + error), "X": np.exp(x)}, index)
    frame.loc[rng.random(len(index)) < missing, "Y"] = np.nan
    return frame


def data_of(frame: pd.DataFrame, clock: Clock | None = CLOCK, **how: Any) -> HedgeData:
    how = {"transform": "log"} | how
    return HedgeData.from_prices(frame, target="Y", hedges=["X"], clock=clock, **how)


def model_of(gaps: Gaps | None = Gaps(), **how: Any) -> Any:
    """A static ratio beside a level that moves."""
    priors = {"delta": {"beta": 0.0, "alpha": dist.Beta(1.0, 1.0)}}
    return hedge_ratio_model(
        **(
            {"noise": Constant()}
            | priors
            | {"obs_scale": dist.LogNormal(np.log(1e-3), 0.5), "gaps": gaps}
            | how
        )
    )


def test_the_clock_counts_nights_and_a_cut_keeps_them_right():
    frame = prices(0, 0.0, days=3)
    frame.iloc[:2, 0] = frame.iloc[75, 1] = np.nan
    data = data_of(frame)
    dt, nights = np.ones(180), np.zeros(180)
    dt[:3], nights[[60, 120]] = 0.0, 1.0
    assert data.gap_names == ("overnight", "weekend")
    assert_array_equal(data.dt, dt)
    assert_array_equal(data.gaps[:, 0], nights)
    assert_array_equal(data.gaps[:, 1], 0)
    late = data.after(frame.index[60])
    assert_array_equal(late.dt, np.r_[0.0, dt[61:]])
    assert_array_equal(late.gaps[:, 0], np.r_[0.0, nights[61:]])
    early = data.before(frame.index[100])
    assert_array_equal(early.gaps, data.gaps[:100])
    moves = data_of(frame, transform="return")
    assert len(moves) == 179
    assert_array_equal(moves.dt, np.r_[np.zeros(3), np.ones(176)])
    assert_array_equal(moves.gaps[:, 0], nights[1:])
    dropped = data_of(frame.drop(frame.index[[70, 71]]))
    assert dropped.dt[70] == 3.0


def test_a_model_without_gaps_takes_a_whole_table_as_if_there_were_no_clock():
    frame, model = prices(0, 30.0, days=2), hedge_ratio_model(obs_scale=1e-3)
    bare = data_of(frame, None)
    assert (bare.gaps.shape, bare.gap_names) == ((120, 0), ())
    assert_array_equal(bare.dt, np.r_[0.0, np.ones(119)])
    with_clock, without = (model.inputs(data) for data in (data_of(frame), bare))
    assert with_clock.dt is None
    assert with_clock.gaps is None
    for one, other in zip(with_clock[:5], without[:5], strict=True):
        assert_array_equal(one, other)


def test_the_typical_move_is_that_of_one_bar():
    wild, still = (data_of(prices(0, night)) for night in (10_000.0, 0.0))
    model = hedge_ratio_model(noise=Constant())
    far, near = (float(model.inputs(data).typical_move) for data in (wild, still))
    assert_allclose(far, near, rtol=0.05)
    without = float(model.inputs(data_of(prices(0, 10_000.0), None)).typical_move)
    assert without > 3 * near


# --- the model --------------------------------------------------------------------------------


def sites_of(model: Any, data: HedgeData) -> dict[str, Any]:
    seeded = handlers.seed(model, jax.random.key(0))
    return handlers.trace(seeded).get_trace(model.inputs(data))


def test_sites_are_sampled_where_there_is_a_prior_and_recorded_where_not():
    data = data_of(prices(0, 0.0, days=3))
    found = sites_of(model_of(Gaps(noise=dist.LogNormal(0.0, 0.5))), data)
    for name in ("gap_bars", "gap_noise"):
        assert found[name]["type"] == "sample"
        assert found[name]["value"].shape == (2,)
    usual = found["gap_bars"]["fn"]
    unit = 177 + 2  # open bars after the first row, between two nights
    drawn = np.array([3.0, 50.0])
    expected = stats.lognorm(closed.GAP_LOG_SD, scale=closed.GAP_SHARE * unit / 2).logpdf(drawn)
    assert_allclose(usual.log_prob(drawn), expected.sum())
    fixed = sites_of(model_of(Gaps(bars=40)), data)
    for name, value in (("gap_bars", 40.0), ("gap_noise", 1.0)):
        assert fixed[name]["type"] == "deterministic"
        assert_array_equal(fixed[name]["value"], [value, value])


def test_kinds_go_by_name_whatever_their_order():
    data = data_of(prices(0, 0.0, days=3))
    given = {"weekend": 7.0, "overnight": dist.LogNormal(3.0, 1.0)}
    model = model_of(Gaps(bars=given, noise={"overnight": 2.0, "weekend": 3.0}))
    assert closed.kinds(model.gaps, data) == ("weekend", "overnight")
    assert_array_equal(model.inputs(data).gaps, data.gaps[:, ::-1])
    found = sites_of(model, data)
    assert found["gap_bars_overnight"]["type"] == "sample"
    assert_array_equal(
        found["gap_bars"]["value"], [7.0, float(found["gap_bars_overnight"]["value"])]
    )
    assert_array_equal(found["gap_noise"]["value"], [3.0, 2.0])


@pytest.mark.variants
@pytest.mark.parametrize("noise", ["constant", "discounted"])
@pytest.mark.parametrize("drift", ["walk", "discount"])
def test_the_models_likelihood_is_the_textbook_loop(drift: str, noise: str):
    data = data_of(prices(1, 20.0, days=3, missing=0.2))
    how: dict[str, Any] = {"noise": Discounted()} if noise == "discounted" else {}
    if drift == "discount":
        how["drift"] = StateDiscount()
    gaps = Gaps(noise=dist.LogNormal(0.0, 0.5))
    model = hedge_ratio_model(gaps=gaps, obs_scale=1e-3, **how)
    draws = {
        "q": np.array([[0.01, 0.3], [0.05, 0.05]]),
        "obs_scale": np.array([1e-3, 2e-3]),
        "gap_bars": np.array([[25.0, 3.0], [4.0, 1.0]]),
        "gap_noise": np.array([[1.7, 0.9], [0.6, 1.0]]),
    }
    if noise == "discounted":
        draws["variance_memory"] = np.array([15.0, 40.0])
    found = model.log_likelihood(model.inputs(data), **draws)
    for i in range(2):
        one = {name: value[i] for name, value in draws.items()}
        case: Case = hedge_case(data, one["q"], one["obs_scale"])
        if drift == "discount":
            case.pop("state_var")
            p = (one["q"][0] + np.sqrt(one["q"][0] ** 2 + 4 * one["q"][0])) / 2
            case["state_discount"] = 1 - p / (1 + p)
        if noise == "discounted":
            case |= {"variance_discount": 1 - 1 / one["variance_memory"], "variance_dof": 4.0}
        case["gap_time"] = data.gaps @ one["gap_bars"]
        case["obs_factor"] = np.prod(one["gap_noise"] ** data.gaps, axis=1)
        assert_allclose(found[i], reference.loop(data.y, **case).log_density.sum(), rtol=1e-9)


# --- what is inferred -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nights() -> HedgeData:
    return data_of(prices(2, TRUTH["overnight"]))


@pytest.fixture(scope="module")
def fitted(nights: HedgeData) -> Any:
    return fit(nights, model_of(), method=ImportanceSampling())


def grid(data: HedgeData, worth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood and log posterior over bars and (q, obs_scale); all of logarithms."""
    model = model_of()
    q, scale = np.exp(np.linspace(-4.0, 1.0, 25)), np.exp(np.linspace(-7.4, -6.5, 25))
    qs, scales = (a.ravel() for a in np.meshgrid(q, scale, indexing="ij"))
    with jax.enable_x64(True):
        inputs = model.inputs(data)
        given = {"q": np.stack([np.zeros_like(qs), qs], 1), "obs_scale": scales}
        # one value of bars for all that goes with it
        run = jax.jit(lambda bars: model.log_likelihood(inputs, gap_bars=bars[None], **given))
        likelihood = np.array([run(np.array([bars, 1.0])) for bars in worth])
    # of log q, where delta is uniform; of log scale and log bars
    prior = stats.logistic.logpdf(np.log(qs)) + stats.norm(np.log(1e-3), 0.5).logpdf(np.log(scales))
    middle = np.log(0.3 * data.dt.sum() / data.gaps.sum())
    with np.errstate(divide="ignore"):
        of_bars = stats.norm(middle, 1.5).logpdf(np.log(worth))
    return likelihood, likelihood + prior + of_bars[:, None]


@pytest.mark.slow
def test_the_posterior_of_a_night_is_that_of_a_grid_and_covers_the_truth(nights, fitted):
    axis = np.linspace(0.0, 8.0, 41)
    _, height = grid(nights, np.exp(axis))
    weights = np.exp(height - height.max())
    assert weights[[0, -1]].max() < 1e-4  # the grid holds it all
    mass = weights.sum(1) / weights.sum()
    mean = float(mass @ axis)
    sd = float(np.sqrt(mass @ (axis - mean) ** 2))
    assert fitted.convergence()["pareto_k"] < 0.7
    effective = fitted.convergence()["ess"]
    assert effective > 400
    drawn = np.log(fitted.tree["posterior"]["gap_bars"].sel(gap="overnight").values.ravel())
    error = sd / np.sqrt(min(effective, drawn.size))
    assert abs(drawn.mean() - mean) < 4.5 * error
    assert (
        abs(drawn.std() - sd) < 4.5 * error
    )  # nearly normal: its error is that of the mean over 1.4
    row = fitted.gaps().loc["overnight"]
    assert row["bars_lower"] < TRUTH["overnight"] < row["bars_upper"]
    assert row["crossed"] == DAYS - 1


@pytest.mark.slow
def test_a_kind_that_never_came_stays_at_its_prior(fitted):
    drawn = np.log(fitted.tree["posterior"]["gap_bars"].sel(gap="weekend").values.ravel())
    data = fitted.data
    away = (drawn - np.log(0.3 * data.dt.sum() / data.gaps.sum())) / 1.5
    effective = min(fitted.convergence()["ess"], away.size)
    assert abs(away.mean()) * np.sqrt(effective) < 4.5
    assert abs((away**2).mean() - 1) * np.sqrt(effective / 2) < 4.5
    assert fitted.gaps().loc["weekend", "crossed"] == 0


def test_nights_worth_nothing_are_not_excluded_where_there_are_none(nights):
    worth = np.r_[0.0, np.exp(np.linspace(-3.0, 7.0, 21))]
    calm = data_of(prices(3, 0.0))
    best = {name: grid(data, worth)[0].max(1) for name, data in (("calm", calm), ("real", nights))}
    # half the 95 % quantile of chi-square with one degree of freedom
    assert best["calm"].max() - best["calm"][0] < stats.chi2(1).ppf(0.95) / 2
    assert best["real"].max() - best["real"][0] > 10


@pytest.mark.nightly
def test_the_noise_of_the_first_bar_is_found_under_a_learnt_variance():
    truth = 16.0
    data = data_of(prices(4, 0.0, noise=truth, days=20))
    model = model_of(
        Gaps(bars=0, noise={"overnight": dist.LogNormal(0.0, 2.0), "weekend": 1.0}),
        noise=Discounted(Memory(55, low=24, high=125)),
    )
    found = fit(data, model, method=ImportanceSampling())
    row = found.gaps().loc["overnight"]
    assert found.convergence()["pareto_k"] < 0.7
    assert row["noise_lower"] < truth < row["noise_upper"]
    assert row["noise_upper"] / row["noise_lower"] < 20
    assert (row["bars"], row["bars_upper"]) == (0, 0)


# --- what a fit keeps -------------------------------------------------------------------------


@pytest.mark.nightly
def test_the_tables_of_a_fit_are_those_of_the_distribution(nights, fitted):
    tree, model = fitted.tree, fitted.model
    bars = tree["posterior"]["gap_bars"]
    assert bars.dims == ("chain", "draw", "gap")
    # the plug-in is the mean of the logarithm over all weighted draws, these are resampled ones
    error = np.log(bars.values).std((0, 1)) / np.sqrt(fitted.convergence()["ess"])
    away = np.log(tree["plug_in"]["gap_bars"].values[0]) - np.log(bars.values).mean((0, 1))
    assert (np.abs(away) < 6 * error).all()
    inputs, mixture = model.inputs(nights), tree["mixture"].to_dataset()
    noise = {name: mixture[name].values for name in ("q", "obs_scale", "gap_bars")}
    law = model.regression(inputs, **noise)
    passed, spread = law.filter(inputs.y), fitted.spread()
    assert_allclose(passed.error.mean(0), spread["spread"].to_numpy(), rtol=1e-8, atol=1e-12)
    var = passed.forecast_var.mean(0) + np.asarray(passed.error).var(0)
    sds = spread["sd"].to_numpy()
    assert_allclose(np.sqrt(var), sds, rtol=1e-8)
    smoothed = law.smooth(inputs.y).mean[..., 0].mean(0) / float(tree["constant_data"]["scale"][0])
    assert_allclose(smoothed, fitted.hedge_ratio("smoothed")["mean"].to_numpy(), rtol=1e-8)
    first = nights.gaps[:, 0] > 0
    assert sds[first].min() > 2 * np.median(sds[~first])


@pytest.mark.slow
def test_a_fit_is_saved_and_read_whole(fitted, tmp_path):
    fitted.save(tmp_path / "pair.nc")
    found = load(tmp_path / "pair.nc")
    assert_same_fit(found, fitted)
    pd.testing.assert_frame_equal(found.gaps(), fitted.gaps())
    assert (found.data.clock, found.model.gaps) == (CLOCK, Gaps())
    assert_array_equal(found.data.dt, fitted.data.dt)
    assert_array_equal(found.model.inputs(found.data).gaps, fitted.data.gaps)


@pytest.mark.slow
def test_the_online_filter_is_told_what_gaps_are_worth(fitted):
    for draws, group in ((64, "mixture"), (1, "plug_in")):
        given = fitted.online(draws=draws).arguments()
        assert given["gap_names"] == ("overnight", "weekend")
        assert_array_equal(given["gap_bars"], fitted.tree[group]["gap_bars"].values.T)
        assert_array_equal(given["gap_noise"], np.ones((2, draws)))
    fixed = hedge_ratio_model(obs_scale=1e-3, delta=0.1)
    assert fit(fitted.data, fixed, progress=False).online().arguments()["gap_names"] == ()


def test_the_online_filter_goes_over_a_night_as_the_textbook_loop_does(nights):
    memory, cut = 20.0, 150
    model = hedge_ratio_model(
        delta={"beta": 1e-4, "alpha": 0.2},
        obs_scale=1e-3,
        noise=Discounted(memory),
        gaps=Gaps(bars=40, noise=2.0),
    )
    early, late = nights.before(nights.index[cut]), nights.before(nights.index[200])
    live = fit(early, model, progress=False).online()
    crossed = late.gaps.sum(1)
    case = hedge_case(early, [1e-4 / (1 - 1e-4), 0.25], 1e-3)
    case |= {"variance_discount": 1 - 1 / memory, "variance_dof": 4.0, "dt": late.dt}
    case |= {"gap_time": 40 * crossed, "obs_factor": 2.0**crossed, "observed": late.observed}
    case["design"] = np.column_stack([late.x - early.x.mean(0), np.ones(len(late))])
    loop = reference.loop(late.y, **case)
    assert crossed[cut:].any()
    for t in range(cut, 200):
        y, x = nights.prices.iloc[t]
        gaps = dict(zip(nights.gap_names, nights.gaps[t].tolist(), strict=True))
        tick = live.update(y=y, x=[x], at=nights.index[t], dt=nights.dt[t], gaps=gaps)
        assert_allclose(tick.spread, loop.error[t], rtol=1e-8, atol=1e-12)
        tail = loop.dof[t] / (loop.dof[t] - 2)
        assert_allclose(tick.spread_sd, np.sqrt(loop.forecast_var[t] * tail), rtol=1e-8)


@pytest.mark.slow
def test_words_and_report_say_what_a_night_is_worth(fitted):
    table = prior_and_posterior(fitted)
    before = table.loc[("overnight", "gap_bars"), ("prior", "median")]
    assert_allclose(np.log(before), np.log(0.3 * 599 / 9), atol=4 * 1.5 * 1.25 / np.sqrt(1000))
    assert table.loc[("overnight", "gap_bars"), ("narrowed", "")] > 1.5
    after = fitted.gaps().loc["overnight", "bars"]
    assert table.loc[("overnight", "gap_bars"), ("posterior", "median")] == after
    text = report.report(fitted)
    assert f"overnight: worth {after:.3g} open bars" in text
    assert "weekend: " in text
    assert "none in these rows: this is the prior" in text
