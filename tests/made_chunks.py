"""Arrays of a chunk without any inference, for tests of what is done with them."""

from typing import Any

import numpy as np

from kfmodels.batch.chunk import CARRIED, HABIT
from kfmodels.batch.status import FITTED, Status, Verdict
from kfmodels.data.arrays import pair_arrays
from kfmodels.kalman.habits import habits_of

DRAWS = 5


def fit_chunk(
    pairs: Any,
    numbers: list[int],
    model: Any,
    method: Any,
    seed: int,
    *,
    size: int,
    refit: bool = False,
) -> tuple[dict[str, np.ndarray], list[Verdict]]:
    """What `fit_chunk` answers with, of made-up draws around least squares on changes.

    Deterministic by pair; a ticker with a fault fails its pairs.
    """
    rows, verdicts = [], []
    for number in numbers:
        target, hedge = pairs.pairs[number]
        faults = [pairs.faults[name] for name in (target, hedge) if name in pairs.faults]
        verdicts.append(Verdict(Status.UNUSABLE, faults[0]) if faults else FITTED)
        rows.append(None if faults else one_pair(pairs, target, hedge) | of_noise(model))
    made = [row for row in rows if row is not None]
    if not made:
        return {}, verdicts
    empty = {name: np.full_like(value, np.nan, float) for name, value in made[0].items()}
    filled = [row or empty for row in rows]
    arrays = {name: np.stack([row[name] for row in filled]) for name in made[0]}
    return arrays | {"refitted": np.zeros(len(numbers), bool)}, verdicts


def of_noise(model: Any) -> dict[str, Any]:
    """What a variance that moves adds: a memory of 20 rows, and where it stands."""
    if not model.noise.moves:
        return {}
    sites = {"q": np.full((DRAWS + 1, 2), 0.01), "obs_scale": np.full(DRAWS + 1, 0.01)}
    memory = np.full(DRAWS + 1, 20.0)
    carried = model.laws(**sites, variance_memory=memory)[1].start()
    return {
        "variance_memory": memory,
        **{CARRIED.get(name, name): np.asarray(part) for name, part in carried._asdict().items()},
    }


def one_pair(pairs: Any, target: str, hedge: str) -> dict[str, Any]:
    """The arrays of one pair; the last draw is the plug-in."""
    random = np.random.default_rng([*f"{target}/{hedge}".encode()])
    prices = pairs.prices[[target, hedge]].dropna().to_numpy().T
    (arrays,) = pair_arrays(prices[:1], prices[1:], pairs.transform)
    y, x = arrays.y, arrays.x[:, 0]
    dy, dx = np.diff(y), np.diff(x)
    slope = dy @ dx / (dx @ dx)
    habits = habits_of(prices.T, pairs.transform)
    scale, noise = x.std(), (dy - slope * dx).std()
    count = DRAWS + 1
    q = 10 ** random.uniform(-4, -1, (count, 2))
    mean = np.stack([(slope + random.normal(0, 0.05, count)) * scale, np.zeros(count)], 1)
    mean[:, 1] = y[-1] - y.mean() - mean[:, 0] * (x[-1] - x.mean()) / scale
    return {
        "q": q,
        "q_ends": np.quantile(q[:-1], [0.05, 0.5, 0.95], axis=0, method="nearest"),
        "obs_scale": noise * random.uniform(0.5, 1.5, count),
        "mean": mean,
        "cov": np.tile(np.diag([2.0, 1.0]), (count, 1, 1)),
        "pivot": x.mean(),
        "scale": scale,
        "offset": y.mean(),
        "last_y": prices[0, -1],
        "last_x": prices[1, -1],
        "least": np.full(count, noise**2 / 4),
        **{HABIT + name: values for name, values in habits._asdict().items()},
        "spread": noise * random.normal(),
        "spread_sd": noise,
        "half_life": random.uniform(0, 5),
        "static_half_life": random.uniform(10, 90),
        "log_evidence": -len(y) * np.log(noise),
        "log_static": random.normal(0, 5),
        "pareto_k": 0.1,
        "effective_draws": 500.0,
    }
