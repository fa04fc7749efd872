"""New noise for a live filter from the rows it has seen: the part of a trading day that needs JAX."""

from concurrent.futures import Executor, Future
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.data.hedge_data import HedgeData
from kfmodels.fitting.fit import fit
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.kalman.density import student_variance
from kfmodels.kalman.step import State
from kfmodels.live.feed import LiveFilter
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.online.filter import OnlineFilter
from kfmodels.sampling.importance import ImportanceSampling
from kfmodels.sampling.nuts import NUTS


def collect_rows(live: LiveFilter, earlier: pd.DataFrame | None = None) -> HedgeData:
    """The rows a live filter remembers, behind those of an earlier table, as data to fit.

    Args:
        live: of one target.
        earlier: prices by date before them, such as those of the first fit, in the units of that time:
            what was rescaled since is applied to them too. Rows that the filter remembers itself are
            left out.

    Raises:
        ValueError: too few rows, or what `HedgeData.from_prices` refuses; a board, whose pairs are
            fitted with `fit_many`.
    """
    engine = live.engine
    if not isinstance(engine, OnlineFilter):
        raise ValueError("the noise of a board is inferred anew with fit_many, not pair by pair")
    rows = live.history()
    index = _times([row["at"] for row in rows], live.clock, earlier)
    table = pd.DataFrame([row["prices"] for row in rows], index=index, columns=list(engine.tickers))
    if earlier is not None:
        before: Any = earlier[list(engine.tickers)] * [
            live.factors.get(n, 1.0) for n in engine.tickers
        ]
        if len(table):
            before = before[before.index < table.index[0]]
        table = pd.concat([before, table])
    return HedgeData.from_prices(
        table.astype(float),
        target=engine.target,
        hedges=engine.hedges,
        transform=engine.transform,  # pyright: ignore[reportArgumentType]
        clock=live.clock,
    )


def _times(stamps: list[Any], clock: Clock | None, earlier: pd.DataFrame | None) -> Any:
    """The index of rows seen: in the zone of the earlier ones, or in UTC; dates stay what they were."""
    if not stamps or isinstance(stamps[0], int):
        return pd.to_datetime(stamps)
    index: Any = pd.to_datetime(stamps, format="ISO8601", utc=True)
    if datetime.fromisoformat(stamps[0]).tzinfo is None:
        return index.tz_localize(None)
    zone = getattr(getattr(earlier, "index", None), "tz", None)
    if zone is not None:
        return index.tz_convert(zone)
    if clock is not None and clock.bar is None and clock.zone is None:
        # offsets change with the season, which no index can hold
        shown = [datetime.fromisoformat(at).replace(tzinfo=None) for at in stamps]
        return pd.DatetimeIndex(shown)
    return index


def carry_over(
    engine: OnlineFilter, fitted: HedgeFit, *, explorers: int | None = None
) -> OnlineFilter:
    r"""The noise of a new fit with the hedge ratio that a filter believes in now.

    Mean and total covariance of the coefficients are the same before and after, to rounding: each new
    draw starts at $m = E[\theta]$ with $P_k v_k = \mathrm{Var}[\theta]$. What changes is how they move
    from here on, and how the next price is judged.

    Args:
        engine: the filter as it stands.
        fitted: the new fit.
        explorers: how many of the filter's draws are explorers, and will be again; None takes those
            beyond the draws that the new fit keeps.

    Raises:
        ValueError: the fit is of other tickers or of another transform.

    Source: moment matching as in Harrison and Stevens (1976), Bayesian forecasting, JRSS B 38.
    """
    most = fitted.tree["mixture"].sizes["noise_draw"]
    explorers = max(0, engine.draws - most) if explorers is None else explorers
    new = fitted.online(draws=min(engine.draws - explorers, most), explorers=explorers)
    if new.tickers != engine.tickers or new.transform != engine.transform:
        raise ValueError(
            f"the fit is of {', '.join(new.tickers)} ({new.transform}), the filter of "
            f"{', '.join(engine.tickers)} ({engine.transform})"
        )
    now, held = engine.state(), new.arguments()
    mean, cov = new.coordinates.from_original(now["mean"], now["cov"])
    carried, noise = held["carried"], held["noise"]
    var = noise.unit(carried) * student_variance(noise.dof(carried), np)
    cov = (cov + cov.T) / 2
    state = State(np.repeat(mean[:, None], new.draws, 1), cov[..., None] / var)
    return OnlineFilter(
        **held
        | {
            "state": state,
            "forgetting": engine.forgetting,
            "shocks": engine.shocks,
            "hold": engine.hold,
            "last_prices": engine.last_prices,
            "at": engine.at,
        }
    )


class Refresh:
    """New noise for a live filter, on its way or in place; made by `refresh`."""

    def __init__(self, live: LiveFilter, future: "Future[HedgeFit]") -> None:
        self.live, self._future, self._factors = live, future, dict(live.factors)
        self._taken = False

    @property
    def done(self) -> bool:
        """Whether the fit is there, or has failed."""
        return self._future.done()

    def take(self) -> HedgeFit:
        """Put the new noise in place, between two ticks; waits for it if it is not there.

        Once it is in place this hands back the fit and changes nothing.

        Raises:
            Exception: what the fit raised; a ValueError if prices were rescaled since it began. The
                filter then goes on with the noise it has.
        """
        fitted = self._future.result()
        if self._taken:
            return fitted
        if self.live.factors != self._factors:
            raise ValueError("prices were rescaled while the noise was inferred: refresh once more")
        engine = self.live.engine
        assert isinstance(engine, OnlineFilter)  # or there had been nothing to fit
        self.live.replace(carry_over(engine, fitted, explorers=self.live.explorers))
        self._taken = True
        return fitted


def refresh(
    live: LiveFilter,
    *,
    model: HedgeRatioModel | None = None,
    method: NUTS | ImportanceSampling = ImportanceSampling(),
    earlier: pd.DataFrame | None = None,
    executor: Executor | None = None,
) -> Refresh:
    """Infer the noise anew from the rows a live filter has seen, and go on with it.

    Args:
        live: a live filter of one target.
        model: what to infer, the default of `fit` unless given; that of the first fit is wise.
        method: how.
        earlier: prices before those the live filter remembers, such as those of the first fit, in the
            units of that time: what was rescaled since is applied to them too.
        executor: infers in a thread or process of any of `concurrent.futures` while the ticks go on
            (processes must be spawned, since JAX has threads); the loop of the ticks asks `.done` and
            puts the noise in place with `.take()`. Without one this waits, and the noise is in place.

    Returns:
        A `Refresh`, whose `take()` hands out the new fit.

    Raises:
        ValueError: too few rows, or what `HedgeData.from_prices` refuses; a board, whose pairs are
            fitted with `fit_many`.

    Example:
        >>> from kfmodels import HedgeData, ImportanceSampling, LiveFilter, datasets, fit
        >>> prices = datasets.stocks()[["AAPL", "SPX"]].loc["2019":"2020"]
        >>> data = HedgeData.from_prices(prices, target="AAPL", hedges=["SPX"])
        >>> fitted = fit(data.before("2020-01-01"), method=ImportanceSampling(), progress=False)
        >>> live = LiveFilter(fitted.online())
        >>> for at, row in prices.loc["2020":"2020-06"].iterrows():
        ...     signal = live.tick(row.to_dict(), at=at)
        >>> before = live.engine.state()["mean"]
        >>> again = refresh(live, model=fitted.model, earlier=data.before("2020-01-01").prices).take()
        >>> bool(np.allclose(live.engine.state()["mean"], before)), str(again.fit_until.date())
        (True, '2020-06-30')
    """
    data = collect_rows(live, earlier)
    if executor is not None:
        return Refresh(live, executor.submit(fit, data, model, method=method, progress=False))
    ready: Future[HedgeFit] = Future()
    ready.set_result(fit(data, model, method=method, progress=False))
    found = Refresh(live, ready)
    found.take()
    return found
