"""What this room refuses, and in which words."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpyro.distributions as dist
import pytest

from kfmodels import (
    Constant,
    Discounted,
    Gaps,
    HedgeData,
    Horseshoe,
    Memory,
    Moves,
    StateDiscount,
    fit_many,
    hedge_ratio_model,
)
from kfmodels.clock.clock import Clock
from kfmodels.model import Absolute, Few, Known
from tests.problems import stock_prices

MOVES = Moves(0.05, low=0.01, high=0.2)
PRICES = stock_prices()
DAILY = Clock.hours(
    "00:00", "23:00", zone="UTC", days=range(7), start="2015-01-01", end="2016-01-01"
)


def data(hedges: tuple[str, ...] = ("PEP",), transform: Any = "log", **how: Any) -> HedgeData:
    prices = how.pop("prices", PRICES)
    return HedgeData.from_prices(prices, target="KO", hedges=hedges, transform=transform, **how)


def read(given: HedgeData, **options: Any) -> Any:
    return hedge_ratio_model(**{"noise": Constant()} | options).inputs(given)


TWO = data(("SPX", "PEP"))
FEW = data().before(data().index[8])
CLOSED = data(prices=PRICES.tz_localize("UTC"), clock=DAILY)
OPEN = data(prices=PRICES.tz_localize("UTC"), clock=Clock("1D"))
KINDS = ", ".join(CLOSED.gap_names)
ABSOLUTE = "an Absolute delta needs Constant noise and RandomWalk drift"
SCALE = "obs_scale is a sd: a NumPyro distribution or a positive"
ORDER = (
    "Moves needs 0 < low < share < high (finite), as shares of the ratio itself (0.05 is 5 %); got"
)

OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"delta": {"gamma": 0.1}}, 'delta has the keys "beta" and "alpha", not [\'gamma\']'),
    ({"delta": 1.0}, "delta of beta must lie in [0, 1), not 1.0"),
    ({"delta": {"alpha": -0.1}}, "delta of alpha must lie in [0, 1), not -0.1"),
    ({"delta": {"beta": [0.1, np.nan]}}, "delta of beta must lie in [0, 1)"),
    ({"delta": Absolute(1.5)}, "delta of beta must lie in [0, 1), not 1.5"),
    ({"intercept": "fixed"}, 'intercept must be "random_walk", "static" or "none", not \'fixed\''),
    (
        {"delta": {"alpha": 0.1}, "intercept": "static"},
        'delta["alpha"] has no meaning with intercept="static": leave it out',
    ),
    (
        {"delta": {"alpha": 0.1}, "drift": StateDiscount()},
        'StateDiscount has one memory for all that moves: give delta["beta"] only',
    ),
    ({"intercept": "none", "pivot": 3.0}, "use pivot=0"),
    (
        {"noise": "constant"},
        "noise must be one of Constant(...), Discounted(...), Anchored(...), not 'constant'",
    ),
    (
        {"drift": 0.9},
        "drift must be one of RandomWalk(...), StateDiscount(...), Scales(...), not 0.9",
    ),
    (
        {"initial": 0},
        "initial must be one of Weak(...), Few(...), Known(...), Diffuse(...), Zero(...), not 0",
    ),
    ({"gaps": 3.0}, "gaps must be Gaps(bars=..., noise=...) or None"),
    ({"delta": Absolute(1e-4), "noise": Discounted()}, ABSOLUTE),
    ({"delta": {"beta": Absolute(1e-4)}, "drift": StateDiscount()}, ABSOLUTE),
    *(({"obs_scale": s}, SCALE) for s in (0.0, -1.0, np.inf, Memory(60, low=5, high=700))),
    ({"delta": {"alpha": MOVES}}, "it has no meaning for the intercept; use Memory there"),
    ({"delta": MOVES}, "no meaning for the intercept; use Memory there"),
    (
        {"delta": {"beta": MOVES}, "drift": StateDiscount()},
        "StateDiscount has one memory for all that moves: say it as Memory(...), not as Moves(...)",
    ),
]
MOVES_ORDER = [(0.1, 0.05, 0.2), (0.1, 0.3, 0.2), (0.0, 0.1, 0.2), (0.05, 0.1, np.inf)]
MEMORY_ORDER = [(60, 60, 70), (60, 5, 60), (60, 1.0, 70), (60, 5, np.inf), (np.nan, 5, 70)]
GAPS: list[tuple[dict[str, Any], str]] = [
    ({"bars": -1.0}, "bars is a NumPyro distribution or a number, 0 or more, not -1.0"),
    ({"bars": dist.Normal(3.0, 1.0)}, "bars: the prior Normal has the support of all numbers"),
    ({"bars": dist.LogNormal(np.zeros(2), 1.0)}, "has the shape (2,): state it for one"),
    ({"noise": 0.0}, "noise is a NumPyro distribution or a number, positive, not 0.0"),
    ({"noise": None}, "noise is a NumPyro distribution or a number, positive, not None"),
    ({"bars": {}}, "the dict of bars names no kind"),
    ({"bars": {"overnight": "long"}}, "bars of overnight is a NumPyro distribution or a number"),
    ({"bars": {"night": 3}, "noise": {"weekend": 2}}, "night, noise for weekend: name the same"),
]
CASES: dict[str, list[tuple[Callable[[], Any], str]]] = {
    "Absolute": [
        (
            lambda: hedge_ratio_model(delta={"beta": Absolute(MOVES)}, noise=Constant()),  # pyright: ignore[reportArgumentType]
            "Moves says how far a hedge ratio goes, as a share of itself: it has no meaning for an "
            "Absolute delta; use Memory there",
        )
    ],
    "options": [
        (lambda o=o: hedge_ratio_model(**{"noise": Constant()} | o), text) for o, text in OPTIONS
    ],
    "gaps": [(lambda given=given: Gaps(**given), text) for given, text in GAPS],
    "Moves": [
        (
            lambda low=low, share=share, high=high: Moves(share, low=low, high=high),
            f"{ORDER} low={low}, share={share}, high={high}",
        )
        for low, share, high in MOVES_ORDER
    ]
    + [
        (
            lambda bars=bars: Moves(0.1, low=0.05, high=0.2, bars=bars),
            f"Moves: bars must be positive, not {bars}",
        )
        for bars in (0, -5)
    ]
    + [
        (
            lambda: Moves(5, low=1, high=25),
            "Moves(5) is a ratio that moves by 500% of itself in 21 days: it takes shares below 1; for "
            "5 % say Moves(0.05, low=0.01, high=0.25)",
        ),
        (lambda: Moves(1.0, low=0.5, high=3), "for 1 % say Moves(0.01, low=0.005, high=0.03)"),
    ],
    "Memory": [
        (
            lambda bars=bars, low=low, high=high: Memory(bars, low=low, high=high),
            f"Memory needs 1 < low < bars < high (finite), in bars; got {low=}, {bars=}, {high=}",
        )
        for bars, low, high in MEMORY_ORDER
    ]
    + [
        (lambda: Memory(20, low=4.0, high=90).on_bars(), "raise low=4.0"),
        (lambda: Memory(20, low=4.0, high=90).on_bars(), "lies above 4 bars"),
    ],
    "Horseshoe": [
        (
            lambda bars=bars: Horseshoe(bars),
            f"Horseshoe needs a memory above 1 bar (and finite), not bars={bars}",
        )
        for bars in (1.0, 0.5, np.inf, np.nan)
    ],
    "assumptions": [
        (lambda: Discounted(4.0), "Discounted: memory must be above 4 bars"),
        (lambda: Discounted(Memory(9, low=2, high=30)), "above 4 bars, where its forecasts have"),
        (lambda: Discounted(dof=0), "Discounted: dof must be a positive number, not 0"),
        (lambda: Few(0), "Few: legs is how many hedges may be needed, positive, not 0"),
        (lambda: Few(np.nan), "positive, not nan"),
        (lambda: Known([0.0, 0.0], np.eye(3)), "so cov must be (2, 2), not (3, 3)"),
        (lambda: Known([0.0, 0.0], [[1, 2], [2, 1]]), "eigenvalues [-1.0, 3.0]"),
        (lambda: Known([0.0, 0.0], [[1, 0.5], [0, 1]]), "cov is not a covariance"),
    ],
    "data": [
        (
            lambda: read(TWO, initial=Few(2)),
            "Few: legs=2 must be below the number of hedges, 2 (SPX, PEP): lower it, or use Weak()",
        ),
        (
            lambda: read(TWO, initial=Known([1.0, 0.0], np.eye(2))),
            "2 coefficients, the model 3: SPX, PEP, alpha",
        ),
        (
            lambda: read(TWO, pivot=[1.0, 2.0, 3.0]),
            "pivot has 3 values, but there are 2 hedges: SPX, PEP",
        ),
        (
            lambda: read(TWO, delta={"beta": [0.1, 0.2, 0.3]}),
            "delta of beta lists 3 values, but there are 2 hedges",
        ),
        (
            lambda: read(TWO, delta={"beta": Absolute([0.1])}),
            "delta of beta lists 1 values, but there are 2 hedges",
        ),
        (
            lambda: read(data(prices=PRICES.assign(KO=40.0))),
            "KO never moves: there is nothing to hedge",
        ),
        *(
            (
                lambda t=t: read(data(prices=PRICES.assign(KO=3 * PRICES["PEP"]), transform=t)),
                "KO moves in exact proportion to PEP",
            )
            for t in ("log", "level", "return")
        ),
        (lambda: read(FEW), "only 8 common rows of KO and PEP"),
        (lambda: hedge_ratio_model(noise=Constant())(FEW), "only 8 common rows"),
    ],
    "clock": [
        (lambda: read(data(), gaps=Gaps()), "data of KO has no clock"),
        (lambda: read(data(), gaps=Gaps()), "from_prices(..., clock="),
        (
            lambda: read(OPEN, gaps=Gaps()),
            "has a clock without closed periods",
        ),
        (
            lambda: read(CLOSED, gaps=Gaps(bars={"night": 3.0})),
            f"Gaps names night, but the clock of the data knows {KINDS}",
        ),
        (lambda: data(clock="XNYS"), "clock must be a Clock"),
        (
            lambda: fit_many(
                HedgeData.all_pairs(PRICES),
                hedge_ratio_model(gaps=Gaps(), noise=Constant()),
                progress=False,
            ),
            "fit_many has no clock",
        ),
    ],
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "text"),
    [pytest.param(*case, id=name) for name, some in CASES.items() for case in some],
)
def test_it_is_refused_in_words(call: Callable[[], Any], text: str):
    with pytest.raises(ValueError, match=re.escape(text)):
        call()
