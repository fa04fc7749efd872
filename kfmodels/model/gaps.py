"""Closed periods between rows: the sites of their worth, and their effect on every row."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from kfmodels._types import Array, Float
from kfmodels.data.hedge_data import HedgeData
from kfmodels.model.assumptions import Gaps, Multiplier

GAP_SHARE = 0.3
"""Prior median of a closed period, as a share of the open time between two of them.

From close to open the stocks of French and Roll (1986) and Hansen and Lunde (2005) move with a fifth to
a third of the variance of a day, a whole weekend hardly more than a night.
"""

GAP_LOG_SD = 1.5
"""Prior sd of the log of `gap_bars`: a night may be worth a minute or a day of one-minute bars."""


def kinds(gaps: Gaps | None, data: HedgeData) -> tuple[str, ...]:
    """The kinds of closed periods that a model tells apart in the data, in the order of its sites.

    Raises:
        ValueError: the data know of no closed periods, or of others than the model names.
    """
    if gaps is None:
        return ()
    there = data.gap_names
    if not there:
        why = "has no clock" if data.clock is None else "has a clock without closed periods"
        raise ValueError(
            f"the model has gaps=Gaps(...), but the data of {data.target} {why}: say when the market "
            "is closed, HedgeData.from_prices(..., clock=...), or leave gaps out"
        )
    named = gaps.kinds
    if named is None:
        return there
    if set(named) != set(there):
        raise ValueError(
            f"Gaps names {', '.join(named)}, but the clock of the data knows {', '.join(there)}: name "
            "each of these once"
        )
    return named


def check_none(gaps: Gaps | None, day: str = "") -> None:
    """Raise where the model of many pairs has gaps, or goes by the time of day, as its `day` says."""
    if day:
        raise ValueError(
            f"fit_many has no clock, so its model can have no {day}: leave it out, or fit pair by "
            "pair, fit(HedgeData.from_prices(..., clock=...), model)"
        )
    if gaps is not None:
        raise ValueError(
            "fit_many has no clock, so its model can have no gaps=Gaps(...): leave them out, or fit "
            "pair by pair, fit(HedgeData.from_prices(..., clock=...), model)"
        )


def counts(gaps: Gaps | None, data: HedgeData) -> Float[np.ndarray, "time gap"] | None:
    """Closed periods crossed before each row, `(time, gap)`, in the order of `kinds`."""
    return columns(data, kinds(gaps, data)) if gaps is not None else None


def columns(data: HedgeData, names: tuple[str, ...]) -> Float[np.ndarray, "time gap"]:
    """The columns of `data.gaps` with these names."""
    return data.gaps[:, [data.gap_names.index(name) for name in names]]


def between(data: HedgeData) -> float:
    """Open bars between two closed periods, on average."""
    return float(data.dt.sum() / max(data.gaps.sum(), 1.0))


def sites(
    gaps: Gaps | None, counts: Float[Array, "time gap"] | None, unit: Float[Array, ""] | None
) -> dict[str, Float[Array, "gap"]]:
    """Sample `gap_bars` and `gap_noise`, `(gap,)`, or record them where they are fixed."""
    if gaps is None or counts is None or unit is None:
        return {}
    bars = gaps.bars
    if bars is None:
        bars = dist.LogNormal(jnp.log(GAP_SHARE * unit), GAP_LOG_SD)
    number = counts.shape[-1]
    return {
        "gap_bars": _site("gap_bars", bars, number),
        "gap_noise": _site("gap_noise", gaps.noise, number),
    }


def _site(name: str, given: Multiplier, number: int) -> Float[Array, "gap"]:
    if isinstance(given, dist.Distribution):
        return jnp.asarray(numpyro.sample(name, given.expand((number,)).to_event(1)))
    if not isinstance(given, (tuple, Mapping)):
        return jnp.asarray(numpyro.deterministic(name, jnp.full(number, given, float)))
    parts = [
        numpyro.sample(f"{name}_{kind}", one)
        if isinstance(one, dist.Distribution)
        else jnp.asarray(one, float)
        for kind, one in dict(given).items()
    ]
    return jnp.asarray(numpyro.deterministic(name, jnp.stack(parts)))


def by_row(
    gaps: Gaps | None,
    counts: Float[Array, "*#draws time gap"] | None,
    sites: Mapping[str, Float[Array, "..."]],
    anew: Float[np.ndarray, "coef"] | None = None,
) -> dict[str, Float[Array, "..."]]:
    """`gap_time (*draws, time, 1)` and `obs_factor (*draws, time)` of `KalmanRegression`.

    `gap_time` is the worth in bars of the closed periods before each row, `obs_factor` the factor on
    its observation variance. `anew` are further bars by state, which give `gap_time` that axis.
    """
    if gaps is None or counts is None:
        return {}
    found = {"gap_time": (counts * sites["gap_bars"][..., None, :]).sum(-1, keepdims=True)}
    if anew is not None:
        found["gap_time"] = found["gap_time"] + counts.sum(-1, keepdims=True) * anew
    if not (np.isscalar(gaps.noise) and gaps.noise == 1):  # a factor of 1 would only cost time
        factors = jnp.log(sites["gap_noise"])[..., None, :]
        found["obs_factor"] = jnp.exp((counts * factors).sum(-1))
    return found
