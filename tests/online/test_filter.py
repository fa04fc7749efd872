"""`OnlineFilter`: the offline filter tick by tick, under the same draws; durable; unimpressed."""

import json
import math
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp

from kfmodels import (
    Discounted,
    HedgeData,
    HedgeFit,
    OnlineBoard,
    OnlineFilter,
    StateDiscount,
)
from kfmodels.kalman import scan
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.motion import Walk
from kfmodels.kalman.noise import DiscountedVariance, Scale, floored
from kfmodels.kalman.regression import KalmanRegression
from kfmodels.kalman.step import State
from kfmodels.online.filter import Tick
from tests.made_filters import made_filter, made_prices
from tests.problems import ROWS, stock_prices, unsampled
from tests.processes import trade

pytestmark = pytest.mark.usefixtures("road")

TRAIN = 40
HEDGES = ("SPX", "PEP")
TRANSFORMS = ("log", "level", "return")
MODELS = {
    "random walk, constant": {},
    "random walk, discounted": {"noise": Discounted()},
    "state discount, constant": {"drift": StateDiscount()},
    "state discount, discounted": {"drift": StateDiscount(), "noise": Discounted()},
}


def prices() -> pd.DataFrame:
    """Real prices, with gaps in target, hedge and both, on either side of the training rows."""
    table = stock_prices(ROWS + 1)
    table.iloc[[20, TRAIN + 7], 0] = np.nan
    table.iloc[[33, TRAIN + 11, TRAIN + 12], 2] = np.nan
    table.iloc[TRAIN + 20] = np.nan
    return table


def pair(transform: str = "log", table: pd.DataFrame | None = None) -> HedgeData:
    """The same number of rows under every transform: returns need one more price."""
    table = prices() if table is None else table
    table = table if transform == "return" else table.iloc[1:]
    return HedgeData.from_prices(table, target="KO", hedges=HEDGES, transform=transform)


def trained(data: HedgeData, rows: int = TRAIN, **options: Any) -> HedgeFit:
    return unsampled(data.before(data.index[rows]), **options)


def run(live: OnlineFilter, table: pd.DataFrame) -> list[Tick]:
    return [live.update(y=row["KO"], x=row[list(HEDGES)], at=at) for at, row in table.iterrows()]


def later(data: HedgeData, rows: int = TRAIN) -> pd.DataFrame:
    return data.prices.iloc[rows:]


# -- online = offline ------------------------------------------------------------------------------


@jax.jit
def offline(law: KalmanRegression, y: Any) -> scan.Filtered:
    return scan.filter(*law.recursion(y))


def tables_of(ticks: list[Tick]) -> dict[str, np.ndarray]:
    names = [*HEDGES, "alpha"]
    return {
        "mean": np.array([[*tick.beta.values(), tick.alpha] for tick in ticks]),
        "given": np.array([[tick.sd_given_noise[name] for name in names] for tick in ticks]),
        "total": np.array([[tick.sd_total[name] for name in names] for tick in ticks]),
    } | {
        name: np.array([getattr(tick, name) for tick in ticks])
        for name in ("spread", "spread_sd", "z", "gain", "log_score", "effective_draws")
    }


def expected_of(fitted: HedgeFit, data: HedgeData, group: str, chosen: Any, rows: int) -> dict:
    """The whole series under the draws of the fit, weighed by how they forecast from `rows` on."""
    constant = fitted.tree["constant_data"]
    pivot, scale = constant["pivot"].values, constant["scale"].values
    x = np.column_stack([(data.x - pivot) / scale, np.ones(len(data))])
    y = np.where(data.observed, data.y - float(constant["offset"]), 0.0)
    x = np.where(data.observed[:, None], x, 0.0)
    held = fitted.tree[group].to_dataset().isel(noise_draw=chosen)
    sites = {name: held[name].values for name in fitted.model.parameters}
    start = fitted.model.inputs(fitted.data)
    drift, noise = fitted.model.laws(**sites)
    with jax.enable_x64(True):
        law = KalmanRegression(
            x,
            start.start_mean,
            start.start_cov,
            drift,
            floored(noise, held["least"].values),
            observed=data.observed,
            dt=data.dt,
        )
        passed = jax.device_get(offline(law, y))

    density = passed.log_density[rows:]
    sums = np.cumsum(density, axis=0)
    log_after = sums - logsumexp(sums, axis=1, keepdims=True)
    log_before = np.vstack([np.full(sums.shape[1], -np.log(sums.shape[1])), log_after[:-1]])
    after, before = np.exp(log_after), np.exp(log_before)

    turn = np.diag(np.append(1 / scale, 1.0))
    turn[-1, :-1] = -pivot / scale
    mean = np.einsum("ij,tjk->tik", turn, passed.filtered.mean[rows:])
    mean[:, -1] += float(constant["offset"])
    cov = passed.filtered.cov[rows:] * passed.filtered_unit[rows:, None, None]
    error, var = passed.error[rows:], (passed.var * passed.unit)[rows:]
    if passed.dof is not None:  # the variance of a Student-t, not its squared scale
        var = var * (1 + 2 / (passed.dof[rows:] - 2))
        cov = cov * (1 + 2 / (passed.filtered_dof[rows:] - 2))[:, None, None]
    cov = np.einsum("ij,tjlk,ml->timk", turn, cov, turn)
    centre = (mean * after[:, None]).sum(-1)
    # alpha is what is left of terms of this size
    sizes = np.einsum("ij,tjk->tik", np.abs(turn), np.abs(passed.filtered.mean[rows:])).max((0, 2))
    sizes[-1] += abs(float(constant["offset"]))
    within = np.einsum("tiik,tk->ti", cov, after)
    between = ((mean - centre[..., None]) ** 2 * after[:, None]).sum(-1)

    spread = (error * before).sum(1)
    spread_sd = np.sqrt(((var + (error - spread[:, None]) ** 2) * before).sum(1))
    seen = data.observed[rows:]
    gain = ((1 - 1 / passed.var[rows:]) * before).sum(1)
    return {
        "mean": (centre, sizes),
        "given": np.sqrt(within),
        "total": np.sqrt(within + between),
        "spread": np.where(seen, spread, np.nan),
        "spread_sd": np.where(seen, spread_sd, np.nan),
        "z": np.where(seen, spread / spread_sd, np.nan),
        "gain": np.where(seen, gain, 0.0),
        "log_score": np.where(seen, logsumexp(density + log_before, axis=1), np.nan),
        "effective_draws": 1 / (after**2).sum(1),
    }


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """To 1e-12 of the size of the column."""
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        assert not np.isinf(found[name]).any()
        column, size = (
            column if isinstance(column, tuple) else (column, np.nanmax(np.abs(column), 0))
        )
        assert_allclose(found[name] / size, column / size, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.variants
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_online_is_offline_at_every_row(options: dict, transform: str):
    data = pair(transform)
    fitted = trained(data, **options)
    for draws, group, chosen in ((64, "mixture", slice(None)), (1, "plug_in", slice(None))):
        live = fitted.online(draws=draws)
        assert live.draws == draws
        ticks = run(live, later(data))
        assert_close(tables_of(ticks), expected_of(fitted, data, group, chosen, TRAIN))
        assert_array_equal([tick.observed for tick in ticks], data.observed[TRAIN:])
        assert not all(tick.observed for tick in ticks)


@pytest.mark.parametrize("rows", [31, ROWS - 1])
def test_online_is_offline_from_any_split_on(rows: int):
    data = pair()
    fitted = trained(data, rows)
    live = fitted.online(draws=10)
    first = live.state()
    filtered = fitted.tree["mixture"]["q"].values  # one of each tenth of the 64
    chosen = ((np.arange(10) + 0.5) * 6.4).astype(int)
    assert len(filtered) == 64
    ticks = run(live, later(data, rows))
    assert_close(tables_of(ticks), expected_of(fitted, data, "mixture", chosen, rows))
    assert (live.at, live.until) == (data.last_date, data.index[rows - 1])
    assert not np.allclose(first["mean"], live.state()["mean"])


def test_before_the_first_tick_it_stands_where_the_tables_end():
    fitted = trained(pair())
    state, last = fitted.online().state(), fitted.tree["filtered"].isel(time=-1)
    assert_allclose(state["mean"], last["mean"], rtol=1e-12)
    assert_allclose(state["cov"], last["cov"], rtol=1e-10)
    assert_allclose(
        np.sqrt(state["cov_given_noise"].diagonal()), last["sd_given_noise"], rtol=1e-10
    )


# -- one tick --------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=TRANSFORMS)
def fitted(request: pytest.FixtureRequest) -> HedgeFit:
    return trained(pair(request.param), noise=Discounted())


@pytest.fixture
def live(fitted: HedgeFit) -> OnlineFilter:
    return fitted.online()


def next_row(fitted: HedgeFit, ahead: int = 0) -> tuple[pd.Timestamp, float, list[float]]:
    data = pair(fitted.data.transform)
    row = later(data).iloc[ahead]
    return later(data).index[ahead], float(row["KO"]), row[list(HEDGES)].tolist()


def snapshot(live: OnlineFilter) -> str:
    """All that the filter will ever use, to the last bit: what it would save."""
    return json.dumps(live.to_json())


def test_the_forecast_before_a_tick_is_what_the_tick_is_judged_by(fitted, live):
    at, y, x = next_row(fitted)
    before = snapshot(live)
    fair = live.forecast(x=x)
    assert snapshot(live) == before
    tick = live.update(y=y, x=x, at=at)
    transform, last = fitted.data.transform, fitted.data.prices.iloc[-1]["KO"]
    to = {"log": math.log, "level": float, "return": lambda price: math.log(price / last)}[
        transform
    ]
    assert_allclose(tick.spread, to(y) - fair.mean, rtol=1e-9, atol=1e-14)
    assert_allclose(tick.spread_sd, fair.sd, rtol=1e-12)
    assert_allclose(tick.z, tick.spread / tick.spread_sd, rtol=1e-12)
    assert_allclose(to(fair.price), fair.mean, rtol=1e-9, atol=1e-12)
    assert_allclose(to(fair.upper) - fair.mean, 1.6448536269514722 * fair.sd, rtol=1e-9)
    assert_allclose(to(fair.lower) - fair.mean, -1.6448536269514722 * fair.sd, rtol=1e-9)
    assert (tick.spread > 0) == (y > fair.price)
    ahead, now = (live.forecast(x=x, dt=dt) for dt in (5.0, 1.0))
    assert ahead.sd > now.sd
    assert ahead.price == pytest.approx(now.price)


def test_prices_may_come_by_name_in_any_order(fitted):
    at, y, x = next_row(fitted)
    spx, pep = x
    one = fitted.online().update(y=y, x=x, at=at)
    for other in (
        {"PEP": pep, "SPX": spx, "GOLD": 1.0},
        np.array(x),
        tuple(x),
        pd.Series({"PEP": pep, "SPX": spx}),
    ):
        assert fitted.online().update(y=y, x=other, at=at) == one
    assert fitted.online().forecast(x={"PEP": pep, "SPX": spx}) == fitted.online().forecast(x=x)


# -- errors leave no trace -------------------------------------------------------------------------


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_an_error_changes_nothing(fitted, live):
    at, y, x = next_row(fitted)
    live.update(y=y, x=x, at=at)
    before, now = snapshot(live), next_row(fitted, 1)[0]
    wrong: list[tuple[dict, str]] = [
        ({"y": math.inf}, "KO has the price inf"),
        ({"x": [math.inf, x[1]]}, "SPX has the price inf"),
        ({"x": [x[0], -math.inf]}, "PEP has the price -inf"),
        ({"x": x[:1]}, "x has 1 prices, but there are 2 hedges: SPX, PEP"),
        ({"x": [*x, 1.0]}, "x has 3 prices"),
        ({"x": {"SPX": x[0]}}, "no price of PEP in x"),
        ({"dt": -1.0}, "dt is the number of bars since the last row, 0 or more, not -1.0"),
        ({"dt": math.nan}, "dt is the number of bars"),
        ({"at": at}, "is not later than the last one"),
        ({"at": at - pd.Timedelta("1D")}, "ticks come in order, each once"),
        ({"at": "no date"}, "no date"),
        ({"at": now.tz_localize("UTC")}, "is a time with a time zone"),
        ({"at": 7}, "is a number"),
        ({"y": 1e300, "x": [1e300, x[1]]}, "KO has the price 1e.300, which a .* pass NaN"),
    ]
    if fitted.data.transform != "level":
        wrong += [({"y": 0.0}, "KO has the price 0"), ({"x": [-3.0, x[1]]}, "SPX has the price -3")]
    for change, text in wrong:
        with pytest.raises(ValueError, match=text):
            live.update(**({"y": y, "x": x, "at": now} | change))
        assert snapshot(live) == before
    for change in ({"x": [math.nan, x[1]]}, {"x": [math.inf, x[1]]}, {"x": x, "dt": -1.0}):
        with pytest.raises(ValueError, match="SPX|dt"):
            live.forecast(**change)
        assert snapshot(live) == before
    assert live.update(y=y, x=x, at=now).observed


NEW_YORK = pd.Timestamp("2024-03-01 16:00", tz="America/New_York")
TIMES = {
    "timestamps": (pd.Timestamp("2024-03-01"), pd.Timestamp("2024-03-02")),
    "nanoseconds": (pd.Timestamp(1709251200000000001), pd.Timestamp(1709251200000000002)),
    "dates": (pd.Timestamp("2024-03-01").date(), pd.Timestamp("2024-03-02").date()),
    "text": ("2024-03-01", "2024-03-01T00:01"),
    "numpy": (np.datetime64("2024-03-01"), np.datetime64("2024-03-02")),
    "numbers": (11, 12),
    "numpy numbers": (np.int64(11), np.int64(12)),
    "one zone": (NEW_YORK, NEW_YORK + pd.Timedelta("1min")),
    "two zones": (NEW_YORK, pd.Timestamp("2024-03-01 21:01", tz="UTC")),
    "a clock set forward": (
        pd.Timestamp("2024-03-10 01:59", tz="America/New_York"),
        pd.Timestamp("2024-03-10 03:00", tz="America/New_York"),
    ),
}


def plain_filter() -> OnlineFilter:
    """A filter that was never fitted and has no time yet."""
    return made_filter(transform="level", at=None, until=None)


@pytest.mark.parametrize(("first", "second"), TIMES.values(), ids=TIMES)
def test_time_goes_forward(first: Any, second: Any, tmp_path: Path):
    """After a reload too."""
    live = plain_filter()
    live.update(y=1.0, x=[1.0], at=second)
    for early in (first, second):
        with pytest.raises(ValueError, match="is not later than the last one"):
            live.update(y=1.0, x=[1.0], at=early)
    live = plain_filter()
    live.update(y=1.0, x=[1.0], at=first)
    live.save(tmp_path / "live.json")
    again = OnlineFilter.load(tmp_path / "live.json")
    assert live.update(y=1.0, x=[1.0], at=second).at == second
    again.update(y=1.0, x=[1.0], at=second)
    with pytest.raises(ValueError, match="is not later than the last one"):
        again.update(y=1.0, x=[1.0], at=first)


@pytest.mark.parametrize("second", [NEW_YORK, NEW_YORK.isoformat(), 5])
def test_times_of_two_kinds_do_not_mix(second: Any):
    live = plain_filter()
    live.update(y=1.0, x=[1.0], at=pd.Timestamp("2024-01-01"))
    with pytest.raises(ValueError, match="the one before.*was a time without a time zone"):
        live.update(y=1.0, x=[1.0], at=second)
    live = plain_filter()
    live.update(y=1.0, x=[1.0], at=second)
    with pytest.raises(ValueError, match="is a time without a time zone.*use one kind"):
        live.update(y=1.0, x=[1.0], at="2030-01-01")


def test_ticks_without_a_time_are_taken_as_they_come():
    live = plain_filter()
    for _ in range(3):
        assert live.update(y=1.0, x=[1.0]).at is None
    assert live.update(y=1.0, x=[1.0], at=3).at == 3
    assert live.update(y=1.0, x=[1.0]).at == 3


# -- the file --------------------------------------------------------------------------------------


CONTINUE = """
import json, os, signal, sys
from kfmodels import OnlineFilter

path, ticks, die = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "True"
live = OnlineFilter.load(path)
for at, y, x in ticks:
    print(repr(live.update(y=y, x=x, at=at).record()), flush=True)
live.save(path)
if die:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.variants
def test_a_killed_process_goes_on_in_another_that_has_no_jax(fitted, tmp_path: Path):
    path, live = tmp_path / "live.json", fitted.online()
    live.save(path)
    # a process without pandas dates its ticks with text
    rows = [
        (str(at), float(row["KO"]), row[list(HEDGES)].tolist())
        for at, row in later(pair(fitted.data.transform)).iterrows()
    ]
    printed = ""
    for part, code in ((rows[:30], -signal.SIGKILL), (rows[30:], 0)):
        printed += trade(CONTINUE, path, json.dumps(part), code != 0, code_at_end=code)
    expected = [repr(live.update(y=y, x=x, at=at).record()) for at, y, x in rows]
    assert printed.splitlines() == expected
    assert snapshot(OnlineFilter.load(path)) == snapshot(live)


def test_a_tick_is_a_record_that_nobody_changes(fitted, live):
    at, y, x = next_row(fitted)
    tick = live.update(y=y, x=x, at=at)
    with pytest.raises(AttributeError):
        tick.z = 0.0


def test_two_filters_of_one_fit_do_not_share_a_state(fitted):
    one, two = fitted.online(), fitted.online()
    before = snapshot(two)
    at, y, x = next_row(fitted)
    one.update(y=y, x=x, at=at)
    assert snapshot(two) == before
    assert snapshot(fitted.online()) == before


# -- what is not known, and what is far off ---------------------------------------------------------


def test_after_a_long_silence_a_surprise_is_still_one():
    """Fading stops at three degrees of freedom: with none left every tick would pass for ordinary."""
    live = made_filter(discounted=True)
    for y, x in made_prices(30):
        live.update(y=y, x=x)
    assert np.isfinite(live.forecast(x=x, dt=1000.0).sd)
    for _ in range(40):
        live.update(y=math.nan, x=x)
    assert live.arguments()["carried"].dof.min() == 3.0
    band = live.forecast(x=x)
    assert 0 < band.lower < y < band.upper < np.inf
    assert 3 < live.update(y=1.1 * y, x=x).z < np.inf


def test_the_learnt_variance_is_part_of_what_is_not_known():
    """Draws of the conjugate model itself: the standardised error of the ratio has sd one."""
    rng, pairs = np.random.default_rng(5), 20_000
    variance = 6.0 * 1.0 / rng.chisquare(6.0, pairs)  # a belief of 6 degrees of freedom around 1
    beta = np.sqrt(variance) * rng.normal(size=pairs)
    names, each = tuple(f"Y{number}" for number in range(pairs)), np.ones((pairs, 1))
    board = OnlineBoard(
        names=names,
        targets=names,
        hedges=["X"] * pairs,
        transform="level",
        coordinates=Coordinates(np.zeros((pairs, 1)), each, np.zeros(pairs), False),
        drift=Walk(np.zeros((1, 1, pairs, 1))),
        noise=DiscountedVariance(each, 6.0 * each, each),
        state=State(np.zeros((1, pairs, 1)), np.ones((1, 1, pairs, 1))),
        carried=Scale(6.0 * each, each.copy()),
        log_weights=np.zeros((pairs, 1)),
    )
    for x in (1.0, -0.7, 1.3, 0.4):
        y = beta * x + np.sqrt(variance) * rng.normal(size=pairs)
        tick = board.update(dict(zip(names, y.tolist(), strict=True)) | {"X": x})
    z = (tick.beta.ravel() - beta) / tick.sd_total.ravel()
    # 10 degrees of freedom: the fourth moment exists, z^2 has variance 3 * 8 / 6 - 1 = 3
    assert abs((z**2).mean() - 1) < 4 * np.sqrt(3 / pairs)
