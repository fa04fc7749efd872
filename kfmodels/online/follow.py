"""Running an online filter over a table of prices, row by row, as it would have run live."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pandas has no complete types of its own)

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from kfmodels.clock.clock import Clock, Elapsed
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.ticks import Tick
from kfmodels.words.caller import explain_kinds, warn

if TYPE_CHECKING:
    import pandas as pd

    from kfmodels.data.repairs import Repair


@explain_kinds
def follow(
    live: OnlineFilter,
    prices: "pd.DataFrame",
    *,
    clock: Clock | None = None,
    seen: Callable[[Tick], object] | None = None,
    repair: "Repair | None" = None,
) -> "pd.DataFrame":
    """Feed every row of prices to the filter and tabulate what it says after each.

    Args:
        live: the filter; it moves on.
        prices: columns of the target and its hedges, rows later than the last tick of `live`.
        clock: time between the rows, and since the last tick of `live`; of complete rows in one of its
            bars the last stands. Default: that of `live`, and without one every row is a bar.
        seen: called with every `Tick`, for a progress bar or a log.
        repair: of these rows, as for `HedgeData.from_prices`. The filter and all that is tabulated
            are then in the units of the last row.

    Returns:
        One row a tick: `beta X`, `sd_given_noise X`, `sd_total X` for every hedge X (filtered: what
        to hold until the next row), `alpha`, `spread`, `spread_sd`, `z`, `gain`, `log_score`,
        `effective_draws`. Of a model with a spread that comes back also `reversion`, `reversion_sd` and
        `reversion_probability`.

    Raises:
        ValueError: what `HedgeData.from_prices` says of a table, of dates and of columns; a row that
            is not later than the last tick.

    Warns:
        UserWarning: once, of prices that are in doubt, as `HedgeData.from_prices` does.

    Example:
        >>> from kfmodels import HedgeData, NUTS, datasets, fit, follow
        >>> prices = datasets.stocks()[["AAPL", "SPX"]].loc["2019":"2020"]
        >>> data = HedgeData.from_prices(prices, target="AAPL", hedges=["SPX"])
        >>> year = data.before("2020-01-01")
        >>> live = fit(year, method=NUTS(draws=500, chains=2), progress=False).online()
        >>> table = follow(live, prices.loc["2020-01"])
        >>> len(table), bool(table["z"].notna().all())
        (21, True)
    """
    from kfmodels.data.later import read_on

    names = [live.target, *live.hedges]
    last = dict(zip(names, live.last_prices, strict=True)) if live.last_prices is not None else {}
    later, said = read_on(prices, names, last, live.transform, repair)
    if said:
        warn(said)
    if later.changed:
        live.requote(later.changed)
    return follow_rows(live, later.prices, clock=clock, seen=seen)


def follow_rows(
    live: OnlineFilter,
    prices: "pd.DataFrame",
    *,
    clock: Clock | None = None,
    seen: Callable[[Tick], object] | None = None,
) -> "pd.DataFrame":
    """`follow` over rows that were read, with columns [target, hedges...] in the units of `live`."""
    import pandas as pd

    rows, clock = prices.to_numpy(float), live.clock if clock is None else clock
    records: list[dict[str, float]] = []
    # of a bar whose start is not known, as that of the last training row, nothing more is learnt
    bar = None if clock is None or live.at is None else clock.bar_of(live.at)
    start = None
    for at, row in zip(prices.index, rows, strict=True):
        passed = Elapsed(1.0, {})
        if clock is not None:
            now = clock.bar_of(at)
            if now != bar:
                bar, start = now, live.mark()
            elif start is None:
                row = np.full_like(row, np.nan)
            elif not np.isnan(row).any():
                live.back(start)
            if live.at is not None:
                passed = clock.between(live.at, at)
        tick = live.update(y=row[0], x=row[1:], at=at, dt=passed.bars, gaps=passed.gaps)
        records.append(flat(tick))
        if seen is not None:
            seen(tick)
    return pd.DataFrame(records, index=prices.index)


def flat(tick: Tick) -> dict[str, float]:
    """A tick as one row of numbers."""
    row: dict[str, float] = {}
    for name, beta in tick.beta.items():
        row[f"beta {name}"] = beta
        row[f"sd_given_noise {name}"] = tick.sd_given_noise[name]
        row[f"sd_total {name}"] = tick.sd_total[name]
    for word in ("alpha", "spread", "spread_sd", "z", "gain", "log_score", "effective_draws"):
        row[word] = getattr(tick, word)
    if (now := tick.reversion) is not None:
        row["reversion"], row["reversion_sd"] = now.mean, now.sd
        row["reversion_probability"] = now.probability
    return row


def ratios(table: "pd.DataFrame", hedges: tuple[str, ...]) -> "pd.DataFrame":
    """Hedge ratios of a followed table, one column a hedge."""
    import pandas as pd

    return pd.DataFrame({name: table[f"beta {name}"] for name in hedges}, index=table.index)
