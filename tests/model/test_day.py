"""What goes by the time of day: profile and tilt against plain loops and the dense Gaussian."""

from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from kfmodels import Constant, Gaps, HedgeData, fit, fit_many, hedge_ratio_model
from kfmodels.clock.clock import Clock
from kfmodels.clock.day import DayVariance
from kfmodels.clock.sessions import Sessions
from kfmodels.fitting import tree as trees
from kfmodels.model import OfTheDay, Profile, Tilt
from tests import reference
from tests.closeness import scaled_close

pytestmark = pytest.mark.slow

ZONE, BAR = "America/New_York", 30
DATES = pd.bdate_range("2024-11-26", periods=5)
HALF = pd.Timestamp("2024-11-29")
OPENS = [day + pd.Timedelta("9h30min") for day in DATES]
CLOSES = [day + pd.Timedelta(hours=13 if day == HALF else 16) for day in DATES]
CLOCK = Clock(f"{BAR}min", Sessions.of(OPENS, CLOSES, zone=ZONE), zone=ZONE)
SITES = {
    "q": np.array([[1e-3], [0.0]]),
    "obs_scale": np.array([1e-3, 2e-3]),
    "gap_bars": np.array([[20.0, 3.0], [0.0, 1.0]]),
    "gap_noise": np.ones((2, 2)),
    "day_half_life": np.array([5.0, 20.0]),
    "day_sd": np.array([[2e-4], [1e-4]]),
    "tilt_sd": np.array([[3e-4], [5e-4]]),
    "profile_fall": np.array([0.7, 0.9]),
    "profile_rise": np.array([-0.3, 1.5]),
    "profile_first": np.array([1.0, 2.5]),
}


def stamps() -> list[pd.Timestamp]:
    """The opening print and the end of every bar."""
    return [
        at
        for o, c in zip(OPENS, CLOSES, strict=True)
        for at in pd.date_range(o, c, freq=f"{BAR}min")
    ]


def moves(transform: str = "return", seed: int = 0) -> HedgeData:
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.normal(0, 0.004, len(stamps())))
    y = 1.3 * x + np.cumsum(rng.normal(0, 0.003, len(x)))
    frame = pd.DataFrame({"Y": np.exp(y), "X": np.exp(x)}, pd.DatetimeIndex(stamps()))
    frame.iloc[[7, 28], 0] = np.nan
    return HedgeData.from_prices(frame, target="Y", hedges=["X"], transform=transform, clock=CLOCK)


def by_hand(at: pd.Timestamp, fall: float, rise: float, first: float) -> float:
    """The profile of the bar that ends then, over the mean of a whole day of 13 bars."""

    def shape(since: float, length: float) -> float:
        tau = since - BAR / 2
        return (1 + tau / 5) ** -fall * np.exp(rise * np.exp(-(length - tau) / 15))

    whole = np.mean([shape(BAR * n, 390.0) for n in range(1, 14)])
    since = (at - at.normalize()).total_seconds() / 60 - 570
    length = 210.0 if at.normalize() == HALF else 390.0
    return shape(since, length) / whole * (first if since <= BAR else 1.0)


def test_the_profile_is_the_formula_bar_by_bar_and_has_mean_one_over_a_day():
    rows = [at for at in stamps() if at not in OPENS]
    constants = [np.array([0.85, 0.2]), np.array([1.5, -0.4]), np.array([2.0, 1.0])]
    law = DayVariance.of(*constants, CLOCK.session_days())
    for number, (fall, rise, first) in enumerate(zip(*constants, strict=True)):
        found = [law.factor(CLOCK.day(at))[number] for at in rows]
        assert_allclose(found, [by_hand(at, fall, rise, first) for at in rows], rtol=1e-12)
        assert_allclose(np.mean(found[1:13]) * 12 / 13, 1 - found[0] / first / 13, rtol=1e-12)
    many = law.factor(CLOCK.days(pd.DatetimeIndex(rows))[:, None])
    assert_allclose(many, [law.factor(CLOCK.day(at)) for at in rows], rtol=1e-14)


@pytest.mark.parametrize("day", [None, OfTheDay()], ids=["", "day"])
def test_the_density_is_that_of_the_dense_gaussian(day: OfTheDay | None):
    model = hedge_ratio_model(
        intercept="none", gaps=Gaps(), profile=Profile(), tilt=Tilt(), day=day, noise=Constant()
    )
    data = moves()
    needed = {key: value for key, value in SITES.items() if key in model.parameters}
    with jax.enable_x64(True):
        inputs = model.inputs(data)
        found = model.log_likelihood(inputs, **needed)
    since = [(at - at.normalize()).total_seconds() / 60 - 570 for at in data.index]
    tilt = np.exp(-(np.array(since) - BAR / 2) / 60)
    x = np.asarray(inputs.design)[:, 0]
    for k in range(2):
        one = {key: value[k] for key, value in SITES.items()}
        v = one["obs_scale"] ** 2
        moved = data.dt + data.gaps @ one["gap_bars"]
        kept = np.where(data.gaps.sum(1) > 0, 0.0, 2.0 ** (-moved / one["day_half_life"]))
        held, var = one["day_sd"][0] ** 2, one["tilt_sd"][0] ** 2
        n = 3 if day else 2
        factors = [
            by_hand(at, one["profile_fall"], one["profile_rise"], one["profile_first"])
            for at in data.index
        ]
        case: reference.Case = {
            "design": np.column_stack([x, x * tilt, x])[:, :n],
            "initial_mean": np.zeros(n),
            "initial_cov": np.diag([inputs.start_cov[0, 0], var, held][:n]),
            "obs_var": v,
            "obs_factor": np.array(factors),
            "observed": data.observed,
        }
        added = np.column_stack([one["q"][0] * v * moved, 0 * moved, held * (1 - kept**2)])[:, :n]
        stay = np.column_stack([np.ones((len(x), 2)), kept])[:, :n]
        dense = reference.dense(case, added[:, :, None] * np.eye(n), stay)
        scaled_close(found[k], dense.log_prob(np.asarray(inputs.y)), 1e-8)


def test_the_ratio_to_hold_is_that_of_the_next_bar():
    """Where nothing moves it is what the next row is forecast with; overnight there is no tilt."""
    fixed: Any = {"delta": 0.0, "obs_scale": 2e-3, "intercept": "none"}
    model = hedge_ratio_model(
        **{"noise": Constant()} | fixed, tilt=Tilt(2.0), profile=Profile(0.8, 1.0, 1.0)
    )
    found = fit(moves(), model, progress=False)
    held, used = (found.hedge_ratio(kind)["mean"].to_numpy() for kind in ("filtered", "predicted"))
    opens = found.data.index.isin(OPENS)
    np.testing.assert_allclose(held[:-1][~opens[1:]], used[1:][~opens[1:]], rtol=1e-9)
    # nothing is learnt from an opening print: its ratio has all of the tilt, the one at the close none
    where = trees.coordinates(found.tree)
    with jax.enable_x64(True):
        law, y = trees.posed(found.tree, found.data, trees.stored_sites(found.tree, "plug_in"))
        states = np.asarray(law.filter(y).filtered.mean)[0, : len(held)] / where.scale[0]
    for first in np.flatnonzero(opens):
        ratio, tilt = states[first]
        assert abs(tilt) > 0.01
        assert_allclose(
            held[first - 1 : first + 1], [ratio, ratio + tilt * np.exp(-0.25)], rtol=1e-9
        )
    assert_allclose(found.online().standing().beta["X"], held[-1], rtol=1e-9)


REFUSED = [
    (lambda: Profile(fall=np.inf), "Profile: fall is a NumPyro distribution or a number"),
    (lambda: Profile(first=0.0), "Profile: first is .* and it is positive"),
    (lambda: Profile(first=dist.Normal(0.0, 1.0)), "first: the prior Normal has the support"),
    (lambda: Profile(rise=dist.Normal(np.zeros(2), 1.0)), "rise: the prior has the shape"),
    (lambda: Tilt(size=-1.0), "Tilt: size is a share of the ratio"),
    (lambda: hedge_ratio_model(profile=Tilt(), noise=Constant()), "profile must be Profile"),  # pyright: ignore
    (lambda: hedge_ratio_model(tilt=Profile(), noise=Constant()), "tilt must be Tilt"),  # pyright: ignore
    (
        lambda: fit(
            moves("log"), hedge_ratio_model(intercept="none", tilt=Tilt(), noise=Constant())
        ),
        'a tilt is of moves within the session.*transform="return"',
    ),
    (
        lambda: hedge_ratio_model(profile=Profile(), noise=Constant()).inputs(plain()),
        "has a profile, which goes by the time of day, but the data of Y have no clock",
    ),
    (
        lambda: fit_many(
            HedgeData.pairs(plain().prices, [("Y", "X")]),
            hedge_ratio_model(profile=Profile(), noise=Constant()),
        ),
        "fit_many has no clock, so its model can have no profile",
    ),
]


def plain() -> HedgeData:
    return HedgeData.from_prices(moves().prices, target="Y", hedges=["X"])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "text"), REFUSED, ids=[text[:30] for _, text in REFUSED])
def test_what_cannot_be_is_refused(call: Any, text: str):
    with pytest.raises(ValueError, match=text):
        call()
