"""What a live filter does with real bad prints: `python -m tests.benchmarks shocks [constant]`.

The bad prints are those closes of a file of S&P stocks that another vendor contradicts; all of them
are gone the next day. Taken are every stock with an error above `LARGE` and every eighth of the others,
each hedged with the stock without a bad print that it was most correlated with in training. The noise
is inferred from the 500 days before `START`, in which none of them has a bad print; then the filter
runs over 19 months under each policy.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kfmodels import Constant, Discounted, HedgeData, ImportanceSampling, fit, hedge_ratio_model
from kfmodels.online.filter import OnlineFilter
from kfmodels.online.shocks import Quarantine, Robust, Shocks
from kfmodels.online.ticks import Outcome
from tests.benchmarks.report import Report, Table, numbered
from tests.tables import path_of, read_table

WHAT = (
    "Stocks of the S&P 500, each beside its best-correlated clean one, noise inferred on 500 days "
    "without a labelled error, then 19 months live with errors of the closing price that another "
    "vendor contradicts and that are gone the next day (the labels may not be shipped: see "
    "tests/README.md). Columns: share of errors caught by their size; false alarms a year and pair, "
    "of moves that stood, that went back, and after a bad print; how far an error moves the ratio, "
    "in its sds; log score a day beyond no policy, with its standard error; its sums near a bad "
    "print and elsewhere; variance of the hedged moves over that without a policy. `Quarantine(6)` "
    "of two rows is the default: it also holds a split back until it is named. `Robust` learns a "
    "little from such a row instead of waiting."
)

START, TRAINING = "2016-07-01", 500
SMALL, LARGE = 0.015, 0.04
"""Errors up to the first are within a day's ordinary move of the pair, those above the second not."""

AFTER = 60

POLICIES: dict[str, Shocks | None] = {
    "none": None,
    "quarantine 4, 2 rows": Quarantine(4.0, confirm=2),
    "quarantine 4, 3 rows": Quarantine(4.0, confirm=3),
    "quarantine 6, 1 row": Quarantine(6.0, confirm=1),
    "quarantine 6, 2 rows": Quarantine(6.0, confirm=2),
    "quarantine 6, 3 rows": Quarantine(6.0, confirm=3),
    "quarantine 8, 2 rows": Quarantine(8.0, confirm=2),
    "quarantine 8, 3 rows": Quarantine(8.0, confirm=3),
    "robust 3": Robust(3.0),
    "robust 4": Robust(4.0),
    "robust 6": Robust(6.0),
}


@dataclass(frozen=True)
class Case:
    """A stock and its hedge after training: `printed` and `true` prices, (time, [stock, hedge])."""

    engine: OnlineFilter
    printed: pd.DataFrame
    true: pd.DataFrame

    @property
    def labelled(self) -> np.ndarray:
        """(time,): rows whose price another vendor contradicts."""
        return (self.printed != self.true).any(axis=1).to_numpy()


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Closes `(time, stock)` without gaps from the first training row on, and the labels."""
    prices = read_table("sp500_all_stocks_5yr_close.csv.gz")
    first = prices.index.searchsorted(pd.Timestamp(START)) - TRAINING
    labels = pd.read_csv(path_of("sp500_all_stocks_5yr_badprints.csv"), parse_dates=["Date"])
    return prices.iloc[first:].dropna(axis=1), labels


def chosen(prices: pd.DataFrame, labels: pd.DataFrame) -> list[str]:
    """Stocks as said above, those with the largest errors first."""
    by_stock = labels.assign(size=labels["rel_error"].abs()).groupby("symbol")
    table = by_stock.agg(size=("size", "max"), first=("Date", "min"))
    table = table[table.index.isin(prices.columns) & (table["first"] >= pd.Timestamp(START))]
    names, sizes = np.array(table.index), np.array(table["size"])
    names, sizes = names[np.argsort(-sizes, kind="stable")], -np.sort(-sizes)
    return [*names[sizes > LARGE], *names[sizes <= LARGE][::8]]


def cases(
    prices: pd.DataFrame, labels: pd.DataFrame, stocks: list[str], model: Any
) -> Iterator[Case]:
    """Each stock beside its hedge, the noise inferred."""
    training, live = prices.iloc[:TRAINING], prices.iloc[TRAINING:]
    moves = np.log(training).diff().iloc[1:]
    clean = moves.columns.difference(labels["symbol"])
    true = live.copy()
    columns = labels[["Date", "symbol", "yahoo_close_same_basis"]].to_numpy()
    for date, stock, price in columns:
        if stock in stocks and date in true.index:
            true.loc[date, stock] = price
    for stock in stocks:
        hedge = str(moves[clean].corrwith(moves[stock]).idxmax())
        data = HedgeData.from_prices(training, target=stock, hedges=[hedge], transform="log")
        fitted = fit(data, model, method=ImportanceSampling(), progress=False)
        yield Case(fitted.online(), live[[stock, hedge]], true[[stock, hedge]])


def again(engine: OnlineFilter, shocks: Shocks | None) -> OnlineFilter:
    """The same filter under another policy; what it does leaves the one given as it is."""
    other = OnlineFilter.from_json(engine.to_json())
    other.shocks = shocks
    return other


def driven(case: Case, shocks: Shocks | None) -> pd.DataFrame:
    """One policy over the live rows of one case.

    Columns: `log_score`; `flagged`, in quarantine or weighed below a half; `hedged`, the log move of
    the stock beyond that of the ratio held since the row before; `moved`, on the row after a bad print:
    how far the ratio is from that of a filter which was given the true price, in its sds.
    """
    filter_, twin = again(case.engine, shocks), None
    target, hedge = case.printed.columns
    logs, ratio, rows = np.log(case.printed.to_numpy()), np.nan, []
    for number, (bad, y, x) in enumerate(
        zip(case.labelled, *case.printed.to_numpy().T, strict=True)
    ):
        truth = float(case.true[target].iloc[number])
        move = logs[number] - logs[number - 1] if number else np.full(2, np.nan)
        moved, before = np.nan, twin
        twin = again(filter_, shocks) if bad else None
        if twin is not None:
            twin.update(y=truth, x=x)
        tick = filter_.update(y=y, x=x)
        if before is not None:
            other = before.update(y=truth, x=x)
            moved = abs(tick.beta[hedge] - other.beta[hedge]) / other.sd_total[hedge]
        flagged = tick.outcome is not Outcome.ACCEPTED or bool(tick.reason)
        held = flagged and "confirmed" not in tick.reason
        rows.append((tick.log_score, held, move[0] - ratio * move[1], moved))
        ratio = tick.beta[hedge]
    table = pd.DataFrame(rows, case.printed.index, ["log_score", "flagged", "hedged", "moved"])
    return table.assign(labelled=case.labelled, error=_errors(case))


def summary(rows: dict[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """One row a policy, of what `driven` found of it in every case.

    Columns: share of bad prints caught, by their size (a quarantine of one row holds nothing back and
    catches none); false alarms a year and pair, on moves that stood, on moves that went back the next
    day, and on the row after a bad print. Log scores and hedged moves are of rows without a label. The
    score is a day, beyond that of the filter without a policy, with its standard error `se` over pairs;
    `after` and `elsewhere` are its sums a pair over the `AFTER` rows from a bad print on, and over the
    others. The variance of hedged moves is relative to that without a policy.
    """
    found = {}
    for name, parts in rows.items():
        every: Any = pd.concat([part.assign(kind=_kinds(part)) for part in parts])
        size, flagged, years = every["error"].abs(), every["flagged"], len(every) / 252
        alarms = every["kind"][flagged & ~every["labelled"]].value_counts() / years
        plain = list(zip(parts, rows["none"], strict=True))
        gains = [_gain(one, two) for one, two in plain]
        a_day = np.array([gain["day"].mean() for gain in gains])
        variance = [_hedged(one).var() / _hedged(two).var() for one, two in plain]
        found[name] = {
            f"caught <{SMALL:.1%}": flagged[size <= SMALL].mean(),
            f"<{LARGE:.0%}": flagged[(size > SMALL) & (size <= LARGE)].mean(),
            f">{LARGE:.0%}": flagged[size > LARGE].mean(),
            "false a year": alarms.sum(),
            "stood": alarms.get("stood", 0.0),
            "went back": alarms.get("went back", 0.0),
            "echo": alarms.get("echo", 0.0),
            "moved, median": every["moved"].median(),
            "moved, 95 %": every["moved"].quantile(0.95),
            "log score": a_day.mean(),
            "se": a_day.std(ddof=1) / np.sqrt(len(a_day)),
            "after": np.mean([gain["day"][gain["after"]].sum() for gain in gains]),
            "elsewhere": np.mean([gain["day"][~gain["after"]].sum() for gain in gains]),
            "hedged variance": np.mean(variance),
        }
    return pd.DataFrame(found).T


def measured(stocks: int | None = None, model: Any = None) -> dict[str, list[pd.DataFrame]]:
    """What `driven` finds under every policy, for the first `stocks` of those chosen."""
    prices, labels = tables()
    model = hedge_ratio_model(noise=Discounted()) if model is None else model
    rows: dict[str, list[pd.DataFrame]] = {name: [] for name in POLICIES}
    for case in cases(prices, labels, chosen(prices, labels)[:stocks], model):
        for name, policy in POLICIES.items():
            rows[name].append(driven(case, policy))
    return rows


def measure(arguments: list[str]) -> Report:
    """The table of the policies."""
    constant = "constant" in arguments
    rows = measured(model=hedge_ratio_model(noise=Constant()) if constant else None)
    every = pd.concat(rows["none"])
    title = (
        f"{len(rows['none'])} pairs, {every['labelled'].sum()} bad prints, {len(every) / 252:.0f} "
        f"years in all; {'constant' if constant else 'discounted'} noise"
    )
    return Report("Bad prints", WHAT, [Table(title, numbered(summary(rows), "policy"))])


def _errors(case: Case) -> np.ndarray:
    """Printed over true less 1 where labelled, else NaN."""
    error = (case.printed / case.true - 1).iloc[:, 0].to_numpy()
    return np.where(case.labelled, error, np.nan)


def _gain(rows: pd.DataFrame, plain: pd.DataFrame) -> pd.DataFrame:
    """Log score beyond the plain filter's, and whether a bad print was near; rows not labelled."""
    bad = rows["labelled"].to_numpy()
    last = np.maximum.accumulate(np.where(bad, np.arange(len(bad)), -AFTER - 1))
    gain = rows["log_score"].to_numpy() - plain["log_score"].to_numpy()
    near = np.arange(len(bad)) - last <= AFTER
    return pd.DataFrame({"day": gain[~bad], "after": near[~bad]})


def _hedged(rows: pd.DataFrame) -> np.ndarray:
    """Hedged moves between two rows that are not labelled."""
    bad = rows["labelled"].to_numpy()
    usable = ~bad & ~np.append(True, bad[:-1])  # the first row has no move
    return rows["hedged"].to_numpy()[usable]


def _kinds(rows: pd.DataFrame) -> np.ndarray:
    """How a row was meant: after a bad print; taken back by half the next day, or not."""
    after, hedged = np.append(False, rows["labelled"].to_numpy()[:-1]), rows["hedged"].to_numpy()
    back = np.append(hedged[1:], 0.0) * np.sign(hedged) < -np.abs(hedged) / 2
    return np.where(after, "echo", np.where(back, "went back", "stood"))
