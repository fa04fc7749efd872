"""Coefficients that are sums: the model against the dense Gaussian, and live against the whole pass.

Data of minutes with nights between them, so that every law meets a closed period.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from kfmodels import (
    Constant,
    Discounted,
    Gaps,
    HedgeData,
    HedgeFit,
    OnlineBoard,
    OnlineFilter,
    Reverting,
    Scales,
    fit,
    hedge_ratio_model,
    load,
)
from kfmodels.evaluate.future import _in_coordinates_of
from kfmodels.fitting import passes
from kfmodels.fitting import tree as trees
from kfmodels.fitting.refresh import carry_over
from kfmodels.kalman.motion import Motion
from kfmodels.model import OfTheDay
from kfmodels.model.assumptions import REGISTERED, Drift, register
from kfmodels.model.memory import q_to_memory
from kfmodels.model.sites import site
from tests import reference
from tests.closeness import scaled_close
from tests.model.test_gaps import data_of, prices
from tests.problems import FromPrior
from tests.reference import Case

pytestmark = pytest.mark.slow

DAYS, TRAIN = 3, 120  # the third day is live
SCALES = (3.0, 40.0)


class Pull(NamedTuple):
    """All coefficients are pulled to 0 by a factor a bar, and shaken."""

    factor: Any
    shake: Any

    coef_axes = (0, 2)

    def transition(self, dt: Any) -> Any:
        n = len(self.shake)
        return np.ones((n, *(1,) * (self.shake.ndim - 2))) * self.factor**dt

    def widen(self, cov: Any, dt: Any) -> Any:
        return cov + self.shake * dt


@dataclass(frozen=True)
class Pulled(Drift):
    """A law of motion that the package does not know, by one class and the arithmetic it makes."""

    loss: Any = 0.01

    makes = Pull
    parameters = {"loss": 0.0}  # noqa: RUF012

    def sites(self) -> Any:
        return {"loss": site("loss", self.loss)}

    def law(self, q: Any, obs_var: Any, moving: Any, loss: Any) -> Motion:
        return Pull(1 - loss, np.eye(len(moving)) * q[..., None, :])


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    register(Pulled)
    yield
    del REGISTERED["Pulled"]


LAWS: dict[str, dict[str, Any]] = {
    "spread": {"spread": Reverting(), "gaps": Gaps()},
    "day": {"day": OfTheDay()},
    "scales": {"drift": Scales(SCALES), "gaps": Gaps(), "noise": Discounted()},
    "all": {"drift": Scales(SCALES), "day": OfTheDay(), "spread": Reverting(), "gaps": Gaps()},
    "its own": {"drift": Pulled(), "gaps": Gaps()},
}


def minutes() -> HedgeData:
    frame = prices(5, 30.0, days=DAYS)
    frame.iloc[[7, 70], 0] = np.nan
    return data_of(frame)


class Weighed(FromPrior):
    def run(self, model: Any, inputs: Any, seed: int, progress: bool) -> Any:
        return super().run(model, inputs, seed, progress)._replace(about={"log_evidence": 0.0})


def fitted_as(how: dict[str, Any]) -> HedgeFit:
    data = minutes()
    before = data.before(data.index[TRAIN])
    method = Weighed(draws=16, chains=2)
    with pytest.warns(UserWarning, match="sampled badly"):
        return fit(
            before, hedge_ratio_model(**{"noise": Constant()} | how), method=method, progress=False
        )


@pytest.fixture(scope="module", params=LAWS)
def fitted(request: pytest.FixtureRequest) -> HedgeFit:
    return fitted_as(LAWS[request.param])


def steps_of(name: str, one: dict[str, Any], data: HedgeData) -> tuple[list[int], Any, Any, Any]:
    """Of each state after [beta, level]: its coefficient, factor a bar, variance, and begins anew."""
    states: list[tuple[int, float, float, bool]] = []
    if name in ("scales", "all"):
        states += [(0, np.exp(-1 / bars), one["scales_sd"][0] ** 2, False) for bars in SCALES]
    if name in ("day", "all"):
        states.append((0, 2 ** (-1 / one["day_half_life"]), one["day_sd"][0] ** 2, True))
    if name in ("spread", "all"):
        factor = 2 ** (-1 / one["spread_half_life"])
        states.append((1, factor, one["spread_scale"] ** 2, False))
    of, factors, variances, anew = zip(*states, strict=True)
    return list(of), np.array(factors), np.array(variances), np.array(anew)


@pytest.mark.variants
@pytest.mark.parametrize("name", ["spread", "day", "all"])
def test_the_density_is_that_of_the_dense_gaussian(name: str):
    data = minutes()
    rows = data.before(data.index[TRAIN])
    model = hedge_ratio_model(**{"noise": Constant()} | LAWS[name])
    draws = {
        "q": np.array([[1e-3, 0.1], [0.0, 2.0]]),
        "obs_scale": np.array([1e-3, 2e-3]),
        "gap_bars": np.array([[20.0, 3.0], [0.0, 1.0]]),
        "gap_noise": np.ones((2, 2)),
        "spread_half_life": np.array([5.0, 60.0]),
        "spread_scale": np.array([1e-3, 4e-3]),
        "day_half_life": np.array([20.0, 90.0]),
        "day_sd": np.array([[2e-4], [1e-4]]),
        "scales_sd": np.array([[1e-4], [3e-4]]),
    }
    if name in ("scales", "all"):
        draws["q"][:, 0] = 0.0
    needed = {key: value for key, value in draws.items() if key in model.parameters}
    with jax.enable_x64(True):
        inputs = model.inputs(rows)
        found = model.log_likelihood(inputs, **needed)
    for k in range(2):
        one = {key: value[k] for key, value in draws.items()}
        of, factors, variances, anew = steps_of(name, one, rows)
        v = one["obs_scale"] ** 2
        design = np.column_stack([inputs.design, np.asarray(inputs.design)[:, of]])
        nights = rows.gaps.sum(1)
        worth = rows.gaps @ one["gap_bars"]
        moved = (rows.dt + worth)[:, None]
        kept = np.where(anew & (nights > 0)[:, None], 0.0, factors**moved)
        walk = np.asarray(one["q"]) * v * moved
        added = np.column_stack([walk, variances * (1 - kept**2)])
        start = np.zeros((2 + len(of),) * 2)
        start[:2, :2] = inputs.start_cov
        start[2:, 2:] = np.diag(variances)
        case: Case = {
            "design": design,
            "initial_mean": np.r_[inputs.start_mean, np.zeros(len(of))],
            "initial_cov": start,
            "obs_var": v,
            "observed": rows.observed,
        }
        transition = np.column_stack([np.ones((len(kept), 2)), kept])
        dense = reference.dense(case, added[:, :, None] * np.eye(len(start)), transition)
        scaled_close(found[k], dense.log_prob(np.asarray(inputs.y)), 1e-8)


@pytest.mark.variants
def test_live_goes_on_as_the_whole_pass_does(fitted: HedgeFit, tmp_path: Path):
    """Each draw filtered over all rows, in the coordinates of the fit, against one tick at a time."""
    data = minutes()
    sites = trees.stored_sites(fitted.tree)
    with jax.enable_x64(True):
        inputs = _in_coordinates_of(fitted, data)
        law = trees.regression(fitted.model, inputs, sites)
        rows, start, drift, noise = law.recursion(inputs.y)
        whole = jax.device_get(passes.scan.filter(rows, start, drift, noise))
    fitted.save(tmp_path / "fit.nc")
    live = load(tmp_path / "fit.nc").online()
    live.save(tmp_path / "live.json")
    live = OnlineFilter.load(tmp_path / "live.json")
    for t in range(TRAIN, len(data.y)):
        values = data.prices.iloc[t]
        gaps = dict(zip(data.gap_names, data.gaps[t], strict=True))
        tick = live.update(y=values["Y"], x=[values["X"]], dt=data.dt[t], gaps=gaps)
        assert tick.observed
        (now,) = live.board._blocks.draws
        # a covariance near singular has lost digits on either road
        scales = isinstance(fitted.model.drift, Scales)
        near = (np.linalg.cond(now.state.cov.transpose(2, 0, 1)) > 1e4) & scales
        for draws, rtol in ((~near, 1e-8), (near, 1e-5)):
            mean, cov = (leaf[t][..., draws] for leaf in whole.filtered)
            assert_allclose(now.state.mean[:, draws], mean, rtol=rtol, atol=1e-13)
            assert_allclose(now.state.cov[..., draws], cov, rtol=rtol, atol=1e-16)
    mean, coordinates = whole.filtered.mean[-1], live.coordinates
    theta, _ = coordinates.to_original(mean.T, np.zeros((1, *(coordinates.states,) * 2)))
    beta, alpha = now.weights @ theta
    assert tick.beta["X"] == pytest.approx(beta, rel=1e-9)
    assert tick.alpha == pytest.approx(alpha, rel=1e-9)


_WEIGHTS = ("log_weights", "initial_log_weights", "gap_bars", "gap_noise")


def test_a_board_of_two_is_each_alone():
    first = fitted_as(LAWS["all"]).online()
    held = [one.arguments() for one in (first, first)]
    held[1]["log_weights"] = np.log(np.random.default_rng(0).dirichlet(np.ones(first.draws)))
    alone = [OnlineFilter(**one) for one in held]
    parts = [one.board.arguments() for one in alone]

    def both(name: str, axis: int) -> Any:
        return jax.tree.map(lambda *leaf: np.concatenate(leaf, axis), *(one[name] for one in parts))

    where = parts[0]["coordinates"]
    board = OnlineBoard(
        **parts[0]
        | {name: both(name, -2) for name in ("drift", "noise", "state", "carried")}
        | {name: both(name, -2) for name in _WEIGHTS}
        | {
            "names": ("a", "b"),
            "targets": ("Y", "Y"),
            "hedges": (("X",), ("X",)),
            "coordinates": where._replace(
                **{
                    name: np.concatenate([getattr(where, name)] * 2)
                    for name in ("pivot", "scale", "offset", "unit")
                }
            ),
            "last_prices": both("last_prices", 0),
            "unopened": both("unopened", 0),
            "habits": None,
        }
    )
    board = OnlineBoard.from_json(board.to_json())
    alone = [OnlineFilter(**one.arguments() | {"habits": None}) for one in alone]
    data = minutes()
    for t in range(TRAIN, TRAIN + 5):
        values = data.prices.iloc[t]
        gaps = dict(zip(data.gap_names, data.gaps[t], strict=True))
        both_ticks = board.update(values.to_dict(), dt=data.dt[t], gaps=gaps)
        for name, one in zip(("a", "b"), alone, strict=True):
            tick = one.update(y=values["Y"], x=[values["X"]], dt=data.dt[t], gaps=gaps)
            mine = both_ticks.of(name)
            assert mine.beta["X"] == pytest.approx(tick.beta["X"], rel=1e-10)
            assert mine.reversion is not None
            assert tick.reversion is not None
            assert mine.reversion.mean == pytest.approx(tick.reversion.mean, rel=1e-9, abs=1e-15)
            assert mine.reversion.sd == pytest.approx(tick.reversion.sd, rel=1e-9)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"spread": 3}, "spread must be Reverting"),
        ({"day": Reverting()}, "day must be OfTheDay"),
        ({"spread": Reverting(), "intercept": "none"}, "to a level that walks.*leave"),
        (
            {"spread": Reverting(), "intercept": "static"},
            "any walk of the prices would count as one",
        ),
        ({"drift": Scales(), "delta": {"beta": 0.1}}, r'leave delta\["beta"\] out'),
    ],
)
def test_what_does_not_go_together_is_refused(how: dict[str, Any], text: str):
    with pytest.raises(ValueError, match=text):
        hedge_ratio_model(**{"noise": Constant()} | how)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Reverting(half_life=-1.0), "Reverting: half_life .* positive number, not -1.0"),
        (lambda: Reverting(size=[1.0]), "Reverting: size is a share of the move"),
        (lambda: OfTheDay(size=0.0), "OfTheDay: size"),
        (lambda: Scales(()), "Scales: bars are positive"),
        (lambda: Scales((2.0, np.inf)), "Scales: bars are positive"),
    ],
)
def test_a_number_that_is_none_is_refused(make: Any, text: str):
    with pytest.raises(ValueError, match=text):
        make()


def test_new_noise_keeps_the_ratio_and_level_and_splits_them_as_its_own_fit_does():
    """Against conditioning by hand, with a spread and scales beside what walks."""
    fitted = fitted_as(LAWS["all"])
    old, data = fitted.online(), minutes()
    for t in range(TRAIN, TRAIN + 20):
        values = data.prices.iloc[t]
        gaps = dict(zip(data.gap_names, data.gaps[t], strict=True))
        old.update(y=values["Y"], x=[values["X"]], dt=data.dt[t], gaps=gaps)
    again, new = carry_over(old, fitted), fitted.online()
    assert_allclose(again.state()["mean"], old.state()["mean"], rtol=1e-8)
    assert_allclose(again.state()["cov"], old.state()["cov"], rtol=1e-6)
    # what the sums do not say of the states is what it was: (state - gain sums) has that covariance
    own, now = (one.board._blocks.draws[0].state for one in (new, again))
    a = new.coordinates.matrix()
    for k in range(0, new.draws, 9):
        gain = own.cov[..., k] @ a.T @ np.linalg.inv(a @ own.cov[..., k] @ a.T)
        rest = np.eye(len(own.mean)) - gain @ a
        assert_allclose(rest @ now.mean[:, k], rest @ own.mean[:, k], atol=1e-12)
        left = rest @ own.cov[..., k] @ rest.T
        assert_allclose(rest @ now.cov[..., k] @ rest.T, left, atol=1e-8 * abs(left).max())


def test_the_grid_of_a_sum_goes_live_through_a_night():
    scales = fitted_as(LAWS["all"] | {"drift": Scales(SCALES)})
    live = scales.online(share=0.002)
    assert live.coordinates.parts == (0, 0, 0, 1)
    assert live.draws == scales.online().draws  # no one memory to be spread
    assert np.isnan(live.standing().memory["X"])
    other = fitted_as({"spread": Reverting(), "day": OfTheDay(), "gaps": Gaps()})
    both = other.online(share=0.002)
    data = minutes()
    for t in range(TRAIN, TRAIN + 3):
        values = data.prices.iloc[t]
        gaps = dict(zip(data.gap_names, data.gaps[t], strict=True))
        tick = both.update(y=values["Y"], x=[values["X"]], dt=data.dt[t], gaps=gaps)
    assert both.draws == other.online().draws + 16
    assert np.isfinite(tick.sd_total["X"])
    walk = both.arguments()["drift"].noise[0, 0]
    memory = np.exp(np.log(q_to_memory(walk)) @ both.weights)
    assert_allclose(tick.memory["X"], memory, rtol=1e-9)  # of the part that walks
