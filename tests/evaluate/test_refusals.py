"""What this room refuses, and in which words."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kfmodels import (
    Constant,
    Discounted,
    HedgeData,
    HedgeFit,
    Memory,
    Reverting,
    Scales,
    StateDiscount,
    compare,
    fit,
    follow,
    hedge_effectiveness,
    hedge_ratio_model,
)
from kfmodels.evaluate import (
    calibrate,
    leave_future_out,
    likelihood_surface,
    prior_and_posterior,
    prior_predictive,
    prior_sensitivity,
    prior_summary,
    spread_health,
    static_probability,
    what_if,
)
from kfmodels.evaluate.calibration import Calibration
from kfmodels.evaluate.published import InPriceUnits, chan, palomar, table
from kfmodels.model import Absolute, Diffuse
from tests.problems import ROWS, stock_prices, unsampled

pytestmark = pytest.mark.slow

PRICES = stock_prices(2 * ROWS)
LATER = PRICES.iloc[ROWS:]
MODEL = hedge_ratio_model(noise=Constant())
FIXED = {"delta": {"beta": 1e-4, "alpha": 0.5}, "obs_scale": 0.008}


@cache
def data(target: str = "KO", hedge: str = "PEP") -> HedgeData:
    return HedgeData.from_prices(PRICES.iloc[:ROWS], target=target, hedges=[hedge])


def first(rows: int) -> HedgeData:
    """Rows too few to be made as data, but left over by a cut."""
    return data().before(data().index[rows])


@cache
def certain(target: str = "KO", hedge: str = "PEP") -> HedgeFit:
    """A fit of fixed noise."""
    return fit(
        data(target, hedge), hedge_ratio_model(**{"noise": Constant()} | FIXED), progress=False
    )


@cache
def vague(intercept: Any = "static", **options: Any) -> HedgeFit:
    return unsampled(data(), draws=16, intercept=intercept, **options)


def worth(train: int = ROWS, prices: pd.DataFrame = PRICES, **options: Any) -> pd.DataFrame:
    chosen = {"target": "KO", "hedges": ["PEP"], "train": train} | options
    return hedge_effectiveness(prices, **chosen)


def holed(every: int) -> pd.DataFrame:
    """Prices whose target is seen in one of some later rows."""
    prices = PRICES.copy()
    prices.iloc[ROWS:, 0] = prices.iloc[ROWS:, 0].where(np.arange(ROWS) % every == 0)
    return prices


def made(kept: int = 99) -> Calibration:
    """200 simulations without a result worth looking at."""
    ranks = pd.DataFrame({"obs_scale": np.arange(200) % (kept + 1)})
    below = pd.DataFrame({"KO": np.linspace(0, 1, 200)})
    return Calibration(ranks, kept, below, below < 0.9, pd.DataFrame())


def gappy() -> HedgeFit:
    prices = PRICES.iloc[:ROWS].copy()
    prices.iloc[::2, 1] = np.nan
    pair = HedgeData.from_prices(prices, target="KO", hedges=["PEP"])
    return fit(pair, hedge_ratio_model(**{"noise": Constant()} | FIXED), progress=False)


def twice() -> HedgeData:
    prices = PRICES[["KO"]].assign(TWICE=lambda frame: 2 * frame["KO"] + 1)
    return HedgeData.from_prices(prices, target="TWICE", hedges=["KO"], transform="level")


ORDER = "give HedgeData, then what hedge_ratio_model made; not"
NO_FIT = r"no HedgeFit, made by fit\(data, model\), but"
NO_PRIOR = "all noise of KO on PEP was fixed, so there is no prior to ask about"
REFIT = "the stored draws cannot answer for it, refit"

CASES: dict[str, list[tuple[Callable[[], Any], str]]] = {
    "order": [
        (lambda: calibrate(MODEL, data()), ORDER),
        (lambda: prior_summary(MODEL, data()), ORDER),
        (lambda: prior_predictive(MODEL, data()), ORDER),
        (lambda: spread_health(data()), NO_FIT),
        (lambda: prior_and_posterior(data()), NO_FIT),
        (lambda: prior_sensitivity(data()), NO_FIT),
        (lambda: compare({"mine": data()}, LATER), "mine is no HedgeFit"),
        (
            lambda: what_if(vague(), data()),
            "what_if takes another model, made by hedge_ratio_model",
        ),
    ],
    "calibrate": [
        (
            lambda: calibrate(data(), hedge_ratio_model(initial=Diffuse(), noise=Constant())),
            r"nothing can be drawn from Diffuse\(\).*initial=Weak\(\)",
        ),
        (lambda: calibrate(data(), MODEL, simulations=19), "must be at least 20, not 19"),
        (lambda: calibrate(data(), MODEL, seed=-1), "seed is a whole number.*not -1"),
        (lambda: calibrate(data(), MODEL, seed=2**32), "seed is a whole number.*not 4294967296"),
        (lambda: calibrate(first(9), MODEL), "only 9 common rows of KO and PEP"),
        *(
            (lambda bins=bins: made().table(bins), f"between 2 and 40 for 200.*not {bins}")
            for bins in (0, 1, 41)
        ),
        (lambda: made(kept=30).table(32), "between 2 and 31"),
    ],
    "priors": [
        (lambda: prior_predictive(data(), MODEL, draws=19), "draws=19 are too few.*20 at least"),
        (
            lambda: prior_predictive(first(21), MODEL),
            "21 rows are too few for paths: give more than 21",
        ),
        (lambda: prior_sensitivity(certain()), NO_PRIOR),
        (lambda: what_if(certain(), MODEL), NO_PRIOR),
        *(
            (
                lambda o=o: what_if(vague(), hedge_ratio_model(**{"noise": Constant()} | o)),
                f"the new model {text}: {REFIT}",
            )
            for o, text in (
                ({}, "also infers delta_alpha"),
                ({"intercept": "static", "obs_scale": 0.01}, "does not infer obs_scale"),
                (
                    {"intercept": "static", "drift": StateDiscount()},
                    "has another number of delta_beta",
                ),
                (
                    {"intercept": "static", "noise": Discounted()},
                    "also infers variance_memory",
                ),
            )
        ),
        *(
            (call, "answers for draws of one model, but spread=Reverting.* is weighed")
            for call in (
                lambda: prior_sensitivity(vague("random_walk", spread=Reverting())),
                lambda: what_if(vague("random_walk", spread=Reverting()), MODEL),
                lambda: what_if(
                    vague(), hedge_ratio_model(spread=Reverting(5, 0.5), noise=Constant())
                ),
            )
        ),
        (
            lambda: what_if(unsampled(data(), draws=8), MODEL),
            "16 draws are too few to reweigh, 25 are needed: refit with more draws",
        ),
    ],
    "static": [
        *(
            (
                lambda prior=prior: static_probability(vague(), prior=prior),
                "prior is a probability between 0 and 1, not",
            )
            for prior in (0.0, 1.0, -0.2, np.nan)
        ),
        (lambda: static_probability(certain()), NO_PRIOR),
        (
            lambda: static_probability(vague("random_walk", drift=Scales())),
            "of KO is a sum of parts",
        ),
        (
            lambda: static_probability(
                unsampled(data(), delta={"beta": 1e-4, "alpha": Memory(2, low=1.5, high=40)})
            ),
            "speed of the ratio of KO was fixed.*give delta a prior",
        ),
    ],
    "landscape": [
        (
            lambda: likelihood_surface(data(), hedge_ratio_model(**{"noise": Constant()} | FIXED)),
            "speed of the ratio is fixed in this model.*delta a prior",
        ),
        (
            lambda: likelihood_surface(
                data(),
                hedge_ratio_model(
                    delta={"beta": Absolute(Memory(60, 5, 700)), "alpha": 0.5}, noise=Constant()
                ),
            ),
            "an Absolute delta has no memory of its own to scan",
        ),
        (
            lambda: likelihood_surface(data(), hedge_ratio_model(drift=Scales(), noise=Constant())),
            r"on several scales \(Scales\) has no memory of its own to scan: use RandomWalk\(\)",
        ),
        (lambda: likelihood_surface(data(), hedge="SPX"), "SPX is not among the hedges: PEP"),
        (
            lambda: likelihood_surface(data(), points=(2, 9, 9)),
            "three numbers of grid points, 3 or",
        ),
        *(
            (
                lambda ends=ends: likelihood_surface(data(), memories=ends),
                "memories are bars, 1 < low < high, not",
            )
            for ends in ((1.0, 50.0), (50.0, 5.0), (2.0, np.inf), (np.nan, 5.0))
        ),
    ],
    "compare": [
        (lambda: compare({}, LATER), r"compare takes at least one fit by name: \{name: fit\}"),
        (
            lambda: compare({"a": certain(), "b": certain("PEP", "SPX")}, LATER),
            r"different targets \(KO, PEP\): compare fits of one",
        ),
        (
            lambda: compare({"mine": certain()}, LATER.drop(columns="PEP")),
            "mine cannot be scored: the prices have no column PEP",
        ),
        (
            lambda: compare({"a": certain()}, LATER.iloc[:29]),
            "only 29 rows later than 2015-06-24 have a price of every.*30 are needed",
        ),
        *(
            (
                lambda first=first, horizon=horizon: leave_future_out(
                    vague(), min_observations=first, horizon=horizon
                ),
                f"min_observations={first} and horizon={horizon} do not fit into 120 complete rows",
            )
            for first, horizon in ((29, 1), (120, 1), (119, 2))
        ),
    ],
    "effectiveness": [
        (
            lambda: worth(train=60, models={"ours": certain()}),
            "ours was fitted on prices until 2015-06-24.*but is scored from 2015-03-31",
        ),
        (
            lambda: worth(target="PEP", hedges=["KO"], models={"ours": certain()}),
            "ours hedges KO with PEP, not PEP with KO",
        ),
        (
            lambda: certain().online().predictive(x=np.nan),
            "forecast needs a price of every hedge: PEP",
        ),
        (
            lambda: follow(certain().online(), PRICES[["KO"]]),
            "PEP is not among the 1 columns of the prices; there is KO",
        ),
        (lambda: worth(train=len(PRICES) - 5), "leaves too few on one side"),
        (
            lambda: worth(train="2015-01-12"),
            r"train=2015-01-12, \d of \d+ rows, leaves too few on one side: both need 30",
        ),
        (lambda: worth(train="soon"), "'soon' is no date: give one such as"),
        (lambda: worth(train=0.7), "0.7 is no date: give one such as"),
        (
            lambda: worth(train="2015-06-01", prices=PRICES.reset_index(drop=True)),
            "train is a number of rows, where rows are numbered, not '2015-06-01'",
        ),
        (lambda: worth(prices=holed(2)), "too many gaps"),
        *(
            (lambda name=name: worth(models={name: certain()}), f"cannot be called {name!r}")
            for name in ("none", "static OLS on changes")
        ),
        *(
            (lambda a=a: worth(risk_aversion=a), "risk_aversion must be positive and finite")
            for a in (0.0, -1.0, np.inf, np.nan)
        ),
        (lambda: spread_health(gappy()), "only 0 neighbouring rows of KO and PEP .* needs 20"),
    ],
    "published": [
        (
            lambda: table(first(100), {"mine": certain()}),
            r"mine was fitted on HedgeData\(KO on PEP; log; 120",
        ),
        (lambda: table(data(), {"Chan (2013)": certain()}), r"cannot be called 'Chan \(2013\)'"),
        *(
            (
                lambda burn_in=burn_in: chan().implies(data(), burn_in=burn_in),
                "two of the 120 rows of KO on PEP: give 0 to 118",
            )
            for burn_in in (-1, 119)
        ),
        *((lambda d=d: chan(d), "delta lies between 0 and 1") for d in (0, 1, -0.1)),
        (lambda: chan(obs_var=0), "obs_var must be positive and finite, not 0"),
        (lambda: palomar(np.nan), "alpha must be positive and finite, not nan"),
        (
            lambda: InPriceUnits(1e-4, 1e-3, start_var=-1),
            "start_var must be positive and finite, not -1",
        ),
        (
            lambda: InPriceUnits(1e-4, 1e-3, start_var=1, start_corr=-2).model(data()),
            "not a covariance",
        ),
        (lambda: palomar().model(twice()), "least squares of TWICE on KO leaves no residual"),
    ],
}


@pytest.mark.parametrize(
    ("call", "text"),
    [pytest.param(*case, id=name) for name, some in CASES.items() for case in some],
)
def test_it_is_refused_in_words(call: Callable[[], Any], text: str):
    with pytest.raises(ValueError, match=text):
        call()


def test_what_is_just_enough_is_not_refused():
    assert len(compare({"a": certain()}, LATER.iloc[:30]).z) == 30
    assert chan().implies(data(), burn_in=118).notna().all()
    assert len(prior_predictive(first(30), MODEL, draws=20).paths["time"]) == 30
