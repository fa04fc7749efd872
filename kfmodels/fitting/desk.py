"""From a fit to a filter that a desk leaves running."""

from typing import Any

import numpy as np

from kfmodels.batch.board import HedgeBoard
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.live.feed import LiveFilter
from kfmodels.online.shocks import Quarantine, Shocks


def go_live(
    fitted: HedgeFit | HedgeBoard,
    *,
    draws: int | None = None,
    explorers: int | None = None,
    forgetting: float = 0.997,
    shocks: Shocks | None = Quarantine(),
    **settings: Any,
) -> LiveFilter:
    """A live filter of a fit, or of all pairs of a board: it forgets, explores and doubts prices.

    Args:
        fitted: from `fit`, or from `fit_many`.
        draws: noise draws of a fit, see `HedgeFit.online`; all that are kept unless given.
        explorers: draws added to those of a fit, spread over the prior of the speed; 16, or none where
            the speed is fixed or there is one draw. A board has none.
        forgetting, shocks: see `OnlineFilter`.
        settings: of `LiveFilter`: clock, max_staleness, monitor, journal and so on. The clock is that
            of the data unless given.

    Raises:
        ValueError: as `HedgeFit.online`, `HedgeBoard.online` and `LiveFilter`.

    Example:
        >>> from kfmodels import HedgeData, ImportanceSampling, datasets, fit
        >>> prices = datasets.stocks()[["AAPL", "SPX"]]
        >>> data = HedgeData.from_prices(prices.loc["2019"], target="AAPL", hedges=["SPX"])
        >>> with go_live(fit(data, method=ImportanceSampling(), progress=False)) as live:
        ...     signal = live.tick({"AAPL": 75.09, "SPX": 3257.85}, at="2020-01-02")
        >>> signal.outcome, signal.condition, live.engine.draws
        ('accepted', 'ok', 80)
    """
    if isinstance(fitted, HedgeBoard):
        if explorers or draws:
            raise ValueError(
                "a board has the draws it was fitted with and no explorers: leave both out"
            )
        return LiveFilter(fitted.online(forgetting=forgetting, shocks=shocks), **settings)
    if explorers is None:
        prior: Any = fitted.tree["prior"]["q"]
        fixed = np.ptp(prior.values[..., 0]) == 0
        explorers = 0 if fixed or draws == 1 else 16
    own, clock = fitted.data.clock, settings.setdefault("clock", fitted.data.clock)
    bar = None if own is None else own.bar
    if clock is not None and bar != clock.bar:
        raise ValueError(
            f"the noise was inferred by {bar or 'row'}, but the live clock counts by "
            f"{clock.bar or 'row'}: fit data with that clock, HedgeData.from_prices(..., clock=...)"
        )
    engine = fitted.online(draws=draws, explorers=explorers, forgetting=forgetting, shocks=shocks)
    return LiveFilter(engine, explorers=explorers, **settings)
