"""Online filters made by hand, with a known mixture and no sampling."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np

from kfmodels.kalman.coordinates import Coordinates
from kfmodels.kalman.motion import Discount, Walk
from kfmodels.kalman.noise import ConstantVariance, DiscountedVariance, Scale
from kfmodels.kalman.step import State
from kfmodels.online.board import OnlineBoard
from kfmodels.online.filter import OnlineFilter

START = datetime.fromisoformat("2024-03-01T09:30:00-05:00")
MINUTE = timedelta(minutes=1)
AT = "2024-02-29T16:00:00-05:00"


def made_filter(
    *,
    hedges: tuple[str, ...] = ("SPY",),
    transform: str = "log",
    draws: int = 8,
    discounted: bool = False,
    walks: bool = True,
    intercept: bool = True,
    gaps: tuple[str, ...] = (),
    **options: Any,
) -> OnlineFilter:
    """A filter of XLE on its hedges that has seen prices near 90 and 500."""
    rng = np.random.default_rng(7)
    n, each = len(hedges) + intercept, np.ones(draws)
    centre = {"log": np.log(500.0), "level": 500.0, "return": 0.0}[transform]
    width = {"log": 0.02, "level": 10.0, "return": 0.01}[transform]
    offset = {"log": np.log(90.0), "level": 90.0, "return": 0.0}[transform] if intercept else 0.0
    size = width * 90 / 500 if transform == "level" else width  # a ratio near one per cent each
    mean = np.zeros((n, draws))
    mean[: len(hedges)] = size * (1 + 0.02 * rng.normal(size=(len(hedges), draws)))
    root = rng.normal(size=(n, n))
    cov = np.repeat((root @ root.T / 50 + np.eye(n) * 0.1)[..., None], draws, -1)
    q = np.exp(rng.normal(-4, 1, (n, draws)))
    drift: Any = Walk(np.eye(n)[..., None] * q)
    if not walks:
        drift = Discount(1 - np.exp(rng.normal(-4, 0.5, draws)), np.ones((n, n, 1)))
    var = (size * 0.3) ** 2 * np.exp(0.2 * rng.normal(size=draws))
    noise: Any = ConstantVariance(var)
    carried = None
    if discounted:
        noise = DiscountedVariance(var, 4 * each, 1 - 1 / (20 + 5 * rng.random(draws)))
        carried = Scale(15 * each, var.copy())
    weights = rng.dirichlet(5 * each)
    return OnlineFilter(
        target="XLE",
        hedges=hedges,
        transform=transform,
        coordinates=Coordinates(
            np.full(len(hedges), centre if intercept else 0.0),
            np.full(len(hedges), width),
            float(offset),
            intercept,
        ),
        drift=drift,
        noise=noise,
        state=State(mean, cov),
        carried=carried,
        log_weights=np.log(weights),
        gap_names=gaps,
        gap_bars=np.exp(rng.normal(2, 1, (len(gaps), draws))) if gaps else None,
        gap_noise=np.exp(rng.normal(0.5, 0.3, (len(gaps), draws))) if gaps else None,
        last_prices=np.array([90.0, *[500.0] * len(hedges)]),
        **{"at": AT, "until": AT, "fit_id": "made by hand"} | options,
    )


def made_prices(rows: int, hedges: tuple[str, ...] = ("SPY",), seed: int = 3) -> np.ndarray:
    """Random walks `(row, 1 + hedges)` that go on from there."""
    rng = np.random.default_rng(seed)
    moves = 0.004 * rng.normal(size=(rows, len(hedges)))
    own = moves.mean(1) + 0.002 * rng.normal(size=rows)
    return np.array([90.0, *[500.0] * len(hedges)]) * np.exp(np.cumsum(np.c_[own, moves], 0))


def feed(rows: int, hedges: tuple[str, ...] = ("SPY",)) -> list[tuple[dict[str, float], datetime]]:
    """The same as messages, a minute apart."""
    names = ("XLE", *hedges)
    return [
        (dict(zip(names, row.tolist(), strict=True)), START + number * MINUTE)
        for number, row in enumerate(made_prices(rows, hedges))
    ]


def made_board(pairs: tuple[tuple[str, str], ...], **options: Any) -> OnlineBoard:
    """A board of pairs, all of which begin as `made_filter` does."""
    one = made_filter(**options).arguments()
    each = len(pairs)

    def every(part: Any) -> Any:
        """The axis of pairs, before that of draws."""
        if part is None:
            return None
        return type(part)(*(np.repeat(leaf[..., None, :], each, -2) for leaf in part))

    where = one["coordinates"]
    return OnlineBoard(
        names=[f"{target}/{hedge}" for target, hedge in pairs],
        targets=[target for target, _ in pairs],
        hedges=[hedge for _, hedge in pairs],
        transform=one["transform"],
        coordinates=Coordinates(
            np.tile(where.pivot, (each, 1)),
            np.tile(where.scale, (each, 1)),
            np.repeat(where.offset, each),
            where.intercept,
        ),
        drift=every(one["drift"]),
        noise=every(one["noise"]),
        state=every(one["state"]),
        carried=every(one["carried"]),
        log_weights=np.tile(one["log_weights"], (each, 1)),
        forgetting=one["forgetting"],
        shocks=one["shocks"],
        last_prices=np.tile(one["last_prices"], (each, 1)),
        at=one["at"],
        until=one["until"],
    )
