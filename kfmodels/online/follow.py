"""Running an online filter over a table of prices, row by row, as it would have run live."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pandas has no complete types of its own)

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from kfmodels.clock.clock import Clock, Elapsed
from kfmodels.kalman.transforms import transform_of
from kfmodels.online.engine import Engine
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.ticks import Tick
from kfmodels.words.caller import explain_kinds, warn
from kfmodels.words.progress import wait_for

if TYPE_CHECKING:
    import pandas as pd

    from kfmodels.data.repairs import Repair


_TAKEN = "the filter keeps the rows that it has taken; follow the later ones to go on"


@runtime_checkable
class Unattended(Protocol):
    """What `follow` asks of a filter that sees to bad rows itself, as `LiveFilter` does."""

    @property
    def engine(self) -> Engine:
        """What it runs."""
        ...

    def tick(self, prices: Mapping[str, float | None], *, at: Any) -> Any:
        """Answer the prices of one time."""
        ...


@explain_kinds
def follow(
    live: OnlineFilter | Unattended,
    prices: "pd.DataFrame",
    *,
    clock: Clock | None = None,
    seen: Callable[[Any], object] | None = None,
    repair: "Repair | None" = None,
    progress: bool = True,
) -> "pd.DataFrame":
    """Feed every row of prices to the filter and tabulate what it says after each.

    Args:
        live: the filter; it moves on. A `LiveFilter` takes every row as a message from its feed: with
            its own clock, quarantine, monitor, staleness and journal.
        prices: columns of the target and its hedges, rows later than the last tick of `live`.
        clock: time between the rows, and since the last tick of `live`; of complete rows in one of its
            bars the last stands. Default: that of `live`, and without one every row is a bar.
        seen: called with every `Tick`, of a `LiveFilter` with every `Signal`, for a log.
        repair: of these rows, as for `HedgeData.from_prices`. The filter and all that is tabulated
            are then in the units of the last row.
        progress: say on stderr how far it is, in a terminal or a notebook.

    Returns:
        One row a tick: `beta X`, `sd_given_noise X`, `sd_total X` for every hedge X (filtered: what
        to hold until the next row), `alpha`, `spread`, `spread_sd`, `z`, `gain`, `log_score`,
        `effective_draws`. Of a model with a spread that comes back also `reversion`, `reversion_sd` and
        `reversion_probability`. Of a `LiveFilter` also `outcome` and `reason` of the row, the `alarms`
        that it set off and the `condition`, and no numbers where the row was rejected or came before;
        of one with many pairs a row for every pair, with the columns of its tick's `record()`.

    Raises:
        ValueError: what `HedgeData.from_prices` says of a table, of dates and of columns; a row that
            is not later than the last tick (which a `LiveFilter` answers as rejected); a clock or a
            repair for a `LiveFilter`, which needs none.

    Warns:
        UserWarning: once, of prices that are in doubt, as `HedgeData.from_prices` does. Not of a
            `LiveFilter`, which answers to each.

    Example:
        >>> from kfmodels import HedgeData, NUTS, datasets, fit, follow
        >>> prices = datasets.stocks()[["AAPL", "SPX"]].loc["2019":"2020"]
        >>> data = HedgeData.from_prices(prices, target="AAPL", hedges=["SPX"])
        >>> year = data.before("2020-01-01")
        >>> fitted = fit(year, method=NUTS(draws=500, chains=2), progress=False)
        >>> table = follow(fitted.online(), prices.loc["2020-01"])
        >>> len(table), bool(table["z"].notna().all())
        (21, True)
        >>> bad = prices.loc["2020-01"].copy()
        >>> bad.iloc[3, 0] *= 1.3
        >>> follow(fitted.go_live(), bad)["outcome"].iloc[2:5].to_list()
        ['accepted', 'quarantined', 'accepted']
    """
    from kfmodels.data.later import read_on

    if not isinstance(live, OnlineFilter):
        return _replay(live, prices, clock, repair, seen, progress)
    names = [live.target, *live.hedges]
    last = dict(zip(names, live.last_prices, strict=True)) if live.last_prices is not None else {}
    later, said = read_on(prices, names, last, live.transform, repair)
    if said:
        warn(said)
    if later.changed:
        live.requote(later.changed)
    return follow_rows(live, later.prices, clock=clock, seen=seen, progress=progress)


def follow_rows(
    live: OnlineFilter,
    prices: "pd.DataFrame",
    *,
    clock: Clock | None = None,
    seen: Callable[[Tick], object] | None = None,
    progress: bool = False,
) -> "pd.DataFrame":
    """`follow` over rows that were read, with columns [target, hedges...] in the units of `live`."""
    import pandas as pd

    rows, clock = prices.to_numpy(float), live.clock if clock is None else clock
    records: list[dict[str, float]] = []
    # of a bar whose start is not known, as that of the last training row, nothing more is learnt
    bar = None if clock is None or live.at is None else clock.bar_of(live.at)
    start = None
    with wait_for("following", len(rows), shown=progress, compiles=False, kept=_TAKEN) as waiting:
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
            waiting.advance()
            if seen is not None:
                seen(tick)
    return pd.DataFrame(records, index=prices.index)


def _replay(
    live: Unattended,
    prices: "pd.DataFrame",
    clock: Clock | None,
    repair: "Repair | None",
    seen: Callable[[Any], object] | None,
    progress: bool,
) -> "pd.DataFrame":
    """`follow` of a filter that sees to bad rows itself."""
    import pandas as pd

    from kfmodels.data.later import read_on

    for name, given in (("clock", clock), ("repair", repair)):
        if given is not None:
            raise ValueError(
                f"a live filter is followed without a {name}: it has a clock of its own and holds bad "
                f"rows back itself. Leave {name} out, or follow its engine: follow(live.engine, ...)"
            )
    engine = live.engine
    rows = read_on(prices, list(engine.tickers), {}, transform_of(engine.transform), None)[0].prices
    found: list[Any] = []
    with wait_for("following", len(rows), shown=progress, compiles=False, kept=_TAKEN) as row:
        for at, given in zip(rows.index, rows.to_dict("records"), strict=True):
            signal = live.tick({str(name): price for name, price in given.items()}, at=at)
            found.append(_of_pairs(signal) if signal.tick.names else _of_one(signal))
            row.advance()
            if seen is not None:
                seen(signal)
    if found and not isinstance(found[0], dict):
        return pd.concat(found, keys=rows.index)
    return pd.DataFrame(found, index=rows.index)


_NO_ROW = ("rejected", "duplicate")
"""Outcomes of what is no row: what is believed is of another time, perhaps of a later one."""


def _of_one(signal: Any) -> dict[str, Any]:
    """The answer of a live filter of one pair as one row."""
    own = {"outcome": str(signal.outcome), "reason": signal.reason}
    kinds = "; ".join(alarm.kind for alarm in signal.alarms)
    numbers = flat(signal.tick)
    if str(signal.outcome) in _NO_ROW:
        numbers = dict.fromkeys(numbers, np.nan)
    return numbers | own | {"alarms": kinds, "condition": signal.condition}


def _of_pairs(signal: Any) -> "pd.DataFrame":
    """The answer of a live filter of many pairs, a row a pair."""
    import pandas as pd

    rung: dict[str, list[str]] = {}
    for name, alarm in signal.alarms:
        rung.setdefault(name, []).append(alarm.kind)
    table = pd.DataFrame(signal.tick.record()).set_index("pair").drop(columns="at")
    table["outcome"] = table["outcome"].map(str)
    if str(signal.outcome) != "accepted":  # the row as a whole: what stands is of a row before
        table["outcome"], table["reason"] = str(signal.outcome), signal.reason
    if str(signal.outcome) in _NO_ROW:
        numbers = table.select_dtypes("number").columns
        table[numbers] = np.nan
    table["alarms"] = ["; ".join(rung.get(str(name), ())) for name in table.index]
    conditions = signal.conditions.pairs
    table["condition"] = [conditions.get(str(name), "ok") for name in table.index]
    return table


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
