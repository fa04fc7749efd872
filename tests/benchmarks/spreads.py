"""Spreads that come back, on real twins and famous pairs: `python -m tests.benchmarks spreads`.

What maximum likelihood gains by an AR(1) spread beside a level that walks, and what `fit` then says of
it; which law of motion forecasts best; and how often the interval of the half-life holds a half-life
that is known.
"""

import argparse
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.optimize import minimize

from kfmodels import (
    Constant,
    Discounted,
    HedgeData,
    ImportanceSampling,
    KalmanRegression,
    Reverting,
    datasets,
    fit,
    hedge_ratio_model,
)
from kfmodels.evaluate import calibrate, compare_motions
from kfmodels.fitting.fit import FOR_SPREADS
from kfmodels.kalman import scan
from kfmodels.kalman.motion import Reversion
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance
from kfmodels.model.parts import reverting_share
from tests.benchmarks.report import Report, Table
from tests.tables import read_table

ROWS, UNSCORED = 1500, 5
ETF, STOCKS = "etf23_close_2008_2016.csv.gz", "sp500_all_stocks_5yr_close.csv.gz"
PAIRS = {
    "SPY/IVV": "spy_ivv_close.csv",
    "GOOG/GOOGL": STOCKS,
    "DISCA/DISCK": STOCKS,
    "EWC/EWA": "chan_ewa_ewc_close.csv",
    "FOX/FOXA": STOCKS,
    "TIP/IEF": ETF,
    "KO/PEP": STOCKS,
    "XLE/SPY": ETF,
}
"""Target/hedge, and the table they stand in; of SPY/IVV the last rows, of the others the first."""

LAWS = ("SPY/IVV", "EWC/EWA", "KO/PEP", "XLE/SPY")
"""Pairs whose laws of motion are compared."""

WHAT = (
    "Log prices, noise constant and discounted. `gain`: nats that maximum likelihood gains by an AR(1) "
    "spread beside a walking level and ratio, with `half-life` (days) and `R2` (the share of a day's "
    "move of level and spread that comes back) at its top; level and ratio start with variance 1e4 "
    "times the noise, five rows are not scored. Then what `fit` says, with its priors: `P`, the "
    "probability that the spread comes back (odds of one before the data), and the 90 % interval of "
    "the half-life. Laws of motion: log score a day of the second half of the rows behind the best "
    "law, with its standard error, refitted once on the way (`evaluate.compare_motions`, discounted "
    "noise). Half-lives that are known: all parameters drawn from the prior, 500 rows, noise constant; "
    "`held` is the share of 90 % intervals of the half-life that hold the true one."
)


class Peak(NamedTuple):
    """Where a likelihood is largest."""

    log_likelihood: float
    half_life: float
    share: float


def prices_of(pair: str) -> pd.DataFrame:
    """Closes of target and hedge without gaps, `ROWS` at most."""
    table = read_table(PAIRS[pair])[pair.split("/")].dropna()
    return table.iloc[-ROWS:] if pair == "SPY/IVV" else table.iloc[:ROWS]


def pose(pair: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Target, design `[hedge, 1, 1]` and what is observed, of `ROWS` rows; and a first noise sd."""
    y, x = np.log(prices_of(pair).to_numpy()).T
    x = (x - x.mean()) / x.std()
    moves = np.diff(y) - np.polyfit(np.diff(x), np.diff(y), 1)[0] * np.diff(x)
    blank = ROWS - len(y)
    design = np.column_stack([x, np.ones((len(x), 2))])
    rows = np.r_[y, np.zeros(blank)], np.r_[design, np.zeros((blank, 3))]
    return *rows, np.arange(ROWS) < len(y), float(moves.std()) / 2


@partial(jax.jit, static_argnames="learnt")
def log_likelihood(at: Any, rows: Any, spread: Any, *, learnt: bool) -> Any:
    """At the logs of q of ratio, level and spread; logit phi; log noise sd; log memory beyond 4."""
    y, design, observed = rows
    q, phi, var = jnp.exp(at[:3]), 0.999 * jax.nn.sigmoid(at[3]), jnp.exp(2 * at[4])
    step = q[2] * spread
    law = Reversion(
        jnp.diag(q * jnp.array([1.0, 1.0, 0.0])),
        jnp.array([1.0, 1.0, phi]),
        jnp.diag(jnp.array([0.0, 0.0, step / (1 - phi**2)])),
    )
    noise = ConstantVariance(var)
    if learnt:
        noise = DiscountedVariance(var, jnp.asarray(5.0), 1 - 1 / (4 + jnp.exp(at[5])))
    mean = jnp.array([0.0, (y * observed).sum() / observed.sum(), 0.0])
    start = jnp.diag(jnp.array([1e4, 1e4, step / (1 - phi**2)])) * var
    moves = observed.astype(float)  # also into the first row
    series = KalmanRegression(design, mean, start, law, noise, observed=observed, dt=moves)
    return scan.filter(*series.recursion(y)).log_density[UNSCORED:].sum()


def climb(pair: str, *, spread: bool, learnt: bool) -> Peak:
    """The highest of four climbs from different starts."""
    *rows, sd = pose(pair)
    with jax.enable_x64(True):
        rows = tuple(jnp.asarray(part) for part in rows)
        value = jax.value_and_grad(
            lambda at: -log_likelihood(at, rows, spread * 1.0, learnt=learnt)
        )

        def energy(at: np.ndarray) -> tuple[float, np.ndarray]:
            found, slope = value(jnp.asarray(at))
            return float(found), np.asarray(slope)

        bounds = [(-25, 12)] * 3 + [(-3, 9), (-14, 2), (-3, 8)]
        first = np.log(sd)
        starts = np.array(
            [
                [-6, 0, 0, 3, first, 3],
                [-6, -4, 0, 2, first, 3],
                [-6, -8, -1, 4, first, 3],
                [-6, 1, 2, 0, first, 3],
            ]
        )
        tops = [minimize(energy, start, jac=True, bounds=bounds) for start in starts]
    best = min(tops, key=lambda top: top.fun)
    q, phi = np.exp(best.x[:3]), 0.999 / (1 + np.exp(-best.x[3]))
    life = -np.log(2) / np.log(phi)
    return Peak(-best.fun, float(life), float(reverting_share(phi, q[2], q[1])))


def look_at(pair: str, *, learnt: bool) -> dict[str, object]:
    """A line of the table."""
    top, without = (climb(pair, spread=there, learnt=learnt) for there in (True, False))
    target, hedge = pair.split("/")
    data = HedgeData.from_prices(prices_of(pair), target=target, hedges=[hedge])
    noise = Discounted() if learnt else Constant()
    fitted = fit(data, hedge_ratio_model(spread=Reverting(), noise=noise), progress=False)
    life = fitted.half_life()
    return {
        "pair": pair,
        "noise": "discounted" if learnt else "constant",
        "gain": top.log_likelihood - without.log_likelihood,
        "half-life": top.half_life,
        "R2": top.share,
        "P": fitted.tree.attrs["probability"],
        "lower": life["lower"],
        "median": life["median"],
        "upper": life["upper"],
    }


def race(pair: str) -> dict[str, object]:
    """A line of the table of laws: by how much each is behind the best, and its error."""
    target, hedge = pair.split("/")
    data = HedgeData.from_prices(prices_of(pair), target=target, hedges=[hedge])
    table = compare_motions(data, noise=Discounted()).table
    line: dict[str, object] = {"pair": pair, "best": table.index[0], "days": table["bars"].iloc[0]}
    for law in ("walk", "static", "reverting", "scales"):
        behind, error = table.loc[law, ["behind", "behind_se"]]
        line[law] = f"{behind:.4f} ± {error:.4f}" if behind else "best"
    return line


def hold(simulations: int, rows: int = 500, method: ImportanceSampling = FOR_SPREADS) -> pd.Series:
    """Share of 90 % intervals that hold the half-life of spreads that are known to come back.

    All parameters are drawn from the prior, and the target from the model, on the prices of PEP.
    """
    prices = datasets.stocks()[["KO", "PEP"]].loc["2015":].iloc[:rows]
    data = HedgeData.from_prices(prices, target="KO", hedges=["PEP"])
    model = hedge_ratio_model(spread=Reverting(), noise=Constant())
    found = calibrate(data, model, simulations=simulations, method=method, progress=False)
    share = found.ranks["spread_half_life"] / found.kept
    held = float(share.between(0.05, 0.95).mean())
    error = np.sqrt(0.9 * 0.1 / simulations)
    p_value = found.table().loc["spread_half_life", "p_value"]
    numbers = [simulations, held, error, p_value, found.doubtful]
    return pd.Series(numbers, ["simulations", "held", "error", "p of uniform ranks", "few draws"])


def measure(arguments: list[str]) -> Report:
    parser = argparse.ArgumentParser("python -m tests.benchmarks spreads", description=__doc__)
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--laws", nargs="*", default=list(LAWS), choices=list(PAIRS))
    parser.add_argument("--series", type=int, default=200, help="simulated, for the half-life")
    given = parser.parse_args(arguments)
    lines = [look_at(pair, learnt=learnt) for pair in given.pairs for learnt in (False, True)]
    tables = [Table("Real pairs", pd.DataFrame(lines).round(3))]
    laws = [race(pair) for pair in given.laws]
    if laws:
        tables.append(Table("Laws of motion", pd.DataFrame(laws)))
    if given.series:
        table = hold(given.series).round(3).to_frame().T
        tables.append(Table("Half-lives that are known", table))
    return Report("Spreads that come back", WHAT, tables)
