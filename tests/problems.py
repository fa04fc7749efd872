"""What many tests are posed on: one series of real prices, and fits that cost no sampling.

Programs are compiled by shape, so tests that can use `ROWS` rows of the same prices. The draws of
`unsampled` are the prior's, handed on as if they were the posterior's: they are vague and disagree with
each other, which is what a test of mixing wants.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr
from numpyro import handlers

from kfmodels import NUTS, Constant, HedgeData, HedgeFit, datasets, fit, hedge_ratio_model
from kfmodels.sampling.posterior import Draws

ROWS = 120

type Sites = dict[str, np.ndarray]


def stock_prices(rows: int = ROWS) -> pd.DataFrame:
    """The first rows of 2015 of KO, PEP and SPX, without a gap."""
    return datasets.stocks()[["KO", "PEP", "SPX"]].loc["2015":].iloc[:rows].copy()


def stocks_between(
    first: str,
    last: str,
    *,
    target: str = "KO",
    hedges: Sequence[str] = ("PEP",),
    transform: str = "log",
) -> HedgeData:
    """Real prices from one date until just before another."""
    prices = datasets.stocks()
    data = HedgeData.from_prices(prices, target=target, hedges=hedges, transform=transform)
    return data.after(first).before(last)


def gappy_pair(
    prices: pd.DataFrame | None = None,
    hedges: tuple[str, ...] = ("PEP",),
    transform: Any = "log",
    *,
    rows: int = ROWS,
) -> HedgeData:
    """KO on its hedges; if no prices are given, real ones with three gaps, one in the first row."""
    if prices is None:
        prices = stock_prices(rows)
        prices.iloc[[0, 31], 0] = prices.iloc[20, 1] = np.nan
    return HedgeData.from_prices(prices, target="KO", hedges=hedges, transform=transform)


@dataclass(frozen=True)
class FromPrior(NUTS):
    """An inference method that learns nothing."""

    draws: int = 32
    chains: int = 2
    diverging: float = 0.0
    """Share of the draws that are said to have diverged."""

    def run(self, model: Any, inputs: Any, seed: int, progress: bool) -> Draws:
        with jax.enable_x64(True):
            keys = jax.random.split(jax.random.key(seed), (self.chains, self.draws))
            sites = jax.device_get(_prior(keys, inputs, model=model))
        prior = {name: site.reshape(-1, *site.shape[2:]) for name, site in sites.items()}
        order = np.arange(self.chains * self.draws).reshape(self.chains, self.draws)
        return Draws(sites, {"diverging": order < self.diverging * order.size}, prior)


@dataclass(frozen=True)
class Weighed(FromPrior):
    """Prior draws, and evidence of these odds for a spread that comes back."""

    odds: float = 3.0

    def run(self, model: Any, inputs: Any, seed: int, progress: bool) -> Draws:
        found = super().run(model, inputs, seed, progress)
        evidence = np.log(self.odds) if model.spread is not None else 0.0
        return found._replace(about={"log_evidence": 7.0 + evidence, "log_evidence_mcse": 0.1})


@partial(jax.jit, static_argnames="model")
def _prior(keys: Any, inputs: Any, *, model: Any) -> dict[str, Any]:
    def one(key: Any) -> dict[str, Any]:
        trace = handlers.trace(handlers.seed(model, key)).get_trace(inputs)
        kinds = ("sample", "deterministic")
        return {
            name: site["value"]
            for name, site in trace.items()
            if site["type"] in kinds
            and not site.get("is_observed")  # nor the width of a flat start
        }

    return jax.vmap(jax.vmap(one))(keys)


def unsampled(
    data: HedgeData, *, draws: int = 32, seed: int = 0, odds: float = 3.0, **options: Any
) -> HedgeFit:
    """A fit of `hedge_ratio_model(**options)` whose 2 x `draws` noise draws come from the prior.

    A spread that comes back has these odds.
    """
    method = Weighed(draws=draws, odds=odds) if "spread" in options else FromPrior(draws=draws)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # they have not converged, and need not
        model = hedge_ratio_model(**{"noise": Constant()} | options)
        return fit(data, model, method=method, seed=seed, progress=False)


def least_squares_on_changes(data: HedgeData) -> tuple[np.ndarray, float]:
    """Size of every ratio, its standard error added in squares, and the sd of what is left over."""
    y, x = data.y[data.observed], data.x[data.observed]
    if data.transform == "return":
        y, x = y - y.mean(), x - x.mean(0)
    else:
        y, x = np.diff(y), np.diff(x, axis=0)
    squares = np.linalg.inv(x.T @ x)
    ratio = squares @ x.T @ y
    left = ((y - x @ ratio) ** 2).mean()
    return np.sqrt(ratio**2 + left * np.diagonal(squares)), float(np.sqrt(left))


def assert_same_fit(one: HedgeFit, two: HedgeFit) -> None:
    """The same tree, and the same tables and filters made of it."""
    xr.testing.assert_identical(one.tree, two.tree)
    tables = [partial(HedgeFit.hedge_ratio, kind=kind) for kind in ("filtered", "smoothed")]
    for table in [*tables, HedgeFit.spread, HedgeFit.hedge_shares, HedgeFit.summary]:
        pd.testing.assert_frame_equal(table(one), table(two), check_exact=True, check_freq=False)
    assert (one.target, one.hedges, one.coef) == (two.target, two.hedges, two.coef)
    assert one.fit_until == two.fit_until
    assert type(one.fit_until) is type(two.fit_until)
    for draws in {1, one.tree["mixture"].sizes["noise_draw"]}:
        assert one.online(draws=draws).to_json() == two.online(draws=draws).to_json()


def hedge_case(
    data: HedgeData, q: Any, obs_scale: float, *, pivot: Any = None, intercept: str = "random_walk"
) -> dict[str, Any]:
    """What `hedge_ratio_model` documents, for `reference.loop`: columns [hedges - pivot..., 1]."""
    x, y = data.x[data.observed], data.y[data.observed]
    n = x.shape[1] + (intercept != "none")
    if intercept == "none":
        pivot = 0.0
    pivot = x.mean(0) if pivot is None else np.broadcast_to(pivot, x.shape[1])
    square = np.append(((x - pivot) ** 2).mean(0), 1.0)[:n]
    level = y.mean() if n > x.shape[1] else 0.0
    return {
        "design": np.column_stack([data.x - pivot, np.ones(len(data))])[:, :n],
        "initial_mean": np.append(np.zeros(x.shape[1]), level)[:n],
        "initial_cov": np.diag(9 * ((y - level) ** 2).mean() / square),
        "obs_var": obs_scale**2,
        "state_var": np.asarray(q)[:n] * obs_scale**2 / square,
        "observed": data.observed,
        "dt": data.dt,
    }


def altered(method: type[NUTS], change: Callable[[Sites], Sites]) -> type[NUTS]:
    """The method with draws of some sites replaced by what `change` makes of all."""

    class Altered(method):
        def run(self, model: Any, inputs: Any, seed: int, progress: bool) -> Draws:
            draws = super().run(model, inputs, seed, progress)
            return draws._replace(sites=draws.sites | change(draws.sites))

    return Altered
