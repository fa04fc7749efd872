"""Infer the noise of a live filter anew from the rows it has seen; needs JAX, unlike the filter."""

from concurrent.futures import Executor, Future
from datetime import datetime
from functools import partial
from typing import Any

import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.data.hedge_data import HedgeData
from kfmodels.data.repairs import Real, Repair, known_real
from kfmodels.fitting.carry import carry
from kfmodels.fitting.fit import fit
from kfmodels.fitting.grid import COUNT, spreads
from kfmodels.fitting.hedge_fit import HedgeFit
from kfmodels.fitting.tree import assumed
from kfmodels.live.feed import LiveFilter
from kfmodels.model.hedge_ratio import HedgeRatioModel
from kfmodels.online.filter import OnlineFilter
from kfmodels.sampling.importance import ImportanceSampling
from kfmodels.sampling.nuts import NUTS
from kfmodels.words.caller import explain_kinds
from kfmodels.words.progress import wait_for
from kfmodels.words.shown import Shown


def collect_rows(
    live: LiveFilter,
    earlier: pd.DataFrame | HedgeData | None = None,
    repair: Repair | None = None,
) -> HedgeData:
    """The rows a live filter remembers, after those of an earlier table, as data to fit.

    Args:
        live: of one target.
        earlier: prices by date before them in the units of that time, or the data of the first fit
            (then moves that were said to be real stay so): they are converted as the filter has been
            since. Rows that the filter remembers itself are left out.
        repair: of all these rows, as for `HedgeData.from_prices`.

    Raises:
        ValueError: too few rows, or what `HedgeData.from_prices` refuses; a board, whose pairs are
            fitted with `fit_many`.
    """
    engine = live.engine
    if not isinstance(engine, OnlineFilter):
        raise ValueError(
            "the noise of a board is inferred anew with fit_many(pairs), and that of a universe with "
            "hedge_universe(prices), over the longer prices: then .take_over(live)"
        )
    real: Real = ()
    if isinstance(earlier, HedgeData):
        earlier, real = earlier.prices, earlier.real
    rows = live.history()
    index = _times([row["at"] for row in rows], live.clock, earlier)
    table = pd.DataFrame([row["prices"] for row in rows], index=index, columns=list(engine.tickers))
    if earlier is not None:
        before: Any = pd.DataFrame(
            {name: earlier[name].map(partial(live.units.convert, name)) for name in engine.tickers}
        )
        if len(table):
            before = before[before.index < table.index[0]]
        table = pd.concat([before, table])
    return HedgeData.from_prices(
        table.astype(float),
        target=engine.target,
        hedges=engine.hedges,
        transform=engine.transform,  # pyright: ignore[reportArgumentType]
        clock=live.clock,
        repair=known_real(real, repair),
    )


def _times(
    stamps: list[int | str], clock: Clock | None, earlier: pd.DataFrame | None
) -> pd.DatetimeIndex:
    """The index of rows seen: in the zone of the earlier rows, or in UTC; plain dates stay plain."""
    if not stamps or isinstance(stamps[0], int):
        return pd.to_datetime(stamps)
    index = pd.to_datetime(stamps, format="ISO8601", utc=True)
    texts = [str(at) for at in stamps]
    if datetime.fromisoformat(texts[0]).tzinfo is None:
        return index.tz_localize(None)
    zone = getattr(getattr(earlier, "index", None), "tz", None)
    if zone is not None:
        return index.tz_convert(zone)
    if clock is not None and clock.bar is None and clock.zone is None:
        # the offsets change with the season, and an index has one
        shown = [datetime.fromisoformat(at).replace(tzinfo=None) for at in texts]
        return pd.DatetimeIndex(shown)
    return index


def carry_over(engine: OnlineFilter, fitted: HedgeFit) -> OnlineFilter:
    """The noise of a new fit with the present hedge ratio of a filter.

    Mean and total covariance of the coefficients are the same before and after, to rounding: see
    `carry`. Only the speed of the coefficients and the observation variance are new; and how a
    coefficient that is a sum, as of a level and a spread that comes back, is split: as the new fit
    splits it after its last row.

    Args:
        engine: the filter, which is left as it is.
        fitted: the new fit.

    Raises:
        ValueError: the fit is of other tickers or of another transform.
    """
    most = fitted.tree["mixture"].sizes["noise_draw"]
    grid = (
        COUNT if engine.share > 0 and engine.draws > COUNT and spreads(assumed(fitted.tree)) else 0
    )
    new = fitted.online(draws=min(engine.draws - grid, most), share=engine.share)
    if new.tickers != engine.tickers or new.transform != engine.transform:
        raise ValueError(
            f"the fit is of {', '.join(new.tickers)} ({new.transform}), the filter of "
            f"{', '.join(engine.tickers)} ({engine.transform})"
        )
    return carry(new.board, engine.board).filter(engine.target)


class Refresh(Shown):
    """New noise for a live filter, being inferred or in place; made by `refresh`."""

    def __init__(self, live: LiveFilter, future: "Future[HedgeFit]") -> None:
        self.live, self._future, self._units = live, future, live.units
        self._taken = False

    def __str__(self) -> str:
        legs = ", ".join("/".join(pair) for pair in self.live.engine.pairs)
        how = "in place" if self._taken else "ready to take()" if self.done else "being inferred"
        return f"new noise of {legs}: {how}"

    @property
    def done(self) -> bool:
        """Whether the fit has finished or failed."""
        return self._future.done()

    def take(self) -> HedgeFit:
        """Put the new noise in place, between two ticks, waiting for the fit to finish.

        A second call returns the fit and changes nothing.

        Raises:
            Exception: any that the fit raised; ValueError if prices were rescaled since it began. The
                filter then continues with the noise it has.
        """
        fitted = self._future.result()
        if self._taken:
            return fitted
        if self.live.units != self._units:
            raise ValueError("prices were rescaled while the noise was inferred: refresh once more")
        engine = self.live.engine
        assert isinstance(engine, OnlineFilter)  # or there had been nothing to fit
        self.live.replace(carry_over(engine, fitted))
        self._taken = True
        return fitted


@explain_kinds
def refresh(
    live: LiveFilter,
    *,
    model: HedgeRatioModel | None = None,
    method: NUTS | ImportanceSampling = ImportanceSampling(),
    earlier: pd.DataFrame | HedgeData | None = None,
    repair: Repair | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> Refresh:
    """Infer the noise anew from the rows a live filter has seen, and continue with it.

    Args:
        live: a live filter of one target.
        model: as for `fit`; best that of the first fit.
        method: as for `fit`.
        earlier, repair: as for `collect_rows`.
        executor: any of `concurrent.futures`, to infer in a thread or process while ticks arrive
            (processes must be spawned, since JAX has threads); the loop of the ticks asks `.done` and
            puts the noise in place with `.take()`. Without one the call waits and does both.
        progress: say on stderr how far it is, in a terminal or a notebook, where the
            call waits.

    Returns:
        A `Refresh`, whose `take()` returns the new fit.

    Raises:
        ValueError: too few rows, or what `HedgeData.from_prices` refuses; a board, whose pairs are
            fitted with `fit_many`.

    Example:
        >>> import numpy as np
        >>> from kfmodels import HedgeData, ImportanceSampling, LiveFilter, datasets, fit
        >>> prices = datasets.stocks()[["AAPL", "SPX"]].loc["2019":"2020"]
        >>> data = HedgeData.from_prices(prices, target="AAPL", hedges=["SPX"])
        >>> fitted = fit(data.before("2020-01-01"), method=ImportanceSampling(), progress=False)
        >>> live = LiveFilter(fitted.online())
        >>> for at, row in prices.loc["2020":"2020-06"].iterrows():
        ...     signal = live.tick(row.to_dict(), at=at)
        >>> before = live.engine.state()["mean"]
        >>> again = refresh(live, model=fitted.model, earlier=data.before("2020-01-01")).take()
        >>> bool(np.allclose(live.engine.state()["mean"], before)), str(again.fit_until.date())
        (True, '2020-06-30')
    """
    data = collect_rows(live, earlier, repair)
    if executor is not None:
        return Refresh(live, executor.submit(fit, data, model, method=method, progress=False))
    ready: Future[HedgeFit] = Future()
    goes_on = "the live filter goes on with the noise it has; refresh it again for a new one"
    with wait_for("refreshing", shown=progress, kept=goes_on):
        ready.set_result(fit(data, model, method=method, progress=progress))
    found = Refresh(live, ready)
    found.take()
    return found
