"""Prices in, aligned values out: beyond this file a gap is a flag (`observed`) and never a NaN.

One file: one class, and how its rows are cut by date.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kfmodels.clock.clock import Clock
from kfmodels.clock.day import SESSION_BARS, stay_within
from kfmodels.data.bars import check_clock, gather, superseded, warn_superseded
from kfmodels.data.checks import (
    DateLike,
    Label,
    check_index,
    check_moves,
    check_no_serials,
    check_prices,
    day,
    to_floats,
)
from kfmodels.data.columns import (
    check_columns,
    check_legs,
    check_named_once,
    check_table,
    name_by_text,
)
from kfmodels.data.filled import tell_filled
from kfmodels.data.repairs import Real, Repair, apply_repair
from kfmodels.data.scales import Doubt, complain, find_doubts
from kfmodels.kalman.habits import calm_rows
from kfmodels.kalman.transforms import LOG, RETURN, Transform, transform_of
from kfmodels.words.caller import explain_kinds, warn

if TYPE_CHECKING:
    from kfmodels.data.hedge_pairs import HedgePairs

MIN_ROWS = 30
"""Fewest common rows from which a noise variance is inferred."""


@dataclass(frozen=True, eq=False)
class HedgeData:
    """A target and its hedges over time, transformed and aligned; make it with `from_prices`.

    `prices` are the prices as given and repaired, `values` the same rows transformed; both have the
    columns [target, hedges...]. A row in which any of them is missing is kept and counts as not
    observed. `clock` says how much open time and which closed periods lie between rows; of complete
    rows in one of its bars only the last is observed. Without one, every row is one bar after the row
    before. `real` holds ticker and date of the moves that the user knows to be real.
    """

    prices: pd.DataFrame
    values: pd.DataFrame
    transform: Transform
    clock: Clock | None = None
    real: Real = ()

    @classmethod
    @explain_kinds
    def from_prices(
        cls,
        frame: pd.DataFrame,
        *,
        target: str,
        hedges: list[str] | tuple[str, ...] | str,
        transform: str | None = None,
        clock: Clock | None = None,
        repair: Repair | None = None,
    ) -> "HedgeData":
        """Align a target with its hedges and transform both.

        Args:
            frame: prices, one column a ticker, one row a bar, sorted by date. NaN is a gap.
            target: the ticker to hedge.
            hedges: the tickers to hedge it with.
            transform: "log" (hedge ratio in percent per percent), "level" (in shares) or "return"
                (log returns between complete rows; where the clock has sessions, within them: the first
                row of a session is the start of a move and not the end of one). Default: "return" where
                the sessions of the clock have more than ten bars, else "log".
            clock: when the market is open; without one a night counts as one bar, like any other step.
            repair: what is wrong with the prices, by ticker and date, as the warning below prints it.
                `{"USO": {"2020-04-29": 8}}`: from that row on one share is 8 of before, and all prices
                before it are multiplied by 8 (new price over old, as for `rescale`). None instead of a
                number makes the row a gap; a key "FIRST .. LAST" names several. 1 says that the move is
                real: it stays, and no more is said.

        Raises:
            ValueError: unknown ticker, target among the hedges, unsorted or duplicate dates, a
                price that is infinite, not a number or (log, return) not positive, a hedge that
                never moves, fewer than 30 common rows, a row that the clock cannot place in time, or
                most of them outside its sessions. The message names ticker, date and remedy.

        Warns:
            UserWarning: once, of all prices that are in doubt: a change of scale such as a split that
                was not adjusted for, a gross print, a ticker that stands still for long (see
                `doubts`), returns instead of prices. Of daily prices that repeat those of the row
                before too often, as where holidays were filled. Of rows outside the sessions of the
                clock, of several in one of its bars, and of nights where it has no sessions.

        Example:
            >>> from kfmodels import HedgeData, datasets
            >>> prices = datasets.stocks().loc["2018":]
            >>> data = HedgeData.from_prices(prices, target="AAPL", hedges=["SPX"])
            >>> data.before("2020-01-01").last_date.date().isoformat()
            '2019-12-31'
        """
        given = (hedges,) if isinstance(hedges, (str, int)) else hedges
        if not isinstance(given, Iterable):
            raise ValueError(f"hedges is a list of tickers, such as ['PEP'], not {given!r}")
        target, hedges = str(target), tuple(str(name) for name in given)
        check_table(frame)
        frame = name_by_text(frame)
        if not hedges:
            raise ValueError(
                f"no hedge given for {target}: name at least one ticker in hedges=[...]"
            )
        check_columns(frame, (target, *hedges))
        check_legs(target, hedges)
        check_index(frame.index)
        check_no_serials(frame.index)
        if not (clock is None or isinstance(clock, Clock)):
            raise ValueError(f"clock must be a Clock, such as Clock.exchange(...), not {clock!r}")
        done = _usual_transform(clock) if transform is None else transform_of(transform)
        prices, real = apply_repair(to_floats(frame, [target, *hedges]), repair)
        check_prices(prices, done)
        if clock is not None:
            clock.rows(prices.index)  # raises here, not at the first use of `dt`
            check_clock(prices.index, clock)
        data = cls.align(prices, done, clock, real)
        again = superseded(prices.notna().all(axis=1).to_numpy(), prices.index, clock)
        warn_superseded(len(prices), prices.index, again)
        for found in (complain(prices, done, real), tell_filled(prices)):
            if found:
                warn(found)
        return data

    @classmethod
    @explain_kinds
    def align(
        cls,
        prices: pd.DataFrame,
        transform: Transform,
        clock: Clock | None = None,
        real: Real = (),
    ) -> "HedgeData":
        """Checked prices [target, hedges...] as data.

        Raises:
            ValueError: too few common rows, a hedge that never moves, a row that the clock cannot place
                in time.
        """
        if transform.needs_last:  # from one complete row to the next; the first row has no value
            again = superseded(prices.notna().all(axis=1).to_numpy(), prices.index, clock)
            complete = prices[~again].dropna()
            values = transform.values(complete, complete.shift(1))
            if clock is not None and clock.sessions is not None:
                values[~stay_within(clock.places(complete.index))] = np.nan
            values = values.reindex(prices.index)
            prices, values = prices.iloc[1:], values.iloc[1:]
        else:
            values = transform.values(prices)
        data = cls(prices, values, transform, clock, real)
        data.check_enough()
        return data

    @classmethod
    @explain_kinds
    def pairs(
        cls,
        prices: pd.DataFrame,
        pairs: Iterable[tuple[str, str]],
        *,
        transform: str = "log",
        repair: Repair | None = None,
    ) -> "HedgePairs":
        """Many pairs (target, hedge) of one table of prices, for `fit_many`; see `HedgePairs`.

        `repair` and what is warned of are those of `from_prices`.
        """
        from kfmodels.data.hedge_pairs import HedgePairs

        return HedgePairs.from_prices(prices, pairs, transform, repair)

    @classmethod
    @explain_kinds
    def all_pairs(
        cls, prices: pd.DataFrame, *, transform: str = "log", repair: Repair | None = None
    ) -> "HedgePairs":
        """Every ordered pair of the columns, for `fit_many`; `repair` as for `from_prices`.

        Example:
            >>> from kfmodels import HedgeData, datasets
            >>> HedgeData.all_pairs(datasets.factor_etfs())
            HedgePairs(20 pairs of 5 tickers; log; 2264 rows, 2014-01-02 .. 2022-12-28)
        """
        from kfmodels.data.hedge_pairs import HedgePairs

        check_table(prices)
        names = permutations(name_by_text(prices).columns, 2)
        return HedgePairs.from_prices(prices, names, transform, repair)

    @classmethod
    @explain_kinds
    def one_target(
        cls,
        prices: pd.DataFrame,
        target: str,
        *,
        transform: str = "log",
        repair: Repair | None = None,
    ) -> "HedgePairs":
        """One target with every other column as its hedge, for `fit_many`.

        `repair` is that of `from_prices`.
        """
        from kfmodels.data.hedge_pairs import HedgePairs

        check_table(prices)
        names = name_by_text(prices).columns
        others = [(target, name) for name in names if name != str(target)]
        return HedgePairs.from_prices(prices, others, transform, repair)

    def before(self, date: DateLike) -> "HedgeData":
        """The rows strictly before `date`; with `after` it splits the data in two."""
        return self._rows(is_before(self.index, date))

    def after(self, date: DateLike) -> "HedgeData":
        """The rows at `date` and later."""
        return self._rows(~is_before(self.index, date))

    @property
    def target(self) -> str:
        return str(self.values.columns[0])

    @property
    def hedges(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.values.columns[1:])

    @property
    def index(self) -> pd.Index:
        return self.values.index

    @property
    def last_date(self) -> Label:
        return self.index[-1]

    @cached_property
    def superseded(self) -> np.ndarray:
        """True where a later complete row is of the same bar of the clock, shape (time,)."""
        complete = self.prices.notna().all(axis=1).to_numpy()
        return superseded(complete, self.index, self.clock)

    @property
    def by_session(self) -> bool:
        """Whether a row is a move within a session."""
        sessions = self.clock is not None and self.clock.sessions is not None
        return sessions and self.transform.needs_last

    @cached_property
    def begins(self) -> np.ndarray:
        """True where a row of complete prices begins a session, from which no return leads back."""
        complete = self.prices.notna().all(axis=1).to_numpy() & ~self.superseded
        return complete & self.values.isna().any(axis=1).to_numpy()

    @cached_property
    def last_prices(self) -> np.ndarray | None:
        """[target, hedges...] of the last complete row."""
        return self.prices[~self.superseded].dropna().iloc[-1].to_numpy()

    @property
    def unopened(self) -> bool:
        """Whether the last row is of a session without a complete one, so that no return leads on."""
        if self.clock is None or not self.by_session:
            return False
        complete = self.prices[~self.superseded].dropna()
        ends = complete.index[-1:].append(self.index[-1:])
        return not stay_within(self.clock.places(ends))[-1]

    @cached_property
    def doubts(self) -> tuple[Doubt, ...]:
        """Rows that look like no price, or like one in other units than the rows after them.

        Each has `ticker`, `kind` ("scale", "print", "units" or "still"), its rows `at` and `until`, and
        of a change its `factor`; as text it says what was seen.
        """
        return find_doubts(self.prices, self.transform, self.real)

    @cached_property
    def observed(self) -> np.ndarray:
        """True where target and all hedges are there, shape (time,), and may be learnt from.

        From the third row in succession in which no leg moved nothing is learnt: a market is never so
        calm, but a feed that has stopped is; see `kfmodels.kalman.habits`.
        """
        complete = self.prices.notna().all(axis=1).to_numpy() & ~self.superseded
        complete[complete] = ~calm_rows(self.prices.to_numpy()[complete])
        return complete & self.values.notna().all(axis=1).to_numpy()

    @cached_property
    def y(self) -> np.ndarray:
        """Transformed target, shape (time,); 0 where not observed."""
        return np.where(self.observed, self.values.iloc[:, 0].to_numpy(), 0.0)

    @cached_property
    def x(self) -> np.ndarray:
        """Transformed hedges, shape (time, hedges); 0 where not observed."""
        return np.where(self.observed[:, None], self.values.iloc[:, 1:].to_numpy(), 0.0)

    @cached_property
    def dt(self) -> np.ndarray:
        """Open bars since the row before, shape (time,); 0 up to the first observed row.

        After that row they are those of the clock; without one, 1.
        """
        return self._passed[0]

    @cached_property
    def gaps(self) -> np.ndarray:
        """Closed periods since the row before, shape (time, kind); without a clock no kind."""
        return self._passed[1]

    @cached_property
    def gap_names(self) -> tuple[str, ...]:
        """The kinds of closed periods that the clock knows: the columns of `gaps`."""
        return self._passed[2]

    @cached_property
    def _passed(self) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        # the prior of the state holds just before the first observed row: no time passes before that
        started = np.cumsum(self.observed) - self.observed > 0
        if self.clock is None:
            return started.astype(float), np.zeros((len(self), 0)), ()
        dt, gaps, names = self.clock.rows(self.index)
        if self.superseded.any():
            complete = self.prices.notna().all(axis=1).to_numpy()
            stands, bars = complete & ~self.superseded, self.clock.bars_of(self.index)
            dt, gaps = gather(dt, stands, bars), gather(gaps, stands, bars)
        return np.where(started, dt, 0.0), np.where(started[:, None], gaps, 0.0), tuple(names)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        span = f"{day(self.index[0])} .. {day(self.last_date)}" if len(self) else "no rows"
        begins = int(self.begins.sum())
        gaps = int((~self.observed).sum()) - begins
        also = [f"{gaps} with a gap"] * (gaps > 0) + [f"{begins} begin a session"] * (begins > 0)
        rows = f"{len(self)} rows{f' ({", ".join(also)})' if also else ''}, {span}"
        return f"HedgeData({self.target} on {', '.join(self.hedges)}; {self.transform}; {rows})"

    def check_enough(self) -> None:
        """Raise if there are too few complete rows to infer from, or a hedge never moves in them."""
        common = int(self.observed.sum())
        if common >= MIN_ROWS:
            for name, column in self.values[self.observed].iloc[:, 1:].items():
                check_moves(column, str(name))
            return
        counts = self.values.notna().sum()
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(
            f"only {common} common rows of {self.target} and {', '.join(self.hedges)} "
            f"(prices there: {listed}); {MIN_ROWS} are needed: give a longer history or drop the "
            "ticker with the gaps"
        )

    def _rows(self, keep: np.ndarray) -> "HedgeData":
        return replace(self, prices=self.prices[keep], values=self.values[keep])


def _usual_transform(clock: Clock | None) -> Transform:
    """Moves within the session where it has many bars, else log prices."""
    if clock is None or clock.sessions is None:
        return LOG
    return RETURN if clock.bars_of_day > SESSION_BARS else LOG


def rows_after(prices: pd.DataFrame, date: Label, names: list[str]) -> pd.DataFrame:
    """The rows of some columns of a price table that are later than a date, as numbers.

    Raises:
        ValueError: not a table of prices, a missing column, dates that are no dates, not sorted or not
            unique, only one of table and date has a time zone, a cell that is not a number.
    """
    check_table(prices)
    prices = name_by_text(prices)
    missing = [name for name in names if name not in prices.columns]
    if missing:
        raise ValueError(f"the prices have no column {', '.join(missing)}")
    check_named_once(prices, names)
    check_index(prices.index)
    if isinstance(prices.index, pd.DatetimeIndex) != isinstance(date, pd.Timestamp):
        raise ValueError(
            f"the rows are labelled like {prices.index[0]!r}, those of the fit like {date!r}: use the "
            "same labels for both"
        )
    zone = getattr(prices.index, "tz", None)
    if isinstance(date, pd.Timestamp) and (date.tz is None) != (zone is None):
        raise ValueError(
            f"time zones do not match: the prices are dated in {zone}, the fit ends at "
            f"{date}; use prices.tz_localize(...) or prices.tz_localize(None)"
        )
    return to_floats(prices.loc[prices.index > date], names)


def is_before(index: pd.Index, date: DateLike) -> np.ndarray:
    """Which rows lie before a date, as booleans.

    Raises:
        ValueError: it is no date, or only one of the two has a time zone.
    """
    if not isinstance(index, pd.DatetimeIndex):
        if not isinstance(date, (int, float, np.number)):
            raise ValueError(
                f"the rows are numbered ({index[0]} .. {index[-1]}), so {date!r} is none of them: give "
                "a number, or make prices whose rows have dates"
            )
        return np.asarray(index < date)
    try:
        # a number would be one of nanoseconds since 1970, and no row lies before it
        stamp = pd.NaT if isinstance(date, (int, float, np.number)) else pd.Timestamp(date)
    except (TypeError, ValueError):
        stamp = pd.NaT
    if not isinstance(stamp, pd.Timestamp):
        raise ValueError(
            f"{date!r} is no date: give one such as {day(index[-1])!r}, between {day(index[0])} and "
            f"{day(index[-1])}, where the prices lie"
        )
    if (stamp.tz is None) != (index.tz is None):
        have = f"in {index.tz}" if index.tz is not None else "without a time zone"
        cure = (
            f"pd.Timestamp({str(date)!r}, tz={str(index.tz)!r})"
            if index.tz is not None
            else "date.tz_localize(None)"
        )
        raise ValueError(
            f"time zones do not match: the prices are dated {have}, the date {date} is "
            f"{'without one' if stamp.tz is None else f'in {stamp.tz}'}; use {cure}"
        )
    return np.asarray(index < stamp)
