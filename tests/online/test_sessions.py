"""Returns within the session: which rows are moves, offline and live alike."""

from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kfmodels import (
    Constant,
    Discounted,
    Gaps,
    HedgeData,
    HedgeFit,
    OnlineFilter,
    fit,
    follow,
    hedge_ratio_model,
)
from kfmodels.clock.clock import Clock
from kfmodels.clock.day import tilt_of_next
from kfmodels.evaluate.future import _in_coordinates_of
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.fitting.hedge_fit import load_fit
from kfmodels.model import OfTheDay, Profile, Tilt
from tests.problems import FromPrior

pytestmark = pytest.mark.slow

ZONE = "America/New_York"
HALF = "2024-03-08"
CLOCK = Clock.hours("09:30", "16:00", zone=ZONE, bar="30min", start="2024-03-01", end="2024-04-30")


def frame(days: int = 9, seed: int = 0) -> pd.DataFrame:
    """Half-hour bars with their opening print; legs are missing, also in the first row of a session."""
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2024-03-04", periods=days)
    index = pd.DatetimeIndex(
        [d + pd.Timedelta(minutes=570 + 30 * n) for d in dates for n in range(14)]
    )
    x = np.cumsum(rng.normal(0, 0.004, len(index)))
    y = 1.3 * x + np.cumsum(rng.normal(0, 0.003, len(index)))
    table = pd.DataFrame({"Y": 50 * np.exp(y), "X": 20 * np.exp(x)}, index)
    table.iloc[[17, 42, 60], 0] = table.iloc[[28, 61, 82], 1] = np.nan
    return table


def data_of(table: pd.DataFrame) -> HedgeData:
    return HedgeData.from_prices(table, target="Y", hedges=["X"], transform="return", clock=CLOCK)


def expected(table: pd.DataFrame) -> dict[pd.Timestamp, tuple[float, float]]:
    """Log moves from one complete row to the next of the same day, by a plain loop."""
    moves, last, day = {}, None, None
    for at, y, x in table.dropna().itertuples():
        if last is not None and at.date() == day:
            moves[at] = (np.log(y / last[0]), np.log(x / last[1]))
        last, day = (y, x), at.date()
    return moves


def test_rows_are_the_moves_between_bars_of_one_session():
    table = frame()
    data, moves = data_of(table), expected(table)
    assert list(data.index[data.observed]) == list(moves)
    assert_allclose(np.column_stack([data.y, data.x])[data.observed], list(moves.values()))
    assert "8 begin a session" in repr(data)
    assert data.begins.sum() == 8  # nine mornings, of which the first has no row before it
    daily = HedgeData.from_prices(
        table.iloc[::2], target="Y", hedges=["X"], transform="return", clock=Clock("1h")
    )
    assert not daily.begins.any()


def test_a_row_outside_the_sessions_begins_and_ends_no_move():
    table = frame(6)
    table = table.drop(table.index[14])  # without the opening print of the second day
    evening = table.index[13] + pd.Timedelta(hours=2)
    later = pd.concat([table, pd.DataFrame({"Y": 51.0, "X": 21.0}, [evening])]).sort_index()
    with pytest.warns(UserWarning, match="outside the sessions"):
        data = data_of(later)
    assert_array_equal(data.index[data.observed], data_of(table).index[data_of(table).observed])


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"noise": Discounted(), "gaps": Gaps()},
    "constant": {"profile": Profile(), "gaps": Gaps(noise=dist.LogNormal(0.0, 1.0))},
    "all": {
        "noise": Discounted(),
        "gaps": Gaps(),
        "profile": Profile(),
        "tilt": Tilt(),
        "day": OfTheDay(),
    },
}


def fitted(data: HedgeData, **options: Any) -> HedgeFit:
    model = hedge_ratio_model(intercept="none", **{"noise": Constant()} | options)
    return fit(data, model, method=FromPrior(draws=16), progress=False)


@pytest.mark.variants
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("cut", "name"), [(41, "plain"), (43, "all"), (57, "constant"), (71, "all")]
)
def test_a_live_filter_goes_on_as_the_batch_pass_does(cut: int, name: str, tmp_path: Any):
    """Cut within a session, at an opening print that lacks a leg, and at one that does not."""
    data = data_of(frame())
    fitted(data.before(data.index[cut]), **OPTIONS[name]).save(tmp_path / "fit.nc")
    start = load_fit(tmp_path / "fit.nc")
    start.online().save(tmp_path / "live.json")
    live = OnlineFilter.load(tmp_path / "live.json")
    table = follow(live, frame().loc[data.index[cut] :])
    assert_array_equal(table["z"].notna(), data.observed[cut:])
    found = start.online(draws=1)
    sites = trees.stored_sites(start.tree, "plug_in")
    model, where = start.model, trees.coordinates(start.tree)
    inputs = _in_coordinates_of(start, data)
    with jax.enable_x64(True):
        passed = jax.device_get(passes.forward(_doubled(model, inputs, sites), inputs.y))
    ticks = follow(found, frame().loc[data.index[cut] :])
    seen = data.observed[cut:]
    assert_allclose(ticks["spread"][seen], passed.spread[cut:][seen], rtol=1e-9)
    assert_allclose(ticks["spread_sd"][seen] ** 2, passed.spread_var[cut:][seen], rtol=1e-9)
    ahead = tilt_of_next(CLOCK.places(data.index), CLOCK.minutes)
    where = where._replace(tilt=ahead)
    beta = where.to_original(passed.filtered.mean, passed.filtered.cov)[0][cut:, 0]
    assert_allclose(ticks["beta X"], beta, rtol=1e-9)


def _doubled(model: Any, inputs: Any, sites: dict[str, np.ndarray]) -> Any:
    """The draw twice: a pass takes the last for the plug-in, which it leaves out of its mixture."""
    return trees.regression(model, inputs, {k: np.repeat(v, 2, 0) for k, v in sites.items()})


def test_a_row_that_begins_a_session_says_so_and_needs_its_time():
    live = fitted(data_of(frame()).before("2024-03-13")).online()
    with pytest.raises(ValueError, match=r"reads the time of day off its rows: pass .* at="):
        live.update(y=50.0, x=20.0)
    tick = live.update(y=50.0, x=20.0, at="2024-03-13 09:30")
    assert tick.sentence == "skipped: the first price of a session"
    assert live.update(y=51.0, x=20.1, at="2024-03-13 10:00").observed


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_feed_goes_by_the_time_of_day_without_a_grid_of_memories():
    data = data_of(frame())
    start = fitted(data.before(data.index[70]), **OPTIONS["all"])
    later = frame().loc[data.index[70] :].iloc[:10]
    with start.go_live(monitor=None) as live:
        for at, y, x in later.itertuples():
            signal = live.tick({"Y": y, "X": x}, at=at)
    assert live.engine.draws == start.online().draws
    table = follow(start.online(share=0.002), later)
    assert_allclose(signal.tick.beta["X"], table["beta X"].iloc[-1], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_table_of_the_day_tells_what_goes_by_it():
    found = fitted(data_of(frame()), **OPTIONS["all"])
    table = found.day()
    assert list(table.index) == ["fall", "rise", "first bar", "deviation", "half-life", "tilt X"]
    assert (table["lower"] < table["median"]).all()
    assert (table["median"] < table["upper"]).all()
    falls = found.tree["posterior"]["profile_fall"].values
    assert table.loc["fall", "median"] == np.quantile(falls, 0.5, method="nearest")
    # after the close the ratio is that of the night, without the tilt
    live = found.online()
    mean = live.board.belief().inner[0][0] / live.coordinates.scale[0]
    assert_allclose(live.standing().beta["X"], mean @ [1.0, 0.0, 1.0], rtol=1e-12)
    assert table.loc["tilt X", "median"] == pytest.approx(mean[1], rel=1e-12)
    assert fitted(data_of(frame()), **OPTIONS["plain"]).day().empty
