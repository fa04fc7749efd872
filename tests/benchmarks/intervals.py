"""What 90 % intervals of a ratio and its memory hold on simulated days, and how far forecasts miss."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import norm
from scipy.stats import t as student

from kfmodels import (
    Anchored,
    Constant,
    Discounted,
    HedgeData,
    HedgePairs,
    fit_many,
    hedge_ratio_model,
)
from kfmodels.batch.board import HedgeBoard
from kfmodels.data.arrays import pair_arrays
from kfmodels.kalman.transforms import RETURN
from kfmodels.model.memory import delta_to_q, q_to_memory
from kfmodels.model.priors import HEDGE_MEMORY
from tests.benchmarks.report import Report, Table

ROWS, BURN_IN, BLOCK, SHARE = 600, 50, 16, 4
PERSISTENCE, SHOCK = 0.97, 0.2
"""Of the log variance, an AR(1)."""

WHAT = (
    "Simulated daily pairs of 600 rows: a random-walk ratio whose steps do not depend on the "
    "variance, its memory drawn from the prior of the model, and observations whose log variance "
    "is an AR(1) with coefficient .97 and innovations of .2, or constant. Fitted with the same "
    "walk and each noise. Shares of series whose last ratio, and whose memory, lies in its 90 % "
    "interval, each with its standard error; share of rows, without the first 50, on which the "
    "normal score of the forecast's probability is beyond 3 (.27 % of a perfect forecast), given "
    "the noise inferred from all rows; mean log score a row, which may be compared between noises "
    "on the same series."
)


def measure(count: int) -> Report:
    """`count` series with a variance that moves, under `Anchored`; a fourth for the others."""
    rows = []
    for moving, noise in (
        (True, Anchored()),
        (True, Discounted()),
        (False, Anchored()),
        (False, Discounted()),
        (False, Constant()),
    ):
        some = count if moving and isinstance(noise, Anchored) else max(count // SHARE, 1)
        name = "moves" if moving else "constant"
        row = {"variance": name, "noise": type(noise).__name__, "series": some}
        rows.append(row | _held(Simulated(some, moving), noise))
        print(pd.DataFrame(rows[-1:]).to_string(), flush=True)
    return Report(
        "Intervals on simulated days",
        WHAT,
        [Table("", pd.DataFrame(rows).round(4))],
        part="intervals",
    )


class Simulated:
    """Pairs of simulated prices, with their true last ratios and memories."""

    def __init__(self, count: int, moving: bool, seed: int = 0) -> None:
        key = jax.random.key(seed)
        delta = np.asarray(HEDGE_MEMORY.on_delta().sample(key, (count,)), float)
        q, rng = delta_to_q(delta), np.random.default_rng(seed)
        size = (ROWS, count)
        spread = SHOCK / np.sqrt(1 - PERSISTENCE**2)
        log_var = np.zeros(size)
        if moving:
            log_var[0] = spread * rng.normal(size=count)
            for t in range(1, ROWS):
                log_var[t] = PERSISTENCE * log_var[t - 1] + SHOCK * rng.normal(size=count)
        typical = np.exp(spread**2 / 2) if moving else 1.0
        x = rng.normal(size=size)
        ratio = 1 + np.cumsum(np.sqrt(q * typical) * rng.normal(size=size), 0)
        y = (x * ratio + np.exp(log_var / 2) * rng.normal(size=size)) / 100
        self.memory, self.last = q_to_memory(q), ratio[-1]
        names = [(f"Y{k}", f"X{k}") for k in range(count)]
        moves = {
            n: m for k, (a, b) in enumerate(names) for n, m in ((a, y[:, k]), (b, x[:, k] / 100))
        }
        paths = {name: np.exp(np.r_[0.0, np.cumsum(move)]) for name, move in moves.items()}
        self.pairs = HedgeData.pairs(pd.DataFrame(paths), names, transform="return")


def _held(made: Simulated, noise: Any) -> dict[str, float]:
    """Shares of series and rows within the bounds of a fit with that noise."""
    model = hedge_ratio_model(noise=noise, intercept="none")
    board = fit_many(made.pairs, model, progress=False)
    table = board.table()
    good = table["status"].isin(["ok", "doubted"]).to_numpy()
    found = {}
    for word, low, high, truth in (
        ("ratio", "lower", "upper", made.last),
        ("memory", "memory_lower", "memory_upper", made.memory),
    ):
        inside = (table[low] <= truth) & (truth <= table[high])
        found[f"{word} held"] = inside[good].mean()
        found[f"{word} se"] = inside[good].std() / np.sqrt(good.sum())
    score, density = _forecasts(board, made.pairs)
    found["beyond 3"] = float((abs(score) > 3).mean())
    found["below -3"] = float((score < -3).mean())
    found["log score"] = float(density.mean())
    return found | {"failed": int((~good).sum())}


def _forecasts(board: HedgeBoard, pairs: HedgePairs) -> tuple[np.ndarray, np.ndarray]:
    """Normal score and log density of every forecast, under the draws of each pair, `(row, pair)`."""
    model = board.model
    names, arrays = board.fitted(model.parameters, None)
    places = dict(zip(pairs.names, pairs.pairs, strict=True))
    scores, densities = [], []
    for first in range(0, len(names), BLOCK):
        legs = [places[name] for name in names[first : first + BLOCK]]
        tables = (pairs.prices[list(side)].to_numpy().T for side in zip(*legs, strict=True))
        inputs, _ = model.inputs_of_pairs(pair_arrays(*tables, RETURN))
        each = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, 1), inputs)
        sites = {site: array[first : first + BLOCK, :-1] for site, array in arrays.items()}
        with jax.enable_x64(True):
            passed = jax.device_get(model.regression(each, **sites).filter(each.y))
        z = passed.error / np.sqrt(passed.forecast_var)
        below = norm.cdf(z) if passed.dof is None else student.cdf(z, passed.dof)
        scores.append(ndtri(np.clip(below.mean(1), 1e-12, 1 - 1e-12))[:, BURN_IN:].T)
        mean = np.log(np.exp(passed.log_density).mean(1))
        densities.append(mean[:, BURN_IN:].T)
    return np.concatenate(scores, 1), np.concatenate(densities, 1)
