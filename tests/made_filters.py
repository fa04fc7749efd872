"""Online filters made by hand, with a known mixture and no sampling."""

from collections.abc import Mapping
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
    target: str = "XLE",
    hedges: tuple[str, ...] = ("SPY",),
    near: Mapping[str, float] = {},
    transform: str = "log",
    draws: int = 8,
    seed: int = 7,
    discounted: bool = False,
    walks: bool = True,
    intercept: bool = True,
    gaps: tuple[str, ...] = (),
    **options: Any,
) -> OnlineFilter:
    """A filter of a target on its hedges that has seen prices near 90 and 500, or `near` others."""
    rng = np.random.default_rng(seed)
    n, each = len(hedges) + intercept, np.ones(draws)
    y, x = near.get(target, 90.0), np.array([near.get(name, 500.0) for name in hedges])
    centre = {"log": np.log(x), "level": x, "return": 0 * x}[transform]
    width = {"log": 0.02 * x / x, "level": 0.02 * x, "return": 0.01 * x / x}[transform]
    offset = {"log": np.log(y), "level": y, "return": 0.0}[transform] if intercept else 0.0
    size = (width * y / x if transform == "level" else width)[0]  # a ratio near one per cent each
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
        target=target,
        hedges=hedges,
        transform=transform,
        coordinates=Coordinates(
            centre if intercept else 0 * x,
            width,
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
        last_prices=np.array([y, *x]),
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


def leg_by_leg(rows: int) -> list[tuple[dict[str, float], datetime]]:
    """Messages of XLE, SPY and USO, one leg every ten seconds of a minute."""
    return [
        ({name: price}, at + number * MINUTE / 6)
        for prices, at in feed(rows, ("SPY", "USO"))
        for number, (name, price) in enumerate(prices.items(), 1)
    ]


def made_board(pairs: tuple[tuple[str, str], ...], **options: Any) -> OnlineBoard:
    """A board of pairs, all of which begin as `made_filter` does."""
    one = made_filter(**options).arguments()
    return board_of(
        {
            f"{target}/{hedge}": OnlineFilter(**one | {"target": target, "hedges": (hedge,)})
            for target, hedge in pairs
        }
    )


def board_of(singles: dict[str, OnlineFilter]) -> OnlineBoard:
    """The board of some filters that stand at the same time."""
    held = [one.arguments() for one in singles.values()]

    def stacked(part: str) -> Any:
        leaves = [one[part] for one in held]
        if leaves[0] is None:
            return None
        # what the draws of a pair share keeps an axis of one
        return type(leaves[0])(*(np.stack(leaf, -2) for leaf in zip(*leaves, strict=True)))

    where = [one["coordinates"] for one in held]
    return OnlineBoard(
        names=list(singles),
        targets=[one["target"] for one in held],
        hedges=[one["hedges"] for one in held],
        transform=held[0]["transform"],
        coordinates=Coordinates(
            np.array([inner.pivot for inner in where]),
            np.array([inner.scale for inner in where]),
            np.array([inner.offset for inner in where]),
            where[0].intercept,
            np.array([inner.unit for inner in where]),
        ),
        drift=stacked("drift"),
        noise=stacked("noise"),
        state=stacked("state"),
        carried=stacked("carried"),
        log_weights=np.stack([one["log_weights"] for one in held]),
        initial_log_weights=np.stack([one["initial_log_weights"] for one in held]),
        share=held[0]["share"],
        shocks=held[0]["shocks"],
        gap_names=held[0]["gap_names"],
        gap_bars=np.stack([one["gap_bars"] for one in held], 1),
        gap_noise=np.stack([one["gap_noise"] for one in held], 1),
        last_prices=np.stack([one["last_prices"] for one in held]),
        holds={name: one["hold"] for name, one in zip(singles, held, strict=True)},
        at=held[0]["at"],
        until=held[0]["until"],
    )


def one_draw(live: OnlineFilter, draw: int) -> OnlineFilter:
    """The filter of one of the draws; what all draws share stays shared."""

    def part(whole: Any) -> Any:
        return whole and type(whole)(
            *(leaf[..., draw : draw + 1] if leaf.shape[-1] > 1 else leaf for leaf in whole)
        )

    held: dict[str, Any] = live.arguments() | {
        "log_weights": np.zeros(1),
        "initial_log_weights": np.zeros(1),
    }
    for name in ("drift", "noise", "state", "carried"):
        held[name] = part(held[name])
    return OnlineFilter(**held)
