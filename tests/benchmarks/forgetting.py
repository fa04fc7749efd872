"""How fast a mixture over noise settings should forget: `python -m tests.benchmarks forgetting`.

Two questions, each for six forgetting factors. On 28 pairs of real ETFs, noise inferred from the first
500 days: what is the log score of the other 1641 days, for the draws of the posterior, for explorers on
a grid of speeds, and for both together? And where the speed of a simulated ratio jumps: how soon does
the mixture know?

A draw's state does not depend on the weights. Each pair is therefore filtered once; every factor then
weighs the same log densities.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kfmodels import Discounted, HedgeData, ImportanceSampling, fit, hedge_ratio_model
from kfmodels.data import datasets
from kfmodels.evaluate.compare import standard_error
from kfmodels.kalman import motion, step
from kfmodels.kalman import noise as noises
from kfmodels.kalman.coordinates import Coordinates
from kfmodels.model.memory import memory_to_q, q_to_memory
from kfmodels.online.filter import OnlineFilter
from tests.benchmarks.report import Report, Table, numbered

WHAT = (
    "Each draw of the noise has a weight, and old evidence is forgotten by a factor a bar. Noise "
    "inferred from 500 days of pairs of ETFs; log score a day of the days after, in units of the "
    "training moves, for the draws of the posterior, for explorers on a grid of speeds, and for "
    "both together. After a simulated jump: bars until the mean memory is within a factor of two of "
    "the new truth (empty: never in 500), share of the last 250 bars where it is, log score gained "
    "a bar over the old truth, and the memory then believed. `go_live` forgets by 0.997."
)

FACTORS = (1.0, 0.999, 0.997, 0.99, 0.98, 0.95)
TRAINING, BURN_IN = 500, 20
BETA_MEMORY, ALPHA_MEMORY = np.geomspace(3, 400, 13), np.array([1.1, 3.0, 20.0])
"""Bars; the grid of the explorers is their product, 39 settings."""

PAIRS = [
    *("EWG/EWQ", "EWU/EWG", "EWQ/EWU", "EWG/VGK", "EWQ/VGK", "EWU/VGK", "VGK/EFA"),
    *("EWJ/EFA", "EWJ/VPL", "EPP/VPL", "VPL/EFA", "EPP/EEM", "FXI/EEM"),
    *("EEM/EFA", "EFA/SPY", "EEM/SPY", "DIA/SPY"),
    *("XLE/XLB", "XLB/SPY", "XLE/SPY", "XLF/SPY", "XLK/SPY", "XLU/SPY", "XLK/DIA"),
    *("TLT/IEF", "LQD/IEF", "TIP/IEF", "BND/IEF"),
]
"""Target/hedge: funds beside their neighbours, their region, the market, or bonds of another length."""


class Run(NamedTuple):
    """What factors did with one set of log densities, arrays `(row,)` and `(row, draw)`."""

    log_score: np.ndarray
    effective: np.ndarray
    log_weights: np.ndarray


def weighed(density: np.ndarray, log_weights: np.ndarray, factor: float) -> Run:
    r"""Weights $w_k \leftarrow w_k^f p(y_t \mid \text{draw } k)$, of densities `(row, draw)`."""
    scores, effective, every = [], [], []
    for row in density:
        log_weights = factor * log_weights
        log_weights = log_weights - np.logaddexp.reduce(log_weights) + row
        scores.append(np.logaddexp.reduce(log_weights))
        log_weights = log_weights - scores[-1]
        effective.append(1 / (np.exp(log_weights) ** 2).sum())
        every.append(log_weights)
    return Run(np.array(scores), np.array(effective), np.array(every))


def densities(engine: OnlineFilter, prices: pd.DataFrame) -> np.ndarray:
    """Log density of every row under every draw, `(row, draw)`; columns are target and hedge."""
    live = OnlineFilter.from_json(engine.to_json() | {"forgetting": 1.0})
    before, found = live.arguments()["log_weights"], []
    for y, x in prices.to_numpy():
        score = live.update(y=y, x=x).log_score
        after = live.arguments()["log_weights"]
        found.append(after - before + score)
        before = after
    return np.array(found)


def explorers(
    x: np.ndarray, y: np.ndarray, coordinates: Coordinates, fading: float | None
) -> dict[str, Any]:
    """Drift, noise, state and `carried` of the grid after the training rows `(row, 1)` and `(row,)`.

    Each setting's observation variance is the mean square of its own standardized innovations. With
    `fading`, a factor a bar, it is where a discounted variance starts.
    """
    memory = np.array(np.meshgrid(BETA_MEMORY, ALPHA_MEMORY)).reshape(2, -1)
    drift = motion.Walk(np.eye(2)[..., None] * memory_to_q(memory))
    draws = memory.shape[1]
    state = step.State(np.zeros((2, draws)), np.repeat(np.eye(2)[..., None] * 1e4, draws, -1))
    looks = []
    for row, value in zip(coordinates.design(x), y - coordinates.offset, strict=True):
        _, state, seen = step.step(state, row[:, None], value, drift)
        looks.append(seen)
    late = looks[BURN_IN:]
    variance = sum(seen.error**2 / seen.var for seen in late) / len(late)
    noise: Any = noises.ConstantVariance(variance)
    carried = None
    if fading is not None:
        each = np.ones(draws)
        noise = noises.DiscountedVariance(variance, each / (1 - fading), each * fading)
        carried = noise.start()
        for seen in late:
            carried = noise.learn(noise.fade(carried, 1.0), seen, 1.0)
    return {"drift": drift, "noise": noise, "state": state, "carried": carried}


def with_explorers(engine: OnlineFilter, data: HedgeData) -> OnlineFilter:
    """The same filter with the grid beside its own draws, half of the weight each."""
    own = engine.arguments()
    fading = None if own["carried"] is None else float(np.median(own["noise"].factor))
    grid = explorers(data.x, data.y, engine.coordinates, fading)
    extra = len(grid["state"].mean[0])
    if fading is not None:  # the floor of a filter that trades
        grid["noise"] = grid["noise"].with_floor(np.full(extra, own["noise"].least.min()))
    weights = np.r_[own["log_weights"] + np.log(0.5), np.full(extra, -np.log(2 * extra))]
    parts = {name: _joined(own[name], part) for name, part in grid.items()}
    return OnlineFilter(**own | parts | {"log_weights": weights})


def filtered(pairs: list[str], model: Any) -> Iterator[tuple[np.ndarray, int]]:
    """Log densities `(row, draw)` of each pair, and how many of the draws are the posterior's.

    In units of the sd of the target's daily move in training.
    """
    prices = datasets.etfs()
    for pair in pairs:
        target, hedge = pair.split("/")
        table = prices[[target, hedge]]
        data = HedgeData.from_prices(table.iloc[:TRAINING], target=target, hedges=[hedge])
        engine = fit(data, model, method=ImportanceSampling(), progress=False).online()
        unit = np.log(np.diff(data.y).std())
        found = densities(with_explorers(engine, data), table.iloc[TRAINING:])
        yield found + unit, engine.draws


def scores(found: list[tuple[np.ndarray, int]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean log score and effective draws by mixture and factor; and the scores a day, over pairs.

    The mixtures are the posterior's draws, the explorers, and both.
    """
    days, effective = {}, {}
    for factor in FACTORS:
        for name, share in (("posterior", 1.0), ("explorers", 0.0), ("both", 0.5)):
            runs = []
            for density, own in found:
                extra = density.shape[1] - own
                start = np.r_[np.full(own, share / own), np.full(extra, (1 - share) / extra)]
                used = start > 0
                runs.append(weighed(density[:, used], np.log(start[used]), factor))
            days[name, factor] = np.mean([run.log_score for run in runs], axis=0)
            effective[name, factor] = np.mean([run.effective.mean() for run in runs])
    daily = pd.DataFrame(days)
    table = pd.DataFrame({"log score": daily.mean(), "draws": pd.Series(effective)})
    return table.rename_axis(["mixture", "factor"]), daily


def after_a_jump(before: float, after: float, seeds: int = 6, rows: int = 1500) -> pd.DataFrame:
    """What the explorers find when a ratio's memory jumps from `before` to `after` bars.

    By factor: `within 2`, the median number of bars until the mean of log memory is within a factor of
    2 of the new truth (inf: never in 500 bars); `stays`, the share of the last 250 bars where it is so;
    `gain`, the log score a day after the jump beyond that of the setting nearest the old truth.
    """
    jump, found = rows - 500, {factor: [] for factor in FACTORS}
    speed = np.where(np.arange(rows) < jump, before, after)
    for seed in range(seeds):
        truth = datasets.simulate(rows, memory=speed, intercept_memory=20.0, seed=seed)
        logs = np.log(truth.prices.to_numpy())
        y, x = logs[:, 0], logs[:, 1:]
        where = Coordinates(truth.pivot.to_numpy(), x.std(0), float(y[:TRAINING].mean()), True)
        grid = explorers(x[:TRAINING], y[:TRAINING], where, None)
        extra = len(grid["state"].mean[0])
        engine = OnlineFilter(
            target="Y",
            hedges=["X1"],
            transform="log",
            coordinates=where,
            log_weights=np.full(extra, -np.log(extra)),
            **grid,
        )
        density = densities(engine, truth.prices.iloc[TRAINING:])
        memory = np.log([q_to_memory(q) for q in np.diagonal(grid["drift"].noise)])
        old = np.abs(memory - np.log([before, 20.0])).sum(1).argmin()
        start = engine.arguments()["log_weights"]
        for factor in FACTORS:
            run = weighed(density, start, factor)
            late = np.exp(run.log_weights[jump - TRAINING :]) @ memory[:, 0]
            near = np.abs(late - np.log(after)) < np.log(2)
            bars = float(near.argmax()) if near.any() else np.inf
            gain = (run.log_score - density[:, old])[jump - TRAINING :].mean()
            found[factor].append((bars, near[-250:].mean(), gain, np.exp(late[-250:].mean())))
    columns = ["within 2", "stays", "gain", "memory"]
    parts = {factor: pd.DataFrame(rows, columns=columns) for factor, rows in found.items()}
    return pd.DataFrame(
        {
            factor: [part["within 2"].median(), *part[columns[1:]].mean()]
            for factor, part in parts.items()
        },
        index=columns,
    ).T


def measure(_: list[str]) -> Report:
    """How fast to forget on real prices, and what is found after a simulated jump."""
    tables, remarks = [], []
    for name, noise in (("constant", None), ("discounted", Discounted())):
        model = hedge_ratio_model() if noise is None else hedge_ratio_model(noise=noise)
        table, daily = scores(list(filtered(PAIRS, model)))
        title = f"{len(PAIRS)} pairs, {len(daily)} days, {name} noise"
        tables.append(Table(title, table.reset_index()))
        remarks += [f"{name} noise, {line}" for line in gains(daily)]
    for before, after in ((100.0, 10.0), (10.0, 100.0)):
        title = f"memory of the ratio jumps from {before:g} to {after:g} bars"
        tables.append(
            Table(title, numbered(after_a_jump(before, after).replace(np.inf, np.nan), "factor"))
        )
    return Report("How fast to forget", WHAT, tables, remarks)


def gains(daily: pd.DataFrame) -> list[str]:
    """Of each mixture, what its best factor gains over the live filter's and over not forgetting."""
    found = []
    for mixture in daily.columns.unique(0):
        best = daily[mixture].mean().idxmax()
        for factor in (factor for factor in (1.0, 0.997) if factor != best):
            gain = (daily[mixture, best] - daily[mixture, factor]).to_numpy()
            found.append(
                f"{mixture}: {best:g} is better than {factor:g} by {gain.mean():.4f} nats a day, "
                f"{gain.mean() / standard_error(gain):.1f} standard errors."
            )
    return found


def _joined(one: Any, two: Any) -> Any:
    if one is None:
        return None
    return type(one)(*(np.concatenate(parts, axis=-1) for parts in zip(one, two, strict=True)))
